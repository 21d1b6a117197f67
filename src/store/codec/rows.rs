//! The values of the other rows.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::bytes::{Bytes, damaged, put_bytes, put_folded, put_number, put_varint};
use crate::{
    model::{Content, Entry, Hash, Record, Timestamp},
    store::{Attempt, BridgeState, DeliveryState, EndpointState, Error, Hold, WAIT_UNKNOWN},
};

/// Bodies and texts below it are stored as they are.
const FOLD_OVER: usize = 1024;

/// The trees of a store, each with a row that says which group changed it last.
pub const TREES: usize = 7;

/// What the store counts; one row, written with every group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Groups that were written: what the mark beside the database is compared with.
    pub groups: u64,
    /// Of the next pack of events.
    pub pack: u64,
    /// Attempts that were recorded.
    pub attempts: u64,
    /// The last number that was given to a bridge, an endpoint, a layer or a piece of work; 0 is none's.
    pub numbers: u64,
    /// The last group that changed each tree: what the trees' own rows must say.
    pub changed: [u64; TREES],
}

impl Counters {
    /// A number that none had before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

pub fn encode_counters(counters: Counters) -> Vec<u8> {
    let Counters { groups, pack, attempts, numbers, changed } = counters;
    [groups, pack, attempts, numbers].into_iter().chain(changed).flat_map(u64::to_be_bytes).collect()
}

pub fn decode_counters(value: &[u8]) -> Result<Counters, Error> {
    let mut bytes = Bytes::of(value);
    let mut counters = Counters {
        groups: bytes.u64()?,
        pack: bytes.u64()?,
        attempts: bytes.u64()?,
        numbers: bytes.u64()?,
        changed: [0; TREES],
    };
    for changed in &mut counters.changed {
        *changed = bytes.u64()?;
    }
    bytes.end()?;
    Ok(counters)
}

/// What a bridge's name leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BridgeName {
    /// What its rows hang on; 0 where the name has none.
    pub number: u64,
    /// The last sequence number of a bridge that left this name, and when it was last accepted.
    pub sequence: u64,
    pub at: Timestamp,
}

pub fn encode_bridge_name(name: BridgeName) -> Vec<u8> {
    let BridgeName { number, sequence, at } = name;
    [number.to_be_bytes(), sequence.to_be_bytes(), at.0.to_be_bytes()].concat()
}

pub fn decode_bridge_name(value: &[u8]) -> Result<BridgeName, Error> {
    let mut bytes = Bytes::of(value);
    let name = BridgeName { number: bytes.u64()?, sequence: bytes.u64()?, at: Timestamp(bytes.i64()?) };
    bytes.end()?;
    Ok(name)
}

/// What an endpoint's name leads to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointName {
    /// What its queue rows hang on. New ones take the first; the others are those of names that it took over, and of a delivery
    /// that several have that of the first counts.
    pub numbers: Vec<u64>,
    pub state: Option<EndpointState>,
}

pub fn encode_endpoint_name(name: &EndpointName) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    put_number(&mut out, name.numbers.len());
    out.extend(name.numbers.iter().flat_map(|number| number.to_be_bytes()));
    if let Some(state) = &name.state {
        out.extend_from_slice(&encode_json(state)?);
    }
    Ok(out)
}

pub fn decode_endpoint_name(value: &[u8]) -> Result<EndpointName, Error> {
    let mut bytes = Bytes::of(value);
    let numbers = bytes.numbers()?;
    let state = if bytes.is_empty() { None } else { Some(decode_json(bytes.rest())?) };
    Ok(EndpointName { numbers, state })
}

/// A commit that is written ahead of its last group: nothing of it is there for a reader before that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its records' layer, too.
    pub number: u64,
    /// 0 where no commit of it comes any more.
    pub bridge: u64,
    /// Of events: from the first to before the last, in order.
    pub packs: Vec<(u64, u64)>,
    /// Records that were written, and that are to be deleted.
    pub put: u64,
    pub deleted: u64,
}

impl Stage {
    pub fn is_open(&self) -> bool {
        self.bridge > 0
    }

    pub fn has_pack(&self, pack: u64) -> bool {
        let after = self.packs.partition_point(|(from, _)| *from <= pack);
        after.checked_sub(1).and_then(|at| self.packs.get(at)).is_some_and(|(_, to)| pack < *to)
    }
}

/// Whether a pack is written ahead of its commit.
pub fn is_ahead(stages: &[Stage], pack: u64) -> bool {
    stages.iter().any(|stage| stage.has_pack(pack))
}

