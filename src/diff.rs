//! What changed between the stored list of records and an answer. Pure, and by key.
//!
//! A record whose bytes are those of the stored list is neither parsed nor keyed: first by position, and where that
//! fails by hash. Only what matches neither is parsed. Order of records and of object keys never matters.

use std::collections::HashMap;

use crate::{
    extract::{Definition, Error, Parsed, Raw, Seen},
    model::{Entry, Hash},
};

/// What an answer brings against what is known.
#[derive(Debug, Default, PartialEq)]
pub struct Diff {
    /// Known records of the answer and new ones, in its order, then those that are missing from it.
    pub list: Vec<Entry>,
    pub created: Vec<Seen>,
    /// Records whose canonical form changed.
    pub updated: Vec<Seen>,
    /// Keys of known records that the answer lacks.
    pub missing: Vec<Hash>,
    /// Records in the answer.
    pub present: u64,
    /// Records that had to be parsed.
    pub parsed: u64,
}

/// Compares a complete walk's records, page by page, with the known list.
pub fn complete(definition: &Definition, known: &[Entry], pages: Vec<(String, Vec<Raw>)>) -> Result<Diff, Error> {
    let mut index = Index::default();
    // In which page (from 1) a known record was met last, and what it is now.
    let mut met: Vec<Option<(usize, usize, Entry)>> = vec![None; known.len()];
    let mut order: Vec<Slot> = Vec::new();
    let mut fresh: HashMap<Hash, (usize, usize)> = HashMap::new();
    let mut created: Vec<Seen> = Vec::new();
    // In the order they were met; of a record that several pages have the last counts, and `None` is one that did not change.
    let mut updated: Vec<(usize, Option<Seen>)> = Vec::new();
    let mut diff = Diff::default();
    for (page_number, (page, records)) in pages.into_iter().enumerate() {
        let page_number = page_number + 1;
        for (record, raw) in records.into_iter().enumerate() {
            let record = record + 1;
            if let Some(at) = index.by_bytes(known, raw.hash) {
                let same_page = met.get(at).copied().flatten().filter(|(p, ..)| *p == page_number);
                if let Some((_, first, _)) = same_page {
                    let key = definition.parse(&raw, record, &page)?.key;
                    return Err(Error::SameKey { first, second: record, page, key });
                }
                // An earlier page may have had another copy: the later one counts.
                if is_met(&met, at) {
                    updated.push((at, None));
                }
                note(&mut met, &mut order, at, (page_number, record, known.get(at).copied()));
                continue;
            }
            diff.parsed += 1;
            let Parsed { key, entry, .. } = definition.parse(&raw, record, &page)?;
            let seen = Seen { entry, text: raw.text };
            let same_key = |first| Error::SameKey { first, second: record, page: page.clone(), key: key.clone() };
            if let Some(at) = index.by_key(known, entry.key) {
                if let Some((p, first, _)) = met.get(at).copied().flatten()
                    && p == page_number
                {
                    return Err(same_key(first));
                }
                let old = known.get(at).copied();
                let changed = old.is_none_or(|old| old.canonical != entry.canonical);
                // Where only bytes changed the old ones stay: the stored body is theirs. Without bytes (a list made anew)
                // these are as good.
                let anew = old.is_some_and(|old| old.raw == Hash::default());
                if changed || is_met(&met, at) {
                    updated.push((at, changed.then_some(seen)));
                }
                note(&mut met, &mut order, at, (page_number, record, if changed || anew { Some(entry) } else { old }));
            } else if let Some((at, (p, first))) =
                fresh.get(&entry.key).map(|(at, p)| (*at, (*p / RECORDS, *p % RECORDS)))
            {
                if p == page_number {
                    return Err(same_key(first));
                }
                fresh.insert(entry.key, (at, page_number * RECORDS + record));
                if let Some(slot) = created.get_mut(at) {
                    *slot = seen;
                }
            } else {
                fresh.insert(entry.key, (created.len(), page_number * RECORDS + record));
                order.push(Slot::New(created.len()));
                created.push(seen);
            }
        }
    }
    diff.present = u64::try_from(order.len()).unwrap_or(u64::MAX);
    diff.list = order
        .iter()
        .filter_map(|slot| match slot {
            Slot::Known(at) => met.get(*at).copied().flatten().map(|(.., entry)| entry),
            Slot::New(at) => created.get(*at).map(|seen| seen.entry),
        })
        .collect();
    for (entry, met) in known.iter().zip(&met) {
        if met.is_none() {
            diff.missing.push(entry.key);
            diff.list.push(*entry);
        }
    }
    diff.created = created;
    updated.sort_by_key(|(at, _)| *at);
    let mut updated = updated.into_iter().peekable();
    while let Some((at, seen)) = updated.next() {
        if updated.peek().is_none_or(|(next, _)| *next != at) {
            diff.updated.extend(seen);
        }
    }
    Ok(diff)
}

