//! A request as a person types it, taken apart: what may stand in a file, and what is secret and may not.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::text::quoted;
use crate::settings::secret::PART_BYTES;

/// Parts of names under which secrets travel, in lower case.
const SECRET_WORDS: [&str; 12] = [
    "authorization",
    "token",
    "secret",
    "password",
    "passwd",
    "apikey",
    "api-key",
    "api_key",
    "app-key",
    "signature",
    "session",
    "cookie",
];
/// Whole names of the same kind.
const SECRET_NAMES: [&str; 6] = ["key", "appid", "auth", "sig", "pass", "pwd"];

/// What is asked for, where the person says nothing of it.
const ACCEPTED: &str = "application/json, */*;q=0.5";

/// What is asked, and with which credentials.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// Without anything secret.
    pub url: Url,
    /// Headers that are not secret.
    pub headers: Vec<(String, String)>,
    pub credentials: Vec<Credential>,
}

/// One secret of a request.
#[derive(Clone, PartialEq)]
pub struct Credential {
    pub place: Place,
    pub secret: String,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Bearer,
    /// The password of a user.
    Basic(String),
    Header(String),
    Query(String),
}

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// By the name of a variable.
    Env,
    /// As they are, for a file that is in memory only.
    Inline,
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str()) || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// How to give the credentials that a server asks for.
pub fn asked(challenge: Option<&str>) -> String {
    let scheme = challenge.and_then(|text| text.split_ascii_whitespace().next()).unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => {
            "its WWW-Authenticate says Basic: put user and password into the URL, https://USER:PASSWORD@...".into()
        }
        "digest" => "its WWW-Authenticate says Digest: write a bridge with `auth.digest`".into(),
        "bearer" => "its WWW-Authenticate says Bearer: add -H \"Authorization: Bearer TOKEN\"".into(),
        _ => "add -H \"Authorization: Bearer TOKEN\", or the header that its documents name".into(),
    }
}

