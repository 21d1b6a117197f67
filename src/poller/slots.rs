//! The bridges that are polled, each with where it stands: which are new, which changed, and which leave.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Held, Outcome, Polled, Poller, Polling,
    job::Job,
    line::{Line, Place},
    told::Status,
};
use crate::{
    auth::files::Places,
    config::Bridge,
    model::{Name, Timestamp},
    schedule::{HINT_MAX, Stored},
    store::{self, Op, Progress},
};

/// Bridges by name.
pub(super) type Bridges = BTreeMap<Name, Arc<Bridge>>;

/// Rows of one write.
pub(super) const SAVE_AT_ONCE: usize = 1000;
/// So many new bridges are read one by one; all of them are, where they are more.
const FEW: usize = 64;
/// How soon a bridge is polled again whose answer the store did not take.
const STORE_LOOK_MIN: Duration = Duration::from_secs(1);
/// How soon the next window of time is asked for, where the last one ended before now (`since.window`).
const BEHIND: Duration = Duration::from_secs(1);
/// How much closer together than after a start those are asked whose secret was replaced: within two seconds.
const RENEWED_SOONER: u32 = 3;
const STORE_LOOK_MAX: Duration = Duration::from_secs(60);

pub(super) struct Slot {
    pub bridge: Arc<Bridge>,
    /// Away while a task works on it.
    pub polled: Option<Polled>,
    pub due: Timestamp,
    pub place: Place,
    /// Since when the bridge has this slot: work on one that it had before, until it left and came back, is of no account.
    pub life: u64,
    /// Something committed under its name meanwhile: where it stands is read again.
    pub outdated: bool,
    pub jobs: VecDeque<Job>,
    /// The work on it is a poll, which ends within its deadline.
    pub in_poll: bool,
    /// As it stood when the work began.
    pub last: Status,
    /// The timer was cut: when it fires it is not due yet.
    pub cut: bool,
    /// It was kept from its due poll on purpose: how late that is says nothing.
    pub held_back: bool,
}

impl Slot {
    /// Nothing works on it, and it may be polled.
    pub fn can_start(&self) -> bool {
        self.bridge.enabled && self.polled.as_ref().is_some_and(|polled| !polled.progress.paused)
    }

    /// Whether it is to be polled now, or is being polled. `held` says that no bridge is.
    pub fn is_due(&self, poller: &Poller, held: bool, now: Timestamp) -> bool {
        if self.polled.is_none() {
            return self.in_poll;
        }
        !held && !self.held_back && self.due <= now && self.can_start() && self.pausing(poller).is_none()
    }

    /// The endpoint whose full queue stops this bridge (`queue-full = "pause"`).
    pub fn pausing(&self, poller: &Poller) -> Option<&Name> {
        poller.deliveries.full(self.bridge.routes.iter().map(|route| &route.endpoint))
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let Some(polled) = &self.polled else {
            return Status { polling: true, ..self.last.clone() };
        };
        let waits = polled.held.is_some_and(|held| !held.rejected);
        Status::of(&self.bridge, &polled.state, &polled.progress, waits, self.due)
    }
}

/// All of them, and the line that they stand in.
pub(super) struct Slots {
    pub all: BTreeMap<Name, Slot>,
    pub line: Line,
    /// Where bridges stand is written, and their names follow the file.
    pub settles: bool,
}

impl Slots {
    /// Makes a bridge due at the time that it has.
    pub fn arm(&mut self, name: &Name, now: Timestamp) {
        let Some(slot) = self.all.get_mut(name) else { return };
        let wait = now.until(slot.due);
        slot.cut = wait > HINT_MAX;
        let at = slot.bridge.enabled.then(|| Instant::now() + wait.min(HINT_MAX));
        self.line.arm(name, &mut slot.place, at);
    }

