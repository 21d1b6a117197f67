//! The quick form of the fault kit (`tests/faults/`): a disk that fails, a machine that stops, both with the whole daemon.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::support::daemon::bellpull;

/// Whether a program answers.
fn is_here(program: &str, argument: &str) -> bool {
    let ran = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

#[test]
fn the_quick_row_of_the_fault_kit_passes() {
    if !is_here("cc", "--version") || !is_here("python3", "--version") {
        println!("skipped: the fault kit needs cc and python3");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/run.sh");
    let ran = Command::new(script).arg(bellpull().get_program()).arg("quick").output().expect("it runs");
    let out = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    let last = out.lines().last().unwrap_or_default();
    assert!(ran.status.success() && last.contains(" passed, 0 failed"), "{out}");
}
