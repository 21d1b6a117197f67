//! The binary as a person and systemd use it.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::json;

use crate::support::{
    daemon::{Place, Ran, bellpull, run},
    receiver::{Receiver, SECRET},
    server::{Answer, eventually},
    upstream::Upstream,
};

fn configuration(upstream: &Upstream, receiver: &Receiver, every: &str) -> String {
    format!(
        r#"
[bridge.shop-orders]
every = "{every}"
items = ".[]"
key = ".id"
to = ["app"]
source.http.url = "{}/items"
source.http.auth.bearer.secret = {{ value = "s3cr3t-token" }}

[endpoint.app]
url = "{}/app"
sign.standard.secrets = [{{ value = "{SECRET}" }}]
"#,
        upstream.origin(),
        receiver.origin()
    )
}

/// Runs blocking commands beside the servers of a test.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

#[test]
fn demo_once_prints_five_verified_webhooks_and_ids_differ_between_runs() {
    let ids = || -> BTreeSet<String> {
        let mut command = bellpull();
        command.args(["demo", "--once"]);
        let ran = Ran::of(command);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(ran.out.matches("# verified by standardwebhooks; answered 200").count(), 5, "{}", ran.out);
        for header in ["webhook-id: ", "webhook-timestamp: ", "webhook-signature: v1,", "user-agent: bellpull/"] {
            assert_eq!(ran.out.matches(&format!("\n{header}")).count(), 5, "{header}");
        }
        assert!(ran.out.contains("\"type\":\"issues.created\"") && ran.out.contains("\"type\":\"issues.deleted\""));
        ran.out.lines().filter_map(|line| line.strip_prefix("webhook-id: ")).map(str::to_owned).collect()
    };
    let (first, second) = (ids(), ids());
    assert_eq!((first.len(), second.len()), (5, 5));
    assert!(first.is_disjoint(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_refuses_one_flipped_byte() {
    let mut command = bellpull();
    command.args(["listen", "--port", "0", "--secret", SECRET, "--status", "202"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("UTF-8");
    let url = first.strip_prefix("# listening on ").expect("the address").to_owned();

    let body = br#"{"type":"a.created","data":{"n":1}}"#;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("body");
    std::fs::write(&file, body).expect("written");
    let mut sign = bellpull();
    // Not on the command line, which every user of the machine can read.
    let secret = dir.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("written");
    sign.arg("sign").arg("--secret-file").arg(&secret).arg(&file);
    let signed = beside(|| Ran::of(sign)).await;
    assert_eq!(signed.code, 0, "{}", signed.err);
    let send = async |body: Vec<u8>| {
        let mut request = reqwest::Client::new().post(&url).body(body);
        for line in signed.out.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            request = request.header(name, value);
        }
        request.send().await.expect("it answers").status().as_u16()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert_eq!(send(body.to_vec()).await, 202);
    for at in [0, 10, body.len() - 1] {
        let mut flipped = body.to_vec();
        flipped[at] ^= 1;
        assert_eq!(send(flipped).await, 401, "byte {at}");
    }
    // It answers before it prints: stopped at once, it once had not printed the last one.
    let refused = |lines: &mut dyn Iterator<Item = std::io::Result<String>>| {
        lines.map_while(Result::ok).filter(|line| line.contains("REFUSED by standardwebhooks")).take(3).count()
    };
    let printed = tokio::time::timeout(std::time::Duration::from_secs(10), beside(move || refused(&mut lines))).await;
    child.kill().expect("it can be stopped");
    child.wait().expect("it ends");
    assert_eq!(printed, Ok(3));
}

#[test]
fn a_captured_request_is_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let (body, capture) = (dir.path().join("body"), dir.path().join("capture"));
    std::fs::write(&body, "{\"a\":1}").expect("written");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = bellpull();
        command.args(arguments);
        Ran::of(command)
    };
    let secret = run(&["secret".as_ref()]).out;
    let secret = secret.trim();
    let flag = std::ffi::OsString::from(format!("--secret={secret}"));
    let old = ["sign".as_ref(), flag.as_os_str(), "--timestamp=1700000000".as_ref(), body.as_os_str()];
    let headers = run(&old).out;
    std::fs::write(&capture, format!("POST /x HTTP/1.1\r\n{headers}\n{{\"a\":1}}")).expect("written");
    let verify = |flag: &std::ffi::OsStr| run(&["verify".as_ref(), flag, capture.as_os_str()]);
    let ran = verify(&flag);
    assert_eq!((ran.code, ran.out.contains("a receiver would refuse it today")), (0, true), "{ran:?}");
    let other = std::ffi::OsString::from(format!("--secret={}", bellpull::sign::make_secret()));
    assert_eq!(verify(&other).code, 1);
    std::fs::write(&capture, format!("{headers}\n{{\"a\":2}}")).expect("written");
    let ran = verify(&flag);
    assert_eq!((ran.code, ran.err.contains("no signature matches")), (1, true), "{ran:?}");
}

#[test]
fn check_shows_every_error_at_once_and_exits_with_78() {
    let place = Place::new(
        "[bridge.a]\nevry = \"5m\"\nsource.http.url = \"ftp://x\"\nto = [\"mee\"]\n[endpoint.me]\nurl = \"http://example.com/\"\n",
    );
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 78);
    for part in ["unknown key `evry`", "did you mean `every`?", "the scheme \"ftp\"", "bridges.toml:6:1: error: "] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    let json = place.run(&["--json", "check"]);
    assert_eq!(json.code, 78);
    let findings: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(findings["ok"], false);
    assert!(findings["findings"].as_array().expect("a list").len() >= 3, "{findings}");
    assert_eq!(place.run(&["run"]).code, 78, "and the daemon does not start with it");

    let mut usage = bellpull();
    usage.args(["status", "--nonsense"]);
    assert_eq!(Ran::of(usage).code, 64);
    let good = Place::new("");
    assert_eq!(good.run(&["check"]).code, 0);
    assert_eq!(good.run(&["accept", "a"]).code, 69, "no daemon runs");
    assert_eq!(good.run(&["status"]).code, 69, "and there is no store to read");
}

/// A schedule that means something else than was meant showed only in production.
#[test]
fn check_shows_when_a_cron_expression_comes() {
    let place = Place::new(
        "[bridge.orders]\ncron = \"30 9 * * MON-FRI\"\ntimezone = \"Europe/Berlin\"\nto = [\"me\"]\n\
         source.http.url = \"https://api.example.com/orders\"\n\
         [endpoint.me]\nurl = \"https://example.com/\"\nsign.standard.secrets = [{ env = \"SECRET\" }]\n",
    );
    let ran = place.run(&["check"]);
    let line = ran.out.lines().find(|line| line.starts_with("[bridge.orders] is polled next on ")).expect("a line");
    let runs: Vec<&str> = line.rsplit(" on ").next().expect("runs").split(", ").collect();
    assert_eq!(runs.len(), 3, "{line}");
    for run in runs {
        assert!(run.contains(" 09:30:00 CE") && !run.starts_with("Sat") && !run.starts_with("Sun"), "{run}");
    }
    let json: serde_json::Value = serde_json::from_str(&place.run(&["--json", "check"]).out).expect("JSON");
    assert_eq!(json["runs"]["orders"].as_array().map(Vec::len), Some(3), "{json}");
}

#[test]
fn check_resolves_secrets_only_when_asked() {
    let place = Place::new(
        "[endpoint.me]\nurl = \"http://example.com/\"\nsign.standard.secrets = [{ env = \"BELLPULL_TEST_UNSET\" }]\n",
    );
    assert_eq!(place.run(&["check"]).code, 0);
    let ran = place.run(&["check", "--resolve"]);
    assert_eq!((ran.code, ran.err.contains("the environment has no BELLPULL_TEST_UNSET")), (78, true), "{}", ran.err);
    let open = place.path().join("open-secret");
    std::fs::write(&open, SECRET).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&open, mode).expect("set");
    place.write(&format!(
        "[endpoint.me]\nurl = \"http://example.com/\"\nsign.standard.secrets = [{{ file = {:?} }}]\n",
        open.to_str().expect("a path")
    ));
    let ran = place.run(&["check", "--resolve"]);
    assert!(ran.code == 78 && ran.err.contains("may be read by group or others"), "{}", ran.err);
}

/// A paused bridge was `ok` without a daemon, a disabled endpoint too, and a bridge that was never polled was not there.
#[tokio::test(flavor = "multi_thread")]
async fn status_says_the_same_without_a_daemon() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    upstream.fill(30);
    let mut toml = String::new();
    for (name, more) in
        [("paused", ""), ("fine", ""), ("off", "enabled = false\n"), ("rejected", "guard.deletes = 0.1\n")]
    {
        toml += &configuration(&upstream, &receiver, "1h")
            .split("[endpoint")
            .next()
            .expect("a bridge")
            .replace("shop-orders", name)
            .replace("every", &format!("{more}every"));
    }
    for (name, more) in [("app", ""), ("offep", "enabled = false\n")] {
        toml += &format!(
            "[endpoint.{name}]\n{more}url = \"{}/app\"\nsign.standard.secrets = [{{ value = \"{SECRET}\" }}]\n",
            receiver.origin()
        );
    }
    let fill = move || {
        let place = Place::new(&toml);
        let daemon = place.start();
        for name in ["paused", "fine", "rejected"] {
            assert_eq!(place.run(&["poll", name]).code, 0);
        }
        (place, daemon)
    };
    let (place, daemon) = beside(fill).await;
    upstream.fill(1);
    let (with, without) = beside(move || {
        let polled = place.run(&["poll", "rejected"]);
        let rejected = place.run(&["reject", "rejected"]);
        assert_eq!(rejected.code, 0, "{polled:?} {rejected:?}");
        assert_eq!(place.run(&["pause", "paused"]).code, 0);
        let with = place.json(&["status"]);
        assert_eq!(place.run(&["event", "x/y"]).err.matches("EOF").count(), 0);
        daemon.stop();
        (with, place.json(&["status"]))
    })
    .await;
    for (kind, name, state) in [
        ("bridges", "paused", "paused"),
        ("bridges", "fine", "ok"),
        ("bridges", "off", "disabled"),
        ("bridges", "rejected", "ok"),
        ("endpoints", "app", "ok"),
        ("endpoints", "offep", "disabled"),
    ] {
        let (with, without) = (&with[kind][name], &without[kind][name]);
        assert_eq!((&with["state"], &without["state"]), (&json!(state), &json!(state)), "{name}: {with} {without}");
        let keys = |status: &serde_json::Value| {
            status.as_object().expect("a table").keys().cloned().collect::<BTreeSet<String>>()
        };
        assert_eq!(keys(with), keys(without), "{name}");
    }
}

