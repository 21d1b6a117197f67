//! What only the engine on disk can get wrong.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bellpull::{
    model::{Content, Hash, Timestamp},
    store::{
        BridgeState, Commit, Engine, Error, HeldPage, Hold, HoldChange, List, Op, Outcome, Requeued, Reset,
        sled::{FORMAT, SledEngine},
    },
};

use super::{CACHE_BYTES, Writer, commit, entry, entry_of, event, op, open, record};

/// Every file's content, by path.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

/// Some of everything; what `export` says of it.
fn fill(engine: &SledEngine) -> Vec<u8> {
    let writer = Writer::of(engine);
    let own = Content::Own(b"a,b\n1,2\n".to_vec());
    let to = [("app", Content::Shared), ("crm", own), ("log", Content::Dead("when: not a boolean".into()))];
    let put = (0..300).map(|n| record(n, format!("{{\"n\":{n},\"price\":1.10}}"))).collect();
    let hold = Hold {
        judged_under: Hash::default(),
        hash: Hash::of(b"answer"),
        at: Timestamp(4),
        reason: "too many".into(),
        created: 0,
        updated: 0,
        deleted: 9,
        rejected: false,
        answer: vec![HeldPage { url: "https://a.example".into(), content_type: None, body: "[]".into() }],
        validators: Default::default(),
    };
    let queued = writer.queued(op(Commit {
        list: Some(List::Whole((0..300).map(entry).collect())),
        put,
        hold: HoldChange::Set(Box::new(hold)),
        events: (0..50).map(|n| event("shop", n, &to)).collect(),
        ..commit("shop", 0)
    }));
    writer.one(Op::Progress(vec![("shop".into(), Default::default())]));
    writer.one(Op::Endpoint("app".into(), Default::default()));
    for (endpoint, waiting) in queued.iter().take(9) {
        writer.settle(endpoint, waiting.position, Outcome::Dead);
    }
    let (endpoint, first) = queued.first().expect("some");
    let content = Some(Content::Own(b"\xff\x00".to_vec()));
    writer.one(Op::Requeue(endpoint.clone(), vec![Requeued { position: first.position, content }]));
    export(engine)
}

fn export(engine: &SledEngine) -> Vec<u8> {
    let mut out = Vec::new();
    engine.export(&mut out).expect("exported");
    out
}

#[test]
fn all_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let before = fill(&engine);
    let (stream, epoch) = (engine.stream(), engine.claim().expect("claimed").epoch);
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(String::from_utf8(export(&engine)), String::from_utf8(before));
    assert_eq!(engine.stream(), stream);
    assert_eq!(engine.claim().expect("claimed").epoch, epoch + 1);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("sled")), 0o700);
}

#[test]
fn an_export_is_one_json_object_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let text = String::from_utf8(fill(&engine)).expect("UTF-8");
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let kind = value.as_object().and_then(|object| object.keys().next()).expect("a kind");
        *kinds.entry(kind.clone()).or_default() += 1;
    }
    let first = text.lines().next().expect("a first line");
    assert!(first.starts_with("{\"bellpull\":\"export\",\"format\":2,\"stream\":\"s_"), "{first}");
    assert!(text.contains("\"body\":{\"json\":{\"n\":7,\"price\":1.10}}"), "bodies keep their digits");
    // The list has as many lines as chunks.
    assert!(kinds.remove("list").is_some_and(|lines| lines >= 3));
    let expected = [
        ("attempt", 9),
        ("bellpull", 1),
        ("delivery", 150),
        ("end", 1),
        ("endpoint", 1),
        ("event", 50),
        ("hold", 1),
        ("progress", 1),
        ("record", 300),
        ("remade", 1),
        ("state", 1),
    ];
    assert_eq!(kinds, expected.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect());
}

