//! Cron expressions with crontab(5)'s meaning over the `cron` crate, which only matches fields. The matching is done on the
//! local clock's face and mapped to instants here, because the crate's own zone handling skips gaps, fires twice in folds
//! and can go back in time.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::model::Timestamp;

/// A cron expression in a zone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cron {
    /// As written, for comparing an old file with a new one.
    text: String,
    zone: Tz,
    /// One, or two of which either may match: by day of month, and by day of week.
    faces: Vec<cron::Schedule>,
    /// Hours are `*` or `*/n`: runs keep their cadence through a fold.
    any_hour: bool,
}

impl Cron {
    pub(super) fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let known = match text.trim().strip_prefix('@') {
            Some(name) => nickname(name).ok_or_else(|| unknown_nickname(text))?,
            None => text,
        };
        let mut fields: Vec<&str> = known.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!(
                "{text:?} has {} fields: five (minute hour day month weekday) or six (with seconds first) are known",
                text.split_whitespace().count()
            ));
        };
        // The crate needs no space between fields, and takes `*1` for two of them: what it is given has one meaning only.
        let read =
            |name, field: &str| read(name, field).map_err(|why| format!("{text:?} is not a cron expression: {why}"));
        let (second, minute, hour) = (read("second", second)?, read("minute", minute)?, read("hour", hour)?);
        let (day, month) = (read("day of the month", day)?, read("month", month)?);
        let any_weekday = is_any(weekday);
        let weekdays = weekdays(weekday)?;
        let face = |day: &str, weekday: &str| {
            let face = format!("{second} {minute} {hour} {day} {month} {weekday}");
            cron::Schedule::from_str(&face).map_err(|e| {
                // The crate draws a picture of its own seven fields first.
                let text_of = e.to_string();
                let cause = text_of.lines().last().unwrap_or_default().trim().trim_end_matches('.');
                // It says "less than 23" of the highest hour.
                let cause = cause.replace("must be less than", "must be at most");
                format!("{text:?} is not a cron expression: {cause}")
            })
        };
        // crontab(5): when both days are restricted (neither starts with `*`), either is enough.
        let faces = if is_any(&day) || any_weekday {
            vec![face(&day, &weekdays)?]
        } else {
            vec![face(&day, "*")?, face("*", &weekdays)?]
        };
        let cron = Self { text: text.to_owned(), zone, faces, any_hour: is_any(&hour) };
        // A leap day comes within eight years.
        if cron.next(Timestamp(0)).is_none() {
            return Err(format!("{text:?} never comes"));
        }
        Ok(cron)
    }

    /// The first run later than `now`.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_utc();
        let next = if self.any_hour { self.next_by_cadence(now) } else { self.next_by_face(now) };
        next.map(Timestamp::from_utc)
    }

    /// The next runs later than `now`, as a clock in the zone shows them.
    pub(super) fn runs(&self, now: Timestamp, count: usize) -> Vec<String> {
        let next = std::iter::successors(self.next(now), |at| self.next(*at)).take(count);
        next.map(|at| at.to_utc().with_timezone(&self.zone).format("%a %Y-%m-%d %H:%M:%S %Z").to_string()).collect()
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

/// crontab(5)'s names of whole expressions.
const NICKNAMES: [(&str, &str); 7] = [
    ("hourly", "0 * * * *"),
    ("daily", "0 0 * * *"),
    ("midnight", "0 0 * * *"),
    ("weekly", "0 0 * * 0"),
    ("monthly", "0 0 1 * *"),
    ("yearly", "0 0 1 1 *"),
    ("annually", "0 0 1 1 *"),
];

fn nickname(name: &str) -> Option<&'static str> {
    NICKNAMES.iter().find(|(known, _)| *known == name).map(|(_, fields)| *fields)
}

fn unknown_nickname(text: &str) -> String {
    let known: Vec<String> = NICKNAMES.iter().map(|(name, _)| format!("@{name}")).collect();
    format!("{text:?} is not a cron expression: of the names that begin with @, {} are known", known.join(", "))
}

