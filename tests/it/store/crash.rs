//! Killed processes.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bellpull::{
    model::Content,
    store::{Commit, Engine, EventFilter, List, sled::SledEngine},
};

use super::{Writer, commit, entry, entry_of, event, op, open, record};

const DIR: &str = "BELLPULL_TEST_STORE";

/// The commit that makes version `n + 1`: three events, and records that are of one version or are not.
fn next(n: u64) -> Commit {
    let to = [("app", Content::Shared)];
    let mut list: Vec<_> = (0..500).map(entry).collect();
    list.push(entry_of(500, n + 1));
    Commit {
        put: (0..5).map(|k| record(k, vec![b'0' + u8::try_from(n % 10).expect("a digit"); 9_000])).collect(),
        events: (0..3).map(|k| event("shop", 3 * n + k, &to)).collect(),
        list: Some(List::Whole(list)),
        ..commit("shop", n)
    }
}

/// Whether the store is what `next` made, as a whole.
fn version(engine: &SledEngine) -> u64 {
    let version = engine.bridge("shop").expect("read").map_or(0, |loaded| loaded.state.version);
    let all = EventFilter { bodies: true, limit: usize::MAX, ..EventFilter::default() };
    let events = engine.events(&all).expect("read");
    assert_eq!(u64::try_from(events.len()).ok(), Some(3 * version));
    assert_eq!(engine.waiting("app").expect("read").len(), events.len());
    if let Some(last) = version.checked_sub(1) {
        let expected = next(last);
        assert_eq!(Some(List::Whole(engine.list("shop").expect("read"))), expected.list);
        let keys: Vec<_> = expected.put.iter().map(|r| r.entry.key).collect();
        let records: Option<Vec<_>> = engine.records("shop", &keys).expect("read").into_iter().collect();
        assert_eq!(records, Some(expected.put));
    }
    version
}

#[test]
#[ignore = "what `killed_at_any_time` starts and kills"]
fn child() {
    let dir = std::env::var_os(DIR).map(PathBuf::from).expect("the parent says where");
    let engine = open(&dir);
    let writer = Writer::of(&engine);
    for n in version(&engine).. {
        writer.one(op(next(n)));
        let mut out = std::io::stdout();
        writeln!(out, "acknowledged {}", n + 1).and_then(|()| out.flush()).expect("the parent reads");
    }
}

/// Starts a writer, and kills it some acknowledgements later: the last version it told.
fn write_and_kill(dir: &Path, after: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "store::crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut told = out.lines().map_while(Result::ok).filter_map(|line| {
        let (_, version) = line.split_once("acknowledged ")?;
        version.parse().ok()
    });
    let seen = told.by_ref().nth(after).expect("it goes on until it is killed");
    child.kill().expect("killed");
    let last = told.last().unwrap_or(seen);
    child.wait().expect("ended");
    last
}

#[test]
fn killed_at_any_time_it_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    for after in [0, 1, 7, 20, 3] {
        let acknowledged = write_and_kill(dir.path(), after);
        let found = version(&open(dir.path()));
        // The commit in flight is there as a whole, or not at all.
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{acknowledged} acknowledged, {found} found");
    }
}
