//! The recipes that send to a known system: created, updated, deleted and resent records, harmless ones and nasty ones,
//! as requests that keep the system's contract, and a mistake in each recipe that its contract refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bellpull::{
    config::Config,
    event,
    model::Name,
    recipe::{self, Kind},
    schema::Schema,
    store::{Commit, Op, Written, memory::MemoryEngine},
};
use serde_json::{Value as Json, json};

use crate::support::{
    contract::{Contract, Credentials, Refusal, form},
    receiver::{Receiver, SECRET},
    rig::Rig,
    server::{Answer, Handler, Reply, Request, Server, eventually},
    upstream::Upstream,
};

/// A recipe, and what its system accepts.
struct Row {
    recipe: &'static str,
    /// A file of `tests/data/contracts`, and the operation in it.
    contract: (&'static str, &'static str),
    /// Of each security scheme of the operation.
    credentials: &'static [(&'static str, &'static str)],
    /// The environment that the recipe names. One that is a URL is the endpoint's own.
    env: &'static [(&'static str, &'static str)],
    /// What the system answers when all is well.
    status: u16,
    /// A new record only, or each change.
    sends: Sends,
    /// What the requests are, beyond the contract.
    says: fn(&[Sent]),
    /// A mistake in the recipe, and the status of the refusal.
    wrong: (&'static str, &'static str, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sends {
    New,
    Changes,
}

/// An event's kind, its record's key, and its request.
#[derive(Debug)]
struct Sent {
    kind: String,
    key: String,
    request: Request,
}

impl Sent {
    fn body(&self) -> Json {
        self.request.json()
    }
}

/// The request about a record.
fn about<'a>(sent: &'a [Sent], kind: &str, key: &str) -> &'a Sent {
    let mut all = sent.iter().filter(|sent| sent.kind == kind && sent.key == key);
    let one = all.next().unwrap_or_else(|| panic!("{kind} {key} was sent"));
    assert!(all.next().is_none(), "{kind} {key} was sent once");
    one
}

/// Characters as UTF-16 counts them, where an emoji is two.
fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

fn text<'a>(body: &'a Json, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Json::as_str).unwrap_or_else(|| panic!("{pointer} is text in {body}"))
}

const LINK: &str = "https://github.com/o/r/releases/4?a=1&b=2";
const NAME: &str = "Delta <b> & co";

fn plain(id: u64, name: &str) -> Json {
    let link = format!("https://github.com/o/r/releases/{id}?a=1&b=2");
    json!({ "id": id, "name": name, "title": name, "html_url": link, "body": "what is new", "draft": false })
}

/// Long, with all that a system may take for more than text, and with many fields.
fn nasty(id: u64) -> Json {
    let name = format!("<!channel> & <https://evil.example|x> @everyone `*_~ \"\\ \u{0} {}", "😀ä".repeat(5000));
    let body = "```\n# @octocat <script> \u{1}\n".repeat(4000);
    let mut record = plain(id, &name);
    record["body"] = json!(body);
    for number in 0..400 {
        record[format!("field/{number:03} with a long name & <more>")] = json!(number);
    }
    record
}

/// The system under the test's hand.
struct Sink {
    server: Server,
    state: Arc<State>,
}

struct State {
    contract: Contract,
    credentials: &'static [(&'static str, &'static str)],
    status: u16,
    /// What it says with it.
    says: Mutex<String>,
    /// Its body is the standard event.
    standard: bool,
    taken: Mutex<Vec<(String, Request)>>,
    refused: Mutex<Vec<Refusal>>,
}

impl State {
    fn check(&self, request: &Request) -> Result<String, Refusal> {
        let credentials = Credentials { known: self.credentials, issued: &BTreeSet::new() };
        let operation = self.contract.check(request, credentials)?;
        if self.standard {
            let schema = serde_json::from_str(&Schema::Event.text()).expect("JSON");
            let validator = jsonschema::draft202012::new(&schema).expect("a schema");
            validator.validate(&request.json()).map_err(|e| Refusal::new(400, format!("the event: {e}")))?;
        }
        Ok(operation)
    }
}

