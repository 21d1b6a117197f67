//! Delivery: from the outbox to a receiver's 2xx, or to a dead letter.
//!
//! One dispatcher for each endpoint, and this one door to them. Delivery never reads a snapshot, and it makes no event
//! but those about its endpoints.

mod attempt;
mod dead;
mod dispatcher;
mod handshake;
mod inbox;
mod pace;
pub mod queue;
pub mod roster;
mod verdict;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::{
    sync::{OnceCell, Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{files::Places, vault::Vault},
    clock::Clock,
    config::{Bridge, Endpoint},
    http::Client,
    model::{Name, Timestamp},
    pulse::{Moves, Pulse},
    store::{self, Attempt, EndpointState, OriginState, Position, Store, Waiting},
};
use attempt::Sender;
pub use attempt::random;
pub use dead::Dead;
use dispatcher::{Dispatcher, Message};
use inbox::Inbox;
use queue::Queue;
use roster::{Moved, Settled};

/// Messages that may wait; a poller beyond it waits for its turn.
const REQUESTS_MAX: usize = 1024;

/// What all dispatchers share.
#[derive(Clone)]
struct Shared {
    store: Store,
    client: Client,
    vault: Vault,
    pulse: Pulse,
    clock: Clock,
    /// `deliveries-in-flight`.
    in_flight: Arc<Semaphore>,
    /// All endpoints together could have more in flight than that: then connections are not kept for later.
    crowded: Arc<AtomicBool>,
    others: watch::Receiver<Arc<Others>>,
    deliveries: Handle,
}

/// What a dispatcher needs of the rest of the file, as it is now.
#[derive(Debug, Default)]
struct Others {
    /// What was coalesced is made again by their routes.
    bridges: BTreeMap<Name, Arc<Bridge>>,
    /// Who is told of an endpoint that is disabled or full.
    alerts: Vec<Name>,
}

/// The one word for an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// By hand, by its receiver (410), or after `retry.disable-after`.
    Disabled,
    /// It does not answer, or says that it cannot take anything now.
    Down,
    /// All that was sent since the last delivery was refused.
    Refusing,
    /// An event was refused, and nothing was delivered since; or, where jq makes the URL, one of its origins is down.
    Failing,
    #[default]
    Ok,
    /// It left the file; its queue is kept for a while.
    Removed,
}

impl State {
    /// Those of endpoints that the file has.
    pub const ALL: [Self; 5] = [Self::Disabled, Self::Down, Self::Refusing, Self::Failing, Self::Ok];

    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Down => "down",
            Self::Refusing => "refusing",
            Self::Failing => "failing",
            Self::Ok => "ok",
            Self::Removed => "removed",
        }
    }

    fn of(enabled: bool, stored: &EndpointState) -> Self {
        if !enabled || stored.disabled.is_some() {
            return Self::Disabled;
        }
        match (stored.failing_since, stored.next_attempt) {
            (Some(_), Some(_)) => Self::Down,
            // Also of one that was enabled by hand, while nothing was delivered yet.
            (_, None) if stored.refusing => Self::Refusing,
            (Some(_), None) => Self::Failing,
            // One that is waited for without a failure has a budget that is used up.
            (None, _) if stored.refusing => Self::Refusing,
            (None, _) if stored.origins.values().any(OriginState::is_down) => Self::Failing,
            (None, _) => Self::Ok,
        }
    }
}

/// How an endpoint stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    pub state: State,
    pub waiting: usize,
    pub in_flight: usize,
    /// When the oldest waiting event was committed. Whoever shows it reads that from the store, by `first`.
    pub oldest: Option<String>,
    #[serde(skip)]
    pub first: Option<Position>,
    pub next_attempt: Option<String>,
    pub failing_since: Option<String>,
    pub last_error: Option<String>,
    pub disabled: Option<String>,
    /// Where jq makes the URL: the origins whose events wait.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, OriginStatus>,
}

/// How an origin stands whose events wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct OriginStatus {
    /// It does not answer; otherwise it has no room, and said until when.
    pub down: bool,
    pub next_attempt: Option<String>,
    pub failing_since: Option<String>,
    pub last_error: Option<String>,
}

