//! A reload of a daemon that runs: which bridges and endpoints it stops, moves and starts, and what it must not hold up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bellpull::{clock::Clock, model::Timestamp, store::memory::MemoryEngine};

use crate::support::{
    daemon::{Daemon, Place},
    receiver::{Receiver, SECRET},
    rig::{World, list},
    server::{Answer, Reply, eventually},
    upstream::Upstream,
};

fn bridge(name: &str, upstream: &Upstream, lines: &str) -> String {
    format!(
        "[bridge.{name}]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\n{lines}\nsource.http.url = \"{}/items\"\n",
        upstream.origin()
    )
}

fn endpoint(receiver: &Receiver, lines: &str) -> String {
    format!(
        "[endpoint.me]\nurl = \"{}/me\"\n{lines}\nsign.standard.secrets = [{{ value = {SECRET:?} }}]\n",
        receiver.origin()
    )
}

/// Another file, until the daemon says that it runs with it.
fn reload(place: &Place, daemon: &mut Daemon, text: &str) {
    place.write(text);
    daemon.signal("HUP");
    daemon.told("RELOADING=1");
    daemon.told("READY=1");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn of(place: &Place, bridge: &str) -> serde_json::Value {
    place.json(&["status"])["bridges"][bridge].clone()
}

/// The attempts in flight of an endpoint that changed were waited for in the loop that answers everybody: with a receiver that
/// hung, `status`, `/metrics` and the watchdog hung as well, and SIGTERM was heard after the endpoint's timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_neither_status_nor_the_end() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    receiver.answers("/me", |_| Reply::Hang);
    tokio::task::spawn_blocking(move || {
        let file = |timeout: &str| {
            let grace = "shutdown-grace = \"1s\"\n[network]";
            let place = bridge("orders", &upstream, "first-poll = \"emit\"") + &endpoint(&receiver, timeout);
            (place, grace)
        };
        upstream.fill(2);
        let place = Place::new(&file("timeout = \"2m\"").0);
        let text = std::fs::read_to_string(place.file()).expect("the file");
        let with_grace =
            |text: &str| std::fs::write(place.file(), text.replace("[network]", file("").1)).expect("written");
        with_grace(&text);
        let variables = [("WATCHDOG_USEC", "900000")];
        let mut daemon = place.start_with(&variables);
        until("an attempt is under way", || !receiver.received().is_empty());
        with_grace(&text.replace("2m", "1m"));
        daemon.signal("HUP");
        daemon.told("RELOADING=1");
        let began = Instant::now();
        assert!(of(&place, "orders").is_object());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        for _ in 0..4 {
            assert!(daemon.tells_within("WATCHDOG=1", Duration::from_secs(2)));
        }
        let began = Instant::now();
        daemon.signal("TERM");
        daemon.wait();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    })
    .await
    .expect("it does not panic");
}