/// Page and record numbers share a word; no page has so many records.
const RECORDS: usize = 1 << 32;

#[derive(Debug, Clone, Copy)]
enum Slot {
    Known(usize),
    New(usize),
}

fn is_met(met: &[Option<(usize, usize, Entry)>], at: usize) -> bool {
    met.get(at).is_some_and(Option::is_some)
}

fn note(
    met: &mut [Option<(usize, usize, Entry)>],
    order: &mut Vec<Slot>,
    at: usize,
    now: (usize, usize, Option<Entry>),
) {
    if let (Some(slot), (page, record, Some(entry))) = (met.get_mut(at), now) {
        if slot.is_none() {
            order.push(Slot::Known(at));
        }
        *slot = Some((page, record, entry));
    }
}

/// Finds known records: the next in order first, maps only when that fails.
#[derive(Default)]
struct Index {
    next: usize,
    bytes: Option<HashMap<Hash, usize>>,
    keys: Option<HashMap<Hash, usize>>,
}

impl Index {
    fn by_bytes(&mut self, known: &[Entry], raw: Hash) -> Option<usize> {
        let map = |known: &[Entry]| known.iter().enumerate().map(|(at, entry)| (entry.raw, at)).collect();
        let at = match known.get(self.next) {
            Some(entry) if entry.raw == raw => self.next,
            _ => *self.bytes.get_or_insert_with(|| map(known)).get(&raw)?,
        };
        // An insertion shifts every position: go on from where this one was.
        self.next = at + 1;
        Some(at)
    }

    fn by_key(&mut self, known: &[Entry], key: Hash) -> Option<usize> {
        let map = || known.iter().enumerate().map(|(at, entry)| (entry.key, at)).collect();
        let at = *self.keys.get_or_insert_with(map).get(&key)?;
        self.next = at + 1;
        Some(at)
    }
}

