//! How a command reaches the answers: through the daemon's socket, or, where none runs, through the store itself.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt;
use reqwest::header::SERVER;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::{FAILED, Failure, IO, UNAVAILABLE, waiting};
use crate::{
    admin::{self, Admin, DeliveryQuery, DryRun, EventQuery, Replay, VERSION},
    auth::vault::Vault,
    clock::Clock,
    config::{self, Config, Secrets, preview::Running},
    daemon,
    deliver::Deliveries,
    http::budget::Budget,
    model::Hash,
    poller::{Poller, Runner},
    pulse::Pulse,
    store::{
        Store,
        memory::MemoryEngine,
        sled::{Lent, SledEngine},
    },
    terminal,
};

/// A poll may take its whole deadline, and what is done to a bridge waits for its poll; nothing that an admin asks takes longer.
const DONE_WITHIN: Duration = Duration::from_secs(600);
/// What is only read: a long list takes a second or two.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// A view that is left open overnight.
const WATCH_WITHIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where the unit's daemon listens, and where its configuration is (systemd/bellpull.service).
const UNIT_SOCKET: &str = "/run/bellpull/admin.sock";
const UNIT_CONFIG: &str = "/etc/bellpull";

/// One of the two ways.
pub(super) enum Client {
    Socket {
        http: reqwest::Client,
        socket: PathBuf,
    },
    /// No daemon runs: the store is opened under its lock when a command needs it.
    Alone {
        path: std::path::PathBuf,
        config: Box<Config>,
    },
}

type Answer = Result<Json, Failure>;

impl Client {
    /// Looks whether a daemon answers.
    pub(super) async fn connect(path: &Path, config: Config) -> Result<Self, Failure> {
        match Self::reach(path, &config.daemon.socket).await? {
            Some(client) => Ok(client),
            None => Ok(Self::Alone { path: path.to_owned(), config: Box::new(config) }),
        }
    }

    /// The daemon of a file that has errors: it runs on what the file said before, and can be asked about that.
    pub(super) async fn running(path: &Path) -> Option<Self> {
        let daemon = config::daemon(path)?;
        Self::reach(path, &daemon.socket).await.ok().flatten()
    }

