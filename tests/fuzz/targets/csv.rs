#![no_main]

use std::sync::LazyLock;

use bellpull::decode::Decoder;
use bellpull_fuzz::{check, choose, decoder};
use libfuzzer_sys::fuzz_target;

static DECODERS: LazyLock<Vec<Option<Decoder>>> = LazyLock::new(|| {
    [
        "csv = {}",
        "csv = { header = false }",
        "csv = { delimiter = \";\" }",
        "csv = { delimiter = \"\\t\", header = false }",
    ]
    .into_iter()
    .map(|toml| Some(decoder(toml)))
    .chain([None])
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let (decoder, body) = choose(data, &DECODERS);
    if let Some(value) = check(decoder.as_ref(), "text/csv", body) {
        let rows = value.as_array().expect("an array");
        let names =
            |row: &serde_json::Value| -> Vec<String> { row.as_object().expect("an object").keys().cloned().collect() };
        let first = rows.first().map(names);
        for row in rows {
            assert_eq!(Some(names(row)), first, "all rows have the same names");
            assert!(row.as_object().expect("an object").values().all(serde_json::Value::is_string));
        }
    }
});
