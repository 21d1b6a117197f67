//! Opening: the lock, what the last life left, the check for damage, the format.
//!
//! Sled answers a damaged file in one of three ways: it panics, it returns an error, or it silently cuts the file back
//! to what it can read, which may be nothing. So the files are copied before it sees them, and what it opens must be
//! at least as new as the mark; else the copy is put back, and the daemon does not start.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, RwLock, atomic::AtomicU64},
    time::Duration,
};

use ::sled::{Config, Db};

use super::{
    FORMAT, META_COUNTERS, META_FORMAT, META_RESET, META_STAGES, META_STREAM, SledEngine, WriterState, convert,
    files::{self, DATABASE, FILE},
    freeze::Readers,
    mark::Mark,
    place::{COPY, CUT, RENEWED, clear, lock_in, mend, replace},
    redo::{self, Redo},
    room::{self, Room},
    rouse::Rouse,
    tables::{self, Rows, Table, Tables, io_error},
};
use crate::{
    model::Name,
    store::{
        Error, Reset,
        codec::{self, Counters, Stage, format1, key},
    },
};

/// A larger database is opened without a copy: it would take seconds, and as much space again.
const COPY_BYTES_MAX: u64 = 1 << 30;
/// Left free beside what is written again.
const SPARE_BYTES: u64 = 4 << 20;

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |e| io_error(what, &e)
}

/// Whoever may write the directory may put another store in its place.
fn keep_others_out(dir: &Path) -> io::Result<()> {
    let mode = fs::metadata(dir)?.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        let private = fs::Permissions::from_mode(mode & !0o022);
        let dir_shown = dir.display();
        match fs::set_permissions(dir, private) {
            Ok(()) => {
                tracing::warn!(dir = %dir_shown, "group or others could write the state directory: now they cannot")
            }
            Err(error) => {
                tracing::warn!(dir = %dir_shown, %error, "group or others can write the state directory: whoever does can put another store in its place");
            }
        }
    }
    Ok(())
}

pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<SledEngine, Error> {
    let mut owner = lock_in(dir)?;
    keep_others_out(dir).map_err(failed("looking at the state directory"))?;
    mend(dir).map_err(failed("putting right what the last life left"))?;
    let room = Room::open(dir)?;
    let mut mark = Mark::open(dir)?;
    let database = dir.join(DATABASE);
    let is_new = find(dir, &mark)?;
    wait_for_sled(&database)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&database)
        .map_err(failed("creating the database's directory"))?;
    files::remove_unfinished(&database).map_err(failed("removing a snapshot of sled's that was not finished"))?;
    if mark.in_doubt {
        renew(dir, &mut mark)?;
    } else if !is_new {
        // What a killed process wrote is in the page cache only: it counts from here on.
        let synced = File::open(database.join(FILE)).and_then(|file| file.sync_all());
        doubting(&mark, synced.map_err(failed("syncing the database")))?;
    }
    files::make_conf_whole(&database).map_err(failed("writing sled's `conf`"))?;
    // New names of files are durable only with their directories, and nothing counts before it is.
    doubting(&mark, files::sync_dirs(dir).map_err(failed("syncing the state directory")))?;
    let mut opened = doubting(&mark, open_unharmed(dir, cache_bytes, &mark))?;
    if let Some(format) = older(&opened.1)? {
        convert::convert(dir, cache_bytes, format, opened)?;
        opened = doubting(&mark, open_unharmed(dir, cache_bytes, &mark))?;
    }
    let (db, tables) = opened;
    do_again(dir, &db, &tables, &mark)?;
    check_whole(&tables)?;
    let file = File::open(database.join(FILE)).map_err(failed("opening the database's file"))?;
    let mut engine = SledEngine {
        rouse: Rouse::new(&db).map_err(failed("starting a thread"))?,
        db,
        tables,
        dir: dir.to_owned(),
        stream: "".into(),
        file,
        mark,
        room,
        gate: RwLock::new(Vec::new()),
        writer: Mutex::new(WriterState::default()),
        readers: Readers::default(),
        dead: Mutex::default(),
        syncs: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        _owner: owner.try_clone().map_err(failed("keeping the lock"))?,
    };
    engine.begin()?;
    engine.mark.sync()?;
    // Sled made files of its own.
    doubting(&engine.mark, files::sync_dirs(dir).map_err(failed("syncing the state directory")))?;
    files::remove_set_aside(&database).map_err(failed("removing sled's old snapshots"))?;
    clear(&dir.join(COPY)).map_err(failed("removing the copy"))?;
    owner.set_len(0).and_then(|()| writeln!(owner, "{}", std::process::id())).map_err(failed("writing `owner`"))?;
    Ok(engine)
}

