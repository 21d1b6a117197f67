//! One walk over the pages of a source: what is asked, what an answer says of itself, and what follows each page.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use url::Url;

use super::{
    Body, Source, WALK_SIZES, complaint, excerpt,
    gathered::{Gathered, asks_for_more, is_behind_the_end, may_be_cap},
    graphql, holds, soap,
};
use crate::{
    auth::vault::Vault,
    compute::compute,
    decode::{self, Page},
    expr::Said,
    http::{
        self, Client,
        cookies::Jar,
        hint, origin,
        place::{At, add_parameter},
        retry_after,
        target::made_url,
    },
    model::{Hash, Timestamp, Validators},
    pulse::Walked,
    settings::value::{JsonBody, Value},
    source::{
        Answer, Ask, Count, Error, ErrorKind, Fetched, Known, Step,
        page::{Here, Pages, ReadError},
    },
};

/// How soon a page that says "ask again" (`retry`) is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Between tries of a page that does not come.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);
/// So long after a whole answer the next one is asked for whole again: a server's validators may lie.
const WHOLE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Statuses that say "not now".
const PASSING: [u16; 4] = [429, 502, 503, 504];

/// Headers that make a request depend on a validator (RFC 9110, section 13.1).
const CONDITIONS: [HeaderName; 5] = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE];

/// One walk over the pages.
pub(super) struct Walk {
    pub(super) source: Arc<Source>,
    /// With the source's identity.
    pub(super) client: Client,
    /// The end of the deadline.
    until: Instant,
    /// Of the first request; what an answer names must stay on it.
    pub(super) home: Url,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    json: Option<Json>,
    text: Option<Bytes>,
    /// Of a request with a body, where the file's headers have none.
    pub(super) content_type: Option<HeaderValue>,
    /// Of the first request.
    request: Hash,
    /// What jq of the first request saw.
    input: Json,
    /// What was set on the first request.
    parameters: Vec<(At, Json)>,
    /// What answers of this walk set, where the file wants it (`cookies`).
    pub(super) jar: Option<Jar>,
}

/// What a page says of itself.
enum Read {
    Known(Known),
    /// `retry`: not yet, ask again.
    Again,
}

/// What becomes of an answer.
enum Judged {
    Step(Step),
    Again,
}

