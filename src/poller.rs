//! One poll: ask, compare, judge, commit. The story is [`Poller::poll_once`]; `run` decides when.
//!
//! What an answer changes is committed together with the answer's snapshot, or not at all. A poll that changes nothing
//! touches no store.

mod alert;
mod by_hand;
mod commit;
mod detect;
mod fan;
mod handle;
mod hints;
mod hold;
mod job;
mod known;
mod left_out;
mod line;
pub mod roster;
mod reload;
mod run;
mod slots;
mod told;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::{
    auth::vault::Vault,
    clock::{self, Clock},
    compute::compute,
    config::{Bridge, Endpoint, Since},
    decode::Page,
    deliver, extract,
    guard::Verdict,
    http::{
        Client,
        budget::{Budget, Share},
    },
    mark,
    model::{Hash, Mark, Name, Timestamp, Validators, u64_of},
    pulse::{self, PollEnd, Pulse},
    schedule::FailureKind,
    settings::fingerprint::Fingerprint,
    source::{self, Answer, Ask, Fetched, Memo},
    store::{self, BridgeState, Flaws, Hold, Loaded, Op, Progress, Store},
    telemetry::{
        kind,
        trace::{self, Span},
    },
};
pub use by_hand::Found;
use detect::Detected;
pub use handle::Handle;
pub use job::Refused;
pub use run::Runner;
pub use told::{Changes, Done, Ended, State, Status, Tried};

/// What the first answer of a bridge is expected to take.
const EXPECTED_BYTES_FIRST: u64 = 64 << 10;

/// The shortest time without an accepted poll that is told, where the file says none.
const STALE_AFTER_MIN: Duration = Duration::from_secs(5 * 60);

/// An answer without a hint, with as many records as the last, is not read for hints before this has passed.
const HINTS_AFTER: Duration = Duration::from_secs(60 * 60);

/// What all polls share.
#[derive(Clone)]
pub struct Poller {
    pub store: Store,
    pub client: Client,
    pub clock: Clock,
    pub budget: Budget,
    pub vault: Vault,
    pub pulse: Pulse,
    pub endpoints: Arc<BTreeMap<Name, Arc<Endpoint>>>,
    pub deliveries: deliver::Handle,
}

/// A bridge and where it stands; lives between polls, and belongs to one poll at a time.
pub struct Polled {
    pub bridge: Arc<Bridge>,
    pub fingerprint: Hash,
    pub state: BridgeState,
    pub progress: Progress,
    pub held: Option<Held>,
    memo: Memo,
    expected_bytes: u64,
    /// Until when the last question asked, of a source that takes only so long a time at once.
    until: Option<mark::Until>,
    /// The time that it asked for ended before now: the next question follows soon.
    is_behind: bool,
    /// What became of the end of that time.
    passing: Passing,
    /// What changed in the last polls, one behind the other.
    churn: hints::Churn,
    /// The last question reached back by an overlap that the file does not give, and brought nothing new: the next one does not.
    asks_exactly: bool,
    /// The interval of an `every` that adapts, as it is now.
    pub pace: Duration,
    /// `progress` has something that is not stored yet.
    pub dirty: bool,
    /// Since when it is polled: the daemon's start, or the last time that it was resumed.
    pub watched_from: Timestamp,
    /// When its age was last looked at, by both clocks: one that was set in between moves what is compared with it.
    looked_at: Option<(Timestamp, Instant)>,
    /// From its due time to the start of the poll, where it was due.
    pub lag: Option<Duration>,
    /// It is due now, whatever its last poll led to.
    at_once: bool,
    /// When an answer was last read that gave no hint, and how many records it had.
    hintless: Option<(Instant, u64)>,
}

/// Whether the end of a time that brought no later mark became the mark itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// There was no such time, or it brought a later mark.
    None,
    /// The question reached back by a default overlap: the next one does not.
    NotYet,
    Past,
}

