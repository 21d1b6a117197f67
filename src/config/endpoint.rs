//! `[endpoint.NAME]`: where webhooks go, how they are signed, and how long they are tried.

mod body;
pub mod keys;

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, header::HeaderName};
use url::Url;

use super::bridge::Filters;
use crate::{
    auth::Auth,
    expr::Expr,
    http::{
        identity::Identity,
        is_clear,
        target::{self, HTTP},
    },
    model::Name,
    settings::{Item, Table, secret::Secret, units::Rate, value::Value},
    sign::Signer,
};
pub use body::{Batch, Format, Operational};
use body::{Body, bodies, is_plain, read_inject};
use keys::{endpoint, retry};

/// Of one kind of credentials in an attempt: a login, and another one after a 401.
const LOGINS_MAX: Duration = Duration::from_secs(60);
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

const IN_FLIGHT: usize = 8;
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const QUEUE_MAX: usize = 1_000_000;
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

/// The method of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Fixed(Method),
    /// jq over the event gives its name.
    Jq(Expr),
}

/// GET and DELETE have no body.
pub const METHODS: [(&str, Method); 5] = [
    ("POST", Method::POST),
    ("PUT", Method::PUT),
    ("PATCH", Method::PATCH),
    ("GET", Method::GET),
    ("DELETE", Method::DELETE),
];

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
#[derive(Debug, Clone)]
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
    /// What an attempt may take: the question of CloudEvents, the request, once more on a new connection, and logins.
    pub fn attempt_max(&self) -> Duration {
        let logins: Duration = self.auth.iter().filter(|auth| auth.has_token()).map(|_| LOGINS_MAX).sum();
        self.timeout * 3 + logins
    }

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
        let (was, url, enabled) = (table.get(&endpoint::WAS), table.need(&endpoint::URL), table.or(&endpoint::ENABLED));
        let (query, headers) =
            (table.get(&endpoint::QUERY).unwrap_or_default(), table.get(&endpoint::HEADERS).unwrap_or_default());
        let (has_sign, sign) = (table.has(&endpoint::SIGN), table.get(&endpoint::SIGN));
        let (body, method) = (Body::read(&mut table), table.or(&endpoint::METHOD));
        let inject = table.item(&bodies::INJECT).and_then(|item| read_inject(&item, &body)).unwrap_or_default();
        let (has_auth, auth) = (table.has(&endpoint::AUTH), table.get(&endpoint::AUTH).unwrap_or_default());
        let identity = Identity::read(&mut table, false);
        let (filters, order) = (Filters::read(&mut table), table.or(&endpoint::ORDER));
        for (header, _) in headers.iter().filter(|(name, _)| name.as_str().starts_with("webhook-")) {
            let message = format!("`{header}` in {} is bellpull's own: it says who sent what, and when", table.title());
            table.error(message).help("take another name".into()).report();
        }
        if body.coalesce && order == DeliveryOrder::None {
            let message = format!(
                "`coalesce` in {} needs an order: without one updates do not wait for each other",
                table.title()
            );
            table.error(message).help("leave out order = \"none\"".into()).report();
        }
        let (in_flight, rate, timeout) =
            (table.or(&endpoint::IN_FLIGHT), table.get(&endpoint::RATE), table.or(&endpoint::TIMEOUT));
        let Retry { schedule, probe_max, disable_after, answers } = table.get(&endpoint::RETRY).unwrap_or_default();
        let (fail, keep) = (table.get(&endpoint::FAIL), table.or(&endpoint::KEEP));
        let (queue_max, queue_full) = (table.or(&endpoint::QUEUE_MAX), table.or(&endpoint::QUEUE_FULL));
        let values = headers.iter().map(|(_, value)| value).chain(query.iter().map(|(_, value)| value)).chain(&url);
        let tells = has_auth || values.into_iter().any(Value::is_secret);
        warn_of_credentials(&table, url.as_ref(), &headers, !auth.is_empty());
        // A receiver that looks at a credential can tell too, and so can one whose URL is a secret.
        if !has_sign && !tells {
            let message = format!("[{}] has no `sign`: its receiver cannot tell who sent an event", table.path);
            let help = "sign.standard.secrets = [{ env = \"SECRET\" }]; `bellpull secret` makes one";
            table.warn_at(table.place.clone(), message, help);
        }
        if has_sign {
            body.warn_unsigned(&table);
        }
        table.finish();
        let Body { format, payload, operational, thin, body_max, batch, batch_payload, coalesce } = body;
        Some(Self {
            name: name.into(),
            was,
            url: url?,
            query,
            enabled,
            sign,
            format,
            is_plain: is_plain(&headers),
            payload,
            operational,
            thin,
            body_max,
            batch,
            batch_payload,
            coalesce,
            method,
            inject,
            headers,
            auth,
            identity,
            filters,
            order,
            in_flight,
            rate,
            timeout,
            schedule,
            probe_max,
            disable_after,
            answers: Answers { fail, ..answers },
            keep,
            queue_max,
            queue_full,
        })
    }
}

