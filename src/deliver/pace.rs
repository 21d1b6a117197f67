//! How fast an endpoint is sent to: never more than `rate`, evenly spaced.

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::units::Rate;

/// Timers fire up to a millisecond late: what is lost so is caught up, and no more than that.
const CATCH_UP: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Pace {
    spacing: Duration,
    /// When the next attempt may begin.
    free: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { spacing: rate.map(Rate::spacing).unwrap_or_default(), free: Instant::now() }
    }

    /// The receiver allows no more than this.
    pub(super) fn slow_down(&mut self, rate: Rate) {
        self.spacing = self.spacing.max(rate.spacing());
    }

    pub(super) fn free(&self) -> Instant {
        self.free
    }

    /// An attempt begins.
    pub(super) fn take(&mut self) {
        let now = Instant::now();
        let from = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.free = self.free.max(from) + self.spacing;
    }

    /// An attempt that began sent nothing.
    pub(super) fn give_back(&mut self) {
        self.free = self.free.checked_sub(self.spacing).unwrap_or(self.free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn late_timers_do_not_slow_it_down_and_idle_time_saves_up_nothing() {
        let mut pace = Pace::new(Some(Rate { requests: 500, per: Duration::from_secs(1) }));
        let begin = Instant::now();
        for _ in 0..500 {
            // Late by a millisecond, as a timer is.
            tokio::time::sleep_until(pace.free() + Duration::from_millis(1)).await;
            pace.take();
        }
        let took = begin.elapsed();
        assert!((Duration::from_millis(990)..Duration::from_millis(1010)).contains(&took), "{took:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut burst = 0;
        while pace.free() <= Instant::now() {
            pace.take();
            burst += 1;
        }
        assert!(burst <= 4, "{burst}");
        pace.slow_down(Rate { requests: 1, per: Duration::from_secs(1) });
        pace.take();
        assert!(pace.free() >= Instant::now() + Duration::from_millis(990));
    }
}
