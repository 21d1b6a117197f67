//! From an answer's bytes to the JSON document that `items` sees: which kind of document it is, and what holds for all
//! kinds. Each kind is one file of `decode/`.
//!
//! It never guesses beyond the content type: a login page under another name is an error that says so. What it makes
//! depends on the bytes, the page's URL and the file alone, so that equal answers are equal documents.

mod charset;
mod csv;
mod feed;
mod html;
mod json;
mod multipart;
pub mod sse;
mod xml;

use std::{
    borrow::Cow,
    cell::Cell,
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use encoding_rs::Encoding;

use crate::{
    model::Hash,
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::{self, Form, Shape, keys},
    },
};
use charset::Declared;

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub url: String,
    pub content_type: Option<String>,
    pub body: Bytes,
    pub hash: Hash,
}

/// Stands for the content type of a 204, which has none: a page without records.
pub const NO_CONTENT: &str = "bellpull/no-content";

/// What a document may be of its body, several times over: names are repeated in each row, and some characters are
/// longer in JSON. Beyond it a small answer is made to fill the memory.
const OUTPUT_TIMES: usize = 8;
/// Added to it, so that it is of no matter to small answers.
const OUTPUT_EXTRA_BYTES: usize = 1 << 20;

/// How a body is read, as the file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    kind: Kind,
    /// `None`: as the answer says.
    charset: Option<&'static Encoding>,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Json,
    /// One JSON value a line; `items` sees an array.
    Ndjson,
    Xml(xml::Options),
    Csv(csv::Options),
    Feed,
    /// With the files that its entries name.
    FeedWithMedia,
    Html(html::Options),
    /// Server-sent events; `items` sees an array.
    Sse,
    /// The body as one string.
    Text,
}

/// Those that a person names by the look of an answer.
impl Decoder {
    /// With this delimiter.
    pub fn of_csv(delimiter: u8) -> Self {
        Self { kind: Kind::Csv(csv::Options::with_delimiter(delimiter)), charset: None }
    }

    pub fn of_json() -> Self {
        Self { kind: Kind::Json, charset: None }
    }

    pub fn of_ndjson() -> Self {
        Self { kind: Kind::Ndjson, charset: None }
    }

    pub fn of_feed() -> Self {
        Self { kind: Kind::Feed, charset: None }
    }

    pub fn of_xml() -> Self {
        Self { kind: Kind::Xml(xml::Options::default()), charset: None }
    }
}

impl Decoder {
    /// The selector of the elements of an HTML page.
    pub fn select(&self) -> Option<&str> {
        match &self.kind {
            Kind::Html(options) => Some(options.select()),
            _ => None,
        }
    }

    /// Whether it reads a feed, which shows its newest entries only.
    pub fn is_feed(&self) -> bool {
        matches!(self.kind, Kind::Feed | Kind::FeedWithMedia)
    }

    /// Writes how a body is read.
    pub fn define(&self, text: &mut Fingerprint) {
        match &self.kind {
            Kind::Json => text.put("decode", "json"),
            Kind::Ndjson => text.put("decode", "ndjson"),
            Kind::Xml(options) => options.define(text),
            Kind::Csv(options) => options.define(text),
            Kind::Feed => text.put("decode", "feed"),
            Kind::FeedWithMedia => text.put("decode", "feed with media"),
            Kind::Html(options) => options.define(text),
            Kind::Sse => text.put("decode", "sse"),
            Kind::Text => text.put("decode", "text"),
        }
        text.put_some("charset", self.charset.map(Encoding::name));
    }

    /// XML of SOAP, in which some elements are always arrays.
    pub fn soap(lists: BTreeSet<String>) -> Self {
        Self { kind: Kind::Xml(xml::Options::of_soap(lists)), charset: None }
    }
}

