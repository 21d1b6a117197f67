//! `source.websocket`: subscriptions, batches, ends of connections, and servers that misbehave.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bellpull::poller::Polling;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use crate::support::{
    rig::World,
    server::{Answer, Server, eventually},
};

const ORDERS: &str = r#"
[bridge.orders]
items = ".data[]?"
key = ".id"
to = ["me"]
[bridge.orders.source.websocket]
url = "SERVER/feed"
send = [{ op = "subscribe", channel = "orders" }, "hello"]
"#;

/// What a client sent, and the way to it.
struct Client {
    said: Vec<String>,
    say: mpsc::UnboundedSender<Message>,
}

/// A server that waits for a subscription, answers it with a burst, and then says what it is told to.
struct Feed {
    addr: SocketAddr,
    clients: Arc<Mutex<Vec<Client>>>,
    accepting: AbortHandle,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Feed {
    async fn start(burst: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let clients: Arc<Mutex<Vec<Client>>> = Arc::default();
        let all = clients.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, all.clone(), burst));
            }
        });
        Self { addr, clients, accepting: accepting.abort_handle() }
    }

    async fn world(&self, lines: &str) -> World {
        World::start(&format!("{}{lines}\n", ORDERS.replace("SERVER", &format!("ws://{}", self.addr)))).await
    }

    fn count(&self) -> usize {
        self.clients.lock().unwrap().len()
    }

    /// Says something to the newest client.
    fn say(&self, message: impl Into<Message>) {
        self.clients.lock().unwrap().last().expect("a client").say.send(message.into()).expect("it listens");
    }

    fn text(&self, text: &str) {
        self.say(Message::text(text));
    }
}

async fn serve(stream: TcpStream, clients: Arc<Mutex<Vec<Client>>>, burst: &'static str) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let mut said = Vec::new();
    while said.len() < 2 {
        let Some(Ok(message)) = socket.next().await else { return };
        said.push(message.to_text().expect("text").to_owned());
    }
    if !burst.is_empty() && socket.send(Message::text(burst)).await.is_err() {
        return;
    }
    let (say, mut told) = mpsc::unbounded_channel();
    clients.lock().unwrap().push(Client { said, say });
    loop {
        tokio::select! {
            message = told.recv() => {
                let Some(message) = message else { return };
                let close = message.is_close();
                if socket.send(message).await.is_err() || close {
                    return;
                }
            }
            // Reading answers pings.
            got = socket.next() => if !matches!(got, Some(Ok(_))) { return },
        }
    }
}

