//! A poll that brought nothing new parses nothing and writes nothing. What was decoded is counted for a whole process,
//! so each count is taken in a process of its own.

use std::{process::Command, sync::atomic::Ordering};

use bellpull::{decode, poller::Polling};

use crate::support::{
    rig::{World, sled},
    upstream::Paging,
};

const POLLS: usize = 1_000;

/// Runs one of the counting tests alone, in a child.
fn alone(name: &str) {
    let out = Command::new(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--ignored", "--nocapture"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_thousand_304s_decode_and_write_nothing() {
    alone("unchanged::counted_304s");
}

#[test]
fn a_thousand_times_the_same_bytes_decode_and_write_nothing() {
    alone("unchanged::counted_bytes");
}

#[test]
fn pages_with_the_same_bytes_decode_and_write_nothing() {
    alone("unchanged::counted_pages");
}

#[tokio::test]
#[ignore = "run by `a_thousand_304s_decode_and_write_nothing`"]
async fn counted_304s() {
    let mut world = counted(true, Paging::None, "", POLLS).await;
    let requests = world.upstream.requests();
    assert_eq!(requests.iter().filter(|r| r.header("if-none-match").is_some()).count(), POLLS + 1);
    // And it counts: a change is decoded and committed.
    world.upstream.put("1", r#"{"id":1,"v":1}"#);
    let before = figures(&world);
    world.poll().await;
    assert!(figures(&world) > before);
}

#[tokio::test]
#[ignore = "run by `a_thousand_times_the_same_bytes_decode_and_write_nothing`"]
async fn counted_bytes() {
    counted(false, Paging::None, "", POLLS).await;
}

#[tokio::test]
#[ignore = "run by `pages_with_the_same_bytes_decode_and_write_nothing`"]
async fn counted_pages() {
    for (paging, lines) in [
        (Paging::Page(5), "source.http.pages.page = {}"),
        (Paging::Offset(5), "source.http.pages.offset = { limit = 5 }"),
        (Paging::Link(5), "source.http.pages.link = {}"),
    ] {
        counted(false, paging, lines, 50).await;
    }
    // As many records as a server may have for its most: no validator is sent, and whether one may be is not read from the page again.
    let world = counted(true, Paging::Link(50), "source.http.pages.link = {}", 50).await;
    assert!(world.upstream.requests().iter().all(|request| request.header("if-none-match").is_none()));
}

/// What was decoded, committed and synced so far.
fn figures(world: &World) -> (u64, u64, u64) {
    let store = &world.rig.store;
    (decode::DECODED.load(Ordering::Relaxed), store.counters().commits.load(Ordering::Relaxed), store.syncs())
}

async fn counted(etag: bool, paging: Paging, lines: &str, polls: usize) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\nLINES\n\
        source.http.url = \"UPSTREAM/items\"\n";
    let mut world = World::on(sled(dir.path()), &text.replace("LINES", lines)).await;
    world.upstream.fill(20);
    world.upstream.etag(etag);
    world.upstream.paging(paging);
    world.poll().await;
    assert_eq!(world.poll().await, Polling::Unchanged);
    let before = figures(&world);
    for _ in 0..polls {
        assert_eq!(world.poll().await, Polling::Unchanged);
    }
    assert_eq!(figures(&world), before, "decoded, commits, syncs");
    world
}