/// Parses every record of a window or a `since` answer, and shows each to `look`; of a key that several pages have, the later
/// copy counts.
pub fn parse_all<E: From<Error>>(
    definition: &Definition,
    pages: Vec<(String, Vec<Raw>)>,
    mut look: impl FnMut(&Parsed) -> Result<(), E>,
) -> Result<Vec<Seen>, E> {
    let mut all: Vec<Seen> = Vec::new();
    let mut places: HashMap<Hash, (usize, usize, usize)> = HashMap::new();
    for (number, (page, records)) in pages.into_iter().enumerate() {
        for (record, raw) in records.into_iter().enumerate() {
            let parsed = definition.parse(&raw, record + 1, &page)?;
            look(&parsed)?;
            let Parsed { key, entry, .. } = parsed;
            let seen = Seen { entry, text: raw.text };
            match places.get(&entry.key).copied() {
                Some((p, first, _)) if p == number => {
                    return Err(Error::SameKey { first, second: record + 1, page, key }.into());
                }
                Some((.., at)) => {
                    places.insert(entry.key, (number, record + 1, at));
                    if let Some(slot) = all.get_mut(at) {
                        *slot = seen;
                    }
                }
                None => {
                    places.insert(entry.key, (number, record + 1, all.len()));
                    all.push(seen);
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::expr::Expr;

    fn definition() -> Definition {
        let expr = |text| Some(Expr::parse(text).expect("valid"));
        Definition {
            items: expr(".[]"),
            key: expr(".id"),
            ignore: Vec::new(),
            unordered: Vec::new(),
            decoder: None,
            depth_max: 128,
        }
    }

    fn raw(text: &str) -> Raw {
        Raw { text: text.to_owned().into(), hash: Hash::of(text.as_bytes()) }
    }

    fn page(records: &[String]) -> (String, Vec<Raw>) {
        ("page".into(), records.iter().map(|r| raw(r)).collect())
    }

    /// A set of records by key.
    type Set = BTreeMap<u8, Json>;

    fn records(set: &Set, reversed_keys: bool) -> Vec<String> {
        let show = |(id, value): (&u8, &Json)| {
            if reversed_keys {
                format!("{{\"v\":{value},\"id\":{id}}}")
            } else {
                format!("{{\"id\":{id},\"v\":{value}}}")
            }
        };
        set.iter().map(show).collect()
    }

    fn known(set: &Set) -> Vec<Entry> {
        complete(&definition(), &[], vec![page(&records(set, false))]).expect("keys differ").list
    }

    fn value() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            (-3i32..3).prop_map(|n| json!(n)),
            "[a-c]{0,3}".prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::btree_map("[a-c/~]{1,2}", inner, 0..4).prop_map(|m| json!(m)),
            ]
        })
    }

    fn set() -> impl Strategy<Value = Set> {
        prop::collection::btree_map(0u8..12, value(), 0..10)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// apply(a, events of diff(a, b)) == b, patches are never empty and lead from before to after.
        #[test]
        fn applying_the_changes_gives_the_new_set(a in set(), b in set()) {
            let diff = complete(&definition(), &known(&a), vec![page(&records(&b, false))]).expect("keys differ");
            let mut applied: BTreeMap<String, Json> =
                a.iter().map(|(id, v)| (id.to_string(), json!({"id": id, "v": v}))).collect();
            let read = |seen: &Seen| definition().read_again(&seen.text).expect("readable");
            for (key, value) in diff.created.iter().map(read) {
                prop_assert!(applied.insert(key, value).is_none(), "created once");
            }
            for (key, value) in diff.updated.iter().map(read) {
                let mut before = applied.get(&key).cloned().expect("it was known");
                let patch = json_patch::diff(&before, &value);
                prop_assert!(!patch.0.is_empty());
                json_patch::patch(&mut before, &patch).expect("it applies");
                prop_assert_eq!(&before, &value);
                applied.insert(key, before);
            }
            let names: BTreeMap<Hash, String> =
                a.keys().map(|id| (Hash::of(id.to_string().as_bytes()), id.to_string())).collect();
            for key in diff.missing {
                applied.remove(&names[&key]).expect("it was known");
            }
            let expected: BTreeMap<String, Json> =
                b.iter().map(|(id, v)| (id.to_string(), json!({"id": id, "v": v}))).collect();
            prop_assert_eq!(applied, expected);
        }

        /// diff(a, any order of a) is empty, whatever the order of object keys.
        #[test]
        fn order_never_matters(a in set(), seed: u64, reversed: bool) {
            let mut shuffled = records(&a, reversed);
            shuffled.sort_by_key(|r| Hash::of(format!("{seed}{r}").as_bytes()));
            let diff = complete(&definition(), &known(&a), vec![page(&shuffled)]).expect("keys differ");
            prop_assert!(diff.created.is_empty() && diff.updated.is_empty() && diff.missing.is_empty());
        }

        /// However a set is cut into pages, with records that drift from one to the next, the later copy counts.
        #[test]
        fn pages_and_drift_give_the_same(a in set(), b in set(), cut in 0usize..10) {
            let all = records(&b, false);
            let (one, two) = all.split_at(cut.min(all.len()));
            let mut first: Vec<String> = one.to_vec();
            if let Some(drifted) = two.first() {
                first.push(drifted.replace("\"v\":", "\"old\":1,\"v\":"));
            }
            let whole = complete(&definition(), &known(&a), vec![page(&all)]).expect("keys differ");
            let paged = complete(&definition(), &known(&a), vec![page(&first), page(two)]).expect("keys differ");
            let changes = |d: &Diff| {
                let read = |seen: &Seen| definition().read_again(&seen.text).expect("readable");
                let keys = |l: &[Seen]| l.iter().map(read).collect::<BTreeMap<_, _>>();
                (keys(&d.created), keys(&d.updated), d.missing.clone())
            };
            prop_assert_eq!(changes(&whole), changes(&paged));
        }
    }

    #[test]
    fn unchanged_records_are_not_parsed() {
        let old: Set = (0..200).map(|i| (i, json!(i))).collect();
        let mut new = records(&old, false);
        new.insert(0, "{\"id\":201,\"v\":0}".into());
        new.remove(100);
        let diff = complete(&definition(), &known(&old), vec![page(&new)]).expect("keys differ");
        assert_eq!((diff.parsed, diff.created.len(), diff.missing.len()), (1, 1, 1));
    }

    #[test]
    fn two_records_with_one_key_in_a_page_are_named() {
        let same = ["{\"id\":1}".to_owned(), "{\"id\":2}".to_owned(), "{\"id\":1,\"v\":2}".to_owned()];
        let error = complete(&definition(), &[], vec![page(&same)]).expect_err("one key twice");
        assert_eq!(error.to_string(), "records 1 and 3 of page have the same key \"1\"");
        let known = complete(&definition(), &[], vec![page(&same[..1])]).expect("one record").list;
        let twice = ["{\"id\":1}".to_owned(), "{\"id\":1}".to_owned()];
        assert!(complete(&definition(), &known, vec![page(&twice)]).is_err());
        let all = |pages| parse_all(&definition(), pages, |_| Ok::<_, Error>(()));
        assert!(all(vec![page(&twice)]).is_err());
        assert_eq!(all(vec![page(&twice[..1]), page(&twice[..1])]).map(|l| l.len()), Ok(1));
    }
}
