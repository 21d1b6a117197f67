//! The recipes against fakes of their vendors: what is asked keeps the vendor's contract, what changed is reported
//! once, and a refusal changes nothing. One row for each bridge of a recipe; `vendors/` has the fakes.

mod fake;
mod limited;
mod machines;
mod people;
mod rows;
mod shops;
mod soap;

use std::{sync::Arc, time::Duration};

use crate::support::{
    receiver::{Receiver, SECRET},
    rig::Rig,
    server::Answer,
};
use bellpull::{
    poller::{Outcome, Polling},
    recipe,
    store::memory::MemoryEngine,
};

use fake::{Fake, Item, Vendor};

/// What a poll reports of a record that the vendor no longer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// Nothing: the list is a window, or holds only what is new.
    Never,
    /// `deleted`, at the poll of this number.
    At(usize),
    /// The document cannot go away.
    Untried,
}

/// A bridge of a recipe, and how its vendor is played.
struct Row {
    recipe: &'static str,
    bridge: &'static str,
    vendor: &'static Vendor,
    /// The environment: what the recipe names, and what the vendor accepts.
    env: &'static [(&'static str, &'static str)],
    /// Sizes and delays that are too large for a test.
    edits: &'static [(&'static str, &'static str)],
    key: fn(&Item) -> String,
    /// The bridge is one document; otherwise three records fill this many pages.
    pages: Pages,
    /// Of a record that was added and one that was changed.
    reports: &'static [&'static str],
    gone: Gone,
    /// A mistake in the recipe, and the status of the refusal; 200 where the vendor tells it in a 200.
    wrong: (&'static str, &'static str, u16),
    /// The answer to too many requests, and how long it asks to wait.
    limited: fn() -> (Answer, Option<Duration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    Document,
    One,
    Several,
}

const BOTH: &[&str] = &["created", "updated"];
const NEW: &[&str] = &["created"];
const CHANGED: &[&str] = &["updated"];

/// A recipe's bridge between its fake and a receiver.
struct Watched {
    fake: Fake,
    receiver: Receiver,
    rig: Rig,
}

impl Row {
    async fn start(&self) -> Watched {
        let (fake, receiver) = (Fake::start(self.vendor).await, Receiver::start().await);
        for _ in 0..self.records() {
            fake.add();
        }
        let text = self.text(&fake, &receiver, self.bridge_text());
        let rig = Rig::start(Arc::new(MemoryEngine::new()), &text).await;
        Watched { fake, receiver, rig }
    }

    /// In the vendor's list at first.
    fn records(&self) -> u64 {
        if self.pages == Pages::Document { 1 } else { 3 }
    }

    /// The bridge's own tables in the recipe, edited for the test.
    fn bridge_text(&self) -> String {
        let whole = recipe::find(self.recipe).expect("the recipe is there").text;
        let title = format!("[bridge.{}", self.bridge);
        let start = whole.find(&format!("{title}]")).unwrap_or_else(|| panic!("{title}] is in {}", self.recipe));
        let mut ends = whole[start..].match_indices("\n[").map(|(at, _)| start + at + 1);
        let end = ends.find(|at| !whole[*at..].starts_with(&title)).expect("the endpoint comes last");
        let text = self.edits.iter().fold(whole[start..end].to_owned(), |text, (from, to)| replaced(&text, from, to));
        self.env.iter().fold(text, |text, (name, value)| {
            replaced(&text, &format!("{{ env = \"{name}\" }}"), &format!("{{ value = '{value}' }}"))
        })
    }

    /// The whole configuration: the vendor's origin is the fake's, the endpoint is the receiver.
    fn text(&self, fake: &Fake, receiver: &Receiver, bridge: String) -> String {
        assert!(!bridge.contains("env ="), "{}: every secret has a value: {bridge}", self.bridge);
        let origins = fake.true_origins();
        let parsed: toml::Table = bridge.parse().unwrap_or_else(|e| panic!("{}: {e}", self.bridge));
        let urls = urls(&toml::Value::Table(parsed));
        assert!(!urls.is_empty());
        for url in &urls {
            let origin = url.parse::<url::Url>().expect("a URL").origin().ascii_serialization();
            assert!(origins.contains(&origin), "{url} is on the vendor's origin, one of {origins:?}");
        }
        // The vendor's pace only takes time here; it is tested by itself.
        let fast =
            |line: &str| if line.starts_with("rate = ") { "rate = \"1000/s\"".to_owned() } else { line.to_owned() };
        let bridge = bridge.lines().map(fast).collect::<Vec<_>>().join("\n");
        let bridge = origins.iter().fold(bridge, |text, origin| text.replace(origin.as_str(), &fake.origin()));
        format!(
            "[network]\nallow = [\"127.0.0.0/8\"]\n[endpoint.me]\nurl = \"{}/me\"\n\
             sign.standard.secrets = [{{ value = \"{SECRET}\" }}]\n\n{bridge}",
            receiver.origin()
        )
    }

