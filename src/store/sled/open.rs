//! Opening: the lock, the check for damage, the format.
//!
//! Sled answers a damaged file in one of three ways: it panics, it returns an error, or it silently cuts the file back
//! to what it can read, which may be nothing. So the files are copied before it sees them, and what it opens must be
//! at least as new as the mark; else the copy is put back, and the daemon does not start.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, RwLock, atomic::AtomicU64},
    time::Duration,
};

use ::sled::{Config, Db};

use super::{
    FORMAT, META_COUNTERS, META_FORMAT, META_STREAM, SledEngine, WriterState,
    tables::{self, Rows, Table, Tables, io_error},
};
use crate::{
    model::Name,
    store::{Error, codec},
};

/// The database's directory in the state directory, and its main file.
const DATABASE: &str = "sled";
const FILE: &str = "db";
/// What is there where a store is: itself, its mark, or the one that a compaction was about to replace.
pub(super) const STORE: [&str; 3] = [DATABASE, MARK, super::compact::OLD];
const MARK: &str = "mark";
/// The copy that is made before opening.
const COPY: &str = "sled-before-open";
/// A larger database is opened without a copy: it would take seconds, and as much space again.
const COPY_BYTES_MAX: u64 = 1 << 30;

pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<SledEngine, Error> {
    let io = |what: &'static str| move |e: io::Error| io_error(what, &e);
    let mut owner = lock_in(dir)?;
    super::compact::mend(dir).map_err(io("mending a compaction"))?;
    let mark = Mark::open(dir)?;
    let before = Before::of(dir, &mark)?;
    let database = dir.join(DATABASE);
    wait_for_sled(&database)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&database).map_err(io("creating the database's directory"))?;
    let mut copy = before.copy(dir)?;
    let open = || {
        let db = open_database(&database, cache_bytes)?;
        check(&db, &mark)?;
        let tables = Tables::open(&db).map_err(tables::error)?;
        Ok((db, tables))
    };
    let mut opened = open();
    if matches!(opened, Err(Error::Full(_))) && copy.made {
        // The copy itself may be what fills the disk.
        copy.remove()?;
        copy.made = false;
        wait_for_sled(&database)?;
        opened = open();
    }
    if matches!(opened, Err(Error::Damaged(_))) && copy.made {
        // Sled's snapshot is a shortcut through its log, and after a kill it was once at odds with it; the log alone has all. The
        // mark says whether that is so.
        copy.put_back().map_err(io("putting the copy back"))?;
        copy = before.copy(dir)?;
        if copy.made {
            remove_snapshots(&database).map_err(io("removing sled's snapshots"))?;
            wait_for_sled(&database)?;
            let again = open();
            if again.is_ok() {
                tracing::warn!("the store was opened by its whole log: sled's snapshot of it was unreadable");
                opened = again;
            }
        }
    }
    let (db, tables) = match opened {
        Ok(opened) => opened,
        Err(Error::Damaged(why)) => return Err(Error::Damaged(advice(dir, &why, copy.put_back()))),
        Err(error) => {
            copy.remove()?;
            return Err(error);
        }
    };
    let file = File::open(database.join(FILE)).map_err(io("opening the database's file"))?;
    let mut engine = SledEngine {
        db,
        tables,
        dir: dir.to_owned(),
        stream: "".into(),
        file,
        mark,
        gate: RwLock::new(None),
        writer: Mutex::new(WriterState::default()),
        dead: Mutex::new(BTreeMap::new()),
        syncs: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        _owner: owner.try_clone().map_err(io("keeping the lock"))?,
    };
    engine.begin()?;
    // New names of files are durable only with their directories.
    for dir in [Some(&*database), Some(dir), dir.parent()].into_iter().flatten().filter(|d| !d.as_os_str().is_empty()) {
        File::open(dir).and_then(|d| d.sync_all()).map_err(io("syncing the state directory"))?;
    }
    engine.mark.sync()?;
    copy.remove()?;
    owner.set_len(0).and_then(|()| writeln!(owner, "{}", std::process::id())).map_err(io("writing `owner`"))?;
    Ok(engine)
}

