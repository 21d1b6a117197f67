//! One attempt: events from the store in the shape of their endpoint, signed for this moment, sent, and the answer read
//! and classed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::de::IgnoredAny;
use serde_json::Value as Json;
use tokio::{sync::OnceCell, time::Instant};
use url::Url;

use super::{
    Shared, handshake,
    queue::{Answered, Gate, Job, Pass, Room},
    verdict,
};
use crate::{
    auth::{self, Auth, Learned, Refusal, Used, With},
    compute::compute,
    config::{Endpoint, Format, METHODS, Verb},
    event,
    http::{self, BodyLimit, Client, Request, place::add_parameter, target::made_url},
    model::{Content, Event, Timestamp, bridge_of},
    settings::{units::Rate, value::Value},
    shape::{self, Carried, Piece},
    sign::Message,
    store::{self, Attempt, Outgoing},
    telemetry::trace::Span,
};

/// How much of an answer is read.
const ANSWER_READ: u64 = 64 << 10;
/// How much of it is kept.
const ANSWER_KEPT: usize = 4 << 10;
/// A connection that fails this soon was most likely an idle one that the receiver had closed.
const CONNECT_AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// Of an endpoint's timeout the question of CloudEvents takes one part at the most.
const HANDSHAKE_PART: u32 = 3;
/// Bodies of `body-max` that are read for one request, at the most: of coalesced updates the first and last count.
const READ_BODIES: u64 = 4;
/// What an element of a batch has beside its event: an id, or the attributes of a CloudEvent.
const ELEMENT_BYTES: usize = 300;
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
    pub room: Room,
    /// The origin that it went to, where jq made the URL.
    pub pass: Option<Arc<Pass>>,
    /// One for each event that was part of it: the first ones of the job.
    pub records: Vec<Attempt>,
    /// Those of them that tell about bellpull itself.
    pub operational: BTreeSet<String>,
    /// For the jitter of what follows.
    pub random: f64,
}

/// What is sent, of how many of a job's events; or why nothing is.
enum Sendable {
    Ready { pieces: Vec<Piece>, events: usize },
    Nothing { result: Answered, events: usize },
}

/// One request, and what of its attempt is recorded.
#[derive(Default)]
struct Recorded {
    status: Option<u16>,
    answer: String,
    id: String,
    room: Room,
    pass: Option<Arc<Pass>>,
    operational: BTreeSet<String>,
}

/// Which attempt a request is of.
#[derive(Default)]
struct AttemptOf<'a> {
    number: u32,
    replay: bool,
    /// Nothing more is due: the connection need not stay.
    last: bool,
    /// The job, and the origins that its endpoint waits for, where jq makes the URL.
    gate: Option<(&'a Job, &'a Gate)>,
}

impl Sender {
    pub(super) async fn attempt(&self, job: &Job) -> Attempted {
        let span = Span::attempt(&self.endpoint.name);
        let attempted = span.around(self.try_once(job)).await;
        if let Some(first) = attempted.records.first() {
            let events = attempted.records.iter().map(|record| record.event.as_str());
            span.attempted(attempted.result.class(), first.status, events, first.error.as_deref());
        }
        attempted
    }

    async fn try_once(&self, job: &Job) -> Attempted {
        let started = Instant::now();
        let at = self.shared.clock.now();
        let number = job.events.iter().map(|waiting| waiting.attempts).max().unwrap_or_default().saturating_add(1);
        let replay = job.events.iter().any(|waiting| waiting.replay);
        let mut told = Recorded::default();
        let (result, ids) = match self.read(job).await {
            Err(error) => (Answered::Down { error: format!("the store: {error}"), retry_after: None }, Vec::new()),
            Ok(mut stored) => {
                let unsaid = self.word(&mut stored).await.err();
                let ids: Vec<String> = stored.iter().map(|outgoing| outgoing.event.id.to_string()).collect();
                let is_one = |(_, outgoing): &(&String, &Outgoing)| event::is_operational(&outgoing.event);
                told.operational = ids.iter().zip(&stored).filter(is_one).map(|(id, _)| id.clone()).collect();
                let made = if let Some(error) = unsaid {
                    let error = self.redacted(error);
                    Sendable::Nothing { result: Answered::Refused { error, retry_after: None }, events: 1 }
                } else if self.endpoint.coalesce && stored.len() > 1 {
                    // What becomes one is made again, by jq maybe.
                    let (sender, job) = (self.clone(), job.clone());
                    compute(move || sender.make(&job, stored)).await.expect("an attempt that panics is one that failed")
                } else {
                    self.make(job, stored)
                };
                let (result, events) = match made {
                    Sendable::Nothing { result, events } => (result, events),
                    Sendable::Ready { pieces, events } => {
                        let gate = job.gate.as_ref().map(|gate| (job, gate));
                        let turn = AttemptOf { number, replay, last: job.last, gate };
                        let result = self.send(&pieces, &turn, &mut told).await;
                        let events = if matches!(result, Answered::Parked { .. }) { 0 } else { events };
                        (result, events)
                    }
                };
                (result, ids.into_iter().take(events).collect())
            }
        };
        self.attempted(job, at, started.elapsed(), result, ids, told)
    }

