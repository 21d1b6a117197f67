//! What a request carries: the stored bodies of events in the format of their endpoint. Pure, and the same bytes at
//! every attempt.
//!
//! It decides how an event looks; which events go together, and when, is for `deliver` to say.

use std::borrow::Cow;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, value::RawValue};
use url::form_urlencoded;

use crate::{
    config::Format,
    model::{Content, Event, EventId, Hash},
};

/// Changed paths of a thin event; more of them are told as the record as a whole.
const CHANGED_MAX: usize = 1000;

/// An event of a bridge as it is stored. Values keep the bytes that they have.
#[derive(Serialize, Deserialize)]
struct StoredEvent<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    data: StoredData<'a>,
}

#[derive(Serialize, Deserialize)]
struct StoredData<'a> {
    #[serde(borrow)]
    bridge: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    sequence: u64,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    item: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    before: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    after: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    patch: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thin: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    coalesced: Option<Range>,
}

/// Sequence numbers, both of events that are in it.
#[derive(Serialize, Deserialize)]
struct Range {
    first: u64,
    last: u64,
}

/// A value that is there, even when it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// A standard body without its values, with the paths that changed; one of an operational event as it is.
pub fn thin(body: &[u8]) -> Vec<u8> {
    let Ok(mut event) = serde_json::from_slice::<StoredEvent<'_>>(body) else { return body.to_vec() };
    #[derive(Deserialize)]
    struct Operation<'a> {
        #[serde(borrow)]
        path: Cow<'a, str>,
    }
    let data = &mut event.data;
    // What a record is resent as has no patch: it is told as a whole.
    let patch = data.patch.take().and_then(|patch| serde_json::from_str::<Vec<Operation<'_>>>(patch.get()).ok());
    let mut changed =
        patch.map_or_else(|| vec![String::new()], |ops| ops.into_iter().map(|op| op.path.into()).collect());
    if changed.len() > CHANGED_MAX {
        changed = vec![String::new()];
    }
    (data.before, data.after, data.thin, data.changed) = (None, None, Some(true), Some(changed));
    serde_json::to_vec(&event).expect("JSON values and strings serialize")
}

/// One update instead of several of the same record: from the first one's `before` to the last one's `after`. `None` when
/// nothing that `counts` has changed between them; an error when they are no updates.
pub fn coalesce(
    first: &[u8],
    last: &[u8],
    counts: impl Fn(&Json, &Json) -> bool,
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let first: StoredEvent<'_> = serde_json::from_slice(first)?;
    let mut event: StoredEvent<'_> = serde_json::from_slice(last)?;
    let (Some(before), Some(after)) = (first.data.before, event.data.after) else { return Ok(None) };
    let (from, to): (Json, Json) = (serde_json::from_str(before.get())?, serde_json::from_str(after.get())?);
    let patch = json_patch::diff(&from, &to);
    if patch.0.is_empty() || !counts(&from, &to) {
        return Ok(None);
    }
    let patch = serde_json::value::to_raw_value(&patch)?;
    let range = Range { first: first.data.sequence, last: event.data.sequence };
    event.data.before = Some(before);
    event.data.patch = Some(&patch);
    event.data.coalesced = Some(range);
    serde_json::to_vec(&event).map(Some)
}

/// One event as it is to be sent.
pub struct Piece {
    pub event: Event,
    body: Vec<u8>,
    /// The body is the result of a `payload`.
    own: bool,
}

impl Piece {
    pub fn new(event: Event, content: Content) -> Self {
        let (body, own) = match content {
            Content::Own(body) => (body, true),
            Content::Thin => (thin(&event.body), false),
            Content::Shared | Content::Dead(_) => (event.body.clone(), false),
        };
        Self { event, body, own }
    }

    /// Bytes of its body.
    pub fn length(&self) -> usize {
        self.body.len()
    }

    fn raw(&self) -> Result<&RawValue, String> {
        serde_json::from_slice(&self.body).map_err(|e| format!("its body is not JSON: {e}"))
    }

