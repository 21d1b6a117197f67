//! What the API and `--json` answer, one type for each answer: OpenAPI's schemas are made of them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::Value as Json;

use super::{DryRun, Replay};
use crate::{
    config::preview::Running,
    deliver,
    model::{Content, Name},
    poller,
    store::{self, DeliveryState, Hold, Reset, StoredEvent},
};

/// How everything stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    pub version: String,
    /// Names the store's life.
    pub stream: String,
    /// Whether a daemon tells this, or the store alone.
    pub running: bool,
    /// Why the last reload was refused, since when the configuration before it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_refused: Option<String>,
    /// Why the stream is another than before.
    pub reset: Option<ResetTold>,
    pub bridges: BTreeMap<String, BridgeStatus>,
    pub endpoints: BTreeMap<String, EndpointStatus>,
}

/// How one bridge stands, under its name.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OneBridge {
    pub bridges: BTreeMap<String, BridgeStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ResetTold {
    pub reason: String,
    /// When receivers were told, RFC 3339.
    pub told: Option<String>,
}

impl From<Reset> for ResetTold {
    fn from(reset: Reset) -> Self {
        Self { reason: reset.why, told: reset.told.map(|at| at.to_string()) }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct BridgeStatus {
    #[serde(flatten)]
    pub status: poller::Status,
    /// What waits for `accept` or `reject`, or was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HeldAnswer>,
    /// Until when a removed bridge's snapshot is kept, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HeldAnswer {
    /// Names the answer, for `accept` and `reject`.
    pub hash: String,
    /// RFC 3339.
    pub at: String,
    pub reason: String,
    pub rejected: bool,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl From<Hold> for HeldAnswer {
    fn from(hold: Hold) -> Self {
        Self {
            hash: hold.hash.to_string(),
            at: hold.at.to_string(),
            reason: hold.reason,
            rejected: hold.rejected,
            created: hold.created,
            updated: hold.updated,
            deleted: hold.deleted,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EndpointStatus {
    #[serde(flatten)]
    pub status: deliver::Status,
    /// Dead letters.
    pub dead: u64,
    /// Until when a removed endpoint's queue is kept, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
}

/// An event, and where each of its deliveries stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Event {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub bridge: String,
    pub key: String,
    pub sequence: u64,
    /// RFC 3339.
    pub timestamp: String,
    pub deliveries: Vec<Delivery>,
    /// Of `/api/events/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Json>,
    /// Of `/api/events/{id}`, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
    /// Of `/api/deliveries` with a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Delivery {
    pub endpoint: String,
    pub state: DeliveryState,
    pub attempts: u32,
    /// When it is tried next, RFC 3339.
    pub due: Option<String>,
    /// Why nothing can be sent.
    pub error: Option<String>,
}

impl From<&StoredEvent> for Event {
    fn from(stored: &StoredEvent) -> Self {
        let error = |endpoint: &Name| {
            let committed = stored.event.deliveries.iter().find(|committed| committed.endpoint == *endpoint)?;
            match &committed.content {
                Content::Dead(error) => Some(error.clone()),
                _ => None,
            }
        };
        let deliveries = stored.deliveries.iter().map(|delivery| Delivery {
            endpoint: delivery.endpoint.to_string(),
            state: delivery.state,
            attempts: delivery.attempts,
            due: delivery.due.map(|at| at.to_string()),
            error: error(&delivery.endpoint),
        });
        Self {
            id: stored.event.id.to_string(),
            kind: stored.event.kind.to_string(),
            bridge: stored.event.bridge.to_string(),
            key: stored.event.key.to_string(),
            sequence: stored.event.sequence,
            timestamp: stored.event.at.to_string(),
            deliveries: deliveries.collect(),
            body: None,
            attempts: None,
            last_attempt: None,
        }
    }
}

/// One attempt at a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Attempt {
    pub event: String,
    pub endpoint: String,
    /// From 1.
    pub number: u32,
    /// RFC 3339.
    pub at: String,
    pub duration_ms: u32,
    /// Absent when no answer came.
    pub status: Option<u16>,
    /// The first 4 KiB of the answer.
    pub answer: String,
    /// What failed, when something did.
    pub error: Option<String>,
}

impl From<store::Attempt> for Attempt {
    fn from(attempt: store::Attempt) -> Self {
        Self {
            event: attempt.event,
            endpoint: attempt.endpoint,
            number: attempt.number,
            at: attempt.at.to_string(),
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            answer: attempt.answer,
            error: attempt.error,
        }
    }
}

/// Attempts, or the events of a state.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Deliveries {
    Attempts(Vec<Attempt>),
    Events(Vec<Event>),
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Enabled {
    pub endpoint: String,
    pub enabled: bool,
}

/// What is sent again.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Replayed {
    /// Events that were found.
    pub events: usize,
    /// Of these, deliveries that were queued again.
    pub deliveries: usize,
    /// Why others of their deliveries were not, and how many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, usize>,
    /// There are more events than one replay takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Why a request was refused, or failed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct Failed {
    pub error: String,
}

/// OpenAPI's document: the paths, which are written by hand, and a schema for each answer.
pub fn openapi() -> Json {
    let mut document: Json = serde_json::from_str(include_str!("openapi.json")).expect("it is JSON");
    // OpenAPI 3.1 has JSON Schema's own dialect, and its schemas elsewhere.
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let all: [fn(&mut SchemaGenerator) -> schemars::Schema; 14] = [
        SchemaGenerator::subschema_for::<Status>,
        SchemaGenerator::subschema_for::<Running>,
        SchemaGenerator::subschema_for::<OneBridge>,
        SchemaGenerator::subschema_for::<Event>,
        SchemaGenerator::subschema_for::<Attempt>,
        SchemaGenerator::subschema_for::<Deliveries>,
        SchemaGenerator::subschema_for::<Enabled>,
        SchemaGenerator::subschema_for::<Replayed>,
        SchemaGenerator::subschema_for::<Failed>,
        SchemaGenerator::subschema_for::<poller::Ended>,
        SchemaGenerator::subschema_for::<poller::Done>,
        SchemaGenerator::subschema_for::<poller::Tried>,
        SchemaGenerator::subschema_for::<Replay>,
        SchemaGenerator::subschema_for::<DryRun>,
    ];
    for schema in all {
        schema(&mut schemas);
    }
    if let Some(components) = document.get_mut("components").and_then(Json::as_object_mut) {
        components.insert("schemas".into(), schemas.take_definitions(true).into());
    }
    document
}
