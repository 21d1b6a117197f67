//! `source.websocket` as a conversation: acknowledgements, heartbeats, other framings, close codes, and a sequence that goes on after
//! each reconnection. The servers speak as graphql-ws, exchanges and SignalR do.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bellpull::{
    model::Timestamp,
    poller::{Outcome, Polling},
};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value as Json, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{Request as Handshake, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::support::{
    rig::{World, refused},
    server::{Answer, Request, Server, eventually},
};

/// A server that plays a scene with each client.
struct Stage {
    addr: SocketAddr,
    /// What each client said, by connection.
    heard: Arc<Mutex<Vec<Vec<String>>>>,
    accepting: AbortHandle,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One client, as the server sees it.
struct Client {
    socket: WebSocketStream<TcpStream>,
    /// It is the nth.
    number: usize,
    heard: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Client {
    /// The next text that the client says; `None` when it has left.
    async fn hear(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let text = text.as_str().to_owned();
                    self.heard.lock().unwrap()[self.number].push(text.clone());
                    return Some(text);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn hear_json(&mut self) -> Option<Json> {
        self.hear().await.map(|text| serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}")))
    }

    /// Whether it took it.
    async fn say(&mut self, message: impl Into<Message>) -> bool {
        self.socket.send(message.into()).await.is_ok()
    }

    async fn say_json(&mut self, message: Json) -> bool {
        self.say(Message::text(message.to_string())).await
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "the scene ends".into() };
        let _ = self.socket.send(Message::Close(Some(frame))).await;
        // Until the client has closed its side: what was sent before must not be lost with a reset.
        let _ = timeout(Duration::from_secs(2), async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }

    /// Listens until the client leaves.
    async fn stay(&mut self) {
        while self.hear().await.is_some() {}
    }
}

impl Stage {
    async fn play<F, S>(scene: F) -> Self
    where
        F: Fn(Client) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let heard: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let (all, scene) = (heard.clone(), Arc::new(scene));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, scene) = (all.clone(), scene.clone());
                tokio::spawn(async move {
                    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
                    let number = {
                        let mut all = all.lock().unwrap();
                        all.push(Vec::new());
                        all.len() - 1
                    };
                    scene(Client { socket, number, heard: all }).await;
                });
            }
        });
        Self { addr, heard, accepting: accepting.abort_handle() }
    }

    /// A bridge over it, with these lines of its source.
    fn text(&self, lines: &str) -> String {
        bridge(&format!("ws://{}", self.addr), lines)
    }

    async fn world(&self, lines: &str) -> World {
        World::start(&self.text(lines)).await
    }

    fn connections(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn heard(&self, number: usize) -> Vec<String> {
        self.heard.lock().unwrap()[number].clone()
    }
}

fn bridge(url: &str, lines: &str) -> String {
    format!(
        "[bridge.feed]\nitems = \".data[]?\"\nkey = \".id\"\nto = [\"me\"]\n[bridge.feed.source.websocket]\nurl = \"{url}\"\n{lines}\n"
    )
}

fn data(ids: impl IntoIterator<Item = u64>) -> Json {
    let records: Vec<Json> = ids.into_iter().map(|id| json!({ "id": id })).collect();
    json!({ "data": records })
}

/// The ids of the snapshot.
async fn known(world: &mut World) -> BTreeSet<u64> {
    world.rig.snapshot().await.into_keys().map(|key| key.parse().expect("a number")).collect()
}

