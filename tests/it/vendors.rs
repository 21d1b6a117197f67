//! The recipes against fakes of their vendors: what is asked keeps the vendor's contract, what changed is reported
//! once, and a refusal changes nothing. One row for each bridge of a recipe; `vendors/` has the fakes.

mod fake;
mod machines;
mod people;
mod shops;
mod soap;

use std::{sync::Arc, time::Duration};

use bellpull::{
    poller::{Outcome, Polling},
    recipe,
    store::memory::MemoryEngine,
};
use serde_json::json;

use crate::support::{
    receiver::{Receiver, SECRET},
    rig::Rig,
    server::Answer,
};

use fake::{Fake, Item, Vendor, now};

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
        fake.add();
        if self.pages != Pages::Document {
            (fake.add(), fake.add());
        }
        let text = self.text(&fake, &receiver, self.bridge_text());
        let rig = Rig::start(Arc::new(MemoryEngine::new()), &text).await;
        Watched { fake, receiver, rig }
    }

    /// The bridge's own tables in the recipe, edited for the test.
    fn bridge_text(&self) -> String {
        let whole = recipe::find(self.recipe).expect("the recipe is there").text;
        let title = format!("[bridge.{}", self.bridge);
        let start = whole.find(&format!("{title}]")).unwrap_or_else(|| panic!("{title}] is in {}", self.recipe));
        let ends = whole[start..].match_indices("\n[").map(|(at, _)| start + at + 1);
        let end = ends.into_iter().find(|at| !whole[*at..].starts_with(&title)).expect("the endpoint comes last");
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
        let bridge = self.rig.polled().bridge.clone();
        let told = outcome.result.as_ref().err().map(|failure| failure.told(&bridge)).unwrap_or_default();
        let stored = self.rig.export().await;
        for (name, secret) in row.env {
            assert!(!told.contains(secret) && !stored.contains(secret), "{name} leaves the request: {told}");
        }
    }
}

