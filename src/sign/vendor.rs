//! Signatures as vendors make them, for receivers that verify one of those already: HMAC over the body, or over the
//! body with its time, in a header of its own; or over the time alone, in the query or in the body.

use std::borrow::Cow;

use ::hmac::{Hmac, KeyInit, Mac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::HeaderName;
use serde_json::{Map, Value as Json};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Message, secrets};
use crate::{
    http::target::read_header_name,
    model::hex,
    settings::{Item, Table, key::keys, secret::Secret},
};

keys! {
    /// HMAC in a header of your own.
    mod hmac;
    /// The hash of the HMAC.
    or ALGORITHM: Algorithm = "algorithm", Form::words(&ALGORITHMS), || Algorithm::Sha256;
    /// The header's name.
    need HEADER: HeaderName = "header", Form::new(Shape::Text, read_header), "header = \"X-Signature\"";
    /// A header for the seconds that `{timestamp}` stands for in the same request.
    get TIMESTAMP_HEADER: HeaderName = "timestamp-header", Form::new(Shape::Text, read_header);
    /// What stands before the signature; it may hold `{timestamp}` and `{id}`: `"t={timestamp},v1="`.
    or PREFIX: Vec<Part> = "prefix",
        Form::shown_by(Shape::Text, |item| read_parts(item, &IN_PREFIX, "\"t={timestamp},v1=\""), |_| "".into()), Vec::new;
    /// How the signature is written.
    or ENCODING: Encoding = "encoding", Form::words(&[("hex", Encoding::Hex), ("base64", Encoding::Base64)]),
        || Encoding::Hex;
    /// What is signed: a text with `{id}`, `{timestamp}` and `{body}`, which it must have.
    or OVER: Vec<Part> = "over", Form::shown_by(Shape::Text, read_over, |_| "{body}".into()), || vec![Part::Body];
    + secrets::FAMILY;
}

/// A header that none of bellpull's own is.
fn read_header(item: &Item<'_>) -> Option<HeaderName> {
    let name = read_header_name(item)?;
    if name.as_str().starts_with("webhook-") {
        let message = format!("`{}`: headers that begin with `webhook-` are those of `sign.standard`", item.path);
        item.error(message).report();
        return None;
    }
    Some(name)
}

/// `sign.hmac`: any header, any order of what is signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    algorithm: Algorithm,
    header: HeaderName,
    /// Where the seconds go that it signs.
    timestamp_header: Option<HeaderName>,
    prefix: Vec<Part>,
    encoding: Encoding,
    over: Vec<Part>,
}

/// The hash of the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

const ALGORITHMS: [(&str, Algorithm); 3] =
    [("sha1", Algorithm::Sha1), ("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Hex,
    Base64,
}

/// A piece of what `over` or `prefix` says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Timestamp,
    Body,
}

impl Part {
    fn bytes<'m>(&'m self, message: &Message<'m>) -> Cow<'m, [u8]> {
        match self {
            Self::Text(text) => text.as_bytes().into(),
            Self::Id => message.id.as_bytes().into(),
            Self::Timestamp => message.at.seconds().to_string().into_bytes().into(),
            Self::Body => message.body.into(),
        }
    }
}

/// Where a text has its `{words}`.
const IN_PREFIX: [(&str, Part); 2] = [("id", Part::Id), ("timestamp", Part::Timestamp)];
const IN_OVER: [(&str, Part); 3] = [("id", Part::Id), ("timestamp", Part::Timestamp), ("body", Part::Body)];

fn mac_of(algorithm: Algorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    fn sum<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().to_vec()
    }
    match algorithm {
        Algorithm::Sha1 => sum::<Hmac<Sha1>>(key, parts),
        Algorithm::Sha256 => sum::<Hmac<Sha256>>(key, parts),
        Algorithm::Sha512 => sum::<Hmac<Sha512>>(key, parts),
    }
}

fn mac(secret: &Secret, parts: &[&[u8]]) -> Vec<u8> {
    mac_of(Algorithm::Sha256, secret.expose().as_bytes(), parts)
}

/// `X-Hub-Signature-256` of GitHub.
pub fn github(secret: &Secret, message: &Message<'_>) -> String {
    format!("sha256={}", hex(&mac(secret, &[message.body])))
}

/// `X-Shopify-Hmac-Sha256`.
pub fn shopify(secret: &Secret, message: &Message<'_>) -> String {
    STANDARD.encode(mac(secret, &[message.body]))
}

