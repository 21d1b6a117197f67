//! `source.http`: a request as the file defines it; `walk` sends it and walks its pages. What lies over HTTP, GraphQL and
//! SOAP, is the same source with another body and another way to say that it failed.

mod exchange;
mod gathered;
pub mod graphql;
pub mod soap;
mod walk;

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::Value as Json;
use tokio::time::Instant;
use url::Url;

use walk::Walk;

use super::{
    Ask, Error, ErrorKind, Fetched,
    page::{self, Pages},
    transport::{Over, Transport, headed, over_http},
};
use crate::{
    decode::{self, Decoder},
    expr::{Expr, Said, meant},
    http::{
        origin,
        place::At,
        target::{self, fixed_origin},
    },
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::{Form, Shape, keys},
        value::{JsonBody, VALUES, Value},
    },
};

/// All pages of a walk together: several times what one answer may be.
const WALK_SIZES: u64 = 8;
/// Of an error's answer, for the message.
const EXCERPT_CHARS: usize = 200;
/// Of what such a text is made: an answer may be as long as `size-max`.
const EXCERPT_FROM_CHARS: usize = 4096;
/// How soon a job is looked at again.
const JOB_EVERY: Duration = Duration::from_secs(2);

/// A list of statuses.
pub const STATUSES: Form<Vec<u16>> =
    Form::shown_by(Shape::List(&Shape::Whole(100, 599)), read_statuses, |all| all.as_slice().into());

keys! {
    /// A request over HTTP.
    mod http: Rule::Schema(r#"{ "dependencies": { "body": { "not": { "required": ["json"] } } } }"#);
    /// Where it is sent: a value; `http` or `https`, without user and password. jq sees the number, the offset or the cursor of the
    /// page that is asked for as `$page` (null for the first page of a cursor); then `pages` needs no other place:
    /// `{ jq = '"https://api.example.com/orders/page/\($page)"' }` beside `pages.page = {}`.
    need URL: Value = "url", target::URL_OVER_PAGES, "url = \"https://api.example.com/orders\"";
    /// Any method, in capitals.
    or METHOD: Method = "method",
        Form::shown_by(
            Shape::Pattern("^[A-Z]+$"),
            |item| item.parse_text(method, "a method such as \"GET\""),
            |method| method.as_str().into(),
        ),
        || Method::GET;
    /// A table of values. The query of `url` keeps its bytes, and a space becomes `%20`.
    get QUERY: Vec<(String, Value)> = "query", VALUES;
    /// The body, a value.
    get BODY: () = "body", Form::raw(Shape::Value);
    /// Instead of `body`: a table, or `{ jq = "..." }`, which sees `$page` as that of `url` does: the next request of a scroll.
    get JSON: () = "json", Form::raw(Shape::Any);
    /// How a list goes on.
    maybe PAGES: Pages = "pages", Form::table(&page::pages::FAMILY, Pages::read), "one page";
    /// Statuses whose answers are data. 204 means a list without records, 304 the last answer again.
    or ACCEPT: Vec<u16> = "accept", STATUSES, || vec![200];
    /// jq over each page: true asks the same request again after 2 s, within `deadline`.
    get RETRY: Expr = "retry", EXPR_OVER_ANSWER;
    /// After a 202 bellpull asks until the work is done, within `deadline`. The job's URL must be on the origin of the source's
    /// `url`. The job's last answer is the page.
    get JOB: Job = "job", Form::table(&job::FAMILY, Job::read);
    /// A GET or HEAD sends the `ETag` and `Last-Modified` of the last accepted answer, if that answer had one page (a
    /// `Last-Modified` alone only if it was older than a second), that came to the same request (method, URL, body and headers),
    /// and within the last day: once a day the whole answer is asked for.
    or CONDITIONAL: bool = "conditional", BOOLEAN, || true;
    /// Cookies that an answer of a walk sets (RFC 6265), also a redirect, go with the walk's next requests to the hosts that they
    /// are for. The next poll begins without any. A cookie that the file or `auth` gives is not replaced.
    or COOKIES: bool = "cookies", BOOLEAN, || false;
    + answers::FAMILY;
    + over_http::FAMILY;
}

keys! {
    /// How an answer is read.
    mod answers;
    /// How an answer becomes a document: `json`, `ndjson`, `xml`, `csv`, `feed`, `html`, `sse` or `text`:
    /// [below](#decode).
    maybe DECODE: Decoder = "decode", decode::DECODER, "by `Content-Type`, otherwise JSON";
    /// jq over each page: a string or true is an error, `if .ok then null else .error end`.
    get FAIL: Expr = "fail", EXPR_OVER_ANSWER;
}

keys! {
    /// A 202 that is followed until its work is done.
    mod job;
    /// jq over the 202's body: the job's URL.
    maybe URL: Expr = "url", EXPR, "`Location`, otherwise the request is repeated";
    /// jq over the job's answer: true if the work is done.
    maybe DONE: Expr = "done", EXPR, "any status except 202 ends it";
    /// jq over the job's answer, like `fail`.
    get FAILED: Expr = "failed", EXPR;
    /// How soon the job is looked at again.
    or EVERY: Duration = "every", SOME_DURATION, || JOB_EVERY;
}

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub(super) url: Value,
    /// Of `url`, where jq does not make it.
    pub origin: Option<String>,
    pub(super) method: Method,
    pub(super) query: Vec<(String, Value)>,
    pub(super) body: Body,
    pub(super) pages: Option<Pages>,
    pub decode: Option<Decoder>,
    pub(super) accept: Vec<u16>,
    pub(super) fail: Option<Expr>,
    pub(super) retry: Option<Expr>,
    pub(super) conditional: bool,
    /// A walk keeps what its answers set.
    pub(super) cookies: bool,
    pub(super) job: Option<Job>,
    pub transport: Transport,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    None,
    Text(Value),
    Json(JsonBody),
    Graphql(graphql::Query),
    Soap(soap::Envelope),
}

