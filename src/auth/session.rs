//! `auth.session`: a login by a request of the file's own, and its token in a header, the query, a cookie or the body of what
//! is asked then.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE},
};
use serde_json::Value as Json;
use url::Url;

use super::{Error, With, header, refusal, request, vault};
use crate::{
    compute::compute,
    decode::{self, Page},
    expr::Expr,
    http::{
        self, Request, origin,
        place::set_parameter,
        target::{self, HTTP, check_url, read_header_name},
    },
    model::Hash,
    settings::{
        Item, Table,
        key::{Get, keys},
        secret::Secret,
        value::Value,
    },
};
use vault::Token;

/// Below the hour after which most servers forget a session.
const EXPIRES: Duration = Duration::from_secs(50 * 60);
/// The nesting of a login's answer.
const DEPTH_MAX: usize = 64;

const METHODS: [(&str, Method); 3] = [("POST", Method::POST), ("GET", Method::GET), ("PUT", Method::PUT)];

keys! {
    /// A login that the file describes.
    mod session;
    /// The login.
    need REQUEST: Asked = "request", Form::table(&login::FAMILY, read_request),
        "request = { url = \"https://api.example.com/login\", method = \"POST\" }";
    /// jq over the answer: a string or a number. An answer that is neither JSON nor XML is one string: `token = "."` takes a bare
    /// token. Not needed with `token-header`, or with `inject.cookie`: then the token is the cookie of
    /// that name which the answer sets, and the login may answer with a redirect.
    maybe TOKEN: Expr = "token", EXPR, "required without `token-header` and `inject.cookie`";
    /// Instead of `token`: a header of the login's answer, which may be 2xx, 3xx or 409. A later 409 then means, as a 401 does, that
    /// the token is over. Such as `"X-Transmission-Session-Id"`.
    get TOKEN_HEADER: HeaderName = "token-header", target::HEADER_NAME;
    /// Where the token goes.
    need INJECT: Inject = "inject", Form::table(&inject::FAMILY, read_inject), "inject.header = \"X-Session\"";
    /// How long a token is used.
    or EXPIRES: Duration = "expires", SOME_DURATION, || super::EXPIRES;
    + refusal::FAMILY;
}

