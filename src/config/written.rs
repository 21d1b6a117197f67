//! What the files say, key by key, so that two configurations can be compared where neither may show a secret. Of a value its
//! hash is kept; of a secret only where it stands.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::{self, Write as _},
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::bridge::keys::bridge;
use crate::{
    model::{Hash, Name},
    settings::secret::secret,
    source::source,
};

/// Of TOML that repeats itself hardly more is to be had.
const ZSTD_LEVEL: i32 = 1;

/// Keys with dots, in order, and a hash of each one's value.
pub type Keys = Vec<(Arc<str>, u64)>;

/// All keys that the files hold, with those that `defaults` fill in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub bridges: BTreeMap<Name, Keys>,
    pub endpoints: BTreeMap<Name, Keys>,
    /// Of `daemon`, `store`, `network` and `log`.
    pub settings: Keys,
}

/// Names of the tables that are looked at.
#[derive(Debug)]
pub struct Tables {
    pub bridge: &'static str,
    pub endpoint: &'static str,
    pub settings: [&'static str; 4],
    pub defaults: &'static str,
    /// Those within `defaults`.
    pub of_bridge: &'static str,
    pub of_endpoint: &'static str,
    pub of_http: &'static str,
}

/// The files as they were read, packed: what they say key by key is made of them when somebody asks, and a daemon of 100,000
/// bridges carries 1 MiB instead of each key of each.
#[derive(Clone, Default)]
pub struct Texts {
    packed: Arc<[u8]>,
    /// Those of the start, whose settings still count after a reload.
    started: Option<Arc<Texts>>,
}

/// They may hold secrets.
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Texts({} bytes)", self.packed.len())
    }
}

impl Texts {
    /// `files` begins with the main one.
    pub fn of(files: &[&str]) -> Self {
        let json = serde_json::to_vec(files).expect("strings serialize");
        let packed = zstd::encode_all(&*json, ZSTD_LEVEL).expect("memory takes all");
        Self { packed: packed.into(), started: None }
    }

    /// After a reload: the settings that count from the next start on stay those of the start.
    pub fn keep_started(&mut self, old: &Self) {
        self.started = Some(old.started.clone().unwrap_or_else(|| Arc::new(old.clone())));
    }

    /// What they say, key by key. Parses all of them: not for an async thread.
    pub fn written(&self, tables: &Tables) -> Written {
        let mut written = self.read(tables);
        if let Some(started) = &self.started {
            written.keep_started(&started.read(tables));
        }
        written
    }

    fn read(&self, tables: &Tables) -> Written {
        let json = zstd::decode_all(&*self.packed).expect("it was packed here");
        let texts: Vec<String> = serde_json::from_slice(&json).expect("it was written here");
        // They loaded: none has an error.
        let parsed: Vec<_> = texts.iter().map(|text| DeTable::parse_recoverable(text).0).collect();
        Written::of(&parsed.iter().map(|table| table.get_ref()).collect::<Vec<_>>(), tables)
    }
}

