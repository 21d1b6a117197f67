//! The one pooled client: deadlines, caps, decompression counted chunk by chunk, and a limit per origin.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use reqwest::{
    StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::io::StreamReader;
use url::Url;

use super::{
    Answer, BodyLimit, Error, Request,
    budget::Share,
    egress::{Egress, Refused},
    identity::{Identity, Version},
    named, origin,
};
use crate::{model::Hash, settings::units::Rate, telemetry::trace::Span};

/// The longest wait for a connection; a request's own timeout may end it earlier.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection holds 28 KiB: origins that are polled rarely give it back soon.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// On HTTP/2 with requests open and nothing heard for so long, a PING asks whether anybody is there. Servers of gRPC
/// expect one in 5 minutes, and end a connection at the third that comes sooner while they say nothing (gRFC A8): a
/// call with the default deadline ends before that.
const PING_AFTER: Duration = Duration::from_secs(75);
/// How long its answer may take; the connection is dead then, and so are its requests.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer may grow by decompression beyond `RATIO_FROM_BYTES`; real JSON stays under 50.
pub const RATIO_MAX: u64 = 200;
/// Below it a high ratio is harmless.
pub(super) const RATIO_FROM_BYTES: u64 = 1 << 20;
/// Clients of other identities that are kept; each has its own connections and roots.
const IDENTITIES_MAX: usize = 1000;
/// What is read at once.
pub(super) const CHUNK_BYTES: usize = 16 << 10;
/// What a file begins with that gzip made (RFC 1952, 2.3.1).
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Encodings that are remembered as told; a server that makes up more of them is not told of again.
const ENCODINGS_MAX: usize = 1000;

/// How the client is built.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub allow: Vec<ipnet::IpNet>,
    /// PEM texts of more roots.
    pub ca: Vec<String>,
    pub proxy: Option<Url>,
    pub per_host: usize,
    /// The pace of each origin of which the file names one, the slowest that it names.
    pub rates: BTreeMap<String, Rate>,
}

impl Default for Config {
    fn default() -> Self {
        Self { allow: Vec::new(), ca: Vec::new(), proxy: None, per_host: 8, rates: BTreeMap::new() }
    }
}

/// Cheap to clone; clones share connections, turns and paces.
#[derive(Debug, Clone)]
pub struct Client {
    pools: Arc<Pools>,
    shared: Arc<Shared>,
}

/// The connections of an identity, in two pools: when a request to an origin has timed out, that origin's next requests
/// use the other one. HTTP/2 has one connection for all, and nobody says when something on the way has forgotten it.
#[derive(Debug)]
struct Pools {
    identity: Identity,
    kept: Kept,
    first: reqwest::Client,
    second: OnceLock<reqwest::Client>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    egress: Egress,
    origins: Mutex<BTreeMap<String, Arc<Origin>>>,
    /// Clients of other identities, each with its own connections; and those that keep none.
    others: Mutex<BTreeMap<(Hash, Kept), Arc<Pools>>>,
    /// Content encodings that nobody knows, by origin, of which the log was told.
    unknown_encodings: Mutex<BTreeSet<(String, String)>>,
}

/// Whether connections are kept for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Idle,
    Never,
}

/// What all requests to one origin share.
#[derive(Debug)]
struct Origin {
    turns: Arc<Semaphore>,
    /// When the next request may begin, where a `rate` says so. Held by the one who waits for it: those who give up take
    /// nothing with them.
    free: tokio::sync::Mutex<Instant>,
    lane: Mutex<Lane>,
}

/// Which of the two pools is used.
#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    is_second: bool,
    /// When it was changed.
    since: Option<Instant>,
}

impl Lane {
    /// Changes it after a request that began then and was not answered. Not if it went through the other pool, and not
    /// while that one's connections are there still, which were in doubt before.
    fn change(&mut self, began: Instant, now: Instant) {
        let is_of_the_other = self.since.is_some_and(|since| began < since);
        if !is_of_the_other && !self.is_new(now) {
            *self = Self { is_second: !self.is_second, since: Some(now) };
        }
    }

