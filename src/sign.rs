//! Signatures of Standard Webhooks 1.0.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use crate::{
    model::{EventId, Timestamp},
    settings::{Item, secret::Secret},
};

/// Kinds of later versions, refused by name.
const NOT_YET: &[&str] = &["ed25519", "github", "stripe", "shopify", "slack", "hmac"];
/// The length of a secret in bytes (EVENTS).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How far a timestamp may be from now before a signature is refused.
pub const TOLERANCE_SECONDS: i64 = 300;

/// Signs with each of its secrets, the first first.
#[derive(Debug, Clone, PartialEq)]
pub struct Signer {
    keys: Vec<Key>,
}

/// A decoded secret.
#[derive(Clone)]
pub struct Key(SecretSlice<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// Why a request does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the header `{0}` is missing")]
    Missing(&'static str),
    #[error("`webhook-timestamp` is no number")]
    Timestamp,
    #[error("`webhook-timestamp` is more than five minutes from now")]
    Time,
    #[error("no signature matches: another secret, or a changed body")]
    Signature,
}

impl Key {
    /// From `whsec_` and base64, or base64 alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| "a signing secret is `whsec_` and base64; `bellpull secret` makes one".to_owned())?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(format!(
                "a signing secret has 24 to 64 bytes, this one {}; `bellpull secret` makes one",
                bytes.len()
            ));
        }
        Ok(Self(bytes.into()))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("HMAC takes keys of any length");
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }
}

/// A fresh secret: `whsec_` and 32 random bytes.
pub fn make_secret() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has a random generator");
    format!("whsec_{}", STANDARD.encode(bytes))
}

impl Signer {
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// Reads `sign.KIND`.
    pub fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        table.not_yet(NOT_YET);
        let found = table.take_kind(&["standard"]);
        table.finish();
        let mut standard = found?.1.table()?;
        let secrets = standard.require("secrets", "secrets = [{ env = \"SECRET\" }]");
        standard.finish();
        let secrets = secrets?;
        let all = secrets.items()?;
        if all.is_empty() {
            secrets.error(format!("`{}` is empty", secrets.path)).help("`bellpull secret` makes one".into()).report();
            return None;
        }
        let keys: Vec<Option<Key>> = all.iter().map(read_key).collect();
        keys.into_iter().collect::<Option<Vec<Key>>>().map(Self::new)
    }

    /// The value of `webhook-signature`: one token for each secret, joined by a space.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let timestamp = timestamp.to_string();
        let token =
            |key: &Key| format!("v1,{}", STANDARD.encode(key.mac(id, &timestamp, body).finalize().into_bytes()));
        self.keys.iter().map(token).collect::<Vec<_>>().join(" ")
    }

    /// The three headers of one attempt.
    pub fn headers(&self, id: EventId, now: Timestamp, body: &[u8]) -> [(&'static str, String); 3] {
        let id = id.to_string();
        let signature = self.sign(&id, now.seconds(), body);
        [("webhook-id", id), ("webhook-timestamp", now.seconds().to_string()), ("webhook-signature", signature)]
    }

    /// Checks a received request; any of the secrets will do.
    pub fn verify<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let get = |name: &'static str| header(name).ok_or(Refusal::Missing(name));
        let (id, timestamp, signatures) = (get("webhook-id")?, get("webhook-timestamp")?, get("webhook-signature")?);
        let at: i64 = timestamp.parse().map_err(|_| Refusal::Timestamp)?;
        if now.seconds().abs_diff(at) > TOLERANCE_SECONDS.unsigned_abs() {
            return Err(Refusal::Time);
        }
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|token| token.strip_prefix("v1,"))
            .filter_map(|encoded| STANDARD.decode(encoded).ok())
            .collect();
        let matches = |key: &Key| given.iter().any(|g| key.mac(id, timestamp, body).verify_slice(g).is_ok());
        if self.keys.iter().any(matches) { Ok(()) } else { Err(Refusal::Signature) }
    }
}

/// One secret, checked when its text is known.
fn read_key(item: &Item<'_>) -> Option<Key> {
    if item.is_table() && item.table().is_some_and(|t| t.has("until")) {
        item.error(format!("`{}.until` is not yet supported by this version", item.path)).report();
        return None;
    }
    let secret: Secret = item.secret()?;
    if !item.resolved(&secret) {
        return Some(Key(vec![0; 32].into()));
    }
    match Key::parse(secret.expose()) {
        Ok(key) => Some(key),
        Err(error) => {
            item.error(format!("`{}`: {error}", item.path)).report();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the Standard Webhooks libraries.
    #[test]
    fn vectors() {
        let text = include_str!("../tests/data/signatures.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(text).expect("JSON");
        let mut checked = 0;
        for vector in vectors.iter().filter(|v| v["kind"] == "standard") {
            let text = |key: &str| vector[key].as_str().expect("a string");
            let signer = Signer::new(vec![Key::parse(text("secret")).expect("a secret")]);
            let timestamp = vector["timestamp"].as_i64().expect("a number");
            assert_eq!(signer.sign(text("id"), timestamp, text("body").as_bytes()), text("value"));
            checked += 1;
        }
        assert_eq!(checked, 2);
    }

    #[test]
    fn rotation_and_refusals() {
        let (old, new) = (make_secret(), make_secret());
        let key = |text: &str| Key::parse(text).expect("a secret");
        let signer = Signer::new(vec![key(&new), key(&old)]);
        let now = Timestamp(1_700_000_000_000);
        let headers = signer.headers(EventId([7; 16]), now, b"{}");
        let get = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("webhook-signature").expect("signed").split(' ').count(), 2);
        for secret in [&old, &new] {
            assert_eq!(Signer::new(vec![key(secret)]).verify(get, b"{}", now), Ok(()));
        }
        let other = Signer::new(vec![key(&make_secret())]);
        assert_eq!(other.verify(get, b"{}", now), Err(Refusal::Signature));
        assert_eq!(signer.verify(get, b"{]", now), Err(Refusal::Signature));
        assert_eq!(signer.verify(get, b"{}", now.plus_ms(301_000)), Err(Refusal::Time));
        assert_eq!(signer.verify(get, b"{}", now.plus_ms(-301_000)), Err(Refusal::Time));
        assert_eq!(signer.verify(|_| None, b"{}", now), Err(Refusal::Missing("webhook-id")));
        for bad in ["whsec_", "whsec_!!", "whsec_AAAA", ""] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
