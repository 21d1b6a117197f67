//! The JSON Schema of bridges.toml, made of the keys that its readers declare. Draft 7, which editors of TOML know.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::reference::plain;
use crate::{
    config,
    settings::{
        key::{Absent, Declared, Family, Rule, Shape},
        secret::secret,
        value::made,
    },
};

/// The schema, as JSON text.
pub fn text() -> String {
    let mut definitions = Definitions::default();
    let top = definitions.table(config::FILE, None);
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "bridges.toml",
    });
    put(&mut schema, top);
    while let Some(family) = definitions.next() {
        let table = definitions.table(family, required(family));
        definitions.made.insert(family.name, table);
    }
    let made: Map<String, Json> = definitions.made.into_iter().map(|(name, table)| (name.to_owned(), table)).collect();
    put(&mut schema, json!({ "definitions": made }));
    format!("{schema:#}\n")
}

/// The keys that a table must have whatever `defaults` holds; `None`: all that are declared so.
fn required(family: &'static Family) -> Option<&'static [&'static str]> {
    config::DEFAULTS.all().find_map(|key| match key.shape() {
        Shape::Defaults(of, except) if std::ptr::eq(of, family) => Some(except),
        _ => None,
    })
}

fn put(into: &mut Json, from: Json) {
    if let (Json::Object(into), Json::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// The tables that others refer to.
#[derive(Default)]
struct Definitions {
    made: BTreeMap<&'static str, Json>,
    known: BTreeMap<&'static str, &'static Family>,
}

impl Definitions {
    /// A table that is referred to and not made yet.
    fn next(&self) -> Option<&'static Family> {
        self.known.iter().find(|(name, _)| !self.made.contains_key(*name)).map(|(_, family)| *family)
    }

    fn refer(&mut self, family: &'static Family) -> Json {
        let known = self.known.insert(family.name, family);
        assert!(known.is_none_or(|known| std::ptr::eq(known, family)), "two tables are called {}", family.name);
        json!({ "$ref": format!("#/definitions/{}", family.name) })
    }

    /// A table's keys. Those that must be there are all that are declared so, or some of `only`.
    fn table(&mut self, family: &'static Family, only: Option<&'static [&'static str]>) -> Json {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for key in family.all() {
            properties.insert(key.name().to_owned(), self.key(key));
            if key.absent() == Absent::Required && only.is_none_or(|only| only.contains(&key.name())) {
                required.push(key.name());
            }
        }
        let mut table = json!({
            "description": plain(family.doc),
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            put(&mut table, json!({ "required": required }));
        }
        let rule = match family.rule {
            Rule::Free => json!({}),
            Rule::Kind => json!({ "minProperties": 1, "maxProperties": 1 }),
            Rule::Some => json!({ "minProperties": 1 }),
            Rule::Schema(text) => serde_json::from_str(text).expect("JSON that a test reads"),
        };
        put(&mut table, rule);
        table
    }

    fn key(&mut self, key: &'static dyn Declared) -> Json {
        let mut found = self.shape(&key.shape());
        if found.get("$ref").is_some() {
            // Beside a reference a validator of draft 7 sees nothing.
            found = json!({ "allOf": [found] });
        }
        put(&mut found, json!({ "description": plain(key.doc()) }));
        if let Absent::Default(value) = key.absent() {
            put(&mut found, json!({ "default": value }));
        }
        found
    }

    fn shape(&mut self, shape: &Shape) -> Json {
        match shape {
            Shape::Any => json!({}),
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Text | Shape::Expr => json!({ "type": "string" }),
            Shape::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
            Shape::Character => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
            Shape::Time => json!({ "type": "string", "format": "date-time" }),
            Shape::Duration => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" }),
            Shape::Size => json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" }),
            Shape::Rate => json!({ "type": "string", "pattern": "^[0-9]+/[smhd]$" }),
            Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Shape::Whole(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
            Shape::Words(words) => json!({ "enum": words }),
            Shape::Secret => self.refer(&secret::FAMILY),
            Shape::Jq => self.refer(&made::FAMILY),
            Shape::Scalar => json!({ "type": ["string", "number", "boolean"] }),
            Shape::Value => {
                let scalar = json!({ "type": ["string", "number", "boolean"] });
                let (secret, made) = (self.refer(&secret::FAMILY), self.refer(&made::FAMILY));
                json!({ "anyOf": [scalar, { "type": "array", "items": scalar }, secret, made] })
            }
            Shape::List(of) => json!({ "type": "array", "items": self.shape(of) }),
            Shape::Some(of) => json!({ "type": "array", "items": self.shape(of), "minItems": 1 }),
            Shape::OneOf(all) => json!({ "anyOf": all.iter().map(|shape| self.shape(shape)).collect::<Vec<_>>() }),
            Shape::Named(of) => json!({ "type": "object", "additionalProperties": self.shape(of) }),
            Shape::SomeNamed(of) => {
                json!({ "type": "object", "additionalProperties": self.shape(of), "minProperties": 1 })
            }
            Shape::Entities(family) => json!({
                "type": "object",
                "additionalProperties": self.refer(family),
                "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", "not": { "const": "bellpull" } },
            }),
            Shape::Table(family) => self.refer(family),
            Shape::Defaults(family, except) => {
                self.refer(family);
                let names = family.all().map(Declared::name).filter(|name| !except.contains(name));
                let at = |name| format!("#/definitions/{}/properties/{name}", family.name);
                let properties: Map<String, Json> =
                    names.map(|name| (name.to_owned(), json!({ "$ref": at(name) }))).collect();
                json!({ "type": "object", "properties": properties, "additionalProperties": false })
            }
        }
    }
}
