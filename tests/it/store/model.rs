//! Any sequence of writes leaves the same in both engines.

use std::{collections::BTreeMap, time::Duration};

use bellpull::{
    model::{Content, EventId, Timestamp},
    store::{
        Ahead, DeliveryState, Engine, EventFilter, List, Op, Outcome, Position, Progress, Requeued, Settlement,
        Written, memory::MemoryEngine,
    },
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{Writer, attempt, commit, entry, entry_of, event, op, open, record};

const BRIDGES: [&str; 2] = ["shop", "shop-2"];
const ENDPOINTS: [&str; 3] = ["app", "app2", "crm"];
/// Keys are few, so that records are overwritten and deleted.
const KEYS: u64 = 12;

/// A write, with what depends on the state still open.
#[derive(Debug, Clone)]
enum Step {
    Commit { bridge: usize, stale: bool, edits: Vec<Edit>, events: Vec<Vec<(usize, u8)>> },
    Progress { bridge: usize, failures: u32 },
    Settle { endpoint: usize, which: Vec<(Index, u8)> },
    Requeue { endpoint: usize, which: Vec<(Index, u8)> },
    Sweep { until: i64, default_until: i64 },
    Ahead { bridge: usize, edits: Vec<Edit>, events: Vec<Vec<(usize, u8)>>, abandoned: bool },
    RenameBridge { from: usize },
    ForgetBridge { bridge: usize },
    Rename { from: usize, to: usize },
    Forget { endpoint: usize },
}

#[derive(Debug, Clone)]
enum Edit {
    Put(u64, usize),
    Delete(u64),
    Insert(Index, u64),
    Remove(Index),
    Change(Index, u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..KEYS, prop_oneof![0usize..50, 3_000usize..20_000]).prop_map(|(key, size)| Edit::Put(key, size)),
        (0..KEYS).prop_map(Edit::Delete),
        (any::<Index>(), 0..500u64).prop_map(|(at, n)| Edit::Insert(at, n)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), 0..500u64).prop_map(|(at, n)| Edit::Change(at, n)),
    ]
}

