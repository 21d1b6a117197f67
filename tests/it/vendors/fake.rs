//! A vendor's API under the test's hand: its contract decides what is refused, its records stand in a list, and one
//! function for each vendor says how they are shown. It shares no constant with the recipes.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value as Json;

use crate::support::{
    contract::{self, Contract, Credentials, Refusal},
    server::{Answer, Handler, Reply, Request, Server},
    soap,
};

/// Records on a page, where the vendor may send fewer than asked for: so that few records fill several pages.
const PAGE: usize = 2;
/// Between two changes.
const STEP_SECONDS: i64 = 600;
const DAY_SECONDS: i64 = 86_400;

/// An operation's path, and the answer that shows a token.
pub type Tokens = (&'static str, fn(&str) -> Answer);

/// What a vendor is made of.
pub struct Vendor {
    /// A file of `tests/data/contracts`.
    pub contract: &'static str,
    /// What each security scheme must bear; for a token operation also its form's fields.
    pub credentials: &'static [(&'static str, &'static str)],
    /// The operation that gives out tokens, and how it shows one.
    pub tokens: Option<Tokens>,
    pub answer: fn(&Call<'_>) -> Answer,
}

/// A record, before a vendor shows it.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    pub id: u64,
    /// How often it changed.
    pub version: u64,
    /// Seconds since 1970.
    pub born: i64,
    pub touched: i64,
}

/// A request that keeps the contract.
pub struct Call<'a> {
    pub request: &'a Request,
    pub operation: &'a str,
    /// By id.
    pub items: &'a [Item],
}

impl<'a> Call<'a> {
    pub fn query(&self, name: &str) -> Option<&'a str> {
        self.request.query.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.query(name).map(|text| text.parse().expect("the contract says that it is a number"))
    }

    /// Records on this page, of a vendor that may send fewer than asked for.
    pub fn size(&self, name: &str) -> usize {
        self.number(name).unwrap_or(PAGE).min(PAGE)
    }

    pub fn oldest(&self) -> Vec<&'a Item> {
        self.items.iter().collect()
    }

    pub fn newest(&self) -> Vec<&'a Item> {
        self.items.iter().rev().collect()
    }

    /// `http://` and the host that was asked.
    pub fn origin(&self) -> String {
        format!("http://{}", self.request.header("host").expect("a host"))
    }
}

/// A page of a list, and whether more follows.
pub fn cut<'l, 'a>(list: &'l [&'a Item], from: usize, size: usize) -> (&'l [&'a Item], bool) {
    let from = from.min(list.len());
    let to = (from + size).min(list.len());
    (&list[from..to], to < list.len())
}

/// The place behind the record that a cursor names.
pub fn behind(list: &[&Item], cursor: Option<&str>, name: impl Fn(&Item) -> String) -> usize {
    let place = |cursor: &str| list.iter().position(|item| name(item) == cursor).expect("a cursor that was given out");
    cursor.map_or(0, |cursor| place(cursor) + 1)
}

pub fn shown(page: &[&Item], record: impl Fn(&Item) -> Json) -> Vec<Json> {
    page.iter().map(|item| record(item)).collect()
}

pub fn json(body: Json) -> Answer {
    Answer::json(body.to_string())
}

pub fn rfc3339(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0).expect("a time");
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Seconds of an RFC 3339 time.
pub fn seconds(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|e| panic!("{text}: {e}")).timestamp()
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(since).expect("this century")
}

enum Terms {
    OpenApi(Contract),
    Soap(soap::Contract),
}

struct State {
    items: Vec<Item>,
    /// When the next change happens.
    clock: i64,
    /// Answers to the next requests; `None` for the usual one.
    script: VecDeque<Option<Answer>>,
    issued: BTreeSet<String>,
    /// Tokens so far.
    tokens: usize,
    /// Requests that kept the contract, except for those for tokens.
    calls: Vec<Request>,
    refused: Vec<Refusal>,
}

struct Api {
    vendor: &'static Vendor,
    terms: Terms,
    state: Mutex<State>,
}

pub struct Fake {
    server: Server,
    api: Arc<Api>,
}

