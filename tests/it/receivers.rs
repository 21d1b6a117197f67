//! What receivers need of a request, and what their answers say of the rest: origins of a URL that jq makes, dead
//! letters that are told, methods, secrets in bodies, and finding what was sent.

use std::time::Duration;

use bellpull::store::DeliveryState;
use tokio::time::Instant;

use crate::support::{
    receiver::{Receiver, SECRET},
    recorder::Recorder,
    rig::{World, list},
    server::{Request, eventually},
};

const BRIDGE: &str = r#"
[bridge.orders]
every = "100ms"
items = ".[]"
key = ".id"
to = ["me"]
alert.to = ["ops", "pager"]
source.http.url = "UPSTREAM/items"

[endpoint.ops]
url = "RECEIVER/ops"
retry.schedule = ["50ms"]
sign.standard.secrets = [{ value = "SECRET" }]

[endpoint.pager]
url = "RECEIVER/pager"
sign.standard.secrets = [{ value = "SECRET" }]

[endpoint.me]
sign.standard.secrets = [{ value = "SECRET" }]
"#;

/// A world with an empty snapshot, an endpoint `me` with these lines, and `ops` for alarms.
async fn world(lines: &str) -> World {
    let lines = if lines.contains("url") { lines.to_owned() } else { format!("url = \"RECEIVER/me\"\n{lines}") };
    let mut world = World::start(&(BRIDGE.to_owned() + &lines)).await;
    world.poll().await;
    world
}

async fn status(world: &World, endpoint: &str) -> bellpull::deliver::Status {
    world.rig.deliveries.status().await.remove(endpoint).expect("an endpoint")
}

async fn states(world: &World) -> Vec<(String, DeliveryState)> {
    let all = world.rig.stored_events().await;
    let of_bridges = all.into_iter().filter(|event| !event.event.bridge.is_empty());
    of_bridges.flat_map(|e| e.deliveries.into_iter().map(move |d| (e.event.key.clone(), d.state))).collect()
}

/// jq made the URL of each record: one tenant's 410 disabled the endpoint, and one tenant's 503 or dead name stopped
/// all others.
#[tokio::test]
async fn a_verdict_stays_with_its_address() {
    let (down, gone) = (Receiver::start().await, Receiver::start().await);
    down.status("/items/2", 503);
    gone.status("/items/3", 410);
    let url = format!(
        "url = {{ jq = '(if .data.key == \"2\" then \"{}\" elif .data.key == \"3\" then \"{}\" else \"RECEIVER\" end) + \
         \"/items/\\(.data.key)\"' }}\nretry.schedule = [\"500ms\"]\nin-flight = 1",
        down.origin(),
        gone.origin()
    );
    let mut world = world(&url).await;
    world.upstream.fill(6);
    let began = Instant::now();
    world.poll().await;
    for key in ["1", "4", "5", "6"] {
        world.receiver.wait_taken(&format!("/items/{key}"), 1).await;
    }
    assert!(began.elapsed() < Duration::from_millis(2_000), "{:?}", began.elapsed());
    eventually("one is dead", async || states(&world).await.contains(&("3".into(), DeliveryState::Dead))).await;
    eventually("the others are settled", async || status(&world, "me").await.waiting == 1).await;
    let stands = status(&world, "me").await;
    assert_eq!((stands.state.word(), stands.disabled), ("failing", None));
    let origins: Vec<(&str, bool)> = stands.origins.iter().map(|(origin, s)| (origin.as_str(), s.down)).collect();
    assert_eq!(origins, [(down.origin().as_str(), true)]);
    assert_eq!(gone.at("/items/3").len(), 1, "it was refused at once");
    // Further changes are sent, and the one that is down gets all when it is back.
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    world.upstream.put("2", r#"{"id":2,"v":1}"#);
    world.poll().await;
    world.receiver.wait_taken("/items/1", 2).await;
    down.status("/items/2", 200);
    assert_eq!(down.wait_taken("/items/2", 2).await.len(), 2);
    eventually("nothing is down", async || status(&world, "me").await == bellpull::deliver::Status::default()).await;
}

/// An Idempotency-Key could be made of the event's id at the attempt only: `payload` and `when` did not see it.
#[tokio::test]
async fn jq_sees_the_id_that_webhook_id_has() {
    let mut world = world(
        "when = '.id | startswith(\"evt_\")'\npayload = '{ id, key: .data.key, type }'\noperational.payload = '{ id, type }'\n\
         headers = { x-id = { jq = \".id\" } }\nquery = { id = { jq = \".id\" } }",
    )
    .await;
    world.upstream.fill(3);
    world.poll().await;
    let is_right = |received: &crate::support::receiver::Received| {
        assert_eq!(received.body["id"], received.id, "{:?}", received.body);
        assert_eq!(received.request.header("x-id"), Some(received.id.as_str()));
        assert_eq!(received.request.query["id"], received.id);
    };
    let taken = world.receiver.wait_taken("/me", 3).await;
    taken.iter().for_each(is_right);
    world.rig.deliveries.test("me".into()).await.expect("an endpoint");
    let taken = world.receiver.wait_taken("/me", 4).await;
    taken.iter().for_each(is_right);
}

/// In a batch each event has its own, in its payload and in what `batch.payload` sees.
#[tokio::test]
async fn in_a_batch_each_event_has_its_own_id() {
    let lines = "payload = '{ own: .id, key: .data.key }'\nbatch = { max = 10, wait = \"100ms\" }";
    let mut world = world(lines).await;
    world.upstream.fill(4);
    world.poll().await;
    let taken = world.receiver.wait_taken("/me", 1).await;
    let sent = taken[0].body.as_array().expect("a batch").clone();
    assert_eq!(sent.len(), 4);
    let stored = world.rig.stored_events().await;
    for one in sent {
        let event = stored.iter().find(|stored| one["key"] == stored.event.key.as_str()).expect("it is stored");
        assert_eq!(one["own"], event.event.id.to_string(), "{one}");
    }
}

/// Nobody was told that retries were used up.
#[tokio::test]
async fn dead_letters_are_told_and_alarms_about_alarms_are_not() {
    let mut world =
        world("retry.schedule = [\"50ms\"]\npayload = 'if .data.key == \"1\" then error(\"no\") else . end'").await;
    world.receiver.status("/me", 422);
    world.receiver.status("/ops", 422);
    world.upstream.fill(3);
    world.poll().await;
    let told = world.receiver.wait("/ops", 1).await;
    assert!(told.iter().all(|received| received.kind().starts_with("bellpull.")));
    eventually("all are dead", async || {
        let all = states(&world).await;
        all.len() == 3 && all.iter().all(|(_, state)| *state == DeliveryState::Dead)
    })
    .await;
    world.receiver.status("/ops", 200);
    // The rest is told at the stop, and once.
    world.rig.stop().await;
    let kinds = world.rig.alerts().await;
    let dead = kinds.iter().filter(|kind| *kind == "bellpull.event.dead").count();
    assert_eq!(dead, 2, "{kinds:?}");
    let told: Vec<_> =
        world.rig.stored_events().await.into_iter().filter(|e| e.event.kind == "bellpull.event.dead").collect();
    let count =
        |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).expect("JSON")["data"]["count"].as_u64();
    assert_eq!(told.iter().filter_map(|event| count(&event.event.body)).sum::<u64>(), 3, "each once");
    let about = |event: &bellpull::store::StoredEvent| {
        String::from_utf8_lossy(&event.event.body).contains("\"endpoint\":\"me\"")
    };
    assert!(told.iter().all(about), "and none is about the alarms that died at `ops`");
}

