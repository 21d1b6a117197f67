//! Paused time that moves only when it is told to: real sockets work meanwhile, and no timeout fires by itself.

use std::{sync::mpsc, time::Duration};

/// While it lives, tokio's paused clock does not move by itself: it never does while blocking work is under way.
pub struct Stopped {
    _end: mpsc::Sender<()>,
}

impl Stopped {
    /// On a runtime that was started paused.
    pub fn start() -> Self {
        let (end, ended) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv());
        Self { _end: end }
    }

    /// Moves the clock, in steps that let every timer on the way fire in its order.
    pub async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    /// Waits in real time until something holds, thirty seconds at most.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..6_000 {
            if holds().await {
                return;
            }
            pause().await;
        }
        panic!("it did not come to this within thirty seconds: {what}");
    }
}

/// Five real milliseconds in which all tasks go on.
async fn pause() {
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await.expect("it sleeps");
}
