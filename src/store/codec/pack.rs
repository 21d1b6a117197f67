//! Events of one commit in packs: a header that tells what a reader looks for, and the events, compressed.

use std::collections::BTreeMap;

use super::{
    ROW_BYTES_MAX,
    bytes::{Bytes, damaged, put_bytes, put_folded, put_number, put_varint},
};
use crate::{
    model::{Content, Delivery, Event, EventId, Name, Timestamp},
    store::Error,
};

/// Below it a pack is stored as it is: compressing would gain little.
const FOLD_OVER: usize = 2048;
/// Left of a row for the chunk's header and the compression's.
const PACK_BYTES_MAX: usize = ROW_BYTES_MAX - 16;
/// Of one event or endpoint in the header, beside its text.
const OVERHEAD: usize = 20;

/// An encoded pack and the number of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    pub value: Vec<u8>,
    pub events: usize,
}

/// What is known of a pack without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackHeader {
    /// Of the latest event.
    pub at: Timestamp,
    pub bridge: Name,
    /// Their numbers, each once.
    pub endpoints: Vec<u64>,
    pub ids: Vec<EventId>,
}

/// The numbers of endpoints, by their names.
pub type Numbers = BTreeMap<Name, u64>;

/// Packs events in order; events of different bridges go into different packs. An event that is larger than a pack
/// has one of its own. `numbers` has every endpoint.
pub fn pack(events: &[Event], numbers: &Numbers) -> Vec<Pack> {
    let mut packs = Vec::new();
    let mut open = Open::default();
    for event in events {
        let next = Encoded::of(event, &open.endpoints);
        let full = open.size + next.size > PACK_BYTES_MAX || event.bridge != open.header.bridge;
        if full && !open.header.ids.is_empty() {
            packs.push(std::mem::take(&mut open).close(numbers));
        }
        open.add(event);
    }
    if !open.header.ids.is_empty() {
        packs.push(open.close(numbers));
    }
    packs
}

/// One pack of all these events, however large it becomes: those of a pack that is written again.
pub fn repack(events: &[Event], numbers: &Numbers) -> Vec<u8> {
    let mut open = Open::default();
    for event in events {
        open.add(event);
    }
    open.close(numbers).value
}

#[derive(Default)]
struct Open {
    header: PackHeader,
    /// The names of the header's endpoints, in its order.
    endpoints: Vec<Name>,
    events: Vec<u8>,
    size: usize,
}

impl Default for PackHeader {
    fn default() -> Self {
        Self { at: Timestamp(0), bridge: "".into(), endpoints: Vec::new(), ids: Vec::new() }
    }
}

impl Open {
    fn add(&mut self, event: &Event) {
        let next = Encoded::of(event, &self.endpoints);
        if self.header.ids.is_empty() {
            self.header.bridge = event.bridge.clone();
            self.header.at = event.at;
            self.size = event.bridge.len() + OVERHEAD;
        }
        self.size += next.size;
        self.header.at = self.header.at.max(event.at);
        self.endpoints.extend(next.endpoints);
        self.header.ids.push(event.id);
        self.events.extend_from_slice(&next.bytes);
    }

    fn close(self, numbers: &Numbers) -> Pack {
        let header = &self.header;
        let mut value = Vec::with_capacity(self.size);
        value.extend_from_slice(&header.at.0.to_be_bytes());
        put_bytes(&mut value, header.bridge.as_bytes());
        put_number(&mut value, self.endpoints.len());
        for endpoint in &self.endpoints {
            let number = numbers.get(endpoint).expect("the caller numbered every endpoint");
            value.extend_from_slice(&number.to_be_bytes());
        }
        put_number(&mut value, header.ids.len());
        for id in &header.ids {
            value.extend_from_slice(&id.0);
        }
        put_folded(&mut value, &self.events, FOLD_OVER);
        Pack { value, events: header.ids.len() }
    }
}

/// An event, and what it adds to a pack.
struct Encoded {
    bytes: Vec<u8>,
    /// Those that the header does not have yet.
    endpoints: Vec<Name>,
    size: usize,
}

