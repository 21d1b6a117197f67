//! Credentials whose secrets were replaced in their files: a server refuses the old ones, and the new ones are used without a
//! reload.
//!
//! Variables of the environment do not change while a process runs. What signs (`jwt`, `wsse`, `digest`, `aws-sigv4`) and logins
//! that the configuration describes (`session`) stay as it was read.

use super::{Auth, With, files::Places, pair, vault::Vault};
use crate::settings::secret::Secret;

impl Auth {
    /// The same with what the files of its secrets hold; `None` where none was replaced.
    pub(super) fn renewed(&self, vault: &Vault) -> Option<Self> {
        let now = |secret: &Secret| vault.now(secret);
        let is_renewed = self.renewable().any(|secret| now(secret).is_some());
        is_renewed.then(|| self.with(&|secret| now(secret).unwrap_or_else(|| secret.clone())))
    }

    /// The server refuses it. Whether the files of its secrets hold others.
    pub(super) async fn is_outdated(&self, with: &With<'_>) -> bool {
        let mut outdated = false;
        for secret in self.renewable() {
            outdated |= with.vault.is_replaced(secret).await;
        }
        if let Some(renewed) = self.renewed(with.vault).filter(|_| outdated) {
            // What is made of them, too, such as the pair of a name and a password.
            renewed.secrets().into_iter().for_each(|secret| with.vault.note(secret));
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
