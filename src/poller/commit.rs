//! From what was detected to a commit: missing records, the guard, events, and the hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{Failure, Polled, Poller, Polling, Verdict, detect::Detected, known::value_of};
use crate::{
    compute::compute,
    config::{Bridge, DefinitionChanged, FirstPoll},
    deliver::Dead,
    diff::Diff,
    event::{Change, Maker},
    extract::{Definition, Seen},
    guard::Counts,
    guess::differing::Differing,
    model::{ChangeKind, Entry, Event, Hash, Name, Record, Timestamp, u64_of},
    source::Answer,
    store::{self, BridgeState, HoldChange, Progress, Queued},
    telemetry::{kind, trace},
};

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
            deleted = if found.complete { found.diff.missing.clone() } else { deleted };
            missing = Vec::new();
        }
        // A message comes once: held, it would be lost with the next one. An empty list is suspicious however silent its
        // commit would be.
        let is_stream = polled.bridge.source.is_stream();
        if !is_stream && !silent || counts.complete && counts.present == 0 && counts.known > 0 {
            match polled.bridge.guard.judge(counts) {
                Verdict::Commit => {}
                Verdict::Error(message) => return Err(Failure::Guard(message)),
                Verdict::Hold(reason) => return self.hold_answer(polled, counts, reason, answer).await,
            }
        }
        // Of an accepted answer only: what a held or refused one lacks says nothing when the accepted one comes again.
        let was_missing = std::mem::replace(&mut polled.progress.missing, missing);
        if !was_missing.is_empty() && polled.progress.missing.is_empty() {
            // A count that is over is not to be found again after a crash: the next miss would be the last one.
            self.save(polled).await;
        }
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
        let mark_moved = mark.is_some() && mark != polled.state.mark();
        if !first && !changed && !mark_moved && polled.held.is_none() && polled.definition_is_same() {
            if let Some((hash, answer)) = answer {
                polled.progress.answer = Some(hash);
                polled.progress.validators = Some(answer.validators);
                polled.progress.pages = Some(pages);
            }
            return Ok(Polling::Same);
        }
        let (created, updated) = (u64_of(diff.created.len()), u64_of(diff.updated.len()));
        let is_loud = silence == Silence::Loud;
        let wanted = Wanted { events: is_loud, differences: is_loud && is_nearly_all(&polled.bridge, &diff) };
        let gone: BTreeSet<Hash> = deleted.iter().copied().collect();
        let mut forgotten = Vec::new();
        let (records, list) = if complete {
            let list: Vec<Entry> = diff.list.into_iter().filter(|entry| !gone.contains(&entry.key)).collect();
            (u64_of(list.len()), Some(list))
        } else {
            forgotten = self.forgets(polled, now, &diff, &seen_again, &gone).await?;
            let less = u64_of(deleted.len() + forgotten.len());
            ((polled.state.records + created).saturating_sub(less), None)
        };
        let deleted_count = u64_of(deleted.len());
        let steps = steps(diff.created, diff.updated, deleted, forgotten, seen_again);
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
        let mark = mark.or_else(|| polled.mark());
        let mut state = BridgeState {
            version: last.version + 1,
            sequence: last.sequence,
            definition: polled.fingerprint,
            answer: hash,
            pages,
            records,
            validators,
            mark_is_number: mark.as_ref().and_then(|mark| mark.is_json),
            mark: mark.map(|mark| mark.text),
            previous,
            accepted_at: now,
        };
        let hold = if polled.held.is_some() { HoldChange::Clear } else { HoldChange::Keep };
        let name = polled.bridge.name.clone();
        let list = match list {
            Some(list) => Some(self.store.cut(&name, list).await?),
            None => None,
        };
        let mut writing = self.store.commit(name, last.version);
        let (mut dead, mut differing) = (BTreeMap::new(), Differing::default());
        for step in steps {
            let made = self.make(polled, step, state.sequence, now, wanted).await?;
            differing.add(made.differing);
            state.sequence += u64_of(made.events.len());
            trace::originates(made.events.iter().map(|event| event.id.to_string()));
            Dead::of(&made.events, &mut dead);
            writing.part(made.put, made.delete, made.events).await?;
        }
        let written = writing.finish(state.clone(), list, hold).await;
        self.stands(polled, state, written, dead).await?;
        polled.churn.note(wanted.differences.then_some(differing));
        polled.progress.missing.retain(|(key, _)| !gone.contains(key));
        let polling = if !is_loud {
            Polling::Baseline { records }
        } else if created + updated + deleted_count == 0 {
            Polling::Same
        } else {
            Polling::Changed { created, updated, deleted: deleted_count }
        };
        tell_committed(polled, [created, updated, deleted_count], polling);
        polled.held = None;
        Ok(polling)
    }

    /// Records that left a window for long, except those that this answer is about.
    async fn forgets(
        &self,
        polled: &Polled,
        now: Timestamp,
        diff: &Diff,
        seen_again: &[Hash],
        gone: &BTreeSet<Hash>,
    ) -> Result<Vec<Hash>, Failure> {
        if !polled.bridge.source.forgets() || !self.is_another_day(polled, now) {
            return Ok(Vec::new());
        }
        let written = diff.created.iter().chain(&diff.updated).map(|seen| seen.entry.key);
        let here: BTreeSet<Hash> = written.chain(seen_again.iter().copied()).collect();
        let mut forgotten = self.forgotten(polled, now).await?;
        forgotten.retain(|key| !here.contains(key) && !gone.contains(key));
        Ok(forgotten)
    }

    /// A commit beside the snapshot, of a hold or of events alone: what is known of the accepted answer still is.
    pub(super) async fn write_beside(
        &self,
        polled: &mut Polled,
        hold: HoldChange,
        events: Vec<Event>,
        sequence: u64,
    ) -> Result<(), Failure> {
        let state = BridgeState { version: polled.state.version + 1, sequence, ..polled.state.clone() };
        let known = polled.progress.clone();
        let version = state.version;
        let mut writing = self.store.commit(polled.bridge.name.clone(), polled.state.version);
        trace::originates(events.iter().map(|event| event.id.to_string()));
        let mut dead = BTreeMap::new();
        Dead::of(&events, &mut dead);
        let hold = writing.hold(hold).await?;
        writing.part(Vec::new(), Vec::new(), events).await?;
        let written = writing.finish(state.clone(), None, hold).await;
        self.stands(polled, state, written, dead).await?;
        polled.progress = Progress { version, ..known };
        Ok(())
    }

    /// The records to put and the events to commit of one step.
    async fn make(
        &self,
        polled: &Polled,
        step: Step,
        sequence: u64,
        now: Timestamp,
        wanted: Wanted,
    ) -> Result<WrittenStep, Failure> {
        let old = self.stored(&polled.bridge.name, step.replaced()).await?;
        let maker = self.maker(&polled.bridge, now);
        let bridge = polled.bridge.clone();
        // Patches and expressions take time: on a blocking thread.
        let make = move || make(&maker, &bridge, sequence, now, step, &old, wanted);
        compute(make).await.map_err(|e| Failure::Panicked(format!("making events: {e}")))?
    }

    /// The bridge stands where a commit leads when it is durable, and its events are handed over.
    async fn stands(
        &self,
        polled: &mut Polled,
        state: BridgeState,
        written: Result<Vec<Queued>, store::Error>,
        dead: BTreeMap<Name, Dead>,
    ) -> Result<(), Failure> {
        // Another owner, or an unknown end: what is stored decides, read again when the store is opened again.
        let queued = written?;
        let progress = &mut polled.progress;
        (progress.version, progress.answer, progress.validators, progress.pages) = (state.version, None, None, None);
        polled.state = state;
        for queued in queued {
            self.deliveries.queued(queued).await;
        }
        self.deliveries.died(dead).await;
        Ok(())
    }
}