#[test]
fn no_row_is_too_long_for_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    fill(&engine);
    let writer = Writer::of(&engine);
    let noise: Vec<u8> = (0u64..20_000).flat_map(|n| entry(n).raw.0).collect();
    let text: String = (0u64..40_000).map(|n| entry(n).raw.to_string()).collect();
    let hold = engine.hold("shop").expect("read").expect("held");
    let page = HeldPage { url: "https://a.example".into(), content_type: None, body: text };
    let mut large = event("shop", 900, &[("app", Content::Own(noise.clone()))]);
    large.body = noise.clone();
    writer.one(op(Commit {
        put: vec![record(7, noise)],
        hold: HoldChange::Set(Box::new(Hold { answer: vec![page], ..hold })),
        events: vec![large],
        list: Some(List::Whole((0..50_000).map(entry).collect())),
        ..commit("shop", 1)
    }));
    let longest = engine.longest_row().expect("read");
    assert!(longest <= 8 << 10, "{longest}");
    let blobs = dir.path().join("sled/blobs");
    assert!(!blobs.exists() || fs::read_dir(blobs).expect("a directory").next().is_none());
}

#[test]
fn an_insertion_rewrites_few_rows_of_a_long_list() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let writer = Writer::of(&engine);
    let mut list: Vec<_> = (1..50_001).map(entry).collect();
    writer.one(op(Commit { list: Some(List::Whole(list.clone())), ..commit("shop", 0) }));
    let mut rows = engine.rows_written();
    assert!(rows > 300, "{rows}");
    let mut write = |list: &Vec<_>, version| {
        writer.one(op(Commit { list: Some(List::Whole(list.clone())), ..commit("shop", version) }));
        let written = engine.rows_written() - rows;
        rows = engine.rows_written();
        assert_eq!(engine.list("shop").as_ref(), Ok(list));
        written
    };
    list.insert(0, entry(0));
    let inserted = write(&list, 1);
    if let Some(changed) = list.get_mut(25_000) {
        *changed = entry_of(25_000, 1);
    }
    let updated = write(&list, 2);
    let same = write(&list, 3);
    // State and counters; the manifest's 2 or 3 rows; one or two chunks that go, and as many that come; the group's number in
    // two trees.
    assert!(inserted <= 11 && updated <= 11 && same <= 4, "{inserted}, {updated} and {same} rows");
}

#[test]
fn a_second_owner_is_turned_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let refused = SledEngine::open(dir.path(), CACHE_BYTES).err();
    let Some(Error::Locked(text)) = refused else { panic!("{refused:?} is not Locked") };
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(engine);
    drop(open(dir.path()));
}

#[test]
fn another_programs_lock_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()));
    let other = fs::File::open(dir.path().join("sled/db")).expect("there");
    other.lock().expect("locked");
    let refused = SledEngine::open(dir.path(), CACHE_BYTES).err();
    assert!(matches!(refused, Some(Error::Locked(_))), "{refused:?}");
}

type Harm = fn(&mut Vec<u8>);

const HARMS: [(&str, Harm); 7] = [
    ("emptied", |bytes| bytes.clear()),
    ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("without its last page", |bytes| bytes.truncate(bytes.len() - 4096)),
    ("overwritten at the start", |bytes| bytes.iter_mut().take(4096).for_each(|b| *b = 0x55)),
    ("overwritten in the middle", |bytes| {
        let middle = bytes.len() / 2;
        bytes.iter_mut().skip(middle).take(4096).for_each(|b| *b = 0x55);
    }),
    ("overwritten", |bytes| bytes.fill(0x55)),
    ("zeroed", |bytes| bytes.fill(0)),
];

