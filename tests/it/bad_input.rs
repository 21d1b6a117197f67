//! Answers that are no answers: each gives a clear error, changes nothing, and the next good answer brings exactly
//! what it would have brought without them.

use std::time::Duration;

use std::io::Write;

use bellpull::poller::Polling;

use crate::support::{
    rig::World,
    server::{Answer, Reply, eventually},
};

/// A bridge with three records, of which the good answer changes one, drops one and adds one.
async fn bad(lines: &str, replies: Vec<Reply>, words: &[&str]) {
    let text = format!(
        "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\ndeletes.after = 1\n{lines}\n\
         source.http.url = \"UPSTREAM/items\"\n"
    );
    let mut world = World::start(&text).await;
    let origin = world.upstream.origin();
    world.upstream.fill(3);
    world.poll().await;
    let (before, snapshot) = (world.rig.export().await, world.rig.snapshot().await);
    world.upstream.set(&[("1", r#"{"id":1,"v":0}"#), ("2", r#"{"id":2,"v":5}"#), ("4", r#"{"id":4,"v":0}"#)]);
    replies.into_iter().for_each(|reply| world.upstream.next(reply));
    let error = world.fail().await;
    for word in words {
        let word = word.replace("ORIGIN", &origin);
        assert!(error.contains(&word), "{error:?} says {word:?}");
    }
    assert!(error.len() < 500, "{error}");
    assert_eq!(world.rig.export().await, before, "the snapshot and the queue are as they were");
    assert_eq!(world.rig.snapshot().await, snapshot);
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 1, deleted: 1 });
    assert_eq!(world.rig.polled().progress.last_error, None);
    assert_eq!(world.rig.lines().await, ["orders.created 4 #1", "orders.updated 2 #2", "orders.deleted 3 #3"]);
    assert_eq!(world.receiver.wait_taken("/me", 3).await.len(), 3);
}

fn raw(text: &str) -> Vec<Reply> {
    vec![Reply::Raw(text.as_bytes().to_vec())]
}

fn json(text: &str) -> Vec<Reply> {
    vec![Answer::json(text).into()]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).expect("memory takes it");
    out.finish().expect("memory takes it")
}

