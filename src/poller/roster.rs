//! Which bridges there are, compared with those that the store knows: one under a new name takes its snapshot along, and
//! one that is gone keeps it for a while.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    config::Bridge,
    model::{Name, Timestamp, bridge_of},
    store::{self, Loaded, Op, Progress, Store},
    telemetry::kind,
};

/// How long the snapshot of a bridge is kept that left the file.
pub const REMOVED_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long the last sequence number of a name counts after its bridge's last poll: receivers that heard nothing for so long are
/// not thought to know it.
pub const SEQUENCE_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Rows of one write.
const ROWS: usize = 1000;

/// Renames what has a new name, and marks what has gone and what is back. `bridges` are those of the file.
pub(super) async fn settle(
    store: &Store,
    bridges: &BTreeMap<Name, Arc<Bridge>>,
    now: Timestamp,
) -> Result<(), store::Error> {
    let known = store.read(|engine| engine.bridges()).await?;
    let mut known: BTreeMap<Name, Loaded> = known.into_iter().map(|loaded| (loaded.name.clone(), loaded)).collect();
    for (was, name) in moves(&known, bridges) {
        tracing::info!(message_id = kind::RENAMED, bridge = %name, %was, "the snapshot has the new name");
        known.remove(&was);
        store.write(Op::RenameBridge { from: was, to: name }).await?;
    }
    let mut rows: Vec<(Name, Progress)> = Vec::new();
    for Loaded { name, state, progress, .. } in known.into_values() {
        // A member that left its list, whose bridge is there, is marked by who reads the list.
        let is_there = bridges.contains_key(&name);
        if !is_there && bridges.contains_key(bridge_of(&name)) {
            continue;
        }
        if !is_there && state.version == 0 {
            // Without a snapshot there is nothing to keep.
            if progress.is_some() {
                store.write(Op::ForgetBridge(name)).await?;
            }
            continue;
        }
        let mut progress = progress.unwrap_or_else(|| Progress { version: state.version, ..Progress::default() });
        progress.removed = match (is_there, progress.removed) {
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

/// From which name to which a snapshot moves: of a bridge, and of its members.
fn moves(known: &BTreeMap<Name, Loaded>, bridges: &BTreeMap<Name, Arc<Bridge>>) -> Vec<(Name, Name)> {
    let has_snapshot = |name: &Name| known.get(name).is_some_and(|loaded| loaded.state.version > 0);
    let mut moves = Vec::new();
    for bridge in bridges.values() {
        let Some(was) = &bridge.was else { continue };
        if has_snapshot(was) && has_snapshot(&bridge.name) {
            tracing::warn!(bridge = %bridge.name, %was, "it has a snapshot of its own: that of its old name stays where it is");
            continue;
        }
        let prefix: Name = format!("{was}/").into();
        let members = known.range(prefix.clone()..).map(|(name, _)| name).take_while(|name| name.starts_with(&*prefix));
        for from in known.get_key_value(was).map(|(name, _)| name).into_iter().chain(members) {
            let rest = from.strip_prefix(&**was).unwrap_or_default();
            let to: Name = format!("{}{rest}", bridge.name).into();
            let progressed = known.get(from).is_some_and(|loaded| loaded.progress.is_some());
            if (has_snapshot(from) || progressed) && !has_snapshot(&to) {
                moves.push((from.clone(), to));
            }
        }
    }
    moves
}

/// Forgets what has been gone for long enough. `bridges` are those of the file.
pub async fn forget(store: &Store, bridges: &BTreeMap<Name, Arc<Bridge>>, now: Timestamp) -> Result<(), store::Error> {
    let known = store.read(|engine| engine.bridges()).await?;
    for Loaded { name, state, progress, .. } in known.into_iter().filter(|loaded| !bridges.contains_key(&loaded.name)) {
        let has_snapshot = state.version > 0;
        let over = match &progress {
            Some(progress) => progress.removed.map(|removed| removed.plus(REMOVED_KEPT)),
            None => (!has_snapshot).then(|| state.accepted_at.plus(SEQUENCE_KEPT)),
        };
        if over.is_some_and(|over| over <= now) {
            store.write(Op::ForgetBridge(name.clone())).await?;
            if has_snapshot {
                tracing::warn!(message_id = kind::DROPPED, bridge = %name, "it left 30 days ago: its snapshot is dropped");
            }
        }
    }
    Ok(())
}
