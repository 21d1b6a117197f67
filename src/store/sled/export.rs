//! The store as JSON lines: one for each logical row, readable, and all that `import` needs.
//!
//! It is one consistent state, with events and queues, and nothing waits for it: what is changed meanwhile is kept as it was.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    FORMAT, META_STAGES, META_STREAM, SledEngine,
    freeze::Frozen,
    tables::{ANY_STATE, Rows, Table, io_error},
};
use crate::{
    model::{Content, Entry, Event, Name, Record, Timestamp, hex},
    store::{
        BridgeState, EndpointState, Error, Hold, Position, Progress,
        codec::{self, QueueEntry, Remade, Stage, key, key::BridgeRow},
    },
};

/// A body: as JSON where it is JSON in one line, else as text, else as hex.
#[derive(Serialize)]
enum Body<'a> {
    #[serde(rename = "json")]
    Json(&'a RawValue),
    #[serde(rename = "text")]
    Text(&'a str),
    #[serde(rename = "hex")]
    Hex(String),
}

impl<'a> Body<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            // A `RawValue` is written as it is: with line breaks it would be several lines, with space around it,
            // it would lose that.
            Ok(text) if !text.contains(['\n', '\r']) && text.trim() == text => match serde_json::from_str(text) {
                Ok(raw) => Self::Json(raw),
                Err(_) => Self::Text(text),
            },
            Ok(text) => Self::Text(text),
            Err(_) => Self::Hex(hex(bytes)),
        }
    }
}

impl SledEngine {
    pub(super) fn write_export(&self, out: &mut dyn Write) -> Result<(), Error> {
        let frozen = self.freeze()?;
        let stream = frozen.value(Table::Meta, META_STREAM)?.unwrap_or_default();
        let stream = String::from_utf8(stream).map_err(|_| Error::Damaged("the store's name is not UTF-8".into()))?;
        let mut lines = Lines::begin(out, FORMAT, &stream)?;
        frozen.bridges(&mut lines)?;
        frozen.endpoints(&mut lines)?;
        let stages = frozen.value(Table::Meta, META_STAGES)?;
        let stages: Vec<Stage> = stages.map_or(Ok(Vec::new()), |value| codec::decode_json(&value))?;
        frozen.events(&stages, &mut lines)?;
        frozen.queues(&stages, &mut lines)?;
        frozen
            .each(Table::Attempts, &[], |_, value| lines.line(&json!({ "attempt": codec::decode_attempt(value)? })))?;
        lines.finish()
    }
}

