//! `[endpoint.NAME]`: where webhooks go, how they are signed, and how long they are tried.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderName},
};
use url::Url;

use super::bridge::Filters;
use crate::{
    auth::Auth,
    expr::Expr,
    http::{
        identity::Identity,
        is_clear,
        target::{self, HTTP, read_headers},
    },
    model::Name,
    settings::{
        Item, Table, optional,
        secret::Secret,
        units::{self, Rate},
        value::Value,
    },
    sign::Signer,
    source::http::read_statuses,
};

const TIMEOUT: Duration = Duration::from_secs(15);
const DISABLE_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// Between probes of an endpoint that is down: whoever was away for hours has its events a few minutes after it is back.
const PROBE_MAX: Duration = Duration::from_secs(5 * 60);
/// The waits of Standard Webhooks 1.0.0, section "Deliverability and reliability", to three days in all, with steps before the
/// five minutes: a receiver that restarts in half a minute has its events a quarter of a minute later.
pub const RETRY_SCHEDULE: [Duration; 15] = {
    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [
        s(5),
        s(10),
        s(10),
        s(10),
        s(30),
        s(60),
        s(120),
        s(300),
        s(1800),
        s(7200),
        s(18_000),
        s(36_000),
        s(50_400),
        s(72_000),
        s(86_400),
    ]
};

const BODY_MAX: u64 = 1 << 20;
const IN_FLIGHT: u64 = 8;
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const QUEUE_MAX: u64 = 1_000_000;
/// Events of one batch, at the most: each leaves an attempt in the store.
const BATCH_MAX: u64 = 1000;
/// A digest of a day.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Of a word that a secret takes the place of.
const INJECT_CHARS_MIN: usize = 6;

/// An endpoint that cannot be wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub name: Name,
    /// The old name, whose queue it takes over.
    pub was: Option<Name>,
    pub url: Value,
    pub query: Vec<(String, Value)>,
    pub enabled: bool,
    pub sign: Option<Signer>,
    pub format: Format,
    /// `headers` says that a body is not JSON: a string goes as it is.
    pub is_plain: bool,
    pub payload: Option<Expr>,
    pub operational: Operational,
    /// `body = "thin"`.
    pub thin: bool,
    /// Bytes; a larger body goes thin.
    pub body_max: u64,
    pub batch: Option<Batch>,
    /// jq over the array that a batch is.
    pub batch_payload: Option<Expr>,
    pub coalesce: bool,
    pub method: Verb,
    /// Words of the body, and the secrets that take their place at the attempt.
    pub inject: Vec<(String, Secret)>,
    pub headers: Vec<(HeaderName, Value)>,
    pub auth: Vec<Auth>,
    pub identity: Identity,
    pub filters: Filters,
    pub order: DeliveryOrder,
    pub in_flight: usize,
    pub rate: Option<Rate>,
    pub timeout: Duration,
    pub schedule: Vec<Duration>,
    /// Between probes of an endpoint that is down, at the most.
    pub probe_max: Duration,
    pub disable_after: Duration,
    pub answers: Answers,
    pub keep: Duration,
    pub queue_max: usize,
    pub queue_full: QueueFull,
}

/// What becomes of events about bellpull itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Operational {
    /// They come as they are.
    #[default]
    Standard,
    /// What jq makes of them comes.
    Payload(Expr),
    /// They never come.
    Never,
}

/// The method of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Fixed(Method),
    /// jq over the event gives its name.
    Jq(Expr),
}

/// GET and DELETE have no body.
pub const METHODS: [Method; 5] = [Method::POST, Method::PUT, Method::PATCH, Method::GET, Method::DELETE];

/// What the file says of a receiver's answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers {
    /// jq over a 2xx: a text, or anything but `null` and `false`, is a refusal.
    pub fail: Option<Expr>,
    /// jq over an answer: the seconds for which it wants no request.
    pub wait: Option<Expr>,
    /// Statuses that mean something else here than everywhere.
    pub down: Vec<u16>,
    pub taken: Vec<u16>,
    pub refused: Vec<u16>,
}

