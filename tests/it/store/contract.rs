//! What every engine must do.

use std::{collections::BTreeSet, time::Duration};

use bellpull::{
    model::{Content, EventId, Hash, Timestamp, Validators},
    store::{
        Ahead, Commit, DeliveryState, EndpointState, Engine, Error, EventFilter, HeldPage, Hold, HoldChange, Lease,
        List, Op, Outcome, Position, Progress, Requeued, Settlement, Written, held_piece, memory::MemoryEngine,
    },
};

use super::{Writer, attempt, commit, entry, entry_of, event, events, op, open, record};

macro_rules! for_both {
    ($($case:ident)*) => {
        mod memory {
            $(#[test] fn $case() { super::$case(&super::MemoryEngine::new()) })*
        }
        mod sled {
            $(#[test] fn $case() {
                let dir = tempfile::tempdir().expect("a directory");
                super::$case(&super::open(dir.path()))
            })*
        }
    };
}

for_both! {
    a_commit_is_read_back
    another_version_is_a_conflict
    an_older_lease_is_fenced
    a_bad_write_does_not_stop_its_group
    writes_of_a_group_see_those_before_them
    lists_follow_every_edit
    a_list_may_repeat_itself
    records_are_scanned_in_slices
    holds_are_set_kept_and_cleared
    progress_is_kept_without_a_state
    endpoints_are_kept
    waiting_is_in_the_order_of_commits
    deliveries_end
    a_settled_delivery_stays_settled
    the_dead_are_counted_and_listed
    dead_from_the_start_until_remade
    requeued_events_are_replays
    attempts_are_listed_newest_first
    events_are_filtered
    a_sweep_takes_only_what_is_settled_and_old
    a_sweep_goes_on_where_it_stopped
    a_sweep_looks_again_where_events_are_kept_for_another_time
    an_endpoint_under_another_name_keeps_its_deliveries
    a_forgotten_endpoint_leaves_its_events
    a_bridge_under_another_name_keeps_its_snapshot
    large_values_come_back
    what_is_written_ahead_is_seen_with_its_commit
    a_held_answer_of_many_pieces_comes_back
    a_name_that_comes_back_begins_anew
    the_epoch_grows
}

const ALL: usize = usize::MAX;

fn all(engine: &dyn Engine) -> Vec<u64> {
    let found = engine.events(&EventFilter { bodies: true, limit: ALL, ..EventFilter::default() }).expect("read");
    found.iter().map(|stored| stored.event.sequence).collect()
}

fn a_commit_is_read_back(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    assert!(engine.bridges().expect("read").is_empty());
    assert!(engine.bridge("shop").expect("read").is_none());
    let sent = event("shop", 1, &[("app", Content::Shared), ("crm", Content::Own(b"own".to_vec()))]);
    let queued = writer.queued(op(Commit {
        list: Some(List::Whole(vec![entry(2), entry(1)])),
        put: vec![record(1, "{\"a\":1}"), record(2, "{\"a\":2}")],
        events: vec![sent.clone()],
        ..commit("shop", 0)
    }));
    let [(app, to_app), (crm, to_crm)] = queued.as_slice() else { panic!("two deliveries, not {queued:?}") };
    assert_eq!((&**app, &**crm), ("app", "crm"));
    assert_eq!((to_app.position, to_app.attempts, to_app.due), (to_crm.position, 0, sent.at));

    let loaded = engine.bridge("shop").expect("read").expect("known");
    assert_eq!((loaded.state, loaded.progress, loaded.held), (commit("shop", 0).state, None, false));
    assert_eq!(engine.list("shop"), Ok(vec![entry(2), entry(1)]));
    let keys = [entry(2).key, entry(9).key, entry(1).key];
    let records = vec![Some(record(2, "{\"a\":2}")), None, Some(record(1, "{\"a\":1}"))];
    assert_eq!(engine.records("shop", &keys), Ok(records));
    assert_eq!(engine.records("sho", &keys), Ok(vec![None, None, None]));
    assert_eq!(engine.waiting("app"), Ok(vec![*to_app]));
    let outgoing = |endpoint| engine.outgoing(endpoint, to_app.position).expect("read");
    assert_eq!(outgoing("app").map(|o| (o.event.id, o.event.body)), Some((sent.id, sent.body.clone())));
    assert_eq!(outgoing("crm").map(|o| o.content), Some(Content::Own(b"own".to_vec())));
    assert_eq!(outgoing("other"), None);
    let stored = engine.event(sent.id).expect("read").expect("there");
    assert_eq!(stored.event, sent);
    assert!(stored.deliveries.iter().all(|d| d.state == DeliveryState::Waiting && d.due == Some(sent.at)));

    writer.one(op(Commit { delete: vec![entry(1).key], ..commit("shop", 1) }));
    let keys = [entry(1).key, entry(2).key];
    assert_eq!(engine.records("shop", &keys), Ok(vec![None, Some(record(2, "{\"a\":2}"))]));
    assert_eq!(engine.list("shop"), Ok(vec![entry(2), entry(1)]), "a commit without a list keeps it");
}

fn another_version_is_a_conflict(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    writer.one(op(commit("shop", 0)));
    assert_eq!(writer.try_one(op(commit("shop", 0))), Err(Error::Conflict { stored: 1, expected: 0 }));
    assert_eq!(writer.try_one(op(commit("shop", 2))), Err(Error::Conflict { stored: 1, expected: 2 }));
    assert!(!Error::Conflict { stored: 1, expected: 2 }.needs_reopen());
    writer.one(op(commit("shop", 1)));
}