/// How a poll ended, for the log, `status` and the next due time.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub result: Result<Polling, Failure>,
    /// The server wants no poll before this has passed.
    pub hint: Option<Duration>,
}

/// What is known of a hold without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub hash: Hash,
    pub rejected: bool,
    pub judged_under: Hash,
}

impl From<&Hold> for Held {
    fn from(hold: &Hold) -> Self {
        Self { hash: hold.hash, rejected: hold.rejected, judged_under: hold.judged_under }
    }
}

/// A poll that was accepted, or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    /// 304, or the bytes of the last accepted answer.
    Unchanged,
    /// Other bytes, no change that counts.
    Same,
    Baseline {
        records: u64,
    },
    Changed {
        created: u64,
        updated: u64,
        deleted: u64,
    },
    Held,
}

impl Polling {
    /// Its word.
    fn end(self) -> PollEnd {
        match self {
            Self::Unchanged => PollEnd::Unchanged,
            Self::Same => PollEnd::Same,
            Self::Baseline { .. } => PollEnd::Baseline,
            Self::Changed { .. } => PollEnd::Changed,
            Self::Held => PollEnd::Held,
        }
    }
}

/// A poll that changed nothing because it failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Extract(#[from] extract::Error),
    /// The answer cannot be read, and what it says may hold a secret.
    #[error("the answer cannot be read; {}", source::UNQUOTED)]
    Unquoted,
    /// The file says that such an answer is an error (`empty`).
    #[error("{0}")]
    Guard(String),
    /// The file's `since` does not fit a record.
    #[error("{0}")]
    Mark(String),
    /// The admin gives more, or the integrator asks for less.
    #[error("the answer takes more memory than is left for answers (`daemon.memory`): {mib} MiB {what}")]
    Memory { mib: usize, what: String },
    /// What is stored of the bridge cannot be used.
    #[error("{0}")]
    Snapshot(String),
    /// A fault of bellpull's own.
    #[error("a panic in {0}")]
    Panicked(String),
    #[error("the store: {0}")]
    Store(#[from] store::Error),
}

impl Failure {
    /// Whether every bridge would have failed so.
    fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(error) if error.needs_reopen() || matches!(error, store::Error::Full(_)))
    }

    /// Without anything that the source itself said.
    fn unquoted(&self) -> Self {
        match self {
            Self::Source(error) => Self::Source(error.unquoted()),
            Self::Extract(error) if error.quotes() => Self::Unquoted,
            other => other.clone(),
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Source(error) => error.failure_kind(),
            _ => FailureKind::Transient,
        }
    }
}

impl Polled {
    /// Somebody did what may be the cure of its failures: they count no more, and it is polled at once, unless the server
    /// named the time.
    fn may_be_cured(&mut self) {
        if self.progress.failures > 0 && !self.progress.hinted {
            self.progress.failures = 0;
            (self.at_once, self.dirty) = (true, true);
        }
    }

    /// A bridge with what is stored of it.
    pub fn new(bridge: Arc<Bridge>, loaded: Option<Loaded>, held: Option<Held>) -> Self {
        let fingerprint = bridge.fingerprint().hash();
        let (mut state, progress) = loaded.map(|l| (l.state, l.progress)).unwrap_or_default();
        // A snapshot of 0.1.0: the next commit writes it as it is called now.
        if state.version > 0 && state.definition != fingerprint && state.definition == bridge.fingerprint_0_1() {
            state.definition = fingerprint;
        }
        let mut progress = progress.unwrap_or_default();
        if progress.version != state.version {
            // Of another snapshot: only the timing still means something.
            progress = Progress {
                version: state.version,
                answer: None,
                validators: None,
                pages: None,
                held_again: 0,
                missing: Vec::new(),
                ..progress
            };
        }
        Self {
            pace: bridge.schedule.pace(),
            bridge,
            fingerprint,
            state,
            progress,
            held,
            memo: Memo::default(),
            expected_bytes: EXPECTED_BYTES_FIRST,
            until: None,
            is_behind: false,
            passing: Passing::None,
            churn: hints::Churn::default(),
            asks_exactly: false,
            dirty: false,
            watched_from: Timestamp(0),
            looked_at: None,
            lag: None,
            at_once: false,
            hintless: None,
        }
    }

