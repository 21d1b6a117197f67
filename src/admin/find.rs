//! Finding what was sent: the filters that `deliveries` and `replay` share, and where a listing was cut.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admin, DeliveryQuery, Error, Replay, Time, api};
use crate::{
    model::Name,
    store::{self, DeliveryState, Engine, EventFilter, StoredEvent},
};

/// Rows of one listing when nothing is said.
pub(super) const LIST_DEFAULT: usize = 50;
pub(super) const LIST_MAX: usize = 10_000;
/// Beyond what is listed so many more are counted: how much is left out is to be known, and a store may hold millions.
const COUNTED_MAX: usize = 1000;
/// Events that one command looks at, or sends again.
pub(super) const FOUND_MAX: usize = 100_000;
/// Of a text that is looked for.
const TEXT_CHARS_MAX: usize = 1000;

/// A listing, and of how many it is the newest part.
pub struct Listed<T> {
    pub rows: T,
    /// Where it was cut.
    pub total: Option<Total>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    pub count: usize,
    /// Counting ended there.
    pub at_least: bool,
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.count, if self.at_least { "+" } else { "" })
    }
}

impl<T> Listed<Vec<T>> {
    /// The first `limit` of what was read with the limit `read_max`.
    fn cut(mut rows: Vec<T>, limit: usize, read_max: usize) -> Self {
        let count = rows.len();
        rows.truncate(limit);
        let total = (count > limit).then_some(Total { count, at_least: count >= read_max });
        Self { rows, total }
    }
}

impl Replay {
    /// The deliveries that are meant.
    pub(super) fn selection(&self) -> DeliveryQuery {
        let Self { endpoint, bridge, kind, key, status, since, until, matching, .. } = self.clone();
        let state = self.dead.then_some(DeliveryState::Dead);
        DeliveryQuery { endpoint, state, bridge, kind, key, status, since, until, matching, limit: None }
    }
}

impl DeliveryQuery {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.matching.as_ref().is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX) {
            return Err(Error::Refused(format!("`matching` is longer than {TEXT_CHARS_MAX} characters")));
        }
        Ok(())
    }

    /// Whether it says anything except where deliveries go.
    pub(super) fn is_any(&self) -> bool {
        *self != Self { endpoint: self.endpoint.clone(), limit: self.limit, ..Self::default() }
    }

    pub(super) fn filter(&self, bodies: bool, limit: usize) -> EventFilter {
        EventFilter {
            bridge: self.bridge.as_deref().map(Name::from),
            kind: self.kind.clone(),
            key: self.key.clone(),
            since: self.since.map(|Time(at)| at),
            until: self.until.map(|Time(at)| at),
            matching: self.matching.clone(),
            endpoint: self.endpoint.as_deref().map(Name::from),
            state: self.state,
            bodies,
            limit,
        }
    }

    /// Whether it asks about events, and not only about attempts.
    fn is_about_events(&self) -> bool {
        self.bridge.is_some() || self.kind.is_some() || self.key.is_some() || self.matching.is_some()
    }

    /// Whether a delivery of an event is meant; `statuses` are of the last attempts.
    pub(super) fn means(&self, event: &str, delivery: &store::StoredDelivery, statuses: &Statuses) -> bool {
        self.endpoint.as_deref().is_none_or(|name| *name == *delivery.endpoint)
            && self.state.is_none_or(|state| state == delivery.state)
            && self.status.is_none_or(|status| statuses.of(event, &delivery.endpoint) == Some(status))
    }

    /// The events with a delivery that is meant, newest first.
    pub(super) fn events(
        &self,
        engine: &dyn Engine,
        bodies: bool,
        limit: usize,
    ) -> Result<(Vec<StoredEvent>, Statuses), store::Error> {
        let Some(_) = self.status else {
            return Ok((engine.events(&self.filter(bodies, limit))?, Statuses::default()));
        };
        let mut events = engine.events(&self.filter(bodies, FOUND_MAX))?;
        let statuses = Statuses::read(engine, &events)?;
        events.retain(|stored| {
            let id = stored.event.id.to_string();
            stored.deliveries.iter().any(|delivery| self.means(&id, delivery, &statuses))
        });
        events.truncate(limit);
        Ok((events, statuses))
    }
}

/// What receivers last answered, by event and endpoint.
#[derive(Default)]
pub(super) struct Statuses(BTreeMap<String, BTreeMap<String, u16>>);

