//! One page's answer: the request with its credentials, redirects by hand, and a job that is followed to its end.

use bytes::Bytes;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION},
};
use serde::de::IgnoredAny;
use serde_json::Value as Json;
use url::Url;

use super::{
    Body, Source, complaint, excerpt, holds,
    walk::{Walk, blocking, read_json},
};
use crate::{
    auth::{self, Learned, With},
    decode::{self, Page},
    expr::Said,
    http::{self, Request, hint, origin},
    model::{Hash, Validators},
    source::{Ask, Error, ErrorKind},
};

impl Walk {
    /// The answer that the next page is made of.
    pub(super) async fn ask(
        &mut self,
        ask: &mut Ask<'_>,
        validators: Option<&Validators>,
    ) -> Result<http::Answer, Error> {
        let mut headers = self.headers.clone();
        let pairs = validators.map(|v| [(IF_NONE_MATCH, &v.etag), (IF_MODIFIED_SINCE, &v.last_modified)]);
        for (name, value) in pairs.into_iter().flatten() {
            if let Some(value) = value.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.insert(name, value);
            }
        }
        let (url, body) = self.sent(false);
        let mut request = Request { method: self.source.method.clone(), url, headers, body };
        let mut answer = self.redirected(ask, request.clone()).await?;
        if let Body::Graphql(query) = &self.source.body
            && query.wants_text(&answer.body)
        {
            (request.url, request.body) = self.sent(true);
            answer = self.redirected(ask, request.clone()).await?;
        }
        if answer.status == 202 && self.source.job.is_some() {
            return self.follow(ask, request, answer).await;
        }
        Ok(answer)
    }

    /// Sends a request and follows its redirects.
    async fn redirected(&mut self, ask: &mut Ask<'_>, mut request: Request) -> Result<http::Answer, Error> {
        let source = self.source.clone();
        let transport = &source.transport;
        for _ in 0..=transport.redirects {
            let answer = self.send(ask, &request).await?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) || source.accept.contains(&answer.status) {
                return Ok(answer);
            }
            let from = origin(&request.url);
            let next = answer.headers.get(LOCATION).and_then(|v| v.to_str().ok());
            let next = next.and_then(|location| request.url.join(location).ok());
            let next = next.ok_or_else(|| ErrorKind::Location { origin: from.clone() })?;
            if next.origin() != self.home.origin() && !transport.redirects_to.contains(&origin(&next)) {
                let (target, setting) = (origin(&next), "`redirects-to`");
                return Err(ErrorKind::ForeignOrigin { origin: from, what: "redirect target", target, setting }.into());
            }
            // RFC 9110, section 15.4: 303 always, 301 and 302 in practice, turn a POST into a GET.
            if answer.status == 303 && request.method != Method::HEAD
                || matches!(answer.status, 301 | 302) && request.method == Method::POST
            {
                request.method = Method::GET;
                request.body = None;
            }
            if next.origin() != self.home.origin() && request.body.is_some() {
                let target = origin(&next);
                let message = format!("{from} redirects to {target}, which would take the body to another origin");
                return Err(ErrorKind::Request(message).into());
            }
            // A validator is of the URL that was asked first.
            request.headers.remove(IF_NONE_MATCH);
            request.headers.remove(IF_MODIFIED_SINCE);
            request.url = next;
        }
        Err(ErrorKind::Redirects { origin: origin(&self.home), max: transport.redirects }.into())
    }

    /// One request with its credentials; once more where these are better for the answer.
    async fn send(&mut self, ask: &mut Ask<'_>, request: &Request) -> Result<http::Answer, Error> {
        let source = self.source.clone();
        let transport = &source.transport;
        let at_home = request.url.origin() == self.home.origin();
        let mut tries = 0;
        loop {
            let (mut sent, mut used) = (request.clone(), Vec::new());
            if at_home {
                if sent.body.is_some()
                    && let Some(kind) = self.content_type.clone()
                {
                    sent.headers.entry(CONTENT_TYPE).or_insert(kind);
                }
                let mut with = With { client: &self.client, clock: ask.clock, vault: ask.vault };
                used = auth::apply(&transport.auth, &mut sent, &mut with).await?;
            } else {
                // What the file sends to its own origin stays there.
                sent.headers = public(&sent.headers);
            }
            // Last, so that a cookie of the file or of a login is not sent twice.
            self.jar.iter().for_each(|jar| jar.put(&sent.url, &mut sent.headers, ask.clock.now()));
            let turn = self.client.turn(&sent.url, transport.rate).await;
            let sending =
                self.client.send(&turn, sent.clone(), transport.timeout, transport.limit(), Some(&mut *ask.share));
            let mut answer = sending.await.map_err(ErrorKind::Http)?;
            drop(turn);
            self.jar.iter_mut().for_each(|jar| jar.keep(&request.url, &answer.headers, ask.clock.now()));
            // Later steps and messages see the URL without the credentials of `auth.query`.
            answer.url = request.url.clone();
            let mut with = With { client: &self.client, clock: ask.clock, vault: ask.vault };
            let learned = match auth::learn(&transport.auth, &used, &sent, &answer, tries, &mut with).await {
                Learned::Again => Learned::Again,
                learned if at_home => learned.max(self.learn_words(ask, &used, &answer, tries).await?),
                learned => learned,
            };
            match learned {
                Learned::Nothing => return Ok(answer),
                Learned::Spare => {
                    hint::forget_budget(&mut answer.headers);
                    return Ok(answer);
                }
                Learned::Again => {}
            }
            tries += 1;
        }
    }

    /// What an answer says of the tokens in words: those that the file gives (`refused`), or the protocol's own.
    async fn learn_words(
        &self,
        ask: &mut Ask<'_>,
        used: &[auth::Used],
        answer: &http::Answer,
        tries: usize,
    ) -> Result<Learned, Error> {
        let source = &self.source;
        let own = source.body.may_refuse(&answer.body);
        let rules = auth::refusals(&source.transport.auth, own);
        if rules.is_empty() {
            return Ok(Learned::Nothing);
        }
        let page = self.page(answer);
        // What was read in the last walk did not refuse.
        if ask.memo.known(page.hash).is_some() && !rules.iter().any(auth::Refusal::sees_answer) {
            return Ok(Learned::Nothing);
        }
        let (source, said, is_data) = (source.clone(), answer.said(), source.accept.contains(&answer.status));
        let refused = blocking(move || refused(&source, &page, &said, rules, is_data)).await?;
        let told = excerpt(&String::from_utf8_lossy(&answer.body));
        let mut with = With { client: &self.client, clock: ask.clock, vault: ask.vault };
        Ok(auth::forget(&self.source.transport.auth, used, &refused, answer, tries, &told, &mut with).await?)
    }

    /// Looks at the job that a 202 began, until it is done. The walk's deadline bounds it.
    async fn follow(&mut self, ask: &mut Ask<'_>, first: Request, begun: http::Answer) -> Result<http::Answer, Error> {
        let source = self.source.clone();
        let Some(job) = &source.job else { return Ok(begun) };
        let mut request = first;
        let mut answer = begun;
        if let Some(url) = self.job_url(&answer).await? {
            if url.origin() != self.home.origin() {
                let (origin, target, setting) = (origin(&answer.url), origin(&url), "`url`");
                return Err(ErrorKind::ForeignOrigin { origin, what: "job", target, setting }.into());
            }
            request = Request { method: Method::GET, url, headers: self.headers.clone(), body: None };
        }
        loop {
            self.pause(job.every, hint::wait(&answer.headers, ask.clock.now())).await?;
            answer = self.redirected(ask, request.clone()).await?;
            if answer.status != 202 && !source.accept.contains(&answer.status) {
                return Ok(answer);
            }
            let (failed, done) = self.job_state(&answer).await?;
            if let Some(message) = failed {
                let message = excerpt(&message);
                return Err(ErrorKind::Job { origin: origin(&answer.url), message }.into());
            }
            if done {
                // What it brought is data, whatever the status is that says so.
                answer.status = source.accept.first().copied().unwrap_or(200);
                return Ok(answer);
            }
        }
    }

    /// Where a job is looked at; `None`: where it was begun.
    async fn job_url(&self, answer: &http::Answer) -> Result<Option<Url>, Error> {
        let named = answer.headers.get(LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let target = match self.source.job.as_ref().and_then(|job| job.url.clone()) {
            None => named,
            Some(url) => {
                let (source, page) = (self.source.clone(), self.page(answer));
                let first = move |document: &[u8]| {
                    let found = url.all_of_text(document).map_err(ErrorKind::Expr)?;
                    Ok(found.first().and_then(Json::as_str).map(str::to_owned))
                };
                let found = blocking(move || read_json(&source, &page, first)).await?;
                Some(found.ok_or_else(|| ErrorKind::Request("`job.url` gives no string".into()))?)
            }
        };
        let wrong = |_| Error::from(ErrorKind::Request(format!("{} names no URL for its job", origin(&answer.url))));
        target.map(|target| answer.url.join(&target).map_err(wrong)).transpose()
    }

    /// Why it failed, and whether it is done.
    async fn job_state(&self, answer: &http::Answer) -> Result<(Option<String>, bool), Error> {
        let Some(job) = self.source.job.clone() else { return Ok((None, true)) };
        let begun = answer.status == 202;
        if job.failed.is_none() && job.done.is_none() || answer.body.is_empty() {
            return Ok((None, !begun));
        }
        let (source, page) = (self.source.clone(), self.page(answer));
        blocking(move || {
            let said = Said::default();
            read_json(&source, &page, |document| {
                let failed = job.failed.as_ref().map_or(Ok(None), |failed| complaint(failed, document, &said))?;
                let done = job.done.as_ref().map_or(Ok(!begun), |done| holds(done, document, &said))?;
                Ok((failed, done))
            })
        })
        .await
    }

    /// An answer as a page.
    pub(super) fn page(&self, answer: &http::Answer) -> Page {
        let content_type = answer.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        // 204 is a list without records, whatever `items` is.
        let (content_type, body) = match answer.status {
            204 => (Some(decode::NO_CONTENT.to_owned()), Bytes::from_static(b"[]")),
            _ => (content_type, answer.body.clone()),
        };
        Page { url: self.source.shown(&answer.url), content_type, hash: Hash::of(&body), body }
    }
}

/// Those rules by which a page refuses a token. What cannot be read, such as a login page, is a text; an expression
/// that fails counts only where the page would be data.
fn refused(
    source: &Source,
    page: &Page,
    said: &Said,
    rules: Vec<auth::Refusal>,
    is_data: bool,
) -> Result<Vec<auth::Refusal>, Error> {
    let document = decode::decode(source.decode.as_ref(), page, source.transport.depth_max);
    let document = document.ok().filter(|text| serde_json::from_slice::<IgnoredAny>(text).is_ok());
    let is_data = is_data && document.is_some();
    let text = || Json::from(String::from_utf8_lossy(&page.body)).to_string().into_bytes().into();
    let document = document.unwrap_or_else(text);
    let mut refused = Vec::new();
    for rule in rules {
        match rule.holds(&document, said, || source.body.refuses(&document)) {
            Ok(true) => refused.push(rule),
            Err(error) if is_data => return Err(ErrorKind::Expr(error).into()),
            Ok(false) | Err(_) => {}
        }
    }
    Ok(refused)
}

/// The headers that say nothing of who asks.
fn public(headers: &HeaderMap) -> HeaderMap {
    headers.get(ACCEPT).map(|accept| (ACCEPT, accept.clone())).into_iter().collect()
}
