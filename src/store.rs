//! What is durable: snapshots, the outbox, and the one transaction that joins them.
//!
//! The contract, which [`sled`] keeps on disk and [`memory`] models, and which one suite (`tests/it/store.rs`) checks
//! for both:
//!
//! - `claim` takes a lease with a fencing number one higher than any before; a write under an older lease is `Fenced`.
//! - A `Commit` is all or nothing: records, list, state, hold and events together. Its `expected` version must be the
//!   stored one, else `Conflict`. It is durable when `write` returns `Ok`, and visible to no reader before that.
//! - `Unknown` means that it cannot be told whether a write became durable. The caller loads the state again and
//!   compares versions; it never assumes.
//! - `Full` means that nothing was written for want of space, and that the store goes on.
//! - An error of one value, one that is too large or cannot be read, is the error of who asked for it.
//! - Events get positions in the order of their commits, or of the parts that were written ahead of one; an endpoint's queue is
//!   read back in that order.
//! - A commit of any size may be written ahead in parts, between `Stage` and a `Commit` that names the stage. No reader sees
//!   anything of them before that commit, and nothing is left of them if it never comes.
//! - What was never acknowledged may be absent after a crash; what was, is there.
//!
//! It never decides what an event is or when it is sent again: it stores what `poller` and `deliver` say.

pub mod codec;
pub mod memory;
pub mod sled;
mod writer;
mod writing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Content, Entry, Event, EventId, Hash, Mark, Name, Record, Timestamp, Validators};

pub use codec::ListChunk;
pub use writer::{Counters, Store};
pub use writing::Writing;

/// The right to write, and the number that makes an older holder lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    pub epoch: u64,
}

/// What is kept of a bridge beside its records; small, and held in memory by its poller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BridgeState {
    /// Counts the bridge's commits; 0 is a bridge without a snapshot.
    pub version: u64,
    /// Of the last event.
    pub sequence: u64,
    /// Of the definition (source, items, key, ignore, unordered, decoder) that the snapshot was taken under.
    pub definition: Hash,
    /// Of the last accepted walk's bytes.
    pub answer: Option<Hash>,
    /// Pages of the last accepted walk.
    pub pages: u32,
    /// Records that are known.
    pub records: u64,
    pub validators: Validators,
    /// The mark of `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Whether it is JSON: a number, or with `since.token` anything but a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark_is_number: Option<bool>,
    /// What `previous` is in a source's jq: status, headers and time of the last accepted answer, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<serde_json::Value>,
    pub accepted_at: Timestamp,
}

impl BridgeState {
    pub fn mark(&self) -> Option<Mark> {
        self.mark.clone().map(|text| Mark { text, is_json: self.mark_is_number })
    }

    /// What stays of a bridge under a name that it left: its events' numbers go on from there, should the name come back. Of that
    /// alone nothing stays.
    pub fn sequence_alone(self) -> Option<Self> {
        let stays = self.version > 0 && self.sequence > 0;
        stays.then(|| Self { sequence: self.sequence, accepted_at: self.accepted_at, ..Self::default() })
    }
}

/// Where a bridge stands in time; written together for many bridges, at most every 30 s. Losing the last one costs a
/// full answer or a later deletion, never a change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The version that `answer`, `validators` and `missing` belong to; of another version they are void.
    pub version: u64,
    pub due: Timestamp,
    /// How long `due` was to be waited for when it was set: it bounds it under a clock that is earlier than it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// `due` comes from a hint of the server: it may lie further ahead than the schedule would put it.
    #[serde(default)]
    pub hinted: bool,
    pub last_poll: Option<Timestamp>,
    /// Failed polls in a row.
    pub failures: u32,
    /// A `failing` event was sent and no `recovered` yet.
    pub alerted: bool,
    /// When the last `failing` was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerted_at: Option<Timestamp>,
    /// When a poll was last accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// Since when the file has no bridge of this name; its snapshot is kept for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
    /// An admin stopped its polls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// A `stale` event was sent, and no poll was accepted since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    pub last_error: Option<String>,
    /// As in the state, from a later answer that brought no change.
    pub answer: Option<Hash>,
    pub validators: Option<Validators>,
    pub pages: Option<u32>,
    /// How often the answer that is held, or rejected, came again.
    #[serde(default)]
    pub held_again: u64,
    /// Records missing from complete polls, and from how many in a row.
    pub missing: Vec<(Hash, u32)>,
    /// Of the last answer.
    #[serde(default, skip_serializing_if = "Flaws::is_none")]
    pub flaws: Flaws,
    /// What it shows that the file most likely should say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// What an answer held that was not taken as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaws {
    /// Records, or messages, that could not be read.
    pub left_out: u64,
    /// What was wrong with the first of them.
    pub first: Option<String>,
    /// Characters that became U+FFFD.
    pub replaced: u64,
}

