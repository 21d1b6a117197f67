//! Credentials of a request. A kind is one file here, or a few lines, and one line in [`Auth`] and each of its methods;
//! several may stand side by side.
//!
//! They are put on each request again: some depend on its body, its time, or a token that was fetched before.

mod digest;
pub mod files;
mod jwt;
mod oauth2;
mod renewal;
mod request;
mod rotate;
mod session;
mod sigv4;
pub mod vault;
pub mod wsse;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use crate::{
    clock::Clock,
    expr::{self, Expr, Said},
    http::{
        self, Answer, Client, Request, is_clear, origin,
        place::set_parameter,
        target::{self, HTTP, check_url},
    },
    model::Hash,
    settings::{
        Item, Table,
        key::{Form, Get, Shape, keys},
        secret::{self, SECRET, Secret},
        value::Value,
    },
};
use vault::Vault;

type Read = fn(&mut Table<'_>) -> Option<Auth>;

/// In the order in which they are put on a request: what signs it comes last.
static KINDS: [(&Get<()>, Read); 12] = [
    (&auth::BASIC, read_basic),
    (&auth::BEARER, |table| table.need(&bearer::SECRET).map(|secret| Auth::Bearer { secret })),
    (&auth::HEADER, read_header),
    (&auth::HEADERS, read_headers),
    (&auth::QUERY, read_query),
    (&auth::ROTATE, |table| rotate::Rotate::read(table).map(|auth| Auth::Rotate(auth.into()))),
    (&auth::OAUTH2, |table| oauth2::Oauth2::read(table).map(|auth| Auth::Oauth2(auth.into()))),
    (&auth::JWT, |table| jwt::Jwt::read(table).map(|auth| Auth::Jwt(auth.into()))),
    (&auth::SESSION, |table| session::Session::read(table).map(|auth| Auth::Session(auth.into()))),
    (&auth::WSSE, |table| wsse::Wsse::read(table).map(|auth| Auth::Wsse(auth.into()))),
    (&auth::DIGEST, |table| digest::Digest::read(table).map(|auth| Auth::Digest(auth.into()))),
    (&auth::AWS_SIGV4, |table| sigv4::Sigv4::read(table).map(|auth| Auth::Sigv4(auth.into()))),
];

/// `auth` of a source or an endpoint.
pub const ALL: Form<Vec<Auth>> = Form::table(&auth::FAMILY, Auth::read_all);
/// A name that need not be a secret, and may be one.
const NAME: Form<String> = Form::new(Shape::OneOf(&[Shape::Scalar, Shape::Secret]), read_text);
/// A URL to which credentials go.
const TOKEN_URL: Form<Url> = Form::new(Shape::Text, read_token_url);

keys! {
    /// Credentials of requests, any number of kinds.
    mod auth;
    /// A user name, and a password where there is one.
    get BASIC: () = "basic", Form::raw(Shape::Table(&basic::FAMILY));
    /// A user name and a password (RFC 7616); the password itself is never sent.
    get DIGEST: () = "digest", Form::raw(Shape::Table(&password::FAMILY));
    /// A token.
    get BEARER: () = "bearer", Form::raw(Shape::Table(&bearer::FAMILY));
    /// A header with a secret value.
    get HEADER: () = "header", Form::raw(Shape::Table(&header::FAMILY));
    /// A table of header names and secrets.
    get HEADERS: () = "headers", Form::raw(Shape::Named(&Shape::Secret));
    /// A query parameter with a secret value, `{ name, value }`, or a table of names and secrets.
    get QUERY: () = "query",
        Form::raw(Shape::OneOf(&[Shape::Table(&query::FAMILY), Shape::Named(&Shape::Secret)]));
    /// A token of OAuth 2.0 (RFC 6749).
    get OAUTH2: () = "oauth2", Form::raw(Shape::Table(&oauth2::oauth2::FAMILY));
    /// A token that bellpull signs itself (RFC 7519), sent as a bearer token, or exchanged for one at `token-url` (RFC 7523).
    get JWT: () = "jwt", Form::raw(Shape::Table(&jwt::jwt::FAMILY));
    /// A login that the file describes.
    get SESSION: () = "session", Form::raw(Shape::Table(&session::session::FAMILY));
    /// AWS Signature Version 4.
    get AWS_SIGV4: () = "aws-sigv4", Form::raw(Shape::Table(&sigv4::aws_sigv4::FAMILY));
    /// Several credentials, each `basic`, `bearer`, `header`, `headers` or `query`. The credential with the most left of its
    /// budget is used; if one is used up, a 403 or 429 switches to another at once.
    get ROTATE: () = "rotate", Form::raw(Shape::Table(&rotate::rotate::FAMILY));
    /// A UsernameToken in the SOAP header.
    get WSSE: () = "wsse", Form::raw(Shape::Table(&wsse::wsse::FAMILY));
}

keys! {
    /// A user name.
    mod login;
    /// The user name, a string or a secret.
    need USERNAME: String = "username", super::NAME, "username = \"reader\"";
}

keys! {
    /// A user name, and a password where there is one.
    mod basic;
    /// The password, a secret. Where a key is the name, there is none.
    maybe PASSWORD: Secret = "password", SECRET, "empty";
    + login::FAMILY;
}

keys! {
    /// A user name and a password.
    mod password;
    /// The password, a secret.
    need PASSWORD: Secret = "password", SECRET, "password = { env = \"PASSWORD\" }";
    + login::FAMILY;
}

keys! {
    /// A token.
    mod bearer;
    /// The token, a secret.
    need SECRET: Secret = "secret", secret::SECRET, "secret = { env = \"TOKEN\" }";
}

keys! {
    /// A header with a secret value.
    mod header;
    /// The header's name.
    need NAME: HeaderName = "name", target::HEADER_NAME, "name = \"X-Api-Key\"";
    /// Its value, a secret.
    need VALUE: Secret = "value", SECRET, "value = { env = \"TOKEN\" }";
    /// What stands before the value.
    or PREFIX: String = "prefix", TEXT, String::new;
}

keys! {
    /// A query parameter with a secret value.
    mod query: Rule::Schema(r#"{ "required": ["name", "value"] }"#);
    /// The parameter's name.
    get NAME: String = "name", TEXT;
    /// Its value, a secret.
    need VALUE: Secret = "value", SECRET, "value = { env = \"TOKEN\" }";
}

keys! {
    /// How a token that a login brought is refused.
    mod refusal;
    /// jq over an answer: true, or a text, says that it refuses the token, as a 401 does. Then the token is forgotten,
    /// one new login brings another one, and the same request is sent once more. Its input is what a source's `fail`
    /// sees, or a text where the answer cannot be read; in an endpoint it is the receiver's body, as JSON or as a text.
    /// It sees `$headers` and `$status`: `'$status == 302 or .error? == "invalid_auth"'`.
    maybe REFUSED: Expr = "refused", EXPR_OVER_ANSWER,
        "GraphQL: an error's `extensions.code` is `UNAUTHENTICATED`; SOAP: the code of a Fault names a session or a token";
}

#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    /// The pair is what is sent.
    Basic {
        username: String,
        password: Secret,
        pair: Secret,
    },
    Bearer {
        secret: Secret,
    },
    Header {
        name: HeaderName,
        value: Secret,
        prefix: String,
    },
    /// Several headers, with secret values.
    Headers(Vec<(HeaderName, Secret)>),
    /// Names and secret values.
    Query(Vec<(String, Secret)>),
    Rotate(Arc<rotate::Rotate>),
    Oauth2(Arc<oauth2::Oauth2>),
    Jwt(Arc<jwt::Jwt>),
    Session(Arc<session::Session>),
    Wsse(Arc<wsse::Wsse>),
    Digest(Arc<digest::Digest>),
    Sigv4(Arc<sigv4::Sigv4>),
}

/// What a kind may use to get hold of a token.
pub struct With<'a> {
    pub client: &'a Client,
    pub clock: &'a Clock,
    pub vault: &'a Vault,
}