fn an_older_lease_is_fenced(engine: &dyn Engine) {
    let old = Writer::of(engine);
    let new = Writer::of(engine);
    let fenced = Err(Error::Fenced { current: new.lease.epoch, ours: old.lease.epoch });
    assert_eq!(old.try_one(op(commit("shop", 0))), fenced);
    let ahead = Lease { epoch: new.lease.epoch + 1 };
    assert!(matches!(engine.write(ahead, vec![op(commit("shop", 0))]).as_slice(), [Err(Error::Fenced { .. })]));
    new.one(op(commit("shop", 0)));
}

fn a_bad_write_does_not_stop_its_group(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let sent = |n| vec![event("shop", n, &[("app", Content::Shared)])];
    let results = writer.group(vec![
        op(Commit { events: sent(1), ..commit("a", 0) }),
        op(Commit { events: sent(2), put: vec![record(1, "{}")], ..commit("b", 7) }),
        op(Commit { events: sent(3), ..commit("c", 0) }),
    ]);
    assert!(matches!(results.as_slice(), [Ok(_), Err(Error::Conflict { stored: 0, expected: 7 }), Ok(_)]));
    assert_eq!(all(engine), [3, 1]);
    assert!(engine.bridge("b").expect("read").is_none());
    assert_eq!(engine.records("b", &[entry(1).key]), Ok(vec![None]));
}

fn writes_of_a_group_see_those_before_them(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let results = writer.group(vec![
        op(Commit { put: vec![record(1, vec![b'1'; 30_000])], ..commit("a", 0) }),
        op(Commit { put: vec![record(1, "{}")], ..commit("a", 1) }),
        op(commit("a", 1)),
    ]);
    assert!(matches!(results.as_slice(), [Ok(_), Ok(_), Err(Error::Conflict { stored: 2, expected: 1 })]));
    assert_eq!(engine.records("a", &[entry(1).key]), Ok(vec![Some(record(1, "{}"))]));
    assert_eq!(engine.scan("a", None, ALL).map(|records| records.len()), Ok(1));
    let before = engine.syncs();
    assert!(writer.try_one(op(commit("a", 0))).is_err());
    assert_eq!(engine.syncs(), before, "nothing to write is nothing to sync");
}

fn lists_follow_every_edit(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let mut list: Vec<_> = (0..1_000).map(entry).collect();
    let mut version = 0;
    let mut write = |list: &Vec<_>| {
        writer.one(op(Commit { list: Some(List::Whole(list.clone())), ..commit("shop", version) }));
        version += 1;
        assert_eq!(engine.list("shop").as_ref(), Ok(list), "after edit {version}");
    };
    write(&list);
    list.insert(0, entry(5_000));
    write(&list);
    list.remove(500);
    write(&list);
    if let Some(changed) = list.get_mut(300) {
        *changed = entry_of(299, 1);
    }
    write(&list);
    list.rotate_left(123);
    write(&list);
    list.truncate(3);
    write(&list);
    list.clear();
    write(&list);
}

fn a_list_may_repeat_itself(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    // Equal runs of 148 make equal chunks; one of two of them going must not take the other with it.
    let run = |n| std::iter::repeat_n(entry(n), 148);
    let twice: Vec<_> = run(1).chain(run(1)).chain(run(2)).collect();
    let once: Vec<_> = run(2).chain(run(1)).collect();
    for (version, list) in (0..).zip([&twice, &once, &twice]) {
        writer.one(op(Commit { list: Some(List::Whole(list.clone())), ..commit("shop", version) }));
        assert_eq!(engine.list("shop").as_ref(), Ok(list));
    }
}

fn records_are_scanned_in_slices(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let size = |n: u64| usize::try_from(n * 3_000).expect("small");
    let mut put: Vec<_> = (0..10).map(|n| record(n, noise(size(n)))).collect();
    writer.one(op(Commit { put: put.clone(), ..commit("shop", 0) }));
    writer.one(op(Commit { put: vec![record(1, "{}")], ..commit("shop2", 0) }));
    put.sort_by_key(|record| record.entry.key);
    let mut read = Vec::new();
    loop {
        let slice = engine.scan("shop", read.last().map(|r: &bellpull::model::Record| r.entry.key), 3).expect("read");
        if slice.is_empty() {
            break;
        }
        assert!(slice.len() <= 3);
        read.extend(slice);
    }
    assert_eq!(read, put);
}

fn hold(bytes: usize) -> Hold {
    let page = |body: String| HeldPage { url: "https://shop.example/orders".into(), content_type: None, body };
    Hold {
        judged_under: bellpull::model::Hash::default(),
        hash: entry(1).raw,
        at: Timestamp(5),
        reason: "900 of 1000 records would be deleted".into(),
        created: 0,
        updated: 1,
        deleted: 900,
        rejected: false,
        answer: vec![page("[]".into()), page(hex(bytes))],
        validators: Default::default(),
    }
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    (0u32..).flat_map(|n| entry(n.into()).raw.0).take(count).collect()
}

fn hex(count: usize) -> String {
    (0u32..).map(|n| entry(n.into()).raw.to_string()).take(count / 32).collect()
}