impl Walk {
    /// Makes the first request: values, mark, first page's parameters.
    pub(super) async fn start(source: &Arc<Source>, ask: &Ask<'_>, until: Instant) -> Result<Self, Error> {
        let page = source.pages.as_ref().map(Pages::first_page).unwrap_or_default();
        let input = over_page(ask.input(), page.clone());
        let one = async |value: &Value, what: &str| -> Result<String, Error> {
            let texts = value.resolve(&input).await.map_err(ErrorKind::Expr)?;
            texts.into_iter().next().ok_or_else(|| ErrorKind::Request(format!("`{what}` gives nothing")).into())
        };
        let (mut url, mut json) = made_of(source, &input).await?;
        if ask.mark.is_some() && source.url.uses("mark") {
            // A mark is what a server said: it must not lead credentials to another one.
            let first = url_of(source, &over_page(ask.input_with(ask.start), page)).await?;
            if first.origin() != url.origin() {
                let (origin, target, setting) = (origin(&first), origin(&url), "`url`");
                return Err(ErrorKind::ForeignOrigin { origin, what: "mark", target, setting }.into());
            }
        }
        let mut headers = HeaderMap::new();
        let accept = if matches!(source.body, Body::Soap(_)) { soap::ACCEPT } else { "application/json, */*;q=0.5" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let (mut text, mut content_type) = (None, None);
        match &source.body {
            Body::None | Body::Json(_) => {}
            Body::Text(value) => text = Some(one(value, "body").await?.into()),
            Body::Graphql(query) => json = Some(query.body(&input).await?),
            Body::Soap(envelope) => {
                let body = one(&envelope.body, "body").await?;
                text = Some(envelope.message(&body, url.as_str()).map_err(ErrorKind::Request)?.into());
                content_type = Some(envelope.put_headers(&mut headers).map_err(ErrorKind::Request)?);
            }
        }
        source.transport.put_headers(&input, &mut headers).await?;
        let mut parameters = source.pages.as_ref().map(Pages::first).unwrap_or_default();
        parameters.extend(ask.marks().map(|(at, value)| (at.clone(), value)));
        for (at, value) in &parameters {
            at.set(value, &mut url, &mut headers, &mut json).map_err(ErrorKind::Request)?;
        }
        if json.is_some() {
            content_type = Some(HeaderValue::from_static("application/json"));
        }
        let client = ask.client.identified(&source.transport.identity).map_err(ErrorKind::Request)?;
        let (source, home, request) = (source.clone(), url.clone(), Hash::default());
        let jar = source.cookies.then(Jar::default);
        let walk = Self {
            source,
            client,
            until,
            home,
            url,
            headers,
            json,
            text,
            content_type,
            request,
            input,
            parameters,
            jar,
        };
        Ok(Self { request: walk.hash(), ..walk })
    }

    /// Of what a validator belongs to: method, URL, body and headers. Of secrets in headers the name alone counts.
    fn hash(&self) -> Hash {
        let mut headers: Vec<_> = self.headers.iter().collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        let (url, body) = self.sent(true);
        let mut text = format!("{} {url}\n", self.source.method).into_bytes();
        for (name, value) in headers {
            let value = if value.is_sensitive() { &[] } else { value.as_bytes() };
            text.extend([name.as_str().as_bytes(), b": ", value, b"\n"].concat());
        }
        text.push(b'\n');
        text.extend(body.unwrap_or_default());
        Hash::of(&text)
    }

    /// Whether an answer's validators are sent with the first request: with the same one only, and not for ever.
    fn may_send(&self, validators: &Validators, now: Timestamp) -> bool {
        let is_recent = validators.at.is_some_and(|at| at <= now && now < at.plus(WHOLE_EVERY));
        self.source.is_conditional() && validators.request == Some(self.request) && is_recent && !self.has_condition()
    }

    /// Whether the file gives a header of this kind. It says what the file wants to know: another one beside it would be another
    /// question.
    fn has_condition(&self) -> bool {
        CONDITIONS.iter().any(|name| self.headers.contains_key(name))
    }

    /// Where it begins.
    pub(super) fn origin(&self) -> String {
        origin(&self.home)
    }

    /// The URL and the body of the next request. A persisted query goes without its text, unless `whole`.
    pub(super) fn sent(&self, whole: bool) -> (Url, Option<Bytes>) {
        match (&self.source.body, &self.json) {
            (Body::Graphql(query), Some(json)) => {
                let (url, body) = query.sent(&self.url, json, whole);
                (url, body.map(Bytes::from))
            }
            (_, Some(json)) => (self.url.clone(), Some(Bytes::from(json.to_string()))),
            (_, None) => (self.url.clone(), self.text.clone()),
        }
    }

    /// Walks to the last page.
    pub(super) async fn run(mut self, ask: &mut Ask<'_>) -> Result<Fetched, Error> {
        let source = self.source.clone();
        let mut gathered = Gathered::default();
        let mut asked = BTreeSet::from([self.asked()]);
        // How long the answers so far want no poll; the last one says how long no request.
        let mut floor = None;
        let mut tries = 0;
        loop {
            let number = gathered.pages.len();
            let validators = ask.validators.filter(|known| number == 0 && self.may_send(known, ask.clock.now()));
            let answer = match self.ask(ask, validators).await {
                Err(error) if number > 0 && error.passes() && self.waits(&mut tries, error.hint).await => continue,
                answer => answer?,
            };
            let now = ask.clock.now();
            floor = floor.max(hint::next_poll(&answer.headers));
            let wait = hint::wait(&answer.headers, now);
            let hint = floor.max(wait);
            // That an error may be kept for a day is no reason to wait for one.
            let hinted = |error: Error| Error { hint: error.hint.max(wait), ..error };
            let passes = PASSING.contains(&answer.status) && !source.accept.contains(&answer.status);
            if number > 0 && passes && self.waits(&mut tries, wait).await {
                continue;
            }
            if gathered.doubt && is_behind_the_end(answer.status, number) && !source.accept.contains(&answer.status) {
                gathered.ends();
                return self.whole(ask, gathered, &answer.url, hint).await.map_err(hinted);
            }
            let asked_for_news = validators.is_some() || ask.accepted && self.has_condition();
            if number == 0 && asked_for_news && answer.status == 304 {
                return Ok(Fetched::NotModified { hint });
            }
            if number == 0 && ask.absent.contains(&answer.status) {
                return Ok(Fetched::Absent { hint });
            }
            let step = match self.judge(ask, &answer, &mut gathered).await.map_err(hinted)? {
                Judged::Step(step) => {
                    tries = 0;
                    step
                }
                Judged::Again => {
                    self.pause(RETRY_AFTER, wait).await.map_err(hinted)?;
                    continue;
                }
            };
            let list = source.pages.as_ref();
            let (max, kind) = list.map_or((1, "link"), |list| (list.max, list.name()));
            let is_full = gathered.pages.len() >= max;
            // The file wants no more than one page, or most likely there is none.
            let ends = gathered.doubt && (max == 1 || gathered.is_most_likely_all());
            if step == Step::End || is_full && ends {
                return self.whole(ask, gathered, &answer.url, hint).await.map_err(hinted);
            }
            if is_full {
                return Err(hinted(ErrorKind::Pages { origin: origin(&answer.url), max, kind }.into()));
            }
            self.turn(step, &answer.url).await?;
            if !asked.insert(self.asked()) {
                let (origin, what) = (origin(&answer.url), "it was asked for before");
                return Err(hinted(ErrorKind::Repeats { origin, page: number + 2, what }.into()));
            }
            match self.pause(list.map(|list| list.delay).unwrap_or_default(), wait).await {
                // No request is left for a page that is most likely not there.
                Err(_) if gathered.is_most_likely_all() => {
                    return self.whole(ask, gathered, &answer.url, hint).await.map_err(hinted);
                }
                paused => paused.map_err(hinted)?,
            }
        }
    }

    /// What a walk brought that has come to its end.
    async fn whole(
        &self,
        ask: &mut Ask<'_>,
        mut gathered: Gathered,
        at: &Url,
        hint: Option<Duration>,
    ) -> Result<Fetched, Error> {
        gathered.is_whole(at, self.source.pages.as_ref())?;
        let speaks = self.speaks(ask, &mut gathered).await;
        ask.memo.replace(gathered.read);
        let (validators, date, meta) = gathered.first.unwrap_or_default();
        let (pages, said) = (gathered.pages, gathered.said);
        let validators = if speaks { validators } else { Validators::default() };
        Ok(Fetched::Pages(Answer { pages, validators, hint, date, meta, said }))
    }

    /// Whether the validators of the first page speak for the list: it is the only page, and what comes next changes it.
    async fn speaks(&self, ask: &Ask<'_>, gathered: &mut Gathered) -> bool {
        let ([page], [(_, known)]) = (gathered.pages.as_slice(), gathered.read.as_mut_slice()) else { return false };
        if !self.source.pages.as_ref().is_some_and(Pages::is_link) {
            return !gathered.may_be_full;
        }
        // Where a header says what follows, the next record may change nothing on a full page. What is counted is remembered by
        // the page's bytes, and counted only where there is something to send.
        if !gathered.first.as_ref().is_some_and(|(validators, ..)| validators.are_some()) {
            return false;
        }
        if known.records == 0 {
            known.records = self.count(ask, page).await.unwrap_or_default();
        }
        !may_be_cap(known.records) || asks_for_more(&self.home, known.records)
    }

    /// Waits before a page that did not come is asked for once more: the pages before it are not thrown away for it. `false`, at once,
    /// where the deadline leaves no time. The first page has the schedule for that.
    async fn waits(&self, tries: &mut u32, wait: Option<Duration>) -> bool {
        let step = (RETRY_AFTER * 2_u32.saturating_pow(*tries)).min(AGAIN_AFTER_MAX);
        // One that asks for no wait at all is not asked in a circle.
        let delay = wait.unwrap_or(step).max(step / 20);
        *tries = tries.saturating_add(1);
        self.pause(Duration::ZERO, Some(delay)).await.is_ok()
    }

    /// Before the next request: the file's own delay, and what the server asks for, where the deadline leaves so much time.
    pub(super) async fn pause(&self, delay: Duration, wait: Option<Duration>) -> Result<(), Error> {
        let wait = wait.unwrap_or_default();
        if Instant::now() + wait >= self.until {
            return Err(Error { kind: ErrorKind::UsedUp { origin: self.origin(), wait }, hint: Some(wait) });
        }
        let pause = delay.max(wait);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Takes an answer as the next page, or says why not, and what follows it.
    async fn judge(&self, ask: &mut Ask<'_>, answer: &http::Answer, gathered: &mut Gathered) -> Result<Judged, Error> {
        let source = &self.source;
        let number = gathered.pages.len();
        let empty = answer.status == 204;
        let from = origin(&answer.url);
        let page = self.page(answer);
        if !empty && !source.accept.contains(&answer.status) {
            return Err(self.refused(answer, page).await);
        }
        // Pages are parts too, of which the walk makes the whole.
        if matches!(answer.status, 206 | 226) && ask.wants_all && source.pages.is_none() {
            return Err(ErrorKind::Part { origin: from, status: answer.status }.into());
        }
        let bytes = u64::try_from(page.body.len()).unwrap_or(u64::MAX);
        let limit = source.transport.size_max.saturating_mul(WALK_SIZES);
        if gathered.size.saturating_add(bytes) > limit {
            return Err(ErrorKind::WalkSize { origin: from, limit }.into());
        }
        // What another header would change is read again, though the body is the same.
        let known = match ask.memo.known(page.hash).filter(|_| !source.sees_answer()) {
            Some(known) => known,
            None if empty => Known::default(),
            None => match self.read(ask, answer, &page, number).await? {
                Read::Known(known) => known,
                Read::Again => return Ok(Judged::Again),
            },
        };
        let last = gathered.pages.last().map(|page| page.hash);
        if gathered.doubt && (known.records == 0 || last == Some(page.hash)) {
            gathered.ends();
            return Ok(Judged::Step(Step::End));
        }
        gathered.size += bytes;
        let known = Known { ended: ask.memo.known(page.hash).is_some_and(|known| known.ended), ..known };
        let size = source.pages.as_ref().and_then(Pages::size);
        let records = u64::try_from(known.records).unwrap_or(0);
        if size.is_some_and(|size| records >= size) {
            ask.memo.fills();
        }
        let filled = ask.memo.has_filled();
        let here = Here {
            number,
            records_before: gathered.records,
            empty_before: gathered.empty,
            filled,
            url: &answer.url,
            headers: &answer.headers,
        };
        let mut step = match &source.pages {
            Some(list) if !empty => list.step(&here, &known)?,
            _ => Step::End,
        };
        gathered.records += records;
        // A page behind the last one may count nothing.
        if known.records > 0 || gathered.total.is_none() {
            gathered.total = known.total.or(gathered.total);
        }
        gathered.empty = if known.records == 0 { gathered.empty + 1 } else { 0 };
        if gathered.pages.iter().any(|earlier| earlier.hash == page.hash) && self.has_records(ask, &page).await? {
            let what = "it has the bytes of an earlier page";
            return Err(ErrorKind::Repeats { origin: from, page: number + 1, what }.into());
        }
        if step != Step::End && !source.shows_all() && (ask.seen)(page.clone()).await? {
            step = Step::End;
        }
        gathered.doubt = step != Step::End && !filled && size.is_some_and(|size| records < size);
        if ask.pulse.is_walk_watched() {
            let records = self.count(ask, &page).await.unwrap_or_default();
            gathered.shown = Walked { pages: number + 1, records: gathered.shown.records + records };
            ask.pulse.walked(gathered.shown);
        }
        gathered.read.push((page.hash, known));
        let first = || {
            let (headers, now) = (&answer.headers, ask.clock.now());
            (validators_of(headers, self.request, now), retry_after::date(headers), meta(ask.vault, answer, now))
        };
        gathered.first.get_or_insert_with(first);
        gathered.said = ask.token_sees_answer.then(|| answer.said());
        gathered.pages.push(page);
        Ok(Judged::Step(step))
    }

    /// Turns to the next page.
    async fn turn(&mut self, step: Step, at: &Url) -> Result<(), Error> {
        match step {
            Step::End => {}
            Step::Url(mut next) => {
                if self.source.pages.as_ref().is_some_and(Pages::keeps_origin) {
                    next = on_origin_of(&self.home, &next);
                }
                if next.origin() != self.home.origin() {
                    let (origin, target) = (origin(at), origin(&next));
                    return Err(ErrorKind::ForeignOrigin { origin, what: "next page", target, setting: "`url`" }.into());
                }
                self.url = next;
                self.url.set_fragment(None);
            }
            Step::Parameter(value) if self.source.pages.as_ref().and_then(Pages::at) == Some(&At::Made) => {
                let input = over_page(self.input.clone(), value);
                let (mut url, mut json) = made_of(&self.source, &input).await?;
                for (place, value) in &self.parameters {
                    place.set(value, &mut url, &mut self.headers, &mut json).map_err(ErrorKind::Request)?;
                }
                if url.origin() != self.home.origin() {
                    let (origin, target) = (origin(at), origin(&url));
                    return Err(ErrorKind::ForeignOrigin { origin, what: "next page", target, setting: "`url`" }.into());
                }
                (self.url, self.json) = (url, json);
            }
            Step::Parameter(value) => {
                if let Some(place) = self.source.pages.as_ref().and_then(Pages::at) {
                    place.set(&value, &mut self.url, &mut self.headers, &mut self.json).map_err(ErrorKind::Request)?;
                }
            }
        }
        Ok(())
    }

    /// What tells one question from another.
    fn asked(&self) -> (String, Option<String>, String) {
        (self.url.to_string(), self.json.as_ref().map(Json::to_string), format!("{:?}", self.headers))
    }

    /// Reads a page, on a blocking thread: whether it says that it failed, and what follows it.
    async fn read(&self, ask: &Ask<'_>, answer: &http::Answer, page: &Page, number: usize) -> Result<Read, Error> {
        let source = &self.source;
        let list = source.pages.as_ref().is_some_and(Pages::reads);
        if source.fail.is_none() && source.retry.is_none() && !list && !source.body.speaks() {
            return Ok(Read::Known(Known::default()));
        }
        let said = if source.sees_answer() { answer.said() } else { Said::default() };
        let (source, count, page, origin) = (source.clone(), ask.count.clone(), page.clone(), origin(&answer.url));
        blocking(move || read_page(&source, &count, &page, &said, number + 1, origin)).await
    }

    /// The error of an answer whose status is not accepted: a fault that it carries, or its beginning.
    async fn refused(&self, answer: &http::Answer, page: Page) -> Error {
        if self.source.body.speaks() {
            let (source, origin) = (self.source.clone(), origin(&answer.url));
            let found = blocking(move || read_json(&source, &page, |document| Ok(source.body.trouble(document)))).await;
            if let Ok(Some(message)) = found {
                return ErrorKind::Fault { origin, status: answer.status, message: excerpt(&message) }.into();
            }
        }
        let found = excerpt(&String::from_utf8_lossy(&answer.body));
        let excerpt = Some(found).filter(|e| !e.is_empty());
        ErrorKind::Status { origin: origin(&answer.url), status: answer.status, excerpt }.into()
    }

    async fn has_records(&self, ask: &Ask<'_>, page: &Page) -> Result<bool, Error> {
        Ok(self.count(ask, page).await? > 0)
    }

    async fn count(&self, ask: &Ask<'_>, page: &Page) -> Result<usize, Error> {
        let (count, page) = (ask.count.clone(), page.clone());
        blocking(move || count(&page)).await
    }
}

/// What jq of a request sees, with the page that it is for.
fn over_page(mut input: Json, page: Json) -> Json {
    if let Json::Object(map) = &mut input {
        map.insert("page".into(), page);
    }
    input
}

/// URL and JSON body of a page's request, without what is set on them afterwards.
async fn made_of(source: &Source, input: &Json) -> Result<(Url, Option<Json>), Error> {
    let mut url = url_of(source, input).await?;
    for (name, value) in &source.query {
        let texts = value.resolve(input).await.map_err(ErrorKind::Expr)?;
        texts.iter().for_each(|text| add_parameter(&mut url, name, text));
    }
    let json = match &source.body {
        Body::Json(JsonBody::Fixed(value)) => Some(value.clone()),
        Body::Json(JsonBody::Jq(expr)) => Some(expr.ask(input).await.map_err(ErrorKind::Expr)?.unwrap_or(Json::Null)),
        Body::None | Body::Text(_) | Body::Graphql(_) | Body::Soap(_) => None,
    };
    Ok((url, json))
}

/// Path and query of a URL, on the origin of another one.
fn on_origin_of(home: &Url, next: &Url) -> Url {
    let mut url = home.clone();
    url.set_path(next.path());
    url.set_query(next.query());
    url
}

/// Where the first request goes, without its query of the file.
async fn url_of(source: &Source, input: &Json) -> Result<Url, Error> {
    let texts = source.url.resolve(input).await.map_err(ErrorKind::Expr)?;
    let text = texts.into_iter().next().ok_or_else(|| ErrorKind::Request("`url` gives nothing".into()))?;
    let mut url: Url = if source.url.is_constant() {
        text.parse().map_err(|_| ErrorKind::Request("`url` gives no URL".into()))?
    } else {
        made_url(&text).map_err(|e| ErrorKind::Request(format!("`url`: {e}")))?
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ErrorKind::Request("`url` is neither http nor https".into()).into());
    }
    url.set_fragment(None);
    Ok(url)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let panicked = |e| Error::from(ErrorKind::Request(format!("reading a page panicked: {e}")));
    compute(work).await.map_err(panicked)?
}

/// Reads something in a page's document. Of no JSON at all the answer is to blame, not the expression that reads it.
pub(super) fn read_json<T>(
    source: &Source,
    page: &Page,
    read: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let document =
        decode::decode(source.decode.as_ref(), page, source.transport.depth_max).map_err(ErrorKind::Decode)?;
    read(&document).map_err(|error| {
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&document);
        whole.err().map_or(error, |e| ErrorKind::Decode(decode::malformed(&e, &document)).into())
    })
}

