//! The last 24 hours in buckets: what the dashboard's strips show. Kept in memory only, 300 bytes a bridge.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Name, Timestamp};

/// An hour of one bridge, a quarter of an hour of all.
const HOUR_MS: i64 = 3_600_000;
const QUARTER_MS: i64 = HOUR_MS / 4;
pub const HOURS: usize = 24;
pub const QUARTERS: usize = 96;

/// Polls and what came of them, within some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    pub polls: u32,
    pub failed: u32,
    pub changes: u32,
}

/// A ring of buckets; those of another day are void.
#[derive(Debug, Clone)]
struct Ring<const N: usize> {
    buckets: [Bucket; N],
    /// The number since the epoch of the bucket that was written last.
    last: i64,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self { buckets: [Bucket::default(); N], last: 0 }
    }
}

impl<const N: usize> Ring<N> {
    /// The bucket of a time, after those that were passed over were emptied.
    fn at(&mut self, number: i64) -> Option<&mut Bucket> {
        let length = i64::try_from(N).ok()?;
        for passed in (self.last + 1).max(number - length + 1)..=number {
            if let Some(bucket) = self.slot(passed) {
                *bucket = Bucket::default();
            }
        }
        self.last = self.last.max(number);
        self.slot(number)
    }

    fn slot(&mut self, number: i64) -> Option<&mut Bucket> {
        let index = number.rem_euclid(i64::try_from(N).ok()?);
        self.buckets.get_mut(usize::try_from(index).ok()?)
    }

    /// The last of them, the oldest first.
    fn until(&self, number: i64) -> Vec<Bucket> {
        let mut copy = self.clone();
        copy.at(number);
        let length = i64::try_from(N).unwrap_or_default();
        (number - length + 1..=number).filter_map(|n| copy.slot(n).copied()).collect()
    }
}

/// The last 24 hours, of each bridge and of all.
#[derive(Debug, Default)]
pub(super) struct History {
    all: Ring<QUARTERS>,
    bridges: BTreeMap<Name, Box<Ring<HOURS>>>,
}

impl Bucket {
    fn add(&mut self, more: Self) {
        self.polls = self.polls.saturating_add(more.polls);
        self.failed = self.failed.saturating_add(more.failed);
        self.changes = self.changes.saturating_add(more.changes);
    }
}

impl History {
    pub fn add(&mut self, bridge: &Name, more: Bucket, now: Timestamp) {
        let ring = self.bridges.entry(bridge.clone()).or_default();
        let buckets = [self.all.at(now.0.div_euclid(QUARTER_MS)), ring.at(now.0.div_euclid(HOUR_MS))];
        for bucket in buckets.into_iter().flatten() {
            bucket.add(more);
        }
    }

    /// By the hour of one bridge, by the quarter of an hour of all; the oldest first.
    pub fn of(&self, bridge: Option<&str>, now: Timestamp) -> Vec<Bucket> {
        match bridge {
            None => self.all.until(now.0.div_euclid(QUARTER_MS)),
            Some(name) => self
                .bridges
                .get(name)
                .map_or_else(|| vec![Bucket::default(); HOURS], |ring| ring.until(now.0.div_euclid(HOUR_MS))),
        }
    }

    pub fn forget(&mut self, bridge: &str) {
        self.bridges.remove(bridge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_by_the_hour_and_older_hours_are_void() {
        let mut history = History::default();
        let at = |hours: i64| Timestamp(hours * HOUR_MS + 1);
        let polled = |failed, changes| Bucket { polls: 1, failed, changes };
        history.add(&"a".into(), polled(0, 3), at(100));
        history.add(&"a".into(), polled(1, 0), at(101));
        let day = history.of(Some("a"), at(101));
        assert_eq!(day.len(), HOURS);
        assert_eq!(day.last(), Some(&polled(1, 0)));
        assert_eq!(day.get(HOURS - 2), Some(&polled(0, 3)));
        let later = history.of(Some("a"), at(124));
        assert_eq!(later.iter().map(|b| b.polls).sum::<u32>(), 1, "the first hour is over a day old");
        assert_eq!(history.of(None, at(101)).iter().map(|b| b.polls).sum::<u32>(), 2);
        history.forget("a");
        assert_eq!(history.of(Some("a"), at(101)), vec![Bucket::default(); HOURS]);
    }
}
