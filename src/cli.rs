//! The command line: arguments, exit codes, and what is printed.

mod backup;
mod client;
mod init;
mod listen;
mod manual;
mod monitor;
mod plan;
mod show;
mod sign;
mod trial;
mod try_url;
mod waiting;

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Codes, DeliveryQuery, DryRun, EventQuery, Replay, Time},
    clock::Clock,
    config::{Config, Secrets},
    daemon, demo, expr,
    model::{Hash, Timestamp},
    recipe::{self, Recipe},
    schema::Schema,
    settings::units,
    sign::Ed25519Key,
    store::{self, DeliveryState},
    telemetry, terminal,
};
use client::Client;

/// Runs of a cron expression that `check` shows.
const RUNS_SHOWN: usize = 3;

/// sysexits.h.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const IO: u8 = 74;
const CONFIG: u8 = 78;
/// The command was refused, or found something wrong.
const FAILED: u8 = 1;

/// Polls APIs that have no webhooks, and sends signed webhooks for what changed.
#[derive(Debug, Parser)]
#[command(name = "bellpull", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration; else ./bridges.toml, then /etc/bellpull/bridges.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run {
        /// How log lines are written; else journald under systemd, or text
        #[arg(long)]
        log_format: Option<telemetry::Format>,
    },
    /// Show every error of the configuration at once
    Check {
        file: Option<PathBuf>,
        /// Read the secrets too
        #[arg(long)]
        resolve: bool,
    },
    /// See it all on loopback: an API that changes, the daemon, and a receiver that verifies
    Demo {
        /// End after the first five webhooks
        #[arg(long)]
        once: bool,
    },
    /// See what a URL answers: records, key, pages, and then each change; nothing is written or sent
    Try(try_url::TryArgs),
    /// Write a bridge over a URL, with an endpoint and a secret, and the reason beside each line
    Init(init::InitArgs),
    /// Poll one bridge now
    Poll {
        #[arg(required_unless_present = "failing")]
        name: Option<String>,
        /// All bridges whose last poll failed
        #[arg(long, conflicts_with_all = ["name", "dry_run", "response"])]
        failing: bool,
        /// Show what a poll would do, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Feed a saved answer instead of asking the network; implies --dry-run
        #[arg(long, value_name = "FILE")]
        response: Option<PathBuf>,
    },
    /// How bridges and endpoints stand
    Status {
        name: Option<String>,
        /// When bridges are polled next, the soonest first
        #[arg(long)]
        next: bool,
        /// For monitors: exit 0 if all is well, 1 where somebody should look, 2 where something fails or no daemon runs
        #[arg(long)]
        check: bool,
    },
    /// What was detected, newest first
    Events {
        #[arg(long)]
        bridge: Option<String>,
        /// An RFC 3339 time, or how long ago, such as 2h
        #[arg(long)]
        since: Option<String>,
        #[arg(long)]
        limit: Option<usize>,
    },
    /// One event with its body and all its attempts
    Event { id: String },
    /// Attempts, newest first; or the events that are in a state
    Deliveries {
        #[arg(long)]
        endpoint: Option<String>,
        #[arg(long, value_parser = ["waiting", "delivered", "dead"])]
        state: Option<String>,
        #[command(flatten)]
        which: WhichArgs,
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Send events again under the same webhook-id
    Replay(ReplayArgs),
    /// Send every record of the snapshot as <bridge>.present
    Resend {
        name: String,
        #[arg(long)]
        endpoint: String,
    },
    /// Commit what a guard holds
    Accept {
        name: String,
        /// The hash that `status` shows; refused when something else is held by now
        #[arg(long)]
        hash: Option<Hash>,
    },
    /// Drop what a guard holds
    Reject {
        name: String,
        #[arg(long)]
        hash: Option<Hash>,
    },
    /// A backup: one consistent state, with events and queues, as JSON lines
    Export(backup::ExportArgs),
    /// Restore a backup into an empty state directory, as a new stream
    Import(backup::ImportArgs),
    /// Write the store again, which gives its free space back to the disk; no daemon may run
    Compact,
    /// Make the daemon read its file again, as SIGHUP does, and wait for what comes of it
    Reload {
        /// Also where it removes more bridges than `daemon.guard.reload` allows
        #[arg(long)]
        force: bool,
    },
    /// What another file would change of what runs, before a reload does it; exit 0 if nothing does, 2 if something does
    #[command(after_help = plan::EXAMPLE)]
    Plan {
        /// The file; else the one that the daemon runs with, as it is now
        file: Option<PathBuf>,
    },
    /// Stop the polls of a bridge
    Pause { name: String },
    /// Let the polls of a bridge go on
    Resume { name: String },
    /// Polls and deliveries as they happen
    Watch,
    /// Print the dashboard's link, which works once and for a minute
    Dashboard,
    /// Enable, disable or test an endpoint by hand
    Endpoint {
        #[command(subcommand)]
        order: EndpointOrder,
    },
    /// A receiver for trying things: verifies, prints, answers as told
    Listen(listen::ListenArgs),
    /// Ready-made bridges and endpoints for known systems: the list, or one as TOML
    Recipe { name: Option<String> },
    /// JSON Schema of what a receiver gets, or of bridges.toml
    Schema { of: Schema },
    /// Make a signing secret
    Secret {
        /// A key pair: the first line signs, the second verifies
        #[arg(long)]
        ed25519: bool,
    },
    /// Sign a file: prints the three headers
    Sign(sign::SignArgs),
    /// Verify a captured request: headers, an empty line, the body
    Verify(sign::VerifyArgs),
    /// A script with which a shell completes commands and options
    Completions { shell: clap_complete::Shell },
    /// The manual: this page, or all pages as files
    Man(manual::ManArgs),
}