fn holds_are_set_kept_and_cleared(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    assert_eq!(engine.hold("shop"), Ok(None));
    let large = hold(1 << 20);
    writer.one(op(Commit { hold: HoldChange::Set(Box::new(large.clone())), ..commit("shop", 0) }));
    assert_eq!(engine.hold("shop"), Ok(Some(large.clone())));
    writer.one(op(commit("shop", 1)));
    assert_eq!(engine.hold("shop"), Ok(Some(large)));
    assert!(engine.bridge("shop").expect("read").expect("known").held);
    writer.one(op(Commit { hold: HoldChange::Set(Box::new(hold(0))), ..commit("shop", 2) }));
    assert_eq!(engine.hold("shop"), Ok(Some(hold(0))));
    writer.one(op(Commit { hold: HoldChange::Clear, ..commit("shop", 3) }));
    assert_eq!(engine.hold("shop"), Ok(None));
    assert!(!engine.bridge("shop").expect("read").expect("known").held);
}

fn progress_is_kept_without_a_state(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let missing = (0..900).map(|n| (entry(n).key, 2)).collect();
    let progress = Progress { due: Timestamp(9), missing, ..Progress::default() };
    writer.one(Op::Progress(vec![("a".into(), progress.clone()), ("b".into(), Progress::default())]));
    writer.one(op(commit("c", 0)));
    let names: Vec<_> = engine.bridges().expect("read").into_iter().map(|l| (l.name, l.state.version)).collect();
    assert_eq!(names, [("a".into(), 0), ("b".into(), 0), ("c".into(), 1)]);
    assert_eq!(engine.bridge("a").expect("read").and_then(|l| l.progress), Some(progress));
}

fn endpoints_are_kept(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let state = EndpointState { disabled: Some("410".into()), step: 3, ..EndpointState::default() };
    writer.one(Op::Endpoint("crm".into(), EndpointState::default()));
    writer.one(Op::Endpoint("app".into(), EndpointState::default()));
    writer.one(Op::Endpoint("app".into(), state.clone()));
    assert_eq!(engine.endpoints(), Ok(vec![("app".into(), state), ("crm".into(), EndpointState::default())]));
}

fn waiting_is_in_the_order_of_commits(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let app = [("app", Content::Shared)];
    let mut queued = Vec::new();
    for first in [0, 100, 200] {
        queued.extend(writer.queued(events((first..first + 100).map(|n| event("shop", n, &app)).collect())));
    }
    // Names that begin alike, or sort around the separator, are queues of their own.
    writer.one(events(vec![event("shop", 999, &[("app-2", Content::Shared), ("ap", Content::Shared)])]));
    let waiting = engine.waiting("app").expect("read");
    assert_eq!(waiting, queued.into_iter().map(|(_, waiting)| waiting).collect::<Vec<_>>());
    assert!(waiting.is_sorted_by_key(|w| w.position));
    let sent = waiting.iter().map(|w| engine.outgoing("app", w.position).expect("read").expect("there").event.id);
    assert!(sent.eq((0..300u128).map(|n| EventId(n.to_be_bytes()))));
    assert!(waiting.iter().all(|w| {
        let outgoing = engine.outgoing("app", w.position).expect("read").expect("there");
        w.lane == bellpull::store::lane("shop", &outgoing.event.key)
    }));
}

fn deliveries_end(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let both = [("app", Content::Shared), ("crm", Content::Shared)];
    let queued = writer.queued(events((1..=3).map(|n| event("shop", n, &both)).collect()));
    let positions: Vec<_> = queued.iter().filter(|(name, _)| &**name == "app").map(|(_, w)| w.position).collect();
    let [first, second, third] = positions.as_slice() else { panic!("three events") };
    writer.settle("app", *first, Outcome::Delivered);
    writer.settle("app", *second, Outcome::Retry { due: Timestamp(50_000), wait_ms: 300_000, refusals: 1 });
    writer.settle("app", *third, Outcome::Dead);
    let waiting = engine.waiting("app").expect("read");
    let [only] = waiting.as_slice() else { panic!("one waits, not {waiting:?}") };
    assert_eq!((only.position, only.due, only.attempts, only.refusals), (*second, Timestamp(50_000), 1, 1));
    assert_eq!(engine.waiting("crm").map(|w| w.len()), Ok(3));
    writer.settle("app", *second, Outcome::Delivered);
    assert_eq!(engine.waiting("app"), Ok(vec![]));
    assert_eq!(engine.dead("app"), Ok(1));
    let stored = engine.event(EventId(2u128.to_be_bytes())).expect("read").expect("there");
    let states: Vec<_> = stored.deliveries.iter().map(|d| (&*d.endpoint, d.state, d.attempts)).collect();
    assert_eq!(states, [("app", DeliveryState::Delivered, 2), ("crm", DeliveryState::Waiting, 0)]);
    assert!(engine.outgoing("app", *third).expect("read").is_some(), "a dead letter can be shown and replayed");
}

fn a_settled_delivery_stays_settled(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let queued = writer.queued(events(vec![event("shop", 1, &[("app", Content::Shared)])]));
    let (_, waiting) = queued.first().expect("one");
    writer.settle("app", waiting.position, Outcome::Delivered);
    writer.settle("app", waiting.position, Outcome::Dead);
    writer.settle("app", Position { pack: 1_000, index: 0 }, Outcome::Dead);
    writer.settle("none", waiting.position, Outcome::Dead);
    assert_eq!(engine.dead("app"), Ok(0));
    assert_eq!(engine.attempts(&mut |_| true, ALL).map(|a| a.len()), Ok(4));
}

