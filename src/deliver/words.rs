//! What jq makes of an event at the attempt, and not at its commit: operational events in the words of their endpoint, samples
//! for `endpoint test`, and digests of batches.

use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::attempt::Sender;
use crate::{
    compute::compute,
    config::{Format, Operational},
    event,
    expr::Expr,
    model::{Content, Event, Name},
    shape::{self, Carried, Piece},
    store::Outgoing,
};

impl Sender {
    /// Puts operational events into the words of the endpoint. An error is that of the first event; others wait for their turn.
    pub(super) async fn word(&self, stored: &mut Vec<Outgoing>) -> Result<(), String> {
        let Operational::Payload(payload) = &self.endpoint.operational else { return Ok(()) };
        let is_one =
            |outgoing: &Outgoing| event::is_operational(&outgoing.event) && outgoing.content == Content::Shared;
        let all: Vec<usize> = (0..stored.len()).filter(|index| stored.get(*index).is_some_and(is_one)).collect();
        for index in all {
            let Some(outgoing) = stored.get_mut(index) else { break };
            match self.own("operational.payload", payload, told(&outgoing.event)).await {
                Ok(body) => outgoing.content = Content::Own(body),
                Err(error) if index == 0 => return Err(error),
                Err(_) => {
                    stored.truncate(index);
                    break;
                }
            }
        }
        Ok(())
    }

    async fn own(&self, key: &'static str, payload: &Expr, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let payload = payload.clone();
        let made = compute(move || event::own(key, &payload, &body)).await;
        made.expect("an attempt that panics is one that failed")
    }

    /// What a test sends: `bellpull.test`, or what the endpoint would be sent of a change where its `payload` makes something else.
    pub(super) async fn sample(&self) -> Result<Piece, String> {
        let (name, now) = (&self.endpoint.name, self.shared.clock.now());
        let test = event::operational("test", name, serde_json::json!({ "endpoint": &**name }), &[], now);
        if let Operational::Payload(payload) = &self.endpoint.operational {
            let body = self.own("operational.payload", payload, told(&test)).await?;
            return Ok(Piece::new(test, Content::Own(body)));
        }
        let (bridge, payload) = self.of_a_change();
        let sample = event::sample(&bridge, self.shared.store.stream(), now);
        let Some(payload) = payload else {
            // Where no alarm ever comes, the test is none.
            let sent = if self.endpoint.takes_alarms() { test } else { sample };
            return Ok(Piece::new(sent, Content::Shared));
        };
        match self.own("payload", &payload, told(&sample)).await {
            Ok(body) => Ok(Piece::new(sample, Content::Own(body))),
            Err(error) => Err(format!(
                "{error}; that was a sample of an update: with `operational.payload` the test sends what that makes"
            )),
        }
    }

    /// The first bridge that sends here, and the `payload` that its events pass.
    fn of_a_change(&self) -> (Name, Option<Expr>) {
        for bridge in self.shared.others.borrow().bridges.values() {
            if let Some(route) = bridge.routes.iter().find(|route| route.endpoint == self.endpoint.name) {
                let payload = route.payload.as_ref().or(self.endpoint.payload.as_ref());
                return (bridge.name.clone(), payload.cloned());
            }
        }
        (Name::from("sample"), self.endpoint.payload.clone())
    }

    /// How many events from the first are of bridges; an operational one goes alone.
    pub(super) fn together(&self, stored: &[Outgoing]) -> usize {
        stored.iter().take_while(|outgoing| !event::is_operational(&outgoing.event)).count().max(1)
    }

    /// What `batch.payload` makes of a batch.
    pub(super) async fn digest(&self, payload: &Expr, pieces: &[Piece]) -> Result<Carried, String> {
        let mut carried = shape::batch(Format::Standard, pieces)?;
        carried.body = self.own("batch.payload", payload, std::mem::take(&mut carried.body)).await?;
        if self.endpoint.format == Format::Text {
            let text = shape::as_it_is(&carried.body);
            carried.body = text.ok_or("`batch.payload` gives no string, which `format = \"text\"` would send")?;
            carried.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        Ok(carried)
    }

    /// A string goes as it is where `headers` says that the body is not JSON.
    pub(super) fn plain(&self, mut carried: Carried) -> Carried {
        if self.endpoint.is_plain && self.endpoint.format == Format::Standard {
            carried.body = shape::as_it_is(&carried.body).unwrap_or(carried.body);
        }
        carried
    }
}

/// What jq sees of it.
fn told(event: &Event) -> Vec<u8> {
    event::with_id(event).to_string().into_bytes()
}
