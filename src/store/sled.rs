//! The engine on one disk: sled, used in the few ways that were measured to be safe.
//!
//! One write is one group: one transaction over all trees, `flush`, `sync_all` on the database's file (sled's flush
//! alone is not durable across a power cut), and only then an answer. A transaction or a sync that fails ends the process:
//! sled, dropped in good order, would make durable what it had begun, and what reads back after a failed sync may not be on
//! the disk. The next opening finds the state before or after, whole.
//!
//! Beside the database lie `owner`, which is locked while the store is open, and `mark`, the number of the last group
//! that was acknowledged: sled cuts a damaged file back to what it can read and says nothing, and only the mark tells.

mod ahead;
mod compact;
mod convert;
mod export;
mod files;
mod freeze;
mod group;
pub mod import;
mod lent;
mod mark;
mod names;
mod open;
mod ops;
mod place;
mod read;
mod redo;
mod room;
mod rouse;
mod sweep;
mod tables;
mod work;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use ::sled::Db;

pub use self::lent::Lent;
use self::{
    freeze::Readers,
    group::{Cursors, Group, Looked},
    mark::Mark,
    redo::Redo,
    room::Room,
    rouse::Rouse,
    tables::{Rows, Table, Tables, io_error},
};
use super::{
    Attempt, EndpointState, Engine, Error, EventFilter, Hold, Lease, List, Loaded, Op, Outgoing, Position, Reset,
    StoredEvent, Waiting, Written,
    codec::{self, Counters, Stage},
};
use crate::{
    failpoint,
    model::{Entry, EventId, Hash, Name, Record},
    telemetry::kind,
};

/// What this code reads and writes.
pub const FORMAT: u32 = 2;

const META_FORMAT: &[u8] = b"format";
const META_STREAM: &[u8] = b"stream";
const META_EPOCH: &[u8] = b"epoch";
const META_COUNTERS: &[u8] = b"counters";
/// Why the stream is another than before, until there is another reason.
const META_RESET: &[u8] = b"reset";
/// Commits that are written ahead.
const META_STAGES: &[u8] = b"stages";

/// An open store.
pub struct SledEngine {
    // First, since its thread has the database too.
    rouse: Rouse,
    // Before the lock, so that the database is closed when that is given back.
    db: Db,
    tables: Tables,
    dir: PathBuf,
    stream: Name,
    /// `sled/db`, for syncing.
    file: File,
    mark: Mark,
    room: Room,
    /// Held by a write from its transaction to the end of its sync. The commits that are written ahead, of which no reader sees
    /// anything.
    gate: RwLock<Vec<Stage>>,
    writer: Mutex<WriterState>,
    readers: Readers,
    dead: Mutex<DeadRows>,
    syncs: AtomicU64,
    rows: AtomicU64,
    /// Locked as long as it is open.
    _owner: File,
}

/// Dead deliveries, of the endpoints that were asked for.
#[derive(Default)]
struct DeadRows {
    counts: BTreeMap<Name, u64>,
    /// How often some were added or taken away.
    changes: u64,
}

#[derive(Default)]
struct WriterState {
    sweep: Cursors,
    looked: Option<Looked>,
}

/// At which step applying a group failed.
enum GroupFailure {
    Transaction(Error),
    Sync(Error),
}

