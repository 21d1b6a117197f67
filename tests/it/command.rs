//! `source.command`: programs that answer, fail, hang, flood, and leave children behind.

use std::{path::Path, time::Duration};

use bellpull::poller::Polling;
use tokio::time::Instant;

use crate::support::{rig::World, server::eventually};

/// A bridge over what a shell script prints; the test's shell, not bellpull's.
fn script(script: &str, lines: &str) -> String {
    format!(
        "[bridge.orders]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\n[bridge.orders.source.command]\n\
         argv = [\"/bin/sh\", \"-c\", '''{script}''', \"name\", \"a b; $HOME\"]\n{lines}\n"
    )
}

#[tokio::test]
async fn its_output_is_the_document() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("orders.json");
    std::fs::write(&file, r#"[{"id":1},{"id":2}]"#).expect("written");
    let mut world = World::start(&script(&format!("cat {}", file.display()), "")).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    std::fs::write(&file, r#"[{"id":1,"v":1},{"id":3}]"#).expect("written");
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.created 3 #1", "orders.updated 1 #2", "orders.deleted 2 #3"]);
    assert_eq!(world.poll().await, Polling::Unchanged);
}

/// A program cuts texts as carelessly as an API does.
#[tokio::test]
async fn half_a_surrogate_pair_of_a_program_stops_no_record() {
    let print = r#"printf '%s' '[{"id":1},{"id":2,"t":"x \ud83d"}]'"#;
    let mut world = World::start(&script(print, "")).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    assert_eq!(world.rig.snapshot().await["2"], "{\"id\":2,\"t\":\"x \u{fffd}\"}");
    assert_eq!(world.rig.polled().progress.flaws.replaced, 1);
}

#[tokio::test]
async fn arguments_are_no_shell_words_and_the_environment_is_what_the_file_gives() {
    let print = r#"printf '[{"id":"%s"},{"id":"%s"},{"id":"%s"}]' "$1" "$TOKEN" "${CARGO_MANIFEST_DIR:-none of ours}""#;
    let mut world = World::start(&script(print, "env = { TOKEN = { value = \"hunter2-secret\" } }")).await;
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the test has one to leak");
    world.poll().await;
    let keys: Vec<String> = world.rig.snapshot().await.into_keys().collect();
    assert_eq!(keys, ["a b; $HOME", "hunter2-secret", "none of ours"]);
}

#[tokio::test]
async fn an_exit_that_is_not_0_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let fails = dir.path().join("fails");
    let text = format!(
        "echo '[{{\"id\":1}}]'; if [ -e {} ]; then echo \"no route, token $TOKEN\" >&2; exit 3; fi",
        fails.display()
    );
    let mut world = World::start(&script(&text, "env = { TOKEN = { value = \"hunter2-secret\" } }")).await;
    world.poll().await;
    let before = world.rig.export().await;
    std::fs::write(&fails, "").expect("written");
    assert!(world.rig.poll().await.result.is_err());
    let error = world.rig.polled().progress.last_error.clone().expect("an error");
    assert_eq!(error, "the program /bin/sh: exit status: 3: no route, token ***");
    assert_eq!(world.rig.export().await, before);
}

/// Whether a process still is, other than as a corpse.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    let text = format!("sleep 600 & echo $! > {}; echo '['; wait", pid.display());
    let mut world = World::start(&script(&text, "timeout = \"500ms\"")).await;
    let began = Instant::now();
    let error = world.fail().await;
    assert_eq!(error, "the program /bin/sh: it did not end within 500ms (`timeout`)");
    assert!(began.elapsed() < Duration::from_secs(10));
    let pid = std::fs::read_to_string(&pid).expect("the child began").trim().to_owned();
    eventually("the child is gone", async || !lives(&pid)).await;
}

#[tokio::test]
async fn a_child_that_outlives_it_is_killed_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    // The child lets go of the output, so that the poll ends without it.
    let text = format!("sleep 600 >/dev/null 2>&1 & echo $! > {}; echo '[]'", pid.display());
    let mut world = World::start(&script(&text, "")).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 0 });
    let pid = std::fs::read_to_string(&pid).expect("the child began").trim().to_owned();
    eventually("the child is gone", async || !lives(&pid)).await;
}

