//! Credentials of a request. A kind is one variant and one arm; several may stand side by side.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::page::At;
use crate::settings::{Item, Table, secret::Secret, value::Value};

/// Kinds of later versions, refused by name.
const NOT_YET: &[&str] = &["digest", "headers", "oauth2", "jwt", "session", "aws-sigv4", "rotate", "wsse"];

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
    /// Names and secret values.
    Query(Vec<(String, Secret)>),
}

impl Auth {
    /// Reads `auth.KIND`, any number of them.
    pub fn read_all(item: &Item<'_>) -> Option<Vec<Self>> {
        let mut table = item.table()?;
        table.not_yet(NOT_YET);
        let mut all = Vec::new();
        for kind in ["basic", "bearer", "header", "query"] {
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
            Self::Query(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        }
    }

    /// Puts the credentials on a request.
    pub fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<(), String> {
        let value = |text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| "a credential holds a character that no header can".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        match self {
            Self::Basic { username, password } => {
                let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
                headers.insert(AUTHORIZATION, value(format!("Basic {pair}"))?);
            }
            Self::Bearer { secret } => {
                headers.insert(AUTHORIZATION, value(format!("Bearer {}", secret.expose()))?);
            }
            Self::Header { name, value: secret, prefix } => {
                headers.insert(name.clone(), value(format!("{prefix}{}", secret.expose()))?);
            }
            Self::Query(pairs) => {
                for (name, secret) in pairs {
                    // A next link may echo it: once is enough.
                    At::Param(name.clone()).set(secret.expose(), url, headers, &mut None)?;
                }
            }
        }
        Ok(())
    }
}
