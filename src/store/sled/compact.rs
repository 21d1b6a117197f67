//! The store written again: sled gives no space back to the disk by itself.
//!
//! It is an export and an import beside the old one, under the same `stream`, and renames. Whatever ends in between, one of
//! the two is found whole at the next opening.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufReader, Seek},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{
    META_EPOCH, META_RESET, META_STREAM, SledEngine,
    files::DATABASE,
    place::{COMPACT, clear, replace},
    tables::{Table, io_error},
};
use crate::store::{
    Engine, Error, Reset,
    codec::{self, Counters},
};

impl SledEngine {
    /// Bytes of the database before and after. No daemon may run: the lock is held to the end.
    pub fn compact(dir: &Path, cache_bytes: u64) -> Result<(u64, u64), Error> {
        let failed = |e: io::Error| io_error("compacting the store", &e);
        let engine = Self::open(dir, cache_bytes)?;
        let lock = engine._owner.try_clone().map_err(failed)?;
        let before = engine.size_bytes()?;
        let work = dir.join(COMPACT);
        clear(&work).map_err(failed)?;
        fs::create_dir(&work).map_err(failed)?;
        let path = work.join("export");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        engine.export(&mut file)?;
        file.rewind().map_err(failed)?;
        Self::fill(&work, cache_bytes, &mut BufReader::new(file))?;
        let new = Self::open(&work, cache_bytes)?;
        new.succeed(&engine.stream(), engine.epoch()?, engine.counters()?, engine.reset()?)?;
        let after = new.size_bytes()?;
        drop((engine, new));
        // The mark that is there fits both.
        replace(dir, &work.join(DATABASE)).map_err(failed)?;
        clear(&work).map_err(failed)?;
        drop(lock);
        Ok((before, after))
    }

    /// Takes the name of a store, and counts on from where it is: the mark that lies beside the old one fits both.
    pub(super) fn succeed(&self, stream: &str, epoch: u64, old: Counters, reset: Option<Reset>) -> Result<(), Error> {
        let mut group = self.group()?;
        group.counters.groups = group.counters.groups.max(old.groups);
        group.put(Table::Meta, META_STREAM, stream.as_bytes())?;
        group.put(Table::Meta, META_EPOCH, &codec::encode_number(epoch))?;
        // The import said that it is another history.
        match reset {
            Some(reset) => group.put(Table::Meta, META_RESET, &codec::encode_json(&reset)?)?,
            None => group.remove(Table::Meta, META_RESET)?,
        }
        self.apply(group)
    }
}
