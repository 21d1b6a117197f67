//! The tables of docs/reference.md are made of the keys that the readers declare.
//!
//! `BELLPULL_REGENERATE=1 cargo nextest run reference` writes them again.

use std::collections::BTreeSet;

use bellpull::{
    schema::reference::{Row, SECTIONS, families},
    settings::key::Absent,
};

/// Opens a table: `<!-- keys of source.http -->`.
const OPENS: &str = "<!-- keys of ";
const CLOSES: &str = "<!-- end of keys -->";

/// The title of a section whose keys follow.
fn marker(line: &str) -> Option<&str> {
    line.strip_prefix(OPENS)?.strip_suffix(" -->")
}

fn table(title: &str) -> String {
    let section = SECTIONS.iter().find(|section| section.title == title);
    let row = |Row { key, absent, text }: Row| {
        let key = if key == "others" { key } else { format!("`{key}`") };
        format!("| {key} | {} | {} |\n", absent.replace('|', "\\|"), text.replace('|', "\\|"))
    };
    let rows = section.unwrap_or_else(|| panic!("no section is called {title}")).rows();
    format!("| key | default | meaning |\n|---|---|---|\n{}", rows.into_iter().map(row).collect::<String>())
}

fn regenerated(text: &str) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for line in text.lines() {
        inside &= line != CLOSES;
        if !inside {
            out.push_str(line);
            out.push('\n');
        }
        if let Some(marker) = marker(line) {
            inside = true;
            out.push('\n');
            out.push_str(&table(marker));
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
    let titles: Vec<&str> = text.lines().filter_map(marker).collect();
    assert_eq!(titles, SECTIONS.iter().map(|section| section.title).collect::<Vec<_>>(), "all of them, in their order");
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
        let names: Vec<&str> = family.all().map(|key| key.name()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{name} has a key twice: {names:?}");
        for key in family.keys {
            let doc = key.doc().trim();
            assert!(doc.ends_with('.'), "`{}` of {name}: {doc:?}", key.name());
            let absent = key.absent();
            assert_ne!(absent, Absent::Default(serde_json::Value::Null), "`{}` of {name}", key.name());
        }
    }
}