impl From<&OriginState> for OriginStatus {
    fn from(state: &OriginState) -> Self {
        Self {
            down: state.is_down(),
            next_attempt: state.next_attempt.map(|at| at.to_string()),
            failing_since: state.failing_since.map(|at| at.to_string()),
            last_error: state.last_error.clone(),
        }
    }
}

impl Status {
    /// From what is stored of it. `first` is the oldest of what waits, `wake` when something of it is tried next.
    pub fn of(
        enabled: bool,
        stored: &EndpointState,
        waiting: usize,
        first: Option<Position>,
        wake: Option<Timestamp>,
    ) -> Self {
        let show = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            state: State::of(enabled, stored),
            waiting,
            in_flight: 0,
            oldest: None,
            first,
            next_attempt: show(wake.filter(|_| waiting > 0)),
            failing_since: show(stored.failing_since),
            last_error: stored.last_error.clone(),
            disabled: stored.disabled.clone().or_else(|| (!enabled).then(|| "`enabled = false`".into())),
            origins: stored.origins.iter().map(|(origin, state)| (origin.clone(), state.into())).collect(),
        }
    }
}

/// What a configuration says of endpoints.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    pub all: BTreeMap<Name, Arc<Endpoint>>,
    /// Those that `alert.to` of some bridge names: they are told of an endpoint that is disabled.
    pub alerts: Vec<Name>,
    pub bridges: BTreeMap<Name, Arc<Bridge>>,
}

/// Endpoints whose queue is full, and that want no more of it (`queue-full = "pause"`).
#[derive(Debug, Clone, Default)]
struct Full(Arc<Mutex<BTreeSet<Name>>>);

impl Full {
    fn set(&self, endpoint: &Name, full: bool) {
        let mut all = self.0.lock().expect("no thread panics with it");
        if full {
            all.insert(endpoint.clone());
        } else {
            all.remove(endpoint);
        }
    }
}

enum Request {
    Queued(Vec<(Name, Waiting)>),
    Died(BTreeMap<Name, Dead>),
    Enable(Name, bool, oneshot::Sender<Result<(), store::Error>>),
    Test(Name, oneshot::Sender<Attempt>),
    Status(oneshot::Sender<BTreeMap<Name, Status>>),
    Moves(oneshot::Sender<Moves>),
    Renewed(Places),
    Apply(Endpoints, Client, oneshot::Sender<()>),
}

/// The door; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    full: Full,
}

impl Handle {
    /// Hands over what a durable commit queued.
    pub async fn queued(&self, queued: Vec<(Name, Waiting)>) {
        if !queued.is_empty() {
            // At shutdown nobody takes it: the next start reads it from the store.
            let _ = self.requests.send(Request::Queued(queued)).await;
        }
    }

    /// Tells of events of a durable commit that nothing can be sent of.
    pub async fn died(&self, dead: BTreeMap<Name, Dead>) {
        if !dead.is_empty() {
            // At shutdown nobody takes it.
            let _ = self.requests.send(Request::Died(dead)).await;
        }
    }

    /// Enables or disables an endpoint by hand; durable on return.
    pub async fn enable(&self, endpoint: Name, enable: bool) -> Result<(), store::Error> {
        let gone = || store::Error::Io("the deliveries have ended".into());
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Enable(endpoint, enable, answer)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Sends a `bellpull.test` event, or a sample in the form of the endpoint's `payload`, at once, whatever the endpoint's state;
    /// `None` when there is no such endpoint.
    pub async fn test(&self, endpoint: Name) -> Option<Attempt> {
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Test(endpoint, answer)).await.ok()?;
        result.await.ok()
    }