impl Written {
    /// `files` begins with the main one.
    fn of(files: &[&DeTable<'_>], tables: &Tables) -> Self {
        // A key of many bridges is one text.
        let mut texts = HashSet::new();
        let main = files.first().copied();
        let section = |name: &str| main.and_then(|main| main.get(name)).map(|value| value.get_ref());
        let filled = |kind: &str| section(tables.defaults).and_then(|all| at(all, kind));
        let mut written = Self::default();
        let (of_bridges, of_http) = (filled(tables.of_bridge), filled(tables.of_http));
        for (name, table) in named(files, tables.bridge) {
            let mut keys = with_defaults("", table, of_bridges);
            let (outer, inner) = (bridge::SOURCE.name, source::HTTP.name);
            if let Some(http) = at(table, outer).and_then(|source| at(source, inner)) {
                keys.extend(with_defaults(&format!("{outer}.{inner}"), http, of_http));
            }
            written.bridges.insert(name, share(keys, &mut texts));
        }
        for (name, table) in named(files, tables.endpoint) {
            let keys = with_defaults("", table, filled(tables.of_endpoint));
            written.endpoints.insert(name, share(keys, &mut texts));
        }
        let mut settings = BTreeMap::new();
        for name in tables.settings {
            if let Some(DeValue::Table(table)) = section(name) {
                table
                    .iter()
                    .for_each(|(key, value)| leaves(&join(name, key.get_ref()), value.get_ref(), &mut settings));
            }
        }
        written.settings = share(settings, &mut texts);
        written
    }

    /// After a reload: the settings that count from the next start on stay those of `old`.
    fn keep_started(&mut self, old: &Self) {
        self.settings.retain(|(key, _)| !needs_restart(key));
        self.settings.extend(old.settings.iter().filter(|(key, _)| needs_restart(key)).cloned());
        self.settings.sort();
    }
}

/// Whether a setting counts from the next start on.
pub fn needs_restart(key: &str) -> bool {
    let reloads = ["daemon.heartbeat", "daemon.guard", "log.level", "network"];
    !reloads.iter().any(|part| key.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The keys in which two differ.
pub fn differing(old: &Keys, new: &Keys) -> Vec<String> {
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.iter().cloned().collect(), new.iter().cloned().collect());
    let all: BTreeSet<&Arc<str>> = old.keys().chain(new.keys()).collect();
    all.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(ToString::to_string).collect()
}

fn at<'v, 'a>(value: &'v DeValue<'a>, key: &str) -> Option<&'v DeValue<'a>> {
    match value {
        DeValue::Table(table) => table.get(key).map(|value| value.get_ref()),
        _ => None,
    }
}

/// The tables of one kind, by their names.
fn named<'v, 'a>(files: &[&'v DeTable<'a>], kind: &str) -> Vec<(Name, &'v DeValue<'a>)> {
    let mut out = Vec::new();
    for file in files {
        if let Some(DeValue::Table(tables)) = file.get(kind).map(|value| value.get_ref()) {
            out.extend(tables.iter().map(|(name, table)| (Name::from(name.get_ref().as_ref()), table.get_ref())));
        }
    }
    out
}

/// The keys of a table, and of its defaults those that it lacks.
fn with_defaults(path: &str, table: &DeValue<'_>, defaults: Option<&DeValue<'_>>) -> BTreeMap<String, u64> {
    let mut keys = BTreeMap::new();
    leaves(path, table, &mut keys);
    if let Some(DeValue::Table(defaults)) = defaults {
        for (key, value) in defaults {
            if at(table, key.get_ref()).is_none() {
                leaves(&join(path, key.get_ref()), value.get_ref(), &mut keys);
            }
        }
    }
    keys
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn leaves(path: &str, value: &DeValue<'_>, out: &mut BTreeMap<String, u64>) {
    match value {
        DeValue::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                // It may be a secret.
                if key.get_ref() == secret::VALUE.name {
                    out.insert(join(path, key.get_ref()), 0);
                } else {
                    leaves(&join(path, key.get_ref()), value.get_ref(), out);
                }
            }
        }
        _ => {
            let mut text = String::new();
            write(value, &mut text);
            out.insert(path.to_owned(), Hash::of(text.as_bytes()).low64());
        }
    }
}

/// A value as a text of which two are alike only where the values are.
fn write(value: &DeValue<'_>, out: &mut String) {
    let written = match value {
        DeValue::String(text) => write!(out, "{text:?}"),
        DeValue::Integer(number) => write!(out, "{}r{}", number.as_str(), number.radix()),
        DeValue::Float(number) => write!(out, "{}", number.as_str()),
        DeValue::Boolean(yes) => write!(out, "{yes}"),
        DeValue::Datetime(at) => write!(out, "{at}"),
        DeValue::Array(list) => {
            out.push('[');
            for item in list {
                write(item.get_ref(), out);
                out.push(',');
            }
            write!(out, "]")
        }
        DeValue::Table(table) => {
            out.push('{');
            for (key, value) in table {
                let _ = write!(out, "{:?}=", key.get_ref());
                if key.get_ref() != secret::VALUE.name {
                    write(value.get_ref(), out);
                }
                out.push(',');
            }
            write!(out, "}}")
        }
    };
    written.expect("a String takes all");
}

fn share(keys: BTreeMap<String, u64>, texts: &mut HashSet<Arc<str>>) -> Keys {
    let share = |(key, hash): (String, u64)| {
        let shared = texts.get(key.as_str()).cloned().unwrap_or_else(|| Arc::from(key));
        texts.insert(shared.clone());
        (shared, hash)
    };
    let mut keys: Keys = keys.into_iter().map(share).collect();
    keys.shrink_to_fit();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Written {
        let (table, errors) = DeTable::parse_recoverable(text);
        assert!(errors.is_empty(), "{errors:?}");
        Written::of(&[table.get_ref()], &super::super::load::TABLES)
    }

    fn changed(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (of(old), of(new));
        let none = Keys::default();
        let one = |keys: &BTreeMap<Name, Keys>| keys.get("a").cloned().unwrap_or_else(|| none.clone());
        let mut all = differing(&one(&old.bridges), &one(&new.bridges));
        all.extend(differing(&one(&old.endpoints), &one(&new.endpoints)));
        all.extend(differing(&old.settings, &new.settings));
        all
    }

    #[test]
    fn a_key_is_told_where_it_stands_and_a_secret_by_its_place() {
        let bridge = "[bridge.a]\nevery = \"1m\"\nsource.http = { url = \"http://x\", headers = { x = \"1\" } }\n";
        for (old, new, keys) in [
            (bridge, &*bridge.replace("1m", "2m"), &["every"][..]),
            (bridge, &bridge.replace("//x", "//y"), &["source.http.url"]),
            (bridge, &bridge.replace("x = \"1\"", "x = \"2\""), &["source.http.headers.x"]),
            (bridge, &(bridge.to_owned() + "decode.csv = {}\n"), &["decode.csv"]),
            (bridge, &format!("# a comment\n{bridge}"), &[]),
            // What a default fills in counts, and where it is overruled it does not.
            (bridge, &format!("{bridge}[defaults.http]\ntimeout = \"9s\"\n"), &["source.http.timeout"]),
            (bridge, &format!("{bridge}[defaults.bridge]\nevery = \"9s\"\n"), &[]),
            (bridge, &format!("{bridge}[defaults.bridge]\njitter = \"9s\"\n"), &["jitter"]),
            ("[endpoint.a]\nurl.env = \"A\"", "[endpoint.a]\nurl.env = \"B\"", &["url.env"]),
            ("[endpoint.a]\nurl.value = \"A\"", "[endpoint.a]\nurl.value = \"B\"", &[]),
            ("[endpoint.a]\nsecrets = [{ value = \"A\" }]", "[endpoint.a]\nsecrets = [{ value = \"B\" }]", &[]),
            ("[endpoint.a]\nsecrets = [{ env = \"A\" }]", "[endpoint.a]\nsecrets = [{ env = \"B\" }]", &["secrets"]),
            ("[daemon]\nlisten = \"off\"", "[daemon]\n", &["daemon.listen"]),
        ] {
            assert_eq!(changed(old, new), keys, "{old}\n{new}");
        }
    }

    #[test]
    fn what_counts_from_the_next_start_on_stays_as_it_was() {
        let old = of("[daemon]\nlisten = \"off\"\nheartbeat.every = \"1h\"\n[network]\nper-host = 2");
        let mut new = of("[daemon]\nmemory = \"1MiB\"\nheartbeat.every = \"2h\"\n[network]\nper-host = 3");
        new.keep_started(&old);
        assert_eq!(differing(&old.settings, &new.settings), ["daemon.heartbeat.every", "network.per-host"]);
    }
}