    /// Its polls are watched from now on.
    fn watch_from(&mut self, now: Timestamp) {
        (self.watched_from, self.looked_at) = (now, Some((now, Instant::now())));
    }

    /// Whether an answer is worth reading once more, for a hint: it takes a fifth of a poll without a change, and what gave none
    /// gives none for as long as the list is as long.
    fn is_to_read_for_hints(&self, records: u64) -> bool {
        self.hintless.is_none_or(|(at, of)| of != records || at.elapsed() >= HINTS_AFTER)
    }

    fn definition_is_same(&self) -> bool {
        self.state.version > 0 && self.state.definition == self.fingerprint
    }

    /// The hash of the last accepted answer, under the definition that still holds.
    fn accepted_answer(&self) -> Option<Hash> {
        self.progress.answer.or(self.state.answer).filter(|_| self.definition_is_same())
    }

    /// Hash of what decides whether an answer is held.
    pub fn judged_under(&self) -> Hash {
        let mut text = Fingerprint::default();
        text.put("definition", self.fingerprint.to_string());
        self.bridge.guard.define(&mut text);
        text.hash()
    }

    /// Whether a verdict was given under what still holds.
    fn still_holds(&self, judged_under: Hash) -> bool {
        let before = || Hash::of(format!("{} {:?}", self.bridge.fingerprint_0_1(), self.bridge.guard).as_bytes());
        judged_under == self.judged_under() || judged_under == before()
    }

    /// Whether just this answer is held or rejected, under what still holds.
    pub fn is_held(&self, answer: Hash) -> bool {
        self.held.is_some_and(|held| held.hash == answer && self.still_holds(held.judged_under))
    }

    /// Whether it waits for `accept` or `reject`.
    fn is_on_hold(&self) -> bool {
        self.held.is_some_and(|held| !held.rejected)
    }

    /// The mark of the definition that still holds: of another source or order it means nothing.
    fn mark(&self) -> Option<Mark> {
        self.state.mark().filter(|_| self.definition_is_same())
    }

    /// The same, unless the file has a `max` by now that it is beyond.
    fn obeyed_mark(&self, now: Timestamp) -> Option<Mark> {
        self.bridge.since.as_ref().and_then(|since| mark::obeyed(since, self.mark(), now))
    }

    /// The source does not know the mark any more. Until another one is committed it is asked from the start, and whatever it says is
    /// compared: also the bytes of the accepted answer name a mark.
    fn forget_mark(&mut self) {
        (self.state.mark, self.state.mark_is_number) = (None, None);
        (self.state.answer, self.progress.answer) = (None, None);
    }

    /// From how many complete polls in a row a missing record is deleted. A list in pages is looked at twice, also where it came in one:
    /// that may be a walk that broke off.
    fn deletes_after(&self, pages: u32) -> u32 {
        self.bridge.deletes.after.unwrap_or(if pages > 1 || self.bridge.source.has_pages() { 2 } else { 1 })
    }
}

impl Poller {
    /// One poll. Updates where the bridge stands; what is durable is durable on return.
    pub async fn poll_once(&self, polled: &mut Polled) -> Outcome {
        let sends = polled.bridge.source.sends();
        let span = if sends { Span::poll(&polled.bridge.name) } else { Span::none() };
        span.around(self.poll(polled, &span)).await
    }

