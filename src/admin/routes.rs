//! HTTP with JSON: the routes that the socket and `daemon.listen` share. Each asks [`Admin`], which knows the answers.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json as Body, Router,
    extract::{FromRequest, FromRequestParts, Path as At, Query, Request, State},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{
        AppendHeaders, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{sync::broadcast::error::RecvError, time::timeout};
use tokio_util::io::ReaderStream;

use super::{
    Admin, DeliveryQuery, DryRun, Error, EventQuery, Replay,
    api::{self, Failed},
    standing::{Standing, Web},
};
use crate::{model::Hash, pulse::Notice, store};

/// A comment that keeps a quiet stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// For the body of a request: 64 MiB on a slow line.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// The daemon's answers, while its store is open.
struct Opened(Admin);

impl FromRequestParts<Web> for Opened {
    type Rejection = Response;

    async fn from_request_parts(_: &mut Parts, web: &Web) -> Result<Self, Response> {
        match &*web.standing.borrow() {
            Standing::Running(admin) | Standing::Paused(admin, _) => Ok(Self((**admin).clone())),
            Standing::NotReady(why) => {
                Err((StatusCode::SERVICE_UNAVAILABLE, Body(Failed { error: why.clone() })).into_response())
            }
        }
    }
}

/// What a request brings, if it comes in time.
struct InTime<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for InTime<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match timeout(BODY_WITHIN, Body::from_request(request, state)).await {
            Ok(read) => read.map(|Body(sent)| Self(sent)).map_err(IntoResponse::into_response),
            Err(_) => Err(StatusCode::REQUEST_TIMEOUT.into_response()),
        }
    }
}

fn svg(picture: String) -> Response {
    ([(CONTENT_TYPE, "image/svg+xml")], picture).into_response()
}

/// A backup, streamed from its file.
fn export(made: Result<std::fs::File, Error>) -> Response {
    match made {
        Ok(file) => {
            let lines = ReaderStream::new(tokio::fs::File::from_std(file));
            ([(CONTENT_TYPE, "application/jsonl")], axum::body::Body::from_stream(lines)).into_response()
        }
        Err(error) => answer::<()>(Err(error)),
    }
}

