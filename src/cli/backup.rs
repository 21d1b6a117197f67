//! `export` and `import`: a backup of one consistent state, and the way back.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{CONFIG, Done, FAILED, Failure, IO, client::Client, print};
use crate::{
    config::Config,
    store::{self, sled::SledEngine},
};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Where to write it, mode 0600; else standard output
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
    let Some(path) = &args.file else {
        return client.export(&mut bar.wrap_write(std::io::stdout())).await;
    };
    // Whole or not at all: half a backup must not look like one.
    let part = path.with_extension("part");
    let failed = |e: std::io::Error| Failure::new(IO, format!("failed to write {}: {e}", path.display()));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    let mut out = bar.wrap_write(file);
    client.export(&mut out).await?;
    out.flush().map_err(failed)?;
    let file = File::open(&part).map_err(failed)?;
    file.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(failed)
}

/// Fills an empty state directory; a daemon must not run.
pub(super) async fn import(client: Client, args: &ImportArgs) -> Done {
    let Client::Alone { config, .. } = client else {
        return Err(Failure::new(FAILED, "a daemon runs on this state directory: stop it first"));
    };
    let (dir, file) = (config.daemon.state_dir.clone(), args.file.clone());
    if dir.join("sled").exists() {
        let dir = dir.display();
        return Err(Failure::new(FAILED, format!("{dir} has a store already: move it away first")));
    }
    let read = tokio::task::spawn_blocking(move || read(&config, &file));
    let imported = read.await.map_err(|e| Failure::new(IO, e.to_string()))??;
    print(&format!(
        "{} bridges with {} records, {} events with {} deliveries; a new stream\n",
        imported.bridges, imported.records, imported.events, imported.deliveries
    ))
}

/// Writes the store anew, which gives its free space back to the disk.
pub(super) async fn compact(client: Client) -> Done {
    let Client::Alone { config, .. } = client else {
        return Err(Failure::new(FAILED, "a daemon runs on this state directory: stop it first"));
    };
    let bar = progress("compact", None);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let (dir, cache) = (config.daemon.state_dir.clone(), config.store.cache);
    if !dir.join("sled").exists() {
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
        // What was begun is no store.
        for name in ["sled", "mark"] {
            let path = dir.join(name);
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
        let code = if matches!(error, store::Error::Format { .. }) { CONFIG } else { IO };
        Failure::new(code, error.to_string())
    })
}
