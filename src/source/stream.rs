//! What sources share that stay connected, `websocket` and `sse`: a poll takes what arrived since the last one. Records are
//! upserted, and absence means nothing.
//!
//! The connection belongs to the bridge's memo and ends with it. Between polls its task reads into a buffer with a cap of
//! messages and of bytes; when that is full it reads no more, and the server has to wait.

mod buffer;
mod end;
mod live;

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::{Answer, Ask, Error, ErrorKind, Fetched, http::excerpt, transport::Transport};
use crate::{
    auth::{self, Learned, Used, With},
    compute::compute,
    decode::{self, Decoder, Page},
    expr::Expr,
    http::{Client, Request, hint, origin},
    model::{Hash, Validators},
    settings::{
        Item,
        key::{Form, Shape, keys},
        units,
    },
};
pub use buffer::{Buffer, MESSAGES_MAX, len};
pub use end::End;
pub use live::{Connection, Live};
use {buffer::Arrived, end::Next, live::page};

/// The interval in which messages are committed.
pub const EVERY: Duration = Duration::from_secs(1);
/// The very first poll gathers for so long: what a server sends on subscription is the baseline. After a short life a connection
/// has to last so long: a server that closes right after the subscription is no success.
const FIRST_GATHER: Duration = Duration::from_secs(1);
/// A longer baseline is gathered over several polls: so many answers of another source may have.
const BASELINE_TIMES: u64 = 8;

keys! {
    /// What a source has that stays connected.
    mod streamed;
    /// What counts as known when the bridge is new, with `first-poll = "baseline"`: what comes within this time after the connection,
    /// or jq: what comes up to the message for which it holds. That message has to come within `deadline`.
    or BASELINE: Baseline = "baseline",
        Form::shown_by(Shape::OneOf(&[Shape::Duration, Shape::Expr]), Baseline::read, Baseline::show),
        Baseline::default;
}

/// How a message becomes a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub decode: Option<Decoder>,
    pub depth_max: usize,
}

/// A source that stays connected.
pub trait Connects: Sync {
    fn transport(&self) -> &Transport;
    fn reading(&self) -> &Reading;
    fn baseline(&self) -> &Baseline;

