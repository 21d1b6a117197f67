//! README does what it says: each of its commands is run here, and a new one fails until it is.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use bellpull::{model::Timestamp, sign::Key};

use crate::support::daemon::{bellpull, run};

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md")
}

/// The lines of all blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            out.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    out
}

/// `demo` never ends by itself: five webhooks are what README promises.
fn demo_shows_five() {
    let mut child = bellpull().arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let verified = lines.filter(|line| line.contains("# verified by standardwebhooks")).take(5).count();
    let interrupted = std::process::Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(interrupted.expect("kill runs").success());
    assert!(child.wait().expect("it ends").success());
    assert_eq!(verified, 5);
}

#[test]
fn every_command_is_run() {
    let text = readme();
    let commands: Vec<String> =
        blocks(&text, "sh").iter().flat_map(|b| b.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands.iter().map(|c| c.split(" #").next().unwrap_or(c).trim()) {
        match command {
            "cargo run --release -- demo" => demo_shows_five(),
            // This very run, and the build before it.
            "cargo test" | "cargo build --release" => {}
            "target/release/bellpull check bridges.toml" => {
                let ran = run(&["check", "bridges.toml"]);
                assert_eq!(ran.code, 0, "{}", ran.err);
            }
            "target/release/bellpull secret" => {
                assert!(Key::parse(run(&["secret"]).out.trim()).is_ok());
            }
            "target/release/bellpull recipe" => {
                assert!(run(&["recipe"]).out.lines().any(|line| line.starts_with("stripe ")))
            }
            "target/release/bellpull recipe stripe" | "target/release/bellpull recipe stripe > bridges.toml" => {
                assert!(run(&["recipe", "stripe"]).out.contains("[bridge.stripe"));
            }
            other => panic!("README's command `{other}` is run by no test"),
        }
    }
}

#[test]
fn the_first_file_is_right_and_short() {
    let text = readme();
    let first = blocks(&text, "toml").into_iter().next().expect("a file");
    assert!(first.lines().filter(|line| !line.is_empty()).count() <= 10, "ten lines");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bridges.toml");
    std::fs::write(&file, first).expect("written");
    let ran = run(&["check", file.to_str().expect("a path")]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn the_shown_webhook_verifies_and_its_patch_applies() {
    let text = readme();
    let request = blocks(&text, "http").into_iter().next().expect("a webhook");
    let (head, body) = request.split_once("\n\n").expect("headers and a body");
    let headers: BTreeMap<&str, &str> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let body = body.replace('\n', "");
    let secret = text.split('`').find(|word| word.starts_with("whsec_")).expect("the secret is named");
    let key = Key::parse(secret).expect("a secret");
    let at: i64 = headers["webhook-timestamp"].parse().expect("seconds");
    let verdict = key.verify(|name| headers.get(name).copied(), body.as_bytes(), Timestamp(at * 1000));
    assert_eq!(verdict, Ok(()));
    let event: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let data = &event["data"];
    let patch: json_patch::Patch = serde_json::from_value(data["patch"].clone()).expect("RFC 6902");
    let mut value = data["before"].clone();
    json_patch::patch(&mut value, &patch).expect("it applies");
    assert_eq!(value, data["after"]);
}

/// Reference and `--help` agree.
#[test]
fn every_command_of_the_line_is_described() {
    let text = readme();
    let help = run(&["--help"]).out;
    let commands = help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1);
    let mut seen = 0;
    for line in commands.take_while(|l| !l.trim().is_empty()) {
        let Some(name) = line.strip_prefix("  ").and_then(|l| l.split(' ').next()).filter(|n| !n.is_empty()) else {
            continue;
        };
        if name != "help" {
            assert!(text.contains(&format!("`{name}")), "README does not describe `{name}`");
            seen += 1;
        }
    }
    assert!(seen >= 17, "{help}");
}
