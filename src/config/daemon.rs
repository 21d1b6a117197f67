//! `[daemon]`, `[store.sled]`, `[network]` and `[log]`: what holds for all bridges and endpoints.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use url::Url;

use super::{Daemon, Endpoint, Heartbeat, Log, Store, endpoint::warn_if_none_hears, host};
use crate::{
    http::{
        client,
        identity::{self, read_certificates},
    },
    model::Name,
    settings::{Item, Table, key::keys, nearest, secret::Secret},
    telemetry::Format as LogFormat,
};

/// Loopback: who is on the machine, and has the token.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8642));
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);
const IN_FLIGHT: usize = 256;
const MEMORY: u64 = 512 << 20;
const CACHE: u64 = 8 << 20;
const PER_HOST: usize = 8;
const LEVELS: [(&str, &str); 5] =
    [("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

keys! {
    /// The daemon itself. Changes, except those of `heartbeat` and `guard`, take effect at the next start.
    mod daemon;
    /// The directory of the database, and of `tokens/`, the refresh tokens that a server replaced; made with mode 0700.
    maybe STATE_DIR: String = "state-dir", TEXT, "`$STATE_DIRECTORY`, otherwise `./state`";
    /// The socket that the commands talk to, mode 0660: root, the daemon's user and the members of its group may use it. For a
    /// file under `/etc/bellpull` the commands also try `/run/bellpull/admin.sock`, where the unit's daemon listens.
    maybe SOCKET: String = "socket", TEXT, "`$RUNTIME_DIRECTORY/admin.sock`, otherwise `admin.sock` in `state-dir`";
    /// HTTP: [metrics, API, dashboard](operating.md#watching-it); `"off"`.
    or LISTEN: Option<SocketAddr> = "listen",
        Form::shown_by(Shape::Text, read_listen, |at| at.map_or("off".into(), |at| at.to_string().into())),
        || Some(super::LISTEN);
    /// `Host` names that are accepted in addition to the loopback names, without scheme, port or path. `{ env = "POD_IP" }` takes what a
    /// variable of the environment holds, or the several of it between commas.
    or HOSTS: Vec<String> = "hosts", host::HOSTS, Vec::new;
    /// Whether `/metrics` has the state and the last success of each bridge by its name.
    maybe METRICS_BY_NAME: bool = "metrics-by-name", BOOLEAN, "up to 200 bridges";
    /// A secret of 16 characters or more: the bearer token for HTTP over TCP.
    maybe TOKEN: Secret = "token", Form::new(Shape::Secret, read_token), "made at the first start, in `state-dir/token`";
    /// A `bellpull.heartbeat` event, so that silence is noticed: `{ to = ["ops"], every = "1h" }`.
    get HEARTBEAT: () = "heartbeat", Form::raw(Shape::Table(&heartbeat::FAMILY));
    /// What is refused unless it is asked for twice.
    get GUARD: f64 = "guard", Form::table(&guard::FAMILY, read_guard);
    /// On SIGTERM, how long polls and deliveries under way may take to finish.
    or SHUTDOWN_GRACE: Duration = "shutdown-grace", DURATION, || super::SHUTDOWN_GRACE;
    /// Polls at the same time.
    or POLLS_IN_FLIGHT: usize = "polls-in-flight", count(1, 100_000), || IN_FLIGHT;
    /// Requests to receivers at the same time.
    or DELIVERIES_IN_FLIGHT: usize = "deliveries-in-flight", count(1, 100_000), || IN_FLIGHT;
    /// Memory for all answers in flight, and for what they become when they are read: documents, records, and the values of the
    /// largest record, which may take sixty times its text. A poll waits for its share; an answer that takes more than is left is
    /// an error of its bridge, which says how much.
    or MEMORY: u64 = "memory", SIZE, || super::MEMORY;
}

keys! {
    /// An event from time to time, so that silence is noticed.
    mod heartbeat;
    /// The endpoints that get it.
    need TO: () = "to", Form::raw(Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Text)])),
        "heartbeat = { to = [\"ops\"], every = \"1h\" }";
    /// How often.
    need EVERY: Duration = "every", SOME_DURATION, "heartbeat = { to = [\"ops\"], every = \"1h\" }";
}

