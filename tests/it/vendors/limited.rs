//! Too many requests, as each vendor documents its answer; and how long that asks to wait.

use std::time::Duration;

use serde_json::json;

use crate::support::server::Answer;

use super::fake::{fault, now};

/// A refusal without a word of when to come back.
fn refusal(status: u16, body: serde_json::Value) -> Answer {
    Answer::new(status, body.to_string()).header("content-type", "application/json")
}

const fn wait(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

pub fn stripe() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "error": { "type": "invalid_request_error", "code": "rate_limit" } })), None)
}

pub fn paypal() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "name": "RATE_LIMIT_REACHED", "message": "Too many requests." })), None)
}

pub fn shopify() -> (Answer, Option<Duration>) {
    let answer = refusal(429, json!({ "errors": "Exceeded 2 calls per second for api client." }));
    let answer = answer.header("retry-after", "2.0").header("x-shopify-shop-api-call-limit", "40/40");
    (answer, wait(2))
}

pub fn shopify_graphql() -> (Answer, Option<Duration>) {
    let error = json!({ "message": "Throttled", "extensions": { "code": "THROTTLED" } });
    let status = json!({ "maximumAvailable": 2000, "currentlyAvailable": 3, "restoreRate": 100 });
    (refusal(200, json!({ "errors": [error], "extensions": { "cost": { "throttleStatus": status } } })), None)
}

pub fn twilio() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "code": 20429, "message": "Too Many Requests", "status": 429 })), None)
}

pub fn slack() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "ok": false, "error": "ratelimited" })).header("retry-after", "30"), wait(30))
}

pub fn discord() -> (Answer, Option<Duration>) {
    let body = json!({ "message": "You are being rate limited.", "retry_after": 64.57, "global": false });
    let answer = refusal(429, body).header("retry-after", "65").header("x-ratelimit-limit", "5");
    (answer.header("x-ratelimit-remaining", "0").header("x-ratelimit-reset-after", "64.57"), wait(64))
}

pub fn trello() -> (Answer, Option<Duration>) {
    let body = json!({ "error": "API_TOKEN_LIMIT_EXCEEDED", "message": "Rate limit exceeded" });
    let answer = refusal(429, body).header("x-rate-limit-api-token-interval-ms", "10000");
    (answer.header("x-rate-limit-api-token-max", "100").header("x-rate-limit-api-token-remaining", "0"), None)
}

/// The primary limit: 403, and an epoch in seconds.
pub fn github() -> (Answer, Option<Duration>) {
    let answer = refusal(403, json!({ "message": "API rate limit exceeded for user ID 1." }));
    let answer = answer.header("x-ratelimit-limit", "5000").header("x-ratelimit-remaining", "0");
    (answer.header("x-ratelimit-reset", (now() + 120).to_string()), wait(110))
}

pub fn instagram() -> (Answer, Option<Duration>) {
    let error = json!({ "message": "(#4) Application request limit reached", "type": "OAuthException", "code": 4 });
    (refusal(400, json!({ "error": error })).header("x-app-usage", "{\"call_count\":100}"), None)
}

pub fn x() -> (Answer, Option<Duration>) {
    let answer = refusal(429, json!({ "title": "Too Many Requests", "status": 429 }));
    let answer = answer.header("x-rate-limit-limit", "300").header("x-rate-limit-remaining", "0");
    (answer.header("x-rate-limit-reset", (now() + 300).to_string()), wait(290))
}

pub fn openai() -> (Answer, Option<Duration>) {
    let answer = refusal(429, json!({ "error": { "type": "requests", "code": "rate_limit_exceeded" } }));
    let answer = answer.header("retry-after", "20").header("x-ratelimit-remaining-requests", "0");
    (answer.header("x-ratelimit-reset-requests", "20s"), wait(20))
}

pub fn stability() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "name": "rate_limit_exceeded", "errors": ["You have exceeded the rate limit"] })), None)
}

/// In a 200, as all of Google's errors.
pub fn google() -> (Answer, Option<Duration>) {
    (refusal(200, json!({ "status": "OVER_QUERY_LIMIT", "results": [] })), None)
}

pub fn weather() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "cod": 429, "message": "Your account is temporary blocked" })), None)
}

pub fn amadeus() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "errors": [{ "status": 429, "code": 38194, "title": "Too many requests" }] })), None)
}

pub fn supertokens() -> (Answer, Option<Duration>) {
    (refusal(429, json!({ "message": "Too many requests" })), None)
}

/// Seconds until the next period.
pub fn datadog() -> (Answer, Option<Duration>) {
    let answer = refusal(429, json!({ "errors": ["Rate limit exceeded"] })).header("x-ratelimit-limit", "100");
    let answer = answer.header("x-ratelimit-remaining", "0").header("x-ratelimit-period", "60");
    (answer.header("x-ratelimit-reset", "45").header("x-ratelimit-name", "monitors"), wait(45))
}

pub fn soap() -> (Answer, Option<Duration>) {
    (fault("too many requests"), None)
}

/// A gateway in front of an old service.
pub fn bank() -> (Answer, Option<Duration>) {
    (Answer::new(503, "<html>Busy</html>").header("retry-after", "120"), wait(120))
}
