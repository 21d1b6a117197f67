//! From what was detected to a commit: missing records, the guard, events, and the hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value as Json;

use super::{Failure, Held, Polled, Poller, Polling, Verdict};
use crate::{
    compute::compute,
    config::{Bridge, DefinitionChanged, FirstPoll},
    decode::Page,
    diff::Diff,
    event::{self, Change, Maker},
    extract::Parsed,
    guard::Counts,
    model::{ChangeKind, Entry, Event, Hash, Name, Record, Timestamp},
    source::Answer,
    store::{BridgeState, Commit, HeldPage, Hold, HoldChange, Op, Written},
};

/// What an answer brings, before it is judged.
#[derive(Debug, Default, PartialEq)]
pub struct Detected {
    pub diff: Diff,
    /// The list as it was, of a complete walk.
    known: Vec<Entry>,
    /// Every record of a window's answer, until it is compared.
    window: Vec<Parsed>,
    mark: Option<String>,
    /// Records of a window that must be written again so that they are not forgotten.
    seen_again: Vec<Record>,
    /// Absence means something.
    complete: bool,
}

/// What would be committed, for `poll --dry-run`.
#[derive(Debug)]
pub struct Found {
    pub counts: Counts,
    pub verdict: Verdict,
    pub changes: Vec<Change>,
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
enum Silence {
    Loud,
    /// Baseline, or `definition-changed = "rebaseline"`: no events.
    Silent,
}

impl Poller {
    /// The list of a complete walk as it is stored.
    pub(super) async fn known(&self, polled: &Polled) -> Result<Vec<Entry>, Failure> {
        if polled.state.version == 0 || !polled.bridge.is_complete() {
            return Ok(Vec::new());
        }
        let name = polled.bridge.name.clone();
        Ok(self.store.read(move |engine| engine.list(&name)).await?)
    }

    /// The accepted answer again: the known list, with the records missing that were.
    pub(super) async fn detect_again(&self, polled: &Polled) -> Result<Detected, Failure> {
        let list = self.known(polled).await?;
        let missing: Vec<Hash> = polled.progress.missing.iter().map(|(key, _)| *key).collect();
        let present = u64::try_from(list.len().saturating_sub(missing.len())).unwrap_or(0);
        let diff = Diff { list, missing, present, ..Diff::default() };
        Ok(Detected { diff, complete: polled.bridge.is_complete(), ..Detected::default() })
    }

    /// Compares a window's records with the stored ones, each by its key.
    pub(super) async fn compare_window(&self, polled: &Polled, found: &mut Detected) -> Result<(), Failure> {
        let stored = self.stored(&polled.bridge.name, found.window.iter().map(|p| p.entry.key).collect()).await?;
        let now = self.clock.now();
        let refresh = now.plus_ms(-i64::try_from(polled.bridge.forget.as_millis() / 2).unwrap_or(i64::MAX));
        found.diff.present = u64::try_from(found.window.len()).unwrap_or(u64::MAX);
        for parsed in std::mem::take(&mut found.window) {
            let Some(old) = stored.get(&parsed.entry.key) else {
                found.diff.created.push(parsed);
                continue;
            };
            // By the body, not by the stored hash: that may be of an older definition.
            if canonical_of(&polled.bridge, old)? != parsed.entry.canonical {
                found.diff.updated.push(parsed);
            } else if old.seen < refresh {
                found.seen_again.push(Record { seen: now, ..old.clone() });
            }
        }
        Ok(())
    }

    /// What is known under a definition that was edited, from the records themselves: a list may be absent (`window`) or
    /// of an older definition. Canonical forms are made anew, and every record of the answer is parsed. Costs a read of
    /// the whole snapshot, once for an edit.
    pub(super) async fn known_anew(&self, polled: &Polled) -> Result<Vec<Entry>, Failure> {
        let (mut after, mut known) = (None, Vec::new());
        loop {
            let name = polled.bridge.name.clone();
            let slice = self.store.read(move |engine| engine.scan(&name, after, ANEW_AT_ONCE)).await?;
            let Some(last) = slice.last() else { return Ok(known) };
            after = Some(last.entry.key);
            for record in &slice {
                let canonical = canonical_of(&polled.bridge, record)?;
                known.push(Entry { key: record.entry.key, raw: Hash::default(), canonical });
            }
        }
    }