/// An error of the disk while opening may be one of a sync: the next opening believes nothing that it reads.
fn doubting<T>(mark: &Mark, result: Result<T, Error>) -> Result<T, Error> {
    if let Err(Error::Io(_)) = &result
        && let Err(error) = mark.doubt()
    {
        tracing::error!(%error, "failed to note in `mark` that the disk failed");
    }
    result
}

/// Whether the database is to be made. One that was there must be.
fn find(dir: &Path, mark: &Mark) -> Result<bool, Error> {
    let bytes = match fs::metadata(dir.join(DATABASE).join(FILE)) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(io_error("looking at the database's file", &e)),
    };
    if bytes == 0 && mark.groups.is_some() {
        return Err(Error::Damaged(advice(dir, "sled/db is missing or empty", true)));
    }
    Ok(bytes == 0)
}

/// Writes all of the database to the disk again, as new files: after a sync that failed the kernel believes it written, and a
/// second sync says so. Takes room and time for all of it: 10 GiB are read and written once.
fn renew(dir: &Path, mark: &mut Mark) -> Result<(), Error> {
    let (database, new) = (dir.join(DATABASE), dir.join(RENEWED));
    clear(&new).map_err(failed("removing an unfinished copy"))?;
    let bytes = files::size_bytes(&database).map_err(failed("looking at the database"))?;
    tracing::warn!(bytes, "a sync of the store failed before: all of it is written again");
    room::require(dir, "the store, which is written again since a sync failed,", bytes + SPARE_BYTES)?;
    files::copy(&database, &new, true).map_err(failed("writing the database again"))?;
    replace(dir, &new).map_err(failed("putting the renewed database in place"))?;
    mark.trust()
}

