//! From files to a [`Config`]: includes, defaults, names, and references between the parts.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use toml::de::DeTable;

use super::{
    Bridge, Config, Daemon, Each, Endpoint,
    bridge::{keys::bridge, type_name},
    daemon::{daemon, log, network, read_daemon, read_log, read_network, read_store, store},
    endpoint::{keys::endpoint, warn_if_none_hears},
    include,
    written::{self, Texts},
};
use crate::{
    http::client,
    model::Name,
    settings::{
        Context, DefaultTable, Item, Table, advice,
        diagnostic::{Diagnostic, Place, Rendered, Severity, Sources},
        key::{Get, keys},
        nearest,
        units::Rate,
    },
    source::{http::http, source},
};

const NAME_CHARS_MAX: usize = 64;

keys! {
    /// The configuration of bellpull.
    mod file;
    /// More files, relative to this one, which may hold bridges and endpoints only: `["conf.d/*.toml"]`. A name that is defined
    /// twice is an error that names both places. A `*` matches no file whose name begins with a dot.
    get INCLUDE: () = "include", Form::raw(Shape::List(&Shape::Text));
    /// The daemon itself.
    get DAEMON: () = "daemon", Form::raw(Shape::Table(&daemon::FAMILY));
    /// Where state is kept.
    get STORE: () = "store", Form::raw(Shape::Table(&store::FAMILY));
    /// What all requests share.
    get NETWORK: () = "network", Form::raw(Shape::Table(&network::FAMILY));
    /// What is logged, and how.
    get LOG: () = "log", Form::raw(Shape::Table(&log::FAMILY));
    /// Keys that apply if a bridge, an endpoint or a source does not set them; a key that it sets replaces the whole default.
    get DEFAULTS: () = "defaults", Form::raw(Shape::Table(&defaults::FAMILY));
    /// Bridges by their names.
    get BRIDGE: () = "bridge", Form::raw(Shape::Entities(&bridge::FAMILY));
    /// Endpoints by their names.
    get ENDPOINT: () = "endpoint", Form::raw(Shape::Entities(&endpoint::FAMILY));
}

/// What each bridge has for itself.
const OWN: &[&str] = &["source", "items", "key"];

keys! {
    /// Keys that apply if a table does not set them.
    mod defaults;
    /// Of every bridge, except `source`, `items` and `key`.
    get BRIDGE: () = "bridge", Form::raw(Shape::Defaults(&bridge::FAMILY, OWN));
    /// Of every endpoint.
    get ENDPOINT: () = "endpoint", Form::raw(Shape::Defaults(&endpoint::FAMILY, &[]));
    /// Of every `source.http`.
    get HTTP: () = "http", Form::raw(Shape::Defaults(&http::FAMILY, &[]));
}

/// What an included file may not hold.
static MAIN_ONLY: [&Get<()>; 6] =
    [&file::DAEMON, &file::STORE, &file::NETWORK, &file::LOG, &file::DEFAULTS, &file::INCLUDE];

/// What another configuration is compared by.
pub(super) static TABLES: written::Tables = written::Tables {
    bridge: file::BRIDGE.name,
    endpoint: file::ENDPOINT.name,
    settings: [file::DAEMON.name, file::STORE.name, file::NETWORK.name, file::LOG.name],
    defaults: file::DEFAULTS.name,
    of_bridge: defaults::BRIDGE.name,
    of_endpoint: defaults::ENDPOINT.name,
    of_http: defaults::HTTP.name,
};

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
    let main = std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    load_text(path, main, secrets)
}

fn unreadable(path: &Path, e: &std::io::Error) -> Failed {
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
}

