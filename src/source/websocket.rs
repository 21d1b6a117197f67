//! `source.websocket`: a connection that stays. A poll takes what arrived since the last one; records are upserted, and
//! absence means nothing.
//!
//! The connection belongs to the bridge's memo and ends with it. Between polls its task reads into a buffer with a cap of
//! messages and of bytes; when that is full it reads no more, and the server has to wait.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reqwest::{
    Method,
    header::{
        CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use serde_json::{Value as Json, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::{
    Answer, Ask, Error, ErrorKind, Fetched,
    http::excerpt,
    transport::{Over, Transport, headed, requests, timed},
};
use crate::{
    auth::{self, Learned, With},
    decode::Page,
    http::{
        Request,
        identity::Version,
        origin,
        target::{made_url, read_url},
    },
    model::{Hash, Validators},
    settings::{Item, Table, fingerprint::Fingerprint, key::keys, value::Value},
    telemetry::{LeftOut, Seldom},
};

/// The interval in which messages are committed.
pub const EVERY: Duration = Duration::from_secs(1);
/// A proxy in between forgets a silent connection after a minute or so.
const PING: Duration = Duration::from_secs(30);
/// Messages that may wait for the next poll.
const MESSAGES_MAX: usize = 4096;
/// The very first poll gathers for so long: what a server sends on subscription is the baseline.
const FIRST_GATHER: Duration = Duration::from_secs(1);
/// A connection that ended sooner than this counts as failed: the next one waits.
const LIVED_MIN: Duration = Duration::from_secs(60);
/// The first such wait; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// The unit of the buffer's bytes; a semaphore counts 32 bits.
const UNIT_BYTES: u64 = 1024;

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    url: Value,
    /// What is sent after each connection.
    send: Vec<Sent>,
    ping: Duration,
    pub transport: Transport,
}

#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Text(Value),
    Json(Json),
}

/// What lives between polls.
#[derive(Debug, Default)]
pub struct Live {
    connection: Option<Connection>,
    /// Connections in a row that ended soon.
    short_lived: u32,
}

#[derive(Debug)]
struct Connection {
    arrived: mpsc::Receiver<Arrived>,
    /// Why it ended, once the channel is closed.
    ended: Arc<Mutex<Option<String>>>,
    since: Instant,
    /// Ends the task.
    _task: DropGuard,
}

/// A message, and its part of the buffer.
#[derive(Debug)]
struct Arrived {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Live {
    /// The error of a connection that ended soon; the next one waits longer each time.
    fn ended_soon(&mut self, origin: String, why: String) -> Error {
        let hint = BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(self.short_lived)).min(BACKOFF_MAX);
        self.short_lived = self.short_lived.saturating_add(1);
        Error { kind: ErrorKind::Closed { origin, why }, hint: Some(hint) }
    }
}

type Stream = WebSocketStream<reqwest::Upgraded>;

keys! {
    /// A connection that stays.
    mod websocket;
    /// A value; `ws://` or `wss://`.
    need URL: Value = "url", Form::new(Shape::Value, |item| read_url(item, &["ws", "wss"])),
        "url = \"wss://stream.example.com/orders\"";
    /// Messages to send after each connection: values as text, tables as JSON.
    or SEND: Vec<Sent> = "send",
        Form::shown_by(
            Shape::List(&Shape::Any),
            |item| item.items()?.iter().map(read_sent).collect(),
            |_| Json::Array(Vec::new()),
        ),
        Vec::new;
    /// A ping at this interval; if nothing came since the last one, the connection is given up.
    or PING: Duration = "ping", SOME_DURATION, || super::PING;
    + headed::FAMILY;
    + timed::FAMILY;
    + requests::FAMILY;
}