impl Answers {
    /// Whether jq has to see them.
    pub fn look(&self) -> bool {
        self.wait.is_some() || self.fail.is_some()
    }
}

/// `retry`.
struct Retry {
    schedule: Vec<Duration>,
    probe_max: Duration,
    disable_after: Duration,
    answers: Answers,
}

impl Default for Retry {
    fn default() -> Self {
        let answers = Answers::default();
        Self { schedule: RETRY_SCHEDULE.to_vec(), probe_max: PROBE_MAX, disable_after: DISABLE_AFTER, answers }
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Standard,
    /// CloudEvents 1.0, structured.
    CloudEvents,
    /// CloudEvents 1.0, attributes as headers.
    CloudEventsBinary,
    Form,
    /// The string that a payload makes, as it is.
    Text,
    /// A line of JSON for each event; a string is its line as it is.
    NdJson,
}

/// Several events in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub max: usize,
    /// How long the first one waits for more.
    pub wait: Duration,
}

/// What arrives in the order in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// The events of one record.
    Key,
    /// The events of one bridge.
    Bridge,
    None,
}

/// What happens beyond `queue-max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFull {
    /// Further events become dead letters.
    Dead,
    /// The bridges that feed it stop polling.
    Pause,
}

impl Endpoint {
    /// Whether events about bellpull itself come here.
    pub fn takes_alarms(&self) -> bool {
        self.operational != Operational::Never
    }

    /// Whether its receiver can make something of them: none can that needs what `payload` makes.
    pub fn hears_alarms(&self) -> bool {
        match self.operational {
            Operational::Standard => self.payload.is_none(),
            Operational::Payload(_) => true,
            Operational::Never => false,
        }
    }

    pub fn read(name: &str, mut table: Table<'_>) -> Option<Self> {
        let was = table.take("was").map(|i| i.string().map(Name::from));
        let url = table.require("url", "url = \"https://example.com/hooks\"").and_then(|i| read_url(&i));
        let query = table.take("query").and_then(|i| i.value_map()).unwrap_or_default();
        let enabled = table.take("enabled").and_then(|i| i.boolean()).unwrap_or(true);
        let sign = table.take("sign").map(|i| Signer::read(&i));
        let body = Body::read(&mut table);
        let method = table.take("method").map_or(Some(Verb::Fixed(Method::POST)), |i| read_method(&i));
        let inject = table.take("inject").map_or(Some(Vec::new()), |i| read_inject(&i, body.as_ref()));
        let headers = table.take("headers").and_then(|i| read_headers(&i)).unwrap_or_default();
        let auth = table.take("auth").map_or(Some(Vec::new()), |i| Auth::read_all(&i));
        let identity = Identity::read(&mut table, false);
        let filters = Filters::read(&mut table);
        let orders = [("key", DeliveryOrder::Key), ("bridge", DeliveryOrder::Bridge), ("none", DeliveryOrder::None)];
        let order = table.take("order").and_then(|i| i.word(&orders)).unwrap_or(DeliveryOrder::Key);
        for (header, _) in headers.iter().filter(|(name, _)| name.as_str().starts_with("webhook-")) {
            let message = format!("`{header}` in {} is bellpull's own: it says who sent what, and when", table.title());
            table.error(message).help("take another name".into()).report();
        }
        if body.as_ref().is_some_and(|body| body.coalesce) && order == DeliveryOrder::None {
            let message = format!(
                "`coalesce` in {} needs an order: without one updates do not wait for each other",
                table.title()
            );
            table.error(message).help("leave out order = \"none\"".into()).report();
        }
        let in_flight = table.take("in-flight").and_then(|i| i.integer(1..=1000)).unwrap_or(IN_FLIGHT);
        let rate = table.take("rate").and_then(|i| i.parse_text(units::rate, "a rate such as \"10/s\""));
        let timeout = table.take("timeout").and_then(|i| i.some_duration()).unwrap_or(TIMEOUT);
        let retry = table.take("retry").map_or_else(|| Some(Retry::default()), |i| Retry::read(&i));
        let fail = table.take("fail").map(|i| i.expr());
        let keep = table.take("keep").and_then(|i| i.some_duration()).unwrap_or(KEEP);
        let queue_max = table.take("queue-max").and_then(|i| i.integer(1..=100_000_000)).unwrap_or(QUEUE_MAX);
        let fulls = [("dead", QueueFull::Dead), ("pause", QueueFull::Pause)];
        let queue_full = table.take("queue-full").and_then(|i| i.word(&fulls)).unwrap_or(QueueFull::Dead);
        let parts = (url.as_ref(), headers.as_slice(), query.as_slice());
        warn_of_credentials(&table, parts, auth.as_deref(), sign.is_some());
        if let Some(body) = body.as_ref().filter(|_| sign.is_some()) {
            body.warn_unsigned(&table);
        }
        table.finish();
        let Retry { schedule, probe_max, disable_after, answers } = retry?;
        let Body { format, payload, operational, thin, body_max, batch, batch_payload, coalesce } = body?;
        Some(Self {
            name: name.into(),
            was: optional(was)?,
            url: url?,
            query,
            enabled,
            sign: optional(sign)?,
            format,
            is_plain: is_plain(&headers),
            payload,
            operational,
            thin,
            body_max,
            batch,
            batch_payload,
            coalesce,
            method: method?,
            inject: inject?,
            headers,
            auth: auth?,
            identity: identity?,
            filters,
            order,
            in_flight: usize::try_from(in_flight).ok()?,
            rate,
            timeout,
            schedule,
            probe_max,
            disable_after,
            answers: Answers { fail: optional(fail)?, ..answers },
            keep,
            queue_max: usize::try_from(queue_max).ok()?,
            queue_full,
        })
    }
}

