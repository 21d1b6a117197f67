//! What every engine must do.

use bellpull::{
    model::{Content, EventId, Timestamp},
    store::{
        DeliveryState, EndpointState, Engine, Error, EventFilter, HeldPage, Hold, HoldChange, Lease, Op, Outcome,
        Position, Progress, Requeued, Settlement, Written, memory::MemoryEngine,
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
    an_endpoint_under_another_name_keeps_its_deliveries
    a_forgotten_endpoint_leaves_its_events
    a_bridge_under_another_name_keeps_its_snapshot
    large_values_come_back
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
    let queued = writer.queued(op(bellpull::store::Commit {
        list: Some(vec![entry(2), entry(1)]),
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

    writer.one(op(bellpull::store::Commit { delete: vec![entry(1).key], ..commit("shop", 1) }));
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
        op(bellpull::store::Commit { events: sent(1), ..commit("a", 0) }),
        op(bellpull::store::Commit { events: sent(2), put: vec![record(1, "{}")], ..commit("b", 7) }),
        op(bellpull::store::Commit { events: sent(3), ..commit("c", 0) }),
    ]);
    assert!(matches!(results.as_slice(), [Ok(_), Err(Error::Conflict { stored: 0, expected: 7 }), Ok(_)]));
    assert_eq!(all(engine), [3, 1]);
    assert!(engine.bridge("b").expect("read").is_none());
    assert_eq!(engine.records("b", &[entry(1).key]), Ok(vec![None]));
}

fn writes_of_a_group_see_those_before_them(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let results = writer.group(vec![
        op(bellpull::store::Commit { put: vec![record(1, vec![b'1'; 30_000])], ..commit("a", 0) }),
        op(bellpull::store::Commit { put: vec![record(1, "{}")], ..commit("a", 1) }),
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
        writer.one(op(bellpull::store::Commit { list: Some(list.clone()), ..commit("shop", version) }));
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
        writer.one(op(bellpull::store::Commit { list: Some(list.clone()), ..commit("shop", version) }));
        assert_eq!(engine.list("shop").as_ref(), Ok(list));
    }
}

fn records_are_scanned_in_slices(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let size = |n: u64| usize::try_from(n * 3_000).expect("small");
    let mut put: Vec<_> = (0..10).map(|n| record(n, noise(size(n)))).collect();
    writer.one(op(bellpull::store::Commit { put: put.clone(), ..commit("shop", 0) }));
    writer.one(op(bellpull::store::Commit { put: vec![record(1, "{}")], ..commit("shop2", 0) }));
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
    writer.one(op(bellpull::store::Commit { hold: HoldChange::Set(Box::new(large.clone())), ..commit("shop", 0) }));
    assert_eq!(engine.hold("shop"), Ok(Some(large.clone())));
    writer.one(op(commit("shop", 1)));
    assert_eq!(engine.hold("shop"), Ok(Some(large)));
    assert!(engine.bridge("shop").expect("read").expect("known").held);
    writer.one(op(bellpull::store::Commit { hold: HoldChange::Set(Box::new(hold(0))), ..commit("shop", 2) }));
    assert_eq!(engine.hold("shop"), Ok(Some(hold(0))));
    writer.one(op(bellpull::store::Commit { hold: HoldChange::Clear, ..commit("shop", 3) }));
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
    writer.settle("app", *second, Outcome::Retry { due: Timestamp(50_000), refusals: 1 });
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
    writer.settle("app", *first, Outcome::Retry { due: Timestamp(1 << 50), refusals: 4 });
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

/// Repeats until nothing is left, as its contract says.
fn repeat(writer: &Writer<'_>, op: &Op) {
    for _ in 0..100 {
        if writer.one(op.clone()) == Written::Swept(0) {
            return;
        }
    }
    panic!("it never ends: {op:?}");
}

fn an_endpoint_under_another_name_keeps_its_deliveries(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let to = [("old", Content::Shared), ("other", Content::Own(b"1".to_vec()))];
    let queued = writer.queued(events((0..40).map(|n| event("shop", n, &to)).collect()));
    let old: Vec<_> = queued.iter().filter(|(name, _)| &**name == "old").map(|(_, waiting)| *waiting).collect();
    // One delivered, one dead, one dead and made anew, one that the new name has too.
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
    repeat(&writer, &Op::Rename { from: "old".into(), to: "new".into(), limit: 1 });
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
    (first.put, first.list) = (records.clone(), Some(list.clone()));
    first.state.sequence = 7;
    writer.one(op(first));
    writer.one(op(commit("other", 0)));
    let progress = Progress { version: 1, failures: 3, ..Progress::default() };
    writer.one(Op::Progress(vec![("old".into(), progress.clone())]));
    repeat(&writer, &Op::RenameBridge { from: "old".into(), to: "new".into(), limit: 7 });
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
    repeat(&writer, &Op::RenameBridge { from: "new".into(), to: "old".into(), limit: 7 });
    let mut third = commit("old", 2);
    third.state.sequence = 8;
    writer.one(op(third));
    repeat(&writer, &Op::RenameBridge { from: "old".into(), to: "new".into(), limit: 7 });
    assert_eq!(engine.bridge("new").expect("read").expect("there").state.sequence, 9);
    repeat(&writer, &Op::ForgetBridge { bridge: "new".into(), limit: 7 });
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
    repeat(&writer, &Op::Forget { endpoint: "gone".into(), limit: 2 });
    assert_eq!((engine.waiting("gone").expect("read").len(), engine.dead("gone")), (0, Ok(0)));
    assert_eq!(engine.waiting("stays").expect("read").len(), 30);
    assert_eq!(engine.endpoints(), Ok(vec![]));
    assert_eq!(all(engine).len(), 30, "the events are the other endpoint's too");
    for waiting in engine.waiting("stays").expect("read") {
        writer.settle("stays", waiting.position, Outcome::Delivered);
    }
    writer.one(Op::Sweep { before: Vec::new(), default_before: Timestamp(1 << 50), limit: ALL });
    assert_eq!(all(engine).len(), 0, "and go with it");
}

fn a_sweep_takes_only_what_is_settled_and_old(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let sent = |n, endpoint| writer.queued(events(vec![event("shop", n, &[(endpoint, Content::Shared)])]));
    // At 10,000 + n. 5 goes nowhere.
    for (n, endpoint) in [(1, "app"), (2, "app"), (3, "app"), (4, "crm"), (6, "app")] {
        let queued = sent(n, endpoint);
        let (_, waiting) = queued.first().expect("one");
        match n {
            2 => {}
            3 => writer.settle(endpoint, waiting.position, Outcome::Dead),
            _ => writer.settle(endpoint, waiting.position, Outcome::Delivered),
        }
    }
    writer.one(events(vec![event("shop", 5, &[])]));
    let sweep = |crm, default| Op::Sweep {
        before: vec![("crm".into(), Timestamp(crm))],
        default_before: Timestamp(default),
        limit: 1_000,
    };
    assert_eq!(writer.one(sweep(10_004, 10_006)), Written::Swept(2));
    assert_eq!(all(engine), [6, 4, 3, 2].into_iter().collect::<Vec<u64>>());
    assert_eq!(writer.one(sweep(10_005, 10_006)), Written::Swept(1));
    assert_eq!(writer.one(sweep(i64::MAX, i64::MAX)), Written::Swept(1));
    assert_eq!(all(engine), [3, 2]);
    assert_eq!((engine.waiting("app").map(|w| w.len()), engine.dead("app")), (Ok(1), Ok(1)));
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
        let sweep = Op::Sweep { before: vec![], default_before: Timestamp(i64::MAX), limit: 4 };
        let Written::Swept(count) = writer.one(sweep) else { panic!("a sweep's answer") };
        assert!(count <= 4);
        swept += count;
    }
    assert_eq!(swept, 30);
    assert_eq!(all(engine), (0..40).rev().filter(|n| n % 4 == 0).collect::<Vec<_>>());
}

fn large_values_come_back(engine: &dyn Engine) {
    let writer = Writer::of(engine);
    let body = noise(300_000);
    let mut large = event("shop", 2, &[("app", Content::Own(noise(50_000)))]);
    large.body = body.clone();
    let small = |n| event("shop", n, &[("app", Content::Shared)]);
    let put = vec![record(1, body.clone())];
    writer.one(op(bellpull::store::Commit { put, events: vec![small(1), large.clone(), small(3)], ..commit("a", 0) }));
    assert_eq!(engine.records("a", &[entry(1).key]), Ok(vec![Some(record(1, body))]));
    assert_eq!(engine.event(large.id).expect("read").map(|stored| stored.event), Some(large));
    assert_eq!(all(engine), [3, 2, 1]);
    writer.one(op(bellpull::store::Commit { put: vec![record(1, "{}")], ..commit("a", 1) }));
    assert_eq!(engine.scan("a", None, ALL), Ok(vec![record(1, "{}")]));
}

fn the_epoch_grows(engine: &dyn Engine) {
    let first = engine.claim().expect("claimed");
    let second = engine.claim().expect("claimed");
    assert_eq!(second.epoch, first.epoch + 1);
    assert!(engine.stream().starts_with("s_"));
}