/// What is done in the background, a slice at a time, until nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Records that no bridge has any more.
    Layer(u64),
    /// The upper layers of a bridge into the one below.
    Merge(u64),
    /// Chunks of a bridge's list that its manifest does not name.
    Chunks(u64),
    /// Deliveries of an endpoint that no name has any more.
    Queue(u64),
    /// Events that were written ahead of a commit that never came.
    Stage(u64),
}

pub fn encode_number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub fn decode_number(value: &[u8]) -> Result<u64, Error> {
    let mut bytes = Bytes::of(value);
    let number = bytes.u64()?;
    bytes.end()?;
    Ok(number)
}

/// JSON, compressed when that helps.
pub fn encode_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(value).map_err(|e| Error::Io(format!("failed to encode a row as JSON: {e}")))?;
    let mut out = Vec::with_capacity(json.len() + 1);
    put_folded(&mut out, &json, FOLD_OVER);
    Ok(out)
}

pub fn decode_json<T: DeserializeOwned>(value: &[u8]) -> Result<T, Error> {
    let json = Bytes::of(value).folded()?;
    serde_json::from_slice(&json).map_err(|e| Error::Damaged(format!("a row cannot be read: {e}")))
}

/// A bridge's state with its version in front, which every commit compares, and the layers of its records, the lowest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub layers: Vec<u64>,
    pub state: BridgeState,
}

pub fn encode_state(state: &State) -> Result<Vec<u8>, Error> {
    let mut out = state.state.version.to_be_bytes().to_vec();
    put_number(&mut out, state.layers.len());
    out.extend(state.layers.iter().flat_map(|layer| layer.to_be_bytes()));
    out.extend_from_slice(&encode_json(&state.state)?);
    Ok(out)
}

pub fn decode_state(value: &[u8]) -> Result<State, Error> {
    let mut bytes = Bytes::of(value);
    bytes.u64()?;
    Ok(State { layers: bytes.numbers()?, state: decode_json(bytes.rest())? })
}

/// The version and the layers, from the state's first row.
pub fn decode_state_start(first: &[u8]) -> Result<(u64, Vec<u64>), Error> {
    let mut bytes = Bytes::of_row(first)?;
    bytes.u16()?;
    Ok((bytes.u64()?, bytes.numbers()?))
}

/// What is held, and where its pages' bodies are when they were written ahead: the layer, and how many pieces each has.
pub type HeldIn = Option<(u64, Vec<u32>)>;

pub fn encode_hold(hold: &Hold, pages: &HeldIn) -> Result<Vec<u8>, Error> {
    encode_json(&(hold, pages))
}

pub fn decode_hold(value: &[u8]) -> Result<(Hold, HeldIn), Error> {
    decode_json(value)
}

/// A record that an upper layer takes away from those below.
pub const TOMBSTONE: &[u8] = &[];

/// All but the key's hash, which is in the row's key.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.body.len() + record.key.len() + 48);
    out.extend_from_slice(&record.entry.raw.0);
    out.extend_from_slice(&record.entry.canonical.0);
    out.extend_from_slice(&record.seen.0.to_be_bytes());
    put_bytes(&mut out, record.key.as_bytes());
    put_folded(&mut out, &record.body, FOLD_OVER);
    out
}

pub fn decode_record(key: Hash, value: &[u8]) -> Result<Record, Error> {
    let mut bytes = Bytes::of(value);
    let entry = Entry { key, raw: bytes.hash()?, canonical: bytes.hash()? };
    let seen = Timestamp(bytes.i64()?);
    Ok(Record { entry, key: bytes.text()?.to_owned(), seen, body: bytes.folded()? })
}

/// Which content a delivery has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remade {
    /// As committed, to be sent.
    No,
    /// As committed, an error: nothing to send.
    NoDead,
    /// A requeue's; the row beside the queue has it.
    Yes,
    /// A requeue's, an error.
    YesDead,
}

/// One delivery in a queue row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEntry {
    pub index: u16,
    pub state: DeliveryState,
    pub attempts: u32,
    pub refusals: u16,
    pub due: Timestamp,
    pub wait_ms: u32,
    pub replay: bool,
    pub lane: u64,
    pub remade: Remade,
}

const REPLAY: u8 = 0x10;

