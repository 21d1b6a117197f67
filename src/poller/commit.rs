//! From what was detected to a commit: missing records, the guard, events, and the hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{Failure, Polled, Poller, Polling, Verdict, known::value_of};
use crate::{
    compute::compute,
    config::{Bridge, DefinitionChanged, FirstPoll},
    diff::Diff,
    event::{Change, Maker},
    extract::Parsed,
    guard::Counts,
    model::{ChangeKind, Entry, Event, Hash, Record, Timestamp},
    source::Answer,
    store::{BridgeState, Commit, HoldChange, List, Op, Progress, Written},
    telemetry::{kind, trace},
};

/// What an answer brings, before it is judged.
#[derive(Debug, Default, PartialEq)]
pub struct Detected {
    pub diff: Diff,
    /// Every record of a window's answer, until it is compared.
    pub(super) window: Vec<Parsed>,
    pub(super) mark: Option<String>,
    /// Records of a window that must be written again so that they are not forgotten.
    pub(super) seen_again: Vec<Record>,
    /// Messages that could not be read: how many, and what was wrong with the first.
    pub(super) left_out: Option<(usize, String)>,
    /// Absence means something.
    pub(super) complete: bool,
}

impl Detected {
    pub fn complete(diff: Diff) -> Self {
        Self { diff, complete: true, ..Self::default() }
    }

    pub fn window(window: Vec<Parsed>, mark: Option<String>) -> Self {
        Self { window, mark, ..Self::default() }
    }

    /// An answer without any record: all that is known is missing.
    pub fn nothing(known: Vec<Entry>) -> Self {
        let missing = known.iter().map(|entry| entry.key).collect();
        Self { diff: Diff { list: known, missing, ..Diff::default() }, complete: true, ..Self::default() }
    }
}

/// How a judged answer is to be committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    Loud,
    /// Baseline, or `definition-changed = "rebaseline"`: no events.
    Silent,
}

impl Poller {
    /// Judges what was found, and commits it, or holds it, or finds that there is nothing to commit. `answer` is absent
    /// when the accepted one came again.
    pub(super) async fn judge_and_commit(
        &self,
        polled: &mut Polled,
        found: Detected,
        pages: u32,
        answer: Option<(Hash, Answer)>,
    ) -> Result<Polling, Failure> {
        let (mut deleted, mut missing) = count_missing(polled, &found, pages);
        let first = polled.state.version == 0;
        let definition_changed = !first && !polled.definition_is_same();
        let counts = counts(polled, &found, deleted.len(), definition_changed);
        let silent = first && polled.bridge.first_poll == FirstPoll::Baseline
            || definition_changed && polled.bridge.definition_changed == DefinitionChanged::Rebaseline;
        if silent && !first {
            // What the new definition lacks goes as silently as all else.
            (deleted, missing) = (found.diff.missing.clone(), Vec::new());
        }
        // A message comes once: held, it would be lost with the next one. An empty list is suspicious however silent its
        // commit would be.
        let is_stream = polled.bridge.source.is_stream();
        if !is_stream && !silent || counts.complete && counts.present == 0 && counts.known > 0 {
            match polled.bridge.guard.judge(counts) {
                Verdict::Commit => {}
                Verdict::Error(message) => return Err(Failure::Answer(message)),
                Verdict::Hold(reason) => return self.hold_answer(polled, counts, reason, answer).await,
            }
        }
        // Of an accepted answer only: what a held or refused one lacks says nothing when the accepted one comes again.
        polled.progress.missing = missing;
        let silence = if silent { Silence::Silent } else { Silence::Loud };
        self.commit(polled, found, deleted, pages, answer, silence).await
    }

