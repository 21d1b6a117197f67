//! What another file would do to what runs, for a look before a reload. Pure: `plan` of the command line shows it, and nothing is
//! changed by it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Bridge, Config, DefinitionChanged, Keys,
    plan::{changes, judge_removed},
    written::{differing, needs_restart},
};
use crate::model::{Hash, Name};

/// What runs. Where no daemon does, what the store knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Running {
    /// What the daemon's files say; absent where none runs.
    pub outline: Option<Outline>,
    /// Snapshots. Those of members count for their bridge.
    pub bridges: BTreeMap<String, Snapshot>,
    pub endpoints: BTreeMap<String, Queue>,
}

/// A configuration by the keys of its files, without a value of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outline {
    pub bridges: BTreeMap<String, Part>,
    pub endpoints: BTreeMap<String, Part>,
    /// Of `daemon`, `store`, `network` and `log`.
    #[schemars(with = "Vec<(String, u64)>")]
    pub settings: Keys,
}

/// A bridge or an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    pub enabled: bool,
    #[schemars(with = "Vec<(String, u64)>")]
    pub keys: Keys,
    /// Of a bridge: the hash of all that its snapshot depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub definition: Option<Hash>,
}

/// What is stored of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Absent before the first commit.
    pub records: Option<u64>,
    pub members: u64,
    /// Under which the snapshot was taken.
    #[schemars(with = "Option<String>")]
    pub definition: Option<Hash>,
    /// The bridge left the file.
    pub removed: bool,
}

/// What is stored of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    pub waiting: u64,
    pub dead: u64,
    /// The endpoint left the file.
    pub removed: bool,
}

impl Outline {
    /// Parses the files: not for an async thread.
    pub fn of(config: &Config) -> Self {
        let written = config.written();
        let keys = |of: &BTreeMap<Name, Keys>, name: &Name| of.get(name).cloned().unwrap_or_default();
        let bridge = |(name, bridge): (&Name, &Arc<Bridge>)| {
            let definition = Some(bridge.fingerprint().hash());
            let keys = keys(&written.bridges, name);
            (name.to_string(), Part { enabled: bridge.enabled, keys, definition })
        };
        let endpoint = |(name, endpoint): (&Name, &Arc<super::Endpoint>)| {
            let keys = keys(&written.endpoints, name);
            (name.to_string(), Part { enabled: endpoint.enabled, keys, definition: None })
        };
        Self {
            bridges: config.bridges.iter().map(bridge).collect(),
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            settings: written.settings.clone(),
        }
    }
}

/// All that would change.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Preview {
    pub bridges: Vec<OfBridge>,
    pub endpoints: Vec<OfEndpoint>,
    /// Settings that a reload takes.
    pub reloaded: Vec<String>,
    /// Settings that count from the next start on.
    pub restart: Vec<String>,
    /// Why a reload would refuse the file.
    pub refused: Option<String>,
    /// Whether a daemon was asked; without one only names, definitions and queues are known.
    pub running: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    Added,
    Removed,
    Renamed,
    Enabled,
    Disabled,
    /// The definition is another one: the next answer is compared with the snapshot under it.
    ComparedAgain,
    /// Something else, such as limits or receivers.
    Changed,
}

/// One bridge that would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfBridge {
    pub name: String,
    /// The first is the one that counts.
    pub edits: Vec<Edit>,
    pub was: Option<String>,
    /// Keys that differ; secrets and files that a key names are not looked into.
    pub keys: Vec<String>,
    /// Of the snapshot; absent where there is none.
    pub records: Option<u64>,
    pub members: u64,
    /// What becomes of the snapshot, and what follows.
    pub means: String,
}

/// One endpoint that would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfEndpoint {
    pub name: String,
    pub edits: Vec<Edit>,
    pub was: Option<String>,
    pub keys: Vec<String>,
    pub waiting: u64,
    pub dead: u64,
    /// What becomes of the queue.
    pub means: String,
}

