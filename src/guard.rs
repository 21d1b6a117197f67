//! Whether a complete answer is too suspicious to be committed without a person's word. Pure.

use crate::settings::{Item, Table, fingerprint::Fingerprint, key::keys};

/// From how many known records on shares mean something.
const KNOWN_MIN: u64 = 10;

/// The largest shares of known records that one poll may change, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    pub deletes: f64,
    pub changes: f64,
    /// For both, and for records that appear, on the first poll after the definition changed.
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
    /// The share for both on the first poll after an edit of the [definition](glossary.md#what-is-polled). Records that appear
    /// count there too: more than this share of the known ones are held, under 10 known records 10 or more. `1` holds none.
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
        let Counts { known, present, created, updated, deleted, .. } = counts;
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
        let limits = if counts.definition_changed {
            [(deleted, self.definition, "delete", "definition"), (updated, self.definition, "change", "definition")]
        } else {
            [(deleted, self.deletes, "delete", "deletes"), (updated, self.changes, "change", "changes")]
        };
        for (count, share, what, setting) in limits {
            if known >= KNOWN_MIN && to_f64(count) > share * to_f64(known) {
                return Verdict::Hold(format!(
                    "it would {what} {count} of {known} known records, more than the share of {share} (`guard.{setting}`)"
                ));
            }
        }
        if counts.definition_changed && self.floods(known, created) {
            let share = self.definition;
            return Verdict::Hold(format!(
                "after an edit of the definition it would create {created} records beside {known} known ones, more than the \
                 share of {share} (`guard.definition`): accept them, or set `definition-changed` = \"rebaseline\""
            ));
        }
        Verdict::Commit
    }

    /// Whether more records appear after an edit than are likely to be new: an edit that shows more of a list shows old ones. Where few
    /// are known a share means nothing, and a flood is as many as make one mean something.
    fn floods(&self, known: u64, created: u64) -> bool {
        let is_many = known >= KNOWN_MIN || created >= KNOWN_MIN;
        is_many && self.definition < 1.0 && to_f64(created) > self.definition * to_f64(known)
    }
}

/// Exact for every count that a machine can hold as records.
fn to_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    /// A wrong `next` was corrected: 62 records that had always been there went out as `created` beside 20 known ones.
    #[test]
    fn an_edit_that_shows_old_records_is_held() {
        let guard = Guard::default();
        let edited = |known, created| {
            let counts = Counts { known, created, present: known + created, complete: true, ..Counts::default() };
            let after = guard.judge(Counts { definition_changed: true, ..counts });
            assert_eq!(guard.judge(counts), Verdict::Commit, "without an edit {created} beside {known} are new");
            matches!(after, Verdict::Hold(_))
        };
        for (known, created, held) in
            [(20, 62, true), (20, 3, true), (20, 2, false), (9, 9, false), (9, 10, true), (0, 10, true), (0, 9, false)]
        {
            assert_eq!(edited(known, created), held, "{created} beside {known}");
        }
        let Verdict::Hold(reason) =
            guard.judge(Counts { known: 20, present: 82, created: 62, definition_changed: true, ..Counts::default() })
        else {
            panic!("it is held");
        };
        assert!(reason.contains("62 records beside 20") && reason.contains("`guard.definition`"), "{reason}");
    }

    fn any_counts() -> impl Strategy<Value = Counts> {
        (0..200_u64, 0..400_u64, 0..=100_u64, 0..=100_u64, any::<bool>(), any::<bool>()).prop_map(
            |(known, created, updated, deleted, definition_changed, complete)| {
                let (updated, deleted) = (known * updated / 200, known * deleted / 200);
                let present = known - deleted + created;
                Counts { known, present, created, updated, deleted, definition_changed, complete }
            },
        )
    }

    proptest! {
        #[test]
        fn records_that_appear_are_held_only_after_an_edit(counts in any_counts(), created in 0..10_000_u64) {
            let guard = Guard::default();
            let steady = Counts { definition_changed: false, present: counts.present.max(1), ..counts };
            prop_assert_eq!(guard.judge(steady), guard.judge(Counts { created, ..steady }));
        }

        #[test]
        fn what_is_held_stays_held_when_more_appears(counts in any_counts(), more in 0..1000_u64) {
            let guard = Guard::default();
            let is_held = |counts| matches!(guard.judge(counts), Verdict::Hold(_));
            let grown = Counts { created: counts.created + more, present: counts.present + more, ..counts };
            // An empty list is held for another reason, which one record takes away.
            prop_assume!(counts.present > 0);
            prop_assert!(!is_held(counts) || is_held(grown));
        }

        #[test]
        fn a_share_of_one_holds_nothing_that_is_there(counts in any_counts()) {
            let guard = Guard { deletes: 1.0, changes: 1.0, definition: 1.0, empty: Empty::Accept };
            prop_assert_eq!(guard.judge(counts), Verdict::Commit);
        }
    }
}