    /// The first of these endpoints whose queue is full and asks for a pause.
    pub fn full<'n>(&self, mut endpoints: impl Iterator<Item = &'n Name>) -> Option<&'n Name> {
        let full = self.full.0.lock().expect("no thread panics with it");
        if full.is_empty() { None } else { endpoints.find(|name| full.contains(*name)) }
    }

    /// Files of secrets hold others: what waits for an endpoint behind one is tried at once.
    pub async fn renewed(&self, places: Places) {
        // At shutdown nobody takes it.
        let _ = self.requests.send(Request::Renewed(places)).await;
    }

    /// How every endpoint stands.
    pub async fn status(&self) -> BTreeMap<Name, Status> {
        let (answer, result) = oneshot::channel();
        if self.requests.send(Request::Status(answer)).await.is_err() {
            return BTreeMap::new();
        }
        result.await.unwrap_or_default()
    }

    /// Whether an attempt is due or under way, and how many have ended; `None` where nobody answers.
    pub async fn moves(&self) -> Option<Moves> {
        let (answer, result) = oneshot::channel();
        self.requests.send(Request::Moves(answer)).await.ok()?;
        result.await.ok()
    }

    /// Starts, restarts and stops dispatchers so that they are those of a configuration; unchanged ones go on.
    pub async fn apply(&self, endpoints: Endpoints, client: Client) {
        let (answer, result) = oneshot::channel();
        if self.requests.send(Request::Apply(endpoints, client, answer)).await.is_ok() {
            // An error ends the run, which says so itself.
            let _ = result.await;
        }
    }
}

/// The dispatchers.
pub struct Deliveries {
    shared: Shared,
    requests: mpsc::Receiver<Request>,
    running: BTreeMap<Name, RunningDispatcher>,
    ended: JoinSet<Result<(), store::Error>>,
    others: watch::Sender<Arc<Others>>,
    /// Those of the file.
    endpoints: BTreeMap<Name, Arc<Endpoint>>,
    /// What changed is being stopped, and starts when its attempts in flight are recorded.
    changing: Option<Changing>,
    /// `deliveries-in-flight`.
    places: usize,
}

#[derive(Default)]
struct Changing {
    stopped: Vec<RunningDispatcher>,
    answer: Option<oneshot::Sender<()>>,
}

/// When the last one that is being stopped has ended; never, when nothing changes.
async fn stopped(changing: Option<&Changing>) {
    let Some(changing) = changing else { return std::future::pending().await };
    for running in &changing.stopped {
        running.done.cancelled().await;
    }
}

struct RunningDispatcher {
    endpoint: Arc<Endpoint>,
    messages: mpsc::Sender<Message>,
    inbox: Inbox,
    stop: CancellationToken,
    /// Cancelled when it has ended.
    done: CancellationToken,
    /// Its queue, when it has ended.
    left: Arc<Mutex<Option<Queue>>>,
    /// The store has more of its queue than this one knows of.
    is_to_be_read: bool,
}

