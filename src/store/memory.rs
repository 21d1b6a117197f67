//! The engine without a disk: the plain model that the other one is compared with, and what simulations run on.
//!
//! It lives as long as its value; `claim` stands for opening it again after an injected fault. It shares nothing with
//! the disk's engine but the contract, so that a mistake is made twice or found.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;

use super::{
    Ahead, Attempt, BridgeState, Commit, DeliveryState, EndpointState, Engine, Error, EventFilter, Hold, HoldChange,
    Lease, List, Loaded, Op, Outcome, Outgoing, Position, Progress, Queued, Requeued, Reset, Settlement,
    StoredDelivery, StoredEvent, Waiting, Written, held_piece, lane,
};
use crate::model::{Content, Entry, Event, EventId, Hash, Name, Record, Timestamp};

/// As many as the disk keeps.
const ATTEMPTS_MAX: usize = 65_536;

/// What happens to the next group of writes; from then on everything fails until the lease is claimed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered `Unknown`, and was applied.
    UnknownApplied,
    /// It is answered `Unknown`, and was not.
    UnknownLost,
}

/// A store in memory.
pub struct MemoryEngine {
    stream: Name,
    inner: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    epoch: u64,
    bridges: BTreeMap<Name, BridgeRows>,
    endpoints: BTreeMap<Name, EndpointState>,
    /// By commit and place in it.
    events: BTreeMap<Position, KeptEvent>,
    next_pack: u64,
    /// Newest last.
    attempts: VecDeque<Attempt>,
    stages: BTreeMap<u64, StagedCommit>,
    next_stage: u64,
    syncs: u64,
    reset: Option<Reset>,
    fault: Option<Fault>,
    full: bool,
    failed: Option<Error>,
}

/// A commit that is written ahead.
#[derive(Default)]
struct StagedCommit {
    bridge: Name,
    put: Vec<Record>,
    delete: Vec<Hash>,
    events: Vec<(Position, KeptEvent)>,
}

#[derive(Default)]
struct BridgeRows {
    state: Option<BridgeState>,
    progress: Option<Progress>,
    hold: Option<Hold>,
    list: Vec<Entry>,
    records: BTreeMap<Hash, Record>,
}

/// An event with a delivery for each of `event.deliveries`, in that order.
struct KeptEvent {
    event: Event,
    deliveries: Vec<Standing>,
}

struct Standing {
    state: DeliveryState,
    attempts: u32,
    refusals: u16,
    due: Timestamp,
    wait_ms: u32,
    replay: bool,
    /// What is sent, or why nothing can be.
    content: Content,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryEngine {
    pub fn new() -> Self {
        let stream = EventId::random().to_string().replacen("evt_", "s_", 1);
        Self { stream: stream.into(), inner: Mutex::default() }
    }

    /// Makes the next group of writes fail.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Whether there is room for another group.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<MutexGuard<'_, Rows>, Error> {
        let inner = self.lock();
        match &inner.failed {
            Some(error) => Err(error.clone()),
            None => Ok(inner),
        }
    }
}

