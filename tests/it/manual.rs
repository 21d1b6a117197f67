//! `completions` and `man`: what they print is right for those who read it, a shell and a typesetter.

use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::daemon::run;

/// The commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let help = run(&["--help"]).out;
    let lines = help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1).take_while(|l| !l.trim().is_empty());
    let name = |line: &str| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned()).filter(|n| !n.is_empty());
    lines.filter_map(name).filter(|name| name != "help").collect()
}

/// A program with an input, or `None` where it is not installed.
fn feed(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: {program} does not run here: {error}");
            return None;
        }
    };
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    Some(child.wait_with_output().expect("it ends"))
}

fn silent(program: &str, ran: &Output) {
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.is_empty(), "{program}: {}: {said}", ran.status);
}

#[test]
fn each_shell_gets_a_script_of_all_commands() {
    let commands = commands();
    assert!(commands.len() >= 17, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        for command in &commands {
            assert!(ran.out.contains(command.as_str()), "{shell} does not know `{command}`");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).code, 64);
}

#[test]
fn shells_take_their_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let arguments: &[&str] = if shell == "fish" { &["--no-execute"] } else { &["-n"] };
        if let Some(ran) = feed(shell, arguments, &run(&["completions", shell]).out) {
            silent(shell, &ran);
        }
    }
}

#[test]
fn bash_completes_a_command_and_its_option() {
    let ask = |words: &str, last: &str, before: &str| {
        let count = words.split(' ').count() - 1;
        let script = run(&["completions", "bash"]).out;
        let ask = format!(
            "COMP_WORDS=({words}) COMP_CWORD={count}\n_bellpull bellpull '{last}' '{before}'\necho \"${{COMPREPLY[*]}}\"\n"
        );
        let ran = feed("bash", &["--norc"], &(script + &ask))?;
        silent("bash", &ran);
        Some(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    };
    if let Some(found) = ask("bellpull deliv", "deliv", "bellpull") {
        assert_eq!(found, "deliveries");
        assert_eq!(ask("bellpull check --res", "--res", "check").as_deref(), Some("--resolve"));
    }
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn each_command_has_a_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("made/man1");
    let ran = run(&["man", "--dir", pages.to_str().expect("a path")]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    let main = text(&pages.join("bellpull.1"));
    assert_eq!(main, run(&["man"]).out, "the page that is printed is the one that is written");
    for section in ["NAME", "SYNOPSIS", "OPTIONS", "SUBCOMMANDS", "EXAMPLES", "FILES", "EXIT STATUS", "SEE ALSO"] {
        assert!(main.lines().any(|l| l == format!(".SH {section}") || l == format!(".SH \"{section}\"")), "{section}");
    }
    for command in commands() {
        assert!(text(&pages.join(format!("bellpull-{command}.1"))).contains("\n.SH SYNOPSIS\n"), "{command}");
        assert!(main.contains(&format!("bellpull\\-{}(1)", command.replace('-', "\\-"))), "{command}");
    }
    assert!(text(&pages.join("bellpull-endpoint-test.1")).contains("bellpull.test"));
    let keys = text(&pages.join("bridges.toml.5"));
    for key in ["daemon.listen", "retry.schedule", "pages.KIND.end", "auth.oauth2.token\\-url", "decode.csv.skip"] {
        assert!(keys.contains(&format!("\\fB{key}\\fR")), "{key}");
    }
    for entry in std::fs::read_dir(&pages).expect("the directory") {
        let file = entry.expect("a page").path();
        let path = file.to_str().expect("a path");
        // -ww: every warning. The head of a page is plain, whatever the terminal does with bold text.
        if let Some(ran) = feed("groff", &["-man", "-Tutf8", "-ww", path], "") {
            silent("groff", &ran);
            let head = if path.ends_with(".5") { "File Formats Manual" } else { "General Commands Manual" };
            assert!(String::from_utf8_lossy(&ran.stdout).contains(head), "{path}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_of_output() {
    let ran = run(&["man", "--dir", "/dev/null/pages"]);
    assert_eq!((ran.code, ran.out.as_str()), (74, ""));
    assert!(ran.err.starts_with("failed to write the manual: "), "{}", ran.err);
}