    /// Whether idle connections of the other pool may be there still.
    fn is_new(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now < since + IDLE_TIMEOUT)
    }
}

/// A place among the requests in flight to one origin (`network.per-host`), given back when dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// Errors when a root or the proxy cannot be used.
    pub fn new(config: &Config) -> Result<Self, String> {
        let egress = Egress::new(config.allow.clone());
        let pools = Pools::new(config, &egress, &Identity::default(), Kept::Idle)?.into();
        let shared = Shared {
            config: config.clone(),
            egress,
            origins: Mutex::default(),
            others: Mutex::default(),
            unknown_encodings: Mutex::default(),
        };
        Ok(Self { pools, shared: Arc::new(shared) })
    }

    /// The same client with the certificates, the proxy and the HTTP version of a source. One for each distinct identity
    /// is kept.
    pub fn identified(&self, identity: &Identity) -> Result<Self, String> {
        if *identity == Identity::default() { Ok(self.clone()) } else { self.other(identity, Kept::Idle) }
    }

    /// The client of an identity with a new connection for each request: for one that was lost on an old connection.
    pub fn fresh(&self, identity: &Identity) -> Result<Self, String> {
        self.other(identity, Kept::Never)
    }

    fn other(&self, identity: &Identity, kept: Kept) -> Result<Self, String> {
        let mut others = self.shared.others.lock().expect("no thread panics with it");
        if let Some(pools) = others.get(&(identity.hash, kept)) {
            return Ok(Self { pools: pools.clone(), shared: self.shared.clone() });
        }
        // Identities of earlier configurations: those that still count are built again.
        if others.len() >= IDENTITIES_MAX {
            others.clear();
        }
        let pools = Arc::new(Pools::new(&self.shared.config, &self.shared.egress, identity, kept)?);
        others.insert((identity.hash, kept), pools.clone());
        Ok(Self { pools, shared: self.shared.clone() })
    }

    /// Requests in flight to one origin, at the most.
    pub fn per_host(&self) -> usize {
        self.shared.config.per_host
    }

    /// Whether both share their connections.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A request that began then was not answered in time. The connections to its origin may be dead: the next request
    /// uses none of them.
    pub fn doubt(&self, origin: &str, began: Instant) {
        let origin = self.shared.origin(origin.to_owned());
        origin.lane.lock().expect("no thread panics with it").change(began, Instant::now());
    }

    /// The connections to use for an origin.
    fn connections(&self, origin: &str) -> &reqwest::Client {
        let origin = self.shared.known(origin);
        let is_second = origin.is_some_and(|o| o.lane.lock().expect("no thread panics with it").is_second);
        if is_second && self.pools.kept == Kept::Idle { self.pools.second(&self.shared) } else { &self.pools.first }
    }

    /// Waits for a place among the requests in flight to a URL's origin, and for its pace: that of the file, or `rate`
    /// where the file could not know the origin. The caller's deadline bounds it; it is not a part of a request's own time.
    pub async fn turn(&self, url: &Url, rate: Option<Rate>) -> Turn {
        let name = origin(url);
        let rate = self.shared.config.rates.get(&name).copied().or(rate);
        let origin = self.shared.origin(name);
        let permit = origin.turns.clone().acquire_owned().await.expect("turns are never closed");
        if let Some(rate) = rate {
            let mut free = origin.free.lock().await;
            sleep_until(*free).await;
            *free = Instant::now() + rate.spacing();
        }
        Turn { _permit: Some(permit) }
    }

    /// For one who has limits of its own: an endpoint has `in-flight` and `rate`, and must not wait for another that is
    /// slow behind the same origin.
    pub fn own_turn() -> Turn {
        Turn { _permit: None }
    }

    /// Sends one request and reads its answer, both within `within`.
    pub async fn send(
        &self,
        _turn: &Turn,
        request: Request,
        within: Duration,
        limit: BodyLimit,
        share: Option<&mut Share>,
    ) -> Result<Answer, Error> {
        let origin = origin(&request.url);
        let late = || Error::Timeout { origin: origin.clone(), after: within };
        let span = Span::request(&origin, request.method.as_str());
        let began = Instant::now();
        let exchange = timeout(within, self.exchange(request, &origin, limit, share));
        let answer = span.around(exchange).await.map_err(|_| late()).flatten();
        if matches!(answer, Err(Error::Timeout { .. })) {
            self.doubt(&origin, began);
        }
        match &answer {
            Ok(answer) => span.answered(answer.status, Some(answer.body.len())),
            Err(error) => span.failed(error),
        }
        answer
    }

    /// Asks for an answer that goes on, or for another protocol on the connection (RFC 9110, section 7.8): its head, with what the
    /// caller reads, or the answer of a server that says something else than `expected`.
    pub async fn begin(
        &self,
        _turn: &Turn,
        request: Request,
        within: Duration,
        expected: StatusCode,
    ) -> Result<Result<reqwest::Response, Answer>, Error> {
        /// Of a refusal, for the message.
        const REFUSAL_BYTES: u64 = 256;
        let from = origin(&request.url);
        let begin = async {
            self.shared.egress.judge_literal(&request.url)?;
            let url = request.url.clone();
            let mut wire = reqwest::Request::new(request.method, request.url);
            *wire.headers_mut() = request.headers;
            let response = self.connections(&from).execute(wire).await.map_err(|e| classify(&e, &from))?;
            if response.status() == expected {
                return Ok(Ok(response));
            }
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = self.shared.read_body(response, &from, BodyLimit::Head(REFUSAL_BYTES), None).await?;
            Ok(Err(Answer { status, headers, body, url }))
        };
        timeout(within, begin).await.map_err(|_| Error::Timeout { origin: from.clone(), after: within })?
    }

    /// Sends a request whose answer is read by the caller, with its trailers. The caller's deadline bounds it.
    pub async fn stream(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<http::Response<reqwest::Body>, Error> {
        let from = origin(&url);
        self.shared.egress.judge_literal(&url)?;
        let mut wire = reqwest::Request::new(reqwest::Method::POST, url);
        *wire.headers_mut() = headers;
        *wire.body_mut() = Some(body.into());
        let span = Span::request(&from, "POST");
        let response = span.around(self.connections(&from).execute(wire)).await.map_err(|e| classify(&e, &from));
        match &response {
            Ok(response) => span.answered(response.status().as_u16(), None),
            Err(error) => span.failed(error),
        }
        Ok(response?.into())
    }

    async fn exchange(
        &self,
        request: Request,
        origin: &str,
        limit: BodyLimit,
        share: Option<&mut Share>,
    ) -> Result<Answer, Error> {
        self.shared.egress.judge_literal(&request.url)?;
        let url = request.url.clone();
        let mut wire = reqwest::Request::new(request.method, request.url);
        *wire.headers_mut() = request.headers;
        wire.headers_mut().entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip, br, zstd, deflate"));
        *wire.body_mut() = request.body.map(reqwest::Body::from);
        let response = self.connections(origin).execute(wire).await.map_err(|e| classify(&e, origin))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.shared.read_body(response, origin, limit, share).await?;
        Ok(Answer { status, headers, body, url })
    }
}

