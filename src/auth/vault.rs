//! What logins have brought: tokens until they end, one for all bridges that log in the same way, and one login at a time.
//!
//! A refresh token that a server has replaced is the only key that is left: it is on disk before the token that came with it
//! is used.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Error,
    files::{Files, Places},
};
use crate::{
    compute::compute,
    http::hint::Budget,
    model::{Hash, Timestamp},
    settings::{redact::Index, secret::Secret},
};

/// How long others wait after a login that failed, before one of them tries again.
const FAILED_FOR: Duration = Duration::from_secs(5);
/// Of a token's life; a server's clock and the way there take some of it.
const UNUSED_SHARE: u32 = 10;
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// Cheap to clone; clones share what is in it.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    logins: Arc<Mutex<BTreeMap<Hash, Arc<tokio::sync::Mutex<Login>>>>>,
    known: Arc<Mutex<Known>>,
    files: Files,
    /// Where replaced refresh tokens are kept; `None`: nowhere, for tests.
    dir: Option<Arc<Path>>,
}

/// One login's state.
#[derive(Debug, Default)]
pub struct Login {
    pub token: Option<Token>,
    /// That replaced the file's.
    pub refresh: Option<Secret>,
    /// It is in memory only: the disk did not take it.
    pub unkept: bool,
    /// Of digest: the challenge with its count.
    pub challenge: Option<http_auth::PasswordClient>,
    /// Of a rotation: what is known of each credential.
    pub budgets: BTreeMap<usize, (Budget, Timestamp)>,
    failed: Option<(Error, Timestamp)>,
    read: bool,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub secret: Secret,
    /// `None`: until it is refused.
    pub until: Option<Timestamp>,
}

/// Logins and tokens that messages are cleared of after they are over: a server may speak of one that it has replaced.
const MADE_MAX: usize = 1000;

/// All that is secret: of the file, and what logins sent and brought.
#[derive(Debug, Default)]
struct Known {
    file: Vec<Secret>,
    /// Of the file before: answers to it may still come.
    before: Vec<Secret>,
    made: VecDeque<Secret>,
    /// Built with the first message.
    index: Option<Index>,
}

impl Token {
    /// A token that lives so long from now on.
    pub fn new(secret: Secret, life: Option<Duration>, now: Timestamp) -> Self {
        let used = |life: Duration| life.saturating_sub((life / UNUSED_SHARE).min(UNUSED_MAX));
        Self { secret, until: life.map(|life| now.plus(used(life))) }
    }
}

