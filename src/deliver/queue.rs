//! An endpoint's queue: which event is sent next, and what an answer means for it and for the endpoint. Pure.
//!
//! Events of one record are a lane: the next is not sent before the last is delivered or dead. An endpoint that is down
//! (no answer, 429, 502, 503, 504) backs off as a whole, with one probe at a time that rotates over the lanes, and no
//! event dies of it. A new event may be a probe before its time. Any other refusal counts against the event alone.
//! Where jq makes the URL, all this holds for each of its origins.

mod job;
mod judge;
mod origins;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use crate::{
    config::DeliveryOrder,
    model::Timestamp,
    schedule::HINT_MAX,
    store::{EndpointState, LANE_OF_BRIDGE, Position, WAIT_UNKNOWN, Waiting},
};

use job::is_fresh;
pub use job::{Answered, Job, Room, Rules};
use judge::wait_ms;
use origins::Opens;
pub use origins::{Gate, Pass};

/// Why an endpoint is disabled that an admin disabled.
pub const BY_HAND: &str = "by hand";
/// Jitter only adds to a wait, up to this share: receivers that failed together are not asked together.
const JITTER: f64 = 0.2;
/// Lanes that are looked at for a probe, before the one that waits longest is taken.
const PROBE_LOOKS: usize = 64;

/// While an endpoint is down a new event may be a probe, at most so often: whoever is back is found soon, and whoever is not is
/// not asked by each event of a busy bridge.
const FRESH_PROBE_EVERY: Duration = Duration::from_secs(3);

/// Waiting updates of one record that become one, at the most: each is read for it.
pub const COALESCE_MAX: usize = 100;

/// The first of a lane that has nothing in flight: the time from which it may go alone, its place, its lane.
type Head = (Timestamp, Position, u64);

/// The first ones of lanes that go to one origin, which is waited for.
#[derive(Debug, Default)]
struct Parked {
    heads: BTreeSet<Head>,
    /// The last that was sent to see whether the origin is back.
    last: Option<Head>,
    /// One is under way.
    is_asked: bool,
}

#[derive(Debug)]
pub struct Queue {
    rules: Rules,
    state: EndpointState,
    lanes: BTreeMap<(u64, Position), Waiting>,
    /// The first of each lane that has nothing in flight, and is not parked.
    heads: BTreeSet<Head>,
    gate: Gate,
    /// Where events go whose origin was waited for when they were tried.
    aims: HashMap<Position, String>,
    parked: BTreeMap<String, Parked>,
    /// Lanes in flight.
    flying: BTreeSet<u64>,
    /// Attempts in flight.
    flights: usize,
    /// The last event that was there at the start.
    found: Option<Position>,
    /// The lane that was probed last.
    probed: u64,
    /// How often the endpoint has gone down or was held, in this life.
    era: u64,
    /// Attempts that are settled and not yet recorded: they are in flight no more, as far as a receiver can see.
    settling: usize,
    /// How many requests the receiver still takes, and until when it said so. In memory only.
    left: Option<(u64, Timestamp)>,
    /// When an attempt last failed, in this life; and what failed since was last added to the state.
    failed_at: Option<Timestamp>,
    /// Of events that took the endpoint down and were no probe. One that does it again and again is poison: it waits for
    /// itself, so that it does not hold up the rest. In memory only.
    downs: HashMap<Position, Downs>,
    /// Attempts that were taken, in this life.
    taken: u64,
    /// Refusals in a row, in this life.
    refused: usize,
    /// The lane of the last event that came while the endpoint was down, until there is a probe.
    fresh: Option<u64>,
    /// When an attempt last took the endpoint down or probed it, in this life.
    tried_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Downs {
    /// How often.
    times: u16,
    /// How many attempts had been taken the last time.
    taken: u64,
    /// Its origin took others since.
    outlived: bool,
}

impl Queue {
    pub fn new(rules: Rules, mut state: EndpointState) -> Self {
        let gate = Gate::default();
        state.origins = BTreeMap::new();
        Self {
            rules,
            state,
            gate,
            aims: HashMap::new(),
            parked: BTreeMap::new(),
            lanes: BTreeMap::new(),
            heads: BTreeSet::new(),
            flying: BTreeSet::new(),
            flights: 0,
            found: None,
            probed: 0,
            era: 0,
            settling: 0,
            left: None,
            failed_at: None,
            downs: HashMap::new(),
            taken: 0,
            refused: 0,
            fresh: None,
            tried_at: None,
        }
    }

