//! What an admin may ask and order: the same answers over the daemon's socket and, for reading, without a daemon.
//!
//! It decides nothing about bridges or deliveries; it asks their owners, and reads what is stored.

mod metrics;
mod replay;
mod routes;
mod socket;
mod strip;
mod web;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::{sync::broadcast, time::Instant};

use crate::{
    clock::Clock,
    config::Config,
    decode::Page,
    deliver,
    model::{Content, EventId, Hash, Name, Timestamp},
    poller,
    pulse::{Notice, Pulse},
    store::{self, DeliveryState, EventFilter, Op, Store, StoredEvent, Written},
};
pub use socket::{bind, inherited};
pub use web::{Gate, Standing, Web, serve, serve_socket, token};

/// How often old events are looked for.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long the daemon has to run before it forgets endpoints.
const FORGET_FROM: Duration = Duration::from_secs(60 * 60);
/// How long delivered events are kept of endpoints that do not say.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Events that one sweep drops.
const SWEEP_AT_ONCE: usize = 1000;
/// Rows of one listing when nothing is said.
const LIST_DEFAULT: usize = 50;
const LIST_MAX: usize = 10_000;

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

/// What `events` lists.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What `deliveries` lists.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What `replay` sends again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    pub ids: Vec<String>,
    pub dead: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub remake: bool,
}

/// Saved pages for a dry run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DryRun {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

/// Answers; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    store: Store,
    config: Arc<Mutex<Arc<Config>>>,
    runner: Option<poller::Handle>,
    deliveries: Option<deliver::Handle>,
    started: Instant,
    pulse: Pulse,
    /// Exports that are being made.
    exports: Arc<AtomicUsize>,
}