/// What `new` would change of what runs.
pub fn preview(running: &Running, new: &Config) -> Preview {
    let wanted = Outline::of(new);
    let old = running.outline.clone().unwrap_or_else(|| stored(running, new, &wanted));
    let mut preview = Preview { running: running.outline.is_some(), ..Preview::default() };
    let (before, after) = (named(&old.bridges), named(&wanted.bridges));
    let found = changes(&before, &after, |part| was(part, |name| new.bridges.get(name)?.was.as_ref()));
    let removed = found.removed.len();
    for (edit, was, name) in listed(found) {
        preview.bridges.push(of_bridge(running, new, (&old, &wanted), (edit, was, name)));
    }
    let (before, after) = (named(&old.endpoints), named(&wanted.endpoints));
    let found = changes(&before, &after, |part| was(part, |name| new.endpoints.get(name)?.was.as_ref()));
    for (edit, was, name) in listed(found) {
        preview.endpoints.push(of_endpoint(running, (&old, &wanted), (edit, was, name)));
    }
    if running.outline.is_some() {
        let settings = differing(&old.settings, &wanted.settings);
        (preview.restart, preview.reloaded) = settings.into_iter().partition(|key| needs_restart(key));
        let judged = judge_removed(removed, old.bridges.len(), new.daemon.reload_removes);
        preview.refused = judged.err().map(|refused| refused.to_string());
    }
    preview
}

/// A part with its name, which says what it `was`.
type Named<'p> = BTreeMap<Name, (&'p str, &'p Part)>;

fn named(parts: &BTreeMap<String, Part>) -> Named<'_> {
    parts.iter().map(|(name, part)| (name.as_str().into(), (name.as_str(), part))).collect()
}

fn was<'n>(part: &(&str, &Part), of: impl Fn(&str) -> Option<&'n Name>) -> Option<&'n Name> {
    of(part.0)
}

/// Each name with what happens to it, in the order of names.
fn listed(found: super::plan::Changes) -> Vec<(Edit, Option<Name>, Name)> {
    let of = |names: Vec<Name>, edit: Edit| names.into_iter().map(move |name| (edit, None, name));
    let mut all: Vec<_> = of(found.added, Edit::Added)
        .chain(of(found.removed, Edit::Removed))
        .chain(of(found.changed, Edit::Changed))
        .chain(found.renamed.into_iter().map(|(from, to)| (Edit::Renamed, Some(from), to)))
        .collect();
    all.sort_by(|a, b| a.2.cmp(&b.2));
    all
}

/// What the store knows, as far as it can be told from `wanted`: the rest is taken to be the same.
fn stored(running: &Running, new: &Config, wanted: &Outline) -> Outline {
    let mut old = Outline { settings: wanted.settings.clone(), ..Outline::default() };
    let heirs: BTreeMap<&str, &Arc<Bridge>> =
        new.bridges.values().filter_map(|bridge| Some((bridge.was.as_deref()?, bridge))).collect();
    for (name, snapshot) in running.bridges.iter().filter(|(_, snapshot)| !snapshot.removed) {
        let bridge = new.bridges.get(name.as_str()).or_else(|| heirs.get(name.as_str()).copied());
        let mut part = bridge.and_then(|bridge| wanted.bridges.get(&*bridge.name)).cloned().unwrap_or_default();
        let by_0_1 = bridge.map(|bridge| bridge.fingerprint_0_1());
        if snapshot.definition.is_some() && snapshot.definition != by_0_1 {
            part.definition = snapshot.definition;
        }
        old.bridges.insert(name.clone(), part);
    }
    let is_stored = |name: &str| running.endpoints.get(name).is_some_and(|queue| !queue.removed);
    for (name, queue) in &running.endpoints {
        let heir = new.endpoints.values().find(|endpoint| endpoint.was.as_deref() == Some(name));
        let part = wanted.endpoints.get(name).or_else(|| wanted.endpoints.get(&*heir?.name));
        if !queue.removed {
            old.endpoints.insert(name.clone(), part.cloned().unwrap_or_default());
        }
    }
    // An endpoint that was never sent anything is not stored: that it is new is not known.
    for (name, part) in &wanted.endpoints {
        let was = new.endpoints.get(name.as_str()).and_then(|endpoint| endpoint.was.as_deref());
        if !was.is_some_and(is_stored) {
            old.endpoints.entry(name.clone()).or_insert_with(|| part.clone());
        }
    }
    old
}

