//! From files to a [`Config`]: includes, defaults, names, and references between the parts.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use toml::de::DeTable;

use super::{Bridge, Config, Daemon, Each, Endpoint, Heartbeat, Log, Store, bridge::type_name};
use crate::{
    http::{
        client,
        identity::{read_certificates, read_proxy},
    },
    model::Name,
    settings::{
        Context, DefaultTable, Item, Table,
        diagnostic::{Diagnostic, Place, Rendered, Severity, Sources},
        nearest,
        secret::Secret,
        units::Rate,
    },
    telemetry,
};

/// Loopback: who is on the machine, and has the token.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8642));
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);
const IN_FLIGHT: u64 = 256;
const MEMORY: u64 = 512 << 20;
const CACHE: u64 = 8 << 20;
const PER_HOST: u64 = 8;
const NAME_CHARS_MAX: usize = 64;

/// Whether secrets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    Read,
    FormOnly,
}

/// Why there is no configuration: every error, and the warnings beside them.
#[derive(Debug)]
pub struct Failed(pub Vec<Rendered>);

impl Failed {
    /// `FILE:LINE:COLUMN: message` of each error, without lines of the file.
    pub fn places(&self) -> String {
        let errors = self.0.iter().filter(|found| found.severity == Severity::Error);
        let places = errors.map(|found| match found.line {
            0 => found.text.trim_end().to_owned(),
            line => format!("{}:{line}:{}: {}", found.file.display(), found.column, found.message),
        });
        places.collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|found| f.write_str(&found.text))
    }
}

impl std::error::Error for Failed {}

/// Reads a file and all that it includes. Blocking; for the start, a reload and `check`.
pub fn load(path: &Path, secrets: Secrets) -> Result<Config, Failed> {
    let mut sources = Sources::default();
    let context = Context::new(secrets == Secrets::Read);
    let unreadable = |path: &Path, e: &std::io::Error| {
        let text = format!("{}: error: failed to read it: {e}\n", path.display());
        Failed(vec![Rendered {
            severity: Severity::Error,
            file: path.to_owned(),
            line: 0,
            column: 0,
            message: text.clone(),
            help: None,
            text,
        }])
    };
    let main = std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    let (includes, early) = includes(path, &main);
    sources.files.push((path.to_owned(), main));
    for found in includes {
        let text = std::fs::read_to_string(&found).map_err(|e| unreadable(&found, &e))?;
        sources.files.push((found, text));
    }
    for diagnostic in early {
        context.report(diagnostic);
    }
    let mut syntax = Vec::new();
    let config = read_files(&sources, &context, &mut syntax);
    let secrets = context.take_secrets();
    let rendered: Vec<(Severity, Rendered)> = {
        let mut all = context.into_diagnostics();
        drop_echoes(&mut all, &syntax, &sources);
        all.sort_by_key(|d| (d.place.file, d.place.span.start, d.place.span.end));
        all.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        all.iter().map(|d| (d.severity, sources.render(d))).collect()
    };
    let failed = rendered.iter().any(|(severity, _)| *severity == Severity::Error);
    let all: Vec<Rendered> = rendered.into_iter().map(|(_, rendered)| rendered).collect();
    match config {
        Some(config) if !failed => Ok(Config { warnings: all, secrets, ..config }),
        _ => Err(Failed(all)),
    }
}

/// What a file says of the daemon, whatever else is wrong with it: for finding one that runs.
pub fn daemon(path: &Path) -> Option<Daemon> {
    let text = std::fs::read_to_string(path).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let context = Context::new(false);
    let mut table = Table::new(&context, String::new(), Place { file: 0, span: 0..0 }, table.get_ref());
    let daemon = table.take("daemon").and_then(|item| item.table());
    read_daemon(daemon, &BTreeMap::new())
}

/// Where a file does not parse, what seems absent may stand in the lost part, and what stands on a broken line means
/// nothing: only the syntax errors are said of those.
fn drop_echoes(all: &mut Vec<Diagnostic>, syntax: &[Place], sources: &Sources) {
    let broken: Vec<(usize, usize)> = syntax.iter().map(|place| (place.file, sources.line(place))).collect();
    all.retain(|found| {
        let is_syntax = syntax.contains(&found.place);
        let lost = found.missing && broken.iter().any(|(file, _)| *file == found.place.file);
        is_syntax || !lost && !broken.contains(&(found.place.file, sources.line(&found.place)))
    });
}

