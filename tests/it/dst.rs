//! Days on which clocks change, lived through on paused time: the schedule as the file gives it, the wall clock that
//! follows tokio's, and a sleep until each due time, as the runner does it.

use std::time::Duration;

use bellpull::{clock::Clock, model::Timestamp};
use chrono::{DateTime, Utc};
use expect_test::{Expect, expect};

use crate::support::rig;

/// Sleeps from run to run between two times; what the clock on the wall of the zone shows at each.
async fn live(cron: &str, zone: &str, from: &str, to: &str, expected: Expect) {
    let (_dir, config) = rig::load(&format!(
        "[bridge.a]\ncron = {cron:?}\ntimezone = {zone:?}\nto = [\"me\"]\nsource.http.url = \"http://example.com/\"\n\
         [endpoint.me]\nurl = \"http://example.com/\"\n"
    ));
    let schedule = &config.bridges["a"].schedule;
    let at = |text: &str| Timestamp::from_utc(text.parse::<DateTime<Utc>>().expect("a time"));
    let clock = Clock::starting_at(at(from));
    let zone: chrono_tz::Tz = zone.parse().expect("a zone");
    let mut due = schedule.first("a", None, clock.now());
    let mut seen = String::new();
    while due <= at(to) {
        assert!(due > clock.now(), "never in the past: no hot loop");
        tokio::time::sleep(clock.now().until(due)).await;
        let now = clock.now();
        assert!(now.0 - due.0 < 5, "woken at its time");
        seen += &format!("{}\n", now.to_utc().with_timezone(&zone).format("%a %H:%M %Z"));
        // A poll takes a while.
        tokio::time::advance(Duration::from_millis(700)).await;
        due = schedule.next(due, clock.now(), schedule.pace(), 0.5);
    }
    expected.assert_eq(&seen);
}

#[tokio::test(start_paused = true)]
async fn berlin_in_spring_and_autumn() {
    live(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        "2026-03-30T12:00:00Z",
        expect![[r#"
        Sat 02:30 CET
        Sun 03:00 CEST
        Mon 02:30 CEST
    "#]],
    )
    .await;
    live(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        "2026-10-26T12:00:00Z",
        expect![[r#"
        Sun 02:30 CEST
        Mon 02:30 CET
    "#]],
    )
    .await;
    live(
        "0 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:30:00Z",
        "2026-10-25T03:00:00Z",
        expect![[r#"
        Sun 02:00 CEST
        Sun 02:00 CET
        Sun 03:00 CET
        Sun 04:00 CET
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn new_york_in_spring_and_autumn() {
    live(
        "15,45 * * * *",
        "America/New_York",
        "2026-03-08T06:00:00Z",
        "2026-03-08T08:30:00Z",
        expect![[r#"
        Sun 01:15 EST
        Sun 01:45 EST
        Sun 03:15 EDT
        Sun 03:45 EDT
        Sun 04:15 EDT
    "#]],
    )
    .await;
    live(
        "0 2 * * *",
        "America/New_York",
        "2026-03-07T12:00:00Z",
        "2026-03-09T12:00:00Z",
        expect![[r#"
        Sun 03:00 EDT
        Mon 02:00 EDT
    "#]],
    )
    .await;
    live(
        "30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        "2026-11-02T12:00:00Z",
        expect![[r#"
        Sun 01:30 EDT
        Mon 01:30 EST
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn lord_howe_moves_by_half_an_hour() {
    live(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        "2026-10-05T00:00:00Z",
        expect![[r#"
        Sun 02:30 +11
        Mon 02:15 +11
    "#]],
    )
    .await;
    live(
        "*/15 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:20:00Z",
        "2026-04-04T15:30:00Z",
        expect![[r#"
        Sun 01:30 +11
        Sun 01:45 +11
        Sun 01:30 +1030
        Sun 01:45 +1030
        Sun 02:00 +1030
    "#]],
    )
    .await;
}
