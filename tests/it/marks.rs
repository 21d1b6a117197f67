//! Marks of `since` and next pages over a whole poll: what is sent, what is committed, and what an answer says of them.

use std::sync::Arc;

use bellpull::{clock::Clock, model::Timestamp, poller::Polling, store::memory::MemoryEngine};

use crate::support::{
    rig::{World, list, refused},
    server::{Answer, Request, eventually},
};

fn changed(created: u64, updated: u64, deleted: u64) -> Polling {
    Polling::Changed { created, updated, deleted }
}

fn synced(lines: &str) -> String {
    list(lines).replace("\".[]\"", "\".data[]\"")
}

/// commontoolsinc/labs#1296, plaid-sdk-php#84: the sync token stands on the last page, and no record has it. The whole list was read at
/// each poll, or nothing at all.
#[tokio::test]
async fn a_token_of_the_last_page_is_sent_with_the_next_poll() {
    let lines = "since = { param = \"sync\", token = \".sync\" }\n\
                 source.http.pages.cursor = { param = \"page\", next = \".next\" }";
    let mut world = World::start(&synced(lines)).await;
    let page = |data: &str, rest: &str| Answer::json(format!(r#"{{"data":{data},{rest}}}"#));
    world.upstream.next(page(r#"[{"id":1},{"id":2}]"#, r#""next":"p2","sync":"not this one""#));
    world.upstream.next(page(r#"[{"id":3}]"#, r#""next":null,"sync":"007""#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    world.upstream.next(page(r#"[{"id":2,"v":1},{"id":4}]"#, r#""sync":"008""#));
    assert_eq!(world.poll().await, changed(1, 1, 0), "what it lacks is not deleted");
    // Nothing is new, and the token goes on all the same.
    world.upstream.next(page("[]", r#""sync":"009""#));
    assert_eq!(world.poll().await, Polling::Same);
    // A page without a token says nothing of it, and a poll that fails moves nothing.
    world.upstream.next(page("[]", r#""sync":null"#));
    world.poll().await;
    world.upstream.next(Answer::new(500, ""));
    world.fail().await;
    world.restart(&synced(lines)).await;
    world.upstream.next(page("[]", r#""sync":"010""#));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(
        targets,
        [
            "/items",
            "/items?page=p2",
            "/items?sync=007",
            "/items?sync=008",
            "/items?sync=009",
            "/items?sync=009",
            "/items?sync=009"
        ]
    );
}

/// A token that a server has forgotten was sent for ever.
#[tokio::test]
async fn a_status_of_reset_starts_again_and_compares() {
    let lines = "since = { param = \"sync\", token = \".sync\", reset = [410] }";
    let mut world = World::start(&synced(lines)).await;
    let whole = r#"{"data":[{"id":1},{"id":2},{"id":3}],"sync":"a"}"#;
    world.upstream.next(Answer::json(whole));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    // It was gone for long: one record changed, one is new, and one is not there any more.
    world.upstream.next(Answer::new(410, "gone"));
    world.upstream.next(Answer::json(r#"{"data":[{"id":1,"v":1},{"id":2},{"id":4}],"sync":"b"}"#));
    assert_eq!(world.poll().await, changed(1, 1, 0), "nothing is deleted by it");
    // The same bytes as those of an accepted answer: the token in them counts.
    world.upstream.next(Answer::new(410, "gone"));
    world.upstream.next(Answer::json(r#"{"data":[{"id":1,"v":1},{"id":2},{"id":4}],"sync":"b"}"#));
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.next(Answer::json(r#"{"data":[],"sync":"c"}"#));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(
        targets,
        ["/items", "/items?sync=a", "/items", "/items?sync=b", "/items", "/items?sync=b"],
        "each refused token is followed by the first request"
    );
    // A refusal of the first request is a failure like any other.
    world.upstream.next(Answer::new(410, "gone"));
    world.upstream.next(Answer::new(410, "gone"));
    assert!(world.fail().await.contains("410"));
}

/// Records that count from the beginning again after a reset never moved the mark: it was higher than all of them.
#[tokio::test]
async fn a_reset_drops_the_mark_of_records_too() {
    let lines = "since = { param = \"after\", from = \".seq\", order = \"number\", reset = [410] }";
    let mut world = World::start(&list(lines)).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"seq":900}]"#));
    world.poll().await;
    world.upstream.next(Answer::new(410, ""));
    world.upstream.next(Answer::json(r#"[{"id":1,"seq":5}]"#));
    assert_eq!(world.poll().await, changed(0, 1, 0));
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    assert_eq!(world.upstream.last().target, "/items?after=5");
}

/// Kinto's `ETag`, dlt-hub/dlt#2280: the token stands in a header, and the bytes of the page stay the same when it moves.
#[tokio::test]
async fn a_token_may_stand_in_a_header_of_the_last_page() {
    let lines = "since = { param = \"sync\", token = '$headers[\"x-sync\"] // (if $status == 204 then \"none\" else null end)' }\n\
                 source.http.pages.link = {}";
    let mut world = World::start(&list(lines)).await;
    let page = |data: &str, token: &str| Answer::json(data).header("x-sync", token);
    world.upstream.next(page("[{\"id\":1}]", "first").header("link", "</items?page=2>; rel=next"));
    world.upstream.next(page("[{\"id\":2}]", "a"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    world.upstream.next(page("[]", "b"));
    assert_eq!(world.poll().await, Polling::Same);
    // The bytes of the accepted answer.
    world.upstream.next(page("[]", "c"));
    assert_eq!(world.poll().await, Polling::Same);
    world.upstream.next(Answer::json("[{\"id\":3}]"));
    assert_eq!(world.poll().await, changed(1, 0, 0), "without one the known token stays");
    world.upstream.next(Answer::new(204, ""));
    world.poll().await;
    world.upstream.next(page("[]", "d"));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(
        targets,
        [
            "/items",
            "/items?page=2",
            "/items?sync=a",
            "/items?sync=b",
            "/items?sync=c",
            "/items?sync=c",
            "/items?sync=none"
        ]
    );
}

/// An answer that was held is kept without its headers: its token is not known when it is accepted, and the old one asks again.
#[tokio::test]
async fn a_held_answer_keeps_the_known_token_where_a_header_names_it() {
    let lines = "since = { param = \"sync\", token = '$headers[\"x-sync\"]' }\nguard.changes = 0.1";
    let mut world = World::start(&list(lines)).await;
    let data = |v: usize| {
        let records: Vec<_> = (1..=20).map(|id| format!(r#"{{"id":{id},"v":{v}}}"#)).collect();
        Answer::json(format!("[{}]", records.join(",")))
    };
    world.upstream.next(data(0).header("x-sync", "a"));
    world.poll().await;
    world.upstream.next(data(1).header("x-sync", "b"));
    assert_eq!(world.poll().await, Polling::Held);
    let poller = world.rig.poller.clone();
    poller.accept(world.rig.polled(), None).await.expect("accepted");
    world.upstream.next(data(1).header("x-sync", "b"));
    assert_eq!(world.poll().await, Polling::Same, "what comes again is known");
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/items", "/items?sync=a", "/items?sync=a", "/items?sync=b"]);
}

const WINDOWS: &str = "since = { param = \"from\", from = \".at\", order = \"time\", start = \"2026-01-01T00:00:00Z\", \
                       window = \"30d\", until = { param = \"to\" } }";

/// A world at a time.
async fn world_at(now: &str, text: &str) -> (World, Clock) {
    let clock = Clock::starting_at(Timestamp::parse(now).expect("a time"));
    (World::at(Arc::new(MemoryEngine::new()), clock.clone(), text).await, clock)
}

/// The times that were asked for, by day.
fn asked(world: &World) -> Vec<(String, String)> {
    let day = |r: &Request, name: &str| r.query[name].clone();
    world.upstream.requests().iter().map(|r| (day(r, "from"), day(r, "to"))).collect()
}

/// An API that takes 30 days at most: `to` was made of the mark, and stood still before a month without records.
#[tokio::test]
async fn a_window_goes_on_over_a_time_without_records() {
    let (mut world, _) = world_at("2026-05-10T12:00:00Z", &list(WINDOWS)).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"at":"2026-01-20T08:00:00Z"}]"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    // The record of the mark itself comes again: a default overlap reaches back to it.
    world.upstream.next(Answer::json(r#"[{"id":1,"at":"2026-01-20T08:00:00Z"}]"#));
    world.poll().await;
    world.upstream.next(Answer::json(r#"[{"id":1,"at":"2026-01-20T08:00:00Z"}]"#));
    world.poll().await;
    // The same bytes as before, and then nothing at all for two windows.
    for _ in 0..3 {
        world.upstream.next(Answer::json("[]"));
        world.poll().await;
    }
    world.upstream.next(Answer::json(r#"[{"id":2,"at":"2026-05-09T00:00:00Z"}]"#));
    assert_eq!(world.poll().await, changed(1, 0, 0));
    // Up to now: an empty answer moves nothing any more.
    for _ in 0..2 {
        world.upstream.next(Answer::json("[]"));
        world.poll().await;
    }
    let asked = asked(&world);
    let expected = [
        ("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z"),
        ("2026-01-20T07:59:59Z", "2026-02-19T07:59:59Z"),
        ("2026-01-20T08:00:00Z", "2026-02-19T08:00:00Z"),
        ("2026-02-19T07:59:59Z", "2026-03-21T07:59:59Z"),
        ("2026-03-21T07:59:58Z", "2026-04-20T07:59:58Z"),
        ("2026-04-20T07:59:57Z", "2026-05-10T12:00:00Z"),
        ("2026-04-20T07:59:58Z", "2026-05-10T12:00:00Z"),
        ("2026-05-08T23:59:59Z", "2026-05-10T12:00:00Z"),
        ("2026-05-09T00:00:00Z", "2026-05-10T12:00:00Z"),
    ];
    assert_eq!(asked.len(), expected.len());
    for ((from, to), (expected_from, expected_to)) in asked.iter().zip(expected) {
        assert_eq!(from, expected_from);
        // Of now only the minute: a manual clock moves on.
        assert_eq!(to[..16], expected_to[..16], "from {from}");
    }
}

/// Each window waited for `every`: a year took twelve of them.
#[tokio::test]
async fn what_is_behind_does_not_wait_for_the_next_beat() {
    let text = list(WINDOWS).replace("\"100ms\"", "\"1h\"");
    let (mut world, _) = world_at("2026-03-10T00:00:00Z", &text).await;
    world.upstream.always(Some(Answer::json("[]").into()));
    let handle = world.rig.run().await;
    handle.poll("orders".into()).await.expect("polled");
    eventually("it comes to now", async || {
        world.upstream.requests().last().is_some_and(|r| r.query["to"].starts_with("2026-03-10"))
    })
    .await;
    // Then the beat counts again.
    eventually("its beat", async || {
        let next = handle.status().await["orders"].next_poll.clone();
        next.is_some_and(|at| {
            Timestamp::parse(&at).expect("a time") > Timestamp::parse("2026-03-10T00:30:00Z").expect("a time")
        })
    })
    .await;
    assert_eq!(
        asked(&world).iter().map(|(_, to)| &to[..10]).collect::<Vec<_>>(),
        ["2026-01-31", "2026-03-01", "2026-03-10"]
    );
}

/// A server whose clock is behind may still bring something before the window's end.
#[tokio::test]
async fn a_window_that_is_not_over_by_the_servers_clock_is_asked_for_again() {
    let (mut world, _) = world_at("2026-01-31T00:00:30Z", &list(WINDOWS)).await;
    for date in ["Fri, 30 Jan 2026 23:59:59 GMT", "Sat, 31 Jan 2026 00:00:00 GMT"] {
        world.upstream.next(Answer::json("[]").header("date", date));
        world.poll().await;
    }
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    let from: Vec<_> = asked(&world).into_iter().map(|(from, _)| from).collect();
    assert_eq!(from, ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-30T23:59:59Z"]);
}

/// jq puts both ends where they belong, and an overlap of the file's own always counts.
#[tokio::test]
async fn a_window_may_stand_in_jq_and_outlives_a_restart() {
    let lines = WINDOWS.replace("param = \"from\", ", "").replace("until = { param = \"to\" }", "overlap = \"1h\"");
    let text = list(&format!("{lines}\nsource.http.query.at = {{ jq = '\"\\(.mark)/\\(.until)\"' }}"));
    let (mut world, _) = world_at("2026-05-10T12:00:00Z", &text).await;
    world.upstream.always(Some(Answer::json("[]").into()));
    world.poll().await;
    world.poll().await;
    let asked: Vec<_> = world.upstream.requests().iter().map(|r| r.query["at"].clone()).collect();
    assert_eq!(asked, ["2026-01-01T00:00:00Z/2026-01-31T00:00:00Z", "2026-01-30T23:00:00Z/2026-03-01T23:00:00Z"]);
    world.restart(&text).await;
    world.poll().await;
    assert!(world.upstream.last().query["at"].starts_with("2026-03-01T22:00:00Z/"), "the mark is committed");
}

#[test]
fn a_window_that_cannot_move_on_is_refused() {
    for (from, to, wrong) in [
        ("window = \"30d\"", "window = \"1s\"", "is not longer than `overlap`"),
        ("window = \"30d\"", "overlap = \"40d\", window = \"30d\"", "is not longer than `overlap`"),
        ("start = \"2026-01-01T00:00:00Z\", ", "", "needs `start`"),
        ("start = \"2026-01-01T00:00:00Z\"", "start = \"2026\"", "needs `start`"),
        ("order = \"time\", start = \"2026-01-01T00:00:00Z\"", "order = \"number\", start = 1", "is a length of time"),
        (", until = { param = \"to\" }", "", "nothing says where the end of the window goes"),
        ("window = \"30d\", ", "", "`until` stands without `window`"),
        ("until = { param = \"to\" }", "until = { variable = \"to\" }", "unknown key"),
        ("until = { param = \"to\" }", "until = {}", "`param`, `header` or `json` is missing"),
    ] {
        let text = format!(
            "{}\n[endpoint.me]\nurl = \"https://example.com\"\nsign.standard.secrets = [{{ env = \"SECRET\" }}]\n",
            list(&WINDOWS.replace(from, to))
        );
        let error = refused(&text.replace("UPSTREAM", "https://api.example.com"));
        assert!(error.contains(wrong), "{to}: {error}");
    }
}

/// Microsoft's delta links: the URL of the next poll is what the last one said. It must not lead anywhere else.
#[tokio::test]
async fn a_delta_link_is_the_next_url_on_the_same_origin_only() {
    let text = synced("since = { token = \".delta\" }")
        .replace("source.http.url = \"UPSTREAM/items\"", "source.http.url = { jq = '.mark // \"UPSTREAM/items\"' }");
    let mut world = World::start(&text).await;
    let origin = world.upstream.origin();
    world.upstream.next(Answer::json(format!(r#"{{"data":[{{"id":1}}],"delta":"{origin}/delta?token=a%20b"}}"#)));
    world.poll().await;
    world.upstream.next(Answer::json(r#"{"data":[],"delta":"https://elsewhere.example/delta"}"#));
    world.poll().await;
    assert_eq!(world.upstream.last().target, "/delta?token=a%20b");
    let error = world.fail().await;
    assert!(error.contains("the mark https://elsewhere.example, which is on another origin"), "{error}");
    assert_eq!(world.upstream.count(), 2);
}

/// A token may be any JSON value where the place takes one, and one that could not be sent is not committed.
#[tokio::test]
async fn a_token_keeps_its_type_and_one_that_cannot_be_sent_fails() {
    let lines = "since = { json = \"after\", token = \".sync\" }\nsource.http.method = \"POST\"\nsource.http.json = {}";
    let mut world = World::start(&synced(lines)).await;
    for sync in [r#"[17,"a"]"#, r#"{"k":[null]}"#, "\"7\"", "7"] {
        world.upstream.next(Answer::json(format!(r#"{{"data":[],"sync":{sync}}}"#)));
        world.poll().await;
        world.upstream.next(Answer::json(format!(r#"{{"data":[{{"id":{:?}}}],"sync":{sync}}}"#, sync)));
        world.poll().await;
        assert_eq!(world.upstream.last().json().to_string(), format!(r#"{{"after":{sync}}}"#));
    }
    let mut world = World::start(&synced("since = { param = \"after\", token = \".sync\" }")).await;
    world.upstream.always(Some(Answer::json(r#"{"data":[],"sync":[1]}"#).into()));
    assert!(world.fail().await.contains("only a place in `json`"));
    world.upstream.always(Some(Answer::json(r#"{"data":[]}"#).into()));
    assert!(world.fail().await.contains("`since.token` gives nothing"));
}

#[tokio::test]
async fn a_held_answer_moves_no_token_until_it_is_accepted() {
    let lines = "since = { param = \"sync\", token = \".sync\" }\nguard.changes = 0.1";
    let mut world = World::start(&synced(lines)).await;
    let data = |v: usize| (1..=20).map(|id| format!(r#"{{"id":{id},"v":{v}}}"#)).collect::<Vec<_>>().join(",");
    world.upstream.next(Answer::json(format!(r#"{{"data":[{}],"sync":"a"}}"#, data(0))));
    world.poll().await;
    let second = Answer::json(format!(r#"{{"data":[{}],"sync":"b"}}"#, data(1)));
    world.upstream.always(Some(second.into()));
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(world.upstream.last().target, "/items?sync=a");
    let poller = world.rig.poller.clone();
    poller.accept(world.rig.polled(), None).await.expect("accepted");
    world.poll().await;
    assert_eq!(world.upstream.last().target, "/items?sync=b");
}

#[test]
fn a_token_stands_alone() {
    for (beside, wrong) in [
        ("from = \".id\"", "`bridge.orders.since.from` stands beside `token`"),
        ("order = \"text\"", "`bridge.orders.since.order` stands beside `token`"),
        ("overlap = \"1s\"", "`bridge.orders.since.overlap` stands beside `token`"),
        ("max = 5", "`bridge.orders.since.max` stands beside `token`"),
    ] {
        let text = list(&format!("since = {{ param = \"a\", token = \".t\", {beside} }}"));
        let text = format!(
            "{text}\n[endpoint.me]\nurl = \"https://example.com\"\nsign.standard.secrets = [{{ env = \"SECRET\" }}]\n"
        );
        let error = refused(&text.replace("UPSTREAM", "https://api.example.com"));
        assert!(error.contains(wrong), "{error}");
    }
}

/// One record from the year 9999 moved the mark there, and nothing was ever new again.
#[tokio::test]
async fn an_absurd_mark_is_not_obeyed() {
    let number =
        |more: &str| list(&format!("since = {{ param = \"after\", from = \".seq\", order = \"number\"{more} }}"));
    let mut world = World::start(&number("")).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"seq":5},{"id":2,"seq":99999}]"#));
    world.poll().await;
    // What is committed already does not count either, once the file says so.
    world.restart(&number(", max = 1000")).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"seq":6},{"id":2,"seq":99999}]"#));
    assert_eq!(world.poll().await, changed(0, 1, 0));
    let hints = world.rig.polled().progress.hints.clone();
    assert!(hints.len() == 1 && hints[0].contains("the mark 99999, beyond `since.max`"), "{hints:?}");
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/items", "/items", "/items?after=6"]);

    let mut world = World::start(&list("since = { param = \"after\", from = \".at\", order = \"time\" }")).await;
    world.upstream.next(Answer::json(r#"[{"id":1,"at":"2026-01-01T00:00:01Z"},{"id":2,"at":"9999-12-31T23:59:59Z"}]"#));
    world.poll().await;
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    assert_eq!(world.upstream.last().query["after"], "2026-01-01T00:00:00Z", "from a second before the other record");
}

/// python-gitlab#1254, baserow#2286: a server behind a proxy names itself `http://` in its links.
#[tokio::test]
async fn a_link_of_another_origin_is_followed_on_the_own_one_where_the_file_says_so() {
    let foreign = |page| format!("<http://inner.example:81/items?page={page}&q=a%20b>; rel=\"next\"");
    let mut world = World::start(&list("source.http.pages.link = { origin = \"keep\" }")).await;
    world.upstream.next(Answer::json(r#"[{"id":1}]"#).header("link", foreign(2)));
    world.upstream.next(Answer::json(r#"[{"id":2}]"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    assert_eq!(world.upstream.last().target, "/items?page=2&q=a%20b");
    let mut world = World::start(&list("source.http.pages.link = {}")).await;
    world.upstream.next(Answer::json(r#"[{"id":1}]"#).header("link", foreign(2)));
    assert!(world.fail().await.contains("another origin"));
}

/// `meta.total` was 26, 10 records came, and nobody said a word.
#[tokio::test]
async fn pages_that_nobody_reads_are_told_until_they_are_read() {
    let mut world = World::start(&synced("")).await;
    world.upstream.next(Answer::json(r#"{"data":[{"id":1}],"meta":{"total":26}}"#));
    world.poll().await;
    let hints = world.rig.polled().progress.hints.clone();
    assert!(hints.len() == 1 && hints[0].contains("`total`: 26, and 1 records came"), "{hints:?}");
    world.upstream.next(Answer::json(r#"{"data":[{"id":1}],"meta":{"total":1}}"#));
    world.poll().await;
    assert!(world.rig.polled().progress.hints.is_empty());
    world.upstream.next(Answer::json(r#"{"data":[{"id":2}]}"#).header("link", "</items?page=2>; rel=\"next\""));
    world.poll().await;
    let hints = world.rig.polled().progress.hints.clone();
    assert!(hints.len() == 1 && hints[0].contains("pages.link = {}"), "{hints:?}");
}

/// prometheus sent 19 events in 20 s for a timestamp in each record, and nothing said why.
#[tokio::test]
async fn a_field_that_changes_at_each_poll_is_told_until_it_is_ignored() {
    let mut world = World::start(&list("ignore = [\".etag\"]")).await;
    let records = |n: usize, other: &str| {
        let record = |id: usize| format!(r#"{{"id":{id},"etag":{n},"value":[{n},"{other}"]}}"#);
        Answer::json(format!("[{}]", (1..=12).map(record).collect::<Vec<_>>().join(",")))
    };
    let hints = |world: &mut World| world.rig.polled().progress.hints.clone();
    for n in 0..6 {
        assert_eq!(hints(&mut world), [""; 0], "{n}");
        world.upstream.next(records(n, "a"));
        world.poll().await;
    }
    let hint = hints(&mut world);
    assert!(hint.len() == 1 && hint[0].ends_with("write ignore = [\".etag\", \".value[0]\"]"), "{hint:?}");
    // The same hint as long as it goes on.
    world.upstream.next(records(6, "a"));
    world.poll().await;
    assert_eq!(hints(&mut world), hint);
    world.restart(&list("ignore = [\".etag\", \".value[0]\"]")).await;
    world.upstream.next(records(7, "a"));
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(hints(&mut world), [""; 0]);
    world.upstream.next(records(8, "b"));
    assert_eq!(world.poll().await, changed(0, 12, 0), "what counts still counts");
}

/// Prices of a few products that change are what the bridge is for.
#[tokio::test]
async fn a_field_that_changes_in_some_records_is_no_hint() {
    let mut world = World::start(&list("")).await;
    for n in 0..9 {
        let record = |id: usize| format!(r#"{{"id":{id},"price":{}}}"#, if id.is_multiple_of(2) { n } else { 0 });
        let all: Vec<_> = (1..=12).map(record).collect();
        world.upstream.next(Answer::json(format!("[{}]", all.join(","))));
        world.poll().await;
        assert!(world.rig.polled().progress.hints.is_empty(), "{n}");
    }
}

/// An API whose pages are `/page/2` was impossible, and `url = ".../page/{page}"` was sent as it stood.
#[tokio::test]
async fn a_number_an_offset_or_a_cursor_stands_in_the_path() {
    let url = |made: &str| format!("source.http.url = {{ jq = '\"UPSTREAM{made}\"' }}");
    let fixed = "source.http.url = \"UPSTREAM/items\"";
    let ids = |ids: &[u8], next: &str| {
        let data: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        Answer::json(format!(r#"{{"data":[{}],"next":{next}}}"#, data.join(",")))
    };
    for (pages, made, targets) in [
        ("page = {}", "/page/\\($page)", ["/page/1?k=1", "/page/2?k=1", "/page/3?k=1"]),
        ("offset = {}", "/from/\\($page)/x", ["/from/0/x?k=1", "/from/2/x?k=1", "/from/3/x?k=1"]),
        (
            "cursor = { next = \".next\" }",
            "/after/\\($page // \"first\" | @uri)",
            ["/after/first?k=1", "/after/a%2Fb?k=1", "/after/7?k=1"],
        ),
    ] {
        let lines = format!("source.http.query = {{ k = 1 }}\nsource.http.pages.{pages}");
        let mut world = World::start(&synced(&lines).replace(fixed, &url(made))).await;
        for (given, next) in [(&[1, 2][..], "\"a/b\""), (&[3][..], "7"), (&[][..], "null")] {
            world.upstream.next(ids(given, next));
        }
        assert_eq!(world.poll().await, Polling::Baseline { records: 3 }, "{pages}");
        let asked: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target).collect();
        assert_eq!(asked, targets, "{pages}");
    }
}

/// Elasticsearch's scroll: the next request has another body than the first one.
#[tokio::test]
async fn the_next_body_of_a_scroll_is_made_of_the_cursor() {
    let lines = "source.http.method = \"POST\"\n\
                 source.http.json = { jq = 'if $page then {scroll_id: $page} else {query: \"all\", size: 2} end' }\n\
                 source.http.pages.cursor = { next = \".id\", end = \".data == []\" }";
    let mut world = World::start(&synced(lines)).await;
    world.upstream.next(Answer::json(r#"{"data":[{"id":1},{"id":2}],"id":"s1"}"#));
    world.upstream.next(Answer::json(r#"{"data":[{"id":3}],"id":["s",2]}"#));
    world.upstream.next(Answer::json(r#"{"data":[],"id":"s3"}"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    let bodies: Vec<String> = world.upstream.requests().iter().map(|r| r.json().to_string()).collect();
    assert_eq!(bodies, [r#"{"query":"all","size":2}"#, r#"{"scroll_id":"s1"}"#, r#"{"scroll_id":["s",2]}"#]);
}

/// A cursor is what a server said: it leads to no other origin.
#[tokio::test]
async fn a_cursor_in_the_url_stays_on_its_origin() {
    let text = synced("source.http.pages.cursor = { next = \".next\" }")
        .replace("source.http.url = \"UPSTREAM/items\"", "source.http.url = { jq = '$page // \"UPSTREAM/items\"' }");
    let mut world = World::start(&text).await;
    world.upstream.next(Answer::json(r#"{"data":[{"id":1}],"next":"https://elsewhere.example/x"}"#));
    assert!(world.fail().await.contains("the next page https://elsewhere.example, which is on another origin"));
    assert_eq!(world.upstream.count(), 1);
}

#[test]
fn a_page_that_nothing_counts_is_refused() {
    for pages in ["", "source.http.pages.link = {}", "source.http.pages.next-url = { next = \".next\" }"] {
        let text = list(pages)
            .replace("source.http.url = \"UPSTREAM/items\"", "source.http.url = { jq = '\"UPSTREAM/\\($page)\"' }");
        let text = format!(
            "{text}\n[endpoint.me]\nurl = \"https://example.com\"\nsign.standard.secrets = [{{ env = \"SECRET\" }}]\n"
        );
        let error = refused(&text.replace("UPSTREAM", "https://api.example.com"));
        assert!(error.contains("uses `$page`") && error.contains("write `pages.page`"), "{error}");
    }
}

/// A source that gives the earliest two records, and has more than two of one second, was asked the same question for ever.
#[tokio::test]
async fn a_source_that_gives_a_few_records_of_one_second_goes_on() {
    let lines = "since = { param = \"after\", from = \".at\", order = \"time\" }";
    let mut world = World::start(&list(lines)).await;
    let page = |ids: [u32; 2], at: &str| {
        Answer::json(format!(r#"[{{"id":{},"at":"{at}"}},{{"id":{},"at":"{at}"}}]"#, ids[0], ids[1]))
    };
    let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z");
    world.upstream.next(page([1, 2], first));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    world.upstream.next(page([1, 2], first));
    assert_eq!(world.poll().await, Polling::Unchanged);
    world.upstream.next(page([3, 4], second));
    assert_eq!(world.poll().await, changed(2, 0, 0));
    world.upstream.next(Answer::json("[]"));
    world.poll().await;
    let targets: Vec<_> = world.upstream.requests().into_iter().map(|r| r.target.replace("%3A", ":")).collect();
    assert_eq!(
        targets[1..],
        [
            "/items?after=2025-12-31T23:59:59Z",
            "/items?after=2026-01-01T00:00:00Z",
            "/items?after=2025-12-31T23:59:59.500Z"
        ]
    );
}
