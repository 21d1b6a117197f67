#![no_main]

//! The three headers of a webhook, one of them of the fuzzer: only what was signed verifies.

use bellpull::{model::Timestamp, sign::Key};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECONDS: i64 = 1_700_000_000;

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let key = Key::parse(SECRET).expect("a secret");
    let (id, body) = ("evt_1", b"{\"a\":1}");
    let right = [id.to_owned(), SECONDS.to_string(), key.sign(id, SECONDS, body)];
    let mut given = right.clone();
    let which = usize::from(*which % 4);
    let text = String::from_utf8_lossy(rest).into_owned();
    if which < 3 {
        given[which] = text.clone();
    }
    let body: &[u8] = if which == 3 { rest } else { body };
    let get = |name: &str| {
        let at = ["webhook-id", "webhook-timestamp", "webhook-signature"].iter().position(|known| *known == name)?;
        given.get(at).map(String::as_str)
    };
    if key.verify(get, body, Timestamp(SECONDS * 1_000)).is_ok() {
        // A list may hold others beside the one that is right.
        let same = match which {
            2 => text.split(' ').any(|token| token == right[2]),
            3 => body == b"{\"a\":1}",
            _ => given[which] == right[which],
        };
        assert!(same, "{given:?}");
    }
});