/// Polls until something was committed, as the runner does every second.
async fn until_changed(world: &mut World) -> Polling {
    for _ in 0..1000 {
        let polling = world.poll().await;
        if matches!(polling, Polling::Changed { .. }) {
            return polling;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no change came");
}

#[tokio::test]
async fn what_comes_with_the_subscription_is_the_baseline_and_later_messages_are_upserted() {
    let feed = Feed::start(r#"{"data":[{"id":1,"v":0},{"id":2,"v":0}]}"#).await;
    let mut world = feed.world("").await;
    assert_eq!(world.rig.polled().bridge.schedule.interval(bellpull::model::Timestamp(0)), Duration::from_secs(1));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    assert_eq!(feed.clients.lock().unwrap()[0].said, [r#"{"channel":"orders","op":"subscribe"}"#, "hello"]);
    assert_eq!(world.poll().await, Polling::Unchanged);
    // An acknowledgement and a heartbeat hold no records, one message has no key: the others count.
    for text in [
        r#"{"type":"ack"}"#,
        "heartbeat",
        r#"{"data":[{"id":2,"v":1}]}"#,
        r#"{"data":[{"no":"key"},{"id":9}]}"#,
        r#"{"data":[{"id":3,"v":0}]}"#,
        r#"{"data":[{"id":3,"v":7}]}"#,
    ] {
        feed.text(text);
    }
    eventually("all have arrived", async || {
        world.poll().await;
        world.rig.snapshot().await.get("3").is_some_and(|body| body.contains('7'))
    })
    .await;
    let lines = world.rig.lines().await;
    assert!(lines.iter().any(|line| line.starts_with("orders.updated 2")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("orders.created 3")), "{lines:?}");
    let snapshot = world.rig.snapshot().await;
    assert_eq!(snapshot.keys().collect::<Vec<_>>(), ["1", "2", "3"], "1 is not gone, 9 came with a broken record");
    assert_eq!(feed.count(), 1, "one connection");
}

/// A message with half of an emoji was left out, and its records were lost.
#[tokio::test]
async fn half_a_surrogate_pair_costs_no_message() {
    let feed = Feed::start(r#"{"data":[{"id":1,"t":"x \ud83d"}]}"#).await;
    let mut world = feed.world("").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    assert_eq!(world.rig.snapshot().await["1"], "{\"id\":1,\"t\":\"x \u{fffd}\"}");
    let flaws = &world.rig.polled().progress.flaws;
    assert_eq!((flaws.replaced, flaws.left_out), (1, 0));
}

#[tokio::test]
async fn a_feed_that_says_nothing_is_an_empty_baseline_and_its_first_message_an_event() {
    let feed = Feed::start("").await;
    let mut world = feed.world("").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 0 });
    feed.text(r#"{"data":[{"id":1}]}"#);
    until_changed(&mut world).await;
    assert_eq!(world.rig.lines().await, ["orders.created 1 #1"]);
}

/// A server that ends its connections every few seconds, each of which had brought records, was asked again after 5, 10, 20 s up to
/// 15 minutes, and what it said meanwhile was lost.
#[tokio::test]
async fn a_connection_that_brought_records_and_ends_is_opened_again_soon() {
    let feed = Feed::start("").await;
    let mut world = feed.world("").await;
    world.poll().await;
    for round in 1..=3 {
        feed.text(&format!(r#"{{"data":[{{"id":{round}}}]}}"#));
        feed.say(Message::Close(None));
        let outcome = loop {
            let outcome = world.rig.poll().await;
            if outcome.hint.is_some() {
                break outcome;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(outcome.result.expect("nothing failed"), Polling::Unchanged);
        assert_eq!(outcome.hint, Some(Duration::from_secs(5)));
        world.poll().await;
        eventually("it has subscribed again", async || feed.count() == round + 1).await;
    }
    assert!(feed.clients.lock().unwrap().iter().all(|client| client.said.len() == 2));
    let lines = world.rig.lines().await;
    assert_eq!(
        lines,
        ["orders.created 1 #1", "orders.created 2 #2", "orders.created 3 #3"],
        "what came before the end counts"
    );
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection_and_changes_nothing() {
    let feed = Feed::start(r#"{"data":[{"id":1}]}"#).await;
    let mut world = feed.world("size-max = \"64KiB\"").await;
    world.poll().await;
    let before = world.rig.export().await;
    feed.text(&format!(r#"{{"data":[{{"id":2,"x":"{}"}}]}}"#, "y".repeat(100_000)));
    let mut error = String::new();
    eventually("it ends", async || match world.rig.poll().await.result {
        Err(failure) => {
            error = failure.to_string();
            true
        }
        Ok(_) => false,
    })
    .await;
    assert!(error.contains("Message too long") && error.contains("`size-max`"), "{error}");
    assert_eq!(world.rig.export().await, before);
}

/// The server sends as fast as it can and nobody polls: what is buffered has an end, and the server has to wait.
#[tokio::test]
async fn a_flood_is_held_back_by_the_buffer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let flood = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let config = WebSocketConfig::default();
        let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await.expect("a handshake");
        for n in 0..2_000_000 {
            let text = format!(r#"{{"data":[{{"id":{},"v":{n},"x":"{}"}}]}}"#, n % 50, "y".repeat(1000));
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let text = ORDERS.replace("SERVER", &format!("ws://{addr}")) + "size-max = \"1MiB\"\n";
    let mut world = World::start(&text).await;
    world.poll().await;
    // It stands still while nobody polls ...
    let mut last = 0;
    eventually("the server is held back", async || {
        let now = sent.load(Ordering::Relaxed);
        let still = now == last && now > 0;
        last = now;
        tokio::time::sleep(Duration::from_millis(200)).await;
        still && now == sent.load(Ordering::Relaxed)
    })
    .await;
    // A megabyte of buffer, what the first poll took, and what the kernel's buffers of both sides hold.
    assert!(last < 30_000, "{last} messages of 1 KB were taken in");
    // ... and goes on with each poll.
    eventually("it goes on", async || {
        world.poll().await;
        sent.load(Ordering::Relaxed) > last
    })
    .await;
    assert_eq!(world.rig.snapshot().await.len(), 50);
    flood.abort();
}

#[tokio::test]
async fn a_server_that_answers_no_ping_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let deaf = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        // It reads nothing, and so answers nothing.
        let kept = socket;
        std::future::pending::<()>().await;
        drop(kept);
    });
    let text = ORDERS.replace("SERVER", &format!("ws://{addr}")) + "ping = \"100ms\"\n";
    let mut world = World::start(&text).await;
    // The first poll gathers for longer than two pings take.
    let error = world.fail().await;
    assert!(error.ends_with("ended: it did not answer a ping"), "{error}");
    deaf.abort();
}

#[tokio::test]
async fn a_server_that_wants_no_websocket_says_so_in_the_error() {
    let server = Server::start(Arc::new(|_| Answer::new(401, "no token").into())).await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin().replace("http", "ws"))).await;
    let error = world.fail().await;
    assert!(error.ends_with("answered 401: no token"), "{error}");
    // One that switches without having understood the question.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let wrong = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut head = [0; 2048];
        let _ = stream.read(&mut head).await;
        let answer =
            "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: AAAA\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("written");
        std::future::pending::<()>().await;
    });
    let mut world = World::start(&ORDERS.replace("SERVER", &format!("ws://{addr}"))).await;
    let error = world.fail().await;
    assert!(error.ends_with("has a wrong Sec-WebSocket-Accept"), "{error}");
    wrong.abort();
}

/// A wrong token: the server takes the subscription and hangs up. Each such poll counted as a success, and nobody was told.
#[tokio::test]
async fn a_server_that_hangs_up_after_each_subscription_is_told_as_failing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let rude = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
            let _ = socket.next().await;
            let _ = socket.close(None).await;
        }
    });
    let mut world = World::start(&ORDERS.replace("SERVER", &format!("ws://{addr}"))).await;
    for failures in 1..=5 {
        let outcome = world.rig.poll().await;
        let wait = outcome.hint.expect("a wait");
        assert_eq!(wait, Duration::from_secs(5 << (failures - 1)));
        assert_eq!(world.rig.polled().progress.failures, failures);
    }
    assert_eq!(world.rig.alerts().await, ["bellpull.bridge.failing"]);
    rude.abort();
}

/// A held batch would be lost with the next one: `guard`, also one of `[defaults.bridge]`, says nothing of a stream.
#[tokio::test]
async fn a_guard_holds_no_messages() {
    let feed = Feed::start("").await;
    let all: Vec<String> = (0..20).map(|id| format!("{{\"id\":{id},\"v\":0}}")).collect();
    let defaults = "\n[defaults.bridge]\nguard.changes = 0.1\n";
    let mut world = feed.world(defaults).await;
    world.poll().await;
    for v in 0..2 {
        feed.text(&format!("{{\"data\":[{}]}}", all.join(",").replace("\"v\":0", &format!("\"v\":{v}"))));
        assert!(matches!(until_changed(&mut world).await, Polling::Changed { .. }));
    }
    assert_eq!(world.rig.lines().await.len(), 40);
}
