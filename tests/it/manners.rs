//! How bellpull treats a server: budgets that are used up, a pace shared by all bridges, and walks that wait, stop early or
//! follow a job.

use std::time::Duration;

use bellpull::poller::Polling;
use tokio::time::Instant;

use crate::support::{
    rig::{LIST, World, list},
    server::{Answer, Server},
    upstream::Paging,
};

/// A list that is walked by Link headers, two records a page.
fn linked(lines: &str) -> String {
    list(&format!("{lines}\nsource.http.pages.link = {{ max = 50 }}"))
}

fn records(ids: &[u32]) -> String {
    let all: Vec<String> = ids.iter().map(|id| format!("{{\"id\":{id}}}")).collect();
    format!("[{}]", all.join(","))
}

/// Times between the requests that came.
fn gaps(world: &World) -> Vec<Duration> {
    let at: Vec<Instant> = world.upstream.requests().iter().map(|r| r.at).collect();
    at.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test]
async fn a_budget_that_is_used_up_delays_the_next_poll() {
    let mut world = World::start(LIST).await;
    let hint = |answer: Answer| {
        world.upstream.next(answer);
    };
    hint(Answer::json("[]").header("x-ratelimit-remaining", "0").header("x-ratelimit-reset", "90"));
    hint(Answer::json("[]").header("x-ratelimit-remaining", "1").header("x-ratelimit-reset", "90"));
    hint(Answer::json("[]").header("x-poll-interval", "60"));
    hint(Answer::json("[]").header("cache-control", "max-age=45"));
    hint(Answer::new(403, "slow down").header("x-ratelimit-remaining", "0").header("ratelimit-reset", "9"));
    hint(Answer::new(429, "{}").header("ratelimit", "limit=5, remaining=0, reset=7"));
    hint(Answer::new(429, "{}").header("retry-after", "0.5").header("x-ratelimit-reset-after", "0.5"));
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(world.rig.poll().await.hint.map(|hint| hint.as_millis()));
    }
    assert_eq!(seen, [Some(90_000), None, Some(60_000), Some(45_000), None, Some(7_000), Some(500)]);
}

#[tokio::test]
async fn a_walk_waits_where_the_budget_ends_in_its_middle() {
    let mut world = World::start(&linked("")).await;
    let first = |reset: &str| {
        Answer::json("[{\"id\":1},{\"id\":2}]")
            .header("link", "</items?page=2>; rel=\"next\"")
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset-after", reset)
    };
    world.upstream.next(first("1.2"));
    world.upstream.next(Answer::json("[{\"id\":3}]"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    assert!(gaps(&world)[0] >= Duration::from_millis(1_190), "{:?}", gaps(&world));
    // Longer than the deadline leaves: the poll fails, and the next one comes when there is a new budget.
    world.upstream.next(first("3600"));
    let before = world.rig.export().await;
    let outcome = world.rig.poll().await;
    let error = outcome.result.expect_err("refused").to_string();
    assert!(error.ends_with("allows no more requests for 1h0m: the next page is not asked for"), "{error}");
    assert_eq!(outcome.hint, Some(Duration::from_secs(3600)));
    assert_eq!((world.upstream.count(), world.rig.export().await), (3, before));
}

#[tokio::test]
async fn a_rate_is_shared_by_all_bridges_of_an_origin_and_the_slowest_counts() {
    let bridge = |name: &str, rate: &str| {
        format!(
            "[bridge.{name}]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\n\
             source.http = {{ url = \"UPSTREAM/items\", {rate} }}\n"
        )
    };
    let text = bridge("a", "rate = \"20/s\"") + &bridge("b", "rate = \"5/s\"") + &bridge("c", "timeout = \"9s\"");
    let mut world = World::start(&text).await;
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            world.rig.poll_of(name).await.result.expect("accepted");
        }
    }
    assert_eq!(world.upstream.count(), 6);
    let gaps = gaps(&world);
    // Of arrivals: one may be late, and the next one then seems early. Together they cannot be.
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(100)), "{gaps:?}");
    assert!(gaps.iter().sum::<Duration>() >= Duration::from_millis(900), "{gaps:?}");
}

