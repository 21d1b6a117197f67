//! The first hour of somebody with a URL: `try`, `init`, and the first webhook that verifies.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value as Json, json};

use crate::support::{
    daemon::{Place, Ran, bellpull},
    receiver::Receiver,
    server::{Answer, Reply, Request, Server},
};

/// Runs blocking commands beside the servers of a test.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// What an API answers: to a request, after so many changes, and as so many requests came before.
type Api = fn(&Request, usize, usize) -> Answer;

/// An API that changes when it is told to.
struct Source {
    server: Server,
    changes: Arc<AtomicUsize>,
}

impl Source {
    async fn start(api: Api) -> Self {
        let (changes, count) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let now = changes.clone();
        let reply = move |request: Request| -> Reply {
            api(&request, now.load(Ordering::SeqCst), count.fetch_add(1, Ordering::SeqCst)).into()
        };
        Self { server: Server::start(Arc::new(reply)).await, changes }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.origin())
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Four orders, of which the second changes; each shows a clock, too.
fn orders(_: &Request, changes: usize, count: usize) -> Answer {
    let total = |id: usize| if id == 2 { 30 + changes } else { 30 };
    let order = |id: usize| json!({ "id": id, "total": total(id), "status": "open", "served_at": 1000 + count });
    Answer::json(json!({ "data": (1..=4).map(order).collect::<Vec<_>>(), "ok": true }).to_string())
}

const TOKEN: &str = "s3cr3t-token-of-the-api";

/// Three pages of two for whoever has the token; the last record changes.
fn paged(request: &Request, changes: usize, _: usize) -> Answer {
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Answer::new(401, "no").header("www-authenticate", "Bearer realm=\"api\"");
    }
    let page: usize = request.query.get("page").map_or(1, |page| page.parse().expect("a number"));
    let record = |id: usize| json!({ "uuid": format!("u{id}"), "n": if id == 6 { changes } else { 0 } });
    let records: Vec<Json> = (2 * page - 1..=2 * page).map(record).collect();
    let answer = Answer::json(json!(records).to_string());
    if page >= 3 { answer } else { answer.header("link", format!("</jobs?page={}>; rel=\"next\"", page + 1)) }
}

fn feed(_: &Request, changes: usize, _: usize) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>News</title><link>https://a.example/</link>\
         <description>d</description><item><title>A</title><link>https://a.example/1</link><guid>g1</guid></item>\
         <item><title>B {changes}</title><link>https://a.example/2</link><guid>g2</guid></item></channel></rss>"
    );
    Answer::new(200, text).header("content-type", "application/rss+xml")
}

fn csv(_: &Request, changes: usize, _: usize) -> Answer {
    let text = format!("sku;price;stock\nA-1;10;3\nB-2;{};3\n", 20 + changes);
    Answer::new(200, text).header("content-type", "text/plain")
}

fn html(_: &Request, _: usize, _: usize) -> Answer {
    Answer::new(200, "<!doctype html><html><body><article><h2>A</h2></article></body></html>")
        .header("content-type", "text/html; charset=utf-8")
}

