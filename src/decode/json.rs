//! JSON as it is, and one JSON value a line (NDJSON), or behind each record separator (RFC 7464), as an array.

use std::borrow::Cow;

use super::{Declared, Error, Input, malformed_text};

/// RFC 7464: stands before each value.
const RECORD_SEPARATOR: char = '\u{1e}';

pub(super) fn decode<'a>(input: &Input<'a, '_>) -> Result<Cow<'a, [u8]>, Error> {
    let text = input.text(Declared::Json, "JSON")?;
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
    let text = input.text(Declared::Json, "NDJSON")?;
    let body = text.trim_start();
    if body.starts_with('<') {
        return Err(input.html(&text, "NDJSON"));
    }
    let (separator, what) =
        if body.starts_with(RECORD_SEPARATOR) { (RECORD_SEPARATOR, "record") } else { ('\n', "line") };
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
