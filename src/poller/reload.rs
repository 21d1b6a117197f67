//! Another configuration: which bridges are polled no more, which are new, and which go on as they are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Held, Polled, Poller,
    fan::Members,
    handle::Status,
    roster,
    run::{Runner, SAVE_AT_ONCE, Slot, rebuilt, status},
};
use crate::{
    config::Bridge,
    model::{Name, bridge_of},
    schedule::Stored,
    store::{self, Op, Progress},
};

/// So many new bridges are read one by one; all of them are, where they are more.
const FEW: usize = 64;

/// Another configuration, and who waits until it is taken.
pub(super) struct Applying {
    bridges: BTreeMap<Name, Arc<Bridge>>,
    poller: Poller,
    answer: oneshot::Sender<()>,
}

impl Runner {
    /// Stops the bridges that another configuration does not have. The others go on as they are until it is taken: at once, but
    /// where a bridge takes over the snapshot of one that is worked on, which would write under a name that is another's by then.
    pub(super) async fn begin(
        &mut self,
        bridges: BTreeMap<Name, Arc<Bridge>>,
        poller: Poller,
        answer: oneshot::Sender<()>,
    ) -> Result<(), store::Error> {
        let gone = |name: &&Name| !bridges.contains_key(bridge_of(name));
        let gone: Vec<Name> = self.slots.keys().filter(gone).cloned().collect();
        let moved: BTreeSet<&str> = bridges.values().filter_map(|bridge| bridge.was.as_deref()).collect();
        let worked_on = |name: &Name| self.slots.get(name).is_some_and(|slot| slot.polled.is_none());
        let leaving = gone.iter().filter(|name| moved.contains(bridge_of(name)) && worked_on(name));
        self.leaving.extend(leaving.cloned());
        // Their lists bring no member back.
        self.fans.retain(|name, _| bridges.contains_key(name));
        self.remove(gone).await?;
        self.applying = Some(Applying { bridges, poller, answer });
        self.apply_when_left().await
    }

    pub(super) async fn apply_when_left(&mut self) -> Result<(), store::Error> {
        if self.leaving.is_empty()
            && let Some(Applying { bridges, poller, answer }) = self.applying.take()
        {
            self.poller = poller;
            self.apply(bridges).await?;
            // The one who asked may have gone.
            let _ = answer.send(());
        }
        Ok(())
    }

    async fn apply(&mut self, bridges: BTreeMap<Name, Arc<Bridge>>) -> Result<(), store::Error> {
        if self.settles {
            roster::settle(&self.poller.store, &bridges, self.poller.clock.now()).await?;
        }
        let bridges = self.unfold(bridges).await?;
        // Who waits at an origin may be another's now, or gone.
        for crowd in self.crowds.values_mut() {
            self.ready.extend(crowd.waiting.drain(..));
        }
        let removed: Vec<Name> = self.slots.keys().filter(|name| !bridges.contains_key(*name)).cloned().collect();
        self.remove(removed).await?;
        self.install(bridges).await
    }

    /// Stops polling some bridges; where they stood is kept for a while.
    pub(super) async fn remove(&mut self, names: Vec<Name>) -> Result<(), store::Error> {
        let now = self.poller.clock.now();
        let mut rows: Vec<(Name, Progress)> = Vec::new();
        for name in names {
            self.poller.pulse.forget(&name);
            // What works on it writes that itself when it has ended.
            if let Some(polled) = self.slots.remove(&name).and_then(|slot| slot.polled) {
                rows.push((name, Progress { removed: Some(now), ..polled.progress }));
            }
        }
        for chunk in rows.chunks(SAVE_AT_ONCE) {
            self.poller.store.write(Op::Progress(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Polls some bridges from now on; those that are polled already keep their timing unless they changed.
    pub(super) async fn install(&mut self, bridges: Members) -> Result<(), store::Error> {
        let fresh: Vec<Name> = bridges.keys().filter(|name| !self.slots.contains_key(*name)).cloned().collect();
        // At the start all of them: one read instead of one for each.
        let mut loaded: BTreeMap<Name, store::Loaded> = BTreeMap::new();
        if fresh.len() <= FEW {
            let few = fresh.clone();
            let read = move |engine: &dyn store::Engine| {
                few.iter().map(|name| engine.bridge(name)).collect::<Result<Vec<_>, _>>()
            };
            let few = self.poller.store.read(read).await?;
            loaded.extend(few.into_iter().flatten().map(|l| (l.name.clone(), l)));
        } else {
            let all = self.poller.store.read(|engine| engine.bridges()).await?;
            loaded.extend(all.into_iter().map(|l| (l.name.clone(), l)));
        }
        let now = self.poller.clock.now();
        for (name, bridge) in bridges {
            match self.slots.get_mut(&name) {
                Some(slot) if *slot.bridge == *bridge => continue,
                Some(slot) => {
                    let stored = slot.due;
                    slot.held_back |= !slot.bridge.enabled;
                    slot.bridge = bridge.clone();
                    // Its old due time may lie too far ahead for the new schedule; a hint and a backoff still hold.
                    let waits = match &slot.polled {
                        Some(polled) => polled.progress.hinted || polled.progress.failures > 0,
                        None => slot.last.failures > 0,
                    };
                    if !waits {
                        slot.due = stored.min(bridge.schedule.first(&name, None, now));
                    }
                    slot.polled = slot.polled.take().map(|polled| rebuilt(bridge, polled));
                }
                None => {
                    self.generation += 1;
                    let stored = loaded.remove(&name);
                    let held = match &stored {
                        Some(stored) if stored.held => self.poller.hold(&name).await?.as_ref().map(Held::from),
                        _ => None,
                    };
                    let known = stored.as_ref().filter(|l| l.state.version > 0 || l.progress.is_some());
                    let stored_due = known.map(|l| {
                        let progress = l.progress.clone().unwrap_or_default();
                        Stored {
                            due: progress.due,
                            wait: progress.wait_ms.map(Duration::from_millis),
                            waits: progress.hinted || progress.failures > 0,
                        }
                    });
                    let due = bridge.schedule.first(&name, stored_due, now);
                    let mut polled = Polled::new(bridge.clone(), stored, held);
                    polled.watched_from = now;
                    // A member that is in its list again.
                    polled.dirty |= self.settles && polled.progress.removed.take().is_some();
                    let mut slot = Slot {
                        bridge,
                        polled: Some(polled),
                        due,
                        generation: 0,
                        life: self.generation,
                        outdated: false,
                        jobs: VecDeque::new(),
                        last: Status::default(),
                        queued: false,
                        cut: false,
                        held_back: false,
                    };
                    slot.last = status(&slot);
                    self.slots.insert(name.clone(), slot);
                }
            }
            self.arm(&name, now);
        }
        Ok(())
    }
}
