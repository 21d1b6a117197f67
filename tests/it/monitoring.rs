//! `systemd/monitoring/` speaks of what bellpull tells: alerts and dashboard name metrics as /metrics does, and leave none out.

use std::{collections::BTreeSet, path::Path};

use bellpull::{
    model::Timestamp,
    pulse::{self, BridgeLabel, BridgeStateLabel, Delivery, EndpointLabel, Poll, PollEnd, Pulse, StateLabel},
};
use serde_json::Value as Json;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/monitoring").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What `/metrics` says. A metric with labels is told only once there is a value.
fn scraped() -> String {
    let pulse = Pulse::new();
    let poll = Poll {
        bridge: "orders".into(),
        outcome: PollEnd::Changed,
        created: 1,
        updated: 0,
        deleted: 0,
        bytes: 1,
        took_ms: 1,
        error: None,
    };
    pulse.polled(poll, None, Timestamp(0));
    pulse.attempted(Delivery {
        endpoint: "me".into(),
        event: "evt_1".to_owned(),
        class: "taken",
        status: Some(200),
        took_ms: 1,
        since_observed: None,
        error: None,
    });
    pulse.reloaded(true);
    pulse.scrape(|gauges| {
        let state = StateLabel { state: "ok".to_owned() };
        gauges.bridges.get_or_create(&state).set(1);
        gauges.bridge_states.get_or_create(&BridgeStateLabel { bridge: "orders".to_owned(), state: "ok" }).set(1);
        gauges.bridge_successes.get_or_create(&BridgeLabel { bridge: "orders".to_owned() }).set(1);
        gauges.endpoints.get_or_create(&state).set(1);
        for family in [&gauges.waiting, &gauges.oldest_seconds, &gauges.dead] {
            family.get_or_create(&EndpointLabel { endpoint: "me".to_owned() }).set(1);
        }
    })
}

/// The names of the series, by metric, as Prometheus stores them.
fn metrics() -> Vec<Vec<String>> {
    let text = scraped();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let series = |(name, kind): (&str, &str)| match kind {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["bucket", "sum", "count"].iter().map(|part| format!("{name}_{part}")).collect(),
        "gauge" => vec![name.to_owned()],
        other => panic!("{name} is a {other}"),
    };
    let told: Vec<Vec<String>> = types.map(series).collect();
    let registered: usize = ["src/pulse.rs", "src/pulse/process.rs"]
        .into_iter()
        .map(|file| {
            let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the source");
            source.lines().filter(|line| line.trim_start().starts_with("r.register")).count()
        })
        .sum();
    assert_eq!(told.len(), registered, "a metric has no value here, and would be looked at by no test: {text}");
    told
}

/// Words that look like a metric's name.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["bellpull_", "process_"].iter().any(|of| word.starts_with(of))).map(str::to_owned).collect()
}

/// An old scraper got OpenMetrics, whatever it asked for, and promtool found counters without a text. What is told in the older
/// format is lint for `promtool check metrics`; verify.sh gives it this text, where `BELLPULL_METRICS` names a file.
#[test]
fn the_older_format_says_the_same() {
    let (open, plain) = (scraped(), pulse::plain(&scraped()));
    if let Some(file) = std::env::var_os("BELLPULL_METRICS") {
        std::fs::write(file, &plain).expect("written");
    }
    let series = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    assert_eq!(series(&open), series(&plain));
    let about = |what: &str| -> BTreeSet<&str> {
        let lines =
            plain.lines().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(what)?.trim().split_once(' '));
        lines.map(|(name, _)| name).collect()
    };
    let helped = about("HELP");
    assert_eq!(helped, about("TYPE"));
    for line in plain.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        assert!(helped.contains(name) || base.is_some_and(|base| helped.contains(base)), "{line}");
    }
    assert!(!plain.contains("# UNIT") && !plain.contains("# EOF"), "{plain}");
    // Buckets are told as they are written, up to a day.
    assert!(
        plain.contains("le=\"0.003\"") && plain.contains("le=\"86400.0\"") && !plain.contains("00000000"),
        "{plain}"
    );
}

fn expressions(dashboard: &Json) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|t| t["expr"].as_str())
        .collect()
}

#[test]
fn what_they_name_is_there() {
    let known: BTreeSet<String> = metrics().into_iter().flatten().collect();
    assert!(known.len() >= 20, "{known:?}");
    for name in ["bellpull.rules.yml", "bellpull.rules.test.yml", "bellpull.json", "README.md"] {
        let unknown: BTreeSet<String> = named(&file(name)).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}, which /metrics has not");
    }
    assert!(!named(&file("bellpull.rules.yml")).is_empty());
}

#[test]
fn the_dashboard_shows_every_metric() {
    let dashboard: Json = serde_json::from_str(&file("bellpull.json")).expect("JSON");
    let shown = named(&expressions(&dashboard).join(" "));
    for series in metrics() {
        assert!(series.iter().any(|name| shown.contains(name)), "no panel shows {series:?}");
    }
}

/// It asks the data source that its user chooses, and its panels have a place each.
#[test]
fn the_dashboard_is_one_for_any_grafana() {
    let dashboard: Json = serde_json::from_str(&file("bellpull.json")).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert!(variables.iter().any(|v| v["type"] == "datasource" && v["name"] == "datasource"));
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(at("x") + at("w") <= 24, "{panel}");
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "two panels at {cell:?}: {panel}");
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(panel["targets"].as_array().is_some_and(|all| !all.is_empty()), "{panel}");
        }
    }
    assert!(ids.len() >= 20);
}

/// promtool runs the tests; here it is that there are some, of both kinds.
#[test]
fn each_alert_is_tested_to_fire_and_not_to() {
    let (rules, tests) = (file("bellpull.rules.yml"), file("bellpull.rules.test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    let lines: Vec<&str> = tests.lines().map(str::trim).collect();
    for alert in alerts {
        let name = format!("alertname: {alert}");
        let expected = lines.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1]);
        let kinds: BTreeSet<&str> = expected.collect();
        assert_eq!(kinds, BTreeSet::from(["exp_alerts:", "exp_alerts: []"]), "{alert}");
    }
}