impl SledEngine {
    /// Opens or creates the store in a state directory.
    ///
    /// - `Locked`: another process has it.
    /// - `Damaged`: something is missing, or unreadable; the directory is left as it was.
    /// - `Format`: a newer bellpull wrote it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Error> {
        open::open(dir, cache_bytes)
    }

    /// Whether a state directory has a store, also one that a compaction was about to replace.
    pub fn is_in(dir: &Path) -> bool {
        place::STORE.into_iter().any(|name| dir.join(name).exists())
    }

    /// Rows that were written or removed since the store was opened.
    pub fn rows_written(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// The longest row, which must stay under 8 KiB; for tests, since it reads everything.
    pub fn longest_row(&self) -> Result<usize, Error> {
        let _gate = self.reading()?;
        let mut longest = 0;
        for (_, tree) in self.tables.iter() {
            for row in tree.iter() {
                longest = longest.max(row.map_err(tables::error)?.1.len());
            }
        }
        Ok(longest)
    }

    fn reading(&self) -> Result<RwLockReadGuard<'_, Vec<Stage>>, Error> {
        self.gate.read().map_err(|_| read::poisoned())
    }

    fn counters(&self) -> Result<Counters, Error> {
        match self.tables.value(Table::Meta, META_COUNTERS)? {
            Some(value) => codec::decode_counters(&value),
            None => Ok(Counters::default()),
        }
    }

    fn epoch(&self) -> Result<u64, Error> {
        self.tables.value(Table::Meta, META_EPOCH)?.map_or(Ok(0), |value| codec::decode_number(&value))
    }

    /// Makes a group durable, or ends the process.
    fn apply(&self, mut group: Group<'_>) -> Result<(), Error> {
        // From before the gate: a reader may wait within sled with it in his hand.
        let _under_way = self.rouse.begin();
        let mut gate = self.gate.write().map_err(|_| read::poisoned())?;
        if self.readers.any() {
            group.changed().try_for_each(|(table, row)| self.readers.keep(&self.tables, table, row))?;
        }
        let group_rows = group.rows()?;
        let panicked = |_| Err(GroupFailure::Transaction(Error::Io("the database panicked while writing".into())));
        match catch_unwind(AssertUnwindSafe(|| self.write_rows(&group_rows.rows))).unwrap_or_else(panicked) {
            Ok(()) => {}
            Err(GroupFailure::Transaction(error) | GroupFailure::Sync(error)) if failpoint::is_on("drop-engine") => {
                return Err(error);
            }
            Err(GroupFailure::Transaction(_) | GroupFailure::Sync(_)) if failpoint::is_on("swallow-enospc") => {}
            Err(failure) => self.end(&failure, &group_rows),
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let rows: usize = group_rows.rows.iter().map(|(_, rows)| rows.len()).sum();
        self.rows.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
        // Not synced, and its failure is none: an older mark only notices less.
        let _ = self.mark.write(group.counters.groups);
        let mut dead = self.dead.lock().map_err(|_| read::poisoned())?;
        dead.changes += u64::from(group.recount_all || !group.dead.is_empty());
        if group.recount_all {
            dead.counts.clear();
        }
        for (endpoint, more) in &group.dead {
            match (more, dead.counts.get_mut(endpoint)) {
                (Some(more), Some(count)) => *count = count.saturating_add_signed(*more),
                _ => drop(dead.counts.remove(endpoint)),
            }
        }
        *gate = group.stages;
        Ok(())
    }

    fn write_rows(&self, rows: &[redo::Rows]) -> Result<(), GroupFailure> {
        if failpoint::is_on("deliver-before-sync") {
            // The group before this one.
            self.sync()?;
        }
        redo::write(&self.tables, rows).map_err(GroupFailure::Transaction)?;
        if failpoint::is_on("deliver-before-sync") || failpoint::is_on("skip-sync") { Ok(()) } else { self.sync() }
    }

    fn sync(&self) -> Result<(), GroupFailure> {
        // Never `flush_async`, which hung, and never inside of the transaction.
        self.db.flush().map_err(|e| GroupFailure::Sync(tables::error(e)))?;
        self.file.sync_all().map_err(|e| GroupFailure::Sync(io_error("syncing the database", &e)))
    }

    /// Ends the process at once. No destructor may run: sled would write what it has begun of the group, and sync it.
    fn end(&self, failure: &GroupFailure, group: &Redo) -> ! {
        let (what, error) = match failure {
            GroupFailure::Transaction(error) => ("a commit", error),
            GroupFailure::Sync(error) => ("a sync", error),
        };
        // Where there is no room nothing of it was written, and this is not either.
        if matches!(failure, GroupFailure::Transaction(_))
            && let Err(error) = group.keep(&self.dir)
        {
            tracing::error!(%error, "failed to keep the group that failed for the next start");
        }
        // Sled writes back within its transaction, too; what found no room was never written.
        if !matches!(failure, GroupFailure::Transaction(Error::Full(_)))
            && let Err(error) = self.mark.doubt()
        {
            tracing::error!(%error, "failed to note in `mark` that the disk failed");
        }
        tracing::error!(
            message_id = kind::STORE_FAILED,
            %error,
            "{what} of the store failed: the process ends, and the next start finds what was committed before it"
        );
        std::process::abort()
    }

    /// Writes values of the meta table as a group of their own.
    fn put_meta(&self, rows: &[(&[u8], Vec<u8>)]) -> Result<(), Error> {
        let mut group = self.group()?;
        for (key, value) in rows {
            group.put(Table::Meta, key, value)?;
        }
        self.apply(group)
    }

    /// A group over what is stored.
    fn group(&self) -> Result<Group<'_>, Error> {
        Ok(Group::new(&self.tables, self.counters()?, self.reading()?.clone()))
    }

    /// Whether a lease is the one that counts.
    fn check(&self, lease: Lease) -> Result<(), Error> {
        let current = self.epoch()?;
        if lease.epoch == current { Ok(()) } else { Err(Error::Fenced { current, ours: lease.epoch }) }
    }
}

