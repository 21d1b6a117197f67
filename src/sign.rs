//! Signatures of what is sent, in the shapes that receivers already verify. Pure.
//!
//! Several kinds stand side by side in one request; each has its own headers, and `standard` and `ed25519` share
//! `webhook-signature`. It never decides what is signed: `deliver` hands it the bytes as they go out.

mod ed25519;
mod standard;
mod vendor;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    model::Timestamp,
    settings::{
        Item, Table,
        key::{Get, Need, keys},
        secret::{Secret, signing_secret},
    },
};
pub use ed25519::{Key as Ed25519Key, make_key};
pub use standard::{Key, Refusal, TOLERANCE_SECONDS, make_secret};

type Read = fn(&mut Table<'_>) -> Option<Scheme>;

/// Characters of a secret whose kind prescribes no length.
const SECRET_CHARS_MIN: usize = 16;
/// In the order of the headers.
static KINDS: [(&Get<()>, Read); 9] = [
    (&sign::STANDARD, |table| {
        Keys::read(table, &secrets::SECRETS, 0, Key::parse, Key::unresolved).map(Scheme::Standard)
    }),
    (&sign::ED25519, |table| {
        Keys::read(table, &ed25519_keys::KEYS, 0, Ed25519Key::parse, Ed25519Key::unresolved).map(Scheme::Ed25519)
    }),
    (&sign::GITHUB, |table| read_secrets(table).map(Scheme::Github)),
    (&sign::STRIPE, |table| read_secrets(table).map(Scheme::Stripe)),
    (&sign::SHOPIFY, |table| read_secrets(table).map(Scheme::Shopify)),
    (&sign::SLACK, |table| read_secrets(table).map(Scheme::Slack)),
    (&sign::DINGTALK, |table| read_secrets(table).map(Scheme::Dingtalk)),
    (&sign::FEISHU, |table| read_secrets(table).map(Scheme::Feishu)),
    (&sign::HMAC, |table| {
        let (keys, own) = (read_secrets(table), vendor::Own::read(table));
        keys.zip(own).map(|(keys, own)| Scheme::Hmac(keys, own))
    }),
];

keys! {
    /// How requests are signed, by any number of kinds: [Signatures](receiving.md#signatures).
    mod sign: Rule::Some;
    /// Standard Webhooks, with a shared secret.
    get STANDARD: () = "standard", Form::raw(Shape::Table(&secrets::FAMILY));
    /// Standard Webhooks, with a key pair.
    get ED25519: () = "ed25519", Form::raw(Shape::Table(&ed25519_keys::FAMILY));
    /// As GitHub.
    get GITHUB: () = "github", Form::raw(Shape::Table(&secrets::FAMILY));
    /// As Stripe.
    get STRIPE: () = "stripe", Form::raw(Shape::Table(&secrets::FAMILY));
    /// As Shopify.
    get SHOPIFY: () = "shopify", Form::raw(Shape::Table(&secrets::FAMILY));
    /// As Slack.
    get SLACK: () = "slack", Form::raw(Shape::Table(&secrets::FAMILY));
    /// For a DingTalk robot: `timestamp` (milliseconds) and `sign` in the query, the HMAC-SHA256 of `timestamp\nsecret` under the
    /// secret. It does not cover the body.
    get DINGTALK: () = "dingtalk", Form::raw(Shape::Table(&secrets::FAMILY));
    /// For a Feishu or Lark robot: `timestamp` (seconds) and `sign` in the body, which must be a JSON object; the HMAC-SHA256 of
    /// nothing under `timestamp\nsecret`. Other kinds beside it sign the body with these fields.
    get FEISHU: () = "feishu", Form::raw(Shape::Table(&secrets::FAMILY));
    /// HMAC in a header of your own.
    get HMAC: () = "hmac", Form::raw(Shape::Table(&vendor::hmac::FAMILY));
}

keys! {
    /// Secrets that sign.
    mod secrets;
    /// Secrets; each may have an `until`, a time from which it does not sign, and one of them has none.
    need SECRETS: () = "secrets", Form::raw(Shape::Some(&Shape::Table(&signing_secret::FAMILY))),
        "secrets = [{ env = \"SECRET\" }]";
}

keys! {
    /// Keys that sign.
    mod ed25519_keys;
    /// Private keys `whsk_...`, secrets; each may have an `until`, a time from which it does not sign, and one of them has none.
    need KEYS: () = "keys", Form::raw(Shape::Some(&Shape::Table(&signing_secret::FAMILY))),
        "keys = [{ env = \"SECRET\" }]";
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// Of this attempt.
    pub at: Timestamp,
    /// The event's type.
    pub kind: &'a str,
    pub body: &'a [u8],
}

/// `sign` of an endpoint: every kind that it names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signer {
    schemes: Vec<Scheme>,
}