    async fn poll(&self, polled: &mut Polled, span: &Span) -> Outcome {
        let started = Instant::now();
        (polled.is_behind, polled.passing) = (false, Passing::None);
        // Held to the end: what is read of the answer takes memory until it is committed.
        let mut share = self.budget.share(polled.expected_bytes).await;
        let fetched = self.fetch(polled, &mut share).await;
        // The answer's own: comparing it takes more of the share.
        let bytes = share.used_bytes();
        let (hint, result) = match fetched {
            Err(error) => (error.hint, Err(error.into())),
            Ok(Fetched::NotModified { hint }) => (hint, self.unchanged(polled).await),
            Ok(Fetched::Absent { hint }) => (hint, self.absent(polled).await),
            Ok(Fetched::Pages(answer)) => {
                let (hint, result) = (answer.hint, self.answered(polled, answer, &mut share).await);
                if result.is_err() && polled.bridge.source.resume().is_some() {
                    // What it brought is not committed, and comes again behind the mark.
                    polled.memo.hang_up();
                }
                (hint, result)
            }
        };
        polled.progress.last_poll = Some(self.clock.now());
        // A source that gives a few records at a time, the earliest first, gives the same ones to the same question.
        let brought_nothing = match polled.passing {
            Passing::None => matches!(&result, Ok(Polling::Same | Polling::Unchanged)),
            Passing::NotYet => true,
            Passing::Past => false,
        };
        polled.asks_exactly = !polled.asks_exactly && brought_nothing;
        match &result {
            Ok(_) => self.succeeded(polled).await,
            // The store's own failure is told by the daemon, once, and says nothing of the bridge.
            Err(failure) if failure.is_of_the_store() => {
                tracing::debug!(bridge = %polled.bridge.name, error = %failure, "the poll could not be committed");
            }
            Err(failure) => self.failed(polled, failure).await,
        }
        self.judge_age(polled, matches!(&result, Ok(polling) if *polling != Polling::Held)).await;
        polled.dirty = true;
        self.tell(polled, &result, bytes, started.elapsed(), span);
        Outcome { result, hint }
    }

