//! `auth.jwt` (RFC 7519): a token that bellpull signs itself, sent as it is, or given for an access token (RFC 7523).

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{rand::SystemRandom, signature};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value as Json, json};
use url::Url;

use super::{Error, TOKEN_URL, With, refusal, request, vault};
use crate::{
    compute::compute,
    expr::Expr,
    model::{Hash, Timestamp},
    settings::{
        Item, Table,
        key::keys,
        secret::{SECRET, Secret},
    },
};
use vault::Token;

/// Servers take tokens of up to an hour; a shorter one is worth less when it leaks.
const TTL: Duration = Duration::from_secs(10 * 60);
/// RFC 7523, section 2.1.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    algorithm: &'static str,
    key: Secret,
    claims: Map<String, Json>,
    ttl: Duration,
    token_url: Option<Url>,
    pub refused: Option<Expr>,
    /// Tells it from other logins.
    pub id: Hash,
}

/// RFC 7518, section 3.1, and RFC 8037.
const ALGORITHMS: [(&str, &str); 9] = [
    ("HS256", "HS256"),
    ("HS384", "HS384"),
    ("HS512", "HS512"),
    ("RS256", "RS256"),
    ("RS384", "RS384"),
    ("RS512", "RS512"),
    ("ES256", "ES256"),
    ("ES384", "ES384"),
    ("EdDSA", "EdDSA"),
];

keys! {
    /// A token that bellpull signs itself (RFC 7519).
    mod jwt;
    /// The algorithm.
    need ALGORITHM: &'static str = "algorithm", Form::words(&ALGORITHMS), "algorithm = \"RS256\"";
    /// A secret: the text itself for HS, otherwise a private key in PEM.
    need KEY: Secret = "key", SECRET, "key = { file = \"/etc/bellpull/key.pem\" }";
    /// A table of claims; `iat` and `exp` are added.
    get CLAIMS: Map<String, Json> = "claims", Form::new(Shape::Named(&Shape::Any), read_claims);
    /// How long a token is valid.
    or TTL: Duration = "ttl", SOME_DURATION, || super::TTL;
    /// Where it is exchanged for an access token, or for an ID token, if the answer has `id_token` and no `access_token`.
    get TOKEN_URL: Url = "token-url", super::TOKEN_URL;
    + refusal::FAMILY;
}

fn read_claims(item: &Item<'_>) -> Option<Map<String, Json>> {
    item.table()?;
    match item.json()? {
        Json::Object(claims) => Some(claims),
        _ => None,
    }
}

