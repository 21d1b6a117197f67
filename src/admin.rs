//! What an admin may ask and order: the same answers over the daemon's socket and, for reading, without a daemon.
//!
//! It decides nothing about bridges or deliveries; it asks their owners, and reads what is stored.

pub mod api;
mod export;
mod find;
mod metrics;
mod replay;
mod routes;
mod session;
mod socket;
mod standing;
mod status;
mod strip;
mod web;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::broadcast, time::Instant};

use crate::{
    clock::{self, Clock},
    config::Config,
    decode::Page,
    deliver,
    model::{EventId, Hash, Name, Timestamp},
    poller,
    pulse::{Moves, Notice, Pulse},
    store::{self, DeliveryState, EventFilter, Op, Store, Written},
};
use export::Exports;
use find::{LIST_DEFAULT, LIST_MAX};
pub use find::{Listed, Total};
pub use routes::TOTAL;
pub use session::Codes;
pub use socket::{bind, inherited};
pub use standing::{Reloading, Reloads, Standing, Web};
pub use web::{Gate, VERSION, page_link, serve, serve_socket, token};

/// How often old events are looked for.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often what is gone for good is looked for; the first time after as long, since a clock that is wrong at the start would drop what
/// is waited for.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);
/// And after the clock was set ahead: time for it to be set right.
const FORGET_AFTER_JUMP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long delivered events are kept of endpoints that do not say.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Packs of events that one write drops, so that others get their turn.
const SWEEP_AT_ONCE: usize = 250;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Asked for what is not there, or cannot be done now.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<poller::Refused> for Error {
    fn from(refused: poller::Refused) -> Self {
        Self::Refused(refused.0)
    }
}

/// A time, in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema)]
#[schemars(with = "String", extend("format" = "date-time"))]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What `events` lists.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What `deliveries` lists: all that is given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of the attempt, or of the last one; 0 where no answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// A text in the event's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What `replay` sends again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    pub ids: Vec<String>,
    pub dead: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of the last attempt; 0 where no answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A text in the event's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    pub remake: bool,
}

/// Saved pages for a dry run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DryRun {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

/// When what is gone for good is looked for next, and both clocks at the last look.
struct Forgetting {
    at: Instant,
    looked: (Timestamp, Instant),
}

/// Answers; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    store: Store,
    config: Arc<Mutex<Arc<Config>>>,
    runner: Option<poller::Handle>,
    deliveries: Option<deliver::Handle>,
    forgetting: Arc<Mutex<Forgetting>>,
    pulse: Pulse,
    exports: Exports,
    /// Why the last reload was refused.
    refused: Arc<Mutex<Option<String>>>,
}

/// Polls and attempts, and how long one of each may take at the most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moving {
    pub polls: (Moves, Duration),
    pub attempts: (Moves, Duration),
}

impl Admin {
    /// Without handles it only reads.
    pub fn new(
        store: Store,
        config: Arc<Config>,
        runner: Option<poller::Handle>,
        deliveries: Option<deliver::Handle>,
        pulse: Pulse,
    ) -> Self {
        let config = Arc::new(Mutex::new(config));
        let forgetting =
            Forgetting { at: Instant::now() + FORGET_EVERY, looked: (Timestamp(i64::MAX), Instant::now()) };
        let forgetting = Arc::new(Mutex::new(forgetting));
        Self {
            store,
            config,
            runner,
            deliveries,
            forgetting,
            pulse,
            exports: Exports::default(),
            refused: Arc::default(),
        }
    }

    /// Takes another configuration, after a reload.
    pub fn configure(&self, config: Arc<Config>) {
        *self.config.lock().expect("no thread panics with it") = config;
    }

    /// How the last reload ended: why it was refused, if it was.
    pub fn reloaded(&self, refused: Option<String>) {
        *self.refused.lock().expect("no thread panics with it") = refused;
    }

    fn config(&self) -> Arc<Config> {
        self.config.lock().expect("no thread panics with it").clone()
    }