impl Handler for State {
    fn reply(&self, request: Request) -> Reply {
        match self.check(&request) {
            Ok(operation) => {
                self.taken.lock().unwrap().push((operation, request));
                Answer::new(self.status, self.says.lock().unwrap().clone()).into()
            }
            Err(refusal) => {
                let answer = Answer::new(refusal.status, refusal.message.clone());
                self.refused.lock().unwrap().push(refusal);
                answer.into()
            }
        }
    }
}

/// A recipe between a feed, its system and an endpoint of the user's.
struct Watched {
    sink: Sink,
    feed: Upstream,
    rig: Rig,
    endpoint: Name,
    _me: Receiver,
}

impl Row {
    async fn start(&self, mistake: Option<(&str, &str)>) -> Watched {
        let text = recipe::find(self.recipe).expect("the recipe is there").text;
        let text = mistake.map_or_else(|| text.to_owned(), |(from, to)| replaced(text, from, to));
        let (_dir, config) = load_whole(&text);
        let bridge = config.bridges.values().next().expect("a bridge");
        let endpoint = bridge.routes[0].endpoint.clone();
        let contract = Contract::read(self.contract.0);
        let standard = !recipe::find(self.recipe).is_some_and(|recipe| recipe.text.contains("payload ="));
        let origins = contract.origins();
        let state = Arc::new(State {
            contract,
            credentials: self.credentials,
            status: self.status,
            says: Mutex::default(),
            standard,
            taken: Mutex::default(),
            refused: Mutex::default(),
        });
        let (feed, me) = (Upstream::start().await, Receiver::start().await);
        let sink = Sink { server: Server::start(state.clone()).await, state };
        let text = self.text(&text, &origins, &feed, &sink, &me);
        let rig = Rig::start(Arc::new(MemoryEngine::new()), &text).await;
        Watched { sink, feed, rig, endpoint, _me: me }
    }

    /// The recipe, with its secrets, between the test's servers.
    fn text(&self, text: &str, origins: &[String], feed: &Upstream, sink: &Sink, me: &Receiver) -> String {
        let parsed: toml::Table = text.parse().expect("TOML");
        let bridge = parsed["bridge"].as_table().and_then(|all| all.values().next()).expect("a bridge");
        let polled = bridge["source"]["http"]["url"].as_str().expect("a URL");
        let mut text = replaced(text, polled, &format!("{}/items", feed.origin()));
        for (name, value) in self.env {
            let url = value.parse::<url::Url>().ok().filter(|url| url.has_host());
            let value = match url {
                Some(url) => {
                    let origin = url.origin().ascii_serialization();
                    assert!(origins.contains(&origin), "{origin} is the vendor's, one of {origins:?}");
                    assert!(text.contains(&format!("# {origin}/")), "{}: it says what {name} looks like", self.recipe);
                    value.replacen(&origin, &sink.server.origin(), 1)
                }
                None => (*value).to_owned(),
            };
            text = replaced(&text, &format!("{{ env = \"{name}\" }}"), &format!("{{ value = '{value}' }}"));
        }
        text = text.replace("{ env = \"HOOK_SECRET\" }", &format!("{{ value = \"{SECRET}\" }}"));
        text = text.replace("https://example.com", &me.origin());
        if !self.env.iter().any(|(_, value)| value.starts_with("http")) {
            let origin = origins.iter().find(|origin| text.contains(&format!("url = \"{origin}/")));
            text = text.replace(origin.expect("the vendor's URL").as_str(), &sink.server.origin());
        }
        assert!(!text.contains("env ="), "{}: every secret has a value: {text}", self.recipe);
        // The vendor's pace only takes time here.
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines().filter(|line| *line != "[network]" && !line.starts_with("allow = ")) {
            lines.push(if line.starts_with("rate = ") { "rate = \"1000/s\"".into() } else { line.into() });
        }
        format!("[network]\nallow = [\"127.0.0.0/8\"]\n{}\n", lines.join("\n"))
    }
}

/// As a user gets it: secrets are not read.
fn load_whole(text: &str) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("bridges.toml");
    std::fs::write(&path, text).expect("written");
    let config = bellpull::config::load(&path, bellpull::config::Secrets::FormOnly);
    (dir, config.unwrap_or_else(|failed| panic!("{failed}")))
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is in the recipe:\n{text}");
    text.replace(from, to)
}