/// The files that `include` names, in order, and what is wrong with it.
fn includes(path: &Path, text: &str) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let (table, _) = DeTable::parse_recoverable(text);
    let Some((_, value)) = table.get_ref().iter().find(|(key, _)| key.get_ref() == "include") else {
        return (Vec::new(), Vec::new());
    };
    let context = Context::new(false);
    let place = Place { file: 0, span: value.span() };
    let item = Item::new(&context, "include".into(), place, value.get_ref());
    let base = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for item in item.items().unwrap_or_default() {
        let Some(pattern) = item.string() else { continue };
        let full = base.join(pattern);
        match glob::glob(&full.to_string_lossy()) {
            Err(error) => item.error(format!("`{}`: {pattern:?} is not a pattern: {error}", item.path)).report(),
            Ok(paths) => {
                let before = found.len();
                found.extend(paths.filter_map(Result::ok).filter(|p| p.is_file()));
                // A pattern may match nothing yet; a name must exist.
                if found.len() == before && !pattern.contains(['*', '?', '[']) {
                    item.error(format!("`{}`: the file {} does not exist", item.path, full.display())).report();
                }
            }
        }
    }
    (found, context.into_diagnostics())
}

fn read_files(sources: &Sources, context: &Context, syntax: &mut Vec<Place>) -> Option<Config> {
    let parsed: Vec<_> = sources
        .files
        .iter()
        .enumerate()
        .map(|(file, (_, text))| {
            let (table, errors) = DeTable::parse_recoverable(text);
            for error in errors {
                let span = error.span().unwrap_or(0..0);
                syntax.push(Place { file, span: span.clone() });
                context.report(Diagnostic::error(Place { file, span }, format!("TOML: {}", error.message())));
            }
            table
        })
        .collect();
    let mut tables: Vec<Table<'_>> = parsed
        .iter()
        .enumerate()
        .map(|(file, table)| Table::new(context, String::new(), Place { file, span: 0..0 }, table.get_ref()))
        .collect();
    let (main, included) = tables.split_first_mut()?;
    main.take("include");
    let daemon = main.take("daemon").and_then(|i| i.table());
    let store = main.take("store").and_then(|i| i.table());
    let network = main.take("network").and_then(|i| i.table());
    let defaults = main.take("defaults").and_then(|i| i.table());
    let log = main.take("log").and_then(|i| i.table());
    let mut bridges = Vec::new();
    let mut endpoints = Vec::new();
    for table in std::iter::once(main).chain(included) {
        for (key, all) in [("bridge", &mut bridges), ("endpoint", &mut endpoints)] {
            all.extend(table.take(key).and_then(|i| i.table()).map(|mut t| t.take_all()).unwrap_or_default());
        }
    }
    for (file, mut table) in tables.into_iter().enumerate() {
        for key in ["daemon", "store", "network", "log", "defaults", "include"] {
            if let Some(place) = table.key_place(key).filter(|_| file > 0) {
                table.take(key);
                let only = format!("`{key}` may not stand in an included file: it holds bridges and endpoints only");
                table.error_at(place, only).report();
            }
        }
        table.finish();
    }
    let store = read_store(store);
    let log = read_log(log);
    let network = read_network(network);
    let _ = context.allow.set(network.as_ref().map(|network| network.allow.clone()).unwrap_or_default());
    let defaults = Defaults::read(defaults);
    let endpoints = read_endpoints(endpoints, &defaults);
    let daemon = read_daemon(daemon, &endpoints);
    let bridges = read_bridges(bridges, &defaults, &endpoints);
    let config = Config {
        daemon: daemon?,
        store: store?,
        log,
        network: client::Config { rates: rates(bridges.values().flatten()), ..network? },
        bridges: bridges.into_iter().filter_map(|(name, bridge)| Some((name, Arc::new(bridge?)))).collect(),
        endpoints: endpoints.into_iter().filter_map(|(name, endpoint)| Some((name, Arc::new(endpoint?)))).collect(),
        warnings: Vec::new(),
        secrets: Vec::new(),
    };
    Some(config)
}

/// The pace of each origin that a bridge names one for; all bridges share it, so the slowest counts.
fn rates<'b>(bridges: impl Iterator<Item = &'b Bridge>) -> BTreeMap<String, Rate> {
    let mut rates: BTreeMap<String, Rate> = BTreeMap::new();
    for (origin, rate) in bridges.filter_map(|bridge| Some((bridge.source.origin()?, bridge.source.rate()?))) {
        let known = rates.entry(origin.to_owned()).or_insert(rate);
        if known.spacing() < rate.spacing() {
            *known = rate;
        }
    }
    rates
}

type Named<'a> = Vec<(&'a str, Place, Item<'a>)>;

