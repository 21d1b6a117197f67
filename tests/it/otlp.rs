//! Traces of polls and deliveries, as a collector receives them. Only in builds with the feature `otlp`.

use std::time::{Duration, Instant};

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value as Json;

use crate::support::{
    daemon::{Daemon, Place},
    receiver::{Receiver, SECRET},
    server::{Answer, Reply, eventually},
    upstream::{Paging, Upstream},
};

/// What is read of OpenTelemetry's messages, with their numbers.
const PROTO: &str = r#"
syntax = "proto3";
message Export { repeated ResourceSpans resources = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scopes = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { repeated Span spans = 2; }
message Span {
  bytes trace = 1; bytes id = 2; bytes parent = 4; string name = 5; int32 kind = 6;
  fixed64 start = 7; fixed64 end = 8; repeated KeyValue attributes = 9; repeated Link links = 13; Status status = 15;
}
message Link { bytes trace = 1; bytes id = 2; }
message Status { string message = 2; int32 code = 3; }
message KeyValue { string key = 1; Any value = 2; }
message Any { oneof value { string text = 1; bool flag = 2; int64 number = 3; double real = 4; } }
"#;

struct Scene {
    upstream: Upstream,
    receiver: Receiver,
    collector: Upstream,
    place: Place,
}

impl Scene {
    async fn new() -> Self {
        let (upstream, receiver, collector) =
            (Upstream::start().await, Receiver::start().await, Upstream::start().await);
        upstream.fill(5);
        upstream.paging(Paging::Link(2));
        collector.always(Some(Answer::new(200, "").into()));
        let place = Place::new(&format!(
            "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\n\
             [bridge.orders.source.http]\nurl = \"{}/items?token=hidden-in-the-query\"\npages.link = {{}}\n\
             [endpoint.me]\nurl = \"{}/me\"\nsign.standard.secrets = [{{ value = {SECRET:?} }}]\n",
            upstream.origin(),
            receiver.origin()
        ));
        Self { upstream, receiver, collector, place }
    }

    async fn start(self, more: &'static [(&str, &str)]) -> (Self, Daemon) {
        tokio::task::spawn_blocking(move || {
            let origin = self.collector.origin();
            let mut variables =
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", origin.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
            variables.extend_from_slice(more);
            let daemon = self.place.start_with(&variables);
            (self, daemon)
        })
        .await
        .expect("it starts")
    }

    /// All spans so far, each with its attributes as one object, and the resource's of the last export.
    fn spans(&self) -> (Vec<Json>, Json) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("otlp.proto"), PROTO).expect("written");
        let set = protox::compile(["otlp.proto"], [dir.path()]).expect("it compiles");
        let pool = DescriptorPool::from_file_descriptor_set(set).expect("a pool");
        let kind = pool.get_message_by_name("Export").expect("known");
        let (mut spans, mut resource) = (Vec::new(), Json::Null);
        for request in self.collector.requests() {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            let message = DynamicMessage::decode(kind.clone(), request.body.as_slice()).expect("an export");
            let export = serde_json::to_value(&message).expect("JSON");
            for of in export["resources"].as_array().expect("resources") {
                resource = attributes(&of["resource"]);
                for scope in of["scopes"].as_array().expect("scopes") {
                    for span in scope["spans"].as_array().expect("spans") {
                        let mut span = span.clone();
                        span["attributes"] = attributes(&span);
                        spans.push(span);
                    }
                }
            }
        }
        (spans, resource)
    }

    fn named(&self, name: &str) -> Vec<Json> {
        self.spans().0.into_iter().filter(|span| span["name"] == name).collect()
    }
}