keys! {
    /// What is refused unless it is asked for twice.
    mod guard;
    /// The share of the bridges that a reload may remove, where these are 10 or more; beyond it the reload is refused. `1`
    /// refuses none, and `bellpull reload --force` does it once.
    or RELOAD: f64 = "reload", SHARE, || 0.5;
}

keys! {
    /// Where state is kept.
    mod store;
    /// The embedded database. Changes take effect at the next start.
    get SLED: Store = "sled", Form::table(&sled::FAMILY, read_sled);
}

keys! {
    /// The embedded database.
    mod sled;
    /// The database's page cache.
    or CACHE: u64 = "cache", SIZE, || super::CACHE;
}

keys! {
    /// What all requests share.
    mod network;
    /// Special-purpose ranges that may be reached, such as `"10.0.0.0/8"`: see [Addresses](#addresses).
    or ALLOW: Vec<IpNet> = "allow",
        Form::shown_by(Shape::List(&Shape::Text), read_allow, |all| all.iter().map(IpNet::to_string).collect()),
        Vec::new;
    /// `http://`, `https://` or `socks5h://`, or a secret that holds one, where it has a password; the environment's proxies are
    /// ignored.
    get PROXY: Url = "proxy", identity::PROXY;
    /// A PEM file, or a list of PEM files, of additional roots, which count as those of `tls.ca` do.
    maybe CA: Vec<String> = "ca", Form::new(Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Text)]), read_ca),
        "the system's roots";
    /// Requests of polls at the same time to one origin. Each endpoint has its own `in-flight`, so that a slow endpoint does not
    /// hold up another one at the same origin.
    or PER_HOST: usize = "per-host", count(1, 1000), || super::PER_HOST;
}

keys! {
    /// What is logged, and how.
    mod log;
    /// From which level on; a reload changes it. `RUST_LOG` overrules it.
    maybe LEVEL: &'static str = "level", Form::words(&LEVELS), "`\"info\"`";
    /// The form on standard error; journald under systemd, with `BRIDGE=`, `ENDPOINT=`, `EVENT_ID=`.
    maybe FORMAT: LogFormat = "format", Form::words(&LOG_FORMATS), "by destination";
}

/// Reads `[daemon]`, whether it is there or not.
pub fn read_daemon(mut table: Table<'_>, endpoints: &BTreeMap<Name, Option<Endpoint>>) -> Daemon {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let state_dir = table.get(&daemon::STATE_DIR).map(PathBuf::from);
    let state_dir = state_dir.or_else(|| variable("STATE_DIRECTORY")).unwrap_or_else(|| PathBuf::from("state"));
    let socket = table.get(&daemon::SOCKET).map(PathBuf::from);
    let socket = socket.or_else(|| variable("RUNTIME_DIRECTORY").map(|dir| dir.join("admin.sock")));
    let heartbeat = table.item(&daemon::HEARTBEAT);
    let daemon = Daemon {
        socket: socket.unwrap_or_else(|| state_dir.join("admin.sock")),
        state_dir,
        listen: table.or(&daemon::LISTEN),
        hosts: table.or(&daemon::HOSTS),
        metrics_by_name: table.get(&daemon::METRICS_BY_NAME),
        token: table.get(&daemon::TOKEN),
        heartbeat: heartbeat.and_then(|item| read_heartbeat(&item, endpoints)),
        reload_removes: table.get(&daemon::GUARD).unwrap_or_else(|| guard::RELOAD.default()),
        shutdown_grace: table.or(&daemon::SHUTDOWN_GRACE),
        polls_in_flight: table.or(&daemon::POLLS_IN_FLIGHT),
        deliveries_in_flight: table.or(&daemon::DELIVERIES_IN_FLIGHT),
        memory: table.or(&daemon::MEMORY),
    };
    table.finish();
    daemon
}

