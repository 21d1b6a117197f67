//! Which fields of a record differ from what they were, as jq paths.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::text::within;
use crate::extract;

/// Fields of a record that most likely say nothing; more of them are a change.
pub const FIELDS_MAX: usize = 3;
/// A path that is longer is of no use in a hint.
const PATH_CHARS_MAX: usize = 200;

/// Where records differ from what they were, as long as these are a few fields.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differing {
    /// As jq paths.
    pub paths: BTreeSet<String>,
    /// They differ in more fields, or in something that has no path.
    pub is_more: bool,
}

impl Differing {
    /// A record as it is compared, before and after.
    pub fn note(&mut self, before: &Json, after: &Json) {
        self.at(String::new(), before, after);
    }

    /// Something that cannot be compared.
    pub fn give_up(&mut self) {
        (self.is_more, self.paths) = (true, BTreeSet::new());
    }

    pub fn add(&mut self, other: Self) {
        other.paths.into_iter().for_each(|path| self.found(path));
        if other.is_more {
            self.give_up();
        }
    }

    fn found(&mut self, path: String) {
        if self.is_more {
            return;
        }
        let is_field = path.len() > 1 && path.chars().count() <= PATH_CHARS_MAX;
        self.paths.insert(path);
        if !is_field || self.paths.len() > FIELDS_MAX {
            self.give_up();
        }
    }

    fn at(&mut self, path: String, before: &Json, after: &Json) {
        if self.is_more {
            return;
        }
        match (before, after) {
            (Json::Object(before), Json::Object(after)) => {
                let gone = before.keys().filter(|key| !after.contains_key(*key));
                for key in after.keys().chain(gone) {
                    match (before.get(key), after.get(key)) {
                        (Some(before), Some(after)) if before == after => {}
                        (Some(before), Some(after)) => self.at(within(&path, key), before, after),
                        _ => self.found(within(&path, key)),
                    }
                }
            }
            (Json::Array(before), Json::Array(after)) if before.len() == after.len() => {
                let pairs = before.iter().zip(after).enumerate().filter(|(_, (before, after))| before != after);
                let pairs: Vec<_> = pairs.collect();
                let root = if path.is_empty() { "." } else { &path };
                for (index, (before, after)) in &pairs {
                    // Of several elements any may be the next one.
                    let index = if pairs.len() == 1 { index.to_string() } else { String::new() };
                    self.at(format!("{root}[{index}]"), before, after);
                }
            }
            (before, after) if extract::is_same(before, after) => {}
            _ => self.found(path),
        }
    }
}
