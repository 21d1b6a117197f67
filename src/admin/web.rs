//! HTTP on `daemon.listen` and on the socket: who is let in, what is open, and what is said while the store is not.
//!
//! Over TCP all but `/live`, `/ready`, `/metrics` and the page without data asks for the token; a foreign `Host` or `Origin`
//! is refused before that, so that no web page can talk to it. The socket asks for nothing: the kernel has.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json as Body, Router,
    extract::{DefaultBodyLimit, Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, SERVER, VARY, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    api::Failed,
    routes,
    session::{self, Codes, Door},
    standing::{Standing, Web},
};
use crate::{
    pulse,
    settings::secret::Secret,
    telemetry::{LeftOut, Seldom},
};

/// Sent with everything: the page runs its own script and style, talks to its own origin, and is framed by nobody.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// Of the daemon, in the `Server` header of answers on the socket.
pub const VERSION: &str = concat!("bellpull/", env!("CARGO_PKG_VERSION"));
/// OpenMetrics 1.0, and what Prometheus had before.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long nobody is let in after that failed, mostly for want of file descriptors: they do not come back any sooner.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Connections at the same time; whoever is beyond them waits.
const CONNECTIONS_MAX: usize = 256;
/// What a request's head may take, also on a connection that is kept open.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Pages that are let in at the same time.
const SESSIONS_AT_ONCE: usize = 16;
/// Of what a page sends for its token.
const SESSION_BYTES_MAX: usize = 4 << 10;
/// How long a part of an answer may wait for its reader.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// Of a token that somebody wrote.
const TOKEN_CHARS_MIN: usize = 16;
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What a probe asks for holds no data, and the probe may have no name for the daemon but an address that nobody knows before
/// it runs (a pod's), or none (HTTP/1.0).
const PROBES: [&str; 2] = ["/live", "/ready"];

/// Who is let in over TCP.
#[derive(Debug)]
pub struct Gate {
    pub token: Secret,
    /// In lower case, without a port.
    pub hosts: Vec<String>,
}

/// What needs no token.
fn open() -> Router<Web> {
    let page = |kind: &'static str, text: &'static str| get(move || async move { ([(CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/", page("text/html; charset=utf-8", include_str!("dashboard/index.html")))
        .route("/app.js", page("text/javascript; charset=utf-8", include_str!("dashboard/app.js")))
        .route("/parts.js", page("text/javascript; charset=utf-8", include_str!("dashboard/parts.js")))
        .route("/values.js", page("text/javascript; charset=utf-8", include_str!("dashboard/values.js")))
        .route("/style.css", page("text/css; charset=utf-8", include_str!("dashboard/style.css")))
}

async fn ready(State(web): State<Web>) -> Response {
    match &*web.standing.borrow() {
        Standing::Running(_) => Body(json!({ "ready": true })).into_response(),
        Standing::Paused(_, why) | Standing::NotReady(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, Body(json!({ "ready": false, "reasons": [why] }))).into_response()
        }
    }
}

async fn metrics(State(web): State<Web>, headers: HeaderMap) -> Response {
    let standing = web.standing.borrow().clone();
    let text = match standing {
        Standing::Running(admin) | Standing::Paused(admin, _) => admin.metrics().await,
        Standing::NotReady(_) => web.pulse.scrape(|_| ()),
    };
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (kind, text) = match pulse::wants_openmetrics(&accept.join(",")) {
        true => (OPENMETRICS, text),
        false => (PLAIN_METRICS, pulse::plain(&text)),
    };
    ([(CONTENT_TYPE, kind), (VARY, "accept")], text).into_response()
}

async fn link(State(web): State<Web>) -> Response {
    match web.page.get() {
        Some(page) => Body(json!({ "link": page_link(page, &web.codes, session::CODE_FOR) })).into_response(),
        None => (StatusCode::NOT_FOUND, Body(Failed { error: "HTTP is off (`daemon.listen`)".into() })).into_response(),
    }
}

#[derive(serde::Deserialize)]
struct Forced {
    #[serde(default)]
    force: bool,
}

async fn reload(State(web): State<Web>, Query(Forced { force }): Query<Forced>) -> Response {
    match web.reloads.ask(force).await {
        Ok(changes) => Body(json!({ "result": "reloaded", "changes": changes })).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Body(Failed { error })).into_response(),
    }
}

/// The link of the page at an origin, which works once.
pub fn page_link(origin: &str, codes: &Codes, within: Duration) -> String {
    format!("{origin}/#code={}", codes.issue(within))
}

/// Answers on the socket until shutdown.
pub async fn serve_socket(listener: UnixListener, web: Web) {
    let shutdown = web.shutdown.clone();
    let router = open().merge(routes::api()).route("/api/link", get(link)).route("/api/reload", post(reload));
    let router = router.with_state(web);
    // A command may be of another version than the daemon, and says so.
    let router = router.layer(middleware::map_response(async |mut response: Response| {
        response.headers_mut().insert(SERVER, HeaderValue::from_static(VERSION));
        response
    }));
    // Who reads an export may stop for as long as he likes: only members of the group come here.
    answer(move |cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream), router, None, shutdown).await;
}

/// Answers on `daemon.listen` until shutdown.
pub async fn serve(listener: TcpListener, web: Web, gate: Gate) {
    let shutdown = web.shutdown.clone();
    let door = Door { token: Arc::new(gate.token), codes: web.codes.clone() };
    let begin = Router::new()
        .route("/api/session", post(session::begin).layer(DefaultBodyLimit::max(SESSION_BYTES_MAX)))
        .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(SESSIONS_AT_ONCE)), in_time))
        .with_state(door.clone());
    let api = routes::api().layer(middleware::from_fn_with_state(door, ask_for_token));
    let router = open().merge(api).with_state(web).merge(begin);
    let router = router.layer(middleware::from_fn_with_state(Arc::new(gate.hosts), look_at_origin));
    answer(move |cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream), router, Some(WRITE_WITHIN), shutdown).await;
}

