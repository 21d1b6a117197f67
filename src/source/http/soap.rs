//! `source.soap`: one call of a SOAP 1.1 or 1.2 service. `body` is what stands in the envelope's Body, or a whole envelope;
//! the answer is read as XML. A Fault is an error, whatever the status.

use std::fmt;

use quick_xml::{Reader, escape::escape, events::Event};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::{Body, Source, answers};
use crate::{
    auth::wsse::with_header,
    decode::Decoder,
    http::target,
    settings::{
        Table,
        fingerprint::Fingerprint,
        key::keys,
        value::{VALUE, Value},
    },
    source::transport::{Over, Transport, headed, over_http},
};

/// What an answer may be; some services look.
pub const ACCEPT: &str = "text/xml, application/soap+xml, multipart/related;q=0.1";
/// SOAP 1.1, section 6.1.1.
const ACTION: HeaderName = HeaderName::from_static("soapaction");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// W3C Note of 8 May 2000.
    V11,
    /// W3C Recommendation of 27 April 2007.
    V12,
}

impl Version {
    fn namespace(self) -> &'static str {
        match self {
            Self::V11 => "http://schemas.xmlsoap.org/soap/envelope/",
            Self::V12 => "http://www.w3.org/2003/05/soap-envelope",
        }
    }
}

/// WS-Addressing 1.0.
const ADDRESSING: &str = "http://www.w3.org/2005/08/addressing";

/// What is sent.
#[derive(Clone, PartialEq)]
pub struct Envelope {
    version: Version,
    action: String,
    pub body: Value,
    /// With WS-Addressing's headers.
    addressing: bool,
}

/// As 0.1.0 printed it, which hashed this.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, action, body, addressing: _ } = self;
        f.debug_struct("Envelope").field("version", version).field("action", action).field("body", body).finish()
    }
}

impl Envelope {
    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("soap.body", &self.body);
        text.put("action", self.action.as_str());
        if self.version == Version::V12 {
            text.put("version", "1.2");
        }
    }
}

const VERSIONS: [(&str, Version); 2] = [("1.1", Version::V11), ("1.2", Version::V12)];

keys! {
    /// A call of a SOAP service.
    mod soap;
    /// Where it is sent: a value; `http` or `https`, without user and password.
    need URL: Value = "url", target::URL, "url = \"https://bank.example.com/service\"";
    /// A value: the content of the envelope's Body, or a whole Envelope, which is sent as it is.
    need BODY: Value = "body", VALUE, "body = '<GetOrders xmlns=\"urn:example\"/>'";
    /// 1.1 sends `SOAPAction`, `"1.2"` puts the action into the content type.
    or VERSION: Version = "version", Form::words(&VERSIONS), || Version::V11;
    /// The action.
    or ACTION: String = "action", TEXT, String::new;
    /// Elements that are always arrays; short for `decode.xml.lists`, and not allowed together with `decode`.
    or LISTS: Vec<String> = "lists", TEXTS, Vec::new;
    /// `true`: sends WS-Addressing's headers: `Action`, `To` (the URL), a `MessageID`, and `ReplyTo` as anonymous.
    or ADDRESSING: bool = "addressing", BOOLEAN, || false;
    + answers::FAMILY;
    + over_http::FAMILY;
}

/// Reads `[bridge.NAME.source.soap]`.
pub fn read(mut table: Table<'_>) -> Option<Source> {
    let (url, body) = (table.need(&soap::URL), table.need(&soap::BODY));
    let (action, version) = (table.or(&soap::ACTION), table.or(&soap::VERSION));
    let (lists_named, lists) = (table.has(&soap::LISTS), table.or(&soap::LISTS));
    let addressing = table.item(&soap::ADDRESSING).and_then(|item| {
        let addressing = soap::ADDRESSING.read(&item)?;
        if addressing && action.is_empty() {
            item.error(format!("`{}` sends `action`, which is missing in {}", item.path, table.title()))
                .help("write action = \"urn:example/GetOrders\", as the service's WSDL has it".into())
                .report();
        }
        Some(addressing)
    });
    let decode_place = table.key_place(&answers::DECODE);
    let (decode, fail) = (table.get(&answers::DECODE), table.get(&answers::FAIL));
    if let (Some(place), true) = (decode_place, lists_named) {
        let message = format!("`decode` stands beside `lists` in {}", table.title());
        table.error_at(place, message).help("write decode.xml.lists".into()).report();
    }
    let transport = Transport::read(&mut table, &headed::HEADERS, Over::Http);
    table.finish();
    let addressing = addressing.unwrap_or(soap::ADDRESSING.default());
    let body = Body::Soap(Envelope { version, action, body: body?, addressing });
    let decode = decode.unwrap_or_else(|| Decoder::soap(lists.into_iter().collect()));
    Some(Source::post(url?, body, Some(decode), fail, transport))
}

