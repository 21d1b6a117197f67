//! Sends to one endpoint: owns its queue in memory, a mirror of the one on disk, and records every attempt before it
//! lets the attempt's lane go on.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, Status,
    attempt::{Attempted, Sender},
    queue::{BY_HAND, Job, Queue},
};
use crate::{
    config::Endpoint,
    event,
    model::{Name, Timestamp},
    store::{self, Commit, EndpointState, Op, Position, Settlement, Waiting, Written},
};

/// Messages that may wait for a dispatcher; the one who hands over waits beyond it.
const MESSAGES_MAX: usize = 256;
/// Attempts in flight to one endpoint.
const IN_FLIGHT: usize = 8;
/// Waiting events of one endpoint; further ones become dead letters at once.
const QUEUE_MAX: usize = 1_000_000;
/// A dispatcher looks again at least so often: a wall clock that jumps moves what is due.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A wall clock that differs by more from the monotonic one was set.
const JUMP_MS: i64 = 60_000;

pub(super) enum Message {
    Queued(Vec<Waiting>),
    Enable(bool, oneshot::Sender<Result<(), store::Error>>),
    Status(oneshot::Sender<Status>),
}

/// Sends to one endpoint.
pub(super) struct Dispatcher {
    shared: Shared,
    endpoint: Arc<Endpoint>,
    queue: Queue,
    messages: mpsc::Receiver<Message>,
    flights: JoinSet<(Job, Attempted)>,
}

impl Dispatcher {
    /// Reads the queue from the store.
    pub(super) async fn new(
        shared: Shared,
        endpoint: Arc<Endpoint>,
    ) -> Result<(Self, mpsc::Sender<Message>), store::Error> {
        let name = endpoint.name.clone();
        let (waiting, state) = shared
            .store
            .read(move |engine| {
                let state = engine.endpoints()?.into_iter().find(|(n, _)| *n == name).map(|(_, s)| s);
                Ok((engine.waiting(&name)?, state.unwrap_or_default()))
            })
            .await?;
        let mut queue = Queue::new(endpoint.schedule.clone(), endpoint.disable_after, IN_FLIGHT, state);
        let now = shared.clock.now();
        queue.clamp(now);
        waiting.into_iter().for_each(|waiting| queue.push(waiting, now));
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        Ok((Self { shared, endpoint, queue, messages, flights: JoinSet::new() }, sender))
    }

    /// Runs until shutdown; attempts in flight are finished and recorded first.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        let (mut wall, mut monotonic) = (self.shared.clock.now(), Instant::now());
        loop {
            let jump = self.shared.clock.now().0 - wall.plus(monotonic.elapsed()).0;
            if jump.abs() > JUMP_MS {
                tracing::warn!(endpoint = %self.endpoint.name, jump_ms = jump, "the wall clock was set");
                self.queue.shift(jump);
            }
            (wall, monotonic) = (self.shared.clock.now(), Instant::now());
            self.send_due();
            let wake = self.queue.wake(self.shared.clock.now()).filter(|_| self.endpoint.enabled);
            // Looks again at least once a minute: a wall clock that jumps moves what is due.
            let wait = wake.map_or(LOOK_AGAIN, |at| self.shared.clock.now().until(at).min(LOOK_AGAIN));
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.flights.join_next() => self.settle(done).await?,
                message = self.messages.recv() => match message {
                    Some(message) => self.message(message).await?,
                    None => break,
                },
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
        while let Some(done) = self.flights.join_next().await {
            self.settle(done).await?;
        }
        Ok(())
    }

    fn send_due(&mut self) {
        if !self.endpoint.enabled {
            return;
        }
        while let Some(job) = self.queue.next(self.shared.clock.now()) {
            let sender = Sender { shared: self.shared.clone(), endpoint: self.endpoint.clone() };
            self.flights.spawn(async move {
                let attempted = sender.attempt(&job).await;
                (job, attempted)
            });
        }
    }

    /// Records what attempts led to, all that are done in one write, and only then lets their lanes go on.
    async fn settle(&mut self, first: Result<(Job, Attempted), JoinError>) -> Result<(), store::Error> {
        let mut settlements: Vec<Settlement> = Vec::new();
        let mut next = Some(first);
        let before = self.queue.state().clone();
        while let Some(done) = next {
            let (job, attempted) = match done {
                Ok(done) => done,
                // A panicked attempt leaves its lane in flight until the next start reads the queue again.
                Err(error) => {
                    tracing::error!(endpoint = %self.endpoint.name, %error, "an attempt panicked");
                    return Err(store::Error::Io(format!("an attempt panicked: {error}")));
                }
            };
            let now = self.shared.clock.now();
            let outcome = self.queue.settle(&job, &attempted.result, now, attempted.random);
            self.log(&attempted, outcome);
            settlements.push(Settlement { position: job.waiting.position, outcome, attempt: attempted.record });
            next = self.flights.try_join_next();
        }
        let positions: Vec<Position> = settlements.iter().map(|s| s.position).collect();
        self.shared.store.write(Op::Settle(self.endpoint.name.clone(), settlements)).await?;
        self.queue.recorded(&positions);
        self.save_state(&before).await
    }

