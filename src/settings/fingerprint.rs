//! The fingerprint of a definition: a text that says what is asked and how an answer is read, and its hash. The hash is stored
//! with each snapshot; another one means that the bridge was edited.
//!
//! The text has a version, and each part writes its own lines into it. What has its default writes nothing, so that a key that a later
//! version adds leaves every stored fingerprint as it is. Secrets and limits are not part of it.

use serde_json::Value as Json;

use super::value::{JsonBody, Value};
use crate::{expr::Expr, model::Hash};

/// Of the text. A change of it, or of a line that is written today, makes every stored snapshot one of an edited bridge.
const VERSION: &str = "bellpull definition 1\n";

/// The text while it is written.
#[derive(Debug)]
pub struct Fingerprint(String);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(VERSION.to_owned())
    }
}

impl Fingerprint {
    /// A line: a key as the file has it, and its value as JSON.
    pub fn put(&mut self, key: &str, value: impl Into<Json>) {
        let value: Json = value.into();
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    /// A line, if there is something to say.
    pub fn put_some(&mut self, key: &str, value: Option<impl Into<Json>>) {
        value.into_iter().for_each(|value| self.put(key, value));
    }

    /// A line of a name that the file chose, which may be any text.
    pub fn put_named(&mut self, key: &str, name: &str, value: impl Into<Json>) {
        self.put(&format!("{key}.{}", Json::from(name)), value);
    }

    /// A line for each name.
    pub fn put_all<'v>(&mut self, key: &str, values: impl IntoIterator<Item = &'v (impl AsRef<str> + 'v, Value)>) {
        values.into_iter().for_each(|(name, value)| self.put_named(key, name.as_ref(), value));
    }

    pub fn hash(&self) -> Hash {
        Hash::of(self.0.as_bytes())
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<&Expr> for Json {
    fn from(expr: &Expr) -> Self {
        Self::from(expr.text())
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Literal(text) => text.as_str().into(),
            Value::List(list) => list.clone().into(),
            Value::Secret(_) => serde_json::json!({ "secret": true }),
            Value::Jq(expr) => serde_json::json!({ "jq": expr.text() }),
        }
    }
}

impl From<&JsonBody> for Json {
    fn from(body: &JsonBody) -> Self {
        match body {
            // Beside it, so that a body that looks like jq is another one.
            JsonBody::Fixed(json) => serde_json::json!({ "json": json }),
            JsonBody::Jq(expr) => serde_json::json!({ "jq": expr.text() }),
        }
    }
}
