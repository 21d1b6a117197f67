//! An API under the test's hand: a list of records, several ways of paging it, and scripted answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::server::{Answer, Handler, Reply, Request, Server};

/// How the list is cut into pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    None,
    /// `Link: <...>; rel="next"`, with `?page=`.
    Link(usize),
    /// `?page=` from 1, and `per_page`.
    Page(usize),
    /// `?offset=`.
    Offset(usize),
    /// `{ data, next_cursor }`, with `?cursor=`.
    Cursor(usize),
    /// `{ data, next }`, where `next` is a relative URL.
    NextUrl(usize),
    /// As `Page`, with the number in a JSON body, `{ page: { number } }`.
    PageInBody(usize),
}

struct State {
    /// Keys and JSON texts, in the answer's order.
    records: Vec<(String, String)>,
    etag: bool,
    paging: Paging,
    delay: Duration,
    /// Headers of every answer that is not scripted.
    headers: Vec<(String, String)>,
    /// Answers to the next requests, whatever they ask.
    script: VecDeque<Reply>,
    /// The answer to every request, while there is one.
    always: Option<Reply>,
    requests: Vec<Request>,
}

/// Serves `/items`.
pub struct Upstream {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Upstream {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            records: Vec::new(),
            etag: false,
            paging: Paging::None,
            delay: Duration::ZERO,
            headers: Vec::new(),
            script: VecDeque::new(),
            always: None,
            requests: Vec::new(),
        }));
        let server = Server::start(Arc::new(Api(state.clone()))).await;
        Self { server, state }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no test panics with it"))
    }

    /// Replaces the whole list: keys and JSON texts.
    pub fn set(&self, records: &[(&str, &str)]) {
        let records = records.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.with(|state| state.records = records);
    }

    /// `n` records `{"id": 1.., "v": 0}`.
    pub fn fill(&self, n: usize) {
        let records = (1..=n).map(|id| (id.to_string(), format!(r#"{{"id":{id},"v":0}}"#))).collect();
        self.with(|state| state.records = records);
    }

    /// Adds a record at the end, or changes it where it is.
    pub fn put(&self, key: &str, text: &str) {
        self.with(|state| match state.records.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = text.to_owned(),
            None => state.records.push((key.to_owned(), text.to_owned())),
        });
    }

    /// Puts a record in front of all others.
    pub fn put_first(&self, key: &str, text: &str) {
        self.with(|state| state.records.insert(0, (key.to_owned(), text.to_owned())));
    }

    pub fn remove(&self, key: &str) {
        self.with(|state| state.records.retain(|(k, _)| k != key));
    }

    pub fn etag(&self, on: bool) {
        self.with(|state| state.etag = on);
    }

    pub fn paging(&self, paging: Paging) {
        self.with(|state| state.paging = paging);
    }

    pub fn header(&self, name: &str, value: &str) {
        self.with(|state| state.headers.push((name.into(), value.into())));
    }

    pub fn delay(&self, delay: Duration) {
        self.with(|state| state.delay = delay);
    }

    /// The answer to the next request.
    pub fn next(&self, reply: impl Into<Reply>) {
        self.with(|state| state.script.push_back(reply.into()));
    }

    /// The answer to every request from now on, after what is scripted; `None` for the list again.
    pub fn always(&self, reply: Option<Reply>) {
        self.with(|state| state.always = reply);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.with(|state| state.requests.clone())
    }

    pub fn count(&self) -> usize {
        self.with(|state| state.requests.len())
    }

    pub fn last(&self) -> Request {
        self.with(|state| state.requests.last().cloned()).expect("a request")
    }
}

struct Api(Arc<Mutex<State>>);

impl Handler for Api {
    fn reply(&self, request: Request) -> Reply {
        let mut state = self.0.lock().expect("no test panics with it");
        state.requests.push(request.clone());
        if let Some(reply) = state.script.pop_front() {
            return reply;
        }
        if let Some(reply) = &state.always {
            return reply.clone();
        }
        let (body, link) = page(&state, &request);
        let mut answer = Answer::json(body).after(state.delay);
        answer.headers.extend(state.headers.iter().cloned());
        if let Some(link) = link {
            answer = answer.header("link", link);
        }
        if state.etag {
            let etag = format!("W/\"{}\"", bellpull::model::Hash::of(&answer.body));
            let same = request.header("if-none-match") == Some(&etag);
            answer = answer.header("etag", etag);
            if same {
                (answer.status, answer.body) = (304, Vec::new());
            }
        }
        answer.into()
    }
}

/// A page's body and `Link`.
fn page(state: &State, request: &Request) -> (Vec<u8>, Option<String>) {
    let texts: Vec<&str> = state.records.iter().map(|(_, text)| text.as_str()).collect();
    let number = |name: &str, default: usize| request.query.get(name).map_or(default, |n| n.parse().expect("a number"));
    let cut = |from: usize, size: usize| {
        let from = from.min(texts.len());
        let to = (from + size).min(texts.len());
        (format!("[{}]", texts[from..to].join(",")), to < texts.len())
    };
    let (body, link) = match state.paging {
        Paging::None => (cut(0, texts.len()).0, None),
        Paging::Link(size) => {
            let page = number("page", 1);
            let (body, more) = cut((page - 1) * size, size);
            // Relative, as RFC 8288 allows.
            (body, more.then(|| format!("</items?page=1>; rel=\"first\", </items?page={}>; rel=\"next\"", page + 1)))
        }
        Paging::Page(size) => (cut((number("page", 1) - 1) * size, size).0, None),
        Paging::PageInBody(size) => {
            let page = request.json()["page"]["number"].as_u64().expect("a number, not a string");
            let page = usize::try_from(page).expect("small");
            (cut((page - 1) * size, size).0, None)
        }
        Paging::Offset(size) => (cut(number("offset", 0), size).0, None),
        Paging::Cursor(size) => {
            let from =
                request.query.get("cursor").map_or(0, |c| c.trim_start_matches("after-").parse().expect("a cursor"));
            let (data, more) = cut(from, size);
            let next = if more { format!("\"after-{}\"", from + size) } else { "null".into() };
            (format!(r#"{{"data":{data},"next_cursor":{next}}}"#), None)
        }
        Paging::NextUrl(size) => {
            let from = number("from", 0);
            let (data, more) = cut(from, size);
            let next = if more { format!("\"?from={}\"", from + size) } else { "null".into() };
            (format!(r#"{{"data":{data},"next":{next}}}"#), None)
        }
    };
    (body.into_bytes(), link)
}
