//! Hints: what an answer, or a row of them, shows that the file most likely should say. Pure; they decide nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::{
    config::Bridge,
    decode::Decoder,
    expr::Expr,
    guess::{
        differing::{Differing, FIELDS_MAX},
        more::{More, Sign},
        text::quoted,
    },
};

/// So many polls, one behind the other, of which each found a change in nearly all records, are no coincidence.
const CHURN_POLLS: u32 = 5;

/// What changed in the last polls, as long as each of them found the same few fields in nearly all records.
#[derive(Debug, Default)]
pub(super) struct Churn {
    polls: u32,
    paths: BTreeSet<String>,
}

impl Churn {
    /// After a poll that found a change; `None` where it was in some records only.
    pub fn note(&mut self, differing: Option<Differing>) {
        let Some(Differing { paths, is_more: false }) = differing.filter(|differing| !differing.paths.is_empty())
        else {
            return *self = Self::default();
        };
        let together: BTreeSet<String> = self.paths.union(&paths).cloned().collect();
        *self = match together.len() <= FIELDS_MAX {
            true => Self { polls: self.polls.saturating_add(1), paths: together },
            false => Self { polls: 1, paths },
        };
    }

    /// The line to write, with what is ignored already.
    pub fn hint(&self, ignored: &[Expr]) -> Option<String> {
        if self.polls < CHURN_POLLS {
            return None;
        }
        let all = ignored.iter().map(|expr| quoted(expr.text())).chain(self.paths.iter().map(|path| quoted(path)));
        let (line, paths) = (all.collect::<Vec<_>>().join(", "), self.paths.iter().cloned().collect::<Vec<_>>());
        Some(format!(
            "each of the last polls, {CHURN_POLLS} or more, found a change in nearly every record, and nothing but `{}` differed: \
             if that says nothing, write ignore = [{line}]",
            paths.join("`, `")
        ))
    }
}

