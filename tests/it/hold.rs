//! Suspicious answers are held: durable, shown, and committed only on a person's word.

use bellpull::{model::Hash, poller::Polling, store::Hold};

use crate::support::{
    rig::{LIST, World, list, sled},
    server::Answer,
    upstream::Paging,
};

async fn held(world: &World) -> Option<Hold> {
    world.rig.poller.hold(&"orders".into()).await.expect("read")
}

async fn accept(world: &mut World, hash: Option<Hash>) -> Result<Polling, String> {
    let poller = world.rig.poller.clone();
    poller.accept(world.rig.polled(), hash).await
}

async fn reject(world: &mut World, hash: Option<Hash>) -> Result<(), String> {
    let poller = world.rig.poller.clone();
    poller.reject(world.rig.polled(), hash).await
}

/// Twenty records known, of which the answer has `left`.
async fn shrunk(text: &str, left: usize) -> World {
    let mut world = World::start(text).await;
    world.upstream.fill(20);
    world.poll().await;
    world.upstream.fill(left);
    world
}

/// Nango#1132: a page that failed deleted every record.
#[tokio::test]
async fn too_many_deletions_are_held() {
    let mut world = shrunk(LIST, 9).await;
    assert_eq!(world.poll().await, Polling::Held);
    let hold = held(&world).await.expect("held");
    assert_eq!((hold.created, hold.updated, hold.deleted), (0, 0, 11));
    assert_eq!(hold.reason, "it would delete 11 of 20 known records, more than the share of 0.5 (`guard.deletes`)");
    assert_eq!(world.rig.snapshot().await.len(), 20);
    assert!(world.rig.lines().await.is_empty());
    let alert = &world.receiver.wait_taken("/me", 1).await[0];
    assert_eq!(alert.kind(), "bellpull.bridge.held");
    assert_eq!(alert.body["data"]["hash"], hold.hash.to_string());
    assert_eq!(alert.body["data"]["deleted"], 11);
    // The same answer again is held still, and said once.
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(held(&world).await, Some(hold));
    assert_eq!(world.rig.alerts().await.len(), 1);
    assert_eq!(world.rig.polled().progress.held_again, 1, "only counted");
}