/// Baseline, a new record, a changed one, one that is gone.
async fn reports_what_changed(row: Row) {
    let mut watched = row.start().await;
    let records = if row.pages == Pages::Document { 1 } else { 3 };
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

/// The vendor's answer to too many requests fails the poll, and the next one comes no earlier than it says.
async fn obeys_the_rate_limit(row: Row) {
    let mut watched = row.start().await;
    watched.poll().await;
    let before = watched.rig.snapshot().await;
    let (answer, wait) = (row.limited)();
    watched.fake.next(answer);
    let outcome = watched.rig.poll().await;
    assert!(outcome.result.is_err(), "a refusal is no answer");
    assert!(outcome.hint >= wait, "the next poll may come after {:?}, not {wait:?}", outcome.hint);
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

/// A module with the four tests for each row.
macro_rules! rows {
    ($($name:ident => $row:expr;)*) => {
        $(mod $name {
            use super::*;

            fn row() -> Row {
                $row
            }

            #[tokio::test]
            async fn reports_what_changed() {
                super::reports_what_changed(row()).await;
            }

            #[tokio::test]
            async fn obeys_the_rate_limit() {
                super::obeys_the_rate_limit(row()).await;
            }

            #[tokio::test]
            async fn a_mistake_is_refused() {
                super::a_mistake_is_refused(row()).await;
            }

            #[tokio::test]
            async fn needs_its_credentials() {
                super::needs_its_credentials(row()).await;
            }
        })*
    };
}

/// A refusal without a word of when to come back.
fn refusal(status: u16, body: serde_json::Value) -> Answer {
    Answer::new(status, body.to_string()).header("content-type", "application/json")
}

mod limited {
    //! Too many requests, as each vendor documents its answer; and how long that asks to wait.

    use super::*;

    const fn wait(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    pub fn stripe() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "error": { "type": "invalid_request_error", "code": "rate_limit" } })), None)
    }

    pub fn paypal() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "name": "RATE_LIMIT_REACHED", "message": "Too many requests." })), None)
    }

    pub fn shopify() -> (Answer, Option<Duration>) {
        let answer = refusal(429, json!({ "errors": "Exceeded 2 calls per second for api client." }));
        let answer = answer.header("retry-after", "2.0").header("x-shopify-shop-api-call-limit", "40/40");
        (answer, wait(2))
    }

    pub fn shopify_graphql() -> (Answer, Option<Duration>) {
        let error = json!({ "message": "Throttled", "extensions": { "code": "THROTTLED" } });
        let status = json!({ "maximumAvailable": 2000, "currentlyAvailable": 3, "restoreRate": 100 });
        (refusal(200, json!({ "errors": [error], "extensions": { "cost": { "throttleStatus": status } } })), None)
    }

    pub fn twilio() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "code": 20429, "message": "Too Many Requests", "status": 429 })), None)
    }

    pub fn slack() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "ok": false, "error": "ratelimited" })).header("retry-after", "30"), wait(30))
    }

    pub fn discord() -> (Answer, Option<Duration>) {
        let body = json!({ "message": "You are being rate limited.", "retry_after": 64.57, "global": false });
        let answer = refusal(429, body).header("retry-after", "65").header("x-ratelimit-limit", "5");
        (answer.header("x-ratelimit-remaining", "0").header("x-ratelimit-reset-after", "64.57"), wait(64))
    }

    pub fn trello() -> (Answer, Option<Duration>) {
        let body = json!({ "error": "API_TOKEN_LIMIT_EXCEEDED", "message": "Rate limit exceeded" });
        let answer = refusal(429, body).header("x-rate-limit-api-token-interval-ms", "10000");
        (answer.header("x-rate-limit-api-token-max", "100").header("x-rate-limit-api-token-remaining", "0"), None)
    }

    /// The primary limit: 403, and an epoch in seconds.
    pub fn github() -> (Answer, Option<Duration>) {
        let answer = refusal(403, json!({ "message": "API rate limit exceeded for user ID 1." }));
        let answer = answer.header("x-ratelimit-limit", "5000").header("x-ratelimit-remaining", "0");
        (answer.header("x-ratelimit-reset", (now() + 120).to_string()), wait(110))
    }

    pub fn instagram() -> (Answer, Option<Duration>) {
        let error = json!({ "message": "(#4) Application request limit reached", "type": "OAuthException", "code": 4 });
        (refusal(400, json!({ "error": error })).header("x-app-usage", "{\"call_count\":100}"), None)
    }

    pub fn x() -> (Answer, Option<Duration>) {
        let answer = refusal(429, json!({ "title": "Too Many Requests", "status": 429 }));
        let answer = answer.header("x-rate-limit-limit", "300").header("x-rate-limit-remaining", "0");
        (answer.header("x-rate-limit-reset", (now() + 300).to_string()), wait(290))
    }

    pub fn openai() -> (Answer, Option<Duration>) {
        let answer = refusal(429, json!({ "error": { "type": "requests", "code": "rate_limit_exceeded" } }));
        let answer = answer.header("retry-after", "20").header("x-ratelimit-remaining-requests", "0");
        (answer.header("x-ratelimit-reset-requests", "20s"), wait(20))
    }

    pub fn stability() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "name": "rate_limit_exceeded", "errors": ["You have exceeded the rate limit"] })), None)
    }

    /// In a 200, as all of Google's errors.
    pub fn google() -> (Answer, Option<Duration>) {
        (refusal(200, json!({ "status": "OVER_QUERY_LIMIT", "results": [] })), None)
    }

    pub fn weather() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "cod": 429, "message": "Your account is temporary blocked" })), None)
    }

    pub fn amadeus() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "errors": [{ "status": 429, "code": 38194, "title": "Too many requests" }] })), None)
    }

    pub fn supertokens() -> (Answer, Option<Duration>) {
        (refusal(429, json!({ "message": "Too many requests" })), None)
    }

    /// Seconds until the next period.
    pub fn datadog() -> (Answer, Option<Duration>) {
        let answer = refusal(429, json!({ "errors": ["Rate limit exceeded"] })).header("x-ratelimit-limit", "100");
        let answer = answer.header("x-ratelimit-remaining", "0").header("x-ratelimit-period", "60");
        (answer.header("x-ratelimit-reset", "45").header("x-ratelimit-name", "monitors"), wait(45))
    }

    pub fn soap() -> (Answer, Option<Duration>) {
        (super::fake::fault("too many requests"), None)
    }

    /// A gateway in front of an old service.
    pub fn bank() -> (Answer, Option<Duration>) {
        (Answer::new(503, "<html>Busy</html>").header("retry-after", "120"), wait(120))
    }
}

