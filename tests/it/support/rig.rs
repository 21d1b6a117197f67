//! The parts of bellpull joined as `run` joins them, without its process: a configuration, a store, a poller and the
//! deliveries. A test polls by hand, so that nothing happens between its lines; or it lets the runner.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bellpull::{
    auth::vault::Vault,
    clock::Clock,
    config::{self, Bridge, Config, Secrets},
    deliver::{self, Deliveries},
    http::{Client, budget::Budget},
    model::Name,
    poller::{self, Outcome, Polled, Poller, Polling, Runner},
    pulse::Pulse,
    store::{self, EventFilter, SharedEngine, Store, memory::MemoryEngine, sled::SledEngine},
};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    receiver::{Receiver, SECRET},
    upstream::Upstream,
};

/// A bridge over a list, to the one endpoint of a [`World`].
pub const LIST: &str = r#"
[bridge.orders]
every = "100ms"
items = ".[]"
key = ".id"
to = ["me"]
source.http.url = "UPSTREAM/items"
"#;

/// `LIST` with more lines of the bridge.
pub fn list(lines: &str) -> String {
    LIST.replace("source.http.url", &format!("{lines}\nsource.http.url"))
}

/// One upstream, one receiver, and bellpull between them.
pub struct World {
    pub upstream: Upstream,
    pub receiver: Receiver,
    pub rig: Rig,
}

impl World {
    /// A configuration in which `UPSTREAM` and `RECEIVER` stand for the two servers' origins and `SECRET` for the
    /// receiver's secret. Without `[endpoint.` it has one, `me`; loopback is allowed unless it says otherwise.
    pub async fn start(text: &str) -> Self {
        Self::on(Arc::new(MemoryEngine::new()), text).await
    }

    /// As `start`, on a store of its own.
    pub async fn on(engine: SharedEngine, text: &str) -> Self {
        Self::at(engine, Clock::system(), text).await
    }

    /// As `on`, under a clock of its own.
    pub async fn at(engine: SharedEngine, clock: Clock, text: &str) -> Self {
        let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
        let rig = Rig::at(engine, clock, &filled(text, &upstream, &receiver)).await;
        Self { upstream, receiver, rig }
    }

    /// The rig stops and starts again with another text, on the same store.
    pub async fn restart(&mut self, text: &str) {
        let text = filled(text, &self.upstream, &self.receiver);
        self.rig.stop().await;
        self.rig = Rig::start(self.rig.engine.clone(), &text).await;
    }

    /// A poll that is accepted.
    pub async fn poll(&mut self) -> Polling {
        self.rig.poll().await.result.expect("an accepted poll")
    }

    /// A poll that fails, and its error as `status` shows it.
    pub async fn fail(&mut self) -> String {
        let outcome = self.rig.poll().await;
        let error = outcome.result.expect_err("a failed poll").to_string();
        assert_eq!(self.rig.polled().progress.last_error.as_deref(), Some(error.as_str()));
        error
    }
}

fn filled(text: &str, upstream: &Upstream, receiver: &Receiver) -> String {
    let mut text = text.to_owned();
    if !text.contains("[endpoint.") {
        text.push_str("\n[endpoint.me]\nurl = \"RECEIVER/me\"\nsign.standard.secrets = [{ value = \"SECRET\" }]\n");
    }
    if !text.contains("[network]") {
        text.push_str("\n[network]\nallow = [\"127.0.0.0/8\"]\n");
    }
    text.replace("UPSTREAM", &upstream.origin()).replace("RECEIVER", &receiver.origin()).replace("SECRET", SECRET)
}

pub struct Rig {
    pub config: Config,
    pub engine: SharedEngine,
    pub store: Store,
    pub poller: Poller,
    /// By name; there is mostly one.
    pub bridges: BTreeMap<Name, Polled>,
    pub deliveries: deliver::Handle,
    shutdown: CancellationToken,
    running: Vec<JoinHandle<Result<(), store::Error>>>,
    /// The runner writes where bridges stand; the rig's own are older.
    ran: bool,
    dir: TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What is said of a text that is refused as a file.
pub fn refused(text: &str) -> String {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("bridges.toml");
    std::fs::write(&path, text).expect("written");
    config::load(&path, Secrets::FormOnly).expect_err("it is refused").to_string()
}

/// Loads a text as a file.
pub fn load(text: &str) -> (TempDir, Config) {
    let dir = tempfile::tempdir().expect("a directory");
    let path: PathBuf = dir.path().join("bridges.toml");
    std::fs::write(&path, text).expect("written");
    let config =
        config::load(&path, Secrets::Read).unwrap_or_else(|failed| panic!("the test's configuration: {failed}"));
    (dir, config)
}

/// A sled store in a directory.
pub fn sled(dir: &std::path::Path) -> SharedEngine {
    Arc::new(SledEngine::open(dir, 8 << 20).expect("the store opens"))
}

impl Rig {
    pub async fn start(engine: SharedEngine, text: &str) -> Self {
        Self::at(engine, Clock::system(), text).await
    }

