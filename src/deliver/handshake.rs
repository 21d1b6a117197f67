//! Whether a target wants CloudEvents, and how many: the validation of "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2,
//! section 4, asked once before the first delivery.
//!
//! Most receivers have never heard of it, and frameworks answer `OPTIONS` by themselves: only an answer that names
//! another origin, or 401 or 403, is a refusal.

use std::time::Duration;

use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use crate::{
    http::{Answer, BodyLimit, Client, Request},
    settings::units::Rate,
};

/// `WebHook-Allowed-Rate` is in requests per minute.
const MINUTE: Duration = Duration::from_secs(60);
/// The body says nothing.
const BODY_BYTES: u64 = 256;

/// The pace that the target allows, if it names one; an error is for the admin.
pub(super) async fn ask(client: &Client, url: Url, within: Duration) -> Result<Option<Rate>, String> {
    let origin = origin();
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&origin).map_err(|_| format!("the host name {origin:?} is no header value"))?;
    headers.insert(HeaderName::from_static("webhook-request-origin"), value);
    let request = Request { method: Method::OPTIONS, url, headers, body: None };
    let sent = client.send(&Client::own_turn(), request, within, BodyLimit::Head(BODY_BYTES), None).await;
    read(&sent.map_err(|e| e.to_string())?, &origin)
}

/// What this sender is called: the host's name.
fn origin() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn read(answer: &Answer, origin: &str) -> Result<Option<Rate>, String> {
    let refused = |why: String| {
        Err(format!(
            "the receiver did not allow {origin:?} to send (the OPTIONS request of CloudEvents web hooks): {why}"
        ))
    };
    if matches!(answer.status, 401 | 403) {
        return refused(format!("it answered {}", answer.status));
    }
    match answer.header("webhook-allowed-origin").map(str::trim) {
        Some(allowed) if allowed != "*" && !allowed.eq_ignore_ascii_case(origin) => {
            return refused(format!("it allows {allowed:?}"));
        }
        _ => {}
    }
    let requests = answer.header("webhook-allowed-rate").and_then(|rate| rate.trim().parse().ok());
    Ok(requests.filter(|requests| *requests > 0).map(|requests| Rate { requests, per: MINUTE }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_refuses() {
        let told = |status: u16, headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            let url = "http://localhost/".parse().expect("a URL");
            read(&Answer { status, headers: headers.collect(), body: "".into(), url }, "box.example")
        };
        let rate = |requests| Ok(Some(Rate { requests, per: MINUTE }));
        assert_eq!(told(200, &[("webhook-allowed-origin", "Box.example"), ("webhook-allowed-rate", "120")]), rate(120));
        assert_eq!(told(204, &[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "*")]), Ok(None));
        for status in [200, 204, 404, 405, 501] {
            assert_eq!(told(status, &[]), Ok(None), "{status}");
        }
        assert!(told(200, &[("webhook-allowed-origin", "eventgrid.azure.net")]).is_err());
        assert!(told(403, &[]).expect_err("refused").contains("\"box.example\""));
    }
}
