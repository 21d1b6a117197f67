//! What format 1 had otherwise: rows hung on names, which ended with a zero byte, and not on numbers. Read only.

use super::{
    bytes::{Bytes, damaged},
    decode_json,
    rows::Counters,
};
use crate::{
    model::{Hash, Name},
    store::{BridgeState, Error, Position},
};

/// Of a chunk of a list, in the tree of bridges.
pub const LIST_CHUNK: u8 = b'c';
/// After the state bytes 0 to 2 in the tree of queues.
const REMADE: u8 = 3;

/// Takes a name and its zero byte off a key.
fn name(key: &[u8]) -> Result<(Name, &[u8]), Error> {
    let end = key.iter().position(|byte| *byte == 0).ok_or_else(|| damaged("a key without a name"))?;
    let (name, rest) = key.split_at_checked(end).expect("the position is within");
    let name = std::str::from_utf8(name).map_err(|_| damaged("a name is not UTF-8"))?;
    Ok((name.into(), rest.get(1..).unwrap_or_default()))
}

/// A row of the tree of bridges: its tag and the bridge.
pub fn parse_bridge(key: &[u8]) -> Result<(u8, Name), Error> {
    let (tag, key) = key.split_first().ok_or_else(|| damaged("an empty key"))?;
    Ok((*tag, name(key)?.0))
}

pub fn list_chunk(bridge: &str, id: Hash) -> Vec<u8> {
    [&[LIST_CHUNK], bridge.as_bytes(), &[0], &id.0].concat()
}

/// The bridge and the key's hash of a record.
pub fn parse_record(key: &[u8]) -> Result<(Name, Hash), Error> {
    let (bridge, rest) = name(key)?;
    let mut rest = Bytes::of(rest);
    let hash = rest.hash()?;
    rest.end()?;
    Ok((bridge, hash))
}

pub fn parse_endpoint(key: &[u8]) -> Result<Name, Error> {
    Ok(name(key)?.0)
}

/// A row of the tree of queues: the endpoint, the pack, and the index of a body that was made again.
pub fn parse_queue(key: &[u8]) -> Result<(Name, Position, bool), Error> {
    let (endpoint, rest) = name(key)?;
    let mut rest = Bytes::of(rest);
    let remade = rest.u8()? == REMADE;
    let pack = rest.u64()?;
    let index = if remade { rest.u16()? } else { 0 };
    rest.end()?;
    Ok((endpoint, Position { pack, index }, remade))
}

pub fn decode_state(value: &[u8]) -> Result<BridgeState, Error> {
    let mut bytes = Bytes::of(value);
    bytes.u64()?;
    decode_json(bytes.rest())
}

pub fn decode_counters(value: &[u8]) -> Result<Counters, Error> {
    let mut bytes = Bytes::of(value);
    let counters = Counters { groups: bytes.u64()?, pack: bytes.u64()?, attempts: bytes.u64()?, ..Counters::default() };
    bytes.end()?;
    Ok(counters)
}