/// Answers whoever connects; a part of an answer waits for its reader no longer than `write_within`.
async fn answer<S>(
    accept: impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    router: Router,
    write_within: Option<Duration>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut told = Seldom::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let idle = Idle::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = poll_fn(&accept) => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            // The other side has gone, which is its own business.
            Err(error) if is_of_the_connection(&error) => continue,
            Err(error) => {
                if let Some(LeftOut(left_out)) = told.turn() {
                    tracing::error!(%error, left_out, "failed to let in who connects: it is tried each second");
                }
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = sleep(ACCEPT_AGAIN) => continue,
                }
            }
        };
        while connections.try_join_next().is_some() {}
        // One that says nothing gives way to one that may have something to say.
        let place = tokio::select! {
            biased;
            place = places.clone().acquire_owned() => place,
            () = idle.end_one() => places.clone().acquire_owned().await,
            () = shutdown.cancelled() => break,
        };
        let place = place.expect("the places are never closed");
        let (router, shutdown, idle) = (router.clone(), shutdown.clone(), idle.clone());
        connections.spawn(async move {
            let _place = place;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(write_within);
            converse(stream, router, shutdown, &idle).await;
        });
    }
    while connections.join_next().await.is_some() {}
}

fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Connections that have no request under way, the one that has been idle longest first.
#[derive(Clone, Default)]
struct Idle(Arc<IdleState>);

#[derive(Default)]
struct IdleState {
    /// By the order in which they became idle.
    all: Mutex<(u64, BTreeMap<u64, CancellationToken>)>,
    came: Notify,
}

impl Idle {
    fn enter(&self, end: &CancellationToken) -> u64 {
        let mut all = self.0.all.lock().expect("no thread panics with it");
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, end.clone());
        drop(all);
        self.0.came.notify_one();
        number
    }

    fn leave(&self, number: u64) {
        self.0.all.lock().expect("no thread panics with it").1.remove(&number);
    }

    /// Ends the one that has been idle longest, as soon as there is one.
    async fn end_one(&self) {
        loop {
            let first = self.0.all.lock().expect("no thread panics with it").1.pop_first();
            match first {
                Some((_, end)) => return end.cancel(),
                None => self.0.came.notified().await,
            }
        }
    }
}

/// One connection. A head must come within a time and a size, and an answer must be read as it comes: the address is open to whoever
/// reaches it.
async fn converse<S>(stream: TimeoutStream<S>, router: Router, shutdown: CancellationToken, idle: &Idle)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES_MAX);
    let end = CancellationToken::new();
    let number = Arc::new(AtomicU64::new(idle.enter(&end)));
    let service = TowerToHyperService::new(router);
    let asked = service_fn(|request: hyper::Request<Incoming>| {
        idle.leave(number.load(Ordering::Relaxed));
        // These go on after their answer has begun.
        let streams = ["/api/stream", "/api/export"].contains(&request.uri().path());
        let (answering, number, end) = (service.call(request), number.clone(), end.clone());
        async move {
            let answer = answering.await;
            if !streams {
                number.store(idle.enter(&end), Ordering::Relaxed);
            }
            answer
        }
    });
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), asked);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is the other side's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = end.cancelled() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    idle.leave(number.load(Ordering::Relaxed));
}

