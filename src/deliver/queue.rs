//! An endpoint's queue: which event is sent next, and what an answer means for it and for the endpoint. Pure.
//!
//! Events of one record are a lane: the next is not sent before the last is delivered or dead. An endpoint that is down
//! (no answer, 429, 502, 503, 504) backs off as a whole, with one probe at a time that rotates over the lanes, and no
//! event dies of it. Any other refusal counts against the event alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    model::Timestamp,
    schedule::HINT_MAX,
    store::{EndpointState, Outcome, Position, Waiting},
};

/// Why an endpoint is disabled that an admin disabled.
pub const BY_HAND: &str = "by hand";
/// Jitter only adds to a wait, up to this share: receivers that failed together are not asked together.
const JITTER: f64 = 0.2;

/// Lanes that are looked at for a probe, before the one that waits longest is taken.
const PROBE_LOOKS: usize = 64;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// 2xx.
    Taken,
    /// No answer, or one that speaks of the endpoint rather than of the event.
    Down { error: String, retry_after: Option<Duration> },
    /// The event was refused.
    Refused { error: String, retry_after: Option<Duration> },
    /// 410, or `webhook-delivery: disable`; with a 2xx the event was taken all the same.
    Gone { error: String, taken: bool },
    /// The event's body is no longer stored: nothing can be sent.
    Lost,
}

/// One attempt to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub waiting: Waiting,
    /// When it was taken: failures of attempts from before a backoff do not lengthen it.
    pub taken: Timestamp,
    /// Sent to see whether the endpoint is back.
    pub probe: bool,
}

#[derive(Debug)]
pub struct Queue {
    schedule: Vec<Duration>,
    disable_after: Duration,
    in_flight_max: usize,
    state: EndpointState,
    lanes: BTreeMap<(u64, Position), Waiting>,
    /// The first of each lane that has nothing in flight, by due time.
    heads: BTreeSet<(Timestamp, Position, u64)>,
    in_flight: HashMap<u64, Position>,
    /// The lane that was probed last.
    probed: u64,
    /// When the endpoint last went down.
    down_since: Option<Timestamp>,
    /// How often the endpoint went down with an event that was no probe. One that does it again and again is poison: it
    /// waits for itself, so that it does not hold up the rest. In memory only.
    downs: HashMap<Position, u16>,
}

