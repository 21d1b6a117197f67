//! Files of secrets that a server refused: they are read again, since somebody may have put another secret into them.
//!
//! A file that cannot be read leaves the old secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use crate::{
    settings::secret::{Place, Secret},
    telemetry::kind,
};

/// A file is not read again sooner, however many requests are refused.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How long a request waits for a file: that of a network may never be read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Files of secrets.
pub type Places = BTreeSet<Arc<Place>>;

/// What is known of each. Clones share what is in it.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<Arc<Place>, Arc<File>>>>);

/// One file, after its secret was refused.
#[derive(Debug, Default)]
struct File {
    known: Mutex<Known>,
    /// When it was read. Who holds the lock reads; the others wait, and find what was read.
    read: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// What it holds now, if that is not what the configuration was read with.
    now: Option<Secret>,
    /// What was refused, while the file holds nothing else.
    refused: Option<Secret>,
}

impl Files {
    /// What the file of a secret is known to hold instead.
    pub fn of(&self, secret: &Secret) -> Option<Secret> {
        let place = secret.place()?;
        self.0.lock().expect("no thread panics with it").get(place)?.known().now
    }

    /// A server refuses a secret. Whether its file holds another one; `note` hears of that before it is used.
    pub async fn look(&self, refused: &Secret, note: &impl Fn(&Secret)) -> bool {
        let Some(place) = refused.place() else { return false };
        let file = self.0.lock().expect("no thread panics with it").entry(place.clone()).or_default().clone();
        file.look(place.clone(), refused, note).await
    }

    /// Reads the files of refused secrets: which ones hold others now. What was refused can be tried at once.
    pub async fn look_at_refused(&self, note: &impl Fn(&Secret)) -> Places {
        let mut replaced = Places::new();
        for refused in self.refused() {
            if self.look(&refused, note).await {
                replaced.extend(refused.place().cloned());
            }
        }
        replaced
    }

    /// All files were read, by a reload.
    pub fn forget(&self) {
        self.0.lock().expect("no thread panics with it").clear();
    }

    /// What was refused, and may be replaced.
    fn refused(&self) -> Vec<Secret> {
        let all = self.0.lock().expect("no thread panics with it");
        all.values().filter_map(|file| file.known().refused).collect()
    }
}

impl File {
    fn known(&self) -> Known {
        self.known.lock().expect("no thread panics with it").clone()
    }

    fn note(&self, known: Known) {
        *self.known.lock().expect("no thread panics with it") = known;
    }

    /// Whether it holds another secret than the one that was refused.
    async fn look(&self, place: Arc<Place>, refused: &Secret, note: &impl Fn(&Secret)) -> bool {
        let Ok(mut read) = timeout(READ_WITHIN, self.read.clone().lock_owned()).await else { return false };
        let known = self.known();
        // Another request was refused before, and has read it.
        if known.now.as_ref().is_some_and(|now| now.expose() != refused.expose()) {
            return true;
        }
        self.note(Known { refused: Some(refused.clone()), ..known });
        if read.is_some_and(|at| at.elapsed() < READ_EVERY) {
            return false;
        }
        *read = Some(Instant::now());
        // The lock goes with the work: one that hangs is not begun a second time.
        let reading = spawn_blocking(move || {
            let found = place.read();
            drop(read);
            (found, place)
        });
        let Ok(Ok((found, place))) = timeout(READ_WITHIN, reading).await else { return false };
        match found {
            Ok(found) if found.expose() == refused.expose() => false,
            Ok(found) => {
                note(&found);
                self.note(Known { now: Some(found), refused: None });
                let message_id = kind::SECRET_RENEWED;
                tracing::info!(message_id, file = %place, "a secret was refused, and its file holds another one: it is used");
                true
            }
            Err(error) => {
                tracing::debug!(error, "a secret was refused, and its file cannot be read: the old one is used");
                false
            }
        }
    }
}
