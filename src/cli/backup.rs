//! `export` and `import`: a backup of one consistent state, and the way back.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::{CONFIG, Done, FAILED, Failure, IO, client::Client, print};
use crate::{
    config::Config,
    store::{self, sled::SledEngine},
};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Where to write it, mode 0600; else, and for `-`, standard output
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// What `export` wrote
    file: PathBuf,
}

/// Bytes as they come, on a terminal only.
fn progress(what: &'static str, length: Option<u64>) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if length.is_some() { "{msg} {wide_bar} {bytes}/{total_bytes}" } else { "{msg} {bytes} {spinner}" };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what)
}

pub(super) async fn export(client: Client, args: &ExportArgs) -> Done {
    let bar = progress("export", None);
    let Some(path) = args.file.as_deref().filter(|path| *path != Path::new("-")) else {
        return client.export(&mut bar.wrap_write(std::io::stdout())).await;
    };
    let path = &match target(path).map_err(|e| Failure::new(IO, format!("failed to write {}: {e}", path.display())))? {
        Target::Through(file) => return client.export(&mut bar.wrap_write(file)).await,
        Target::Whole(path) => path,
    };
    // Whole or not at all, and never into a file of somebody else's.
    let mut part = path.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let failed = |e: std::io::Error| Failure::new(IO, format!("failed to write {}: {e}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    let stopped = tokio::spawn(remove_when_stopped(part.clone()));
    let written = async {
        let mut out = bar.wrap_write(&file);
        client.export(&mut out).await?;
        out.flush().map_err(failed)?;
        file.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(failed)?;
        // Its name is durable with its directory only.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    };
    let written = written.await;
    stopped.abort();
    if written.is_err() {
        // The failure is told; what is left of it is named after the file.
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// How a file is written.
enum Target {
    /// A device, a pipe: what is there takes what is written, and is not replaced.
    Through(File),
    /// A file, whole or not at all. Where the path is a link, the file that it leads to.
    Whole(PathBuf),
}

fn target(path: &Path) -> std::io::Result<Target> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => path.canonicalize().map(Target::Whole),
        Ok(_) => OpenOptions::new().write(true).open(path).map(Target::Through),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Err(error) if path.is_symlink() => {
            Err(std::io::Error::new(error.kind(), "it is a link that leads nowhere: name the file, or remove the link"))
        }
        Err(_) => Ok(Target::Whole(path.to_owned())),
    }
}

/// Ctrl-C leaves no part of a backup behind.
async fn remove_when_stopped(part: PathBuf) {
    /// As a shell names the end by SIGINT.
    const INTERRUPTED: i32 = 130;
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    let _ = std::fs::remove_file(part);
    std::process::exit(INTERRUPTED);
}

/// Fills an empty state directory; a daemon must not run.
pub(super) async fn import(client: Client, args: &ImportArgs) -> Done {
    let Client::Alone { config, .. } = client else {
        return Err(Failure::new(FAILED, "a daemon runs on this state directory: stop it first"));
    };
    let (dir, file) = (config.daemon.state_dir.display(), args.file.clone());
    if SledEngine::is_in(&config.daemon.state_dir) {
        return Err(Failure::new(FAILED, format!("{dir} has a store already: move the whole directory away first")));
    }
    let read = tokio::task::spawn_blocking(move || read(&config, &file));
    let imported = read.await.map_err(|e| Failure::new(IO, e.to_string()))??;
    print(&format!(
        "{} bridges with {} records, {} events with {} deliveries; a new stream\n",
        imported.bridges, imported.records, imported.events, imported.deliveries
    ))
}

/// Writes the store again, which gives its free space back to the disk.
pub(super) async fn compact(client: Client) -> Done {
    let Client::Alone { config, .. } = client else {
        return Err(Failure::new(FAILED, "a daemon runs on this state directory: stop it first"));
    };
    let bar = progress("compact", None);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let (dir, cache) = (config.daemon.state_dir.clone(), config.store.cache);
    if !SledEngine::is_in(&dir) {
        return Err(Failure::new(FAILED, format!("{} has no store", dir.display())));
    }
    let work = tokio::task::spawn_blocking(move || SledEngine::compact(&dir, cache));
    let compacted = work.await.map_err(|e| Failure::new(IO, e.to_string()))?;
    let (before, after) = compacted.map_err(|e| Failure::new(IO, e.to_string()))?;
    bar.finish_and_clear();
    print(&format!("{before} bytes became {after}\n"))
}

fn read(config: &Config, path: &Path) -> Result<store::sled::import::Imported, Failure> {
    let failed = |e: std::io::Error| Failure::new(IO, format!("failed to read {}: {e}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut input = BufReader::new(progress("import", Some(length)).wrap_read(file));
    let dir = &config.daemon.state_dir;
    SledEngine::import(dir, config.store.cache, &mut input).map_err(|error| {
        let code = if matches!(error, store::Error::Format { .. }) { CONFIG } else { IO };
        Failure::new(code, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `export /dev/null` as root left a file in place of the device, which broke the programs of everybody else.
    #[test]
    fn only_nothing_and_a_file_are_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().canonicalize().expect("a path").join(name);
        std::fs::write(at("file"), "old").expect("written");
        std::os::unix::fs::symlink(at("file"), at("link")).expect("linked");
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        let whole = |path: PathBuf| match target(&path) {
            Ok(Target::Whole(path)) => path,
            _ => panic!("{}", path.display()),
        };
        assert_eq!(whole(at("file")), at("file"));
        assert_eq!(whole(at("link")), at("file"));
        assert_eq!(whole(at("new")), at("new"));
        assert!(matches!(target(Path::new("/dev/null")), Ok(Target::Through(_))));
        for refused in ["dangling", "socket", "."] {
            assert!(target(&at(refused)).is_err(), "{refused}");
        }
    }
}
