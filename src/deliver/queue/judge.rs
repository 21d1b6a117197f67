//! What an answer means for an event, its endpoint and its origin, and how long each then waits.

use std::time::Duration;

use super::{
    Downs, JITTER, Queue,
    job::{Answered, Job, Room},
    origins::Pass,
};
use crate::{
    model::Timestamp,
    settings::units,
    store::{EndpointState, Outcome, WAIT_UNKNOWN, Waiting},
};

/// Of what a receiver asks for: "at once" is asked for by one that has no time now, and its own time is nearly kept.
const ASKED_MIN: Duration = Duration::from_secs(1);
/// A twentieth: at a bucket that fills each two seconds a fifth would leave a sixth of it unused.
const ASKED_JITTER: f64 = 0.05;
const ASKED_JITTER_MAX: Duration = Duration::from_secs(1);

/// In so many steps of it the time is counted after which an endpoint is disabled.
const DISABLE_STEPS: u32 = 100;

/// So many refusals in a row, for so long, are told: a burst of bad events is none of the endpoint's. A dead letter is told at once.
const REFUSING_AFTER: usize = 5;
const REFUSING_FOR: Duration = Duration::from_secs(10);

impl Queue {
    /// What an attempt with the first `sent` events of a job led to, for each of them. Its lanes stay in flight until
    /// [`Queue::recorded`]. `random` is from 0 to 1.
    pub fn settle(&mut self, job: &Job, sent: usize, answered: &Answered, now: Timestamp, random: f64) -> Vec<Outcome> {
        self.settling += 1;
        let of_origin = job.pass.as_deref().map(|pass| self.judge_origin(job, pass, answered, now, random));
        let answered = of_origin.as_ref().unwrap_or(answered);
        match answered {
            Answered::Down { .. } if job.pass.is_some() => {}
            answered => self.judge(job, answered, now, random),
        }
        let outcomes: Vec<Outcome> =
            job.events.iter().take(sent).map(|waiting| self.decide(waiting, job, answered, now, random)).collect();
        self.note_origins(now);
        if self.lanes.is_empty() && outcomes.last() == Some(&Outcome::Dead) {
            // Nothing is left that it could fail with: the time until there is does not count.
            self.failed_at = None;
        }
        outcomes
    }

    /// What an answer says of the requests that follow; after [`Queue::settle`] of its job. A receiver whose budget is used up
    /// is left alone until there is a new one, and then asked by one request first, whose answer says how many more it takes.
    pub fn heed(&mut self, job: &Job, room: &Room, now: Timestamp, random: f64) {
        if let Some(pass) = &job.pass {
            self.gate.heed(pass, room, now, self.wait(0, room.wait.or(Some(Duration::ZERO)), random));
            return self.note_origins(now);
        }
        if let Some(asked) = room.wait {
            let wait = self.wait(0, Some(asked), random);
            let is_down = self.state.is_down();
            if self.state.next_attempt.is_none_or(|at| at < now.plus(wait)) {
                self.wait_until(now, wait, true);
            }
            self.state.held = !is_down;
            self.era += 1;
            self.left = None;
        } else if let Some((left, reset)) = room.left.filter(|_| job.era == self.era) {
            let under_way = u64::try_from(self.flights.saturating_sub(self.settling)).unwrap_or(u64::MAX);
            self.left = Some((left.saturating_sub(under_way), now.plus(reset)));
        }
    }

    /// What an answer says of the origin that an attempt entered, and what is left of it for its event and the
    /// endpoint.
    fn judge_origin(&mut self, job: &Job, pass: &Pass, answered: &Answered, now: Timestamp, random: f64) -> Answered {
        let mut left = answered.clone();
        match answered {
            Answered::Down { error, retry_after } => {
                self.failed(error, now);
                let is_own = !pass.probe && self.is_poison(job);
                let wait = |step| self.probe_wait(step, *retry_after, random);
                let is_kept = self.gate.failed(pass, (error, retry_after.is_some()), is_own, now, wait);
                if let Some(first) = job.events.first().filter(|_| is_kept) {
                    self.aims.insert(first.position, pass.origin.clone());
                }
                if job.era == self.era {
                    // Whatever kept all of them back is over: a request went out.
                    self.wait_no_more();
                }
                self.disable_when_long();
            }
            Answered::Gone { taken: true, .. } => left = Answered::Taken,
            _ => {}
        }
        if !matches!(answered, Answered::Down { .. } | Answered::Lost | Answered::Idle) && self.gate.answered(pass) {
            // Whoever took it down before, and waits, waits for itself the next time.
            for (_, position, _) in self.parked.get(&pass.origin).into_iter().flat_map(|parked| &parked.heads) {
                if let Some(downs) = self.downs.get_mut(position) {
                    downs.outlived = true;
                }
            }
        }
        pass.leave();
        left
    }