impl Flaws {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A suspicious answer, kept until it is accepted, rejected, cleared or replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Of the answer; what `accept` names.
    pub hash: Hash,
    /// Of the definition and the guard that it was judged under: others judge again.
    #[serde(default)]
    pub judged_under: Hash,
    pub at: Timestamp,
    /// What the guard said, with the setting that would change it.
    pub reason: String,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Rejected: an identical answer is only counted.
    pub rejected: bool,
    /// The pages as they came, for `accept`. Empty once rejected.
    pub answer: Vec<HeldPage>,
    pub validators: Validators,
}

/// One page of a held answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldPage {
    pub url: String,
    pub content_type: Option<String>,
    pub body: String,
}

/// What becomes of a bridge's hold in a commit.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum HoldChange {
    #[default]
    Keep,
    Clear,
    Set(Box<Hold>),
    /// One whose pages' bodies were written ahead, each in so many pieces, under [`held_piece`].
    Ahead(Box<Hold>, Vec<u32>),
}

/// The key of a piece of a held page, among the records that are written ahead.
pub fn held_piece(page: usize, piece: u32) -> Hash {
    Hash::of(format!("{page}/{piece}").as_bytes())
}

/// The list of a complete walk, in the answer's order.
#[derive(Debug, Clone, PartialEq)]
pub enum List {
    Whole(Vec<Entry>),
    /// As the engine keeps it, against the list that is stored under the version that the commit expects.
    Cut(Cut),
}

/// A list in chunks that are named by what they hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cut {
    /// All of the new list, in order.
    pub ids: Vec<Hash>,
    /// Those that the stored list does not have.
    pub fresh: Vec<ListChunk>,
    /// Those that the new list does not have.
    pub gone: Vec<Hash>,
}

/// A part of a commit that is written before it, and seen with it.
#[derive(Debug, Clone, Default)]
pub struct Ahead {
    pub stage: u64,
    pub put: Vec<Record>,
    /// Keys' hashes.
    pub delete: Vec<Hash>,
    pub chunks: Vec<ListChunk>,
    pub events: Vec<Event>,
}

/// All of it, or none of it.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub bridge: Option<Name>,
    /// The version the change was computed from; the stored one must be equal. The new one is `state.version`.
    pub expected: u64,
    pub state: BridgeState,
    /// The whole list of entries in the answer's order, when it changed (complete walks only).
    pub list: Option<List>,
    pub put: Vec<Record>,
    /// Keys' hashes.
    pub delete: Vec<Hash>,
    pub hold: HoldChange,
    pub events: Vec<Event>,
    /// The stage whose parts are seen from this commit on.
    pub ahead: Option<u64>,
}

