//! How a list goes on: what the answer says of a next page, and which parameter of the URL asks for it.

use serde_json::Value as Json;
use url::Url;

use super::{
    Because,
    list::List,
    more::{More, Sign},
    text::quoted,
};

/// Parameters that count pages, as they stand in URLs.
const NUMBERS: [&str; 6] = ["page", "_page", "page_number", "pageNumber", "p", "pageIndex"];
/// Parameters that count records.
const OFFSETS: [&str; 5] = ["offset", "skip", "start", "startIndex", "$skip"];
/// Parameters that say how many records a page has.
const SIZES: [&str; 10] =
    ["_per_page", "_limit", "per_page", "page_size", "pageSize", "perPage", "limit", "size", "count", "$top"];
/// Parameters that take a cursor.
const CURSORS: [&str; 9] = [
    "cursor",
    "page_token",
    "pageToken",
    "pagetoken",
    "next_token",
    "pagination_token",
    "starting_after",
    "after",
    "continuation",
];

/// Where servers say how many records a list has, if not in the document.
pub(super) const TOTAL_HEADER: &str = "x-total-count";

/// A kind of `pages`, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pages {
    Link,
    /// jq of the next page's URL.
    NextUrl(String),
    /// The parameter, whether the URL names it, and jq of the token.
    Cursor {
        param: String,
        is_known: bool,
        next: String,
    },
    /// The parameter, that of the size with the size, and jq of the end and of the total.
    Page {
        param: String,
        is_from_0: bool,
        size: Option<(String, u64)>,
        end: Option<String>,
        total: Option<String>,
    },
    Offset {
        param: String,
        limit: Option<(String, u64)>,
        total: Option<String>,
    },
}

impl Pages {
    /// From one page. Of its headers: whether they name a next one, and how many records the list has.
    pub fn of(url: &Url, (next, said): (bool, Option<u64>), document: &Json, list: &List) -> Option<Because<Self>> {
        list.items.what.as_ref()?;
        let records = u64::try_from(list.records.len()).unwrap_or(u64::MAX);
        let link = next.then_some("<>; rel=\"next\"");
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let value = |names: &[&str]| {
            let found = query.iter().find(|(name, _)| names.contains(&name.as_str()));
            found.map(|(name, value)| (name.clone(), value.clone()))
        };
        let number = |found: Option<(String, String)>| found.and_then(|(name, text)| Some((name, text.parse().ok()?)));
        let (page, offset, size) = (value(&NUMBERS), value(&OFFSETS), number(value(&SIZES)));
        let size = size.filter(|(_, size)| *size > 0);
        let more = More::of(link, document.to_string().as_bytes(), records, true);
        let by_number = |end: Option<String>, total: Option<String>| match &offset {
            Some((param, _)) => Self::Offset { param: param.clone(), limit: size.clone(), total },
            None => {
                let (param, first) = page.as_ref().map_or(("page", ""), |(name, first)| (name, first));
                Self::Page { param: param.to_owned(), is_from_0: first == "0", size: size.clone(), end, total }
            }
        };
        let Some(More { sign, path }) = more else {
            if let Some(total) = said.filter(|total| *total > records) {
                let why = format!("the header {TOTAL_HEADER} says {total}, and {records} records came");
                return Some(Because::new(by_number(None, Some(format!("$headers[\"{TOTAL_HEADER}\"]"))), why));
            }
            let (name, _) = page.as_ref().or(offset.as_ref())?;
            return Some(Because::new(by_number(None, None), format!("the URL has `{name}`")));
        };
        let (pages, why) = match sign {
            Sign::Link => (Self::Link, "the answer has a `Link` header with rel=\"next\"".to_owned()),
            Sign::Url(key) => (Self::NextUrl(path), format!("the answer has `{key}`, a URL")),
            Sign::Cursor(key) => {
                let known = value(&CURSORS).map(|(name, _)| name);
                let param = known.clone().unwrap_or_else(|| parameter(key).to_owned());
                (Self::Cursor { param, is_known: known.is_some(), next: path }, format!("the answer has `{key}`"))
            }
            Sign::Flag(key) => {
                (Self::flagged(document, list, &path, by_number), format!("the answer says `{key}`: true"))
            }
            Sign::Total(key, total) => {
                (by_number(None, Some(path)), format!("the answer says `{key}`: {total}, and {records} records came"))
            }
        };
        Some(Because::new(pages, why))
    }

