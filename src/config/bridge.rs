//! `[bridge.NAME]`: what is polled, what counts as a change, and where it goes.

pub mod keys;

use std::time::Duration;

use serde_json::Value as Json;

use super::Each;
use crate::{
    expr::Expr,
    extract::{self, Definition},
    guard::{Guard, guards},
    http::{is_clear, place::At},
    model::{ChangeKind, Hash, Mark, Name, Timestamp},
    schedule::Schedule,
    settings::{Item, Table, fingerprint::Fingerprint, key::Get, value::Value},
    source::Source,
};
use keys::{alert, bridge, deletes, filters, route, since};

/// How long a record that left a window stays known.
const FORGET_AFTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Failed polls in a row before one `failing`.
const ALERT_AFTER: u64 = 5;
/// How often a failure that lasts is told again.
const ALERT_REPEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a mark may be at the most that the file names: what TOML has as a number.
const MARK_MAX: u64 = i64::MAX.cast_unsigned();

/// A bridge that cannot be wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Bridge {
    pub name: Name,
    /// The old name, whose snapshot, sequence and state it takes over.
    pub was: Option<Name>,
    /// It stands for members, and is not polled itself.
    pub each: Option<Each>,
    /// Of a member: the bridge that it belongs to, and its item.
    pub of: Option<Name>,
    pub item: Option<Json>,
    pub enabled: bool,
    pub schedule: Schedule,
    pub source: Source,
    pub definition: Definition,
    pub bad_records: BadRecords,
    pub first_poll: FirstPoll,
    pub deletes: Deletes,
    /// As the file says.
    pub window: Option<bool>,
    pub forget: Duration,
    pub absent: Vec<u16>,
    pub guard: Guard,
    pub since: Option<Since>,
    pub filters: Filters,
    pub routes: Vec<Route>,
    pub alert: Alert,
    pub definition_changed: DefinitionChanged,
}

/// What becomes of an answer in which a record has no key or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRecords {
    /// The poll fails.
    Fail,
    /// Such a record stays as it is stored, and is told.
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPoll {
    Baseline,
    Emit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefinitionChanged {
    Diff,
    Rebaseline,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Deletes {
    pub report: bool,
    /// `None`: 1, or 2 where a walk has several pages.
    pub after: Option<u32>,
    /// A record for which it holds says that it is gone.
    pub when: Option<Expr>,
}

impl Default for Deletes {
    fn default() -> Self {
        Self { report: deletes::REPORT.default(), after: None, when: None }
    }
}

impl Deletes {
    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let (report, after) = (table.or(&deletes::REPORT), table.get(&deletes::AFTER));
        let when = table.get(&deletes::WHEN);
        table.finish();
        Some(Self { report, after: after.and_then(|after| u32::try_from(after).ok()), when })
    }

    /// Whether a record says that it is gone.
    pub fn is_tombstone(&self, record: &Json) -> Result<bool, extract::Error> {
        self.when.as_ref().map_or(Ok(false), |when| when.holds(record)).map_err(extract::Error::Tombstone)
    }
}

/// `on` and `when`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filters {
    /// Empty: all.
    pub on: Vec<ChangeKind>,
    pub when: Option<Expr>,
}

/// One entry of `to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub endpoint: Name,
    pub filters: Filters,
    pub payload: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub after: u32,
    /// While it fails on, it is told again.
    pub repeat: Duration,
    /// No accepted poll for so long is told; else three intervals.
    pub stale_after: Option<Duration>,
    /// Endpoints; empty: those of `to`.
    pub to: Vec<Name>,
}

const CHANGES: [(&str, ChangeKind); 3] =
    [("created", ChangeKind::Created), ("updated", ChangeKind::Updated), ("deleted", ChangeKind::Deleted)];

/// What marks are, as the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Number,
    Time,
    Text,
}

/// How far before a time is asked, where the file says nothing. A source that gives only what is later than the mark would never give
/// a record that got the mark's own time, in whole seconds, after it was read.
pub const MARK_OVERLAP: Duration = Duration::from_secs(1);

/// `since`: only what is newer than a mark is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Since {
    /// `None`: jq of the source puts it where it belongs.
    pub at: Option<At>,
    pub marks: Marks,
    /// Before there is a mark.
    pub start: Option<Mark>,
    /// Statuses that say that the mark is of no use any more.
    pub reset: Vec<u16>,
    /// Of a source that takes only so long a time at once.
    pub window: Option<Window>,
}

