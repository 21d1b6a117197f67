//! What each kind of write changes.

use std::collections::{BTreeMap, btree_map};

use super::{
    group::Group,
    tables::{ANY_STATE, DEAD, DELIVERED, Rows, Table, WAITING},
};
use crate::{
    model::{Content, Entry, Event, Hash, Name, Timestamp},
    store::{
        Attempt, Commit, Cut, DeliveryState, Error, HoldChange, List, Outcome, Position, Progress, Queued, Requeued,
        Settlement, Waiting, Written,
        codec::{self, QueueEntry, Remade, Stage, Work, key, key::BridgeRow},
        lane,
    },
};

/// Attempts that are kept: a ring, so that the database does not grow with them.
pub const ATTEMPTS_MAX: u64 = 65_536;
/// Chunks of a list that are removed with the commit that no longer has them; where it has more they go in the background, since
/// the pages of all are read for it.
const GONE_MAX: usize = 200;

impl Group<'_> {
    pub(super) fn commit(&mut self, mut commit: Commit) -> Result<Written, Error> {
        if let Some(bridge) = commit.bridge.take() {
            self.snapshot(&bridge, &mut commit)?;
        }
        self.queue(&commit.events).map(Written::Queued)
    }

    fn snapshot(&mut self, name: &str, commit: &mut Commit) -> Result<(), Error> {
        let bridge = self.bridge_name(name)?.map_or(0, |known| known.number);
        let row = |bridge| key::bridge(BridgeRow::State, bridge);
        let first = if bridge == 0 { None } else { self.first(Table::Bridges, &row(bridge))? };
        let (stored, mut layers) = first.map_or(Ok((0, Vec::new())), |first| codec::decode_state_start(&first))?;
        if stored != commit.expected || commit.state.version != stored + 1 {
            return Err(Error::Conflict { stored, expected: commit.expected });
        }
        let bridge = self.bridge_number(name)?;
        // The state's own number goes on from it.
        self.forget_sequence(name)?;
        let stage = commit.ahead.map(|number| self.close_stage(number)).transpose()?;
        if stage.as_ref().is_some_and(|stage| stage.bridge != bridge) {
            return Err(Error::Conflict { stored, expected: commit.expected });
        }
        self.hold(bridge, std::mem::take(&mut commit.hold), &stage, &mut layers)?;
        if layers.is_empty() && !commit.put.is_empty() {
            layers.push(self.counters.number());
        }
        // Before the list is taken: one that has them all needs no layer below.
        if let Some(stage) = stage.filter(|stage| layers.last() == Some(&stage.number)) {
            let all = commit.list.is_some() && stage.deleted == 0 && stage.put == commit.state.records;
            let below = layers.len() - 1;
            if all {
                layers.drain(..below).try_for_each(|layer| self.work(Work::Layer(layer)))?;
            } else if below > 0 {
                self.work(Work::Merge(bridge))?;
            }
        }
        match commit.list.take() {
            None => {}
            Some(List::Whole(list)) => self.list(bridge, &list)?,
            Some(List::Cut(cut)) => self.cut_list(bridge, cut)?,
        }
        let lowest = layers.len() == 1;
        if let Some(layer) = layers.last().copied() {
            for hash in &commit.delete {
                let row = key::record(layer, *hash);
                if lowest {
                    self.remove(Table::Records, &row)?
                } else {
                    self.put(Table::Records, &row, codec::TOMBSTONE)?
                }
            }
            for record in &commit.put {
                self.put(Table::Records, &key::record(layer, record.entry.key), &codec::encode_record(record))?;
            }
        }
        let state = codec::State { layers, state: std::mem::take(&mut commit.state) };
        self.put(Table::Bridges, &row(bridge), &codec::encode_state(&state)?)
    }

    /// What becomes of a hold, and whether the stage's records are its pages or a layer of the bridge's.
    fn hold(
        &mut self,
        bridge: u64,
        change: HoldChange,
        stage: &Option<Stage>,
        layers: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let row = key::bridge(BridgeRow::Hold, bridge);
        let layer = stage.as_ref().filter(|stage| stage.put + stage.deleted > 0).map(|stage| stage.number);
        if !matches!(change, HoldChange::Keep) {
            self.drop_held(bridge)?;
        }
        match change {
            HoldChange::Ahead(hold, pieces) => {
                return self.put(
                    Table::Bridges,
                    &row,
                    &codec::encode_hold(&hold, &layer.map(|layer| (layer, pieces)))?,
                );
            }
            HoldChange::Keep => {}
            HoldChange::Clear => self.remove(Table::Bridges, &row)?,
            HoldChange::Set(hold) => self.put(Table::Bridges, &row, &codec::encode_hold(&hold, &None)?)?,
        }
        layers.extend(layer);
        Ok(())
    }

    pub(super) fn manifest(&self, bridge: u64) -> Result<Vec<Hash>, Error> {
        let value = self.value(Table::Bridges, &key::bridge(BridgeRow::Manifest, bridge))?;
        value.map_or(Ok(Vec::new()), |value| codec::decode_manifest(&value))
    }

    /// Writes the chunks that the old list does not have, and removes those that the new one does not.
    pub(super) fn list(&mut self, bridge: u64, list: &[Entry]) -> Result<(), Error> {
        let cut = codec::against(codec::cut(list), &self.manifest(bridge)?);
        self.cut_list(bridge, cut)
    }

    fn cut_list(&mut self, bridge: u64, cut: Cut) -> Result<(), Error> {
        let Cut { ids, fresh, gone } = cut;
        if !(fresh.is_empty() && gone.is_empty()) || self.manifest(bridge)? != ids {
            self.put(Table::Bridges, &key::bridge(BridgeRow::Manifest, bridge), &codec::encode_manifest(&ids))?;
        }
        for chunk in fresh {
            self.change(Table::Bridges, key::list_chunk(bridge, chunk.id), Some(chunk.row));
        }
        if gone.len() > GONE_MAX {
            return self.work(Work::Chunks(bridge));
        }
        for id in gone {
            self.change(Table::Bridges, key::list_chunk(bridge, id), None);
        }
        Ok(())
    }

    /// Packs events and queues them; what waits, in order.
    pub(super) fn queue(&mut self, events: &[Event]) -> Result<Queued, Error> {
        let mut queued = Vec::new();
        let mut numbers = codec::Numbers::new();
        for delivery in events.iter().flat_map(|event| &event.deliveries) {
            if !numbers.contains_key(&delivery.endpoint) {
                numbers.insert(delivery.endpoint.clone(), self.endpoint_number(&delivery.endpoint)?);
            }
        }
        let packs = codec::pack(events, &numbers);
        let mut events = events.iter();
        for pack in packs {
            let number = self.counters.pack;
            self.counters.pack += 1;
            self.put_new(Table::Events, &key::pack(number), &pack.value)?;
            let mut queues: BTreeMap<&Name, Vec<QueueEntry>> = BTreeMap::new();
            for (index, event) in (0..=u16::MAX).zip(events.by_ref().take(pack.events)) {
                let lane = lane(&event.bridge, &event.key);
                for delivery in &event.deliveries {
                    let dead = matches!(delivery.content, Content::Dead(_));
                    let entry = QueueEntry {
                        index,
                        state: if dead { DeliveryState::Dead } else { DeliveryState::Waiting },
                        attempts: 0,
                        refusals: 0,
                        due: event.at,
                        wait_ms: 0,
                        replay: false,
                        lane,
                        remade: if dead { Remade::NoDead } else { Remade::No },
                    };
                    if dead {
                        self.count_dead(&delivery.endpoint, 1);
                    } else {
                        queued.push((delivery.endpoint.clone(), waiting(number, &entry)));
                    }
                    queues.entry(&delivery.endpoint).or_default().push(entry);
                }
            }
            for (endpoint, entries) in queues {
                let endpoint = *numbers.get(endpoint).expect("every endpoint was numbered");
                let row = key::queue(endpoint, state_byte(&entries), number);
                self.put_new(Table::Queue, &row, &codec::encode_queue(&entries))?;
            }
        }
        Ok(queued)
    }

    pub(super) fn progress(&mut self, rows: &[(Name, Progress)]) -> Result<Written, Error> {
        for (bridge, progress) in rows {
            let row = key::bridge(BridgeRow::Progress, self.bridge_number(bridge)?);
            self.put(Table::Bridges, &row, &codec::encode_json(progress)?)?;
        }
        Ok(Written::Done)
    }

    pub(super) fn settle(&mut self, endpoint: &Name, rows: &[Settlement]) -> Result<Written, Error> {
        let mut queues = Queues::of(self, endpoint, &[WAITING])?;
        for Settlement { position, outcome, attempt } in rows {
            self.attempt(attempt)?;
            // What no longer waits was settled before, or swept: only the attempt is recorded.
            let Some((_, entry)) = queues.entry(self, *position)? else {
                continue;
            };
            if entry.state != DeliveryState::Waiting {
                continue;
            }
            entry.attempts = entry.attempts.saturating_add(1);
            match *outcome {
                Outcome::Delivered => entry.state = DeliveryState::Delivered,
                Outcome::Retry { due, wait_ms, refusals } => {
                    (entry.due, entry.wait_ms, entry.refusals) = (due, wait_ms, refusals);
                }
                Outcome::Dead => {
                    entry.state = DeliveryState::Dead;
                    self.count_dead(endpoint, 1);
                }
            }
        }
        queues.write(self)?;
        Ok(Written::Done)
    }

    pub(super) fn attempt(&mut self, attempt: &Attempt) -> Result<(), Error> {
        let slot = u32::try_from(self.counters.attempts % ATTEMPTS_MAX).expect("the ring is smaller");
        self.counters.attempts += 1;
        self.put(Table::Attempts, &key::attempt(slot), &codec::encode_attempt(attempt))
    }

    pub(super) fn requeue(&mut self, endpoint: &Name, rows: &[Requeued]) -> Result<Written, Error> {
        let mut queues = Queues::of(self, endpoint, ANY_STATE)?;
        let mut queued = Vec::new();
        for Requeued { position, content } in rows {
            let Some((number, entry)) = queues.entry(self, *position)? else {
                continue;
            };
            if entry.state == DeliveryState::Waiting {
                continue;
            }
            let was_dead = entry.state == DeliveryState::Dead;
            if let Some(content) = content {
                self.put(Table::Queue, &key::remade(number, *position), &codec::encode_content(content))?;
                let dead = matches!(content, Content::Dead(_));
                entry.remade = if dead { Remade::YesDead } else { Remade::Yes };
            }
            let dead = matches!(entry.remade, Remade::NoDead | Remade::YesDead);
            entry.state = if dead { DeliveryState::Dead } else { DeliveryState::Waiting };
            (entry.attempts, entry.refusals) = (0, 0);
            (entry.due, entry.wait_ms) = (Timestamp(0), 0);
            entry.replay = true;
            if !dead {
                queued.push((endpoint.clone(), waiting(position.pack, entry)));
            }
            self.count_dead(endpoint, i64::from(dead) - i64::from(was_dead));
        }
        queues.write(self)?;
        Ok(Written::Queued(queued))
    }
}