/// Helpers such as ssh's ControlPersist and gpg-agent stay, and hold what the program had open. The program had ended
/// and all its output was there, and the poll failed at `timeout`.
#[tokio::test]
async fn what_was_read_counts_whoever_holds_the_pipe() {
    for redirect in ["", ">/dev/null", "2>/dev/null"] {
        let dir = tempfile::tempdir().expect("a directory");
        let pid = dir.path().join("pid");
        let text = format!("sleep 600 {redirect} & echo $! > {}; echo '[{{\"id\":1}}]'", pid.display());
        let mut world = World::start(&script(&text, "timeout = \"20s\"")).await;
        let began = Instant::now();
        assert_eq!(world.poll().await, Polling::Baseline { records: 1 }, "sleep {redirect}");
        assert!(began.elapsed() < Duration::from_secs(10), "sleep {redirect}");
        let pid = std::fs::read_to_string(&pid).expect("the child began").trim().to_owned();
        eventually("the child is gone", async || !lives(&pid)).await;
    }
}

/// The output of a program that has ended is not whole while a child still writes it.
#[tokio::test]
async fn a_child_that_still_writes_is_waited_for() {
    let text = "(for id in 2 3 4; do sleep 0.3; echo \"{\\\"id\\\":$id}\"; done) & echo '{\"id\":1}'";
    let lines = "decode.ndjson = {}\ntimeout = \"20s\"";
    let mut world = World::start(&script(text, lines)).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 4 });
    let endless = "while :; do sleep 0.05; echo 1; done & echo 1";
    let error = World::start(&script(endless, "timeout = \"2s\"")).await.fail().await;
    assert_eq!(error, "the program /bin/sh: a child that it left behind did not end within 2s (`timeout`)");
}

/// Checks of monitoring exit with 1 or 2 beside their data.
#[tokio::test]
async fn the_file_says_which_exits_are_a_success() {
    let exits = |code: &str, lines: &str| script(&format!("echo '[{{\"id\":1}}]'; {code}"), lines);
    for code in ["exit 0", "exit 1", "exit 2"] {
        let mut world = World::start(&exits(code, "exit = [0, 1, 2]")).await;
        assert_eq!(world.poll().await, Polling::Baseline { records: 1 }, "{code}");
    }
    for (code, lines, expected) in [
        ("exit 3", "exit = [0, 1, 2]", "exit status: 3"),
        ("exit 0", "exit = [1]", "exit status: 0"),
        ("kill -9 $$", "exit = [0, 9, 137]", "signal: 9 (SIGKILL)"),
    ] {
        let mut world = World::start(&exits(code, lines)).await;
        assert_eq!(world.fail().await, format!("the program /bin/sh: {expected}"), "{code}");
    }
}

#[tokio::test]
async fn a_flood_ends_at_the_limit() {
    let mut world = World::start(&script("yes '[1],'", "size-max = \"1MiB\"")).await;
    let error = world.fail().await;
    assert_eq!(error, "the program /bin/sh: its output is larger than 1048576 bytes (`size-max`)");
    // What it says on the side is read too: a full pipe would stop it.
    let mut world = World::start(&script("head -c 1000000 /dev/zero >&2; echo '[]'", "")).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 0 });
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let text = script("", "").replace("\"/bin/sh\", \"-c\"", "\"/no/such/program\"");
    let mut world = World::start(&text).await;
    let error = world.fail().await;
    assert!(error.starts_with("the program /no/such/program: failed to start: No such file"), "{error}");
}

/// An item of data became options and several words of the command line.
#[tokio::test]
async fn what_jq_makes_is_one_word_unless_the_file_says_many() {
    let bridge = |word: &str| {
        format!(
            "[bridge.orders]\nevery = \"1h\"\nitems = \".[]\"\nkey = \".\"\nto = [\"me\"]\n[bridge.orders.source.command]\n\
             argv = [\"/bin/sh\", \"-c\", '''printf '[\"%s\"]' \"$#\" ''', \"name\", {word}]\n"
        )
    };
    let mut world = World::start(&bridge("{ jq = '[\"a\", \"--b\"]', many = true }")).await;
    world.poll().await;
    assert_eq!(world.rig.snapshot().await.into_keys().collect::<Vec<_>>(), ["2"]);
    let mut world = World::start(&bridge("{ jq = '[\"a\", \"--b\"]' }")).await;
    let error = world.fail().await;
    assert!(error.contains("many = true"), "{error}");
    let mut world = World::start(&bridge("{ jq = '\"a --b\"' }")).await;
    world.poll().await;
    assert_eq!(world.rig.snapshot().await.into_keys().collect::<Vec<_>>(), ["1"]);
}