/// `since.window`: how long a time one poll asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub length: Duration,
    /// Where its end goes. `None`: jq of the source puts it where it belongs.
    pub until: Option<At>,
}

/// Where a mark comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Marks {
    /// The highest of the records.
    Records { from: Expr, order: Order, max: Option<MarkMax> },
    /// What the last page names.
    Token(Expr),
    /// What the last message names that names one (`resume` of a stream).
    Messages(Expr),
}

/// The highest mark that is obeyed.
#[derive(Debug, Clone, PartialEq)]
pub enum MarkMax {
    Number(String),
    At(Timestamp),
    /// So far ahead of now.
    Ahead(Duration),
}

/// How marks compare, and how far the next question reaches back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Number { overlap: u64 },
    Time { overlap: Option<Duration> },
    Text,
}

impl Bridge {
    pub fn read(name: &str, mut table: Table<'_>) -> Option<Self> {
        let (was, enabled) = (table.get(&bridge::WAS), table.or(&bridge::ENABLED));
        let source = table.need(&bridge::SOURCE);
        if let Some(source) = source.as_ref().filter(|source| source.has_credentials())
            && source.origin().and_then(|origin| origin.parse().ok()).is_some_and(|origin| is_clear(&origin))
        {
            let message = format!("the source of {} sends credentials in clear, over `http`", table.title());
            table.warn_at(table.place.clone(), message, "use https");
        }
        let each = table.get(&bridge::EACH);
        let schedule = Schedule::read(&mut table, source.as_ref().and_then(Source::every));
        let definition = Definition::read(&mut table, source.as_ref());
        let (bad_records, first_poll) = (table.or(&bridge::BAD_RECORDS), table.or(&bridge::FIRST_POLL));
        let deletes = table.get(&bridge::DELETES).unwrap_or_default();
        let (window, forget) = (table.get(&bridge::WINDOW), table.or(&bridge::FORGET));
        let absent = table.item(&bridge::ABSENT);
        if let Some(item) = &absent
            && definition.as_ref().is_some_and(|definition| definition.items.is_some())
        {
            item.error(format!("`{}` is for documents; this bridge has `items`", item.path)).report();
        }
        let absent = absent.and_then(|item| bridge::ABSENT.read(&item)).unwrap_or_default();
        if let Some(place) =
            table.own_key_place(&guards::GUARD).filter(|_| source.as_ref().is_some_and(Source::is_stream))
        {
            let message = format!("`guard` in {} holds answers, but a message comes once", table.title());
            table.error_at(place, message).help("leave it out".into()).report();
        }
        let guard = Guard::read(&mut table);
        let since = table.get(&bridge::SINCE);
        if let (Some(source), Some(since)) = (&source, &since) {
            check_since(&table, source, since);
        }
        let resume = || source.as_ref().and_then(Source::resume).map(Since::resume);
        let since = since.or_else(resume);
        let filters = Filters::read(&mut table);
        let routes = table.need(&bridge::TO);
        let alert = table.get(&bridge::ALERT).unwrap_or_default();
        let definition_changed = table.or(&bridge::DEFINITION_CHANGED);
        table.finish();
        Some(Self {
            name: name.into(),
            was,
            each,
            of: None,
            item: None,
            enabled,
            schedule: schedule?,
            source: source?,
            definition: definition?,
            bad_records,
            first_poll,
            deletes,
            window,
            forget,
            absent,
            guard,
            since,
            filters,
            routes: routes?,
            alert,
            definition_changed,
        })
    }

    /// Whether a complete answer says that what it lacks is gone.
    pub fn is_complete(&self) -> bool {
        !self.is_window() && self.since.is_none() && self.source.shows_all()
    }

    /// Whether the source shows only its newest records. A feed does, unless the file says that it does not.
    pub fn is_window(&self) -> bool {
        self.window.unwrap_or_else(|| self.reads_feed())
    }

    fn reads_feed(&self) -> bool {
        let is_feed = |decoder: &crate::decode::Decoder| decoder.is_feed();
        self.definition.items.is_some() && self.definition.decoder.as_ref().is_some_and(is_feed)
    }