fn the_dead_are_counted_and_listed(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let app = [("app", Content::Shared), ("crm", Content::Shared)];
    let queued = writer.queued(events((0..60).map(|n| event("shop", n, &app)).collect()));
    assert_eq!(engine.dead("app"), Ok(0));
    let app: Vec<_> = queued.iter().filter(|(name, _)| &**name == "app").collect();
    for (_, waiting) in app.iter().step_by(3) {
        writer.settle("app", waiting.position, Outcome::Dead);
    }
    assert_eq!(engine.dead("app"), Ok(20));
    let filter = |endpoint: Option<&str>, limit| EventFilter {
        endpoint: endpoint.map(Into::into),
        state: Some(DeliveryState::Dead),
        limit,
        ..EventFilter::default()
    };
    let dead = engine.events(&filter(Some("app"), ALL)).expect("read");
    let sequences: Vec<u64> = dead.iter().map(|stored| stored.event.sequence).collect();
    assert_eq!(sequences, (0..60).rev().filter(|n| n % 3 == 0).collect::<Vec<_>>());
    assert_eq!(engine.events(&filter(None, 5)).map(|e| e.len()), Ok(5));
    assert_eq!(engine.events(&filter(Some("crm"), ALL)), Ok(vec![]));
}

fn dead_from_the_start_until_remade(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let failed = Content::Dead("payload: no such field".into());
    let sent = event("shop", 1, &[("app", failed.clone()), ("crm", Content::Shared)]);
    let queued = writer.queued(events(vec![sent.clone()]));
    let [(crm, waiting)] = queued.as_slice() else { panic!("only one can be sent: {queued:?}") };
    assert_eq!(&**crm, "crm");
    let position = waiting.position;
    assert_eq!((engine.dead("app"), engine.waiting("app")), (Ok(1), Ok(vec![])));
    assert_eq!(engine.outgoing("app", position), Ok(None));
    let requeue = |content| writer.queued(Op::Requeue("app".into(), vec![Requeued { position, content }]));
    assert_eq!(requeue(None), [], "there is still nothing to send");
    assert_eq!(requeue(Some(Content::Dead("again".into()))), []);
    assert_eq!(engine.dead("app"), Ok(1));
    assert_eq!(requeue(Some(Content::Own(b"remade".to_vec()))).len(), 1);
    assert_eq!((engine.dead("app"), engine.waiting("app").map(|w| w.len())), (Ok(0), Ok(1)));
    assert_eq!(
        engine.outgoing("app", position).expect("read").map(|o| o.content),
        Some(Content::Own(b"remade".to_vec()))
    );
    let stored = engine.event(sent.id).expect("read").expect("there");
    assert_eq!(stored.event, sent, "as committed");
    writer.settle("app", position, Outcome::Delivered);
    assert_eq!(requeue(Some(Content::Shared)).len(), 1);
    assert_eq!(
        engine.outgoing("app", position).expect("read").map(|o| (o.content, o.event.body)),
        Some((Content::Shared, sent.body))
    );
}

fn requeued_events_are_replays(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let queued = writer.queued(events((0..2).map(|n| event("shop", n, &[("app", Content::Shared)])).collect()));
    let positions: Vec<_> = queued.iter().map(|(_, w)| w.position).collect();
    let [first, second] = positions.as_slice() else { panic!("two events") };
    writer.settle("app", *first, Outcome::Retry { due: Timestamp(1 << 50), wait_ms: 5, refusals: 4 });
    writer.settle("app", *first, Outcome::Dead);
    let rows = [*first, *second, Position { pack: 99, index: 0 }];
    let rows: Vec<_> = rows.into_iter().map(|position| Requeued { position, content: None }).collect();
    let queued = writer.queued(Op::Requeue("app".into(), rows));
    let [(_, again)] = queued.as_slice() else { panic!("only the dead one: {queued:?}") };
    assert_eq!((again.position, again.attempts, again.refusals, again.replay), (*first, 0, 0, true));
    assert!(again.due <= Timestamp(10_000), "due at once");
    let waiting = engine.waiting("app").expect("read");
    assert_eq!(waiting.iter().map(|w| (w.position, w.replay)).collect::<Vec<_>>(), [(*first, true), (*second, false)]);
    assert_eq!(engine.dead("app"), Ok(0));
}

fn attempts_are_listed_newest_first(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let id = EventId(1u128.to_be_bytes());
    let position = Position { pack: 0, index: 0 };
    let mut long = attempt(&id.to_string(), "app", 3);
    // The first 4 KiB of an answer that was not UTF-8 are up to 12 KiB of text.
    long.answer = "\u{fffd}".repeat(4096);
    long.error = Some(hex(10_000));
    let made = [attempt(&id.to_string(), "app", 1), attempt("evt_other", "crm", 2), long];
    for attempt in made.clone() {
        let outcome = Outcome::Delivered;
        writer.one(Op::Settle("app".into(), vec![Settlement { position, outcome, attempt }]));
    }
    let [first, second, third] = made;
    assert_eq!(engine.attempts(&mut |_| true, ALL), Ok(vec![third.clone(), second.clone(), first.clone()]));
    assert_eq!(engine.attempts(&mut |_| true, 1), Ok(vec![third.clone()]));
    assert_eq!(engine.attempts(&mut |attempt| attempt.event == id.to_string(), ALL), Ok(vec![third.clone(), first]));
    assert_eq!(engine.attempts(&mut |attempt| attempt.endpoint == "crm", ALL), Ok(vec![second]));
}

