//! What lives between a stream's polls: the connection, what its messages were good for, and how those before it ended.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Reading,
    buffer::{Arrived, Buffer},
    end::{End, LIVED_MIN, Life, Next},
};
use crate::{
    auth::{self, Used},
    compute::compute,
    decode::{self, Page},
    model::Hash,
    source::{Count, Error, ErrorKind},
};

/// What lives between polls.
#[derive(Debug, Default)]
pub struct Live {
    pub(super) connection: Option<Connection>,
    /// Failed connections in a row.
    pub(super) failed: u32,
    /// A close code has led to a new login since a connection did well.
    pub(super) logged_in_again: bool,
}

#[derive(Debug)]
pub struct Connection {
    pub(super) arrived: mpsc::Receiver<Arrived>,
    /// Why it ended, once the channel is closed.
    pub(super) ended: Arc<Mutex<Option<End>>>,
    /// When it had subscribed.
    pub(super) since: Instant,
    /// The credentials of its handshake.
    pub(super) used: Vec<Used>,
    pub(super) standing: Standing,
    /// Messages of the baseline, while it is gathered.
    pub(super) gathered: Vec<Bytes>,
    /// What came behind the baseline, for the poll after it.
    pub(super) later: Vec<Bytes>,
    /// Ends the task.
    _task: DropGuard,
}

/// What a connection's messages were good for so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// One could be read.
    pub(super) understood: bool,
    /// Why the first one could not, while none could.
    pub(super) unread: Option<decode::Error>,
    /// One had records.
    pub(super) fruitful: bool,
}

impl Live {
    /// What follows the end of a connection.
    pub(super) fn judge(&mut self, end: &End, life: Life) -> Next {
        if life.fruitful || life.lived >= LIVED_MIN {
            (self.failed, self.logged_in_again) = (0, false);
        }
        let next = end.next(Life { may_log_in: life.may_log_in && !self.logged_in_again, ..life }, self.failed);
        match next {
            Next::LogIn => self.logged_in_again = true,
            Next::Failed(_) => self.failed = self.failed.saturating_add(1),
            Next::Now | Next::Wait(_) => {}
        }
        next
    }

    /// The next poll connects again, and asks from the mark: what came last could not be committed.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }
}

impl Connection {
    /// Is read from now on, by what leaves its messages in a buffer of so many bytes and says how it ended.
    pub fn read<R>(used: Vec<Used>, size_max: u64, read: impl FnOnce(Buffer) -> R) -> Self
    where
        R: Future<Output = End> + Send + 'static,
    {
        let (buffer, arrived) = Buffer::new(size_max);
        let (connection, stop) = Self::new(used, arrived);
        let (why, reading) = (connection.ended.clone(), read(buffer));
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                // Before the channel is closed.
                end = reading => *why.lock().expect("no thread panics with it") = Some(end),
            }
        });
        connection
    }

    /// Ended before it was read.
    pub fn over(used: Vec<Used>, end: End) -> Self {
        let (_, arrived) = Buffer::new(0);
        let (connection, _) = Self::new(used, arrived);
        *connection.ended.lock().expect("no thread panics with it") = Some(end);
        connection
    }

    fn new(used: Vec<Used>, arrived: mpsc::Receiver<Arrived>) -> (Self, CancellationToken) {
        let stop = CancellationToken::new();
        let connection = Self {
            arrived,
            ended: Arc::default(),
            since: Instant::now(),
            used,
            standing: Standing::default(),
            gathered: Vec::new(),
            later: Vec::new(),
            _task: stop.clone().drop_guard(),
        };
        (connection, stop)
    }

    /// What is there now.
    pub fn drain(&mut self) -> Vec<Arrived> {
        let mut all = Vec::new();
        while let Ok(arrived) = self.arrived.try_recv() {
            all.push(arrived);
        }
        all
    }

    /// Looks at messages until one could be read and one had records: what a connection is good for.
    pub async fn look(
        &mut self,
        reading: &Reading,
        count: &Count,
        from: &str,
        arrived: &[Arrived],
    ) -> Result<(), Error> {
        if self.standing.understood && self.standing.fruitful || arrived.is_empty() {
            return Ok(());
        }
        let pages: Vec<Page> = arrived.iter().map(|arrived| page(from, arrived.body.clone())).collect();
        let (reading, count, mut standing) = (reading.clone(), count.clone(), self.standing.clone());
        let look = move || {
            for page in &pages {
                if standing.understood && standing.fruitful {
                    break;
                }
                match reading.unreadable(page) {
                    None => standing.understood = true,
                    Some(error) => {
                        standing.unread.get_or_insert(error);
                        continue;
                    }
                }
                // Where `items` fails on a message, it has none.
                standing.fruitful |= count(page).is_ok_and(|records| records > 0);
            }
            standing
        };
        let looked = compute(look).await;
        self.standing = looked.map_err(|e| ErrorKind::Request(format!("reading a message panicked: {e}")))?;
        Ok(())
    }

    pub fn life(&self) -> Life {
        Life {
            lived: self.since.elapsed(),
            fruitful: self.standing.fruitful,
            may_log_in: auth::token(&self.used).is_some(),
        }
    }

    pub fn end(&self) -> End {
        let end = self.ended.lock().expect("no thread panics with it").take();
        end.unwrap_or_else(|| End::new("the connection ended"))
    }
}

pub(super) fn page(url: &str, body: Bytes) -> Page {
    Page { url: url.to_owned(), content_type: None, hash: Hash::of(&body), body }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A new login after each of a server's refusals, and none after its second in a row; what did well starts from the beginning.
    #[test]
    fn a_refusal_logs_in_once_until_a_connection_does_well() {
        let seconds = Duration::from_secs;
        let refused = End { code: Some(4401), ..End::new("no") };
        let life = |lived: u64, fruitful: bool| Life { lived: seconds(lived), fruitful, may_log_in: true };
        let mut live = Live::default();
        for (lived, fruitful, next) in [
            (0, false, Next::LogIn),
            (0, false, Next::Failed(seconds(5))),
            (1, false, Next::Failed(seconds(10))),
            (90, false, Next::LogIn),
            (0, false, Next::Failed(seconds(5))),
            (3, true, Next::LogIn),
            (3, true, Next::LogIn),
            (0, false, Next::Failed(seconds(5))),
        ] {
            assert_eq!(live.judge(&refused, life(lived, fruitful)), next, "{lived} {fruitful}");
        }
    }
}
