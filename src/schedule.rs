//! When a bridge is due next. Pure: it takes `now` and randomness, and reads no clock.

mod cron;

use std::{str::FromStr, time::Duration};

use chrono_tz::Tz;

use cron::Cron;

use crate::{
    model::{Hash, Timestamp},
    settings::{Item, Table, key::keys},
};

/// Below it a poll cannot be told from a busy loop.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// The first wait after a failed poll; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// Failing polls come at least this often, whatever the interval.
const BACKOFF_CEILING_MIN: Duration = Duration::from_secs(15 * 60);
/// Overdue bridges catch up over this long after a restart.
const CATCH_UP: Duration = Duration::from_secs(5);
/// A new bridge takes its first snapshot within this time, however long its interval.
const FIRST_SPREAD_MAX: Duration = Duration::from_secs(60);
/// The longest that a server's hint (`Retry-After`) is obeyed, by polls and deliveries.
pub const HINT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

keys! {
    /// When a bridge is polled.
    mod schedule;
    /// An interval, `"100ms"` or more, from start to start; two polls of a bridge never overlap. Or `{ min, max }`: the interval
    /// begins at `min`, is halved after a poll that found a change, and grows by a quarter after a poll that found none.
    maybe EVERY: () = "every", Form::raw(Shape::OneOf(&[Shape::Duration, Shape::Table(&range::FAMILY)])),
        "this or `cron`; `\"1s\"` for a source that stays connected";
    /// crontab(5): five fields, or six with seconds first, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`; 0 and 7 are
    /// Sunday; `?` is `*`; names are `MON` or `monday`. `L` is the last day of the month, `L-3` three days before it, `LW` its last
    /// working day (Monday to Friday), `15W` the working day of the month nearest to the 15th, `5#3` the third Friday, `5L` the last
    /// one, also with names (`FRI#3`, `FRIL`). A month without the day of `31W`, or without a fifth Friday, has no such run. If both
    /// day of month and day of week are given, either one matches.
    maybe CRON: () = "cron", Form::raw(Shape::Text), "this or `every`";
    /// The IANA zone of `cron`: a fixed hour that daylight saving skips runs once at the gap's end, and an hour that comes twice
    /// runs once; `*` hours keep their cadence.
    maybe TIMEZONE: () = "timezone", Form::raw(Shape::Text), "`\"UTC\"`";
    /// The largest random delay that is added to each due time; bridges are already spread by their names.
    or JITTER: Duration = "jitter", DURATION, || Duration::ZERO;
}

keys! {
    /// Between two intervals.
    mod range;
    /// The shortest interval.
    need MIN: Duration = "min", Form::new(Shape::Duration, read_interval), "min = \"30s\"";
    /// The longest interval.
    need MAX: Duration = "max", Form::new(Shape::Duration, read_interval), "max = \"1h\"";
}

/// A bridge's timing.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    timing: Timing,
    /// Added to each due time, at random from zero to this.
    jitter: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum Timing {
    Every(Duration),
    /// Between two intervals, by how often the source changes.
    Adapting {
        min: Duration,
        max: Duration,
    },
    Cron(Box<Cron>),
}

/// Why polls fail in a row, as far as the next attempt depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    Transient,
    /// 401 or 403: it will not mend itself in seconds.
    Refused,
}

/// When a bridge was to be polled next, as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub due: Timestamp,
    /// How long that was to be waited for when it was set.
    pub wait: Option<Duration>,
    /// A hint of the server, or a failure, puts it where the schedule alone would not.
    pub waits: bool,
}

