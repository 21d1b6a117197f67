//! Where in a request a value goes: a parameter, a header, or the body.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use url::Url;

use crate::settings::{Item, Table, fingerprint::Fingerprint};

/// Where a parameter goes.
#[derive(Debug, Clone, PartialEq)]
pub enum At {
    Param(String),
    Header(HeaderName),
    /// A field of the `json` body, `a.b` for a nested one.
    Json(String),
    /// A variable of a GraphQL query. A mark that is a number stays one; a cursor is a string whatever it looks like.
    Variable {
        name: String,
        number: bool,
    },
}

impl At {
    /// Writes where a parameter goes.
    pub fn define(&self, text: &mut Fingerprint) {
        match self {
            Self::Param(name) => text.put("param", name.as_str()),
            Self::Header(name) => text.put("header", name.as_str()),
            Self::Json(path) => text.put("json", path.as_str()),
            Self::Variable { name, .. } => text.put("variable", name.as_str()),
        }
    }

    /// Reads `param`, `header` or `json`, one of them.
    pub fn read(table: &mut Table<'_>, default: Option<&str>) -> Option<Self> {
        let found: Vec<(&str, Item<'_>)> =
            ["param", "header", "json"].into_iter().filter_map(|key| Some((key, table.take(key)?))).collect();
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

    /// Sets the parameter on a request.
    pub fn set(
        &self,
        value: &str,
        url: &mut Url,
        headers: &mut HeaderMap,
        body: &mut Option<Json>,
    ) -> Result<(), String> {
        match self {
            Self::Param(name) => {
                let kept: Vec<(String, String)> = url
                    .query_pairs()
                    .filter(|(known, _)| known != name)
                    .map(|(n, v)| (n.into_owned(), v.into_owned()))
                    .collect();
                url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
            }
            Self::Header(name) => {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| format!("the value for `{name}` holds a character that no header can"))?;
                headers.insert(name.clone(), value);
            }
            Self::Json(path) => {
                let mut place = body.get_or_insert_with(|| Json::Object(serde_json::Map::new()));
                for part in path.split('.') {
                    if !place.is_object() {
                        *place = Json::Object(serde_json::Map::new());
                    }
                    let Json::Object(map) = place else { return Ok(()) };
                    place = map.entry(part).or_insert(Json::Null);
                }
                // A number stays a number: page 2, not "2".
                *place = value.parse::<u64>().map_or_else(|_| Json::String(value.to_owned()), Json::from);
            }
            Self::Variable { name, number } => {
                let body = body.get_or_insert_with(|| Json::Object(serde_json::Map::new()));
                let value = match value.parse::<serde_json::Number>() {
                    Ok(value) if *number => Json::Number(value),
                    _ => Json::String(value.to_owned()),
                };
                if let Json::Object(map) = body
                    && let Json::Object(variables) = map.entry("variables").or_insert_with(|| serde_json::json!({}))
                {
                    variables.insert(name.clone(), value);
                }
            }
        }
        Ok(())
    }
}
