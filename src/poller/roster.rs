//! Which bridges there are, compared with those that the store knows: one under a new name takes its snapshot along, and
//! one that is gone keeps it for a while.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    config::Bridge,
    model::{Name, Timestamp},
    store::{self, Loaded, Op, Progress, Store, Written},
    telemetry::kind,
};

/// How long the snapshot of a bridge is kept that left the file.
pub const REMOVED_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Records of one write, so that polls and deliveries get their turn.
const SLICE: usize = 500;
/// Rows of one write.
const ROWS: usize = 1000;

/// Renames what has a new name, and marks what has gone and what is back. `bridges` are those of the file.
pub(super) async fn settle(
    store: &Store,
    bridges: &BTreeMap<Name, Arc<Bridge>>,
    now: Timestamp,
) -> Result<(), store::Error> {
    let known = store.read(|engine| engine.bridges()).await?;
    let names: Vec<&Name> = known.iter().map(|loaded| &loaded.name).collect();
    for bridge in bridges.values() {
        // A name that has a snapshot of its own is no heir.
        let was = bridge.was.as_ref().filter(|was| names.contains(was) && !names.contains(&&bridge.name));
        if let Some(was) = was {
            tracing::info!(message_id = kind::RENAMED, bridge = %bridge.name, %was, "the snapshot moves to the new name");
            let rename = Op::RenameBridge { from: was.clone(), to: bridge.name.clone(), limit: SLICE };
            while let Written::Swept(1..) = store.write(rename.clone()).await? {}
        }
    }
    let moved = |name: &Name| bridges.values().any(|bridge| bridge.was.as_ref() == Some(name));
    let mut rows: Vec<(Name, Progress)> = Vec::new();
    for Loaded { name, state, progress, .. } in known.into_iter().filter(|loaded| !moved(&loaded.name)) {
        // Of a member its bridge counts.
        let base = name.split('/').next().unwrap_or(&name);
        let mut progress = progress.unwrap_or_else(|| Progress { version: state.version, ..Progress::default() });
        progress.removed = match (bridges.contains_key(base), progress.removed) {
            (true, Some(_)) => None,
            (false, None) => Some(now),
            _ => continue,
        };
        rows.push((name, progress));
    }
    for chunk in rows.chunks(ROWS) {
        store.write(Op::Progress(chunk.to_vec())).await?;
    }
    Ok(())
}

/// Forgets the bridges that have been gone for long enough: a slice of each, so that nothing waits for it long.
pub async fn forget(store: &Store, now: Timestamp) -> Result<(), store::Error> {
    let known = store.read(|engine| engine.bridges()).await?;
    for loaded in known {
        let removed = loaded.progress.and_then(|progress| progress.removed);
        if removed.is_some_and(|removed| removed.plus(REMOVED_KEPT) <= now) {
            let bridge = loaded.name.clone();
            let written = store.write(Op::ForgetBridge { bridge: loaded.name, limit: SLICE }).await?;
            // Once, not for each slice.
            if written == Written::Swept(0) {
                tracing::warn!(message_id = kind::DROPPED, %bridge, "left the file 30 days ago: its snapshot is dropped");
            }
        }
    }
    Ok(())
}
