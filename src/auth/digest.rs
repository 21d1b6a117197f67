//! `auth.digest` (RFC 7616): the password is never sent, an answer to the server's challenge is. The first request goes
//! without one and learns the challenge; later ones count its nonce.

use http_auth::{PasswordClient, PasswordParams};
use reqwest::header::{AUTHORIZATION, WWW_AUTHENTICATE};

use super::{Error, With, header, login, password, vault};
use crate::{
    http::{Answer, Request},
    model::Hash,
    settings::{Table, secret::Secret},
};

#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    username: String,
    pub password: Secret,
    id: Hash,
}

impl Digest {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (username, password) = (table.need(&login::USERNAME), table.need(&password::PASSWORD));
        let (username, password) = (username?, password?);
        let id = vault::id("digest", &[&username, password.expose()]);
        Some(Self { username, password, id })
    }

    /// Of one server: challenges of others mean nothing to it.
    fn at(&self, request: &Request) -> Hash {
        vault::id(&self.id.to_string(), &[&crate::http::origin(&request.url)])
    }

    pub async fn put(&self, request: &mut Request, with: &mut With<'_>) -> Result<(), Error> {
        let mut login = with.vault.login(self.at(request)).await;
        let Some(client) = &mut login.challenge else { return Ok(()) };
        let url = &request.url;
        let uri = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let answer = client.respond(&PasswordParams {
            username: &self.username,
            password: self.password.expose(),
            uri: &uri,
            method: request.method.as_str(),
            body: Some(request.body.as_deref().unwrap_or_default()),
        });
        request.headers.insert(AUTHORIZATION, header(answer.map_err(Error::Value)?)?);
        Ok(())
    }

    /// Takes the challenge of a 401; true when it is new.
    pub async fn learn(&self, sent: &Request, answer: &Answer, with: &mut With<'_>) -> bool {
        if answer.status != 401 {
            return false;
        }
        let challenges = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let mut builder = PasswordClient::builder();
        // Of Basic the password would be sent after all: http-auth is built without it, and passes over its challenges.
        for challenge in challenges {
            builder = builder.challenges(challenge);
        }
        let Ok(client) = builder.build() else { return false };
        with.vault.login(self.at(sent)).await.challenge = Some(client);
        true
    }
}