impl SledEngine {
    /// What a new store begins with, or an old one is brought to.
    fn begin(&mut self) -> Result<(), Error> {
        let format = self.tables.value(Table::Meta, META_FORMAT)?;
        match format.map(|v| codec::decode_number(&v)).transpose()? {
            None => {
                self.put_meta(META_STREAM, random_name().as_bytes())?;
                self.put_meta(META_FORMAT, &codec::encode_number(FORMAT.into()))?;
            }
            Some(format) => self.migrate(u32::try_from(format).unwrap_or(u32::MAX))?,
        }
        let stream = self.tables.value(Table::Meta, META_STREAM)?;
        let stream = stream.and_then(|v| String::from_utf8(v).ok());
        self.stream = stream.ok_or_else(|| Error::Damaged("the store's name is missing".into()))?.into();
        Ok(())
    }

    /// Brings an older format to this one, after a backup that any version can read.
    fn migrate(&mut self, from: u32) -> Result<(), Error> {
        if from == FORMAT {
            return Ok(());
        }
        let backup = self.dir.join(format!("export-format-{from}-before-{FORMAT}.jsonl"));
        let export = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&backup)?;
            let exported = self.write_export(&mut file);
            file.sync_all()?;
            Ok(exported)
        };
        export().map_err(|e: io::Error| io_error("exporting before the migration", &e))??;
        // Format 0 is format 1 by another number: there is no older one.
        self.put_meta(META_FORMAT, &codec::encode_number(FORMAT.into()))
    }
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
    File::open(dir)?.sync_all()?;
    clear(work)
}

/// The lock on a state directory, which is made where it is not there, is this process's for as long as the file is open.
pub(super) fn lock_in(dir: &Path) -> Result<File, Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| io_error("creating the state directory", &e))?;
    let path = dir.join("owner");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io_error("opening `owner`", &e))?;
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

/// The number of the last acknowledged group, beside the database. It is written after the database was synced, so it
/// is never ahead of it; it is not synced itself, so after a power cut it may be behind.
pub(super) struct Mark {
    file: File,
    /// As found at the opening.
    groups: Option<u64>,
}

impl Mark {
    fn open(dir: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(MARK)).map_err(|e| io_error("opening `mark`", &e))?;
        let mut text = String::new();
        // An unreadable mark counts as none: it only serves to notice damage elsewhere.
        let groups = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
        Ok(Self { file, groups })
    }

    /// Always the same length, so that a shorter number leaves nothing behind it.
    pub fn write(&self, groups: u64) -> io::Result<()> {
        self.file.write_all_at(format!("{groups:020}\n").as_bytes(), 0)
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| io_error("syncing `mark`", &e))
    }
}

/// What is there before sled sees it.
struct Before {
    /// Of the database's file; `None` when there is none.
    bytes: Option<u64>,
}

impl Before {
    fn of(dir: &Path, mark: &Mark) -> Result<Self, Error> {
        let bytes = match fs::metadata(dir.join(DATABASE).join(FILE)) {
            Ok(metadata) => Some(metadata.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(io_error("looking at the database's file", &e)),
        };
        match (bytes, mark.groups) {
            (None, Some(_)) => Err(Error::Damaged(advice(dir, "sled/db is missing", Ok(true)))),
            (Some(0), Some(_)) => Err(Error::Damaged(advice(dir, "sled/db is empty", Ok(true)))),
            _ => Ok(Self { bytes }),
        }
    }

    fn copy(&self, dir: &Path) -> Result<Copied, Error> {
        let copied = Copied { from: dir.join(DATABASE), to: dir.join(COPY), made: false };
        copied.clear().map_err(|e| io_error("removing an old copy", &e))?;
        if self.bytes.is_none_or(|bytes| bytes == 0 || bytes > COPY_BYTES_MAX) {
            return Ok(copied);
        }
        // Without space for a copy the store is opened all the same: the mark still tells what was lost.
        let made = copied.make().is_ok();
        if !made {
            copied.remove()?;
        }
        Ok(Copied { made, ..copied })
    }
}

/// The copy of the database's files.
struct Copied {
    from: PathBuf,
    to: PathBuf,
    made: bool,
}

impl Copied {
    fn make(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.to)?;
        for entry in fs::read_dir(&self.from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), self.to.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Makes the directory what it was; `false` when there is no copy.
    fn put_back(&self) -> io::Result<bool> {
        if !self.made {
            self.clear()?;
            return Ok(false);
        }
        let blobs = self.from.join("blobs");
        if blobs.exists() {
            fs::rename(blobs, self.to.join("blobs"))?;
        }
        let cut = self.to.with_extension("cut");
        fs::rename(&self.from, &cut)?;
        fs::rename(&self.to, &self.from)?;
        fs::remove_dir_all(cut)?;
        Ok(true)
    }