fn read_listen(item: &Item<'_>) -> Option<Option<SocketAddr>> {
    let address = |text: &str| match text {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("{text:?} is not an address and port")),
    };
    let listen: Option<SocketAddr> = item.parse_text(address, "\"127.0.0.1:8642\" or \"off\"")?;
    if listen.is_some_and(|address| !address.ip().is_loopback()) {
        let message = format!("`{}`: the token and all that is shown go over the network in clear", item.path);
        item.warn(message, "listen on loopback, and put a proxy with TLS or a tunnel before it");
    }
    Some(listen)
}

/// A bearer token of one's own, long enough not to be guessed.
fn read_token(item: &Item<'_>) -> Option<Secret> {
    const CHARS_MIN: usize = 16;
    let token = item.secret()?;
    if item.resolved(&token) && token.expose().len() < CHARS_MIN {
        item.error(format!("`{}` has under {CHARS_MIN} characters", item.path))
            .help("`openssl rand -hex 32` makes one".into())
            .report();
        return None;
    }
    Some(token)
}

fn read_heartbeat(item: &Item<'_>, endpoints: &BTreeMap<Name, Option<Endpoint>>) -> Option<Heartbeat> {
    let mut table = item.table()?;
    let (to, every) = (table.need_item(&heartbeat::TO), table.need(&heartbeat::EVERY));
    table.finish();
    let to = to?;
    let names = if to.is_list() { to.items()? } else { vec![to] };
    let known = |item: &Item<'_>| {
        let name = item.string()?;
        if !endpoints.contains_key(name) {
            let report = item.error(format!("`{}` names the endpoint {name:?}, which is not defined", item.path));
            match nearest(name, endpoints.keys().map(|name| &**name)) {
                Some(near) => report.help(format!("did you mean {near:?}?")).report(),
                None => report.report(),
            }
        }
        Some(Name::from(name))
    };
    let to: Vec<Name> = names.iter().map(known).collect::<Option<_>>()?;
    warn_if_none_hears(item, &format!("`to` of `{}`", item.path), &to.iter().collect::<Vec<_>>(), endpoints);
    Some(Heartbeat { to, every: every? })
}

fn read_guard(item: &Item<'_>) -> Option<f64> {
    let mut table = item.table()?;
    let share = table.or(&guard::RELOAD);
    table.finish();
    Some(share)
}

/// Reads `[log]`.
pub fn read_log(mut table: Table<'_>) -> Log {
    let log = Log { level: table.get(&log::LEVEL), format: table.get(&log::FORMAT) };
    table.finish();
    log
}

/// Reads `[store]`.
pub fn read_store(mut table: Table<'_>) -> Store {
    let store = table.get(&store::SLED).unwrap_or(Store { cache: CACHE });
    table.finish();
    store
}

fn read_sled(item: &Item<'_>) -> Option<Store> {
    let mut table = item.table()?;
    let cache = table.or(&sled::CACHE);
    table.finish();
    Some(Store { cache })
}

/// Reads `[network]`.
pub fn read_network(mut table: Table<'_>) -> client::Config {
    let config = client::Config {
        allow: table.or(&network::ALLOW),
        ca: table.get(&network::CA).unwrap_or_default(),
        proxy: table.get(&network::PROXY),
        per_host: table.or(&network::PER_HOST),
        ..client::Config::default()
    };
    table.finish();
    config
}

fn read_allow(item: &Item<'_>) -> Option<Vec<IpNet>> {
    let net = |text: &str| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| format!("{text:?} is not an address range such as \"10.0.0.0/8\""))
    };
    item.items()?.iter().map(|item| item.parse_text(net, "a range such as \"10.0.0.0/8\"")).collect()
}

fn read_ca(item: &Item<'_>) -> Option<Vec<String>> {
    let all = if item.is_string() { vec![item.clone()] } else { item.items()? };
    all.iter().map(read_certificates).collect()
}
