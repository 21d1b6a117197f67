//! What every request over HTTP has, whatever is asked: headers, credentials, identity, limits and deadlines. The sources
//! `http`, `graphql` and `soap` share it, and `grpc`, `websocket` and `sse` take from it what they need.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::{Error, ErrorKind};
use crate::{
    auth::{self, Auth},
    http::{
        BodyLimit,
        identity::{Identity, identity, version},
        origin,
        target::{self, HTTP, check_url},
    },
    settings::{
        Item, Table,
        key::{Get, keys},
        units::Rate,
        value::Value,
    },
};

const TIMEOUT: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5 * 60);
const SIZE_MAX: u64 = 32 << 20;
const REDIRECTS: usize = 5;
pub const DEPTH_MAX: usize = 128;

keys! {
    /// What the requests of every source have.
    mod requests;
    /// Credentials: [below](#auth).
    get AUTH: Vec<Auth> = "auth", auth::ALL;
    /// Limit for all pages. A later page that gets 429, 502, 503 or 504, or whose connection breaks, is requested again after
    /// `Retry-After`, or 2 s, 4 s, ... 30 s, while the deadline leaves time.
    or DEADLINE: Duration = "deadline", SOME_DURATION, || super::DEADLINE;
    /// Largest page after decompression (gzip, br, zstd, deflate; beyond 1 MiB at most 200 to 1); all pages together may have 8
    /// times as much. An unknown `Content-Encoding` is read as it comes. If the path of the URL ends in `.gz`, or the type is
    /// `application/gzip`, and the body is a file of gzip, it is unpacked; name a decoder then, since the type does not say what is
    /// in it.
    or SIZE_MAX: u64 = "size-max", SIZE, || super::SIZE_MAX;
    /// Deepest nesting of an answer.
    or DEPTH_MAX: usize = "depth-max", count(1, 128), || super::DEPTH_MAX;
    /// A rate for all requests to the origin of `url`, including those of a login. If several bridges set a rate for one origin,
    /// the slowest applies to all. A bridge whose `url` is computed by jq has its own limit.
    get RATE: Rate = "rate", key::RATE;
    + identity::FAMILY;
}

keys! {
    /// What a single request may take.
    mod timed;
    /// Limit for one request, headers and body.
    or TIMEOUT: Duration = "timeout", SOME_DURATION, || super::TIMEOUT;
}

keys! {
    /// Headers of the file.
    mod headed;
    /// A table of values. With an `If-None-Match` or another header of this kind in it, bellpull sends none of its own.
    get HEADERS: Vec<(HeaderName, Value)> = "headers", target::HEADERS;
}

keys! {
    /// Where redirects lead.
    mod redirected;
    /// How many redirects are followed, on the same origin.
    or REDIRECTS: usize = "redirects", count(0, 20), || super::REDIRECTS;
    /// Other origins that a redirect may lead to; credentials, the file's headers and a body are not sent there.
    or REDIRECTS_TO: Vec<String> = "redirects-to",
        Form::shown_by(Shape::List(&Shape::Text), read_origins, |all| all.as_slice().into()), Vec::new;
}

keys! {
    /// What the requests of sources over HTTP have.
    mod over_http;
    + headed::FAMILY;
    + timed::FAMILY;
    + requests::FAMILY;
    + redirected::FAMILY;
    + version::FAMILY;
}

/// What the requests are of: not each has all of HTTP's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Http,
    /// One call with one deadline, in HTTP/2.
    Grpc,
    /// One request that opens a connection which stays.
    Stream,
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
    pub fn read(table: &mut Table<'_>, headers: &Get<Vec<(HeaderName, Value)>>, over: Over) -> Self {
        let is_http = over == Over::Http;
        let auth = table.item(&requests::AUTH).and_then(|item| {
            let auth = requests::AUTH.read(&item)?;
            if !is_http && !auth::refusals(&auth, false).is_empty() {
                item.error(format!(
                    "`refused` in `{}` is jq over an answer of HTTP, and {} has none",
                    item.path,
                    table.title()
                ))
                .help("leave it out: the protocol's own refusals are known".into())
                .report();
            }
            Some(auth)
        });
        Self {
            headers: table.get(headers).unwrap_or_default(),
            auth: auth.unwrap_or_default(),
            identity: Identity::read(table, is_http),
            timeout: if over == Over::Grpc { TIMEOUT } else { table.or(&timed::TIMEOUT) },
            deadline: table.or(&requests::DEADLINE),
            size_max: table.or(&requests::SIZE_MAX),
            depth_max: table.or(&requests::DEPTH_MAX),
            redirects: if is_http { table.or(&redirected::REDIRECTS) } else { REDIRECTS },
            redirects_to: if is_http { table.or(&redirected::REDIRECTS_TO) } else { Vec::new() },
            rate: table.get(&requests::RATE),
        }
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