/// Sled opened most of these without a word, with rows missing or all of them, and cut the file. Harm to space that is
/// not in use is none; harm to what was read back once before shows when it is read.
#[test]
fn damage_is_told_and_the_directory_left_as_it_is() {
    for reopened in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = open(dir.path());
        let writer = Writer::of(&engine);
        for n in 0..40 {
            let put = (0..20).map(|k| record(k, Hash::of(&[n, 1]).0.repeat(60))).collect();
            writer.one(op(Commit { put, ..commit("shop", n.into()) }));
        }
        let all = export(&engine);
        drop(engine);
        if reopened {
            drop(open(dir.path()));
        }
        let whole = contents(dir.path());
        let file = dir.path().join("sled/db");
        let mut told = 0;
        for (harm, apply) in HARMS {
            let harm = format!("{harm}, {}", if reopened { "after reopening" } else { "as written" });
            fs::remove_dir_all(dir.path().join("sled")).expect("removed");
            fs::create_dir_all(dir.path().join("sled/blobs")).expect("made");
            for (path, bytes) in &whole {
                fs::write(path, bytes).expect("written");
            }
            let mut bytes = whole.get(&file).expect("there").clone();
            apply(&mut bytes);
            fs::write(&file, bytes).expect("written");
            let before = contents(dir.path());
            match SledEngine::open(dir.path(), CACHE_BYTES) {
                Ok(engine) => {
                    let mut out = Vec::new();
                    match engine.export(&mut out) {
                        Ok(()) => assert!(out == all, "{harm}: something is missing"),
                        Err(error) => {
                            assert!(matches!(error, Error::Damaged(_)), "{harm}: {error:?}")
                        }
                    }
                }
                Err(Error::Damaged(text)) => {
                    told += 1;
                    assert!(text.contains(&dir.path().display().to_string()), "{harm}: {text}");
                    assert!(contents(dir.path()) == before, "{harm}: the directory was changed");
                }
                Err(error) => panic!("{harm}: {error:?} is not Damaged"),
            }
        }
        assert!(told >= 4, "only {told} were told at the opening");
        fs::remove_file(&file).expect("removed");
        let refused = SledEngine::open(dir.path(), CACHE_BYTES).err();
        assert!(matches!(refused, Some(Error::Damaged(_))), "{refused:?}");
    }
}

/// Writes the number of a format into a closed store.
fn set_format(dir: &Path, format: u64) {
    let db = ::sled::Config::new().path(dir.join("sled")).flush_every_ms(None).open().expect("opened");
    let meta = db.open_tree("meta").expect("opened");
    // The version byte, one chunk, the number.
    let value = [&[1, 0, 1][..], &format.to_be_bytes()].concat();
    meta.insert(b"format\0\0", value).expect("written");
    db.flush().expect("flushed");
}

/// A file of the store that 0.1.0 left in `tests/data/format-1`.
fn of_format_1(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1").join(name);
    let mut bytes = Vec::new();
    let file = fs::File::open(&path).expect("there");
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("whole");
    bytes
}

/// Puts that store into a state directory.
fn put_format_1(dir: &Path) {
    fs::create_dir_all(dir.join("sled")).expect("made");
    fs::write(dir.join("sled/db"), of_format_1("db.gz")).expect("written");
    let mark = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1/mark");
    fs::copy(mark, dir.join("mark")).expect("copied");
}

fn lines(export: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = String::from_utf8_lossy(export).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_store_of_format_1_is_exported_and_converted_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    put_format_1(dir.path());
    let before = of_format_1("export.jsonl.gz");
    let engine = open(dir.path());
    let backup = dir.path().join("export-format-1-before-2.jsonl");
    // Format 1 did not note how long a delivery was to wait.
    let without_waits = |export: String| lines(export.replace(",\"wait\":4294967295", "").as_bytes());
    let exported = fs::read_to_string(&backup).expect("there");
    assert!(exported.contains(",\"wait\":4294967295"));
    assert_eq!(without_waits(exported), lines(&before));
    assert_eq!(fs::metadata(&backup).expect("there").permissions().mode() & 0o777, 0o600);
    let now = String::from_utf8(export(&engine)).expect("UTF-8").replacen("\"format\":2", "\"format\":1", 1);
    assert_eq!(without_waits(now), lines(&before));
    assert_eq!(engine.reset(), Ok(None), "the same stream");
    // The daemon that wrote it held one lease, and the export that followed another.
    assert_eq!(engine.claim().map(|lease| lease.epoch), Ok(3));
    assert_eq!(engine.waiting("down").map(|waiting| waiting.len()), Ok(10));
    assert_eq!(engine.dead("refuse"), Ok(10));
    assert_eq!(engine.hold("stock").expect("read").map(|hold| hold.deleted), Some(30));
    assert_eq!(engine.bridge("gone").expect("read").map(|left| left.state.sequence), Some(1));
    // It goes on where it was, and is not an older format any more.
    let state = engine.bridge("orders").expect("read").expect("there").state;
    let version = state.version;
    let next = BridgeState { version: version + 1, ..state };
    Writer::of(&engine).one(op(Commit {
        state: next,
        bridge: Some("orders".into()),
        expected: version,
        ..Commit::default()
    }));
    drop(engine);
    fs::remove_file(&backup).expect("removed");
    let engine = open(dir.path());
    assert!(!backup.exists());
    assert_eq!(engine.scan("orders", None, usize::MAX).map(|records| records.len()), Ok(60));
}

