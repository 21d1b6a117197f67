//! What an answer that brings no message means: a status of gRPC with its details, or an answer of plain HTTP from
//! something on the way, whose status stands for one of gRPC's (gRPC's doc/http-grpc-status-mapping.md).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt as _;
use prost_reflect::{
    prost::{self, Message},
    prost_types::{Any, Duration as Span},
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tonic::{Code, Status};

use crate::{
    http::hint,
    model::Timestamp,
    schedule::HINT_MAX,
    source::{Error, ErrorKind, http::excerpt},
};

const STATUS: &str = "grpc-status";
const DETAILS: &str = "grpc-status-details-bin";
/// Details that are told; a form with more mistakes is as well known by its first ones.
const TOLD_MAX: usize = 5;
/// Of an answer in plain HTTP, for the message.
const WORDS_BYTES: usize = 4 << 10;
/// How long its body may take: its status is known.
const WORDS_WITHIN: Duration = Duration::from_secs(2);

/// The parts of google/rpc/status.proto and google/rpc/error_details.proto that are read.
mod rpc {
    use super::{Any, Span, prost};

    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "prost")]
    pub struct Status {
        #[prost(message, repeated, tag = "3")]
        pub details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "prost")]
    pub struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        pub retry_delay: Option<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "prost")]
    pub struct ErrorInfo {
        #[prost(string, tag = "1")]
        pub reason: String,
        #[prost(string, tag = "2")]
        pub domain: String,
    }

    /// BadRequest and QuotaFailure have the same form: what, and why.
    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "prost")]
    pub struct Violations {
        #[prost(message, repeated, tag = "1")]
        pub violations: Vec<Violation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "prost")]
    pub struct Violation {
        #[prost(string, tag = "1")]
        pub of: String,
        #[prost(string, tag = "2")]
        pub description: String,
    }
}

/// What a status means: the error of the way where it is one, else the server's.
pub(super) fn failure(status: &Status, origin: &str, now: Timestamp) -> Error {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.clone();
        }
        cause = error.source();
    }
    let headers = status.metadata().clone().into_headers();
    // gRFC A6: how long the server wants no other attempt.
    let pushback = headers.get("grpc-retry-pushback-ms").and_then(|ms| ms.to_str().ok()?.parse().ok());
    let (retry, told) = details(status.details());
    let hint = pushback.map(Duration::from_millis).max(retry).max(hint::wait(&headers, now));
    let mut message = excerpt(status.message());
    if !told.is_empty() {
        message = format!("{message} ({})", told.join("; "));
    }
    let kind = ErrorKind::Grpc { origin: origin.to_owned(), code: status.code(), message };
    Error { kind, hint: hint.map(|wait| wait.min(HINT_MAX)) }
}

/// How long a google.rpc.Status asks to wait, and what else it says, in words.
fn details(bytes: &[u8]) -> (Option<Duration>, Vec<String>) {
    let (mut wait, mut told) = (None, Vec::new());
    let Ok(status) = rpc::Status::decode(bytes) else { return (None, told) };
    for detail in status.details {
        let value = detail.value.as_slice();
        match detail.type_url.rsplit('/').next().unwrap_or_default() {
            "google.rpc.RetryInfo" => {
                let delay = rpc::RetryInfo::decode(value).ok().and_then(|info| info.retry_delay);
                wait = wait.max(delay.and_then(|delay| Duration::try_from(delay).ok()));
            }
            "google.rpc.ErrorInfo" => {
                let info = rpc::ErrorInfo::decode(value).unwrap_or_default();
                told.push(match info.domain.as_str() {
                    "" => excerpt(&info.reason),
                    domain => format!("{} of {}", excerpt(&info.reason), excerpt(domain)),
                });
            }
            "google.rpc.BadRequest" | "google.rpc.QuotaFailure" => {
                let all = rpc::Violations::decode(value).unwrap_or_default().violations;
                told.extend(all.iter().map(|one| format!("{}: {}", excerpt(&one.of), excerpt(&one.description))));
            }
            _ => {}
        }
    }
    told.truncate(TOLD_MAX);
    (wait, told)
}

/// Takes out details that are not base64, which tonic takes for granted.
pub(super) fn mend_details(headers: &mut HeaderMap) {
    let Some(details) = headers.remove(DETAILS) else { return };
    // With padding or without: both are sent.
    let text = details.to_str().unwrap_or_default().trim_end_matches('=');
    let padded = format!("{text}{}", "=".repeat(text.len().wrapping_neg() % 4));
    if STANDARD.decode(&padded).is_ok()
        && let Ok(value) = HeaderValue::from_str(&padded)
    {
        headers.insert(DETAILS, value);
    }
}

/// Whether trailers say that the call failed.
pub(super) fn has_failed(trailers: &HeaderMap) -> bool {
    trailers.get(STATUS).is_some_and(|status| status != "0")
}

/// Whether an answer is one of gRPC: of another, the status and the type are those of something on the way.
pub(super) fn is_grpc(status: u16, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let is_ours =
        kind.strip_prefix("application/grpc").is_some_and(|rest| matches!(rest.chars().next(), None | Some('+' | ';')));
    headers.contains_key(STATUS) || status == 200 && is_ours
}

/// The error of an answer in plain HTTP, with the beginning of its body.
pub(super) async fn plain(answer: http::Response<reqwest::Body>, origin: &str, now: Timestamp) -> Error {
    let (parts, mut body) = answer.into_parts();
    let mut words = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await
            && words.len() < WORDS_BYTES
        {
            words.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        }
    };
    // What came until then is enough.
    let _ = tokio::time::timeout(WORDS_WITHIN, read).await;
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(excerpt);
    let kind = kind.unwrap_or_else(|| "no content type".into());
    let mut message = format!("the answer is not gRPC's but {} with {kind}", parts.status.as_u16());
    let words = excerpt(&String::from_utf8_lossy(&words));
    if !words.is_empty() {
        message = format!("{message}: {words}");
    }
    let kind = ErrorKind::Grpc { origin: origin.to_owned(), code: meaning(parts.status.as_u16()), message };
    Error { kind, hint: hint::wait(&parts.headers, now) }
}

