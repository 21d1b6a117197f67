//! What each kind of write changes.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use super::{
    group::Group,
    tables::{ANY_STATE, DEAD, DELIVERED, Rows, Table, WAITING, error},
};
use crate::{
    model::{Content, Entry, Event, Hash, Name, Timestamp},
    store::{
        Attempt, Commit, DeliveryState, Error, HoldChange, Outcome, Position, Progress, Requeued, Settlement, Waiting,
        Written,
        codec::{self, QueueEntry, Remade, key, key::BridgeRow},
        lane,
    },
};

/// Attempts that are kept: a ring, so that the database does not grow with them.
pub const ATTEMPTS_MAX: u64 = 65_536;
/// Packs that a sweep looks at, at least; more when its limit is larger.
const SWEEP_PACKS_MIN: usize = 1000;

impl Group<'_> {
    pub(super) fn commit(&mut self, commit: Commit) -> Result<Written, Error> {
        if let Some(bridge) = &commit.bridge {
            self.snapshot(bridge, &commit)?;
        }
        self.events(&commit.events).map(Written::Queued)
    }

    fn snapshot(&mut self, bridge: &str, commit: &Commit) -> Result<(), Error> {
        let state = key::bridge(BridgeRow::State, bridge);
        let first = self.first(Table::Bridges, &state)?;
        let stored = first.map_or(Ok(0), |first| codec::decode_state_version(&first))?;
        if stored != commit.expected || commit.state.version != stored + 1 {
            return Err(Error::Conflict { stored, expected: commit.expected });
        }
        self.put(Table::Bridges, &state, &codec::encode_state(&commit.state)?)?;
        let hold = key::bridge(BridgeRow::Hold, bridge);
        match &commit.hold {
            HoldChange::Keep => {}
            HoldChange::Clear => self.remove(Table::Bridges, &hold)?,
            HoldChange::Set(new) => self.put(Table::Bridges, &hold, &codec::encode_json(new)?)?,
        }
        if let Some(list) = &commit.list {
            self.list(bridge, list)?;
        }
        for hash in &commit.delete {
            self.remove(Table::Records, &key::record(bridge, *hash))?;
        }
        for record in &commit.put {
            let row = key::record(bridge, record.entry.key);
            self.put(Table::Records, &row, &codec::encode_record(record))?;
        }
        Ok(())
    }

    /// Writes the chunks that the old list does not have, and removes those that the new one does not.
    pub(super) fn list(&mut self, bridge: &str, list: &[Entry]) -> Result<(), Error> {
        let manifest = key::bridge(BridgeRow::Manifest, bridge);
        let old = self.value(Table::Bridges, &manifest)?.map_or(Ok(Vec::new()), |v| codec::decode_manifest(&v))?;
        let chunks = codec::cut(list);
        let ids: Vec<Hash> = chunks.iter().map(|chunk| chunk.id).collect();
        if ids != old {
            self.put(Table::Bridges, &manifest, &codec::encode_manifest(&ids))?;
        }
        // Sets, since the same chunk may stand in a list twice.
        let old: BTreeSet<Hash> = old.into_iter().collect();
        let new: BTreeSet<Hash> = ids.into_iter().collect();
        for chunk in chunks.into_iter().filter(|chunk| !old.contains(&chunk.id)) {
            self.change(Table::Bridges, key::list_chunk(bridge, chunk.id), Some(chunk.row));
        }
        for gone in old.difference(&new) {
            self.change(Table::Bridges, key::list_chunk(bridge, *gone), None);
        }
        Ok(())
    }

    /// Packs events and queues them; what waits, in order.
    pub(super) fn events(&mut self, events: &[Event]) -> Result<Vec<(Name, Waiting)>, Error> {
        let mut queued = Vec::new();
        let packs = codec::pack(events);
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
                let row = key::queue(endpoint, state_byte(&entries), number);
                self.put_new(Table::Queue, &row, &codec::encode_queue(&entries))?;
            }
        }
        Ok(queued)
    }

    pub(super) fn progress(&mut self, rows: &[(Name, Progress)]) -> Result<Written, Error> {
        for (bridge, progress) in rows {
            let row = key::bridge(BridgeRow::Progress, bridge);
            self.put(Table::Bridges, &row, &codec::encode_json(progress)?)?;
        }
        Ok(Written::Done)
    }

    pub(super) fn settle(&mut self, endpoint: &Name, rows: &[Settlement]) -> Result<Written, Error> {
        let mut queues = Queues::default();
        for Settlement { position, outcome, attempt } in rows {
            self.attempt(attempt)?;
            // What no longer waits was settled before, or swept: only the attempt is recorded.
            let Some(entry) = queues.entry(self, endpoint, *position, &[WAITING])? else {
                continue;
            };
            if entry.state != DeliveryState::Waiting {
                continue;
            }
            entry.attempts = entry.attempts.saturating_add(1);
            match *outcome {
                Outcome::Delivered => entry.state = DeliveryState::Delivered,
                Outcome::Retry { due, refusals } => (entry.due, entry.refusals) = (due, refusals),
                Outcome::Dead => {
                    entry.state = DeliveryState::Dead;
                    self.count_dead(endpoint, 1);
                }
            }
        }
        queues.write(self, endpoint)?;
        Ok(Written::Done)
    }

    pub(super) fn attempt(&mut self, attempt: &Attempt) -> Result<(), Error> {
        let slot = u32::try_from(self.counters.attempts % ATTEMPTS_MAX).expect("the ring is smaller");
        self.counters.attempts += 1;
        self.put(Table::Attempts, &key::attempt(slot), &codec::encode_attempt(attempt))
    }

    pub(super) fn requeue(&mut self, endpoint: &Name, rows: &[Requeued]) -> Result<Written, Error> {
        let mut queues = Queues::default();
        let mut queued = Vec::new();
        for Requeued { position, content } in rows {
            let Some(entry) = queues.entry(self, endpoint, *position, ANY_STATE)? else {
                continue;
            };
            if entry.state == DeliveryState::Waiting {
                continue;
            }
            let was_dead = entry.state == DeliveryState::Dead;
            if let Some(content) = content {
                self.put(Table::Queue, &key::remade(endpoint, *position), &codec::encode_content(content))?;
                let dead = matches!(content, Content::Dead(_));
                entry.remade = if dead { Remade::YesDead } else { Remade::Yes };
            }
            let dead = matches!(entry.remade, Remade::NoDead | Remade::YesDead);
            entry.state = if dead { DeliveryState::Dead } else { DeliveryState::Waiting };
            (entry.attempts, entry.refusals) = (0, 0);
            entry.due = Timestamp(0);
            entry.replay = true;
            if !dead {
                queued.push((endpoint.clone(), waiting(position.pack, entry)));
            }
            self.count_dead(endpoint, i64::from(dead) - i64::from(was_dead));
        }
        queues.write(self, endpoint)?;
        Ok(Written::Queued(queued))
    }

    pub(super) fn count_dead(&mut self, endpoint: &Name, more: i64) {
        *self.dead.entry(endpoint.clone()).or_default() += more;
    }

    /// Goes on where the last sweep stopped, so that packs which stay are not read again and again.
    pub(super) fn sweep(
        &mut self,
        before: &[(Name, Timestamp)],
        default_before: Timestamp,
        limit: usize,
    ) -> Result<Written, Error> {
        let before: BTreeMap<&str, Timestamp> = before.iter().map(|(name, at)| (&**name, *at)).collect();
        let mut looks = limit.saturating_mul(2).max(SWEEP_PACKS_MIN);
        let mut swept = 0;
        let rows = self.tables.get(Table::Events).range(key::chunk(&key::pack(self.sweep_from), 0)..);
        self.sweep_from = 0;
        for row in rows.keys() {
            let row = row.map_err(error)?;
            let (key, chunk) = key::unchunk(&row)?;
            if chunk > 0 {
                continue;
            }
            let pack = key::parse_pack(key)?;
            if looks == 0 || swept >= limit {
                self.sweep_from = pack;
                break;
            }
            looks -= 1;
            let Some(value) = self.value(Table::Events, key)? else {
                continue;
            };
            let header = codec::decode_pack_header(&value)?;
            let bounds = header.endpoints.iter().map(|e| before.get(&**e).copied().unwrap_or(default_before));
            if header.at < bounds.min().unwrap_or(default_before) && self.is_settled(pack, &header.endpoints)? {
                self.remove(Table::Events, key)?;
                for endpoint in &header.endpoints {
                    self.forget(endpoint, pack)?;
                }
                swept += header.ids.len();
            }
        }
        Ok(Written::Swept(swept))
    }

    fn is_settled(&self, pack: u64, endpoints: &[Name]) -> Result<bool, Error> {
        for endpoint in endpoints {
            for state in [WAITING, DEAD] {
                if self.first(Table::Queue, &key::queue(endpoint, state, pack))?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Removes a delivered queue row with what was made anew for it.
    fn forget(&mut self, endpoint: &Name, pack: u64) -> Result<(), Error> {
        let Some((state, entries)) = self.queue_row(endpoint, pack, &[DELIVERED])? else {
            return Ok(());
        };
        for entry in entries.iter().filter(|e| matches!(e.remade, Remade::Yes | Remade::YesDead)) {
            self.remove(Table::Queue, &key::remade(endpoint, Position { pack, index: entry.index }))?;
        }
        self.remove(Table::Queue, &key::queue(endpoint, state, pack))
    }
}

/// The queue rows that one write changes, each read and written once.
#[derive(Default)]
struct Queues(BTreeMap<u64, Option<(u8, Vec<QueueEntry>)>>);

impl Queues {
    fn entry(
        &mut self,
        rows: &impl Rows,
        endpoint: &Name,
        position: Position,
        states: &[u8],
    ) -> Result<Option<&mut QueueEntry>, Error> {
        let row = match self.0.entry(position.pack) {
            btree_map::Entry::Occupied(row) => row.into_mut(),
            btree_map::Entry::Vacant(vacant) => vacant.insert(rows.queue_row(endpoint, position.pack, states)?),
        };
        Ok(row.as_mut().and_then(|(_, entries)| entries.iter_mut().find(|e| e.index == position.index)))
    }

    fn write(self, group: &mut Group<'_>, endpoint: &Name) -> Result<(), Error> {
        for (pack, row) in self.0 {
            let Some((before, entries)) = row else {
                continue;
            };
            let after = state_byte(&entries);
            if after != before {
                group.remove(Table::Queue, &key::queue(endpoint, before, pack))?;
            }
            group.put(Table::Queue, &key::queue(endpoint, after, pack), &codec::encode_queue(&entries))?;
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
        attempts: entry.attempts,
        refusals: entry.refusals,
        replay: entry.replay,
    }
}
