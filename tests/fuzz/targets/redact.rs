#![no_main]

//! A secret and a text around it, whose lengths the first two bytes say: no part of the text that is left is the secret.

use bellpull::settings::{redact::Index, secret::Secret};
use libfuzzer_sys::fuzz_target;

/// What is shorter is no secret to it.
const CHARS_MIN: usize = 6;

fuzz_target!(|data: &[u8]| {
    let Some((&[length, place], rest)) = data.split_first_chunk::<2>() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let Some((secret, text)) = text.split_at_checked(usize::from(length)) else { return };
    let index = Index::of(&[Secret::new(secret.to_owned())]);
    let Some((before, after)) = text.split_at_checked(usize::from(place).min(text.len())) else { return };
    let shown = index.mask(&format!("{before}{secret}{after}"));
    let is_word = secret.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_url = secret.contains("://");
    let is_bare = secret.trim() == secret;
    if secret.bytes().filter(|byte| !byte.is_ascii_whitespace()).count() >= CHARS_MIN && is_bare && !is_word && !is_url && !secret.contains('*') {
        assert!(!shown.contains(secret), "{shown:?}");
    }
    assert!(shown.len() <= before.len() + secret.len() + after.len() + 3 * (1 + shown.matches("***").count()));
});