#[test]
fn a_conversion_that_was_killed_begins_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    put_format_1(dir.path());
    // What a killed conversion leaves.
    fs::create_dir_all(dir.path().join("convert/sled")).expect("made");
    fs::write(dir.path().join("convert/sled/db"), "half").expect("written");
    drop(open(dir.path()));
    assert!(!dir.path().join("convert").exists());
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(&open(dir.path()));
    set_format(dir.path(), 99);
    let refused = SledEngine::open(dir.path(), CACHE_BYTES).err();
    assert!(matches!(refused, Some(Error::Format { found: 99, known: FORMAT, .. })), "{refused:?}");
    set_format(dir.path(), FORMAT.into());
    assert_eq!(open(dir.path()).list("shop").map(|list| list.len()), Ok(300));
}

/// The compacted store has fewer groups of writes than the old one: its mark, put in place before it, told the old one that
/// it was cut back, and a crash between the renames made a healthy store refuse to start. Or it had more, and the same.
#[test]
fn a_compaction_that_ends_between_its_renames_leaves_a_store_that_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let before = fill(&engine);
    drop(engine);
    let files = |dir: &Path| contents(dir);
    let (old, mark) = (files(&dir.path().join("sled")), std::fs::read(dir.path().join("mark")).expect("a mark"));
    SledEngine::compact(dir.path(), CACHE_BYTES).expect("compacted");
    let new_mark = std::fs::read(dir.path().join("mark")).expect("a mark");
    // The new database is in its place, the new mark not yet.
    std::fs::write(dir.path().join("mark"), &mark).expect("put back");
    assert!(new_mark >= mark, "the numbers go on");
    drop(open(dir.path()));
    // Neither is in its place.
    std::fs::rename(dir.path().join("sled"), dir.path().join("new")).expect("moved");
    std::fs::create_dir(dir.path().join("sled-before-compact")).expect("made");
    for (path, bytes) in old {
        let at =
            dir.path().join("sled-before-compact").join(path.strip_prefix(dir.path().join("sled")).unwrap_or(&path));
        std::fs::create_dir_all(at.parent().expect("a parent")).expect("made");
        std::fs::write(at, bytes).expect("written");
    }
    std::fs::write(dir.path().join("mark"), &mark).expect("put back");
    std::fs::create_dir(dir.path().join("compact")).expect("made");
    let engine = open(dir.path());
    assert_eq!(export(&engine), before);
    assert!(!dir.path().join("compact").exists() && !dir.path().join("sled-before-compact").exists());
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let is = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."));
    contents(&dir.join("sled")).into_keys().filter(is).collect()
}

/// Sled takes a snapshot that it was just writing for one. Killed while opening, or with a full disk then, a store that was intact
/// was refused for ever; over a gigabyte there was not even a copy to go back to.
#[test]
fn what_a_killed_opening_left_is_removed_at_any_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let all = fill(&engine);
    drop(engine);
    drop(open(dir.path()));
    let database = dir.path().join("sled");
    for (at, half) in [&b""[..], &[0x55; 9_000], &[0; 13]].into_iter().enumerate() {
        fs::write(database.join("snap.FFFFFFFFFFFFFFFF.generating"), half).expect("written");
        if at == 1 {
            // A hole: its size counts.
            let file = fs::File::options().write(true).open(database.join("db")).expect("there");
            file.set_len((1 << 30) + (1 << 20)).expect("longer");
        }
        assert_eq!(export(&open(dir.path())), all);
        assert!(snapshots(dir.path()).iter().all(|path| path.extension().is_none_or(|e| e != "generating")));
    }
    // And a finished one that cannot be read, at that size.
    for path in snapshots(dir.path()) {
        fs::write(path, [0x55; 64]).expect("written");
    }
    assert_eq!(export(&open(dir.path())), all);
    assert!(!contents(&database).into_keys().any(|path| path.to_string_lossy().contains("unreadable-")));
}

