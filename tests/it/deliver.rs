//! From the outbox to a receiver's 2xx, or to a dead letter. Every request of these tests is verified by
//! `standardwebhooks`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellpull::store::{Attempt, DeliveryState, Op, Requeued, Written};
use tokio::time::Instant;

use crate::support::{
    receiver::{Received, Receiver},
    rig::{World, sled},
    server::{Answer, Reply, eventually},
};

const BRIDGE: &str = r#"
[bridge.orders]
every = "100ms"
items = ".[]"
key = ".id"
to = TO
source.http.url = "UPSTREAM/items"
"#;

/// One bridge that sends to these endpoints, each with some lines.
fn to(endpoints: &[(&str, &str)]) -> String {
    let names: Vec<_> = endpoints.iter().map(|(name, _)| *name).collect();
    let alert = if names.contains(&"other") { "\nalert.to = [\"other\"]" } else { "" };
    let mut text = BRIDGE.replace("TO", &format!("{names:?}{alert}"));
    for (name, lines) in endpoints {
        text += &format!("[endpoint.{name}]\nurl = \"RECEIVER/{name}\"\n{lines}\n");
        if !lines.contains("sign.") {
            text += "sign.standard.secrets = [{ value = \"SECRET\" }]\n";
        }
    }
    text
}

const SOON: &str = "retry.schedule = [\"50ms\", \"50ms\", \"50ms\", \"50ms\", \"50ms\", \"50ms\", \"50ms\", \"50ms\", \"50ms\", \"50ms\"]";

/// A world with an empty snapshot, and `n` records that a poll finds new.
async fn created(text: &str, n: usize) -> World {
    let mut world = World::start(text).await;
    world.poll().await;
    world.upstream.fill(n);
    world.poll().await;
    world
}

async fn status(world: &World, endpoint: &str) -> bellpull::deliver::Status {
    world.rig.deliveries.status().await.remove(endpoint).expect("an endpoint")
}

/// Attempts, the oldest first.
async fn attempts(world: &World, endpoint: &'static str) -> Vec<Attempt> {
    let read = move |engine: &dyn bellpull::store::Engine| {
        engine.attempts(&mut |attempt| attempt.endpoint == endpoint, usize::MAX)
    };
    let mut all = world.rig.store.read(read).await.expect("read");
    all.reverse();
    all
}

async fn states(world: &World) -> Vec<(String, DeliveryState)> {
    let all = world.rig.stored_events().await;
    all.into_iter().flat_map(|e| e.deliveries.into_iter().map(move |d| (e.event.key.clone(), d.state))).collect()
}

async fn empty(world: &World, endpoint: &str) {
    eventually(&format!("nothing waits for {endpoint}"), async || {
        let status = status(world, endpoint).await;
        status.waiting + status.in_flight == 0
    })
    .await;
}

