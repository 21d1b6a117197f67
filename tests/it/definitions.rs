//! Fingerprints of definitions, which stores keep: none may change by itself, and those that 0.1.0 stored are recognised.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use bellpull::{
    config::{self, Bridge, Config, Each, Secrets},
    model::Hash,
    poller::Polled,
    store::{BridgeState, Loaded},
};
use expect_test::expect_file;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/definitions");

fn read(text: &str) -> Config {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("definitions.toml");
    std::fs::write(&file, text).expect("written");
    config::load(&file, Secrets::Read).unwrap_or_else(|failed| panic!("{failed:?}"))
}

fn text() -> String {
    std::fs::read_to_string(Path::new(DIR).join("definitions.toml")).expect("readable")
}

/// All that are polled, members among them.
fn bridges(config: &Config) -> BTreeMap<String, Bridge> {
    let mut all = BTreeMap::new();
    for (name, bridge) in &config.bridges {
        match &bridge.each {
            None => drop(all.insert(name.to_string(), (**bridge).clone())),
            Some(Each::List(list)) => {
                let (name, member) = bridge.members(list).pop_first().expect("a member");
                all.insert(name.to_string(), (*member).clone());
            }
            Some(Each::Bridge { .. }) => panic!("{name}: a bridge over another one"),
        }
    }
    all
}

/// Hashes of Debug's output: a renamed field made every bridge an edited one, whose mark and held answers were void.
#[test]
fn fingerprints_stay_as_they_are() {
    let mut all = String::new();
    for (name, bridge) in bridges(&read(&text())) {
        let fingerprint = bridge.fingerprint();
        writeln!(all, "# {name}: {}\n{}", fingerprint.hash(), fingerprint.text()).expect("a text");
    }
    assert!(!all.contains("canary"), "a secret is no part of it");
    expect_file![Path::new(DIR).join("fingerprints.txt")].assert_eq(&all);
}

/// What the program of 0.1.0 itself stored for this file.
#[test]
fn those_of_0_1_0_are_recognised() {
    let stored = std::fs::read_to_string(Path::new(DIR).join("0.1.0.txt")).expect("readable");
    let bridges = bridges(&read(&text()));
    let mut seen = 0;
    for (name, hash) in stored.lines().map(|line| line.split_once(' ').expect("a name and a hash")) {
        assert_eq!(bridges[name].fingerprint_0_1().to_string(), hash, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 17);
}

/// What is asked for is part of it; how much of it at a time, how fast, where a secret comes from and who is told are not.
#[test]
fn what_is_asked_is_part_of_it_and_limits_are_not() {
    let of = |from: &str, to: &str| {
        let text = text();
        assert!(text.contains(from), "{from}");
        bridges(&read(&text.replacen(from, to, 1)))["all"].fingerprint().hash()
    };
    let now = of("max = 7", "max = 7");
    for (from, to) in [
        ("max = 7", "max = 999"),
        ("delay = \"1ms\"", "delay = \"2s\""),
        ("{ value = \"canary-secret\" } }\njson", "{ value = \"another-secret\" } }\njson"),
        ("window = true", "window = true\nforget = \"90d\"\nguard.deletes = 0.1\nalert.after = 3"),
        ("accept = [200, 404]", "accept = [200, 404]\ntimeout = \"5s\"\nsize-max = \"1MiB\"\nrate = \"1/s\""),
    ] {
        assert_eq!(of(from, to), now, "{to}");
    }
    for (from, to) in [
        ("list?x=ü", "list?x=u"),
        ("\"POST\"\naccept = [200, 404]", "\"PUT\"\naccept = [200, 404]"),
        ("accept = [200, 404]", "accept = [200]"),
        ("q = \"a b\"", "q = \"a  b\""),
        ("x-plain = \"v\"", "x-plain = \"w\""),
        ("2.5", "2.50001"),
        ("start = 0", "start = 1"),
        ("size = 50", "size = 51"),
        ("end = \"true\"", "end = \"false\""),
        (".id > 0", ".id > 1"),
        ("ignore = [\".at\", \".b.c\"]", "ignore = [\".at\"]"),
        ("unordered = [\".tags\"]", ""),
        ("window = true", ""),
    ] {
        assert_ne!(of(from, to), now, "{to}");
    }
}

/// A feed became a window where the file says nothing: no store of one is an edited bridge's for it. To say `false` is
/// an edit, since the list has to be made of the records again.
#[test]
fn a_feed_without_a_word_about_windows_is_the_same_as_ever() {
    let of = |window: &str| {
        let text = format!(
            "[bridge.a]\nevery = \"1m\"\nitems = \".entries[]\"\nkey = \".id\"\nto = [\"me\"]\n{window}\n\
             source.http = {{ url = \"https://example.com/feed\", decode.feed = {{}} }}\n\
             [endpoint.me]\nurl = \"https://example.com/\"\n"
        );
        bridges(&read(&text))["a"].clone()
    };
    let [unsaid, yes, no] = ["", "window = true", "window = false"].map(of);
    assert!(!unsaid.fingerprint().text().contains("window"), "{}", unsaid.fingerprint().text());
    assert_eq!([&unsaid, &yes, &no].map(Bridge::is_window), [true, true, false]);
    assert_eq!(unsaid.fingerprint_0_1(), no.fingerprint_0_1());
    let hashes: std::collections::BTreeSet<_> = [&unsaid, &yes, &no].map(|bridge| bridge.fingerprint().hash()).into();
    assert_eq!(hashes.len(), 3);
}

/// A store of 0.1.0 under this program: no bridge counts as edited, so marks and validators go on.
#[test]
fn a_snapshot_of_0_1_0_is_of_the_same_definition() {
    for (name, bridge) in bridges(&read(&text())) {
        let (old, new) = (bridge.fingerprint_0_1(), bridge.fingerprint().hash());
        let loaded = |definition| Loaded {
            name: name.as_str().into(),
            state: BridgeState { version: 3, definition, ..BridgeState::default() },
            progress: None,
            held: false,
        };
        let bridge = std::sync::Arc::new(bridge);
        assert_eq!(Polled::new(bridge.clone(), Some(loaded(old)), None).state.definition, new, "{name}");
        let other = Hash::of(b"another definition");
        assert_eq!(Polled::new(bridge, Some(loaded(other)), None).state.definition, other, "{name}");
    }
}
