//! What the poller tells who asks: the one word for a bridge, how a poll that was asked for ended, and what one would do.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use super::Polling;
use crate::{
    config::Bridge,
    guard::Verdict,
    model::{ChangeKind, Timestamp},
    pulse::PollEnd,
    store::{BridgeState, Progress},
};

/// The one word for a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// `enabled = false`.
    Disabled,
    /// By hand, or while a full queue stops it.
    Paused,
    /// The last poll failed.
    Failing,
    /// An answer waits for `accept` or `reject`.
    Held,
    /// Nothing was accepted yet.
    #[default]
    New,
    Ok,
    /// It left the file; its snapshot is kept for a while.
    Removed,
}

impl State {
    /// Those of bridges that the file has.
    pub const ALL: [Self; 6] = [Self::Disabled, Self::Paused, Self::Failing, Self::Held, Self::New, Self::Ok];

    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Held => "held",
            Self::New => "new",
            Self::Ok => "ok",
            Self::Removed => "removed",
        }
    }

    /// `waits` says whether an answer is held that nobody has decided on.
    fn of(bridge: &Bridge, progress: &Progress, waits: bool, version: u64) -> Self {
        if !bridge.enabled {
            Self::Disabled
        } else if progress.paused {
            Self::Paused
        } else if progress.failures > 0 {
            Self::Failing
        } else if waits {
            Self::Held
        } else if version == 0 {
            Self::New
        } else {
            Self::Ok
        }
    }
}

/// How a bridge stands, with a daemon and without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    pub state: State,
    pub records: u64,
    /// The number of its last event.
    pub sequence: u64,
    /// Counts its commits.
    pub version: u64,
    /// RFC 3339.
    pub last_poll: Option<String>,
    /// When a poll was last accepted, for metrics.
    #[serde(skip)]
    pub last_success: Option<Timestamp>,
    /// RFC 3339.
    pub next_poll: Option<String>,
    /// Failed polls in a row.
    pub failures: u32,
    /// How often the answer that is held, or rejected, came again.
    pub held_again: u64,
    pub last_error: Option<String>,
    /// Records of the last answer that could not be read: they stay as they were stored.
    pub left_out: u64,
    /// What was wrong with the first of them.
    pub left_out_error: Option<String>,
    /// Characters of the last answer that became U+FFFD.
    pub replaced: u64,
    /// What the last answer shows that the file most likely should say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// A poll is under way.
    pub polling: bool,
    /// The request, without secrets.
    pub source: String,
}

impl Status {
    /// From what is stored of it, which is all that is known between two polls. `due` is when it is polled next.
    pub fn of(bridge: &Bridge, stored: &BridgeState, progress: &Progress, waits: bool, due: Timestamp) -> Self {
        Self {
            state: State::of(bridge, progress, waits, stored.version),
            records: stored.records,
            sequence: stored.sequence,
            version: stored.version,
            last_poll: progress.last_poll.map(|at| at.to_string()),
            last_success: progress.accepted_at.filter(|_| stored.version > 0),
            next_poll: bridge.enabled.then(|| due.to_string()),
            failures: progress.failures,
            held_again: progress.held_again,
            last_error: progress.last_error.clone(),
            left_out: progress.flaws.left_out,
            left_out_error: progress.flaws.first.clone(),
            replaced: progress.flaws.replaced,
            hints: progress.hints.clone(),
            polling: false,
            source: bridge.source.describe(),
        }
    }
}

/// How a poll that was asked for ended.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Ended {
    pub result: PollEnd,
    /// Of a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Of a poll that changed something.
    #[serde(flatten)]
    pub changes: Option<Changes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Changes {
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl From<&Polling> for Ended {
    fn from(polling: &Polling) -> Self {
        let (mut records, mut changes) = (None, None);
        match *polling {
            Polling::Baseline { records: count } => records = Some(count),
            Polling::Changed { created, updated, deleted } => changes = Some(Changes { created, updated, deleted }),
            Polling::Unchanged | Polling::Same | Polling::Held => {}
        }
        Self { result: polling.end(), records, changes }
    }
}

/// What was done with a bridge by hand.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Done {
    pub result: Deed,
    /// Of a resend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    Paused,
    Resumed,
    Rejected,
    Resent,
}

impl From<Deed> for Done {
    fn from(result: Deed) -> Self {
        Self { result, events: None }
    }
}

/// What a poll would do. Nothing was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Tried {
    /// The request, without secrets.
    pub request: String,
    /// The document is absent (`absent`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The source says that the last answer still holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_modified: bool,
    pub pages: Vec<TriedPage>,
    /// It would be the first answer that is accepted.
    pub baseline: bool,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    /// What the guard says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<TriedVerdict>,
    /// The first of them.
    pub changes: Vec<TriedChange>,
    /// What the answer shows that the file most likely should say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TriedPage {
    pub url: String,
    pub bytes: usize,
    pub records: usize,
    pub keys: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TriedVerdict {
    Commit,
    Hold(String),
    Error(String),
}

impl From<Verdict> for TriedVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Commit => Self::Commit,
            Verdict::Hold(reason) => Self::Hold(reason),
            Verdict::Error(reason) => Self::Error(reason),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TriedChange {
    pub change: ChangeKind,
    pub key: String,
    pub before: Option<Json>,
    pub after: Option<Json>,
}
