//! An endpoint over time: how fast and in what order it is sent to, what happens while it is down or slow, and how an
//! admin steers it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellpull::{
    admin::{Admin, Replay},
    clock::Clock,
    deliver,
    model::Timestamp,
    store::{DeliveryState, EndpointState, Op, memory::MemoryEngine},
};
use tokio::time::Instant;

use crate::support::{
    receiver::{Received, Receiver},
    rig::{World, as_json, list},
    server::{Answer, Reply, eventually},
    stopped::Stopped,
};

fn me(lines: &str) -> String {
    format!("{}\n{}", list(""), endpoint("me", lines))
}

fn endpoint(name: &str, lines: &str) -> String {
    format!(
        "[endpoint.{name}]\nurl = \"RECEIVER/{name}\"\nsign.standard.secrets = [{{ value = \"SECRET\" }}]\n{lines}\n"
    )
}

async fn status(world: &World, endpoint: &str) -> deliver::Status {
    world.rig.deliveries.status().await.remove(endpoint).expect("an endpoint")
}

async fn settled(world: &World, endpoint: &str) {
    eventually(&format!("nothing waits for {endpoint}"), async || {
        let status = status(world, endpoint).await;
        status.waiting + status.in_flight == 0
    })
    .await;
}

fn admin(world: &World) -> Admin {
    let rig = &world.rig;
    Admin::new(
        rig.store.clone(),
        Arc::new(rig.config.clone()),
        None,
        Some(rig.deliveries.clone()),
        bellpull::pulse::Pulse::new(),
    )
}

