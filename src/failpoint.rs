//! Places where a test makes a debug build stand still, or its disk fail; in a release build there are none.
//!
//! A point is on while the file of its name is in `$BELLPULL_FAILPOINTS`.

/// Whether the point is on.
pub fn is_on(name: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var_os("BELLPULL_FAILPOINTS").is_some_and(|dir| std::path::Path::new(&dir).join(name).exists())
}