/// The queue rows that one write changes, each read and written once.
struct Queues<'a> {
    /// The endpoint's numbers: of a delivery that several have that of the first counts.
    numbers: Vec<u64>,
    states: &'a [u8],
    rows: BTreeMap<u64, Vec<QueueRow>>,
}

struct QueueRow {
    endpoint: u64,
    state: u8,
    entries: Vec<QueueEntry>,
}

impl<'a> Queues<'a> {
    fn of(rows: &impl Rows, endpoint: &Name, states: &'a [u8]) -> Result<Self, Error> {
        let numbers = rows.endpoint_name(endpoint)?.map(|known| known.numbers).unwrap_or_default();
        // Whether the first has it shows in rows of any state.
        let states = if numbers.len() > 1 { ANY_STATE } else { states };
        Ok(Self { numbers, states, rows: BTreeMap::new() })
    }

    /// A delivery, with the number that it is under.
    fn entry(&mut self, rows: &impl Rows, position: Position) -> Result<Option<(u64, &mut QueueEntry)>, Error> {
        let found = match self.rows.entry(position.pack) {
            btree_map::Entry::Occupied(found) => found.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                let mut found = Vec::with_capacity(1);
                for endpoint in self.numbers.iter().copied() {
                    if let Some((state, entries)) = rows.queue_row(endpoint, position.pack, self.states)? {
                        found.push(QueueRow { endpoint, state, entries });
                    }
                }
                vacant.insert(found)
            }
        };
        Ok(found.iter_mut().find_map(|row| {
            let entry = row.entries.iter_mut().find(|entry| entry.index == position.index)?;
            Some((row.endpoint, entry))
        }))
    }

    fn write(self, group: &mut Group<'_>) -> Result<(), Error> {
        for (pack, rows) in self.rows {
            for QueueRow { endpoint, state: before, entries } in rows {
                let after = state_byte(&entries);
                if after != before {
                    group.remove(Table::Queue, &key::queue(endpoint, before, pack))?;
                    if after == DELIVERED {
                        group.sweep.settled(pack);
                    }
                }
                group.put(Table::Queue, &key::queue(endpoint, after, pack), &codec::encode_queue(&entries))?;
            }
        }
        Ok(())
    }
}

pub(super) fn state_byte(entries: &[QueueEntry]) -> u8 {
    let any = |state| entries.iter().any(|entry| entry.state == state);
    if any(DeliveryState::Waiting) {
        WAITING
    } else if any(DeliveryState::Dead) {
        DEAD
    } else {
        DELIVERED
    }
}

/// As a dispatcher holds it.
pub fn waiting(pack: u64, entry: &QueueEntry) -> Waiting {
    Waiting {
        position: Position { pack, index: entry.index },
        lane: entry.lane,
        due: entry.due,
        wait_ms: entry.wait_ms,
        attempts: entry.attempts,
        refusals: entry.refusals,
        replay: entry.replay,
    }
}
