//! `source.websocket`: a connection that stays. A poll takes what arrived since the last one; records are upserted, and
//! absence means nothing.
//!
//! The connection belongs to the bridge's memo and ends with it. Between polls its task reads into a buffer with a cap of
//! messages and of bytes; when that is full it reads no more, and the server has to wait. What is said beside records is decided
//! in `talk`; `line` speaks it.

mod line;
mod live;
pub mod talk;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{
        CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use serde_json::{Value as Json, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    Answer, Ask, Error, ErrorKind, Fetched,
    http::excerpt,
    transport::{Over, Transport, headed, requests, timed},
};
use crate::{
    auth::{self, Auth, Learned, Used, With},
    compute::compute,
    decode::{self, Decoder},
    expr::Expr,
    http::{
        Request, hint,
        identity::Version,
        origin,
        target::{made_url, read_url},
    },
    model::Validators,
    settings::{Item, Table, fingerprint::Fingerprint, key::keys, units, value::Value},
};
use line::{Arrived, Line, MESSAGES_MAX, Reader, Room, Stream};
pub use live::Live;
use live::{Connection, Standing, page};
use talk::{End, Message, Next, Reply, Said, Talk};

/// The interval in which messages are committed.
pub const EVERY: Duration = Duration::from_secs(1);
/// A proxy in between forgets a silent connection after a minute or so.
const PING: Duration = Duration::from_secs(30);
/// The very first poll gathers for so long: what a server sends on subscription is the baseline. After a short life a connection
/// has to last so long: a server that closes right after the subscription is no success.
const FIRST_GATHER: Duration = Duration::from_secs(1);
/// A longer baseline is gathered over several polls: so many answers of another source may have.
const BASELINE_TIMES: u64 = 8;

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    url: Value,
    subprotocols: Vec<String>,
    /// What is sent after each connection.
    send: Vec<Said>,
    talk: Arc<Talk>,
    ping: Ping,
    baseline: Baseline,
    /// jq over each message: how far it was read.
    pub resume: Option<Expr>,
    pub transport: Transport,
}

/// How a connection is kept alive.
#[derive(Debug, Clone, PartialEq)]
struct Ping {
    /// Pings of the protocol.
    every: Duration,
    /// A message at an interval of its own.
    beat: Option<(Duration, Message)>,
}

/// What counts as known when a bridge is new.
#[derive(Debug, Clone, PartialEq)]
enum Baseline {
    For(Duration),
    /// Up to the message for which this holds.
    Until(Expr),
}

/// What there is for a poll.
enum Taken {
    Nothing { wait: Option<Duration> },
    Messages { bodies: Vec<Bytes>, fresh: bool },
}

keys! {
    /// A connection that stays.
    mod websocket;
    /// A value; `ws://` or `wss://`.
    need URL: Value = "url", Form::new(Shape::Value, |item| read_url(item, &["ws", "wss"])),
        "url = \"wss://stream.example.com/orders\"";
    /// Subprotocols that are offered, such as `["graphql-transport-ws"]`. If the server chooses another one, the connection fails.
    or SUBPROTOCOLS: Vec<String> = "subprotocols",
        Form::shown_by(Shape::List(&Shape::Text), read_subprotocols, |all| all.as_slice().into()), Vec::new;
    /// Messages to send after each connection, one after the other: values as text, tables as JSON. A table of exactly `message` and
    /// `after` waits for a message of the server.
    or SEND: Vec<Said> = "send",
        Form::shown_by(
            Shape::List(&Shape::OneOf(&[Shape::Table(&talk::awaited::FAMILY), Shape::Any])),
            |item| read_all(item, Said::read),
            |_| Json::Array(Vec::new()),
        ),
        Vec::new;
    /// Messages of the server that are a part of the conversation: the first entry that holds answers, and the message holds no
    /// records.
    or ANSWER: Vec<Reply> = "answer",
        Form::shown_by(
            Shape::List(&Shape::Table(&talk::reply::FAMILY)),
            |item| read_all(item, Reply::read),
            |_| Json::Array(Vec::new()),
        ),
        Vec::new;
    /// A ping of the protocol at this interval; if nothing came since the last one, the connection is given up. Or a table: a message
    /// at an interval, beside pings of the protocol every 30 s.
    or PING: Ping = "ping",
        Form::shown_by(
            Shape::OneOf(&[Shape::Duration, Shape::Table(&beat::FAMILY)]),
            Ping::read,
            |ping| units::spell(ping.every).into(),
        ),
        Ping::default;
    /// What counts as known when the bridge is new, with `first-poll = "baseline"`: what comes within this time after the connection,
    /// or jq: what comes up to the message for which it holds. That message has to come within `deadline`.
    or BASELINE: Baseline = "baseline",
        Form::shown_by(Shape::OneOf(&[Shape::Duration, Shape::Expr]), Baseline::read, Baseline::show),
        Baseline::default;
    /// What stands between the messages of a frame, such as `"\n"`, or `"\u001e"` for SignalR.
    maybe SPLIT: String = "split", Form::new(Shape::Text, read_split), "a frame is one message";
    /// How a message becomes a document: [below](#decode). A binary message that is packed with gzip or zlib is unpacked first.
    maybe DECODE: Decoder = "decode", decode::DECODER, "JSON";
    /// jq over each message that holds records: how far it was read, such as `.sequence`; null moves nothing. The last one is committed
    /// with the records, and jq in `send` and `url` sees it as `.mark`, in its own type, which is null before there is one. If a poll
    /// cannot be committed, the connection is opened again at the mark.
    get RESUME: Expr = "resume", EXPR;
    + headed::FAMILY;
    + timed::FAMILY;
    + requests::FAMILY;
}

