//! `bellpull schema config` describes bridges.toml to editors: what the loader takes fits it, and a key that the loader does not
//! know does not.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bellpull::config::{self, Secrets};
use jsonschema::Validator;
use serde_json::Value as Json;

use crate::support::daemon::run;

fn schema() -> Json {
    let ran = run(&["schema", "config"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    serde_json::from_str(&ran.out).expect("JSON")
}

fn validator() -> Validator {
    jsonschema::draft7::options().should_validate_formats(true).build(&schema()).expect("a schema of draft 7")
}

/// As an editor's validator sees a file: dates are strings.
fn to_json(value: toml::Value) -> Json {
    match value {
        toml::Value::Datetime(date) => Json::String(date.to_string()),
        toml::Value::Array(list) => list.into_iter().map(to_json).collect(),
        toml::Value::Table(table) => Json::Object(table.into_iter().map(|(k, v)| (k, to_json(v))).collect()),
        other => serde_json::to_value(other).expect("a scalar"),
    }
}

/// `None` for what is no TOML.
fn read(file: &Path) -> Option<Json> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    toml::from_str::<toml::Table>(&text).ok().map(|table| to_json(toml::Value::Table(table)))
}

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let all = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let all = all.map(|entry| entry.expect("readable").path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    all.sort();
    all
}

/// What is wrong, by its place.
fn errors(validator: &Validator, file: &Json) -> BTreeSet<String> {
    validator.iter_errors(file).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_is_one_of_its_draft() {
    let schema = schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    jsonschema::meta::validate(&schema).expect("it keeps to its meta-schema");
}

#[test]
fn right_files_fit() {
    let validator = validator();
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/package/bridges.toml");
    let config = config::load(&packaged, Secrets::Read).expect("what a package installs is right");
    assert!(config.bridges.is_empty(), "and polls nothing");
    let warnings: Vec<&str> = config.warnings.iter().map(|found| found.message.as_str()).collect();
    assert!(matches!(warnings.as_slice(), [one] if one.contains("conf.d/*.toml")), "its folder is empty: {warnings:?}");
    let mut all = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("bridges.toml"), packaged];
    for dir in ["tests/config/good", "tests/config/good/conf.d", "src/recipes"] {
        all.extend(files(dir));
    }
    assert!(all.len() >= 40, "{} files", all.len());
    for file in all {
        let found = errors(&validator, &read(&file).expect("TOML"));
        assert!(found.is_empty(), "{}: {found:#?}", file.display());
    }
}

/// Where a table stands, as the loader names it: `[bridge.orders.to[1]]`, or `the file`.
fn pointer(title: &str) -> String {
    let path = title.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or_default();
    path.split(['.', '[']).filter(|p| !p.is_empty()).map(|part| format!("/{}", part.trim_end_matches(']'))).collect()
}

/// An error is one of this very key if it goes with the key.
#[test]
fn keys_that_the_loader_does_not_know_are_refused() {
    let validator = validator();
    let mut seen = 0;
    for file in files("tests/config/bad") {
        let failed = config::load(&file, Secrets::FormOnly).expect_err("it is wrong");
        for found in &failed.0 {
            let Some((key, title)) =
                found.message.strip_prefix("unknown key `").and_then(|rest| rest.split_once("` in "))
            else {
                continue;
            };
            let Some(mut file) = read(&found.file) else { continue };
            let whole = errors(&validator, &file);
            let place = pointer(title);
            let table = file.pointer_mut(&place).and_then(Json::as_object_mut);
            let table = table.unwrap_or_else(|| panic!("{}: no {place}", found.text));
            table.remove(key).unwrap_or_else(|| panic!("{}: no {key} in {place}", found.text));
            assert!(
                !whole.is_subset(&errors(&validator, &file)),
                "the schema knows what the loader does not: {}",
                found.text
            );
            seen += 1;
        }
    }
    assert!(seen >= 18, "{seen} unknown keys");
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    let validator = validator();
    for (text, place) in [
        ("daemon.polls-in-flight = 0", "/daemon/polls-in-flight"),
        ("daemon.memory = \"512MB\"", "/daemon/memory"),
        ("log.level = \"loud\"", "/log/level"),
        ("bridge.orders.every = \"5 minutes\"\nbridge.orders.source.http = {}", "/bridge/orders/every"),
        ("bridge.orders.every = \"5m\"", "/bridge/orders"),
        ("bridge.orders.source = { http = {}, soap = { url = \"\", body = \"\" } }", "/bridge/orders/source"),
        ("bridge.bellpull.source.http = {}", "/bridge"),
        ("bridge.orders = { source.http = {}, items = \".[]\" }", "/bridge/orders"),
        ("bridge.orders.source.http.pages.link.max = \"10\"", "/bridge/orders/source/http/pages/link/max"),
        ("endpoint.me.sign = {}", "/endpoint/me/sign"),
        ("endpoint.me.sign.standard.secrets = [\"whsec_x\"]", "/endpoint/me/sign/standard/secrets/0"),
        ("endpoint.me.rate = \"10\"", "/endpoint/me/rate"),
        ("endpoint.me.url = { env = \"A\", file = \"b\" }", "/endpoint/me/url"),
        ("defaults.bridge.items = \".[]\"", "/defaults/bridge"),
        ("defaults.http.timeout = 30", "/defaults/http/timeout"),
    ] {
        let file = to_json(toml::Value::Table(toml::from_str(text).expect("TOML")));
        let places: BTreeSet<String> = validator.iter_errors(&file).map(|e| e.instance_path().to_string()).collect();
        assert_eq!(places, BTreeSet::from([place.to_owned()]), "{text}");
    }
}