    async fn stored(&self, bridge: &Name, keys: Vec<Hash>) -> Result<BTreeMap<Hash, Record>, Failure> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let bridge = bridge.clone();
        let records = self.store.read(move |engine| engine.records(&bridge, &keys)).await?;
        Ok(records.into_iter().flatten().map(|record| (record.entry.key, record)).collect())
    }

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
        // An empty list is suspicious however silent its commit would be.
        if !silent || counts.complete && counts.present == 0 && counts.known > 0 {
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

    async fn commit(
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
        let old = self
            .stored(
                &polled.bridge.name,
                diff.updated.iter().map(|p| p.entry.key).chain(deleted.iter().copied()).collect(),
            )
            .await?;
        let records = if complete {
            u64_of(diff.list.len().saturating_sub(deleted.len()))
        } else {
            polled.state.records + created
        };
        let list = complete.then(|| {
            let gone: BTreeSet<&Hash> = deleted.iter().collect();
            diff.list.iter().filter(|entry| !gone.contains(&entry.key)).copied().collect::<Vec<_>>()
        });
        let mut gone = deleted.clone();
        if !complete && self.is_another_day(polled, now) {
            gone.extend(self.forgotten(polled, now).await?);
        }
        let records = if complete { records } else { records.saturating_sub(u64_of(gone.len())) };
        let maker = self.maker(&polled.bridge, now);
        let sequence = polled.state.sequence;
        let bridge = polled.bridge.clone();
        let deletes = deleted.clone();
        // Patches and expressions take time: on a blocking thread.
        let make = move || make(&maker, &bridge, sequence, now, diff, &deletes, &old, silence);
        let (mut put, events) =
            compute(make).await.map_err(|e| Failure::Answer(format!("making events panicked: {e}")))??;
        put.extend(seen_again);
        let deleted_count = u64_of(deleted.len());
        let no_longer_missing: BTreeSet<Hash> = deleted.iter().copied().collect();
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
            list,
            put,
            delete: gone,
            hold,
            events,
        };
        self.write(polled, commit).await?;
        polled.held = None;
        polled.progress.missing.retain(|(key, _)| !no_longer_missing.contains(key));
        tracing::info!(bridge = %polled.bridge.name, created, updated, deleted = deleted_count, records, baseline = silence == Silence::Silent, "committed");
        Ok(if silence == Silence::Silent {
            Polling::Baseline { records }
        } else if created + updated + deleted_count == 0 {
            Polling::Same
        } else {
            Polling::Changed { created, updated, deleted: deleted_count }
        })
    }

    fn is_another_day(&self, polled: &Polled, now: Timestamp) -> bool {
        polled.state.accepted_at.seconds() / 86_400 != now.seconds() / 86_400
    }

    /// Records that left a window longer ago than `forget`. Looked for with the first commit of a day: a scan of the
    /// bridge's records, in slices.
    async fn forgotten(&self, polled: &Polled, now: Timestamp) -> Result<Vec<Hash>, Failure> {
        let (mut after, mut forgotten) = (None, Vec::new());
        let forget = polled.bridge.forget;
        loop {
            let name = polled.bridge.name.clone();
            let slice = self.store.read(move |engine| engine.scan(&name, after, ANEW_AT_ONCE)).await?;
            let Some(last) = slice.last() else { return Ok(forgotten) };
            after = Some(last.entry.key);
            forgotten.extend(slice.iter().filter(|r| r.seen.plus(forget) <= now).map(|r| r.entry.key));
        }
    }

