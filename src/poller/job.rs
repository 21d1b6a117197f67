//! Work on one bridge, one job at a time: a poll that is due, or what an admin asked for.

use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use super::{Failure, Outcome, Polled, Poller, Polling};
use crate::{
    decode::Page,
    guard::Verdict,
    model::{Hash, Name},
    store::Op,
    telemetry::kind,
};

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

pub(super) type Answer = oneshot::Sender<Result<Json, Refused>>;

/// Work on one bridge, exclusive.
pub(super) enum Job {
    Due,
    Poll(Answer),
    /// With saved pages, or with those that the source gives now.
    DryRun(Option<Page>, Answer),
    Accept(Option<Hash>, Answer),
    Reject(Option<Hash>, Answer),
    Resend(Name, Answer),
    /// Stop polling, or go on.
    Pause(bool, Answer),
}

pub(super) fn refuse(job: Job, why: String) {
    match job {
        Job::Due => {}
        Job::Poll(answer)
        | Job::DryRun(_, answer)
        | Job::Accept(_, answer)
        | Job::Reject(_, answer)
        | Job::Pause(_, answer)
        | Job::Resend(_, answer) => drop(answer.send(Err(Refused(why)))),
    }
}

/// One job. The outcome is there when it was a poll.
pub(super) async fn run_job(poller: Poller, mut polled: Polled, job: Job) -> (Polled, Option<Outcome>) {
    // The one who asked may have gone; the work is done all the same.
    let reply = |answer: Answer, result: Result<Json, String>| drop(answer.send(result.map_err(Refused)));
    match job {
        Job::Due => {
            let outcome = poller.poll_once(&mut polled).await;
            return (polled, Some(outcome));
        }
        Job::Poll(answer) => {
            let outcome = poller.poll_once(&mut polled).await;
            reply(answer, outcome.result.as_ref().map(show).map_err(|failure| poller.told(failure)));
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
            reply(answer, result.map(|polling| show(&polling)));
        }
        Job::Reject(hash, answer) => {
            let result = poller.reject(&mut polled, hash).await;
            reply(answer, result.map(|()| json!({ "result": "rejected" })));
        }
        Job::Pause(pause, answer) => {
            let was = std::mem::replace(&mut polled.progress.paused, pause);
            polled.watch_from(poller.clock.now());
            let rows = vec![(polled.bridge.name.clone(), polled.progress.clone())];
            let written = poller.store.write(Op::Progress(rows)).await;
            let bridge = &polled.bridge.name;
            match (was, pause) {
                (false, true) => tracing::info!(message_id = kind::BRIDGE_PAUSED, %bridge, "paused by hand"),
                (true, false) => tracing::info!(message_id = kind::BRIDGE_RESUMED, %bridge, "resumed by hand"),
                _ => {}
            }
            let result = if pause { "paused" } else { "resumed" };
            reply(answer, written.map(|_| json!({ "result": result })).map_err(|e| e.to_string()));
        }
        Job::Resend(endpoint, answer) => {
            let result = poller.resend(&mut polled, &endpoint).await;
            reply(answer, result.map(|sent| json!({ "result": "resent", "events": sent })).map_err(|e| e.to_string()));
        }
    }
    (polled, None)
}

fn show(polling: &Polling) -> Json {
    match polling {
        Polling::Unchanged => json!({ "result": "unchanged" }),
        Polling::Same => json!({ "result": "no change that counts" }),
        Polling::Baseline { records } => json!({ "result": "baseline", "records": records }),
        Polling::Changed { created, updated, deleted } => {
            json!({ "result": "changed", "created": created, "updated": updated, "deleted": deleted })
        }
        Polling::Held => json!({ "result": "held" }),
    }
}

/// Shows request, pages, records, keys and changes; writes nothing.
async fn dry_run(poller: &Poller, polled: &mut Polled, saved: Option<Page>) -> Result<Json, Failure> {
    /// Changes that are shown in full.
    const SHOWN_MAX: usize = 100;
    let request = polled.bridge.source.describe();
    let (pages, date) = match saved {
        Some(page) => (vec![page], None),
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
                crate::source::Fetched::Pages(answer) => (answer.pages, answer.date),
                crate::source::Fetched::Absent { .. } => return Ok(json!({ "request": request, "absent": true })),
                crate::source::Fetched::NotModified { .. } => {
                    return Ok(json!({ "request": request, "not-modified": true }));
                }
            }
        }
    };
    let mut shown = Vec::new();
    for (number, page) in pages.iter().enumerate() {
        let records = polled.bridge.definition.records(page)?;
        let keys: Result<Vec<String>, _> = records
            .into_iter()
            .enumerate()
            .map(|(at, raw)| {
                polled.bridge.definition.parse(&raw, at + 1, &format!("page {}", number + 1)).map(|p| p.key)
            })
            .collect();
        let keys = keys?;
        shown.push(json!({ "url": page.url, "bytes": page.body.len(), "records": keys.len(), "keys": keys }));
    }
    let found = poller.dry_run(polled, pages, date, SHOWN_MAX).await?;
    let changes: Vec<Json> = found
        .changes
        .iter()
        .map(|change| json!({ "change": change.kind, "key": change.key, "before": change.before, "after": change.after }))
        .collect();
    let verdict = match found.verdict {
        Verdict::Commit => json!("commit"),
        Verdict::Hold(reason) => json!({ "hold": reason }),
        Verdict::Error(reason) => json!({ "error": reason }),
    };
    Ok(json!({
        "request": request, "pages": shown, "baseline": polled.state.version == 0,
        "created": found.counts.created, "updated": found.counts.updated, "deleted": found.counts.deleted,
        "verdict": verdict, "changes": changes,
    }))
}
