//! The spans, and the way to the collector: OTLP over HTTP as protobuf, by a client of its own, from a thread of the SDK's.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    pin::Pin,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{
    KeyValue,
    trace::{SpanContext, TraceContextExt, TracerProvider},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Instrument, field::Empty, instrument::Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{layer::Layer, registry::LookupSpan};

use super::{Polled, TARGET};

/// How long the last spans may take to go out at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// One request to the collector, where `OTEL_EXPORTER_OTLP_TIMEOUT` (in milliseconds) says nothing: the specification's.
const EXPORT_WITHIN: Duration = Duration::from_secs(10);
/// Events whose poll is known: of later attempts, of which there are few, the span has no link.
const ORIGINS_MAX: usize = 4096;
/// Links of one attempt, whose batch may have many events.
const LINKS_MAX: usize = 32;

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();
static ORIGINS: Mutex<Origins> = Mutex::new(Origins { spans: BTreeMap::new(), oldest: VecDeque::new() });

/// The spans of the polls that committed events.
struct Origins {
    spans: BTreeMap<String, SpanContext>,
    oldest: VecDeque<String>,
}

/// A span, if somebody collects it.
#[derive(Debug, Clone)]
pub struct Span(tracing::Span);

impl Span {
    pub fn none() -> Self {
        Self(tracing::Span::none())
    }

    /// The root of a poll's trace.
    pub fn poll(bridge: &str) -> Self {
        Self(tracing::info_span!(
            target: TARGET, parent: None, "poll",
            bridge, outcome = Empty, bytes = Empty, created = Empty, updated = Empty, deleted = Empty,
            error = Empty, otel.status_code = Empty,
        ))
    }

    /// One request, of whatever it is made for.
    pub fn request(origin: &str, method: &str) -> Self {
        Self(tracing::info_span!(
            target: TARGET, "request", otel.kind = "client",
            origin, method, status = Empty, bytes = Empty, error = Empty, otel.status_code = Empty,
        ))
    }

    /// The root of the trace of one attempt at a delivery.
    pub fn attempt(endpoint: &str) -> Self {
        Self(tracing::info_span!(
            target: TARGET, parent: None, "deliver", otel.kind = "producer",
            endpoint, event_id = Empty, events = Empty, class = Empty, status = Empty,
            error = Empty, otel.status_code = Empty,
        ))
    }

    /// Work whose spans are children of this one.
    pub fn around<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.0.clone())
    }

    pub fn polled(&self, poll: &Polled<'_>) {
        self.0.record("outcome", poll.outcome).record("bytes", poll.bytes);
        self.0.record("created", poll.created).record("updated", poll.updated).record("deleted", poll.deleted);
        if let Some(error) = poll.error {
            self.failed(&error);
        }
    }

    pub fn answered(&self, status: u16, bytes: Option<usize>) {
        self.0.record("status", status).record("bytes", bytes);
    }

    /// `error` as it may be shown: without secrets.
    pub fn failed(&self, error: &dyn Display) {
        self.0.record("error", tracing::field::display(error)).record("otel.status_code", "ERROR");
    }

    pub fn attempted<'a>(
        &self,
        class: &str,
        status: Option<u16>,
        events: impl ExactSizeIterator<Item = &'a str> + Clone,
        error: Option<&str>,
    ) {
        self.0.record("class", class).record("status", status).record("events", events.len());
        if let Some(first) = events.clone().next() {
            self.0.record("event_id", first);
        }
        if let Some(error) = error {
            self.failed(&error);
        }
        if self.0.is_disabled() {
            return;
        }
        let origins = ORIGINS.lock().expect("no thread panics with it");
        let links = events.filter_map(|event| origins.spans.get(event)).take(LINKS_MAX).cloned();
        links.for_each(|origin| self.0.add_link(origin));
    }
}

/// These events come from the poll that this is called in.
pub fn originates(events: impl Iterator<Item = String>) {
    let context = tracing::Span::current().context();
    let origin = context.span().span_context().clone();
    if !origin.is_sampled() {
        return;
    }
    let mut origins = ORIGINS.lock().expect("no thread panics with it");
    for event in events {
        if origins.oldest.len() >= ORIGINS_MAX
            && let Some(oldest) = origins.oldest.pop_front()
        {
            origins.spans.remove(&oldest);
        }
        origins.oldest.push_back(event.clone());
        origins.spans.insert(event, origin.clone());
    }
}

/// Whether spans are exported.
pub fn is_on() -> bool {
    PROVIDER.get().is_some()
}

/// The layer that exports spans, where the environment names a collector.
pub fn export<S>() -> Option<Box<dyn Layer<S> + Send + Sync>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let within = set("OTEL_EXPORTER_OTLP_TIMEOUT").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    let built = Collector::new(within.unwrap_or(EXPORT_WITHIN)).and_then(|collector| {
        SpanExporter::builder().with_http().with_http_client(collector).build().map_err(|e| e.to_string())
    });
    let exporter = match built {
        Ok(exporter) => exporter,
        Err(error) => {
            // There is no log yet.
            eprintln!("bellpull: traces are not exported: {error}");
            return None;
        }
    };
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let named = set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    if set("OTEL_SERVICE_NAME").is_none() && !named {
        resource = resource.with_service_name("bellpull");
    }
    // Its queue is bounded (OTEL_BSP_MAX_QUEUE_SIZE, 2048), and what finds it full is dropped.
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = provider.tracer("bellpull");
    let _ = PROVIDER.set(provider);
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    let spans = |metadata: &tracing::Metadata<'_>| metadata.target() == TARGET;
    let layer = layer.with_target(false).with_tracked_inactivity(false);
    Some(Box::new(layer.with_filter(tracing_subscriber::filter::filter_fn(spans))))
}

/// Sends what is left, within a deadline.
pub async fn flush() {
    let Some(provider) = PROVIDER.get() else { return };
    let ended = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
    if let Ok(Err(error)) = ended {
        tracing::warn!(%error, "the last traces were not exported");
    }
}

/// The collector, asked on the daemon's runtime: the SDK's thread has none.
#[derive(Debug)]
struct Collector {
    client: reqwest::Client,
    runtime: Handle,
}

impl Collector {
    fn new(within: Duration) -> Result<Self, String> {
        let runtime = Handle::try_current().map_err(|e| e.to_string())?;
        // The process's TLS provider; a second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = builder.timeout(within).build().map_err(|e| e.to_string())?;
        Ok(Self { client, runtime })
    }
}

async fn send(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    /// What a collector has to say of what it did not take.
    const ANSWER_BYTES: usize = 64 << 10;
    let request = reqwest::Request::try_from(request)?;
    let mut answer = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES
        && let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)?
    {
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(format!("the collector answered {}", status.as_u16()).into());
    }
    Ok(Response::builder().status(status).body(Bytes::from(body))?)
}

impl HttpClient for Collector {
    // As `async_trait` would write it.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        /// Told once, until it works again.
        static FAILS: AtomicBool = AtomicBool::new(false);
        let sent = self.runtime.spawn(send(self.client.clone(), request));
        Box::pin(async move {
            let result = sent.await.map_err(HttpError::from).flatten();
            let told = FAILS.swap(result.is_err(), Ordering::Relaxed);
            if let Err(error) = &result
                && !told
            {
                tracing::warn!(error, "traces cannot be exported: those that wait beyond a full queue are dropped");
            }
            result
        })
    }
}
