//! Values of urls, headers, queries and bodies: literal, secret, or made by jq for each request.

use serde_json::Value as Json;

use super::{
    Item, Table,
    key::{Form, Shape, keys},
    secret::Secret,
};
use crate::expr::{self, Expr};

/// A value, as a key's value.
pub const VALUE: Form<Value> = Form::new(Shape::Value, |item| item.value());
/// A table of names and values.
pub const VALUES: Form<Vec<(String, Value)>> = Form::new(Shape::Named(&Shape::Value), |item| item.value_map());
/// A body of JSON.
pub const JSON_BODY: Form<JsonBody> = Form::new(Shape::Any, |item| item.json_body());

keys! {
    /// A value that jq makes for each request.
    mod made: Rule::Schema(r#"{ "required": ["jq"] }"#);
    /// jq, whose input is an object of `now`, `previous`, `mark` and `item`, or in an endpoint the event.
    need JQ: Expr = "jq", EXPR, "{ jq = \".mark\" }";
}

keys! {
    /// A word of `argv` that jq makes.
    mod made_words;
    /// Each element of an array is a word of its own.
    or MANY: bool = "many", BOOLEAN, || false;
    + made::FAMILY;
}

/// One value of the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Literal(String),
    /// Several, as a repeated parameter or header.
    List(Vec<String>),
    Secret(Secret),
    Jq(Expr),
}

impl Value {
    /// Whether it is the same at every request.
    pub fn is_constant(&self) -> bool {
        !matches!(self, Self::Jq(_))
    }

    pub fn as_secret(&self) -> Option<&Secret> {
        match self {
            Self::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// Whether jq makes it of a thing of this name that a source's jq sees.
    pub fn uses(&self, name: &str) -> bool {
        matches!(self, Self::Jq(expr) if names(expr.text(), name))
    }

    /// Whether it is another one for each page.
    pub fn sees_page(&self) -> bool {
        matches!(self, Self::Jq(expr) if expr.sees_page())
    }

    pub fn is_secret(&self) -> bool {
        self.as_secret().is_some()
    }

    /// The texts it stands for; `null` and no output stand for none.
    pub async fn resolve(&self, input: &Json) -> Result<Vec<String>, expr::Error> {
        match self {
            Self::Jq(expr) => Ok(texts(expr.ask(input).await?)),
            fixed => Ok(fixed.fixed()),
        }
    }

    /// As [`resolve`](Self::resolve), on a thread that may wait.
    pub fn resolve_here(&self, input: &Json) -> Result<Vec<String>, expr::Error> {
        match self {
            Self::Jq(expr) => Ok(texts(expr.first(input)?)),
            fixed => Ok(fixed.fixed()),
        }
    }

    /// The texts that stand in the file.
    pub fn fixed(&self) -> Vec<String> {
        match self {
            Self::Literal(text) => vec![text.clone()],
            Self::List(list) => list.clone(),
            Self::Secret(secret) => vec![secret.expose().to_owned()],
            Self::Jq(_) => Vec::new(),
        }
    }
}

/// What jq gave, as texts.
fn texts(given: Option<Json>) -> Vec<String> {
    match given {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(list)) => list.iter().map(text).collect(),
        Some(one) => vec![text(&one)],
    }
}

/// Whether a program has a word, as a whole: `.mark` and `{mark}`, and not `.marked`.
fn names(program: &str, word: &str) -> bool {
    program.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// A JSON value as a parameter: strings bare, all else as JSON.
fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The `json` body: fixed, or made by jq.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonBody {
    Fixed(Json),
    Jq(Expr),
}

impl JsonBody {
    /// As [`Value::sees_page`].
    pub fn sees_page(&self) -> bool {
        matches!(self, Self::Jq(expr) if expr.sees_page())
    }

    /// As [`Value::uses`].
    pub fn uses(&self, name: &str) -> bool {
        matches!(self, Self::Jq(expr) if names(expr.text(), name))
    }
}

impl Item<'_> {
    /// A string, number, boolean, a list of them, a secret or `{ jq = "..." }`.
    pub fn value(&self) -> Option<Value> {
        if let Some(text) = self.scalar() {
            return Some(Value::Literal(text));
        }
        if !self.is_table() {
            let list: Option<Vec<String>> = self.items()?.iter().map(Item::scalar).collect();
            if list.is_none() {
                self.error(format!("`{}` must hold strings, numbers and booleans only", self.path)).report();
            }
            return list.map(Value::List);
        }
        if self.is_secret() {
            return self.secret().map(Value::Secret);
        }
        self.jq_table(|_| ()).map(Value::Jq)
    }

    /// As [`value`](Self::value), or `{ jq = "...", many = true }`.
    pub fn value_or_many(&self) -> Option<(Value, bool)> {
        if !self.is_made() {
            return self.value().map(|value| (value, false));
        }
        let mut many = false;
        let expr = self.jq_table(|table| many = table.or(&made_words::MANY));
        Some((Value::Jq(expr?), many))
    }

    /// A table, or `{ jq = "..." }`.
    pub fn json_body(&self) -> Option<JsonBody> {
        if self.is_made() {
            return self.jq_table(|_| ()).map(JsonBody::Jq);
        }
        self.json().map(JsonBody::Fixed)
    }

    /// `{ jq = "..." }` of a request that may be another one for each page.
    pub fn made_over_pages(&self) -> Option<Expr> {
        let mut table = self.table()?;
        let expr = table.item(&made::JQ).and_then(|item| item.expr_over_pages());
        table.finish();
        expr
    }

    /// Whether this is `{ jq = "..." }`.
    pub fn is_made(&self) -> bool {
        self.is_table() && self.table().is_some_and(|table| table.has(&made::JQ))
    }

    /// `{ jq = "..." }`, and what may stand beside it.
    fn jq_table(&self, beside: impl FnOnce(&mut Table<'_>)) -> Option<Expr> {
        let mut table = self.table()?;
        let expr = table.need(&made::JQ);
        beside(&mut table);
        table.finish();
        expr
    }

    /// A table of names and values.
    pub fn value_map(&self) -> Option<Vec<(String, Value)>> {
        let all = self.table()?.take_all();
        Some(all.into_iter().filter_map(|(name, _, item)| Some((name.to_owned(), item.value()?))).collect())
    }
}
