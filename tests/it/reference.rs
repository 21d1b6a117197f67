//! The tables of docs/reference.md are made of the keys that the readers declare.
//!
//! `BELLPULL_REGENERATE=1 cargo nextest run reference` writes them again.

use std::collections::BTreeSet;

use bellpull::{
    schema::reference::{Row, families, rows},
    settings::key::{Absent, Family},
};

/// Opens a table: `<!-- keys daemon.=daemon log.=log -->`, or of a source that is like another `<!-- keys =soap like http -->`.
const OPENS: &str = "<!-- keys ";
const CLOSES: &str = "<!-- end of keys -->";

/// What a marker asks for: the prefixes and tables, and the source that they are like.
fn asked(marker: &str) -> (Vec<(&str, &'static Family)>, Option<&'static Family>) {
    let known = families();
    let table = |name: &str| *known.get(name).unwrap_or_else(|| panic!("no table is called {name}"));
    let (tables, like) =
        marker.split_once(" like ").map_or((marker, None), |(tables, like)| (tables, Some(table(like))));
    let tables = tables.split(' ').map(|one| {
        let (prefix, name) = one.split_once('=').unwrap_or_else(|| panic!("{one:?} is not PREFIX=TABLE"));
        (prefix, table(name))
    });
    (tables.collect(), like)
}

fn marker(line: &str) -> Option<&str> {
    line.strip_prefix(OPENS)?.strip_suffix(" -->")
}

/// Tables that have a section, and are not repeated in others.
fn sections(text: &str) -> Vec<&'static str> {
    text.lines().filter_map(marker).flat_map(|marker| asked(marker).0).map(|(_, family)| family.name).collect()
}

fn table(marker: &str, sections: &[&str]) -> String {
    let (tables, like) = asked(marker);
    let row = |Row { key, absent, text }: Row| {
        let key = if key == "others" { key } else { format!("`{key}`") };
        format!("| {key} | {} | {} |\n", absent.replace('|', "\\|"), text.replace('|', "\\|"))
    };
    let rows = tables.into_iter().flat_map(|(prefix, family)| rows(family, prefix, sections, like));
    format!("| key | default | meaning |\n|---|---|---|\n{}", rows.map(row).collect::<String>())
}

fn regenerated(text: &str) -> String {
    let (sections, mut out, mut inside) = (sections(text), String::new(), false);
    for line in text.lines() {
        inside &= line != CLOSES;
        if !inside {
            out.push_str(line);
            out.push('\n');
        }
        if let Some(marker) = marker(line) {
            inside = true;
            out.push('\n');
            out.push_str(&table(marker, &sections));
            out.push('\n');
        }
    }
    out
}

#[test]
fn the_reference_is_that_of_the_declared_keys() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
    let text = std::fs::read_to_string(file).expect("docs/reference.md");
    let made = regenerated(&text);
    if std::env::var_os("BELLPULL_REGENERATE").is_some() {
        std::fs::write(file, &made).expect("it is ours to write");
    }
    let differs = text.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(
        text == made || std::env::var_os("BELLPULL_REGENERATE").is_some(),
        "docs/reference.md is old: BELLPULL_REGENERATE=1 cargo nextest run reference. First of what differs: {differs:#?}"
    );
}

#[test]
fn every_declared_key_is_in_the_reference() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md")).expect("the reference");
    let rows: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(key, _)| key).collect();
    let mut keys = 0;
    // The reference explains these once, in words.
    let in_words = ["secret", "signing_secret", "made", "made_words", "file", "defaults"];
    for (name, family) in families().into_iter().filter(|(name, _)| !in_words.contains(name)) {
        for key in family.keys {
            let last = |row: &&&str| row.rsplit('.').next() == Some(key.name());
            assert!(rows.iter().any(|row| last(&row)), "`{}` of {name} is not in the reference", key.name());
            keys += 1;
        }
    }
    assert!(keys >= 180, "{keys} keys");
}

/// What a reader does where a key is absent is what the reference says of it.
#[test]
fn keys_are_described() {
    for (name, family) in families() {
        assert!(!family.doc.trim().is_empty(), "{name}");
        for key in family.keys {
            let doc = key.doc().trim();
            assert!(doc.ends_with('.'), "`{}` of {name}: {doc:?}", key.name());
            let absent = key.absent();
            assert_ne!(absent, Absent::Default(serde_json::Value::Null), "`{}` of {name}", key.name());
        }
    }
}