    pub(super) async fn commit(
        &self,
        polled: &mut Polled,
        found: Detected,
        deleted: Vec<Hash>,
        pages: u32,
        answer: Option<(Hash, Answer)>,
        silence: Silence,
    ) -> Result<Polling, Failure> {
        let now = self.clock.now();
        let Detected { diff, mark, seen_again, complete, .. } = found;
        let first = polled.state.version == 0;
        let changed =
            !(diff.created.is_empty() && diff.updated.is_empty() && deleted.is_empty() && seen_again.is_empty());
        let mark_moved = mark.is_some() && mark != polled.state.mark;
        if !first && !changed && !mark_moved && polled.held.is_none() && polled.definition_is_same() {
            if let Some((hash, answer)) = answer {
                polled.progress.answer = Some(hash);
                polled.progress.validators = Some(answer.validators);
                polled.progress.pages = Some(pages);
            }
            return Ok(Polling::Same);
        }
        let (created, updated) = (u64_of(diff.created.len()), u64_of(diff.updated.len()));
        let old = self.replaced(&polled.bridge.name, &diff, &deleted).await?;
        let gone: BTreeSet<Hash> = deleted.iter().copied().collect();
        let mut delete = deleted.clone();
        let (records, list) = if complete {
            let list: Vec<Entry> = diff.list.iter().filter(|entry| !gone.contains(&entry.key)).copied().collect();
            (u64_of(list.len()), Some(list))
        } else {
            if polled.bridge.source.forgets() && self.is_another_day(polled, now) {
                delete.extend(self.forgotten(polled, now).await?);
            }
            ((polled.state.records + created).saturating_sub(u64_of(delete.len())), None)
        };
        let maker = self.maker(&polled.bridge, now);
        let sequence = polled.state.sequence;
        let bridge = polled.bridge.clone();
        let deleted_count = u64_of(deleted.len());
        // Patches and expressions take time: on a blocking thread.
        let make = move || make(&maker, &bridge, sequence, now, diff, &deleted, &old, silence);
        let (mut put, events) =
            compute(make).await.map_err(|e| Failure::Answer(format!("making events panicked: {e}")))??;
        put.extend(seen_again);
        let last = polled.state.clone();
        let (hash, validators, previous) = match answer {
            Some((hash, answer)) => (Some(hash), answer.validators, Some(answer.meta)),
            // The accepted answer again: what is known of it still holds.
            None => (
                polled.progress.answer.or(last.answer),
                polled.progress.validators.clone().unwrap_or_else(|| last.validators.clone()),
                last.previous.clone(),
            ),
        };
        let state = BridgeState {
            version: last.version + 1,
            sequence: sequence + u64_of(events.len()),
            definition: polled.fingerprint,
            answer: hash,
            pages,
            records,
            validators,
            mark: mark.or_else(|| polled.mark().cloned()),
            previous,
            accepted_at: now,
        };
        let hold = if polled.held.is_some() { HoldChange::Clear } else { HoldChange::Keep };
        let commit = Commit {
            bridge: Some(polled.bridge.name.clone()),
            expected: last.version,
            state,
            list: list.map(List::Whole),
            put,
            delete,
            hold,
            events,
            ahead: None,
        };
        self.write(polled, commit).await?;
        let bridge = &polled.bridge.name;
        if polled.is_on_hold() {
            tracing::info!(message_id = kind::BRIDGE_RELEASED, %bridge, "nothing is held any more");
        }
        polled.progress.missing.retain(|(key, _)| !gone.contains(key));
        let (deleted, baseline) = (deleted_count, silence == Silence::Silent);
        if baseline || created + updated + deleted > 0 {
            tracing::info!(message_id = kind::BRIDGE_CHANGED, %bridge, created, updated, deleted, records, baseline, "committed");
        } else {
            tracing::debug!(%bridge, records, "committed without a change that counts");
        }
        polled.held = None;
        Ok(if baseline {
            Polling::Baseline { records }
        } else if created + updated + deleted == 0 {
            Polling::Same
        } else {
            Polling::Changed { created, updated, deleted }
        })
    }

    /// A commit beside the snapshot, of a hold or of events alone: what is known of the accepted answer still is.
    pub(super) async fn write_beside(&self, polled: &mut Polled, commit: Commit, sequence: u64) -> Result<(), Failure> {
        let state = BridgeState { version: polled.state.version + 1, sequence, ..polled.state.clone() };
        let known = polled.progress.clone();
        let version = state.version;
        let (bridge, expected) = (Some(polled.bridge.name.clone()), polled.state.version);
        self.write(polled, Commit { bridge, expected, state, ..commit }).await?;
        polled.progress = Progress { version, ..known };
        Ok(())
    }

