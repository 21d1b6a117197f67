//! `bellpull schema event` describes what is sent: bodies as receivers got them fit it, and wrong ones do not.

use jsonschema::Validator;
use serde_json::{Value as Json, json};

use crate::support::{
    daemon::run,
    receiver::Received,
    rig::{World, list},
    server::{Answer, eventually},
};

/// What the command prints.
fn schema() -> Json {
    let ran = run(&["schema", "event"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).expect("JSON")
}

fn validator() -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema()).expect("a schema of 2020-12")
}

fn fits(validator: &Validator, body: &Json) {
    if let Err(error) = validator.validate(body) {
        panic!("{error}: {body}");
    }
}

/// The types and fields of bodies that all fit the schema: `orders.updated after before bridge ...`.
fn shapes(received: &[Received]) -> Vec<String> {
    let validator = validator();
    let shape = |received: &Received| {
        fits(&validator, &received.body);
        let fields: Vec<&str> =
            received.body["data"].as_object().expect("an object").keys().map(String::as_str).collect();
        format!("{} {}", received.kind(), fields.join(" "))
    };
    let mut shapes: Vec<String> = received.iter().map(shape).collect();
    shapes.sort();
    shapes.dedup();
    shapes
}

#[test]
fn the_schema_is_one_of_its_draft() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::meta::validate(&schema).expect("it keeps to its meta-schema");
    // A type generator takes the titles for names: two alike would be numbered.
    let definitions = schema["$defs"].as_object().expect("definitions");
    for (name, definition) in definitions {
        assert_eq!(definition["title"], json!(name));
    }
    assert_eq!(run(&["schema", "events"]).code, 64, "and there is no other");
}

