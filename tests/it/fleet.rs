//! Ten thousand endpoints that are down at once with a million waiting events, and come back. Figures of the release
//! build: `BELLPULL_BINARY=target/release/bellpull cargo test --test it fleet -- --ignored --nocapture`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{
    daemon::{Daemon, Place},
    server::{Answer, Handler, Reply, Request, Server},
};

const BRIDGES: usize = 100;
/// Of each bridge.
const ENDPOINTS: usize = 100;
const RECORDS: usize = 20;
/// Changes of each record, the first of which creates it.
const VERSIONS: usize = 5;
/// Of each endpoint.
const EVENTS: usize = RECORDS * VERSIONS;
/// Servers that the endpoints are spread over.
const ORIGINS: usize = 1_000;
/// Of each endpoint, in a second.
const RATE: usize = 20;
/// `deliveries-in-flight`.
const IN_FLIGHT: usize = 256;
/// How long they are watched while they are down.
const WATCHED: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
struct Endpoint {
    in_flight: usize,
    in_flight_max: usize,
    /// Time, key and sequence of what was answered with 200.
    taken: Vec<(Instant, u32, u32)>,
}

#[derive(Default)]
struct Receivers {
    up: AtomicBool,
    asked: AtomicUsize,
    taken: AtomicUsize,
    all: Vec<Mutex<Endpoint>>,
}

impl Receivers {
    fn of(&self, request: &Request) -> &Mutex<Endpoint> {
        let number: usize = request.path.trim_start_matches('/').parse().expect("a number");
        &self.all[number]
    }
}

/// The number after a name in JSON text.
fn number(body: &str, name: &str) -> u32 {
    let rest = body.split_once(name).expect("the field is there").1;
    rest.chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .expect("a number")
}

impl Handler for Receivers {
    fn reply(&self, request: Request) -> Reply {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut endpoint = self.of(&request).lock().expect("no panic");
        endpoint.in_flight += 1;
        endpoint.in_flight_max = endpoint.in_flight_max.max(endpoint.in_flight);
        if !self.up.load(Ordering::Relaxed) {
            return Answer::new(503, "").after(Duration::from_millis(20)).into();
        }
        let body = String::from_utf8_lossy(&request.body);
        endpoint.taken.push((request.at, number(&body, "\"key\":\""), number(&body, "\"sequence\":")));
        self.taken.fetch_add(1, Ordering::Relaxed);
        Answer::new(200, "").into()
    }

    fn sent(&self, request: &Request) {
        self.of(request).lock().expect("no panic").in_flight -= 1;
    }
}

/// What a process has open and holds.
fn sockets_and_rss(daemon: &Daemon) -> (usize, u64) {
    let dir = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("it runs");
    let is_socket = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(entry.ok()?.path()).ok()?.to_str()?.starts_with("socket:").then_some(())
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let rss = line.trim().trim_end_matches(" kB").parse().expect("a number");
    (dir.filter_map(is_socket).count(), rss)
}