fn read_page(
    source: &Source,
    count: &Count,
    page: &Page,
    said: &Said,
    number: usize,
    origin: String,
) -> Result<Read, Error> {
    read_json(source, page, |document| {
        if source.retry.as_ref().map_or(Ok(false), |retry| holds(retry, document, said))? {
            return Ok(Read::Again);
        }
        if let Some(message) = source.body.trouble(document) {
            return Err(ErrorKind::Fault { origin, status: 200, message: excerpt(&message) }.into());
        }
        if let Some(message) = source.fail.as_ref().map_or(Ok(None), |fail| complaint(fail, document, said))? {
            return Err(ErrorKind::Fail { origin, page: number, message: excerpt(&message) }.into());
        }
        let Some(list) = &source.pages else {
            return Ok(Read::Known(Known::default()));
        };
        let known = list.look_into(document, said, || count(page)).map_err(|error| match error {
            ReadError::Source(error) => error,
            ReadError::Next(message) => ErrorKind::Next { origin, page: number, message }.into(),
        });
        known.map(Read::Known)
    })
}

impl Body {
    /// Whether its answers have a way of their own to say that they failed.
    fn speaks(&self) -> bool {
        matches!(self, Self::Graphql(_) | Self::Soap(_))
    }

    /// Whether an answer could refuse a token in its protocol's own words, by its bytes.
    pub(super) fn may_refuse(&self, answer: &[u8]) -> bool {
        let word: &[u8] = match self {
            Self::Graphql(_) => graphql::UNAUTHENTICATED.as_bytes(),
            Self::Soap(_) => b"Fault",
            Self::None | Self::Text(_) | Self::Json(_) => return false,
        };
        answer.windows(word.len()).any(|bytes| bytes == word)
    }