/// Whether an answer with all that there is has changes in nearly every record. Of one that has only what is new that says nothing.
fn is_nearly_all(bridge: &Bridge, diff: &Diff) -> bool {
    let (updated, shows_all) = (u64_of(diff.updated.len()), bridge.since.is_none() && bridge.source.shows_all());
    shows_all && updated > 0 && updated.saturating_mul(10) >= diff.present.saturating_mul(9)
}

fn tell_committed(polled: &Polled, [created, updated, deleted]: [u64; 3], polling: Polling) {
    let (bridge, records) = (&polled.bridge.name, polled.state.records);
    if polled.is_on_hold() {
        tracing::info!(message_id = kind::BRIDGE_RELEASED, %bridge, "nothing is held any more");
    }
    let baseline = matches!(polling, Polling::Baseline { .. });
    if baseline || polling != Polling::Same {
        let message_id = kind::BRIDGE_CHANGED;
        tracing::info!(message_id, %bridge, created, updated, deleted, records, baseline, "committed");
    } else {
        tracing::debug!(%bridge, records, "committed without a change that counts");
    }
}

/// Which records are to be deleted, and which are missing with this answer and for how long.
pub(super) fn count_missing(polled: &Polled, found: &Detected, pages: u32) -> (Vec<Hash>, Vec<(Hash, u32)>) {
    if !found.complete {
        return (found.gone.clone(), polled.progress.missing.clone());
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
        // A document that is gone is not an empty list.
        complete: found.complete && polled.bridge.definition.items.is_some(),
    }
}

/// A part of a commit that is made at once: so many records at the most, of so many bytes.
const STEP_RECORDS: usize = 1000;
const STEP_BYTES: usize = 1 << 20;

/// Records of one kind.
#[derive(Debug)]
pub(super) enum Step {
    Created(Vec<Seen>),
    Updated(Vec<Seen>),
    Deleted(Vec<Hash>),
    /// They left a window for long: no event tells it.
    Forgotten(Vec<Hash>),
    SeenAgain(Vec<Hash>),
}

