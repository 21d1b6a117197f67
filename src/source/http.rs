//! `source.http`: a request as the file defines it; `walk` sends it and walks its pages.

mod walk;

use std::{sync::Arc, time::Duration};

use reqwest::{Method, header::HeaderName};
use serde_json::Value as Json;
use url::Url;

use walk::Walk;

use super::{Ask, Error, ErrorKind, Fetched, auth::Auth, page::Pages};
use crate::{
    decode,
    expr::Expr,
    http::{BodyLimit, origin},
    settings::{
        Item, Table,
        value::{JsonBody, Value},
    },
};

const TIMEOUT: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5 * 60);
const SIZE_MAX: u64 = 32 << 20;
/// All pages of a walk together: several times what one answer may be.
const WALK_SIZES: u64 = 8;
const REDIRECTS: u64 = 5;
const DEPTH_MAX: u64 = 128;
/// Of an error's answer, for the message.
const EXCERPT_CHARS: usize = 200;

/// Keys of later versions, refused by name.
const NOT_YET: &[&str] = &["retry", "rate", "tls", "proxy", "http", "job"];

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    url: Value,
    /// Of `url`, where jq does not make it.
    pub origin: Option<String>,
    method: Method,
    query: Vec<(String, Value)>,
    headers: Vec<(HeaderName, Value)>,
    body: Body,
    auth: Vec<Auth>,
    pages: Option<Pages>,
    pub decode: Option<decode::Decoder>,
    accept: Vec<u16>,
    fail: Option<Expr>,
    conditional: bool,
    timeout: Duration,
    deadline: Duration,
    size_max: u64,
    pub depth_max: usize,
    redirects: usize,
    redirects_to: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    None,
    Text(Value),
    Json(JsonBody),
}

