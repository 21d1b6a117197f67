//! Pagination: what follows a page. Pure: it sees an answer's headers, URL and document, and decides the next step.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value as Json;
use url::Url;

use super::{Error, ErrorKind, Known, Step, link::link};
use crate::{
    expr::{Expr, Said, meant},
    http::place::{At, place, text_of},
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::{Get, keys},
    },
};

/// Pages without a record, one behind the other, of a walk that is said to go on.
const EMPTY_PAGES_MAX: usize = 10;
/// Pages of one walk when the file says nothing: far above what is meant, far below for ever.
const PAGES_MAX: usize = 1000;

keys! {
    /// How a list goes on. A next link must stay on the origin of `url`. A repeated request, or a page with the bytes of an
    /// earlier page, is an error. The walk counts only if every page arrived.
    mod pages: Rule::Kind;
    /// Follows the `Link` header (RFC 8288); a header that cannot be read to its end fails the poll.
    get LINK: () = "link", Form::raw(Shape::Table(&pages_link::FAMILY));
    /// A number that counts pages. Without `end`, the walk ends at an empty page, or, if the source was seen to fill a page of
    /// `size` records, at a page of fewer. Until then bellpull asks for the page behind a short one too: an empty one, the same
    /// one, or 404, 410 or 416 (behind the first page also 400 or 422) ends the walk. A short page that ended the walk so ends
    /// it again if its bytes are the same and its number of records is not a multiple of 5 or a power of two, which might be the
    /// most that the server gives.
    get PAGE: () = "page", Form::raw(Shape::Table(&pages_page::FAMILY));
    /// A number that counts the records that came. The walk ends as that of `pages.page`, with `limit` for `size`.
    get OFFSET: () = "offset", Form::raw(Shape::Table(&pages_offset::FAMILY));
    /// A token from the last page.
    get CURSOR: () = "cursor", Form::raw(Shape::Table(&pages_cursor::FAMILY));
    /// A URL from the last page.
    get NEXT_URL: () = "next-url", Form::raw(Shape::Table(&pages_next_url::FAMILY));
}

keys! {
    /// What every kind of pages has.
    mod walk;
    /// More pages are an error.
    or MAX: usize = "max", count(1, 100_000), || PAGES_MAX;
    /// A wait between two pages.
    get DELAY: Duration = "delay", DURATION;
    /// jq over each page: true on the last page. With `page` and `offset` only `end` decides then; ten pages in a row without a
    /// record are an error.
    get END: Expr = "end", EXPR_OVER_ANSWER;
    /// jq over each page: how many records the list has, a number or the text of one. If fewer came when the walk ends, the poll
    /// fails. `total = ".total"`, or `'$headers["x-total-count"]'`.
    get TOTAL: Expr = "total", EXPR_OVER_ANSWER;
    /// `"known"`: the walk ends at a page whose records are all known and unchanged, which suits lists with the newest first.
    /// Implies `window`, without `forget`.
    get STOP: bool = "stop", Form::words(&[("known", true)]);
}

keys! {
    /// The `Link` header.
    mod pages_link;
    /// The relation of the link that is followed.
    or REL: String = "rel", TEXT, || "next".to_owned();
    /// `"keep"`: of a link only path and query count, on the origin of `url`, for servers behind a proxy that name themselves
    /// otherwise (`http://`, an inner name). Without it a link to another origin is an error.
    get ORIGIN: bool = "origin", Form::words(&[("keep", true)]);
    + walk::FAMILY;
}