keys! {
    /// The request that logs in.
    mod login: Rule::Schema(r#"{ "dependencies": { "body": { "not": { "required": ["json"] } } } }"#);
    /// Where it is sent.
    need URL: Url = "url",
        Form::new(Shape::Text, |item| item.string().and_then(|text| check_url(item, text, HTTP))),
        "url = \"https://api.example.com/login\"";
    /// Its method.
    or METHOD: Method = "method", Form::words(&METHODS), || Method::POST;
    /// A table of values.
    get HEADERS: Vec<(HeaderName, Value)> = "headers", target::HEADERS;
    /// The body, a value.
    get BODY: () = "body", Form::raw(Shape::Value);
    /// Instead of `body`: JSON, in which a table such as `{ env = "PASSWORD" }` is a secret.
    get JSON: () = "json", Form::raw(Shape::Any);
}

keys! {
    /// Where a token goes.
    mod inject: Rule::Kind;
    /// A header's name, or `{ name, prefix }`.
    get HEADER: () = "header", Form::raw(Shape::OneOf(&[Shape::Text, Shape::Table(&inject_header::FAMILY)]));
    /// A query parameter's name.
    get QUERY: () = "query", Form::raw(Shape::Text);
    /// A cookie's name.
    get COOKIE: () = "cookie", Form::raw(Shape::Text);
    /// A word in the request's body that the token replaces, escaped for XML.
    get BODY: () = "body", Form::raw(Shape::Text);
}

keys! {
    /// A header of a token.
    mod inject_header;
    /// The header's name.
    need NAME: HeaderName = "name", target::HEADER_NAME, "name = \"Authorization\"";
    /// What stands before the token.
    or PREFIX: String = "prefix", TEXT, String::new;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    url: Url,
    method: Method,
    headers: Vec<(HeaderName, Value)>,
    body: Option<Body>,
    token: Found,
    inject: Inject,
    expires: Duration,
    pub refused: Option<Expr>,
    /// Tells it from other logins.
    pub id: Hash,
}

/// Where the token is in the login's answer.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    /// It is the cookie of `inject`.
    Cookie,
    Body(Expr),
    Header(HeaderName),
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Text(Value),
    /// JSON, in which values may be secrets: all of it is one.
    Json {
        text: Secret,
        secrets: Vec<Secret>,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Inject {
    Header {
        name: HeaderName,
        prefix: String,
    },
    Query(String),
    Cookie(String),
    /// A word of the body that the token takes the place of, escaped for XML.
    Body(String),
}

impl Session {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let request = table.need(&session::REQUEST);
        let token = read_found(table);
        let place = table.need_item(&session::INJECT);
        let inject = place.as_ref().and_then(|item| session::INJECT.read(item));
        let (expires, refused) = (table.or(&session::EXPIRES), table.get(&refusal::REFUSED));
        if let (Some(Found::Cookie), Some(inject), Some(place)) = (&token, &inject, &place)
            && !matches!(inject, Inject::Cookie(_))
        {
            place
                .error(format!("`token` is missing in {}: only a cookie is found by its name", table.title()))
                .help("token = \".access_token\"".into())
                .report();
            return None;
        }
        let (url, method, headers, body) = request?;
        let mut session = Self {
            url,
            method,
            headers,
            body,
            token: token?,
            inject: inject?,
            expires,
            refused: None,
            id: Hash::default(),
        };
        let secrets: Vec<&str> = session.secrets().into_iter().map(Secret::expose).collect();
        session.id = vault::id(&format!("{session:?}"), &secrets);
        // Not part of it: what one bridge takes for a refusal makes its login no other one.
        session.refused = refused;
        Some(session)
    }

    pub fn secrets(&self) -> Vec<&Secret> {
        let body: Vec<&Secret> = match &self.body {
            Some(Body::Text(Value::Secret(secret))) => vec![secret],
            Some(Body::Json { text, secrets }) => std::iter::once(text).chain(secrets).collect(),
            _ => Vec::new(),
        };
        let headers = self.headers.iter().filter_map(|(_, value)| match value {
            Value::Secret(secret) => Some(secret),
            _ => None,
        });
        headers.chain(body).collect()
    }

    pub fn edits_the_body(&self) -> bool {
        matches!(self.inject, Inject::Body(_))
    }

    /// Puts the token where the file says.
    pub fn put(&self, token: &Secret, request: &mut Request) -> Result<(), Error> {
        match &self.inject {
            Inject::Header { name, prefix } => {
                request.headers.insert(name.clone(), header(format!("{prefix}{}", token.expose()))?);
            }
            Inject::Query(name) => {
                set_parameter(&mut request.url, name, token.expose());
            }
            Inject::Cookie(name) => {
                request.headers.append(COOKIE, header(format!("{name}={}", token.expose()))?);
            }
            Inject::Body(word) => {
                let Some(body) = &request.body else { return Ok(()) };
                let text = String::from_utf8_lossy(body);
                if !text.contains(word.as_str()) {
                    return Err(Error::Value(format!(
                        "the body has no {word:?} for the session's token (`inject.body`)"
                    )));
                }
                let token = quick_xml::escape::escape(token.expose());
                request.body = Some(Bytes::from(text.replace(word.as_str(), &token)));
            }
        }
        Ok(())
    }

    pub async fn token(self: &Arc<Self>, with: &mut With<'_>) -> Result<Secret, Error> {
        let (vault, now) = (with.vault.clone(), with.clock.now());
        vault.token(self.id, now, async |_| self.login(with).await).await
    }

    async fn login(self: &Arc<Self>, with: &mut With<'_>) -> Result<Token, Error> {
        let mut headers = HeaderMap::new();
        let body = match &self.body {
            None => None,
            Some(Body::Json { text, .. }) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Some(text.expose().to_owned())
            }
            Some(Body::Text(value)) => one(value)?,
        };
        for (name, value) in &self.headers {
            if let Some(text) = one(value)? {
                headers.insert(name.clone(), header(text)?);
            }
        }
        let request =
            Request { method: self.method.clone(), url: self.url.clone(), headers, body: body.map(Bytes::from) };
        let answer = request::send(with, request, |status| self.is_login(status)).await?;
        let (session, now) = (self.clone(), with.clock.now());
        let found = compute(move || session.find(&answer)).await.map_err(|e| Error::Value(e.to_string()))?;
        let why = |why| Error::Answer { origin: origin(&self.url), why };
        Ok(Token::new(Secret::new(found.map_err(why)?), Some(self.expires), now))
    }

    /// Whether a login's answer may bring the token.
    fn is_login(&self, status: u16) -> bool {
        match (&self.token, status) {
            (_, 200..300) => true,
            // A form's login answers with a redirect and a cookie.
            (Found::Cookie | Found::Header(_), 300..400) => true,
            (Found::Header(_), 409) => true,
            _ => false,
        }
    }

    /// Whether a status says that the token is not good any more. A server whose logins come with 409, such as
    /// Transmission, says so by it.
    pub fn is_refused(&self, status: u16) -> bool {
        status == 401 || status == 409 && matches!(self.token, Found::Header(_))
    }

    /// The token in a login's answer.
    fn find(&self, answer: &http::Answer) -> Result<String, String> {
        if let Found::Header(name) = &self.token {
            let token = answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
            let token = token.filter(|token| !token.is_empty()).map(str::to_owned);
            return token.ok_or_else(|| format!("it has no header `{name}`"));
        }
        let Found::Body(token) = &self.token else {
            let Inject::Cookie(name) = &self.inject else { return Err("it has no token".into()) };
            let cookies = answer.headers.get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
            let pairs = cookies.filter_map(|cookie| cookie.split(';').next()?.split_once('='));
            // The last one counts, as in a browser.
            let found = pairs.rev().find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim().to_owned());
            return found.ok_or_else(|| format!("it sets no cookie {name:?}"));
        };
        let text = String::from_utf8_lossy(&answer.body);
        if let Some(text) = Some(text.trim()).filter(|text| !text.starts_with(['{', '[', '"', '<'])) {
            // A bare token, whatever its content type says: Google's metadata server calls its own HTML.
            return token_in(token, Json::from(text).to_string().as_bytes());
        }
        let content_type = answer.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        let page = Page { url: origin(&answer.url), content_type, hash: Hash::default(), body: answer.body.clone() };
        // Without the words of who read it: they may quote what is secret.
        let document =
            decode::decode(None, &page, DEPTH_MAX).map_err(|_| "it can be read neither as JSON nor as XML")?;
        token_in(token, &document)
    }
}

