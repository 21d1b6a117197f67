//! Names of bridges and endpoints: what they lead to, under another name, and forgotten. Each is one small row that is switched;
//! what then has no name any more goes in the background.
//!
//! A bridge's last sequence number stays under the name that it leaves: a bridge that is given this name counts on from there,
//! since receivers drop what is not above what they had.

use super::{
    group::Group,
    tables::{Rows, Table},
};
use crate::{
    model::Name,
    store::{
        Error, Progress, Written,
        codec::{self, BridgeName, EndpointName, Work, key, key::BridgeRow},
    },
};

impl Group<'_> {
    /// The number of a bridge, which is given one where it has none.
    pub(super) fn bridge_number(&mut self, name: &str) -> Result<u64, Error> {
        let mut known = self.bridge_name(name)?.unwrap_or_default();
        if known.number == 0 {
            known.number = self.counters.number();
            self.put_bridge_name(name, known)?;
        }
        Ok(known.number)
    }

    /// Forgets the number that the name itself keeps.
    pub(super) fn forget_sequence(&mut self, name: &str) -> Result<(), Error> {
        match self.bridge_name(name)? {
            Some(known) if known.sequence > 0 => self.put_bridge_name(name, BridgeName { sequence: 0, ..known }),
            _ => Ok(()),
        }
    }

    fn put_bridge_name(&mut self, name: &str, known: BridgeName) -> Result<(), Error> {
        self.put(Table::Bridges, &key::name(name), &codec::encode_bridge_name(known))
    }

    pub(super) fn rename_bridge(&mut self, from: &Name, to: &Name) -> Result<Written, Error> {
        let Some(moved) = self.bridge_name(from)?.filter(|known| known.number > 0) else {
            return Ok(Written::Done);
        };
        let heir = self.bridge_name(to)?.unwrap_or_default();
        if heir.number > 0 {
            self.drop_bridge(heir.number)?;
        }
        let sequence = moved.sequence.max(heir.sequence);
        self.leave_name(from, moved)?;
        self.put_bridge_name(to, BridgeName { sequence, ..moved })?;
        let progress = key::bridge(BridgeRow::Progress, moved.number);
        if let Some(value) = self.value(Table::Bridges, &progress)? {
            // It is in the file again.
            let progressed = Progress { removed: None, ..codec::decode_json(&value)? };
            self.put(Table::Bridges, &progress, &codec::encode_json(&progressed)?)?;
        }
        Ok(Written::Done)
    }

    pub(super) fn forget_bridge(&mut self, name: &Name) -> Result<Written, Error> {
        match self.bridge_name(name)? {
            Some(known) if known.number > 0 => {
                self.leave_name(name, known)?;
                self.drop_bridge(known.number)?;
            }
            // Of that alone nothing stays.
            _ => self.remove(Table::Bridges, &key::name(name))?,
        }
        Ok(Written::Done)
    }

    /// What stays under a name that its bridge leaves: its number of events, where it had any.
    fn leave_name(&mut self, name: &str, known: BridgeName) -> Result<(), Error> {
        let left = self.state(known.number)?.and_then(|state| state.state.sequence_alone());
        match left {
            Some(left) => {
                let sequence = left.sequence.max(known.sequence);
                self.put_bridge_name(name, BridgeName { number: 0, sequence, at: left.accepted_at })
            }
            None if known.sequence > 0 => self.put_bridge_name(name, BridgeName { number: 0, ..known }),
            None => self.remove(Table::Bridges, &key::name(name)),
        }
    }

    /// All that hangs on a bridge's number: small rows now, the others in the background.
    fn drop_bridge(&mut self, bridge: u64) -> Result<(), Error> {
        for stage in self.stages.clone().into_iter().filter(|stage| stage.bridge == bridge) {
            self.abandon(stage.number)?;
        }
        for layer in self.state(bridge)?.map(|state| state.layers).unwrap_or_default() {
            self.work(Work::Layer(layer))?;
        }
        self.drop_held(bridge)?;
        for row in BridgeRow::ALL {
            self.remove(Table::Bridges, &key::bridge(row, bridge))?;
        }
        // Without a manifest none of them is named.
        self.work(Work::Chunks(bridge))
    }

    /// The number under which an endpoint's deliveries are queued; it is given one where it has none.
    pub(super) fn endpoint_number(&mut self, name: &Name) -> Result<u64, Error> {
        let mut known = self.endpoint_name(name)?.unwrap_or_default();
        if let Some(first) = known.numbers.first() {
            return Ok(*first);
        }
        let number = self.counters.number();
        known.numbers.push(number);
        self.put_endpoint_name(name, &known)?;
        Ok(number)
    }

    /// With the way back from each of its numbers.
    pub(super) fn put_endpoint_name(&mut self, name: &Name, known: &EndpointName) -> Result<(), Error> {
        let before = self.endpoint_name(name)?.map(|before| before.numbers).unwrap_or_default();
        for number in known.numbers.iter().filter(|number| !before.contains(number)) {
            self.put(Table::Endpoints, &key::endpoint_number(*number), name.as_bytes())?;
        }
        self.put(Table::Endpoints, &key::name(name), &codec::encode_endpoint_name(known)?)
    }

    pub(super) fn rename_endpoint(&mut self, from: &Name, to: &Name) -> Result<Written, Error> {
        let Some(moved) = self.endpoint_name(from)? else { return Ok(Written::Done) };
        let mut heir = self.endpoint_name(to)?.unwrap_or_default();
        heir.numbers.extend(moved.numbers);
        heir.state = moved.state.or(heir.state);
        self.remove(Table::Endpoints, &key::name(from))?;
        self.put_endpoint_name(to, &heir)?;
        self.recount(from);
        self.recount(to);
        Ok(Written::Done)
    }

    pub(super) fn forget_endpoint(&mut self, name: &Name) -> Result<Written, Error> {
        for number in self.endpoint_name(name)?.map(|known| known.numbers).unwrap_or_default() {
            self.remove(Table::Endpoints, &key::endpoint_number(number))?;
            self.work(Work::Queue(number))?;
        }
        self.remove(Table::Endpoints, &key::name(name))?;
        self.recount(name);
        Ok(Written::Done)
    }
}
