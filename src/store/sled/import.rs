//! An export read back into a new store: the way to restore a backup and to move to another machine.
//!
//! The new store has a `stream` of its own: what was sent after the backup was made is not in it, so receivers must not
//! compare its numbers with the old ones.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
    path::Path,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    FORMAT, SledEngine,
    group::Group,
    ops::state_byte,
    place::{IMPORT, clear, lock_in, put},
    tables::{ANY_STATE, Rows, Table, io_error},
};
use crate::{
    model::{Content, Delivery, Entry, Event, EventId, Hash, Name, Record, Timestamp},
    store::{
        Attempt, BridgeState, DeliveryState, EndpointState, Error, Hold, Position, Progress, WAIT_UNKNOWN,
        codec::{self, BridgeName, EndpointName, QueueEntry, Remade, State, key, key::BridgeRow},
    },
};

/// Lines of one group: what a sled batch takes in memory is not bounded by its cache.
const LINES_AT_ONCE: usize = 1000;
/// The longest line that is read; the largest body and a factor for its escapes.
const LINE_BYTES_MAX: u64 = 1 << 30;

#[derive(Deserialize)]
struct Head {
    bellpull: String,
    format: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    State { bridge: Name, state: BridgeState },
    Progress { bridge: Name, progress: Progress },
    Hold { bridge: Name, hold: Box<Hold> },
    List { bridge: Name, entries: Vec<[Hash; 3]> },
    Record { bridge: Name, key: String, hashes: [Hash; 3], seen: Timestamp, body: Body },
    Endpoint { name: Name, state: EndpointState },
    Event(Box<EventLine>),
    Remade { endpoint: Name, position: (u64, u16), content: Contents },
    Delivery(DeliveryLine),
    Attempt(Attempt),
    End { lines: u64 },
}

#[derive(Deserialize)]
struct EventLine {
    position: (u64, usize),
    id: EventIdText,
    bridge: Name,
    sequence: u64,
    #[serde(rename = "type")]
    kind: String,
    key: String,
    at: Timestamp,
    body: Body,
    deliveries: Vec<(Name, Contents)>,
}

#[derive(Deserialize)]
struct DeliveryLine {
    endpoint: Name,
    position: (u64, u16),
    state: DeliveryState,
    attempts: u32,
    refusals: u16,
    due: Timestamp,
    /// Format 1 has none.
    #[serde(default = "unknown")]
    wait: u32,
    replay: bool,
    lane: u64,
    remade: RemadeText,
}

fn unknown() -> u32 {
    WAIT_UNKNOWN
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct EventIdText(EventId);

impl TryFrom<String> for EventIdText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|e: &str| e.to_owned())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RemadeText {
    No,
    NoDead,
    Yes,
    YesDead,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    Json(Box<RawValue>),
    Text(String),
    Hex(String),
}

