//! Imports point one way: up in the list of `src/lib.rs` between modules, and without a circle between the files of a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// `["source", "http", "walk"]` for `src/source/http/walk.rs`.
type Module = Vec<String>;

/// Modules in their order.
fn order(lib: &str) -> Vec<String> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

/// Every file below `src`, without its tests and comments.
fn files(dir: &Path, at: &[String], out: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned();
        let module: Module = at.iter().cloned().chain([name]).collect();
        if path.is_dir() {
            files(&path, &module, out);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            out.insert(module, code(&std::fs::read_to_string(&path).expect("readable")));
        }
    }
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The paths that a tree of imports stands for: `a::{b, c::{self, D}}` for `a::b`, `a::c` and `a::c::D`.
fn spread(prefix: &[String], tree: &str, out: &mut Vec<Module>) {
    let (mut depth, mut part, mut parts) = (0, String::new(), Vec::new());
    for c in tree.chars() {
        match c {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                part.push(c);
            }
        }
    }
    parts.push(part);
    for part in parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
        let (head, rest) = part.split_once('{').map_or((part, None), |(head, rest)| (head, rest.strip_suffix('}')));
        let names = head.split(" as ").next().unwrap_or_default().split("::").map(str::trim);
        let path: Module = prefix.iter().cloned().chain(names.filter(|n| !n.is_empty()).map(str::to_owned)).collect();
        match rest {
            Some(rest) => spread(&path, rest, out),
            None => out.push(path),
        }
    }
}

/// The paths that a file names, in `use` and where it stands.
fn named(text: &str) -> Vec<Module> {
    let mut out = Vec::new();
    for statement in text.split("use ").skip(1) {
        spread(&[], statement.split(';').next().unwrap_or_default(), &mut out);
    }
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if !text[..at].ends_with(is_path) {
                spread(&[], &text[at..].chars().take_while(|c| is_path(*c)).collect::<String>(), &mut out);
            }
        }
    }
    out
}

/// The file that a path leads into from a file, if it is one of ours.
fn target(of: &Module, path: &Module, files: &BTreeMap<Module, String>) -> Option<Module> {
    let mut base = of.clone();
    let mut rest = path.as_slice();
    match rest.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        // A module of this file, or another crate.
        _ => {}
    }
    let mut found = None;
    for part in rest {
        base.push(part.clone());
        if !files.contains_key(&base) {
            break;
        }
        found = Some(base.clone());
    }
    found
}

/// Who imports whom.
fn imports(files: &BTreeMap<Module, String>) -> Vec<(Module, Module)> {
    let of = |(file, text): (&Module, &String)| {
        let all = named(text).into_iter().filter_map(|path| target(file, &path, files));
        all.filter(|to| to != file).map(|to| (file.clone(), to)).collect::<BTreeSet<_>>()
    };
    files.iter().flat_map(of).collect()
}

/// The arrows that point down in the list, and the circles between what lies side by side in a folder.
fn wrong(order: &[String], arrows: &[(Module, Module)]) -> (Vec<String>, Vec<String>) {
    let rank = |module: &Module| order.iter().position(|name| *name == module[0]);
    let down = arrows.iter().filter(|(from, to)| rank(from).zip(rank(to)).is_some_and(|(from, to)| to > from));
    let down = down.map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::"))).collect();
    // From the folder to its arrows, each between the two parts of it that hold the files.
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, to) in arrows {
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if let (true, Some(a), Some(b)) = (shared > 0, from.get(shared), to.get(shared)) {
            let folder = folders.entry(from[..shared].to_vec()).or_default();
            folder.entry(a.clone()).or_default().insert(b.clone());
        }
    }
    let mut circles = Vec::new();
    for (folder, arrows) in folders {
        for start in arrows.keys() {
            let (mut seen, mut next) = (BTreeSet::new(), vec![start.clone()]);
            while let Some(at) = next.pop() {
                for to in arrows.get(&at).into_iter().flatten() {
                    if to == start {
                        circles.push(format!("{}: {start} imports {at}, which leads back to it", folder.join("/")));
                    } else if seen.insert(to.clone()) {
                        next.push(to.clone());
                    }
                }
            }
        }
    }
    (down, circles)
}

#[test]
fn imports_point_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = order(&std::fs::read_to_string(src.join("lib.rs")).expect("src/lib.rs"));
    assert!(order.len() > 20, "{order:?}");
    let mut all = BTreeMap::new();
    files(&src, &[], &mut all);
    all.retain(|module, _| module[0] != "main" && module[0] != "lib");
    assert!(all.keys().all(|module| order.contains(&module[0])), "a module is not in src/lib.rs");
    let arrows = imports(&all);
    let inside = arrows.iter().filter(|(from, to)| from[0] == to[0]).count();
    let (down, circles) = wrong(&order, &arrows);
    println!(
        "{} files, {} imports, {inside} of them inside a folder; {} point down, {} circles",
        all.len(),
        arrows.len(),
        down.len(),
        circles.len()
    );
    assert!(arrows.len() > 400 && inside > 100, "{} imports were found, {inside} inside", arrows.len());
    assert!(down.is_empty(), "arrows that point down: {down:#?}");
    assert!(circles.is_empty(), "circles: {circles:#?}");
}

#[test]
fn what_points_the_wrong_way_is_found() {
    let order: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let check = |of_b: &str, of_b_y: &str| {
        let texts = [("a", ""), ("a/x", ""), ("b", of_b), ("b/x", "use super::y::Y;"), ("b/y", of_b_y), ("c", "")];
        let module = |path: &str| path.split('/').map(str::to_owned).collect::<Module>();
        let files = texts.iter().map(|(path, text)| (module(path), code(text))).collect();
        let (down, circles) = wrong(&order, &imports(&files));
        (down.len(), circles.len())
    };
    for text in [
        "use crate::c::X;",
        "use crate::{a, c::{X, Y}};",
        "use crate::{\n    a::{x, d},\n    c,\n};",
        "f(crate::c::f())",
    ] {
        assert_eq!(check(text, ""), (1, 0), "{text}");
    }
    assert_eq!(check("use crate::a::x::X; // crate::c", "use std::fmt;"), (0, 0));
    for text in ["use super::x;", "use super::{x::X, z};", "use crate::b::x::{self, X};", "super::x::f()"] {
        assert_eq!(check("", text), (0, 2), "{text}");
    }
}
