//! Another configuration, until it is taken: at once, but where a bridge takes over the snapshot of one that is worked on, which
//! would write under a name that is another's by then.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::{
    Poller,
    slots::{Bridges, Slot, Slots},
};
use crate::model::{Name, bridge_of};

/// Another configuration, and who waits until it is taken.
pub(super) struct Applying {
    pub bridges: Bridges,
    pub poller: Poller,
    pub answer: oneshot::Sender<()>,
}

#[derive(Default)]
pub(super) struct Reload {
    /// Removed while something works on them, and another configuration waits for its end.
    leaving: BTreeSet<Name>,
    applying: Option<Applying>,
}

impl Reload {
    /// Begins with another configuration. Returns the bridges that it does not have, which stop now; the others go on as they
    /// are until it is taken.
    pub fn begin(&mut self, next: Applying, slots: &Slots) -> Vec<Name> {
        let gone = |name: &&Name| !next.bridges.contains_key(bridge_of(name));
        let gone: Vec<Name> = slots.all.keys().filter(gone).cloned().collect();
        let moved: BTreeSet<&str> = next.bridges.values().filter_map(|bridge| bridge.was.as_deref()).collect();
        let worked_on = |slot: &Slot| slot.polled.is_none();
        let leaving = gone.iter().filter(|name| moved.contains(bridge_of(name)));
        let leaving = leaving.filter(|name| slots.all.get(*name).is_some_and(worked_on));
        self.leaving.extend(leaving.cloned());
        self.applying = Some(next);
        gone
    }

    /// Work on a bridge that has left has ended.
    pub fn left(&mut self, name: &Name) {
        self.leaving.remove(name);
    }

    /// The configuration, once nothing works under a name that it moves.
    pub fn ready(&mut self) -> Option<Applying> {
        if self.leaving.is_empty() { self.applying.take() } else { None }
    }
}
