//! What is polled when: due times, a line of those that are due, and how many of one origin are polled at once.
//!
//! Pure: it is told what time it is, and whether a bridge can start, and knows nothing else of bridges.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

use tokio::time::Instant;

use crate::model::Name;

/// Where a bridge is in the line; its owner keeps it beside the bridge.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Of the heap's entry that counts; older ones are void.
    generation: u64,
    /// In line, for a place among the polls in flight or at its origin.
    queued: bool,
}

/// The polls of one origin: those in flight, and the bridges that wait for one of their places.
#[derive(Debug, Default)]
struct Crowd {
    in_flight: usize,
    waiting: VecDeque<Name>,
}

#[derive(Debug)]
pub(super) struct Line {
    in_flight_max: usize,
    in_flight: usize,
    due: BinaryHeap<Reverse<(Instant, u64, Name)>>,
    generation: u64,
    ready: VecDeque<Name>,
    crowds: HashMap<String, Crowd>,
}

impl Line {
    pub fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight_max,
            in_flight: 0,
            due: BinaryHeap::new(),
            generation: 0,
            ready: VecDeque::new(),
            crowds: HashMap::new(),
        }
    }

    /// A number that was not given before.
    pub fn number(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// When something is due next.
    pub fn wake(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// Makes a bridge due at a time. Its entries of before are void, also where no time follows.
    pub fn arm(&mut self, name: &Name, place: &mut Place, at: Option<Instant>) {
        place.generation = self.number();
        if let Some(at) = at {
            self.due.push(Reverse((at, place.generation, name.clone())));
        }
    }

    /// The next bridge whose time has come, and the generation that it had then.
    pub fn fired(&mut self, now: Instant) -> Option<(Name, u64)> {
        let Reverse((at, ..)) = self.due.peek()?;
        if *at > now {
            return None;
        }
        self.due.pop().map(|Reverse((_, generation, name))| (name, generation))
    }

    /// Puts a bridge at the end of the line.
    pub fn queue(&mut self, name: Name, place: &mut Place) {
        place.queued = true;
        self.ready.push_back(name);
    }

    /// Who is first in line, while there are places.
    pub fn next(&mut self) -> Option<Name> {
        if self.in_flight < self.in_flight_max { self.ready.pop_front() } else { None }
    }

    /// Whether an origin has a place for one more. Else the bridge waits there and leaves its place in line to others.
    pub fn enters(&mut self, origin: &str, per_host: usize, name: &Name, place: &mut Place) -> bool {
        let crowd = self.crowds.entry(origin.to_owned()).or_default();
        if crowd.in_flight < per_host {
            return true;
        }
        place.queued = true;
        crowd.waiting.push_back(name.clone());
        false
    }

    /// Work on a bridge begins.
    pub fn begin(&mut self, origin: Option<&str>) {
        self.in_flight += 1;
        if let Some(origin) = origin {
            self.crowds.entry(origin.to_owned()).or_default().in_flight += 1;
        }
    }

    /// Work on a bridge has ended: of those that wait at its origin, the first that `can_start` is next in line.
    pub fn end(&mut self, origin: Option<&str>, mut can_start: impl FnMut(&Name) -> bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some((origin, crowd)) = origin.and_then(|origin| Some((origin, self.crowds.get_mut(origin)?))) else {
            return;
        };
        crowd.in_flight = crowd.in_flight.saturating_sub(1);
        while let Some(next) = crowd.waiting.pop_front() {
            if can_start(&next) {
                self.ready.push_front(next);
                return;
            }
        }
        if crowd.in_flight == 0 {
            self.crowds.remove(origin);
        }
    }

    /// Whoever waits at an origin is in line again: which bridges there are, and where they ask, has changed.
    pub fn disperse(&mut self) {
        for crowd in self.crowds.values_mut() {
            self.ready.extend(crowd.waiting.drain(..));
        }
    }
}

impl Place {
    /// Whether an entry that fired still counts.
    pub fn counts(&self, generation: u64) -> bool {
        self.generation == generation && !self.queued
    }

    /// It left the line.
    pub fn leave(&mut self) {
        self.queued = false;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    /// What happens to a line of eight bridges at three origins.
    #[derive(Debug, Clone)]
    enum Act {
        Arm(usize, u64),
        Void(usize),
        /// Time passes.
        Pass(u64),
        /// The oldest work ends.
        End,
        Pause(usize),
        Resume(usize),
        Disperse,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0..8_usize, 0..50_u64).prop_map(|(bridge, after)| Act::Arm(bridge, after)),
            1 => (0..8_usize).prop_map(Act::Void),
            4 => (0..20_u64).prop_map(Act::Pass),
            4 => Just(Act::End),
            1 => (0..8_usize).prop_map(Act::Pause),
            1 => (0..8_usize).prop_map(Act::Resume),
            1 => Just(Act::Disperse),
        ]
    }

    /// A runner in small: the line, and what it says of each bridge.
    struct Model {
        line: Line,
        now: Instant,
        places: BTreeMap<Name, Place>,
        /// Since when a bridge is due and not started.
        armed: BTreeMap<Name, Instant>,
        paused: Vec<Name>,
        working: VecDeque<Name>,
    }

    const IN_FLIGHT: usize = 3;
    const PER_HOST: usize = 2;

    fn name(bridge: usize) -> Name {
        format!("b{bridge}").into()
    }

    fn origin(name: &Name) -> String {
        let bridge: usize = name[1..].parse().expect("a number");
        format!("o{}", bridge % 3)
    }

    impl Model {
        fn new() -> Self {
            Self {
                line: Line::new(IN_FLIGHT),
                now: Instant::now(),
                places: (0..8).map(|bridge| (name(bridge), Place::default())).collect(),
                armed: BTreeMap::new(),
                paused: Vec::new(),
                working: VecDeque::new(),
            }
        }

        fn can_start(&self, name: &Name) -> bool {
            !self.paused.contains(name) && !self.working.contains(name)
        }

        fn start(&mut self) {
            while let Some((name, generation)) = self.line.fired(self.now) {
                let place = self.places.get_mut(&name).expect("known");
                if place.counts(generation) {
                    self.line.queue(name, place);
                }
            }
            while let Some(name) = self.line.next() {
                let can_start = self.can_start(&name);
                let place = self.places.get_mut(&name).expect("known");
                place.leave();
                if !can_start {
                    self.armed.remove(&name);
                    continue;
                }
                if self.line.enters(&origin(&name), PER_HOST, &name, place) {
                    self.line.begin(Some(&origin(&name)));
                    assert!(self.armed.remove(&name).is_some_and(|at| at <= self.now), "{name} was not due");
                    self.working.push_back(name);
                }
            }
        }

        fn end(&mut self) {
            let Some(name) = self.working.pop_front() else { return };
            let (paused, working) = (&self.paused, &self.working);
            let (places, armed) = (&mut self.places, &mut self.armed);
            self.line.end(Some(&origin(&name)), |next| {
                let can = !paused.contains(next) && !working.contains(next);
                if !can {
                    places.get_mut(next).expect("known").leave();
                    armed.remove(next);
                }
                can
            });
        }

        fn act(&mut self, act: &Act) {
            match act {
                // As the runner does it: what is worked on, or in line, is armed when that has ended.
                Act::Arm(bridge, after) => {
                    let (name, at) = (name(*bridge), self.now + Duration::from_secs(*after));
                    let place = self.places.get_mut(&name).expect("known");
                    if !place.queued && !self.working.contains(&name) {
                        self.line.arm(&name, place, Some(at));
                        self.armed.insert(name, at);
                    }
                }
                Act::Void(bridge) => {
                    let name = name(*bridge);
                    let place = self.places.get_mut(&name).expect("known");
                    if !place.queued {
                        self.line.arm(&name, place, None);
                        self.armed.remove(&name);
                    }
                }
                Act::Pass(seconds) => self.now += Duration::from_secs(*seconds),
                Act::End => self.end(),
                Act::Pause(bridge) => self.paused.push(name(*bridge)),
                Act::Resume(bridge) => self.paused.retain(|paused| *paused != name(*bridge)),
                Act::Disperse => self.line.disperse(),
            }
            self.start();
            assert!(self.working.len() <= IN_FLIGHT, "{:?}", self.working);
            for host in 0..3 {
                let there = self.working.iter().filter(|name| origin(name) == format!("o{host}")).count();
                assert!(there <= PER_HOST, "{:?}", self.working);
            }
            let waits = |name: &&Name| self.armed.get(*name).is_some_and(|at| *at <= self.now) && self.can_start(name);
            let idle: Vec<&Name> = self.places.keys().filter(waits).collect();
            let has_room = |name: &&&Name| {
                let there = self.working.iter().filter(|other| origin(other) == origin(name)).count();
                there < PER_HOST && self.working.len() < IN_FLIGHT
            };
            assert!(!idle.iter().any(|name| has_room(&name)), "{idle:?} could start beside {:?}", self.working);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// No more at once than there may be, none before its time, and none waits while it could start.
        #[test]
        fn what_is_due_starts_as_soon_as_it_can(acts in proptest::collection::vec(act(), 1..120)) {
            let mut model = Model::new();
            acts.iter().for_each(|act| model.act(act));
            // At the end of the day everybody had a turn.
            model.paused.clear();
            for _ in 0..20 {
                model.act(&Act::Pass(60));
                model.act(&Act::End);
            }
            prop_assert!(model.armed.is_empty(), "{:?}", model.armed);
        }
    }

    #[test]
    fn the_earliest_is_first_and_older_entries_are_void() {
        let (mut line, now) = (Line::new(2), Instant::now());
        let (a, b) = (name(0), name(1));
        let (mut at_a, mut at_b) = (Place::default(), Place::default());
        line.arm(&a, &mut at_a, Some(now + Duration::from_secs(1)));
        line.arm(&b, &mut at_b, Some(now + Duration::from_secs(2)));
        line.arm(&a, &mut at_a, Some(now + Duration::from_secs(3)));
        assert_eq!(line.wake(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(5);
        let fired: Vec<(Name, bool)> = std::iter::from_fn(|| line.fired(later))
            .map(|(name, generation)| {
                let counts = if name == a { at_a.counts(generation) } else { at_b.counts(generation) };
                (name, counts)
            })
            .collect();
        assert_eq!(fired, [(a.clone(), false), (b, true), (a, true)]);
        assert_eq!(line.wake(), None);
    }
}
