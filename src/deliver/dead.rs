//! Dead letters that nobody was told of yet: collected, so that thousands of them are one event a minute. Operational
//! events are never among them, since an alarm about an alarm would have no end.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::{
    event,
    model::{Content, Event, Name},
};

/// Between two events of one endpoint.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Ids that one event names; `bellpull deliveries --state dead` has all.
const EVENTS_MAX: usize = 50;

/// Dead letters of one endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dead {
    count: u64,
    events: Vec<String>,
    /// Of the last one.
    reason: String,
}

impl Dead {
    /// Those of a commit that nothing can be sent of, by endpoint.
    pub fn of<'e>(events: impl IntoIterator<Item = &'e Event>, all: &mut BTreeMap<Name, Self>) {
        for event in events.into_iter().filter(|event| !event::is_operational(event)) {
            for delivery in &event.deliveries {
                if let Content::Dead(reason) = &delivery.content {
                    all.entry(delivery.endpoint.clone()).or_default().add(&event.id.to_string(), reason);
                }
            }
        }
    }

    pub fn add(&mut self, event: &str, reason: &str) {
        self.count = self.count.saturating_add(1);
        self.reason = reason.to_owned();
        if self.events.len() < EVENTS_MAX {
            self.events.push(event.to_owned());
        }
    }

    fn join(&mut self, other: Self) {
        let room = EVENTS_MAX - self.events.len();
        self.events.extend(other.events.into_iter().take(room));
        (self.count, self.reason) = (self.count.saturating_add(other.count), other.reason);
    }
}

/// What an endpoint's dispatcher has to tell, and when.
#[derive(Debug, Default)]
pub(super) struct Untold {
    dead: Dead,
    told: Option<Instant>,
}

impl Untold {
    pub(super) fn add(&mut self, event: &str, reason: &str) {
        self.dead.add(event, reason);
    }

    pub(super) fn join(&mut self, dead: Dead) {
        self.dead.join(dead);
    }

    /// How long to wait before it is told, if there is something.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        let at = self.told.map_or(now, |told| told + TELL_EVERY);
        (self.dead.count > 0).then(|| at.saturating_duration_since(now))
    }

    /// The data of `bellpull.event.dead`.
    pub(super) fn take(&mut self, endpoint: &str, now: Instant) -> Json {
        self.told = Some(now);
        let Dead { count, events, reason } = std::mem::take(&mut self.dead);
        json!({ "endpoint": endpoint, "count": count, "events": events, "reason": reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Delivery, Timestamp};

    /// Nobody was told when the retries of an event were used up.
    #[tokio::test(start_paused = true)]
    async fn thousands_are_one_event_a_minute_with_some_of_their_ids() {
        let mut untold = Untold::default();
        let begin = Instant::now();
        assert_eq!(untold.due_in(begin), None);
        untold.add("evt_0", "401");
        assert_eq!(untold.due_in(begin), Some(Duration::ZERO), "the first is told at once");
        assert_eq!(
            untold.take("me", begin),
            json!({ "endpoint": "me", "count": 1, "events": ["evt_0"], "reason": "401" })
        );
        assert_eq!(untold.due_in(begin), None);
        (0..5_000).for_each(|n| untold.add(&format!("evt_{n}"), "500"));
        assert_eq!(untold.due_in(begin), Some(TELL_EVERY));
        let later = begin + TELL_EVERY;
        assert_eq!(untold.due_in(later), Some(Duration::ZERO));
        let told = untold.take("me", later);
        assert_eq!((told["count"].as_u64(), told["events"].as_array().map(Vec::len)), (Some(5_000), Some(EVENTS_MAX)));
    }

    #[test]
    fn what_a_commit_makes_dead_is_told_and_alarms_are_not() {
        let told = |bridge: &str| {
            let mut event = event::operational("test", "it", json!({}), &[], Timestamp(0));
            event.bridge = bridge.into();
            let content = Content::Dead("`payload` fails".into());
            event.deliveries = vec![Delivery { endpoint: "me".into(), content }];
            let mut all = BTreeMap::new();
            Dead::of([&event, &event], &mut all);
            all.remove("me").map(|dead| (dead.count, dead.reason))
        };
        assert_eq!(told("orders"), Some((2, "`payload` fails".to_owned())));
        assert_eq!(told(""), None);
    }
}