impl Watched {
    /// Two records known; then two are new, one of them nasty, one becomes nasty, and one is gone.
    async fn change(&mut self) {
        let put = |feed: &Upstream, record: &Json| feed.put(&record["id"].to_string(), &record.to_string());
        for (id, name) in [(1, "Alpha"), (2, "Beta")] {
            put(&self.feed, &plain(id, name));
        }
        self.poll().await;
        put(&self.feed, &nasty(1));
        self.feed.remove("2");
        put(&self.feed, &nasty(3));
        put(&self.feed, &plain(4, NAME));
        self.poll().await;
    }

    async fn poll(&mut self) {
        self.rig.poll().await.result.expect("an accepted poll");
    }

    /// What was taken, once nothing waits any more.
    async fn sent(&self, operation: &str) -> Vec<Sent> {
        let kinds: BTreeMap<String, (String, String)> = self
            .rig
            .stored_events()
            .await
            .into_iter()
            .map(|stored| stored.event)
            .filter(|event| !event.deliveries.is_empty())
            .map(|event| {
                let kind = event.kind.rsplit('.').next().expect("a kind").to_owned();
                (event.id.to_string(), (kind, event.key))
            })
            .collect();
        let what = format!("{} requests to {}", kinds.len(), self.endpoint);
        eventually(&what, async || {
            let refused = self.sink.state.refused.lock().unwrap().clone();
            assert_eq!(refused, [], "every request keeps the contract");
            self.sink.state.taken.lock().unwrap().len() >= kinds.len()
        })
        .await;
        let taken = self.sink.state.taken.lock().unwrap().clone();
        assert_eq!(taken.len(), kinds.len(), "each is sent once");
        let sent = taken.into_iter().map(|(found, request)| {
            assert_eq!(found, operation);
            let (kind, key) = kinds[request.header("webhook-id").expect("an id")].clone();
            Sent { kind, key, request }
        });
        sent.collect()
    }
}

fn kinds(sent: &[Sent]) -> Vec<String> {
    let mut all: Vec<String> = sent.iter().map(|sent| format!("{} {}", sent.kind, sent.key)).collect();
    all.sort();
    all
}

async fn keeps_its_contract(row: Row) {
    let mut watched = row.start(None).await;
    watched.change().await;
    let sent = watched.sent(row.contract.1).await;
    let expected: &[&str] = match row.sends {
        Sends::New => &["created 3", "created 4"],
        Sends::Changes => &["created 3", "created 4", "deleted 2", "updated 1"],
    };
    assert_eq!(kinds(&sent), expected, "{}", row.recipe);
    (row.says)(&sent);
    // A receiver that is new gets what is there.
    let poller = watched.rig.poller.clone();
    let endpoint = watched.endpoint.clone();
    assert_eq!(poller.resend(watched.rig.polled(), &endpoint).await, Ok(3));
    let sent = watched.sent(row.contract.1).await;
    let present = kinds(&sent).into_iter().filter(|kind| kind.starts_with("present")).count();
    assert_eq!(present, 3, "{}", row.recipe);
    let stored = watched.rig.export().await;
    for (name, secret) in row.env {
        assert!(!stored.contains(secret), "{name} is stored");
    }
}

async fn a_mistake_is_refused(row: Row) {
    let (from, to, status) = row.wrong;
    let mut watched = row.start(Some((from, to))).await;
    watched.change().await;
    let what = format!("{}: {to:?} is refused", row.recipe);
    eventually(&what, async || !watched.sink.state.refused.lock().unwrap().is_empty()).await;
    let refused = watched.sink.state.refused.lock().unwrap().clone();
    assert!(refused.iter().all(|refusal| refusal.status == status), "{}: {refused:?}", row.recipe);
}

macro_rules! rows {
    ($($name:ident => $row:expr;)*) => {
        $(mod $name {
            use super::*;

            pub fn row() -> Row {
                $row
            }

            #[tokio::test]
            async fn keeps_its_contract() {
                super::keeps_its_contract(row()).await;
            }

            #[tokio::test]
            async fn a_mistake_is_refused() {
                super::a_mistake_is_refused(row()).await;
            }
        })*

        fn all() -> Vec<Row> {
            vec![$($name::row()),*]
        }
    };
}

