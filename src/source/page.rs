//! Pagination: what follows a page. Pure: it sees an answer's headers, URL and document, and decides the next step.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value as Json;
use url::Url;

use super::{Error, ErrorKind, Known, Step, link::link};
use crate::{
    expr::{Expr, Said, meant},
    http::place::{At, text_of},
    settings::{Item, Table, fingerprint::Fingerprint, optional},
};

/// Pages without a record, one behind the other, of a walk that is said to go on.
const EMPTY_PAGES_MAX: usize = 10;
/// Pages of one walk when the file says nothing: far above what is meant, far below for ever.
const PAGES_MAX: u64 = 1000;

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
    Link { rel: String },
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
fn read_size(table: &mut Table<'_>, param: &'static str, size: &'static str) -> Option<(String, u64)> {
    let name = table.take(param).and_then(|i| i.string()).map(str::to_owned);
    let count = table.take(size).and_then(|i| i.integer(1..=1_000_000));
    if let (Some(name), None) = (&name, count) {
        table.error(format!("`{param}` = {name:?} needs `{size}` in {}", table.title())).report();
    }
    count.map(|count| (name.unwrap_or_default(), count))
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
            Kind::Link { rel } => text.put("pages.link", rel.as_str()),
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
        format!("Pages {{ kind: {kind:?}, max: {max:?}, delay: {delay:?}, end: {end:?}, stop_known: {stop_known:?} }}")
    }

    /// Reads `pages.KIND`.
    pub fn read(item: &Item<'_>) -> Option<Self> {
        type Read = fn(&mut Table<'_>) -> Option<Kind>;
        let kinds: [(&'static str, Read); 5] = [
            ("link", |table| {
                let rel = table.take("rel").map_or(Some("next"), |i| i.string());
                rel.map(|rel| Kind::Link { rel: rel.to_owned() })
            }),
            ("page", |table| {
                let at = At::read(table, Some("page"));
                let start = table.take("start").map_or(Some(1), |i| i.integer(0..=u64::from(u32::MAX)));
                let size = read_size(table, "size-param", "size");
                at.zip(start).map(|(at, start)| Kind::Page { at, start, size })
            }),
            ("offset", |table| {
                let at = At::read(table, Some("offset"));
                let limit = read_size(table, "limit-param", "limit");
                at.map(|at| Kind::Offset { at, limit })
            }),
            ("cursor", |table| {
                let at = At::read(table, None);
                let next = table.require("next", "next = \".next_cursor\"").and_then(|i| i.expr_over_answer());
                at.zip(next).map(|(at, next)| Kind::Cursor { at, next })
            }),
            ("next-url", |table| {
                let next = table.require("next", "next = \".next\"").and_then(|i| i.expr_over_answer());
                next.map(|next| Kind::NextUrl { next })
            }),
        ];
        let mut table = item.table()?;
        let found = table.take_kind(&kinds);
        table.finish();
        let (read, item) = found?;
        let mut table = item.table()?;
        let kind = read(&mut table);
        Self::finish(table, kind)
    }

    /// Reads `pages.cursor` of a source that has no other place for it than a variable.
    pub fn read_variable(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let found = table.take_kind(&[("cursor", ())]);
        table.finish();
        let mut table = found?.1.table()?;
        let name = table.require("variable", "variable = \"after\"").and_then(|i| i.string());
        let next =
            table.require("next", "next = \".data.orders.pageInfo.endCursor\"").and_then(|i| i.expr_over_answer());
        let at = name.map(|name| At::Variable { name: name.to_owned(), number: false });
        Self::finish(table, at.zip(next).map(|(at, next)| Kind::Cursor { at, next }))
    }

    /// Reads what every kind has.
    fn finish(mut table: Table<'_>, kind: Option<Kind>) -> Option<Self> {
        let max = table.take("max").map_or(Some(PAGES_MAX), |i| i.integer(1..=100_000));
        let delay = table.take("delay").map_or(Some(Duration::ZERO), |i| i.duration());
        let end = table.take("end").map(|i| i.expr_over_answer());
        let total_place = table.key_place("total");
        let total = table.take("total").map(|i| i.expr_over_answer());
        let stop_known = table.take("stop").map_or(Some(false), |i| i.word(&[("known", true)]));
        if let (Some(place), Some(true)) = (total_place, stop_known) {
            let message = format!("`total` stands beside `stop` in {}", table.title());
            let help = "leave `total` out: a walk that stops at known records brings fewer than the list has";
            table.error_at(place, message).help(help.into()).report();
        }
        table.finish();
        Some(Self {
            kind: kind?,
            max: usize::try_from(max?).unwrap_or(usize::MAX),
            delay: delay?,
            end: optional(end)?,
            total: optional(total)?,
            stop_known: stop_known?,
        })
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
            (Kind::Link { rel }, _) => match link(here.headers, rel) {
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