impl Fake {
    pub async fn start(vendor: &'static Vendor) -> Self {
        let terms = if contract::text(vendor.contract).contains("\"x-soap\"") {
            Terms::Soap(soap::Contract::read(vendor.contract))
        } else {
            Terms::OpenApi(Contract::read(vendor.contract))
        };
        let state = State {
            items: Vec::new(),
            // Within every window of time that a recipe asks for.
            clock: now() - DAY_SECONDS,
            script: VecDeque::new(),
            issued: BTreeSet::new(),
            tokens: 0,
            calls: Vec::new(),
            refused: Vec::new(),
        };
        let api = Arc::new(Api { vendor, terms, state: Mutex::new(state) });
        Self { server: Server::start(api.clone()).await, api }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The origins that the vendor has in truth.
    pub fn true_origins(&self) -> Vec<String> {
        match &self.api.terms {
            Terms::OpenApi(contract) => contract.origins(),
            Terms::Soap(contract) => contract.origins(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.api.state.lock().expect("no test panics with it"))
    }

    /// A new record, with the next id.
    pub fn add(&self) -> u64 {
        self.with(|state| {
            let id = state.items.last().map_or(1, |item| item.id + 1);
            let at = state.tick();
            state.items.push(Item { id, version: 0, born: at, touched: at });
            id
        })
    }

    pub fn change(&self, id: u64) {
        self.with(|state| {
            let at = state.tick();
            let item = state.items.iter_mut().find(|item| item.id == id).expect("a record");
            (item.version, item.touched) = (item.version + 1, at);
        });
    }

    pub fn remove(&self, id: u64) {
        self.with(|state| state.items.retain(|item| item.id != id));
    }

    /// The answer to the next request that keeps the contract.
    pub fn next(&self, answer: Answer) {
        self.with(|state| state.script.push_back(Some(answer)));
    }

    /// The next request is answered as usual, what is scripted after it later.
    pub fn pass(&self) {
        self.with(|state| state.script.push_back(None));
    }

    pub fn item(&self, id: u64) -> Item {
        self.with(|state| *state.items.iter().find(|item| item.id == id).expect("a record"))
    }

    /// How many tokens were given out.
    pub fn tokens(&self) -> usize {
        self.with(|state| state.tokens)
    }

    /// Every token that was given out is void from now on.
    pub fn revoke(&self) {
        self.with(|state| state.issued.clear());
    }

    /// Requests that kept the contract since the last look.
    pub fn calls(&self) -> Vec<Request> {
        self.with(|state| std::mem::take(&mut state.calls))
    }

    /// Refusals since the last look.
    pub fn refused(&self) -> Vec<Refusal> {
        self.with(|state| std::mem::take(&mut state.refused))
    }
}

impl State {
    fn tick(&mut self) -> i64 {
        self.clock += STEP_SECONDS;
        self.clock
    }
}

impl Api {
    /// A token for whoever sent the right fields, or none at all.
    fn issue(&self, state: &mut State, request: &Request, show: fn(&str) -> Answer) -> Result<Answer, Refusal> {
        for (name, value) in contract::form(&request.body) {
            let known = self.vendor.credentials.iter().find(|(known, _)| *known == name);
            if known.is_some_and(|(_, known)| *known != value) {
                return Err(Refusal::new(401, format!("invalid_client: {name}")));
            }
        }
        state.tokens += 1;
        let token = format!("{}-token-{}", self.vendor.contract, state.tokens);
        state.issued.insert(token.clone());
        Ok(show(&token))
    }

    fn judged(&self, state: &mut State, request: &Request) -> Result<Answer, Refusal> {
        let credentials = Credentials { known: self.vendor.credentials, issued: &state.issued };
        let operation = match &self.terms {
            Terms::OpenApi(contract) => contract.check(request, credentials)?,
            Terms::Soap(contract) => contract.check(request, credentials)?,
        };
        if let Some((_, show)) = self.vendor.tokens.filter(|(name, _)| *name == operation) {
            return self.issue(state, request, show);
        }
        state.calls.push(request.clone());
        if let Some(Some(scripted)) = state.script.pop_front() {
            return Ok(scripted);
        }
        Ok((self.vendor.answer)(&Call { request, operation: &operation, items: &state.items }))
    }
}

impl Handler for Api {
    fn reply(&self, request: Request) -> Reply {
        let mut state = self.state.lock().expect("no test panics with it");
        let answer = self.judged(&mut state, &request).unwrap_or_else(|refusal| {
            let shown = match &self.terms {
                Terms::OpenApi(_) => {
                    Answer::new(refusal.status, serde_json::json!({ "error": refusal.message }).to_string())
                        .header("content-type", "application/json")
                }
                Terms::Soap(_) => fault(&refusal.message),
            };
            state.refused.push(refusal);
            shown
        });
        answer.into()
    }
}

/// A fault of SOAP 1.1, which comes with the status 500.
pub fn fault(message: &str) -> Answer {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    let body = format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\
         <faultcode>s:Client</faultcode><faultstring>{message}</faultstring></s:Fault></s:Body></s:Envelope>"
    );
    Answer::new(500, body).header("content-type", "text/xml; charset=utf-8")
}
