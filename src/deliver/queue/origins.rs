//! How the origins stand that an endpoint's events go to, where jq makes `url`. Pure.
//!
//! Where an event goes is known when its URL is made, at the attempt. It then enters its origin by [`Gate::enter`],
//! or is turned away and waits with the others of that origin. Only an origin that is waited for, or that has an
//! attempt under way, is kept.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{FRESH_PROBE_EVERY, Room, wait_ms};
use crate::{model::Timestamp, store::OriginState};

/// Origins of one endpoint that are waited for, at the most: they are a part of its state, which is written when one
/// of them changes. Events of further ones wait for themselves.
pub const ORIGINS_MAX: usize = 100;
/// Of an origin's error.
const ERROR_CHARS: usize = 200;
/// An origin that no event goes to any more is forgotten so long after its time.
const KEPT_AFTER: Duration = Duration::from_secs(60 * 60);

/// Shared by a queue and the attempts that it hands out.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<Origins>>);

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Debug, Default)]
struct Origins {
    all: BTreeMap<String, Origin>,
    /// How often one of them was told to be waited for.
    era: u64,
}

#[derive(Debug, Default)]
struct Origin {
    state: OriginState,
    /// The era in which it was last told to be waited for: attempts that entered before say nothing newer.
    era: u64,
    /// Attempts under way.
    inside: usize,
    /// How many requests it still takes, and until when it said so.
    left: Option<(u64, Timestamp)>,
    tried_at: Option<Timestamp>,
}

/// When an event of an origin may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// All of them may, now.
    Now,
    /// One of them may, from then on.
    At(Timestamp),
    /// One is under way; its answer decides.
    Later,
}

/// An attempt that entered an origin. It leaves at the latest when it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    pub origin: String,
    era: u64,
    /// Sent to see whether the origin is back.
    pub probe: bool,
    /// A probe before its time, since there is a new event.
    early: bool,
    has_left: AtomicBool,
}

impl PartialEq for Pass {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Pass {
    /// Its attempt is over.
    pub fn leave(&self) {
        if !self.has_left.swap(true, Ordering::Relaxed) {
            let mut origins = self.gate.lock();
            if let Some(origin) = origins.all.get_mut(&self.origin) {
                origin.inside = origin.inside.saturating_sub(1);
            }
            origins.tidy(&self.origin);
        }
    }
}

impl Origin {
    fn is_kept(&self) -> bool {
        self.state.next_attempt.is_some() || self.left.is_some()
    }

    fn opens(&self, now: Timestamp) -> Opens {
        let spent = self.left.filter(|(left, until)| *left == 0 && *until > now).map(|(_, until)| until);
        match self.state.next_attempt.max(spent) {
            Some(_) if self.inside > 0 => Opens::Later,
            Some(at) => Opens::At(at),
            None => Opens::Now,
        }
    }

    fn wait_until(&mut self, now: Timestamp, wait: Duration, asked: bool) {
        self.state.next_attempt = Some(now.plus(wait));
        self.state.wait_ms = Some(wait_ms(wait));
        self.state.asked = asked;
    }
}

impl Origins {
    /// Drops an origin that nothing is known of any more.
    fn tidy(&mut self, name: &str) {
        if self.all.get(name).is_some_and(|origin| origin.inside == 0 && !origin.is_kept()) {
            self.all.remove(name);
        }
    }

