//! `source.graphql`: a query over HTTP, as POST with a JSON body or as GET with parameters (graphql.org, "Serving over
//! HTTP"). Pages are cursors in a variable, and `errors` in a 200 say that it failed, also beside `data`: half an
//! answer is not a snapshot.

use std::fmt;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Body, Source, answers};
use crate::{
    compute::compute,
    http::{place::add_parameter, target},
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::keys,
        template::{self, Stands, Template},
        value::Value,
    },
    source::{
        ErrorKind,
        page::{self, Pages},
        transport::{Over, Transport, headed, over_http},
    },
};

/// Errors of one answer that a message names.
const ERRORS_TOLD: usize = 3;

/// What is asked.
#[derive(Clone, PartialEq)]
pub struct Query {
    text: String,
    variables: Vec<(String, Template)>,
    operation: Option<String>,
    extensions: Vec<(String, Template)>,
    /// The query's hash is sent first, and its text only to a server that does not know it.
    persisted: bool,
    /// What is asked stands in the URL.
    in_url: bool,
}

/// As 0.1.0 printed it, which hashed this: it knew a text and variables.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Query");
        all.field("text", &self.text).field("variables", &self.variables);
        if let Some(name) = &self.operation {
            all.field("operation", name);
        }
        if !self.extensions.is_empty() {
            all.field("extensions", &self.extensions);
        }
        all.finish()
    }
}

impl Query {
    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("graphql.query", self.text.as_str());
        define(&self.variables, ["variables.json", "variables"], text);
        text.put_some("operation-name", self.operation.as_deref());
        define(&self.extensions, ["extensions.json", "extensions"], text);
    }
}

fn define(all: &[(String, Template)], [fixed, made]: [&str; 2], text: &mut Fingerprint) {
    for (name, variable) in all {
        match variable {
            Template::Fixed(json) => text.put_named(fixed, name, json.clone()),
            other => text.put_named(made, name, Json::from(other)),
        }
    }
}

const METHODS: [(&str, Method); 2] = [("POST", Method::POST), ("GET", Method::GET)];

keys! {
    /// A GraphQL query.
    mod graphql;
    /// Where it is sent: a value; `http` or `https`, without user and password.
    need URL: Value = "url", target::URL, "url = \"https://api.example.com/graphql\"";
    /// The query, plain text.
    need QUERY: String = "query", TEXT, "query = \"{ orders { id status } }\"";
    /// A table; what is in it keeps its type, tables and lists too. A table such as `{ env = "TOKEN" }` is a secret,
    /// which is sent as a string, and `{ jq = "..." }` is its result, which keeps its type.
    get VARIABLES: Vec<(String, Template)> = "variables", Form::new(Shape::Named(&Shape::Any), read_variables);
    /// The operation that is run, where `query` has several.
    get OPERATION_NAME: String = "operation-name", TEXT;
    /// A table of protocol extensions, read as `variables` is.
    get EXTENSIONS: Vec<(String, Template)> = "extensions", Form::new(Shape::Named(&Shape::Any), read_variables);
    /// `"GET"` sends query, variables, operation name and extensions as parameters of the URL, the last three as JSON
    /// where they are tables.
    or METHOD: Method = "method", Form::words(&METHODS), || Method::POST;
    /// `true`: sends the query's SHA-256 (`extensions.persistedQuery`) in place of its text, and the text with it once
    /// more where the server answers `PERSISTED_QUERY_NOT_FOUND`.
    or PERSISTED: bool = "persisted", BOOLEAN, || false;
    /// How a list goes on.
    maybe PAGES: Pages = "pages", Form::table(&page::graphql_pages::FAMILY, Pages::read_variable), "one page";
    + answers::FAMILY;
    + over_http::FAMILY;
}

/// Reads `[bridge.NAME.source.graphql]`.
pub fn read(mut table: Table<'_>) -> Option<Source> {
    let (url, query) = (table.need(&graphql::URL), table.need(&graphql::QUERY));
    let variables = table.get(&graphql::VARIABLES).unwrap_or_default();
    let (operation, method) = (table.get(&graphql::OPERATION_NAME), table.or(&graphql::METHOD));
    let extensions = table.item(&graphql::EXTENSIONS);
    let persisted = table.or(&graphql::PERSISTED);
    let extensions = extensions.and_then(|item| {
        let extensions = graphql::EXTENSIONS.read(&item)?;
        if persisted && extensions.iter().any(|(name, _)| name == PERSISTED_QUERY) {
            item.error(format!("`{}.{PERSISTED_QUERY}` stands beside `persisted`, which makes it", item.path))
                .help("keep one of them".into())
                .report();
        }
        Some(extensions)
    });
    let (pages, decode, fail) = (table.get(&graphql::PAGES), table.get(&answers::DECODE), table.get(&answers::FAIL));
    let transport = Transport::read(&mut table, &headed::HEADERS, Over::Http);
    table.finish();
    let (extensions, in_url) = (extensions.unwrap_or_default(), method == Method::GET);
    let body = Body::Graphql(Query { text: query?, variables, operation, extensions, persisted, in_url });
    Some(Source { method, pages, ..Source::post(url?, body, decode, fail, transport) })
}