    /// No daemon runs.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Alone { .. })
    }

    async fn reach(path: &Path, own: &Path) -> Result<Option<Self>, Failure> {
        // An admin's shell has no $RUNTIME_DIRECTORY: the unit's daemon is where its unit puts it.
        for socket in [own, Path::new(UNIT_SOCKET)] {
            let meant = socket == own || path.starts_with(UNIT_CONFIG);
            if !meant || tokio::net::UnixStream::connect(socket).await.is_err() {
                continue;
            }
            // The TLS provider must be there before any client is built.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let builder = reqwest::Client::builder().unix_socket(socket.to_owned()).user_agent(VERSION);
            let http = builder.timeout(READ_WITHIN).build().map_err(|e| Failure::new(IO, e.to_string()))?;
            return Ok(Some(Self::Socket { http, socket: socket.to_owned() }));
        }
        Ok(None)
    }

    /// Of all, or of the bridge or the endpoint of a name.
    pub(super) async fn status(&self, name: Option<&str>) -> Answer {
        let Some(name) = name else {
            return match self {
                Self::Socket { .. } => self.get("status", &()).await,
                Self::Alone { config, .. } => done(stored(config).await?.status().await),
            };
        };
        let (bridge, endpoints) = match self {
            Self::Socket { .. } => {
                let bridge = self.get(&format!("bridges/{}", segment(name)), &()).await;
                let endpoints = if bridge.is_err() { self.get("endpoints", &()).await? } else { Json::Null };
                (bridge, endpoints)
            }
            Self::Alone { config, .. } => {
                let admin = stored(config).await?;
                (done(admin.bridge(name).await), done(admin.endpoints().await)?)
            }
        };
        match endpoints.get(name) {
            Some(endpoint) if bridge.is_err() => Ok(json!({ "bridges": {}, "endpoints": { name: endpoint } })),
            _ => bridge,
        }
    }

    /// What another configuration is compared with; without a daemon and a store that is nothing.
    pub(super) async fn outline(&self) -> Result<Running, Failure> {
        match self {
            Self::Socket { .. } => {
                let running = self.get("running", &()).await?;
                serde_json::from_value(running)
                    .map_err(|e| Failure::new(FAILED, format!("the daemon's answer is of another version: {e}")))
            }
            Self::Alone { config, .. } if !has_store(config) => Ok(Running::default()),
            Self::Alone { config, .. } => {
                stored(config).await?.running().await.map_err(|e| Failure::new(IO, e.to_string()))
            }
        }
    }

    pub(super) async fn events(&self, query: EventQuery) -> Answer {
        match self {
            Self::Socket { .. } => self.get("events", &query).await,
            Self::Alone { config, .. } => done(stored(config).await?.events(query).await),
        }
    }

    pub(super) async fn event(&self, id: &str) -> Answer {
        match self {
            Self::Socket { .. } => self.get(&format!("events/{}", segment(id)), &()).await,
            Self::Alone { config, .. } => done(stored(config).await?.event(id).await),
        }
    }

    /// The rows, and how many there are where they were cut.
    pub(super) async fn deliveries(&self, query: DeliveryQuery) -> Result<(Json, Option<String>), Failure> {
        match self {
            Self::Socket { .. } => {
                let query = serde_urlencoded(&query);
                let response = self.send(|http, base| http.get(format!("{base}deliveries{query}"))).await?;
                let total = response.headers().get(admin::TOTAL).and_then(|total| total.to_str().ok());
                let total = total.map(str::to_owned);
                Ok((answered(response).await?, total))
            }
            Self::Alone { config, .. } => match stored(config).await?.deliveries(query).await {
                Ok(listed) => Ok((done(Ok(listed.rows))?, listed.total.map(|total| total.to_string()))),
                Err(error) => done::<()>(Err(error)).map(|none| (none, None)),
            },
        }
    }

    pub(super) async fn poll(&self, name: &str) -> Answer {
        match self {
            Self::Socket { .. } => {
                waiting::for_poll(None, self.post(&format!("bridges/{}/poll", segment(name)), &())).await
            }
            Self::Alone { path, config } => {
                let (store, pulse) = (open(config).await?, Pulse::new());
                let walk = pulse.walk();
                waiting::for_poll(
                    Some(walk),
                    alone(path, store, StoredNames::Settle, pulse, async |admin| admin.poll(name).await),
                )
                .await
            }
        }
    }

    pub(super) async fn dry_run(&self, name: &str, request: DryRun) -> Answer {
        match self {
            Self::Socket { .. } => {
                waiting::for_poll(None, self.post(&format!("bridges/{}/dry-run", segment(name)), &request)).await
            }
            Self::Alone { path, config } => {
                // Without a store there is nothing to compare with, and nothing is to be written.
                let store = match has_store(config) {
                    true => open(config).await?,
                    false => {
                        Store::start(Arc::new(MemoryEngine::new())).map_err(|e| Failure::new(IO, e.to_string()))?
                    }
                };
                let pulse = Pulse::new();
                let walk = pulse.walk();
                let work =
                    alone(path, store, StoredNames::Leave, pulse, async |admin| admin.dry_run(name, request).await);
                waiting::for_poll(Some(walk), work).await
            }
        }
    }

    pub(super) async fn replay(&self, request: Replay) -> Answer {
        self.post("replay", &request).await
    }

    pub(super) async fn resend(&self, name: &str, endpoint: &str) -> Answer {
        self.post(&format!("bridges/{}/resend?endpoint={}", segment(name), segment(endpoint)), &()).await
    }

    pub(super) async fn accept(&self, name: &str, hash: Option<Hash>) -> Answer {
        self.post(&format!("bridges/{}/accept{}", segment(name), hash_query(hash)), &()).await
    }

    pub(super) async fn reject(&self, name: &str, hash: Option<Hash>) -> Answer {
        self.post(&format!("bridges/{}/reject{}", segment(name), hash_query(hash)), &()).await
    }

    pub(super) async fn pause(&self, name: &str, pause: bool) -> Answer {
        self.post(&format!("bridges/{}/{}", segment(name), if pause { "pause" } else { "resume" }), &()).await
    }

    /// Writes a backup, through the daemon or from the store.
    pub(super) async fn export(&self, out: &mut (dyn std::io::Write + Send)) -> super::Done {
        let written = |e: std::io::Error| Failure::new(IO, format!("failed to write the backup: {e}"));
        match self {
            Self::Socket { .. } => {
                let response = self.send(|http, base| http.get(format!("{base}export")).timeout(WATCH_WITHIN)).await?;
                if !response.status().is_success() {
                    let text = response.text().await.unwrap_or_default();
                    return Err(Failure::new(FAILED, text));
                }
                let lost = |e: reqwest::Error| Failure::new(UNAVAILABLE, format!("the daemon is gone: {e}"));
                let mut chunks = response.bytes_stream();
                while let Some(chunk) = chunks.try_next().await.map_err(lost)? {
                    out.write_all(&chunk).map_err(written)?;
                }
            }
            Self::Alone { config, .. } => {
                let mut file = stored(config).await?.export().await.map_err(|e| Failure::new(IO, e.to_string()))?;
                std::io::copy(&mut file, out).map_err(written)?;
            }
        }
        out.flush().map_err(written)
    }

    /// Reads the file again.
    pub(super) async fn reload(&self, force: bool) -> Answer {
        self.post(if force { "reload?force=true" } else { "reload" }, &()).await
    }

    pub(super) async fn link(&self) -> Answer {
        self.get("link", &()).await
    }

    /// What goes on, until the daemon ends or `each` does.
    pub(super) async fn watch(&self, mut each: impl FnMut(&str, &Json) -> super::Done) -> super::Done {
        let response = self.send(|http, base| http.get(format!("{base}stream")).timeout(WATCH_WITHIN)).await?;
        let lost = |e: reqwest::Error| Failure::new(UNAVAILABLE, format!("the daemon is gone: {e}"));
        let mut chunks = response.bytes_stream();
        let mut text = String::new();
        while let Some(chunk) = chunks.try_next().await.map_err(lost)? {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((event, rest)) =
                text.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned()))
            {
                text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let (Some(kind), Some(data)) = (field("event:"), field("data:")) {
                    each(kind, &decode(data.as_bytes())?)?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn test(&self, name: &str) -> Answer {
        self.post(&format!("endpoints/{}/test", segment(name)), &()).await
    }

    pub(super) async fn enable(&self, name: &str, enable: bool) -> Answer {
        self.post(&format!("endpoints/{}/{}", segment(name), if enable { "enable" } else { "disable" }), &()).await
    }

    async fn get(&self, path: &str, query: &impl Serialize) -> Answer {
        let query = serde_urlencoded(query);
        self.ask(|http, base| http.get(format!("{base}{path}{query}"))).await
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        self.ask(|http, base| http.post(format!("{base}{path}")).json(body).timeout(DONE_WITHIN)).await
    }

    async fn send(
        &self,
        request: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        let Self::Socket { http, socket } = self else {
            let Self::Alone { config, .. } = self else {
                return Err(Failure::new(UNAVAILABLE, ""));
            };
            let socket = config.daemon.socket.display();
            return Err(Failure::new(
                UNAVAILABLE,
                format!("no daemon answers on {socket}: start it with `bellpull run`"),
            ));
        };
        let lost = |e: reqwest::Error| {
            let where_to_look = "look at its log (`journalctl -u bellpull`) and at its open files (`ls /proc/PID/fd`)";
            let error = match e.is_timeout() {
                true => format!("the daemon on {} did not answer in time: {where_to_look}", socket.display()),
                false => format!("the daemon on {} did not answer: {e}: {where_to_look}", socket.display()),
            };
            Failure::new(UNAVAILABLE, error)
        };
        let response = request(http, "http://bellpull/api/").send().await.map_err(lost)?;
        let of_the_daemon = response.headers().get(SERVER).map(|version| String::from_utf8_lossy(version.as_bytes()));
        if of_the_daemon.as_deref() != Some(VERSION) {
            let other = of_the_daemon.as_deref().unwrap_or("another version, which does not say which");
            let (other, own) = (terminal::line(other), VERSION);
            let _ = writeln!(
                std::io::stderr(),
                "the daemon is {other}, and this command is {own}: start the daemon again after an upgrade"
            );
        }
        Ok(response)
    }

    async fn ask(&self, request: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder) -> Answer {
        answered(self.send(request).await?).await
    }
}

async fn answered(response: reqwest::Response) -> Answer {
    let lost = |e: reqwest::Error| Failure::new(UNAVAILABLE, format!("the daemon did not answer: {e}"));
    let ok = response.status().is_success();
    let body: Json = decode(&response.bytes().await.map_err(lost)?)?;
    if ok {
        return Ok(body);
    }
    let message = body.get("error").and_then(Json::as_str).unwrap_or("the daemon refused it").to_owned();
    Err(Failure::new(FAILED, message))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|e| Failure::new(FAILED, format!("the daemon answered {:?}: {e}", String::from_utf8_lossy(bytes))))
}

