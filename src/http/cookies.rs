//! Cookies of one walk (RFC 6265): what an answer sets, and what of it goes with the next request. Pure; nothing of it is stored,
//! and a cookie has no form that could be logged.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use chrono::NaiveDate;
use reqwest::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use url::{Host, Url};

use crate::model::Timestamp;

/// Cookies that are kept, and the bytes of one, as browsers have them (RFC 6265, section 6.1).
const COOKIES_MAX: usize = 180;
const COOKIE_BYTES_MAX: usize = 4096;
/// A year that no cookie outlives: a walk is over long before.
const LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What answers of one walk set.
#[derive(Clone, Default)]
pub struct Jar(Vec<Cookie>);

/// What is kept of a `Set-Cookie`.
#[derive(Clone, PartialEq)]
struct Cookie {
    name: String,
    value: String,
    domain: String,
    /// It goes to `domain` alone, and not to the hosts below it.
    host_only: bool,
    path: String,
    secure: bool,
    expires: Option<Timestamp>,
}

impl fmt::Debug for Jar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jar({} cookies)", self.0.len())
    }
}

impl Jar {
    /// Takes what an answer sets (section 5.3). A cookie that is no text, or that its host must not set, is none.
    pub fn keep(&mut self, url: &Url, headers: &HeaderMap, now: Timestamp) {
        for header in headers.get_all(SET_COOKIE) {
            let Some(cookie) = header.to_str().ok().and_then(|text| parse(text, url, now)) else { continue };
            let same =
                |old: &&mut Cookie| (&old.name, &old.domain, &old.path) == (&cookie.name, &cookie.domain, &cookie.path);
            match self.0.iter_mut().find(same) {
                // It keeps its place in the order. One that is over is kept as well, and not sent.
                Some(old) => *old = cookie,
                None => {
                    if self.0.len() == COOKIES_MAX {
                        self.0.remove(0);
                    }
                    self.0.push(cookie);
                }
            }
        }
    }

    /// Puts on a request what goes to its URL (section 5.4), beside the cookies that the file gives. One of the file's is not
    /// replaced.
    pub fn put(&self, url: &Url, headers: &mut HeaderMap, now: Timestamp) {
        let own: Vec<String> =
            headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        let is_own = |name: &str| {
            own.iter().flat_map(|all| all.split(';')).any(|pair| pair.split('=').next().unwrap_or(pair).trim() == name)
        };
        let mut sent: Vec<&Cookie> =
            self.0.iter().filter(|cookie| cookie.goes_to(url, now) && !is_own(&cookie.name)).collect();
        if sent.is_empty() {
            return;
        }
        // The sort is stable: of equal paths the earlier cookie comes first.
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs = sent.into_iter().map(|cookie| format!("{}={}", cookie.name, cookie.value));
        let text = own.iter().cloned().chain(pairs).collect::<Vec<_>>().join("; ");
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            headers.insert(COOKIE, value);
        }
    }
}

impl Cookie {
    fn goes_to(&self, url: &Url, now: Timestamp) -> bool {
        let Some(host) = url.host_str() else { return false };
        let here = if self.host_only { host == self.domain } else { domain_matches(host, &self.domain) };
        let secure = !self.secure || is_trustworthy(url);
        here && secure && path_matches(url.path(), &self.path) && self.expires.is_none_or(|at| at > now)
    }
}

/// Whether nobody on the way can read it: `https`, or this machine itself.
fn is_trustworthy(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || is_loopback
}

/// Sections 5.2 and 5.3.
fn parse(text: &str, url: &Url, now: Timestamp) -> Option<Cookie> {
    let host = url.host_str()?;
    let mut parts = text.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || text.len() > COOKIE_BYTES_MAX || text.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return None;
    }
    let (mut domain, mut path, mut secure) = (None, None, false);
    let (mut expires, mut max_age) = (None, None);
    // Of an attribute that stands twice the last one counts.
    for part in parts {
        let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match attribute.trim().to_ascii_lowercase().as_str() {
            "expires" => expires = date(value).or(expires),
            "max-age" => max_age = seconds(value).or(max_age),
            "domain" => domain = Some(value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase()),
            "path" => path = value.starts_with('/').then(|| value.to_owned()),
            "secure" => secure = true,
            _ => {}
        }
    }
    let domain = domain.filter(|domain| !domain.is_empty());
    let (domain, host_only) = match domain {
        None => (host.to_owned(), true),
        // No list of public suffixes is at hand: a domain without a dot in it is one at least.
        Some(domain) if !domain.contains('.') && domain != host => return None,
        Some(domain) if domain_matches(host, &domain) => (domain, false),
        Some(_) => return None,
    };
    if secure && !is_trustworthy(url) {
        return None;
    }
    let expires = match max_age {
        Some(seconds) if seconds <= 0 => Some(now),
        Some(seconds) => Some(now.plus(Duration::from_secs(seconds.unsigned_abs()).min(LIFE_MAX))),
        None => expires,
    };
    let path = path.unwrap_or_else(|| default_path(url.path()).to_owned());
    Some(Cookie { name: name.to_owned(), value: value.to_owned(), domain, host_only, path, secure, expires })
}