impl Source {
    /// Reads `[bridge.NAME.source.http]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        table.not_yet(NOT_YET);
        let url = table.require("url", "url = \"https://api.example.com/orders\"").and_then(|item| read_url(&item));
        let method = table.take("method").map_or(Some(Method::GET), |i| {
            i.parse_text(
                |t| {
                    t.parse::<Method>().map_err(|_| format!("{t:?} is no method")).and_then(|m| {
                        if m.as_str().bytes().all(|b| b.is_ascii_uppercase()) {
                            Ok(m)
                        } else {
                            Err(format!("{t:?} is no method: write {:?}", t.to_uppercase()))
                        }
                    })
                },
                "a method such as \"GET\"",
            )
        });
        let query = table.take("query").and_then(|i| i.value_map()).unwrap_or_default();
        let headers = table.take("headers").and_then(|i| read_headers(&i)).unwrap_or_default();
        let json_place = table.key_place("json");
        let text = table.take("body");
        let json = table.take("json");
        let body = match (text, json) {
            (Some(_), Some(_)) => {
                let place = json_place.unwrap_or_else(|| table.place.clone());
                table
                    .error_at(place, format!("`json` stands beside `body` in {}", table.title()))
                    .help("keep one of them".into())
                    .report();
                None
            }
            (Some(text), None) => text.value().map(Body::Text),
            (None, Some(json)) => json.json_body().map(Body::Json),
            (None, None) => Some(Body::None),
        };
        let auth = table.take("auth").and_then(|i| Auth::read_all(&i)).unwrap_or_default();
        let pages = table.take("pages").map(|i| Pages::read(&i));
        let in_json = pages.iter().flatten().any(|pages| matches!(pages.at(), Some(super::page::At::Json(_))));
        if in_json && matches!(body, Some(Body::Text(_))) {
            let message = format!("`pages` of {} go into a JSON body, but `body` is a text", table.title());
            table.error(message).help("write `json` instead of `body`".into()).report();
        }
        let decode = table.take("decode").map(|i| decode::read(&i));
        let accept = table.take("accept").map_or(Some(vec![200]), |i| read_statuses(&i));
        let fail = table.take("fail").map(|i| i.expr());
        let conditional = table.take("conditional").and_then(|i| i.boolean()).unwrap_or(true);
        let timeout = table.take("timeout").and_then(|i| i.some_duration()).unwrap_or(TIMEOUT);
        let deadline = table.take("deadline").and_then(|i| i.some_duration()).unwrap_or(DEADLINE);
        let size_max = table.take("size-max").and_then(|i| i.size()).unwrap_or(SIZE_MAX);
        let depth_max = table.take("depth-max").and_then(|i| i.integer(1..=DEPTH_MAX)).unwrap_or(DEPTH_MAX);
        let redirects = table.take("redirects").and_then(|i| i.integer(0..=20)).unwrap_or(REDIRECTS);
        let redirects_to = table.take("redirects-to").and_then(|i| read_origins(&i)).unwrap_or_default();
        table.finish();
        let url = url?;
        let texts = if url.is_constant() { url.resolve(&Json::Null).unwrap_or_default() } else { Vec::new() };
        let fixed = texts.first().and_then(|text| text.parse::<Url>().ok()).map(|url| origin(&url));
        Some(Self {
            origin: fixed,
            url,
            method: method?,
            query,
            headers,
            body: body?,
            auth,
            pages: pages.map_or(Some(None), |p| p.map(Some))?,
            decode: decode.map_or(Some(None), |d| d.map(Some))?,
            accept: accept?,
            fail: fail.map_or(Some(None), |f| f.map(Some))?,
            conditional,
            timeout,
            deadline,
            size_max,
            depth_max: usize::try_from(depth_max).unwrap_or(128),
            redirects: usize::try_from(redirects).unwrap_or(0),
            redirects_to,
        })
    }

    /// What the snapshot depends on. Secrets, limits and timeouts are not part of it.
    pub fn definition(&self) -> String {
        format!(
            "http {:?} {} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.url, self.method, self.query, self.headers, self.body, self.pages, self.decode, self.accept
        )
    }

    pub fn describe(&self) -> String {
        match &self.url {
            Value::Literal(url) => format!("{} {url}", self.method),
            _ => format!("{} (a URL that is secret or made by jq)", self.method),
        }
    }

    /// A URL without its query and user; without its path too where the file does not show it.
    fn shown(&self, url: &Url) -> String {
        match self.url {
            Value::Literal(_) => format!("{}{}", origin(url), url.path()),
            _ => origin(url),
        }
    }

    /// A message without the secrets of this source: an API's error may echo what it was sent.
    pub fn redact(&self, message: String) -> String {
        /// A shorter secret is none, and would blank out words.
        const SECRET_BYTES_MIN: usize = 6;
        let body = match &self.body {
            Body::Text(value) => Some(value),
            _ => None,
        };
        let named = self.headers.iter().map(|(_, v)| v).chain(self.query.iter().map(|(_, v)| v));
        let values = named.chain([&self.url]).chain(body).filter_map(|value| match value {
            Value::Secret(secret) => Some(secret),
            _ => None,
        });
        let mut message = message;
        for secret in self.auth.iter().flat_map(Auth::secrets).chain(values).map(|secret| secret.expose()) {
            if secret.len() >= SECRET_BYTES_MIN {
                let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
                message = message.replace(secret, "***").replace(&encoded, "***");
            }
        }
        message
    }

    pub async fn fetch(self: &Arc<Self>, mut ask: Ask<'_>) -> Result<Fetched, Error> {
        let walk = Walk::start(self, &ask)?;
        let first = walk.origin();
        match tokio::time::timeout(self.deadline, walk.run(&mut ask)).await {
            Ok(result) => result,
            Err(_) => Err(ErrorKind::Deadline { origin: first, after: self.deadline }.into()),
        }
    }

    fn answer_limit(&self) -> BodyLimit {
        BodyLimit::Whole(self.size_max)
    }
}

fn read_url(item: &Item<'_>) -> Option<Value> {
    let value = item.value()?;
    if let Value::Literal(text) = &value {
        check_url(item, text)?;
    }
    Some(value)
}

/// Checks a literal URL; `None` after an error.
pub fn check_url(item: &Item<'_>, text: &str) -> Option<Url> {
    let wrong = |why: String| {
        item.error(format!("`{}`: {why}", item.path))
            .help("for example \"https://api.example.com/orders\"".into())
            .report();
        None
    };
    match text.parse::<Url>() {
        Err(error) => wrong(format!("not a URL: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            wrong(format!("the scheme {:?} is not http or https", url.scheme()))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            item.error(format!("`{}` holds a user or password", item.path)).help("use `auth.basic`".into()).report();
            None
        }
        Ok(url) => Some(url),
    }
}

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

/// A list of statuses.
pub fn read_statuses(item: &Item<'_>) -> Option<Vec<u16>> {
    let all = item.items()?;
    let statuses: Option<Vec<u16>> =
        all.iter().map(|i| i.integer(100..=599).and_then(|n| u16::try_from(n).ok())).collect();
    statuses
}

fn read_origins(item: &Item<'_>) -> Option<Vec<String>> {
    item.items()?.iter().map(|i| i.string().and_then(|text| check_url(i, text)).map(|url| origin(&url))).collect()
}
