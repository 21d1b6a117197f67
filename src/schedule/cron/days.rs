//! Days that no list of numbers can name, as Quartz and croniter write them: `L` is the last day of the month, `L-3`
//! three days before it, `LW` its last working day, `15W` the working day nearest to the 15th, `5#3` the third Friday,
//! and `5L` the last one. Weekdays are counted as crontab(5) does: 0 and 7 are Sunday.

use chrono::{Datelike, Days, NaiveDate, Weekday};

/// The most days that `L-` may go back: then it is in every month of 31 days.
const BACK_MAX: u32 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// So many days before the last one.
    Last {
        back: u32,
    },
    LastWorking,
    /// In the same month. A month without that day has none.
    Nearest {
        day: u32,
    },
    /// Weekdays from Sunday as 0; the first is 1.
    Nth {
        weekday: u32,
        nth: u32,
    },
    LastOf {
        weekday: u32,
    },
}

impl Special {
    /// One part of the field of days of the month.
    pub(super) fn of_month(part: &str) -> Option<Self> {
        let part = part.to_ascii_uppercase();
        match part.as_str() {
            "L" => Some(Self::Last { back: 0 }),
            "LW" => Some(Self::LastWorking),
            _ => match (part.strip_prefix("L-"), part.strip_suffix('W')) {
                (Some(back), _) => Some(Self::Last { back: number(back, 0, BACK_MAX)? }),
                (None, Some(day)) => Some(Self::Nearest { day: number(day, 1, 31)? }),
                (None, None) => None,
            },
        }
    }

    /// One part of the field of weekdays; `day` knows their numbers and names. croniter writes `L5` for `5L`.
    pub(super) fn of_week(part: &str, day: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        if let Some((weekday, nth)) = part.split_once('#') {
            return Some(Self::Nth { weekday: day(weekday)? % 7, nth: number(nth, 1, 5)? });
        }
        let weekday = part.strip_suffix(['L', 'l']).or_else(|| part.strip_prefix(['L', 'l']))?;
        Some(Self::LastOf { weekday: day(weekday)? % 7 })
    }

    /// Whether a day is meant.
    pub(super) fn is(self, date: NaiveDate) -> bool {
        let last = u32::from(date.num_days_in_month());
        let weekday = date.weekday().num_days_from_sunday();
        match self {
            Self::Last { back } => date.day() + back == last,
            Self::LastWorking => date.with_day(last).and_then(nearest_working) == Some(date),
            Self::Nearest { day } => date.with_day(day).and_then(nearest_working) == Some(date),
            Self::Nth { weekday: wanted, nth } => weekday == wanted && date.day().div_ceil(7) == nth,
            Self::LastOf { weekday: wanted } => weekday == wanted && date.day() + 7 > last,
        }
    }
}

/// The day itself, or the working day of its month that is nearest.
fn nearest_working(date: NaiveDate) -> Option<NaiveDate> {
    let is_first = date.day() == 1;
    let is_last = date.day() == u32::from(date.num_days_in_month());
    match date.weekday() {
        Weekday::Sat if is_first => date.checked_add_days(Days::new(2)),
        Weekday::Sat => date.checked_sub_days(Days::new(1)),
        Weekday::Sun if is_last => date.checked_sub_days(Days::new(2)),
        Weekday::Sun => date.checked_add_days(Days::new(1)),
        _ => Some(date),
    }
}

/// Digits alone, within limits.
fn number(text: &str, min: u32, max: u32) -> Option<u32> {
    let digits = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| (min..=max).contains(number))
}