/// What a request holds, as `Endpoint` has it.
struct Body {
    format: Format,
    payload: Option<Expr>,
    operational: Operational,
    thin: bool,
    body_max: u64,
    batch: Option<Batch>,
    batch_payload: Option<Expr>,
    coalesce: bool,
}

impl Body {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let formats = [
            ("standard", Format::Standard),
            ("cloudevents", Format::CloudEvents),
            ("cloudevents-binary", Format::CloudEventsBinary),
            ("form", Format::Form),
            ("text", Format::Text),
            ("ndjson", Format::NdJson),
        ];
        let format = table.take("format").map_or(Some(Format::Standard), |i| i.word(&formats));
        let payload = table.take("payload").map(|i| i.expr());
        let thin = table.take("body").and_then(|i| i.word(&[("full", false), ("thin", true)])).unwrap_or(false);
        let body_max = table.take("body-max").and_then(|i| i.size()).unwrap_or(BODY_MAX);
        let batch = table.take("batch").map(|i| read_batch(&i, format));
        let coalesce = table.take("coalesce").and_then(|i| i.boolean()).unwrap_or(false);
        let operational = table.take("operational").map(|i| read_operational(&i));
        let (batch, batch_payload) = optional(batch)?.unzip();
        let (format, payload, operational) = (format?, optional(payload)?, optional(operational)?.unwrap_or_default());
        let batch_payload = batch_payload.flatten();
        Some(Self { format, payload, operational, thin, body_max, batch, batch_payload, coalesce })
    }

    fn warn_unsigned(&self, table: &Table<'_>) {
        if self.format == Format::CloudEventsBinary && self.payload.is_some() {
            let message = format!(
                "[{}]: of `cloudevents-binary` the `ce-` headers are not signed, and this `payload` has nothing of them",
                table.path
            );
            let help = "take format = \"cloudevents\", or put kind and key into `payload`";
            table.warn_at(table.place.clone(), message, help);
        }
    }
}

/// A method's name, or jq that gives one.
fn read_method(item: &Item<'_>) -> Option<Verb> {
    if item.is_table() {
        return match item.value()? {
            Value::Jq(expr) => Some(Verb::Jq(expr)),
            _ => {
                item.error(format!("`{}` must be a method or jq", item.path)).report();
                None
            }
        };
    }
    let words = [("POST", 0usize), ("PUT", 1), ("PATCH", 2), ("GET", 3), ("DELETE", 4)];
    item.word(&words).and_then(|index| METHODS.into_iter().nth(index)).map(Verb::Fixed)
}

