//! Tokens that were fetched: kept until they end, one for all bridges that log in the same way, and one login at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{model::Hash, settings::secret::Secret};

/// What is known of one login.
#[derive(Debug, Default)]
pub struct Held {
    pub token: Option<Secret>,
}

/// Cheap to clone; clones share the tokens.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    held: Arc<Mutex<BTreeMap<Hash, Arc<tokio::sync::Mutex<Held>>>>>,
}

impl Vault {
    /// The token of a login; who holds the lock logs in, the others wait for it.
    pub fn of(&self, login: Hash) -> Arc<tokio::sync::Mutex<Held>> {
        self.held.lock().expect("no thread panics with it").entry(login).or_default().clone()
    }
}