/// Section 5.1.3. An address matches itself only.
fn domain_matches(host: &str, domain: &str) -> bool {
    let is_address = || {
        let inner = host.trim_start_matches('[').trim_end_matches(']');
        inner.parse::<Ipv4Addr>().is_ok() || inner.parse::<Ipv6Addr>().is_ok()
    };
    let below = || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    host == domain || below() && !is_address()
}

/// Section 5.1.4: the directory of a URL's path.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(at) if at > 0 && path.starts_with('/') => path.get(..at).unwrap_or("/"),
        _ => "/",
    }
}

fn path_matches(path: &str, of_cookie: &str) -> bool {
    path.strip_prefix(of_cookie)
        .is_some_and(|rest| rest.is_empty() || of_cookie.ends_with('/') || rest.starts_with('/'))
}

/// Section 5.2.2. More digits than a number has are as good as a year.
fn seconds(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let most = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(most))
}

/// Section 5.1.1: a date in any of the forms that servers have for it.
fn date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let is_delimiter = |c: char| !(c.is_ascii_alphanumeric() || c == ':' || !c.is_ascii());
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        let name = token.get(..3).map(str::to_ascii_lowercase).unwrap_or_default();
        let found_month = || MONTHS.iter().position(|known| *known == name);
        if let (None, Some(found)) = (time, time_of(token)) {
            time = Some(found);
        } else if let (None, Some(found)) = (day, number(token, 1, 2)) {
            day = Some(found);
        } else if let (None, Some(found)) = (month, found_month()) {
            month = Some(found);
        } else if let (None, Some(found)) = (year, number(token, 2, 4)) {
            year = Some(found);
        }
    }
    let year = match year? {
        short @ 70..=99 => short + 1900,
        short @ 0..=69 => short + 2000,
        year => year,
    };
    let (hour, minute, second) = time?;
    let month = u32::try_from(month?).ok()? + 1;
    // Before 1601 is refused by the RFC, and so is a day that its month lacks.
    let day = NaiveDate::from_ymd_opt(i32::try_from(year).ok().filter(|year| *year >= 1601)?, month, day?)?;
    day.and_hms_opt(hour, minute, second).map(|at| Timestamp::from_utc(at.and_utc()))
}