    /// A payload's result, or what is new in the event.
    fn data(&self) -> Result<&RawValue, String> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
        }
        if self.own {
            return self.raw();
        }
        let envelope: Result<Envelope<'_>, _> = serde_json::from_slice(&self.body);
        envelope.map(|envelope| envelope.data).map_err(|e| format!("its body is not an event: {e}"))
    }

    fn source(&self) -> String {
        let bridge = &self.event.bridge;
        if bridge.is_empty() {
            return "/bellpull".into();
        }
        // A member's name may hold what a URI cannot.
        let encode = |byte: u8| match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        format!("/bridges/{}", bridge.bytes().map(encode).collect::<String>())
    }
}

/// A body, and the headers that say what it is.
#[derive(Debug)]
pub struct Carried {
    /// `webhook-id`.
    pub id: EventId,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// One event in a format.
pub fn one(format: Format, piece: &Piece) -> Result<Carried, String> {
    let mut headers = HeaderMap::new();
    let (kind, body) = match format {
        Format::Standard => ("application/json", piece.body.clone()),
        Format::CloudEvents => ("application/cloudevents+json", bytes(&cloud_event(piece)?)),
        Format::CloudEventsBinary => {
            attributes(piece, &mut headers)?;
            ("application/json", piece.data()?.get().as_bytes().to_vec())
        }
        Format::Form => ("application/x-www-form-urlencoded", form(piece)?.into_bytes()),
        Format::Text => ("text/plain; charset=utf-8", as_it_is(&piece.body).unwrap_or_else(|| piece.body.clone())),
        Format::NdJson => ("application/x-ndjson", lines(std::slice::from_ref(piece))?),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(Carried { id: piece.event.id, headers, body })
}

/// Several events as an array, under an id that is made from theirs.
pub fn batch(format: Format, pieces: &[Piece]) -> Result<Carried, String> {
    let (kind, body) = match format {
        Format::CloudEvents => {
            let all: Result<Vec<_>, String> = pieces.iter().map(cloud_event).collect();
            ("application/cloudevents-batch+json", bytes(&all?))
        }
        Format::NdJson => ("application/x-ndjson", lines(pieces)?),
        _ => {
            let all: Result<Vec<_>, String> = pieces.iter().map(element).collect();
            ("application/json", bytes(&all?))
        }
    };
    let ids: Vec<u8> = pieces.iter().flat_map(|piece| piece.event.id.0).collect();
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    Ok(Carried { id: EventId(Hash::of(&ids).0), headers, body })
}

/// Puts a secret in the place of a word: of a JSON string, or a field's value, that is nothing but the word. It may
/// be there once: what comes from a record and looks like the word must not become the secret.
pub fn inject(format: Format, body: &[u8], word: &str, secret: &str) -> Result<Vec<u8>, String> {
    let encoded = |text: &str| match format {
        Format::Form => form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>(),
        _ => Json::from(text).to_string(),
    };
    let text = std::str::from_utf8(body).map_err(|_| "its body is not UTF-8".to_owned())?;
    let (sought, put) = (encoded(word), encoded(secret));
    let (count, made) = if format == Format::Form {
        let is_it = |pair: &&str| pair.split_once('=').is_some_and(|(_, value)| value == sought);
        let fill = |pair: &str| match pair.split_once('=') {
            Some((name, value)) if value == sought => format!("{name}={put}"),
            _ => pair.to_owned(),
        };
        let pairs: Vec<String> = text.split('&').map(fill).collect();
        (text.split('&').filter(is_it).count(), pairs.join("&"))
    } else {
        (text.matches(&sought).count(), text.replacen(&sought, &put, 1))
    };
    if count > 1 {
        return Err(format!("its body has {word:?} {count} times: a secret stands in one place (`inject.body`)"));
    }
    Ok(made.into_bytes())
}

/// The text that a JSON string is; `None` for any other JSON.
pub fn as_it_is(body: &[u8]) -> Option<Vec<u8>> {
    if body.first() != Some(&b'"') {
        return None;
    }
    serde_json::from_slice::<String>(body).ok().map(String::into_bytes)
}

/// A line for each: a string is its line, or its lines, as it is.
fn lines(pieces: &[Piece]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for piece in pieces {
        match as_it_is(&piece.body) {
            Some(text) => out.extend(text),
            None => out.extend(bytes(&element(piece)?)),
        }
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
    Ok(out)
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON values and strings serialize")
}

/// An element of a batch.
#[derive(Serialize)]
#[serde(untagged)]
enum Element<'a> {
    /// The standard event with its own id.
    Event {
        id: String,
        r#type: &'a str,
        timestamp: String,
        data: &'a RawValue,
    },
    Own(&'a RawValue),
}

fn element(piece: &Piece) -> Result<Element<'_>, String> {
    if piece.own {
        return piece.raw().map(Element::Own);
    }
    let event = &piece.event;
    Ok(Element::Event {
        id: event.id.to_string(),
        r#type: &event.kind,
        timestamp: event.at.to_string(),
        data: piece.data()?,
    })
}

/// CloudEvents 1.0.2, JSON format.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

fn cloud_event(piece: &Piece) -> Result<CloudEvent<'_>, String> {
    Ok(CloudEvent {
        specversion: "1.0",
        id: piece.event.id.to_string(),
        source: piece.source(),
        r#type: &piece.event.kind,
        subject: &piece.event.key,
        time: piece.event.at.to_string(),
        datacontenttype: "application/json",
        data: piece.data()?,
    })
}

/// CloudEvents 1.0.2, HTTP protocol binding, section 3.1.3.
fn attributes(piece: &Piece, headers: &mut HeaderMap) -> Result<(), String> {
    let event = &piece.event;
    let pairs = [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", event.id.to_string()),
        ("ce-source", piece.source()),
        ("ce-type", event.kind.clone()),
        ("ce-subject", event.key.clone()),
        ("ce-time", event.at.to_string()),
    ];
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        let value = HeaderValue::from_str(&percent(&value)).map_err(|_| format!("{name} is not a header value"))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

/// Spaces, quotes, percent signs and all but printable ASCII, percent-encoded as UTF-8.
fn percent(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'"' | b'%' => format!("%{byte:02X}"),
        0x21..=0x7e => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The fields of an object, as a browser sends them: `null` is left out, a list is repeated.
fn form(piece: &Piece) -> Result<String, String> {
    let Ok(Json::Object(fields)) = serde_json::from_slice(&piece.body) else {
        return Err("its body is not an object, whose fields `format = \"form\"` would send".into());
    };
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &fields {
        let values = match value {
            Json::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        for value in values.into_iter().filter(|value| !value.is_null()) {
            match value.as_str() {
                Some(text) => out.append_pair(name, text),
                None => out.append_pair(name, &value.to_string()),
            };
        }
    }
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::model::Timestamp;

    const UPDATED: &str = r#"{"type":"a.updated","timestamp":"1970-01-01T00:00:00.000Z","data":{"bridge":"a","key":"k 1","stream":"s","sequence":7,"before":{"n":1.10,"o":1},"after":{"n":12345678901234567890,"o":1},"patch":[{"op":"replace","path":"/n","value":12345678901234567890}]}}"#;

    fn piece(content: Content) -> Piece {
        let event = Event {
            id: EventId([1; 16]),
            bridge: "a".into(),
            sequence: 7,
            kind: "a.updated".into(),
            key: "k ä".into(),
            at: Timestamp(0),
            body: UPDATED.into(),
            deliveries: Vec::new(),
        };
        Piece::new(event, content)
    }

    fn check(carried: Result<Carried, String>, expected: Expect) {
        let text = match carried {
            Err(error) => format!("error: {error}"),
            Ok(carried) => {
                let mut lines: Vec<String> =
                    carried.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect();
                lines.sort();
                format!("{}\n{}\n{}", carried.id, lines.join("\n"), String::from_utf8_lossy(&carried.body))
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_thin_event_names_what_changed() {
        let thin = String::from_utf8(thin(UPDATED.as_bytes())).expect("UTF-8");
        expect![[r#"{"type":"a.updated","timestamp":"1970-01-01T00:00:00.000Z","data":{"bridge":"a","key":"k 1","stream":"s","sequence":7,"thin":true,"changed":["/n"]}}"#]].assert_eq(&thin);
        let ops: Vec<String> = (0..1001).map(|n| format!(r#"{{"op":"remove","path":"/{n}"}}"#)).collect();
        let many = UPDATED
            .replace(r#"[{"op":"replace","path":"/n","value":12345678901234567890}]"#, &format!("[{}]", ops.join(",")));
        assert!(String::from_utf8(super::thin(many.as_bytes())).expect("UTF-8").ends_with(r#""changed":[""]}}"#));
        let told = br#"{"type":"bellpull.test","timestamp":"x","data":{"endpoint":"me"}}"#;
        assert_eq!(super::thin(told), told);
    }

    /// Pushover and PagerDuty want their key in the body, which jq cannot see.
    #[test]
    fn a_secret_takes_the_place_of_its_word_and_of_nothing_else() {
        let made = |format, body: &str| {
            inject(format, body.as_bytes(), "API_TOKEN", "a\"b&c").map(|body| String::from_utf8(body).expect("UTF-8"))
        };
        let whole = |body: &str| made(Format::Standard, body);
        assert_eq!(whole(r#"{"token":"API_TOKEN","n":1.10}"#), Ok(r#"{"token":"a\"b&c","n":1.10}"#.into()));
        let others = r#"{"text":"the API_TOKEN, or \"API_TOKEN\"","API_TOKENS":"MY_API_TOKEN"}"#;
        assert_eq!(whole(others), Ok(others.into()), "a part of a text stays");
        assert!(
            whole(r#"{"token":"API_TOKEN","name":"API_TOKEN"}"#).is_err(),
            "a record that looks like it gets nothing"
        );
        let form = |body: &str| made(Format::Form, body);
        assert_eq!(form("token=API_TOKEN&text=API_TOKEN+x"), Ok("token=a%22b%26c&text=API_TOKEN+x".into()));
        assert!(form("token=API_TOKEN&text=API_TOKEN").is_err());
    }

    #[test]
    fn updates_become_one_and_nothing_stays_nothing() {
        let later = UPDATED
            .replace("\"sequence\":7", "\"sequence\":9")
            .replace(r#""before":{"n":1.10,"o":1}"#, r#""before":{"n":12345678901234567890,"o":1}"#)
            .replace(r#""after":{"n":12345678901234567890,"o":1}"#, r#""after":{"n":null,"o":2}"#);
        let one = coalesce(UPDATED.as_bytes(), later.as_bytes(), |_, _| true).expect("updates").expect("a change");
        expect![[r#"{"type":"a.updated","timestamp":"1970-01-01T00:00:00.000Z","data":{"bridge":"a","key":"k 1","stream":"s","sequence":9,"before":{"n":1.10,"o":1},"after":{"n":null,"o":2},"patch":[{"op":"replace","path":"/n","value":null},{"op":"replace","path":"/o","value":2}],"coalesced":{"first":7,"last":9}}}"#]].assert_eq(&String::from_utf8(one).expect("UTF-8"));
        let back = UPDATED.replace(r#""after":{"n":12345678901234567890,"o":1}"#, r#""after":{"n":1.10,"o":1}"#);
        assert!(matches!(coalesce(UPDATED.as_bytes(), back.as_bytes(), |_, _| true), Ok(None)));
        assert!(
            matches!(coalesce(UPDATED.as_bytes(), later.as_bytes(), |_, _| false), Ok(None)),
            "only what is ignored"
        );
    }

    #[test]
    fn formats() {
        let (whole, own) = (
            piece(Content::Shared),
            piece(Content::Own(br#"{"To":"+49","n":[1,null,"x y"],"z":null,"o":{"a":1}}"#.to_vec())),
        );
        check(
            one(Format::CloudEvents, &whole),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            content-type: application/cloudevents+json
            {"specversion":"1.0","id":"evt_01tRy6czI6jAOLpZvq3hw1","source":"/bridges/a","type":"a.updated","subject":"k ä","time":"1970-01-01T00:00:00.000Z","datacontenttype":"application/json","data":{"bridge":"a","key":"k 1","stream":"s","sequence":7,"before":{"n":1.10,"o":1},"after":{"n":12345678901234567890,"o":1},"patch":[{"op":"replace","path":"/n","value":12345678901234567890}]}}"#]],
        );
        check(
            one(Format::CloudEventsBinary, &whole),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            ce-id: evt_01tRy6czI6jAOLpZvq3hw1
            ce-source: /bridges/a
            ce-specversion: 1.0
            ce-subject: k%20%C3%A4
            ce-time: 1970-01-01T00:00:00.000Z
            ce-type: a.updated
            content-type: application/json
            {"bridge":"a","key":"k 1","stream":"s","sequence":7,"before":{"n":1.10,"o":1},"after":{"n":12345678901234567890,"o":1},"patch":[{"op":"replace","path":"/n","value":12345678901234567890}]}"#]],
        );
        check(
            one(Format::CloudEvents, &own),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            content-type: application/cloudevents+json
            {"specversion":"1.0","id":"evt_01tRy6czI6jAOLpZvq3hw1","source":"/bridges/a","type":"a.updated","subject":"k ä","time":"1970-01-01T00:00:00.000Z","datacontenttype":"application/json","data":{"To":"+49","n":[1,null,"x y"],"z":null,"o":{"a":1}}}"#]],
        );
        check(
            one(Format::Form, &own),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            content-type: application/x-www-form-urlencoded
            To=%2B49&n=1&n=x+y&o=%7B%22a%22%3A1%7D"#]],
        );
        check(
            one(Format::Form, &whole),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            content-type: application/x-www-form-urlencoded
            data=%7B%22after%22%3A%7B%22n%22%3A12345678901234567890%2C%22o%22%3A1%7D%2C%22before%22%3A%7B%22n%22%3A1.10%2C%22o%22%3A1%7D%2C%22bridge%22%3A%22a%22%2C%22key%22%3A%22k+1%22%2C%22patch%22%3A%5B%7B%22op%22%3A%22replace%22%2C%22path%22%3A%22%2Fn%22%2C%22value%22%3A12345678901234567890%7D%5D%2C%22sequence%22%3A7%2C%22stream%22%3A%22s%22%7D&timestamp=1970-01-01T00%3A00%3A00.000Z&type=a.updated"#]],
        );
        check(
            one(Format::Form, &piece(Content::Own(b"7".to_vec()))),
            expect![[r#"error: its body is not an object, whose fields `format = "form"` would send"#]],
        );
        let line = |text: &str| piece(Content::Own(serde_json::to_vec(text).expect("JSON")));
        check(
            one(Format::Text, &line("temp value=1\n<a>\u{e4}</a>")),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            content-type: text/plain; charset=utf-8
            temp value=1
            <a>ä</a>"#]],
        );
        check(
            batch(Format::NdJson, &[line("{\"index\":{}}\n{\"n\":1}"), piece(Content::Own(b"{\"n\":1.10}".to_vec()))]),
            expect![[r#"
            evt_4XJSdWgcz4sj80Cqsn8LML
            content-type: application/x-ndjson
            {"index":{}}
            {"n":1}
            {"n":1.10}
            "#]],
        );
        check(
            one(Format::Standard, &piece(Content::Thin)),
            expect![[r#"
            evt_01tRy6czI6jAOLpZvq3hw1
            content-type: application/json
            {"type":"a.updated","timestamp":"1970-01-01T00:00:00.000Z","data":{"bridge":"a","key":"k 1","stream":"s","sequence":7,"thin":true,"changed":["/n"]}}"#]],
        );
        check(
            batch(Format::Standard, &[piece(Content::Thin), own]),
            expect![[r#"
            evt_4XJSdWgcz4sj80Cqsn8LML
            content-type: application/json
            [{"id":"evt_01tRy6czI6jAOLpZvq3hw1","type":"a.updated","timestamp":"1970-01-01T00:00:00.000Z","data":{"bridge":"a","key":"k 1","stream":"s","sequence":7,"thin":true,"changed":["/n"]}},{"To":"+49","n":[1,null,"x y"],"z":null,"o":{"a":1}}]"#]],
        );
        check(
            batch(Format::CloudEvents, &[whole]),
            expect![[r#"
            evt_2K8mQSzbQpiBc36MNIfL7f
            content-type: application/cloudevents-batch+json
            [{"specversion":"1.0","id":"evt_01tRy6czI6jAOLpZvq3hw1","source":"/bridges/a","type":"a.updated","subject":"k ä","time":"1970-01-01T00:00:00.000Z","datacontenttype":"application/json","data":{"bridge":"a","key":"k 1","stream":"s","sequence":7,"before":{"n":1.10,"o":1},"after":{"n":12345678901234567890,"o":1},"patch":[{"op":"replace","path":"/n","value":12345678901234567890}]}}]"#]],
        );
    }
}