/// `job`: a 202 that is followed until its work is done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    /// Where it is looked at; else `Location`, else the same request again.
    pub url: Option<Expr>,
    /// Over what is found there; else: any status but 202.
    pub done: Option<Expr>,
    pub failed: Option<Expr>,
    pub every: Duration,
}

impl Source {
    /// Reads `[bridge.NAME.source.http]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let (url, method) = (table.need(&http::URL), table.or(&http::METHOD));
        let query = table.get(&http::QUERY).unwrap_or_default();
        let body = read_body(&mut table);
        let made =
            url.as_ref().is_some_and(Value::sees_page) || matches!(&body, Some(Body::Json(json)) if json.sees_page());
        let pages = table.item(&http::PAGES).and_then(|item| Pages::read_beside(&item, made));
        check_page(&table, url.as_ref(), pages.as_ref(), made);
        let in_json = pages.as_ref().is_some_and(|pages| matches!(pages.at(), Some(At::Json(_))));
        if in_json && matches!(body, Some(Body::Text(_))) {
            let message = format!("`pages` of {} go into a JSON body, but `body` is a text", table.title());
            table.error(message).help("write `json` instead of `body`".into()).report();
        }
        if let (Some(pages), Some(Body::Json(JsonBody::Fixed(body)))) = (&pages, &body)
            && let Some(why) = pages.at().and_then(|at| at.misfit(body))
        {
            let message = format!("`pages.{}.json` of {}: {why}", pages.name(), table.title());
            table
                .error(message)
                .help("write a path into `json`, such as \"paging.after\" or \"variables.0.value\"".into())
                .report();
        }
        let (decode, accept) = (table.get(&answers::DECODE), table.or(&http::ACCEPT));
        let (fail, retry) = (table.get(&answers::FAIL), table.get(&http::RETRY));
        let (conditional, job) = (table.or(&http::CONDITIONAL), table.get(&http::JOB));
        let cookies = table.or(&http::COOKIES);
        let transport = Transport::read(&mut table, &headed::HEADERS, Over::Http);
        table.finish();
        let url = url?;
        Some(Self {
            origin: fixed_origin(&url),
            url,
            method,
            query,
            body: body?,
            pages,
            decode,
            accept,
            fail,
            retry,
            conditional,
            cookies,
            job,
            transport,
        })
    }

    /// A POST of which nothing but the body and the answer's decoder is special. The answer to a POST has no validator.
    pub(super) fn post(
        url: Value,
        body: Body,
        decode: Option<Decoder>,
        fail: Option<Expr>,
        transport: Transport,
    ) -> Self {
        Self {
            origin: fixed_origin(&url),
            url,
            method: Method::POST,
            query: Vec::new(),
            body,
            pages: None,
            decode,
            accept: vec![200],
            fail,
            retry: None,
            conditional: false,
            cookies: false,
            job: None,
            transport,
        }
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("url", &self.url);
        if self.method != Method::GET {
            text.put("method", self.method.as_str());
        }
        text.put_all("query", &self.query);
        text.put_all("headers", &self.transport.headers);
        match &self.body {
            Body::None => {}
            Body::Text(value) => text.put("body", value),
            Body::Json(json) => text.put("json", json),
            Body::Graphql(query) => query.define(text),
            Body::Soap(envelope) => envelope.define(text),
        }
        self.pages.iter().for_each(|pages| pages.define(text));
        if self.accept != [200] {
            text.put("accept", self.accept.clone());
        }
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        let pages = self.pages.as_ref().map_or("None".into(), |pages| format!("Some({})", pages.definition_0_1()));
        format!(
            "http {:?} {} {:?} {:?} {:?} {pages} {:?} {:?}",
            self.url, self.method, self.query, self.transport.headers, self.body, self.decode, self.accept
        )
    }

    pub fn describe(&self) -> String {
        match &self.url {
            Value::Literal(url) => format!("{} {url}", self.method),
            _ => format!("{} (a URL that is secret or made by jq)", self.method),
        }
    }

    /// Whether the mark of `since` can be sent there.
    pub fn takes_mark(&self, at: &At) -> bool {
        matches!(
            (&self.body, at),
            (_, At::Param(_) | At::Header(_))
                | (Body::Graphql(_), At::Variable { .. })
                | (Body::None | Body::Json(_), At::Json(_))
        )
    }

    /// Why the body that the file gives lacks such a place, if it does.
    pub fn misfit(&self, at: &At) -> Option<String> {
        match &self.body {
            Body::Json(JsonBody::Fixed(body)) => at.misfit(body),
            _ => None,
        }
    }

    /// Whether a walk shows all that there is.
    pub fn shows_all(&self) -> bool {
        !self.pages.as_ref().is_some_and(|pages| pages.stop_known)
    }

    /// Whether `pages` could stand in it, and does not.
    pub fn could_have_pages(&self) -> bool {
        self.pages.is_none() && matches!(self.body, Body::None | Body::Text(_) | Body::Json(_))
    }

    /// A URL without its query and user; without its path too where the file does not show it.
    fn shown(&self, url: &Url) -> String {
        match self.url {
            Value::Literal(_) => format!("{}{}", origin(url), url.path()),
            _ => origin(url),
        }
    }

    /// The values that a request is made of, without its headers.
    fn values(&self) -> impl Iterator<Item = &Value> {
        let body: Vec<&Value> = match &self.body {
            Body::Text(value) => vec![value],
            Body::Soap(envelope) => vec![&envelope.body],
            Body::Graphql(query) => query.values().collect(),
            Body::None | Body::Json(_) => Vec::new(),
        };
        self.query.iter().map(|(_, value)| value).chain([&self.url]).chain(body)
    }

    pub fn has_credentials(&self) -> bool {
        self.transport.has_credentials(self.values())
    }

    /// Whether jq of the request uses a thing of this name.
    pub fn uses(&self, name: &str) -> bool {
        let in_json = matches!(&self.body, Body::Json(json) if json.uses(name));
        let mut values = self.values().chain(self.transport.headers.iter().map(|(_, value)| value));
        in_json || values.any(|value| value.uses(name))
    }

    /// Whether what is read of a page depends on more than its body.
    fn sees_answer(&self) -> bool {
        let of_pages = self.pages.iter().flat_map(Pages::exprs);
        of_pages.chain(&self.fail).chain(&self.retry).any(Expr::sees_answer)
    }

    /// RFC 9110, section 13.1: validators are of GET and HEAD only.
    fn is_conditional(&self) -> bool {
        self.conditional && matches!(self.method, Method::GET | Method::HEAD)
    }

    pub async fn fetch(self: &Arc<Self>, mut ask: Ask<'_>) -> Result<Fetched, Error> {
        let (deadline, until) = (self.transport.deadline, Instant::now() + self.transport.deadline);
        let walk = Walk::start(self, &ask, until).await?;
        let first = walk.origin();
        match tokio::time::timeout_at(until, walk.run(&mut ask)).await {
            Ok(result) => result,
            Err(_) => Err(ErrorKind::Deadline { origin: first, after: deadline }.into()),
        }
    }
}

