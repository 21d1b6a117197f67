//! A message as canonical protobuf JSON, as `prost-reflect` writes it; with these differences. The types of `Any` are
//! those that a server told later, and one that nobody knows stands there as bytes. Fields at their default are written
//! where the file asks for them. What has no JSON is an error that names its place.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
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
            Some("Struct" | "ListValue") => self.only_field(message, 1)?,
            Some("Value") => match message.fields().next() {
                Some((_, Value::F64(number))) if !number.is_finite() => {
                    return Err(format!("{number} is no number of a google.protobuf.Value"));
                }
                Some((field, value)) => self.value(value, &field.kind())?,
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
                self.value(&message.get_field(&field), &field.kind())?;
                self.place.truncate(end);
            }
        }
        for (extension, value) in message.extensions() {
            self.key(extension.json_name(), &mut first)?;
            self.value(value, &extension.kind())?;
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
        self.value(&message.get_field(&field), &field.kind())
    }

    fn value(&mut self, value: &Value, kind: &Kind) -> Result<(), String> {
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
            self.value(value, kind)?;
            self.place.truncate(end);
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, value: &Value, kind: &Kind) -> Result<(), String> {
        let (Value::Map(values), Kind::Message(entry)) = (value, kind) else { return Err("it is not a map".into()) };
        let (kind, end, mut first) = (entry.map_entry_value_field().kind(), self.place.len(), true);
        let text = |key: &MapKey| match key {
            MapKey::Bool(key) => key.to_string(),
            MapKey::I32(key) => key.to_string(),
            MapKey::I64(key) => key.to_string(),
            MapKey::U32(key) => key.to_string(),
            MapKey::U64(key) => key.to_string(),
            MapKey::String(key) => key.clone(),
        };
        // In an order: the same answer is the same bytes.
        let sorted: BTreeMap<String, &Value> = values.iter().map(|(key, value)| (text(key), value)).collect();
        self.out.push('{');
        for (key, value) in sorted {
            self.key(&key, &mut first)?;
            self.place.push('.');
            self.place.extend(key.chars().take(KEY_CHARS));
            self.value(value, &kind)?;
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
        "Any"
            | "Timestamp"
            | "Duration"
            | "Struct"
            | "FloatValue"
            | "DoubleValue"
            | "Int32Value"
            | "Int64Value"
            | "UInt32Value"
            | "UInt64Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
            | "FieldMask"
            | "ListValue"
            | "Value"
            | "Empty"
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

#[cfg(test)]
mod tests {
    use prost_reflect::prost::Message as _;
    use serde_json::{Value as Json, json};

    use super::*;

    fn pool(files: &[&str]) -> DescriptorPool {
        let mut compiler = protox::Compiler::new(["tests/data/grpc"]).expect("a directory");
        compiler.include_imports(true).open_files(files).expect("they compile");
        DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).expect("a set")
    }

    fn message(pool: &DescriptorPool, kind: &str, value: Json) -> DynamicMessage {
        DynamicMessage::deserialize(pool.get_message_by_name(kind).expect("known"), value).expect("it fits")
    }

    fn written(message: &DynamicMessage, types: &DescriptorPool, defaults: bool) -> Json {
        let written = write(message, types, defaults, String::new()).expect("it has JSON");
        serde_json::from_str(&written.text).expect("JSON")
    }

    /// A small generator of numbers: the same ones each time.
    struct Seed(u64);

    impl Seed {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }

        fn text(&mut self) -> String {
            let all = ["", "a", "\"q\"", "line\nline", "\u{7f}\u{2028}", "ä€😀", "\\"];
            all[usize::try_from(self.below(7)).expect("small")].to_owned()
        }
    }

    /// A Note with some of its fields, and notes within it.
    fn note(seed: &mut Seed, depth: usize) -> Json {
        let mut fields = serde_json::Map::new();
        for (name, at) in [
            "id", "state", "text", "done", "weight", "share", "blob", "tags", "rank", "person", "at", "took", "more",
            "limit", "name", "mask", "states", "flags", "anyValue", "raw", "detail", "inner", "parts", "notes",
        ]
        .iter()
        .zip(0..)
        {
            if seed.below(3) > 0 || depth == 0 && at > 20 {
                continue;
            }
            let value = match *name {
                "id" => json!((i64::from_ne_bytes(seed.below(1 << 30).to_ne_bytes()) - (1 << 29)).to_string()),
                "state" => json!(["OPEN", "CLOSED"][usize::try_from(seed.below(2)).expect("small")]),
                "text" | "person" | "name" => json!(seed.text()),
                "done" => json!(seed.below(2) == 1),
                "weight" | "share" => [json!(0.0), json!(-1.5), json!(1e20), json!("NaN"), json!("-Infinity")]
                    [usize::try_from(seed.below(5)).expect("small")]
                .clone(),
                "blob" | "raw" => json!(STANDARD.encode(seed.text())),
                "tags" => json!([seed.text(), seed.text()]),
                "rank" => json!(seed.below(2)),
                "at" => json!("2026-11-23T04:05:06.007Z"),
                "took" => json!("1.500s"),
                "more" => json!({ "a": [1.5, null, { "b": seed.text() }], "c": true }),
                "limit" => json!(seed.below(3).to_string()),
                "mask" => json!("a.bC,d"),
                "states" => json!(["CLOSED", "OPEN", 7]),
                "flags" => json!({ "-1": true, "2": false }),
                "anyValue" => json!([null, "x", 2.5, {}]),
                "detail" => json!({ "@type": "type.googleapis.com/notes.Note", "text": seed.text() }),
                "inner" => note(seed, depth - 1),
                "parts" => json!({ "x": note(seed, depth - 1), "": note(seed, depth - 1) }),
                _ => json!([note(seed, depth - 1), {}]),
            };
            fields.insert((*name).to_owned(), value);
        }
        fields.into()
    }

    #[test]
    fn what_is_written_is_what_protobuf_says() {
        let pool = pool(&["notes.proto"]);
        let mut seed = Seed(16);
        for _ in 0..400 {
            let message = message(&pool, "notes.Note", note(&mut seed, 3));
            assert_eq!(written(&message, &pool, false), serde_json::to_value(&message).expect("it has JSON"));
        }
    }

    /// Order 0 and state OPEN were absent, so that `key` and `when` never held.
    #[test]
    fn defaults_are_written_on_request() {
        let pool = pool(&["notes.proto"]);
        let open = message(&pool, "notes.Note", json!({ "inner": {} }));
        assert_eq!(written(&open, &pool, false), json!({ "inner": {} }));
        let fields = json!({
            "id": "0", "state": "OPEN", "text": "", "done": false, "weight": 0.0, "share": 0.0, "blob": "", "tags": [], "parts": {},
            "states": [], "flags": {}, "notes": [],
        });
        let mut expected = fields.clone();
        expected["inner"] = fields;
        assert_eq!(written(&open, &pool, true), expected);
        let known = message(
            &pool,
            "notes.Note",
            json!({ "detail": { "@type": "x/notes.ListResponse" }, "rank": 0, "team": "0" }),
        );
        let found = written(&known, &pool, true);
        assert_eq!(found["detail"], json!({ "@type": "x/notes.ListResponse", "notes": [] }));
        assert_eq!((&found["rank"], &found["team"]), (&json!(0), &json!("0")));
    }

    /// One record of two had an `Any` of a type that the service's file does not import, and no record passed.
    #[test]
    fn a_type_that_nobody_knows_is_bytes() {
        let (notes, all) = (pool(&["notes.proto"]), pool(&["notes.proto", "extra.proto"]));
        let held = json!({ "@type": "type.googleapis.com/extra.Extra", "text": "x", "inner": {
            "@type": "type.googleapis.com/extra.Extra", "text": "y",
        } });
        let bytes = message(&all, "notes.Note", json!({ "text": "a", "detail": held })).encode_to_vec();
        let note = DynamicMessage::decode(notes.get_message_by_name("notes.Note").expect("known"), bytes.as_slice());
        let note = note.expect("a Note");
        let unknown = write(&note, &notes, false, String::new()).expect("it has JSON");
        assert_eq!(unknown.missing, BTreeSet::from(["extra.Extra".to_owned()]));
        let found: Json = serde_json::from_str(&unknown.text).expect("JSON");
        assert_eq!(found["text"], "a");
        assert_eq!(found["detail"]["@type"], "type.googleapis.com/extra.Extra");
        assert!(found["detail"]["value"].is_string(), "{found}");
        assert_eq!(written(&note, &all, false), json!({ "text": "a", "detail": held }));
        // Damaged bytes, no name, a name that is none, and nothing at all.
        for (url, bytes, name) in [
            ("x/notes.Note", &b"\xff\xff"[..], None),
            ("", b"abc", None),
            ("x/no name", b"", None),
            ("x/extra.Extra", b"", Some("extra.Extra")),
            ("extra.Extra", b"", Some("extra.Extra")),
        ] {
            let mut any = DynamicMessage::new(notes.get_message_by_name("google.protobuf.Any").expect("known"));
            any.set_field_by_number(1, Value::String(url.to_owned()));
            any.set_field_by_number(2, Value::Bytes(bytes.to_vec().into()));
            let found = write(&any, &notes, false, String::new()).expect("it has JSON");
            assert_eq!(found.missing.first().map(String::as_str), name, "{url}");
            let found: Json = serde_json::from_str(&found.text).expect("JSON");
            assert_eq!(found, json!({ "@type": url, "value": STANDARD.encode(bytes) }));
        }
        let none = DynamicMessage::new(notes.get_message_by_name("google.protobuf.Any").expect("known"));
        assert_eq!(written(&none, &notes, false), json!({}));
        // The program's own types need nobody.
        let value = json!({ "@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s" });
        let any = DynamicMessage::deserialize(all.get_message_by_name("google.protobuf.Any").expect("known"), &value)
            .expect("an Any");
        assert_eq!(written(&any, &DescriptorPool::new(), false), value);
    }

    /// A decoder counts the messages within a message, and begins again in each `Any`.
    #[test]
    fn an_any_within_an_any_ends_somewhere() {
        let pool = pool(&["notes.proto"]);
        let note = pool.get_message_by_name("notes.Note").expect("known");
        let mut bytes = Vec::new();
        for _ in 0..300 {
            let mut any = DynamicMessage::new(pool.get_message_by_name("google.protobuf.Any").expect("known"));
            any.set_field_by_number(1, Value::String("x/notes.Note".into()));
            any.set_field_by_number(2, Value::Bytes(bytes.into()));
            let mut outer = DynamicMessage::new(note.clone());
            outer.set_field_by_name("detail", Value::Message(any));
            bytes = outer.encode_to_vec();
        }
        let deep = DynamicMessage::decode(note, bytes.as_slice()).expect("a Note");
        let error = write(&deep, &pool, false, String::new()).err().expect("too deep").to_string();
        assert!(error.contains("nested deeper than 128"), "{error}");
    }

    /// "timestamp out of range" named neither record nor field.
    #[test]
    fn what_has_no_json_names_its_place() {
        let pool = pool(&["notes.proto"]);
        let mut late = message(&pool, "notes.Note", json!({ "at": "2026-01-01T00:00:00Z" }));
        if let Some(Value::Message(at)) = late.get_field_by_name_mut("at") {
            at.set_field_by_number(1, Value::I64(253_402_300_800_000));
        }
        let mut odd = message(&pool, "notes.Note", json!({ "more": { "a": [1, { "b": 2 }] } }));
        fn spoil(message: &mut DynamicMessage) {
            for (_, value) in message.fields_mut() {
                spoil_value(value);
            }
        }
        fn spoil_value(value: &mut Value) {
            match value {
                Value::F64(number) => *number = f64::NAN,
                Value::Message(message) => spoil(message),
                Value::List(list) => list.iter_mut().skip(1).for_each(spoil_value),
                Value::Map(map) => map.values_mut().for_each(spoil_value),
                _ => {}
            }
        }
        spoil(&mut odd);
        for (bad, field, why) in
            [(late, ".at", "out of range"), (odd, ".more.a[1].b", "NaN is no number of a google.protobuf.Value")]
        {
            for (wrap, place) in [("notes", "notes[1]"), ("parts", "parts.k")] {
                let mut list = message(&pool, "notes.Note", json!({}));
                let value = match wrap {
                    "notes" => Value::List(vec![
                        Value::Message(message(&pool, "notes.Note", json!({ "text": "a" }))),
                        Value::Message(bad.clone()),
                    ]),
                    _ => Value::Map([(MapKey::String("k".into()), Value::Message(bad.clone()))].into_iter().collect()),
                };
                list.set_field_by_name(wrap, value);
                for start in ["", ".[3]"] {
                    let error = write(&list, &pool, false, start.to_owned()).err().expect("no JSON").to_string();
                    let told = format!("`{start}.{place}{field}` has no form in JSON: ");
                    assert!(error.starts_with(&told) && error.contains(why), "{error}");
                }
            }
        }
    }
}