/// Polls, whatever comes of it, until the snapshot has a record.
async fn until_known(world: &mut World, id: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for _ in 0..2000 {
        outcomes.push(world.rig.poll().await);
        if known(world).await.contains(&id) {
            return outcomes;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} never came; last: {:?}", outcomes.last());
}

/// A generator of numbers, the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A secret as a file that its owner alone may read.
fn secret(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("secret");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

/// The graphql-transport-ws protocol as graphql-ws keeps it: who subscribes before the acknowledgement is closed with 4401.
async fn graphql(mut client: Client, token: &'static str) {
    let Some(init) = client.hear_json().await else { return };
    if init["type"] != "connection_init" || init["payload"]["token"] != token {
        return client.close(4403).await;
    }
    // What comes within this time is too early.
    if let Ok(early) = timeout(Duration::from_millis(80), client.hear()).await {
        if early.is_some() {
            client.close(4401).await;
        }
        return;
    }
    client.say_json(json!({ "type": "ping" })).await;
    if client.hear_json().await != Some(json!({ "type": "pong" })) {
        return client.close(4400).await;
    }
    client.say_json(json!({ "type": "connection_ack" })).await;
    let Some(subscribe) = client.hear_json().await else { return };
    for id in 1..=5 {
        client.say_json(json!({ "type": "next", "id": subscribe["id"], "data": [{ "id": id }] })).await;
    }
    client.stay().await;
}

const GRAPHQL: &str = r#"
subprotocols = ["graphql-transport-ws"]
send = [
    { type = "connection_init", payload = { token = { file = "SECRET_FILE" } } },
    { message = { type = "subscribe", id = "1", payload = { query = "subscription { x }" } }, after = '.type == "connection_ack"' },
]
answer = [{ when = '.type == "ping"', send = { type = "pong" } }]
"#;

/// No server built on graphql-ws could be subscribed to: the subscription came with the login, and the connection was closed with
/// "4401: Unauthorized" for ever. And the secret went out as `{"file":"..."}`.
#[tokio::test]
async fn a_subscription_waits_for_its_acknowledgement() {
    let stage = Stage::play(|client| graphql(client, "s3cret-of-graphql")).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = secret(&dir, "s3cret-of-graphql");
    let lines = GRAPHQL.replace("SECRET_FILE", file.to_str().expect("UTF-8"));
    let mut world = stage.world(&lines).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 5 });
    assert_eq!(stage.connections(), 1);
    let said: Vec<Json> = stage.heard(0).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    assert_eq!(said[1], json!({ "type": "pong" }), "a ping is answered before the acknowledgement, too");
    assert_eq!(said[2]["type"], "subscribe");
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_is_an_error_in_words() {
    let stage = Stage::play(|mut client| async move {
        client.hear().await;
        client.say_json(data([1])).await;
        client.stay().await;
    })
    .await;
    let lines = "timeout = \"300ms\"\nsend = [\"hello\", { message = \"sub\", after = '.type == \"ack\"' }]";
    let mut world = stage.world(lines).await;
    let error = world.fail().await;
    let expected = "no message came within 300ms (`timeout`) for which `after` holds: .type == \"ack\"";
    assert!(error.contains(expected), "{error}");
    assert_eq!(stage.heard(0), ["hello"]);
}

/// What a server quotes of a login stands in no error: neither from the reason of a close, nor from a message that cannot be read.
#[tokio::test]
async fn a_secret_of_a_message_stands_in_no_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = secret(&dir, "s3cret-of-the-message");
    let lines = format!("send = [{{ op = \"auth\", token = {{ file = \"{}\" }} }}]", file.display());
    for (closes, words) in [(true, "with 4000: "), (false, "could be read so far")] {
        let stage = Stage::play(move |mut client| async move {
            let Some(said) = client.hear().await else { return };
            if closes {
                let frame = CloseFrame { code: CloseCode::from(4000), reason: said.into() };
                client.say(Message::Close(Some(frame))).await;
            } else {
                client.say(Message::text(format!("refused: {said}"))).await;
            }
            client.stay().await;
        })
        .await;
        let mut world = stage.world(&lines).await;
        assert!(world.rig.poll().await.result.is_err());
        assert!(stage.heard(0)[0].contains("s3cret-of-the-message"), "it was sent");
        let error = world.rig.polled().progress.last_error.clone().expect("an error");
        assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
    }
}

/// What an entry waits for is seen by its jq: a challenge is answered.
#[tokio::test]
async fn jq_of_a_message_sees_the_one_that_it_waited_for() {
    let stage = Stage::play(|mut client| async move {
        client.say_json(json!({ "event": "challenge", "nonce": 42 })).await;
        if client.hear_json().await == Some(json!({ "op": "auth", "nonce": 42 })) {
            client.say_json(data([1])).await;
        }
        client.stay().await;
    })
    .await;
    let lines = "send = [{ message = { op = \"auth\", nonce = { jq = \".message.nonce\" } }, after = '.event == \"challenge\"' }]";
    let mut world = stage.world(lines).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
}