impl Engine for SledEngine {
    fn stream(&self) -> Name {
        self.stream.clone()
    }

    fn claim(&self) -> Result<Lease, Error> {
        let _writer = self.writer.lock().map_err(|_| read::poisoned())?;
        let epoch = self.epoch()? + 1;
        self.put_meta(&[(META_EPOCH, codec::encode_number(epoch))])?;
        Ok(Lease { epoch })
    }

    fn bridges(&self) -> Result<Vec<Loaded>, Error> {
        self.read_bridges()
    }

    fn bridge(&self, name: &str) -> Result<Option<Loaded>, Error> {
        self.read_bridge(name)
    }

    fn list(&self, bridge: &str) -> Result<Vec<Entry>, Error> {
        self.read_list(bridge)
    }

    fn cut(&self, bridge: &str, list: Vec<Entry>) -> Result<List, Error> {
        Ok(List::Cut(codec::against(codec::cut(&list), &self.read_manifest(bridge)?)))
    }

    fn records(&self, bridge: &str, keys: &[Hash]) -> Result<Vec<Option<Record>>, Error> {
        self.read_records(bridge, keys)
    }

    fn scan(&self, bridge: &str, after: Option<Hash>, limit: usize) -> Result<Vec<Record>, Error> {
        self.read_scan(bridge, after, limit)
    }

    fn hold(&self, bridge: &str) -> Result<Option<Hold>, Error> {
        self.read_hold(bridge)
    }

    fn endpoints(&self) -> Result<Vec<(Name, EndpointState)>, Error> {
        self.read_endpoints()
    }

    fn queues(&self) -> Result<Vec<Name>, Error> {
        self.queue_endpoints()
    }

    fn waiting(&self, endpoint: &str) -> Result<Vec<Waiting>, Error> {
        self.read_waiting(endpoint)
    }

    fn dead(&self, endpoint: &str) -> Result<u64, Error> {
        self.read_dead(endpoint)
    }

    fn outgoing(&self, endpoint: &str, position: Position) -> Result<Option<Outgoing>, Error> {
        self.read_outgoing(endpoint, position)
    }

    fn events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, Error> {
        self.read_events(filter)
    }

    fn event(&self, id: EventId) -> Result<Option<StoredEvent>, Error> {
        self.read_event(id)
    }

    fn attempts(&self, wanted: &mut dyn FnMut(&Attempt) -> bool, limit: usize) -> Result<Vec<Attempt>, Error> {
        self.read_attempts(wanted, limit)
    }

    fn write(&self, lease: Lease, ops: Vec<Op>) -> Vec<Result<Written, Error>> {
        let count = ops.len();
        let all = |error: Error| vec![Err(error); count];
        let Ok(mut writer) = self.writer.lock() else {
            return all(read::poisoned());
        };
        let mut group = match self.check(lease).and_then(|()| self.group()) {
            Ok(group) => group,
            Err(error) => return all(error),
        };
        group.sweep = std::mem::take(&mut writer.sweep);
        let mut results: Vec<_> = ops.into_iter().map(|op| group.apply(op)).collect();
        writer.sweep = group.sweep.clone();
        if !group.is_empty()
            && let Err(error) = self.apply(group)
        {
            for result in &mut results {
                // A conflict may be one with a write of this group; to read again is right for both.
                *result = Err(error.clone());
            }
        }
        results
    }

    fn work(&self, lease: Lease) -> Result<bool, Error> {
        let mut writer = self.writer.lock().map_err(|_| read::poisoned())?;
        self.check(lease)?;
        let mut group = self.group()?;
        group.looked = writer.looked.take();
        let more = group.apply_work()?;
        writer.looked = group.looked.take();
        if !group.is_empty() {
            self.apply(group)?;
        }
        Ok(more)
    }

    fn export(&self, out: &mut dyn Write) -> Result<(), Error> {
        self.write_export(out)
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn room(&self, bytes: u64) -> Result<bool, Error> {
        self.room.find(bytes)?;
        Ok(self.room.is_ample())
    }

    fn reset(&self) -> Result<Option<Reset>, Error> {
        let _gate = self.reading()?;
        self.tables.value(Table::Meta, META_RESET)?.map(|value| codec::decode_json(&value)).transpose()
    }

    fn size_bytes(&self) -> Result<u64, Error> {
        self.db.size_on_disk().map_err(tables::error)
    }
}
