//! Credentials of a request. A kind is one file here, or a few lines, and one line in [`Auth`] and each of its methods;
//! several may stand side by side.
//!
//! They are put on each request anew: some depend on its body, its time, or a token that was fetched before.

mod digest;
mod jwt;
mod oauth2;
mod request;
mod rotate;
mod session;
mod sigv4;
pub mod vault;
mod wsse;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use crate::{
    clock::Clock,
    http::{
        self, Answer, Client, Request, is_clear,
        place::set_parameter,
        target::{HTTP, check_url},
    },
    settings::{Item, Table, secret::Secret, value::Value},
};
use vault::Vault;

type Read = fn(&mut Table<'_>) -> Option<Auth>;

/// In the order in which they are put on a request: what signs it comes last.
const KINDS: [(&str, Read); 12] = [
    ("basic", read_basic),
    ("bearer", |table| read_secret(table, "secret").map(|secret| Auth::Bearer { secret })),
    ("header", read_header),
    ("headers", read_headers),
    ("query", read_query),
    ("rotate", |table| rotate::Rotate::read(table).map(|auth| Auth::Rotate(auth.into()))),
    ("oauth2", |table| oauth2::Oauth2::read(table).map(|auth| Auth::Oauth2(auth.into()))),
    ("jwt", |table| jwt::Jwt::read(table).map(|auth| Auth::Jwt(auth.into()))),
    ("session", |table| session::Session::read(table).map(|auth| Auth::Session(auth.into()))),
    ("wsse", |table| wsse::Wsse::read(table).map(|auth| Auth::Wsse(auth.into()))),
    ("digest", |table| digest::Digest::read(table).map(|auth| Auth::Digest(auth.into()))),
    ("aws-sigv4", |table| sigv4::Sigv4::read(table).map(|auth| Auth::Sigv4(auth.into()))),
];

#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    /// The password, and the pair as it is sent.
    Basic {
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
        matches!(self, Self::Refused { status: 400 | 401 | 403, .. })
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
            Self::Basic { password, pair } => vec![password, pair],
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

    /// Puts the credentials on a request.
    async fn apply(&self, request: &mut Request, with: &mut With<'_>) -> Result<Used, Error> {
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
                    Box::pin(auth.apply(request, with)).await?;
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

    /// Looks at what an answer says of the credentials. `tries` counts the requests before this one.
    async fn learn(&self, sent: &Request, used: &Used, answer: &Answer, tries: usize, with: &mut With<'_>) -> Learned {
        let again = |yes| if yes { Learned::Again } else { Learned::Nothing };
        let login = match self {
            Self::Basic { .. } | Self::Bearer { .. } | Self::Header { .. } | Self::Headers(_) | Self::Query(_) => None,
            Self::Wsse(_) | Self::Sigv4(_) => None,
            Self::Rotate(rotate) => {
                let spent = rotate.learn(used.choice, answer.status, &answer.headers, with).await;
                return match answer.status {
                    403 | 429 if spent => again(tries + 1 < rotate.of.len()),
                    _ if spent => Learned::Spare,
                    _ => Learned::Nothing,
                };
            }
            Self::Digest(digest) => return again(tries == 0 && digest.learn(sent, answer, with).await),
            Self::Oauth2(oauth2) => Some(oauth2.id),
            Self::Jwt(jwt) => Some(jwt.id),
            Self::Session(session) => Some(session.id),
        };
        let is_refused = match self {
            Self::Session(session) => session.is_refused(answer.status),
            _ => answer.status == 401,
        };
        let (Some(login), Some(token), true) = (login, &used.token, is_refused) else { return Learned::Nothing };
        with.vault.refused(login, token).await;
        again(tries == 0)
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

impl From<Secret> for Used {
    fn from(token: Secret) -> Self {
        Self { token: Some(token), choice: 0 }
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

fn read_secret(table: &mut Table<'_>, key: &'static str) -> Option<Secret> {
    table.require(key, &format!("{key} = {{ env = \"TOKEN\" }}")).and_then(|i| i.secret())
}

/// A name that need not be a secret, and may be one.
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

/// `token-url`; `Some(None)` where it may be absent and is.
fn read_token_url(table: &mut Table<'_>, required: bool) -> Option<Option<Url>> {
    let item = if required {
        Some(table.require("token-url", "token-url = \"https://api.example.com/oauth/token\"")?)
    } else {
        table.take("token-url")
    };
    let Some(item) = item else { return Some(None) };
    let text = item.string()?;
    let url = check_url(&item, text, HTTP)?;
    if is_clear(&url) {
        let message = format!("`{}`: credentials go there in clear, over `http`", item.path);
        item.warn(message, "use https");
    }
    Some(Some(url))
}

fn read_basic(table: &mut Table<'_>) -> Option<Auth> {
    let username = table.require("username", "username = \"reader\"").and_then(|i| read_text(&i));
    // Where the name is a key, there is none.
    let password = table.take("password").map_or_else(|| Some(Secret::new(String::new())), |i| i.secret());
    let (username, password) = (username?, password?);
    let pair = Secret::new(STANDARD.encode(format!("{username}:{}", password.expose())));
    table.keep_secret(&pair);
    Some(Auth::Basic { password, pair })
}

fn read_header(table: &mut Table<'_>) -> Option<Auth> {
    let parse = |text: &str| text.parse::<HeaderName>().map_err(|_| format!("{text:?} is not a header name"));
    let name = table.require("name", "name = \"X-Api-Key\"").and_then(|i| i.parse_text(parse, "a header's name"));
    let value = read_secret(table, "value");
    let prefix = table.take("prefix").and_then(|i| i.string()).unwrap_or_default().to_owned();
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
    if let Some(name) = table.take("name").and_then(|i| i.string()) {
        return read_secret(table, "value").map(|value| Auth::Query(vec![(name.to_owned(), value)]));
    }
    let all: Vec<_> = table.take_all().into_iter().map(|(name, _, i)| Some((name.to_owned(), i.secret()?))).collect();
    all.into_iter().collect::<Option<_>>().map(Auth::Query)
}
