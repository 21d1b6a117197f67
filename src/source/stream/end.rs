//! What the end of a connection means for the next one. No I/O, and no clock.

use std::time::Duration;

/// A connection that ended sooner than this, without a record, counts as failed: the next one waits.
pub const LIVED_MIN: Duration = Duration::from_secs(60);
/// The first such wait; it doubles. Also the wait after a connection that did well and ended soon.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub why: String,
    /// The server's close code (RFC 6455, section 7.4).
    pub code: Option<u16>,
    /// How long the server wants no other connection.
    pub asked: Option<Duration>,
    /// It was ended here, for something that a person has to hear of: a limit, or what cannot be answered.
    pub is_fault: bool,
}

/// How a connection did until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub lived: Duration,
    /// It brought records.
    pub fruitful: bool,
    /// A token was put on it, and no other one was asked for since a connection did well.
    pub may_log_in: bool,
}

/// What follows the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another connection.
    Now,
    /// Another connection with a new token.
    LogIn,
    /// Another one after a while; nothing failed.
    Wait(Duration),
    /// It failed, and the next one waits.
    Failed(Duration),
}

impl End {
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: None, asked: None, is_fault: false }
    }

    pub fn fault(why: impl Into<String>) -> Self {
        Self { is_fault: true, ..Self::new(why) }
    }

    /// Whether the code says that the credentials are not good: graphql-transport-ws's Unauthorized and Forbidden, and RFC 6455's
    /// "policy violation", which is what servers without codes of their own send.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code, Some(4401 | 4403 | 1008))
    }

    /// Whether the code asks for a wait: a restart, and "try again later" (IANA's registry of close codes).
    fn asks_to_wait(&self) -> bool {
        matches!(self.code, Some(1012 | 1013))
    }

    /// What follows, after so many failed connections in a row.
    pub fn next(&self, life: Life, failed: u32) -> Next {
        let lived_long = life.lived >= LIVED_MIN;
        if self.is_refusal() && life.may_log_in {
            Next::LogIn
        } else if lived_long && !self.is_fault && !self.asks_to_wait() {
            Next::Now
        } else if !self.is_fault && (lived_long || life.fruitful) {
            // It did its work: the next one need not wait longer than the first time.
            Next::Wait(self.asked.unwrap_or(BACKOFF_FIRST))
        } else {
            let backoff = BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(failed)).min(BACKOFF_MAX);
            Next::Failed(backoff.max(self.asked.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_connection_says_what_follows() {
        let seconds = Duration::from_secs;
        for (code, lived, fruitful, may_log_in, failed, next) in [
            (None, 0, false, true, 0, Next::Failed(seconds(5))),
            (None, 59, false, true, 2, Next::Failed(seconds(20))),
            (Some(1006), 0, false, false, 60, Next::Failed(seconds(900))),
            (None, 60, false, true, 0, Next::Now),
            (Some(1000), 3600, true, true, 0, Next::Now),
            // It brought records and ended soon: nothing failed, and the next one is not a flood.
            (None, 11, true, true, 0, Next::Wait(seconds(5))),
            // The server wants to be left alone for a moment, however long it lasted.
            (Some(1012), 3600, true, true, 0, Next::Wait(seconds(5))),
            (Some(1013), 3600, false, true, 0, Next::Wait(seconds(5))),
            (Some(1013), 1, false, true, 3, Next::Failed(seconds(40))),
            // A refusal: a new login where there is one.
            (Some(4401), 0, false, true, 0, Next::LogIn),
            (Some(4403), 3600, true, true, 0, Next::LogIn),
            (Some(1008), 10, true, true, 0, Next::LogIn),
            (Some(4401), 0, false, false, 1, Next::Failed(seconds(10))),
            (Some(1008), 10, true, false, 0, Next::Wait(seconds(5))),
            (Some(4400), 0, false, true, 0, Next::Failed(seconds(5))),
        ] {
            let life = Life { lived: seconds(lived), fruitful, may_log_in };
            let end = End { code, ..End::new("") };
            assert_eq!(end.next(life, failed), next, "{code:?} {life:?} {failed}");
        }
        // A message over `size-max`: however well it did, it is told.
        let life = Life { lived: seconds(3600), fruitful: true, may_log_in: true };
        assert_eq!(End::fault("too large").next(life, 0), Next::Failed(seconds(5)));
        // The server's own time is that of the next connection, and never shortens the wait after a failure.
        for (asked, fruitful, next) in [
            (2, true, Next::Wait(seconds(2))),
            (90, true, Next::Wait(seconds(90))),
            (2, false, Next::Failed(seconds(5))),
            (90, false, Next::Failed(seconds(90))),
        ] {
            let end = End { asked: Some(seconds(asked)), ..End::new("") };
            let life = Life { lived: seconds(3), fruitful, may_log_in: false };
            assert_eq!(end.next(life, 0), next, "{asked} {fruitful}");
        }
    }
}