impl Pools {
    fn new(config: &Config, egress: &Egress, identity: &Identity, kept: Kept) -> Result<Self, String> {
        let first = build(config, egress, identity, kept)?;
        Ok(Self { identity: identity.clone(), kept, first, second: OnceLock::new() })
    }

    /// Made when it is needed for the first time; what made the first pool makes the second one.
    fn second(&self, shared: &Shared) -> &reqwest::Client {
        let make = || build(&shared.config, &shared.egress, &self.identity, self.kept);
        self.second.get_or_init(|| make().unwrap_or_else(|_| self.first.clone()))
    }
}

impl Shared {
    /// What is known of an origin.
    fn known(&self, name: &str) -> Option<Arc<Origin>> {
        self.origins.lock().expect("no thread panics with it").get(name).cloned()
    }

    fn origin(&self, name: String) -> Arc<Origin> {
        let mut origins = self.origins.lock().expect("no thread panics with it");
        if let Some(origin) = origins.get(&name) {
            return origin.clone();
        }
        // Those that nobody asks now, and whose pace asks for no wait, are as good as new ones.
        let now = Instant::now();
        origins.retain(|_, origin| {
            Arc::strong_count(origin) > 1
                || Arc::strong_count(&origin.turns) > 1
                || origin.free.try_lock().is_ok_and(|free| *free > now)
                || origin.lane.lock().expect("no thread panics with it").is_new(now)
        });
        let turns = Arc::new(Semaphore::new(self.config.per_host));
        let origin = Arc::new(Origin { turns, free: tokio::sync::Mutex::new(now), lane: Mutex::default() });
        origins.insert(name, origin.clone());
        origin
    }

