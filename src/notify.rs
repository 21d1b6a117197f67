//! What systemd is told (sd_notify(3)): READY, STATUS, RELOADING, STOPPING, and that the daemon is alive. Without a
//! NOTIFY_SOCKET nothing is said.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sd_notify::NotifyState;

/// How often more time is asked for while the store opens, and how much.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTEND_BY_USEC: u32 = 30_000_000;

/// Store and configuration are open, or a reload is done.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// A reload begins: with the time in the same datagram, or systemd waits for it until its timeout.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "failed to read the monotonic clock"),
    }
}

/// SIGTERM has come.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// How often systemd wants to hear that the daemon is alive (`WatchdogSec=`).
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Everything that has to move has moved.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// Asks for more time than `TimeoutStartSec=` while something long is done, and says that the daemon is alive meanwhile: a store may
/// open slowly after a power cut, and one that failed is waited for.
pub async fn extending<T>(work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut every = tokio::time::interval(watchdog().map_or(EXTEND_EVERY, |within| EXTEND_EVERY.min(within / 3)));
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = every.tick() => send(&[NotifyState::ExtendTimeoutUsec(EXTEND_BY_USEC), NotifyState::Watchdog]),
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    /// It is tried every few seconds: told once, until it works again.
    static FAILS: AtomicBool = AtomicBool::new(false);
    let result = sd_notify::notify(states);
    let told = FAILS.swap(result.is_err(), Ordering::Relaxed);
    if let Err(error) = result
        && !told
    {
        tracing::warn!(%error, "failed to notify systemd");
    }
}
