#![no_main]

//! A `bridges.toml`: it is taken or refused with places, and the same way twice.

use std::{path::PathBuf, sync::LazyLock};

use bellpull::config::{self, Secrets};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("bellpull-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("made");
    dir.join("bridges.toml")
});

fuzz_target!(|data: &[u8]| {
    std::fs::write(&*FILE, data).expect("written");
    let load = || config::load(&FILE, Secrets::FormOnly).map(|config| format!("{config:?}")).map_err(|e| e.to_string());
    let first = load();
    if let Err(message) = &first {
        assert!(message.contains("bridges.toml"), "{message}");
    }
    assert_eq!(first, load());
});