    /// Whether an answer refuses the token that it was asked with, in its protocol's own words.
    pub(super) fn refuses(&self, document: &[u8]) -> bool {
        match self {
            Self::Graphql(_) => graphql::refuses(document),
            Self::Soap(_) => soap::refuses(document),
            Self::None | Self::Text(_) | Self::Json(_) => false,
        }
    }

    /// What an answer says went wrong.
    fn trouble(&self, document: &[u8]) -> Option<String> {
        match self {
            Self::Graphql(_) => graphql::errors(document),
            Self::Soap(_) => soap::fault(document),
            Self::None | Self::Text(_) | Self::Json(_) => None,
        }
    }
}

fn validators_of(headers: &HeaderMap, request: Hash, now: Timestamp) -> Validators {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
    let etag = text(ETAG);
    // A Last-Modified of the second in which it was sent says nothing of a change in the same second (RFC 9110, 8.8.2.2).
    let fresh = || {
        let modified = headers.get(LAST_MODIFIED).and_then(|v| v.to_str().ok()).and_then(retry_after::parse_date);
        modified.zip(retry_after::date(headers)).is_some_and(|(modified, date)| date < modified.plus_ms(2_000))
    };
    let last_modified = if etag.is_none() && fresh() { None } else { text(LAST_MODIFIED) };
    if etag.is_none() && last_modified.is_none() {
        return Validators::default();
    }
    Validators { etag, last_modified, request: Some(request), at: Some(now) }
}

