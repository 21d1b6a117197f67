//! From a change to an event: its id, its body, its patch, and what each endpoint is sent. Pure except for the random id.

use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    config::{Bridge, Endpoint, Filters, Format, Route, type_name},
    expr::{self, Expr},
    model::{ChangeKind, Content, Delivery, Event, EventId, Name, Timestamp},
    shape,
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
struct EventBody<'a, D> {
    r#type: &'a str,
    timestamp: String,
    data: D,
}

impl<D: Serialize> EventBody<'_, D> {
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("JSON values and strings serialize")
    }
}

#[derive(Serialize)]
struct EventData<'a> {
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
        let kind = change.kind;
        let patch = Some(patch(change.before.as_ref(), change.after.as_ref()));
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        self.make(kind.as_str(), sequence, &change.key, (before, after, patch), |told| self.deliveries(kind, told))
    }

    /// A record as it is, for `resend`: `<bridge>.present`.
    pub fn present(&self, endpoint: &str, sequence: u64, key: &str, record: &Json) -> Event {
        self.make("present", sequence, key, (None, Some(record), None), |told| {
            let route = self.bridge.routes.iter().find(|route| &*route.endpoint == endpoint);
            let known = self.endpoints.get(endpoint);
            let content = known.map_or(Content::Shared, |endpoint| content(route, endpoint, told));
            vec![Delivery { endpoint: endpoint.into(), content }]
        })
    }

    fn make(
        &self,
        kind: &str,
        sequence: u64,
        key: &str,
        (before, after, patch): (Option<&Json>, Option<&Json>, Option<json_patch::Patch>),
        deliveries: impl FnOnce(&Standard<'_>) -> Vec<Delivery>,
    ) -> Event {
        let kind = format!("{}.{kind}", self.bridge.type_name());
        let (bridge, stream, item) = (&self.bridge.name, &self.stream, self.bridge.item.as_ref());
        let data = EventData { bridge, key, stream, sequence, item, before, after, patch };
        let body = EventBody { r#type: &kind, timestamp: self.now.to_string(), data }.bytes();
        let id = EventId::random();
        Event {
            bridge: bridge.clone(),
            sequence,
            key: key.to_owned(),
            at: self.now,
            deliveries: deliveries(&Standard::new(&id, &body)),
            id,
            kind,
            body,
        }
    }

    /// Per endpoint the first route whose filters hold.
    fn deliveries(&self, kind: ChangeKind, told: &Standard<'_>) -> Vec<Delivery> {
        let whole = told.pass(&self.bridge.filters, kind);
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
                .and_then(|_| told.pass(&route.filters, kind))
                .and_then(|holds| Ok(holds && told.pass(&endpoint.filters, kind)?));
            let content = match holds {
                Ok(false) => continue,
                Ok(true) => content(Some(route), endpoint, told),
                Err(error) => Content::Dead(format!("`when`: {error}")),
            };
            chosen.insert(route.endpoint.clone(), content);
        }
        chosen.into_iter().map(|(endpoint, content)| Delivery { endpoint, content }).collect()
    }
}

/// What an endpoint would be sent of an event's standard body today: for `replay --remake`, and for what was coalesced.
/// `None` where no route leads there.
pub fn remake(bridge: &Bridge, endpoint: &Endpoint, id: &EventId, body: &[u8]) -> Option<Content> {
    let told = Standard::new(id, body);
    let event = told.event().ok();
    let kind = event.and_then(|event| event.get("type")?.as_str()?.rsplit('.').next());
    let kinds = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Deleted];
    let kind = kinds.into_iter().find(|known| Some(known.as_str()) == kind);
    let mut routes = bridge.routes.iter().filter(|route| route.endpoint == endpoint.name);
    let route = routes.find(|route| kind.is_none_or(|kind| told.pass(&route.filters, kind).unwrap_or(false)))?;
    Some(content(Some(route), endpoint, &told))
}

/// What a `payload` makes of an event outside of a commit: an operational one, or a sample. Its errors name the key.
pub fn own(key: &str, payload: &Expr, body: &[u8]) -> Result<Vec<u8>, String> {
    only(key, payload.texts(body, 2)).map(String::into_bytes)
}

/// The one value that a `payload` is to give.
fn only<T>(key: &str, made: Result<Vec<T>, expr::Error>) -> Result<T, String> {
    let mut made = made.map_err(|e| format!("`{key}`: {e}"))?.into_iter();
    match (made.next(), made.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("`{key}` gives nothing")),
        (Some(_), Some(_)) => Err(format!("`{key}` gives several values; wrap them: `[...]`")),
    }
}