    pub(super) fn note_origins(&mut self, now: Timestamp) {
        if self.rules.by_origin {
            let is_gone_to = |origin: &str| self.parked.get(origin).is_some_and(|parked| !parked.heads.is_empty());
            self.state.origins = self.gate.states(is_gone_to, now);
        }
    }

    /// What an answer says of the endpoint.
    fn judge(&mut self, job: &Job, answered: &Answered, now: Timestamp, random: f64) {
        // It was under way when the endpoint went down, and says nothing of how it is since.
        let is_older = job.era < self.era;
        if *answered == Answered::Taken {
            self.taken += 1;
            self.refused = 0;
            self.state.refusing = false;
        }
        match answered {
            Answered::Taken if is_older => {}
            Answered::Taken => {
                self.state = EndpointState { disabled: self.state.disabled.take(), ..EndpointState::default() };
                self.failed_at = None;
            }
            Answered::Lost | Answered::Idle => {}
            Answered::Parked { origin } => {
                if let Some(first) = job.events.first() {
                    self.aims.insert(first.position, origin.clone());
                }
            }
            Answered::Gone { error, .. } if job.pass.is_some() => {
                self.failed(error, now);
                self.refused = self.refused.saturating_add(1);
                self.disable_when_long();
            }
            Answered::Gone { error, .. } => {
                self.failed(error, now);
                self.state.disabled.get_or_insert_with(|| format!("the receiver asked for it: {error}"));
            }
            Answered::Down { error, retry_after } => {
                self.failed(error, now);
                let is_waited_for = self.state.next_attempt.is_some_and(|at| at > now);
                // The one is its event's own matter, and the other leaves the next probe its time.
                let changes_nothing = retry_after.is_none() && (self.is_poison(job) || job.early && is_waited_for);
                // Attempts that were under way when it went down fail with it; they are one failure.
                if !is_older && !changes_nothing {
                    let wait = self.probe_wait(self.state.step, *retry_after, random);
                    // The schedule is for those that do not say when.
                    self.state.step = self.state.step.saturating_add(u16::from(retry_after.is_none()));
                    self.wait_until(now, wait, retry_after.is_some());
                    self.state.held = false;
                    self.era += 1;
                    (self.left, self.fresh, self.tried_at) = (None, None, Some(now));
                } else if let Some(wait) =
                    retry_after.as_ref().filter(|wait| self.state.next_attempt < Some(now.plus(**wait)))
                {
                    self.wait_until(now, *wait, true);
                }
                self.disable_when_long();
            }
            Answered::Refused { error, .. } => {
                self.failed(error, now);
                self.refused = self.refused.saturating_add(1);
                let long = self.state.failing_since.is_some_and(|since| since.plus(REFUSING_FOR) <= now);
                // Of an event that is dead now, each refusal came after the last delivery.
                let to_the_end = |w: &Waiting| {
                    usize::from(w.refusals) >= self.rules.schedule.len() && self.refused > usize::from(w.refusals)
                };
                self.state.refusing |= self.refused >= REFUSING_AFTER && long || job.events.iter().any(to_the_end);
                if !is_older {
                    // It answers: what waits need not wait for this event.
                    self.wait_no_more();
                }
                self.disable_when_long();
            }
        }
    }

    fn wait_no_more(&mut self) {
        (self.state.step, self.state.next_attempt, self.state.wait_ms) = (0, None, None);
        (self.state.asked, self.state.held) = (false, false);
    }

