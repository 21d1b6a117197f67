//! The whole configuration: files, bridges, endpoints, and every error of them at once.
//!
//! The parts read their own keys; here they are composed and references between them are checked. A [`Config`] that
//! exists is right: it has no error, and with `Secrets::Read` every secret is there.

mod bridge;
mod daemon;
mod each;
mod endpoint;
mod host;
mod include;
mod load;
pub mod plan;
pub mod preview;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::Value as Json;

pub use bridge::{
    Alert, BadRecords, Bridge, DefinitionChanged, Deletes, Filters, FirstPoll, MARK_OVERLAP, MarkMax, Marks, Order,
    Route, Since, Window, type_name,
};
pub use each::{Each, MEMBERS_MAX};
pub use endpoint::{
    Answers, Batch, DeliveryOrder, Endpoint, Format, METHODS, Operational, QueueFull, RETRY_SCHEDULE, Verb,
};
pub use load::{Failed, Secrets, daemon, load, load_text};
use written::Written;
pub use written::{Keys, Texts};

/// The keys of the file, and of its `defaults`.
pub static FILE: &Family = &load::file::FAMILY;
pub static DEFAULTS: &Family = &load::defaults::FAMILY;

use crate::{
    expr,
    http::client,
    model::{ChangeKind, Name, bridge_of},
    settings::{diagnostic::Rendered, key::Family, secret::Secret},
    telemetry,
};

/// All that the files say.
#[derive(Debug, Clone)]
pub struct Config {
    pub daemon: Daemon,
    pub store: Store,
    pub network: client::Config,
    pub log: Log,
    pub bridges: BTreeMap<Name, Arc<Bridge>>,
    pub endpoints: BTreeMap<Name, Arc<Endpoint>>,
    /// The files themselves, to compare with others.
    pub texts: Texts,
    pub warnings: Vec<Rendered>,
    /// All of the file: no message may hold a part of one.
    pub secrets: Vec<Secret>,
}

impl Config {
    /// What the files say, key by key. Parses them: not for an async thread.
    fn written(&self) -> Written {
        self.texts.written(&load::TABLES)
    }

    /// The bridge of a name; of a member's, the one that it is a member of.
    pub fn bridge(&self, name: &str) -> Option<&Arc<Bridge>> {
        self.bridges.get(bridge_of(name))
    }

    /// The endpoints that some bridge's `alert.to` names.
    pub fn alerted(&self) -> Vec<Name> {
        let named: BTreeSet<&Name> = self.bridges.values().flat_map(|bridge| &bridge.alert.to).collect();
        self.alarmed(named)
    }

    /// Those of these endpoints to which events about bellpull itself come.
    pub fn alarmed<'n>(&self, to: impl IntoIterator<Item = &'n Name>) -> Vec<Name> {
        let takes = |name: &&Name| self.endpoints.get(*name).is_some_and(|endpoint| endpoint.takes_alarms());
        to.into_iter().filter(takes).cloned().collect()
    }
}

/// `[daemon]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    /// Where HTTP is answered; `None` is `"off"`.
    pub listen: Option<SocketAddr>,
    /// `Host` names that are accepted beside the loopback ones.
    pub hosts: Vec<String>,
    /// Whether `/metrics` names bridges; `None` where they are few.
    pub metrics_by_name: Option<bool>,
    /// The bearer token of HTTP; else that of `state-dir/token`.
    pub token: Option<Secret>,
    pub heartbeat: Option<Heartbeat>,
    /// The share of the bridges that a reload may remove.
    pub reload_removes: f64,
    pub shutdown_grace: Duration,
    pub polls_in_flight: usize,
    pub deliveries_in_flight: usize,
    /// Bytes of answers in flight.
    pub memory: u64,
}

/// An event that comes from time to time, so that its absence is noticed.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    pub to: Vec<Name>,
    pub every: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Log {
    pub level: Option<&'static str>,
    pub format: Option<telemetry::Format>,
}

/// `[store.sled]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Bytes.
    pub cache: u64,
}

impl Filters {
    /// Whether an event passes. `event` is made only when `when` needs it.
    pub fn hold(&self, kind: ChangeKind, event: &dyn Fn() -> Json) -> Result<bool, expr::Error> {
        if !self.on.is_empty() && !self.on.contains(&kind) {
            return Ok(false);
        }
        self.when.as_ref().map_or(Ok(true), |when| when.holds(&event()))
    }
}