impl Deliveries {
    pub fn new(
        store: Store,
        client: Client,
        vault: Vault,
        pulse: Pulse,
        clock: Clock,
        in_flight: usize,
    ) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let handle = Handle { requests: sender, full: Full::default() };
        let (others, current) = watch::channel(Arc::default());
        let shared = Shared {
            store,
            client,
            vault,
            pulse,
            clock,
            in_flight: Arc::new(Semaphore::new(in_flight)),
            crowded: Arc::default(),
            others: current,
            deliveries: handle.clone(),
        };
        let (running, ended) = (BTreeMap::new(), JoinSet::new());
        let deliveries = Self {
            shared,
            requests,
            running,
            ended,
            others,
            endpoints: BTreeMap::new(),
            changing: None,
            places: in_flight,
        };
        (deliveries, handle)
    }

    /// Runs until shutdown, or until the store fails.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = stopped(self.changing.as_ref()) => self.changed().await?,
                Some(ended) = self.ended.join_next() => {
                    ended.map_err(|e| store::Error::Io(format!("a dispatcher panicked: {e}")))??;
                }
                request = self.requests.recv() => match request {
                    Some(request) => self.request(request).await?,
                    None => break,
                },
            }
        }
        for running in self.running.values() {
            running.stop.cancel();
        }
        while let Some(ended) = self.ended.join_next().await {
            ended.map_err(|e| store::Error::Io(format!("a dispatcher panicked: {e}")))??;
        }
        Ok(())
    }

    async fn request(&mut self, request: Request) -> Result<(), store::Error> {
        match request {
            Request::Queued(queued) => {
                let mut by_endpoint: BTreeMap<Name, Vec<Waiting>> = BTreeMap::new();
                for (endpoint, waiting) in queued {
                    by_endpoint.entry(endpoint).or_default().push(waiting);
                }
                for (endpoint, waiting) in by_endpoint {
                    match self.of(&endpoint) {
                        Some(running) => running.inbox.put(&waiting),
                        None => self.inherit(&endpoint).await?,
                    }
                }
            }
            Request::Died(dead) => {
                for (endpoint, dead) in dead {
                    if let Some(running) = self.of(&endpoint) {
                        let _ = running.messages.send(Message::Died(dead)).await;
                    }
                }
            }
            Request::Enable(endpoint, enable, answer) => match self.of(&endpoint) {
                Some(running) => {
                    let _ = running.messages.send(Message::Enable(enable, answer)).await;
                }
                None => {
                    let _ = answer.send(Err(store::Error::Io(format!("no endpoint is called {endpoint:?}"))));
                }
            },
            Request::Test(endpoint, answer) => {
                if let Some(running) = self.of(&endpoint) {
                    let (shared, endpoint) = (self.shared.clone(), running.endpoint.clone());
                    let sender = Sender { shared, endpoint, allowed: Arc::new(OnceCell::new()) };
                    // Bounded by the endpoint's timeout; the one who asked waits for it.
                    tokio::spawn(async move {
                        let _ = answer.send(sender.trial().await);
                    });
                }
            }
            Request::Status(answer) => {
                let mut all = BTreeMap::new();
                let stopping = self.changing.iter().flat_map(|changing| &changing.stopped);
                for running in self.running.values().chain(stopping) {
                    let name = &running.endpoint.name;
                    let (one, result) = oneshot::channel();
                    if running.messages.send(Message::Status(one)).await.is_ok()
                        && let Ok(status) = result.await
                    {
                        all.insert(name.clone(), status);
                    }
                }
                // The one who asked may have gone.
                let _ = answer.send(all);
            }
            Request::Moves(answer) => {
                let mut all = Moves::default();
                for running in self.running.values() {
                    let (one, result) = oneshot::channel();
                    if running.messages.send(Message::Moves(one)).await.is_ok()
                        && let Ok(moves) = result.await
                    {
                        all = Moves { due: all.due || moves.due, ended: all.ended + moves.ended };
                    }
                }
                // The one who asked may have gone.
                let _ = answer.send(all);
            }
            Request::Renewed(places) => {
                let is_of = |running: &&RunningDispatcher| running.endpoint.auth.iter().any(|auth| auth.is_of(&places));
                for running in self.running.values().filter(is_of) {
                    let _ = running.messages.send(Message::MayBeCured).await;
                }
            }
            Request::Apply(endpoints, client, answer) => {
                self.apply(endpoints, client).await?;
                self.changing.get_or_insert_default().answer = Some(answer);
            }
        }
        Ok(())
    }

    /// An endpoint's dispatcher, also one that ends because the file has another.
    fn of(&self, name: &Name) -> Option<&RunningDispatcher> {
        let mut stopping = self.changing.iter().flat_map(|changing| &changing.stopped);
        self.running.get(name).or_else(|| stopping.find(|running| running.endpoint.name == *name))
    }

    async fn apply(&mut self, endpoints: Endpoints, client: Client) -> Result<(), store::Error> {
        let same_client = self.shared.client.is_same(&client);
        self.shared.client = client;
        self.others.send_replace(Arc::new(Others { bridges: endpoints.bridges, alerts: endpoints.alerts }));
        self.endpoints = endpoints.all;
        let wanted: usize = self.endpoints.values().map(|endpoint| endpoint.in_flight).sum();
        self.shared.crowded.store(wanted > self.places, Ordering::Relaxed);
        self.change(same_client).await
    }

    /// Stops the dispatchers that are not those of the file, or not as it has them. Their attempts in flight may take as long
    /// as a receiver does: this does not wait for them.
    async fn change(&mut self, same_client: bool) -> Result<(), store::Error> {
        let queues = self.shared.store.read(|engine| engine.queues()).await?;
        let inherits = |endpoint: &Endpoint| {
            let was = endpoint.was.as_ref().filter(|was| !self.endpoints.contains_key(*was));
            was.is_some_and(|was| queues.contains(was))
        };
        let keep = |name: &Name, running: &RunningDispatcher| {
            let same = self.endpoints.get(name).is_some_and(|endpoint| **endpoint == *running.endpoint);
            same_client && same && !running.is_to_be_read && !inherits(&running.endpoint)
        };
        let stop = self.running.iter().filter(|(name, running)| !keep(name, running)).map(|(name, _)| name.clone());
        let stop: Vec<Name> = stop.collect();
        let stopped: Vec<RunningDispatcher> = stop.iter().filter_map(|name| self.running.remove(name)).collect();
        stopped.iter().for_each(|running| running.stop.cancel());
        self.changing.get_or_insert_default().stopped.extend(stopped);
        Ok(())
    }

    /// What was stopped has ended: those of the file start that do not run.
    async fn changed(&mut self) -> Result<(), store::Error> {
        let Changing { stopped, answer } = self.changing.take().unwrap_or_default();
        let mut left = BTreeMap::new();
        let mut changed = BTreeSet::new();
        for running in stopped {
            let name = running.endpoint.name.clone();
            if self.endpoints.get(&name).is_some_and(|endpoint| **endpoint != *running.endpoint) {
                changed.insert(name.clone());
            }
            self.shared.deliveries.full.set(&name, false);
            let queue = running.left.lock().expect("no thread panics with it").take();
            if let Some(queue) = queue.filter(|_| !running.is_to_be_read) {
                left.insert(name, (queue, running.inbox));
            }
        }
        let settled = roster::settle(&self.shared.store, &self.endpoints, self.shared.clock.now()).await?;
        let Settled { mut states, moved } = settled;
        for (name, endpoint) in self.endpoints.clone() {
            if !self.running.contains_key(&name) {
                // A million events are read for seconds: who leaves a queue as it is in the store hands it on.
                let left = match moved.get(&name) {
                    None => left.remove(&name),
                    Some(Moved::Whole(was)) => left.remove(was),
                    Some(Moved::Together) => None,
                };
                let state = states.remove(&name).unwrap_or_default();
                self.start(endpoint, state, left, changed.contains(&name)).await?;
            }
        }
        if let Some(answer) = answer {
            // The one who asked may have gone.
            let _ = answer.send(());
        }
        Ok(())
    }

    /// Events were committed for a name that does not run: by a poll that began before a reload, under an endpoint's old name. Who
    /// has its queue now reads it again, since these may be in it and in no dispatcher's memory.
    async fn inherit(&mut self, was: &Name) -> Result<(), store::Error> {
        let heir = self.endpoints.values().find(|endpoint| endpoint.was.as_ref() == Some(was)).map(|heir| &heir.name);
        let stopping = self.changing.iter_mut().flat_map(|changing| &mut changing.stopped);
        let mut all = self.running.values_mut().chain(stopping);
        match heir.and_then(|heir| all.find(|running| running.endpoint.name == *heir)) {
            Some(heir) => heir.is_to_be_read = true,
            None => {
                tracing::debug!(endpoint = %was, "events were committed for an endpoint that does not run");
                return Ok(());
            }
        }
        self.change(true).await
    }

    async fn start(
        &mut self,
        endpoint: Arc<Endpoint>,
        state: EndpointState,
        left: Option<(Queue, Inbox)>,
        changed: bool,
    ) -> Result<(), store::Error> {
        let (queue, inbox) = left.filter(|(queue, _)| queue.fits(endpoint.order)).unzip();
        let inbox = inbox.unwrap_or_default();
        let (mut dispatcher, messages) =
            Dispatcher::new(self.shared.clone(), endpoint.clone(), state, queue, inbox.clone()).await?;
        if changed {
            dispatcher.may_be_cured();
        }
        let stop = CancellationToken::new();
        let done = CancellationToken::new();
        let left = Arc::new(Mutex::new(None));
        let (token, guard, leave) = (stop.clone(), done.clone().drop_guard(), left.clone());
        self.ended.spawn(async move {
            let queue = dispatcher.run(token).await?;
            *leave.lock().expect("no thread panics with it") = Some(queue);
            drop(guard);
            Ok(())
        });
        let running =
            RunningDispatcher { endpoint: endpoint.clone(), messages, inbox, stop, done, left, is_to_be_read: false };
        self.running.insert(endpoint.name.clone(), running);
        Ok(())
    }
}