/// What is done to a part, the most of it first, and the keys that differ. `again`: its snapshot is of another definition.
fn compare(edit: Edit, old: Option<&Part>, new: Option<&Part>, again: bool) -> (Vec<Edit>, Vec<String>) {
    let mut edits = if edit == Edit::Changed { Vec::new() } else { vec![edit] };
    let (Some(old), Some(new)) = (old, new) else {
        edits.extend(again.then_some(Edit::ComparedAgain));
        return (edits, Vec::new());
    };
    let keys = differing(&old.keys, &new.keys);
    match (old.enabled, new.enabled) {
        (true, false) => edits.push(Edit::Disabled),
        (false, true) => edits.push(Edit::Enabled),
        _ => {}
    }
    if again {
        edits.push(Edit::ComparedAgain);
    } else if edits.is_empty() || keys.iter().any(|key| key != "enabled" && key != "was") {
        edits.push(Edit::Changed);
    }
    (edits, keys)
}

fn of_bridge(
    running: &Running,
    new: &Config,
    (old, wanted): (&Outline, &Outline),
    (edit, was, name): (Edit, Option<Name>, Name),
) -> OfBridge {
    let name = name.to_string();
    let was = was.map(|was| was.to_string());
    let before = was.as_ref().unwrap_or(&name);
    let own = running.bridges.get(&name).cloned().unwrap_or_default();
    let moved = running.bridges.get(before).cloned().unwrap_or_default();
    // A bridge that already has a snapshot keeps its own.
    let keeps_own = was.is_some() && own.records.is_some();
    let kept = if keeps_own { own } else { moved };
    let (from, to) = (old.bridges.get(before), wanted.bridges.get(&name));
    let bridge = new.bridges.get(name.as_str());
    // The snapshot counts; of members, and before the first answer, there is only what the files say.
    let again = bridge.is_some_and(|bridge| match kept.definition {
        Some(taken) => to.and_then(|to| to.definition) != Some(taken) && bridge.fingerprint_0_1() != taken,
        None => from.zip(to).is_some_and(|(from, to)| from.definition != to.definition),
    });
    let (edits, keys) = compare(edit, from, to, again);
    let rebaselines = bridge.is_some_and(|bridge| bridge.definition_changed == DefinitionChanged::Rebaseline);
    let means = of_snapshot(&edits, was.as_deref(), &kept, keeps_own, rebaselines);
    OfBridge { name, edits, was, keys, records: kept.records, members: kept.members, means }
}

/// What becomes of a snapshot.
fn of_snapshot(edits: &[Edit], was: Option<&str>, kept: &Snapshot, keeps_own: bool, rebaselines: bool) -> String {
    let records = match (kept.records, kept.members) {
        (None, _) => None,
        (Some(records), 0) => Some(count(records, "record")),
        (Some(records), members) => Some(format!("{} of {}", count(records, "record"), count(members, "member"))),
    };
    let mut parts: Vec<String> = Vec::new();
    for edit in edits {
        parts.push(match (edit, &records) {
            (Edit::Added, None) => "its first answer is read as `first-poll` says".into(),
            (Edit::Added, Some(records)) => format!("it left the file before, and has its snapshot again ({records})"),
            (Edit::Removed, None) => "it has no snapshot".into(),
            (Edit::Removed, Some(records)) => {
                format!("its snapshot ({records}) is kept for 30 days; no record counts as deleted")
            }
            (Edit::Renamed, None) => "it has no snapshot".into(),
            (Edit::Renamed, Some(records)) if keeps_own => {
                format!("it keeps the snapshot of its own ({records}), and that of {} stays", was.unwrap_or_default())
            }
            (Edit::Renamed, Some(records)) => format!("it takes over snapshot and sequence ({records})"),
            (Edit::Disabled, None) => "it is not polled".into(),
            (Edit::Disabled, Some(records)) => format!("it is not polled, and keeps its snapshot ({records})"),
            (Edit::Enabled, _) => "it is polled".into(),
            (Edit::ComparedAgain, None) => "it has no snapshot to compare with yet".into(),
            (Edit::ComparedAgain, Some(records)) if rebaselines => {
                format!("its next answer replaces its snapshot ({records}) without events")
            }
            (Edit::ComparedAgain, Some(records)) => {
                format!("its next answer is compared with its snapshot ({records}) under `guard.definition`")
            }
            (Edit::Changed, None) => "it goes on".into(),
            (Edit::Changed, Some(records)) => format!("it goes on with its snapshot ({records})"),
        });
    }
    parts.join("; ")
}

