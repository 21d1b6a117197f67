//! systemd's watchdog, fed while everything moves.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};

use crate::{admin::Admin, notify, telemetry::kind};

/// A task that ends with its holder.
pub(super) struct Watchdog(JoinHandle<()>);

impl Watchdog {
    pub fn start(within: Duration, admin: Admin) -> Self {
        Self(tokio::spawn(watch_over(within, admin)))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells systemd that the daemon is alive while the scheduler, the store's writer and every delivery loop move. A slow API
/// or receiver stops none of them.
async fn watch_over(within: Duration, admin: Admin) {
    let mut every = tokio::time::interval(within / 3);
    // What was missed while nothing moved is not made up for.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stuck = false;
    loop {
        every.tick().await;
        let moves = timeout(within / 2, admin.moves()).await == Ok(true);
        if moves {
            notify::alive();
        }
        let told = std::mem::replace(&mut stuck, !moves);
        if !moves && !told {
            tracing::error!(
                message_id = kind::STUCK,
                "scheduler, store or deliveries stand still: the watchdog is not fed"
            );
        }
    }
}