fn events_are_filtered(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let app = [("app", Content::Shared)];
    writer.one(events((0..5).map(|n| event("shop", n, &app)).collect()));
    writer.one(events((5..8).map(|n| event("", n, &[("ops", Content::Shared)])).collect()));
    writer.one(events((8..10).map(|n| event("shop", n, &[])).collect()));
    let found = |filter: EventFilter| -> Vec<u64> {
        let filter = EventFilter { limit: if filter.limit == 0 { ALL } else { filter.limit }, ..filter };
        engine.events(&filter).expect("read").iter().map(|stored| stored.event.sequence).collect()
    };
    assert_eq!(found(EventFilter::default()), (0..10).rev().collect::<Vec<_>>());
    assert_eq!(found(EventFilter { limit: 3, ..Default::default() }), [9, 8, 7]);
    assert_eq!(found(EventFilter { bridge: Some("".into()), ..Default::default() }), [7, 6, 5]);
    assert_eq!(found(EventFilter { endpoint: Some("app".into()), limit: 2, ..Default::default() }), [4, 3]);
    assert_eq!(found(EventFilter { since: Some(Timestamp(10_009)), ..Default::default() }), [9]);
    let state = |state, endpoint: Option<&str>| EventFilter {
        state: Some(state),
        endpoint: endpoint.map(Into::into),
        ..Default::default()
    };
    assert_eq!(found(state(DeliveryState::Waiting, Some("ops"))), [7, 6, 5]);
    assert_eq!(found(state(DeliveryState::Waiting, None)), (0..8).rev().collect::<Vec<_>>());
    assert_eq!(found(state(DeliveryState::Delivered, None)), [0u64; 0]);
    assert_eq!(engine.event(EventId([9; 16])), Ok(None));
}

/// Does what is done in the background, to the end.
fn work(writer: &Writer<'_>) {
    for _ in 0..1_000 {
        if !writer.engine.work(writer.lease).expect("done") {
            return;
        }
    }
    panic!("it never ends");
}

fn an_endpoint_under_another_name_keeps_its_deliveries(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let to = [("old", Content::Shared), ("other", Content::Own(b"1".to_vec()))];
    let queued = writer.queued(events((0..40).map(|n| event("shop", n, &to)).collect()));
    let old: Vec<_> = queued.iter().filter(|(name, _)| &**name == "old").map(|(_, waiting)| *waiting).collect();
    // One delivered, one dead, one dead and made again, one that the new name has too.
    writer.settle("old", old[0].position, Outcome::Delivered);
    writer.settle("old", old[1].position, Outcome::Dead);
    writer.settle("old", old[2].position, Outcome::Dead);
    let content = Some(Content::Own(b"anew".to_vec()));
    writer.queued(Op::Requeue("old".into(), vec![Requeued { position: old[2].position, content }]));
    let both = [("old", Content::Shared), ("new", Content::Own(b"its own".to_vec()))];
    let shared = writer.queued(events(vec![event("shop", 40, &both)]));
    let state = EndpointState { step: 3, ..EndpointState::default() };
    writer.one(Op::Endpoint("old".into(), state.clone()));
    let before = engine.waiting("old").expect("read");
    assert_eq!(before.len(), 39);
    writer.one(Op::Rename { from: "old".into(), to: "new".into() });
    assert_eq!((engine.waiting("old").expect("read").len(), engine.dead("old")), (0, Ok(0)));
    let after = engine.waiting("new").expect("read");
    assert_eq!(
        after.iter().map(|w| w.position).collect::<Vec<_>>(),
        before.iter().map(|w| w.position).collect::<Vec<_>>()
    );
    assert_eq!(engine.dead("new"), Ok(1));
    let content = |position| engine.outgoing("new", position).expect("read").expect("there").content;
    assert_eq!(content(old[2].position), Content::Own(b"anew".to_vec()));
    assert_eq!(content(old[3].position), Content::Shared);
    assert_eq!(content(shared[0].1.position), Content::Own(b"its own".to_vec()), "its own stays");
    let states: Vec<_> = engine.endpoints().expect("read");
    assert_eq!(states, [("new".into(), state)]);
    assert_eq!(engine.queues(), Ok(vec!["new".into(), "other".into()]));
    let names = |n| engine.event(EventId(u128::to_be_bytes(n))).expect("read").expect("there").deliveries;
    assert_eq!(
        names(0).iter().map(|d| (&*d.endpoint, d.state)).collect::<Vec<_>>().first(),
        Some(&("new", DeliveryState::Delivered))
    );
    assert_eq!(names(40).len(), 1);
    assert_eq!(engine.waiting("other").expect("read").len(), 40, "others are left alone");
}