/// A name as a part of a path: members' names hold a slash.
fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

fn hash_query(hash: Option<Hash>) -> String {
    hash.map(|hash| format!("?hash={hash}")).unwrap_or_default()
}

/// A struct of options as `?a=b&c=d`.
fn serde_urlencoded(query: &impl Serialize) -> String {
    let Ok(Json::Object(map)) = serde_json::to_value(query) else {
        return String::new();
    };
    let mut out = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in map {
        match value {
            Json::Null => {}
            Json::String(text) => drop(out.append_pair(&name, &text)),
            other => drop(out.append_pair(&name, &other.to_string())),
        }
    }
    let out = out.finish();
    if out.is_empty() { out } else { format!("?{out}") }
}

fn done<T: Serialize>(result: Result<T, admin::Error>) -> Answer {
    let result = result.map_err(|error| {
        let code = if matches!(error, admin::Error::Store(_)) { IO } else { FAILED };
        Failure::new(code, error.to_string())
    });
    serde_json::to_value(result?).map_err(|e| Failure::new(IO, e.to_string()))
}

fn has_store(config: &Config) -> bool {
    SledEngine::is_in(&config.daemon.state_dir)
}

/// The store under its lock; a command makes none.
async fn open(config: &Config) -> Result<Store, Failure> {
    if !has_store(config) {
        let dir = std::path::absolute(&config.daemon.state_dir).unwrap_or_else(|_| config.daemon.state_dir.clone());
        let error = format!(
            "no daemon runs, and a store is missing in {} (`daemon.state-dir`); of the systemd unit's daemon `systemctl status bellpull` \
             tells, and its store is found with STATE_DIRECTORY=/var/lib/bellpull",
            dir.display()
        );
        return Err(Failure::new(UNAVAILABLE, error));
    }
    daemon::open_store(config).await.map_err(|e| Failure::new(IO, e.to_string()))
}

