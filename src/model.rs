//! The nouns that every stage shares: names, times, hashes, records' entries, events and their ids.
//!
//! It decides nothing: what a change is stands in `diff`, what is durable in `store`.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The name of a bridge or an endpoint: `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`; `""` is bellpull itself.
pub type Name = Arc<str>;

/// The bridge of a member `NAME/MEMBER`, or of itself.
pub fn bridge_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(bridge, _)| bridge)
}

/// A count as it is stored and shown.
pub fn u64_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970-01-01T00:00:00Z, by the wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time, `ms` milliseconds later (earlier, when negative).
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This time plus a duration; saturates.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        self.plus_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// How long until `later`; zero when it has passed.
    pub fn until(self, later: Self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// Whole seconds since the epoch, as `webhook-timestamp` has them.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The same instant for calendars; the end of time when out of chrono's range.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// From RFC 3339.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = DateTime::parse_from_rfc3339(text);
        parsed.map(|at| Self(at.timestamp_millis())).map_err(|_| format!("{text:?} is not an RFC 3339 time"))
    }

    /// From a calendar time.
    pub fn from_utc(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_millis())
    }
}

/// RFC 3339 in UTC with milliseconds, `2026-11-22T11:42:55.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// The first 128 bits of a BLAKE3 hash: of a record's bytes, of its canonical form, of its key, of a definition.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 16]);

impl Hash {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_blake3(&blake3::hash(bytes))
    }

    /// The shortened form of a full hash.
    pub fn from_blake3(hash: &blake3::Hash) -> Self {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        Self(short)
    }

    /// The first 64 bits, for lanes and spreads.
    pub fn low64(self) -> u64 {
        u64::try_from(u128::from_be_bytes(self.0) >> 64).expect("64 bits are left")
    }
}

/// Bytes as two small digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 32 lower-case hex digits.
impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "not 32 hex digits";
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| WRONG)?;
        Ok(Self(value.to_be_bytes()))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^22 is the first power of 62 over 2^128.
const ID_DIGITS: usize = 22;

/// `webhook-id`: 128 random bits, made once when a change is committed; shown as `evt_` and 22 base62 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// A fresh one, from the operating system's generator.
    pub fn random() -> Self {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the operating system has a random generator");
        Self(bits)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u128::from_be_bytes(self.0);
        let mut digits = ['0'; ID_DIGITS];
        for digit in digits.iter_mut().rev() {
            let index = usize::try_from(rest % 62).expect("below 62");
            *digit = BASE62.get(index).copied().map_or('0', char::from);
            rest /= 62;
        }
        f.write_str("evt_")?;
        digits.iter().try_for_each(|digit| write!(f, "{digit}"))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "an event's id is `evt_` and 22 letters or digits";
        let digits = text.strip_prefix("evt_").filter(|d| d.len() == ID_DIGITS).ok_or(WRONG)?;
        let mut value = 0u128;
        for byte in digits.bytes() {
            let digit = BASE62.iter().position(|known| *known == byte).ok_or(WRONG)?;
            value = value.checked_mul(62).and_then(|v| v.checked_add(u128::try_from(digit).ok()?)).ok_or(WRONG)?;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    Created,
    Updated,
    Deleted,
}

impl ChangeKind {
    /// The last part of an event's type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// What is kept of one record for comparing it: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Of the key's text.
    pub key: Hash,
    /// Of the record's bytes as the source sent them.
    pub raw: Hash,
    /// Of the record after `ignore` and `unordered`, in canonical form: the one that decides.
    pub canonical: Hash,
}

/// A record of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub entry: Entry,
    /// The key as events show it, 1 to 1024 bytes, or `""` for a document.
    pub key: String,
    /// When it was last written; a `window` forgets by it.
    pub seen: Timestamp,
    /// JSON text with the source's digits.
    pub body: Vec<u8>,
}

/// `ETag` and `Last-Modified` as the server sent them (RFC 9110, sections 8.8.2 and 8.8.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Of the request that they came with: for another one they say nothing. An earlier version did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Hash>,
    /// When the whole answer came that had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Validators {
    /// Whether there is something to send.
    pub fn are_some(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// How far a source was read (`since`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub text: String,
    /// Whether the text is JSON, because the source gave no string. A store of an earlier version does not say it.
    pub is_json: Option<bool>,
}

impl Mark {
    /// Of what a source gave.
    pub fn of(value: &Json) -> Self {
        match value {
            Json::String(text) => Self { text: text.clone(), is_json: Some(false) },
            other => Self { text: other.to_string(), is_json: Some(true) },
        }
    }

    /// As it goes into a JSON body: "007" stays a string and 7 a number.
    pub fn json(&self) -> Json {
        let value = match self.is_json {
            Some(false) => None,
            Some(true) => serde_json::from_str(&self.text).ok(),
            // As an earlier version sent it.
            None => self.text.parse::<u64>().ok().map(Json::from),
        };
        value.unwrap_or_else(|| self.text.as_str().into())
    }

    /// As jq of a source sees it: a text, also of a number; an array or an object as it is.
    pub fn seen(&self) -> Json {
        Some(self.json())
            .filter(|value| value.is_array() || value.is_object())
            .unwrap_or_else(|| self.text.as_str().into())
    }
}

/// An event as it is committed, before the store gives it a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    /// `""` for operational events.
    pub bridge: Name,
    /// Counts a bridge's events from 1 without a gap; 0 for operational events.
    pub sequence: u64,
    /// The whole type, `shop_orders.updated`.
    pub kind: String,
    pub key: String,
    pub at: Timestamp,
    /// The standard body, JSON.
    pub body: Vec<u8>,
    /// The endpoints it goes to, each at most once.
    pub deliveries: Vec<Delivery>,
}

/// Where an event goes, and what is sent there, fixed at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub endpoint: Name,
    pub content: Content,
}

/// What one endpoint is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The event's standard body.
    Shared,
    /// The event without its values: where the endpoint wants it so, or where its body is too large.
    Thin,
    /// The result of the endpoint's or route's `payload`.
    Own(Vec<u8>),
    /// `payload` or `when` failed: a dead letter from the start, with the error.
    Dead(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn event_ids_round_trip(bits: [u8; 16]) {
            let id = EventId(bits);
            prop_assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
            prop_assert!(!id.to_string().contains('.'));
        }

        #[test]
        fn hashes_round_trip(bits: [u8; 16]) {
            prop_assert_eq!(Hash(bits).to_string().parse::<Hash>(), Ok(Hash(bits)));
        }
    }

    #[test]
    fn validators_of_an_earlier_version_are_read() {
        let old: Validators = serde_json::from_str(r#"{"etag":"\"1\""}"#).expect("JSON");
        assert_eq!(old, Validators { etag: Some("\"1\"".into()), ..Validators::default() });
        assert_eq!(serde_json::to_string(&old).expect("JSON"), r#"{"etag":"\"1\""}"#);
    }

    #[test]
    fn a_time_is_shown_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(1_764_843_775_123).to_string(), "2025-12-04T10:22:55.123Z");
    }
}
