#![no_main]

use std::sync::LazyLock;

use bellpull::decode::Decoder;
use bellpull_fuzz::{check, choose, decoder};
use libfuzzer_sys::fuzz_target;

static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
    [
        "html = { select = \"*\", fields = { a = \"@id\", b = \":scope > *\" } }",
        "html = { select = \"div, p, li, tr\", fields = { a = \"a@href\", b = \"td:nth-child(2)\" } }",
        "html = { select = \"body *:has(b) ~ *\", fields = { a = \"b\", b = \"@class\" } }",
        "html = { select = \"body\", fields = { a = \"*:last-child\", b = \"script\" } }",
    ]
    .into_iter()
    .map(decoder)
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let (decoder, body) = choose(data, &DECODERS);
    if let Some(value) = check(Some(decoder), "text/html", body) {
        for row in value.as_array().expect("an array") {
            let row = row.as_object().expect("an object");
            assert!(row.len() == 2 && row.values().all(|value| value.is_string() || value.is_null()));
        }
    }
});
