//! A message as canonical protobuf JSON, as `prost-reflect` writes it; with three differences. The types of `Any` are those that
//! a server told later, and one that nobody knows stands there as bytes. Fields at their default are written where the file asks
//! for them. What has no JSON is an error that names its place.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use serde::Serialize;

/// Messages within messages; also those in an `Any`, which the decoder does not count.
const DEPTH_MAX: usize = 128;
/// Of a map's key, in the name of a place.
const KEY_CHARS: usize = 40;
/// The longest name of a type that is asked for.
const NAME_BYTES_MAX: usize = 512;

/// What is written, and the types of `Any` that it lacks.
pub(super) struct Written {
    pub text: String,
    pub missing: BTreeSet<String>,
}

/// What has no JSON, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` has no form in JSON: {why}")]
pub(super) struct Error {
    place: String,
    why: String,
}

/// Writes a message whose place in the answer is `place`.
pub(super) fn write(
    message: &DynamicMessage,
    types: &DescriptorPool,
    defaults: bool,
    place: String,
) -> Result<Written, Error> {
    let mut writer = Writer { types, defaults, place, depth: 0, out: String::new(), missing: BTreeSet::new() };
    match writer.message(message) {
        Ok(()) => Ok(Written { text: writer.out, missing: writer.missing }),
        Err(why) => Err(Error { place: if writer.place.is_empty() { ".".into() } else { writer.place }, why }),
    }
}

struct Writer<'a> {
    types: &'a DescriptorPool,
    defaults: bool,
    /// Of what is written now, as jq would have it.
    place: String,
    depth: usize,
    out: String,
    missing: BTreeSet<String>,
}