impl Rows {
    fn op(&mut self, op: Op) -> Result<Written, Error> {
        match op {
            Op::Commit(commit) => return self.commit(*commit).map(Written::Queued),
            Op::Progress(rows) => {
                for (bridge, progress) in rows {
                    self.bridges.entry(bridge).or_default().progress = Some(progress);
                }
            }
            Op::Settle(endpoint, rows) => {
                for settlement in rows {
                    self.settle(&endpoint, settlement);
                }
            }
            Op::Requeue(endpoint, rows) => {
                let queued = rows.into_iter().filter_map(|row| self.requeue(&endpoint, row));
                return Ok(Written::Queued(queued.collect()));
            }
            Op::Endpoint(endpoint, state) => {
                self.endpoints.insert(endpoint, state);
            }
            Op::Reset(reset, events) => {
                self.reset = Some(reset);
                let (kept, queued) = self.queue(events);
                self.events.extend(kept);
                return Ok(Written::Queued(queued));
            }
            Op::Stage(bridge) => {
                self.stages.retain(|_, stage| stage.bridge != bridge);
                self.next_stage += 1;
                self.stages.insert(self.next_stage, StagedCommit { bridge, ..StagedCommit::default() });
                return Ok(Written::Staged(self.next_stage));
            }
            Op::Ahead(ahead) => {
                let Ahead { stage: number, put, delete, chunks: _, events } = *ahead;
                let (kept, queued) = self.queue(events);
                let gone = Error::Conflict { stored: 0, expected: number };
                let stage = self.stages.get_mut(&number).ok_or(gone)?;
                stage.put.extend(put);
                stage.delete.extend(delete);
                stage.events.extend(kept);
                return Ok(Written::Queued(queued));
            }
            Op::Abandon(stage) => drop(self.stages.remove(&stage)),
            Op::Sweep { now, keep, default_keep, limit } => {
                let keep: BTreeMap<Name, Duration> = keep.into_iter().collect();
                return Ok(Written::Swept(self.sweep(now, &keep, default_keep, limit)));
            }
            Op::Rename { from, to } => self.rename(&from, &to),
            Op::RenameBridge { from, to } => {
                let there = |bridge: &&BridgeRows| {
                    bridge.progress.is_some() || bridge.state.as_ref().is_some_and(|state| state.version > 0)
                };
                if self.bridges.get(&from).filter(there).is_none() {
                    return Ok(Written::Done);
                }
                let mut bridge = self.leave_sequence(&from);
                let heir = self.bridges.entry(to).or_default();
                if let Some(of_heir) = &heir.state {
                    let state = bridge.state.get_or_insert_default();
                    state.sequence = state.sequence.max(of_heir.sequence);
                }
                if let Some(progress) = &mut bridge.progress {
                    progress.removed = None;
                }
                *heir = bridge;
            }
            Op::ForgetBridge(bridge) => drop(self.leave_sequence(&bridge)),
            Op::Forget(endpoint) => self.forget(&endpoint),
        }
        Ok(Written::Done)
    }

    /// All that a bridge was; its sequence number alone stays under its name.
    fn leave_sequence(&mut self, name: &Name) -> BridgeRows {
        let bridge = self.bridges.remove(name).unwrap_or_default();
        if let Some(left) = bridge.state.clone().and_then(BridgeState::sequence_alone) {
            self.bridges.insert(name.clone(), BridgeRows { state: Some(left), ..BridgeRows::default() });
        }
        bridge
    }

    fn commit(&mut self, commit: Commit) -> Result<Queued, Error> {
        let Commit { bridge, expected, state, list, mut put, mut delete, hold, events, ahead } = commit;
        if let Some(name) = bridge {
            let stored = self.bridges.get(&name).and_then(|b| b.state.as_ref()).map_or(0, |s| s.version);
            if stored != expected || state.version != stored + 1 {
                return Err(Error::Conflict { stored, expected });
            }
            let stage = match ahead {
                Some(number) => self.stages.remove(&number).ok_or(Error::Conflict { stored, expected })?,
                None => StagedCommit::default(),
            };
            self.events.extend(stage.events);
            let bridge = self.bridges.entry(name).or_default();
            bridge.state = Some(state);
            bridge.list = match list {
                None => std::mem::take(&mut bridge.list),
                Some(List::Whole(list)) => list,
                Some(List::Cut(_)) => unreachable!("this engine cuts none"),
            };
            let hold = match hold {
                HoldChange::Ahead(mut hold, pieces) => {
                    for (at, (page, pieces)) in hold.answer.iter_mut().zip(pieces).enumerate() {
                        let piece = |piece| stage.put.iter().find(|record| record.entry.key == held_piece(at, piece));
                        let body: Vec<u8> = (0..pieces).filter_map(piece).flat_map(|r| r.body.clone()).collect();
                        page.body = String::from_utf8(body).expect("it was cut out of a text");
                    }
                    HoldChange::Set(hold)
                }
                other => {
                    delete.extend(stage.delete);
                    // What the commit itself has counts.
                    put.splice(0..0, stage.put);
                    other
                }
            };
            bridge.records.retain(|key, _| !delete.contains(key));
            bridge.records.extend(put.into_iter().map(|record| (record.entry.key, record)));
            match hold {
                HoldChange::Keep => {}
                HoldChange::Clear => bridge.hold = None,
                HoldChange::Set(new) => bridge.hold = Some(*new),
                HoldChange::Ahead(..) => unreachable!("its pages were put together"),
            }
        }
        let (kept, queued) = self.queue(events);
        self.events.extend(kept);
        Ok(queued)
    }

