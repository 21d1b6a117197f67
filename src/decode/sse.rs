//! Server-sent events (WHATWG HTML, section 9.2.6), piece by piece as they come, and as a document where the stream
//! ends.

use serde_json::Value as Json;

use super::{Declared, Error, Input};

const STREAM: &str = "an event stream";
/// What an event without a name is called.
const MESSAGE: &str = "message";
const BOM: &[u8] = "\u{feff}".as_bytes();

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub event: String,
    /// The last id that the stream gave, for `Last-Event-ID`.
    pub id: Option<String>,
    pub data: String,
    /// How many milliseconds to wait before the next connection, where the event says it.
    pub retry: Option<u64>,
}

/// Reads a stream. What follows the last empty line is no event yet.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has not ended.
    line: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed ends no other line.
    after_return: bool,
    /// The first line has ended: a byte order mark is one at its begin only.
    begun: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    retry: Option<u64>,
}

impl Parser {
    /// The events that these bytes end.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            let ends_again = std::mem::take(&mut self.after_return) && text.is_empty() && end == Some(b'\n');
            if ends_again {
                continue;
            }
            self.line.extend_from_slice(text);
            if let Some(end) = end {
                self.after_return = end == b'\r';
                events.extend(self.end_line());
            }
        }
        events
    }

    /// The last id that the stream gave, also where no event followed it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Bytes of what has not ended: who reads a stream bounds them.
    pub fn pending(&self) -> usize {
        self.line.len() + self.data.len() + self.event.len()
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(BOM).unwrap_or(&line) } else { &line };
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            // An empty one takes the last one back.
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()).filter(|id| !id.is_empty()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            // A comment has no name.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        // One without data is none, though what it says of the next connection holds.
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let event = if event.is_empty() { MESSAGE.to_owned() } else { event };
        Some(Event { event, id: self.id.clone(), data, retry: self.retry.take() })
    }
}

impl Event {
    /// As `items` sees it.
    pub fn json(&self) -> Json {
        let retry = self.retry.map(|retry| ("retry", Json::from(retry)));
        let fields = [
            ("event", Json::from(self.event.as_str())),
            ("id", self.id.as_deref().into()),
            ("data", self.data.as_str().into()),
        ];
        Json::Object(fields.into_iter().chain(retry).map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// The events of a stream that has ended.
pub(super) fn decode(input: &Input<'_, '_>) -> Result<Vec<u8>, Error> {
    // The mark at its begin is taken off with the charset.
    let text = input.text(Declared::Nowhere, STREAM)?;
    input.refuse_html(&text, STREAM, &["<!doctype html", "<html"])?;
    let mut parser = Parser { begun: true, ..Parser::default() };
    let mut out = input.out(STREAM);
    out.raw("[");
    let mut written = 0;
    // A line at a time, so that what is written is bounded while it is written.
    for line in text.as_bytes().split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        for event in parser.push(line) {
            out.raw(if written > 0 { "," } else { "" });
            out.raw(&event.json().to_string());
            out.check()?;
            written += 1;
        }
    }
    out.raw("]");
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check_as, *};

    fn event(event: &str, id: &str, data: &str) -> Event {
        let id = Some(id.to_owned()).filter(|id| !id.is_empty());
        Event { event: event.into(), id, data: data.into(), retry: None }
    }

    #[test]
    fn the_grammar() {
        for (text, expected) in [
            ("data: a\n\n", vec![event("message", "", "a")]),
            // The examples of the standard.
            ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![event("message", "", "YHOO\n+2\n10")]),
            (
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
                vec![event("message", "1", "first event"), event("message", "", "second event")],
            ),
            ("data\n\ndata\ndata\n\ndata:", vec![event("message", "", ""), event("message", "", "\n")]),
            ("data:test\n\ndata: test\n\n", vec![event("message", "", "test"), event("message", "", "test")]),
            // Line ends of every kind, and mixed.
            (
                "event: e\rdata: a\r\rdata: b\r\n\r\ndata: c\n\r",
                vec![event("e", "", "a"), event("message", "", "b"), event("message", "", "c")],
            ),
            ("\u{feff}data: a\n\n", vec![event("message", "", "a")]),
            ("\u{feff}\u{feff}data: a\n\n", vec![]),
            ("\n\u{feff}data: a\n\n", vec![]),
            // An id stays, an event's name does not; one with a null is none.
            (
                "id: 7\nevent: x\n\ndata: a\n\nid: a\0b\ndata: b\n\n",
                vec![event("message", "7", "a"), event("message", "7", "b")],
            ),
            ("DATA: a\ndata : b\n data: c\nother: d\n\n", vec![]),
            ("data: a\nevent: x\nevent:\n\n", vec![event("message", "", "a")]),
            ("data: a: b\n\n", vec![event("message", "", "a: b")]),
            ("data: a\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(Parser::default().push(text.as_bytes()), expected, "{text:?}");
        }
        let retries = |text: &str| Parser::default().push(text.as_bytes()).first().and_then(|event| event.retry);
        for (text, expected) in [
            ("retry: 70", Some(70)),
            ("retry: 7s", None),
            ("retry:", None),
            ("retry: -1", None),
            ("retry: 7\n\n:", Some(7)),
        ] {
            assert_eq!(retries(&format!("{text}\ndata: a\n\n")), expected, "{text:?}");
        }
    }

    /// A small generator with a seed.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).expect("31 bits") % sides
        }