impl Schedule {
    /// Reads `every`, or `cron` and `timezone`, and `jitter`. `default` is the interval where the file may be silent.
    pub fn read(table: &mut Table<'_>, default: Option<Duration>) -> Option<Self> {
        let both = table.key_place(&schedule::CRON);
        let every = table.item(&schedule::EVERY);
        let cron = table.item(&schedule::CRON);
        let zone = table.item(&schedule::TIMEZONE);
        let jitter = table.or(&schedule::JITTER);
        if let (Some(_), Some(_), Some(place)) = (&every, &cron, both) {
            table
                .error_at(place, format!("`cron` stands beside `every` in {}", table.title()))
                .help("keep one of them".into())
                .report();
            return None;
        }
        let timing = match (every, cron) {
            (Some(every), _) => {
                if let Some(zone) = zone {
                    zone.error(format!("`{}` belongs to `cron`; an interval has no zone", zone.path)).report();
                }
                if every.is_table() { read_range(&every)? } else { Timing::Every(read_interval(&every)?) }
            }
            (None, Some(cron)) => {
                let zone = match zone {
                    Some(zone) => zone.parse_text(parse_zone, "an IANA zone such as \"Europe/Berlin\"")?,
                    None => Tz::UTC,
                };
                Timing::Cron(Box::new(cron.parse_text(|text| Cron::parse(text, zone), "a cron expression")?))
            }
            (None, None) if let Some(interval) = default => Timing::Every(interval),
            (None, None) => {
                table
                    .error(format!("`every` or `cron` is missing in {}", table.title()))
                    .missing()
                    .help("for example every = \"5m\"".into())
                    .report();
                return None;
            }
        };
        Some(Self { timing, jitter })
    }

    /// An interval without jitter, for tests and the demo.
    pub fn every(interval: Duration) -> Self {
        Self { timing: Timing::Every(interval), jitter: Duration::ZERO }
    }

    /// The interval to begin with: an adapting one begins short and grows where nothing changes.
    pub fn pace(&self) -> Duration {
        match &self.timing {
            Timing::Every(interval) => *interval,
            Timing::Adapting { min, .. } => *min,
            Timing::Cron(_) => Duration::ZERO,
        }
    }

    /// The interval after a poll that found a change or none. It settles where about one poll in four finds one.
    pub fn adapt(&self, pace: Duration, changed: bool) -> Duration {
        match &self.timing {
            Timing::Adapting { min, max } if changed => (pace / 2).clamp(*min, *max),
            Timing::Adapting { min, max } => (pace + pace / 4).clamp(*min, *max),
            _ => pace,
        }
    }

    /// The first due time after a start: where the stored one lies ahead it holds; a bridge that is overdue, or was
    /// never polled, is spread by a stable hash of its name. Under a clock that is earlier than it was the stored one counts for
    /// as long as it was to be waited for when it was set.
    pub fn first(&self, name: &str, stored: Option<Stored>, now: Timestamp) -> Timestamp {
        let interval = self.interval(now);
        let spread = |over: Duration| {
            let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
            now.plus(Duration::from_millis(Hash::of(name.as_bytes()).low64() % over))
        };
        match (stored, &self.timing) {
            (Some(Stored { due, wait, waits }), timing) if due > now => {
                // Without a note a hint and a backoff may go beyond the interval.
                let furthest = if waits { HINT_MAX } else { BACKOFF_CEILING_MIN };
                let due = due.min(now.plus(wait.unwrap_or(interval.max(furthest))));
                match timing {
                    Timing::Cron(_) if !waits => due.min(self.next(now, now, Duration::ZERO, 0.0)),
                    _ => due,
                }
            }
            (Some(_), _) => spread(interval.min(CATCH_UP)),
            (None, Timing::Every(_) | Timing::Adapting { .. }) => spread(interval.min(FIRST_SPREAD_MAX)),
            (None, Timing::Cron(_)) => self.next(now, now, Duration::ZERO, 0.0),
        }
    }

    /// The next due time after a poll that was due at `due` and is over at `now`: later than now, on the same beat.
    /// `pace` counts where the interval adapts, `random` is from 0 to 1.
    pub fn next(&self, due: Timestamp, now: Timestamp, pace: Duration, random: f64) -> Timestamp {
        let at = match &self.timing {
            Timing::Every(_) | Timing::Adapting { .. } => {
                let interval = match &self.timing {
                    Timing::Every(interval) => *interval,
                    _ => pace,
                };
                let step = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
                let late = now.0.saturating_sub(due.0).max(0);
                let steps = (late / step).saturating_add(1);
                let next = due.plus_ms(steps.saturating_mul(step));
                // A wall clock that was set back leaves `due` far ahead.
                next.min(now.plus(interval))
            }
            Timing::Cron(cron) => cron.next(now).unwrap_or(Timestamp(i64::MAX)),
        };
        at.plus(self.jitter.mul_f64(random.clamp(0.0, 1.0)))
    }

