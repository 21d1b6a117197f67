//! What a request looks like: formats, payloads, thin events, batches, what was coalesced, credentials.

use std::{collections::BTreeMap, time::Duration};

use bellpull::store::DeliveryState;
use serde_json::{Value as Json, json};

use crate::support::{
    recorder::Recorder,
    rig::{World, check_patch, list},
    server::{Answer, Reply, Request, eventually},
    tls::Mutual,
};

/// One bridge and the endpoint `me`, a recorder, with these lines.
async fn world(recorder: &Recorder, lines: &str) -> World {
    let endpoint = format!("[endpoint.me]\nurl = \"{}/hook\"\n{lines}\n", recorder.origin());
    World::start(&format!("{}\n{endpoint}", list(""))).await
}

/// The requests that a change of one record leads to.
async fn sent(lines: &str) -> Vec<Request> {
    let recorder = Recorder::start().await;
    let mut world = world(&recorder, lines).await;
    world.upstream.set(&[("1", r#"{"id":1,"status":"open","n":1.10}"#)]);
    world.poll().await;
    world.upstream.set(&[("1", r#"{"id":1,"status":"paid","n":1.10}"#)]);
    world.poll().await;
    settled(&world).await;
    recorder.requests()
}

async fn settled(world: &World) {
    eventually("nothing waits", async || {
        world.rig.deliveries.status().await.values().all(|status| status.waiting + status.in_flight == 0)
    })
    .await;
}

fn form(request: &Request) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

#[tokio::test]
async fn cloudevents_structured_and_binary() {
    let requests = sent("format = \"cloudevents\"\nsign.standard.secrets = [{ value = \"SECRET\" }]").await;
    let [ask, event] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((ask.method.as_str(), ask.path.as_str()), ("OPTIONS", "/hook"));
    assert!(!ask.header("webhook-request-origin").expect("who asks").is_empty());
    assert_eq!(event.header("content-type"), Some("application/cloudevents+json"));
    let body = event.json();
    assert_eq!(body["specversion"], "1.0");
    assert_eq!(body["id"].as_str(), event.header("webhook-id"));
    assert_eq!(
        (&body["source"], &body["type"], &body["subject"]),
        (&json!("/bridges/orders"), &json!("orders.updated"), &json!("1"))
    );
    assert_eq!(body["data"]["patch"], json!([{ "op": "replace", "path": "/status", "value": "paid" }]));
    assert!(String::from_utf8_lossy(&event.body).contains("\"n\":1.10"), "digits stay");

    let requests = sent("format = \"cloudevents-binary\"").await;
    let event = requests.last().expect("an event");
    assert_eq!(event.header("content-type"), Some("application/json"));
    assert_eq!(event.header("ce-type"), Some("orders.updated"));
    assert_eq!(event.header("ce-id"), event.header("webhook-id"));
    assert_eq!(event.json()["after"]["status"], "paid");
}

#[tokio::test]
async fn a_target_that_allows_another_sender_gets_nothing_and_a_pace_is_kept() {
    let recorder = Recorder::start().await;
    let mut world = world(&recorder, "format = \"cloudevents\"\nretry.schedule = [\"50ms\"]").await;
    recorder.answers(|_| Answer::new(200, "").header("webhook-allowed-origin", "elsewhere.example").into());
    world.poll().await;
    world.upstream.fill(3);
    world.poll().await;
    recorder.wait(2).await;
    assert!(recorder.requests().iter().all(|request| request.method == "OPTIONS"));
    let status = world.rig.deliveries.status().await["me"].clone();
    assert_eq!((status.state.word(), status.waiting), ("down", 3));
    assert!(status.last_error.as_ref().expect("why").contains("it allows \"elsewhere.example\""), "{status:?}");
    // 600 a minute: one in 100 ms.
    recorder.answers(|request| {
        let answer = Answer::new(200, "");
        let ours = request.header("webhook-request-origin").map(str::to_owned);
        match ours {
            Some(ours) => answer.header("webhook-allowed-origin", ours).header("webhook-allowed-rate", "600").into(),
            None => answer.into(),
        }
    });
    settled(&world).await;
    let at: Vec<_> = recorder.requests().into_iter().filter(|r| r.method == "POST").map(|r| r.at).collect();
    assert_eq!(at.len(), 3);
    for pair in at.windows(2).skip(1) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(90), "{:?}", pair[1] - pair[0]);
    }
}

#[tokio::test]
async fn a_form_of_a_payload() {
    let lines = "format = \"form\"\npayload = '{ To: \"+49\", Body: \"\\(.data.key) is \\(.data.after.status)\", n: .data.after.n, gone: null }'";
    let requests = sent(lines).await;
    assert_eq!(requests[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    let expected = [("To", "+49"), ("Body", "1 is paid"), ("n", "1.10")];
    assert_eq!(form(&requests[0]), expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    let whole = form(&sent("format = \"form\"").await[0]);
    assert_eq!(whole.keys().map(String::as_str).collect::<Vec<_>>(), ["data", "timestamp", "type"]);
}

/// A string with a content type of one's own was sent in its quotes.
#[tokio::test]
async fn a_text_goes_as_it_is() {
    let payload = "payload = '\"orders status=\\(.data.after.status)\"'";
    let texts = [
        (format!("format = \"text\"\n{payload}"), "text/plain; charset=utf-8"),
        (format!("format = \"text\"\nheaders = {{ content-type = \"text/xml\" }}\n{payload}"), "text/xml"),
        (format!("headers = {{ content-type = \"text/csv\" }}\n{payload}"), "text/csv"),
    ];
    for (lines, kind) in texts {
        let request = sent(&lines).await.remove(0);
        assert_eq!(request.header("content-type"), Some(kind), "{lines}");
        assert_eq!(request.body, b"orders status=paid", "{lines}");
    }
    let json = sent(&format!("headers = {{ content-type = \"application/vnd.a+json\" }}\n{payload}")).await.remove(0);
    assert_eq!(json.json(), "orders status=paid");
}

#[tokio::test]
async fn lines_and_digests_of_a_batch() {
    let all = async |lines: &str| {
        let recorder = Recorder::start().await;
        let mut world = world(&recorder, &format!("batch.max = 3\nbatch.wait = \"200ms\"\n{lines}")).await;
        world.poll().await;
        world.upstream.fill(3);
        world.poll().await;
        settled(&world).await;
        let mut requests = recorder.requests();
        assert_eq!(requests.len(), 1, "{lines}");
        requests.remove(0)
    };
    let request = all("format = \"ndjson\"\npayload = '{ id: .data.key }'").await;
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    let text = String::from_utf8(request.body).expect("UTF-8");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!((lines, text.ends_with('\n')), (vec![r#"{"id":"1"}"#, r#"{"id":"2"}"#, r#"{"id":"3"}"#], true));
    let request =
        all("payload = '.data.key'\nbatch.payload = '{ text: \"\\(length) changed: \\(sort | join(\", \"))\" }'").await;
    assert_eq!(request.json(), json!({ "text": "3 changed: 1, 2, 3" }));
    let request = all("format = \"text\"\npayload = '.data.key'\nbatch.payload = 'sort | join(\",\")'").await;
    assert_eq!(
        (request.body.as_slice(), request.header("content-type")),
        (&b"1,2,3"[..], Some("text/plain; charset=utf-8"))
    );
}

/// `endpoint test` said of each chat that works that it is broken.
#[tokio::test]
async fn a_test_and_an_alarm_are_in_the_words_of_the_endpoint() {
    let payload = "payload = '{ text: \"\\(.data.bridge) \\(.type): \\(.data.after.name)\" }'";
    let words = "operational.payload = '{ alarm: .type, of: (.data.endpoint // .data.bridge) }'";
    let cases = [
        (payload.to_owned(), json!({ "text": "orders orders.updated: a test by bellpull" })),
        (format!("{payload}\n{words}"), json!({ "alarm": "bellpull.test", "of": "me" })),
    ];
    for (lines, expected) in cases {
        let recorder = Recorder::start().await;
        let mut world = world(&recorder, &format!("{lines}\nretry.schedule = [\"50ms\"]")).await;
        let tried = world.rig.deliveries.test("me".into()).await.expect("an endpoint");
        assert_eq!((tried.status, tried.error), (Some(200), None));
        assert_eq!(recorder.requests().remove(0).json(), expected);
        // Five failures in a row are an alarm.
        for _ in 0..5 {
            world.upstream.next(Answer::new(500, "no"));
            world.fail().await;
        }
        let alarm = recorder.wait(2).await.remove(1).json();
        if lines.contains("operational") {
            assert_eq!(alarm, json!({ "alarm": "bellpull.bridge.failing", "of": "orders" }));
        } else {
            assert_eq!(
                (&alarm["type"], &alarm["data"]["bridge"]),
                (&json!("bellpull.bridge.failing"), &json!("orders"))
            );
        }
    }
    let recorder = Recorder::start().await;
    let world = world(&recorder, "payload = '.data.after.name | explode | .[0] | ascii_downcase'").await;
    let tried = world.rig.deliveries.test("me".into()).await.expect("an endpoint");
    let error = tried.error.expect("why");
    assert!(error.contains("`payload`") && error.contains("`operational.payload`"), "{error}");
    assert!(recorder.requests().is_empty());
}

#[tokio::test]
async fn url_query_and_headers_from_the_event() {
    let recorder = Recorder::start().await;
    let lines = format!(
        "url = {{ jq = '\"{}/\\(.data.bridge)/\\(.data.after.status)\"' }}\n\
         query = {{ key = {{ jq = \".data.key\" }}, fixed = \"a b\" }}\n\
         headers = {{ X-Change = {{ jq = \".type\" }}, X-Fixed = \"1\" }}",
        recorder.origin()
    );
    let mut world = World::start(&format!("{}\n[endpoint.me]\n{lines}\n", list(""))).await;
    world.poll().await;
    world.upstream.set(&[("1", r#"{"id":1,"status":"open"}"#)]);
    world.poll().await;
    let requests = recorder.wait(1).await;
    assert_eq!(requests[0].path, "/orders/open");
    // A space was `+` here and `%20` in sources: not every server reads a query as a form.
    assert!(requests[0].target.contains("fixed=a%20b"), "{}", requests[0].target);
    assert_eq!(requests[0].query, [("key", "1"), ("fixed", "a b")].map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    assert_eq!((requests[0].header("x-change"), requests[0].header("x-fixed")), (Some("orders.created"), Some("1")));
    // What is absent is `null` in jq.
    settled(&world).await;
    world.upstream.set(&[("1", r#"{"id":1,"status":"open"}"#), ("2", r#"{"id":2}"#)]);
    world.poll().await;
    recorder.wait(2).await;
    assert_eq!(recorder.requests()[1].path, "/orders/null");
}

#[tokio::test]
async fn thin_on_demand_and_where_a_body_is_too_large() {
    let thin = sent("body = \"thin\"").await[0].json();
    assert_eq!(thin["data"]["changed"], json!(["/status"]));
    assert_eq!((&thin["data"]["thin"], thin["data"].get("after")), (&json!(true), None));

    let recorder = Recorder::start().await;
    let mut world = world(&recorder, "body-max = \"1KiB\"").await;
    world.poll().await;
    world.upstream.set(&[("1", r#"{"id":1}"#), ("2", &format!("{{\"id\":2,\"text\":\"{}\"}}", "x".repeat(2000)))]);
    world.poll().await;
    let mut bodies: Vec<Json> = recorder.wait(2).await.iter().map(Request::json).collect();
    bodies.sort_by_key(|body| body["data"]["key"].as_str().map(str::to_owned));
    assert_eq!((bodies[0]["data"]["after"].clone(), bodies[0]["data"].get("thin")), (json!({ "id": 1 }), None));
    assert_eq!((&bodies[1]["data"]["thin"], &bodies[1]["data"]["changed"]), (&json!(true), &json!([""])));
    assert!(recorder.requests().iter().all(|request| request.body.len() < 1024));
    let whole = world.rig.stored_events().await;
    assert!(whole.iter().any(|stored| stored.event.body.len() > 2000), "the whole is kept");
}

#[tokio::test]
async fn a_payload_sees_a_large_event_thin_and_dies_where_that_does_not_help() {
    let recorder = Recorder::start().await;
    let lines = "body-max = \"600B\"\npayload = '{ key: .data.key, text: (.data.after.text // \"thin\"), more: (.data.key | if . == \"3\" then . * 700 else \"\" end) }'";
    let mut world = world(&recorder, lines).await;
    world.poll().await;
    let large = |id: u32| format!("{{\"id\":{id},\"text\":\"{}\"}}", "x".repeat(1000));
    world.upstream.set(&[("1", r#"{"id":1,"text":"short"}"#), ("2", &large(2)), ("3", &large(3))]);
    world.poll().await;
    let mut texts: Vec<String> =
        recorder.wait(2).await.iter().map(|r| r.json()["text"].as_str().expect("a text").to_owned()).collect();
    texts.sort();
    assert_eq!(texts, ["short", "thin"]);
    let dead: Vec<_> =
        world.rig.stored_events().await.into_iter().filter(|e| e.deliveries[0].state == DeliveryState::Dead).collect();
    assert_eq!(dead.len(), 1);
    let bellpull::model::Content::Dead(error) = &dead[0].event.deliveries[0].content else { panic!("{dead:?}") };
    assert!(error.contains("`body-max` is 600"), "{error}");
}

#[tokio::test]
async fn batches_keep_the_order_and_name_each_event() {
    let recorder = Recorder::start().await;
    let mut world = world(&recorder, "batch = { max = 4, wait = \"100ms\" }\nin-flight = 1").await;
    world.poll().await;
    world.upstream.fill(3);
    world.poll().await;
    for v in 1..4 {
        (1..=3).for_each(|id: u32| world.upstream.put(&id.to_string(), &format!(r#"{{"id":{id},"v":{v}}}"#)));
        world.poll().await;
    }
    settled(&world).await;
    let requests = recorder.requests();
    let sizes: Vec<usize> = requests.iter().map(|r| r.json().as_array().expect("an array").len()).collect();
    assert!(sizes.iter().all(|size| (1..=4).contains(size)) && sizes.iter().sum::<usize>() == 12, "{sizes:?}");
    assert!(sizes.len() <= 6, "twelve events in few requests: {sizes:?}");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut ids: Vec<String> = Vec::new();
    for event in requests.iter().flat_map(|r| r.json().as_array().expect("an array").clone()) {
        let (key, sequence) =
            (event["data"]["key"].as_str().expect("a key").to_owned(), event["data"]["sequence"].as_u64());
        let before = last.insert(key, sequence.expect("a number"));
        assert!(before.is_none_or(|before| Some(before) < sequence));
        ids.push(event["id"].as_str().expect("an id").to_owned());
    }
    let stored: Vec<String> = world.rig.stored_events().await.iter().map(|e| e.event.id.to_string()).collect();
    ids.sort();
    assert_eq!(ids, {
        let mut stored = stored;
        stored.sort();
        stored
    });
    assert!(requests.iter().all(|r| r.header("webhook-id").is_some_and(|id| id.starts_with("evt_"))));
}

/// One event that is wrong would take all that came with it to the dead letters.
#[tokio::test]
async fn a_refused_batch_is_taken_apart() {
    let recorder = Recorder::start().await;
    let lines = "batch = { max = 10, wait = \"50ms\" }\nretry.schedule = [\"50ms\", \"50ms\"]";
    let mut world = world(&recorder, lines).await;
    recorder.answers(|request| {
        let wrong = String::from_utf8_lossy(&request.body).contains("\"key\":\"2\"");
        Answer::new(if wrong { 400 } else { 200 }, "").into()
    });
    world.poll().await;
    world.upstream.fill(4);
    world.poll().await;
    settled(&world).await;
    let states: Vec<_> =
        world.rig.stored_events().await.iter().map(|e| (e.event.key.clone(), e.deliveries[0].state)).collect();
    for (key, state) in states {
        assert_eq!(state, if key == "2" { DeliveryState::Dead } else { DeliveryState::Delivered }, "{key}");
    }
}

#[tokio::test]
async fn updates_that_waited_become_one() {
    let recorder = Recorder::start().await;
    recorder.status(503);
    let mut world = world(&recorder, "coalesce = true\nretry.schedule = [\"300ms\"]").await;
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.put("3", r#"{"id":3,"v":9}"#);
    world.poll().await;
    recorder.wait(1).await;
    // Record 1 changes thrice; 2 changes and changes back; 4 is created, updated and deleted: only updates become one.
    for (one, two, four) in [(1, 1, Some(0)), (2, 0, Some(1)), (3, 0, None)] {
        world.upstream.put("1", &format!(r#"{{"id":1,"v":{one}}}"#));
        world.upstream.put("2", &format!(r#"{{"id":2,"v":{two}}}"#));
        match four {
            Some(v) => world.upstream.put("4", &format!(r#"{{"id":4,"v":{v}}}"#)),
            None => world.upstream.remove("4"),
        }
        world.poll().await;
    }
    let down = recorder.requests().len();
    recorder.status(200);
    settled(&world).await;
    let requests = recorder.requests();
    let bodies: Vec<Json> = requests[down..].iter().map(Request::json).collect();
    let of = |key: &str| -> Vec<&Json> { bodies.iter().filter(|body| body["data"]["key"] == key).collect() };
    let one = of("1");
    assert_eq!(one.len(), 1, "{one:?}");
    assert_eq!((&one[0]["data"]["before"]["v"], &one[0]["data"]["after"]["v"]), (&json!(0), &json!(3)));
    let range = &one[0]["data"]["coalesced"];
    assert!(range["first"].as_u64() < range["last"].as_u64() && range["last"] == one[0]["data"]["sequence"], "{range}");
    check_patch(one[0]);
    assert!(of("2").is_empty(), "it changed back: there is nothing to tell");
    assert_eq!(
        of("4").iter().map(|body| body["type"].as_str().expect("a type")).collect::<Vec<_>>(),
        ["orders.created", "orders.updated", "orders.deleted"]
    );
    assert_eq!(of("3").len(), 1);
    let states = world.rig.stored_events().await.into_iter().flat_map(|e| e.deliveries).map(|d| d.state);
    assert!(states.into_iter().all(|state| state == DeliveryState::Delivered));
    // Its id is that of the last event in it: `event ID` finds it.
    let last = world.rig.stored_events().await.into_iter().rfind(|e| e.event.key == "1").expect("an event");
    let id = requests[down..]
        .iter()
        .find(|r| r.json()["data"]["key"] == "1")
        .and_then(|r| r.header("webhook-id").map(str::to_owned));
    assert_eq!(id, Some(last.event.id.to_string()));
}

#[tokio::test]
async fn what_became_one_goes_through_the_payload() {
    let recorder = Recorder::start().await;
    recorder.status(503);
    let lines =
        "coalesce = true\nretry.schedule = [\"300ms\"]\npayload = '\"from \\(.data.before.v) to \\(.data.after.v)\"'";
    let mut world = world(&recorder, lines).await;
    world.upstream.fill(1);
    world.poll().await;
    for v in 1..=5 {
        world.upstream.put("1", &format!(r#"{{"id":1,"v":{v}}}"#));
        world.poll().await;
    }
    recorder.wait(1).await;
    recorder.status(200);
    settled(&world).await;
    assert_eq!(recorder.requests().last().expect("one").json(), "from 0 to 5");
}

/// A replay beside a later change back: taken together they changed nothing, and nothing was sent.
#[tokio::test]
async fn what_is_replayed_never_becomes_one_with_what_waits() {
    let recorder = Recorder::start().await;
    let mut world = world(&recorder, "coalesce = true\nretry.schedule = [\"300ms\"]").await;
    world.upstream.fill(1);
    world.poll().await;
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    world.poll().await;
    settled(&world).await;
    recorder.status(503);
    world.upstream.put("1", r#"{"id":1,"v":0}"#);
    world.poll().await;
    recorder.wait(2).await;
    let first = world.rig.stored_events().await[0].clone();
    let rows = vec![bellpull::store::Requeued { position: first.position, content: None }];
    let written = world.rig.store.write(bellpull::store::Op::Requeue("me".into(), rows)).await.expect("written");
    let bellpull::store::Written::Queued(queued) = written else { panic!("{written:?}") };
    world.rig.deliveries.queued(queued).await;
    recorder.status(200);
    settled(&world).await;
    let requests = recorder.requests();
    let after: Vec<Json> = requests.iter().rev().take(2).map(|r| r.json()["data"]["after"]["v"].clone()).collect();
    assert_eq!(after, [json!(0), json!(1)], "the replay, and then the change back");
    assert_eq!(requests.last().expect("one").header("bellpull-replay"), None);
}

/// An attempt that was under way when the daemon ended may have arrived: what it told is not taken back in silence.
#[tokio::test]
async fn what_waited_at_the_start_is_sent_though_it_changed_back() {
    let recorder = Recorder::start().await;
    recorder.status(503);
    let text = format!("{}\n[endpoint.me]\nurl = \"{}/hook\"\ncoalesce = true\n", list(""), recorder.origin());
    let mut world = World::start(&text.replace("coalesce", "enabled = false\ncoalesce")).await;
    world.upstream.fill(1);
    world.poll().await;
    for v in [1, 0] {
        world.upstream.put("1", &format!(r#"{{"id":1,"v":{v}}}"#));
        world.poll().await;
    }
    recorder.status(200);
    world.restart(&text).await;
    settled(&world).await;
    assert_eq!(recorder.requests().len(), 2);
}

/// `when` and `payload` stopped the polls of a bridge whose record was nested as deep as `depth-max` lets it be.
#[tokio::test]
async fn a_record_as_deep_as_may_be_goes_through() {
    let recorder = Recorder::start().await;
    let lines = "body = \"thin\"\n[endpoint.other]\nurl = \"RECEIVER/other\"\npayload = \".data.key\"";
    let text = list("").replace("[\"me\"]", "[\"me\", \"other\"]");
    let mut world =
        World::start(&format!("{text}\n[endpoint.me]\nurl = \"{}/hook\"\n{lines}\n", recorder.origin())).await;
    world.poll().await;
    let deep = format!("{{\"id\":1,\"deep\":{}1{}}}", "[".repeat(124), "]".repeat(124));
    world.upstream.set(&[("1", &deep)]);
    world.poll().await;
    let body = recorder.wait(1).await[0].json();
    assert_eq!((&body["data"]["thin"], &body["data"]["changed"]), (&json!(true), &json!([""])));
    let states: BTreeMap<String, DeliveryState> =
        world.rig.stored_events().await[0].deliveries.iter().map(|d| (d.endpoint.to_string(), d.state)).collect();
    assert_eq!(states["other"], DeliveryState::Dead, "what jq cannot see is a dead letter");
}

#[tokio::test]
async fn credentials_and_a_token_that_is_refused_once() {
    let requests = sent("auth.basic = { username = \"me\", password = { value = \"let me in\" } }").await;
    assert_eq!(requests[0].header("authorization"), Some("Basic bWU6bGV0IG1lIGlu"));
    let requests = sent("auth.header = { name = \"X-Key\", value = { value = \"abcdefgh\" }, prefix = \"k \" }").await;
    assert_eq!(requests[0].header("x-key"), Some("k abcdefgh"));

    let recorder = Recorder::start().await;
    let lines = format!(
        "retry.schedule = [\"1h\"]\nauth.oauth2 = {{ token-url = \"{}/token\", client-id = \"me\", client-secret = {{ value = \"secret-of-mine\" }} }}",
        recorder.origin()
    );
    let mut tokens = 0;
    recorder.answers(move |request| match request.path.as_str() {
        "/token" => {
            tokens += 1;
            Answer::json(format!(
                r#"{{"access_token":"token-number-{tokens}","token_type":"bearer","expires_in":3600}}"#
            ))
            .into()
        }
        _ if request.header("authorization") == Some("Bearer token-number-2") => Answer::new(200, "").into(),
        _ => Reply::from(Answer::new(401, request.header("authorization").unwrap_or_default())),
    });
    let mut world = world(&recorder, &lines).await;
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    settled(&world).await;
    let paths: Vec<String> = recorder.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/token", "/hook", "/token", "/hook"], "one new token, and the same event at once");
    let shown = world.rig.export().await;
    assert!(!shown.contains("token-number") && !shown.contains("secret-of-mine"), "{shown}");
}

#[tokio::test]
async fn a_receiver_that_wants_a_certificate_and_one_behind_a_proxy() {
    let server = Mutual::start("").await;
    for (tls, arrives) in [(format!("{}, {}", server.ca(), server.own()), true), (server.ca(), false)] {
        let lines = format!("url = \"https://{}/hook\"\ntls = {{ {tls} }}\nretry.schedule = [\"1h\"]", server.addr);
        let mut world = World::start(&format!("{}\n[endpoint.me]\n{lines}\n", list(""))).await;
        world.poll().await;
        world.upstream.fill(1);
        world.poll().await;
        let state = async || world.rig.deliveries.status().await["me"].clone();
        let end = if arrives { ("ok", 0) } else { ("down", 1) };
        eventually(&format!("it is {end:?}"), async || (state().await.state.word(), state().await.waiting) == end)
            .await;
    }
    // The proxy resolves the name.
    let proxy = Recorder::start().await;
    let lines = format!("url = \"http://hooks.internal/a\"\nproxy = \"{}\"", proxy.origin());
    let mut world = World::start(&format!("{}\n[endpoint.me]\n{lines}\n", list(""))).await;
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    assert_eq!(proxy.wait(1).await[0].target, "http://hooks.internal/a");
}

#[tokio::test]
async fn an_answer_that_echoes_a_secret_is_kept_without_it() {
    let recorder = Recorder::start().await;
    recorder.answers(|request| Answer::new(500, request.header("authorization").unwrap_or_default()).into());
    let mut world = world(&recorder, "auth.bearer.secret = { value = \"a-very-secret-token\" }").await;
    world.poll().await;
    world.upstream.fill(1);
    world.poll().await;
    recorder.wait(1).await;
    eventually("it is recorded", async || {
        let read = |engine: &dyn bellpull::store::Engine| engine.attempts(&mut |_| true, 10);
        let all = world.rig.store.read(read).await.expect("read");
        all.first().is_some_and(|attempt| attempt.answer == "Bearer ***")
    })
    .await;
}
