//! What another configuration changes. Pure: a reload says it, and those that stay the same are not touched by it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Bridge, Config, Endpoint};
use crate::model::Name;

/// Names of each kind that are written out; the others are counted.
const NAMES_SHOWN: usize = 5;

/// The difference of two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub bridges: Changes,
    pub endpoints: Changes,
}

/// Names, each in one list only. What is renamed may have changed as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<Name>,
    pub changed: Vec<Name>,
    pub removed: Vec<Name>,
    /// From, and to (`was`).
    pub renamed: Vec<(Name, Name)>,
}

/// What `new` changes of `old`.
pub fn plan(old: &Config, new: &Config) -> Plan {
    Plan {
        bridges: changes(&old.bridges, &new.bridges, |bridge: &Arc<Bridge>| bridge.was.as_ref()),
        endpoints: changes(&old.endpoints, &new.endpoints, |endpoint: &Arc<Endpoint>| endpoint.was.as_ref()),
    }
}

pub(super) fn changes<T: PartialEq>(
    old: &BTreeMap<Name, T>,
    new: &BTreeMap<Name, T>,
    was: impl Fn(&T) -> Option<&Name>,
) -> Changes {
    let mut changes = Changes::default();
    for (name, one) in new {
        match old.get(name) {
            Some(before) if before == one => {}
            Some(_) => changes.changed.push(name.clone()),
            None => match was(one).filter(|was| old.contains_key(*was) && !new.contains_key(*was)) {
                Some(was) => changes.renamed.push((was.clone(), name.clone())),
                None => changes.added.push(name.clone()),
            },
        }
    }
    let moved = |name: &Name| changes.renamed.iter().any(|(from, _)| from == name);
    let removed = old.keys().filter(|name| !new.contains_key(*name) && !moved(name)).cloned().collect();
    Changes { removed, ..changes }
}

/// Fewer removed bridges than this are what somebody meant.
const REMOVED_MIN: usize = 10;

impl Plan {
    /// What speaks against it: more than `share` of the bridges that `old` has would go. A folder that is not mounted, or a
    /// deployment that stopped half-way, looks so.
    pub fn judge(&self, old: &Config, share: f64) -> Result<(), TooManyGo> {
        judge_removed(self.bridges.removed.len(), old.bridges.len(), share)
    }
}

pub(super) fn judge_removed(removed: usize, of: usize, share: f64) -> Result<(), TooManyGo> {
    let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    if removed >= REMOVED_MIN && number(removed) > share * number(of) {
        return Err(TooManyGo { removed, of });
    }
    Ok(())
}

/// A reload would remove most bridges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it would remove {removed} of {of} bridges, more than `daemon.guard.reload` allows: where that is meant, \
     `bellpull reload --force` does it"
)]
pub struct TooManyGo {
    pub removed: usize,
    pub of: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bridges: {}; endpoints: {}", self.bridges, self.endpoints)
    }
}

impl fmt::Display for Changes {
    /// "2 added (a, b), 1 removed (c)", or "no change".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renamed: Vec<Name> = self.renamed.iter().map(|(from, to)| format!("{from} to {to}").into()).collect();
        let kinds =
            [(&self.added, "added"), (&self.changed, "changed"), (&renamed, "renamed"), (&self.removed, "removed")];
        let mut parts = Vec::new();
        for (names, kind) in kinds.into_iter().filter(|(names, _)| !names.is_empty()) {
            let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
            let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(|name| &**name).collect();
            parts.push(format!("{} {kind} ({}{more})", names.len(), shown.join(", ")));
        }
        if parts.is_empty() { f.write_str("no change") } else { f.write_str(&parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[(&str, i32)]) -> BTreeMap<Name, Arc<(i32, Option<Name>)>> {
        names.iter().map(|(name, value)| ((*name).into(), Arc::new((*value, None)))).collect()
    }

    #[test]
    fn each_name_is_in_one_list() {
        let old = of(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        let mut new = of(&[("a", 1), ("b", 2), ("e", 1)]);
        new.insert("f".into(), Arc::new((1, Some("c".into()))));
        // Its old name is still there: it is new, and takes nothing over.
        new.insert("g".into(), Arc::new((1, Some("a".into()))));
        let found = changes(&old, &new, |one| one.1.as_ref());
        let names = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect::<Vec<_>>();
        assert_eq!(
            found,
            Changes {
                added: names(&["e", "g"]),
                changed: names(&["b"]),
                removed: names(&["d"]),
                renamed: vec![("c".into(), "f".into())],
            }
        );
        assert_eq!(found.to_string(), "2 added (e, g), 1 changed (b), 1 renamed (c to f), 1 removed (d)");
        assert_eq!(changes(&old, &old, |one| one.1.as_ref()).to_string(), "no change");
    }

    /// 4,990 of 5,000 bridges went with a folder that could not be read, in a line of INFO.
    #[test]
    fn more_than_the_share_of_the_bridges_is_not_removed() {
        for of in [0, 1, 9, 10, 19, 20, 21, 100, 5000] {
            for removed in 0..=of.min(60) {
                for share in [0.0, 0.25, 0.5, 1.0] {
                    let much = f64::from(u32::try_from(removed).expect("small"));
                    let all = f64::from(u32::try_from(of).expect("small"));
                    let refused = removed >= 10 && much / all > share;
                    assert_eq!(judge_removed(removed, of, share).is_err(), refused, "{removed} of {of}, {share}");
                }
            }
        }
        let told = judge_removed(499, 500, 0.5).expect_err("refused").to_string();
        assert!(told.contains("499 of 500") && told.contains("bellpull reload --force"), "{told}");
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..300).map(|n| format!("b{n:03}")).collect();
        let all: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let found = changes(&BTreeMap::new(), &of(&all), |_| None);
        assert_eq!(found.to_string(), "300 added (b000, b001, b002, b003, b004, ...)");
    }
}
