//! The async door to an [`Engine`](super::Engine): one writer thread that takes whatever writes are waiting, applies
//! them as one group and answers all of them after the sync. Reads run on tokio's blocking threads.
//!
//! It never retries and never drops a write: a closed or failed store answers with its error, and `failed` tells the
//! daemon to open it again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Engine, Error, Lease, Op, SharedEngine, Written};
use crate::{failpoint, model::Name};

/// Writes that may wait; a poller or dispatcher beyond it waits for its turn.
const WAITING_MAX: usize = 1024;
/// Rows of one group: what a sled batch takes in memory is not bounded by its cache.
const GROUP_ROWS_MAX: usize = 5_000;
/// Bytes of one group, for the same reason.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// A cloneable handle.
#[derive(Clone)]
pub struct Store {
    engine: SharedEngine,
    stream: Name,
    waiting: mpsc::Sender<Job>,
    failed: watch::Receiver<Option<Error>>,
    report: watch::Sender<Option<Error>>,
    counters: Arc<Counters>,
}

/// What the writer did, for tests and status.
#[derive(Debug, Default)]
pub struct Counters {
    pub commits: AtomicU64,
    pub groups: AtomicU64,
}

struct Job {
    op: Op,
    answer: oneshot::Sender<Result<Written, Error>>,
}

impl Store {
    /// Claims the lease and starts the writer thread, which ends when the last handle is gone.
    pub fn start(engine: SharedEngine) -> Result<Self, Error> {
        let lease = engine.claim()?;
        let (waiting, jobs) = mpsc::channel(WAITING_MAX);
        let (report, failed) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let writer = Writer { engine: engine.clone(), lease, report: report.clone(), counters: counters.clone() };
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(jobs))
            .map_err(|e| Error::Io(format!("failed to start the writer thread: {e}")))?;
        Ok(Self { stream: engine.stream(), engine, waiting, failed, report, counters })
    }

    /// Names the store's life.
    pub fn stream(&self) -> &Name {
        &self.stream
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How often the disk was synced.
    pub fn syncs(&self) -> u64 {
        self.engine.syncs()
    }

    /// Resolves when the store has failed and must be opened again.
    pub async fn failed(&self) -> Error {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(Error::Io("the store failed".into())),
            Err(_) => Error::Io("the store's writer thread ended".into()),
        }
    }

    /// Applies one write; durable on `Ok`.
    pub async fn write(&self, op: Op) -> Result<Written, Error> {
        let (answer, result) = oneshot::channel();
        let gone = || Error::Unknown("the store's writer thread ended".into());
        self.waiting.send(Job { op, answer }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Whether the writer's thread still moves: an empty write comes back.
    pub async fn ping(&self) -> bool {
        self.write(Op::Progress(Vec::new())).await.is_ok()
    }

    /// Runs a read on a blocking thread.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        /// Each holds a thread, and the caches of one engine are all they share.
        static TURNS: Semaphore = Semaphore::const_new(8);
        let _turn = TURNS.acquire().await.expect("the turns are never closed");
        let engine = self.engine.clone();
        let result = tokio::task::spawn_blocking(move || read(&*engine))
            .await
            .map_err(|e| Error::Io(format!("a read of the store panicked: {e}")))
            .flatten();
        // A damaged row is told by whoever needs it; a disk that does not answer concerns all.
        if let Err(error @ (Error::Io(_) | Error::Full(_))) = &result {
            self.report.send_replace(Some(error.clone()));
        }
        result
    }
}

struct Writer {
    engine: SharedEngine,
    lease: Lease,
    report: watch::Sender<Option<Error>>,
    counters: Arc<Counters>,
}

impl Writer {
    fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut size = Size::of(&first.op);
            let mut group = vec![first.op];
            let mut answers = vec![first.answer];
            while size.rows < GROUP_ROWS_MAX
                && size.bytes < GROUP_BYTES_MAX
                && let Ok(job) = jobs.try_recv()
            {
                size.add(&job.op);
                group.push(job.op);
                answers.push(job.answer);
            }
            self.apply(group, answers);
        }
    }

    fn apply(&self, group: Vec<Op>, answers: Vec<oneshot::Sender<Result<Written, Error>>>) {
        while failpoint::is_on("writer") {
            thread::sleep(Duration::from_millis(20));
        }
        let commits = group.iter().filter(|op| matches!(op, Op::Commit(_))).count();
        let results = if failpoint::is_on("disk") {
            group.iter().map(|_| Err(Error::Io("the failpoint `disk` is on".into()))).collect()
        } else {
            self.engine.write(self.lease, group)
        };
        debug_assert_eq!(results.len(), answers.len(), "one answer for each write");
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters.commits.fetch_add(u64::try_from(commits).unwrap_or(0), Ordering::Relaxed);
        if let Some(error) = results.iter().filter_map(|r| r.as_ref().err()).find(|e| e.needs_reopen()) {
            self.report.send_replace(Some(error.clone()));
        }
        for (answer, result) in answers.into_iter().zip(results) {
            // A poller that was cancelled no longer waits; what it wrote is durable all the same.
            let _ = answer.send(result);
        }
    }
}

/// What a write will take, roughly.
#[derive(Default)]
struct Size {
    rows: usize,
    bytes: usize,
}

impl Size {
    fn of(op: &Op) -> Self {
        let mut size = Self::default();
        size.add(op);
        size
    }

    fn add(&mut self, op: &Op) {
        /// A row's key and overhead.
        const ROW_BYTES: usize = 64;
        /// A pack's.
        const ROW_BYTES_MAX: usize = 8 << 10;
        let (rows, bytes) = match op {
            Op::Commit(commit) => {
                let list = commit.list.as_ref().map_or(0, Vec::len);
                let bodies: usize = commit.put.iter().map(|r| r.body.len()).sum();
                let events: usize = commit.events.iter().map(|e| e.body.len()).sum();
                (
                    2 + commit.put.len() + commit.delete.len() + commit.events.len() + list / 128,
                    bodies + events + list * 48,
                )
            }
            Op::Progress(rows) => (rows.len(), rows.iter().map(|(_, p)| p.missing.len() * 40).sum()),
            Op::Settle(_, rows) => (2 * rows.len(), rows.iter().map(|s| s.attempt.answer.len()).sum()),
            Op::Requeue(_, rows) => (rows.len(), 0),
            Op::Endpoint(..) => (1, 0),
            Op::Sweep { limit, .. } | Op::Forget { limit, .. } | Op::ForgetBridge { limit, .. } => (*limit, 0),
            Op::RenameBridge { limit, .. } => (2 * limit, limit * ROW_BYTES_MAX),
            // Packs are written again.
            Op::Rename { limit, .. } => (3 * limit, limit * ROW_BYTES_MAX),
        };
        self.rows += rows;
        self.bytes += bytes + rows * ROW_BYTES;
    }
}