keys! {
    /// A number that counts pages.
    mod pages_page: Rule::Schema(r#"{ "dependencies": { "size-param": ["size"] } }"#);
    /// The first page's number.
    or START: u64 = "start", whole(0, 4_294_967_295), || 1;
    /// The query parameter that asks for pages of `size` records.
    get SIZE_PARAM: String = "size-param", TEXT;
    /// The records of a full page.
    get SIZE: u64 = "size", whole(1, 1_000_000);
    + place::FAMILY;
    + walk::FAMILY;
}

keys! {
    /// A number that counts records.
    mod pages_offset: Rule::Schema(r#"{ "dependencies": { "limit-param": ["limit"] } }"#);
    /// The query parameter that asks for pages of `limit` records.
    get LIMIT_PARAM: String = "limit-param", TEXT;
    /// The records of a full page.
    get LIMIT: u64 = "limit", whole(1, 1_000_000);
    + place::FAMILY;
    + walk::FAMILY;
}

keys! {
    /// A token from the last page.
    mod pages_cursor;
    /// jq over the page: the next page's token; the walk ends if it is null, false, `""` or absent.
    need NEXT: Expr = "next", EXPR_OVER_ANSWER, "next = \".next_cursor\"";
    + place::FAMILY;
    + walk::FAMILY;
}

keys! {
    /// A URL from the last page.
    mod pages_next_url;
    /// jq over the page: the next page's URL, which may be relative; the walk ends as that of `pages.cursor`.
    need NEXT: Expr = "next", EXPR_OVER_ANSWER, "next = \".next\"";
    + walk::FAMILY;
}

keys! {
    /// How a GraphQL list goes on.
    mod graphql_pages: Rule::Kind;
    /// A cursor in a variable of the query.
    get CURSOR: () = "cursor", Form::raw(Shape::Table(&pages_variable::FAMILY));
}

keys! {
    /// A cursor in a variable of the query.
    mod pages_variable;
    /// The variable's name, without `$`.
    need VARIABLE: String = "variable", TEXT, "variable = \"after\"";
    /// jq over the page: the next page's cursor; the walk ends if it is null, false, `""` or absent.
    need NEXT: Expr = "next", EXPR_OVER_ANSWER, "next = \".data.orders.pageInfo.endCursor\"";
    + walk::FAMILY;
}

/// How a list goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Pages {
    pub kind: Kind,
    pub max: usize,
    /// Between a page and the next.
    pub delay: Duration,
    /// True on the last page.
    pub end: Option<Expr>,
    /// How many records the list has; fewer that came are an error.
    pub total: Option<Expr>,
    /// The walk ends at a page of records that are all known and unchanged.
    pub stop_known: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// RFC 8288.
    Link { rel: String, keeps_origin: bool },
    /// A number that counts pages.
    Page { at: At, start: u64, size: Option<(String, u64)> },
    /// A number that counts records.
    Offset { at: At, limit: Option<(String, u64)> },
    /// A token from the last page.
    Cursor { at: At, next: Expr },
    /// A URL from the last page.
    NextUrl { next: Expr },
}

/// The parameter of a page's size, and the size.
fn read_size(table: &mut Table<'_>, param: &Get<String>, size: &Get<u64>) -> Option<(String, u64)> {
    let (name, count) = (table.get(param), table.get(size));
    if let (Some(name), None) = (&name, count) {
        let (param, size) = (param.name, size.name);
        table.error(format!("`{param}` = {name:?} needs `{size}` in {}", table.title())).report();
    }
    count.map(|count| (name.unwrap_or_default(), count))
}

/// Where a page's number or cursor goes. What jq of the request sees needs no other place.
fn read_place(table: &mut Table<'_>, default: Option<&str>, made: bool) -> Option<At> {
    if made && !At::is_in(table) { Some(At::Made) } else { At::read(table, default) }
}

/// The page that a step is asked for.
pub struct Here<'a> {
    /// From 0.
    pub number: usize,
    /// Records of earlier pages.
    pub records_before: u64,
    /// Pages without a record, one behind the other, that came just before.
    pub empty_before: usize,
    /// The source was seen to fill a page of the size that the file says.
    pub filled: bool,
    pub url: &'a Url,
    pub headers: &'a HeaderMap,
}

impl Pages {
    /// Writes how the list goes on. `max` and `delay` are limits, and `total` only says when all of it came.
    pub fn define(&self, text: &mut Fingerprint) {
        let sized = |text: &mut Fingerprint, size: &Option<(String, u64)>| {
            if let Some((name, size)) = size {
                text.put("size-param", name.as_str());
                text.put("size", *size);
            }
        };
        match &self.kind {
            // `origin` says how the same pages are reached.
            Kind::Link { rel, .. } => text.put("pages.link", rel.as_str()),
            Kind::Page { at, start, size } => {
                text.put("pages.page", *start);
                at.define(text);
                sized(text, size);
            }
            Kind::Offset { at, limit } => {
                text.put("pages.offset", true);
                at.define(text);
                sized(text, limit);
            }
            Kind::Cursor { at, next } => {
                text.put("pages.cursor", next);
                at.define(text);
            }
            Kind::NextUrl { next } => text.put("pages.next-url", next),
        }
        text.put_some("end", self.end.as_ref());
        if self.stop_known {
            text.put("stop", "known");
        }
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        let Self { kind, max, delay, end, total: _, stop_known } = self;
        let kind = match kind {
            Kind::Link { rel, .. } => format!("Link {{ rel: {rel:?} }}"),
            other => format!("{other:?}"),
        };
        format!("Pages {{ kind: {kind}, max: {max:?}, delay: {delay:?}, end: {end:?}, stop_known: {stop_known:?} }}")
    }

