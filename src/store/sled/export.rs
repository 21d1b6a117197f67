//! The store as JSON lines: one for each logical row, readable, and all that `import` needs.
//!
//! It is one consistent state, with events and queues: writes wait until it is written. So it is written to a file beside
//! the store, and never to a reader who may be slow.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    FORMAT, META_FORMAT, SledEngine,
    tables::{Rows, Table, error, io_error},
};
use crate::{
    model::{Content, Event, Record},
    store::{
        Attempt, BridgeState, EndpointState, Error, Hold, Progress,
        codec::{self, Remade, key, key::BridgeRow},
    },
};

/// Writes the lines of a value, given its key and itself.
type Lines<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Error>;

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
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl SledEngine {
    pub(super) fn write_export(&self, out: &mut dyn Write) -> Result<(), Error> {
        let _gate = self.reading()?;
        let mut counted = Counted { out: io::BufWriter::new(out), lines: 0 };
        let out: &mut dyn Write = &mut counted;
        let format = self.tables.value(Table::Meta, META_FORMAT)?.map(|v| codec::decode_number(&v)).transpose()?;
        let format = format.unwrap_or(FORMAT.into());
        let stream = self.stored_stream()?;
        line(out, &json!({ "bellpull": "export", "format": format, "stream": stream }))?;
        self.each(Table::Bridges, &mut |row, value| self.bridge_lines(row, value, out))?;
        self.each(Table::Records, &mut |key, value| record_line(key, value, out))?;
        self.each(Table::Endpoints, &mut |key, value| {
            let state: EndpointState = codec::decode_json(value)?;
            line(out, &json!({ "endpoint": { "name": &*key::parse_endpoint(key)?, "state": state } }))
        })?;
        self.each(Table::Events, &mut |key, value| event_lines(key, value, out))?;
        self.each(Table::Queue, &mut |key, value| queue_lines(key, value, out))?;
        self.each(Table::Attempts, &mut |_, value| {
            let attempt: Attempt = codec::decode_attempt(value)?;
            line(out, &json!({ "attempt": attempt }))
        })?;
        let lines = counted.lines;
        line(&mut counted, &json!({ "end": { "lines": lines } }))?;
        counted.flush().map_err(|e| io_error("writing the export", &e))
    }

    fn stored_stream(&self) -> Result<String, Error> {
        let value = self.tables.value(Table::Meta, super::META_STREAM)?.unwrap_or_default();
        String::from_utf8(value).map_err(|_| Error::Damaged("the store's name is not UTF-8".into()))
    }

    /// Every value of a table, with its key without the chunk number. Chunks of lists, which are rows and no values,
    /// are left out: a manifest leads to them.
    fn each(&self, table: Table, write: Lines<'_>) -> Result<(), Error> {
        for row in self.tables.get(table).iter().keys() {
            let row = row.map_err(error)?;
            if table == Table::Bridges && row.first() == Some(&key::LIST_CHUNK) {
                continue;
            }
            let (key, 0) = key::unchunk(&row)? else {
                continue;
            };
            if let Some(value) = self.tables.value(table, key)? {
                write(key, &value)?;
            }
        }
        Ok(())
    }

    /// A state leads to the list of its bridge, so that both are of the same page.
    fn bridge_lines(&self, row: &[u8], value: &[u8], out: &mut dyn Write) -> Result<(), Error> {
        let name = key::bridge_name(row)?;
        let is = |kind| row.starts_with(&key::bridge_prefix(kind));
        if is(BridgeRow::State) {
            let state: BridgeState = codec::decode_state(value)?;
            line(out, &json!({ "state": { "bridge": &*name, "state": state } }))
        } else if is(BridgeRow::Progress) {
            let progress: Progress = codec::decode_json(value)?;
            line(out, &json!({ "progress": { "bridge": &*name, "progress": progress } }))
        } else if is(BridgeRow::Hold) {
            let hold: Hold = codec::decode_json(value)?;
            line(out, &json!({ "hold": { "bridge": &*name, "hold": hold } }))
        } else {
            for id in codec::decode_manifest(value)? {
                let mut entries = Vec::new();
                let chunk = self.tables.row(Table::Bridges, &key::list_chunk(&name, id))?;
                let chunk =
                    chunk.ok_or_else(|| Error::Damaged(format!("chunk {id} of the list of {name} is missing")))?;
                codec::decode_entries(&chunk, &mut entries)?;
                let entries: Vec<_> = entries.iter().map(|e| [e.key, e.raw, e.canonical]).collect();
                line(out, &json!({ "list": { "bridge": &*name, "entries": entries } }))?;
            }
            Ok(())
        }
    }
}

