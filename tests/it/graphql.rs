//! `source.graphql`: variables, cursor connections, and errors in a 200.

use std::sync::{Arc, Mutex};

use bellpull::poller::Polling;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    rig::World,
    server::{Answer, Request, Server},
};

const ORDERS: &str = r#"
[bridge.orders]
every = "1h"
items = ".data.orders.edges[].node"
key = ".id"
to = ["me"]
[bridge.orders.source.graphql]
url = "SERVER/graphql"
query = "query($first: Int!, $after: String) { orders(first: $first, after: $after) { edges { node { id } } pageInfo { endCursor hasNextPage } } }"
variables = { first = 2, open = true, tags = ["a", "b"], since = { jq = ".previous.at" }, token = { value = "hunter2-secret" } }
pages.cursor = { variable = "after", next = '.data.orders.pageInfo | if .hasNextPage then .endCursor // error("hasNextPage without endCursor") else null end' }
"#;

/// A connection over some ids, two an answer; its cursors look like numbers. It refuses what the schema above does not
/// allow, as a server that knows types would.
struct Shop {
    ids: Mutex<Vec<u32>>,
    seen: Mutex<Vec<Request>>,
    answer: Mutex<Option<Answer>>,
}

impl Shop {
    async fn start() -> (Arc<Self>, Server) {
        let shop =
            Arc::new(Self { ids: Mutex::new((1..=5).collect()), seen: Mutex::default(), answer: Mutex::default() });
        let server = {
            let shop = shop.clone();
            Server::start(Arc::new(move |request: Request| shop.reply(request).into())).await
        };
        (shop, server)
    }

    fn reply(&self, request: Request) -> Answer {
        self.seen.lock().unwrap().push(request.clone());
        if let Some(answer) = self.answer.lock().unwrap().take() {
            return answer;
        }
        let asked = asked(&request);
        if asked["query"].is_null() && self.asked_whole(&asked) == 0 {
            let error =
                json!({"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}});
            return Answer::json(json!({ "errors": [error] }).to_string());
        }
        let variables = asked["variables"].clone();
        let (Some(first), true) =
            (variables["first"].as_u64(), variables["after"].is_null() || variables["after"].is_string())
        else {
            return Answer::json(json!({"errors":[{"message":"Variable has the wrong type"}]}).to_string());
        };
        let after: u32 = variables["after"].as_str().map_or(0, |a| a.parse().expect("a cursor of ours"));
        let ids = self.ids.lock().unwrap();
        let rest: Vec<u32> = ids.iter().copied().filter(|id| *id > after).collect();
        let page: Vec<u32> = rest.iter().copied().take(usize::try_from(first).unwrap()).collect();
        let edges: Vec<Json> = page.iter().map(|id| json!({"node":{"id":format!("gid://shop/Order/{id}")}})).collect();
        let info = json!({"endCursor": page.last().map(u32::to_string), "hasNextPage": rest.len() > page.len()});
        Answer::json(json!({"data":{"orders":{"edges":edges,"pageInfo":info}}}).to_string())
    }
}

/// What a request asks, of its body or of its URL.
fn asked(request: &Request) -> Json {
    if request.method == "POST" {
        return request.json();
    }
    let json = |(name, text): (&String, &String)| {
        let is_text = matches!(name.as_str(), "query" | "operationName");
        (name.clone(), if is_text { json!(text) } else { serde_json::from_str(text).expect("JSON") })
    };
    Json::Object(request.query.iter().map(json).collect())
}

impl Shop {
    /// How many requests gave the text of the query whose hash this one has.
    fn asked_whole(&self, asked: &Json) -> usize {
        let hash = &asked["extensions"]["persistedQuery"]["sha256Hash"];
        let seen = self.seen.lock().unwrap();
        let whole = seen.iter().map(self::asked).filter(|asked| {
            let text = asked["query"].as_str().unwrap_or_default();
            let own: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            !text.is_empty() && *hash == own && asked["extensions"]["persistedQuery"]["sha256Hash"] == own
        });
        whole.count()
    }
}

/// A sort over a column that may be null gives a page without a cursor, and the walk ended there: what was behind it
/// looked deleted.
#[tokio::test]
async fn a_page_that_has_a_next_one_and_no_cursor_fails_the_walk() {
    let (shop, server) = Shop::start().await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin())).await;
    world.poll().await;
    let before = world.rig.export().await;
    let info = json!({"hasNextPage": true, "endCursor": null});
    let page = json!({"data":{"orders":{"edges":[{"node":{"id":"gid://shop/Order/1"}}],"pageInfo":info}}});
    *shop.answer.lock().unwrap() = Some(Answer::json(page.to_string()));
    let error = world.fail().await;
    assert!(error.contains("hasNextPage without endCursor"), "{error}");
    assert_eq!(world.rig.export().await, before);
    world.poll().await;
    assert_eq!(world.rig.lines().await, [""; 0]);
}

