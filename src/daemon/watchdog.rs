//! systemd's watchdog, fed while everything moves: the loops answer, and of what is due something ends within its deadline.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::{
    admin::{Admin, Moving},
    notify,
    pulse::Moves,
    telemetry::kind,
};

/// What polls and attempts may take beyond their deadlines, in times of the watchdog: to be begun, read, computed and written.
const LAG_TIMES: u32 = 5;

/// Tells systemd that the daemon is alive while the scheduler, the store's writer and every delivery loop move, and polls and
/// attempts end. A slow API or receiver stops none of them.
pub(super) async fn watch_over(within: Duration, admin: Admin) {
    let mut every = tokio::time::interval(within / 3);
    // What was missed while nothing moved is not made up for.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stuck = false;
    let (mut polls, mut attempts) = (Watched::default(), Watched::default());
    let lag = within * LAG_TIMES;
    loop {
        every.tick().await;
        let moves = match timeout(within / 2, admin.moves()).await {
            Ok(Some(Moving { polls: (polled, deadline), attempts: (attempted, longest) })) => {
                let now = Instant::now();
                // Both are looked at each time.
                polls.moves(polled, deadline + lag, now) & attempts.moves(attempted, longest + lag, now)
            }
            Ok(None) | Err(_) => false,
        };
        if moves {
            notify::alive();
        }
        let told = std::mem::replace(&mut stuck, !moves);
        if !moves && !told {
            tracing::error!(
                message_id = kind::STUCK,
                "scheduler, store or deliveries stand still: the watchdog is not fed"
            );
        }
    }
}

/// What was seen of polls, or of attempts.
#[derive(Debug, Default)]
struct Watched {
    ended: u64,
    /// Since when something is due, and nothing has ended.
    since: Option<Instant>,
}

impl Watched {
    /// Whether they move: nothing is due, or something ended within the time that the slowest of them may take. Where many wait for
    /// a place, those that have one end. By the clock that nobody sets.
    fn moves(&mut self, seen: Moves, within: Duration, now: Instant) -> bool {
        if !seen.due || seen.ended != self.ended {
            (self.ended, self.since) = (seen.ended, seen.due.then_some(now));
            return true;
        }
        now.duration_since(*self.since.get_or_insert(now)) <= within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: u64 = 10;

    /// Seconds, whether something is due, how many have ended, and whether that counts as moving.
    type Look = (u64, bool, u64, bool);

    fn check(what: &str, looks: &[Look]) {
        let (mut watched, start) = (Watched::default(), Instant::now());
        for (at, due, ended, moves) in looks.iter().copied() {
            let now = start + Duration::from_secs(at);
            let seen = Moves { due, ended };
            assert_eq!(watched.moves(seen, Duration::from_secs(WITHIN), now), moves, "{what}: at {at} s");
        }
    }

    /// A resolver that never answered held every thread, no poll ended for minutes, and the watchdog was fed.
    #[test]
    fn what_is_due_and_does_not_end_is_stuck() {
        check("nothing is ever due", &[(0, false, 0, true), (100, false, 0, true), (100_000, false, 0, true)]);
        check(
            "due, and none ends",
            &[(0, true, 0, true), (10, true, 0, true), (11, true, 0, false), (99, true, 0, false)],
        );
        check("some end", &[(0, true, 0, true), (9, true, 1, true), (19, true, 1, true), (20, true, 1, false)]);
        check("the last one ends, and none is due", &[(0, true, 0, true), (11, false, 1, true), (99, false, 1, true)]);
        check("due again after a quiet day", &[(0, false, 7, true), (86_400, true, 7, true), (86_410, true, 7, true)]);
        check("it moves again", &[(0, true, 0, true), (11, true, 0, false), (12, true, 1, true), (22, true, 1, true)]);
        check(
            "one is due and goes",
            &[(0, true, 0, true), (5, false, 0, true), (12, true, 0, true), (22, true, 0, true)],
        );
        check("a reload counts from the start", &[(0, true, 50, true), (9, true, 0, true), (19, true, 0, true)]);
    }

    /// However work comes and ends, nobody who ends something within the time counts as stuck, and who ends nothing does.
    #[test]
    fn random_work() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..1000 {
            let (mut watched, start) = (Watched::default(), Instant::now());
            let (mut at, mut ended, mut idle_or_ended) = (0, 0, 0);
            for _ in 0..50 {
                at += random(4) + 1;
                let (due, ends) = (random(8) > 0, random(6) == 0);
                ended += u64::from(ends);
                if !due || ends {
                    idle_or_ended = at;
                }
                let now = start + Duration::from_secs(at);
                let moves = watched.moves(Moves { due, ended }, Duration::from_secs(WITHIN), now);
                // The first look begins the time.
                let began = if idle_or_ended == 0 { None } else { Some(at - idle_or_ended) };
                if let Some(quiet) = began {
                    assert!(moves || quiet > WITHIN, "after {quiet} s");
                    assert!(!moves || quiet <= WITHIN + 4, "after {quiet} s");
                }
            }
        }
    }
}