keys! {
    /// A message at an interval.
    mod beat;
    /// The interval.
    need EVERY: Duration = "every", SOME_DURATION, "every = \"20s\"";
    /// What is sent, as in `send`.
    need MESSAGE: Message = "message", Form::new(Shape::Any, Message::read), "message = { op = \"ping\" }";
}

impl Source {
    /// Reads `[bridge.NAME.source.websocket]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let place = table.key_place(&websocket::SUBPROTOCOLS);
        let (url, subprotocols) = (table.need(&websocket::URL), table.or(&websocket::SUBPROTOCOLS));
        let (send, replies) = (table.or(&websocket::SEND), table.or(&websocket::ANSWER));
        let (ping, baseline) = (table.or(&websocket::PING), table.or(&websocket::BASELINE));
        let (split, decode, resume) =
            (table.get(&websocket::SPLIT), table.get(&websocket::DECODE), table.get(&websocket::RESUME));
        let transport = Transport::read(&mut table, &headed::HEADERS, Over::Websocket);
        if let Some(place) = place
            && transport.headers.iter().any(|(name, _)| *name == SEC_WEBSOCKET_PROTOCOL)
        {
            let message = format!("`subprotocols` in {} stands beside the header of that name", table.title());
            table.error_at(place, message).help("leave the header out".into()).report();
        }
        if said(&send, &replies, &ping).any(Message::needs_token) && !transport.auth.iter().any(Auth::has_token) {
            table
                .error(format!("`{{ token = true }}` in {} is the token of a login, and there is none", table.title()))
                .help("give it `auth.oauth2`, `auth.jwt` or `auth.session`".into())
                .report();
        }
        table.finish();
        let talk = Talk { replies, decode, split, depth_max: transport.depth_max }.into();
        Some(Self { url: url?, subprotocols, send, talk, ping, baseline, resume, transport })
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("websocket.url", &self.url);
        text.put_all("headers", &self.transport.headers);
        self.subprotocols.iter().for_each(|name| text.put("subprotocol", name.as_str()));
        self.send.iter().for_each(|said| said.define(text));
        self.talk.replies.iter().for_each(|reply| reply.define(text));
        text.put_some("split", self.talk.split.as_deref());
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        let send: Vec<String> = self.send.iter().map(Said::definition_0_1).collect();
        format!("websocket {:?} {:?} [{}]", self.url, self.transport.headers, send.join(", "))
    }

    pub fn decoder(&self) -> Option<Decoder> {
        self.talk.decode.clone()
    }

    pub fn describe(&self) -> String {
        match &self.url {
            Value::Literal(url) => format!("WebSocket {url}"),
            _ => "WebSocket (a URL that is secret or made by jq)".into(),
        }
    }

    pub fn has_credentials(&self) -> bool {
        let said = said(&self.send, &self.talk.replies, &self.ping);
        self.transport.has_credentials(said.flat_map(Message::values).chain([&self.url]))
    }

    /// What arrived since the last poll; connects where there is no connection.
    pub async fn fetch(&self, ask: Ask<'_>) -> Result<Fetched, Error> {
        let mut live = std::mem::take(&mut ask.memo.live);
        let result = self.take(&ask, &mut live).await;
        ask.memo.live = live;
        let (url, taken) = result?;
        let bodies = match taken {
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
            pages: bodies.into_iter().map(|body| page(&url, body)).collect(),
            validators: Validators::default(),
            hint: None,
            date: None,
            meta: json!({ "at": ask.clock.now().to_string() }),
            said: None,
        }))
    }

    /// The messages, and where they are from.
    async fn take(&self, ask: &Ask<'_>, live: &mut Live) -> Result<(String, Taken), Error> {
        let url = self.target(ask).await?;
        let shown = origin(&url);
        let is_first = ask.previous.is_none();
        let mut fresh = false;
        loop {
            let gather = if live.failed > 0 || live.logged_in_again {
                FIRST_GATHER
            } else if is_first {
                self.baseline.first_gather()
            } else {
                Duration::ZERO
            };
            let connection = match &mut live.connection {
                Some(connection) => connection,
                none => {
                    let connection = none.insert(self.connect(ask, url.clone()).await?);
                    fresh = true;
                    sleep(gather).await;
                    connection
                }
            };
            // In this order: what comes last comes before the end.
            let is_over = connection.arrived.is_closed();
            let arrived = connection.drain();
            connection.look(&self.talk, &ask.count, &shown, &arrived).await?;
            if !is_over || !connection.later.is_empty() || connection.standing.fruitful && !arrived.is_empty() {
                let taken = self.messages_of(connection, is_first, fresh, arrived, &shown).await;
                if matches!(&taken, Err(Error { kind: ErrorKind::Closed { .. }, .. })) {
                    live.hang_up();
                }
                return taken.map(|taken| (shown, taken));
            }
            let (end, life) = (connection.end(), connection.life());
            let used = live.connection.take().map(|connection| connection.used).unwrap_or_default();
            if end.is_refusal() {
                auth::refused(&self.transport.auth, &used, ask.vault).await;
            }
            match live.judge(&end, life) {
                Next::Now | Next::LogIn => tracing::debug!(origin = shown, why = end.why, "connecting again"),
                Next::Wait(wait) => return Ok((shown, Taken::Nothing { wait: Some(wait) })),
                Next::Failed(wait) => {
                    return Err(Error { kind: ErrorKind::Closed { origin: shown, why: end.why }, hint: Some(wait) });
                }
            }
        }
    }

    /// What a connection has for this poll.
    async fn messages_of(
        &self,
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
        let (known, is_over) = self.baseline(connection, &arrived).await?;
        connection.later.extend(bodies(arrived.split_off(known)));
        connection.gathered.extend(bodies(arrived));
        if is_over {
            let bodies = std::mem::take(&mut connection.gathered);
            return Ok(Taken::Messages { bodies, fresh: true });
        }
        let bytes: usize = connection.gathered.iter().map(Bytes::len).sum();
        let limit = self.transport.size_max.saturating_mul(BASELINE_TIMES);
        if u64::try_from(bytes).unwrap_or(u64::MAX) > limit {
            return Err(closed(origin, format!("its baseline has more than {limit} bytes (8 times `size-max`)")));
        }
        if let Baseline::Until(expr) = &self.baseline
            && connection.since.elapsed() > self.transport.deadline
        {
            let (jq, within) = (expr.text(), units::show(self.transport.deadline));
            let why = format!("no message came within {within} (`deadline`) that ends `baseline`: {jq}");
            return Err(closed(origin, why));
        }
        Ok(Taken::Nothing { wait: None })
    }

    /// How many of the messages are of the baseline, and whether it ends with them.
    async fn baseline(&self, connection: &Connection, arrived: &[Arrived]) -> Result<(usize, bool), Error> {
        let until = match &self.baseline {
            Baseline::For(time) => {
                let until = connection.since + *time;
                let known = arrived.iter().take_while(|arrived| arrived.at <= until).count();
                return Ok((known, Instant::now() >= until || known < arrived.len()));
            }
            Baseline::Until(expr) => expr.clone(),
        };
        let (talk, bodies) = (self.talk.clone(), arrived.iter().map(|a| a.body.clone()).collect::<Vec<_>>());
        let ends = move || bodies.iter().position(|body| talk.is_of(&until, body));
        let end = compute(ends).await.map_err(|e| ErrorKind::Request(format!("`baseline` panicked: {e}")))?;
        Ok(end.map_or((arrived.len(), false), |end| (end + 1, true)))
    }

    /// The URL as HTTP knows it.
    async fn target(&self, ask: &Ask<'_>) -> Result<Url, Error> {
        let text = self.url.resolve(&input(ask)).await.map_err(ErrorKind::Expr)?.into_iter().next();
        let text = text.ok_or_else(|| ErrorKind::Request("`url` gives nothing".into()))?;
        let http = text.strip_prefix("ws").map(|rest| format!("http{rest}")).and_then(|url| url.parse().ok());
        if !self.url.is_constant() {
            made_url(&text).map_err(|e| ErrorKind::Request(format!("`url`: {e}")))?;
        }
        http.ok_or_else(|| ErrorKind::Request("`url` gives no ws:// or wss:// URL".into()).into())
    }

    /// Opens the connection, and subscribes. One that the server ended meanwhile has its end.
    async fn connect(&self, ask: &Ask<'_>, url: Url) -> Result<Connection, Error> {
        let from = origin(&url);
        let late = |_| ErrorKind::Deadline { origin: from.clone(), after: self.transport.deadline };
        timeout(self.transport.deadline, self.subscribe(ask, url)).await.map_err(late)?
    }

    async fn subscribe(&self, ask: &Ask<'_>, url: Url) -> Result<Connection, Error> {
        let (stream, used) = self.open(ask, url).await?;
        let Transport { timeout, size_max, .. } = self.transport;
        let token = auth::token(&used).cloned();
        let mut line = Line { stream, talk: self.talk.clone(), token, timeout, size_max };
        let mut first = Vec::new();
        let subscribed = self.say_all(ask, &mut line, &mut first).await;
        let since = Instant::now();
        let (into, arrived) = mpsc::channel(MESSAGES_MAX);
        let (ended, stop) = (Arc::new(Mutex::new(None)), CancellationToken::new());
        let (Ping { every, beat }, input) = (self.ping.clone(), input(ask));
        let room = Room::new(size_max);
        let reader = Reader { line, first, into, room, ping: every, beat, input, clock: ask.clock.clone() };
        match subscribed {
            Ok(()) => {
                let (why, until) = (ended.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut reader = reader;
                    tokio::select! {
                        () = until.cancelled() => {}
                        // Before the channel is closed.
                        end = reader.run() => *why.lock().expect("no thread panics with it") = Some(end),
                    }
                });
            }
            Err(end) => *ended.lock().expect("no thread panics with it") = Some(end),
        }
        Ok(Connection {
            arrived,
            ended,
            since,
            used,
            standing: Standing::default(),
            gathered: Vec::new(),
            later: Vec::new(),
            _task: stop.drop_guard(),
        })
    }

    /// Sends the messages of the subscription, each when it is its turn.
    async fn say_all(&self, ask: &Ask<'_>, line: &mut Line, kept: &mut Vec<Bytes>) -> Result<(), End> {
        for said in &self.send {
            let mut input = input(ask);
            if let Some(after) = &said.after {
                let awaited = line.wait_for(after, kept).await?;
                if let Json::Object(input) = &mut input {
                    input.insert("message".into(), awaited);
                }
            }
            line.say(&said.message, input).await?;
        }
        Ok(())
    }

    /// The handshake (RFC 6455, section 4.1).
    async fn open(&self, ask: &Ask<'_>, url: Url) -> Result<(Stream, Vec<Used>), Error> {
        let (transport, key) = (&self.transport, generate_key());
        let mut headers = HeaderMap::new();
        transport.put_headers(&ask.input(), &mut headers).await?;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = HeaderValue::from_str(&key).map_err(|e| ErrorKind::Request(e.to_string()))?;
        headers.insert(SEC_WEBSOCKET_KEY, value);
        if !self.subprotocols.is_empty() {
            let offered = HeaderValue::from_str(&self.subprotocols.join(", "));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.map_err(|e| ErrorKind::Request(e.to_string()))?);
        }
        let request = Request { method: Method::GET, url, headers, body: None };
        let from = origin(&request.url);
        let client = ask.client.identified(&transport.identity.with(Version::One)).map_err(ErrorKind::Request)?;
        let mut with = With { client: &client, clock: ask.clock, vault: ask.vault };
        let mut tries = 0;
        let (headers, upgraded, used) = loop {
            let mut sent = request.clone();
            let used = auth::apply(&transport.auth, &mut sent, &mut with).await?;
            let turn = client.turn(&sent.url, transport.rate).await;
            let switched = client.upgrade(&turn, sent.clone(), transport.timeout).await.map_err(ErrorKind::Http)?;
            let answer = match switched {
                Ok((headers, upgraded)) => break (headers, upgraded, used),
                Err(answer) => answer,
            };
            drop(turn);
            if auth::learn(&transport.auth, &used, &sent, &answer, tries, &mut with).await != Learned::Again {
                let excerpt = Some(excerpt(&String::from_utf8_lossy(&answer.body)));
                let excerpt = excerpt.filter(|text| !text.is_empty());
                let kind = ErrorKind::Status { origin: from, status: answer.status, excerpt };
                return Err(Error { kind, hint: hint::wait(&answer.headers, ask.clock.now()) });
            }
            tries += 1;
        };
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| *accept != derive_accept_key(key.as_bytes())) {
            return Err(closed(&from, "its handshake has a wrong Sec-WebSocket-Accept".into()));
        }
        self.check_subprotocol(&from, &headers)?;
        let size = usize::try_from(transport.size_max).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default().max_message_size(Some(size)).max_frame_size(Some(size));
        Ok((WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await, used))
    }

    /// A server may choose none of those that are offered (RFC 6455, section 4.2.2), and no other one.
    fn check_subprotocol(&self, from: &str, headers: &HeaderMap) -> Result<(), Error> {
        let Some(chosen) = headers.get(SEC_WEBSOCKET_PROTOCOL) else { return Ok(()) };
        let chosen = String::from_utf8_lossy(chosen.as_bytes());
        if self.subprotocols.is_empty() || self.subprotocols.iter().any(|offered| *offered == chosen.trim()) {
            return Ok(());
        }
        let chosen = excerpt(&chosen);
        Err(closed(from, format!("its handshake chose the subprotocol {chosen:?}, which is not one of `subprotocols`")))
    }
}