rows! {
    stripe_events => Row {
        recipe: "stripe", bridge: "stripe-events", vendor: &shops::STRIPE,
        env: &[("STRIPE_SECRET_KEY", "rk_test_stripe")], edits: &[],
        key: |item| format!("evt_{:06}", item.id), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 1000", 400), limited: limited::stripe,
    };
    stripe_charges => Row {
        recipe: "stripe", bridge: "stripe-charges", vendor: &shops::STRIPE,
        env: &[("STRIPE_SECRET_KEY", "rk_test_stripe")], edits: &[],
        key: |item| format!("ch_{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("created[gte]", "created[from]x", 400), limited: limited::stripe,
    };
    paypal_invoices => Row {
        recipe: "paypal", bridge: "paypal-invoices", vendor: &shops::PAYPAL,
        env: &[("PAYPAL_CLIENT_ID", "paypal-id"), ("PAYPAL_CLIENT_SECRET", "paypal-secret")],
        edits: &[("size = 100", "size = 2")],
        key: |item| format!("INV2-{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("param = \"page\"", "param = \"number\"", 400), limited: limited::paypal,
    };
    paypal_transactions => Row {
        recipe: "paypal", bridge: "paypal-transactions", vendor: &shops::PAYPAL,
        env: &[("PAYPAL_CLIENT_ID", "paypal-id"), ("PAYPAL_CLIENT_SECRET", "paypal-secret")],
        edits: &[("size = 500", "size = 2")],
        key: |item| format!("TX{:015}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: (".now[:19] + \"Z\"", ".now[:10]", 400), limited: limited::paypal,
    };
    shopify_orders => Row {
        recipe: "shopify", bridge: "shopify-orders", vendor: &shops::SHOPIFY,
        env: &[("SHOPIFY_TOKEN", "shpat_test")], edits: &[],
        key: |item| (5_000_000_000_u64 + item.id).to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 250", "limit = 500", 400), limited: limited::shopify,
    };
    shopify_products => Row {
        recipe: "shopify", bridge: "shopify-products", vendor: &shops::SHOPIFY,
        env: &[("SHOPIFY_TOKEN", "shpat_test")], edits: &[],
        key: |item| (5_000_000_000_u64 + item.id).to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("/2026-07/", "/2026-08/", 400), limited: limited::shopify,
    };
    shopify_graphql => Row {
        recipe: "shopify-graphql", bridge: "shopify-graphql-products", vendor: &shops::SHOPIFY,
        env: &[("SHOPIFY_TOKEN", "shpat_test")], edits: &[],
        key: |item| format!("gid://shopify/Product/{}", item.id), pages: Pages::Several, reports: BOTH,
        gone: Gone::At(2), wrong: ("productType", "kind", 200), limited: limited::shopify_graphql,
    };
    twilio_messages => Row {
        recipe: "twilio", bridge: "twilio-messages", vendor: &people::TWILIO,
        env: &[("TWILIO_AUTH_TOKEN", "twilio-token")], edits: &[],
        key: |item| format!("SM{:032x}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("PageSize = 1000", "PageSize = 1001", 400), limited: limited::twilio,
    };
    twilio_calls => Row {
        recipe: "twilio", bridge: "twilio-calls", vendor: &people::TWILIO,
        env: &[("TWILIO_AUTH_TOKEN", "twilio-token")], edits: &[],
        key: |item| format!("CA{:032x}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("StartTime>", "StartedAfter", 400), limited: limited::twilio,
    };
    slack => Row {
        recipe: "slack", bridge: "slack-channel", vendor: &people::SLACK,
        env: &[("SLACK_BOT_TOKEN", "xoxb-slack")], edits: &[],
        key: |item| format!("{}.{:06}", item.born, item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 200", "limit = 1000", 400), limited: limited::slack,
    };
    discord => Row {
        recipe: "discord", bridge: "discord-channel", vendor: &people::DISCORD,
        env: &[("DISCORD_BOT_TOKEN", "discord-token")], edits: &[],
        key: |item| people::snowflake(item.id).to_string(), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 101", 400), limited: limited::discord,
    };
    trello_cards => Row {
        recipe: "trello", bridge: "trello-cards", vendor: &people::TRELLO,
        env: &[("TRELLO_KEY", "trello-key-0123"), ("TRELLO_TOKEN", "trello-token-4567")], edits: &[],
        key: |item| people::trello_id(item.id), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("filter = \"open\"", "filter = \"mine\"", 400), limited: limited::trello,
    };
    trello_actions => Row {
        recipe: "trello", bridge: "trello-actions", vendor: &people::TRELLO,
        env: &[("TRELLO_KEY", "trello-key-0123"), ("TRELLO_TOKEN", "trello-token-4567")], edits: &[],
        key: |item| people::trello_id(item.id), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 1001", 400), limited: limited::trello,
    };
    github_issues => Row {
        recipe: "github", bridge: "github-issues", vendor: &people::GITHUB,
        env: &[("GITHUB_TOKEN", "ghp_github")], edits: &[],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("direction = \"asc\"", "direction = \"up\"", 400), limited: limited::github,
    };
    github_releases => Row {
        recipe: "github", bridge: "github-releases", vendor: &people::GITHUB,
        env: &[("GITHUB_TOKEN", "ghp_github")], edits: &[],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("per_page = 100", "page_size = 100", 400), limited: limited::github,
    };
    github_events => Row {
        recipe: "github", bridge: "github-events", vendor: &people::GITHUB,
        env: &[("GITHUB_TOKEN", "ghp_github")], edits: &[],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("per_page = 100", "per_page = \"all\"", 400), limited: limited::github,
    };
    instagram_media => Row {
        recipe: "instagram", bridge: "instagram-media", vendor: &people::INSTAGRAM,
        env: &[("INSTAGRAM_TOKEN", "EAAinstagram")], edits: &[],
        key: |item| (17_000_000_000_000_000_u64 + item.id).to_string(), pages: Pages::Several, reports: BOTH,
        gone: Gone::At(2), wrong: ("limit = 100", "limit = 101", 400), limited: limited::instagram,
    };
    instagram_comments => Row {
        recipe: "instagram", bridge: "instagram-comments", vendor: &people::INSTAGRAM,
        env: &[("INSTAGRAM_TOKEN", "EAAinstagram")], edits: &[],
        key: |item| format!("18{:015}", item.id), pages: Pages::One, reports: BOTH, gone: Gone::Never,
        wrong: ("comments{id", "comments(id", 400), limited: limited::instagram,
    };
    x => Row {
        recipe: "x", bridge: "x-mentions", vendor: &people::X,
        env: &[("X_BEARER_TOKEN", "x-token")], edits: &[],
        key: |item| people::snowflake(item.id).to_string(), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("max_results = 100", "max_results = 1000", 400), limited: limited::x,
    };
    openai_batches => Row {
        recipe: "openai", bridge: "openai-batches", vendor: &machines::OPENAI,
        env: &[("OPENAI_API_KEY", "sk-openai")], edits: &[],
        key: |item| format!("batch_{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 1000", 400), limited: limited::openai,
    };
    openai_fine_tuning => Row {
        recipe: "openai", bridge: "openai-fine-tuning", vendor: &machines::OPENAI,
        env: &[("OPENAI_API_KEY", "sk-openai")], edits: &[],
        key: |item| format!("ftjob-{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 100", "limit = \"many\"", 400), limited: limited::openai,
    };
    stability => Row {
        recipe: "stability", bridge: "stability-result", vendor: &machines::STABILITY,
        env: &[("STABILITY_API_KEY", "sk-stability")], edits: &[],
        key: |_| String::new(), pages: Pages::Document, reports: CHANGED, gone: Gone::At(1),
        wrong: ("/results/00000000", "/results/", 400), limited: limited::stability,
    };
    google_place => Row {
        recipe: "google-maps", bridge: "google-maps-place", vendor: &machines::GOOGLE,
        env: &[("GOOGLE_MAPS_KEY", "AIza-google")], edits: &[],
        key: |_| String::new(), pages: Pages::Document, reports: CHANGED, gone: Gone::Untried,
        wrong: ("place_id = ", "place = ", 400), limited: limited::google,
    };
    google_nearby => Row {
        recipe: "google-maps", bridge: "google-maps-nearby", vendor: &machines::GOOGLE,
        env: &[("GOOGLE_MAPS_KEY", "AIza-google")], edits: &[("delay = \"2s\"", "delay = \"1ms\"")],
        key: |item| format!("ChIJ{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("radius = 1500", "radius = \"far\"", 400), limited: limited::google,
    };
    weather_now => Row {
        recipe: "weather", bridge: "weather-now", vendor: &machines::WEATHER,
        env: &[("OPENWEATHER_KEY", "openweather-key")], edits: &[],
        key: |_| String::new(), pages: Pages::Document, reports: CHANGED, gone: Gone::Untried,
        wrong: ("lat = 52.52", "lat = 152.52", 400), limited: limited::weather,
    };
    weather_forecast => Row {
        recipe: "weather", bridge: "weather-forecast", vendor: &machines::WEATHER,
        env: &[("OPENWEATHER_KEY", "openweather-key")], edits: &[],
        key: |item| item.born.to_string(), pages: Pages::One, reports: BOTH, gone: Gone::Never,
        wrong: ("units = \"metric\"", "units = \"celsius\"", 400), limited: limited::weather,
    };
    amadeus => Row {
        recipe: "amadeus", bridge: "amadeus-offers", vendor: &shops::AMADEUS,
        env: &[("AMADEUS_CLIENT_ID", "amadeus-id"), ("AMADEUS_CLIENT_SECRET", "amadeus-secret")], edits: &[],
        key: |item| format!("QF{} 2027-05-02T10:00:00", 100 + item.id), pages: Pages::One, reports: BOTH,
        gone: Gone::At(3), wrong: ("adults = 1", "adults = 10", 400), limited: limited::amadeus,
    };
    sabre => Row {
        recipe: "sabre", bridge: "sabre-offers", vendor: &soap::SABRE,
        env: &[("SABRE_SESSION_CREATE", soap::SABRE_SESSION_CREATE)], edits: &[],
        key: |item| format!("AA{} {}", soap::flight(item.id).0, soap::flight(item.id).1), pages: Pages::One,
        reports: BOTH, gone: Gone::At(3), wrong: ("<eb:CPAId>ABCD</eb:CPAId>", "", 400), limited: limited::soap,
    };
    travelport => Row {
        recipe: "travelport", bridge: "travelport-offers", vendor: &soap::TRAVELPORT,
        env: &[("TRAVELPORT_USER", "Universal API/uAPI123"), ("TRAVELPORT_PASSWORD", "travelport-password")],
        edits: &[],
        key: |item| format!("UA{} {}", soap::flight(item.id).0, soap::flight(item.id).1), pages: Pages::One,
        reports: BOTH, gone: Gone::At(3), wrong: (" TargetBranch=\"P1234567\"", "", 400), limited: limited::soap,
    };
    supertokens => Row {
        recipe: "supertokens", bridge: "supertokens-users", vendor: &people::SUPERTOKENS,
        env: &[("SUPERTOKENS_API_KEY", "supertokens-key")], edits: &[],
        key: |item| format!("user-{}", item.id), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("\"DESC\"", "\"DOWN\"", 400), limited: limited::supertokens,
    };
    datadog => Row {
        recipe: "datadog", bridge: "datadog-monitors", vendor: &machines::DATADOG,
        env: &[("DD_API_KEY", "dd-api-key-1"), ("DD_APP_KEY", "dd-app-key-2")],
        edits: &[("size = 100", "size = 2")],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("size-param = \"page_size\"", "size-param = \"per_page\"", 400), limited: limited::datadog,
    };
    soap_bank => Row {
        recipe: "soap-bank", bridge: "bank-transactions", vendor: &soap::BANK,
        env: &[("BANK_USER", "reader"), ("BANK_PASSWORD", "bank-password")], edits: &[],
        key: |item| format!("TX{:06}", item.id), pages: Pages::One, reports: BOTH, gone: Gone::Never,
        wrong: ("<st:Days>30</st:Days>", "", 400), limited: limited::bank,
    };
}
