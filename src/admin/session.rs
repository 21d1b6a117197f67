//! Who uses the page: a code of one use in its link, and what the page gets for it. Nothing that lasts is in an address, and what
//! a browser writes to its disk opens nothing.
//!
//! The page holds its token in memory. For a reload it keeps half of what renews it in the tab's storage; the other half is a
//! cookie of the session, which a browser keeps in memory, and which other ports of the same host see but cannot use. Token and
//! renewal carry their end, and a MAC under the API's token: they outlive a restart of the daemon, and end with that token.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json as Body,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{COOKIE, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    model::{Timestamp, hex},
    settings::secret::Secret,
};

/// How long a link works.
pub const CODE_FOR: Duration = Duration::from_secs(60);
/// How long a page goes on without a new link.
const SESSION_FOR: Duration = Duration::from_secs(12 * 60 * 60);
/// The oldest gives way.
const CODES_MAX: usize = 64;
const COOKIE_NAME: &str = "bellpull-page";
/// Of what is made up here.
const CHARS: usize = 64;

/// The codes that nobody has used, and until when; they end with the daemon. Cheap to clone.
#[derive(Clone, Default)]
pub struct Codes(Arc<Mutex<Vec<(String, Instant)>>>);

impl Codes {
    /// One that lets in once.
    pub fn issue(&self, within: Duration) -> String {
        let (code, now) = (random(), Instant::now());
        let mut codes = self.0.lock().expect("no thread panics with it");
        codes.retain(|(_, until)| now < *until);
        if codes.len() >= CODES_MAX {
            codes.remove(0);
        }
        codes.push((code.clone(), now + within));
        code
    }

    /// Whether it is one; it is not any more.
    fn take(&self, given: &str) -> bool {
        let now = Instant::now();
        let mut codes = self.0.lock().expect("no thread panics with it");
        let same = |code: &str| bool::from(code.as_bytes().ct_eq(given.as_bytes()));
        let place = codes.iter().position(|(code, until)| now < *until && same(code));
        place.map(|place| codes.remove(place)).is_some()
    }
}

/// What nobody guesses: 256 bits.
pub(super) fn random() -> String {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).expect("the operating system has a random generator");
    hex(&bits)
}

/// What is asked for the API, over TCP.
#[derive(Clone)]
pub(super) struct Door {
    pub token: Arc<Secret>,
    pub codes: Codes,
}

impl Door {
    /// Whether a bearer's token is the API's, or that of a page.
    pub fn opens_for(&self, given: &str) -> bool {
        bool::from(given.as_bytes().ct_eq(self.token.expose().as_bytes()))
            || self.end_of("token", given, "", Clock::system().now()).is_some()
    }

    /// `UNTIL.NONCE.MAC`: what it is for and what must be shown with it are under the MAC.
    fn made(&self, what: &str, until: Timestamp, with: &str) -> String {
        let open = format!("{}.{}", until.0, random());
        let mac = self.mac(what, &open, with);
        format!("{open}.{}", hex(&mac.finalize().into_bytes()))
    }

    fn mac(&self, what: &str, open: &str, with: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.token.expose().as_bytes()).expect("a key of any length will do");
        for part in ["bellpull page", what, open, with] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        mac
    }

    /// When it ends, where it is ours and has not.
    fn end_of(&self, what: &str, given: &str, with: &str, now: Timestamp) -> Option<Timestamp> {
        let (open, mac) = given.rsplit_once('.')?;
        let expected = hex(&self.mac(what, open, with).finalize().into_bytes());
        let until = Timestamp(open.split_once('.')?.0.parse().ok()?);
        (bool::from(mac.as_bytes().ct_eq(expected.as_bytes())) && now < until).then_some(until)
    }

    /// A page's session, for a code or for both halves of a renewal. What is renewed ends when it would have.
    fn begin(&self, given: &Given, cookie: &str, now: Timestamp) -> Option<New> {
        let until = match given {
            Given::Code(code) => self.codes.take(code).then(|| now.plus(SESSION_FOR))?,
            Given::Renewal(half) => self.end_of("renewal", half, cookie, now)?,
        };
        // A cookie that is there already is that of another tab, which goes on with it.
        let known = cookie.len() == CHARS && cookie.bytes().all(|byte| byte.is_ascii_hexdigit());
        let cookie = if known { cookie.to_owned() } else { random() };
        let renewal = self.made("renewal", until, &cookie);
        Some(New { token: self.made("token", until, ""), renewal, cookie, until })
    }
}

