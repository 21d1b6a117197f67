//! Names in the state directory, its lock, and how one database takes the place of another. Whatever ends in between, the next
//! opening finds one that is whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::{
    files::{self, DATABASE},
    mark::MARK,
    tables::io_error,
};
use crate::store::Error;

/// The old database, until the new one is in its place.
pub(super) const OLD: &str = "sled-before-compact";
/// Locked by who has the store open.
pub(super) const OWNER: &str = "owner";
/// What is there where a store is: itself, its mark, or the one that another was about to replace.
pub(super) const STORE: [&str; 3] = [DATABASE, MARK, OLD];
/// The copy that is made before opening, and what it is put back over.
pub(super) const COPY: &str = "sled-before-open";
pub(super) const CUT: &str = "sled-cut";
/// Where the database is written again whose sync has failed.
pub(super) const RENEWED: &str = "sled-renewed";
/// Where a new store is made, by whom.
pub(super) const COMPACT: &str = "compact";
pub(super) const IMPORT: &str = "import";
pub(super) const CONVERT: &str = "convert";

/// Puts right what a life left that ended in the middle of replacing the database, or of making another.
pub(super) fn mend(dir: &Path) -> io::Result<()> {
    let (copy, cut, database, old) = (dir.join(COPY), dir.join(CUT), dir.join(DATABASE), dir.join(OLD));
    if cut.exists() {
        // The copy was synced before the cut database was moved away.
        if !database.exists() {
            fs::rename(&copy, &database)?;
        }
        clear(&cut)?;
    }
    clear(&dir.join(RENEWED))?;
    match (database.exists(), old.exists()) {
        (false, true) => fs::rename(&old, &database)?,
        (true, true) => fs::remove_dir_all(&old)?,
        _ => {}
    }
    [COMPACT, IMPORT, CONVERT].into_iter().try_for_each(|work| clear(&dir.join(work)))
}

/// Puts a database that is whole and synced in the place of the one that is there. Whatever ends in between, `mend` finds one.
pub(super) fn replace(dir: &Path, new: &Path) -> io::Result<()> {
    let (database, old) = (dir.join(DATABASE), dir.join(OLD));
    files::sync_dir(dir)?;
    fs::rename(&database, &old)?;
    fs::rename(new, &database)?;
    files::sync_dir(dir)?;
    clear(&old)
}

/// Removes what may be there.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Moves a store that was made in `work` to its place, which is free. The database first: without a mark of its own it is
/// whole, and an older mark only notices less.
pub(super) fn put(work: &Path, dir: &Path) -> io::Result<()> {
    for name in [DATABASE, MARK] {
        fs::rename(work.join(name), dir.join(name))?;
    }
    files::sync_dir(dir)?;
    clear(work)
}

/// The lock on a state directory, which is made where it is not there, is this process's for as long as the file is open.
pub(super) fn lock_in(dir: &Path) -> Result<File, Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| io_error("creating the state directory", &e))?;
    let path = dir.join(OWNER);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::Io(format!(
                "the store in {} cannot be written by this user ({e}): it takes its owner, or root, and a file system that \
                 can be written",
                dir.display()
            )),
            _ => io_error("opening `owner`", &e),
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let pid = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                _ => "another process".into(),
            };
            Err(Error::Locked(format!("{} is in use by {pid}", dir.display())))
        }
        Err(TryLockError::Error(e)) => Err(io_error("locking `owner`", &e)),
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