    /// What it means for one event.
    fn decide(&mut self, waiting: &Waiting, job: &Job, answered: &Answered, now: Timestamp, random: f64) -> Outcome {
        let refusals = waiting.refusals;
        // The origin is not kept: there are too many of them.
        let is_left_alone = job.pass.is_some() && !self.aims.contains_key(&waiting.position);
        let probe = job.pass.as_ref().map_or(job.probe, |pass| pass.probe);
        let outcome = match answered {
            Answered::Taken | Answered::Idle | Answered::Gone { taken: true, .. } => Outcome::Delivered,
            Answered::Lost => Outcome::Dead,
            // Of an address that jq made, it speaks of the event.
            Answered::Gone { .. } if job.pass.is_some() => Outcome::Dead,
            Answered::Gone { .. } | Answered::Parked { .. } => retry(waiting.due, now, refusals),
            Answered::Down { retry_after, .. } if is_left_alone => {
                let downs = self.downs.entry(waiting.position).or_default();
                downs.times = downs.times.saturating_add(1);
                let step = downs.times - 1;
                retry(now.plus(self.probe_wait(step, *retry_after, random)), now, refusals)
            }
            // It said when, which does not speak against the event.
            Answered::Down { retry_after: Some(_), .. } => retry(waiting.due, now, refusals),
            Answered::Down { .. } => retry(self.due_after_down(waiting, probe, now, random), now, refusals),
            Answered::Refused { .. } if usize::from(refusals) >= self.rules.schedule.len() => Outcome::Dead,
            Answered::Refused { retry_after, .. } => {
                let wait = self.wait(refusals, *retry_after, random);
                retry(now.plus(wait), now, refusals.saturating_add(1))
            }
        };
        let key = (waiting.lane, waiting.position);
        match outcome {
            Outcome::Delivered | Outcome::Dead => {
                self.lanes.remove(&key);
                self.downs.remove(&waiting.position);
                self.aims.remove(&waiting.position);
            }
            Outcome::Retry { due, wait_ms, refusals } => {
                if let Some(waiting) = self.lanes.get_mut(&key) {
                    (waiting.due, waiting.wait_ms, waiting.refusals) = (due, wait_ms, refusals);
                    waiting.attempts = waiting.attempts.saturating_add(1);
                }
            }
        }
        outcome
    }

    /// The endpoint's backoff is wait enough, except for an event that takes it down again and again.
    fn due_after_down(&mut self, waiting: &Waiting, probe: bool, now: Timestamp, random: f64) -> Timestamp {
        if probe {
            return waiting.due;
        }
        let downs = self.downs.entry(waiting.position).or_default();
        *downs = Downs { times: downs.times.saturating_add(1), taken: self.taken, ..*downs };
        match downs.times {
            1 => waiting.due,
            again => now.plus(self.probe_wait(again - 1, None, random)),
        }
    }

    /// Whether an event of an attempt took the endpoint down before, and others were taken since.
    fn is_poison(&self, job: &Job) -> bool {
        let outlived = |d: &Downs| d.outlived || !self.rules.by_origin && d.taken < self.taken;
        let is_known = |waiting: &Waiting| self.downs.get(&waiting.position).is_some_and(outlived);
        !job.probe && job.events.iter().any(is_known)
    }

    /// As [`Queue::wait`], between probes: whoever is back is found soon.
    fn probe_wait(&self, step: u16, retry_after: Option<Duration>, random: f64) -> Duration {
        let wait = self.wait(step, retry_after, random);
        if retry_after.is_some() { wait } else { wait.min(self.rules.probe_max.mul_f64(1.0 + JITTER * random)) }
    }

    /// What the receiver asked for, or else a step's wait; jittered upwards.
    pub(super) fn wait(&self, step: u16, retry_after: Option<Duration>, random: f64) -> Duration {
        let random = random.clamp(0.0, 1.0);
        if let Some(asked) = retry_after {
            let asked = asked.max(ASKED_MIN);
            return asked + asked.mul_f64(ASKED_JITTER).min(ASKED_JITTER_MAX).mul_f64(random);
        }
        let last = self.rules.schedule.last().copied().unwrap_or_default();
        let base = self.rules.schedule.get(usize::from(step)).copied().unwrap_or(last);
        base.mul_f64(1.0 + JITTER * random)
    }

    fn failed(&mut self, error: &str, now: Timestamp) {
        self.state.failing_since.get_or_insert(now);
        self.state.last_error = Some(error.to_owned());
        // Written in steps: a receiver that refuses a hundred events a second must not change its state with each.
        let since = *self.failed_at.get_or_insert(now);
        let step = self.rules.disable_after / DISABLE_STEPS;
        if since.plus(step) <= now {
            let ms = u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0);
            self.state.failing_ms = self.state.failing_ms.saturating_add(ms);
            self.failed_at = Some(now);
        }
    }

    fn wait_until(&mut self, now: Timestamp, wait: Duration, asked: bool) {
        self.state.next_attempt = Some(now.plus(wait));
        self.state.asked = asked;
        self.state.wait_ms = Some(wait_ms(wait));
    }

    fn disable_when_long(&mut self) {
        let long = Duration::from_millis(self.state.failing_ms) >= self.rules.disable_after;
        if long && self.state.disabled.is_none() {
            let why = format!("nothing was delivered for {}", units::show(self.rules.disable_after));
            self.state.disabled = Some(why);
        }
    }
}

fn retry(due: Timestamp, now: Timestamp, refusals: u16) -> Outcome {
    Outcome::Retry { due, wait_ms: wait_ms(now.until(due)), refusals }
}

/// As it is stored: 24 hours are the longest there is.
pub(super) fn wait_ms(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(WAIT_UNKNOWN - 1)
}