/// What the writer applies, in groups.
#[derive(Debug, Clone)]
pub enum Op {
    /// A poll's outcome. With `bridge: None` only its events count: operational ones.
    Commit(Box<Commit>),
    /// Where bridges stand; several at once.
    Progress(Vec<(Name, Progress)>),
    /// The ends or retries of attempts of one endpoint.
    Settle(Name, Vec<Settlement>),
    /// Dead or delivered events back into an endpoint's queue, due at once, attempts from 0, marked as replays.
    Requeue(Name, Vec<Requeued>),
    /// An endpoint's health.
    Endpoint(Name, EndpointState),
    /// That the stream is another, and the events that tell it.
    Reset(Reset, Vec<Event>),
    /// Opens a stage for a commit of a bridge that is written ahead. One that is left open of the same bridge is given up.
    Stage(Name),
    /// A part of what a stage's commit will bring; no reader sees it before that.
    Ahead(Box<Ahead>),
    /// No commit of a stage comes any more: its parts go.
    Abandon(u64),
    /// Drops events that are delivered everywhere, oldest first, `limit` packs at the most: those whose every endpoint keeps
    /// them for no longer than they are old. An endpoint that is not named here keeps them for `default_keep`. Events of one
    /// commit may stay together while one of them has to.
    Sweep { now: Timestamp, keep: Vec<(Name, Duration)>, default_keep: Duration, limit: usize },
    /// Gives an endpoint's deliveries and health another name. Where an event goes to both, the new name's delivery counts.
    Rename { from: Name, to: Name },
    /// Drops the deliveries of an endpoint, whatever their state, and its health.
    Forget(Name),
    /// Gives a bridge's snapshot and state another name. Its events keep the name that they were committed under, and the last
    /// sequence number stays there.
    RenameBridge { from: Name, to: Name },
    /// Drops a bridge's snapshot and state except for its sequence number; of a name that has nothing else, that number.
    ForgetBridge(Name),
}

/// An event's place: packs in the order of commits, events within a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub pack: u64,
    pub index: u16,
}

/// One attempt's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub position: Position,
    pub outcome: Outcome,
    /// Recorded in the same transaction.
    pub attempt: Attempt,
}

/// What an attempt led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Once more at `due`, which is so long after the attempt; `refusals` attempts count against the event's own schedule so far.
    Retry {
        due: Timestamp,
        wait_ms: u32,
        refusals: u16,
    },
    Dead,
}

/// An event to send again.
#[derive(Debug, Clone, PartialEq)]
pub struct Requeued {
    pub position: Position,
    /// The body made again (`--remake`); else the stored one.
    pub content: Option<Content>,
}

/// One attempt, as `deliveries` and `event` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// As `evt_...`.
    pub event: String,
    pub endpoint: String,
    /// From 1.
    pub number: u32,
    pub at: Timestamp,
    pub duration_ms: u32,
    /// Absent when no answer came.
    pub status: Option<u16>,
    /// The first 4 KiB of the answer, lossy UTF-8.
    pub answer: String,
    /// What failed, when something did.
    pub error: Option<String>,
}

/// Where one delivery of one event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    Waiting,
    Delivered,
    Dead,
}

/// A waiting event, as a dispatcher holds it in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub position: Position,
    /// `lane(bridge, key)`: events of one record share it.
    pub lane: u64,
    pub due: Timestamp,
    /// How long `due` was to be waited for when it was set: it bounds it under a clock that is earlier than it was.
    /// [`WAIT_UNKNOWN`] where nobody noted it.
    pub wait_ms: u32,
    /// Attempts made.
    pub attempts: u32,
    /// Those that count against the event's own schedule.
    pub refusals: u16,
    pub replay: bool,
}

/// A wait of format 1, which did not note it.
pub const WAIT_UNKNOWN: u32 = u32::MAX;

/// What is sent to one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Without its deliveries.
    pub event: Event,
    /// Never `Dead`.
    pub content: Content,
}

/// An endpoint's health, durable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointState {
    /// Why it is disabled; `None` is enabled.
    pub disabled: Option<String>,
    /// Since when nothing was delivered.
    pub failing_since: Option<Timestamp>,
    /// For how long attempts have failed since then; time in which none was made does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failing_ms: u64,
    /// It refused all that it was sent since something was delivered, and that was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refusing: bool,
    /// Steps of the schedule that the endpoint as a whole has gone.
    pub step: u16,
    pub next_attempt: Option<Timestamp>,
    /// How long `next_attempt` was to be waited for when it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
    /// The receiver named that time: it is kept, also over a restart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// It is left alone because its receiver has no room, and not because it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    pub last_error: Option<String>,
    /// Where jq makes the URL: the origins that are waited for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, OriginState>,
    /// Since when the file has no endpoint of this name; its queue is kept for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
}