    /// Gives events their places.
    fn queue(&mut self, events: Vec<Event>) -> (Vec<(Position, KeptEvent)>, Queued) {
        let pack = self.next_pack;
        self.next_pack += 1;
        let (mut all, mut queued) = (Vec::new(), Vec::new());
        for (index, event) in (0..=u16::MAX).zip(events) {
            let position = Position { pack, index };
            let deliveries = event.deliveries.iter().map(|delivery| {
                let dead = matches!(delivery.content, Content::Dead(_));
                Standing {
                    state: if dead { DeliveryState::Dead } else { DeliveryState::Waiting },
                    attempts: 0,
                    refusals: 0,
                    due: event.at,
                    wait_ms: 0,
                    replay: false,
                    content: delivery.content.clone(),
                }
            });
            let kept = KeptEvent { deliveries: deliveries.collect(), event };
            for (endpoint, standing) in kept.each() {
                if standing.state == DeliveryState::Waiting {
                    queued.push((endpoint.clone(), kept.waiting(position, standing)));
                }
            }
            all.push((position, kept));
        }
        (all, queued)
    }

    fn settle(&mut self, endpoint: &str, settlement: Settlement) {
        let Settlement { position, outcome, attempt } = settlement;
        self.attempts.push_back(attempt);
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
        let Some(standing) = self.events.get_mut(&position).and_then(|kept| kept.get_mut(endpoint)) else {
            return;
        };
        if standing.state != DeliveryState::Waiting {
            return;
        }
        standing.attempts += 1;
        match outcome {
            Outcome::Delivered => standing.state = DeliveryState::Delivered,
            Outcome::Retry { due, wait_ms, refusals } => {
                (standing.due, standing.wait_ms, standing.refusals) = (due, wait_ms, refusals);
            }
            Outcome::Dead => standing.state = DeliveryState::Dead,
        }
    }

    fn requeue(&mut self, endpoint: &Name, requeued: Requeued) -> Option<(Name, Waiting)> {
        let kept = self.events.get_mut(&requeued.position)?;
        let standing = kept.get_mut(endpoint)?;
        if standing.state == DeliveryState::Waiting {
            return None;
        }
        if let Some(content) = requeued.content {
            standing.content = content;
        }
        let dead = matches!(standing.content, Content::Dead(_));
        standing.state = if dead { DeliveryState::Dead } else { DeliveryState::Waiting };
        (standing.attempts, standing.refusals, standing.due, standing.replay) = (0, 0, Timestamp(0), true);
        standing.wait_ms = 0;
        let (_, standing) = kept.each().find(|(name, _)| *name == endpoint)?;
        (!dead).then(|| (endpoint.clone(), kept.waiting(requeued.position, standing)))
    }

    fn rename(&mut self, from: &Name, to: &Name) {
        let staged = self.stages.values_mut().flat_map(|stage| stage.events.iter_mut().map(|(_, kept)| kept));
        self.events.values_mut().chain(staged).for_each(|kept| kept.rename(from, to));
        if let Some(state) = self.endpoints.remove(from) {
            self.endpoints.insert(to.clone(), state);
        }
    }

    fn forget(&mut self, endpoint: &Name) {
        let staged = self.stages.values_mut().flat_map(|stage| stage.events.iter_mut().map(|(_, kept)| kept));
        self.events.values_mut().chain(staged).for_each(|kept| kept.drop_delivery(endpoint));
        self.endpoints.remove(endpoint);
    }

    /// The events of one commit go together.
    fn sweep(&mut self, now: Timestamp, keep: &BTreeMap<Name, Duration>, default: Duration, limit: usize) -> usize {
        let (mut swept, mut dropped) = (0, 0);
        let packs: BTreeSet<u64> = self.events.keys().map(|position| position.pack).collect();
        for pack in packs {
            if dropped == limit {
                break;
            }
            let events = || self.events.iter().filter(|(position, _)| position.pack == pack).map(|(_, kept)| kept);
            let latest = events().map(|kept| kept.event.at).max();
            let times = events().flat_map(KeptEvent::each).map(|(name, _)| *keep.get(name).unwrap_or(&default));
            let longest = times.max().unwrap_or(default);
            let settled =
                events().flat_map(KeptEvent::each).all(|(_, standing)| standing.state == DeliveryState::Delivered);
            if settled && latest.is_some_and(|at| at.plus(longest) <= now) {
                swept += events().count();
                dropped += 1;
                self.events.retain(|position, _| position.pack != pack);
            }
        }
        swept
    }
}

impl KeptEvent {
    fn each(&self) -> impl Iterator<Item = (&Name, &Standing)> {
        self.event.deliveries.iter().map(|d| &d.endpoint).zip(&self.deliveries)
    }

    fn get(&self, endpoint: &str) -> Option<&Standing> {
        self.each().find(|(name, _)| &***name == endpoint).map(|(_, standing)| standing)
    }