    /// Writes a commit; the bridge stands where it leads only when it is durable.
    async fn write(&self, polled: &mut Polled, commit: Commit) -> Result<(), Failure> {
        let state = commit.state.clone();
        match self.store.write(Op::Commit(Box::new(commit))).await {
            Ok(written) => {
                let missing = std::mem::take(&mut polled.progress.missing);
                let progress = &mut polled.progress;
                (progress.version, progress.answer, progress.validators, progress.pages) =
                    (state.version, None, None, None);
                progress.missing = missing;
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

    async fn hold_answer(
        &self,
        polled: &mut Polled,
        counts: Counts,
        reason: String,
        answer: Option<(Hash, Answer)>,
    ) -> Result<Polling, Failure> {
        let now = self.clock.now();
        let (hash, pages, validators) = match answer {
            Some((hash, answer)) => (hash, answer.pages.iter().map(held_page).collect(), answer.validators),
            // Records that have been missing for long enough from the accepted answer, or a document that is gone.
            None => {
                (polled.progress.answer.or(polled.state.answer).unwrap_or_default(), Vec::new(), Default::default())
            }
        };
        if polled.is_held(hash) {
            polled.progress.held_again += 1;
            return Ok(Polling::Held);
        }
        let judged_under = polled.judged_under();
        let hold = Hold {
            hash,
            judged_under,
            at: now,
            reason: reason.clone(),
            created: counts.created,
            updated: counts.updated,
            deleted: counts.deleted,
            rejected: false,
            answer: pages,
            validators,
        };
        tracing::warn!(bridge = %polled.bridge.name, reason, hash = %hash, "the answer is held: `bellpull accept` or `bellpull reject`");
        let data = serde_json::json!({
            "bridge": &*polled.bridge.name, "reason": reason, "hash": hash,
            "created": counts.created, "updated": counts.updated, "deleted": counts.deleted,
        });
        let event = self.operational(&polled.bridge, "bridge.held", data);
        self.write_hold(polled, HoldChange::Set(Box::new(hold)), vec![event]).await?;
        polled.held = Some(Held { hash, rejected: false, judged_under });
        polled.progress.held_again = 0;
        Ok(Polling::Held)
    }

    async fn write_hold(&self, polled: &mut Polled, hold: HoldChange, alerts: Vec<Event>) -> Result<(), Failure> {
        let state = BridgeState { version: polled.state.version + 1, ..polled.state.clone() };
        let missing = polled.progress.missing.clone();
        let (answer, validators, pages) =
            (polled.progress.answer, polled.progress.validators.clone(), polled.progress.pages);
        let commit = Commit {
            bridge: Some(polled.bridge.name.clone()),
            expected: polled.state.version,
            state,
            hold,
            events: alerts,
            ..Commit::default()
        };
        self.write(polled, commit).await?;
        // A hold changes no snapshot: what was known of the accepted answer still is.
        let progress = &mut polled.progress;
        (progress.missing, progress.answer, progress.validators, progress.pages) = (missing, answer, validators, pages);
        self.store.write(Op::Progress(vec![(polled.bridge.name.clone(), progress.clone())])).await?;
        Ok(())
    }

    /// Commits what is held, exactly as `status` shows it.
    pub async fn accept(&self, polled: &mut Polled, hash: Option<Hash>) -> Result<Polling, String> {
        let hold = self.held(polled, hash).await?;
        if hold.rejected {
            return Err("what was held is rejected; the next answer that differs is judged anew".into());
        }
        if hold.judged_under != polled.judged_under() {
            return Err("the bridge was edited since: the next poll judges the answer anew".into());
        }
        let pages: Vec<Page> = hold
            .answer
            .iter()
            .map(|page| Page {
                url: page.url.clone(),
                content_type: page.content_type.clone(),
                hash: Hash::of(page.body.as_bytes()),
                body: page.body.clone().into(),
            })
            .collect();
        let count = match pages.len() {
            0 => polled.progress.pages.unwrap_or(polled.state.pages).max(1),
            pages => u32::try_from(pages).unwrap_or(u32::MAX),
        };
        let failed = |e: Failure| e.to_string();
        let (found, answer) = if pages.is_empty() {
            let accepted = polled.progress.answer.or(polled.state.answer).unwrap_or_default();
            let found = if accepted == hold.hash && !polled.progress.missing.is_empty() {
                self.detect_again(polled).await.map_err(failed)?
            } else {
                Detected::nothing(self.known(polled).await.map_err(failed)?)
            };
            (found, None)
        } else {
            let found = self.detect(polled, pages.clone(), Some(hold.at)).await.map_err(failed)?;
            let answer = Answer {
                pages,
                validators: hold.validators.clone(),
                hint: None,
                date: None,
                meta: polled.state.previous.clone().unwrap_or(Json::Null),
            };
            (found, Some((hold.hash, answer)))
        };
        // As the held poll counted them: it left no trace.
        let (due, missing) = count_missing(polled, &found, count);
        let shown = (hold.created, hold.updated, hold.deleted);
        let now = (u64_of(found.diff.created.len()), u64_of(found.diff.updated.len()), u64_of(due.len()));
        if shown != now {
            return Err(format!(
                "what is held showed {shown:?} records created, updated and deleted and would now be {now:?}: wait for the next poll"
            ));
        }
        polled.progress.missing = missing;
        self.commit(polled, found, due, count, answer, Silence::Loud).await.map_err(failed)
    }

    /// Drops what is held; an identical answer is then only counted.
    pub async fn reject(&self, polled: &mut Polled, hash: Option<Hash>) -> Result<(), String> {
        let hold = self.held(polled, hash).await?;
        let (hash, judged_under) = (hold.hash, hold.judged_under);
        let rejected = Hold { rejected: true, answer: Vec::new(), ..hold };
        self.write_hold(polled, HoldChange::Set(Box::new(rejected)), Vec::new()).await.map_err(|e| e.to_string())?;
        polled.held = Some(Held { hash, rejected: true, judged_under });
        Ok(())
    }

    async fn held(&self, polled: &Polled, hash: Option<Hash>) -> Result<Hold, String> {
        let name = &polled.bridge.name;
        let hold = self.hold(name).await.map_err(|e| e.to_string())?;
        let hold = hold.ok_or_else(|| format!("nothing of {name} is held"))?;
        match hash {
            Some(hash) if hash != hold.hash => {
                Err(format!("{hash} is stale: {} is held now; look at `bellpull status {name}`", hold.hash))
            }
            _ => Ok(hold),
        }
    }

    /// Every record of the snapshot as `<bridge>.present` to one endpoint, in slices; returns how many.
    pub async fn resend(&self, polled: &mut Polled, endpoint: &Name) -> Result<u64, Failure> {
        let (mut after, mut sent) = (None, 0);
        loop {
            let name = polled.bridge.name.clone();
            let slice = self.store.read(move |engine| engine.scan(&name, after, RESEND_AT_ONCE)).await?;
            let Some(last) = slice.last() else { return Ok(sent) };
            after = Some(last.entry.key);
            let maker = self.maker(&polled.bridge, self.clock.now());
            let mut sequence = polled.state.sequence;
            let mut events = Vec::with_capacity(slice.len());
            for record in &slice {
                let value: Json = serde_json::from_slice(&record.body)
                    .map_err(|e| Failure::Answer(format!("a stored record is damaged: {e}")))?;
                sequence += 1;
                events.push(maker.present(endpoint, sequence, &record.key, &value));
            }
            sent += u64_of(events.len());
            let state = BridgeState { version: polled.state.version + 1, sequence, ..polled.state.clone() };
            let (answer, validators, pages) =
                (polled.progress.answer, polled.progress.validators.clone(), polled.progress.pages);
            let commit = Commit {
                bridge: Some(polled.bridge.name.clone()),
                expected: polled.state.version,
                state,
                events,
                ..Commit::default()
            };
            self.write(polled, commit).await?;
            let progress = &mut polled.progress;
            (progress.answer, progress.validators, progress.pages) = (answer, validators, pages);
        }
    }

    /// What a poll would do with saved or fetched pages, without doing it.
    pub async fn dry_run(&self, polled: &Polled, pages: Vec<Page>, date: Option<Timestamp>) -> Result<Found, Failure> {
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let found = self.detect(polled, pages, date).await?;
        let mut scratch = Polled::new(polled.bridge.clone(), None, None);
        (scratch.state, scratch.progress) = (polled.state.clone(), polled.progress.clone());
        let (deleted, _) = count_missing(&scratch, &found, count);
        let definition_changed = polled.state.version > 0 && !polled.definition_is_same();
        let counts = counts(polled, &found, deleted.len(), definition_changed);
        let old = self
            .stored(
                &polled.bridge.name,
                found.diff.updated.iter().map(|p| p.entry.key).chain(deleted.iter().copied()).collect(),
            )
            .await?;
        let changes = changes(found.diff, &deleted, &old)?;
        Ok(Found {
            counts,
            verdict: polled.bridge.guard.judge(counts),
            changes: changes.into_iter().map(|(change, _)| change).collect(),
        })
    }

    pub(super) fn maker(&self, bridge: &Arc<Bridge>, now: Timestamp) -> Maker {
        Maker { bridge: bridge.clone(), endpoints: self.endpoints.clone(), stream: self.store.stream().clone(), now }
    }

    fn operational(&self, bridge: &Bridge, kind: &str, data: Json) -> Event {
        let to: Vec<Name> = if bridge.alert.to.is_empty() {
            let all: BTreeSet<Name> = bridge.routes.iter().map(|route| route.endpoint.clone()).collect();
            all.into_iter().collect()
        } else {
            bridge.alert.to.clone()
        };
        event::operational(kind, &bridge.name, data, &to, self.clock.now())
    }

    /// An operational event of a bridge.
    pub(super) async fn alert(&self, bridge: &Bridge, kind: &str, data: Json) {
        self.emit(self.operational(bridge, kind, data)).await;
    }

    async fn emit(&self, event: Event) {
        let commit = Commit { events: vec![event], ..Commit::default() };
        match self.store.write(Op::Commit(Box::new(commit))).await {
            Ok(Written::Queued(queued)) => self.deliveries.queued(queued).await,
            Ok(_) => {}
            // The store's failure ends the run; the state that led here leads here again.
            Err(error) => tracing::error!(%error, "an operational event could not be stored"),
        }
    }
}

/// Records of one commit of a resend.
const RESEND_AT_ONCE: usize = 200;
/// Records that are read at once when a definition changed.
const ANEW_AT_ONCE: usize = 1000;

fn canonical_of(bridge: &Bridge, record: &Record) -> Result<Hash, Failure> {
    let value: Json = serde_json::from_slice(&record.body)
        .map_err(|e| Failure::Answer(format!("a stored record is damaged: {e}")))?;
    bridge
        .definition
        .canonical(&value)
        .map_err(|(what, e)| Failure::Answer(format!("`{what}` on the stored record {:?}: {e}", record.key)))
}

/// Which records are to be deleted, and which are missing with this answer and for how long.
fn count_missing(polled: &Polled, found: &Detected, pages: u32) -> (Vec<Hash>, Vec<(Hash, u32)>) {
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

fn counts(polled: &Polled, found: &Detected, deleted: usize, definition_changed: bool) -> Counts {
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

fn held_page(page: &Page) -> HeldPage {
    HeldPage {
        url: page.url.clone(),
        content_type: page.content_type.clone(),
        body: String::from_utf8_lossy(&page.body).into_owned(),
    }
}

/// Changes in a stable order: created, updated, deleted, each in the answer's order, with the records to store.
fn changes(
    diff: Diff,
    deleted: &[Hash],
    old: &BTreeMap<Hash, Record>,
) -> Result<Vec<(Change, Option<Entry>)>, Failure> {
    let body = |key: &Hash| -> Result<(String, Json), Failure> {
        let record = old.get(key).ok_or_else(|| Failure::Answer("a known record is not in the store".into()))?;
        let value = serde_json::from_slice(&record.body)
            .map_err(|e| Failure::Answer(format!("a stored record is damaged: {e}")))?;
        Ok((record.key.clone(), value))
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

fn u64_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
