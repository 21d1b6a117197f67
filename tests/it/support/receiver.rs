//! A downstream app under the test's hand: it verifies every request with `standardwebhooks`, which none of us wrote,
//! records it, and answers by script.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::Value as Json;
use standardwebhooks::Webhook;

use super::server::{Answer, Handler, Reply, Request, Server, eventually};

/// `whsec_` and the base64 of 32 bytes.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A request that verified.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    pub path: String,
    pub body: Json,
    pub bytes: Vec<u8>,
    /// What was answered; `None` when nothing was.
    pub status: Option<u16>,
    pub request: Request,
}

impl Received {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().expect("a type")
    }

    pub fn key(&self) -> &str {
        self.body["data"]["key"].as_str().expect("a key")
    }

    pub fn sequence(&self) -> u64 {
        self.body["data"]["sequence"].as_u64().expect("a sequence")
    }

    pub fn attempt(&self) -> u32 {
        self.request.header("bellpull-attempt").expect("an attempt").parse().expect("a number")
    }
}

type Script = Box<dyn FnMut(&Received) -> Reply + Send>;

struct State {
    received: Vec<Received>,
    /// Requests that did not verify.
    refused: Vec<String>,
    scripts: BTreeMap<String, Script>,
    secrets: Vec<String>,
    /// The sender's clock is not this machine's.
    any_time: bool,
}

pub struct Receiver {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            received: Vec::new(),
            refused: Vec::new(),
            scripts: BTreeMap::new(),
            secrets: vec![SECRET.into()],
            any_time: false,
        }));
        let server = Server::start(Arc::new(App(state.clone()))).await;
        Self { server, state }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no test panics with it"))
    }

    /// What a path answers from now on; 200 without.
    pub fn answers(&self, path: &str, script: impl FnMut(&Received) -> Reply + Send + 'static) {
        self.with(|state| state.scripts.insert(path.into(), Box::new(script)));
    }

    pub fn status(&self, path: &str, status: u16) {
        self.answers(path, move |_| Answer::new(status, "").into());
    }

    /// The secrets of which one must have signed.
    pub fn secrets(&self, secrets: &[&str]) {
        self.with(|state| state.secrets = secrets.iter().map(|s| (*s).to_owned()).collect());
    }

    /// Signatures are checked for their own time, whatever time it is here.
    pub fn any_time(&self) {
        self.with(|state| state.any_time = true);
    }

    /// What was answered with 2xx, in order, whether or not something else did not verify.
    pub fn taken_so_far(&self, path: &str) -> Vec<Received> {
        let taken = |r: &&Received| r.path == path && matches!(r.status, Some(200..300));
        self.with(|state| state.received.iter().filter(taken).cloned().collect())
    }

    /// Everything that came so far; fails when something did not verify.
    pub fn received(&self) -> Vec<Received> {
        self.with(|state| {
            assert!(state.refused.is_empty(), "every request verifies: {:?}", state.refused);
            state.received.clone()
        })
    }

    /// What came to one path.
    pub fn at(&self, path: &str) -> Vec<Received> {
        self.received().into_iter().filter(|r| r.path == path).collect()
    }

    /// What was answered with 2xx, in order.
    pub fn taken(&self, path: &str) -> Vec<Received> {
        self.at(path).into_iter().filter(|r| matches!(r.status, Some(200..300))).collect()
    }

    /// Waits for `n` events taken at a path.
    pub async fn wait_taken(&self, path: &str, n: usize) -> Vec<Received> {
        eventually(&format!("{n} events taken at {path}"), async || self.taken(path).len() >= n).await;
        self.taken(path)
    }

    /// Waits for `n` requests at a path.
    pub async fn wait(&self, path: &str, n: usize) -> Vec<Received> {
        eventually(&format!("{n} requests at {path}"), async || self.at(path).len() >= n).await;
        self.at(path)
    }
}

struct App(Arc<Mutex<State>>);

impl Handler for App {
    fn reply(&self, request: Request) -> Reply {
        let mut state = self.0.lock().expect("no test panics with it");
        let mut headers = http::HeaderMap::new();
        for (name, value) in &request.headers {
            let name: http::HeaderName = name.parse().expect("a name");
            headers.insert(name, value.parse().expect("a value"));
        }
        let verified = state.secrets.iter().any(|secret| {
            let webhook = Webhook::new(secret).expect("a secret");
            if !state.any_time {
                return webhook.verify(&request.body, &headers).is_ok();
            }
            let header = |name| request.header(name).expect("a header");
            let at = header("webhook-timestamp").parse().expect("seconds");
            let signed = webhook.sign(header("webhook-id"), at, &request.body).expect("signed");
            signed == header("webhook-signature")
        });
        if !verified {
            state.refused.push(format!("{request:?}"));
            return Answer::new(401, "not verified").into();
        }
        let mut received = Received {
            id: request.header("webhook-id").expect("an id").to_owned(),
            path: request.path.clone(),
            body: request.json(),
            bytes: request.body.clone(),
            status: None,
            request,
        };
        let reply = match state.scripts.get_mut(&received.path) {
            Some(script) => script(&received),
            None => Answer::new(200, "").into(),
        };
        received.status = match &reply {
            Reply::Answer(answer) => Some(answer.status),
            _ => None,
        };
        state.received.push(received);
        reply
    }
}
