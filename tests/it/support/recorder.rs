//! A receiver that takes everything, whatever it is, and answers by script.

use std::sync::{Arc, Mutex};

use super::server::{Answer, Reply, Request, Server, eventually};

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

pub struct Recorder {
    server: Server,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<Script>>,
}

impl Recorder {
    /// Answers 200.
    pub async fn start() -> Self {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_| Answer::new(200, "").into())));
        let (kept, scripted) = (requests.clone(), script.clone());
        let server = Server::start(Arc::new(move |request: Request| {
            let reply = (scripted.lock().expect("no test panics with it"))(&request);
            kept.lock().expect("no test panics with it").push(request);
            reply
        }))
        .await;
        Self { server, requests, script }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    pub fn answers(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.script.lock().expect("no test panics with it") = Box::new(script);
    }

    pub fn status(&self, status: u16) {
        self.answers(move |_| Answer::new(status, "").into());
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics with it").clone()
    }

    /// Waits for so many requests.
    pub async fn wait(&self, n: usize) -> Vec<Request> {
        eventually(&format!("{n} requests"), async || self.requests().len() >= n).await;
        self.requests()
    }
}
