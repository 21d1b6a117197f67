//! The runner: when bridges are polled. On real time, with intervals of 100 ms.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::{
    rig::{LIST, World, load, sled},
    server::{Answer, Reply, eventually},
};

#[tokio::test]
async fn polls_come_on_their_beat() {
    let mut world = World::start(LIST).await;
    let _handle = world.rig.run().await;
    eventually("twelve polls", async || world.upstream.count() >= 12).await;
    let at: Vec<Instant> = world.upstream.requests().iter().map(|r| r.at).collect();
    let took = at[11] - at[0];
    assert!(took >= Duration::from_millis(1_050), "{took:?}");
    // A loaded machine may skip a beat, and then keeps it.
    assert!(took < Duration::from_millis(3_000), "{took:?}");
}

#[tokio::test]
async fn a_slow_poll_is_never_overlapped_by_the_next() {
    let mut world = World::start(LIST).await;
    world.upstream.delay(Duration::from_millis(250));
    let handle = world.rig.run().await;
    // By hand beside the schedule: it takes its turn.
    let (a, b) = tokio::join!(handle.poll("orders".into()), handle.poll("orders".into()));
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    eventually("five polls", async || world.upstream.count() >= 5).await;
    let at: Vec<Instant> = world.upstream.requests().iter().map(|r| r.at).collect();
    for pair in at.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(249), "{:?}", pair[1] - pair[0]);
    }
}

#[tokio::test]
async fn changes_arrive_by_themselves() {
    let mut world = World::start(LIST).await;
    world.upstream.fill(2);
    let handle = world.rig.run().await;
    eventually("the baseline", async || handle.status().await["orders"].state.word() == "ok").await;
    for n in 1..=5 {
        world.upstream.put("1", &format!(r#"{{"id":1,"v":{n}}}"#));
        world.receiver.wait_taken("/me", n).await;
    }
    let sequences: Vec<u64> = world.receiver.received().iter().map(|r| r.sequence()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_failure_backs_off_and_says_why() {
    let mut world = World::start(LIST).await;
    world.upstream.always(Some(Answer::new(500, "down").into()));
    let handle = world.rig.run().await;
    eventually("it fails", async || handle.status().await["orders"].failures == 1).await;
    let status = handle.status().await["orders"].clone();
    assert_eq!(status.state.word(), "failing");
    assert!(status.last_error.as_deref().unwrap().ends_with("answered 500: down"));
    let time = |text: &Option<String>| text.as_deref().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let wait = time(&status.next_poll) - time(&status.last_poll);
    assert!((4_900..7_000).contains(&wait.num_milliseconds()), "{wait}");
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.upstream.count(), 1);
    // By hand at once; then the beat is back.
    world.upstream.always(None);
    handle.poll("orders".into()).await.expect("polled");
    eventually("it goes on", async || world.upstream.count() >= 4).await;
    assert_eq!(handle.status().await["orders"].failures, 0);
}

#[tokio::test]
async fn a_hint_delays_the_next_poll() {
    let mut world = World::start(LIST).await;
    world.upstream.next(Answer::json("[]").header("retry-after", "1"));
    let _handle = world.rig.run().await;
    eventually("two polls", async || world.upstream.count() >= 2).await;
    let requests = world.upstream.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(990));
}

/// A server that said "in an hour" is not asked at a restart.
#[tokio::test]
async fn a_long_hint_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on(sled(dir.path()), LIST).await;
    world.upstream.always(Some(Answer::new(429, "").header("retry-after", "3600").into()));
    let handle = world.rig.run().await;
    eventually("it was asked", async || handle.status().await["orders"].failures == 1).await;
    // Written at once, not with the next thirty seconds.
    let name = || "orders".to_owned();
    eventually("it is durable", async || {
        let loaded = world.rig.store.read(move |engine| engine.bridge(&name())).await.expect("read");
        loaded
            .and_then(|l| l.progress)
            .is_some_and(|p| p.due > world.rig.poller.clock.now().plus(Duration::from_secs(3_500)))
    })
    .await;
    world.rig.crash().await;
    world.restart(LIST).await;
    let handle = world.rig.run().await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.upstream.count(), 1);
    assert_eq!(handle.status().await["orders"].failures, 1);
}

