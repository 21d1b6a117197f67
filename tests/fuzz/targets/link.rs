#![no_main]

use bellpull::source::link::link;
use http::{HeaderMap, HeaderValue, header::LINK};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(LINK, value)]);
    for rel in ["next", "last"] {
        if let Ok(Some(target)) = link(&headers, rel) {
            let Ok(text) = std::str::from_utf8(headers[LINK].as_bytes()) else { return };
            let mut targets = text.match_indices('<').filter_map(|(at, _)| text[at + 1..].split_once('>'));
            assert!(targets.any(|(inside, _)| inside.trim() == target), "{target:?} stands in it");
        }
    }
});