    fn log(&self, attempted: &Attempted, outcome: store::Outcome) {
        let endpoint = &self.endpoint.name;
        let record = &attempted.record;
        match outcome {
            store::Outcome::Delivered => {
                tracing::debug!(%endpoint, event = record.event, attempt = record.number, "delivered");
            }
            store::Outcome::Dead => {
                tracing::warn!(%endpoint, event = record.event, status = record.status, error = record.error, "dead letter");
            }
            store::Outcome::Retry { due, .. } => {
                tracing::debug!(%endpoint, event = record.event, status = record.status, error = record.error, %due, "to be tried again");
            }
        }
    }

    /// Writes the endpoint's health when it changed, and says so once.
    async fn save_state(&mut self, before: &EndpointState) -> Result<(), store::Error> {
        let state = self.queue.state().clone();
        if state == *before {
            return Ok(());
        }
        let endpoint = &self.endpoint.name;
        if before.failing_since.is_none() && state.failing_since.is_some() {
            tracing::warn!(%endpoint, error = state.last_error, "the endpoint fails");
        } else if before.failing_since.is_some() && state.failing_since.is_none() {
            tracing::info!(%endpoint, "the endpoint takes events again");
        }
        // One who did it by hand need not be told.
        let disabled = state.disabled.as_ref().filter(|why| *why != BY_HAND);
        if let (None, Some(why)) = (&before.disabled, disabled) {
            tracing::error!(%endpoint, why, "the endpoint is disabled; its events are kept until `bellpull endpoint enable`");
            let to: Vec<Name> = self.shared.alerts.iter().filter(|name| *name != endpoint).cloned().collect();
            let data = serde_json::json!({ "endpoint": &**endpoint, "reason": why, "waiting": self.queue.len() });
            let event = event::operational("endpoint.disabled", endpoint, data, &to, self.shared.clock.now());
            let commit = Commit { events: vec![event], ..Commit::default() };
            if let Written::Queued(queued) = self.shared.store.write(Op::Commit(Box::new(commit))).await? {
                // Not awaited: the one who hands it over may be waiting for this dispatcher. What finds no room is
                // durable and goes out after the next start.
                let _ = self.shared.deliveries.try_queued(queued);
            }
        }
        // After the alert: a crash between the two tells it again instead of never.
        self.shared.store.write(Op::Endpoint(endpoint.clone(), state)).await?;
        Ok(())
    }

    async fn message(&mut self, message: Message) -> Result<(), store::Error> {
        match message {
            Message::Queued(waiting) => {
                let mut over = Vec::new();
                for waiting in waiting {
                    if self.queue.len() < QUEUE_MAX {
                        self.queue.push(waiting, self.shared.clock.now());
                    } else {
                        over.push(waiting);
                    }
                }
                if !over.is_empty() {
                    self.refuse(over).await?;
                }
            }
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
        }
        Ok(())
    }

    /// Beyond the queue's cap: dead letters, which can be replayed.
    async fn refuse(&self, over: Vec<Waiting>) -> Result<(), store::Error> {
        tracing::error!(endpoint = %self.endpoint.name, events = over.len(), "the queue is full: dead letters");
        let dead = |waiting: Waiting| Settlement {
            position: waiting.position,
            outcome: store::Outcome::Dead,
            attempt: store::Attempt {
                event: String::new(),
                endpoint: self.endpoint.name.to_string(),
                number: 0,
                at: self.shared.clock.now(),
                duration_ms: 0,
                status: None,
                answer: String::new(),
                error: Some(format!("the queue holds {QUEUE_MAX} events")),
            },
        };
        let settlements = over.into_iter().map(dead).collect();
        self.shared.store.write(Op::Settle(self.endpoint.name.clone(), settlements)).await.map(|_: Written| ())
    }

    fn status(&self) -> Status {
        let state = self.queue.state();
        let show = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Status {
            state: if !self.endpoint.enabled || state.disabled.is_some() {
                "disabled"
            } else if state.next_attempt.is_some() {
                "down"
            } else if state.failing_since.is_some() {
                "failing"
            } else {
                "ok"
            },
            waiting: self.queue.len(),
            oldest: show(self.queue.oldest()),
            next_attempt: show(self.queue.wake(self.shared.clock.now()).filter(|_| !self.queue.is_empty())),
            failing_since: show(state.failing_since),
            last_error: state.last_error.clone(),
            disabled: state.disabled.clone().or_else(|| (!self.endpoint.enabled).then(|| "`enabled = false`".into())),
            in_flight: self.flights.len(),
        }
    }
}
