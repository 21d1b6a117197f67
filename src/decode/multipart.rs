//! `multipart/related` (RFC 2387), as SOAP with attachments and MTOM answer: the root part is the document, and the
//! others are not read. What refers to them, such as `xop:Include`, stays as it is.

use super::{Error, Page, malformed_text};

const MULTIPART: &str = "multipart/related";
/// Headers of a part; more are none.
const HEAD_BYTES: usize = 16 << 10;

/// The root part of an answer of several; `None`: it is one document.
pub(super) fn root(page: &Page) -> Result<Option<Page>, Error> {
    let Some(content_type) = page.content_type.as_deref().filter(|of| essence(of).eq_ignore_ascii_case(MULTIPART))
    else {
        return Ok(None);
    };
    let wrong = |cause: &str| {
        let text = String::from_utf8_lossy(&page.body);
        malformed_text(MULTIPART, cause.to_owned(), &text)
    };
    let boundary = parameter(content_type, "boundary").ok_or_else(|| wrong("its Content-Type names no `boundary`"))?;
    let start = parameter(content_type, "start");
    let parts = Parts { body: &page.body, delimiter: format!("--{boundary}").into_bytes(), at: 0 };
    for part in parts {
        let part = part.map_err(wrong)?;
        let id = part.header("content-id").map(|id| id.trim_matches(['<', '>']));
        if start.as_deref().is_some_and(|start| id != Some(start.trim_matches(['<', '>']))) {
            continue;
        }
        let encoding = part.header("content-transfer-encoding").unwrap_or("binary");
        if !["7bit", "8bit", "binary"].iter().any(|known| known.eq_ignore_ascii_case(encoding)) {
            return Err(wrong(&format!("its root part is encoded as {encoding:?}, which is not read")));
        }
        let content_type = part.header("content-type").map(str::to_owned);
        return Ok(Some(Page { content_type, body: page.body.slice_ref(part.body), ..page.clone() }));
    }
    Err(wrong(if start.is_some() { "no part has the id that `start` names" } else { "it has no part" }))
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// A parameter of a content type, which may be in quotes.
fn parameter(content_type: &str, name: &str) -> Option<String> {
    let mut rest = content_type.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, behind) = value.split_once(';').unwrap_or((value, ""));
                (value.trim().to_owned(), behind)
            }
        };
        if key.trim_matches([';', ' ', '\t']).eq_ignore_ascii_case(name) {
            return Some(value).filter(|value| !value.is_empty());
        }
        rest = behind;
    }
}

/// A quoted text up to its closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

struct Part<'a> {
    head: &'a str,
    body: &'a [u8],
}

impl<'a> Part<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(':'));
        pairs.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// The parts, one after the other; an error where one is cut off.
struct Parts<'a> {
    body: &'a [u8],
    delimiter: Vec<u8>,
    /// What was read so far.
    at: usize,
}

impl<'a> Parts<'a> {
    /// Where the next delimiter begins, and where the line behind it does. `None` of the second: it is the last one.
    fn delimiter(&self, from: usize) -> Option<(usize, Option<usize>)> {
        let mut from = from;
        loop {
            let found = from + find(self.body.get(from..)?, &self.delimiter)?;
            let behind = found + self.delimiter.len();
            let begins_a_line = found == 0 || self.body.get(found - 1) == Some(&b'\n');
            let rest = self.body.get(behind..)?;
            if begins_a_line && rest.starts_with(b"--") {
                return Some((found, None));
            }
            let line = find(rest, b"\n");
            let is_line = line.and_then(|end| rest.get(..end)).is_some_and(|padding| padding.trim_ascii().is_empty());
            if begins_a_line && is_line {
                return Some((found, line.map(|end| behind + end + 1)));
            }
            from = behind;
        }
    }