impl Statuses {
    /// Without the answers, which would not fit.
    pub(super) fn read(engine: &dyn Engine, events: &[StoredEvent]) -> Result<Self, store::Error> {
        let mut all: BTreeMap<String, BTreeMap<String, u16>> =
            events.iter().map(|stored| (stored.event.id.to_string(), BTreeMap::new())).collect();
        let mut note = |attempt: &store::Attempt| {
            if let Some(of_event) = all.get_mut(&attempt.event) {
                // The newest comes first.
                of_event.entry(attempt.endpoint.clone()).or_insert(attempt.status.unwrap_or(0));
            }
            false
        };
        engine.attempts(&mut note, usize::MAX)?;
        Ok(Self(all))
    }

    fn of(&self, event: &str, endpoint: &str) -> Option<u16> {
        self.0.get(event)?.get(endpoint).copied()
    }
}

impl Admin {
    /// Attempts, newest first; or, of a state, the events that are in it.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<Listed<api::Deliveries>, Error> {
        let limit = query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
        query.check()?;
        if query.state.is_some() {
            let listed = self.store.read(move |engine| in_state(engine, &query, limit)).await?;
            let show = |(event, last): (StoredEvent, Option<store::Attempt>)| api::Event {
                last_attempt: last.map(Into::into),
                ..api::Event::from(&event)
            };
            let rows = api::Deliveries::Events(listed.rows.into_iter().map(show).collect());
            return Ok(Listed { rows, total: listed.total });
        }
        let listed = self.store.read(move |engine| attempts(engine, &query, limit)).await?;
        let rows = api::Deliveries::Attempts(listed.rows.into_iter().map(Into::into).collect());
        Ok(Listed { rows, total: listed.total })
    }
}

type WithLast = (StoredEvent, Option<store::Attempt>);

fn in_state(
    engine: &dyn Engine,
    selection: &DeliveryQuery,
    limit: usize,
) -> Result<Listed<Vec<WithLast>>, store::Error> {
    let read_max = limit + COUNTED_MAX;
    let (events, _) = selection.events(engine, false, read_max)?;
    let Listed { rows: events, total } = Listed::cut(events, limit, read_max);
    if events.is_empty() {
        return Ok(Listed { rows: Vec::new(), total });
    }
    // The last attempt of each: the ring as a whole, with its answers, would not fit.
    let mut left: BTreeSet<String> = events.iter().map(|event| event.event.id.to_string()).collect();
    let endpoint = selection.endpoint.as_deref();
    let mut wanted = |attempt: &store::Attempt| {
        endpoint.is_none_or(|endpoint| endpoint == attempt.endpoint) && left.remove(&attempt.event)
    };
    let last = engine.attempts(&mut wanted, events.len())?.into_iter().map(|a| (a.event.clone(), a));
    let mut last: BTreeMap<String, store::Attempt> = last.collect();
    let pair = |event: StoredEvent| (last.remove(&event.event.id.to_string()), event);
    Ok(Listed { rows: events.into_iter().map(pair).map(|(last, event)| (event, last)).collect(), total })
}

fn attempts(
    engine: &dyn Engine,
    selection: &DeliveryQuery,
    limit: usize,
) -> Result<Listed<Vec<store::Attempt>>, store::Error> {
    let of_events: Option<BTreeSet<String>> = if selection.is_about_events() {
        // An event may be older than its attempts.
        let any_time = DeliveryQuery { since: None, until: None, ..selection.clone() };
        let events = engine.events(&any_time.filter(false, FOUND_MAX))?;
        Some(events.iter().map(|stored| stored.event.id.to_string()).collect())
    } else {
        None
    };
    let mut wanted = |attempt: &store::Attempt| {
        selection.endpoint.as_ref().is_none_or(|name| *name == attempt.endpoint)
            && selection.status.is_none_or(|status| attempt.status.unwrap_or(0) == status)
            && selection.since.is_none_or(|Time(since)| attempt.at >= since)
            && selection.until.is_none_or(|Time(until)| attempt.at < until)
            && of_events.as_ref().is_none_or(|ids| ids.contains(&attempt.event))
    };
    let read_max = limit + COUNTED_MAX;
    Ok(Listed::cut(engine.attempts(&mut wanted, read_max)?, limit, read_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `deliveries --state dead` showed 50 of 60 and did not say so: what was sent again by its ids left ten behind.
    #[test]
    fn a_cut_is_told_with_how_many_there_are() {
        let cut = |count: usize, limit| {
            let Listed { rows, total } = Listed::cut(vec![0; count], limit, limit + 10);
            (rows.len(), total.map(|total| total.to_string()))
        };
        assert_eq!(cut(50, 50), (50, None));
        assert_eq!(cut(0, 50), (0, None));
        assert_eq!(cut(59, 50), (50, Some("59".into())));
        assert_eq!(cut(60, 50), (50, Some("60+".into())));
    }
}
