//! When bridges are polled: one heap of due times, no overlap, and a ceiling on polls in flight.
//!
//! A bridge's state is moved into the task that works on it (a poll, an accept, a resend) and comes back with it, so
//! that nothing else can touch it meanwhile.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Held, Outcome, Polled, Poller, Polling,
    fan::{Fan, Unfolded},
    handle::{Handle, Request, Status},
    job::{Job, refuse, run_job},
    reload::Applying,
};
use crate::{
    config::Bridge,
    model::{Name, Timestamp},
    schedule::HINT_MAX,
    store::{self, Op, Progress},
    telemetry::kind,
};

/// Requests that may wait for the runner.
const REQUESTS_MAX: usize = 256;
/// Where bridges stand is written at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// A server's hint longer than this is written at once: a restart must not ask too early.
const HINT_SAVED_FROM: Duration = Duration::from_secs(60);
/// Rows of one write.
pub(super) const SAVE_AT_ONCE: usize = 1000;
/// Jobs that may wait for one bridge.
const JOBS_MAX: usize = 16;
/// How soon a bridge is polled again whose answer the store did not take.
const STORE_LOOK_MIN: Duration = Duration::from_secs(1);
const STORE_LOOK_MAX: Duration = Duration::from_secs(60);
/// How soon a bridge looks again whether the queue that stopped it has room.
const PAUSED_LOOK: Duration = Duration::from_secs(1);

pub(super) struct Slot {
    pub(super) bridge: Arc<Bridge>,
    /// Away while a task works on it.
    pub(super) polled: Option<Polled>,
    pub(super) due: Timestamp,
    /// Of the heap's entry that counts; older ones are void.
    pub(super) generation: u64,
    /// Since when the bridge has this slot: work on one that it had before, until it left and came back, is of no account.
    pub(super) life: u64,
    /// Something committed under its name meanwhile: where it stands is read again.
    pub(super) outdated: bool,
    pub(super) jobs: VecDeque<Job>,
    /// As it stood when the work began.
    pub(super) last: Status,
    /// In line for a place among the polls in flight.
    pub(super) queued: bool,
    /// The timer was cut: when it fires it is not due yet.
    pub(super) cut: bool,
    /// It was kept from its due poll on purpose: how late that is says nothing.
    pub(super) held_back: bool,
}

impl Slot {
    /// Nothing works on it, and it may be polled.
    fn can_start(&self) -> bool {
        self.bridge.enabled && self.polled.as_ref().is_some_and(|polled| !polled.progress.paused)
    }

    /// The endpoint whose full queue stops this bridge (`queue-full = "pause"`).
    fn pausing(&self, poller: &Poller) -> Option<&Name> {
        poller.deliveries.full(self.bridge.routes.iter().map(|route| &route.endpoint))
    }
}

/// The bridges of one origin that are polled now, and those that wait for that.
#[derive(Default)]
pub(super) struct Crowd {
    in_flight: usize,
    pub(super) waiting: VecDeque<Name>,
}

/// Runs all bridges.
pub struct Runner {
    pub(super) poller: Poller,
    in_flight_max: usize,
    requests: mpsc::Receiver<Request>,
    pub(super) slots: BTreeMap<Name, Slot>,
    heap: BinaryHeap<Reverse<(Instant, u64, Name)>>,
    pub(super) generation: u64,
    /// Due, and waiting for a place.
    pub(super) ready: VecDeque<Name>,
    tasks: JoinSet<(Polled, Option<Outcome>)>,
    working: HashMap<Id, (Name, Option<String>, u64)>,
    pub(super) crowds: HashMap<String, Crowd>,
    saving: JoinSet<Result<(), store::Error>>,
    /// Bridges over a list: they are not polled, their members are.
    pub(super) fans: BTreeMap<Name, Fan>,
    /// Lists that are read anew.
    pub(super) fanning: JoinSet<Result<Unfolded, store::Error>>,
    /// Removed while something works on them, and another configuration waits for its end.
    pub(super) leaving: BTreeSet<Name>,
    /// Another configuration, until it is taken.
    pub(super) applying: Option<Applying>,
    /// Where bridges stand is written, and their names follow the file.
    pub(super) settles: bool,
}