impl Jwt {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let algorithm = table.need(&jwt::ALGORITHM);
        let item = table.need_item(&jwt::KEY);
        let key = item.as_ref().and_then(|item| jwt::KEY.read(item));
        let (claims, ttl) = (table.get(&jwt::CLAIMS).unwrap_or_default(), table.or(&jwt::TTL));
        let (token_url, refused) = (table.get(&jwt::TOKEN_URL), table.get(&refusal::REFUSED));
        let (algorithm, key) = (algorithm?, key?);
        if let Some(item) = item.as_ref().filter(|item| item.resolved(&key))
            && let Err(why) = sign(algorithm, &key, b"")
        {
            item.error(format!("`{}`: {why}", item.path)).report();
            return None;
        }
        // The length of the hash at the least (RFC 7518, section 3.2).
        let chars_min = match algorithm {
            "HS256" => 32,
            "HS384" => 48,
            "HS512" => 64,
            _ => 0,
        };
        if let Some(item) = &item {
            item.warn_short(&key, chars_min, "guessed from one token");
        }
        let text = Json::Object(claims.clone()).to_string();
        let url = token_url.as_ref().map(Url::as_str).unwrap_or_default();
        let id = vault::id("jwt", &[algorithm, key.expose(), &text, &format!("{ttl:?}"), url]);
        Some(Self { algorithm, key, claims, ttl, token_url, refused, id })
    }

    pub fn secrets(&self) -> Vec<&Secret> {
        vec![&self.key]
    }

    /// The token to send.
    pub async fn token(self: &Arc<Self>, with: &mut With<'_>) -> Result<Secret, Error> {
        let (vault, now) = (with.vault.clone(), with.clock.now());
        vault.token(self.id, now, async |_| self.fetch(with, now).await).await
    }

    async fn fetch(self: &Arc<Self>, with: &mut With<'_>, now: Timestamp) -> Result<Token, Error> {
        let jwt = self.clone();
        // An RSA signature takes a millisecond of a processor.
        let made = compute(move || jwt.make(now)).await.map_err(|e| Error::Value(e.to_string()))?;
        let made = made.map_err(Error::Value)?;
        let Some(url) = &self.token_url else {
            return Ok(Token::new(Secret::new(made), Some(self.ttl), now));
        };
        with.vault.note(&Secret::new(made.clone()));
        let form = [("grant_type", GRANT), ("assertion", made.as_str())];
        request::grant(with, url, &form, None).await.map(|(token, _)| token)
    }

    /// Header, claims and signature (RFC 7515, section 3.1). `iat` and `exp` are there unless the file has them.
    fn make(&self, now: Timestamp) -> Result<String, String> {
        let mut claims = self.claims.clone();
        claims.entry("iat").or_insert_with(|| now.seconds().into());
        claims.entry("exp").or_insert_with(|| now.plus(self.ttl).seconds().into());
        let header = json!({ "alg": self.algorithm, "typ": "JWT" }).to_string();
        let claims = Json::Object(claims).to_string();
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signed = sign(self.algorithm, &self.key, text.as_bytes())?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signed)))
    }
}

fn sign(algorithm: &str, key: &Secret, text: &[u8]) -> Result<Vec<u8>, String> {
    let shared = |kind| {
        let key = ring::hmac::Key::new(kind, key.expose().as_bytes());
        Ok(ring::hmac::sign(&key, text).as_ref().to_vec())
    };
    match algorithm {
        "HS256" => shared(ring::hmac::HMAC_SHA256),
        "HS384" => shared(ring::hmac::HMAC_SHA384),
        "HS512" => shared(ring::hmac::HMAC_SHA512),
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256, key, text),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384, key, text),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512, key, text),
        "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, key, text),
        "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, key, text),
        _ => {
            let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8(key)?.as_slice());
            Ok(pair.map_err(|e| format!("it is not an Ed25519 key: {e}"))?.sign(text).as_ref().to_vec())
        }
    }
}

fn rsa(kind: &'static dyn signature::RsaEncoding, key: &Secret, text: &[u8]) -> Result<Vec<u8>, String> {
    let pair = match pem(key)? {
        PrivateKeyDer::Pkcs1(der) => signature::RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("it is not an RSA key".into()),
    };
    let pair = pair.map_err(|e| format!("it is not an RSA key: {e}"))?;
    let mut signed = vec![0; pair.public().modulus_len()];
    pair.sign(kind, &SystemRandom::new(), text, &mut signed).map_err(|e| e.to_string())?;
    Ok(signed)
}

fn ecdsa(kind: &'static signature::EcdsaSigningAlgorithm, key: &Secret, text: &[u8]) -> Result<Vec<u8>, String> {
    let random = SystemRandom::new();
    let pair = signature::EcdsaKeyPair::from_pkcs8(kind, &pkcs8(key)?, &random);
    let pair = pair.map_err(|e| format!("it is not a key of this curve: {e}"))?;
    Ok(pair.sign(&random, text).map_err(|e| e.to_string())?.as_ref().to_vec())
}

fn pkcs8(key: &Secret) -> Result<Vec<u8>, String> {
    match pem(key)? {
        PrivateKeyDer::Pkcs8(der) => Ok(der.secret_pkcs8_der().to_vec()),
        _ => Err("it must be PKCS #8: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW".into()),
    }
}

fn pem(key: &Secret) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| "it holds no private key in PEM".to_owned())
}
