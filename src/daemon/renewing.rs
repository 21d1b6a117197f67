//! Secrets that were refused and are replaced in their files: what fails because of them is tried at once.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{auth::vault::Vault, deliver, poller};

/// With the time that a file and a spread of bridges take, what was refused is asked again within five seconds.
const EVERY: Duration = Duration::from_millis(2500);

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