    fn get_mut(&mut self, endpoint: &str) -> Option<&mut Standing> {
        let index = self.event.deliveries.iter().position(|d| &*d.endpoint == endpoint)?;
        self.deliveries.get_mut(index)
    }

    fn rename(&mut self, from: &Name, to: &Name) {
        if self.get(to).is_some() {
            return self.drop_delivery(from);
        }
        if let Some(delivery) = self.event.deliveries.iter_mut().find(|delivery| delivery.endpoint == *from) {
            delivery.endpoint = to.clone();
        }
    }

    fn drop_delivery(&mut self, endpoint: &Name) {
        if let Some(index) = self.event.deliveries.iter().position(|d| d.endpoint == *endpoint) {
            self.event.deliveries.remove(index);
            self.deliveries.remove(index);
        }
    }

    fn waiting(&self, position: Position, standing: &Standing) -> Waiting {
        let Standing { attempts, refusals, due, wait_ms, replay, .. } = *standing;
        let lane = lane(&self.event.bridge, &self.event.key);
        Waiting { position, lane, due, wait_ms, attempts, refusals, replay }
    }

    fn stored(&self, position: Position) -> StoredEvent {
        let deliveries = self.each().map(|(endpoint, standing)| StoredDelivery {
            endpoint: endpoint.clone(),
            state: standing.state,
            attempts: standing.attempts,
            due: (standing.state == DeliveryState::Waiting).then_some(standing.due),
        });
        StoredEvent { position, event: self.event.clone(), deliveries: deliveries.collect() }
    }

    fn matches(&self, filter: &EventFilter) -> bool {
        let asked = |name: &Name| filter.endpoint.as_ref().is_none_or(|endpoint| endpoint == name);
        let needs_delivery = filter.endpoint.is_some() || filter.state.is_some();
        filter.takes(&self.event)
            && (!needs_delivery
                || self.each().any(|(name, standing)| asked(name) && filter.state.is_none_or(|s| s == standing.state)))
    }
}

impl BridgeRows {
    fn loaded(&self, name: &Name) -> Option<Loaded> {
        let (state, progress) = (self.state.clone(), self.progress.clone());
        let known = state.is_some() || progress.is_some();
        let state = state.unwrap_or_default();
        known.then(|| Loaded { name: name.clone(), state, progress, held: self.hold.is_some() })
    }
}

impl Engine for MemoryEngine {
    fn stream(&self) -> Name {
        self.stream.clone()
    }

    fn claim(&self) -> Result<Lease, Error> {
        let mut inner = self.lock();
        inner.failed = None;
        inner.epoch += 1;
        Ok(Lease { epoch: inner.epoch })
    }

    fn bridges(&self) -> Result<Vec<Loaded>, Error> {
        Ok(self.read()?.bridges.iter().filter_map(|(name, bridge)| bridge.loaded(name)).collect())
    }

    fn bridge(&self, name: &str) -> Result<Option<Loaded>, Error> {
        Ok(self.read()?.bridges.get_key_value(name).and_then(|(name, bridge)| bridge.loaded(name)))
    }

    fn list(&self, bridge: &str) -> Result<Vec<Entry>, Error> {
        Ok(self.read()?.bridges.get(bridge).map(|b| b.list.clone()).unwrap_or_default())
    }

    fn records(&self, bridge: &str, keys: &[Hash]) -> Result<Vec<Option<Record>>, Error> {
        let inner = self.read()?;
        let bridge = inner.bridges.get(bridge);
        Ok(keys.iter().map(|key| bridge.and_then(|b| b.records.get(key).cloned())).collect())
    }

    fn scan(&self, bridge: &str, after: Option<Hash>, limit: usize) -> Result<Vec<Record>, Error> {
        let inner = self.read()?;
        let Some(bridge) = inner.bridges.get(bridge) else {
            return Ok(Vec::new());
        };
        let records = bridge.records.values().filter(|r| after.is_none_or(|after| r.entry.key > after));
        Ok(records.take(limit).cloned().collect())
    }

    fn hold(&self, bridge: &str) -> Result<Option<Hold>, Error> {
        Ok(self.read()?.bridges.get(bridge).and_then(|b| b.hold.clone()))
    }

    fn endpoints(&self) -> Result<Vec<(Name, EndpointState)>, Error> {
        Ok(self.read()?.endpoints.iter().map(|(name, state)| (name.clone(), state.clone())).collect())
    }

    fn queues(&self) -> Result<Vec<Name>, Error> {
        let inner = self.read()?;
        let all: BTreeSet<Name> =
            inner.events.values().flat_map(|kept| kept.each().map(|(name, _)| name.clone())).collect();
        Ok(all.into_iter().collect())
    }

