//! `source.sse`: events of a stream that goes on, over a server that ends it wherever it likes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bellpull::poller::Polling;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::sleep,
};

use crate::support::{rig::World, server::eventually};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";

/// A server that writes something to each client; what they asked, head by head.
struct Stage {
    origin: String,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: AbortHandle,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stage {
    async fn play<F: Future<Output = ()> + Send + 'static>(
        scene: impl Fn(TcpStream, usize, Option<String>) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = asked.clone();
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8(head).expect("ASCII");
                let id = head.lines().find_map(|line| line.strip_prefix("last-event-id: ")).map(str::to_owned);
                heads.lock().unwrap().push(head);
                tokio::spawn(scene(stream, number, id));
            }
        });
        Self { origin, asked, accepting: accepting.abort_handle() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn text(&self, lines: &str) -> String {
        format!(
            "[bridge.feed]\nitems = '.data | fromjson'\nkey = \".id\"\nto = [\"me\"]\n\
             [bridge.feed.source.sse]\nurl = \"{}/events\"\nbaseline = \"200ms\"\n{lines}\n",
            self.origin
        )
    }

    async fn world(&self, lines: &str) -> World {
        World::start(&self.text(lines)).await
    }
}

async fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

async fn known(world: &mut World) -> BTreeSet<u64> {
    world.rig.snapshot().await.into_keys().map(|key| key.parse().expect("a number")).collect()
}