    async fn read_body(
        &self,
        response: reqwest::Response,
        origin: &str,
        limit: BodyLimit,
        mut share: Option<&mut Share>,
    ) -> Result<Bytes, Error> {
        let header = |name| response.headers().get(name).map(|v| v.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        let encoding = header(CONTENT_ENCODING);
        let is_file = is_gzip_file(response.url(), header(CONTENT_TYPE).as_deref());
        let wire = Arc::new(AtomicU64::new(0));
        let counted = {
            let wire = wire.clone();
            response.bytes_stream().map_err(std::io::Error::other).inspect_ok(move |chunk| {
                wire.fetch_add(u64::try_from(chunk.len()).unwrap_or(0), Ordering::Relaxed);
            })
        };
        let raw = StreamReader::new(counted);
        let mut reader: Reader = match encoding.as_deref() {
            None | Some("" | "identity") => Box::pin(raw),
            Some("gzip" | "x-gzip") => gunzip(raw),
            Some("br") => Box::pin(BrotliDecoder::new(raw)),
            Some("zstd") => Box::pin(ZstdDecoder::new(raw)),
            Some("deflate") => Box::pin(ZlibDecoder::new(raw)),
            // Of a receiver's answer the status counts; its text is only shown.
            Some(_) if matches!(limit, BodyLimit::Head(_)) => Box::pin(raw),
            // As browsers do: most often the server means a charset, or a proxy has decoded it already.
            Some(other) => {
                self.tell_unknown_encoding(origin, other);
                Box::pin(raw)
            }
        };
        if is_file && matches!(limit, BodyLimit::Whole(_)) {
            let damaged = |e: std::io::Error| Error::Body { origin: origin.into(), cause: chain(&e) };
            reader = unpacked(reader).await.map_err(damaged)?;
        }
        let (max, whole) = match limit {
            BodyLimit::Whole(max) => (max, true),
            BodyLimit::Head(max) => (max, false),
        };
        let mut body = BytesMut::new();
        loop {
            body.reserve(CHUNK_BYTES);
            let read = match reader.read_buf(&mut body).await {
                Ok(read) => read,
                // Of the head of an answer, what came before the damage is enough.
                Err(_) if !whole => 0,
                Err(e) => {
                    return Err(Error::Body { origin: origin.into(), cause: chain(&e) });
                }
            };
            let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
            if read == 0 {
                return Ok(body.freeze());
            }
            if length > max {
                if whole {
                    return Err(Error::TooLarge { origin: origin.into(), limit: max });
                }
                body.truncate(usize::try_from(max).unwrap_or(usize::MAX));
                return Ok(body.freeze());
            }
            if length > RATIO_FROM_BYTES && length / wire.load(Ordering::Relaxed).max(1) > RATIO_MAX {
                return Err(Error::Bomb { origin: origin.into(), ratio: RATIO_MAX });
            }
            if let Some(share) = share.as_deref_mut()
                && !share.take(u64::try_from(read).unwrap_or(u64::MAX))
            {
                return Err(Error::Memory { origin: origin.into() });
            }
        }
    }

    /// The first time that an origin sends it.
    fn tell_unknown_encoding(&self, origin: &str, encoding: &str) {
        /// A server may send anything.
        const CHARS_MAX: usize = 40;
        let encoding: String = encoding.chars().take(CHARS_MAX).collect();
        let mut told = self.unknown_encodings.lock().expect("no thread panics with it");
        if told.len() < ENCODINGS_MAX && told.insert((origin.to_owned(), encoding.clone())) {
            tracing::warn!(origin, encoding, "answers have an unknown content-encoding: they are read as they come");
        }
    }
}

/// A body while it is read.
type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Whether an answer says that it is a file that gzip made: such a file is a document's form, beside any content
/// encoding.
fn is_gzip_file(url: &Url, content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    matches!(essence, "application/gzip" | "application/x-gzip") || url.path().to_ascii_lowercase().ends_with(".gz")
}

/// What is in such a file. Many servers unpack it already, or send it with a content encoding: then it does not begin
/// as one.
async fn unpacked(mut reader: Reader) -> std::io::Result<Reader> {
    let mut begin = Vec::with_capacity(GZIP_MAGIC.len());
    (&mut reader).take(2).read_to_end(&mut begin).await?;
    let is_packed = begin == GZIP_MAGIC;
    let whole = Cursor::new(begin).chain(reader);
    Ok(if is_packed { gunzip(BufReader::new(whole)) } else { Box::pin(whole) })
}

fn gunzip(packed: impl AsyncBufRead + Send + 'static) -> Reader {
    let mut decoder = GzipDecoder::new(packed);
    decoder.multiple_members(true);
    Box::pin(decoder)
}

/// Builds the client of an identity.
fn build(config: &Config, egress: &Egress, identity: &Identity, kept: Kept) -> Result<reqwest::Client, String> {
    // The process's TLS provider; a second installation changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = Vec::new();
    for (pem, key) in
        config.ca.iter().map(|pem| (pem, "network.ca")).chain(identity.ca.iter().map(|pem| (pem, "tls.ca")))
    {
        roots.extend(named::certificates(pem).map_err(|e| format!("{key}: {e}"))?);
    }
    let proxy =
        identity.proxy.as_ref().map(|url| (url, "proxy")).or(config.proxy.as_ref().map(|url| (url, "network.proxy")));
    let builder = || -> Result<reqwest::ClientBuilder, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bellpull/", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .pool_max_idle_per_host(if kept == Kept::Idle { config.per_host } else { 0 })
            .dns_resolver(Arc::new(egress.clone()));
        builder = match identity.version {
            Version::Auto => builder,
            Version::One => builder.http1_only(),
            Version::Two => builder.http2_prior_knowledge(),
        };
        if let Some(pem) = &identity.own {
            let own = reqwest::Identity::from_pem(pem.expose().as_bytes());
            builder = builder.identity(own.map_err(|e| format!("tls.cert and tls.key: {}", chain(&e)))?);
        }
        Ok(match proxy {
            Some((url, key)) => {
                egress.judge_literal(url).map_err(|refused| format!("{key}: {refused}"))?;
                builder.proxy(reqwest::Proxy::all(url.clone()).map_err(|e| format!("{key}: {}", chain(&e)))?)
            }
            None => builder.no_proxy(),
        })
    };
    let failed = |e: reqwest::Error| format!("the HTTP client: {}", chain(&e));
    if !roots.is_empty() {
        let tls = named::config(roots, identity.own.as_ref(), identity.version)?;
        return builder()?.tls_backend_preconfigured(tls).build().map_err(failed);
    }
    // Without any system root the platform's verifier cannot be built: https fails then with the verifier's own words, and http
    // works.
    builder()?.build().or_else(|_| builder()?.tls_certs_only([]).build().map_err(failed))
}