    fn waiting(&self, endpoint: &str) -> Result<Vec<Waiting>, Error> {
        let inner = self.read()?;
        let waiting = inner.events.iter().filter_map(|(position, kept)| {
            let standing = kept.get(endpoint).filter(|standing| standing.state == DeliveryState::Waiting)?;
            Some(kept.waiting(*position, standing))
        });
        Ok(waiting.collect())
    }

    fn dead(&self, endpoint: &str) -> Result<u64, Error> {
        let inner = self.read()?;
        let dead = inner.events.values().filter_map(|kept| kept.get(endpoint));
        Ok(dead.map(|standing| u64::from(standing.state == DeliveryState::Dead)).sum())
    }

    fn outgoing(&self, endpoint: &str, position: Position) -> Result<Option<Outgoing>, Error> {
        let inner = self.read()?;
        let Some(kept) = inner.events.get(&position) else {
            return Ok(None);
        };
        let content = kept.get(endpoint).map(|standing| standing.content.clone());
        let sent = content.filter(|content| !matches!(content, Content::Dead(_)));
        let event = Event { deliveries: Vec::new(), ..kept.event.clone() };
        Ok(sent.map(|content| Outgoing { event, content }))
    }

    fn events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, Error> {
        let inner = self.read()?;
        let matching = inner.events.iter().rev().filter(|(_, kept)| kept.matches(filter));
        let stored = matching.take(filter.limit).map(|(position, kept)| kept.stored(*position));
        Ok(stored.map(|stored| if filter.bodies { stored } else { stored.without_bodies() }).collect())
    }

    fn event(&self, id: EventId) -> Result<Option<StoredEvent>, Error> {
        let inner = self.read()?;
        let found = inner.events.iter().find(|(_, kept)| kept.event.id == id);
        Ok(found.map(|(position, kept)| kept.stored(*position)))
    }

    fn attempts(&self, wanted: &mut dyn FnMut(&Attempt) -> bool, limit: usize) -> Result<Vec<Attempt>, Error> {
        let inner = self.read()?;
        Ok(inner.attempts.iter().rev().filter(|attempt| wanted(attempt)).take(limit).cloned().collect())
    }

    fn write(&self, lease: Lease, group: Vec<Op>) -> Vec<Result<Written, Error>> {
        let mut inner = self.lock();
        let fenced = (lease.epoch != inner.epoch).then_some(Error::Fenced { current: inner.epoch, ours: lease.epoch });
        if let Some(error) = inner.failed.clone().or(fenced) {
            return group.iter().map(|_| Err(error.clone())).collect();
        }
        let (applies, error, after) = match inner.fault.take() {
            None => (true, None, None),
            Some(fault @ (Fault::UnknownApplied | Fault::UnknownLost)) => {
                let why = String::from("an injected fault");
                (fault == Fault::UnknownApplied, Some(Error::Unknown(why.clone())), Some(Error::Io(why)))
            }
        };
        inner.failed = after;
        let results: Vec<_> = group
            .into_iter()
            .map(|op| {
                let result = if applies { inner.op(op) } else { Ok(Written::Done) };
                error.clone().map_or(result, Err)
            })
            .collect();
        if results.iter().any(Result::is_ok) {
            inner.syncs += 1;
        }
        results
    }

    /// Bridges and events, for tests that look at what is there; not what the disk's engine writes.
    fn export(&self, out: &mut dyn Write) -> Result<(), Error> {
        let inner = self.read()?;
        let head = json!({ "bellpull": "export", "format": 1, "stream": &*self.stream });
        let states = inner.bridges.iter().filter_map(|(name, bridge)| {
            let state = bridge.state.as_ref()?;
            Some(json!({ "state": { "bridge": &**name, "state": state } }))
        });
        let events = inner.events.values().map(|kept| json!({ "event": { "id": kept.event.id } }));
        for line in std::iter::once(head).chain(states).chain(events) {
            writeln!(out, "{line}").map_err(|e| Error::Io(format!("writing the export: {e}")))?;
        }
        Ok(())
    }

    fn room(&self, _: u64) -> Result<bool, Error> {
        if self.lock().full { Err(Error::Full("the disk is said to be full".into())) } else { Ok(true) }
    }

    fn reset(&self) -> Result<Option<Reset>, Error> {
        Ok(self.read()?.reset.clone())
    }

    fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn size_bytes(&self) -> Result<u64, Error> {
        Ok(0)
    }
}
