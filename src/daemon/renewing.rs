//! Secrets that were refused and are replaced in their files: what fails because of them is tried at once.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{auth::vault::Vault, deliver, poller};

/// A file is read every two or three seconds then: with the spread of bridges, what was refused is asked again within five.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at the files of refused secrets until it is dropped.
pub(super) async fn renew(vault: Vault, runner: poller::Handle, deliveries: deliver::Handle) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let places = vault.replaced().await;
        if !places.is_empty() {
            deliveries.renewed(places.clone()).await;
            runner.renewed(places).await;
        }
    }
}
