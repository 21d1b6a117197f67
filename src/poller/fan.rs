//! Bridges over a list: which members there are, and when that changes.
//!
//! A member is polled like any other bridge. Where the list is another bridge's records, it is read from the store: when
//! the runner starts, and after each commit of that bridge. That costs a read of all of its records.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value as Json;
use tokio::task::{JoinError, JoinSet};

use super::{
    Poller,
    known::{SLICE, value_of},
    slots::Bridges,
};
use crate::{
    compute::compute,
    config::{Bridge, Each, MEMBERS_MAX},
    expr::Expr,
    model::{Name, Record},
    store,
    telemetry::kind,
};

/// A bridge over a list, and whether its list is being read.
struct Fan {
    bridge: Arc<Bridge>,
    reading: bool,
    /// It changed while it was read.
    again: bool,
    /// It was told that members are left out.
    leaves_out: bool,
}

/// Members as they were read, and the bridge that they are of.
pub(super) type Unfolded = (Arc<Bridge>, Listed);

/// A list that was read in the background.
pub(super) type Read = Result<Result<Unfolded, store::Error>, JoinError>;

/// A member, or the key of a record that makes none, and why.
type Member = Result<(Name, Arc<Bridge>), (String, String)>;

/// What a list holds.
#[derive(Default)]
pub(super) struct Listed {
    members: Bridges,
    /// Records that make no member: how many, and the first one's key and error.
    failed: Option<(usize, String, String)>,
    /// There are more than may be.
    cut: bool,
}

impl Fan {
    /// Told with the first reading that leaves members out, until one leaves none out.
    fn tell(&mut self, listed: &Listed) {
        let leaves_out = listed.cut || listed.failed.is_some();
        if std::mem::replace(&mut self.leaves_out, leaves_out) {
            return;
        }
        let bridge = &self.bridge.name;
        if listed.cut {
            tracing::error!(message_id = kind::BRIDGE_LEFT_OUT, %bridge, max = MEMBERS_MAX, "it has too many members: the others are not polled");
        }
        if let Some((count, member, error)) = &listed.failed {
            tracing::warn!(message_id = kind::BRIDGE_LEFT_OUT, %bridge, count, member, error, "`each.item` failed: these members are not polled");
        }
    }
}

/// The bridges over a list. They are not polled, their members are.
#[derive(Default)]
pub(super) struct Fans {
    all: BTreeMap<Name, Fan>,
    /// Lists that are read again.
    reading: JoinSet<Result<Unfolded, store::Error>>,
}

impl Fans {
    /// The bridges of a configuration with members in the place of those that have a list.
    pub async fn unfold(&mut self, poller: &Poller, bridges: Bridges) -> Result<Bridges, store::Error> {
        let (fans, mut plain): (Bridges, Bridges) = bridges.into_iter().partition(|(_, bridge)| bridge.each.is_some());
        let fan = |(name, bridge)| (name, Fan { bridge, reading: false, again: false, leaves_out: false });
        self.all = fans.into_iter().map(fan).collect();
        for fan in self.all.values_mut() {
            let listed = members(poller, &fan.bridge).await?;
            fan.tell(&listed);
            plain.extend(listed.members);
        }
        Ok(plain)
    }

    /// Lists of bridges that are gone bring no member back.
    pub fn retain(&mut self, bridges: &Bridges) {
        self.all.retain(|name, _| bridges.contains_key(name));
    }

    /// Reads the lists that are this bridge's records, in the background, each once at a time.
    pub fn read_of(&mut self, poller: &Poller, parent: &Name) {
        for fan in self.all.values_mut() {
            if !matches!(&fan.bridge.each, Some(Each::Bridge { name, .. }) if name == parent) {
                continue;
            }
            fan.again = fan.reading;
            if !std::mem::replace(&mut fan.reading, true) {
                let (poller, bridge) = (poller.clone(), fan.bridge.clone());
                self.reading.spawn(async move {
                    let members = members(&poller, &bridge).await?;
                    Ok((bridge, members))
                });
            }
        }
    }

    /// A list that was read in the background; never without one under way.
    pub async fn join_next(&mut self) -> Option<Read> {
        self.reading.join_next().await
    }

    /// What a list that was read says: the bridge, and the members that it has from now on. `None` where it says nothing.
    pub fn read(&mut self, poller: &Poller, read: Read) -> Result<Option<(Name, Bridges)>, store::Error> {
        let (bridge, listed) = match read {
            Ok(read) => read?,
            Err(error) => {
                tracing::error!(%error, "the members of a bridge could not be read: they stay as they are");
                self.all.values_mut().for_each(|fan| fan.reading = false);
                return Ok(None);
            }
        };
        // Of another configuration it means nothing any more.
        let Some(fan) = self.all.get_mut(&bridge.name).filter(|fan| Arc::ptr_eq(&fan.bridge, &bridge)) else {
            return Ok(None);
        };
        fan.reading = false;
        fan.tell(&listed);
        if std::mem::take(&mut fan.again)
            && let Some(Each::Bridge { name, .. }) = &bridge.each
        {
            self.read_of(poller, name);
        }
        Ok(Some((bridge.name.clone(), listed.members)))
    }
}

/// The members of a bridge as its list is now.
async fn members(poller: &Poller, fan: &Arc<Bridge>) -> Result<Listed, store::Error> {
    let (parent, item) = match &fan.each {
        Some(Each::List(list)) => return Ok(Listed { members: fan.members(list), ..Listed::default() }),
        Some(Each::Bridge { name, item }) => (name.clone(), item.clone()),
        None => return Ok(Listed::default()),
    };
    let mut listed = Listed::default();
    let mut after = None;
    while let Some(slice) = poller.slice(&parent, &mut after, SLICE).await? {
        let (fan, item) = (fan.clone(), item.clone());
        let found =
            compute(move || slice.iter().filter_map(|record| one(&fan, &item, record)).collect::<Vec<_>>()).await;
        for one in found.map_err(|e| store::Error::Io(e.to_string()))? {
            match one {
                Ok((name, member)) => drop(listed.members.insert(name, member)),
                Err((key, error)) => listed.failed.get_or_insert((0, key, error)).0 += 1,
            }
        }
        if listed.members.len() > MEMBERS_MAX {
            listed.members = listed.members.into_iter().take(MEMBERS_MAX).collect();
            listed.cut = true;
            return Ok(listed);
        }
    }
    Ok(listed)
}

/// The member that a record stands for, if it does; or the record's key and why it cannot.
fn one(fan: &Bridge, item: &Option<Expr>, record: &Record) -> Option<Member> {
    let value = value_of(record).map_err(|failure| failure.to_string());
    let found = value.and_then(|value| match item {
        Some(item) => item.first(&value).map_err(|e| e.to_string()),
        None => Ok(Some(value)),
    });
    match found {
        Ok(None | Some(Json::Null)) => None,
        Ok(Some(item)) => Some(Ok(fan.member(&record.key, item))),
        Err(error) => Some(Err((record.key.clone(), error))),
    }
}
