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
    // Whole or not at all, and never into a file of somebody else's.
    let mut part = path.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let failed = |e: std::io::Error| Failure::new(IO, format!("failed to write {}: {e}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
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
    if written.is_err() {
        // The failure is told; what is left of it is named after the file.
        let _ = std::fs::remove_file(&part);
    }
    written
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