/// Polls until a record is there; whether each poll went well.
async fn until_known(world: &mut World, id: u64) -> bool {
    let mut went_well = true;
    for _ in 0..1000 {
        went_well &= world.rig.poll().await.result.is_ok();
        if known(world).await.contains(&id) {
            return went_well;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} never came")
}

#[tokio::test]
async fn what_comes_first_is_the_baseline_and_later_events_are_upserted() {
    let stage = Stage::play(|mut stream, _, _| async move {
        say(&mut stream, HEAD).await;
        say(&mut stream, ": hello\n\nid: 1\ndata: {\"id\":1}\n\nid: 2\ndata: {\"id\":2}\n\n").await;
        sleep(Duration::from_millis(400)).await;
        // In pieces, by every kind of line end, with data of several lines.
        for piece in ["ev", "ent: changed\r", "\nid: 3\rdata: {\"id\":2,\r", "data: \"v\":\"ü\"}\n\n"] {
            say(&mut stream, piece).await;
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut world = stage.world("headers = { x-app = \"7\" }").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    eventually("the change came", async || world.rig.poll().await.result != Ok(Polling::Unchanged)).await;
    let lines = world.rig.lines().await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("feed.updated 2"), "{lines:?}");
    let head = stage.asked().concat();
    for line in ["accept: text/event-stream\r\n", "x-app: 7\r\n", "GET /events HTTP/1.1\r\n"] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    assert_eq!((stage.asked().len(), head.contains("last-event-id")), (1, false));
}

/// The server keeps its events, and ends the stream at random places: in the middle of an event, before its first, by a clean end or
/// not. The daemon is restarted now and then.
#[tokio::test]
async fn an_id_goes_on_after_each_end() {
    let seeded = Arc::new(Mutex::new(7_u64));
    let stage = Stage::play(move |mut stream, _, id| {
        let seeded = seeded.clone();
        let draw = move |limit: u64| {
            let mut seeded = seeded.lock().unwrap();
            *seeded = seeded.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seeded >> 33) % limit
        };
        async move {
            let from: u64 = id.map_or(0, |id| id.parse().expect("an id of ours"));
            say(&mut stream, HEAD).await;
            for id in from + 1..=from + draw(5) {
                say(&mut stream, &format!("id: {id}\ndata: {{\"id\":{id}}}\n\n")).await;
            }
            if draw(2) == 0 {
                let next = format!("id: {}\ndata: {{\"id\":0}}\n", from + 100);
                let cut = usize::try_from(draw(u64::try_from(next.len()).unwrap())).unwrap();
                say(&mut stream, &next[..cut]).await;
            }
        }
    })
    .await;
    let mut world = stage.world("").await;
    let text = stage.text("");
    let Polling::Baseline { records } = world.poll().await else { panic!("the first poll is the baseline") };
    for n in 1..=150 {
        let _ = world.rig.poll().await;
        if n % 40 == 0 {
            world.restart(&text).await;
        }
        sleep(Duration::from_millis(2)).await;
    }
    let known = known(&mut world).await;
    let last = *known.last().expect("some");
    assert!(last >= 40, "{last}");
    assert_eq!(known, (1..=last).collect(), "none is lost, and none made of half an event");
    let lines = world.rig.lines().await;
    let created: BTreeSet<&String> = lines.iter().filter(|line| line.starts_with("feed.created ")).collect();
    assert_eq!(created.len(), lines.len(), "each is created once: {lines:?}");
    assert_eq!(u64::try_from(created.len()).unwrap() + records, last, "none twice");
}

/// A balancer dropped the connection and said nothing.
#[tokio::test]
async fn a_stream_that_is_silent_is_opened_again() {
    let stage = Stage::play(|mut stream, number, _| async move {
        say(&mut stream, HEAD).await;
        say(&mut stream, &format!("id: {number}\ndata: {{\"id\":{number}}}\n\n")).await;
        if number == 0 {
            // Comments are a sign of life.
            for _ in 0..8 {
                sleep(Duration::from_millis(100)).await;
                say(&mut stream, ":\n").await;
            }
        }
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut world = stage.world("silence = \"300ms\"").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    sleep(Duration::from_millis(400)).await;
    world.rig.poll().await.result.expect("it lives");
    assert_eq!(stage.asked().len(), 1, "as long as comments come");
    assert!(until_known(&mut world, 1).await, "it brought records: nothing failed");
    assert!(stage.asked()[1].contains("last-event-id: 0\r\n"));
}

/// What is no stream is an error in words.
#[tokio::test]
async fn what_is_no_stream_is_told() {
    for (answer, told) in [
        ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]", "has application/json"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "has no content type: poll it with `source.http`"),
        ("HTTP/1.1 503 No\r\nretry-after: 120\r\ncontent-length: 4\r\n\r\nbusy", "answered 503"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "answered 204"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: br\r\nconnection: close\r\n\r\n",
            "it packed its events (br)",
        ),
    ] {
        let stage = Stage::play(move |mut stream, _, _| async move { say(&mut stream, answer).await }).await;
        let mut world = stage.world("").await;
        let outcome = world.rig.poll().await;
        let error = outcome.result.expect_err("no stream").to_string();
        assert!(error.contains(told), "{told}: {error}");
        let waits = outcome.hint == Some(Duration::from_secs(120));
        assert_eq!(waits, answer.contains("retry-after"), "{error}");
    }
}

/// An event that never ends is no reason to take all memory; `retry` is the wait before the next request.
#[tokio::test]
async fn limits_and_the_servers_own_wait() {
    let stage = Stage::play(|mut stream, _, _| async move {
        say(&mut stream, HEAD).await;
        let line = format!("data: {}\n", "x".repeat(1000));
        for _ in 0..100 {
            say(&mut stream, &line).await;
        }
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut world = stage.world("size-max = \"16KiB\"").await;
    let error = world.fail().await;
    assert!(error.contains("an event has more than 16384 bytes (`size-max`)"), "{error}");

    let stage = Stage::play(|mut stream, _, _| async move {
        say(&mut stream, HEAD).await;
        say(&mut stream, "retry: 77000\ndata: {\"id\":1}\n\n").await;
    })
    .await;
    let mut world = stage.world("").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let outcome = world.rig.poll().await;
    assert_eq!((outcome.result, outcome.hint), (Ok(Polling::Unchanged), Some(Duration::from_secs(77))));
}
