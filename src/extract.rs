//! From a document to records: `items`, `key`, and the canonical form that decides whether a record changed. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde_json::Value as Json;

use crate::{
    decode::{self, Page},
    expr::{self, Expr},
    model::{Entry, Hash},
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::{Form, Shape, keys},
        nearest,
    },
};

/// The longest key; it stands in headers and rows.
const KEY_BYTES_MAX: usize = 1024;

/// jq paths.
const PATHS: Form<Vec<Expr>> = Form::shown_by(Shape::List(&Shape::Expr), read_paths, |_| Json::Array(Vec::new()));

keys! {
    /// What a record is.
    mod records;
    /// jq over each page; its outputs are the records.
    maybe ITEMS: Expr = "items", EXPR, "the whole document is one record";
    /// jq over each record: a string, a number, or an array of them; up to 1024 bytes as text. A document's key is `""`. A
    /// record without a key fails the poll, and so do two records with the same key on one page; on different pages of one walk
    /// the later copy counts.
    maybe KEY: Expr = "key", EXPR, "required with `items`";
    /// jq paths that are removed before records are compared.
    or IGNORE: Vec<Expr> = "ignore", PATHS, Vec::new;
    /// jq paths of arrays whose order is not significant.
    or UNORDERED: Vec<Expr> = "unordered", PATHS, Vec::new;
}

/// What a record is, as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// `None`: the whole document is one record.
    pub items: Option<Expr>,
    pub key: Option<Expr>,
    pub ignore: Vec<Expr>,
    pub unordered: Vec<Expr>,
    pub decoder: Option<decode::Decoder>,
    pub depth_max: usize,
}

/// A record's text as it came, not parsed: a part of its page's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    pub text: Bytes,
    pub hash: Hash,
}

/// What a page holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    pub all: Vec<Raw>,
    /// What the page was decoded to; empty for a page without a body.
    pub document: Bytes,
    /// Characters of the page that became U+FFFD, since they were none.
    pub replaced: usize,
}

/// A record that was looked at: what it says is read again when it is needed, since the values of many would fill the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub entry: Entry,
    pub text: Bytes,
}

/// A parsed record.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub key: String,
    pub entry: Entry,
    pub value: Json,
}

/// Why a page gives no records.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Decode(#[from] decode::Error),
    #[error("`items`: {0}")]
    Items(expr::Error),
    #[error("`{what}` on record {record} of {page}: {error}")]
    Expr { what: &'static str, record: usize, page: String, error: expr::Error },
    #[error("record {record} of {page} has no key: `key` gives {found}{fields}")]
    NoKey { record: usize, page: String, found: String, fields: String },
    #[error("record {record} of {page} has a key of {length} bytes; {KEY_BYTES_MAX} are allowed")]
    LongKey { record: usize, page: String, length: usize },
    #[error("records {first} and {second} of {page} have the same key {key:?}")]
    SameKey { first: usize, second: usize, page: String, key: String },
    #[error("record {record} of {page} is not JSON: {cause}")]
    Record { record: usize, page: String, cause: String },
    #[error("`deletes.when`: {0}")]
    Tombstone(expr::Error),
    #[error("a record that was read before cannot be read again: {0}")]
    Again(String),
}

impl Error {
    /// Whether it may hold a part of the answer.
    pub fn quotes(&self) -> bool {
        !matches!(self, Self::LongKey { .. })
    }
}

impl Definition {
    /// Reads `items`, `key`, `ignore` and `unordered`.
    ///
    /// `source` is absent when it has errors of its own.
    pub fn read(table: &mut Table<'_>, source: Option<&crate::source::Source>) -> Option<Self> {
        let (is_list, key_place) = (table.has(&records::ITEMS), table.key_place(&records::KEY));
        let (items, key) = (table.get(&records::ITEMS), table.get(&records::KEY));
        let (ignore, unordered) = (table.or(&records::IGNORE), table.or(&records::UNORDERED));
        if let (Some(place), None) = (is_list.then(|| table.place.clone()), &key_place) {
            table
                .error_at(
                    place,
                    format!("`key` is missing in {}: records of a list are told apart by it", table.title()),
                )
                .missing()
                .help("for example key = \".id\"".into())
                .report();
            return None;
        }
        if let (false, Some(place)) = (is_list, key_place) {
            let message = format!("`key` in {} needs `items`: a document has the key \"\"", table.title());
            table.error_at(place, message).report();
            return None;
        }
        Some(Self { items, key, ignore, unordered, decoder: source?.decoder(), depth_max: source?.depth_max() })
    }

