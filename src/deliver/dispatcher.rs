//! Sends to one endpoint: owns its queue in memory, a mirror of the one on disk, and records every attempt before it
//! lets the attempt's lane go on.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value as Json, json};
use tokio::{
    sync::{AcquireError, OnceCell, OwnedSemaphorePermit, mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, Status,
    attempt::{Attempted, Sender},
    dead::{Dead, Untold},
    inbox::Inbox,
    pace::Pace,
    queue::{Answered, BY_HAND, Job, Queue, Rules},
};
use crate::{
    clock,
    config::{Endpoint, Format, QueueFull},
    event, failpoint,
    model::{Name, Timestamp},
    pulse::{self, Moves},
    store::{self, Commit, EndpointState, Op, OriginState, Position, Settlement, Waiting, Written},
    telemetry::{LeftOut, Seldom, kind},
};

/// Messages that may wait for a dispatcher; the one who hands over waits beyond it.
const MESSAGES_MAX: usize = 256;
/// A dispatcher looks again at least so often: a wall clock that jumps moves what is due.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

pub(super) enum Message {
    Died(Dead),
    Enable(bool, oneshot::Sender<Result<(), store::Error>>),
    Status(oneshot::Sender<Status>),
    Moves(oneshot::Sender<Moves>),
    /// A secret that its receiver refused was replaced.
    MayBeCured,
}

/// Why a dispatcher goes on.
enum Woken {
    Done(Box<Result<(Job, Attempted), JoinError>>),
    Message(Message),
    Queued(Vec<Waiting>),
    Place(OwnedSemaphorePermit),
    Time,
}

/// Sends to one endpoint.
pub(super) struct Dispatcher {
    shared: Shared,
    endpoint: Arc<Endpoint>,
    queue: Queue,
    messages: mpsc::Receiver<Message>,
    inbox: Inbox,
    flights: JoinSet<(Job, Attempted)>,
    pace: Pace,
    sender: Sender,
    /// In line for a place among all deliveries in flight.
    asked: Option<BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>>,
    /// It was told that the queue is full, and it was not told otherwise since.
    full: bool,
    refused: Seldom,
    dead: Seldom,
    origins: Seldom,
    untold: Untold,
    /// Attempts that have ended.
    ended: u64,
}

impl Dispatcher {
    /// Goes on with the queue of the one before, or reads it from the store.
    pub(super) async fn new(
        shared: Shared,
        endpoint: Arc<Endpoint>,
        state: EndpointState,
        left: Option<Queue>,
        inbox: Inbox,
    ) -> Result<(Self, mpsc::Sender<Message>), store::Error> {
        let name = endpoint.name.clone();
        let rules = Rules {
            schedule: endpoint.schedule.clone(),
            probe_max: endpoint.probe_max,
            disable_after: endpoint.disable_after,
            in_flight_max: endpoint.in_flight,
            order: endpoint.order,
            batch: endpoint.batch,
            coalesce: endpoint.coalesce,
            by_origin: !endpoint.url.is_constant(),
        };
        let now = shared.clock.now();
        let queue = match left {
            Some(mut queue) => {
                queue.go_on(rules, state);
                queue
            }
            None => {
                shared.store.read(move |engine| Ok(Queue::found(rules, state, engine.waiting(&name)?, now))).await?
            }
        };
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let dispatcher = Self {
            pace: Pace::new(endpoint.rate),
            sender: Sender { shared: shared.clone(), endpoint: endpoint.clone(), allowed: Arc::new(OnceCell::new()) },
            shared,
            endpoint,
            queue,
            messages,
            inbox,
            flights: JoinSet::new(),
            asked: None,
            full: false,
            refused: Seldom::default(),
            dead: Seldom::default(),
            origins: Seldom::default(),
            untold: Untold::default(),
            ended: 0,
        };
        Ok((dispatcher, sender))
    }

    /// Another file has changed the endpoint, or a secret of it was replaced.
    pub(super) fn may_be_cured(&mut self) {
        self.queue.may_be_cured(self.shared.clock.now());
    }

    /// Runs until shutdown; attempts in flight are finished and recorded first. Leaves its queue, as it is in the store.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<Queue, store::Error> {
        let (mut wall, mut monotonic) = (self.shared.clock.now(), Instant::now());
        loop {
            failpoint::stand_still("delivery").await;
            self.tell_full().await?;
            let tells_in = self.tell_dead(false).await?;
            if let Some(left_out) = self.dead.overdue() {
                tracing::warn!(message_id = kind::DEAD_LETTER, endpoint = %self.endpoint.name, left_out, "more dead letters");
            }
            let wait = self.send_due().min(tells_in);
            let woken = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.flights.join_next() => Woken::Done(Box::new(done)),
                message = self.messages.recv() => match message {
                    Some(message) => Woken::Message(message),
                    None => break,
                },
                waiting = self.inbox.take() => Woken::Queued(waiting),
                place = async { self.asked.as_mut().expect("the condition says so").await }, if self.asked.is_some() => {
                    Woken::Place(place.expect("the ceiling is never closed"))
                }
                () = sleep_until(Instant::now() + wait) => Woken::Time,
            };
            // Before anything gets a time of the clock as it is now.
            let jump = self.shared.clock.now().0 - wall.plus(monotonic.elapsed()).0;
            if jump.abs() > clock::JUMP_MS {
                tracing::debug!(endpoint = %self.endpoint.name, jump_ms = jump, "the wall clock was set");
                self.queue.shift(jump);
            }
            (wall, monotonic) = (self.shared.clock.now(), Instant::now());
            match woken {
                Woken::Done(done) => self.settle(*done).await?,
                Woken::Message(message) => self.message(message).await?,
                Woken::Queued(waiting) => {
                    self.queued(waiting).await?;
                    // There may be thousands of slices, and taking one never waits.
                    tokio::task::yield_now().await;
                }
                Woken::Place(place) => {
                    self.asked = None;
                    self.start(place);
                }
                Woken::Time => {}
            }
        }
        self.asked = None;
        // What is under way may take as long as its receiver does: who asks meanwhile is answered.
        while !self.flights.is_empty() {
            tokio::select! {
                Some(done) = self.flights.join_next() => self.settle(done).await?,
                Some(message) = self.messages.recv() => self.message(message).await?,
            }
        }
        self.tell_dead(true).await?;
        Ok(self.queue)
    }

    /// Starts what is due and has a place; how long to wait before looking again. Events are read when they have a place:
    /// what waits holds nothing.
    fn send_due(&mut self) -> Duration {
        while let Some(at) = self.due() {
            let wait =
                self.shared.clock.now().until(at).max(self.pace.free().saturating_duration_since(Instant::now()));
            if !wait.is_zero() {
                self.asked = None;
                // Looks again at least once a minute: a wall clock that jumps moves what is due.
                return wait.min(LOOK_AGAIN);
            }
            if self.asked.is_some() {
                return LOOK_AGAIN;
            }
            match self.shared.in_flight.clone().try_acquire_owned() {
                Ok(place) => self.start(place),
                Err(_) => self.asked = Some(Box::pin(self.shared.in_flight.clone().acquire_owned())),
            }
        }
        self.asked = None;
        LOOK_AGAIN
    }

    /// When the next attempt may begin, if there is one.
    fn due(&self) -> Option<Timestamp> {
        // Until the target has said how fast it wants them, one goes alone.
        let asks = matches!(self.endpoint.format, Format::CloudEvents | Format::CloudEventsBinary);
        if !self.endpoint.enabled || (asks && !self.sender.allowed.initialized() && !self.flights.is_empty()) {
            return None;
        }
        self.queue.wake(self.shared.clock.now())
    }

    /// Begins the next attempt. While it waited for its place there may have come a reason not to.
    fn start(&mut self, place: OwnedSemaphorePermit) {
        let Some(mut job) = self.queue.next(self.shared.clock.now()) else { return };
        // Where places are scarce a connection that stays would be one more than that.
        job.last |= self.shared.in_flight.available_permits() == 0;
        job.last &= self.shared.crowded.load(Ordering::Relaxed);
        self.pace.take();
        let sender = self.sender.clone();
        self.flights.spawn(async move {
            failpoint::stand_still("attempt").await;
            // A panic is this event's alone: it must not end the deliveries of all.
            let attempted = AssertUnwindSafe(sender.attempt(&job)).catch_unwind().await;
            drop(place);
            let attempted = attempted.unwrap_or_else(|_| sender.panicked(&job));
            (job, attempted)
        });
    }

    /// Records what attempts led to, all that are done in one write, and only then lets their lanes go on.
    async fn settle(&mut self, first: Result<(Job, Attempted), JoinError>) -> Result<(), store::Error> {
        let (mut settlements, mut jobs): (Vec<Settlement>, Vec<Job>) = Default::default();
        let mut next = Some(first);
        let before = self.queue.state().clone();
        while let Some(done) = next {
            let (mut job, attempted) = match done {
                Ok(done) => done,
                // A panicked attempt leaves its lane in flight until the next start reads the queue again.
                Err(error) => {
                    return Err(store::Error::Io(format!("an attempt panicked: {error}")));
                }
            };
            let (now, sent) = (self.shared.clock.now(), attempted.records.len());
            self.tell(&job, &attempted, now);
            if matches!(attempted.result, Answered::Parked { .. }) {
                self.pace.give_back();
            }
            job.pass = attempted.pass;
            let outcomes = self.queue.settle(&job, sent, &attempted.result, now, attempted.random);
            self.queue.heed(&job, &attempted.room, now, attempted.random);
            for ((attempt, outcome), waiting) in attempted.records.into_iter().zip(outcomes).zip(&job.events) {
                self.log(&attempt, outcome, &attempted.result);
                if outcome == store::Outcome::Dead && !attempted.operational.contains(&attempt.event) {
                    self.untold.add(&attempt.event, attempt.error.as_deref().unwrap_or_default());
                }
                settlements.push(Settlement { position: waiting.position, outcome, attempt });
            }
            self.ended += 1;
            jobs.push(job);
            next = self.flights.try_join_next();
        }
        if !settlements.is_empty() {
            self.shared.store.write(Op::Settle(self.endpoint.name.clone(), settlements)).await?;
        }
        jobs.iter().for_each(|job| self.queue.recorded(job));
        if let Some(Some(rate)) = self.sender.allowed.get() {
            self.pace.slow_down(*rate);
        }
        self.save_state(&before).await
    }

    /// Tells what came of an attempt to those who watch.
    fn tell(&self, job: &Job, attempted: &Attempted, now: Timestamp) {
        let class = attempted.result.class();
        for (record, waiting) in attempted.records.iter().zip(&job.events) {
            // A replay, and an event whose due time was moved by a refusal, no longer know when it was seen.
            let fresh = attempted.result == Answered::Taken && !waiting.replay && waiting.refusals == 0;
            self.shared.pulse.attempted(pulse::Delivery {
                endpoint: self.endpoint.name.clone(),
                event: record.event.clone(),
                class,
                status: record.status,
                took_ms: record.duration_ms.into(),
                since_observed: fresh.then(|| waiting.due.until(now)),
                error: record.error.clone(),
            });
        }
    }

    /// What came of one event. Thousands may be refused or die in a minute: lines about them are few, however many they are.
    fn log(&mut self, record: &store::Attempt, outcome: store::Outcome, result: &Answered) {
        let endpoint = &self.endpoint.name;
        let store::Attempt { event: event_id, status, error, .. } = record;
        match outcome {
            store::Outcome::Delivered => {
                tracing::debug!(%endpoint, event_id, attempt = record.number, "delivered");
            }
            store::Outcome::Dead => match self.dead.turn() {
                Some(LeftOut(left_out)) => {
                    let message_id = kind::DEAD_LETTER;
                    tracing::warn!(message_id, %endpoint, event_id, status, error, left_out, "dead letter");
                }
                None => tracing::debug!(%endpoint, event_id, status, error, "dead letter, one of many"),
            },
            store::Outcome::Retry { due, .. } => {
                let refused = matches!(result, Answered::Refused { .. });
                match refused.then(|| self.refused.turn()).flatten() {
                    Some(LeftOut(left_out)) => {
                        let message_id = kind::ENDPOINT_REFUSES;
                        tracing::warn!(
                            message_id, %endpoint, event_id, status, error, %due, left_out,
                            "the receiver refused an event: it is tried again"
                        );
                    }
                    None => tracing::debug!(%endpoint, event_id, status, error, %due, "to be tried again"),
                }
            }
        }
    }

    /// Writes the endpoint's health when it changed, and says so once.
    async fn save_state(&mut self, before: &EndpointState) -> Result<(), store::Error> {
        let state = self.queue.state().clone();
        if state == *before {
            return Ok(());
        }
        let endpoint = &self.endpoint.name.clone();
        if let Some(until) = state.next_attempt.filter(|_| state.held && !before.held) {
            tracing::debug!(%endpoint, %until, "the receiver takes no more until then: its events wait");
        }
        match (before.is_down(), state.is_down()) {
            (false, true) => {
                tracing::warn!(message_id = kind::ENDPOINT_DOWN, %endpoint, error = state.last_error, "the endpoint is down: its events wait");
            }
            // One that somebody enabled has not answered yet.
            (true, false) if before.disabled.is_none() => {
                tracing::info!(message_id = kind::ENDPOINT_UP, %endpoint, "the endpoint answers again");
            }
            _ => {}
        }
        self.log_origins(before, &state);
        // One who did it by hand needs no event.
        match (&before.disabled, &state.disabled) {
            (None, Some(why)) if why == BY_HAND => {
                tracing::info!(message_id = kind::ENDPOINT_DISABLED, %endpoint, "disabled by hand");
            }
            (None, Some(reason)) => {
                tracing::error!(message_id = kind::ENDPOINT_DISABLED, %endpoint, reason, "the endpoint is disabled: its events are kept until `bellpull endpoint enable`");
                self.alert("endpoint.disabled", reason).await?;
            }
            (Some(_), None) => tracing::info!(message_id = kind::ENDPOINT_ENABLED, %endpoint, "enabled by hand"),
            _ => {}
        }
        match (before.refusing, state.refusing) {
            (false, true) => {
                let reason = state.last_error.as_deref().unwrap_or("it refuses what it is sent");
                tracing::warn!(message_id = kind::ENDPOINT_REFUSING, %endpoint, reason, "nothing was delivered since the receiver began to refuse");
                if !self.told().is_empty() {
                    self.alert("endpoint.refusing", reason).await?;
                }
            }
            (true, false) => {
                tracing::info!(message_id = kind::ENDPOINT_RECOVERED, %endpoint, "an event was delivered again");
                if !self.told().is_empty() {
                    self.alert("endpoint.recovered", "an event was delivered again").await?;
                }
            }
            _ => {}
        }
        // After the alert: a crash between the two tells it again instead of never.
        self.shared.store.write(Op::Endpoint(endpoint.clone(), state)).await?;
        Ok(())
    }

    /// Which origins of a URL that jq makes went down or answer again. There may be many: lines about them are few.
    fn log_origins(&mut self, before: &EndpointState, state: &EndpointState) {
        let endpoint = self.endpoint.name.clone();
        let is_down = |of: &EndpointState, origin: &str| of.origins.get(origin).is_some_and(OriginState::is_down);
        for (origin, OriginState { last_error: error, .. }) in &state.origins {
            if !is_down(state, origin) || is_down(before, origin) {
                continue;
            }
            match self.origins.turn() {
                Some(LeftOut(left_out)) => tracing::warn!(
                    message_id = kind::ENDPOINT_DOWN, %endpoint, origin, error, left_out,
                    "an origin is down: its events wait"
                ),
                None => tracing::debug!(%endpoint, origin, error, "an origin is down, one of many"),
            }
        }
        for origin in before.origins.keys().filter(|origin| is_down(before, origin) && !is_down(state, origin)) {
            tracing::debug!(%endpoint, origin, "the origin answers again");
        }
    }

    /// The other endpoints of `alert.to`.
    fn told(&self) -> Vec<Name> {
        let told = self.shared.others.borrow().alerts.clone();
        told.into_iter().filter(|name| *name != self.endpoint.name).collect()
    }

    /// Tells the other endpoints of `alert.to`.
    async fn alert(&mut self, kind: &str, why: &str) -> Result<(), store::Error> {
        self.tell_others(kind, json!({ "endpoint": &*self.endpoint.name, "reason": why, "waiting": self.queue.len() }))
            .await
    }

    async fn tell_others(&mut self, kind: &str, data: Json) -> Result<(), store::Error> {
        let (endpoint, to) = (&self.endpoint.name, self.told());
        let event = event::operational(kind, endpoint, data, &to, self.shared.clock.now());
        let commit = Commit { events: vec![event], ..Commit::default() };
        if let Written::Queued(queued) = self.shared.store.write(Op::Commit(Box::new(commit))).await? {
            // Not awaited: the one who takes it may be waiting for this dispatcher.
            let deliveries = self.shared.deliveries.clone();
            tokio::spawn(async move { deliveries.queued(queued).await });
        }
        Ok(())
    }

    /// Tells the other endpoints of `alert.to` of dead letters, at most once a minute until the end; how long to wait
    /// for the next time.
    async fn tell_dead(&mut self, at_the_end: bool) -> Result<Duration, store::Error> {
        let now = Instant::now();
        let Some(wait) = self.untold.due_in(now) else { return Ok(LOOK_AGAIN) };
        if !wait.is_zero() && !at_the_end {
            return Ok(wait);
        }
        let data = self.untold.take(&self.endpoint.name, now);
        if !self.told().is_empty() {
            self.tell_others("event.dead", data).await?;
        }
        Ok(LOOK_AGAIN)
    }

    /// Whether the bridges that feed it have to stop, as it is now; the others are told once, until there is room again.
    async fn tell_full(&mut self) -> Result<(), store::Error> {
        let (waiting, max) = (self.queue.len(), self.endpoint.queue_max);
        // Room is a tenth of it: at a steady overload it would be told for each delivery.
        if waiting.saturating_mul(10) < max.saturating_mul(9) {
            self.shared.deliveries.full.set(&self.endpoint.name, false);
            if std::mem::take(&mut self.full) {
                tracing::info!(message_id = kind::ENDPOINT_ROOM, endpoint = %self.endpoint.name, "the queue has room again");
            }
        } else if waiting >= max && self.endpoint.queue_full == QueueFull::Pause {
            self.shared.deliveries.full.set(&self.endpoint.name, true);
            self.became_full("the bridges that feed it are not polled until it has room").await?;
        }
        Ok(())
    }

    async fn became_full(&mut self, then: &str) -> Result<(), store::Error> {
        if std::mem::replace(&mut self.full, true) {
            return Ok(());
        }
        let reason = format!("the queue holds {} events (`queue-max`): {then}", self.endpoint.queue_max);
        tracing::error!(message_id = kind::ENDPOINT_FULL, endpoint = %self.endpoint.name, reason, "the queue is full");
        self.alert("endpoint.full", &reason).await
    }

    async fn queued(&mut self, waiting: Vec<Waiting>) -> Result<(), store::Error> {
        let mut over = Vec::new();
        let now = self.shared.clock.now();
        for waiting in waiting {
            // What an admin replays is bounded by the replay.
            let pauses = self.endpoint.queue_full == QueueFull::Pause;
            if self.queue.len() < self.endpoint.queue_max || pauses || waiting.replay {
                self.queue.push(waiting, now);
            } else {
                over.push(waiting);
            }
        }
        if over.is_empty() { Ok(()) } else { self.refuse(over).await }
    }

    async fn message(&mut self, message: Message) -> Result<(), store::Error> {
        match message {
            Message::Died(dead) => self.untold.join(dead),
            Message::Enable(enable, answer) => {
                let before = self.queue.state().clone();
                self.queue.enable(enable, self.shared.clock.now());
                let saved = self.save_state(&before).await;
                // The one who asked may have gone.
                let _ = answer.send(saved.clone());
                saved?;
            }
            Message::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Message::Moves(answer) => {
                let due = self.asked.is_some() || !self.flights.is_empty();
                let _ = answer.send(Moves { due, ended: self.ended });
            }
            Message::MayBeCured => self.may_be_cured(),
        }
        Ok(())
    }

    /// Beyond the queue's cap: dead letters, which can be replayed. The others are told once, until there is room again.
    async fn refuse(&mut self, over: Vec<Waiting>) -> Result<(), store::Error> {
        let (endpoint, max) = (self.endpoint.name.clone(), self.endpoint.queue_max);
        let error = format!("the queue holds {max} events (`queue-max`)");
        let at = self.shared.clock.now();
        let positions: Vec<Position> = over.iter().map(|waiting| waiting.position).collect();
        let ids = self.shared.store.read({
            let endpoint = endpoint.clone();
            move |engine| {
                let id = |position: &Position| {
                    let outgoing = engine.outgoing(&endpoint, *position)?;
                    Ok(outgoing.map(|o| (o.event.id.to_string(), event::is_operational(&o.event))))
                };
                positions.iter().map(id).collect::<Result<Vec<_>, store::Error>>()
            }
        });
        let ids: Vec<Option<(String, bool)>> = ids.await?;
        for (id, _) in ids.iter().flatten().filter(|(_, is_operational)| !is_operational) {
            self.untold.add(id, &error);
        }
        let dead = |(waiting, id): (Waiting, Option<(String, bool)>)| Settlement {
            position: waiting.position,
            outcome: store::Outcome::Dead,
            attempt: store::Attempt {
                event: id.map(|(id, _)| id).unwrap_or_default(),
                endpoint: endpoint.to_string(),
                number: 0,
                at,
                duration_ms: 0,
                status: None,
                answer: String::new(),
                error: Some(error.clone()),
            },
        };
        let settlements: Vec<Settlement> = over.into_iter().zip(ids).map(dead).collect();
        self.shared.store.write(Op::Settle(endpoint.clone(), settlements)).await?;
        self.became_full("further events become dead letters").await
    }

    fn status(&self) -> Status {
        let waiting = self.queue.len() + self.inbox.len();
        let wake = self.queue.wake(self.shared.clock.now());
        let stands = Status::of(self.endpoint.enabled, self.queue.state(), waiting, self.queue.oldest(), wake);
        Status { in_flight: self.flights.len(), ..stands }
    }
}