fn method(text: &str) -> Result<Method, String> {
    let method = text.parse::<Method>().map_err(|_| format!("{text:?} is not a method"))?;
    if method.as_str().bytes().all(|b| b.is_ascii_uppercase()) {
        Ok(method)
    } else {
        Err(format!("{text:?} is not a method: write {:?}", text.to_uppercase()))
    }
}

/// `body` or `json`.
fn read_body(table: &mut Table<'_>) -> Option<Body> {
    let json_place = table.key_place(&http::JSON);
    match (table.item(&http::BODY), table.item(&http::JSON)) {
        (Some(_), Some(_)) => {
            let place = json_place.unwrap_or_else(|| table.place.clone());
            table
                .error_at(place, format!("`json` stands beside `body` in {}", table.title()))
                .help("keep one of them".into())
                .report();
            None
        }
        (Some(text), None) => text.value().map(Body::Text),
        (None, Some(json)) => read_json_body(&json).map(Body::Json),
        (None, None) => Some(Body::None),
    }
}

/// A body that may be another one for each page.
fn read_json_body(item: &Item<'_>) -> Option<JsonBody> {
    if item.is_made() { item.made_over_pages().map(JsonBody::Jq) } else { item.json_body() }
}

/// Refuses a `$page` that nothing counts, and tells of braces that would be sent as they stand.
fn check_page(table: &Table<'_>, url: Option<&Value>, pages: Option<&Pages>, made: bool) {
    let (title, counts) = (table.title(), pages.is_some_and(Pages::counts));
    if made && !counts {
        let message = format!("jq of {title} uses `$page`, and no kind of pages there has a number or a cursor");
        table.error(message).help("write `pages.page`, `pages.offset` or `pages.cursor` beside it".into()).report();
    }
    if let Some(Value::Literal(url)) = url
        && let Some(braces) = braces_of(url)
    {
        let message = format!("`url` of {title} has {braces}, which is sent as it stands");
        let help = "for a page's number write url = { jq = '\"https://api.example.com/page/\\($page)\"' } beside pages.page = {}";
        table.warn_at(table.place.clone(), message, help);
    }
}

