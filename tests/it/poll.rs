//! From an answer to events: what is asked, what counts as a change, and what is sent of it.

use std::{sync::Arc, time::Duration};

use bellpull::{clock::Clock, model::Timestamp, poller::Polling, store::memory::MemoryEngine};
use serde_json::json;

use crate::support::{
    rig::{LIST, World, check_patch, line, list},
    server::{Answer, Request, Server},
    upstream::Paging,
};

fn changed(created: u64, updated: u64, deleted: u64) -> Polling {
    Polling::Changed { created, updated, deleted }
}

#[tokio::test]
async fn a_baseline_is_silent() {
    let mut world = World::start(LIST).await;
    world.upstream.fill(3);
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    assert_eq!(world.rig.lines().await, [""; 0]);
    assert_eq!(world.rig.snapshot().await.len(), 3);
}

#[tokio::test]
async fn an_emitted_first_poll_creates_every_record() {
    let mut world = World::start(&list("first-poll = \"emit\"")).await;
    world.upstream.fill(2);
    assert_eq!(world.poll().await, changed(2, 0, 0));
    assert_eq!(world.rig.lines().await, ["orders.created 1 #1", "orders.created 2 #2"]);
}

#[tokio::test]
async fn created_updated_and_deleted_arrive_once_with_a_patch_that_applies() {
    let mut world = World::start(LIST).await;
    world.upstream.set(&[("1", r#"{"id":1,"status":"open"}"#), ("2", r#"{"id":2,"status":"open"}"#)]);
    world.poll().await;
    world.upstream.set(&[("1", r#"{"id":1,"status":"paid"}"#), ("3", r#"{"id":3,"status":"open"}"#)]);
    assert_eq!(world.poll().await, changed(1, 1, 1));
    assert_eq!(world.poll().await, Polling::Unchanged);
    let mut received = world.receiver.wait_taken("/me", 3).await;
    received.sort_by_key(|r| r.sequence());
    let stored = world.rig.stored_events().await;
    for (received, stored) in received.iter().zip(&stored) {
        assert_eq!(received.id, stored.event.id.to_string());
        assert_eq!(received.bytes, stored.event.body);
        check_patch(&received.body);
    }
    let lines: Vec<_> = received.iter().map(|r| line(&r.body)).collect();
    assert_eq!(lines, ["orders.created 3 #1", "orders.updated 1 #2", "orders.deleted 2 #3"]);
    let [created, updated, deleted] = received.iter().map(|r| &r.body["data"]).collect::<Vec<_>>()[..] else {
        panic!("three")
    };
    assert_eq!((created.get("before"), &created["after"]), (None, &json!({"id":3,"status":"open"})));
    assert_eq!((&deleted["before"], deleted.get("after")), (&json!({"id":2,"status":"open"}), None));
    assert_eq!(updated["patch"], json!([{ "op": "replace", "path": "/status", "value": "paid" }]));
    assert_eq!(updated["stream"].as_str(), Some(&**world.rig.store.stream()));
    assert_eq!(world.receiver.received().len(), 3);
}

/// huginn#257: A, then B, then A again was swallowed.
#[tokio::test]
async fn a_record_that_turns_back_is_a_change_each_time() {
    let mut world = World::start(LIST).await;
    for (n, v) in ["a", "b", "a", "b"].iter().enumerate() {
        world.upstream.set(&[("1", &format!(r#"{{"id":1,"v":"{v}"}}"#))]);
        world.poll().await;
        assert_eq!(world.rig.lines().await.len(), n);
    }
}

/// changedetection.io#596, #2469: another order of records or keys fired.
#[tokio::test]
async fn order_and_spelling_are_no_change() {
    let mut world = World::start(LIST).await;
    world.upstream.set(&[("1", r#"{"id":1,"a":1.0,"b":[1,2]}"#), ("2", r#"{"id":2}"#)]);
    world.poll().await;
    world.upstream.set(&[("2", r#"{ "id" : 2 }"#), ("1", r#"{"b":[1,2],"a":1,"id":1}"#)]);
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(world.poll().await, Polling::Unchanged, "the later bytes are the accepted ones now");
    assert!(world.rig.lines().await.is_empty());
}

/// All kinds of pages, with records that change on the last one.
#[tokio::test]
async fn every_kind_of_pages_brings_all_records() {
    for (paging, items, lines) in [
        (Paging::Link(2), ".[]", "source.http.pages.link = {}"),
        (Paging::Page(2), ".[]", "source.http.pages.page = { size-param = \"per_page\", size = 2 }"),
        (Paging::Page(2), ".[]", "source.http.pages.page = {}"),
        (Paging::Offset(2), ".[]", "source.http.pages.offset = { limit-param = \"limit\", limit = 2 }"),
        (Paging::Offset(2), ".[]", "source.http.pages.offset = {}"),
        (Paging::Cursor(2), ".data[]", "source.http.pages.cursor = { param = \"cursor\", next = \".next_cursor\" }"),
        (Paging::NextUrl(2), ".data[]", "source.http.pages.next-url = { next = \".next\" }"),
        (
            Paging::PageInBody(2),
            ".[]",
            "source.http.method = \"POST\"\nsource.http.json = { q = 1 }\nsource.http.pages.page = { json = \"page.number\", size = 2 }",
        ),
    ] {
        let mut world =
            World::start(&list(&format!("deletes.after = 1\n{lines}")).replace("\".[]\"", &format!("{items:?}"))).await;
        world.upstream.fill(7);
        world.upstream.paging(paging);
        assert_eq!(world.poll().await, Polling::Baseline { records: 7 }, "{paging:?}");
        let pages = world.upstream.count();
        assert!(pages >= 4, "{paging:?} took {pages} requests");
        world.upstream.put("7", r#"{"id":7,"v":1}"#);
        assert_eq!(world.poll().await, changed(0, 1, 0), "{paging:?}");
        world.upstream.remove("7");
        assert_eq!(world.poll().await, changed(0, 0, 1), "{paging:?}");
        assert_eq!(world.poll().await, Polling::Unchanged, "{paging:?}");
        assert_eq!(world.rig.lines().await, ["orders.updated 7 #1", "orders.deleted 7 #2"], "{paging:?}");
    }
}

#[tokio::test]
async fn the_parameters_of_pages_are_sent_as_the_file_says() {
    let mut world = World::start(&list("source.http.pages.offset = { param = \"from\", limit-param = \"count\", limit = 3 }\nsource.http.query = { q = \"a b&c\", tag = [\"x\", \"y\"] }")).await;
    world.upstream.next(Answer::json(r#"[{"id":1},{"id":2},{"id":3}]"#));
    world.upstream.next(Answer::json(r#"[{"id":4}]"#));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(
        targets,
        ["/items?q=a%20b%26c&tag=x&tag=y&count=3&from=0", "/items?q=a%20b%26c&tag=x&tag=y&count=3&from=3"]
    );
}

/// What a walk knows of a page's bytes was kept by the bytes alone: a page of unchanged records that moved to another
/// place led to the page that had followed it before, and the pages between were taken for deleted.
#[tokio::test]
async fn a_page_that_moves_as_a_whole_leads_to_the_page_after_its_new_place() {
    for (paging, lines) in [
        (Paging::Page(2), "source.http.pages.page = { size = 2 }"),
        (Paging::Page(2), "source.http.pages.page = {}"),
        (Paging::Offset(2), "source.http.pages.offset = { limit = 2 }"),
        (Paging::Offset(2), "source.http.pages.offset = {}"),
        (Paging::Link(2), "source.http.pages.link = {}"),
    ] {
        let mut world = World::start(&list(&format!("deletes.after = 1\n{lines}"))).await;
        world.upstream.fill(9);
        world.upstream.paging(paging);
        world.poll().await;
        world.upstream.remove("1");
        world.upstream.remove("2");
        assert_eq!(world.poll().await, changed(0, 0, 2), "{paging:?}");
        world.upstream.put_first("11", r#"{"id":11}"#);
        world.upstream.put_first("10", r#"{"id":10}"#);
        assert_eq!(world.poll().await, changed(2, 0, 0), "{paging:?}");
    }
}

/// While a walk goes on, a record is added in front: what follows shifts, one record comes on two pages.
#[tokio::test]
async fn drift_between_pages_is_no_error_and_deletes_nothing() {
    let mut world = World::start(&list("source.http.pages.page = { size = 2 }")).await;
    world.upstream.fill(3);
    world.upstream.paging(Paging::Page(2));
    world.poll().await;
    world.upstream.next(Answer::json(r#"[{"id":1,"v":0},{"id":2,"v":0}]"#));
    // Now 0 stands in front: 2 comes again, in a newer copy, and that one counts.
    world.upstream.next(Answer::json(r#"[{"id":2,"v":9},{"id":3,"v":0}]"#));
    world.upstream.next(Answer::json(r#"[]"#));
    assert_eq!(world.poll().await, changed(0, 1, 0));
    assert_eq!(world.rig.events().await[0]["data"]["after"], json!({"id":2,"v":9}));
    // A record is removed in front: 3 falls between the pages. Of a walk with several pages one absence is none.
    world.upstream.next(Answer::json(r#"[{"id":1,"v":0},{"id":2,"v":9}]"#));
    world.upstream.next(Answer::json(r#"[]"#));
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.put("2", r#"{"id":2,"v":9}"#);
    assert_eq!(world.poll().await, Polling::Same, "it is back");
    assert_eq!(world.rig.lines().await, ["orders.updated 2 #1"]);
}

/// airbyte-python-cdk#1148: a repeated page token looped for ever.
#[tokio::test]
async fn a_repeated_cursor_is_an_error_and_changes_nothing() {
    let mut world = World::start(
        &list("source.http.pages.cursor = { param = \"cursor\", next = \".next\" }").replace("\".[]\"", "\".data[]\""),
    )
    .await;
    world.upstream.next(Answer::json(r#"{"data":[{"id":1}]}"#));
    world.poll().await;
    let before = world.rig.export().await;
    world.upstream.next(Answer::json(r#"{"data":[{"id":1}],"next":"a"}"#));
    world.upstream.next(Answer::json(r#"{"data":[{"id":2}],"next":"b"}"#));
    world.upstream.next(Answer::json(r#"{"data":[{"id":3}],"next":"a"}"#));
    let error = world.fail().await;
    assert!(error.ends_with("comes again: it was asked for before; the walk would never end"), "{error}");
    assert_eq!(world.rig.export().await, before);
    world.upstream.next(Answer::json(r#"{"data":[{"id":1}],"next":"a"}"#));
    world.upstream.always(Some(Answer::json(r#"{"data":[{"id":2}],"next":"a"}"#).into()));
    let error = world.fail().await;
    assert!(error.contains("page 3 of") && error.contains("comes again"), "{error}");
}

#[tokio::test]
async fn a_page_with_the_records_of_an_earlier_one_is_an_error() {
    let mut world = World::start(&list("source.http.pages.page = {}")).await;
    // An API that ignores its parameter.
    world.upstream.fill(2);
    let error = world.fail().await;
    assert!(error.contains("page 2 of") && error.contains("it has the bytes of an earlier page"), "{error}");
}

#[tokio::test]
async fn too_many_pages_are_an_error() {
    let mut world = World::start(&list("source.http.pages.page = { size = 2, max = 3 }")).await;
    world.upstream.fill(7);
    world.upstream.paging(Paging::Page(2));
    let error = world.fail().await;
    assert!(error.ends_with("has more than 3 pages (`pages.page.max`)"), "{error}");
    assert_eq!(world.upstream.count(), 3);
}

async fn other_host() -> (Server, std::sync::Arc<std::sync::Mutex<Vec<Request>>>) {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = seen.clone();
    let server = Server::start(std::sync::Arc::new(move |request: Request| {
        kept.lock().unwrap().push(request);
        Answer::json(r#"[{"id":99}]"#).into()
    }))
    .await;
    (server, seen)
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_its_credentials() {
    let mut world = World::start(&list(
        "source.http.auth.bearer.secret = { value = \"hush\" }\nsource.http.headers = { x-mine = \"1\" }",
    ))
    .await;
    world.upstream.fill(1);
    world.upstream.next(Answer::new(302, "").header("location", "/elsewhere?a=1"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let last = world.upstream.last();
    assert_eq!(
        (last.target.as_str(), last.header("authorization"), last.header("x-mine")),
        ("/elsewhere?a=1", Some("Bearer hush"), Some("1"))
    );
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_refused_and_nothing_is_sent_there() {
    let (other, seen) = other_host().await;
    let mut world = World::start(&list("source.http.auth.bearer.secret = { value = \"hush\" }")).await;
    world.upstream.next(Answer::new(307, "").header("location", format!("{}/items", other.origin())));
    let error = world.fail().await;
    assert!(
        error.contains(&format!("names the redirect target {}", other.origin())) && error.contains("`redirects-to`"),
        "{error}"
    );
    assert!(seen.lock().unwrap().is_empty());
}

/// reqwest's own redirects forward `X-API-Key` to the other host.
#[tokio::test]
async fn credentials_do_not_leave_for_an_origin_that_redirects_to_names() {
    let (other, seen) = other_host().await;
    let lines = "source.http.auth.bearer.secret = { value = \"hush\" }\n\
        source.http.auth.query = { name = \"key\", value = { value = \"hushed\" } }\n\
        source.http.auth.header = { name = \"x-api-key\", value = { value = \"hush\" } }\n\
        source.http.headers = { cookie = \"session=1\", accept = \"application/json\" }\n\
        source.http.redirects-to = [\"OTHER\"]";
    let mut world = World::start(&list(lines).replace("OTHER", &other.origin())).await;
    world.upstream.next(Answer::new(302, "").header("location", format!("{}/items", other.origin())));
    world.poll().await;
    assert_eq!(world.upstream.last().query.get("key").map(String::as_str), Some("hushed"));
    let seen = seen.lock().unwrap();
    let request = &seen[0];
    let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
    assert_eq!(request.target, "/items");
}

/// miniflux/v2#1512, feedreader/pluto#40: a redirect that sets a cookie and wants to see it, and a session that begins with page 1.
#[tokio::test]
async fn cookies_live_as_long_as_a_walk() {
    let lines =
        "source.http.cookies = true\nsource.http.pages.link = {}\nsource.http.headers = { cookie = \"lang=en\" }";
    let mut world = World::start(&list(lines)).await;
    let set = |answer: Answer, cookie: &str| answer.header("set-cookie", cookie);
    let walk = |world: &World| {
        let bounce = Answer::new(302, "").header("location", "/items");
        world.upstream.next(set(set(bounce, "seen=1; Path=/"), "lang=de; Path=/"));
        let first = set(Answer::json("[{\"id\":1}]"), "page=one; HttpOnly").header("link", "</items?page=2>; rel=next");
        world.upstream.next(set(first, "elsewhere=1; Path=/other"));
        let second = set(Answer::json("[{\"id\":2}]"), "seen=; Max-Age=0; Path=/");
        world.upstream.next(second.header("link", "</items?page=3>; rel=next"));
        world.upstream.next(Answer::json("[{\"id\":3}]"));
    };
    walk(&world);
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    walk(&world);
    assert_eq!(world.poll().await, Polling::Unchanged);
    let cookies: Vec<_> =
        world.upstream.requests().iter().map(|r| r.header("cookie").unwrap_or_default().to_owned()).collect();
    let walk = ["lang=en", "lang=en; seen=1", "lang=en; seen=1; page=one", "lang=en; page=one"];
    assert_eq!(cookies, [walk, walk].concat(), "the next walk begins without any");
    let stored = world.rig.export().await;
    assert!(!stored.contains("page=one") && !stored.contains("seen=1"), "{stored}");
}

#[tokio::test]
async fn no_cookie_is_kept_without_a_word_of_the_file_and_none_goes_to_a_host_that_it_is_not_for() {
    let (other, seen) = other_host().await;
    // A port makes no other host of it, so that the other one needs a name.
    let elsewhere = other.origin().replace("127.0.0.1", "localhost");
    let lines = format!("source.http.cookies = true\nsource.http.redirects-to = [{elsewhere:?}]");
    let network = "[network]\nallow = [\"127.0.0.0/8\", \"::1/128\"]\n";
    let mut world = World::start(&format!("{}\n{network}", list(&lines))).await;
    let answer = Answer::new(302, "").header("location", format!("{elsewhere}/items"));
    let answer = answer.header("set-cookie", "host=1; Path=/");
    world.upstream.next(answer.header("set-cookie", "all=1; Path=/; Domain=localhost"));
    world.poll().await;
    assert_eq!(seen.lock().unwrap()[0].header("cookie"), None);
    // Off is the default.
    let mut world = World::start(&list("")).await;
    world.upstream.next(Answer::new(302, "").header("location", "/items").header("set-cookie", "s=1"));
    world.poll().await;
    assert_eq!(world.upstream.last().header("cookie"), None);
}

#[tokio::test]
async fn redirects_that_never_end_are_an_error() {
    let mut world = World::start(&list("source.http.redirects = 2")).await;
    world.upstream.always(Some(Answer::new(301, "").header("location", "/items").into()));
    let error = world.fail().await;
    assert!(error.ends_with("redirects more than 2 times (`redirects`)"), "{error}");
    assert_eq!(world.upstream.count(), 3);
    world.upstream.always(Some(Answer::new(301, "").into()));
    let error = world.fail().await;
    assert!(error.ends_with("redirects without a usable Location"), "{error}");
}

#[tokio::test]
async fn every_kind_of_auth() {
    for (lines, header, expected) in [
        (
            "source.http.auth.basic = { username = \"bell\", password = { value = \"pull\" } }",
            "authorization",
            "Basic YmVsbDpwdWxs",
        ),
        ("source.http.auth.bearer.secret = { value = \"hush\" }", "authorization", "Bearer hush"),
        (
            "source.http.auth.header = { name = \"x-token\", value = { value = \"hush\" }, prefix = \"token \" }",
            "x-token",
            "token hush",
        ),
    ] {
        let mut world = World::start(&list(lines)).await;
        world.poll().await;
        assert_eq!(world.upstream.last().header(header), Some(expected));
    }
    let lines = "source.http.auth.query = { key = { value = \"a&b\" }, user = { value = \"u\" } }\nsource.http.query = { q = 1 }";
    let mut world = World::start(&list(lines)).await;
    world.poll().await;
    assert_eq!(world.upstream.last().target, "/items?q=1&key=a%26b&user=u");
}

/// A secret stands in no error and no stored row.
#[tokio::test]
async fn no_secret_leaves_the_request() {
    let lines = "source.http.auth.query = { key = { value = \"topsecret1\" } }\nsource.http.auth.bearer.secret = { value = \"topsecret2\" }\n\
        source.http.query = { token = { value = \"topsecret3\" } }";
    let mut world = World::start(&list(lines)).await;
    world.upstream.fill(12);
    world.poll().await;
    world.upstream.fill(1);
    assert_eq!(world.poll().await, Polling::Held);
    for reply in
        [Answer::new(500, "down"), Answer::json("{"), Answer::new(302, "").header("location", "http://127.0.0.2/")]
    {
        world.upstream.next(reply);
        let error = world.fail().await;
        assert!(!error.contains("topsecret"), "{error}");
    }
    world.rig.save().await;
    let hold = world.rig.poller.hold(&"orders".into()).await.unwrap();
    let stored = format!("{hold:?} {}", world.rig.export().await);
    assert!(!stored.contains("topsecret"), "{stored}");
}

#[tokio::test]
async fn a_post_with_a_json_body_and_headers() {
    let lines = "source.http.method = \"POST\"\nsource.http.json = { filter = { active = true, n = 5 } }\nsource.http.headers = { accept = \"application/vnd.x+json\" }";
    let mut world = World::start(&list(lines)).await;
    world.upstream.fill(1);
    world.poll().await;
    let request = world.upstream.last();
    assert_eq!(request.method, "POST");
    assert_eq!(request.json(), json!({ "filter": { "active": true, "n": 5 } }));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/vnd.x+json"));
    assert!(request.header("user-agent").unwrap().starts_with("bellpull/0."));
}

#[tokio::test]
async fn a_value_made_by_jq_sees_the_previous_answer() {
    let lines = "source.http.query = { since = { jq = \".previous.headers[\\\"x-total-count\\\"]\" } }";
    let mut world = World::start(&list(lines)).await;
    world.upstream.header("x-total-count", "41");
    world.upstream.fill(1);
    world.poll().await;
    assert_eq!(world.upstream.last().target, "/items");
    world.poll().await;
    assert_eq!(world.upstream.last().target, "/items?since=41");
}

#[tokio::test]
async fn newline_delimited_json() {
    let mut world = World::start(LIST).await;
    let ndjson = |body: &str| Answer::new(200, body).header("content-type", "application/x-ndjson");
    world.upstream.next(ndjson("{\"id\":1}\n{\"id\":2}\n"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    world.upstream.next(ndjson("{\"id\":1,\"v\":1}\r\n\r\n{\"id\":2}"));
    assert_eq!(world.poll().await, changed(0, 1, 0));
}

#[tokio::test]
async fn since_sends_the_highest_mark_and_absence_means_nothing() {
    let lines = "source.http.headers = {}\n[bridge.orders.since]\nparam = \"after\"\nfrom = \".seq\"\norder = \"number\"\nstart = 0\noverlap = 1\n[bridge.orders.source.http]\nurl = \"UPSTREAM/items\"";
    let text = LIST.replace("source.http.url = \"UPSTREAM/items\"", lines).replace("source.http.headers = {}\n", "");
    let mut world = World::start(&text).await;
    let after = |world: &World| world.upstream.last().query["after"].clone();
    world.upstream.next(Answer::json(r#"[{"id":1,"seq":9},{"id":2,"seq":10}]"#));
    world.poll().await;
    assert_eq!(after(&world), "0");
    world.upstream.next(Answer::json(r#"[{"id":2,"seq":10},{"id":3,"seq":123456789012345678901234567890}]"#));
    assert_eq!(world.poll().await, changed(1, 0, 0), "the overlap's record is known");
    assert_eq!(after(&world), "9");
    world.upstream.next(Answer::json("[]"));
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(after(&world), "123456789012345678901234567889");
    world.upstream.next(Answer::json(r#"[{"id":1,"seq":9,"v":1}]"#));
    assert_eq!(world.poll().await, changed(0, 1, 0));
    assert_eq!(world.rig.lines().await, ["orders.created 3 #1", "orders.updated 1 #2"]);
    // The mark survives a restart, and a failed poll moves nothing.
    world.upstream.next(Answer::json(r#"[{"id":5,"seq":1e99}]"#));
    let error = world.fail().await;
    assert!(error.contains("`since.from`") && error.contains("which is not a whole number"), "{error}");
    world.restart(&text).await;
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    assert_eq!(after(&world), "123456789012345678901234567889");
}

#[tokio::test]
async fn a_window_forgets_nothing_that_leaves_it() {
    let mut world = World::start(&list("window = true")).await;
    world.upstream.set(&[("1", r#"{"id":1}"#), ("2", r#"{"id":2}"#)]);
    world.poll().await;
    world.upstream.set(&[("2", r#"{"id":2}"#), ("3", r#"{"id":3}"#)]);
    assert_eq!(world.poll().await, changed(1, 0, 0));
    world.upstream.set(&[]);
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.set(&[("1", r#"{"id":1}"#), ("2", r#"{"id":2,"v":1}"#)]);
    assert_eq!(world.poll().await, changed(0, 1, 0), "1 is known, though it was gone");
    assert_eq!(world.rig.lines().await, ["orders.created 3 #1", "orders.updated 2 #2"]);
}

const DOCUMENT: &str = r#"
[bridge.status]
every = "100ms"
absent = [404, 410]
to = ["me"]
source.http.url = "UPSTREAM/status"
"#;

#[tokio::test]
async fn a_document_is_created_updated_and_deleted() {
    let mut world = World::start(DOCUMENT).await;
    world.upstream.next(Answer::json(r#"{"up":true}"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    world.upstream.next(Answer::json(r#"{"up":false}"#));
    assert_eq!(world.poll().await, changed(0, 1, 0));
    world.upstream.next(Answer::new(404, "no such thing"));
    assert_eq!(world.poll().await, changed(0, 0, 1));
    world.upstream.next(Answer::new(410, ""));
    world.poll().await;
    world.upstream.next(Answer::json(r#"{"up":true}"#));
    assert_eq!(world.poll().await, changed(1, 0, 0));
    assert_eq!(world.rig.lines().await, ["status.updated  #1", "status.deleted  #2", "status.created  #3"]);
    world.rig.events().await.iter().for_each(check_patch);
    world.upstream.next(Answer::new(500, ""));
    world.fail().await;
    assert_eq!(world.rig.snapshot().await.len(), 1);
}

#[tokio::test]
async fn a_document_that_is_not_there_at_first_is_created_when_it_comes() {
    let mut world = World::start(DOCUMENT).await;
    world.upstream.next(Answer::new(404, ""));
    assert_eq!(world.poll().await, Polling::Baseline { records: 0 });
    world.upstream.next(Answer::json(r#"{"up":true}"#));
    assert_eq!(world.poll().await, changed(1, 0, 0));
}

#[tokio::test]
async fn unordered_arrays_and_ignored_fields_are_no_change() {
    let mut world = World::start(&list("ignore = [\".seen_at\", \".meta.views\"]\nunordered = [\".tags\"]")).await;
    world.upstream.set(&[("1", r#"{"id":1,"seen_at":1,"meta":{"views":1},"tags":["a","b"],"v":0}"#)]);
    world.poll().await;
    world.upstream.set(&[("1", r#"{"id":1,"seen_at":2,"meta":{"views":7},"tags":["b","a"],"v":0}"#)]);
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.set(&[("1", r#"{"id":1,"seen_at":3,"meta":{"views":9},"tags":["b","a"],"v":1}"#)]);
    assert_eq!(world.poll().await, changed(0, 1, 0));
    let event = &world.rig.events().await[0];
    check_patch(event);
    assert_eq!(event["data"]["after"]["seen_at"], json!(3), "an ignored field is in `after`");
}

#[tokio::test]
async fn numbers_keep_their_digits_to_the_webhook() {
    let mut world = World::start(&list("first-poll = \"emit\"")).await;
    let text = r#"{"big":12345678901234567890123,"id":98765432109876543210,"price":1.10,"tiny":1e-400}"#;
    world.upstream.set(&[("1", text)]);
    world.poll().await;
    let received = &world.receiver.wait_taken("/me", 1).await[0];
    assert_eq!(received.key(), "98765432109876543210");
    let sent = String::from_utf8(received.bytes.clone()).unwrap();
    assert!(sent.contains(text), "{sent}");
    world.upstream.set(&[("1", &text.replace("123,", "124,"))]);
    assert_eq!(world.poll().await, changed(0, 1, 0), "a digit beyond any float's");
    world.upstream.set(&[("1", &text.replace("123,", "124,").replace("1.10", "1.1000"))]);
    assert_eq!(world.poll().await, Polling::Same);
}

#[tokio::test]
async fn routes_and_endpoints_filter_and_make_payloads() {
    let text = r#"
[bridge.orders]
every = "100ms"
items = ".[]"
key = ".id"
on = ["created", "updated"]
when = ".data.after.v != 13"
to = [
  { endpoint = "one", on = ["updated"], payload = "{ route: 1, v: .data.after.v }" },
  { endpoint = "one", when = ".data.after.v > 5", payload = "{ route: 2 }" },
  "two",
]
source.http.url = "UPSTREAM/items"
[endpoint.one]
url = "RECEIVER/one"
sign.standard.secrets = [{ value = "SECRET" }]
[endpoint.two]
url = "RECEIVER/two"
when = ".data.key != \"2\""
payload = "{ text: \"\\(.type) \\(.data.key)\" }"
sign.standard.secrets = [{ value = "SECRET" }]
"#;
    let mut world = World::start(text).await;
    world.upstream.set(&[("1", r#"{"id":1,"v":0}"#)]);
    world.poll().await;
    // An update, a create that a later route takes, one that only `two` refuses, and one that the bridge's `when` drops.
    world.upstream.set(&[
        ("1", r#"{"id":1,"v":9}"#),
        ("2", r#"{"id":2,"v":6}"#),
        ("3", r#"{"id":3,"v":1}"#),
        ("4", r#"{"id":4,"v":13}"#),
    ]);
    assert_eq!(world.poll().await, changed(3, 1, 0));
    // A deletion that `on` drops.
    world.upstream.remove("3");
    assert_eq!(world.poll().await, changed(0, 0, 1));
    world.receiver.wait_taken("/one", 2).await;
    world.receiver.wait_taken("/two", 2).await;
    let bodies = |path: &str| {
        let mut all: Vec<_> = world.receiver.taken(path).into_iter().map(|r| r.body.to_string()).collect();
        all.sort();
        all
    };
    assert_eq!(bodies("/one"), [r#"{"route":1,"v":9}"#, r#"{"route":2}"#]);
    assert_eq!(bodies("/two"), [r#"{"text":"orders.created 3"}"#, r#"{"text":"orders.updated 1"}"#]);
    assert_eq!(world.rig.lines().await.len(), 5, "a sequence counts every event, before any filter");
}

#[tokio::test]
async fn retry_after_delays_the_next_poll_and_never_hastens_it() {
    let mut world = World::start(LIST).await;
    world.upstream.fill(1);
    world.upstream.next(Answer::new(429, "slow down").header("retry-after", "7"));
    let outcome = world.rig.poll().await;
    assert!(outcome.result.is_err());
    assert_eq!(outcome.hint, Some(Duration::from_secs(7)));
    world.upstream.next(Answer::json("[]").header("retry-after", "1.5"));
    assert_eq!(world.rig.poll().await.hint, Some(Duration::from_millis(1500)), "of a good answer too");
    assert_eq!(world.rig.poll().await.hint, None);
}

#[tokio::test]
async fn a_record_is_deleted_after_as_many_complete_polls_as_the_file_says() {
    let mut world = World::start(&list("deletes.after = 3")).await;
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.remove("3");
    assert_eq!(world.poll().await, Polling::Same);
    // A failed poll does not count, and does not reset.
    world.upstream.next(Answer::new(500, ""));
    world.fail().await;
    assert_eq!(world.poll().await, Polling::Same, "the same bytes are a complete poll");
    assert_eq!(world.poll().await, changed(0, 0, 1));
    // One that comes back starts again.
    world.upstream.remove("2");
    world.poll().await;
    world.poll().await;
    world.upstream.put("2", r#"{"id":2,"v":0}"#);
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.remove("2");
    world.poll().await;
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.deleted 3 #1"]);
}

#[tokio::test]
async fn deletions_that_are_not_reported_still_leave_the_snapshot() {
    let mut world = World::start(&list("deletes.report = false")).await;
    world.upstream.fill(3);
    world.poll().await;
    world.upstream.remove("3");
    assert_eq!(world.poll().await, changed(0, 0, 1));
    assert!(world.rig.lines().await.is_empty());
    assert_eq!(world.rig.snapshot().await.len(), 2);
    world.upstream.put("3", r#"{"id":3,"v":0}"#);
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.created 3 #1"]);
}

#[tokio::test]
async fn a_304_is_a_complete_poll() {
    let mut world = World::start(&list("deletes.after = 2")).await;
    world.upstream.etag(true);
    world.upstream.fill(3);
    world.poll().await;
    assert_eq!(world.poll().await, Polling::Unchanged);
    world.upstream.remove("3");
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(world.poll().await, changed(0, 0, 1), "304: still missing");
    let asked = world.upstream.requests().iter().filter(|r| r.header("if-none-match").is_some()).count();
    assert_eq!(asked, 3);
    assert_eq!(world.poll().await, Polling::Unchanged);
}

/// thp/urlwatch#292: the filter failed, the ETag was stored all the same, the next poll was a 304: the change was lost
/// for ever.
#[tokio::test]
async fn the_etag_of_an_answer_that_was_not_accepted_is_never_sent() {
    let mut world = World::start(LIST).await;
    world.upstream.etag(true);
    world.upstream.fill(1);
    world.poll().await;
    let accepted = world.upstream.last();
    assert_eq!(accepted.header("if-none-match"), None);
    world.poll().await;
    let etag = world.upstream.last().header("if-none-match").unwrap().to_owned();
    for reply in [
        Answer::new(500, "down").header("etag", "\"of-an-error\""),
        Answer::json("{\"not\": \"a list\"}").header("etag", "\"of-a-failed-poll\""),
        Answer::json("[{\"no\":\"key\"}]").header("etag", "\"of-no-key\""),
        Answer::json("[]").header("etag", "\"of-a-held-one\""),
    ] {
        world.upstream.next(reply);
        drop(world.rig.poll().await);
        assert_eq!(world.upstream.last().header("if-none-match"), Some(etag.as_str()));
    }
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    assert_eq!(world.poll().await, changed(0, 1, 0));
    assert_eq!(world.upstream.last().header("if-none-match"), Some(etag.as_str()));
}

#[tokio::test]
async fn validators_survive_a_restart_and_not_an_edit() {
    let mut world = World::start(LIST).await;
    world.upstream.etag(true);
    world.upstream.fill(1);
    world.poll().await;
    world.restart(LIST).await;
    assert_eq!(world.poll().await, Polling::Unchanged);
    assert!(world.upstream.last().header("if-none-match").is_some());
    // webchanges: an edited filter hides behind a 304.
    world.restart(&list("ignore = [\".v\"]")).await;
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(world.upstream.last().header("if-none-match"), None);
    world.poll().await;
    assert!(world.upstream.last().header("if-none-match").is_some());
    world.restart(&list("ignore = [\".v\"]\nsource.http.conditional = false")).await;
    world.poll().await;
    assert_eq!(world.upstream.last().header("if-none-match"), None);
}

#[tokio::test]
async fn an_edit_is_compared_with_the_old_snapshot() {
    let mut world = World::start(LIST).await;
    world.upstream.set(&[("1", r#"{"id":1,"a":1,"b":1}"#), ("2", r#"{"id":2,"a":1,"b":1}"#)]);
    world.poll().await;
    // `ignore` alone changes no record: no event, whatever the hashes are.
    world.restart(&list("ignore = [\".b\"]")).await;
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.put("1", r#"{"id":1,"a":1,"b":2}"#);
    assert_eq!(world.poll().await, Polling::Same);
    // The ignore is gone: the stored body of 1 has the old b, so that is a change now.
    world.restart(LIST).await;
    assert_eq!(world.poll().await, changed(0, 1, 0));
    // Another source, with other records.
    world.restart(&LIST.replace("UPSTREAM/items", "UPSTREAM/other")).await;
    world.upstream.put("3", r#"{"id":3}"#);
    assert_eq!(world.poll().await, changed(1, 0, 0));
    assert_eq!(world.rig.lines().await, ["orders.updated 1 #1", "orders.created 3 #2"]);
    world.rig.events().await.iter().for_each(check_patch);
}

#[tokio::test]
async fn an_edit_with_rebaseline_is_silent() {
    let mut world = World::start(LIST).await;
    world.upstream.set(&[("1", r#"{"id":1,"name":"a"}"#)]);
    world.poll().await;
    world.restart(&list("definition-changed = \"rebaseline\"").replace("\".id\"", "\".name\"")).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    assert!(world.rig.lines().await.is_empty());
    assert_eq!(world.rig.snapshot().await.into_keys().collect::<Vec<_>>(), ["a"]);
    world.upstream.set(&[("1", r#"{"id":2,"name":"a"}"#)]);
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.updated a #1"]);
}

#[tokio::test]
async fn what_the_answer_says_of_itself_counts() {
    let mut world = World::start(
        &list("source.http.fail = \"if .ok then null else .error end\"").replace("\".[]\"", "\".rows[]\""),
    )
    .await;
    world.upstream.next(Answer::json(r#"{"ok":true,"rows":[{"id":1}]}"#));
    world.poll().await;
    world.upstream.next(Answer::json(r#"{"ok":false,"error":"quota"}"#));
    let error = world.fail().await;
    assert!(error.ends_with("says that it failed (`fail`): quota"), "{error}");
    assert_eq!(world.rig.snapshot().await.len(), 1);
}

#[tokio::test]
async fn a_204_is_an_empty_list() {
    for items in [".[]", ".rows[]"] {
        let mut world = World::start(&list("empty = \"accept\"").replace("\".[]\"", &format!("{items:?}"))).await;
        let body = if items == ".[]" { r#"[{"id":1}]"# } else { r#"{"rows":[{"id":1}]}"# };
        world.upstream.next(Answer::json(body));
        world.poll().await;
        world.upstream.next(Answer::new(204, ""));
        assert_eq!(world.poll().await, changed(0, 0, 1), "{items}");
    }
}

#[tokio::test]
async fn one_alert_when_it_fails_and_one_when_it_recovers() {
    let mut world = World::start(&list("alert.after = 3")).await;
    world.upstream.fill(1);
    world.upstream.always(Some(Answer::new(500, "").into()));
    for _ in 0..6 {
        world.fail().await;
    }
    assert_eq!(world.rig.alerts().await, ["bellpull.bridge.failing"]);
    // The count and what was said survive a restart.
    world.restart(&list("alert.after = 3")).await;
    world.fail().await;
    world.upstream.always(None);
    world.poll().await;
    world.poll().await;
    assert_eq!(world.rig.alerts().await, ["bellpull.bridge.failing", "bellpull.bridge.recovered"]);
    let received = world.receiver.wait_taken("/me", 2).await;
    assert_eq!(received[0].body["data"]["failures"], json!(3));
    assert_eq!(received[1].body["data"]["failures"], json!(7));
}

/// The validator and the bytes of the document from before it was gone hid that it was back: a 304, or "unchanged".
#[tokio::test]
async fn a_document_that_comes_back_as_it_was_is_created_again() {
    let mut world = World::start(DOCUMENT).await;
    let there = || Answer::json(r#"{"up":true}"#).header("etag", "\"e\"");
    world.upstream.next(there());
    world.poll().await;
    world.upstream.next(Answer::new(404, ""));
    assert_eq!(world.poll().await, changed(0, 0, 1));
    world.upstream.next(there());
    assert_eq!(world.poll().await, changed(1, 0, 0));
    assert_eq!(world.upstream.last().header("if-none-match"), None, "the validator went with the document");
    world.upstream.next(there());
    assert_eq!(world.poll().await, Polling::Unchanged);

    // With `deletes.after = 2` one absence is none, however the document comes back.
    let mut world = World::start(&DOCUMENT.replace("to = ", "deletes.after = 2\nto = ")).await;
    for answer in [there(), Answer::new(404, ""), there(), there(), Answer::new(404, ""), there()] {
        world.upstream.next(answer);
        world.poll().await;
    }
    assert!(world.rig.lines().await.is_empty(), "{:?}", world.rig.lines().await);
}

/// The list of complete walks is not kept under `since` and `window`: an edit that takes them away took every known
/// record for a new one.
#[tokio::test]
async fn an_edit_from_a_window_to_a_complete_list_knows_its_records() {
    let windowed = list("window = true");
    let mut world = World::start(&windowed).await;
    world.upstream.fill(12);
    world.poll().await;
    world.upstream.put("13", r#"{"id":13,"v":0}"#);
    assert_eq!(world.poll().await, changed(1, 0, 0));
    world.restart(LIST).await;
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.remove("1");
    assert_eq!(world.poll().await, changed(0, 0, 1));
    world.restart(&windowed).await;
    world.upstream.put("14", r#"{"id":14,"v":0}"#);
    assert_eq!(world.poll().await, changed(1, 0, 0));
    world.restart(LIST).await;
    world.upstream.put("14", r#"{"id":14,"v":1}"#);
    assert_eq!(world.poll().await, changed(0, 1, 0));
    assert_eq!(world.rig.lines().await.len(), 4);
}

/// A mark of another order or source compares with nothing, and was sent for ever.
#[tokio::test]
async fn an_edit_of_since_drops_the_mark() {
    let since = |lines: &str| list(&format!("since = {{ param = \"after\", {lines} }}"));
    let mut world = World::start(&since("from = \".id\", order = \"number\"")).await;
    world.upstream.set(&[("1", r#"{"id":999,"at":"2026-11-22T10:00:00Z"}"#)]);
    world.poll().await;
    world.restart(&since("from = \".at\", order = \"text\"")).await;
    world.poll().await;
    assert!(!world.upstream.last().query.contains_key("after"), "asked from the start");
    world.upstream.set(&[("1", r#"{"id":999,"at":"2026-11-22T11:00:00Z"}"#)]);
    world.poll().await;
    assert_eq!(world.upstream.last().query["after"], "2026-11-22T10:00:00Z");
}

/// A next link that echoes the key of `auth.query` had it twice on the second page.
#[tokio::test]
async fn a_key_that_a_next_link_echoes_is_sent_once_and_not_stored() {
    let mut world = World::start(&list(
        "source.http.pages.link = {}\nsource.http.auth.query = { name = \"key\", value = { value = \"s3cr3t-key\" } }",
    ))
    .await;
    let next = format!("<{}/items?page=2&key=s3cr3t-key>; rel=\"next\"", world.upstream.origin());
    world.upstream.next(Answer::json(r#"[{"id":1}]"#).header("link", next));
    world.upstream.next(Answer::json(r#"[{"id":2}]"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    assert_eq!(world.upstream.last().target.matches("key=").count(), 1);
    assert!(!world.rig.export().await.contains("s3cr3t-key"));
}

/// A record goes while the pages are walked: those behind it move up, and one is on no page. It is not gone.
#[tokio::test]
async fn a_list_that_shrinks_in_the_middle_of_a_walk_loses_nobody() {
    let mut world = World::start(&list("source.http.pages.link = {}\nguard.deletes = 1")).await;
    world.upstream.paging(Paging::Link(2));
    world.upstream.fill(5);
    world.poll().await;
    // 1, 2 | and without 1: 4, 5.
    world
        .upstream
        .next(Answer::json(r#"[{"id":1,"v":0},{"id":2,"v":0}]"#).header("link", "</items?page=2>; rel=\"next\""));
    world.upstream.remove("1");
    world.poll().await;
    assert_eq!(world.rig.lines().await, [""; 0], "3 was on neither page");
    world.poll().await;
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.deleted 1 #1"]);
    assert_eq!(world.rig.snapshot().await.len(), 4);
}

/// 60 records were deleted by one answer that came short, and created again by the next; so they were where one answer lacked its
/// `Link`, or had one that could not be read.
#[tokio::test]
async fn one_short_answer_of_a_list_in_pages_deletes_nothing() {
    let page = |from: usize, to: usize| {
        let records: Vec<String> = (from..to).map(|id| format!(r#"{{"id":{id},"v":0}}"#)).collect();
        Answer::json(format!("[{}]", records.join(",")))
    };
    let paged = "source.http.pages.offset = { limit-param = \"limit\", limit = 100 }\nsource.http.conditional = false";
    let mut world = World::start(&list(paged)).await;
    let whole = |world: &World| {
        world.upstream.next(page(0, 100));
        world.upstream.next(page(100, 150));
    };
    whole(&world);
    assert_eq!(world.poll().await, Polling::Baseline { records: 150 });
    world.upstream.next(page(0, 90));
    world.poll().await;
    whole(&world);
    world.poll().await;
    assert_eq!(world.rig.lines().await, [""; 0]);

    let mut world = World::start(&list("source.http.pages.link = {}\nsource.http.conditional = false")).await;
    let first = || page(0, 10).header("link", "</items?page=2>; rel=\"next\"");
    world.upstream.next(first());
    world.upstream.next(page(10, 15));
    assert_eq!(world.poll().await, Polling::Baseline { records: 15 });
    world.upstream.next(page(0, 10));
    world.poll().await;
    for broken in ["</items?page=2> rel=\"next\"", "</items?page=2; rel=next"] {
        world.upstream.next(page(0, 10).header("link", broken));
        let error = world.rig.poll().await.result.expect_err("it may say that more follows").to_string();
        assert!(error.contains("the `Link` header cannot be read"), "{error}");
    }
    world.upstream.next(page(0, 10).header("link", "</items?page=2>; title='\u{dc}bersicht'; rel='next'"));
    world.upstream.next(page(10, 15));
    world.poll().await;
    assert_eq!(world.rig.lines().await, [""; 0]);
}

/// The server gives 100 at the most where 1,000 are asked for, and says how many there are: 100 of 250 were taken for all.
#[tokio::test]
async fn an_end_that_the_file_says_is_not_overruled() {
    let paged = "source.http.pages.offset = { param = \"startAt\", limit-param = \"maxResults\", limit = 1000, \
                 end = \".startAt + (.issues | length) >= .total\" }";
    let mut world = World::start(&list(paged).replace("items = \".[]\"", "items = \".issues[]\"")).await;
    for from in [0, 100, 200] {
        let issues: Vec<String> = (from..(from + 100).min(250)).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        let text = format!(r#"{{"startAt":{from},"total":250,"issues":[{}]}}"#, issues.join(","));
        world.upstream.next(Answer::json(text));
    }
    assert_eq!(world.poll().await, Polling::Baseline { records: 250 });
    assert_eq!(world.upstream.last().query["startAt"], "200");
}

/// A 429 or a 502 on one page threw all pages away, and the next walk began at the first: a long walk over a strict API never ended.
#[tokio::test]
async fn a_page_that_does_not_come_is_asked_for_again() {
    let mut world = World::start(&list("source.http.pages.link = {}")).await;
    world.upstream.paging(Paging::Link(2));
    world.upstream.fill(5);
    let first = r#"[{"id":1,"v":0},{"id":2,"v":0}]"#;
    world.upstream.next(Answer::json(first).header("link", "</items?page=2>; rel=\"next\""));
    world.upstream.next(Answer::new(429, "slow down").header("retry-after", "0"));
    world.upstream.next(Answer::new(503, "").header("retry-after", "0"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 5 });
    assert_eq!(world.upstream.count(), 5, "three pages, of which the second was asked for three times");
    // What asks for more time than the deadline leaves ends the walk, and is obeyed.
    let mut world = World::start(&list("source.http.pages.link = {}\nsource.http.deadline = \"5s\"")).await;
    world.upstream.next(Answer::json(first).header("link", "</items?page=2>; rel=\"next\""));
    world.upstream.next(Answer::new(429, "slow down").header("retry-after", "60"));
    let outcome = world.rig.poll().await;
    assert!(outcome.result.is_err() && outcome.hint >= Some(std::time::Duration::from_secs(60)), "{outcome:?}");
    // The first page has the schedule for that.
    let mut world = World::start(&list("source.http.pages.link = {}")).await;
    world.upstream.next(Answer::new(503, ""));
    assert!(world.rig.poll().await.result.is_err());
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn who_watches_a_long_walk_sees_its_pages_and_records() {
    let mut world = World::start(&list("source.http.pages.link = {}")).await;
    world.upstream.paging(Paging::Link(2));
    world.upstream.fill(5);
    let walk = world.rig.poller.pulse.walk();
    // So that each page is seen by itself.
    world.upstream.delay(std::time::Duration::from_millis(20));
    let (mut watched, mut seen) = (walk.clone(), Vec::new());
    let watching = tokio::spawn(async move {
        while seen.len() < 3 && watched.changed().await.is_ok() {
            let walked = *watched.borrow_and_update();
            seen.push((walked.pages, walked.records));
        }
        seen
    });
    world.poll().await;
    assert_eq!(watching.await.expect("it ends"), [(1, 2), (2, 4), (3, 5)]);
    drop(walk);
    assert!(!world.rig.poller.pulse.is_walk_watched(), "nobody counts for nobody");
}

/// "007" was sent as 7, -5 as "-5", and an array was no cursor at all.
#[tokio::test]
async fn what_a_source_gives_comes_back_to_it_as_it_was() {
    let lines = "source.http.method = \"POST\"\nsource.http.json = { size = 2, at = [{ x = 1 }] }\n\
                 source.http.pages.cursor = { json = \"at.0.after\", next = \".next\" }";
    let mut world = World::start(&list(lines).replace("\".[]\"", "\".data[]\"")).await;
    let cursors = ["\"007\"", "7", "-5", "18446744073709551616", "[1699,\"a\"]", "{\"pk\":\"1\"}"];
    for (id, next) in cursors.iter().chain(&["null"]).enumerate() {
        world.upstream.next(Answer::json(format!(r#"{{"data":[{{"id":{id}}}],"next":{next}}}"#)));
    }
    assert_eq!(world.poll().await, Polling::Baseline { records: 7 });
    let bodies: Vec<String> = world.upstream.requests().iter().map(|r| r.json().to_string()).collect();
    assert_eq!(bodies[0], r#"{"at":[{"x":1}],"size":2}"#);
    for (body, cursor) in bodies[1..].iter().zip(cursors) {
        assert_eq!(*body, format!(r#"{{"at":[{{"after":{cursor},"x":1}}],"size":2}}"#));
    }

    let lines = "source.http.method = \"POST\"\nsource.http.json = {}\n\
                 since = { json = \"after\", from = \".seq\", order = \"text\", start = 0 }";
    let mut world = World::start(&list(lines)).await;
    for mark in ["\"0012\"", "\"5\"", "9"] {
        world.upstream.next(Answer::json(format!(r#"[{{"id":{mark},"seq":{mark}}}]"#)));
    }
    for sent in ["0", "\"0012\"", "\"5\"", "9"] {
        world.poll().await;
        assert_eq!(world.upstream.last().json().to_string(), format!(r#"{{"after":{sent}}}"#));
    }
}

/// A query was written again as a form, and an `If-Modified-Since` of the file replaced by another one.
#[tokio::test]
async fn what_the_file_says_of_a_request_is_sent_as_it_stands() {
    let target = "/items?$filter=status%20eq%20A&flag&ids=1,2";
    let since = "since = { param = \"after\", from = \".id\", order = \"number\" }\nsource.http.pages.page = { end = \"true\" }";
    let mut world = World::start(&list(since).replace("/items", target)).await;
    world.upstream.always(Some(Answer::json(r#"[{"id":7}]"#).into()));
    world.poll().await;
    assert_eq!(world.upstream.last().target, format!("{target}&page=1"));
    world.poll().await;
    assert_eq!(world.upstream.last().target, format!("{target}&page=1&after=7"));

    let since = "since = { header = \"if-modified-since\", from = \".at\", order = \"text\" }";
    let mut world = World::start(&list(since)).await;
    world.upstream.etag(true);
    world.upstream.set(&[("1", r#"{"id":1,"at":"Sun, 29 Nov 2026 02:00:00 GMT"}"#)]);
    world.poll().await;
    world.poll().await;
    let last = world.upstream.last();
    assert_eq!(last.header("if-modified-since"), Some("Sun, 29 Nov 2026 02:00:00 GMT"));
    assert_eq!(last.header("if-none-match"), None);
}

/// Kinto: the ETag of one mark's answer was sent with another mark, and records stayed away until somebody wrote again.
#[tokio::test]
async fn a_validator_is_sent_with_the_request_that_it_came_with() {
    let clock = Clock::starting_at(Timestamp(1_900_000_000_000));
    let start = async |text: &str| World::at(Arc::new(MemoryEngine::new()), clock.clone(), text).await;
    let conditional = |world: &World| world.upstream.last().header("if-none-match").is_some();
    let since = "since = { param = \"after\", from = \".seq\", order = \"number\", start = 0 }";
    let mut world = start(&list(since)).await;
    world.upstream.etag(true);
    world.upstream.set(&[("1", r#"{"id":1,"seq":7}"#)]);
    for (after, sent) in [("0", false), ("7", false), ("7", true)] {
        world.poll().await;
        assert_eq!((world.upstream.last().query["after"].as_str(), conditional(&world)), (after, sent));
    }
    // Each day's URL is another one, and within a day it is the same.
    let mut world = start(&list("source.http.query.day = { jq = \".now[0:10]\" }")).await;
    world.upstream.etag(true);
    world.upstream.fill(1);
    for (hours, sent) in [(0, false), (1, true), (25, false), (26, true)] {
        clock.set(Timestamp(1_900_000_000_000 + hours * 3_600_000));
        world.poll().await;
        assert_eq!(conditional(&world), sent, "after {hours} h");
    }
    // A server whose validator lies is asked for all of it once a day.
    let mut world = start(LIST).await;
    world.upstream.etag(true);
    world.upstream.fill(1);
    for (hours, sent) in [(30, false), (31, true), (53, true), (55, false), (56, true), (10, false)] {
        clock.set(Timestamp(1_900_000_000_000 + hours * 3_600_000));
        world.poll().await;
        assert_eq!(conditional(&world), sent, "after {hours} h");
    }
    // A secret that was replaced changes nothing about the question.
    let secret = |value: &str| list(&format!("source.http.headers.x-key = {{ value = \"{value}\" }}"));
    let mut world = start(&secret("one-secret-key")).await;
    world.upstream.etag(true);
    world.upstream.fill(1);
    world.poll().await;
    world.restart(&secret("another-secret-key")).await;
    world.rig.poller.clock = clock.clone();
    world.poll().await;
    assert!(conditional(&world));
}

/// The file's own `If-Modified-Since`: that nothing is newer is an answer, if there is one that it speaks of.
#[tokio::test]
async fn a_304_to_a_header_of_the_file_is_the_last_answer() {
    let since = "since = { header = \"if-modified-since\", from = \".at\", order = \"text\", start = \"0\" }";
    let mut world = World::start(&list(since)).await;
    world.upstream.next(Answer::new(304, ""));
    let error = world.fail().await;
    assert!(error.contains("answered 304"), "{error}");
    world.upstream.set(&[("1", r#"{"id":1,"at":"Sun, 29 Nov 2026 02:00:00 GMT"}"#)]);
    world.poll().await;
    world.upstream.next(Answer::new(304, ""));
    assert_eq!(world.poll().await, Polling::Unchanged);
}

/// The next token stood in a header, which no expression saw.
#[tokio::test]
async fn jq_over_a_page_sees_the_rest_of_its_answer() {
    let lines = "source.http.accept = [200, 202]\nsource.http.retry = \"$status == 202\"\n\
                 source.http.fail = '$headers[\"x-error\"]'\n\
                 source.http.pages.cursor = { param = \"cursor\", next = '$headers[\"x-next\"]' }";
    let mut world = World::start(&list(lines)).await;
    let page = |ids: &str, next: &str| Answer::json(ids).header("X-Next", next);
    world.upstream.next(page("[{\"id\":1}]", "007"));
    world.upstream.next(Answer { status: 202, ..page("[]", "no") });
    world.upstream.next(page("[{\"id\":2}]", "b"));
    world.upstream.next(Answer::json("[{\"id\":3}]"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    let cursors: Vec<_> = world.upstream.requests().iter().map(|r| r.query.get("cursor").cloned()).collect();
    assert_eq!(cursors, [None, Some("007".into()), Some("007".into()), Some("b".into())]);
    // The same bytes with another header are followed by another page.
    world.upstream.next(page("[{\"id\":1}]", "c"));
    world.upstream.next(Answer::json("[{\"id\":2},{\"id\":3}]"));
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(world.upstream.last().query["cursor"], "c");
    world.upstream.next(Answer::json("[]").header("x-error", "try later"));
    assert!(world.fail().await.contains("try later"));
}

/// A walk that broke off was taken for the whole list; what the list says of itself shows it.
#[tokio::test]
async fn fewer_records_than_the_list_says_are_no_answer() {
    let body = |ids: std::ops::Range<u32>, total: &str| {
        let records: Vec<String> = ids.map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        Answer::json(format!(r#"{{"data":[{}],"total":{total},"next":null}}"#, records.join(",")))
    };
    let with = |lines: &str| list(lines).replace("\".[]\"", "\".data[]\"");
    for lines in [
        "source.http.pages.offset = { limit-param = \"limit\", limit = 3, total = \".total\" }",
        "source.http.pages.page = { size = 3, total = \".total\" }",
    ] {
        let mut world = World::start(&with(lines)).await;
        world.upstream.next(body(1..4, "5"));
        world.upstream.next(body(4..6, "5"));
        assert_eq!(world.poll().await, Polling::Baseline { records: 5 }, "{lines}");
        world.upstream.next(body(1..4, "5"));
        world.upstream.next(body(4..5, "5"));
        let error = world.fail().await;
        assert!(error.contains("has 5 records by its own account (`pages."), "{error}");
        assert!(error.contains("total`), and 4 came"), "{error}");
        assert_eq!(world.rig.snapshot().await.len(), 5);
    }
    let kinds = ["link = { ", "cursor = { param = \"c\", next = \".next\", ", "next-url = { next = \".next\", "];
    for kind in kinds {
        let mut world = World::start(&with(&format!("source.http.pages.{kind}total = \".total\" }}"))).await;
        world.upstream.next(body(1..4, "5"));
        let error = world.fail().await;
        assert!(error.contains("and 3 came"), "{kind}: {error}");
        world.upstream.next(body(1..6, "5"));
        assert_eq!(world.poll().await, Polling::Baseline { records: 5 });
        world.upstream.next(body(1..6, "\"many\""));
        let error = world.fail().await;
        assert!(error.contains("`total` gives \"many\", not a number of records"), "{kind}: {error}");
    }
    let mut world = World::start(&list("source.http.pages.link = { total = '$headers[\"x-total-count\"]' }")).await;
    world.upstream.next(Answer::json("[{\"id\":1}]").header("x-total-count", "2"));
    assert!(world.fail().await.contains("`pages.link.total`"));
    world.upstream.next(Answer::json("[{\"id\":1}]").header("x-total-count", "1"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
}

/// A server that gives fewer records than it is asked for lost all but the first page, and nothing showed it.
#[tokio::test]
async fn a_short_page_ends_a_walk_only_of_a_source_that_fills_pages() {
    for (paging, lines) in [
        (Paging::Offset(10), "source.http.pages.offset = { limit-param = \"limit\", limit = 1000 }"),
        (Paging::Page(10), "source.http.pages.page = { size-param = \"size\", size = 1000 }"),
    ] {
        let mut world = World::start(&list(lines)).await;
        world.upstream.paging(paging);
        world.upstream.fill(23);
        assert_eq!(world.poll().await, Polling::Baseline { records: 23 }, "{lines}");
        assert_eq!(world.upstream.count(), 4, "10, 10, 3, and that nothing follows");
        assert_eq!(world.poll().await, Polling::Unchanged);
        assert_eq!(world.upstream.count(), 7, "the last page is known to be the last one");
        // One that is as long as the server's pages is not: the next record stands on another page.
        world.upstream.fill(30);
        assert_eq!(world.poll().await, changed(7, 0, 0));
        assert_eq!(world.poll().await, Polling::Unchanged);
        world.upstream.fill(31);
        assert_eq!(world.poll().await, changed(1, 0, 0));
    }
    // Seen to fill a page: a short one is the last, though it is another one.
    let mut world = World::start(&list("source.http.pages.offset = { limit = 10 }")).await;
    world.upstream.paging(Paging::Offset(10));
    world.upstream.fill(13);
    world.poll().await;
    world.upstream.fill(7);
    world.poll().await;
    world.upstream.fill(8);
    world.poll().await;
    assert_eq!(world.upstream.count(), 4);
}

/// What comes where nothing should follow does not fail the poll: each of these servers was asked for one page until now.
#[tokio::test]
async fn a_page_behind_the_last_one_is_asked_for_once() {
    // No server has seven for its most.
    let page = r#"[{"id":1},{"id":2},{"id":3},{"id":4},{"id":5},{"id":6},{"id":7}]"#;
    for behind in [Answer::json("[]"), Answer::new(404, "no such page"), Answer::new(400, ""), Answer::json(page)] {
        let mut world = World::start(&list("source.http.pages.page = { size = 50 }")).await;
        world.upstream.next(Answer::json(page).header("etag", "\"1\""));
        world.upstream.next(behind.clone());
        assert_eq!(world.poll().await, Polling::Baseline { records: 7 }, "{behind:?}");
        assert_eq!(world.upstream.count(), 2);
        world.upstream.next(Answer::json(page).header("etag", "\"2\""));
        assert_eq!(world.poll().await, Polling::Unchanged);
        let last = world.upstream.last();
        assert_eq!((world.upstream.count(), last.header("if-none-match")), (3, Some("\"1\"")), "its only page");
        world.upstream.next(Answer::new(304, ""));
        assert_eq!(world.poll().await, Polling::Unchanged);
    }
    // A failure that passes is one, and no end.
    let mut world = World::start(&list("source.http.pages.page = { size = 50 }\nsource.http.deadline = \"5s\"")).await;
    world.upstream.next(Answer::json(page));
    world.upstream.next(Answer::new(500, "down"));
    assert!(world.fail().await.contains("answered 500"));
    // A server that allows one request a while is asked for no second one.
    world.upstream.next(Answer::json(page).header("ratelimit-remaining", "0").header("ratelimit-reset", "60"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 7 });
    // Of a server that gives ten at the most this is not an end: it refuses a number that is too large.
    let mut world = World::start(&list("source.http.pages.offset = { limit = 50 }")).await;
    let ten = |from: u32| {
        let records: Vec<String> = (from..from + 10).map(|id| format!("{{\"id\":{id}}}")).collect();
        Answer::json(format!("[{}]", records.join(",")))
    };
    world.upstream.next(ten(0));
    world.upstream.next(ten(10));
    world.upstream.next(Answer::new(400, "offset is too large"));
    assert!(world.fail().await.contains("answered 400"));
    world.upstream.next(ten(0).header("ratelimit-remaining", "0").header("ratelimit-reset", "600"));
    assert!(world.fail().await.contains("allows no more requests"));
    // Twenty may be as many as it gives: no validator hides what stands behind them.
    let mut world = World::start(&list("source.http.pages.page = { size = 50 }")).await;
    world.upstream.etag(true);
    world.upstream.paging(Paging::Page(20));
    world.upstream.fill(20);
    world.poll().await;
    world.upstream.fill(21);
    assert_eq!(world.poll().await, changed(1, 0, 0));
}

/// One answer without its `Link`, and the server's 304 after it, deleted what stood on page 2.
#[tokio::test]
async fn a_304_says_nothing_of_what_an_answer_lacked() {
    let mut world = World::start(&list("source.http.pages.link = {}")).await;
    let first = r#"[{"id":1},{"id":2},{"id":3}]"#;
    let next = format!("<{}/items?page=2>; rel=\"next\"", world.upstream.origin());
    let whole = |world: &World| {
        world.upstream.next(Answer::json(first).header("etag", "\"1\"").header("link", next.clone()));
        world.upstream.next(Answer::json(r#"[{"id":4}]"#));
    };
    whole(&world);
    assert_eq!(world.poll().await, Polling::Baseline { records: 4 });
    world.upstream.next(Answer::json(first).header("etag", "\"1\""));
    assert_eq!(world.poll().await, Polling::Same);
    whole(&world);
    assert_ne!(world.poll().await, changed(0, 0, 1));
    assert_eq!(world.upstream.last().header("if-none-match"), None);
    assert_eq!(world.rig.polled().progress.missing, []);
}

/// A record that said `deleted: true` was `updated` and stayed known for ever.
#[tokio::test]
async fn a_tombstone_is_a_deletion() {
    let gone = r#"{"id":1,"seq":3,"deleted":true}"#;
    let deletes = "deletes = { when = \".deleted == true\" }";
    let since = "since = { param = \"after\", from = \".seq\", order = \"number\" }";
    for partial in [since, "window = true"] {
        let mut world = World::start(&list(&format!("{partial}\n{deletes}"))).await;
        world.upstream.next(Answer::json(r#"[{"id":1,"seq":1},{"id":2,"seq":2},{"id":9,"seq":2,"deleted":true}]"#));
        assert_eq!(world.poll().await, Polling::Baseline { records: 2 }, "{partial}");
        world.upstream.next(Answer::json(format!("[{gone}]")));
        assert_eq!(world.poll().await, changed(0, 0, 1), "{partial}");
        if partial == since {
            world.upstream.next(Answer::json("[]"));
            world.poll().await;
            assert_eq!(world.upstream.last().query["after"], "3", "it moves the mark");
        }
        // Gone already, and back.
        world.upstream.next(Answer::json(format!("[{gone},{{\"id\":9,\"seq\":4,\"deleted\":true}}]")));
        assert_eq!(world.poll().await, Polling::Same);
        world.upstream.next(Answer::json(r#"[{"id":1,"seq":5}]"#));
        assert_eq!(world.poll().await, changed(1, 0, 0));
        let lines = world.rig.lines().await;
        assert_eq!(lines, ["orders.deleted 1 #1", "orders.created 1 #2"], "{partial}");
        assert_eq!(world.rig.snapshot().await.len(), 2);
    }
    // In a complete list it is a record that is missing.
    let mut world = World::start(&list(&deletes.replace(" }", ", after = 2 }"))).await;
    world.upstream.set(&[("1", r#"{"id":1}"#), ("2", r#"{"id":2}"#)]);
    world.poll().await;
    world.upstream.set(&[("1", gone), ("2", r#"{"id":2}"#)]);
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(world.poll().await, changed(0, 0, 1));
    assert_eq!(world.rig.lines().await, ["orders.deleted 1 #1"]);
    world.upstream.set(&[("2", r#"{"id":2,"deleted":{"by":"me"}}"#)]);
    assert_eq!(world.poll().await, changed(0, 1, 0), "only what the file says is a tombstone");
    world.upstream.set(&[("2", "3")]);
    assert!(world.fail().await.contains("`deletes.when`"));
}

#[tokio::test]
async fn since_needs_no_place_where_jq_sends_the_mark() {
    let lines = "since = { from = \".seq\", order = \"number\", start = 0 }\n\
                 source.http.query.q = { jq = '\"seq>\\(.mark)\"' }";
    let mut world = World::start(&list(lines)).await;
    world.upstream.set(&[("1", r#"{"id":1,"seq":7}"#)]);
    for sent in ["seq>0", "seq>7"] {
        world.poll().await;
        assert_eq!(world.upstream.last().query["q"], sent);
    }
}

/// A list of good and bad records, made of a seed: a bad one has no key, or cannot be compared where `ignore` wants an object.
fn some_bad(seed: u32, value: u32) -> (String, Vec<u32>, bool) {
    let (mut records, mut good, mut keyless) = (Vec::new(), Vec::new(), false);
    for id in 1..=6u32 {
        match (seed >> (2 * (id - 1))) & 3 {
            0 | 1 => {
                good.push(id);
                records.push(format!(r#"{{"id":{id},"v":{value},"meta":{{"at":{seed}}}}}"#));
            }
            2 => records.push(format!(r#"{{"id":{id},"v":{value},"meta":"none"}}"#)),
            _ => {
                keyless = true;
                records.push(format!(r#"{{"no":{id},"v":{value}}}"#));
            }
        }
    }
    (format!("[{}]", records.join(",")), good, keyless)
}

/// One record without a key stopped all others for as long as the source had it.
#[tokio::test]
async fn bad_records_stay_as_they_were_and_delete_nothing() {
    const KEEP: &str = "bad-records = \"keep\"\ndeletes.after = 1\nguard.deletes = 1.0\nignore = [\".meta | .at\"]";
    let whole = (1..=6).map(|id| format!(r#"{{"id":{id},"v":0,"meta":{{}}}}"#)).collect::<Vec<_>>().join(",");
    let mut seed = 0x9e37_79b9u32;
    for _ in 0..40 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (body, good, keyless) = some_bad(seed >> 8, 7);
        if good.is_empty() || good.len() == 6 {
            continue;
        }
        let count = u64::try_from(good.len()).expect("small");
        let mut world = World::start(&list(KEEP)).await;
        world.upstream.next(Answer::json(format!("[{whole}]")));
        assert_eq!(world.poll().await, Polling::Baseline { records: 6 });
        world.upstream.next(Answer::json(body.clone()));
        assert_eq!(world.poll().await, changed(0, count, 0), "{body}");
        let flaws = world.rig.polled().progress.flaws.clone();
        assert_eq!(flaws.left_out, 6 - count, "{body}");
        let first = flaws.first.expect("an error");
        assert!(first.contains("of page 1"), "{first}");
        let snapshot = world.rig.snapshot().await;
        for id in 1..=6 {
            let value = if good.contains(&id) { "\"v\":7" } else { "\"v\":0" };
            assert!(snapshot[&id.to_string()].contains(value), "{id}: {body}");
        }
        // The same bytes, and a restart between: nothing is counted as missing meanwhile.
        world.upstream.next(Answer::json(body.clone()));
        assert_eq!(world.poll().await, Polling::Unchanged, "{body}");
        world.restart(&list(KEEP)).await;
        world.upstream.next(Answer::json(body));
        assert_eq!(world.poll().await, Polling::Unchanged);
        assert!(!world.rig.polled().progress.flaws.is_none(), "status still tells it");
        // What a keyless record hides is deleted by the next answer without one.
        world.upstream.next(Answer::json(r#"[{"id":1,"v":9,"meta":{}}]"#));
        world.poll().await;
        assert_eq!(world.rig.snapshot().await.len(), 1, "keyless: {keyless}");
        assert!(world.rig.polled().progress.flaws.is_none());
    }
}

/// Beside a record with a key that cannot be read, what is missing is deleted; beside one without a key it is not.
#[tokio::test]
async fn only_a_record_without_a_key_hides_deletions() {
    let mut world = World::start(&list("bad-records = \"keep\"\nignore = [\".meta | .at\"]")).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"meta":{}},{"id":2,"meta":{}},{"id":3,"meta":{}}]"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    world.upstream.next(Answer::json(r#"[{"id":1,"meta":{}},{"no":2}]"#));
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.next(Answer::json(r#"[{"id":1,"meta":{}},{"id":2,"meta":"x"}]"#));
    assert_eq!(world.poll().await, changed(0, 0, 1));
    assert_eq!(world.rig.lines().await, ["orders.deleted 3 #1"]);
    // Where nothing at all can be read the answer is not a list.
    world.upstream.next(Answer::json(r#"{"error":"down","code":7}"#));
    assert!(world.fail().await.contains("`key` on record 1 of page 1"));
    // Without the setting one bad record fails the poll, as ever.
    world.restart(LIST).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"meta":{}},{"no":2}]"#));
    assert!(world.fail().await.contains("record 2 of page 1 has no key"));
}