impl Encoded {
    fn of(event: &Event, known: &[Name]) -> Self {
        let mut endpoints: Vec<Name> = Vec::new();
        let mut size = OVERHEAD;
        for delivery in &event.deliveries {
            if !known.contains(&delivery.endpoint) && !endpoints.contains(&delivery.endpoint) {
                size += delivery.endpoint.len() + OVERHEAD;
                endpoints.push(delivery.endpoint.clone());
            }
        }
        let bytes = encode(event, known, &endpoints);
        Self { size: size + bytes.len(), bytes, endpoints }
    }
}

/// All but the id and the bridge, which the header has.
fn encode(event: &Event, known: &[Name], more: &[Name]) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.body.len() + event.key.len() + 64);
    put_varint(&mut out, event.sequence);
    put_bytes(&mut out, event.kind.as_bytes());
    put_bytes(&mut out, event.key.as_bytes());
    out.extend_from_slice(&event.at.0.to_be_bytes());
    put_bytes(&mut out, &event.body);
    put_number(&mut out, event.deliveries.len());
    for delivery in &event.deliveries {
        let index =
            known.iter().chain(more).position(|e| *e == delivery.endpoint).expect("the caller added every endpoint");
        put_number(&mut out, index);
        match &delivery.content {
            Content::Shared => out.push(0),
            Content::Own(body) => {
                out.push(1);
                put_bytes(&mut out, body);
            }
            Content::Dead(reason) => {
                out.push(2);
                put_bytes(&mut out, reason.as_bytes());
            }
            Content::Thin => out.push(3),
        }
    }
    out
}

fn header(bytes: &mut Bytes<'_>) -> Result<PackHeader, Error> {
    let at = Timestamp(bytes.i64()?);
    let bridge = bytes.text()?.into();
    let endpoints = bytes.numbers()?;
    Ok(PackHeader { at, bridge, endpoints, ids: ids(bytes)? })
}

fn ids(bytes: &mut Bytes<'_>) -> Result<Vec<EventId>, Error> {
    (0..bytes.varint::<u32>()?).map(|_| Ok(EventId(bytes.array()?))).collect()
}

pub fn decode_pack_header(value: &[u8]) -> Result<PackHeader, Error> {
    header(&mut Bytes::of(value))
}

/// The endpoint that a number belongs to, and how many of its numbers come before it: of what goes to one twice, the delivery
/// of the lower counts.
pub type Named = Option<(Name, usize)>;

/// The events in order. `names` gives the endpoint of each of the header's numbers; what goes to none is left out.
pub fn decode_pack(value: &[u8], names: &[Named]) -> Result<Vec<Event>, Error> {
    let mut bytes = Bytes::of(value);
    let header = header(&mut bytes)?;
    events(&mut bytes, &header, names)
}

/// A pack of format 1, whose header has the names themselves.
pub fn decode_pack_of_format_1(value: &[u8]) -> Result<Vec<Event>, Error> {
    let mut bytes = Bytes::of(value);
    let (at, bridge) = (Timestamp(bytes.i64()?), bytes.text()?.into());
    let mut names = Vec::new();
    for _ in 0..bytes.varint::<u32>()? {
        names.push(Some((Name::from(bytes.text()?), 0)));
    }
    let ids = ids(&mut bytes)?;
    events(&mut bytes, &PackHeader { at, bridge, endpoints: Vec::new(), ids }, &names)
}

