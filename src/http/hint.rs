//! What an answer's headers say of the next request: how long to leave the server alone. Pure.
//!
//! A hint only delays. Servers name the same thing in many ways: `Retry-After` (RFC 9110), the `RateLimit` fields of the
//! IETF's drafts, the `X-RateLimit-*` of everybody else, GitHub's `X-Poll-Interval`, and `Cache-Control: max-age`
//! (RFC 9111), which says that the same bytes would come again.

use std::time::Duration;

use reqwest::header::{AGE, CACHE_CONTROL, HeaderMap};

use super::retry_after;
use crate::{model::Timestamp, schedule::HINT_MAX};

/// A budget that is used up and "resets in 0" still asks for a breath.
const RESET_MIN: Duration = Duration::from_secs(1);
/// From here a number is a time since 1970 and no count of seconds: 30 years.
const EPOCH_SECONDS_FROM: f64 = 1e9;
/// From here it counts milliseconds.
const EPOCH_MS_FROM: f64 = 1e12;

/// How long the server wants no request, at most a day; `None` when it does not say.
pub fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    retry_after::wait(headers, now).max(used_up(headers, now))
}

/// How long the server wants no poll: the interval that it names, or how long its answer stays as it is.
pub fn next_poll(headers: &HeaderMap) -> Option<Duration> {
    number(headers, "x-poll-interval").and_then(seconds).max(fresh(headers))
}

/// When the budget is used up: the time until there is a new one.
pub fn used_up(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let budget = Budget::read(headers, now)?;
    (budget.remaining < 1.0).then_some(budget.reset).flatten().map(|reset| reset.clamp(RESET_MIN, HINT_MAX))
}

/// Takes out what speaks of a budget that is no longer the one that counts.
pub fn forget_budget(headers: &mut HeaderMap) {
    let speaks = |name: &str| name.contains("ratelimit") || name.contains("rate-limit");
    let names: Vec<_> = headers.keys().filter(|name| speaks(name.as_str())).cloned().collect();
    for name in &names {
        headers.remove(name);
    }
}

/// Requests that may still be sent, and the time until there are more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    pub remaining: f64,
    pub reset: Option<Duration>,
}

impl Budget {
    /// The first of the known spellings.
    pub fn read(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        if let Some(budget) = structured(headers) {
            return Some(budget);
        }
        for prefix in ["ratelimit", "x-ratelimit", "x-rate-limit"] {
            let Some(remaining) = number(headers, &format!("{prefix}-remaining")) else { continue };
            let after = number(headers, &format!("{prefix}-reset-after")).and_then(seconds);
            let reset = after.or_else(|| until(number(headers, &format!("{prefix}-reset"))?, headers, now));
            return Some(Self { remaining, reset });
        }
        None
    }
}

/// `RateLimit: "default";r=0;t=30` (draft-ietf-httpapi-ratelimit-headers-08 and later), and `limit=100, remaining=0,
/// reset=30` of the drafts before. Of several policies the one with the least left.
fn structured(headers: &HeaderMap) -> Option<Budget> {
    let text = headers.get("ratelimit")?.to_str().ok()?;
    let value = |part: &str, names: [&str; 2]| {
        let pairs = part.split([';', ',']).filter_map(|p| p.trim().split_once('='));
        pairs.into_iter().find(|(name, _)| names.contains(&name.trim())).and_then(|(_, v)| v.trim().parse::<f64>().ok())
    };
    let budget = |part: &str| {
        let remaining = value(part, ["r", "remaining"])?;
        Some(Budget { remaining, reset: value(part, ["t", "reset"]).and_then(seconds) })
    };
    let policies: Vec<&str> = if text.contains(';') { text.split(',').collect() } else { vec![text] };
    policies.into_iter().filter_map(budget).min_by(|a, b| a.remaining.total_cmp(&b.remaining))
}

