//! `each`: one bridge over a list. Every member is polled as a bridge of its own, `NAME/MEMBER`, with its own snapshot and
//! sequence; what the file says of the bridge holds for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value as Json;

use super::Bridge;
use crate::{
    expr::Expr,
    model::{Hash, Name},
    settings::{Item, key::keys},
};

/// A longer member's name is a hash: names stand in rows and on command lines.
const MEMBER_CHARS_MAX: usize = 128;
/// Members of one bridge.
pub const MEMBERS_MAX: usize = 100_000;

keys! {
    /// One bridge over a list.
    mod each: Rule::Schema(
        r#"{ "oneOf": [{ "required": ["list"] }, { "required": ["bridge"] }], "dependencies": { "item": ["bridge"] } }"#
    );
    /// The items: strings, numbers, tables; no two items may have the same name.
    maybe LIST: () = "list", Form::raw(Shape::Some(&Shape::Any)), "this or `bridge`";
    /// Another bridge whose records are the items, and which has no `each` itself. They are read at the start and after each of
    /// its commits.
    maybe BRIDGE: () = "bridge", Form::raw(Shape::Text), "this or `list`";
    /// jq over such a record; null means no member. An error leaves the member out and is logged.
    maybe ITEM: Expr = "item", EXPR, "the whole record";
}

/// Where the members come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Each {
    List(Vec<Json>),
    /// The records of another bridge, and what is taken of each.
    Bridge {
        name: Name,
        item: Option<Expr>,
    },
}

impl Each {
    pub fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let (list, bridge) = (table.item(&each::LIST), table.item(&each::BRIDGE));
        let (has_item, taken) = (table.has(&each::ITEM), table.get(&each::ITEM));
        let title = table.title();
        table.finish();
        match (list, bridge) {
            (Some(list), None) => {
                let all: Option<Vec<Json>> = list.items()?.iter().map(Item::json).collect();
                let all = all?;
                if all.is_empty() {
                    list.error(format!("`{}` is empty: nothing would be polled", list.path)).report();
                }
                let names: BTreeSet<String> = all.iter().map(|item| member(&text(item))).collect();
                if names.len() < all.len() {
                    list.error(format!("`{}` names a member twice", list.path)).report();
                }
                if has_item {
                    list.error(format!("`item` in {title} belongs to `bridge`")).report();
                }
                Some(Self::List(all))
            }
            (None, Some(bridge)) => {
                let name = bridge.string()?.into();
                Some(Self::Bridge { name, item: taken })
            }
            _ => {
                item.error(format!("{title} needs `list` or `bridge`"))
                    .help("for example list = [\"alpha\", \"beta\"], or bridge = \"repos\" and item = \".name\"".into())
                    .report();
                None
            }
        }
    }
}

impl Bridge {
    /// The bridges that poll a list's members.
    pub fn members(&self, list: &[Json]) -> BTreeMap<Name, Arc<Bridge>> {
        list.iter().map(|item| self.member(&text(item), item.clone())).collect()
    }

    /// The bridge that polls one member. `key` tells it from the others.
    pub fn member(&self, key: &str, item: Json) -> (Name, Arc<Bridge>) {
        let name: Name = format!("{}/{}", self.name, member(key)).into();
        let of = Some(self.name.clone());
        (name.clone(), Arc::new(Self { name, of, item: Some(item), each: None, ..self.clone() }))
    }
}

/// An item as a key: a string as it is, all else as JSON.
fn text(item: &Json) -> String {
    item.as_str().map_or_else(|| item.to_string(), str::to_owned)
}

/// A member's part of the name.
fn member(key: &str) -> String {
    if key.is_empty() || key.chars().count() > MEMBER_CHARS_MAX || key.contains(char::is_control) {
        return Hash::of(key.as_bytes()).to_string();
    }
    key.to_owned()
}