fn read_variables(item: &Item<'_>) -> Option<Vec<(String, Template)>> {
    item.templates(|item| if is_secret(item) || item.is_made() { Stands::ForAValue } else { Stands::ForItself })
}

/// Whether a table is a secret, such as `{ env = "TOKEN" }`. One with more in it, such as `{ field = "a", value = "b"
/// }`, is an input object.
fn is_secret(item: &Item<'_>) -> bool {
    let alone = |mut table: Table<'_>| matches!(table.take_all().as_slice(), [(_, _, value)] if value.is_string());
    item.is_secret() && item.table().is_some_and(alone)
}

/// What goes in its place: each keeps its type, `first = 50` is an Int, and what gives nothing is left out.
async fn made(all: &[(String, Template)], input: &Json) -> Result<Json, ErrorKind> {
    let table = Template::Table(all.to_vec());
    let filled = if all.iter().all(|(_, part)| matches!(part, Template::Fixed(_))) {
        table.fill(input, None)
    } else {
        let input = input.clone();
        let filled = compute(move || table.fill(&input, None)).await;
        filled.map_err(|e| ErrorKind::Request(format!("the variables cannot be made: it panicked: {e}")))?
    };
    match filled {
        Ok(made) => Ok(made.unwrap_or_default()),
        Err(template::Error::Expr(error)) => Err(ErrorKind::Expr(error)),
        Err(error @ template::Error::NoToken) => Err(ErrorKind::Request(error.to_string())),
    }
}

/// The extension of a persisted query, as Apollo's servers and clients have it.
const PERSISTED_QUERY: &str = "persistedQuery";
/// What a server says that does not know a hash.
const NOT_FOUND: &str = "PERSISTED_QUERY_NOT_FOUND";
/// The same as a message, of servers that give no code.
const NOT_FOUND_TOLD: &str = "PersistedQueryNotFound";

impl Query {
    /// All that is asked, as a body has it.
    pub async fn body(&self, input: &Json) -> Result<Json, ErrorKind> {
        let variables = made(&self.variables, input).await?;
        let mut extensions = made(&self.extensions, input).await?;
        if let (true, Json::Object(extensions)) = (self.persisted, &mut extensions) {
            let hash: String = Sha256::digest(self.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            extensions.insert(PERSISTED_QUERY.into(), json!({ "version": 1, "sha256Hash": hash }));
        }
        let operation = self.operation.as_deref().map(Json::from);
        let extensions = Some(extensions).filter(|all| all.as_object().is_some_and(|all| !all.is_empty()));
        let own = [("query", Json::from(self.text.as_str())), ("variables", variables)];
        let more = [("operationName", operation), ("extensions", extensions)];
        let more = more.into_iter().filter_map(|(name, part)| Some((name, part?)));
        Ok(own.into_iter().chain(more).map(|(name, part)| (name.to_owned(), part)).collect::<Map<_, _>>().into())
    }

    /// The URL and the body of a request. A persisted query goes without its text, unless `whole`.
    pub fn sent(&self, url: &Url, asked: &Json, whole: bool) -> (Url, Option<String>) {
        let mut asked = asked.clone();
        if let (true, false, Json::Object(parts)) = (self.persisted, whole, &mut asked) {
            parts.remove("query");
        }
        if !self.in_url {
            return (url.clone(), Some(asked.to_string()));
        }
        let mut url = url.clone();
        for (name, part) in asked.as_object().into_iter().flatten() {
            let text = part.as_str().map_or_else(|| part.to_string(), str::to_owned);
            add_parameter(&mut url, name, &text);
        }
        (url, None)
    }

    /// Whether an answer wants the text of a persisted query.
    pub fn wants_text(&self, answer: &[u8]) -> bool {
        let told = || errors(answer).is_some_and(|told| told.contains(NOT_FOUND_TOLD));
        self.persisted && (has_code(answer, NOT_FOUND) || told())
    }

    /// Values that may be secrets.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.variables.iter().chain(&self.extensions).flat_map(|(_, part)| part.values())
    }
}

/// The code by which servers say that a credential is not good (Apollo Server, Hasura, Yoga and others).
pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";

/// The code of an error (`extensions.code`).
fn code(error: &Json) -> Option<&str> {
    error.get("extensions")?.get("code")?.as_str()
}

/// Whether an error of an answer has a code.
pub fn has_code(document: &[u8], wanted: &str) -> bool {
    let Ok(Answer { errors: Some(Json::Array(errors)) }) = serde_json::from_slice(document) else { return false };
    errors.iter().any(|error| code(error) == Some(wanted))
}

/// Whether an answer refuses the token that it was asked with.
pub fn refuses(document: &[u8]) -> bool {
    has_code(document, UNAUTHENTICATED)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errors: Option<Json>,
}

