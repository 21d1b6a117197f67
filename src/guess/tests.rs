use std::path::Path;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::{
    credentials::{Request, Secrets as Written},
    draft::{Draft, Walk},
    *,
};

fn url(text: &str) -> Url {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn answer_with(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    };
    let headers: HeaderMap = headers.iter().map(pair).collect();
    Answer { status, headers, body: body.to_owned().into(), url: url("https://api.example.com/v1/things") }
}

fn answer(content_type: &str, body: &str) -> Answer {
    answer_with(200, &[("content-type", content_type)], body)
}

fn guessed(first: &Answer, second: Option<&Answer>) -> Guess {
    let found = Guess::of(&first.url, first, second, Timestamp(0));
    found.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&first.body)))
}

fn of_json(document: &Json) -> Guess {
    guessed(&answer("application/json", &document.to_string()), None)
}

fn items(guess: &Guess) -> Option<&str> {
    guess.list.items.what.as_deref()
}

fn key(guess: &Guess) -> Option<&str> {
    guess.list.key.as_ref().map(|key| key.what.as_str())
}

/// Where the answer to a recipe's request is from.
enum From {
    /// The example or the schema of `tests/data/contracts`.
    Contract(&'static str, &'static str),
    /// As `tests/it/vendors` shows it, since the contract does not say what its answer is like.
    Fake(&'static str, &'static str),
}

const NODES: &str = r#"{"data":{"products":{"pageInfo":{"hasNextPage":true,"endCursor":"c"},"nodes":[
    {"id":"gid://shopify/Product/1","title":"A","variants":{"nodes":[]}},
    {"id":"gid://shopify/Product/2","title":"B","variants":{"nodes":[]}}]}},"extensions":{"cost":{"requestedQueryCost":12}}}"#;
const BANK: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header/><s:Body>
    <n:GetTransactionsResponse xmlns:n="urn:b"><n:Transactions>
    <n:Transaction><n:Reference>TX1</n:Reference><n:Amount Currency="EUR">12.30</n:Amount><n:Status>PDNG</n:Status></n:Transaction>
    <n:Transaction><n:Reference>TX2</n:Reference><n:Amount Currency="EUR">12.30</n:Amount><n:Status>BOOK</n:Status></n:Transaction>
    </n:Transactions></n:GetTransactionsResponse></s:Body></s:Envelope>"#;
const OFFERS: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><a:Rsp xmlns:a="urn:a">
    <a:Segments><a:Segment Key="s1" Number="101"/><a:Segment Key="s2" Number="102"/></a:Segments>
    <a:Points><a:Point Key="p1" Total="USD1"/><a:Point Key="p2" Total="USD2"/></a:Points></a:Rsp></s:Body></s:Envelope>"#;

/// A bridge of each recipe that polls, and why the guess is another one where it is.
const RECIPES: [(&str, &str, From, Option<&str>); 21] = [
    (
        "amadeus",
        "amadeus-offers",
        From::Contract("amadeus", "/v2/shopping/flight-offers"),
        Some("an offer's id is its place in the answer: the recipe joins its flights"),
    ),
    ("datadog", "datadog-monitors", From::Contract("datadog", "/api/v1/monitor"), None),
    ("discord", "discord-channel", From::Contract("discord", "/channels/{channel_id}/messages"), None),
    ("github", "github-releases", From::Contract("github", "/repos/{owner}/{repo}/releases"), None),
    ("google-maps", "google-maps-nearby", From::Contract("googlemaps", "/maps/api/place/nearbysearch/json"), None),
    ("instagram", "instagram-media", From::Contract("instagram", "/{version}/{ig-user-id}/media"), None),
    ("openai", "openai-batches", From::Contract("openai", "/batches"), None),
    ("paypal", "paypal-transactions", From::Contract("paypal", "/v1/reporting/transactions"), None),
    ("sabre", "sabre-offers", From::Fake("text/xml", OFFERS), Some("offers name their flights in another list")),
    ("shopify", "shopify-orders", From::Contract("shopify", "/admin/api/{version}/orders.json"), None),
    ("shopify-graphql", "shopify-graphql-products", From::Fake("application/json", NODES), None),
    ("slack", "slack-channel", From::Contract("slack", "/conversations.history"), None),
    ("soap-bank", "bank-transactions", From::Fake("text/xml", BANK), None),
    ("stability", "stability-result", From::Contract("stability", "/v2beta/results/{id}"), None),
    ("stripe", "stripe-events", From::Contract("stripe", "/v1/events"), None),
    ("supertokens", "supertokens-users", From::Contract("supertokens", "/users"), None),
    (
        "travelport",
        "travelport-offers",
        From::Fake("text/xml", OFFERS),
        Some("offers name their flights in another list"),
    ),
    ("trello", "trello-cards", From::Contract("trello", "/boards/{id}/cards"), None),
    ("twilio", "twilio-messages", From::Contract("twilio", "/2010-04-01/Accounts/{AccountSid}/Messages.json"), None),
    ("weather", "weather-forecast", From::Contract("weather", "/data/2.5/forecast"), None),
    ("x", "x-mentions", From::Contract("x", "/2/users/{id}/mentions"), None),
];