    /// Of all that the snapshot depends on.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut text = Fingerprint::default();
        self.source.define(&mut text);
        self.definition.define(&mut text);
        // Where the file says nothing nothing is written: that a feed is a window makes no stored bridge an edited one.
        match self.window {
            Some(true) => text.put("window", true),
            Some(false) if self.reads_feed() => text.put("window", false),
            _ => {}
        }
        self.since.iter().for_each(|since| since.define(&mut text));
        text.put_some("deletes.when", self.deletes.when.as_ref());
        // Of a member: another item is another question.
        text.put_some("item", self.item.clone());
        text
    }

    /// As 0.1.0 made it, of Debug's output.
    pub fn fingerprint_0_1(&self) -> Hash {
        let since = self.since.as_ref().map_or("None".into(), |since| format!("Some({})", since.definition_0_1()));
        let (source, definition) = (self.source.definition_0_1(), self.definition.definition_0_1());
        let text = format!("{source} {definition} {:?} {since}", self.window.unwrap_or_default());
        // Of a member: another item is another question.
        let item = self.item.as_ref().map(|item| format!(" {item}")).unwrap_or_default();
        Hash::of((text + &item).as_bytes())
    }

    /// The bridge's name in event types: all but letters, digits and `_` become `_`.
    pub fn type_name(&self) -> String {
        type_name(self.of.as_ref().unwrap_or(&self.name))
    }
}

/// See [`Bridge::type_name`].
pub fn type_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

impl Filters {
    /// Reads `on` and `when`.
    pub fn read(table: &mut Table<'_>) -> Self {
        Self { on: table.get(&filters::ON).unwrap_or_default(), when: table.get(&filters::WHEN) }
    }
}

fn read_on(item: &Item<'_>) -> Option<Vec<ChangeKind>> {
    let all = item.items()?;
    if all.is_empty() {
        item.error(format!("`{}` is empty: nothing would be sent", item.path)).report();
    }
    all.iter().map(|item| item.word(&CHANGES)).collect()
}

/// Refuses what of `since` would not be sent, or is not there to be seen.
fn check_since(table: &Table<'_>, source: &Source, since: &Since) {
    check_mark(table, source, since.at.as_ref(), ("since", "mark"));
    if let Some(window) = &since.window {
        check_mark(table, source, window.until.as_ref(), ("since.until", "until"));
    }
    if since.token_sees_answer() && !source.has_headers() {
        let message =
            format!("`since.token` of {} sees `$headers` or `$status`, which this source has not", table.title());
        table.error(message).help("read the token from the page, such as token = \".next_sync_token\"".into()).report();
    }
}

/// Refuses a mark, or the end of a window, that would not be sent, or not where the file says.
fn check_mark(table: &Table<'_>, source: &Source, at: Option<&At>, (key, word): (&str, &str)) {
    let (title, own) = (table.title(), source.mark_help());
    let (message, help) = match at {
        _ if source.is_stream() => (format!("`{key}` of {title} is of answers, and a message comes once"), own),
        Some(at) if !source.takes_mark(at) => {
            (format!("`{key}` of {title} has no place in a source of this kind"), own)
        }
        Some(at) => match source.misfit(at) {
            Some(why) => (
                format!("`{key}.json` of {title}: {why}"),
                "write a path into the request's body, such as \"filter.after\"",
            ),
            None => return,
        },
        None if source.uses(word) => return,
        None if key != "since" => (
            format!("`since.window` of {title} needs `until`: nothing says where the end of the window goes"),
            "write for example until = { param = \"updated_before\" }, or `.until` in jq of the source's request",
        ),
        None => (
            format!("`since` of {title} names no place for the mark, and no jq of its source uses `.mark`"),
            "write for example param = \"updated_after\", or query.q = { jq = \"\\\"after:\\(.mark)\\\"\" } in the source",
        ),
    };
    table.error(message).help(help.into()).report();
}

fn read_routes(item: &Item<'_>) -> Option<Vec<Route>> {
    let all = item.items()?;
    if all.is_empty() {
        item.error(format!("`{}` is empty: its events would go nowhere", item.path))
            .help("name an endpoint".into())
            .report();
        return None;
    }
    let route = |item: &Item<'_>| {
        if item.is_string() {
            return Some(Route { endpoint: item.string()?.into(), filters: Filters::default(), payload: None });
        }
        let mut table = item.table()?;
        let (endpoint, payload) = (table.need(&route::ENDPOINT), table.get(&route::PAYLOAD));
        let filters = Filters::read(&mut table);
        table.finish();
        Some(Route { endpoint: endpoint?, filters, payload })
    };
    let routes: Vec<Option<Route>> = all.iter().map(route).collect();
    routes.into_iter().collect()
}

