//! Thirteen states, each with one word wherever it is shown: `status` with the daemon and of the store alone, the API, the page's
//! list of words, and the metrics.

use std::time::{Duration, Instant};

use bellpull::{deliver, poller};
use serde_json::Value as Json;

use crate::support::{
    daemon::Place,
    recorder::Recorder,
    server::{Answer, Request},
};

/// Bridges whose names say how they stand, and endpoints too.
const FILE: &str = r#"
[defaults.bridge]
every = "300ms"
to = ["e-ok", "e-down", "e-failing", "e-refusing"]
first-poll = "emit"
[bridge.b-ok]
source.http.url = "API/one"
[bridge.b-new]
every = "10h"
source.http.url = "API/never"
[bridge.b-failing]
source.http.url = "API/broken"
[bridge.b-held]
source.http.url = "API/emptied"
[bridge.b-paused]
source.http.url = "API/one"
[bridge.b-disabled]
enabled = false
source.http.url = "API/one"
REMOVED
[endpoint.e-ok]
url = "APP/ok"
[endpoint.e-down]
url = "APP/down"
[endpoint.e-failing]
url = "APP/failing"
retry.schedule = ["1h"]
[endpoint.e-refusing]
url = "APP/refusing"
retry.schedule = ["200ms"]
[endpoint.e-disabled]
enabled = false
url = "APP/ok"
"#;

const REMOVED: &str = r#"
[bridge.b-removed]
to = ["e-removed"]
source.http.url = "API/one"
[endpoint.e-removed]
url = "APP/down"
"#;

fn word<'a>(all: &'a Json, kind: &str, name: &str) -> &'a str {
    all[kind][name]["state"].as_str().unwrap_or("absent")
}

/// Names and their words, as an answer has them.
fn words(all: &Json) -> Vec<(String, String)> {
    let of = |kind: &str| {
        let names = all[kind].as_object().expect("a table").keys();
        names.map(|name| (name.clone(), word(all, kind, name).to_owned())).collect::<Vec<_>>()
    };
    [of("bridges"), of("endpoints")].concat()
}

fn eventually(place: &Place, what: &str, expected: &[(&str, &str)]) -> Json {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let now = place.json(&["status"]);
        let shown = words(&now);
        let is = |(name, word): &(&str, &str)| shown.iter().any(|(n, w)| n == name && w == word);
        if expected.iter().all(is) {
            return now;
        }
        assert!(Instant::now() < until, "{what}: {shown:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A paused bridge was `ok`, and a disabled endpoint too, where the store alone was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_has_one_word_wherever_it_is_shown() {
    let (api, app) = (Recorder::start().await, Recorder::start().await);
    let emptied = std::sync::atomic::AtomicUsize::new(0);
    api.answers(move |request: &Request| {
        let emptied = match request.path.as_str() {
            "/emptied" => emptied.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            _ => 0,
        };
        match request.path.as_str() {
            "/broken" => Answer::new(500, "").into(),
            "/emptied" if emptied > 0 => Answer::json("[]").into(),
            _ => Answer::json(r#"[{"id":1}]"#).into(),
        }
    });
    let failing = std::sync::atomic::AtomicUsize::new(0);
    app.answers(move |request: &Request| match request.path.as_str() {
        "/down" => Answer::new(503, "").into(),
        "/refusing" => Answer::new(422, "").into(),
        // One is taken, then all are refused, so that something was delivered in between.
        "/failing" if failing.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 => Answer::new(422, "").into(),
        _ => Answer::new(200, "").into(),
    });
    let fill = |text: &str| {
        let text = text.replace("API", &api.origin()).replace("APP", &app.origin());
        text.replace("source.http.url", "items = \".[]\"\nkey = \".id\"\nsource.http.url")
    };
    let (file, removed) = (fill(FILE), fill(REMOVED));
    tokio::task::spawn_blocking(move || {
        let place = Place::new(&file.replace("REMOVED", &removed));
        let mut daemon = place.start();
        eventually(&place, "the first polls", &[("b-removed", "ok"), ("e-removed", "down"), ("b-paused", "ok")]);
        assert_eq!(place.run(&["pause", "b-paused"]).code, 0);
        place.write(&file.replace("REMOVED", ""));
        daemon.signal("HUP");
        daemon.told("READY=1");
        let expected = [
            ("b-ok", "ok"),
            ("b-new", "new"),
            ("b-failing", "failing"),
            ("b-held", "held"),
            ("b-paused", "paused"),
            ("b-disabled", "disabled"),
            ("b-removed", "removed"),
            ("e-ok", "ok"),
            ("e-down", "down"),
            ("e-failing", "failing"),
            ("e-refusing", "refusing"),
            ("e-disabled", "disabled"),
            ("e-removed", "removed"),
        ];
        let with_daemon = words(&eventually(&place, "each has its state", &expected));
        let metrics = crate::support::daemon::get(&place, "/metrics");
        let listed = crate::support::daemon::get(&place, "/api/status");
        let listed: Json = serde_json::from_str(listed.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
        daemon.stop();
        let of_the_store = words(&place.json(&["status"]));
        let said = |all: &[(String, String)], name: &str| {
            all.iter().find(|(n, _)| n == name).map_or("absent".to_owned(), |(_, word)| word.clone())
        };
        println!("| name | daemon | store alone | API |");
        for (name, word) in expected {
            let row = [said(&with_daemon, name), said(&of_the_store, name), said(&words(&listed), name)];
            println!("| {name} | {} |", row.join(" | "));
            assert!(row.iter().all(|said| said == word), "{name} is {word}: {row:?}");
        }
        // What has left the file is in no metric; all others are there under their words.
        for (gauge, names) in [("bellpull_bridges", "b-"), ("bellpull_endpoints", "e-")] {
            for (_, word) in expected.iter().filter(|(name, word)| name.starts_with(names) && *word != "removed") {
                let line = format!("{gauge}{{state=\"{word}\"}}");
                assert!(metrics.contains(&line), "{line}: {metrics}");
            }
        }
    })
    .await
    .expect("it does not panic");
    let page = include_str!("../../src/admin/dashboard/app.js");
    let list = page.split("WORST_FIRST = [").nth(1).and_then(|rest| rest.split(']').next()).expect("the page's words");
    let bridges = poller::State::ALL.iter().map(|state| state.word()).chain([poller::State::Removed.word()]);
    let endpoints = deliver::State::ALL.iter().map(|state| state.word()).chain([deliver::State::Removed.word()]);
    for word in bridges.chain(endpoints) {
        assert!(list.contains(&format!("\"{word}\"")), "the page does not know {word:?}: {list}");
    }
}
