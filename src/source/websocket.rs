//! `source.websocket`: a connection that stays. A poll takes what arrived since the last one; records are upserted, and
//! absence means nothing.
//! What is said beside records is decided in `talk`; `line` speaks it.

mod line;
pub mod talk;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method, StatusCode,
    header::{
        CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use serde_json::Value as Json;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use url::Url;

use super::{
    Ask, Error, ErrorKind, Fetched,
    http::excerpt,
    stream::{self, Baseline, Connection, Connects, End, Reading, closed, input, streamed},
    transport::{Over, Transport, headed, requests, timed},
};
use crate::{
    auth::{self, Auth, Used},
    decode::{self, Decoder},
    expr::Expr,
    http::{
        Request,
        client::upgraded,
        identity::Version,
        origin,
        target::{made_url, read_url},
    },
    settings::{Item, Table, fingerprint::Fingerprint, key::keys, units, value::Value},
};
use line::{Line, Reader, Stream};
use talk::{Message, Reply, Said, Talk};

/// A proxy in between forgets a silent connection after a minute or so.
const PING: Duration = Duration::from_secs(30);
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
    /// What stands between the messages of a frame, such as `"\n"`, or `"\u001e"` for SignalR.
    maybe SPLIT: String = "split", Form::new(Shape::Text, read_split), "a frame is one message";
    /// How a message becomes a document: [below](#decode). A binary message that is packed with gzip or zlib is unpacked first.
    maybe DECODE: Decoder = "decode", decode::DECODER, "JSON";
    /// jq over each message that holds records: how far it was read, such as `.sequence`; null moves nothing. The last one is committed
    /// with the records, and jq in `send` and `url` sees it as `.mark`, in its own type, which is null before there is one. If a poll
    /// cannot be committed, the connection is opened again at the mark.
    get RESUME: Expr = "resume", EXPR;
    + streamed::FAMILY;
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
        let (ping, baseline) = (table.or(&websocket::PING), table.or(&streamed::BASELINE));
        let (split, decode, resume) =
            (table.get(&websocket::SPLIT), table.get(&websocket::DECODE), table.get(&websocket::RESUME));
        let transport = Transport::read(&mut table, &headed::HEADERS, Over::Stream);
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
        let reading = Reading { decode, depth_max: transport.depth_max };
        let talk = Talk { replies, reading, split }.into();
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
        self.talk.reading.decode.clone()
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
        let url = self.target(&ask).await?;
        stream::fetch(self, ask, url).await
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
        let (response, used) = stream::open(ask, transport, &client, request, StatusCode::SWITCHING_PROTOCOLS).await?;
        let headers = response.headers().clone();
        let upgraded = upgraded(response, &from).await.map_err(ErrorKind::Http)?;
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

impl Connects for Source {
    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn reading(&self) -> &Reading {
        &self.talk.reading
    }

    fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    async fn subscribe(&self, ask: &Ask<'_>, url: Url) -> Result<Connection, Error> {
        let (stream, used) = self.open(ask, url).await?;
        let Transport { timeout, size_max, .. } = self.transport;
        let token = auth::token(&used).cloned();
        let mut line = Line { stream, talk: self.talk.clone(), token, timeout, size_max };
        let mut first = Vec::new();
        if let Err(end) = self.say_all(ask, &mut line, &mut first).await {
            return Ok(Connection::over(used, end));
        }
        let (Ping { every, beat }, input, clock) = (self.ping.clone(), input(ask), ask.clock.clone());
        Ok(Connection::read(used, size_max, |buffer| {
            let mut reader = Reader { line, first, buffer, ping: every, beat, input, clock };
            async move { reader.run().await }
        }))
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
