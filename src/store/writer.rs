//! The async door to an [`Engine`](super::Engine): one writer thread that takes whatever writes are waiting, applies
//! them as one group and answers all of them after the sync. Reads run on tokio's blocking threads.
//!
//! It never drops a write. Where there is no room on the disk what belongs to a commit of a bridge is refused, since its answer
//! comes again, and everything else waits for room. A panic on its thread ends the process.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::Instant,
};

use super::{Engine, Error, HoldChange, Lease, List, Op, SharedEngine, Written};
use crate::{failpoint, model::Name, telemetry::kind};

/// Writes that may wait; a poller or dispatcher beyond it waits for its turn.
const WAITING_MAX: usize = 1024;
/// Rows of one group: what a sled batch takes in memory is not bounded by its cache.
const GROUP_ROWS_MAX: usize = 5_000;
/// Bytes of one group, for the same reason.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// How often room is looked for that writes or polls wait for.
const ROOM_LOOK: Duration = Duration::from_millis(100);

/// What a part of a commit that is written ahead may take, and its rows.
const PART_NS: u64 = 25_000_000;
const PART_ROWS_MIN: usize = 100;
const PART_ROWS_MAX: usize = 2_000;

/// How many groups come before a slice of what is done in the background, while writes wait.
const WORK_EVERY: u32 = 8;
/// What such a slice may write.
const WORK_BYTES: u64 = 2 << 20;

/// A cloneable handle.
#[derive(Clone)]
pub struct Store {
    engine: SharedEngine,
    stream: Name,
    waiting: mpsc::Sender<Job>,
    failed: watch::Receiver<Option<Error>>,
    report: watch::Sender<Option<Error>>,
    scarce: watch::Receiver<Option<String>>,
    counters: Arc<Counters>,
}

/// What the writer did, for tests and status.
#[derive(Debug, Default)]
pub struct Counters {
    pub commits: AtomicU64,
    pub groups: AtomicU64,
    /// Turns of its loop: it moves also while it waits for room.
    turns: AtomicU64,
    /// What a row took lately, from the transaction to the end of the sync.
    row_ns: AtomicU64,
}

enum Job {
    Write(Box<Write>),
    /// Nothing: the loop turns.
    Turn,
}

struct Write {
    op: Op,
    answer: oneshot::Sender<Result<Written, Error>>,
}

impl Store {
    /// Claims the lease and starts the writer thread, which ends when the last handle is gone.
    pub fn start(engine: SharedEngine) -> Result<Self, Error> {
        let lease = engine.claim()?;
        let (waiting, jobs) = mpsc::channel(WAITING_MAX);
        let (report, failed) = watch::channel(None);
        let (tell_scarce, scarce) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            engine: engine.clone(),
            lease,
            report: report.clone(),
            scarce: tell_scarce,
            counters: counters.clone(),
            held: VecDeque::new(),
            works: true,
            between: 0,
        };
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(jobs))
            .map_err(|e| Error::Io(format!("failed to start the writer thread: {e}")))?;
        Ok(Self { stream: engine.stream(), engine, waiting, failed, report, scarce, counters })
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

    /// As many rows as the writer takes for a part of a commit that is written ahead: others wait for their turn meanwhile. In a
    /// large store a row costs more, since its page is read first.
    pub(super) fn rows_of_a_part(&self) -> usize {
        let row_ns = self.counters.row_ns.load(Ordering::Relaxed).max(1);
        usize::try_from(PART_NS / row_ns).unwrap_or(PART_ROWS_MAX).clamp(PART_ROWS_MIN, PART_ROWS_MAX)
    }

    /// Why polls have to wait, while there is little room on the disk.
    pub fn scarce(&self) -> watch::Receiver<Option<String>> {
        self.scarce.clone()
    }

    /// Applies one write; durable on `Ok`.
    pub async fn write(&self, op: Op) -> Result<Written, Error> {
        let (answer, result) = oneshot::channel();
        let gone = || Error::Unknown("the store's writer thread ended".into());
        self.waiting.send(Job::Write(Box::new(Write { op, answer }))).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Returns when the writer's thread has moved; `false` where it has ended.
    pub async fn ping(&self) -> bool {
        const LOOK: Duration = Duration::from_millis(20);
        let turns = || self.counters.turns.load(Ordering::Relaxed);
        let before = turns();
        // Where the channel is full it has work to turn with.
        let _ = self.waiting.try_send(Job::Turn);
        while turns() == before && !self.waiting.is_closed() {
            tokio::time::sleep(LOOK).await;
        }
        !self.waiting.is_closed()
    }

    /// Runs a read on a blocking thread.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        /// Each holds a thread, and the caches of one engine are all they share.
        static TURNS: Semaphore = Semaphore::const_new(8);
        let turn = TURNS.acquire().await.expect("the turns are never closed");
        let engine = self.engine.clone();
        let read = move || {
            // It holds the thread also when the one who asked has gone.
            let _turn = turn;
            read(&*engine)
        };
        let result = tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Error::Io(format!("a read of the store panicked: {e}")))
            .flatten();
        // A damaged row is told by whoever needs it; a disk that does not answer concerns all.
        if let Err(error @ Error::Io(_)) = &result {
            self.report.send_replace(Some(error.clone()));
        }
        result
    }
}

