//! What a queue does with each answer, over time.

use super::*;
use crate::{config::Batch, store::Outcome};

const S: fn(u64) -> Duration = Duration::from_secs;

fn rules() -> Rules {
    Rules {
        schedule: vec![S(5), S(300), S(1800)],
        probe_max: S(3600),
        disable_after: S(5 * 86_400),
        in_flight_max: 8,
        order: DeliveryOrder::Key,
        batch: None,
        coalesce: false,
        by_origin: false,
    }
}

fn queue() -> Queue {
    Queue::new(rules(), EndpointState::default())
}

const HOUR: i64 = 3_600_000;

fn waiting(lane: u64, pack: u64) -> Waiting {
    let position = Position { pack, index: 0 };
    Waiting { position, lane, due: Timestamp(0), wait_ms: 0, attempts: 0, refusals: 0, replay: false }
}

fn filled(events: &[(u64, u64)]) -> Queue {
    let mut queue = queue();
    events.iter().for_each(|(lane, pack)| queue.push(waiting(*lane, *pack), Timestamp(0)));
    queue
}

fn take(queue: &mut Queue, now: i64) -> Vec<(u64, u64, Job)> {
    std::iter::from_fn(|| queue.next(Timestamp(now)))
        .map(|j| (j.events[0].lane, j.events[0].position.pack, j))
        .collect()
}