fn of_endpoint(
    running: &Running,
    (old, wanted): (&Outline, &Outline),
    (edit, was, name): (Edit, Option<Name>, Name),
) -> OfEndpoint {
    let name = name.to_string();
    let was = was.map(|was| was.to_string());
    let before = was.as_ref().unwrap_or(&name);
    let (edits, keys) = compare(edit, old.endpoints.get(before), wanted.endpoints.get(&name), false);
    let Queue { waiting, dead, .. } = running.endpoints.get(before).cloned().unwrap_or_default();
    let queue = match (waiting, dead) {
        (0, 0) => "nothing waits".to_owned(),
        (waiting, 0) => count(waiting, "event") + " waiting",
        (waiting, dead) => format!("{} waiting, {dead} dead", count(waiting, "event")),
    };
    let mean = |edit: &Edit| match edit {
        Edit::Added if waiting + dead == 0 => "it gets what is detected from now on".to_owned(),
        Edit::Added => format!("it left the file before, and has its queue again ({queue})"),
        Edit::Removed if waiting + dead == 0 => "nothing waits".to_owned(),
        Edit::Removed => format!("its queue ({queue}) is not sent: it is kept for 30 days, and dropped then"),
        Edit::Renamed => format!("it takes over the queue ({queue})"),
        Edit::Disabled => format!("it is sent nothing, and its queue stays ({queue})"),
        Edit::Enabled => format!("it is sent its queue ({queue})"),
        Edit::ComparedAgain | Edit::Changed => format!("its queue stays ({queue})"),
    };
    let means = edits.iter().map(mean).collect::<Vec<_>>().join("; ");
    OfEndpoint { name, edits, was, keys, waiting, dead, means }
}

fn count(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl Preview {
    pub fn is_empty(&self) -> bool {
        self.bridges.is_empty() && self.endpoints.is_empty() && self.reloaded.is_empty() && self.restart.is_empty()
    }

    /// How often each edit comes, of bridges and of endpoints.
    pub fn counts(&self) -> [BTreeMap<Edit, usize>; 2] {
        let count = |all: &mut dyn Iterator<Item = Option<&Edit>>| {
            let mut counts = BTreeMap::new();
            all.flatten().for_each(|edit| *counts.entry(*edit).or_default() += 1);
            counts
        };
        [
            count(&mut self.bridges.iter().map(|bridge| bridge.edits.first())),
            count(&mut self.endpoints.iter().map(|endpoint| endpoint.edits.first())),
        ]
    }
}

impl Edit {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Renamed => "renamed",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::ComparedAgain => "compared again",
            Self::Changed => "changed",
        }
    }
}

