//! From bytes to text: which charset it is, and that every byte belongs to it. Nothing is replaced or guessed.

use std::borrow::Cow;

use encoding_rs::{DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Where a document may say its charset itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Nowhere,
    /// JSON is Unicode (RFC 8259, 8.1): what a content type says of it has no meaning.
    Json,
    /// `<?xml encoding="..."?>`
    Xml,
    /// `<meta charset="...">`
    Html,
}

/// How far a document's own word is looked for, as HTML's standard says.
const DECLARED_BYTES: usize = 1024;

/// A charset by one of its names (WHATWG's Encoding Standard).
pub(super) fn named(label: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
        format!("{label:?} is not a known charset: for example \"utf-8\", \"windows-1252\", \"shift_jis\"")
    })
}

/// The body as text; the error says what is wrong and where.
pub(super) fn text<'a>(
    body: &'a [u8],
    file: Option<&'static Encoding>,
    content_type: &str,
    declared: Declared,
) -> Result<Cow<'a, str>, String> {
    if file.is_none() {
        let orders: [(&[u8; 4], Number); 2] =
            [(b"\xff\xfe\x00\x00", u32::from_le_bytes), (b"\x00\x00\xfe\xff", u32::from_be_bytes)];
        for (bom, number) in orders {
            if let Some(rest) = body.strip_prefix(bom) {
                return utf_32(rest, number).map(Cow::Owned);
            }
        }
    }
    let by_bom = Encoding::for_bom(body);
    let encoding = match (file, by_bom) {
        (Some(file), _) => file,
        (None, Some((encoding, _))) => encoding,
        (None, None) => said(body, content_type, declared)?,
    };
    let body = match by_bom {
        Some((bom, length)) if bom == encoding => body.get(length..).unwrap_or_default(),
        _ => body,
    };
    if encoding == UTF_8 {
        return std::str::from_utf8(body).map(Cow::Borrowed).map_err(|error| format!("it is not UTF-8: {error}"));
    }
    encoding.decode_without_bom_handling_and_without_replacement(body).ok_or_else(|| {
        let at = malformed_at(encoding, body);
        format!("it is not {}: malformed bytes from index {at}", encoding.name())
    })
}

/// What the content type or the document itself says; without a word, UTF-8.
fn said(body: &[u8], content_type: &str, declared: Declared) -> Result<&'static Encoding, String> {
    if declared == Declared::Json {
        return Ok(UTF_8);
    }
    if let Some(label) = parameter(content_type) {
        return named(label).map_err(|e| format!("its Content-Type names a charset, but {e}; set `charset`"));
    }
    let head = body.get(..DECLARED_BYTES).unwrap_or(body);
    let label = match declared {
        Declared::Xml if head.starts_with(b"<\0") => return Ok(UTF_16LE),
        Declared::Xml if head.starts_with(b"\0<") => return Ok(UTF_16BE),
        Declared::Xml if head.starts_with(b"<?xml") => {
            let end = head.windows(2).position(|two| two == b"?>").unwrap_or(0);
            after(head.get(..end).unwrap_or_default(), "encoding")
        }
        Declared::Html => head.split(|byte| *byte == b'<').find_map(|tag| {
            let tag = tag.split(|byte| *byte == b'>').next()?;
            tag.get(..4)?.eq_ignore_ascii_case(b"meta").then(|| after(tag, "charset")).flatten()
        }),
        _ => None,
    };
    let Some(label) = label else { return Ok(UTF_8) };
    let encoding = named(&label).map_err(|e| format!("it names its charset, but {e}; set `charset`"))?;
    // What could be read so far is no UTF-16, whatever it says.
    Ok(if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding })
}

/// The `charset` of a content type.
fn parameter(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim() == "charset" && !value.is_empty()).then_some(value)
    })
}

/// The value behind `name =`, quoted or not.
fn after(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (_, rest) = head.split_once(name)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '/' | '>'));
    rest.get(..end.unwrap_or(rest.len())).filter(|label| !label.is_empty()).map(str::to_owned)
}

/// Where the first malformed sequence begins.
fn malformed_at(encoding: &'static Encoding, body: &[u8]) -> usize {
    /// What is decoded at a time, only to be thrown away.
    const SCRATCH_BYTES: usize = 4096;
    let (mut decoder, mut scratch, mut at) = (encoding.new_decoder_without_bom_handling(), [0; SCRATCH_BYTES], 0);
    loop {
        let rest = body.get(at..).unwrap_or_default();
        let (result, read, _) = decoder.decode_to_utf8_without_replacement(rest, &mut scratch, true);
        at += read;
        match result {
            DecoderResult::Malformed(bad, after) => return at.saturating_sub(usize::from(bad) + usize::from(after)),
            DecoderResult::InputEmpty => return at,
            DecoderResult::OutputFull => {}
        }
    }
}

