//! The kinds of lines that an admin may ask journald for, by `journalctl MESSAGE_ID=...`. An id stays with its kind for ever:
//! what people search and alert by is an interface.

/// One kind.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// 128 bits in hexadecimal, as journald wants them.
    pub id: &'static str,
    /// When it is said.
    pub when: &'static str,
}

/// The kinds, each as a constant of its id, and all of them in their order.
macro_rules! kinds {
    ($($constant:ident = $name:literal $id:literal $when:literal)*) => {
        $(#[doc = $when] pub const $constant: &str = $id;)*
        pub const ALL: &[Kind] = &[$(Kind { name: $name, id: $id, when: $when }),*];
    };
}

kinds! {
    STARTED = "started" "7367c6bfa5104a6fa699ec66613109e4"
        "The daemon runs."
    STOPPED = "stopped" "1e54155d89914dbfbdfe86e636abf70f"
        "The daemon has stopped as it was told to."
    GRACE_OVER = "grace-over" "e1039740aaf14dd5a8d16eb9562878ee"
        "Polls or deliveries were still under way when `daemon.shutdown-grace` was over, or a second signal came."
    RELOADED = "reloaded" "d22e0ec799414189b57d8180f690f35f"
        "A reload is done."
    RELOAD_REFUSED = "reload-refused" "9b079bb8bdca443781271021f52d33dd"
        "The file has errors, and the old configuration goes on."
    SECRET_RENEWED = "secret-renewed" "5d0c1be7a94f4c0f8e63b1f27a90d84e"
        "A server refused a secret, and its file holds another one, which is used from now on."
    STUCK = "stuck" "178e92f8ffd74e1f8c1f838c92e6e958"
        "Scheduler, store or deliveries stand still, and the watchdog is not fed."
    CLOCK_SET = "clock-set" "37356eb9e14e4e0aa420de88220b53a8"
        "The wall clock jumped by more than a minute."
    STORE_FAILED = "store-failed" "580b6c18dc9f4ee49ee5d7277e7ae59b"
        "The store failed, or could not be opened again: nothing is polled or sent."
    STORE_BACK = "store-back" "8b67f3587b354eeb9e4f8a10aae9fa33"
        "The store is open again."
    STORE_RESET = "store-reset" "2efd1e749515427989948bac593c15b3"
        "Committed history may be gone, or a backup was imported: receivers are told of a new stream."
    DISK_FULL = "disk-full" "b9c491b1afe042cc913f084af58eb491"
        "The disk has little room: nothing is polled until there is more."
    DISK_ROOM = "disk-room" "73cae2cec9144cdfb4e9c2fe15b30bdd"
        "The disk has room again, and polls go on."
    BRIDGE_CHANGED = "bridge-changed" "a6ecc9156c0f4f7fbb52528c7ea5be46"
        "A poll committed changes, or a first snapshot."
    BRIDGE_FAILING = "bridge-failing" "bc8ee3dbaf7c4048b140c1335dc0f00d"
        "A poll failed after one that did not."
    BRIDGE_RECOVERED = "bridge-recovered" "1336230de91f495cb4e689fa2a270f59"
        "A poll did not fail after one that did."
    BRIDGE_HELD = "bridge-held" "85c9c302c7e742d6876a7738affcf617"
        "A guard holds an answer."
    BRIDGE_RELEASED = "bridge-released" "594f747175eb4e02be13390cc62d3f56"
        "What was held was accepted, rejected or overtaken."
    BRIDGE_STALE = "bridge-stale" "c1c7f56222304656a5d13917e43a81f0"
        "No poll was accepted for `alert.stale-after`."
    BRIDGE_MARK_RESET = "bridge-mark-reset" "6f0d2f8c5b1c4f1b9a54c1c0d6a1be37"
        "A source answered with a status of `since.reset`: the mark is dropped, and it is asked from the start."
    BRIDGE_HINT = "bridge-hint" "3c9e1f60a7d84d0e8b5f7d2e94a6c1f2"
        "An answer shows something that the file most likely should say."
    BRIDGE_PAUSED = "bridge-paused" "e923534fa214407e8973ddb96d6fc5db"
        "Somebody stopped the polls of a bridge."
    BRIDGE_RESUMED = "bridge-resumed" "34ddb051ec5340ae8f6f1d8cf838d1b6"
        "Somebody let the polls of a bridge go on."
    BRIDGE_PANICKED = "bridge-panicked" "cfc4ce6a50594502b3783fdec7dccdc2"
        "A poll panicked after one that did not: please report it."
    BRIDGE_LEFT_OUT = "bridge-left-out" "5b303d0abc934086a8b0d7e09e3de5e0"
        "Records, messages or members of a bridge were left out."
    BRIDGE_REPLACED = "bridge-replaced" "a41f7d0e6c5b4b1f9e2d8c3470b95e16"
        "Halves of surrogate pairs in an answer became U+FFFD."
    ENDPOINT_DOWN = "endpoint-down" "ebc09aaeb305446994cf6ed2215768a0"
        "An endpoint does not answer, or asks to wait: only probes are sent."
    ENDPOINT_UP = "endpoint-up" "5a39955c092e4aeb8d6c33664f852cf2"
        "An endpoint that was down answers."
    ENDPOINT_REFUSES = "endpoint-refuses" "b85560efb7084682aa8b9947568ed669"
        "A receiver refused an event, which is tried again; at most one line a minute for each endpoint."
    ENDPOINT_REFUSING = "endpoint-refusing" "3ffc787dcd17d17bee19c39cf8e7ba81"
        "A receiver refused all that it was sent since something was delivered; once."
    ENDPOINT_RECOVERED = "endpoint-recovered" "0021c0b24eaecb559aa105445aa70bb5"
        "An endpoint that refused everything took an event."
    ENDPOINT_FULL = "endpoint-full" "40a2c4b62ecf4d3ead9a56e4c6fa2224"
        "A queue holds `queue-max` events."
    ENDPOINT_ROOM = "endpoint-room" "d46a144a9c2840fa974d3e216cb08475"
        "A queue that was full has room again."
    ENDPOINT_DISABLED = "endpoint-disabled" "19ec30d5e08e40e59212d2c7adffeec0"
        "Nothing is sent to an endpoint any more; its events are kept."
    ENDPOINT_ENABLED = "endpoint-enabled" "2036ee5beae64b699fe6abce356ca411"
        "An endpoint that was disabled is enabled."
    DEAD_LETTER = "dead-letter" "428ebb992516420681961777c05338a2"
        "An event became a dead letter; at most one line a minute for each endpoint, with how many more there were."
    RENAMED = "renamed" "36a805a2739541eabf052217838021dc"
        "A snapshot or a queue moves to the new name of its bridge or endpoint."
    DROPPED = "dropped" "f351f976657546b88f8313b3d74259e6"
        "What a bridge or an endpoint that left the file 30 days ago left behind is dropped."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;

    #[test]
    fn ids_are_what_journald_takes_and_no_two_kinds_are_one() {
        let ids: BTreeSet<&str> = ALL.iter().map(|kind| kind.id).collect();
        let names: BTreeSet<&str> = ALL.iter().map(|kind| kind.name).collect();
        assert_eq!((ids.len(), names.len()), (ALL.len(), ALL.len()));
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        for kind in ALL {
            assert!(kind.id.len() == 32 && kind.id.chars().all(digit), "{}", kind.name);
        }
    }
}
