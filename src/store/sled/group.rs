//! A group of writes before it is applied: what it changes lies over what is stored, so that each write sees those
//! before it, and one that fails takes back only its own changes.

use std::collections::BTreeMap;

use ::sled::{Batch, IVec};

use super::tables::{PerTable, Rows, Table, Tables};
use crate::{
    model::Name,
    store::{
        Error, Op, Written,
        codec::{self, Counters, key},
    },
};

/// A row's new value, or that it goes.
type Change = Option<Vec<u8>>;

/// The changes so far.
pub struct Group<'a> {
    pub(super) tables: &'a Tables,
    changes: PerTable<BTreeMap<Vec<u8>, Change>>,
    /// Of the current write: what its changes replaced, to be put back in reverse order.
    undo: Vec<(Table, Vec<u8>, Option<Change>)>,
    pub counters: Counters,
    /// How many more deliveries of an endpoint are dead.
    pub dead: BTreeMap<Name, i64>,
    /// The pack at which the next sweep begins.
    pub sweep_from: u64,
}

impl Rows for Group<'_> {
    fn row(&self, table: Table, row: &[u8]) -> Result<Option<IVec>, Error> {
        match self.changes.get(table).get(row) {
            Some(change) => Ok(change.as_deref().map(IVec::from)),
            None => self.tables.row(table, row),
        }
    }
}

impl<'a> Group<'a> {
    pub fn new(tables: &'a Tables, counters: Counters, sweep_from: u64) -> Self {
        let changes = PerTable::default();
        Self { tables, changes, undo: Vec::new(), counters, dead: BTreeMap::new(), sweep_from }
    }

    /// One write, whole or not at all.
    pub fn apply(&mut self, op: Op) -> Result<Written, Error> {
        self.undo.clear();
        let (counters, dead) = (self.counters, self.dead.clone());
        let result = self.op(op);
        if result.is_err() {
            for (table, row, before) in std::mem::take(&mut self.undo).into_iter().rev() {
                match before {
                    Some(change) => self.changes.get_mut(table).insert(row, change),
                    None => self.changes.get_mut(table).remove(&row),
                };
            }
            (self.counters, self.dead) = (counters, dead);
        }
        result
    }

    fn op(&mut self, op: Op) -> Result<Written, Error> {
        match op {
            Op::Commit(commit) => self.commit(*commit),
            Op::Progress(rows) => self.progress(&rows),
            Op::Settle(endpoint, rows) => self.settle(&endpoint, &rows),
            Op::Requeue(endpoint, rows) => self.requeue(&endpoint, &rows),
            Op::Endpoint(endpoint, state) => {
                self.put(Table::Endpoints, &key::endpoint(&endpoint), &codec::encode_json(&state)?)?;
                Ok(Written::Done)
            }
            Op::Reset(reset, events) => {
                self.put(Table::Meta, super::META_RESET, &codec::encode_json(&reset)?)?;
                self.events(&events).map(Written::Queued)
            }
            Op::Sweep { before, default_before, limit } => self.sweep(&before, default_before, limit),
            Op::Rename { from, to, limit } => self.rename(&from, &to, limit),
            Op::RenameBridge { from, to, limit } => self.rename_bridge(&from, &to, limit),
            Op::ForgetBridge { bridge, limit } => self.forget_bridge(&bridge, limit),
            Op::Forget { endpoint, limit } => self.forget_endpoint(&endpoint, limit),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|(_, changes)| changes.is_empty())
    }

    /// One batch for each table that changes, and the number of rows.
    pub fn batches(&mut self) -> (Vec<(Table, Batch)>, u64) {
        let mut rows = 0;
        let batches = Table::ALL.into_iter().filter_map(|table| {
            let changes = std::mem::take(self.changes.get_mut(table));
            if changes.is_empty() {
                return None;
            }
            rows += u64::try_from(changes.len()).expect("a usize has at most 64 bits");
            let mut batch = Batch::default();
            for (row, change) in changes {
                match change {
                    Some(value) => batch.insert(row, value),
                    None => batch.remove(row),
                }
            }
            Some((table, batch))
        });
        (batches.collect(), rows)
    }

    pub(super) fn change(&mut self, table: Table, row: Vec<u8>, change: Change) {
        let before = self.changes.get_mut(table).insert(row.clone(), change);
        self.undo.push((table, row, before));
    }

    /// Writes a value, and removes the rows that a longer one before it had.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let before = self.chunks(table, key)?;
        let after = self.put_new(table, key, value)?;
        self.remove_chunks(table, key, after..before);
        Ok(())
    }

    /// Writes a value where none was; the number of its rows.
    pub fn put_new(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<u16, Error> {
        let rows = codec::split(value)?;
        let count = u16::try_from(rows.len()).expect("split checked it");
        for (number, row) in (0..count).zip(rows) {
            self.change(table, key::chunk(key, number), Some(row));
        }
        Ok(count)
    }

    pub fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        let before = self.chunks(table, key)?;
        self.remove_chunks(table, key, 0..before);
        Ok(())
    }

    fn chunks(&self, table: Table, key: &[u8]) -> Result<u16, Error> {
        self.first(table, key)?.map_or(Ok(0), |first| codec::chunk_count(&first))
    }

    fn remove_chunks(&mut self, table: Table, key: &[u8], numbers: std::ops::Range<u16>) {
        for number in numbers {
            self.change(table, key::chunk(key, number), None);
        }
    }
}