fn attributes(of: &Json) -> Json {
    let all = of["attributes"].as_array().cloned().unwrap_or_default();
    let value = |of: &Json| of["value"].as_object().and_then(|o| o.values().next()).cloned().unwrap_or_default();
    all.iter().map(|one| (one["key"].as_str().expect("a key").to_owned(), value(one))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_a_poll_with_its_pages_and_the_delivery_that_it_led_to() {
    // Whatever the log's level.
    let (scene, daemon) = Scene::new().await.start(&[("RUST_LOG", "error")]).await;
    eventually("a poll", async || !scene.named("poll").is_empty()).await;
    scene.upstream.put("1", r#"{"id":1,"v":1}"#);
    let taken = scene.receiver.wait_taken("/me", 1).await;
    eventually("a delivery", async || !scene.named("deliver").is_empty()).await;
    let log = tokio::task::spawn_blocking(move || daemon.stop()).await.expect("it stops");
    assert_eq!(log, "", "spans are no lines");

    let (spans, resource) = scene.spans();
    assert_eq!(resource["service.name"], "bellpull");
    let polls = scene.named("poll");
    let of =
        |outcome: &str| polls.iter().find(|span| span["attributes"]["outcome"] == outcome).cloned().expect("a poll");
    let (first, changed) = (of("baseline"), of("changed"));
    assert_eq!((&first["attributes"]["bridge"], &changed["attributes"]["updated"]), (&"orders".into(), &"1".into()));
    assert!(first.get("parent").is_none(), "a root: {first}");
    let pages: Vec<&Json> = spans.iter().filter(|span| span["parent"] == first["id"]).collect();
    assert_eq!(pages.len(), 3, "five records, two a page");
    let mut bytes = 0;
    for page in pages {
        let attributes = &page["attributes"];
        assert_eq!((&page["name"], &page["trace"], &page["kind"]), (&"request".into(), &first["trace"], &3.into()));
        assert_eq!((&attributes["origin"], &attributes["status"]), (&scene.upstream.origin().into(), &"200".into()));
        bytes += attributes["bytes"].as_str().expect("a number").parse::<u64>().expect("a number");
    }
    assert_eq!(first["attributes"]["bytes"], bytes.to_string());

    let delivery = &scene.named("deliver")[0];
    let attributes = &delivery["attributes"];
    assert_eq!(attributes["event_id"], taken[0].id);
    assert_eq!([&attributes["endpoint"], &attributes["class"], &attributes["status"]], ["me", "taken", "200"]);
    assert_ne!(delivery["trace"], changed["trace"]);
    assert_eq!(delivery["links"][0]["trace"], changed["trace"], "linked to the poll: {delivery}");
    assert_eq!(delivery["links"][0]["id"], changed["id"]);
    let all = serde_json::to_string(&spans).expect("JSON");
    assert!(!all.contains("hidden-in-the-query") && !all.contains("/items") && !all.contains(SECRET), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_poll_is_an_error_and_the_environment_names_service_and_sampler() {
    let scene = Scene::new().await;
    scene.upstream.always(Some(Answer::new(500, "no").into()));
    let (scene, daemon) = scene.start(&[("OTEL_SERVICE_NAME", "mine")]).await;
    eventually("a poll", async || !scene.named("poll").is_empty()).await;
    let poll = &scene.named("poll")[0];
    assert_eq!((&poll["attributes"]["outcome"], &poll["status"]["code"]), (&"failed".into(), &2.into()));
    assert!(poll["attributes"]["error"].as_str().is_some_and(|e| e.contains("500")), "{poll}");
    assert_eq!(scene.spans().1["service.name"], "mine");
    drop(daemon);

    let (scene, daemon) = Scene::new().await.start(&[("OTEL_TRACES_SAMPLER", "always_off")]).await;
    eventually("it is polled", async || scene.upstream.count() > 20).await;
    tokio::task::spawn_blocking(move || daemon.stop()).await.expect("it stops");
    assert_eq!(scene.collector.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_nothing_up() {
    let scene = Scene::new().await;
    scene.collector.always(Some(Reply::Hang));
    let (scene, daemon) =
        scene.start(&[("OTEL_BSP_MAX_QUEUE_SIZE", "4"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")]).await;
    eventually("an export hangs", async || scene.collector.count() >= 1).await;
    // Far more spans than the queue has places: three requests and a poll each.
    let before = scene.upstream.count();
    eventually("it is polled as ever", async || scene.upstream.count() >= before + 60).await;
    scene.upstream.put("1", r#"{"id":1,"v":1}"#);
    scene.receiver.wait_taken("/me", 1).await;
    let took = Instant::now();
    tokio::task::spawn_blocking(move || daemon.stop()).await.expect("it stops");
    assert!(took.elapsed() < Duration::from_secs(5), "{:?}", took.elapsed());
}