pub fn encode_queue(entries: &[QueueEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 22 + 2);
    put_number(&mut out, entries.len());
    for entry in entries {
        let state = match entry.state {
            DeliveryState::Waiting => 0,
            DeliveryState::Dead => 1,
            DeliveryState::Delivered => 2,
        };
        let remade = match entry.remade {
            Remade::No => 0,
            Remade::NoDead => 4,
            Remade::Yes => 8,
            Remade::YesDead => 12,
        };
        out.push(state | remade | if entry.replay { REPLAY } else { 0 });
        put_varint(&mut out, entry.index.into());
        put_varint(&mut out, entry.attempts.into());
        put_varint(&mut out, entry.refusals.into());
        put_varint(&mut out, entry.wait_ms.into());
        out.extend_from_slice(&entry.due.0.to_be_bytes());
        out.extend_from_slice(&entry.lane.to_be_bytes());
    }
    out
}

pub fn decode_queue(value: &[u8]) -> Result<Vec<QueueEntry>, Error> {
    queue(value, |bytes| bytes.varint())
}

/// Of format 1, which did not note how long an event was to wait.
pub fn decode_queue_of_format_1(value: &[u8]) -> Result<Vec<QueueEntry>, Error> {
    queue(value, |_| Ok(WAIT_UNKNOWN))
}