    /// A queue as it was found in the store. A start is a reason to probe an endpoint that is down, unless its receiver named
    /// the time.
    pub fn found(rules: Rules, state: EndpointState, waiting: Vec<Waiting>, now: Timestamp) -> Self {
        let origins = state.origins.clone();
        let mut queue = Self::new(rules, state);
        if queue.rules.by_origin {
            queue.gate = Gate::found(&origins, now);
            queue.note_origins(now);
        }
        queue.clamp(now);
        queue.found = waiting.iter().map(|waiting| waiting.position).max();
        waiting.into_iter().for_each(|waiting| queue.push(waiting, now));
        queue.fresh = None;
        if !queue.state.asked {
            queue.state.next_attempt = queue.state.next_attempt.map(|at| at.min(now));
        }
        queue
    }

    /// Whether it can go on under other rules: events of one lane stay in it.
    pub fn fits(&self, order: DeliveryOrder) -> bool {
        self.rules.order == order && self.flights == 0
    }

    /// Goes on under the rules of a new file, or for an endpoint of another name.
    pub fn go_on(&mut self, rules: Rules, state: EndpointState) {
        let by_origin = self.rules.by_origin || rules.by_origin;
        let ready_changes = self.rules.batch != rules.batch || by_origin;
        (self.rules, self.state) = (rules, state);
        if by_origin {
            // The URL may be another; of an origin that is waited for, an event learns that at its next turn.
            self.aims.clear();
            self.parked.clear();
        }
        if !self.rules.by_origin {
            self.gate = Gate::default();
            self.state.origins = BTreeMap::new();
        }
        if ready_changes {
            self.heads.clear();
            let lanes: BTreeSet<u64> = self.lanes.keys().map(|(lane, _)| *lane).collect();
            lanes.into_iter().for_each(|lane| self.head(lane));
        }
    }

    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The oldest event that waits, whenever it is tried; a replay waits since somebody asked for it, and does not count.
    pub fn oldest(&self) -> Option<Position> {
        self.lanes.values().filter(|waiting| !waiting.replay).map(|waiting| waiting.position).min()
    }

    pub fn state(&self) -> &EndpointState {
        &self.state
    }

    /// Adds a waiting event; one that is there already is replaced. A due time from a clock that was ahead is cut.
    pub fn push(&mut self, mut waiting: Waiting, now: Timestamp) {
        waiting.lane = match self.rules.order {
            DeliveryOrder::Key => waiting.lane,
            DeliveryOrder::Bridge => waiting.lane & LANE_OF_BRIDGE,
            // No two events share a place.
            DeliveryOrder::None => waiting.position.pack << 16 | u64::from(waiting.position.index),
        };
        let furthest = match waiting.wait_ms {
            _ if waiting.attempts == 0 => now,
            WAIT_UNKNOWN => now.plus(self.furthest()),
            wait_ms => now.plus_ms(wait_ms.into()),
        };
        waiting.due = waiting.due.min(furthest);
        if self.state.next_attempt.is_some() && is_fresh(&waiting) {
            self.fresh = Some(waiting.lane);
        }
        self.unhead(waiting.lane);
        self.lanes.insert((waiting.lane, waiting.position), waiting);
        self.head(waiting.lane);
    }

    /// The longest wait that this queue itself can have made, for those that nobody noted.
    fn furthest(&self) -> Duration {
        let longest = self.rules.schedule.iter().max().copied().unwrap_or_default();
        longest.mul_f64(1.0 + JITTER).max(HINT_MAX)
    }

    /// Times that were stored under a clock that was ahead lie in the future of one that is right.
    pub fn clamp(&mut self, now: Timestamp) {
        let furthest = self.state.wait_ms.map_or(now.plus(self.furthest()), |wait_ms| now.plus_ms(wait_ms.into()));
        self.state.failing_since = self.state.failing_since.map(|since| since.min(now));
        self.state.next_attempt = self.state.next_attempt.map(|at| at.min(furthest));
    }

