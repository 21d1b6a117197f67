//! Standard Webhooks 1.0.0, symmetric (`v1`): its secrets, its signature, and the check of one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use crate::model::Timestamp;

/// The length of a secret in bytes (EVENTS).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How far a timestamp may be from now before a signature is refused.
pub const TOLERANCE_SECONDS: i64 = 300;

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
    #[error("`webhook-timestamp` is not a number")]
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

    /// Stands for a secret that is not read.
    pub(super) fn unresolved() -> Self {
        Self(vec![0; 32].into())
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("HMAC takes keys of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }

    /// One token of `webhook-signature`: `v1,` and base64. `timestamp` is in seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.mac(id, &timestamp.to_string(), body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(mac))
    }

    /// Checks a received request.
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
        let given = signatures.split(' ').filter_map(|token| STANDARD.decode(token.strip_prefix("v1,")?).ok());
        let mut matching = given.filter(|given| self.mac(id, timestamp, body).verify_slice(given).is_ok());
        matching.next().map(|_| ()).ok_or(Refusal::Signature)
    }
}

/// A fresh secret: `whsec_` and 32 random bytes.
pub fn make_secret() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has a random generator");
    format!("whsec_{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let secret = make_secret();
        let key = Key::parse(&secret).expect("a secret");
        let now = Timestamp(1_700_000_000_000);
        let headers = [
            ("webhook-id", "evt_1".to_owned()),
            ("webhook-timestamp", now.seconds().to_string()),
            ("webhook-signature", key.sign("evt_1", now.seconds(), b"{}")),
        ];
        let get = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(key.verify(get, b"{}", now), Ok(()));
        let other = Key::parse(&make_secret()).expect("a secret");
        assert_eq!(other.verify(get, b"{}", now), Err(Refusal::Signature));
        assert_eq!(key.verify(get, b"{]", now), Err(Refusal::Signature));
        assert_eq!(key.verify(get, b"{}", now.plus_ms(301_000)), Err(Refusal::Time));
        assert_eq!(key.verify(get, b"{}", now.plus_ms(-301_000)), Err(Refusal::Time));
        assert_eq!(key.verify(|_| None, b"{}", now), Err(Refusal::Missing("webhook-id")));
        for bad in ["whsec_", "whsec_!!", "whsec_AAAA", ""] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
