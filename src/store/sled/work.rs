//! What is done in the background after a small write has switched something large: a slice at a time, across restarts. Each
//! piece is a row until nothing of it is left, and whoever does a slice twice does no harm.

use std::{collections::BTreeSet, ops::Bound};

use super::{
    group::{Group, Looked},
    tables::{ANY_STATE, Rows, Table, error},
};
use crate::{
    model::Hash,
    store::{
        Error,
        codec::{self, State, Work, key, key::BridgeRow},
    },
};

/// Rows of one slice, and bytes: what the writer does at once.
const ROWS_MAX: usize = 2_000;
const BYTES_MAX: usize = 2 << 20;
/// Chunks of a list that a slice looks at: their pages are read for it.
const CHUNKS_MAX: usize = 300;
/// What the rows of pieces of work begin with, in the tree of meta.
const WORK: &[u8] = b"work/";

pub(super) fn key(number: u64) -> Vec<u8> {
    [WORK, &number.to_be_bytes()].concat()
}

/// How a slice ended.
enum Slice {
    /// Something is left.
    More,
    Done,
    /// It has to wait for a stage of its bridge.
    Waits,
}

impl Group<'_> {
    /// A slice of the first piece of work that can be done; whether anything is left to do.
    pub(super) fn slice_of_work(&mut self) -> Result<bool, Error> {
        let rows = self.tables.get(Table::Meta).scan_prefix(WORK);
        for row in rows.keys() {
            let row = row.map_err(error)?;
            let (key, 0) = key::unchunk(&row)? else { continue };
            let Some(value) = self.value(Table::Meta, key)? else { continue };
            let done = match codec::decode_json(&value)? {
                Work::Layer(layer) => self.drop_rows(Table::Records, &key::records(layer))?,
                Work::Queue(endpoint) => self.drop_rows(Table::Queue, &key::queues(endpoint))?,
                Work::Chunks(bridge) => self.drop_chunks(key, bridge)?,
                Work::Stage(stage) => self.drop_stage(stage)?,
                Work::Merge(bridge) => self.merge(bridge)?,
            };
            match done {
                Slice::More => return Ok(true),
                Slice::Waits => {}
                Slice::Done => {
                    self.remove(Table::Meta, key)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn drop_rows(&mut self, table: Table, prefix: &[u8]) -> Result<Slice, Error> {
        let mut dropped = 0;
        for row in self.tables.get(table).scan_prefix(prefix).keys() {
            self.change(table, row.map_err(error)?.to_vec(), None);
            dropped += 1;
            if dropped == ROWS_MAX {
                return Ok(Slice::More);
            }
        }
        Ok(Slice::Done)
    }

    /// Those that no list names. Each slice looks at the manifest as it is then, and a commit writes again what it needs again.
    fn drop_chunks(&mut self, piece: &[u8], bridge: u64) -> Result<Slice, Error> {
        if self.stages.iter().any(|stage| stage.bridge == bridge) {
            return Ok(Slice::Waits);
        }
        let named: BTreeSet<Hash> = self.manifest(bridge)?.into_iter().collect();
        let all = key::list_chunks(bridge);
        let after = self.looked.take().filter(|looked| looked.piece == piece).map(|looked| looked.row);
        let from = after.map_or(Bound::Included(all.clone()), Bound::Excluded);
        let rows = self.tables.get(Table::Bridges).range((from, Bound::Unbounded)).keys();
        for (count, row) in (1..).zip(rows) {
            let row = row.map_err(error)?;
            if !row.starts_with(&all) {
                break;
            }
            if !named.contains(&key::parse_list_chunk(&row)?) {
                self.change(Table::Bridges, row.to_vec(), None);
            }
            if count == CHUNKS_MAX {
                self.looked = Some(Looked { piece: piece.to_vec(), row: row.to_vec() });
                return Ok(Slice::More);
            }
        }
        Ok(Slice::Done)
    }

    fn drop_stage(&mut self, number: u64) -> Result<Slice, Error> {
        let stage = self.stages.iter().find(|stage| stage.number == number);
        for (from, to) in stage.map(|stage| stage.packs.clone()).unwrap_or_default() {
            if matches!(self.drop_packs(from, to)?, Slice::More) {
                return Ok(Slice::More);
            }
        }
        self.forget_stage(number)?;
        Ok(Slice::Done)
    }

    fn drop_packs(&mut self, from: u64, to: u64) -> Result<Slice, Error> {
        let mut dropped = 0;
        let range = key::chunk(&key::pack(from), 0)..key::chunk(&key::pack(to), 0);
        for row in self.tables.get(Table::Events).range(range).keys() {
            let row = row.map_err(error)?;
            let (key, 0) = key::unchunk(&row)? else { continue };
            let Some(value) = self.value(Table::Events, key)? else { continue };
            let pack = key::parse_pack(key)?;
            for endpoint in codec::decode_pack_header(&value)?.endpoints {
                self.forget_deliveries(endpoint, pack, ANY_STATE)?;
                dropped += 1;
            }
            self.remove(Table::Events, key)?;
            dropped += 1;
            if dropped >= ROWS_MAX {
                return Ok(Slice::More);
            }
        }
        Ok(Slice::Done)
    }

    /// Moves records of the second layer to the lowest, where they replace those of the same keys.
    fn merge(&mut self, bridge: u64) -> Result<Slice, Error> {
        let Some(State { mut layers, state }) = self.state(bridge)? else { return Ok(Slice::Done) };
        let [lowest, upper, ..] = layers[..] else { return Ok(Slice::Done) };
        let (mut moved, mut bytes) = (0, 0);
        for row in self.tables.get(Table::Records).scan_prefix(key::records(upper)).keys() {
            let row = row.map_err(error)?;
            let (key, 0) = key::unchunk(&row)? else { continue };
            let (_, hash) = key::parse_record(key)?;
            if let Some(value) = self.value(Table::Records, key)? {
                let below = key::record(lowest, hash);
                if value == codec::TOMBSTONE {
                    self.remove(Table::Records, &below)?;
                } else {
                    self.put(Table::Records, &below, &value)?;
                }
                bytes += value.len();
            }
            self.remove(Table::Records, key)?;
            moved += 1;
            if 2 * moved >= ROWS_MAX || bytes >= BYTES_MAX {
                return Ok(Slice::More);
            }
        }
        layers.remove(1);
        let row = key::bridge(BridgeRow::State, bridge);
        let more = layers.len() > 1;
        self.put(Table::Bridges, &row, &codec::encode_state(&State { layers, state })?)?;
        Ok(if more { Slice::More } else { Slice::Done })
    }
}
