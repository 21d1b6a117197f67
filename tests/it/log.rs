//! What the daemon says at `info`: nothing while nothing changes, and each change of a state once.

use bellpull::telemetry::kind;

use crate::support::{
    daemon::{Daemon, Place},
    receiver::{Receiver, SECRET},
    server::{Answer, eventually},
    upstream::Upstream,
};

struct Scene {
    upstream: Upstream,
    receiver: Receiver,
    place: Place,
    daemon: Daemon,
}

impl Scene {
    /// Twelve records are known, and the first poll is behind.
    async fn start(bridge: &str, endpoint: &str) -> Self {
        let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
        upstream.fill(12);
        let place = Place::new(&configuration(&upstream, &receiver, bridge, endpoint));
        let (place, daemon) = blocking(move || {
            let daemon = place.start();
            (place, daemon)
        })
        .await;
        let scene = Self { upstream, receiver, place, daemon };
        scene.says("committed", 1).await;
        scene
    }

    /// Lines with these words, at `info` and above.
    fn lines(&self, words: &str) -> Vec<String> {
        self.daemon.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    async fn says(&self, words: &str, times: usize) {
        eventually(&format!("{words:?}, {times} times"), async || self.lines(words).len() >= times).await;
        assert_eq!(self.lines(words).len(), times, "{words:?}: {}", self.daemon.log());
    }

    /// Some more polls.
    async fn polls(&self) {
        let before = self.upstream.count();
        eventually("it is polled", async || self.upstream.count() >= before + 5).await;
    }

    async fn run(&self, arguments: &'static [&'static str]) {
        let command = self.place.command(arguments);
        let ran = blocking(move || crate::support::daemon::Ran::of(command)).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
    }

