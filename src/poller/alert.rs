//! Operational events of a bridge: `failing`, `recovered`, `held`.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value as Json;

use super::Poller;
use crate::{
    config::Bridge,
    event::{self, Maker},
    model::{Event, Name, Timestamp},
    store::{Commit, Op, Written},
};

impl Poller {
    pub(super) fn maker(&self, bridge: &Arc<Bridge>, now: Timestamp) -> Maker {
        Maker { bridge: bridge.clone(), endpoints: self.endpoints.clone(), stream: self.store.stream().clone(), now }
    }

    pub(super) fn operational(&self, bridge: &Bridge, kind: &str, data: Json) -> Event {
        let to: Vec<Name> = if bridge.alert.to.is_empty() {
            let all: BTreeSet<Name> = bridge.routes.iter().map(|route| route.endpoint.clone()).collect();
            all.into_iter().collect()
        } else {
            bridge.alert.to.clone()
        };
        let takes = |name: &Name| self.endpoints.get(name).is_none_or(|endpoint| endpoint.takes_alarms());
        let to: Vec<Name> = to.into_iter().filter(takes).collect();
        event::operational(kind, &bridge.name, data, &to, self.clock.now())
    }

    /// An operational event of a bridge.
    pub(super) async fn alert(&self, bridge: &Bridge, kind: &str, data: Json) {
        self.emit(self.operational(bridge, kind, data)).await;
    }

    pub(super) async fn emit(&self, event: Event) {
        let commit = Commit { events: vec![event], ..Commit::default() };
        match self.store.write(Op::Commit(Box::new(commit))).await {
            Ok(Written::Queued(queued)) => self.deliveries.queued(queued).await,
            Ok(_) => {}
            // The store's failure ends the run, which is told once; the state that led here leads here again.
            Err(error) => tracing::debug!(%error, "an operational event could not be stored"),
        }
    }
}
