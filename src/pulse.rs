//! What goes on, told once by those who do it: counters for `/metrics`, the last 24 hours for the dashboard's pictures, and
//! a live feed for `watch` and the dashboard.
//!
//! It decides nothing, nothing waits for it, and losing it loses no event. Names of bridges are labels of two gauges alone, where
//! they are few or somebody asks for them: they may be a hundred thousand.

mod history;
mod plain;
mod process;

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{broadcast, watch};

use crate::model::{Name, Timestamp};
use history::History;
pub use history::{Bucket, HOURS, QUARTERS};
pub use plain::{plain, wants_openmetrics};
use process::Process;

/// Notices that a slow reader may be behind, before it misses some.
const FEED_MAX: usize = 1024;
/// Of times, in seconds: from a millisecond to a day, which an outage may last.
const BUCKETS: [f64; 17] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 10_800.0, 36_000.0,
    86_400.0,
];

/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PollEnd {
    Unchanged,
    Same,
    Baseline,
    Changed,
    Held,
    Failed,
}

impl PollEnd {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Same => "same",
            Self::Baseline => "baseline",
            Self::Changed => "changed",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

/// One poll.
#[derive(Debug, Clone, Serialize)]
pub struct Poll {
    pub bridge: Name,
    pub outcome: PollEnd,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Of the answer after decompression.
    pub bytes: u64,
    pub took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether work is due or under way, and how much of it has ended: for who looks whether it moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    pub due: bool,
    pub ended: u64,
}

/// How far the walk under way has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    pub pages: usize,
    pub records: usize,
}

