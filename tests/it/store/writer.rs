//! The async handle: groups, and what its callers learn of a fault.

use std::sync::{Arc, atomic::Ordering};

use bellpull::store::{
    EndpointState, Engine, Error, Op, SharedEngine, Store,
    memory::{Fault, MemoryEngine},
};

use super::{commit, op, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writes_share_a_sync() {
    const WRITES: usize = 100;
    let dir = tempfile::tempdir().expect("a directory");
    let engine: SharedEngine = Arc::new(open(dir.path()));
    let store = Store::start(engine.clone()).expect("started");
    let before = store.syncs();
    let tasks: Vec<_> = (0..WRITES)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.write(op(commit(&format!("bridge-{n}"), 0))).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("written");
    }
    let syncs = store.syncs() - before;
    assert!(syncs <= 50, "{syncs} syncs for {WRITES} writes");
    assert_eq!(store.counters().commits.load(Ordering::Relaxed), 100);
    assert_eq!(store.counters().groups.load(Ordering::Relaxed), syncs);
    assert_eq!(engine.bridges().expect("read").len(), WRITES);
}

#[tokio::test]
async fn a_fault_stops_all_until_the_store_is_opened_again() {
    for fault in [Fault::UnknownApplied, Fault::UnknownLost] {
        let engine = Arc::new(MemoryEngine::new());
        let store = Store::start(engine.clone()).expect("started");
        engine.fail_next(fault);
        let error = store.write(op(commit("shop", 0))).await.expect_err("a fault");
        assert!(matches!(error, Error::Unknown(_)));
        assert_eq!(store.failed().await, error);
        let later = store.write(op(commit("shop", 0))).await.expect_err("still failed");
        assert!(later.needs_reopen() && !matches!(later, Error::Unknown(_)));
        assert!(store.read(|engine| engine.bridges()).await.is_err(), "what may be lost is not shown");
        drop(store);

        let store = Store::start(engine.clone()).expect("opened again");
        let loaded = store.read(|engine| engine.bridge("shop")).await.expect("read");
        let version = loaded.map_or(0, |loaded| loaded.state.version);
        assert_eq!(version, u64::from(fault == Fault::UnknownApplied));
        store.write(op(commit("shop", version))).await.expect("written");
    }
}

/// A full disk once stopped everything until somebody acted: commits are refused, what else is written waits for room, and
/// all goes on by itself.
#[tokio::test]
async fn where_there_is_no_room_commits_are_refused_and_all_else_waits() {
    let engine = Arc::new(MemoryEngine::new());
    let store = Store::start(engine.clone()).expect("started");
    let mut scarce = store.scarce();
    engine.set_full(true);
    let error = store.write(op(commit("shop", 0))).await.expect_err("no room");
    assert!(matches!(error, Error::Full(_)) && !error.needs_reopen(), "{error:?}");
    assert!(scarce.borrow_and_update().is_some());
    let waits = tokio::spawn({
        let store = store.clone();
        async move { store.write(Op::Endpoint("app".into(), EndpointState::default())).await }
    });
    assert!(store.ping().await && store.ping().await, "it moves while it waits");
    assert!(!waits.is_finished() && engine.endpoints().expect("read").is_empty());
    engine.set_full(false);
    waits.await.expect("no panic").expect("written");
    scarce.wait_for(Option::is_none).await.expect("told");
    store.write(op(commit("shop", 0))).await.expect("there is room again");
}
