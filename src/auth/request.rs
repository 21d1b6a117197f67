//! A request for a token: to a URL that the file names, without redirects, small and with a deadline.

use std::{ops::Range, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{Error, With, header};
use crate::{
    http::{self, BodyLimit, Request, hint, origin},
    settings::secret::Secret,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const BYTES_MAX: u64 = 1 << 20;
/// Of what a server says that it did not like.
const EXCERPT_CHARS: usize = 200;

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
pub struct Granted {
    pub access_token: String,
    /// Seconds; some servers send a string.
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
    #[serde(default)]
    pub refresh_token: Option<String>,
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Denied {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

impl Granted {
    pub fn life(&self) -> Option<Duration> {
        let seconds = self.expires_in.as_ref()?;
        let text = seconds.as_str().map_or_else(|| seconds.to_string(), str::to_owned);
        Duration::try_from_secs_f64(text.parse().ok()?).ok()
    }
}

/// Sends a request; an answer with one of these statuses is one.
pub async fn send(with: &With<'_>, request: Request, statuses: Range<u16>) -> Result<http::Answer, Error> {
    let from = origin(&request.url);
    let turn = with.client.turn(&request.url, None).await;
    let answer = with.client.send(&turn, request, TIMEOUT, BodyLimit::Whole(BYTES_MAX), None).await?;
    if statuses.contains(&answer.status) {
        return Ok(answer);
    }
    let told = match serde_json::from_slice::<Denied>(&answer.body) {
        Ok(denied) => denied.error_description.map_or(denied.error.clone(), |why| format!("{}: {why}", denied.error)),
        Err(_) => String::from_utf8_lossy(&answer.body).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let message: String = told.chars().take(EXCERPT_CHARS).collect();
    let wait = hint::wait(&answer.headers, with.clock.now());
    Err(Error::Refused { origin: from, status: answer.status, message, wait })
}

/// A token request of OAuth 2.0: a form, and the client's name in its header where `basic` is given.
pub async fn grant(
    with: &With<'_>,
    url: &Url,
    form: &[(&str, &str)],
    basic: Option<(&str, &Secret)>,
) -> Result<Granted, Error> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some((id, secret)) = basic {
        // Section 2.3.1: both are form-encoded first.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret.expose())));
        headers.insert(AUTHORIZATION, header(format!("Basic {pair}"))?);
        with.vault.note(&Secret::new(pair));
    }
    let request = Request { method: Method::POST, url: url.clone(), headers, body: Some(Bytes::from(body)) };
    let answer = send(with, request, 200..300).await?;
    // Not with the parser's words: they may quote the token.
    let why = || "it is not a token response (RFC 6749, section 5.1)".to_owned();
    serde_json::from_slice(&answer.body).map_err(|_| Error::Answer { origin: origin(url), why: why() })
}