/// Refuses what a web page of another site could send, by a name that it made point here (DNS rebinding).
async fn look_at_origin(State(hosts): State<Arc<Vec<String>>>, request: Request, next: Next) -> Response {
    let mut response = match judge(&hosts, request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn judge(hosts: &[String], path: &str, headers: &HeaderMap) -> Result<(), (StatusCode, Body<Failed>)> {
    let known = |host: &str| LOOPBACK.contains(&host) || hosts.iter().any(|known| known == host);
    // Of two of a kind it is not known which one somebody else looks at.
    let text = |name: HeaderName| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let host = text(HOST).and_then(bare).map(str::to_ascii_lowercase);
    if !PROBES.contains(&path) && !host.as_deref().is_some_and(known) {
        let error = format!("the host {:?} is not one of `daemon.hosts`", host.unwrap_or_default());
        return Err((StatusCode::MISDIRECTED_REQUEST, Body(Failed { error })));
    }
    let origin = text(ORIGIN).and_then(|origin| origin.parse::<Url>().ok());
    if headers.contains_key(ORIGIN) && !origin.is_some_and(|origin| origin.host_str().is_some_and(known)) {
        return Err((StatusCode::FORBIDDEN, Body(Failed { error: "a page of another origin".into() })));
    }
    Ok(())
}

/// A host without its port; `None` where it is none.
fn bare(host: &str) -> Option<&str> {
    let end = match host.starts_with('[') {
        true => host.find(']')? + 1,
        false => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at_checked(end)?;
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    is_port.then_some(name)
}

/// What anybody may send has to come soon, and is waited for in a few places only: the others are for who has a token.
async fn in_time(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_place) = places.try_acquire() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    match timeout(HEAD_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

async fn ask_for_token(State(door): State<Door>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The name of a scheme is of any case (RFC 9110, section 11.1).
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let given = given.map_or("", |(_, token)| token.trim());
    if door.opens_for(given) {
        return next.run(request).await;
    }
    let error = "the token is missing or wrong: `bellpull dashboard` prints a link with it";
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], Body(Failed { error: error.to_owned() })).into_response()
}

/// The token of a state directory; made, mode 0600, where there is none.
pub fn token(state_dir: &Path) -> std::io::Result<Secret> {
    use std::{
        io::Write,
        os::unix::fs::{OpenOptionsExt, PermissionsExt},
    };
    let path = state_dir.join("token");
    // Who can write it lets himself in.
    let mode = std::fs::metadata(&path).map(|about| about.permissions().mode());
    if let Ok(mode) = mode.map(|mode| mode & 0o777)
        && mode & 0o077 != 0
    {
        let why = format!("group or others may use it (mode {mode:03o}): chmod 600 it, or remove the file");
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
    }
    match std::fs::read_to_string(&path) {
        // What a power cut left of it, of zeros or short, is not a token.
        Ok(text) if text.trim().len() >= TOKEN_CHARS_MIN && text.trim().bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Ok(Secret::new(text.trim().to_owned()));
        }
        Ok(text) if text.trim().bytes().any(|byte| byte != 0) => {
            let why = format!(
                "it must have {TOKEN_CHARS_MIN} printable characters at the least: write a longer one, or remove the file"
            );
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = session::random();
    let new = state_dir.join("token.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(new, path)?;
    std::fs::File::open(state_dir)?.sync_all()?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_ports() {
        for (host, expected) in [
            ("localhost:8642", Some("localhost")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("a.example", Some("a.example")),
            ("[::1", None),
            ("[::1].evil.example", None),
            ("localhost:evil", None),
            ("localhost:80:80", None),
        ] {
            assert_eq!(bare(host), expected, "{host}");
        }
    }

    #[test]
    fn a_token_is_made_once_and_is_the_owners() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let first = token(dir.path()).expect("made");
        assert_eq!(token(dir.path()).expect("read"), first);
        assert_eq!(first.expose().len(), 64);
        let mode = std::fs::metadata(dir.path().join("token")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // What a power cut leaves of it once counted as the token.
        let path = dir.path().join("token");
        for harm in [&b""[..], b"\n", &[0; 65]] {
            std::fs::write(&path, harm).expect("written");
            assert_eq!(token(dir.path()).expect("made anew").expose().len(), 64);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        assert!(token(dir.path()).expect_err("refused").to_string().contains("mode 640"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        for short in ["ab\n", "fifteen letters"] {
            std::fs::write(&path, short).expect("written");
            assert!(token(dir.path()).expect_err("refused").to_string().contains("16 printable characters"));
        }
    }
}
