#![no_main]

use std::sync::LazyLock;

use bellpull::decode::Decoder;
use bellpull_fuzz::{check, choose, decoder};
use libfuzzer_sys::fuzz_target;

static DECODERS: LazyLock<Vec<Option<Decoder>>> = LazyLock::new(|| {
    ["xml = {}", "xml = { prefixes = true }", "xml = { lists = [\"a\", \"item\"] }"]
        .into_iter()
        .map(|toml| Some(decoder(toml)))
        .chain([None])
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let (decoder, body) = choose(data, &DECODERS);
    if let Some(value) = check(decoder.as_ref(), "application/xml", body) {
        let root = value.as_object().expect("an object");
        assert!(root.len() == 1 || decoder.is_none(), "one root: {value}");
    }
});