        fn one<T: Copy>(&mut self, of: &[T]) -> T {
            of[self.below(of.len())]
        }
    }

    /// What a writer that knows the grammar writes is what is read, however the bytes are cut on the way.
    #[test]
    fn what_is_written_is_read() {
        let words = ["", "a", " b", "c: d", "\u{feff}", "ä\u{1f514}", "{\"id\":1}", "data: x", ":"];
        for seed in 0..500 {
            let mut dice = Dice(seed);
            let (mut text, mut expected, mut last) = (String::new(), Vec::new(), None);
            if dice.below(3) == 0 {
                text.push('\u{feff}');
            }
            for number in 0..dice.below(6) {
                let mut lines = Vec::new();
                let name = dice.one(&["", "", "tick", "x y"]);
                if !name.is_empty() {
                    lines.push(format!("event: {name}"));
                }
                if dice.below(2) == 0 {
                    last = Some(format!("id-{number}"));
                    lines.push(format!("id:id-{number}"));
                }
                let retry = (dice.below(4) == 0).then_some(1000 + u64::try_from(number).expect("small"));
                lines.extend(retry.map(|retry| format!("retry: {retry}")));
                let data: Vec<&str> = (0..=dice.below(3)).map(|_| dice.one(&words)).collect();
                lines.extend(data.iter().map(|line| format!("data: {line}")));
                if dice.below(2) == 0 {
                    lines.insert(dice.below(lines.len()), ": keep-alive".into());
                }
                for line in lines.iter().map(String::as_str).chain([""]) {
                    text.push_str(line);
                    // A lone return before a line feed would be one line end.
                    text.push_str(dice.one(&["\n", "\r\n", "\r\n"]));
                }
                let event = if name.is_empty() { MESSAGE } else { name }.to_owned();
                expected.push(Event { event, id: last.clone(), data: data.join("\n"), retry });
            }
            // What has not ended is no event.
            text.push_str("data: half");
            let (mut parser, mut found, mut rest) = (Parser::default(), Vec::new(), text.as_bytes());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((1 + dice.below(9)).min(rest.len()));
                found.extend(parser.push(piece));
                rest = more;
            }
            assert_eq!(found, expected, "seed {seed}: {text:?}");
            assert!(parser.pending() > 0);
            let returns = text.replace("\r\n", "\n").replace('\n', "\r");
            assert_eq!(Parser::default().push(returns.as_bytes()), expected, "seed {seed}: {returns:?}");
            let document: Json = serde_json::from_str(&check_as("sse = {}", "", text.as_bytes())).expect("JSON");
            assert_eq!(document, expected.iter().map(Event::json).collect::<Json>(), "seed {seed}");
        }
    }

    #[test]
    fn a_document_of_events() {
        let text = "event: tick\nid: 1\nretry: 9\ndata: {\"a\":1}\n\ndata: x\n\ndata: half";
        let found: Json =
            serde_json::from_str(&check_as("sse = {}", "text/event-stream", text.as_bytes())).expect("JSON");
        let expected = serde_json::json!([
            { "event": "tick", "id": "1", "data": "{\"a\":1}", "retry": 9 },
            { "event": "message", "id": "1", "data": "x" },
        ]);
        assert_eq!(found, expected);
        assert_eq!(check_as("sse = {}", "text/event-stream", b""), "[]");
        let page = check_as("sse = {}", "text/html", b"<html>Log in");
        assert!(page.starts_with("error: the answer is HTML (text/html), not an event stream"), "{page}");
    }
}
