//! The files that `include` names. What is there and cannot be read is an error: without it, bridges that it holds would be
//! taken for removed ones.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use glob::MatchOptions;
use toml::de::DeTable;

use crate::settings::{
    Context, Item,
    diagnostic::{Diagnostic, Place},
};

/// As a shell does it: a file that an editor or a mount hides is not meant by `*` (Kubernetes' `..data`, `.p.toml.swp`).
const SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: false, require_literal_leading_dot: true };

/// The files, in the order of the patterns, and what is wrong with them. `path` is the main file, `text` what it holds.
pub(super) fn files(path: &Path, text: &str) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let (table, _) = DeTable::parse_recoverable(text);
    let Some((_, value)) = table.get_ref().iter().find(|(key, _)| key.get_ref() == "include") else {
        return (Vec::new(), Vec::new());
    };
    let context = Context::new(false);
    let place = Place { file: 0, span: value.span() };
    let item = Item::new(&context, "include".into(), place, value.get_ref());
    let base = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for item in item.items().unwrap_or_default() {
        if let Some(pattern) = item.string() {
            of_pattern(&item, base, pattern, &mut found);
        }
    }
    (found, context.into_diagnostics())
}

fn of_pattern(item: &Item<'_>, base: &Path, pattern: &str, found: &mut Vec<PathBuf>) {
    let full = base.join(pattern);
    let unreadable = |path: &Path, error: &io::Error| {
        item.error(format!("`{}`: failed to read {}: {error}", item.path, path.display()))
            .help("what it holds would be taken for removed: make it readable, or take it away".into())
            .report();
    };
    if !pattern.contains(['*', '?', '[']) {
        match std::fs::metadata(&full) {
            Ok(about) if about.is_file() => found.push(full),
            Ok(_) => item.error(format!("`{}`: {} is not a file", item.path, full.display())).report(),
            Err(error) if is_absent(&full, &error) => {
                item.error(format!("`{}`: the file {} does not exist", item.path, full.display())).report();
            }
            Err(error) => unreadable(&full, &error),
        }
        return;
    }
    let matches = match glob::glob_with(&full.to_string_lossy(), SHELL) {
        Ok(matches) => matches,
        Err(error) => {
            item.error(format!("`{}`: {pattern:?} is not a pattern: {error}", item.path)).report();
            return;
        }
    };
    if let Some((folder, error)) = unreadable_folder(&full) {
        unreadable(&folder, &error);
        return;
    }
    let before = found.len();
    let mut failed = false;
    for entry in matches {
        let (path, about) = match entry {
            Ok(path) => {
                let about = std::fs::metadata(&path);
                (path, about)
            }
            Err(error) => (error.path().to_owned(), Err(error.into())),
        };
        match about {
            Ok(about) if about.is_file() => found.push(path),
            Ok(about) if about.is_dir() && path.extension().is_none() => {}
            Ok(_) => {
                item.warn(
                    format!("`{}`: {} is not a file, and is left out", item.path, path.display()),
                    "take it away",
                );
            }
            Err(error) => {
                failed = true;
                unreadable(&path, &error);
            }
        }
    }
    if found.len() == before && !failed {
        let message = format!("`{}`: {} matches nothing", item.path, full.display());
        item.warn(message, "names that begin with a dot are never matched by a `*`");
    }
}

/// A path that is nowhere, and not a link that leads nowhere.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && !path.is_symlink()
}