#[derive(Debug, Clone, PartialEq)]
enum Scheme {
    Standard(Keys<Key>),
    Ed25519(Keys<Ed25519Key>),
    Github(Keys<Secret>),
    Stripe(Keys<Secret>),
    Shopify(Keys<Secret>),
    Slack(Keys<Secret>),
    Dingtalk(Keys<Secret>),
    Feishu(Keys<Secret>),
    Hmac(Keys<Secret>, vendor::Own),
}

/// Keys in the order of the file. One at least never expires.
#[derive(Debug, Clone, PartialEq)]
struct Keys<K>(Vec<Dated<K>>);

#[derive(Debug, Clone, PartialEq)]
struct Dated<K> {
    key: K,
    /// From then on it does not sign.
    until: Option<Timestamp>,
}

impl<K> Keys<K> {
    /// Those that sign at a time.
    fn valid(&self, at: Timestamp) -> impl Iterator<Item = &K> {
        self.0.iter().filter(move |dated| dated.until.is_none_or(|until| at < until)).map(|dated| &dated.key)
    }

    /// The one that signs where there is room for one signature.
    fn first(&self, at: Timestamp) -> &K {
        self.valid(at).next().expect("one key at least never expires")
    }

    /// Reads a list of keys; one under `chars_min` is warned of. `parse` checks a text once it is known; `unresolved` stands for it until then.
    fn read(
        table: &mut Table<'_>,
        key: &Need<()>,
        chars_min: usize,
        parse: impl Fn(&str) -> Result<K, String>,
        unresolved: impl Fn() -> K,
    ) -> Option<Self> {
        let list = table.need_item(key)?;
        let all = list.items()?;
        if all.is_empty() {
            list.error(format!("`{}` is empty", list.path)).help("`bellpull secret` makes one".into()).report();
            return None;
        }
        let dated: Vec<Option<Dated<K>>> =
            all.iter().map(|item| Dated::read(item, chars_min, &parse, &unresolved)).collect();
        let dated: Vec<Dated<K>> = dated.into_iter().collect::<Option<_>>()?;
        if dated.iter().all(|dated| dated.until.is_some()) {
            list.error(format!(
                "every secret of `{}` has an `until`: after the last one nothing would be signed",
                list.path
            ))
            .help("leave `until` out of the one that stays".into())
            .report();
            return None;
        }
        Some(Self(dated))
    }
}

impl<K> Dated<K> {
    fn read(
        item: &Item<'_>,
        chars_min: usize,
        parse: &impl Fn(&str) -> Result<K, String>,
        unresolved: &impl Fn() -> K,
    ) -> Option<Self> {
        let (secret, until) = item.secret_until()?;
        item.warn_short(&secret, chars_min, "guessed from one request that it signed");
        let until = match until {
            None => None,
            Some(until) => Some(until.parse_text(Timestamp::parse, "a time such as \"2026-12-31T00:00:00Z\"")?),
        };
        let key = if item.resolved(&secret) { parse(secret.expose()) } else { Ok(unresolved()) };
        key.map(|key| Self { key, until }).map_err(|e| item.error(format!("`{}`: {e}", item.path)).report()).ok()
    }
}