impl Queue {
    pub fn new(schedule: Vec<Duration>, disable_after: Duration, in_flight_max: usize, state: EndpointState) -> Self {
        Self {
            schedule,
            disable_after,
            in_flight_max,
            state,
            lanes: BTreeMap::new(),
            heads: BTreeSet::new(),
            in_flight: HashMap::new(),
            probed: 0,
            down_since: None,
            downs: HashMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// When the oldest event that may go next was committed; replays have no such time.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.heads.iter().map(|(due, ..)| *due).find(|due| *due > Timestamp(0))
    }

    pub fn state(&self) -> &EndpointState {
        &self.state
    }

    /// Adds a waiting event; one that is there already is replaced. A due time from a clock that was ahead is cut.
    pub fn push(&mut self, mut waiting: Waiting, now: Timestamp) {
        let furthest = if waiting.attempts == 0 { now } else { now.plus(self.furthest()) };
        waiting.due = waiting.due.min(furthest);
        self.unhead(waiting.lane);
        self.lanes.insert((waiting.lane, waiting.position), waiting);
        self.head(waiting.lane);
    }

    /// The longest wait that this queue itself can have made.
    fn furthest(&self) -> Duration {
        let longest = self.schedule.iter().max().copied().unwrap_or_default();
        longest.mul_f64(1.0 + JITTER).max(HINT_MAX)
    }

    /// Times that were stored under a clock that was ahead lie in the future of one that is right.
    pub fn clamp(&mut self, now: Timestamp) {
        let furthest = now.plus(self.furthest());
        self.state.failing_since = self.state.failing_since.map(|since| since.min(now));
        self.state.next_attempt = self.state.next_attempt.map(|at| at.min(furthest));
    }

    /// The wall clock was set: what is waited for, and for how long something fails, stays as long as it was.
    pub fn shift(&mut self, ms: i64) {
        let move_it = |at: &mut Option<Timestamp>| *at = at.map(|at| at.plus_ms(ms));
        move_it(&mut self.state.failing_since);
        move_it(&mut self.state.next_attempt);
        move_it(&mut self.down_since);
        self.heads.clear();
        let mut lanes = BTreeSet::new();
        for ((lane, _), waiting) in &mut self.lanes {
            waiting.due = waiting.due.plus_ms(ms);
            lanes.insert(*lane);
        }
        lanes.into_iter().for_each(|lane| self.head(lane));
    }

    /// The next attempt to make now, if there is one; its lane is in flight from then on.
    pub fn next(&mut self, now: Timestamp) -> Option<Job> {
        if self.state.disabled.is_some() || self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let probe = match self.state.next_attempt {
            Some(at) if at > now || !self.in_flight.is_empty() => return None,
            next_attempt => next_attempt.is_some(),
        };
        let lane = if probe {
            self.probe(now)?
        } else {
            self.heads.first().filter(|(due, ..)| *due <= now).map(|(.., lane)| *lane)?
        };
        let waiting = *self.lanes.range((lane, START)..).next()?.1;
        self.unhead(lane);
        self.in_flight.insert(lane, waiting.position);
        Some(Job { waiting, taken: now, probe })
    }

    /// The lane after the last probed one, of those that are due; rather one whose next event has not taken the endpoint
    /// down.
    fn probe(&mut self, now: Timestamp) -> Option<u64> {
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
        let lane = due_after(true).or_else(|| due_after(false)).unwrap_or(first_due);
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
        if self.state.disabled.is_some() || self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let (first, ..) = self.heads.first()?;
        match self.state.next_attempt {
            Some(_) if !self.in_flight.is_empty() => None,
            Some(at) => Some(at.max(*first).max(now)),
            None => Some((*first).max(now)),
        }
    }

    /// What an attempt led to. The lane stays in flight until [`Queue::recorded`]. `random` is from 0 to 1.
    pub fn settle(&mut self, job: &Job, answered: &Answered, now: Timestamp, random: f64) -> Outcome {
        let outcome = self.decide(job, answered, now, random);
        let key = (job.waiting.lane, job.waiting.position);
        match outcome {
            Outcome::Delivered | Outcome::Dead => {
                self.lanes.remove(&key);
                self.downs.remove(&job.waiting.position);
                if self.lanes.is_empty() && outcome == Outcome::Dead {
                    // Nothing is left that it could fail with.
                    (self.state.failing_since, self.state.last_error) = (None, None);
                }
            }
            Outcome::Retry { due, refusals } => {
                if let Some(waiting) = self.lanes.get_mut(&key) {
                    (waiting.due, waiting.refusals) = (due, refusals);
                    waiting.attempts = waiting.attempts.saturating_add(1);
                }
            }
        }
        outcome
    }

    fn decide(&mut self, job: &Job, answered: &Answered, now: Timestamp, random: f64) -> Outcome {
        let refusals = job.waiting.refusals;
        match answered {
            Answered::Taken => {
                self.state = EndpointState { disabled: self.state.disabled.take(), ..EndpointState::default() };
                self.down_since = None;
                Outcome::Delivered
            }
            Answered::Lost => Outcome::Dead,
            Answered::Gone { error, taken } => {
                self.failed(error, now);
                self.state.disabled.get_or_insert_with(|| format!("the receiver asked for it: {error}"));
                if *taken { Outcome::Delivered } else { Outcome::Retry { due: job.waiting.due, refusals } }
            }
            Answered::Down { error, retry_after } => {
                self.failed(error, now);
                // Attempts that were under way when it went down fail with it; they are one failure.
                if self.down_since.is_none_or(|since| job.taken >= since) {
                    let wait = self.wait(self.state.step, *retry_after, random);
                    self.state.step = self.state.step.saturating_add(1);
                    self.state.next_attempt = Some(now.plus(wait));
                    self.down_since = Some(now);
                } else if let Some(wait) = retry_after {
                    self.state.next_attempt = self.state.next_attempt.max(Some(now.plus(*wait)));
                }
                self.disable_when_long(now);
                Outcome::Retry { due: self.due_after_down(job, now, random), refusals }
            }
            Answered::Refused { error, retry_after } => {
                self.failed(error, now);
                // It answers: what waits need not wait for this event.
                (self.state.step, self.state.next_attempt, self.down_since) = (0, None, None);
                self.disable_when_long(now);
                if usize::from(refusals) >= self.schedule.len() {
                    return Outcome::Dead;
                }
                let wait = self.wait(refusals, *retry_after, random);
                Outcome::Retry { due: now.plus(wait), refusals: refusals.saturating_add(1) }
            }
        }
    }

    /// The endpoint's backoff is wait enough, but for an event that takes it down again and again.
    fn due_after_down(&mut self, job: &Job, now: Timestamp, random: f64) -> Timestamp {
        if job.probe {
            return job.waiting.due;
        }
        let downs = self.downs.entry(job.waiting.position).or_default();
        *downs = downs.saturating_add(1);
        match *downs {
            1 => job.waiting.due,
            again => now.plus(self.wait(again - 1, None, random)),
        }
    }

    /// A step's wait, jittered upwards, and at least what the receiver asked for.
    fn wait(&self, step: u16, retry_after: Option<Duration>, random: f64) -> Duration {
        let last = self.schedule.last().copied().unwrap_or_default();
        let base = self.schedule.get(usize::from(step)).copied().unwrap_or(last);
        base.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0)).max(retry_after.unwrap_or_default())
    }

    fn failed(&mut self, error: &str, now: Timestamp) {
        self.state.failing_since.get_or_insert(now);
        self.state.last_error = Some(error.to_owned());
    }

    fn disable_when_long(&mut self, now: Timestamp) {
        let long = self.state.failing_since.is_some_and(|since| since.plus(self.disable_after) <= now);
        if long && self.state.disabled.is_none() {
            let why = format!("nothing was delivered for {}", crate::settings::units::show(self.disable_after));
            self.state.disabled = Some(why);
        }
    }

    /// The attempts of these events are durable: their lanes go on.
    pub fn recorded(&mut self, positions: &[Position]) {
        let done: Vec<u64> =
            self.in_flight.iter().filter(|(_, at)| positions.contains(at)).map(|(lane, _)| *lane).collect();
        for lane in done {
            self.in_flight.remove(&lane);
            self.head(lane);
        }
    }

    /// By hand. Enabling starts anew, at once.
    pub fn enable(&mut self, enable: bool, now: Timestamp) {
        if enable {
            self.state = EndpointState::default();
            self.down_since = None;
            let lanes: BTreeSet<u64> = self.lanes.keys().map(|(lane, _)| *lane).collect();
            for lane in lanes {
                self.unhead(lane);
                if let Some((_, waiting)) = self.lanes.range_mut((lane, START)..).next() {
                    waiting.due = waiting.due.min(now);
                }
                self.head(lane);
            }
        } else {
            self.state.disabled = Some(BY_HAND.into());
        }
    }

    fn unhead(&mut self, lane: u64) {
        if let Some((_, first)) = self.lanes.range((lane, START)..=(lane, END)).next() {
            self.heads.remove(&(first.due, first.position, lane));
        }
    }

    fn head(&mut self, lane: u64) {
        if self.in_flight.contains_key(&lane) {
            return;
        }
        if let Some((_, first)) = self.lanes.range((lane, START)..=(lane, END)).next() {
            self.heads.insert((first.due, first.position, lane));
        }
    }
}