/// A tick every 50 ms, a ping at an interval, and the end for who does not answer within two of them. Of 100 s 44 were connected.
async fn heartbeat(mut client: Client, every: Duration) {
    let (mut tick, mut pinged, mut answered) = (0, 0, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut pings = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                tick += 1;
                if !client.say_json(data([tick])).await { return }
            }
            _ = pings.tick() => {
                if pinged > answered + 1 {
                    return client.close(1008).await;
                }
                pinged += 1;
                if !client.say_json(json!({ "ping": pinged })).await { return }
            }
            said = client.hear_json() => {
                let Some(said) = said else { return };
                answered = said["pong"].as_u64().unwrap_or(answered);
            }
        }
    }
}

#[tokio::test]
async fn heartbeats_in_messages_are_answered_at_any_interval() {
    let intervals = (1..=10_u64).map(|n| Duration::from_millis(60 * n));
    join_all(intervals.map(|every| async move {
        let stage = Stage::play(move |client| heartbeat(client, every)).await;
        let mut world = stage.world("answer = [{ when = \".ping\", send = { pong = { jq = \".ping\" } } }]").await;
        assert!(matches!(world.poll().await, Polling::Baseline { .. }), "{every:?}");
        for _ in 0..20 {
            world.poll().await;
            sleep(Duration::from_millis(100)).await;
        }
        world.poll().await;
        assert_eq!(stage.connections(), 1, "{every:?}");
        let known = known(&mut world).await;
        let last = *known.last().expect("some came");
        assert!(last > 20, "{every:?}: {last}");
        assert_eq!(known, (1..=last).collect(), "{every:?}: none is missing");
        assert_eq!(world.rig.polled().progress.flaws.left_out, 0, "heartbeats hold no records");
    }))
    .await;
}

#[tokio::test]
async fn a_message_is_said_at_an_interval() {
    let stage = Stage::play(|mut client| async move {
        client.say_json(data([1])).await;
        client.stay().await;
    })
    .await;
    let mut world =
        stage.world("ping = { every = \"50ms\", message = { op = \"ping\", at = { jq = \".now\" } } }").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    eventually("it has spoken", async || stage.heard(0).len() >= 3).await;
    let said: Json = serde_json::from_str(&stage.heard(0)[2]).expect("JSON");
    assert_eq!(said["op"], "ping");
    assert!(Timestamp::parse(said["at"].as_str().expect("a text")).is_ok_and(|at| at.0 > 0), "{said}");
}

