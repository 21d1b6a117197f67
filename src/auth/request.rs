//! A request for a token: to a URL that the file names, without redirects, small and with a deadline.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{Error, With, header, vault::Token};
use crate::{
    http::{self, BodyLimit, Request, hint, origin},
    model::Timestamp,
    settings::secret::Secret,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const BYTES_MAX: u64 = 1 << 20;
/// Of what a server says that it did not like.
const EXCERPT_CHARS: usize = 200;

/// RFC 6749, section 5.1; of Google's token endpoint, which grants an ID token alone where one is asked for.
#[derive(Deserialize)]
pub struct Granted {
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
    /// Seconds; some servers send a string.
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Denied {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

impl Granted {
    /// The token, and for how long it lives; `None` where there is none.
    fn token(&self, now: Timestamp) -> Option<(&str, Option<Duration>)> {
        let said = self.expires_in.as_ref().and_then(|seconds| {
            let text = seconds.as_str().map_or_else(|| seconds.to_string(), str::to_owned);
            Duration::try_from_secs_f64(text.parse().ok()?).ok()
        });
        match (&self.access_token, &self.id_token) {
            (Some(token), _) => Some((token, said)),
            (None, Some(token)) => Some((token, said.or_else(|| life_of(token, now)))),
            (None, None) => None,
        }
    }
}

/// How long a JWT lives that says so itself (RFC 7519, section 4.1.4).
fn life_of(token: &str, now: Timestamp) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    u64::try_from(exp.saturating_sub(now.seconds())).ok().map(Duration::from_secs)
}

/// Sends a request; an answer with such a status is one.
pub async fn send(with: &With<'_>, request: Request, is_one: impl Fn(u16) -> bool) -> Result<http::Answer, Error> {
    let from = origin(&request.url);
    let turn = with.client.turn(&request.url, None).await;
    let answer = with.client.send(&turn, request, TIMEOUT, BodyLimit::Whole(BYTES_MAX), None).await?;
    if is_one(answer.status) {
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

/// A token request of OAuth 2.0: a form, and the client's name in its header where `basic` is given. Gives the token,
/// and the refresh token that came with it.
pub async fn grant(
    with: &With<'_>,
    url: &Url,
    form: &[(&str, &str)],
    basic: Option<(&str, &Secret)>,
) -> Result<(Token, Option<Secret>), Error> {
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
    let answer = send(with, request, |status| (200..300).contains(&status)).await?;
    let now = with.clock.now();
    // Not with the parser's words: they may quote the token.
    let granted: Option<Granted> = serde_json::from_slice(&answer.body).ok();
    let token = granted.as_ref().and_then(|granted| granted.token(now));
    let token = token.map(|(token, life)| Token::new(Secret::new(token.to_owned()), life, now));
    let refresh = granted.as_ref().and_then(|granted| granted.refresh_token.clone()).map(Secret::new);
    let why = || "it is not a token response (RFC 6749, section 5.1)".to_owned();
    token.map(|token| (token, refresh)).ok_or_else(|| Error::Answer { origin: origin(url), why: why() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Google grants an ID token alone, for Cloud Run and IAP: "it is not a token response".
    #[test]
    fn tokens_of_every_kind_of_answer() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":3700,"aud":"https://example.com"}"#);
        let id_token = format!("e30.{claims}.c2ln");
        let cases = [
            (r#"{"access_token":"a","expires_in":60}"#.to_owned(), Some(("a", Some(60)))),
            (r#"{"access_token":"a","expires_in":"60","id_token":"b"}"#.to_owned(), Some(("a", Some(60)))),
            (r#"{"access_token":"a"}"#.to_owned(), Some(("a", None))),
            (format!(r#"{{"id_token":"{id_token}"}}"#), Some((id_token.as_str(), Some(3600)))),
            (format!(r#"{{"id_token":"{id_token}","expires_in":5}}"#), Some((id_token.as_str(), Some(5)))),
            (r#"{"id_token":"no.jwt"}"#.to_owned(), Some(("no.jwt", None))),
            (r#"{"token_type":"bearer"}"#.to_owned(), None),
        ];
        for (answer, expected) in cases {
            let granted: Granted = serde_json::from_str(&answer).expect("JSON");
            let expected = expected.map(|(token, life)| (token, life.map(Duration::from_secs)));
            assert_eq!(granted.token(Timestamp(100_000)), expected, "{answer}");
        }
    }
}