#[derive(Debug, Subcommand)]
enum EndpointOrder {
    Enable {
        name: String,
    },
    Disable {
        name: String,
    },
    /// Send a signed bellpull.test event now, and show the answer
    Test {
        name: String,
    },
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Events by id
    ids: Vec<String>,
    /// All dead letters
    #[arg(long)]
    dead: bool,
    #[command(flatten)]
    which: WhichArgs,
    /// To this endpoint only
    #[arg(long)]
    endpoint: Option<String>,
    /// Make the body again with today's `payload`
    #[arg(long)]
    remake: bool,
}

/// Which deliveries are meant; all of these have to hold.
#[derive(Debug, Args)]
struct WhichArgs {
    /// Of this bridge
    #[arg(long)]
    bridge: Option<String>,
    /// Of this type, such as orders.created
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Of the record with this key
    #[arg(long)]
    key: Option<String>,
    /// Whose last attempt had this status; 0 where no answer came
    #[arg(long)]
    status: Option<u16>,
    /// Since an RFC 3339 time, or so long ago, such as 2h
    #[arg(long)]
    since: Option<String>,
    /// Before an RFC 3339 time, or so long ago
    #[arg(long)]
    until: Option<String>,
    /// With this text in the event's body
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
}

impl WhichArgs {
    fn times(&self) -> Result<(Option<Time>, Option<Time>), Failure> {
        let time = |text: &Option<String>| text.as_deref().map(when).transpose().map(|at| at.map(Time));
        Ok((time(&self.since)?, time(&self.until)?))
    }
}

/// An error with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

type Done = Result<(), Failure>;

/// Runs the command line; the process's exit code.
pub fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(expr::ARGUMENT) {
        return expr::serve(&words.next().unwrap_or_default());
    }
    // Not by its path, where an upgrade may have put another version.
    expr::use_workers("/proc/self/exe");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are no errors.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return code.into();
        }
    };
    // A program of the file is parsed with it.
    const STACK_BYTES: usize = 4 << 20;
    /// Reads of the store, work on answers and runs that wait; each has a bound of its own below this.
    const BLOCKING_MAX: usize = 96;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(BLOCKING_MAX)
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(Failure::new(IO, format!("failed to start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                let _ = writeln!(std::io::stderr(), "{}", terminal::lines(failure.message.trim_end()));
            }
            failure.code.into()
        }
    }
}

