//! When a bridge is due next. Pure: it takes `now` and randomness, and reads no clock.
//!
//! `cron` expressions have crontab(5)'s meaning over the `cron` crate, which only matches fields: the matching is done
//! on the local clock's face and mapped to instants here, because the crate's own zone handling skips gaps, fires twice
//! in folds and can go back in time.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::{
    model::{Hash, Timestamp},
    settings::{Item, Table},
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

impl Schedule {
    /// Reads `every`, or `cron` and `timezone`, and `jitter`. `default` is the interval where the file may be silent.
    pub fn read(table: &mut Table<'_>, default: Option<Duration>) -> Option<Self> {
        let both = table.key_place("cron");
        let every = table.take("every");
        let cron = table.take("cron");
        let zone = table.take("timezone");
        let jitter = table.take("jitter").and_then(|item| item.duration()).unwrap_or_default();
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
    /// never polled, is spread by a stable hash of its name.
    pub fn first(&self, name: &str, stored: Option<Timestamp>, hinted: bool, now: Timestamp) -> Timestamp {
        let interval = self.interval(now);
        let spread = |over: Duration| {
            let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
            now.plus(Duration::from_millis(Hash::of(name.as_bytes()).low64() % over))
        };
        match (stored, &self.timing) {
            (Some(due), _) if due > now => {
                // A time from a wrong clock; a hint and a backoff may go beyond the interval.
                let furthest = if hinted { HINT_MAX } else { BACKOFF_CEILING_MIN };
                due.min(now.plus(interval.max(furthest)))
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
}

/// An interval that is no busy loop.
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
    let min = table.require("min", "min = \"30s\"").and_then(|i| read_interval(&i));
    let max = table.require("max", "max = \"1h\"").and_then(|i| read_interval(&i));
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
        format!("{text:?} is no IANA zone: {hint}")
    })
}

/// A cron expression in a zone.
#[derive(Debug, Clone, PartialEq)]
struct Cron {
    /// As written, for comparing an old file with a new one.
    text: String,
    zone: Tz,
    /// One, or two of which either may match: by day of month, and by day of week.
    faces: Vec<cron::Schedule>,
    /// Hours are `*` or `*/n`: runs keep their cadence through a fold.
    any_hour: bool,
}

impl Cron {
    fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!(
                "{text:?} has {} fields: five (minute hour day month weekday) or six (with seconds first) are known",
                text.split_whitespace().count()
            ));
        };
        let weekdays = weekdays(weekday)?;
        let face = |day: &str, weekday: &str| {
            let face = format!("{second} {minute} {hour} {day} {month} {weekday}");
            cron::Schedule::from_str(&face).map_err(|e| {
                // The crate draws a picture of its own seven fields first.
                let text_of = e.to_string();
                let cause = text_of.lines().last().unwrap_or_default().trim().trim_end_matches('.');
                // It says "less than 23" of the highest hour.
                let cause = cause.replace("must be less than", "must be at most");
                format!("{text:?} is no cron expression: {cause}")
            })
        };
        // crontab(5): when both days are restricted (neither starts with `*`), either is enough.
        let faces = if day.starts_with('*') || weekday.starts_with('*') {
            vec![face(day, &weekdays)?]
        } else {
            vec![face(day, "*")?, face("*", &weekdays)?]
        };
        let cron = Self { text: text.to_owned(), zone, faces, any_hour: hour.starts_with('*') };
        // A leap day comes within eight years.
        if cron.next(Timestamp(0)).is_none() {
            return Err(format!("{text:?} never comes"));
        }
        Ok(cron)
    }

    /// The first run later than `now`.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_utc();
        let next = if self.any_hour { self.next_by_cadence(now) } else { self.next_by_face(now) };
        next.map(Timestamp::from_utc)
    }

    /// The first matching face later than `face`.
    fn face_after(&self, face: NaiveDateTime) -> Option<NaiveDateTime> {
        self.faces.iter().filter_map(|f| f.after(&face.and_utc()).next()).map(|at| at.naive_utc()).min()
    }

    /// Fixed hours: each face runs once, a face in a gap at the gap's end.
    fn next_by_face(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut face = self.face(now);
        loop {
            face = self.face_after(face)?;
            let at = match self.zone.from_local_datetime(&face) {
                chrono::LocalResult::Single(at) | chrono::LocalResult::Ambiguous(at, _) => at.to_utc(),
                chrono::LocalResult::None => {
                    let (before, after) = (face.and_utc() - TimeDelta::days(2), face.and_utc() + TimeDelta::days(2));
                    self.transition(before, after)
                }
            };
            if at > now {
                return Some(at);
            }
        }
    }

    /// Any hour: matched on the face that the clock shows, with the offset of the moment; a transition on the way
    /// starts again from the face it jumps to.
    fn next_by_cadence(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = now;
        let mut face = self.face_after(self.face(from))?;
        loop {
            let at = (face - self.offset(from)).and_utc();
            if self.offset(at) == self.offset(from) {
                return Some(at);
            }
            from = self.transition(from, at);
            // The face at the transition itself may match.
            face = self.face_after(self.face(from) - TimeDelta::seconds(1))?;
        }
    }

    fn face(&self, at: DateTime<Utc>) -> NaiveDateTime {
        at.with_timezone(&self.zone).naive_local()
    }

    fn offset(&self, at: DateTime<Utc>) -> TimeDelta {
        TimeDelta::seconds(self.zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc().into())
    }

    /// The first second, after `before` and up to `after`, that has the offset of `after`.
    fn transition(&self, before: DateTime<Utc>, after: DateTime<Utc>) -> DateTime<Utc> {
        let (mut low, mut high) = (before.timestamp(), after.timestamp());
        let target = self.offset(after);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or(after);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.offset(at(middle)) == target {
                high = middle;
            } else {
                low = middle;
            }
        }
        at(high)
    }
}

