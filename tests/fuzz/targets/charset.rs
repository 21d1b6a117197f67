#![no_main]

use std::sync::LazyLock;

use bellpull::decode::Decoder;
use bellpull_fuzz::{check, choose, decoder};
use libfuzzer_sys::fuzz_target;

static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
    [
        "text = {}",
        "text = { charset = \"utf-8\" }",
        "text = { charset = \"utf-16le\" }",
        "text = { charset = \"utf-16be\" }",
        "text = { charset = \"windows-1252\" }",
        "text = { charset = \"shift_jis\" }",
        "text = { charset = \"gb18030\" }",
        "text = { charset = \"iso-2022-jp\" }",
        "text = { charset = \"euc-kr\" }",
        "text = { charset = \"big5\" }",
        // Here the document says it.
        "xml = {}",
        "html = { select = \"p\", fields = { a = \"@a\" } }",
    ]
    .into_iter()
    .map(decoder)
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let (decoder, body) = choose(data, &DECODERS);
    // Up to the first line end it is the content type.
    let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (head, body) = body.split_at(end);
    let Ok(content_type) = std::str::from_utf8(head) else { return };
    let value = check(Some(decoder), content_type, body);
    if decoder == &DECODERS[1] && !body.starts_with(b"\xef\xbb\xbf") {
        let text = std::str::from_utf8(body).ok();
        assert_eq!(value.as_ref().map(|value| value.as_str()), text.map(Some), "UTF-8 is text as it is, or an error");
    }
});
