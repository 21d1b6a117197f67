//! Every kind of secret, quoted by the other side in every form, looked for wherever the daemon says something.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bellpull::store::EventFilter;

use super::support::{
    daemon::get,
    recorder::Recorder,
    rig::World,
    server::{Answer, Request},
};

/// A form in which servers quote what they were sent.
type Form = (&'static str, fn(&str) -> String);

const FORMS: [Form; 10] = [
    ("raw", |text| text.to_owned()),
    ("upper case", |text| text.to_uppercase()),
    ("JSON", |text| serde_json::to_string(text).expect("text").replace('/', "\\/")),
    ("\\u", |text| {
        text.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) })
            .collect()
    }),
    ("percent", |text| {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
            .collect()
    }),
    ("form", |text| url::form_urlencoded::byte_serialize(text.as_bytes()).collect()),
    ("HTML", |text| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
            .replace('+', "&#43;")
            .replace('/', "&#x2F;")
    }),
    ("base64", |text| STANDARD.encode(text)),
    ("hex", |text| text.bytes().map(|b| format!("{b:02x}")).collect()),
    ("cut", |text| text.chars().take(text.chars().count() * 3 / 4).collect()),
];

/// What a server of a kind quotes: a part of the request that is secret, or nothing yet.
type Quoted = fn(&Request) -> Option<String>;

fn header(name: &'static str) -> impl Fn(&Request) -> Option<String> {
    // The scheme is none of it, nor is what fills base64 up.
    move |request| {
        let value = request.header(name)?;
        let secret = value.rsplit_once(' ').map_or(value, |(_, secret)| secret);
        Some(secret.trim_end_matches('=').to_owned())
    }
}

fn form_field(request: &Request, name: &str) -> Option<String> {
    url::form_urlencoded::parse(&request.body).into_owned().find(|(field, _)| field == name).map(|(_, value)| value)
}

const CANARY: &str = "CNRy7Kq/Wm+Zx9&Lp<3vT8";

/// Lines of a bridge, and what its server quotes of the request that it refuses. `API` is the server, `CANARY` the secret.
const KINDS: [(&str, &str, Quoted); 14] = [
    ("bearer", "source.http.auth.bearer.secret = { value = \"CANARY\" }", |r| header("authorization")(r)),
    ("header", "source.http.auth.header = { name = \"x-key\", value = { value = \"CANARY\" } }", |r| {
        header("x-key")(r)
    }),
    ("headers", "source.http.headers.x-own = { value = \"CANARY\" }", |r| header("x-own")(r)),
    ("query", "source.http.auth.query.api_key = { value = \"CANARY\" }", |r| r.query.get("api_key").cloned()),
    ("basic", "source.http.auth.basic = { username = \"me\", password = { value = \"CANARY\" } }", |r| {
        header("authorization")(r)
    }),
    ("basic, decoded", "source.http.auth.basic = { username = \"me\", password = { value = \"CANARY\" } }", |_| {
        Some(CANARY.to_owned())
    }),
    (
        "oauth2",
        "source.http.auth.oauth2 = { token-url = \"API/token\", client-id = \"me\", client-secret = { value = \"CANARY\" } }",
        |r| header("authorization")(r),
    ),
    (
        "oauth2 in the body",
        "source.http.auth.oauth2 = { token-url = \"API/token\", client-id = \"me\", client-auth = \"body\", client-secret = { value = \"CANARY\" } }",
        |r| form_field(r, "client_secret"),
    ),
    (
        "refresh token of the file",
        "source.http.auth.oauth2 = { token-url = \"API/token\", client-id = \"me\", grant = \"refresh-token\", refresh-token = { value = \"CANARY\" } }",
        |r| form_field(r, "refresh_token"),
    ),
    (
        "JWT assertion",
        "source.http.auth.jwt = { algorithm = \"HS256\", key = { value = \"CANARYCANARYCANARY\" }, token-url = \"API/token\" }",
        |r| form_field(r, "assertion"),
    ),
    (
        "session password",
        "source.http.auth.session = { request = { url = \"API/login\", json = { p = { value = \"CANARY\" } } }, token = \".t\", inject.query = \"t\" }",
        |r| serde_json::from_slice::<serde_json::Value>(&r.body).ok()?["p"].as_str().map(str::to_owned),
    ),
    ("body", "source.http.body = { value = \"CANARY\" }\nsource.http.method = \"POST\"", |r| {
        String::from_utf8(r.body.clone()).ok()
    }),
    ("URL", "source.http.url = { value = \"API/botCANARY-in-a-path/get\" }", |r| {
        r.target.split_once("bot").map(|(_, rest)| rest.trim_end_matches("-in-a-path/get").to_owned())
    }),
    ("digest", "source.http.auth.digest = { username = \"me\", password = { value = \"CANARY\" } }", |_| {
        Some(CANARY.to_owned())
    }),
];