/// As graphql-http answers a GET without a query.
fn graphql(_: &Request, _: usize, _: usize) -> Answer {
    Answer::new(400, r#"{"errors":[{"message":"Missing query"}]}"#).header("content-type", "application/json")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a newcomer types, from a URL to a webhook: `init`, `check`, `run`, and a change of the API.
async fn journey(api: Api, path: &str, more: &[&str], variables: &[(&str, &str)], name: &str, key: &str) -> String {
    let (source, receiver) = (Source::start(api).await, Receiver::start().await);
    let place = Arc::new(Place::new("# mine"));
    let before = text(&place.file());
    let (url, hook) = (source.url(path), format!("{}/hook", receiver.origin()));
    let mut arguments: Vec<String> = ["init", &url, "--to", &hook].map(str::to_owned).to_vec();
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    let at = place.clone();
    let ran = beside(move || at.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())).await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let written = text(&place.file());
    assert!(written.starts_with(&before), "what was there stays byte for byte: {written}");
    assert!(ran.out.contains(&format!("[bridge.{name}] was added")), "{}", ran.out);
    assert!(ran.out.contains("bellpull --config"), "the next command: {}", ran.out);
    for secret in variables.iter().map(|(_, value)| value) {
        assert!(!written.contains(secret) && !ran.out.contains(secret), "{written}{}", ran.out);
    }
    let at = place.clone();
    let checked = beside(move || at.run(&["check"])).await;
    assert_eq!((checked.code, checked.err.as_str()), (0, ""), "{written}");

    receiver.secrets(&[text(&place.path().join(format!("{name}.secret"))).trim()]);
    let daemon = place.start_with(variables);
    let poll = async || {
        let (at, name) = (place.clone(), name.to_owned());
        beside(move || at.json(&["poll", &name])).await
    };
    poll().await;
    source.change();
    poll().await;
    let taken = receiver.wait_taken("/hook", 1).await;
    assert_eq!(taken.iter().map(|webhook| webhook.key()).collect::<Vec<_>>(), [key], "{written}");
    assert!(taken[0].kind().ends_with(".updated"), "{}", taken[0].kind());
    daemon.stop();
    written
}

/// A clock in each record would make four events of each poll.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_url_of_a_list_to_a_webhook() {
    let written = journey(orders, "/v1/orders", &[], &[], "orders", "2").await;
    for line in
        ["items = \".data[]\" # ", "key = \".id\" # unique in all 4 records", "ignore = [\".served_at\"] # differed"]
    {
        assert!(written.contains(line), "{line}: {written}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_url_of_pages_behind_a_token_to_a_webhook() {
    let header = format!("Authorization: Bearer {TOKEN}");
    let written = journey(paged, "/jobs", &["-H", &header], &[("JOBS_TOKEN", TOKEN)], "jobs", "u6").await;
    assert!(written.contains("auth.bearer.secret = { env = \"JOBS_TOKEN\" }"), "{written}");
    assert!(written.contains("pages.link = {} # the answer has a `Link` header"), "{written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_url_of_a_feed_to_a_webhook() {
    let written = journey(feed, "/news.xml", &["--name", "my-news"], &[], "my-news", "g2").await;
    assert!(written.contains("every = \"15m\""), "{written}");
    assert!(!written.contains("decode."), "its content type says it: {written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_url_of_a_table_to_a_webhook() {
    let written = journey(csv, "/export/prices.csv", &[], &[], "prices", "B-2").await;
    assert!(written.contains("decode.csv = { delimiter = \";\" } # each line has 3 fields"), "{written}");
}

/// What cannot be guessed is told, with what to write, and nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_guessed_leaves_the_file_as_it_is() {
    let (html, paged, graphql): (Api, Api, Api) = (html, paged, graphql);
    for (api, path, expected) in [
        (html, "/shop", "decode.html = { select"),
        (paged, "/jobs", "-H \"Authorization: Bearer TOKEN\""),
        (graphql, "/graphql", "source.graphql"),
    ] {
        let source = Source::start(api).await;
        let place = Place::new("");
        let before = text(&place.file());
        let url = source.url(path);
        let (ran, tried, place) =
            beside(move || (place.run(&["init", &url]), place.run(&["try", &url, "--once"]), place)).await;
        for ran in [ran, tried] {
            assert_eq!(ran.code, 1, "{}", ran.err);
            assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
        }
        assert_eq!(text(&place.file()), before);
        let left: Vec<_> = std::fs::read_dir(place.path()).expect("a directory").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

/// Without a file there is one afterwards, which is right, lets loopback in, and sends to `bellpull listen`.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_file_is_whole() {
    let source = Source::start(orders).await;
    let dir = tempfile::tempdir().expect("a directory");
    let url = source.url("/v1/orders");
    let at = dir.path().to_owned();
    let (ran, checked, again, slack, checked_again) = beside(move || {
        let typed = |words: &[&str]| {
            let mut command = bellpull();
            command.args(["--config", "bridges.toml"]).args(words).current_dir(&at);
            Ran::of(command)
        };
        (
            typed(&["init", &url]),
            typed(&["check"]),
            typed(&["init", &url]),
            typed(&["init", &url, "--name", "more", "--to", "slack"]),
            typed(&["check"]),
        )
    })
    .await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let written = text(&dir.path().join("bridges.toml"));
    assert!(written.starts_with("[network]\nallow = [\"127.0.0.0/8\"]"), "{written}");
    assert!(written.contains("url = \"http://127.0.0.1:9000/\""), "{written}");
    assert!(ran.out.contains("bellpull listen --secret-file "), "{}", ran.out);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    assert_eq!(again.code, 1, "{}", again.out);
    assert!(again.err.contains("[bridge.orders] is there already: --name"), "{}", again.err);
    assert_eq!(slack.code, 0, "{}", slack.err);
    assert!(slack.out.contains("export SLACK_WEBHOOK_URL="), "{}", slack.out);
    assert!(written.contains("[endpoint.slack]") && written.contains("to = [\"slack\"]"), "{written}");
    assert_eq!((checked_again.code, checked_again.err.as_str()), (0, ""), "{written}");
    let secret = std::fs::metadata(dir.path().join("orders.secret")).expect("the secret");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);
}

/// A `[network]` that is there cannot be added to without a change of it: the line is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lets_no_private_address_in_is_left_alone() {
    let source = Source::start(orders).await;
    let place = Place::new("");
    let head = "[daemon]\nlisten = \"off\"\n[network]\nper-host = 2\n";
    std::fs::write(place.file(), head).expect("written");
    let url = source.url("/v1/orders");
    let (ran, place) = beside(move || (place.run(&["init", &url]), place)).await;
    assert_eq!(ran.code, 78, "{}", ran.err);
    assert!(ran.err.contains("write allow = [\"127.0.0.0/8\"] into [network]"), "{}", ran.err);
    assert_eq!(text(&place.file()), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openapi_document_says_what_a_url_would_answer() {
    let source = Source::start(paged).await;
    let place = Place::new("");
    let url = source.url("/v1/charges");
    let contract = format!("{}/tests/data/contracts/stripe.json", env!("CARGO_MANIFEST_DIR"));
    let arguments =
        ["init", &url, "--openapi", &contract, "--path", "/v1/charges", "-H", "Authorization: Bearer sk-1234"];
    let arguments = arguments.map(str::to_owned);
    let (ran, place) = beside(move || (place.run(&arguments.each_ref().map(String::as_str)), place)).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("it was not tried"), "{}", ran.out);
    let written = text(&place.file());
    for line in
        ["items = \".data[]\"", "key = \".id\"", "pages.cursor = { param = \"starting_after\"", "\"CHARGES_TOKEN\""]
    {
        assert!(written.contains(line), "{line}: {written}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn try_says_what_it_found_and_writes_nothing() {
    let source = Source::start(orders).await;
    let dir = tempfile::tempdir().expect("a directory");
    let url = source.url("/v1/orders?api_key=s3cr3t-in-the-url");
    let at = dir.path().to_owned();
    let (ran, json) = beside(move || {
        let typed = |words: &[&str]| {
            let mut command = bellpull();
            command.args(words).current_dir(&at);
            Ran::of(command)
        };
        (typed(&["try", &url, "--once"]), typed(&["--json", "try", &url, "--once"]))
    })
    .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    for words in [
        "127.0.0.1 is",
        "items = .data[]",
        "key = .id   unique in all 4 records",
        "ignore .served_at",
        "reads 4 records",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert!(ran.out.lines().any(|line| line.starts_with("ID  SERVED_AT  STATUS  TOTAL")), "{}", ran.out);
    assert!(!ran.out.contains("s3cr3t"), "{}", ran.out);
    let found: Json = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&found["items"], &found["key"], &found["records"]), (&json!(".data[]"), &json!(".id"), &json!(4)));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn try_shows_each_change_as_it_comes() {
    let source = Source::start(orders).await;
    let mut command = bellpull();
    command.args(["try", &source.url("/v1/orders"), "--every", "50ms"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let (started, mut lines) = beside(move || {
        let started = lines.any(|line| line.starts_with("polling every 50ms"));
        (started, lines)
    })
    .await;
    assert!(started);
    // The baseline may not have come yet: the API changes until a change is seen.
    let changes = source.changes.clone();
    let changing = tokio::spawn(async move {
        loop {
            changes.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    let seen = beside(move || {
        let updated = lines.find(|line| line.contains(" updated  2"));
        (updated, lines.next())
    });
    let seen = tokio::time::timeout(std::time::Duration::from_secs(20), seen).await;
    changing.abort();
    child.kill().expect("it can be stopped");
    child.wait().expect("it ends");
    let (updated, patch) = seen.expect("a change within 20 s");
    assert!(updated.is_some(), "it ended");
    let patch = patch.expect("what changed");
    assert!(patch.trim_start().starts_with("/total 3") && patch.contains(" -> 3"), "{patch}");
}