/// A sweep is alone: it goes through what was stored before its group.
fn group() -> impl Strategy<Value = Vec<Step>> {
    let endpoint = 0..ENDPOINTS.len();
    let to = vec((endpoint.clone(), 0..4u8), 0..3);
    prop_oneof![
        10 => vec(step(), 1..4),
        2 => (0..40i64, 0..40i64).prop_map(|(until, default_until)| {
            let [until, default_until] = [until, default_until].map(|ms| 10_000 + ms);
            vec![Step::Sweep { until, default_until }]
        }),
        4 => (0..BRIDGES.len(), vec(edit(), 0..9), vec(to, 0..5), prop::bool::weighted(0.2)).prop_map(
            |(bridge, edits, events, abandoned)| vec![Step::Ahead { bridge, edits, events, abandoned }]
        ),
        1 => (0..BRIDGES.len()).prop_map(|from| vec![Step::RenameBridge { from }]),
        1 => (0..BRIDGES.len()).prop_map(|bridge| vec![Step::ForgetBridge { bridge }]),
        1 => (endpoint.clone(), 1..ENDPOINTS.len())
            .prop_map(|(from, by)| vec![Step::Rename { from, to: (from + by) % ENDPOINTS.len() }]),
        1 => endpoint.prop_map(|endpoint| vec![Step::Forget { endpoint }]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bridge = 0..BRIDGES.len();
    let endpoint = 0..ENDPOINTS.len();
    let to = vec((endpoint.clone(), 0..4u8), 0..3);
    let which = vec((any::<Index>(), any::<u8>()), 1..4);
    prop_oneof![
        4 => (bridge.clone(), prop::bool::weighted(0.1), vec(edit(), 0..6), vec(to, 0..5))
            .prop_map(|(bridge, stale, edits, events)| Step::Commit { bridge, stale, edits, events }),
        1 => (bridge, any::<u32>()).prop_map(|(bridge, failures)| Step::Progress { bridge, failures }),
        4 => (endpoint.clone(), which.clone()).prop_map(|(endpoint, which)| Step::Settle { endpoint, which }),
        2 => (endpoint, which).prop_map(|(endpoint, which)| Step::Requeue { endpoint, which }),
    ]
}

/// What the caller of a store knows: versions, lists, and the events it made.
#[derive(Default)]
struct Caller {
    versions: BTreeMap<&'static str, u64>,
    lists: BTreeMap<&'static str, Vec<bellpull::model::Entry>>,
    events: u64,
}

impl Caller {
    /// The same write for both engines, except for the positions, which are each engine's own.
    fn op(&mut self, step: &Step, engine: &dyn Engine) -> Op {
        match step {
            Step::Commit { bridge, stale, edits, events } => self.commit(*bridge, *stale, edits, events),
            Step::Progress { bridge, failures } => {
                let progress = Progress { failures: *failures, ..Progress::default() };
                Op::Progress(vec![(name(&BRIDGES, *bridge).into(), progress)])
            }
            Step::Settle { endpoint, which } => {
                let endpoint = name(&ENDPOINTS, *endpoint);
                let rows = which.iter().filter_map(|(index, outcome)| {
                    let (id, position) = self.position(*index, engine)?;
                    let outcome = match outcome % 3 {
                        0 => Outcome::Delivered,
                        1 => Outcome::Retry {
                            due: Timestamp((*outcome).into()),
                            wait_ms: 7,
                            refusals: (*outcome).into(),
                        },
                        _ => Outcome::Dead,
                    };
                    Some(Settlement { position, outcome, attempt: attempt(&id.to_string(), endpoint, 1) })
                });
                Op::Settle(endpoint.into(), rows.collect())
            }
            Step::Requeue { endpoint, which } => {
                let rows = which.iter().filter_map(|(index, content)| {
                    let (_, position) = self.position(*index, engine)?;
                    Some(Requeued { position, content: (content % 2 == 0).then(|| self::content(content / 2)) })
                });
                Op::Requeue(name(&ENDPOINTS, *endpoint).into(), rows.collect())
            }
            Step::Sweep { until, default_until } => {
                let now = 1 << 40;
                let keep = |until: i64| Duration::from_millis(u64::try_from(now - until).expect("before it"));
                let (keep, default_keep) = (vec![("app".into(), keep(*until))], keep(*default_until));
                Op::Sweep { now: Timestamp(now), keep, default_keep, limit: usize::MAX }
            }
            Step::RenameBridge { from } => {
                let (from, to) = (name(&BRIDGES, *from), name(&BRIDGES, 1 - *from));
                // The caller sees to it that no snapshot is lost.
                if self.versions.get(to).is_some_and(|version| *version > 0) {
                    return Op::Progress(Vec::new());
                }
                if let Some(version) = self.versions.remove(from) {
                    self.versions.insert(to, version);
                    self.lists.extend(self.lists.get(from).cloned().map(|list| (to, list)));
                    self.lists.remove(from);
                }
                Op::RenameBridge { from: from.into(), to: to.into() }
            }
            Step::ForgetBridge { bridge } => {
                let bridge = name(&BRIDGES, *bridge);
                self.versions.remove(bridge);
                self.lists.remove(bridge);
                Op::ForgetBridge(bridge.into())
            }
            Step::Rename { from, to } => {
                Op::Rename { from: name(&ENDPOINTS, *from).into(), to: name(&ENDPOINTS, *to).into() }
            }
            Step::Forget { endpoint } => Op::Forget(name(&ENDPOINTS, *endpoint).into()),
            Step::Ahead { .. } => unreachable!("it is several writes"),
        }
    }

    /// A commit that is written ahead in two parts, of which nothing is seen before its last group.
    fn ahead(&mut self, step: &Step, engine: &dyn Engine) -> Result<Written, bellpull::store::Error> {
        let Step::Ahead { bridge, edits, events, abandoned } = step else { unreachable!("asked of no other") };
        let known = (self.versions.clone(), self.lists.clone(), self.events);
        let Op::Commit(mut commit) = self.commit(*bridge, false, edits, events) else { unreachable!("a commit") };
        let writer = Writer::of(engine);
        let before = view(engine);
        let Written::Staged(stage) = writer.one(Op::Stage(name(&BRIDGES, *bridge).into())) else {
            panic!("no stage");
        };
        let mut queued = Vec::new();
        // A key that is both put and deleted is put, as in a commit of one group.
        let (mut put, mut delete) = (std::mem::take(&mut commit.put), std::mem::take(&mut commit.delete));
        let mut last: BTreeMap<_, _> = put.drain(..).map(|record| (record.entry.key, record)).collect();
        delete.retain(|key| !last.contains_key(key));
        let mut events = std::mem::take(&mut commit.events);
        let (half, rest) = (last.len() / 2, events.split_off(events.len() / 2));
        let first: Vec<_> = (0..half).filter_map(|_| last.pop_first().map(|(_, record)| record)).collect();
        let parts = [(first, Vec::new(), events), (last.into_values().collect(), delete, rest)];
        for (put, delete, events) in parts {
            let ahead = Ahead { stage, put, delete, events, ..Ahead::default() };
            match writer.one(Op::Ahead(Box::new(ahead))) {
                Written::Queued(waiting) => queued.extend(waiting),
                other => panic!("{other:?} is no answer to it"),
            }
            assert_eq!(view(engine), before, "nothing of it is seen");
        }
        if *abandoned {
            (self.versions, self.lists) = (known.0, known.1);
            return writer.try_one(Op::Abandon(stage));
        }
        commit.ahead = Some(stage);
        writer.one(Op::Commit(commit));
        Ok(Written::Queued(queued))
    }

    fn commit(&mut self, bridge: usize, stale: bool, edits: &[Edit], events: &[Vec<(usize, u8)>]) -> Op {
        let bridge = name(&BRIDGES, bridge);
        let list = self.lists.entry(bridge).or_insert_with(|| (0..300).map(entry).collect());
        let version = self.versions.entry(bridge).or_default();
        let mut commit = commit(bridge, if stale { *version + 1 } else { *version });
        let before = list.clone();
        for edit in edits {
            match edit {
                Edit::Put(key, size) => commit.put.push(record(*key, vec![b'x'; *size])),
                Edit::Delete(key) => commit.delete.push(entry(*key).key),
                Edit::Insert(at, n) => list.insert(at.index(list.len() + 1), entry(*n)),
                Edit::Remove(at) if !list.is_empty() => {
                    list.remove(at.index(list.len()));
                }
                Edit::Change(at, n) if !list.is_empty() => {
                    let at = at.index(list.len());
                    list.splice(at..=at, [entry_of(*n, *n + 1)]);
                }
                Edit::Remove(_) | Edit::Change(..) => {}
            }
        }
        commit.list = (before != *list || *version == 0).then(|| List::Whole(list.clone()));
        for to in events {
            self.events += 1;
            let to: BTreeMap<_, _> = to.iter().map(|(e, c)| (name(&ENDPOINTS, *e), content(*c))).collect();
            let to: Vec<_> = to.into_iter().collect();
            commit.events.push(event(bridge, self.events, &to));
        }
        if stale {
            *list = before;
        } else {
            *version += 1;
        }
        op(commit)
    }

    fn position(&self, index: Index, engine: &dyn Engine) -> Option<(EventId, Position)> {
        let number = index.index(usize::try_from(self.events).ok()? + 1);
        let id = EventId(u128::try_from(number).ok()?.to_be_bytes());
        Some((id, engine.event(id).expect("read")?.position))
    }
}

fn name(names: &[&'static str], index: usize) -> &'static str {
    names.get(index).copied().expect("the strategy stays within")
}

fn content(tag: u8) -> Content {
    match tag % 4 {
        0 | 1 => Content::Shared,
        2 => Content::Own(vec![tag; 40]),
        _ => Content::Dead(format!("reason {tag}")),
    }
}

/// All that can be read, with positions shown as what stands there.
fn view(engine: &dyn Engine) -> String {
    use std::fmt::Write;
    let mut view = String::new();
    let mut show = |what: &dyn std::fmt::Debug| writeln!(view, "{what:?}").expect("a string takes all");
    show(&engine.bridges());
    for bridge in BRIDGES {
        let keys: Vec<_> = (0..KEYS).map(|n| entry(n).key).collect();
        show(&(engine.list(bridge), engine.records(bridge, &keys), engine.scan(bridge, None, usize::MAX)));
        show(&engine.scan(bridge, Some(entry(3).key), 4));
    }
    for endpoint in ENDPOINTS {
        show(&(endpoint, engine.dead(endpoint)));
        let waiting = engine.waiting(endpoint).expect("read");
        assert!(waiting.is_sorted_by_key(|w| w.position));
        for w in waiting {
            show(&(w.lane, w.due, w.attempts, w.refusals, w.replay, engine.outgoing(endpoint, w.position)));
        }
    }
    let endpoints = ENDPOINTS.iter().map(|name| Some((*name).into()));
    for endpoint in endpoints.chain([None]) {
        for state in [None, Some(DeliveryState::Waiting), Some(DeliveryState::Delivered), Some(DeliveryState::Dead)] {
            for (since, limit) in [(None, usize::MAX), (Some(Timestamp(10_012)), 7)] {
                let filter =
                    EventFilter { endpoint: endpoint.clone(), state, since, bodies: true, limit, ..Default::default() };
                for stored in engine.events(&filter).expect("read") {
                    show(&(stored.event, stored.deliveries));
                }
            }
        }
    }
    show(&engine.attempts(&mut |_| true, usize::MAX));
    view
}

fn anonymous(written: Result<Written, bellpull::store::Error>) -> Result<Written, bellpull::store::Error> {
    written.map(|written| match written {
        Written::Queued(queued) => Written::Queued(
            queued
                .into_iter()
                .map(|(name, mut waiting)| {
                    waiting.position = Position { pack: 0, index: 0 };
                    (name, waiting)
                })
                .collect(),
        ),
        other => other,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_agree(groups in vec(group(), 1..14), reopen: Index) {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = MemoryEngine::new();
        let mut sled = Some(open(dir.path()));
        let mut callers = [Caller::default(), Caller::default()];
        let reopen = reopen.index(groups.len());
        for (number, steps) in groups.iter().enumerate() {
            if number == reopen {
                drop(sled.take());
                sled = Some(open(dir.path()));
            }
            let disk = sled.as_ref().expect("open");
            let [ours, theirs] = &mut callers;
            if let [step @ Step::Ahead { .. }] = &steps[..] {
                let [model, real] = [ours.ahead(step, &memory), theirs.ahead(step, disk)].map(anonymous);
                prop_assert_eq!(model, real);
                prop_assert_eq!(view(&memory), view(disk));
                continue;
            }
            let sweeps = steps.iter().any(|step| matches!(step, Step::Sweep { .. }));
            if number % 3 == 2 || sweeps {
                // What is done in the background is not seen, but that a sweep stops at what is left of an abandoned commit.
                let writer = Writer::of(disk);
                while disk.work(writer.lease).expect("done") {
                    prop_assert_eq!(view(&memory), view(disk));
                }
            }
            let model: Vec<_> = steps.iter().map(|step| ours.op(step, &memory)).collect();
            let model = Writer::of(&memory).group(model);
            let real: Vec<_> = steps.iter().map(|step| theirs.op(step, disk)).collect();
            let real = Writer::of(disk).group(real);
            let [model, real] = [model, real].map(|all| all.into_iter().map(anonymous).collect::<Vec<_>>());
            prop_assert_eq!(model, real);
            prop_assert_eq!(view(&memory), view(disk));
        }
    }
}
