//! The door to the runner: what may be asked of it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use super::{
    Poller,
    job::{Asked, Job, Refused},
    told::{Done, Ended, Status, Tried},
};
use crate::{
    auth::files::Places,
    config::Bridge,
    decode::Page,
    model::{Hash, Name},
    pulse::Moves,
};

pub(super) enum Request {
    Job(Name, Job),
    Status(oneshot::Sender<BTreeMap<Name, Status>>),
    Moves(oneshot::Sender<Moves>),
    Renewed(Places),
    Apply(BTreeMap<Name, Arc<Bridge>>, Box<Poller>, oneshot::Sender<()>),
}

/// The door; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
}

impl Handle {
    async fn job<T>(&self, bridge: Name, job: impl FnOnce(Asked<T>) -> Job) -> Result<T, Refused> {
        let gone = || Refused("the daemon is stopping".into());
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Job(bridge, job(answer))).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Stops the polls of a bridge, or lets them go on.
    pub async fn pause(&self, bridge: Name, pause: bool) -> Result<Done, Refused> {
        self.job(bridge, |answer| Job::Pause(pause, answer)).await
    }

    /// One poll now.
    pub async fn poll(&self, bridge: Name) -> Result<Ended, Refused> {
        self.job(bridge, Job::Poll).await
    }

    /// What a poll would do.
    pub async fn dry_run(&self, bridge: Name, saved: Option<Page>) -> Result<Tried, Refused> {
        self.job(bridge, |answer| Job::DryRun(saved, answer)).await
    }

    pub async fn accept(&self, bridge: Name, hash: Option<Hash>) -> Result<Ended, Refused> {
        self.job(bridge, |answer| Job::Accept(hash, answer)).await
    }

    pub async fn reject(&self, bridge: Name, hash: Option<Hash>) -> Result<Done, Refused> {
        self.job(bridge, |answer| Job::Reject(hash, answer)).await
    }

    pub async fn resend(&self, bridge: Name, endpoint: Name) -> Result<Done, Refused> {
        self.job(bridge, |answer| Job::Resend(endpoint, answer)).await
    }

    /// Files of secrets hold others: what failed behind one is polled at once.
    pub async fn renewed(&self, places: Places) {
        // At shutdown nobody takes it.
        let _ = self.requests.send(Request::Renewed(places)).await;
    }

    /// How every bridge stands.
    pub async fn status(&self) -> BTreeMap<Name, Status> {
        let (answer, result) = oneshot::channel();
        if self.requests.send(Request::Status(answer)).await.is_err() {
            return BTreeMap::new();
        }
        result.await.unwrap_or_default()
    }

    /// Whether a poll is due or under way, and how many have ended; `None` where nobody answers.
    pub async fn moves(&self) -> Option<Moves> {
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Moves(answer)).await.ok()?;
        result.await.ok()
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
