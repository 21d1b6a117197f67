//! What changed between the stored list of records and an answer. Pure, and by key.
//!
//! A record whose bytes are those of the stored list is neither parsed nor keyed: first by position, and where that
//! fails by hash. Only what matches neither is parsed. Order of records and of object keys never matters.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

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

/// Compares a complete walk's records, page by page, with the known list. Beside what it returns a record takes some 40 bytes.
pub fn complete(definition: &Definition, known: &[Entry], pages: Vec<(String, Vec<Raw>)>) -> Result<Diff, Error> {
    let mut index = KnownIndex::default();
    let mut met: Vec<Option<Met>> = vec![None; known.len()];
    let mut order: Vec<KnownSlot> = Vec::new();
    let mut created = Fresh::default();
    // In the order they were met, with the known record's place; of one that several pages have the last counts.
    let mut updated: Vec<(u32, Seen)> = Vec::new();
    let mut anew: Vec<Entry> = Vec::new();
    let mut diff = Diff::default();
    for (page_number, (page, records)) in pages.into_iter().enumerate() {
        let page_number = short(page_number);
        for (record, raw) in records.into_iter().enumerate() {
            let record = record + 1;
            let at_of = |now| Met { page: page_number, record: short(record), now };
            if let Some(at) = index.by_bytes(known, raw.hash) {
                if let Some(Some(before)) = met.get(at)
                    && before.page == page_number
                {
                    let (first, key) = (place(before.record), definition.parse(&raw, record, &page)?.key);
                    return Err(Error::SameKey { first, second: record, page, key });
                }
                // An earlier page may have had another copy: the later one counts.
                note(&mut met, &mut order, at, at_of(Now::Known));
                continue;
            }
            diff.parsed += 1;
            let Parsed { key, entry, .. } = definition.parse(&raw, record, &page)?;
            let seen = Seen { entry, text: raw.text };
            let same_key = |first| Error::SameKey { first, second: record, page: page.clone(), key: key.clone() };
            if let Some(at) = index.by_key(known, entry.key) {
                if let Some(Some(before)) = met.get(at)
                    && before.page == page_number
                {
                    return Err(same_key(place(before.record)));
                }
                let old = known.get(at);
                let now = if old.is_none_or(|old| old.canonical != entry.canonical) {
                    updated.push((short(at), seen));
                    Now::Updated(short(updated.len() - 1))
                } else if old.is_some_and(|old| old.raw == Hash::default()) {
                    // Without bytes (a list made again) these are as good.
                    anew.push(entry);
                    Now::Anew(short(anew.len() - 1))
                } else {
                    // Where only bytes changed the old ones stay: the stored body is theirs.
                    Now::Known
                };
                note(&mut met, &mut order, at, at_of(now));
                continue;
            }
            match created.put(seen, page_number, record) {
                Put::New(at) => order.push(KnownSlot::New(short(at))),
                Put::Again => {}
                Put::Twice(first) => return Err(same_key(first)),
            }
        }
    }
    let created = created.all;
    drop(index);
    diff.present = u64::try_from(order.len()).unwrap_or(u64::MAX);
    diff.list.reserve_exact(known.len() + created.len());
    diff.list.extend(order.into_iter().filter_map(|slot| match slot {
        KnownSlot::Known(at) => match met.get(place(at)).copied().flatten()?.now {
            Now::Known => known.get(place(at)).copied(),
            Now::Updated(at) => updated.get(place(at)).map(|(_, seen)| seen.entry),
            Now::Anew(at) => anew.get(place(at)).copied(),
        },
        KnownSlot::New(at) => created.get(place(at)).map(|seen| seen.entry),
    }));
    for (entry, met) in known.iter().zip(&met) {
        if met.is_none() {
            diff.missing.push(entry.key);
            diff.list.push(*entry);
        }
    }
    diff.created = created;
    let mut number = 0;
    updated.retain(|(at, _)| {
        let is_last = met.get(place(*at)).copied().flatten().is_some_and(|met| met.now == Now::Updated(number));
        number += 1;
        is_last
    });
    drop(met);
    updated.sort_unstable_by_key(|(at, _)| *at);
    diff.updated = updated.into_iter().map(|(_, seen)| seen).collect();
    Ok(diff)
}

/// A place or a number among the records of one answer.
fn short(place: usize) -> u32 {
    u32::try_from(place).expect("four billion records have no room in memory")
}

fn place(short: u32) -> usize {
    usize::try_from(short).unwrap_or(usize::MAX)
}

#[derive(Debug, Clone, Copy)]
enum KnownSlot {
    Known(u32),
    New(u32),
}