rows! {
    slack_webhook => Row {
        recipe: "slack-webhook",
        contract: ("slack", "incoming_webhook.handwritten"),
        credentials: &[],
        env: &[("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX")],
        status: 200,
        sends: Sends::Changes,
        says: slack,
        wrong: ("{ text: (", "{ txt: (", 400),
    };
    slack_message => Row {
        recipe: "slack-message",
        contract: ("slack", "chat_postMessage"),
        credentials: &[("slackAuth", "xoxb-slack")],
        env: &[("SLACK_BOT_TOKEN", "xoxb-slack")],
        status: 200,
        sends: Sends::Changes,
        says: slack,
        wrong: ("channel: ", "chanel: ", 400),
    };
    discord => Row {
        recipe: "discord-webhook",
        contract: ("discord", "execute_webhook"),
        credentials: &[],
        env: &[("DISCORD_WEBHOOK_URL", "https://discord.com/api/v10/webhooks/1100000000000000001/discord-token")],
        status: 204,
        sends: Sends::Changes,
        says: |sent| {
            assert_eq!(text(&about(sent, "created", "4").body(), "/content"), format!("**releases** created: {NAME}\n{LINK}"));
            for body in sent.iter().map(Sent::body) {
                assert_eq!(body["allowed_mentions"], json!({ "parse": [] }), "nobody is mentioned");
                assert!(utf16(text(&body, "/content")) <= 2000);
            }
        },
        wrong: ("allowed_mentions: { parse: [] }", "allowed_mentions: true", 400),
    };
    teams => Row {
        recipe: "teams",
        contract: ("handwritten-teams", "trigger-workflow"),
        credentials: &[],
        env: &[(
            "TEAMS_WEBHOOK_URL",
            "https://tenant.environment.api.powerplatform.com/powerautomate/automations/direct/workflows/w1/triggers/manual/paths/invoke?api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=teams-signature",
        )],
        status: 202,
        sends: Sends::Changes,
        says: |sent| {
            let card = about(sent, "created", "4").body()["attachments"][0]["content"].clone();
            assert_eq!(text(&card, "/body/0/text"), "releases created");
            assert_eq!(text(&card, "/body/1/text"), NAME);
            assert_eq!(text(&card, "/actions/0/url"), LINK);
            assert!(sent.iter().all(|sent| sent.request.body.len() < 28_000), "a message may have 28 KB");
        },
        wrong: ("version: \"1.4\"", "version: \"4.1\"", 400),
    };
    trello => Row {
        recipe: "trello-card",
        contract: ("trello", "post-cards"),
        credentials: &[("APIKey", "trello-key"), ("APIToken", "trello-token")],
        env: &[("TRELLO_KEY", "trello-key"), ("TRELLO_TOKEN", "trello-token")],
        status: 200,
        sends: Sends::New,
        says: |sent| {
            let card = about(sent, "created", "4").body();
            assert_eq!(card, json!({ "name": NAME, "desc": format!("{LINK}\n\nwhat is new"), "pos": "top" }));
        },
        wrong: ("query = { idList = ", "query = { list = ", 400),
    };
    twilio => Row {
        recipe: "twilio-sms",
        contract: ("twilio", "CreateMessage"),
        credentials: &[("accountSid_authToken", "AC00000000000000000000000000000000:twilio-token")],
        env: &[("TWILIO_AUTH_TOKEN", "twilio-token")],
        status: 201,
        sends: Sends::New,
        says: |sent| {
            let fields = |sent: &Sent| form(&sent.request.body).into_iter().collect::<BTreeMap<_, _>>();
            let one = fields(about(sent, "created", "4"));
            assert_eq!(one["Body"], format!("releases: {NAME} {LINK}"));
            assert_eq!((one["To"].as_str(), one["From"].as_str(), one.len()), ("+15558675310", "+14155552345", 3));
            assert!(sent.iter().all(|sent| utf16(&fields(sent)["Body"]) <= 1600));
        },
        wrong: ("format = \"form\"", "format = \"standard\"", 415),
    };
    telegram => Row {
        recipe: "telegram",
        contract: ("handwritten-telegram", "sendMessage"),
        credentials: &[],
        env: &[("TELEGRAM_URL", "https://api.telegram.org/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0/sendMessage")],
        status: 200,
        sends: Sends::Changes,
        says: |sent| {
            assert_eq!(text(&about(sent, "created", "4").body(), "/text"), format!("releases created: {NAME}\n{LINK}"));
            assert!(text(&about(sent, "updated", "1").body(), "/text").contains("\nchanged: /"));
            for body in sent.iter().map(Sent::body) {
                assert_eq!(body.get("parse_mode"), None, "it is plain text");
                assert!(utf16(text(&body, "/text")) <= 4096);
            }
        },
        wrong: ("| .[:2000])", "| .[:9000])", 400),
    };
    github_issue => Row {
        recipe: "github-issue",
        contract: ("github", "issues/create"),
        credentials: &[("bearerHandwritten", "ghp_token")],
        env: &[("GITHUB_TOKEN", "ghp_token")],
        status: 201,
        sends: Sends::New,
        says: |sent| {
            let body = about(sent, "created", "4").body();
            assert_eq!((text(&body, "/title"), &body["labels"]), (&*format!("releases: {NAME}"), &json!(["bellpull"])));
            let fenced = text(&body, "/body").strip_prefix(&format!("{LINK}\n\n```json\n")).expect("a link and a fence");
            let record: Json = serde_json::from_str(fenced.strip_suffix("\n```").expect("its end")).expect("the record");
            assert_eq!(record, plain(4, NAME));
            // A fence ends at a line of its own: in the record there is none.
            for body in sent.iter().map(Sent::body) {
                assert_eq!(text(&body, "/body").lines().filter(|line| line.starts_with("```")).count(), 2);
            }
        },
        wrong: ("labels: [\"bellpull\"],", "labels: \"bellpull\",", 400),
    };
    github_dispatch => Row {
        recipe: "github-dispatch",
        contract: ("github", "repos/create-dispatch-event"),
        credentials: &[("bearerHandwritten", "ghp_token")],
        env: &[("GITHUB_TOKEN", "ghp_token")],
        status: 204,
        sends: Sends::Changes,
        says: |sent| {
            let body = about(sent, "created", "4").body();
            assert_eq!(body["event_type"], "releases.created");
            assert_eq!(body["client_payload"]["after"], plain(4, NAME));
            let large = about(sent, "created", "3").body();
            assert_eq!((&large["client_payload"]["thin"], large["client_payload"].get("after")), (&json!(true), None));
            assert!(sent.iter().all(|sent| sent.request.body.len() < 65_536), "client_payload may have 64 KB");
        },
        wrong: ("client_payload: .data }", "client_payload: [.data] }", 400),
    };
    pagerduty => Row {
        recipe: "pagerduty",
        contract: ("handwritten-pagerduty", "enqueue"),
        credentials: &[],
        env: &[],
        status: 202,
        sends: Sends::Changes,
        says: |sent| {
            let of = |kind, key| {
                let body = about(sent, kind, key).body();
                (text(&body, "/event_action").to_owned(), text(&body, "/dedup_key").to_owned())
            };
            assert_eq!(of("created", "4"), ("trigger".into(), "incidents/4".into()));
            assert_eq!(of("updated", "1"), ("trigger".into(), "incidents/1".into()));
            assert_eq!(of("deleted", "2"), ("resolve".into(), "incidents/2".into()));
            let body = about(sent, "created", "4").body();
            assert_eq!(text(&body, "/payload/summary"), format!("incidents: {NAME}"));
            assert_eq!(body["payload"]["custom_details"], plain(4, NAME));
            assert!(sent.iter().all(|sent| sent.request.body.len() < 512 << 10), "an event may have 512 KB");
        },
        wrong: ("severity: \"error\"", "severity: \"high\"", 400),
    };
    ntfy => Row {
        recipe: "ntfy",
        contract: ("handwritten-ntfy", "publish"),
        credentials: &[("token", "tk_ntfy")],
        env: &[("NTFY_TOKEN", "tk_ntfy")],
        status: 200,
        sends: Sends::Changes,
        says: |sent| {
            let expected = json!({ "topic": "mytopic", "title": "releases created", "tags": ["new"], "priority": 3,
                "message": NAME, "click": LINK });
            assert_eq!(about(sent, "created", "4").body(), expected);
            assert_eq!(about(sent, "deleted", "2").body()["priority"], 4);
            assert!(sent.iter().all(|sent| text(&sent.body(), "/message").len() <= 4096), "beyond that it is an attachment");
        },
        wrong: ("then 4 else 3 end", "then \"high\" else \"default\" end", 400),
    };
    n8n => Row {
        recipe: "n8n",
        contract: ("handwritten-n8n", "webhook"),
        credentials: &[("headerAuth", "n8n-token")],
        env: &[("N8N_TOKEN", "n8n-token")],
        status: 200,
        sends: Sends::Changes,
        says: standard,
        wrong: ("name = \"x-bellpull-token\"", "name = \"x-token\"", 401),
    };
    node_red => Row {
        recipe: "node-red",
        contract: ("handwritten-node-red", "http-in"),
        credentials: &[("httpNodeAuth", "bellpull:red-password")],
        env: &[("NODE_RED_PASSWORD", "red-password")],
        status: 200,
        sends: Sends::Changes,
        says: standard,
        wrong: ("username = \"bellpull\"", "username = \"somebody\"", 401),
    };
    zapier => Row {
        recipe: "zapier",
        contract: ("handwritten-zapier", "catch-hook"),
        credentials: &[],
        env: &[("ZAPIER_WEBHOOK_URL", "https://hooks.zapier.com/hooks/catch/1234567/abcdefg/")],
        status: 200,
        sends: Sends::Changes,
        says: standard,
        wrong: ("# The Zap sees", "payload = '.data'\n# The Zap sees", 400),
    };
    home_assistant => Row {
        recipe: "home-assistant",
        contract: ("handwritten-home-assistant", "webhook"),
        credentials: &[],
        env: &[("HOME_ASSISTANT_WEBHOOK_URL", "http://homeassistant.local:8123/api/webhook/-6q0bVw2PtYtWjkx4RmMjIbkg")],
        status: 200,
        sends: Sends::Changes,
        says: standard,
        wrong: ("# The automation sees", "payload = '.data'\n# The automation sees", 400),
    };
}

