//! `source.grpc`: reflection, descriptor sets, streams, and servers that misbehave. The server's frames are made by hand, its
//! reflection is tonic's.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use bellpull::poller::Polling;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{
    DescriptorPool, DynamicMessage,
    prost::{Message, bytes},
};
use reqwest::header::HeaderMap;
use serde_json::{Value as Json, json};
use tokio::task::AbortHandle;

use crate::support::rig::{World, load};

type Frames = std::pin::Pin<Box<dyn Stream<Item = http_body::Frame<Bytes>> + Send + Sync>>;
type Answering = dyn Fn(Json) -> Frames + Send + Sync;

/// What the server speaks of itself.
#[derive(Clone, Copy, PartialEq)]
enum Reflection {
    V1,
    V1Alpha,
    None,
}

struct Shop {
    origin: String,
    pool: DescriptorPool,
    answer: Arc<Mutex<Arc<Answering>>>,
    seen: Arc<Mutex<Vec<(HeaderMap, Json)>>>,
    serving: AbortHandle,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn descriptor_set() -> Vec<u8> {
    let mut compiler = protox::Compiler::new(["tests/data/grpc"]).expect("a directory");
    compiler.include_imports(true).open_file("shop.proto").expect("it compiles");
    compiler.encode_file_descriptor_set()
}

impl Shop {
    async fn start(reflection: Reflection) -> Self {
        let set = descriptor_set();
        let pool = DescriptorPool::decode(set.as_slice()).expect("a set");
        let nothing: Arc<Answering> = Arc::new(|_| Box::pin(stream::empty()));
        let (answer, seen) = (Arc::new(Mutex::new(nothing)), Arc::new(Mutex::new(Vec::new())));
        let handler = {
            let (pool, answer, seen) = (pool.clone(), answer.clone(), seen.clone());
            move |request: Request| {
                let (pool, answer, seen) = (pool.clone(), answer.clone(), seen.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let bytes = body.collect().await.expect("a body").to_bytes();
                    let kind = pool.get_message_by_name("shop.ListRequest").expect("known");
                    let asked = DynamicMessage::decode(kind, bytes.slice(5..)).expect("a ListRequest");
                    let asked = serde_json::to_value(&asked).expect("JSON");
                    seen.lock().unwrap().push((parts.headers, asked.clone()));
                    let frames = (answer.lock().unwrap())(asked).map(Ok::<_, Infallible>);
                    let response = Response::builder().header("content-type", "application/grpc");
                    response.body(Body::new(StreamBody::new(frames))).expect("an answer")
                }
            }
        };
        let mut router = Router::new()
            .route("/shop.Orders/List", post(handler.clone()))
            .route("/shop.Orders/Watch", post(handler))
            // Without reflection a real server answers so.
            .fallback(async || {
                let unimplemented =
                    Response::builder().header("content-type", "application/grpc").header("grpc-status", "12");
                unimplemented.body(Body::empty()).expect("an answer")
            });
        let builder = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(&set);
        match reflection {
            Reflection::V1 => {
                let service = builder().build_v1().expect("a service");
                router = router.route_service("/grpc.reflection.v1.ServerReflection/{*any}", service);
            }
            Reflection::V1Alpha => {
                let service = builder().build_v1alpha().expect("a service");
                router = router.route_service("/grpc.reflection.v1alpha.ServerReflection/{*any}", service);
            }
            Reflection::None => {}
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { origin, pool, answer, seen, serving }
    }

    fn answers(&self, answer: impl Fn(Json) -> Frames + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    /// A message with the five bytes in front of it.
    fn frame(&self, kind: &str, value: Json) -> Bytes {
        let kind = self.pool.get_message_by_name(kind).expect("known");
        let message = DynamicMessage::deserialize(kind, value).expect("it fits").encode_to_vec();
        framed(&message)
    }

    fn orders(&self, orders: Json) {
        let frame = self.frame("shop.ListResponse", json!({ "orders": orders }));
        self.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
    }

    async fn world(&self, lines: &str) -> World {
        World::start(&format!(
            "[bridge.orders]\nevery = \"1h\"\nalert.after = 100\nitems = \".orders[]\"\nkey = \".orderId\"\nto = [\"me\"]\n\
             [bridge.orders.source.grpc]\ntarget = \"{}\"\nmethod = \"shop.Orders/List\"\n\
             request = {{ pageSize = 50, shop = \"berlin\" }}\n{lines}\n",
            self.origin
        ))
        .await
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("small"));
    frame.put_slice(message);
    frame.freeze()
}

fn trailers(pairs: &[(&'static str, &str)]) -> http_body::Frame<Bytes> {
    let map = pairs.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value"))).collect();
    http_body::Frame::trailers(map)
}

fn frames(data: Vec<Bytes>, end: &[(&'static str, &str)]) -> Frames {
    let mut all: Vec<_> = data.into_iter().map(http_body::Frame::data).collect();
    if !end.is_empty() {
        all.push(trailers(end));
    }
    Box::pin(stream::iter(all))
}

fn order(id: &str, status: &str) -> Json {
    json!({
        "orderId": id, "status": status, "createdAt": "2026-11-23T04:05:06Z", "price": 1.5, "tags": ["a"],
        "counts": { "x": 7 },
    })
}

#[tokio::test]
async fn a_unary_method_is_polled_by_reflection() {
    for reflection in [Reflection::V1, Reflection::V1Alpha] {
        let shop = Shop::start(reflection).await;
        let lines =
            "reflection = true\nmetadata = { x-shop = \"7\" }\nauth.bearer.secret = { value = \"hunter2-secret\" }";
        let mut world = shop.world(lines).await;
        shop.orders(json!([order("9007199254740993", "STATUS_OPEN"), order("2", "STATUS_PAID")]));
        assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
        let snapshot = world.rig.snapshot().await;
        // Canonical protobuf JSON: 64 bits as a string, enums by name, a timestamp as RFC 3339.
        let stored: Json = serde_json::from_str(&snapshot["9007199254740993"]).expect("JSON");
        assert_eq!(stored, order("9007199254740993", "STATUS_OPEN"));
        shop.orders(json!([order("9007199254740993", "STATUS_PAID"), order("3", "STATUS_OPEN")]));
        world.poll().await;
        assert_eq!(
            world.rig.lines().await,
            ["orders.created 3 #1", "orders.updated 9007199254740993 #2", "orders.deleted 2 #3"]
        );
        let seen = shop.seen.lock().unwrap();
        let (headers, asked) = &seen[0];
        assert_eq!(asked, &json!({ "pageSize": 50, "shop": "berlin" }));
        assert_eq!(headers["x-shop"], "7");
        assert_eq!(headers["authorization"], "Bearer hunter2-secret");
        assert_eq!(
            (&headers["content-type"], &headers["te"]),
            (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn a_descriptor_set_needs_no_reflection() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("shop.binpb");
    std::fs::write(&file, descriptor_set()).expect("written");
    let shop = Shop::start(Reflection::None).await;
    let mut world = shop.world(&format!("descriptors = \"{}\"", file.display())).await;
    shop.orders(json!([order("1", "STATUS_OPEN")]));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    // Without either the server says that it cannot.
    let mut world = shop.world("reflection = true").await;
    let error = world.fail().await;
    assert!(error.contains("gRPC status Unimplemented"), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_is_a_list() {
    let shop = Shop::start(Reflection::V1).await;
    let text = "reflection = true\n[bridge.orders.since]\njson = \"shop\"\nfrom = \".createdAt\"\norder = \"time\"";
    let mut world = World::start(&format!(
        "[bridge.orders]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".orderId\"\nto = [\"me\"]\n\
             [bridge.orders.source.grpc]\ntarget = \"{}\"\nmethod = \"shop.Orders/Watch\"\n{text}\n",
        shop.origin
    ))
    .await;
    let all: Vec<Bytes> = ["1", "2", "3"].iter().map(|id| shop.frame("shop.Order", order(id, "STATUS_OPEN"))).collect();
    shop.answers(move |_| frames(all.clone(), &[("grpc-status", "0")]));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    world.poll().await;
    let asked: Vec<Json> = shop.seen.lock().unwrap().iter().map(|(_, asked)| asked.clone()).collect();
    assert_eq!(
        asked,
        [json!({}), json!({ "shop": "2026-11-23T04:05:05Z" })],
        "the mark, less a second, goes into the request"
    );
    // An empty stream is an empty list.
    shop.answers(|_| frames(vec![], &[("grpc-status", "0")]));
    world.poll().await;
}

/// Each is refused with a word of what and where, and leaves all as it was.
#[tokio::test]
async fn answers_that_are_none() {
    let shop = Shop::start(Reflection::V1).await;
    let mut world = shop
        .world("reflection = true\nsize-max = \"64KiB\"\nauth.bearer.secret = { value = \"hunter2-secret\" }")
        .await;
    shop.orders(json!([order("1", "STATUS_OPEN")]));
    world.poll().await;
    let before = world.rig.export().await;
    let list = |n: usize| shop.frame("shop.ListResponse", json!({ "orders": vec![order("5", "STATUS_OPEN"); n] }));
    let (one, big) = (list(1), list(5000));
    let cut = one.slice(..one.len() - 3);
    let cases: [(&str, Box<Answering>, &str); 7] = [
        (
            "an error that echoes the token",
            Box::new(|_| frames(vec![], &[("grpc-status", "16"), ("grpc-message", "bad token hunter2-secret")])),
            "gRPC status Unauthenticated: bad token ***",
        ),
        (
            "an error after data",
            Box::new(move |_| frames(vec![one.clone()], &[("grpc-status", "14"), ("grpc-message", "gone")])),
            "Unavailable: gone",
        ),
        ("no status at all", Box::new(move |_| frames(vec![], &[])), "gRPC status"),
        ("a message that is cut", Box::new(move |_| frames(vec![cut.clone()], &[("grpc-status", "0")])), "gRPC status"),
        (
            "a message that is none",
            Box::new(|_| frames(vec![framed(&[0xff; 20])], &[("grpc-status", "0")])),
            "an answer is not a shop.ListResponse",
        ),
        (
            "a message over the limit",
            Box::new(move |_| frames(vec![big.clone()], &[("grpc-status", "0")])),
            "the limit is: 8192 bytes",
        ),
        (
            "two answers to one question",
            {
                let two = vec![list(1), list(1)];
                Box::new(move |_| frames(two.clone(), &[("grpc-status", "0")]))
            },
            "2 answers came to one question",
        ),
    ];
    for (what, answer, told) in cases {
        shop.answers(move |asked| answer(asked));
        assert!(world.rig.poll().await.result.is_err(), "{what}");
        let error = world.rig.polled().progress.last_error.clone().expect("an error");
        assert!(error.contains(told) && error.contains(&shop.origin), "{what}: {error}");
        assert_eq!(world.rig.export().await, before, "{what}");
    }
    shop.answers(|_| frames(vec![], &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "90000")]));
    assert_eq!(world.rig.poll().await.hint, Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn a_stream_that_never_ends_meets_the_deadline_or_the_limit() {
    let shop = Shop::start(Reflection::V1).await;
    let text = |lines: &str| {
        format!(
            "[bridge.orders]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".orderId\"\nto = [\"me\"]\n\
             [bridge.orders.source.grpc]\ntarget = \"{}\"\nmethod = \"shop.Orders/Watch\"\nreflection = true\n{lines}\n",
            shop.origin
        )
    };
    let one = shop.frame("shop.Order", order("1", "STATUS_OPEN"));
    let slow = one.clone();
    shop.answers(move |_| {
        let one = slow.clone();
        Box::pin(stream::unfold((), move |()| {
            let one = one.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((http_body::Frame::data(one), ()))
            }
        }))
    });
    let mut world = World::start(&text("deadline = \"700ms\"")).await;
    let error = world.fail().await;
    assert!(error.ends_with("did not come within 700ms (`deadline`)"), "{error}");
    shop.answers(move |_| Box::pin(stream::repeat(one.clone()).map(http_body::Frame::data)));
    let mut world = World::start(&text("size-max = \"1MiB\"")).await;
    let error = world.fail().await;
    assert!(error.contains("is larger than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_none_of_grpc() {
    use crate::support::server::{Answer, Server};
    let server = Server::start(Arc::new(|_| Answer::new(200, "<html>").into())).await;
    let text = format!(
        "[bridge.orders]\nevery = \"1h\"\nto = [\"me\"]\n[bridge.orders.source.grpc]\ntarget = \"{}\"\nmethod = \"shop.Orders/List\"\nreflection = true\n",
        server.origin()
    );
    let mut world = World::start(&text).await;
    let error = world.fail().await;
    assert!(error.contains(&server.origin()), "{error}");
}

#[test]
fn what_a_descriptor_set_lacks_is_an_error_of_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("shop.binpb");
    std::fs::write(&file, descriptor_set()).expect("written");
    let text = |method: &str| {
        format!(
            "[bridge.orders]\nevery = \"1h\"\nto = [\"me\"]\nsource.grpc = {{ target = \"https://a.example\", method = \"{method}\", \
             descriptors = \"{}\" }}\n[endpoint.me]\nurl = \"https://a.example\"\n",
            file.display()
        )
    };
    load(&text("shop.Orders/List"));
    for (method, told) in [
        ("shop.Order/List", "no service is called shop.Order; known are: shop.Orders"),
        ("shop.Orders/Lists", "shop.Orders has no method Lists; it has: List, Watch, Upload"),
        ("shop.Orders/Upload", "takes a stream of requests"),
    ] {
        let path = dir.path().join("bridges.toml");
        std::fs::write(&path, text(method)).expect("written");
        let error =
            bellpull::config::load(&path, bellpull::config::Secrets::FormOnly).expect_err("refused").to_string();
        assert!(error.contains(told), "{error}");
    }
}
