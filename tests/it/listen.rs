//! `bellpull listen`: what it answers, prints and records, and what it recorded sent again.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value as Json, json};

use crate::support::{
    daemon::{Ran, bellpull},
    receiver::{Receiver, SECRET},
    rig::World,
    server::{Answer, Request, Server},
};

/// Another than the endpoint's.
const OTHER_SECRET: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// A running `listen`, stopped when dropped.
struct Listen {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Listen {
    fn start(arguments: &[&str]) -> Self {
        let mut command = bellpull();
        command.args(["listen", "--port", "0"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("UTF-8");
        let address = first.strip_prefix("# listening on http://").expect("the address").trim_end_matches('/').into();
        Self { child, lines, address }
    }

    /// Sends these bytes on a connection of their own; the answer's status.
    fn send(&self, request: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(request).expect("sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        std::str::from_utf8(&answer[9..]).expect("ASCII").parse().expect("a status")
    }

    /// What it prints of one request, to its verdict.
    fn printed(&mut self) -> String {
        let mut out = String::new();
        for line in self.lines.by_ref() {
            let line = line.expect("UTF-8");
            out.push_str(&line);
            out.push('\n');
            if line.starts_with("# ") {
                return out;
            }
        }
        panic!("it ended: {out}");
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place for a record.
fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.jsonl");
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn lines(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).expect("the record");
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn replay(path: &Path, to: &str, more: &[&str]) -> Ran {
    let mut command = bellpull();
    command.args(["listen", "--replay", text(path), "--to", to]).args(more);
    Ran::of(command)
}

/// Runs blocking work beside the servers of a test.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

#[test]
fn answers_take_turns_and_requests_are_kept_as_they_came() {
    let (_dir, path) = file();
    let mut listen = Listen::start(&["--status", "503", "--status", "200", "--record", text(&path)]);
    let first = "POST /hooks/a?x=1&y=%20 HTTP/1.1\r\nX-Second: b\r\nHost: me\r\nX-First: 1\r\nX-Second: a\r\n\
        Authorization: Bearer s3cr3t\r\nX-Hub-Signature-256: sha256=00\r\nCE-Id: evt_1\r\nContent-Length: 11\r\n\r\n\
        {\"a\": \"é\"}";
    assert_eq!(listen.send(first.as_bytes()), 503);
    assert_eq!(listen.send(b"PUT / HTTP/1.1\r\nhost: me\r\nx-odd: \xff\r\ncontent-length: 2\r\n\r\n\xfe\x00"), 200);
    assert_eq!(listen.send(b"DELETE /b HTTP/1.1\r\nhost: me\r\n\r\n"), 503);

    let recorded = lines(&path);
    let of = |field: &str| recorded.iter().map(|line| line[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("method"), ["POST", "PUT", "DELETE"]);
    assert_eq!(of("path"), ["/hooks/a?x=1&y=%20", "/", "/b"]);
    assert_eq!(of("status"), [503, 200, 503]);
    assert_eq!(of("verdict"), ["unchecked", "unchecked", "unchecked"]);
    assert_eq!(of("body"), [json!("{\"a\": \"é\"}"), json!({ "base64": "/gA=" }), json!("")]);
    assert_eq!(
        recorded[0]["headers"],
        json!([
            ["x-second", "b"],
            ["x-second", "a"],
            ["host", "me"],
            ["x-first", "1"],
            ["authorization", "Bearer s3cr3t"],
            ["x-hub-signature-256", "sha256=00"],
            ["ce-id", "evt_1"],
            ["content-length", "11"]
        ])
    );
    assert_eq!(recorded[1]["headers"][1], json!(["x-odd", { "base64": "/w==" }]));
    for line in &recorded {
        let at = line["at"].as_str().expect("a time");
        assert!(at.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{at}");
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("there"));
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");

    let printed = listen.printed();
    assert_eq!(
        printed,
        "POST /hooks/a?x=1&y=%20\nx-second: b\nx-second: a\nx-first: 1\nauthorization: ***\n\
         x-hub-signature-256: sha256=00\nce-id: evt_1\n\n{\"a\": \"é\"}\n\n\
         # not verified: no secret was given; answered 503\n"
    );
    assert!(listen.printed().contains("PUT /\n"));
    assert!(listen.printed().contains("DELETE /b\n"));
}

/// What does not verify is recorded too, and takes nobody's turn.
#[test]
fn what_does_not_verify_takes_no_turn() {
    let (_dir, path) = file();
    let listen = Listen::start(&["--secret", SECRET, "--status", "202", "--status", "500", "--record", text(&path)]);
    let unsigned = b"POST / HTTP/1.1\r\nhost: me\r\ncontent-length: 2\r\n\r\n{}";
    let signed = |id: &str| {
        let now = bellpull::clock::Clock::system().now().seconds();
        let webhook = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        let signature = webhook.sign(id, now, b"{}").expect("signed");
        format!(
            "POST / HTTP/1.1\r\nhost: me\r\nwebhook-id: {id}\r\nwebhook-timestamp: {now}\r\n\
             webhook-signature: {signature}\r\ncontent-length: 2\r\n\r\n{{}}"
        )
        .into_bytes()
    };
    let statuses = [
        listen.send(unsigned),
        listen.send(&signed("a")),
        listen.send(unsigned),
        listen.send(&signed("b")),
        listen.send(&signed("c")),
    ];
    assert_eq!(statuses, [401, 202, 401, 500, 202]);
    let recorded = lines(&path);
    let verdicts: Vec<&str> = recorded.iter().map(|line| line["verdict"].as_str().expect("a verdict")).collect();
    assert_eq!(verdicts, ["refused", "verified", "refused", "verified", "verified"]);
    assert_eq!(recorded[0]["why"], "missing header id");
    assert_eq!(recorded[1].get("why"), None);
}

#[test]
fn what_is_sent_at_once_is_recorded_line_by_line() {
    let (_dir, path) = file();
    let mut listen = Listen::start(&["--record", text(&path)]);
    let address = listen.address.clone();
    let large = "x".repeat(100_000);
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (address, large) = (address.clone(), large.clone());
            std::thread::spawn(move || {
                for request in 0..5 {
                    let body = format!("{sender}.{request} {large}");
                    let head = format!("POST / HTTP/1.1\r\nhost: me\r\ncontent-length: {}\r\n\r\n", body.len());
                    let mut stream = TcpStream::connect(&address).expect("it listens");
                    stream.write_all((head + &body).as_bytes()).expect("sent");
                    let mut answer = [0; 12];
                    stream.read_exact(&mut answer).expect("an answer");
                    assert_eq!(&answer, b"HTTP/1.1 200");
                }
            })
        })
        .collect();
    for _ in 0..40 {
        listen.printed();
    }
    senders.into_iter().for_each(|sender| sender.join().expect("it does not panic"));
    let mut bodies: Vec<String> = lines(&path)
        .iter()
        .map(|line| line["body"].as_str().expect("text").split(' ').next().expect("a number").to_owned())
        .collect();
    bodies.sort();
    let mut expected: Vec<String> = (0..8).flat_map(|s| (0..5).map(move |r| format!("{s}.{r}"))).collect();
    expected.sort();
    assert_eq!(bodies, expected);
}

/// A disk that is full: what is not recorded is not acknowledged.
#[test]
fn what_cannot_be_recorded_is_not_acknowledged() {
    let mut listen = Listen::start(&["--record", "/dev/full"]);
    assert_eq!(listen.send(b"POST / HTTP/1.1\r\nhost: me\r\ncontent-length: 2\r\n\r\n{}"), 503);
    let printed = listen.printed();
    assert!(printed.contains("NOT RECORDED: No space left on device"), "{printed}");
    assert!(printed.contains("answered 503"), "{printed}");

    let mut command = bellpull();
    command.args(["listen", "--port", "0", "--record", "/nowhere/requests.jsonl"]);
    let ran = Ran::of(command);
    assert_eq!((ran.code, ran.out.as_str()), (74, ""), "it does not begin: {}", ran.err);
}

/// Killed in the middle of a line, and started again with the same file.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_takes_no_other_with_it() {
    let (_dir, path) = file();
    std::fs::write(&path, "{\"at\":\"2026-11-22T11").expect("written");
    let listen = Listen::start(&["--record", text(&path)]);
    assert_eq!(listen.send(b"POST /whole HTTP/1.1\r\nhost: me\r\n\r\n"), 200);
    drop(listen);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = taken.clone();
    let server = Server::start(Arc::new(move |request: Request| {
        seen.lock().unwrap().push(request.method);
        Answer::new(200, "").into()
    }))
    .await;
    let to = server.origin();
    let ran = beside(move || replay(&path, &to, &[])).await;
    assert_eq!(ran.code, 1, "one of them is no request");
    let out: Vec<&str> = ran.out.lines().collect();
    assert!(out[0].starts_with("1: not answered: no recorded request: "), "{}", ran.out);
    assert_eq!(out[1..], ["2 POST /whole: 200"]);
    assert_eq!(ran.err, "1 of 2 requests were not answered with 2xx\n");
    assert_eq!(*taken.lock().unwrap(), ["POST"]);
}

/// Webhooks of the real daemon, recorded, and sent again to one that verifies with another secret.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_webhooks_are_signed_anew_under_their_ids() {
    let (_dir, path) = file();
    let listen = Listen::start(&["--secret", SECRET, "--record", text(&path)]);
    let config = r#"
[bridge.orders]
every = "100ms"
items = ".[]"
key = ".id"
first-poll = "emit"
to = ["me"]
source.http.url = "UPSTREAM/items"

[endpoint.me]
url = "http://ADDRESS/hooks/orders?kept=no"
sign.standard.secrets = [{ value = "SECRET" }]
headers = { x-own = "as it was" }
"#;
    let mut world = World::start(&config.replace("ADDRESS", &listen.address)).await;
    world.upstream.fill(3);
    world.poll().await;
    crate::support::server::eventually("three are recorded", async || {
        std::fs::read_to_string(&path).unwrap_or_default().lines().count() == 3
    })
    .await;
    let recorded = lines(&path);
    let header = |line: &Json, name: &str| {
        let all = line["headers"].as_array().expect("a list");
        all.iter().find(|header| header[0] == name).map(|header| header[1].as_str().expect("text").to_owned())
    };
    assert!(recorded.iter().all(|line| line["verdict"] == "verified"), "{recorded:?}");

    // As they were, a receiver with another secret refuses them.
    let receiver = Receiver::start().await;
    receiver.secrets(&[OTHER_SECRET]);
    let (from, to) = (path.clone(), format!("{}/other/place?a=b", receiver.origin()));
    let (sent, again) = beside(move || {
        let url = to.clone();
        let sent = replay(&from, &to, &["--secret", OTHER_SECRET]);
        (sent, replay(&from, &url, &[]))
    })
    .await;
    assert_eq!(sent.code, 0, "{} {}", sent.out, sent.err);
    assert_eq!(again.code, 1);
    assert_eq!(again.err, "3 of 3 requests were not answered with 2xx\n");
    assert!(again.out.lines().all(|line| line.ends_with(": 401")), "{}", again.out);
    for (number, (line, said)) in recorded.iter().zip(sent.out.lines()).enumerate() {
        let id = header(line, "webhook-id").expect("an id");
        assert_eq!(said, format!("{} POST /hooks/orders?kept=no {id}: 200", number + 1));
    }
    // Taken in their order, with the same bytes, the same id and the same other headers.
    let taken = receiver.taken_so_far("/other/place");
    assert_eq!(taken.len(), 3);
    for (line, received) in recorded.iter().zip(&taken) {
        assert_eq!(Some(&received.id), header(line, "webhook-id").as_ref());
        assert_eq!(line["body"].as_str().expect("text").as_bytes(), received.bytes);
        assert_eq!(received.request.target, "/other/place?a=b");
        for name in ["content-type", "user-agent", "bellpull-attempt", "x-own"] {
            assert_eq!(received.request.header(name), header(line, name).as_deref(), "{name}");
        }
        let address = receiver.origin();
        assert_eq!(received.request.header("host"), address.strip_prefix("http://"));
        let times = received.request.headers.iter().filter(|(name, _)| name == "content-length").count();
        assert_eq!(times, 1);
    }
}

#[test]
fn a_target_that_is_not_there_is_told_for_each() {
    let (_dir, path) = file();
    let line = json!({ "at": "2026-11-22T11:42:55.123Z", "method": "PATCH", "path": "/a", "headers": [], "body": "",
        "verdict": "unchecked", "status": 200 });
    std::fs::write(&path, format!("{line}\n\n{line}\n")).expect("written");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let ran = replay(&path, &format!("http://{port}/"), &[]);
    assert_eq!(ran.code, 1);
    let starts: Vec<bool> = ran
        .out
        .lines()
        .zip([1, 3])
        .map(|(line, n)| line.starts_with(&format!("{n} PATCH /a: not answered: failed to connect to http://{port}")))
        .collect();
    assert_eq!(starts, [true, true], "{}", ran.out);
    assert_eq!(ran.err, "2 of 2 requests were not answered with 2xx\n");
    // Nothing to send is not a failure.
    std::fs::write(&path, "").expect("written");
    assert_eq!(replay(&path, "http://127.0.0.1:1/", &[]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let (_dir, path) = file();
    let line = json!({ "at": "2026-11-22T11:42:55.123Z", "method": "POST", "path": "/", "headers": [], "body": "{}",
        "verdict": "unchecked", "status": 200 });
    std::fs::write(&path, line.to_string()).expect("written");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let server = Server::start(Arc::new(move |request: Request| {
        seen.lock().unwrap().push(request.path);
        Answer::new(307, "").header("location", "/elsewhere").into()
    }))
    .await;
    let to = format!("{}/hooks", server.origin());
    let ran = beside(move || replay(&path, &to, &[])).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "1 POST /: 307\n"));
    assert_eq!(*asked.lock().unwrap(), ["/hooks"]);
}

#[test]
fn replaying_and_listening_do_not_mix() {
    let (_dir, path) = file();
    std::fs::write(&path, "").expect("written");
    let path = text(&path);
    let wrong: [&[&str]; 8] = [
        &["--replay", path],
        &["--to", "http://127.0.0.1:1/"],
        &["--replay", path, "--to", "http://127.0.0.1:1/", "--port", "0"],
        &["--replay", path, "--to", "http://127.0.0.1:1/", "--status", "200"],
        &["--replay", path, "--to", "http://127.0.0.1:1/", "--record", path],
        &["--replay", path, "--to", "ftp://127.0.0.1/"],
        &["--replay", path, "--to", "127.0.0.1"],
        &["--status", "1000"],
    ];
    for arguments in wrong {
        let mut command = bellpull();
        command.arg("listen").args(arguments);
        assert_eq!(Ran::of(command).code, 64, "{arguments:?}");
    }
    assert_eq!(replay(Path::new("/nowhere"), "http://127.0.0.1:1/", &[]).code, 74);
}