struct New {
    token: String,
    renewal: String,
    cookie: String,
    until: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Given {
    Code(String),
    Renewal(String),
}

/// `POST /api/session`: the one way in without a token.
pub(super) async fn begin(State(door): State<Door>, headers: HeaderMap, Body(given): Body<Given>) -> Response {
    let cookies =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|all| all.split("; "));
    let ours = cookies.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == COOKIE_NAME);
    match door.begin(&given, ours.map_or("", |(_, half)| half), Clock::system().now()) {
        Some(New { token, renewal, cookie, until }) => {
            // No Max-Age: a browser keeps it in memory, and forgets it when it ends.
            let cookie = format!("{COOKIE_NAME}={cookie}; Path=/api/session; HttpOnly; SameSite=Strict");
            let answer = json!({ "token": token, "renewal": renewal, "until": until.to_string() });
            ([(SET_COOKIE, cookie)], Body(answer)).into_response()
        }
        None => {
            let error = "a link works once and for a minute, and this page knows nothing newer: `bellpull dashboard` prints another";
            (StatusCode::UNAUTHORIZED, Body(json!({ "error": error }))).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        Door { token: Arc::new(Secret::new("the token of the API".into())), codes: Codes::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_lets_in_once_and_not_for_long() {
        let (door, now) = (door(), Timestamp(1_000));
        let begin = |given: Given, cookie: &str, now| door.begin(&given, cookie, now);
        let code = door.codes.issue(CODE_FOR);
        let new = begin(Given::Code(code.clone()), "", now).expect("let in");
        assert_eq!(door.end_of("token", &new.token, "", now), Some(now.plus(SESSION_FOR)));
        assert!(begin(Given::Code(code), "", now).is_none(), "a second time");
        assert!(begin(Given::Code(String::new()), "", now).is_none());
        let late = door.codes.issue(CODE_FOR);
        tokio::time::advance(CODE_FOR).await;
        assert!(begin(Given::Code(late), "", now).is_none(), "too late");
        // Half of a renewal is nothing, and neither stands for the other.
        assert!(begin(Given::Renewal(new.renewal.clone()), "", now).is_none());
        assert!(begin(Given::Renewal(new.token.clone()), &new.cookie, now).is_none());
        assert_eq!(door.end_of("token", &new.renewal, "", now), None);
        let later = now.plus(SESSION_FOR / 2);
        let again = begin(Given::Renewal(new.renewal.clone()), &new.cookie, later).expect("renewed");
        assert_eq!(
            (&again.cookie, again.until),
            (&new.cookie, new.until),
            "two tabs have one, and it does not last for ever"
        );
        assert!(begin(Given::Renewal(again.renewal), &again.cookie, new.until).is_none());
        assert_eq!(door.end_of("token", &again.token, "", new.until), None);
        // The end cannot be moved, and another daemon's is no good.
        let moved = new.token.replacen("43201000", "93201000", 1);
        assert!(moved != new.token && door.end_of("token", &moved, "", now).is_none());
        let other = Door { token: Arc::new(Secret::new("another".into())), codes: Codes::default() };
        assert_eq!(other.end_of("token", &new.token, "", now), None);
        for broken in ["", ".", "..", "1.2", "x.y.z", "9999999999999..", "é.é.é"] {
            assert!(!door.opens_for(broken), "{broken}");
        }
        assert!(door.opens_for("the token of the API"));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_codes_are_kept() {
        let codes = Codes::default();
        let all: Vec<String> = (0..=CODES_MAX).map(|_| codes.issue(CODE_FOR)).collect();
        let mut taken = all.iter().map(|code| codes.take(code));
        assert_eq!(taken.next(), Some(false));
        assert!(taken.all(|taken| taken));
    }
}
