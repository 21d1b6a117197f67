//! `auth.oauth2` (RFC 6749): a token of client credentials or of a refresh token, kept to its end. A server that replaces the
//! refresh token has taken the old one back: the new one is kept.

use std::sync::Arc;

use url::Url;

use super::{Error, NAME, TOKEN_URL, With, request, vault};
use crate::{
    model::Hash,
    settings::{
        Table,
        key::keys,
        secret::{SECRET, Secret},
    },
};
use vault::Token;

keys! {
    /// A token of OAuth 2.0 (RFC 6749).
    mod oauth2;
    /// Where a token is asked for.
    need TOKEN_URL: Url = "token-url", super::TOKEN_URL, "token-url = \"https://api.example.com/oauth/token\"";
    /// The client's id, a string or a secret.
    need CLIENT_ID: String = "client-id", super::NAME, "client-id = \"bellpull\"";
    /// The client's secret. A public client with a refresh token has none.
    maybe CLIENT_SECRET: Secret = "client-secret", SECRET, "required without `refresh-token`";
    /// The scopes that are asked for.
    or SCOPES: Vec<String> = "scopes", TEXTS, Vec::new;
    /// The `audience` parameter that some servers want.
    get AUDIENCE: String = "audience", TEXT;
    /// How a token is asked for; `"refresh-token"` needs `refresh-token`.
    or GRANT: bool = "grant", Form::words(&[("client-credentials", false), ("refresh-token", true)]), || false;
    /// The refresh token, a secret.
    get REFRESH_TOKEN: () = "refresh-token", Form::raw(Shape::Secret);
    /// Where id and secret go: `"basic"` is a header, `"body"` the form.
    or CLIENT_AUTH: bool = "client-auth", Form::words(&[("basic", false), ("body", true)]), || false;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Oauth2 {
    token_url: Url,
    client_id: String,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    audience: Option<String>,
    grant: Grant,
    /// The client's name and secret in the form instead of the header.
    in_body: bool,
    /// Tells it from other logins.
    pub id: Hash,
}

#[derive(Debug, Clone, PartialEq)]
enum Grant {
    ClientCredentials,
    RefreshToken(Secret),
}

impl Oauth2 {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (token_url, client_id) = (table.need(&oauth2::TOKEN_URL), table.need(&oauth2::CLIENT_ID));
        let (has_secret, client_secret) = (table.has(&oauth2::CLIENT_SECRET), table.get(&oauth2::CLIENT_SECRET));
        let (scopes, audience) = (table.or(&oauth2::SCOPES), table.get(&oauth2::AUDIENCE));
        let (refreshes, in_body) = (table.or(&oauth2::GRANT), table.or(&oauth2::CLIENT_AUTH));
        let refresh = match (refreshes, table.item(&oauth2::REFRESH_TOKEN)) {
            (true, Some(item)) => item.secret().map(Grant::RefreshToken),
            (false, None) => Some(Grant::ClientCredentials),
            (true, None) => {
                table
                    .error(format!("`refresh-token` is missing in {}", table.title()))
                    .missing()
                    .help("refresh-token = { file = \"/etc/bellpull/refresh-token\" }".into())
                    .report();
                None
            }
            (false, Some(item)) => {
                item.error(format!("`{}` needs grant = \"refresh-token\"", item.path)).report();
                None
            }
        };
        let mut oauth2 = Self {
            token_url: token_url?,
            client_id: client_id?,
            client_secret,
            scopes,
            audience,
            grant: refresh?,
            in_body,
            id: Hash::default(),
        };
        if !has_secret && oauth2.grant == Grant::ClientCredentials {
            table
                .error(format!(
                    "`client-secret` is missing in {}: client credentials are nothing without it",
                    table.title()
                ))
                .missing()
                .report();
            return None;
        }
        oauth2.id = oauth2.identity();
        Some(oauth2)
    }

    fn identity(&self) -> Hash {
        let secret = self.client_secret.as_ref().map_or("", Secret::expose);
        let refresh = match &self.grant {
            Grant::ClientCredentials => "",
            Grant::RefreshToken(refresh) => refresh.expose(),
        };
        let (scopes, audience) = (self.scopes.join(" "), self.audience.as_deref().unwrap_or_default());
        vault::id("oauth2", &[self.token_url.as_str(), &self.client_id, secret, refresh, &scopes, audience])
    }

    pub fn secrets(&self) -> Vec<&Secret> {
        let refresh = match &self.grant {
            Grant::ClientCredentials => None,
            Grant::RefreshToken(refresh) => Some(refresh),
        };
        self.client_secret.iter().chain(refresh).collect()
    }

    /// The access token.
    pub async fn token(self: &Arc<Self>, with: &mut With<'_>) -> Result<Secret, Error> {
        let (vault, now) = (with.vault.clone(), with.clock.now());
        vault.token(self.id, now, async |_| self.fetch(with).await).await
    }

    async fn fetch(self: &Arc<Self>, with: &With<'_>) -> Result<Token, Error> {
        match &self.grant {
            Grant::ClientCredentials => {
                let granted = self.ask(with, &[("grant_type", "client_credentials")]).await?;
                let life = granted.life();
                Ok(Token::new(Secret::new(granted.access_token), life, with.clock.now()))
            }
            Grant::RefreshToken(configured) => {
                let (oauth2, configured) = (self.clone(), configured.clone());
                let (client, clock, vault) = (with.client.clone(), with.clock.clone(), with.vault.clone());
                // On its own: a poll that gives up must not take the new refresh token with it.
                let refreshing = tokio::spawn(async move {
                    let with = With { client: &client, clock: &clock, vault: &vault };
                    oauth2.refresh(&with, &configured).await
                });
                refreshing.await.map_err(|e| Error::Store(format!("a refresh ended early: {e}")))?
            }
        }
    }

    /// A token of the refresh token, and the refresh token that may come with it. Ends by the timeout of its request.
    async fn refresh(&self, with: &With<'_>, configured: &Secret) -> Result<Token, Error> {
        let id = vault::id("refresh", &[self.token_url.as_str(), &self.client_id, configured.expose()]);
        let mut login = with.vault.refresh(id).await?;
        if login.unkept
            && let Some(refresh) = login.refresh.clone()
        {
            with.vault.keep(id, &refresh).await?;
            login.unkept = false;
        }
        let refresh = login.refresh.clone().unwrap_or_else(|| configured.clone());
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        let granted = self.ask(with, &form).await?;
        let life = granted.life();
        if let Some(new) = granted.refresh_token.map(Secret::new)
            && new != refresh
        {
            with.vault.note(&new);
            // In memory first: the server takes the old one no more, whatever the disk says.
            login.refresh = Some(new.clone());
            login.unkept = true;
            with.vault.keep(id, &new).await?;
            login.unkept = false;
        }
        Ok(Token::new(Secret::new(granted.access_token), life, with.clock.now()))
    }

    async fn ask(&self, with: &With<'_>, form: &[(&str, &str)]) -> Result<request::Granted, Error> {
        let scopes = self.scopes.join(" ");
        let mut form = form.to_vec();
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        form.extend(self.audience.as_deref().map(|audience| ("audience", audience)));
        let basic = match &self.client_secret {
            Some(secret) if !self.in_body => Some((self.client_id.as_str(), secret)),
            secret => {
                // A public client has a name only.
                form.push(("client_id", &self.client_id));
                form.extend(secret.as_ref().map(|secret| ("client_secret", secret.expose())));
                None
            }
        };
        request::grant(with, &self.token_url, &form, basic).await
    }
}
