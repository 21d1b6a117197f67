//! What all handlers share: whether there are answers, and where the page is.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
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
}
