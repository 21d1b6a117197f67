//! The ledger test: an upstream and a receiver write down what they served and what arrived, the daemon between them is
//! killed over and over, and at the end the books must agree.
//!
//! `cargo test --test it ledger:: -- --nocapture` shows the figures; `-- --ignored` runs the long one.
//! `BELLPULL_LEDGER_SEED` repeats a run's choices (not its timing).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bellpull::{
    model::{Entry, EventId, Hash, Name, Record},
    store::{
        Attempt, EndpointState, Engine, Error, EventFilter, Hold, Lease, Loaded, Op, Outgoing, Position, Reset,
        StoredEvent, Waiting, Written, memory::MemoryEngine,
    },
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    daemon::{Place, bellpull},
    receiver::{Received, Receiver, SECRET},
    rig::Rig,
    server::{Answer, Handler, Reply, Request, Server, eventually},
};

/// Bridges of the ledger; the last has pages.
const BRIDGES: [&str; 4] = ["orders", "users", "stock", "paged"];
const RECORDS: u64 = 30;
const PAGE: usize = 12;

/// Records by key, each with the number of its last change.
type Snapshot = BTreeMap<u64, u64>;

/// What the upstream served at one time to one walk.
struct Walk {
    snapshot: Snapshot,
    /// Of the daemon that asked.
    life: u32,
    /// The last byte of the last page was handed to the socket.
    sent: bool,
    /// The same daemon asked again: polls of a bridge do not overlap, so this one's end was durable by then.
    accepted: bool,
}

#[derive(Default)]
struct Book {
    records: Snapshot,
    walks: Vec<Walk>,
}

/// Where the next kill is to fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// A request is begun and not answered, or answered in part.
    Poll,
    /// An answer with changes is sent, and no delivery of them has begun.
    Commit,
    /// A delivery is begun and not answered.
    Delivery,
    /// A delivery is answered, and its record under way.
    Record,
    /// Whenever.
    Any,
}

struct Ledger {
    books: BTreeMap<String, Book>,
    next: u64,
    random: Random,
    life: u32,
    trap: Option<Stage>,
    sprung: mpsc::UnboundedSender<()>,
}

/// splitmix64: a seed says all.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

impl Ledger {
    fn new(seed: u64) -> (Arc<Mutex<Self>>, mpsc::UnboundedReceiver<()>) {
        let (sprung, springs) = mpsc::unbounded_channel();
        let mut ledger = Self { books: BTreeMap::new(), next: 0, random: Random(seed), life: 0, trap: None, sprung };
        for bridge in BRIDGES {
            let records = (1..=RECORDS).map(|key| (key, 0)).collect();
            ledger.books.insert(bridge.into(), Book { records, walks: Vec::new() });
        }
        (Arc::new(Mutex::new(ledger)), springs)
    }

    /// One change somewhere: an update mostly.
    fn change(&mut self) {
        self.next += 1;
        let (at, what, pick) = (self.random.below(4), self.random.below(10), self.random.next());
        let book = self.books.get_mut(BRIDGES[usize::try_from(at).expect("small")]).expect("a book");
        let n = u64::try_from(book.records.len()).expect("small");
        let key = *book.records.keys().nth(usize::try_from(pick % n).expect("small")).expect("a record");
        match what {
            // Keys come again: a record may be deleted and created under the same one.
            0 | 1 => drop(book.records.insert(1 + pick % 60, self.next)),
            2 if n > 15 => drop(book.records.remove(&key)),
            _ => drop(book.records.insert(key, self.next)),
        }
    }

    fn spring(&mut self, stage: Stage) -> bool {
        let hit = self.trap == Some(stage);
        if hit {
            self.trap = None;
            self.sprung.send(()).expect("the test listens");
        }
        hit
    }
}

/// The upstream: `/orders`, and `/paged?walk=7&page=2`, whose pages are of one moment.
struct Api(Arc<Mutex<Ledger>>);