fn record_line(key: &[u8], value: &[u8], out: &mut dyn Write) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        record: Row<'a>,
    }
    #[derive(Serialize)]
    struct Row<'a> {
        bridge: &'a str,
        key: &'a str,
        hashes: [crate::model::Hash; 3],
        seen: crate::model::Timestamp,
        body: Body<'a>,
    }
    let (bridge, hash) = key::parse_record(key)?;
    let Record { entry, key, seen, body } = codec::decode_record(hash, value)?;
    let hashes = [entry.key, entry.raw, entry.canonical];
    line(out, &Line { record: Row { bridge: &bridge, key: &key, hashes, seen, body: Body::of(&body) } })
}

fn event_lines(key: &[u8], value: &[u8], out: &mut dyn Write) -> Result<(), Error> {
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
        at: crate::model::Timestamp,
        body: Body<'a>,
        deliveries: Vec<(&'a str, Contents<'a>)>,
    }
    let pack = key::parse_pack(key)?;
    for (index, event) in codec::decode_pack(value)?.iter().enumerate() {
        let Event { id, bridge, sequence, kind, key, at, body, deliveries } = event;
        let deliveries = deliveries.iter().map(|d| (&*d.endpoint, Contents::of(&d.content))).collect();
        let (position, body) = ((pack, index), Body::of(body));
        let row = Row { position, id: *id, bridge, sequence: *sequence, kind, key, at: *at, body, deliveries };
        line(out, &Line { event: row })?;
    }
    Ok(())
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

fn queue_lines(key: &[u8], value: &[u8], out: &mut dyn Write) -> Result<(), Error> {
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
    match key::parse_queue(key)? {
        key::QueueKey::Remade { endpoint, position } => {
            let content = codec::decode_content(value)?;
            let position = (position.pack, position.index);
            line(out, &Line { remade: Row { endpoint: &endpoint, position, content: Contents::of(&content) } })
        }
        key::QueueKey::Deliveries { endpoint, pack } => {
            for entry in codec::decode_queue(value)? {
                let remade = match entry.remade {
                    Remade::No => "no",
                    Remade::NoDead => "no-dead",
                    Remade::Yes => "yes",
                    Remade::YesDead => "yes-dead",
                };
                let delivery = json!({
                    "endpoint": &*endpoint, "position": [pack, entry.index], "state": entry.state,
                    "attempts": entry.attempts, "refusals": entry.refusals, "due": entry.due,
                    "replay": entry.replay, "lane": entry.lane, "remade": remade,
                });
                line(out, &json!({ "delivery": delivery }))?;
            }
            Ok(())
        }
    }
}

/// How many lines were written: the last one says it, so that a backup that was cut off is no backup.
struct Counted<'a> {
    out: io::BufWriter<&'a mut dyn Write>,
    lines: u64,
}

impl Write for Counted<'_> {
    /// Only `line` writes, and each time one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.out.write_all(line)?;
        self.lines += 1;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn line<T: Serialize>(out: &mut dyn Write, value: &T) -> Result<(), Error> {
    let mut json = serde_json::to_vec(value).map_err(|e| Error::Io(format!("failed to encode an export: {e}")))?;
    json.push(b'\n');
    out.write_all(&json).map_err(|e| io_error("writing the export", &e))
}
