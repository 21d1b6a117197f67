//! JSON as it is, and one JSON value a line (NDJSON), or behind each record separator (RFC 7464), as an array.
//!
//! Half of a surrogate pair (`\ud83d` alone) is within JSON's grammar and no character (RFC 8259, 8.2): a text that was
//! cut in the middle of an emoji. It becomes U+FFFD, so that one record's text does not stop all others.

use std::borrow::Cow;

use super::{Error, Input, malformed_text};

/// RFC 7464: stands before each value.
const RECORD_SEPARATOR: char = '\u{1e}';

pub(super) fn decode<'a>(input: &Input<'a, '_>) -> Result<Cow<'a, [u8]>, Error> {
    let text = input.json("JSON")?;
    match text.bytes().find(|byte| !byte.is_ascii_whitespace()) {
        None => Err(Error::Empty),
        Some(b'<') => Err(input.html(&text, "JSON")),
        Some(_) => Ok(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
    }
}

pub(super) fn decode_lines(input: &Input<'_, '_>) -> Result<Vec<u8>, Error> {
    let text = input.json("NDJSON")?;
    let body = text.trim_start();
    if body.starts_with('<') {
        return Err(input.html(&text, "NDJSON"));
    }
    // Behind each value in SignalR. Within JSON it can only stand as an escape.
    let (separator, what) = if body.contains(RECORD_SEPARATOR) { (RECORD_SEPARATOR, "record") } else { ('\n', "line") };
    let mut array = Vec::with_capacity(text.len() + 2);
    array.push(b'[');
    for (number, value) in text.split(separator).enumerate() {
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        serde_json::from_str::<serde::de::IgnoredAny>(value)
            .map_err(|e| malformed_text("NDJSON", format!("{what} {}: {e}", number + 1), &text))?;
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(value.as_bytes());
    }
    array.push(b']');
    Ok(array)
}

/// The text with U+FFFD for each half of a surrogate pair, and how many there were. It is copied only if it has some.
pub(super) fn whole_pairs(text: Cow<'_, str>) -> (Cow<'_, str>, usize) {
    const REPLACEMENT: &str = "\\ufffd";
    let halves = halves(&text);
    if halves.is_empty() {
        return (text, 0);
    }
    let mut whole = text.into_owned();
    for at in &halves {
        // Both are escapes of six ASCII characters.
        whole.replace_range(*at..at + REPLACEMENT.len(), REPLACEMENT);
    }
    (Cow::Owned(whole), halves.len())
}

/// Where an escape stands that is half of a surrogate pair. Of JSON a backslash is in strings only.
fn halves(text: &str) -> Vec<usize> {
    /// `\u` and four digits.
    const ESCAPE_BYTES: usize = 6;
    let unit = |at: usize| {
        let digits = text.get(at..at + ESCAPE_BYTES)?.strip_prefix("\\u")?;
        // A sign would be taken, too.
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let (mut halves, mut at) = (Vec::new(), 0);
    // The search for a character looks at a word at a time; byte by byte it took a tenth of a poll.
    while let Some(next) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += next;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + ESCAPE_BYTES), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE_BYTES,
            Some(0xd800..=0xdfff) => {
                halves.push(at);
                at += ESCAPE_BYTES;
            }
            // Another escape, or `\\`, behind which a `u` is a letter. What is no JSON may have a longer character there.
            _ => at += 1 + text.get(at + 1..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8),
        }
    }
    halves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Half an emoji in one record of 51 stopped the other 50.
    #[test]
    fn half_a_pair_is_replaced() {
        for (text, whole, count) in [
            (r#""x \ud83d""#, r#""x \ufffd""#, 1),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#, 0),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#, 2),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#, 1),
            (r#""\\ud83d""#, r#""\\ud83d""#, 0),
            (r#""\\\ud83d""#, r#""\\\ufffd""#, 1),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#, 2),
            (r#""\ud83"#, r#""\ud83"#, 0),
            (r#""\u+83d""#, r#""\u+83d""#, 0),
            (r#"{"\udfff":"é"}"#, r#"{"\ufffd":"é"}"#, 1),
            ("\"\\é\\ud83d", "\"\\é\\ufffd", 1),
            ("\\", "\\", 0),
        ] {
            let (found, replaced) = whole_pairs(text.into());
            assert_eq!((&*found, replaced), (whole, count), "{text}");
            assert_eq!(matches!(found, Cow::Borrowed(_)), count == 0, "{text}");
        }
    }

    proptest! {
        /// Any UTF-16, also such as is none, is JSON with the text that `String::from_utf16_lossy` makes of it.
        #[test]
        fn any_utf_16_is_read_as_a_text(
            units in prop::collection::vec(prop_oneof![any::<u16>(), 0xd7f0u16..0xe010, 0x20u16..0x7f], 0..40),
            escaped in any::<u64>(),
        ) {
            let mut json = String::from("\"");
            for (at, unit) in units.iter().enumerate() {
                match char::from_u32((*unit).into()).filter(|_| escaped >> (at % 64) & 1 == 0) {
                    Some(plain) => json.push_str(serde_json::to_string(&plain).expect("JSON").trim_matches('"')),
                    None => json.push_str(&format!("\\u{unit:04x}")),
                }
            }
            json.push('"');
            // A quote of its own was trimmed away.
            prop_assume!(!units.contains(&u16::from(b'"')));
            let (whole, replaced) = whole_pairs(json.into());
            let read: String = serde_json::from_str(&whole).expect("JSON");
            prop_assert_eq!(&read, &String::from_utf16_lossy(&units));
            let lost = char::decode_utf16(units.iter().copied()).filter(Result::is_err).count();
            prop_assert_eq!(replaced, lost);
        }
    }
}
