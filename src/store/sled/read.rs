//! Reads. Each runs under the gate, which a write holds from its transaction to the end of its sync: nothing is seen
//! that is not durable, and no read sees half of a group. Long ones take the gate page by page.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{
    SledEngine,
    ops::{ATTEMPTS_MAX, waiting},
    tables::{ANY_STATE, DEAD, Rows, Table, WAITING, error},
};
use crate::{
    model::{Content, Entry, EventId, Hash, Name, Record},
    store::{
        Attempt, BridgeState, DeliveryState, EndpointState, Error, EventFilter, Hold, Loaded, Outgoing, Position,
        StoredDelivery, StoredEvent, Waiting,
        codec::{self, BridgeName, QueueEntry, Remade, Stage, key, key::BridgeRow},
    },
};

/// After so many packs in a row that are too old none behind them is looked at: they are in the order of time, except for clocks
/// that jump.
const OLDER_MAX: usize = 1_000;
/// Rows that are read before writes get their turn.
const PAGE: usize = 256;

impl SledEngine {
    /// Every name with what it leads to, page by page: one that is given meanwhile may be seen or not.
    pub(super) fn each_name(
        &self,
        table: Table,
        mut see: impl FnMut(&[Stage], Name, Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.each_value(table, key::NAMES, |stages, key, value| see(stages, key::parse_name(key)?, value))
    }

    pub(super) fn read_bridges(&self) -> Result<Vec<Loaded>, Error> {
        let mut all = Vec::new();
        self.each_name(Table::Bridges, |_, name, value| {
            all.extend(self.loaded(name, codec::decode_bridge_name(&value)?)?);
            Ok(())
        })?;
        Ok(all)
    }

    pub(super) fn read_bridge(&self, name: &str) -> Result<Option<Loaded>, Error> {
        let _gate = self.reading()?;
        let Some(known) = self.tables.bridge_name(name)? else { return Ok(None) };
        self.loaded(name.into(), known)
    }

    fn loaded(&self, name: Name, known: BridgeName) -> Result<Option<Loaded>, Error> {
        let left = || BridgeState { sequence: known.sequence, accepted_at: known.at, ..BridgeState::default() };
        if known.number == 0 {
            return Ok(Some(Loaded { name, state: left(), progress: None, held: false }));
        }
        let value = |row| self.tables.value(Table::Bridges, &key::bridge(row, known.number));
        let state = self.tables.state(known.number)?.map(|stored| stored.state);
        let progress = value(BridgeRow::Progress)?.map(|v| codec::decode_json(&v)).transpose()?;
        if state.is_none() && progress.is_none() && known.sequence == 0 {
            return Ok(None);
        }
        let held = self.tables.first(Table::Bridges, &key::bridge(BridgeRow::Hold, known.number))?.is_some();
        let mut state = state.unwrap_or_else(left);
        // Of a bridge that had this name before.
        state.sequence = state.sequence.max(known.sequence);
        Ok(Some(Loaded { name, state, progress, held }))
    }

    /// The number of a bridge; `None` where nothing is stored of it.
    fn number(&self, bridge: &str) -> Result<Option<u64>, Error> {
        Ok(self.tables.bridge_name(bridge)?.map(|known| known.number).filter(|number| *number > 0))
    }

    pub(super) fn read_manifest(&self, bridge: &str) -> Result<Vec<Hash>, Error> {
        let _gate = self.reading()?;
        let Some(number) = self.number(bridge)? else { return Ok(Vec::new()) };
        let value = self.tables.value(Table::Bridges, &key::bridge(BridgeRow::Manifest, number))?;
        value.map_or(Ok(Vec::new()), |value| codec::decode_manifest(&value))
    }

    pub(super) fn read_list(&self, bridge: &str) -> Result<Vec<Entry>, Error> {
        let _gate = self.reading()?;
        let Some(number) = self.number(bridge)? else { return Ok(Vec::new()) };
        let Some(manifest) = self.tables.value(Table::Bridges, &key::bridge(BridgeRow::Manifest, number))? else {
            return Ok(Vec::new());
        };
        let mut list = Vec::new();
        for id in codec::decode_manifest(&manifest)? {
            let row = self.tables.row(Table::Bridges, &key::list_chunk(number, id))?;
            let row = row.ok_or_else(|| Error::Damaged(format!("chunk {id} of the list of {bridge} is missing")))?;
            codec::decode_entries(&row, &mut list)?;
        }
        Ok(list)
    }

    /// The layers of a bridge's records, the uppermost first.
    fn layers(&self, bridge: &str) -> Result<Vec<u64>, Error> {
        let Some(number) = self.number(bridge)? else { return Ok(Vec::new()) };
        let first = self.tables.first(Table::Bridges, &key::bridge(BridgeRow::State, number))?;
        let mut layers = first.map_or(Ok(Vec::new()), |first| Ok(codec::decode_state_start(&first)?.1))?;
        layers.reverse();
        Ok(layers)
    }

    pub(super) fn read_records(&self, bridge: &str, keys: &[Hash]) -> Result<Vec<Option<Record>>, Error> {
        let mut records = Vec::with_capacity(keys.len());
        // One gate for all: a caller compares them with one another.
        let _gate = self.reading()?;
        let layers = self.layers(bridge)?;
        for hash in keys {
            let mut found = None;
            for layer in &layers {
                if let Some(value) = self.tables.value(Table::Records, &key::record(*layer, *hash))? {
                    found = Some(value);
                    break;
                }
            }
            let found = found.filter(|value| value != codec::TOMBSTONE);
            records.push(found.map(|v| codec::decode_record(*hash, &v)).transpose()?);
        }
        Ok(records)
    }

    pub(super) fn read_scan(&self, bridge: &str, after: Option<Hash>, limit: usize) -> Result<Vec<Record>, Error> {
        let _gate = self.reading()?;
        let layers = self.layers(bridge)?;
        let (mut after, mut records) = (after, Vec::new());
        while records.len() < limit {
            // Each layer gives as many rows; beyond the last row of one that has more, the others say nothing yet.
            let wanted = limit - records.len();
            let mut found: BTreeMap<Hash, u64> = BTreeMap::new();
            let mut until: Option<Hash> = None;
            for layer in &layers {
                let keys = self.keys_of(*layer, after, wanted)?;
                if keys.len() == wanted {
                    until = until.into_iter().chain(keys.last().copied()).min();
                }
                for hash in keys {
                    found.entry(hash).or_insert(*layer);
                }
            }
            for (hash, layer) in found.into_iter().filter(|(hash, _)| until.is_none_or(|until| *hash <= until)) {
                let value = self.tables.value(Table::Records, &key::record(layer, hash))?.unwrap_or_default();
                if value != codec::TOMBSTONE {
                    records.push(codec::decode_record(hash, &value)?);
                }
            }
            if until.is_none() {
                break;
            }
            after = until;
        }
        Ok(records)
    }

    /// The keys of a layer's records in order.
    fn keys_of(&self, layer: u64, after: Option<Hash>, limit: usize) -> Result<Vec<Hash>, Error> {
        let prefix = key::records(layer);
        let from = after.map_or_else(|| prefix.clone(), |hash| key::chunk(&key::record(layer, hash), u16::MAX));
        let mut keys = Vec::new();
        for row in self.tables.get(Table::Records).range((Bound::Excluded(from), Bound::Unbounded)).keys() {
            let row = row.map_err(error)?;
            if keys.len() == limit || !row.starts_with(&prefix) {
                break;
            }
            if let (key, 0) = key::unchunk(&row)? {
                keys.push(key::parse_record(key)?.1);
            }
        }
        Ok(keys)
    }

    pub(super) fn read_hold(&self, bridge: &str) -> Result<Option<Hold>, Error> {
        let _gate = self.reading()?;
        let Some(number) = self.number(bridge)? else { return Ok(None) };
        let value = self.tables.value(Table::Bridges, &key::bridge(BridgeRow::Hold, number))?;
        value.map(|value| self.tables.held(&value)).transpose()
    }

    pub(super) fn read_endpoints(&self) -> Result<Vec<(Name, EndpointState)>, Error> {
        let mut endpoints = Vec::new();
        self.each_name(Table::Endpoints, |_, name, value| {
            endpoints.extend(codec::decode_endpoint_name(&value)?.state.map(|state| (name, state)));
            Ok(())
        })?;
        Ok(endpoints)
    }

    /// The numbers of an endpoint, that of its own deliveries first.
    fn numbers(&self, endpoint: &str) -> Result<Vec<u64>, Error> {
        Ok(self.tables.endpoint_name(endpoint)?.map(|known| known.numbers).unwrap_or_default())
    }

    /// The values of a prefix with their keys, page by page: what is written meanwhile may be seen or not.
    fn each_value(
        &self,
        table: Table,
        prefix: &[u8],
        mut see: impl FnMut(&[Stage], &[u8], Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut from = Bound::Included(prefix.to_vec());
        loop {
            let stages = self.reading()?;
            let mut seen = 0;
            for row in self.tables.get(table).range((from.clone(), Bound::Unbounded)) {
                let (row, first) = row.map_err(error)?;
                if !row.starts_with(prefix) {
                    return Ok(());
                }
                if let (key, 0) = key::unchunk(&row)? {
                    let value = match codec::chunk_count(&first)? {
                        1 => codec::join([first])?,
                        _ => self.tables.value(table, key)?.unwrap_or_default(),
                    };
                    see(&stages, key, value)?;
                }
                from = Bound::Excluded(row.to_vec());
                seen += 1;
                if seen == PAGE {
                    break;
                }
            }
            if seen < PAGE {
                return Ok(());
            }
        }
    }

    /// The deliveries of an endpoint's queue rows of one state, with their packs. Of what several of its numbers have, that of
    /// the first counts.
    fn each_delivery(
        &self,
        endpoint: &str,
        state: u8,
        mut see: impl FnMut(u64, &QueueEntry) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let numbers = {
            let _gate = self.reading()?;
            self.numbers(endpoint)?
        };
        for (at, number) in numbers.iter().enumerate() {
            let before = numbers.get(..at).unwrap_or_default();
            self.each_value(Table::Queue, &key::queue_prefix(*number, state), |stages, key, value| {
                let pack = pack_of(key)?;
                if codec::is_ahead(stages, pack) {
                    return Ok(());
                }
                let mut entries = codec::decode_queue(&value)?;
                for other in before {
                    let own = self.tables.queue_row(*other, pack, ANY_STATE)?.map(|(_, own)| own).unwrap_or_default();
                    entries.retain(|entry| own.iter().all(|own| own.index != entry.index));
                }
                entries.iter().try_for_each(|entry| see(pack, entry))
            })?;
        }
        Ok(())
    }

    pub(super) fn read_waiting(&self, endpoint: &str) -> Result<Vec<Waiting>, Error> {
        let mut all = Vec::new();
        self.each_delivery(endpoint, WAITING, |pack, entry| {
            all.extend((entry.state == DeliveryState::Waiting).then(|| waiting(pack, entry)));
            Ok(())
        })?;
        all.sort_by_key(|waiting: &Waiting| waiting.position);
        Ok(all)
    }

    pub(super) fn read_dead(&self, endpoint: &str) -> Result<u64, Error> {
        let counted = || self.dead.lock().map_err(|_| poisoned());
        let before = {
            let dead = counted()?;
            if let Some(count) = dead.counts.get(endpoint) {
                return Ok(*count);
            }
            dead.changes
        };
        let mut count = 0;
        for state in [WAITING, DEAD] {
            self.each_delivery(endpoint, state, |_, entry| {
                count += u64::from(entry.state == DeliveryState::Dead);
                Ok(())
            })?;
        }
        // What changed meanwhile may be in it or not: then it is counted again the next time.
        let mut dead = counted()?;
        if dead.changes == before {
            dead.counts.insert(endpoint.into(), count);
        }
        Ok(count)
    }

    /// Where a delivery stands, and the number that it is under.
    fn delivery(&self, endpoint: &str, position: Position) -> Result<Option<(u64, QueueEntry)>, Error> {
        for number in self.numbers(endpoint)? {
            let row = self.tables.queue_row(number, position.pack, ANY_STATE)?;
            let entry = row.and_then(|(_, entries)| entries.into_iter().find(|e| e.index == position.index));
            if let Some(entry) = entry {
                return Ok(Some((number, entry)));
            }
        }
        Ok(None)
    }

    pub(super) fn read_outgoing(&self, endpoint: &str, position: Position) -> Result<Option<Outgoing>, Error> {
        let stages = self.reading()?;
        if codec::is_ahead(&stages, position.pack) {
            return Ok(None);
        }
        let Some((number, entry)) = self.delivery(endpoint, position)? else { return Ok(None) };
        let Some(value) = self.tables.value(Table::Events, &key::pack(position.pack))? else { return Ok(None) };
        let header = codec::decode_pack_header(&value)?;
        let own = header.endpoints.iter().map(|other| (*other == number).then(|| (Name::from(endpoint), 0)));
        let events = codec::decode_pack(&value, &own.collect::<Vec<_>>())?;
        let Some(mut event) = events.into_iter().nth(position.index.into()) else { return Ok(None) };
        let content = match entry.remade {
            Remade::No | Remade::NoDead => event.deliveries.pop().map(|delivery| delivery.content),
            Remade::Yes | Remade::YesDead => {
                let value = self.tables.value(Table::Queue, &key::remade(number, position))?;
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
        let mut older = 0;
        loop {
            let stages = self.reading()?;
            let page: Vec<u64> = match &listed {
                Some(packs) => packs.range(..below).rev().take(PAGE).copied().collect(),
                None => self.packs_below(below)?,
            };
            for pack in page.iter().filter(|pack| !codec::is_ahead(&stages, **pack)) {
                if found.len() >= filter.limit {
                    break;
                }
                let is_older = self.matching(*pack, filter, &mut found)?;
                older = if is_older { older + 1 } else { 0 };
            }
            match page.last() {
                Some(last) if found.len() < filter.limit && older < OLDER_MAX => below = *last,
                _ => break,
            }
        }
        found.truncate(filter.limit);
        Ok(found)
    }

    /// The packs with a delivery of the filter's endpoint, or of any, in this state.
    fn queued(&self, filter: &EventFilter, state: DeliveryState) -> Result<BTreeSet<u64>, Error> {
        let endpoints = match &filter.endpoint {
            Some(endpoint) => vec![endpoint.clone()],
            None => self.queue_endpoints()?,
        };
        let mut packs = BTreeSet::new();
        for endpoint in endpoints {
            let rows = if state == DeliveryState::Dead { &[WAITING, DEAD][..] } else { &[WAITING][..] };
            for byte in rows {
                self.each_delivery(&endpoint, *byte, |pack, entry| {
                    if entry.state == state {
                        packs.insert(pack);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(packs)
    }

    /// Every endpoint with a queue, by one seek for each of its numbers.
    pub(super) fn queue_endpoints(&self) -> Result<Vec<Name>, Error> {
        let mut endpoints = Vec::new();
        self.each_name(Table::Endpoints, |stages, name, value| {
            for number in codec::decode_endpoint_name(&value)?.numbers {
                if self.has_seen(stages, number)? {
                    endpoints.push(name);
                    break;
                }
            }
            Ok(())
        })?;
        Ok(endpoints)
    }

    /// Whether an endpoint's number has a delivery that is seen.
    fn has_seen(&self, stages: &[Stage], number: u64) -> Result<bool, Error> {
        for row in self.tables.get(Table::Queue).scan_prefix(key::queues(number)).keys() {
            let row = row.map_err(error)?;
            if !codec::is_ahead(stages, pack_of(key::unchunk(&row)?.0)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next page of packs, newest first.
    fn packs_below(&self, below: u64) -> Result<Vec<u64>, Error> {
        let mut packs = Vec::with_capacity(PAGE);
        for row in self.tables.get(Table::Events).range(..key::pack(below)).keys().rev() {
            let row = row.map_err(error)?;
            if let (key, 0) = key::unchunk(&row)?
                && key != key::GROUP
            {
                packs.push(key::parse_pack(key)?);
                if packs.len() == PAGE {
                    break;
                }
            }
        }
        Ok(packs)
    }

    /// Appends the events of a pack that match, newest first; whether it is older than what is asked for.
    fn matching(&self, pack: u64, filter: &EventFilter, found: &mut Vec<StoredEvent>) -> Result<bool, Error> {
        let Some(value) = self.tables.value(Table::Events, &key::pack(pack))? else {
            return Ok(false);
        };
        let header = codec::decode_pack_header(&value)?;
        if filter.since.is_some_and(|since| header.at < since) {
            return Ok(true);
        }
        if filter.bridge.as_ref().is_some_and(|bridge| *bridge != header.bridge) {
            return Ok(false);
        }
        if let Some(endpoint) = &filter.endpoint {
            let numbers = self.numbers(endpoint)?;
            if !header.endpoints.iter().any(|other| numbers.contains(other)) {
                return Ok(false);
            }
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
            delivered && filter.takes(&stored.event)
        });
        found.extend(matching.map(|stored| if filter.bodies { stored } else { stored.without_bodies() }));
        Ok(false)
    }

    pub(super) fn read_event(&self, id: EventId) -> Result<Option<StoredEvent>, Error> {
        let mut below = u64::MAX;
        loop {
            let stages = self.reading()?;
            let page = self.packs_below(below)?;
            for pack in page.iter().filter(|pack| !codec::is_ahead(&stages, **pack)) {
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

    /// The events of a pack with where their deliveries stand.
    pub(super) fn stored(&self, pack: u64, value: &[u8]) -> Result<Vec<StoredEvent>, Error> {
        let header = codec::decode_pack_header(value)?;
        let (mut names, mut queues) = (Vec::new(), Vec::new());
        for number in header.endpoints {
            let named = self.tables.named(number)?;
            if let Some((name, rank)) = &named {
                let row = self.tables.queue_row(number, pack, ANY_STATE)?;
                queues.push((name.clone(), *rank, row.map(|(_, entries)| entries).unwrap_or_default()));
            }
            names.push(named);
        }
        queues.sort_by_key(|(_, rank, _)| *rank);
        let stored = (0..=u16::MAX).zip(codec::decode_pack(value, &names)?).map(|(index, event)| {
            let deliveries = event.deliveries.iter().filter_map(|delivery| {
                let own = queues.iter().filter(|(endpoint, ..)| *endpoint == delivery.endpoint);
                let entry = own.flat_map(|(.., entries)| entries).find(|entry| entry.index == index)?;
                Some(StoredDelivery {
                    endpoint: delivery.endpoint.clone(),
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