    /// Tells what came of a poll to those who watch.
    fn tell(&self, polled: &mut Polled, result: &Result<Polling, Failure>, bytes: u64, took: Duration, span: &Span) {
        let outcome = result.as_ref().map_or(PollEnd::Failed, |polling| polling.end());
        let (created, updated, deleted) = match result {
            Ok(Polling::Changed { created, updated, deleted }) => (*created, *updated, *deleted),
            _ => (0, 0, 0),
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(bridge = %polled.bridge.name, outcome = outcome.name(), bytes, took_ms, "polled");
        let error = polled.progress.last_error.clone();
        let (name, shown) = (outcome.name(), error.as_deref());
        span.polled(&trace::Polled { outcome: name, bytes, created, updated, deleted, error: shown });
        let bridge = polled.bridge.name.clone();
        let poll = pulse::Poll { bridge, outcome, created, updated, deleted, bytes, took_ms, error };
        self.pulse.polled(poll, polled.lag.take(), self.clock.now());
    }

    /// A failure as it may be shown: without anything secret.
    fn told(&self, failure: &Failure) -> String {
        self.shown(&failure.to_string())
    }

    /// A text that an answer had a part in, without anything secret.
    fn shown(&self, text: &str) -> String {
        /// Whatever a server or a library has to say.
        const CHARS_MAX: usize = 2000;
        let text = self.vault.redact(text);
        if text.chars().count() > CHARS_MAX { text.chars().take(CHARS_MAX).collect() } else { text }
    }

    async fn fetch(&self, polled: &mut Polled, share: &mut Share) -> Result<Fetched, source::Error> {
        let mark = polled.obeyed_mark(self.clock.now());
        let fetched = self.fetch_after(polled, share, mark.as_ref()).await;
        let resets = polled.bridge.since.as_ref().map(|since| since.reset.as_slice()).unwrap_or_default();
        match (fetched, &mark) {
            (Err(error), Some(_)) if error.status().is_some_and(|status| resets.contains(&status)) => {
                let (bridge, error) = (&polled.bridge.name, self.shown(&error.to_string()));
                tracing::info!(message_id = kind::BRIDGE_MARK_RESET, %bridge, error, "the mark is dropped (`since.reset`)");
                polled.forget_mark();
                self.fetch_after(polled, share, None).await
            }
            (fetched, _) => fetched,
        }
    }

    /// Asks for what came after a mark.
    async fn fetch_after(
        &self,
        polled: &mut Polled,
        share: &mut Share,
        mark: Option<&Mark>,
    ) -> Result<Fetched, source::Error> {
        let same = polled.definition_is_same();
        let Polled { bridge, state, progress, memo, expected_bytes, until, asks_exactly, .. } = polled;
        let validators = progress.validators.as_ref().unwrap_or(&state.validators);
        let pages = progress.pages.unwrap_or(state.pages);
        // While records of a list in pages are missing, the answer that lacked them may be a part: only a whole one says more.
        let is_part = bridge.source.has_pages() && !progress.missing.is_empty();
        // While an answer is held a 304 would say that the accepted one is back.
        let usable = same && pages == 1 && !is_part && validators.are_some();
        // Of a list that is complete the accepted answer is what a 304 speaks of, and that has to be one page.
        let accepted = same && (pages == 1 || !bridge.is_complete());
        let since = bridge.since.as_ref();
        let known = mark;
        let mark = since.and_then(|since| mark::to_send(since, known, *asks_exactly));
        *until = since.and_then(|since| mark::until(since, known, mark.as_ref(), self.clock.now()));
        let definition = bridge.clone();
        let count = Arc::new(move |page: &Page| {
            let failed = |e: extract::Error| source::ErrorKind::Request(e.to_string());
            Ok(definition.definition.count(page).map_err(failed)?)
        });
        let (poller, definition) = (self.clone(), bridge.clone());
        let seen = Arc::new(move |page: Page| -> BoxFuture<'static, _> {
            let (poller, definition) = (poller.clone(), definition.clone());
            // Under an edited definition other records may stand behind what is known.
            Box::pin(async move { Ok(same && poller.all_known(&definition, page).await?) })
        });
        let fetched = bridge
            .source
            .fetch(Ask {
                client: &self.client,
                clock: &self.clock,
                vault: &self.vault,
                share: &mut *share,
                accepted,
                validators: usable.then_some(validators),
                previous: state.previous.as_ref(),
                mark: mark.as_ref(),
                start: since.and_then(|since| since.start.as_ref()),
                since: since.and_then(|since| since.at.as_ref()),
                until: until.as_ref().map(|until| &until.mark),
                until_at: since.and_then(|since| since.window.as_ref()?.until.as_ref()),
                token_sees_answer: since.is_some_and(Since::token_sees_answer),
                wants_all: bridge.is_complete() && bridge.definition.items.is_some(),
                absent: &bridge.absent,
                item: bridge.item.as_ref(),
                count,
                seen,
                pulse: &self.pulse,
                memo,
            })
            .await;
        *expected_bytes = share.used_bytes().max(EXPECTED_BYTES_FIRST);
        fetched
    }

    /// The accepted answer again: it counts as a complete poll for records that are missing already.
    async fn unchanged(&self, polled: &mut Polled) -> Result<Polling, Failure> {
        polled.churn = hints::Churn::default();
        let counts = polled.bridge.is_complete() && !polled.progress.missing.is_empty();
        if !counts && polled.held.is_none() {
            return Ok(Polling::Unchanged);
        }
        let found = self.detect_again(polled).await?;
        let pages = polled.progress.pages.unwrap_or(polled.state.pages);
        self.judge_and_commit(polled, found, pages, None).await
    }

    async fn absent(&self, polled: &mut Polled) -> Result<Polling, Failure> {
        // The accepted answer is now that there is none: its bytes or validator would hide that it is back.
        polled.progress.answer = Some(Hash::of(b"absent"));
        polled.progress.validators = Some(Validators::default());
        polled.progress.pages = Some(1);
        polled.progress.flaws = Flaws::default();
        let found = Detected::nothing(self.known(polled).await?);
        self.judge_and_commit(polled, found, 1, None).await
    }

