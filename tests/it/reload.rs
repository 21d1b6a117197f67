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
            let grace = "shutdown-grace = \"1s\"\nheartbeat = { to = [\"ops\"], every = \"200ms\" }\n[network]";
            let ops = endpoint(&receiver, "").replace("me]", "ops]").replace("/me", "/ops");
            let place = bridge("orders", &upstream, "first-poll = \"emit\"") + &endpoint(&receiver, timeout) + &ops;
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
        // The endpoint that one edits is the one that hangs: it was said not to exist.
        assert_eq!(place.json(&["status"])["endpoints"]["me"]["waiting"], 2);
        let enabled = place.run(&["endpoint", "enable", "me"]);
        assert_eq!(enabled.code, 0, "{enabled:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let beats = || receiver.taken("/ops").iter().filter(|r| r.kind() == "bellpull.heartbeat").count();
        let before = beats();
        until("heartbeats go on", || beats() >= before + 3);
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

/// While the poll of a bridge that leaves was waited for, the others were polled by their old routes and the new endpoints: what
/// they detected went to nobody. And a list that changed meanwhile brought members of the old name back, which were waited for for
/// ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_polled_while_a_reload_waits_reaches_the_heir() {
    let (upstream, slow, receiver) = (Upstream::start().await, Upstream::start().await, Receiver::start().await);
    tokio::task::spawn_blocking(move || {
        let file = |old: &str, endpoint_name: &str, lines: &str| {
            let fan = |name: &str, was: &str| {
                bridge(name, &slow, &format!("{was}\neach.bridge = \"orders\"")).replace("100ms", "1s")
            };
            let fan = if old.is_empty() { fan("new", "was = \"old\"") } else { fan("old", "") };
            let text = bridge("orders", &upstream, "") + &fan + &endpoint(&receiver, lines);
            text.replace("\"me\"]", &format!("\"{endpoint_name}\"]"))
                .replace("endpoint.me]", &format!("endpoint.{endpoint_name}]"))
        };
        upstream.fill(2);
        slow.fill(1);
        let place = Place::new(&file("old", "a", ""));
        let mut daemon = place.start();
        until("the members' baselines", || of(&place, "old/1")["records"] == 1);
        slow.delay(Duration::from_secs(3));
        let before = slow.count();
        until("a member is polled", || slow.count() > before);
        std::thread::sleep(Duration::from_millis(50));
        place.write(&file("", "b", "was = \"a\""));
        daemon.signal("HUP");
        daemon.told("RELOADING=1");
        upstream.put("1", r#"{"id":1,"v":1}"#);
        upstream.put("3", r#"{"id":3,"v":1}"#);
        until("both changes arrive", || {
            receiver.taken("/me").iter().filter(|r| r.kind().starts_with("orders.")).count() == 2
        });
        daemon.told("READY=1");
        until("the members have their new name", || of(&place, "new/1")["records"] == 1);
        assert!(of(&place, "old/1").is_null() && daemon.log().contains("reloaded"));
        until("the new member too", || of(&place, "new/3")["records"] == 1);
    })
    .await
    .expect("it does not panic");
}

/// A store that failed while a reload waited took the reload with it, and nothing said so.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_while_a_reload_waits_is_opened_with_the_new_file() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    receiver.answers("/me", |_| Reply::Hang);
    tokio::task::spawn_blocking(move || {
        let orders = bridge("orders", &upstream, "first-poll = \"emit\"");
        let place = Place::new(&(orders.clone() + &endpoint(&receiver, "timeout = \"2m\"")));
        let points = place.path().join("points");
        std::fs::create_dir(&points).expect("made");
        upstream.fill(2);
        let mut daemon = place.start_with(&[("BELLPULL_FAILPOINTS", points.to_str().expect("a path"))]);
        until("an attempt is under way", || !receiver.received().is_empty());
        let more = bridge("more", &upstream, "");
        place.write(&(orders.clone() + &more + &endpoint(&receiver, "timeout = \"1m\"")));
        daemon.signal("HUP");
        daemon.told("RELOADING=1");
        std::fs::write(points.join("disk"), "").expect("on");
        upstream.put("1", r#"{"id":1,"v":1}"#);
        until("the store has failed", || daemon.log().contains("the store failed"));
        std::fs::remove_file(points.join("disk")).expect("off");
        daemon.told("READY=1");
        until("the new bridge is polled", || of(&place, "more")["records"] == 2);
    })
    .await
    .expect("it does not panic");
}

/// `was` of a bridge over a list moved nothing: its members began again, and what had changed meanwhile was lost.
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
        // Nor is one that has left marked as back.
        place.write(&(bridge("c", &upstream, "") + &endpoint(&receiver, "")));
        drop(place.start());
        let kept = || {
            let export = place.run(&["export"]);
            assert_eq!(export.code, 0, "{export:?}");
            export.out.lines().find(|line| line.contains("\"progress\":{\"bridge\":\"a\"")).expect("a row").to_owned()
        };
        let before = kept();
        assert!(before.contains("\"removed\":"), "{before}");
        place.write(&file);
        assert_eq!(place.run(&["poll", "a", "--dry-run"]).code, 0);
        assert_eq!(kept(), before);
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
    eventually("it is held", async || handle.status().await["orders"].state.word() == "held").await;
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
    let text = list("alert.stale-after = \"2h\"");
    let mut world = World::at(Arc::new(MemoryEngine::new()), clock.clone(), &text).await;
    world.upstream.fill(1);
    world.poll().await;
    let (began, hours) = (clock.now(), |n: i64| n * 3_600_000);
    clock.set(began.plus_ms(hours(9)));
    world.upstream.always(Some(Answer::new(500, "no").into()));
    let handle = world.rig.run().await;
    let stale = async |world: &World| world.rig.alerts().await.iter().filter(|a| *a == "bellpull.bridge.stale").count();
    handle.poll("orders".into()).await.expect_err("it fails");
    assert_eq!(stale(&world).await, 0);
    // Nor does a pause.
    handle.pause("orders".into(), true).await.expect("paused");
    clock.set(began.plus_ms(hours(20)));
    handle.pause("orders".into(), false).await.expect("resumed");
    handle.poll("orders".into()).await.expect_err("it fails");
    assert_eq!(stale(&world).await, 0);
    // Nor a clock that is set.
    clock.set(began.plus_ms(hours(2000)));
    handle.poll("orders".into()).await.expect_err("it fails");
    assert_eq!(stale(&world).await, 0);
    // Hours of failing do.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3 * 3600)).await;
    tokio::time::resume();
    handle.poll("orders".into()).await.expect_err("it fails");
    assert_eq!(stale(&world).await, 1);
}

/// A token was rotated, and the file read again: the next poll stayed a quarter of an hour away, also after `pause` and `resume`,
/// and after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_the_cure_asks_at_once() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let text = bridge("orders", &upstream, "") + &endpoint(&receiver, "");
    let place = Place::new(&text);
    tokio::task::block_in_place(|| {
        let mut daemon = place.start();
        let state = |state: &str| of(&place, "orders")["state"] == state;
        let breaks = |place: &Place| {
            upstream.always(Some(Answer::new(401, "").into()));
            until("it is asked", || {
                place.run(&["poll", "orders"]);
                state("failing")
            });
            let check = place.run(&["status", "orders", "--check"]);
            assert_eq!(check.code, 2, "{}", check.err);
            upstream.always(None);
        };
        breaks(&place);
        reload(&place, &mut daemon, &text.replace("[\"me\"]", "[\"me\"]\nalert.after = 7"));
        until("it is asked after a reload that changed it", || state("ok"));
        assert_eq!(place.run(&["status", "orders", "--check"]).code, 0);
        breaks(&place);
        assert_eq!(place.run(&["pause", "orders"]).code, 0);
        assert_eq!(place.run(&["resume", "orders"]).code, 0);
        until("it is asked after it was resumed", || state("ok"));
        breaks(&place);
        let polled = place.run(&["poll", "--failing"]);
        assert!(polled.code == 0 && polled.out.starts_with("orders: "), "{}{}", polled.out, polled.err);
        until("it is well", || state("ok"));
    });
}