    /// Whether one more may be waited for.
    fn has_room(&self, name: &str) -> bool {
        let kept = |(known, origin): &(&String, &Origin)| *known != name && origin.is_kept();
        self.all.iter().filter(kept).count() < ORIGINS_MAX
    }
}

impl Gate {
    /// As they are stored. Those whose receiver did not name the time are probed at once.
    pub fn found(states: &BTreeMap<String, OriginState>, now: Timestamp) -> Self {
        let known = |(name, state): (&String, &OriginState)| {
            let mut state = state.clone();
            let furthest = if state.asked { now.plus_ms(state.wait_ms.unwrap_or_default().into()) } else { now };
            state.next_attempt = state.next_attempt.map(|at| at.min(furthest));
            state.failing_since = state.failing_since.map(|since| since.min(now));
            (name.clone(), Origin { state, ..Origin::default() })
        };
        let all = states.iter().map(known).filter(|(_, origin)| origin.is_kept()).collect();
        Self(Arc::new(Mutex::new(Origins { all, era: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Origins> {
        self.0.lock().expect("no thread panics with it")
    }

    /// Lets an attempt to an origin go, or turns it away. One whose event is new may be a probe before its time.
    pub fn enter(&self, name: &str, is_fresh: bool, now: Timestamp) -> Option<Arc<Pass>> {
        let mut origins = self.lock();
        let era = origins.era;
        let origin = origins.all.entry(name.to_owned()).or_default();
        let opens = origin.opens(now);
        let soon = origin.tried_at.is_none_or(|tried| tried.plus(FRESH_PROBE_EVERY) <= now);
        let may_be_early = is_fresh && soon && !origin.state.asked && origin.state.next_attempt.is_some();
        let early = matches!(opens, Opens::At(at) if at > now && may_be_early);
        if !early && opens != Opens::Now && !matches!(opens, Opens::At(at) if at <= now) {
            return None;
        }
        let probe = origin.state.next_attempt.is_some();
        origin.tried_at = if probe { Some(now) } else { origin.tried_at };
        origin.left =
            origin.left.filter(|(_, until)| *until > now).map(|(left, until)| (left.saturating_sub(1), until));
        origin.inside += 1;
        let (gate, origin, has_left) = (self.clone(), name.to_owned(), AtomicBool::new(false));
        Some(Arc::new(Pass { gate, origin, era, probe, early, has_left }))
    }

    pub fn opens(&self, name: &str, now: Timestamp) -> Opens {
        self.lock().all.get(name).map_or(Opens::Now, |origin| origin.opens(now))
    }

    /// Whether its events wait for it.
    pub fn is_kept(&self, name: &str) -> bool {
        self.lock().all.get(name).is_some_and(Origin::is_kept)
    }

    /// It answered: whether it was waited for until now.
    pub fn answered(&self, pass: &Pass) -> bool {
        let mut origins = self.lock();
        let Some(origin) = origins.all.get_mut(&pass.origin).filter(|origin| pass.era >= origin.era) else {
            return false;
        };
        std::mem::take(&mut origin.state).next_attempt.is_some()
    }

    /// It did not answer, or takes nothing now: whether its events wait for it. `wait` is that of a step; `is_own`
    /// says that the event fails by itself.
    pub fn failed(
        &self,
        pass: &Pass,
        (error, asked): (&str, bool),
        is_own: bool,
        now: Timestamp,
        wait: impl Fn(u16) -> Duration,
    ) -> bool {
        let mut origins = self.lock();
        let (has_room, era) = (origins.has_room(&pass.origin), origins.era + 1);
        let Some(origin) = origins.all.get_mut(&pass.origin).filter(|_| has_room) else { return false };
        let is_waited_for = origin.state.next_attempt.is_some_and(|at| at > now);
        let is_older = pass.era < origin.era;
        let changes_nothing = !asked && (is_own || pass.early && is_waited_for);
        if !is_older && !changes_nothing {
            origin.wait_until(now, wait(origin.state.step), asked);
            origin.state.step = origin.state.step.saturating_add(u16::from(!asked));
            origin.state.held = false;
            origin.state.failing_since.get_or_insert(now);
            origin.state.last_error = Some(error.chars().take(ERROR_CHARS).collect());
            (origin.left, origin.tried_at, origin.era) = (None, Some(now), era);
            origins.era = era;
            return true;
        }
        let until = now.plus(wait(0));
        if asked && origin.state.next_attempt < Some(until) {
            origin.wait_until(now, wait(0), true);
        }
        !is_own && origin.is_kept()
    }

    /// What an answer says of the requests that follow; `wait` is what it asked for, with its jitter.
    pub fn heed(&self, pass: &Pass, room: &Room, now: Timestamp, wait: Duration) {
        let mut origins = self.lock();
        let (has_room, era) = (origins.has_room(&pass.origin), origins.era + 1);
        if !has_room || *room == Room::default() {
            return;
        }
        let origin = origins.all.entry(pass.origin.clone()).or_default();
        if room.wait.is_some() {
            let is_down = origin.state.is_down();
            if origin.state.next_attempt.is_none_or(|at| at < now.plus(wait)) {
                origin.wait_until(now, wait, true);
            }
            origin.state.held = !is_down;
            (origin.left, origin.era) = (None, era);
            origins.era = era;
        } else if let Some((left, reset)) = room.left.filter(|_| pass.era >= origin.era) {
            let under_way = u64::try_from(origin.inside).unwrap_or(u64::MAX);
            origin.left = Some((left.saturating_sub(under_way), now.plus(reset)));
        }
    }

    /// Those that are waited for, as they are stored. One that nobody goes to any more is dropped.
    pub fn states(&self, is_gone_to: impl Fn(&str) -> bool, now: Timestamp) -> BTreeMap<String, OriginState> {
        let mut origins = self.lock();
        origins.all.retain(|name, origin| {
            origin.left = origin.left.filter(|(_, until)| *until > now);
            let is_late = origin.state.next_attempt.is_none_or(|at| at.plus(KEPT_AFTER) <= now);
            origin.inside > 0 || origin.left.is_some() || !is_late || is_gone_to(name) && origin.is_kept()
        });
        let waited_for = origins.all.iter().filter(|(_, origin)| origin.state.next_attempt.is_some());
        waited_for.map(|(name, origin)| (name.clone(), origin.state.clone())).collect()
    }

    /// The wall clock was set.
    pub fn shift(&self, ms: i64) {
        for origin in self.lock().all.values_mut() {
            let OriginState { failing_since, next_attempt, .. } = &mut origin.state;
            for at in [failing_since, next_attempt, &mut origin.tried_at] {
                *at = at.map(|at| at.plus_ms(ms));
            }
            origin.left = origin.left.map(|(left, until)| (left, until.plus_ms(ms)));
        }
    }

    /// By hand: nothing is waited for.
    pub fn open_all(&self) {
        let mut origins = self.lock();
        origins.era += 1;
        let era = origins.era;
        origins.all.retain(|_, origin| {
            (origin.state, origin.left, origin.era) = (OriginState::default(), None, era);
            origin.inside > 0
        });
    }

    /// How many are kept.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.lock().all.len()
    }
}
