//! What every request over HTTP has, whatever is asked: headers, credentials, identity, limits and deadlines. The sources
//! `http`, `graphql` and `soap` share it, and `grpc` and `websocket` take from it what they need.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::{Error, ErrorKind};
use crate::{
    auth::Auth,
    http::{
        BodyLimit,
        identity::Identity,
        origin,
        target::{HTTP, check_url, read_headers},
    },
    settings::{
        Item, Table,
        units::{self, Rate},
        value::Value,
    },
};

const TIMEOUT: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5 * 60);
const SIZE_MAX: u64 = 32 << 20;
const REDIRECTS: u64 = 5;
const DEPTH_MAX: u64 = 128;

/// What the requests are of: not each has all of HTTP's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Http,
    /// One call with one deadline, in HTTP/2.
    Grpc,
    /// A handshake in HTTP/1.1.
    Websocket,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    pub headers: Vec<(HeaderName, Value)>,
    pub auth: Vec<Auth>,
    pub identity: Identity,
    /// One request, headers and body.
    pub timeout: Duration,
    /// All requests of a poll.
    pub deadline: Duration,
    /// Bytes of one answer after decompression.
    pub size_max: u64,
    pub depth_max: usize,
    pub redirects: usize,
    /// Origins that a redirect may lead to, beside the own one.
    pub redirects_to: Vec<String>,
    pub rate: Option<Rate>,
}

impl Transport {
    /// Reads `headers` (under the name that the source has for them), `auth`, `tls` and the limits.
    pub fn read(table: &mut Table<'_>, headers: &'static str, over: Over) -> Option<Self> {
        let headers = table.take(headers).map_or(Some(Vec::new()), |i| read_headers(&i));
        let auth = table.take("auth").map_or(Some(Vec::new()), |i| Auth::read_all(&i));
        let identity = Identity::read(table, over == Over::Http);
        let timeout = if over == Over::Grpc { None } else { table.take("timeout") };
        let timeout = timeout.and_then(|i| i.some_duration()).unwrap_or(TIMEOUT);
        let deadline = table.take("deadline").and_then(|i| i.some_duration()).unwrap_or(DEADLINE);
        let size_max = table.take("size-max").and_then(|i| i.size()).unwrap_or(SIZE_MAX);
        let depth_max = table.take("depth-max").and_then(|i| i.integer(1..=DEPTH_MAX)).unwrap_or(DEPTH_MAX);
        let mut of_http = |key| if over == Over::Http { table.take(key) } else { None };
        let redirects = of_http("redirects").and_then(|i| i.integer(0..=20)).unwrap_or(REDIRECTS);
        let redirects_to = of_http("redirects-to").and_then(|i| read_origins(&i)).unwrap_or_default();
        let rate = table.take("rate").and_then(|i| i.parse_text(units::rate, "a rate such as \"10/s\""));
        Some(Self {
            headers: headers?,
            auth: auth?,
            identity: identity?,
            timeout,
            deadline,
            size_max,
            depth_max: usize::try_from(depth_max).unwrap_or(128),
            redirects: usize::try_from(redirects).unwrap_or(0),
            redirects_to,
            rate,
        })
    }

    pub fn limit(&self) -> BodyLimit {
        BodyLimit::Whole(self.size_max)
    }

    /// Puts the file's headers on a request.
    pub async fn put_headers(&self, input: &Json, headers: &mut HeaderMap) -> Result<(), Error> {
        for (name, value) in &self.headers {
            headers.remove(name);
            for text in value.resolve(input).await.map_err(ErrorKind::Expr)? {
                let mut header = HeaderValue::from_str(&text).map_err(|_| {
                    ErrorKind::Request(format!("the value of header `{name}` holds a character that no header can"))
                })?;
                header.set_sensitive(matches!(value, Value::Secret(_)));
                headers.append(name.clone(), header);
            }
        }
        Ok(())
    }

    /// Whether credentials, headers or `values` are secret.
    pub fn has_credentials<'v>(&'v self, values: impl Iterator<Item = &'v Value>) -> bool {
        !self.auth.is_empty() || self.headers.iter().map(|(_, value)| value).chain(values).any(Value::is_secret)
    }
}

fn read_origins(item: &Item<'_>) -> Option<Vec<String>> {
    item.items()?.iter().map(|i| i.string().and_then(|text| check_url(i, text, HTTP)).map(|url| origin(&url))).collect()
}
