//! A receiver for trying things: `listen`, and the one of the demo. It verifies with the crate `standardwebhooks`, which
//! is not ours, prints what arrives, records it if it should, and answers as told.

pub mod record;
pub mod replay;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header},
};
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, model::Timestamp};
use record::Recorder;

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Requests that may wait to be printed.
const PRINTED_MAX: usize = 64;
/// Headers that are shown first, in this order; the others follow as they came.
const FIRST: [&str; 7] = [
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "bellpull-attempt",
    "bellpull-replay",
];
/// The HTTP client's own: they are not shown.
const HIDDEN: [HeaderName; 6] = [
    header::HOST,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
];
/// Credentials: that they are there is shown.
const MASKED: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// What arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// When its body had been read.
    pub at: Timestamp,
    pub method: Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// `None`: there is no secret to verify with.
    pub verified: Option<Result<(), String>>,
    pub answered: StatusCode,
    /// Why it could not be recorded.
    pub unrecorded: Option<String>,
}

impl std::fmt::Display for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {}", self.method, self.path)?;
        let first = FIRST.iter().flat_map(|name| self.headers.get_all(*name).iter().map(move |value| (*name, value)));
        let rest = self.headers.iter().map(|(name, value)| (name.as_str(), value));
        let rest = rest.filter(|(name, _)| !FIRST.contains(name) && !HIDDEN.iter().any(|hidden| hidden == name));
        for (name, value) in first.chain(rest) {
            if MASKED.iter().any(|masked| masked == name) {
                writeln!(f, "{name}: ***")?;
            } else {
                writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
            }
        }
        writeln!(f, "\n{}\n", String::from_utf8_lossy(&self.body))?;
        match &self.verified {
            None => write!(f, "# not verified: no secret was given")?,
            Some(Ok(())) => write!(f, "# verified by standardwebhooks")?,
            Some(Err(error)) => write!(f, "# REFUSED by standardwebhooks: {error}")?,
        }
        if let Some(error) = &self.unrecorded {
            write!(f, "; NOT RECORDED: {error}")?;
        }
        writeln!(f, "; answered {}", self.answered.as_u16())
    }
}

/// How a receiver answers.
#[derive(Debug)]
pub struct Told<'a> {
    /// Verifies with it; what does not verify is answered with 401.
    pub secret: Option<&'a str>,
    /// The answers to what verifies, in turn; 200 where there is none.
    pub statuses: Vec<StatusCode>,
    /// Each request is recorded before it is answered.
    pub recorder: Option<Recorder>,
}

#[derive(Clone)]
struct Shared {
    webhook: Option<Arc<Webhook>>,
    statuses: Arc<[StatusCode]>,
    turn: Arc<AtomicUsize>,
    recorder: Option<Arc<Recorder>>,
    clock: Clock,
    out: mpsc::Sender<Received>,
}

/// A bound receiver.
pub struct Receiver {
    listener: TcpListener,
    shared: Shared,
}

impl Receiver {
    /// Binds; the channel brings what arrives.
    pub async fn bind(address: SocketAddr, told: Told<'_>) -> Result<(Self, mpsc::Receiver<Received>), String> {
        let webhook = told.secret.map(Webhook::new).transpose().map_err(|e| format!("the secret: {e}"))?.map(Arc::new);
        let listener = TcpListener::bind(address).await.map_err(|e| format!("failed to listen on {address}: {e}"))?;
        let (out, received) = mpsc::channel(PRINTED_MAX);
        let shared = Shared {
            webhook,
            statuses: told.statuses.into(),
            turn: Arc::default(),
            recorder: told.recorder.map(Arc::new),
            clock: Clock::system(),
            out,
        };
        Ok((Self { listener, shared }, received))
    }

    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listener.local_addr().map_err(|e| e.to_string())
    }

    /// Answers until shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), String> {
        let router =
            Router::new().fallback(receive).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(self.shared);
        let server = axum::serve(self.listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        server.await.map_err(|e| e.to_string())
    }
}

impl Shared {
    /// The answer whose turn it is.
    fn status(&self) -> StatusCode {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(self.statuses.len()).unwrap_or_default();
        self.statuses.get(at).copied().unwrap_or(StatusCode::OK)
    }
}

async fn receive(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    // Not shown is not acknowledged.
    let Ok(place) = shared.out.reserve().await else { return StatusCode::SERVICE_UNAVAILABLE };
    let verified = shared.webhook.as_ref().map(|webhook| webhook.verify(&body, &headers).map_err(|e| e.to_string()));
    let answered = if matches!(verified, Some(Err(_))) { StatusCode::UNAUTHORIZED } else { shared.status() };
    let mut received = Received {
        at: shared.clock.now(),
        method,
        path: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
        headers,
        body,
        verified,
        answered,
        unrecorded: None,
    };
    // Neither is what is not recorded.
    if let Some(recorder) = &shared.recorder
        && let Err(error) = recorder.append(&received).await
    {
        received.answered = StatusCode::SERVICE_UNAVAILABLE;
        received.unrecorded = Some(error);
    }
    let answered = received.answered;
    place.send(received);
    answered
}