impl Runner {
    pub fn new(poller: Poller, in_flight_max: usize) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let runner = Self {
            poller,
            in_flight_max,
            requests,
            slots: BTreeMap::new(),
            heap: BinaryHeap::new(),
            generation: 0,
            ready: VecDeque::new(),
            tasks: JoinSet::new(),
            working: HashMap::new(),
            crowds: HashMap::new(),
            saving: JoinSet::new(),
            fans: BTreeMap::new(),
            fanning: JoinSet::new(),
            leaving: BTreeSet::new(),
            applying: None,
            settles: true,
        };
        (runner, Handle { requests: sender })
    }

    /// For a look at what a file would do: where bridges stand, and under which names, stays as it is.
    pub fn only_looking(self) -> Self {
        Self { settles: false, ..self }
    }

    /// Runs until shutdown, or until the store fails. Polls under way are finished and everything is written first.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        let mut save = interval(SAVE_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut scarce = self.poller.store.scarce();
        loop {
            // What is asked for by hand is told that there is no room.
            if scarce.borrow_and_update().is_none() {
                self.start_due();
            }
            let wake = self.heap.peek().map(|Reverse((at, ..))| *at);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.tasks.join_next_with_id() => self.done(done).await?,
                Some(saved) = self.saving.join_next() => saved.map_err(|e| store::Error::Io(e.to_string()))??,
                Some(read) = self.fanning.join_next() => self.fanned(read).await?,
                request = self.requests.recv() => match request {
                    Some(request) => self.request(request).await?,
                    None => break,
                },
                _ = save.tick() => self.save(),
                Ok(()) = scarce.changed() => self.hold_back_where(scarce.borrow().is_some()),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() && scarce.borrow().is_none() => {}
            }
        }
        // The grace may end before the slowest poll does.
        self.save();
        self.requests.close();
        while let Some(done) = self.tasks.join_next_with_id().await {
            self.done(done).await?;
        }
        while let Some(saved) = self.saving.join_next().await {
            saved.map_err(|e| store::Error::Io(e.to_string()))??;
        }
        self.save();
        while let Some(saved) = self.saving.join_next().await {
            saved.map_err(|e| store::Error::Io(e.to_string()))??;
        }
        Ok(())
    }

    /// Where the disk has little room no bridge is polled, and how late they are then says nothing.
    fn hold_back_where(&mut self, scarce: bool) {
        if scarce {
            self.slots.values_mut().for_each(|slot| slot.held_back = true);
        }
    }

    /// Puts what is due in line, and starts as many as there are places.
    fn start_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.heap.peek()
            && *at <= now
        {
            let Some(Reverse((_, generation, name))) = self.heap.pop() else {
                break;
            };
            let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.generation == generation && !slot.queued)
            else {
                continue;
            };
            let wall = self.poller.clock.now();
            if slot.cut && wall < slot.due {
                self.arm(&name, wall);
                continue;
            }
            slot.queued = true;
            self.ready.push_back(name);
        }
        while self.working.len() < self.in_flight_max
            && let Some(name) = self.ready.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&name) else {
                continue;
            };
            slot.queued = false;
            // While something else works on it, it is due again when that is done.
            if !slot.can_start() {
                slot.held_back |= slot.polled.as_ref().is_some_and(|polled| polled.progress.paused);
                continue;
            }
            if let Some(endpoint) = slot.pausing(&self.poller) {
                tracing::debug!(bridge = %name, %endpoint, "not polled: the endpoint's queue is full");
                slot.held_back = true;
                // It keeps its due time, and with it its place in the spread of all bridges.
                self.generation += 1;
                slot.generation = self.generation;
                self.heap.push(Reverse((Instant::now() + PAUSED_LOOK, self.generation, name)));
                continue;
            }
            // Polls that would only wait for their turn at an origin leave their places to others.
            if let Some(origin) = slot.bridge.source.origin() {
                let crowd = self.crowds.entry(origin.to_owned()).or_default();
                if crowd.in_flight >= self.poller.client.per_host() {
                    slot.queued = true;
                    crowd.waiting.push_back(name);
                    continue;
                }
            }
            slot.jobs.push_front(Job::Due);
            self.work(&name);
        }
    }

    /// A place at an origin is free: who waited longest for it, and still can, is next in line.
    fn leave(&mut self, origin: Option<String>) {
        let Some(origin) = origin else { return };
        let Some(crowd) = self.crowds.get_mut(&origin) else {
            return;
        };
        crowd.in_flight = crowd.in_flight.saturating_sub(1);
        while let Some(next) = crowd.waiting.pop_front() {
            match self.slots.get_mut(&next) {
                Some(slot) if slot.can_start() => {
                    self.ready.push_front(next);
                    return;
                }
                Some(slot) => slot.queued = false,
                None => {}
            }
        }
        if crowd.in_flight == 0 {
            self.crowds.remove(&origin);
        }
    }

    /// Starts the next job of a bridge, when nothing works on it.
    fn work(&mut self, name: &Name) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        if slot.polled.is_none() {
            return;
        }
        let Some(job) = slot.jobs.pop_front() else { return };
        slot.last = status(slot);
        let Some(mut polled) = slot.polled.take() else { return };
        if matches!(job, Job::Due) {
            let held_back = std::mem::take(&mut slot.held_back);
            let now = self.poller.clock.now();
            polled.lag = (!held_back).then(|| slot.due.until(now));
            if held_back {
                polled.watch_from(now);
            }
        }
        let poller = self.poller.clone();
        let origin = polled.bridge.source.origin().map(str::to_owned);
        if let Some(origin) = &origin {
            self.crowds.entry(origin.clone()).or_default().in_flight += 1;
        }
        let life = slot.life;
        let id = self.tasks.spawn(run_job(poller, polled, job)).id();
        self.working.insert(id, (name.clone(), origin, life));
    }

    async fn done(
        &mut self,
        done: Result<(Id, (Polled, Option<Outcome>)), tokio::task::JoinError>,
    ) -> Result<(), store::Error> {
        let (id, result) = match done {
            Ok((id, result)) => (id, Some(result)),
            Err(error) => {
                if let Some((name, ..)) = self.working.get(&error.id()) {
                    self.tell_panic(name, &error);
                }
                (error.id(), None)
            }
        };
        let Some((name, origin, life)) = self.working.remove(&id) else {
            return Ok(());
        };
        self.leave(origin);
        let Some(slot) = self.slots.get_mut(&name) else {
            // The bridge left the configuration meanwhile: where it stood is still worth keeping.
            self.poller.pulse.forget(&name);
            if let Some((polled, _)) = result {
                let progress = Progress { removed: Some(self.poller.clock.now()), ..polled.progress };
                self.poller.store.write(Op::Progress(vec![(name.clone(), progress)])).await?;
            }
            self.leaving.remove(&name);
            return self.apply_when_left().await;
        };
        let bridge = slot.bridge.clone();
        if slot.life != life {
            // It left, and has come back: what its old slot's work led to is stored, and may be more than the new one knows.
            if slot.polled.is_some() {
                slot.polled = Some(load(&self.poller, bridge).await?);
            } else {
                slot.outdated = true;
            }
            return Ok(());
        }
        if std::mem::take(&mut slot.outdated) {
            let polled = load(&self.poller, bridge.clone()).await?;
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.due = self.poller.clock.now();
                slot.polled = Some(polled);
            }
            self.arm(&name, self.poller.clock.now());
            self.work(&name);
            return Ok(());
        }
        let (mut polled, outcome) = match result {
            Some((polled, outcome)) if !stale(&outcome) && *polled.bridge == *bridge => (polled, outcome),
            Some((polled, outcome)) if !stale(&outcome) => (rebuilt(bridge, polled), outcome),
            Some(_) => (load(&self.poller, bridge).await?, None),
            // It would panic again at once.
            None => {
                let mut polled = load(&self.poller, bridge).await?;
                // What is stored of it may be older than the failure before.
                polled.progress.failures = polled.progress.failures.max(slot.last.failures).saturating_add(1);
                polled.progress.last_error = Some("the poll panicked: please report it with the log".into());
                let failure = Failure::Answer("the poll panicked".into());
                (polled, Some(Outcome { result: Err(failure), hint: None }))
            }
        };
        let committed = polled.state.version != slot.last.version;
        let hint = outcome.as_ref().and_then(|o| o.hint);
        let now = self.poller.clock.now();
        if let Some(outcome) = outcome {
            slot.due = next_due(&mut polled, slot.due, now, &outcome);
            polled.progress.due = slot.due;
            polled.progress.wait_ms = Some(u64::try_from(now.until(slot.due).as_millis()).unwrap_or(u64::MAX));
            polled.progress.hinted = hint.is_some();
        }
        let save_now = hint.filter(|hint| *hint > HINT_SAVED_FROM).map(|_| polled.progress.clone());
        slot.polled = Some(polled);
        if let Some(progress) = save_now {
            self.poller.store.write(Op::Progress(vec![(name.clone(), progress)])).await?;
        }
        if committed {
            self.fan_anew(&name);
        }
        self.arm(&name, now);
        self.work(&name);
        Ok(())
    }

    /// A bridge whose every poll panics is told once.
    fn tell_panic(&self, bridge: &Name, error: &tokio::task::JoinError) {
        if self.slots.get(bridge).is_none_or(|slot| slot.last.failures == 0) {
            tracing::error!(message_id = kind::BRIDGE_PANICKED, %bridge, %error, "the poll panicked: please report it with this log");
        } else {
            tracing::debug!(%bridge, %error, "the poll panicked, which is told already");
        }
    }

    /// Puts a bridge's due time on the heap.
    pub(super) fn arm(&mut self, name: &Name, now: Timestamp) {
        self.generation += 1;
        let generation = self.generation;
        let Some(slot) = self.slots.get_mut(name) else { return };
        // Entries of before are void, also where none follows.
        slot.generation = generation;
        if slot.bridge.enabled {
            let wait = now.until(slot.due);
            slot.cut = wait > HINT_MAX;
            self.heap.push(Reverse((Instant::now() + wait.min(HINT_MAX), generation, name.clone())));
        }
    }

    async fn request(&mut self, request: Request) -> Result<(), store::Error> {
        match request {
            Request::Job(name, job) => match self.slots.get_mut(&name) {
                Some(slot) if slot.jobs.len() < JOBS_MAX => {
                    slot.jobs.push_back(job);
                    self.work(&name);
                }
                Some(_) => refuse(job, format!("{JOBS_MAX} requests wait for {name} already")),
                None => {
                    let near = crate::settings::nearest(&name, self.slots.keys().map(|n| &**n));
                    let hint = near.map(|n| format!(": did you mean {n:?}?")).unwrap_or_default();
                    refuse(job, format!("there is no bridge {name:?}{hint}"));
                }
            },
            Request::Status(answer) => {
                let stands = |slot: &Slot| match slot.pausing(&self.poller).filter(|_| slot.bridge.enabled) {
                    Some(endpoint) => {
                        let why = format!("not polled while the queue of {endpoint:?} is full (`queue-max`)");
                        Status { state: "paused", last_error: Some(why), ..status(slot) }
                    }
                    None => status(slot),
                };
                let all = self.slots.iter().map(|(name, slot)| (name.clone(), stands(slot))).collect();
                // The one who asked may have gone.
                let _ = answer.send(all);
            }
            Request::Apply(bridges, poller, answer) => {
                self.begin(bridges, *poller, answer).await?;
            }
        }
        Ok(())
    }

    /// Writes where bridges stand, in the background; nothing when the last writing is still under way.
    fn save(&mut self) {
        if !self.saving.is_empty() || !self.settles {
            return;
        }
        let mut rows: Vec<(Name, Progress)> = Vec::new();
        for (name, slot) in &mut self.slots {
            if let Some(polled) = slot.polled.as_mut().filter(|polled| polled.dirty) {
                polled.dirty = false;
                rows.push((name.clone(), polled.progress.clone()));
            }
        }
        let store = self.poller.store.clone();
        if !rows.is_empty() {
            self.saving.spawn(async move {
                for chunk in rows.chunks(SAVE_AT_ONCE) {
                    store.write(Op::Progress(chunk.to_vec())).await?;
                }
                Ok(())
            });
        }
    }
}

