//! `export`: the store in a file of its own, so that nobody waits for a reader who is slow.

use std::{
    io::Seek,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{Admin, Error};
use crate::{model::EventId, store};

/// After so long an export says no more that all is well.
const EXPORT_MAX: Duration = Duration::from_secs(15 * 60);

/// Exports that are being made: since when each.
#[derive(Debug, Clone, Default)]
pub(super) struct Exports(Arc<Mutex<Vec<Instant>>>);

impl Exports {
    /// Whether bridges and deliveries may wait for one.
    pub fn are_made(&self) -> bool {
        self.0.lock().expect("no thread panics with it").iter().any(|began| began.elapsed() < EXPORT_MAX)
    }

    fn begin(&self) -> Export {
        let began = Instant::now();
        self.0.lock().expect("no thread panics with it").push(began);
        Export { began, all: self.clone() }
    }
}

/// Counts as long as it is held.
struct Export {
    began: Instant,
    all: Exports,
}

impl Drop for Export {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().expect("no thread panics with it");
        if let Some(own) = all.iter().position(|began| *began == self.began) {
            all.swap_remove(own);
        }
    }
}

impl Admin {
    /// One consistent state of the store as JSON lines, in a file that has no name any more. Writes wait while it is made.
    pub async fn export(&self) -> Result<std::fs::File, Error> {
        let path = self.config().daemon.state_dir.join(format!("export-{}.tmp", EventId::random()));
        let export = self.exports.begin();
        let make = move |engine: &dyn store::Engine| {
            let _export = export;
            Ok(spool(engine, &path))
        };
        self.store.read(make).await?
    }
}

/// One consistent state in a file without a name. That it cannot be written is the admin's, and no failure of the store.
fn spool(engine: &dyn store::Engine, path: &Path) -> Result<std::fs::File, Error> {
    let failed = |e: std::io::Error| Error::Refused(format!("failed to write the export to {}: {e}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    std::fs::remove_file(path).map_err(failed)?;
    engine.export(&mut file).map_err(|error| Error::Refused(format!("the export failed: {error}")))?;
    file.rewind().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryEngine;

    /// It was told as a failure of the store, which stopped polling and delivery.
    #[test]
    fn an_export_that_cannot_be_written_is_refused() {
        let refused = spool(&MemoryEngine::new(), Path::new("/nowhere/export.tmp")).expect_err("refused");
        assert!(matches!(&refused, Error::Refused(why) if why.contains("/nowhere/export.tmp")), "{refused}");
    }
}
