//! `bellpull schema config` describes bridges.toml to editors: what the loader takes fits it, a key that the loader does not
//! know does not, and it has every key of docs/reference.md.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bellpull::config::{self, Secrets};
use jsonschema::Validator;
use serde_json::{Value as Json, json};

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
    assert!(config.bridges.is_empty() && config.warnings.is_empty(), "and polls nothing");
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

/// The schemas of a key below others; of several kinds all.
fn find<'s>(schema: &'s Json, nodes: Vec<&'s Json>, key: &str) -> Vec<&'s Json> {
    let mut out = Vec::new();
    for node in nodes.into_iter().flat_map(|node| resolved(schema, node)) {
        let properties = node["properties"].as_object();
        match properties {
            Some(all) if key == "KIND" => out.extend(all.values()),
            Some(all) => out.extend(all.get(key)),
            None => {}
        }
    }
    out
}

/// What a node is in the end, whatever stands for it.
fn resolved<'s>(schema: &'s Json, node: &'s Json) -> Vec<&'s Json> {
    let mut out = vec![node];
    if let Some(pointer) = node["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        out.extend(resolved(schema, schema.pointer(pointer).expect("it is there")));
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        out.extend(node[word].as_array().into_iter().flatten().flat_map(|node| resolved(schema, node)));
    }
    if node["items"].is_object() {
        out.extend(resolved(schema, &node["items"]));
    }
    out
}

/// Of a table's row; a bar in backquotes separates nothing.
fn cells(line: &str) -> Vec<&str> {
    let mut code = false;
    let bar = |c: char| {
        code ^= c == '`';
        c == '|' && !code
    };
    line.trim_start_matches('|').split(bar).map(str::trim).collect()
}

/// Texts in backquotes.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The keys of `{ a, b = "c", d = { e } }`: a, b, d.
fn keys_of_a_table(code: &str) -> Vec<String> {
    let Some(inner) = code.strip_prefix('{').and_then(|c| c.strip_suffix('}')) else { return Vec::new() };
    let (mut depth, mut quoted, mut parts) = (0, false, vec![String::new()]);
    for c in inner.chars() {
        quoted ^= c == '"';
        depth += match c {
            '{' | '[' => 1,
            '}' | ']' => -1,
            _ => 0,
        };
        if c == ',' && depth == 0 && !quoted {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let word = |part: &String| part.split(['=', ' ', '.']).find(|w| !w.is_empty()).map(str::to_owned);
    parts.iter().filter_map(word).collect()
}

/// A row of docs/reference.md: the keys that it names, from a table of the schema on.
struct Row {
    base: &'static str,
    keys: Vec<String>,
}

/// The table of the schema that a heading, or the head of a table, is about.
fn base(heading: &str, head: &str) -> Option<&'static str> {
    Some(match (heading, head) {
        (_, "key of `auth.session`") => "/definitions/auth/properties/session",
        ("## [daemon], [store.sled], [network], [log]", "key") => "",
        ("## [bridge.NAME]", "key") => "/definitions/bridge",
        ("## source.http" | "## auth" | "## decode", "key") => "/definitions/http",
        ("## source.graphql", "key") => "/definitions/graphql",
        ("## source.soap", "key") => "/definitions/soap",
        ("## source.grpc", "key") => "/definitions/grpc",
        ("## source.websocket", "key") => "/definitions/websocket",
        ("## source.command", "key") => "/definitions/command",
        ("## each", "key") => "/definitions/bridge/properties/each",
        ("## since", "key") => "/definitions/bridge/properties/since",
        ("## [endpoint.NAME]", "key") => "/definitions/endpoint",
        (_, "key") => {
            panic!("docs/reference.md has a table of keys under {heading:?}, which no table of the schema is known for")
        }
        _ => return None,
    })
}

fn reference() -> Vec<Row> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let text = std::fs::read_to_string(file).expect("docs/reference.md");
    let (mut rows, mut heading, mut about, mut in_table) = (Vec::new(), "", None, false);
    for line in text.lines() {
        if line.starts_with("##") {
            heading = line;
        }
        let cells = cells(line);
        let head = cells.first().copied().unwrap_or_default();
        let starts = line.starts_with('|') && !in_table;
        in_table = line.starts_with('|');
        if starts {
            about = base(heading, head);
        }
        let (Some(base), true, false) = (about, in_table, starts || head.starts_with("---")) else { continue };
        let more = cells.get(1..).unwrap_or_default();
        if head == "others" {
            let listed = more.concat();
            // What comes after it is no list of keys.
            let listed = listed.split("as in").next().unwrap_or_default();
            rows.extend(codes(listed).into_iter().map(|key| Row { base, keys: vec![key.to_owned()] }));
            continue;
        }
        let named = codes(head);
        assert!(!named.is_empty(), "{line}");
        for key in &named {
            rows.push(Row { base, keys: key.split('.').map(str::to_owned).collect() });
        }
        // The last cell of a decoder is what `items` sees.
        let told = if heading == "## decode" { more.get(..1).unwrap_or_default() } else { more };
        if let [key] = named.as_slice() {
            let tables = told.iter().flat_map(|cell| codes(cell)).flat_map(keys_of_a_table);
            let path = |inner: String| key.split('.').map(str::to_owned).chain([inner]).collect();
            rows.extend(
                tables.filter(|k| !["env", "jq"].contains(&k.as_str())).map(|inner| Row { base, keys: path(inner) }),
            );
        }
    }
    rows
}

#[test]
fn every_key_of_the_reference_is_there() {
    let (schema, rows) = (schema(), reference());
    assert!(rows.len() >= 180, "{} keys", rows.len());
    for row in &rows {
        let start = schema.pointer(row.base).unwrap_or_else(|| panic!("the schema has no {}", row.base));
        let mut nodes = vec![start];
        for key in &row.keys {
            let kinds = nodes.len();
            nodes = find(&schema, nodes, key);
            let whole = key == "KIND" || kinds == 1 || nodes.len() >= kinds;
            assert!(!nodes.is_empty() && whole, "the schema has no `{}` in {:?}", row.keys.join("."), row.base);
        }
    }
}

/// Else the test before would find nothing in what it parses.
#[test]
fn the_reference_is_parsed() {
    assert_eq!(keys_of_a_table("{ url, done = { a, b }, every = \",\" }"), ["url", "done", "every"]);
    let rows: Vec<String> = reference().iter().map(|row| row.keys.join(".")).collect();
    for key in [
        "daemon.memory",
        "to.payload",
        "pages.cursor.next",
        "decode.csv.delimiter",
        "auth.jwt.ttl",
        "inject.cookie",
        "batch.wait",
    ] {
        assert!(rows.iter().any(|row| row == key), "{key} in {rows:?}");
    }
    let schema = schema();
    assert!(find(&schema, vec![&schema["definitions"]["endpoint"]], "no-such-key").is_empty());
    assert_eq!(json!(null), schema["definitions"]["bridge"]["properties"]["no-such-key"]);
}
