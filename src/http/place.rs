//! Where in a request a value goes: a parameter, a header, or the body.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use url::{Url, form_urlencoded};

use crate::settings::{Item, Table, fingerprint::Fingerprint, key::keys};

keys! {
    /// Where a page's number, offset or cursor, or a mark, goes.
    mod place;
    /// A query parameter that carries it.
    get PARAM: () = "param", Form::raw(Shape::Text);
    /// A header that carries it, instead of `param`.
    get HEADER: () = "header", Form::raw(Shape::Text);
    /// A place in the `json` body that carries it, instead of `param`: `"paging.after"`, or `"filters.0.value"` for an element
    /// of an array, from 0. There the value keeps its type, and may be any array or object, of which an empty one ends a walk.
    /// In `grpc` a path into `request`.
    get JSON: () = "json", Form::raw(Shape::Text);
}

/// Where a parameter goes.
#[derive(Debug, Clone, PartialEq)]
pub enum At {
    Param(String),
    Header(HeaderName),
    /// A place in the `json` body, `a.b` for a nested one, `a.0` for one in an array.
    Json(String),
    /// A variable of a GraphQL query. A mark in an order of numbers is one, whatever the source made of it.
    Variable {
        name: String,
        number: bool,
    },
    /// Where jq of the request puts it, which sees it as `$page`.
    Made,
}

impl At {
    /// Writes where a parameter goes.
    pub fn define(&self, text: &mut Fingerprint) {
        match self {
            Self::Param(name) => text.put("param", name.as_str()),
            Self::Header(name) => text.put("header", name.as_str()),
            Self::Json(path) => text.put("json", path.as_str()),
            Self::Variable { name, .. } => text.put("variable", name.as_str()),
            Self::Made => text.put("made", true),
        }
    }

    /// Reads `param`, `header` or `json`, one of them.
    pub fn read(table: &mut Table<'_>, default: Option<&str>) -> Option<Self> {
        let places = [&place::PARAM, &place::HEADER, &place::JSON];
        let found: Vec<(&str, Item<'_>)> =
            places.into_iter().filter_map(|key| Some((key.name, table.item(key)?))).collect();
        match (found.as_slice(), default) {
            ([(kind, item)], _) => {
                let name = item.string()?;
                match *kind {
                    "param" => Some(Self::Param(name.to_owned())),
                    "json" => Some(Self::Json(name.to_owned())),
                    _ => match name.parse() {
                        Ok(header) => Some(Self::Header(header)),
                        Err(_) => {
                            item.error(format!("`{}`: {name:?} is not a header name", item.path)).report();
                            None
                        }
                    },
                }
            }
            ([], Some(default)) => Some(Self::Param(default.to_owned())),
            ([], None) => {
                table
                    .error(format!("`param`, `header` or `json` is missing in {}", table.title()))
                    .help("say where it is sent, for example param = \"cursor\"".into())
                    .report();
                None
            }
            ([.., (_, item)], _) => {
                item.error(format!("`{}` stands beside another place in {}", item.path, table.title())).report();
                None
            }
        }
    }

    /// Whether a table names a place.
    pub fn is_in(table: &Table<'_>) -> bool {
        [&place::PARAM, &place::HEADER, &place::JSON].into_iter().any(|key| table.has(key))
    }

    /// Whether any JSON value may go there: elsewhere it has to be a text.
    pub fn takes_json(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Made)
    }

    /// Why a body lacks such a place, if it does.
    pub fn misfit(&self, body: &Json) -> Option<String> {
        match self {
            Self::Json(path) => place_in(path, &mut body.clone()).err(),
            Self::Param(_) | Self::Header(_) | Self::Variable { .. } | Self::Made => None,
        }
    }

