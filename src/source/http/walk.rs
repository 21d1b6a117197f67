//! One walk over the pages of a source: requests, redirects by hand, and what follows each page.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{
        ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    },
};
use serde_json::{Value as Json, json};
use url::Url;

use super::{Body, EXCERPT_CHARS, Source, WALK_SIZES};
use crate::{
    compute::compute,
    decode::{self, Page},
    http::{self, Request, origin, retry_after},
    model::{Hash, Validators},
    settings::value::{JsonBody, Value},
    source::{
        Answer, Ask, Count, Error, ErrorKind, Fetched, Known, Step,
        page::{Here, Pages, ReadError},
    },
};

/// One walk over the pages.
pub(super) struct Walk {
    source: Arc<Source>,
    /// Of the first request; what an answer names must stay on it.
    home: Url,
    url: Url,
    headers: HeaderMap,
    json: Option<Json>,
    text: Option<Bytes>,
}

impl Walk {
    /// Makes the first request: values, mark, first page's parameters.
    pub(super) fn start(source: &Arc<Source>, ask: &Ask<'_>) -> Result<Self, Error> {
        let input = json!({
            "now": ask.clock.now().to_string(),
            "previous": ask.previous,
            "mark": ask.mark,
        });
        let one = |value: &Value, what: &str| -> Result<String, Error> {
            let texts = value.resolve(&input).map_err(ErrorKind::Expr)?;
            texts.into_iter().next().ok_or_else(|| ErrorKind::Request(format!("`{what}` gives nothing")).into())
        };
        let mut url: Url =
            one(&source.url, "url")?.parse().map_err(|_| ErrorKind::Request("`url` gives no URL".into()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ErrorKind::Request("`url` is neither http nor https".into()).into());
        }
        url.set_fragment(None);
        for (name, value) in &source.query {
            let texts = value.resolve(&input).map_err(ErrorKind::Expr)?;
            if !texts.is_empty() {
                url.query_pairs_mut().extend_pairs(texts.iter().map(|text| (name, text)));
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
        for (name, value) in &source.headers {
            headers.remove(name);
            for text in value.resolve(&input).map_err(ErrorKind::Expr)? {
                let mut header = HeaderValue::from_str(&text).map_err(|_| {
                    ErrorKind::Request(format!("the value of header `{name}` holds a character that no header can"))
                })?;
                header.set_sensitive(matches!(value, Value::Secret(_)));
                headers.append(name.clone(), header);
            }
        }
        let (mut json, mut text) = (None, None);
        match &source.body {
            Body::None => {}
            Body::Text(value) => text = Some(one(value, "body")?.into()),
            Body::Json(JsonBody::Fixed(value)) => json = Some(value.clone()),
            Body::Json(JsonBody::Jq(expr)) => {
                json = Some(expr.first(&input).map_err(ErrorKind::Expr)?.unwrap_or(Json::Null));
            }
        }
        let mut parameters = source.pages.as_ref().map(Pages::first).unwrap_or_default();
        if let (Some(at), Some(mark)) = (ask.since, ask.mark) {
            parameters.push((at.clone(), mark.to_owned()));
        }
        for (at, value) in parameters {
            at.set(&value, &mut url, &mut headers, &mut json).map_err(ErrorKind::Request)?;
        }
        Ok(Self { source: source.clone(), home: url.clone(), url, headers, json, text })
    }

    /// Where it begins.
    pub(super) fn origin(&self) -> String {
        origin(&self.home)
    }

    pub(super) async fn run(mut self, ask: &mut Ask<'_>) -> Result<Fetched, Error> {
        let source = self.source.clone();
        let mut pages: Vec<Page> = Vec::new();
        let mut read: Vec<(Hash, Known)> = Vec::new();
        let mut asked = BTreeSet::from([self.asked()]);
        let (mut size, mut records, mut hint) = (0u64, 0u64, None);
        let mut first = None;
        loop {
            let number = pages.len();
            let validators = ask.validators.filter(|_| number == 0 && source.conditional);
            let answer = self.ask(ask, validators).await?;
            let now = ask.clock.now();
            hint = hint.max(retry_after::wait(&answer.headers, now));
            if number == 0 && validators.is_some() && answer.status == 304 {
                return Ok(Fetched::NotModified { hint });
            }
            if number == 0 && ask.absent.contains(&answer.status) {
                return Ok(Fetched::Absent { hint });
            }
            let empty = answer.status == 204;
            if !empty && !source.accept.contains(&answer.status) {
                return Err(Error { kind: refused(&answer), hint });
            }
            let from = origin(&answer.url);
            let content_type = answer.header(CONTENT_TYPE.as_str()).map(str::to_owned);
            // 204 is a list without records, whatever `items` is.
            let content_type = if empty { Some(decode::NO_CONTENT.to_owned()) } else { content_type };
            let body = if empty { Bytes::from_static(b"[]") } else { answer.body.clone() };
            let page = Page { url: source.shown(&answer.url), content_type, hash: Hash::of(&body), body };
            size += u64::try_from(page.body.len()).unwrap_or(u64::MAX);
            if size > source.size_max.saturating_mul(WALK_SIZES) {
                return Err(
                    ErrorKind::WalkSize { origin: from, limit: source.size_max.saturating_mul(WALK_SIZES) }.into()
                );
            }
            let known = match ask.memo.known(page.hash) {
                Some(known) => known,
                None if empty => Known::default(),
                None => self.read(ask, &page, number, &from).await?,
            };
            let here = Here { number, records_before: records, url: &answer.url, headers: &answer.headers };
            let step = match &source.pages {
                Some(list) if !empty => list.step(&here, &known)?,
                _ => Step::End,
            };
            records += u64::try_from(known.records).unwrap_or(0);
            if pages.iter().any(|earlier| earlier.hash == page.hash) && self.has_records(ask, &page).await? {
                return Err(ErrorKind::Repeats {
                    origin: from,
                    page: number + 1,
                    what: "it has the bytes of an earlier page",
                }
                .into());
            }
            read.push((page.hash, known));
            if first.is_none() {
                first = Some((
                    validators_of(&answer.headers),
                    retry_after::date(&answer.headers),
                    meta(&source, &answer, now),
                ));
            }
            pages.push(page);
            let max = source.pages.as_ref().map_or(1, |list| list.max);
            match step {
                Step::End => break,
                _ if pages.len() >= max => {
                    let kind = source.pages.as_ref().map_or("link", Pages::name);
                    return Err(ErrorKind::Pages { origin: from, max, kind }.into());
                }
                step => {
                    self.turn(step, &answer.url)?;
                    if !asked.insert(self.asked()) {
                        return Err(ErrorKind::Repeats {
                            origin: from,
                            page: number + 2,
                            what: "it was asked for before",
                        }
                        .into());
                    }
                }
            }
        }
        ask.memo.replace(read);
        let (validators, date, meta) = first.unwrap_or_default();
        // A validator speaks for its page only.
        let validators = if pages.len() == 1 { validators } else { Validators::default() };
        Ok(Fetched::Pages(Answer { pages, validators, hint, date, meta }))
    }

    /// Turns to the next page.
    fn turn(&mut self, step: Step, at: &Url) -> Result<(), Error> {
        match step {
            Step::End => {}
            Step::Url(next) => {
                if next.origin() != self.home.origin() {
                    let (origin, target) = (origin(at), origin(&next));
                    return Err(ErrorKind::ForeignOrigin { origin, what: "next page", target, setting: "`url`" }.into());
                }
                self.url = next;
                self.url.set_fragment(None);
            }
            Step::Parameter(value) => {
                if let Some(place) = self.source.pages.as_ref().and_then(Pages::at) {
                    place.set(&value, &mut self.url, &mut self.headers, &mut self.json).map_err(ErrorKind::Request)?;
                }
            }
        }
        Ok(())
    }

    /// One page: the request, and its redirects by hand.
    async fn ask(&self, ask: &mut Ask<'_>, validators: Option<&Validators>) -> Result<http::Answer, Error> {
        let source = &self.source;
        let (mut url, mut method) = (self.url.clone(), source.method.clone());
        let mut body = match &self.json {
            Some(json) => Some(Bytes::from(json.to_string())),
            None => self.text.clone(),
        };
        for hop in 0..=source.redirects {
            let mut headers = self.headers.clone();
            let mut target = url.clone();
            if url.origin() == self.home.origin() {
                for auth in &source.auth {
                    auth.apply(&mut target, &mut headers).map_err(ErrorKind::Request)?;
                }
            } else {
                // What the file sends to its own origin stays there.
                headers = public(&headers);
            }
            if body.is_some() && self.json.is_some() && !headers.contains_key(CONTENT_TYPE) {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            if let Some(validators) = validators.filter(|_| hop == 0) {
                let pairs = [(IF_NONE_MATCH, &validators.etag), (IF_MODIFIED_SINCE, &validators.last_modified)];
                for (name, value) in pairs {
                    if let Some(value) = value.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
                        headers.insert(name, value);
                    }
                }
            }
            let request = Request { method: method.clone(), url: target, headers, body: body.clone() };
            let turn = ask.client.turn(&request.url).await;
            let limit = source.answer_limit();
            let mut answer = ask
                .client
                .send(&turn, request, source.timeout, limit, Some(ask.share))
                .await
                .map_err(ErrorKind::Http)?;
            // Later steps and messages see the URL without the credentials of `auth.query`.
            answer.url = url.clone();
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) || source.accept.contains(&answer.status) {
                return Ok(answer);
            }
            let from = origin(&url);
            let next = answer.headers.get(LOCATION).and_then(|v| v.to_str().ok()).and_then(|l| url.join(l).ok());
            let next = next.ok_or_else(|| ErrorKind::Location { origin: from.clone() })?;
            if next.origin() != self.home.origin() && !source.redirects_to.contains(&origin(&next)) {
                let target = origin(&next);
                return Err(ErrorKind::ForeignOrigin {
                    origin: from,
                    what: "redirect target",
                    target,
                    setting: "`redirects-to`",
                }
                .into());
            }
            let changes_origin = next.origin() != self.home.origin();
            // RFC 9110, section 15.4: 303 always, 301 and 302 in practice, turn a POST into a GET.
            if answer.status == 303 && method != Method::HEAD
                || matches!(answer.status, 301 | 302) && method == Method::POST
            {
                method = Method::GET;
                body = None;
            }
            if changes_origin && body.is_some() {
                let target = origin(&next);
                return Err(ErrorKind::Request(format!(
                    "{from} redirects to {target}, which would take the body to another origin"
                ))
                .into());
            }
            url = next;
        }
        Err(ErrorKind::Redirects { origin: origin(&self.home), max: source.redirects }.into())
    }

    /// What tells one question from another.
    fn asked(&self) -> (String, Option<String>, String) {
        (self.url.to_string(), self.json.as_ref().map(Json::to_string), format!("{:?}", self.headers))
    }

    /// Reads a page, on a blocking thread: whether it says that it failed, and what follows it.
    async fn read(&self, ask: &Ask<'_>, page: &Page, number: usize, from: &str) -> Result<Known, Error> {
        if self.source.fail.is_none() && !self.source.pages.as_ref().is_some_and(Pages::reads) {
            return Ok(Known::default());
        }
        let (source, count, page, origin) = (self.source.clone(), ask.count.clone(), page.clone(), from.to_owned());
        blocking(move || read_page(&source, &count, &page, number + 1, origin)).await
    }

    async fn has_records(&self, ask: &Ask<'_>, page: &Page) -> Result<bool, Error> {
        let (count, page) = (ask.count.clone(), page.clone());
        blocking(move || Ok(count(&page)? > 0)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let panicked = |e| Error::from(ErrorKind::Request(format!("reading a page panicked: {e}")));
    compute(work).await.map_err(panicked)?
}

fn read_page(source: &Source, count: &Count, page: &Page, number: usize, origin: String) -> Result<Known, Error> {
    let document = decode::decode(source.decode.as_ref(), page, source.depth_max).map_err(ErrorKind::Decode)?;
    // Of no JSON at all the answer is to blame, not the expression that reads it.
    read_document(source, count, page, &document, number, origin).map_err(|error| {
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&document);
        whole.err().map_or(error, |e| ErrorKind::Decode(decode::malformed(&e, &document)).into())
    })
}

fn read_document(
    source: &Source,
    count: &Count,
    page: &Page,
    document: &[u8],
    number: usize,
    origin: String,
) -> Result<Known, Error> {
    if let Some(fail) = &source.fail {
        let found = fail.all_of_text(document).map_err(ErrorKind::Expr)?;
        let message = match found.into_iter().next() {
            None | Some(Json::Null | Json::Bool(false)) => None,
            Some(Json::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
        };
        if let Some(message) = message {
            let message = message.chars().take(EXCERPT_CHARS).collect();
            return Err(ErrorKind::Fail { origin, page: number, message }.into());
        }
    }
    let Some(list) = &source.pages else {
        return Ok(Known::default());
    };
    list.look_into(document, || count(page)).map_err(|error| match error {
        ReadError::Source(error) => error,
        ReadError::Next(message) => ErrorKind::Next { origin, page: number, message }.into(),
    })
}

/// The headers that say nothing of who asks.
fn public(headers: &HeaderMap) -> HeaderMap {
    headers.get(ACCEPT).map(|accept| (ACCEPT, accept.clone())).into_iter().collect()
}

fn validators_of(headers: &HeaderMap) -> Validators {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
    let etag = text(ETAG);
    // A Last-Modified of the second in which it was sent says nothing of a change in the same second (RFC 9110, 8.8.2.2).
    let fresh = || {
        let modified = headers.get(LAST_MODIFIED).and_then(|v| v.to_str().ok()).and_then(retry_after::parse_date);
        modified.zip(retry_after::date(headers)).is_some_and(|(modified, date)| date < modified.plus_ms(2_000))
    };
    let last_modified = if etag.is_none() && fresh() { None } else { text(LAST_MODIFIED) };
    Validators { etag, last_modified }
}

fn meta(source: &Source, answer: &http::Answer, now: crate::model::Timestamp) -> Json {
    /// Headers that a next request may need; never all, since they may hold cookies.
    const KEPT: [&str; 6] = ["date", "etag", "last-modified", "link", "x-next-cursor", "x-total-count"];
    let headers: serde_json::Map<String, Json> = KEPT
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), source.redact(answer.header(name)?.to_owned()).into())))
        .collect();
    json!({ "status": answer.status, "headers": headers, "at": now.to_string() })
}

fn refused(answer: &http::Answer) -> ErrorKind {
    let text = String::from_utf8_lossy(&answer.body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let excerpt: String = line.chars().take(EXCERPT_CHARS).collect();
    ErrorKind::Status {
        origin: origin(&answer.url),
        status: answer.status,
        excerpt: Some(excerpt).filter(|e| !e.is_empty()),
    }
}