/// `X-Slack-Signature`.
pub fn slack(secret: &Secret, message: &Message<'_>) -> String {
    let head = format!("v0:{}:", message.at.seconds());
    format!("v0={}", hex(&mac(secret, &[head.as_bytes(), message.body])))
}

/// `Stripe-Signature`, with one `v1` for each secret.
pub fn stripe<'s>(secrets: impl Iterator<Item = &'s Secret>, message: &Message<'_>) -> String {
    let at = message.at.seconds();
    let head = format!("{at}.");
    let signatures = secrets.map(|secret| format!(",v1={}", hex(&mac(secret, &[head.as_bytes(), message.body]))));
    std::iter::once(format!("t={at}")).chain(signatures).collect()
}

/// The query of a DingTalk robot with "additional signature": the time in milliseconds, and the HMAC of it and the
/// secret.
pub fn dingtalk(secret: &Secret, message: &Message<'_>) -> [(&'static str, String); 2] {
    let ms = message.at.0.to_string();
    let signed = mac(secret, &[ms.as_bytes(), b"\n", secret.expose().as_bytes()]);
    [("timestamp", ms), ("sign", STANDARD.encode(signed))]
}

/// The body of a Feishu or Lark robot with "signature verification": the time in seconds, and the HMAC of nothing
/// under a key of it and the secret.
pub fn feishu(secret: &Secret, message: &Message<'_>) -> Result<Vec<u8>, String> {
    let mut fields: Map<String, Json> = serde_json::from_slice(message.body)
        .map_err(|_| "`sign.feishu`: the body is not a JSON object, which would hold the signature".to_owned())?;
    let seconds = message.at.seconds().to_string();
    let key = format!("{seconds}\n{}", secret.expose());
    fields.insert("sign".into(), STANDARD.encode(mac_of(Algorithm::Sha256, key.as_bytes(), &[])).into());
    fields.insert("timestamp".into(), seconds.into());
    Ok(Json::Object(fields).to_string().into_bytes())
}

impl Own {
    /// Reads all of `sign.hmac` but its secrets.
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (header, timestamp_header) = (table.need(&hmac::HEADER), table.get(&hmac::TIMESTAMP_HEADER));
        let (algorithm, prefix) = (table.or(&hmac::ALGORITHM), table.or(&hmac::PREFIX));
        let (encoding, over) = (table.or(&hmac::ENCODING), table.or(&hmac::OVER));
        Some(Self { algorithm, header: header?, timestamp_header, prefix, encoding, over })
    }

    /// The headers, with one reading of the clock in all of them.
    pub fn sign(&self, secret: &Secret, message: &Message<'_>) -> impl Iterator<Item = (HeaderName, String)> {
        let over: Vec<Cow<'_, [u8]>> = self.over.iter().map(|part| part.bytes(message)).collect();
        let over: Vec<&[u8]> = over.iter().map(AsRef::as_ref).collect();
        let mac = mac_of(self.algorithm, secret.expose().as_bytes(), &over);
        let encoded = if self.encoding == Encoding::Hex { hex(&mac) } else { STANDARD.encode(mac) };
        let prefix: Vec<u8> = self.prefix.iter().flat_map(|part| part.bytes(message).into_owned()).collect();
        let value = format!("{}{encoded}", String::from_utf8_lossy(&prefix));
        let at = self.timestamp_header.clone().map(|name| (name, message.at.seconds().to_string()));
        std::iter::once((self.header.clone(), value)).chain(at)
    }
}

/// A text with `{id}`, `{timestamp}` and `{body}`; the body must be signed.
fn read_over(item: &Item<'_>) -> Option<Vec<Part>> {
    let parts = read_parts(item, &IN_OVER, "\"{timestamp}.{body}\"")?;
    if !parts.contains(&Part::Body) {
        let help = "for example \"{timestamp}.{body}\"".to_owned();
        item.error(format!("`{}` leaves out `{{body}}`: anyone could change it", item.path)).help(help).report();
        return None;
    }
    Some(parts)
}

/// A text with some `{words}`.
fn read_parts(item: &Item<'_>, words: &[(&str, Part)], example: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = item.string()?;
    while let Some((text, after)) = rest.split_once('{') {
        parts.push(Part::Text(text.to_owned()));
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let Some((_, part)) = words.iter().find(|(word, _)| *word == name) else {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("`{{{word}}}`")).collect();
            item.error(format!("`{}` holds `{{{name}}}`", item.path))
                .help(format!("known are {}, for example {example}", known.join(", ")))
                .report();
            return None;
        };
        parts.push(part.clone());
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Some(parts)
}
