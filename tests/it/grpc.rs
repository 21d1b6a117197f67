//! `source.grpc`: reflection, descriptor sets, streams, and servers that misbehave. The server's frames are made by hand, its
//! reflection is tonic's.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response, routing::post};
use bellpull::poller::Polling;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{
    DescriptorPool, DynamicMessage,
    prost::{Message, bytes},
    prost_types::FileDescriptorSet,
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
    /// What stands before the frames, if it is more than gRPC's own.
    head: Arc<Mutex<Head>>,
    seen: Arc<Mutex<Vec<(HeaderMap, Json)>>>,
    serving: AbortHandle,
}

/// Of an answer.
#[derive(Clone)]
struct Head {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl Default for Head {
    fn default() -> Self {
        Self { status: 200, content_type: "application/grpc", headers: Vec::new() }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn descriptor_set() -> Vec<u8> {
    set_of(&["shop.proto"])
}

/// Files of `tests/data/grpc` with all that they import.
fn set_of(files: &[&str]) -> Vec<u8> {
    let mut compiler = protox::Compiler::new(["tests/data/grpc"]).expect("a directory");
    compiler.include_imports(true).open_files(files).expect("they compile");
    compiler.encode_file_descriptor_set()
}

impl Shop {
    async fn start(reflection: Reflection) -> Self {
        Self::of(&descriptor_set(), &descriptor_set(), reflection, "").await
    }

    /// A server of all services of a set, below a path, that describes itself by another one.
    async fn of(set: &[u8], described: &[u8], reflection: Reflection, prefix: &str) -> Self {
        let pool = DescriptorPool::decode(set).expect("a set");
        let nothing: Arc<Answering> = Arc::new(|_| Box::pin(stream::empty()));
        let (answer, seen) = (Arc::new(Mutex::new(nothing)), Arc::new(Mutex::new(Vec::new())));
        let head = Arc::new(Mutex::new(Head::default()));
        // Without reflection a real server answers so.
        let mut router = Router::new().fallback(async || {
            let unimplemented =
                Response::builder().header("content-type", "application/grpc").header("grpc-status", "12");
            unimplemented.body(Body::empty()).expect("an answer")
        });
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let (answer, seen, head) = (answer.clone(), seen.clone(), head.clone());
            let (path, kind) = (format!("/{}/{}", method.parent_service().full_name(), method.name()), method.input());
            let handler = move |request: Request| {
                let (kind, answer, seen, head) = (kind.clone(), answer.clone(), seen.clone(), head.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let bytes = body.collect().await.expect("a body").to_bytes();
                    let asked = DynamicMessage::decode(kind, bytes.slice(5..)).expect("a message");
                    let asked = serde_json::to_value(&asked).expect("JSON");
                    seen.lock().unwrap().push((parts.headers, asked.clone()));
                    let frames = (answer.lock().unwrap())(asked).map(Ok::<_, Infallible>);
                    let head = head.lock().unwrap().clone();
                    let mut response =
                        Response::builder().status(head.status).header("content-type", head.content_type);
                    for (name, value) in head.headers {
                        response = response.header(name, value);
                    }
                    response.body(Body::new(StreamBody::new(frames))).expect("an answer")
                }
            };
            router = router.route(&path, post(handler));
        }
        let builder = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(described);
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
        if !prefix.is_empty() {
            // What stands outside of the path is another server.
            router = Router::new().nest(prefix, router).fallback(async || (StatusCode::NOT_FOUND, "no such backend"));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { origin, pool, answer, head, seen, serving }
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

    /// What is answered stands behind this.
    fn head(&self, status: u16, content_type: &'static str, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        *self.head.lock().unwrap() = Head { status, content_type, headers };
    }

    /// A bridge of notes.
    async fn notes(&self, lines: &str) -> World {
        World::start(&format!(
            "[bridge.notes]\nevery = \"1h\"\nalert.after = 100\nitems = \".notes[]\"\nkey = \".id\"\nto = [\"me\"]\n\
             [bridge.notes.source.grpc]\ntarget = \"{}\"\nmethod = \"notes.Notes/List\"\nreflection = true\n{lines}\n",
            self.origin
        ))
        .await
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
        (
            "a message that is cut",
            Box::new(move |_| frames(vec![cut.clone()], &[("grpc-status", "0")])),
            "it ends within a message",
        ),
        (
            "a message that is none",
            Box::new(|_| frames(vec![framed(&[0xff; 20])], &[("grpc-status", "0")])),
            "an answer is not a shop.ListResponse",
        ),
        (
            "a message over the limit",
            Box::new(move |_| frames(vec![big.clone()], &[("grpc-status", "0")])),
            "a message is larger than 8192 bytes, an eighth of `size-max`",
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

/// `https://host/grpc/v1` passed `check`, and the calls went to `/`, with the credentials, where a proxy has another
/// backend.
#[tokio::test]
async fn the_path_of_a_target_stands_before_each_call() {
    let set = descriptor_set();
    for reflection in [Reflection::V1, Reflection::V1Alpha] {
        let shop = Shop::of(&set, &set, reflection, "/grpc/v1").await;
        shop.orders(json!([order("1", "STATUS_OPEN")]));
        for path in ["/grpc/v1", "/grpc/v1/"] {
            let text = |path: &str| {
                format!(
                    "[bridge.orders]\nevery = \"1h\"\nitems = \".orders[]\"\nkey = \".orderId\"\nto = [\"me\"]\n\
                     [bridge.orders.source.grpc]\ntarget = \"{}{path}\"\nmethod = \"shop.Orders/List\"\nreflection = true\n",
                    shop.origin
                )
            };
            let mut world = World::start(&text(path)).await;
            assert_eq!(world.poll().await, Polling::Baseline { records: 1 }, "{path}");
            let mut world = World::start(&text("")).await;
            let error = world.fail().await;
            let told = "gRPC status Unimplemented: the answer is not gRPC's but 404 with text/plain; charset=utf-8: \
                        no such backend";
            assert!(error.contains(told), "{error}");
        }
    }
}

/// A balancer's 503 with `Retry-After: 120` was "invalid compression flag: 60", since a `<` was read as gRPC's flag,
/// and was asked again after 1, 6 and 16 s.
#[tokio::test]
async fn an_answer_in_plain_http_is_what_it_says() {
    let shop = Shop::start(Reflection::V1).await;
    let mut world = shop.world("reflection = true\nauth.bearer.secret = { value = \"hunter2-secret\" }").await;
    let html = "<html>\n<h1>Down</h1> hunter2-secret";
    shop.answers(move |_| frames(vec![Bytes::from(html)], &[]));
    for (status, content_type, headers, told, hint) in [
        (503, "text/html", &[("retry-after", "120")][..], "Unavailable: the answer is not gRPC's but 503", Some(120)),
        (429, "text/html", &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "50")], "Unavailable", Some(50)),
        (403, "text/html; charset=utf-8", &[], "PermissionDenied: the answer is not gRPC's but 403", None),
        (401, "text/html", &[], "Unauthenticated: the answer is not gRPC's but 401", None),
        (
            200,
            "text/html",
            &[],
            "Unknown: the answer is not gRPC's but 200 with text/html: <html> <h1>Down</h1> ***",
            None,
        ),
        (500, "application/grpc", &[], "Unknown: the answer is not gRPC's but 500", None),
    ] {
        shop.head(status, content_type, headers);
        let outcome = world.rig.poll().await;
        outcome.result.expect_err("a failed poll");
        let error = world.rig.polled().progress.last_error.clone().expect("as status shows it");
        assert!(error.contains(told) && error.contains(&shop.origin), "{told}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(outcome.hint, hint.map(Duration::from_secs), "{status}");
    }
    // A status of gRPC counts, whatever HTTP's is.
    shop.head(503, "text/html", &[("grpc-status", "5"), ("grpc-message", "no such shop")]);
    let error = world.fail().await;
    assert!(error.contains("NotFound: no such shop"), "{error}");
}

/// A 401 of a gateway before gRPC started no login.
#[tokio::test]
async fn a_401_in_plain_http_starts_one_login() {
    use crate::support::server::{Answer, Server};
    let logins = Arc::new(Mutex::new(0));
    let counted = logins.clone();
    let login = Server::start(Arc::new(move |_| {
        *counted.lock().unwrap() += 1;
        let token = format!(r#"{{"access_token":"token-{}","expires_in":3600}}"#, counted.lock().unwrap());
        Answer::json(token).into()
    }))
    .await;
    let shop = Shop::start(Reflection::V1).await;
    shop.orders(json!([order("1", "STATUS_OPEN")]));
    let lines = format!(
        "reflection = true\nauth.oauth2 = {{ token-url = \"{}/token\", client-id = \"me\", client-secret = {{ value = \"s3cret-s3cret\" }} }}",
        login.origin()
    );
    let mut world = shop.world(&lines).await;
    world.poll().await;
    shop.head(401, "text/plain", &[]);
    world.fail().await;
    assert_eq!(*logins.lock().unwrap(), 2, "one more login, and no third");
    let seen = shop.seen.lock().unwrap();
    let tokens: Vec<&str> = seen.iter().map(|(headers, _)| headers["authorization"].to_str().unwrap()).collect();
    assert_eq!(tokens, ["Bearer token-1", "Bearer token-1", "Bearer token-2"]);
}

/// Of RESOURCE_EXHAUSTED with a RetryInfo of 60 s nothing was told and nothing waited for. Details that are not base64
/// ended the poll's task.
#[tokio::test]
async fn what_a_status_tells_is_heard() {
    use base64::Engine as _;
    // google.rpc.Status { details: [RetryInfo { 60 s }, ErrorInfo { "QUOTA", "shop.example" }] }
    let any = |name: &str, value: &[u8]| {
        let url = format!("type.googleapis.com/google.rpc.{name}");
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("short");
        let inner = [&[10, length(url.as_bytes())][..], url.as_bytes(), &[18, length(value)], value].concat();
        [&[26, length(&inner)][..], &inner].concat()
    };
    let details = [
        any("RetryInfo", &[10, 2, 8, 60]),
        any("ErrorInfo", &[&[10, 5][..], b"QUOTA", &[18, 12], b"shop.example"].concat()),
    ]
    .concat();
    let details = base64::engine::general_purpose::STANDARD.encode(details);
    let shop = Shop::start(Reflection::V1).await;
    let mut world = shop.world("reflection = true").await;
    let told = "ResourceExhausted: slow down (QUOTA of shop.example)";
    for (details, told, hint) in [
        (details.as_str(), told, Some(60)),
        (details.trim_end_matches('='), told, Some(60)),
        ("***", "ResourceExhausted: slow down", None),
    ] {
        let status = [("grpc-status", "8"), ("grpc-message", "slow down"), ("grpc-status-details-bin", details)];
        for in_trailers in [true, false] {
            if in_trailers {
                let owned = details.to_owned();
                shop.head(200, "application/grpc", &[]);
                shop.answers(move |_| {
                    frames(
                        vec![],
                        &[("grpc-status", "8"), ("grpc-message", "slow down"), ("grpc-status-details-bin", &owned)],
                    )
                });
            } else {
                shop.head(200, "application/grpc", &status);
                shop.answers(|_| frames(vec![], &[]));
            }
            let outcome = world.rig.poll().await;
            let error = outcome.result.expect_err("a failed poll").to_string();
            assert!(error.ends_with(told), "{error}");
            assert_eq!(outcome.hint, hint.map(Duration::from_secs), "{details} {in_trailers}");
        }
    }
}

/// grpcio with `compression=Gzip` packs whatever was offered: "compressed with `gzip` which isn't supported".
#[tokio::test]
async fn packed_messages_are_read() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    let packed = |frame: &Bytes| {
        let packed = gzip(&frame[5..]);
        [&[1][..], &u32::try_from(packed.len()).expect("small").to_be_bytes(), &packed].concat()
    };
    let shop = Shop::start(Reflection::V1).await;
    let mut world = shop.world("reflection = true\ndeadline = \"20s\"").await;
    let one = shop.frame("shop.ListResponse", json!({ "orders": [order("5", "STATUS_OPEN")] }));
    let one = Bytes::from(packed(&one));
    shop.head(200, "application/grpc", &[("grpc-encoding", "gzip")]);
    shop.answers(move |_| frames(vec![one.clone()], &[("grpc-status", "0")]));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let large = json!({ "orders": [{ "orderId": "5", "tags": ["0".repeat(3 << 20)] }] });
    let bomb = Bytes::from(packed(&shop.frame("shop.ListResponse", large)));
    assert!(bomb.len() < 16 << 10, "{}", bomb.len());
    shop.answers(move |_| frames(vec![bomb.clone()], &[("grpc-status", "0")]));
    let error = world.fail().await;
    assert!(error.contains("grows more than 200 times by decompression"), "{error}");
    let seen = shop.seen.lock().unwrap();
    let (headers, _) = &seen[0];
    assert_eq!(headers["grpc-accept-encoding"], "gzip");
    let left = headers["grpc-timeout"].to_str().unwrap().strip_suffix('m').unwrap().parse::<u64>().unwrap();
    assert!((1..=20_000).contains(&left), "what is left of the deadline: {left}");
}

/// The server knew the type and would have described it, but its service's file did not import it: no record passed.
#[tokio::test]
async fn the_type_of_an_any_is_asked_for() {
    let all = set_of(&["notes.proto", "extra.proto"]);
    let shop = Shop::of(&all, &all, Reflection::V1, "").await;
    let any = |text: &str| {
        json!({ "@type": "type.googleapis.com/extra.Extra", "text": text, "inner": {
        "@type": "type.googleapis.com/notes.Note", "id": "7",
    } })
    };
    let notes = |text: &str| json!({ "notes": [{ "id": "1", "detail": any(text) }, { "id": "2" }] });
    let frame = shop.frame("notes.ListResponse", notes("x"));
    shop.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
    let mut world = shop.notes("").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    let stored: Json = serde_json::from_str(&world.rig.snapshot().await["1"]).expect("JSON");
    assert_eq!(stored["detail"], any("x"));
    let frame = shop.frame("notes.ListResponse", notes("y"));
    shop.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["notes.updated 1 #1"]);
    // A type that the server does not know either.
    let shop = Shop::of(&all, &set_of(&["notes.proto"]), Reflection::V1, "").await;
    let frame = shop.frame("notes.ListResponse", notes("x"));
    shop.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
    let mut world = shop.notes("").await;
    for _ in 0..2 {
        world.rig.poll().await.result.expect("the other records pass");
    }
    let stored: Json = serde_json::from_str(&world.rig.snapshot().await["1"]).expect("JSON");
    assert_eq!(stored["detail"]["@type"], "type.googleapis.com/extra.Extra");
    assert!(stored["detail"]["value"].is_string(), "{stored}");
}

/// Servers that leave files out of their reflection could not be polled: well-known ones, and those of options.
#[tokio::test]
async fn files_that_a_server_does_not_give() {
    let all = set_of(&["notes.proto"]);
    let without = |gone: fn(&str) -> bool| {
        let mut set = FileDescriptorSet::decode(all.as_slice()).expect("a set");
        set.file.retain(|file| !gone(file.name()));
        set.encode_to_vec()
    };
    let cases: [(&str, Vec<u8>); 3] = [
        ("well-known files", without(|name| name.starts_with("google/protobuf/"))),
        ("a file of options", without(|name| name == "option.proto")),
        ("both", without(|name| name != "notes.proto")),
    ];
    for (what, described) in cases {
        for reflection in [Reflection::V1, Reflection::V1Alpha] {
            let shop = Shop::of(&all, &described, reflection, "").await;
            let note = json!({ "id": "1", "at": "2026-11-23T04:05:06Z", "detail": {
                "@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s",
            } });
            let frame = shop.frame("notes.ListResponse", json!({ "notes": [note] }));
            shop.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
            let mut world = shop.notes("").await;
            assert_eq!(world.poll().await, Polling::Baseline { records: 1 }, "{what}");
            let stored: Json = serde_json::from_str(&world.rig.snapshot().await["1"]).expect("JSON");
            assert_eq!(stored, note, "{what}");
        }
    }
    // A type that is needed is another matter.
    let mut set = FileDescriptorSet::decode(all.as_slice()).expect("a set");
    set.file.retain(|file| file.name() != "option.proto");
    for file in set.file.iter_mut().filter(|file| file.name() == "notes.proto") {
        let field = file.message_type.iter_mut().flat_map(|m| &mut m.field).find(|f| f.name() == "inner");
        field.expect("it is there").type_name = Some(".option.Rules".into());
    }
    let shop = Shop::of(&all, &set.encode_to_vec(), Reflection::V1, "").await;
    let mut world = shop.notes("").await;
    let error = world.fail().await;
    assert!(error.contains("it does not know its own option.proto") && error.contains("descriptors"), "{error}");
}

/// The first word of an enum, 0 and "" were absent, in silence: `when = '.state == "OPEN"'` never held, id 0 was no
/// key.
#[tokio::test]
async fn defaults_are_there_on_request() {
    let all = set_of(&["notes.proto"]);
    let shop = Shop::of(&all, &all, Reflection::V1, "").await;
    let frame = shop.frame("notes.ListResponse", json!({ "notes": [{ "text": "a" }] }));
    shop.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
    let mut world = shop.notes("").await;
    let error = world.fail().await;
    assert!(error.contains("has no key"), "{error}");
    let mut world = shop.notes("defaults = true").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let stored: Json = serde_json::from_str(&world.rig.snapshot().await["0"]).expect("JSON");
    assert_eq!((&stored["state"], &stored["tags"], &stored["rank"]), (&json!("OPEN"), &json!([]), &Json::Null));
    // It is a part of the definition where it is true, and only there.
    let text = |lines: &str| {
        format!(
            "[bridge.notes]\nevery = \"1h\"\nto = [\"me\"]\n[bridge.notes.source.grpc]\ntarget = \"https://a.example\"\n\
             method = \"notes.Notes/List\"\nreflection = true\n{lines}\n[endpoint.me]\nurl = \"https://a.example\"\n"
        )
    };
    let fingerprint = |lines| load(&text(lines)).1.bridges.values().next().expect("a bridge").fingerprint();
    let [none, off, on] = ["", "defaults = false", "defaults = true"].map(fingerprint);
    assert_eq!(none.text(), off.text());
    assert_eq!(on.text().replace("defaults = true\n", ""), none.text());
    assert_ne!(on.hash(), none.hash());
}

/// "timestamp out of range" named neither the record nor the field, of a list of thousands.
#[tokio::test]
async fn a_value_without_json_is_named() {
    let all = set_of(&["notes.proto"]);
    let shop = Shop::of(&all, &all, Reflection::V1, "").await;
    // Note { at: Timestamp { seconds: 1700000000000 } }: milliseconds, as seconds.
    let at = [8, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31];
    let note = [&[106, 7][..], &at].concat();
    let list = [&[10, 0][..], &[10, 9], &note].concat();
    let frame = framed(&list);
    shop.answers(move |_| frames(vec![frame.clone()], &[("grpc-status", "0")]));
    let mut world = shop.notes("").await;
    let error = world.fail().await;
    assert!(error.contains("`.notes[1].at` has no form in JSON: timestamp out of range"), "{error}");
}

/// A connection of gRPC that died in silence was used for one deadline after the other.
#[tokio::test]
async fn the_call_after_a_deadline_takes_a_new_connection() {
    let mut shop = Shop::start(Reflection::V1).await;
    shop.orders(json!([order("1", "STATUS_OPEN")]));
    let server = shop.origin.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address");
    let way = crate::silence::Way::before(server).await;
    shop.origin = way.origin.clone();
    let mut world = shop.world("reflection = true\ndeadline = \"1s\"").await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    way.forget();
    let error = world.fail().await;
    assert!(error.contains("did not come within 1s (`deadline`)"), "{error}");
    world.poll().await;
    assert_eq!(way.opened(), 2);
}

#[test]
fn a_target_with_a_query_is_refused() {
    let text = |target: &str| {
        format!(
            "[bridge.orders]\nevery = \"1h\"\nto = [\"me\"]\n\
             source.grpc = {{ target = \"{target}\", method = \"shop.Orders/List\", reflection = true }}\n\
             [endpoint.me]\nurl = \"https://a.example\"\n"
        )
    };
    load(&text("https://a.example/grpc/v1/"));
    for (target, told) in
        [("https://a.example/?key=7", "it has a query"), ("https://a.example/v1#x", "it has a fragment")]
    {
        let error = crate::support::rig::refused(&text(target));
        assert!(error.contains(told) && error.contains("`bridge.orders.source.grpc.target`"), "{error}");
    }
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
