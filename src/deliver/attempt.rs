//! One attempt: events from the store in the shape of their endpoint, signed for this moment, sent, and the answer read
//! and classed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use tokio::{sync::OnceCell, time::Instant};
use url::Url;

use super::{
    Shared, handshake,
    queue::{Answered, Job},
};
use crate::{
    config::{Endpoint, Format},
    event,
    http::{self, BodyLimit, Client, Request, retry_after},
    model::{Content, Event, Timestamp},
    settings::{units::Rate, value::Value},
    shape::{self, Carried, Piece},
    sign::Message,
    source::{
        auth::{self, Learned, With},
        transport::redact,
    },
    store::{self, Attempt, Outgoing},
};

/// How much of an answer is read.
const ANSWER_READ: u64 = 64 << 10;
/// How much of it is kept.
const ANSWER_KEPT: usize = 4 << 10;
/// A connection that fails this soon was most likely an idle one that the receiver had closed.
const CONNECT_AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// An endpoint's error is at most this long.
const ERROR_CHARS: usize = 1000;

/// What an attempt needs.
#[derive(Clone)]
pub(super) struct Sender {
    pub shared: Shared,
    pub endpoint: Arc<Endpoint>,
    /// What the target of CloudEvents allowed, once it was asked.
    pub allowed: Arc<OnceCell<Option<Rate>>>,
}

/// What came of it.
pub(super) struct Attempted {
    pub result: Answered,
    /// One for each event that was part of it: the first ones of the job.
    pub records: Vec<Attempt>,
    /// For the jitter of what follows.
    pub random: f64,
}

/// What is sent again, and why nothing can be.
enum Made {
    Ready { pieces: Vec<Piece>, events: usize },
    Nothing { result: Answered, events: usize },
}

/// One request, and what of its attempt is recorded.
struct Told {
    status: Option<u16>,
    answer: String,
    id: String,
}

impl Sender {
    pub(super) async fn attempt(&self, job: &Job) -> Attempted {
        let started = Instant::now();
        let at = self.shared.clock.now();
        let number = job.events.iter().map(|waiting| waiting.attempts).max().unwrap_or_default().saturating_add(1);
        let replay = job.events.iter().any(|waiting| waiting.replay);
        let mut told = Told { status: None, answer: String::new(), id: String::new() };
        let (result, ids) = match self.read(job).await {
            Err(error) => (Answered::Down { error: format!("the store: {error}"), retry_after: None }, Vec::new()),
            Ok(all) => {
                let ids: Vec<String> = all.iter().flatten().map(|outgoing| outgoing.event.id.to_string()).collect();
                match self.make(job, all) {
                    Made::Nothing { result, events } => (result, ids.into_iter().take(events).collect()),
                    Made::Ready { pieces, events } => {
                        let result = self.send(&pieces, number, replay, job.last, &mut told).await;
                        (result, ids.into_iter().take(events).collect())
                    }
                }
            }
        };
        let error = match &result {
            Answered::Taken => None,
            Answered::Down { error, .. } | Answered::Refused { error, .. } | Answered::Gone { error, .. } => {
                Some(error.clone())
            }
            Answered::Lost => Some("the event is no longer stored".into()),
            Answered::Idle => Some("not sent: together, the updates that waited change nothing".into()),
        };
        let duration_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        // What could not even be read still was an attempt.
        let ids = if ids.is_empty() { vec![String::new()] } else { ids };
        let records = ids.into_iter().zip(&job.events).enumerate().map(|(index, (event, waiting))| Attempt {
            event,
            endpoint: self.endpoint.name.to_string(),
            number: waiting.attempts.saturating_add(1),
            at,
            duration_ms,
            status: told.status,
            // Once for all that went together.
            answer: if index == 0 { told.answer.clone() } else { String::new() },
            error: error.clone(),
        });
        Attempted { result, records: records.collect(), random: random() }
    }

