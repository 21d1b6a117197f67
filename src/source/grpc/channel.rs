//! The way of gRPC's frames over bellpull's own HTTP client: addresses are judged, connections pooled and identities kept as
//! for every other source.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::{body::Body, client::Grpc};
use tower_service::Service;
use url::Url;

use super::{
    frames::{self, Framing, Messages},
    status,
};
use crate::{
    clock::Clock,
    http::{Client, client::Turn, origin},
    source::{Error, ErrorKind},
};

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// One poll's calls to one server.
pub(super) struct Channel(Wire);

/// What tonic sends through.
#[derive(Clone)]
pub(super) struct Wire {
    pub client: Client,
    /// Its path stands before that of each call.
    pub target: Url,
    /// Metadata and credentials.
    pub headers: HeaderMap,
    /// Bytes of one message.
    pub message_max: usize,
    /// When the poll gives up.
    pub ends: Instant,
    pub clock: Clock,
    pub _turn: Arc<Turn>,
}

impl Channel {
    pub(super) fn new(wire: Wire) -> Self {
        Self(wire)
    }

    pub(super) fn target(&self) -> &Url {
        &self.0.target
    }

    /// A client that is ready for one call.
    pub(super) async fn grpc(&self) -> Result<Grpc<Wire>, Error> {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(self.0.message_max);
        grpc.ready().await?;
        Ok(grpc)
    }

    /// What a status of one of its calls means.
    pub(super) fn failure(&self, status: &tonic::Status) -> Error {
        status::failure(status, &origin(&self.0.target), self.0.clock.now())
    }
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Messages>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move { wire.send(request).await })
    }
}

impl Wire {
    async fn send(self, request: http::Request<Body>) -> Result<http::Response<Messages>, Error> {
        let Self { client, mut target, headers: own, message_max, ends, clock, _turn } = self;
        let origin = origin(&target);
        let (parts, body) = request.into_parts();
        let failed = |cause| ErrorKind::Http(crate::http::Error::Request { origin: origin.clone(), cause });
        // The requests of all our calls are known when they begin.
        let body = body.collect().await.map_err(|e| failed(e.to_string()))?.to_bytes();
        let path = format!("{}{}", target.path().trim_end_matches('/'), parts.uri.path());
        target.set_path(&path);
        let mut headers = parts.headers;
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(frames::ACCEPTED));
        headers.insert(TIMEOUT, timeout(ends.saturating_duration_since(Instant::now())));
        headers.extend(own);
        let answer = client.stream(target, headers, body).await.map_err(ErrorKind::Http)?;
        if !status::is_grpc(answer.status().as_u16(), answer.headers()) {
            return Err(status::plain(answer, &origin, clock.now()).await);
        }
        let (mut parts, body) = answer.into_parts();
        status::mend_details(&mut parts.headers);
        // Taken out: tonic sees messages that are not packed.
        let encoding = parts.headers.remove(ENCODING).and_then(|name| name.to_str().ok().map(str::to_ascii_lowercase));
        let encoding = encoding.filter(|name| name != "identity");
        let framing = Framing { origin, encoding, message_max };
        Ok(http::Response::from_parts(parts, frames::messages(body, framing)))
    }
}

/// As gRPC writes a time: at most eight digits, and a unit.
fn timeout(left: std::time::Duration) -> HeaderValue {
    const DIGITS_MAX: u64 = 99_999_999;
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let text = if ms <= DIGITS_MAX { format!("{ms}m") } else { format!("{}S", left.as_secs().min(DIGITS_MAX)) };
    HeaderValue::from_str(&text).expect("digits and a letter")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, extract::Request, http::StatusCode};
    use tonic::Code;

    use super::*;
    use crate::http::{
        client::Config,
        identity::{Identity, Version},
    };

    /// A path of `target` was dropped, and a balancer's page was read as frames.
    #[tokio::test]
    async fn a_call_goes_below_the_target_and_its_answer_is_looked_at() {
        let router = Router::new().fallback(async |request: Request| {
            let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
            let said = format!("{} {} {}", request.uri(), header("grpc-timeout"), header("grpc-accept-encoding"));
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "120"), ("content-type", "text/html")], said)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let config = Config { allow: vec!["127.0.0.0/8".parse().expect("a range")], ..Config::default() };
        let identity = Identity::default().with(Version::Two);
        let client = Client::new(&config).and_then(|client| client.identified(&identity)).expect("a client");
        for path in ["", "/", "/grpc/v1", "/grpc/v1/", "/a%20b"] {
            let wire = Wire {
                client: client.clone(),
                target: format!("http://{at}{path}").parse().expect("a URL"),
                headers: HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static("7S"))]),
                message_max: 1000,
                ends: Instant::now() + Duration::from_secs(5),
                clock: Clock::system(),
                _turn: Arc::new(Client::own_turn()),
            };
            let request = http::Request::post("/shop.Orders/List").body(Body::empty()).expect("a request");
            let error = wire.send(request).await.err().expect("no answer of gRPC");
            assert_eq!(error.hint, Some(Duration::from_secs(120)));
            let ErrorKind::Grpc { code: Code::Unavailable, message, .. } = error.kind else { panic!("{error}") };
            let path = path.trim_end_matches('/');
            // The file's own metadata goes before ours.
            let said = format!("503 with text/html: http://{at}{path}/shop.Orders/List 7S gzip");
            assert_eq!(message, format!("the answer is not gRPC's but {said}"));
        }
        serving.abort();
    }

    #[test]
    fn a_timeout_has_eight_digits_at_most() {
        for (left, text) in [
            (Duration::ZERO, "0m"),
            (Duration::from_millis(4_999), "4999m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(timeout(left), text);
        }
    }
}
