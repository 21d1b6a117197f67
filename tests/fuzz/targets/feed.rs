#![no_main]

use std::sync::LazyLock;

use bellpull::decode::Decoder;
use bellpull_fuzz::{check, decoder};
use libfuzzer_sys::fuzz_target;

static DECODER: LazyLock<Decoder> = LazyLock::new(|| decoder("feed = {}"));

fuzz_target!(|data: &[u8]| {
    if let Some(feed) = check(Some(&DECODER), "", data) {
        for entry in feed["entries"].as_array().expect("entries") {
            assert!(entry["id"].as_str().is_some_and(|id| !id.is_empty()), "each has an id: {entry}");
            assert_eq!(entry.as_object().map(|entry| entry.len()), Some(9), "all fields, always");
        }
    }
});