    /// What is recorded of an attempt that panicked.
    pub(super) fn panicked(&self, job: &Job) -> Attempted {
        let result = Answered::Refused { error: "the attempt panicked: see the log".into(), retry_after: None };
        self.attempted(job, self.shared.clock.now(), Duration::ZERO, result, Vec::new(), Recorded::default())
    }

    fn attempted(
        &self,
        job: &Job,
        at: Timestamp,
        took: Duration,
        result: Answered,
        ids: Vec<String>,
        told: Recorded,
    ) -> Attempted {
        let error = match &result {
            Answered::Taken => None,
            Answered::Down { error, .. } | Answered::Refused { error, .. } | Answered::Gone { error, .. } => {
                Some(error.clone())
            }
            Answered::Lost => Some("the event is not stored any more".into()),
            Answered::Idle => Some("not sent: together, the updates that waited change nothing".into()),
            Answered::Parked { .. } => None,
        };
        // What could not even be read still was an attempt.
        let was_unread = ids.is_empty() && !matches!(result, Answered::Parked { .. });
        let ids = if was_unread { vec![String::new()] } else { ids };
        let records = ids.into_iter().zip(&job.events).enumerate().map(|(index, (event, waiting))| Attempt {
            event,
            endpoint: self.endpoint.name.to_string(),
            number: waiting.attempts.saturating_add(1),
            at,
            duration_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
            status: told.status,
            // Once for all that went together.
            answer: if index == 0 { told.answer.clone() } else { String::new() },
            error: error.clone(),
        });
        let records = records.collect();
        let Recorded { room, pass, operational, .. } = told;
        Attempted { result, room, pass, records, operational, random: random() }
    }