/// `items` and `key` of a recipe's bridge; `?` is for answers without the list.
fn of_recipe(name: &str, bridge: &str) -> (Option<String>, Option<String>) {
    let read =
        |path: String| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).expect("a file");
    let recipe: toml::Table = toml::from_str(&read(format!("src/recipes/{name}.toml"))).expect("TOML");
    let of = |key: &str| recipe["bridge"][bridge].get(key)?.as_str().map(|text| text.trim_end_matches('?').to_owned());
    (of("items"), of("key"))
}

#[test]
fn the_vendors_answers_give_the_recipes_bridges() {
    let mut wrong = Vec::new();
    for (recipe, bridge, from, why) in RECIPES {
        let first = match from {
            From::Fake(content_type, body) => answer(content_type, body),
            From::Contract(file, path) => {
                let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/contracts/{file}.json"));
                let document: Json = serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
                let sample = openapi::sample(&document, path).unwrap_or_else(|e| panic!("{recipe}: {e}"));
                answer("application/json", &sample.to_string())
            }
        };
        let guess = guessed(&first, None);
        let found = (items(&guess).map(str::to_owned), key(&guess).map(str::to_owned));
        if (found == of_recipe(recipe, bridge)) != why.is_none() {
            wrong.push(format!("{bridge}: {found:?}, the recipe has {:?}", of_recipe(recipe, bridge)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(RECIPES.iter().filter(|(.., why)| why.is_none()).count() >= 18);
}

const RSS: &str = "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>t</title><link>https://a.example/</link>\
    <description>d</description><item><title>A</title><link>https://a.example/1</link><guid>g1</guid></item>\
    <item><title>B</title><link>https://a.example/2</link><guid>g2</guid></item></channel></rss>";
const ATOM: &str = "<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>t</title><id>f</id><updated>2026-01-01T00:00:00Z</updated>\
    <entry><id>e1</id><title>A</title><updated>2026-01-01T00:00:00Z</updated></entry>\
    <entry><id>e2</id><title>B</title><updated>2026-01-01T00:00:00Z</updated></entry></feed>";

#[test]
fn shapes_of_answers() {
    let json = "application/json";
    /// What it is, its type, the answer, `items`, `key`.
    type Answered<'a> = (&'a str, &'a str, &'a str, Option<&'a str>, Option<&'a str>);
    #[rustfmt::skip]
    let shapes: &[Answered<'_>] = &[
        ("an array", json, r#"[{"id":1,"a":"x"},{"id":2,"a":"x"}]"#, Some(".[]"), Some(".id")),
        ("results within", json, r#"{"data":{"results":{"items":[{"id":1},{"id":2}]}}}"#, Some(".data.results.items[]"), Some(".id")),
        ("a map by id", json, r#"{"c-1":{"id":"c-1","n":1},"c-2":{"id":"c-2","n":1}}"#, Some(".[]"), Some(".id")),
        ("a map by key", json, r#"{"hosts":{"a":{"up":true,"n":1},"b":{"up":true,"n":1},"c":{"up":true,"n":1}}}"#, Some(".hosts | to_entries[]"), Some(".key")),
        ("NDJSON", "application/x-ndjson", "{\"id\":1}\n{\"id\":2}\n", Some(".[]"), Some(".id")),
        ("NDJSON as text", "text/plain", "{\"id\":1}\n{\"id\":2}\n", Some(".[]"), Some(".id")),
        ("CSV", "text/csv", "sku,price\na,1\nb,1\n", Some(".[]"), Some(".sku")),
        ("CSV as text", "text/plain", "sku;price;stock\na;1,5;3\nb;2,5;3\n", Some(".[]"), Some(".sku")),
        ("tabs", "text/tab-separated-values", "code\tname\nx\ta\ny\ta\n", Some(".[]"), Some(".code")),
        ("RSS", "application/rss+xml", RSS, Some(".entries[]"), Some(".id")),
        ("RSS as text", "text/plain", RSS, Some(".entries[]"), Some(".id")),
        ("Atom", "application/xml", ATOM, Some(".entries[]"), Some(".id")),
        ("JSON Feed", json, r#"{"version":"https://jsonfeed.org/version/1.1","title":"t","items":[{"id":"1","content_text":"a"},{"id":"2","content_text":"b"}]}"#, Some(".entries[]"), Some(".id")),
        ("XML", "text/xml", "<r><o no=\"1\"><code>a</code></o><o no=\"1\"><code>b</code></o></r>", Some(".r.o[]"), Some(".code")),
        ("HAL", json, r#"{"_links":{"self":{"href":"/o"},"next":{"href":"/o?page=2"},"last":{"href":"/o?page=9"}},"_embedded":{"orders":[{"id":1},{"id":2}]},"total":9}"#, Some("._embedded.orders[]"), Some(".id")),
        ("JSON:API", json, r#"{"data":[{"type":"a","id":"1","attributes":{"n":1}},{"type":"a","id":"2","attributes":{"n":1}}],"included":[{"type":"b","id":"7"}]}"#, Some(".data[]"), Some(".id")),
        ("OData", json, r#"{"@odata.context":"c","value":[{"ProductID":1,"Name":"a"},{"ProductID":2,"Name":"a"}],"@odata.nextLink":"https://a/x"}"#, Some(".value[]"), Some(".ProductID")),
        ("Relay edges", json, r#"{"data":{"shop":{"edges":[{"cursor":"a","node":{"id":"1"}},{"cursor":"b","node":{"id":"2"}}]}}}"#, Some(".data.shop.edges[].node"), Some(".id")),
        ("Kubernetes", json, r#"{"kind":"List","items":[{"metadata":{"name":"a","uid":"u1"}},{"metadata":{"name":"a","uid":"u2"}}]}"#, Some(".items[]"), Some(".metadata.uid")),
        ("GeoJSON", json, r#"{"type":"FeatureCollection","features":[{"type":"Feature","id":"q1","properties":{"mag":1}},{"type":"Feature","id":"q2","properties":{"mag":1}}]}"#, Some(".features[]"), Some(".id")),
        ("scalars", json, r#"["a","b","c"]"#, Some(".[]"), Some(".")),
        ("an empty list", json, r#"{"data":[],"total":0}"#, Some(".data[]"), Some(".id")),
        ("a null id", json, r#"[{"id":null,"sku":"a"},{"id":1,"sku":"b"}]"#, Some(".[]"), Some(".sku")),
        ("an id twice", json, r#"[{"id":1,"sku":"a"},{"id":1,"sku":"b"}]"#, Some(".[]"), Some(".sku")),
        ("two fields", json, r#"[{"host":"a","port":1},{"host":"a","port":2},{"host":"b","port":1}]"#, Some(".[]"), Some("[.host, .port]")),
        ("no key at all", json, r#"[{"n":1},{"n":1}]"#, None, None),
        ("a document", json, r#"{"version":"1.2","name":"api","status":"ok","tags":[{"id":1}]}"#, None, None),
        ("a number", json, "7", None, None),
        ("odd names", json, r#"{"a b":{"c\"d":[{"id":1},{"id":2}]}}"#, Some(r#"."a b"."c\"d"[]"#), Some(".id")),
    ];
    let mut wrong = Vec::new();
    for (what, content_type, body, wanted_items, wanted_key) in shapes {
        let guess = guessed(&answer(content_type, body), None);
        if (items(&guess), key(&guess)) != (*wanted_items, *wanted_key) {
            wrong.push(format!("{what}: {:?} {:?}", items(&guess), key(&guess)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_gives_no_bridge_says_why() {
    let json = |status, body| answer_with(status, &[("content-type", "application/json")], body);
    let unauthorized = |scheme| answer_with(401, &[("www-authenticate", scheme)], "no");
    for (first, expected) in [
        (answer("text/html", "<!doctype html><html><body><p>a</p></body></html>"), "decode.html = { select"),
        (answer("text/html; charset=utf-8", "<div>a</div>"), "only a person knows what a record is"),
        (json(200, r#"{"error":{"code":7},"status":"failed"}"#), "answered 200 with an error: {\"error\""),
        (json(404, r#"{"message":"Not Found"}"#), "answered 404 with an error"),
        (json(503, ""), "the server answered 503"),
        (json(405, "no"), "source.graphql"),
        (json(200, "  "), "the answer is empty"),
        (json(200, "hello"), "neither JSON, NDJSON"),
        (json(200, "[1,2"), "neither JSON, NDJSON"),
        (unauthorized("Bearer realm=\"a\""), "-H \"Authorization: Bearer TOKEN\""),
        (unauthorized("Basic realm=\"a\""), "https://USER:PASSWORD@"),
        (answer_with(403, &[], "no"), "asks for credentials"),
        (answer_with(302, &[("location", "/login?next=s3cret")], ""), "redirects to https://api.example.com/login"),
    ] {
        let error = Guess::of(&first.url, &first, None, Timestamp(0)).expect_err("no bridge").to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{expected}: {error}");
    }
}

/// A clock in each record made an event of each poll.
#[test]
fn what_differs_between_two_reads_is_ignored_or_named() {
    let list = |at: u64, price: u64| {
        let record = |n: u64| json!({ "id": n, "price": if n == 1 { price } else { 5 }, "seen": at + n });
        json!((1..=4).map(record).collect::<Vec<_>>())
    };
    let both = |a: Json, b: Json| {
        let of = |document: Json| answer("application/json", &document.to_string());
        guessed(&of(a), Some(&of(b)))
    };
    let guess = both(list(100, 5), list(200, 6));
    // The price of one record of four is a change, and `differs` in the clock of all.
    let ignored: Vec<&str> = guess.ignore.iter().map(|path| path.what.as_str()).collect();
    assert_eq!(ignored, [".seen"]);
    assert!(guess.notes.iter().any(|note| note.contains("`.price` differed")), "{:?}", guess.notes);
    let document = |n: u64| json!({ "status": "ok", "checked_at": format!("t{n}"), "load": n });
    let guess = both(document(1), document(2));
    let ignored: Vec<&str> = guess.ignore.iter().map(|path| path.what.as_str()).collect();
    assert_eq!(ignored, [".checked_at"]);
    assert!(guess.notes.iter().any(|note| note.contains("`.load` differed")), "{:?}", guess.notes);
    assert!(both(list(1, 5), list(1, 5)).ignore.is_empty());
}

#[test]
fn how_a_list_goes_on() {
    let two = r#"[{"id":1},{"id":2}]"#;
    for (query, headers, body, expected) in [
        ("", &[("link", "</x?page=2>; rel=\"next\"")][..], two.to_owned(), Some("link = {}")),
        ("", &[], format!(r#"{{"data":{two},"next":"/x?page=2"}}"#), Some("next-url = { next = \".next\" }")),
        (
            "",
            &[],
            format!(r#"{{"data":{two},"next_cursor":"c"}}"#),
            Some("cursor = { param = \"cursor\", next = \".next_cursor\" }"),
        ),
        (
            "?after=",
            &[],
            format!(r#"{{"data":{two},"meta":{{"next_cursor":"c"}}}}"#),
            Some("cursor = { param = \"after\", next = \".meta.next_cursor\" }"),
        ),
        (
            "",
            &[],
            format!(r#"{{"object":"list","data":{two},"has_more":true}}"#),
            Some("cursor = { param = \"starting_after\", next = \"if .has_more then .data[-1].id else null end\" }"),
        ),
        (
            "?page=1&per_page=2",
            &[],
            format!(r#"{{"data":{two},"total":9}}"#),
            Some("page = { param = \"page\", size-param = \"per_page\", size = 2, total = \".total\" }"),
        ),
        (
            "?offset=0&limit=2",
            &[],
            format!(r#"{{"data":{two},"total":9}}"#),
            Some("offset = { param = \"offset\", limit-param = \"limit\", limit = 2, total = \".total\" }"),
        ),
        ("?page=0", &[], two.to_owned(), Some("page = { param = \"page\", start = 0 }")),
        (
            "",
            &[],
            format!(r#"{{"data":{two},"hasMore":true}}"#),
            Some("page = { param = \"page\", end = \".hasMore | not\" }"),
        ),
        ("", &[], format!(r#"{{"data":{two},"total":2}}"#), None),
        ("?limit=2", &[], two.to_owned(), None),
        (
            "?_page=1&_limit=2",
            &[("x-total-count", "9")][..],
            two.to_owned(),
            Some(
                "page = { param = \"_page\", size-param = \"_limit\", size = 2, total = '$headers[\"x-total-count\"]' }",
            ),
        ),
        ("", &[("x-total-count", "2")][..], two.to_owned(), None),
    ] {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let mut first = answer_with(200, &all, &body);
        first.url = url(&format!("https://api.example.com/v1/things{query}"));
        let guess = guessed(&first, None);
        assert_eq!(guess.pages.as_ref().map(|pages| pages.what.key()).as_deref(), expected, "{query} {body}");
        check_draft(&first, &guess);
    }
}

#[test]
fn how_often_is_what_the_server_says() {
    for (headers, seconds) in [
        (&[][..], 60),
        (&[("cache-control", "max-age=500")], 600),
        (&[("cache-control", "max-age=5")], 60),
        (&[("x-poll-interval", "90")], 120),
        (&[("ratelimit-remaining", "10"), ("ratelimit-reset", "3600")], 900),
        (&[("ratelimit-remaining", "5000"), ("ratelimit-reset", "3600")], 60),
    ] {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let guess = guessed(&answer_with(200, &all, "[]"), None);
        assert_eq!(guess.every.what, Duration::from_secs(seconds), "{headers:?}: {}", guess.every.why);
    }
    assert_eq!(guessed(&answer("application/rss+xml", RSS), None).every.what, EVERY_FEED);
}

/// What is written is one bridge that the file takes, and that has what was guessed.
fn check_draft(first: &Answer, guess: &Guess) {
    let headers = ["X-Api-Key: s3cr3t-key".to_owned(), "Accept: a/b".to_owned()];
    let request = Request::new(first.url.as_str(), &headers).unwrap_or_else(|e| panic!("{e}"));
    let draft = Draft { name: "things", request: &request, guess, to: "me" };
    for (secrets, walk) in [(Written::Env, Walk::All), (Written::Env, Walk::First), (Written::Inline, Walk::Within(3))]
    {
        let text = draft.bridge(secrets, walk);
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(text.contains("s3cr3t"), secrets == Written::Inline, "{text}");
        let bridge = table["bridge"]["things"].as_table().unwrap_or_else(|| panic!("{text}"));
        let of = |name: &str| bridge.get(name).and_then(|value| value.as_str());
        assert_eq!((of("items"), of("key")), (items(guess), key(guess)), "{text}");
        assert!(bridge["source"]["http"].get("url").is_some(), "{text}");
        assert_eq!(table.len(), 1, "{text}");
    }
}

/// A field that is unique in each answer, and another one in the next, is a clock and no key.
#[test]
fn a_key_is_found_again_in_the_second_read() {
    let read = |at: u64| {
        let record = |n: u64| json!({ "aged": at + n, "city": format!("c{n}"), "kind": "a" });
        answer("application/json", &json!([record(1), record(2), record(3)]).to_string())
    };
    assert_eq!(key(&guessed(&read(0), None)), Some(".aged"));
    let guess = guessed(&read(0), Some(&read(100)));
    assert_eq!(key(&guess), Some(".city"));
    assert_eq!(guess.ignore.iter().map(|path| path.what.as_str()).collect::<Vec<_>>(), [".aged"]);
}

/// A server names its fields: none of them ends a line of the file, or a string in it.
#[test]
fn hostile_names_stay_in_their_strings() {
    for name in ["a\nb = 1\n[daemon]", "a\"b", "a'b\"", "a\\", "a\u{7f}\u{2028}b", "]#[", "\u{1b}[31m", "", "é ☆"] {
        let record = |n: u64| json!({ name: n, "id": n, "updated_at": "t" });
        let first = answer("application/json", &json!({ name: [record(1), record(2)] }).to_string());
        let guess = guessed(&first, None);
        assert_eq!(items(&guess).map(|path| Expr::parse(path).is_ok()), Some(true), "{name:?}: {:?}", items(&guess));
        check_draft(&first, &guess);
        let words = guess.words().iter().map(|line| crate::terminal::line(line)).collect::<String>();
        assert!(!words.contains(['\n', '\x1b']), "{words:?}");
    }
}

/// A list with one field that tells its records apart is found wherever it stands, and the field with it.
#[test]
fn any_list_is_found_wherever_it_stands() {
    let mut seed = 11_u64;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % below
    };
    const WAYS: [&str; 8] = ["data", "orders", "x y", "9a", "result", "payload", "response", "d-e"];
    const UNIQUE: [&str; 6] = ["id", "sku", "zz", "orderNo", "customer_id", "q\"r"];
    for _ in 0..2000 {
        let (count, unique, is_text) = (2 + draw(6), UNIQUE[draw(UNIQUE.len())], draw(2) == 0);
        let record = |n: usize| {
            let value = if is_text { json!(format!("v{n}")) } else { json!(n) };
            json!({ unique: value, "kind": "the same in each of them", "state": n.is_multiple_of(2), "none": null })
        };
        let mut document = json!((0..count).map(record).collect::<Vec<_>>());
        let mut way = Vec::new();
        for _ in 0..draw(5) {
            let name = WAYS[draw(WAYS.len())];
            let mut around = json!({ name: document });
            if draw(2) == 0 {
                around["ok"] = json!(true);
            }
            if draw(2) == 0 {
                around["tags"] = json!(["a", "b"]);
            }
            document = around;
            way.insert(0, name);
        }
        let path = way.iter().fold(String::new(), |path, name| text::within(&path, name));
        let expected = if path.is_empty() { ".[]".to_owned() } else { format!("{path}[]") };
        let guess = of_json(&document);
        assert_eq!(items(&guess), Some(expected.as_str()), "{document}");
        assert_eq!(key(&guess), Some(text::within("", unique).as_str()), "{document}");
    }
}

/// Schemas that name themselves end, and what only one of them says is taken together.
#[test]
fn an_answer_is_made_of_a_schema() {
    let document = |schema: Json| {
        json!({ "paths": { "/a": { "get": { "responses": { "200": { "content": { "application/json": { "schema": schema } } } } } } },
            "components": { "schemas": { "node": { "type": "object", "properties": {
                "id": { "type": "string" }, "child": { "$ref": "#/components/schemas/node" } } } } } })
    };
    let list =
        |element: Json| json!({ "type": "object", "properties": { "items": { "type": "array", "items": element } } });
    for schema in [
        list(json!({ "$ref": "#/components/schemas/node" })),
        list(json!({ "allOf": [{ "$ref": "#/components/schemas/node" }, { "required": ["name"] }] })),
        list(json!({ "oneOf": [{ "$ref": "#/components/schemas/node" }] })),
        list(json!({ "type": ["null", "object"], "properties": { "id": { "type": "integer" } } })),
    ] {
        let guess = of_json(&openapi::sample(&document(schema.clone()), "/a").unwrap_or_else(|e| panic!("{e}")));
        assert_eq!((items(&guess), key(&guess)), (Some(".items[]"), Some(".id")), "{schema}");
    }
    let bearer = json!({ "paths": { "/a": { "get": { "security": [{ "b": [] }] } } }, "components": { "securitySchemes": {
        "b": { "type": "http", "scheme": "bearer" } } } });
    assert_eq!(openapi::credentials(&bearer, "/a"), [super::credentials::Place::Bearer]);
    let keyed = json!({ "paths": { "/a": { "get": {} } }, "security": [{ "oidc": [] }, { "k": [], "q": [] }],
        "securityDefinitions": { "k": { "type": "apiKey", "in": "header", "name": "X-Key" },
            "q": { "type": "apiKey", "in": "query", "name": "appKey" } } });
    let places = [super::credentials::Place::Header("x-key".into()), super::credentials::Place::Query("appKey".into())];
    assert_eq!(openapi::credentials(&keyed, "/a"), places);
    let swagger = json!({ "paths": { "/a": { "get": { "responses": { "200": { "schema": { "type": "array",
        "items": { "required": ["uuid"] } } } } } } } });
    assert_eq!(key(&of_json(&openapi::sample(&swagger, "/a").unwrap_or_else(|e| panic!("{e}")))), Some(".uuid"));
    for (document, path, expected) in [
        (json!({}), "/a", "not OpenAPI"),
        (document(json!({})), "/b", "it has /a"),
        (json!({ "paths": { "/a": { "post": {} } } }), "/a", "has no GET"),
        (json!({ "paths": { "/a": { "get": {} } } }), "/a", "no answer of 2xx"),
    ] {
        let error = openapi::sample(&document, path).expect_err("no sample");
        assert!(error.contains(expected), "{error}");
    }
}