fn packed(bytes: &[u8], gzip: bool) -> Vec<u8> {
    if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory");
        return encoder.finish().expect("memory");
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A message in a form of its own.
type Form = (&'static str, fn(&str) -> Message, &'static str);

const FORMS: [Form; 8] = [
    ("text", |text| Message::text(text), ""),
    ("binary", |text| Message::binary(text.as_bytes().to_vec()), ""),
    ("gzip", |text| Message::binary(packed(text.as_bytes(), true)), ""),
    ("zlib", |text| Message::binary(packed(text.as_bytes(), false)), ""),
    ("two lines", |text| Message::text(format!("{{\"type\":\"x\"}}\n{text}\n")), "split = \"\\n\""),
    ("SignalR", |text| Message::text(format!("{text}\u{1e}{{\"type\":6}}\u{1e}")), "split = \"\\u001e\""),
    ("gzip of lines", |text| Message::binary(packed(format!("{text}\n").as_bytes(), true)), "split = \"\\n\""),
    ("Socket.IO", |text| Message::text(format!("42[\"orders\",{text}]")), "decode.text = {}"),
];

/// 12 messages came in each form, and of four forms none was seen, while the bridge was `ok`.
#[tokio::test]
async fn records_are_found_in_frames_of_every_form() {
    join_all(FORMS.map(|(name, form, lines)| async move {
        let stage = Stage::play(move |mut client| async move {
            for id in 1..=3 {
                client.say(form(&data([id]).to_string())).await;
            }
            // Behind the baseline.
            sleep(Duration::from_millis(1500)).await;
            for id in 4..=6 {
                client.say(form(&data([id]).to_string())).await;
            }
            client.stay().await;
        })
        .await;
        let mut text = stage.text(lines);
        if name == "Socket.IO" {
            let items = r#"items = 'select(startswith("42")) | .[2:] | fromjson | .[1].data[]'"#;
            text = text.replace("items = \".data[]?\"", items);
        }
        let mut world = World::start(&text).await;
        assert_eq!(world.poll().await, Polling::Baseline { records: 3 }, "{name}");
        until_known(&mut world, 6).await;
        let lines = world.rig.lines().await;
        assert_eq!(lines, ["feed.created 4 #1", "feed.created 5 #2", "feed.created 6 #3"], "{name}");
    }))
    .await;
}

/// A bridge none of whose messages can be read is never `ok`: it says so with the words of its decoder.
#[tokio::test]
async fn messages_that_nobody_can_read_fail_until_one_can_be_read() {
    let (say, told) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let stage = Stage::play(move |mut client| {
        let told = told.clone();
        async move {
            client.say(Message::text("{\"data\":[]}\u{1e}")).await;
            let mut told = told.lock().await;
            while let Some(text) = told.recv().await {
                client.say(Message::text(text)).await;
            }
        }
    })
    .await;
    let mut world = stage.world("").await;
    for failures in 1..=5 {
        let error = world.fail().await;
        assert!(error.contains("no message of ws") || error.contains("no message of http"), "{error}");
        assert!(error.contains("could be read so far (`decode`, `split`): the answer is not JSON"), "{error}");
        assert!(error.contains("it begins: {\"data\":[]}"), "{error}");
        assert_eq!(world.rig.polled().progress.failures, failures, "no poll between says that it is well");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.rig.alerts().await, ["bellpull.bridge.failing"]);
    say.send("{\"data\":[{\"id\":1}]}").expect("it listens");
    until_known(&mut world, 1).await;
    // From now on one that cannot be read is told, and no failure.
    say.send("no JSON").expect("it listens");
    say.send("{\"data\":[{\"id\":2}]}").expect("it listens");
    let outcomes = until_known(&mut world, 2).await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert_eq!(stage.connections(), 1);
}

/// Records that come in the first 1.5 s after the subscription were mostly `created`: the baseline was one second.
#[tokio::test]
async fn the_baseline_is_as_long_as_the_file_says() {
    let scene = |mut client: Client| async move {
        client.say_json(json!({ "type": "hello" })).await;
        for id in 1..=30 {
            client.say_json(data([id])).await;
            sleep(Duration::from_millis(50)).await;
        }
        client.say_json(json!({ "type": "ready" })).await;
        client.say_json(data([31])).await;
        sleep(Duration::from_secs(3)).await;
        client.say_json(data([32])).await;
        client.stay().await;
    };
    for (lines, first_created) in [("baseline = \"3s\"", 32), ("baseline = '.type == \"ready\"'", 31)] {
        let stage = Stage::play(scene).await;
        let mut world = stage.world(lines).await;
        let mut records = None;
        for outcome in until_known(&mut world, 32).await {
            match outcome.result.expect("an accepted poll") {
                Polling::Baseline { records: found } => assert_eq!(records.replace(found), None, "one baseline"),
                Polling::Changed { updated, deleted, .. } => assert_eq!((updated, deleted), (0, 0)),
                _ => {}
            }
        }
        assert_eq!(records, Some(first_created - 1), "{lines}");
        let created: Vec<String> = world.rig.lines().await;
        let expected: Vec<String> =
            (first_created..=32).enumerate().map(|(n, id)| format!("feed.created {id} #{}", n + 1)).collect();
        assert_eq!(created, expected, "{lines}");
    }
}

#[tokio::test]
async fn a_baseline_that_does_not_end_is_an_error_after_the_deadline() {
    let stage = Stage::play(|mut client| async move {
        client.say_json(data([1])).await;
        client.stay().await;
    })
    .await;
    let mut world = stage.world("baseline = '.type == \"ready\"'\ndeadline = \"500ms\"").await;
    let error = world.fail().await;
    assert!(
        error.contains("no message came within 500ms (`deadline`) that ends `baseline`: .type == \"ready\""),
        "{error}"
    );
    assert_eq!(world.rig.snapshot().await.len(), 0);
}

/// Closed with any code at any step, it is subscribed again at the next poll, and all that comes then is seen.
#[tokio::test]
async fn a_close_at_any_step_is_survived() {
    const STEPS: usize = 5;
    let codes = [1000_u16, 1008, 1012, 4401];
    let cases = codes.into_iter().flat_map(|code| (0..STEPS).map(move |step| (code, step)));
    join_all(cases.map(|(code, step)| async move {
        let stage = Stage::play(move |mut client: Client| async move {
            let closes = |at: usize| client.number == 0 && at == step;
            let ends = [closes(0), closes(1), closes(2), closes(3), closes(4)];
            if ends[0] {
                return client.close(code).await;
            }
            client.hear().await;
            if ends[1] {
                return client.close(code).await;
            }
            client.say_json(json!({ "type": "ack" })).await;
            if ends[2] {
                return client.close(code).await;
            }
            client.hear().await;
            if ends[3] {
                return client.close(code).await;
            }
            client.say_json(data([1])).await;
            if ends[4] {
                return client.close(code).await;
            }
            client.say_json(data([2])).await;
            client.stay().await;
        })
        .await;
        let lines = "timeout = \"5s\"\nsend = [{ type = \"init\" }, { message = { type = \"sub\" }, after = '.type == \"ack\"' }]";
        let mut world = stage.world(lines).await;
        let outcomes = until_known(&mut world, 2).await;
        let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
        assert!(failed.len() <= 1, "{code} {step}: {failed:?}");
        for outcome in failed {
            let error = outcome.result.as_ref().expect_err("failed").to_string();
            assert!(error.contains("ended: "), "{code} {step}: {error}");
            assert_eq!(outcome.hint, Some(Duration::from_secs(5)), "{code} {step}");
        }
        assert_eq!(stage.connections(), 2, "{code} {step}");
    }))
    .await;
}

/// A server that kept a log of all that it said, and goes on where a client says that it was.
struct Log {
    /// Events that there are by now, each with its sequence.
    events: AtomicU64,
    seeded: Mutex<Seeded>,
}

impl Log {
    async fn speak(&self, mut client: Client) {
        let Some(subscribe) = client.hear_json().await else { return };
        let mark = subscribe["after"].as_u64().unwrap_or(0);
        let (events, code, silent) = {
            let mut seeded = self.seeded.lock().unwrap();
            // Few are closed before a word: each of them costs a second.
            let silent = seeded.below(100) == 0;
            // Some end without a word.
            let codes = [Some(1000), Some(1012), None];
            (1 + seeded.below(4), codes[usize::try_from(seeded.below(3)).unwrap()], silent)
        };
        // Some of it again: what is sent twice is no change.
        let from = mark.saturating_sub(1).max(1);
        for sequence in from..=mark + events {
            if silent {
                break;
            }
            self.events.fetch_max(sequence, Ordering::SeqCst);
            client.say_json(json!({ "sequence": sequence, "data": [{ "id": sequence, "v": 1 }] })).await;
        }
        match code {
            Some(code) => client.close(code).await,
            None => drop(client),
        }
    }
}

/// What came while a connection was down was lost for ever. With a sequence it is asked for again: none is lost that the server
/// still has, and none comes twice, whenever the connection or the program ends.
#[tokio::test]
async fn a_sequence_goes_on_after_300_reconnections() {
    let log = Arc::new(Log { events: AtomicU64::new(0), seeded: Mutex::new(Seeded(16)) });
    let speaks = log.clone();
    let stage = Stage::play(move |client| {
        let log = speaks.clone();
        async move { log.speak(client).await }
    })
    .await;
    let text = stage.text("resume = \".sequence\"\nsend = [{ op = \"subscribe\", after = { jq = \".mark\" } }]");
    let mut world = World::start(&text).await;
    let Polling::Baseline { records } = world.poll().await else { panic!("the first poll is the baseline") };
    let mut restarts = Seeded(300);
    let mut next_restart = 40_u64;
    while stage.connections() < 300 {
        // A poll that fails, or finds nothing, is no matter: the server closes all the time.
        let _ = world.rig.poll().await;
        if u64::try_from(stage.connections()).unwrap() >= next_restart {
            world.restart(&text).await;
            next_restart += 30 + restarts.below(30);
        }
        sleep(Duration::from_millis(2)).await;
    }
    let last = log.events.load(Ordering::SeqCst);
    until_known(&mut world, last).await;
    let known = known(&mut world).await;
    assert_eq!(known, (1..=*known.last().expect("some")).collect(), "none is lost");
    let lines = world.rig.lines().await;
    let created: BTreeSet<&str> = lines.iter().filter_map(|line| line.strip_prefix("feed.created ")).collect();
    assert_eq!(created.len(), lines.len(), "and each is created once: {lines:?}");
    let keys: BTreeSet<&str> = created.iter().filter_map(|line| line.split(' ').next()).collect();
    let silent = usize::try_from(records).unwrap();
    assert_eq!(keys.len() + silent, known.len(), "none twice");
}

/// The mark stands in the subscription as it was in the message, and a restart goes on from it.
#[tokio::test]
async fn the_mark_is_committed_and_sent_again() {
    let stage = Stage::play(|mut client| async move {
        client.hear().await;
        client.say_json(json!({ "seq": "00a7", "data": [{ "id": 1 }] })).await;
        client.say_json(json!({ "note": "without a mark", "data": [] })).await;
        client.stay().await;
    })
    .await;
    let text = stage.text("resume = \".seq\"\nsend = [{ from = { jq = \".mark\" } }]");
    let mut world = World::start(&text).await;
    world.poll().await;
    world.restart(&text).await;
    world.poll().await;
    eventually("it has subscribed", async || stage.connections() == 2 && !stage.heard(1).is_empty()).await;
    assert_eq!(
        (stage.heard(0), stage.heard(1)),
        (vec![r#"{"from":null}"#.to_owned()], vec![r#"{"from":"00a7"}"#.to_owned()])
    );
}

/// The server forgot the token and said so by closing with 4401: the old token was sent for 50 minutes more.
#[tokio::test]
async fn a_refusal_by_a_close_code_is_a_new_login_at_once() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = logins.clone();
    let login = Server::start(Arc::new(move |_: Request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        Answer::json(format!("{{\"token\":\"t0ken-number-{n}\"}}")).into()
    }))
    .await;
    let stage = Stage::play(|mut client: Client| async move {
        let Some(said) = client.hear_json().await else { return };
        // The first token is good for the first connection.
        let good = client.number == 0 || said["token"] == "t0ken-number-1";
        if !good {
            return client.close(4401).await;
        }
        client.say_json(data([u64::try_from(client.number).unwrap() + 1])).await;
        if client.number == 0 {
            sleep(Duration::from_millis(1500)).await;
            return client.close(1000).await;
        }
        client.stay().await;
    })
    .await;
    let lines = "send = [{ op = \"auth\", token = { token = true } }]\n\
                 auth.session = { request.url = \"LOGIN/login\", token = \".token\", inject.header = \"x-session\" }";
    let mut world = stage.world(&lines.replace("LOGIN", &login.origin())).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let outcomes = until_known(&mut world, 3).await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert_eq!(logins.load(Ordering::SeqCst), 2);
    assert_eq!(stage.connections(), 3);
    assert_eq!(stage.heard(2), [r#"{"op":"auth","token":"t0ken-number-1"}"#]);
}

/// One message on which `deletes.when` failed made a poll fail, and all that had come with it was lost.
#[tokio::test]
async fn a_message_on_which_jq_fails_takes_no_other_with_it() {
    let stage = Stage::play(|mut client| async move {
        client.say_json(data([1])).await;
        sleep(Duration::from_millis(1500)).await;
        client.say_json(json!({ "data": [{ "id": 2, "bad": true }] })).await;
        client.say_json(data([3])).await;
        client.stay().await;
    })
    .await;
    let when = "deletes.when = 'if .bad then error(\"odd\") else .gone end'\nto = [\"me\"]";
    let mut world = World::start(&stage.text("").replace("to = [\"me\"]", when)).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let outcomes = until_known(&mut world, 3).await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert_eq!(world.rig.lines().await, ["feed.created 3 #1"]);
}

/// Whoever is refused again and again logs in once more and no faster than it fails.
#[tokio::test]
async fn a_refusal_that_stays_waits_longer_each_time() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = logins.clone();
    let login = Server::start(Arc::new(move |_: Request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        Answer::json(format!("{{\"token\":\"t0ken-number-{n}\"}}")).into()
    }))
    .await;
    let stage = Stage::play(|mut client: Client| async move {
        client.hear().await;
        client.say_json(json!({ "error": "forbidden" })).await;
        client.close(4403).await;
    })
    .await;
    let lines = "send = [{ token = true }]\n\
                 auth.session = { request.url = \"LOGIN/login\", token = \".token\", inject.header = \"x-session\" }";
    let mut world = stage.world(&lines.replace("LOGIN", &login.origin())).await;
    for (failures, wait) in [(1, 5), (2, 10), (3, 20)] {
        let outcome = world.rig.poll().await;
        let error = outcome.result.expect_err("it is refused").to_string();
        assert!(error.contains("4403"), "{error}");
        assert_eq!(outcome.hint, Some(Duration::from_secs(wait)));
        assert_eq!(world.rig.polled().progress.failures, failures);
    }
    assert_eq!(stage.heard(0), ["t0ken-number-0"], "the whole message is the token");
    assert_eq!((stage.connections(), logins.load(Ordering::SeqCst)), (4, 4), "one at once, then one a poll");
}

/// Of a server that asked for two minutes the handshake was asked again after 5, 10, 20 s.
#[tokio::test]
async fn a_handshake_that_is_refused_for_a_while_waits_so_long() {
    for (status, header, value, wait) in
        [(429, "retry-after", "120", 120), (503, "retry-after", "7", 7), (429, "x-ratelimit-reset-after", "30", 30)]
    {
        let answer = Answer::new(status, "later").header(header, value).header("x-ratelimit-remaining", "0");
        let server = Server::start(Arc::new(move |_: Request| answer.clone().into())).await;
        let mut world = World::start(&bridge(&server.origin().replace("http", "ws"), "")).await;
        let outcome = world.rig.poll().await;
        assert!(outcome.result.expect_err("refused").to_string().contains(&status.to_string()));
        assert_eq!(outcome.hint, Some(Duration::from_secs(wait)), "{status} {header}");
    }
}

/// A server may choose one of those that are offered, or none; another one is an error.
#[tokio::test]
#[expect(clippy::result_large_err, reason = "tungstenite's own callback")]
async fn subprotocols_are_offered_and_the_choice_is_checked() {
    for (chosen, error) in [(Some("b.v2"), None), (None, None), (Some("soap"), Some("the subprotocol \"soap\""))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let choose = |request: &Handshake, mut response: Response| {
                assert_eq!(request.headers()["sec-websocket-protocol"], "a, b.v2");
                if let Some(chosen) = chosen {
                    response.headers_mut().insert("sec-websocket-protocol", chosen.parse().expect("a value"));
                }
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose).await.expect("a handshake");
            while let Some(Ok(_)) = socket.next().await {}
        });
        let mut world = World::start(&bridge(&format!("ws://{addr}"), "subprotocols = [\"a\", \"b.v2\"]")).await;
        match error {
            None => assert_eq!(world.poll().await, Polling::Baseline { records: 0 }),
            Some(words) => assert!(world.fail().await.contains(words)),
        }
        serving.abort();
    }
}

#[test]
fn what_cannot_be_said_is_refused_in_the_file() {
    let refused = |lines: &str| refused(&bridge("ws://stream.example.com", lines));
    for (lines, words) in [
        ("send = [{ token = { token = true } }]", "is the token of a login, and there is none"),
        ("send = [{ message = \"x\", after = \"!\" }]", "after"),
        ("answer = [{ send = \"3\" }]", "`when` is missing"),
        ("ping = { every = \"0s\", message = \"x\" }", "must be more than 0"),
        ("subprotocols = [\"a b\"]", "is not the name of a subprotocol"),
        (
            "subprotocols = [\"a\"]\nheaders = { sec-websocket-protocol = \"b\" }",
            "stands beside the header of that name",
        ),
        ("split = \"\"", "separates nothing"),
        ("baseline = \"30 seconds\"", "duration"),
        ("[bridge.feed.since]\ntoken = \".seq\"", "write `resume` in the source"),
    ] {
        let said = refused(lines);
        assert!(said.contains(words), "{lines}: {said}");
    }
}