/// A folder of files vanished, and 5,000 bridges with it, in a line of INFO.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_removes_most_bridges_has_to_be_meant() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let some = |count: usize| -> String {
        let bridges = (0..count).map(|n| bridge(&format!("b{n}"), &upstream, "enabled = false"));
        bridges.collect::<String>() + &endpoint(&receiver, "")
    };
    let place = Place::new(&some(20));
    tokio::task::block_in_place(|| {
        let mut daemon = place.start();
        let count = || place.json(&["status"])["bridges"].as_object().expect("bridges").len();
        reload(&place, &mut daemon, &some(9));
        assert_eq!(count(), 20);
        let refused = place.json(&["status"])["reload_refused"].to_string();
        assert!(refused.contains("remove 11 of 20 bridges") && refused.contains("--force"), "{refused}");
        assert!(daemon.log().contains("remove 11 of 20 bridges"), "{}", daemon.log());
        let again = place.run(&["reload"]);
        assert!(again.code == 1 && again.err.contains("daemon.guard.reload"), "{}", again.err);
        assert_eq!(count(), 20);
        let forced = place.run(&["reload", "--force"]);
        assert_eq!(forced.code, 0, "{}", forced.err);
        until("they are gone", || count() == 9);
        assert!(place.json(&["status"])["reload_refused"].is_null());
        // The file may say that it is meant.
        reload(&place, &mut daemon, &(some(20) + "[daemon.guard]\nreload = 1.0\n"));
        until("they are back", || count() == 20);
        reload(&place, &mut daemon, &(some(1) + "[daemon.guard]\nreload = 1.0\n"));
        // Each goes by itself.
        until("the others are gone", || count() == 1);
    });
}

