#![no_main]

use std::sync::LazyLock;

use bellpull::decode::{self, Decoder};
use bellpull_fuzz::{DEPTH_MAX, check, choose, decoder, depth, page};
use libfuzzer_sys::fuzz_target;

static LINES: LazyLock<Vec<bool>> = LazyLock::new(|| vec![false, true]);
static NDJSON: LazyLock<Decoder> = LazyLock::new(|| decoder("ndjson = {}"));

fuzz_target!(|data: &[u8]| {
    let (lines, body) = choose(data, &LINES);
    if *lines {
        if let Some(value) = check(Some(&NDJSON), "", body) {
            assert!(value.is_array());
        }
        return;
    }
    // JSON is handed on as it is: whether it is well-formed is found out where it is used.
    let page = page("application/json", body);
    if let Ok(text) = decode::decode(None, &page, DEPTH_MAX) {
        let text = std::str::from_utf8(&text).expect("UTF-8");
        if body.is_ascii() {
            assert_eq!(text.as_bytes(), body);
        }
        if let Ok(value) = serde_json::from_str(text) {
            assert!(depth(&value) <= DEPTH_MAX, "as deep as it was counted");
        }
    }
});
