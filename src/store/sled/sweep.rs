//! Delivered events that are old enough go, from the old end.
//!
//! Packs are in the order of time, except for clocks that jump. So for each time that some endpoint keeps its events there is a
//! cursor, which moves over the packs that are kept for just so long and stops at the first that is too young: with nothing to
//! drop a sweep reads one header for each such time. What stays behind a cursor waits or is dead; when it is delivered after all,
//! the cursors go back to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    group::Group,
    tables::{ANY_STATE, DEAD, Rows, Table, WAITING, error},
};
use crate::{
    model::{Name, Timestamp},
    store::{
        Error, Position, Written,
        codec::{self, PackHeader, Remade, key},
    },
};

/// Headers that one sweep reads for a cursor, besides those of what it drops.
const LOOKS_MAX: usize = 2_000;

impl Group<'_> {
    pub(super) fn sweep(
        &mut self,
        now: Timestamp,
        keep: &[(Name, Duration)],
        default_keep: Duration,
        limit: usize,
    ) -> Result<Written, Error> {
        let mut times: BTreeSet<Duration> = keep.iter().map(|(_, keep)| *keep).collect();
        times.insert(default_keep);
        self.sweep.keep(keep, default_keep);
        let mut kept = Keeping {
            keep: keep.iter().map(|(name, keep)| (name, *keep)).collect(),
            default_keep,
            known: BTreeMap::new(),
        };
        let (mut packs, mut events) = (0, 0);
        for time in times {
            let mut looks = LOOKS_MAX;
            let from = self.sweep.at.get(&time).copied().unwrap_or(0);
            let mut next = self.counters.pack;
            let rows = self.tables.get(Table::Events).range(key::chunk(&key::pack(from), 0)..);
            for row in rows.keys() {
                let row = row.map_err(error)?;
                let (key, 0) = key::unchunk(&row)? else { continue };
                if key == key::GROUP {
                    break;
                }
                let pack = key::parse_pack(key)?;
                next = pack;
                if packs == limit || looks == 0 || self.is_ahead(pack) {
                    break;
                }
                let Some(value) = self.value(Table::Events, key)? else { continue };
                let header = codec::decode_pack_header(&value)?;
                if kept.time(self, &header)? == time {
                    // One from a clock that was ahead says nothing of those behind it.
                    if header.at <= now && header.at.plus(time) > now {
                        break;
                    }
                    if header.at.plus(time) <= now && self.is_settled(pack, &header.endpoints)? {
                        self.drop_pack(pack, &header.endpoints)?;
                        (packs, events) = (packs + 1, events + header.ids.len());
                        next = pack + 1;
                        continue;
                    }
                }
                looks -= 1;
                next = pack + 1;
            }
            self.sweep.at.insert(time, next);
        }
        Ok(Written::Swept(events))
    }

    fn is_settled(&self, pack: u64, endpoints: &[u64]) -> Result<bool, Error> {
        for endpoint in endpoints {
            for state in [WAITING, DEAD] {
                if self.first(Table::Queue, &key::queue(*endpoint, state, pack))?.is_some() {
                    // What no name has any more is of no endpoint, and goes in the background.
                    if self.endpoint_of(*endpoint)?.is_some() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// A pack with its deliveries.
    fn drop_pack(&mut self, pack: u64, endpoints: &[u64]) -> Result<(), Error> {
        self.remove(Table::Events, &key::pack(pack))?;
        for endpoint in endpoints {
            self.forget_deliveries(*endpoint, pack, ANY_STATE)?;
        }
        Ok(())
    }

    /// Removes a queue row with what was made again for it.
    pub(super) fn forget_deliveries(&mut self, endpoint: u64, pack: u64, states: &[u8]) -> Result<(), Error> {
        let Some((state, entries)) = self.queue_row(endpoint, pack, states)? else { return Ok(()) };
        for entry in entries.iter().filter(|e| matches!(e.remade, Remade::Yes | Remade::YesDead)) {
            self.remove(Table::Queue, &key::remade(endpoint, Position { pack, index: entry.index }))?;
        }
        self.remove(Table::Queue, &key::queue(endpoint, state, pack))
    }
}

/// For how long packs are kept.
struct Keeping<'a> {
    keep: BTreeMap<&'a Name, Duration>,
    default_keep: Duration,
    known: BTreeMap<u64, Duration>,
}

impl Keeping<'_> {
    /// As long as the endpoint wants that keeps its events longest.
    fn time(&mut self, rows: &impl Rows, header: &PackHeader) -> Result<Duration, Error> {
        let mut longest = None;
        for endpoint in &header.endpoints {
            let time = match self.known.get(endpoint) {
                Some(time) => *time,
                None => {
                    let name = rows.endpoint_of(*endpoint)?;
                    let time = name.and_then(|name| self.keep.get(&name).copied()).unwrap_or(self.default_keep);
                    self.known.insert(*endpoint, time);
                    time
                }
            };
            longest = longest.max(Some(time));
        }
        Ok(longest.unwrap_or(self.default_keep))
    }
}
