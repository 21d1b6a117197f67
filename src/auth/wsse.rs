//! `auth.wsse`: WS-Security's UsernameToken in a SOAP header (OASIS, UsernameToken Profile 1.1.1), with the password as text
//! or as a digest with nonce and time.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quick_xml::{Reader, escape::escape, events::Event};
use sha1::{Digest as _, Sha1};

use super::{Error, login, password};
use crate::{
    http::Request,
    model::Timestamp,
    settings::{Table, key::keys, secret::Secret},
};

const SECEXT: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
const UTILITY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
const PROFILE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0";
const BASE64: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary";
const NONCE_BYTES: usize = 16;

keys! {
    /// A UsernameToken in the SOAP header.
    mod wsse;
    /// Sends a digest of the password, with nonce and time, instead of its text.
    or DIGEST: bool = "digest", BOOLEAN, || false;
    /// Sends a `wsu:Timestamp` beside the token, whose `Expires` is so long after its `Created`: `"5m"`.
    get TIMESTAMP: Duration = "timestamp", SOME_DURATION;
    + password::FAMILY;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Wsse {
    username: String,
    pub password: Secret,
    digest: bool,
    /// How long a message is valid, where it says so.
    timestamp: Option<Duration>,
}

impl Wsse {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (username, password) = (table.need(&login::USERNAME), table.need(&password::PASSWORD));
        let (digest, timestamp) = (table.or(&wsse::DIGEST), table.get(&wsse::TIMESTAMP));
        Some(Self { username: username?, password: password?, digest, timestamp })
    }

    /// Puts the token into the envelope.
    pub fn put(&self, request: &mut Request, now: Timestamp) -> Result<(), Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|e| Error::Value(format!("no random bytes: {e}")))?;
        let block = self.block(&nonce, now);
        let body = request.body.as_deref().and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
        let none = || Error::Value("`auth.wsse` is for SOAP: the body is not an envelope".to_owned());
        request.body = Some(Bytes::from(with_header(body, &block).ok_or_else(none)?));
        Ok(())
    }

    fn block(&self, nonce: &[u8], now: Timestamp) -> String {
        let created = now.to_string();
        let timestamp = self.timestamp.map_or_else(String::new, |valid| {
            let expires = now.plus(valid);
            format!(
                "<wsu:Timestamp><wsu:Created>{created}</wsu:Created><wsu:Expires>{expires}</wsu:Expires></wsu:Timestamp>"
            )
        });
        let (kind, password) = if self.digest {
            // Base64(SHA-1(nonce + created + password)), section 3.1.
            let mut hasher = Sha1::new();
            hasher.update(nonce);
            hasher.update(created.as_bytes());
            hasher.update(self.password.expose().as_bytes());
            ("PasswordDigest", STANDARD.encode(hasher.finalize()))
        } else {
            ("PasswordText", self.password.expose().to_owned())
        };
        format!(
            "<wsse:Security xmlns:wsse=\"{SECEXT}\" xmlns:wsu=\"{UTILITY}\">{timestamp}<wsse:UsernameToken>\
             <wsse:Username>{}</wsse:Username><wsse:Password Type=\"{PROFILE}#{kind}\">{}</wsse:Password>\
             <wsse:Nonce EncodingType=\"{BASE64}\">{}</wsse:Nonce><wsu:Created>{created}</wsu:Created>\
             </wsse:UsernameToken></wsse:Security>",
            escape(&self.username),
            escape(&password),
            STANDARD.encode(nonce),
        )
    }
}

/// An envelope with a block in its Header, which is made where there is none; `None` when it is not an envelope.
pub fn with_header(envelope: &str, block: &str) -> Option<String> {
    let mut reader = Reader::from_str(envelope);
    let mut prefix = None;
    loop {
        let before = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let after = usize::try_from(reader.buffer_position()).ok()?;
        let (head, tail) = (envelope.get(..before)?, envelope.get(after..)?);
        match (&event, prefix) {
            (Event::Start(start), None) if start.local_name().as_ref() == "Envelope" => {
                let name = envelope.get(before + 1..)?.split("Envelope").next()?;
                prefix = Some(name);
            }
            (Event::Start(start), Some(_)) if start.local_name().as_ref() == "Header" => {
                return Some(format!("{}{block}{tail}", envelope.get(..after)?));
            }
            (Event::Empty(empty), Some(prefix)) if empty.local_name().as_ref() == "Header" => {
                return Some(format!("{head}<{prefix}Header>{block}</{prefix}Header>{tail}"));
            }
            (Event::Start(other) | Event::Empty(other), Some(prefix)) if other.local_name().as_ref() == "Body" => {
                let body = envelope.get(before..)?;
                return Some(format!("{head}<{prefix}Header>{block}</{prefix}Header>{body}"));
            }
            (Event::Start(_) | Event::Empty(_) | Event::Eof, _) => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_finds_the_header_of_any_envelope() {
        let cases = [
            (
                "<s:Envelope xmlns:s=\"u\"><s:Header a=\"b\"><x/></s:Header><s:Body/></s:Envelope>",
                "<s:Header a=\"b\">!<x/>",
            ),
            ("<?xml version=\"1.0\"?>\n<Envelope>\n <Header/>\n<Body/></Envelope>", "\n <Header>!</Header>\n<Body/>"),
            ("<s:Envelope><s:Body>Header</s:Body></s:Envelope>", "<s:Envelope><s:Header>!</s:Header><s:Body>"),
        ];
        for (envelope, expected) in cases {
            let made = with_header(envelope, "!").expect("an envelope");
            assert!(made.contains(expected), "{made}");
            assert_eq!(made.matches('!').count(), 1);
        }
        for none in ["", "<a><Header/></a>", "{}", "<Envelope><Other/></Envelope>"] {
            assert_eq!(with_header(none, "!"), None, "{none}");
        }
    }

    /// Made with Python's hashlib: base64(sha1(b"0123456789abcdef" + created + b"hunter2")).
    #[test]
    fn the_digest_is_of_nonce_time_and_password() {
        let wsse =
            Wsse { username: "a&b".into(), password: Secret::new("hunter2".into()), digest: true, timestamp: None };
        let at = Timestamp::parse("2026-11-23T04:05:06.000Z").expect("a time");
        let block = wsse.block(b"0123456789abcdef", at);
        assert!(!block.contains("wsu:Timestamp"), "{block}");
        let timed = Wsse { timestamp: Some(Duration::from_secs(300)), ..wsse.clone() }.block(b"0123456789abcdef", at);
        let timestamp = "<wsu:Timestamp><wsu:Created>2026-11-23T04:05:06.000Z</wsu:Created>\
                         <wsu:Expires>2026-11-23T04:10:06.000Z</wsu:Expires></wsu:Timestamp><wsse:UsernameToken>";
        assert!(timed.contains(timestamp), "{timed}");
        assert!(block.contains(">OgEp3OiI+DHl0dTdm5R/CqJLvKQ=<"), "{block}");
        assert!(block.contains("<wsse:Username>a&amp;b</wsse:Username>") && !block.contains("hunter2"), "{block}");
    }
}
