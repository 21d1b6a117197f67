//! What an answer says of a next page: `Link`, a URL, a cursor, a flag, or a total.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, value::RawValue};

/// What an answer says of its pages is short; the list in it is not, and is not looked into.
const SAID_BYTES_MAX: usize = 4096;

/// Where answers keep what they say of their pages, beside the top.
pub const PLACES: [&str; 11] = [
    "meta",
    "metadata",
    "pagination",
    "paging",
    "page",
    "pageInfo",
    "page_info",
    "links",
    "_links",
    "response_metadata",
    "_metadata",
];
pub const URLS: [&str; 8] =
    ["next", "next_url", "nextUrl", "nextLink", "next_link", "next_page_url", "next_page_uri", "@odata.nextLink"];
pub const CURSORS: [&str; 9] = [
    "nextPaginationToken",
    "next_cursor",
    "nextCursor",
    "next_page_token",
    "nextPageToken",
    "next_token",
    "nextToken",
    "NextToken",
    "endCursor",
];
pub const FLAGS: [&str; 6] = ["has_more", "hasMore", "has_next", "hasNext", "hasNextPage", "has_next_page"];
pub const TOTALS: [&str; 5] = ["total", "total_count", "totalCount", "total_results", "count"];

/// What says that more follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct More {
    pub sign: Sign,
    /// The jq path of it; empty for a header.
    pub path: String,
}

/// The name of the field that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// A header with `rel="next"`.
    Link,
    /// The next page's URL.
    Url(&'static str),
    Cursor(&'static str),
    /// True.
    Flag(&'static str),
    /// So many records, which is more than came.
    Total(&'static str, u64),
}

impl More {
    /// Of one page. `whole` holds where every record of the page counts among `records`: then a total means something.
    pub fn of(link: Option<&str>, document: &[u8], records: u64, whole: bool) -> Option<Self> {
        if link.is_some_and(has_next) {
            return Some(Self { sign: Sign::Link, path: String::new() });
        }
        let top: BTreeMap<String, &RawValue> = serde_json::from_slice(document).ok()?;
        let short = top.into_iter().filter(|(_, raw)| raw.get().len() <= SAID_BYTES_MAX);
        let top: Map<String, Json> =
            short.filter_map(|(key, raw)| Some((key, serde_json::from_str(raw.get()).ok()?))).collect();
        let inner = PLACES.iter().filter_map(|place| Some((format!(".{place}"), top.get(*place)?.as_object()?)));
        let mut maps = std::iter::once((String::new(), &top)).chain(inner);
        maps.find_map(|(way, map)| Self::in_map(&way, map, records, whole))
    }

    fn in_map(way: &str, map: &Map<String, Json>, records: u64, whole: bool) -> Option<Self> {
        if let Some((key, path)) = next_url(map) {
            return Some(Self { sign: Sign::Url(key), path: format!("{way}{path}") });
        }
        let at = |key: &str| format!("{way}.{key}");
        if let Some(key) = CURSORS.into_iter().find(|key| is_token(map.get(*key))) {
            return Some(Self { sign: Sign::Cursor(key), path: at(key) });
        }
        if let Some(key) = FLAGS.into_iter().find(|key| map.get(*key) == Some(&Json::Bool(true))) {
            return Some(Self { sign: Sign::Flag(key), path: at(key) });
        }
        let total = |key: &str| map.get(key).and_then(Json::as_u64).filter(|total| *total > records);
        let (key, total) = TOTALS.into_iter().find_map(|key| Some((key, total(key)?))).filter(|_| whole)?;
        Some(Self { sign: Sign::Total(key, total), path: at(key) })
    }

    /// Whether a name is one under which answers keep what they say of their pages.
    pub fn is_place(name: &str) -> bool {
        PLACES.contains(&name)
    }
}

/// Whether a header names a next page, whatever else it says.
fn has_next(link: &str) -> bool {
    let rels = link.split(';').filter_map(|part| part.trim().strip_prefix("rel="));
    rels.filter_map(|rel| rel.split(',').next())
        .any(|rel| rel.trim().trim_matches(['"', '\'']).split_ascii_whitespace().any(|word| word == "next"))
}

/// A key whose value leads to the next page, and the path of the URL.
fn next_url(map: &Map<String, Json>) -> Option<(&'static str, String)> {
    let is_url = |value: &Json| {
        value.as_str().is_some_and(|text| text.starts_with("http") || text.starts_with('/') || text.starts_with('?'))
    };
    URLS.into_iter().find_map(|key| {
        let path = if key.contains('@') { format!(".\"{key}\"") } else { format!(".{key}") };
        let value = map.get(key)?;
        if is_url(value) {
            return Some((key, path));
        }
        value.get("href").filter(|href| is_url(href)).map(|_| (key, format!("{path}.href")))
    })
}

fn is_token(value: Option<&Json>) -> bool {
    value.is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty()) || value.is_number())
}