fn a_bridge_under_another_name_keeps_its_snapshot(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let large = "x".repeat(20_000);
    let records: Vec<_> = (0..30).map(|n| record(n, format!("{{\"n\":{n},\"text\":\"{large}\"}}"))).collect();
    let list: Vec<_> = (0..30).map(entry).collect();
    let mut first = commit("old", 0);
    (first.put, first.list) = (records.clone(), Some(List::Whole(list.clone())));
    first.state.sequence = 7;
    writer.one(op(first));
    writer.one(op(commit("other", 0)));
    let progress = Progress { version: 1, failures: 3, ..Progress::default() };
    writer.one(Op::Progress(vec![("old".into(), progress.clone())]));
    writer.one(Op::RenameBridge { from: "old".into(), to: "new".into() });
    let sequence_alone = |name: &str| {
        let left = engine.bridge(name).expect("read").expect("its sequence number");
        assert_eq!((left.progress, left.held), (None, false));
        (left.state.version, left.state.records, left.state.sequence)
    };
    assert_eq!(sequence_alone("old"), (0, 0, 7));
    let loaded = engine.bridge("new").expect("read").expect("there");
    assert_eq!((loaded.state.version, loaded.state.sequence, loaded.progress), (1, 7, Some(progress)));
    assert_eq!(engine.list("new"), Ok(list));
    assert_eq!(engine.scan("new", None, ALL).expect("read").len(), 30);
    assert!(engine.scan("old", None, ALL).expect("read").is_empty() && engine.list("old").expect("read").is_empty());
    assert_eq!(engine.records("new", &[records[3].entry.key]).expect("read"), [Some(records[3].clone())]);
    // It goes on where it stood.
    let mut second = commit("new", 1);
    second.state.sequence = 9;
    writer.one(op(second));
    // Back under the first name, and the higher number stays.
    writer.one(Op::RenameBridge { from: "new".into(), to: "old".into() });
    let mut third = commit("old", 2);
    third.state.sequence = 8;
    writer.one(op(third));
    writer.one(Op::RenameBridge { from: "old".into(), to: "new".into() });
    assert_eq!(engine.bridge("new").expect("read").expect("there").state.sequence, 9);
    writer.one(Op::ForgetBridge("new".into()));
    assert_eq!((sequence_alone("new"), sequence_alone("old")), ((0, 0, 9), (0, 0, 8)));
    let names: Vec<_> = engine.bridges().expect("read").into_iter().map(|b| b.name.to_string()).collect();
    assert_eq!(names, ["new", "old", "other"]);
    assert!(engine.scan("new", None, ALL).expect("read").is_empty());
}

fn a_forgotten_endpoint_leaves_its_events(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let to = [("gone", Content::Shared), ("stays", Content::Shared)];
    let queued = writer.queued(events((0..30).map(|n| event("shop", n, &to)).collect()));
    let (_, first) = queued.iter().find(|(name, _)| &**name == "gone").expect("one");
    writer.settle("gone", first.position, Outcome::Dead);
    writer.one(Op::Endpoint("gone".into(), EndpointState::default()));
    writer.one(Op::Forget("gone".into()));
    assert_eq!((engine.waiting("gone").expect("read").len(), engine.dead("gone")), (0, Ok(0)));
    assert_eq!(engine.waiting("stays").expect("read").len(), 30);
    assert_eq!(engine.endpoints(), Ok(vec![]));
    assert_eq!(all(engine).len(), 30, "the events are the other endpoint's too");
    for waiting in engine.waiting("stays").expect("read") {
        writer.settle("stays", waiting.position, Outcome::Delivered);
    }
    writer.one(sweep(&[], 1 << 50, ALL));
    assert_eq!(all(engine).len(), 0, "and go with it");
}

fn a_sweep_takes_only_what_is_settled_and_old(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let sent = |n, endpoint| writer.queued(events(vec![event("shop", n, &[(endpoint, Content::Shared)])]));
    // At 10,000 + n. 5 goes nowhere.
    for (n, endpoint) in [(1, "app"), (2, "app"), (3, "app"), (4, "crm"), (5, ""), (6, "app")] {
        if endpoint.is_empty() {
            writer.one(events(vec![event("shop", n, &[])]));
            continue;
        }
        let queued = sent(n, endpoint);
        let (_, waiting) = queued.first().expect("one");
        match n {
            2 => {}
            3 => writer.settle(endpoint, waiting.position, Outcome::Dead),
            _ => writer.settle(endpoint, waiting.position, Outcome::Delivered),
        }
    }
    let sweep = |crm, default| sweep(&[("crm", crm)], default, 1_000);
    assert_eq!(writer.one(sweep(10_003, 10_005)), Written::Swept(2));
    assert_eq!(all(engine), [6, 4, 3, 2].into_iter().collect::<Vec<u64>>());
    assert_eq!(writer.one(sweep(10_004, 10_005)), Written::Swept(1));
    assert_eq!(writer.one(sweep(20_000, 20_000)), Written::Swept(1));
    assert_eq!(all(engine), [3, 2]);
    // What is delivered after all goes with the next one, with the same times as before.
    assert_eq!(writer.one(sweep(20_000, 20_000)), Written::Swept(0));
    let waiting = engine.waiting("app").expect("read")[0].position;
    writer.settle("app", waiting, Outcome::Delivered);
    assert_eq!(writer.one(sweep(20_000, 20_000)), Written::Swept(1));
    assert_eq!((all(engine), engine.dead("app")), (vec![3], Ok(1)));
}

/// Drops what was committed up to a time.
fn sweep(until: &[(&str, i64)], default_until: i64, limit: usize) -> Op {
    let now = 1 << 51;
    let keep = |until: i64| Duration::from_millis(u64::try_from(now - until).expect("before it"));
    Op::Sweep {
        now: Timestamp(now),
        keep: until.iter().map(|(name, until)| ((*name).into(), keep(*until))).collect(),
        default_keep: keep(default_until),
        limit,
    }
}

fn a_sweep_goes_on_where_it_stopped(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    for n in 0..40 {
        // Every fourth is still to be sent.
        let to: &[_] = if n % 4 == 0 { &[("app", Content::Shared)] } else { &[] };
        writer.one(events(vec![event("shop", n, to)]));
    }
    let mut swept = 0;
    for _ in 0..20 {
        let Written::Swept(count) = writer.one(sweep(&[], 1 << 50, 4)) else { panic!("a sweep's answer") };
        assert!(count <= 4);
        swept += count;
    }
    assert_eq!(swept, 30);
    assert_eq!(all(engine), (0..40).rev().filter(|n| n % 4 == 0).collect::<Vec<_>>());
}