    /// Stops polling some bridges; where they stood is kept for a while.
    pub async fn remove(&mut self, poller: &Poller, names: Vec<Name>) -> Result<(), store::Error> {
        let now = poller.clock.now();
        let mut rows: Vec<(Name, Progress)> = Vec::new();
        for name in names {
            poller.pulse.forget(&name);
            // What works on it writes that itself when it has ended.
            if let Some(polled) = self.all.remove(&name).and_then(|slot| slot.polled) {
                rows.push((name, Progress { removed: Some(now), ..polled.progress }));
            }
        }
        for chunk in rows.chunks(SAVE_AT_ONCE) {
            poller.store.write(Op::Progress(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Polls some bridges from now on; those that are polled already keep their timing unless they changed.
    pub async fn install(&mut self, poller: &Poller, bridges: Bridges) -> Result<(), store::Error> {
        let fresh: Vec<Name> = bridges.keys().filter(|name| !self.all.contains_key(*name)).cloned().collect();
        let mut loaded = read(poller, fresh).await?;
        let now = poller.clock.now();
        for (name, bridge) in bridges {
            match self.all.get_mut(&name) {
                Some(slot) if *slot.bridge == *bridge => continue,
                Some(slot) => change(slot, bridge, now),
                None => {
                    let stored = loaded.remove(&name);
                    let held = match &stored {
                        Some(stored) if stored.held => poller.hold(&name).await?.as_ref().map(Held::from),
                        _ => None,
                    };
                    let slot = self.slot(bridge, stored, held, now);
                    self.all.insert(name.clone(), slot);
                }
            }
            self.arm(&name, now);
        }
        Ok(())
    }

    /// Files of secrets hold others: what fails behind one is due at once. What is worked on has seen it, or sees it at its next
    /// refusal.
    pub fn may_be_cured(&mut self, places: &Places, now: Timestamp) {
        let is_of = |slot: &Slot| slot.bridge.source.auth().iter().any(|auth| auth.is_of(places));
        let names: Vec<Name> = self.all.iter().filter(|(_, slot)| is_of(slot)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(slot) = self.all.get_mut(&name) else { continue };
            let Some(polled) = &mut slot.polled else { continue };
            polled.may_be_cured();
            if std::mem::take(&mut polled.at_once) {
                slot.due = now.plus(now.until(soon(&slot.bridge, now)) / RENEWED_SOONER);
                self.arm(&name, now);
            }
        }
    }

    /// Of a bridge that was not polled before.
    fn slot(&mut self, bridge: Arc<Bridge>, stored: Option<store::Loaded>, held: Option<Held>, now: Timestamp) -> Slot {
        let known = stored.as_ref().filter(|l| l.state.version > 0 || l.progress.is_some());
        let stored_due = known.map(|l| {
            let progress = l.progress.clone().unwrap_or_default();
            Stored {
                // A start may be the cure of what failed.
                due: if progress.failures > 0 && !progress.hinted { Timestamp(0) } else { progress.due },
                wait: progress.wait_ms.map(Duration::from_millis),
                waits: progress.hinted,
            }
        });
        let due = bridge.schedule.first(&bridge.name, stored_due, now);
        let mut polled = Polled::new(bridge.clone(), stored, held);
        polled.watched_from = now;
        // A member that is in its list again.
        polled.dirty |= self.settles && polled.progress.removed.take().is_some();
        let mut slot = Slot {
            bridge,
            polled: Some(polled),
            due,
            place: Place::default(),
            life: self.line.number(),
            outdated: false,
            jobs: VecDeque::new(),
            in_poll: false,
            last: Status::default(),
            cut: false,
            held_back: false,
        };
        slot.last = slot.status();
        slot
    }
}

/// What is stored of bridges. At the start that is all of them: one read instead of one for each.
async fn read(poller: &Poller, fresh: Vec<Name>) -> Result<BTreeMap<Name, store::Loaded>, store::Error> {
    let all: Vec<store::Loaded> = if fresh.len() <= FEW {
        let read = move |engine: &dyn store::Engine| {
            fresh.iter().map(|name| engine.bridge(name)).collect::<Result<Vec<_>, _>>()
        };
        poller.store.read(read).await?.into_iter().flatten().collect()
    } else {
        poller.store.read(|engine| engine.bridges()).await?
    };
    Ok(all.into_iter().map(|loaded| (loaded.name.clone(), loaded)).collect())
}

/// Gives a slot its bridge's new definition.
fn change(slot: &mut Slot, bridge: Arc<Bridge>, now: Timestamp) {
    let stored = slot.due;
    slot.held_back |= !slot.bridge.enabled;
    slot.bridge = bridge.clone();
    // Its old due time may lie too far ahead for the new schedule; a hint still holds.
    if slot.polled.as_ref().is_some_and(|polled| !polled.progress.hinted) {
        slot.due = stored.min(bridge.schedule.first(&bridge.name, None, now));
    }
    slot.polled = slot.polled.take().map(|polled| {
        let mut polled = rebuilt(bridge.clone(), polled);
        polled.may_be_cured();
        if std::mem::take(&mut polled.at_once) {
            slot.due = soon(&bridge, now);
        }
        polled
    });
}

/// At once, spread over some seconds: there may be a hundred bridges behind the token that was renewed.
pub(super) fn soon(bridge: &Bridge, now: Timestamp) -> Timestamp {
    bridge.schedule.first(&bridge.name, Some(Stored { due: Timestamp(0), wait: None, waits: false }), now)
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

/// Where a bridge stands as it is stored.
pub(super) async fn load(poller: &Poller, bridge: Arc<Bridge>) -> Result<Polled, store::Error> {
    let name = bridge.name.clone();
    let (loaded, hold) = poller.store.read(move |engine| Ok((engine.bridge(&name)?, engine.hold(&name)?))).await?;
    let polled = Polled::new(bridge, loaded, hold.as_ref().map(Held::from));
    Ok(Polled { watched_from: poller.clock.now(), ..polled })
}

/// After success on the beat, after failure by backoff; a hint of the server only delays.
pub(super) fn next_due(polled: &mut Polled, due: Timestamp, now: Timestamp, outcome: &Outcome) -> Timestamp {
    let schedule = &polled.bridge.schedule;
    let next = match &outcome.result {
        Ok(polling) => {
            polled.pace = schedule.adapt(polled.pace, matches!(polling, Polling::Changed { .. }));
            let next = schedule.next(due, now, polled.pace, crate::deliver::random());
            if polled.is_behind { next.min(now.plus(BEHIND)) } else { next }
        }
        // It is polled again when there is room, but not again and again where there is none for just this answer.
        Err(failure) if failure.is_of_the_store() => now.plus(polled.pace.clamp(STORE_LOOK_MIN, STORE_LOOK_MAX)),
        Err(failure) => schedule.after_failure(polled.progress.failures, failure.kind(), now, polled.pace),
    };
    outcome.hint.map_or(next, |hint| next.max(now.plus(hint.min(HINT_MAX))))
}