fn meta(vault: &Vault, answer: &http::Answer, now: crate::model::Timestamp) -> Json {
    /// Headers that a next request may need; never all, since they may hold cookies.
    const KEPT: [&str; 6] = ["date", "etag", "last-modified", "link", "x-next-cursor", "x-total-count"];
    let headers: serde_json::Map<String, Json> =
        KEPT.iter().filter_map(|name| Some(((*name).to_owned(), vault.redact(answer.header(name)?).into()))).collect();
    json!({ "status": answer.status, "headers": headers, "at": now.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_move_to_the_origin_of_the_file_byte_for_byte() {
        let home: Url = "https://api.example.com:8443/v1/items?key=1".parse().expect("a URL");
        for next in [
            "http://inner:80/v1/items?page=2",
            "http://api.example.com/x/%7Ea%2Fb?q=a%20b&flag&$filter=x+y#part",
            "https://user:secret@evil.example//evil.example/x",
            "http://[::1]:9/",
            "https://evil.example:8443/?",
        ] {
            let next: Url = next.parse().expect("a URL");
            let url = on_origin_of(&home, &next);
            assert_eq!((url.origin(), url.username(), url.fragment()), (home.origin(), "", None), "{next}");
            assert_eq!((url.path(), url.query()), (next.path(), next.query()));
        }
    }
}