/// The folder before the first wildcard that is there and cannot be read. The pattern's walk would take it for an absent one.
fn unreadable_folder(pattern: &Path) -> Option<(PathBuf, io::Error)> {
    let is_plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let mut folder = PathBuf::new();
    for part in pattern.components().take_while(is_plain) {
        folder.push(part);
        match std::fs::metadata(&folder) {
            Ok(_) => {}
            Err(error) if is_absent(&folder, &error) => return None,
            Err(error) => return Some((folder, error)),
        }
    }
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
    match std::fs::read_dir(listed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some((folder, error)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::settings::diagnostic::Severity;

    /// What may happen to a file `x.toml` of a folder of included files, and what has to come of it.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Accident {
        None,
        Gone,
        Dangling,
        LinkToItself,
        Folder,
        Socket,
        /// A hidden one lies beside it.
        Hidden,
        /// The folder is a link that leads nowhere.
        FolderDangling,
        /// The folder is a file.
        FolderIsFile,
        /// Its mode is 0; root reads it all the same.
        FolderClosed,
    }

    const ACCIDENTS: [Accident; 10] = [
        Accident::None,
        Accident::Gone,
        Accident::Dangling,
        Accident::LinkToItself,
        Accident::Folder,
        Accident::Socket,
        Accident::Hidden,
        Accident::FolderDangling,
        Accident::FolderIsFile,
        Accident::FolderClosed,
    ];

    fn happens(accident: Accident, folder: &Path) {
        let file = folder.join("x.toml");
        let without = || std::fs::remove_file(&file).expect("removed");
        let all_gone = || std::fs::remove_dir_all(folder).expect("removed");
        match accident {
            Accident::None => {}
            Accident::Gone => without(),
            Accident::Dangling => {
                without();
                symlink("nowhere", &file).expect("linked");
            }
            Accident::LinkToItself => {
                without();
                symlink(&file, &file).expect("linked");
            }
            Accident::Folder => {
                without();
                std::fs::create_dir(&file).expect("made");
            }
            Accident::Socket => {
                without();
                drop(std::os::unix::net::UnixListener::bind(&file).expect("bound"));
            }
            Accident::Hidden => {
                for name in [".hidden.toml", "..data.toml", "._x.toml"] {
                    std::fs::write(folder.join(name), "broken =").expect("written");
                }
                std::fs::create_dir(folder.join("..2026")).expect("made");
                std::fs::write(folder.join("..2026/x.toml"), "").expect("written");
            }
            Accident::FolderDangling => {
                all_gone();
                symlink("nowhere", folder).expect("linked");
            }
            Accident::FolderIsFile => {
                all_gone();
                std::fs::write(folder, "").expect("written");
            }
            Accident::FolderClosed => {
                std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o0)).expect("set");
            }
        }
    }

    /// A folder that could not be read, a link whose target was not mounted: the bridges were removed, and nothing was said.
    #[test]
    fn what_is_there_and_cannot_be_read_is_an_error_and_never_absent() {
        let is_root = rustix::process::geteuid().is_root();
        for accident in ACCIDENTS {
            for pattern in ["conf.d/*.toml", "conf.d/**/*.toml", "*.d/*.toml", "conf.d/x.toml"] {
                for others in 0..3 {
                    let dir = tempfile::tempdir().expect("a directory");
                    let folder = dir.path().join("conf.d");
                    std::fs::create_dir(&folder).expect("made");
                    std::fs::write(folder.join("x.toml"), "").expect("written");
                    for other in 0..others {
                        std::fs::write(folder.join(format!("other{other}.toml")), "").expect("written");
                    }
                    happens(accident, &folder);
                    let text = format!("include = [{pattern:?}]");
                    let (found, said) = files(&dir.path().join("bridges.toml"), &text);
                    if accident == Accident::FolderClosed {
                        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("set");
                    }
                    let what = format!("{accident:?} {pattern} {others}: {found:?} {said:?}");
                    let has = |severity: Severity| said.iter().any(|one| one.severity == severity);
                    let by_name = pattern == "conf.d/x.toml";
                    let readable = match accident {
                        Accident::None | Accident::Hidden => true,
                        Accident::FolderClosed => is_root,
                        _ => false,
                    };
                    // A pattern over folders does not name the folder: that it is none of them is not a failure.
                    let is_named = !pattern.starts_with('*');
                    let refused = match accident {
                        Accident::Dangling | Accident::LinkToItself => true,
                        Accident::FolderDangling | Accident::FolderIsFile => is_named,
                        Accident::FolderClosed => !is_root,
                        Accident::Gone | Accident::Folder | Accident::Socket => by_name,
                        Accident::None | Accident::Hidden => false,
                    };
                    assert_eq!(has(Severity::Error), refused, "{what}");
                    assert!(found.iter().any(|path| path.ends_with("x.toml")) == readable, "{what}");
                    let hidden = |path: &PathBuf| {
                        path.strip_prefix(dir.path()).is_ok_and(|own| own.to_string_lossy().contains("/."))
                    };
                    assert!(!found.iter().any(hidden), "{what}");
                    let count = usize::from(readable) + if by_name { 0 } else { others };
                    assert!(refused || found.is_empty() || found.len() == count, "{what}");
                    assert!(refused || !found.is_empty() || has(Severity::Warning), "silent: {what}");
                }
            }
        }
    }
}
