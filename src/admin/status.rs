//! How every bridge and endpoint stands, also those that left the file, with a daemon and without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Admin, Error,
    api::{BridgeStatus, EndpointStatus, OneBridge, Status},
};
use crate::{
    compute::compute,
    config::{
        Config, Endpoint,
        preview::{Outline, Queue, Running, Snapshot},
    },
    deliver,
    model::{Name, Timestamp, bridge_of, u64_of},
    poller, store,
};

impl Admin {
    /// One line: "214 bridges, 3 failing; 1 endpoint down, 42 waiting".
    pub async fn summary(&self) -> String {
        let (Some(runner), Some(deliveries)) = (&self.runner, &self.deliveries) else {
            return "not running".into();
        };
        let (bridges, endpoints) = (runner.status().await, deliveries.status().await);
        let count = |state: poller::State| bridges.values().filter(|b| b.state == state).count();
        let down =
            endpoints.values().filter(|e| matches!(e.state, deliver::State::Down | deliver::State::Disabled)).count();
        let waiting: usize = endpoints.values().map(|e| e.waiting).sum();
        format!(
            "{} bridges, {} failing, {} held; {down} of {} endpoints down, {waiting} waiting",
            bridges.len(),
            count(poller::State::Failing),
            count(poller::State::Held),
            endpoints.len(),
        )
    }

