//! `source.graphql`: a query over HTTP, as POST with a JSON body (graphql.org, "Serving over HTTP"). Pages are cursors in a
//! variable, and `errors` in a 200 say that it failed, also beside `data`: half an answer is not a snapshot.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{Body, Source, answers};
use crate::{
    expr,
    http::target,
    settings::{Item, Table, fingerprint::Fingerprint, key::keys, value::Value},
    source::{
        page::{self, Pages},
        transport::{Over, Transport, headed, over_http},
    },
};

/// Errors of one answer that a message names.
const ERRORS_TOLD: usize = 3;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    text: String,
    variables: Vec<(String, Variable)>,
}

/// A variable keeps its type: `first = 50` is an Int.
#[derive(Debug, Clone, PartialEq)]
enum Variable {
    Fixed(Json),
    Value(Value),
}

impl Query {
    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("graphql.query", self.text.as_str());
        for (name, variable) in &self.variables {
            match variable {
                Variable::Fixed(json) => text.put_named("variables.json", name, json.clone()),
                Variable::Value(value) => text.put_named("variables", name, value),
            }
        }
    }
}

keys! {
    /// A GraphQL query.
    mod graphql;
    /// Where it is sent: a value; `http` or `https`, without user and password.
    need URL: Value = "url", target::URL, "url = \"https://api.example.com/graphql\"";
    /// The query, plain text.
    need QUERY: String = "query", TEXT, "query = \"{ orders { id status } }\"";
    /// A table; numbers, booleans and lists keep their types. A table inside it is a secret, which is sent as a string, or
    /// `{ jq = "..." }`, whose result keeps its type.
    get VARIABLES: Vec<(String, Variable)> = "variables", Form::new(Shape::Named(&Shape::Any), read_variables);
    /// How a list goes on.
    maybe PAGES: Pages = "pages", Form::table(&page::graphql_pages::FAMILY, Pages::read_variable), "one page";
    + answers::FAMILY;
    + over_http::FAMILY;
}

/// Reads `[bridge.NAME.source.graphql]`.
pub fn read(mut table: Table<'_>) -> Option<Source> {
    let (url, query) = (table.need(&graphql::URL), table.need(&graphql::QUERY));
    let variables = table.get(&graphql::VARIABLES).unwrap_or_default();
    let (pages, decode, fail) = (table.get(&graphql::PAGES), table.get(&answers::DECODE), table.get(&answers::FAIL));
    let transport = Transport::read(&mut table, &headed::HEADERS, Over::Http);
    table.finish();
    let body = Body::Graphql(Query { text: query?, variables });
    Some(Source { pages, ..Source::post(url?, body, decode, fail, transport) })
}

fn read_variables(item: &Item<'_>) -> Option<Vec<(String, Variable)>> {
    let read = |(name, _, item): (&str, _, Item<'_>)| {
        let variable =
            if item.is_table() { item.value().map(Variable::Value) } else { item.json().map(Variable::Fixed) };
        Some((name.to_owned(), variable?))
    };
    item.table()?.take_all().into_iter().map(read).collect()
}

impl Query {
    /// The request's body.
    pub async fn body(&self, input: &Json) -> Result<Json, expr::Error> {
        let mut variables = Map::new();
        for (name, variable) in &self.variables {
            let value = match variable {
                Variable::Fixed(value) => value.clone(),
                // jq's own type counts, and what gives nothing is left out.
                Variable::Value(Value::Jq(expr)) => match expr.ask(input).await? {
                    Some(value) => value,
                    None => continue,
                },
                Variable::Value(value) => {
                    value.resolve(input).await?.into_iter().next().map_or(Json::Null, Json::String)
                }
            };
            variables.insert(name.clone(), value);
        }
        Ok(json!({ "query": self.text, "variables": variables }))
    }

    /// Values that may be secrets.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.variables.iter().filter_map(|(_, variable)| match variable {
            Variable::Value(value) => Some(value),
            Variable::Fixed(_) => None,
        })
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
