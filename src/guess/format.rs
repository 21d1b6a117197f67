//! What kind of document an answer is, whatever its content type says.

use serde_json::Value as Json;

use super::Because;
use crate::decode::{self, Decoder, Page};

/// As deep as a source reads when the file says nothing.
const DEPTH_MAX: usize = crate::source::transport::DEPTH_MAX;
/// Lines that are looked at for a delimiter.
const LINES_SEEN: usize = 20;
/// Characters between the fields of a line.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    /// With its delimiter.
    Csv(u8),
    Feed,
    Xml,
    Html,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Ndjson => "NDJSON",
            Self::Csv(_) => "CSV",
            Self::Feed => "a feed",
            Self::Xml => "XML",
            Self::Html => "HTML",
        }
    }

    /// The value of the key `decode`.
    pub fn key(self) -> String {
        match self {
            Self::Json => "json = {}".into(),
            Self::Ndjson => "ndjson = {}".into(),
            Self::Csv(b',') => "csv = {}".into(),
            Self::Csv(b'\t') => "csv = { delimiter = \"\\t\" }".into(),
            Self::Csv(delimiter) => format!("csv = {{ delimiter = \"{}\" }}", char::from(delimiter)),
            Self::Feed => "feed = {}".into(),
            Self::Xml => "xml = {}".into(),
            Self::Html => "html = { select = \"article\", fields = { title = \"h2\", url = \"a@href\" } }".into(),
        }
    }

    fn decoder(self) -> Option<Decoder> {
        match self {
            Self::Json => Some(Decoder::of_json()),
            Self::Ndjson => Some(Decoder::of_ndjson()),
            Self::Csv(delimiter) => Some(Decoder::of_csv(delimiter)),
            Self::Feed => Some(Decoder::of_feed()),
            Self::Xml => Some(Decoder::of_xml()),
            Self::Html => None,
        }
    }

    /// Of a body; none where it is empty, or like nothing that is known.
    pub fn of(content_type: &str, body: &[u8]) -> Option<Because<Self>> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        let said = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let because = |format, why: &str| Some(Because::new(format, why.to_owned()));
        if text.is_empty() {
            return None;
        }
        let start = text.get(..text.floor_char_boundary(256)).unwrap_or(text).to_ascii_lowercase();
        if start.starts_with("<!doctype html") || start.starts_with("<html") {
            return because(Self::Html, "it begins as HTML does");
        }
        if start.starts_with('<') {
            let is_feed = ["<rss", "<feed", "<rdf:rdf"].iter().any(|root| start.contains(root));
            return match is_feed {
                true => because(Self::Feed, "its first element is that of RSS or Atom"),
                false if said == "text/html" => because(Self::Html, "its content type says so"),
                false => because(Self::Xml, "it begins as XML does"),
            };
        }
        if let Ok(value) = serde_json::from_str::<Json>(text) {
            let version = value.get("version").and_then(Json::as_str).unwrap_or_default();
            return match version.starts_with("https://jsonfeed.org/version/") {
                true => because(Self::Feed, "its version is that of JSON Feed"),
                // A number alone is a CSV of one field as well; nobody sends one.
                false => because(Self::Json, "an answer in JSON"),
            };
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if text.starts_with(['{', '[']) {
            let is_each = lines.clone().count() > 1 && lines.all(|line| serde_json::from_str::<Json>(line).is_ok());
            return is_each.then(|| Because::new(Self::Ndjson, "each line is JSON".into()));
        }
        let (delimiter, fields) = delimiter(text)?;
        let why = format!("each line has {fields} fields between {:?}", char::from(delimiter));
        Some(Because::new(Self::Csv(delimiter), why))
    }

    /// The document of a page, and whether the page's content type is enough to read it so.
    pub fn read(self, page: &Page) -> Result<(Json, bool), String> {
        let decoder = self.decoder().ok_or("HTML has no records of its own")?;
        let read = |decoder| decode::decode(decoder, page, DEPTH_MAX).map(|text| text.into_owned());
        let text = read(Some(&decoder)).map_err(|e| e.to_string())?;
        let is_said = read(None).is_ok_and(|said| said == text);
        Ok((serde_json::from_slice(&text).map_err(|e| e.to_string())?, is_said))
    }
}

/// The character that stands equally often in each of the first lines, outside of quotes; and how many fields it makes.
fn delimiter(text: &str) -> Option<(u8, usize)> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(LINES_SEEN).collect();
    let fields = |line: &str, delimiter: u8| {
        let (mut count, mut is_quoted) = (1, false);
        for byte in line.bytes() {
            is_quoted ^= byte == b'"';
            count += usize::from(byte == delimiter && !is_quoted);
        }
        count
    };
    let of = |delimiter: &u8| {
        let mut counts = lines.iter().map(|line| fields(line, *delimiter));
        let first = counts.next()?;
        (first > 1 && lines.len() > 1 && counts.all(|count| count == first)).then_some((*delimiter, first))
    };
    DELIMITERS.iter().filter_map(of).max_by_key(|(_, fields)| *fields)
}