fn slack(sent: &[Sent]) {
    let body = about(sent, "created", "4").body();
    let link = LINK.replace('&', "&amp;");
    assert_eq!(text(&body, "/text"), format!("*releases* created: <{link}|Delta &lt;b&gt; &amp; co>"));
    assert!(text(&about(sent, "updated", "1").body(), "/text").contains("\nchanged: /"));
    assert!(text(&about(sent, "deleted", "2").body(), "/text").contains("|Beta>"));
    for body in sent.iter().map(Sent::body) {
        let text = text(&body, "/text");
        // The only < and > are those of the link to the record.
        let marks: Vec<&str> = text.split('<').skip(1).collect();
        let [one] = marks.as_slice() else { panic!("one link in {text}") };
        assert!(one.starts_with("https://github.com/o/r/releases/") && text.matches('>').count() == 1, "{text}");
    }
}

/// `not_in_channel` in a 200 was a delivery, and nobody saw it.
#[tokio::test]
async fn slack_refuses_inside_a_200() {
    let mut watched = slack_message::row().start(None).await;
    *watched.sink.state.says.lock().unwrap() = r#"{"ok":false,"error":"not_in_channel"}"#.into();
    watched.change().await;
    let error = async || watched.rig.deliveries.status().await["slack"].last_error.clone();
    eventually("it is refused", async || error().await.is_some()).await;
    assert_eq!(error().await.as_deref(), Some("the receiver answered 200, and `fail` says: not_in_channel"));
    *watched.sink.state.says.lock().unwrap() = r#"{"ok":true}"#.into();
    watched.feed.put("5", &plain(5, NAME).to_string());
    watched.poll().await;
    eventually("it is delivered", async || watched.rig.deliveries.status().await["slack"].state.word() == "ok").await;
}

