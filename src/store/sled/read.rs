//! Reads. Each runs under the gate, which a write holds from its transaction to the end of its sync: nothing is seen
//! that is not durable, and no read sees half of a group. Long ones take the gate page by page.

use std::{collections::BTreeSet, ops::Bound};

use ::sled::IVec;

use super::{
    SledEngine,
    ops::{ATTEMPTS_MAX, waiting},
    tables::{ANY_STATE, DEAD, Rows, Table, WAITING, error},
};
use crate::{
    model::{Content, Entry, Event, EventId, Hash, Name, Record},
    store::{
        Attempt, DeliveryState, EndpointState, Error, EventFilter, Hold, Loaded, Outgoing, Position, StoredDelivery,
        StoredEvent, Waiting,
        codec::{self, Remade, key, key::BridgeRow},
    },
};

/// Rows that are read before writes get their turn.
const PAGE: usize = 64;

impl SledEngine {
    pub(super) fn read_bridges(&self) -> Result<Vec<Loaded>, Error> {
        let _gate = self.reading()?;
        let mut names = BTreeSet::new();
        for row in [BridgeRow::State, BridgeRow::Progress] {
            for row in self.tables.get(Table::Bridges).scan_prefix(key::bridge_prefix(row)).keys() {
                names.insert(key::bridge_name(&row.map_err(error)?)?);
            }
        }
        names.iter().filter_map(|name| self.loaded(name).transpose()).collect()
    }

    pub(super) fn read_bridge(&self, name: &str) -> Result<Option<Loaded>, Error> {
        let _gate = self.reading()?;
        self.loaded(name)
    }

    fn loaded(&self, name: &str) -> Result<Option<Loaded>, Error> {
        let value = |row| self.tables.value(Table::Bridges, &key::bridge(row, name));
        let state = value(BridgeRow::State)?.map(|v| codec::decode_state(&v)).transpose()?;
        let progress = value(BridgeRow::Progress)?.map(|v| codec::decode_json(&v)).transpose()?;
        if state.is_none() && progress.is_none() {
            return Ok(None);
        }
        let held = self.tables.first(Table::Bridges, &key::bridge(BridgeRow::Hold, name))?.is_some();
        Ok(Some(Loaded { name: name.into(), state: state.unwrap_or_default(), progress, held }))
    }

    pub(super) fn read_list(&self, bridge: &str) -> Result<Vec<Entry>, Error> {
        let _gate = self.reading()?;
        let Some(manifest) = self.tables.value(Table::Bridges, &key::bridge(BridgeRow::Manifest, bridge))? else {
            return Ok(Vec::new());
        };
        let mut list = Vec::new();
        for id in codec::decode_manifest(&manifest)? {
            let row = self.tables.row(Table::Bridges, &key::list_chunk(bridge, id))?;
            let row = row.ok_or_else(|| Error::Damaged(format!("chunk {id} of the list of {bridge} is missing")))?;
            codec::decode_entries(&row, &mut list)?;
        }
        Ok(list)
    }

    pub(super) fn read_records(&self, bridge: &str, keys: &[Hash]) -> Result<Vec<Option<Record>>, Error> {
        let mut records = Vec::with_capacity(keys.len());
        // One gate for all: a caller compares them with one another.
        let _gate = self.reading()?;
        for hash in keys {
            let value = self.tables.value(Table::Records, &key::record(bridge, *hash))?;
            records.push(value.map(|v| codec::decode_record(*hash, &v)).transpose()?);
        }
        Ok(records)
    }

    pub(super) fn read_scan(&self, bridge: &str, after: Option<Hash>, limit: usize) -> Result<Vec<Record>, Error> {
        let _gate = self.reading()?;
        let prefix = key::records(bridge);
        let from = after.map_or_else(|| prefix.clone(), |hash| key::chunk(&key::record(bridge, hash), u16::MAX));
        let mut records = Vec::new();
        for row in self.tables.get(Table::Records).range((Bound::Excluded(from), Bound::Unbounded)).keys() {
            let row = row.map_err(error)?;
            if records.len() == limit || !row.starts_with(&prefix) {
                break;
            }
            let (key, 0) = key::unchunk(&row)? else {
                continue;
            };
            let (_, hash) = key::parse_record(key)?;
            if let Some(value) = self.tables.value(Table::Records, key)? {
                records.push(codec::decode_record(hash, &value)?);
            }
        }
        Ok(records)
    }