/// Whether a field begins with "any": then it restricts nothing, as crontab(5) has it.
fn is_any(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// The place of a name that is written with three letters or as a whole. `FRIL` and `MONKEY` are none.
fn named(names: &[&str], text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    names.iter().position(|name| *name == text || name.get(..3) == Some(text.as_str()))
}

/// What Quartz and others know, and crontab(5) does not.
fn is_foreign(field: &str) -> bool {
    let upper = field.to_ascii_uppercase();
    upper.contains('#')
        || upper.split([',', '-', '/']).any(|part| {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            matches!(rest, "L" | "W" | "LW")
                || part.strip_suffix('L').is_some_and(|day| named(&WEEKDAYS, day).is_some())
        })
}

const FOREIGN: &str = "`L`, `W` and `#` (the last day, the nearest working day, the n-th weekday) are not known; write numbers or names, \
                       such as 28-31 or MON";

/// A field as the crate is given it: `?` is `*`, and names of months are numbers.
fn read(name: &str, field: &str) -> Result<String, String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| match text {
        _ if is_number(text) => Some(text.to_owned()),
        _ if name == "month" => named(&MONTHS, text).map(|at| (at + 1).to_string()),
        _ => None,
    };
    let part = |part: &str| -> Option<String> {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        if step.is_some_and(|step| !is_number(step) || step.bytes().all(|b| b == b'0')) {
            return None;
        }
        let range = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => "*".to_owned(),
            Some((from, to)) => format!("{}-{}", number(from)?, number(to)?),
            None => number(range)?,
        };
        Some(step.map_or(range.clone(), |step| format!("{range}/{step}")))
    };
    let parts: Option<Vec<String>> = field.split(',').map(part).collect();
    parts.map(|parts| parts.join(",")).ok_or_else(|| {
        let names = if name == "month" { " or names such as JAN" } else { "" };
        let known = format!("it is `*` or numbers{names}, with `,`, `-` and `/`");
        let why = if is_foreign(field) { FOREIGN } else { &known };
        format!("the {name} {field:?} cannot be read: {why}")
    })
}

/// crontab(5)'s weekdays (0 and 7 are Sunday, names, ranges, steps) as the crate counts them (1 is Sunday).
fn weekdays(field: &str) -> Result<String, String> {
    let wrong = || {
        let known = "0 to 7 (0 and 7 are Sunday) or names such as MON, with `,`, `-` and `/`";
        format!("{field:?} is not a weekday field: {}", if is_foreign(field) { FOREIGN } else { known })
    };
    let is_number = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    let day = |text: &str| -> Option<u8> {
        let named = named(&WEEKDAYS, text).and_then(|at| u8::try_from(at).ok());
        named.or_else(|| Some(text).filter(is_number)?.parse().ok().filter(|n| *n <= 7))
    };
    if matches!(field, "*" | "?") {
        return Ok("*".into());
    }
    let mut days = std::collections::BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = Some(step).filter(is_number).and_then(|step| step.parse().ok());
                (range, step.filter(|step| *step > 0u8).ok_or_else(wrong)?)
            }
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (0, 6),
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
        for bad in ["* * *", "61 * * * *", "0 0 30 2 *", "0 0 * * 8", "0 0 * * x"] {
            assert!(Cron::parse(bad, Tz::UTC).is_err(), "{bad}");
        }
    }

    /// `0 9 ? * MON` ran every day, `FRIL` each Friday, `MON#1` and `MONKEY` each Monday, and `*1 * * * *` each minute after one.
    #[test]
    fn what_means_something_else_is_refused() {
        let next = |text: &str| Cron::parse(text, Tz::UTC).map(|cron| cron.next(at("2026-11-24T10:30:00Z")));
        for (text, same) in [
            ("0 9 ? * MON-FRI", "0 9 * * 1-5"),
            ("0 9 13 * ?", "0 9 13 * *"),
            ("0 9 ? * ?", "0 9 * * *"),
            ("0 9 * Jan,FEBRUARY monday", "0 9 * 1,2 1"),
            ("0 9 * mar-may/2 *", "0 9 * 3-5/2 *"),
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ] {
            assert_eq!(next(text), next(same), "{text}");
            assert!(next(text).is_ok_and(|at| at.is_some()), "{text}");
        }
        for (bad, why) in [
            ("0 9 * * FRIL", "`L`, `W` and `#`"),
            ("0 9 * * 5L", "`L`, `W` and `#`"),
            ("0 9 * * MON#1", "`L`, `W` and `#`"),
            ("0 9 * * sat#1,sun#2", "`L`, `W` and `#`"),
            ("0 9 L * *", "`L`, `W` and `#`"),
            ("0 9 LW * *", "`L`, `W` and `#`"),
            ("0 9 15W * *", "`L`, `W` and `#`"),
            ("0 9 * * MONKEY", "not a weekday field"),
            ("0 9 * * sunset", "not a weekday field"),
            ("0 9 * * +5", "not a weekday field"),
            ("0 9 * * 1/+2", "not a weekday field"),
            ("0 9 * JANUS *", "the month \"JANUS\" cannot be read"),
            ("*1 * * * *", "the minute \"*1\" cannot be read"),
            ("5* * * * *", "the minute \"5*\" cannot be read"),
            ("*/0 * * * *", "the minute \"*/0\" cannot be read"),
            ("1,,2 * * * *", "the minute \"1,,2\""),
            ("0 H/5 * * *", "the hour \"H/5\""),
            ("@reboot", "are known"),
            ("@Daily", "are known"),
        ] {
            let error = Cron::parse(bad, Tz::UTC).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
