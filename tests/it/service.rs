//! The daemon as systemd sees it, over a NOTIFY_SOCKET of the tests' own.

use std::time::Duration;

use crate::support::{
    daemon::Place,
    receiver::{Receiver, SECRET},
    server::{Answer, Reply, eventually},
    upstream::Upstream,
};

fn configuration(upstream: &Upstream, receiver: &Receiver) -> String {
    format!(
        "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\nsource.http.url = \"{}/items\"\n\
         [endpoint.me]\nurl = \"{}/me\"\nsign.standard.secrets = [{{ value = {SECRET:?} }}]\n",
        upstream.origin(),
        receiver.origin()
    )
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("it does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_only_while_everything_moves() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let place = Place::new(&configuration(&upstream, &receiver));
    blocking(move || {
        let points = place.path().join("points");
        std::fs::create_dir(&points).expect("made");
        let variables = [("WATCHDOG_USEC", "900000"), ("BELLPULL_FAILPOINTS", points.to_str().expect("a path"))];
        let mut daemon = place.start_with(&variables);
        let fed = "WATCHDOG=1";
        let (soon, long) = (Duration::from_secs(5), Duration::from_millis(1_500));
        assert!(daemon.tells_within(fed, soon));
        for point in ["writer", "delivery"] {
            let file = points.join(point);
            std::fs::write(&file, "").expect("on");
            // What was on its way.
            for _ in 0..3 {
                daemon.tells_within(fed, Duration::from_millis(400));
            }
            assert!(!daemon.tells_within(fed, long), "{point} stands still");
            std::fs::remove_file(&file).expect("off");
            assert!(daemon.tells_within(fed, soon), "{point} moves again");
        }
        // A slow API is no reason.
        upstream.always(Some(Reply::Hang));
        std::thread::sleep(Duration::from_millis(500));
        assert!(daemon.tells_within(fed, soon) && daemon.tells_within(fed, soon) && daemon.tells_within(fed, soon));
        drop(daemon);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reload_leaves_everything_and_says_so() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let place = Place::new(&configuration(&upstream, &receiver));
    blocking(move || {
        let mut daemon = place.start();
        let right = std::fs::read_to_string(place.file()).expect("the file");
        std::fs::write(place.file(), right.replace("every", "evry")).expect("written");
        daemon.signal("HUP");
        daemon.told("RELOADING=1");
        assert!(daemon.told("STATUS=reload refused").contains("1 bridges"));
        daemon.told("READY=1");
        assert!(place.json(&["status"])["bridges"]["orders"].is_object(), "and it can still be asked");
        std::fs::write(place.file(), format!("{right}\n[log]\nlevel = \"debug\"\n")).expect("written");
        daemon.signal("HUP");
        let reloading = daemon.told("RELOADING=1");
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        assert!(daemon.told("STATUS=").starts_with("STATUS=1 bridges, 0 failing"));
        daemon.told("READY=1");
        let before = daemon.log().matches("DEBUG").count();
        // The new level counts at once.
        assert_eq!(place.run(&["poll", "orders"]).code, 0);
        upstream.next(Answer::new(500, "no"));
        upstream.next(Answer::new(500, "no"));
        for _ in 0..200 {
            if daemon.log().matches("DEBUG").count() > before {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing is said at debug: {}", daemon.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_so_that_silence_is_noticed() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let place = Place::new(&configuration(&upstream, &receiver));
    let text = std::fs::read_to_string(place.file()).expect("the file");
    let text = text.replace("[network]", "heartbeat = { to = [\"me\"], every = \"300ms\" }\n[network]");
    std::fs::write(place.file(), text).expect("written");
    let daemon = tokio::task::spawn_blocking(move || (place.start(), place)).await.expect("it starts");
    let beats = async || receiver.taken("/me").iter().filter(|r| r.kind() == "bellpull.heartbeat").count();
    eventually("three heartbeats", async || beats().await >= 3).await;
    drop(daemon);
}
