//! What systemd is told: READY, STATUS, RELOADING and STOPPING (sd_notify(3)). Without a NOTIFY_SOCKET nothing is said.

use sd_notify::NotifyState;

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

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}