#[tokio::test]
async fn too_many_changes_are_held() {
    let mut world = World::start(&list("guard.changes = 0.25")).await;
    world.upstream.fill(12);
    world.poll().await;
    for key in ["1", "2", "3"] {
        world.upstream.put(key, &format!(r#"{{"id":{key},"v":1}}"#));
    }
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 3, deleted: 0 });
    for key in ["1", "2", "3", "4"] {
        world.upstream.put(key, &format!(r#"{{"id":{key},"v":2}}"#));
    }
    assert_eq!(world.poll().await, Polling::Held);
    let hold = held(&world).await.expect("held");
    assert_eq!((hold.updated, hold.reason.contains("`guard.changes`")), (4, true));
    assert_eq!(accept(&mut world, Some(hold.hash)).await, Ok(Polling::Changed { created: 0, updated: 4, deleted: 0 }));
    assert_eq!(world.rig.lines().await.len(), 7);
}

#[tokio::test]
async fn an_edit_that_changes_much_is_held() {
    let mut world = World::start(LIST).await;
    world.upstream.set(&[]);
    (1..=20).for_each(|n| world.upstream.put(&n.to_string(), &format!(r#"{{"id":{n},"uid":"u{n}"}}"#)));
    world.poll().await;
    let other = LIST.replace("\".id\"", "\".uid\"");
    world.restart(&other).await;
    assert_eq!(world.poll().await, Polling::Held);
    let hold = held(&world).await.expect("held");
    assert_eq!((hold.created, hold.deleted), (20, 20));
    assert!(hold.reason.contains("`guard.definition`"), "{}", hold.reason);
    // The old text again: all is as it was.
    world.restart(LIST).await;
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(held(&world).await, None);
    world.restart(&other).await;
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(accept(&mut world, None).await, Ok(Polling::Changed { created: 20, updated: 0, deleted: 20 }));
    assert_eq!(world.poll().await, Polling::Unchanged);
}

/// changedetection.io#2528: JSON goes empty, and nothing, or everything, fires.
#[tokio::test]
async fn an_empty_list_is_held_refused_or_taken_as_the_file_says() {
    let mut world = shrunk(LIST, 0).await;
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(
        held(&world).await.expect("held").reason,
        "the list is empty while 20 records are known (`empty` = \"hold\")"
    );
    let mut world = shrunk(&list("empty = \"error\""), 0).await;
    assert_eq!(world.fail().await, "the list is empty while 20 records are known (`empty` = \"error\")");
    assert_eq!(held(&world).await, None);
    let mut world = shrunk(&list("empty = \"accept\""), 0).await;
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 0, deleted: 20 });
}

/// What a held or refused answer lacked was counted as missing, and the accepted answer, when it came again as it was,
/// was taken for one that still lacked it: held once more, or an error for ever.
#[tokio::test]
async fn the_accepted_answer_coming_back_is_a_normal_one() {
    for etag in [false, true] {
        for after in [1, 2] {
            let mut world = World::start(&list(&format!("deletes.after = {after}"))).await;
            world.upstream.etag(etag);
            world.upstream.fill(20);
            world.poll().await;
            for _ in 0..after + 1 {
                world.upstream.next(Answer::json(r#"[{"id":1,"v":0}]"#));
                world.poll().await;
            }
            assert!(held(&world).await.is_some());
            assert_eq!(world.poll().await, Polling::Same, "etag {etag}, after {after}");
            assert_eq!(held(&world).await, None);
            assert_eq!(world.poll().await, Polling::Unchanged);
            assert_eq!(world.rig.snapshot().await.len(), 20);
        }
        let mut world = World::start(&list("empty = \"error\"")).await;
        world.upstream.etag(etag);
        world.upstream.fill(20);
        world.poll().await;
        world.upstream.next(Answer::json("[]"));
        world.fail().await;
        assert_eq!(world.poll().await, Polling::Unchanged, "etag {etag}");
        world.upstream.remove("20");
        assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 0, deleted: 1 });
    }
}

#[tokio::test]
async fn a_normal_answer_clears_and_a_suspicious_one_replaces() {
    let mut world = shrunk(LIST, 5).await;
    assert_eq!(world.poll().await, Polling::Held);
    let first = held(&world).await.expect("held").hash;
    world.upstream.fill(4);
    assert_eq!(world.poll().await, Polling::Held);
    let second = held(&world).await.expect("held");
    assert_ne!(second.hash, first);
    assert_eq!(second.deleted, 16);
    let stale = accept(&mut world, Some(first)).await.expect_err("refused");
    assert!(stale.contains(&format!("{first} is stale: {} is held now", second.hash)), "{stale}");
    assert!(reject(&mut world, Some(first)).await.is_err());
    world.upstream.fill(19);
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 0, deleted: 1 });
    assert_eq!(held(&world).await, None);
    assert!(accept(&mut world, None).await.is_err_and(|e| e.contains("nothing of orders is held")));
    assert_eq!(world.rig.lines().await, ["orders.deleted 20 #1"]);
}

#[tokio::test]
async fn accepting_commits_what_was_shown_and_not_what_came_since() {
    for text in [LIST.to_owned(), list("deletes.after = 2"), list("source.http.pages.page = { size = 100 }")] {
        let mut world = shrunk(&text, 3).await;
        let mut polls = 0;
        while world.poll().await != Polling::Held {
            polls += 1;
            assert!(polls < 3, "{text}");
        }
        let hold = held(&world).await.expect("held");
        // What the source shows meanwhile does not matter.
        world.upstream.fill(1);
        assert_eq!(
            accept(&mut world, Some(hold.hash)).await,
            Ok(Polling::Changed { created: 0, updated: 0, deleted: 17 }),
            "{text}"
        );
        assert_eq!(world.rig.snapshot().await.len(), 3);
        assert_eq!(held(&world).await, None);
        let lines = world.rig.lines().await;
        assert_eq!((lines.len(), lines[16].as_str()), (17, "orders.deleted 20 #17"));
        assert_eq!(world.receiver.wait_taken("/me", 18).await.len(), 18);
        assert!(accept(&mut world, None).await.is_err(), "once");
        // Fewer than ten are known: shares mean nothing.
        for _ in 0..2 {
            world.poll().await;
        }
        assert_eq!(world.rig.snapshot().await.len(), 1, "{text}");
    }
}

#[tokio::test]
async fn accepting_a_walk_of_several_pages() {
    let mut world = World::start(&list("source.http.pages.page = { size = 4 }\nguard.deletes = 0.1")).await;
    world.upstream.paging(Paging::Page(4));
    world.upstream.fill(20);
    world.poll().await;
    world.upstream.fill(10);
    assert_eq!(world.poll().await, Polling::Same, "of several pages one absence is none");
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(accept(&mut world, None).await, Ok(Polling::Changed { created: 0, updated: 0, deleted: 10 }));
    assert_eq!(world.poll().await, Polling::Unchanged);
}

#[tokio::test]
async fn what_is_rejected_is_not_asked_about_again() {
    let mut world = shrunk(LIST, 5).await;
    world.poll().await;
    let hash = held(&world).await.expect("held").hash;
    assert_eq!(reject(&mut world, Some(hash)).await, Ok(()));
    let alerts = world.rig.alerts().await.len();
    for _ in 0..3 {
        assert_eq!(world.poll().await, Polling::Held);
    }
    assert_eq!(world.rig.alerts().await.len(), alerts, "only counted");
    let hold = held(&world).await.expect("still known");
    assert!(hold.rejected && hold.answer.is_empty());
    assert!(accept(&mut world, Some(hash)).await.is_err_and(|e| e.contains("rejected")));
    // Another suspicious one is held again.
    world.upstream.fill(4);
    assert_eq!(world.poll().await, Polling::Held);
    assert!(!held(&world).await.expect("held").rejected);
    assert_eq!(world.rig.alerts().await.len(), alerts + 1);
    world.upstream.fill(20);
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(held(&world).await, None);
}

#[tokio::test]
async fn a_hold_survives_a_restart() {
    for text in [LIST.to_owned(), list("deletes.after = 2")] {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::on(sled(dir.path()), &text).await;
        world.upstream.fill(20);
        world.poll().await;
        world.upstream.fill(5);
        world.poll().await;
        world.poll().await;
        let hold = held(&world).await.expect("held");
        world.restart(&text).await;
        assert_eq!(held(&world).await.as_ref(), Some(&hold));
        assert_eq!(world.poll().await, Polling::Held);
        assert_eq!(world.rig.alerts().await.len(), 1, "the same one: not said again");
        world.restart(&text).await;
        assert_eq!(
            accept(&mut world, Some(hold.hash)).await,
            Ok(Polling::Changed { created: 0, updated: 0, deleted: 15 })
        );
        world.restart(&text).await;
        assert_eq!(held(&world).await, None);
        assert_eq!(world.poll().await, Polling::Unchanged);
        assert_eq!(world.rig.lines().await.len(), 15);
    }
}

/// With `deletes.after` a record may be due on an answer that is the accepted one: that is held like any other.
#[tokio::test]
async fn records_that_stay_missing_from_the_accepted_answer_are_held_too() {
    let mut world = World::start(&list("deletes.after = 2")).await;
    world.upstream.etag(true);
    world.upstream.fill(20);
    world.poll().await;
    world.upstream.fill(5);
    assert_eq!(world.poll().await, Polling::Same);
    assert_eq!(world.poll().await, Polling::Held, "a 304");
    assert_eq!(world.poll().await, Polling::Held);
    assert_eq!(world.rig.alerts().await.len(), 1);
    assert_eq!(accept(&mut world, None).await, Ok(Polling::Changed { created: 0, updated: 0, deleted: 15 }));
    assert_eq!(world.rig.snapshot().await.len(), 5);
    assert_eq!(world.poll().await, Polling::Unchanged);
}

/// The admin did what the reason said and raised the share, and the same answer stayed held.
#[tokio::test]
async fn another_guard_judges_a_held_answer_anew() {
    let mut world = shrunk(LIST, 9).await;
    assert_eq!(world.poll().await, Polling::Held);
    world.restart(&list("guard.deletes = 0.9")).await;
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 0, deleted: 11 });
    assert_eq!(held(&world).await, None);
}