async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour"]
async fn ten_thousand_endpoints_are_down_and_come_back() {
    let all = (0..BRIDGES * ENDPOINTS).map(|_| Mutex::default()).collect();
    let receivers = Arc::new(Receivers { all, ..Receivers::default() });
    let mut servers = Vec::new();
    for _ in 0..ORIGINS {
        servers.push(Server::start(receivers.clone()).await);
    }
    // Each bridge's list moves on by a version with each poll, and then stays.
    let polls: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counted = polls.clone();
    let api = Server::start(Arc::new(move |request: Request| {
        let mut polls = counted.lock().expect("no panic");
        let version = polls.entry(request.target.clone()).or_default();
        *version += 1;
        let version = (*version).min(VERSIONS);
        let records: Vec<String> = (0..RECORDS).map(|id| format!(r#"{{"id":{id},"version":{version}}}"#)).collect();
        Reply::from(Answer::json(format!("[{}]", records.join(","))))
    }))
    .await;
    let mut toml = format!(
        "[defaults.bridge]\nevery = \"10s\"\nfirst-poll = \"emit\"\n[defaults.endpoint]\nrate = \"{RATE}/s\"\n\
         retry.schedule = [\"5s\", \"10s\"]\n"
    );
    for bridge in 0..BRIDGES {
        let numbers = bridge * ENDPOINTS..(bridge + 1) * ENDPOINTS;
        let to: Vec<String> = numbers.clone().map(|n| format!("\"e{n}\"")).collect();
        let (to, origin) = (to.join(","), api.origin());
        writeln!(
            toml,
            "[bridge.b{bridge}]\nitems = \".[]\"\nkey = \".id\"\nto = [{to}]\nsource.http.url = \"{origin}/{bridge}\""
        )
        .expect("it fits");
        for n in numbers {
            writeln!(toml, "[endpoint.e{n}]\nurl = \"{}/{n}\"", servers[n % ORIGINS].origin()).expect("it fits");
        }
    }
    let place = Place::new(&toml);
    let (place, daemon) = tokio::task::spawn_blocking(move || {
        let daemon = place.start();
        (place, daemon)
    })
    .await
    .expect("it starts");
    let place = Arc::new(place);
    let waiting = {
        let place = place.clone();
        move || {
            let status = place.json(&["status"]);
            let endpoints = status["endpoints"].as_object().expect("a table");
            let waiting: u64 = endpoints.values().map(|e| e["waiting"].as_u64().expect("a number")).sum();
            (waiting, endpoints.values().filter(|e| e["state"] == "down").count())
        }
    };
    let began = Instant::now();
    loop {
        let waiting = waiting.clone();
        let now = tokio::task::spawn_blocking(waiting).await.expect("it runs");
        if now == (u64::try_from(BRIDGES * ENDPOINTS * EVENTS).expect("it fits"), BRIDGES * ENDPOINTS) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(600), "{now:?} events wait, endpoints are down");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!("a million events wait for ten thousand endpoints after {:?}", began.elapsed());
    // What was under way when they went down has ended.
    tokio::time::sleep(Duration::from_secs(20)).await;
    receivers.all.iter().for_each(|e| e.lock().expect("no panic").in_flight_max = 0);
    let (began, asked) = (Instant::now(), receivers.asked.load(Ordering::Relaxed));
    let (mut sockets, mut low, mut high) = (0, u64::MAX, 0);
    while began.elapsed() < WATCHED {
        let (open, rss) = sockets_and_rss(&daemon);
        (sockets, low, high) = (sockets.max(open), low.min(rss), high.max(rss));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let probes = receivers.asked.load(Ordering::Relaxed) - asked;
    let most = receivers.all.iter().map(|e| e.lock().expect("no panic").in_flight_max).max().expect("some");
    println!(
        "in {WATCHED:?}: {probes} probes, {most} in flight to one endpoint, {sockets} sockets, RSS {low} to {high} KiB"
    );
    assert_eq!(most, 1, "one probe at a time");
    assert!(probes > BRIDGES * ENDPOINTS * 10, "every endpoint is probed all the time");
    // Beside those of deliveries: the notify and admin sockets, connections to the API and to a status that asks.
    assert!(sockets <= IN_FLIGHT + 20, "{sockets} sockets");
    assert!(high - low <= low / 10, "RSS moved from {low} to {high} KiB");

    receivers.up.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let total = BRIDGES * ENDPOINTS * EVENTS;
    let mut most_sockets = 0;
    until("all arrive", Duration::from_secs(1_200), || {
        most_sockets = most_sockets.max(sockets_and_rss(&daemon).0);
        receivers.taken.load(Ordering::Relaxed) >= total
    })
    .await;
    let took = began.elapsed();
    let per_second = u64::try_from(total).expect("it fits") / took.as_secs().max(1);
    println!("all came within {took:?}: {per_second} in a second, {most_sockets} sockets");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receivers.taken.load(Ordering::Relaxed), total, "none twice");
    let mut fastest = 0;
    for endpoint in &receivers.all {
        let endpoint = endpoint.lock().expect("no panic");
        let mut sequences: Vec<u32> = endpoint.taken.iter().map(|(.., sequence)| *sequence).collect();
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        for (_, key, sequence) in &endpoint.taken {
            let before = last.insert(*key, *sequence);
            assert!(before.is_none_or(|before| before < *sequence), "record {key}: {before:?} and then {sequence}");
        }
        sequences.sort_unstable();
        assert!(sequences.into_iter().eq(1..=u32::try_from(EVENTS).expect("it fits")));
        let at: Vec<Instant> = endpoint.taken.iter().map(|(at, ..)| *at).collect();
        for (n, first) in at.iter().enumerate() {
            fastest = fastest.max(at[n..].iter().take_while(|at| **at - *first < Duration::from_secs(1)).count());
        }
    }
    println!("at the most {fastest} in a second to one endpoint, whose rate is {RATE}");
    // Of attempts that waited for the same read of the store some begin together.
    assert!(fastest <= RATE + 8, "{fastest}");
    drop(daemon);
}
