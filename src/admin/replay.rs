//! `replay`: events back into their queues, under the ids that they have.

use std::collections::BTreeMap;

use super::{Admin, Error, Replay, Time, api::Replayed};
use crate::{
    config::Config,
    event,
    model::{Content, EventId, Name},
    store::{self, DeliveryState, EventFilter, Op, Requeued, StoredEvent, Written},
};

/// Events that one replay takes.
const REPLAY_MAX: usize = 100_000;

impl Admin {
    /// Queues events again under their ids; says how many deliveries.
    pub async fn replay(&self, request: Replay) -> Result<Replayed, Error> {
        let deliveries = self.deliveries.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))?;
        let config = self.config();
        let endpoint = request.endpoint.as_deref().map(Name::from);
        if let Some(name) = endpoint.as_ref().filter(|name| !config.endpoints.contains_key(*name)) {
            return Err(Error::Refused(format!("no endpoint is called {name:?}")));
        }
        let events = self.select(&request, endpoint.clone()).await?;
        let mut by_endpoint: BTreeMap<Name, Vec<Requeued>> = BTreeMap::new();
        for stored in &events {
            for delivery in &stored.deliveries {
                let meant = endpoint.as_ref().is_none_or(|name| *name == delivery.endpoint);
                let state = if request.dead {
                    delivery.state == DeliveryState::Dead
                } else {
                    delivery.state != DeliveryState::Waiting
                };
                if !meant || !state || !config.endpoints.contains_key(&delivery.endpoint) {
                    continue;
                }
                let content = request.remake.then(|| self.remake(&config, stored, &delivery.endpoint)).flatten();
                by_endpoint
                    .entry(delivery.endpoint.clone())
                    .or_default()
                    .push(Requeued { position: stored.position, content });
            }
        }
        let mut count = 0;
        for (endpoint, all) in by_endpoint {
            if let Written::Queued(queued) = self.store.write(Op::Requeue(endpoint, all)).await? {
                count += queued.len();
                deliveries.queued(queued).await;
            }
        }
        Ok(Replayed { events: events.len(), deliveries: count })
    }

    async fn select(&self, request: &Replay, endpoint: Option<Name>) -> Result<Vec<StoredEvent>, Error> {
        if request.ids.is_empty() {
            if !request.dead && request.since.is_none() {
                return Err(Error::Refused("name events, or say --dead or --since".into()));
            }
            let state = request.dead.then_some(DeliveryState::Dead);
            let (since, bodies) = (request.since.map(|Time(since)| since), request.remake);
            let filter = EventFilter { since, endpoint, state, bodies, limit: REPLAY_MAX, bridge: None };
            let mut events = self.store.read(move |engine| engine.events(&filter)).await?;
            events.reverse();
            return Ok(events);
        }
        let ids: Result<Vec<EventId>, &str> = request.ids.iter().map(|id| id.parse()).collect();
        let ids = ids.map_err(|e| Error::Refused(e.into()))?;
        let found = self.store.read(move |engine| {
            ids.into_iter().map(|id| Ok((id, engine.event(id)?))).collect::<Result<Vec<_>, store::Error>>()
        });
        let find = |(id, event): (EventId, Option<StoredEvent>)| {
            event.ok_or_else(|| {
                Error::Refused(format!("no event is called {id}; delivered ones are kept for seven days"))
            })
        };
        found.await?.into_iter().map(find).collect()
    }

    fn remake(&self, config: &Config, stored: &StoredEvent, endpoint: &Name) -> Option<Content> {
        let bridge = config.bridge(&stored.event.bridge)?;
        event::remake(bridge, config.endpoints.get(endpoint)?, &stored.event.body)
    }
}
