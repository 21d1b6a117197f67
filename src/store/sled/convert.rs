//! A store of format 1 becomes one of this format: exported as JSON lines first, which stay as a backup, and read back beside
//! it; then it takes its place. Whatever ends in between, the old one is found whole and the conversion begins again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ::sled::Db;

use super::{
    FORMAT, META_COUNTERS, META_EPOCH, META_STREAM, SledEngine,
    export::Lines,
    files::{self, DATABASE},
    place::{CONVERT, clear, replace},
    room,
    tables::{Rows, Table, Tables, error, io_error},
};
use crate::store::{
    Attempt, EndpointState, Error, Hold, Progress,
    codec::{self, Counters, format1, key},
};

/// Of the old database, at the least: the lines, and the new database.
const ROOM: u64 = 3;

pub(super) fn convert(dir: &Path, cache_bytes: u64, from: u64, (db, tables): (Db, Tables)) -> Result<(), Error> {
    let failed = |e: io::Error| io_error("bringing the store to a newer format", &e);
    let bytes = files::size_bytes(&dir.join(DATABASE)).map_err(failed)?;
    room::require(dir, "the store, which is brought to a newer format,", ROOM * bytes)?;
    tracing::info!(from, to = FORMAT, bytes, "the store is brought to a newer format");
    let old = Old(&tables);
    let path = dir.join(format!("export-format-{from}-before-{FORMAT}.jsonl"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    old.export(from, &mut file)?;
    file.sync_all().map_err(failed)?;
    let work = dir.join(CONVERT);
    clear(&work).map_err(failed)?;
    let mut lines = BufReader::new(File::open(&path).map_err(failed)?);
    SledEngine::fill(&work, cache_bytes, &mut lines)?;
    let new = SledEngine::open(&work, cache_bytes)?;
    let counters = old.counters()?;
    let epoch = tables.value(Table::Meta, META_EPOCH)?.map_or(Ok(0), |value| codec::decode_number(&value))?;
    new.succeed(&old.stream()?, epoch, counters, None)?;
    drop((new, tables, db));
    replace(dir, &work.join(DATABASE)).map_err(failed)?;
    clear(&work).map_err(failed)?;
    fs::metadata(&path).map(drop).map_err(failed)
}

/// A store of format 1, to be read.
struct Old<'a>(&'a Tables);

impl Old<'_> {
    fn stream(&self) -> Result<String, Error> {
        let value = self.0.value(Table::Meta, META_STREAM)?.unwrap_or_default();
        String::from_utf8(value).map_err(|_| Error::Damaged("the store's name is not UTF-8".into()))
    }

    fn counters(&self) -> Result<Counters, Error> {
        let value = self.0.value(Table::Meta, META_COUNTERS)?;
        value.map_or(Ok(Counters::default()), |value| format1::decode_counters(&value))
    }

    fn export(&self, format: u64, out: &mut dyn io::Write) -> Result<(), Error> {
        let format = u32::try_from(format).unwrap_or(u32::MAX);
        let mut lines = Lines::begin(out, format, &self.stream()?)?;
        let lines = &mut lines;
        self.each(Table::Bridges, |row, value| self.bridge(row, value, lines))?;
        self.each(Table::Records, |key, value| {
            let (bridge, hash) = format1::parse_record(key)?;
            lines.record(&bridge, &codec::decode_record(hash, value)?)
        })?;
        self.each(Table::Endpoints, |key, value| {
            let state: EndpointState = codec::decode_json(value)?;
            lines.endpoint(&format1::parse_endpoint(key)?, &state)
        })?;
        self.each(Table::Events, |key, value| {
            lines.events(key::parse_pack(key)?, &codec::decode_pack_of_format_1(value)?)
        })?;
        self.each(Table::Queue, |key, value| {
            let (endpoint, position, remade) = format1::parse_queue(key)?;
            if remade {
                return lines.remade(&endpoint, position, &codec::decode_content(value)?);
            }
            codec::decode_queue_of_format_1(value)?
                .iter()
                .try_for_each(|entry| lines.delivery(&endpoint, position.pack, entry))
        })?;
        self.each(Table::Attempts, |_, value| {
            let attempt: Attempt = codec::decode_attempt(value)?;
            lines.line(&serde_json::json!({ "attempt": attempt }))
        })?;
        lines.finish()
    }

    /// Every value of a table, with its key without the chunk number.
    fn each(&self, table: Table, mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        for row in self.0.get(table).iter().keys() {
            let row = row.map_err(error)?;
            // Chunks of lists are rows and no values: a manifest leads to them.
            if table == Table::Bridges && row.first() == Some(&format1::LIST_CHUNK) {
                continue;
            }
            let (key, 0) = key::unchunk(&row)? else { continue };
            if let Some(value) = self.0.value(table, key)? {
                see(key, &value)?;
            }
        }
        Ok(())
    }

    fn bridge(&self, key: &[u8], value: &[u8], lines: &mut Lines<'_>) -> Result<(), Error> {
        let (tag, name) = format1::parse_bridge(key)?;
        match tag {
            b's' => lines.state(&name, &format1::decode_state(value)?),
            b'p' => lines.progress(&name, &codec::decode_json::<Progress>(value)?),
            b'h' => lines.hold(&name, &codec::decode_json::<Hold>(value)?),
            _ => {
                for id in codec::decode_manifest(value)? {
                    let chunk = self.0.row(Table::Bridges, &format1::list_chunk(&name, id))?;
                    let missing = || Error::Damaged(format!("chunk {id} of the list of {name} is missing"));
                    lines.list(&name, &chunk.ok_or_else(missing)?)?;
                }
                Ok(())
            }
        }
    }
}