impl EndpointState {
    /// Whether only probes are sent, since it failed.
    pub fn is_down(&self) -> bool {
        self.next_attempt.is_some() && !self.held
    }
}

/// One origin of an endpoint whose URL jq makes, while its events wait for it; as [`EndpointState`] has it of an
/// endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OriginState {
    pub failing_since: Option<Timestamp>,
    pub step: u16,
    pub next_attempt: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    pub last_error: Option<String>,
}

impl OriginState {
    pub fn is_down(&self) -> bool {
        self.next_attempt.is_some() && !self.held
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An event with where its deliveries stand.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    pub position: Position,
    /// With `deliveries` as committed.
    pub event: Event,
    pub deliveries: Vec<StoredDelivery>,
}

impl StoredEvent {
    fn without_bodies(mut self) -> Self {
        self.event.body = Vec::new();
        for delivery in &mut self.event.deliveries {
            if let Content::Own(body) = &mut delivery.content {
                *body = Vec::new();
            }
        }
        self
    }
}

/// Where one delivery stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredDelivery {
    pub endpoint: Name,
    pub state: DeliveryState,
    pub attempts: u32,
    /// When waiting.
    pub due: Option<Timestamp>,
}

/// Which events to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub bridge: Option<Name>,
    /// The type.
    pub kind: Option<String>,
    pub key: Option<String>,
    pub since: Option<Timestamp>,
    /// Before that.
    pub until: Option<Timestamp>,
    /// A text in the body.
    pub matching: Option<String>,
    pub endpoint: Option<Name>,
    /// Only events with a delivery (to `endpoint`, when named) in this state.
    pub state: Option<DeliveryState>,
    /// With bodies; without, those of events and of deliveries are empty.
    pub bodies: bool,
    pub limit: usize,
}

impl EventFilter {
    /// Whether an event is one of these, whatever became of its deliveries.
    pub fn takes(&self, event: &Event) -> bool {
        let has = |text: &String| event.body.windows(text.len().max(1)).any(|part| part == text.as_bytes());
        self.bridge.as_ref().is_none_or(|bridge| *bridge == event.bridge)
            && self.kind.as_ref().is_none_or(|kind| **kind == *event.kind)
            && self.key.as_ref().is_none_or(|key| *key == event.key)
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
            && self.matching.as_ref().is_none_or(|text| text.is_empty() || has(text))
    }
}

/// All that is loaded of a bridge at the start.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub name: Name,
    pub state: BridgeState,
    pub progress: Option<Progress>,
    /// Whether a hold exists (rejected ones too).
    pub held: bool,
}

/// Why receivers must not compare what comes with what they had: committed history may be gone, and the stream is another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reset {
    pub why: String,
    /// When an event of it was committed.
    #[serde(default)]
    pub told: Option<Timestamp>,
}

/// Deliveries that wait, each with its endpoint.
pub type Queued = Vec<(Name, Waiting)>;

/// How a write ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of a commit: the waiting deliveries it made, by endpoint; and of a `Requeue` too.
    Queued(Queued),
    /// Of a sweep: how many events went.
    Swept(usize),
    /// Of a `Stage`: its number.
    Staged(u64),
    Done,
}

/// Why a read or a write failed.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("another commit of this bridge came first: version {stored} is stored, {expected} was expected")]
    Conflict { stored: u64, expected: u64 },
    #[error("a newer owner holds the store: its epoch is {current}, ours {ours}")]
    Fenced { current: u64, ours: u64 },
    #[error("the disk is full: {0}")]
    Full(String),
    /// Read back before going on.
    #[error("it is not known whether the write became durable: {0}")]
    Unknown(String),
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Io(String),
    /// The directory is held by another process.
    #[error("{0}")]
    Locked(String),
    #[error("the store has format {found}, this bellpull reads up to {known}: {advice}")]
    Format { found: u32, known: u32, advice: String },
}

impl Error {
    /// Whether it concerns the store as a whole, which has to be opened again, and not only what was asked for.
    pub fn needs_reopen(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Io(_) | Self::Locked(_) | Self::Format { .. })
    }
}