/// After a failed sync the kernel has the pages for written, and the next sync says so: what reads back was trusted, and sent.
#[test]
fn after_a_failed_sync_the_database_is_written_anew() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let all = fill(&engine);
    drop(engine);
    let (database, mark) = (dir.path().join("sled/db"), dir.path().join("mark"));
    let node = || fs::metadata(&database).expect("there").ino();
    let before = node();
    drop(open(dir.path()));
    assert_eq!(node(), before, "a process that was killed needs no copy");
    // As the daemon notes it before it ends.
    let mut noted = fs::read(&mark).expect("there");
    noted.truncate(21);
    noted.extend_from_slice(b"unsynced\n");
    fs::write(&mark, noted).expect("written");
    assert_eq!(export(&open(dir.path())), all);
    assert_ne!(node(), before);
    assert!(fs::read_to_string(&mark).expect("there").contains("\nsynced"));
    let renewed = node();
    drop(open(dir.path()));
    assert_eq!(node(), renewed, "once");
    for left in ["sled-renewed", "sled-before-compact", "sled-before-open", "sled-cut"] {
        assert!(!dir.path().join(left).exists(), "{left}");
    }
}

/// The advice was to delete `mark` and go on: under the same stream, with numbers that receivers had seen, so that they dropped
/// what came.
#[test]
fn a_store_without_its_mark_is_another_stream_and_says_so_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    fill(&engine);
    let stream = engine.stream();
    assert_eq!(engine.reset(), Ok(None));
    drop(engine);
    fs::remove_file(dir.path().join("mark")).expect("removed");
    let engine = open(dir.path());
    assert_ne!(engine.stream(), stream);
    let reset = engine.reset().expect("read").expect("told");
    assert!(reset.why.contains("`mark` was missing") && reset.told.is_none(), "{reset:?}");
    let told = Reset { told: Some(Timestamp(7)), ..reset };
    let event = event("", 1, &[("app", Content::Shared)]);
    assert_eq!(Writer::of(&engine).queued(Op::Reset(told.clone(), vec![event])).len(), 1);
    let stream = engine.stream();
    drop(engine);
    let engine = open(dir.path());
    assert_eq!((engine.stream(), engine.reset()), (stream, Ok(Some(told))));
}

/// A read that failed inside of a transaction made half of it durable, and the store was run with.
#[test]
fn half_a_group_is_found_at_the_opening() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(&open(dir.path()));
    let whole = contents(dir.path());
    for tree in ["bridges", "records", "events", "queue", "attempts", "endpoints"] {
        let db = ::sled::Config::new().path(dir.path().join("sled")).flush_every_ms(None).open().expect("opened");
        let rows = db.open_tree(tree).expect("opened");
        let number: Vec<u8> = rows.get(b"\xff\0\0").expect("read").expect("there").to_vec();
        let behind = [&number[..10], &[number[10] - 1]].concat();
        rows.insert(b"\xff\0\0", behind).expect("written");
        db.flush().expect("flushed");
        drop((rows, db));
        let refused = SledEngine::open(dir.path(), CACHE_BYTES).err();
        let Some(Error::Damaged(why)) = refused else { panic!("{tree}: {refused:?} is not Damaged") };
        assert!(why.contains("is there in part"), "{why}");
        fs::remove_dir_all(dir.path().join("sled")).expect("removed");
        fs::create_dir_all(dir.path().join("sled/blobs")).expect("made");
        for (path, bytes) in &whole {
            fs::write(path, bytes).expect("written");
        }
    }
    drop(open(dir.path()));
}

/// A kill once left a snapshot of sled's that did not fit its log: the daemon did not start again, though the log had all.
#[test]
fn an_unreadable_snapshot_of_sleds_is_done_without() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let all = fill(&engine);
    drop(engine);
    // It is written at an opening.
    drop(open(dir.path()));
    for harm in [&[0x55; 64][..], &[0; 13]] {
        for path in snapshots(dir.path()) {
            fs::write(path, harm).expect("written");
        }
        assert!(!snapshots(dir.path()).is_empty());
        assert_eq!(export(&open(dir.path())), all);
        drop(open(dir.path()));
    }
    assert!(!dir.path().join("sled-before-open").exists());
}
