//! From a change to an event: its id, its body, its patch, and what each endpoint is sent. Pure but for the random id.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    config::{Bridge, Endpoint, Route, type_name},
    expr::Expr,
    model::{ChangeKind, Content, Delivery, Event, EventId, Name, Timestamp},
};

/// One record's change. A value is absent where the record is.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub kind: ChangeKind,
    pub key: String,
    pub before: Option<Json>,
    pub after: Option<Json>,
}

/// What events of one poll share.
#[derive(Debug, Clone)]
pub struct Maker {
    pub bridge: Arc<Bridge>,
    pub endpoints: Arc<BTreeMap<Name, Arc<Endpoint>>>,
    pub stream: Name,
    pub now: Timestamp,
}

/// The body in the order of the reference.
#[derive(Serialize)]
struct Body<'a, D> {
    r#type: &'a str,
    timestamp: String,
    data: D,
}

impl<D: Serialize> Body<'_, D> {
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("JSON values and strings serialize")
    }
}

#[derive(Serialize)]
struct Data<'a> {
    bridge: &'a str,
    key: &'a str,
    stream: &'a str,
    sequence: u64,
    /// Of a member of a fan-out: what it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Json>,
    /// Absent on `present`.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<json_patch::Patch>,
}

impl Maker {
    /// The event of a change, with every endpoint that a route leads to.
    pub fn event(&self, sequence: u64, change: &Change) -> Event {
        let kind = format!("{}.{}", self.bridge.type_name(), change.kind.as_str());
        let body = Body {
            r#type: &kind,
            timestamp: self.now.to_string(),
            data: Data {
                bridge: &self.bridge.name,
                key: &change.key,
                stream: &self.stream,
                sequence,
                item: self.bridge.item.as_ref(),
                before: change.before.as_ref(),
                after: change.after.as_ref(),
                patch: Some(patch(change.before.as_ref(), change.after.as_ref())),
            },
        };
        let value = || serde_json::to_value(&body).expect("JSON values and strings serialize");
        let deliveries = self.deliveries(change.kind, &value);
        let body = body.bytes();
        Event {
            id: EventId::random(),
            bridge: self.bridge.name.clone(),
            sequence,
            kind,
            key: change.key.clone(),
            at: self.now,
            body,
            deliveries,
        }
    }

    /// Per endpoint the first route whose filters hold.
    fn deliveries(&self, kind: ChangeKind, value: &dyn Fn() -> Json) -> Vec<Delivery> {
        // Made only when an expression asks for it.
        let made = std::cell::OnceCell::new();
        let event = || made.get_or_init(value).clone();
        let whole = self.bridge.filters.hold(kind, &event);
        if whole == Ok(false) {
            return Vec::new();
        }
        let mut chosen: BTreeMap<Name, Content> = BTreeMap::new();
        for route in &self.bridge.routes {
            let Some(endpoint) = self.endpoints.get(&route.endpoint).filter(|_| !chosen.contains_key(&route.endpoint))
            else {
                continue;
            };
            let holds = whole
                .clone()
                .and_then(|_| route.filters.hold(kind, &event))
                .and_then(|holds| Ok(holds && endpoint.filters.hold(kind, &event)?));
            let content = match holds {
                Ok(false) => continue,
                Ok(true) => content(Some(route), endpoint, &event),
                Err(error) => Content::Dead(format!("`when`: {error}")),
            };
            chosen.insert(route.endpoint.clone(), content);
        }
        chosen.into_iter().map(|(endpoint, content)| Delivery { endpoint, content }).collect()
    }

    /// What an endpoint would be sent of an event's standard body today, for `replay --remake`.
    pub fn remake(&self, endpoint: &str, body: &[u8]) -> Option<Content> {
        let event: Json = serde_json::from_slice(body).ok()?;
        let made = || event.clone();
        let kind = event.get("type")?.as_str()?.rsplit('.').next()?;
        let kinds = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Deleted];
        let kind = kinds.into_iter().find(|known| known.as_str() == kind);
        let chosen = self
            .bridge
            .routes
            .iter()
            .filter(|route| &*route.endpoint == endpoint)
            .find(|route| kind.is_none_or(|kind| route.filters.hold(kind, &made).unwrap_or(false)));
        Some(content(chosen, self.endpoints.get(endpoint)?, &made))
    }

    /// A record as it is, for `resend`: `<bridge>.present`.
    pub fn present(&self, endpoint: &str, sequence: u64, key: &str, record: &Json) -> Event {
        let kind = format!("{}.present", self.bridge.type_name());
        let data = Data {
            bridge: &self.bridge.name,
            key,
            stream: &self.stream,
            sequence,
            item: self.bridge.item.as_ref(),
            before: None,
            after: Some(record),
            patch: None,
        };
        let body = Body { r#type: &kind, timestamp: self.now.to_string(), data };
        let value = || serde_json::to_value(&body).expect("JSON values and strings serialize");
        let route = self.bridge.routes.iter().find(|route| &*route.endpoint == endpoint);
        let content = match self.endpoints.get(endpoint) {
            Some(endpoint) => content(route, endpoint, &value),
            None => Content::Shared,
        };
        let body = body.bytes();
        Event {
            id: EventId::random(),
            bridge: self.bridge.name.clone(),
            sequence,
            kind,
            key: key.to_owned(),
            at: self.now,
            body,
            deliveries: vec![Delivery { endpoint: endpoint.into(), content }],
        }
    }
}

fn content(route: Option<&Route>, endpoint: &Endpoint, event: &dyn Fn() -> Json) -> Content {
    let payload: Option<&Expr> = route.and_then(|route| route.payload.as_ref()).or(endpoint.payload.as_ref());
    let Some(payload) = payload else { return Content::Shared };
    match payload.first(&event()) {
        Ok(Some(value)) => Content::Own(value.to_string().into_bytes()),
        Ok(None) => Content::Dead("`payload` gives nothing".into()),
        Err(error) => Content::Dead(format!("`payload`: {error}")),
    }
}

/// RFC 6902: applying it to `before` gives `after`. A record that comes or goes is added or removed as a whole.
fn patch(before: Option<&Json>, after: Option<&Json>) -> json_patch::Patch {
    use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
    match (before, after) {
        (Some(before), Some(after)) => json_patch::diff(before, after),
        (None, Some(after)) => {
            Patch(vec![PatchOperation::Add(AddOperation { path: PointerBuf::root(), value: after.clone() })])
        }
        _ => Patch(vec![PatchOperation::Remove(RemoveOperation { path: PointerBuf::root() })]),
    }
}

/// Operational events (`bellpull.*`): of no bridge's sequence, past `on`, `when` and `payload`.
pub fn operational(kind: &str, about: &str, data: Json, to: &[Name], now: Timestamp) -> Event {
    let kind = format!("bellpull.{kind}");
    let body = Body { r#type: &kind, timestamp: now.to_string(), data }.bytes();
    Event {
        id: EventId::random(),
        bridge: Name::from(""),
        sequence: 0,
        key: format!("{}/{about}", type_name(&kind)),
        kind,
        at: now,
        body,
        deliveries: to
            .iter()
            .map(|endpoint| Delivery { endpoint: endpoint.clone(), content: Content::Shared })
            .collect(),
    }
}