/// Reads tables whose keys are names; a name of which the table is wrong is there with `None`.
fn read_named<'a, T>(all: Named<'a>, read: impl Fn(&str, &Item<'a>) -> Option<T>) -> BTreeMap<Name, Option<T>> {
    let mut out = BTreeMap::new();
    let mut places: BTreeMap<&str, Place> = BTreeMap::new();
    for (name, place, item) in all {
        let report = |message: String| item.error_at(place.clone(), message);
        if let Some(first) = places.get(name) {
            report(format!("`{}` is defined twice", item.path)).also(first.clone(), "first defined at").report();
            continue;
        }
        places.insert(name, place.clone());
        let well = name.len() <= NAME_CHARS_MAX
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !well {
            report(format!(
                "{name:?} is not a name: letters, digits, `_` and `-` are allowed, 64 at most, the first a letter or digit"
            ))
            .report();
        } else if name == "bellpull" {
            report("the name `bellpull` is reserved for bellpull's own events".into()).report();
        }
        out.insert(Name::from(name), read(name, &item));
    }
    out
}

fn read_endpoints<'a>(all: Named<'a>, defaults: &Defaults<'a>) -> BTreeMap<Name, Option<Endpoint>> {
    let items: BTreeMap<String, Item<'_>> =
        all.iter().map(|(name, _, item)| ((*name).to_owned(), item.clone())).collect();
    let endpoints =
        read_named(all, |name, item| Endpoint::read(name, item.table()?.with_defaults(defaults.endpoint.as_ref())));
    judge_heirs("endpoint", endpoints.values().flatten().map(|e| (&e.name, e.was.as_ref())), &items);
    endpoints
}

/// `was` names one that is no more, and nobody else's.
fn judge_heirs<'n>(
    kind: &str,
    all: impl Iterator<Item = (&'n Name, Option<&'n Name>)>,
    items: &BTreeMap<String, Item<'_>>,
) {
    let mut heirs: BTreeMap<&Name, &Name> = BTreeMap::new();
    for (name, was) in all {
        let (Some(was), Some(item)) = (was, items.get(&**name)) else { continue };
        let place = item.table().and_then(|mut t| t.take("was")).map_or_else(|| item.place.clone(), |i| i.place);
        let why = match heirs.insert(was, name) {
            Some(other) => format!("[{kind}.{other}] takes over {was:?} already"),
            None if items.contains_key(&**was) => format!("[{kind}.{was}] is still defined"),
            None => continue,
        };
        item.error_at(place, format!("`was` of [{}]: {why}", item.path))
            .help("`was` is the old name of one that has left the file".into())
            .report();
    }
}

fn read_bridges<'a>(
    all: Named<'a>,
    defaults: &Defaults<'a>,
    endpoints: &BTreeMap<Name, Option<Endpoint>>,
) -> BTreeMap<Name, Option<Bridge>> {
    let mut types: BTreeMap<String, (&str, Place)> = BTreeMap::new();
    for (name, place, item) in &all {
        let known = types.entry(type_name(name)).or_insert_with(|| (name, place.clone()));
        if known.0 != *name {
            item.error_at(
                place.clone(),
                format!("bridges {:?} and {name:?} would both send the type `{}.…`", known.0, type_name(name)),
            )
            .also(known.1.clone(), "the other one is at")
            .help("rename one of them".into())
            .report();
        }
    }
    let items: BTreeMap<String, Item<'_>> =
        all.iter().map(|(name, _, item)| ((*name).to_owned(), item.clone())).collect();
    let bridges = read_named(all, |name, item| {
        let table = item.table()?.with_defaults(defaults.bridge.as_ref());
        Bridge::read(name, defaults.fill_source(table))
    });
    judge_heirs("bridge", bridges.values().flatten().map(|b| (&b.name, b.was.as_ref())), &items);
    for bridge in bridges.values().flatten() {
        let Some(item) = items.get(&*bridge.name) else { continue };
        let places = item.table().and_then(|mut t| t.with_names(&["to", "alert"]));
        let named = bridge
            .routes
            .iter()
            .map(|r| (&r.endpoint, "to"))
            .chain(bridge.alert.to.iter().map(|name| (name, "alert.to")));
        if let Some(Each::Bridge { name: other, .. }) = &bridge.each {
            let place = item.table().and_then(|mut t| t.take("each")).map_or_else(|| item.place.clone(), |i| i.place);
            let known = |name: &Name| bridges.get(name).is_none_or(|b| b.as_ref().is_some_and(|b| b.each.is_some()));
            if let Some(why) = match () {
                () if !items.contains_key(&**other) => Some("is not defined"),
                () if known(other) => Some("has `each` itself, or an error"),
                () => None,
            } {
                let message = format!("`each` of [{}] names the bridge {other:?}, which {why}", item.path);
                let report = item.error_at(place, message);
                match nearest(other, items.keys().map(String::as_str).filter(|name| **name != **other)) {
                    Some(near) => report.help(format!("did you mean {near:?}?")).report(),
                    None => report.report(),
                }
            }
        }
        warn_of_deaf(bridge, item, endpoints);
        for (endpoint, key) in named.filter(|(name, _)| !endpoints.contains_key(*name)) {
            let place = places.as_ref().and_then(|p| p.get(&**endpoint)).cloned().unwrap_or_else(|| item.place.clone());
            let report = item.error_at(
                place,
                format!("`{key}` of [{}] names the endpoint {endpoint:?}, which is not defined", item.path),
            );
            match nearest(endpoint, endpoints.keys().map(|name| &**name)) {
                Some(near) => report.help(format!("did you mean {near:?}?")).report(),
                None => report.help(format!("define [endpoint.{endpoint}]")).report(),
            }
        }
    }
    bridges
}