/// Documents decoded since the start: an unchanged answer adds none. For tests and status.
pub static DECODED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the answer is HTML ({content_type}), not {expected}: a login or an error page? It begins: {start}")]
    Html { content_type: String, expected: &'static str, start: String },
    #[error("the answer is empty")]
    Empty,
    #[error("the answer is not {expected}: {cause}; it begins: {start}")]
    Malformed { expected: &'static str, cause: String, start: String },
    #[error("the answer is nested deeper than {max} (`depth-max`)")]
    Depth { max: usize },
    #[error("the answer has a key that begins with `{RESERVED}`, which is refused")]
    Reserved,
    #[error("the answer ({expected}) has more than {limit} bytes as JSON: it repeats its names or texts too often")]
    Grows { expected: &'static str, limit: usize },
}

keys! {
    /// How an answer becomes a document.
    mod decode_kinds: Rule::Kind;
    /// The document as it is. Half of a surrogate pair (`\ud83d` alone) becomes U+FFFD, and `status` counts it, as in `ndjson` and
    /// `feed`.
    get JSON: () = "json", Form::raw(Shape::Table(&bare::FAMILY));
    /// An array of the lines' values; records behind separators (RFC 7464) are read in the same way.
    get NDJSON: () = "ndjson", Form::raw(Shape::Table(&bare::FAMILY));
    /// `{ "root": ... }`. An element of only text is a string, without the white space around it; any other element is an
    /// object with `@name` for attributes and `#text` for text. Elements of one name beside each other become an array. A DOCTYPE
    /// with declarations (`[...]`) is refused; what another one names is not read.
    get XML: () = "xml", Form::raw(Shape::Table(&xml::xml::FAMILY));
    /// An array of objects of strings. A row whose number of fields differs from the first row's is an error. A column without a name is
    /// `column_N`.
    /// `text/tab-separated-values` has tabs.
    get CSV: () = "csv", Form::raw(Shape::Table(&csv::csv::FAMILY));
    /// RSS 0.9x to 2.0, RSS 1.0, Atom and JSON Feed: `{ title, link, entries: [{ id, title, link, summary, content,
    /// published, updated, authors, categories }] }`; dates are in RFC 3339, or as they came where they cannot be read,
    /// links absolute, and what is absent is null. The id of an entry without one is `rdf:about` in RSS 1.0, otherwise
    /// its link, otherwise a hash of its title and date. Of several entries with one id the newest counts, of equal
    /// ones the first. A feed shows its newest entries only: its bridge is a `window`, unless the file says `window =
    /// false`.
    get FEED: () = "feed", Form::raw(Shape::Table(&feed::feed::FAMILY));
    /// An array of one object for each element that the CSS selector `select` finds.
    get HTML: () = "html", Form::raw(Shape::Table(&html::html::FAMILY));
    /// Server-sent events of a stream that ends: `[{ event, id, data, retry }]` (WHATWG's grammar). `event` is
    /// `message` where the stream names none, `id` the last one that it named, or null, `data` a text (`.data |
    /// fromjson`), and `retry` milliseconds, only where the event has it. What no empty line ends does not count.
    get SSE: () = "sse", Form::raw(Shape::Table(&bare::FAMILY));
    /// One string.
    get TEXT: () = "text", Form::raw(Shape::Table(&bare::FAMILY));
}

keys! {
    /// What every decoder has.
    mod plain;
    /// The charset, such as `"windows-1252"`. JSON is always Unicode. Bytes that do not belong to the charset are an error.
    maybe CHARSET: &'static Encoding = "charset",
        Form::new(Shape::Text, |item| item.parse_text(charset::named, "a charset such as \"windows-1252\"")),
        "the byte order mark decides, then `Content-Type`, then the document itself (XML, HTML), and finally UTF-8";
}

keys! {
    /// A decoder without options of its own.
    mod bare;
    + plain::FAMILY;
}

/// A decoder of a source's `decode`.
pub const DECODER: Form<Decoder> = Form::table(&decode_kinds::FAMILY, read);

/// Reads `decode.KIND`.
fn read(item: &Item<'_>) -> Option<Decoder> {
    let mut table = item.table()?;
    type Read = fn(&mut Table<'_>) -> Option<Kind>;
    let kinds: [(&key::Get<()>, Read); 8] = [
        (&decode_kinds::JSON, |_| Some(Kind::Json)),
        (&decode_kinds::NDJSON, |_| Some(Kind::Ndjson)),
        (&decode_kinds::XML, |options| Some(Kind::Xml(xml::Options::read(options)))),
        (&decode_kinds::CSV, |options| Some(Kind::Csv(csv::Options::read(options)))),
        (&decode_kinds::FEED, |options| {
            Some(if options.or(&feed::feed::MEDIA) { Kind::FeedWithMedia } else { Kind::Feed })
        }),
        (&decode_kinds::HTML, |options| html::Options::read(options).map(Kind::Html)),
        (&decode_kinds::SSE, |_| Some(Kind::Sse)),
        (&decode_kinds::TEXT, |_| Some(Kind::Text)),
    ];
    let found = table.kind(&kinds);
    table.finish();
    let (read, item) = found?;
    let mut options = item.table()?;
    let charset = options.get(&plain::CHARSET);
    let kind = read(&mut options);
    options.finish();
    Some(Decoder { kind: kind?, charset })
}

/// A page as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    pub text: Cow<'a, [u8]>,
    /// Halves of surrogate pairs that became U+FFFD.
    pub replaced: usize,
}

impl Document<'_> {
    fn into_owned(self) -> Document<'static> {
        Document { text: Cow::Owned(self.text.into_owned()), replaced: self.replaced }
    }
}