impl Cli {
    async fn run(self) -> Done {
        let path = self.path();
        match self.command {
            Command::Run { log_format } => run(path?, log_format).await,
            Command::Check { file: Some(file), resolve } => check(&file, resolve, self.json).await,
            Command::Check { file: None, resolve } => check(&path?, resolve, self.json).await,
            Command::Demo { once } => {
                telemetry::init(Some(telemetry::Format::Text), None);
                demo::run(once, &mut std::io::stdout()).await.map_err(|e| Failure::new(FAILED, e))
            }
            Command::Try(args) => try_url::try_url(args, self.json).await,
            Command::Init(args) => init::init(&path?, args, self.json).await,
            Command::Listen(args) => listen::listen(args).await,
            Command::Recipe { name } => recipe(name.as_deref(), self.json),
            Command::Schema { of } => print(&of.text()),
            Command::Secret { ed25519 } => secret(ed25519),
            Command::Sign(args) => sign::sign(&args),
            Command::Verify(args) => sign::verify(&args),
            Command::Completions { shell } => manual::completions(shell),
            Command::Man(args) => manual::man(&args),
            Command::Plan { file } => plan::plan(&path?, file.as_deref(), self.json).await,
            command => {
                let path = path?;
                let client = match load(&path, Secrets::FormOnly).await {
                    Ok(config) => Client::connect(&path, config).await?,
                    Err(failure) => {
                        let Some(client) = Client::running(&path).await else { return Err(failure) };
                        let told =
                            "the file has errors (`bellpull check` shows them); the daemon runs on what it said before";
                        let _ = writeln!(std::io::stderr(), "{}: {told}", path.display());
                        client
                    }
                };
                ask(client, command, self.json).await
            }
        }
    }

    /// The file that is named, or the one here, or that of the machine. One that somebody else put here says which programs run:
    /// it has to be named (CWE-426).
    fn path(&self) -> Result<PathBuf, Failure> {
        const LAST: &str = "/etc/bellpull/bridges.toml";
        if let Some(named) = &self.config {
            return Ok(named.clone());
        }
        let here = PathBuf::from("bridges.toml");
        match std::fs::metadata(&here).map(|about| about.uid()) {
            Ok(owner) if owner != 0 && owner != rustix::process::getuid().as_raw() => {
                let message = "./bridges.toml belongs to another user: `--config bridges.toml` uses it all the same";
                Err(Failure::new(CONFIG, message))
            }
            Ok(_) => Ok(here),
            Err(_) if Path::new(LAST).exists() => Ok(LAST.into()),
            Err(_) => Ok(here),
        }
    }
}

fn secret(ed25519: bool) -> Done {
    if !ed25519 {
        return print(&format!("{}\n", crate::sign::make_secret()));
    }
    let key = crate::sign::make_key();
    let pair = Ed25519Key::parse(&key).map_err(|e| Failure::new(FAILED, e))?;
    print(&format!("{key}\n{}\n", pair.public()))
}

/// Lists the recipes, or prints one.
fn recipe(name: Option<&str>, json: bool) -> Done {
    let Some(name) = name else {
        if json {
            let show = |r: &Recipe| serde_json::json!({ "name": r.name, "kind": r.kind, "about": r.about() });
            return print(&format!("{}\n", recipe::all().iter().map(show).collect::<Json>()));
        }
        let width = recipe::all().iter().map(|r| r.name.len()).max().unwrap_or_default();
        let list = |kind: recipe::Kind| -> String {
            let recipes = recipe::all().iter().filter(|r| r.kind == kind);
            recipes.map(|r| format!("{:width$}  {}\n", r.name, r.about())).collect()
        };
        let (sources, sinks) = (list(recipe::Kind::Source), list(recipe::Kind::Sink));
        return print(&format!("# What is polled\n{sources}\n# Where changes are sent\n{sinks}"));
    };
    match recipe::find(name) {
        Some(recipe) if json => {
            let found = serde_json::json!({ "name": recipe.name, "kind": recipe.kind, "about": recipe.about(), "text": recipe.text });
            print(&format!("{found}\n"))
        }
        Some(recipe) => print(recipe.text),
        None => {
            let near = recipe::suggest(name).map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
            Err(Failure::new(USAGE, format!("no recipe is called {name:?}{near}")))
        }
    }
}

/// Prints to standard output; a reader that has gone is not an error.
fn print(text: &str) -> Done {
    let mut out = std::io::stdout().lock();
    match out.write_all(terminal::lines(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(IO, format!("failed to write: {error}")))
        }
        _ => Ok(()),
    }
}

async fn load(path: &Path, secrets: Secrets) -> Result<Config, Failure> {
    daemon::load(path, secrets).await.map_err(|failed| Failure::new(CONFIG, failed.to_string()))
}

async fn run(path: PathBuf, format: Option<telemetry::Format>) -> Done {
    let config = load(&path, Secrets::Read).await?;
    telemetry::init(format.or(config.log.format), config.log.level);
    for warning in &config.warnings {
        let (file, line) = (warning.file.display(), warning.line);
        tracing::warn!(%file, line, warning = warning.message, "the configuration has a warning");
    }
    let ended = daemon::run(path, config, Codes::default(), CancellationToken::new()).await;
    telemetry::trace::flush().await;
    ended.map_err(|error| {
        let code = match &error {
            daemon::Error::Config(_) | daemon::Error::Client(_) | daemon::Error::Guarded(_) => CONFIG,
            daemon::Error::Store(store::Error::Damaged(_) | store::Error::Format { .. }) => CONFIG,
            daemon::Error::Store(_) | daemon::Error::Io(_) => IO,
        };
        Failure::new(code, error.to_string())
    })
}

