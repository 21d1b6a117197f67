#![no_main]

use bellpull::source::page::link;
use http::{HeaderMap, HeaderValue, header::LINK};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(LINK, value)]);
    for rel in ["next", "last"] {
        if let Some(target) = link(&headers, rel) {
            let text = headers[LINK].to_str().expect("a link is text");
            assert!(text.contains(&format!("<{target}>")), "{target:?} stands in it");
        }
    }
});
