//! What every decoder must hold, whatever it is given: it does not panic, it gives the same twice, and what it gives is
//! JSON within the limits of depth and size.

use bellpull::{
    decode::{self, Decoder, Page},
    model::Hash,
    settings::{Context, Table, diagnostic::Place},
};
use serde_json::Value as Json;
use toml::de::DeTable;

/// As deep as a bridge may ask for.
pub const DEPTH_MAX: usize = 128;
/// What the documents of all decoders but JSON's may be of their bodies; written down again, since it is a promise.
const TIMES: usize = 8;
const EXTRA_BYTES: usize = 1 << 20;

/// `decode.KIND = { ... }`, read as the file is.
pub fn decoder(toml: &str) -> Decoder {
    let text = format!("decode.{toml}");
    let table = DeTable::parse(&text).expect("TOML");
    let context = Context::new(false);
    let mut table = Table::new(&context, String::new(), Place { file: 0, span: 0..0 }, table.get_ref());
    table.take("decode").and_then(|item| decode::read(&item)).expect("a decoder")
}

pub fn page(content_type: &str, body: &[u8]) -> Page {
    Page {
        url: "https://example.com/a/b".into(),
        content_type: Some(content_type.to_owned()),
        body: body.to_vec().into(),
        hash: Hash::default(),
    }
}

/// The document of a page, checked; `None` where it is refused.
pub fn check(decoder: Option<&Decoder>, content_type: &str, body: &[u8]) -> Option<Json> {
    let page = page(content_type, body);
    let decoded = decode::decode(decoder, &page, DEPTH_MAX);
    assert_eq!(decoded, decode::decode(decoder, &page, DEPTH_MAX), "the same twice");
    match decoded {
        Ok(text) => {
            assert!(text.len() <= body.len() * TIMES + EXTRA_BYTES, "{} of {}", text.len(), body.len());
            assert!(std::str::from_utf8(&text).is_ok());
            let value = serde_json::from_slice(&text).expect("JSON");
            assert!(depth(&value) <= DEPTH_MAX);
            Some(value)
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && message.len() < body.len() + 2_000, "{message}");
            None
        }
    }
}

pub fn depth(value: &Json) -> usize {
    match value {
        Json::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Json::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The first byte chooses one of several.
pub fn choose<'a, T>(data: &'a [u8], of: &'a [T]) -> (&'a T, &'a [u8]) {
    match data.split_first() {
        Some((first, rest)) => (&of[usize::from(*first) % of.len()], rest),
        None => (&of[0], data),
    }
}
