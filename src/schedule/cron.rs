//! Cron expressions with crontab(5)'s meaning over the `cron` crate, which only matches fields. The matching is done on the
//! local clock's face and mapped to instants here, because the crate's own zone handling skips gaps, fires twice in folds
//! and can go back in time. Days that the crate does not know are in `days`.

mod days;

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::model::Timestamp;
use days::Special;

/// A cron expression in a zone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cron {
    /// As written, for comparing an old file with a new one.
    text: String,
    zone: Tz,
    /// Any of them may match.
    faces: Vec<Face>,
    /// Hours are `*` or `*/n`: runs keep their cadence through a fold.
    any_hour: bool,
}

/// What matches the face of a clock.
#[derive(Debug, Clone, PartialEq)]
struct Face {
    fields: cron::Schedule,
    /// Of the days that the fields match only these; empty: all.
    days: Vec<Special>,
}

/// A part of a field of days: for the crate, and what the crate does not know. One of them restricts nothing.
type DayPart = (String, Vec<Special>);

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
        let month = read("month", month)?;
        let days = parts(day, Special::of_month, |day| read("day of the month", day))?;
        let weekdays = parts(weekday, |part| Special::of_week(part, weekday_of), weekdays)?;
        let face = |day: &str, weekday: &str, days: Vec<Special>| {
            let face = format!("{second} {minute} {hour} {day} {month} {weekday}");
            let fields = cron::Schedule::from_str(&face).map_err(|e| {
                // The crate draws a picture of its own seven fields first.
                let text_of = e.to_string();
                let cause = text_of.lines().last().unwrap_or_default().trim().trim_end_matches('.');
                // It says "less than 23" of the highest hour.
                let cause = cause.replace("must be less than", "must be at most");
                format!("{text:?} is not a cron expression: {cause}")
            })?;
            Ok::<_, String>(Face { fields, days })
        };
        // crontab(5): when both days are restricted (neither starts with `*`), either is enough.
        let faces: Result<Vec<Face>, String> = if is_any(day) || is_any(weekday) {
            let both = days.iter().flat_map(|day| weekdays.iter().map(move |weekday| (day, weekday)));
            both.map(|(day, weekday)| face(&day.0, &weekday.0, [&*day.1, &*weekday.1].concat())).collect()
        } else {
            let days = days.iter().map(|day| face(&day.0, "*", day.1.clone()));
            days.chain(weekdays.iter().map(|weekday| face("*", &weekday.0, weekday.1.clone()))).collect()
        };
        let faces = faces?;
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
        self.faces.iter().filter_map(|f| f.after(face)).min()
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

impl Face {
    /// The first match later than `face`. The crate ends it: it knows no year after 2100.
    fn after(&self, face: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut from = face;
        loop {
            let at = self.fields.after(&from.and_utc()).next()?.naive_utc();
            if self.days.is_empty() || self.days.iter().any(|day| day.is(at.date())) {
                return Some(at);
            }
            // Nothing more of that day.
            from = at.date().succ_opt()?.and_time(NaiveTime::MIN) - TimeDelta::seconds(1);
        }
    }
}

/// A field of days, cut into what the crate knows and what only `special` knows.
fn parts(
    field: &str,
    special: impl Fn(&str) -> Option<Special>,
    read: impl FnOnce(&str) -> Result<String, String>,
) -> Result<Vec<DayPart>, String> {
    let known: Vec<Special> = field.split(',').filter_map(&special).collect();
    let plain: Vec<&str> = field.split(',').filter(|part| special(part).is_none()).collect();
    let mut parts = Vec::new();
    if !plain.is_empty() {
        parts.push((read(&plain.join(","))?, Vec::new()));
    }
    if !known.is_empty() {
        parts.push(("*".to_owned(), known));
    }
    Ok(parts)
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
        let more = match name {
            "month" => " or names such as JAN",
            "day of the month" => ", or `L`, `L-3`, `LW`, `15W`",
            _ => "",
        };
        format!("the {name} {field:?} cannot be read: it is `*` or numbers{more}, with `,`, `-` and `/`")
    })
}

/// A weekday by its name or its number; 0 and 7 are Sunday.
fn weekday_of(text: &str) -> Option<u32> {
    let named = named(&WEEKDAYS, text).and_then(|at| u32::try_from(at).ok());
    let is_number = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    named.or_else(|| Some(text).filter(is_number)?.parse().ok().filter(|n| *n <= 7))
}

