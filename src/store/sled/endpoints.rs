//! An endpoint under another name, and one that is forgotten: slices of writes that go over all its deliveries.

use super::{
    group::Group,
    ops::state_byte,
    tables::{ANY_STATE, Rows, Table, error},
};
use crate::{
    model::Name,
    store::{
        DeliveryState, Error, Position, Written,
        codec::{self, QueueEntry, Remade, key},
    },
};

/// A queue row of an endpoint.
struct Row {
    state: u8,
    pack: u64,
    entries: Vec<QueueEntry>,
}

fn dead(entries: &[QueueEntry]) -> i64 {
    entries.iter().map(|entry| i64::from(entry.state == DeliveryState::Dead)).sum()
}

impl Row {
    /// The deliveries whose body was made anew.
    fn remade(&self) -> impl Iterator<Item = Position> {
        let remade = self.entries.iter().filter(|e| matches!(e.remade, Remade::Yes | Remade::YesDead));
        remade.map(|entry| Position { pack: self.pack, index: entry.index })
    }
}

impl Group<'_> {
    /// The first queue rows of an endpoint, as they were before this group.
    fn rows_of(&self, endpoint: &Name, limit: usize) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for state in ANY_STATE {
            for row in self.tables.get(Table::Queue).scan_prefix(key::queue_prefix(endpoint, *state)).keys() {
                let row = row.map_err(error)?;
                let (key, 0) = key::unchunk(&row)? else { continue };
                if rows.len() == limit {
                    return Ok(rows);
                }
                if let key::QueueKey::Deliveries { pack, .. } = key::parse_queue(key)?
                    && let Some((_, entries)) = self.queue_row(endpoint, pack, &[*state])?
                {
                    rows.push(Row { state: *state, pack, entries });
                }
            }
        }
        Ok(rows)
    }

    pub(super) fn rename(&mut self, from: &Name, to: &Name, limit: usize) -> Result<Written, Error> {
        let rows = self.rows_of(from, limit)?;
        for row in &rows {
            self.rename_in_pack(from, to, row.pack)?;
            self.remove(Table::Queue, &key::queue(from, row.state, row.pack))?;
            let mut entries = row.entries.clone();
            self.count_dead(from, -dead(&entries));
            let known = self.queue_row(to, row.pack, ANY_STATE)?;
            for position in row.remade() {
                let old = key::remade(from, position);
                let kept = known.iter().flat_map(|(_, known)| known).all(|known| known.index != position.index);
                if let Some(value) = self.value(Table::Queue, &old)? {
                    self.remove(Table::Queue, &old)?;
                    if kept {
                        self.put(Table::Queue, &key::remade(to, position), &value)?;
                    }
                }
            }
            if let Some((state, known)) = known {
                self.count_dead(to, -dead(&known));
                entries.retain(|entry| known.iter().all(|known| known.index != entry.index));
                entries.extend(known);
                entries.sort_by_key(|entry| entry.index);
                self.remove(Table::Queue, &key::queue(to, state, row.pack))?;
            }
            let new = key::queue(to, state_byte(&entries), row.pack);
            self.put(Table::Queue, &new, &codec::encode_queue(&entries))?;
            self.count_dead(to, dead(&entries));
        }
        if rows.is_empty()
            && let Some(state) = self.value(Table::Endpoints, &key::endpoint(from))?
        {
            self.put(Table::Endpoints, &key::endpoint(to), &state)?;
            self.remove(Table::Endpoints, &key::endpoint(from))?;
        }
        Ok(Written::Swept(rows.len()))
    }

    /// The pack's own list of where its events go.
    fn rename_in_pack(&mut self, from: &Name, to: &Name, pack: u64) -> Result<(), Error> {
        let Some(value) = self.value(Table::Events, &key::pack(pack))? else { return Ok(()) };
        let mut events = codec::decode_pack(&value)?;
        for event in &mut events {
            let both = event.deliveries.iter().any(|delivery| delivery.endpoint == *to);
            event.deliveries.retain(|delivery| !(both && delivery.endpoint == *from));
            for delivery in event.deliveries.iter_mut().filter(|delivery| delivery.endpoint == *from) {
                delivery.endpoint = to.clone();
            }
        }
        self.put(Table::Events, &key::pack(pack), &codec::repack(&events))
    }

    pub(super) fn forget_endpoint(&mut self, endpoint: &Name, limit: usize) -> Result<Written, Error> {
        let rows = self.rows_of(endpoint, limit)?;
        for row in &rows {
            for position in row.remade() {
                self.remove(Table::Queue, &key::remade(endpoint, position))?;
            }
            self.remove(Table::Queue, &key::queue(endpoint, row.state, row.pack))?;
            self.count_dead(endpoint, -dead(&row.entries));
        }
        if rows.is_empty() {
            self.remove(Table::Endpoints, &key::endpoint(endpoint))?;
        }
        Ok(Written::Swept(rows.len()))
    }
}
