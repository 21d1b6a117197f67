//! `source.sse`: server-sent events (WHATWG HTML, section 9.2) of a stream that goes on. Each event is a message; the id of the
//! last one that was committed goes with the next request, so that nothing is lost that the server keeps.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{
    Method, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    },
};
use tokio::time::timeout;
use url::Url;

use super::{
    Ask, Error, ErrorKind, Fetched,
    stream::{self, Baseline, Buffer, Connection, Connects, End, Reading, closed, input, streamed},
    transport::{Over, Transport, headed, requests, timed},
};
use crate::{
    decode::sse::Parser,
    expr::Expr,
    http::{
        Request, origin,
        target::{HTTP, made_url, read_url},
    },
    schedule::HINT_MAX,
    settings::{Table, fingerprint::Fingerprint, key::keys, units, value::Value},
};

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A stream without even a comment for so long is most likely dead.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    url: Value,
    silence: Duration,
    baseline: Baseline,
    reading: Reading,
    /// jq over each message: its id.
    pub resume: Expr,
    pub transport: Transport,
}

keys! {
    /// Server-sent events of a stream that goes on.
    mod sse;
    /// A value; `http://` or `https://`.
    need URL: Value = "url", Form::new(Shape::Value, |item| read_url(item, HTTP)), "url = \"https://api.example.com/events\"";
    /// If nothing comes for so long, not even a comment, the connection is opened again.
    or SILENCE: Duration = "silence", SOME_DURATION, || super::SILENCE;
    + streamed::FAMILY;
    + headed::FAMILY;
    + timed::FAMILY;
    + requests::FAMILY;
}

impl Source {
    /// Reads `[bridge.NAME.source.sse]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let (url, silence) = (table.need(&sse::URL), table.or(&sse::SILENCE));
        let baseline = table.or(&streamed::BASELINE);
        let transport = Transport::read(&mut table, &headed::HEADERS, Over::Stream);
        table.finish();
        let reading = Reading { decode: None, depth_max: transport.depth_max };
        let resume = Expr::parse(".id").expect("a path is an expression");
        Some(Self { url: url?, silence, baseline, reading, resume, transport })
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("sse.url", &self.url);
        text.put_all("headers", &self.transport.headers);
    }

    pub fn describe(&self) -> String {
        match &self.url {
            Value::Literal(url) => format!("events of {url}"),
            _ => "events (of a URL that is secret or made by jq)".into(),
        }
    }

    pub fn has_credentials(&self) -> bool {
        self.transport.has_credentials([&self.url].into_iter())
    }

    /// What arrived since the last poll; connects where there is no connection.
    pub async fn fetch(&self, ask: Ask<'_>) -> Result<Fetched, Error> {
        let text = self.url.resolve(&input(&ask)).await.map_err(ErrorKind::Expr)?.into_iter().next();
        let text = text.ok_or_else(|| ErrorKind::Request("`url` gives nothing".into()))?;
        let url = made_url(&text).map_err(|e| ErrorKind::Request(format!("`url`: {e}")))?;
        stream::fetch(self, ask, url).await
    }

    /// What is asked, from where the last committed event stood.
    async fn request(&self, ask: &Ask<'_>, url: Url) -> Result<Request, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(id) = ask.mark {
            let id = HeaderValue::from_bytes(id.text.as_bytes());
            let unfit = |_| ErrorKind::Request("the id of the last event holds a character that no header can".into());
            headers.insert(LAST_EVENT_ID, id.map_err(unfit)?);
        }
        self.transport.put_headers(&input(ask), &mut headers).await?;
        Ok(Request { method: Method::GET, url, headers, body: None })
    }
}

impl Connects for Source {
    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn reading(&self) -> &Reading {
        &self.reading
    }

    fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    async fn subscribe(&self, ask: &Ask<'_>, url: Url) -> Result<Connection, Error> {
        let from = origin(&url);
        let request = self.request(ask, url).await?;
        let client = ask.client.identified(&self.transport.identity).map_err(ErrorKind::Request)?;
        let (response, used) = stream::open(ask, &self.transport, &client, request, StatusCode::OK).await?;
        check(&from, response.headers())?;
        let (silence, size_max) = (self.silence, self.transport.size_max);
        Ok(Connection::read(used, size_max, |buffer| Reader { buffer, silence, size_max, retry: None }.run(response)))
    }
}

/// Refuses an answer that has no events to read.
fn check(from: &str, headers: &HeaderMap) -> Result<(), Error> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()));
    let kind = text(CONTENT_TYPE).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(EVENT_STREAM) {
        let what = if kind.is_empty() { "no content type".into() } else { super::http::excerpt(&kind) };
        return Err(closed(
            from,
            format!("its answer is not {EVENT_STREAM} but has {what}: poll it with `source.http`"),
        ));
    }
    match text(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        Some(encoding) => {
            Err(closed(from, format!("it packed its events ({encoding}), though `identity` was asked for")))
        }
        None => Ok(()),
    }
}

/// Reads one answer until it ends.
struct Reader {
    buffer: Buffer,
    silence: Duration,
    /// Of one event.
    size_max: u64,
    /// How long to wait before the next request, where the stream says it.
    retry: Option<Duration>,
}

impl Reader {
    async fn run(mut self, response: reqwest::Response) -> End {
        let end = self.read(response).await;
        End { asked: self.retry, ..end }
    }

    async fn read(&mut self, response: reqwest::Response) -> End {
        let (mut pieces, mut parser) = (response.bytes_stream(), Parser::default());
        loop {
            let piece = match timeout(self.silence, pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => return End::new(format!("the connection broke: {}", cause(&error))),
                Ok(None) => return End::new("the server ended the stream"),
                Err(_) => return End::new(format!("nothing came for {} (`silence`)", units::show(self.silence))),
            };
            let events = parser.push(&piece);
            if u64::try_from(parser.pending()).unwrap_or(u64::MAX) > self.size_max {
                return End::fault(format!("an event has more than {} bytes (`size-max`)", self.size_max));
            }
            if let Some(ms) = events.iter().rev().find_map(|event| event.retry) {
                self.retry = Some(Duration::from_millis(ms).min(HINT_MAX));
            }
            let bodies = events.into_iter().map(|event| Bytes::from(event.json().to_string())).collect();
            // Full: nothing is read before a poll has made room.
            if !self.buffer.keep(bodies).await {
                return End::new("nobody takes its events");
            }
        }
    }
}

/// What lies at the ground of an error of the body.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
