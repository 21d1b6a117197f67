//! The keys of bridges.toml as rows for people: the tables of `docs/reference.md`, and the man page bridges.toml(5).

use std::collections::BTreeMap;

use crate::{
    config,
    settings::key::{Absent, Declared, Family, Rule, Shape},
};

/// A key, by its way from the table that a section is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    /// Markdown: what counts where the key is absent.
    pub absent: String,
    /// Markdown, in one line.
    pub text: String,
}

/// A part of the reference: some tables, each with what stands before its keys.
#[derive(Debug)]
pub struct Section {
    pub title: &'static str,
    tables: &'static [(&'static str, &'static str)],
    /// A source that this one is like: what they share is named only.
    like: Option<&'static str>,
}

const fn section(title: &'static str, tables: &'static [(&'static str, &'static str)]) -> Section {
    Section { title, tables, like: None }
}

const fn like_http(title: &'static str, tables: &'static [(&'static str, &'static str)]) -> Section {
    Section { title, tables, like: Some("http") }
}

/// All keys, in the order of the reference.
pub static SECTIONS: [Section; 15] = [
    section(
        "[daemon], [store.sled], [network], [log]",
        &[("daemon.", "daemon"), ("store.", "store"), ("network.", "network"), ("log.", "log")],
    ),
    section("[bridge.NAME]", &[("", "bridge")]),
    section("source.http", &[("", "http")]),
    like_http("source.graphql", &[("", "graphql")]),
    like_http("source.soap", &[("", "soap")]),
    like_http("source.grpc", &[("", "grpc")]),
    like_http("source.websocket", &[("", "websocket")]),
    like_http("source.sse", &[("", "sse")]),
    section("source.command", &[("", "command")]),
    section("each", &[("", "each")]),
    section("auth", &[("auth.", "auth")]),
    section("auth.session", &[("", "session")]),
    section("decode", &[("decode.", "decode_kinds")]),
    section("since", &[("", "since")]),
    section("[endpoint.NAME]", &[("", "endpoint")]),
];

impl Section {
    /// Its keys. Tables that have a section of their own are not repeated.
    pub fn rows(&self) -> Vec<Row> {
        let known = families();
        let apart: Vec<&str> = SECTIONS.iter().flat_map(|section| section.tables).map(|(_, name)| *name).collect();
        let like = self.like.and_then(|name| known.get(name).copied());
        let table = |(prefix, name): &(&str, &str)| {
            let family = known.get(name).unwrap_or_else(|| panic!("no table is called {name}"));
            rows(family, prefix, &apart, like)
        };
        self.tables.iter().flat_map(table).collect()
    }
}

/// Every table of the file, by its name.
pub fn families() -> BTreeMap<&'static str, &'static Family> {
    let mut found = BTreeMap::new();
    let mut left = vec![config::FILE];
    while let Some(family) = left.pop() {
        if found.insert(family.name, family).is_none() {
            left.extend(family.all().flat_map(|key| tables(&key.shape())));
            left.extend(family.with);
        }
    }
    found
}

/// The tables that a value may be.
fn tables(shape: &Shape) -> Vec<&'static Family> {
    match shape {
        Shape::Table(family) | Shape::Entities(family) | Shape::Defaults(family, _) => vec![family],
        Shape::List(of) | Shape::Some(of) | Shape::Named(of) | Shape::SomeNamed(of) => tables(of),
        Shape::OneOf(all) => all.iter().flat_map(tables).collect(),
        _ => Vec::new(),
    }
}

/// The rows of a table's keys, and of the tables within it, except those of other sections. What it shares with `like` is named in
/// one row.
fn rows(family: &'static Family, prefix: &str, sections: &[&str], like: Option<&'static Family>) -> Vec<Row> {
    let is_shared = |with: &&'static Family| like.is_some_and(|like| has(like, with));
    let (shared, own): (Vec<&'static Family>, Vec<&'static Family>) = family.shared().into_iter().partition(is_shared);
    let keys = family.keys.iter().chain(own.iter().flat_map(|family| family.keys));
    let mut rows = below(keys.copied(), prefix, sections, matches!(family.rule, Rule::Kind));
    if let (Some(like), false) = (like, shared.is_empty()) {
        let names: Vec<String> =
            shared.iter().flat_map(|family| family.keys).map(|key| format!("`{}`", key.name())).collect();
        let text = format!("{}, as in {}", names.join(", "), like.name);
        rows.push(Row { key: "others".into(), absent: String::new(), text });
    }
    rows
}

fn has(family: &'static Family, with: &'static Family) -> bool {
    family.shared().into_iter().any(|shared| std::ptr::eq(shared, with))
}

fn below(
    keys: impl Iterator<Item = &'static dyn Declared>,
    prefix: &str,
    sections: &[&str],
    are_kinds: bool,
) -> Vec<Row> {
    let (mut rows, mut shared): (Vec<Row>, Vec<&'static Family>) = (Vec::new(), Vec::new());
    for key in keys {
        let name = format!("{prefix}{}", key.name());
        rows.push(Row { key: name.clone(), absent: absent(key), text: line(key.doc()) + &values(&key.shape()) });
        let within =
            tables(&key.shape()).into_iter().filter(|table| !sections.contains(&table.name) && !is_value(table));
        for table in within {
            let inner = format!("{name}.");
            let kinds = matches!(table.rule, Rule::Kind);
            if are_kinds {
                rows.extend(below(table.keys.iter().copied(), &inner, sections, kinds));
                for with in table.shared() {
                    if !shared.iter().any(|known| std::ptr::eq(*known, with)) {
                        shared.push(with);
                    }
                }
            } else {
                rows.extend(below(table.all(), &inner, sections, kinds));
            }
        }
    }
    for family in shared {
        rows.extend(below(family.keys.iter().copied(), &format!("{prefix}KIND."), sections, false));
    }
    rows
}

/// Which values there are, where that is not plain from a key's text.
fn values(shape: &Shape) -> String {
    match shape {
        Shape::Whole(from, to) => format!(" From {from} to {to}."),
        Shape::Share => " From 0 to 1.".into(),
        Shape::Words(words) if words.len() > 1 => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            format!(" One of {}.", words.join(", "))
        }
        _ => String::new(),
    }
}

/// Tables that are one value: the reference explains them once.
fn is_value(family: &Family) -> bool {
    ["secret", "signing_secret", "made", "made_words"].contains(&family.name)
}

fn absent(key: &dyn Declared) -> String {
    match key.absent() {
        Absent::Required => "required".into(),
        Absent::Default(value) => format!("`{}`", value.to_string().replace("\",\"", "\", \"")),
        Absent::Said(text) => text.into(),
    }
}

/// The lines of a comment as one.
pub fn line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As `line`, without links and backquotes: for editors and terminals.
pub fn plain(doc: &str) -> String {
    let text = line(doc);
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').unwrap_or((before, ""));
        out.push_str(before);
        out.push_str(label);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}
