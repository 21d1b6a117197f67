//! `daemon.heartbeat`: so that silence is noticed.

use std::time::Duration;

use tokio::time::{Instant, Interval, interval_at};

use super::Parts;
use crate::{
    config::{self, Config},
    event,
    model::Timestamp,
    store::{Commit, Op, Written},
};

/// Of an interval that nobody waits for.
const NEVER_ASKED: Duration = Duration::from_secs(60 * 60);

/// The first one comes after an interval: a daemon that is started again and again must not look alive.
pub(super) fn every(heartbeat: Option<&config::Heartbeat>) -> Interval {
    let every = heartbeat.map_or(NEVER_ASKED, |heartbeat| heartbeat.every);
    interval_at(Instant::now() + every, every)
}

/// An event that says nothing but that the daemon, its store and its deliveries work.
pub(super) async fn send(config: &Config, parts: &Parts, now: Timestamp) {
    let Some(heartbeat) = &config.daemon.heartbeat else { return };
    let data = serde_json::json!({ "bridges": config.bridges.len(), "endpoints": config.endpoints.len() });
    let event = event::operational("heartbeat", "daemon", data, &config.alarmed(&heartbeat.to), now);
    let commit = Commit { events: vec![event], ..Commit::default() };
    match parts.store.write(Op::Commit(Box::new(commit))).await {
        Ok(Written::Queued(queued)) => parts.deliveries.queued(queued).await,
        Ok(_) => {}
        // The store's failure ends the run, which is told once.
        Err(error) => tracing::debug!(%error, "the heartbeat could not be stored"),
    }
}