    /// Sets the parameter on a request. In a body a value keeps its type: a server may tell "007" from 7.
    pub fn set(
        &self,
        value: &Json,
        url: &mut Url,
        headers: &mut HeaderMap,
        body: &mut Option<Json>,
    ) -> Result<(), String> {
        let empty = || Json::Object(serde_json::Map::new());
        let text =
            |name: &str| text_of(value).ok_or_else(|| format!("the value for `{name}` is neither text nor number"));
        match self {
            Self::Param(name) => set_parameter(url, name, &text(name)?),
            Self::Header(name) => {
                let value = HeaderValue::from_str(&text(name.as_str())?)
                    .map_err(|_| format!("the value for `{name}` holds a character that no header can"))?;
                headers.insert(name.clone(), value);
            }
            Self::Made => {}
            Self::Json(path) => *place_in(path, body.get_or_insert_with(empty))? = value.clone(),
            Self::Variable { name, number } => {
                let value = match value {
                    Json::String(text) if *number => text.parse().map_or_else(|_| value.clone(), Json::Number),
                    other => other.clone(),
                };
                if let Json::Object(map) = body.get_or_insert_with(empty)
                    && let Json::Object(variables) = map.entry("variables").or_insert_with(empty)
                {
                    variables.insert(name.clone(), value);
                }
            }
        }
        Ok(())
    }
}

/// A value outside of JSON: only strings and numbers have one form there.
pub fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Where a path leads in a body: `a.b` through objects, `a.0` through an array. What is missing or null on the way becomes an
/// object; nothing else is replaced, since it would be another request than the one of the file.
fn place_in<'b>(path: &str, body: &'b mut Json) -> Result<&'b mut Json, String> {
    let mut place = body;
    for part in path.split('.') {
        if place.is_null() {
            *place = Json::Object(serde_json::Map::new());
        }
        place = match place {
            Json::Object(map) => map.entry(part).or_insert(Json::Null),
            Json::Array(list) => {
                let count = list.len();
                let at = Some(part).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
                let found = at.and_then(|part| part.parse().ok()).and_then(|at: usize| list.get_mut(at));
                found.ok_or_else(|| {
                    format!("the path `{path}` leads into an array of {count}, which has no element `{part}`: they count from 0")
                })?
            }
            Json::String(_) | Json::Number(_) | Json::Bool(_) | Json::Null => {
                return Err(format!(
                    "the path `{path}` leads to `{part}` of a value that is neither an object nor an array"
                ));
            }
        };
    }
    Ok(place)
}

/// What stands as it is in the name or the value of a parameter: RFC 3986's unreserved characters and `*`. A space is `%20`, which
/// every server reads, and `+` is not.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

fn pair(name: &str, value: &str) -> String {
    format!("{}={}", utf8_percent_encode(name, ENCODED), utf8_percent_encode(value, ENCODED))
}

/// Adds a parameter to a query, of which all else stays as it is written.
pub fn add_parameter(url: &mut Url, name: &str, value: &str) {
    let pair = pair(name, value);
    let query =
        url.query().filter(|query| !query.is_empty()).map_or_else(|| pair.clone(), |query| format!("{query}&{pair}"));
    url.set_query(Some(&query));
}

