//! Whether a complete answer is too suspicious to be committed without a person's word. Pure.

use crate::settings::{Item, Table, fingerprint::Fingerprint, key::keys};

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

const EMPTY: [(&str, Empty); 3] = [("hold", Empty::Hold), ("error", Empty::Error), ("accept", Empty::Accept)];

keys! {
    /// When an answer is held.
    mod guards;
    /// The largest shares of the known records that one poll may change; from 10 known records on. Beyond them the answer is
    /// held.
    get GUARD: Shares = "guard", Form::table(&shares::FAMILY, Shares::read);
    /// What to do with an empty list while records are known.
    or EMPTY: Empty = "empty", Form::words(&super::EMPTY), || Empty::Hold;
}

keys! {
    /// Shares of the known records, from 0 to 1.
    mod shares;
    /// The share that one poll may delete.
    or DELETES: f64 = "deletes", SHARE, || 0.5;
    /// The share that one poll may change.
    or CHANGES: f64 = "changes", SHARE, || 1.0;
    /// The share for both on the first poll after an edit of the [definition](glossary.md#what-is-polled).
    or DEFINITION: f64 = "definition", SHARE, || 0.1;
}

/// The largest shares of known records that one poll may change.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    deletes: f64,
    changes: f64,
    definition: f64,
}

impl Default for Shares {
    fn default() -> Self {
        let (deletes, changes, definition) = (&shares::DELETES, &shares::CHANGES, &shares::DEFINITION);
        Self { deletes: deletes.default(), changes: changes.default(), definition: definition.default() }
    }
}

impl Shares {
    fn read(item: &Item<'_>) -> Option<Self> {
        let mut table = item.table()?;
        let (deletes, changes) = (table.or(&shares::DELETES), table.or(&shares::CHANGES));
        let definition = table.or(&shares::DEFINITION);
        table.finish();
        Some(Self { deletes, changes, definition })
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(Shares::default(), guards::EMPTY.default())
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
        text.put("empty", EMPTY.iter().find(|(_, empty)| *empty == self.empty).map_or("", |(word, _)| word));
    }

    /// Reads `guard` and `empty`.
    pub fn read(table: &mut Table<'_>) -> Self {
        Self::new(table.get(&guards::GUARD).unwrap_or_default(), table.or(&guards::EMPTY))
    }

    fn new(shares: Shares, empty: Empty) -> Self {
        let Shares { deletes, changes, definition } = shares;
        Self { deletes, changes, definition, empty }
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