    pub(super) fn read_hold(&self, bridge: &str) -> Result<Option<Hold>, Error> {
        let _gate = self.reading()?;
        let value = self.tables.value(Table::Bridges, &key::bridge(BridgeRow::Hold, bridge))?;
        value.map(|v| codec::decode_json(&v)).transpose()
    }

    pub(super) fn read_endpoints(&self) -> Result<Vec<(Name, EndpointState)>, Error> {
        let _gate = self.reading()?;
        let mut endpoints = Vec::new();
        for row in self.firsts(Table::Endpoints, &[]) {
            let (key, value) = row?;
            endpoints.push((key::parse_endpoint(&key)?, codec::decode_json(&value)?));
        }
        Ok(endpoints)
    }

    pub(super) fn read_waiting(&self, endpoint: &str) -> Result<Vec<Waiting>, Error> {
        let _gate = self.reading()?;
        let mut all = Vec::new();
        for row in self.firsts(Table::Queue, &key::queue_prefix(endpoint, WAITING)) {
            let (key, value) = row?;
            let pack = pack_of(&key)?;
            let entries = codec::decode_queue(&value)?;
            let still = entries.iter().filter(|e| e.state == DeliveryState::Waiting);
            all.extend(still.map(|entry| waiting(pack, entry)));
        }
        Ok(all)
    }

    pub(super) fn read_dead(&self, endpoint: &str) -> Result<u64, Error> {
        let _gate = self.reading()?;
        // Held while counting: the gate keeps writes, which change the counts, away as long.
        let mut counts = self.dead.lock().map_err(|_| poisoned())?;
        if let Some(count) = counts.get(endpoint) {
            return Ok(*count);
        }
        let mut count = 0;
        for state in [WAITING, DEAD] {
            for row in self.firsts(Table::Queue, &key::queue_prefix(endpoint, state)) {
                let entries = codec::decode_queue(&row?.1)?;
                count += entries.iter().map(|e| u64::from(e.state == DeliveryState::Dead)).sum::<u64>();
            }
        }
        counts.insert(endpoint.into(), count);
        Ok(count)
    }

    pub(super) fn read_outgoing(&self, endpoint: &str, position: Position) -> Result<Option<Outgoing>, Error> {
        let _gate = self.reading()?;
        let Some(events) = self.pack(position.pack)? else {
            return Ok(None);
        };
        let Some(mut event) = events.into_iter().nth(position.index.into()) else {
            return Ok(None);
        };
        let Some((_, entries)) = self.tables.queue_row(endpoint, position.pack, ANY_STATE)? else {
            return Ok(None);
        };
        let Some(entry) = entries.iter().find(|e| e.index == position.index) else {
            return Ok(None);
        };
        let content = match entry.remade {
            Remade::No | Remade::NoDead => {
                event.deliveries.iter().find(|d| &*d.endpoint == endpoint).map(|d| d.content.clone())
            }
            Remade::Yes | Remade::YesDead => {
                let value = self.tables.value(Table::Queue, &key::remade(endpoint, position))?;
                value.map(|v| codec::decode_content(&v)).transpose()?
            }
        };
        event.deliveries.clear();
        let sent = content.filter(|content| !matches!(content, Content::Dead(_)));
        Ok(sent.map(|content| Outgoing { event, content }))
    }

