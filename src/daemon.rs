//! The daemon: opens the store, builds the parts, reloads, drains, and opens the store again when it failed.

mod descriptors;
mod heartbeat;
mod renewing;
mod watchdog;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    admin::{self, Admin, Gate, Reloading, Reloads, Standing, Web},
    auth::vault::Vault,
    clock::{self, Clock},
    config::{self, Config, Secrets, plan::Plan},
    deliver::{self, Deliveries},
    event, failpoint,
    http::{Client, budget::Budget},
    notify, poller,
    poller::{Poller, Runner},
    pulse::Pulse,
    store::{self, Op, Store, Written, sled::SledEngine},
    telemetry::{self, kind},
};

/// The first wait before a failed store is opened again; it doubles.
const REOPEN_FIRST: Duration = Duration::from_secs(1);
const REOPEN_MAX: Duration = Duration::from_secs(60);
/// Where refresh tokens are kept, beneath the state directory.
pub const TOKENS: &str = "tokens";
/// How long requests under way may take to end with the daemon.
const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// How often a port is tried that somebody else has.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);
/// How often `STATUS=` is told again.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(#[from] config::Failed),
    /// The HTTP client cannot be built from the configuration.
    #[error("{0}")]
    Client(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{0}")]
    Io(String),
    /// A reload would remove most bridges.
    #[error(transparent)]
    Guarded(#[from] config::plan::TooManyGo),
}

/// Opens the store of a configuration, on a blocking thread.
pub async fn open_store(config: &Config) -> Result<Store, store::Error> {
    let (dir, cache) = (config.daemon.state_dir.clone(), config.store.cache);
    if failpoint::is_on("disk") {
        return Err(store::Error::Io("the failpoint `disk` is on".into()));
    }
    tokio::task::spawn_blocking(move || Store::start(Arc::new(SledEngine::open(&dir, cache)?)))
        .await
        .map_err(|e| store::Error::Damaged(format!("opening it panicked: {e}")))?
}

/// Runs until `shutdown`, or SIGTERM and SIGINT. `path` is read again on SIGHUP; the page lets in who has a code of `codes`.
pub async fn run(path: PathBuf, config: Config, codes: admin::Codes, shutdown: CancellationToken) -> Result<(), Error> {
    descriptors::raise();
    descriptors::judge(&config);
    let vault = Vault::new(config.daemon.state_dir.join(TOKENS));
    vault.know(config.secrets.clone());
    let (standing, watched) = watch::channel(Standing::NotReady("the store is being opened".into()));
    let (pulse, serving) = (Pulse::new(), CancellationToken::new());
    let (reloads, asked) = Reloads::new();
    let web = Web {
        standing: watched,
        pulse: pulse.clone(),
        shutdown: serving.clone(),
        page: Arc::default(),
        codes,
        reloads,
    };
    let (config, clock) = (Arc::new(config), Clock::system());
    pulse.configured(clock.now());
    let mut daemon =
        Daemon { path, config, clock, vault, pulse, standing, web, servers: JoinSet::new(), refused: None };
    let signals = tokio::spawn(stop_on_signals(shutdown.clone()));
    let result = daemon.run(asked, &shutdown).await;
    signals.abort();
    serving.cancel();
    // A stream that someone reads must not hold the end up.
    let _ = timeout(SERVED_WITHIN, async { while daemon.servers.join_next().await.is_some() {} }).await;
    result
}

async fn stop_on_signals(shutdown: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("failed to listen for signals");
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    notify::stopping();
    shutdown.cancel();
    // The second one does not wait.
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::warn!(message_id = kind::GRACE_OVER, "stopped at once, on a second signal");
    std::process::exit(1);
}

struct Daemon {
    path: PathBuf,
    config: Arc<Config>,
    clock: Clock,
    vault: Vault,
    pulse: Pulse,
    standing: watch::Sender<Standing>,
    web: Web,
    /// Of the socket and of HTTP; they outlive a store that is opened again.
    servers: JoinSet<()>,
    /// Why the last reload was refused.
    refused: Option<String>,
}

/// What a reload is done for: SIGHUP, or a command.
struct Reasons {
    hangup: tokio::signal::unix::Signal,
    asked: mpsc::Receiver<Reloading>,
}

impl Reasons {
    /// `None` is SIGHUP.
    async fn next(&mut self) -> Option<Reloading> {
        tokio::select! {
            _ = self.hangup.recv() => None,
            Some(asked) = self.asked.recv() => Some(asked),
        }
    }
}

/// The parts that live as long as one opened store.
struct Parts {
    store: Store,
    client: Client,
    budget: Budget,
    runner: poller::Handle,
    deliveries: deliver::Handle,
    admin: Admin,
    stop_polling: CancellationToken,
    stop_delivering: CancellationToken,
    polling: JoinHandle<Result<(), store::Error>>,
    delivering: JoinHandle<Result<(), store::Error>>,
}

/// Why parts ended.
enum End {
    Shutdown,
    StoreFailed(store::Error),
}

impl Daemon {
    async fn run(&mut self, asked: mpsc::Receiver<Reloading>, shutdown: &CancellationToken) -> Result<(), Error> {
        let hangup = signal(SignalKind::hangup());
        let hangup = hangup.map_err(|e| Error::Io(format!("failed to listen for SIGHUP: {e}")))?;
        let mut reload = Reasons { hangup, asked };
        let mut wait = REOPEN_FIRST;
        let mut ran = false;
        let mut refused_to_open = false;
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            let store = match notify::extending(open_store(&self.config)).await {
                Ok(store) => store,
                // Nothing that time would mend, or the first start: the admin must act.
                Err(error) if !ran || matches!(error, store::Error::Damaged(_) | store::Error::Format { .. }) => {
                    return Err(error.into());
                }
                Err(error) => {
                    // It is tried until it works: the first failure is told.
                    if std::mem::replace(&mut refused_to_open, true) {
                        tracing::debug!(%error, "failed to open the store again");
                    } else {
                        tracing::error!(message_id = kind::STORE_FAILED, %error, "failed to open the store again: it is tried until it works");
                    }
                    notify::status(&format!("store failed: {error}; trying again"));
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        () = notify::extending(sleep(wait)) => {}
                    }
                    wait = (wait * 2).min(REOPEN_MAX);
                    continue;
                }
            };
            self.pulse.opened(began.elapsed());
            let mut parts = self.start(store).await?;
            if self.servers.is_empty() {
                self.serve().await?;
            }
            self.standing.send_replace(Standing::Running(Box::new(parts.admin.clone())));
            notify::ready();
            let (bridges, endpoints) = (self.config.bridges.len(), self.config.endpoints.len());
            if std::mem::replace(&mut ran, true) {
                tracing::info!(message_id = kind::STORE_BACK, bridges, endpoints, "the store is open again");
            } else {
                tracing::info!(message_id = kind::STARTED, bridges, endpoints, "bellpull runs");
            }
            refused_to_open = false;
            self.tell_reset(&parts).await;
            let began = Instant::now();
            let end = self.attend(&mut parts, &mut reload, shutdown).await;
            match end {
                End::Shutdown => {
                    self.standing.send_replace(Standing::NotReady("the daemon is stopping".into()));
                    parts.drain(self.config.daemon.shutdown_grace).await;
                    tracing::info!(message_id = kind::STOPPED, "bellpull has stopped");
                    return Ok(());
                }
                End::StoreFailed(error) => {
                    tracing::error!(message_id = kind::STORE_FAILED, %error, "the store failed: polling and delivery stop until it is open again");
                    notify::status(&format!("store failed: {error}; opening it again"));
                    self.standing
                        .send_replace(Standing::NotReady(format!("the store failed and is opened again: {error}")));
                    parts.abandon().await;
                    wait = if began.elapsed() > REOPEN_MAX { REOPEN_FIRST } else { (wait * 2).min(REOPEN_MAX) };
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        () = notify::extending(sleep(wait)) => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn start(&self, store: Store) -> Result<Parts, Error> {
        let config = self.config.clone();
        let client = Client::new(&config.network).map_err(Error::Client)?;
        let budget = Budget::new(config.daemon.memory);
        let (deliveries, deliveries_handle) = Deliveries::new(
            store.clone(),
            client.clone(),
            self.vault.clone(),
            self.pulse.clone(),
            self.clock.clone(),
            config.daemon.deliveries_in_flight,
        );
        let poller = Poller {
            store: store.clone(),
            client: client.clone(),
            clock: self.clock.clone(),
            budget: budget.clone(),
            vault: self.vault.clone(),
            pulse: self.pulse.clone(),
            endpoints: Arc::new(config.endpoints.clone()),
            deliveries: deliveries_handle.clone(),
        };
        let (runner, runner_handle) = Runner::new(poller.clone(), config.daemon.polls_in_flight);
        let admin = Admin::new(
            store.clone(),
            config.clone(),
            Some(runner_handle.clone()),
            Some(deliveries_handle.clone()),
            self.pulse.clone(),
        );
        admin.reloaded(self.refused.clone());
        let (stop_polling, stop_delivering) = (CancellationToken::new(), CancellationToken::new());
        let delivering = tokio::spawn(deliveries.run(stop_delivering.clone()));
        let polling = tokio::spawn(runner.run(stop_polling.clone()));
        deliveries_handle.apply(endpoints(&config), client.clone()).await;
        runner_handle.apply(config.bridges.clone(), poller).await;
        Ok(Parts {
            store,
            client,
            budget,
            runner: runner_handle,
            deliveries: deliveries_handle,
            admin,
            stop_polling,
            stop_delivering,
            polling,
            delivering,
        })
    }

    /// Answers on the socket and on `daemon.listen` from now on.
    async fn serve(&mut self) -> Result<(), Error> {
        let daemon = &self.config.daemon;
        let failed = |what: String, e: std::io::Error| Error::Io(format!("failed to listen on {what}: {e}"));
        let socket = admin::inherited()
            .unwrap_or_else(|| admin::bind(&daemon.socket))
            .map_err(|e| failed(daemon.socket.display().to_string(), e))?;
        self.servers.spawn(admin::serve_socket(socket, self.web.clone()));
        let Some(address) = daemon.listen else { return Ok(()) };
        let (own, dir) = (daemon.token.clone(), daemon.state_dir.clone());
        let failed = |e: String| Error::Io(format!("the token in {}: {e}", daemon.state_dir.display()));
        let token = tokio::task::spawn_blocking(move || own.map_or_else(|| admin::token(&dir), Ok)).await;
        let token = token.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let (hosts, web) = (daemon.hosts.clone(), self.web.clone());
        let mut listener = TcpListener::bind(address).await;
        if let Err(error) = &listener {
            // Somebody else has the port: that stops no poll.
            tracing::error!(%address, %error, "the dashboard, /metrics and /ready are not served: `daemon.listen` cannot be listened on; it is tried again (\"off\" where none is wanted)");
        }
        self.servers.spawn(async move {
            let listener = loop {
                match listener {
                    Ok(listener) => break listener,
                    Err(_) => tokio::select! {
                        () = web.shutdown.cancelled() => return,
                        () = sleep(LISTEN_AGAIN) => listener = TcpListener::bind(address).await,
                    },
                }
            };
            let address = listener.local_addr().unwrap_or(address);
            let own = match address.ip() {
                IpAddr::V6(v6) => format!("[{v6}]"),
                v4 => v4.to_string(),
            };
            let gate = Gate { token, hosts: hosts.into_iter().chain([own]).collect() };
            let _ = web.page.set(format!("http://{}", reached_at(address)));
            tracing::info!(%address, "the dashboard is served; `bellpull dashboard` prints its link");
            admin::serve(listener, web, gate).await;
        });
        Ok(())
    }

    /// Waits for what ends the parts; reloads and sweeps meanwhile.
    async fn attend(&mut self, parts: &mut Parts, reload: &mut Reasons, shutdown: &CancellationToken) -> End {
        let mut status = tokio::time::interval(STATUS_EVERY);
        let mut sweep = tokio::time::interval(admin::SWEEP_EVERY);
        let mut beat = heartbeat::every(self.config.daemon.heartbeat.as_ref());
        let mut applying: Option<Applying> = None;
        let mut swept = true;
        let (mut wall, mut monotonic) = (self.clock.now(), Instant::now());
        let store = parts.store.clone();
        let mut scarce = store.scarce();
        let failed = store.failed();
        tokio::pin!(failed);
        let ended = |result: Result<Result<(), store::Error>, tokio::task::JoinError>| match result {
            Ok(Ok(())) => store::Error::Io("a part has ended by itself".into()),
            Ok(Err(error)) => error,
            Err(error) => store::Error::Io(format!("a part panicked: {error}")),
        };
        // Dropped with the parts that they look at.
        let watchdog = |within| AbortOnDropHandle::new(tokio::spawn(watchdog::watch_over(within, parts.admin.clone())));
        let _watchdog = notify::watchdog().map(watchdog);
        let renewing = renewing::renew(self.vault.clone(), parts.runner.clone(), parts.deliveries.clone());
        let _renewing = AbortOnDropHandle::new(tokio::spawn(renewing));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return End::Shutdown,
                error = &mut failed => return End::StoreFailed(error),
                result = &mut parts.polling => return End::StoreFailed(ended(result)),
                result = &mut parts.delivering => return End::StoreFailed(ended(result)),
                asked = reload.next(), if applying.is_none() => {
                    let before = self.config.daemon.heartbeat.clone();
                    applying = self.reload(parts, asked).await;
                    if self.config.daemon.heartbeat != before {
                        beat = heartbeat::every(self.config.daemon.heartbeat.as_ref());
                    }
                }
                // It may take as long as an attempt or a poll that is under way.
                () = async { applying.as_mut().expect("the condition says so").await }, if applying.is_some() => {
                    applying = None;
                    self.told_of_reload(parts).await;
                }
                _ = status.tick() => {
                    let jump_ms = self.clock.now().0 - wall.plus(monotonic.elapsed()).0;
                    (wall, monotonic) = (self.clock.now(), Instant::now());
                    if jump_ms.abs() > clock::JUMP_MS {
                        tracing::warn!(message_id = kind::CLOCK_SET, jump_ms, "the wall clock was set");
                    }
                    notify::status(&self.summary(&parts.admin).await);
                }
                Ok(()) = scarce.changed() => {
                    let why = scarce.borrow_and_update().clone();
                    self.tell_room(&parts.admin, why).await;
                }
                _ = beat.tick(), if self.config.daemon.heartbeat.is_some() => {
                    heartbeat::send(&self.config, parts, self.clock.now()).await;
                }
                _ = sweep.tick() => {
                    let result = parts.admin.sweep(self.clock.now()).await;
                    let told = !std::mem::replace(&mut swept, result.is_ok());
                    if let Err(error) = result
                        && !told
                    {
                        tracing::error!(%error, "failed to drop old events: it is tried every minute");
                    }
                }
            }
        }
    }

    /// Says that polls wait for room on the disk, or that there is room again.
    async fn tell_room(&self, admin: &Admin, scarce: Option<String>) {
        let standing = match &scarce {
            Some(why) => {
                tracing::error!(
                    message_id = kind::DISK_FULL,
                    why,
                    "the disk is nearly full: polls wait until there is room"
                );
                Standing::Paused(
                    Box::new(admin.clone()),
                    format!("the disk is nearly full, and polls wait for room: {why}"),
                )
            }
            None => {
                tracing::info!(message_id = kind::DISK_ROOM, "the disk has room again: polls go on");
                Standing::Running(Box::new(admin.clone()))
            }
        };
        self.standing.send_replace(standing);
        notify::status(&self.summary(admin).await);
    }

    /// Tells once, in the log and to every endpoint, that the stream is another than before.
    async fn tell_reset(&self, parts: &Parts) {
        let reset = match parts.store.read(|engine| engine.reset()).await {
            Ok(Some(reset)) if reset.told.is_none() => reset,
            // A store that cannot be read ends the run, which is told.
            _ => return,
        };
        let (stream, now) = (parts.store.stream().clone(), self.clock.now());
        tracing::warn!(message_id = kind::STORE_RESET, %stream, why = reset.why, "the store's history is another: receivers are told of a new stream");
        let data = serde_json::json!({ "stream": &*stream, "reason": reset.why });
        let to = self.config.alarmed(self.config.endpoints.keys());
        let event = event::operational("store.reset", "store", data, &to, now);
        let told = store::Reset { told: Some(now), ..reset };
        if let Ok(Written::Queued(queued)) = parts.store.write(Op::Reset(told, vec![event])).await {
            parts.deliveries.queued(queued).await;
        }
    }

    /// Validates first: a file with an error changes nothing. Another one counts from now on, also for a store that is opened
    /// again; what brings it to bridges and endpoints is returned.
    async fn reload(&mut self, parts: &mut Parts, asked: Option<Reloading>) -> Option<Applying> {
        notify::reloading();
        let result = self.read_again(parts, asked.as_ref().is_some_and(|asked| asked.force)).await;
        self.refused = result.as_ref().err().map(|error| match error {
            Error::Config(_) => "the file has errors".to_owned(),
            other => other.to_string(),
        });
        parts.admin.reloaded(self.refused.clone());
        self.pulse.reloaded(result.is_ok());
        if result.is_ok() {
            self.pulse.configured(self.clock.now());
        }
        if let Some(Reloading { answer, .. }) = asked {
            // The one who asked may have gone.
            let _ = answer.send(result.as_ref().map(|(_, plan)| plan.to_string()).map_err(ToString::to_string));
        }
        match result {
            Ok((applying, _)) => Some(applying),
            Err(error) => {
                // The journal keeps what it is told, and lines of the file may hold what must not be in it.
                let error = match &error {
                    Error::Config(failed) => failed.places(),
                    other => other.to_string(),
                };
                tracing::error!(
                    message_id = kind::RELOAD_REFUSED,
                    error,
                    "the configuration was not reloaded, the old one goes on"
                );
                self.told_of_reload(parts).await;
                None
            }
        }
    }

    async fn told_of_reload(&self, parts: &Parts) {
        notify::status(&self.summary(&parts.admin).await);
        notify::ready();
    }

    /// The line of `systemctl status`.
    async fn summary(&self, admin: &Admin) -> String {
        let mut summary = admin.summary().await;
        if let Standing::Paused(_, why) = &*self.standing.borrow() {
            summary = format!("{why}; {summary}");
        }
        match &self.refused {
            Some(why) => format!("reload refused: {why}, the old configuration goes on; {summary}"),
            None => summary,
        }
    }

    async fn read_again(&mut self, parts: &mut Parts, force: bool) -> Result<(Applying, Plan), Error> {
        let mut config = load(&self.path, Secrets::Read).await?;
        // The heartbeat names endpoints, which may be others now.
        let daemon = config::Daemon {
            heartbeat: config.daemon.heartbeat.clone(),
            reload_removes: config.daemon.reload_removes,
            ..self.config.daemon.clone()
        };
        if config.daemon != daemon || config.store != self.config.store {
            tracing::warn!(
                "changes of [daemon] and [store] count from the next start on, except `heartbeat` and `guard`"
            );
        }
        // Also for a store that is opened again: another directory would be another history.
        (config.daemon, config.store) = (daemon, self.config.store.clone());
        config.texts.keep_started(&self.config.texts);
        let config = Arc::new(config);
        let plan = config::plan::plan(&self.config, &config);
        if !force {
            plan.judge(&self.config, config.daemon.reload_removes)?;
        }
        let client = if config.network == self.config.network {
            parts.client.clone()
        } else {
            Client::new(&config.network).map_err(Error::Client)?
        };
        let poller = Poller {
            store: parts.store.clone(),
            client: client.clone(),
            clock: self.clock.clone(),
            budget: parts.budget.clone(),
            vault: self.vault.clone(),
            pulse: self.pulse.clone(),
            endpoints: Arc::new(config.endpoints.clone()),
            deliveries: parts.deliveries.clone(),
        };
        self.vault.know(config.secrets.clone());
        let (deliveries, runner) = (parts.deliveries.clone(), parts.runner.clone());
        parts.client = client.clone();
        parts.admin.configure(config.clone());
        if config.log.level != self.config.log.level {
            telemetry::set_level(config.log.level);
        }
        descriptors::judge(&config);
        self.config = config.clone();
        let changes = plan.to_string();
        let applying = async move {
            // Endpoints first: a new bridge's first event finds its dispatcher.
            deliveries.apply(endpoints(&config), client).await;
            runner.apply(config.bridges.clone(), poller).await;
            let (bridges, endpoints) = (config.bridges.len(), config.endpoints.len());
            tracing::info!(message_id = kind::RELOADED, bridges, endpoints, changes, "reloaded");
        };
        Ok((Box::pin(applying), plan))
    }
}

/// Of an address that stands for all of them this machine has another.
fn reached_at(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, v6.port())),
        other => other,
    }
}

