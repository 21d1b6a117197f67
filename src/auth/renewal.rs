//! Secrets that were replaced in their files: a server refuses the old one, the file is read again, and the new one is used
//! without a reload.
//!
//! A file that cannot be read leaves the old value. Environment variables of a process do not change. What signs (`sign`, `jwt`,
//! `wsse`, `digest`, `aws-sigv4`) and logins that the file describes (`session`) stay as the configuration was read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{Auth, With, pair, vault::Vault};
use crate::{
    settings::secret::{Place, Secret},
    telemetry::kind,
};

/// A file is not read again sooner, however many requests are refused.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How long a request waits for a file: that of a network may never be read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// By the file. Clones share what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Renewals(Arc<Mutex<BTreeMap<Arc<Place>, Arc<Renewal>>>>);

/// One file, after its secret was refused.
#[derive(Debug, Default)]
struct Renewal {
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

impl Renewals {
    /// What the file of a secret is known to hold instead.
    fn of(&self, secret: &Secret) -> Option<Secret> {
        let place = secret.place()?;
        self.0.lock().expect("no thread panics with it").get(place)?.known().now
    }

    fn entry(&self, place: &Arc<Place>) -> Arc<Renewal> {
        self.0.lock().expect("no thread panics with it").entry(place.clone()).or_default().clone()
    }

    /// All files were read, by a reload.
    pub fn forget(&self) {
        self.0.lock().expect("no thread panics with it").clear();
    }

    /// Those that somebody may mend, with what was refused.
    fn refused(&self) -> Vec<(Arc<Renewal>, Secret)> {
        let all = self.0.lock().expect("no thread panics with it");
        all.values().filter_map(|renewal| Some((renewal.clone(), renewal.known().refused?))).collect()
    }
}

impl Renewal {
    fn known(&self) -> Known {
        self.known.lock().expect("no thread panics with it").clone()
    }

    fn note(&self, known: Known) {
        *self.known.lock().expect("no thread panics with it") = known;
    }

    /// Whether the file holds another secret than the one that was refused.
    async fn look(&self, refused: &Secret, vault: &Vault) -> bool {
        let Some(place) = refused.place().cloned() else { return false };
        let mut read = self.read.clone().lock_owned().await;
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
                vault.note(&found);
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

impl Auth {
    /// The same with what the files of its secrets hold; `None` where none was replaced.
    pub(super) fn renewed(&self, vault: &Vault) -> Option<Self> {
        let now = |secret: &Secret| vault.renewals.of(secret);
        let is_renewed = self.renewable().any(|secret| now(secret).is_some());
        is_renewed.then(|| self.with(&|secret| now(secret).unwrap_or_else(|| secret.clone())))
    }

    /// The server refuses it. Whether the files of its secrets hold others.
    pub(super) async fn is_outdated(&self, with: &With<'_>) -> bool {
        let mut outdated = false;
        for secret in self.renewable() {
            if let Some(place) = secret.place() {
                outdated |= with.vault.renewals.entry(place).look(secret, with.vault).await;
            }
        }
        outdated
    }

    /// Whether its secrets stand in one of these files.
    pub fn is_of(&self, places: &Places) -> bool {
        self.renewable().any(|secret| secret.place().is_some_and(|place| places.contains(place)))
    }

    /// Those of its secrets that may be replaced while it is used.
    fn renewable(&self) -> impl Iterator<Item = &Secret> {
        let is = match self {
            Self::Basic { .. } | Self::Bearer { .. } | Self::Header { .. } | Self::Headers(_) | Self::Query(_) => true,
            Self::Rotate(_) | Self::Oauth2(_) => true,
            Self::Jwt(_) | Self::Session(_) | Self::Wsse(_) | Self::Digest(_) | Self::Sigv4(_) => false,
        };
        is.then(|| self.secrets()).into_iter().flatten()
    }

    pub(super) fn with(&self, now: &dyn Fn(&Secret) -> Secret) -> Self {
        match self {
            Self::Basic { username, password, .. } => {
                let (username, password) = (username.clone(), now(password));
                Self::Basic { pair: pair(&username, &password), username, password }
            }
            Self::Bearer { secret } => Self::Bearer { secret: now(secret) },
            Self::Header { name, value, prefix } => {
                Self::Header { name: name.clone(), value: now(value), prefix: prefix.clone() }
            }
            Self::Headers(all) => Self::Headers(all.iter().map(|(name, secret)| (name.clone(), now(secret))).collect()),
            Self::Query(all) => Self::Query(all.iter().map(|(name, secret)| (name.clone(), now(secret))).collect()),
            Self::Rotate(rotate) => Self::Rotate(rotate.with(now).into()),
            Self::Oauth2(oauth2) => Self::Oauth2(oauth2.with(now).into()),
            Self::Jwt(_) | Self::Session(_) | Self::Wsse(_) | Self::Digest(_) | Self::Sigv4(_) => self.clone(),
        }
    }
}

/// Files of secrets.
pub type Places = BTreeSet<Arc<Place>>;

/// Reads the files of refused secrets: which ones hold others now. What was refused can be tried at once.
pub async fn look(vault: &Vault) -> Places {
    let mut renewed = Places::new();
    for (renewal, refused) in vault.renewals.refused() {
        if renewal.look(&refused, vault).await {
            renewed.extend(refused.place().cloned());
        }
    }
    renewed
}