/// What reqwest's error is, without its URL: that may hold a secret.
pub fn classify(error: &reqwest::Error, origin: &str) -> Error {
    let mut source = std::error::Error::source(error);
    let mut lost = None;
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Error::Address(refused.clone());
        }
        lost = lost.or_else(|| is_lost(cause));
        source = cause.source();
    }
    let origin = origin.to_owned();
    let cause = chain(error);
    if error.is_connect() || error.is_timeout() {
        Error::Connect { origin, cause }
    } else if let Some(unread) = lost {
        Error::Lost { origin, cause, unread }
    } else if error.is_builder()
        || error.is_request() && error.status().is_none() && std::error::Error::source(error).is_none()
    {
        Error::Request { origin, cause }
    } else {
        Error::Body { origin, cause }
    }
}

/// Whether a cause says that the connection ended before the answer began, and if so whether the server had not looked at the
/// request: a graceful GOAWAY and REFUSED_STREAM say so.
fn is_lost(cause: &(dyn std::error::Error + 'static)) -> Option<bool> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        let unread = error.is_remote()
            && (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
                || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM));
        return (unread || error.is_io()).then_some(unread);
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return (error.is_incomplete_message() || error.is_canceled()).then_some(false);
    }
    let error = cause.downcast_ref::<std::io::Error>()?;
    let ended = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof].contains(&error.kind());
    ended.then_some(false)
}