async fn check(path: &Path, resolve: bool, json: bool) -> Done {
    let secrets = if resolve { Secrets::Read } else { Secrets::FormOnly };
    let (found, runs, summary) = match daemon::load(path, secrets).await {
        Ok(config) => {
            let summary = format!(
                "{}: ok, {} bridges, {} endpoints",
                path.display(),
                config.bridges.len(),
                config.endpoints.len()
            );
            let now = Clock::system().now();
            let runs =
                config.bridges.iter().filter_map(|(name, bridge)| Some((name, bridge.schedule.runs(now, RUNS_SHOWN)?)));
            let runs: BTreeMap<String, Vec<String>> = runs.map(|(name, runs)| (name.to_string(), runs)).collect();
            (config.warnings, runs, Some(summary))
        }
        Err(failed) => (failed.0, BTreeMap::new(), None),
    };
    let errors = found.iter().filter(|f| f.severity == crate::settings::diagnostic::Severity::Error).count();
    if json {
        let all: Vec<Json> = found.iter().map(show::finding).collect();
        print(&format!("{}\n", serde_json::json!({ "ok": summary.is_some(), "findings": all, "runs": runs })))?;
    } else {
        let mut err = std::io::stderr().lock();
        for finding in &found {
            let _ = writeln!(err, "{}", terminal::lines(&finding.text));
        }
        for (name, runs) in &runs {
            print(&format!("[bridge.{name}] is polled next on {}\n", runs.join(", ")))?;
        }
        if let Some(summary) = &summary {
            print(&format!("{summary}\n"))?;
        }
    }
    match summary {
        Some(_) => Ok(()),
        None if json => Err(Failure::new(CONFIG, "")),
        None => Err(Failure::new(CONFIG, format!("{errors} error{}", if errors == 1 { "" } else { "s" }))),
    }
}

/// Commands that ask the daemon, or read the store when none runs.
async fn ask(client: Client, command: Command, json: bool) -> Done {
    let mut verdict = monitor::Verdict::Well;
    let (shown, kind) = match command {
        Command::Status { name, next, check } => {
            let kind = if next { show::Kind::Next } else { show::Kind::Status };
            let shown = client.status(name.as_deref()).await?;
            expect_keys(&shown)?;
            if check {
                verdict = if client.is_alone() { monitor::Verdict::Critical } else { monitor::judge(&shown) };
            }
            (shown, kind)
        }
        Command::Events { bridge, since, limit } => {
            let query = EventQuery {
                bridge,
                since: since.as_deref().map(when).transpose()?.map(Time),
                limit,
                ..EventQuery::default()
            };
            (client.events(query).await?, show::Kind::Events)
        }
        Command::Event { id } => (client.event(&id).await?, show::Kind::Value),
        Command::Deliveries { endpoint, state, which, limit } => {
            let state = state.as_deref().map(|s| match s {
                "waiting" => DeliveryState::Waiting,
                "dead" => DeliveryState::Dead,
                _ => DeliveryState::Delivered,
            });
            let kind = if state.is_some() { show::Kind::Events } else { show::Kind::Attempts };
            let (since, until) = which.times()?;
            let WhichArgs { bridge, kind: event_type, key, status, matching, .. } = which;
            let query =
                DeliveryQuery { endpoint, state, bridge, kind: event_type, key, status, since, until, matching, limit };
            let (rows, total) = client.deliveries(query).await?;
            if let Some(total) = total {
                let shown = rows.as_array().map_or(0, Vec::len);
                // Not among the rows, which a script may read.
                let _ = writeln!(std::io::stderr(), "{shown} of {total}; --limit N shows more");
            }
            (rows, kind)
        }
        Command::Replay(args) => {
            let (since, until) = args.which.times()?;
            let ReplayArgs { ids, dead, endpoint, remake, which } = args;
            let WhichArgs { bridge, kind, key, status, matching, .. } = which;
            let request = Replay { ids, dead, since, until, endpoint, bridge, kind, key, status, matching, remake };
            (client.replay(request).await?, show::Kind::Replayed)
        }
        Command::Poll { name: None, .. } => return poll_failing(client, json).await,
        Command::Poll { name: Some(name), dry_run, response, .. } => {
            let response = response.map(|file| read(&file)).transpose()?;
            let shown = if dry_run || response.is_some() {
                client.dry_run(&name, DryRun { response }).await?
            } else {
                client.poll(&name).await?
            };
            (shown, show::Kind::Value)
        }
        Command::Resend { name, endpoint } => (client.resend(&name, &endpoint).await?, show::Kind::Value),
        Command::Accept { name, hash } => (client.accept(&name, hash).await?, show::Kind::Value),
        Command::Reject { name, hash } => (client.reject(&name, hash).await?, show::Kind::Value),
        Command::Export(args) => return backup::export(client, &args).await,
        Command::Import(args) => return backup::import(client, &args).await,
        Command::Compact => return backup::compact(client).await,
        Command::Reload { force } => (client.reload(force).await?, show::Kind::Value),
        Command::Pause { name } => (client.pause(&name, true).await?, show::Kind::Value),
        Command::Resume { name } => (client.pause(&name, false).await?, show::Kind::Value),
        Command::Watch => return client.watch(|kind, notice| print(&show::notice(kind, notice, json))).await,
        Command::Dashboard => {
            let link = client.link().await?;
            let text = if json { link.to_string() } else { show::text(&link, "link") };
            return print(&format!("{text}\n"));
        }
        Command::Endpoint { order: EndpointOrder::Enable { name } } => {
            (client.enable(&name, true).await?, show::Kind::Value)
        }
        Command::Endpoint { order: EndpointOrder::Test { name } } => return tested(&client.test(&name).await?, json),
        Command::Endpoint { order: EndpointOrder::Disable { name } } => {
            (client.enable(&name, false).await?, show::Kind::Value)
        }
        _ => return Ok(()),
    };
    if json {
        print(&format!("{shown}\n"))?;
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print(&show::human(&shown, kind, colour))?;
    }
    verdict.exit()
}

