//! What is known of a bridge's records: the stored list, the records themselves, and what a window forgets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value as Json;

use super::{Failure, Polled, Poller, left_out::LeftOut};
use crate::{
    compute::compute,
    config::{BadRecords, Bridge},
    decode::Page,
    diff, extract,
    mark::Clocks,
    model::{Entry, Hash, Name, Record, Timestamp},
    source::{self, ErrorKind},
    store,
};

/// Records that are read at once in a walk over all of a bridge's.
pub(super) const SLICE: usize = 1000;

impl Poller {
    /// The list of a complete walk as it is stored.
    pub(super) async fn known(&self, polled: &Polled) -> Result<Vec<Entry>, Failure> {
        if polled.state.version == 0 || !polled.bridge.is_complete() {
            return Ok(Vec::new());
        }
        let name = polled.bridge.name.clone();
        Ok(self.store.read(move |engine| engine.list(&name)).await?)
    }

    /// Whether every record of a page is known and unchanged, for a walk that stops there. Costs a read of each.
    pub(super) async fn all_known(&self, bridge: &Arc<Bridge>, page: Page) -> Result<bool, source::Error> {
        let failed = |e: &dyn std::fmt::Display| source::Error::from(ErrorKind::Request(e.to_string()));
        let (definition, clocks) = (bridge.clone(), Clocks { date: None, now: self.clock.now() });
        let read = move || {
            let records = definition.definition.records(&page)?.all;
            let (mut pages, mut gone) = (vec![("the page".into(), records)], BTreeSet::new());
            if definition.bad_records == BadRecords::Keep {
                // What cannot be read is told by the poll itself.
                let _ = LeftOut::default().take_from(&mut pages, &definition, &[], clocks);
            }
            let parsed = diff::parse_all(&definition.definition, pages, |parsed| -> Result<(), extract::Error> {
                if definition.deletes.is_tombstone(&parsed.value)? {
                    gone.insert(parsed.entry.key);
                }
                Ok(())
            })?;
            Ok::<_, extract::Error>((parsed, gone))
        };
        let (parsed, gone) = compute(read).await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        // A page without records knows nothing: some APIs filter after they have cut their pages.
        if parsed.is_empty() {
            return Ok(false);
        }
        for slice in parsed.chunks(SLICE) {
            let keys = slice.iter().map(|seen| seen.entry.key).collect();
            let stored = self.stored(&bridge.name, keys).await.map_err(|e| failed(&e))?;
            for seen in slice {
                let is_gone = gone.contains(&seen.entry.key);
                let Some(old) = stored.get(&seen.entry.key) else {
                    // One that says that it is gone, and is gone, changes nothing.
                    if is_gone {
                        continue;
                    }
                    return Ok(false);
                };
                if is_gone {
                    return Ok(false);
                }
                if canonical_of(bridge, old).map_err(|e| failed(&e))? != seen.entry.canonical {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What is known under a definition that was edited, from the records themselves: a list may be absent (`window`) or
    /// of an older definition. Canonical forms are made again, and every record of the answer is parsed. Costs a read of
    /// the whole snapshot, once for an edit.
    pub(super) async fn known_anew(&self, polled: &Polled) -> Result<Vec<Entry>, Failure> {
        let (mut after, mut known) = (None, Vec::new());
        while let Some(slice) = self.slice(&polled.bridge.name, &mut after, SLICE).await? {
            for record in &slice {
                let canonical = canonical_of(&polled.bridge, record)?;
                known.push(Entry { key: record.entry.key, raw: Hash::default(), canonical });
            }
        }
        Ok(known)
    }

    /// The records that come after `after`, which moves on; `None` at the end.
    pub(super) async fn slice(
        &self,
        bridge: &Name,
        after: &mut Option<Hash>,
        limit: usize,
    ) -> Result<Option<Vec<Record>>, store::Error> {
        let (bridge, from) = (bridge.clone(), *after);
        let slice = self.store.read(move |engine| engine.scan(&bridge, from, limit)).await?;
        *after = slice.last().map(|record| record.entry.key);
        Ok((!slice.is_empty()).then_some(slice))
    }

    /// Stored records by the hashes of their keys.
    pub(super) async fn stored(&self, bridge: &Name, keys: Vec<Hash>) -> Result<BTreeMap<Hash, Record>, Failure> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let bridge = bridge.clone();
        let records = self.store.read(move |engine| engine.records(&bridge, &keys)).await?;
        Ok(records.into_iter().flatten().map(|record| (record.entry.key, record)).collect())
    }

    pub(super) fn is_another_day(&self, polled: &Polled, now: Timestamp) -> bool {
        polled.state.accepted_at.seconds() / 86_400 != now.seconds() / 86_400
    }

    /// Records that left a window longer ago than `forget`. Looked for with the first commit of a day: a scan of the
    /// bridge's records, in slices.
    pub(super) async fn forgotten(&self, polled: &Polled, now: Timestamp) -> Result<Vec<Hash>, Failure> {
        let (mut after, mut forgotten) = (None, Vec::new());
        let forget = polled.bridge.forget;
        while let Some(slice) = self.slice(&polled.bridge.name, &mut after, SLICE).await? {
            forgotten.extend(slice.iter().filter(|r| r.seen.plus(forget) <= now).map(|r| r.entry.key));
        }
        Ok(forgotten)
    }
}

/// A stored record's body.
pub(super) fn value_of(record: &Record) -> Result<Json, Failure> {
    serde_json::from_slice(&record.body).map_err(|e| Failure::Snapshot(format!("a stored record is damaged: {e}")))
}

pub(super) fn canonical_of(bridge: &Bridge, record: &Record) -> Result<Hash, Failure> {
    bridge
        .definition
        .canonical(&value_of(record)?)
        .map_err(|(what, e)| Failure::Snapshot(format!("`{what}` on the stored record {:?}: {e}", record.key)))
}