/// The document as JSON text, checked for nesting but not yet parsed.
pub fn decode<'a>(decoder: Option<&Decoder>, page: &'a Page, depth_max: usize) -> Result<Cow<'a, [u8]>, Error> {
    document(decoder, page, depth_max, &[]).map(|document| document.text)
}

/// The same for one who looks for lists in it, at these ways from the root: XML does not say by itself that an empty
/// element is one.
pub fn document<'a>(
    decoder: Option<&Decoder>,
    page: &'a Page,
    depth_max: usize,
    lists: &[Vec<String>],
) -> Result<Document<'a>, Error> {
    DECODED.fetch_add(1, Ordering::Relaxed);
    match multipart::root(page)? {
        Some(root) => document_of(decoder, &root, depth_max, lists).map(Document::into_owned),
        None => document_of(decoder, page, depth_max, lists),
    }
}

/// The document of a page that is one.
fn document_of<'a>(
    decoder: Option<&Decoder>,
    page: &'a Page,
    depth_max: usize,
    lists: &[Vec<String>],
) -> Result<Document<'a>, Error> {
    let content_type = page.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let charset = decoder.and_then(|d| d.charset);
    let input = Input { page, content_type: &content_type, charset, depth_max, lists, replaced: Cell::new(0) };
    let by_type;
    let kind = match decoder {
        Some(decoder) => &decoder.kind,
        None => {
            by_type = input.kind()?;
            &by_type
        }
    };
    let text = match kind {
        Kind::Json => json::decode(&input)?,
        Kind::Ndjson => json::decode_lines(&input)?.into(),
        Kind::Xml(options) => xml::decode(options, &input)?.into(),
        Kind::Csv(options) => csv::decode(options, &input)?.into(),
        Kind::Feed => feed::decode(&input, false)?.into(),
        Kind::FeedWithMedia => feed::decode(&input, true)?.into(),
        Kind::Html(options) => html::decode(options, &input)?.into(),
        Kind::Sse => sse::decode(&input)?.into(),
        Kind::Text => {
            let mut out = input.out("text");
            out.string(&input.text(Declared::Nowhere, "text")?);
            out.finish()?.into()
        }
    };
    check_nesting(&text, depth_max)?;
    Ok(Document { text, replaced: input.replaced.get() })
}

/// The error of a document that decoded to no JSON.
pub fn malformed(error: &serde_json::Error, document: &[u8]) -> Error {
    Error::Malformed { expected: "JSON", cause: error.to_string(), start: start(document) }
}

/// What a decoder is given.
struct Input<'a, 'c> {
    page: &'a Page,
    /// In lower case.
    content_type: &'c str,
    charset: Option<&'static Encoding>,
    depth_max: usize,
    /// Names of elements, from the root to a list.
    lists: &'c [Vec<String>],
    /// See [`Document`].
    replaced: Cell<usize>,
}

