//! The database's files before sled sees them: what an opening that was cut off left is removed, what sled writes without
//! syncing is made whole, and what the page cache alone may have is brought to the disk.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// The database's directory in the state directory, and its main file.
pub(super) const DATABASE: &str = "sled";
pub(super) const FILE: &str = "db";
/// What sled writes of its parameters: once, in two parts, and never synced. A torn one makes it refuse the store, so it is
/// made whole before each opening. Sled 0.34 with its defaults, and a CRC-32 in little endian.
const CONF: &str = "conf";
const CONF_BYTES: &[u8; 62] = b"segment_size: 524288\nuse_compression: false\nversion: 0.34\n\x76\x19\x51\xc1";
/// What sled's snapshots of its log begin with, and one that it had not finished ends with.
const SNAPSHOT: &str = "snap.";
const UNFINISHED: &str = ".generating";
/// Unlike sled's name, so that it is none of its candidates.
const ASIDE: &str = "unreadable-";
/// Read and written at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Makes a new directory's or file's name durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    // The parent of a relative path of one part.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// The state directory's own name, and those in it and in the database's.
pub(super) fn sync_dirs(dir: &Path) -> io::Result<()> {
    sync_dir(&dir.join(DATABASE))?;
    sync_dir(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Sled takes a snapshot that it was just writing for one: an opening that was killed, or had no room, would be the last.
pub(super) fn remove_unfinished(database: &Path) -> io::Result<()> {
    each_snapshot(database, |path, name| if name.ends_with(UNFINISHED) { fs::remove_file(path) } else { Ok(()) })
}

/// A snapshot is a shortcut through the log, which alone has all.
pub(super) fn set_snapshots_aside(database: &Path) -> io::Result<()> {
    each_snapshot(database, |path, name| fs::rename(path, database.join(format!("{ASIDE}{name}"))))?;
    sync_dir(database)
}

/// Removes the snapshots that were set aside, once the store was opened without them.
pub(super) fn remove_set_aside(database: &Path) -> io::Result<()> {
    each_named(database, ASIDE, |path, _| fs::remove_file(path))
}

fn each_snapshot(database: &Path, act: impl Fn(&Path, &str) -> io::Result<()>) -> io::Result<()> {
    each_named(database, SNAPSHOT, act)
}

fn each_named(dir: &Path, prefix: &str, act: impl Fn(&Path, &str) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) {
            act(&entry.path(), &name)?;
        }
    }
    Ok(())
}

/// Makes `conf` what it always is, unless it is.
pub(super) fn make_conf_whole(database: &Path) -> io::Result<()> {
    let (conf, new) = (database.join(CONF), database.join("conf.new"));
    match fs::read(&conf) {
        Ok(bytes) if bytes == CONF_BYTES => return Ok(()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(CONF_BYTES)?;
    file.sync_all()?;
    fs::rename(new, conf)?;
    sync_dir(database)
}

/// Reads all of a file, so that a disk that cannot read it says so before sled takes what it cannot read for the log's end.
pub(super) fn read_through(path: &Path) -> io::Result<()> {
    let (mut file, mut block) = (File::open(path)?, vec![0; BLOCK_BYTES]);
    while file.read(&mut block)? > 0 {}
    Ok(())
}

/// Copies the database's files, as they read back, into a new directory. With `sync` the copy is on the disk before it returns.
///
/// Bytes are read and written, never shared with the old file: a clone of its extents would be what is on the disk, which is
/// not what reads back where a sync has failed.
pub(super) fn copy(from: &Path, to: &Path, sync: bool) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, sync)?;
        } else {
            copy_file(&entry.path(), &target, sync)?;
        }
    }
    if sync { sync_dir(to) } else { Ok(()) }
}

/// Copies a file, for its new owner alone, whoever might read the old one.
pub(super) fn copy_file(from: &Path, to: &Path, sync: bool) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match source.read(&mut block)? {
            0 => break,
            read => copy.write_all(block.get(..read).expect("no more is read than there is room"))?,
        }
    }
    if sync { copy.sync_all() } else { Ok(()) }
}

/// Brings all files in a directory to the disk.
pub(super) fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { sync_tree(&entry.path())? } else { File::open(entry.path())?.sync_all()? }
    }
    sync_dir(dir)
}

/// Bytes of all files in a directory.
pub(super) fn size_bytes(dir: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store was refused for ever after a kill between the two writes of 62 bytes that are the same in each store.
    #[test]
    fn conf_is_what_sled_writes_and_is_made_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db");
        drop(::sled::Config::new().path(&path).flush_every_ms(None).open().expect("opened"));
        assert_eq!(fs::read(path.join(CONF)).expect("there"), CONF_BYTES);
        for harm in [&b""[..], &CONF_BYTES[..58], &CONF_BYTES[..9], &[0; 62], b"segment_size: 0"] {
            fs::write(path.join(CONF), harm).expect("written");
            make_conf_whole(&path).expect("made");
            assert_eq!(fs::read(path.join(CONF)).expect("there"), CONF_BYTES, "after {harm:?}");
            drop(::sled::Config::new().path(&path).flush_every_ms(None).open().expect("opened"));
        }
        fs::remove_file(path.join(CONF)).expect("removed");
        make_conf_whole(&path).expect("made");
        assert!(path.join(CONF).exists());
    }

    #[test]
    fn only_unfinished_snapshots_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["db", "snap.0000000000000AA0", "snap.0000000000000AA1.generating", "conf"] {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        remove_unfinished(dir.path()).expect("removed");
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(dir.path()).expect("read").map(|e| e.expect("one").file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["conf", "db", "snap.0000000000000AA0"]);
        set_snapshots_aside(dir.path()).expect("set aside");
        assert_eq!(names(), ["conf", "db", "unreadable-snap.0000000000000AA0"]);
        remove_set_aside(dir.path()).expect("removed");
        assert_eq!(names(), ["conf", "db"]);
    }
}