impl Writer<'_> {
    fn message(&mut self, message: &DynamicMessage) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} messages"));
        }
        match well_known(&message.descriptor()) {
            None => {
                self.out.push('{');
                self.fields(message, true)?;
                self.out.push('}');
            }
            Some("Any") => self.any(message)?,
            Some("Struct") => self.only_field(message, 1)?,
            Some("ListValue") => self.only_field(message, 1)?,
            Some("Value") => match message.fields().next() {
                Some((_, Value::F64(number))) if !number.is_finite() => {
                    return Err(format!("{number} is no number of a google.protobuf.Value"));
                }
                Some((field, value)) => self.value(value, &field)?,
                None => self.out.push_str("null"),
            },
            Some(name) if name.ends_with("Value") => self.only_field(message, 1)?,
            Some(_) => self.scalar(message)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// The fields of a message, in the order of their numbers. `first`: none stands before them.
    fn fields(&mut self, message: &DynamicMessage, mut first: bool) -> Result<(), String> {
        for field in message.descriptor().fields() {
            if message.has_field(&field) || self.defaults && !field.supports_presence() {
                self.key(field.json_name(), &mut first)?;
                let end = self.place.len();
                self.place.push('.');
                self.place.push_str(field.json_name());
                self.value(&message.get_field(&field), &field)?;
                self.place.truncate(end);
            }
        }
        for (extension, value) in message.extensions() {
            self.key(extension.json_name(), &mut first)?;
            self.one(value, &extension.kind())?;
        }
        Ok(())
    }

    fn key(&mut self, name: &str, first: &mut bool) -> Result<(), String> {
        if !std::mem::take(first) {
            self.out.push(',');
        }
        self.scalar(name)?;
        self.out.push(':');
        Ok(())
    }

    /// A field's value in place of its message.
    fn only_field(&mut self, message: &DynamicMessage, number: u32) -> Result<(), String> {
        let field = message.descriptor().get_field(number).ok_or("it is not the well-known type of this name")?;
        self.value(&message.get_field(&field), &field)
    }

    fn value(&mut self, value: &Value, field: &FieldDescriptor) -> Result<(), String> {
        self.one(value, &field.kind())
    }

    fn one(&mut self, value: &Value, kind: &Kind) -> Result<(), String> {
        match value {
            Value::Bool(value) => self.scalar(value),
            Value::I32(value) => self.scalar(value),
            Value::U32(value) => self.scalar(value),
            Value::I64(value) => self.scalar(&value.to_string()),
            Value::U64(value) => self.scalar(&value.to_string()),
            Value::F32(value) if value.is_finite() => self.scalar(value),
            Value::F64(value) if value.is_finite() => self.scalar(value),
            Value::F32(value) => self.scalar(not_finite(f64::from(*value))),
            Value::F64(value) => self.scalar(not_finite(*value)),
            Value::String(value) => self.scalar(value),
            Value::Bytes(value) => self.scalar(&STANDARD.encode(value)),
            Value::EnumNumber(number) => match kind {
                Kind::Enum(kind) if kind.full_name() == "google.protobuf.NullValue" => self.scalar(&()),
                Kind::Enum(kind) if kind.get_value(*number).is_some() => {
                    self.scalar(kind.get_value(*number).as_ref().map(|value| value.name()).unwrap_or_default())
                }
                _ => self.scalar(number),
            },
            Value::Message(message) => self.message(message),
            Value::List(values) => self.list(values, kind),
            Value::Map(_) => self.map(value, kind),
        }
    }

    fn list(&mut self, values: &[Value], kind: &Kind) -> Result<(), String> {
        self.out.push('[');
        let end = self.place.len();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.place.push_str(&format!("[{index}]"));
            self.one(value, kind)?;
            self.place.truncate(end);
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, value: &Value, kind: &Kind) -> Result<(), String> {
        let (Value::Map(values), Kind::Message(entry)) = (value, kind) else { return Err("it is not a map".into()) };
        let (kind, end, mut first) = (entry.map_entry_value_field().kind(), self.place.len(), true);
        self.out.push('{');
        for (key, value) in values {
            let key = match key {
                MapKey::Bool(key) => key.to_string(),
                MapKey::I32(key) => key.to_string(),
                MapKey::I64(key) => key.to_string(),
                MapKey::U32(key) => key.to_string(),
                MapKey::U64(key) => key.to_string(),
                MapKey::String(key) => key.clone(),
            };
            self.key(&key, &mut first)?;
            self.place.push('.');
            self.place.extend(key.chars().take(KEY_CHARS));
            self.one(value, &kind)?;
            self.place.truncate(end);
        }
        self.out.push('}');
        Ok(())
    }

    /// What its type says that it is, or its bytes.
    fn any(&mut self, message: &DynamicMessage) -> Result<(), String> {
        let (url, bytes) = (message.get_field_by_number(1), message.get_field_by_number(2));
        let (Some(Value::String(url)), Some(Value::Bytes(bytes))) = (url.as_deref(), bytes.as_deref()) else {
            return Err("it is not the well-known type of this name".into());
        };
        if url.is_empty() && bytes.is_empty() {
            self.out.push_str("{}");
            return Ok(());
        }
        let name = url.rsplit('/').next().unwrap_or_default();
        let kind = self.kind(name);
        if kind.is_none() && is_name(name) {
            self.missing.insert(name.to_owned());
        }
        let held = kind.and_then(|kind| DynamicMessage::decode(kind, bytes.clone()).ok());
        self.out.push_str("{\"@type\":");
        self.scalar(url)?;
        match held {
            None => {
                self.out.push_str(",\"value\":");
                self.scalar(&STANDARD.encode(bytes))?;
            }
            Some(held) if well_known(&held.descriptor()).is_some() => {
                self.out.push_str(",\"value\":");
                self.message(&held)?;
            }
            Some(held) => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(format!("it is nested deeper than {DEPTH_MAX} messages"));
                }
                self.fields(&held, false)?;
                self.depth -= 1;
            }
        }
        self.out.push('}');
        Ok(())
    }

    /// The type of this name: the server's, or the one that everybody has.
    fn kind(&self, name: &str) -> Option<MessageDescriptor> {
        let own = || name.starts_with("google.protobuf.").then(DescriptorPool::global)?.get_message_by_name(name);
        self.types.get_message_by_name(name).or_else(own)
    }

    fn scalar(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), String> {
        self.out.push_str(&serde_json::to_string(value).map_err(|e| e.to_string())?);
        Ok(())
    }
}

/// The name of a type whose JSON is not that of its fields.
fn well_known(kind: &MessageDescriptor) -> Option<&str> {
    let name = kind.full_name().strip_prefix("google.protobuf.")?;
    let is_one = matches!(
        name,
        "Any" | "Timestamp" | "Duration" | "Struct" | "FloatValue" | "DoubleValue" | "Int32Value" | "Int64Value"
            | "UInt32Value" | "UInt64Value" | "BoolValue" | "StringValue" | "BytesValue" | "FieldMask" | "ListValue"
            | "Value" | "Empty"
    );
    is_one.then_some(name)
}

/// Whether a server may be asked for it: the name of a type is data.
fn is_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_word)
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}