/// Nothing was said of any of them.
#[test]
fn check_warns_of_what_others_could_read_or_guess() {
    let warned = |toml: &str, part: &str| {
        let place = Place::new(toml);
        let ran = place.run(&["check", "--resolve"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err.lines().any(|line| line.contains("warning: ") && line.contains(part))
    };
    let bridge = |rest: &str| {
        format!("[endpoint.me]\nurl = \"https://example.com/\"\n[bridge.a]\nevery = \"1h\"\nto = [\"me\"]\n{rest}\n")
    };
    let basic = "source.http.auth.basic = { username = \"me\", password = { value = \"correct-horse-battery\" } }";
    for (host, clear) in
        [("http://api.example.com", true), ("https://api.example.com", false), ("http://127.0.0.1:1", false)]
    {
        let toml = bridge(&format!("source.http.url = \"{host}/a\"\n{basic}"));
        assert_eq!(warned(&toml, "credentials in clear"), clear, "{host}");
        assert!(
            !warned(&bridge(&format!("source.http.url = \"{host}/a\"")), "in clear"),
            "{host}: without credentials"
        );
        let oauth = format!(
            "source.http.url = \"https://api.example.com/a\"\nsource.http.auth.oauth2 = {{ token-url = \"{host}/t\", \
             client-id = \"me\", client-secret = {{ value = \"correct-horse-battery\" }} }}"
        );
        assert_eq!(
            warned(&bridge(&oauth), "`bridge.a.source.http.auth.oauth2.token-url`: credentials"),
            clear,
            "{host}"
        );
    }
    let jwt = |key: &str| {
        bridge(&format!(
            "source.http.url = \"https://api.example.com/a\"\n\
             source.http.auth.jwt = {{ algorithm = \"HS256\", key = {{ value = \"{key}\" }} }}"
        ))
    };
    assert!(warned(&jwt("0123456789012345678901234567890"), "fewer than 32"));
    assert!(!warned(&jwt("01234567890123456789012345678901"), "fewer than 32"));
    let signed = |secret: &str| {
        format!("[endpoint.me]\nurl = \"https://example.com/\"\nsign.github.secrets = [{{ value = \"{secret}\" }}]\n")
    };
    assert!(
        warned(&signed("too-short"), "fewer than 16") && !warned(&signed("long-enough-to-be-one"), "fewer than 16")
    );
    let listen = |address: &str| {
        let place = Place::new("");
        let text = std::fs::read_to_string(place.file()).expect("the file");
        std::fs::write(place.file(), text.replace("listen = \"off\"", &format!("listen = \"{address}\"")))
            .expect("written");
        place.run(&["check"])
    };
    assert!(listen("0.0.0.0:8642").err.contains("over the network in clear"));
    assert!(!listen("127.0.0.1:8642").err.contains("in clear") && !listen("[::1]:8642").err.contains("in clear"));
}

/// A secret that is a pipe was waited for, for ever; root ran the programs of whoever's directory it stood in.
#[test]
fn files_of_others_are_not_believed() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let place = Place::new("");
    let pipe = place.path().join("pipe");
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    for odd in [&pipe, std::path::Path::new("/dev/null")] {
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).expect("set");
        place.write(&format!(
            "[endpoint.me]\nurl = \"http://example.com/\"\nsign.standard.secrets = [{{ file = {odd:?} }}]\n"
        ));
        let ran = place.run(&["check", "--resolve"]);
        assert!(ran.code == 78 && (ran.err.contains("is not a file") || ran.err.contains("mode 666")), "{}", ran.err);
    }
    let here = |command: &mut std::process::Command| {
        command.current_dir(place.path());
        Ran::of(std::mem::replace(command, bellpull()))
    };
    place.write("");
    let file = place.path().join("bridges.toml");
    std::fs::rename(place.file(), &file).ok();
    assert_eq!(here(bellpull().arg("check")).code, 0);
    if chown(&file, Some(12_345), None).is_err() {
        println!("skipped: only root can give a file away");
        return;
    }
    let refused = here(bellpull().arg("check"));
    assert!(refused.code == 78 && refused.err.contains("belongs to another user"), "{refused:?}");
    assert_eq!(here(bellpull().args(["--config", "bridges.toml", "check"])).code, 0);
    assert_eq!(here(bellpull().arg("secret")).code, 0, "what reads no file goes on");
}