/// An error's causes, from the second on: the first of reqwest's names the URL.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut out = Vec::new();
    let mut source = Some(error);
    while let Some(cause) = source {
        // reqwest's own errors print their URL; what they wrap says why.
        if cause.downcast_ref::<reqwest::Error>().is_none() {
            let text = cause.to_string();
            if out.last() != Some(&text) {
                out.push(text);
            }
        }
        source = cause.source();
    }
    if out.is_empty() { "no cause was given".into() } else { out.join(": ") }
}

/// The connection on which a server speaks another protocol now.
pub async fn upgraded(response: reqwest::Response, origin: &str) -> Result<reqwest::Upgraded, Error> {
    response.upgrade().await.map_err(|e| classify(&e, origin))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A client that may ask this machine.
    fn client(version: Version) -> Client {
        let config = Config { allow: vec!["127.0.0.0/8".parse().expect("a range")], ..Config::default() };
        let client = Client::new(&config).expect("a client");
        let identity = Identity { version, hash: Hash::of(b"a test"), ..Identity::default() };
        client.identified(&identity).expect("a client")
    }

    /// What the client says of a server that does this with its first connection.
    async fn said<F: Future<Output = ()>>(version: Version, server: impl FnOnce(TcpStream) -> F) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URL");
        let client = client(version);
        let request =
            Request { method: reqwest::Method::POST, url, headers: HeaderMap::new(), body: Some("{}".into()) };
        let turn = Client::own_turn();
        let asked = client.send(&turn, request, Duration::from_secs(5), BodyLimit::Head(100), None);
        let served = async { server(listener.accept().await.expect("a connection").0).await };
        let mut served = std::pin::pin!(served.then(|()| std::future::pending::<()>()));
        tokio::select! {
            asked = asked => asked.expect_err("no answer"),
            () = &mut served => unreachable!("it goes on for ever"),
        }
    }

    /// A server over HTTP/2 that answers the first request of each connection, and then reads nothing more from it and keeps it
    /// open. It tells when it does so.
    async fn falls_silent() -> (Url, Arc<tokio::sync::Notify>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URL");
        let silent = Arc::new(tokio::sync::Notify::new());
        let is_silent = silent.clone();
        tokio::spawn(async move {
            let mut dumb = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.expect("one");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                let (_, mut respond) = connection.accept().await.expect("a request").expect("whole");
                respond.send_response(http::Response::new(()), true).expect("sent");
                // Until it is written.
                let _ = timeout(Duration::from_millis(100), connection.accept()).await;
                dumb.push(connection);
                is_silent.notify_one();
            }
        });
        (url, silent)
    }

    async fn ask(client: &Client, url: &Url) -> Result<(), Error> {
        let request = Request { method: reqwest::Method::GET, url: url.clone(), headers: HeaderMap::new(), body: None };
        let within = Duration::from_secs(1);
        client.send(&Client::own_turn(), request, within, BodyLimit::Head(100), None).await.map(|_| ())
    }

    /// Each request that timed out on HTTP/2 left its connection in the pool, and the next one waited on it again.
    #[tokio::test]
    async fn after_a_timeout_the_next_request_takes_a_new_connection() {
        let ((url, silent), client) = (falls_silent().await, client(Version::Two));
        assert_eq!(ask(&client, &url).await, Ok(()));
        silent.notified().await;
        let both = tokio::join!(ask(&client, &url), ask(&client, &url));
        assert!(matches!(both, (Err(Error::Timeout { .. }), Err(Error::Timeout { .. }))), "{both:?}");
        assert_eq!(ask(&client, &url).await, Ok(()), "on a new connection");
    }

    /// A call of gRPC on a dead connection waited for its whole deadline.
    #[tokio::test]
    async fn a_ping_finds_a_dead_connection_while_a_call_is_open() {
        let ((url, silent), client) = (falls_silent().await, client(Version::Two));
        assert_eq!(ask(&client, &url).await, Ok(()));
        silent.notified().await;
        tokio::time::pause();
        let start = Instant::now();
        let error = client.stream(url.clone(), HeaderMap::new(), Bytes::new()).await.expect_err("no answer");
        let after = start.elapsed();
        assert!(after >= PING_TIMEOUT && after <= PING_AFTER + PING_TIMEOUT, "{after:?}: {error}");
        tokio::time::resume();
        assert_eq!(ask(&client, &url).await, Ok(()), "on a new connection");
    }

    #[test]
    fn a_doubt_changes_the_pool_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lane = Lane::default();
        // When a request began, when it timed out, and whether the second pool is used then.
        for (began, timed_out, is_second) in [
            (0, 30, true),
            // Those that began with it, and one on the new connection too soon after.
            (1, 31, true),
            (29, 59, true),
            (31, 40, true),
            (31, 61, false),
            (60, 90, false),
            (62, 92, true),
        ] {
            lane.change(at(began), at(timed_out));
            assert_eq!(lane.is_second, is_second, "{began} to {timed_out}");
        }
    }

    /// A connection that a receiver closed just then was an outage of five seconds.
    #[tokio::test]
    async fn a_connection_that_ends_before_an_answer_is_its_own_case() {
        let closed = said(Version::One, async |stream: TcpStream| {
            stream.readable().await.expect("a request");
            drop(stream);
        })
        .await;
        assert!(matches!(closed, Error::Lost { unread: false, .. }), "{closed:?}");
        let damaged = said(Version::One, async |mut stream: TcpStream| {
            // What comes before the request is not an answer to it.
            stream.read_exact(&mut [0; 4]).await.expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n").await.expect("written");
        })
        .await;
        assert!(!matches!(damaged, Error::Lost { .. }), "{damaged:?}");
        let refused = said(Version::Two, async |stream: TcpStream| {
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            let (_, mut respond) = connection.accept().await.expect("a request").expect("whole");
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            std::future::poll_fn(|cx| connection.poll_closed(cx)).await.ok();
        })
        .await;
        assert!(matches!(refused, Error::Lost { unread: true, .. }), "{refused:?}");
    }
}