    /// Where only a flag says that more follows. Stripe's kind of list goes on behind the id of its last record.
    fn flagged(
        document: &Json,
        list: &List,
        flag: &str,
        by_number: impl Fn(Option<String>, Option<String>) -> Self,
    ) -> Self {
        let items = list.items.what.as_deref().and_then(|items| items.strip_suffix("[]"));
        let key = list.key.as_ref().map(|key| key.what.as_str());
        match (document.get("object").and_then(Json::as_str), items, key) {
            (Some("list"), Some(items), Some(key)) if key.starts_with('.') => {
                let param = if document.get("last_id").is_some() { "after" } else { "starting_after" };
                let next = format!("if {flag} then {items}[-1]{key} else null end");
                Self::Cursor { param: param.to_owned(), is_known: true, next }
            }
            _ => by_number(Some(format!("{flag} | not")), None),
        }
    }

    /// The value of the key `pages`, with at most so many pages where that is given.
    pub fn key_within(&self, max: Option<usize>) -> String {
        let mut parts = Vec::new();
        let sized = |key: &str, size: &Option<(String, u64)>| {
            size.as_ref().map(|(param, size)| format!("{key}-param = {}, {key} = {size}", quoted(param)))
        };
        let jq = |key: &str, expr: &Option<String>| expr.as_ref().map(|expr| format!("{key} = {}", quoted(expr)));
        let kind = match self {
            Self::Link => "link",
            Self::NextUrl(next) => {
                parts.push(format!("next = {}", quoted(next)));
                "next-url"
            }
            Self::Cursor { param, next, .. } => {
                parts.push(format!("param = {}, next = {}", quoted(param), quoted(next)));
                "cursor"
            }
            Self::Page { param, is_from_0, size, end, total } => {
                parts.push(format!("param = {}", quoted(param)));
                parts.extend(is_from_0.then(|| "start = 0".to_owned()));
                parts.extend(sized("size", size).into_iter().chain(jq("end", end)).chain(jq("total", total)));
                "page"
            }
            Self::Offset { param, limit, total } => {
                parts.push(format!("param = {}", quoted(param)));
                parts.extend(sized("limit", limit).into_iter().chain(jq("total", total)));
                "offset"
            }
        };
        parts.extend(max.map(|max| format!("max = {max}")));
        if parts.is_empty() { format!("{kind} = {{}}") } else { format!("{kind} = {{ {} }}", parts.join(", ")) }
    }

    pub fn key(&self) -> String {
        self.key_within(None)
    }

    /// The parameters that it puts on each request: in the URL they would say something else.
    pub fn params(&self) -> Vec<&str> {
        match self {
            Self::Link | Self::NextUrl(_) => Vec::new(),
            Self::Cursor { param, .. } => vec![param],
            Self::Page { param, size, .. } | Self::Offset { param, limit: size, .. } => {
                std::iter::once(param.as_str()).chain(size.iter().map(|(name, _)| name.as_str())).collect()
            }
        }
    }
}

/// The parameter that most often takes what such a field holds.
fn parameter(field: &str) -> &str {
    match field {
        "next_page_token" => "page_token",
        "nextPageToken" => "pageToken",
        "next_token" => "pagination_token",
        "nextToken" => "nextToken",
        "NextToken" => "NextToken",
        "nextPaginationToken" => "paginationToken",
        "endCursor" => "after",
        _ => "cursor",
    }
}