fn token_in(token: &Expr, document: &[u8]) -> Result<String, String> {
    match token.all_of_text(document).map_err(|_| "`token` fails on it")?.into_iter().next() {
        Some(Json::String(token)) if !token.is_empty() => Ok(token),
        Some(Json::Number(token)) => Ok(token.to_string()),
        _ => Err("`token` finds no string in it".into()),
    }
}

fn read_found(table: &mut Table<'_>) -> Option<Found> {
    match (table.item(&session::TOKEN), table.item(&session::TOKEN_HEADER)) {
        (Some(_), Some(item)) => {
            item.error(format!("`{}` stands beside `token`", item.path)).help("keep one of them".into()).report();
            None
        }
        (Some(item), None) => session::TOKEN.read(&item).map(Found::Body),
        (None, Some(item)) => session::TOKEN_HEADER.read(&item).map(Found::Header),
        (None, None) => Some(Found::Cookie),
    }
}

/// A value that jq does not make: a login knows nothing of a poll.
fn one(value: &Value) -> Result<Option<String>, Error> {
    let texts = value.fixed();
    Ok(texts.into_iter().next())
}

type Asked = (Url, Method, Vec<(HeaderName, Value)>, Option<Body>);

fn read_request(item: &Item<'_>) -> Option<Asked> {
    let mut table = item.table()?;
    let (url, method) = (table.need(&login::URL), table.or(&login::METHOD));
    let headers = table.get(&login::HEADERS).unwrap_or_default();
    let body = match (table.item(&login::BODY), table.item(&login::JSON)) {
        (Some(_), Some(json)) => {
            json.error(format!("`{}` stands beside `body`", json.path)).help("keep one of them".into()).report();
            None
        }
        (Some(body), None) => body.value().map(|value| Some(Body::Text(value))),
        (None, Some(json)) => {
            let mut secrets = Vec::new();
            let json = json_with_secrets(&json, &mut secrets);
            json.map(|json| Some(Body::Json { text: Secret::new(json.to_string()), secrets }))
        }
        (None, None) => Some(None),
    };
    table.finish();
    Some((url?, method, headers, body?))
}

/// A JSON body in which a table such as `{ env = "PASSWORD" }` stands for its secret.
fn json_with_secrets(item: &Item<'_>, secrets: &mut Vec<Secret>) -> Option<Json> {
    if item.is_list() {
        return item
            .items()?
            .iter()
            .map(|item| json_with_secrets(item, secrets))
            .collect::<Option<_>>()
            .map(Json::Array);
    }
    if !item.is_table() {
        return item.json();
    }
    if item.is_secret() {
        let secret = item.secret()?;
        let text = Json::String(secret.expose().to_owned());
        secrets.push(secret);
        return Some(text);
    }
    let pairs = item.table()?.take_all();
    let pair = |(name, _, item): (&str, _, Item<'_>)| Some((name.to_owned(), json_with_secrets(&item, secrets)?));
    pairs.into_iter().map(pair).collect::<Option<_>>().map(Json::Object)
}

fn read_inject(item: &Item<'_>) -> Option<Inject> {
    type Read = fn(&Item<'_>) -> Option<Inject>;
    let kinds: [(&Get<()>, Read); 4] = [
        (&inject::HEADER, read_header),
        (&inject::QUERY, |item| read_name(item).map(Inject::Query)),
        (&inject::COOKIE, |item| read_name(item).map(Inject::Cookie)),
        (&inject::BODY, |item| read_name(item).map(Inject::Body)),
    ];
    let mut table = item.table()?;
    let found = table.kind(&kinds);
    table.finish();
    let (read, item) = found?;
    read(&item)
}

/// A header's name, or a table of it and a prefix.
fn read_header(item: &Item<'_>) -> Option<Inject> {
    if !item.is_table() {
        return read_header_name(item).map(|name| Inject::Header { name, prefix: String::new() });
    }
    let mut table = item.table()?;
    let (name, prefix) = (table.need(&inject_header::NAME), table.or(&inject_header::PREFIX));
    table.finish();
    name.map(|name| Inject::Header { name, prefix })
}

fn read_name(item: &Item<'_>) -> Option<String> {
    let text = item.string()?.to_owned();
    if text.is_empty() {
        item.error(format!("`{}` is empty", item.path)).report();
        return None;
    }
    Some(text)
}