const START: Position = Position { pack: 0, index: 0 };
const END: Position = Position { pack: u64::MAX, index: u16::MAX };

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn queue() -> Queue {
        Queue::new(vec![S(5), S(300), S(1800)], S(5 * 86_400), 8, EndpointState::default())
    }

    fn waiting(lane: u64, pack: u64) -> Waiting {
        let position = Position { pack, index: 0 };
        Waiting { position, lane, due: Timestamp(0), attempts: 0, refusals: 0, replay: false }
    }

    fn filled(events: &[(u64, u64)]) -> Queue {
        let mut queue = queue();
        events.iter().for_each(|(lane, pack)| queue.push(waiting(*lane, *pack), Timestamp(0)));
        queue
    }

    fn take(queue: &mut Queue, now: i64) -> Vec<(u64, u64, Job)> {
        std::iter::from_fn(|| queue.next(Timestamp(now)))
            .map(|j| (j.waiting.lane, j.waiting.position.pack, j))
            .collect()
    }

    fn end(queue: &mut Queue, job: &Job, answered: Answered, now: i64) -> Outcome {
        let outcome = queue.settle(job, &answered, Timestamp(now), 0.0);
        queue.recorded(&[job.waiting.position]);
        outcome
    }

    fn down() -> Answered {
        Answered::Down { error: "503".into(), retry_after: None }
    }

    fn refused() -> Answered {
        Answered::Refused { error: "400".into(), retry_after: None }
    }

    #[test]
    fn a_lane_has_one_in_flight_and_others_overtake() {
        let mut queue = filled(&[(1, 1), (1, 2), (2, 3), (1, 4)]);
        let first = take(&mut queue, 0);
        assert_eq!(first.iter().map(|(l, p, _)| (*l, *p)).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
        queue.settle(&first[0].2, &Answered::Taken, Timestamp(1), 0.0);
        assert!(take(&mut queue, 1).is_empty(), "not before the attempt is recorded");
        queue.recorded(&[first[0].2.waiting.position]);
        assert_eq!(take(&mut queue, 1).iter().map(|(l, p, _)| (*l, *p)).collect::<Vec<_>>(), [(1, 2)]);
    }

    #[test]
    fn a_refused_event_goes_through_its_schedule_and_dies_alone() {
        let mut queue = filled(&[(1, 1), (1, 2), (2, 3)]);
        let mut now = 0;
        let mut waits = Vec::new();
        loop {
            let jobs = take(&mut queue, now);
            let mut dead = false;
            for (lane, pack, job) in jobs {
                if (lane, pack) == (1, 1) {
                    match end(&mut queue, &job, refused(), now) {
                        Outcome::Retry { due, .. } => waits.push(due.0 - now),
                        outcome => {
                            assert_eq!(outcome, Outcome::Dead);
                            dead = true;
                        }
                    }
                } else {
                    assert_eq!(end(&mut queue, &job, Answered::Taken, now), Outcome::Delivered);
                }
            }
            if dead {
                break;
            }
            now = queue.wake(Timestamp(now)).expect("it is tried again").0;
        }
        assert_eq!(waits, [5_000, 300_000, 1_800_000]);
        assert_eq!(
            take(&mut queue, now).iter().map(|(l, p, _)| (*l, *p)).collect::<Vec<_>>(),
            [(1, 2)],
            "its lane goes on"
        );
    }

    #[test]
    fn an_endpoint_that_is_down_gets_one_probe_that_rotates() {
        let mut queue = filled(&[(1, 1), (2, 2), (3, 3)]);
        let jobs = take(&mut queue, 0);
        assert_eq!(jobs.len(), 3);
        for (.., job) in &jobs {
            assert!(matches!(end(&mut queue, job, down(), 10), Outcome::Retry { .. }));
        }
        assert_eq!(queue.state().step, 1, "what was under way together is one failure");
        let mut probes = Vec::new();
        let mut now = 10;
        for _ in 0..5 {
            now = queue.wake(Timestamp(now)).expect("a probe is due").0;
            let probe = take(&mut queue, now);
            assert_eq!(probe.len(), 1, "one probe");
            assert_eq!(queue.wake(Timestamp(now)), None, "and nothing beside it");
            probes.push((now, probe[0].0));
            end(&mut queue, &probe[0].2, down(), now);
        }
        assert_eq!(
            probes,
            [(5_010, 1), (305_010, 2), (2_105_010, 3), (3_905_010, 1), (5_705_010, 2)],
            "the last step repeats"
        );
        now = queue.wake(Timestamp(now)).expect("a probe is due").0;
        let probe = take(&mut queue, now);
        assert_eq!(end(&mut queue, &probe[0].2, Answered::Taken, now), Outcome::Delivered);
        assert_eq!(take(&mut queue, now).len(), 2, "all that waits goes at once");
    }

    /// A receiver that fails with 503 on one event took the endpoint down each time that event's turn came.
    #[test]
    fn a_poison_event_does_not_hold_the_endpoint_down() {
        let mut queue = filled(&[(1, 1)]);
        (0..400).for_each(|n| queue.push(waiting(100 + n, 10 + n), Timestamp(0)));
        let (mut now, mut delivered, mut last) = (0, 0, 0);
        while delivered < 400 && now < 3_600_000 {
            for (lane, _, job) in take(&mut queue, now) {
                match lane {
                    1 => drop(end(&mut queue, &job, down(), now)),
                    _ => {
                        (delivered, last) = (delivered + 1, now);
                        end(&mut queue, &job, Answered::Taken, now);
                    }
                }
            }
            now = queue.wake(Timestamp(now)).map_or(now, |at| at.0.max(now + 1));
        }
        assert_eq!(delivered, 400);
        assert!(last < 10_000, "{last} ms");
        assert_eq!(queue.len(), 1, "it is still tried");
    }

    #[test]
    fn retry_after_is_obeyed_in_full_and_jitter_only_adds() {
        let mut queue = filled(&[(1, 1)]);
        let job = queue.next(Timestamp(0)).expect("due");
        let answered = Answered::Down { error: "429".into(), retry_after: Some(S(3600)) };
        queue.settle(&job, &answered, Timestamp(0), 1.0);
        assert_eq!(queue.state().next_attempt, Some(Timestamp(3_600_000)));
        assert_eq!(queue.wait(0, None, 1.0), S(6));
        assert_eq!(queue.wait(0, None, 0.0), S(5));
    }

    /// A clock that was an hour ahead at the commit held the event, and its lane, for that hour; one that jumps forward
    /// made "five days" of a minute.
    #[test]
    fn clocks_that_jump_hold_nothing_and_disable_nothing() {
        const HOUR: i64 = 3_600_000;
        let mut queue = queue();
        queue.push(Waiting { due: Timestamp(HOUR), ..waiting(1, 1) }, Timestamp(0));
        let job = queue.next(Timestamp(0)).expect("due at once");
        end(&mut queue, &job, down(), 0);
        assert_eq!(queue.wake(Timestamp(0)), Some(Timestamp(5_000)));
        queue.shift(24 * 365 * HOUR);
        let now = 24 * 365 * HOUR + 5_000;
        assert_eq!(queue.wake(Timestamp(now)), Some(Timestamp(now)));
        let job = queue.next(Timestamp(now)).expect("a probe");
        end(&mut queue, &job, down(), now);
        assert_eq!(queue.state().disabled, None);
    }

    /// A probe took an event that had been refused before its own time, and used up its schedule.
    #[test]
    fn a_probe_leaves_refused_events_their_own_time() {
        let mut queue = filled(&[(2, 2)]);
        queue.push(Waiting { refusals: 1, ..waiting(1, 1) }, Timestamp(0));
        let jobs = take(&mut queue, 0);
        end(&mut queue, &jobs[0].2, refused(), 0);
        end(&mut queue, &jobs[1].2, down(), 0);
        let mut probed = Vec::new();
        let mut now = 0;
        while now < 5_500 {
            now = queue.wake(Timestamp(now)).expect("something is due").0;
            for (lane, _, job) in take(&mut queue, now) {
                probed.push((now, lane));
                end(&mut queue, &job, down(), now);
            }
        }
        assert_eq!(probed.first(), Some(&(5_000, 2)), "{probed:?}");
    }

    /// An endpoint that had nothing to send for days was disabled by one hiccup: the failure of its last, dead event
    /// still counted.
    #[test]
    fn a_failure_ends_with_the_last_event() {
        let mut queue = filled(&[(1, 1)]);
        let mut now = 0;
        while !queue.is_empty() {
            let job = queue.next(Timestamp(now)).expect("due");
            end(&mut queue, &job, refused(), now);
            now = queue.wake(Timestamp(now)).map_or(now, |at| at.0);
        }
        assert_eq!(queue.state().failing_since, None);
    }

    #[test]
    fn gone_disables_and_keeps_and_enable_sends() {
        let mut queue = filled(&[(1, 1), (2, 2)]);
        let jobs = take(&mut queue, 0);
        for (.., job) in &jobs {
            end(&mut queue, job, Answered::Gone { error: "410".into(), taken: false }, 0);
        }
        assert_eq!((queue.len(), queue.wake(Timestamp(9)), take(&mut queue, i64::MAX).len()), (2, None, 0));
        queue.enable(true, Timestamp(10));
        assert_eq!(take(&mut queue, 10).len(), 2);
    }

    #[test]
    fn five_days_without_a_delivery_disable() {
        let mut queue = filled(&[(1, 1)]);
        let mut now = 0;
        while queue.state().disabled.is_none() {
            let job = queue.next(Timestamp(now)).expect("a probe");
            assert!(matches!(end(&mut queue, &job, down(), now), Outcome::Retry { .. }), "no event dies of it");
            assert!(now <= 6 * 86_400_000, "it ends");
            now = queue.wake(Timestamp(now)).map_or(now, |at| at.0);
        }
        assert!(now >= 5 * 86_400_000);
        assert_eq!(queue.len(), 1, "its events are kept");
    }
}