#[tokio::test]
async fn an_answer_that_is_no_json() {
    bad("", json("[{\"id\":1},"), &["the answer is not JSON", "it begins: [{\"id\":1},"]).await;
    bad("", json(""), &["the answer is empty"]).await;
    bad("", json("OK"), &["the answer is not JSON", "it begins: OK"]).await;
    bad("", vec![Answer::json(vec![b'[', b'"', 0xff, b'"', b']']).into()], &["it is not UTF-8"]).await;
    // `.[]` reaches into an object, as jq's does: the values have no key.
    bad("", json(r#"{"error":"not a list"}"#), &["`key` on record 1 of page 1", "cannot take `id` of a string"]).await;
    bad("", json("[{\"id\":1}]\n<!-- 3 ms -->"), &["the answer is not JSON: trailing characters"]).await;
    bad("", json("[{\"id\":1}] [{\"id\":2}]"), &["the answer is not JSON: trailing characters"]).await;
    // Where another expression reads it first, too.
    let cursor =
        "source.http.pages.cursor = { param = \"c\", next = \"if type == \\\"array\\\" then null else .next end\" }";
    bad(cursor, json("{\"next\": \"a\""), &["the answer is not JSON"]).await;
    bad("source.http.fail = \"false\"", json("{"), &["the answer is not JSON"]).await;
}

#[tokio::test]
async fn a_login_page_instead_of_json() {
    let page = "<!doctype html>\n<html><title>Sign in</title>";
    let html = Answer::new(200, page).header("content-type", "text/html; charset=utf-8");
    bad(
        "",
        vec![html.into()],
        &[
            "the answer is HTML (text/html; charset=utf-8), not JSON",
            "a login or an error page?",
            "<title>Sign in</title>",
        ],
    )
    .await;
    bad("", json(page), &["the answer is HTML (application/json), not JSON"]).await;
}

#[tokio::test]
async fn statuses_that_are_no_data() {
    bad("", vec![Answer::new(503, "be back\n soon").into()], &["ORIGIN answered 503: be back soon"]).await;
    bad("", vec![Answer::new(401, "").into()], &["ORIGIN answered 401"]).await;
    bad(
        "",
        vec![Answer::json("[]").into()].into_iter().map(|_: Reply| Answer::new(404, "[]").into()).collect(),
        &["ORIGIN answered 404: []"],
    )
    .await;
    bad("", vec![Answer::new(206, "[]").into()], &["ORIGIN answered 206"]).await;
    bad("", vec![Answer::new(304, "").into()], &["ORIGIN answered 304"]).await;
}

#[tokio::test]
async fn records_without_a_key_or_with_the_same() {
    let words = ["record 2 of page 1 has no key: `key` gives null; the record has `no_id`: did you mean `.no_id`?"];
    bad("", json(r#"[{"id":1},{"no_id":2}]"#), &words).await;
    bad("", json(r#"[{"id":1},{"id":{}}]"#), &["record 2 of page 1 has no key: `key` gives an object"]).await;
    bad("", json(r#"[{"id":1},{"id":5},{"id":1,"v":2}]"#), &["records 1 and 3 of page 1 have the same key \"1\""])
        .await;
    bad("", json(r#"[{"id":"1"},{"id":1}]"#), &["records 1 and 2 of page 1 have the same key \"1\""]).await;
}

#[tokio::test]
async fn a_truncated_body() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let words = ["the answer of ORIGIN ended early or is damaged"];
    bad("", raw(&format!("{head}content-length: 100\r\n\r\n[{{\"id\":1}}]")), &words).await;
    bad("", raw(&format!("{head}transfer-encoding: chunked\r\n\r\n8\r\n[{{\"id\":1\r\n")), &words).await;
    let whole = gzip(br#"[{"id":1,"text":"some more bytes so that there is something to cut"}]"#);
    let cut = Answer::json(&whole[..whole.len() - 12]).header("content-encoding", "gzip");
    bad("", vec![cut.into()], &words).await;
    // Shorter than it is: what is left over is not an answer to anything.
    bad("", raw(&format!("{head}content-length: 5\r\n\r\n[{{\"id\":1}}]")), &["the answer is not JSON"]).await;
}

#[tokio::test]
async fn no_answer_at_all() {
    bad("", vec![Reply::Close], &["ORIGIN"]).await;
    bad("source.http.timeout = \"500ms\"", vec![Reply::Hang], &["ORIGIN did not answer within 500ms"]).await;
    let part = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n[".to_vec();
    bad("source.http.timeout = \"500ms\"", vec![Reply::Part(part)], &["ORIGIN did not answer within 500ms"]).await;
    bad("", raw("SSH-2.0-OpenSSH_9.6\r\n"), &["ORIGIN"]).await;
}

#[tokio::test]
async fn a_walk_that_takes_too_long() {
    let first = Answer::json(r#"[{"id":10}]"#).header("link", "</items?p=2>; rel=next");
    bad(
        "source.http.pages.link = {}\nsource.http.deadline = \"1s\"",
        vec![first.into(), Reply::Hang],
        &["all pages of ORIGIN did not come within 1s (`deadline`)"],
    )
    .await;
}

#[tokio::test]
async fn a_compression_bomb() {
    use async_compression::tokio::write::{BrotliEncoder, ZlibEncoder, ZstdEncoder};
    use tokio::io::AsyncWriteExt;

    let spaces = vec![b' '; 24 << 20];
    let mut bombs = vec![("gzip", gzip(&spaces))];
    macro_rules! bomb {
        ($name:literal, $encoder:ident) => {
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(&spaces).await.expect("compressed");
            encoder.shutdown().await.expect("compressed");
            bombs.push(($name, encoder.into_inner()));
        };
    }
    bomb!("br", BrotliEncoder);
    bomb!("zstd", ZstdEncoder);
    bomb!("deflate", ZlibEncoder);
    // A file of gzip is unpacked under the same guard.
    let file = Answer::new(200, gzip(&spaces)).header("content-type", "application/gzip");
    let words = ["the answer of ORIGIN grows more than 200 times by decompression: a compression bomb"];
    bad("", vec![file.into()], &words).await;
    for (encoding, bomb) in bombs {
        assert!(bomb.len() < 64 << 10, "{encoding}: {}", bomb.len());
        let answer = Answer::json(bomb).header("content-encoding", encoding);
        bad("", vec![answer.into()], &words).await;
    }
}

/// A byte a second: each of them would do for a timeout that begins again with every byte.
#[tokio::test]
async fn a_body_that_trickles() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let trickle = Reply::Trickle { head, every: Duration::from_secs(1) };
    bad("source.http.timeout = \"2500ms\"", vec![trickle], &["ORIGIN did not answer within 2s"]).await;
}

/// Ten gigabytes are announced and sent: no more than the limit is taken.
#[tokio::test]
async fn a_body_of_ten_gigabytes() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10737418240\r\n\r\n".to_vec();
    let endless = Reply::Endless { head, chunk: vec![b' '; 64 << 10], times: 163_840 };
    let words = ["the answer of ORIGIN is larger than 33554432 bytes after decompression (`size-max`)"];
    bad("", vec![endless], &words).await;
}

#[tokio::test]
async fn a_content_encoding_that_is_not_so() {
    let plain = Answer::json("[]").header("content-encoding", "gzip");
    bad("", vec![plain.into()], &["the answer of ORIGIN ended early or is damaged"]).await;
    let unknown = Answer::json("\u{fffd}").header("content-encoding", "snappy");
    bad("", vec![unknown.into()], &["the answer is not JSON"]).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_or_never_ends() {
    let words = ["the answer of ORIGIN is larger than 65536 bytes after decompression (`size-max`)"];
    let large = format!("[{{\"id\":1,\"x\":\"{}\"}}]", "x".repeat(70_000));
    bad("source.http.size-max = \"64KiB\"", json(&large), &words).await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000)).into_bytes();
    bad("source.http.size-max = \"64KiB\"", vec![Reply::Endless { head, chunk, times: usize::MAX }], &words).await;
    let mut pages: Vec<Reply> = Vec::new();
    for n in 0..9 {
        let text = format!("[{{\"id\":{n},\"x\":\"{}\"}}]", "x".repeat(60_000));
        pages.push(Answer::json(text).header("link", format!("</items?p={n}>; rel=next")).into());
    }
    bad(
        "source.http.size-max = \"64KiB\"\nsource.http.pages.link = {}",
        pages,
        &["all pages of ORIGIN are larger than 524288 bytes"],
    )
    .await;
}

#[tokio::test]
async fn a_document_nested_too_deep() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    bad("", json(&deep(100_000)), &["the answer is nested deeper than 128 (`depth-max`)"]).await;
    bad("source.http.depth-max = 3", json(&deep(4)), &["the answer is nested deeper than 3 (`depth-max`)"]).await;
}

#[tokio::test]
async fn a_next_page_on_another_host() {
    let link =
        |target: &str| vec![Answer::json(r#"[{"id":1}]"#).header("link", format!("<{target}>; rel=\"next\"")).into()];
    for (target, origin) in [
        ("http://169.254.169.254/latest/meta-data", "http://169.254.169.254"),
        ("http://127.0.0.1:1/items?page=2", "http://127.0.0.1:1"),
        ("//[::1]:99/items", "http://[::1]:99"),
        ("https://example.com/items", "https://example.com"),
    ] {
        let words = [format!("ORIGIN names the next page {origin}, which is on another origin")];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        bad("source.http.pages.link = {}", link(target), &words).await;
    }
    let lines = "source.http.pages.next-url.next = \"if type == \\\"array\\\" then null else .next end\"";
    bad(lines, json(r#"{"next":"http://169.254.169.254/"}"#), &["names the next page http://169.254.169.254"]).await;
}

#[tokio::test]
async fn a_page_that_fails_in_the_middle_of_a_walk() {
    let first = || Reply::from(Answer::json(r#"[{"id":1,"v":0}]"#).header("link", "</items?page=2>; rel=\"next\""));
    bad("source.http.pages.link = {}", vec![first(), Answer::new(500, "oops").into()], &["ORIGIN answered 500: oops"])
        .await;
    bad("source.http.pages.link = {}", vec![first(), Answer::json("[{}]").into()], &["record 1 of page 2 has no key"])
        .await;
    // With more time the page would be asked for again.
    bad("source.http.pages.link = {}\nsource.http.deadline = \"1s\"", vec![first(), Reply::Close], &["ORIGIN"]).await;
}

#[tokio::test]
async fn a_source_at_an_address_that_is_refused() {
    for (host, address, range) in [
        ("169.254.169.254", "169.254.169.254", "169.254.0.0/16 (link-local and cloud metadata)"),
        ("2852039166", "169.254.169.254", "169.254.0.0/16 (link-local and cloud metadata)"),
        ("0xa9.0xfe.0xa9fe", "169.254.169.254", "169.254.0.0/16 (link-local and cloud metadata)"),
        ("[::ffff:169.254.169.254]", "169.254.169.254", "169.254.0.0/16 (link-local and cloud metadata)"),
        ("10.1.2.3", "10.1.2.3", "10.0.0.0/8 (private)"),
    ] {
        let text =
            format!("[bridge.meta]\nevery = \"1m\"\nto = [\"me\"]\nsource.http.url = \"http://{host}/latest\"\n");
        // One that stands in the file is refused with it.
        let network = "[network]\nallow = []\n[endpoint.me]\nurl = \"https://example.com\"\nsign.github.secrets = [{ env = \"A\" }]\n";
        let place = crate::support::rig::refused(&(text.clone() + network));
        assert!(place.contains(range), "{place}");
        let text =
            text.replace(&format!("\"http://{host}/latest\""), &format!("{{ jq = '\"http://{host}/latest\"' }}"));
        let mut world = World::start(&text).await;
        let error = world.fail().await;
        let address = if host.starts_with('[') { "::ffff:a9fe:a9fe" } else { address };
        assert!(error.contains(range) && error.contains("`network.allow`"), "{error}");
        assert!(error.contains(address) || error.contains("169.254.169.254"), "{error}");
    }
}

/// An item let the documents' own example walk to any path of its origin, with the credentials.
#[tokio::test]
async fn a_url_that_jq_makes_stays_in_its_path() {
    for item in ["../../user", "%2e%2e/%2E./admin?", "a/./b", "..", "a\\\\..\\\\b", ".%2e/x", "\\t../x"] {
        let text = format!(
            "[bridge.a]\nevery = \"1m\"\nto = [\"me\"]\nsource.http.url = {{ jq = '\"UPSTREAM/repos/{item}/issues\"' }}\n"
        );
        let mut world = World::start(&text).await;
        let error = world.fail().await;
        assert!(error.contains("`url`: "), "{item}: {error}");
        assert_eq!(world.upstream.count(), 0, "{item}");
    }
    let text = "[bridge.a]\nevery = \"1m\"\nto = [\"me\"]\nsource.http.url = { jq = '\"http://user@127.0.0.1:1/\"' }\n";
    let error = World::start(text).await.fail().await;
    assert!(error.contains("a user or password"), "{error}");
}

/// svix#792: "blocked IP", with no word of which.
#[tokio::test]
async fn an_endpoint_at_an_address_that_is_refused() {
    let text = "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"meta\", \"me\"]\n\
        source.http.url = \"UPSTREAM/items\"\n\
        [endpoint.meta]\nurl = { jq = '\"http://169.254.169.254/hook\"' }\nsign.standard.secrets = [{ value = \"SECRET\" }]\n\
        [endpoint.me]\nurl = \"RECEIVER/me\"\nsign.standard.secrets = [{ value = \"SECRET\" }]\n";
    let mut world = World::start(text).await;
    world.poll().await;
    world.upstream.fill(2);
    world.poll().await;
    world.receiver.wait_taken("/me", 2).await;
    let status = async || world.rig.deliveries.status().await.remove("meta").expect("an endpoint");
    eventually("it was tried", async || status().await.last_error.is_some()).await;
    let status = status().await;
    let error = status.last_error.unwrap();
    assert!(error.contains("169.254.169.254 is refused"), "{error}");
    assert!(
        error.contains("169.254.0.0/16 (link-local and cloud metadata)") && error.contains("`network.allow`"),
        "{error}"
    );
    assert_eq!((status.state.word(), status.waiting), ("failing", 2), "kept: the file may be wrong, not the events");
}
