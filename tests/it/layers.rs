//! Imports point up in the list of `src/lib.rs` only: the order in which a change goes its way.

use std::path::{Path, PathBuf};

/// Modules in their order.
fn order(lib: &str) -> Vec<String> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The modules that a file names behind `crate::`, in `use` lines and in paths.
fn named(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            // The first word of each entry at this depth.
            let (mut depth, mut word, mut fresh) = (1, String::new(), true);
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => fresh = true,
                    c if depth == 1 && fresh && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ => {}
                }
                let ended = !c.is_alphanumeric() && c != '_';
                if ended && !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                    fresh = false;
                }
                if depth == 0 {
                    break;
                }
                if c == ',' && depth == 1 {
                    fresh = true;
                }
            }
        } else {
            out.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    out
}

fn arrows(order: &[String], module: &str, text: &str) -> Vec<String> {
    let rank = |name: &str| order.iter().position(|m| m == name);
    let own = rank(module).unwrap_or_else(|| panic!("{module} is in src/lib.rs"));
    named(text).into_iter().filter(|name| rank(name).is_some_and(|r| r > own)).collect()
}

#[test]
fn imports_point_up_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = order(&std::fs::read_to_string(src.join("lib.rs")).expect("src/lib.rs"));
    assert!(order.len() > 20, "{order:?}");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in files {
        let inner = file.strip_prefix(&src).expect("below src").with_extension("");
        let module = inner.iter().next().expect("a name").to_str().expect("UTF-8").to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("readable");
        seen += named(&text).len();
        wrong.extend(arrows(&order, &module, &text).into_iter().map(|to| format!("{} -> {to}", inner.display())));
    }
    assert!(seen > 100, "{seen} imports were found");
    assert!(wrong.is_empty(), "arrows that point down: {wrong:#?}");
}

#[test]
fn an_arrow_that_points_down_is_found() {
    let order: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    for text in [
        "use crate::c::X;",
        "use crate::{a, c::{X, Y}};",
        "use crate::{\n    a::{b, d},\n    c,\n};",
        "let x = crate::c::f();",
    ] {
        assert_eq!(arrows(&order, "b", text), ["c"], "{text}");
    }
    assert!(arrows(&order, "b", "use crate::{a::{c, X}, b};").is_empty());
}