    /// Writes how an answer is read.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put_some("items", self.items.as_ref());
        text.put_some("key", self.key.as_ref());
        self.ignore.iter().for_each(|path| text.put("ignore", path));
        self.unordered.iter().for_each(|path| text.put("unordered", path));
        self.decoder.iter().for_each(|decoder| decoder.define(text));
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        format!("{:?} {:?} {:?} {:?} {:?}", self.items, self.key, self.ignore, self.unordered, self.decoder)
    }

    /// The records of a page, unparsed where `items` is a plain path.
    pub fn records(&self, page: &Page) -> Result<Records, Error> {
        if page.content_type.as_deref() == Some(decode::NO_CONTENT) {
            // A list may be without records; a document is there, or `absent` says which status means that it is not.
            return if self.items.is_some() { Ok(Records::default()) } else { Err(decode::Error::Empty.into()) };
        }
        let lists = self.items.as_ref().map(Expr::lists).unwrap_or_default();
        let decode::Document { text, replaced } =
            decode::document(self.decoder.as_ref(), page, self.depth_max, &lists)?;
        let document = match text {
            // As it came: records are parts of it, and no copies.
            Cow::Borrowed(part) => page.body.slice_ref(part),
            Cow::Owned(made) => Bytes::from(made),
        };
        let raw = |text: &str| Raw { text: document.slice_ref(text.as_bytes()), hash: Hash::of(text.as_bytes()) };
        let whole = || std::str::from_utf8(&document).map(str::trim).unwrap_or_default();
        let Some(items) = &self.items else {
            // Parsed once here, so that a damaged document is an error of the page.
            serde_json::from_slice::<serde::de::IgnoredAny>(&document).map_err(|e| decode::malformed(&e, &document))?;
            return Ok(Records { all: vec![raw(whole())], document, replaced });
        };
        if let Some(path) = items.as_path() {
            let found = path.raw_values(&document).map_err(|message| {
                // Of no JSON at all the answer is to blame, not `items`.
                match serde_json::from_slice::<serde::de::IgnoredAny>(&document) {
                    Err(error) => Error::Decode(decode::malformed(&error, &document)),
                    Ok(_) => items_error(expr::Error::Failed { program: items.text().to_owned(), message }, &document),
                }
            })?;
            let all = found.into_iter().map(|value| raw(value.get())).collect();
            return Ok(Records { all, document, replaced });
        }
        let found = items.texts(&document, usize::MAX).map_err(|error| items_error(error, &document))?;
        let made = |text: String| Raw { hash: Hash::of(text.as_bytes()), text: text.into() };
        Ok(Records { all: found.into_iter().map(made).collect(), document, replaced })
    }

    /// How many records a page has.
    pub fn count(&self, page: &Page) -> Result<usize, Error> {
        if self.items.is_none() {
            return Ok(1);
        }
        self.records(page).map(|records| records.all.len())
    }

    /// Parses a record: its key and its canonical form. `record` counts from 1 and `page` names the page, for messages.
    pub fn parse(&self, raw: &Raw, record: usize, page: &str) -> Result<Parsed, Error> {
        let value: Json = serde_json::from_slice(&raw.text).map_err(|e| Error::Record {
            record,
            page: page.to_owned(),
            cause: e.to_string(),
        })?;
        let key = self.key_of(&value, record, page)?;
        let canonical = self.canonical(&value).map_err(|(what, error)| Error::Expr {
            what,
            record,
            page: page.to_owned(),
            error,
        })?;
        let entry = Entry { key: Hash::of(key.as_bytes()), raw: raw.hash, canonical };
        Ok(Parsed { key, entry, value })
    }

    /// Reads a record again: its key and its value.
    pub fn read_again(&self, text: &[u8]) -> Result<(String, Json), Error> {
        let value: Json = serde_json::from_slice(text).map_err(|e| Error::Again(e.to_string()))?;
        let key = self.key_of(&value, 0, "the answer")?;
        Ok((key, value))
    }

    fn key_of(&self, value: &Json, record: usize, page: &str) -> Result<String, Error> {
        let Some(expr) = &self.key else {
            return Ok(String::new());
        };
        let found =
            expr.first(value).map_err(|error| Error::Expr { what: "key", record, page: page.to_owned(), error })?;
        let none = |found: &str| {
            let fields = fields_beside(value, expr.text());
            Error::NoKey { record, page: page.to_owned(), found: found.to_owned(), fields }
        };
        let key = match found {
            Some(Json::String(text)) if text.is_empty() => return Err(none("an empty string")),
            Some(Json::String(text)) => text,
            Some(Json::Number(number)) => key_of_number(&number.to_string()),
            Some(Json::Array(list)) if list.is_empty() => return Err(none("an empty array")),
            Some(Json::Array(list)) if list.iter().all(|v| v.is_string() || v.is_number()) => {
                let of_each = |value: Json| match value {
                    Json::Number(number) => key_of_number(&number.to_string()),
                    text => text.to_string(),
                };
                format!("[{}]", list.into_iter().map(of_each).collect::<Vec<_>>().join(","))
            }
            Some(Json::Array(_)) => return Err(none("an array of other things than strings and numbers")),
            Some(Json::Null) => return Err(none("null")),
            None => return Err(none("nothing")),
            Some(Json::Bool(_)) => return Err(none("a boolean")),
            Some(Json::Object(_)) => return Err(none("an object")),
        };
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::LongKey { record, page: page.to_owned(), length: key.len() });
        }
        Ok(key)
    }

    /// The hash of what counts: without `ignore`, `unordered` arrays sorted, numbers by value, object keys in order.
    pub fn canonical(&self, value: &Json) -> Result<Hash, (&'static str, expr::Error)> {
        self.compared(value).map(|value| hash_canonical(&value))
    }

    /// What of a record is compared: without `ignore`, `unordered` arrays sorted.
    pub fn compared<'v>(&self, value: &'v Json) -> Result<Cow<'v, Json>, (&'static str, expr::Error)> {
        if self.ignore.is_empty() && self.unordered.is_empty() {
            return Ok(Cow::Borrowed(value));
        }
        let mut value = value.clone();
        for expr in &self.ignore {
            match expr.as_path() {
                Some(path) => path.remove(&mut value),
                None => value = rewrite(expr, &value, |text| format!("del({text})")).map_err(|e| ("ignore", e))?,
            }
        }
        for expr in &self.unordered {
            match expr.as_path() {
                Some(path) => path.change(&mut value, &mut |value| {
                    if let Json::Array(list) = value {
                        list.sort_by_cached_key(canonical_text);
                    }
                }),
                None => {
                    let sort = |text: &str| format!("({text}) |= (if type == \"array\" then sort else . end)");
                    value = rewrite(expr, &value, sort).map_err(|e| ("unordered", e))?;
                }
            }
        }
        Ok(Cow::Owned(value))
    }
}

