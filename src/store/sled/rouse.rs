//! Rouses a write that sled has forgotten. When sled fails to write a buffer from `exit_reservation` it notes the error and
//! wakes nobody (`pagecache/logger.rs` of 0.34), so that who waits for that buffer, in `flush` or in a read, waits for ever,
//! with the gate in his hand. Whoever flushes next finds the error and wakes all; so this does, where a write takes long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ::sled::Db;
use tokio::time::Instant;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);
/// A write that takes longer may be forgotten. A flush beside one that is slow does no harm.
const LONG: Duration = Duration::from_secs(2);

/// A thread that looks after the writes of an open store.
#[derive(Debug)]
pub(super) struct Rouse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// When the write that is under way began, in milliseconds since `start` and one more; 0: there is none.
    since: AtomicU64,
    ends: AtomicBool,
}

/// A write under way.
pub(super) struct UnderWay<'a>(&'a Shared);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn is_long(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.now().saturating_sub(since) > u64::try_from(LONG.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Rouse {
    pub(super) fn new(db: &Db) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { start: Instant::now(), since: AtomicU64::new(0), ends: AtomicBool::new(false) });
        let (looks, db) = (Arc::clone(&shared), db.clone());
        let look = move || {
            while !looks.ends.load(Ordering::Relaxed) {
                if looks.is_long()
                    && let Err(error) = db.flush()
                {
                    tracing::debug!(%error, "a write of the store was roused");
                }
                thread::park_timeout(LOOK);
            }
        };
        let thread = thread::Builder::new().name("store-rouse".into()).spawn(look)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes that a write begins, and ends with what is returned. One write is under way at a time.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.shared.since.store(self.shared.now(), Ordering::Relaxed);
        UnderWay(&self.shared)
    }
}

impl Drop for Rouse {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It holds the database open.
            let _ = thread.join();
        }
    }
}