    async fn answered(&self, polled: &mut Polled, answer: Answer, share: &mut Share) -> Result<Polling, Failure> {
        let hash = answer.hash();
        let passed = polled.until.take().filter(|until| until.is_over(answer.date));
        let sees_more = polled.bridge.since.as_ref().is_some_and(Since::token_sees_answer);
        // The mark may move on over an empty answer, and over one whose headers say more than its bytes.
        if polled.accepted_answer() == Some(hash) && passed.is_none() && !sees_more {
            // The same bytes under another ETag.
            polled.progress.validators = Some(answer.validators);
            return self.unchanged(polled).await;
        }
        if polled.is_held(hash) {
            polled.progress.held_again += 1;
            return Ok(Polling::Held);
        }
        let mut found = self.detect(polled, answer.pages.clone(), answer.date, answer.said.clone(), share).await?;
        if let Some(passed) = &passed
            && found.mark == polled.obeyed_mark(self.clock.now())
        {
            let records = found.diff.present + u64_of(found.gone.len());
            polled.passing = Passing::NotYet;
            if passed.passes(records) {
                (polled.passing, found.mark) = (Passing::Past, Some(passed.mark.clone()));
            }
        }
        self.tell_flaws(polled, &found.left_out.flaws);
        let (records, odd) = (found.diff.present, std::mem::take(&mut found.hints));
        let is_read = polled.is_to_read_for_hints(records);
        if !is_read {
            found.document = Bytes::new();
        }
        let hint = self.hint_of_answer(polled, &mut found, answer.pages.len(), &answer.meta).await;
        if is_read {
            polled.hintless = hint.is_none().then(|| (Instant::now(), records));
        }
        let pages = u32::try_from(answer.pages.len()).unwrap_or(u32::MAX);
        let polling = self.judge_and_commit(polled, found, pages, Some((hash, answer))).await;
        if matches!(polling, Ok(Polling::Same)) {
            polled.churn = hints::Churn::default();
        }
        self.tell_hints(polled, self.hints(polled, odd.into_iter().chain(hint)));
        let polling = polling?;
        polled.is_behind = passed.is_some() && polling != Polling::Held;
        Ok(polling)
    }

    /// What is odd about an answer of one page.
    async fn hint_of_answer(&self, polled: &Polled, found: &mut Detected, pages: usize, meta: &Json) -> Option<String> {
        let (document, records) = (std::mem::take(&mut found.document), found.diff.present);
        if pages != 1 {
            return None;
        }
        if document.is_empty() {
            return hints::of_answer(&polled.bridge, &document, meta, records);
        }
        let (bridge, meta) = (polled.bridge.clone(), meta.clone());
        // A hint that cannot be had is none.
        compute(move || hints::of_answer(&bridge, &document, &meta, records)).await.ok().flatten()
    }

    /// What is odd, for a person: of an answer, and of polls one behind the other.
    fn hints(&self, polled: &Polled, odd: impl Iterator<Item = String>) -> Vec<String> {
        odd.chain(polled.churn.hint(&polled.bridge.definition.ignore)).map(|hint| self.shown(&hint)).collect()
    }

    /// Keeps hints for `status`, and logs each that the last answer did not give.
    fn tell_hints(&self, polled: &mut Polled, hints: Vec<String>) {
        let bridge = &polled.bridge.name;
        for hint in hints.iter().filter(|hint| !polled.progress.hints.contains(hint)) {
            tracing::warn!(message_id = kind::BRIDGE_HINT, %bridge, "{hint}");
        }
        polled.progress.hints = hints;
    }