/// The requests that a record brings that comes, changes and goes, to an endpoint with these lines.
async fn sent(lines: &str) -> Vec<Request> {
    let recorder = Recorder::start().await;
    let endpoint = format!("[endpoint.me]\nurl = \"{}/hook\"\n{lines}\n", recorder.origin());
    let mut world = World::start(&format!("{}\n{endpoint}", list("deletes.after = 1"))).await;
    world.poll().await;
    world.upstream.set(&[("1", r#"{"id":1,"v":0}"#), ("2", r#"{"id":2,"v":0}"#)]);
    world.poll().await;
    recorder.wait(2).await;
    world.upstream.set(&[("2", r#"{"id":2,"v":0}"#)]);
    world.poll().await;
    recorder.wait(3).await
}

/// Uptime Kuma's push and healthchecks want GET, and a mirror wants DELETE for what is gone.
#[tokio::test]
async fn methods_without_a_body_and_methods_of_an_event() {
    let all =
        sent("method = \"GET\"\nsign.standard.secrets = [{ value = \"SECRET\" }]\nquery.key = { jq = \".data.key\" }")
            .await;
    assert_eq!(all.len(), 3);
    for request in &all {
        assert_eq!((request.method.as_str(), request.body.len(), request.header("content-type")), ("GET", 0, None));
        assert!(request.header("webhook-signature").is_some() && request.query.contains_key("key"));
    }
    let jq = r#"method = { jq = 'if .type == "orders.deleted" then "DELETE" else "PUT" end' }"#;
    let key = r#"headers.idempotency-key = { jq = ".id" }"#;
    let all = sent(&format!("{jq}\n{key}")).await;
    let seen: Vec<_> = all.iter().map(|request| (request.method.as_str(), request.body.is_empty())).collect();
    assert_eq!(seen, [("PUT", false), ("PUT", false), ("DELETE", true)]);
    assert!(
        all.iter().all(|request| request.header("idempotency-key") == request.header("webhook-id")),
        "jq sees the id"
    );
}

/// The key of a pager stands in its body, and jq sees no secrets.
#[tokio::test]
async fn a_secret_takes_its_place_in_a_body() {
    let lines = "payload = '{ token: \"APP_TOKEN\", text: \"\\(.data.key) is not APP_TOKEN\" }'\n\
                 inject.body = { APP_TOKEN = { value = \"hunter2\\\"secret\" } }\nsign.standard.secrets = [{ value = \"SECRET\" }]";
    for request in sent(lines).await {
        let body = request.json();
        assert_eq!(body["token"], "hunter2\"secret");
        assert!(body["text"].as_str().expect("a text").ends_with(" is not APP_TOKEN"));
        // What is signed is what goes out.
        let webhook = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        let mut headers = http::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, request.header(name).expect("it is there").parse().expect("a value"));
        }
        webhook.verify(&request.body, &headers).expect("it verifies");
    }
}