/// Every record once more, with another value.
async fn change(world: &mut World, records: u32, v: u32) {
    (1..=records).for_each(|id| world.upstream.put(&id.to_string(), &format!(r#"{{"id":{id},"v":{v}}}"#)));
    world.poll().await;
}

/// The sequence numbers of each record, in the order in which they came.
fn by_key(received: &[Received]) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    received.iter().for_each(|r| all.entry(r.key().to_owned()).or_default().push(r.sequence()));
    all
}

#[tokio::test]
async fn no_faster_than_its_rate() {
    let mut world = World::start(&me("rate = \"50/s\"")).await;
    world.poll().await;
    world.upstream.fill(40);
    world.poll().await;
    let taken = world.receiver.wait_taken("/me", 40).await;
    let at: Vec<Instant> = taken.iter().map(|r| r.request.at).collect();
    let took = at[39] - at[0];
    assert!(took >= Duration::from_millis(39 * 20 - 30), "{took:?}");
    for window in at.windows(11) {
        assert!(window[10] - window[0] >= Duration::from_millis(150), "ten in {:?}", window[10] - window[0]);
    }
}

#[tokio::test]
async fn as_many_in_flight_as_it_says() {
    for (lines, expected) in [("in-flight = 3", 3), ("in-flight = 20", 20), ("", 8)] {
        let mut world = World::start(&me(lines)).await;
        world.poll().await;
        world.receiver.answers("/me", |_| Reply::Hang);
        world.upstream.fill(30);
        world.poll().await;
        world.receiver.wait("/me", expected).await;
        let status = status(&world, "me").await;
        assert_eq!((status.in_flight, world.receiver.at("/me").len()), (expected, expected));
    }
}

#[tokio::test]
async fn the_order_of_a_bridge_is_that_of_its_sequence() {
    let mut world = World::start(&me("order = \"bridge\"\nretry.schedule = [\"20ms\"]")).await;
    world.poll().await;
    let mut n = 0;
    world.receiver.answers("/me", move |_| {
        n += 1;
        Answer::new(if n % 5 == 0 { 503 } else { 200 }, "").into()
    });
    world.upstream.fill(10);
    world.poll().await;
    change(&mut world, 10, 1).await;
    settled(&world, "me").await;
    let sequences: Vec<u64> = world.receiver.taken("/me").iter().map(Received::sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_an_order_nothing_waits_for_another() {
    let mut world = World::start(&me("order = \"none\"\ntimeout = \"10s\"")).await;
    world.poll().await;
    world
        .receiver
        .answers("/me", |received| if received.sequence() == 1 { Reply::Hang } else { Answer::new(200, "").into() });
    world.upstream.fill(1);
    world.poll().await;
    for v in 1..5 {
        change(&mut world, 1, v).await;
    }
    assert_eq!(
        by_key(&world.receiver.wait_taken("/me", 4).await)["1"].iter().copied().collect::<BTreeSet<_>>(),
        (2..=5).collect()
    );
}

#[tokio::test]
async fn beyond_queue_max_events_are_dead_letters_and_others_are_told_once() {
    let text = format!("{}\n{}{}", list("alert.to = [\"ops\"]"), endpoint("me", "queue-max = 5"), endpoint("ops", ""));
    let mut world = World::start(&text).await;
    world.poll().await;
    world.receiver.status("/me", 503);
    world.upstream.fill(5);
    world.poll().await;
    eventually("five wait", async || status(&world, "me").await.waiting == 5).await;
    world.upstream.fill(12);
    world.poll().await;
    world.upstream.fill(14);
    world.poll().await;
    let full = |event: &Received| event.kind() == "bellpull.endpoint.full";
    eventually("it is told", async || world.receiver.taken("/ops").iter().any(full)).await;
    let states = async || -> Vec<DeliveryState> {
        let all = world.rig.stored_events().await.into_iter().flat_map(|e| e.deliveries);
        all.filter(|d| &*d.endpoint == "me").map(|d| d.state).collect()
    };
    eventually("nine are dead", async || states().await.iter().filter(|s| **s == DeliveryState::Dead).count() == 9)
        .await;
    assert_eq!(status(&world, "me").await.waiting, 5);
    // All of them can still be sent, once there is room.
    world.receiver.status("/me", 200);
    world.rig.deliveries.enable("me".into(), true).await.expect("enabled");
    settled(&world, "me").await;
    let request = Replay { dead: true, ..Replay::default() };
    let queued = admin(&world).replay(request).await.expect("queued");
    assert_eq!(queued.deliveries, 9);
    let taken = world.receiver.wait_taken("/me", 14).await;
    assert_eq!(taken.iter().map(Received::sequence).collect::<BTreeSet<_>>(), (1..=14).collect());
    assert_eq!(world.receiver.at("/ops").iter().filter(|event| full(event)).count(), 1, "once");
}

#[tokio::test]
async fn a_full_queue_can_stop_its_bridges() {
    let text = me("queue-max = 3\nqueue-full = \"pause\"\nretry.schedule = [\"100ms\"]");
    let mut world = World::start(&text).await;
    world.receiver.status("/me", 503);
    world.poll().await;
    world.upstream.fill(4);
    world.poll().await;
    eventually("four wait", async || status(&world, "me").await.waiting == 4).await;
    let handle = world.rig.run().await;
    eventually("it is paused", async || handle.status().await["orders"].state.word() == "paused").await;
    let why = handle.status().await["orders"].last_error.clone().expect("why");
    assert!(why.contains("the queue of \"me\" is full"), "{why}");
    let asked = world.upstream.count();
    world.upstream.fill(9);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.upstream.count(), asked, "nothing is polled meanwhile");
    world.receiver.status("/me", 200);
    let taken = world.receiver.wait_taken("/me", 9).await;
    assert_eq!(taken.iter().map(Received::sequence).collect::<BTreeSet<_>>(), (1..=9).collect(), "and nothing is lost");
}

#[tokio::test]
async fn each_endpoint_keeps_what_was_delivered_as_long_as_it_says() {
    let text = format!(
        "{}\n{}{}",
        list("").replace("to = [\"me\"]", "to = [\"me\", \"long\"]"),
        endpoint("me", "keep = \"1h\""),
        endpoint("long", "keep = \"3d\"")
    );
    let mut world = World::start(&text).await;
    world.poll().await;
    world.upstream.fill(2);
    world.poll().await;
    settled(&world, "me").await;
    settled(&world, "long").await;
    let now = Clock::system().now();
    let admin = admin(&world);
    let left = async |hours: i64| {
        admin.sweep(now.plus_ms(hours * 3_600_000)).await.expect("swept");
        world.rig.stored_events().await.len()
    };
    assert_eq!((left(2).await, left(71).await, left(73).await), (2, 2, 0), "the longest counts for an event of both");
}

#[tokio::test]
async fn a_renamed_endpoint_takes_its_queue_and_a_removed_one_is_shown_and_forgotten() {
    let mut world = World::start(&me("retry.schedule = [\"50ms\"]")).await;
    world.receiver.status("/me", 503);
    world.poll().await;
    world.upstream.fill(3);
    world.poll().await;
    eventually("they wait", async || status(&world, "me").await.waiting == 3).await;
    let renamed = me("")
        .replace("[endpoint.me]", "[endpoint.you]\nwas = \"me\"")
        .replace("\"me\"]", "\"you\"]")
        .replace("/me\"", "/you\"");
    world.restart(&renamed).await;
    let taken = world.receiver.wait_taken("/you", 3).await;
    assert_eq!(by_key(&taken).len(), 3);
    assert!(world.rig.stored_events().await.iter().all(|e| &*e.deliveries[0].endpoint == "you"));
    // Gone from the file: its queue is shown, until it is forgotten.
    world.receiver.status("/you", 503);
    world.upstream.fill(5);
    world.poll().await;
    eventually("they wait", async || status(&world, "you").await.waiting == 2).await;
    let other = renamed.replace("[endpoint.you]\nwas = \"me\"", "[endpoint.other]").replace("\"you\"]", "\"other\"]");
    world.restart(&other).await;
    let shown = as_json(admin(&world).status().await.expect("status"));
    assert_eq!(
        (&shown["endpoints"]["you"]["state"], &shown["endpoints"]["you"]["waiting"]),
        (&"removed".into(), &2.into())
    );
    assert_eq!(shown["endpoints"]["me"], serde_json::Value::Null, "a name that lent its queue is gone");
    let now = Clock::system().now();
    let waiting = async || world.rig.store.read(|engine| engine.waiting("you")).await.expect("read").len();
    let forget = async |days: i64| {
        // A slice at a time.
        for _ in 0..3 {
            deliver::roster::forget(&world.rig.store, now.plus_ms(days * 86_400_000)).await.expect("swept");
        }
        waiting().await
    };
    assert_eq!((forget(29).await, forget(31).await), (2, 0));
    let shown = as_json(admin(&world).status().await.expect("status"));
    assert_eq!(shown["endpoints"]["you"], serde_json::Value::Null);
}

/// A poll that began before a reload committed its events to a name that was no more.
#[tokio::test]
async fn what_is_committed_under_the_old_name_reaches_the_heir() {
    let renamed = me("")
        .replace("[endpoint.me]", "[endpoint.you]\nwas = \"me\"")
        .replace("\"me\"]", "\"you\"]")
        .replace("/me\"", "/you\"");
    let mut world = World::start(&renamed).await;
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    world.receiver.wait_taken("/you", 1).await;
    let mut event = world.rig.stored_events().await.remove(0).event;
    (event.id, event.sequence) = (bellpull::model::EventId::random(), 2);
    event.deliveries[0].endpoint = "me".into();
    let commit = bellpull::store::Commit { events: vec![event], ..Default::default() };
    let written = world.rig.store.write(Op::Commit(Box::new(commit))).await.expect("written");
    let bellpull::store::Written::Queued(queued) = written else { panic!("{written:?}") };
    world.rig.deliveries.queued(queued).await;
    world.receiver.wait_taken("/you", 2).await;
    assert!(world.rig.store.read(|engine| engine.queues()).await.expect("read").iter().all(|name| &**name == "you"));
}

/// A wall clock that was set between an attempt's end and the look at it moved what had the new time already.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_holds_nothing_up() {
    let stopped = Stopped::start();
    let clock = Clock::starting_at(Timestamp::parse("2026-11-23T12:00:00Z").expect("a time"));
    let mut world = World::at(Arc::new(MemoryEngine::new()), clock.clone(), &me("retry.schedule = [\"5s\"]")).await;
    world.receiver.any_time();
    world.poll().await;
    clock.set(Timestamp::parse("2036-01-01T00:00:00Z").expect("a time"));
    world.upstream.fill(1);
    world.poll().await;
    stopped.until("it arrives", async || !world.receiver.taken("/me").is_empty()).await;
    world.receiver.status("/me", 503);
    clock.set(Timestamp::parse("2046-01-01T00:00:00Z").expect("a time"));
    change(&mut world, 1, 1).await;
    stopped.until("it is down", async || status(&world, "me").await.state.word() == "down").await;
    let next = Timestamp::parse(&status(&world, "me").await.next_attempt.expect("a probe")).expect("a time");
    assert!(clock.now().until(next) <= Duration::from_secs(7), "{next}");
}

#[tokio::test]
async fn a_test_event_goes_out_whatever_the_state() {
    let world = World::start(&me("")).await;
    world.rig.deliveries.enable("me".into(), false).await.expect("disabled");
    let told = admin(&world).test("me").await.expect("sent");
    assert_eq!((told.status, &told.error), (Some(200), &None));
    let received = world.receiver.wait_taken("/me", 1).await;
    assert_eq!((received[0].kind(), Some(received[0].id.as_str())), ("bellpull.test", Some(told.event.as_str())));
    world.receiver.answers("/me", |_| Answer::new(422, "no such hook").into());
    let told = admin(&world).test("me").await.expect("sent");
    assert_eq!(
        (told.status, &*told.answer, told.error.as_deref()),
        (Some(422), "no such hook", Some("the receiver answered 422"))
    );
    assert_eq!(status(&world, "me").await.state.word(), "disabled");
    assert!(admin(&world).test("you").await.is_err());
}

/// A replay that was sent beside the record's next event arrived after it.
#[tokio::test]
async fn a_replay_waits_its_turn_in_its_record() {
    let mut world = World::start(&me("timeout = \"10s\"")).await;
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    change(&mut world, 1, 1).await;
    world.receiver.wait_taken("/me", 2).await;
    settled(&world, "me").await;
    let first = world.receiver.taken("/me")[0].clone();
    // The third is in flight and is not answered soon.
    world.receiver.answers("/me", |_| Answer::new(200, "").after(Duration::from_millis(400)).into());
    change(&mut world, 1, 2).await;
    world.receiver.wait("/me", 3).await;
    let request = Replay { ids: vec![first.id.clone()], ..Replay::default() };
    assert_eq!(admin(&world).replay(request).await.expect("queued").deliveries, 1);
    let all = world.receiver.wait("/me", 4).await;
    assert_eq!(all.iter().map(Received::sequence).collect::<Vec<_>>(), [1, 2, 3, 1]);
    assert!(all[3].request.at - all[2].request.at >= Duration::from_millis(390), "not while another is under way");
    assert_eq!(
        (&all[3].id, all[3].request.header("bellpull-replay"), &all[3].bytes),
        (&first.id, Some("true"), &first.bytes)
    );
}

/// Receivers that take their time in every way there is: another endpoint, and other records, do not notice.
#[tokio::test]
async fn a_slow_receiver_costs_its_own_lane_only() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let many = (0..100_000).fold(b"HTTP/1.1 200 OK\r\n".to_vec(), |mut all, n| {
        all.extend_from_slice(format!("x-{n}: 1\r\n").as_bytes());
        all
    });
    let replies = [
        ("never answers", Reply::Hang, false),
        ("1 B/s", Reply::Trickle { head: head.clone(), every: Duration::from_secs(1) }, false),
        ("endless body", Reply::Endless { head: head.clone(), chunk: vec![b'x'; 65_536], times: usize::MAX }, true),
        ("100,000 headers", Reply::Raw(many), false),
        ("closes mid-answer", Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()), false),
    ];
    for (name, reply, taken) in replies {
        let slow = Receiver::start().await;
        let text = format!(
            "{}\n{}{}",
            list("").replace("to = [\"me\"]", "to = [\"me\", \"slow\"]"),
            endpoint("me", ""),
            endpoint("slow", "timeout = \"1s\"\nretry.schedule = [\"200ms\", \"1h\"]")
                .replace("RECEIVER", &slow.origin())
        );
        let mut world = World::start(&text).await;
        world.poll().await;
        let bad = reply.clone();
        slow.answers(
            "/slow",
            move |received| if received.key() == "1" { bad.clone() } else { Answer::new(200, "").into() },
        );
        let began = Instant::now();
        world.upstream.fill(50);
        world.poll().await;
        world.receiver.wait_taken("/me", 50).await;
        assert!(began.elapsed() < Duration::from_millis(900), "{name}: the other endpoint took {:?}", began.elapsed());
        // Its own other records go too: a probe of another lane shows that it is there.
        slow.wait_taken("/slow", 49).await;
        let waits = usize::from(!taken);
        eventually(&format!("{name}: one waits or none"), async || {
            let status = status(&world, "slow").await;
            status.waiting == waits
        })
        .await;
        let read = |engine: &dyn bellpull::store::Engine| {
            engine.attempts(&mut |attempt| attempt.endpoint == "slow", usize::MAX)
        };
        eventually(&format!("{name}: its attempt ends"), async || {
            let attempts = world.rig.store.read(read).await.expect("read");
            attempts.iter().any(|a| a.status.is_none()) || taken && attempts.len() == 50
        })
        .await;
        let attempts = world.rig.store.read(read).await.expect("read");
        assert!(attempts.iter().all(|a| a.duration_ms < 2_500 && a.answer.len() <= 4096), "{name}");
        assert_eq!(attempts.iter().any(|a| a.status.is_none()), !taken, "{name}");
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// Seven days of an endpoint that does not answer, with changes on each of them.
async fn seven_days(lines: &str) -> (World, Stopped) {
    let stopped = Stopped::start();
    let clock = Clock::starting_at(Timestamp::parse("2026-11-23T12:00:00Z").expect("a time"));
    // A probe every five minutes would be two thousand of them.
    let lines = format!("retry.probe-max = \"24h\"\n{lines}");
    let mut world = World::at(Arc::new(MemoryEngine::new()), clock.clone(), &me(&lines)).await;
    world.receiver.any_time();
    world.poll().await;
    world.receiver.status("/me", 503);
    let end = clock.now().plus(7 * DAY);
    let mut v = 0;
    while clock.now() < end {
        v += 1;
        change(&mut world, 10, v).await;
        let change_next = clock.now().plus(DAY / 2);
        while clock.now() < change_next {
            stopped.until("nothing is in flight", async || status(&world, "me").await.in_flight == 0).await;
            let next = status(&world, "me").await.next_attempt.map(|at| Timestamp::parse(&at).expect("a time"));
            let until = next.map_or(change_next, |next| next.min(change_next));
            let before = world.receiver.at("/me").len();
            stopped.advance(clock.now().until(until) + Duration::from_millis(1)).await;
            if next.is_some_and(|next| next < change_next) {
                stopped.until("a probe", async || world.receiver.at("/me").len() > before).await;
            }
        }
    }
    // The last probe may be under way, and has no next one yet.
    stopped.until("nothing is in flight", async || status(&world, "me").await.in_flight == 0).await;
    (world, stopped)
}

async fn everything_arrives(world: &World, stopped: &Stopped) {
    stopped.until("all arrive", async || status(world, "me").await.waiting == 0).await;
    let taken = world.receiver.taken("/me");
    // Ten records: created, and then changed on thirteen more half days.
    assert_eq!(taken.len(), 140);
    assert_eq!(taken.iter().map(Received::sequence).collect::<BTreeSet<_>>(), (1..=140).collect());
    for (key, sequences) in by_key(&taken) {
        assert!(sequences.is_sorted() && sequences.len() == 14, "record {key}: {sequences:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn down_for_seven_days_and_back_by_itself() {
    let (world, stopped) = seven_days("retry.disable-after = \"8d\"").await;
    let before = status(&world, "me").await;
    assert_eq!((before.state.word(), before.waiting), ("down", 140));
    world.receiver.status("/me", 200);
    let next = Timestamp::parse(&before.next_attempt.expect("a probe")).expect("a time");
    stopped.advance(world.rig.poller.clock.now().until(next) + Duration::from_millis(1)).await;
    everything_arrives(&world, &stopped).await;
    assert_eq!(status(&world, "me").await.state.word(), "ok");
}

#[tokio::test(start_paused = true)]
async fn down_for_seven_days_and_back_by_one_enable() {
    let (world, stopped) = seven_days("").await;
    let before = status(&world, "me").await;
    assert_eq!((before.state.word(), before.waiting), ("disabled", 140));
    assert!(before.disabled.expect("why").contains("nothing was delivered for 5d"));
    world.receiver.status("/me", 200);
    world.rig.deliveries.enable("me".into(), true).await.expect("enabled");
    everything_arrives(&world, &stopped).await;
}

/// A store of an earlier version, or one that was edited by hand, may name endpoints that the file has never had.
#[tokio::test]
async fn an_unknown_endpoint_of_the_store_is_kept_as_a_removed_one() {
    let mut world = World::start(&me("")).await;
    world.rig.store.write(Op::Endpoint("old".into(), EndpointState::default())).await.expect("written");
    world.restart(&me("")).await;
    let states = world.rig.store.read(|engine| engine.endpoints()).await.expect("read");
    assert!(states.iter().any(|(name, state)| &**name == "old" && state.removed.is_some()), "{states:?}");
}