impl Default for Ping {
    fn default() -> Self {
        Self { every: PING, beat: None }
    }
}

impl Ping {
    fn read(item: &Item<'_>) -> Option<Self> {
        if !item.is_table() {
            return item.some_duration().map(|every| Self { every, beat: None });
        }
        let mut table = item.table()?;
        let (every, message) = (table.need(&beat::EVERY), table.need(&beat::MESSAGE));
        table.finish();
        Some(Self { every: PING, beat: Some((every?, message?)) })
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

/// All that may be said.
fn said<'s>(send: &'s [Said], replies: &'s [Reply], ping: &'s Ping) -> impl Iterator<Item = &'s Message> {
    let beat = ping.beat.iter().map(|(_, message)| message);
    send.iter().map(|said| &said.message).chain(replies.iter().filter_map(Reply::message)).chain(beat)
}

fn read_all<T>(item: &Item<'_>, read: fn(&Item<'_>) -> Option<T>) -> Option<Vec<T>> {
    let all: Vec<Option<T>> = item.items()?.iter().map(read).collect();
    all.into_iter().collect()
}

/// A token of HTTP each (RFC 6455, section 4.1).
fn read_subprotocols(item: &Item<'_>) -> Option<Vec<String>> {
    let is_token = |text: &&str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let read = |item: &Item<'_>| {
        let text = item.string()?;
        if !is_token(&text) {
            item.error(format!("`{}`: {text:?} is not the name of a subprotocol", item.path))
                .help("for example \"graphql-transport-ws\"".into())
                .report();
            return None;
        }
        Some(text.to_owned())
    };
    item.items()?.iter().map(read).collect()
}

fn read_split(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    if text.is_empty() {
        item.error(format!("`{}` is empty: it separates nothing", item.path)).report();
        return None;
    }
    Some(text.to_owned())
}

/// What jq sees. A mark keeps its type: a subscription from `7` is not one from `"7"`.
fn input(ask: &Ask<'_>) -> Json {
    let mut input = ask.input();
    if let (Json::Object(input), Some(mark)) = (&mut input, ask.mark) {
        input.insert("mark".into(), mark.json());
    }
    input
}

fn closed(origin: &str, why: String) -> Error {
    ErrorKind::Closed { origin: origin.to_owned(), why }.into()
}