/// The operational types of docs/receiving.md, each with data of the fields that stand there: a new type is sent to each recipe, too.
fn operational_events() -> Vec<(String, Json)> {
    let page = include_str!("../../docs/receiving.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `bellpull.")?.split_once("` |"));
    let events: Vec<(String, Json)> = rows
        .map(|(kind, rest)| {
            let fields = rest.rsplit_once(" | ").expect("a column of fields").1.split('`').skip(1).step_by(2);
            (kind.to_owned(), Json::Object(fields.map(|field| (field.to_owned(), operational_value(field))).collect()))
        })
        .collect();
    let source = include_str!("../../src/schema/event.json");
    for kind in source.split("\"const\": \"bellpull.").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(events.iter().any(|(known, _)| known == kind), "docs/receiving.md does not have bellpull.{kind}");
    }
    assert!(events.len() >= 12, "{events:?}");
    events
}

fn operational_value(field: &str) -> Json {
    match field {
        "bridge" => "releases".into(),
        "endpoint" => "me".into(),
        "stream" => "s_abcdefghijklmnop".into(),
        "hash" => "0".repeat(32).into(),
        "since" => "2026-11-29T10:00:00.000Z".into(),
        "failures" | "count" | "waiting" | "created" | "updated" | "deleted" | "bridges" | "endpoints" => 5.into(),
        "events" => json!(vec![format!("evt_{}", "0".repeat(22)); 50]),
        "error" | "reason" => "<!channel> \"it\" & \\ failed @everyone".repeat(500).into(),
        other => panic!("what is `{other}` of an operational event like?"),
    }
}

