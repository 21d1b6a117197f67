//! The file beside the database that says how far it was acknowledged, and whether what reads back can be believed.
//!
//! It is written after the database was synced, so it is never ahead of it; it is synced at each opening only, so after a
//! power cut it may be behind.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use super::tables::io_error;
use crate::store::Error;

/// The file's name.
pub(super) const MARK: &str = "mark";
/// Where the number ends: it always has as many digits, so that a shorter one leaves nothing behind it.
const NUMBER_BYTES: u64 = 21;
/// Behind the number: what was written since the last good sync may not be on the disk, whatever a read of it says.
const DOUBT: &str = "unsynced\n";
const TRUST: &str = "synced  \n";

pub(super) struct Mark {
    file: File,
    /// The last acknowledged group, as found at the opening.
    pub groups: Option<u64>,
    /// A sync failed, in this life or the last.
    pub in_doubt: bool,
}

impl Mark {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(MARK)).map_err(|e| io_error("opening `mark`", &e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| io_error("reading `mark`", &e))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let groups = lines.next().and_then(|line| line.trim().parse().ok());
        let in_doubt = lines.next().is_some_and(|line| line.trim() == DOUBT.trim());
        Ok(Self { file, groups, in_doubt })
    }

    /// The number of the last acknowledged group.
    pub fn write(&self, groups: u64) -> io::Result<()> {
        self.file.write_all_at(format!("{groups:020}\n").as_bytes(), 0)
    }

    /// A sync failed. The page cache keeps what the disk does not have, and this line with it: both are gone together after
    /// a power cut, so it needs no sync of its own.
    pub fn doubt(&self) -> io::Result<()> {
        self.file.write_all_at(DOUBT.as_bytes(), NUMBER_BYTES)
    }

    pub fn trust(&mut self) -> Result<(), Error> {
        let written = self.file.write_all_at(TRUST.as_bytes(), NUMBER_BYTES);
        written.map_err(|e| io_error("writing `mark`", &e))?;
        self.in_doubt = false;
        self.sync()
    }

    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| io_error("syncing `mark`", &e))
    }
}
