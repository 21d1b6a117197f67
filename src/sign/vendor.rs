//! Signatures as vendors make them, for receivers that verify one of those already: HMAC-SHA256 over the body, or over
//! the body with its time, in a header of its own.

use ::hmac::{Hmac, KeyInit, Mac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::HeaderName;
use sha2::Sha256;

use super::{Message, secrets};
use crate::{
    model::hex,
    settings::{Item, Table, key::keys, secret::Secret},
};

keys! {
    /// HMAC-SHA256 in a header of your own.
    mod hmac;
    /// The header's name.
    need HEADER: HeaderName = "header", Form::new(Shape::Text, read_header), "header = \"X-Signature\"";
    /// What stands before the signature.
    or PREFIX: String = "prefix", TEXT, String::new;
    /// How the signature is written.
    or ENCODING: Encoding = "encoding", Form::words(&[("hex", Encoding::Hex), ("base64", Encoding::Base64)]),
        || Encoding::Hex;
    /// What is signed: a text with `{id}`, `{timestamp}` and `{body}`, which it must have.
    or OVER: Vec<Part> = "over", Form::shown_by(Shape::Text, read_over, |_| "{body}".into()), || vec![Part::Body];
    + secrets::FAMILY;
}

/// A header that none of bellpull's own is.
fn read_header(item: &Item<'_>) -> Option<HeaderName> {
    let name = |text: &str| match text.parse::<HeaderName>() {
        Ok(name) if !name.as_str().starts_with("webhook-") => Ok(name),
        Ok(_) => Err("headers that begin with `webhook-` are those of `sign.standard`".to_owned()),
        Err(_) => Err(format!("{text:?} is not a header name")),
    };
    item.parse_text(name, "a header's name")
}

/// `sign.hmac`: any header, any order of what is signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    over: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Hex,
    Base64,
}

/// A piece of what `over` says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Timestamp,
    Body,
}

fn mac(secret: &Secret, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
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

impl Own {
    /// Reads all of `sign.hmac` but its secrets.
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (header, prefix) = (table.need(&hmac::HEADER), table.or(&hmac::PREFIX));
        let (encoding, over) = (table.or(&hmac::ENCODING), table.or(&hmac::OVER));
        Some(Self { header: header?, prefix, encoding, over })
    }

    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    pub fn sign(&self, secret: &Secret, message: &Message<'_>) -> String {
        let timestamp = message.at.seconds().to_string();
        let part = |part: &'_ Part| -> Vec<u8> {
            match part {
                Part::Text(text) => text.as_bytes().to_vec(),
                Part::Id => message.id.as_bytes().to_vec(),
                Part::Timestamp => timestamp.as_bytes().to_vec(),
                Part::Body => message.body.to_vec(),
            }
        };
        let mac = mac(secret, &[&self.over.iter().flat_map(part).collect::<Vec<u8>>()]);
        let encoded = if self.encoding == Encoding::Hex { hex(&mac) } else { STANDARD.encode(mac) };
        format!("{}{encoded}", self.prefix)
    }
}

/// A text with `{id}`, `{timestamp}` and `{body}`; the body must be signed.
fn read_over(item: &Item<'_>) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = item.string()?;
    while let Some((text, after)) = rest.split_once('{') {
        parts.push(Part::Text(text.to_owned()));
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        parts.push(match name {
            "id" => Part::Id,
            "timestamp" => Part::Timestamp,
            "body" => Part::Body,
            other => {
                item.error(format!("`{}` holds `{{{other}}}`", item.path))
                    .help("known are `{id}`, `{timestamp}`, `{body}`, for example \"{timestamp}.{body}\"".into())
                    .report();
                return None;
            }
        });
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    if !parts.contains(&Part::Body) {
        let help = "for example \"{timestamp}.{body}\"".to_owned();
        item.error(format!("`{}` leaves out `{{body}}`: anyone could change it", item.path)).help(help).report();
        return None;
    }
    Some(parts)
}