#[tokio::test]
async fn pages_come_with_a_delay_and_end_where_a_page_says_so() {
    let text = LIST
        .replace("items = \".[]\"", "items = \".data[]\"")
        .replace("source.http.url", "source.http.pages.page = { delay = \"120ms\", end = \".last\" }\nsource.http.url");
    let mut world = World::start(&text).await;
    for (ids, last) in [([1, 2], false), ([3, 4], false), ([5, 6], true)] {
        world.upstream.next(Answer::json(format!("{{\"data\":{},\"last\":{last}}}", records(&ids))));
    }
    assert_eq!(world.poll().await, Polling::Baseline { records: 6 });
    assert_eq!(world.upstream.count(), 3, "the last page has records, and nothing is asked after it");
    assert!(gaps(&world).iter().all(|gap| *gap >= Duration::from_millis(119)), "{:?}", gaps(&world));
}

#[tokio::test]
async fn a_walk_that_stops_at_what_is_known_asks_for_no_more_than_is_new() {
    let text = list("source.http.pages.link = { stop = \"known\" }");
    let mut world = World::start(&text).await;
    world.upstream.paging(Paging::Link(2));
    world.upstream.fill(8);
    assert_eq!(world.poll().await, Polling::Baseline { records: 8 });
    assert_eq!(world.upstream.count(), 4);
    world.poll().await;
    assert_eq!(world.upstream.count(), 5, "one page tells that there is nothing new");
    world.upstream.put_first("9", r#"{"id":9,"v":0}"#);
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    world.poll().await;
    // 9, 1 | 2, 3: the second page is known.
    assert_eq!(world.upstream.count(), 7);
    assert_eq!(world.rig.lines().await, ["orders.created 9 #1", "orders.updated 1 #2"]);
    // What fell off the end, or stands behind the known page, is not gone: the source is a window.
    world.upstream.remove("9");
    world.poll().await;
    assert_eq!(world.rig.lines().await.len(), 2);
    assert_eq!(world.rig.snapshot().await.len(), 9);
}

#[tokio::test]
async fn a_page_that_is_not_ready_is_asked_again() {
    let text = LIST.replace("items = \".[]\"", "items = \".results[]\"").replace(
        "source.http.url",
        "source.http.retry = '.status == \"INVALID_REQUEST\"'\nsource.http.fail = 'if .status == \"OK\" then null else .status end'\nsource.http.url",
    );
    let mut world = World::start(&text).await;
    world.upstream.next(Answer::json(r#"{"status":"INVALID_REQUEST","results":[]}"#));
    world.upstream.next(Answer::json(r#"{"status":"OK","results":[{"id":1}]}"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let waited = gaps(&world);
    assert!(waited.len() == 1 && waited[0] >= Duration::from_millis(1_990), "{waited:?}");
    world.upstream.next(Answer::json(r#"{"status":"REQUEST_DENIED","results":[]}"#));
    let error = world.fail().await;
    assert!(error.ends_with("says that it failed (`fail`): REQUEST_DENIED"), "{error}");
}

/// `retry` for ever ends with the deadline.
#[tokio::test]
async fn a_page_that_is_never_ready_meets_the_deadline() {
    let mut world = World::start(&list("source.http.retry = \"true\"\nsource.http.deadline = \"2500ms\"")).await;
    let error = world.fail().await;
    assert!(error.ends_with("did not come within 2s (`deadline`)"), "{error}");
    assert_eq!(world.upstream.count(), 2);
}

fn job(keys: &str) -> String {
    let text = LIST.replace("items = \".[]\"\nkey = \".id\"\n", "");
    text.replace("source.http.url", &format!("source.http.job = {{ every = \"50ms\"{keys} }}\nsource.http.url"))
}

#[tokio::test]
async fn a_202_is_followed_to_its_end() {
    let mut world = World::start(&job("")).await;
    world.upstream.next(Answer::new(202, "").header("location", "/jobs/7"));
    world.upstream.next(Answer::new(202, ""));
    world.upstream.next(Answer::json(r#"{"image":"a"}"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let paths: Vec<String> = world.upstream.requests().iter().map(|r| r.path.clone()).collect();
    assert_eq!(paths, ["/items", "/jobs/7", "/jobs/7"]);
    assert_eq!(world.rig.snapshot().await[""], r#"{"image":"a"}"#);
}

#[tokio::test]
async fn a_job_without_a_place_of_its_own_is_asked_for_where_it_began() {
    let mut world = World::start(&job("")).await;
    world.upstream.next(Answer::new(202, "{\"id\":\"x\"}"));
    world.upstream.next(Answer::new(202, "{\"id\":\"x\"}").header("retry-after", "0.3"));
    world.upstream.next(Answer::json("[1]"));
    world.poll().await;
    let waited = gaps(&world);
    assert!(waited.len() == 2 && waited[1] >= Duration::from_millis(290), "{waited:?}");
}

#[tokio::test]
async fn jq_says_where_a_job_is_and_whether_it_is_done_or_failed() {
    let keys = ", url = \".links.self\", done = '.state == \"done\"', failed = 'if .state == \"failed\" then .why else null end'";
    let mut world = World::start(&job(keys)).await;
    let begin = || Answer::new(202, r#"{"links":{"self":"/jobs/1"}}"#).header("content-type", "application/json");
    world.upstream.next(begin());
    world.upstream.next(Answer::json(r#"{"state":"running"}"#));
    world.upstream.next(Answer::json(r#"{"state":"done","rows":[1]}"#));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    assert_eq!(world.rig.snapshot().await[""], r#"{"rows":[1],"state":"done"}"#);
    world.upstream.next(begin());
    world.upstream.next(Answer::json(r#"{"state":"failed","why":"no paper"}"#));
    let error = world.fail().await;
    assert!(error.ends_with("failed (`job.failed`): no paper"), "{error}");
}

#[tokio::test]
async fn a_job_on_another_origin_is_not_followed() {
    let mut world = World::start(&job("")).await;
    let other = Server::start(std::sync::Arc::new(|_| Answer::json("[]").into())).await;
    world.upstream.next(Answer::new(202, "").header("location", format!("{}/jobs/7", other.origin())));
    let error = world.fail().await;
    assert!(error.contains("names the job") && error.contains("another origin"), "{error}");
}

/// Walks that gave up while they waited for their turn took it with them: the origin's next turn lay ever further ahead.
#[tokio::test]
async fn who_gives_up_waiting_takes_no_turn_with_him() {
    let mut world = World::start(
        &list("source.http = { url = \"UPSTREAM/items\", rate = \"20/m\", deadline = \"500ms\" }")
            .replace("source.http.url = \"UPSTREAM/items\"\n", ""),
    )
    .await;
    world.poll().await;
    for _ in 0..4 {
        let error = world.fail().await;
        assert!(error.ends_with("did not come within 500ms (`deadline`)"), "{error}");
    }
    let began = Instant::now();
    while world.rig.poll().await.result.is_err() {
        assert!(began.elapsed() < Duration::from_secs(6), "its turn never comes");
    }
}

/// A CDN's error page may be kept for a day; the next poll is not a day away.
#[tokio::test]
async fn what_an_error_says_of_caches_delays_nothing() {
    let mut world = World::start(LIST).await;
    world.upstream.next(Answer::new(502, "").header("cache-control", "max-age=86400"));
    assert_eq!(world.rig.poll().await.hint, None);
}

/// An API that filters after it has cut its pages sends empty ones in between: the walk goes on.
#[tokio::test]
async fn an_empty_page_is_no_known_page() {
    let text = LIST.replace("items = \".[]\"", "items = \".data[]\"").replace(
        "source.http.url",
        "source.http.pages.cursor = { param = \"c\", next = \".next\", stop = \"known\" }\nsource.http.url",
    );
    let mut world = World::start(&text).await;
    for body in [r#"{"data":[],"next":"a"}"#, r#"{"data":[{"id":1}],"next":"b"}"#, r#"{"data":[{"id":2}]}"#] {
        world.upstream.next(Answer::json(body));
    }
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
}

#[tokio::test]
async fn a_post_has_no_validators() {
    let mut world = World::start(&list("source.http.method = \"POST\"\nsource.http.json = {}")).await;
    world.upstream.etag(true);
    world.poll().await;
    world.poll().await;
    assert_eq!(world.upstream.last().header("if-none-match"), None);
}