impl Body {
    fn bytes(self) -> Result<Vec<u8>, String> {
        let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("?"), 16);
        match self {
            Self::Json(raw) => Ok(raw.get().as_bytes().to_vec()),
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Hex(hex) => {
                hex.as_bytes().chunks(2).map(|pair| digit(pair).map_err(|_| "no hex digits".to_owned())).collect()
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Contents {
    Shared,
    Thin,
    Own(Body),
    Dead(String),
}

impl Contents {
    fn content(self) -> Result<Content, String> {
        Ok(match self {
            Self::Shared => Content::Shared,
            Self::Thin => Content::Thin,
            Self::Own(body) => Content::Own(body.bytes()?),
            Self::Dead(reason) => Content::Dead(reason),
        })
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    pub bridges: u64,
    pub records: u64,
    pub events: u64,
    pub deliveries: u64,
}

impl SledEngine {
    /// Makes a store of a backup in a directory that has none. It is made beside its place and moved there when it is whole,
    /// so that nothing is left of one that ends before.
    pub fn import(dir: &Path, cache_bytes: u64, input: &mut dyn BufRead) -> Result<Imported, Error> {
        let _lock = lock_in(dir)?;
        if Self::is_in(dir) {
            return Err(Error::Io(format!("{} has a store already", dir.display())));
        }
        let failed = |e: io::Error| io_error("importing the backup", &e);
        let work = dir.join(IMPORT);
        clear(&work).map_err(failed)?;
        let imported = Self::fill(&work, cache_bytes, input);
        let moved = imported.and_then(|imported| {
            put(&work, dir).map_err(failed)?;
            Ok(imported)
        });
        if moved.is_err() {
            // It is not a store, and the next import begins with its removal too.
            let _ = clear(&work);
        }
        moved
    }

    /// Fills a new store.
    pub(super) fn fill(dir: &Path, cache_bytes: u64, input: &mut dyn BufRead) -> Result<Imported, Error> {
        let engine = Self::open(dir, cache_bytes)?;
        // A copy of another's history: where it is a compaction's, it takes the other's name.
        engine.become_another("it was imported from a backup: what was sent after it is not in it")?;
        let mut lines = Lines { input, number: 0 };
        let head: Head = lines.next()?.ok_or_else(|| Error::Io("the backup is empty".into()))?;
        if head.bellpull != "export" {
            return Err(Error::Io("line 1: this is not a backup that `bellpull export` made".into()));
        }
        if head.format > FORMAT {
            let advice = "import it with the bellpull that made it, or a newer one".into();
            return Err(Error::Format { found: head.format, known: FORMAT, advice });
        }
        let mut import = Import::default();
        let mut more = true;
        while more {
            let mut group = engine.group()?;
            for _ in 0..LINES_AT_ONCE {
                let line: Option<Line> = lines.next()?;
                let number = lines.number;
                let wrong = |error: Fault| error.at(number);
                let Some(line) = line else {
                    let cut = format!("line {number} of the backup: it is cut off here, its last line says `end`");
                    return Err(Error::Io(cut));
                };
                if let Line::End { lines: written } = line {
                    if written != number - 1 || lines.next::<Line>()?.is_some() {
                        return Err(Error::Io(format!(
                            "line {number} of the backup: {written} lines are before it, in what was exported"
                        )));
                    }
                    import.finish(&mut group).map_err(wrong)?;
                    more = false;
                    break;
                }
                import.line(line, &mut group).map_err(wrong)?;
            }
            if !group.is_empty() {
                engine.apply(group)?;
            }
        }
        Ok(import.imported)
    }
}

/// What is wrong with a line, or with the store.
enum Fault {
    Line(String),
    Store(Error),
}

impl Fault {
    fn at(self, line: u64) -> Error {
        match self {
            Self::Line(why) => Error::Io(format!("line {line} of the backup: {why}")),
            Self::Store(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Line(why)
    }
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, Error> {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut *self.input, LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line).map_err(|e| io_error("reading the backup", &e))?;
        self.number += 1;
        if read == 0 {
            return Ok(None);
        }
        let wrong = |e: serde_json::Error| Error::Io(format!("line {} of the backup: {e}", self.number));
        serde_json::from_slice(&line).map(Some).map_err(wrong)
    }
}

/// What stands on several lines and is one value.
#[derive(Default)]
enum Open {
    #[default]
    Nothing,
    List(Name, Vec<Entry>),
    Pack(u64, Vec<Event>),
    Queue(Name, u64, Vec<QueueEntry>),
}

#[derive(Default)]
struct Import {
    imported: Imported,
    open: Open,
    /// Of each bridge with a snapshot.
    layers: BTreeMap<Name, u64>,
    attempts: Vec<Attempt>,
}

impl Import {
    fn layer(&mut self, bridge: &Name, group: &mut Group<'_>) -> u64 {
        *self.layers.entry(bridge.clone()).or_insert_with(|| group.counters.number())
    }

    fn line(&mut self, line: Line, group: &mut Group<'_>) -> Result<(), Fault> {
        if !self.goes_on(&line) {
            self.close(group)?;
        }
        match line {
            Line::State { bridge, state } => {
                self.imported.bridges += u64::from(state.version > 0);
                if state.version == 0 {
                    let left = BridgeName { number: 0, sequence: state.sequence, at: state.accepted_at };
                    group.put(Table::Bridges, &key::name(&bridge), &codec::encode_bridge_name(left))?;
                } else {
                    let layers = vec![self.layer(&bridge, group)];
                    let row = key::bridge(BridgeRow::State, group.bridge_number(&bridge)?);
                    group.put(Table::Bridges, &row, &codec::encode_state(&State { layers, state })?)?;
                }
            }
            Line::Progress { bridge, progress } => {
                let row = key::bridge(BridgeRow::Progress, group.bridge_number(&bridge)?);
                group.put(Table::Bridges, &row, &codec::encode_json(&progress)?)?;
            }
            Line::Hold { bridge, hold } => {
                let row = key::bridge(BridgeRow::Hold, group.bridge_number(&bridge)?);
                group.put(Table::Bridges, &row, &codec::encode_hold(&hold, &None)?)?;
            }
            Line::List { bridge, entries } => {
                let entries = entries.into_iter().map(|[key, raw, canonical]| Entry { key, raw, canonical });
                match &mut self.open {
                    Open::List(_, all) => all.extend(entries),
                    open => *open = Open::List(bridge, entries.collect()),
                }
            }
            Line::Record { bridge, key, hashes: [hash, raw, canonical], seen, body } => {
                self.imported.records += 1;
                let record = Record { entry: Entry { key: hash, raw, canonical }, key, seen, body: body.bytes()? };
                let row = key::record(self.layer(&bridge, group), hash);
                group.put(Table::Records, &row, &codec::encode_record(&record))?;
            }
            Line::Endpoint { name, state } => {
                let known = group.endpoint_name(&name)?.unwrap_or_default();
                group.put_endpoint_name(&name, &EndpointName { state: Some(state), ..known })?;
            }
            Line::Event(line) => self.event(*line)?,
            Line::Remade { endpoint, position: (pack, index), content } => {
                let row = key::remade(group.endpoint_number(&endpoint)?, Position { pack, index });
                group.put(Table::Queue, &row, &codec::encode_content(&content.content()?))?;
            }
            Line::Delivery(line) => self.delivery(line),
            Line::Attempt(attempt) => self.attempts.push(attempt),
            Line::End { .. } => {}
        }
        Ok(())
    }

    /// Whether a line belongs to what is open.
    fn goes_on(&self, line: &Line) -> bool {
        match (&self.open, line) {
            (Open::List(name, _), Line::List { bridge, .. }) => name == bridge,
            (Open::Pack(pack, _), Line::Event(event)) => *pack == event.position.0,
            (Open::Queue(name, pack, _), Line::Delivery(line)) => *name == line.endpoint && *pack == line.position.0,
            _ => false,
        }
    }

    fn event(&mut self, line: EventLine) -> Result<(), Fault> {
        self.imported.events += 1;
        let delivery =
            |(endpoint, content): (Name, Contents)| Ok::<_, String>(Delivery { endpoint, content: content.content()? });
        let deliveries: Result<Vec<Delivery>, String> = line.deliveries.into_iter().map(delivery).collect();
        let event = Event {
            id: line.id.0,
            bridge: line.bridge,
            sequence: line.sequence,
            kind: line.kind,
            key: line.key,
            at: line.at,
            body: line.body.bytes()?,
            deliveries: deliveries?,
        };
        match &mut self.open {
            Open::Pack(_, events) => events.push(event),
            open => *open = Open::Pack(line.position.0, vec![event]),
        }
        Ok(())
    }

    fn delivery(&mut self, line: DeliveryLine) {
        self.imported.deliveries += 1;
        let (pack, index) = line.position;
        let entry = QueueEntry {
            index,
            state: line.state,
            attempts: line.attempts,
            refusals: line.refusals,
            due: line.due,
            wait_ms: line.wait,
            replay: line.replay,
            lane: line.lane,
            remade: match line.remade {
                RemadeText::No => Remade::No,
                RemadeText::NoDead => Remade::NoDead,
                RemadeText::Yes => Remade::Yes,
                RemadeText::YesDead => Remade::YesDead,
            },
        };
        match &mut self.open {
            Open::Queue(_, _, entries) => entries.push(entry),
            open => *open = Open::Queue(line.endpoint, pack, vec![entry]),
        }
    }

    /// Writes what stood on several lines.
    fn close(&mut self, group: &mut Group<'_>) -> Result<(), Fault> {
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::List(bridge, entries) => {
                let bridge = group.bridge_number(&bridge)?;
                group.list(bridge, &entries)?;
            }
            Open::Pack(pack, events) => {
                group.counters.pack = group.counters.pack.max(pack + 1);
                let mut numbers = codec::Numbers::new();
                for delivery in events.iter().flat_map(|event| &event.deliveries) {
                    numbers.insert(delivery.endpoint.clone(), group.endpoint_number(&delivery.endpoint)?);
                }
                group.put(Table::Events, &key::pack(pack), &codec::repack(&events, &numbers))?;
            }
            Open::Queue(endpoint, pack, mut entries) => {
                let number = group.endpoint_number(&endpoint)?;
                // Of an endpoint that took another over a pack may come twice.
                if let Some((state, known)) = group.queue_row(number, pack, ANY_STATE)? {
                    group.remove(Table::Queue, &key::queue(number, state, pack))?;
                    entries.extend(known);
                    entries.sort_by_key(|entry| entry.index);
                }
                let row = key::queue(number, state_byte(&entries), pack);
                group.put(Table::Queue, &row, &codec::encode_queue(&entries))?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, group: &mut Group<'_>) -> Result<(), Fault> {
        self.close(group)?;
        // The ring's rows stand in no order of time.
        self.attempts.sort_by_key(|attempt| attempt.at);
        for attempt in std::mem::take(&mut self.attempts) {
            group.attempt(&attempt)?;
        }
        Ok(())
    }
}
