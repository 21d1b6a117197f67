//! What a person at a terminal sees of a poll that takes long: on standard error, and nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    sync::watch,
    time::{interval, timeout},
};

use crate::pulse::Walked;

/// What takes no longer needs no picture.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// A spinner that turns smoothly.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// Waits for a poll. `walked` is there when this process polls; of the daemon's own poll only the time is known.
pub(super) async fn for_poll<T>(walked: Option<watch::Receiver<Walked>>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    if let Ok(done) = timeout(SHOWN_AFTER, &mut work).await {
        return done;
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let bar = bar.with_elapsed(SHOWN_AFTER);
    let mut draw = interval(DRAWN_EVERY);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = draw.tick() => {
                bar.set_message(message(walked.as_ref().map(|walked| *walked.borrow())));
                bar.tick();
            }
        }
    }
}

fn message(walked: Option<Walked>) -> String {
    match walked {
        Some(Walked { pages: 1, records }) => format!("poll: 1 page, {records} records"),
        Some(Walked { pages, records }) if pages > 0 => format!("poll: {pages} pages, {records} records"),
        _ => "poll".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_known() {
        assert_eq!(message(None), "poll");
        assert_eq!(message(Some(Walked { pages: 0, records: 0 })), "poll");
        assert_eq!(message(Some(Walked { pages: 1, records: 100 })), "poll: 1 page, 100 records");
        assert_eq!(message(Some(Walked { pages: 12, records: 1_180 })), "poll: 12 pages, 1180 records");
    }
}