impl Request {
    /// Of a URL and of headers as `Name: value`. An error shows no value.
    pub fn new(url: &str, headers: &[String]) -> Result<Self, String> {
        let mut url: Url = url.parse().map_err(|e| format!("the URL cannot be read: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{} is not a scheme that is polled by URL: http and https are", url.scheme()));
        }
        let mut credentials = Vec::new();
        if let Some(password) = url.password().map(decoded).or_else(|| (!url.username().is_empty()).then(String::new)) {
            credentials.push(Credential { place: Place::Basic(decoded(url.username())), secret: password });
        }
        // Both fail on URLs without a host alone, and http has one.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_fragment(None);
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let (secret, open): (Vec<_>, Vec<_>) = query.into_iter().partition(|(name, _)| is_secret(name));
        if !secret.is_empty() {
            put_query(&mut url, &open);
            let of = |(name, secret)| Credential { place: Place::Query(name), secret };
            credentials.extend(secret.into_iter().map(of));
        }
        let mut plain = Vec::new();
        for (at, header) in headers.iter().enumerate() {
            let wrong = || format!("-H number {} is not \"Name: value\"", at + 1);
            let (name, value) = header.split_once(':').ok_or_else(wrong)?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            let is_header = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(&value).is_ok();
            if !is_header {
                return Err(wrong());
            }
            if is_secret(&name) {
                credentials.push(credential(name, value));
            } else {
                plain.push((name, value));
            }
        }
        Ok(Self { url, headers: plain, credentials })
    }

    /// The URL without some parameters.
    pub fn url_without(&self, params: &[&str]) -> Url {
        let mut url = self.url.clone();
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let kept: Vec<(String, String)> =
            query.iter().filter(|(name, _)| !params.contains(&name.as_str())).cloned().collect();
        if kept.len() < query.len() {
            put_query(&mut url, &kept);
        }
        url
    }

    /// As it is sent, with everything secret.
    pub fn wire(&self) -> (Url, HeaderMap) {
        let mut url = self.url.clone();
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: String| {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
                headers.insert(name, value);
            }
        };
        put("accept", ACCEPTED.to_owned());
        self.headers.iter().for_each(|(name, value)| put(name, value.clone()));
        for Credential { place, secret } in &self.credentials {
            match place {
                Place::Bearer => put("authorization", format!("Bearer {secret}")),
                Place::Basic(user) => {
                    put("authorization", format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
                }
                Place::Header(name) => put(name, secret.clone()),
                Place::Query(name) => drop(url.query_pairs_mut().append_pair(name, secret)),
            }
        }
        (url, headers)
    }

    /// The keys of `source.http` that carry headers and credentials, a line each; `name` is the bridge's.
    pub fn lines(&self, name: &str, secrets: Secrets) -> Vec<String> {
        let mut out = Vec::new();
        if !self.headers.is_empty() {
            let pairs: Vec<String> =
                self.headers.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
            out.push(format!("headers = {{ {} }}", pairs.join(", ")));
        }
        let (mut in_headers, mut in_query) = (Vec::new(), Vec::new());
        for credential in &self.credentials {
            let secret = match secrets {
                Secrets::Env => format!("{{ env = {} }}", quoted(&credential.variable(name))),
                Secrets::Inline => format!("{{ value = {} }}", quoted(&credential.secret)),
            };
            match &credential.place {
                Place::Bearer => out.push(format!("auth.bearer.secret = {secret}")),
                Place::Basic(user) if credential.secret.is_empty() => {
                    out.push(format!("auth.basic = {{ username = {} }}", quoted(user)));
                }
                Place::Basic(user) => {
                    out.push(format!("auth.basic = {{ username = {}, password = {secret} }}", quoted(user)));
                }
                Place::Header(name) => in_headers.push(format!("{} = {secret}", key(name))),
                Place::Query(name) => in_query.push(format!("{} = {secret}", key(name))),
            }
        }
        for (kind, pairs) in [("headers", in_headers), ("query", in_query)] {
            if !pairs.is_empty() {
                out.push(format!("auth.{kind} = {{ {} }}", pairs.join(", ")));
            }
        }
        out
    }

    /// A text that a server had a part in, without the credentials, which it may echo.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.credentials.iter().map(|credential| &credential.secret);
        let secrets = secrets.filter(|secret| secret.len() >= PART_BYTES);
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// The variables that the file names.
    pub fn variables(&self, name: &str) -> Vec<String> {
        let has = |credential: &&Credential| !credential.secret.is_empty();
        self.credentials.iter().filter(has).map(|credential| credential.variable(name)).collect()
    }
}

impl Credential {
    /// The variable that holds it, named after the bridge.
    fn variable(&self, bridge: &str) -> String {
        let what = match &self.place {
            Place::Bearer => "token",
            Place::Basic(_) => "password",
            Place::Header(name) | Place::Query(name) => name,
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = format!("{bridge}_{what}").chars().map(plain).collect();
        // A variable's name begins with a letter.
        if name.starts_with(|c: char| c.is_ascii_digit()) { format!("API_{name}") } else { name }
    }
}

/// A key of an inline table.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.to_owned() } else { quoted(name) }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn put_query(url: &mut Url, pairs: &[(String, String)]) {
    url.set_query(None);
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
}

/// What a secret header holds.
fn credential(name: String, value: String) -> Credential {
    let scheme = value.split_once(' ').filter(|_| name == "authorization");
    match scheme.map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest.trim().to_owned())) {
        Some((scheme, token)) if scheme == "bearer" => Credential { place: Place::Bearer, secret: token },
        Some((scheme, pair)) if scheme == "basic" => {
            let pair = STANDARD.decode(&pair).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            match pair.as_deref().and_then(|pair| pair.split_once(':')) {
                Some((user, password)) => {
                    Credential { place: Place::Basic(user.to_owned()), secret: password.to_owned() }
                }
                None => Credential { place: Place::Header(name), secret: value },
            }
        }
        _ => Credential { place: Place::Header(name), secret: value },
    }
}