/// crontab(5)'s weekdays (0 and 7 are Sunday, names, ranges, steps) as the crate counts them (1 is Sunday).
fn weekdays(field: &str) -> Result<String, String> {
    const NAMES: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let wrong =
        || format!("{field:?} is no weekday field: 0 to 7 (0 and 7 are Sunday) or names, with `,`, `-` and `/`");
    let day = |text: &str| -> Option<u8> {
        let name = text.get(..3).map(str::to_ascii_lowercase);
        let named = name.and_then(|n| NAMES.iter().position(|known| *known == n)).and_then(|i| u8::try_from(i).ok());
        named.or_else(|| text.parse().ok().filter(|n| *n <= 7))
    };
    if field == "*" {
        return Ok("*".into());
    }
    let mut days = std::collections::BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|s| *s > 0u8).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((from, to)) => (day(from).ok_or_else(wrong)?, day(to).ok_or_else(wrong)?),
            None if part.contains('/') => (day(range).ok_or_else(wrong)?, 6),
            None => (day(range).ok_or_else(wrong)?, day(range).ok_or_else(wrong)?),
        };
        // A range may end on Sunday as 7, or run over it by names (FRI-MON).
        let to = if to < from { to + 7 } else { to };
        days.extend((from..=to).step_by(step.into()).map(|d| d % 7 + 1));
    }
    Ok(days.iter().map(u8::to_string).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_utc(text.parse().expect("a time"))
    }

    /// The next runs after `from`, in UTC.
    fn check(cron: &str, zone: &str, from: &str, runs: usize, expected: Expect) {
        let cron = Cron::parse(cron, zone.parse().expect("a zone")).expect("an expression");
        let mut now = at(from);
        let mut out = String::new();
        for _ in 0..runs {
            let next = cron.next(now).expect("it comes");
            assert!(next > now, "never back in time");
            now = next;
            let local = now.to_utc().with_timezone(&cron.zone);
            out.push_str(&format!("{} = {}\n", now.to_utc().format("%m-%d %H:%M:%SZ"), local.format("%a %H:%M %Z")));
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn a_fixed_hour_in_berlin_runs_once_in_the_gap_and_once_in_the_fold() {
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            3,
            expect![[r#"
            03-28 01:30:00Z = Sat 02:30 CET
            03-29 01:00:00Z = Sun 03:00 CEST
            03-30 00:30:00Z = Mon 02:30 CEST
        "#]],
        );
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            2,
            expect![[r#"
            10-25 00:30:00Z = Sun 02:30 CEST
            10-26 01:30:00Z = Mon 02:30 CET
        "#]],
        );
        check(
            "*/20 2 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            3,
            expect![[r#"
            03-29 01:00:00Z = Sun 03:00 CEST
            03-30 00:00:00Z = Mon 02:00 CEST
            03-30 00:20:00Z = Mon 02:20 CEST
        "#]],
        );
    }

    #[test]
    fn any_hour_keeps_its_cadence_in_new_york() {
        check(
            "*/30 * * * *",
            "America/New_York",
            "2026-11-01T04:45:00Z",
            6,
            expect![[r#"
            11-01 05:00:00Z = Sun 01:00 EDT
            11-01 05:30:00Z = Sun 01:30 EDT
            11-01 06:00:00Z = Sun 01:00 EST
            11-01 06:30:00Z = Sun 01:30 EST
            11-01 07:00:00Z = Sun 02:00 EST
            11-01 07:30:00Z = Sun 02:30 EST
        "#]],
        );
        check(
            "30 * * * *",
            "America/New_York",
            "2026-03-08T05:45:00Z",
            3,
            expect![[r#"
            03-08 06:30:00Z = Sun 01:30 EST
            03-08 07:30:00Z = Sun 03:30 EDT
            03-08 08:30:00Z = Sun 04:30 EDT
        "#]],
        );
    }

    #[test]
    fn lord_howe_moves_by_half_an_hour() {
        check(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            2,
            expect![[r#"
            10-03 15:30:00Z = Sun 02:30 +11
            10-04 15:15:00Z = Mon 02:15 +11
        "#]],
        );
        check(
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:20:00Z",
            6,
            expect![[r#"
            04-04 14:30:00Z = Sun 01:30 +11
            04-04 14:45:00Z = Sun 01:45 +11
            04-04 15:00:00Z = Sun 01:30 +1030
            04-04 15:15:00Z = Sun 01:45 +1030
            04-04 15:30:00Z = Sun 02:00 +1030
            04-04 15:45:00Z = Sun 02:15 +1030
        "#]],
        );
        check(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            2,
            expect![[r#"
            04-04 14:45:00Z = Sun 01:45 +11
            04-05 15:15:00Z = Mon 01:45 +1030
        "#]],
        );
    }

    #[test]
    fn days_have_the_meaning_of_crontab() {
        check(
            "0 9 13 * 5",
            "UTC",
            "2026-11-12T10:00:00Z",
            4,
            expect![[r#"
            11-13 09:00:00Z = Fri 09:00 UTC
            11-20 09:00:00Z = Fri 09:00 UTC
            11-27 09:00:00Z = Fri 09:00 UTC
            12-04 09:00:00Z = Fri 09:00 UTC
        "#]],
        );
        check(
            "0 0 */10 * 1",
            "UTC",
            "2026-11-12T10:00:00Z",
            1,
            expect![[r#"
            12-21 00:00:00Z = Mon 00:00 UTC
        "#]],
        );
        for sunday in ["0", "7", "SUN", "sun"] {
            let cron = Cron::parse(&format!("0 0 * * {sunday}"), Tz::UTC).expect("valid");
            assert_eq!(cron.next(at("2026-11-23T00:00:00Z")), Some(at("2026-11-29T00:00:00Z")), "{sunday}");
        }
        assert_eq!(weekdays("5-7").as_deref(), Ok("1,6,7"));
        assert_eq!(weekdays("FRI-MON").as_deref(), Ok("1,2,6,7"));
        assert_eq!(weekdays("*/2").as_deref(), Ok("1,3,5,7"));
        check(
            "15 30 6 * * *",
            "UTC",
            "2026-11-12T10:00:00Z",
            1,
            expect![[r#"
            11-13 06:30:15Z = Fri 06:30 UTC
        "#]],
        );
        for bad in ["* * *", "61 * * * *", "0 0 30 2 *", "0 0 * * 8", "@daily", "0 0 * * x"] {
            assert!(Cron::parse(bad, Tz::UTC).is_err(), "{bad}");
        }
    }

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
            (0..100).map(|i| every.first(&format!("bridge-{i}"), None, false, now)).collect();
        assert!(spread.len() > 90, "{} distinct due times", spread.len());
        assert!(spread.iter().all(|due| *due >= now && *due < now.plus(FIRST_SPREAD_MAX)));
        assert_eq!(every.first("a", None, false, now), every.first("a", None, false, now));
        assert_eq!(every.first("a", Some(now.plus_ms(5)), false, now), now.plus_ms(5));
        assert!(every.first("a", Some(Timestamp(0)), false, now) < now.plus(CATCH_UP));
        let clamped = |hinted| every.first("a", Some(Timestamp(i64::MAX)), hinted, now);
        assert_eq!(clamped(false), now.plus(Duration::from_secs(3600)), "a stored time from a wrong clock");
        assert_eq!(clamped(true), now.plus(HINT_MAX));
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
