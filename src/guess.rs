//! What a bridge over a URL should say, guessed from what the URL answered. Pure: whoever asks reads the answers.
//!
//! Each guess has its reason in words, since a person decides about it. What an answer does not show is left out:
//! nothing here is made up, except for the key of a list without records, which says so.

pub mod credentials;
pub mod differing;
pub mod draft;
pub mod format;
pub mod list;
pub mod more;
pub mod openapi;
pub mod pages;
pub mod text;

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value as Json;
use url::Url;

use crate::{
    decode::Page,
    expr::Expr,
    http::{Answer, hint},
    model::{Hash, Timestamp},
    source::link::link,
};
use differing::Differing;
use format::Format;
use list::{List, counted};
use pages::Pages;

/// How often a source is polled that says nothing of it.
const EVERY: Duration = Duration::from_secs(60);
/// The same of a feed: few of them change more often.
const EVERY_FEED: Duration = Duration::from_secs(15 * 60);
/// Intervals that people write.
const INTERVALS: [u64; 8] = [60, 120, 300, 600, 900, 1800, 3600, 21_600];
/// Of a budget so much is left to others.
const BUDGET_TIMES: f64 = 2.0;
/// From so many records on a field that differs in most of them is not a change of each.
const VOLATILE_FROM: usize = 3;

/// Something that was guessed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because<T> {
    pub what: T,
    pub why: String,
}

impl<T> Because<T> {
    pub fn new(what: T, why: String) -> Self {
        Self { what, why }
    }
}

/// What a bridge should say.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    pub format: Because<Format>,
    /// The content type alone does not say the format.
    pub needs_decode: bool,
    pub list: List,
    /// jq paths.
    pub ignore: Vec<Because<String>>,
    pub pages: Option<Because<Pages>>,
    pub every: Because<Duration>,
    /// A field that says when a record changed last.
    pub changed: Option<String>,
    /// What else is worth knowing, in words.
    pub notes: Vec<String>,
}

/// Why nothing is guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the server answered {status}, which asks for credentials: {help}")]
    Credentials { status: u16, help: String },
    #[error("the server answered {status}{}", redirects_to(.location.as_deref()))]
    Status { status: u16, location: Option<String> },
    #[error("the server answered {status} with an error: {start}")]
    Says { status: u16, start: String },
    #[error(
        "the server takes no GET there ({status}): `try` and `init` send nothing else. Write a bridge by hand for a \
         POST: `source.graphql` for GraphQL, otherwise `source.http` with `method` and `json`"
    )]
    Post { status: u16 },
    #[error("the answer is empty")]
    Empty,
    #[error("the answer is neither JSON, NDJSON, XML, a feed nor CSV; it begins: {start}")]
    Unknown { start: String },
    #[error("the answer seems to be {format}, and cannot be read as such: {cause}")]
    Unreadable { format: &'static str, cause: String },
    #[error(
        "the answer is HTML, in which only a person knows what a record is: write a bridge with `decode.{key}`, where \
         `select` finds one element for each record, and `items = \".[]\"`, `key = \".url\"`"
    )]
    Html { key: String },
}

fn redirects_to(location: Option<&str>) -> String {
    location
        .map(|to| format!(": it redirects to {to}: give that URL, if it is the one that you mean"))
        .unwrap_or_default()
}

