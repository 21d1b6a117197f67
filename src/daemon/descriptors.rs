//! Open files: as many as the machine lets the daemon have.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// What the store, the socket, the log and the programs of `command` take beside connections.
const OWN: u64 = 64;

/// Raises the soft limit to the hard one. The soft one is 1,024 in a shell, for programs that call select(2), which this one
/// does not.
pub(super) fn raise() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "failed to raise the limit of open files to the hard one");
    }
}

/// Says that the configuration may want more than there are.
pub(super) fn judge(config: &Config) {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let connections = u64::try_from(config.bridges.len() + config.endpoints.len()).unwrap_or(u64::MAX);
    if connections.saturating_add(OWN) > limit {
        tracing::warn!(
            limit,
            connections,
            "bridges and endpoints may want more open files than the limit allows: raise it (`LimitNOFILE=` of the unit, \
             `ulimit -Hn`)"
        );
    }
}