    /// The wall clock was set: what is waited for, and for how long something fails, stays as long as it was.
    pub fn shift(&mut self, ms: i64) {
        let move_it = |at: &mut Option<Timestamp>| *at = at.map(|at| at.plus_ms(ms));
        move_it(&mut self.state.failing_since);
        move_it(&mut self.state.next_attempt);
        move_it(&mut self.failed_at);
        move_it(&mut self.tried_at);
        self.left = self.left.map(|(left, until)| (left, until.plus_ms(ms)));
        self.gate.shift(ms);
        self.heads.clear();
        self.parked.values_mut().for_each(|parked| parked.heads.clear());
        let mut lanes = BTreeSet::new();
        for ((lane, _), waiting) in &mut self.lanes {
            waiting.due = waiting.due.plus_ms(ms);
            lanes.insert(*lane);
        }
        lanes.into_iter().for_each(|lane| self.head(lane));
    }

    /// The next attempt to make now, if there is one; its lanes are in flight from then on.
    pub fn next(&mut self, now: Timestamp) -> Option<Job> {
        if self.wake(now)? > now {
            return None;
        }
        self.unpark(now);
        let probe = self.state.next_attempt.is_some();
        let early = self.state.next_attempt.is_some_and(|at| at > now);
        let has_probe = probe && self.heads.first().is_some_and(|(due, ..)| *due <= now);
        let parked = if has_probe { None } else { self.ask_parked(now) };
        // One that is held, and not down, takes what it took before.
        let events = match self.rules.batch {
            Some(batch) if parked.is_none() && (!probe || self.state.held) => self.gather(now, batch.max),
            _ => {
                let lane = match &parked {
                    Some((_, lane)) => *lane,
                    None if probe => self.probe(now, early)?,
                    None => self.heads.first().map(|(.., lane)| *lane)?,
                };
                self.lane_events(lane).take(if self.rules.coalesce { COALESCE_MAX } else { 1 }).collect()
            }
        };
        let (era, found, parked) = (self.era, self.found, parked.map(|(origin, _)| origin));
        let gate = self.rules.by_origin.then(|| self.gate.clone());
        let mut job = Job { events, era, probe, early, last: false, found, gate, pass: None, parked };
        for lane in job.lanes() {
            self.unhead(lane);
            self.flying.insert(lane);
        }
        self.flights += 1;
        self.left = self.left.filter(|(_, until)| *until > now).map(|(left, until)| (left.saturating_sub(1), until));
        job.last = probe || job.parked.is_some() || self.heads.first().is_none_or(|(ready, ..)| *ready > now);
        Some(job)
    }

    /// A lane's events that may go in one request: one that was refused, and one that is sent again by hand, go alone.
    fn lane_events(&self, lane: u64) -> impl Iterator<Item = Waiting> {
        let mut events = self.lanes.range((lane, START)..=(lane, END)).map(|(_, waiting)| *waiting);
        let first = events.next();
        let alone = first.is_none_or(|first| self.goes_alone(&first));
        first.into_iter().chain(events.take_while(move |waiting| !alone && !self.goes_alone(waiting)))
    }

    /// What a batch would hold now.
    fn gather(&self, now: Timestamp, max: usize) -> Vec<Waiting> {
        let wait = self.rules.batch.map(|batch| batch.wait).unwrap_or_default();
        let furthest = now.plus(wait);
        let mut events: Vec<Waiting> = Vec::new();
        for (ready, position, lane) in self.heads.iter().take_while(|(ready, ..)| *ready <= furthest) {
            let Some(head) = self.lanes.get(&(*lane, *position)) else { continue };
            if self.goes_alone(head) && *ready <= now && events.is_empty() {
                return vec![*head];
            }
            if !self.goes_alone(head) && head.due <= now {
                events.extend(self.lane_events(*lane).take(max - events.len()));
            }
            if events.len() >= max {
                break;
            }
        }
        // Updates of one record stay together where they become one; all else goes as it was committed.
        if !self.rules.coalesce {
            events.sort_by_key(|waiting| waiting.position);
        }
        events
    }