/// The times were swapped by a reload, and what had been passed over under the old ones stayed until a restart.
fn a_sweep_looks_again_where_events_are_kept_for_another_time(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    for (n, endpoint) in [(0, "crm"), (1, "app")] {
        let queued = writer.queued(events(vec![event("shop", n, &[(endpoint, Content::Shared)])]));
        writer.settle(endpoint, queued.first().expect("one").1.position, Outcome::Delivered);
    }
    let [early, late] = [9_999, 20_000];
    assert_eq!(writer.one(sweep(&[("app", late)], early, ALL)), Written::Swept(1));
    assert_eq!(writer.one(sweep(&[("app", early)], late, ALL)), Written::Swept(1));
    assert_eq!(all(engine), Vec::<u64>::new());
}

/// A commit of a million records once stopped everything else while it was written: it is written ahead in parts.
fn what_is_written_ahead_is_seen_with_its_commit(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let app = [("app", Content::Shared), ("crm", Content::Dead("no".into()))];
    writer.one(op(Commit {
        put: (0..20).map(|n| record(n, format!("{{\"old\":{n}}}"))).collect(),
        list: Some(List::Whole((0..20).map(entry).collect())),
        events: vec![event("shop", 0, &app)],
        ..commit("shop", 0)
    }));
    let stage = |bridge: &str| match writer.one(Op::Stage(bridge.into())) {
        Written::Staged(number) => number,
        other => panic!("{other:?} is no stage"),
    };
    let looks = || {
        let keys: Vec<_> = (0..30).map(|n| entry(n).key).collect();
        let all_events = EventFilter { bodies: true, limit: ALL, ..EventFilter::default() };
        (
            (engine.list("shop"), engine.records("shop", &keys), engine.scan("shop", None, ALL)),
            (engine.waiting("app"), engine.dead("crm"), engine.queues(), engine.events(&all_events)),
            engine.event(EventId(5u128.to_be_bytes())),
        )
    };
    let before = looks();
    let part = |stage, from: u64| Ahead {
        stage,
        put: (from..from + 4).map(|n| record(n, format!("{{\"new\":{n}}}"))).collect(),
        delete: vec![entry(from + 10).key],
        events: (from..from + 4).map(|n| event("shop", n, &app)).collect(),
        ..Ahead::default()
    };
    let ahead = |part: Ahead| writer.try_one(Op::Ahead(Box::new(part)));
    // One that never gets a commit, since another begins.
    let lost = stage("shop");
    ahead(part(lost, 1)).expect("written");
    let number = stage("shop");
    assert!(matches!(ahead(part(lost, 5)), Err(Error::Conflict { .. })));
    let mut queued = 0;
    for from in [1, 5] {
        let Written::Queued(waiting) = ahead(part(number, from)).expect("written") else { panic!("what waits") };
        queued += waiting.len();
    }
    assert_eq!(queued, 8);
    let after = looks();
    assert_eq!(after.0, before.0, "no record of it is seen");
    assert_eq!(after.1.0, before.1.0, "nothing of it waits");
    assert_eq!((&after.1.1, &after.1.2, &after.1.3), (&before.1.1, &before.1.2, &before.1.3));
    assert_eq!(after.2, before.2, "no event of it is seen");
    // Others commit meanwhile, also to its endpoints.
    writer.one(op(Commit { events: vec![event("other", 70, &app)], ..commit("other", 0) }));
    work(&writer);
    let list: Vec<_> = (0..20).filter(|n| *n != 11 && *n != 15).map(entry).collect();
    writer.one(op(Commit { list: Some(List::Whole(list.clone())), ahead: Some(number), ..commit("shop", 1) }));
    let seen = |engine: &dyn Engine| {
        assert_eq!(engine.list("shop").as_ref(), Ok(&list));
        let records = engine.records("shop", &[entry(3).key, entry(9).key, entry(11).key]).expect("read");
        assert_eq!(records, [Some(record(3, "{\"new\":3}")), Some(record(9, "{\"old\":9}")), None]);
        let scanned = engine.scan("shop", None, ALL).expect("read");
        assert_eq!(scanned.len(), 18);
        for at in 1..18 {
            assert_eq!(engine.scan("shop", Some(scanned[at - 1].entry.key), 3).expect("read")[0], scanned[at]);
        }
        assert_eq!(engine.waiting("app").expect("read").len(), 10);
        assert_eq!((engine.dead("crm"), all(engine).len()), (Ok(10), 10));
    };
    seen(engine);
    work(&writer);
    seen(engine);
    // A stage of an older version has no commit any more, and its commit is refused as a whole.
    let late = stage("shop");
    ahead(part(late, 1)).expect("written");
    writer.one(op(commit("shop", 2)));
    let refused = writer.try_one(op(Commit { ahead: Some(late), ..commit("shop", 2) }));
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    writer.one(Op::Abandon(late));
    work(&writer);
    seen(engine);
    // All of it again: the layer below goes.
    let whole = stage("shop");
    let put: Vec<_> = (0..20).filter(|n| *n != 11 && *n != 15).map(|n| record(n, "{}")).collect();
    ahead(Ahead { stage: whole, put, ..Ahead::default() }).expect("written");
    let mut last = commit("shop", 3);
    last.state.records = 18;
    writer.one(op(Commit { list: Some(List::Whole(list)), ahead: Some(whole), ..last }));
    for _ in 0..2 {
        let bodies: BTreeSet<_> = engine.scan("shop", None, ALL).expect("read").into_iter().map(|r| r.body).collect();
        assert_eq!(bodies, BTreeSet::from([b"{}".to_vec()]));
        work(&writer);
    }
    // A record that comes after it, and one that goes.
    writer.one(op(Commit { put: vec![record(40, "{}")], delete: vec![entry(1).key], ..commit("shop", 4) }));
    assert_eq!(engine.scan("shop", None, ALL).expect("read").len(), 18);
}

