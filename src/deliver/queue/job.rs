//! What goes in and out of a queue: an endpoint's rules, the attempt to make, and what came of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::origins::{Gate, Pass};
use crate::{
    config::{Batch, DeliveryOrder},
    model::Timestamp,
    store::{Position, Waiting},
};

/// What an answer says of the requests that follow it, whatever became of its own event.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Room {
    /// How long the receiver wants no request at all.
    pub wait: Option<Duration>,
    /// How many requests it still takes, and for how long that counts.
    pub left: Option<(u64, Duration)>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// 2xx.
    Taken,
    /// No answer, or one that speaks of the endpoint rather than of the event.
    Down { error: String, retry_after: Option<Duration> },
    /// The event was refused.
    Refused { error: String, retry_after: Option<Duration> },
    /// 410, or `webhook-delivery: disable`; with a 2xx the event was taken all the same.
    Gone { error: String, taken: bool },
    /// The event's body is no longer stored: nothing can be sent.
    Lost,
    /// Coalesced, the updates change nothing: nothing was sent, and nothing need be.
    Idle,
    /// Its origin is waited for: nothing was sent.
    Parked { origin: String },
}

impl Answered {
    pub fn class(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Down { .. } => "down",
            Self::Refused { .. } => "refused",
            Self::Gone { .. } => "gone",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::Parked { .. } => "parked",
        }
    }

    /// The same with another text of its error.
    pub fn map_error(mut self, change: impl FnOnce(String) -> String) -> Self {
        match &mut self {
            Self::Down { error, .. } | Self::Refused { error, .. } | Self::Gone { error, .. } => {
                *error = change(std::mem::take(error));
            }
            Self::Taken | Self::Lost | Self::Idle | Self::Parked { .. } => {}
        }
        self
    }
}

/// One attempt to make, with one event or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// In order; at least one.
    pub events: Vec<Waiting>,
    /// How often the endpoint had gone down or was held when it was taken: what was under way then says nothing newer of it. Times
    /// would not do: a receiver answers twice in one millisecond.
    pub(super) era: u64,
    /// Sent to see whether the endpoint is back.
    pub probe: bool,
    /// A probe before its time, since there is a new event.
    pub(super) early: bool,
    /// Nothing more is due: the connection need not stay.
    pub last: bool,
    /// Events up to here were there at the start: an attempt before it may not have been recorded.
    pub(super) found: Option<Position>,
    /// Where jq makes the URL.
    pub gate: Option<Gate>,
    /// What it entered, once its URL was made.
    pub pass: Option<Arc<Pass>>,
    /// The origin for whose parked events it goes.
    pub(super) parked: Option<String>,
}

impl Job {
    /// Lets it go to an origin, or turns it away.
    pub fn enter(&self, gate: &Gate, origin: &str, now: Timestamp) -> Option<Arc<Pass>> {
        gate.enter(origin, self.events.first().is_some_and(is_fresh), now)
    }

    /// Whether an event has surely never been sent.
    pub fn is_unsent(&self, waiting: &Waiting) -> bool {
        waiting.attempts == 0 && !waiting.replay && self.found.is_none_or(|found| waiting.position > found)
    }

    /// The lanes that are in flight with it.
    pub(super) fn lanes(&self) -> BTreeSet<u64> {
        self.events.iter().map(|waiting| waiting.lane).collect()
    }
}

/// What an endpoint's file says of its queue.
#[derive(Debug, Clone)]
pub struct Rules {
    pub schedule: Vec<Duration>,
    /// Between probes, at the most.
    pub probe_max: Duration,
    pub disable_after: Duration,
    /// Requests in flight.
    pub in_flight_max: usize,
    pub order: DeliveryOrder,
    pub batch: Option<Batch>,
    pub coalesce: bool,
    /// jq makes the URL: what an answer says of its receiver, it says of its origin.
    pub by_origin: bool,
}

/// Whether nothing was tried with it yet.
pub(super) fn is_fresh(waiting: &Waiting) -> bool {
    waiting.attempts == 0 && !waiting.replay
}
