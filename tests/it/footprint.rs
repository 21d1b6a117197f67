//! What the daemon takes: memory with a thousand bridges, and the size of the binary. Figures, so `--ignored`:
//! `BELLPULL_BINARY=target/release/bellpull cargo test --test it footprint -- --ignored --nocapture`.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use crate::support::{
    daemon::{Place, bellpull},
    receiver::Receiver,
    upstream::Upstream,
};

const BRIDGES: usize = 1_000;
const RSS_KIB_MAX: u64 = 60 << 10;
const BINARY_BYTES_MAX: u64 = 25 << 20;

fn rss_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes"]
async fn a_thousand_bridges_take_less_than_60_mib() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let records: Vec<(String, String)> = (1..=20)
        .map(|id| {
            let text = format!(r#"{{"id":{id},"title":"Test issue {id}","state":"open","labels":["a","b"],"user":{{"login":"somebody"}},"comments":{id},"url":"https://example.com/issues/{id}"}}"#);
            (id.to_string(), text)
        })
        .collect();
    let records: Vec<(&str, &str)> = records.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    upstream.set(&records);
    let mut toml = format!(
        "[endpoint.app]\nurl = \"{}/app\"\n[defaults.bridge]\nevery = \"1h\"\nto = [\"app\"]\n",
        receiver.origin()
    );
    for n in 0..BRIDGES {
        writeln!(
            toml,
            "[bridge.b{n}]\nitems = \".[]\"\nkey = \".id\"\nsource.http.url = \"{}/items?n={n}\"",
            upstream.origin()
        )
        .expect("a string takes it");
    }
    let place = Place::new(&toml);
    // The place stays: its directory goes with it.
    let (_place, daemon) = tokio::task::spawn_blocking(move || {
        let daemon = place.start();
        (place, daemon)
    })
    .await
    .expect("it starts");
    let until = Instant::now() + Duration::from_secs(90);
    while upstream.count() < BRIDGES {
        assert!(Instant::now() < until, "{} of {BRIDGES} polls", upstream.count());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let committed = || daemon.log().matches("baseline=true").count();
    let until = Instant::now() + Duration::from_secs(30);
    while committed() < BRIDGES {
        assert!(Instant::now() < until, "{} of {BRIDGES} commits: {}", committed(), tail(&daemon.log()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let at_once = rss_kib(daemon.id());
    // What is measured is the rest after a minute: no condition tells it earlier.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rss = rss_kib(daemon.id());
    println!("RSS with {BRIDGES} bridges: {at_once} KiB after the polls, {rss} KiB a minute later");
    assert!(rss < RSS_KIB_MAX, "{rss} KiB");
}

#[test]
#[ignore = "of the release build"]
fn the_binary_is_smaller_than_25_mib() {
    let size = std::fs::metadata(bellpull().get_program()).expect("it is built").len();
    println!("the binary has {size} bytes");
    assert!(size < BINARY_BYTES_MAX);
}
