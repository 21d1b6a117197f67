//! One state of the store, for a reader that takes long: what is changed meanwhile is kept as it was, so that nobody waits.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use ::sled::IVec;

use super::{
    SledEngine,
    tables::{PerTable, Rows, Table, error},
};
use crate::store::{Error, codec::key};

/// A row's key, with its chunk number.
type RowKey = Vec<u8>;

/// Rows of one page.
const PAGE: usize = 256;
/// Old rows that one reader may make the store keep.
const KEPT_BYTES_MAX: usize = 256 << 20;

/// Rows as they were when the state was frozen, of those that were changed since; `None` was not there.
#[derive(Default)]
struct FrozenRows {
    rows: PerTable<BTreeMap<Vec<u8>, Option<IVec>>>,
    bytes: usize,
}

/// A frozen state, for as long as it is held.
pub struct Frozen<'a> {
    engine: &'a SledEngine,
    kept: Arc<Mutex<FrozenRows>>,
}

/// The frozen states that somebody holds.
#[derive(Default)]
pub struct Readers(Mutex<Vec<Weak<Mutex<FrozenRows>>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readers {
    /// Whether rows have to be kept before they are changed.
    pub fn any(&self) -> bool {
        let mut readers = lock(&self.0);
        readers.retain(|reader| reader.strong_count() > 0);
        !readers.is_empty()
    }

    /// Keeps a row as it is, for those that have not kept it yet.
    pub fn keep(&self, rows: &impl Rows, table: Table, row: &[u8]) -> Result<(), Error> {
        for reader in lock(&self.0).iter().filter_map(Weak::upgrade) {
            let mut kept = lock(&reader);
            if kept.bytes <= KEPT_BYTES_MAX && !kept.rows.get(table).contains_key(row) {
                let value = rows.row(table, row)?;
                kept.bytes += row.len() + value.as_ref().map_or(0, |value| value.len());
                kept.rows.get_mut(table).insert(row.to_vec(), value);
            }
        }
        Ok(())
    }
}

impl SledEngine {
    /// The state between two groups of writes.
    pub(super) fn freeze(&self) -> Result<Frozen<'_>, Error> {
        let kept = Arc::new(Mutex::new(FrozenRows::default()));
        let _between = self.gate.write().map_err(|_| super::read::poisoned())?;
        lock(&self.readers.0).push(Arc::downgrade(&kept));
        Ok(Frozen { engine: self, kept })
    }
}

impl Rows for Frozen<'_> {
    fn row(&self, table: Table, row: &[u8]) -> Result<Option<IVec>, Error> {
        match self.kept()?.rows.get(table).get(row) {
            Some(kept) => Ok(kept.clone()),
            None => self.engine.tables.row(table, row),
        }
    }
}

impl Frozen<'_> {
    fn kept(&self) -> Result<MutexGuard<'_, FrozenRows>, Error> {
        let kept = lock(&self.kept);
        if kept.bytes > KEPT_BYTES_MAX {
            let why = "more was changed meanwhile than can be kept as it was: try again when less goes on, or stop the daemon";
            return Err(Error::TooLarge(why.into()));
        }
        Ok(kept)
    }

    /// The values of a prefix in order, with their keys.
    pub fn each(
        &self,
        table: Table,
        prefix: &[u8],
        mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut from = Bound::Included(prefix.to_vec());
        loop {
            let (page, last) = self.page(table, prefix, from)?;
            for row in page {
                if let (key, 0) = key::unchunk(&row)?
                    && key != key::GROUP
                    && let Some(value) = self.value(table, key)?
                {
                    see(key, &value)?;
                }
            }
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(()),
            }
        }
    }

    /// The next rows of a prefix, and where to go on.
    fn page(&self, table: Table, prefix: &[u8], from: Bound<Vec<u8>>) -> Result<(Vec<RowKey>, Option<RowKey>), Error> {
        let _gate = self.engine.reading()?;
        let mut rows: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        let mut last = None;
        for row in self.engine.tables.get(table).range((from.clone(), Bound::Unbounded)).keys() {
            let row = row.map_err(error)?;
            if !row.starts_with(prefix) {
                break;
            }
            rows.insert(row.to_vec(), true);
            if rows.len() == PAGE {
                last = Some(row.to_vec());
                break;
            }
        }
        let until = last.clone().map_or(Bound::Unbounded, Bound::Included);
        let kept = self.kept()?;
        for (row, value) in kept.rows.get(table).range((from, until)) {
            if row.starts_with(prefix) {
                rows.insert(row.clone(), value.is_some());
            }
        }
        let there = rows.into_iter().filter_map(|(row, there)| there.then_some(row));
        Ok((there.collect(), last))
    }
}