/// An update that no record had, for who tries an endpoint whose `payload` makes something else of events.
pub fn sample(bridge: &str, stream: &str, now: Timestamp) -> Event {
    let record = |status: &str| serde_json::json!({ "id": "test", "name": "a test by bellpull", "title": "a test by bellpull", "status": status });
    let (before, after) = (record("before"), record("after"));
    let kind = format!("{}.updated", type_name(bridge));
    let patch = Some(patch(Some(&before), Some(&after)));
    let (before, after) = (Some(&before), Some(&after));
    let data = EventData { bridge, key: "test", stream, sequence: 1, item: None, before, after, patch };
    let body = EventBody { r#type: &kind, timestamp: now.to_string(), data }.bytes();
    Event {
        id: EventId::random(),
        bridge: bridge.into(),
        sequence: 1,
        key: "test".into(),
        at: now,
        deliveries: Vec::new(),
        kind,
        body,
    }
}

/// An event's standard body, and what jq sees of it: made only when an expression asks for it.
struct Standard<'a> {
    id: &'a EventId,
    body: &'a [u8],
    event: OnceCell<Result<Json, String>>,
}

impl<'a> Standard<'a> {
    fn new(id: &'a EventId, body: &'a [u8]) -> Self {
        Self { id, body, event: OnceCell::new() }
    }

    /// An error for a record that is nested too deep to be read with an event around it.
    fn event(&self) -> Result<&Json, String> {
        let read = || seen(self.id, self.body).map_err(|e| format!("the event cannot be read: {e}"));
        self.event.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    fn pass(&self, filters: &Filters, kind: ChangeKind) -> Result<bool, String> {
        if filters.when.is_none() {
            return filters.hold(kind, &|| Json::Null).map_err(|e| e.to_string());
        }
        let event = self.event()?;
        filters.hold(kind, &|| event.clone()).map_err(|e| e.to_string())
    }
}

/// Which of an event's contents an endpoint is sent. What is too large goes thin, and `payload` sees it thin.
fn content(route: Option<&Route>, endpoint: &Endpoint, told: &Standard<'_>) -> Content {
    let too_large = |body: &[u8]| u64::try_from(body.len()).is_ok_and(|length| length > endpoint.body_max);
    let thin = endpoint.thin || too_large(told.body);
    let payload: Option<&Expr> = route.and_then(|route| route.payload.as_ref()).or(endpoint.payload.as_ref());
    let Some(payload) = payload else { return if thin { Content::Thin } else { Content::Shared } };
    let run = |event: &Json| match only("payload", payload.up_to(event, 2)) {
        Ok(value) if endpoint.format == Format::Form && !value.is_object() => {
            Err("`payload` gives no object, whose fields `format = \"form\"` would send".to_owned())
        }
        Ok(value) if endpoint.format == Format::Text && endpoint.batch.is_none() && !value.is_string() => {
            Err("`payload` gives no string, which `format = \"text\"` would send; use `tojson` or `@text`".to_owned())
        }
        Ok(value) => Ok(value.to_string().into_bytes()),
        Err(error) => Err(error),
    };
    let of_thin = || Standard::new(told.id, &shape::thin(told.body)).event().and_then(run);
    let made = if thin { of_thin() } else { told.event().and_then(run) };
    let made = match made {
        Ok(body) if too_large(&body) && !thin => of_thin(),
        made => made,
    };
    match made {
        Ok(body) if too_large(&body) => Content::Dead(format!(
            "`payload` gives {} bytes, `body-max` is {}, and the thin event's is not smaller",
            body.len(),
            endpoint.body_max
        )),
        Ok(body) => Content::Own(body),
        Err(error) => Content::Dead(error),
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

/// An event as jq sees it: its body, and the id that `webhook-id` has.
fn seen(id: &EventId, body: &[u8]) -> serde_json::Result<Json> {
    let mut seen: Json = serde_json::from_slice(body)?;
    if let Some(fields) = seen.as_object_mut() {
        fields.insert("id".into(), id.to_string().into());
    }
    Ok(seen)
}

/// As jq sees it at the attempt.
pub fn with_id(event: &Event) -> Json {
    seen(&event.id, &event.body).unwrap_or_default()
}

/// Whether an event tells about bellpull itself.
pub fn is_operational(event: &Event) -> bool {
    event.bridge.is_empty()
}

/// Operational events (`bellpull.*`): of no bridge's sequence, past `on`, `when` and `payload`. What an endpoint has in
/// `operational.payload` is made at the attempt.
pub fn operational(kind: &str, about: &str, data: Json, to: &[Name], now: Timestamp) -> Event {
    let kind = format!("bellpull.{kind}");
    let body = EventBody { r#type: &kind, timestamp: now.to_string(), data }.bytes();
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
