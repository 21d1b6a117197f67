//! The wall clock, read in one place so that tests can set it.
//!
//! It follows tokio's clock from the moment it was made: paused time moves it too. Waiting is done with
//! `tokio::time` on the monotonic clock; what is stored is a [`Timestamp`] of this one.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::time::Instant;

use crate::model::Timestamp;

/// A wall clock that differs by more from the monotonic one was set.
pub const JUMP_MS: i64 = 60_000;

/// A cheap handle; clones share the same time.
#[derive(Debug, Clone)]
pub struct Clock(Arc<TimeSource>);

#[derive(Debug)]
enum TimeSource {
    System,
    /// `start` plus what tokio's (paused) clock has moved since `origin`.
    Manual {
        start: AtomicI64,
        origin: Instant,
    },
}

impl Clock {
    /// The machine's.
    pub fn system() -> Self {
        Self(Arc::new(TimeSource::System))
    }

    /// Starts at `start` and moves with tokio's clock. For tests on paused time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(TimeSource::Manual { start: AtomicI64::new(start.0), origin: Instant::now() }))
    }

    /// Sets a clock that was started so, as an admin or NTP sets the machine's.
    pub fn set(&self, now: Timestamp) {
        if let TimeSource::Manual { start, origin } = &*self.0 {
            let moved = Timestamp(0).plus(origin.elapsed());
            start.store(now.0.saturating_sub(moved.0), Ordering::Relaxed);
        }
    }

    /// Now.
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            TimeSource::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Timestamp(0).plus(since.unwrap_or_default())
            }
            TimeSource::Manual { start, origin } => Timestamp(start.load(Ordering::Relaxed)).plus(origin.elapsed()),
        }
    }
}