/// Counts as long as it is held.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        Self { store, config, runner, deliveries, started: Instant::now(), pulse, exports: Arc::default() }
    }

    /// Takes another configuration, after a reload.
    pub fn configure(&self, config: Arc<Config>) {
        *self.config.lock().expect("no thread panics with it") = config;
    }

    fn config(&self) -> Arc<Config> {
        self.config.lock().expect("no thread panics with it").clone()
    }

    fn runner(&self) -> Result<&poller::Handle, Error> {
        self.runner.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))
    }

    /// Whether the scheduler, the store's writer and every delivery loop answer. While an export is made they may wait for it.
    pub async fn moves(&self) -> bool {
        if self.exports.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let (Some(runner), Some(deliveries)) = (&self.runner, &self.deliveries) else { return false };
        let (_, _, written) = tokio::join!(runner.status(), deliveries.status(), self.store.ping());
        written
    }

    /// One consistent state of the store as JSON lines, in a file that has no name any more. Writes wait while it is made.
    pub async fn export(&self) -> Result<std::fs::File, Error> {
        let path = self.config().daemon.state_dir.join(format!("export-{}.tmp", EventId::random()));
        let counted = Counted::new(&self.exports);
        let export = move |engine: &dyn store::Engine| {
            let _counted = counted;
            Ok(spool(engine, &path))
        };
        self.store.read(export).await?
    }

    /// One line: "214 bridges, 3 failing; 1 endpoint down, 42 waiting".
    pub async fn summary(&self) -> String {
        let (Some(runner), Some(deliveries)) = (&self.runner, &self.deliveries) else {
            return "not running".into();
        };
        let (bridges, endpoints) = (runner.status().await, deliveries.status().await);
        let count = |state: &str| bridges.values().filter(|b| b.state == state).count();
        let down = endpoints.values().filter(|e| e.state == "down" || e.state == "disabled").count();
        let waiting: usize = endpoints.values().map(|e| e.waiting).sum();
        format!(
            "{} bridges, {} failing, {} held; {down} of {} endpoints down, {waiting} waiting",
            bridges.len(),
            count("failing"),
            count("held"),
            endpoints.len(),
        )
    }

    /// Every bridge and endpoint, or one bridge with what it holds.
    pub async fn status(&self, bridge: Option<&str>) -> Result<Json, Error> {
        let mut bridges = match &self.runner {
            Some(runner) => serde_json::to_value(runner.status().await),
            None => serde_json::to_value(self.stored_bridges().await?),
        }
        .map_err(|e| Error::Refused(e.to_string()))?;
        if let Some(all) = bridges.as_object_mut() {
            for (name, removed) in self.removed_bridges().await? {
                all.entry(name).or_insert(removed);
            }
        }
        let holds = self.store.read(|engine| {
            let held = engine.bridges()?.into_iter().filter(|b| b.held);
            held.map(|b| Ok((b.name.clone(), engine.hold(&b.name)?))).collect::<Result<Vec<_>, store::Error>>()
        });
        for (name, hold) in holds.await? {
            if let (Some(place), Some(hold)) = (bridges.get_mut(&*name), hold) {
                add(
                    place,
                    "hold",
                    json!({
                        "hash": hold.hash, "at": hold.at.to_string(), "reason": hold.reason, "rejected": hold.rejected,
                        "created": hold.created, "updated": hold.updated, "deleted": hold.deleted,
                    }),
                );
            }
        }
        if let Some(name) = bridge {
            let one =
                bridges.get(name).cloned().ok_or_else(|| Error::Refused(format!("there is no bridge {name:?}")))?;
            return Ok(json!({ "bridges": { name: one } }));
        }
        let mut endpoints = match &self.deliveries {
            Some(deliveries) => serde_json::to_value(deliveries.status().await),
            None => serde_json::to_value(self.stored_endpoints().await?),
        }
        .map_err(|e| Error::Refused(e.to_string()))?;
        if let Some(all) = endpoints.as_object_mut() {
            all.extend(self.removed().await?);
            let names: Vec<String> = all.keys().cloned().collect();
            let dead = self.store.read(move |engine| {
                names.into_iter().map(|n| Ok((engine.dead(&n)?, n))).collect::<Result<Vec<_>, store::Error>>()
            });
            for (dead, name) in dead.await? {
                all.entry(name).and_modify(|e| add(e, "dead", dead.into()));
            }
        }
        Ok(
            json!({ "version": env!("CARGO_PKG_VERSION"), "stream": &**self.store.stream(), "running": self.runner.is_some(), "bridges": bridges, "endpoints": endpoints }),
        )
    }

    async fn stored_bridges(&self) -> Result<BTreeMap<Name, Json>, Error> {
        let all = self.store.read(|engine| engine.bridges()).await?;
        let show = |b: store::Loaded| {
            let progress = b.progress.unwrap_or_default();
            let status = json!({
                "state": if progress.failures > 0 { "failing" } else if b.held { "held" } else { "ok" },
                "records": b.state.records, "sequence": b.state.sequence, "version": b.state.version,
                "last_poll": progress.last_poll.map(|at| at.to_string()), "next_poll": progress.due.to_string(),
                "failures": progress.failures, "last_error": progress.last_error, "polling": false,
            });
            (b.name, status)
        };
        Ok(all.into_iter().map(show).collect())
    }

    /// Bridges that left the file, while their snapshot is kept. Members that left a list are not told.
    async fn removed_bridges(&self) -> Result<Vec<(String, Json)>, Error> {
        let config = self.config();
        let mut all = self.store.read(|engine| engine.bridges()).await?;
        all.retain(|loaded| config.bridge(&loaded.name).is_none());
        let removed = |loaded: store::Loaded| {
            let until = loaded.progress?.removed?.plus(poller::roster::REMOVED_KEPT).to_string();
            let shown = json!({ "state": "removed", "records": loaded.state.records, "sequence": loaded.state.sequence, "kept_until": until });
            Some((loaded.name.to_string(), shown))
        };
        Ok(all.into_iter().filter_map(removed).collect())
    }

    /// Endpoints that left the file, while their queue is kept.
    async fn removed(&self) -> Result<Vec<(String, Json)>, Error> {
        let config = self.config();
        let read = self.store.read(move |engine| {
            let gone = engine.endpoints()?.into_iter().filter(|(name, _)| !config.endpoints.contains_key(name));
            gone.map(|(name, state)| Ok((engine.waiting(&name)?.len(), name, state.removed)))
                .collect::<Result<Vec<_>, store::Error>>()
        });
        let show = |(waiting, name, since): (usize, Name, Option<Timestamp>)| {
            let until = since.map(|since| since.plus(deliver::roster::REMOVED_KEPT).to_string());
            (name.to_string(), json!({ "state": "removed", "waiting": waiting, "kept_until": until }))
        };
        Ok(read.await?.into_iter().map(show).collect())
    }

    async fn stored_endpoints(&self) -> Result<BTreeMap<Name, Json>, Error> {
        let names: Vec<Name> = self.config().endpoints.keys().cloned().collect();
        let all = self.store.read(move |engine| {
            let states: BTreeMap<Name, store::EndpointState> = engine.endpoints()?.into_iter().collect();
            names
                .into_iter()
                .map(|name| {
                    let state = states.get(&name).cloned().unwrap_or_default();
                    let waiting = engine.waiting(&name)?.len();
                    let word = match (&state.disabled, &state.next_attempt) {
                        (Some(_), _) => "disabled",
                        (None, Some(_)) => "down",
                        (None, None) => "ok",
                    };
                    let status = json!({ "state": word, "waiting": waiting, "last_error": state.last_error, "disabled": state.disabled });
                    Ok((name, status))
                })
                .collect::<Result<BTreeMap<_, _>, store::Error>>()
        });
        Ok(all.await?)
    }

    pub async fn poll(&self, bridge: &str) -> Result<Json, Error> {
        Ok(self.runner()?.poll(bridge.into()).await?)
    }

    /// Stops or starts the polls of a bridge; durable on return.
    pub async fn pause(&self, bridge: &str, pause: bool) -> Result<Json, Error> {
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

    pub async fn dry_run(&self, bridge: &str, request: DryRun) -> Result<Json, Error> {
        let saved = request.response.map(|body| Page {
            url: "the saved answer".into(),
            content_type: None,
            hash: Hash::of(body.as_bytes()),
            body: body.into(),
        });
        Ok(self.runner()?.dry_run(bridge.into(), saved).await?)
    }

    pub async fn accept(&self, bridge: &str, hash: Option<Hash>) -> Result<Json, Error> {
        Ok(self.runner()?.accept(bridge.into(), hash).await?)
    }

    pub async fn reject(&self, bridge: &str, hash: Option<Hash>) -> Result<Json, Error> {
        Ok(self.runner()?.reject(bridge.into(), hash).await?)
    }

    pub async fn resend(&self, bridge: &str, endpoint: &str) -> Result<Json, Error> {
        if !self.config().endpoints.contains_key(endpoint) {
            return Err(Error::Refused(format!("there is no endpoint {endpoint:?}")));
        }
        Ok(self.runner()?.resend(bridge.into(), endpoint.into()).await?)
    }

    pub async fn enable(&self, endpoint: &str, enable: bool) -> Result<Json, Error> {
        let deliveries = self.deliveries.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))?;
        if !self.config().endpoints.contains_key(endpoint) {
            return Err(Error::Refused(format!("there is no endpoint {endpoint:?}")));
        }
        deliveries.enable(endpoint.into(), enable).await?;
        Ok(json!({ "endpoint": endpoint, "enabled": enable }))
    }

    /// Sends a test event at once, and tells what came of it.
    pub async fn test(&self, endpoint: &str) -> Result<Json, Error> {
        let deliveries = self.deliveries.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))?;
        let attempt = deliveries.test(endpoint.into()).await;
        let attempt = attempt.ok_or_else(|| Error::Refused(format!("there is no endpoint {endpoint:?}")))?;
        serde_json::to_value(attempt).map_err(|e| Error::Refused(e.to_string()))
    }

    /// Newest first.
    pub async fn events(&self, query: EventQuery) -> Result<Json, Error> {
        let filter = EventFilter {
            bridge: query.bridge.map(Name::from),
            endpoint: query.endpoint.map(Name::from),
            since: query.since,
            limit: query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX),
            ..EventFilter::default()
        };
        let events = self.store.read(move |engine| engine.events(&filter)).await?;
        Ok(Json::Array(events.iter().map(show_event).collect()))
    }

    /// One event with its body and all its attempts.
    pub async fn event(&self, id: &str) -> Result<Json, Error> {
        let id: EventId = id.parse().map_err(|e: &str| Error::Refused(e.into()))?;
        let found = self.store.read(move |engine| {
            let text = id.to_string();
            Ok((engine.event(id)?, engine.attempts(&mut |attempt| attempt.event == text, LIST_MAX)?))
        });
        let (Some(stored), attempts) = found.await? else {
            return Err(Error::Refused(format!("there is no event {id}; delivered ones are kept for seven days")));
        };
        let mut shown = show_event(&stored);
        add(&mut shown, "body", serde_json::from_slice(&stored.event.body).unwrap_or(Json::Null));
        add(&mut shown, "attempts", serde_json::to_value(attempts).unwrap_or(Json::Null));
        Ok(shown)
    }

    /// Attempts, newest first; or, of a state, the events that are in it.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<Json, Error> {
        let limit = query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
        if let Some(state) = query.state {
            let filter = EventFilter {
                endpoint: query.endpoint.as_deref().map(Name::from),
                state: Some(state),
                limit,
                ..EventFilter::default()
            };
            let read = self.store.read(move |engine| {
                let events = engine.events(&filter)?;
                // The last attempt of each: the ring as a whole, with its answers, would not fit.
                let mut left: BTreeSet<String> = events.iter().map(|event| event.event.id.to_string()).collect();
                let endpoint = filter.endpoint.as_deref();
                let mut wanted = |attempt: &store::Attempt| {
                    endpoint.is_none_or(|endpoint| endpoint == attempt.endpoint) && left.remove(&attempt.event)
                };
                let last = engine.attempts(&mut wanted, events.len())?.into_iter().map(|a| (a.event.clone(), a));
                let mut last: BTreeMap<String, store::Attempt> = last.collect();
                let pair = |event: StoredEvent| (last.remove(&event.event.id.to_string()), event);
                Ok(events.into_iter().map(pair).map(|(last, event)| (event, last)).collect::<Vec<_>>())
            });
            let show = |(event, last): &(StoredEvent, Option<store::Attempt>)| {
                let mut shown = show_event(event);
                add(&mut shown, "last-attempt", serde_json::to_value(last).unwrap_or(Json::Null));
                shown
            };
            return Ok(Json::Array(read.await?.iter().map(show).collect()));
        }
        let attempts = self.store.read(move |engine| {
            let of = |attempt: &store::Attempt| query.endpoint.as_ref().is_none_or(|name| *name == attempt.endpoint);
            engine.attempts(&mut { of }, limit)
        });
        let attempts = attempts.await?;
        serde_json::to_value(attempts).map_err(|e| Error::Refused(e.to_string()))
    }

    /// Drops a slice of what was delivered long enough ago.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), store::Error> {
        let ago = |keep: Duration| now.plus_ms(-i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let config = self.config();
        let before = config.endpoints.iter().map(|(name, endpoint)| (name.clone(), ago(endpoint.keep))).collect();
        let sweep = Op::Sweep { before, default_before: ago(KEEP), limit: SWEEP_AT_ONCE };
        if let Written::Swept(count @ 1..) = self.store.write(sweep).await? {
            tracing::debug!(count, "dropped delivered events");
        }
        // A clock that is wrong at the start would drop what is waited for.
        if self.started.elapsed() >= FORGET_FROM {
            deliver::roster::forget(&self.store, now).await?;
            poller::roster::forget(&self.store, &config.bridges, now).await?;
        }
        Ok(())
    }
}