/// The beginning of a body, for a message.
fn start(body: &[u8]) -> String {
    const CHARS: usize = 120;
    let text: String = String::from_utf8_lossy(body).chars().take(CHARS).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Guess {
    /// Of an answer, and of a second one to the same request a moment later.
    pub fn of(url: &Url, first: &Answer, second: Option<&Answer>, now: Timestamp) -> Result<Self, Refused> {
        judge_status(url, first)?;
        let page = page(first);
        let content_type = page.content_type.clone().unwrap_or_default();
        let format = match Format::of(&content_type, &first.body) {
            Some(format) => format,
            None if first.body.trim_ascii().is_empty() => return Err(Refused::Empty),
            None => return Err(Refused::Unknown { start: start(&first.body) }),
        };
        if format.what == Format::Html {
            return Err(Refused::Html { key: format.what.key() });
        }
        let unreadable = |cause| Refused::Unreadable { format: format.what.name(), cause };
        let (document, is_said) = format.what.read(&page).map_err(unreadable)?;
        if list::is_error(&document) {
            return Err(Refused::Says { status: first.status, start: start(&first.body) });
        }
        let again = second.filter(|second| second.status == first.status);
        let again = again.and_then(|second| format.what.read(&self::page(second)).ok());
        let list = steady(&document, again.as_ref().map(|(again, _)| again));
        let (ignore, mut notes) = again.map(|(again, _)| volatile(&list, &again)).unwrap_or_default();
        // A `Link` that cannot be read says nothing here; a poll tells what is wrong with it.
        let next = link(&first.headers, "next").ok().flatten();
        let total = first.header(pages::TOTAL_HEADER).and_then(|total| total.trim().parse().ok());
        let pages = Pages::of(url, (next.is_some(), total), &document, &list);
        if let Some(etag) = ["etag", "last-modified"].into_iter().find(|name| first.header(name).is_some()) {
            notes.push(format!("the server sends `{etag}`: an answer that did not change costs little"));
        }
        if list.items.what.is_some() && list.records.is_empty() {
            notes.push("the list is empty now: what its records are like is not known".into());
        }
        let changed = changed(&list);
        let every = every(first, format.what, now);
        Ok(Self { needs_decode: !is_said, every, format, list, ignore, pages, changed, notes })
    }

    /// What it found, in sentences for a person.
    pub fn words(&self) -> Vec<String> {
        let mut out = Vec::new();
        let List { items, key, records, others } = &self.list;
        out.push(format!("{}: {}", self.format.what.name(), self.format.why));
        match &items.what {
            Some(path) => out.push(format!("items = {path}   {}", items.why)),
            None => out.push(format!("one document: {}", items.why)),
        }
        if let Some(Because { what, why }) = key {
            out.push(format!("key = {what}   {why}"));
        }
        if !others.is_empty() {
            out.push(format!("other lists: {}", others.join(", ")));
        }
        if let Some(Json::Object(first)) = records.first() {
            out.push(format!("fields: {}", first.keys().map(String::as_str).collect::<Vec<_>>().join(", ")));
        }
        out.extend(self.ignore.iter().map(|Because { what, why }| format!("ignore {what}   {why}")));
        match &self.pages {
            Some(Because { what, why }) => out.push(format!("pages.{}   {why}", what.key())),
            None if items.what.is_some() => out.push("pages: nothing in the answer says that more follows".into()),
            None => {}
        }
        out.push(format!("every = {}   {}", text::interval(self.every.what), self.every.why));
        out.extend(self.notes.iter().cloned());
        out
    }
}

/// An answer as a page of a walk.
pub fn page(answer: &Answer) -> Page {
    let content_type = answer.header("content-type").map(str::to_owned);
    Page { url: String::new(), content_type, body: answer.body.clone(), hash: Hash::of(&answer.body) }
}

fn judge_status(url: &Url, answer: &Answer) -> Result<(), Refused> {
    let status = answer.status;
    match status {
        200..=299 => Ok(()),
        401 | 403 => Err(Refused::Credentials { status, help: credentials::asked(answer.header("www-authenticate")) }),
        300..=399 => {
            let location = answer.header("location").and_then(|to| answer.url.join(to).ok());
            Err(Refused::Status { status, location: location.map(|to| crate::http::origin(&to) + to.path()) })
        }
        405 => Err(Refused::Post { status }),
        _ if url.path().trim_end_matches('/').ends_with("graphql") => Err(Refused::Post { status }),
        _ if answer.body.trim_ascii().is_empty() => Err(Refused::Status { status, location: None }),
        _ => Err(Refused::Says { status, start: start(&answer.body) }),
    }
}

/// The list of a document, with a key under which most records are found again in a second read.
fn steady(document: &Json, again: Option<&Json>) -> List {
    /// Fields that are tried, and are not there again.
    const TRIED_MAX: usize = 5;
    let first = List::of(document, &BTreeSet::new());
    let Some(again) = again.filter(|_| first.records.len() > 1) else { return first };
    let (mut list, mut moving) = (first.clone(), BTreeSet::new());
    for _ in 0..TRIED_MAX {
        let key = list.key.as_ref().map(|key| key.what.clone());
        let Some(key) = key.filter(|key| Expr::parse(key).is_ok_and(|key| key.as_path().is_some())) else {
            return list;
        };
        if pairs(&list, again).len() * 2 >= list.records.len() {
            return list;
        }
        moving.insert(key);
        list = List::of(document, &moving);
    }
    first
}

/// Fields that differ between two reads of the same records, though nothing happened to them; and what is worth a look.
fn volatile(list: &List, again: &Json) -> (Vec<Because<String>>, Vec<String>) {
    let pairs = pairs(list, again);
    let mut times: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (before, after) in &pairs {
        let mut differing = Differing::default();
        differing.note(before, after);
        if differing.is_more {
            continue;
        }
        differing.paths.into_iter().for_each(|path| *times.entry(path).or_default() += 1);
    }
    let (mut ignore, mut notes) = (Vec::new(), Vec::new());
    for (path, count) in times {
        let of = format!("differed between two reads, in {count} of {}", counted(pairs.len(), "record"));
        let is_most = pairs.len() >= VOLATILE_FROM && count * 2 > pairs.len();
        // jq of a path that is not plain is written all the same: `ignore` takes it.
        if is_most || tells_time(&path) {
            ignore.push(Because::new(path, of));
        } else {
            notes.push(format!("`{path}` {of}: if that says nothing, add it to `ignore`"));
        }
    }
    (ignore, notes)
}

/// Whether a name is one of a clock, or of the answer itself.
fn tells_time(path: &str) -> bool {
    const WORDS: [&str; 12] = [
        "now",
        "time",
        "timestamp",
        "uptime",
        "checked",
        "generated",
        "fetched",
        "request",
        "nonce",
        "elapsed",
        "served",
        "age",
    ];
    let name = path.rsplit('.').next().unwrap_or_default();
    let mut spread = String::new();
    for char in name.chars() {
        if char.is_ascii_uppercase() {
            spread.push(' ');
        }
        spread.push(char.to_ascii_lowercase());
    }
    spread.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
}

/// The records of one read beside those of the other, by their keys.
fn pairs<'l>(list: &'l List, again: &Json) -> Vec<(&'l Json, Json)> {
    let Some(items) = &list.items.what else {
        return list.records.first().map(|first| (first, again.clone())).into_iter().collect();
    };
    let path = |text: &str| Expr::parse(text).ok().filter(|expr| expr.as_path().is_some());
    let (Some(items), Some(key)) = (path(items), list.key.as_ref().and_then(|key| path(&key.what))) else {
        return Vec::new();
    };
    let key_of = |record: &Json| key.first(record).ok().flatten().map(|key| key.to_string());
    let others = items.all(again).unwrap_or_default();
    let others: std::collections::BTreeMap<String, Json> =
        others.into_iter().filter_map(|record| Some((key_of(&record)?, record))).collect();
    list.records.iter().filter_map(|record| Some((record, others.get(&key_of(record)?)?.clone()))).collect()
}

