//! A backup of a daemon that runs, and the way back on another machine.

use std::time::Duration;

use crate::support::{
    daemon::Place,
    receiver::{Receiver, SECRET},
    upstream::Upstream,
};

fn configuration(upstream: &Upstream, receiver: &Receiver) -> String {
    format!(
        "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\", \"other\"]\nsource.http.url = \"{}/items\"\n\
         [endpoint.me]\nurl = \"{}/me\"\nsign.standard.secrets = [{{ value = {SECRET:?} }}]\npayload = \"{{k: .data.key, n: .data.sequence}}\"\n\
         [endpoint.other]\nurl = \"{}/other\"\nsign.standard.secrets = [{{ value = {SECRET:?} }}]\nretry.schedule = [\"100ms\"]\n",
        upstream.origin(),
        receiver.origin(),
        receiver.origin()
    )
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within ten seconds: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_with_its_queues_under_a_new_stream() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let toml = configuration(&upstream, &receiver);
    upstream.fill(300);
    receiver.status("/me", 503);
    receiver.status("/other", 400);
    tokio::task::spawn_blocking(move || {
        let old = Place::new(&toml);
        let daemon = old.start();
        let orders = |place: &Place| place.json(&["status"])["bridges"]["orders"].clone();
        until("the baseline", || orders(&old)["records"] == 300);
        upstream.put("7", r#"{"id":7,"v":"\u00e4 \n 12345678901234567890","n":1.10}"#);
        upstream.remove("8");
        let dead = |place: &Place| place.json(&["status"])["endpoints"]["other"]["dead"].clone();
        until("two are dead letters", || dead(&old) == 2);
        let (before, stream) = (orders(&old), old.json(&["status"])["stream"].clone());
        let file = old.path().join("backup.jsonl");
        let path = file.to_str().expect("a path");
        let ran = old.run(&["export", path]);
        assert_eq!(ran.code, 0, "{ran:?}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let refused = old.run(&["import", path]);
        assert!(refused.code == 1 && refused.err.contains("stop it first"), "{refused:?}");
        drop(daemon);
        let again = old.run(&["import", path]);
        assert!(again.code == 1 && again.err.contains("move the whole directory away"), "{again:?}");

        // Written again it is the same store, with the same stream.
        let ran = old.run(&["compact"]);
        assert!(ran.code == 0 && ran.out.contains("bytes became"), "{ran:?}");
        let compacted = old.path().join("compacted.jsonl");
        assert_eq!(old.run(&["export", compacted.to_str().expect("a path")]).code, 0);
        assert_eq!(old.json(&["status"])["stream"], stream);
        let names = |dir: &std::path::Path| {
            let all = std::fs::read_dir(dir)
                .expect("readable")
                .map(|e| e.expect("one").file_name().into_string().expect("UTF-8"));
            let mut all: Vec<String> = all.collect();
            all.sort();
            all
        };
        let left = names(&old.path().join("state"));
        assert!(!left.iter().any(|name| name.contains("compact")), "{left:?}");

        // A damaged backup leaves nothing behind.
        let new = Place::new(&toml);
        let text = std::fs::read_to_string(&file).expect("the backup");
        let broken = new.path().join("broken.jsonl");
        std::fs::write(&broken, &text[..text.len() * 2 / 3]).expect("written");
        let ran = new.run(&["import", broken.to_str().expect("a path")]);
        assert!(ran.code == 74 && ran.err.contains(" of the backup: "), "{ran:?}");
        assert_eq!(names(&new.path().join("state")), ["owner"]);
        // Nor does one that was cut off between two lines, where events and queues are still to come.
        let whole: Vec<&str> = text.lines().collect();
        std::fs::write(&broken, whole[..200].join("\n")).expect("written");
        let ran = new.run(&["import", broken.to_str().expect("a path")]);
        assert!(ran.code == 74 && ran.err.contains("line 201 of the backup: it is cut off here"), "{ran:?}");
        std::fs::write(&broken, [&whole[..200], &whole[210..]].concat().join("\n")).expect("written");
        let ran = new.run(&["import", broken.to_str().expect("a path")]);
        assert!(ran.code == 74 && ran.err.contains("lines are before it"), "{ran:?}");
        assert_eq!(names(&new.path().join("state")), ["owner"]);
        // The store that a compaction was about to replace, and a mark that was left behind, are not overwritten.
        // What a killed one left is not a store, and goes with the next opening.
        std::fs::create_dir_all(new.path().join("state/import/sled")).expect("made");
        for name in ["sled-before-compact", "mark"] {
            let there = new.path().join("state").join(name);
            std::fs::write(&there, "1").expect("written");
            let ran = new.run(&["import", path]);
            assert!(ran.code == 1 && ran.err.contains("has a store already") && there.exists(), "{ran:?}");
            std::fs::remove_file(&there).expect("removed");
        }
        let ran = new.run(&["import", path]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("300 records") || ran.out.contains("299 records"), "{ran:?}");
        // What comes out of it again is what went in, except for the stream.
        let back = new.path().join("back.jsonl");
        assert_eq!(new.run(&["export", back.to_str().expect("a path")]).code, 0);
        let lines = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().skip(1).filter(|l| !l.starts_with("{\"attempt")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&std::fs::read_to_string(&back).expect("read")), lines(&text));
        assert_eq!(lines(&std::fs::read_to_string(&compacted).expect("read")).len(), lines(&text).len());

        receiver.status("/me", 200);
        let daemon = new.start();
        let told = || receiver.taken("/me").into_iter().filter(|r| r.body["type"] == "bellpull.store.reset");
        let taken = || receiver.taken("/me").into_iter().filter(|r| r.body["type"] != "bellpull.store.reset");
        until("what waited arrives, and that the stream is another", || taken().count() == 2 && told().count() == 1);
        assert_eq!(told().next().expect("one").body["data"]["stream"], new.json(&["status"])["stream"]);
        let bodies: Vec<_> = taken().map(|r| (r.body["k"].clone(), r.body["n"].clone())).collect();
        assert!(bodies.contains(&("7".into(), 1.into())) || bodies.contains(&("7".into(), 2.into())), "{bodies:?}");
        let after = orders(&new);
        assert_eq!((&after["records"], &after["sequence"]), (&before["records"], &before["sequence"]));
        assert!(
            dead(&new) == 2 || dead(&new) == 3,
            "the receiver that refuses refuses that the stream is another, too"
        );
        assert_ne!(new.json(&["status"])["stream"], stream);
        // Nothing is detected twice, and what is new goes on in the sequence.
        upstream.put("1", r#"{"id":1,"v":5}"#);
        until("the next event", || taken().count() == 3);
        assert_eq!(taken().nth(2).expect("three").body["n"], 3);
        assert_eq!(told().count(), 1, "told once");
        receiver.status("/other", 200);
        assert_eq!(new.run(&["replay", "--dead"]).code, 0);
        until("the dead letters", || receiver.taken("/other").len() >= 2);
        drop(daemon);
    })
    .await
    .expect("it does not panic");
}
