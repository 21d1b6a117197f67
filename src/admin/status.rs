//! How every bridge and endpoint stands, also those that left the file, with a daemon and without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value as Json, json};

use super::{Admin, Error, add};
use crate::{
    config::{Config, Endpoint},
    deliver,
    model::{Name, Timestamp},
    poller, store,
};

impl Admin {
    /// One line: "214 bridges, 3 failing; 1 endpoint down, 42 waiting".
    pub async fn summary(&self) -> String {
        let (Some(runner), Some(deliveries)) = (&self.runner, &self.deliveries) else {
            return "not running".into();
        };
        let (bridges, endpoints) = (runner.status().await, deliveries.status().await);
        let count = |state: &str| bridges.values().filter(|b| b.state == state).count();
        let down = endpoints.values().filter(|e| e.state == "down" || e.state == "disabled").count();
        let waiting: usize = endpoints.values().map(|e| e.waiting).sum();
        format!(
            "{} bridges, {} failing, {} held; {down} of {} endpoints down, {waiting} waiting",
            bridges.len(),
            count("failing"),
            count("held"),
            endpoints.len(),
        )
    }

    /// Every bridge and endpoint, or one bridge with what it holds.
    pub async fn status(&self, bridge: Option<&str>) -> Result<Json, Error> {
        let read = self.store.read(|engine| {
            let known = engine.bridges()?;
            let held = known.iter().filter(|b| b.held).map(|b| Ok((b.name.clone(), engine.hold(&b.name)?)));
            let holds = held.collect::<Result<Vec<_>, store::Error>>()?;
            Ok((known, holds))
        });
        let (known, holds) = read.await?;
        let removed = self.removed_bridges(&known);
        let mut bridges = match &self.runner {
            Some(runner) => serde_json::to_value(runner.status().await),
            None => {
                let rejected = holds.iter().filter(|(_, hold)| hold.as_ref().is_some_and(|hold| hold.rejected));
                let rejected = rejected.map(|(name, _)| name.clone()).collect();
                serde_json::to_value(stored_bridges(&self.config(), known, &rejected))
            }
        }
        .map_err(|e| Error::Refused(e.to_string()))?;
        if let Some(all) = bridges.as_object_mut() {
            for (name, removed) in removed {
                all.entry(name).or_insert(removed);
            }
        }
        for (name, hold) in holds {
            if let (Some(place), Some(hold)) = (bridges.get_mut(&*name), hold) {
                add(
                    place,
                    "hold",
                    json!({
                        "hash": hold.hash, "at": hold.at.to_string(), "reason": hold.reason, "rejected": hold.rejected,
                        "created": hold.created, "updated": hold.updated, "deleted": hold.deleted,
                    }),
                );
            }
        }
        if let Some(name) = bridge {
            let one =
                bridges.get(name).cloned().ok_or_else(|| Error::Refused(format!("there is no bridge {name:?}")))?;
            return Ok(json!({ "bridges": { name: one } }));
        }
        let mut endpoints = match &self.deliveries {
            Some(deliveries) => serde_json::to_value(deliveries.status().await),
            None => serde_json::to_value(self.stored_endpoints().await?),
        }
        .map_err(|e| Error::Refused(e.to_string()))?;
        if let Some(all) = endpoints.as_object_mut() {
            all.extend(self.removed().await?);
            let names: Vec<String> = all.keys().cloned().collect();
            let dead = self.store.read(move |engine| {
                names.into_iter().map(|n| Ok((engine.dead(&n)?, n))).collect::<Result<Vec<_>, store::Error>>()
            });
            for (dead, name) in dead.await? {
                all.entry(name).and_modify(|e| add(e, "dead", dead.into()));
            }
        }
        let reset = self.store.read(|engine| engine.reset()).await?;
        let reset = reset.map(|reset| json!({ "reason": reset.why, "told": reset.told.map(|at| at.to_string()) }));
        Ok(
            json!({ "reset": reset, "version": env!("CARGO_PKG_VERSION"), "stream": &**self.store.stream(), "running": self.runner.is_some(), "bridges": bridges, "endpoints": endpoints }),
        )
    }

