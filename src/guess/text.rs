//! How a guess is written: jq paths, intervals, and strings of TOML.

use std::time::Duration;

use serde_json::Value as Json;

/// The path of a key.
pub fn within(path: &str, key: &str) -> String {
    let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && key.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if is_plain { format!("{path}.{key}") } else { format!("{path}.{}", Json::from(key)) }
}

/// A time of whole seconds as the file takes it: a number and one unit.
pub fn interval(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];
    let seconds = time.as_secs();
    let unit = UNITS.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

/// A string of TOML: a literal one for what would need escapes, unless that holds its own quote.
pub fn quoted(text: &str) -> String {
    let is_literal = text.contains(['"', '\\']) && !text.contains('\'') && !text.contains(char::is_control);
    if is_literal { format!("'{text}'") } else { escaped(text) }
}

/// A basic string (TOML 1.0, "String"): its escapes are those of JSON, except that DEL has one too.
fn escaped(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1m0s`, which is how messages show a minute, is not what the file takes.
    #[test]
    fn an_interval_is_one_that_the_file_takes() {
        for seconds in (1..=4000).chain([86_400, 86_405, 172_800]) {
            let time = Duration::from_secs(seconds);
            assert_eq!(crate::settings::units::duration(&interval(time)), Ok(time), "{seconds}");
        }
        assert_eq!([60, 90, 900, 21_600].map(|s| interval(Duration::from_secs(s))), ["1m", "90s", "15m", "6h"]);
    }

    /// Names of fields come from servers: none of them ends its string, or its line.
    #[test]
    fn any_text_is_one_string_of_toml() {
        let mut seed = 7_u64;
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        let chars: Vec<char> = "ab'\"\\\n\r\t\u{0}\u{7f}\u{85}\u{2028}é😀#=[]{}".chars().collect();
        for _ in 0..2000 {
            let text: String = (0..draw(8)).map(|_| chars[draw(chars.len())]).collect();
            let line = quoted(&text);
            assert!(!line.contains(['\n', '\r']), "{text:?}");
            let read: toml::Table = toml::from_str(&format!("a = {line}\n")).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(read["a"].as_str(), Some(text.as_str()), "{line}");
        }
    }
}
