//! The way of gRPC's frames over bellpull's own HTTP client: addresses are judged, connections pooled and identities kept as
//! for every other source.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use reqwest::header::HeaderMap;
use tonic::{body::Body, client::Grpc};
use tower_service::Service;
use url::Url;

use crate::http::{Client, Error, client::Turn};

/// One poll's calls to one server.
pub(super) struct Channel {
    wire: Wire,
    message_max: usize,
}

/// What tonic sends through.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client,
    target: Url,
    /// Metadata and credentials.
    headers: HeaderMap,
    _turn: std::sync::Arc<Turn>,
}

impl Channel {
    pub(super) fn new(client: Client, turn: Turn, target: Url, headers: HeaderMap, message_max: usize) -> Self {
        Self { wire: Wire { client, target, headers, _turn: turn.into() }, message_max }
    }

    pub(super) fn target(&self) -> &Url {
        &self.wire.target
    }

    /// A client that is ready for one call.
    pub(super) async fn grpc(&mut self) -> Result<Grpc<Wire>, Error> {
        let mut grpc = Grpc::new(self.wire.clone()).max_decoding_message_size(self.message_max);
        grpc.ready().await?;
        Ok(grpc)
    }
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<reqwest::Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { client, mut target, headers: own, .. } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let failed = |cause: String| Error::Request { origin: crate::http::origin(&target), cause };
            // The requests of all our calls are known when they begin.
            let body = body.collect().await.map_err(|e| failed(e.to_string()))?.to_bytes();
            target.set_path(parts.uri.path());
            let mut headers = parts.headers;
            headers.extend(own);
            client.stream(target, headers, body).await
        })
    }
}
