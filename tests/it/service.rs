//! The daemon as systemd sees it, over a NOTIFY_SOCKET of the tests' own.

use std::{sync::Arc, time::Duration};

use bellpull::{admin::Admin, clock::Clock, poller, pulse::Pulse};

use crate::support::{
    daemon::Place,
    receiver::{Receiver, SECRET},
    rig::{LIST, World, list},
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

/// With a resolver that never answered no poll ended for minutes, while the scheduler answered whoever asked: the watchdog was fed.
#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_not_fed_while_what_is_due_never_ends() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let text = configuration(&upstream, &receiver)
        .replace("source.http.url", "source.http.deadline = \"1s\"\nsource.http.url")
        .replace("sign.standard", "timeout = \"500ms\"\nsign.standard");
    let place = Place::new(&text);
    blocking(move || {
        let points = place.path().join("points");
        std::fs::create_dir(&points).expect("made");
        let variables = [("WATCHDOG_USEC", "600000"), ("BELLPULL_FAILPOINTS", points.to_str().expect("a path"))];
        let mut daemon = place.start_with(&variables);
        let fed = "WATCHDOG=1";
        for (number, point) in ["poll", "attempt"].into_iter().enumerate() {
            std::fs::write(points.join(point), "").expect("on");
            upstream.put("new", &format!(r#"{{"id":"new","v":{number}}}"#));
            // It is fed while the slowest might still end, and then not any more.
            assert!(daemon.tells_within(fed, Duration::from_secs(2)), "{point}");
            let stops = (0..40).any(|_| !daemon.tells_within(fed, Duration::from_millis(900)));
            assert!(stops && !daemon.tells_within(fed, Duration::from_millis(900)), "{point}: nothing ends");
            std::fs::remove_file(points.join(point)).expect("off");
            assert!(daemon.tells_within(fed, Duration::from_secs(10)), "{point} ends again");
        }
        let log = daemon.log();
        assert!(log.contains("stand still"), "{log}");
    })
    .await;
}

/// With nothing to do nothing ends, and all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_nothing_due_is_fed() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let text = configuration(&upstream, &receiver)
        .replace("every = \"100ms\"", "every = \"1h\"")
        .replace("source.http.url", "source.http.deadline = \"100ms\"\nsource.http.url");
    let place = Place::new(&text);
    blocking(move || {
        let mut daemon = place.start_with(&[("WATCHDOG_USEC", "300000")]);
        for _ in 0..8 {
            assert!(daemon.tells_within("WATCHDOG=1", Duration::from_secs(5)), "{}", daemon.log());
            std::thread::sleep(Duration::from_millis(400));
        }
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

#[tokio::test]
async fn a_renamed_bridge_keeps_its_snapshot_and_sequence_and_a_removed_one_is_kept_for_a_while() {
    let mut world = World::start(LIST).await;
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    world.poll().await;
    world.receiver.wait_taken("/me", 1).await;
    world.restart(&LIST.replace("[bridge.orders]", "[bridge.purchases]\nwas = \"orders\"")).await;
    let handle = world.rig.run().await;
    eventually("it is polled", async || handle.status().await["purchases"].last_poll.is_some()).await;
    let status = handle.status().await;
    assert_eq!((status.len(), status["purchases"].records, status["purchases"].sequence), (1, 3, 1));
    world.upstream.put("1", r#"{"id":1,"v":2}"#);
    let taken = world.receiver.wait_taken("/me", 2).await;
    let event = &taken[1];
    assert_eq!(
        (event.kind(), event.sequence(), &event.body["data"]["before"]["v"]),
        ("purchases.updated", 2, &1.into())
    );
    // Gone from the file: named in `status`, and forgotten after thirty days.
    world.restart(&LIST.replace("bridge.orders", "bridge.others")).await;
    let handle = world.rig.run().await;
    eventually("it is polled", async || handle.status().await["others"].last_poll.is_some()).await;
    let admin =
        Admin::new(world.rig.store.clone(), Arc::new(world.rig.config.clone()), Some(handle), None, Pulse::new());
    let shown = crate::support::rig::as_json(admin.status().await.expect("status"));
    assert_eq!(
        (&shown["bridges"]["purchases"]["state"], &shown["bridges"]["purchases"]["records"]),
        (&"removed".into(), &3.into())
    );
    let now = Clock::system().now();
    let known = async |days: i64| {
        for _ in 0..3 {
            poller::roster::forget(&world.rig.store, &world.rig.config.bridges, now.plus_ms(days * 86_400_000))
                .await
                .expect("forgotten");
        }
        let known = world.rig.store.read(|engine| engine.bridges()).await.expect("read");
        known.iter().filter(|loaded| loaded.state.version > 0).count()
    };
    assert_eq!((known(29).await, known(31).await), (2, 1));
    assert!(world.rig.store.read(|engine| engine.scan("purchases", None, 10)).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_bridge_without_an_accepted_poll_is_told_once_and_a_failure_that_lasts_again() {
    let mut world = World::start(&list("alert = { after = 1, repeat = \"200ms\", stale-after = \"300ms\" }")).await;
    world.upstream.fill(1);
    world.poll().await;
    world.upstream.always(Some(Answer::new(500, "no").into()));
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(900) {
        world.fail().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alerts = world.rig.alerts().await;
    let count = |kind: &str| alerts.iter().filter(|alert| *alert == kind).count();
    assert_eq!(count("bellpull.bridge.stale"), 1, "{alerts:?}");
    assert!((3..=5).contains(&count("bellpull.bridge.failing")), "{alerts:?}");
    world.upstream.always(None);
    world.poll().await;
    world.receiver.wait_taken("/me", alerts.len() + 1).await;
    assert_eq!(world.rig.alerts().await.last().map(String::as_str), Some("bellpull.bridge.recovered"));
}

/// A command as a user who owns nothing: as this one, or as `nobody` where the tests are root's. `None` where that cannot be done.
fn as_nobody(place: &Place, arguments: &[&str]) -> Option<crate::support::daemon::Ran> {
    let binary = std::fs::canonicalize(crate::support::daemon::binary()).expect("the program");
    let is_root = rustix::process::geteuid().is_root();
    let mut command = std::process::Command::new(if is_root { "setpriv".as_ref() } else { binary.as_os_str() });
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
    }
    command.arg("--config").arg(place.file()).args(arguments).current_dir("/");
    let ran = command.output().ok()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let ran = crate::support::daemon::Ran {
        code: ran.status.code().unwrap_or(-1),
        out: text(ran.stdout),
        err: text(ran.stderr),
    };
    // Who runs the tests may have put the program where nobody else gets.
    (!ran.err.starts_with("setpriv:")).then_some(ran)
}

/// Every path below a directory, with its bytes.
fn everything(dir: &std::path::Path, out: &mut std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            everything(&path, out);
        } else {
            out.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
        }
    }
}

fn modes(dir: &std::path::Path, directory: u32, file: u32) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            modes(&path, directory, file);
        } else {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file)).expect("its mode");
        }
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(directory)).expect("its mode");
}