fn a_held_answer_of_many_pieces_comes_back(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let Written::Staged(stage) = writer.one(Op::Stage("shop".into())) else { panic!("a stage") };
    let pages = ["äöü".repeat(2_000), String::new(), "x".repeat(9_000)];
    let cut: Vec<Vec<&[u8]>> = pages.iter().map(|page| page.as_bytes().chunks(4_001).collect()).collect();
    for (page, pieces) in cut.iter().enumerate() {
        for (piece, bytes) in (0u32..).zip(pieces) {
            let mut record = record(0, bytes.to_vec());
            record.entry.key = held_piece(page, piece);
            writer.one(Op::Ahead(Box::new(Ahead { stage, put: vec![record], ..Ahead::default() })));
        }
    }
    let page = |body: &str| HeldPage { url: "https://a.example".into(), content_type: None, body: body.into() };
    let hold = |pages: Vec<HeldPage>| {
        let hash = Hash::of(b"answer");
        Box::new(Hold {
            judged_under: hash,
            hash,
            at: Timestamp(4),
            reason: "too many".into(),
            created: 0,
            updated: 0,
            deleted: 9,
            rejected: false,
            answer: pages,
            validators: Validators::default(),
        })
    };
    let counts = cut.iter().map(|pieces| u32::try_from(pieces.len()).expect("few")).collect();
    let empty = pages.iter().map(|_| page("")).collect();
    let held = HoldChange::Ahead(hold(empty), counts);
    writer.one(op(Commit { hold: held, ahead: Some(stage), ..commit("shop", 0) }));
    work(&writer);
    let whole = hold(pages.iter().map(|text| page(text)).collect());
    assert_eq!(engine.hold("shop"), Ok(Some(*whole)));
    assert_eq!(engine.scan("shop", None, ALL), Ok(vec![]), "its pages are no records");
    writer.one(op(Commit { hold: HoldChange::Set(hold(vec![page("[]")])), ..commit("shop", 1) }));
    work(&writer);
    assert_eq!(engine.hold("shop"), Ok(Some(*hold(vec![page("[]")]))));
    writer.one(op(Commit { hold: HoldChange::Clear, ..commit("shop", 2) }));
    assert_eq!(engine.hold("shop"), Ok(None));
}

/// A name that came back while what it had before was being removed found half of it.
fn a_name_that_comes_back_begins_anew(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let put = || (0..50).map(|n| record(n, "{}")).collect::<Vec<_>>();
    let list = || Some(List::Whole((0..50).map(entry).collect()));
    let sent = |n| event("shop", n, &[("app", Content::Shared)]);
    writer.one(op(Commit { put: put(), list: list(), events: vec![sent(1), sent(2)], ..commit("shop", 0) }));
    writer.one(Op::ForgetBridge("shop".into()));
    writer.one(Op::Forget("app".into()));
    assert_eq!((engine.scan("shop", None, ALL), engine.list("shop")), (Ok(vec![]), Ok(vec![])));
    writer.one(op(Commit { put: vec![record(60, "{}")], events: vec![sent(3)], ..commit("shop", 0) }));
    for _ in 0..2 {
        assert_eq!(engine.scan("shop", None, ALL).expect("read").len(), 1);
        assert_eq!((engine.waiting("app").expect("read").len(), engine.list("shop")), (1, Ok(vec![])));
        work(&writer);
    }
    writer.one(Op::RenameBridge { from: "nothing".into(), to: "shop".into() });
    writer.one(Op::Rename { from: "nothing".into(), to: "app".into() });
    assert_eq!(engine.scan("shop", None, ALL).expect("read").len(), 1);
}

fn large_values_come_back(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let body = noise(300_000);
    let mut large = event("shop", 2, &[("app", Content::Own(noise(50_000)))]);
    large.body = body.clone();
    let small = |n| event("shop", n, &[("app", Content::Shared)]);
    let put = vec![record(1, body.clone())];
    writer.one(op(Commit { put, events: vec![small(1), large.clone(), small(3)], ..commit("a", 0) }));
    assert_eq!(engine.records("a", &[entry(1).key]), Ok(vec![Some(record(1, body))]));
    assert_eq!(engine.event(large.id).expect("read").map(|stored| stored.event), Some(large));
    assert_eq!(all(engine), [3, 2, 1]);
    writer.one(op(Commit { put: vec![record(1, "{}")], ..commit("a", 1) }));
    assert_eq!(engine.scan("a", None, ALL), Ok(vec![record(1, "{}")]));
}

fn the_epoch_grows(engine: &dyn Engine) {
    let first = engine.claim().expect("claimed");
    let second = engine.claim().expect("claimed");
    assert_eq!(second.epoch, first.epoch + 1);
    assert!(engine.stream().starts_with("s_"));
}
