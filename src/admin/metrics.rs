//! `/metrics`: what `pulse` has counted, with how bridges, endpoints and the store stand at this moment.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::Admin;
use crate::{
    clock::Clock,
    model::{Name, Timestamp},
    poller,
    pulse::{BridgeLabel, BridgeStateLabel, EndpointLabel, Gauges, StateLabel},
};

/// So many bridges are told by name where the file says nothing.
const BRIDGE_NAMES: usize = 200;

/// Endpoints with a label of their own.
const ENDPOINT_LABELS: usize = 200;
/// The label of all others.
const OTHERS: &str = "_others";

impl Admin {
    /// OpenMetrics text.
    pub async fn metrics(&self) -> String {
        let (bridges, endpoints) = match (&self.runner, &self.deliveries) {
            (Some(runner), Some(deliveries)) => (runner.status().await, deliveries.status().await),
            _ => Default::default(),
        };
        let endpoints = self.with_oldest(endpoints).await.unwrap_or_default();
        let names: Vec<Name> = endpoints.keys().cloned().collect();
        let dead =
            self.store.read(move |engine| names.iter().map(|name| engine.dead(name)).collect::<Result<Vec<_>, _>>());
        let dead = dead.await.unwrap_or_default();
        let size = self.store.read(|engine| engine.size_bytes()).await.unwrap_or_default();
        let now = Clock::system().now();
        let counters = self.store.counters();
        let by_name = self.config().daemon.metrics_by_name.unwrap_or(bridges.len() <= BRIDGE_NAMES);
        let (commits, groups) = (counters.commits.load(Ordering::Relaxed), counters.groups.load(Ordering::Relaxed));
        self.pulse.scrape(|gauges| {
            set_bridges(gauges, &bridges, by_name);
            gauges.endpoints.clear();
            gauges.waiting.clear();
            gauges.oldest_seconds.clear();
            gauges.dead.clear();
            for (index, (name, endpoint)) in endpoints.iter().enumerate() {
                gauges.endpoints.get_or_create(&StateLabel { state: endpoint.state.word().to_owned() }).inc();
                // Beyond so many they are told as one: a label each would drown who scrapes.
                let endpoint_name = if index < ENDPOINT_LABELS { name.to_string() } else { OTHERS.to_owned() };
                let label = EndpointLabel { endpoint: endpoint_name };
                let waiting = i64::try_from(endpoint.waiting).unwrap_or(i64::MAX);
                gauges.waiting.get_or_create(&label).inc_by(waiting);
                let oldest = endpoint.oldest.as_deref().and_then(|at| Timestamp::parse(at).ok());
                let age = oldest.map_or(0, |at| number(at.until(now).as_secs()));
                let gauge = gauges.oldest_seconds.get_or_create(&label);
                gauge.set(gauge.get().max(age));
                if let Some(dead) = dead.get(index) {
                    gauges.dead.get_or_create(&label).inc_by(number(*dead));
                }
            }
            gauges.store_bytes.set(number(size));
            gauges.store_commits.inner().store(commits, Ordering::Relaxed);
            gauges.store_groups.inner().store(groups, Ordering::Relaxed);
            gauges.store_syncs.inner().store(self.store.syncs(), Ordering::Relaxed);
        })
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn set_bridges(gauges: &Gauges, bridges: &BTreeMap<Name, poller::Status>, by_name: bool) {
    gauges.bridges.clear();
    gauges.bridge_states.clear();
    gauges.bridge_successes.clear();
    for (name, bridge) in bridges {
        let state = bridge.state.word();
        gauges.bridges.get_or_create(&StateLabel { state: state.to_owned() }).inc();
        if by_name {
            let bridge_name = name.to_string();
            gauges.bridge_states.get_or_create(&BridgeStateLabel { bridge: bridge_name.clone(), state }).set(1);
            if let Some(at) = bridge.last_success {
                gauges.bridge_successes.get_or_create(&BridgeLabel { bridge: bridge_name }).set(at.seconds());
            }
        }
    }
    gauges.records.set(number(bridges.values().map(|bridge| bridge.records).sum()));
}