/// convoy#1525: order was asked for since 2022.
#[tokio::test]
async fn a_receiver_that_fails_for_a_while_gets_everything_in_order() {
    let mut world = World::start(&to(&[("me", SOON)])).await;
    world.poll().await;
    world.upstream.fill(6);
    let mut failing = 20;
    world.receiver.answers("/me", move |_| {
        failing -= 1;
        Answer::new(if failing > 0 { 500 } else { 200 }, "not now").into()
    });
    world.poll().await;
    for v in 1..5 {
        (1..=6).for_each(|id: u32| world.upstream.put(&id.to_string(), &format!(r#"{{"id":{id},"v":{v}}}"#)));
        world.poll().await;
    }
    let taken = world.receiver.wait_taken("/me", 30).await;
    assert_eq!(taken.len(), 30);
    // All attempts: per record in order, each event with one id and one body.
    let mut last: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    let mut ids: BTreeMap<u64, (String, Vec<u8>)> = BTreeMap::new();
    for received in world.receiver.at("/me") {
        let now = (received.sequence(), received.attempt());
        let before = last.insert(received.key().to_owned(), now).unwrap_or_default();
        assert!(now > before, "record {}: {now:?} after {before:?}", received.key());
        let known = ids.entry(received.sequence()).or_insert_with(|| (received.id.clone(), received.bytes.clone()));
        assert_eq!((&known.0, &known.1), (&received.id, &received.bytes));
    }
    assert_eq!(ids.len(), 30);
    empty(&world, "me").await;
    assert_eq!(status(&world, "me").await.state.word(), "ok");
    assert_eq!(attempts(&world, "me").await.len(), world.receiver.at("/me").len(), "every attempt is recorded");
}

/// changedetection.io#2104: one failing target stops the others.
#[tokio::test]
async fn one_that_is_down_does_not_delay_another() {
    for reply in [Reply::Hang, Answer::new(503, "").into(), Answer::new(500, "").into(), Reply::Close] {
        // Of another origin: requests to one origin share `network.per-host`.
        let down = Receiver::start().await;
        let text = to(&[("down", ""), ("up", "")]).replace("RECEIVER/down", &format!("{}/down", down.origin()));
        let mut world = World::start(&text).await;
        down.answers("/down", move |_| reply.clone());
        world.poll().await;
        let began = Instant::now();
        for n in 1..6 {
            world.upstream.fill(n * 4);
            world.poll().await;
        }
        assert_eq!(world.receiver.wait_taken("/up", 20).await.len(), 20);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(down.taken("/down").len(), 0);
        assert_eq!(status(&world, "down").await.waiting, 20);
    }
}

#[tokio::test]
async fn what_is_down_is_asked_by_one_probe_at_a_time() {
    let world = created(&to(&[("me", "retry.schedule = [\"100ms\", \"300ms\"]")]), 0).await;
    world.receiver.status("/me", 503);
    let mut world = world;
    world.upstream.fill(40);
    world.poll().await;
    eventually("it is down, and what was under way is over", async || {
        let status = status(&world, "me").await;
        (status.state.word(), status.in_flight) == ("down", 0)
    })
    .await;
    let first = world.receiver.at("/me").len();
    assert!(first <= 8, "{first} at once");
    let probes = world.receiver.wait("/me", first + 4).await.split_off(first);
    let lanes: BTreeSet<_> = probes.iter().map(|r| r.key().to_owned()).collect();
    assert_eq!(lanes.len(), probes.len(), "probes rotate over the records");
    for pair in probes.windows(2).skip(1) {
        assert!(pair[1].request.at - pair[0].request.at >= Duration::from_millis(295), "jitter only adds");
    }
    world.receiver.status("/me", 200);
    assert_eq!(world.receiver.wait_taken("/me", 40).await.len(), 40);
    empty(&world, "me").await;
}

/// outpost#611: events for disabled endpoints vanish.
#[tokio::test]
async fn gone_disables_and_keeps_until_it_is_enabled() {
    for (status_code, header) in [(410, None), (200, Some("disable"))] {
        let mut world = World::start(&to(&[("me", SOON), ("other", "")])).await;
        world.receiver.answers("/me", move |_| {
            let answer = Answer::new(status_code, "");
            header.iter().fold(answer, |answer, value| answer.header("webhook-delivery", *value)).into()
        });
        world.poll().await;
        world.upstream.fill(1);
        world.poll().await;
        eventually("it is disabled", async || status(&world, "me").await.state.word() == "disabled").await;
        assert_eq!(world.receiver.at("/me").len(), 1);
        // It stays so, whatever comes, and over a restart.
        world.upstream.fill(5);
        world.poll().await;
        world.receiver.wait_taken("/other", 6).await;
        let alert = world.receiver.taken("/other").into_iter().find(|r| r.kind() == "bellpull.endpoint.disabled");
        assert_eq!(alert.expect("said once, to the others").body["data"]["endpoint"], "me");
        let text = to(&[("me", SOON), ("other", "")]);
        world.restart(&text).await;
        let now = status(&world, "me").await;
        // A 2xx took its event, whatever else it says.
        let waiting = if header.is_some() { 4 } else { 5 };
        assert_eq!((now.state.word(), now.waiting), ("disabled", waiting));
        assert!(now.disabled.expect("why").starts_with("the receiver asked for it"));
        assert_eq!(world.receiver.at("/me").len(), 1, "nothing was sent");
        world.receiver.status("/me", 200);
        world.rig.deliveries.enable("me".into(), true).await.expect("enabled");
        assert_eq!(world.receiver.wait_taken("/me", 5).await.len(), 5);
        empty(&world, "me").await;
        assert_eq!(status(&world, "me").await.state.word(), "ok");
    }
}

#[tokio::test]
async fn disabling_by_hand_keeps_too() {
    let mut world = created(&to(&[("me", "")]), 1).await;
    world.receiver.wait_taken("/me", 1).await;
    world.rig.deliveries.enable("me".into(), false).await.expect("disabled");
    world.upstream.fill(3);
    world.poll().await;
    eventually("they wait", async || status(&world, "me").await.waiting == 2).await;
    assert_eq!(status(&world, "me").await.disabled.as_deref(), Some("by hand"));
    world.rig.deliveries.enable("me".into(), true).await.expect("enabled");
    world.receiver.wait_taken("/me", 3).await;
    assert!(world.rig.deliveries.enable("nobody".into(), true).await.is_err());
}

/// outpost#596: auto-disable did not fire.
#[tokio::test]
async fn long_failure_disables() {
    let lines = "retry.schedule = [\"100ms\"]\nretry.disable-after = \"400ms\"";
    let mut world = World::start(&to(&[("me", lines), ("other", "")])).await;
    world.poll().await;
    world.receiver.status("/me", 503);
    world.upstream.fill(3);
    world.poll().await;
    eventually("it is disabled", async || status(&world, "me").await.state.word() == "disabled").await;
    let why = status(&world, "me").await;
    assert_eq!((why.disabled.as_deref(), why.waiting), (Some("nothing was delivered for 400ms"), 3));
    world.receiver.wait_taken("/other", 4).await;
    assert!(world.rig.alerts().await.contains(&"bellpull.endpoint.disabled".to_owned()));
}

#[tokio::test]
async fn a_refused_event_dies_after_its_schedule_and_can_be_sent_again_under_its_id() {
    let lines = "retry.schedule = [\"50ms\", \"100ms\", \"50ms\"]";
    let mut world = World::start(&to(&[("me", lines)])).await;
    world.poll().await;
    world.receiver.answers("/me", |received: &Received| {
        Answer::new(
            if received.key() == "2" && received.body["data"].get("before").is_none() { 422 } else { 200 },
            "no such field",
        )
        .into()
    });
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.put("2", r#"{"id":2,"v":1}"#);
    world.poll().await;
    // The record's next event goes out when the first is dead.
    let taken = world.receiver.wait_taken("/me", 3).await;
    empty(&world, "me").await;
    assert_eq!(taken.last().expect("three").key(), "2");
    let tries: Vec<_> = world.receiver.at("/me").into_iter().filter(|r| r.status == Some(422)).collect();
    assert_eq!(tries.len(), 4, "once, and each step of the schedule");
    for (pair, wait) in tries.windows(2).zip([50, 100, 50]) {
        assert!(pair[1].request.at - pair[0].request.at >= Duration::from_millis(wait) - Duration::from_millis(2));
    }
    let stored = world.rig.stored_events().await;
    let dead: Vec<_> = stored.iter().filter(|e| e.deliveries[0].state == DeliveryState::Dead).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(world.rig.store.read(|engine| engine.dead("me")).await, Ok(1));
    assert_eq!(dead[0].event.id.to_string(), tries[0].id);
    let last = attempts(&world, "me").await.into_iter().rfind(|a| a.event == tries[0].id).expect("recorded");
    assert_eq!((last.number, last.status, last.answer.as_str()), (4, Some(422), "no such field"));
    assert_eq!(last.error.as_deref(), Some("the receiver answered 422"));
    // Again, by hand.
    world.receiver.status("/me", 200);
    let requeued = Requeued { position: dead[0].position, content: None };
    let written = world.rig.store.write(Op::Requeue("me".into(), vec![requeued])).await;
    let Ok(Written::Queued(queued)) = written else { panic!("{written:?}") };
    world.rig.deliveries.queued(queued).await;
    let replayed = world.receiver.wait_taken("/me", 4).await.pop().expect("four");
    assert_eq!((&replayed.id, &replayed.bytes), (&tries[0].id, &tries[0].bytes));
    assert_eq!(replayed.request.header("bellpull-replay"), Some("true"));
    empty(&world, "me").await;
    assert_eq!(world.rig.store.read(|engine| engine.dead("me")).await, Ok(0));
}

/// A poison event cannot hold an endpoint down: not with a 503 of its own, and not without an answer.
#[tokio::test]
async fn a_poison_event_delays_only_its_record() {
    for reply in [Reply::from(Answer::new(503, "")), Reply::Close] {
        let mut world = World::start(&to(&[("me", "retry.schedule = [\"50ms\"]")])).await;
        world.poll().await;
        world.receiver.answers(
            "/me",
            move |received: &Received| {
                if received.key() == "7" { reply.clone() } else { Answer::new(200, "").into() }
            },
        );
        world.upstream.fill(20);
        world.poll().await;
        assert_eq!(world.receiver.wait_taken("/me", 19).await.len(), 19);
        // It never dies of it.
        eventually("it alone waits", async || status(&world, "me").await.waiting == 1).await;
        assert!(states(&world).await.iter().all(|(_, state)| *state != DeliveryState::Dead));
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_its_own_lane() {
    let mut world = World::start(&to(&[("me", "timeout = \"10s\"")])).await;
    world.poll().await;
    world.receiver.answers(
        "/me",
        |received: &Received| {
            if received.key() == "1" { Reply::Hang } else { Answer::new(200, "").into() }
        },
    );
    world.upstream.fill(20);
    world.poll().await;
    let began = Instant::now();
    world.receiver.wait_taken("/me", 19).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    eventually("it alone waits", async || {
        let status = status(&world, "me").await;
        (status.state.word(), status.waiting, status.in_flight) == ("ok", 1, 1)
    })
    .await;
}

#[tokio::test]
async fn no_answer_in_time_is_tried_again() {
    let mut world = World::start(&to(&[("me", "timeout = \"500ms\"\nretry.schedule = [\"50ms\"]")])).await;
    world.poll().await;
    let mut first = true;
    let part = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec();
    world.receiver.answers("/me", move |_| {
        if std::mem::take(&mut first) { Reply::Part(part.clone()) } else { Answer::new(204, "").into() }
    });
    world.upstream.fill(1);
    world.poll().await;
    let taken = world.receiver.wait_taken("/me", 1).await;
    empty(&world, "me").await;
    let all = world.receiver.at("/me");
    assert_eq!((all.len(), all[0].id == taken[0].id), (2, true), "svix's deadline ended with the headers");
    let recorded = attempts(&world, "me").await;
    assert!(recorded[0].error.as_ref().unwrap().contains("did not answer within 500ms"), "{:?}", recorded[0]);
    assert_eq!((recorded[0].status, recorded[1].status), (None, Some(204)));
}

#[tokio::test]
async fn ids_are_stable_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let text = to(&[("me", "retry.schedule = [\"50ms\"]")]);
    let mut world = World::on(sled(dir.path()), &text).await;
    world.receiver.status("/me", 503);
    world.poll().await;
    world.upstream.fill(3);
    world.poll().await;
    world.receiver.wait("/me", 4).await;
    let ids: BTreeMap<u64, String> =
        world.rig.stored_events().await.iter().map(|e| (e.event.sequence, e.event.id.to_string())).collect();
    for _ in 0..3 {
        let before = world.receiver.at("/me").len();
        world.restart(&text).await;
        world.receiver.wait("/me", before + 1).await;
    }
    world.receiver.status("/me", 200);
    world.receiver.wait_taken("/me", 3).await;
    for received in world.receiver.at("/me") {
        assert_eq!(ids[&received.sequence()], received.id);
    }
    // And numbers go on where they were.
    world.restart(&text).await;
    world.upstream.fill(4);
    world.poll().await;
    assert_eq!(world.receiver.wait_taken("/me", 4).await[3].sequence(), 4);
}

#[tokio::test]
async fn secrets_rotate() {
    const NEW: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    let both = to(&[("me", &format!("sign.standard.secrets = [{{ value = \"{NEW}\" }}, {{ value = \"SECRET\" }}]"))]);
    let mut world = created(&both, 1).await;
    // The receiver still has the old one.
    let received = world.receiver.wait_taken("/me", 1).await.remove(0);
    let signature = received.request.header("webhook-signature").unwrap();
    let parts: Vec<_> = signature.split(' ').collect();
    assert_eq!(parts.len(), 2);
    assert!(parts.iter().all(|part| part.starts_with("v1,") && part.matches(',').count() == 1), "{signature}");
    // Now it has the new one, and then the sender forgets the old one.
    world.receiver.secrets(&[NEW]);
    world.restart(&both).await;
    world.upstream.fill(2);
    world.poll().await;
    world.receiver.wait_taken("/me", 2).await;
    let new = to(&[("me", &format!("sign.standard.secrets = [{{ value = \"{NEW}\" }}]"))]);
    world.restart(&new).await;
    world.upstream.fill(3);
    world.poll().await;
    let last = world.receiver.wait_taken("/me", 3).await.pop().unwrap();
    assert_eq!(last.request.header("webhook-signature").unwrap().matches("v1,").count(), 1);
}

/// A request that took a while to be sent again is signed for that moment.
#[tokio::test]
async fn each_attempt_is_signed_anew() {
    let mut world = World::start(&to(&[("me", "retry.schedule = [\"1100ms\"]")])).await;
    world.poll().await;
    let mut first = true;
    world.receiver.answers("/me", move |_| Answer::new(if std::mem::take(&mut first) { 500 } else { 200 }, "").into());
    world.upstream.fill(1);
    world.poll().await;
    world.receiver.wait_taken("/me", 1).await;
    let all = world.receiver.at("/me");
    let header = |n: usize, name: &str| all[n].request.header(name).unwrap().to_owned();
    assert_eq!(header(0, "webhook-id"), header(1, "webhook-id"));
    assert_ne!(header(0, "webhook-timestamp"), header(1, "webhook-timestamp"));
    assert_ne!(header(0, "webhook-signature"), header(1, "webhook-signature"));
    assert_eq!((all[0].attempt(), all[1].attempt()), (1, 2));
}

/// svix#2200: Retry-After was ignored until 2026, then clamped.
#[tokio::test]
async fn retry_after_is_obeyed_in_full() {
    for code in [429, 503, 500] {
        let mut world = World::start(&to(&[("me", "retry.schedule = [\"50ms\", \"50ms\"]")])).await;
        world.poll().await;
        let mut first = true;
        world.receiver.answers("/me", move |_| {
            if std::mem::take(&mut first) {
                Answer::new(code, "").header("retry-after", "1.2").into()
            } else {
                Answer::new(200, "").into()
            }
        });
        world.upstream.fill(1);
        world.poll().await;
        world.receiver.wait_taken("/me", 1).await;
        let all = world.receiver.at("/me");
        assert_eq!(all.len(), 2);
        assert!(all[1].request.at - all[0].request.at >= Duration::from_millis(1190), "{code}");
    }
}

/// GitHub's limits answer 403, and its page says that who goes on may be banned: every waiting event was sent all the same. Telegram
/// names the wait in the body.
#[tokio::test]
async fn a_receiver_that_asks_for_a_wait_is_left_alone() {
    let used_up = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "1.2")];
    /// A status, headers, and a body.
    type Said<'a> = (u16, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Said<'_>; 6] = [
        (403, &[("retry-after", "1")], ""),
        (403, &used_up, ""),
        (429, &[("ratelimit", "\"d\";r=0;t=1")], ""),
        (200, &used_up, ""),
        (422, &used_up, ""),
        (429, &[], r#"{"ok":false,"parameters":{"retry_after":1}}"#),
    ];
    for (code, headers, body) in cases {
        let lines = "in-flight = 1\nretry.schedule = [\"50ms\"]\nretry.wait = \".body.parameters?.retry_after?\"";
        let mut world = World::start(&to(&[("me", lines)])).await;
        world.poll().await;
        let mut first = true;
        let answer = headers.iter().fold(Answer::new(code, body), |answer, (name, value)| answer.header(name, *value));
        world.receiver.answers("/me", move |_| {
            if std::mem::take(&mut first) { answer.clone().into() } else { Answer::new(200, "").into() }
        });
        world.upstream.fill(4);
        world.poll().await;
        let taken = world.receiver.wait_taken("/me", 4).await.len();
        let all = world.receiver.at("/me");
        assert_eq!((taken, all.len()), (4, if code == 200 { 4 } else { 5 }), "{code}: {headers:?}");
        let waited = all[1].request.at - all[0].request.at;
        assert!(waited >= Duration::from_millis(990), "{code}: {headers:?}: {waited:?}");
    }
}

/// `{"ok":false}` and its kind in a 200 were deliveries, without a line in the log.
#[tokio::test]
async fn a_refusal_inside_a_200_is_one() {
    let cases = [
        (r#"{"ok":false,"error":"no_channel"}"#, Some("the receiver answered 200, and `fail` says: no_channel")),
        (r#"{"ok":false}"#, Some("the receiver answered 200, and `fail` says that it refused")),
        (r#"{"ok":true}"#, None),
        ("error: no", Some("the receiver answered 200, and `fail` says: error: no")),
        ("fine", None),
    ];
    let fail = r#"fail = 'if .body | type == "string" then .body | select(startswith("error")) else select(.body.ok == false) | .body.error // true end'"#;
    for (body, error) in cases {
        let mut world = World::start(&to(&[("me", &format!("retry.schedule = [\"50ms\"]\n{fail}"))])).await;
        world.poll().await;
        world.receiver.answers("/me", move |_| Answer::new(200, body).into());
        world.upstream.fill(1);
        world.poll().await;
        empty(&world, "me").await;
        let state = if error.is_some() { DeliveryState::Dead } else { DeliveryState::Delivered };
        assert_eq!(states(&world).await, [("1".into(), state)], "{body}");
        assert_eq!(attempts(&world, "me").await[0].error.as_deref(), error, "{body}");
    }
}

/// A receiver that has an event already says 409, and a proxy before one that restarts 404.
#[tokio::test]
async fn statuses_mean_what_the_file_says() {
    for (code, list, end) in [
        (409, "taken", DeliveryState::Delivered),
        (410, "refused", DeliveryState::Dead),
        (503, "refused", DeliveryState::Dead),
        (202, "refused", DeliveryState::Dead),
        (404, "down", DeliveryState::Waiting),
    ] {
        let lines = format!("retry = {{ schedule = [\"50ms\"], {list} = [{code}] }}");
        let mut world = World::start(&to(&[("me", &lines)])).await;
        world.poll().await;
        world.receiver.status("/me", code);
        world.upstream.fill(1);
        world.poll().await;
        world.receiver.wait("/me", if list == "taken" { 1 } else { 2 }).await;
        if end == DeliveryState::Waiting {
            world.receiver.wait("/me", 4).await;
            assert_eq!(status(&world, "me").await.state.word(), "down");
        } else {
            empty(&world, "me").await;
        }
        assert_eq!(states(&world).await, [("1".into(), end)], "{code}");
    }
}

/// A wrong token made fifteen dead letters in twelve seconds: nobody was told, and `status` said `ok`.
#[tokio::test]
async fn a_receiver_that_refuses_everything_is_told_of_once() {
    let mut world = World::start(&to(&[("me", "retry.schedule = [\"50ms\", \"50ms\"]"), ("other", "")])).await;
    let told = |world: &World, what: &str| {
        let kind = format!("bellpull.endpoint.{what}");
        world.receiver.taken("/other").into_iter().filter(|received| received.kind() == kind).collect::<Vec<_>>()
    };
    world.poll().await;
    world.receiver.status("/me", 401);
    world.upstream.fill(3);
    world.poll().await;
    empty(&world, "me").await;
    assert_eq!(status(&world, "me").await.state.word(), "refusing");
    world.upstream.fill(5);
    world.poll().await;
    empty(&world, "me").await;
    eventually("it is told", async || !told(&world, "refusing").is_empty()).await;
    let data = told(&world, "refusing")[0].body["data"].clone();
    assert_eq!((&data["endpoint"], &data["reason"]), (&"me".into(), &"the receiver answered 401".into()));
    world.receiver.status("/me", 200);
    world.upstream.fill(6);
    world.poll().await;
    eventually("its end is told", async || !told(&world, "recovered").is_empty()).await;
    assert_eq!(status(&world, "me").await.state.word(), "ok");
    world.receiver.wait_taken("/other", 8).await;
    assert_eq!((told(&world, "refusing").len(), told(&world, "recovered").len()), (1, 1));
}

#[tokio::test]
async fn redirects_are_not_followed_and_a_304_is_no_success() {
    for code in [301, 302, 307, 308, 304] {
        let mut world = World::start(&to(&[("me", "retry.schedule = [\"50ms\"]")])).await;
        world.poll().await;
        let target = format!("{}/elsewhere?token=of-the-receiver", world.receiver.origin());
        world.receiver.answers("/me", move |_| Answer::new(code, "").header("location", target.clone()).into());
        world.upstream.fill(1);
        world.poll().await;
        empty(&world, "me").await;
        assert_eq!(states(&world).await, [("1".into(), DeliveryState::Dead)], "{code}");
        assert!(world.receiver.at("/elsewhere").is_empty());
        let attempts = world.rig.store.read(|engine| engine.attempts(&mut |_| true, 10)).await.expect("read");
        let error = attempts[0].error.clone().unwrap_or_default();
        let points = format!("and points to {}/elsewhere: put that into `url`", world.receiver.origin());
        assert_eq!(error.ends_with(&points), code != 304, "{error}");
    }
}

#[tokio::test]
async fn an_error_in_payload_or_when_is_a_dead_letter_at_once() {
    for lines in [
        "payload = \".data.after.name | ascii_downcase\"",
        "when = \".data.after.name | ascii_downcase | length > 1\"",
        "payload = \"empty\"",
    ] {
        let mut world = World::start(&to(&[("me", lines)])).await;
        world.poll().await;
        world.upstream.set(&[("1", r#"{"id":1,"name":5}"#), ("2", r#"{"id":2,"name":"Two"}"#)]);
        world.poll().await;
        if !lines.contains("empty") {
            world.receiver.wait_taken("/me", 1).await;
        }
        empty(&world, "me").await;
        let dead: Vec<_> =
            states(&world).await.into_iter().filter(|(_, state)| *state == DeliveryState::Dead).collect();
        assert_eq!(dead[0], ("1".into(), DeliveryState::Dead), "{lines}");
        let event = world.rig.stored_events().await.remove(0);
        let bellpull::model::Content::Dead(error) = &event.event.deliveries[0].content else { panic!("{event:?}") };
        assert!(error.starts_with(if lines.starts_with("when") { "`when`" } else { "`payload`" }), "{error}");
        assert_eq!(world.receiver.at("/me").iter().filter(|r| r.body["data"]["key"] == "1").count(), 0);
    }
}

/// outpost#974, #663: a huge answer makes an event retry for ever.
#[tokio::test]
async fn a_huge_answer_is_cut() {
    let mut world = World::start(&to(&[("me", "")])).await;
    world.poll().await;
    for code in [200, 422] {
        world.receiver.answers("/me", move |received: &Received| {
            if received.key() == "9" {
                return Answer::new(200, "").into();
            }
            let head = format!("HTTP/1.1 {code} x\r\ncontent-length: 104857600\r\n\r\n").into_bytes();
            Reply::Endless { head, chunk: vec![b'a'; 1 << 16], times: 1600 }
        });
        let began = Instant::now();
        world.upstream.put(&code.to_string(), &format!("{{\"id\":{code}}}"));
        world.poll().await;
        eventually("the attempt is recorded", async || {
            attempts(&world, "me").await.last().is_some_and(|a| a.status == Some(code))
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(4));
        let last = attempts(&world, "me").await.pop().unwrap();
        assert_eq!((last.answer.len(), last.error.is_some()), (4096, code == 422));
    }
    assert_eq!(states(&world).await[0], ("200".into(), DeliveryState::Delivered));
    // Gzip that grows is cut after decompression.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![b'b'; 64 << 20]).unwrap();
    let bomb = Arc::new(bomb.finish().unwrap());
    world.receiver.answers("/me", move |_| Answer::new(200, bomb.to_vec()).header("content-encoding", "gzip").into());
    world.upstream.put("5", r#"{"id":5}"#);
    world.poll().await;
    eventually("the attempt is recorded", async || {
        attempts(&world, "me").await.last().is_some_and(|a| a.answer.starts_with('b'))
    })
    .await;
    assert_eq!(attempts(&world, "me").await.pop().unwrap().error, None);
}

/// A receiver that closed an idle connection just then was down for five seconds, and was said to be.
#[tokio::test]
async fn a_connection_that_ends_before_an_answer_is_no_outage() {
    let mut world = World::start(&to(&[("me", "in-flight = 1")])).await;
    world.poll().await;
    let mut requests = 0;
    world.receiver.answers("/me", move |_| {
        requests += 1;
        // Every other request is the first one on its connection.
        if requests % 2 == 0 { Reply::Close } else { Answer::new(200, "").into() }
    });
    let began = Instant::now();
    for n in 1..=3 {
        world.upstream.fill(n);
        world.poll().await;
        world.receiver.wait_taken("/me", n).await;
        empty(&world, "me").await;
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let told = attempts(&world, "me").await;
    assert_eq!((told.len(), told.iter().find_map(|attempt| attempt.error.clone())), (3, None));
    let sent = world.receiver.at("/me");
    assert_eq!(sent.len(), 5, "the second and the third event were sent twice");
    assert_eq!((&sent[1].id, sent[1].attempt()), (&sent[2].id, sent[2].attempt()));
}

/// A receiver that was back was asked when the schedule said so, hours later.
#[tokio::test]
async fn a_new_event_and_a_start_find_a_receiver_that_is_back() {
    let text = to(&[("me", "retry.schedule = [\"1h\"]\nretry.probe-max = \"30m\"")]);
    let mut world = World::start(&text).await;
    world.receiver.status("/me", 503);
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    eventually("it is down", async || status(&world, "me").await.state.word() == "down").await;
    world.receiver.status("/me", 200);
    world.upstream.fill(2);
    world.poll().await;
    assert_eq!(world.receiver.wait_taken("/me", 2).await[0].key(), "2", "the new event is the probe");
    empty(&world, "me").await;
    world.receiver.status("/me", 503);
    world.upstream.fill(3);
    world.poll().await;
    eventually("it is down", async || status(&world, "me").await.state.word() == "down").await;
    world.receiver.status("/me", 200);
    world.restart(&text).await;
    world.receiver.wait_taken("/me", 3).await;
}

/// outpost#314: DNS errors were not retried.
#[tokio::test]
async fn no_connection_is_no_refusal() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in ["http://does-not-exist.invalid/hook".to_owned(), format!("http://{closed}/hook")] {
        let text = to(&[("me", "retry.schedule = [\"50ms\"]")]).replace("RECEIVER/me", &url);
        let mut world = World::start(&text).await;
        world.poll().await;
        world.upstream.fill(2);
        world.poll().await;
        eventually("several attempts", async || attempts(&world, "me").await.len() >= 4).await;
        let now = status(&world, "me").await;
        assert_eq!((now.state.word(), now.waiting), ("down", 2), "{url}: no event dies of it");
        assert!(now.last_error.unwrap().contains("failed to connect to"), "{url}");
    }
}

#[tokio::test]
async fn own_headers_and_method_and_query() {
    let lines = "method = \"PUT\"\nheaders = { x-from = \"bellpull\", content-type = \"application/webhook+json\" }\nquery = { token = { value = \"a&b\" } }";
    let world = created(&to(&[("me", lines)]), 1).await;
    let received = world.receiver.wait_taken("/me", 1).await.remove(0);
    let request = &received.request;
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/me?token=a%26b"));
    assert_eq!(
        (request.header("x-from"), request.header("content-type")),
        (Some("bellpull"), Some("application/webhook+json"))
    );
    assert_eq!(request.header("user-agent"), Some("bellpull/0.1"));
}

/// An endpoint gets only what was committed after it was added.
#[tokio::test]
async fn a_new_endpoint_gets_what_comes_and_a_removed_one_finds_its_queue_again() {
    let mut world = World::start(&to(&[("me", "retry.schedule = [\"50ms\"]")])).await;
    world.receiver.status("/me", 503);
    world.poll().await;
    world.upstream.fill(2);
    world.poll().await;
    world.restart(&to(&[("other", "")])).await;
    world.upstream.fill(3);
    world.poll().await;
    let other = world.receiver.wait_taken("/other", 1).await;
    assert_eq!((other.len(), other[0].key()), (1, "3"));
    world.receiver.status("/me", 200);
    world.restart(&to(&[("me", ""), ("other", "")])).await;
    let me = world.receiver.wait_taken("/me", 2).await;
    assert_eq!(me.iter().map(Received::key).collect::<BTreeSet<_>>(), BTreeSet::from(["1", "2"]));
}

#[tokio::test]
async fn an_endpoint_that_is_not_enabled_keeps_what_comes() {
    let mut world = created(&to(&[("me", "enabled = false")]), 2).await;
    eventually("they wait", async || status(&world, "me").await.waiting == 2).await;
    assert_eq!(status(&world, "me").await.state.word(), "disabled");
    world.restart(&to(&[("me", "")])).await;
    world.receiver.wait_taken("/me", 2).await;
}

#[tokio::test]
async fn every_record_of_a_snapshot_is_sent_again_on_demand() {
    let mut world = World::start(&to(&[("me", ""), ("other", "")])).await;
    world.upstream.fill(450);
    world.poll().await;
    let poller = world.rig.poller.clone();
    assert_eq!(poller.resend(world.rig.polled(), &"me".into()).await, Ok(450));
    let sent = world.receiver.wait_taken("/me", 450).await;
    let sequences: BTreeSet<u64> = sent.iter().map(Received::sequence).collect();
    assert_eq!(sequences, (1..=450).collect());
    assert!(sent.iter().all(|r| r.kind() == "orders.present" && r.body["data"]["after"]["v"] == 0));
    assert!(world.receiver.at("/other").is_empty());
    // Polling goes on from there, and what was known still is.
    assert_eq!(world.poll().await, bellpull::poller::Polling::Unchanged);
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    world.poll().await;
    assert_eq!(world.receiver.wait_taken("/other", 1).await[0].sequence(), 451);
}
