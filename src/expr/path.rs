//! Plain paths, `.a.b[]`: the lane that needs no interpreter and, over bytes, parses nothing but the way.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value as Json, value::RawValue};

/// Steps from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<PathStep>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    /// `.name`: `null` when absent.
    Field(String),
    /// `[]`: each element, or each value of an object.
    Each,
}

impl Path {
    /// `None` for all that is more than `.`, `.name`, `."name"`, `.["name"]` and `[]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('.')?;
        let mut steps = Vec::new();
        let mut after_dot = true;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("[]") {
                steps.push(PathStep::Each);
                rest = tail;
                after_dot = false;
            } else if let Some(tail) = rest.strip_prefix("[\"") {
                let (name, tail) = tail.split_once('"')?;
                rest = tail.strip_prefix(']')?;
                steps.push(field(name)?);
                after_dot = false;
            } else if let Some(tail) = rest.strip_prefix('.').filter(|_| !after_dot) {
                rest = tail;
                after_dot = true;
                // A dot wants a name.
                if rest.is_empty() || rest.starts_with(['.', '[']) {
                    return None;
                }
            } else if after_dot {
                let (name, tail) = if let Some(quoted) = rest.strip_prefix('"') {
                    quoted.split_once('"')?
                } else {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    let (name, tail) = rest.split_at_checked(end)?;
                    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                        return None;
                    }
                    (name, tail)
                };
                steps.push(field(name)?);
                rest = tail;
                after_dot = false;
            } else {
                return None;
            }
        }
        Some(Self { steps })
    }

    /// The ways to the lists that it goes through, as names: of `.a.b[].c[]` they are `a b` and `a b c`.
    pub fn lists(&self) -> Vec<Vec<String>> {
        let (mut way, mut lists) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match step {
                PathStep::Field(name) => way.push(name.clone()),
                PathStep::Each => lists.push(way.clone()),
            }
        }
        lists
    }

    /// What the path leads to.
    pub fn values<'v>(&self, input: &'v Json) -> Result<Vec<&'v Json>, String> {
        let mut found = vec![input];
        for step in &self.steps {
            let mut next = Vec::with_capacity(found.len());
            for value in found {
                match (step, value) {
                    (PathStep::Field(name), Json::Object(map)) => next.push(map.get(name).unwrap_or(&Json::Null)),
                    (PathStep::Field(_), Json::Null) => next.push(&Json::Null),
                    (PathStep::Field(name), other) => return Err(format!("cannot take `{name}` of {}", kind(other))),
                    (PathStep::Each, Json::Array(list)) => next.extend(list),
                    (PathStep::Each, Json::Object(map)) => next.extend(map.values()),
                    (PathStep::Each, other) => return Err(format!("cannot iterate over {}", kind(other))),
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// The bytes that the path leads to; what lies beside it is skipped over.
    pub fn raw_values<'t>(&self, text: &'t [u8]) -> Result<Vec<&'t RawValue>, String> {
        let mut out = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        PathWalk { steps: &self.steps, out: &mut out }
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end())
            .map_err(|e| e.to_string())?;
        Ok(out)
    }

    /// Takes what the path leads to out of its parent; what is not there is left alone.
    pub fn remove(&self, value: &mut Json) {
        if let Some((last, parents)) = self.steps.split_last() {
            visit(parents, value, &mut |parent| match (last, parent) {
                (PathStep::Field(name), Json::Object(map)) => drop(map.remove(name)),
                (PathStep::Each, Json::Array(list)) => list.clear(),
                (PathStep::Each, Json::Object(map)) => map.clear(),
                _ => {}
            });
        }
    }

    /// Calls `change` on each value that the path leads to.
    pub fn change(&self, value: &mut Json, change: &mut dyn FnMut(&mut Json)) {
        visit(&self.steps, value, change);
    }
}

fn field(name: &str) -> Option<PathStep> {
    // Escapes and interpolation are jq's business.
    (!name.contains('\\')).then(|| PathStep::Field(name.to_owned()))
}

fn visit(steps: &[PathStep], value: &mut Json, change: &mut dyn FnMut(&mut Json)) {
    let Some((step, rest)) = steps.split_first() else {
        return change(value);
    };
    match (step, value) {
        (PathStep::Field(name), Json::Object(map)) => {
            if let Some(value) = map.get_mut(name) {
                visit(rest, value, change);
            }
        }
        (PathStep::Each, Json::Array(list)) => list.iter_mut().for_each(|value| visit(rest, value, change)),
        (PathStep::Each, Json::Object(map)) => map.values_mut().for_each(|value| visit(rest, value, change)),
        _ => {}
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// Walks the way over a deserializer, collecting raw values at its end.
struct PathWalk<'s, 'o, 't> {
    steps: &'s [PathStep],
    out: &'o mut Vec<&'t RawValue>,
}

impl<'t> DeserializeSeed<'t> for PathWalk<'_, '_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            let raw: &'t RawValue = serde::Deserialize::deserialize(deserializer)?;
            self.out.push(raw);
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

/// What an absent field stands for.
fn null<'t>() -> &'t RawValue {
    serde_json::from_str("null").expect("null is JSON")
}

impl<'t> Visitor<'t> for PathWalk<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps.first() {
            Some(PathStep::Field(name)) => write!(f, "an object with `{name}`"),
            _ => write!(f, "an array or an object to iterate over"),
        }
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else {
            return Ok(());
        };
        let start = self.out.len();
        let mut found = false;
        while let Some(key) = map.next_key::<std::borrow::Cow<'t, str>>()? {
            match step {
                PathStep::Field(name) if *name == key => {
                    // Of a repeated name the last counts, as in jq.
                    self.out.truncate(start);
                    map.next_value_seed(PathWalk { steps: rest, out: self.out })?;
                    found = true;
                }
                PathStep::Field(_) => drop(map.next_value::<IgnoredAny>()?),
                PathStep::Each => map.next_value_seed(PathWalk { steps: rest, out: self.out })?,
            }
        }
        if matches!(step, PathStep::Field(_)) && !found {
            return absent(rest, self.out);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut seq: A) -> Result<(), A::Error> {
        match self.steps.split_first() {
            Some((PathStep::Each, rest)) => {
                while seq.next_element_seed(PathWalk { steps: rest, out: self.out })?.is_some() {}
                Ok(())
            }
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        match self.steps.first() {
            Some(PathStep::Field(_)) => absent(self.steps, self.out),
            _ => Err(E::invalid_type(serde::de::Unexpected::Unit, &self)),
        }
    }
}

/// The rest of the way from a `null`.
fn absent<E: serde::de::Error>(rest: &[PathStep], out: &mut Vec<&RawValue>) -> Result<(), E> {
    if rest.contains(&PathStep::Each) {
        return Err(E::custom("cannot iterate over null"));
    }
    out.push(null());
    Ok(())
}