/// Where a known record was met last, and what it is now.
#[derive(Debug, Clone, Copy)]
struct Met {
    page: u32,
    /// From 1.
    record: u32,
    now: Now,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Now {
    Known,
    /// With its place among those that were met and are.
    Updated(u32),
    Anew(u32),
}

fn note(met: &mut [Option<Met>], order: &mut Vec<KnownSlot>, at: usize, now: Met) {
    if let Some(slot) = met.get_mut(at) {
        if slot.is_none() {
            order.push(KnownSlot::Known(short(at)));
        }
        *slot = Some(now);
    }
}

/// Finds known records: the next in order first, tables only when that fails.
#[derive(Default)]
struct KnownIndex {
    next: usize,
    bytes: Option<Places>,
    keys: Option<Places>,
}

impl KnownIndex {
    fn by_bytes(&mut self, known: &[Entry], raw: Hash) -> Option<usize> {
        let of = |at: usize| known.get(at).map(|entry| &entry.raw);
        let at = match known.get(self.next) {
            Some(entry) if entry.raw == raw => self.next,
            _ => self.bytes.get_or_insert_with(|| Places::of_all(known.len(), of)).find(&raw, of)?,
        };
        // An insertion shifts every position: go on from where this one was.
        self.next = at + 1;
        Some(at)
    }

    fn by_key(&mut self, known: &[Entry], key: Hash) -> Option<usize> {
        let of = |at: usize| known.get(at).map(|entry| &entry.key);
        let at = self.keys.get_or_insert_with(|| Places::of_all(known.len(), of)).find(&key, of)?;
        self.next = at + 1;
        Some(at)
    }
}

/// Where hashes stand in a list. The list has them: a map of its own would be as large. Of equal ones the last.
#[derive(Default)]
struct Places {
    table: HashTable<u32>,
    seed: RandomState,
}

impl Places {
    fn of_all<'a>(count: usize, of: impl Fn(usize) -> Option<&'a Hash>) -> Self {
        let mut places = Self { table: HashTable::with_capacity(count), ..Self::default() };
        (0..count).for_each(|at| places.insert(at, &of));
        places
    }

    fn find<'a>(&self, hash: &Hash, of: impl Fn(usize) -> Option<&'a Hash>) -> Option<usize> {
        self.table.find(self.seed.hash_one(Some(hash)), |at| of(place(*at)) == Some(hash)).map(|at| place(*at))
    }

    fn insert<'a>(&mut self, at: usize, of: impl Fn(usize) -> Option<&'a Hash>) {
        let (seed, hash) = (&self.seed, of(at));
        let is_same = |other: &u32| of(place(*other)) == hash;
        let known = self.table.entry(seed.hash_one(hash), is_same, |other| seed.hash_one(of(place(*other))));
        known.and_modify(|other| *other = short(at)).or_insert(short(at));
    }
}

/// Records of an answer, each key once: of one that several pages have the later copy counts.
#[derive(Default)]
struct Fresh {
    all: Vec<Seen>,
    /// The page and the number in it where each of them was met last.
    met: Vec<(u32, u32)>,
    places: Places,
}

/// What became of a record.
enum Put {
    /// Its place.
    New(usize),
    /// In place of one of an earlier page.
    Again,
    /// Its page has one of that key already: its number.
    Twice(usize),
}

impl Fresh {
    /// `record` counts from 1.
    fn put(&mut self, seen: Seen, page: u32, record: usize) -> Put {
        let (all, here) = (&self.all, (page, short(record)));
        let Some(at) = self.places.find(&seen.entry.key, |at| all.get(at).map(|seen| &seen.entry.key)) else {
            self.all.push(seen);
            self.met.push(here);
            let (all, at) = (&self.all, self.all.len() - 1);
            self.places.insert(at, |at| all.get(at).map(|seen| &seen.entry.key));
            return Put::New(at);
        };
        if let (Some(slot), Some(met)) = (self.all.get_mut(at), self.met.get_mut(at)) {
            if met.0 == page {
                return Put::Twice(place(met.1));
            }
            (*slot, *met) = (seen, here);
        }
        Put::Again
    }
}

/// Parses every record of a window or a `since` answer, and shows each to `look`; of a key that several pages have, the later
/// copy counts.
pub fn parse_all<E: From<Error>>(
    definition: &Definition,
    pages: Vec<(String, Vec<Raw>)>,
    mut look: impl FnMut(&Parsed) -> Result<(), E>,
) -> Result<Vec<Seen>, E> {
    let mut all = Fresh::default();
    for (number, (page, records)) in pages.into_iter().enumerate() {
        for (record, raw) in records.into_iter().enumerate() {
            let record = record + 1;
            let parsed = definition.parse(&raw, record, &page)?;
            look(&parsed)?;
            let Parsed { key, entry, .. } = parsed;
            if let Put::Twice(first) = all.put(Seen { entry, text: raw.text }, short(number), record) {
                return Err(Error::SameKey { first, second: record, page, key }.into());
            }
        }
    }
    Ok(all.all)
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