/// What goes on, as server-sent events. A reader that is too slow misses some; it ends with the daemon.
fn stream(admin: &Admin, web: &Web) -> Response {
    let feed = admin.feed();
    let stop = web.shutdown.clone();
    let events = stream::unfold((feed, stop), |(mut feed, stop)| async move {
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => return None,
                notice = feed.recv() => notice,
            };
            let notice = match notice {
                Ok(notice) => notice,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return None,
            };
            let (kind, data) = match &*notice {
                Notice::Poll(poll) => ("poll", serde_json::to_string(poll)),
                Notice::Delivery(delivery) => ("delivery", serde_json::to_string(delivery)),
            };
            let Ok(data) = data else { continue };
            return Some((Ok::<_, Infallible>(Event::default().event(kind).data(data)), (feed, stop)));
        }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

#[derive(Deserialize)]
struct Held {
    hash: Option<Hash>,
}

#[derive(Deserialize)]
struct To {
    endpoint: String,
}

/// What is under `/api`.
pub fn api() -> Router<Web> {
    Router::new()
        .route("/api/status", get(|Opened(a): Opened| async move { answer(a.status().await) }))
        .route("/api/running", get(|Opened(a): Opened| async move { answer(a.running().await) }))
        .route("/api/bridges", get(|Opened(a): Opened| async move { answer(a.bridges().await) }))
        .route("/api/endpoints", get(|Opened(a): Opened| async move { answer(a.endpoints().await) }))
        .route("/api/strip.svg", get(|Opened(a): Opened| async move { svg(a.strip(None)) }))
        .route(
            "/api/bridges/{name}/strip.svg",
            get(|Opened(a): Opened, At(name): At<String>| async move { svg(a.strip(Some(&name))) }),
        )
        .route("/api/stream", get(|Opened(a): Opened, State(web): State<Web>| async move { stream(&a, &web) }))
        .route("/api/export", get(|Opened(a): Opened| async move { export(a.export().await) }))
        .route("/api/openapi.json", get(|| async { Body(api::openapi()) }))
        .route(
            "/api/bridges/{name}/pause",
            post(|Opened(a): Opened, At(name): At<String>| async move { answer(a.pause(&name, true).await) }),
        )
        .route(
            "/api/bridges/{name}/resume",
            post(|Opened(a): Opened, At(name): At<String>| async move { answer(a.pause(&name, false).await) }),
        )
        .route(
            "/api/bridges/{name}",
            get(|Opened(a): Opened, At(name): At<String>| async move { answer(a.bridge(&name).await) }),
        )
        .route(
            "/api/bridges/{name}/poll",
            post(|Opened(a): Opened, At(name): At<String>| async move { answer(a.poll(&name).await) }),
        )
        .route(
            "/api/bridges/{name}/dry-run",
            post(|Opened(a): Opened, At(name): At<String>, InTime(request): InTime<DryRun>| async move {
                answer(a.dry_run(&name, request).await)
            })
            .layer(axum::extract::DefaultBodyLimit::max(RESPONSE_BYTES_MAX)),
        )
        .route(
            "/api/bridges/{name}/accept",
            post(|Opened(a): Opened, At(name): At<String>, Query(held): Query<Held>| async move {
                answer(a.accept(&name, held.hash).await)
            }),
        )
        .route(
            "/api/bridges/{name}/reject",
            post(|Opened(a): Opened, At(name): At<String>, Query(held): Query<Held>| async move {
                answer(a.reject(&name, held.hash).await)
            }),
        )
        .route(
            "/api/bridges/{name}/resend",
            post(|Opened(a): Opened, At(name): At<String>, Query(to): Query<To>| async move {
                answer(a.resend(&name, &to.endpoint).await)
            }),
        )
        .route(
            "/api/endpoints/{name}/enable",
            post(|Opened(a): Opened, At(name): At<String>| async move { answer(a.enable(&name, true).await) }),
        )
        .route(
            "/api/endpoints/{name}/disable",
            post(|Opened(a): Opened, At(name): At<String>| async move { answer(a.enable(&name, false).await) }),
        )
        .route(
            "/api/endpoints/{name}/test",
            post(|Opened(a): Opened, At(name): At<String>| async move { answer(a.test(&name).await) }),
        )
        .route(
            "/api/events",
            get(|Opened(a): Opened, Query(query): Query<EventQuery>| async move { answer(a.events(query).await) }),
        )
        .route(
            "/api/events/{id}",
            get(|Opened(a): Opened, At(id): At<String>| async move { answer(a.event(&id).await) }),
        )
        .route(
            "/api/deliveries",
            get(|Opened(a): Opened, Query(query): Query<DeliveryQuery>| async move {
                let (rows, total) = match a.deliveries(query).await {
                    Ok(listed) => (Ok(listed.rows), listed.total),
                    Err(error) => (Err(error), None),
                };
                let total = total.map(|total| [(TOTAL, total.to_string())]);
                (total.map(AppendHeaders), answer(rows)).into_response()
            }),
        )
        .route(
            "/api/replay",
            post(|Opened(a): Opened, InTime(request): InTime<Replay>| async move { answer(a.replay(request).await) }),
        )
}

/// Of a listing that was cut: how many rows there are, with a `+` where there are even more.
pub const TOTAL: &str = "x-total-count";

/// A saved answer for a dry run may be as large as a polled one.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

fn answer<T: Serialize>(result: Result<T, Error>) -> Response {
    match result {
        Ok(value) => Body(value).into_response(),
        Err(error) => {
            let status = match &error {
                Error::Refused(_) => StatusCode::BAD_REQUEST,
                Error::Store(store::Error::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
                Error::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, Body(Failed { error: error.to_string() })).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    /// A body of one byte each half a second was read for as long as it came.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up() {
        let drips = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Some((Ok::<_, Infallible>(" "), ()))
        });
        let request = Request::builder().header(CONTENT_TYPE, "application/json");
        let request = request.body(axum::body::Body::from_stream(drips)).expect("a request");
        let refused = InTime::<Json>::from_request(request, &()).await.err().expect("refused");
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
