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

/// Names of units elsewhere, beside the unit here; what has none is the first.
const DURATION_NAMES: [(&str, &str); 5] = [
    ("s", "s sec secs second seconds"),
    ("ms", "ms msec msecs millis millisecond milliseconds"),
    ("m", "m min mins minute minutes"),
    ("h", "h hr hrs hour hours"),
    ("d", "d day days"),
];
const SIZE_NAMES: [(&str, &str); 4] = [
    ("B", "b byte bytes"),
    ("KiB", "k kb kib kilobyte kilobytes"),
    ("MiB", "m mb mib megabyte megabytes"),
    ("GiB", "g gb gib gigabyte gigabytes"),
];

/// What a unit of another spelling is here.
fn unit_of(name: &str, names: &[(&'static str, &str)]) -> Option<&'static str> {
    let name = name.trim().to_ascii_lowercase();
    let found = names.iter().find(|(_, all)| name.is_empty() || all.split(' ').any(|one| one == name));
    found.map(|(unit, _)| *unit)
}

/// A number and a unit as they are spelled here, where the text means one: `5min`, `5 minutes`, `5`.
fn mended(text: &str, names: &[(&'static str, &str)]) -> Option<String> {
    let (number, name) = split(text.trim())?;
    unit_of(name, names).map(|unit| format!("{number}{unit}"))
}

/// `10 per second`, `10/sec`, `10`.
fn mended_rate(text: &str) -> Option<String> {
    let (number, name) = split(text.trim())?;
    let name = name.trim();
    let name = name.strip_prefix('/').or_else(|| name.strip_prefix("per ")).unwrap_or(name);
    let unit = unit_of(name, &DURATION_NAMES).filter(|unit| *unit != "ms" && number > 0)?;
    Some(format!("{number}/{unit}"))
}

/// What is wrong with a text, and what to write.
fn not(text: &str, what: &str, mended: Option<String>, help: &str) -> String {
    match mended {
        Some(mended) => format!("{text:?} is not {what}: write {mended:?}"),
        None => format!("{text:?} is not {what}: {help}"),
    }
}

/// `"300ms"`, `"30s"`, `"5m"`, `"2h"`, `"3d"`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        // A number that its unit makes too large is wrong as it is spelled here, too.
        let meant = mended(text, &DURATION_NAMES).filter(|mended| mended != text);
        let is_cron = text.split_whitespace().count() == 5 && text.contains('*');
        let help = if is_cron { "that is an expression for `cron`, a key beside `every`" } else { DURATION_HELP };
        not(text, "a duration", meant, help)
    };
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
    let wrong = || not(text, "a size", mended(text, &SIZE_NAMES).filter(|mended| mended != text), SIZE_HELP);
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
    let wrong = || not(text, "a rate", mended_rate(text).filter(|mended| mended != text), RATE_HELP);
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

    /// `5 minutes`, `60` and `5MB` were refused without the spelling that is read.
    #[test]
    fn units_of_another_spelling_are_told_as_they_are_read() {
        let written =
            |error: String| error.split_once("write \"").map(|(_, rest)| rest.trim_end_matches('"').to_owned());
        let spellings = |name: &str| {
            let upper = name.to_ascii_uppercase();
            ["", " "].iter().flat_map(|gap| [format!("{gap}{name}"), format!("{gap}{upper}")]).collect::<Vec<_>>()
        };
        for (unit, names) in DURATION_NAMES {
            for text in names.split(' ').flat_map(spellings).map(|name| format!("5{name}")) {
                let Err(error) = duration(&text) else { continue };
                assert_eq!(written(error), Some(format!("5{unit}")), "{text}");
                assert!(duration(&format!("5{unit}")).is_ok());
            }
        }
        for (unit, names) in SIZE_NAMES {
            for text in names.split(' ').flat_map(spellings).map(|name| format!("5{name}")) {
                let Err(error) = size(&text) else { continue };
                assert_eq!(written(error), Some(format!("5{unit}")), "{text}");
                assert!(size(&format!("5{unit}")).is_ok());
            }
        }
        for (text, meant) in [("10 per second", "10/s"), ("10/minute", "10/m"), ("10", "10/s"), ("9/hour", "9/h")] {
            assert_eq!(rate(text).err().and_then(written).as_deref(), Some(meant), "{text}");
            assert!(rate(meant).is_ok());
        }
        assert_eq!(duration("60").err().and_then(written).as_deref(), Some("60s"));
        for text in ["soon", "-5s", "99999999999999999d", "5 fortnights", "*/5 * * * *"] {
            assert_eq!(duration(text).err().and_then(written), None, "{text}");
        }
        assert!(duration("*/5 * * * *").is_err_and(|error| error.contains("`cron`")));
    }
}