    /// When to try again after `failures` failed polls in a row.
    pub fn after_failure(&self, failures: u32, kind: FailureKind, now: Timestamp, pace: Duration) -> Timestamp {
        let interval = if matches!(self.timing, Timing::Adapting { .. }) { pace } else { self.interval(now) };
        let ceiling = interval.max(BACKOFF_CEILING_MIN);
        let wait = match kind {
            FailureKind::Refused => ceiling,
            FailureKind::Transient => {
                BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(ceiling)
            }
        };
        now.plus(wait)
    }

    /// The time from one poll to the next, at the most; for a cron expression, to the next one.
    pub fn interval(&self, now: Timestamp) -> Duration {
        match &self.timing {
            Timing::Every(interval) => *interval,
            Timing::Adapting { max, .. } => *max,
            Timing::Cron(cron) => cron.next(now).map_or(HINT_MAX, |next| now.until(next)),
        }
    }

    /// Of a cron expression: its next runs, as a clock in its zone shows them.
    pub fn runs(&self, now: Timestamp, count: usize) -> Option<Vec<String>> {
        match &self.timing {
            Timing::Cron(cron) => Some(cron.runs(now, count)),
            Timing::Every(_) | Timing::Adapting { .. } => None,
        }
    }

    /// From one poll to the next, at the longest; of a cron expression between its next two times.
    pub fn gap(&self, now: Timestamp) -> Duration {
        match &self.timing {
            Timing::Cron(cron) => {
                let next = cron.next(now);
                let after = next.and_then(|next| Some(next.until(cron.next(next)?)));
                after.unwrap_or(HINT_MAX)
            }
            _ => self.interval(now),
        }
    }
}

/// An interval that is not a busy loop.
fn read_interval(item: &Item<'_>) -> Option<Duration> {
    let interval = item.duration()?;
    if interval < EVERY_MIN {
        item.error(format!("`{}` must be 100ms or more", item.path)).report();
        return None;
    }
    Some(interval)
}

/// `{ min, max }`.
fn read_range(item: &Item<'_>) -> Option<Timing> {
    let mut table = item.table()?;
    let (min, max) = (table.need(&range::MIN), table.need(&range::MAX));
    table.finish();
    let (min, max) = (min?, max?);
    if min > max {
        item.error(format!("`{}`: `min` is longer than `max`", item.path)).report();
        return None;
    }
    Some(Timing::Adapting { min, max })
}

