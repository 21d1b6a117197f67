//! Room on the disk: looked for before sled writes, since from the first write that fails on nothing of it can be trusted.
//!
//! A ballast file is given up first: in its place attempts are still recorded while polls pause. When there is room again the
//! ballast comes back, and with it the polls.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs, statvfs};

use super::tables::io_error;
use crate::store::Error;

/// The file's name.
pub(super) const BALLAST: &str = "ballast";
/// Its size, but no more than this share of the file system.
const BALLAST_BYTES: u64 = 16 << 20;
const BALLAST_SHARE: u64 = 16;
/// Two segments of sled's, which it begins whatever is written.
const SEGMENTS_BYTES: u64 = 1 << 20;
/// Bytes that sled logs for one byte of a row: a page is written again and again. 5.1 was measured in a baseline.
const LOGGED: u64 = 6;

pub(super) struct Room {
    path: PathBuf,
    /// Asked for the room: it answers also where its name is gone.
    dir: File,
    /// The ballast is there: all is well.
    has_ballast: AtomicBool,
}

impl Room {
    /// Gives the ballast up: an opening writes, and must not fail for want of what is kept for it.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        give_up(dir).map_err(|e| io_error("removing `ballast`", &e))?;
        let handle = File::open(dir).map_err(|e| io_error("opening the state directory", &e))?;
        Ok(Self { path: dir.to_owned(), dir: handle, has_ballast: AtomicBool::new(false) })
    }

    /// Whether the rows of a group, of so many bytes, find room. Where they do not with the ballast in place, it goes.
    pub fn find(&self, bytes: u64) -> Result<(), Error> {
        let needed = needed_bytes(bytes);
        if self.free_bytes()? >= needed {
            return Ok(());
        }
        if self.has_ballast.swap(false, Ordering::Relaxed) {
            give_up(&self.path).map_err(|e| io_error("removing `ballast`", &e))?;
        }
        let free = self.free_bytes()?;
        if free >= needed { Ok(()) } else { Err(full(free, needed)) }
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        let stat = fstatvfs(&self.dir).map_err(|e| io_error("asking for the room on the disk", &e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes the ballast again where there is room for it and for what is written beside it; whether it is there.
    pub fn is_ample(&self) -> bool {
        self.has_ballast.load(Ordering::Relaxed) || {
            // Where none can be made there is none to wait for.
            let made = make(&self.path).unwrap_or(true);
            self.has_ballast.store(made, Ordering::Relaxed);
            made
        }
    }
}

fn needed_bytes(bytes: u64) -> u64 {
    SEGMENTS_BYTES.saturating_add(bytes.saturating_mul(LOGGED))
}

fn full(free: u64, needed: u64) -> Error {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Error::Full(format!("{} MiB are free where up to {} are needed", free >> 20, mib(needed)))
}

/// Refuses what needs so many bytes and would not find them.
pub(super) fn require(dir: &Path, what: &str, bytes: u64) -> Result<(), Error> {
    let free = free_bytes(dir)?;
    if free >= bytes {
        return Ok(());
    }
    Err(Error::Full(format!("{what} needs {} MiB, and {} are free", bytes.div_ceil(1 << 20), free >> 20)))
}

/// What this user may still write to the file system of a directory.
pub(super) fn free_bytes(dir: &Path) -> Result<u64, Error> {
    let stat = statvfs(dir).map_err(|e| io_error("asking for the room on the disk", &e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn give_up(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(BALLAST)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Whether it was made: not where little more than itself would be left.
fn make(dir: &Path) -> io::Result<bool> {
    let stat = statvfs(dir)?;
    let (free, all) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    let bytes = BALLAST_BYTES.min(all / BALLAST_SHARE);
    if free < 2 * bytes + 2 * SEGMENTS_BYTES {
        return Ok(false);
    }
    let path = dir.join(BALLAST);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let made = fallocate(&file, FallocateFlags::empty(), 0, bytes);
    if made.is_err() {
        // A file system that keeps no room for a file has none to give up.
        fs::remove_file(&path)?;
    }
    // Without a ballast polls pause only when there is no room at all.
    Ok(true)
}
