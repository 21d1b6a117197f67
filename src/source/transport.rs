//! What every request over HTTP has, whatever is asked: headers, credentials, identity, limits and deadlines. The sources
//! `http`, `graphql` and `soap` share it, and `grpc` and `websocket` take from it what they need.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use url::Url;

use super::{Error, ErrorKind, auth::Auth};
use crate::{
    http::egress::Egress,
    http::{BodyLimit, identity::Identity, origin},
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

/// The `url` of a source; a literal one is checked. `schemes` are those that may stand there.
pub fn read_url(item: &Item<'_>, schemes: &[&str]) -> Option<Value> {
    let value = item.value()?;
    if let Value::Literal(text) = &value {
        check_url(item, text, schemes)?;
    }
    Some(value)
}

/// The origin of a `url` that jq does not make.
pub fn fixed_origin(url: &Value) -> Option<String> {
    url.fixed().first().and_then(|text| text.parse::<Url>().ok()).map(|url| origin(&url))
}

/// Checks a literal URL; `None` after an error.
pub fn check_url(item: &Item<'_>, text: &str, schemes: &[&str]) -> Option<Url> {
    let wrong = |why: String| {
        item.error(format!("`{}`: {why}", item.path))
            .help(format!("for example \"{}://api.example.com/orders\"", schemes.last().unwrap_or(&"https")))
            .report();
        None
    };
    match text.parse::<Url>() {
        Err(error) => wrong(format!("not a URL: {error}")),
        Ok(url) if !schemes.contains(&url.scheme()) => {
            wrong(format!("the scheme {:?} is not {}", url.scheme(), schemes.join(" or ")))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            item.error(format!("`{}` holds a user or password", item.path)).help("use `auth.basic`".into()).report();
            None
        }
        Ok(url) => {
            // It would be refused with each request.
            let egress = item.context().allow.get().map(|allow| Egress::new(allow.clone()));
            if let Some(Err(refused)) = egress.map(|egress| egress.judge_literal(&url)) {
                item.error(format!("`{}`: {refused}", item.path)).report();
                return None;
            }
            Some(url)
        }
    }
}

/// A URL that jq made of data: it may not leave the path that the expression has for it.
pub fn made_url(text: &str) -> Result<Url, String> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if path.contains(|c: char| c == '\\' || c.is_control()) {
        return Err("it holds a backslash or a control character".into());
    }
    let is_dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if path.split('/').any(is_dots) {
        return Err("its path has `.` or `..`: encode what is joined into it, `(.item | @uri)`".into());
    }
    let url: Url = text.parse().map_err(|e| format!("it is no URL: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or password: use `auth.basic`".into());
    }
    Ok(url)
}

/// The schemes of HTTP.
pub const HTTP: &[&str] = &["http", "https"];

/// A table of header names and values.
pub fn read_headers(item: &Item<'_>) -> Option<Vec<(HeaderName, Value)>> {
    let all = item.table()?.take_all();
    let header = |(name, place, at): (&str, _, Item<'_>)| match name.parse::<HeaderName>() {
        Ok(header) => Some((header, at.value()?)),
        Err(_) => {
            at.error_at(place, format!("`{}`: {name:?} is no header name", item.path)).report();
            None
        }
    };
    Some(all.into_iter().filter_map(header).collect())
}

fn read_origins(item: &Item<'_>) -> Option<Vec<String>> {
    item.items()?.iter().map(|i| i.string().and_then(|text| check_url(i, text, HTTP)).map(|url| origin(&url))).collect()
}
