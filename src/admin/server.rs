//! The daemon's Unix socket: HTTP with JSON, for the users that the socket's mode and the peer's uid let in.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::{
    Json as Body, Router,
    extract::{Path as At, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::net::{UnixListener, UnixStream, unix::UCred};
use tokio_util::sync::CancellationToken;

use super::{Admin, DeliveryQuery, DryRun, Error, EventQuery, Replay};
use crate::{model::Hash, store};

/// After a failed accept (no file descriptors left), so that it is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that looks at who connects.
pub struct Guarded {
    listener: UnixListener,
    uid: u32,
    gid: u32,
}

/// Binds the socket, mode 0660. A socket that nobody answers on is left from a crash and replaced.
pub fn bind(path: &Path) -> io::Result<Guarded> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers on it"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let own = std::fs::metadata(path)?;
    Ok(Guarded { listener, uid: own.uid(), gid: own.gid() })
}

impl Listener for Guarded {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if self.lets_in(&peer) => return (stream, ()),
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "refused a connection to the admin socket"),
                    Err(error) => tracing::warn!(%error, "failed to see who connects to the admin socket"),
                },
                Err(error) => {
                    tracing::warn!(%error, "failed to accept on the admin socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Guarded {
    /// Root, the daemon's own user, and the members of the socket's group.
    fn lets_in(&self, peer: &UCred) -> bool {
        let member = || {
            // A peer's credentials hold its primary group only; the kernel tells the others here (proc(5)).
            let status = std::fs::read_to_string(format!("/proc/{}/status", peer.pid()?)).ok()?;
            let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?.to_owned();
            groups.split_ascii_whitespace().any(|gid| gid.parse() == Ok(self.gid)).then_some(())
        };
        peer.uid() == 0 || peer.uid() == self.uid || peer.gid() == self.gid || member().is_some()
    }
}

/// Answers until shutdown.
pub async fn serve(listener: Guarded, admin: Admin, shutdown: CancellationToken) {
    let server = axum::serve(listener, router(admin)).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = server.await {
        tracing::error!(%error, "the admin socket failed");
    }
}

#[derive(Deserialize)]
struct Held {
    hash: Option<Hash>,
}

#[derive(Deserialize)]
struct To {
    endpoint: String,
}

fn router(admin: Admin) -> Router {
    type Admins = State<Admin>;
    Router::new()
        .route("/api/status", get(|State(a): Admins| async move { answer(a.status(None).await) }))
        .route(
            "/api/bridges/{name}",
            get(|State(a): Admins, At(name): At<String>| async move { answer(a.status(Some(&name)).await) }),
        )
        .route(
            "/api/bridges/{name}/poll",
            post(|State(a): Admins, At(name): At<String>| async move { answer(a.poll(&name).await) }),
        )
        .route(
            "/api/bridges/{name}/dry-run",
            post(|State(a): Admins, At(name): At<String>, Body(request): Body<DryRun>| async move {
                answer(a.dry_run(&name, request).await)
            })
            .layer(axum::extract::DefaultBodyLimit::max(RESPONSE_BYTES_MAX)),
        )
        .route(
            "/api/bridges/{name}/accept",
            post(|State(a): Admins, At(name): At<String>, Query(held): Query<Held>| async move {
                answer(a.accept(&name, held.hash).await)
            }),
        )
        .route(
            "/api/bridges/{name}/reject",
            post(|State(a): Admins, At(name): At<String>, Query(held): Query<Held>| async move {
                answer(a.reject(&name, held.hash).await)
            }),
        )
        .route(
            "/api/bridges/{name}/resend",
            post(|State(a): Admins, At(name): At<String>, Query(to): Query<To>| async move {
                answer(a.resend(&name, &to.endpoint).await)
            }),
        )
        .route(
            "/api/endpoints/{name}/enable",
            post(|State(a): Admins, At(name): At<String>| async move { answer(a.enable(&name, true).await) }),
        )
        .route(
            "/api/endpoints/{name}/disable",
            post(|State(a): Admins, At(name): At<String>| async move { answer(a.enable(&name, false).await) }),
        )
        .route(
            "/api/endpoints/{name}/test",
            post(|State(a): Admins, At(name): At<String>| async move { answer(a.test(&name).await) }),
        )
        .route(
            "/api/events",
            get(|State(a): Admins, Query(query): Query<EventQuery>| async move { answer(a.events(query).await) }),
        )
        .route(
            "/api/events/{id}",
            get(|State(a): Admins, At(id): At<String>| async move { answer(a.event(&id).await) }),
        )
        .route(
            "/api/deliveries",
            get(
                |State(a): Admins, Query(query): Query<DeliveryQuery>| async move { answer(a.deliveries(query).await) },
            ),
        )
        .route(
            "/api/replay",
            post(|State(a): Admins, Body(request): Body<Replay>| async move { answer(a.replay(request).await) }),
        )
        .with_state(admin)
}

/// A saved answer for a dry run may be as large as a polled one.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

fn answer(result: Result<Json, Error>) -> Response {
    match result {
        Ok(value) => Body(value).into_response(),
        Err(error) => {
            let status = match &error {
                Error::Refused(_) => StatusCode::BAD_REQUEST,
                Error::Store(store::Error::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
                Error::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, Body(json!({ "error": error.to_string() }))).into_response()
        }
    }
}