/// `hh:mm:ss`, whatever follows it.
fn time_of(token: &str) -> Option<(u32, u32, u32)> {
    let mut parts = token.splitn(3, ':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let whole = |part: &str| number(part, 1, 2).filter(|_| part.bytes().all(|b| b.is_ascii_digit()));
    Some((whole(hour)?, whole(minute)?, number(parts.next()?, 1, 2)?))
}

/// A number of so many digits at the beginning of a token, behind which no other digit stands.
fn number(token: &str, min: usize, max: usize) -> Option<u32> {
    let digits = token.bytes().take_while(u8::is_ascii_digit).count();
    if (min..=max).contains(&digits) { token.get(..digits)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-11-22T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn set(jar: &mut Jar, from: &str, lines: &[&str]) {
        let headers = lines.iter().map(|line| (SET_COOKIE, line.parse().expect("a header"))).collect();
        jar.keep(&url(from), &headers, at(NOON));
    }

    fn sent(jar: &Jar, to: &str, now: &str) -> String {
        let mut headers = HeaderMap::new();
        jar.put(&url(to), &mut headers, at(now));
        headers.get(COOKIE).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_cookie_goes_where_it_is_meant_to_go_and_nowhere_else() {
        let from = "https://api.example.com/v1/items?page=1";
        for (line, to, goes) in [
            ("s=1", "https://api.example.com/v1/items?page=2", true),
            ("s=1", "https://api.example.com/v1", true),
            ("s=1", "https://api.example.com/v10", false),
            ("s=1", "https://api.example.com/", false),
            ("s=1; Path=/", "https://api.example.com/", true),
            ("s=1; Path=", "https://api.example.com/v1/x", true),
            ("s=1; path=v1", "https://api.example.com/v1/x", true),
            ("s=1; Path=/v1/", "https://api.example.com/v1", false),
            // A port is no part of a cookie's place.
            ("s=1", "https://api.example.com:8443/v1/x", true),
            ("s=1; Path=/", "https://example.com/", false),
            ("s=1; Path=/", "https://x.api.example.com/", false),
            ("s=1; Path=/; Domain=api.example.com", "https://x.api.example.com/", true),
            ("s=1; Path=/; Domain=.Example.COM", "https://auth.example.com/", true),
            ("s=1; Path=/; Domain=.Example.COM", "https://example.com/", true),
            ("s=1; Path=/; Domain=example.com", "https://badexample.com/", false),
            // A host sets cookies for itself and what is above it.
            ("s=1; Path=/; Domain=evil.com", "https://evil.com/", false),
            ("s=1; Path=/; Domain=x.api.example.com", "https://x.api.example.com/", false),
            ("s=1; Path=/; Domain=com", "https://evil.com/", false),
            ("s=1; Path=/; Domain=com", "https://api.example.com/", false),
            ("s=1; Path=/; Domain=", "https://api.example.com/", true),
            ("s=1; Path=/; Secure", "https://api.example.com/", true),
            ("s=1; Path=/; Secure", "http://api.example.com/", false),
            ("s=1; Path=/", "http://api.example.com/", true),
            ("s=1; Path=/; HttpOnly; SameSite=Strict; Foo=bar", "https://api.example.com/", true),
        ] {
            let mut jar = Jar::default();
            set(&mut jar, from, &[line]);
            assert_eq!(sent(&jar, to, NOON), if goes { "s=1" } else { "" }, "{line} to {to}");
        }
    }

    #[test]
    fn an_address_is_itself_only_and_clear_text_sets_no_secure_cookie() {
        for (from, line, to, goes) in [
            ("http://127.0.0.1:80/", "s=1; Domain=127.0.0.1", "http://127.0.0.1:81/", true),
            ("http://127.0.0.1:80/", "s=1; Domain=0.0.1", "http://127.0.0.1/", false),
            ("http://127.0.0.1/", "s=1; Secure", "http://127.0.0.1/", true),
            ("http://[::1]/", "s=1", "http://[::1]/x", true),
            ("http://example.com/", "s=1; Secure", "https://example.com/", false),
            ("http://localhost/", "s=1; Domain=localhost", "http://localhost/", true),
        ] {
            let mut jar = Jar::default();
            set(&mut jar, from, &[line]);
            assert_eq!(!sent(&jar, to, NOON).is_empty(), goes, "{line} of {from} to {to}");
        }
    }

    #[test]
    fn names_and_values_are_kept_as_they_come() {
        for (line, expected) in [
            ("  a = b c ; Path=/", "a=b c"),
            ("a=\"q\"; Path=/", "a=\"q\""),
            ("a=b=c==; Path=/", "a=b=c=="),
            ("a=; Path=/", "a="),
            ("=b; Path=/", ""),
            ("a; Path=/", ""),
            ("", ""),
            (";", ""),
            ("a=b; Path=/; Path=/no", ""),
            ("a=b; Path=/no; Path=/", "a=b"),
        ] {
            let mut jar = Jar::default();
            set(&mut jar, "https://a.example/x", &[line]);
            assert_eq!(sent(&jar, "https://a.example/", NOON), expected, "{line}");
        }
        let mut jar = Jar::default();
        let long = format!("a={}", "x".repeat(COOKIE_BYTES_MAX));
        set(&mut jar, "https://a.example/", &[&long]);
        assert_eq!(sent(&jar, "https://a.example/", NOON), "");
        assert_eq!(format!("{jar:?}"), "Jar(0 cookies)");
    }

    #[test]
    fn later_ones_replace_and_what_is_over_is_not_sent() {
        let (from, root) = ("https://a.example/x/y", "https://a.example/x/y");
        for (lines, now, expected) in [
            (&["a=1", "b=2", "a=3"][..], NOON, "a=3; b=2"),
            (&["a=1; Path=/", "b=2; Path=/x/y", "c=3"], NOON, "b=2; c=3; a=1"),
            (&["a=1", "a=2; Max-Age=0"], NOON, ""),
            (&["a=1", "a=2; Max-Age=-1"], NOON, ""),
            (&["a=1; Max-Age=60"], "2026-11-22T12:00:59Z", "a=1"),
            (&["a=1; Max-Age=60"], "2026-11-22T12:01:00Z", ""),
            (&["a=1; Max-Age=99999999999999999999999"], "2027-01-01T00:00:00Z", "a=1"),
            (&["a=1; Max-Age=soon"], NOON, "a=1"),
            (&["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], NOON, ""),
            (&["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60"], NOON, "a=1"),
            (&["a=1; Expires=Sun, 22-Nov-26 12:00:30 GMT"], NOON, "a=1"),
            (&["a=1; Expires=Sun, 22-Nov-26 12:00:30 GMT"], "2026-11-22T12:00:30Z", ""),
            (&["a=1; Expires=Sun Nov 22 12:00:30 2026"], "2026-11-22T12:00:30Z", ""),
            // What is no date is as good as absent.
            (&["a=1; Expires=Sun, 31 Feb 2020 00:00:00 GMT"], NOON, "a=1"),
            (&["a=1; Expires=0"], NOON, "a=1"),
            (&["a=1; Expires=Thu, 01 Jan 1600 00:00:00 GMT"], NOON, "a=1"),
        ] {
            let mut jar = Jar::default();
            set(&mut jar, from, lines);
            assert_eq!(sent(&jar, root, now), expected, "{lines:?} at {now}");
        }
    }

    #[test]
    fn the_file_has_the_last_word() {
        let mut jar = Jar::default();
        set(&mut jar, "https://a.example/", &["lang=de", "s=1"]);
        let mut headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("lang=en; x"))]);
        jar.put(&url("https://a.example/"), &mut headers, at(NOON));
        let value = headers.get(COOKIE).expect("a cookie");
        assert_eq!((value.to_str().expect("text"), value.is_sensitive()), ("lang=en; x; s=1", true));
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
    }

    /// Whatever a server sets: nothing panics, the jar stays small, and no host that the cookie's own does not match gets it.
    #[test]
    fn any_line_is_taken_or_left_and_stays_at_home() {
        const WORDS: [&str; 24] = [
            "a",
            "b=1",
            "=",
            ";",
            "; ",
            " ",
            "Path=/",
            "path=/x/",
            "Domain=",
            "Domain=example.com",
            "domain=.a.example.com",
            "Domain=evil.org",
            "Domain=com",
            "Secure",
            "Max-Age=10",
            "max-age=-",
            "Expires=",
            "Thu, 01 Jan 2030 00:00:00 GMT",
            "12:00",
            "99",
            "\t",
            "\"",
            ",",
            "é",
        ];
        const HOSTS: [&str; 5] = [
            "https://a.example.com/x/y",
            "http://a.example.com/x/y",
            "https://example.com/x/y",
            "https://evil.org/x/y",
            "https://1.2.3.4/x/y",
        ];
        let mut seed = 11_u64;
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        let mut jar = Jar::default();
        for n in 0..20_000 {
            let mut line = if draw(2) == 0 { format!("k{}=v", draw(400)) } else { String::new() };
            for _ in 0..draw(8) {
                line.push_str(WORDS[draw(WORDS.len())]);
            }
            let Ok(value) = HeaderValue::from_str(&line) else { continue };
            let from = HOSTS[draw(HOSTS.len())];
            let headers = HeaderMap::from_iter([(SET_COOKIE, value)]);
            let mut alone = Jar::default();
            alone.keep(&url(from), &headers, at(NOON));
            jar.keep(&url(from), &headers, at(NOON));
            assert!(jar.0.len() <= COOKIES_MAX);
            for to in HOSTS {
                let names = sent(&alone, to, NOON);
                let (from, to) = (url(from), url(to));
                let (from_host, to_host) = (from.host_str().expect("a host"), to.host_str().expect("a host"));
                let related = from_host == to_host || from_host.ends_with(to_host) || to_host.ends_with("example.com");
                let sharing =
                    line.to_ascii_lowercase().contains("domain=") && from_host.ends_with("example.com") && related;
                assert!(names.is_empty() || from_host == to_host || sharing, "{n}: {line:?} of {from} went to {to}");
                let is_secure = alone.0.iter().any(|cookie| cookie.secure);
                assert!(names.is_empty() || !is_secure || to.scheme() == "https", "{line:?}");
            }
        }
    }
}
