//! How every bridge and endpoint stands, also those that left the file, with a daemon and without one.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{Admin, Error, add};
use crate::{
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
            None => serde_json::to_value(stored_bridges(known)),
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

    async fn stored_endpoints(&self) -> Result<BTreeMap<Name, Json>, Error> {
        let names: Vec<Name> = self.config().endpoints.keys().cloned().collect();
        let all = self.store.read(move |engine| {
            let states: BTreeMap<Name, store::EndpointState> = engine.endpoints()?.into_iter().collect();
            names
                .into_iter()
                .map(|name| {
                    let state = states.get(&name).cloned().unwrap_or_default();
                    let waiting = engine.waiting(&name)?.len();
                    let word = match (&state.disabled, &state.next_attempt) {
                        (Some(_), _) => "disabled",
                        (None, Some(_)) => "down",
                        (None, None) => "ok",
                    };
                    let status = json!({ "state": word, "waiting": waiting, "last_error": state.last_error, "disabled": state.disabled });
                    Ok((name, status))
                })
                .collect::<Result<BTreeMap<_, _>, store::Error>>()
        });
        Ok(all.await?)
    }
}

/// How bridges stood when they were last written.
fn stored_bridges(mut all: Vec<store::Loaded>) -> BTreeMap<Name, Json> {
    // Of a name that was given away there is but its number.
    all.retain(|loaded| loaded.state.version > 0 || loaded.progress.is_some());
    let show = |b: store::Loaded| {
        let progress = b.progress.unwrap_or_default();
        let status = json!({
            "state": if progress.failures > 0 { "failing" } else if b.held { "held" } else { "ok" },
            "records": b.state.records, "sequence": b.state.sequence, "version": b.state.version,
            "last_poll": progress.last_poll.map(|at| at.to_string()), "next_poll": progress.due.to_string(),
            "failures": progress.failures, "last_error": progress.last_error, "polling": false,
        });
        (b.name, status)
    };
    all.into_iter().map(show).collect()
}
