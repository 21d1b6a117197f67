//! The seven trees, and how a row or a whole value is read from them.

use std::io;

use ::sled::{Db, IVec, Tree};

use crate::{
    model::Name,
    store::{
        Error, Hold,
        codec::{self, BridgeName, EndpointName, Named, State, key, key::BridgeRow},
        held_piece,
    },
};

/// A tree; few and fixed, since each costs a place in every transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Format, stream, epoch, counters.
    Meta,
    /// Names of bridges; state, progress, hold and list of each.
    Bridges,
    Records,
    /// Packs of events.
    Events,
    /// Where each delivery stands: a row for an endpoint and a pack.
    Queue,
    /// A ring.
    Attempts,
    /// Names of endpoints with their health, and the names' numbers.
    Endpoints,
}

impl Table {
    pub const ALL: [Self; 7] =
        [Self::Meta, Self::Bridges, Self::Records, Self::Events, Self::Queue, Self::Attempts, Self::Endpoints];

    fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Bridges => "bridges",
            Self::Records => "records",
            Self::Events => "events",
            Self::Queue => "queue",
            Self::Attempts => "attempts",
            Self::Endpoints => "endpoints",
        }
    }

    /// Its place among all.
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|table| *table == self).expect("ALL has every table")
    }
}

/// One of something for each table.
#[derive(Debug, Default)]
pub struct PerTable<T>([T; codec::TREES]);

impl<T> PerTable<T> {
    pub fn try_from_fn<E>(mut make: impl FnMut(Table) -> Result<T, E>) -> Result<Self, E> {
        let [a, b, c, d, e, f, g] = Table::ALL;
        Ok(Self([make(a)?, make(b)?, make(c)?, make(d)?, make(e)?, make(f)?, make(g)?]))
    }

    pub fn get(&self, table: Table) -> &T {
        self.0.get(table.index()).expect("one for each table")
    }

    pub fn get_mut(&mut self, table: Table) -> &mut T {
        self.0.get_mut(table.index()).expect("one for each table")
    }

    pub fn iter(&self) -> impl Iterator<Item = (Table, &T)> {
        Table::ALL.into_iter().zip(&self.0)
    }
}

pub type Tables = PerTable<Tree>;

impl Tables {
    pub fn open(db: &Db) -> Result<Self, ::sled::Error> {
        Self::try_from_fn(|table| Self::open_one(db, table))
    }

    pub fn open_one(db: &Db, table: Table) -> Result<Tree, ::sled::Error> {
        db.open_tree(table.name())
    }
}

/// Where rows are read: the trees, or the trees with what a group changes.
pub trait Rows {
    fn row(&self, table: Table, row: &[u8]) -> Result<Option<IVec>, Error>;

    /// The first row of a value, which exists when the value does.
    fn first(&self, table: Table, key: &[u8]) -> Result<Option<IVec>, Error> {
        self.row(table, &key::chunk(key, 0))
    }

    /// A value from all its rows.
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some(first) = self.first(table, key)? else {
            return Ok(None);
        };
        let count = codec::chunk_count(&first)?;
        let mut rows = vec![first];
        for number in 1..count {
            let row = self.row(table, &key::chunk(key, number))?;
            rows.push(row.ok_or_else(|| Error::Damaged(format!("chunk {number} of {count} of a value is missing")))?);
        }
        codec::join(rows).map(Some)
    }

    fn bridge_name(&self, name: &str) -> Result<Option<BridgeName>, Error> {
        self.value(Table::Bridges, &key::name(name))?.map(|value| codec::decode_bridge_name(&value)).transpose()
    }

    /// The state of a bridge by its number.
    fn state(&self, bridge: u64) -> Result<Option<State>, Error> {
        let value = self.value(Table::Bridges, &key::bridge(BridgeRow::State, bridge))?;
        value.map(|value| codec::decode_state(&value)).transpose()
    }

    /// What is held, from its row, with its pages where they were written ahead.
    fn held(&self, value: &[u8]) -> Result<Hold, Error> {
        let (mut hold, pages) = codec::decode_hold(value)?;
        let Some((layer, pieces)) = pages else { return Ok(hold) };
        for (at, (page, pieces)) in hold.answer.iter_mut().zip(pieces).enumerate() {
            let mut body = Vec::new();
            for hash in (0..pieces).map(|piece| held_piece(at, piece)) {
                let value = self.value(Table::Records, &key::record(layer, hash))?;
                let value = value.ok_or_else(|| Error::Damaged("a page that is held is missing".into()))?;
                body.extend_from_slice(&codec::decode_record(hash, &value)?.body);
            }
            page.body = String::from_utf8(body).map_err(|_| Error::Damaged("a held page is not UTF-8".into()))?;
        }
        Ok(hold)
    }

    fn endpoint_name(&self, name: &str) -> Result<Option<EndpointName>, Error> {
        self.value(Table::Endpoints, &key::name(name))?.map(|value| codec::decode_endpoint_name(&value)).transpose()
    }

    /// The name that an endpoint's number belongs to.
    fn endpoint_of(&self, number: u64) -> Result<Option<Name>, Error> {
        let value = self.value(Table::Endpoints, &key::endpoint_number(number))?;
        let name = |value| String::from_utf8(value).map_err(|_| Error::Damaged("a name is not UTF-8".into()));
        Ok(value.map(name).transpose()?.map(Name::from))
    }

    /// The endpoint of a number, with the number's place among its numbers.
    fn named(&self, number: u64) -> Result<Named, Error> {
        let Some(name) = self.endpoint_of(number)? else { return Ok(None) };
        let numbers = self.endpoint_name(&name)?.map(|known| known.numbers).unwrap_or_default();
        Ok(numbers.iter().position(|own| *own == number).map(|rank| (name, rank)))
    }

    /// A queue row of an endpoint, with its state byte; a pack has at most one.
    fn queue_row(
        &self,
        endpoint: u64,
        pack: u64,
        states: &[u8],
    ) -> Result<Option<(u8, Vec<codec::QueueEntry>)>, Error> {
        for state in states {
            if let Some(value) = self.value(Table::Queue, &key::queue(endpoint, *state, pack))? {
                return Ok(Some((*state, codec::decode_queue(&value)?)));
            }
        }
        Ok(None)
    }
}

impl Rows for Tables {
    fn row(&self, table: Table, row: &[u8]) -> Result<Option<IVec>, Error> {
        self.get(table).get(row).map_err(error)
    }
}

/// Every state byte, the most frequent first.
pub const ANY_STATE: &[u8] = &[DELIVERED, WAITING, DEAD];
/// At least one delivery of the row waits.
pub const WAITING: u8 = 0;
/// None waits, at least one is dead.
pub const DEAD: u8 = 1;
/// All are delivered.
pub const DELIVERED: u8 = 2;

/// What a failure of sled is to the store's callers.
pub fn error(error: ::sled::Error) -> Error {
    use ::sled::Error as Sled;
    match error {
        Sled::Io(e) => io_error("the database", &e),
        Sled::Corruption { .. } | Sled::CollectionNotFound(_) => Error::Damaged(error.to_string()),
        Sled::Unsupported(_) | Sled::ReportableBug(_) => Error::Io(error.to_string()),
    }
}

/// What a failure of the file system is to the store's callers.
pub fn io_error(what: &str, error: &io::Error) -> Error {
    /// `ENOSPC`, for errors that were made from the number.
    const NO_SPACE: i32 = 28;
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if full || error.raw_os_error() == Some(NO_SPACE) {
        Error::Full(format!("{what}: {error}"))
    } else {
        Error::Io(format!("{what}: {error}"))
    }
}
