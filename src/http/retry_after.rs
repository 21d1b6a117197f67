//! `Retry-After` (RFC 9110, section 10.2.3): seconds, with the fractions that some servers send, or an HTTP date.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::{model::Timestamp, schedule::HINT_MAX};

/// How long to wait, at most a day. `None` when the header is absent or means nothing.
pub fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::try_from_secs_f64(seconds).unwrap_or(HINT_MAX)
        }
        Ok(_) => return None,
        // Against the server's own clock, when it says what that shows.
        Err(_) => date(headers).unwrap_or(now).until(parse_date(text)?),
    };
    Some(wait.min(HINT_MAX))
}

/// The answer's `Date`.
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    parse_date(headers.get(DATE)?.to_str().ok()?)
}

/// An HTTP date (RFC 9110, section 5.6.7).
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|since| Timestamp(0).plus(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_fractions_and_dates() {
        let now = parse_date("Sun, 22 Nov 2026 11:42:00 GMT").expect("a date");
        let cases = [
            ("120", Some(120_000)),
            ("0", Some(0)),
            ("1.5", Some(1_500)),
            ("999999999", Some(86_400_000)),
            ("Sun, 22 Nov 2026 11:43:00 GMT", Some(60_000)),
            ("Sun, 22 Nov 2026 11:41:00 GMT", Some(0)),
            ("-5", None),
            ("NaN", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
            assert_eq!(wait(&headers, now), expected.map(Duration::from_millis), "{text}");
        }
    }
}