/// What was put on a request, for what its answer says of it.
#[derive(Debug, Clone, Default)]
pub struct Used {
    token: Option<Secret>,
    /// Of several credentials.
    choice: usize,
    /// The credentials themselves, where files of their secrets hold others than the configuration was read with.
    renewed: Option<Auth>,
}

/// What an answer says of the credentials, the weightiest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Learned {
    Nothing,
    /// The budget that the answer tells is of a credential that is not used next.
    Spare,
    /// The same request may fare better now: a token that was refused is forgotten, a challenge is known.
    Again,
}

/// Why no credentials could be put on a request. Holds no secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Value(String),
    #[error("the login failed: {0}")]
    Http(#[from] http::Error),
    #[error("the login was refused: {origin} answered {status}: {message}")]
    Refused { origin: String, status: u16, message: String, wait: Option<Duration> },
    #[error("the login brought no token: of the answer of {origin}, {why}")]
    Answer { origin: String, why: String },
    #[error("{origin} answered {status} and refuses the token of a new login too (`auth.{kind}.refused`): {message}")]
    Token { origin: String, status: u16, kind: &'static str, message: String },
    #[error("{0}")]
    Store(String),
}

impl Error {
    /// How long the server wants no other login.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whether it will not mend itself in seconds.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 401 | 403, .. } | Self::Token { .. })
    }
}