struct Writer {
    engine: SharedEngine,
    lease: Lease,
    report: watch::Sender<Option<Error>>,
    scarce: watch::Sender<Option<String>>,
    counters: Arc<Counters>,
    /// Writes that wait for room on the disk.
    held: VecDeque<Write>,
    /// There may be something to do in the background: at the start, what the last life left.
    works: bool,
    /// Groups since then.
    between: u32,
}

/// Whether a write leaves something to be done in the background.
fn leaves_work(op: &Op) -> bool {
    match op {
        Op::Commit(commit) => {
            let chunks_go = matches!(&commit.list, Some(List::Cut(cut)) if !cut.gone.is_empty());
            commit.ahead.is_some() || chunks_go || commit.hold != HoldChange::Keep
        }
        Op::Stage(_) | Op::Abandon(_) | Op::Forget(_) | Op::RenameBridge { .. } | Op::ForgetBridge(_) => true,
        _ => false,
    }
}

/// On the writer's thread: what a panic leaves in the engine is not known, and nothing may go on with it.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(message_id = kind::STORE_FAILED, "the store's writer panicked: the process ends");
            std::process::abort();
        }
    }
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _end_on_panic = EndOnPanic;
        loop {
            let scarce = self.scarce.borrow().is_some();
            // Room comes without a word: it is looked for. What is done in the background has its turn when nothing else waits,
            // and now and then when something does.
            let job = if scarce || !self.held.is_empty() || self.works {
                match jobs.try_recv() {
                    Err(mpsc::error::TryRecvError::Empty) if scarce || !self.held.is_empty() => {
                        thread::sleep(ROOM_LOOK);
                        self.look_for_room();
                        Job::Turn
                    }
                    Err(mpsc::error::TryRecvError::Empty) => {
                        self.work();
                        Job::Turn
                    }
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                    Ok(job) => {
                        self.between += 1;
                        if self.between.is_multiple_of(WORK_EVERY) && self.works && !scarce {
                            self.work();
                        }
                        job
                    }
                }
            } else {
                match jobs.blocking_recv() {
                    Some(job) => job,
                    None => return,
                }
            };
            self.counters.turns.fetch_add(1, Ordering::Relaxed);
            let mut size = Size::default();
            let mut group = Vec::new();
            // What waited for room comes before what came later.
            let mut next = self.held.pop_front().map(|write| Job::Write(Box::new(write))).into_iter().chain([job]);
            let mut take = || next.next().or_else(|| jobs.try_recv().ok());
            while size.rows < GROUP_ROWS_MAX
                && size.bytes < GROUP_BYTES_MAX
                && let Some(job) = take()
            {
                if let Job::Write(write) = job {
                    size.add(&write.op);
                    group.push(*write);
                }
            }
            if let Some(Job::Write(write)) = next.next() {
                self.held.push_back(*write);
            }
            if !group.is_empty() {
                self.apply_where_there_is_room(group, &size);
            }
        }
    }

    /// A slice of what is done in the background.
    fn work(&mut self) {
        match self.engine.room(WORK_BYTES).and_then(|_| self.engine.work(self.lease)) {
            Ok(more) => self.works = more,
            // There is none now; it is tried with the next write that may have left something.
            Err(Error::Full(_)) => self.works = false,
            Err(error) => {
                tracing::error!(%error, "what the store does in the background failed");
                self.works = false;
                if error.needs_reopen() {
                    self.report.send_replace(Some(error));
                }
            }
        }
    }

    /// Tells when room is ample again. What waits is tried with each turn.
    fn look_for_room(&mut self) {
        if self.scarce.borrow().is_some() && self.engine.room(0) == Ok(true) {
            self.works = true;
            self.scarce.send_replace(None);
        }
    }

    fn apply_where_there_is_room(&mut self, group: Vec<Write>, size: &Size) {
        match self.engine.room(u64::try_from(size.bytes).unwrap_or(u64::MAX)) {
            Ok(true) => self.apply(group),
            Ok(false) => {
                self.tell_scarce("what is left of the disk is kept for deliveries under way");
                self.apply(group);
            }
            Err(error @ Error::Full(_)) => {
                self.tell_scarce(&error.to_string());
                for write in group {
                    let comes_again = match &write.op {
                        Op::Commit(commit) => commit.bridge.is_some(),
                        Op::Stage(_) | Op::Ahead(_) => true,
                        _ => false,
                    };
                    if comes_again {
                        drop(write.answer.send(Err(error.clone())));
                    } else {
                        self.held.push_back(write);
                    }
                }
            }
            Err(error) => {
                self.report.send_replace(Some(error.clone()));
                group.into_iter().for_each(|write| drop(write.answer.send(Err(error.clone()))));
            }
        }
    }

    fn tell_scarce(&self, why: &str) {
        self.scarce.send_if_modified(|scarce| scarce.replace(why.to_owned()).is_none());
    }

    fn apply(&mut self, group: Vec<Write>) {
        while failpoint::is_on("writer") {
            thread::sleep(Duration::from_millis(20));
        }
        self.works |= group.iter().any(|write| leaves_work(&write.op));
        let commits = group.iter().filter(|write| matches!(write.op, Op::Commit(_))).count();
        let (ops, answers): (Vec<Op>, Vec<_>) = group.into_iter().map(|write| (write.op, write.answer)).unzip();
        let rows: usize = ops.iter().map(|op| Size::of(op).rows).sum();
        let began = Instant::now();
        let results = if failpoint::is_on("disk") {
            ops.iter().map(|_| Err(Error::Io("the failpoint `disk` is on".into()))).collect()
        } else {
            self.engine.write(self.lease, ops)
        };
        debug_assert_eq!(results.len(), answers.len(), "one answer for each write");
        if rows >= PART_ROWS_MIN {
            let row_ns =
                u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX) / u64::try_from(rows).unwrap_or(1);
            let before = self.counters.row_ns.load(Ordering::Relaxed);
            // Up at once, down slowly.
            self.counters.row_ns.store(row_ns.max(before / 2 + row_ns / 2), Ordering::Relaxed);
        }
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
        let (rows, bytes) = match op {
            Op::Commit(commit) => {
                let list = match &commit.list {
                    None => 0,
                    Some(List::Whole(list)) => list.len(),
                    Some(List::Cut(cut)) => cut.ids.len() / 3 + cut.fresh.len() * 64,
                };
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
            Op::Endpoint(..) | Op::Reset(..) => (1, 0),
            Op::Ahead(ahead) => {
                let bodies: usize = ahead.put.iter().map(|r| r.body.len()).sum();
                let events: usize = ahead.events.iter().map(|e| e.body.len()).sum();
                let chunks: usize = ahead.chunks.iter().map(|chunk| chunk.row.len()).sum();
                let rows = ahead.put.len() + ahead.delete.len() + ahead.chunks.len() + ahead.events.len();
                (rows, bodies + events + chunks)
            }
            // A pack, and its deliveries to a few endpoints.
            Op::Sweep { limit, .. } => (4 * limit, 0),
            // Names, and what is left to do in the background.
            Op::Stage(_) | Op::Abandon(_) => (4, 0),
            Op::Rename { .. } | Op::Forget(_) | Op::RenameBridge { .. } | Op::ForgetBridge(_) => (8, 0),
        };
        self.rows += rows;
        self.bytes += bytes + rows * ROW_BYTES;
    }
}
