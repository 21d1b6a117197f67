#![no_main]

//! A program and an answer, with a zero between them. Whatever they are, this process lives, and what comes out is JSON.

use std::sync::LazyLock;

use bellpull::expr::{Expr, use_workers};
use libfuzzer_sys::fuzz_target;

static BINARY: LazyLock<()> = LazyLock::new(|| use_workers(std::env::var("BELLPULL_BINARY").expect("run.sh sets it")));
const OUTPUTS_MAX: usize = 1_000;

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&BINARY);
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (Some(program), input) = (parts.next(), parts.next().unwrap_or(b"null")) else { return };
    let Ok(program) = std::str::from_utf8(program) else { return };
    let Ok(expr) = Expr::parse(program) else { return };
    if let Ok(texts) = expr.texts(input, OUTPUTS_MAX) {
        for text in texts {
            serde_json::from_str::<serde::de::IgnoredAny>(&text).expect("an output is JSON");
        }
    }
});