/// The lane that orders events of one record. Its upper half is the bridge's, so that it orders a whole bridge too; two
/// that share a lane by chance only wait for each other.
pub fn lane(bridge: &str, key: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bridge.as_bytes()).update(&[0]).update(key.as_bytes());
    let of_record = Hash::from_blake3(&hasher.finalize()).low64();
    Hash::of(bridge.as_bytes()).low64() & LANE_OF_BRIDGE | of_record & !LANE_OF_BRIDGE
}

/// The half of a lane that all records of a bridge share.
pub const LANE_OF_BRIDGE: u64 = !0 << 32;

/// A blocking store. Reads may come from many threads at once; writes come from the one writer thread.
pub trait Engine: Send + Sync + 'static {
    /// Names the store's life: `s_` and random letters; new with an empty store.
    fn stream(&self) -> Name;
    fn claim(&self) -> Result<Lease, Error>;
    /// Every bridge with a state or a progress, at start.
    fn bridges(&self) -> Result<Vec<Loaded>, Error>;
    /// One bridge again, after `Unknown` or `Conflict`.
    fn bridge(&self, name: &str) -> Result<Option<Loaded>, Error>;
    /// The list of a complete walk, in the answer's order.
    fn list(&self, bridge: &str) -> Result<Vec<Entry>, Error>;
    /// Brings a list into the form that the engine keeps, against the stored one; costs a hash of all of it.
    fn cut(&self, _bridge: &str, list: Vec<Entry>) -> Result<List, Error> {
        Ok(List::Whole(list))
    }
    /// Records by key hash, in the order asked for.
    fn records(&self, bridge: &str, keys: &[Hash]) -> Result<Vec<Option<Record>>, Error>;
    /// A slice of a bridge's records in the order of their key hashes, after `after`.
    fn scan(&self, bridge: &str, after: Option<Hash>, limit: usize) -> Result<Vec<Record>, Error>;
    fn hold(&self, bridge: &str) -> Result<Option<Hold>, Error>;
    fn endpoints(&self) -> Result<Vec<(Name, EndpointState)>, Error>;
    /// Every endpoint that has deliveries, in any state.
    fn queues(&self) -> Result<Vec<Name>, Error>;
    /// An endpoint's whole queue in order, at start.
    fn waiting(&self, endpoint: &str) -> Result<Vec<Waiting>, Error>;
    /// How many deliveries of an endpoint are dead.
    fn dead(&self, endpoint: &str) -> Result<u64, Error>;
    /// What to send; `None` when the event is gone.
    fn outgoing(&self, endpoint: &str, position: Position) -> Result<Option<Outgoing>, Error>;
    fn events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, Error>;
    fn event(&self, id: EventId) -> Result<Option<StoredEvent>, Error>;
    /// Recorded attempts, newest first, that are wanted.
    fn attempts(&self, wanted: &mut dyn FnMut(&Attempt) -> bool, limit: usize) -> Result<Vec<Attempt>, Error>;
    /// Applies a group durably, in order; one answer each.
    fn write(&self, lease: Lease, group: Vec<Op>) -> Vec<Result<Written, Error>>;
    /// Does a slice of what is done in the background, where there is anything; whether something is left.
    fn work(&self, _lease: Lease) -> Result<bool, Error> {
        Ok(false)
    }
    /// Every row as JSON lines: a backup that names its format. (`import` comes later.)
    fn export(&self, out: &mut dyn std::io::Write) -> Result<(), Error>;
    /// Whether there is ample room on the disk, so that polls may go on; `Full` where there is none for a group of so many bytes.
    fn room(&self, bytes: u64) -> Result<bool, Error>;
    /// Why the stream is another than before.
    fn reset(&self) -> Result<Option<Reset>, Error>;
    /// How often the disk was synced.
    fn syncs(&self) -> u64;
    /// What is taken on the disk.
    fn size_bytes(&self) -> Result<u64, Error>;
}

/// An engine that several threads share.
pub type SharedEngine = Arc<dyn Engine>;