    /// Reads `pages.KIND`.
    pub fn read(item: &Item<'_>) -> Option<Self> {
        Self::read_beside(item, false)
    }

    /// The same; `made` says that jq of the request sees `$page`, so that no other place is needed.
    pub fn read_beside(item: &Item<'_>, made: bool) -> Option<Self> {
        type Read = fn(&mut Table<'_>, bool) -> Option<Kind>;
        let kinds: [(&Get<()>, Read); 5] = [
            (&pages::LINK, |table, _| {
                let (rel, keeps_origin) = (table.or(&pages_link::REL), table.get(&pages_link::ORIGIN));
                Some(Kind::Link { rel, keeps_origin: keeps_origin.unwrap_or_default() })
            }),
            (&pages::PAGE, |table, made| {
                let (at, start) = (read_place(table, Some("page"), made), table.or(&pages_page::START));
                let size = read_size(table, &pages_page::SIZE_PARAM, &pages_page::SIZE);
                at.map(|at| Kind::Page { at, start, size })
            }),
            (&pages::OFFSET, |table, made| {
                let at = read_place(table, Some("offset"), made);
                let limit = read_size(table, &pages_offset::LIMIT_PARAM, &pages_offset::LIMIT);
                at.map(|at| Kind::Offset { at, limit })
            }),
            (&pages::CURSOR, |table, made| {
                let (at, next) = (read_place(table, None, made), table.need(&pages_cursor::NEXT));
                at.zip(next).map(|(at, next)| Kind::Cursor { at, next })
            }),
            (&pages::NEXT_URL, |table, _| table.need(&pages_next_url::NEXT).map(|next| Kind::NextUrl { next })),
        ];
        let mut table = item.table()?;
        let found = table.kind(&kinds);
        table.finish();
        let (read, item) = found?;
        let mut table = item.table()?;
        let kind = read(&mut table, made);
        Self::finish(table, kind)
    }

    /// Reads `pages.cursor` of a source that has no other place for it than a variable.
    pub fn read_variable(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let found = table.kind(&[(&graphql_pages::CURSOR, ())]);
        table.finish();
        let mut table = found?.1.table()?;
        let (name, next) = (table.need(&pages_variable::VARIABLE), table.need(&pages_variable::NEXT));
        let at = name.map(|name| At::Variable { name, number: false });
        Self::finish(table, at.zip(next).map(|(at, next)| Kind::Cursor { at, next }))
    }

    /// Reads what every kind has.
    fn finish(mut table: Table<'_>, kind: Option<Kind>) -> Option<Self> {
        let (max, delay, end) = (table.or(&walk::MAX), table.get(&walk::DELAY), table.get(&walk::END));
        let (total_place, total) = (table.key_place(&walk::TOTAL), table.get(&walk::TOTAL));
        let stop_known = table.get(&walk::STOP).unwrap_or_default();
        if let (Some(place), true) = (total_place, stop_known) {
            let message = format!("`total` stands beside `stop` in {}", table.title());
            let help = "leave `total` out: a walk that stops at known records brings fewer than the list has";
            table.error_at(place, message).help(help.into()).report();
        }
        table.finish();
        Some(Self { kind: kind?, max, delay: delay.unwrap_or_default(), end, total, stop_known })
    }

    /// The parameters of the first request: page, offset and sizes.
    pub fn first(&self) -> Vec<(At, Json)> {
        let sized = |size: &Option<(String, u64)>| {
            size.iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, n)| (At::Param(name.clone()), Json::from(*n)))
                .collect::<Vec<_>>()
        };
        match &self.kind {
            Kind::Page { at, start, size } => {
                let mut all = sized(size);
                all.push((at.clone(), Json::from(*start)));
                all
            }
            Kind::Offset { at, limit } => {
                let mut all = sized(limit);
                all.push((at.clone(), Json::from(0)));
                all
            }
            _ => Vec::new(),
        }
    }

    /// The number of the first page, or its offset; null before there is a cursor.
    pub fn first_page(&self) -> Json {
        match &self.kind {
            Kind::Page { start, .. } => Json::from(*start),
            Kind::Offset { .. } => Json::from(0),
            Kind::Cursor { .. } | Kind::Link { .. } | Kind::NextUrl { .. } => Json::Null,
        }
    }

    /// Where the parameter of a [`Step::Parameter`] goes.
    pub fn at(&self) -> Option<&At> {
        match &self.kind {
            Kind::Page { at, .. } | Kind::Offset { at, .. } | Kind::Cursor { at, .. } => Some(at),
            Kind::Link { .. } | Kind::NextUrl { .. } => None,
        }
    }

    /// The kind's name in the file.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Link { .. } => "link",
            Kind::Page { .. } => "page",
            Kind::Offset { .. } => "offset",
            Kind::Cursor { .. } => "cursor",
            Kind::NextUrl { .. } => "next-url",
        }
    }

    /// Whether its pages have a number, an offset or a cursor.
    pub fn counts(&self) -> bool {
        self.at().is_some()
    }

    /// Whether of a link only path and query count.
    pub fn keeps_origin(&self) -> bool {
        matches!(self.kind, Kind::Link { keeps_origin: true, .. })
    }

    /// Whether a header says what follows, and the page itself does not.
    pub fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link { .. })
    }

    /// The records of a full page, where a page that is not full may be the last one.
    pub fn size(&self) -> Option<u64> {
        match &self.kind {
            Kind::Page { size: Some((_, size)), .. } | Kind::Offset { limit: Some((_, size)), .. } => {
                Some(*size).filter(|_| self.end.is_none())
            }
            _ => None,
        }
    }

    /// What is run over each page.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let next = match &self.kind {
            Kind::Cursor { next, .. } | Kind::NextUrl { next } => Some(next),
            Kind::Link { .. } | Kind::Page { .. } | Kind::Offset { .. } => None,
        };
        next.into_iter().chain(&self.end).chain(&self.total)
    }

    /// Whether what follows a page stands in its bytes.
    pub fn reads(&self) -> bool {
        !matches!(self.kind, Kind::Link { .. }) || self.end.is_some() || self.total.is_some()
    }

    /// Reads from a page's document what its step needs; an unchanged page is not read again.
    pub fn look_into(
        &self,
        document: &[u8],
        said: &Said,
        count: impl FnOnce() -> Result<usize, Error>,
    ) -> Result<Known, ReadError> {
        let last = match &self.end {
            Some(end) => {
                let found = end.all_of_answer(document, said).map_err(|e| Error::from(ErrorKind::Expr(e)))?;
                meant(found.into_iter().next()).is_some()
            }
            None => false,
        };
        let total = match &self.total {
            Some(total) => {
                let found = total.all_of_answer(document, said).map_err(|e| Error::from(ErrorKind::Expr(e)))?;
                total_of(found.into_iter().next()).map_err(ReadError::Next)?
            }
            None => None,
        };
        let counts = matches!(self.kind, Kind::Page { .. } | Kind::Offset { .. }) || self.total.is_some();
        let records = if counts { count()? } else { 0 };
        let known = Known { records, next: None, last, total, ended: false };
        match &self.kind {
            Kind::Link { .. } | Kind::Page { .. } | Kind::Offset { .. } => Ok(known),
            Kind::Cursor { next, .. } | Kind::NextUrl { next } => {
                let found = next.all_of_answer(document, said).map_err(|e| Error::from(ErrorKind::Expr(e)))?;
                let any = self.at().is_some_and(At::takes_json);
                let next = match meant(found.into_iter().next()) {
                    None => None,
                    Some(Json::String(text)) if text.is_empty() => None,
                    Some(Json::Array(list)) if any && list.is_empty() => None,
                    Some(Json::Object(map)) if any && map.is_empty() => None,
                    Some(next @ (Json::String(_) | Json::Number(_))) => Some(next),
                    Some(next @ (Json::Array(_) | Json::Object(_))) if any => Some(next),
                    Some(other) => {
                        let place = if other.is_boolean() { "" } else { "; only a place in `json` takes one" };
                        return Err(ReadError::Next(format!("`next` gives {}, not a string{place}", kind_of(&other))));
                    }
                };
                Ok(Known { next, ..known })
            }
        }
    }

    /// What follows a page of which this is known.
    pub fn step(&self, here: &Here<'_>, known: &Known) -> Result<Step, Error> {
        let to_url = |target: &str| {
            here.url.join(target).map(Step::Url).map_err(|e| {
                let message = format!("the next URL is not a URL: {e}");
                Error::from(ErrorKind::Next { origin: crate::http::origin(here.url), page: here.number + 1, message })
            })
        };
        let records = u64::try_from(known.records).unwrap_or(u64::MAX);
        let number = |goes_on: bool, next: u64| {
            if goes_on { Step::Parameter(next.into()) } else { Step::End }
        };
        if known.last {
            return Ok(Step::End);
        }
        // Where the file says what the end is, nothing else is: neither a page that is not full nor one that is empty. Elsewhere a page
        // that is not full is the last one, of a source that fills its pages: it may give fewer than it is asked for.
        let goes_on = |size: &Option<(String, u64)>| {
            let may_be_last = here.filled || known.ended;
            self.end.is_some() || records > 0 && size.as_ref().is_none_or(|(_, size)| records >= *size || !may_be_last)
        };
        let counts = matches!(self.kind, Kind::Page { .. } | Kind::Offset { .. });
        if counts && self.end.is_some() && records == 0 && here.empty_before + 1 >= EMPTY_PAGES_MAX {
            let origin = crate::http::origin(here.url);
            let what = "it is one more page without a record, and `end` says that more follow";
            return Err(ErrorKind::Repeats { origin, page: here.number + 1, what }.into());
        }
        Ok(match (&self.kind, &known.next) {
            (Kind::Link { rel, .. }, _) => match link(here.headers, rel) {
                Ok(target) => target.map_or(Ok(Step::End), |target| to_url(&target))?,
                Err(why) => {
                    let message = format!("the `Link` header cannot be read: {why}");
                    return Err(ErrorKind::Next {
                        origin: crate::http::origin(here.url),
                        page: here.number + 1,
                        message,
                    }
                    .into());
                }
            },
            (Kind::Page { start, size, .. }, _) => {
                number(goes_on(size), start + u64::try_from(here.number).unwrap_or(0) + 1)
            }
            (Kind::Offset { limit, .. }, _) => number(goes_on(limit), here.records_before + records),
            (_, None) => Step::End,
            (Kind::NextUrl { .. }, Some(next)) => to_url(&text_of(next).unwrap_or_default())?,
            (Kind::Cursor { .. }, Some(next)) => Step::Parameter(next.clone()),
        })
    }
}