    /// The lane after the last probed one, of those that are due; rather one whose next event has not taken the endpoint
    /// down. Before its time it is that of the new event.
    fn probe(&mut self, now: Timestamp, early: bool) -> Option<u64> {
        self.tried_at = Some(now);
        let fresh = self.fresh.take().filter(|_| early);
        let fresh = fresh.filter(|lane| self.first(*lane).is_some_and(|head| is_fresh(head) && head.due <= now));
        let (.., first_due) = *self.heads.first().filter(|(due, ..)| *due <= now)?;
        let due_after = |clean: bool| {
            let mut lane = self.probed;
            for _ in 0..PROBE_LOOKS {
                lane = self.lane_after(lane)?;
                let (_, head) = self.lanes.range((lane, START)..).next()?;
                if head.due <= now && !(clean && self.downs.contains_key(&head.position)) {
                    return Some(lane);
                }
            }
            None
        };
        let lane = fresh.or_else(|| due_after(true)).or_else(|| due_after(false)).unwrap_or(first_due);
        self.probed = lane;
        Some(lane)
    }

    /// The next lane in order, from the last to the first.
    fn lane_after(&self, lane: u64) -> Option<u64> {
        let after = lane.checked_add(1).and_then(|from| self.lanes.range((from, START)..).next());
        after.or_else(|| self.lanes.iter().next()).map(|((lane, _), _)| *lane)
    }

    /// When something can be sent next; `None` while nothing can.
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.state.disabled.is_some() || self.flights >= self.rules.in_flight_max {
            return None;
        }
        let first = self.heads.first().map(|(ready, ..)| *ready).into_iter().chain(self.parked_at(now)).min()?;
        if let Some((0, until)) = self.left.filter(|(_, until)| *until > now) {
            return Some(until.max(first).max(self.state.next_attempt.unwrap_or(until)));
        }
        match (self.state.next_attempt, self.rules.batch) {
            (Some(_), _) if self.flights > 0 => None,
            (Some(at), _) => Some(self.probe_at(at).max(first).max(now)),
            (None, Some(batch)) if self.lanes.len() >= batch.max && self.gather(now, batch.max).len() >= batch.max => {
                Some(now)
            }
            (None, _) => Some(first.max(now)),
        }
    }

    /// When a parked event may go.
    fn parked_at(&self, now: Timestamp) -> Option<Timestamp> {
        let at = |(origin, parked): (&String, &Parked)| {
            let (ready, ..) = parked.heads.first().filter(|_| !parked.is_asked)?;
            match self.gate.opens(origin, now) {
                Opens::Now => Some((*ready).max(now)),
                Opens::At(at) => Some(at.max(*ready)),
                Opens::Later => None,
            }
        };
        self.parked.iter().filter_map(at).min()
    }

    /// What was parked for an origin that is not waited for any more goes as all else does.
    fn unpark(&mut self, now: Timestamp) {
        let open = |origin: &&String| self.gate.opens(origin, now) == Opens::Now;
        let open: Vec<String> = self.parked.keys().filter(open).cloned().collect();
        for origin in open {
            let Some(parked) = self.parked.get_mut(&origin) else { continue };
            let heads = std::mem::take(&mut parked.heads);
            if !parked.is_asked {
                self.parked.remove(&origin);
            }
            for (_, position, _) in &heads {
                self.aims.remove(position);
            }
            self.heads.extend(heads);
        }
    }

    /// The origin that may be asked whether it is back, and the lane after the last that asked it.
    fn ask_parked(&mut self, now: Timestamp) -> Option<(String, u64)> {
        for (origin, parked) in &mut self.parked {
            if parked.is_asked || !matches!(self.gate.opens(origin, now), Opens::At(at) if at <= now) {
                continue;
            }
            let is_due = |head: &&Head| head.0 <= now;
            let after = parked.last.and_then(|last| parked.heads.range((Excluded(last), Unbounded)).next());
            let Some(head) = after.filter(is_due).or(parked.heads.first().filter(is_due)).copied() else { continue };
            (parked.last, parked.is_asked) = (Some(head), true);
            return Some((origin.clone(), head.2));
        }
        None
    }

    /// When the next probe may go that is due at a time: earlier where there is a new event, unless the receiver named the time.
    fn probe_at(&self, due: Timestamp) -> Timestamp {
        if self.fresh.is_none() || self.state.asked {
            return due;
        }
        self.tried_at.map_or(due, |tried| due.min(tried.plus(FRESH_PROBE_EVERY)))
    }

