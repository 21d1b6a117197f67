//! Credentials of a request. A kind is one variant and its arms; several may stand side by side.
//!
//! They are put on each request anew: some depend on its body, its time, or a token that was fetched before.

pub mod vault;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::page::At;
use crate::{
    clock::Clock,
    http::{Answer, Client, Request, budget::Share},
    settings::{Item, Table, secret::Secret, value::Value},
};
use vault::Vault;

/// Kinds of later versions, refused by name.
const NOT_YET: &[&str] = &["digest", "oauth2", "jwt", "session", "aws-sigv4", "rotate", "wsse"];

/// What a kind may use to get hold of a token.
pub struct With<'a> {
    pub client: &'a Client,
    pub clock: &'a Clock,
    pub vault: &'a Vault,
    /// `None`: what it fetches counts for no answer.
    pub share: Option<&'a mut Share>,
}

/// Why no credentials could be put on a request. Holds no secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Value(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    Basic {
        username: String,
        password: Secret,
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
}

impl Auth {
    /// Reads `auth.KIND`, any number of them.
    pub fn read_all(item: &Item<'_>) -> Option<Vec<Self>> {
        let mut table = item.table()?;
        table.not_yet(NOT_YET);
        let mut all = Vec::new();
        for kind in ["basic", "bearer", "header", "headers", "query"] {
            if let Some(table) = table.take(kind).and_then(|item| item.table()) {
                all.extend(Self::read(kind, table));
            }
        }
        table.finish();
        Some(all)
    }

    fn read(kind: &str, mut table: Table<'_>) -> Option<Self> {
        let secret = |table: &mut Table<'_>, key| {
            table.require(key, &format!("{key} = {{ env = \"TOKEN\" }}")).and_then(|i| i.secret())
        };
        let auth = match kind {
            "basic" => {
                let username = table.require("username", "username = \"reader\"").and_then(|i| i.value());
                let password = secret(&mut table, "password");
                match (username, password) {
                    (Some(Value::Literal(username)), Some(password)) => Some(Self::Basic { username, password }),
                    (Some(Value::Secret(username)), Some(password)) => {
                        Some(Self::Basic { username: username.expose().to_owned(), password })
                    }
                    (Some(_), _) => {
                        table.error(format!("`username` in {} must be a string or a secret", table.title())).report();
                        None
                    }
                    _ => None,
                }
            }
            "bearer" => secret(&mut table, "secret").map(|secret| Self::Bearer { secret }),
            "header" => {
                let name = table.require("name", "name = \"X-Api-Key\"").and_then(|i| {
                    i.parse_text(
                        |t| t.parse::<HeaderName>().map_err(|_| format!("{t:?} is no header name")),
                        "a header's name",
                    )
                });
                let value = secret(&mut table, "value");
                let prefix = table.take("prefix").and_then(|i| i.string()).unwrap_or_default().to_owned();
                name.zip(value).map(|(name, value)| Self::Header { name, value, prefix })
            }
            "headers" => {
                let all = table.take_all().into_iter();
                let header = |(name, place, item): (&str, _, Item<'_>)| match name.parse::<HeaderName>() {
                    Ok(name) => Some((name, item.secret()?)),
                    Err(_) => {
                        item.error_at(place, format!("`{}`: {name:?} is no header name", item.path)).report();
                        None
                    }
                };
                Some(Self::Headers(all.filter_map(header).collect()))
            }
            _ => {
                let named = table.take("name").and_then(|i| i.string());
                match named {
                    Some(name) => secret(&mut table, "value").map(|value| Self::Query(vec![(name.to_owned(), value)])),
                    None => {
                        let all = table.take_all().into_iter();
                        Some(Self::Query(all.filter_map(|(name, _, i)| Some((name.to_owned(), i.secret()?))).collect()))
                    }
                }
            }
        };
        table.finish();
        auth
    }

    /// Texts that no message may hold.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { password, .. } => vec![password],
            Self::Bearer { secret } => vec![secret],
            Self::Header { value, .. } => vec![value],
            Self::Headers(pairs) => pairs.iter().map(|(_, value)| value).collect(),
            Self::Query(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        }
    }

    /// Puts the credentials on a request.
    pub async fn apply(&self, request: &mut Request, _with: &mut With<'_>) -> Result<(), Error> {
        match self {
            Self::Basic { username, password } => {
                let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
                request.headers.insert(AUTHORIZATION, header(format!("Basic {pair}"))?);
            }
            Self::Bearer { secret } => {
                request.headers.insert(AUTHORIZATION, header(format!("Bearer {}", secret.expose()))?);
            }
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
                    At::Param(name.clone())
                        .set(secret.expose(), &mut request.url, &mut request.headers, &mut None)
                        .map_err(Error::Value)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at what an answer says of the credentials. True when the same request may fare better now: a token that was
    /// refused is forgotten, a challenge is known.
    pub async fn learn(&self, _answer: &Answer, _with: &mut With<'_>) -> bool {
        match self {
            Self::Basic { .. } | Self::Bearer { .. } | Self::Header { .. } | Self::Headers(_) | Self::Query(_) => false,
        }
    }
}

/// A header's value that no log may show.
fn header(text: String) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::Value("a credential holds a character that no header can".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