/// Every chat recipe refused `endpoint test` and each alarm: who has only a chat heard that the channel is broken, and never that a
/// bridge fails. Whoever is not to hear them is in no `alert.to`.
#[tokio::test]
async fn tests_and_alarms_are_taken() {
    let (mut hearing, mut deaf) = (0, 0);
    let events = operational_events();
    for row in all() {
        let watched = row.start(None).await;
        let endpoint = watched.rig.config.endpoints[&watched.endpoint].clone();
        let tried = watched.rig.deliveries.test(watched.endpoint.clone()).await.expect("an endpoint");
        assert_eq!((tried.status, tried.error.as_deref()), (Some(row.status), None), "{}", row.recipe);
        if !endpoint.hears_alarms() {
            deaf += 1;
            let alerted: Vec<Name> = watched.rig.config.alerted();
            assert_eq!(alerted, [Name::from("me")], "{}: its alarms go to who hears them", row.recipe);
            continue;
        }
        hearing += 1;
        let (now, to) = (watched.rig.poller.clock.now(), [watched.endpoint.clone()]);
        for (kind, data) in &events {
            let event = event::operational(kind, "it", data.clone(), &to, now);
            let written = watched
                .rig
                .store
                .write(Op::Commit(Box::new(Commit { events: vec![event], ..Commit::default() })))
                .await;
            let Ok(Written::Queued(queued)) = written else { panic!("{written:?}") };
            watched.rig.deliveries.queued(queued).await;
        }
        eventually(&format!("{} takes alarms", row.recipe), async || {
            assert_eq!(watched.sink.state.refused.lock().unwrap().clone(), [], "{}", row.recipe);
            watched.sink.state.taken.lock().unwrap().len() == events.len() + 1
        })
        .await;
        if endpoint.payload.is_some() {
            let taken = watched.sink.state.taken.lock().unwrap().clone();
            let says =
                |text: &str| taken.iter().any(|(_, request)| String::from_utf8_lossy(&request.body).contains(text));
            assert!(says("bridge held: releases: "), "{}", row.recipe);
        }
    }
    assert_eq!((hearing, deaf), (11, 4), "chats, pagers and whoever takes the event as it is; and trackers");
}

/// The event itself, whole.
fn standard(sent: &[Sent]) {
    for sent in sent {
        let body = sent.body();
        assert_eq!(text(&body, "/type"), format!("releases.{}", sent.kind));
        assert_eq!(text(&body, "/data/key"), sent.key);
    }
    assert_eq!(about(sent, "created", "4").body()["data"]["after"], plain(4, NAME));
}

#[test]
fn every_sink_is_tested() {
    let rows = all();
    let tested: BTreeSet<&str> = rows.iter().map(|row| row.recipe).collect();
    let sinks = recipe::all().iter().filter(|recipe| recipe.kind == Kind::Sink).map(|recipe| recipe.name);
    assert_eq!(tested, sinks.collect::<BTreeSet<_>>());
}
