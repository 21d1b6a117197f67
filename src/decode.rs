//! From an answer's bytes to the JSON document that `items` sees. A kind is one arm here, or a file when it grows.
//!
//! It never guesses beyond the content type: an HTML page under JSON's name is an error that says so.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use crate::{model::Hash, settings::Item};

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub url: String,
    pub content_type: Option<String>,
    pub body: Bytes,
    pub hash: Hash,
}

/// Stands for the content type of a 204, which has none: a page without records.
pub const NO_CONTENT: &str = "bellpull/no-content";

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Json,
    /// One JSON value a line; `items` sees an array.
    Ndjson,
}

/// Kinds of later versions, refused by name.
const NOT_YET: &[&str] = &["xml", "csv", "feed", "html", "text"];

/// Documents decoded since the start: an unchanged answer adds none. For tests and status.
pub static DECODED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the answer is HTML ({content_type}), not {expected}: a login or an error page? It begins: {start}")]
    Html { content_type: String, expected: &'static str, start: String },
    #[error("the answer is empty")]
    Empty,
    #[error("the answer is not {expected}: {cause}; it begins: {start}")]
    Malformed { expected: &'static str, cause: String, start: String },
    #[error("the answer is nested deeper than {max} (`depth-max`)")]
    Depth { max: usize },
}

/// Reads `decode.KIND`.
pub fn read(item: &Item<'_>) -> Option<Kind> {
    let mut table = item.table()?;
    table.not_yet(NOT_YET);
    let found = table.take_kind(&["json", "ndjson"]);
    table.finish();
    let (kind, item) = found?;
    let mut options = item.table()?;
    options.not_yet(&["charset"]);
    options.finish();
    Some(if kind == "json" { Kind::Json } else { Kind::Ndjson })
}

/// The document as JSON text, checked for nesting but not yet parsed.
pub fn decode(kind: Option<Kind>, page: &Page, depth_max: usize) -> Result<Cow<'_, [u8]>, Error> {
    DECODED.fetch_add(1, Ordering::Relaxed);
    let content_type = page.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let kind = kind.unwrap_or(if content_type.contains("ndjson") || content_type.contains("jsonl") {
        Kind::Ndjson
    } else {
        Kind::Json
    });
    let expected = match kind {
        Kind::Json => "JSON",
        Kind::Ndjson => "NDJSON",
    };
    let body: &[u8] = page.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&page.body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None if kind == Kind::Json => return Err(Error::Empty),
        Some(b'<') => {
            let content_type = if content_type.is_empty() { "no content type".into() } else { content_type };
            return Err(Error::Html { content_type, expected, start: start(body) });
        }
        _ => {}
    }
    let malformed = |cause: String| Error::Malformed { expected, cause, start: start(body) };
    if let Err(error) = std::str::from_utf8(body) {
        return Err(malformed(format!("it is not UTF-8: {error}")));
    }
    check_depth(body, depth_max)?;
    match kind {
        Kind::Json => Ok(Cow::Borrowed(body)),
        Kind::Ndjson => {
            let mut array = Vec::with_capacity(body.len() + 2);
            array.push(b'[');
            let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
            for (number, line) in lines.enumerate() {
                serde_json::from_slice::<serde::de::IgnoredAny>(line)
                    .map_err(|e| malformed(format!("line {}: {e}", number + 1)))?;
                if number > 0 {
                    array.push(b',');
                }
                array.extend_from_slice(line);
            }
            array.push(b']');
            Ok(Cow::Owned(array))
        }
    }
}

/// The error of a document that decoded to no JSON.
pub fn malformed(error: &serde_json::Error, document: &[u8]) -> Error {
    Error::Malformed { expected: "JSON", cause: error.to_string(), start: start(document) }
}

/// Nesting counted over the bytes, before any parser recurses.
fn check_depth(text: &[u8], max: usize) -> Result<(), Error> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return Err(Error::Depth { max });
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The first characters, on one line, for a message.
fn start(body: &[u8]) -> String {
    /// Enough to recognise a page by, too little to fill a log.
    const CHARS: usize = 80;
    let text = String::from_utf8_lossy(body);
    let line: Vec<&str> = text.split_whitespace().take(CHARS).collect();
    line.join(" ").chars().take(CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Option<Kind>, content_type: &str, body: &str) -> Result<String, String> {
        let page = Page {
            url: String::new(),
            content_type: Some(content_type.into()),
            body: body.to_owned().into(),
            hash: Hash::default(),
        };
        decode(kind, &page, 4)
            .map(|text| String::from_utf8(text.into_owned()).expect("UTF-8"))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn bodies() {
        assert_eq!(check(None, "application/json", "\u{feff}[1]"), Ok("[1]".into()));
        assert_eq!(
            check(None, "application/x-ndjson", "{\"a\":1}\n\n{\"a\":2}\r\n"),
            Ok("[{\"a\":1},{\"a\":2}]".into())
        );
        assert_eq!(check(Some(Kind::Ndjson), "text/plain", ""), Ok("[]".into()));
        for (content_type, body, error) in [
            (
                "text/html",
                "<!doctype html>\n<title>Log in</title>",
                "the answer is HTML (text/html), not JSON: a login or an error page? It begins: <!doctype html> <title>Log in</title>",
            ),
            ("application/json", "  ", "the answer is empty"),
            ("application/json", "[[[[[1]]]]]", "the answer is nested deeper than 4 (`depth-max`)"),
        ] {
            assert_eq!(check(None, content_type, body), Err(error.into()));
        }
        assert!(
            check(None, "application/json", r#"["[[[[[[[[", "\"[[[[["]"#).is_ok(),
            "brackets in strings do not nest"
        );
        assert!(check(Some(Kind::Ndjson), "", "{\"a\":1}\n{\"a\"").is_err());
    }
}