/// What a reload would do was told by the reload, when it was done.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_a_reload_then_does() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let spare = "[endpoint.spare]\nurl = \"http://127.0.0.1:9/spare\"\n";
    let old = bridge("a", &upstream, "") + &bridge("b", &upstream, "") + &endpoint(&receiver, "") + spare;
    let new = bridge("a", &upstream, "ignore = [\".at\"]")
        + &bridge("c", &upstream, "was = \"b\"")
        + &endpoint(&receiver, "timeout = \"3s\"")
        + "[store.sled]\ncache = \"9MiB\"\n";
    let place = Place::new(&old);
    tokio::task::block_in_place(|| {
        let plan = |arguments: &[&str]| -> (i32, serde_json::Value) {
            let ran = place.run(&[&["--json", "plan"], arguments].concat());
            (ran.code, serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}{}", ran.out, ran.err)))
        };
        // Before the first start all is new.
        let (code, first) = plan(&[]);
        assert!(code == 2 && first["running"] == false && first["bridges"][0]["edits"][0] == "added", "{first}");
        let mut daemon = place.start();
        until("snapshots", || ["a", "b"].iter().all(|name| of(&place, name)["state"] == "ok"));
        let (code, same) = plan(&[]);
        assert_eq!((code, &same["bridges"]), (0, &serde_json::json!([])), "{same}");
        // Of another file, while the daemon's own is as it was.
        let other = place.path().join("new.toml");
        let head = std::fs::read_to_string(place.file()).expect("the file").replace(&old, "");
        std::fs::write(&other, head + &new).expect("written");
        let (code, found) = plan(&[other.to_str().expect("UTF-8")]);
        assert_eq!(code, 2, "{found}");
        let edits = |kind: &str| -> Vec<(String, String)> {
            let all = found[kind].as_array().expect("a list").iter();
            all.map(|one| (one["name"].to_string(), one["edits"][0].to_string())).collect()
        };
        let pair = |name: &str, edit: &str| (format!("{name:?}"), format!("{edit:?}"));
        assert_eq!(edits("bridges"), [pair("a", "compared_again"), pair("c", "renamed")], "{found}");
        assert_eq!(edits("endpoints"), [pair("me", "changed"), pair("spare", "removed")], "{found}");
        assert_eq!(found["bridges"][0]["keys"], serde_json::json!(["ignore"]));
        assert_eq!(found["bridges"][1]["was"], "b");
        assert_eq!(found["restart"], serde_json::json!(["store.sled.cache"]), "{found}");
        let told = place.run(&["plan", other.to_str().expect("UTF-8")]);
        assert!(told.out.contains("bridge c: renamed, was b") && !told.out.contains(SECRET), "{}", told.out);
        // A wrong file is one, whatever runs.
        let wrong = place.path().join("wrong.toml");
        std::fs::write(&wrong, "[bridge.a]\n").expect("written");
        let refused = place.run(&["plan", wrong.to_str().expect("UTF-8")]);
        assert!(refused.code == 78 && refused.err.contains("source"), "{}", refused.err);
        // The reload does it; what needs a restart is still to be done.
        reload(&place, &mut daemon, &new);
        until("it is renamed", || of(&place, "c")["state"] == "ok");
        let (code, left) = plan(&[]);
        assert_eq!((code, &left["bridges"]), (2, &serde_json::json!([])), "{left}");
        assert_eq!(left["restart"], serde_json::json!(["store.sled.cache"]), "{left}");
        daemon.stop();
        // Without a daemon the store is asked.
        place.write(&new.replace("[bridge.a]", "[bridge.d]"));
        let (code, stored) = plan(&[]);
        assert!(code == 2 && stored["running"] == false, "{stored}");
        let bridges = stored["bridges"].as_array().expect("a list").iter();
        let names: Vec<&str> = bridges.filter_map(|bridge| bridge["name"].as_str()).collect();
        assert_eq!(names, ["a", "d"], "{stored}");
    });
}
