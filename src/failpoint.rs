//! Places where a test makes a debug build stand still, or its disk fail; in a release build there are none.
//!
//! A point is on while the file of its name is in `$BELLPULL_FAILPOINTS`.

use std::time::Duration;

/// Waits while the point is on.
pub async fn stand_still(name: &str) {
    while is_on(name) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the point is on.
pub fn is_on(name: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var_os("BELLPULL_FAILPOINTS").is_some_and(|dir| std::path::Path::new(&dir).join(name).exists())
}