/// A method's name, or jq that gives one.
fn read_method(item: &Item<'_>) -> Option<Verb> {
    if !item.is_table() {
        return item.word(&METHODS).map(Verb::Fixed);
    }
    match item.value()? {
        Value::Jq(expr) => Some(Verb::Jq(expr)),
        _ => {
            item.error(format!("`{}` must be a method or jq", item.path)).report();
            None
        }
    }
}

fn warn_of_credentials(table: &Table<'_>, url: Option<&Value>, headers: &[(HeaderName, Value)], has_auth: bool) {
    let fixed = url.and_then(|url| url.fixed().first().and_then(|text| text.parse().ok()));
    if (has_auth || headers.iter().any(|(_, value)| value.is_secret())) && fixed.is_some_and(|url| is_clear(&url)) {
        let message = format!("[{}] sends credentials in clear, over `http`", table.path);
        table.warn_at(table.place.clone(), message, "use https");
    }
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

fn read_schedule(item: &Item<'_>) -> Option<Vec<Duration>> {
    let all: Vec<Duration> = item.items()?.iter().map(|item| item.some_duration()).collect::<Option<_>>()?;
    if all.is_empty() {
        item.error(format!("`{}` is empty", item.path)).help("for example [\"5s\", \"5m\", \"1h\"]".into()).report();
        return None;
    }
    Some(all)
}

/// `down`, `taken` and `refused`: no status is in two of them.
fn read_meanings(table: &mut Table<'_>) -> [Vec<u16>; 3] {
    let mut known: BTreeMap<u16, &str> = BTreeMap::new();
    [&retry::DOWN, &retry::TAKEN, &retry::REFUSED].map(|key| {
        let Some(item) = table.item(key) else { return Vec::new() };
        let statuses = key.read(&item).unwrap_or_default();
        for status in &statuses {
            if let Some(other) = known.insert(*status, key.name).filter(|other| *other != key.name) {
                item.error(format!("`{}` holds {status}, which `retry.{other}` holds too", item.path))
                    .help("a status means one thing: leave it in one of the lists".into())
                    .report();
            }
        }
        statuses
    })
}

impl Retry {
    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let (schedule, probe_max) = (table.or(&retry::SCHEDULE), table.or(&retry::PROBE_MAX));
        let (disable_after, wait) = (table.or(&retry::DISABLE_AFTER), table.get(&retry::WAIT));
        let [down, taken, refused] = read_meanings(&mut table);
        table.finish();
        let answers = Answers { fail: None, wait, down, taken, refused };
        Some(Self { schedule, probe_max, disable_after, answers })
    }
}

/// Warns where none of the endpoints that alarms go to can make something of them.
pub fn warn_if_none_hears(item: &Item<'_>, key: &str, to: &[&Name], endpoints: &BTreeMap<Name, Option<Endpoint>>) {
    let known: Vec<&Endpoint> = to.iter().filter_map(|name| endpoints.get(*name)?.as_ref()).collect();
    let Some(first) = to.first().filter(|_| known.len() == to.len()) else { return };
    if known.iter().any(|endpoint| endpoint.hears_alarms()) {
        return;
    }
    let message = if known.iter().any(|endpoint| endpoint.takes_alarms()) {
        format!(
            "{key} names only endpoints that have a `payload`: its alarms do not pass it, and a receiver that needs it \
             refuses them"
        )
    } else {
        format!("{key} names only endpoints with `operational = false`: nobody hears of its alarms")
    };
    let help = format!(
        "endpoint.{first}.operational.payload = '{{ text: .type }}', or an endpoint in `alert.to` that takes standard events"
    );
    item.warn(message, &help);
}
