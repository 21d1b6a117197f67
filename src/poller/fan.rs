//! Bridges over a list: which members there are, and when that changes.
//!
//! A member is polled like any other bridge. Where the list is another bridge's records, it is read from the store: when
//! the runner starts, and after each commit of that bridge. That costs a read of all of its records.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinError;

use super::{Poller, known::value_of, run::Runner};
use crate::{
    config::{Bridge, Each, MEMBERS_MAX},
    model::Name,
    store,
};

/// Records that are read at once.
const SLICE: usize = 1000;

/// Bridges by name.
pub(super) type Members = BTreeMap<Name, Arc<Bridge>>;

impl Runner {
    /// The bridges of a configuration with members in the place of those that have a list.
    pub(super) async fn unfold(&mut self, bridges: Members) -> Result<Members, store::Error> {
        let (fans, mut plain): (Members, Members) = bridges.into_iter().partition(|(_, bridge)| bridge.each.is_some());
        // What was being read is of the old configuration.
        self.fanning.abort_all();
        self.fans = fans;
        for fan in self.fans.values() {
            plain.extend(members(&self.poller, fan).await?);
        }
        Ok(plain)
    }

    /// Reads the lists that are this bridge's records, in the background.
    pub(super) fn fan_anew(&mut self, parent: &Name) {
        for (base, fan) in &self.fans {
            if matches!(&fan.each, Some(Each::Bridge { name, .. }) if name == parent) {
                let (poller, base, fan) = (self.poller.clone(), base.clone(), fan.clone());
                self.fanning.spawn(async move { Ok((base, members(&poller, &fan).await?)) });
            }
        }
    }

    /// A list was read: new members are polled from now on, those that left it no more.
    pub(super) async fn fanned(
        &mut self,
        read: Result<Result<(Name, Members), store::Error>, JoinError>,
    ) -> Result<(), store::Error> {
        let (base, now) = match read {
            Ok(read) => read?,
            // It was taken back, or failed on one list: the members stay as they are.
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "the members of a bridge could not be read");
                }
                return Ok(());
            }
        };
        let prefix = format!("{base}/");
        let known = self.slots.keys().filter(|name| name.starts_with(&prefix));
        let gone: Vec<Name> = known.filter(|name| !now.contains_key(*name)).cloned().collect();
        self.remove(gone).await?;
        self.install(now).await
    }
}

/// The members of a bridge as its list is now.
async fn members(poller: &Poller, fan: &Bridge) -> Result<Members, store::Error> {
    let (parent, item) = match &fan.each {
        Some(Each::List(list)) => return Ok(fan.members(list)),
        Some(Each::Bridge { name, item }) => (name.clone(), item.clone()),
        None => return Ok(Members::new()),
    };
    let mut members = Members::new();
    let mut after = None;
    loop {
        let (name, from) = (parent.clone(), after);
        let slice = poller.store.read(move |engine| engine.scan(&name, from, SLICE)).await?;
        let Some(last) = slice.last() else { return Ok(members) };
        after = Some(last.entry.key);
        for record in &slice {
            let value = value_of(record).map_err(|failure| failure.to_string());
            let found = value.and_then(|value| match &item {
                Some(item) => item.first(&value).map_err(|e| e.to_string()),
                None => Ok(Some(value)),
            });
            match found {
                Ok(None | Some(serde_json::Value::Null)) => {}
                Ok(Some(item)) if members.len() < MEMBERS_MAX => members.extend([fan.member(&record.key, item)]),
                Ok(Some(_)) => {
                    tracing::error!(bridge = %fan.name, "it has more than {MEMBERS_MAX} members: the others are not polled");
                    return Ok(members);
                }
                Err(error) => tracing::warn!(bridge = %fan.name, member = %record.key, error, "`each.item` failed"),
            }
        }
    }
}