/// One consistent state in a file without a name. That it cannot be written is the admin's, and no failure of the store.
fn spool(engine: &dyn store::Engine, path: &Path) -> Result<std::fs::File, Error> {
    let failed = |e: std::io::Error| Error::Refused(format!("failed to write the export to {}: {e}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    std::fs::remove_file(path).map_err(failed)?;
    let mut out = std::io::BufWriter::new(&mut file);
    engine.export(&mut out).map_err(|error| Error::Refused(format!("the export failed: {error}")))?;
    out.flush().map_err(failed)?;
    drop(out);
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// Adds a field to an object.
fn add(object: &mut Json, key: &str, value: Json) {
    if let Json::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}

fn show_event(stored: &StoredEvent) -> Json {
    let deliveries: Vec<Json> = stored
        .deliveries
        .iter()
        .map(|d| {
            let committed = stored.event.deliveries.iter().find(|c| c.endpoint == d.endpoint);
            let error = committed.and_then(|c| match &c.content {
                Content::Dead(error) => Some(error.clone()),
                _ => None,
            });
            json!({
                "endpoint": &*d.endpoint, "state": d.state, "attempts": d.attempts,
                "due": d.due.map(|at| at.to_string()), "error": error,
            })
        })
        .collect();
    json!({
        "id": stored.event.id, "type": stored.event.kind, "bridge": &*stored.event.bridge, "key": stored.event.key,
        "sequence": stored.event.sequence, "timestamp": stored.event.at.to_string(), "deliveries": deliveries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryEngine;

    /// It was told as a failure of the store, which stopped polling and delivery.
    #[test]
    fn an_export_that_cannot_be_written_is_refused() {
        let refused = spool(&MemoryEngine::new(), Path::new("/nowhere/export.tmp")).expect_err("refused");
        assert!(matches!(&refused, Error::Refused(why) if why.contains("/nowhere/export.tmp")), "{refused}");
    }
}