#[tokio::test]
async fn an_overdue_bridge_catches_up_once() {
    let mut world = World::start(&LIST.replace("100ms", "1s")).await;
    world.poll().await;
    world.rig.polled().progress.due = bellpull::model::Timestamp(1);
    world.restart(&LIST.replace("100ms", "1s")).await;
    let before = world.upstream.count();
    let _handle = world.rig.run().await;
    eventually("it was asked", async || world.upstream.count() > before).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.upstream.count(), before + 1);
}

#[tokio::test]
async fn many_bridges_are_spread_and_all_are_polled() {
    let mut text = String::new();
    for n in 0..40 {
        text += &LIST
            .replace("bridge.orders", &format!("bridge.b{n}"))
            .replace("100ms", "1s")
            .replace("/items", &format!("/b{n}"));
    }
    let mut world = World::start(&(text + "[daemon]\npolls-in-flight = 3\n")).await;
    world.upstream.delay(Duration::from_millis(5));
    let _handle = world.rig.run().await;
    eventually("eighty polls", async || world.upstream.count() >= 80).await;
    let requests = world.upstream.requests();
    let paths: std::collections::BTreeSet<_> = requests.iter().map(|r| r.path.clone()).collect();
    assert_eq!(paths.len(), 40);
    let spread = requests[39].at - requests[0].at;
    assert!(spread > Duration::from_millis(400), "the first forty within {spread:?}");
}