/// Whether what the task worked with is no longer what is stored.
fn stale(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome { result: Err(Failure::Store(store::Error::Conflict { .. })), .. }))
}

/// The same state under another definition.
pub(super) fn rebuilt(bridge: Arc<Bridge>, old: Polled) -> Polled {
    let (held, watched_from) = (old.held, old.watched_from);
    let stays = bridge.source == old.bridge.source;
    let memo = old.memo;
    let loaded = store::Loaded {
        name: bridge.name.clone(),
        state: old.state,
        progress: Some(old.progress),
        held: held.is_some(),
    };
    let mut polled = Polled::new(bridge, Some(loaded), held);
    polled.watched_from = watched_from;
    if stays {
        // A connection stays, with what it has brought.
        polled.memo = memo.of_the_same_source();
    }
    polled
}

async fn load(poller: &Poller, bridge: Arc<Bridge>) -> Result<Polled, store::Error> {
    let name = bridge.name.clone();
    let (loaded, hold) = poller.store.read(move |engine| Ok((engine.bridge(&name)?, engine.hold(&name)?))).await?;
    let polled = Polled::new(bridge, loaded, hold.as_ref().map(Held::from));
    Ok(Polled { watched_from: poller.clock.now(), ..polled })
}

/// After success on the beat, after failure by backoff; a hint of the server only delays.
fn next_due(polled: &mut Polled, due: Timestamp, now: Timestamp, outcome: &Outcome) -> Timestamp {
    let schedule = &polled.bridge.schedule;
    let next = match &outcome.result {
        Ok(polling) => {
            polled.pace = schedule.adapt(polled.pace, matches!(polling, Polling::Changed { .. }));
            schedule.next(due, now, polled.pace, crate::deliver::random())
        }
        // It is polled again when there is room, but not again and again where there is none for just this answer.
        Err(failure) if failure.is_of_the_store() => now.plus(polled.pace.clamp(STORE_LOOK_MIN, STORE_LOOK_MAX)),
        Err(failure) => schedule.after_failure(polled.progress.failures, failure.kind(), now, polled.pace),
    };
    outcome.hint.map_or(next, |hint| next.max(now.plus(hint.min(HINT_MAX))))
}

pub(super) fn status(slot: &Slot) -> Status {
    let Some(polled) = &slot.polled else {
        return Status { polling: true, ..slot.last.clone() };
    };
    let waits = polled.held.is_some_and(|held| !held.rejected);
    Status::of(&slot.bridge, &polled.state, &polled.progress, waits, slot.due)
}