/// Whether two values are the same: numbers by value, whatever the order of keys.
pub fn is_same(a: &Json, b: &Json) -> bool {
    a == b || canonical_text(a) == canonical_text(b)
}

/// Applies a program made around a path.
fn rewrite(expr: &Expr, value: &Json, program: impl FnOnce(&str) -> String) -> Result<Json, expr::Error> {
    let failed = |message: String| expr::Error::Failed { program: expr.text().to_owned(), message };
    // Interned: the text around a known path compiles once.
    let program = Expr::parse(&program(expr.text())).map_err(|e| failed(e.message))?;
    program.first(value)?.ok_or_else(|| failed("it gives nothing".into()))
}

fn read_paths(item: &Item<'_>) -> Option<Vec<Expr>> {
    item.items()?.iter().map(|item| item.expr().filter(|expr| is_path(item, expr))).collect()
}

/// Whether an expression can be taken out of a record: tried on an empty one.
fn is_path(item: &crate::settings::Item<'_>, expr: &Expr) -> bool {
    if expr.as_path().is_some() {
        return true;
    }
    let tried = Expr::parse(&format!("path({})", expr.text()))
        .map_err(|e| e.message)
        .and_then(|program| program.all(&Json::Null).map_err(|e| e.to_string()));
    // A path may not fit `null`; what makes values of its own is none anywhere.
    let not_a_path = matches!(&tried, Err(message) if message.contains("path expression"));
    if not_a_path {
        item.error(format!("`{}`: `{}` is not a path into a record", item.path, expr.text()))
            .help("for example \".updated_at\" or \".items[].etag\"".into())
            .report();
    }
    !not_a_path
}

