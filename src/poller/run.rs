//! The loop that polls all bridges: what is due starts, what has ended comes back, and what is asked for is done.
//!
//! A bridge's state is moved into the task that works on it (a poll, an accept, a resend) and comes back with it, so
//! that nothing else can touch it meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Outcome, Polled, Poller,
    fan::{self, Fans},
    handle::{Handle, Request},
    job::{Job, refuse, run_job},
    line::Line,
    reload::{Applying, Reload},
    roster,
    slots::{Bridges, SAVE_AT_ONCE, Slot, Slots, load, next_due, rebuilt, soon},
    told::{State, Status},
};
use crate::{
    model::{Name, u64_of},
    pulse::Moves,
    store::{self, Op, Progress},
    telemetry::kind,
};

/// Requests that may wait for the runner.
const REQUESTS_MAX: usize = 256;
/// Where bridges stand is written at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// A server's hint longer than this is written at once: a restart must not ask too early.
const HINT_SAVED_FROM: Duration = Duration::from_secs(60);
/// Jobs that may wait for one bridge.
const JOBS_MAX: usize = 16;
/// How soon a bridge looks again whether the queue that stopped it has room.
const PAUSED_LOOK: Duration = Duration::from_secs(1);

/// Runs all bridges.
pub struct Runner {
    poller: Poller,
    requests: mpsc::Receiver<Request>,
    slots: Slots,
    tasks: JoinSet<(Polled, Option<Outcome>)>,
    working: HashMap<Id, (Name, Option<String>, u64)>,
    saving: JoinSet<Result<(), store::Error>>,
    fans: Fans,
    reload: Reload,
    /// Pieces of work that were begun.
    begun: u64,
}

