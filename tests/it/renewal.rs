//! Secrets that are replaced in their files while the daemon runs.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bellpull::poller::Polling;
use serde_json::json;

use crate::support::{
    daemon::Place,
    rig::{World, list},
    server::{Answer, Request, Server, eventually},
};

const OLD: &str = "old-hunter2-secret";
const NEW: &str = "new-hunter3-secret";

/// A server that takes one secret, in whatever place it comes, and grants a token for it.
struct Vendor {
    server: Server,
    /// What it takes.
    good: Arc<Mutex<&'static str>>,
    /// What it was sent, whether it was taken or not.
    seen: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Vendor {
    async fn start() -> Self {
        let (good, seen) = (Arc::new(Mutex::new(OLD)), Arc::<Mutex<Vec<(String, bool)>>>::default());
        let (takes, all) = (good.clone(), seen.clone());
        let handler = move |request: Request| {
            let good = *takes.lock().unwrap();
            let is_good = shows(&request, good);
            all.lock().unwrap().push((request.path.clone(), is_good));
            match request.path.as_str() {
                _ if !is_good => Answer::new(401, format!("no such secret: {}", request.target)),
                "/token" => Answer::json(json!({ "access_token": format!("token-{good}") }).to_string()),
                _ => Answer::json(r#"[{"id":1}]"#),
            }
            .into()
        };
        Self { server: Server::start(Arc::new(handler)).await, good, seen }
    }

    fn takes(&self, secret: &'static str) {
        *self.good.lock().unwrap() = secret;
    }

    fn asked(&self, path: &str) -> Vec<bool> {
        self.seen.lock().unwrap().iter().filter(|(at, _)| at == path).map(|(_, is_good)| *is_good).collect()
    }
}

/// Whether a request shows a secret: in a header, as a pair of a name and a password, in the query, or in a form.
fn shows(request: &Request, secret: &str) -> bool {
    let pair = STANDARD.encode(format!("reader:{secret}"));
    let has = |text: &str| text.contains(secret) || text.contains(&pair);
    request.headers.iter().any(|(_, value)| has(value))
        || request.query.values().any(|value| has(value))
        || has(&String::from_utf8_lossy(&request.body))
}

fn write(file: &Path, secret: &str) {
    std::fs::write(file, format!("{secret}\n")).expect("written");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// Each kind of credentials that may be replaced.
const KINDS: [(&str, &str); 8] = [
    ("bearer", "bearer.secret = SECRET"),
    ("basic", "basic = { username = \"reader\", password = SECRET }"),
    ("header", "header = { name = \"x-key\", value = SECRET, prefix = \"key \" }"),
    ("headers", "headers = { x-id = { value = \"some-id\" }, x-key = SECRET }"),
    ("query", "query = { key = SECRET }"),
    ("rotate", "rotate.of = [{ bearer.secret = SECRET }]"),
    (
        "oauth2",
        "oauth2 = { token-url = \"API/token\", client-id = \"reader\", client-secret = SECRET, client-auth = \"body\" }",
    ),
    (
        "password",
        "oauth2 = { token-url = \"API/token\", client-id = \"reader\", grant = \"password\", username = \"u\", password = SECRET }",
    ),
];

/// After a rotation nothing asked with the new secret before a reload: for a daily bridge that was a day.
#[tokio::test]
async fn a_secret_that_was_replaced_is_used_within_the_same_poll() {
    for (kind, auth) in KINDS {
        let (vendor, dir) = (Vendor::start().await, tempfile::tempdir().expect("a directory"));
        let file = dir.path().join("secret");
        write(&file, OLD);
        let auth = auth.replace("SECRET", &format!("{{ file = {:?} }}", file.to_str().expect("a path")));
        let text = list(&format!("source.http.auth.{auth}")).replace("API", &vendor.server.origin());
        let mut world = World::start(&text.replace("UPSTREAM", &vendor.server.origin())).await;
        assert_eq!(world.poll().await, Polling::Baseline { records: 1 }, "{kind}");
        vendor.takes(NEW);
        write(&file, NEW);
        let before = vendor.asked("/items").len();
        world.poll().await;
        let asked = vendor.asked("/items")[before..].to_vec();
        assert_eq!(asked, [false, true], "{kind}: once more, with the new one");
        world.poll().await;
        assert_eq!(vendor.asked("/items").last(), Some(&true), "{kind}: it stays");
        assert_eq!(vendor.asked("/items").len(), before + 3, "{kind}: the old one is not tried any more");
    }
}

/// The file says what it said, or nothing that can be read: one request, the same error as ever, and the old secret goes on.
#[tokio::test]
async fn a_file_that_says_nothing_else_costs_no_request() {
    let (vendor, dir) = (Vendor::start().await, tempfile::tempdir().expect("a directory"));
    let file = dir.path().join("secret");
    write(&file, OLD);
    let text = list(&format!("source.http.auth.bearer.secret = {{ file = {:?} }}", file.to_str().expect("a path")));
    let mut world = World::start(&text.replace("UPSTREAM", &vendor.server.origin())).await;
    vendor.takes(NEW);
    let error = world.fail().await;
    assert!(error.contains("401") && !error.contains(OLD), "{error}");
    assert_eq!(vendor.asked("/items").len(), 1);
    for wrong in ["", "\n", "others may read it", "gone"] {
        // It is not read twice within two seconds.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        match wrong {
            "gone" => std::fs::remove_file(&file).expect("removed"),
            "others may read it" => {
                write(&file, NEW);
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("its mode");
            }
            text => std::fs::write(&file, text).expect("written"),
        }
        let before = vendor.asked("/items").len();
        let error = world.fail().await;
        assert!(!error.contains(NEW), "{error}");
        assert_eq!(vendor.asked("/items").len(), before + 1, "{wrong:?}");
    }
    vendor.takes(OLD);
    world.poll().await;
}

/// The 401 comes first, and the file follows: nobody reloads, polls or enables anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_asked_again_when_its_file_changes() {
    let vendor = Vendor::start().await;
    let (dir, origin) = (tempfile::tempdir().expect("a directory"), vendor.server.origin());
    let (source, endpoint) = (dir.path().join("source"), dir.path().join("endpoint"));
    write(&source, OLD);
    write(&endpoint, NEW);
    // The source takes the old secret, and the endpoint's receiver takes it too: the endpoint has a wrong one.
    let text = format!(
        "[bridge.orders]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\nfirst-poll = \"emit\"\n\
         source.http = {{ url = \"{origin}/items\", auth.bearer.secret = {{ file = {source:?} }} }}\n\
         [endpoint.me]\nurl = \"{origin}/hook\"\nauth.bearer.secret = {{ file = {endpoint:?} }}\n"
    );
    let place = Place::new(&text);
    let (place, daemon) = tokio::task::spawn_blocking(move || {
        let daemon = place.start();
        (place, daemon)
    })
    .await
    .expect("it starts");
    let poll = ["poll", "orders"];
    let place = Arc::new(place);
    let asked = place.clone();
    let polled = tokio::task::spawn_blocking(move || asked.run(&poll)).await.expect("it runs");
    assert_eq!(polled.code, 0, "{}", polled.err);
    eventually("the receiver refuses", async || vendor.asked("/hook").contains(&false)).await;
    let began = Instant::now();
    write(&endpoint, OLD);
    eventually("the event is sent again", async || vendor.asked("/hook").contains(&true)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Now the source's: a poll by hand fails, and the file changes afterwards.
    vendor.takes(NEW);
    let before = vendor.asked("/items").len();
    let asked = place.clone();
    let polled = tokio::task::spawn_blocking(move || asked.run(&poll)).await.expect("it runs");
    assert_ne!(polled.code, 0, "{}", polled.out);
    let began = Instant::now();
    write(&source, NEW);
    eventually("it is polled", async || vendor.asked("/items")[before..].contains(&true)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let log = daemon.log();
    let told: BTreeSet<&str> = log.lines().filter(|line| line.contains("its file holds another one")).collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(!log.contains("hunter"), "no secret is told: {log}");
}