/// What `total` says. A header's value is a text.
fn total_of(found: Option<Json>) -> Result<Option<u64>, String> {
    let Some(value) = meant(found) else { return Ok(None) };
    let given = match &value {
        Json::String(_) | Json::Number(_) => value.to_string(),
        other => kind_of(other).to_owned(),
    };
    let total = text_of(&value).and_then(|text| text.trim().parse().ok());
    total.map(Some).ok_or_else(|| format!("`total` gives {given}, not a number of records"))
}

/// Why a page's bytes do not say what follows.
#[derive(Debug)]
pub enum ReadError {
    Source(Error),
    /// `next` gives something else.
    Next(String),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
        _ => "true",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_file_is_the_only_one() {
        let end = |text| Some(Expr::parse(text).expect("jq"));
        let list = |kind, end| Pages { kind, max: 1_000, delay: Duration::ZERO, end, total: None, stop_known: false };
        let at = || At::Param("p".into());
        let (url, headers) = ("http://a/x".parse().expect("a URL"), HeaderMap::new());
        let step = |list: &Pages, records, last, empty_before| {
            let here =
                Here { number: 3, records_before: 300, empty_before, filled: true, url: &url, headers: &headers };
            list.step(&here, &Known { records, last, ..Known::default() })
        };
        let more = |next: u64| Ok(Step::Parameter(next.into()));
        for (of_the_file, records, last, offset, page) in [
            (None, 100, false, more(400), more(5)),
            (None, 90, false, Ok(Step::End), Ok(Step::End)),
            (None, 0, false, Ok(Step::End), Ok(Step::End)),
            (end(".last"), 90, false, more(390), more(5)),
            (end(".last"), 0, false, more(300), more(5)),
            (end(".last"), 100, true, Ok(Step::End), Ok(Step::End)),
        ] {
            let size = || Some(("limit".to_owned(), 100));
            let by_offset = list(Kind::Offset { at: at(), limit: size() }, of_the_file.clone());
            let by_page = list(Kind::Page { at: at(), start: 2, size: size() }, of_the_file.clone());
            // Pages count from `start`.
            let page = page.map(|step| if step == Step::End { step } else { Step::Parameter(6.into()) });
            assert_eq!(step(&by_offset, records, last, 0).map_err(|e| e.to_string()), offset, "{records} {last}");
            assert_eq!(step(&by_page, records, last, 0).map_err(|e| e.to_string()), page, "{records} {last}");
            if of_the_file.is_some() && records == 0 {
                let error = step(&by_page, 0, false, EMPTY_PAGES_MAX).expect_err("too many").to_string();
                assert!(error.contains("without a record"), "{error}");
            }
        }
    }

