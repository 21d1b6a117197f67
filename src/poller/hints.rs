//! Hints: what an answer shows that the file most likely should say. Pure; they decide nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, value::RawValue};

use crate::{config::Bridge, decode::Decoder};

/// What an answer says of its pages is short; the list in it is not, and is not looked into.
const SAID_BYTES_MAX: usize = 4096;

/// Where answers keep what they say of their pages, beside the top.
const PLACES: [&str; 11] = [
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
const URLS: [&str; 7] = ["next", "next_url", "nextUrl", "nextLink", "next_link", "next_page_url", "@odata.nextLink"];
const CURSORS: [&str; 8] = [
    "next_cursor",
    "nextCursor",
    "next_page_token",
    "nextPageToken",
    "next_token",
    "nextToken",
    "NextToken",
    "endCursor",
];
const FLAGS: [&str; 6] = ["has_more", "hasMore", "has_next", "hasNext", "hasNextPage", "has_next_page"];
const TOTALS: [&str; 5] = ["total", "total_count", "totalCount", "total_results", "count"];

/// Of an answer of one page that was compared, so that it costs nothing where nothing is new. `document` is what the page was
/// decoded to, or empty where it need not be read: then the header alone says something.
pub(super) fn of_answer(bridge: &Bridge, document: &[u8], meta: &Json, records: u64) -> Option<String> {
    let items = bridge.definition.items.as_ref()?;
    let decoder = bridge.source.decoder();
    let select = decoder.as_ref().and_then(Decoder::select);
    let is_read = bridge.window || !bridge.source.could_have_pages();
    let link = meta.pointer("/headers/link").and_then(Json::as_str);
    let empty = select.and_then(|select| finds_nothing(select, document));
    let unread = || (!is_read).then(|| unread(link, document, records, items.as_path().is_some())).flatten();
    empty.or_else(unread)
}

/// Of the elements of an HTML page: a selector that finds none, or nothing within any of them.
fn finds_nothing(select: &str, document: &[u8]) -> Option<String> {
    let rows: Vec<Map<String, Json>> = serde_json::from_slice(document).ok()?;
    let Some(first) = rows.first() else {
        return Some(format!(
            "`decode.html.select` = {select:?} finds nothing in the page: write a selector that finds one element for each \
             record, such as select = \"article\""
        ));
    };
    let name = first.keys().find(|name| rows.iter().all(|row| row.get(*name).is_none_or(Json::is_null)))?;
    Some(format!(
        "`decode.html.fields` has `{name}`, which finds nothing in any of the {} elements that `select` finds: write a \
         selector of something within them, or leave it out",
        rows.len()
    ))
}

/// Of a list that is read as one page: what says that more follows, with the line to write. `whole` holds where `items` takes
/// every record of the page, so that a count of them means something.
pub(super) fn unread(link: Option<&str>, document: &[u8], records: u64, whole: bool) -> Option<String> {
    let says = |what: String, line: String| {
        Some(format!("{what}, and nobody reads the next page: write source.http.pages.{line}, or `window = true`"))
    };
    if link.is_some_and(has_next) {
        return says("the answer has a `Link` header with rel=\"next\"".into(), "link = {}".into());
    }
    let top: BTreeMap<String, &RawValue> = serde_json::from_slice(document).ok()?;
    let short = top.into_iter().filter(|(_, raw)| raw.get().len() <= SAID_BYTES_MAX);
    let top: Map<String, Json> =
        short.filter_map(|(key, raw)| Some((key, serde_json::from_str(raw.get()).ok()?))).collect();
    let inner = PLACES.iter().filter_map(|place| Some((format!(".{place}"), top.get(*place)?.as_object()?)));
    for (way, map) in std::iter::once((String::new(), &top)).chain(inner) {
        if let Some((key, path)) = next_url(map) {
            let path = format!("{way}{path}");
            return says(format!("the answer has `{key}`"), format!("next-url = {{ next = '{path}' }}"));
        }
        if let Some(key) = CURSORS.into_iter().find(|key| is_token(map.get(*key))) {
            let line = format!("cursor = {{ param = \"cursor\", next = '{way}.{key}' }} with the API's own parameter");
            return says(format!("the answer has `{key}`"), line);
        }
        if let Some(key) = FLAGS.into_iter().find(|key| map.get(*key) == Some(&Json::Bool(true))) {
            let line = format!("page = {{ end = '{way}.{key} | not' }}");
            return says(format!("the answer says `{key}`: true"), line);
        }
        let more = |key: &&str| map.get(*key).and_then(Json::as_u64).is_some_and(|total| total > records);
        if let Some(key) = TOTALS.into_iter().find(more).filter(|_| whole) {
            let total = map.get(key).and_then(Json::as_u64).unwrap_or_default();
            let what = format!("the answer says `{key}`: {total}, and {records} records came");
            return says(what, format!("page = {{ total = '{way}.{key}' }}"));
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(document: &str, records: u64) -> String {
        unread(None, document.as_bytes(), records, true).unwrap_or_default()
    }

    /// `meta.total` was 26, 10 records were read, and nothing said so.
    #[test]
    fn what_says_that_more_follows() {
        for (document, records, expected) in [
            (r#"{"meta":{"total":26},"data":[]}"#, 10, "pages.page = { total = '.meta.total' }"),
            (r#"{"total_count":11}"#, 10, "pages.page = { total = '.total_count' }"),
            (r#"{"next":"https://a/x?page=2"}"#, 1, "pages.next-url = { next = '.next' }"),
            (r#"{"@odata.nextLink":"https://a/x"}"#, 1, "pages.next-url = { next = '.\"@odata.nextLink\"' }"),
            (r#"{"_links":{"next":{"href":"/x?page=2"}}}"#, 1, "pages.next-url = { next = '._links.next.href' }"),
            (r#"{"response_metadata":{"next_cursor":"abc"}}"#, 1, "next = '.response_metadata.next_cursor' }"),
            (r#"{"has_more":true,"data":[]}"#, 1, "pages.page = { end = '.has_more | not' }"),
        ] {
            let hint = of(document, records);
            assert!(hint.contains(expected) && hint.contains("nobody reads the next page"), "{document}: {hint}");
        }
        for link in ["</x?page=2>; rel=\"next\"", "</a>; rel=prev, </b>; rel=next", "</b>; title=x; rel='last next'"] {
            let hint = unread(Some(link), b"[]", 1, true).unwrap_or_default();
            assert!(hint.contains("source.http.pages.link = {}"), "{link}: {hint}");
        }
    }

    #[test]
    fn what_says_nothing_of_more() {
        for document in [
            "[]",
            "7",
            "not JSON",
            r#"{"meta":{"total":10},"count":3}"#,
            r#"{"next":null,"next_cursor":"","has_more":false,"total":null}"#,
            r#"{"next":7,"next_url":"soon","total":"26"}"#,
            r#"{"data":[{"next_cursor":"a","total":99}]}"#,
            r#"{"meta":[{"total":99}],"links":{"next":null}}"#,
        ] {
            assert_eq!(of(document, 10), "", "{document}");
        }
        assert_eq!(unread(None, br#"{"total":26}"#, 10, false), None, "`items` leaves some out");
        for link in ["</x>; rel=\"prev\"", "</next>; rel=last", "</x>; title=\"rel=next\""] {
            assert_eq!(unread(Some(link), b"[]", 1, true), None, "{link}");
        }
    }

    /// A page got other classes, and a selector that found nothing any more said nothing.
    #[test]
    fn a_selector_that_finds_nothing_is_told() {
        for (document, expected) in [
            ("[]", "`decode.html.select` = \"div.x\" finds nothing"),
            (r#"[{"a":null,"b":"1"},{"a":null,"b":null}]"#, "has `a`, which finds nothing in any of the 2 elements"),
            (r#"[{"a":null,"b":"1"},{"a":"","b":null}]"#, ""),
            (r#"{"a":null}"#, ""),
        ] {
            let hint = finds_nothing("div.x", document.as_bytes()).unwrap_or_default();
            assert!(hint.contains(expected) && hint.is_empty() == expected.is_empty(), "{document}: {hint}");
        }
    }

    /// The line of a hint is one that the file takes, and what it reads is what the hint was about.
    #[test]
    fn any_place_of_any_name_gives_a_path_that_finds_it() {
        let values =
            [(&URLS[..], "\"https://a/x\""), (&CURSORS[..], "\"c7\""), (&FLAGS[..], "true"), (&TOTALS[..], "99")];
        for (names, value) in values {
            for name in names {
                for place in [None].into_iter().chain(PLACES.iter().map(Some)) {
                    let inner = format!("{{\"{name}\":{value}}}");
                    let document = place.map_or(inner.clone(), |place| format!("{{\"{place}\":{inner}}}"));
                    let hint = of(&document, 10);
                    let path = hint.split('\'').nth(1).unwrap_or_else(|| panic!("{document}: {hint}"));
                    let path = path.trim_end_matches(" | not");
                    let expr = crate::expr::Expr::parse(path).unwrap_or_else(|e| panic!("{path}: {}", e.message));
                    let found = expr.all_of_text(document.as_bytes()).expect("it runs");
                    assert_eq!(found.first().map(Json::to_string).as_deref(), Some(value), "{document}: {path}");
                }
            }
        }
    }
}