/// A store that was mounted for reading, or another user's, could not be looked at: `opening owner: Permission denied`.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_is_read_from_a_copy() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    upstream.fill(3);
    let place = Place::new(&configuration(&upstream, &receiver));
    blocking(move || {
        let daemon = place.start();
        assert_eq!(place.run(&["poll", "orders"]).code, 0);
        upstream.put("1", r#"{"id":1,"v":2}"#);
        assert_eq!(place.run(&["poll", "orders"]).code, 0);
        daemon.stop();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
        let state = place.path().join("state");
        modes(&state, 0o555, 0o444);
        let mut before = std::collections::BTreeMap::new();
        everything(&state, &mut before);
        let Some(status) = as_nobody(&place, &["--json", "status"]) else {
            println!("skipped: nobody else can run the program here");
            modes(&state, 0o700, 0o600);
            return;
        };
        assert_eq!(status.code, 0, "{}", status.err);
        let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
        assert_eq!(status["bridges"]["orders"]["records"], 3, "{status}");
        let events = as_nobody(&place, &["events"]).expect("it ran before");
        assert!(events.code == 0 && events.out.contains("orders.updated"), "{events:?}");
        let mut after = std::collections::BTreeMap::new();
        everything(&state, &mut after);
        assert!(before == after, "nothing in it was changed");
        // What writes says why it does not.
        let polled = as_nobody(&place, &["poll", "orders"]).expect("it ran before");
        assert!(polled.code == 74 && polled.err.contains("cannot be written by this user"), "{polled:?}");
        // Of a directory of its owner's alone nothing can be read.
        if rustix::process::geteuid().is_root() {
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).expect("its mode");
            let status = as_nobody(&place, &["status"]).expect("it ran before");
            assert!(status.code == 74 && status.err.contains("neither be written nor be read"), "{status:?}");
        }
        modes(&state, 0o700, 0o600);
    })
    .await;
}
