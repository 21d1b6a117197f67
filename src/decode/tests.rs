use std::ops::Range;

use toml::de::DeTable;

use super::*;
use crate::settings::{Context, Table, diagnostic::Place};

pub(super) fn body(content_type: &str, body: &[u8]) -> Page {
    Page {
        url: "https://example.com/data/feed".into(),
        content_type: Some(content_type.to_owned()).filter(|c| !c.is_empty()),
        body: Bytes::copy_from_slice(body),
        hash: Hash::default(),
    }
}

/// `decode.KIND` as the file has it.
fn decoder(toml: &str) -> Decoder {
    let text = format!("decode.{toml}");
    let table = DeTable::parse(&text).expect("TOML");
    let context = Context::new(false);
    let place = Place { file: 0, span: Range::default() };
    let mut table = Table::new(&context, String::new(), place, table.get_ref());
    static DECODE: key::Get<Decoder> = key::Get::get("", "decode", DECODER);
    let decoder = table.get(&DECODE);
    let errors = context.into_diagnostics();
    decoder.unwrap_or_else(|| panic!("{toml}: {errors:?}"))
}

fn show(result: Result<Cow<'_, [u8]>, Error>) -> String {
    match result {
        Ok(text) => {
            serde_json::from_slice::<serde::de::IgnoredAny>(&text).expect("what is decoded is JSON");
            String::from_utf8(text.into_owned()).expect("UTF-8")
        }
        Err(error) => format!("error: {error}"),
    }
}

/// What a document becomes under `decode.KIND`, or the error; eight levels may nest.
pub(super) fn check_as(toml: &str, content_type: &str, text: &[u8]) -> String {
    show(decode(Some(&decoder(toml)), &body(content_type, text), 8))
}

fn check(content_type: &str, text: &str) -> String {
    show(decode(None, &body(content_type, text.as_bytes()), 4))
}