/// Where all that a bridge's alarms go to are endpoints whose `payload` makes something else for their receivers: those would refuse
/// the standard event, and nobody would hear of it.
fn warn_of_deaf(bridge: &Bridge, item: &Item<'_>, endpoints: &BTreeMap<Name, Option<Endpoint>>) {
    let routed = bridge.routes.iter().map(|route| &route.endpoint);
    let (to, key): (Vec<&Name>, &str) = if bridge.alert.to.is_empty() {
        (routed.collect(), "to")
    } else {
        (bridge.alert.to.iter().collect(), "alert.to")
    };
    warn_if_none_hears(item, &format!("`{key}` of [{}]", item.path), &to, endpoints);
}

fn warn_if_none_hears(item: &Item<'_>, key: &str, to: &[&Name], endpoints: &BTreeMap<Name, Option<Endpoint>>) {
    let known: Vec<&Endpoint> = to.iter().filter_map(|name| endpoints.get(*name)?.as_ref()).collect();
    let Some(first) = to.first().filter(|_| known.len() == to.len()) else { return };
    if known.iter().any(|endpoint| endpoint.hears_alarms()) {
        return;
    }
    let message = if known.iter().any(|endpoint| endpoint.takes_alarms()) {
        format!(
            "{key} names only endpoints that have a `payload`: its alarms do not pass it, and a receiver that needs it \
             refuses them"
        )
    } else {
        format!("{key} names only endpoints with `operational = false`: nobody hears of its alarms")
    };
    let help = format!(
        "endpoint.{first}.operational.payload = '{{ text: .type }}', or an endpoint in `alert.to` that takes standard events"
    );
    item.warn(message, &help);
}

/// `[defaults]`.
#[derive(Default)]
struct Defaults<'a> {
    bridge: Option<DefaultTable<'a>>,
    endpoint: Option<DefaultTable<'a>>,
    http: Option<DefaultTable<'a>>,
}

impl<'a> Defaults<'a> {
    fn read(table: Option<Table<'a>>) -> Self {
        let Some(mut table) = table else { return Self::default() };
        let bridge = table.take("bridge").and_then(|i| i.table());
        if let Some(bridge) = &bridge {
            for key in ["source", "items", "key"] {
                if let Some(place) = bridge.key_place(key) {
                    bridge
                        .error_at(place, format!("[defaults.bridge] may not hold `{key}`: each bridge has its own"))
                        .report();
                }
            }
        }
        let endpoint = table.take("endpoint").and_then(|i| i.table()).map(DefaultTable::of);
        let http = table.take("http").and_then(|i| i.table()).map(DefaultTable::of);
        table.finish();
        Self { bridge: bridge.map(DefaultTable::of), endpoint, http }
    }

