//! A receiver for trying things: `listen`, and the one of the demo. It verifies with the crate `standardwebhooks`, which
//! is not ours, prints what arrives, and answers as told.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
};
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Requests that may wait to be printed.
const PRINTED_MAX: usize = 64;
/// Headers that are shown; the rest is the HTTP client's.
const SHOWN: [&str; 7] = [
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "bellpull-attempt",
    "bellpull-replay",
];

/// What arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    /// Names and values, in a stable order.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// `None`: there is no secret to verify with.
    pub verified: Option<Result<(), String>>,
    pub answered: u16,
}

impl std::fmt::Display for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "POST {}", self.path)?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))?;
        writeln!(f, "\n{}\n", self.body)?;
        match &self.verified {
            None => writeln!(f, "# not verified: no secret was given; answered {}", self.answered),
            Some(Ok(())) => writeln!(f, "# verified by standardwebhooks; answered {}", self.answered),
            Some(Err(error)) => writeln!(f, "# REFUSED by standardwebhooks: {error}; answered {}", self.answered),
        }
    }
}

#[derive(Clone)]
struct Shared {
    webhook: Option<Arc<Webhook>>,
    status: StatusCode,
    out: mpsc::Sender<Received>,
}

/// A bound receiver.
pub struct Receiver {
    listener: TcpListener,
    shared: Shared,
}

impl Receiver {
    /// Binds; the channel brings what arrives. `status` is the answer to what verifies; 401 to what does not.
    pub async fn bind(
        address: SocketAddr,
        secret: Option<&str>,
        status: StatusCode,
    ) -> Result<(Self, mpsc::Receiver<Received>), String> {
        let webhook = secret.map(Webhook::new).transpose().map_err(|e| format!("the secret: {e}"))?.map(Arc::new);
        let listener = TcpListener::bind(address).await.map_err(|e| format!("failed to listen on {address}: {e}"))?;
        let (out, received) = mpsc::channel(PRINTED_MAX);
        Ok((Self { listener, shared: Shared { webhook, status, out } }, received))
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

async fn receive(State(shared): State<Shared>, uri: axum::http::Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let verified = shared.webhook.as_ref().map(|webhook| webhook.verify(&body, &headers).map_err(|e| e.to_string()));
    let status = if matches!(verified, Some(Err(_))) { StatusCode::UNAUTHORIZED } else { shared.status };
    let shown =
        SHOWN.iter().filter_map(|name| Some(((*name).to_owned(), headers.get(*name)?.to_str().ok()?.to_owned())));
    let received = Received {
        path: uri.path().to_owned(),
        headers: shown.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        verified,
        answered: status.as_u16(),
    };
    // Not shown is not acknowledged.
    match shared.out.send(received).await {
        Ok(()) => status,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