    pub(super) fn read_events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, Error> {
        let mut found = Vec::new();
        // What is in these states is found by the queues; all else by going through the events.
        let listed = match filter.state {
            Some(state @ (DeliveryState::Waiting | DeliveryState::Dead)) => Some(self.queued(filter, state)?),
            Some(DeliveryState::Delivered) | None => None,
        };
        let mut below = u64::MAX;
        loop {
            let _gate = self.reading()?;
            let page: Vec<u64> = match &listed {
                Some(packs) => packs.range(..below).rev().take(PAGE).copied().collect(),
                None => self.packs_below(below)?,
            };
            for pack in &page {
                if found.len() >= filter.limit {
                    break;
                }
                self.matching(*pack, filter, &mut found)?;
            }
            match page.last() {
                Some(last) if found.len() < filter.limit => below = *last,
                _ => break,
            }
        }
        found.truncate(filter.limit);
        Ok(found)
    }

    /// The packs with a delivery of the filter's endpoint, or of any, in this state.
    fn queued(&self, filter: &EventFilter, state: DeliveryState) -> Result<BTreeSet<u64>, Error> {
        let _gate = self.reading()?;
        let endpoints = match &filter.endpoint {
            Some(endpoint) => vec![endpoint.clone()],
            None => self.queue_endpoints()?,
        };
        let mut packs = BTreeSet::new();
        for endpoint in endpoints {
            let rows = if state == DeliveryState::Dead { &[WAITING, DEAD][..] } else { &[WAITING][..] };
            for byte in rows {
                for row in self.firsts(Table::Queue, &key::queue_prefix(&endpoint, *byte)) {
                    let (key, value) = row?;
                    if codec::decode_queue(&value)?.iter().any(|e| e.state == state) {
                        packs.insert(pack_of(&key)?);
                    }
                }
            }
        }
        Ok(packs)
    }

    /// Every endpoint with a queue, by one seek each.
    pub(super) fn queue_endpoints(&self) -> Result<Vec<Name>, Error> {
        let mut endpoints = Vec::new();
        let mut from = Vec::new();
        while let Some(row) = self.tables.get(Table::Queue).range(from..).keys().next() {
            let endpoint = key::queue_endpoint(&row.map_err(error)?)?;
            from = key::after_name(&endpoint);
            endpoints.push(endpoint);
        }
        Ok(endpoints)
    }

    /// The next page of packs, newest first.
    fn packs_below(&self, below: u64) -> Result<Vec<u64>, Error> {
        let mut packs = Vec::with_capacity(PAGE);
        for row in self.tables.get(Table::Events).range(..key::pack(below)).keys().rev() {
            let row = row.map_err(error)?;
            if let (key, 0) = key::unchunk(&row)? {
                packs.push(key::parse_pack(key)?);
                if packs.len() == PAGE {
                    break;
                }
            }
        }
        Ok(packs)
    }

    /// Appends the events of a pack that match, newest first.
    fn matching(&self, pack: u64, filter: &EventFilter, found: &mut Vec<StoredEvent>) -> Result<(), Error> {
        let Some(value) = self.tables.value(Table::Events, &key::pack(pack))? else {
            return Ok(());
        };
        let header = codec::decode_pack_header(&value)?;
        if filter.bridge.as_ref().is_some_and(|bridge| *bridge != header.bridge)
            || filter.since.is_some_and(|since| header.at < since)
            || filter.endpoint.as_ref().is_some_and(|endpoint| !header.endpoints.contains(endpoint))
        {
            return Ok(());
        }
        let events = self.stored(pack, &value)?;
        let matching = events.into_iter().rev().filter(|stored| {
            let mut deliveries =
                stored.deliveries.iter().filter(|d| filter.endpoint.as_ref().is_none_or(|e| *e == d.endpoint));
            let delivered = match (filter.state, &filter.endpoint) {
                (None, None) => true,
                (None, Some(_)) => deliveries.next().is_some(),
                (Some(state), _) => deliveries.any(|d| d.state == state),
            };
            delivered && filter.since.is_none_or(|since| stored.event.at >= since)
        });
        found.extend(matching.map(|stored| if filter.bodies { stored } else { stored.without_bodies() }));
        Ok(())
    }

