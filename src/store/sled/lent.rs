//! A store that cannot be written, on a file system that is mounted for reading or by a user that it is not of, is read from a copy
//! of its files.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    files::{self, DATABASE, FILE},
    mark::MARK,
    place::{COPY, CUT, OLD, OWNER, STORE},
    redo::REDO,
    room,
};
use crate::{model::EventId, store::Error};

/// The copy, and the one that an opening makes of it.
const COPIES: u64 = 2;
/// What an opening writes beside them.
const SPARE_BYTES: u64 = 4 << 20;

/// A directory of its own, removed with its value.
#[derive(Debug)]
pub struct Lent(PathBuf);

impl Lent {
    /// `None` where the store itself can be opened.
    pub fn of(dir: &Path) -> Result<Option<Self>, Error> {
        let writable = |path: PathBuf| !path.exists() || access(&path, Access::WRITE_OK).is_ok();
        if [dir.to_owned(), dir.join(OWNER), dir.join(DATABASE), dir.join(DATABASE).join(FILE)]
            .into_iter()
            .all(writable)
        {
            return Ok(None);
        }
        let has_none =
            |name: &str| matches!(dir.join(name).symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
        if STORE.into_iter().all(has_none) {
            return Ok(None);
        }
        Self::copy(dir).map(Some)
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    fn copy(dir: &Path) -> Result<Self, Error> {
        let unreadable = |e: io::Error| {
            let dir = dir.display();
            Error::Io(format!(
                "the store in {dir} can neither be written nor be read by this user ({e}): ask as its owner, or as root"
            ))
        };
        let owner = match File::open(dir.join(OWNER)) {
            Ok(owner) => Some(owner),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(e)),
        };
        // Whoever runs on it writes while it is copied.
        if owner.as_ref().is_some_and(|owner| matches!(owner.try_lock_shared(), Err(TryLockError::WouldBlock))) {
            let why =
                "is in use, and its daemon's socket is not for this user: ask as a member of its group, or as root";
            return Err(Error::Locked(format!("{} {why}", dir.display())));
        }
        let whole = [DATABASE, OLD, COPY, CUT].map(|name| dir.join(name));
        let bytes =
            whole.iter().filter(|from| from.exists()).map(|from| files::size_bytes(from)).sum::<io::Result<u64>>();
        let (temporary, bytes) = (std::env::temp_dir(), bytes.map_err(unreadable)?);
        let what = format!("a copy of the store, which cannot be written, in {} (`TMPDIR`)", temporary.display());
        room::require(&temporary, &what, bytes.saturating_mul(COPIES).saturating_add(SPARE_BYTES))?;
        // A name that nobody else can have made.
        let lent = Self(temporary.join(format!("bellpull-copy-{}", EventId::random())));
        let failed =
            |e: io::Error| Error::Io(format!("failed to create {} for a copy of the store: {e}", lent.0.display()));
        DirBuilder::new().mode(0o700).create(&lent.0).map_err(failed)?;
        for from in whole.iter().filter(|from| from.exists()) {
            let Some(name) = from.file_name() else { continue };
            files::copy(from, &lent.0.join(name), false).map_err(unreadable)?;
        }
        for name in [MARK, REDO].into_iter().filter(|name| dir.join(name).exists()) {
            files::copy_file(&dir.join(name), &lent.0.join(name), false).map_err(unreadable)?;
        }
        Ok(lent)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // What is left in a temporary directory is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Engine, sled::SledEngine};

    /// A rescue mount could not be looked at: `opening owner: Read-only file system`.
    #[test]
    fn a_copy_holds_what_the_store_holds_and_goes_with_its_value() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = SledEngine::open(dir.path(), 8 << 20).expect("it opens");
        let stream = engine.stream();
        assert!(matches!(Lent::copy(dir.path()), Err(Error::Locked(_))), "it is in use");
        drop(engine);
        std::fs::write(dir.path().join("token"), "a secret").expect("written");
        let lent = Lent::copy(dir.path()).expect("a copy");
        let copy = lent.dir().to_owned();
        assert!(!copy.join("token").exists(), "secrets stay where they are");
        let read = SledEngine::open(&copy, 8 << 20).expect("it opens");
        assert_eq!(read.stream(), stream);
        drop(read);
        drop(lent);
        assert!(!copy.exists());
        assert!(Lent::of(dir.path()).is_ok_and(|lent| lent.is_none()), "it can be written");
    }
}