#[tokio::test]
async fn a_reload_changes_only_what_changed() {
    let two = LIST.to_owned() + &LIST.replace("bridge.orders", "bridge.users").replace("/items", "/users");
    let mut world = World::start(&two).await;
    world.upstream.fill(1);
    let handle = world.rig.run().await;
    eventually("both are polled", async || handle.status().await.values().all(|s| s.state.word() == "ok")).await;
    // `users` goes, `orders` gets another source, and one is new.
    let next = LIST.replace("/items", "/other").replace("UPSTREAM", &world.upstream.origin())
        + &LIST.replace("bridge.orders", "bridge.stock").replace("UPSTREAM", &world.upstream.origin())
        + "[endpoint.me]\nurl = \"http://127.0.0.1:1/\"\n[network]\nallow = [\"127.0.0.0/8\"]\n";
    let (_dir, config) = crate::support::rig::load(&next);
    handle.apply(config.bridges.clone(), world.rig.poller.clone()).await;
    assert_eq!(handle.status().await.keys().map(|k| k.to_string()).collect::<Vec<_>>(), ["orders", "stock"]);
    eventually("the new ones are polled", async || {
        let paths: std::collections::BTreeSet<_> = world.upstream.requests().into_iter().map(|r| r.path).collect();
        paths.contains("/other") && handle.status().await["stock"].state.word() == "ok"
    })
    .await;
    let before = world.upstream.requests().iter().filter(|r| r.path == "/users").count();
    sleep(Duration::from_millis(250)).await;
    assert_eq!(world.upstream.requests().iter().filter(|r| r.path == "/users").count(), before);
    assert!(handle.poll("ordres".into()).await.unwrap_err().to_string().contains("did you mean \"orders\"?"));
    // It comes back with what it knew: no second baseline.
    world.upstream.put("2", r#"{"id":2}"#);
    let (_dir, config) = crate::support::rig::load(&two.replace("UPSTREAM", &world.upstream.origin()).replace(
        "[bridge.users]",
        "[network]\nallow = [\"127.0.0.0/8\"]\n[endpoint.me]\nurl = \"http://127.0.0.1:1/\"\n[bridge.users]",
    ));
    handle.apply(config.bridges.clone(), world.rig.poller.clone()).await;
    eventually("its change is seen", async || handle.status().await["users"].sequence == 1).await;
}

#[tokio::test]
async fn a_bridge_that_is_not_enabled_is_polled_by_hand_only() {
    let mut world = World::start(&LIST.replace("every", "enabled = false\nevery")).await;
    let handle = world.rig.run().await;
    sleep(Duration::from_millis(250)).await;
    assert_eq!(world.upstream.count(), 0);
    assert_eq!(handle.status().await["orders"].state.word(), "disabled");
    handle.poll("orders".into()).await.expect("polled");
    sleep(Duration::from_millis(250)).await;
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn a_dry_run_shows_and_writes_nothing() {
    let mut world = World::start(&LIST.replace("100ms", "1h")).await;
    world.upstream.fill(2);
    world.poll().await;
    world.rig.save().await;
    let handle = world.rig.run().await;
    world.upstream.put("2", r#"{"id":2,"v":1}"#);
    world.upstream.put("3", r#"{"id":3}"#);
    let before = world.rig.export().await;
    let shown = crate::support::rig::as_json(handle.dry_run("orders".into(), None).await.expect("shown"));
    assert_eq!(
        (shown["created"].as_u64(), shown["updated"].as_u64(), &shown["verdict"]),
        (Some(1), Some(1), &"commit".into())
    );
    assert_eq!(shown["pages"][0]["keys"], serde_json::json!(["1", "2", "3"]));
    assert_eq!(shown["changes"][1]["after"], serde_json::json!({"id":2,"v":1}));
    assert_eq!(world.rig.export().await, before);
    handle.poll("orders".into()).await.expect("polled");
    assert_eq!(world.rig.lines().await, ["orders.created 3 #1", "orders.updated 2 #2"]);
}

/// Where bridges stand is written at a stop, so that a start neither asks too early nor forgets what was missing.
#[tokio::test]
async fn a_stop_writes_where_bridges_stand() {
    let mut world = World::start(&LIST.replace("100ms", "1h")).await;
    world.upstream.fill(1);
    let handle = world.rig.run().await;
    handle.poll("orders".into()).await.expect("polled");
    world.rig.crash().await;
    let loaded = world.rig.store.read(|engine| engine.bridge("orders")).await.expect("read").expect("stored");
    let progress = loaded.progress.expect("written");
    assert!(progress.last_poll.is_some() && progress.due > world.rig.poller.clock.now());
}

/// A store that failed stops everything, and what was not durable was not sent.
#[tokio::test]
async fn nothing_is_sent_of_a_commit_that_failed() {
    use bellpull::store::memory::{Fault, MemoryEngine};
    for fault in [Fault::UnknownLost, Fault::UnknownApplied] {
        let engine = std::sync::Arc::new(MemoryEngine::new());
        let mut world = World::on(engine.clone(), LIST).await;
        world.upstream.fill(2);
        world.poll().await;
        world.upstream.put("1", r#"{"id":1,"v":1}"#);
        engine.fail_next(fault);
        let error = world.rig.poll().await.result.expect_err("the store failed").to_string();
        assert!(error.starts_with("the store: "), "{error}");
        world.rig.store.failed().await;
        assert!(world.receiver.received().is_empty());
        // Opened again, the change is there once, whether the write was applied or not.
        world.rig.crash().await;
        world.rig = {
            let text = LIST.replace("UPSTREAM", &world.upstream.origin())
                + &format!(
                    "[endpoint.me]\nurl = \"{}/me\"\nsign.standard.secrets = [{{ value = \"{}\" }}]\n[network]\nallow = [\"127.0.0.0/8\"]\n",
                    world.receiver.origin(),
                    crate::support::receiver::SECRET
                );
            crate::support::rig::Rig::start(engine.clone(), &text).await
        };
        world.poll().await;
        assert_eq!(world.receiver.wait_taken("/me", 1).await[0].sequence(), 1, "{fault:?}");
        assert_eq!(world.rig.lines().await, ["orders.updated 1 #1"], "{fault:?}");
    }
}

/// Bridges that waited for their turn at an origin were never polled again when an edit took them to another one.
#[tokio::test]
async fn bridges_that_wait_at_an_origin_are_not_stranded_by_an_edit() {
    let bridge = |n: usize| LIST.replace("bridge.orders", &format!("bridge.b{n}"));
    let text: String = (0..20).map(bridge).collect();
    let mut world = World::start(&text).await;
    world.upstream.fill(1);
    world.upstream.always(Some(Reply::Hang));
    let handle = world.rig.run().await;
    eventually("the origin is full", async || world.upstream.count() >= 8).await;
    // The same server under another name is another origin.
    let moved = world.rig.text().replace("127.0.0.1", "localhost");
    let (_dir, config) = load(&moved);
    world.upstream.always(None);
    let mut poller = world.rig.poller.clone();
    poller.endpoints = std::sync::Arc::new(config.endpoints.clone());
    handle.apply(config.bridges, poller).await;
    eventually("all that were waiting are polled", async || {
        handle.status().await.values().filter(|s| s.state.word() == "ok").count() >= 12
    })
    .await;
}
