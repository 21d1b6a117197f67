#![no_main]

use std::sync::LazyLock;

use bellpull::decode::{Decoder, sse::Parser};
use bellpull_fuzz::{check, decoder};
use libfuzzer_sys::fuzz_target;

static DECODER: LazyLock<Decoder> = LazyLock::new(|| decoder("sse = {}"));

fuzz_target!(|data: &[u8]| {
    let whole = Parser::default().push(data);
    // However it is cut on the way, it is the same.
    let mut parser = Parser::default();
    let pieces: Vec<_> = data.iter().flat_map(|byte| parser.push(&[*byte])).collect();
    assert_eq!(whole, pieces);
    if let Some(value) = check(Some(&DECODER), "text/event-stream", data) {
        for event in value.as_array().expect("an array") {
            assert!(event["event"].is_string() && event["data"].is_string(), "{event}");
        }
    }
});