impl Runner {
    pub fn new(poller: Poller, in_flight_max: usize) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let runner = Self {
            poller,
            requests,
            slots: Slots { all: BTreeMap::new(), line: Line::new(in_flight_max), settles: true },
            tasks: JoinSet::new(),
            working: HashMap::new(),
            saving: JoinSet::new(),
            fans: Fans::default(),
            reload: Reload::default(),
            begun: 0,
        };
        (runner, Handle { requests: sender })
    }

    /// For a look at what a file would do: where bridges stand, and under which names, stays as it is.
    pub fn only_looking(mut self) -> Self {
        self.slots.settles = false;
        self
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
            let wake = self.slots.line.wake().filter(|_| scarce.borrow().is_none());
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.tasks.join_next_with_id() => self.done(done).await?,
                Some(saved) = self.saving.join_next() => saved.map_err(|e| store::Error::Io(e.to_string()))??,
                Some(read) = self.fans.join_next() => self.fanned(read).await?,
                request = self.requests.recv() => match request {
                    Some(request) => self.request(request).await?,
                    None => break,
                },
                _ = save.tick() => self.save(),
                Ok(()) = scarce.changed() => self.hold_back_where(scarce.borrow().is_some()),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
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
            self.slots.all.values_mut().for_each(|slot| slot.held_back = true);
        }
    }

    /// Puts what is due in line, and starts as many as there are places.
    fn start_due(&mut self) {
        let now = Instant::now();
        while let Some((name, generation)) = self.slots.line.fired(now) {
            let Some(slot) = self.slots.all.get_mut(&name).filter(|slot| slot.place.counts(generation)) else {
                continue;
            };
            let wall = self.poller.clock.now();
            if slot.cut && wall < slot.due {
                self.slots.arm(&name, wall);
            } else {
                self.slots.line.queue(name, &mut slot.place);
            }
        }
        while let Some(name) = self.slots.line.next() {
            let Some(slot) = self.slots.all.get_mut(&name) else {
                continue;
            };
            slot.place.leave();
            // While something else works on it, it is due again when that is done.
            if !slot.can_start() {
                slot.held_back |= slot.polled.as_ref().is_some_and(|polled| polled.progress.paused);
                continue;
            }
            if let Some(endpoint) = slot.pausing(&self.poller) {
                tracing::debug!(bridge = %name, %endpoint, "not polled: the endpoint's queue is full");
                slot.held_back = true;
                // It keeps its due time, and with it its place in the spread of all bridges.
                self.slots.line.arm(&name, &mut slot.place, Some(Instant::now() + PAUSED_LOOK));
                continue;
            }
            // Polls that would only wait for their turn at an origin leave their places to others.
            let bridge = slot.bridge.clone();
            let per_host = self.poller.client.per_host();
            let mut enters = |origin| self.slots.line.enters(origin, per_host, &name, &mut slot.place);
            if bridge.source.origin().is_none_or(&mut enters) {
                slot.jobs.push_front(Job::Due);
                self.work(&name);
            }
        }
    }

    /// Starts the next job of a bridge, when nothing works on it.
    fn work(&mut self, name: &Name) {
        let Some(slot) = self.slots.all.get_mut(name) else { return };
        if slot.polled.is_none() {
            return;
        }
        let Some(job) = slot.jobs.pop_front() else { return };
        slot.last = slot.status();
        slot.in_poll = matches!(job, Job::Due | Job::Poll(_));
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
        self.slots.line.begin(origin.as_deref());
        let life = slot.life;
        let id = self.tasks.spawn(run_job(poller, polled, job)).id();
        self.begun += 1;
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
        let Slots { all, line, .. } = &mut self.slots;
        line.end(origin.as_deref(), |next| match all.get_mut(next) {
            Some(slot) if slot.can_start() => true,
            Some(slot) => {
                slot.place.leave();
                false
            }
            None => false,
        });
        let Some(slot) = all.get_mut(&name) else {
            // The bridge left the configuration meanwhile: where it stood is still worth keeping.
            self.poller.pulse.forget(&name);
            if let Some((polled, _)) = result {
                let progress = Progress { removed: Some(self.poller.clock.now()), ..polled.progress };
                self.poller.store.write(Op::Progress(vec![(name.clone(), progress)])).await?;
            }
            self.reload.left(&name);
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
            if let Some(slot) = self.slots.all.get_mut(&name) {
                slot.due = self.poller.clock.now();
                slot.polled = Some(polled);
            }
            self.slots.arm(&name, self.poller.clock.now());
            self.work(&name);
            return Ok(());
        }
        let mut is_new = false;
        let (mut polled, outcome) = match result {
            Some((polled, outcome)) if !stale(&outcome) && *polled.bridge == *bridge => (polled, outcome),
            // Its last poll was of the old definition.
            Some((polled, outcome)) if !stale(&outcome) => {
                is_new = true;
                (rebuilt(bridge, polled), outcome)
            }
            Some(_) => (load(&self.poller, bridge).await?, None),
            // It would panic again at once.
            None => {
                let mut polled = load(&self.poller, bridge).await?;
                // What is stored of it may be older than the failure before.
                polled.progress.failures = polled.progress.failures.max(slot.last.failures).saturating_add(1);
                polled.progress.last_error = Some("the poll panicked: please report it with the log".into());
                let failure = Failure::Panicked("the poll".into());
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
        if is_new {
            polled.may_be_cured();
        }
        if std::mem::take(&mut polled.at_once) {
            slot.due = soon(&polled.bridge, now);
        }
        let save_now = hint.filter(|hint| *hint > HINT_SAVED_FROM).map(|_| polled.progress.clone());
        slot.polled = Some(polled);
        if let Some(progress) = save_now {
            self.poller.store.write(Op::Progress(vec![(name.clone(), progress)])).await?;
        }
        if committed {
            self.fans.read_of(&self.poller, &name);
        }
        self.slots.arm(&name, now);
        self.work(&name);
        Ok(())
    }

    /// A bridge whose every poll panics is told once.
    fn tell_panic(&self, bridge: &Name, error: &tokio::task::JoinError) {
        if self.slots.all.get(bridge).is_none_or(|slot| slot.last.failures == 0) {
            tracing::error!(message_id = kind::BRIDGE_PANICKED, %bridge, %error, "the poll panicked: please report it with this log");
        } else {
            tracing::debug!(%bridge, %error, "the poll panicked, which is told already");
        }
    }

    /// Takes another configuration, once it may be taken.
    async fn apply_when_left(&mut self) -> Result<(), store::Error> {
        let Some(Applying { bridges, poller, answer }) = self.reload.ready() else { return Ok(()) };
        self.poller = poller;
        if self.slots.settles {
            roster::settle(&self.poller.store, &bridges, self.poller.clock.now()).await?;
        }
        let bridges = self.fans.unfold(&self.poller, bridges).await?;
        // Who waits at an origin may be another's now, or gone.
        self.slots.line.disperse();
        let gone = self.slots.all.keys().filter(|name| !bridges.contains_key(*name)).cloned().collect();
        self.replace(gone, bridges).await?;
        // The one who asked may have gone.
        let _ = answer.send(());
        Ok(())
    }

    /// A list was read: new members are polled from now on, those that left it no more.
    async fn fanned(&mut self, read: fan::Read) -> Result<(), store::Error> {
        let Some((bridge, members)) = self.fans.read(&self.poller, read)? else { return Ok(()) };
        let prefix = format!("{bridge}/");
        let known = self.slots.all.keys().filter(|name| name.starts_with(&prefix));
        let gone = known.filter(|name| !members.contains_key(*name)).cloned().collect();
        self.replace(gone, members).await
    }

    /// Polls these bridges, and no more those that are gone.
    async fn replace(&mut self, gone: Vec<Name>, bridges: Bridges) -> Result<(), store::Error> {
        self.slots.remove(&self.poller, gone).await?;
        self.slots.install(&self.poller, bridges).await
    }

    async fn request(&mut self, request: Request) -> Result<(), store::Error> {
        match request {
            Request::Job(name, job) => match self.slots.all.get_mut(&name) {
                Some(slot) if slot.jobs.len() < JOBS_MAX => {
                    slot.jobs.push_back(job);
                    self.work(&name);
                }
                Some(_) => refuse(job, format!("{JOBS_MAX} requests wait for {name} already")),
                None => {
                    let near = crate::settings::nearest(&name, self.slots.all.keys().map(|n| &**n));
                    let hint = near.map(|n| format!(": did you mean {n:?}?")).unwrap_or_default();
                    refuse(job, format!("no bridge is called {name:?}{hint}"));
                }
            },
            Request::Status(answer) => {
                let stands = |slot: &Slot| match slot.pausing(&self.poller).filter(|_| slot.bridge.enabled) {
                    Some(endpoint) => {
                        let why = format!("not polled while the queue of {endpoint:?} is full (`queue-max`)");
                        Status { state: State::Paused, last_error: Some(why), ..slot.status() }
                    }
                    None => slot.status(),
                };
                let all = self.slots.all.iter().map(|(name, slot)| (name.clone(), stands(slot))).collect();
                // The one who asked may have gone.
                let _ = answer.send(all);
            }
            Request::Moves(answer) => {
                let (held, now) = (self.poller.store.scarce().borrow().is_some(), self.poller.clock.now());
                let due = self.slots.all.values().any(|slot| slot.is_due(&self.poller, held, now));
                // The one who asked may have gone.
                let _ = answer.send(Moves { due, ended: self.begun - u64_of(self.tasks.len()) });
            }
            Request::Renewed(places) => self.slots.may_be_cured(&places, self.poller.clock.now()),
            Request::Apply(bridges, poller, answer) => {
                let next = Applying { bridges, poller: *poller, answer };
                self.fans.retain(&next.bridges);
                let gone = self.reload.begin(next, &self.slots);
                self.slots.remove(&self.poller, gone).await?;
                self.apply_when_left().await?;
            }
        }
        Ok(())
    }

    /// Writes where bridges stand, in the background; nothing when the last writing is still under way.
    fn save(&mut self) {
        if !self.saving.is_empty() || !self.slots.settles {
            return;
        }
        let mut rows: Vec<(Name, Progress)> = Vec::new();
        for (name, slot) in &mut self.slots.all {
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
