//! One attempt: the body from the store, signed for this moment, sent, and its answer read and classed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::{
    Shared,
    queue::{Answered, Job},
};
use crate::{
    config::Endpoint,
    http::{self, BodyLimit, Request, client::Turn, retry_after},
    settings::value::Value,
    sign::Message,
    store::Attempt,
};

/// How much of an answer is read.
const ANSWER_READ: u64 = 64 << 10;
/// How much of it is kept.
const ANSWER_KEPT: usize = 4 << 10;
/// A connection that fails this soon was most likely an idle one that the receiver had closed.
const CONNECT_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// What an attempt needs.
pub(super) struct Sender {
    pub shared: Shared,
    pub endpoint: Arc<Endpoint>,
}

/// What came of it.
pub(super) struct Attempted {
    pub result: Answered,
    pub record: Attempt,
    /// For the jitter of what follows.
    pub random: f64,
}

impl Sender {
    pub(super) async fn attempt(&self, job: &Job) -> Attempted {
        let started = Instant::now();
        let number = job.waiting.attempts.saturating_add(1);
        let mut record = Attempt {
            event: String::new(),
            endpoint: self.endpoint.name.to_string(),
            number,
            at: self.shared.clock.now(),
            duration_ms: 0,
            status: None,
            answer: String::new(),
            error: None,
        };
        let result = self.send(job, number, &mut record).await;
        record.duration_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        record.error = match &result {
            Answered::Taken => None,
            Answered::Down { error, .. } | Answered::Refused { error, .. } | Answered::Gone { error, .. } => {
                Some(error.clone())
            }
            Answered::Lost => Some("the event is no longer stored".into()),
        };
        Attempted { result, record, random: random() }
    }

    async fn send(&self, job: &Job, number: u32, record: &mut Attempt) -> Answered {
        let down = |error: String| Answered::Down { error, retry_after: None };
        let (endpoint, position) = (self.endpoint.name.clone(), job.waiting.position);
        let outgoing = match self.shared.store.read(move |engine| engine.outgoing(&endpoint, position)).await {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return Answered::Lost,
            Err(error) => return down(format!("the store: {error}")),
        };
        record.event = outgoing.id.to_string();
        // The turn first: who waits at a slow origin must not hold a place of all.
        let turn = self.shared.client.turn(&self.endpoint.url, None).await;
        let _place = self.shared.in_flight.acquire().await.expect("the ceiling is never closed");
        // The time of the attempt is when it is signed, not when it began to wait for its turn.
        let now = self.shared.clock.now();
        record.at = now;
        let body = Bytes::from(outgoing.body);
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("webhook-id", &record.event);
        set("webhook-timestamp", &now.seconds().to_string());
        set("bellpull-attempt", &number.to_string());
        if job.waiting.replay {
            set("bellpull-replay", "true");
        }
        let message = Message { id: &record.event, at: now, kind: &outgoing.kind, body: &body };
        headers.extend(self.endpoint.sign.iter().flat_map(|signer| signer.sign(&message)));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Err(error) = own_headers(&self.endpoint, &mut headers) {
            return Answered::Refused { error, retry_after: None };
        }
        let request =
            Request { method: self.endpoint.method.clone(), url: self.endpoint.url.clone(), headers, body: Some(body) };
        let first = Instant::now();
        let mut answer = self.ask(&turn, request.clone(), self.endpoint.timeout).await;
        if matches!(&answer, Err(error) if error.is_connect()) && first.elapsed() < CONNECT_AGAIN_WITHIN {
            let rest = self.endpoint.timeout.saturating_sub(first.elapsed());
            answer = self.ask(&turn, request, rest).await;
        }
        match answer {
            Err(error) => down(error.to_string()),
            Ok(answer) => {
                record.status = Some(answer.status);
                let text = String::from_utf8_lossy(&answer.body);
                record.answer = text.char_indices().take_while(|(at, _)| *at < ANSWER_KEPT).map(|(_, c)| c).collect();
                class(&answer, self.shared.clock.now())
            }
        }
    }

    async fn ask(&self, turn: &Turn, request: Request, within: Duration) -> Result<http::Answer, http::Error> {
        self.shared.client.send(turn, request, within, BodyLimit::Head(ANSWER_READ), None).await
    }
}

/// What an answer means (CONFIG, "Answers").
fn class(answer: &http::Answer, now: crate::model::Timestamp) -> Answered {
    let error = format!("the receiver answered {}", answer.status);
    let retry_after = retry_after::wait(&answer.headers, now);
    let disable = answer.header("webhook-delivery").is_some_and(|v| v.trim().eq_ignore_ascii_case("disable"));
    match answer.status {
        410 => Answered::Gone { error, taken: false },
        status if disable => Answered::Gone {
            error: format!("{error} with `webhook-delivery: disable`"),
            taken: (200..300).contains(&status),
        },
        200..300 => Answered::Taken,
        429 | 502 | 503 | 504 => Answered::Down { error, retry_after },
        _ => Answered::Refused { error, retry_after },
    }
}

/// The file's headers, which replace ours but never the signature.
fn own_headers(endpoint: &Endpoint, headers: &mut HeaderMap) -> Result<(), String> {
    for (name, value) in endpoint.headers.iter().filter(|(name, _)| !name.as_str().starts_with("webhook-")) {
        headers.remove(name);
        let texts = value.resolve(&serde_json::Value::Null).map_err(|e| format!("header `{name}`: {e}"))?;
        for text in texts {
            let mut header = HeaderValue::from_str(&text)
                .map_err(|_| format!("header `{name}` holds a character that no header can"))?;
            header.set_sensitive(matches!(value, Value::Secret(_)));
            headers.append(name.clone(), header);
        }
    }
    Ok(())
}

/// From 0 to 1.
pub fn random() -> f64 {
    let mut bits = [0; 4];
    getrandom::fill(&mut bits).expect("the operating system has a random generator");
    f64::from(u32::from_be_bytes(bits)) / f64::from(u32::MAX)
}