/// The status of gRPC that one of HTTP stands for.
fn meaning(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_347_720_000);

    fn any(name: &str, message: &impl Message) -> Any {
        Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
    }

    fn told(code: Code, details: Vec<Any>, metadata: &[(&'static str, &str)]) -> Error {
        let headers: HeaderMap =
            metadata.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value"))).collect();
        let bytes = rpc::Status { details }.encode_to_vec();
        let status = Status::with_details_and_metadata(code, "no", bytes.into(), MetadataMap::from_headers(headers));
        failure(&status, "https://a.example", NOW)
    }

    /// RESOURCE_EXHAUSTED with a RetryInfo of 60 s was asked again after 1, 6 and 16 s, and nothing of the details was
    /// told.
    #[test]
    fn details_are_a_wait_and_words() {
        let retry = rpc::RetryInfo { retry_delay: Some(Span { seconds: 60, nanos: 500_000_000 }) };
        let info = rpc::ErrorInfo { reason: "RATE_LIMIT".into(), domain: "shop.example".into() };
        let violation = |n: usize| rpc::Violation { of: format!("field_{n}"), description: "too large".into() };
        let bad = rpc::Violations { violations: (0..20).map(violation).collect() };
        let error = told(
            Code::ResourceExhausted,
            vec![
                any("google.rpc.RetryInfo", &retry),
                any("google.rpc.ErrorInfo", &info),
                any("google.rpc.BadRequest", &bad),
                any("shop.Unknown", &info),
            ],
            &[],
        );
        assert_eq!(error.hint, Some(Duration::from_millis(60_500)));
        assert_eq!(
            error.to_string(),
            "https://a.example answered with the gRPC status ResourceExhausted: no (RATE_LIMIT of shop.example; \
             field_0: too large; field_1: too large; field_2: too large; field_3: too large)"
        );
    }

    #[test]
    fn the_longest_wait_counts_and_a_day_is_the_most() {
        let retry = |seconds| {
            vec![any("google.rpc.RetryInfo", &rpc::RetryInfo { retry_delay: Some(Span { seconds, nanos: 0 }) })]
        };
        for (details, metadata, wait) in [
            (vec![], &[][..], None),
            (vec![], &[("grpc-retry-pushback-ms", "90000")], Some(90)),
            (vec![], &[("grpc-retry-pushback-ms", "-1")], None),
            (vec![], &[("retry-after", "7")], Some(7)),
            (retry(60), &[("retry-after", "7")], Some(60)),
            (retry(6), &[("retry-after", "7")], Some(7)),
            (retry(-6), &[], None),
            (retry(i64::MAX), &[], Some(86_400)),
        ] {
            let hint = told(Code::Unavailable, details, metadata).hint;
            assert_eq!(hint, wait.map(Duration::from_secs), "{metadata:?}");
        }
    }

    /// tonic ends the process' task at details that are not base64.
    #[test]
    fn details_in_any_form_end_nothing() {
        let mut seed = 7u32;
        for length in 0..200 {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                u8::try_from(0x21 + (seed >> 16) % 0x5e).expect("ASCII")
            };
            let text: Vec<u8> = (0..length).map(|_| next()).collect();
            let mut headers = HeaderMap::new();
            headers.insert(STATUS, HeaderValue::from_static("8"));
            headers.insert(DETAILS, HeaderValue::from_bytes(&text).expect("a value"));
            mend_details(&mut headers);
            let status = Status::from_header_map(&headers).expect("a status");
            assert_eq!(failure(&status, "https://a.example", NOW).hint, None);
        }
        for (sent, kept) in
            [("AAA", Some("AAA=")), ("AAA=", Some("AAA=")), ("AAAA", Some("AAAA")), ("A", None), ("A*", None)]
        {
            let mut headers: HeaderMap =
                [(DETAILS.parse().expect("a name"), sent.parse().expect("a value"))].into_iter().collect();
            mend_details(&mut headers);
            assert_eq!(headers.get(DETAILS).and_then(|v| v.to_str().ok()), kept, "{sent}");
        }
    }

    #[test]
    fn an_answer_of_plain_http_is_known_by_its_type() {
        for (status, lines, expected) in [
            (200, &[("content-type", "application/grpc")][..], true),
            (200, &[("content-type", "Application/gRPC+proto; v=1")], true),
            (200, &[("content-type", "application/grpc-web")], false),
            (200, &[("content-type", "text/html")], false),
            (200, &[], false),
            (503, &[("content-type", "application/grpc")], false),
            (503, &[("content-type", "application/grpc"), ("grpc-status", "14")], true),
            (200, &[("grpc-status", "12")], true),
        ] {
            let headers: HeaderMap =
                lines.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value"))).collect();
            assert_eq!(is_grpc(status, &headers), expected, "{status} {lines:?}");
        }
        // gRPC's own table.
        let codes = [400, 401, 403, 404, 429, 502, 503, 504, 200, 418].map(meaning);
        use Code::{Internal, PermissionDenied, Unauthenticated, Unavailable, Unimplemented, Unknown};
        assert_eq!(
            codes,
            [
                Internal,
                Unauthenticated,
                PermissionDenied,
                Unimplemented,
                Unavailable,
                Unavailable,
                Unavailable,
                Unavailable,
                Unknown,
                Unknown
            ]
        );
    }
}
