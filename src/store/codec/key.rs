//! Keys without their chunk numbers, and the ways back.
//!
//! Names stand in two kinds of rows only, a bridge's and an endpoint's; everything else hangs on numbers, so that another name
//! is one row.

use super::bytes::{Bytes, damaged};
use crate::{
    model::{Hash, Name},
    store::{Error, Position},
};

/// What hangs on a bridge's number, in the tree of bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeRow {
    State,
    Progress,
    Hold,
    Manifest,
}

impl BridgeRow {
    pub const ALL: [Self; 4] = [Self::State, Self::Progress, Self::Hold, Self::Manifest];

    fn tag(self) -> u8 {
        match self {
            Self::State => b's',
            Self::Progress => b'p',
            Self::Hold => b'h',
            Self::Manifest => b'm',
        }
    }
}

/// Of a chunk of a list.
const LIST_CHUNK: u8 = b'c';
/// Of a name, in the trees of bridges and of endpoints.
const NAME: u8 = b'n';
/// Of an endpoint's number, in the tree of endpoints.
const NUMBER: u8 = b'i';
/// After the state bytes 0 to 2 in the tree of queues.
const REMADE: u8 = 3;

/// In each tree the number of the last group that changed it; behind all other keys.
pub const GROUP: &[u8] = b"\xff";

fn tagged(tag: u8, number: u64, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(room + 11);
    key.push(tag);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// A row with its chunk number.
pub fn chunk(key: &[u8], number: u16) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 2);
    row.extend_from_slice(key);
    row.extend_from_slice(&number.to_be_bytes());
    row
}

/// A row's key without its chunk number, and that number.
pub fn unchunk(row: &[u8]) -> Result<(&[u8], u16), Error> {
    let (key, number) = row.split_last_chunk::<2>().ok_or_else(|| damaged("a key without a chunk number"))?;
    Ok((key, u16::from_be_bytes(*number)))
}

/// What every name's row begins with.
pub const NAMES: &[u8] = &[NAME];

/// A bridge's or an endpoint's name.
pub fn name(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 4);
    key.push(NAME);
    key.extend_from_slice(name.as_bytes());
    // No name holds it: one is never the beginning of another.
    key.push(0);
    key
}

/// From the key without its chunk number.
pub fn parse_name(key: &[u8]) -> Result<Name, Error> {
    let name = key.strip_prefix(NAMES).and_then(|key| key.strip_suffix(&[0])).ok_or_else(|| damaged("a name's key"))?;
    std::str::from_utf8(name).map(Name::from).map_err(|_| damaged("a name is not UTF-8"))
}

pub fn bridge(row: BridgeRow, bridge: u64) -> Vec<u8> {
    tagged(row.tag(), bridge, 0)
}

/// What the chunks of a bridge's list begin with.
pub fn list_chunks(bridge: u64) -> Vec<u8> {
    tagged(LIST_CHUNK, bridge, 16)
}

/// One row, without a chunk number.
pub fn list_chunk(bridge: u64, id: Hash) -> Vec<u8> {
    let mut key = list_chunks(bridge);
    key.extend_from_slice(&id.0);
    key
}

/// The id of a chunk of a list, from its row.
pub fn parse_list_chunk(row: &[u8]) -> Result<Hash, Error> {
    let mut bytes = Bytes::of(row);
    bytes.u8()?;
    bytes.u64()?;
    let id = bytes.hash()?;
    bytes.end()?;
    Ok(id)
}

/// What the records of a layer begin with.
pub fn records(layer: u64) -> Vec<u8> {
    layer.to_be_bytes().to_vec()
}

pub fn record(layer: u64, key: Hash) -> Vec<u8> {
    let mut row = Vec::with_capacity(26);
    row.extend_from_slice(&layer.to_be_bytes());
    row.extend_from_slice(&key.0);
    row
}

/// The layer and the key's hash of a record, from the key without its chunk number.
pub fn parse_record(key: &[u8]) -> Result<(u64, Hash), Error> {
    let mut bytes = Bytes::of(key);
    let parsed = (bytes.u64()?, bytes.hash()?);
    bytes.end()?;
    Ok(parsed)
}

pub fn pack(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub fn parse_pack(key: &[u8]) -> Result<u64, Error> {
    let mut bytes = Bytes::of(key);
    let number = bytes.u64()?;
    bytes.end()?;
    Ok(number)
}

/// What all queue rows of an endpoint begin with.
pub fn queues(endpoint: u64) -> Vec<u8> {
    endpoint.to_be_bytes().to_vec()
}

/// What an endpoint's queue rows of one state begin with.
pub fn queue_prefix(endpoint: u64, state: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(21);
    key.extend_from_slice(&endpoint.to_be_bytes());
    key.push(state);
    key
}

pub fn queue(endpoint: u64, state: u8, pack: u64) -> Vec<u8> {
    let mut key = queue_prefix(endpoint, state);
    key.extend_from_slice(&pack.to_be_bytes());
    key
}

/// A body or a reason that a requeue made again.
pub fn remade(endpoint: u64, position: Position) -> Vec<u8> {
    let mut key = queue(endpoint, REMADE, position.pack);
    key.extend_from_slice(&position.index.to_be_bytes());
    key
}

/// A row of the tree of queues.
#[derive(Debug, PartialEq, Eq)]
pub enum QueueKey {
    Deliveries { endpoint: u64, pack: u64 },
    Remade { endpoint: u64, position: Position },
}

/// From the key without its chunk number.
pub fn parse_queue(key: &[u8]) -> Result<QueueKey, Error> {
    let mut rest = Bytes::of(key);
    let endpoint = rest.u64()?;
    let state = rest.u8()?;
    let pack = rest.u64()?;
    let parsed = if state == REMADE {
        QueueKey::Remade { endpoint, position: Position { pack, index: rest.u16()? } }
    } else {
        QueueKey::Deliveries { endpoint, pack }
    };
    rest.end()?;
    Ok(parsed)
}

pub fn attempt(slot: u32) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

/// What leads from an endpoint's number to its name.
pub fn endpoint_number(endpoint: u64) -> Vec<u8> {
    tagged(NUMBER, endpoint, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_and_come_back() {
        assert!(pack(255) < pack(256));
        assert!(queue(1, 0, u64::MAX) < queue(1, 1, 0));
        assert!(queue(1, 3, u64::MAX) < queue(2, 0, 0));
        let position = Position { pack: 7, index: 3 };
        assert_eq!(parse_queue(&queue(9, 2, 7)), Ok(QueueKey::Deliveries { endpoint: 9, pack: 7 }));
        assert_eq!(parse_queue(&remade(9, position)), Ok(QueueKey::Remade { endpoint: 9, position }));
        let hash = Hash::of(b"k");
        assert_eq!(parse_record(&record(5, hash)), Ok((5, hash)));
        assert_eq!(parse_list_chunk(&list_chunk(5, hash)), Ok(hash));
        assert_eq!(parse_name(&name("shop")), Ok("shop".into()));
        assert_eq!(parse_name(&name("shöp/a b")), Ok("shöp/a b".into()));
        assert_eq!(unchunk(&chunk(b"k", 258)), Ok((&b"k"[..], 258)));
        assert!(parse_record(b"short").is_err() && parse_name(b"n").is_err());
        assert!(unchunk(b"1").is_err());
        // Behind every number that is given out and every tag.
        assert!(GROUP > &name("\u{10ffff}")[..] && GROUP > &pack(1 << 62)[..]);
    }
}