/// About what the value of a text takes when it is parsed: 72 bytes for each element, since a number keeps its digits, and as much
/// again and its node for each member of an object.
pub fn value_bytes(text: &[u8]) -> u64 {
    const ELEMENT: u64 = 72;
    const MEMBER: u64 = 112;
    let (mut bytes, mut in_string, mut escaped) = (u64::try_from(text.len()).unwrap_or(u64::MAX), false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => bytes += ELEMENT,
            b':' if !in_string => bytes += MEMBER,
            _ => {}
        }
    }
    bytes
}

/// Names of fields that an error names at most, and how much of one.
const FIELDS_MAX: usize = 12;
const FIELD_CHARS_MAX: usize = 40;

/// Names of fields, for an error: never a value.
fn names_of<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    let shown: Vec<String> = names
        .by_ref()
        .take(FIELDS_MAX)
        .map(|name| format!("`{}`", name.chars().take(FIELD_CHARS_MAX).collect::<String>().escape_debug()))
        .collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The fields of a record that has no key, and the one that was most likely meant.
fn fields_beside(record: &Json, key: &str) -> String {
    let Json::Object(map) = record else {
        return "; the record is not an object".into();
    };
    if map.is_empty() {
        return "; the record has no fields".into();
    }
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let wanted = plain(key.trim_start_matches('.'));
    let of_name: BTreeMap<String, &str> = map.keys().map(|name| (plain(name), name.as_str())).collect();
    let ends = || of_name.keys().find(|name| name.ends_with(&format!("_{wanted}"))).map(String::as_str);
    let near = nearest(&wanted, of_name.keys().map(String::as_str)).or_else(ends);
    // The field that `key` names is there, and holds no key.
    let near = near.and_then(|near| of_name.get(near)).filter(|name| key != format!(".{name}"));
    let is_bare = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let meant = near.filter(|name| name.len() <= FIELD_CHARS_MAX).map(|name| match is_bare(name) {
        true => format!(": did you mean `.{name}`?"),
        false => format!(": did you mean `.{name:?}`?"),
    });
    format!("; the record has {}{}", names_of(map.keys().map(String::as_str)), meant.unwrap_or_default())
}

/// Why `items` fails, with what the document has at its top.
fn items_error(error: expr::Error, document: &[u8]) -> Error {
    Error::Items(match error {
        expr::Error::Failed { program, message } => {
            let message = match top_of(document) {
                Some(top) => format!("{message}; the document {top}"),
                None => message,
            };
            expr::Error::Failed { program, message }
        }
        stopped => stopped,
    })
}

/// What a document has at its top, and where its only list is.
fn top_of(document: &[u8]) -> Option<String> {
    if document.trim_ascii_start().starts_with(b"[") {
        return Some("is a list: `.[]` gives its elements".into());
    }
    let map: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_slice(document).ok()?;
    if map.is_empty() {
        return Some("has no fields".into());
    }
    let mut lists = map.iter().filter(|(_, value)| value.get().starts_with('[')).map(|(name, _)| name);
    let is_bare = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let meant = match (lists.next(), lists.next()) {
        (Some(name), None) if is_bare(name) && name.len() <= FIELD_CHARS_MAX => format!(": did you mean `.{name}[]`?"),
        _ => String::new(),
    };
    Some(format!("has {}{meant}", names_of(map.keys().map(String::as_str))))
}

fn hash_canonical(value: &Json) -> Hash {
    let mut out = Vec::new();
    write_canonical(value, &mut out);
    Hash::of(&out)
}