    /// An event that is not stored, at once and whatever the endpoint's state: for `endpoint test`.
    pub(super) async fn trial(&self) -> Attempt {
        let started = Instant::now();
        let at = self.shared.clock.now();
        let mut told = Recorded::default();
        let result = match self.sample().await {
            Ok(piece) => {
                let turn = AttemptOf { number: 1, last: true, ..AttemptOf::default() };
                self.send(&[piece], &turn, &mut told).await
            }
            Err(error) => Answered::Refused { error: self.redacted(error), retry_after: None },
        };
        let error = match result {
            Answered::Down { error, .. } | Answered::Refused { error, .. } | Answered::Gone { error, .. } => {
                Some(error)
            }
            Answered::Taken | Answered::Lost | Answered::Idle | Answered::Parked { .. } => None,
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

    /// The first events of a job that are still stored: as many as one request can hold, so that a long backlog of large
    /// ones is not read for each of them.
    async fn read(&self, job: &Job) -> Result<Vec<Outgoing>, store::Error> {
        let endpoint = self.endpoint.name.clone();
        let positions: Vec<_> = job.events.iter().map(|waiting| waiting.position).collect();
        let (body_max, batched) = (self.endpoint.body_max, self.endpoint.batch.is_some());
        let outgoing = move |engine: &dyn store::Engine| {
            let mut all: Vec<Outgoing> = Vec::new();
            let mut bytes = 0;
            for position in positions {
                let Some(outgoing) = engine.outgoing(&endpoint, position)? else { break };
                // Alone, an event is followed only by updates that it may become one with.
                if !batched && all.first().is_some_and(|first| !is_update_of(&outgoing, first)) {
                    break;
                }
                bytes += u64::try_from(outgoing.event.body.len()).unwrap_or(u64::MAX);
                all.push(outgoing);
                if bytes > body_max.saturating_mul(READ_BODIES) {
                    break;
                }
            }
            Ok(all)
        };
        self.shared.store.read(outgoing).await
    }

    /// What goes in this request: the first events of the job, as many as fit.
    fn make(&self, job: &Job, stored: Vec<Outgoing>) -> Sendable {
        if stored.is_empty() {
            return Sendable::Nothing { result: Answered::Lost, events: 1 };
        }
        let mut pieces = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        let limit = self.endpoint.batch.map_or(1, |batch| batch.max);
        // What jq makes of a batch is made of events of bridges.
        let limit = if self.endpoint.batch_payload.is_some() { self.together(&stored).min(limit) } else { limit };
        while pieces.len() < limit
            && let Some(rest) = stored.get(events..)
            && let Some(first) = rest.first()
        {
            let length = if self.endpoint.coalesce { run_of_updates(rest) } else { 1 };
            let together = rest.get(..length).unwrap_or_default();
            let (piece, used) = match self.coalesced(together) {
                Coalesced::One(piece) => (piece, length),
                Coalesced::Nothing if job.events.iter().skip(events).take(length).all(|w| job.is_unsent(w)) => {
                    if pieces.is_empty() {
                        return Sendable::Nothing { result: Answered::Idle, events: length };
                    }
                    break;
                }
                Coalesced::Nothing | Coalesced::No => (Piece::new(first.event.clone(), first.content.clone()), 1),
            };
            bytes += piece.length() + ELEMENT_BYTES;
            if !pieces.is_empty() && u64::try_from(bytes).is_ok_and(|bytes| bytes > self.endpoint.body_max) {
                break;
            }
            pieces.push(piece);
            events += used;
            if used < length {
                break;
            }
        }
        Sendable::Ready { pieces, events }
    }

    /// Several updates of one record as one, under the id of the last.
    fn coalesced(&self, together: &[Outgoing]) -> Coalesced {
        let (Some(first), Some(last)) = (together.first(), together.last().filter(|_| together.len() > 1)) else {
            return Coalesced::No;
        };
        // Of a bridge that has left the file they go one by one, with what was fixed at their commit.
        let others = self.shared.others.borrow().clone();
        let Some(bridge) = others.bridges.get(bridge_of(&last.event.bridge)) else {
            return Coalesced::No;
        };
        let counts = |before: &Json, after: &Json| {
            let canonical = |value| bridge.definition.canonical(value).ok();
            canonical(before) != canonical(after)
        };
        let body = match shape::coalesce(&first.event.body, &last.event.body, counts) {
            Ok(Some(body)) => body,
            Ok(None) => return Coalesced::Nothing,
            Err(_) => return Coalesced::No,
        };
        // Likewise where no route leads there any more, or a payload cannot be made of it.
        match event::remake(bridge, &self.endpoint, &last.event.id, &body) {
            None | Some(Content::Dead(_)) => Coalesced::No,
            Some(content) => Coalesced::One(Piece::new(Event { body, ..last.event.clone() }, content)),
        }
    }

    async fn send(&self, pieces: &[Piece], turn: &AttemptOf<'_>, told: &mut Recorded) -> Answered {
        let down = |error: String| Answered::Down { error: self.redacted(error), retry_after: None };
        let refused = |error: String| Answered::Refused { error: self.redacted(error), retry_after: None };
        let Some(first) = pieces.first() else { return Answered::Lost };
        let format = self.endpoint.format;
        let carried = match (self.endpoint.batch, &self.endpoint.batch_payload) {
            (Some(_), Some(_)) if event::is_operational(&first.event) => shape::one(format, first),
            (Some(_), Some(payload)) => self.digest(payload, pieces).await,
            (Some(_), None) => shape::batch(format, pieces),
            (None, _) => shape::one(format, first),
        };
        let carried = match carried.map(|carried| self.plain(carried)) {
            Ok(carried) => carried,
            Err(error) => return refused(error),
        };
        told.id = carried.id.to_string();
        let Endpoint { url, headers, query, method, .. } = &*self.endpoint;
        let mut values =
            headers.iter().map(|(_, value)| value).chain(query.iter().map(|(_, value)| value)).chain([url]);
        let request = if values.all(Value::is_constant) && matches!(method, Verb::Fixed(_)) {
            self.request(&first.event, carried, turn)
        } else {
            let (sender, event) = (self.clone(), first.event.clone());
            let turn = AttemptOf { gate: None, ..*turn };
            let request = move || sender.request(&event, carried, &turn);
            compute(request).await.expect("an attempt that panics is one that failed")
        };
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return refused(error),
        };
        if let Some((job, gate)) = turn.gate {
            let origin = http::origin(&request.url);
            told.pass = job.enter(gate, &origin, self.shared.clock.now());
            if told.pass.is_none() {
                return Answered::Parked { origin };
            }
        }
        let client = match self.shared.client.identified(&self.endpoint.identity) {
            Ok(client) => client,
            Err(error) => return down(error),
        };
        let mut with = With { client: &client, clock: &self.shared.clock, vault: &self.shared.vault };
        let asks = matches!(format, Format::CloudEvents | Format::CloudEventsBinary);
        if asks
            && !self.allowed.initialized()
            && let Err(error) = self.ask_leave(&request, &mut with).await
        {
            return down(error);
        }
        let bare = request.clone();
        let mut tries = 0;
        loop {
            let used = match auth::apply(&self.endpoint.auth, &mut request, &mut with).await {
                Ok(used) => used,
                // A login that fails says nothing of the event, and nothing of its origin.
                Err(error) => {
                    told.pass = None;
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
            let learned = match self.learn(&used, &request, &answer, tries, &told.answer, &mut with).await {
                Ok(learned) => learned,
                Err(error) => return refused(error.to_string()),
            };
            if learned != Learned::Again || tries > 0 {
                let (answered, room) = verdict::judge(&self.endpoint.answers, &answer, self.shared.clock.now()).await;
                told.room = room;
                let answered = answered.map_error(|error| self.redacted(error));
                if asks && answered == Answered::Taken {
                    // One that takes events without having answered the question need not be asked again.
                    let _ = self.allowed.set(None);
                }
                return answered;
            }
            tries += 1;
            request = bare.clone();
        }
    }

    /// What an answer says of the credentials, by its status or in the words that the file gives.
    async fn learn(
        &self,
        used: &[Used],
        request: &Request,
        answer: &http::Answer,
        tries: usize,
        told: &str,
        with: &mut With<'_>,
    ) -> Result<Learned, auth::Error> {
        let all = &self.endpoint.auth;
        let learned = auth::learn(all, used, request, answer, tries, with).await;
        if learned == Learned::Again {
            return Ok(learned);
        }
        let refused = refused_in_words(all, answer).await;
        Ok(learned.max(auth::forget(all, used, &refused, answer, tries, told, with).await?))
    }

    /// Asks the target of CloudEvents whether it wants them, as the file's credentials and headers let one in. No answer
    /// is not a refusal.
    async fn ask_leave(&self, request: &Request, with: &mut With<'_>) -> Result<(), String> {
        let mut question = handshake::question(request)?;
        auth::apply(&self.endpoint.auth, &mut question, with).await.map_err(|error| error.to_string())?;
        let within = self.endpoint.timeout / HANDSHAKE_PART;
        let sent = with.client.send(&Client::own_turn(), question, within, BodyLimit::Head(0), None).await;
        if let Ok(answer) = sent {
            let rate = handshake::answer(&answer)?;
            // Another attempt may have asked meanwhile.
            let _ = self.allowed.set(rate);
        }
        Ok(())
    }

    /// The request as it goes out, without its credentials.
    fn request(&self, event: &Event, carried: Carried, turn: &AttemptOf<'_>) -> Result<Request, String> {
        let Carried { id, mut headers, mut body } = carried;
        let (id, now) = (id.to_string(), self.shared.clock.now());
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("webhook-id", &id);
        set("webhook-timestamp", &now.seconds().to_string());
        set("bellpull-attempt", &turn.number.to_string());
        if turn.replay {
            set("bellpull-replay", "true");
        }
        if turn.last {
            // Thousands of endpoints that are idle, or down, would each hold a connection.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Parsed only where the file has jq for it.
        let parsed = std::cell::OnceCell::new();
        let input = || parsed.get_or_init(|| event::with_id(event));
        let method = self.method(&input)?;
        let has_body = !matches!(method, Method::GET | Method::DELETE);
        if !has_body {
            headers.remove(CONTENT_TYPE);
            body.clear();
        }
        for (word, secret) in self.endpoint.inject.iter().filter(|_| has_body) {
            body = shape::inject(self.endpoint.format, &body, word, secret.expose())?;
        }
        self.own_headers(&input, &mut headers)?;
        let unsigned = Message { id: &id, at: now, kind: &event.kind, body: &body };
        let signer = self.endpoint.sign.as_ref();
        let signed = signer.filter(|_| has_body).map(|signer| signer.body(&unsigned)).transpose()?.flatten();
        let message = Message { body: signed.as_ref().unwrap_or(&body), ..unsigned };
        headers.extend(signer.iter().flat_map(|signer| signer.sign(&message)));
        let mut url = self.url(&input)?;
        for (name, value) in signer.iter().flat_map(|signer| signer.query(&message)) {
            add_parameter(&mut url, name, &value);
        }
        let body = has_body.then(|| Bytes::from(signed.unwrap_or(body)));
        Ok(Request { method, url, headers, body })
    }

    fn method<'j>(&self, input: &dyn Fn() -> &'j Json) -> Result<Method, String> {
        let expr = match &self.endpoint.method {
            Verb::Fixed(method) => return Ok(method.clone()),
            Verb::Jq(expr) => expr,
        };
        let given = expr.first(input()).map_err(|e| format!("`method`: {e}"))?.unwrap_or_default();
        let known = METHODS.into_iter().find(|(name, _)| given.as_str() == Some(name)).map(|(_, method)| method);
        known.ok_or_else(|| format!("`method` gives {given}, not one of {}", METHODS.map(|(name, _)| name).join(", ")))
    }

    /// The file's headers, which replace ours but never the signature.
    fn own_headers<'j>(&self, input: &dyn Fn() -> &'j Json, headers: &mut HeaderMap) -> Result<(), String> {
        for (name, value) in &self.endpoint.headers {
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
        let mut url: Url = if self.endpoint.url.is_constant() {
            text.parse().map_err(|e| format!("`url` gives no URL: {e}"))?
        } else {
            made_url(text).map_err(|e| format!("`url`: {e}"))?
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`url` gives the scheme {:?}, not http or https", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("`url` gives a user or password: use `auth.basic`".into());
        }
        for (name, value) in &self.endpoint.query {
            let texts = resolve(value, input).map_err(|e| format!("query `{name}`: {e}"))?;
            texts.iter().for_each(|text| add_parameter(&mut url, name, text));
        }
        Ok(url)
    }

    /// Once more at once, on a new connection, when the connection itself failed soon or the receiver did not look at the request.
    async fn ask(&self, client: &Client, request: &Request) -> Result<http::Answer, http::Error> {
        let turn = Client::own_turn();
        let limit = BodyLimit::Head(ANSWER_READ);
        let first = Instant::now();
        let answer = client.send(&turn, request.clone(), self.endpoint.timeout, limit, None).await;
        let soon = first.elapsed() < CONNECT_AGAIN_WITHIN;
        match &answer {
            Err(http::Error::Connect { .. }) if soon => {}
            Err(http::Error::Lost { unread, .. }) if soon || *unread => {}
            _ => return answer,
        }
        let Ok(client) = self.shared.client.fresh(&self.endpoint.identity) else { return answer };
        let rest = self.endpoint.timeout.saturating_sub(first.elapsed());
        client.send(&turn, request.clone(), rest, limit, None).await
    }

    /// A message without any secret that this endpoint has.
    fn redacted(&self, message: String) -> String {
        let message = self.shared.vault.redact(&message);
        if message.len() <= ANSWER_KEPT { message } else { message.chars().take(ERROR_CHARS).collect() }
    }
}

/// The credentials whose tokens an answer refuses in words. What an expression fails on does not refuse: its event is
/// judged as any other is.
async fn refused_in_words(all: &[Auth], answer: &http::Answer) -> Vec<Refusal> {
    let rules = auth::refusals(all, false);
    if rules.is_empty() {
        return rules;
    }
    let (body, said) = (answer.body.clone(), answer.said());
    let refuse = move || {
        let text = || Json::from(String::from_utf8_lossy(&body)).to_string().into();
        let is_json = serde_json::from_slice::<IgnoredAny>(&body).is_ok();
        let document = if is_json { body.clone() } else { text() };
        rules.into_iter().filter(|rule| rule.holds(&document, &said, || false).unwrap_or(false)).collect()
    };
    compute(refuse).await.expect("an attempt that panics is one that failed")
}

/// Whether updates of a record became one.
enum Coalesced {
    One(Piece),
    /// Taken together they change nothing.
    Nothing,
    No,
}

/// How many of these, from the first, are updates of one record.
fn run_of_updates(all: &[Outgoing]) -> usize {
    let Some(first) = all.first() else { return 0 };
    all.iter().take_while(|outgoing| is_update_of(outgoing, first)).count().max(1)
}

fn is_update_of(outgoing: &Outgoing, first: &Outgoing) -> bool {
    let (event, of) = (&outgoing.event, &first.event);
    let updates = [event, of].iter().all(|event| event.sequence > 0 && event.kind.ends_with(".updated"));
    updates && (&event.bridge, &event.key) == (&of.bridge, &of.key)
}

fn resolve<'j>(value: &Value, input: &dyn Fn() -> &'j Json) -> Result<Vec<String>, crate::expr::Error> {
    if value.is_constant() { Ok(value.fixed()) } else { value.resolve_here(input()) }
}

/// From 0 to 1.
pub fn random() -> f64 {
    let mut bits = [0; 4];
    getrandom::fill(&mut bits).expect("the operating system has a random generator");
    f64::from(u32::from_be_bytes(bits)) / f64::from(u32::MAX)
}
