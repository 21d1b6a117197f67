//! Figures of the engine on disk, by hand:
//! `cargo test --release --test it store::figures -- --ignored --nocapture --test-threads 1`.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures, and prints what it measured")]

use std::time::{Duration, Instant};

use bellpull::{
    model::{Content, Timestamp},
    store::{Engine, EventFilter, List, Op, Outcome, Settlement, sled::SledEngine},
};

use super::{Writer, attempt, commit, entry_of, event, op, open, record};

/// Records of the bridge, in a list.
const RECORDS: u64 = 2_000;

/// `events` events in commits of `changes` changes, `commits` to a group; each is delivered when `settles`.
fn run(events: u64, changes: u64, commits: u64, lists: bool, settles: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let writer = Writer::of(&engine);
    let (mut version, mut sent) = (0, 0);
    let mut list: Vec<_> = (0..RECORDS).map(|n| entry_of(n, 0)).collect();
    let app = [("app", Content::Shared)];
    let (started, cpu) = (Instant::now(), cpu_ms());
    while sent < events {
        let mut group = Vec::new();
        for _ in 0..commits {
            let mut next = commit("shop", version);
            version += 1;
            for _ in 0..changes {
                let n = sent.wrapping_mul(7_919) % RECORDS;
                let body = format!(
                    "{{\"id\":{n},\"status\":\"paid\",\"total\":\"{sent}.90\",\"note\":\"{}\"}}",
                    record(sent, "").key.repeat(30)
                );
                let at = usize::try_from(n).expect("small");
                list.splice(at..=at, [entry_of(n, sent + 1)]);
                let mut made = event("shop", sent, &app);
                made.body = format!("{{\"type\":\"shop.updated\",\"data\":{body}}}").into_bytes();
                next.put.push(record(n, body));
                next.events.push(made);
                sent += 1;
            }
            next.list = lists.then(|| List::Whole(list.clone()));
            group.push(op(next));
        }
        for written in writer.group(group) {
            let bellpull::store::Written::Queued(queued) = written.expect("written") else {
                panic!("a commit's answer")
            };
            if settles {
                let rows = queued.into_iter().map(|(_, waiting)| Settlement {
                    position: waiting.position,
                    outcome: Outcome::Delivered,
                    attempt: attempt("evt_0000000000000000000000", "app", 1),
                });
                writer.one(Op::Settle("app".into(), rows.collect()));
            }
        }
    }
    let (wall, cpu) = (started.elapsed(), cpu_ms() - cpu);
    let per_event = |ms: f64| ms * 1_000.0 / f64::from(u32::try_from(sent).expect("small"));
    println!(
        "{sent} events, {changes} a commit, {commits} commits a group{}: {:.1} µs an event ({:.1} µs CPU), {} syncs, \
         RSS {} MB, {} MB on disk",
        match (lists, settles) {
            (_, true) => ", delivered",
            (true, _) => ", with a list of 2,000",
            (false, _) => ", without a list",
        },
        per_event(wall.as_secs_f64() * 1_000.0),
        per_event(cpu),
        engine.syncs(),
        rss_kb() / 1024,
        engine.size_bytes().expect("read") >> 20,
    );
    let started = Instant::now();
    let waiting = engine.waiting("app").expect("read").len();
    println!("  waiting(): {waiting} in {:?}", started.elapsed());
    drop(engine);
    let started = Instant::now();
    let engine = open(dir.path());
    println!("  open: {:?}", started.elapsed());
    if lists {
        assert_eq!(engine.list("shop").as_ref(), Ok(&list));
    }
}

/// `events` events in commits of 20, at a time, delivered.
fn deliver(writer: &Writer<'_>, version: &mut u64, at: i64, events: u64) {
    let app = [("app", Content::Shared)];
    for from in (0..events).step_by(20) {
        let mut next = commit("shop", *version);
        *version += 1;
        for n in from..(from + 20).min(events) {
            let mut made = event("shop", *version * 20 + n, &app);
            made.at = Timestamp(at);
            made.body = format!("{{\"type\":\"shop.updated\",\"data\":\"{}\"}}", "some words ".repeat(20)).into_bytes();
            next.events.push(made);
        }
        let rows = writer.queued(op(next)).into_iter().map(|(_, waiting)| Settlement {
            position: waiting.position,
            outcome: Outcome::Delivered,
            attempt: attempt("evt_0000000000000000000000", "app", 1),
        });
        writer.one(Op::Settle("app".into(), rows.collect()));
    }
}

fn sweep(writer: &Writer<'_>, now: i64, keep: Duration) -> usize {
    let mut all = 0;
    loop {
        let sweep = Op::Sweep { now: Timestamp(now), keep: Vec::new(), default_keep: keep, limit: 250 };
        match writer.one(sweep) {
            bellpull::store::Written::Swept(count @ 1..) => all += count,
            _ => return all,
        }
    }
}

/// `periods` of `period` at `rate` events in each, of which the last `kept` periods stay; a sweep after each. What the store takes at
/// its largest, beside what the same events take in a store that is written again; and then all of it falls behind.
fn keep_up(periods: i64, period: Duration, rate: u64, kept: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let writer = Writer::of(&engine);
    let (keep, step) = (period * kept, i64::try_from(period.as_millis()).expect("small"));
    let (mut version, mut dropped, mut largest) = (0, 0, 0);
    for number in 0..periods {
        deliver(&writer, &mut version, number * step, rate);
        dropped += sweep(&writer, number * step, keep);
        largest = largest.max(engine.size_bytes().expect("read"));
    }
    let live = engine.events(&EventFilter { limit: usize::MAX, ..EventFilter::default() }).expect("read").len();
    assert!(live <= usize::try_from(rate * u64::from(kept + 2)).expect("small"), "{live} are live");
    drop(engine);
    let (_, anew) = SledEngine::compact(dir.path(), super::CACHE_BYTES).expect("compacted");
    let engine = open(dir.path());
    let writer = Writer::of(&engine);
    let began = Instant::now();
    let count = sweep(&writer, 3 * periods * step, keep);
    let per_second = f64::from(u32::try_from(count).expect("few")) / began.elapsed().as_secs_f64();
    println!(
        "{rate} events in each of {periods} times {period:?}: {dropped} dropped meanwhile, {live} live; {} MB at the largest, {} MB \
         written anew; behind: {count} dropped, {per_second:.0} a second",
        largest >> 20,
        anew >> 20,
    );
    assert!(per_second >= 5_000.0, "{per_second} a second");
    assert!(largest <= 3 * anew, "{largest} bytes for {anew}");
}

/// The sweep dropped 16.7 events a second at the most: a daemon that commits more grew for ever. Thirty days with a rate that a
/// machine can do in a minute, and an hour of 500 events a second, of which ten minutes are kept.
#[test]
#[ignore = "measures"]
fn the_sweep_keeps_up() {
    keep_up(30 * 24, Duration::from_secs(60 * 60), 400, 7 * 24);
    keep_up(60, Duration::from_secs(60), 500 * 60, 10);
}

fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// User and system time of this process.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    // In ticks of 10 ms: fields 14 and 15 of proc_pid_stat(5).
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number") * 10.0).sum()
}

#[test]
#[ignore = "measures"]
fn twenty_changes_a_commit() {
    run(100_000, 20, 10, false, false);
    run(100_000, 20, 10, true, false);
}

#[test]
#[ignore = "measures"]
fn one_change_a_commit() {
    run(20_000, 1, 50, false, false);
    run(20_000, 1, 50, true, false);
}

#[test]
#[ignore = "measures"]
fn delivered() {
    run(100_000, 20, 10, false, true);
}