/// As caches in front of a server want it, and servers that know their clients' queries.
#[tokio::test]
async fn a_query_may_go_in_the_url_and_by_its_hash() {
    let lines = "operation-name = \"Orders\"\nextensions = { trace = { on = true, tags = [{ jq = \".item\" }, { jq = \"7\" }, { value = \"hunter3-secret\" }] }, key = { value = \"hunter2-secret\" } }\n";
    for (method, persisted) in [("GET", false), ("POST", true), ("GET", true)] {
        let (shop, server) = Shop::start().await;
        let text = ORDERS.replace("SERVER", &server.origin()).replace("query(", "query Orders(")
            + lines
            + &format!("method = \"{method}\"\npersisted = {persisted}\n");
        let mut world = World::start(&text).await;
        assert_eq!(world.poll().await, Polling::Baseline { records: 5 }, "{method} {persisted}");
        let seen: Vec<Request> = shop.seen.lock().unwrap().clone();
        let all: Vec<Json> = seen.iter().map(asked).collect();
        assert!(seen.iter().all(|request| request.method == method && request.body.is_empty() == (method == "GET")));
        for asked in &all {
            assert_eq!(asked["operationName"], "Orders");
            assert_eq!(
                (&asked["extensions"]["trace"], &asked["extensions"]["key"]),
                (&json!({"on": true, "tags": [null, 7, "hunter3-secret"]}), &json!("hunter2-secret"))
            );
            assert_eq!(asked["variables"]["first"], json!(2));
        }
        let after: Vec<Json> = all.iter().map(|asked| asked["variables"]["after"].clone()).collect();
        let texts: Vec<bool> = all.iter().map(|asked| asked["query"].is_string()).collect();
        if persisted {
            assert_eq!(after, [json!(null), json!(null), json!("2"), json!("4")]);
            assert_eq!(texts, [false, true, false, false], "the hash first, and the text where it is not known");
        } else {
            assert_eq!((after, texts), (vec![json!(null), json!("2"), json!("4")], vec![true; 3]));
        }
    }
}

#[tokio::test]
async fn a_connection_is_walked_by_its_cursors() {
    let (shop, server) = Shop::start().await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin())).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 5 });
    {
        let seen = shop.seen.lock().unwrap();
        let after: Vec<Json> = seen.iter().map(|r| r.json()["variables"]["after"].clone()).collect();
        assert_eq!(after, [json!(null), json!("2"), json!("4")], "a cursor is a string, whatever it looks like");
        let first = seen[0].json();
        assert_eq!(first["variables"]["open"], json!(true));
        assert_eq!(first["variables"]["tags"], json!(["a", "b"]));
        assert_eq!(first["variables"]["since"], json!(null));
        assert_eq!((seen[0].method.as_str(), seen[0].header("content-type")), ("POST", Some("application/json")));
    }
    shop.ids.lock().unwrap().push(6);
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.created gid://shop/Order/6 #1"]);
}

#[tokio::test]
async fn errors_in_a_200_are_no_answer() {
    let (shop, server) = Shop::start().await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin())).await;
    world.poll().await;
    let before = world.rig.export().await;
    let cases = [
        (Answer::json(r#"{"data":null,"errors":[{"message":"no such field hunter2-secret"}]}"#), "no such field ***"),
        // Half an answer beside an error is not a snapshot.
        (
            Answer::json(r#"{"data":{"orders":{"edges":[]}},"errors":[{"message":"timeout"}]}"#),
            "with an error: timeout",
        ),
        (Answer::new(400, r#"{"errors":[{"message":"Syntax Error"}]}"#), "answered 400 with an error: Syntax Error"),
    ];
    for (answer, told) in cases {
        *shop.answer.lock().unwrap() = Some(answer);
        let outcome = world.rig.poll().await;
        assert!(outcome.result.is_err());
        let error = world.rig.polled().progress.last_error.clone().expect("an error");
        assert!(error.ends_with(told), "{error}");
        assert_eq!(world.rig.export().await, before);
    }
    world.poll().await;
}