    async fn fails(&self, arguments: &'static [&'static str]) {
        let command = self.place.command(arguments);
        let ran = blocking(move || crate::support::daemon::Ran::of(command)).await;
        assert_ne!(ran.code, 0, "{arguments:?}: {}", ran.out);
    }

    /// Changes one record.
    fn change(&self, value: u32) {
        self.upstream.put("1", &format!(r#"{{"id":1,"v":{value}}}"#));
    }
}

fn configuration(upstream: &Upstream, receiver: &Receiver, bridge: &str, endpoint: &str) -> String {
    format!(
        "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\nsource.http.url = \"{}/items\"\n{bridge}\n\
         [endpoint.me]\nurl = \"{}/me\"\nsign.standard.secrets = [{{ value = {SECRET:?} }}]\n{endpoint}\n",
        upstream.origin(),
        receiver.origin()
    )
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_daemon_says_nothing() {
    let scene = Scene::start("", "").await;
    for _ in 0..3 {
        scene.polls().await;
    }
    // Unchanged, and once more with other bytes that say the same.
    scene.upstream.put("1", r#"{"id": 1, "v": 0}"#);
    scene.polls().await;
    let log = scene.daemon.log();
    assert_eq!(log.lines().count(), 3, "the warning of the secret in the file, `runs` and the first snapshot: {log}");
    assert!(!log.contains("message_id"), "text is for people: {log}");
    // A change is one line, and its delivery none.
    scene.change(1);
    scene.receiver.wait_taken("/me", 1).await;
    scene.polls().await;
    let log = scene.daemon.log();
    assert_eq!(log.lines().count(), 4, "{log}");
    let committed = scene.lines("committed");
    for field in ["bridge=orders", "created=0", "updated=1", "deleted=0", "records=12", "baseline=false"] {
        assert!(committed[1].contains(field), "{field}: {}", committed[1]);
    }
    let log = blocking(move || scene.daemon.stop()).await;
    assert_eq!(log.lines().count(), 5, "{log}");
    assert!(log.lines().last().expect("a line").contains("bellpull has stopped"), "{log}");
}

/// What is left out of an answer, and what is replaced in it, is told when it begins and not with each poll.
#[tokio::test(flavor = "multi_thread")]
async fn bad_records_and_halves_of_pairs_are_told_once() {
    let scene = Scene::start("bad-records = \"keep\"", "").await;
    scene.upstream.put("x", r#"{"no":1,"t":"\ud83d"}"#);
    scene.says("records were left out", 1).await;
    scene.says("became U+FFFD", 1).await;
    for value in 1..4 {
        scene.change(value);
        scene.receiver.wait_taken("/me", value.try_into().expect("small")).await;
    }
    scene.says("records were left out", 1).await;
    scene.says("became U+FFFD", 1).await;
    let told = scene.lines("records were left out");
    assert!(told[0].contains("has no key") && told[0].contains("count=1"), "{told:?}");
    let place = &scene.place;
    let command = place.command(&["--json", "status", "orders"]);
    let ran = blocking(move || crate::support::daemon::Ran::of(command)).await;
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let bridge = &status["bridges"]["orders"];
    assert_eq!((bridge["left_out"].as_u64(), bridge["replaced"].as_u64()), (Some(1), Some(1)), "{status}");
    assert_eq!(bridge["state"], "ok", "{status}");
}

/// `systemd/README.md` has the kinds for those who ask journald.
#[test]
fn the_table_of_kinds_is_the_programs() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/README.md")).expect("the page");
    let table = page.split("| kind | `MESSAGE_ID` | said when |\n|---|---|---|\n").nth(1).expect("the table");
    let shown: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let row = |kind: &kind::Kind| format!("| `{}` | `{}` | {} |", kind.name, kind.id, kind.when);
    assert_eq!(shown, kind::ALL.iter().map(row).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_bridge_is_told_once() {
    let scene = Scene::start("alert.stale-after = \"300ms\"", "").await;
    // Its backoff begins with 5 s: an admin asks for the next ones.
    scene.upstream.always(Some(Answer::new(500, "no").into()));
    scene.says("the poll failed", 1).await;
    eventually("it is stale", async || {
        scene.fails(&["poll", "orders"]).await;
        !scene.lines("no poll was accepted for long").is_empty()
    })
    .await;
    scene.fails(&["poll", "orders"]).await;
    scene.says("no poll was accepted for long", 1).await;
    scene.says("the poll failed", 1).await;
    assert!(scene.lines("the poll failed")[0].contains("WARN"), "{}", scene.daemon.log());
    scene.upstream.always(None);
    scene.run(&["poll", "orders"]).await;
    scene.says("the poll does not fail any more", 1).await;
    scene.run(&["pause", "orders"]).await;
    scene.run(&["pause", "orders"]).await;
    scene.run(&["resume", "orders"]).await;
    scene.says("paused by hand", 1).await;
    scene.says("resumed by hand", 1).await;
    // Held, with another answer each time.
    for left in [3, 2, 1] {
        scene.upstream.fill(left);
        scene.polls().await;
    }
    scene.says("the answer is held", 1).await;
    scene.upstream.fill(12);
    scene.says("nothing is held any more", 1).await;
    scene.upstream.fill(4);
    scene.says("the answer is held", 2).await;
    scene.run(&["reject", "orders"]).await;
    scene.says("the held answer is rejected", 1).await;
    scene.polls().await;
    scene.says("the answer is held", 2).await;
    let log = scene.daemon.log();
    let of_the_daemon = |line: &&str| line.contains("bellpull runs") || line.contains("has a warning");
    let others: Vec<&str> = log.lines().filter(|line| !of_the_daemon(line)).collect();
    assert!(others.len() > 8 && others.iter().all(|line| line.contains("bridge=orders")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_an_endpoint_is_told_once() {
    let lines = "retry.schedule = [\"50ms\"]\nqueue-max = 2\nqueue-full = \"dead\"\norder = \"none\"";
    let scene = Scene::start("", lines).await;
    scene.receiver.status("/me", 503);
    scene.change(1);
    scene.says("the endpoint is down", 1).await;
    for value in 2..6 {
        scene.change(value);
        scene.says("committed", usize::try_from(value).expect("few") + 1).await;
    }
    let probes = scene.receiver.at("/me").len();
    eventually("it is probed", async || scene.receiver.at("/me").len() > probes + 5).await;
    scene.says("the endpoint is down", 1).await;
    scene.says("the queue is full", 1).await;
    scene.receiver.status("/me", 200);
    scene.says("the endpoint answers again", 1).await;
    scene.says("the queue has room again", 1).await;
    // What a receiver refuses is told, and dies: both once, however many they are.
    scene.receiver.status("/me", 400);
    for value in 10..14 {
        let before = scene.receiver.at("/me").len();
        scene.change(value);
        eventually("it is tried to its end", async || scene.receiver.at("/me").len() >= before + 2).await;
    }
    scene.says("the receiver refused an event", 1).await;
    scene.says(": dead letter", 1).await;
    let dead = &scene.lines(": dead letter")[0];
    assert!(dead.contains("endpoint=me") && dead.contains("event_id=") && dead.contains("status=400"), "{dead}");
    scene.run(&["endpoint", "disable", "me"]).await;
    scene.says("disabled by hand", 1).await;
    scene.run(&["endpoint", "enable", "me"]).await;
    scene.says("enabled by hand", 1).await;
    // Enabled while it is down, it has not answered yet.
    scene.receiver.status("/me", 503);
    scene.change(15);
    scene.says("the endpoint is down", 2).await;
    scene.run(&["endpoint", "disable", "me"]).await;
    scene.run(&["endpoint", "enable", "me"]).await;
    scene.says("enabled by hand", 2).await;
    scene.says("the endpoint answers again", 1).await;
    scene.receiver.status("/me", 410);
    scene.change(20);
    scene.says("the endpoint is disabled", 1).await;
    assert!(scene.lines("the endpoint is disabled")[0].contains("ERROR"), "{}", scene.daemon.log());
    assert!(!scene.daemon.log().contains(SECRET), "no secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reload_is_told_once() {
    let scene = Scene::start("", "").await;
    let right = std::fs::read_to_string(scene.place.file()).expect("the file");
    std::fs::write(scene.place.file(), right.replace("every", "evry")).expect("written");
    scene.daemon.signal("HUP");
    scene.says("the configuration was not reloaded", 1).await;
    assert!(scene.daemon.log().contains("unknown key `evry`"), "it says why: {}", scene.daemon.log());
    let json = format!("{right}\n[log]\nlevel = \"info\"\nformat = \"json\"\n");
    std::fs::write(scene.place.file(), json).expect("written");
    scene.daemon.signal("HUP");
    scene.says("reloaded bridges=1 endpoints=1", 1).await;
    // JSON keeps the id of the kind; the format is the next start's.
    let Scene { daemon, place, .. } = scene;
    let log = blocking(move || {
        daemon.stop();
        std::fs::remove_file(place.path().join("log")).expect("removed");
        // It is ready before it says so, and says all when it has stopped.
        place.start().stop()
    })
    .await;
    let started = log.lines().find(|line| line.contains("bellpull runs")).expect("a line");
    let started: serde_json::Value = serde_json::from_str(started).expect("JSON");
    assert_eq!(started["fields"]["message_id"], "7367c6bfa5104a6fa699ec66613109e4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_told_once_and_so_is_its_return() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    upstream.fill(12);
    let place = Place::new(&configuration(&upstream, &receiver, "", ""));
    let point = place.path().join("disk");
    let (place, daemon) = blocking(move || {
        let points = place.path().to_str().expect("a path");
        let more = ("RUST_LOG", "info,bellpull::daemon=debug");
        let daemon = place.start_with(&[("BELLPULL_FAILPOINTS", points), more]);
        (place, daemon)
    })
    .await;
    let scene = Scene { upstream, receiver, place, daemon };
    scene.says("committed", 1).await;
    std::fs::write(&point, "").expect("on");
    scene.change(1);
    scene.says("the store failed", 1).await;
    let tries = "failed to open the store again";
    eventually("it was tried twice", async || scene.lines(tries).len() >= 2).await;
    std::fs::remove_file(&point).expect("off");
    scene.says("the store is open again", 1).await;
    scene.receiver.wait_taken("/me", 1).await;
    let log = scene.daemon.log();
    // The warning of the secret, `runs`, the first snapshot, `failed`, the first of the tries, `open again` and the change.
    assert_eq!(log.lines().filter(|line| !line.contains("DEBUG")).count(), 7, "{log}");
}
