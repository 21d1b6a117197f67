//! Spans of polls and deliveries for a collector of OpenTelemetry, in builds with the feature `otlp` and where
//! `OTEL_EXPORTER_OTLP_ENDPOINT` is set. In all others a [`Span`] is nothing, and costs nothing.
//!
//! Nothing waits for a collector: spans beyond a full queue are dropped. An attribute holds an origin, never a path, a query
//! or a header.

#[cfg(feature = "otlp")]
mod otlp;

#[cfg(feature = "otlp")]
pub use otlp::{Span, export, flush, is_on, originates};

#[cfg(not(feature = "otlp"))]
pub use none::{Span, flush, originates};

/// What a poll came to.
#[derive(Debug)]
pub struct Polled<'a> {
    pub outcome: &'static str,
    pub bytes: u64,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub error: Option<&'a str>,
}

/// The target of spans, which no line of the log has.
#[cfg(feature = "otlp")]
pub const TARGET: &str = "otlp";

#[cfg(not(feature = "otlp"))]
mod none {
    use super::Polled;

    #[derive(Debug, Clone)]
    pub struct Span;

    impl Span {
        pub fn none() -> Self {
            Self
        }

        pub fn poll(_bridge: &str) -> Self {
            Self
        }

        pub fn request(_origin: &str, _method: &str) -> Self {
            Self
        }

        pub fn attempt(_endpoint: &str) -> Self {
            Self
        }

        pub fn around<F: Future>(&self, work: F) -> F {
            work
        }

        pub fn polled(&self, _poll: &Polled<'_>) {}

        pub fn answered(&self, _status: u16, _bytes: Option<usize>) {}

        pub fn failed(&self, _error: &dyn std::fmt::Display) {}

        pub fn attempted<'a>(
            &self,
            _class: &str,
            _status: Option<u16>,
            _events: impl ExactSizeIterator<Item = &'a str> + Clone,
            _error: Option<&str>,
        ) {
        }
    }

    pub fn originates(_events: impl Iterator<Item = String>) {}

    pub async fn flush() {}
}