    /// An event that is not stored, at once and whatever the endpoint's state: for `endpoint test`.
    pub(super) async fn trial(&self, event: Event) -> Attempt {
        let started = Instant::now();
        let at = self.shared.clock.now();
        let mut told = Told { status: None, answer: String::new(), id: String::new() };
        let result = self.send(&[Piece::new(event, Content::Shared)], 1, false, true, &mut told).await;
        let error = match result {
            Answered::Down { error, .. } | Answered::Refused { error, .. } | Answered::Gone { error, .. } => {
                Some(error)
            }
            Answered::Taken | Answered::Lost | Answered::Idle => None,
        };
        Attempt {
            event: told.id,
            endpoint: self.endpoint.name.to_string(),
            number: 1,
            at,
            duration_ms: u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX),
            status: told.status,
            answer: told.answer,
            error,
        }
    }

    async fn read(&self, job: &Job) -> Result<Vec<Option<Outgoing>>, store::Error> {
        let endpoint = self.endpoint.name.clone();
        let positions: Vec<_> = job.events.iter().map(|waiting| waiting.position).collect();
        let outgoing = move |engine: &dyn store::Engine| {
            positions.iter().map(|position| engine.outgoing(&endpoint, *position)).collect()
        };
        self.shared.store.read(outgoing).await
    }

    /// What goes in this request: the first events of the job, as many as fit.
    fn make(&self, job: &Job, all: Vec<Option<Outgoing>>) -> Made {
        let stored: Vec<Outgoing> = all.into_iter().map_while(|outgoing| outgoing).collect();
        if stored.is_empty() {
            return Made::Nothing { result: Answered::Lost, events: 1 };
        }
        let mut pieces = Vec::new();
        let mut bytes = 0;
        let mut rest = stored.as_slice();
        let mut fresh = job.events.iter().map(|waiting| waiting.attempts == 0);
        let limit = self.endpoint.batch.map_or(1, |batch| batch.max);
        while let Some((first, after)) = rest.split_first().filter(|_| pieces.len() < limit) {
            let length = if self.endpoint.coalesce { run_of_updates(rest) } else { 1 };
            let together = rest.get(..length).unwrap_or_default();
            let never_sent = fresh.by_ref().take(length).all(|fresh| fresh);
            let (piece, used) = match self.coalesced(together) {
                Some(piece) => (piece, length),
                None if length > 1 && never_sent && is_idle(together) => {
                    if pieces.is_empty() {
                        return Made::Nothing { result: Answered::Idle, events: length };
                    }
                    break;
                }
                None => (Piece::new(first.event.clone(), first.content.clone()), 1),
            };
            bytes += piece.length();
            if !pieces.is_empty() && u64::try_from(bytes).is_ok_and(|bytes| bytes > self.endpoint.body_max) {
                break;
            }
            pieces.push(piece);
            rest = if used == 1 { after } else { rest.get(used..).unwrap_or_default() };
            if used < length {
                break;
            }
        }
        Made::Ready { pieces, events: stored.len() - rest.len() }
    }

    /// Several updates of one record as one, under the id of the last.
    fn coalesced(&self, together: &[Outgoing]) -> Option<Piece> {
        let (first, last) = (together.first()?, together.last().filter(|_| together.len() > 1)?);
        let body = shape::coalesce(&first.event.body, &last.event.body)?;
        let bridges = self.shared.bridges.borrow().clone();
        let content = match bridges.get(last.event.bridge.split('/').next()?) {
            Some(bridge) => event::remake(bridge, &self.endpoint, &body),
            None => Content::Shared,
        };
        // A payload that cannot be made of it would lose all of them: they go one by one.
        let content = (!matches!(content, Content::Dead(_))).then_some(content)?;
        Some(Piece::new(Event { body, ..last.event.clone() }, content))
    }

    async fn send(&self, pieces: &[Piece], number: u32, replay: bool, last: bool, told: &mut Told) -> Answered {
        let down = |error: String| Answered::Down { error: self.redacted(error), retry_after: None };
        let refused = |error: String| Answered::Refused { error: self.redacted(error), retry_after: None };
        let Some(first) = pieces.first() else { return Answered::Lost };
        let format = self.endpoint.format;
        let carried = match self.endpoint.batch {
            Some(_) => shape::batch(format, pieces),
            None => shape::one(format, first),
        };
        let carried = match carried {
            Ok(carried) => carried,
            Err(error) => return refused(error),
        };
        told.id = carried.id.to_string();
        let mut request = match self.request(&first.event, carried, number, replay, last) {
            Ok(request) => request,
            Err(error) => return refused(error),
        };
        let client = match self.shared.client.identified(&self.endpoint.identity) {
            Ok(client) => client,
            Err(error) => return down(error),
        };
        if matches!(format, Format::CloudEvents | Format::CloudEventsBinary) {
            let ask = || handshake::ask(&client, request.url.clone(), self.endpoint.timeout);
            if let Err(error) = self.allowed.get_or_try_init(ask).await {
                return down(error);
            }
        }
        let mut with = With { client: &client, clock: &self.shared.clock, vault: &self.shared.vault };
        let unsigned = request.clone();
        for tries in 0..2 {
            let used = match auth::apply(&self.endpoint.auth, &mut request, &mut with).await {
                Ok(used) => used,
                // A login that fails says nothing of the event.
                Err(error) => {
                    return Answered::Down { retry_after: error.wait(), error: self.redacted(error.to_string()) };
                }
            };
            let answer = match self.ask(&client, &request).await {
                Ok(answer) => answer,
                Err(error) => return down(error.to_string()),
            };
            told.status = Some(answer.status);
            let text = String::from_utf8_lossy(&answer.body);
            let kept = text.char_indices().take_while(|(at, _)| *at < ANSWER_KEPT).map(|(_, c)| c).collect();
            told.answer = self.redacted(kept);
            let learned = auth::learn(&self.endpoint.auth, &used, &request, &answer, tries, &mut with).await;
            if learned != Learned::Again || tries > 0 {
                return class(&answer, self.shared.clock.now());
            }
            request = unsigned.clone();
        }
        down("the credentials were refused twice".into())
    }

    /// The request as it goes out, without its credentials.
    fn request(
        &self,
        event: &Event,
        carried: Carried,
        number: u32,
        replay: bool,
        last: bool,
    ) -> Result<Request, String> {
        let Carried { id, mut headers, body } = carried;
        let (id, now) = (id.to_string(), self.shared.clock.now());
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("webhook-id", &id);
        set("webhook-timestamp", &now.seconds().to_string());
        set("bellpull-attempt", &number.to_string());
        if replay {
            set("bellpull-replay", "true");
        }
        if last {
            // Thousands of endpoints that are idle, or down, would each hold a connection.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Parsed only where the file has jq for it.
        let parsed = std::cell::OnceCell::new();
        let input = || parsed.get_or_init(|| serde_json::from_slice::<Json>(&event.body).unwrap_or_default());
        self.own_headers(&input, &mut headers)?;
        let message = Message { id: &id, at: now, kind: &event.kind, body: &body };
        headers.extend(self.endpoint.sign.iter().flat_map(|signer| signer.sign(&message)));
        let url = self.url(&input)?;
        Ok(Request { method: self.endpoint.method.clone(), url, headers, body: Some(Bytes::from(body)) })
    }

    /// The file's headers, which replace ours but never the signature.
    fn own_headers<'j>(&self, input: &dyn Fn() -> &'j Json, headers: &mut HeaderMap) -> Result<(), String> {
        let own = self.endpoint.headers.iter().filter(|(name, _)| !name.as_str().starts_with("webhook-"));
        for (name, value) in own {
            headers.remove(name);
            for text in resolve(value, input).map_err(|e| format!("header `{name}`: {e}"))? {
                let mut header = HeaderValue::from_str(&text)
                    .map_err(|_| format!("header `{name}` holds a character that no header can"))?;
                header.set_sensitive(value.is_secret());
                headers.append(name.clone(), header);
            }
        }
        Ok(())
    }

    fn url<'j>(&self, input: &dyn Fn() -> &'j Json) -> Result<Url, String> {
        let texts = resolve(&self.endpoint.url, input).map_err(|e| format!("`url`: {e}"))?;
        let text = texts.first().ok_or("`url` gives nothing")?;
        let mut url: Url = text.parse().map_err(|e| format!("`url` gives no URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`url` gives the scheme {:?}, not http or https", url.scheme()));
        }
        for (name, value) in &self.endpoint.query {
            let texts = resolve(value, input).map_err(|e| format!("query `{name}`: {e}"))?;
            url.query_pairs_mut().extend_pairs(texts.iter().map(|text| (name, text)));
        }
        Ok(url)
    }

    /// Once more at once when the connection itself failed soon.
    async fn ask(&self, client: &Client, request: &Request) -> Result<http::Answer, http::Error> {
        let turn = Client::own_turn();
        let limit = BodyLimit::Head(ANSWER_READ);
        let first = Instant::now();
        let answer = client.send(&turn, request.clone(), self.endpoint.timeout, limit, None).await;
        if !matches!(&answer, Err(error) if error.is_connect()) || first.elapsed() >= CONNECT_AGAIN_WITHIN {
            return answer;
        }
        let rest = self.endpoint.timeout.saturating_sub(first.elapsed());
        client.send(&turn, request.clone(), rest, limit, None).await
    }

    /// A message without any secret that this endpoint has.
    fn redacted(&self, message: String) -> String {
        let message = self.shared.vault.redact(redact(message, self.endpoint.secrets()));
        if message.len() <= ANSWER_KEPT { message } else { message.chars().take(ERROR_CHARS).collect() }
    }
}