impl Signer {
    /// Reads `sign.KIND`, any number of them.
    pub fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let schemes = table.read_each(&KINDS);
        if schemes.is_empty() && table.is_empty() {
            let list = KINDS.map(|(kind, _)| format!("`{}`", kind.name)).join(", ");
            table.error(format!("{} names no kind", table.title())).help(format!("one of {list}")).report();
        }
        table.finish();
        let schemes: Vec<Scheme> = schemes.into_iter().collect::<Option<_>>()?;
        Some(Self { schemes })
    }

    /// The body of one attempt, where a signature is a part of it. The others sign what it gives.
    pub fn body(&self, message: &Message<'_>) -> Result<Option<Vec<u8>>, String> {
        let keys = self.schemes.iter().find_map(|scheme| match scheme {
            Scheme::Feishu(keys) => Some(keys),
            _ => None,
        });
        keys.map(|keys| vendor::feishu(keys.first(message.at), message)).transpose()
    }

    /// The parameters of one attempt, where a signature is in the query.
    pub fn query(&self, message: &Message<'_>) -> impl Iterator<Item = (&'static str, String)> {
        let of = |scheme: &Scheme| match scheme {
            Scheme::Dingtalk(keys) => Some(vendor::dingtalk(keys.first(message.at), message)),
            _ => None,
        };
        self.schemes.iter().filter_map(of).flatten()
    }

    /// The headers of one attempt, beside `webhook-id` and `webhook-timestamp`.
    pub fn sign(&self, message: &Message<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut standard = Vec::new();
        let mut set = |name: HeaderName, value: String| {
            // A type or an id holds nothing that a header cannot; what does is left out.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        let (id, at, body) = (message.id, message.at, message.body);
        for scheme in &self.schemes {
            match scheme {
                Scheme::Standard(keys) => standard.extend(keys.valid(at).map(|key| key.sign(id, at.seconds(), body))),
                Scheme::Ed25519(keys) => standard.extend(keys.valid(at).map(|key| key.sign(id, at.seconds(), body))),
                Scheme::Github(keys) => {
                    set(HeaderName::from_static("x-hub-signature-256"), vendor::github(keys.first(at), message));
                    set(HeaderName::from_static("x-github-event"), message.kind.to_owned());
                    set(HeaderName::from_static("x-github-delivery"), id.to_owned());
                }
                Scheme::Stripe(keys) => {
                    set(HeaderName::from_static("stripe-signature"), vendor::stripe(keys.valid(at), message));
                }
                Scheme::Shopify(keys) => {
                    set(HeaderName::from_static("x-shopify-hmac-sha256"), vendor::shopify(keys.first(at), message));
                }
                Scheme::Slack(keys) => {
                    set(HeaderName::from_static("x-slack-signature"), vendor::slack(keys.first(at), message));
                    set(HeaderName::from_static("x-slack-request-timestamp"), at.seconds().to_string());
                }
                // Those are in the query and in the body.
                Scheme::Dingtalk(_) | Scheme::Feishu(_) => {}
                Scheme::Hmac(keys, own) => own.sign(keys.first(at), message).for_each(|(name, value)| set(name, value)),
            }
        }
        if !standard.is_empty() {
            set(HeaderName::from_static("webhook-signature"), standard.join(" "));
        }
        headers
    }
}