/// A name that was given to another bridge began to count at 1 again in the same stream: receivers dropped its events.
/// And a bridge that had been gone before it was renamed kept its mark, and would have been dropped after thirty days.
#[tokio::test(flavor = "multi_thread")]
async fn names_come_and_go_and_sequences_only_grow() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    tokio::task::spawn_blocking(move || {
        let me = endpoint(&receiver, "");
        let file = |bridges: &[(&str, &str)]| {
            bridges.iter().map(|(name, lines)| bridge(name, &upstream, lines)).collect::<String>() + &me
        };
        upstream.fill(3);
        let place = Place::new(&file(&[("a", "")]));
        let mut daemon = place.start();
        until("the baseline", || of(&place, "a")["records"] == 3);
        upstream.put("1", r#"{"id":1,"v":1}"#);
        until("its first event", || receiver.taken("/me").len() == 1);
        // Gone, and back under another name.
        reload(&place, &mut daemon, &file(&[("x", "")]));
        assert_eq!(of(&place, "a")["state"], "removed");
        reload(&place, &mut daemon, &file(&[("x", ""), ("b", "was = \"a\"")]));
        until("it is polled again", || of(&place, "b")["state"] == "ok");
        let b = of(&place, "b");
        assert_eq!((&b["records"], &b["sequence"], b.get("kept_until")), (&3.into(), &1.into(), None));
        assert!(of(&place, "a").is_null(), "{}", of(&place, "a"));
        upstream.put("1", r#"{"id":1,"v":2}"#);
        until("the second event", || receiver.taken("/me").iter().any(|r| r.kind() == "b.updated"));
        // Another bridge of the old name.
        reload(&place, &mut daemon, &file(&[("b", "was = \"a\""), ("a", "")]).replace("was = \"a\"", ""));
        until("the new one's baseline", || of(&place, "a")["records"] == 3);
        upstream.put("2", r#"{"id":2,"v":1}"#);
        until("its event", || receiver.taken("/me").iter().any(|r| r.kind() == "a.updated" && r.key() == "2"));
        let taken = receiver.taken("/me");
        let sequences: Vec<u64> =
            taken.iter().filter(|r| r.body["data"]["bridge"] == "a").map(|r| r.sequence()).collect();
        assert_eq!(sequences, [1, 2]);
        // Back to the first name: what is there under it is its own, and stays.
        reload(&place, &mut daemon, &file(&[("a", "was = \"b\"")]));
        assert_eq!((&of(&place, "a")["records"], &of(&place, "b")["state"]), (&3.into(), &"removed".into()));
        assert!(daemon.log().contains("it has a snapshot of its own"), "{}", daemon.log());
    })
    .await
    .expect("it does not panic");
}

/// The poll's end wrote where the bridge stood without the mark: it was neither shown nor ever dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_removed_while_it_is_polled_is_kept_and_named() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    tokio::task::spawn_blocking(move || {
        let other = Place::new(&(bridge("a", &upstream, "") + &endpoint(&receiver, "")));
        upstream.fill(3);
        let mut daemon = other.start();
        until("the baseline", || of(&other, "a")["records"] == 3);
        upstream.delay(Duration::from_millis(700));
        let before = upstream.count();
        until("a poll is under way", || upstream.count() > before);
        reload(&other, &mut daemon, &(bridge("b", &upstream, "was = \"a\"") + &endpoint(&receiver, "")));
        until("the heir is polled", || of(&other, "b")["state"] == "ok");
        assert_eq!((&of(&other, "b")["records"], of(&other, "a").is_null()), (&3.into(), true));
        let before = upstream.count();
        until("a poll is under way", || upstream.count() > before);
        reload(&other, &mut daemon, &(bridge("c", &upstream, "") + &endpoint(&receiver, "")));
        assert_eq!(of(&other, "b")["state"], "removed");
    })
    .await
    .expect("it does not panic");
}

/// `was` of a bridge over a list moved nothing: its members began anew, and what had changed meanwhile was lost.
#[tokio::test]
async fn members_move_with_their_bridge() {
    let members = list("each.list = [\"x\", \"y\"]");
    let mut world = World::start(&members).await;
    world.upstream.fill(3);
    let handle = world.rig.run().await;
    eventually("both are polled", async || handle.status().await.values().filter(|s| s.records == 3).count() == 2)
        .await;
    world.upstream.put("1", r#"{"id":1,"v":7}"#);
    eventually("both have seen it", async || handle.status().await.values().all(|s| s.sequence == 1)).await;
    world.restart(&members.replace("[bridge.orders]", "[bridge.sales]\nwas = \"orders\"")).await;
    let handle = world.rig.run().await;
    eventually("both are polled", async || handle.status().await.values().all(|s| s.last_poll.is_some())).await;
    let status = handle.status().await;
    let seen: Vec<_> = status.iter().map(|(name, s)| (name.to_string(), s.records, s.sequence)).collect();
    assert_eq!(seen, [("sales/x".into(), 3, 1), ("sales/y".into(), 3, 1)]);
}

/// A dry run with a draft of a file, without a daemon, renamed and removed what the store knew.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_with_another_file_changes_no_name() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    tokio::task::spawn_blocking(move || {
        let file = bridge("a", &upstream, "") + &endpoint(&receiver, "");
        let place = Place::new(&file);
        upstream.fill(3);
        let daemon = place.start();
        until("the baseline", || of(&place, "a")["records"] == 3);
        drop(daemon);
        place.write(&(bridge("b", &upstream, "was = \"a\"") + &endpoint(&receiver, "")));
        let ran = place.run(&["poll", "b", "--dry-run"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        place.write(&file);
        assert_eq!((&of(&place, "a")["records"], of(&place, "b").is_null()), (&3.into(), true));
        assert_eq!(of(&place, "a")["state"], "ok");
    })
    .await
    .expect("it does not panic");
}

