//! `replay`: events back into their queues, under the ids that they have.

use std::collections::BTreeMap;

use super::{
    Admin, DeliveryQuery, Error, Replay,
    api::Replayed,
    find::{FOUND_MAX, Statuses},
};
use crate::{
    config::Config,
    event,
    model::{Content, EventId, Name},
    store::{self, DeliveryState, Op, Requeued, StoredDelivery, StoredEvent, Written},
};

impl Admin {
    /// Queues events again under their ids; says how many deliveries, and why others were left out.
    pub async fn replay(&self, request: Replay) -> Result<Replayed, Error> {
        let deliveries = self.deliveries.as_ref().ok_or_else(|| Error::Refused("the daemon is not running".into()))?;
        let config = self.config();
        let endpoint = request.endpoint.as_deref().map(Name::from);
        if let Some(name) = endpoint.as_ref().filter(|name| !config.endpoints.contains_key(*name)) {
            return Err(Error::Refused(format!("no endpoint is called {name:?}")));
        }
        let selection = request.selection();
        selection.check()?;
        let (events, statuses) = self.select(&request, &selection).await?;
        let mut by_endpoint: BTreeMap<Name, Vec<Requeued>> = BTreeMap::new();
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        for stored in &events {
            for delivery in &stored.deliveries {
                // What was found by the filters is theirs.
                let by_id = !request.ids.is_empty();
                let is_another = by_id && !selection.filter(false, 1).takes(&stored.event)
                    || !selection.means(&stored.event.id.to_string(), delivery, &statuses);
                if let Some(why) = left_out_since(&selection, &config, delivery, is_another) {
                    *left_out.entry(why).or_default() += 1;
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
        let more = request.ids.is_empty() && events.len() >= FOUND_MAX;
        Ok(Replayed { events: events.len(), deliveries: count, left_out, more })
    }

    /// The events, the oldest first, and what their receivers last answered where that counts.
    async fn select(&self, request: &Replay, selection: &DeliveryQuery) -> Result<(Vec<StoredEvent>, Statuses), Error> {
        if request.ids.is_empty() {
            if !selection.is_any() {
                let which = "--dead, --since, --until, --bridge, --type, --key, --status or --matching";
                return Err(Error::Refused(format!("name events, or say which: {which}")));
            }
            let (selection, bodies) = (selection.clone(), request.remake);
            let (mut events, statuses) =
                self.store.read(move |engine| selection.events(engine, bodies, FOUND_MAX)).await?;
            events.reverse();
            return Ok((events, statuses));
        }
        let ids: Result<Vec<EventId>, &str> = request.ids.iter().map(|id| id.parse()).collect();
        let ids = ids.map_err(|e| Error::Refused(e.into()))?;
        let needs_statuses = selection.status.is_some();
        let found = self.store.read(move |engine| {
            let found =
                ids.into_iter().map(|id| Ok((id, engine.event(id)?))).collect::<Result<Vec<_>, store::Error>>()?;
            let events: Vec<StoredEvent> = found.iter().filter_map(|(_, event)| event.clone()).collect();
            let statuses = if needs_statuses { Statuses::read(engine, &events)? } else { Statuses::default() };
            Ok((found, statuses))
        });
        let find = |(id, event): (EventId, Option<StoredEvent>)| {
            event.ok_or_else(|| {
                Error::Refused(format!("no event is called {id}; delivered ones are kept for seven days"))
            })
        };
        let (found, statuses) = found.await?;
        Ok((found.into_iter().map(find).collect::<Result<_, _>>()?, statuses))
    }

    fn remake(&self, config: &Config, stored: &StoredEvent, endpoint: &Name) -> Option<Content> {
        let bridge = config.bridge(&stored.event.bridge)?;
        event::remake(bridge, config.endpoints.get(endpoint)?, &stored.event.id, &stored.event.body)
    }
}

/// Why a delivery is not sent again.
fn left_out_since(
    selection: &DeliveryQuery,
    config: &Config,
    delivery: &StoredDelivery,
    is_another: bool,
) -> Option<String> {
    Some(match delivery.state {
        DeliveryState::Waiting if selection.endpoint.as_deref().is_none_or(|name| *name == *delivery.endpoint) => {
            format!("it waits for {} already", delivery.endpoint)
        }
        _ if is_another => "the filters leave it out".into(),
        _ if !config.endpoints.contains_key(&delivery.endpoint) => {
            format!("the file has no endpoint {:?}", &*delivery.endpoint)
        }
        _ => return None,
    })
}