/// What `errors` say (GraphQL specification, section 7.1.2).
pub fn errors(document: &[u8]) -> Option<String> {
    // Another shape than an object has no `errors`; that it has no `data` either, `items` finds out.
    let errors = serde_json::from_slice::<Answer>(document).ok()?.errors?;
    let told =
        |error: &Json| error.get("message").and_then(Json::as_str).map_or_else(|| error.to_string(), str::to_owned);
    match errors {
        Json::Null => None,
        Json::Array(list) if list.is_empty() => None,
        Json::Array(list) => Some(list.iter().take(ERRORS_TOLD).map(told).collect::<Vec<_>>().join("; ")),
        other => Some(told(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(persisted: bool, in_url: bool) -> Query {
        let (variables, extensions) = (Vec::new(), vec![("trace".into(), Template::Fixed(json!({ "on": true })))]);
        Query { text: "{ a }".into(), variables, operation: Some("A".into()), extensions, persisted, in_url }
    }

    #[tokio::test]
    async fn a_query_goes_in_the_body_or_in_the_url() {
        let url: Url = "https://api.example.com/graphql?key=1".parse().expect("a URL");
        let asked = query(false, false).body(&json!({})).await.expect("a body");
        let expected = json!({ "query": "{ a }", "variables": {}, "operationName": "A", "extensions": { "trace": { "on": true } } });
        assert_eq!(asked, expected);
        let (to, body) = query(false, false).sent(&url, &asked, false);
        assert_eq!(
            (to, body.map(|body| serde_json::from_str(&body).expect("JSON"))),
            (url.clone(), Some(expected.clone()))
        );
        let (to, body) = query(false, true).sent(&url, &asked, false);
        assert_eq!(body, None);
        for (name, value) in expected.as_object().expect("an object") {
            let given = to.query_pairs().find(|(key, _)| key == name).expect("a parameter").1;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(given, text, "{name}");
        }
        assert_eq!(to.query_pairs().next().expect("the own one").0, "key");
    }

    /// Made with Python's hashlib: sha256(b"{ a }").
    #[tokio::test]
    async fn a_persisted_query_is_its_hash_until_its_text_is_wanted() {
        let url: Url = "https://api.example.com/graphql".parse().expect("a URL");
        for in_url in [false, true] {
            let query = query(true, in_url);
            let asked = query.body(&json!({})).await.expect("a body");
            assert_eq!(
                asked["extensions"]["persistedQuery"]["sha256Hash"],
                "1c7e1e347f726166b5b1c55afd61f278cc9b45e00c108ec33d540a566379811b"
            );
            for whole in [false, true] {
                let (to, body) = query.sent(&url, &asked, whole);
                let sent = format!(
                    "{} {}",
                    to.query_pairs().map(|(k, v)| format!("{k}={v} ")).collect::<String>(),
                    body.unwrap_or_default()
                );
                assert_eq!(sent.contains("{ a }"), whole, "{sent}");
                assert!(sent.contains("1c7e1e347f726166b5b1c55afd61f278cc9b45e00c108ec33d540a566379811b"), "{sent}");
            }
        }
        for (answer, expected) in [
            (r#"{"errors":[{"message":"x","extensions":{"code":"PERSISTED_QUERY_NOT_FOUND"}}]}"#, true),
            (r#"{"errors":[{"message":"PersistedQueryNotFound"}]}"#, true),
            (r#"{"errors":[{"message":"PersistedQueryNotSupported"}]}"#, false),
            (r#"{"data":{"a":"PERSISTED_QUERY_NOT_FOUND"}}"#, false),
            ("PERSISTED_QUERY_NOT_FOUND", false),
        ] {
            assert_eq!(query(true, false).wants_text(answer.as_bytes()), expected, "{answer}");
            assert!(!query(false, false).wants_text(answer.as_bytes()));
        }
    }

    #[test]
    fn a_code_is_found_in_every_error() {
        let error = |code: &str| format!(r#"{{"message":"m","extensions":{{"code":{code}}}}}"#);
        let (yes, no) = (error("\"UNAUTHENTICATED\""), error("\"FORBIDDEN\""));
        for (errors, expected) in [
            (format!("[{yes}]"), true),
            (format!("[{no},{yes}]"), true),
            (format!("[{no}]"), false),
            (format!("[{}]", error("401")), false),
            (r#"[{"message":"UNAUTHENTICATED"},7]"#.into(), false),
            (yes, false),
            ("null".into(), false),
        ] {
            assert_eq!(refuses(format!(r#"{{"errors":{errors}}}"#).as_bytes()), expected, "{errors}");
        }
        assert!(!refuses(b"UNAUTHENTICATED"));
    }

    #[test]
    fn errors_are_found_in_every_shape() {
        let cases = [
            (r#"{"data":{"a":1}}"#, None),
            (r#"{"data":{"a":1},"errors":[]}"#, None),
            (r#"{"errors":null}"#, None),
            (r#"{"data":null,"errors":[{"message":"no such field"},{"message":"b"}]}"#, Some("no such field; b")),
            (r#"{"errors":[{"code":7}]}"#, Some("{\"code\":7}")),
            (r#"{"errors":"Not Found"}"#, Some("\"Not Found\"")),
            ("[]", None),
            ("no JSON", None),
        ];
        for (document, expected) in cases {
            assert_eq!(errors(document.as_bytes()).as_deref(), expected, "{document}");
        }
    }
}