impl Default for Alert {
    fn default() -> Self {
        Self::new(ALERT_AFTER, ALERT_REPEAT, None, Vec::new())
    }
}

impl Alert {
    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let (after, repeat) = (table.or(&alert::AFTER), table.or(&alert::REPEAT));
        let (stale_after, to) = (table.get(&alert::STALE_AFTER), table.get(&alert::TO).unwrap_or_default());
        table.finish();
        Some(Self::new(after, repeat, stale_after, to))
    }

    fn new(after: u64, repeat: Duration, stale_after: Option<Duration>, to: Vec<Name>) -> Self {
        Self { after: u32::try_from(after).unwrap_or(u32::MAX), repeat, stale_after, to }
    }
}

impl Since {
    /// Of a stream: jq of its source puts the mark where it belongs.
    fn resume(resume: &Expr) -> Self {
        Self { at: None, marks: Marks::Messages(resume.clone()), start: None, window: None, reset: Vec::new() }
    }

    /// Writes what the snapshot depends on: `max` and `reset` only say which marks count, and `window` how much is asked for at once.
    fn define(&self, text: &mut Fingerprint) {
        match &self.marks {
            Marks::Records { from, .. } => text.put("since", from),
            Marks::Token(token) => text.put("since.token", token),
            Marks::Messages(resume) => text.put("resume", resume),
        }
        self.at.iter().for_each(|at| at.define(text));
        match &self.marks {
            Marks::Records { order: Order::Number { overlap }, .. } => text.put("order.number", *overlap),
            Marks::Records { order: Order::Time { overlap }, .. } => {
                text.put("order.time", overlap.unwrap_or_default().as_secs_f64());
            }
            Marks::Records { order: Order::Text, .. } => text.put("order", "text"),
            Marks::Token(_) | Marks::Messages(_) => {}
        }
        text.put_some("start", self.start.as_ref().map(|start| start.text.as_str()));
    }

    /// Whether its token depends on more of an answer than its body.
    pub fn token_sees_answer(&self) -> bool {
        matches!(&self.marks, Marks::Token(token) if token.sees_answer())
    }

    /// As 0.1.0 wrote it.
    fn definition_0_1(&self) -> String {
        let Self { at, marks, start, reset: _, window: _ } = self;
        let at = at.as_ref().map_or("None".into(), |at| format!("{at:?}"));
        let start = start.as_ref().map(|start| &start.text);
        let Marks::Records { from, order, max: _ } = marks else { return format!("{marks:?}") };
        let order = match order {
            Order::Time { overlap } => format!("Time {{ overlap: {:?} }}", overlap.unwrap_or_default()),
            other => format!("{other:?}"),
        };
        format!("Since {{ at: {at}, from: {from:?}, order: {order}, start: {start:?} }}")
    }

    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let at = match table.get(&since::VARIABLE) {
            Some(name) => Some(Some(At::Variable { name, number: false })),
            None if At::is_in(&table) => At::read(&mut table, None).map(Some),
            None => Some(None),
        };
        let reset = table.get(&since::RESET).unwrap_or_default();
        let (length, until_place) = (table.item(&since::WINDOW), table.key_place(&since::UNTIL));
        let until = table.get(&since::UNTIL);
        if let (None, Some(place)) = (&length, until_place) {
            let message = format!("`until` stands without `window` in {}", table.title());
            table.error_at(place, message).help("write for example window = \"30d\"".into()).report();
        }
        let start = table.item(&since::START).map(|i| (!i.is_string(), i.value()));
        let marks = match table.has(&since::TOKEN) {
            true => read_token(&mut table),
            false => read_marks(&mut table),
        };
        table.finish();
        let start = match start {
            None => None,
            Some((is_json, Some(Value::Literal(text)))) => Some(Mark { text, is_json: Some(is_json) }),
            Some(_) => {
                item.error(format!("`{}.start` must be a string or a number", item.path)).report();
                return None;
            }
        };
        let marks = marks?;
        let at = match at? {
            Some(At::Variable { name, .. }) => {
                let number = matches!(marks, Marks::Records { order: Order::Number { .. }, .. });
                Some(At::Variable { name, number })
            }
            at => at,
        };
        let window = match length {
            Some(item) => {
                let length = since::WINDOW.read(&item)?;
                check_window(&item, &marks, start.as_ref(), length);
                Some(Window { length, until })
            }
            None => None,
        };
        Some(Self { at, marks, start, reset, window })
    }
}