/// Lets sled open its files, which it may change, and puts them back where that came to nothing.
fn open_unharmed(dir: &Path, cache_bytes: u64, mark: &Mark) -> Result<(Db, Tables), Error> {
    let database = dir.join(DATABASE);
    let open = || {
        wait_for_sled(&database)?;
        let db = open_database(&database, cache_bytes)?;
        check(&db, mark)?;
        let tables = Tables::open(&db).map_err(tables::error)?;
        if Redo::find(dir).map_err(failed("reading `redo`"))?.is_none() {
            check_whole(&tables)?;
        }
        Ok((db, tables))
    };
    if database.join(FILE).exists() {
        files::read_through(&database.join(FILE)).map_err(failed("reading the database"))?;
    }
    let mut copy = Copied::of(dir)?;
    let mut opened = open();
    if matches!(opened, Err(Error::Full(_))) && copy.made {
        // The copy itself may be what fills the disk.
        copy.remove()?;
        opened = open();
    }
    if matches!(opened, Err(Error::Damaged(_))) {
        // Sled's snapshot is a shortcut through its log, and may be unreadable or at odds with it; the log alone has all.
        copy.put_back()?;
        copy = Copied::of(dir)?;
        files::set_snapshots_aside(&database).map_err(failed("setting sled's snapshots aside"))?;
        let again = open();
        if again.is_ok() {
            tracing::warn!("the store was opened by its whole log: sled's snapshot of it was unreadable");
        }
        opened = again;
    }
    let error = match opened {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    let untouched = copy.put_back()?;
    match error {
        // What has no room to be read looks damaged.
        Error::Damaged(why) if room::free_bytes(dir)? < SPARE_BYTES => {
            Err(Error::Full(format!("the store cannot be read without room on the disk: {why}")))
        }
        Error::Damaged(why) => Err(Error::Damaged(advice(dir, &why, untouched))),
        error => Err(error),
    }
}

impl SledEngine {
    /// What a new store begins with, or an old one is brought to.
    fn begin(&mut self) -> Result<(), Error> {
        let format = self.tables.value(Table::Meta, META_FORMAT)?;
        match format.map(|v| codec::decode_number(&v)).transpose()? {
            None => self.put_meta(&[
                (META_STREAM, random_name().as_bytes().to_vec()),
                (META_FORMAT, codec::encode_number(FORMAT.into())),
            ])?,
            Some(_) => self.give_up_stages()?,
        }
        // The mark is on the disk before the first lease is claimed: without it history may be gone, and its numbers would be
        // used twice.
        if self.mark.groups.is_none() && self.epoch()? > 0 {
            self.become_another("the file `mark` was missing: what was committed last may be lost")?;
        }
        let stream = self.tables.value(Table::Meta, META_STREAM)?;
        let stream = stream.and_then(|v| String::from_utf8(v).ok());
        self.stream = stream.ok_or_else(|| Error::Damaged("the store's name is missing".into()))?.into();
        Ok(())
    }

    /// A new stream, with the reason to be told.
    pub(super) fn become_another(&self, why: &str) -> Result<(), Error> {
        let reset = Reset { why: why.into(), told: None };
        self.put_meta(&[(META_STREAM, random_name().as_bytes().to_vec()), (META_RESET, codec::encode_json(&reset)?)])
    }

    /// Of what the last life had written ahead no commit comes any more.
    fn give_up_stages(&mut self) -> Result<(), Error> {
        let stages = self.tables.value(Table::Meta, META_STAGES)?;
        let stages: Vec<Stage> = stages.map_or(Ok(Vec::new()), |value| codec::decode_json(&value))?;
        *self.gate.get_mut().map_err(|_| super::read::poisoned())? = stages.clone();
        if stages.is_empty() {
            return Ok(());
        }
        let mut group = self.group()?;
        stages.iter().try_for_each(|stage| group.abandon(stage.number))?;
        self.apply(group)
    }
}

/// Makes a group whole that failed in the middle. What was acknowledged later is not undone: then it was done before.
fn do_again(dir: &Path, db: &Db, tables: &Tables, mark: &Mark) -> Result<(), Error> {
    let Some(redo) = Redo::find(dir).map_err(failed("reading `redo`"))? else {
        return redo::forget(dir).map_err(failed("removing `redo`"));
    };
    let counters = tables.value(Table::Meta, META_COUNTERS)?;
    let groups = counters.map_or(Ok(0), |value| codec::decode_counters(&value).map(|counters| counters.groups))?;
    if groups <= redo.group {
        let again = || {
            redo::write(tables, &redo.rows)?;
            db.flush().map_err(tables::error)?;
            let synced = File::open(dir.join(DATABASE).join(FILE)).and_then(|file| file.sync_all());
            synced.map_err(failed("syncing the database"))
        };
        if let Err(error) = again() {
            // As where it failed first: nothing of it may be written in good order, and the next start does it again.
            let noted = mark.doubt();
            tracing::error!(%error, ?noted, "a group of writes that failed in the middle failed again: the process ends");
            std::process::abort();
        }
        tracing::warn!(group = redo.group, "a group of writes that failed in the middle was made whole");
    }
    redo::forget(dir).map_err(failed("removing `redo`"))
}

/// The copy of the database's files from before sled saw them.
struct Copied {
    dir: PathBuf,
    made: bool,
}

impl Copied {
    /// Without space for a copy the store is opened all the same: the mark still tells what was lost.
    fn of(dir: &Path) -> Result<Self, Error> {
        let copied = Self { dir: dir.to_owned(), made: false };
        copied.remove()?;
        let database = dir.join(DATABASE);
        let bytes = files::size_bytes(&database).map_err(failed("looking at the database"))?;
        if !database.join(FILE).exists() || bytes > COPY_BYTES_MAX {
            return Ok(copied);
        }
        let made = files::copy(&database, &dir.join(COPY), false).is_ok();
        if !made {
            copied.remove()?;
        }
        Ok(Self { made, ..copied })
    }

    /// Makes the directory what it was; `false` when there is no copy.
    fn put_back(&self) -> Result<bool, Error> {
        if self.made {
            let (database, copy, cut) = (self.dir.join(DATABASE), self.dir.join(COPY), self.dir.join(CUT));
            let put = || {
                // What is on the disk is replaced only by what is on the disk.
                files::sync_tree(&copy)?;
                wait_for_sled(&database).map_err(|e| io::Error::other(e.to_string()))?;
                fs::rename(&database, &cut)?;
                fs::rename(&copy, &database)?;
                files::sync_dir(&self.dir)?;
                clear(&cut)
            };
            put().map_err(failed("putting the copy from before opening back"))?;
        }
        Ok(self.made)
    }

    fn remove(&self) -> Result<(), Error> {
        clear(&self.dir.join(COPY)).map_err(failed("removing the copy"))
    }
}

/// The text of `Damaged`.
fn advice(dir: &Path, why: &str, untouched: bool) -> String {
    let left = if untouched {
        "Nothing in it was changed."
    } else {
        "It was too large, or the disk too full, to copy it first."
    };
    format!(
        "{}: {why}. {left} Put back a backup of the whole directory, or `bellpull import` one that `export` made; if there is \
         none, keep the directory for whoever can read it, and start with an empty one",
        dir.display()
    )
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
    let format = format(&meta)?;
    let counters = meta.value(Table::Meta, META_COUNTERS)?;
    let counters = match (format, counters) {
        (_, None) => Counters::default(),
        (Some(..FORMAT), Some(value)) => format1::decode_counters(&value)?,
        (_, Some(value)) => codec::decode_counters(&value)?,
    };
    if let Some(marked) = mark.groups
        && counters.groups < marked
    {
        return Err(Error::Damaged(format!(
            "{} of {marked} acknowledged groups of writes can be read. To go on with those, delete the file `mark`: what \
             is lost is not sent, and receivers are told of a new stream",
            counters.groups
        )));
    }
    if format.is_none() && counters.groups > 1 {
        return Err(Error::Damaged("its format is missing".into()));
    }
    if let Some(found) = format
        && found > FORMAT
    {
        let advice = "start the newer bellpull again, or put back a backup that this one wrote".into();
        return Err(Error::Format { found, known: FORMAT, advice });
    }
    Ok(())
}

fn format(meta: &impl Rows) -> Result<Option<u32>, Error> {
    let format = meta.value(Table::Meta, META_FORMAT)?.map(|value| codec::decode_number(&value)).transpose()?;
    Ok(format.map(|format| u32::try_from(format).unwrap_or(u32::MAX)))
}

/// The format of a store that has to be brought to this one.
fn older(tables: &Tables) -> Result<Option<u64>, Error> {
    Ok(format(tables)?.filter(|found| *found < FORMAT).map(u64::from))
}

/// Each tree says which group changed it last, and the counters say what each must say: of a group that is there in part they
/// differ.
fn check_whole(tables: &Tables) -> Result<(), Error> {
    if older(tables)?.is_some() {
        return Ok(());
    }
    let counters = tables.value(Table::Meta, META_COUNTERS)?;
    let counters = counters.map_or(Ok(Counters::default()), |value| codec::decode_counters(&value))?;
    for (table, changed) in Table::ALL.into_iter().zip(counters.changed) {
        let found = tables.value(table, key::GROUP)?.map_or(Ok(0), |value| codec::decode_number(&value))?;
        if found != changed {
            return Err(Error::Damaged(format!(
                "a group of writes is there in part: of {table:?} group {found} was the last, and it should be {changed}"
            )));
        }
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
