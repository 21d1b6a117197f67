//! Whether a complete answer is too suspicious to be committed without a person's word. Pure.

use crate::settings::{Table, fingerprint::Fingerprint};

/// From how many known records on shares mean something.
const KNOWN_MIN: u64 = 10;

/// The largest shares of known records that one poll may change, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    pub deletes: f64,
    pub changes: f64,
    /// For both, on the first poll after the definition changed.
    pub definition: f64,
    pub empty: Empty,
}

/// What an empty list means while records are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    Hold,
    Error,
    Accept,
}

impl Default for Guard {
    fn default() -> Self {
        Self { deletes: 0.5, changes: 1.0, definition: 0.1, empty: Empty::Hold }
    }
}

/// What one answer would change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub known: u64,
    /// Records in the answer.
    pub present: u64,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub definition_changed: bool,
    /// Absence means something: a complete walk without `window` or `since`.
    pub complete: bool,
}

/// What is to be done with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Commit,
    /// With the reason and the setting that would change it.
    Hold(String),
    Error(String),
}

impl Guard {
    /// Writes what decides whether an answer is held.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("deletes", self.deletes);
        text.put("changes", self.changes);
        text.put("definition-changes", self.definition);
        let empty = match self.empty {
            Empty::Hold => "hold",
            Empty::Error => "error",
            Empty::Accept => "accept",
        };
        text.put("empty", empty);
    }

    /// Reads `guard` and `empty`.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut guard = Self::default();
        if let Some(mut own) = table.take("guard").and_then(|item| item.table()) {
            for (key, share) in [
                ("deletes", &mut guard.deletes),
                ("changes", &mut guard.changes),
                ("definition", &mut guard.definition),
            ] {
                if let Some(value) = own.take(key).and_then(|item| item.share()) {
                    *share = value;
                }
            }
            own.finish();
        }
        let words = [("hold", Empty::Hold), ("error", Empty::Error), ("accept", Empty::Accept)];
        if let Some(empty) = table.take("empty").and_then(|item| item.word(&words)) {
            guard.empty = empty;
        }
        guard
    }

    pub fn judge(&self, counts: Counts) -> Verdict {
        let Counts { known, present, updated, deleted, .. } = counts;
        if counts.complete && present == 0 && known > 0 {
            match self.empty {
                Empty::Hold => {
                    return Verdict::Hold(format!(
                        "the list is empty while {known} records are known (`empty` = \"hold\")"
                    ));
                }
                Empty::Error => {
                    return Verdict::Error(format!(
                        "the list is empty while {known} records are known (`empty` = \"error\")"
                    ));
                }
                // The file says that an empty list is one: its deletions are no surprise.
                Empty::Accept => return Verdict::Commit,
            }
        }
        if known < KNOWN_MIN {
            return Verdict::Commit;
        }
        let limits = if counts.definition_changed {
            [(deleted, self.definition, "delete", "definition"), (updated, self.definition, "change", "definition")]
        } else {
            [(deleted, self.deletes, "delete", "deletes"), (updated, self.changes, "change", "changes")]
        };
        for (count, share, what, setting) in limits {
            if to_f64(count) > share * to_f64(known) {
                return Verdict::Hold(format!(
                    "it would {what} {count} of {known} known records, more than the share of {share} (`guard.{setting}`)"
                ));
            }
        }
        Verdict::Commit
    }
}

/// Exact for every count that a machine can hold as records.
fn to_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let guard = Guard::default();
        let base = Counts { known: 10, present: 10, complete: true, ..Counts::default() };
        let held = |counts| matches!(guard.judge(counts), Verdict::Hold(_));
        assert!(!held(Counts { deleted: 5, present: 5, ..base }));
        assert!(held(Counts { deleted: 6, present: 4, ..base }));
        assert!(
            !held(Counts { known: 9, deleted: 8, present: 1, ..base }),
            "under ten known records shares mean nothing"
        );
        assert!(!held(Counts { updated: 10, created: 500, ..base }));
        assert!(held(Counts { updated: 2, definition_changed: true, ..base }));
        assert!(!held(Counts { updated: 1, definition_changed: true, ..base }));
        assert!(held(Counts { known: 1, present: 0, ..base }), "an empty list");
        assert!(!held(Counts { known: 0, present: 0, ..base }));
        assert!(!held(Counts { known: 1, present: 0, complete: false, ..base }), "absence means nothing in a window");
        let error = Guard { empty: Empty::Error, ..Guard::default() };
        assert!(matches!(error.judge(Counts { present: 0, ..base }), Verdict::Error(_)));
        let accept = Guard { empty: Empty::Accept, ..Guard::default() };
        assert_eq!(accept.judge(Counts { present: 0, deleted: 10, ..base }), Verdict::Commit);
        assert_eq!(
            guard.judge(Counts { deleted: 9, present: 1, ..base }),
            Verdict::Hold("it would delete 9 of 10 known records, more than the share of 0.5 (`guard.deletes`)".into())
        );
    }
}
