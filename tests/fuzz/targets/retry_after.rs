#![no_main]

use std::time::Duration;

use bellpull::{http::retry_after, model::Timestamp};
use http::{
    HeaderMap, HeaderValue,
    header::{DATE, RETRY_AFTER},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [RETRY_AFTER, DATE] {
        if let Some(value) = parts.next().and_then(|part| HeaderValue::from_bytes(part).ok()) {
            headers.insert(name, value);
        }
    }
    for now in [Timestamp(0), Timestamp(1_795_348_800_000), Timestamp(i64::MAX), Timestamp(i64::MIN)] {
        let wait = retry_after::wait(&headers, now);
        assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(24 * 60 * 60)), "a day at most: {wait:?}");
    }
});
