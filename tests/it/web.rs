//! HTTP on `daemon.listen`: who is let in, what is open, what is told while things go on.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use bellpull::admin::Admin;
use serde_json::{Value as Json, json};

use crate::support::{
    daemon::{Daemon, Place},
    receiver::Receiver,
    rig::World,
    server::eventually,
    upstream::Upstream,
};

/// A bridge over the upstream's items, sent to `me`.
fn orders(upstream: &Upstream, receiver: &Receiver) -> String {
    format!(
        "[bridge.orders]\nevery = \"200ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\nsource.http.url = \"{}/items\"\n\
         [endpoint.me]\nurl = \"{}/me\"\nsign.standard.secrets = [{{ value = {:?} }}]\n",
        upstream.origin(),
        receiver.origin(),
        crate::support::receiver::SECRET
    )
}

struct Site {
    upstream: Upstream,
    receiver: Receiver,
    place: Place,
    _daemon: Daemon,
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Site {
    async fn start(lines: &str) -> Self {
        let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
        upstream.fill(3);
        let toml = orders(&upstream, &receiver);
        let lines_of_it = lines.to_owned();
        let started = tokio::task::spawn_blocking(move || {
            let place = Place::new(&toml);
            let text = std::fs::read_to_string(place.file()).expect("the file");
            let text = text.replace("listen = \"off\"", &format!("listen = \"127.0.0.1:0\"\n{lines_of_it}"));
            std::fs::write(place.file(), text).expect("written");
            let daemon = place.start();
            let link = place.run(&["dashboard"]).out.trim().to_owned();
            (place, daemon, link)
        });
        let (place, _daemon, link) = started.await.expect("it starts");
        let (base, _) = link.split_once("/#code=").expect("a link");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own = lines.split("token = { value = \"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        let token = own.unwrap_or_else(|| std::fs::read_to_string(place.path().join("state/token")).expect("a token"));
        let (base, token) = (base.to_owned(), token.trim().to_owned());
        Self { upstream, receiver, place, _daemon, base, token, http: reqwest::Client::new() }
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = self.http.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    async fn api(&self, path: &str) -> Json {
        let bearer = format!("Bearer {}", self.token);
        let (status, text) = self.ask(path, &[("authorization", &bearer)]).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn post(&self, path: &str) -> Json {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_opens_more_than_the_shell() {
    let site = Site::start("hosts = [\"Bell.example\"]").await;
    for open in ["/live", "/ready", "/metrics", "/", "/app.js", "/style.css"] {
        assert_eq!(site.ask(open, &[]).await.0, 200, "{open}");
    }
    let bearer = format!("Bearer {}", site.token);
    for closed in ["/api/status", "/api/events", "/api/stream", "/api/openapi.json", "/api/bridges/orders"] {
        assert_eq!(site.ask(closed, &[]).await.0, 401, "{closed}");
        assert_eq!(site.ask(closed, &[("authorization", "Bearer 0")]).await.0, 401, "{closed}");
    }
    assert_eq!(site.ask("/api/status", &[("authorization", &bearer)]).await.0, 200);
    assert_eq!(site.ask("/api/link", &[("authorization", &bearer)]).await.0, 404, "the token is not told over TCP");
    // A page of another site, by a name that was made to point here, and in a browser that has the token.
    for (name, value, expected) in [
        ("host", "evil.example", 421),
        ("host", "bell.example:8642", 200),
        ("host", "[::1]:8642", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:1234", 200),
    ] {
        let (status, text) = site.ask("/api/status", &[("authorization", &bearer), (name, value)]).await;
        assert_eq!(status, expected, "{name}: {value}: {text}");
    }
    assert_eq!(site.ask("/metrics", &[("host", "evil.example")]).await.0, 421);
    // A probe by a pod's address was refused, and the pod killed for ever.
    for probe in ["/live", "/ready"] {
        assert_eq!(site.ask(probe, &[("host", "10.1.2.3:8642")]).await.0, 200, "{probe}");
    }
    let page = site.http.get(&site.base).send().await.expect("the page");
    let policy = page.headers()["content-security-policy"].to_str().expect("ASCII").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
}

/// The link had the API's token, which lasts: it stayed in the browser's history, its favicons, its session files.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_a_page_in_once() {
    let site = Site::start("").await;
    let link = tokio::task::block_in_place(|| site.place.run(&["dashboard"]).out.trim().to_owned());
    let code = link.split_once("/#code=").expect("a link").1.to_owned();
    assert!(!link.contains(&site.token));
    let begin = async |body: Json, cookie: &str| {
        let request = site.http.post(format!("{}/api/session", site.base)).json(&body).header("cookie", cookie);
        let answer = request.send().await.expect("an answer");
        let cookie = answer.headers().get("set-cookie").map(|value| value.to_str().expect("ASCII").to_owned());
        (answer.status().as_u16(), cookie, answer.json::<Json>().await.unwrap_or_default())
    };
    let (status, cookie, page) = begin(json!({ "code": code }), "").await;
    let cookie = cookie.expect("a cookie");
    assert!(status == 200 && cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Max-Age"), "{cookie}");
    let bearer = format!("bearer {}", page["token"].as_str().expect("a token"));
    assert_eq!(site.ask("/api/status", &[("authorization", &bearer)]).await.0, 200);
    assert_eq!(begin(json!({ "code": code }), "").await.0, 401);
    let renewal = json!({ "renewal": page["renewal"] });
    assert_eq!(begin(renewal.clone(), "").await.0, 401);
    let half = cookie.split(';').next().expect("a pair");
    let (status, _, renewed) = begin(renewal, &format!("other=1; {half}")).await;
    assert_eq!((status, &renewed["until"]), (200, &page["until"]));
    for wrong in [
        json!({}),
        json!({ "code": "" }),
        json!({ "code": 1 }),
        json!({ "token": site.token }),
        json!("x".repeat(10_000)),
    ] {
        assert!(begin(wrong.clone(), half).await.0 >= 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_file_counts() {
    let site = Site::start("token = { value = \"a-token-of-my-own\" }").await;
    assert_eq!(site.token, "a-token-of-my-own");
    assert!(!site.place.path().join("state/token").exists());
    assert!(site.api("/api/status").await["running"].as_bool().expect("a boolean"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_is_paused_and_goes_on_and_the_stream_tells() {
    let site = Site::start("").await;
    let state = async || site.api("/api/bridges").await["orders"]["state"].clone();
    eventually("the baseline", async || state().await == "ok").await;
    assert_eq!(site.post("/api/bridges/orders/pause").await, json!({ "result": "paused" }));
    assert_eq!(state().await, "paused");
    let asked = site.upstream.count();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(site.upstream.count(), asked);
    let mut stream =
        site.http.get(format!("{}/api/stream", site.base)).bearer_auth(&site.token).send().await.expect("a stream");
    site.upstream.put("1", r#"{"id":1,"v":9}"#);
    site.post("/api/bridges/orders/resume").await;
    site.receiver.wait_taken("/me", 1).await;
    let mut told = String::new();
    while !(told.contains("event: delivery")
        && told.contains("\"class\":\"taken\"")
        && told.contains("\"outcome\":\"changed\""))
    {
        told += &String::from_utf8_lossy(&stream.chunk().await.expect("a chunk").expect("more"));
    }
    let strip =
        site.ask("/api/bridges/orders/strip.svg", &[("authorization", &format!("Bearer {}", site.token))]).await.1;
    assert!(strip.starts_with("<svg") && strip.contains("1 changes"), "{strip}");
}

/// Each row of the table in docs/operating.md is a metric, and each metric has a row.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented() {
    let site = Site::start("").await;
    site.upstream.put("1", r#"{"id":1,"v":9}"#);
    eventually("a poll", async || site.api("/api/bridges").await["orders"]["records"] == 3).await;
    site.upstream.put("1", r#"{"id":1,"v":10}"#);
    site.receiver.wait_taken("/me", 1).await;
    let text = site.ask("/metrics", &[("accept", "application/openmetrics-text")]).await.1;
    assert!(text.ends_with("# EOF\n"));
    let plain = site.ask("/metrics", &[("accept", "text/plain;version=0.0.4")]).await.1;
    assert!(plain.contains("# TYPE bellpull_polls_total counter") && !plain.contains("# EOF"), "{plain}");
    let told: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).expect("the page");
    let names = page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
    let is_metric = |name: &&str| name.starts_with("bellpull_") || name.starts_with("process_");
    let documented: BTreeSet<String> = names.filter(is_metric).map(str::to_owned).collect();
    let told: BTreeSet<String> = told.into_iter().map(str::to_owned).collect();
    assert_eq!(told, documented);
    assert!(text.contains("bellpull_bridge_state{bridge=\"orders\",state=\"ok\"} 1"), "{text}");
    let success = text.lines().find_map(|line| {
        line.strip_prefix("bellpull_bridge_last_success_timestamp_seconds{bridge=\"orders\"} ")?.parse::<i64>().ok()
    });
    assert!(success.is_some_and(|at| at > 1_700_000_000), "{text}");
    assert!(
        text.contains("bellpull_attempts_total{class=\"taken\"} 1")
            && text.contains("bellpull_bridges{state=\"ok\"} 1"),
        "{text}"
    );
}

/// A head that never ended was waited for without a limit, with as many connections as came: 2,000 of them filled the unit's memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_bounded_in_size_and_time() {
    let site = Site::start("").await;
    let address = site.base.trim_start_matches("http://").to_owned();
    // One that asks and never reads: its place is free again after a while.
    let unread_address = address.clone();
    let unread = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(unread_address).expect("connected");
        stream.set_write_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let request = b"GET /app.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(500);
        let began = std::time::Instant::now();
        while stream.write_all(&request).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(90), "it is never closed");
        }
    });
    let read_all = move |send: Vec<u8>| {
        let address = address.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
            // It may be closed while this is still written.
            let _ = stream.write_all(&send);
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer);
            (String::from_utf8_lossy(&answer).into_owned(), ended.map_err(|e| e.kind()))
        })
    };
    let long = [b"GET /live HTTP/1.1\r\nhost: localhost\r\nx: ".as_slice(), &[b'a'; 40_000]].concat();
    let slow = read_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n".to_vec());
    let idle = read_all(Vec::new());
    let (answer, _) = read_all(long).await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let (answer, ended) = slow.await.expect("no panic");
    assert!(ended.is_ok() && !answer.contains("200 OK"), "{answer:?} {ended:?}");
    let (answer, ended) = idle.await.expect("no panic");
    assert!(ended.is_ok() && answer.is_empty(), "{answer:?} {ended:?}");
    unread.await.expect("it is closed");
    assert_eq!(site.ask("/live", &[]).await.0, 200);
}

/// 256 connections without a token shut everybody out, as long as they liked.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_give_way() {
    let site = Site::start("").await;
    let address = site.base.trim_start_matches("http://").to_owned();
    let filled = tokio::task::spawn_blocking(move || {
        let connections: Vec<std::net::TcpStream> = (0..300)
            .map(|number| {
                let mut stream = std::net::TcpStream::connect(&address).expect("connected");
                if number % 2 == 0 {
                    // One that asked once, and is kept open.
                    stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
                }
                stream
            })
            .collect();
        connections
    });
    let connections = filled.await.expect("no panic");
    for _ in 0..5 {
        let asked = tokio::time::timeout(Duration::from_secs(1), site.ask("/live", &[("connection", "close")]));
        assert_eq!(asked.await.expect("within a second").0, 200);
    }
    drop(connections);
    // Nor do bodies that never come, on the one path that takes any without a token.
    let address = site.base.trim_start_matches("http://").to_owned();
    let slow = tokio::task::spawn_blocking(move || {
        let head = b"POST /api/session HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
        let send = |_| {
            let mut stream = std::net::TcpStream::connect(&address).expect("connected");
            stream.write_all(head).expect("sent");
            stream
        };
        (0..300).map(send).collect::<Vec<std::net::TcpStream>>()
    });
    let slow = slow.await.expect("no panic");
    for _ in 0..5 {
        let asked = tokio::time::timeout(Duration::from_secs(1), site.ask("/live", &[("connection", "close")]));
        assert_eq!(asked.await.expect("within a second").0, 200);
    }
    drop(slow);
}

/// A program that had the port first kept the daemon from starting, and everything from being polled.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_stops_no_poll() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    upstream.fill(3);
    let toml = orders(&upstream, &receiver);
    let started = tokio::task::spawn_blocking(move || {
        let place = Place::new(&toml);
        let text = std::fs::read_to_string(place.file()).expect("the file");
        std::fs::write(place.file(), text.replace("listen = \"off\"", &format!("listen = \"127.0.0.1:{port}\"")))
            .expect("written");
        let daemon = place.start();
        (place, daemon)
    });
    let (place, _daemon) = started.await.expect("it starts");
    eventually("it is polled", async || upstream.count() > 1).await;
    let log = std::fs::read_to_string(place.path().join("log")).expect("a log");
    assert!(log.contains("cannot be listened on") && log.contains(&port.to_string()), "{log}");
    drop(taken);
}

/// kubelet and Prometheus ask by the pod's address, which the file cannot know.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_the_environment_is_one() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let toml = orders(&upstream, &receiver);
    let started = tokio::task::spawn_blocking(move || {
        let place = Place::new(&toml);
        let text = std::fs::read_to_string(place.file()).expect("the file");
        let hosts = "listen = \"127.0.0.1:0\"\nhosts = [{ env = \"POD_IPS\" }]";
        std::fs::write(place.file(), text.replace("listen = \"off\"", hosts)).expect("written");
        let daemon = place.start_with(&[("POD_IPS", "10.1.2.3,fd00::1")]);
        let link = place.run(&["dashboard"]).out.trim().to_owned();
        (place, daemon, link)
    });
    let (_place, _daemon, link) = started.await.expect("it starts");
    let (base, _) = link.split_once("/#code=").expect("a link");
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (host, expected) in [("10.1.2.3:8642", 200), ("[fd00::1]:8642", 200), ("10.1.2.4", 421)] {
        let asked = reqwest::Client::new().get(format!("{base}/metrics")).header("host", host).send().await;
        assert_eq!(asked.expect("an answer").status().as_u16(), expected, "{host}");
    }
}

/// An admin who had to watch one bridge had the sum of all: by name they are told where they are few, or where the file says so.
#[tokio::test]
async fn bridges_are_told_by_name_where_they_are_few_or_it_is_asked_for() {
    for (bridges, key, told) in [
        (3, "", 3),
        (200, "", 200),
        (201, "", 0),
        (201, "metrics-by-name = true", 201),
        (3, "metrics-by-name = false", 0),
    ] {
        let bridge = |n: usize| {
            format!(
                "[bridge.shop{n}]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\nsource.http.url = \"UPSTREAM/items\"\n"
            )
        };
        let text = format!("[daemon]\n{key}\n{}", (0..bridges).map(bridge).collect::<String>());
        let mut world = World::start(&text).await;
        world.upstream.fill(1);
        let handle = world.rig.run().await;
        handle.poll("shop1".into()).await.expect("polled");
        let (store, config) = (world.rig.store.clone(), Arc::new(world.rig.config.clone()));
        let (deliveries, pulse) = (world.rig.deliveries.clone(), world.rig.poller.pulse.clone());
        let text = Admin::new(store, config, Some(handle), Some(deliveries), pulse).metrics().await;
        let of = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
        assert_eq!(of("bellpull_bridge_state"), told, "{bridges} {key}");
        let succeeded = of("bellpull_bridge_last_success_timestamp_seconds");
        assert_eq!(succeeded > 0, told > 0, "{bridges} {key}: {text}");
        assert!(succeeded <= told, "one that was not polled had no success");
    }
}

/// As many series as states, outcomes and classes, whatever the number of bridges; of endpoints 200 have a name.
#[tokio::test(flavor = "multi_thread")]
async fn labels_are_bounded_at_ten_thousand_bridges() {
    let bridge = |n: usize| {
        format!(
            "[bridge.shop{n}]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"hook{}\"]\nfirst-poll = \"emit\"\n\
             source.http.url = \"UPSTREAM/items\"\n",
            n % 300
        )
    };
    let endpoint = |n: usize| {
        format!("[endpoint.hook{n}]\nurl = \"RECEIVER/{n}\"\nsign.standard.secrets = [{{ value = \"SECRET\" }}]\n")
    };
    let text: String = (0..10_000).map(bridge).chain((0..300).map(endpoint)).collect();
    let mut world = World::start(&text).await;
    world.upstream.fill(1);
    let handle = world.rig.run().await;
    for n in 0..300 {
        handle.poll(format!("shop{n}").into()).await.expect("polled");
    }
    let (store, config) = (world.rig.store.clone(), Arc::new(world.rig.config.clone()));
    let (deliveries, pulse) = (world.rig.deliveries.clone(), world.rig.poller.pulse.clone());
    let admin = Admin::new(store, config, Some(handle), Some(deliveries), pulse);
    let text = admin.metrics().await;
    let of = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
    let sum = |name: &str| -> u64 {
        let of = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        of.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    assert!(sum("bellpull_polls_total") >= 300 && sum("bellpull_changes_total") >= 300);
    assert_eq!(sum("bellpull_bridges"), 10_000);
    assert!(!text.contains("shop"), "no label is a bridge's name");
    for name in ["bellpull_outbox_events", "bellpull_outbox_oldest_seconds", "bellpull_dead_letters"] {
        assert_eq!(of(name), 201, "{name}");
        assert!(text.contains(&format!("{name}{{endpoint=\"_others\"}}")), "{name}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 800, "{series} series");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_in_the_openapi_document() {
    let site = Site::start("").await;
    let document = site.api("/api/openapi.json").await;
    let paths: BTreeSet<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let source = include_str!("../../src/admin/routes.rs");
    let mut rest = source;
    // The one that asks for no token is not among them.
    let mut routes = BTreeSet::from(["/api/session".to_owned()]);
    while let Some((_, after)) = rest.split_once("\"/api/") {
        let (path, after) = after.split_once('"').expect("a string ends");
        routes.insert(format!("/api/{path}"));
        rest = after;
    }
    assert_eq!(paths, routes);
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let url = format!("{}{}", site.base, path.replace("{name}", "nobody").replace("{id}", "evt_nobody"));
            let request = if method == "get" { site.http.get(url) } else { site.http.post(url) };
            let request = if path == "/api/session" { request.json(&json!({ "code": "0" })) } else { request };
            // Without the token: a path that is not there would be 404.
            assert_eq!(request.send().await.expect("an answer").status(), 401, "{method} {path}");
        }
    }
}

/// Nineteen of twenty-three operations had `"schema": {}`, and keys had two spellings.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_openapi_document_says() {
    let site = Site::start("").await;
    let document = site.api("/api/openapi.json").await;
    let schema = |path: &str, method: &str| {
        let schema =
            document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"].clone();
        assert_ne!(schema, json!({}), "{method} {path}");
        let mut whole = schema;
        whole["components"] = document["components"].clone();
        jsonschema::draft202012::options().should_validate_formats(true).build(&whole).expect("a schema of 2020-12")
    };
    let document_of = document.clone();
    for (path, methods) in document_of["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let answered = operation["responses"]["200"]["content"].as_object().expect("content");
            assert!(answered.values().all(|kind| kind["schema"] != json!({})), "{method} {path}");
            if answered.contains_key("application/json") {
                schema(path, method);
            }
        }
    }
    eventually("a baseline", async || site.api("/api/bridges/orders").await["bridges"]["orders"]["state"] == "ok")
        .await;
    site.upstream.fill(5);
    site.receiver.wait("/me", 2).await;
    let events = site.api("/api/events").await;
    let event = events[0]["id"].as_str().expect("an event").to_owned();
    for (path, of) in [
        ("/api/status".to_owned(), "/api/status"),
        ("/api/running".to_owned(), "/api/running"),
        ("/api/bridges".to_owned(), "/api/bridges"),
        ("/api/endpoints".to_owned(), "/api/endpoints"),
        ("/api/bridges/orders".to_owned(), "/api/bridges/{name}"),
        ("/api/events?limit=1&since=2020-01-01T00:00:00Z".to_owned(), "/api/events"),
        (format!("/api/events/{event}"), "/api/events/{id}"),
        ("/api/deliveries".to_owned(), "/api/deliveries"),
        ("/api/deliveries?state=delivered".to_owned(), "/api/deliveries"),
        ("/api/openapi.json".to_owned(), "/api/openapi.json"),
    ] {
        let answer = site.api(&path).await;
        let errors: Vec<String> = schema(of, "get").iter_errors(&answer).map(|e| e.to_string()).collect();
        assert!(errors.is_empty() && answer.to_string().len() > 2, "{path}: {errors:?}: {answer}");
        assert!(!kebab(&answer), "{path} has a key with a hyphen: {answer}");
    }
    for (path, body, of) in [
        ("/api/bridges/orders/poll", json!(null), "/api/bridges/{name}/poll"),
        ("/api/bridges/orders/dry-run", json!({}), "/api/bridges/{name}/dry-run"),
        ("/api/bridges/orders/dry-run", json!({ "response": "[]" }), "/api/bridges/{name}/dry-run"),
        ("/api/bridges/orders/resend?endpoint=me", json!(null), "/api/bridges/{name}/resend"),
        ("/api/bridges/orders/pause", json!(null), "/api/bridges/{name}/pause"),
        ("/api/bridges/orders/resume", json!(null), "/api/bridges/{name}/resume"),
        ("/api/endpoints/me/test", json!(null), "/api/endpoints/{name}/test"),
        ("/api/endpoints/me/disable", json!(null), "/api/endpoints/{name}/disable"),
        ("/api/endpoints/me/enable", json!(null), "/api/endpoints/{name}/enable"),
        ("/api/replay", json!({ "ids": [event] }), "/api/replay"),
    ] {
        let request = site.http.post(format!("{}{path}", site.base)).bearer_auth(&site.token);
        let answer = request.json(&body).send().await.expect("an answer");
        let (status, answer): (_, Json) = (answer.status(), answer.json().await.expect("JSON"));
        assert_eq!(status, 200, "{path}: {answer}");
        let errors: Vec<String> = schema(of, "post").iter_errors(&answer).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:?}: {answer}");
        assert!(!kebab(&answer), "{path} has a key with a hyphen: {answer}");
    }
}

/// Whether a key of an answer has a hyphen; names and what the sources sent are not its keys.
fn kebab(answer: &Json) -> bool {
    const OF_OTHERS: [&str; 9] =
        ["bridges", "endpoints", "body", "before", "after", "paths", "components", "security", "info"];
    match answer {
        Json::Object(map) => {
            map.iter().any(|(key, value)| key.contains('-') || !OF_OTHERS.contains(&key.as_str()) && kebab(value))
        }
        Json::Array(all) => all.iter().any(kebab),
        _ => false,
    }
}
