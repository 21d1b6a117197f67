//! Which endpoints there are, compared with those that the store knows: one under a new name takes its queue along, and
//! one that is gone keeps it for a while.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    config::Endpoint,
    model::{Name, Timestamp},
    store::{self, EndpointState, Op, Store, Written},
    telemetry::kind,
};

/// How long the queue of an endpoint is kept that left the file.
pub const REMOVED_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The endpoints that the store knows, after those of the file have their queues.
pub(super) struct Settled {
    pub states: BTreeMap<Name, EndpointState>,
    /// Those that have a queue of another name now.
    pub moved: BTreeMap<Name, Moved>,
}

/// What an endpoint's queue is after one moved to it.
pub(super) enum Moved {
    /// What that name had.
    Whole(Name),
    /// That, together with what was there.
    Together,
}

/// Gives those of the file their queues.
pub(super) async fn settle(
    store: &Store,
    endpoints: &BTreeMap<Name, Arc<Endpoint>>,
    now: Timestamp,
) -> Result<Settled, store::Error> {
    let known = |engine: &dyn store::Engine| Ok((engine.endpoints()?, engine.queues()?));
    let (states, queues) = store.read(known).await?;
    let mut states: BTreeMap<Name, EndpointState> = states.into_iter().collect();
    let mut moved = BTreeMap::new();
    for endpoint in endpoints.values() {
        let Some(was) = endpoint.was.as_ref().filter(|was| !endpoints.contains_key(*was)) else { continue };
        if !queues.contains(was) && !states.contains_key(was) {
            continue;
        }
        tracing::info!(message_id = kind::RENAMED, endpoint = %endpoint.name, %was, "the queue has the new name");
        store.write(Op::Rename { from: was.clone(), to: endpoint.name.clone() }).await?;
        let is_whole = !queues.contains(&endpoint.name);
        moved.insert(endpoint.name.clone(), if is_whole { Moved::Whole(was.clone()) } else { Moved::Together });
        if let Some(state) = states.remove(was) {
            states.insert(endpoint.name.clone(), state);
        }
    }
    // What moved has no rows under its old name.
    let old: Vec<&Name> = endpoints.values().filter_map(|endpoint| endpoint.was.as_ref()).collect();
    for name in queues.into_iter().filter(|name| endpoints.contains_key(name) || !old.contains(&name)) {
        states.entry(name).or_default();
    }
    let mut writes = Vec::new();
    for (name, state) in &mut states {
        state.removed = match (endpoints.contains_key(name), state.removed) {
            (true, Some(_)) => None,
            (false, None) => Some(now),
            _ => continue,
        };
        writes.push(store.write(Op::Endpoint(name.clone(), state.clone())));
    }
    // Together: one sync for many.
    join_all(writes).await.into_iter().collect::<Result<Vec<Written>, _>>()?;
    Ok(Settled { states, moved })
}

/// Forgets the endpoints that have been gone for long enough.
pub async fn forget(store: &Store, now: Timestamp) -> Result<(), store::Error> {
    let states = store.read(|engine| engine.endpoints()).await?;
    for (endpoint, state) in states {
        if state.removed.is_some_and(|removed| removed.plus(REMOVED_KEPT) <= now) {
            store.write(Op::Forget(endpoint.clone())).await?;
            tracing::warn!(message_id = kind::DROPPED, %endpoint, "left the file 30 days ago: its queue is dropped");
        }
    }
    Ok(())
}
