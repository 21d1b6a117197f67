//! `auth.oauth2` (RFC 6749): a token of client credentials, of a refresh token or of a password, kept to its end. A
//! server that replaces the refresh token has taken the old one back: the new one is kept.

use std::sync::Arc;

use url::Url;

use super::{Error, NAME, TOKEN_URL, With, refusal, request, vault};
use crate::{
    expr::Expr,
    model::Hash,
    settings::{
        Item, Table,
        key::keys,
        secret::{SECRET, Secret},
        value::Value,
    },
};
use vault::Token;

/// The word for a [`Grant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    ClientCredentials,
    RefreshToken,
    Password,
}

const GRANTS: [(&str, Asks); 3] = [
    ("client-credentials", Asks::ClientCredentials),
    ("refresh-token", Asks::RefreshToken),
    ("password", Asks::Password),
];

keys! {
    /// A token of OAuth 2.0 (RFC 6749).
    mod oauth2;
    /// Where a token is asked for.
    need TOKEN_URL: Url = "token-url", super::TOKEN_URL, "token-url = \"https://api.example.com/oauth/token\"";
    /// The client's id, a string or a secret.
    need CLIENT_ID: String = "client-id", super::NAME, "client-id = \"bellpull\"";
    /// The client's secret. A public client has none.
    maybe CLIENT_SECRET: Secret = "client-secret", SECRET, "required for `\"client-credentials\"`";
    /// The scopes that are asked for.
    or SCOPES: Vec<String> = "scopes", TEXTS, Vec::new;
    /// The `audience` parameter that some servers want.
    get AUDIENCE: String = "audience", TEXT;
    /// How a token is asked for; `"refresh-token"` needs `refresh-token`, `"password"` (section 4.3) `username` and `password`. An
    /// answer with `id_token` and no `access_token` brings the ID token, which lives until its `exp`.
    or GRANT: Asks = "grant", Form::words(&GRANTS), || Asks::ClientCredentials;
    /// The refresh token, a secret; only with `grant = "refresh-token"`.
    maybe REFRESH_TOKEN: Secret = "refresh-token", SECRET, "required for `\"refresh-token\"`";
    /// The user name, a string or a secret; only with `grant = "password"`.
    maybe USERNAME: String = "username", super::NAME, "required for `\"password\"`";
    /// The password, a secret; only with `grant = "password"`.
    maybe PASSWORD: Secret = "password", SECRET, "required for `\"password\"`";
    /// Further parameters of the token request, strings and secrets: `{ resource = "https://example.com" }`.
    get PARAMS: Vec<(String, Secret)> = "params",
        Form::new(Shape::Named(&Shape::OneOf(&[Shape::Scalar, Shape::Secret])), read_params);
    /// Where id and secret go: `"basic"` is a header, `"body"` the form.
    or CLIENT_AUTH: bool = "client-auth", Form::words(&[("basic", false), ("body", true)]), || false;
    + refusal::FAMILY;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Oauth2 {
    token_url: Url,
    client_id: String,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    audience: Option<String>,
    /// Further parameters, which no RFC knows.
    params: Vec<(String, Secret)>,
    grant: Grant,
    /// The client's name and secret in the form instead of the header.
    in_body: bool,
    pub refused: Option<Expr>,
    /// Tells it from other logins.
    pub id: Hash,
}

#[derive(Debug, Clone, PartialEq)]
enum Grant {
    ClientCredentials,
    RefreshToken(Secret),
    /// Section 4.3: where a server knows users and no clients.
    Password {
        username: String,
        password: Secret,
    },
}

/// What bellpull itself puts into the form.
const OWN_PARAMS: [&str; 9] = [
    "grant_type",
    "scope",
    "audience",
    "client_id",
    "client_secret",
    "refresh_token",
    "username",
    "password",
    "assertion",
];

impl Oauth2 {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (token_url, client_id) = (table.need(&oauth2::TOKEN_URL), table.need(&oauth2::CLIENT_ID));
        let (has_secret, client_secret) = (table.has(&oauth2::CLIENT_SECRET), table.get(&oauth2::CLIENT_SECRET));
        let (scopes, audience) = (table.or(&oauth2::SCOPES), table.get(&oauth2::AUDIENCE));
        let (in_body, refused) = (table.or(&oauth2::CLIENT_AUTH), table.get(&refusal::REFUSED));
        let params = table.get(&oauth2::PARAMS).unwrap_or_default();
        let grant = match table.or(&oauth2::GRANT) {
            Asks::RefreshToken => {
                let example = "refresh-token = { file = \"/etc/bellpull/refresh-token\" }";
                table.need_now(&oauth2::REFRESH_TOKEN, example).map(Grant::RefreshToken)
            }
            Asks::Password => {
                let username = table.need_now(&oauth2::USERNAME, "username = \"reader\"");
                let password = table.need_now(&oauth2::PASSWORD, "password = { env = \"PASSWORD\" }");
                username.zip(password).map(|(username, password)| Grant::Password { username, password })
            }
            Asks::ClientCredentials => Some(Grant::ClientCredentials),
        };
        // What is left of these belongs to another grant.
        let others = [
            (table.item(&oauth2::REFRESH_TOKEN), "refresh-token"),
            (table.item(&oauth2::USERNAME), "password"),
            (table.item(&oauth2::PASSWORD), "password"),
        ];
        for (item, needs) in others {
            if let Some(item) = item {
                item.error(format!("`{}` needs grant = \"{needs}\"", item.path)).report();
                return None;
            }
        }
        let mut oauth2 = Self {
            token_url: token_url?,
            client_id: client_id?,
            client_secret,
            scopes,
            audience,
            params,
            grant: grant?,
            in_body,
            refused,
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
        let (user, own) = match &self.grant {
            Grant::ClientCredentials => ("", ""),
            Grant::RefreshToken(refresh) => ("", refresh.expose()),
            Grant::Password { username, password } => (username.as_str(), password.expose()),
        };
        let (scopes, audience) = (self.scopes.join(" "), self.audience.as_deref().unwrap_or_default());
        let mut parts = vec![self.token_url.as_str(), &self.client_id, secret, user, own, &scopes, audience];
        parts.extend(self.params.iter().flat_map(|(name, value)| [name.as_str(), value.expose()]));
        vault::id("oauth2", &parts)
    }

    /// The same with what its secrets are now: another login.
    pub fn with(&self, now: &dyn Fn(&Secret) -> Secret) -> Self {
        let grant = match &self.grant {
            Grant::ClientCredentials => Grant::ClientCredentials,
            Grant::RefreshToken(refresh) => Grant::RefreshToken(now(refresh)),
            Grant::Password { username, password } => {
                Grant::Password { username: username.clone(), password: now(password) }
            }
        };
        let mut oauth2 = Self {
            client_secret: self.client_secret.as_ref().map(now),
            params: self.params.iter().map(|(name, value)| (name.clone(), now(value))).collect(),
            grant,
            ..self.clone()
        };
        oauth2.id = oauth2.identity();
        oauth2
    }

    pub fn secrets(&self) -> Vec<&Secret> {
        let own = match &self.grant {
            Grant::ClientCredentials => None,
            Grant::RefreshToken(secret) | Grant::Password { password: secret, .. } => Some(secret),
        };
        self.client_secret.iter().chain(own).chain(self.params.iter().map(|(_, value)| value)).collect()
    }

    /// The access token.
    pub async fn token(self: &Arc<Self>, with: &mut With<'_>) -> Result<Secret, Error> {
        let (vault, now) = (with.vault.clone(), with.clock.now());
        vault.token(self.id, now, async |_| self.fetch(with).await).await
    }

    async fn fetch(self: &Arc<Self>, with: &With<'_>) -> Result<Token, Error> {
        match &self.grant {
            Grant::ClientCredentials => {
                self.ask(with, &[("grant_type", "client_credentials")]).await.map(|(token, _)| token)
            }
            Grant::Password { username, password } => {
                let form = [("grant_type", "password"), ("username", username), ("password", password.expose())];
                self.ask(with, &form).await.map(|(token, _)| token)
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
        let (token, new) = self.ask(with, &form).await?;
        if let Some(new) = new
            && new != refresh
        {
            with.vault.note(&new);
            // In memory first: the server takes the old one no more, whatever the disk says.
            login.refresh = Some(new.clone());
            login.unkept = true;
            with.vault.keep(id, &new).await?;
            login.unkept = false;
        }
        Ok(token)
    }

    async fn ask(&self, with: &With<'_>, form: &[(&str, &str)]) -> Result<(Token, Option<Secret>), Error> {
        let scopes = self.scopes.join(" ");
        let mut form = form.to_vec();
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        form.extend(self.audience.as_deref().map(|audience| ("audience", audience)));
        form.extend(self.params.iter().map(|(name, value)| (name.as_str(), value.expose())));
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

/// Further parameters of the form: texts, or secrets.
fn read_params(item: &Item<'_>) -> Option<Vec<(String, Secret)>> {
    let read = |(name, place, item): (&str, _, Item<'_>)| {
        if OWN_PARAMS.contains(&name) {
            let message = format!("`{}` is what bellpull sends itself", item.path);
            item.error_at(place, message).help("a key of `auth.oauth2` has it: leave it out here".into()).report();
            return None;
        }
        match item.value()? {
            Value::Literal(text) => Some((name.to_owned(), Secret::new(text))),
            Value::Secret(secret) => Some((name.to_owned(), secret)),
            _ => {
                item.error(format!("`{}` must be a string or a secret", item.path)).report();
                None
            }
        }
    };
    let all: Vec<_> = item.table()?.take_all().into_iter().map(read).collect();
    all.into_iter().collect()
}