    /// Defaults of `source.http` are one level further down.
    fn fill_source(&self, mut table: Table<'a>) -> Table<'a> {
        if let Some(http) = &self.http {
            table.fill_nested(&["source", "http"], http);
        }
        table
    }
}

fn read_daemon(table: Option<Table<'_>>, endpoints: &BTreeMap<Name, Option<Endpoint>>) -> Option<Daemon> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let state_default = variable("STATE_DIRECTORY").unwrap_or_else(|| PathBuf::from("state"));
    let mut daemon = Daemon {
        socket: PathBuf::new(),
        state_dir: state_default,
        listen: Some(LISTEN),
        hosts: Vec::new(),
        token: None,
        heartbeat: None,
        shutdown_grace: SHUTDOWN_GRACE,
        polls_in_flight: usize::try_from(IN_FLIGHT).ok()?,
        deliveries_in_flight: usize::try_from(IN_FLIGHT).ok()?,
        memory: MEMORY,
    };
    let mut socket = None;
    if let Some(mut table) = table {
        if let Some(item) = table.take("listen") {
            let address = |text: &str| match text {
                "off" => Ok(None),
                text => text.parse().map(Some).map_err(|_| format!("{text:?} is not an address and port")),
            };
            daemon.listen = item.parse_text(address, "\"127.0.0.1:8642\" or \"off\"").flatten();
            if daemon.listen.is_some_and(|address| !address.ip().is_loopback()) {
                let message = format!("`{}`: the token and all that is shown go over the network in clear", item.path);
                item.warn(message, "listen on loopback, and put a proxy with TLS or a tunnel before it");
            }
        }
        if let Some(hosts) = table.take("hosts").and_then(|i| i.items()) {
            daemon.hosts = hosts.iter().filter_map(|i| i.string()).map(str::to_ascii_lowercase).collect();
        }
        daemon.token = table.take("token").and_then(|i| read_token(&i));
        daemon.heartbeat = table.take("heartbeat").and_then(|i| read_heartbeat(&i, endpoints));
        if let Some(dir) = table.take("state-dir").and_then(|i| i.string()) {
            daemon.state_dir = dir.into();
        }
        socket = table.take("socket").and_then(|i| i.string()).map(PathBuf::from);
        if let Some(grace) = table.take("shutdown-grace").and_then(|i| i.duration()) {
            daemon.shutdown_grace = grace;
        }
        let count = |table: &mut Table<'_>, key| {
            table.take(key).and_then(|i| i.integer(1..=100_000)).and_then(|n| usize::try_from(n).ok())
        };
        daemon.polls_in_flight = count(&mut table, "polls-in-flight").unwrap_or(daemon.polls_in_flight);
        daemon.deliveries_in_flight = count(&mut table, "deliveries-in-flight").unwrap_or(daemon.deliveries_in_flight);
        daemon.memory = table.take("memory").and_then(|i| i.size()).unwrap_or(daemon.memory);
        table.finish();
    }
    daemon.socket = socket
        .or_else(|| variable("RUNTIME_DIRECTORY").map(|dir| dir.join("admin.sock")))
        .unwrap_or_else(|| daemon.state_dir.join("admin.sock"));
    Some(daemon)
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
    let to = table.require("to", "heartbeat = { to = [\"ops\"], every = \"1h\" }");
    let every =
        table.require("every", "heartbeat = { to = [\"ops\"], every = \"1h\" }").and_then(|i| i.some_duration());
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

fn read_log(table: Option<Table<'_>>) -> Log {
    let Some(mut table) = table else { return Log::default() };
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let level = table.take("level").and_then(|i| i.word(&levels));
    let formats = [("text", telemetry::Format::Text), ("json", telemetry::Format::Json)];
    let format = table.take("format").and_then(|i| i.word(&formats));
    table.finish();
    Log { level, format }
}

fn read_store(table: Option<Table<'_>>) -> Option<Store> {
    let mut store = Store { cache: CACHE };
    if let Some(mut table) = table {
        if let Some(mut sled) = table.take("sled").and_then(|i| i.table()) {
            store.cache = sled.take("cache").and_then(|i| i.size()).unwrap_or(CACHE);
            sled.finish();
        }
        table.not_yet(&["nats"]);
        table.finish();
    }
    Some(store)
}

fn read_network(table: Option<Table<'_>>) -> Option<client::Config> {
    let mut config = client::Config { per_host: usize::try_from(PER_HOST).ok()?, ..client::Config::default() };
    let Some(mut table) = table else { return Some(config) };
    if let Some(allow) = table.take("allow").and_then(|i| i.items()) {
        let net = |text: &str| {
            text.parse::<ipnet::IpNet>()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
                .map_err(|_| format!("{text:?} is not an address range such as \"10.0.0.0/8\""))
        };
        config.allow = allow.iter().filter_map(|i| i.parse_text(net, "a range such as \"10.0.0.0/8\"")).collect();
    }
    if let Some(item) = table.take("ca") {
        let all = if item.is_string() { vec![item] } else { item.items().unwrap_or_default() };
        config.ca = all.iter().filter_map(read_certificates).collect();
    }
    config.proxy = table.take("proxy").and_then(|item| read_proxy(&item));
    if let Some(n) = table.take("per-host").and_then(|i| i.integer(1..=1000)) {
        config.per_host = usize::try_from(n).unwrap_or(8);
    }
    table.finish();
    Some(config)
}