    /// Type and key of an event of a record.
    fn line(&self, kind: &str, item: &Item) -> String {
        let key = if self.pages == Pages::Document { String::new() } else { (self.key)(item) };
        format!("{}.{kind} {key}", self.bridge.replace('-', "_"))
    }
}

/// Every `url` and `token-url` of a bridge.
fn urls(value: &toml::Value) -> Vec<String> {
    let toml::Value::Table(table) = value else { return Vec::new() };
    let mut out = Vec::new();
    for (key, value) in table {
        match value.as_str() {
            Some(text) if key == "url" || key == "token-url" => out.push(text.to_owned()),
            _ => out.extend(urls(value)),
        }
    }
    out
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is in the recipe:\n{text}");
    text.replace(from, to)
}

/// The recipe without its credentials.
fn without_auth(text: &str) -> String {
    let mut in_auth = false;
    let kept = text.lines().filter(|line| {
        if line.starts_with('[') {
            in_auth = line.contains(".auth.");
        }
        !in_auth && !line.starts_with("auth.")
    });
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    assert!(kept.lines().count() < text.lines().count(), "there are credentials in\n{text}");
    kept
}

impl Watched {
    async fn poll(&mut self) -> Polling {
        self.rig.poll().await.result.unwrap_or_else(|e| panic!("an accepted poll: {e}; {:?}", self.fake.refused()))
    }

    /// Types and keys of what the endpoint was sent, oldest first.
    async fn sent(&self) -> Vec<String> {
        let events = self.rig.stored_events().await.into_iter().map(|stored| stored.event);
        let mut sent = Vec::new();
        for event in events.filter(|event| !event.bridge.is_empty() && !event.deliveries.is_empty()) {
            sent.push(format!("{} {}", event.kind, event.key));
        }
        self.receiver.wait_taken("/me", sent.len()).await;
        sent
    }

    /// An error as it is shown holds no secret, and neither does what is stored.
    async fn check_silence(&mut self, row: &Row, outcome: &Outcome) {
        let told = self.rig.polled().progress.last_error.clone().unwrap_or_default();
        assert_eq!(outcome.result.is_err(), !told.is_empty());
        let stored = self.rig.export().await;
        for (name, secret) in row.env {
            assert!(!told.contains(secret) && !stored.contains(secret), "{name} leaves the request: {told}");
        }
    }
}

/// Baseline, a new record, a changed one, one that is gone.
async fn reports_what_changed(row: Row) {
    let mut watched = row.start().await;
    let records = row.records();
    assert_eq!(watched.poll().await, Polling::Baseline { records });
    let asked = watched.fake.calls().len();
    match row.pages {
        Pages::Several => assert!(asked >= 2, "{asked} requests brought {records} records"),
        Pages::Document | Pages::One => assert_eq!(asked, 1),
    }
    assert_eq!(watched.sent().await, [""; 0], "the baseline is silent");

    let (added, changed) = if row.pages == Pages::Document { (None, 1) } else { (Some(watched.fake.add()), 2) };
    watched.fake.change(changed);
    watched.poll().await;
    let of = |kind: &&str| match (*kind, added) {
        ("created", Some(id)) => row.line("created", &watched.fake.item(id)),
        (kind, _) => row.line(kind, &watched.fake.item(changed)),
    };
    let mut expected: Vec<String> = row.reports.iter().map(of).collect();
    assert_eq!(watched.sent().await, expected);
    watched.poll().await;
    assert_eq!(watched.sent().await, expected, "once");

    if row.gone != Gone::Untried {
        let item = watched.fake.item(1);
        watched.fake.remove(1);
        for poll in 1..=4 {
            watched.poll().await;
            if row.gone == Gone::At(poll) {
                expected.push(row.line("deleted", &item));
            }
            assert_eq!(watched.sent().await, expected, "at poll {poll} without the record");
        }
    }
    assert!(watched.fake.refused().is_empty(), "every request keeps the contract");
}

/// The vendor's answer to too many requests fails the poll, and the next one comes when it says, no earlier and not much
/// later; where it says nothing, after the backoff of a failure.
async fn obeys_the_rate_limit(row: Row) {
    let mut watched = row.start().await;
    watched.poll().await;
    let before = watched.rig.snapshot().await;
    let (answer, wait) = (row.limited)();
    watched.fake.next(answer);
    let outcome = watched.rig.poll().await;
    assert!(outcome.result.is_err(), "a refusal is no answer");
    let polled = watched.rig.polled();
    match wait {
        // A reset in another unit would be far off.
        Some(wait) => {
            let hint = outcome.hint.expect("it says when");
            assert!(wait <= hint && hint <= wait + Duration::from_secs(15), "{hint:?}, where it says {wait:?}");
        }
        None => assert_eq!((outcome.hint, polled.progress.failures), (None, 1)),
    }
    assert_eq!(watched.rig.snapshot().await, before);
    watched.check_silence(&row, &outcome).await;
}