impl Envelope {
    /// The whole message to a URL around a body; one that is an envelope already gets no other one.
    pub fn message(&self, body: &str, url: &str) -> Result<String, String> {
        let text = self.text(body);
        if !self.addressing {
            return Ok(text);
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| format!("no random bytes: {e}"))?;
        let block = self.addressed(url, random);
        with_header(&text, &block).ok_or_else(|| "`addressing`: `body` is not an envelope".to_owned())
    }

    fn addressed(&self, url: &str, random: [u8; 16]) -> String {
        // RFC 9562, section 5.4: version 4 and its variant.
        let id = u128::from_be_bytes(random) & !(0xf000_c000 << 48) | (0x4000_8000 << 48);
        let id = format!("{id:032x}");
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| id.get(range).unwrap_or_default());
        format!(
            "<wsa:Action xmlns:wsa=\"{ADDRESSING}\">{}</wsa:Action><wsa:To xmlns:wsa=\"{ADDRESSING}\">{}</wsa:To>\
             <wsa:MessageID xmlns:wsa=\"{ADDRESSING}\">urn:uuid:{}</wsa:MessageID>\
             <wsa:ReplyTo xmlns:wsa=\"{ADDRESSING}\"><wsa:Address>{ADDRESSING}/anonymous</wsa:Address></wsa:ReplyTo>",
            escape(&self.action),
            escape(url),
            parts.join("-"),
        )
    }

    fn text(&self, body: &str) -> String {
        if is_envelope(body) {
            return body.to_owned();
        }
        let namespace = self.version.namespace();
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<soap:Envelope xmlns:soap=\"{namespace}\"><soap:Header></soap:Header>\
             <soap:Body>{body}</soap:Body></soap:Envelope>"
        )
    }

    /// Puts the action where the version has it, and gives the content type.
    pub fn put_headers(&self, headers: &mut HeaderMap) -> Result<HeaderValue, String> {
        let wrong = |_| "`action` holds a character that no header can".to_owned();
        match self.version {
            Version::V11 => {
                let action = HeaderValue::from_str(&format!("\"{}\"", self.action)).map_err(wrong)?;
                headers.insert(ACTION, action);
                Ok(HeaderValue::from_static("text/xml; charset=utf-8"))
            }
            Version::V12 if self.action.is_empty() => {
                Ok(HeaderValue::from_static("application/soap+xml; charset=utf-8"))
            }
            // RFC 3902: the action is a parameter of the type.
            Version::V12 => {
                let kind = format!("application/soap+xml; charset=utf-8; action=\"{}\"", self.action);
                HeaderValue::from_str(&kind).map_err(wrong)
            }
        }
    }
}

/// Whether the first element is an Envelope.
fn is_envelope(body: &str) -> bool {
    let mut reader = Reader::from_str(body);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => return start.local_name().as_ref() == "Envelope",
            Ok(Event::Eof | Event::Empty(_)) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// A child by its local name, whatever its prefix; of several the first.
fn child<'a>(parent: &'a Json, name: &str) -> Option<&'a Json> {
    let known = |(key, _): &(&String, &Json)| local(key) == name;
    let found = parent.as_object()?.iter().find(known)?.1;
    if let Json::Array(all) = found { all.first() } else { Some(found) }
}

/// Codes of a Fault that say that a session or a token is over: Salesforce's, those of WS-Security (SOAP Message
/// Security 1.1, section 12), of WS-Trust and of WS-SecureConversation. Sabre writes its code behind `Client.`.
const REFUSALS: [&str; 6] = [
    "INVALID_SESSION_ID",
    "FailedAuthentication",
    "InvalidSecurityToken",
    "SecurityTokenUnavailable",
    "ExpiredData",
    "BadContextToken",
];

