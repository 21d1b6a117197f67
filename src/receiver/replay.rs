//! Recorded requests, sent again to a URL: method, headers and body as they came, signed again if there is a secret.
//!
//! The URL is the person's who asks: any address may be reached. A redirect is an answer like any other.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use url::Url;

use super::record::Recorded;
use crate::{
    clock::Clock,
    http::{self, BodyLimit, Client, Request},
    model::EventId,
};

/// For one request and its answer: what an endpoint has by default.
const DEADLINE: Duration = Duration::from_secs(15);
/// Of an answer only the status counts.
const ANSWER_BYTES: u64 = 4 << 10;
/// What belongs to the connection that a request came over.
const OF_THE_CONNECTION: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING];

/// Sends requests to one URL.
pub struct Replayer {
    to: Url,
    webhook: Option<Webhook>,
    client: Client,
    clock: Clock,
}

impl Replayer {
    /// Errors say what is wrong with the URL or the secret.
    pub fn new(to: Url, secret: Option<&str>) -> Result<Self, String> {
        if !matches!(to.scheme(), "http" | "https") {
            return Err(format!("the scheme {:?} is not supported: http or https", to.scheme()));
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err("credentials in the URL are not sent: leave them out".into());
        }
        let webhook = secret.map(Webhook::new).transpose().map_err(|e| format!("the secret: {e}"))?;
        let everywhere = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a range of addresses"));
        let client = Client::new(&http::client::Config { allow: everywhere.into(), ..Default::default() })?;
        Ok(Self { to, webhook, client, clock: Clock::system() })
    }

    /// Sends one; the status of its answer, or why there is none.
    pub async fn send(&self, recorded: &Recorded) -> Result<u16, String> {
        let body = recorded.body.bytes().map_err(|e| format!("its body: {e}"))?;
        let method: Method = recorded.method.parse().map_err(|_| format!("the method {:?}", recorded.method))?;
        let headers = self.headers(recorded, &body)?;
        let request = Request { method, url: self.to.clone(), headers, body: Some(body.into()) };
        let turn = self.client.turn(&self.to, None).await;
        let answer = self.client.send(&turn, request, DEADLINE, BodyLimit::Head(ANSWER_BYTES), None).await;
        answer.map(|answer| answer.status).map_err(|e| e.to_string())
    }

    fn headers(&self, recorded: &Recorded, body: &[u8]) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &recorded.headers {
            let wrong = |what: String| format!("its header {name:?}: {what}");
            let parsed: HeaderName = name.parse().map_err(|_| wrong("no such name is valid".into()))?;
            if !OF_THE_CONNECTION.contains(&parsed) {
                let bytes = value.bytes().map_err(wrong)?;
                headers.append(parsed, HeaderValue::from_bytes(&bytes).map_err(|e| wrong(e.to_string()))?);
            }
        }
        if let Some(webhook) = &self.webhook {
            let id = headers.get(HEADER_WEBHOOK_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
            let id = id.unwrap_or_else(|| EventId::random().to_string());
            let seconds = self.clock.now().seconds();
            let signature = webhook.sign(&id, seconds, body).map_err(|e| format!("it cannot be signed: {e}"))?;
            let anew = [
                (HEADER_WEBHOOK_ID, id),
                (HEADER_WEBHOOK_TIMESTAMP, seconds.to_string()),
                (HEADER_WEBHOOK_SIGNATURE, signature),
            ];
            for (name, value) in anew {
                headers.insert(name, HeaderValue::try_from(value).map_err(|e| format!("the header {name}: {e}"))?);
            }
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::record::{Text, Verdict},
        *,
    };

    fn recorded() -> Recorded {
        Recorded {
            at: "2026-11-22T11:42:55.123Z".into(),
            method: "POST".into(),
            path: "/".into(),
            headers: vec![("content-type".into(), Text::Plain("application/json".into()))],
            body: Text::Plain("{}".into()),
            verdict: Verdict::Unchecked,
            why: None,
            status: 200,
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_not_sent() {
        let url = |text: &str| text.parse::<Url>().expect("a URL");
        for bad in ["ftp://127.0.0.1/", "http://user:secret@127.0.0.1/"] {
            let error = Replayer::new(url(bad), None).map(|_| ()).expect_err(bad);
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Replayer::new(url("http://127.0.0.1/"), Some("whsec_!")).is_err());
        let replayer = Replayer::new(url("http://127.0.0.1:1/"), None).expect("a replayer");
        let wrong = [
            Recorded { method: "PO ST".into(), ..recorded() },
            Recorded { body: Text::Base64 { base64: "?".into() }, ..recorded() },
            Recorded { headers: vec![("a b".into(), Text::Plain("c".into()))], ..recorded() },
            Recorded { headers: vec![("a".into(), Text::Plain("b\nc".into()))], ..recorded() },
        ];
        for recorded in wrong {
            let error = replayer.send(&recorded).await.expect_err("it is wrong");
            assert!(!error.contains("failed to connect"), "{error}");
        }
    }

    /// Time is paused: it runs to the deadline at once, since nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = format!("http://{}/", listener.local_addr().expect("an address"));
        let replayer = Replayer::new(to.parse().expect("a URL"), None).expect("a replayer");
        let error = replayer.send(&recorded()).await.expect_err("there is no answer");
        assert!(error.ends_with("did not answer within 15s"), "{error}");
    }
}