    /// Writes a commit; the bridge stands where it leads only when it is durable.
    pub(super) async fn write(&self, polled: &mut Polled, commit: Commit) -> Result<(), Failure> {
        let state = commit.state.clone();
        trace::originates(commit.events.iter().map(|event| event.id.to_string()));
        match self.store.write(Op::Commit(Box::new(commit))).await {
            Ok(written) => {
                let progress = &mut polled.progress;
                (progress.version, progress.answer, progress.validators, progress.pages) =
                    (state.version, None, None, None);
                polled.state = state;
                if let Written::Queued(queued) = written {
                    self.deliveries.queued(queued).await;
                }
                Ok(())
            }
            // Another owner, or an unknown end: what is stored decides, read anew when the store is opened again.
            Err(error) => Err(error.into()),
        }
    }
}

/// Which records are to be deleted, and which are missing with this answer and for how long.
pub(super) fn count_missing(polled: &Polled, found: &Detected, pages: u32) -> (Vec<Hash>, Vec<(Hash, u32)>) {
    if !found.complete {
        return (Vec::new(), polled.progress.missing.clone());
    }
    let after = polled.deletes_after(pages);
    let before: BTreeMap<Hash, u32> = polled.progress.missing.iter().copied().collect();
    let (mut due, mut waiting) = (Vec::new(), Vec::new());
    for key in &found.diff.missing {
        let count = before.get(key).copied().unwrap_or(0).saturating_add(1);
        if count >= after {
            due.push(*key);
        }
        waiting.push((*key, count));
    }
    // Those that are due stay counted until their deletion is durable.
    (due, waiting)
}

pub(super) fn counts(polled: &Polled, found: &Detected, deleted: usize, definition_changed: bool) -> Counts {
    Counts {
        known: polled.state.records,
        present: found.diff.present,
        created: u64_of(found.diff.created.len()),
        updated: u64_of(found.diff.updated.len()),
        deleted: u64_of(deleted),
        definition_changed,
        // A document that is gone is no empty list.
        complete: found.complete && polled.bridge.definition.items.is_some(),
    }
}

/// Changes in a stable order: created, updated, deleted, each in the answer's order, with the records to store.
pub(super) fn changes(
    diff: Diff,
    deleted: &[Hash],
    old: &BTreeMap<Hash, Record>,
) -> Result<Vec<(Change, Option<Entry>)>, Failure> {
    let body = |key: &Hash| -> Result<(String, Json), Failure> {
        let record = old.get(key).ok_or_else(|| Failure::Answer("a known record is not in the store".into()))?;
        Ok((record.key.clone(), value_of(record)?))
    };
    let mut out = Vec::new();
    for parsed in diff.created {
        let Parsed { key, entry, value } = parsed;
        out.push((Change { kind: ChangeKind::Created, key, before: None, after: Some(value) }, Some(entry)));
    }
    for parsed in diff.updated {
        let (_, before) = body(&parsed.entry.key)?;
        let Parsed { key, entry, value } = parsed;
        out.push((Change { kind: ChangeKind::Updated, key, before: Some(before), after: Some(value) }, Some(entry)));
    }
    for key in deleted {
        let (key, before) = body(key)?;
        out.push((Change { kind: ChangeKind::Deleted, key, before: Some(before), after: None }, None));
    }
    Ok(out)
}

/// The records to put and the events to commit.
#[expect(clippy::too_many_arguments, reason = "one step of the commit, cut out to run on a blocking thread")]
fn make(
    maker: &Maker,
    bridge: &Bridge,
    sequence: u64,
    now: Timestamp,
    diff: Diff,
    deleted: &[Hash],
    old: &BTreeMap<Hash, Record>,
    silence: Silence,
) -> Result<(Vec<Record>, Vec<Event>), Failure> {
    let (mut put, mut events) = (Vec::new(), Vec::new());
    let mut next = sequence;
    for (change, entry) in changes(diff, deleted, old)? {
        if let (Some(entry), Some(after)) = (entry, &change.after) {
            put.push(Record { entry, key: change.key.clone(), seen: now, body: after.to_string().into_bytes() });
        }
        let reported = change.kind != ChangeKind::Deleted || bridge.deletes.report;
        // An edit of the definition may find a difference where there is none.
        let differs = change.before != change.after;
        if silence == Silence::Loud && reported && differs {
            next += 1;
            events.push(maker.event(next, &change));
        }
    }
    Ok((put, events))
}

pub(super) fn u64_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