/// The heartbeat went on to an endpoint that was no longer in the file, where it waited.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_follows_the_file() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    tokio::task::spawn_blocking(move || {
        let orders = bridge("orders", &upstream, "");
        let beat = |place: &Place, to: &str| {
            let text = std::fs::read_to_string(place.file()).expect("the file");
            let beat = format!("heartbeat = {{ to = [{to:?}], every = \"200ms\" }}\n[network]");
            std::fs::write(place.file(), text.replace("[network]", &beat)).expect("written");
        };
        let place = Place::new(&(orders.clone() + &endpoint(&receiver, "")));
        beat(&place, "me");
        let mut daemon = place.start();
        until("a heartbeat", || receiver.taken("/me").iter().any(|r| r.kind() == "bellpull.heartbeat"));
        place.write(
            &(orders.replace("\"me\"", "\"ops\"")
                + &endpoint(&receiver, "").replace("me]", "ops]").replace("/me", "/ops")),
        );
        beat(&place, "ops");
        daemon.signal("HUP");
        daemon.told("RELOADING=1");
        daemon.told("READY=1");
        until("a heartbeat", || receiver.taken("/ops").iter().any(|r| r.kind() == "bellpull.heartbeat"));
    })
    .await
    .expect("it does not panic");
}

/// What a guard held and an admin accepted was in no metric, though that is where most of it changes at once.
#[tokio::test]
async fn what_is_accepted_is_counted() {
    let mut world = World::start(&list("guard.deletes = 0.2")).await;
    world.upstream.fill(10);
    world.poll().await;
    for key in 0..6 {
        world.upstream.remove(&key.to_string());
    }
    let handle = world.rig.run().await;
    eventually("it is held", async || handle.status().await["orders"].state == "held").await;
    handle.accept("orders".into(), None).await.expect("accepted");
    let told = world.rig.poller.pulse.scrape(|_| ());
    let deleted = told.lines().find(|line| line.starts_with("bellpull_changes_total{change=\"deleted\"}"));
    let deleted: u64 = deleted.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a number");
    assert!(deleted >= 5, "{told}");
}

/// A night without the daemon, and a first poll that failed, were told as a bridge that had been stale all night.
#[tokio::test]
async fn a_stop_makes_no_bridge_stale_by_itself() {
    let clock = Clock::starting_at(Timestamp::parse("2026-11-23T12:00:00Z").expect("a time"));
    let mut world = World::at(Arc::new(MemoryEngine::new()), clock, &list("alert.stale-after = \"2h\"")).await;
    world.upstream.fill(1);
    world.poll().await;
    let clock = world.rig.poller.clock.clone();
    let (began, hours) = (clock.now(), |n: i64| n * 3_600_000);
    clock.set(began.plus_ms(hours(9)));
    world.rig.polled().watched_from = clock.now();
    world.upstream.always(Some(Answer::new(500, "no").into()));
    world.fail().await;
    let stale = async |world: &World| world.rig.alerts().await.iter().filter(|a| *a == "bellpull.bridge.stale").count();
    assert_eq!(stale(&world).await, 0);
    clock.set(began.plus_ms(hours(12)));
    world.fail().await;
    assert_eq!(stale(&world).await, 1);
}