/// A daemon of another version may answer with something else, and nothing of it would be shown.
fn expect_keys(status: &Json) -> Done {
    if status["bridges"].is_object() {
        return Ok(());
    }
    let version = status["version"].as_str().map(|version| format!(" (version {version})")).unwrap_or_default();
    let error = format!(
        "the daemon's answer{} has no `bridges`: it is not of this version of bellpull, {}; start the daemon again after an \
         upgrade",
        terminal::line(&version),
        env!("CARGO_PKG_VERSION")
    );
    Err(Failure::new(FAILED, error))
}

/// Polls each bridge whose last poll failed, and tells what came of it.
async fn poll_failing(client: Client, json: bool) -> Done {
    let status = client.status(None).await?;
    expect_keys(&status)?;
    let failing = status.get("bridges").and_then(Json::as_object).into_iter().flatten();
    let failing = failing.filter(|(_, bridge)| bridge["state"] == "failing").map(|(name, _)| name);
    let mut still = 0_usize;
    for name in failing {
        let (shown, line) = match client.poll(name).await {
            Ok(ended) => (serde_json::json!({ "bridge": name, "poll": ended }), show::text(&ended, "result")),
            Err(failure) => {
                still += 1;
                let line = format!("failed: {}", terminal::line(&failure.message));
                (serde_json::json!({ "bridge": name, "error": failure.message }), line)
            }
        };
        print(&if json { format!("{shown}\n") } else { format!("{name}: {line}\n") })?;
    }
    if still == 0 { Ok(()) } else { Err(Failure::new(FAILED, format!("{still} of them fail still"))) }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::new(IO, format!("failed to read {}: {e}", path.display())))
}

/// What came of `endpoint test`; a receiver that did not take it is a failure.
fn tested(attempt: &Json, json: bool) -> Done {
    let shown = if json { format!("{attempt}\n") } else { show::attempt(attempt) };
    print(&shown)?;
    if attempt["error"].is_null() { Ok(()) } else { Err(Failure::new(FAILED, "")) }
}

/// An RFC 3339 time, or a duration before now.
fn when(text: &str) -> Result<Timestamp, Failure> {
    if let Ok(ago) = units::duration(text) {
        let ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(crate::clock::Clock::system().now().plus_ms(-ms));
    }
    Timestamp::parse(text).map_err(|e| Failure::new(USAGE, format!("{e}, nor a duration such as 2h")))
}