/// What is stored, to read from.
struct Stored {
    admin: Admin,
    /// Removed after its reader.
    _copy: Option<Lent>,
}

impl std::ops::Deref for Stored {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

/// A store that cannot be written is read from a copy.
async fn stored(config: &Config) -> Result<Stored, Failure> {
    let (mut config, dir) = (config.clone(), config.daemon.state_dir.clone());
    let copy =
        tokio::task::spawn_blocking(move || Lent::of(&dir)).await.map_err(|e| Failure::new(IO, e.to_string()))?;
    let copy = copy.map_err(|e| Failure::new(IO, e.to_string()))?;
    if let Some(copy) = &copy {
        copy.dir().clone_into(&mut config.daemon.state_dir);
    }
    let store = open(&config).await?;
    Ok(Stored { admin: Admin::new(store, Arc::new(config), None, None, Pulse::new()), _copy: copy })
}

/// What becomes of the names of bridges that the store knows.
enum StoredNames {
    /// They follow the file.
    Settle,
    /// They stay, for a look.
    Leave,
}

/// One bridge's runner without a daemon: what it commits goes out when the daemon runs.
async fn alone<T: Serialize>(
    path: &Path,
    store: Store,
    names: StoredNames,
    pulse: Pulse,
    work: impl AsyncFnOnce(&Admin) -> Result<T, admin::Error>,
) -> Answer {
    // Now the secrets are needed.
    let mut read = super::load(path, Secrets::Read).await?;
    let client = crate::http::Client::new(&read.network).map_err(|e| Failure::new(super::CONFIG, e))?;
    let clock = Clock::system();
    let vault = Vault::new(read.daemon.state_dir.join(crate::daemon::TOKENS));
    vault.know(read.secrets.clone());
    let (_deliveries, handle) =
        Deliveries::new(store.clone(), client.clone(), vault.clone(), pulse.clone(), clock.clone(), 1);
    let poller = Poller {
        store: store.clone(),
        client,
        clock,
        budget: Budget::new(read.daemon.memory),
        vault,
        pulse: pulse.clone(),
        endpoints: Arc::new(read.endpoints.clone()),
        deliveries: handle,
    };
    // Nothing is due by itself.
    for bridge in read.bridges.values_mut() {
        Arc::make_mut(bridge).enabled = false;
    }
    let (runner, handle) = Runner::new(poller.clone(), 1);
    let runner = match names {
        StoredNames::Settle => runner,
        StoredNames::Leave => runner.only_looking(),
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(runner.run(shutdown.clone()));
    handle.apply(read.bridges.clone(), poller).await;
    let admin = Admin::new(store, Arc::new(read), Some(handle), None, pulse);
    let result = done(work(&admin).await);
    shutdown.cancel();
    running.await.map_err(|e| Failure::new(IO, e.to_string()))?.map_err(|e| Failure::new(IO, e.to_string()))?;
    result
}