/// Parts of a secret as a form shows it, of eight characters.
fn parts(shown: &str) -> Vec<String> {
    let characters: Vec<char> = shown.chars().collect();
    characters.windows(8).map(|part| part.iter().collect()).collect()
}

/// 14 kinds, 10 forms; the state of the bridge, the alert, all that is stored, and what the receiver got.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_output_has_a_part_of_a_secret_that_a_source_quotes() {
    let mut leaks = Vec::new();
    for (kind, lines, quoted) in KINDS {
        for (name, form) in FORMS {
            let api = Recorder::start().await;
            let said: Arc<Mutex<Vec<String>>> = Arc::default();
            let kept = said.clone();
            api.answers(move |request| {
                let Some(secret) = quoted(request) else { return Answer::new(401, "").into() };
                let shown = form(&secret);
                kept.lock().unwrap().push(shown.clone());
                Answer::new(400, format!("[{shown}] is unknown")).into()
            });
            let url = if lines.contains("source.http.url") { "" } else { "source.http.url = \"API/items\"\n" };
            let canary = if kind == "URL" { "CNRy7Kq-Wm_Zx9" } else { CANARY };
            let text = format!(
                "[bridge.a]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nalert.after = 1\n{url}{lines}\nto = [\"me\"]\n"
            );
            let text = text.replace("API", &api.origin()).replace("CANARY", canary);
            let mut world = World::start(&text).await;
            let told = world.rig.poll().await.result.expect_err("refused").to_string();
            let status = world.rig.polled().progress.last_error.clone().unwrap_or_default();
            assert!(!said.lock().unwrap().is_empty(), "{kind}: nothing was quoted: {told}");
            let all = EventFilter { bodies: true, limit: 10, ..EventFilter::default() };
            let events = world.rig.store.read(move |engine| engine.events(&all)).await.expect("read");
            let alerts: Vec<String> =
                events.iter().map(|event| String::from_utf8_lossy(&event.event.body).into_owned()).collect();
            assert_eq!(alerts.len(), 1, "{kind}: it is told");
            let received = world.receiver.wait("/me", 1).await;
            let received = String::from_utf8_lossy(&received[0].request.body).into_owned();
            let outputs = [
                ("status", status),
                ("export", world.rig.export().await),
                ("alert", alerts.concat()),
                ("delivery", received),
            ];
            for (output, text) in outputs {
                let text = text.to_lowercase();
                for secret in said.lock().unwrap().iter() {
                    let leak = parts(&secret.to_lowercase()).into_iter().find(|part| text.contains(part));
                    if let Some(part) =
                        leak.filter(|part| !["bot", "path", "/get"].iter().any(|word| part.contains(word)))
                    {
                        leaks.push(format!("{kind} as {name} in {output}: {part:?} of {secret:?}"));
                    }
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// A refresh token that the server replaced is the only one that is left, and stands in no file.
#[tokio::test]
async fn a_replaced_refresh_token_is_in_no_message() {
    let api = Recorder::start().await;
    let replaced = "CNRreplaced-R2/7+xyz";
    let mut asked = 0;
    api.answers(move |request| match request.path.as_str() {
        "/token" => {
            asked += 1;
            if asked == 1 {
                let granted = format!(
                    r#"{{"access_token":"t1","token_type":"bearer","expires_in":0,"refresh_token":"{replaced}"}}"#
                );
                Answer::json(granted).into()
            } else {
                Answer::new(
                    400,
                    format!(r#"{{"error":"invalid_grant","error_description":"unknown refresh token {replaced}"}}"#),
                )
                .into()
            }
        }
        _ => Answer::json("[]").into(),
    });
    let text = "[bridge.a]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nsource.http.url = \"API/items\"\nto = [\"me\"]\nsource.http.auth.oauth2 = { token-url = \"API/token\", client-id = \"me\", grant = \"refresh-token\", refresh-token = { value = \"first-refresh-token\" } }\n";
    let mut world = World::start(&text.replace("API", &api.origin())).await;
    let _ = world.rig.poll().await;
    let told = world.rig.poll().await.result.map(|_| ()).expect_err("refused");
    drop(told);
    let status = world.rig.polled().progress.last_error.clone().unwrap_or_default();
    assert!(status.contains("unknown refresh token ***"), "{status}");
}

/// Signing secrets, credentials and secret URLs of an endpoint, quoted by its receiver.
#[tokio::test]
async fn no_attempt_has_a_part_of_a_secret_that_a_receiver_quotes() {
    for (name, form) in FORMS {
        let receiver = Recorder::start().await;
        receiver.answers(move |_| Answer::new(400, format!("[{}]", form(CANARY))).into());
        let text = format!(
            "[bridge.a]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nsource.http.url = \"UPSTREAM/orders\"\nto = [\"me\"]\n\
             [endpoint.me]\nurl = \"{}/hook\"\nretry.schedule = [\"1h\"]\nsign.github.secrets = [{{ value = '{CANARY}' }}]\n",
            receiver.origin()
        );
        let mut world = World::start(&text).await;
        world.poll().await;
        world.upstream.fill(1);
        world.poll().await;
        receiver.wait(1).await;
        let rig = &world.rig;
        super::support::server::eventually("the attempt is recorded", async || {
            let attempts = rig.store.read(|engine| engine.attempts(&mut |_| true, 10)).await.expect("read");
            !attempts.is_empty()
        })
        .await;
        let attempts = rig.store.read(|engine| engine.attempts(&mut |_| true, 10)).await.expect("read");
        let said = format!("{attempts:?}{}", rig.export().await).to_lowercase();
        let leak = parts(&form(CANARY).to_lowercase()).into_iter().find(|part| said.contains(part));
        assert_eq!(leak, None, "as {name}: {attempts:?}");
    }
}

/// A secret that may stand in a URL.
const URL_CANARY: &str = "CNRy7Kq-Wm_Zx9";

const PROXY: &str = "items = \".[]\"\nkey = \".id\"\nsource.http = { url = \"http://shop.invalidPATH/items\", proxy = { value = \"http://me:CANARY@HOST\" } }";

/// Kinds that have a source of their own: all lines of it. `HOST` and `PATH` are of the server, `CALLS` is a gRPC server.
const SOURCES: [(&str, &str, Quoted); 9] = [
    ("proxy URL", PROXY, |r| header("proxy-authorization")(r)),
    ("proxy URL, decoded", PROXY, |_| Some(URL_CANARY.to_owned())),
    (
        "gRPC metadata",
        "items = \".\"\nkey = \".id\"\nsource.grpc = { target = \"CALLS\", method = \"shop.Orders/List\", reflection = true, metadata.x-place = \"PATH\", metadata.x-key = { value = \"CANARY\" } }",
        |r| header("x-key")(r),
    ),
    (
        "gRPC bearer",
        "items = \".\"\nkey = \".id\"\nsource.grpc = { target = \"CALLS\", method = \"shop.Orders/List\", reflection = true, metadata.x-place = \"PATH\", auth.bearer.secret = { value = \"CANARY\" } }",
        |r| header("authorization")(r),
    ),
    (
        "GraphQL variable",
        "items = \".data[]\"\nkey = \".id\"\nsource.graphql = { url = \"API/graphql\", query = \"{ a }\", variables = { t = { value = \"CANARY\" } } }",
        |r| serde_json::from_slice::<serde_json::Value>(&r.body).ok()?["variables"]["t"].as_str().map(str::to_owned),
    ),
    (
        "SOAP with Basic",
        "items = \".\"\nkey = \".id\"\nsource.soap = { url = \"API/soap\", body = \"<a/>\", auth.basic = { username = \"me\", password = { value = \"CANARY\" } } }",
        |r| header("authorization")(r),
    ),
    (
        "WebSocket header",
        "items = \".\"\nkey = \".id\"\nsource.websocket = { url = \"API/socket\", headers.x-key = { value = \"CANARY\" } }",
        |r| header("x-key")(r),
    ),
    (
        "WebSocket bearer",
        "items = \".\"\nkey = \".id\"\nsource.websocket = { url = \"API/socket\", auth.bearer.secret = { value = \"CANARY\" } }",
        |r| header("authorization")(r),
    ),
    (
        "program",
        "items = \".\"\nkey = \".id\"\nsource.command = { argv = [\"sh\", \"-c\", \"echo $TOK >&2; echo $TOK | base64 >&2; exit 1\"], env.TOK = { value = \"CANARY\" } }",
        |_| None,
    ),
];

/// Characters in a row that are a leak.
const PART: usize = 8;

type Kind = (&'static str, &'static str, Quoted);

/// What was quoted, with the number of its kind.
#[derive(Clone)]
struct Quoting {
    kinds: Vec<Kind>,
    said: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Quoting {
    /// What a server quotes of a request whose target, or `x-place`, begins with `/KIND/FORM`.
    fn quotes(&self, request: &Request) -> Option<String> {
        let target = request.header("x-place").unwrap_or(&request.target);
        let target = target.strip_prefix("http://shop.invalid").unwrap_or(target);
        let mut parts = target.trim_start_matches('/').split('/').map(str::parse::<usize>);
        let (Some(Ok(kind)), Some(Ok(form))) = (parts.next(), parts.next()) else { return None };
        let shown = FORMS[form].1(&(self.kinds[kind].2)(request)?);
        self.said.lock().unwrap().push((kind, shown.clone()));
        Some(shown)
    }

    /// A gRPC server that quotes in each call's status, that of the reflection too.
    async fn calls(&self) -> String {
        let quoting = self.clone();
        let router = axum::Router::new().fallback(async move |request: axum::extract::Request| {
            let headers = request.headers().iter();
            let headers = headers
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect();
            let path = request.uri().path().to_owned();
            let request = Request {
                method: "POST".into(),
                target: path.clone(),
                path,
                query: std::collections::BTreeMap::new(),
                headers,
                body: Vec::new(),
                at: tokio::time::Instant::now(),
            };
            let shown = quoting.quotes(&request).unwrap_or_default();
            let message: String = format!("[{shown}] is unknown").bytes().map(|b| format!("%{b:02X}")).collect();
            axum::http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "3")
                .header("grpc-message", message)
                .body(axum::body::Body::empty())
                .expect("an answer")
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        origin
    }
}

/// A bridge of each kind and form, told to `me`; an endpoint for each form, of which the first bridge tells.
fn every_kind(kinds: &[Kind], api: &str, calls: &str, receiver: &str) -> String {
    let mut text =
        format!("[endpoint.me]\nurl = \"{receiver}/hook\"\nsign.github.secrets = [{{ value = '{CANARY}' }}]\n");
    for form in 0..FORMS.len() {
        text.push_str(&format!(
            "[endpoint.e{form}]\nurl = {{ value = \"{receiver}/{form}/{URL_CANARY}\" }}\nheaders.x-key = {{ value = '{CANARY}' }}\n"
        ));
    }
    for (kind, (name, lines, _)) in kinds.iter().enumerate() {
        for form in 0..FORMS.len() {
            let http = if kind >= KINDS.len() {
                ""
            } else if lines.contains("source.http.url") {
                "items = \".[]\"\nkey = \".id\"\n"
            } else {
                "items = \".[]\"\nkey = \".id\"\nsource.http.url = \"API/items\"\n"
            };
            let path = format!("/{kind}/{form}");
            let canary = if name.contains("URL") { URL_CANARY } else { CANARY };
            let origin = if lines.contains("websocket") { api.replacen("http", "ws", 1) } else { api.to_owned() };
            let every = if lines.contains("websocket") { "" } else { "every = \"20s\"\n" };
            let told: Vec<String> = (0..FORMS.len()).map(|form| format!("\"e{form}\"")).collect();
            let told = if (kind, form) == (0, 0) { format!(", {}", told.join(", ")) } else { String::new() };
            let bridge =
                format!("[bridge.k{kind}-{form}]\n{every}alert.after = 1\nto = [\"me\"{told}]\n{http}{lines}\n");
            let host = api.trim_start_matches("http://");
            text.push_str(
                &bridge
                    .replace("API", &format!("{origin}{path}"))
                    .replace("HOST", host)
                    .replace("PATH", &path)
                    .replace("CALLS", calls)
                    .replace("CANARY", canary),
            );
        }
    }
    text
}

/// All that the program says and keeps once every bridge fails and every endpoint was refused.
fn outputs(place: &super::support::daemon::Place, bridges: usize) -> Vec<(&'static str, String)> {
    let file = std::fs::read_to_string(place.file()).expect("the file");
    std::fs::write(place.file(), file.replace("listen = \"off\"", "listen = \"127.0.0.1:0\"")).expect("written");
    let daemon = place.start_with(&[("RUST_LOG", "debug")]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(90);
    loop {
        let status = place.json(&["status"]);
        let count = |part: &str, matches: fn(&serde_json::Value) -> bool| {
            status[part].as_object().expect("a table").values().filter(|value| matches(value)).count()
        };
        let failing = count("bridges", |bridge| bridge["state"] == "failing");
        let refused = count("endpoints", |endpoint| !endpoint["last_error"].is_null());
        if failing == bridges && refused == FORMS.len() {
            break;
        }
        assert!(
            std::time::Instant::now() < until,
            "{failing} of {bridges} bridges fail, {refused} endpoints: {}",
            status["endpoints"]
        );
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let all = |arguments: &[&str]| {
        let ran = place.run(arguments);
        ran.out + &ran.err
    };
    let event = place.json(&["events"])[0]["id"].as_str().expect("an event").to_owned();
    let names = || (0..bridges / FORMS.len()).map(|kind| format!("k{kind}-0"));
    let api =
        ["status", "running", "bridges", "endpoints", "events", "deliveries", "export", "openapi.json", "strip.svg"]
            .map(|part| get(place, &format!("/api/{part}")));
    let mut outputs = vec![
        ("status", all(&["status"])),
        ("status --json", all(&["--json", "status"])),
        ("events", all(&["--json", "events"])),
        ("event", all(&["--json", "event", &event])),
        ("deliveries", all(&["deliveries"]) + &all(&["--json", "deliveries"])),
        ("dry run", names().map(|name| all(&["poll", &name, "--dry-run"])).collect()),
        ("poll", names().map(|name| all(&["poll", &name])).collect()),
        ("test of an endpoint", (0..FORMS.len()).map(|form| all(&["endpoint", "test", &format!("e{form}")])).collect()),
        ("export", all(&["export"])),
        ("check", all(&["check", "--resolve"])),
        ("API", api.concat()),
        ("API of a bridge", names().map(|name| get(place, &format!("/api/bridges/{name}"))).collect()),
        ("API of an event", get(place, &format!("/api/events/{event}"))),
        ("metrics", get(place, "/metrics")),
        ("link", all(&["dashboard"]).split("/#").next().expect("a link").to_owned()),
    ];
    daemon.signal("HUP");
    outputs.push(("log", daemon.stop()));
    let mut files = String::new();
    let mut dirs = vec![place.path().join("state")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("read").map(|entry| entry.expect("read").path()) {
            if entry.is_dir() {
                dirs.push(entry);
            } else if let Ok(bytes) = std::fs::read(&entry) {
                files.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
    outputs.push(("state directory", files));
    outputs
}

/// Every kind in every form at once, through the program itself, and whatever of it a person, a machine or a thief can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_the_daemon_says_or_keeps_has_a_part_of_a_secret() {
    let kinds: Vec<Kind> = KINDS.into_iter().chain(SOURCES).collect();
    let quoting = Quoting { kinds: kinds.clone(), said: Arc::default() };
    let api = Recorder::start().await;
    let quoted = quoting.clone();
    api.answers(move |request| match quoted.quotes(request) {
        Some(shown) => Answer::new(400, format!("[{shown}] is unknown")).into(),
        None => Answer::new(401, "").into(),
    });
    let calls = quoting.calls().await;
    let receiver = Recorder::start().await;
    // The kinds beyond those of sources: a form of the URL's secret, and one of the header's.
    let (own, said) = (kinds.len(), quoting.said.clone());
    receiver.answers(move |request| {
        let mut parts = request.path.trim_start_matches('/').split('/');
        let Some(Ok(form)) = parts.next().map(str::parse::<usize>) else { return Answer::new(200, "").into() };
        let secrets = [parts.next().expect("a part"), request.header("x-key").expect("a header")];
        let shown = secrets.map(|secret| FORMS[form].1(secret));
        said.lock().unwrap().extend(shown.iter().map(|shown| (own, shown.clone())));
        Answer::new(400, format!("[{}] [{}]", shown[0], shown[1])).into()
    });
    let text = every_kind(&kinds, &api.origin(), &calls, &receiver.origin());
    let bridges = kinds.len() * FORMS.len();
    let outputs = tokio::task::spawn_blocking(move || outputs(&super::support::daemon::Place::new(&text), bridges));
    let outputs = outputs.await.expect("it does not panic");
    let said = std::mem::take(&mut *quoting.said.lock().unwrap());
    let quoted: BTreeSet<usize> = said.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(quoted.len(), kinds.len(), "all but the program were asked, and the receiver");
    let deliveries =
        receiver.requests().iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect::<String>();
    let program = FORMS.iter().map(|(_, form)| (kinds.len() - 1, form(CANARY)));
    let words = ["bot", "path", "/get", "****", "is unknown"];
    let mut secret_parts: HashMap<[u8; PART], usize> = HashMap::new();
    for (kind, shown) in said.into_iter().chain(program) {
        for part in shown.to_lowercase().as_bytes().array_windows::<PART>() {
            if !words.iter().any(|word| String::from_utf8_lossy(part).contains(word)) {
                secret_parts.insert(*part, kind);
            }
        }
    }
    let mut leaks = Vec::new();
    for (output, text) in outputs.into_iter().chain([("deliveries", deliveries)]) {
        assert!(text.len() > 10, "{output} says nothing");
        let text = text.to_lowercase();
        for (at, part) in text.as_bytes().array_windows::<PART>().enumerate() {
            if let Some(kind) = secret_parts.get(part) {
                let kind = kinds.get(*kind).map_or("endpoint", |(name, ..)| *name);
                let around = &text.as_bytes()[at.saturating_sub(40)..(at + 20).min(text.len())];
                leaks.push(format!(
                    "{kind} in {output}: {:?} in {:?}",
                    String::from_utf8_lossy(part),
                    String::from_utf8_lossy(around)
                ));
            }
        }
    }
    leaks.sort();
    leaks.dedup();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
