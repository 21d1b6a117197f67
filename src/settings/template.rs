//! JSON of the file in which some tables stand for what is put in their place when it is sent: a secret, what jq makes, or the
//! token of a login.

use serde_json::{Map, Value as Json, json};
use toml::de::DeValue;

use super::{Item, secret::Secret, value::Value};
use crate::expr;

/// A JSON value, and what is put into it. Where nothing is, it is [`Fixed`](Self::Fixed).
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    Fixed(Json),
    /// A secret, or jq.
    Value(Value),
    /// `{ token = true }`.
    Token,
    List(Vec<Template>),
    Table(Vec<(String, Template)>),
}

/// What a table or a value of the file is, in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    ForItself,
    /// A secret, or jq.
    ForAValue,
    ForTheToken,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Expr(#[from] expr::Error),
    #[error("`{{ token = true }}` needs the token of a login, and there is none")]
    NoToken,
}

impl Template {
    /// The value. jq keeps its type, and what gives nothing is left out. May wait for another process: not for an async thread.
    pub fn fill(&self, input: &Json, token: Option<&Secret>) -> Result<Option<Json>, Error> {
        Ok(Some(match self {
            Self::Fixed(json) => json.clone(),
            Self::Value(Value::Jq(expr)) => return Ok(expr.first(input)?),
            Self::Value(value) => value.fixed().into_iter().next().map_or(Json::Null, Json::String),
            Self::Token => Json::String(token.ok_or(Error::NoToken)?.expose().to_owned()),
            Self::List(all) => {
                let filled = all.iter().filter_map(|part| part.fill(input, token).transpose());
                Json::Array(filled.collect::<Result<_, _>>()?)
            }
            Self::Table(all) => {
                let pair = |(name, part): &(String, Self)| {
                    Some(part.fill(input, token).transpose()?.map(|value| (name.clone(), value)))
                };
                Json::Object(all.iter().filter_map(pair).collect::<Result<Map<_, _>, _>>()?)
            }
        }))
    }

    /// The values that may be secrets.
    pub fn values(&self) -> Vec<&Value> {
        match self {
            Self::Fixed(_) | Self::Token => Vec::new(),
            Self::Value(value) => vec![value],
            Self::List(all) => all.iter().flat_map(Self::values).collect(),
            Self::Table(all) => all.iter().flat_map(|(_, part)| part.values()).collect(),
        }
    }

    pub fn needs_token(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::Value(_) => false,
            Self::Token => true,
            Self::List(all) => all.iter().any(Self::needs_token),
            Self::Table(all) => all.iter().any(|(_, part)| part.needs_token()),
        }
    }

    fn list(all: Vec<Self>) -> Self {
        let fixed: Option<Vec<Json>> = all.iter().map(Self::as_fixed).collect();
        fixed.map_or(Self::List(all), |fixed| Self::Fixed(Json::Array(fixed)))
    }

    fn table(all: Vec<(String, Self)>) -> Self {
        let fixed: Option<Map<String, Json>> =
            all.iter().map(|(name, part)| Some((name.clone(), part.as_fixed()?))).collect();
        fixed.map_or(Self::Table(all), |fixed| Self::Fixed(Json::Object(fixed)))
    }

    fn as_fixed(&self) -> Option<Json> {
        match self {
            Self::Fixed(json) => Some(json.clone()),
            _ => None,
        }
    }
}

/// As a fingerprint has it: without secrets.
impl From<&Template> for Json {
    fn from(template: &Template) -> Self {
        match template {
            Template::Fixed(json) => json.clone(),
            Template::Value(value) => value.into(),
            Template::Token => json!({ "token": true }),
            Template::List(all) => Self::Array(all.iter().map(Self::from).collect()),
            Template::Table(all) => Self::Object(all.iter().map(|(name, part)| (name.clone(), part.into())).collect()),
        }
    }
}