/// A mistake in the recipe is refused by the vendor, and changes nothing.
async fn a_mistake_is_refused(row: Row) {
    let mut watched = row.start().await;
    watched.poll().await;
    let before = watched.rig.snapshot().await;
    assert!(!before.is_empty());
    let (from, to, status) = row.wrong;
    let text = row.text(&watched.fake, &watched.receiver, replaced(&row.bridge_text(), from, to));
    watched.rig.stop().await;
    watched.rig = Rig::start(watched.rig.engine.clone(), &text).await;
    let outcome = watched.rig.poll().await;
    assert!(outcome.result.is_err(), "{to:?} is refused");
    if status != 200 {
        let refused = watched.fake.refused();
        assert!(!refused.is_empty() && refused.iter().all(|refusal| refusal.status == status), "{refused:?}");
    }
    assert_eq!(watched.rig.snapshot().await, before);
    watched.check_silence(&row, &outcome).await;
}

/// Without credentials the vendor refuses, and nothing is known afterwards.
async fn needs_its_credentials(row: Row) {
    let mut watched = row.start().await;
    let text = row.text(&watched.fake, &watched.receiver, without_auth(&row.bridge_text()));
    watched.rig.stop().await;
    watched.rig = Rig::start(watched.rig.engine.clone(), &text).await;
    assert!(watched.rig.poll().await.result.is_err(), "an API lets nobody in without credentials");
    let refused = watched.fake.refused();
    assert!(!refused.is_empty() && refused.iter().all(|refusal| refusal.status == 401), "{refused:?}");
    assert!(watched.rig.snapshot().await.is_empty());
}

/// A list that fits one page is asked for with the ETag of the last answer, and 304 is not a change.
#[tokio::test]
async fn github_is_asked_with_the_etag_of_the_only_page() {
    let mut watched = rows::github_releases::row().start().await;
    watched.fake.remove(1);
    watched.poll().await;
    watched.fake.calls();
    assert_eq!(watched.poll().await, Polling::Unchanged);
    let calls = watched.fake.calls();
    let sent = calls.first().and_then(|call| call.header("if-none-match"));
    assert!(sent.is_some_and(|etag| etag.starts_with("W/")), "{sent:?}");
}

/// X-Poll-Interval comes with every answer of the events, the good ones too.
#[tokio::test]
async fn github_says_when_its_events_may_be_asked_for_again() {
    let mut watched = rows::github_events::row().start().await;
    let outcome = watched.rig.poll().await;
    assert!(outcome.result.is_ok());
    assert!(outcome.hint >= Some(Duration::from_secs(60)), "{:?}", outcome.hint);
}

/// A page's token is not valid at once: that is asked again, and is not a failure.
#[tokio::test]
async fn google_is_asked_again_for_a_page_that_is_not_ready() {
    let mut watched = rows::google_nearby::row().start().await;
    watched.fake.pass();
    watched.fake.next(Answer::json(r#"{"status":"INVALID_REQUEST","results":[]}"#));
    assert_eq!(watched.poll().await, Polling::Baseline { records: 3 });
    let tokens: Vec<Option<String>> =
        watched.fake.calls().iter().map(|call| call.query.get("pagetoken").cloned()).collect();
    assert!(matches!(tokens.as_slice(), [None, Some(one), Some(two)] if one == two), "{tokens:?}");
}

/// A refusal in a 200 is not taken for an empty channel.
#[tokio::test]
async fn slack_refuses_in_a_200() {
    let mut watched = rows::slack::row().start().await;
    watched.poll().await;
    let before = watched.rig.snapshot().await;
    watched.fake.next(Answer::json(r#"{"ok":false,"error":"channel_not_found"}"#));
    let error = watched.rig.poll().await.result.expect_err("a refusal").to_string();
    assert!(error.contains("channel_not_found"), "{error}");
    assert_eq!(watched.rig.snapshot().await, before);
}

/// A token lasts for many polls; when it is refused before its time, one new one is fetched.
#[tokio::test]
async fn a_token_that_is_void_is_fetched_anew_once() {
    for row in [rows::paypal_invoices::row(), rows::amadeus::row()] {
        let mut watched = row.start().await;
        watched.poll().await;
        watched.poll().await;
        assert_eq!(watched.fake.tokens(), 1, "{}", row.bridge);
        watched.fake.revoke();
        watched.poll().await;
        assert_eq!(watched.fake.tokens(), 2, "{}", row.bridge);
        assert_eq!(watched.fake.refused().iter().map(|refusal| refusal.status).collect::<Vec<_>>(), [401]);
    }
}

/// Sabre's sessions are few: one serves many polls.
#[tokio::test]
async fn a_session_of_sabre_is_used_again() {
    let mut watched = rows::sabre::row().start().await;
    watched.poll().await;
    watched.poll().await;
    assert_eq!(watched.fake.tokens(), 1);
}