impl Source {
    /// Reads `[bridge.NAME.source.websocket]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let (url, send, ping) = (table.need(&websocket::URL), table.or(&websocket::SEND), table.or(&websocket::PING));
        let transport = Transport::read(&mut table, &headed::HEADERS, Over::Websocket);
        table.finish();
        Some(Self { url: url?, send, ping, transport })
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("websocket.url", &self.url);
        text.put_all("headers", &self.transport.headers);
        for sent in &self.send {
            match sent {
                Sent::Text(value) => text.put("send", value),
                Sent::Json(json) => text.put("send.json", json.clone()),
            }
        }
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        format!("websocket {:?} {:?} {:?}", self.url, self.transport.headers, self.send)
    }

    pub fn describe(&self) -> String {
        match &self.url {
            Value::Literal(url) => format!("WebSocket {url}"),
            _ => "WebSocket (a URL that is secret or made by jq)".into(),
        }
    }

    pub fn has_credentials(&self) -> bool {
        let sent = self.send.iter().filter_map(|sent| match sent {
            Sent::Text(value) => Some(value),
            Sent::Json(_) => None,
        });
        self.transport.has_credentials(sent.chain([&self.url]))
    }

    /// What arrived since the last poll; connects where there is no connection.
    pub async fn fetch(&self, ask: Ask<'_>) -> Result<Fetched, Error> {
        let mut live = std::mem::take(&mut ask.memo.live);
        let result = self.take(&ask, &mut live).await;
        ask.memo.live = live;
        let (url, bodies, fresh) = result?;
        if bodies.is_empty() && !fresh {
            return Ok(Fetched::NotModified { hint: None });
        }
        for body in &bodies {
            // They were in memory already: the budget learns of it, and cannot refuse.
            ask.share.take(u64::try_from(body.len()).unwrap_or(u64::MAX));
        }
        let page = |body: Bytes| Page { url: url.clone(), content_type: None, hash: Hash::of(&body), body };
        Ok(Fetched::Pages(Answer {
            pages: bodies.into_iter().map(page).collect(),
            validators: Validators::default(),
            hint: None,
            date: None,
            meta: json!({ "at": ask.clock.now().to_string() }),
            said: None,
        }))
    }

    /// The messages, where they are from, and whether the connection is a new one.
    async fn take(&self, ask: &Ask<'_>, live: &mut Live) -> Result<(String, Vec<Bytes>, bool), Error> {
        let url = self.target(ask).await?;
        let shown = origin(&url);
        if let Some(connection) = &mut live.connection {
            let bodies = connection.drain();
            if !bodies.is_empty() || !connection.arrived.is_closed() {
                return Ok((shown, bodies, false));
            }
            let (why, lived) = (connection.why(), connection.since.elapsed());
            live.connection = None;
            if lived < LIVED_MIN {
                return Err(live.ended_soon(shown, why));
            }
            live.short_lived = 0;
        }
        let mut connection = self.connect(ask, url).await?;
        // After a short life it has to last first: a server that closes right after the subscription is no success.
        if ask.previous.is_none() || live.short_lived > 0 {
            sleep(FIRST_GATHER).await;
        }
        let bodies = connection.drain();
        if bodies.is_empty() && connection.arrived.is_closed() {
            return Err(live.ended_soon(shown, connection.why()));
        }
        live.connection = Some(connection);
        Ok((shown, bodies, true))
    }

    /// The URL as HTTP knows it.
    async fn target(&self, ask: &Ask<'_>) -> Result<Url, Error> {
        let text = self.url.resolve(&ask.input()).await.map_err(ErrorKind::Expr)?.into_iter().next();
        let text = text.ok_or_else(|| ErrorKind::Request("`url` gives nothing".into()))?;
        let http = text.strip_prefix("ws").map(|rest| format!("http{rest}")).and_then(|url| url.parse().ok());
        if !self.url.is_constant() {
            made_url(&text).map_err(|e| ErrorKind::Request(format!("`url`: {e}")))?;
        }
        http.ok_or_else(|| ErrorKind::Request("`url` gives no ws:// or wss:// URL".into()).into())
    }

    /// Opens the connection, subscribes, and leaves it to its task.
    async fn connect(&self, ask: &Ask<'_>, url: Url) -> Result<Connection, Error> {
        let transport = &self.transport;
        let from = origin(&url);
        let late = |_| ErrorKind::Deadline { origin: from.clone(), after: transport.deadline };
        let mut stream = timeout(transport.deadline, self.open(ask, url)).await.map_err(late)??;
        let input = ask.input();
        for sent in &self.send {
            let texts = match sent {
                Sent::Text(value) => value.resolve(&input).await.map_err(ErrorKind::Expr)?,
                Sent::Json(value) => vec![value.to_string()],
            };
            for text in texts {
                let sending = timeout(transport.timeout, stream.send(Message::text(text)));
                let sent = sending.await.map_err(|_| closed(&from, "it did not take the subscription".into()))?;
                sent.map_err(|e| closed(&from, e.to_string()))?;
            }
        }
        let (into, arrived) = mpsc::channel(MESSAGES_MAX);
        let (ended, stop) = (Arc::new(Mutex::new(None)), CancellationToken::new());
        let reader = Reader { stream, into, room: self.room(), ping: self.ping, origin: from };
        let (why, until) = (ended.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                reason = reader.run() => *why.lock().expect("no thread panics with it") = Some(reason),
            }
        });
        Ok(Connection { arrived, ended, since: Instant::now(), _task: stop.drop_guard() })
    }

    /// The buffer's bytes: as many as one answer of another source may have.
    fn room(&self) -> Room {
        let units = u32::try_from(self.transport.size_max.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1);
        Room { units: Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX))), all: units }
    }

    /// The handshake (RFC 6455, section 4.1).
    async fn open(&self, ask: &Ask<'_>, url: Url) -> Result<Stream, Error> {
        let (transport, key) = (&self.transport, generate_key());
        let mut headers = HeaderMap::new();
        transport.put_headers(&ask.input(), &mut headers).await?;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = HeaderValue::from_str(&key).map_err(|e| ErrorKind::Request(e.to_string()))?;
        headers.insert(SEC_WEBSOCKET_KEY, value);
        let request = Request { method: Method::GET, url, headers, body: None };
        let from = origin(&request.url);
        let client = ask.client.identified(&transport.identity.with(Version::One)).map_err(ErrorKind::Request)?;
        let mut with = With { client: &client, clock: ask.clock, vault: ask.vault };
        let mut tries = 0;
        let (headers, upgraded) = loop {
            let mut sent = request.clone();
            let used = auth::apply(&transport.auth, &mut sent, &mut with).await?;
            let turn = client.turn(&sent.url, transport.rate).await;
            let switched = client.upgrade(&turn, sent.clone(), transport.timeout).await.map_err(ErrorKind::Http)?;
            let answer = match switched {
                Ok(switched) => break switched,
                Err(answer) => answer,
            };
            drop(turn);
            if auth::learn(&transport.auth, &used, &sent, &answer, tries, &mut with).await != Learned::Again {
                let excerpt = Some(excerpt(&String::from_utf8_lossy(&answer.body)));
                let excerpt = excerpt.filter(|text| !text.is_empty());
                return Err(ErrorKind::Status { origin: from, status: answer.status, excerpt }.into());
            }
            tries += 1;
        };
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| *accept != derive_accept_key(key.as_bytes())) {
            return Err(closed(&from, "its handshake has a wrong Sec-WebSocket-Accept".into()));
        }
        let size = usize::try_from(transport.size_max).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default().max_message_size(Some(size)).max_frame_size(Some(size));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }
}