/// How many of these, from the first, are fresh updates of one record.
fn run_of_updates(all: &[Outgoing]) -> usize {
    let Some(first) = all.first() else { return 0 };
    let same = |outgoing: &&Outgoing| {
        let (event, of) = (&outgoing.event, &first.event);
        event.kind.ends_with(".updated") && event.sequence > 0 && (&event.bridge, &event.key) == (&of.bridge, &of.key)
    };
    all.iter().take_while(same).count().max(1)
}

/// Whether updates, taken together, change nothing.
fn is_idle(together: &[Outgoing]) -> bool {
    let value = |outgoing: Option<&Outgoing>, key: &str| {
        serde_json::from_slice::<Json>(&outgoing?.event.body).ok()?.get("data")?.get(key).cloned()
    };
    let before = value(together.first(), "before");
    before.is_some() && before == value(together.last(), "after")
}

fn resolve<'j>(value: &Value, input: &dyn Fn() -> &'j Json) -> Result<Vec<String>, crate::expr::Error> {
    if value.is_constant() { value.resolve(&Json::Null) } else { value.resolve(input()) }
}

/// What an answer means (CONFIG, "Answers").
fn class(answer: &http::Answer, now: Timestamp) -> Answered {
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

/// From 0 to 1.
pub fn random() -> f64 {
    let mut bits = [0; 4];
    getrandom::fill(&mut bits).expect("the operating system has a random generator");
    f64::from(u32::from_be_bytes(bits)) / f64::from(u32::MAX)
}