impl Auth {
    /// Reads `auth.KIND`, any number of them.
    pub fn read_all(item: &Item<'_>) -> Option<Vec<Self>> {
        let mut table = item.table()?;
        let all = table.read_each(&KINDS);
        table.finish();
        all.into_iter().collect()
    }

    /// Its name in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Basic { .. } => "basic",
            Self::Bearer { .. } => "bearer",
            Self::Header { .. } => "header",
            Self::Headers(_) => "headers",
            Self::Query(_) => "query",
            Self::Rotate(_) => "rotate",
            Self::Oauth2(_) => "oauth2",
            Self::Jwt(_) => "jwt",
            Self::Session(_) => "session",
            Self::Wsse(_) => "wsse",
            Self::Digest(_) => "digest",
            Self::Sigv4(_) => "aws-sigv4",
        }
    }

    /// Whether it needs the very method, URL and body that are sent.
    pub fn signs_a_body(&self) -> bool {
        match self {
            Self::Session(session) => session.edits_the_body(),
            _ => matches!(self, Self::Wsse(_) | Self::Digest(_) | Self::Sigv4(_)),
        }
    }

    /// What is secret in it: what it is told apart by.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { password, pair, .. } => vec![password, pair],
            Self::Bearer { secret } => vec![secret],
            Self::Header { value, .. } => vec![value],
            Self::Headers(pairs) => pairs.iter().map(|(_, value)| value).collect(),
            Self::Query(pairs) => pairs.iter().map(|(_, value)| value).collect(),
            Self::Rotate(rotate) => rotate.of.iter().flat_map(Self::secrets).collect(),
            Self::Oauth2(oauth2) => oauth2.secrets(),
            Self::Jwt(jwt) => jwt.secrets(),
            Self::Session(session) => session.secrets(),
            Self::Wsse(wsse) => vec![&wsse.password],
            Self::Digest(digest) => vec![&digest.password],
            Self::Sigv4(sigv4) => std::iter::once(&sigv4.secret_key).chain(&sigv4.session_token).collect(),
        }
    }

    /// Puts the credentials on a request, as they are now. A login that is refused has the files of its secrets read again.
    async fn apply(&self, request: &mut Request, with: &mut With<'_>) -> Result<Used, Error> {
        let mut renewed = self.renewed(with.vault);
        let put = renewed.as_ref().unwrap_or(self).put(request, with).await;
        let used = match put {
            Err(error) if error.is_refusal() && renewed.as_ref().unwrap_or(self).is_outdated(with).await => {
                renewed = self.renewed(with.vault);
                renewed.as_ref().unwrap_or(self).put(request, with).await?
            }
            put => put?,
        };
        Ok(Used { renewed, ..used })
    }

    async fn put(&self, request: &mut Request, with: &mut With<'_>) -> Result<Used, Error> {
        let now = with.clock.now();
        match self {
            Self::Basic { pair, .. } => {
                request.headers.insert(AUTHORIZATION, header(format!("Basic {}", pair.expose()))?);
            }
            Self::Bearer { secret } => bear(secret, request)?,
            Self::Header { name, value: secret, prefix } => {
                request.headers.insert(name.clone(), header(format!("{prefix}{}", secret.expose()))?);
            }
            Self::Headers(pairs) => {
                for (name, secret) in pairs {
                    request.headers.insert(name.clone(), header(secret.expose().to_owned())?);
                }
            }
            Self::Query(pairs) => {
                for (name, secret) in pairs {
                    // A next link may echo it: once is enough.
                    set_parameter(&mut request.url, name, secret.expose());
                }
            }
            Self::Rotate(rotate) => {
                let choice = rotate.choose(with).await;
                if let Some(auth) = rotate.of.get(choice) {
                    Box::pin(auth.put(request, with)).await?;
                }
                return Ok(Used { choice, ..Used::default() });
            }
            Self::Oauth2(oauth2) => {
                let token = oauth2.token(with).await?;
                bear(&token, request)?;
                return Ok(token.into());
            }
            Self::Jwt(jwt) => {
                let token = jwt.token(with).await?;
                bear(&token, request)?;
                return Ok(token.into());
            }
            Self::Session(session) => {
                let token = session.token(with).await?;
                session.put(&token, request)?;
                return Ok(token.into());
            }
            Self::Wsse(wsse) => wsse.put(request, now)?,
            Self::Digest(digest) => digest.put(request, with).await?,
            Self::Sigv4(sigv4) => sigv4.put(request, now)?,
        }
        Ok(Used::default())
    }

    /// Looks at what an answer says of the credentials. `tries` counts the requests before this one. What a 401 refuses may have
    /// been replaced in the file that it was read from.
    async fn learn(&self, sent: &Request, used: &Used, answer: &Answer, tries: usize, with: &mut With<'_>) -> Learned {
        let current = used.renewed.as_ref().unwrap_or(self);
        let learned = current.learn_as_it_is(sent, used, answer, tries, with).await;
        if answer.status == 401 && learned != Learned::Again && current.is_outdated(with).await {
            return Learned::Again;
        }
        learned
    }

    async fn learn_as_it_is(
        &self,
        sent: &Request,
        used: &Used,
        answer: &Answer,
        tries: usize,
        with: &mut With<'_>,
    ) -> Learned {
        let again = |yes| if yes { Learned::Again } else { Learned::Nothing };
        match self {
            Self::Rotate(rotate) => {
                let spent = rotate.learn(used.choice, answer.status, &answer.headers, with).await;
                return match answer.status {
                    403 | 429 if spent => again(tries + 1 < rotate.of.len()),
                    _ if spent => Learned::Spare,
                    _ => Learned::Nothing,
                };
            }
            Self::Digest(digest) => return again(tries == 0 && digest.learn(sent, answer, with).await),
            _ => {}
        }
        let is_refused = match self {
            Self::Session(session) => session.is_refused(answer.status),
            _ => answer.status == 401,
        };
        again(is_refused && self.forget(used, with.vault).await && tries == 0)
    }

    /// What tells its login from others, where it has one, and what the file says of an answer that refuses its token.
    fn login(&self) -> Option<(Hash, Option<&Expr>)> {
        match self {
            Self::Oauth2(oauth2) => Some((oauth2.id, oauth2.refused.as_ref())),
            Self::Jwt(jwt) => Some((jwt.id, jwt.refused.as_ref())),
            Self::Session(session) => Some((session.id, session.refused.as_ref())),
            Self::Basic { .. } | Self::Bearer { .. } | Self::Header { .. } | Self::Headers(_) | Self::Query(_) => None,
            Self::Rotate(_) | Self::Wsse(_) | Self::Digest(_) | Self::Sigv4(_) => None,
        }
    }

    /// Forgets a token that was refused; whether there was one.
    async fn forget(&self, used: &Used, vault: &Vault) -> bool {
        let current = used.renewed.as_ref().unwrap_or(self);
        let (Some((login, _)), Some(token)) = (current.login(), &used.token) else { return false };
        vault.refused(login, token).await;
        true
    }

    /// Whether a login brings its token.
    pub fn has_token(&self) -> bool {
        self.login().is_some()
    }
}