/// `inject.body`: words and their secrets.
fn read_inject(item: &Item<'_>, body: Option<&Body>) -> Option<Vec<(String, Secret)>> {
    let mut table = item.table()?;
    let words = table.require("body", "inject.body = { API_TOKEN = { env = \"TOKEN\" } }");
    table.finish();
    let words = words?;
    let why = match body? {
        Body { format: Format::Standard | Format::Form, batch: None, .. } => None,
        Body { format: Format::Standard, batch_payload: Some(_), .. } => None,
        Body { batch: Some(_), .. } => {
            Some("each event of a batch has the word: `batch.payload` makes one body of them")
        }
        _ => Some("secrets stand in bodies of `format = \"standard\"` and \"form\""),
    };
    if let Some(why) = why {
        words.error(format!("`{}`: {why}", words.path)).report();
        return None;
    }
    let read = |(word, place, item): (&str, _, Item<'_>)| {
        let secret = item.secret()?;
        if word.chars().count() < INJECT_CHARS_MIN {
            let message = format!("`{}`: a record may hold {word:?} by chance", item.path);
            let help = format!("take a word of {INJECT_CHARS_MIN} characters or more, such as \"API_TOKEN\"");
            item.error_at(place, message).help(help).report();
            return None;
        }
        Some((word.to_owned(), secret))
    };
    let all: Vec<_> = words.table()?.take_all().into_iter().map(read).collect();
    all.into_iter().collect()
}

/// `false`, or a table with a `payload`.
fn read_operational(item: &Item<'_>) -> Option<Operational> {
    if !item.is_table() {
        if !item.boolean()? {
            return Some(Operational::Never);
        }
        let message = format!("`{}` is true, which is what it is without this key", item.path);
        item.error(message).help("leave it out, or `operational = false`: alarms never come here".into()).report();
        return None;
    }
    let mut table = item.table()?;
    let example = "operational.payload = '{ text: \"bellpull: \\(.type) \\(.data.error // .data.reason // \"\")\" }'";
    let payload = table.require("payload", example).and_then(|i| i.expr());
    table.finish();
    payload.map(Operational::Payload)
}

/// URL, headers and query of an endpoint.
type Parts<'a> = (Option<&'a Value>, &'a [(HeaderName, Value)], &'a [(String, Value)]);

fn warn_of_credentials(table: &Table<'_>, parts: Parts<'_>, auth: Option<&[Auth]>, is_signed: bool) {
    let (url, headers, query) = parts;
    // A receiver that looks at a credential can tell too, and so can one whose URL is a secret.
    let values = headers.iter().map(|(_, value)| value).chain(query.iter().map(|(_, value)| value)).chain(url);
    let told = auth.is_none_or(|auth| !auth.is_empty()) || values.into_iter().any(Value::is_secret);
    let fixed = url.and_then(|url| url.fixed().first().and_then(|text| text.parse().ok()));
    if (auth.is_some_and(|auth| !auth.is_empty()) || headers.iter().any(|(_, value)| value.is_secret()))
        && fixed.is_some_and(|url| is_clear(&url))
    {
        let message = format!("[{}] sends credentials in clear, over `http`", table.path);
        table.warn_at(table.place.clone(), message, "use https");
    }
    if !is_signed && !told {
        let message = format!("[{}] has no `sign`: its receiver cannot tell who sent an event", table.path);
        let help = "sign.standard.secrets = [{ env = \"SECRET\" }]; `bellpull secret` makes one";
        table.warn_at(table.place.clone(), message, help);
    }
}

/// Whether `headers` names a content type that is not JSON.
fn is_plain(headers: &[(HeaderName, Value)]) -> bool {
    let mut types = headers.iter().filter(|(name, value)| *name == CONTENT_TYPE && value.is_constant());
    types.any(|(_, value)| value.fixed().iter().any(|text| !text.to_ascii_lowercase().contains("json")))
}

