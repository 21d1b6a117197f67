//! `status --check`: one word of how all stands, for monitors that read exit codes (Nagios and its relatives).

use serde_json::Value as Json;

use super::{Done, Failure};

/// The worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Well,
    Warning,
    Critical,
}

impl Verdict {
    /// As an exit code. What is wrong was shown.
    pub fn exit(self) -> Done {
        match self {
            Self::Well => Ok(()),
            Self::Warning => Err(Failure::new(1, "")),
            Self::Critical => Err(Failure::new(2, "")),
        }
    }
}

/// Judges the bridges and endpoints of a status.
pub(super) fn judge(status: &Json) -> Verdict {
    let all = |kind: &str| status[kind].as_object().into_iter().flatten().map(|(_, one)| one.clone());
    let bridges = all("bridges").map(|bridge| of_bridge(&bridge));
    let endpoints = all("endpoints").map(|endpoint| of_endpoint(&endpoint));
    bridges.chain(endpoints).max().unwrap_or(Verdict::Well)
}

fn of_bridge(bridge: &Json) -> Verdict {
    match bridge["state"].as_str().unwrap_or_default() {
        // The file says so, or the snapshot of one that left it is kept.
        "ok" | "new" | "disabled" | "removed" => Verdict::Well,
        "held" | "paused" => Verdict::Warning,
        _ => Verdict::Critical,
    }
}

fn of_endpoint(endpoint: &Json) -> Verdict {
    match endpoint["state"].as_str().unwrap_or_default() {
        "ok" | "removed" => Verdict::Well,
        "disabled" if endpoint["disabled"] == "`enabled = false`" => Verdict::Well,
        "failing" | "held" => Verdict::Warning,
        _ => Verdict::Critical,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_worst_state_counts() {
        let judged = |bridges: &[&str], endpoint: &str| {
            let bridges: serde_json::Map<String, Json> =
                bridges.iter().enumerate().map(|(n, state)| (n.to_string(), json!({ "state": state }))).collect();
            judge(&json!({ "bridges": bridges, "endpoints": { "me": { "state": endpoint } } }))
        };
        assert_eq!(judged(&["ok", "new", "disabled"], "ok"), Verdict::Well);
        assert_eq!(judged(&["ok", "held"], "ok"), Verdict::Warning);
        assert_eq!(judged(&["held", "failing", "ok"], "ok"), Verdict::Critical);
        assert_eq!(judged(&["ok"], "down"), Verdict::Critical);
        assert_eq!(judged(&["ok"], "refusing"), Verdict::Critical);
        assert_eq!(judged(&["ok"], "failing"), Verdict::Warning);
        assert_eq!(judge(&json!({ "bridges": {} })), Verdict::Well);
        // A word of another version may be bad news.
        assert_eq!(judged(&["on-fire"], "ok"), Verdict::Critical);
        let by_file = json!({ "endpoints": { "me": { "state": "disabled", "disabled": "`enabled = false`" } } });
        assert_eq!(judge(&by_file), Verdict::Well);
    }
}
