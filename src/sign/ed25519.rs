//! Standard Webhooks 1.0.0, asymmetric (`v1a`): a receiver needs the public half only.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};

const SEED_BYTES: usize = 32;
const HELP: &str = "an ed25519 key is `whsk_` and the base64 of its seed, or of its seed and its public half; \
    `bellpull secret --ed25519` makes one";

/// A private key.
#[derive(Clone)]
pub struct Key(Arc<Ed25519KeyPair>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who verifies with the same public half need not know of a change.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.public_key().as_ref() == other.0.public_key().as_ref()
    }
}

impl Key {
    /// From `whsk_` and base64, or base64 alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text.strip_prefix("whsk_").unwrap_or(text)).map_err(|_| HELP.to_owned())?;
        let pair = match bytes.split_at_checked(SEED_BYTES) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err(HELP.into()),
        };
        pair.map(|pair| Self(Arc::new(pair))).map_err(|_| format!("the two halves do not belong together: {HELP}"))
    }

    /// Stands for a key that is not read.
    pub(super) fn unresolved() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[0; SEED_BYTES]);
        Self(Arc::new(pair.expect("any 32 bytes are a seed")))
    }

    /// What receivers verify with: `whpk_` and base64.
    pub fn public(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.0.public_key().as_ref()))
    }

    /// One token of `webhook-signature`: `v1a,` and base64. `timestamp` is in seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut content = format!("{id}.{timestamp}.").into_bytes();
        content.extend_from_slice(body);
        format!("v1a,{}", STANDARD.encode(self.0.sign(&content)))
    }
}

/// A fresh key: `whsk_`, seed and public half.
pub fn make_key() -> String {
    let mut bytes = vec![0; SEED_BYTES];
    getrandom::fill(&mut bytes).expect("the operating system has a random generator");
    let pair = Ed25519KeyPair::from_seed_unchecked(&bytes).expect("any 32 bytes are a seed");
    bytes.extend_from_slice(pair.public_key().as_ref());
    format!("whsk_{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let text = make_key();
        let key = Key::parse(&text).expect("a key");
        let seed = STANDARD.decode(text.trim_start_matches("whsk_")).expect("base64");
        let short = Key::parse(&STANDARD.encode(seed.get(..32).expect("a seed"))).expect("a seed alone");
        assert_eq!(key.public(), short.public());
        let mixed = [seed.get(..32).expect("a seed"), &[7; 32]].concat();
        for bad in ["", "whsk_!!", "whsk_AAAA", &STANDARD.encode(mixed)] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