/// A URL, a secret one, or jq that makes one.
fn read_url(item: &Item<'_>) -> Option<Value> {
    let value = target::read_url(item, HTTP)?;
    match &value {
        Value::Secret(secret) if item.resolved(secret) => match secret.expose().parse::<Url>() {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                item.error(format!("`{}`: the secret holds a user or password", item.path))
                    .help("use `auth.basic`".into())
                    .report();
                return None;
            }
            Ok(url) if HTTP.contains(&url.scheme()) => {}
            _ => {
                item.error(format!("`{}`: the secret is not an http or https URL", item.path)).report();
                return None;
            }
        },
        Value::List(_) => {
            item.error(format!("`{}` must be a URL, a secret or jq", item.path)).report();
            return None;
        }
        _ => {}
    }
    Some(value)
}

fn read_batch(item: &Item<'_>, format: Option<Format>) -> Option<(Batch, Option<Expr>)> {
    let mut table = item.table()?;
    let max = table.require("max", "batch = { max = 100, wait = \"1s\" }").and_then(|i| i.integer(1..=BATCH_MAX));
    let wait = table.take("wait").map_or(Some(BATCH_WAIT), |i| {
        let wait = i.duration()?;
        if wait > BATCH_WAIT_MAX {
            i.error(format!("`{}` is over 24h", i.path)).report();
            return None;
        }
        Some(wait)
    });
    let has_payload = table.has("payload");
    let payload = table.take("payload").map(|i| i.expr());
    table.finish();
    let help = match format {
        Some(Format::Form | Format::CloudEventsBinary) => {
            "batches are for \"standard\", \"cloudevents\" and \"ndjson\""
        }
        Some(Format::Text) if !has_payload => "payload in `batch`, jq over the array of events, makes one text of them",
        Some(Format::CloudEvents | Format::NdJson) if has_payload => {
            "payload in `batch` is for \"standard\" and \"text\": there it makes the whole body"
        }
        _ => return Some((Batch { max: usize::try_from(max?).ok()?, wait: wait? }, optional(payload)?)),
    };
    let why = if has_payload && matches!(format, Some(Format::CloudEvents | Format::NdJson)) {
        "the body of this `format` is not jq's to make"
    } else {
        "a request of this `format` holds one event"
    };
    item.error(format!("`{}`: {why}", item.path)).help(help.into()).report();
    None
}

/// `down`, `taken` and `refused`: no status is in two of them.
fn read_meanings(table: &mut Table<'_>) -> Option<(Vec<u16>, Vec<u16>, Vec<u16>)> {
    let mut known: BTreeMap<u16, &str> = BTreeMap::new();
    let mut read = |key: &'static str| {
        let Some(item) = table.take(key) else { return Some(Vec::new()) };
        let statuses = read_statuses(&item)?;
        for status in &statuses {
            if let Some(other) = known.insert(*status, key).filter(|other| *other != key) {
                item.error(format!("`{}` holds {status}, which `retry.{other}` holds too", item.path))
                    .help("a status means one thing: leave it in one of the lists".into())
                    .report();
                return None;
            }
        }
        Some(statuses)
    };
    // All of them are read, so that each mistake is told.
    let (down, taken, refused) = (read("down"), read("taken"), read("refused"));
    Some((down?, taken?, refused?))
}

impl Retry {
    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let schedule = table.take("schedule").map_or(Some(RETRY_SCHEDULE.to_vec()), |i| {
            let all: Option<Vec<Duration>> = i.items()?.iter().map(|i| i.some_duration()).collect();
            if all.as_ref().is_some_and(Vec::is_empty) {
                i.error(format!("`{}` is empty", i.path)).help("for example [\"5s\", \"5m\", \"1h\"]".into()).report();
                return None;
            }
            all
        });
        let disable_after = table.take("disable-after").map_or(Some(DISABLE_AFTER), |i| i.some_duration());
        let probe_max = table.take("probe-max").map_or(Some(PROBE_MAX), |i| i.some_duration());
        let wait = table.take("wait").map(|i| i.expr());
        let (down, taken, refused) = read_meanings(&mut table)?;
        table.finish();
        let answers = Answers { fail: None, wait: optional(wait)?, down, taken, refused };
        Some(Self { schedule: schedule?, probe_max: probe_max?, disable_after: disable_after?, answers })
    }
}