/// crontab(5)'s weekdays (names, ranges, steps) as the crate counts them (1 is Sunday).
fn weekdays(field: &str) -> Result<String, String> {
    let wrong = || {
        let known = "0 to 7 (0 and 7 are Sunday) or names such as MON, with `,`, `-` and `/`";
        format!("{field:?} is not a weekday field: it is {known}, or `5#3` (the third Friday), `5L` (the last one)")
    };
    let is_number = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    let day = weekday_of;
    if matches!(field, "*" | "?") {
        return Ok("*".into());
    }
    let mut days = std::collections::BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = Some(step).filter(is_number).and_then(|step| step.parse().ok());
                (range, step.filter(|step| *step > 0usize).ok_or_else(wrong)?)
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
        days.extend((from..=to).step_by(step).map(|d| d % 7 + 1));
    }
    Ok(days.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
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

    /// The last day of the month, and the third Friday, could not be said at all.
    #[test]
    fn days_that_quartz_and_croniter_know() {
        let dates = |text: &str| {
            let cron = Cron::parse(text, Tz::UTC).expect(text);
            let next = std::iter::successors(cron.next(at("2026-11-24T10:30:00Z")), |at| cron.next(*at)).take(4);
            next.map(|at| at.to_utc().format("%y-%m-%d").to_string()).collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            ("0 9 L * *", "26-11-30 26-12-31 27-01-31 27-02-28"),
            ("0 9 l-2 * ?", "26-11-28 26-12-29 27-01-29 27-02-26"),
            ("0 9 LW * *", "26-11-30 26-12-31 27-01-29 27-02-26"),
            ("0 9 15W * *", "26-12-15 27-01-15 27-02-15 27-03-15"),
            // The 1st of May 2027 is a Saturday, the 28th of February a Sunday.
            ("0 9 1W 5 *", "27-05-03 28-05-01 29-05-01 30-05-01"),
            ("0 9 28W 2 *", "27-02-26 28-02-28 29-02-28 30-02-28"),
            ("0 9 31W * *", "26-12-31 27-01-29 27-03-31 27-05-31"),
            ("0 9 * * 5#3", "26-12-18 27-01-15 27-02-19 27-03-19"),
            ("0 9 ? * FRI#3", "26-12-18 27-01-15 27-02-19 27-03-19"),
            ("0 9 * * friday#5", "27-01-29 27-04-30 27-07-30 27-10-29"),
            ("0 9 * * 5L", "26-11-27 26-12-25 27-01-29 27-02-26"),
            ("0 9 * * L5", "26-11-27 26-12-25 27-01-29 27-02-26"),
            ("0 9 * * FRIL", "26-11-27 26-12-25 27-01-29 27-02-26"),
            ("0 9 * * sat#1,sun#2", "26-12-05 26-12-13 27-01-02 27-01-10"),
            ("0 9 1,L * *", "26-11-30 26-12-01 26-12-31 27-01-01"),
            // Both are restricted: either is enough.
            ("0 9 L * 5#3", "26-11-30 26-12-18 26-12-31 27-01-15"),
            // crontab(5): what begins with `*` has to match too.
            ("0 9 */2 * 5L", "26-11-27 26-12-25 27-01-29 27-06-25"),
        ] {
            assert_eq!(dates(text), expected, "{text}");
        }
        // A leap day that is a Friday.
        assert_eq!(dates("0 9 * 2 5#5"), "36-02-29 64-02-29 92-02-29");
    }

    /// A part of a field of days: as written, and whether a day is meant, found by counting days one by one.
    type Meant = (String, Box<dyn Fn(chrono::NaiveDate) -> bool>);

    /// The days of the month of a date.
    fn month_of(date: chrono::NaiveDate) -> Vec<chrono::NaiveDate> {
        use chrono::Datelike;
        (1..=31).filter_map(|day| chrono::NaiveDate::from_ymd_opt(date.year(), date.month(), day)).collect()
    }

    /// A field of days made of a seed; `None` restricts nothing.
    fn field(seed: u32, of_week: bool) -> Option<Vec<Meant>> {
        use chrono::Datelike;
        let weekday = |date: chrono::NaiveDate| date.format("%w").to_string().parse::<u32>().expect("a digit");
        let works = move |date: chrono::NaiveDate| (1..=5).contains(&weekday(date));
        let part = |seed: u32| -> Meant {
            let (kind, n) = (seed % 5, seed / 5);
            if of_week {
                let day = n % 7;
                let same = move |date: chrono::NaiveDate| {
                    month_of(date).into_iter().filter(|other| weekday(*other) == day).collect::<Vec<_>>()
                };
                let nth = usize::try_from(n / 7 % 5).expect("small");
                return match kind {
                    0 | 1 => (day.to_string(), Box::new(move |date| weekday(date) == day)),
                    2 | 3 => (format!("{day}#{}", nth + 1), Box::new(move |date| same(date).get(nth) == Some(&date))),
                    _ => (format!("{day}L"), Box::new(move |date| same(date).last() == Some(&date))),
                };
            }
            let day = 1 + n % 31;
            match kind {
                0 => (day.to_string(), Box::new(move |date| date.day() == day)),
                1 => ("L".into(), Box::new(|date| month_of(date).last() == Some(&date))),
                2 => {
                    let back = n % 31;
                    let meant = move |date| {
                        month_of(date).into_iter().rev().nth(usize::try_from(back).expect("small")) == Some(date)
                    };
                    (format!("L-{back}"), Box::new(meant))
                }
                3 => (
                    "LW".into(),
                    Box::new(move |date| month_of(date).into_iter().rfind(|day| works(*day)) == Some(date)),
                ),
                _ => {
                    let meant = move |date: chrono::NaiveDate| {
                        let all = month_of(date);
                        let has_day = all.iter().any(|other| other.day() == day);
                        let far = |other: &chrono::NaiveDate| other.day().abs_diff(day);
                        has_day && all.into_iter().filter(|other| works(*other)).min_by_key(far) == Some(date)
                    };
                    (format!("{day}W"), Box::new(meant))
                }
            }
        };
        match seed % 4 {
            0 => None,
            1 | 2 => Some(vec![part(seed / 4)]),
            _ => Some(vec![part(seed / 4), part(seed / 4096)]),
        }
    }

    proptest::proptest! {
        /// Any two fields of days, against a walk over the days that asks each of them.
        #[test]
        fn special_days_are_those_that_counting_finds(day: u32, weekday: u32, from in 0i64..20_000) {
            use chrono::Datelike;
            let (days, weekdays) = (field(day, false), field(weekday, true));
            let written = |field: &Option<Vec<Meant>>| {
                let parts = field.iter().flatten().map(|(text, _)| text.clone());
                field.as_ref().map_or("*".to_owned(), |_| parts.collect::<Vec<_>>().join(","))
            };
            let text = format!("0 12 {} * {}", written(&days), written(&weekdays));
            let start = chrono::NaiveDate::from_ymd_opt(1999, 12, 31).expect("a date") + TimeDelta::days(from);
            let any = |field: &Option<Vec<Meant>>, date| field.iter().flatten().any(|(_, is)| is(date));
            let is_meant = |date: &chrono::NaiveDate| match (&days, &weekdays) {
                (None, None) => true,
                _ => any(&days, *date) || any(&weekdays, *date),
            };
            let expected: Vec<_> = start.iter_days().skip(1).take(400).filter(is_meant).collect();
            let cron = Cron::parse(&text, Tz::UTC).expect("an expression");
            let noon = Timestamp::from_utc((start.and_time(NaiveTime::MIN) + TimeDelta::hours(12)).and_utc());
            let found = std::iter::successors(cron.next(noon), |at| cron.next(*at)).map(|at| at.to_utc().date_naive());
            let found: Vec<_> = found.take(expected.len()).collect();
            proptest::prop_assert_eq!(found, expected, "{} from {} of {}", text, start, start.year());
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
            ("0 9 * * L", "`5L` (the last one)"),
            ("0 9 * * FRI#L", "not a weekday field"),
            ("0 9 * * MON-FRI#1", "not a weekday field"),
            ("0 9 * * 5#0", "not a weekday field"),
            ("0 9 * * 5#6", "not a weekday field"),
            ("0 9 * * 5#+1", "not a weekday field"),
            ("0 9 * * 8L", "not a weekday field"),
            ("0 9 * * #3", "not a weekday field"),
            ("0 9 * * *L", "not a weekday field"),
            ("0 9 W * *", "the day of the month \"W\" cannot be read"),
            ("0 9 WL * *", "cannot be read"),
            ("0 9 0W * *", "cannot be read"),
            ("0 9 32W * *", "cannot be read"),
            ("0 9 1-5W * *", "cannot be read"),
            ("0 9 L/2 * *", "cannot be read"),
            ("0 9 L-31 * *", "cannot be read"),
            ("0 9 1L * *", "cannot be read"),
            ("L * * * *", "the minute \"L\" cannot be read"),
            ("0 9 30W 2 *", "never comes"),
            ("0 9 L-29 2 *", "never comes"),
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