/// A reset is a count of seconds, or a time in seconds or milliseconds since 1970, which is compared with the server's own
/// clock where it tells it.
fn until(reset: f64, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let ms = match reset {
        _ if reset >= EPOCH_MS_FROM => reset,
        _ if reset >= EPOCH_SECONDS_FROM => reset * 1000.0,
        _ => return seconds(reset),
    };
    let since = Duration::try_from_secs_f64(ms / 1000.0).ok()?;
    Some(retry_after::date(headers).unwrap_or(now).until(Timestamp(0).plus(since)))
}

/// `Cache-Control: max-age`, less the answer's `Age` (RFC 9111, section 4.2).
fn fresh(headers: &HeaderMap) -> Option<Duration> {
    let all: Vec<&str> = headers.get_all(CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok()).collect();
    let directives = || all.iter().flat_map(|text| text.split(',')).map(str::trim);
    if directives().any(|d| d.eq_ignore_ascii_case("no-cache") || d.eq_ignore_ascii_case("no-store")) {
        return None;
    }
    let age = number(headers, AGE.as_str()).unwrap_or(0.0);
    let max_age = directives().find_map(|d| {
        let (name, value) = d.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("max-age")
            .then(|| value.trim().trim_matches('"').parse::<f64>().ok())
            .flatten()
    })?;
    seconds(max_age - age).filter(|wait| !wait.is_zero())
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    let text = headers.get(name)?.to_str().ok()?;
    // `100, 100;w=60`: some repeat the policy behind it.
    let first = text.split([',', ';']).next()?.trim();
    first.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
}

/// Seconds, capped.
fn seconds(number: f64) -> Option<Duration> {
    (number.is_finite() && number >= 0.0).then(|| Duration::try_from_secs_f64(number).unwrap_or(HINT_MAX).min(HINT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's clock and ours: 2026-11-22T11:42:00Z.
    const NOW: Timestamp = Timestamp(1_795_347_720_000);

    /// Headers, and the wait in the test's unit.
    type Case = (&'static [(&'static str, &'static str)], Option<u64>);

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn every_spelling_of_a_budget() {
        let cases: [Case; 16] = [
            (&[], None),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "30")], Some(30_000)),
            (&[("ratelimit-remaining", "1"), ("ratelimit-reset", "30")], None),
            (&[("ratelimit", "limit=100, remaining=0, reset=50")], Some(50_000)),
            (&[("ratelimit", "\"default\";r=0;t=20")], Some(20_000)),
            (&[("ratelimit", "\"minute\";r=9;t=20, \"day\";r=0;t=3000")], Some(3_000_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795347780")], Some(60_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795347780500")], Some(60_500)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795347000")], Some(1_000)),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1795399999.123"),
                    ("x-ratelimit-reset-after", "1.25"),
                ],
                Some(1_250),
            ),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "0")], Some(1_000)),
            (&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1795347780")], Some(60_000)),
            (&[("x-ratelimit-remaining", "0")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9e15")], Some(86_400_000)),
            (&[("retry-after", "7"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "5")], Some(7_000)),
        ];
        for (lines, expected) in cases {
            assert_eq!(wait(&headers(lines), NOW), expected.map(Duration::from_millis), "{lines:?}");
        }
        // A server whose clock is a minute ahead.
        let ahead = headers(&[
            ("date", "Sun, 22 Nov 2026 11:43:00 GMT"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1795347810"),
        ]);
        assert_eq!(wait(&ahead, NOW), Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_only_delays_polls() {
        let cases: [Case; 9] = [
            (&[("x-poll-interval", "60")], Some(60)),
            (&[("cache-control", "private, max-age=60, s-maxage=60")], Some(60)),
            (&[("cache-control", "Max-Age=\"90\""), ("age", "30")], Some(60)),
            (&[("cache-control", "max-age=60"), ("age", "61")], None),
            (&[("cache-control", "max-age=60, no-cache")], None),
            (&[("cache-control", "no-store")], None),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "max-age=99999999999")], Some(86_400)),
            (&[("cache-control", "max-age=10"), ("x-poll-interval", "60")], Some(60)),
        ];
        for (lines, expected) in cases {
            assert_eq!(next_poll(&headers(lines)), expected.map(Duration::from_secs), "{lines:?}");
            assert_eq!(wait(&headers(lines), NOW), None, "{lines:?}");
        }
    }
}
