//! The wall clock, read in one place so that tests can set it.
//!
//! It follows tokio's clock from the moment it was made: paused time moves it too. Waiting is done with
//! `tokio::time` on the monotonic clock; what is stored is a [`Timestamp`] of this one.

use std::sync::Arc;

use tokio::time::Instant;

use crate::model::Timestamp;

/// A cheap handle; clones share the same time.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System,
    /// `start` plus what tokio's (paused) clock has moved since `origin`.
    Manual {
        start: Timestamp,
        origin: Instant,
    },
}

impl Clock {
    /// The machine's.
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// Starts at `start` and moves with tokio's clock. For tests on paused time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(Source::Manual { start, origin: Instant::now() }))
    }

    /// Now.
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Timestamp(0).plus(since.unwrap_or_default())
            }
            Source::Manual { start, origin } => start.plus(origin.elapsed()),
        }
    }
}