    pub(super) fn read_event(&self, id: EventId) -> Result<Option<StoredEvent>, Error> {
        let mut below = u64::MAX;
        loop {
            let _gate = self.reading()?;
            let page = self.packs_below(below)?;
            for pack in &page {
                let Some(value) = self.tables.value(Table::Events, &key::pack(*pack))? else {
                    continue;
                };
                if codec::decode_pack_header(&value)?.ids.contains(&id) {
                    return Ok(self.stored(*pack, &value)?.into_iter().find(|stored| stored.event.id == id));
                }
            }
            match page.last() {
                Some(last) => below = *last,
                None => return Ok(None),
            }
        }
    }

    fn pack(&self, pack: u64) -> Result<Option<Vec<Event>>, Error> {
        let value = self.tables.value(Table::Events, &key::pack(pack))?;
        value.map(|v| codec::decode_pack(&v)).transpose()
    }

    /// The events of a pack with where their deliveries stand.
    pub(super) fn stored(&self, pack: u64, value: &[u8]) -> Result<Vec<StoredEvent>, Error> {
        let header = codec::decode_pack_header(value)?;
        let mut queues = Vec::with_capacity(header.endpoints.len());
        for endpoint in header.endpoints {
            let row = self.tables.queue_row(&endpoint, pack, ANY_STATE)?;
            queues.push((endpoint, row.map(|(_, entries)| entries).unwrap_or_default()));
        }
        let stored = (0..=u16::MAX).zip(codec::decode_pack(value)?).map(|(index, event)| {
            let deliveries = event.deliveries.iter().filter_map(|delivery| {
                let (endpoint, entries) = queues.iter().find(|(endpoint, _)| *endpoint == delivery.endpoint)?;
                let entry = entries.iter().find(|entry| entry.index == index)?;
                Some(StoredDelivery {
                    endpoint: endpoint.clone(),
                    state: entry.state,
                    attempts: entry.attempts,
                    due: (entry.state == DeliveryState::Waiting).then_some(entry.due),
                })
            });
            let deliveries = deliveries.collect();
            StoredEvent { position: Position { pack, index }, event, deliveries }
        });
        Ok(stored.collect())
    }

    pub(super) fn read_attempts(
        &self,
        wanted: &mut dyn FnMut(&Attempt) -> bool,
        limit: usize,
    ) -> Result<Vec<Attempt>, Error> {
        let mut found = Vec::new();
        let newest = {
            let _gate = self.reading()?;
            self.counters()?.attempts
        };
        let mut numbers = (newest.saturating_sub(ATTEMPTS_MAX)..newest).rev().peekable();
        while numbers.peek().is_some() && found.len() < limit {
            let _gate = self.reading()?;
            for number in numbers.by_ref().take(PAGE) {
                let slot = u32::try_from(number % ATTEMPTS_MAX).expect("the ring is smaller");
                let Some(value) = self.tables.value(Table::Attempts, &key::attempt(slot))? else {
                    continue;
                };
                let attempt = codec::decode_attempt(&value)?;
                if wanted(&attempt) {
                    found.push(attempt);
                    if found.len() == limit {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// The values of a prefix in order, with their keys.
    fn firsts(&self, table: Table, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        let read = move |row: ::sled::Result<(IVec, IVec)>| {
            let (row, first) = row.map_err(error)?;
            let (key, 0) = key::unchunk(&row)? else {
                return Ok(None);
            };
            let value = match codec::chunk_count(&first)? {
                1 => codec::join([first])?,
                _ => self.tables.value(table, key)?.unwrap_or_default(),
            };
            Ok(Some((key.to_vec(), value)))
        };
        self.tables.get(table).scan_prefix(prefix).filter_map(move |row| read(row).transpose())
    }
}

/// The pack of a queue row, from the key without its chunk number.
fn pack_of(key: &[u8]) -> Result<u64, Error> {
    match key::parse_queue(key)? {
        key::QueueKey::Deliveries { pack, .. } => Ok(pack),
        key::QueueKey::Remade { position, .. } => Ok(position.pack),
    }
}

pub(super) fn poisoned() -> Error {
    Error::Io("the store's writer panicked; it has to be opened again".into())
}