fn end(queue: &mut Queue, job: &Job, answered: Answered, now: i64) -> Outcome {
    let outcomes = queue.settle(job, 1, &answered, Timestamp(now), 0.0);
    queue.recorded(job);
    outcomes[0]
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
    queue.settle(&first[0].2, 1, &Answered::Taken, Timestamp(1), 0.0);
    assert!(take(&mut queue, 1).is_empty(), "not before the attempt is recorded");
    queue.recorded(&first[0].2);
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

/// A receiver that was away for half a minute got its events after 309 to 365 s, and one that was away for three hours after seven.
#[test]
fn whoever_is_back_is_found_soon() {
    let schedule = crate::config::RETRY_SCHEDULE.to_vec();
    let days = schedule.iter().sum::<Duration>().as_secs_f64() / 86_400.0;
    assert!((2.9..3.3).contains(&days), "{days} days");
    for begun in (0..30_000).step_by(250) {
        for random in [0.0, 0.3, 0.6, 0.9, 1.0] {
            let rules = Rules { schedule: schedule.clone(), probe_max: S(300), ..rules() };
            let mut queue = Queue::new(rules, EndpointState::default());
            queue.push(Waiting { due: Timestamp(begun), ..waiting(1, 1) }, Timestamp(begun));
            let mut now = begun;
            let mut probe = |now: i64| {
                let job = queue.next(Timestamp(now)).expect("due");
                let answered = if now < 30_000 { down() } else { Answered::Taken };
                queue.settle(&job, 1, &answered, Timestamp(now), random);
                queue.recorded(&job);
                queue.wake(Timestamp(now))
            };
            while let Some(at) = probe(now) {
                now = at.0;
            }
            assert!(now <= 45_000, "begun at {begun}, {random}: {now}");
        }
    }
    // However long it was away.
    let mut queue = Queue::new(Rules { probe_max: S(60), ..rules() }, EndpointState::default());
    queue.push(waiting(1, 1), Timestamp(0));
    let mut now = 0;
    for wait in [5_000, 60_000, 60_000] {
        let job = queue.next(Timestamp(now)).expect("a probe");
        end(&mut queue, &job, down(), now);
        assert_eq!(queue.wake(Timestamp(now)), Some(Timestamp(now + wait)));
        now += wait;
    }
}

#[test]
fn a_new_event_is_a_probe_at_once_and_not_too_often() {
    let mut queue = Queue::new(Rules { schedule: vec![S(300)], ..rules() }, EndpointState::default());
    queue.push(waiting(1, 1), Timestamp(0));
    let job = queue.next(Timestamp(0)).expect("due");
    end(&mut queue, &job, down(), 0);
    let come = |queue: &mut Queue, pack: u64, now: i64| {
        queue.push(Waiting { due: Timestamp(now), ..waiting(pack, pack) }, Timestamp(now));
        queue.wake(Timestamp(now))
    };
    assert_eq!(come(&mut queue, 2, 10_000), Some(Timestamp(10_000)));
    let probe = queue.next(Timestamp(10_000)).expect("an early probe");
    assert_eq!((packs(&probe), probe.probe), (vec![2], true));
    assert_eq!(queue.wake(Timestamp(10_000)), None, "one at a time");
    end(&mut queue, &probe, down(), 10_100);
    assert_eq!(queue.wake(Timestamp(10_100)), Some(Timestamp(300_000)), "the next one has its time");
    assert_eq!(come(&mut queue, 3, 10_500), Some(Timestamp(13_000)), "and new events do not ask all the time");
    let probe = queue.next(Timestamp(13_000)).expect("an early probe");
    end(&mut queue, &probe, Answered::Taken, 13_000);
    assert_eq!(take(&mut queue, 13_000).len(), 2, "it is back");
    // Whoever named the time is left alone until then.
    let mut queue = filled(&[(1, 1)]);
    let job = queue.next(Timestamp(0)).expect("due");
    end(&mut queue, &job, Answered::Down { error: "429".into(), retry_after: Some(S(60)) }, 0);
    assert_eq!(come(&mut queue, 2, 10_000), Some(Timestamp(60_000)));
    let state = queue.state().clone();
    let found = |state| Queue::found(rules(), state, vec![waiting(1, 1)], Timestamp(20_000));
    assert_eq!(found(state.clone()).wake(Timestamp(20_000)), Some(Timestamp(60_000)));
    // A start is a reason to look.
    assert_eq!(found(EndpointState { asked: false, ..state }).wake(Timestamp(20_000)), Some(Timestamp(20_000)));
}

/// A handler that is too slow for one event answers 504: each of its attempts stopped the endpoint for all others.
#[test]
fn an_event_that_always_fails_alone_waits_alone() {
    let mut queue = filled(&[(1, 1)]);
    let (mut now, mut stopped) = (0, 0);
    for pack in 2..200 {
        queue.push(Waiting { due: Timestamp(now), ..waiting(pack, pack) }, Timestamp(now));
        for (lane, _, job) in take(&mut queue, now) {
            let answered = if lane == 1 { down() } else { Answered::Taken };
            end(&mut queue, &job, answered, now);
        }
        stopped += i32::from(queue.state().next_attempt.is_some());
        now += 10_000;
    }
    assert_eq!(stopped, 1, "the first time nobody can know");
    assert_eq!(queue.len(), 1);
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
    // Twice the first step, since what was under way when it went down says nothing of it.
    assert!(last < 11_000, "{last} ms");
    assert_eq!(queue.len(), 1, "it is still tried");
}

#[test]
fn retry_after_is_obeyed_in_full_and_jitter_only_adds() {
    let mut queue = filled(&[(1, 1)]);
    let job = queue.next(Timestamp(0)).expect("due");
    let answered = Answered::Down { error: "429".into(), retry_after: Some(S(3600)) };
    queue.settle(&job, 1, &answered, Timestamp(0), 1.0);
    assert_eq!(queue.state().next_attempt, Some(Timestamp(3_601_000)));
    assert_eq!(queue.state().step, 0, "the schedule is for those that do not say when");
    for (asked, random, wait) in [(S(2), 0.0, S(2)), (S(0), 0.0, S(1)), (S(2), 1.0, Duration::from_millis(2_100))] {
        assert_eq!(queue.wait(3, Some(asked), random), wait, "{asked:?}");
    }
    assert_eq!(queue.wait(0, None, 1.0), S(6));
    assert_eq!(queue.wait(0, None, 0.0), S(5));
}

/// Five of thirty were taken, then 429 with two seconds: the 204s of the same millisecond let more go, whose failures counted as a
/// second outage, and the endpoint stood still for five minutes (18 of 18).
#[test]
fn a_burst_that_is_partly_taken_is_one_failure() {
    let mut queue = filled(&(1..=30).map(|lane| (lane, lane)).collect::<Vec<_>>());
    let first = take(&mut queue, 0);
    let limited = |queue: &mut Queue, job: &Job| {
        end(queue, job, Answered::Down { error: "429".into(), retry_after: Some(S(2)) }, 0);
    };
    let (taken, limited_ones) = first.split_at(first.len() / 2);
    for (.., job) in taken {
        end(&mut queue, job, Answered::Taken, 0);
    }
    let second = take(&mut queue, 0);
    assert!(!second.is_empty());
    for (.., job) in limited_ones.iter().chain(&second) {
        limited(&mut queue, job);
    }
    assert_eq!(queue.state().next_attempt, Some(Timestamp(2_000)));
    // An answer of before is no word of how it is now.
    let mut queue = filled(&[(1, 1), (2, 2), (3, 3)]);
    let jobs = take(&mut queue, 0);
    limited(&mut queue, &jobs[0].2);
    end(&mut queue, &jobs[1].2, Answered::Taken, 100);
    end(&mut queue, &jobs[2].2, refused(), 100);
    assert_eq!(queue.state().next_attempt, Some(Timestamp(2_000)));
    assert!(queue.next(Timestamp(150)).is_none());
    // Without a word of when, only a probe raises the step.
    let mut queue = filled(&[(1, 1), (2, 2), (3, 3)]);
    for (.., job) in take(&mut queue, 0) {
        end(&mut queue, &job, down(), 0);
    }
    assert_eq!((queue.state().step, queue.state().next_attempt), (1, Some(Timestamp(5_000))));
    let probe = queue.next(Timestamp(5_000)).expect("a probe");
    assert!(probe.probe && queue.next(Timestamp(5_000)).is_none());
    end(&mut queue, &probe, down(), 5_000);
    assert_eq!(queue.state().step, 2);
}

/// Discord takes five requests in two seconds and says with each 2xx how many are left: what it did not take was sent all the same,
/// and answered 429.
#[test]
fn a_budget_is_kept_and_one_asks_first() {
    let mut queue = filled(&(1..=100).map(|lane| (lane, lane)).collect::<Vec<_>>());
    let (mut now, mut taken, mut limited) = (0, 0, 0);
    let (mut left, mut reset) = (5, 2_000);
    let mut flying: Vec<(i64, Job, Answered, Room)> = Vec::new();
    while taken < 100 {
        assert!(now < 44_000, "{taken} were taken");
        for (_, job, answered, room) in flying.extract_if(.., |(at, ..)| *at <= now) {
            taken += i32::from(answered == Answered::Taken);
            queue.settle(&job, 1, &answered, Timestamp(now), 0.0);
            queue.heed(&job, &room, Timestamp(now), 0.0);
            queue.recorded(&job);
        }
        for (.., job) in take(&mut queue, now) {
            if now >= reset {
                (left, reset) = (5, now + 2_000);
            }
            let until = Duration::from_millis(u64::try_from(reset - now).expect("it lies ahead"));
            let (answered, room) = if left == 0 {
                limited += 1;
                (Answered::Down { error: "429".into(), retry_after: Some(until) }, Room::default())
            } else {
                left -= 1;
                let wait = (left == 0).then_some(until);
                (Answered::Taken, Room { wait, left: (left > 0).then_some((left, until)) })
            };
            flying.push((now + 20, job, answered, room));
        }
        now += 1;
    }
    assert_eq!(limited, 3, "of the first eight, which nobody had told of a limit");
}

/// What an answer leaves is kept for those under way. Where their answers say nothing more, one goes on.
#[test]
fn a_budget_that_nobody_speaks_of_again_stops_nothing() {
    let mut queue = filled(&(1..=20).map(|lane| (lane, lane)).collect::<Vec<_>>());
    let jobs = take(&mut queue, 0);
    end(&mut queue, &jobs[0].2, Answered::Taken, 10);
    queue.heed(&jobs[0].2, &Room { wait: None, left: Some((2, S(3600))) }, Timestamp(10), 0.0);
    assert_eq!(queue.wake(Timestamp(10)), Some(Timestamp(3_600_010)), "seven are under way, and two may be");
    for (.., job) in &jobs[1..] {
        end(&mut queue, job, Answered::Taken, 20);
    }
    assert_eq!(take(&mut queue, 20).len(), 1);
}

#[test]
fn what_the_receiver_said_of_its_budget_is_no_outage() {
    let mut queue = filled(&[(1, 1), (2, 2), (3, 3)]);
    let jobs = take(&mut queue, 0);
    end(&mut queue, &jobs[0].2, Answered::Taken, 0);
    queue.heed(&jobs[0].2, &Room { wait: Some(S(60)), left: None }, Timestamp(0), 0.0);
    // Those that were under way say nothing newer, and may ask for longer.
    end(&mut queue, &jobs[1].2, Answered::Taken, 10);
    assert_eq!((queue.state().next_attempt, queue.state().failing_since), (Some(Timestamp(60_000)), None));
    queue.settle(&jobs[2].2, 1, &refused(), Timestamp(20), 0.0);
    queue.heed(&jobs[2].2, &Room { wait: Some(S(90)), left: None }, Timestamp(20), 0.0);
    queue.recorded(&jobs[2].2);
    assert_eq!(queue.wake(Timestamp(20)), Some(Timestamp(90_020)));
    assert!(queue.state().asked && queue.state().step == 0);
    assert!(!queue.state().is_down(), "it answers");
}

/// A clock that was an hour ahead at the commit held the event, and its lane, for that hour; one that jumps forward
/// made "five days" of a minute.
#[test]
fn clocks_that_jump_hold_nothing_and_disable_nothing() {
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

/// A receiver that was down at the stop was not tried for a day, since the clock was earlier after the restart.
#[test]
fn a_clock_that_is_earlier_than_it_was_holds_nothing() {
    let mut queue = filled(&[(1, 1)]);
    let job = queue.next(Timestamp(HOUR)).expect("due");
    end(&mut queue, &job, down(), HOUR);
    let (state, kept) = (queue.state().clone(), queue.lanes.values().copied().collect::<Vec<_>>());
    let mut restarted = Queue::new(queue.rules.clone(), state);
    restarted.clamp(Timestamp(0));
    kept.into_iter().for_each(|waiting| restarted.push(waiting, Timestamp(0)));
    assert_eq!(restarted.wake(Timestamp(0)), Some(Timestamp(5_000)));
    // The clock is set right: the wait that is left stays as it is.
    restarted.shift(HOUR);
    assert_eq!(restarted.wake(Timestamp(HOUR)), Some(Timestamp(HOUR + 5_000)));
    // A refused event waits for its own step, or for as long as its receiver asked.
    let mut queue = filled(&[(1, 1)]);
    let job = queue.next(Timestamp(HOUR)).expect("due");
    let wait = Some(Duration::from_secs(600));
    end(&mut queue, &job, Answered::Refused { error: "429".into(), retry_after: wait }, HOUR);
    let waiting = *queue.lanes.values().next().expect("one");
    let mut restarted = Queue::new(queue.rules.clone(), EndpointState::default());
    restarted.push(waiting, Timestamp(0));
    assert_eq!(restarted.wake(Timestamp(0)), Some(Timestamp(600_000)));
}

/// A machine that was off over a holiday came back a second before its network: one failed attempt disabled the endpoint.
#[test]
fn only_time_in_which_attempts_failed_disables() {
    let mut queue = filled(&[(1, 1)]);
    let fail = |queue: &mut Queue, now: i64| {
        let job = queue.next(Timestamp(now)).expect("due");
        end(queue, &job, down(), now);
    };
    fail(&mut queue, 0);
    fail(&mut queue, 5_000);
    let (state, kept) = (queue.state().clone(), queue.lanes.values().copied().collect::<Vec<_>>());
    let weeks_later = 24 * 30 * HOUR;
    let mut restarted = Queue::new(queue.rules.clone(), state);
    restarted.clamp(Timestamp(weeks_later));
    kept.into_iter().for_each(|waiting| restarted.push(waiting, Timestamp(weeks_later)));
    fail(&mut restarted, weeks_later);
    assert_eq!(restarted.state().disabled, None);
    // Days of failing do.
    let mut now = weeks_later;
    while restarted.state().disabled.is_none() {
        now = restarted.wake(Timestamp(now)).expect("something waits").0;
        fail(&mut restarted, now);
    }
    let days = (now - weeks_later) / (24 * HOUR);
    assert!((4..=6).contains(&days), "{days} days");
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

/// An endpoint that had nothing to send for days was disabled by one hiccup: the time since the failure of its last, dead event
/// counted. One that refused everything was `ok` as soon as nothing waited for it.
#[test]
fn a_failure_stays_and_its_clock_ends_with_the_last_event() {
    let mut queue = filled(&[(1, 1)]);
    let mut now = 0;
    while !queue.is_empty() {
        let job = queue.next(Timestamp(now)).expect("due");
        end(&mut queue, &job, refused(), now);
        now = queue.wake(Timestamp(now)).map_or(now, |at| at.0);
    }
    let state = queue.state().clone();
    assert_eq!((state.failing_since, state.refusing), (Some(Timestamp(0)), true));
    queue.push(waiting(1, 2), Timestamp(now));
    let later = now + 24 * 30 * HOUR;
    let job = queue.next(Timestamp(later)).expect("due");
    end(&mut queue, &job, refused(), later);
    assert_eq!((&queue.state().disabled, queue.state().failing_ms), (&None, state.failing_ms));
    queue.enable(true, Timestamp(later));
    assert!(queue.state().refusing, "nothing was delivered by that");
    let job = queue.next(Timestamp(later)).expect("due");
    end(&mut queue, &job, Answered::Taken, later);
    assert_eq!(*queue.state(), EndpointState::default());
}

/// A wrong token made dead letters for days, and nobody was told.
#[test]
fn an_endpoint_that_refuses_everything_is_told_of_and_one_bad_event_is_not() {
    let mut queue = filled(&(1..=8).map(|lane| (lane, lane)).collect::<Vec<_>>());
    for (.., job) in take(&mut queue, 0) {
        end(&mut queue, &job, refused(), 0);
    }
    assert!(!queue.state().refusing, "a burst of bad events");
    for (.., job) in take(&mut queue, 10_000) {
        end(&mut queue, &job, refused(), 10_000);
    }
    assert!(queue.state().refusing);
    let mut queue = filled(&[(1, 1)]);
    let (mut now, mut told) = (0, false);
    while !queue.is_empty() {
        let job = queue.next(Timestamp(now)).expect("due");
        end(&mut queue, &job, refused(), now);
        told |= queue.state().refusing && !queue.is_empty();
        // Others are taken.
        queue.push(Waiting { due: Timestamp(now), ..waiting(2, 2) }, Timestamp(now));
        let job = queue.next(Timestamp(now)).expect("due");
        end(&mut queue, &job, Answered::Taken, now);
        now = queue.wake(Timestamp(now)).map_or(now, |at| at.0);
    }
    assert!(!told && !queue.state().refusing);
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

fn batched(max: usize) -> Queue {
    Queue::new(Rules { batch: Some(Batch { max, wait: S(2) }), ..rules() }, EndpointState::default())
}

fn packs(job: &Job) -> Vec<u64> {
    job.events.iter().map(|waiting| waiting.position.pack).collect()
}

#[test]
fn a_batch_goes_when_it_is_full_or_its_first_event_has_waited() {
    let mut queue = batched(3);
    for (lane, pack) in [(7, 1), (3, 2)] {
        queue.push(waiting(lane, pack), Timestamp(0));
    }
    assert_eq!(queue.wake(Timestamp(0)), Some(Timestamp(2_000)));
    assert_eq!(queue.next(Timestamp(1_999)), None);
    queue.push(waiting(3, 3), Timestamp(0));
    queue.push(waiting(9, 4), Timestamp(0));
    let full = queue.next(Timestamp(1)).expect("three wait");
    assert_eq!(packs(&full), [1, 2, 3], "in the order of the commits");
    assert_eq!(queue.next(Timestamp(1_999)), None);
    let late = queue.next(Timestamp(2_000)).expect("it has waited");
    assert_eq!(packs(&late), [4]);
}

/// An endpoint that a reload changes goes on with what waits, by the new rules.
#[test]
fn a_queue_goes_on_under_other_rules() {
    let mut queue = filled(&[(1, 1), (1, 2), (2, 3)]);
    assert!(queue.fits(DeliveryOrder::Key) && !queue.fits(DeliveryOrder::Bridge));
    let batch = Some(Batch { max: 10, wait: S(2) });
    queue.go_on(Rules { batch, ..rules() }, EndpointState::default());
    assert_eq!((queue.len(), queue.wake(Timestamp(0))), (3, Some(Timestamp(2000))));
    assert_eq!(queue.next(Timestamp(2000)).map(|job| packs(&job)), Some(vec![1, 2, 3]));
    assert!(!queue.fits(DeliveryOrder::Key), "an attempt of it is under way");
}

#[test]
fn what_does_not_fit_in_a_batch_goes_in_the_next_and_a_refused_event_goes_alone() {
    let mut queue = batched(10);
    (1..=4).for_each(|pack| queue.push(waiting(pack % 2, pack), Timestamp(0)));
    let job = queue.next(Timestamp(2_000)).expect("it has waited");
    assert_eq!(packs(&job), [1, 2, 3, 4]);
    let outcomes = queue.settle(&job, 2, &refused(), Timestamp(2_000), 0.0);
    assert_eq!(outcomes.len(), 2);
    queue.recorded(&job);
    assert_eq!(queue.wake(Timestamp(2_000)), Some(Timestamp(7_000)), "their lanes wait for them");
    // 3 is free when 1 has gone, 4 when 2 has.
    for expected in [1, 3, 2, 4] {
        let alone = queue.next(Timestamp(7_000)).expect("due");
        assert_eq!(packs(&alone), [expected], "what was refused may be what is wrong");
        end(&mut queue, &alone, Answered::Taken, 7_000);
    }
}

#[test]
fn orders() {
    let in_flight = |order| {
        let mut queue = Queue::new(Rules { order, ..rules() }, EndpointState::default());
        for (bridge, key, pack) in [("a", "1", 1), ("a", "1", 2), ("a", "2", 3), ("b", "1", 4)] {
            queue.push(waiting(crate::store::lane(bridge, key), pack), Timestamp(0));
        }
        let mut packs: Vec<u64> = take(&mut queue, 0).into_iter().map(|(_, pack, _)| pack).collect();
        packs.sort_unstable();
        packs
    };
    assert_eq!(in_flight(DeliveryOrder::Key), [1, 3, 4]);
    assert_eq!(in_flight(DeliveryOrder::Bridge), [1, 4]);
    assert_eq!(in_flight(DeliveryOrder::None), [1, 2, 3, 4]);
}

#[test]
fn a_coalescing_queue_hands_out_a_lane() {
    let mut queue = Queue::new(Rules { coalesce: true, ..rules() }, EndpointState::default());
    for (lane, pack) in [(1, 1), (2, 2), (1, 3), (1, 4)] {
        queue.push(waiting(lane, pack), Timestamp(0));
    }
    let jobs = take(&mut queue, 0);
    assert_eq!(jobs.iter().map(|(.., job)| packs(job)).collect::<Vec<_>>(), [vec![1, 3, 4], vec![2]]);
    // Two of them could become one; the third is taken up again.
    assert_eq!(queue.settle(&jobs[0].2, 2, &Answered::Taken, Timestamp(1), 0.0), [Outcome::Delivered; 2]);
    queue.recorded(&jobs[0].2);
    let rest = queue.next(Timestamp(1)).expect("due");
    assert_eq!(packs(&rest), [4]);
    end(&mut queue, &rest, Answered::Taken, 1);
    // A probe that finds nothing to say leaves the endpoint as it was.
    queue.settle(&jobs[1].2, 1, &down(), Timestamp(1), 0.0);
    queue.recorded(&jobs[1].2);
    let before = queue.state().clone();
    let probe = queue.next(Timestamp(10_000)).expect("a probe");
    assert_eq!(queue.settle(&probe, 1, &Answered::Idle, Timestamp(10_000), 0.0), [Outcome::Delivered]);
    assert_eq!(*queue.state(), before);
}

/// A receiver that is away for a while and takes so many requests in a window, and the events that it is sent.
struct Simulated {
    latency: i64,
    away: std::ops::Range<i64>,
    bucket: u64,
    window: i64,
    /// It says with each 2xx what is left.
    tells: bool,
    left: u64,
    reset: i64,
}

impl Simulated {
    fn answer(&mut self, now: i64) -> (Answered, Room) {
        if self.away.contains(&now) {
            return (down(), Room::default());
        }
        if now >= self.reset {
            (self.left, self.reset) = (self.bucket, now + self.window);
        }
        let until = Duration::from_millis(u64::try_from(self.reset - now).expect("it lies ahead"));
        if self.left == 0 {
            return (Answered::Down { error: "429".into(), retry_after: Some(until) }, Room::default());
        }
        self.left -= 1;
        let room = match self.left {
            _ if !self.tells => Room::default(),
            0 => Room { wait: Some(until), left: None },
            left => Room { wait: None, left: Some((left, until)) },
        };
        (Answered::Taken, room)
    }

    /// Sends so many events, one each `gap`; when the last is taken, and how many requests were answered 429.
    fn run(&mut self, mut queue: Queue, events: u64, gap: i64, random: f64) -> (i64, u64) {
        let (mut now, mut come, mut taken, mut limited, mut known) = (0, 0, 0, 0, 0);
        let mut flying: Vec<(i64, Job, Answered, Room)> = Vec::new();
        while taken < events {
            while come < events && i64::try_from(come).expect("few") * gap <= now {
                come += 1;
                queue.push(Waiting { due: Timestamp(now), ..waiting(come, come) }, Timestamp(now));
            }
            let ended: Vec<_> = flying.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, job, answered, room) in ended {
                let asked = match &answered {
                    Answered::Down { retry_after, .. } => (*retry_after).max(room.wait),
                    _ => room.wait,
                };
                known = asked.map_or(known, |asked| known.max(Timestamp(now).plus(asked).0));
                let outcomes = queue.settle(&job, 1, &answered, Timestamp(now), random);
                assert_ne!(outcomes, [Outcome::Dead], "no event dies of an outage");
                taken += u64::from(outcomes == [Outcome::Delivered]);
                queue.heed(&job, &room, Timestamp(now), random);
                queue.recorded(&job);
            }
            for (.., job) in take(&mut queue, now) {
                assert!(now >= known, "a request at {now}, and the receiver asked for none until {known}");
                let (answered, room) = self.answer(now);
                limited += u64::from(matches!(answered, Answered::Down { retry_after: Some(_), .. }));
                flying.push((now + self.latency, job, answered, room));
            }
            let comes = (come < events).then(|| i64::try_from(come).expect("few") * gap);
            let next = flying.iter().map(|(at, ..)| *at).chain(comes).chain(queue.wake(Timestamp(now)).map(|at| at.0));
            let Some(next) = next.min() else { break };
            now = next.max(now + 1);
        }
        assert_eq!(taken, events, "nothing goes on at {now}");
        (now, limited)
    }
}

#[test]
fn receivers_of_every_kind_get_everything_in_time_and_no_request_while_they_asked_for_none() {
    for seed in 0..1_000 {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15 ^ seed;
        let mut one_of = |all: [i64; 4]| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            all[usize::try_from(state % 4).expect("small")]
        };
        let in_flight_max = usize::try_from(one_of([1, 2, 8, 20])).expect("small");
        let latency = one_of([1, 2, 30, 200]);
        let away = one_of([0, 0, 20_000, 600_000]);
        let window = one_of([1_000, 2_000, 10_000, 60_000]);
        let bucket = u64::try_from(one_of([1, 5, 30, i64::MAX])).expect("positive");
        let events = u64::try_from(one_of([1, 30, 100, 200])).expect("positive");
        let (gap, random) =
            (one_of([0, 0, 10, 3_000]), [0.0, 0.5, 1.0][usize::from(seed % 3 == 0) + usize::from(seed % 2 == 0)]);
        let schedule = crate::config::RETRY_SCHEDULE.to_vec();
        let rules = Rules { schedule, probe_max: S(300), in_flight_max, ..rules() };
        let tells = one_of([0, 0, 1, 1]) == 1;
        let mut receiver = Simulated { latency, away: 0..away, bucket, window, tells, left: 0, reset: 0 };
        let (end, limited) = receiver.run(Queue::new(rules, EndpointState::default()), events, gap, random);
        // Its windows, each a fifth and a second longer, since jitter adds so much; what its latency makes of it, and one probe.
        let windows = i64::try_from(events.div_ceil(bucket)).expect("few");
        let come = i64::try_from(events).expect("few") * gap;
        let pace = windows * (window * 12 / 10 + 1_000 + 4 * latency) + i64::try_from(events).expect("few") * latency;
        let latest = away.max(come) + pace + if away > 0 { 360_000 } else { 0 };
        assert!(end <= latest, "seed {seed}: {end} ms in place of {latest}");
        let first = u64::try_from(in_flight_max).expect("small");
        assert!(!tells || limited <= first, "seed {seed}: {limited} were refused");
    }
}

/// A burst at Discord's limit (5 in 2 s, said with each answer) stopped an endpoint for five minutes, 18 times of 18.
#[test]
fn a_burst_of_a_thousand_at_a_bucket_takes_what_the_bucket_allows() {
    for (latency, in_flight_max) in [(1, 1), (30, 8), (200, 8), (30, 20)] {
        let schedule = crate::config::RETRY_SCHEDULE.to_vec();
        let rules = Rules { schedule, probe_max: S(300), in_flight_max, ..rules() };
        let mut discord = Simulated { latency, away: 0..0, bucket: 5, window: 2_000, tells: true, left: 0, reset: 0 };
        let (end, limited) = discord.run(Queue::new(rules, EndpointState::default()), 1_000, 0, 0.5);
        let windows = 1_000 / 5;
        let allowed = windows * 2_000;
        // A wait is said when the request comes, and counts from when its answer comes.
        let latest = allowed * 11 / 10 + windows * latency;
        assert!(end <= latest, "latency {latency}, {in_flight_max} in flight: {end} ms, {allowed} are allowed");
        let first = u64::try_from(in_flight_max).expect("small");
        assert!(limited <= first, "latency {latency}, {in_flight_max} in flight: {limited} were refused");
    }
}

/// A store of an earlier version has states without what was added since, and one without it is written as it was.
#[test]
fn states_of_earlier_versions_are_read() {
    let old = r#"{"disabled":null,"failing_since":5,"step":2,"next_attempt":7,"last_error":"503"}"#;
    let state: EndpointState = serde_json::from_str(old).expect("a state");
    assert!(state.is_down() && !state.asked && !state.refusing);
    assert_eq!(serde_json::to_string(&state).expect("JSON"), old);
    let new = EndpointState { asked: true, held: true, refusing: true, ..state };
    let text = serde_json::to_string(&new).expect("JSON");
    assert_eq!(serde_json::from_str::<EndpointState>(&text).expect("a state"), new);
}

/// jq made `url` of each record, one tenant's receiver answered 410 or 503, and the events of all others were held.
mod of_origins {
    use super::*;
    use crate::deliver::queue::origins::ORIGINS_MAX;

    fn tenants() -> Rules {
        Rules { by_origin: true, probe_max: S(300), schedule: crate::config::RETRY_SCHEDULE.to_vec(), ..rules() }
    }

    fn of(tenant: u64) -> String {
        format!("https://t{tenant}.example")
    }

    /// As an attempt does it once its URL is made.
    fn enter(job: &mut Job, tenant: u64, now: i64) -> bool {
        let gate = job.gate.clone().expect("jq makes the URL");
        job.pass = job.enter(&gate, &of(tenant), Timestamp(now));
        job.pass.is_some()
    }

    fn turned_away(queue: &mut Queue, job: &Job, tenant: u64, now: i64) {
        let outcomes = queue.settle(job, 0, &Answered::Parked { origin: of(tenant) }, Timestamp(now), 0.0);
        assert!(outcomes.is_empty(), "nothing is recorded of it");
        queue.recorded(job);
    }

    /// Sends what is due now: who answers what is for `answer` to say. Returns where requests went.
    fn send(queue: &mut Queue, now: i64, tenants: u64, answer: impl Fn(u64) -> Answered) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(mut job) = queue.next(Timestamp(now)) {
            let tenant = job.events[0].lane % tenants;
            if enter(&mut job, tenant, now) {
                sent.push(job.events[0].lane);
                end(queue, &job, answer(tenant), now);
            } else {
                turned_away(queue, &job, tenant, now);
            }
        }
        sent
    }

    fn filled(lanes: std::ops::Range<u64>) -> Queue {
        let mut queue = Queue::new(tenants(), EndpointState::default());
        lanes.for_each(|lane| queue.push(waiting(lane, lane + 1), Timestamp(0)));
        queue
    }

    #[test]
    fn one_that_is_down_stops_no_other() {
        let mut queue = filled(0..30);
        let mut sent = send(&mut queue, 0, 3, |tenant| if tenant == 1 { down() } else { Answered::Taken });
        sent.sort_unstable();
        let expected: Vec<u64> = (0..30).filter(|lane| lane % 3 != 1 || *lane == 1).collect();
        assert_eq!(sent, expected, "its other events are parked");
        assert_eq!((queue.len(), queue.state().next_attempt), (10, None));
        let state = &queue.state().origins[&of(1)];
        assert!(state.is_down() && state.step == 1);
        assert_eq!(queue.wake(Timestamp(0)), Some(Timestamp(5_000)));
        // One probe at a time, which rotates over its lanes.
        assert_eq!(send(&mut queue, 5_000, 3, |_| down()), [1]);
        assert_eq!(send(&mut queue, 15_000, 3, |_| down()), [4]);
        let back = send(&mut queue, 25_000, 3, |_| Answered::Taken);
        assert_eq!((back.len(), queue.len()), (10, 0), "all that waits goes at once");
        assert_eq!(*queue.state(), EndpointState::default());
        assert_eq!((queue.gate.kept(), queue.parked.len(), queue.aims.len()), (0, 0, 0), "nothing is kept of it");
    }

    #[test]
    fn a_gone_address_is_that_events_own() {
        let mut queue = filled(0..4);
        let gone = |taken| Answered::Gone { error: "410".into(), taken };
        let mut job = queue.next(Timestamp(0)).expect("due");
        assert!(enter(&mut job, 0, 0));
        assert_eq!(end(&mut queue, &job, gone(false), 0), Outcome::Dead);
        let mut job = queue.next(Timestamp(0)).expect("due");
        assert!(enter(&mut job, 0, 0));
        assert_eq!(end(&mut queue, &job, gone(true), 0), Outcome::Delivered, "and `webhook-delivery: disable` with it");
        assert_eq!((queue.state().disabled.as_deref(), queue.len()), (None, 2));
        assert_eq!(send(&mut queue, 0, 1, |_| Answered::Taken).len(), 2);
    }

    #[test]
    fn waits_and_budgets_are_those_of_an_origin() {
        let mut queue = filled(0..20);
        let mut job = queue.next(Timestamp(0)).expect("due");
        assert!(enter(&mut job, 0, 0));
        queue.settle(&job, 1, &Answered::Taken, Timestamp(0), 0.0);
        queue.heed(&job, &Room { wait: Some(S(60)), left: None }, Timestamp(0), 0.0);
        queue.recorded(&job);
        let sent = send(&mut queue, 0, 2, |_| Answered::Taken);
        assert!(sent.len() == 10 && sent.iter().all(|lane| lane % 2 == 1), "{sent:?}");
        let state = &queue.state().origins[&of(0)];
        assert!(!state.is_down() && state.asked && state.held, "it answers");
        assert_eq!(queue.wake(Timestamp(0)), Some(Timestamp(60_000)));
        // Over a restart as well.
        let kept: Vec<Waiting> = queue.lanes.values().copied().collect();
        let mut restarted = Queue::found(tenants(), queue.state().clone(), kept, Timestamp(1_000));
        assert!(send(&mut restarted, 1_000, 2, |_| Answered::Taken).is_empty());
        assert_eq!(restarted.wake(Timestamp(1_000)), Some(Timestamp(60_000)));
        // Three more, says the one that asks first.
        let mut job = queue.next(Timestamp(60_000)).expect("due");
        assert!(enter(&mut job, 0, 60_000));
        queue.settle(&job, 1, &Answered::Taken, Timestamp(60_000), 0.0);
        queue.heed(&job, &Room { wait: None, left: Some((3, S(10))) }, Timestamp(60_000), 0.0);
        queue.recorded(&job);
        assert_eq!(send(&mut queue, 60_000, 2, |_| Answered::Taken).len(), 3);
        assert_eq!(queue.wake(Timestamp(60_000)), Some(Timestamp(70_000)));
        assert_eq!(send(&mut queue, 70_000, 2, |_| Answered::Taken).len(), 5);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_login_that_fails_holds_all_and_by_hand_all_go() {
        let mut queue = filled(0..4);
        let job = queue.next(Timestamp(0)).expect("due");
        end(&mut queue, &job, down(), 0);
        assert_eq!((queue.wake(Timestamp(0)), queue.state().origins.len()), (Some(Timestamp(5_000)), 0));
        // A probe gets out, and finds that its origin is down.
        let mut job = queue.next(Timestamp(5_000)).expect("a probe");
        assert!(enter(&mut job, 0, 5_000));
        end(&mut queue, &job, down(), 5_000);
        assert_eq!((queue.state().next_attempt, queue.state().origins.len()), (None, 1));
        send(&mut queue, 5_000, 1, |_| Answered::Taken);
        assert_eq!(queue.len(), 4, "they are parked");
        // A login that fails while all of them are: whatever is due is a probe.
        let mut job = queue.next(Timestamp(15_000)).expect("one asks whether its origin is back");
        assert!(enter(&mut job, 0, 15_000));
        job.pass = None;
        end(&mut queue, &job, down(), 15_000);
        let at = queue.wake(Timestamp(15_000)).expect("a probe is due");
        assert!(at > Timestamp(15_000));
        let job = queue.next(at).expect("what is due can be taken");
        end(&mut queue, &job, down(), at.0);
        queue.enable(true, Timestamp(6_000));
        assert_eq!((send(&mut queue, 6_000, 1, |_| Answered::Taken).len(), queue.state().origins.len()), (4, 0));
    }

    /// More of them than are kept: events of the rest wait for themselves, and none is lost.
    #[test]
    fn so_many_are_kept_and_no_more() {
        let tenants = u64::try_from(3 * ORIGINS_MAX).expect("small");
        let mut queue = filled(0..tenants);
        assert_eq!(send(&mut queue, 0, tenants, |_| down()).len(), 3 * ORIGINS_MAX);
        assert_eq!(queue.state().origins.len(), ORIGINS_MAX);
        assert!(queue.gate.kept() <= ORIGINS_MAX);
        let again = send(&mut queue, 1_000, tenants, |_| down());
        assert!(again.is_empty(), "{again:?}");
        assert_eq!(send(&mut queue, 5_000, tenants, |_| Answered::Taken).len(), 3 * ORIGINS_MAX);
        assert!(queue.is_empty() && queue.state().origins.is_empty());
    }

    /// An attempt that panics or is dropped leaves its origin, too.
    #[test]
    fn whoever_is_dropped_has_left() {
        let mut queue = filled(0..2);
        assert_eq!(send(&mut queue, 0, 1, |_| down()).len(), 1);
        let mut job = queue.next(Timestamp(5_000)).expect("a probe");
        assert!(enter(&mut job, 0, 5_000));
        assert_eq!(queue.gate.opens(&of(0), Timestamp(5_000)), Opens::Later);
        job.pass = None;
        end(&mut queue, &job, Answered::Refused { error: "it panicked".into(), retry_after: None }, 5_000);
        assert_eq!(send(&mut queue, 5_000, 1, |_| Answered::Taken).len(), 1);
    }

    /// Tenants of every kind at once: nobody is asked before the time that they named, one probe at a time goes to
    /// one that is down, nothing dies, and whoever answers has all of its events as soon as if it were alone.
    #[test]
    fn tenants_of_every_kind_do_not_feel_each_other() {
        for seed in 0..300_u64 {
            let mut state: u64 = 0x9e37_79b9_7f4a_7c15 ^ (seed << 7);
            let mut any = |max: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % max
            };
            let count = 2 + any(6);
            let latency = 1 + i64::try_from(any(50)).expect("small");
            // Until when each is away, and what it answers meanwhile: a 503, or a 429 that says when. The first never
            // is.
            let kinds: Vec<(i64, bool)> = (0..count)
                .map(|n| (if n == 0 { 0 } else { i64::try_from(any(3) * 40_000).expect("small") }, any(2) == 0))
                .collect();
            let events = 20 + any(60);
            let mut queue = Queue::new(Rules { in_flight_max: 8, ..tenants() }, EndpointState::default());
            let mut known = vec![0; kinds.len()];
            let mut done = vec![0; kinds.len()];
            let mut flying: Vec<(i64, u64, Job, Answered)> = Vec::new();
            (0..events).for_each(|lane| queue.push(waiting(lane, lane + 1), Timestamp(0)));
            let mut now = 0;
            while !queue.is_empty() {
                let ended: Vec<_> = flying.extract_if(.., |(at, ..)| *at <= now).collect();
                for (_, tenant, job, answered) in ended {
                    let at = usize::try_from(tenant).expect("small");
                    if let Answered::Down { retry_after: Some(asked), .. } = &answered {
                        known[at] = Timestamp(now).plus(*asked).0.max(known[at]);
                    }
                    let outcome = end(&mut queue, &job, answered, now);
                    assert_ne!(outcome, Outcome::Dead, "seed {seed}");
                    done[at] = if outcome == Outcome::Delivered { now } else { done[at] };
                }
                while let Some(mut job) = queue.next(Timestamp(now)) {
                    let tenant = job.events[0].lane % count;
                    let at = usize::try_from(tenant).expect("small");
                    if !enter(&mut job, tenant, now) {
                        turned_away(&mut queue, &job, tenant, now);
                        continue;
                    }
                    let (until, names) = kinds[at];
                    assert!(now >= known[at], "seed {seed}: {tenant} was asked at {now} and named {}", known[at]);
                    if job.pass.as_ref().is_some_and(|pass| pass.probe) {
                        assert!(flying.iter().all(|(_, other, ..)| *other != tenant), "seed {seed}: one at a time");
                    }
                    let wait = Duration::from_millis(u64::try_from(until - now).unwrap_or(0));
                    let answered = match now < until {
                        true if names => Answered::Down { error: "429".into(), retry_after: Some(wait) },
                        true => down(),
                        false => Answered::Taken,
                    };
                    flying.push((now + latency, tenant, job, answered));
                }
                let next = flying.iter().map(|(at, ..)| *at).chain(queue.wake(Timestamp(now)).map(|at| at.0)).min();
                let Some(next) = next else { break };
                now = next.max(now + 1);
            }
            assert!(queue.is_empty(), "seed {seed}: nothing goes on at {now}");
            assert!(
                queue.state().origins.is_empty() && queue.parked.is_empty() && queue.aims.is_empty(),
                "seed {seed}"
            );
            for (tenant, (until, names)) in kinds.iter().enumerate() {
                let pace = i64::try_from(events).expect("few") * latency;
                // Of one that is back all goes, at the latest after its probe.
                let latest = until
                    + pace
                    + if *until == 0 {
                        0
                    } else if *names {
                        1_000 + pace
                    } else {
                        125_000
                    };
                assert!(done[tenant] <= latest, "seed {seed}: {tenant} at {} in place of {latest}", done[tenant]);
            }
        }
    }
}

/// A receiver's token was renewed and the file read again: events that it had refused waited for their schedule all the same.
#[test]
fn another_file_is_a_reason_to_try_what_waits() {
    let wait = |queue: &Queue, now: i64| queue.wake(Timestamp(now)).map(|at| at.0);
    let mut queue = filled(&[(1, 1), (1, 2), (2, 3)]);
    for (.., job) in take(&mut queue, 0) {
        end(&mut queue, &job, refused(), 0);
    }
    assert!(wait(&queue, 10).is_some_and(|at| at > 1000), "{:?}", wait(&queue, 10));
    queue.may_be_cured(Timestamp(10));
    assert_eq!(take(&mut queue, 10).iter().map(|(lane, pack, _)| (*lane, *pack)).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
    // What the receiver asked for holds, and one that is disabled stays so.
    let mut queue = filled(&[(1, 1)]);
    let (.., job) = take(&mut queue, 0).remove(0);
    let asked = Answered::Down { error: "503".into(), retry_after: Some(S(3600)) };
    end(&mut queue, &job, asked, 0);
    queue.may_be_cured(Timestamp(10));
    assert!(take(&mut queue, 10).is_empty());
    let mut queue = filled(&[(1, 1)]);
    queue.enable(false, Timestamp(0));
    queue.may_be_cured(Timestamp(10));
    assert!(take(&mut queue, 10).is_empty());
}

/// A receiver that refused everything had an oldest event of the future, which was that of the next attempt: no alert came for
/// three days.
#[test]
fn the_oldest_is_the_first_that_waits_whatever_became_of_it() {
    let mut queue = filled(&[(1, 1), (1, 2), (2, 3)]);
    let pack = |queue: &Queue| queue.oldest().map(|position| position.pack);
    assert_eq!(pack(&queue), Some(1));
    let jobs = take(&mut queue, 0);
    assert_eq!(pack(&queue), Some(1), "in flight it still waits");
    for (.., job) in &jobs {
        end(&mut queue, job, refused(), 0);
    }
    assert_eq!(pack(&queue), Some(1));
    let (.., job) = take(&mut queue, HOUR).remove(0);
    end(&mut queue, &job, Answered::Taken, HOUR);
    assert_eq!(pack(&queue), Some(if job.events[0].position.pack == 1 { 2 } else { 1 }));
    let mut replays = queue_of_replays();
    assert_eq!(pack(&replays), None);
    replays.push(waiting(7, 9), Timestamp(0));
    assert_eq!(pack(&replays), Some(9));
}

fn queue_of_replays() -> Queue {
    let mut queue = queue();
    queue.push(Waiting { replay: true, ..waiting(1, 1) }, Timestamp(0));
    queue
}