/// What was held under one definition was committed under another, with validators that hid the new source.
#[tokio::test]
async fn what_was_held_before_an_edit_is_not_accepted_after_it() {
    let mut world = shrunk(LIST, 9).await;
    assert_eq!(world.poll().await, Polling::Held);
    world.restart(&list("ignore = [\".v\"]")).await;
    let refused = accept(&mut world, None).await.expect_err("judged anew first");
    assert!(refused.contains("edited"), "{refused}");
    assert_eq!(world.rig.snapshot().await.len(), 20);
}

/// A wrong `next` was corrected: 62 records that had always been there went out as `created`, and no guard counted them.
#[tokio::test]
async fn an_edit_that_shows_more_of_a_list_is_held() {
    let paged = |next: &str| {
        let pages = format!("source.http.pages.cursor = {{ param = \"cursor\", next = \"{next}\" }}");
        list(&pages).replace("\".[]\"", "\".data[]\"")
    };
    let mut world = World::start(&paged(".nxt")).await;
    world.upstream.fill(82);
    world.upstream.paging(Paging::Cursor(20));
    assert_eq!(world.poll().await, Polling::Baseline { records: 20 });
    world.restart(&paged(".next_cursor")).await;
    assert_eq!(world.poll().await, Polling::Held);
    let hold = held(&world).await.expect("held");
    assert_eq!((hold.created, hold.updated, hold.deleted), (62, 0, 0));
    assert!(hold.reason.contains("`guard.definition`"), "{}", hold.reason);
    assert!(world.rig.lines().await.is_empty());
    world.restart(&paged(".next_cursor").replace("to = [\"me\"]", "to = [\"me\"]\nguard.definition = 1")).await;
    assert_eq!(world.poll().await, Polling::Changed { created: 62, updated: 0, deleted: 0 });
}