/// Refuses a window that has no beginning, or that would not move on.
fn check_window(item: &Item<'_>, marks: &Marks, start: Option<&Mark>, length: Duration) {
    let (what, help) = match marks {
        Marks::Records { order: Order::Time { overlap }, .. } => {
            let is_time = start.is_some_and(|start| Timestamp::parse(&start.text).is_ok());
            if length <= overlap.unwrap_or(MARK_OVERLAP) {
                ("is not longer than `overlap`: it would never move on", "write for example window = \"30d\"")
            } else if !is_time {
                (
                    "needs `start`, a time from which the first poll asks",
                    "write for example start = \"2026-01-01T00:00:00Z\"",
                )
            } else {
                return;
            }
        }
        _ => ("is a length of time", "write order = \"time\", or leave it out"),
    };
    item.error(format!("`{}` {what}", item.path)).help(help.into()).report();
}

/// Where the end of a window goes.
fn read_until(item: &Item<'_>) -> Option<At> {
    let mut table = item.table()?;
    let at = At::read(&mut table, None);
    table.finish();
    at
}

/// `token`, beside which nothing of a record's mark means anything.
fn read_token(table: &mut Table<'_>) -> Option<Marks> {
    let token = table.get(&since::TOKEN);
    let beside: [(&str, Option<Item<'_>>); 6] = [
        (since::FROM.name, table.item(&since::FROM)),
        (since::ORDER.name, table.item(&since::ORDER)),
        (since::OVERLAP.name, table.item(&since::OVERLAP)),
        (since::MAX.name, table.item(&since::MAX)),
        (since::WINDOW.name, table.item(&since::WINDOW)),
        (since::UNTIL.name, table.item(&since::UNTIL)),
    ];
    for (name, item) in beside {
        if let Some(item) = item {
            let message = format!("`{}` stands beside `{}` in {}", item.path, since::TOKEN.name, table.title());
            let help = format!("leave `{name}` out: a token is of the whole answer, and does not compare");
            item.error(message).help(help).report();
        }
    }
    token.map(Marks::Token)
}

/// `from`, `order`, `overlap` and `max`.
fn read_marks(table: &mut Table<'_>) -> Option<Marks> {
    let from = needed(table, &since::FROM, "from = \".updated_at\"");
    let order = needed(table, &since::ORDER, "order = \"time\"");
    let (overlap, max) = (table.item(&since::OVERLAP), table.item(&since::MAX));
    let order = match (order?, overlap) {
        (Unit::Number, None) => Order::Number { overlap: 0 },
        (Unit::Number, Some(i)) => Order::Number { overlap: i.integer(0..=u64::from(u32::MAX))? },
        (Unit::Time, None) => Order::Time { overlap: None },
        (Unit::Time, Some(i)) => Order::Time { overlap: Some(i.duration()?) },
        (Unit::Text, None) => Order::Text,
        (Unit::Text, Some(i)) => return unordered(&i),
    };
    let max = match (order, max) {
        (_, None) => None,
        (Order::Number { .. }, Some(i)) => Some(MarkMax::Number(i.integer(0..=MARK_MAX)?.to_string())),
        (Order::Time { .. }, Some(i)) => match i.string().map(Timestamp::parse)? {
            Ok(at) => Some(MarkMax::At(at)),
            Err(_) => Some(MarkMax::Ahead(i.duration()?)),
        },
        (Order::Text, Some(i)) => return unordered(&i),
    };
    Some(Marks::Records { from: from?, order, max })
}

/// A key that is needed where there is no `token`.
fn needed<T: Clone>(table: &mut Table<'_>, key: &Get<T>, example: &str) -> Option<T> {
    if !table.has(key) {
        let message = format!("`{}` is missing in {}", key.name, table.title());
        table.error(message).help(format!("for example {example}")).report();
    }
    table.get(key)
}

fn unordered(item: &Item<'_>) -> Option<Marks> {
    item.error(format!("`{}` needs an order of \"number\" or \"time\"", item.path)).report();
    None
}