/// How often to ask: as the server says, or as is usual.
fn every(answer: &Answer, format: Format, now: Timestamp) -> Because<Duration> {
    let rounded = |wanted: Duration| {
        let seconds = INTERVALS.into_iter().find(|seconds| Duration::from_secs(*seconds) >= wanted);
        seconds.map_or(wanted, Duration::from_secs)
    };
    if let Some(named) = hint::next_poll(&answer.headers).filter(|named| *named > EVERY) {
        let why = "the server says how long its answer stays as it is";
        return Because::new(rounded(named), why.into());
    }
    if let Some(hint::Budget { remaining, reset: Some(reset) }) = hint::Budget::read(&answer.headers, now) {
        let spaced = reset.as_secs_f64() / remaining.max(1.0) * BUDGET_TIMES;
        let wanted = Duration::try_from_secs_f64(spaced).unwrap_or(EVERY).max(EVERY);
        let why = format!("the server has {remaining} requests left for {} s", reset.as_secs());
        return Because::new(rounded(wanted), why);
    }
    match format {
        Format::Feed => Because::new(EVERY_FEED, "usual for a feed".into()),
        _ => Because::new(EVERY, "the server names no limit".into()),
    }
}

/// The field that says when a record changed last.
fn changed(list: &List) -> Option<String> {
    const NAMES: [&str; 8] =
        ["updatedat", "modifiedat", "lastmodified", "lastupdated", "modified", "updated", "changedat", "dateupdated"];
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    list.items.what.as_ref()?;
    let first = list.records.first()?.as_object()?;
    let names: BTreeSet<&String> = first.keys().filter(|name| NAMES.contains(&plain(name).as_str())).collect();
    let is_in_all = |name: &&&String| list.records.iter().all(|record| record.get(name.as_str()).is_some());
    names.iter().find(is_in_all).map(|name| text::within("", name))
}

#[cfg(test)]
mod tests;
