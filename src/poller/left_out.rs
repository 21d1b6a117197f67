//! Records that cannot be read, and what they say of the records that are stored (`bad-records = "keep"`).

use std::collections::BTreeSet;

use super::{Failure, Polled, Poller};
use crate::{
    config::Bridge,
    diff::Diff,
    extract::Raw,
    mark::{self, Clocks},
    model::{Entry, Hash},
    store::Flaws,
    telemetry::kind,
};

/// The records of each page, under the name that messages give it.
pub(super) type NamedRecords = Vec<(String, Vec<Raw>)>;

/// What had to be left out of an answer, so that the rest of it counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LeftOut {
    pub flaws: Flaws,
    /// Keys of records that have one: they were there.
    pub keys: BTreeSet<Hash>,
    /// A record has no key: it may be any of those that are missing.
    pub keyless: bool,
}

impl LeftOut {
    /// A message that could not be read. It comes once, and stands for no stored record.
    pub fn message(&mut self, error: &dyn std::fmt::Display) {
        self.flaws.left_out += 1;
        self.flaws.first.get_or_insert_with(|| error.to_string());
    }

    fn record(&mut self, key: Option<Hash>, error: &Failure) {
        self.message(error);
        self.keyless |= key.is_none();
        self.keys.extend(key);
    }

    /// Takes out of the pages what cannot be read. One whose bytes are known was read before. Where nothing is left the
    /// answer itself is bad, such as an error in the place of the list.
    pub fn take_from(
        &mut self,
        pages: &mut NamedRecords,
        bridge: &Bridge,
        known: &[Entry],
        clocks: Clocks,
    ) -> Result<(), Failure> {
        let known: BTreeSet<Hash> = known.iter().map(|entry| entry.raw).collect();
        let mut first = None;
        for (page, records) in pages.iter_mut() {
            let mut good = Vec::with_capacity(records.len());
            for (at, raw) in std::mem::take(records).into_iter().enumerate() {
                let is_known = known.contains(&raw.hash);
                match if is_known { Ok(()) } else { try_to_read(bridge, &raw, at + 1, page, clocks) } {
                    Ok(()) => good.push(raw),
                    Err(error) => {
                        let key = bridge.definition.read_again(&raw.text).ok();
                        self.record(key.map(|(key, _)| Hash::of(key.as_bytes())), &error);
                        first.get_or_insert(error);
                    }
                }
            }
            *records = good;
        }
        first.filter(|_| pages.iter().all(|(_, records)| records.is_empty())).map_or(Ok(()), Err)
    }

    /// Records that were left out are there: neither they nor, where one has no key, any other is missing.
    pub fn keep_in(&self, diff: &mut Diff) {
        diff.present += self.flaws.left_out;
        diff.missing.retain(|key| !self.keyless && !self.keys.contains(key));
    }
}

/// Whether all that a poll needs of a record can be had.
fn try_to_read(bridge: &Bridge, raw: &Raw, record: usize, page: &str, clocks: Clocks) -> Result<(), Failure> {
    let parsed = bridge.definition.parse(raw, record, page)?;
    bridge.deletes.is_tombstone(&parsed.value)?;
    match &bridge.since {
        Some(since) => mark::advance(since, &mut None, &parsed, clocks).map(|_| ()).map_err(Failure::Mark),
        None => Ok(()),
    }
}

impl Poller {
    /// Keeps for `status` what an answer held that was not taken as it came, and tells it with the first answer that
    /// has such.
    pub(super) fn tell_flaws(&self, polled: &mut Polled, found: &Flaws) {
        let flaws = Flaws { first: found.first.as_deref().map(|error| self.shown(error)), ..found.clone() };
        let before = std::mem::replace(&mut polled.progress.flaws, flaws.clone());
        let (bridge, error) = (&polled.bridge.name, flaws.first.as_deref().unwrap_or_default());
        let (count, replaced) = (flaws.left_out, flaws.replaced);
        let what = if polled.bridge.source.is_stream() { "messages" } else { "records" };
        if count > 0 && before.left_out == 0 {
            tracing::warn!(message_id = kind::BRIDGE_LEFT_OUT, %bridge, count, error, "{what} were left out");
        } else if count > 0 {
            tracing::debug!(%bridge, count, error, "{what} were left out again");
        }
        if replaced > 0 && before.replaced == 0 {
            let message_id = kind::BRIDGE_REPLACED;
            tracing::warn!(message_id, %bridge, replaced, "halves of surrogate pairs in the answer became U+FFFD");
        }
    }
}