    fn runner(&self) -> Result<&poller::Handle, Error> {
        self.runner.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))
    }

    /// What moves: `None` where the scheduler, a delivery loop or the store's writer does not answer.
    pub async fn moves(&self) -> Option<Moving> {
        // They may wait for it.
        if self.exports.are_made() {
            return Some(Moving::default());
        }
        let (runner, deliveries) = (self.runner.as_ref()?, self.deliveries.as_ref()?);
        let (polls, attempts, written) = tokio::join!(runner.moves(), deliveries.moves(), self.store.ping());
        let config = self.config();
        let deadlines = config.bridges.values().map(|bridge| bridge.source.deadline());
        let longest = config.endpoints.values().map(|endpoint| endpoint.attempt_max());
        let moving = Moving {
            polls: (polls?, deadlines.max().unwrap_or_default()),
            attempts: (attempts?, longest.max().unwrap_or_default()),
        };
        written.then_some(moving)
    }

    pub async fn poll(&self, bridge: &str) -> Result<poller::Ended, Error> {
        Ok(self.runner()?.poll(bridge.into()).await?)
    }

    /// Stops or starts the polls of a bridge; durable on return.
    pub async fn pause(&self, bridge: &str, pause: bool) -> Result<poller::Done, Error> {
        Ok(self.runner()?.pause(bridge.into(), pause).await?)
    }

    /// What goes on from now on.
    pub fn feed(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.pulse.feed()
    }

    /// The last 24 hours of a bridge, or of all, as SVG.
    pub fn strip(&self, bridge: Option<&str>) -> String {
        strip::draw(&self.pulse.history(bridge, Clock::system().now()))
    }

    pub async fn dry_run(&self, bridge: &str, request: DryRun) -> Result<poller::Tried, Error> {
        let saved = request.response.map(|body| Page {
            url: "the saved answer".into(),
            content_type: None,
            hash: Hash::of(body.as_bytes()),
            body: body.into(),
        });
        Ok(self.runner()?.dry_run(bridge.into(), saved).await?)
    }

    pub async fn accept(&self, bridge: &str, hash: Option<Hash>) -> Result<poller::Ended, Error> {
        Ok(self.runner()?.accept(bridge.into(), hash).await?)
    }

    pub async fn reject(&self, bridge: &str, hash: Option<Hash>) -> Result<poller::Done, Error> {
        Ok(self.runner()?.reject(bridge.into(), hash).await?)
    }

    pub async fn resend(&self, bridge: &str, endpoint: &str) -> Result<poller::Done, Error> {
        if !self.config().endpoints.contains_key(endpoint) {
            return Err(Error::Refused(format!("no endpoint is called {endpoint:?}")));
        }
        Ok(self.runner()?.resend(bridge.into(), endpoint.into()).await?)
    }

    pub async fn enable(&self, endpoint: &str, enable: bool) -> Result<api::Enabled, Error> {
        let deliveries = self.deliveries.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))?;
        if !self.config().endpoints.contains_key(endpoint) {
            return Err(Error::Refused(format!("no endpoint is called {endpoint:?}")));
        }
        deliveries.enable(endpoint.into(), enable).await?;
        Ok(api::Enabled { endpoint: endpoint.to_owned(), enabled: enable })
    }

    /// Sends a test event at once, and tells what came of it.
    pub async fn test(&self, endpoint: &str) -> Result<api::Attempt, Error> {
        let deliveries = self.deliveries.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))?;
        let attempt = deliveries.test(endpoint.into()).await;
        attempt.map(Into::into).ok_or_else(|| Error::Refused(format!("no endpoint is called {endpoint:?}")))
    }

    /// Newest first.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<api::Event>, Error> {
        let filter = EventFilter {
            bridge: query.bridge.map(Name::from),
            endpoint: query.endpoint.map(Name::from),
            since: query.since.map(|Time(since)| since),
            limit: query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX),
            ..EventFilter::default()
        };
        let events = self.store.read(move |engine| engine.events(&filter)).await?;
        Ok(events.iter().map(Into::into).collect())
    }

    /// One event with its body and all its attempts.
    pub async fn event(&self, id: &str) -> Result<api::Event, Error> {
        let id: EventId = id.parse().map_err(|e: &str| Error::Refused(e.into()))?;
        let found = self.store.read(move |engine| {
            let text = id.to_string();
            Ok((engine.event(id)?, engine.attempts(&mut |attempt| attempt.event == text, LIST_MAX)?))
        });
        let (Some(stored), attempts) = found.await? else {
            return Err(Error::Refused(format!("no event is called {id}; delivered ones are kept for seven days")));
        };
        let body = serde_json::from_slice(&stored.event.body).ok();
        let attempts = Some(attempts.into_iter().map(Into::into).collect());
        Ok(api::Event { body, attempts, ..api::Event::from(&stored) })
    }

    /// Drops what was delivered long enough ago, a slice after the other until nothing is left of it.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), store::Error> {
        let config = self.config();
        let keep: Vec<(Name, Duration)> =
            config.endpoints.iter().map(|(name, endpoint)| (name.clone(), endpoint.keep)).collect();
        loop {
            let sweep = Op::Sweep { now, keep: keep.clone(), default_keep: KEEP, limit: SWEEP_AT_ONCE };
            match self.store.write(sweep).await? {
                Written::Swept(count @ 1..) => tracing::debug!(count, "dropped delivered events"),
                _ => break,
            }
        }
        let due = {
            let mut forgetting = self.forgetting.lock().expect("no thread panics with it");
            let (wall, monotonic) = std::mem::replace(&mut forgetting.looked, (now, Instant::now()));
            let jump = now.0.saturating_sub(wall.plus(monotonic.elapsed()).0);
            if jump > clock::JUMP_MS {
                // What is thirty days old by a clock that was set a moment ago may be of today.
                forgetting.at = Instant::now() + FORGET_AFTER_JUMP;
            }
            forgetting.at <= Instant::now()
        };
        if due {
            deliver::roster::forget(&self.store, now).await?;
            poller::roster::forget(&self.store, &config.bridges, now).await?;
            self.forgetting.lock().expect("no thread panics with it").at = Instant::now() + FORGET_EVERY;
        }
        Ok(())
    }
}