/// Secrets of which every text is one.
fn read_secrets(table: &mut Table<'_>) -> Option<Keys<Secret>> {
    let unresolved = || Secret::new("unresolved".into());
    Keys::read(table, &secrets::SECRETS, SECRET_CHARS_MIN, |text| Ok(Secret::new(text.to_owned())), unresolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{
        Context,
        diagnostic::Place,
        key::{Form, Get},
    };

    fn read(text: &str) -> Result<Signer, Vec<String>> {
        let (table, _) = toml::de::DeTable::parse_recoverable(text);
        let context = Context::new(true);
        let mut table = Table::new(&context, String::new(), Place { file: 0, span: 0..0 }, table.get_ref());
        static SIGN: Get<Signer> = Get::get("", "sign", Form::table(&sign::FAMILY, Signer::read));
        let signer = table.get(&SIGN);
        let found = context.into_diagnostics();
        let errors = found.into_iter().filter(|d| d.severity == crate::settings::diagnostic::Severity::Error);
        let errors: Vec<String> = errors.map(|d| d.message).collect();
        signer.filter(|_| errors.is_empty()).ok_or(errors)
    }

    fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
        headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// Vectors that were made, or checked, with the vendors' own libraries.
    #[test]
    fn vectors() {
        let text = include_str!("../tests/data/signatures.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(text).expect("JSON");
        for vector in &vectors {
            let text = |key: &str| vector[key].as_str().unwrap_or_default();
            let (kind, secret) = (text("kind"), text("secret"));
            let list = if kind == "ed25519" { "keys" } else { "secrets" };
            let signer = read(&format!("sign.{kind}.{list} = [{{ value = {secret:?} }}]")).expect(kind);
            let at = Timestamp(vector["timestamp"].as_i64().unwrap_or_default() * 1000);
            let message = Message { id: text("id"), at, kind: "a.created", body: text("body").as_bytes() };
            assert_eq!(header(&signer.sign(&message), text("header")), text("value"), "{kind}");
            if kind == "ed25519" {
                assert_eq!(Ed25519Key::parse(secret).expect("a key").public(), text("public"));
            }
        }
        assert_eq!(vectors.len(), 8);
    }

    #[test]
    fn kinds_stand_side_by_side_and_tokens_of_standard_come_first() {
        let (secret, key) = (make_secret(), make_key());
        let text = format!(
            "[sign]\ned25519.keys = [{{ value = {key:?} }}]\nstandard.secrets = [{{ value = {secret:?} }}]\n\
             github.secrets = [{{ value = \"g\" }}]\nslack.secrets = [{{ value = \"s\" }}]"
        );
        let message = Message { id: "evt_1", at: Timestamp(5_000), kind: "orders.created", body: b"{}" };
        let headers = read(&text).expect("it is right").sign(&message);
        let tokens: Vec<&str> = header(&headers, "webhook-signature").split(' ').collect();
        assert_eq!(
            tokens.iter().map(|t| t.split_once(',').map(|(v, _)| v)).collect::<Vec<_>>(),
            [Some("v1"), Some("v1a")]
        );
        assert_eq!(header(&headers, "x-github-event"), "orders.created");
        assert_eq!(header(&headers, "x-github-delivery"), "evt_1");
        assert_eq!(header(&headers, "x-slack-request-timestamp"), "5");
        assert_eq!(headers.len(), 6);
    }

    /// The expected values are of `openssl dgst -sha256 -hmac topsecret`.
    #[test]
    fn hmac_signs_over_what_it_is_told() {
        let signer = read(
            "sign.hmac = { secrets = [{ value = \"topsecret\" }], header = \"X-Sig\", prefix = \"sha256=\", over = \"{id}:{timestamp}:{body}!\" }",
        );
        let message =
            Message { id: "evt_1", at: Timestamp(1_614_265_330_000), kind: "", body: b"{\"test\": 2432232314}" };
        let headers = signer.expect("it is right").sign(&message);
        assert_eq!(
            header(&headers, "x-sig"),
            "sha256=345f9b632cbcae47265e5456f3d49f2619d66c880018f6a71489268673c2790f"
        );
        let signer =
            read("sign.hmac = { secrets = [{ value = \"topsecret\" }], header = \"X-Sig\", encoding = \"base64\" }");
        assert_eq!(
            header(&signer.expect("it is right").sign(&message), "x-sig"),
            "ZwHtiROeSCCU+hshBti8hpqQvcbVbLTiD1DmFV082vU="
        );
    }

    /// Grafana's form had a time in its header that another reading of the clock made, and `prefix` sent its braces.
    #[test]
    fn forms_that_receivers_already_check() {
        let message = Message { id: "evt_1", at: Timestamp(1_614_265_330_000), kind: "", body: b"{}" };
        let signed = |lines: &str| {
            let text =
                format!("sign.hmac = {{ secrets = [{{ value = \"topsecret\" }}], header = \"X-Sig\", {lines} }}");
            read(&text).map(|signer| signer.sign(&message))
        };
        let grafana = signed("timestamp-header = \"X-Ts\", over = \"{timestamp}:{body}\"").expect("it is right");
        assert_eq!(header(&grafana, "x-ts"), "1614265330");
        let stripe = signed("prefix = \"t={timestamp},id={id},v1=\"").expect("it is right");
        assert!(header(&stripe, "x-sig").starts_with("t=1614265330,id=evt_1,v1="));
        for (algorithm, length) in [("sha1", 40), ("sha256", 64), ("sha512", 128)] {
            let headers = signed(&format!("algorithm = {algorithm:?}")).expect("it is right");
            assert_eq!(header(&headers, "x-sig").len(), length, "{algorithm}");
        }
        for wrong in [
            "prefix = \"{body}\"",
            "prefix = \"t={time}\"",
            "algorithm = \"md5\"",
            "timestamp-header = \"webhook-timestamp\"",
        ] {
            assert!(signed(wrong).is_err(), "{wrong}");
        }
    }

    /// The expected values are of Python's `hmac`, after the vendors' formulas.
    #[test]
    fn robots_that_sign_their_time() {
        let body = br#"{"msg_type":"text","n":1.10}"#;
        let message = Message { id: "evt_1", at: Timestamp(1_614_265_330_123), kind: "", body };
        let ding = read("sign.dingtalk.secrets = [{ value = \"SECtopsecret\" }]").expect("it is right");
        let query: Vec<(&str, String)> = ding.query(&message).collect();
        assert_eq!(
            query,
            [
                ("timestamp", "1614265330123".to_owned()),
                ("sign", "SA7H/Idfb7uf7ZlqCm8Dd5PVhLOY4yGiuIdfquBD538=".to_owned())
            ]
        );
        assert_eq!((ding.sign(&message).len(), ding.body(&message)), (0, Ok(None)));
        let feishu = read("sign.feishu.secrets = [{ value = \"topsecret\" }]").expect("it is right");
        let sent = feishu.body(&message).expect("an object").map(|body| String::from_utf8_lossy(&body).into_owned());
        let expected = r#"{"msg_type":"text","n":1.10,"sign":"Uk3t9jhEi12CfVTMpE/SMV68BOgixX5w94fLMOOFGyg=","timestamp":"1614265330"}"#;
        assert_eq!(sent.as_deref(), Some(expected));
        assert!(feishu.body(&Message { body: b"[1]", ..message }).is_err());
    }

    #[test]
    fn a_secret_ends_at_its_time_and_one_stays() {
        let text = "sign.stripe.secrets = [{ value = \"old\", until = \"1970-01-01T00:00:10Z\" }, { value = \"new\" }]\n\
                    sign.github.secrets = [{ value = \"old\", until = \"1970-01-01T00:00:10Z\" }, { value = \"new\" }]";
        let signer = read(text).expect("it is right");
        let at = |ms| signer.sign(&Message { id: "evt_1", at: Timestamp(ms), kind: "", body: b"{}" });
        assert_eq!(header(&at(9_999), "stripe-signature").matches("v1=").count(), 2);
        assert_eq!(header(&at(10_000), "stripe-signature").matches("v1=").count(), 1);
        assert_ne!(header(&at(9_999), "x-hub-signature-256"), header(&at(10_000), "x-hub-signature-256"));
        let ending = read("sign.slack.secrets = [{ value = \"old\", until = \"2026-12-31T00:00:00Z\" }]");
        assert!(ending.expect_err("none stays")[0].contains("nothing would be signed"));
    }
}