/// One attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    pub endpoint: Name,
    pub event: String,
    /// `taken`, `down`, `refused`, `gone`, `lost`, `idle`.
    pub class: &'static str,
    pub status: Option<u16>,
    pub took_ms: u64,
    /// From the commit of the event to the receiver's 2xx, for those that were not replayed.
    #[serde(skip)]
    pub since_observed: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the feed carries.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notice {
    Poll(Poll),
    Delivery(Delivery),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabel {
    change: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointLabel {
    pub endpoint: String,
}

/// A bridge, and the word for how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BridgeStateLabel {
    pub bridge: String,
    pub state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BridgeLabel {
    pub bridge: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    polls: Family<OutcomeLabel, Counter>,
    bytes: Counter,
    changes: Family<ChangeLabel, Counter>,
    poll_duration: Histogram,
    poll_lag: Histogram,
    attempts: Family<ClassLabel, Counter>,
    attempt_duration: Histogram,
    latency: Histogram,
    reloads: Family<ResultLabel, Counter>,
    reload_ok: Gauge,
    configured: Gauge,
    process: Process,
    open_seconds: Gauge<f64, AtomicU64>,
    gauges: Gauges,
    /// Held while the gauges are set and read.
    scraping: Mutex<()>,
    history: Mutex<History>,
    feed: broadcast::Sender<Arc<Notice>>,
    walk: watch::Sender<Walked>,
}

/// What is read again for each scrape.
#[derive(Debug, Default)]
pub struct Gauges {
    pub bridges: Family<StateLabel, Gauge>,
    pub bridge_states: Family<BridgeStateLabel, Gauge>,
    pub bridge_successes: Family<BridgeLabel, Gauge>,
    pub records: Gauge,
    pub endpoints: Family<StateLabel, Gauge>,
    pub waiting: Family<EndpointLabel, Gauge>,
    pub oldest_seconds: Family<EndpointLabel, Gauge>,
    pub dead: Family<EndpointLabel, Gauge>,
    pub store_bytes: Gauge,
    pub store_commits: Counter,
    pub store_groups: Counter,
    pub store_syncs: Counter,
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

impl Pulse {
    pub fn new() -> Self {
        let seconds = || Histogram::new(BUCKETS);
        let mut inner = Inner {
            registry: Registry::default(),
            polls: Family::default(),
            bytes: Counter::default(),
            changes: Family::default(),
            poll_duration: seconds(),
            poll_lag: seconds(),
            attempts: Family::default(),
            attempt_duration: seconds(),
            latency: seconds(),
            reloads: Family::default(),
            reload_ok: Gauge::default(),
            configured: Gauge::default(),
            process: Process::default(),
            open_seconds: Gauge::default(),
            gauges: Gauges::default(),
            scraping: Mutex::default(),
            history: Mutex::default(),
            feed: broadcast::channel(FEED_MAX).0,
            walk: watch::Sender::default(),
        };
        inner.reload_ok.set(1);
        // There from the start: what appears with its first count is missed by who watches its rise.
        for result in ["ok", "refused"] {
            drop(inner.reloads.get_or_create(&ResultLabel { result }));
        }
        inner.register();
        Self(Arc::new(inner))
    }

    /// A poll has ended. `lag` is from its due time to its start.
    pub fn polled(&self, poll: Poll, lag: Option<Duration>, now: Timestamp) {
        let inner = &self.0;
        inner.polls.get_or_create(&OutcomeLabel { outcome: poll.outcome.name() }).inc();
        inner.bytes.inc_by(poll.bytes);
        self.count([poll.created, poll.updated, poll.deleted]);
        inner.poll_duration.observe(Duration::from_millis(poll.took_ms).as_secs_f64());
        if let Some(lag) = lag {
            inner.poll_lag.observe(lag.as_secs_f64());
        }
        let changes = poll.created + poll.updated + poll.deleted;
        let failed = u32::from(poll.outcome == PollEnd::Failed);
        self.remember(
            &poll.bridge,
            Bucket { polls: 1, failed, changes: u32::try_from(changes).unwrap_or(u32::MAX) },
            now,
        );
        self.tell(Notice::Poll(poll));
    }

    /// What a guard held was accepted: created, updated and deleted records.
    pub fn accepted(&self, bridge: &Name, changed: [u64; 3], now: Timestamp) {
        self.count(changed);
        let changes = u32::try_from(changed.iter().sum::<u64>()).unwrap_or(u32::MAX);
        self.remember(bridge, Bucket { changes, ..Bucket::default() }, now);
        let [created, updated, deleted] = changed;
        let (bridge, outcome) = (bridge.clone(), PollEnd::Changed);
        self.tell(Notice::Poll(Poll { bridge, outcome, created, updated, deleted, bytes: 0, took_ms: 0, error: None }));
    }

    fn count(&self, changed: [u64; 3]) {
        for (change, count) in ["created", "updated", "deleted"].into_iter().zip(changed) {
            self.0.changes.get_or_create(&ChangeLabel { change }).inc_by(count);
        }
    }

    /// Adds to the last 24 hours.
    fn remember(&self, bridge: &Name, more: Bucket, now: Timestamp) {
        self.0.history.lock().expect("no thread panics with it").add(bridge, more, now);
    }

    /// An attempt has ended.
    pub fn attempted(&self, delivery: Delivery) {
        let inner = &self.0;
        inner.attempts.get_or_create(&ClassLabel { class: delivery.class }).inc();
        inner.attempt_duration.observe(Duration::from_millis(delivery.took_ms).as_secs_f64());
        if let Some(since) = delivery.since_observed {
            inner.latency.observe(since.as_secs_f64());
        }
        self.tell(Notice::Delivery(delivery));
    }

    /// A reload has ended.
    pub fn reloaded(&self, ok: bool) {
        self.0.reloads.get_or_create(&ResultLabel { result: if ok { "ok" } else { "refused" } }).inc();
        self.0.reload_ok.set(i64::from(ok));
    }

    /// A configuration was read, at the start or by a reload, and counts from now on.
    pub fn configured(&self, now: Timestamp) {
        self.0.configured.set(now.seconds());
    }

    /// The store was opened.
    pub fn opened(&self, took: Duration) {
        self.0.open_seconds.set(took.as_secs_f64());
    }

    fn tell(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.0.feed.send(Arc::new(notice));
    }

    pub fn feed(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.0.feed.subscribe()
    }

    /// The pages of walks, for a process that makes one poll: it is not said whose they are.
    pub fn walk(&self) -> watch::Receiver<Walked> {
        self.0.walk.subscribe()
    }

    /// Whether somebody wants to know of each page.
    pub fn is_walk_watched(&self) -> bool {
        self.0.walk.receiver_count() > 0
    }

    pub fn walked(&self, walked: Walked) {
        self.0.walk.send_replace(walked);
    }

    /// The last 24 hours: by the hour of one bridge, by the quarter of an hour of all.
    pub fn history(&self, bridge: Option<&str>, now: Timestamp) -> Vec<Bucket> {
        self.0.history.lock().expect("no thread panics with it").of(bridge, now)
    }

    /// Forgets a bridge that is no more.
    pub fn forget(&self, bridge: &str) {
        self.0.history.lock().expect("no thread panics with it").forget(bridge);
    }

    /// All of it as OpenMetrics text, after `gauges` were set.
    pub fn scrape(&self, set: impl FnOnce(&Gauges)) -> String {
        // Two at once would read each other's halves.
        let _scraping = self.0.scraping.lock().expect("no thread panics with it");
        set(&self.0.gauges);
        self.0.process.look();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.registry);
        text
    }
}

impl Inner {
    fn register(&mut self) {
        let info: Family<VersionLabel, Gauge> = Family::default();
        info.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        self.process.register(&mut self.registry);
        let r = self.registry.sub_registry_with_prefix("bellpull");
        r.register("build_info", "Which version runs; always 1", info);
        r.register("polls", "Polls by outcome", self.polls.clone());
        r.register_with_unit("answer", "Bytes of answers after decompression", Unit::Bytes, self.bytes.clone());
        r.register("changes", "Changes that were committed", self.changes.clone());
        r.register_with_unit(
            "poll_duration",
            "From the start of a poll to its commit",
            Unit::Seconds,
            self.poll_duration.clone(),
        );
        r.register_with_unit(
            "poll_lag",
            "From the due time of a poll to its start",
            Unit::Seconds,
            self.poll_lag.clone(),
        );
        r.register("attempts", "Attempts at deliveries by what came of them", self.attempts.clone());
        r.register_with_unit("attempt_duration", "Of one attempt", Unit::Seconds, self.attempt_duration.clone());
        r.register_with_unit(
            "delivery_latency",
            "From the answer that shows a change to the receiver's 2xx",
            Unit::Seconds,
            self.latency.clone(),
        );
        r.register("reloads", "Reloads of the configuration by result", self.reloads.clone());
        r.register("config_ok", "Whether the last reload was taken", self.reload_ok.clone());
        r.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration that counts was read, since 1970",
            Unit::Seconds,
            self.configured.clone(),
        );
        r.register_with_unit("store_open", "How long the store took to open", Unit::Seconds, self.open_seconds.clone());
        let g = &self.gauges;
        r.register("bridges", "Bridges by state", g.bridges.clone());
        r.register("bridge_state", "1 for the state of a bridge, by name", g.bridge_states.clone());
        r.register_with_unit(
            "bridge_last_success_timestamp",
            "When a bridge's last poll was accepted, since 1970",
            Unit::Seconds,
            g.bridge_successes.clone(),
        );
        r.register("records", "Records that are known", g.records.clone());
        r.register("endpoints", "Endpoints by state", g.endpoints.clone());
        r.register("outbox_events", "Events that wait for an endpoint", g.waiting.clone());
        r.register_with_unit(
            "outbox_oldest",
            "Age of the oldest event that waits",
            Unit::Seconds,
            g.oldest_seconds.clone(),
        );
        r.register("dead_letters", "Events that an endpoint refused for good", g.dead.clone());
        r.register_with_unit("store_size", "Of the database on the disk", Unit::Bytes, g.store_bytes.clone());
        r.register("store_commits", "Commits since the store was opened", g.store_commits.clone());
        r.register("store_groups", "Groups of writes since the store was opened", g.store_groups.clone());
        r.register("store_syncs", "Syncs of the disk since the store was opened", g.store_syncs.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(bridge: &str, outcome: PollEnd, created: u64) -> Poll {
        Poll { bridge: bridge.into(), outcome, created, updated: 0, deleted: 0, bytes: 10, took_ms: 5, error: None }
    }

    /// Two scrapers at once read each other's halves: 600 bridges, or none, of 300.
    #[test]
    fn scrapes_at_the_same_time_are_each_whole() {
        let pulse = Pulse::new();
        let scrape = || {
            pulse.scrape(|gauges| {
                gauges.bridges.clear();
                for _ in 0..300 {
                    gauges.bridges.get_or_create(&StateLabel { state: "ok".into() }).inc();
                }
            })
        };
        let all = std::thread::scope(|scope| {
            let scrapers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..50).map(|_| scrape()).collect::<Vec<_>>())).collect();
            scrapers.into_iter().flat_map(|scraper| scraper.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(all.len(), 200);
        for text in all {
            assert!(text.contains("bellpull_bridges{state=\"ok\"} 300\n"), "{text}");
        }
    }

    #[test]
    fn what_is_told_is_counted_and_fed() {
        let pulse = Pulse::new();
        let mut feed = pulse.feed();
        pulse.polled(poll("a", PollEnd::Changed, 3), Some(Duration::from_millis(20)), Timestamp(0));
        let text = pulse.scrape(|gauges| {
            gauges.store_bytes.set(7);
        });
        for line in [
            "bellpull_polls_total{outcome=\"changed\"} 1",
            "bellpull_changes_total{change=\"created\"} 3",
            "bellpull_store_size_bytes 7",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let notice = serde_json::to_value(&*feed.try_recv().expect("one")).expect("JSON");
        assert_eq!(notice["poll"]["bridge"], "a");
    }
}
