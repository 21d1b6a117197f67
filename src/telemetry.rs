//! The log: to journald under systemd, else to standard error, as text or JSON. `RUST_LOG`, else `log.level`, sets what is
//! said.

use std::{io::IsTerminal, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// What is said can be changed while the process runs.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Installs the log for the process. `format` of `None` is journald under systemd, else text.
pub fn init(format: Option<Format>, level: Option<&str>) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    // A second installation (tests) changes nothing.
    let installed = match format {
        None if std::env::var_os("JOURNAL_STREAM").is_some() => match tracing_journald::layer() {
            // Fields are BRIDGE=, ENDPOINT=, EVENT_ID=, ..., to be asked for by `journalctl BRIDGE=orders`.
            Ok(journal) => registry.with(journal.with_field_prefix(None)).try_init(),
            Err(_) => registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init(),
        },
        Some(Format::Json) => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        _ => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()
        }
    };
    if installed.is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// Says more or less from now on, where `RUST_LOG` does not decide.
pub fn set_level(level: Option<&str>) {
    if let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(filter(level))
    {
        tracing::warn!(%error, "failed to change what is logged");
    }
}

/// sled's own lines are of interest to nobody at `info`.
fn filter(level: Option<&str>) -> EnvFilter {
    let level = level.unwrap_or("info");
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{level},sled=warn")))
}