    /// Opens a connection, and subscribes. One that the server ended meanwhile has its end.
    fn subscribe(&self, ask: &Ask<'_>, url: Url) -> impl Future<Output = Result<Connection, Error>> + Send;
}

/// What there is for a poll.
enum Taken {
    Nothing { wait: Option<Duration> },
    Messages { bodies: Vec<Bytes>, fresh: bool },
}

/// What counts as known when a bridge is new.
#[derive(Debug, Clone, PartialEq)]
pub enum Baseline {
    For(Duration),
    /// Up to the message for which this holds.
    Until(Expr),
}

/// What arrived since the last poll; connects where there is no connection.
pub async fn fetch(source: &impl Connects, ask: Ask<'_>, url: Url) -> Result<Fetched, Error> {
    let mut live = std::mem::take(&mut ask.memo.live);
    let shown = origin(&url);
    let taken = take(source, &ask, &mut live, url, &shown).await;
    ask.memo.live = live;
    let bodies = match taken? {
        Taken::Nothing { wait } => return Ok(Fetched::NotModified { hint: wait }),
        Taken::Messages { bodies, fresh } if bodies.is_empty() && !fresh => {
            return Ok(Fetched::NotModified { hint: None });
        }
        Taken::Messages { bodies, .. } => bodies,
    };
    for body in &bodies {
        // They were in memory already: the budget learns of it, and cannot refuse.
        ask.share.take(u64::try_from(body.len()).unwrap_or(u64::MAX));
    }
    Ok(Fetched::Pages(Answer {
        pages: bodies.into_iter().map(|body| page(&shown, body)).collect(),
        validators: Validators::default(),
        hint: None,
        date: None,
        meta: json!({ "at": ask.clock.now().to_string() }),
        said: None,
    }))
}

/// What there is.
async fn take(source: &impl Connects, ask: &Ask<'_>, live: &mut Live, url: Url, shown: &str) -> Result<Taken, Error> {
    let is_first = ask.previous.is_none();
    let mut fresh = false;
    loop {
        let gather = if live.failed > 0 || live.logged_in_again {
            FIRST_GATHER
        } else if is_first {
            source.baseline().first_gather()
        } else {
            Duration::ZERO
        };
        let connection = match &mut live.connection {
            Some(connection) => connection,
            none => {
                let connection = none.insert(connect(source, ask, url.clone()).await?);
                fresh = true;
                sleep(gather).await;
                connection
            }
        };
        // In this order: what comes last comes before the end.
        let is_over = connection.arrived.is_closed();
        let arrived = connection.drain();
        connection.look(source.reading(), &ask.count, shown, &arrived).await?;
        if !is_over || !connection.later.is_empty() || connection.standing.fruitful && !arrived.is_empty() {
            let taken = messages_of(source, connection, is_first, fresh, arrived, shown).await;
            if matches!(&taken, Err(Error { kind: ErrorKind::Closed { .. }, .. })) {
                live.hang_up();
            }
            return taken;
        }
        let (end, life) = (connection.end(), connection.life());
        let used = live.connection.take().map(|connection| connection.used).unwrap_or_default();
        if end.is_refusal() {
            auth::refused(&source.transport().auth, &used, ask.vault).await;
        }
        match live.judge(&end, life) {
            Next::Now | Next::LogIn => tracing::debug!(origin = shown, why = end.why, "connecting again"),
            Next::Wait(wait) => return Ok(Taken::Nothing { wait: Some(wait) }),
            Next::Failed(wait) => {
                return Err(Error {
                    kind: ErrorKind::Closed { origin: shown.to_owned(), why: end.why },
                    hint: Some(wait),
                });
            }
        }
    }
}

/// What a connection has for this poll.
async fn messages_of(
    source: &impl Connects,
    connection: &mut Connection,
    is_first: bool,
    fresh: bool,
    mut arrived: Vec<Arrived>,
    origin: &str,
) -> Result<Taken, Error> {
    if let (false, Some(cause)) = (connection.standing.understood, &connection.standing.unread) {
        return Err(ErrorKind::Unread { origin: origin.to_owned(), cause: cause.clone() }.into());
    }
    let bodies = |arrived: Vec<Arrived>| arrived.into_iter().map(|arrived| arrived.body);
    if !is_first {
        let mut all = std::mem::take(&mut connection.later);
        all.extend(bodies(arrived));
        return Ok(Taken::Messages { bodies: all, fresh });
    }
    let (known, is_over) = baseline_of(source, connection, &arrived).await?;
    connection.later.extend(bodies(arrived.split_off(known)));
    connection.gathered.extend(bodies(arrived));
    if is_over {
        let bodies = std::mem::take(&mut connection.gathered);
        return Ok(Taken::Messages { bodies, fresh: true });
    }
    let bytes: usize = connection.gathered.iter().map(Bytes::len).sum();
    let limit = source.transport().size_max.saturating_mul(BASELINE_TIMES);
    if u64::try_from(bytes).unwrap_or(u64::MAX) > limit {
        return Err(closed(origin, format!("its baseline has more than {limit} bytes (8 times `size-max`)")));
    }
    if let Baseline::Until(expr) = source.baseline()
        && connection.since.elapsed() > source.transport().deadline
    {
        let (jq, within) = (expr.text(), units::show(source.transport().deadline));
        let why = format!("no message came within {within} (`deadline`) that ends `baseline`: {jq}");
        return Err(closed(origin, why));
    }
    Ok(Taken::Nothing { wait: None })
}

/// How many of the messages are of the baseline, and whether it ends with them.
async fn baseline_of(
    source: &impl Connects,
    connection: &Connection,
    arrived: &[Arrived],
) -> Result<(usize, bool), Error> {
    let until = match source.baseline() {
        Baseline::For(time) => {
            let until = connection.since + *time;
            let known = arrived.iter().take_while(|arrived| arrived.at <= until).count();
            return Ok((known, Instant::now() >= until || known < arrived.len()));
        }
        Baseline::Until(expr) => expr.clone(),
    };
    let (reading, bodies) = (source.reading().clone(), arrived.iter().map(|a| a.body.clone()).collect::<Vec<_>>());
    let ends = move || bodies.iter().position(|body| reading.is_of(&until, body));
    let end = compute(ends).await.map_err(|e| ErrorKind::Request(format!("`baseline` panicked: {e}")))?;
    Ok(end.map_or((arrived.len(), false), |end| (end + 1, true)))
}

/// Sends the request that opens a connection, with credentials; its answer, and which of them it had.
pub async fn open(
    ask: &Ask<'_>,
    transport: &Transport,
    client: &Client,
    request: Request,
    expected: StatusCode,
) -> Result<(reqwest::Response, Vec<Used>), Error> {
    let mut with = With { client, clock: ask.clock, vault: ask.vault };
    let mut tries = 0;
    loop {
        let mut sent = request.clone();
        let used = auth::apply(&transport.auth, &mut sent, &mut with).await?;
        let turn = client.turn(&sent.url, transport.rate).await;
        let begun = client.begin(&turn, sent.clone(), transport.timeout, expected).await;
        let answer = match begun.map_err(ErrorKind::Http)? {
            Ok(response) => return Ok((response, used)),
            Err(answer) => answer,
        };
        drop(turn);
        if auth::learn(&transport.auth, &used, &sent, &answer, tries, &mut with).await != Learned::Again {
            let excerpt = Some(excerpt(&String::from_utf8_lossy(&answer.body)));
            let excerpt = excerpt.filter(|text| !text.is_empty());
            let kind = ErrorKind::Status { origin: origin(&request.url), status: answer.status, excerpt };
            return Err(Error { kind, hint: hint::wait(&answer.headers, ask.clock.now()) });
        }
        tries += 1;
    }
}

/// A connection that subscribed in time.
async fn connect(source: &impl Connects, ask: &Ask<'_>, url: Url) -> Result<Connection, Error> {
    let (origin, after) = (origin(&url), source.transport().deadline);
    let late = |_| ErrorKind::Deadline { origin, after };
    timeout(after, source.subscribe(ask, url)).await.map_err(late)?
}

/// What jq of a stream sees. A mark keeps its type: a subscription from `7` is not one from `"7"`.
pub fn input(ask: &Ask<'_>) -> Json {
    let mut input = ask.input();
    if let (Json::Object(input), Some(mark)) = (&mut input, ask.mark) {
        input.insert("mark".into(), mark.json());
    }
    input
}

/// The error of a connection that was ended here.
pub fn closed(origin: &str, why: String) -> Error {
    ErrorKind::Closed { origin: origin.to_owned(), why }.into()
}

impl Reading {
    /// Why a message cannot be read, if it cannot.
    fn unreadable(&self, page: &Page) -> Option<decode::Error> {
        let document = match decode::decode(self.decode.as_ref(), page, self.depth_max) {
            Ok(document) => document,
            Err(error) => return Some(error),
        };
        serde_json::from_slice::<serde::de::IgnoredAny>(&document).err().map(|e| decode::malformed(&e, &document))
    }

