//! The store's contract, checked for both engines by one suite; what only the disk can get wrong; and the two against
//! each other.

mod contract;
mod crash;
mod disk;
mod figures;
mod model;
mod writer;

use bellpull::{
    model::{Content, Delivery, Entry, Event, EventId, Hash, Name, Record, Timestamp},
    store::{
        Attempt, BridgeState, Commit, Engine, Error, Op, Outcome, Position, Settlement, Waiting, Written,
        sled::SledEngine,
    },
};

/// Of sled's page cache; small, so that pages are read back.
const CACHE_BYTES: u64 = 8 << 20;

fn open(dir: &std::path::Path) -> SledEngine {
    SledEngine::open(dir, CACHE_BYTES).expect("the store opens")
}

fn entry(n: u64) -> Entry {
    entry_of(n, n)
}

/// A record's entry with some content.
fn entry_of(n: u64, content: u64) -> Entry {
    let hash = |salt: &str, n: u64| Hash::of(format!("{salt}{n}").as_bytes());
    Entry { key: hash("key", n), raw: hash("raw", content), canonical: hash("canonical", content) }
}

fn record(n: u64, body: impl Into<Vec<u8>>) -> Record {
    let seen = Timestamp(1_000 + i64::try_from(n).expect("small"));
    Record { entry: entry(n), key: format!("key{n}"), seen, body: body.into() }
}

fn event(bridge: &str, n: u64, deliveries: &[(&str, Content)]) -> Event {
    let deliveries = deliveries
        .iter()
        .map(|(endpoint, content)| Delivery { endpoint: (*endpoint).into(), content: content.clone() });
    let number = u128::from(n);
    Event {
        id: EventId(number.to_be_bytes()),
        bridge: bridge.into(),
        sequence: n,
        kind: format!("{bridge}.updated"),
        key: format!("key{}", n % 7),
        at: Timestamp(10_000 + i64::try_from(n).expect("small")),
        body: format!("{{\"n\":{n}}}").into_bytes(),
        deliveries: deliveries.collect(),
    }
}

/// The commit after version `expected`.
fn commit(bridge: &str, expected: u64) -> Commit {
    let state = BridgeState { version: expected + 1, sequence: expected * 10, ..BridgeState::default() };
    Commit { bridge: Some(bridge.into()), expected, state, ..Commit::default() }
}

fn op(commit: Commit) -> Op {
    Op::Commit(Box::new(commit))
}

/// Only events.
fn events(events: Vec<Event>) -> Op {
    op(Commit { events, ..Commit::default() })
}

/// A claimed engine whose writes must succeed.
struct Writer<'a> {
    engine: &'a dyn Engine,
    lease: bellpull::store::Lease,
}

impl<'a> Writer<'a> {
    fn of(engine: &'a dyn Engine) -> Self {
        Self { engine, lease: engine.claim().expect("claimed") }
    }

    fn group(&self, group: Vec<Op>) -> Vec<Result<Written, Error>> {
        self.engine.write(self.lease, group)
    }

    fn try_one(&self, op: Op) -> Result<Written, Error> {
        let mut results = self.group(vec![op]);
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    fn one(&self, op: Op) -> Written {
        self.try_one(op).expect("written")
    }

    fn queued(&self, op: Op) -> Vec<(Name, Waiting)> {
        match self.one(op) {
            Written::Queued(queued) => queued,
            other => panic!("{other:?} is no answer to a commit"),
        }
    }

    fn settle(&self, endpoint: &str, position: Position, outcome: Outcome) {
        let attempt = attempt("evt", endpoint, 1);
        self.one(Op::Settle(endpoint.into(), vec![Settlement { position, outcome, attempt }]));
    }
}

fn attempt(event: &str, endpoint: &str, number: u32) -> Attempt {
    Attempt {
        event: event.into(),
        endpoint: endpoint.into(),
        number,
        at: Timestamp(77),
        duration_ms: 12,
        status: Some(503),
        answer: "try later".into(),
        error: None,
    }
}