fn parse_zone(text: &str) -> Result<Tz, String> {
    Tz::from_str(text).map_err(|_| {
        let near = crate::settings::nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        let hint =
            near.map_or_else(|| "such as \"Europe/Berlin\" or \"UTC\"".to_owned(), |n| format!("did you mean {n:?}?"));
        format!("{text:?} is not an IANA zone: {hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_runs_from_start_to_start_and_skips_what_it_missed() {
        let every = Schedule::every(Duration::from_secs(60));
        assert_eq!(every.next(Timestamp(0), Timestamp(1_000), every.pace(), 0.0), Timestamp(60_000));
        assert_eq!(every.next(Timestamp(0), Timestamp(60_000), every.pace(), 0.0), Timestamp(120_000));
        assert_eq!(
            every.next(Timestamp(0), Timestamp(601_000), every.pace(), 0.0),
            Timestamp(660_000),
            "missed ones are not made up"
        );
        assert_eq!(
            every.next(Timestamp(9_000_000), Timestamp(0), every.pace(), 0.0),
            Timestamp(60_000),
            "the clock went back"
        );
    }

    #[test]
    fn an_interval_that_adapts_follows_how_often_the_source_changes() {
        let s = Duration::from_secs;
        let schedule = Schedule { timing: Timing::Adapting { min: s(10), max: s(1000) }, jitter: Duration::ZERO };
        // Polls a source that changes every `gap`, and says how often it asks in the end.
        let settled = |gap: Duration| {
            let (mut now, mut pace, mut seen) = (Timestamp(0), schedule.pace(), 0);
            let (mut sum, mut polls) = (Duration::ZERO, 0);
            for poll in 0..2000 {
                let next = schedule.next(now, now, pace, 0.0);
                assert_eq!(now.until(next).as_millis(), pace.as_millis());
                now = next;
                let change = now.0 / i64::try_from(gap.as_millis()).expect("small");
                pace = schedule.adapt(pace, change != seen);
                seen = change;
                if poll >= 1000 {
                    (sum, polls) = (sum + pace, polls + 1);
                }
            }
            sum / polls
        };
        assert_eq!(settled(s(1)), s(10), "not below `min`");
        assert_eq!(settled(s(100_000_000)), s(1000), "not above `max`");
        let middle = settled(s(400));
        assert!(middle > s(50) && middle < s(200), "{middle:?}: some polls between two changes");
        assert_eq!(Schedule::every(s(7)).adapt(s(7), true), s(7));
    }

    #[test]
    fn first_polls_are_spread_and_overdue_ones_catch_up_once() {
        let every = Schedule::every(Duration::from_secs(3600));
        let now = Timestamp(1_000_000_000);
        let spread: std::collections::BTreeSet<_> =
            (0..100).map(|i| every.first(&format!("bridge-{i}"), None, now)).collect();
        assert!(spread.len() > 90, "{} distinct due times", spread.len());
        assert!(spread.iter().all(|due| *due >= now && *due < now.plus(FIRST_SPREAD_MAX)));
        assert_eq!(every.first("a", None, now), every.first("a", None, now));
        let stored = |due, waits| Some(Stored { due, wait: None, waits });
        assert_eq!(every.first("a", stored(now.plus_ms(5), false), now), now.plus_ms(5));
        assert!(every.first("a", stored(Timestamp(0), false), now) < now.plus(CATCH_UP));
        let clamped = |waits| every.first("a", stored(Timestamp(i64::MAX), waits), now);
        assert_eq!(clamped(false), now.plus(Duration::from_secs(3600)), "a stored time from a wrong clock");
        assert_eq!(clamped(true), now.plus(HINT_MAX));
    }

    /// A machine without a battery started an hour early, and a bridge of 500 ms was not polled for 15 minutes.
    #[test]
    fn a_clock_that_is_earlier_than_it_was_delays_nothing() {
        const DAY: i64 = 86_400_000;
        let minutes = Timing::Cron(Box::new(Cron::parse("* * * * *", Tz::UTC).expect("valid")));
        let cron = Schedule { timing: minutes, jitter: Duration::ZERO };
        let every = Schedule::every(Duration::from_millis(500));
        for back in [3_600_000, DAY, 30 * DAY, 400 * DAY] {
            let due = Timestamp(1_900_000_000_000);
            let now = due.plus_ms(-back);
            let stored = |wait_ms, waits| Some(Stored { due, wait: Some(Duration::from_millis(wait_ms)), waits });
            assert_eq!(every.first("a", stored(300, false), now), now.plus_ms(300));
            // What a server asked for is waited for, for as long as it asked.
            assert_eq!(every.first("a", stored(7_200_000, true), now), now.plus_ms(7_200_000.min(back)));
            assert!(cron.first("a", stored(30_000, false), now) <= now.plus_ms(60_000));
        }
        // And a clock that is later finds it overdue.
        let now = Timestamp(1_900_000_000_000);
        let stored = Some(Stored { due: now.plus_ms(-DAY), wait: Some(Duration::from_secs(5)), waits: true });
        assert!(every.first("a", stored, now) < now.plus_ms(500));
    }

    #[test]
    fn failures_back_off_to_the_ceiling() {
        let every = Schedule::every(Duration::from_secs(1));
        let waits: Vec<i64> = (1..12)
            .map(|n| every.after_failure(n, FailureKind::Transient, Timestamp(0), every.pace()).0 / 1000)
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]);
        assert_eq!(every.after_failure(1, FailureKind::Refused, Timestamp(0), every.pace()), Timestamp(900_000));
        assert_eq!(
            every.after_failure(u32::MAX, FailureKind::Transient, Timestamp(0), every.pace()),
            Timestamp(900_000)
        );
    }
}
