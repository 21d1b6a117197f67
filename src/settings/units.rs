//! Durations, sizes and rates as the file spells them.

use std::time::Duration;

const DURATION_HELP: &str = "a duration is a number and one of ms, s, m, h, d, such as \"30s\"";
const RATE_HELP: &str = "a rate is a number of requests and one of /s, /m, /h, /d, such as \"10/s\"";
const SIZE_HELP: &str = "a size is a number and one of B, KiB, MiB, GiB, such as \"32MiB\"";

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// `"300ms"`, `"30s"`, `"5m"`, `"2h"`, `"3d"`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: {DURATION_HELP}");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(wrong)
}

/// `"512B"`, `"64KiB"`, `"32MiB"`, `"1GiB"`, in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: {SIZE_HELP}");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// So many requests in a time, evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub requests: u32,
    pub per: Duration,
}

impl Rate {
    /// The time from one request to the next.
    pub fn spacing(self) -> Duration {
        self.per / self.requests.max(1)
    }
}

/// `"10/s"`, `"100/m"`, `"5000/h"`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is not a rate: {RATE_HELP}");
    let (requests, unit) = text.split_once('/').ok_or_else(wrong)?;
    let requests: u32 = requests.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    let per = match unit {
        "s" | "m" | "h" | "d" => duration(&format!("1{unit}"))?,
        _ => return Err(wrong()),
    };
    Ok(Rate { requests, per })
}

/// A duration as the file spells it, in the largest unit that it is whole in.
pub fn spell(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let found = units.into_iter().find(|(_, of)| ms > 0 && ms.is_multiple_of(*of));
    found.map_or_else(|| format!("{ms}ms"), |(unit, of)| format!("{}{unit}", ms / of))
}

/// A size as the file spells it, in the largest unit that it is whole in.
pub fn spell_size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let found = units.into_iter().find(|(_, of): &(_, u64)| bytes > 0 && bytes.is_multiple_of(*of));
    found.map_or_else(|| format!("{bytes}B"), |(unit, of)| format!("{}{unit}", bytes / of))
}

/// A duration as a person reads it: its two largest units.
pub fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    let s = duration.as_secs();
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, ms) in [("300ms", 300), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("3d", 259_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(spell(Duration::from_millis(ms)), text);
        }
        for text in ["", "s", "5", "5 m", "-5s", "5w", "1.5h", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(rate("10/s").map(Rate::spacing), Ok(Duration::from_millis(100)));
        assert_eq!(rate("100/m").map(Rate::spacing), Ok(Duration::from_millis(600)));
        for text in ["", "10", "0/s", "10/w", "-1/s", "1.5/s", "10/10s"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(size("32MiB"), Ok(32 << 20));
        assert_eq!(size("10B"), Ok(10));
        for text in ["", "5", "5MB", "MiB", "99999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