fn canonical_text(value: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Number(number) => out.extend_from_slice(canonical_number(&number.to_string()).as_bytes()),
        Json::Array(list) => {
            out.push(b'[');
            for value in list {
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Json::Object(map) => {
            out.push(b'{');
            // serde_json keeps keys sorted.
            for (key, value) in map {
                out.extend_from_slice(Json::String(key.clone()).to_string().as_bytes());
                out.push(b':');
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
}

/// A whole number has one key however it is spelled: `9`, `9.0` and `90e-1` are the record `9`. One that is not whole keeps its
/// spelling.
fn key_of_number(text: &str) -> String {
    let canonical = canonical_number(text);
    let (digits, zeros) = canonical.split_once('e').unwrap_or((&canonical, "0"));
    match zeros.parse::<usize>() {
        Ok(zeros) if digits.len() + zeros <= KEY_BYTES_MAX => digits.to_owned() + &"0".repeat(zeros),
        _ => text.to_owned(),
    }
}

/// One spelling for all spellings of a number: its significant digits and a power of ten. `1`, `1.0` and `10e-1` are
/// `1e0`; digits beyond any float's precision count.
pub fn canonical_number(text: &str) -> String {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return "0".into();
    }
    // An exponent beyond 128 bits stays as it is spelled: no source means a number by it.
    let Ok(exponent) = exponent.trim_start_matches('+').parse::<i128>() else {
        return text.to_owned();
    };
    let zeros = i128::try_from(significant.len() - trimmed.len()).unwrap_or(0);
    let scale = exponent.saturating_sub(i128::try_from(fraction.len()).unwrap_or(0)).saturating_add(zeros);
    format!("{}{trimmed}e{scale}", if negative { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(items: &str, key: &str, ignore: &[&str], unordered: &[&str]) -> Definition {
        let all = |texts: &[&str]| texts.iter().map(|t| Expr::parse(t).expect("valid")).collect();
        Definition {
            items: Some(Expr::parse(items).expect("valid")),
            key: Some(Expr::parse(key).expect("valid")),
            ignore: all(ignore),
            unordered: all(unordered),
            decoder: None,
            depth_max: 128,
        }
    }

    fn key(expr: &str, record: &str) -> Result<String, String> {
        let raw = Raw { text: record.to_owned().into(), hash: Hash::default() };
        definition(".[]", expr, &[], &[]).parse(&raw, 3, "page 1").map(|p| p.key).map_err(|e| e.to_string())
    }

    /// A source that began to write `9.0` for `9` deleted the record and created another.
    #[test]
    fn a_whole_number_is_one_key_however_it_is_spelled() {
        for (spelled, expected) in [
            ("9", "9"),
            ("9.0", "9"),
            ("90e-1", "9"),
            ("0.9e1", "9"),
            ("1e2", "100"),
            ("-0", "0"),
            ("-7.00", "-7"),
            ("0.0", "0"),
            ("12345678901234567890123.0", "12345678901234567890123"),
            ("1.50", "1.50"),
            ("1e2000", "1e+2000"),
        ] {
            assert_eq!(key(".id", &format!("{{\"id\":{spelled}}}")).as_deref(), Ok(expected), "{spelled}");
        }
        assert_eq!(key("[.id, .a]", r#"{"id":9.0,"a":"x"}"#).as_deref(), Ok(r#"[9,"x"]"#));
    }

    #[test]
    fn keys() {
        assert_eq!(key(".id", r#"{"id":"a"}"#), Ok("a".into()));
        assert_eq!(key(".id", r#"{"id":12345678901234567890}"#), Ok("12345678901234567890".into()));
        assert_eq!(key("[.a, .b]", r#"{"a":1.10,"b":"x"}"#), Ok(r#"[1.10,"x"]"#.into()));
        for record in [r#"{}"#, r#"{"id":""}"#, r#"{"id":true}"#, r#"{"id":{}}"#, r#"{"id":[]}"#] {
            assert!(key(".id", record).is_err_and(|e| e.starts_with("record 3 of page 1 has no key")), "{record}");
        }
        assert!(key(".id", &format!(r#"{{"id":"{}"}}"#, "x".repeat(1025))).is_err());
    }

    /// `key` gives null: the answer had to be fetched by hand to see what it has.
    #[test]
    fn a_record_without_a_key_names_its_fields_and_no_value() {
        let record = r#"{"sku":"S3CRET","name":"S3CRET","stock":3}"#;
        for (path, record, expected) in [
            (".SKU", record, "`name`, `sku`, `stock`: did you mean `.sku`?"),
            (".id", record, "gives null; the record has `name`, `sku`, `stock`"),
            (".id", r#"{"order_id":"S3CRET"}"#, "`order_id`: did you mean `.order_id`?"),
            (".order_id", r#"{"order-id":"S3CRET"}"#, "did you mean `.\"order-id\"`?"),
            (".sku", r#"{"sku":{"S3CRET":1}}"#, "gives an object; the record has `sku`"),
            (".id", "{}", "the record has no fields"),
        ] {
            let error = key(path, record).expect_err("no key");
            assert!(error.ends_with(expected), "{error}");
            assert!(!error.contains("S3CRET"), "{error}");
        }
        let wide: serde_json::Map<String, Json> =
            (0..1000).map(|n| (format!("{n}{}", "x".repeat(500)), n.into())).collect();
        let error = key(".id", &Json::Object(wide).to_string()).expect_err("no key");
        assert!(error.len() < 1000 && error.ends_with(" and 988 more"), "{error}");
    }

    #[test]
    fn items_that_find_nothing_name_what_the_document_has() {
        let failed = |items: &str, document: &str| {
            let message = "cannot iterate over null".to_owned();
            let error = expr::Error::Failed { program: items.to_owned(), message };
            items_error(error, document.as_bytes()).to_string()
        };
        for (document, expected) in [
            (
                r#"{"data":["S3CRET"],"meta":{"a":[]},"at":"S3CRET"}"#,
                "has `at`, `data`, `meta`: did you mean `.data[]`?",
            ),
            (r#"{"a":[],"b":[]}"#, "the document has `a`, `b`"),
            (" [1]", "the document is a list: `.[]` gives its elements"),
            ("{}", "the document has no fields"),
            ("null", "cannot iterate over null"),
        ] {
            let error = failed(".orders[]", document);
            assert!(error.ends_with(expected) && !error.contains("S3CRET"), "{error}");
        }
    }

    #[test]
    fn numbers_that_are_equal_are_no_change() {
        for (a, b) in
            [("1", "1.0"), ("1.10", "1.1"), ("100", "1e2"), ("0", "-0.0"), ("0.001", "1E-3"), ("-5", "-50e-1")]
        {
            assert_eq!(canonical_number(a), canonical_number(b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "2"),
            ("12345678901234567890", "12345678901234567891"),
            ("1", "-1"),
            ("0.1", "0.10000000000000000001"),
            ("1e400", "1e401"),
        ] {
            assert_ne!(canonical_number(a), canonical_number(b), "{a} {b}");
        }
    }

    fn same(definition: &Definition, a: &str, b: &str) -> bool {
        let canonical = |text: &str| definition.canonical(&serde_json::from_str(text).expect("JSON")).expect("runs");
        canonical(a) == canonical(b)
    }

    #[test]
    fn what_is_ignored_and_what_has_no_order() {
        for (ignore, unordered) in [
            (vec![".at", ".meta.views", ".l[].etag"], vec![".tags", ".l[].s"]),
            // The same, in the lane of jq.
            (vec![".at?", ".meta.views?", ".l[]?.etag"], vec![".tags?", ".l[]?.s"]),
        ] {
            let d = definition(".[]", ".id", &ignore, &unordered);
            let base = r#"{"id":1,"at":5,"meta":{"views":1},"tags":[1,"b",null],"l":[{"etag":1,"s":[2,1]}]}"#;
            assert!(same(&d, base, r#"{"tags":["b",null,1.0],"id":1.0,"meta":{"views":9},"l":[{"s":[1,2]}]}"#));
            assert!(!same(&d, base, r#"{"id":1,"at":5,"meta":{"views":1},"tags":[1,"b"],"l":[{"s":[2,1]}]}"#));
            assert!(!same(&d, base, r#"{"id":2,"at":5,"meta":{"views":1},"tags":[1,"b",null],"l":[{"s":[2,1]}]}"#));
        }
    }
}
