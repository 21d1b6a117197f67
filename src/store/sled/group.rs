//! A group of writes before it is applied: what it changes lies over what is stored, so that each write sees those
//! before it, and one that fails takes back only its own changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::sled::IVec;

use super::{
    redo::Redo,
    tables::{PerTable, Rows, Table, Tables},
};
use crate::{
    model::Name,
    store::{
        Error, Op, Written,
        codec::{self, Counters, EndpointName, Stage, key},
    },
};

/// How far packs were looked at, for each time that they are kept.
#[derive(Debug, Clone, Default)]
pub struct Cursors {
    pub(super) at: BTreeMap<Duration, u64>,
    /// For how long each endpoint keeps its events, and the others, when they were looked at.
    kept: Arc<(Vec<(Name, Duration)>, Duration)>,
}

impl Cursors {
    /// Where some events are kept for another time now, all are looked at from the start: a cursor may have passed over those that
    /// belong to it now.
    pub fn keep(&mut self, keep: &[(Name, Duration)], default_keep: Duration) {
        if self.kept.0 != keep || self.kept.1 != default_keep {
            *self = Self { at: BTreeMap::new(), kept: Arc::new((keep.to_vec(), default_keep)) };
        }
    }

    /// A pack is delivered that was passed over, maybe.
    pub fn settled(&mut self, pack: u64) {
        for cursor in self.at.values_mut() {
            *cursor = (*cursor).min(pack);
        }
    }
}

/// How far a piece has come that looks at rows which stay. In memory only: the next life begins it again.
pub(super) struct Looked {
    pub(super) piece: Vec<u8>,
    pub(super) row: Vec<u8>,
}

/// A row's new value, or that it goes.
type Change = Option<Vec<u8>>;

/// The changes so far.
pub struct Group<'a> {
    pub(super) tables: &'a Tables,
    changes: PerTable<BTreeMap<Vec<u8>, Change>>,
    /// Of the current write: what its changes replaced, to be put back in reverse order.
    undo: Vec<(Table, Vec<u8>, Option<Change>)>,
    pub counters: Counters,
    /// Commits that are written ahead.
    pub stages: Vec<Stage>,
    pub sweep: Cursors,
    pub looked: Option<Looked>,
    /// How many more deliveries of an endpoint are dead; `None` where they are to be counted again.
    pub dead: BTreeMap<Name, Option<i64>>,
    /// Those of every endpoint are to be counted again.
    pub recount_all: bool,
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
    pub fn new(tables: &'a Tables, counters: Counters, stages: Vec<Stage>) -> Self {
        let (changes, undo, sweep, looked, dead) = Default::default();
        Self { tables, changes, undo, counters, stages, sweep, looked, dead, recount_all: false }
    }

    /// One write, whole or not at all.
    pub fn apply(&mut self, op: Op) -> Result<Written, Error> {
        self.try_one(|group| group.op(op))
    }

    pub fn apply_work(&mut self) -> Result<bool, Error> {
        self.try_one(Self::slice_of_work)
    }

    fn try_one<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.undo.clear();
        let (counters, stages, dead) = (self.counters, self.stages.clone(), self.dead.clone());
        let result = write(self);
        if result.is_err() {
            for (table, row, before) in std::mem::take(&mut self.undo).into_iter().rev() {
                match before {
                    Some(change) => self.changes.get_mut(table).insert(row, change),
                    None => self.changes.get_mut(table).remove(&row),
                };
            }
            (self.counters, self.stages, self.dead) = (counters, stages, dead);
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
                let known = self.endpoint_name(&endpoint)?.unwrap_or_default();
                self.put_endpoint_name(&endpoint, &EndpointName { state: Some(state), ..known })?;
                Ok(Written::Done)
            }
            Op::Reset(reset, events) => {
                self.put(Table::Meta, super::META_RESET, &codec::encode_json(&reset)?)?;
                self.queue(&events).map(Written::Queued)
            }
            Op::Stage(bridge) => self.begin_stage(&bridge),
            Op::Ahead(ahead) => self.write_ahead(*ahead),
            Op::Abandon(stage) => self.abandon(stage).map(|()| Written::Done),
            Op::Sweep { now, keep, default_keep, limit } => self.sweep(now, &keep, default_keep, limit),
            Op::Rename { from, to } => self.rename_endpoint(&from, &to),
            Op::Forget(endpoint) => self.forget_endpoint(&endpoint),
            Op::RenameBridge { from, to } => self.rename_bridge(&from, &to),
            Op::ForgetBridge(bridge) => self.forget_bridge(&bridge),
        }
    }

    /// Whether a pack is not seen yet.
    pub(super) fn is_ahead(&self, pack: u64) -> bool {
        codec::is_ahead(&self.stages, pack)
    }

    pub(super) fn count_dead(&mut self, endpoint: &Name, more: i64) {
        if let Some(count) = self.dead.entry(endpoint.clone()).or_insert(Some(0)) {
            *count += more;
        }
    }

    /// The dead deliveries of an endpoint are to be counted again.
    pub(super) fn recount(&mut self, endpoint: &Name) {
        self.dead.insert(endpoint.clone(), None);
    }

    /// The rows that it changes.
    pub fn changed(&self) -> impl Iterator<Item = (Table, &[u8])> {
        self.changes.iter().flat_map(|(table, changes)| changes.keys().map(move |row| (table, row.as_slice())))
    }

    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|(_, changes)| changes.is_empty())
    }

    /// All that it writes, by table. Each table's last row says which group changed it, and
    /// the counters what each of them must say: half a group is found by it.
    pub fn rows(&mut self) -> Result<Redo, Error> {
        self.counters.groups += 1;
        let group = self.counters.groups;
        for table in Table::ALL {
            if table == Table::Meta || !self.changes.get(table).is_empty() {
                self.put(table, key::GROUP, &codec::encode_number(group))?;
                if let Some(changed) = self.counters.changed.get_mut(table.index()) {
                    *changed = group;
                }
            }
        }
        self.put(Table::Meta, super::META_COUNTERS, &codec::encode_counters(self.counters))?;
        let rows = Table::ALL.into_iter().filter_map(|table| {
            let changes = std::mem::take(self.changes.get_mut(table));
            let rows = changes.into_iter().map(|(row, change)| (row.into(), change.map(IVec::from)));
            (rows.len() > 0).then(|| (table, rows.collect()))
        });
        let rows = rows.collect();
        Ok(Redo { group, rows })
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
