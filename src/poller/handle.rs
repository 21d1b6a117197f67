//! The door to the runner: what may be asked of it, and how bridges stand as it tells.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};

use super::{
    Poller,
    job::{Answer, Job, Refused},
};
use crate::{
    config::Bridge,
    decode::Page,
    model::{Hash, Name, Timestamp},
    store::{BridgeState, Progress},
};

/// How a bridge stands, as `status` shows it, with a daemon and without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// The one word for it: `ok`, `new`, `failing`, `held`, `paused` or `disabled`.
    pub state: &'static str,
    pub records: u64,
    pub sequence: u64,
    pub version: u64,
    pub last_poll: Option<String>,
    pub next_poll: Option<String>,
    pub failures: u32,
    /// How often the answer that is held, or rejected, came again.
    pub held_again: u64,
    pub last_error: Option<String>,
    pub polling: bool,
    pub source: String,
}

/// The one word for a bridge. `waits` says whether an answer is held that nobody has decided on.
fn state(bridge: &Bridge, progress: &Progress, waits: bool, version: u64) -> &'static str {
    if !bridge.enabled {
        "disabled"
    } else if progress.paused {
        "paused"
    } else if progress.failures > 0 {
        "failing"
    } else if waits {
        "held"
    } else if version == 0 {
        "new"
    } else {
        "ok"
    }
}

impl Status {
    /// From what is stored of it, which is all that is known between two polls. `due` is when it is polled next.
    pub fn of(bridge: &Bridge, stored: &BridgeState, progress: &Progress, waits: bool, due: Timestamp) -> Self {
        Self {
            state: state(bridge, progress, waits, stored.version),
            records: stored.records,
            sequence: stored.sequence,
            version: stored.version,
            last_poll: progress.last_poll.map(|at| at.to_string()),
            next_poll: bridge.enabled.then(|| due.to_string()),
            failures: progress.failures,
            held_again: progress.held_again,
            last_error: progress.last_error.clone(),
            polling: false,
            source: bridge.source.describe(),
        }
    }
}

pub(super) enum Request {
    Job(Name, Job),
    Status(oneshot::Sender<BTreeMap<Name, Status>>),
    Apply(BTreeMap<Name, Arc<Bridge>>, Box<Poller>, oneshot::Sender<()>),
}

/// The door; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
}

impl Handle {
    async fn job(&self, bridge: Name, job: impl FnOnce(Answer) -> Job) -> Result<Json, Refused> {
        let gone = || Refused("the daemon is stopping".into());
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Job(bridge, job(answer))).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Stops the polls of a bridge, or lets them go on.
    pub async fn pause(&self, bridge: Name, pause: bool) -> Result<Json, Refused> {
        self.job(bridge, |answer| Job::Pause(pause, answer)).await
    }

    /// One poll now.
    pub async fn poll(&self, bridge: Name) -> Result<Json, Refused> {
        self.job(bridge, Job::Poll).await
    }

    /// What a poll would do.
    pub async fn dry_run(&self, bridge: Name, saved: Option<Page>) -> Result<Json, Refused> {
        self.job(bridge, |answer| Job::DryRun(saved, answer)).await
    }

    pub async fn accept(&self, bridge: Name, hash: Option<Hash>) -> Result<Json, Refused> {
        self.job(bridge, |answer| Job::Accept(hash, answer)).await
    }

    pub async fn reject(&self, bridge: Name, hash: Option<Hash>) -> Result<Json, Refused> {
        self.job(bridge, |answer| Job::Reject(hash, answer)).await
    }

    pub async fn resend(&self, bridge: Name, endpoint: Name) -> Result<Json, Refused> {
        self.job(bridge, |answer| Job::Resend(endpoint, answer)).await
    }

    /// How every bridge stands.
    pub async fn status(&self) -> BTreeMap<Name, Status> {
        let (answer, result) = oneshot::channel();
        if self.requests.send(Request::Status(answer)).await.is_err() {
            return BTreeMap::new();
        }
        result.await.unwrap_or_default()
    }

    /// Takes the bridges of another configuration; unchanged ones keep their timing.
    pub async fn apply(&self, bridges: BTreeMap<Name, Arc<Bridge>>, poller: Poller) {
        let (answer, result) = oneshot::channel();
        if self.requests.send(Request::Apply(bridges, Box::new(poller), answer)).await.is_ok() {
            // An error ends the run, which says so itself.
            let _ = result.await;
        }
    }
}
