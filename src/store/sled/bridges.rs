//! A bridge under another name, and one that is forgotten: slices of writes that go over its whole snapshot.
//!
//! Its last sequence number stays under the name that it leaves: a bridge that is given this name counts on from there, since
//! receivers drop what is not above what they had.

use super::{
    group::Group,
    tables::{Rows, Table, error},
};
use crate::{
    model::Name,
    store::{
        BridgeState, Error, Progress, Written,
        codec::{self, key, key::BridgeRow},
    },
};

impl Group<'_> {
    /// The first records of a bridge as they were before this group, by their rows without chunk numbers.
    fn records_of(&self, bridge: &str, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let mut rows = Vec::new();
        for row in self.tables.get(Table::Records).scan_prefix(key::records(bridge)).keys() {
            let row = row.map_err(error)?;
            let (key, 0) = key::unchunk(&row)? else { continue };
            if rows.len() == limit {
                break;
            }
            rows.push(key.to_vec());
        }
        Ok(rows)
    }

    pub(super) fn rename_bridge(&mut self, from: &Name, to: &Name, limit: usize) -> Result<Written, Error> {
        let rows = self.records_of(from, limit)?;
        for row in &rows {
            let (_, hash) = key::parse_record(row)?;
            if let Some(value) = self.value(Table::Records, row)? {
                self.put(Table::Records, &key::record(to, hash), &value)?;
                self.remove(Table::Records, row)?;
            }
        }
        if !rows.is_empty() {
            return Ok(Written::Swept(rows.len()));
        }
        let manifest = key::bridge(BridgeRow::Manifest, from);
        if let Some(value) = self.value(Table::Bridges, &manifest)? {
            for id in codec::decode_manifest(&value)? {
                let chunk = self.row(Table::Bridges, &key::list_chunk(from, id))?.map(|chunk| chunk.to_vec());
                self.change(Table::Bridges, key::list_chunk(to, id), chunk);
                self.change(Table::Bridges, key::list_chunk(from, id), None);
            }
            self.put(Table::Bridges, &key::bridge(BridgeRow::Manifest, to), &value)?;
            self.remove(Table::Bridges, &manifest)?;
        }
        if let Some(value) = self.value(Table::Bridges, &key::bridge(BridgeRow::Progress, from))? {
            // It is in the file again.
            let progress = Progress { removed: None, ..codec::decode_json(&value)? };
            self.put(Table::Bridges, &key::bridge(BridgeRow::Progress, to), &codec::encode_json(&progress)?)?;
        }
        if let Some(value) = self.value(Table::Bridges, &key::bridge(BridgeRow::Hold, from))? {
            self.put(Table::Bridges, &key::bridge(BridgeRow::Hold, to), &value)?;
        }
        if let Some(mut state) = self.state(from)? {
            state.sequence = state.sequence.max(self.state(to)?.map_or(0, |heir| heir.sequence));
            self.put(Table::Bridges, &key::bridge(BridgeRow::State, to), &codec::encode_state(&state)?)?;
        }
        self.leave_sequence(from)?;
        Ok(Written::Swept(0))
    }

    fn state(&self, bridge: &Name) -> Result<Option<BridgeState>, Error> {
        let value = self.value(Table::Bridges, &key::bridge(BridgeRow::State, bridge))?;
        value.map(|value| codec::decode_state(&value)).transpose()
    }

    /// Of all that a bridge has beside its records and its list, only its sequence number stays.
    fn leave_sequence(&mut self, bridge: &Name) -> Result<(), Error> {
        let left = self.state(bridge)?.and_then(BridgeState::sequence_alone);
        for row in [BridgeRow::Progress, BridgeRow::Hold, BridgeRow::State] {
            self.remove(Table::Bridges, &key::bridge(row, bridge))?;
        }
        match left {
            Some(left) => {
                self.put(Table::Bridges, &key::bridge(BridgeRow::State, bridge), &codec::encode_state(&left)?)
            }
            None => Ok(()),
        }
    }

    pub(super) fn forget_bridge(&mut self, bridge: &Name, limit: usize) -> Result<Written, Error> {
        let rows = self.records_of(bridge, limit)?;
        for row in &rows {
            self.remove(Table::Records, row)?;
        }
        if !rows.is_empty() {
            return Ok(Written::Swept(rows.len()));
        }
        let manifest = key::bridge(BridgeRow::Manifest, bridge);
        if let Some(value) = self.value(Table::Bridges, &manifest)? {
            for id in codec::decode_manifest(&value)? {
                self.change(Table::Bridges, key::list_chunk(bridge, id), None);
            }
            self.remove(Table::Bridges, &manifest)?;
        }
        self.leave_sequence(bridge)?;
        Ok(Written::Swept(0))
    }
}
