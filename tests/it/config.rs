//! Configurations: each wrong one beside the exact message that it must give, and the right ones.

use std::path::{Path, PathBuf};

use bellpull::config::{self, Secrets};
use expect_test::expect_file;

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn each_wrong_file_gives_its_message() {
    let files = files("tests/config/bad");
    assert!(files.len() >= 30, "{} files", files.len());
    for file in files {
        let failed = config::load(&file, Secrets::FormOnly).err();
        let failed = failed.unwrap_or_else(|| panic!("{} is not wrong", file.display()));
        let dir = format!("{}/", file.parent().expect("a directory").display());
        let text = failed.to_string().replace(&dir, "");
        assert!(text.contains(": error: "), "{}: {text}", file.display());
        expect_file![file.with_extension("expected")].assert_eq(&text);
    }
}

/// Who has only a chat never heard that a bridge fails: the chat refused the standard event for three days.
#[test]
fn alarms_that_nobody_takes_are_warned_of() {
    let warned = |to: &str, alert: &str, chat: &str| {
        let text = format!(
            "[bridge.a]\nevery = \"1m\"\nto = {to}\n{alert}\nsource.http.url = \"https://example.com/a\"\n\
             [endpoint.chat]\nurl = {{ env = \"CHAT\" }}\n{chat}\n[endpoint.plain]\nurl = {{ env = \"PLAIN\" }}\n"
        );
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("bridges.toml");
        std::fs::write(&file, text).expect("written");
        let config = config::load(&file, Secrets::FormOnly).unwrap_or_else(|failed| panic!("{failed}"));
        config.warnings.iter().map(|warning| warning.message.clone()).collect::<Vec<_>>().join("\n")
    };
    let payload = "payload = '{ text: .type }'";
    let both = format!("{payload}\noperational.payload = '{{ text: .type }}'");
    let only = "of [bridge.a] names only endpoints that have a `payload`";
    for (to, alert, chat, expected) in [
        (r#"["chat"]"#, "", payload, "`to` "),
        // One bridge's own shape says nothing of what the receiver takes else.
        (r#"[{ endpoint = "chat", payload = ".data" }]"#, "", "", ""),
        (r#"["plain"]"#, r#"alert.to = ["chat"]"#, payload, "`alert.to` "),
        (r#"["chat", "plain"]"#, "", payload, ""),
        (r#"["chat"]"#, r#"alert.to = ["plain"]"#, payload, ""),
        (r#"["chat"]"#, "", "", ""),
        (r#"["chat"]"#, "", &both, ""),
        (
            r#"["chat", "plain"]"#,
            r#"alert.to = ["chat"]"#,
            "operational = false",
            "`alert.to` of [bridge.a] names only endpoints with `operational = false`",
        ),
        (r#"["chat", "plain"]"#, "", "operational = false", ""),
    ] {
        let warned = warned(to, alert, chat);
        if expected.is_empty() {
            assert_eq!(warned, "", "{to} {alert} {chat}");
        } else {
            let expected = if expected.ends_with(' ') { format!("{expected}{only}") } else { expected.to_owned() };
            assert!(warned.starts_with(&expected), "{to} {alert} {chat}: {warned}");
        }
    }
}

/// A pod's address is not known when the file is written, and `hosts` took it from nowhere.
#[test]
fn hosts_may_stand_in_the_environment() {
    // One that is there wherever tests run, and holds no host.
    let read = |hosts: &str, secrets| {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("bridges.toml");
        std::fs::write(&file, format!("[daemon]\nhosts = [{hosts}]\n")).expect("written");
        config::load(&file, secrets).map(|config| config.daemon.hosts).map_err(|failed| failed.to_string())
    };
    let absent = r#""bell.example", { env = "BELLPULL_NO_SUCH_VARIABLE" }"#;
    assert_eq!(read(absent, Secrets::FormOnly), Ok(vec!["bell.example".to_owned()]));
    let error = read(absent, Secrets::Read).expect_err("it is not there");
    assert!(error.contains("`daemon.hosts[1]`: the environment has no BELLPULL_NO_SUCH_VARIABLE"), "{error}");
    let error = read(r#"{ env = "CARGO_MANIFEST_DIR" }"#, Secrets::Read).expect_err("a path is not a host");
    assert!(error.contains("one of the hosts in CARGO_MANIFEST_DIR has a path"), "{error}");
    assert!(!error.contains(env!("CARGO_MANIFEST_DIR")), "what the variable holds is not told: {error}");
    let error = read("{ env = 3 }", Secrets::Read).expect_err("not a name");
    assert!(error.contains("must be a string"), "{error}");
}

#[test]
fn right_files_load() {
    let mut files = files("tests/config/good");
    assert!(files.len() >= 3);
    files.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("bridges.toml"));
    for file in files {
        if let Err(failed) = config::load(&file, Secrets::FormOnly) {
            panic!("{}:\n{failed}", file.display());
        }
    }
}
