//! A bridge under another name, and one that is forgotten: slices of writes that go over its whole snapshot.

use super::{
    group::Group,
    tables::{Rows, Table, error},
};
use crate::{
    model::Name,
    store::{
        Error, Written,
        codec::{self, key, key::BridgeRow},
    },
};

/// What a bridge has beside its records and its list.
const ROWS: [BridgeRow; 3] = [BridgeRow::Progress, BridgeRow::Hold, BridgeRow::State];

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
        for row in ROWS {
            if let Some(value) = self.value(Table::Bridges, &key::bridge(row, from))? {
                self.put(Table::Bridges, &key::bridge(row, to), &value)?;
                self.remove(Table::Bridges, &key::bridge(row, from))?;
            }
        }
        Ok(Written::Swept(0))
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
        for row in ROWS {
            self.remove(Table::Bridges, &key::bridge(row, bridge))?;
        }
        Ok(Written::Swept(0))
    }
}