impl Frozen<'_> {
    fn bridges(&self, lines: &mut Lines<'_>) -> Result<(), Error> {
        self.each(Table::Bridges, key::NAMES, |name, value| {
            let (name, known) = (key::parse_name(name)?, codec::decode_bridge_name(value)?);
            let Some(stored) = self.state(known.number)? else {
                if known.sequence > 0 {
                    let left =
                        BridgeState { sequence: known.sequence, accepted_at: known.at, ..BridgeState::default() };
                    lines.state(&name, &left)?;
                }
                return self.progress(&name, known.number, lines);
            };
            let mut state = stored.state;
            state.sequence = state.sequence.max(known.sequence);
            lines.state(&name, &state)?;
            self.progress(&name, known.number, lines)?;
            if let Some(value) = self.value(Table::Bridges, &key::bridge(BridgeRow::Hold, known.number))? {
                lines.hold(&name, &self.held(&value)?)?;
            }
            if let Some(value) = self.value(Table::Bridges, &key::bridge(BridgeRow::Manifest, known.number))? {
                for id in codec::decode_manifest(&value)? {
                    let chunk = self.row(Table::Bridges, &key::list_chunk(known.number, id))?;
                    let missing = || Error::Damaged(format!("chunk {id} of the list of {name} is missing"));
                    lines.list(&name, &chunk.ok_or_else(missing)?)?;
                }
            }
            for (at, layer) in stored.layers.iter().enumerate() {
                let above = stored.layers.get(at + 1..).unwrap_or_default();
                self.each(Table::Records, &key::records(*layer), |key, value| {
                    let (_, hash) = key::parse_record(key)?;
                    let hidden =
                        |layer: &u64| self.first(Table::Records, &key::record(*layer, hash)).map(|row| row.is_some());
                    if value == codec::TOMBSTONE
                        || above.iter().map(hidden).collect::<Result<Vec<_>, _>>()?.contains(&true)
                    {
                        return Ok(());
                    }
                    lines.record(&name, &codec::decode_record(hash, value)?)
                })?;
            }
            Ok(())
        })
    }

    fn progress(&self, name: &str, number: u64, lines: &mut Lines<'_>) -> Result<(), Error> {
        match self.value(Table::Bridges, &key::bridge(BridgeRow::Progress, number))? {
            Some(value) => lines.progress(name, &codec::decode_json(&value)?),
            None => Ok(()),
        }
    }

    fn endpoints(&self, lines: &mut Lines<'_>) -> Result<(), Error> {
        self.each(Table::Endpoints, key::NAMES, |name, value| match codec::decode_endpoint_name(value)?.state {
            Some(state) => lines.endpoint(&key::parse_name(name)?, &state),
            None => Ok(()),
        })
    }

    fn events(&self, stages: &[Stage], lines: &mut Lines<'_>) -> Result<(), Error> {
        self.each(Table::Events, &[], |key, value| {
            let pack = key::parse_pack(key)?;
            if codec::is_ahead(stages, pack) {
                return Ok(());
            }
            let endpoints = codec::decode_pack_header(value)?.endpoints;
            let names = endpoints.into_iter().map(|number| self.named(number)).collect::<Result<Vec<_>, _>>()?;
            lines.events(pack, &codec::decode_pack(value, &names)?)
        })
    }

    fn queues(&self, stages: &[Stage], lines: &mut Lines<'_>) -> Result<(), Error> {
        self.each(Table::Endpoints, key::NAMES, |name, value| {
            let (name, numbers) = (key::parse_name(name)?, codec::decode_endpoint_name(value)?.numbers);
            for (at, number) in numbers.iter().enumerate() {
                let before = numbers.get(..at).unwrap_or_default();
                // Of what several numbers have, that of the first counts.
                let counts = |position: Position| {
                    for other in before {
                        let own = self.queue_row(*other, position.pack, ANY_STATE)?;
                        if own.is_some_and(|(_, own)| own.iter().any(|own| own.index == position.index)) {
                            return Ok(false);
                        }
                    }
                    Ok::<_, Error>(true)
                };
                self.each(Table::Queue, &key::queues(*number), |key, value| match key::parse_queue(key)? {
                    key::QueueKey::Remade { position, .. } => match counts(position)? {
                        true => lines.remade(&name, position, &codec::decode_content(value)?),
                        false => Ok(()),
                    },
                    key::QueueKey::Deliveries { pack, .. } if codec::is_ahead(stages, pack) => Ok(()),
                    key::QueueKey::Deliveries { pack, .. } => {
                        for entry in codec::decode_queue(value)? {
                            if counts(Position { pack, index: entry.index })? {
                                lines.delivery(&name, pack, &entry)?;
                            }
                        }
                        Ok(())
                    }
                })?;
            }
            Ok(())
        })
    }
}

/// An export in the making. Its last line says how many were written, so that a backup that was cut off is not a backup.
pub(super) struct Lines<'a> {
    out: io::BufWriter<&'a mut dyn Write>,
    written: u64,
}

impl<'a> Lines<'a> {
    pub fn begin(out: &'a mut dyn Write, format: u32, stream: &str) -> Result<Self, Error> {
        let mut lines = Self { out: io::BufWriter::new(out), written: 0 };
        lines.line(&json!({ "bellpull": "export", "format": format, "stream": stream }))?;
        Ok(lines)
    }

    pub fn finish(&mut self) -> Result<(), Error> {
        let lines = self.written;
        self.line(&json!({ "end": { "lines": lines } }))?;
        self.out.flush().map_err(|e| io_error("writing the export", &e))
    }

    pub fn line<T: Serialize>(&mut self, value: &T) -> Result<(), Error> {
        let mut json = serde_json::to_vec(value).map_err(|e| Error::Io(format!("failed to encode an export: {e}")))?;
        json.push(b'\n');
        self.written += 1;
        self.out.write_all(&json).map_err(|e| io_error("writing the export", &e))
    }