impl fmt::Display for Preview {
    /// A line for each name, and the counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for OfBridge { name, edits, was, keys, means, .. } in &self.bridges {
            line(f, &format!("bridge {name}"), edits, was.as_deref(), keys, means)?;
        }
        for OfEndpoint { name, edits, was, keys, means, .. } in &self.endpoints {
            line(f, &format!("endpoint {name}"), edits, was.as_deref(), keys, means)?;
        }
        for (keys, means) in [
            (&self.reloaded, "counts from the reload on"),
            (&self.restart, "counts from the next start on: restart the daemon"),
        ] {
            keys.iter().try_for_each(|key| writeln!(f, "{key}: {means}"))?;
        }
        if let Some(refused) = &self.refused {
            writeln!(f, "a reload would be refused: {refused}")?;
        }
        if !self.running {
            writeln!(
                f,
                "no daemon runs: this is compared with the store, which knows names, definitions and queues only"
            )?;
        }
        if self.is_empty() {
            return writeln!(f, "nothing changes");
        }
        let settings = self.reloaded.len() + self.restart.len();
        let [bridges, endpoints] = self.counts().map(|counts| {
            let counts: Vec<String> = counts.iter().map(|(edit, count)| format!("{count} {}", edit.word())).collect();
            if counts.is_empty() { "no change".to_owned() } else { counts.join(", ") }
        });
        writeln!(f, "bridges: {bridges}; endpoints: {endpoints}; settings: {settings} changed")
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    edits: &[Edit],
    was: Option<&str>,
    keys: &[String],
    means: &str,
) -> fmt::Result {
    let words: Vec<&str> = edits.iter().map(|edit| edit.word()).collect();
    write!(f, "{what}: {}", words.join(", "))?;
    if let Some(was) = was {
        write!(f, ", was {was}")?;
    }
    if !keys.is_empty() {
        write!(f, " ({})", keys.join(", "))?;
    }
    writeln!(f, ": {means}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Secrets, load_text};

    const BRIDGE: &str = "every = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\n\
        source.http.url = \"https://api.example.com/items\"\n";
    const ME: &str = "[endpoint.me]\nurl = \"https://app.example.com/me\"\n";
    const OPS: &str = "[endpoint.ops]\nurl = \"https://app.example.com/ops\"\n";

    fn bridge(name: &str, text: &str) -> String {
        format!("[bridge.{name}]\n{text}")
    }

    fn config(text: &str) -> Config {
        load_text(Path::new("bridges.toml"), text.to_owned(), Secrets::FormOnly)
            .unwrap_or_else(|failed| panic!("{failed}\n{text}"))
    }

    fn snapshot(config: &Config, name: &str, records: u64) -> Snapshot {
        let definition = config.bridges.get(name).map(|bridge| bridge.fingerprint().hash());
        Snapshot { records: Some(records), members: 0, definition, removed: false }
    }

    /// A daemon that runs a text; each bridge of it has 12 records, and for `ops` 7 events wait.
    fn running(text: &str) -> Running {
        let config = config(text);
        let snapshots = config.bridges.keys().map(|name| (name.to_string(), snapshot(&config, name, 12)));
        let ops = Queue { waiting: 7, dead: 2, removed: false };
        let endpoints = config
            .endpoints
            .keys()
            .map(|name| (name.to_string(), if &**name == "ops" { ops.clone() } else { Queue::default() }));
        Running { bridges: snapshots.collect(), endpoints: endpoints.collect(), outline: Some(Outline::of(&config)) }
    }

    #[test]
    fn each_kind_of_edit_is_named_in_a_line() {
        let old = bridge("a", BRIDGE) + ME + OPS;
        let with = |line: &str| bridge("a", &format!("{line}\n{BRIDGE}")) + ME + OPS;
        for (new, line) in [
            (
                bridge("b", BRIDGE) + &old,
                "bridge b: added: its first answer is read as `first-poll` says\n\
                 bridges: 1 added; endpoints: no change; settings: 0 changed\n",
            ),
            (
                ME.to_owned() + OPS,
                "bridge a: removed: its snapshot (12 records) is kept for 30 days; no record counts as deleted\n",
            ),
            (
                old.replace("[bridge.a]", "[bridge.b]\nwas = \"a\""),
                "bridge b: renamed, was a (was): it takes over snapshot and sequence (12 records)\n",
            ),
            (
                with("enabled = false"),
                "bridge a: disabled (enabled): it is not polled, and keeps its snapshot (12 records)\n",
            ),
            (
                old.replace("/items", "/orders"),
                "bridge a: compared again (source.http.url): its next answer is compared with its snapshot (12 records) \
                 under `guard.definition`\n",
            ),
            (
                with("definition-changed = \"rebaseline\"\nignore = [\".at\"]"),
                "bridge a: compared again (definition-changed, ignore): its next answer replaces its snapshot (12 records) \
                 without events\n",
            ),
            (old.replace("1h", "2h"), "bridge a: changed (every): it goes on with its snapshot (12 records)\n"),
            (
                old.replace("[\"me\"]", "[\"me\", \"ops\"]"),
                "bridge a: changed (to): it goes on with its snapshot (12 records)\n",
            ),
            (
                old.clone() + "[endpoint.new]\nurl = \"https://app.example.com/new\"\n",
                "endpoint new: added: it gets what is detected from now on\n",
            ),
            (
                bridge("a", BRIDGE) + ME,
                "endpoint ops: removed: its queue (7 events waiting, 2 dead) is not sent: it is kept for 30 days, and \
                 dropped then\n",
            ),
            (
                old.replace("[endpoint.ops]", "[endpoint.alarm]\nwas = \"ops\""),
                "endpoint alarm: renamed, was ops (was): it takes over the queue (7 events waiting, 2 dead)\n",
            ),
            (
                old.replace("[endpoint.ops]", "[endpoint.ops]\ntimeout = \"3s\""),
                "endpoint ops: changed (timeout): its queue stays (7 events waiting, 2 dead)\n",
            ),
            (
                old.replace("[endpoint.ops]", "[endpoint.ops]\nenabled = false"),
                "endpoint ops: disabled (enabled): it is sent nothing, and its queue stays (7 events waiting, 2 dead)\n",
            ),
            (
                format!("{old}[daemon]\nlisten = \"off\"\n"),
                "daemon.listen: counts from the next start on: restart the daemon\n",
            ),
            (format!("{old}[network]\nper-host = 2\n"), "network.per-host: counts from the reload on\n"),
        ] {
            let told = preview(&running(&old), &config(&new)).to_string();
            assert!(told.starts_with(line), "{told}\nis not\n{line}");
            let rest = told.trim_start_matches(line);
            assert!(rest.lines().count() <= 1, "{told}");
            // Backwards it is an edit, too, and of nothing else; without `was` a name goes and another one comes.
            let back = preview(&running(&new), &config(&old));
            let lines = if new.contains("was = ") { 3 } else { 2 };
            assert!(!back.is_empty() && back.to_string().lines().count() == lines, "{back}");
        }
        // An edit that is taken back before it was polled with: the snapshot is of this definition.
        let edited = Running { bridges: running(&old).bridges, ..running(&old.replace("/items", "/orders")) };
        let back = preview(&edited, &config(&old)).to_string();
        assert!(back.starts_with("bridge a: changed (source.http.url): it goes on with its snapshot"), "{back}");
        let same = preview(&running(&old), &config(&format!("# a comment\n{old}")));
        assert!(same.is_empty());
        assert_eq!(same.to_string(), "nothing changes\n");
    }

    #[test]
    fn what_a_reload_would_refuse_is_told() {
        let some = |count: usize| (0..count).map(|n| bridge(&format!("b{n}"), BRIDGE)).collect::<String>() + ME;
        let told = preview(&running(&some(20)), &config(&some(9)));
        assert!(told.refused.as_deref().is_some_and(|why| why.contains("11 of 20 bridges")), "{told}");
        assert!(told.to_string().contains("\na reload would be refused: "), "{told}");
        assert_eq!(preview(&running(&some(20)), &config(&some(10))).refused, None);
        let meant = some(9) + "[daemon.guard]\nreload = 1.0\n";
        assert_eq!(preview(&running(&some(20)), &config(&meant)).refused, None);
    }

    /// Without a daemon: what the store knows is told, and what it does not know is not.
    #[test]
    fn the_store_knows_names_definitions_and_queues() {
        let old = bridge("a", BRIDGE) + ME + OPS;
        let stored = |text: &str| Running { outline: None, ..running(text) };
        for (new, told) in [
            (old.replace("1h", "2h"), None),
            (old.replace("[\"me\"]", "[\"ops\"]"), None),
            (old.replace("/items", "/orders"), Some("bridge a: compared again: its next answer")),
            (bridge("b", BRIDGE) + &old, Some("bridge b: added: ")),
            (ME.to_owned() + OPS, Some("bridge a: removed: its snapshot (12 records)")),
            (old.replace("[bridge.a]", "[bridge.b]\nwas = \"a\""), Some("bridge b: renamed, was a: ")),
            (bridge("a", BRIDGE) + ME, Some("endpoint ops: removed: its queue (7 events waiting, 2 dead)")),
            (
                old.replace("[endpoint.ops]", "[endpoint.alarm]\nwas = \"ops\""),
                Some("endpoint alarm: renamed, was ops: "),
            ),
        ] {
            let found = preview(&stored(&old), &config(&new));
            assert_eq!(found.is_empty(), told.is_none(), "{found}");
            assert!(found.to_string().starts_with(told.unwrap_or("no daemon runs: ")), "{found}");
        }
        // One that comes back has its snapshot again.
        let mut left = stored(&old);
        left.bridges.values_mut().for_each(|snapshot| snapshot.removed = true);
        let back = preview(&left, &config(&old)).to_string();
        assert!(back.starts_with("bridge a: added: it left the file before, and has its snapshot again (12 records)"));
        let edited = preview(&left, &config(&old.replace("/items", "/orders")));
        let edits = edited.bridges.first().map(|bridge| bridge.edits.as_slice());
        assert_eq!(edits, Some(&[Edit::Added, Edit::ComparedAgain][..]));
        // Before the first start all is new.
        let first = preview(&Running::default(), &config(&old));
        assert_eq!(first.bridges.first().map(|bridge| bridge.edits.as_slice()), Some(&[Edit::Added][..]));
    }

    /// Bridges and what is done to each one, by a seed.
    #[test]
    fn whatever_is_edited_together_each_name_has_its_own_edit() {
        for seed in 0_u64..40 {
            let mut state = seed;
            let mut chance = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % 7
            };
            let (mut old, mut new, mut expected) = (String::from(ME), String::from(ME), BTreeMap::new());
            for n in 0..9 {
                let (name, heir) = (format!("b{n}"), format!("c{n}"));
                let text = bridge(&name, BRIDGE);
                let edit = match chance() {
                    0 => None,
                    1 => Some((String::new(), &name, Edit::Removed)),
                    2 => Some((bridge(&heir, &format!("was = \"{name}\"\n{BRIDGE}")), &heir, Edit::Renamed)),
                    3 => Some((bridge(&name, &format!("enabled = false\n{BRIDGE}")), &name, Edit::Disabled)),
                    4 => Some((text.replace(".id", ".sku"), &name, Edit::ComparedAgain)),
                    5 => Some((text.replace("1h", "5m"), &name, Edit::Changed)),
                    _ => Some((text.clone() + &bridge(&heir, BRIDGE), &heir, Edit::Added)),
                };
                old += &text;
                match edit {
                    None => new += &text,
                    Some((after, name, edit)) => {
                        new += &after;
                        expected.insert(name.clone(), edit);
                    }
                }
            }
            let found = preview(&running(&old), &config(&new));
            let told = found.bridges.iter().map(|b| (b.name.clone(), *b.edits.first().expect("an edit")));
            assert_eq!(told.collect::<BTreeMap<_, _>>(), expected, "seed {seed}");
            assert!(found.endpoints.is_empty(), "{found}");
        }
    }

    /// An outline goes over the socket: it holds no value of a file, and comes back as it was.
    #[test]
    fn an_outline_holds_no_value() {
        let text = bridge("a", BRIDGE) + ME + "[endpoint.hook]\nurl.value = \"https://app.example.com/s3cr3t-path\"\n";
        let running = running(&text);
        let sent = serde_json::to_string(&running).expect("JSON");
        assert!(!sent.contains("s3cr3t") && !sent.contains("example.com"), "{sent}");
        assert_eq!(serde_json::from_str::<Running>(&sent).expect("JSON"), running);
    }
}