/// A configuration on its way to bridges and endpoints.
type Applying = Pin<Box<dyn Future<Output = ()> + Send>>;

fn endpoints(config: &Config) -> deliver::Endpoints {
    deliver::Endpoints { all: config.endpoints.clone(), alerts: config.alerted(), bridges: config.bridges.clone() }
}

/// Loads a configuration on a blocking thread.
pub async fn load(path: &Path, secrets: Secrets) -> Result<Config, config::Failed> {
    let path = path.to_owned();
    match tokio::task::spawn_blocking(move || config::load(&path, secrets)).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

impl Parts {
    /// Polls finish first, so that what they commit can still go out; all within the grace.
    async fn drain(self, grace: Duration) {
        // A slow source must not take the deliveries' time.
        let (until_polled, until) = (Instant::now() + grace.mul_f64(0.7), Instant::now() + grace);
        self.stop_polling.cancel();
        let mut polling = self.polling;
        if timeout_at(until_polled, &mut polling).await.is_err() {
            tracing::warn!(
                message_id = kind::GRACE_OVER,
                "polls were still under way after the grace; what they had not handed to the store changed nothing"
            );
            polling.abort();
        }
        self.stop_delivering.cancel();
        let mut delivering = self.delivering;
        if timeout_at(until, &mut delivering).await.is_err() {
            tracing::warn!(
                message_id = kind::GRACE_OVER,
                "deliveries were still under way after the grace; they go out again with the same ids"
            );
            delivering.abort();
        }
    }

    /// Leaves everything as it is: the store decides what happened.
    async fn abandon(self) {
        self.stop_polling.cancel();
        self.stop_delivering.cancel();
        for task in [self.polling, self.delivering] {
            task.abort();
            let _ = task.await;
        }
    }
}
