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