    fn part(&mut self, from: usize) -> Result<Part<'a>, &'static str> {
        const CUT: &str = "a part of it is cut off";
        let (end, _) = self.delimiter(from).ok_or(CUT)?;
        let part = self.body.get(from..end).ok_or(CUT)?;
        // The line end before a delimiter belongs to it.
        let part = part.strip_suffix(b"\n").map_or(part, |part| part.strip_suffix(b"\r").unwrap_or(part));
        self.at = end;
        // A part without headers begins with the empty line.
        let (head, body) = if let Some(body) = part.strip_prefix(b"\r\n").or_else(|| part.strip_prefix(b"\n")) {
            (&b""[..], body)
        } else {
            let windows = [(find(part, b"\r\n\r\n"), 4), (find(part, b"\n\n"), 2)];
            let ends = windows.into_iter().filter_map(|(at, length)| Some((at?, length)));
            let (at, length) = ends.min().ok_or("a part of it has no empty line behind its headers")?;
            (part.get(..at).unwrap_or_default(), part.get(at + length..).unwrap_or_default())
        };
        let head = std::str::from_utf8(head).ok().filter(|head| head.len() <= HEAD_BYTES);
        Ok(Part { head: head.ok_or("the headers of a part cannot be read")?, body })
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, line) = self.delimiter(self.at)?;
        Some(self.part(line?))
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check_as, *};

    const TYPE: &str = "Multipart/Related; boundary=\"--=_a b\"; type=\"application/xop+xml\"; start=\"<root@x>\"";

    fn part(head: &str, body: &str) -> String {
        format!("----=_a b\r\n{head}\r\n\r\n{body}\r\n")
    }

    #[test]
    fn the_root_part_is_the_document() {
        let root = part(
            "Content-Type: application/xop+xml; charset=utf-8\r\nContent-Transfer-Encoding: 8BIT\r\ncontent-id: <root@x>",
            "<a><x:Include href='cid:1'/>----=_a b</a>",
        );
        let other = part("Content-Type: image/png\r\nContent-ID: <1>", "\u{1}--x");
        let expected = r##"{"a":{"Include":{"@href":"cid:1"},"#text":"----=_a b"}}"##;
        for body in [format!("{root}{other}----=_a b--\r\n"), format!("a preamble\r\n{other}{root}----=_a b--")] {
            let json =
                |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_else(|_| panic!("{text}"));
            for decoder in ["xml = {}", "xml = { references = true }"] {
                let found = check_as(decoder, TYPE, body.as_bytes());
                assert_eq!(json(&found), json(expected), "{body}");
            }
            let found = check_as("xml = {}", TYPE, body.replace("\r\n", "\n").as_bytes());
            assert_eq!(json(&found), json(expected));
        }
        // Without `start` it is the first one, and one may have no headers.
        let body = "--b\r\n\r\n{\"a\":1}\r\n--b\r\n\r\nx\r\n--b--";
        assert_eq!(check_as("json = {}", "multipart/related; boundary=b", body.as_bytes()), "{\"a\":1}");
    }

    #[test]
    fn what_is_no_whole_root_is_refused() {
        let whole = part("Content-ID: <root@x>", "<a/>");
        for (kind, body, cause) in [
            (TYPE, whole.clone(), "a part of it is cut off"),
            (TYPE, whole.replace("root@x", "other") + "----=_a b--", "no part has the id that `start` names"),
            (TYPE, "<a/>".into(), "no part has the id that `start` names"),
            ("multipart/related; boundary=b", String::new(), "it has no part"),
            ("multipart/related; boundary=b", "--b--".into(), "it has no part"),
            ("multipart/related", whole.clone(), "its Content-Type names no `boundary`"),
            ("multipart/related; boundary=b", "--b\r\nx".into(), "a part of it is cut off"),
            ("multipart/related; boundary=b", "--b\r\nx: y\r\n--b--".into(), "no empty line behind its headers"),
            (
                "multipart/related; boundary=b",
                "--b\r\nContent-Transfer-Encoding: base64\r\n\r\nPGEvPg==\r\n--b--".into(),
                "is encoded as \"base64\", which is not read",
            ),
        ] {
            let found = check_as("xml = {}", kind, body.as_bytes());
            assert!(
                found.starts_with("error: the answer is not multipart/related") && found.contains(cause),
                "{body:?}: {found}"
            );
        }
    }

    #[test]
    fn parameters_in_every_form() {
        for (text, expected) in [
            ("a/b; boundary=x", Some("x")),
            ("a/b;BOUNDARY = x ;c=d", Some("x")),
            ("a/b; c=\"boundary=y; \\\"\"; boundary=\"x;\\\"y\"", Some("x;\"y")),
            ("a/b; boundary=", None),
            ("a/b; boundary=\"x", None),
            ("a/b", None),
        ] {
            assert_eq!(parameter(text, "boundary").as_deref(), expected, "{text}");
        }
    }
}