impl Step {
    /// Keys of the stored records that it is made from.
    pub fn replaced(&self) -> Vec<Hash> {
        match self {
            Self::Created(_) | Self::Forgotten(_) => Vec::new(),
            Self::Updated(seen) => seen.iter().map(|seen| seen.entry.key).collect(),
            Self::Deleted(keys) | Self::SeenAgain(keys) => keys.clone(),
        }
    }
}

/// A commit's changes in a stable order: created, updated, deleted, each in the answer's order.
pub(super) fn steps(
    created: Vec<Seen>,
    updated: Vec<Seen>,
    deleted: Vec<Hash>,
    forgotten: Vec<Hash>,
    seen_again: Vec<Hash>,
) -> impl Iterator<Item = Step> {
    let keys = |keys: Vec<Hash>, step: fn(Vec<Hash>) -> Step| slices(keys, |_| size_of::<Hash>()).map(step);
    let text = |seen: &Seen| seen.text.len();
    slices(created, text)
        .map(Step::Created)
        .chain(slices(updated, text).map(Step::Updated))
        .chain(keys(deleted, Step::Deleted))
        .chain(keys(forgotten, Step::Forgotten))
        .chain(keys(seen_again, Step::SeenAgain))
}

/// Cuts a list into slices of at least one.
fn slices<T>(list: Vec<T>, bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = list.into_iter().peekable();
    std::iter::from_fn(move || {
        let (mut slice, mut size) = (Vec::new(), 0);
        while slice.len() < STEP_RECORDS
            && let Some(next) = rest.next_if(|next| slice.is_empty() || size + bytes(next) <= STEP_BYTES)
        {
            size += bytes(&next);
            slice.push(next);
        }
        (!slice.is_empty()).then_some(slice)
    })
}

/// What a step's records are to those who are told, with the entries that are stored again.
pub(super) fn changes(
    definition: &Definition,
    step: Step,
    old: &BTreeMap<Hash, Record>,
) -> Result<Vec<(Change, Option<Entry>)>, Failure> {
    let body = |key: &Hash| -> Result<(String, Json), Failure> {
        let record = old.get(key).ok_or_else(|| Failure::Snapshot("a known record is not in the store".into()))?;
        Ok((record.key.clone(), value_of(record)?))
    };
    let created = |seen: Seen| -> Result<_, Failure> {
        let (key, value) = definition.read_again(&seen.text)?;
        Ok((Change { kind: ChangeKind::Created, key, before: None, after: Some(value) }, Some(seen.entry)))
    };
    let updated = |seen: Seen| -> Result<_, Failure> {
        let (_, before) = body(&seen.entry.key)?;
        let (key, value) = definition.read_again(&seen.text)?;
        let change = Change { kind: ChangeKind::Updated, key, before: Some(before), after: Some(value) };
        Ok((change, Some(seen.entry)))
    };
    let deleted = |key: Hash| -> Result<_, Failure> {
        let (key, before) = body(&key)?;
        Ok((Change { kind: ChangeKind::Deleted, key, before: Some(before), after: None }, None))
    };
    match step {
        Step::Created(seen) => seen.into_iter().map(created).collect(),
        Step::Updated(seen) => seen.into_iter().map(updated).collect(),
        Step::Deleted(keys) => keys.into_iter().map(deleted).collect(),
        Step::Forgotten(_) | Step::SeenAgain(_) => Ok(Vec::new()),
    }
}

/// What is made of changes beside their records.
#[derive(Clone, Copy)]
struct Wanted {
    events: bool,
    differences: bool,
}

/// What a step writes, and what of its records differs where that is wanted.
#[derive(Default)]
struct WrittenStep {
    differing: Differing,
    put: Vec<Record>,
    delete: Vec<Hash>,
    events: Vec<Event>,
}

fn make(
    maker: &Maker,
    bridge: &Bridge,
    sequence: u64,
    now: Timestamp,
    step: Step,
    old: &BTreeMap<Hash, Record>,
    wanted: Wanted,
) -> Result<WrittenStep, Failure> {
    let mut made = WrittenStep::default();
    match &step {
        Step::Deleted(keys) | Step::Forgotten(keys) => made.delete.clone_from(keys),
        Step::SeenAgain(_) => made.put.extend(old.values().map(|record| Record { seen: now, ..record.clone() })),
        Step::Created(_) | Step::Updated(_) => {}
    }
    let mut next = sequence;
    for (change, entry) in changes(&bridge.definition, step, old)? {
        if let (Some(entry), Some(after)) = (entry, &change.after) {
            made.put.push(Record { entry, key: change.key.clone(), seen: now, body: after.to_string().into_bytes() });
        }
        let reported = change.kind != ChangeKind::Deleted || bridge.deletes.report;
        // An edit of the definition may find a difference where there is none.
        let differs = change.before != change.after;
        if wanted.events && reported && differs {
            next += 1;
            made.events.push(maker.event(next, &change));
        }
        if let (true, Some(before), Some(after)) = (wanted.differences, &change.before, &change.after) {
            match (bridge.definition.compared(before), bridge.definition.compared(after)) {
                (Ok(before), Ok(after)) => made.differing.note(&before, &after),
                _ => made.differing.give_up(),
            }
        }
    }
    Ok(made)
}