    pub fn state(&mut self, bridge: &str, state: &BridgeState) -> Result<(), Error> {
        self.line(&json!({ "state": { "bridge": bridge, "state": state } }))
    }

    pub fn progress(&mut self, bridge: &str, progress: &Progress) -> Result<(), Error> {
        self.line(&json!({ "progress": { "bridge": bridge, "progress": progress } }))
    }

    pub fn hold(&mut self, bridge: &str, hold: &Hold) -> Result<(), Error> {
        self.line(&json!({ "hold": { "bridge": bridge, "hold": hold } }))
    }

    /// A chunk of a list.
    pub fn list(&mut self, bridge: &str, chunk: &[u8]) -> Result<(), Error> {
        let mut entries: Vec<Entry> = Vec::new();
        codec::decode_entries(chunk, &mut entries)?;
        let entries: Vec<_> = entries.iter().map(|e| [e.key, e.raw, e.canonical]).collect();
        self.line(&json!({ "list": { "bridge": bridge, "entries": entries } }))
    }

    pub fn endpoint(&mut self, name: &str, state: &EndpointState) -> Result<(), Error> {
        self.line(&json!({ "endpoint": { "name": name, "state": state } }))
    }

    pub fn record(&mut self, bridge: &str, record: &Record) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            record: Row<'a>,
        }
        #[derive(Serialize)]
        struct Row<'a> {
            bridge: &'a str,
            key: &'a str,
            hashes: [crate::model::Hash; 3],
            seen: Timestamp,
            body: Body<'a>,
        }
        let Record { entry, key, seen, body } = record;
        let hashes = [entry.key, entry.raw, entry.canonical];
        self.line(&Line { record: Row { bridge, key, hashes, seen: *seen, body: Body::of(body) } })
    }

    /// Those of a pack.
    pub fn events(&mut self, pack: u64, events: &[Event]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            event: Row<'a>,
        }
        #[derive(Serialize)]
        struct Row<'a> {
            position: (u64, usize),
            id: crate::model::EventId,
            bridge: &'a str,
            sequence: u64,
            #[serde(rename = "type")]
            kind: &'a str,
            key: &'a str,
            at: Timestamp,
            body: Body<'a>,
            deliveries: Vec<(&'a str, Contents<'a>)>,
        }
        for (index, event) in events.iter().enumerate() {
            let Event { id, bridge, sequence, kind, key, at, body, deliveries } = event;
            let deliveries = deliveries.iter().map(|d| (&*d.endpoint, Contents::of(&d.content))).collect();
            let (position, body) = ((pack, index), Body::of(body));
            let row = Row { position, id: *id, bridge, sequence: *sequence, kind, key, at: *at, body, deliveries };
            self.line(&Line { event: row })?;
        }
        Ok(())
    }

    pub fn remade(&mut self, endpoint: &Name, position: Position, content: &Content) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            remade: Row<'a>,
        }
        #[derive(Serialize)]
        struct Row<'a> {
            endpoint: &'a str,
            position: (u64, u16),
            content: Contents<'a>,
        }
        let position = (position.pack, position.index);
        self.line(&Line { remade: Row { endpoint, position, content: Contents::of(content) } })
    }

    pub fn delivery(&mut self, endpoint: &Name, pack: u64, entry: &QueueEntry) -> Result<(), Error> {
        let remade = match entry.remade {
            Remade::No => "no",
            Remade::NoDead => "no-dead",
            Remade::Yes => "yes",
            Remade::YesDead => "yes-dead",
        };
        self.line(&json!({ "delivery": {
            "endpoint": &**endpoint, "position": [pack, entry.index], "state": entry.state,
            "attempts": entry.attempts, "refusals": entry.refusals, "due": entry.due, "wait": entry.wait_ms,
            "replay": entry.replay, "lane": entry.lane, "remade": remade,
        } }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Contents<'a> {
    Shared,
    Thin,
    Own(Body<'a>),
    Dead(&'a str),
}

impl<'a> Contents<'a> {
    fn of(content: &'a Content) -> Self {
        match content {
            Content::Shared => Self::Shared,
            Content::Thin => Self::Thin,
            Content::Own(body) => Self::Own(Body::of(body)),
            Content::Dead(reason) => Self::Dead(reason),
        }
    }
}