/// Sets a parameter where it stands in a query, or adds it. All other bytes stay: a server may tell `%20` from `+`, and `flag`
/// from `flag=`.
pub fn set_parameter(url: &mut Url, name: &str, value: &str) {
    let is_it = |part: &str| form_urlencoded::parse(part.as_bytes()).next().is_some_and(|(known, _)| known == name);
    let Some(query) = url.query().filter(|query| query.split('&').any(is_it)) else {
        return add_parameter(url, name, value);
    };
    let mut new = Some(pair(name, value));
    // One that stands twice stands once from now on.
    let parts = query.split('&').filter_map(|part| if is_it(part) { new.take() } else { Some(part.to_owned()) });
    let query = parts.collect::<Vec<_>>().join("&");
    url.set_query(Some(&query));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(at: &At, value: &Json, url: &str, body: &str) -> Result<(String, String), String> {
        let mut url: Url = url.parse().expect("a URL");
        let mut body = serde_json::from_str(body).ok();
        at.set(value, &mut url, &mut HeaderMap::new(), &mut body)?;
        Ok((url.to_string(), body.map(|body| body.to_string()).unwrap_or_default()))
    }

    /// A query was written again as a form: `$filter=a%20b` became `%24filter=a+b`, and `flag` became `flag=`.
    #[test]
    fn only_the_parameter_in_question_changes() {
        let at = At::Param("page".into());
        for (url, expected) in [
            ("http://a/x", "http://a/x?page=a%20b"),
            ("http://a/x?", "http://a/x?page=a%20b"),
            ("http://a/x?page=1&q=a%20b", "http://a/x?page=a%20b&q=a%20b"),
            (
                "http://a/x?$filter=status%20eq%20A&flag&ids=1,2&q=a+b",
                "http://a/x?$filter=status%20eq%20A&flag&ids=1,2&q=a+b&page=a%20b",
            ),
            ("http://a/x?a&&page&b=%2f&p%61ge=2", "http://a/x?a&&page=a%20b&b=%2f"),
            ("http://a/x?pages=1&Page=2", "http://a/x?pages=1&Page=2&page=a%20b"),
        ] {
            assert_eq!(set(&at, &json!("a b"), url, "").map(|set| set.0), Ok(expected.to_owned()), "{url}");
        }
        let mut url: Url = "http://a/x?q=1".parse().expect("a URL");
        add_parameter(&mut url, "q", "a+b&c=d*~é");
        assert_eq!(url.as_str(), "http://a/x?q=1&q=a%2Bb%26c%3Dd*~%C3%A9");
        for wrong in [json!(null), json!(true), json!([1]), json!({})] {
            assert!(set(&at, &wrong, "http://a/x", "").is_err(), "{wrong}");
        }
    }

    /// "007" was sent as 7, and -5 as "-5".
    #[test]
    fn a_value_in_a_body_keeps_its_type() {
        let at = At::Json("a.b".into());
        for text in ["\"007\"", "7", "-5", "18446744073709551616", "1.50", "\"\"", "[1,\"a\"]", "{\"k\":[null]}"] {
            let value: Json = serde_json::from_str(text).expect("JSON");
            let body = set(&at, &value, "http://a/x", "null").map(|set| set.1);
            assert_eq!(body, Ok(format!("{{\"a\":{{\"b\":{text}}}}}")));
        }
        let variable = |number| At::Variable { name: "v".into(), number };
        for (number, value, expected) in
            [(false, json!("2"), "\"2\""), (false, json!(2), "2"), (true, json!("2"), "2"), (true, json!("b"), "\"b\"")]
        {
            let body = set(&variable(number), &value, "http://a/x", "{}").map(|set| set.1);
            assert_eq!(body, Ok(format!("{{\"variables\":{{\"v\":{expected}}}}}")));
        }
    }

    #[test]
    fn a_path_goes_through_arrays_and_replaces_nothing_on_its_way() {
        let body = r#"{"a":[{"b":1},{"b":2}],"s":"text","n":null}"#;
        for (path, expected) in [
            ("a.1.b", Ok(r#"{"a":[{"b":1},{"b":9}],"s":"text","n":null}"#)),
            ("a.0", Ok(r#"{"a":[9,{"b":2}],"s":"text","n":null}"#)),
            ("n.x", Ok(r#"{"a":[{"b":1},{"b":2}],"s":"text","n":{"x":9}}"#)),
            ("a.2.b", Err("an array of 2, which has no element `2`")),
            ("a.b", Err("which has no element `b`")),
            ("a.+1", Err("which has no element `+1`")),
            ("s.b", Err("neither an object nor an array")),
        ] {
            let found = set(&At::Json(path.into()), &json!(9), "http://a/x", body).map(|set| set.1);
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let read = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
                    assert_eq!(read(&found), read(expected), "{path}");
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{path}: {found}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }
}