    fn remove(&self) -> Result<(), Error> {
        self.clear().map_err(|e| io_error("removing the copy", &e))
    }

    fn clear(&self) -> io::Result<()> {
        clear(&self.to)
    }
}

/// The text of `Damaged`.
fn advice(dir: &Path, why: &str, untouched: io::Result<bool>) -> String {
    let left = match untouched {
        Ok(true) => "Nothing in it was changed.".into(),
        Ok(false) => "There was no room to copy it first, so sled may have cut it back.".into(),
        Err(e) => format!("A copy from before opening is in {COPY}; putting it back failed: {e}."),
    };
    format!(
        "{}: {why}. {left} Put back a backup of the whole directory, or move it away and start anew: every bridge then \
         takes a new baseline, and events that were not yet delivered are gone",
        dir.display()
    )
}

fn remove_snapshots(database: &Path) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_database(database: &Path, cache_bytes: u64) -> Result<Db, Error> {
    let config = Config::new().path(database).cache_capacity(cache_bytes).flush_every_ms(None);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened.map_err(tables::error),
        Err(_) => Err(Error::Damaged("sled panicked while opening it".into())),
    }
}

/// Sled's own lock, which its threads still hold for a moment after its last handle is gone: a store that failed is
/// opened again by the same process.
fn wait_for_sled(database: &Path) -> Result<(), Error> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    let Ok(file) = File::open(database.join(FILE)) else {
        return Ok(());
    };
    for _ in 0..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            _ => return Ok(()),
        }
    }
    Err(Error::Locked(format!("{} is in use by another program", database.display())))
}

/// What was opened is all that was acknowledged, in a format that is known. Reads only.
fn check(db: &Db, mark: &Mark) -> Result<(), Error> {
    let meta = Meta(Tables::open_one(db, Table::Meta).map_err(tables::error)?);
    let number = |key| meta.value(Table::Meta, key)?.map(|v| codec::decode_number(&v)).transpose();
    let format = number(META_FORMAT)?;
    let counters = meta.value(Table::Meta, META_COUNTERS)?.map(|v| codec::decode_counters(&v)).transpose()?;
    let groups = counters.map_or(0, |c| c.groups);
    if let Some(marked) = mark.groups
        && groups < marked
    {
        return Err(Error::Damaged(format!(
            "{groups} of {marked} acknowledged groups of writes can be read; to go on with those, delete the file `mark`"
        )));
    }
    if format.is_none() && groups > 1 {
        return Err(Error::Damaged("its format is missing".into()));
    }
    if let Some(found) = format.and_then(|f| u32::try_from(f).ok())
        && found > FORMAT
    {
        let advice = "start the newer bellpull again, or put back a backup that this one wrote".into();
        return Err(Error::Format { found, known: FORMAT, advice });
    }
    Ok(())
}

/// The meta tree alone, before the others are opened.
struct Meta(::sled::Tree);

impl Rows for Meta {
    fn row(&self, _: Table, row: &[u8]) -> Result<Option<::sled::IVec>, Error> {
        self.0.get(row).map_err(tables::error)
    }
}

/// `s_` and 16 random letters: 75 bits.
fn random_name() -> Name {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).expect("the operating system has a random generator");
    let letters = random.iter().map(|byte| char::from(b'a' + byte % 26));
    ['s', '_'].into_iter().chain(letters).collect::<String>().into()
}
