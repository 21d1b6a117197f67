//! Requests and answers: one pooled client, addresses judged, bodies capped, no secret in an error.
//!
//! It knows bytes, headers and limits. What an answer means is for `source` and `deliver` to say; redirects are never
//! followed here.

pub mod budget;
pub mod client;
pub mod cookies;
pub mod egress;
pub mod hint;
pub mod identity;
pub mod named;
pub mod names;
pub mod packed;
pub mod place;
pub mod retry_after;
pub mod target;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, header::HeaderMap};
use url::Url;

use crate::expr::Said;

pub use client::Client;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

/// What came back, decompressed.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub url: Url,
}

impl Answer {
    /// A header as text, when it is there once and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What jq over it sees beside its body.
    pub fn said(&self) -> Said {
        let mut headers = serde_json::Map::new();
        for (name, value) in &self.headers {
            let value = || String::from_utf8_lossy(value.as_bytes()).into_owned().into();
            headers.entry(name.as_str()).or_insert_with(value);
        }
        Said::new(&headers, self.status)
    }
}

/// How much of a body is wanted.
#[derive(Debug, Clone, Copy)]
pub enum BodyLimit {
    /// All of it, or an error beyond so many bytes after decompression.
    Whole(u64),
    /// The first bytes; the rest is not read.
    Head(u64),
}

/// Why no answer, or no whole answer, came. Never holds a path, a query or a header: they may be secret.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("{0}")]
    Address(#[from] egress::Refused),
    #[error("failed to connect to {origin}: {cause}")]
    Connect { origin: String, cause: String },
    #[error("{origin} did not answer within {}", crate::settings::units::show(*.after))]
    Timeout { origin: String, after: Duration },
    #[error("the answer of {origin} is larger than {limit} bytes after decompression (`size-max`)")]
    TooLarge { origin: String, limit: u64 },
    #[error("the answer of {origin} grows more than {ratio} times by decompression: a compression bomb")]
    Bomb { origin: String, ratio: u64 },
    #[error("the answers in flight take all of `daemon.memory`; {origin} needs more")]
    Memory { origin: String },
    #[error("the answer of {origin} ended early or is damaged: {cause}")]
    Body { origin: String, cause: String },
    /// The connection ended before an answer began: it says nothing of the receiver, since an idle one is closed at any time.
    /// `unread`: the server says that it did not look at the request (RFC 9113, sections 6.8 and 8.7).
    #[error("the answer of {origin} ended early or is damaged: {cause}")]
    Lost { origin: String, cause: String, unread: bool },
    #[error("the request to {origin} could not be made: {cause}")]
    Request { origin: String, cause: String },
}

/// Whether what is sent there can be read on the way: no TLS, and not this machine.
pub fn is_clear(url: &Url) -> bool {
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    matches!(url.scheme(), "http" | "ws") && !here
}

/// `https://host:port`, all of a URL that an error or a log may show.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}