impl<'a> Input<'a, '_> {
    /// What the content type says, and of XML its root.
    fn kind(&self) -> Result<Kind, Error> {
        let essence = self.content_type.split(';').next().unwrap_or_default().trim();
        let lines = ["ndjson", "jsonl", "jsonlines", "json-seq", "json-lines"];
        Ok(match essence {
            "application/rss+xml" | "application/atom+xml" | "application/rdf+xml" | "application/feed+json" => {
                Kind::Feed
            }
            "text/csv" | "application/csv" => Kind::Csv(csv::Options::with_delimiter(b',')),
            "text/event-stream" => Kind::Sse,
            "text/tab-separated-values" => Kind::Csv(csv::Options::with_delimiter(b'\t')),
            xml if matches!(xml, "text/xml" | "application/xml") || xml.ends_with("+xml") => {
                let text = self.text(Declared::Xml, "XML")?;
                if xml::root(&text).is_some_and(feed::is_root) {
                    Kind::Feed
                } else {
                    Kind::Xml(xml::Options::default())
                }
            }
            other if lines.iter().any(|word| other.contains(word)) => Kind::Ndjson,
            _ => Kind::Json,
        })
    }

    /// The body as text, borrowed where it is UTF-8 already.
    fn text(&self, declared: Declared, expected: &'static str) -> Result<Cow<'a, str>, Error> {
        charset::text(&self.page.body, self.charset, self.content_type, declared).map_err(|cause| Error::Malformed {
            expected,
            cause,
            start: start(&self.page.body),
        })
    }

    /// The body as JSON.
    fn json(&self, expected: &'static str) -> Result<Cow<'a, str>, Error> {
        self.text(Declared::Json, expected).map(|text| self.whole_pairs(text))
    }

    /// JSON without halves of surrogate pairs.
    fn whole_pairs<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let (text, replaced) = json::whole_pairs(text);
        self.replaced.set(self.replaced.get() + replaced);
        text
    }

    /// Refuses a page for people where data was asked for.
    fn refuse_html(&self, text: &str, expected: &'static str, signs: &[&str]) -> Result<(), Error> {
        let body = text.trim_start();
        let begins =
            |sign: &str| body.as_bytes().get(..sign.len()).is_some_and(|b| b.eq_ignore_ascii_case(sign.as_bytes()));
        if self.content_type.starts_with("text/html") || signs.iter().any(|sign| begins(sign)) {
            return Err(self.html(text, expected));
        }
        Ok(())
    }

    fn html(&self, text: &str, expected: &'static str) -> Error {
        let content_type = if self.content_type.is_empty() { "no content type" } else { self.content_type };
        Error::Html { content_type: content_type.to_owned(), expected, start: start(text.as_bytes()) }
    }

    /// Where the document is written.
    fn out(&self, expected: &'static str) -> Out {
        let limit = self.page.body.len().saturating_mul(OUTPUT_TIMES).saturating_add(OUTPUT_EXTRA_BYTES);
        Out { bytes: Vec::new(), limit, expected }
    }
}

fn malformed_text(expected: &'static str, cause: String, text: &str) -> Error {
    Error::Malformed { expected, cause, start: start(text.as_bytes()) }
}

/// A document that is being written; more than one answer may become is an error.
struct Out {
    bytes: Vec<u8>,
    limit: usize,
    expected: &'static str,
}

impl Out {
    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.bytes, text).expect("a string is JSON, and memory takes it");
    }

    fn string_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.raw("null"),
        }
    }

    /// To be asked often enough that what lies between is small.
    fn check(&self) -> Result<(), Error> {
        if self.bytes.len() > self.limit {
            return Err(Error::Grows { expected: self.expected, limit: self.limit });
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, Error> {
        self.check()?;
        Ok(self.bytes)
    }
}

/// Begins the keys under which serde_json hands numbers and unparsed texts to itself. In an answer such an object would
/// be read as something else, and deeper than it looks.
const RESERVED: &str = "$serde_json::private::";

/// Nesting counted over the bytes, before any parser recurses, and no reserved key. Each byte of each answer goes through it: two
/// plain loops take half of what one takes that keeps a state.
fn check_nesting(text: &[u8], max: usize) -> Result<(), Error> {
    let mut depth = 0usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let string = bytes.as_slice();
                skip_string(&mut bytes);
                let may_be_reserved = matches!(string.first(), Some(b'$' | b'\\'));
                if may_be_reserved && is_reserved(string, string.len() - bytes.as_slice().len()) {
                    return Err(Error::Reserved);
                }
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return Err(Error::Depth { max });
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// To behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// Whether a string is a reserved key: the text behind its first quote, and how many bytes it has with its last one.
fn is_reserved(text: &[u8], length: usize) -> bool {
    let (string, rest) = text.split_at_checked(length).unwrap_or((text, b""));
    let quoted = || [b"\"", string].concat();
    rest.trim_ascii_start().starts_with(b":")
        && serde_json::from_slice::<String>(&quoted()).is_ok_and(|key| key.starts_with(RESERVED))
}

/// The line of a place in a text, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The first characters, on one line, for a message.
fn start(body: &[u8]) -> String {
    /// Enough to recognise a page by, too little to fill a log.
    const CHARS: usize = 80;
    /// Of what is looked at: a character has up to four bytes, and white space is left out.
    const BYTES: usize = 1024;
    let text = String::from_utf8_lossy(body.get(..BYTES).unwrap_or(body));
    let line: Vec<&str> = text.split_whitespace().take(CHARS).collect();
    line.join(" ").chars().take(CHARS).collect()
}

#[cfg(test)]
mod tests;