/// How an answer refuses a token in words, of one of the credentials of a request.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its place among them.
    at: usize,
    /// `None`: the protocol's own words.
    expr: Option<Expr>,
}

/// Of each kind whose token an answer may refuse: by what the file says of it, and by the protocol's words where `own`.
pub fn refusals(all: &[Auth], own: bool) -> Vec<Refusal> {
    let refusal = |(at, auth): (usize, &Auth)| {
        let (_, expr) = auth.login()?;
        (own || expr.is_some()).then(|| Refusal { at, expr: expr.cloned() })
    };
    all.iter().enumerate().filter_map(refusal).collect()
}

impl Refusal {
    pub fn sees_answer(&self) -> bool {
        self.expr.as_ref().is_some_and(Expr::sees_answer)
    }

    /// Whether an answer refuses the token. `own` finds out whether it does in the protocol's words.
    pub fn holds(&self, document: &[u8], said: &Said, own: impl FnOnce() -> bool) -> Result<bool, expr::Error> {
        let Some(expr) = &self.expr else { return Ok(own()) };
        Ok(expr::meant(expr.all_of_answer(document, said)?.into_iter().next()).is_some())
    }
}

/// Forgets the tokens that an answer refused in words. After a new login that is an error where the file knew the
/// words: the protocol's own ones are an error anyway.
pub async fn forget(
    all: &[Auth],
    used: &[Used],
    refused: &[Refusal],
    answer: &Answer,
    tries: usize,
    told: &str,
    with: &mut With<'_>,
) -> Result<Learned, Error> {
    let mut learned = Learned::Nothing;
    for refusal in refused {
        let Some((auth, used)) = all.get(refusal.at).zip(used.get(refusal.at)) else { continue };
        // Only the first time another token may fare better.
        if auth.forget(used, with.vault).await && tries == 0 {
            learned = Learned::Again;
        }
    }
    let of_file = refused.iter().find(|refusal| refusal.expr.is_some()).and_then(|refusal| all.get(refusal.at));
    match of_file.filter(|_| learned != Learned::Again) {
        Some(auth) => {
            let (origin, message) = (origin(&answer.url), told.to_owned());
            Err(Error::Token { origin, status: answer.status, kind: auth.kind(), message })
        }
        None => Ok(learned),
    }
}

