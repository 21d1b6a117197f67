//! Keys without their chunk numbers, and the ways back.

use super::bytes::{Bytes, damaged};
use crate::{
    model::{Hash, Name},
    store::{Error, Position},
};

/// What a row of the tree of bridges is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeRow {
    State,
    Progress,
    Hold,
    Manifest,
}

impl BridgeRow {
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
pub const LIST_CHUNK: u8 = b'c';
/// After the state bytes 0 to 2 in the tree of queues.
const REMADE: u8 = 3;

fn named(tag: Option<u8>, name: &str, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + room + 4);
    key.extend(tag);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

/// Takes a name and its zero byte off a key.
fn name(key: &[u8]) -> Result<(&str, &[u8]), Error> {
    let end = key.iter().position(|byte| *byte == 0).ok_or_else(|| damaged("a key without a name"))?;
    let (name, rest) = key.split_at_checked(end).expect("the position is within");
    let name = std::str::from_utf8(name).map_err(|_| damaged("a name is not UTF-8"))?;
    Ok((name, rest.get(1..).unwrap_or_default()))
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

pub fn bridge(row: BridgeRow, bridge: &str) -> Vec<u8> {
    named(Some(row.tag()), bridge, 2)
}

/// What all rows of this kind begin with.
pub fn bridge_prefix(row: BridgeRow) -> Vec<u8> {
    vec![row.tag()]
}

/// The bridge that a row of any kind belongs to.
pub fn bridge_name(row: &[u8]) -> Result<Name, Error> {
    let (name, _) = name(row.get(1..).unwrap_or_default())?;
    Ok(name.into())
}

/// One row, without a chunk number.
pub fn list_chunk(bridge: &str, id: Hash) -> Vec<u8> {
    let mut key = named(Some(LIST_CHUNK), bridge, 16);
    key.extend_from_slice(&id.0);
    key
}

/// What the records of a bridge begin with.
pub fn records(bridge: &str) -> Vec<u8> {
    named(None, bridge, 0)
}

pub fn record(bridge: &str, key: Hash) -> Vec<u8> {
    let mut row = named(None, bridge, 18);
    row.extend_from_slice(&key.0);
    row
}

/// The bridge and the key's hash of a record, from the key without its chunk number.
pub fn parse_record(key: &[u8]) -> Result<(Name, Hash), Error> {
    let (name, rest) = name(key)?;
    let mut rest = Bytes::of(rest);
    let hash = rest.hash()?;
    rest.end()?;
    Ok((name.into(), hash))
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

/// What an endpoint's queue rows of one state begin with.
pub fn queue_prefix(endpoint: &str, state: u8) -> Vec<u8> {
    let mut key = named(None, endpoint, 12);
    key.push(state);
    key
}

pub fn queue(endpoint: &str, state: u8, pack: u64) -> Vec<u8> {
    let mut key = queue_prefix(endpoint, state);
    key.extend_from_slice(&pack.to_be_bytes());
    key
}

/// A body or a reason that a requeue made anew.
pub fn remade(endpoint: &str, position: Position) -> Vec<u8> {
    let mut key = queue(endpoint, REMADE, position.pack);
    key.extend_from_slice(&position.index.to_be_bytes());
    key
}

/// A row of the tree of queues.
#[derive(Debug, PartialEq, Eq)]
pub enum QueueKey {
    Deliveries { endpoint: Name, pack: u64 },
    Remade { endpoint: Name, position: Position },
}

/// From the key without its chunk number.
pub fn parse_queue(key: &[u8]) -> Result<QueueKey, Error> {
    let (name, rest) = name(key)?;
    let mut rest = Bytes::of(rest);
    let state = rest.u8()?;
    let pack = rest.u64()?;
    let endpoint = name.into();
    let parsed = if state == REMADE {
        QueueKey::Remade { endpoint, position: Position { pack, index: rest.u16()? } }
    } else {
        QueueKey::Deliveries { endpoint, pack }
    };
    rest.end()?;
    Ok(parsed)
}

/// The endpoint of any row of the tree of queues.
pub fn queue_endpoint(row: &[u8]) -> Result<Name, Error> {
    Ok(name(row)?.0.into())
}

/// The first key after all of a name's, in trees whose keys begin with it.
pub fn after_name(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1);
    key.extend_from_slice(name.as_bytes());
    key.push(1);
    key
}

pub fn attempt(slot: u32) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

pub fn endpoint(endpoint: &str) -> Vec<u8> {
    named(None, endpoint, 2)
}

pub fn parse_endpoint(key: &[u8]) -> Result<Name, Error> {
    Ok(name(key)?.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_and_come_back() {
        assert!(pack(255) < pack(256));
        assert!(queue("a", 0, u64::MAX) < queue("a", 1, 0));
        assert!(queue("a", 2, 7) < after_name("a"));
        assert!(after_name("a") < queue("a-b", 0, 0));
        let position = Position { pack: 7, index: 3 };
        assert_eq!(parse_queue(&queue("a", 2, 7)), Ok(QueueKey::Deliveries { endpoint: "a".into(), pack: 7 }));
        assert_eq!(parse_queue(&remade("a", position)), Ok(QueueKey::Remade { endpoint: "a".into(), position }));
        let hash = Hash::of(b"k");
        assert_eq!(parse_record(&record("shop", hash)), Ok(("shop".into(), hash)));
        assert_eq!(bridge_name(&bridge(BridgeRow::Hold, "shop")), Ok("shop".into()));
        assert_eq!(unchunk(&chunk(b"k", 258)), Ok((&b"k"[..], 258)));
        assert!(parse_record(b"no-name").is_err());
        assert!(unchunk(b"1").is_err());
    }
}
