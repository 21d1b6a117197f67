//! `[endpoint.NAME]`: where webhooks go, how they are signed, and how long they are tried.

use std::time::Duration;

use reqwest::{Method, header::HeaderName};
use url::Url;

use super::bridge::Filters;
use crate::{
    expr::Expr,
    model::Name,
    settings::{Item, Table, value::Value},
    sign::Signer,
    source::transport::{HTTP, check_url, read_headers},
};

const TIMEOUT: Duration = Duration::from_secs(15);
const DISABLE_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// The waits of Standard Webhooks 1.0.0, section "Deliverability and reliability", to three days in all.
pub const RETRY_SCHEDULE: [Duration; 9] = {
    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [s(5), s(300), s(1800), s(7200), s(18_000), s(36_000), s(50_400), s(72_000), s(86_400)]
};

/// Keys of later versions, refused by name.
const NOT_YET: &[&str] = &[
    "was",
    "format",
    "body",
    "body-max",
    "batch",
    "coalesce",
    "auth",
    "tls",
    "proxy",
    "order",
    "in-flight",
    "rate",
    "keep",
    "queue-max",
    "queue-full",
];

/// An endpoint that cannot be wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub name: Name,
    pub url: Url,
    pub enabled: bool,
    pub sign: Option<Signer>,
    pub payload: Option<Expr>,
    pub method: Method,
    pub headers: Vec<(HeaderName, Value)>,
    pub filters: Filters,
    pub timeout: Duration,
    pub schedule: Vec<Duration>,
    pub disable_after: Duration,
}

impl Endpoint {
    pub fn read(name: &str, mut table: Table<'_>) -> Option<Self> {
        table.not_yet(NOT_YET);
        let url = table.require("url", "url = \"https://example.com/hooks\"").and_then(|i| read_url(&i));
        let enabled = table.take("enabled").and_then(|i| i.boolean()).unwrap_or(true);
        let sign = match table.take("sign") {
            Some(item) => Signer::read(&item).map(Some),
            None => {
                let place = table.place.clone();
                table.warn_at(
                    place,
                    format!("[{}] has no `sign`: its receiver cannot tell who sent an event", table.path),
                    "sign.standard.secrets = [{ env = \"SECRET\" }]; `bellpull secret` makes one",
                );
                Some(None)
            }
        };
        let payload = table.take("payload").map(|i| i.expr());
        let method = table.take("method").map_or(Some(Method::POST), |i| {
            i.word(&[("POST", 0u8), ("PUT", 1), ("PATCH", 2)]).map(|n| match n {
                0 => Method::POST,
                1 => Method::PUT,
                _ => Method::PATCH,
            })
        });
        let headers = table.take("headers").and_then(|i| read_headers(&i)).unwrap_or_default();
        for (header, value) in &headers {
            if !value.is_constant() {
                table
                    .error(format!("header `{header}` in {} as jq is not yet supported by this version", table.title()))
                    .report();
            }
        }
        let query = table.take("query").and_then(|i| i.value_map()).unwrap_or_default();
        if query.iter().any(|(_, value)| !value.is_constant()) {
            table.error(format!("`query` in {} as jq is not yet supported by this version", table.title())).report();
        }
        let filters = Filters::read(&mut table);
        let timeout = table.take("timeout").and_then(|i| i.some_duration()).unwrap_or(TIMEOUT);
        let retry = table.take("retry").map_or(Some((RETRY_SCHEDULE.to_vec(), DISABLE_AFTER)), |i| read_retry(&i));
        table.finish();
        let mut url = url?;
        for (name, value) in &query {
            let texts = value.resolve(&serde_json::Value::Null).unwrap_or_default();
            url.query_pairs_mut().extend_pairs(texts.iter().map(|text| (name, text)));
        }
        let (schedule, disable_after) = retry?;
        Some(Self {
            name: name.into(),
            url,
            enabled,
            sign: sign?,
            payload: payload.map_or(Some(None), |p| p.map(Some))?,
            method: method?,
            headers,
            filters,
            timeout,
            schedule,
            disable_after,
        })
    }
}

/// A literal URL or a secret one. While secrets are not read, a stand-in.
fn read_url(item: &Item<'_>) -> Option<Url> {
    match item.value()? {
        Value::Literal(text) => check_url(item, &text, HTTP),
        Value::Secret(secret) if item.resolved(&secret) => match secret.expose().parse::<Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Some(url),
            _ => {
                item.error(format!("`{}`: the secret is no http or https URL", item.path)).report();
                None
            }
        },
        Value::Secret(_) => "https://unresolved.invalid/".parse().ok(),
        Value::List(_) | Value::Jq(_) => {
            item.error(format!("`{}` must be a URL or a secret", item.path)).report();
            None
        }
    }
}

fn read_retry(item: &Item<'_>) -> Option<(Vec<Duration>, Duration)> {
    let mut table = item.table()?;
    let schedule = table.take("schedule").map_or(Some(RETRY_SCHEDULE.to_vec()), |i| {
        let all: Option<Vec<Duration>> = i.items()?.iter().map(|i| i.some_duration()).collect();
        if all.as_ref().is_some_and(Vec::is_empty) {
            i.error(format!("`{}` is empty", i.path)).help("for example [\"5s\", \"5m\", \"1h\"]".into()).report();
            return None;
        }
        all
    });
    let disable_after = table.take("disable-after").map_or(Some(DISABLE_AFTER), |i| i.some_duration());
    table.finish();
    schedule.zip(disable_after)
}