    /// Every bridge and endpoint.
    pub async fn status(&self) -> Result<Status, Error> {
        let reset = self.store.read(|engine| engine.reset()).await?;
        let reload_refused = self.refused.lock().expect("no thread panics with it").clone();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stream: self.store.stream().to_string(),
            running: self.runner.is_some(),
            reload_refused,
            reset: reset.map(Into::into),
            bridges: self.bridges().await?,
            endpoints: self.endpoints().await?,
        })
    }

    /// What another configuration is compared with.
    pub async fn running(&self) -> Result<Running, Error> {
        let outline = match &self.runner {
            Some(_) => {
                let config = self.config();
                let outline = compute(move || Outline::of(&config)).await;
                Some(outline.map_err(|e| Error::Refused(format!("reading the configuration panicked: {e}")))?)
            }
            None => None,
        };
        let read = self.store.read(|engine| {
            let states = engine.endpoints()?;
            let queues = engine.queues()?.into_iter().map(|name| (name, false));
            let mut names: BTreeMap<Name, bool> = queues.collect();
            names.extend(states.into_iter().map(|(name, state)| (name, state.removed.is_some())));
            let queue = |(name, removed): (Name, bool)| {
                let (waiting, dead) = (u64_of(engine.waiting(&name)?.len()), engine.dead(&name)?);
                Ok((name.to_string(), Queue { waiting, dead, removed }))
            };
            let endpoints = names.into_iter().map(queue).collect::<Result<_, store::Error>>()?;
            Ok((engine.bridges()?, endpoints))
        });
        let (known, endpoints) = read.await?;
        Ok(Running { outline, bridges: snapshots(&known), endpoints })
    }

    /// One bridge.
    pub async fn bridge(&self, name: &str) -> Result<OneBridge, Error> {
        let one = self.bridges().await?.remove(name);
        let one = one.ok_or_else(|| Error::Refused(format!("no bridge is called {name:?}")))?;
        Ok(OneBridge { bridges: BTreeMap::from([(name.to_owned(), one)]) })
    }

    /// Every bridge, also those that left the file, with what is held of it.
    pub async fn bridges(&self) -> Result<BTreeMap<String, BridgeStatus>, Error> {
        let read = self.store.read(|engine| {
            let known = engine.bridges()?;
            let held = known.iter().filter(|b| b.held).map(|b| Ok((b.name.clone(), engine.hold(&b.name)?)));
            let holds = held.collect::<Result<Vec<_>, store::Error>>()?;
            Ok((known, holds))
        });
        let (known, holds) = read.await?;
        let removed = self.removed_bridges(&known);
        let all = match &self.runner {
            Some(runner) => runner.status().await,
            None => {
                let rejected = holds.iter().filter(|(_, hold)| hold.as_ref().is_some_and(|hold| hold.rejected));
                let rejected = rejected.map(|(name, _)| name.clone()).collect();
                stored_bridges(&self.config(), known, &rejected)
            }
        };
        let status = |(name, status): (Name, poller::Status)| {
            (name.to_string(), BridgeStatus { status, ..BridgeStatus::default() })
        };
        let mut all: BTreeMap<String, BridgeStatus> = all.into_iter().map(status).collect();
        for (name, removed) in removed {
            all.entry(name).or_insert(removed);
        }
        for (name, hold) in holds {
            if let Some(bridge) = all.get_mut(&*name) {
                bridge.hold = hold.map(Into::into);
            }
        }
        Ok(all)
    }

    /// Every endpoint, also those that left the file.
    pub async fn endpoints(&self) -> Result<BTreeMap<String, EndpointStatus>, Error> {
        let all = match &self.deliveries {
            Some(deliveries) => deliveries.status().await,
            None => self.stored_endpoints().await?,
        };
        let all = self.with_oldest(all).await?;
        let mut all: Vec<(Name, deliver::Status, Option<String>)> =
            all.into_iter().map(|(name, status)| (name, status, None)).collect();
        all.extend(self.removed().await?);
        let names: Vec<Name> = all.iter().map(|(name, ..)| name.clone()).collect();
        let dead = self
            .store
            .read(move |engine| names.iter().map(|name| engine.dead(name)).collect::<Result<Vec<_>, store::Error>>());
        let dead = dead.await?;
        let status = |((name, status, kept_until), dead): ((Name, _, _), u64)| {
            (name.to_string(), EndpointStatus { status, dead, kept_until })
        };
        Ok(all.into_iter().zip(dead).map(status).collect())
    }

    /// The same with the time at which the oldest event of each was committed.
    pub(super) async fn with_oldest(
        &self,
        mut all: BTreeMap<Name, deliver::Status>,
    ) -> Result<BTreeMap<Name, deliver::Status>, store::Error> {
        let read = move |engine: &dyn store::Engine| {
            for (name, status) in &mut all {
                let Some(first) = status.first else { continue };
                status.oldest = engine.outgoing(name, first)?.map(|outgoing| outgoing.event.at.to_string());
            }
            Ok(all)
        };
        self.store.read(read).await
    }

    /// Bridges that left the file, while their snapshot is kept. Members that left a list are not told.
    fn removed_bridges(&self, known: &[store::Loaded]) -> Vec<(String, BridgeStatus)> {
        let config = self.config();
        let removed = |loaded: &store::Loaded| {
            let kept_until = loaded.progress.as_ref()?.removed?.plus(poller::roster::REMOVED_KEPT).to_string();
            let status = poller::Status {
                state: poller::State::Removed,
                records: loaded.state.records,
                sequence: loaded.state.sequence,
                version: loaded.state.version,
                ..poller::Status::default()
            };
            let bridge = BridgeStatus { status, kept_until: Some(kept_until), hold: None };
            Some((loaded.name.to_string(), bridge))
        };
        known.iter().filter(|loaded| config.bridge(&loaded.name).is_none()).filter_map(removed).collect()
    }

    /// Endpoints that left the file, while their queue is kept, and until when.
    async fn removed(&self) -> Result<Vec<(Name, deliver::Status, Option<String>)>, Error> {
        let config = self.config();
        let read = self.store.read(move |engine| {
            let gone = engine.endpoints()?.into_iter().filter(|(name, _)| !config.endpoints.contains_key(name));
            gone.map(|(name, state)| Ok((engine.waiting(&name)?.len(), name, state.removed)))
                .collect::<Result<Vec<_>, store::Error>>()
        });
        let show = |(waiting, name, since): (usize, Name, Option<Timestamp>)| {
            let until = since.map(|since| since.plus(deliver::roster::REMOVED_KEPT).to_string());
            (name, deliver::Status { state: deliver::State::Removed, waiting, ..deliver::Status::default() }, until)
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
                let first = waiting.iter().filter(|waiting| !waiting.replay).map(|waiting| waiting.position).min();
                let due = waiting.iter().map(|waiting| waiting.due).filter(|due| *due > Timestamp(0)).min();
                let wake = state.next_attempt.or(due).filter(|_| state.disabled.is_none());
                Ok((name.clone(), deliver::Status::of(endpoint.enabled, &state, waiting.len(), first, wake)))
            };
            config.endpoints.iter().map(stands).collect::<Result<BTreeMap<_, _>, store::Error>>()
        });
        Ok(all.await?)
    }
}

/// What is stored of each bridge, with what is stored of its members.
fn snapshots(known: &[store::Loaded]) -> BTreeMap<String, Snapshot> {
    let mut all: BTreeMap<String, Snapshot> = BTreeMap::new();
    // Of a name that was given away there is but its number.
    let known = || known.iter().filter(|loaded| loaded.state.version > 0 || loaded.progress.is_some());
    let has_left = |loaded: &store::Loaded| loaded.progress.as_ref().is_some_and(|progress| progress.removed.is_some());
    let here: BTreeSet<&str> = known().filter(|l| !has_left(l)).map(|l| bridge_of(&l.name)).collect();
    for loaded in known() {
        let bridge = bridge_of(&loaded.name);
        let is_member = bridge != &*loaded.name;
        // A member that left its list does not count, unless its bridge left the file with all members.
        if is_member && has_left(loaded) && here.contains(bridge) {
            continue;
        }
        let snapshot = all.entry(bridge.to_owned()).or_default();
        snapshot.removed = !here.contains(bridge);
        if loaded.state.version > 0 {
            *snapshot.records.get_or_insert_default() += loaded.state.records;
            snapshot.members += u64::from(is_member);
            snapshot.definition = Some(loaded.state.definition).filter(|_| !is_member);
        }
    }
    all
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