/// The same with the text of the main file given: one that is not written yet.
pub fn load_text(path: &Path, main: String, secrets: Secrets) -> Result<Config, Failed> {
    let mut sources = Sources::default();
    let context = Context::new(secrets == Secrets::Read);
    let (includes, early) = include::files(path, &main);
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
    let daemon = section(&context, &mut table, &file::DAEMON);
    Some(read_daemon(daemon, &BTreeMap::new()))
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

/// A table of the top, or an empty one.
fn section<'a>(context: &'a Context, file: &mut Table<'a>, key: &Get<()>) -> Table<'a> {
    let place = file.place.clone();
    file.item(key).and_then(|item| item.table()).unwrap_or_else(|| Table::empty(context, key.name.to_owned(), place))
}

/// The heading that a text begins with, without what follows it.
fn heading(text: &str) -> Option<&str> {
    text.trim_start().starts_with('[').then(|| text.split(['#', '\n']).next())?.map(str::trim)
}

/// Where the heading that is at an offset stood before, if it is one.
fn first_heading(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let second = heading(text.get(start..)?)?;
    let mut offset = 0;
    for line in text.get(..start)?.split_inclusive('\n') {
        if heading(line) == Some(second) {
            return Some(offset..offset + second.len());
        }
        offset += line.len();
    }
    None
}

fn read_files(sources: &Sources, context: &Context, syntax: &mut Vec<Place>) -> Option<Config> {
    let parsed: Vec<_> = sources
        .files
        .iter()
        .enumerate()
        .map(|(file, (_, text))| {
            let (table, errors) = DeTable::parse_recoverable(text);
            // The table that stands twice being told, its keys are not.
            let mut told_to = 0;
            for error in errors {
                let span = error.span().unwrap_or(0..0);
                let place = Place { file, span: span.clone() };
                syntax.push(place.clone());
                let is_double = error.message().contains("duplicate key");
                if is_double && span.start < told_to {
                    continue;
                }
                let line = sources.line(&place).checked_sub(1).and_then(|line| text.lines().nth(line));
                let help = advice::toml(error.message(), line.unwrap_or_default()).map(str::to_owned);
                let message = format!("TOML: {}", error.message());
                let first = is_double.then(|| first_heading(text, span.start)).flatten();
                if first.is_some() {
                    let rest = text.get(span.start..).unwrap_or_default();
                    told_to = rest.find("\n[").map_or(text.len(), |end| span.start + end);
                }
                let also = first.map(|span| (Place { file, span }, "first defined at".to_owned()));
                context.report(Diagnostic { help, also, ..Diagnostic::error(place, message) });
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
    main.item(&file::INCLUDE);
    let [daemon, store, network, defaults, log] =
        [&file::DAEMON, &file::STORE, &file::NETWORK, &file::DEFAULTS, &file::LOG]
            .map(|key| section(context, main, key));
    let mut bridges = Vec::new();
    let mut endpoints = Vec::new();
    for table in std::iter::once(main).chain(included) {
        for (key, all) in [(&file::BRIDGE, &mut bridges), (&file::ENDPOINT, &mut endpoints)] {
            all.extend(table.item(key).and_then(|i| i.table()).map(|mut t| t.take_all()).unwrap_or_default());
        }
    }
    for (file, mut table) in tables.into_iter().enumerate() {
        for key in MAIN_ONLY {
            if let Some(place) = table.key_place(key).filter(|_| file > 0) {
                table.item(key);
                let key = key.name;
                let only = format!("`{key}` may not stand in an included file: it holds bridges and endpoints only");
                table.error_at(place, only).report();
            }
        }
        table.finish();
    }
    let store = read_store(store);
    let log = read_log(log);
    let network = read_network(network);
    let _ = context.allow.set(network.allow.clone());
    let defaults = Defaults::read(defaults);
    let endpoints = read_endpoints(endpoints, &defaults);
    let daemon = read_daemon(daemon, &endpoints);
    let bridges = read_bridges(bridges, &defaults, &endpoints);
    let config = Config {
        daemon,
        store,
        log,
        network: client::Config { rates: rates(bridges.values().flatten()), ..network },
        bridges: bridges.into_iter().filter_map(|(name, bridge)| Some((name, Arc::new(bridge?)))).collect(),
        endpoints: endpoints.into_iter().filter_map(|(name, endpoint)| Some((name, Arc::new(endpoint?)))).collect(),
        texts: Texts::of(&sources.files.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>()),
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
    judge_heirs("endpoint", &endpoint::WAS, endpoints.values().flatten().map(|e| (&e.name, e.was.as_ref())), &items);
    endpoints
}

/// `was` names one that is no more, and nobody else's.
fn judge_heirs<'n>(
    kind: &str,
    was: &Get<Name>,
    all: impl Iterator<Item = (&'n Name, Option<&'n Name>)>,
    items: &BTreeMap<String, Item<'_>>,
) {
    let mut heirs: BTreeMap<&Name, &Name> = BTreeMap::new();
    for (name, old) in all {
        let (Some(old), Some(item)) = (old, items.get(&**name)) else { continue };
        let place = item.table().and_then(|mut t| t.item(was)).map_or_else(|| item.place.clone(), |i| i.place);
        let why = match heirs.insert(old, name) {
            Some(other) => format!("[{kind}.{other}] takes over {old:?} already"),
            None if items.contains_key(&**old) => format!("[{kind}.{old}] is still defined"),
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
    judge_heirs("bridge", &bridge::WAS, bridges.values().flatten().map(|b| (&b.name, b.was.as_ref())), &items);
    for bridge in bridges.values().flatten() {
        let Some(item) = items.get(&*bridge.name) else { continue };
        let mut places = BTreeMap::new();
        if let Some(mut table) = item.table() {
            table.names_of(&bridge::TO, &mut places);
            table.names_of(&bridge::ALERT, &mut places);
        }
        let named = bridge
            .routes
            .iter()
            .map(|r| (&r.endpoint, "to"))
            .chain(bridge.alert.to.iter().map(|name| (name, "alert.to")));
        if let Some(Each::Bridge { name: other, .. }) = &bridge.each {
            let place =
                item.table().and_then(|mut t| t.item(&bridge::EACH)).map_or_else(|| item.place.clone(), |i| i.place);
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
            let place = places.get(&**endpoint).cloned().unwrap_or_else(|| item.place.clone());
            let report = item.error_at(
                place,
                format!("`{key}` of [{}] names the endpoint {endpoint:?}, which is not defined", item.path),
            );
            match nearest(endpoint, endpoints.keys().map(|name| &**name)) {
                Some(near) => report.help(format!("did you mean {near:?}?")).report(),
                None if endpoint.contains("://") => {
                    report.help(format!("define [endpoint.me] with this `url`, and write {key} = [\"me\"]")).report();
                }
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

/// `[defaults]`.
#[derive(Default)]
struct Defaults<'a> {
    bridge: Option<DefaultTable<'a>>,
    endpoint: Option<DefaultTable<'a>>,
    http: Option<DefaultTable<'a>>,
}

impl<'a> Defaults<'a> {
    fn read(mut table: Table<'a>) -> Self {
        let bridge = table.item(&defaults::BRIDGE).and_then(|i| i.table());
        if let Some(bridge) = &bridge {
            for key in OWN {
                if let Some(place) = bridge.place_of(key) {
                    bridge
                        .error_at(place, format!("[defaults.bridge] may not hold `{key}`: each bridge has its own"))
                        .report();
                }
            }
        }
        let endpoint = table.item(&defaults::ENDPOINT).and_then(|i| i.table()).map(DefaultTable::of);
        let http = table.item(&defaults::HTTP).and_then(|i| i.table()).map(DefaultTable::of);
        table.finish();
        Self { bridge: bridge.map(DefaultTable::of), endpoint, http }
    }

    /// Defaults of `source.http` are one level further down.
    fn fill_source(&self, mut table: Table<'a>) -> Table<'a> {
        if let Some(http) = &self.http {
            table.fill_nested(&[bridge::SOURCE.name, source::HTTP.name], http);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advice that is itself refused would be worse than none.
    #[test]
    fn each_line_that_advice_says_is_taken_where_it_says() {
        let synonyms = advice::SYNONYMS.iter().map(|(place, _, line)| (*place, *line));
        for (place, line) in synonyms.chain(advice::FORMS.iter().copied()) {
            let prose = [", or ", ", where ", " beside ", ": jq"];
            let line = prose.iter().fold(line, |line, prose| line.split(prose).next().unwrap_or_default());
            let heading = match place {
                _ if line.starts_with('[') || line.contains(" in [") => continue,
                "" => "",
                "daemon" => "[daemon]",
                "bridge.*.source.*" if !line.starts_with("source.") => "[bridge.a.source.http]",
                "endpoint.*.sign.*" if !line.starts_with("sign.") => "[endpoint.a.sign.standard]",
                "endpoint.*.sign.*.secrets" => "[endpoint.a.sign.standard]",
                "bridge.*.source.http.headers" | "bridge.*.source.http.query" | "**.auth" => "[bridge.a.source.http]",
                "**.auth.bearer" | "**.auth.basic" if line.starts_with("auth.") => "[bridge.a.source.http]",
                "**.auth.bearer" => "[bridge.a.source.http.auth.bearer]",
                "**.auth.basic" => "[bridge.a.source.http.auth.basic]",
                _ if place.starts_with("bridge.") => "[bridge.a]",
                _ => "[endpoint.a]",
            };
            let text = format!("{heading}\n{line}\n");
            let Err(failed) = load_text(Path::new("bridges.toml"), text.clone(), Secrets::FormOnly) else { continue };
            for found in failed.0.iter().filter(|found| found.severity == Severity::Error) {
                let is_of_others = ["is missing", "needs `items`", "which is not defined", "matches no file"];
                assert!(is_of_others.iter().any(|words| found.message.contains(words)), "{text}{}", found.text);
            }
        }
    }
}
