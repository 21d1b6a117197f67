//! The log: to journald under systemd, else to standard error, as text or JSON. `RUST_LOG` sets what is said.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Installs the log for the process. `format` of `None` is journald under systemd, else text.
pub fn init(format: Option<Format>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sled=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    // A second installation (tests) changes nothing.
    let _ = match format {
        None if std::env::var_os("JOURNAL_STREAM").is_some() => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init(),
        },
        Some(Format::Json) => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        _ => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()
        }
    };
}