/// Puts all credentials on a request, in their order.
pub async fn apply(all: &[Auth], request: &mut Request, with: &mut With<'_>) -> Result<Vec<Used>, Error> {
    let mut used = Vec::with_capacity(all.len());
    for auth in all {
        used.push(auth.apply(request, with).await?);
    }
    Ok(used)
}

/// What an answer says of all the credentials of its request: the most that it says of one.
pub async fn learn(
    all: &[Auth],
    used: &[Used],
    sent: &Request,
    answer: &Answer,
    tries: usize,
    with: &mut With<'_>,
) -> Learned {
    let mut learned = Learned::Nothing;
    for (auth, used) in all.iter().zip(used) {
        learned = learned.max(auth.learn(sent, used, answer, tries, with).await);
    }
    learned
}

/// The token of the first login that one was put on a request of.
pub fn token(used: &[Used]) -> Option<&Secret> {
    used.iter().find_map(|used| used.token.as_ref())
}

/// A server said in its protocol's own words that the credentials are not good any more: forgets tokens; whether there were any.
pub async fn refused(all: &[Auth], used: &[Used], vault: &Vault) -> bool {
    let mut forgotten = false;
    for (auth, used) in all.iter().zip(used) {
        forgotten |= auth.forget(used, vault).await;
    }
    forgotten
}