fn queue(value: &[u8], wait_ms: impl Fn(&mut Bytes<'_>) -> Result<u32, Error>) -> Result<Vec<QueueEntry>, Error> {
    let mut bytes = Bytes::of(value);
    let mut entries = Vec::new();
    for _ in 0..bytes.varint::<u32>()? {
        let flags = bytes.u8()?;
        let state = match flags & 3 {
            0 => DeliveryState::Waiting,
            1 => DeliveryState::Dead,
            2 => DeliveryState::Delivered,
            _ => return Err(damaged("an unknown state of a delivery")),
        };
        let remade = match flags & 12 {
            0 => Remade::No,
            4 => Remade::NoDead,
            8 => Remade::Yes,
            _ => Remade::YesDead,
        };
        entries.push(QueueEntry {
            index: bytes.varint()?,
            state,
            attempts: bytes.varint()?,
            refusals: bytes.varint()?,
            wait_ms: wait_ms(&mut bytes)?,
            due: Timestamp(bytes.i64()?),
            replay: flags & REPLAY != 0,
            lane: bytes.u64()?,
            remade,
        });
    }
    bytes.end()?;
    Ok(entries)
}

/// What a requeue made again.
pub fn encode_content(content: &Content) -> Vec<u8> {
    let (tag, bytes) = match content {
        Content::Shared => (0, &[][..]),
        Content::Own(body) => (1, body.as_slice()),
        Content::Dead(reason) => (2, reason.as_bytes()),
        Content::Thin => (3, &[][..]),
    };
    let mut out = vec![tag];
    put_folded(&mut out, bytes, FOLD_OVER);
    out
}

pub fn decode_content(value: &[u8]) -> Result<Content, Error> {
    let mut bytes = Bytes::of(value);
    let tag = bytes.u8()?;
    let body = bytes.folded()?;
    match tag {
        0 => Ok(Content::Shared),
        1 => Ok(Content::Own(body)),
        2 => String::from_utf8(body).map(Content::Dead).map_err(|_| damaged("a reason is not UTF-8")),
        3 => Ok(Content::Thin),
        _ => Err(damaged("an unknown content")),
    }
}

pub fn encode_attempt(attempt: &Attempt) -> Vec<u8> {
    let mut out = Vec::with_capacity(attempt.answer.len() + 96);
    put_bytes(&mut out, attempt.event.as_bytes());
    put_bytes(&mut out, attempt.endpoint.as_bytes());
    put_varint(&mut out, attempt.number.into());
    out.extend_from_slice(&attempt.at.0.to_be_bytes());
    put_varint(&mut out, attempt.duration_ms.into());
    // 0 is not a status that a server can send.
    put_varint(&mut out, attempt.status.map_or(0, |status| u64::from(status) + 1));
    match &attempt.error {
        None => out.push(0),
        Some(error) => {
            out.push(1);
            put_bytes(&mut out, error.as_bytes());
        }
    }
    put_folded(&mut out, attempt.answer.as_bytes(), FOLD_OVER);
    out
}

pub fn decode_attempt(value: &[u8]) -> Result<Attempt, Error> {
    let mut bytes = Bytes::of(value);
    Ok(Attempt {
        event: bytes.text()?.to_owned(),
        endpoint: bytes.text()?.to_owned(),
        number: bytes.varint()?,
        at: Timestamp(bytes.i64()?),
        duration_ms: bytes.varint()?,
        status: match bytes.varint::<u32>()? {
            0 => None,
            status => Some(u16::try_from(status - 1).map_err(|_| damaged("a status"))?),
        },
        error: match bytes.u8()? {
            0 => None,
            1 => Some(bytes.text()?.to_owned()),
            _ => return Err(damaged("an unknown error")),
        },
        answer: String::from_utf8(bytes.folded()?).map_err(|_| damaged("an answer is not UTF-8"))?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    prop_compose! {
        fn entry()(
            index: u16, state in 0..3, attempts: u32, refusals: u16, due: i64, replay: bool, lane: u64, remade in 0..4,
            wait_ms: u32,
        ) -> QueueEntry {
            let state = match state {
                0 => DeliveryState::Waiting,
                1 => DeliveryState::Delivered,
                _ => DeliveryState::Dead,
            };
            let remade = match remade {
                0 => Remade::No,
                1 => Remade::NoDead,
                2 => Remade::Yes,
                _ => Remade::YesDead,
            };
            QueueEntry { index, state, attempts, refusals, due: Timestamp(due), wait_ms, replay, lane, remade }
        }
    }

    prop_compose! {
        fn attempt()(
            event: String, endpoint: String, number: u32, at: i64, duration_ms: u32, status: Option<u16>,
            answer in ".{0,2000}", error: Option<String>,
        ) -> Attempt {
            Attempt { event, endpoint, number, at: Timestamp(at), duration_ms, status, answer, error }
        }
    }

    proptest! {
        #[test]
        fn queues_round_trip(entries in vec(entry(), 0..50), at: prop::sample::Index) {
            let value = encode_queue(&entries);
            prop_assert_eq!(decode_queue(&value), Ok(entries));
            let short = value.get(..at.index(value.len())).expect("within");
            prop_assert!(matches!(decode_queue(short), Err(Error::Damaged(_))));
        }

        #[test]
        fn attempts_round_trip(attempt in attempt()) {
            prop_assert_eq!(decode_attempt(&encode_attempt(&attempt)), Ok(attempt));
        }

        #[test]
        fn records_round_trip(key: String, seen: i64, raw: [u8; 16], body: Vec<u8>, repeat in 1usize..200) {
            let entry = Entry { key: Hash::of(key.as_bytes()), raw: Hash(raw), canonical: Hash::of(&body) };
            let record = Record { entry, key, seen: Timestamp(seen), body: body.repeat(repeat) };
            prop_assert_eq!(decode_record(entry.key, &encode_record(&record)), Ok(record));
        }

        #[test]
        fn contents_round_trip(text: String, tag in 0..3) {
            let content = match tag {
                0 => Content::Shared,
                3 => Content::Thin,
                1 => Content::Own(text.into_bytes()),
                _ => Content::Dead(text),
            };
            prop_assert_eq!(decode_content(&encode_content(&content)), Ok(content));
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = decode_queue(&noise);
            let _ = decode_attempt(&noise);
            let _ = decode_record(Hash::default(), &noise);
            let _ = decode_content(&noise);
            let _ = decode_counters(&noise);
            let _ = decode_number(&noise);
            let _ = decode_state(&noise);
            let _ = decode_state_start(&noise);
            let _ = decode_bridge_name(&noise);
            let _ = decode_endpoint_name(&noise);
            let _ = decode_json::<Vec<u8>>(&noise);
        }
    }

    #[test]
    fn names_round_trip() {
        let name = BridgeName { number: 7, sequence: 9, at: Timestamp(-3) };
        assert_eq!(decode_bridge_name(&encode_bridge_name(name)), Ok(name));
        for state in [None, Some(EndpointState { step: 3, ..EndpointState::default() })] {
            let name = EndpointName { numbers: vec![2, 1], state };
            assert_eq!(decode_endpoint_name(&encode_endpoint_name(&name).expect("encodable")), Ok(name));
        }
    }

    #[test]
    fn a_stage_knows_its_packs() {
        let stage = Stage { number: 1, bridge: 2, packs: vec![(3, 5), (9, 10)], put: 0, deleted: 0 };
        assert_eq!((0..12).filter(|pack| stage.has_pack(*pack)).collect::<Vec<_>>(), [3, 4, 9]);
    }

    #[test]
    fn states_round_trip_with_the_digits_of_their_numbers() {
        let previous = serde_json::from_str("{\"n\":1.10}").expect("JSON");
        let state = BridgeState { version: 7, previous: Some(previous), ..BridgeState::default() };
        let state = State { layers: vec![3, 900], state };
        let value = encode_state(&state).expect("encodable");
        assert_eq!(decode_state(&value), Ok(state));
        let rows = crate::store::codec::split(&value).expect("it fits");
        assert_eq!(decode_state_start(rows.first().expect("one")), Ok((7, vec![3, 900])));
        assert!(matches!(decode_state(value.get(..9).expect("longer")), Err(Error::Damaged(_))));
    }
}