/// UTF-32's order of bytes.
type Number = fn([u8; 4]) -> u32;

fn utf_32(body: &[u8], number: Number) -> Result<String, String> {
    let (whole, rest) = body.as_chunks::<4>();
    let wrong = |at: usize| format!("it is not UTF-32: malformed bytes from index {}", 4 * (at + 1));
    let text: Result<String, String> =
        whole.iter().enumerate().map(|(at, four)| char::from_u32(number(*four)).ok_or_else(|| wrong(at))).collect();
    if rest.is_empty() { text } else { text.and(Err(wrong(whole.len()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], file: Option<&str>, content_type: &str, declared: Declared) -> Result<String, String> {
        let file = file.map(|label| named(label).expect("known"));
        text(body, file, content_type, declared).map(Cow::into_owned)
    }

    #[test]
    fn who_says_it_first() {
        use Declared::*;
        let xml = b"<?xml version='1.0' encoding='windows-1252'?><a>\x80</a>";
        let meta = b"<html><META http-equiv=x content=\"text/html; charset=iso-8859-15\">\xa4";
        for (body, file, content_type, declared, end) in [
            (&b"\xe9"[..], Some("latin1"), "text/plain; charset=utf-8", Nowhere, "é"),
            (b"\xef\xbb\xbf\xc3\xa9", None, "text/plain; charset=latin1", Nowhere, "é"),
            (b"\xff\xfe\xe9\x00", None, "", Nowhere, "é"),
            (b"\xfe\xff\x00\xe9", None, "", Json, "é"),
            (b"\xff\xfe\x00\x00\xe9\x00\x00\x00", None, "", Json, "é"),
            (b"\x00\x00\xfe\xff\x00\x00\x00\xe9", None, "", Json, "é"),
            (b"\xe9", None, "text/csv; header=present; charset=\"iso-8859-1\"", Nowhere, "é"),
            (b"\xc3\xa9", None, "application/json; charset=latin1", Json, "é"),
            (xml, None, "text/xml", Xml, "<a>€</a>"),
            (xml, None, "text/xml; charset=koi8-r", Xml, "<a>─</a>"),
            (b"<\0a\0/\0>\0", None, "text/xml", Xml, "<a/>"),
            (b"\0<\0a\0/\0>", None, "text/xml", Xml, "<a/>"),
            (b"<?xml version='1.0' encoding='UTF-16'?><a/>", None, "", Xml, "<a/>"),
            (meta, None, "text/html", Html, "€"),
            (b"<meta charset=windows-1251>\xff", None, "text/html", Html, "я"),
            (b"\xc3\xa9", None, "text/plain", Nowhere, "é"),
            (b"\xff\xfe\xe9\x00", Some("utf-16le"), "", Nowhere, "é"),
        ] {
            let text = check(body, file, content_type, declared).expect("text");
            assert!(text.ends_with(end) && !text.contains('\u{feff}'), "{text:?} ends with {end:?}");
        }
    }

    #[test]
    fn bytes_that_are_none_of_it() {
        for (body, file, content_type, error) in [
            (&b"ab\xff"[..], None, "", "it is not UTF-8: invalid utf-8 sequence of 1 bytes from index 2"),
            (b"ab\x82", Some("shift_jis"), "", "it is not Shift_JIS: malformed bytes from index 2"),
            (b"a\0b", Some("utf-16le"), "", "it is not UTF-16LE: malformed bytes from index 2"),
            (b"\xff\xfe\x00\x00\x00\xd8\x00\x00", None, "", "it is not UTF-32: malformed bytes from index 4"),
            (b"\xff\xfe\x00\x00\x41", None, "", "it is not UTF-32: malformed bytes from index 4"),
            (
                b"a",
                None,
                "text/csv; charset=klingon",
                "its Content-Type names a charset, but \"klingon\" is not a known charset: for example \"utf-8\", \"windows-1252\", \"shift_jis\"; set `charset`",
            ),
        ] {
            assert_eq!(check(body, file, content_type, Declared::Nowhere), Err(error.into()));
        }
        assert_eq!(malformed_at(encoding_rs::EUC_KR, &[&[b'a'; 10_000][..], b"\xff"].concat()), 10_000);
    }

    #[test]
    fn text_that_is_utf_8_is_not_copied() {
        assert!(matches!(text(b"\xef\xbb\xbfa", None, "", Declared::Json), Ok(Cow::Borrowed("a"))));
        assert!(matches!(text(b"a", Some(encoding_rs::WINDOWS_1252), "", Declared::Json), Ok(Cow::Borrowed("a"))));
    }
}
