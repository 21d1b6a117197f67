//! The store written anew: sled gives no space back to the disk by itself.
//!
//! It is an export and an import beside the old one, under the same `stream`, and three renames. Whatever ends in between,
//! one of the two is found whole at the next opening.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{META_STREAM, SledEngine, tables::io_error};
use crate::store::{Engine, Error};

/// Where the new store is made.
const WORK: &str = "compact";
/// The old one, until the new one stands in its place.
pub(super) const OLD: &str = "sled-before-compact";

impl SledEngine {
    /// Bytes of the database before and after. No daemon may run: the lock is held to the end.
    pub fn compact(dir: &Path, cache_bytes: u64) -> Result<(u64, u64), Error> {
        let failed = |e: io::Error| io_error("compacting the store", &e);
        let engine = Self::open(dir, cache_bytes)?;
        let lock = engine._owner.try_clone().map_err(failed)?;
        let before = engine.size_bytes()?;
        let work = dir.join(WORK);
        if work.exists() {
            fs::remove_dir_all(&work).map_err(failed)?;
        }
        fs::create_dir(&work).map_err(failed)?;
        let path = work.join("export");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let mut out = BufWriter::new(&mut file);
        engine.export(&mut out)?;
        out.flush().map_err(failed)?;
        drop(out);
        file.rewind().map_err(failed)?;
        Self::import(&work, cache_bytes, &mut BufReader::new(file))?;
        let new = Self::open(&work, cache_bytes)?;
        new.put_meta(META_STREAM, engine.stream().as_bytes())?;
        let after = new.size_bytes()?;
        drop((engine, new));
        // The mark first: an older one only notices less, a newer one would find the old store too old.
        fs::rename(work.join("mark"), dir.join("mark")).map_err(failed)?;
        fs::rename(dir.join("sled"), dir.join(OLD)).map_err(failed)?;
        fs::rename(work.join("sled"), dir.join("sled")).map_err(failed)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        fs::remove_dir_all(dir.join(OLD)).and_then(|()| fs::remove_dir_all(&work)).map_err(failed)?;
        drop(lock);
        Ok((before, after))
    }
}

/// What a compaction left that ended between its renames.
pub(super) fn mend(dir: &Path) -> io::Result<()> {
    let (store, old) = (dir.join("sled"), dir.join(OLD));
    match (store.exists(), old.exists()) {
        (false, true) => fs::rename(&old, &store),
        (true, true) => fs::remove_dir_all(&old),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_between_the_renames_is_put_right() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, old) = (dir.path().join("sled"), dir.path().join(OLD));
        fs::create_dir(&old).expect("made");
        fs::write(old.join("db"), "the old one").expect("written");
        mend(dir.path()).expect("mended");
        assert_eq!(fs::read_to_string(store.join("db")).expect("it is back"), "the old one");
        fs::create_dir(&old).expect("made");
        mend(dir.path()).expect("mended");
        assert!(store.exists() && !old.exists());
        mend(dir.path()).expect("nothing to do");
    }
}