    /// What jq sees of a message: its document, and the text of what has none.
    pub fn seen(&self, message: &Bytes) -> Json {
        let page = Page { url: String::new(), content_type: None, hash: Hash::default(), body: message.clone() };
        let document = decode::decode(self.decode.as_ref(), &page, self.depth_max);
        let document = document.ok().and_then(|document| serde_json::from_slice(&document).ok());
        document.unwrap_or_else(|| Json::String(String::from_utf8_lossy(message).into_owned()))
    }

    /// Whether jq holds for a message. May wait for another process: not for an async thread.
    fn is_of(&self, expr: &Expr, message: &Bytes) -> bool {
        expr.holds(&self.seen(message)).unwrap_or(false)
    }
}

impl Default for Baseline {
    fn default() -> Self {
        Self::For(FIRST_GATHER)
    }
}

impl Baseline {
    /// No jq is a number and a unit.
    fn read(item: &Item<'_>) -> Option<Self> {
        match item.string()?.starts_with(|c: char| c.is_ascii_digit()) {
            true => item.duration().map(Self::For),
            false => item.expr().map(Self::Until),
        }
    }

    fn show(&self) -> Json {
        match self {
            Self::For(time) => units::spell(*time).into(),
            Self::Until(expr) => expr.text().into(),
        }
    }

    /// How long the first poll waits for it; the polls behind it go on.
    fn first_gather(&self) -> Duration {
        match self {
            Self::For(time) => FIRST_GATHER.min(*time),
            Self::Until(_) => FIRST_GATHER,
        }
    }
}