fn events(bytes: &mut Bytes<'_>, header: &PackHeader, names: &[Named]) -> Result<Vec<Event>, Error> {
    let events = bytes.folded()?;
    let mut bytes = Bytes::of(&events);
    let mut events = Vec::with_capacity(header.ids.len());
    for id in &header.ids {
        let sequence = bytes.varint()?;
        let kind = bytes.text()?.to_owned();
        let key = bytes.text()?.to_owned();
        let at = Timestamp(bytes.i64()?);
        let body = bytes.bytes()?.to_vec();
        let mut deliveries: Vec<(usize, Delivery)> = Vec::new();
        for _ in 0..bytes.varint::<u32>()? {
            let index: usize = bytes.varint()?;
            let endpoint = names.get(index).ok_or_else(|| damaged("an endpoint's number"))?;
            let content = match bytes.u8()? {
                0 => Content::Shared,
                1 => Content::Own(bytes.bytes()?.to_vec()),
                2 => Content::Dead(bytes.text()?.to_owned()),
                3 => Content::Thin,
                _ => return Err(damaged("an unknown content")),
            };
            let Some((endpoint, rank)) = endpoint.clone() else { continue };
            let same = |(_, delivery): &(usize, Delivery)| delivery.endpoint == endpoint;
            if deliveries.iter().any(|known| same(known) && known.0 <= rank) {
                continue;
            }
            deliveries.retain(|known| !same(known));
            deliveries.push((rank, Delivery { endpoint, content }));
        }
        let deliveries = deliveries.into_iter().map(|(_, delivery)| delivery).collect();
        events.push(Event { id: *id, bridge: header.bridge.clone(), sequence, kind, key, at, body, deliveries });
    }
    bytes.end()?;
    Ok(events)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::store::codec::split;

    prop_compose! {
        fn delivery()(endpoint in "[a-c]{1,2}", tag in 0..3, text in ".{0,40}") -> Delivery {
            let content = match tag {
                0 => Content::Shared,
                1 => Content::Own(text.into_bytes()),
                _ => Content::Dead(text),
            };
            Delivery { endpoint: endpoint.into(), content }
        }
    }

    /// Every endpoint of some events, numbered from 100.
    fn numbers(events: &[Event]) -> Numbers {
        let mut numbers: Numbers =
            events.iter().flat_map(|e| &e.deliveries).map(|delivery| (delivery.endpoint.clone(), 0)).collect();
        numbers.values_mut().zip(100..).for_each(|(number, next)| *number = next);
        numbers
    }

    fn names(header: &PackHeader, numbers: &Numbers) -> Vec<Named> {
        let name = |number: &u64| numbers.iter().find(|(_, n)| *n == number).map(|(name, _)| (name.clone(), 0));
        header.endpoints.iter().map(name).collect()
    }

    prop_compose! {
        fn raw_event()(
            id: [u8; 16], bridge in "[ab]?", sequence: u64, key in ".{0,9}", at: i64, body in vec(any::<u8>(), 0..900),
            deliveries in vec(delivery(), 0..4),
        ) -> Event {
            let kind = format!("{bridge}.created");
            Event { id: EventId(id), bridge: bridge.into(), sequence, kind, key, at: Timestamp(at), body, deliveries }
        }
    }

    /// An event goes to an endpoint once.
    fn event() -> impl Strategy<Value = Event> {
        raw_event().prop_map(|mut event| {
            event.deliveries.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
            event.deliveries.dedup_by(|a, b| a.endpoint == b.endpoint);
            event
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn events_round_trip_and_packs_fit_a_row(events in vec(event(), 0..60)) {
            let numbers = numbers(&events);
            let packs = pack(&events, &numbers);
            let mut read = Vec::new();
            for pack in &packs {
                prop_assert_eq!(split(&pack.value).expect("it fits").len(), 1);
                let header = decode_pack_header(&pack.value).expect("readable");
                let events = decode_pack(&pack.value, &names(&header, &numbers)).expect("readable");
                prop_assert_eq!(events.len(), pack.events);
                prop_assert_eq!(header.ids, events.iter().map(|e| e.id).collect::<Vec<_>>());
                prop_assert_eq!(Some(header.at), events.iter().map(|e| e.at).max());
                read.extend(events);
            }
            prop_assert_eq!(read, events);
        }

        #[test]
        fn packs_cut_short_are_damaged(events in vec(event(), 1..4), at: prop::sample::Index) {
            let numbers = numbers(&events);
            for pack in pack(&events, &numbers) {
                let names = names(&decode_pack_header(&pack.value).expect("readable"), &numbers);
                let short = pack.value.get(..at.index(pack.value.len())).expect("within");
                prop_assert!(matches!(decode_pack(short, &names), Err(Error::Damaged(_))));
            }
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = decode_pack(&noise, &[None, None]);
            let _ = decode_pack_header(&noise);
        }
    }
}