    /// A source that gives 100 where 1,000 are asked for lost all but the first 100.
    #[test]
    fn a_short_page_is_the_last_one_of_a_source_that_fills_its_pages() {
        let at = At::Param("from".into());
        let kind = Kind::Offset { at, limit: Some(("limit".into(), 1_000)) };
        let list = Pages { kind, max: 1_000, delay: Duration::ZERO, end: None, total: None, stop_known: false };
        let (url, headers) = ("http://a/x".parse().expect("a URL"), HeaderMap::new());
        let more = |from: u64| Step::Parameter(from.into());
        for (records, filled, ended, expected) in [
            (1_000, false, false, more(1_300)),
            (100, false, false, more(400)),
            (100, true, false, Step::End),
            (100, false, true, Step::End),
            (0, false, false, Step::End),
        ] {
            let here = Here { number: 3, records_before: 300, empty_before: 0, filled, url: &url, headers: &headers };
            let known = Known { records, ended, ..Known::default() };
            assert_eq!(list.step(&here, &known), Ok(expected), "{records} {filled} {ended}");
        }
        assert_eq!(list.size(), Some(1_000));
    }

    #[test]
    fn a_total_is_a_number_or_the_text_of_one() {
        let total = |text: &str| total_of(Some(serde_json::from_str(text).expect("JSON")));
        for (text, expected) in
            [("250", Some(250)), ("\"250\"", Some(250)), ("0", Some(0)), ("null", None), ("false", None)]
        {
            assert_eq!(total(text), Ok(expected), "{text}");
        }
        assert_eq!(total_of(None), Ok(None));
        for text in ["-1", "2.5", "\"many\"", "true", "[250]", "{}"] {
            let error = total(text).expect_err(text);
            assert!(error.starts_with("`total` gives ") && error.ends_with(", not a number of records"), "{error}");
        }
    }