/// Whether a Fault refuses the token that was sent.
pub fn refuses(document: &[u8]) -> bool {
    let Some(document) = serde_json::from_slice::<Json>(document).ok() else { return false };
    let Some(fault) = fault_in(&document) else { return false };
    let codes = [
        &["faultcode"][..],
        &["Code", "Value"],
        &["Code", "Subcode", "Value"],
        &["Code", "Subcode", "Subcode", "Value"],
    ];
    let codes = codes.into_iter().filter_map(|path| text_at(fault, path));
    codes.into_iter().any(|code| code.rsplit([':', '.']).next().is_some_and(|word| REFUSALS.contains(&word.trim())))
}

fn fault_in(document: &Json) -> Option<&Json> {
    child(child(child(document, "Envelope")?, "Body")?, "Fault")
}

/// The text of an element further down.
fn text_at<'a>(fault: &'a Json, path: &[&str]) -> Option<&'a str> {
    let found = path.iter().try_fold(fault, |at, name| child(at, name))?;
    found.as_str().or_else(|| found.get("#text")?.as_str())
}

/// What a detail says: each text with the name of its element.
fn detail(of: &Json, told: &mut Vec<String>) {
    for (name, value) in of.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('@')) {
        let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in all {
            let text = value.as_str().or_else(|| value.get("#text")?.as_str()).map(str::trim).unwrap_or_default();
            let is_own = name == "#text";
            if !text.is_empty() {
                told.push(if is_own { text.to_owned() } else { format!("{}: {text}", local(name)) });
            }
            if !is_own && value.get("#text").is_none() {
                detail(value, told);
            }
        }
    }
}