impl From<Secret> for Used {
    fn from(token: Secret) -> Self {
        Self { token: Some(token), ..Self::default() }
    }
}

/// RFC 6750, section 2.1.
fn bear(token: &Secret, request: &mut Request) -> Result<(), Error> {
    request.headers.insert(AUTHORIZATION, header(format!("Bearer {}", token.expose()))?);
    Ok(())
}

/// A header's value that no log may show.
fn header(text: String) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::Value("a credential holds a character that no header can".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_text(item: &Item<'_>) -> Option<String> {
    match item.value()? {
        Value::Literal(text) => Some(text),
        Value::Secret(text) => Some(text.expose().to_owned()),
        _ => {
            item.error(format!("`{}` must be a string or a secret", item.path)).report();
            None
        }
    }
}

fn read_token_url(item: &Item<'_>) -> Option<Url> {
    let text = item.string()?;
    let url = check_url(item, text, HTTP)?;
    if is_clear(&url) {
        let message = format!("`{}`: credentials go there in clear, over `http`", item.path);
        item.warn(message, "use https");
    }
    Some(url)
}

fn read_basic(table: &mut Table<'_>) -> Option<Auth> {
    // Where the name is a key, there is no password.
    let (username, password) = (table.need(&login::USERNAME), table.get(&basic::PASSWORD));
    let (username, password) = (username?, password.unwrap_or_else(|| Secret::new(String::new())));
    let pair = pair(&username, &password);
    table.keep_secret(&pair);
    Some(Auth::Basic { username, password, pair })
}

/// RFC 7617, section 2.
fn pair(username: &str, password: &Secret) -> Secret {
    Secret::new(STANDARD.encode(format!("{username}:{}", password.expose())))
}

fn read_header(table: &mut Table<'_>) -> Option<Auth> {
    let (name, value, prefix) = (table.need(&header::NAME), table.need(&header::VALUE), table.or(&header::PREFIX));
    name.zip(value).map(|(name, value)| Auth::Header { name, value, prefix })
}

fn read_headers(table: &mut Table<'_>) -> Option<Auth> {
    let header = |(name, place, item): (&str, _, Item<'_>)| match name.parse::<HeaderName>() {
        Ok(name) => Some((name, item.secret()?)),
        Err(_) => {
            item.error_at(place, format!("`{}`: {name:?} is not a header name", item.path)).report();
            None
        }
    };
    let all: Vec<_> = table.take_all().into_iter().map(header).collect();
    all.into_iter().collect::<Option<_>>().map(Auth::Headers)
}

fn read_query(table: &mut Table<'_>) -> Option<Auth> {
    // `name` alone names the parameter; as a table it is one itself.
    if let Some(name) = table.get(&query::NAME) {
        return table.need(&query::VALUE).map(|value| Auth::Query(vec![(name, value)]));
    }
    let all: Vec<_> = table.take_all().into_iter().map(|(name, _, i)| Some((name.to_owned(), i.secret()?))).collect();
    all.into_iter().collect::<Option<_>>().map(Auth::Query)
}