    #[test]
    fn a_cursor_is_what_the_source_gave() {
        let pages = |at| Pages {
            kind: Kind::Cursor { at, next: Expr::parse(".next").expect("jq") },
            max: 1_000,
            delay: Duration::ZERO,
            end: None,
            total: None,
            stop_known: false,
        };
        let (in_body, in_query) = (pages(At::Json("after".into())), pages(At::Param("after".into())));
        let next = |list: &Pages, next: &str| {
            let document = format!(r#"{{"next":{next}}}"#);
            match list.look_into(document.as_bytes(), &Said::default(), || Ok(0)) {
                Ok(known) => known.next.map_or("the end".into(), |next| next.to_string()),
                Err(ReadError::Next(message)) => message,
                Err(ReadError::Source(error)) => error.to_string(),
            }
        };
        for text in ["\"007\"", "7", "-5", "18446744073709551616"] {
            assert_eq!(next(&in_body, text), text);
            assert_eq!(next(&in_query, text), text);
        }
        for end in ["null", "false", "\"\""] {
            assert_eq!((next(&in_body, end), next(&in_query, end)), ("the end".into(), "the end".into()));
        }
        for (text, what) in [("[1699,\"a\"]", "an array"), ("{\"pk\":{\"S\":\"1\"}}", "an object")] {
            assert_eq!(next(&in_body, text), text);
            let wrong = format!("`next` gives {what}, not a string; only a place in `json` takes one");
            assert_eq!(next(&in_query, text), wrong);
        }
        assert_eq!((next(&in_body, "[]"), next(&in_body, "{}")), ("the end".into(), "the end".into()));
        assert_eq!(next(&in_body, "true"), "`next` gives true, not a string");
    }
}
