//! Whether a target wants CloudEvents, and how many: the validation of "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2,
//! section 4, asked before the first delivery.
//!
//! Most receivers have never heard of it, frameworks answer `OPTIONS` by themselves, and gateways drop it: only an answer
//! that names another origin is a refusal.

use std::time::Duration;

use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};

use crate::{
    http::{Answer, Request},
    settings::units::Rate,
};

/// `WebHook-Allowed-Rate` is in requests per minute.
const MINUTE: Duration = Duration::from_secs(60);

/// The question, to where a request goes and with what it has of headers.
pub(super) fn question(request: &Request) -> Result<Request, String> {
    let origin = origin();
    let value =
        HeaderValue::from_str(&origin).map_err(|_| format!("the host name {origin:?} is not a header value"))?;
    let mut headers = request.headers.clone();
    let of_the_event = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("webhook-") || name.starts_with("ce-") || name.starts_with("content-")
    };
    let gone: Vec<HeaderName> = headers.keys().filter(|name| of_the_event(name)).cloned().collect();
    gone.iter().for_each(|name| drop(headers.remove(name)));
    headers.insert(HeaderName::from_static("webhook-request-origin"), value);
    Ok(Request { method: Method::OPTIONS, url: request.url.clone(), headers, body: None })
}

/// The pace that the target allows, if it names one; an error is for the admin.
pub(super) fn answer(answer: &Answer) -> Result<Option<Rate>, String> {
    read(answer, &origin())
}

/// What this sender is called: the host's name.
fn origin() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn read(answer: &Answer, origin: &str) -> Result<Option<Rate>, String> {
    match answer.header("webhook-allowed-origin").map(str::trim) {
        Some(allowed) if allowed != "*" && !allowed.eq_ignore_ascii_case(origin) => Err(format!(
            "the receiver did not allow {origin:?} to send (the OPTIONS request of CloudEvents web hooks): it allows {allowed:?}"
        )),
        _ => {
            let requests = answer.header("webhook-allowed-rate").and_then(|rate| rate.trim().parse().ok());
            Ok(requests.filter(|requests| *requests > 0).map(|requests| Rate { requests, per: MINUTE }))
        }
    }
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
        for status in [200, 204, 401, 403, 404, 405, 501] {
            assert_eq!(told(status, &[]), Ok(None), "{status}");
        }
        let refused = told(200, &[("webhook-allowed-origin", "eventgrid.azure.net")]).expect_err("another's");
        assert!(refused.contains("\"box.example\""), "{refused}");
    }
}