/// Who may write the state directory can put another store in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_others_can_write_is_closed() {
    use std::os::unix::fs::PermissionsExt;
    let (place, mode) = beside(|| {
        let place = Place::new("");
        let state = place.path().join("state");
        std::fs::create_dir(&state).expect("made");
        std::fs::set_permissions(&state, PermissionsExt::from_mode(0o777)).expect("set");
        let daemon = place.start();
        // More than it has places for, and none of them says anything.
        let idle: Vec<_> =
            (0..300).filter_map(|_| std::os::unix::net::UnixStream::connect(state.join("admin.sock")).ok()).collect();
        assert!(idle.len() > 256, "{}", idle.len());
        assert_eq!(place.run(&["status"]).code, 0);
        drop(daemon);
        let mode = std::fs::metadata(&state).expect("there").permissions().mode() & 0o777;
        (place, mode)
    })
    .await;
    assert_eq!(mode, 0o755);
    drop(place);
}

/// A body that a terminal obeys was printed as it came, that of a refused request too.
#[tokio::test(flavor = "multi_thread")]
async fn listen_prints_nothing_that_a_terminal_obeys() {
    let mut command = bellpull();
    command.args(["listen", "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("UTF-8");
    let url = first.strip_prefix("# listening on ").expect("the address").to_owned();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let body = "\u{1b}]0;owned\u{7} \u{9b}2J \u{202e}txt.exe\u{7f}\r";
    reqwest::Client::new().post(&url).header("x-a", "b\u{9b}".as_bytes()).body(body).send().await.expect("it answers");
    let read = move || lines.map_while(Result::ok).take_while(|line| !line.contains("answered")).collect::<String>();
    let printed = tokio::time::timeout(std::time::Duration::from_secs(10), beside(read)).await.expect("in time");
    child.kill().expect("it can be stopped");
    child.wait().expect("it ends");
    assert!(printed.contains("\\u001b]0;owned\\u0007 \\u009b2J \\u202etxt.exe\\u007f\\u000d"), "{printed:?}");
    assert!(!printed.chars().any(|char| char.is_control() || char == '\u{202e}'), "{printed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_the_daemon() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    upstream.fill(12);
    let place = std::sync::Arc::new(Place::new(&configuration(&upstream, &receiver, "200ms")));
    let p = place.clone();
    let daemon = beside(move || p.start()).await;
    let ask = async |arguments: &'static [&'static str]| {
        let p = place.clone();
        beside(move || p.json(arguments)).await
    };
    eventually("a baseline", async || ask(&["status", "shop-orders"]).await["bridges"]["shop-orders"]["state"] == "ok")
        .await;
    assert!(receiver.received().is_empty(), "a baseline is silent");
    upstream.put("3", r#"{"id":3,"v":1}"#);
    upstream.put("13", r#"{"id":13,"v":0}"#);
    receiver.wait_taken("/app", 2).await;
    eventually("both settled", async || ask(&["status"]).await["endpoints"]["app"]["waiting"] == 0).await;

    let events = ask(&["events", "--bridge", "shop-orders", "--since", "1h"]).await;
    let events = events.as_array().expect("a list");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["sequence"], 2, "newest first");
    let id = events[1]["id"].as_str().expect("an id").to_owned();
    let p = place.clone();
    let one = {
        let id = id.clone();
        beside(move || p.json(&["event", &id])).await
    };
    assert_eq!(one["attempts"][0]["status"], 200);
    assert_eq!(one["body"]["data"]["sequence"], 1);
    assert_eq!(ask(&["deliveries", "--endpoint", "app"]).await.as_array().expect("a list").len(), 2);
    assert_eq!(ask(&["deliveries", "--state", "dead"]).await, json!([]));
    // Filters are the server's, and a cut is told beside the rows.
    let found: [(&'static [&'static str], usize); 7] = [
        (&["deliveries", "--key", "3"], 1),
        (&["deliveries", "--bridge", "shop-orders", "--status", "200"], 2),
        (&["deliveries", "--status", "500"], 0),
        (&["deliveries", "--type", "shop_orders.created", "--state", "delivered"], 1),
        (&["deliveries", "--matching", "\"id\":13", "--since", "1h"], 1),
        (&["deliveries", "--until", "1h"], 0),
        (&["deliveries", "--state", "delivered", "--status", "200", "--limit", "1"], 1),
    ];
    for (arguments, count) in found {
        assert_eq!(ask(arguments).await.as_array().map(Vec::len), Some(count), "{arguments:?}");
    }
    let p = place.clone();
    let cut = beside(move || p.run(&["--json", "deliveries", "--limit", "1"])).await;
    assert!(cut.err.contains("1 of 2; --limit N shows more"), "{}", cut.err);
    let nothing = ask(&["replay", "--key", "13", "--status", "500"]).await;
    assert_eq!((&nothing["events"], &nothing["deliveries"]), (&json!(0), &json!(0)));

    // A second daemon on the same directory says who holds it.
    let p = place.clone();
    let second = beside(move || p.run(&["run"])).await;
    assert_eq!(second.code, 74, "{}", second.err);
    assert!(second.err.contains(&daemon.id().to_string()), "{}", second.err);

    // By hand: disabled endpoints keep, enabled ones send.
    ask(&["endpoint", "disable", "app"]).await;
    upstream.put("4", r#"{"id":4,"v":9}"#);
    eventually("one waits", async || ask(&["status"]).await["endpoints"]["app"]["waiting"] == 1).await;
    assert_eq!(ask(&["status"]).await["endpoints"]["app"]["state"], "disabled");
    ask(&["endpoint", "enable", "app"]).await;
    receiver.wait_taken("/app", 3).await;

    // A replay has the same id, and says that it is one.
    let p = place.clone();
    let again = id.clone();
    let replayed = beside(move || p.json(&["replay", &again])).await;
    assert_eq!(replayed["deliveries"], 1);
    let taken = receiver.wait_taken("/app", 4).await;
    assert_eq!(taken[3].id, id);
    assert_eq!(taken[3].request.header("bellpull-replay"), Some("true"));
    assert_eq!(taken[3].bytes, taken.iter().find(|t| t.id == id).expect("the first").bytes, "byte-identical");

    // One that a filter finds, and not the others.
    let replayed = ask(&["replay", "--matching", "\"id\":13", "--bridge", "shop-orders"]).await;
    assert_eq!((&replayed["events"], &replayed["deliveries"]), (&json!(1), &json!(1)));
    assert_eq!(receiver.wait_taken("/app", 5).await[4].key(), "13");

    // Every record, for a receiver that lost its data.
    assert_eq!(ask(&["resend", "shop-orders", "--endpoint", "app"]).await["events"], 13);
    let taken = receiver.wait_taken("/app", 18).await;
    assert_eq!(taken.iter().filter(|t| t.kind() == "shop_orders.present").count(), 13);

    // A dry run writes nothing and needs no network.
    let saved = place.path().join("saved.json");
    std::fs::write(&saved, r#"[{"id":1,"v":0},{"id":2,"v":7}]"#).expect("written");
    let p = place.clone();
    let dry =
        beside(move || p.json(&["poll", "shop-orders", "--dry-run", "--response", saved.to_str().expect("a path")]))
            .await;
    assert_eq!((&dry["updated"], &dry["deleted"]), (&json!(1), &json!(11)), "{dry}");
    assert!(dry["verdict"]["hold"].as_str().expect("held").contains("guard.deletes"));
    assert_eq!(ask(&["poll", "shop-orders", "--dry-run"]).await["verdict"], "commit");

    // Too many deletions are held until a person says so.
    upstream.set(&[("1", r#"{"id":1,"v":0}"#), ("2", r#"{"id":2,"v":0}"#)]);
    eventually("a hold", async || ask(&["status"]).await["bridges"]["shop-orders"]["state"] == "held").await;
    receiver.wait_taken("/app", 19).await;
    let hold = ask(&["status", "shop-orders"]).await["bridges"]["shop-orders"]["hold"].clone();
    assert_eq!(hold["deleted"], 11);
    let (p, hash) = (place.clone(), hold["hash"].as_str().expect("a hash").to_owned());
    let stale = beside(move || p.run(&["accept", "shop-orders", "--hash", "00000000000000000000000000000000"])).await;
    assert_eq!((stale.code, stale.err.contains("stale")), (1, true), "{}", stale.err);
    let p = place.clone();
    let accepted = beside(move || p.json(&["accept", "shop-orders", "--hash", &hash])).await;
    assert_eq!(accepted["deleted"], 11);
    let taken = receiver.wait_taken("/app", 30).await;
    assert_eq!(taken.iter().filter(|t| t.kind() == "shop_orders.deleted").count(), 11);

    let human = {
        let p = place.clone();
        beside(move || p.run(&["status"])).await
    };
    assert!(human.out.contains("BRIDGE") && human.out.contains("shop-orders  ok"), "{}", human.out);
    let log = beside(move || daemon.stop()).await;
    assert!(!log.contains("s3cr3t-token") && !log.contains("MDEyMzQ1"), "no secret in the log");

    // Without a daemon the store is read under its lock.
    assert_eq!(ask(&["status"]).await["running"], false);
    let events = ask(&["events"]).await;
    assert_eq!(events.as_array().expect("a list").len(), 28, "{events:#}");
    assert_eq!(ask(&["poll", "shop-orders"]).await["result"], "unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_validates_first_and_restarts_only_what_changed() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    upstream.fill(3);
    let first = configuration(&upstream, &receiver, "1h");
    let place = std::sync::Arc::new(Place::new(&first));
    let p = place.clone();
    let mut daemon = beside(move || p.start()).await;
    let p = place.clone();
    let before = beside(move || {
        p.json(&["poll", "shop-orders"]);
        p.json(&["status"])["bridges"]["shop-orders"].clone()
    })
    .await;

    // A file with an error never replaces one that runs.
    place.write(&first.replace("every", "evry"));
    daemon.signal("HUP");
    let mut daemon = beside(move || {
        let told = daemon.told("RELOADING=1");
        let time =
            told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("the time in one datagram");
        assert!(time.parse::<u64>().expect("a number") > 0);
        assert!(daemon.told("STATUS=reload refused").contains("the old configuration goes on"));
        daemon.told("READY=1");
        assert!(daemon.log().contains("unknown key `evry`"), "{}", daemon.log());
        daemon
    })
    .await;

    // Another bridge comes; the first keeps its timing.
    place.write(&format!(
        "{first}\n[bridge.more]\nevery = \"200ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"app\"]\nsource.http.url = \"{}/items\"\n",
        upstream.origin()
    ));
    daemon.signal("HUP");
    let daemon = beside(move || {
        daemon.told("RELOADING=1");
        daemon.told("READY=1");
        daemon
    })
    .await;
    let p = place.clone();
    eventually("the new one polls", async || {
        let p = p.clone();
        beside(move || p.json(&["status"])["bridges"]["more"]["records"] == 3).await
    })
    .await;
    let p = place.clone();
    let after = beside(move || p.json(&["status"])["bridges"]["shop-orders"].clone()).await;
    assert_eq!(before, after, "untouched");
    beside(move || daemon.stop()).await;
}

#[test]
fn help_names_every_command() {
    let mut help = bellpull();
    help.arg("--help");
    let ran = Ran::of(help);
    assert_eq!(ran.code, 0);
    for command in [
        "run",
        "check",
        "demo",
        "poll",
        "status",
        "events",
        "event",
        "deliveries",
        "replay",
        "resend",
        "accept",
        "reject",
        "endpoint",
        "listen",
        "secret",
        "sign",
        "verify",
    ] {
        assert!(ran.out.contains(&format!("\n  {command} ")), "{command}: {}", ran.out);
    }
}

/// An API that echoes what it was sent would put the request's token into the log and into `status` (seen in Logstash).
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_an_api_echoes_is_not_shown() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let echo = crate::support::server::Answer::new(418, r#"{"error":"bad token s3cr3t-token"}"#);
    upstream.always(Some(echo.into()));
    let place = std::sync::Arc::new(Place::new(&configuration(&upstream, &receiver, "1h")));
    let p = place.clone();
    let daemon = beside(move || p.start()).await;
    let p = place.clone();
    let (polled, status) =
        beside(move || (p.run(&["poll", "shop-orders"]), p.json(&["status"])["bridges"]["shop-orders"].clone())).await;
    assert_eq!(polled.code, 1);
    assert!(polled.err.contains("answered 418") && polled.err.contains("bad token ***"), "{}", polled.err);
    assert!(status["last_error"].as_str().expect("an error").contains("bad token ***"), "{status}");
    let log = beside(move || daemon.stop()).await;
    assert!(log.contains("bad token ***") && !log.contains("s3cr3t"), "{log}");
}

#[test]
fn recipes_are_listed_printed_and_right() {
    let ran = run(&["recipe"]);
    assert_eq!(ran.code, 0);
    let (sources, sinks) = ran.out.split_once("\n\n# Where changes are sent\n").expect("two lists");
    let names = |list: &str| -> Vec<String> {
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let (sources, sinks) = (names(sources), names(sinks));
    assert!(sources.len() >= 21 && sources.contains(&"stripe".to_owned()) && sources.is_sorted(), "{}", ran.out);
    assert!(sinks.len() >= 15 && sinks.contains(&"slack-webhook".to_owned()) && sinks.is_sorted(), "{}", ran.out);
    let dir = tempfile::tempdir().expect("a directory");
    for name in sources.iter().chain(&sinks) {
        let printed = run(&["recipe", name]);
        let file = dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, printed.out).expect("written");
        let checked = run(&["check", file.to_str().expect("a path")]);
        let warnings = checked.err.matches("warning: ").count();
        assert_eq!((checked.code, warnings), (0, usize::from(name == "pagerduty")), "{name}: {}", checked.err);
    }
    let ran = run(&["recipe", "strip"]);
    assert_eq!((ran.code, ran.err.trim()), (64, "no recipe is called \"strip\": did you mean \"stripe\"?"));
    let json: serde_json::Value = serde_json::from_str(&run(&["--json", "recipe", "x"]).out).expect("JSON");
    assert_eq!(json["kind"], "source");
    assert!(json["text"].as_str().expect("text").starts_with(&format!("# {}", json["about"].as_str().expect("about"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_test_tells_what_the_receiver_said() {
    let receiver = Receiver::start().await;
    let toml = format!(
        "[bridge.a]\nevery = \"1h\"\nto = [\"me\"]\nsource.http.url = \"http://127.0.0.1:9/\"\n[endpoint.me]\nurl = \"{}/me\"\n\
         sign.standard.secrets = [{{ value = {SECRET:?} }}]\n",
        receiver.origin()
    );
    let ran = tokio::task::spawn_blocking(move || {
        let place = Place::new(&toml);
        let daemon = place.start();
        let taken = place.run(&["endpoint", "test", "me"]);
        receiver.answers("/me", |_| Answer::new(422, "no such hook").into());
        let refused = place.run(&["endpoint", "test", "me"]);
        let unknown = place.run(&["endpoint", "test", "you"]);
        drop(daemon);
        [taken, refused, unknown]
    });
    let [taken, refused, unknown] = ran.await.expect("it runs");
    assert_eq!((taken.code, taken.out.contains("taken (200)")), (0, true), "{taken:?}");
    assert_eq!(
        (refused.code, refused.out.contains("answered 422 (422)") && refused.out.contains("no such hook")),
        (1, true),
        "{refused:?}"
    );
    assert_eq!((unknown.code, unknown.err.contains("no endpoint is called \"you\"")), (1, true), "{unknown:?}");
}