#[tokio::test]
async fn changes_fit() {
    let mut world = World::start(&list("deletes.after = 1")).await;
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.put("1", r#"{"id":1,"v":12345678901234567890,"a/b~c":[1.10,null]}"#);
    world.upstream.put("4", r#"{"id":4}"#);
    world.upstream.remove("2");
    world.poll().await;
    world.upstream.put("1", r#"{"id":1,"v":1e400,"a/b~c":[1.2,null]}"#);
    world.poll().await;
    assert_eq!(
        shapes(&world.receiver.wait_taken("/me", 4).await),
        [
            "orders.created after bridge key patch sequence stream",
            "orders.deleted before bridge key patch sequence stream",
            "orders.updated after before bridge key patch sequence stream",
        ]
    );
}

#[tokio::test]
async fn what_is_resent_fits() {
    let mut world = World::start(&list("")).await;
    world.upstream.fill(2);
    world.poll().await;
    let poller = world.rig.poller.clone();
    assert_eq!(poller.resend(world.rig.polled(), &"me".into()).await, Ok(2));
    let sent = world.receiver.wait_taken("/me", 2).await;
    assert_eq!(shapes(&sent), ["orders.present after bridge key sequence stream"]);
}

/// A whole document has the key "", and a member the name of its item.
#[tokio::test]
async fn documents_and_members_fit() {
    let text = r#"
[bridge.things]
every = "100ms"
each = { list = ["items"] }
first-poll = "emit"
to = ["me"]
source.http.url = { jq = '"UPSTREAM/" + .item' }
"#;
    let mut world = World::start(text).await;
    world.upstream.fill(1);
    let _handle = world.rig.run().await;
    let sent = world.receiver.wait_taken("/me", 1).await;
    assert_eq!(shapes(&sent), ["things.created after bridge item key patch sequence stream"]);
    let data = &sent[0].body["data"];
    assert_eq!((&data["bridge"], &data["key"]), (&json!("things/items"), &json!("")));
}

#[tokio::test]
async fn operational_events_fit() {
    let mut world = World::start(&list("alert.after = 1")).await;
    world.upstream.fill(20);
    world.poll().await;
    world.upstream.next(Answer::new(500, "no"));
    world.fail().await;
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    assert_eq!(
        shapes(&world.receiver.wait_taken("/me", 3).await),
        [
            "bellpull.bridge.failing bridge error failures",
            "bellpull.bridge.held bridge created deleted hash reason updated",
            "bellpull.bridge.recovered bridge failures",
        ]
    );
}

/// What happens to `me` is told to `other`.
const ALARMED: &str = r#"
[bridge.orders]
every = "100ms"
items = ".[]"
key = ".id"
to = ["me"]
alert.to = ["other"]
source.http.url = "UPSTREAM/items"

[endpoint.me]
url = "RECEIVER/me"
sign.standard.secrets = [{ value = "SECRET" }]

[endpoint.other]
url = "RECEIVER/other"
sign.standard.secrets = [{ value = "SECRET" }]
"#;

#[tokio::test]
async fn a_disabled_endpoint_fits() {
    let mut world = World::start(ALARMED).await;
    world.poll().await;
    world.receiver.status("/me", 410);
    world.upstream.fill(1);
    world.poll().await;
    let told = world.receiver.wait_taken("/other", 1).await;
    assert_eq!(shapes(&told), ["bellpull.endpoint.disabled endpoint reason waiting"]);
}

#[tokio::test]
async fn an_endpoint_that_refuses_fits() {
    let mut world =
        World::start(&ALARMED.replace("\n\n[endpoint.other]", "\nretry.schedule = [\"50ms\"]\n\n[endpoint.other]"))
            .await;
    world.poll().await;
    world.receiver.status("/me", 401);
    world.upstream.fill(1);
    world.poll().await;
    world.receiver.wait_taken("/other", 2).await;
    world.receiver.status("/me", 200);
    world.upstream.fill(2);
    world.poll().await;
    assert_eq!(
        shapes(&world.receiver.wait_taken("/other", 3).await),
        [
            "bellpull.endpoint.recovered endpoint reason waiting",
            "bellpull.endpoint.refusing endpoint reason waiting",
            "bellpull.event.dead count endpoint events reason",
        ]
    );
}

/// An endpoint with more lines, that is sent what happens to three records.
async fn shaped(lines: &str) -> (World, Vec<Received>) {
    let endpoint = format!(
        "\n[endpoint.me]\nurl = \"RECEIVER/me\"\nsign.standard.secrets = [{{ value = \"SECRET\" }}]\n{lines}\n"
    );
    let mut world = World::start(&(list("deletes.after = 1") + &endpoint)).await;
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    world.upstream.put("4", r#"{"id":4}"#);
    world.upstream.remove("2");
    world.poll().await;
    let received = world.receiver.wait_taken("/me", 1).await;
    (world, received)
}

#[tokio::test]
async fn thin_events_fit() {
    let (mut world, _) = shaped("body = \"thin\"").await;
    let poller = world.rig.poller.clone();
    assert_eq!(poller.resend(world.rig.polled(), &"me".into()).await, Ok(3));
    assert_eq!(
        shapes(&world.receiver.wait_taken("/me", 6).await),
        ["orders.created", "orders.deleted", "orders.present", "orders.updated"]
            .map(|kind| format!("{kind} bridge changed key sequence stream thin"))
    );
}

#[tokio::test]
async fn batches_fit() {
    let (world, _) = shaped("batch = { max = 10, wait = \"200ms\" }").await;
    let validator = validator();
    let all = |received: Vec<Received>| -> usize {
        let batch = |received: &Received| {
            fits(&validator, &received.body);
            received.body.as_array().expect("a batch").len()
        };
        received.iter().map(batch).sum()
    };
    eventually("three events in batches", async || all(world.receiver.at("/me")) == 3).await;
}

/// While the receiver is down, two updates of one record wait behind another one.
#[tokio::test]
async fn coalesced_updates_fit() {
    let lines = "coalesce = true\nretry.schedule = [\"300ms\"]";
    let (mut world, _) = shaped(lines).await;
    world.receiver.wait_taken("/me", 3).await;
    world.receiver.status("/me", 503);
    for version in 2..=4 {
        world.upstream.put("1", &format!(r#"{{"id":1,"v":{version}}}"#));
        world.poll().await;
        // The first one is refused before the others come.
        world.receiver.wait("/me", 4).await;
    }
    world.receiver.status("/me", 200);
    let coalesced = |received: &Received| received.body["data"].get("coalesced").is_some();
    let me = || world.receiver.taken("/me").into_iter().filter(coalesced).collect::<Vec<_>>();
    eventually("a coalesced update", async || !me().is_empty()).await;
    assert_eq!(shapes(&me()), ["orders.updated after before bridge coalesced key patch sequence stream"]);
}

/// Bodies as the reference describes them.
fn sample(name: &str) -> Json {
    let data = |more: Json| {
        let mut data = json!({ "bridge": "shop-orders", "key": "1042", "stream": "s_9fK2", "sequence": 7 });
        data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        data
    };
    let event = |kind: &str, data: Json| json!({ "type": kind, "timestamp": "2026-11-22T11:42:55.123Z", "data": data });
    let open = json!({ "id": 1042, "status": "open" });
    let paid = json!({ "id": 1042, "status": "paid" });
    let patch = json!([{ "op": "replace", "path": "/status", "value": "paid" }]);
    let held = json!({ "bridge": "shop-orders", "reason": "it would delete 11 of 20 known records",
        "hash": "000102030405060708090a0b0c0d0e0f", "created": 0, "updated": 0, "deleted": 11 });
    let updated = || event("shop_orders.updated", data(json!({ "before": open, "after": paid, "patch": patch })));
    let batched = |mut event: Json| {
        event["id"] = json!("evt_2MM9g0vrK6PJZQFcAejvrk");
        event
    };
    match name {
        "created" => event(
            "shop_orders.created",
            data(json!({ "after": open, "patch": [{ "op": "add", "path": "", "value": open }] })),
        ),
        "updated" => updated(),
        "deleted" => {
            event("shop_orders.deleted", data(json!({ "before": open, "patch": [{ "op": "remove", "path": "" }] })))
        }
        "present" => event("shop_orders.present", data(json!({ "after": paid }))),
        "thin" => event("shop_orders.updated", data(json!({ "thin": true, "changed": ["/status", "/lines/0/a~1b"] }))),
        "thin, a record as it is" => event("shop_orders.present", data(json!({ "thin": true, "changed": [] }))),
        "thin, a whole record" => event("shop_orders.created", data(json!({ "thin": true, "changed": [""] }))),
        "thin and coalesced" => event(
            "shop_orders.updated",
            data(json!({ "thin": true, "changed": ["/status"], "coalesced": { "first": 5, "last": 7 } })),
        ),
        "coalesced" => {
            let range = json!({ "first": 5, "last": 7 });
            event(
                "shop_orders.updated",
                data(json!({ "before": open, "after": paid, "patch": patch, "coalesced": range })),
            )
        }
        "held" => event("bellpull.bridge.held", held),
        "test" => event("bellpull.test", json!({})),
        "batch" => json!([batched(updated()), batched(sample("thin")), batched(sample("test"))]),
        other => panic!("no sample is called {other:?}"),
    }
}

#[test]
fn what_the_reference_describes_fits() {
    let validator = validator();
    let names = [
        "created",
        "updated",
        "deleted",
        "present",
        "thin",
        "thin, a record as it is",
        "thin, a whole record",
        "thin and coalesced",
        "coalesced",
        "held",
        "test",
        "batch",
    ];
    for name in names {
        fits(&validator, &sample(name));
    }
    // Fields may be added, at each level.
    let mut more = sample("updated");
    (more["new"], more["data"]["new"], more["data"]["patch"][0]["new"]) = (json!(1), json!([]), json!({}));
    fits(&validator, &more);
}

/// A sample, the place that is wrong, and what stands there instead; `None` for nothing.
type Wrong = (&'static str, &'static str, Option<Json>);

fn wrong() -> Vec<Wrong> {
    vec![
        ("updated", "/type", None),
        ("updated", "/type", Some(json!("shop-orders.updated"))),
        ("updated", "/type", Some(json!("shop_orders.changed"))),
        ("updated", "/type", Some(json!("bellpull.bridge.held"))),
        ("updated", "/type", Some(json!("shop_orders.present"))),
        ("updated", "/timestamp", None),
        ("updated", "/timestamp", Some(json!(1795347775))),
        ("updated", "/timestamp", Some(json!("2026-13-22T11:42:55.123Z"))),
        ("updated", "/timestamp", Some(json!("2026-11-22T11:42:55.123+01:00"))),
        ("updated", "/data", None),
        ("updated", "/data", Some(json!([]))),
        ("updated", "/data/bridge", Some(json!("-orders"))),
        ("updated", "/data/key", Some(json!(1042))),
        ("updated", "/data/key", Some(json!("k".repeat(1025)))),
        ("updated", "/data/stream", Some(json!("9fK2"))),
        ("updated", "/data/sequence", Some(json!(0))),
        ("updated", "/data/sequence", Some(json!(1.5))),
        ("updated", "/data/sequence", Some(json!("7"))),
        ("updated", "/data/before", None),
        ("updated", "/data/after", None),
        ("updated", "/data/patch", None),
        ("updated", "/data/patch", Some(json!([]))),
        ("updated", "/data/patch/0/op", Some(json!("test"))),
        ("updated", "/data/patch/0/path", Some(json!("status"))),
        ("updated", "/data/patch/0/path", Some(json!("/a~2"))),
        ("updated", "/data/patch/0/value", None),
        ("updated", "/data/patch/0", Some(json!({ "op": "move", "path": "/a" }))),
        ("updated", "/data/thin", Some(json!(true))),
        ("created", "/data/before", Some(json!({}))),
        ("created", "/data/after", None),
        ("deleted", "/data/after", Some(json!(null))),
        ("deleted", "/data/before", None),
        ("present", "/data/before", Some(json!({}))),
        ("present", "/data/patch", Some(json!([{ "op": "remove", "path": "" }]))),
        ("present", "/data/after", None),
        ("thin", "/data/thin", Some(json!(false))),
        ("thin", "/data/thin", None),
        ("thin", "/data/changed", None),
        ("thin", "/data/changed", Some(json!("/status"))),
        ("thin", "/data/changed/0", Some(json!("status"))),
        ("thin", "/data/after", Some(json!({}))),
        ("coalesced", "/data/coalesced", Some(json!(true))),
        ("coalesced", "/data/coalesced/first", None),
        ("coalesced", "/data/coalesced/last", Some(json!(0))),
        ("held", "/data/hash", Some(json!("000102"))),
        ("held", "/data/deleted", Some(json!(-1))),
        ("held", "/data/reason", None),
        ("test", "/type", Some(json!("bellpull.updated"))),
        ("test", "/type", Some(json!("bellpull."))),
        ("test", "/data", Some(json!("hello"))),
        ("batch", "/0/id", None),
        ("batch", "/1/id", Some(json!("msg_1"))),
        ("batch", "/2/type", Some(json!("shop_orders.changed"))),
        ("batch", "", Some(json!([]))),
        ("updated", "", Some(json!({}))),
        ("updated", "", Some(json!("event"))),
    ]
}

#[test]
fn what_is_wrong_does_not_fit() {
    let validator = validator();
    for (name, pointer, value) in wrong() {
        let right = sample(name);
        fits(&validator, &right);
        let mut body = right.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
        match value {
            Some(value) if pointer.is_empty() => body = value,
            Some(value) => match body.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => body.pointer_mut(parent).expect("a place")[field] = value,
            },
            None => {
                body.pointer_mut(parent).and_then(Json::as_object_mut).expect("an object").remove(field);
            }
        }
        assert_ne!(body, right, "{name} {pointer}");
        assert!(!validator.is_valid(&body), "{name}: {pointer} is wrong in {body}");
    }
}