#[test]
fn json_and_lines_of_it() {
    assert_eq!(check("application/json", "\u{feff}[1]"), "[1]");
    assert_eq!(check("application/x-ndjson", "{\"a\":1}\n\n{\"a\":2}\r\n"), "[{\"a\":1},{\"a\":2}]");
    assert_eq!(check("application/json-seq", "\u{1e}{\"a\":\n1}\n\u{1e}2\n"), "[{\"a\":\n1},2]");
    assert_eq!(check("application/x-ndjson", "{\"a\":\n1}\u{1e}2\u{1e}"), "[{\"a\":\n1},2]");
    assert_eq!(check_as("ndjson = {}", "text/plain", b""), "[]");
    for (content_type, body, error) in [
        (
            "text/html",
            "<!doctype html>\n<title>Log in</title>",
            "error: the answer is HTML (text/html), not JSON: a login or an error page? It begins: <!doctype html> <title>Log in</title>",
        ),
        ("application/json", "  ", "error: the answer is empty"),
        ("application/json", "[[[[[1]]]]]", "error: the answer is nested deeper than 4 (`depth-max`)"),
        (
            "application/jsonl",
            "1\n\n{",
            "error: the answer is not NDJSON: line 3: EOF while parsing an object at line 1 column 1; it begins: 1 {",
        ),
    ] {
        assert_eq!(check(content_type, body), error);
    }
    assert_eq!(
        check("application/json", r#"["[[[[[[[[", "\"[[[[["]"#),
        r#"["[[[[[[[[", "\"[[[[["]"#,
        "brackets in strings do not nest"
    );
    let utf_16: Vec<u8> = "\u{feff}[\"é\"]".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(check_as("json = {}", "application/json; charset=latin1", &utf_16), "[\"é\"]");
    assert_eq!(check_as("json = { charset = \"latin1\" }", "application/json", b"[\"\xe9\"]"), "[\"é\"]");
}

/// Found by fuzzing: serde_json reads an object with one of its own keys as a number, or as the JSON in a string, which
/// is as deep as it likes.
#[test]
fn keys_of_the_parser() {
    let error = "error: the answer has a key that begins with `$serde_json::private::`, which is refused";
    for body in [
        r#"[{"$serde_json::private::Number":"1"}]"#,
        r#"{"a":1,"\u0024serde_json::private\u003a:RawValue" : "[[[[[[[[1]]]]]]]]"}"#,
    ] {
        assert_eq!(check("application/json", body), error);
        assert_eq!(check("application/x-ndjson", body), error);
    }
    let feed =
        r#"{"version":"https://jsonfeed.org/version/1","items":[{"id":{"$serde_json::private::RawValue":"[]"}}]}"#;
    assert_eq!(check_as("feed = {}", "", feed.as_bytes()), error);
    assert_eq!(check("text/csv", "$serde_json::private::Number\nx\n"), error);
    for body in [r#"["$serde_json::private::Number",":"]"#, r#"{"$ref":"$serde_json::private::Number"}"#] {
        assert_eq!(check("application/json", body), body);
    }
}

#[test]
fn what_is_utf_8_json_is_not_copied() {
    assert!(matches!(decode(None, &body("", b"[1]"), 4), Ok(Cow::Borrowed(b"[1]"))));
}

#[test]
fn text_is_a_string() {
    assert_eq!(check_as("text = {}", "text/html", b"<p>a\n\"b\""), r#""<p>a\n\"b\"""#);
    assert_eq!(check_as("text = {}", "text/plain; charset=latin1", b"\xe9"), "\"é\"");
    assert_eq!(check_as("text = {}", "", b""), "\"\"");
}

/// The kind by content type alone.
#[test]
fn content_types() {
    let (rss, json) = ("<rss version=\"2.0\"><channel><title>t</title></channel></rss>", r#"{"a":1}"#);
    let feed = r#"{"title":"t","link":null,"entries":[]}"#;
    for (content_type, body, document) in [
        ("application/vnd.api+json; charset=utf-8", json, json),
        ("text/plain", json, json),
        ("application/octet-stream", json, json),
        ("", json, json),
        ("TEXT/XML; charset=utf-8", "<a>1</a>", r#"{"a":"1"}"#),
        ("application/soap+xml", "<a>1</a>", r#"{"a":"1"}"#),
        ("application/rss+xml", rss, feed),
        ("text/xml", rss, feed),
        ("application/xml", rss, feed),
        ("text/csv; charset=utf-8", "a\n1\n", r#"[{"a":"1"}]"#),
        ("text/tab-separated-values", "a\tb\n1\t2\n", r#"[{"a":"1","b":"2"}]"#),
        ("application/feed+json", r#"{"version":"https://jsonfeed.org/version/1.1","title":"t","items":[]}"#, feed),
    ] {
        assert_eq!(check(content_type, body), document, "{content_type}");
    }
    // It is not looked into beyond what its type allows.
    assert!(check("text/plain", "<a>1</a>").starts_with("error: the answer is HTML (text/plain), not JSON"));
}

/// Where data was asked for, a page for people is an error, whatever it holds.
#[test]
fn a_login_page() {
    for (toml, expected) in [("xml = {}", "XML"), ("csv = {}", "CSV"), ("feed = {}", "a feed"), ("json = {}", "JSON")] {
        let read = check_as(toml, "text/html; charset=utf-8", b"<a>1</a>");
        let error = format!(
            "error: the answer is HTML (text/html; charset=utf-8), not {expected}: a login or an error page? It begins: <a>1</a>"
        );
        assert_eq!(read, error);
    }
}

#[test]
fn every_option_is_part_of_the_definition() {
    let mut texts: Vec<String> = [
        "json = {}",
        "json = { charset = \"latin1\" }",
        "ndjson = {}",
        "xml = {}",
        "xml = { lists = [\"a\"] }",
        "xml = { prefixes = true }",
        "csv = {}",
        "csv = { delimiter = \";\" }",
        "csv = { header = false }",
        "csv = { skip = 1 }",
        "csv = { comment = \"#\" }",
        "csv = { rows = \"fill\" }",
        "feed = {}",
        "html = { select = \"a\", fields = { a = \"b\" } }",
        "html = { select = \"b\", fields = { a = \"b\" } }",
        "html = { select = \"a\", fields = { a = \"c\" } }",
        "html = { select = \"a\", fields = { b = \"b\" } }",
        "html = { select = \"a\", fields = { a = \"b@c\" } }",
        "text = {}",
    ]
    .into_iter()
    .map(|toml| {
        assert_eq!(decoder(toml), decoder(toml));
        format!("{:?}", decoder(toml))
    })
    .collect();
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count, "{texts:#?}");
}

/// How deep a text nests, by each byte and what came before it.
fn depth_of(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

proptest::proptest! {
    /// The count over the bytes that matter is the one over all, of texts that are no JSON, too.
    #[test]
    fn nesting_is_counted_as_byte_by_byte(text in r#"(["\\\[\]{}a:$ ]|"[a\\"{$]{0,9}"){0,60}"#) {
        let depth = depth_of(text.as_bytes());
        let fits = |max| !matches!(check_nesting(text.as_bytes(), max), Err(Error::Depth { .. }));
        proptest::prop_assert!(fits(depth));
        if depth > 0 {
            proptest::prop_assert!(!fits(depth - 1), "{depth}");
        }
    }
}