    /// Where a poll went well.
    async fn succeeded(&self, polled: &mut Polled) {
        let failures = std::mem::take(&mut polled.progress.failures);
        if failures > 0 {
            let bridge = &polled.bridge.name;
            tracing::info!(message_id = kind::BRIDGE_RECOVERED, %bridge, failures, "the poll does not fail any more");
        }
        polled.progress.last_error = None;
        polled.progress.alerted_at = None;
        if std::mem::take(&mut polled.progress.alerted) {
            let data = serde_json::json!({ "bridge": &*polled.bridge.name, "failures": failures });
            self.alert(&polled.bridge, "bridge.recovered", data).await;
            self.save(polled).await;
        }
    }

    async fn failed(&self, polled: &mut Polled, failure: &Failure) {
        let bridge = &polled.bridge;
        let error = self.told(failure);
        polled.progress.failures = polled.progress.failures.saturating_add(1);
        let failures = polled.progress.failures;
        if failures == 1 {
            tracing::warn!(message_id = kind::BRIDGE_FAILING, bridge = %bridge.name, error, "the poll failed");
        } else {
            tracing::debug!(bridge = %bridge.name, failures, error, "the poll failed, which is told already");
        }
        polled.progress.last_error = Some(error.clone());
        let now = self.clock.now();
        let again = polled.progress.alerted_at.is_none_or(|at| at.plus(bridge.alert.repeat) <= now);
        if failures >= bridge.alert.after && (!polled.progress.alerted || again) {
            (polled.progress.alerted, polled.progress.alerted_at) = (true, Some(now));
            // It leaves the machine.
            let error = if bridge.source.has_credentials() { self.told(&failure.unquoted()) } else { error };
            let data = serde_json::json!({ "bridge": &*bridge.name, "failures": failures, "error": error });
            self.alert(&polled.bridge, "bridge.failing", data).await;
            self.save(polled).await;
        }
    }

    /// A bridge without an accepted poll for long is told once, whether its polls fail or are held.
    async fn judge_age(&self, polled: &mut Polled, accepted: bool) {
        let now = self.clock.now();
        if let Some((wall, monotonic)) = polled.looked_at.replace((now, Instant::now())) {
            let jump = now.0.saturating_sub(wall.plus(monotonic.elapsed()).0);
            if jump.abs() > clock::JUMP_MS {
                polled.watched_from = polled.watched_from.plus_ms(jump);
                polled.progress.accepted_at = polled.progress.accepted_at.map(|at| at.plus_ms(jump));
            }
        }
        if accepted {
            (polled.progress.accepted_at, polled.progress.stale) = (Some(now), false);
            return;
        }
        // The first poll that is not accepted starts the time of one that never was.
        let since = *polled.progress.accepted_at.get_or_insert(now);
        let bridge = &polled.bridge;
        let few_polls = (3 * bridge.schedule.gap(now)).max(STALE_AFTER_MIN);
        let after = bridge.alert.stale_after.unwrap_or(few_polls);
        // While nobody polled, no poll could be accepted: after a stop or a pause it has a few of them first.
        let had_time = polled.watched_from.plus(after.min(few_polls)) <= now;
        if since.plus(after) <= now && had_time && !polled.progress.stale {
            polled.progress.stale = true;
            tracing::warn!(message_id = kind::BRIDGE_STALE, bridge = %bridge.name, %since, "no poll was accepted for long");
            let data = serde_json::json!({ "bridge": &*polled.bridge.name, "since": since.to_string() });
            self.alert(&polled.bridge, "bridge.stale", data).await;
            self.save(polled).await;
        }
    }

    /// Writes where a bridge stands, at once: that an alert was sent must outlive a crash.
    pub(super) async fn save(&self, polled: &Polled) {
        let rows = vec![(polled.bridge.name.clone(), polled.progress.clone())];
        if let Err(error) = self.store.write(Op::Progress(rows)).await {
            // The store's failure ends the run, which is told once.
            tracing::debug!(bridge = %polled.bridge.name, %error, "where a bridge stands could not be stored");
        }
    }

    /// What is held, in full.
    pub async fn hold(&self, name: &Name) -> Result<Option<Hold>, store::Error> {
        let name = name.clone();
        self.store.read(move |engine| engine.hold(&name)).await
    }
}