    async fn at(engine: SharedEngine, clock: Clock, text: &str) -> Self {
        bellpull::expr::use_workers(super::daemon::binary());
        let (dir, config) = load(text);
        let store = Store::start(engine.clone()).expect("the store starts");
        let client = Client::new(&config.network).expect("a client");
        let shutdown = CancellationToken::new();
        let vault = Vault::default();
        vault.know(config.secrets.clone());
        let (deliveries, handle) = Deliveries::new(
            store.clone(),
            client.clone(),
            vault.clone(),
            Pulse::new(),
            clock.clone(),
            config.daemon.deliveries_in_flight,
        );
        let running = vec![tokio::spawn(deliveries.run(shutdown.clone()))];
        handle
            .apply(
                deliver::Endpoints {
                    all: config.endpoints.clone(),
                    alerts: config.alerted(),
                    bridges: config.bridges.clone(),
                },
                client.clone(),
            )
            .await;
        let poller = Poller {
            store: store.clone(),
            client,
            clock,
            budget: Budget::new(config.daemon.memory),
            vault,
            pulse: Pulse::new(),
            endpoints: Arc::new(config.endpoints.clone()),
            deliveries: handle.clone(),
        };
        let mut bridges = BTreeMap::new();
        for (name, bridge) in &config.bridges {
            bridges.insert(name.clone(), stored(&poller, bridge).await);
        }
        Self { config, engine, store, poller, bridges, deliveries: handle, shutdown, running, ran: false, dir }
    }

    /// As a stop of the daemon: what is under way ends, and where bridges stand is written.
    pub async fn stop(&mut self) {
        if !self.ran {
            self.save().await;
        }
        self.crash().await;
    }

    /// As `stop`, but where bridges stand is lost.
    pub async fn crash(&mut self) {
        self.shutdown.cancel();
        for running in self.running.drain(..) {
            running.await.expect("no panic").expect("no store error");
        }
    }

    /// The configuration as it stands in its file.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("bridges.toml")).expect("the file")
    }

    /// What the runner writes every 30 s.
    pub async fn save(&self) {
        let rows = self.bridges.iter().map(|(name, polled)| (name.clone(), polled.progress.clone())).collect();
        self.store.write(store::Op::Progress(rows)).await.expect("written");
    }

    pub fn polled(&mut self) -> &mut Polled {
        self.bridges.values_mut().next().expect("a bridge")
    }

    /// One poll of the only bridge.
    pub async fn poll(&mut self) -> Outcome {
        let name = self.bridges.keys().next().expect("a bridge").clone();
        self.poll_of(&name).await
    }

    pub async fn poll_of(&mut self, name: &str) -> Outcome {
        let polled = self.bridges.get_mut(name).expect("a bridge");
        self.poller.clone().poll_once(polled).await
    }

    /// Starts the runner with the bridges of the configuration; it ends with the last handle.
    pub async fn run(&mut self) -> poller::Handle {
        self.ran = true;
        let (runner, handle) = Runner::new(self.poller.clone(), self.config.daemon.polls_in_flight);
        self.running.push(tokio::spawn(runner.run(self.shutdown.clone())));
        handle.apply(self.config.bridges.clone(), self.poller.clone()).await;
        handle
    }

    /// The bodies of all events of bridges, oldest first; operational ones not.
    pub async fn events(&self) -> Vec<Json> {
        self.stored_events()
            .await
            .into_iter()
            .filter(|e| !e.event.bridge.is_empty())
            .map(|e| body(&e.event.body))
            .collect()
    }

    /// The types of operational events, oldest first.
    pub async fn alerts(&self) -> Vec<String> {
        self.stored_events().await.into_iter().filter(|e| e.event.bridge.is_empty()).map(|e| e.event.kind).collect()
    }

    pub async fn stored_events(&self) -> Vec<store::StoredEvent> {
        let all = EventFilter { bodies: true, limit: usize::MAX, ..EventFilter::default() };
        let mut events = self.store.read(move |engine| engine.events(&all)).await.expect("read");
        events.reverse();
        events
    }

    /// Type, key and sequence of all events of bridges, one line each: `orders.created 1 #1`.
    pub async fn lines(&self) -> Vec<String> {
        self.events().await.iter().map(line).collect()
    }

    /// Every stored record's body, by key.
    pub async fn snapshot(&mut self) -> BTreeMap<String, String> {
        let name = self.polled().bridge.name.clone();
        let all = self.store.read(move |engine| engine.scan(&name, None, usize::MAX)).await.expect("read");
        all.into_iter().map(|record| (record.key, String::from_utf8(record.body).expect("UTF-8"))).collect()
    }

    /// All that is durable, as text: for showing that something changed nothing.
    pub async fn export(&self) -> String {
        let export = |engine: &dyn store::Engine| {
            let mut out = Vec::new();
            engine.export(&mut out)?;
            Ok(out)
        };
        String::from_utf8(self.store.read(export).await.expect("read")).expect("UTF-8")
    }
}

async fn stored(poller: &Poller, bridge: &Arc<Bridge>) -> Polled {
    let name = bridge.name.clone();
    let (loaded, hold) =
        poller.store.read(move |engine| Ok((engine.bridge(&name)?, engine.hold(&name)?))).await.expect("read");
    Polled::new(bridge.clone(), loaded, hold.as_ref().map(poller::Held::from))
}

pub fn body(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).expect("JSON")
}

pub fn line(event: &Json) -> String {
    let data = &event["data"];
    format!(
        "{} {} #{}",
        event["type"].as_str().expect("a type"),
        data["key"].as_str().expect("a key"),
        data["sequence"]
    )
}

/// Applies a body's patch to its `before`, and checks that it gives `after`.
pub fn check_patch(event: &Json) {
    let data = &event["data"];
    let patch: json_patch::Patch = serde_json::from_value(data["patch"].clone()).expect("a patch");
    assert!(!patch.0.is_empty(), "no event has an empty patch: {event}");
    if data.get("after").is_none() {
        // RFC 6902 leaves open what removing the whole document leaves; libraries differ.
        assert_eq!(data["patch"], serde_json::json!([{ "op": "remove", "path": "" }]));
        return;
    }
    let mut value = data["before"].clone();
    json_patch::patch(&mut value, &patch).expect("the patch applies");
    assert_eq!(value, data["after"], "{event}");
}

/// An answer as JSON, as the API gives it.
pub fn as_json(answer: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(answer).expect("JSON")
}