/// What a Fault says: `faultcode`, `faultstring` and `detail` in 1.1, `Code`, `Reason` and `Detail` in 1.2. A message
/// quotes its beginning.
pub fn fault(document: &[u8]) -> Option<String> {
    let document: Json = serde_json::from_slice(document).ok()?;
    let fault = fault_in(&document)?;
    let text = |path: &[&str]| text_at(fault, path);
    let code = text(&["faultcode"]).or_else(|| text(&["Code", "Value"]));
    let reason = text(&["faultstring"]).or_else(|| text(&["Reason", "Text"]));
    let told: Vec<&str> = code.into_iter().chain(reason).filter(|text| !text.is_empty()).collect();
    let told = if told.is_empty() { "a Fault without a reason".into() } else { told.join(": ") };
    let mut details = Vec::new();
    match child(fault, "detail").or_else(|| child(fault, "Detail")) {
        Some(Json::String(text)) if !text.is_empty() => details.push(text.clone()),
        Some(found) => detail(found, &mut details),
        None => {}
    }
    Some(if details.is_empty() { told } else { format!("{told} ({})", details.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_refuses_a_token_by_its_code() {
        let of_1_1 = |code: &str| format!(r#"{{"Envelope":{{"Body":{{"Fault":{{"faultcode":{code}}}}}}}}}"#);
        let of_1_2 = |code: &str| format!(r#"{{"Envelope":{{"Body":{{"Fault":{{"Code":{code}}}}}}}}}"#);
        for (document, expected) in [
            (of_1_1(r#""sf:INVALID_SESSION_ID""#), true),
            (of_1_1(r#""INVALID_SESSION_ID""#), true),
            (of_1_1(r#""soap-env:Client.InvalidSecurityToken""#), true),
            (of_1_1(r##"{"@xmlns":"urn:a","#text":"wsse:FailedAuthentication"}"##), true),
            (of_1_2(r#"{"Value":"s:Sender","Subcode":{"Value":"wsse:InvalidSecurityToken"}}"#), true),
            (
                of_1_2(r#"{"Value":"s:Sender","Subcode":{"Value":"a:b","Subcode":{"Value":"wsc:BadContextToken"}}}"#),
                true,
            ),
            (of_1_1(r#""soap:Server""#), false),
            (of_1_1(r#""soap:INVALID_SESSION_IDS""#), false),
            (of_1_2(r#"{"Value":"s:Sender","Subcode":{"Value":"wsse:FailedCheck"}}"#), false),
            (r#"{"Envelope":{"Body":{"faultcode":"INVALID_SESSION_ID"}}}"#.into(), false),
            ("no JSON".into(), false),
        ] {
            assert_eq!(refuses(document.as_bytes()), expected, "{document}");
        }
    }

    #[test]
    fn faults_of_both_versions() {
        let cases = [
            (r#"{"Envelope":{"Body":{"Orders":""}}}"#, None),
            (
                r#"{"Envelope":{"Body":{"Fault":{"faultcode":"soap:Server","faultstring":"down","detail":{"x":"y"}}}}}"#,
                Some("soap:Server: down (x: y)"),
            ),
            (
                r##"{"Envelope":{"Body":{"Fault":{"Code":{"Value":"env:Sender"},"Reason":{"Text":{"@lang":"en","#text":"who?"}}}}}}"##,
                Some("env:Sender: who?"),
            ),
            (r#"{"S:Envelope":{"S:Body":[{"S:Fault":{"faultstring":"x"}}]}}"#, Some("x")),
            (r#"{"Envelope":{"Body":{"Fault":""}}}"#, Some("a Fault without a reason")),
            (r#"{"Envelope":{"Body":{"Fault":{"faultstring":"x","detail":""}}}}"#, Some("x")),
            (r#"{"Envelope":{"Body":{"Fault":{"faultstring":"x","detail":"why"}}}}"#, Some("x (why)")),
            (
                r##"{"E:Envelope":{"E:Body":{"E:Fault":{"E:Reason":{"E:Text":"x"},"E:Detail":{"@a":"b","v:Errors":{"v:Error":[{"v:field":"iban"},{"@n":"1","#text":"too long"}]}}}}}}"##,
                Some("x (field: iban, Error: too long)"),
            ),
            ("[1]", None),
        ];
        for (document, expected) in cases {
            assert_eq!(fault(document.as_bytes()).as_deref(), expected, "{document}");
        }
    }

    #[test]
    fn addressing_says_what_is_asked_and_where() {
        let action = "urn:a&b".to_owned();
        let envelope =
            Envelope { version: Version::V11, action, body: Value::Literal(String::new()), addressing: true };
        let block = envelope.addressed("https://example.com/s?a=1&b=2", [0xff; 16]);
        assert!(
            block.contains(">urn:a&amp;b</wsa:Action>")
                && block.contains(">https://example.com/s?a=1&amp;b=2</wsa:To>")
        );
        assert!(block.contains(">urn:uuid:ffffffff-ffff-4fff-bfff-ffffffffffff<"), "{block}");
        assert!(envelope.addressed("x", [0; 16]).contains(">urn:uuid:00000000-0000-4000-8000-000000000000<"));
        for body in ["<a/>", "<s:Envelope xmlns:s='urn:s'><s:Header><own/></s:Header><s:Body/></s:Envelope>"] {
            let [one, two] = [0, 1].map(|_| envelope.message(body, "https://example.com/").expect("a message"));
            assert!(one.contains("Header><wsa:Action") && one != two, "{one}");
        }
    }

    #[test]
    fn a_body_is_wrapped_and_an_envelope_is_not() {
        let envelope = |version| Envelope {
            version,
            action: "urn:a".into(),
            body: Value::Literal(String::new()),
            addressing: false,
        };
        assert_eq!(
            format!("{:?}", envelope(Version::V11)),
            "Envelope { version: V11, action: \"urn:a\", body: Literal(\"\") }"
        );
        let text = envelope(Version::V12).text("<a/>");
        assert!(text.contains("<soap:Body><a/></soap:Body>") && text.contains("2003/05/soap-envelope"), "{text}");
        let own = "<?xml version=\"1.0\"?><!-- x --><s:Envelope xmlns:s=\"urn:s\"><s:Body/></s:Envelope>";
        assert_eq!(envelope(Version::V11).text(own), own);
        let mut headers = HeaderMap::new();
        let kind = envelope(Version::V11).put_headers(&mut headers).expect("a header");
        assert_eq!(
            (kind.to_str().expect("text"), headers.get("soapaction").expect("one").to_str().expect("text")),
            ("text/xml; charset=utf-8", "\"urn:a\"")
        );
        let kind = envelope(Version::V12).put_headers(&mut headers).expect("a header");
        assert_eq!(kind.to_str().expect("text"), "application/soap+xml; charset=utf-8; action=\"urn:a\"");
    }
}