/// Of an answer of one page that was compared, so that it costs nothing where nothing is new. `document` is what the page was
/// decoded to, or empty where it need not be read: then the header alone says something.
pub(super) fn of_answer(bridge: &Bridge, document: &[u8], meta: &Json, records: u64) -> Option<String> {
    let items = bridge.definition.items.as_ref()?;
    let decoder = bridge.source.decoder();
    let select = decoder.as_ref().and_then(Decoder::select);
    let is_read = bridge.is_window() || !bridge.source.could_have_pages();
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
    let more = More::of(link, document, records, whole)?;
    let what = match &more.sign {
        Sign::Link => "the answer has a `Link` header with rel=\"next\"".into(),
        Sign::Url(key) | Sign::Cursor(key) => format!("the answer has `{key}`"),
        Sign::Flag(key) => format!("the answer says `{key}`: true"),
        Sign::Total(key, total) => format!("the answer says `{key}`: {total}, and {records} records came"),
    };
    let path = &more.path;
    let line = match &more.sign {
        Sign::Link => "link = {}".into(),
        Sign::Url(_) => format!("next-url = {{ next = '{path}' }}"),
        Sign::Cursor(_) => {
            format!("cursor = {{ param = \"cursor\", next = '{path}' }} with the API's own parameter")
        }
        Sign::Flag(_) => format!("page = {{ end = '{path} | not' }}"),
        Sign::Total(..) => format!("page = {{ total = '{path}' }}"),
    };
    Some(format!("{what}, and nobody reads the next page: write source.http.pages.{line}, or `window = true`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        extract,
        guess::more::{CURSORS, FLAGS, PLACES, TOTALS, URLS},
    };

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

    fn differing(before: &str, after: &str) -> Option<Vec<String>> {
        let read = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
        let mut found = Differing::default();
        found.note(&read(before), &read(after));
        (!found.is_more).then(|| found.paths.into_iter().collect())
    }

    #[test]
    fn where_a_record_differs() {
        for (before, after, expected) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":3}"#, Some(&[".a"][..])),
            (r#"{"value":[1795,"3"]}"#, r#"{"value":[1796,"3"]}"#, Some(&[".value[0]"])),
            (r#"{"l":[{"x":1,"y":1},{"x":2,"y":2}]}"#, r#"{"l":[{"x":3,"y":1},{"x":4,"y":2}]}"#, Some(&[".l[].x"])),
            (r#"{"l":[1]}"#, r#"{"l":[1,2]}"#, Some(&[".l"])),
            (r#"{"a":{"b-c":1,"9":1}}"#, r#"{"a":{"b-c":2,"9":2}}"#, Some(&[r#".a."9""#, r#".a."b-c""#])),
            (r#"{"a":1}"#, r#"{"b":1}"#, Some(&[".a", ".b"])),
            (r#"{"a":1.0,"b":1}"#, r#"{"a":1,"b":2}"#, Some(&[".b"])),
            (r#"[1,2]"#, r#"[1,3]"#, Some(&[".[1]"])),
            (r#"{"a":1,"b":1,"c":1,"d":1}"#, r#"{"a":2,"b":2,"c":2,"d":2}"#, None),
            ("1", "2", None),
        ] {
            let expected = expected.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
            assert_eq!(differing(before, after), expected, "{before} {after}");
        }
    }

    /// What a hint names can be ignored, and then nothing differs any more.
    #[test]
    fn any_field_that_is_named_can_be_ignored() {
        let mut seed = 9_u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        const KEYS: [&str; 8] = ["a", "b_c", "d-e", "9x", "f g", "h\"i", "\\(j", "é"];
        fn value(draw: &mut impl FnMut(u64) -> u64, depth: u64) -> Json {
            match if depth == 0 { draw(2) } else { draw(4) } {
                0 => Json::from(draw(3)),
                1 => Json::from(["x", "y"][usize::from(draw(2) == 0)]),
                2 => (0..draw(3)).map(|_| value(draw, depth - 1)).collect(),
                _ => {
                    let key = |draw: &mut dyn FnMut(u64) -> u64| KEYS[usize::try_from(draw(8)).expect("small")];
                    Json::Object((0..draw(3)).map(|_| (key(draw).to_owned(), value(draw, depth - 1))).collect())
                }
            }
        }
        let (mut named, read) = (0, |value: &Json| Json::Object(Map::from_iter([("r".to_owned(), value.clone())])));
        for _ in 0..3000 {
            let (before, after) = (read(&value(&mut draw, 3)), read(&value(&mut draw, 3)));
            let mut found = Differing::default();
            found.note(&before, &after);
            if found.is_more {
                continue;
            }
            let ignore: Vec<Expr> = found.paths.iter().map(|path| Expr::parse(path).expect("a path")).collect();
            // An element of an array and a name with a backslash are jq's business, which has a process of its own.
            let Some(paths) = ignore.iter().map(Expr::as_path).collect::<Option<Vec<_>>>() else { continue };
            let (mut a, mut b) = (before.clone(), after.clone());
            paths.iter().for_each(|path| {
                path.remove(&mut a);
                path.remove(&mut b);
            });
            assert!(extract::is_same(&a, &b), "{before} {after} {:?}", found.paths);
            named += usize::from(!found.paths.is_empty());
        }
        assert!(named > 100, "{named}");
    }

    /// prometheus sent 19 events in 20 s for `.value[0]`, and nothing said why.
    #[test]
    fn a_field_that_changes_at_each_poll_is_told_after_some() {
        let of = |paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            Some(Differing { paths, is_more: false })
        };
        let mut churn = Churn::default();
        for n in 1..=6 {
            churn.note(of(&[".value[0]"]));
            assert_eq!(churn.hint(&[]).is_some(), n >= 5, "{n}");
        }
        let hint = churn.hint(&[Expr::parse(".a").expect("a path")]).expect("a hint");
        assert!(hint.ends_with("write ignore = [\".a\", \".value[0]\"]"), "{hint}");
        churn.note(of(&[".at", ".\"n o\""]));
        let hint = churn.hint(&[]).expect("still");
        assert!(hint.ends_with("write ignore = ['.\"n o\"', \".at\", \".value[0]\"]"), "{hint}");
        // Another field: it begins again.
        churn.note(of(&[".other"]));
        assert_eq!(churn.hint(&[]), None);
        (1..5).for_each(|_| churn.note(of(&[".other"])));
        assert!(churn.hint(&[]).is_some());
        churn.note(None);
        assert_eq!(churn.hint(&[]), None);
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