    /// Bridges that left the file, while their snapshot is kept. Members that left a list are not told.
    fn removed_bridges(&self, known: &[store::Loaded]) -> Vec<(String, Json)> {
        let config = self.config();
        let removed = |loaded: &store::Loaded| {
            let until = loaded.progress.as_ref()?.removed?.plus(poller::roster::REMOVED_KEPT).to_string();
            let shown = json!({ "state": "removed", "records": loaded.state.records, "sequence": loaded.state.sequence, "kept_until": until });
            Some((loaded.name.to_string(), shown))
        };
        known.iter().filter(|loaded| config.bridge(&loaded.name).is_none()).filter_map(removed).collect()
    }

    /// Endpoints that left the file, while their queue is kept.
    async fn removed(&self) -> Result<Vec<(String, Json)>, Error> {
        let config = self.config();
        let read = self.store.read(move |engine| {
            let gone = engine.endpoints()?.into_iter().filter(|(name, _)| !config.endpoints.contains_key(name));
            gone.map(|(name, state)| Ok((engine.waiting(&name)?.len(), name, state.removed)))
                .collect::<Result<Vec<_>, store::Error>>()
        });
        let show = |(waiting, name, since): (usize, Name, Option<Timestamp>)| {
            let until = since.map(|since| since.plus(deliver::roster::REMOVED_KEPT).to_string());
            (name.to_string(), json!({ "state": "removed", "waiting": waiting, "kept_until": until }))
        };
        Ok(read.await?.into_iter().map(show).collect())
    }

    async fn stored_endpoints(&self) -> Result<BTreeMap<Name, deliver::Status>, Error> {
        let config = self.config();
        let all = self.store.read(move |engine| {
            let states: BTreeMap<Name, store::EndpointState> = engine.endpoints()?.into_iter().collect();
            let stands = |(name, endpoint): (&Name, &Arc<Endpoint>)| {
                let state = states.get(name).cloned().unwrap_or_default();
                let waiting = engine.waiting(name)?;
                let oldest = waiting.iter().map(|waiting| waiting.due).filter(|due| *due > Timestamp(0)).min();
                let wake = state.next_attempt.or(oldest).filter(|_| state.disabled.is_none());
                Ok((name.clone(), deliver::Status::of(endpoint.enabled, &state, waiting.len(), oldest, wake)))
            };
            config.endpoints.iter().map(stands).collect::<Result<BTreeMap<_, _>, store::Error>>()
        });
        Ok(all.await?)
    }
}

/// How the bridges of the file stood when they were last written, members of lists among them.
fn stored_bridges(
    config: &Config,
    known: Vec<store::Loaded>,
    rejected: &BTreeSet<Name>,
) -> BTreeMap<Name, poller::Status> {
    let fresh = config.bridges.iter().filter(|(_, bridge)| bridge.each.is_none());
    let mut all: BTreeMap<Name, poller::Status> = fresh
        .map(|(name, bridge)| {
            let (state, progress) = (store::BridgeState::default(), store::Progress::default());
            let status = poller::Status::of(bridge, &state, &progress, false, Timestamp::default());
            (name.clone(), poller::Status { next_poll: None, ..status })
        })
        .collect();
    // Of a name that was given away there is but its number.
    let known = known.into_iter().filter(|loaded| loaded.state.version > 0 || loaded.progress.is_some());
    for loaded in known {
        if let Some(bridge) = config.bridge(&loaded.name) {
            let progress = loaded.progress.unwrap_or_default();
            let waits = loaded.held && !rejected.contains(&loaded.name);
            let status = poller::Status::of(bridge, &loaded.state, &progress, waits, progress.due);
            all.insert(loaded.name, status);
        }
    }
    all
}