fn read_sent(item: &Item<'_>) -> Option<Sent> {
    let is_value = !item.is_table() || item.is_secret() || item.is_made();
    if is_value { item.value().map(Sent::Text) } else { item.json().map(Sent::Json) }
}

fn closed(origin: &str, why: String) -> Error {
    ErrorKind::Closed { origin: origin.to_owned(), why }.into()
}

impl Connection {
    /// What is there now.
    fn drain(&mut self) -> Vec<Bytes> {
        let mut bodies = Vec::new();
        while let Ok(arrived) = self.arrived.try_recv() {
            bodies.push(arrived.body);
        }
        bodies
    }

    fn why(&self) -> String {
        let why = self.ended.lock().expect("no thread panics with it").take();
        why.unwrap_or_else(|| "the connection ended".into())
    }
}

struct Room {
    units: Arc<Semaphore>,
    all: u32,
}

/// Reads one connection until it ends.
struct Reader {
    stream: Stream,
    into: mpsc::Sender<Arrived>,
    room: Room,
    ping: Duration,
    /// For the log: the server's, without its path.
    origin: String,
}

impl Reader {
    /// Why it ended.
    async fn run(mut self) -> String {
        /// For all of them: each connects again and again.
        static TOLD: Mutex<Seldom> = Mutex::new(Seldom::new());
        let mut beat = interval(self.ping);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        let mut answered = true;
        let mut told = false;
        loop {
            let message = tokio::select! {
                message = self.stream.next() => message,
                _ = beat.tick() => {
                    if !answered {
                        return "it did not answer a ping".into();
                    }
                    answered = false;
                    match timeout(self.ping, self.stream.send(Message::Ping(Bytes::new()))).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => return error.to_string(),
                        Err(_) => return "it takes no more bytes".into(),
                    }
                }
            };
            let body = match message {
                None => return "the server closed the connection".into(),
                Some(Err(tungstenite::Error::Capacity(error))) => return format!("{error} (`size-max`)"),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map(|f| format!(" with {}: {}", u16::from(f.code), f.reason)).unwrap_or_default();
                    return format!("the server closed the connection{why}");
                }
                Some(Ok(message)) => {
                    // Whatever it is, the connection is alive.
                    answered = true;
                    match message {
                        Message::Text(text) => Bytes::from(text),
                        Message::Binary(bytes) => bytes,
                        _ => continue,
                    }
                }
            };
            if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
                if !std::mem::replace(&mut told, true)
                    && let Some(LeftOut(left_out)) = TOLD.lock().expect("no thread panics with it").turn()
                {
                    let origin = &self.origin;
                    tracing::warn!(
                        origin,
                        left_out,
                        "a WebSocket sends messages that are not JSON: they hold no records"
                    );
                }
                continue;
            }
            let units = u64::try_from(body.len()).unwrap_or(u64::MAX).div_ceil(UNIT_BYTES);
            let units = u32::try_from(units).unwrap_or(u32::MAX).clamp(1, self.room.all);
            // Full: nothing is read before a poll has made room. A ping is not answered meanwhile, and none is missed.
            let Ok(room) = self.room.units.clone().acquire_many_owned(units).await else {
                return "its buffer is gone".into();
            };
            if self.into.send(Arrived { body, _room: room }).await.is_err() {
                return "nobody takes its messages".into();
            }
            answered = true;
        }
    }
}