    /// An attempt is durable: its lanes go on.
    pub fn recorded(&mut self, job: &Job) {
        self.flights = self.flights.saturating_sub(1);
        self.settling = self.settling.saturating_sub(1);
        if self.flights == 0 && self.left.is_some_and(|(left, _)| left == 0) {
            // None of those that it was kept for said that it is used up.
            self.left = self.left.map(|(_, until)| (1, until));
        }
        if let Some(parked) = job.parked.as_ref().and_then(|origin| self.parked.get_mut(origin)) {
            parked.is_asked = false;
        }
        for lane in job.lanes() {
            self.flying.remove(&lane);
            self.head(lane);
        }
        self.parked.retain(|_, parked| parked.is_asked || !parked.heads.is_empty());
    }

    /// By hand. Enabling starts again, at once.
    pub fn enable(&mut self, enable: bool, now: Timestamp) {
        if enable {
            // Nothing is delivered by that.
            self.state = EndpointState { refusing: self.state.refusing, ..EndpointState::default() };
            self.failed_at = None;
            (self.left, self.fresh) = (None, None);
            self.era += 1;
            self.gate.open_all();
            self.aims.clear();
            for parked in self.parked.values_mut() {
                self.heads.append(&mut parked.heads);
            }
            self.try_now(now);
        } else {
            self.state.disabled = Some(BY_HAND.into());
        }
    }

    /// Its file has changed, which may be the cure: what waits is tried at once, unless the receiver named the time.
    pub fn may_be_cured(&mut self, now: Timestamp) {
        if self.state.disabled.is_none() && !self.state.asked {
            self.state.next_attempt = self.state.next_attempt.map(|at| at.min(now));
            self.try_now(now);
        }
    }

    /// The first event of each lane is due.
    fn try_now(&mut self, now: Timestamp) {
        let lanes: BTreeSet<u64> = self.lanes.keys().map(|(lane, _)| *lane).collect();
        for lane in lanes {
            self.unhead(lane);
            if let Some((_, waiting)) = self.lanes.range_mut((lane, START)..).next() {
                waiting.due = waiting.due.min(now);
            }
            self.head(lane);
        }
    }

    /// From when on an event may go alone: in batches a fresh one waits for others.
    fn ready(&self, waiting: &Waiting) -> Timestamp {
        match self.rules.batch {
            Some(batch) if waiting.attempts == 0 && !waiting.replay => waiting.due.plus(batch.wait),
            _ => waiting.due,
        }
    }

    /// What was refused, or took the endpoint down twice, may be what is wrong; what an admin sends again goes under its own id.
    fn goes_alone(&self, waiting: &Waiting) -> bool {
        let downs = self.downs.get(&waiting.position).map_or(0, |downs| downs.times);
        waiting.refusals > 0 || waiting.replay || downs > 1
    }

    /// A lane's next event.
    fn first(&self, lane: u64) -> Option<&Waiting> {
        self.lanes.range((lane, START)..=(lane, END)).next().map(|(_, first)| first)
    }

    fn unhead(&mut self, lane: u64) {
        if let Some((_, first)) = self.lanes.range((lane, START)..=(lane, END)).next() {
            let head = (self.ready(first), first.position, lane);
            self.heads.remove(&head);
            if let Some(parked) = self.aims.get(&first.position).and_then(|origin| self.parked.get_mut(origin)) {
                parked.heads.remove(&head);
            }
        }
    }

    fn head(&mut self, lane: u64) {
        if self.flying.contains(&lane) {
            return;
        }
        if let Some((_, first)) = self.lanes.range((lane, START)..=(lane, END)).next() {
            let head = (self.ready(first), first.position, lane);
            let aim = self.aims.get(&first.position).filter(|origin| self.gate.is_kept(origin));
            let heads = aim.map(|origin| &mut self.parked.entry(origin.clone()).or_default().heads);
            heads.unwrap_or(&mut self.heads).insert(head);
        }
    }
}

const START: Position = Position { pack: 0, index: 0 };
const END: Position = Position { pack: u64::MAX, index: u16::MAX };

#[cfg(test)]
mod tests;