impl Vault {
    /// With a directory for replaced refresh tokens; made when there is one.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir: Some(dir.into()), ..Self::default() }
    }

    /// A login. Who holds the lock logs in, the others wait for it.
    pub async fn login(&self, login: Hash) -> tokio::sync::OwnedMutexGuard<Login> {
        let found = self.logins.lock().expect("no thread panics with it").entry(login).or_default().clone();
        found.lock_owned().await
    }

    /// The token of a login, from `fetch` where there is none that still lives.
    pub async fn token(
        &self,
        id: Hash,
        now: Timestamp,
        fetch: impl AsyncFnOnce(&mut Login) -> Result<Token, Error>,
    ) -> Result<Secret, Error> {
        let mut login = self.login(id).await;
        if let Some(token) = login.token.as_ref().filter(|token| token.until.is_none_or(|until| until > now)) {
            return Ok(token.secret.clone());
        }
        if let Some((error, at)) = login.failed.as_ref().filter(|(_, at)| now < at.plus(FAILED_FOR) && now >= *at) {
            tracing::debug!(since = %at, "the login failed a moment ago");
            return Err(error.clone());
        }
        match fetch(&mut login).await {
            Ok(token) => {
                self.note(&token.secret);
                login.failed = None;
                login.token = Some(token.clone());
                Ok(token.secret)
            }
            Err(error) => {
                login.token = None;
                login.failed = Some((error.clone(), now));
                Err(error)
            }
        }
    }

    /// The state of a refresh token, with what is on disk. Not the access token's: clients with other scopes share it.
    pub async fn refresh(&self, id: Hash) -> Result<tokio::sync::OwnedMutexGuard<Login>, Error> {
        let mut login = self.login(id).await;
        if !login.read {
            login.refresh = self.stored(id).await?;
            login.refresh.iter().for_each(|refresh| self.note(refresh));
            login.read = true;
        }
        Ok(login)
    }

    /// A token was refused: it is forgotten, unless another has taken its place already.
    pub async fn refused(&self, id: Hash, used: &Secret) {
        let mut login = self.login(id).await;
        if login.token.as_ref().is_some_and(|token| token.secret == *used) {
            login.token = None;
        }
    }

    /// The secrets of a file, in place of those of the file before.
    pub fn know(&self, file: Vec<Secret>) {
        let mut known = self.known.lock().expect("no thread panics with it");
        known.before = std::mem::replace(&mut known.file, file);
        known.index = None;
        drop(known);
        // All of them were read just now.
        self.files.forget();
    }

    /// What the file of a secret is known to hold instead.
    pub fn now(&self, secret: &Secret) -> Option<Secret> {
        self.files.of(secret)
    }

    /// A server refuses a secret. Whether its file holds another one.
    pub async fn is_replaced(&self, secret: &Secret) -> bool {
        self.files.look(secret, &|new: &Secret| self.note(new)).await
    }

    /// Looks at the files of refused secrets: which ones hold others now.
    pub async fn replaced(&self) -> Places {
        self.files.look_at_refused(&|new: &Secret| self.note(new)).await
    }

    /// One more that no message may hold: what a login sends or brings.
    pub fn note(&self, secret: &Secret) {
        let mut known = self.known.lock().expect("no thread panics with it");
        if known.made.contains(secret) {
            return;
        }
        if known.made.len() == MADE_MAX {
            known.made.pop_front();
        }
        known.made.push_back(secret.clone());
        if let Some(index) = &mut known.index {
            index.add(secret);
        }
    }

    /// A text without any part of what is secret.
    pub fn redact(&self, text: &str) -> String {
        let mut known = self.known.lock().expect("no thread panics with it");
        let Known { file, before, made, index } = &mut *known;
        let all = || Index::of(file.iter().chain(before.iter()).chain(made.iter()));
        index.get_or_insert_with(all).mask(text)
    }

    /// Keeps a refresh token that replaces the one before; on disk when this returns.
    pub async fn keep(&self, id: Hash, refresh: &Secret) -> Result<(), Error> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        let refresh = refresh.clone();
        let written = compute(move || write(&dir, id, &refresh)).await;
        let failed = |e: String| Error::Store(format!("a new refresh token could not be kept: {e}"));
        written.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
    }

    async fn stored(&self, id: Hash) -> Result<Option<Secret>, Error> {
        let Some(dir) = self.dir.clone() else { return Ok(None) };
        let read = compute(move || match fs::read_to_string(dir.join(id.to_string())) {
            Ok(text) => Ok(Some(Secret::new(text))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.to_string()),
        });
        let failed = |e: String| Error::Store(format!("a kept refresh token could not be read: {e}"));
        read.await.map_err(|e| failed(e.to_string()))?.map_err(failed)
    }
}

/// A new file in the place of the old one, both durable or neither.
fn write(dir: &Path, id: Hash, refresh: &Secret) -> std::io::Result<()> {
    if !dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Its own name is durable with its parent only.
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    let (path, new) = (dir.join(id.to_string()), dir.join(format!("{id}.new")));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(refresh.expose().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    fs::File::open(dir)?.sync_all()
}

/// Tells logins apart: the kind, and all that it sends.
pub fn id(kind: &str, parts: &[&str]) -> Hash {
    let mut text = kind.to_owned();
    for part in parts {
        // With its length, so that no part can pass for two.
        let _ = write!(text, " {}:{part}", part.len());
    }
    Hash::of(text.as_bytes())
}