/// Within a message, a table with one key stands for a value where the key is `env`, `file` or `credential` (a secret), `jq`, or a
/// `token` that is true. A secret in the file itself (`value`) is none here: messages have keys of that name.
pub fn in_a_message(item: &Item<'_>) -> Stands {
    if item.stands_for_a_value() {
        Stands::ForAValue
    } else if item.stands_for_the_token() {
        Stands::ForTheToken
    } else {
        Stands::ForItself
    }
}

impl Item<'_> {
    /// JSON, in which some tables stand for something else.
    pub fn template(&self, stands: fn(&Item<'_>) -> Stands) -> Option<Template> {
        match stands(self) {
            Stands::ForAValue => self.value().map(Template::Value),
            Stands::ForTheToken => Some(Template::Token),
            Stands::ForItself if self.is_table() => self.templates(stands).map(Template::table),
            Stands::ForItself if self.is_list() => {
                let all = self.items()?.iter().map(|item| item.template(stands)).collect::<Vec<_>>();
                all.into_iter().collect::<Option<_>>().map(Template::list)
            }
            Stands::ForItself => self.json().map(Template::Fixed),
        }
    }

    /// What a table holds, by its names.
    pub fn templates(&self, stands: fn(&Item<'_>) -> Stands) -> Option<Vec<(String, Template)>> {
        let pair = |(name, _, item): (&str, _, Item<'_>)| Some((name.to_owned(), item.template(stands)?));
        let pairs: Vec<Option<_>> = self.table()?.take_all().into_iter().map(pair).collect();
        pairs.into_iter().collect()
    }

    /// Whether this is `{ env | file | credential | jq = ... }`, and nothing else stands in it.
    pub fn stands_for_a_value(&self) -> bool {
        matches!(self.only_key(), Some(("env" | "file" | "credential" | "jq", _)))
    }

    fn stands_for_the_token(&self) -> bool {
        matches!(self.only_key(), Some(("token", DeValue::Boolean(true))))
    }

    fn only_key(&self) -> Option<(&str, &DeValue<'_>)> {
        let DeValue::Table(table) = self.value else { return None };
        let (name, value) = table.iter().next().filter(|_| table.len() == 1)?;
        Some((name.get_ref().as_ref(), value.get_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Expr;

    fn jq(text: &str) -> Template {
        Template::Value(Value::Jq(Expr::parse(text).expect("valid")))
    }

    #[test]
    fn values_are_put_in_their_places() {
        let secret = || Template::Value(Value::Secret(Secret::new("s3cret-of-the-file".into())));
        let template = Template::table(vec![
            ("op".into(), Template::Fixed(json!("auth"))),
            ("args".into(), Template::list(vec![secret(), jq(".n"), jq("empty"), Template::Token])),
            ("since".into(), jq(".mark")),
            ("left_out".into(), jq("empty")),
        ]);
        let token = Secret::new("t0ken-of-the-login".into());
        let filled = template.fill(&json!({ "n": 7, "mark": null }), Some(&token)).expect("filled");
        let expected = json!({ "op": "auth", "args": ["s3cret-of-the-file", 7, "t0ken-of-the-login"], "since": null });
        assert_eq!(filled, Some(expected));
        assert_eq!(template.fill(&json!({}), None), Err(Error::NoToken));
        assert!(template.needs_token() && template.values().iter().any(|value| value.is_secret()));
        let shown = Json::from(&template).to_string();
        assert!(!shown.contains("s3cret") && shown.contains(r#"{"jq":".mark"}"#), "{shown}");
    }

    #[test]
    fn what_holds_nothing_to_fill_is_the_json_of_the_file() {
        let fixed = |json: Json| Template::Fixed(json);
        let list = Template::list(vec![fixed(json!(1)), fixed(json!({ "a": [] }))]);
        assert_eq!(list, fixed(json!([1, { "a": [] }])));
        assert_eq!(Template::table(vec![("x".into(), list)]), fixed(json!({ "x": [1, { "a": [] }] })));
        assert!(matches!(Template::list(vec![fixed(json!(1)), Template::Token]), Template::List(_)));
    }
}