/// The name of a bridge over a URL: the last part of its path that is a word, or its host.
pub fn bridge_name(url: &Url) -> String {
    let words = url.path_segments().into_iter().flatten().rev();
    let plain = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default();
        let kept: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        kept.trim_matches('-').to_ascii_lowercase()
    };
    let is_name =
        |name: &String| name.len() > 1 && name.len() <= 40 && name.starts_with(|c: char| c.is_ascii_lowercase());
    let found = words.map(plain).find(|name| is_name(name) && name != "bellpull");
    let host = || plain(&url.host_str().unwrap_or_default().replace('.', "-"));
    found.or_else(|| Some(host()).filter(is_name)).unwrap_or_else(|| "source".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        for (url, headers, shown, lines) in [
            (
                "https://a.example/x?limit=5",
                vec!["Authorization: Bearer tok-123"],
                "https://a.example/x?limit=5",
                vec!["auth.bearer.secret = { env = \"ORDERS_TOKEN\" }"],
            ),
            (
                "https://me:s%40crt-pw@a.example/x#part",
                vec!["Accept: text/csv"],
                "https://a.example/x",
                vec![
                    "headers = { accept = \"text/csv\" }",
                    "auth.basic = { username = \"me\", password = { env = \"ORDERS_PASSWORD\" } }",
                ],
            ),
            (
                "https://a.example/x?q=a&api_key=k-123&appid=z-9",
                vec!["X-Api-Key: k-456"],
                "https://a.example/x?q=a",
                vec![
                    "auth.headers = { x-api-key = { env = \"ORDERS_X_API_KEY\" } }",
                    "auth.query = { api_key = { env = \"ORDERS_API_KEY\" }, appid = { env = \"ORDERS_APPID\" } }",
                ],
            ),
            (
                "http://a.example/",
                vec!["authorization: Basic bWU6cHctMTIz"],
                "http://a.example/",
                vec!["auth.basic = { username = \"me\", password = { env = \"ORDERS_PASSWORD\" } }"],
            ),
        ] {
            let headers: Vec<String> = headers.into_iter().map(str::to_owned).collect();
            let request = Request::new(url, &headers).unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!(request.url.as_str(), shown);
            assert_eq!(request.lines("orders", Secrets::Env), lines, "{url}");
            // Nothing secret is in what the file gets.
            let text = request.lines("orders", Secrets::Env).join("\n") + request.url.as_str();
            assert!(request.credentials.iter().all(|found| !text.contains(&found.secret)), "{text}");
        }
    }

    /// A server that shows what it was sent puts it into an error.
    #[test]
    fn an_echo_shows_no_credential() {
        let headers = ["Authorization: Bearer tok-123456".to_owned(), "X-Api-Key: short".to_owned()];
        let request = Request::new("https://me:p%40ss-word@a.example/", &headers).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(request.redact("tok-123456 p@ss-word short"), "*** *** short");
    }

    #[test]
    fn what_is_not_a_request_is_told_without_its_values() {
        for (url, header) in [
            ("ftp://a.example/", "a: b"),
            ("nothing", "a: b"),
            ("https://a.example/", "s3cret"),
            ("https://a.example/", "na me: s3cret"),
            ("https://a.example/", "name: s3cret\u{1}"),
        ] {
            let error = Request::new(url, &[header.to_owned()]).err().unwrap_or_else(|| panic!("{url} {header}"));
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_bridge_is_named_after_what_it_polls() {
        for (url, name) in [
            ("https://api.example.com/v1/orders?limit=5", "orders"),
            ("https://api.example.com/v1/orders/", "orders"),
            ("https://example.com/export/Price_List.csv", "price-list"),
            ("https://example.com/users/17", "users"),
            ("https://shop.example.com/", "shop-example-com"),
            ("http://127.0.0.1:9000/", "source"),
            ("https://example.com/bellpull", "example-com"),
        ] {
            assert_eq!(bridge_name(&url.parse().expect("a URL")), name, "{url}");
        }
    }
}