impl Handler for Api {
    fn reply(&self, request: Request) -> Reply {
        let mut ledger = self.0.lock().expect("not poisoned");
        let life = ledger.life;
        let bridge = request.path.trim_start_matches('/').to_owned();
        let number = |name: &str| request.query.get(name).map(|n| n.parse::<usize>().expect("a number"));
        let book = ledger.books.get_mut(&bridge).expect("a book");
        let page = number("page").unwrap_or(1);
        let walk = number("walk").unwrap_or_else(|| {
            if let Some(last) = book.walks.last_mut().filter(|last| last.life == life && last.sent) {
                last.accepted = true;
            }
            let snapshot = book.records.clone();
            book.walks.push(Walk { snapshot, life, sent: false, accepted: false });
            book.walks.len() - 1
        });
        let records: Vec<String> =
            book.walks[walk].snapshot.iter().map(|(key, rev)| format!(r#"{{"id":{key},"rev":{rev}}}"#)).collect();
        let mut answer = if bridge == "paged" {
            let cut: Vec<_> = records.chunks(PAGE).map(|page| page.join(",")).collect();
            let answer = Answer::json(format!("[{}]", cut[page - 1]));
            if page < cut.len() {
                answer.header("link", format!("</paged?walk={walk}&page={}>; rel=\"next\"", page + 1))
            } else {
                answer
            }
        } else {
            Answer::json(format!("[{}]", records.join(",")))
        };
        if bridge == "orders" {
            let etag = format!("\"{}\"", Hash::of(&answer.body));
            if request.header("if-none-match") == Some(&etag) {
                answer = Answer::new(304, "");
            }
            answer = answer.header("etag", etag);
        }
        if ledger.spring(Stage::Poll) {
            return match ledger.random.below(2) {
                0 => Reply::Hang,
                _ => {
                    let half = answer.body.len() / 2;
                    let head = format!(
                        "HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        answer.body.len()
                    );
                    Reply::Part([head.as_bytes(), &answer.body[..half]].concat())
                }
            };
        }
        answer.into()
    }

    fn sent(&self, request: &Request) {
        let mut ledger = self.0.lock().expect("not poisoned");
        let life = ledger.life;
        let bridge = request.path.trim_start_matches('/').to_owned();
        let book = ledger.books.get_mut(&bridge).expect("a book");
        let page = request.query.get("page").map_or(1, |n| n.parse().expect("a number"));
        let last = book.walks.len() - 1;
        let before = last.checked_sub(1).map(|n| book.walks[n].snapshot.clone());
        let walk = &mut book.walks[last];
        if walk.life != life || bridge == "paged" && page * PAGE < walk.snapshot.len() {
            return;
        }
        walk.sent = true;
        if before.is_some_and(|before| before != walk.snapshot) {
            ledger.spring(Stage::Commit);
        }
    }
}

/// What arrived, as far as the books need it.
#[derive(Debug, Clone)]
struct Arrival {
    id: String,
    bridge: String,
    stream: String,
    sequence: u64,
    key: u64,
    before: Option<u64>,
    after: Option<u64>,
    bytes: Vec<u8>,
}

impl Arrival {
    fn of(received: &Received) -> Self {
        let data = &received.body["data"];
        let rev = |value: &serde_json::Value| value.get("rev").and_then(serde_json::Value::as_u64);
        Self {
            id: received.id.clone(),
            bridge: data["bridge"].as_str().expect("a bridge").into(),
            stream: data["stream"].as_str().expect("a stream").into(),
            sequence: received.sequence(),
            key: received.key().parse().expect("a number"),
            before: rev(&data["before"]),
            after: rev(&data["after"]),
            bytes: received.bytes.clone(),
        }
    }
}

/// Whether the books agree: every way in which they do not.
fn check(books: &BTreeMap<String, Book>, arrivals: &[Arrival]) -> Result<usize, String> {
    let mut wrong = BTreeSet::new();
    let mut by_place: BTreeMap<(&str, &str, u64), &Arrival> = BTreeMap::new();
    let mut by_id: BTreeMap<&str, &Arrival> = BTreeMap::new();
    let mut highest: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for arrival in arrivals {
        let Arrival { id, bridge, stream, sequence, key, .. } = arrival;
        let known = by_id.entry(id).or_insert(arrival);
        if known.bytes != arrival.bytes {
            wrong.insert(format!("{id} came with two bodies"));
        }
        match by_place.get(&(bridge.as_str(), stream.as_str(), *sequence)) {
            Some(known) if known.id != *id => {
                wrong.insert(format!("{bridge} #{sequence} came under two ids: {} and {id}", known.id));
            }
            Some(_) => {}
            None => {
                // Its first arrival: after all earlier ones of its record.
                let highest = highest.entry((bridge, *key)).or_default();
                if *highest > *sequence {
                    wrong.insert(format!("{bridge} #{sequence} of record {key} came after #{highest}"));
                }
                *highest = (*highest).max(*sequence);
                by_place.insert((bridge, stream, *sequence), arrival);
            }
        }
    }
    let streams: BTreeSet<_> = arrivals.iter().map(|a| &a.stream).collect();
    if streams.len() > 1 {
        wrong.insert(format!("one store has {} streams", streams.len()));
    }
    for (bridge, book) in books {
        let events: Vec<&Arrival> = by_place.iter().filter(|((b, ..), _)| b == bridge).map(|(_, a)| *a).collect();
        for (n, event) in events.iter().enumerate() {
            if event.sequence != u64::try_from(n).expect("small") + 1 {
                wrong.insert(format!("{bridge}: after #{n} comes #{}", event.sequence));
                break;
            }
        }
        check_records(bridge, book, &events, &mut wrong);
    }
    if wrong.is_empty() {
        return Ok(by_place.len());
    }
    let mut text = String::new();
    wrong.iter().take(20).for_each(|line| writeln!(text, "{line}").expect("a string"));
    Err(text)
}

fn check_records(bridge: &str, book: &Book, events: &[&Arrival], wrong: &mut BTreeSet<String>) {
    let baseline = book.walks.iter().find(|walk| walk.accepted).map(|walk| walk.snapshot.clone()).unwrap_or_default();
    let keys: BTreeSet<u64> =
        book.walks.iter().flat_map(|w| w.snapshot.keys()).chain(events.iter().map(|e| &e.key)).copied().collect();
    for key in keys {
        // What the receiver saw of the record, one after the other; `None` is absent.
        let mut seen = vec![baseline.get(&key).copied()];
        for event in events.iter().filter(|event| event.key == key) {
            if event.before != *seen.last().expect("one at least") {
                wrong.insert(format!(
                    "{bridge} #{}: record {key} was {:?}, not {:?}",
                    event.sequence,
                    seen.last(),
                    event.before
                ));
            }
            if event.before == event.after {
                wrong.insert(format!("{bridge} #{}: record {key} did not change", event.sequence));
            }
            if !book.walks.iter().any(|walk| walk.snapshot.get(&key).copied() == event.after) {
                wrong.insert(format!("{bridge} #{}: record {key} never was {:?}", event.sequence, event.after));
            }
            seen.push(event.after);
        }
        // Every state that was accepted must have been seen, in this order.
        let mut rest = seen.iter();
        let mut last = None;
        for walk in book.walks.iter().filter(|walk| walk.accepted) {
            let state = walk.snapshot.get(&key).copied();
            if last != Some(state) && !rest.any(|seen| *seen == state) {
                wrong.insert(format!(
                    "{bridge}: record {key} was accepted as {state:?}, which never arrived; {seen:?} did"
                ));
                break;
            }
            last = Some(state);
        }
        if seen.last().copied().flatten() != book.records.get(&key).copied() {
            wrong
                .insert(format!("{bridge}: record {key} is {:?} in the end; {seen:?} arrived", book.records.get(&key)));
        }
    }
}

fn configuration(upstream: &Server, receiver: &Receiver) -> String {
    let mut text = String::new();
    for bridge in BRIDGES {
        let pages =
            if bridge == "paged" { "deletes.after = 1\nsource.http.pages.link = {}" } else { "guard.deletes = 0.9" };
        write!(
            text,
            "[bridge.{bridge}]\nevery = \"100ms\"\nalert.after = 1000000\nitems = \".[]\"\nkey = \".id\"\nto = [\"app\"]\n{pages}\n\
             source.http.url = \"{}/{bridge}\"\n",
            upstream.origin()
        )
        .expect("a string");
    }
    write!(
        text,
        "[endpoint.app]\nurl = \"{}/app\"\nsign.standard.secrets = [{{ value = \"{SECRET}\" }}]\n\
         retry.schedule = [{}]\n",
        receiver.origin(),
        ["\"50ms\""; 20].join(", ")
    )
    .expect("a string");
    text
}

fn start(place: &Place, life: u32) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(place.path().join("log")).expect("a log");
    let mut command = Command::from(bellpull());
    command.arg("--config").arg(place.file()).arg("run").current_dir(place.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().unwrap_or_else(|e| panic!("life {life}: {e}"))
}

/// What a run came to.
#[derive(Debug)]
struct Figures {
    changes: u64,
    events: usize,
    arrivals: usize,
    kills: BTreeMap<Stage, u32>,
}

async fn run(seed: u64, cycles: u32) -> Figures {
    let (ledger, mut springs) = Ledger::new(seed);
    let lock = || ledger.lock().expect("not poisoned");
    let upstream = Server::start(Arc::new(Api(ledger.clone()))).await;
    let receiver = Receiver::start().await;
    let trapped = ledger.clone();
    receiver.answers("/app", move |_| {
        let mut ledger = trapped.lock().expect("not poisoned");
        if ledger.spring(Stage::Delivery) {
            return Reply::Hang;
        }
        ledger.spring(Stage::Record);
        // Some are refused: they come again, with the same id, and hold up their record alone.
        let status = if ledger.random.below(50) == 0 { 500 } else { 200 };
        Answer::new(status, "").into()
    });
    let place = Place::new(&configuration(&upstream, &receiver));
    let log = || std::fs::read_to_string(place.path().join("log")).unwrap_or_default();
    // The baseline, before anything changes.
    let mut child = start(&place, 0);
    let accepted =
        |all: usize| lock().books.values().all(|book| book.walks.iter().filter(|w| w.accepted).count() >= all);
    eventually(&format!("every bridge has its baseline: {}", log()), async || accepted(1)).await;
    let mut kills: BTreeMap<Stage, u32> = BTreeMap::new();
    for cycle in 0..cycles {
        // The commit is short, and missed more often than hit.
        let stages =
            [Stage::Poll, Stage::Commit, Stage::Commit, Stage::Commit, Stage::Delivery, Stage::Record, Stage::Any];
        let stage = stages[usize::try_from(lock().random.below(7)).expect("small")];
        let wait = {
            let mut ledger = lock();
            for _ in 0..1 + ledger.random.below(6) {
                ledger.change();
            }
            while springs.try_recv().is_ok() {}
            ledger.trap = Some(stage);
            Duration::from_micros(ledger.random.below(if stage == Stage::Commit { 3_000 } else { 8_000 }))
        };
        if stage == Stage::Any {
            sleep(wait * 40).await;
        } else if timeout(Duration::from_secs(10), springs.recv()).await.is_err() {
            panic!("seed {seed}, cycle {cycle}: nothing came to {stage:?} within ten seconds: {}", log());
        }
        let arrived = receiver.received().len();
        if stage != Stage::Any {
            // tokio's timers count milliseconds.
            tokio::task::block_in_place(|| std::thread::sleep(wait));
        }
        if child.try_wait().expect("a child").is_some() {
            // Its cause is in the files.
            let kept = std::env::temp_dir().join(format!("bellpull-ledger-{seed}"));
            let copied = std::process::Command::new("cp").arg("-r").arg(place.path()).arg(&kept).status();
            panic!("the daemon ended by itself; its files are in {} ({copied:?}): {}", kept.display(), log());
        }
        child.start_kill().expect("killed");
        child.wait().await.expect("ended");
        // A request that the dead one had sent was taken for one of the next, whose next request then seemed to say that it
        // had accepted the answer.
        upstream.settled().await;
        let reached = match stage {
            // A delivery came first: the commit was over.
            Stage::Commit if receiver.received().len() > arrived => Stage::Delivery,
            stage => stage,
        };
        *kills.entry(reached).or_default() += 1;
        let life = {
            let mut ledger = lock();
            ledger.life += 1;
            ledger.trap = None;
            for _ in 0..1 + ledger.random.below(6) {
                ledger.change();
            }
            ledger.life
        };
        child = start(&place, life);
        // Some lives see changes come while they start.
        let more = lock().random.below(4);
        for _ in 0..more {
            sleep(Duration::from_millis(10)).await;
            lock().change();
        }
    }
    // Undisturbed until quiet: every bridge was asked twice after the last change, and nothing arrives any more.
    let quiet = accepted_now(&ledger);
    eventually("the last state is accepted", async || {
        lock().books.iter().all(|(bridge, book)| book.walks.iter().filter(|w| w.accepted).count() >= quiet[bridge] + 3)
    })
    .await;
    let mut last = (0, Instant::now());
    while last.1.elapsed() < Duration::from_secs(1) {
        let arrived = receiver.received().len();
        if arrived != last.0 {
            last = (arrived, Instant::now());
        }
        sleep(Duration::from_millis(20)).await;
    }
    let arrivals: Vec<Arrival> = receiver.received().iter().map(Arrival::of).collect();
    let ledger = lock();
    match check(&ledger.books, &arrivals) {
        Ok(events) => Figures { changes: ledger.next, events, arrivals: arrivals.len(), kills },
        Err(wrong) => panic!("seed {seed}: the books do not agree:\n{wrong}\n{}", log()),
    }
}

fn accepted_now(ledger: &Mutex<Ledger>) -> BTreeMap<String, usize> {
    let ledger = ledger.lock().expect("not poisoned");
    ledger
        .books
        .iter()
        .map(|(bridge, book)| (bridge.clone(), book.walks.iter().filter(|w| w.accepted).count()))
        .collect()
}

fn seed() -> u64 {
    match std::env::var("BELLPULL_LEDGER_SEED") {
        Ok(text) => text.parse().expect("BELLPULL_LEDGER_SEED is a number"),
        Err(_) => u64::from_be_bytes(EventId::random().0[..8].try_into().expect("eight")),
    }
}

fn report(seed: u64, figures: &Figures) {
    println!("seed {seed} (BELLPULL_LEDGER_SEED)");
    println!("kills by stage: {:?}", figures.kills);
    println!("{} changes made, {} events received in {} requests", figures.changes, figures.events, figures.arrivals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills() {
    let seed = seed();
    println!("seed {seed} (BELLPULL_LEDGER_SEED)");
    let figures = run(seed, 50).await;
    report(seed, &figures);
    assert!(figures.changes >= 250, "{} changes", figures.changes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn two_hundred_kills() {
    let seed = seed();
    println!("seed {seed} (BELLPULL_LEDGER_SEED)");
    let figures = run(seed, 200).await;
    report(seed, &figures);
    assert!(figures.changes >= 1_000, "{} changes", figures.changes);
    for stage in [Stage::Poll, Stage::Commit, Stage::Delivery] {
        assert!(figures.kills.get(&stage).is_some_and(|n| *n >= 10), "{stage:?}: {:?}", figures.kills);
    }
}

/// A store that answers before it has synced, and forgets at a crash what it had not: what "delivering before the
/// sync" comes to. Honest, it syncs each group.
struct Hasty {
    honest: bool,
    stream: Name,
    state: Mutex<(Arc<MemoryEngine>, Lease)>,
    /// Groups in order, and how many of them are on the disk.
    groups: Mutex<(Vec<Vec<Op>>, usize)>,
}

impl Hasty {
    fn new(honest: bool) -> Self {
        let engine = Arc::new(MemoryEngine::new());
        Self {
            honest,
            stream: engine.stream(),
            state: Mutex::new((engine, Lease { epoch: 0 })),
            groups: Mutex::default(),
        }
    }

    fn engine(&self) -> Arc<MemoryEngine> {
        self.state.lock().expect("not poisoned").0.clone()
    }

    fn sync(&self) {
        let mut groups = self.groups.lock().expect("not poisoned");
        groups.1 = groups.0.len();
    }

    fn crash(&self) {
        let mut groups = self.groups.lock().expect("not poisoned");
        let synced = groups.1;
        groups.0.truncate(synced);
        let engine = Arc::new(MemoryEngine::new());
        let lease = engine.claim().expect("claimed");
        for group in &groups.0 {
            engine.write(lease, group.clone());
        }
        *self.state.lock().expect("not poisoned") = (engine, lease);
    }
}

impl Engine for Hasty {
    fn stream(&self) -> Name {
        self.stream.clone()
    }
    fn claim(&self) -> Result<Lease, Error> {
        let mut state = self.state.lock().expect("not poisoned");
        let lease = state.0.claim()?;
        state.1 = lease;
        Ok(lease)
    }
    fn bridges(&self) -> Result<Vec<Loaded>, Error> {
        self.engine().bridges()
    }
    fn bridge(&self, name: &str) -> Result<Option<Loaded>, Error> {
        self.engine().bridge(name)
    }
    fn list(&self, bridge: &str) -> Result<Vec<Entry>, Error> {
        self.engine().list(bridge)
    }
    fn records(&self, bridge: &str, keys: &[Hash]) -> Result<Vec<Option<Record>>, Error> {
        self.engine().records(bridge, keys)
    }
    fn scan(&self, bridge: &str, after: Option<Hash>, limit: usize) -> Result<Vec<Record>, Error> {
        self.engine().scan(bridge, after, limit)
    }
    fn hold(&self, bridge: &str) -> Result<Option<Hold>, Error> {
        self.engine().hold(bridge)
    }
    fn endpoints(&self) -> Result<Vec<(Name, EndpointState)>, Error> {
        self.engine().endpoints()
    }
    fn queues(&self) -> Result<Vec<Name>, Error> {
        self.engine().queues()
    }
    fn waiting(&self, endpoint: &str) -> Result<Vec<Waiting>, Error> {
        self.engine().waiting(endpoint)
    }
    fn dead(&self, endpoint: &str) -> Result<u64, Error> {
        self.engine().dead(endpoint)
    }
    fn outgoing(&self, endpoint: &str, position: Position) -> Result<Option<Outgoing>, Error> {
        self.engine().outgoing(endpoint, position)
    }
    fn events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, Error> {
        self.engine().events(filter)
    }
    fn event(&self, id: EventId) -> Result<Option<StoredEvent>, Error> {
        self.engine().event(id)
    }
    fn attempts(&self, wanted: &mut dyn FnMut(&Attempt) -> bool, limit: usize) -> Result<Vec<Attempt>, Error> {
        self.engine().attempts(wanted, limit)
    }
    fn write(&self, lease: Lease, group: Vec<Op>) -> Vec<Result<Written, Error>> {
        let results = self.engine().write(lease, group.clone());
        self.groups.lock().expect("not poisoned").0.push(group);
        if self.honest {
            self.sync();
        }
        results
    }
    fn export(&self, out: &mut dyn std::io::Write) -> Result<(), Error> {
        self.engine().export(out)
    }
    fn size_bytes(&self) -> Result<u64, Error> {
        self.engine().size_bytes()
    }
    fn room(&self, bytes: u64) -> Result<bool, Error> {
        self.engine().room(bytes)
    }
    fn reset(&self) -> Result<Option<Reset>, Error> {
        self.engine().reset()
    }
    fn syncs(&self) -> u64 {
        self.engine().syncs()
    }
}

/// Changes, a poll and its deliveries, and a crash before the sync that was not waited for; five times over.
async fn hasty_run(honest: bool) -> Result<usize, String> {
    let (ledger, _springs) = Ledger::new(7);
    let upstream = Server::start(Arc::new(Api(ledger.clone()))).await;
    let receiver = Receiver::start().await;
    let engine = Arc::new(Hasty::new(honest));
    let text = configuration(&upstream, &receiver) + "[network]\nallow = [\"127.0.0.0/8\"]\n";
    let lock = || ledger.lock().expect("not poisoned");
    let mut rig = Rig::start(engine.clone(), &text).await;
    let delivered = async |rig: &Rig| {
        eventually("the queue is empty", async || {
            rig.deliveries.status().await.values().all(|s| s.waiting + s.in_flight == 0)
        })
        .await;
    };
    let poll_all = async |rig: &mut Rig| {
        for bridge in BRIDGES {
            rig.poll_of(bridge).await.result.expect("an accepted poll");
        }
    };
    poll_all(&mut rig).await;
    poll_all(&mut rig).await;
    engine.sync();
    for _ in 0..5 {
        (0..10).for_each(|_| lock().change());
        poll_all(&mut rig).await;
        delivered(&rig).await;
        rig.crash().await;
        engine.crash();
        lock().life += 1;
        (0..10).for_each(|_| lock().change());
        rig = Rig::start(engine.clone(), &text).await;
        poll_all(&mut rig).await;
        delivered(&rig).await;
        engine.sync();
    }
    poll_all(&mut rig).await;
    let arrivals: Vec<Arrival> = receiver.received().iter().map(Arrival::of).collect();
    check(&lock().books, &arrivals)
}

/// The ledger must be able to fail: with a store that lets events out before they are synced it does.
#[tokio::test]
async fn planted_bug_is_caught() {
    let events = hasty_run(true).await.expect("an honest store's books agree");
    assert!(events > 50, "{events} events");
    let wrong = hasty_run(false).await.expect_err("a hasty store's do not");
    assert!(wrong.contains("came under two ids"), "{wrong}");
}
