//! What all handlers share: whether there are answers, and where the page is.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Admin, session::Codes};
use crate::pulse::Pulse;

/// Whether there are answers.
#[derive(Clone)]
pub enum Standing {
    Running(Box<Admin>),
    /// There are, but nothing is polled, and why.
    Paused(Box<Admin>, String),
    /// Why not.
    NotReady(String),
}

/// What the handlers share. It outlives a store that is opened again.
#[derive(Clone)]
pub struct Web {
    pub standing: watch::Receiver<Standing>,
    pub pulse: Pulse,
    pub shutdown: CancellationToken,
    /// Where the page is: only the socket tells it, with a code.
    pub page: Arc<OnceLock<String>>,
    pub codes: Codes,
    pub reloads: Reloads,
}

/// A reload that a command asks for.
pub struct Reloading {
    /// Also where it removes most bridges.
    pub force: bool,
    /// What it changes, or why it is refused.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// Where reloads are asked for. Nobody answers behind the default.
#[derive(Clone, Default)]
pub struct Reloads(Option<mpsc::Sender<Reloading>>);

impl Reloads {
    /// And where they are taken.
    pub fn new() -> (Self, mpsc::Receiver<Reloading>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(Some(sender)), receiver)
    }

    /// Asks for one, and waits until the file was read.
    pub async fn ask(&self, force: bool) -> Result<String, String> {
        let gone = || "the daemon is stopping".to_owned();
        let (answer, result) = oneshot::channel();
        let sender = self.0.as_ref().ok_or_else(gone)?;
        sender.send(Reloading { force, answer }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}
