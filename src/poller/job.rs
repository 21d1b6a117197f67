//! Work on one bridge, one job at a time: a poll that is due, or what an admin asked for.

use serde_json::Value as Json;
use tokio::sync::oneshot;

use super::{
    Failure, Outcome, Polled, Poller, Polling,
    told::{Deed, Done, Ended, Tried, TriedChange, TriedPage},
};
use crate::{
    config::BadRecords,
    decode::Page,
    failpoint,
    model::{Hash, Name},
    store::Op,
    telemetry::kind,
};

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Where an answer goes.
pub(super) type Asked<T> = oneshot::Sender<Result<T, Refused>>;

/// Work on one bridge, exclusive.
pub(super) enum Job {
    Due,
    Poll(Asked<Ended>),
    /// With saved pages, or with those that the source gives now.
    DryRun(Option<Page>, Asked<Tried>),
    Accept(Option<Hash>, Asked<Ended>),
    Reject(Option<Hash>, Asked<Done>),
    Resend(Name, Asked<Done>),
    /// Stop polling, or go on.
    Pause(bool, Asked<Done>),
}

pub(super) fn refuse(job: Job, why: String) {
    match job {
        Job::Due => {}
        Job::Poll(asked) | Job::Accept(_, asked) => reply(asked, Err(why)),
        Job::DryRun(_, asked) => reply(asked, Err(why)),
        Job::Reject(_, asked) | Job::Pause(_, asked) | Job::Resend(_, asked) => reply(asked, Err(why)),
    }
}

/// Who asked may have gone; the work is done all the same.
fn reply<T>(asked: Asked<T>, result: Result<T, String>) {
    let _ = asked.send(result.map_err(Refused));
}

/// One job. The outcome is there when it was a poll.
pub(super) async fn run_job(poller: Poller, mut polled: Polled, job: Job) -> (Polled, Option<Outcome>) {
    failpoint::stand_still("poll").await;
    match job {
        Job::Due => {
            let outcome = poller.poll_once(&mut polled).await;
            return (polled, Some(outcome));
        }
        Job::Poll(answer) => {
            let outcome = poller.poll_once(&mut polled).await;
            reply(answer, outcome.result.as_ref().map(Ended::from).map_err(|failure| poller.told(failure)));
            return (polled, Some(outcome));
        }
        Job::DryRun(saved, answer) => {
            let result = dry_run(&poller, &mut polled, saved).await;
            reply(answer, result.map_err(|failure| poller.told(&failure)));
        }
        Job::Accept(hash, answer) => {
            let result = poller.accept(&mut polled, hash).await;
            if let Ok(Polling::Changed { created, updated, deleted }) = &result {
                poller.pulse.accepted(&polled.bridge.name, [*created, *updated, *deleted], poller.clock.now());
            }
            reply(answer, result.as_ref().map(Ended::from).map_err(Clone::clone));
        }
        Job::Reject(hash, answer) => {
            let result = poller.reject(&mut polled, hash).await;
            reply(answer, result.map(|()| Deed::Rejected.into()));
        }
        Job::Pause(pause, answer) => {
            let was = std::mem::replace(&mut polled.progress.paused, pause);
            polled.watch_from(poller.clock.now());
            if was && !pause {
                polled.may_be_cured();
            }
            let rows = vec![(polled.bridge.name.clone(), polled.progress.clone())];
            let written = poller.store.write(Op::Progress(rows)).await;
            let bridge = &polled.bridge.name;
            match (was, pause) {
                (false, true) => tracing::info!(message_id = kind::BRIDGE_PAUSED, %bridge, "paused by hand"),
                (true, false) => tracing::info!(message_id = kind::BRIDGE_RESUMED, %bridge, "resumed by hand"),
                _ => {}
            }
            let done = if pause { Deed::Paused } else { Deed::Resumed };
            reply(answer, written.map(|_| done.into()).map_err(|e| e.to_string()));
        }
        Job::Resend(endpoint, answer) => {
            let result = poller.resend(&mut polled, &endpoint).await;
            reply(
                answer,
                result.map(|sent| Done { events: Some(sent), ..Deed::Resent.into() }).map_err(|e| e.to_string()),
            );
        }
    }
    (polled, None)
}

/// Shows request, pages, records, keys and changes; writes nothing.
async fn dry_run(poller: &Poller, polled: &mut Polled, saved: Option<Page>) -> Result<Tried, Failure> {
    /// Changes that are shown in full.
    const SHOWN_MAX: usize = 100;
    let request = polled.bridge.source.describe();
    let (pages, date, said, meta) = match saved {
        Some(page) => (vec![page], None, None, Json::Null),
        None => {
            let mut fresh = Polled::new(polled.bridge.clone(), None, None);
            // A mark counts under the definition that it is of.
            fresh.state.definition = polled.state.definition;
            fresh.state.version = polled.state.version;
            fresh.state.mark = polled.state.mark.clone();
            fresh.state.mark_is_number = polled.state.mark_is_number;
            fresh.state.previous = polled.state.previous.clone();
            let mut share = poller.budget.share(fresh.expected_bytes).await;
            match poller.fetch(&mut fresh, &mut share).await? {
                crate::source::Fetched::Pages(answer) => (answer.pages, answer.date, answer.said, answer.meta),
                crate::source::Fetched::Absent { .. } => {
                    return Ok(Tried { request, absent: true, ..Tried::default() });
                }
                crate::source::Fetched::NotModified { .. } => {
                    return Ok(Tried { request, not_modified: true, ..Tried::default() });
                }
            }
        }
    };
    let mut shown = Vec::new();
    for (number, page) in pages.iter().enumerate() {
        let records = polled.bridge.definition.records(page)?.all;
        let (count, keeps) = (records.len(), polled.bridge.bad_records == BadRecords::Keep);
        let keys: Result<Vec<String>, _> = records
            .into_iter()
            .enumerate()
            .map(|(at, raw)| {
                polled.bridge.definition.parse(&raw, at + 1, &format!("page {}", number + 1)).map(|p| p.key)
            })
            .filter(|key| !keeps || key.is_ok())
            .collect();
        shown.push(TriedPage { url: page.url.clone(), bytes: page.body.len(), records: count, keys: keys? });
    }
    let found = poller.dry_run(polled, pages, date, said, &meta, SHOWN_MAX).await?;
    let changes = found.changes.into_iter().map(|change| TriedChange {
        change: change.kind,
        key: change.key.to_string(),
        before: change.before,
        after: change.after,
    });
    Ok(Tried {
        request,
        pages: shown,
        baseline: polled.state.version == 0,
        created: found.counts.created,
        updated: found.counts.updated,
        deleted: found.counts.deleted,
        verdict: Some(found.verdict.into()),
        changes: changes.collect(),
        hints: found.hints,
        ..Tried::default()
    })
}