/// A word in braces, as templates have them.
fn braces_of(url: &str) -> Option<&str> {
    let (from, rest) = (url.find('{')?, url.get(url.find('{')?..)?);
    let to = rest.find('}')?;
    let word = rest.get(1..to)?;
    let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    url.get(from..=from + to).filter(|_| is_word)
}

/// A list of statuses.
pub fn read_statuses(item: &Item<'_>) -> Option<Vec<u16>> {
    let all = item.items()?;
    let statuses: Option<Vec<u16>> =
        all.iter().map(|i| i.integer(100..=599).and_then(|n| u16::try_from(n).ok())).collect();
    statuses
}

impl Job {
    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let (url, done, failed) = (table.get(&job::URL), table.get(&job::DONE), table.get(&job::FAILED));
        let every = table.or(&job::EVERY);
        table.finish();
        Some(Self { url, done, failed, every })
    }
}

/// The first output of an expression over a document: a text, or anything but `null` and `false`, says that it failed.
pub(super) fn complaint(expr: &Expr, document: &[u8], said: &Said) -> Result<Option<String>, Error> {
    let found = expr.all_of_answer(document, said).map_err(ErrorKind::Expr)?;
    Ok(meant(found.into_iter().next()).map(|said| match said {
        Json::String(text) => text,
        other => other.to_string(),
    }))
}

/// Whether the first output of an expression over a document is neither `false` nor `null`.
pub(super) fn holds(expr: &Expr, document: &[u8], said: &Said) -> Result<bool, Error> {
    complaint(expr, document, said).map(|found| found.is_some())
}

/// The beginning of a text, on one line, for a message.
pub(super) fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(EXCERPT_FROM_CHARS).map_or(text.len(), |(end, _)| end);
    let beginning = text.get(..end).unwrap_or(text);
    beginning.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT_CHARS).collect()
}
