//! A list of entries in chunks that are cut by content and named by content: what did not change keeps its chunks,
//! wherever in the list it moves to.

use std::collections::BTreeSet;

use super::{
    VERSION,
    bytes::{Bytes, damaged},
};
use crate::{
    model::{Entry, Hash},
    store::{Cut, Error},
};

/// 148 entries of 48 bytes are below `ROW_BYTES_MAX`.
const ENTRIES_MAX: usize = 148;
/// A chunk ends after an entry whose key's hash ends in these bits as zeros: one in 64. The key's, since an update
/// then moves no border.
const CUT_MASK: u8 = 0x3f;

/// A chunk as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListChunk {
    pub id: Hash,
    pub row: Vec<u8>,
}

/// Cuts a list.
pub fn cut(list: &[Entry]) -> Vec<ListChunk> {
    let mut chunks = Vec::with_capacity(list.len() / 48 + 1);
    let mut row = vec![VERSION];
    let mut count = 0;
    let mut close = |row: &mut Vec<u8>| {
        let row = std::mem::replace(row, vec![VERSION]);
        chunks.push(ListChunk { id: Hash::of(&row), row });
    };
    for entry in list {
        for hash in [entry.key, entry.raw, entry.canonical] {
            row.extend_from_slice(&hash.0);
        }
        count += 1;
        if count == ENTRIES_MAX || entry.key.0.last().is_some_and(|byte| byte & CUT_MASK == 0) {
            close(&mut row);
            count = 0;
        }
    }
    if count > 0 {
        close(&mut row);
    }
    chunks
}

/// What a cut list changes of a stored one. Sets, since the same chunk may stand in a list twice.
pub fn against(chunks: Vec<ListChunk>, stored: &[Hash]) -> Cut {
    let ids: Vec<Hash> = chunks.iter().map(|chunk| chunk.id).collect();
    let old: BTreeSet<Hash> = stored.iter().copied().collect();
    let new: BTreeSet<Hash> = ids.iter().copied().collect();
    let mut fresh: Vec<ListChunk> = chunks.into_iter().filter(|chunk| !old.contains(&chunk.id)).collect();
    fresh.sort_by_key(|chunk| chunk.id);
    fresh.dedup_by_key(|chunk| chunk.id);
    Cut { ids, fresh, gone: old.difference(&new).copied().collect() }
}

/// Appends the entries of one chunk.
pub fn decode_entries(row: &[u8], list: &mut Vec<Entry>) -> Result<(), Error> {
    let mut bytes = Bytes::of_row(row)?;
    while !bytes.is_empty() {
        list.push(Entry { key: bytes.hash()?, raw: bytes.hash()?, canonical: bytes.hash()? });
    }
    Ok(())
}

/// The chunks' ids in order.
pub fn encode_manifest<'a>(ids: impl IntoIterator<Item = &'a Hash>) -> Vec<u8> {
    ids.into_iter().flat_map(|id| id.0).collect()
}

pub fn decode_manifest(value: &[u8]) -> Result<Vec<Hash>, Error> {
    let (ids, rest) = value.as_chunks::<16>();
    if rest.is_empty() { Ok(ids.iter().map(|id| Hash(*id)).collect()) } else { Err(damaged("a list's manifest")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::store::codec::ROW_BYTES_MAX;

    fn entries(range: std::ops::Range<u32>) -> Vec<Entry> {
        let hash = |n: u32, salt: u8| Hash::of(&[&n.to_be_bytes()[..], &[salt]].concat());
        range.map(|n| Entry { key: hash(n, 0), raw: hash(n, 1), canonical: hash(n, 2) }).collect()
    }

    proptest! {
        #[test]
        fn lists_round_trip(len in 0u32..2000) {
            let list = entries(0..len);
            let chunks = cut(&list);
            let mut read = Vec::new();
            for chunk in &chunks {
                prop_assert!(chunk.row.len() <= ROW_BYTES_MAX);
                decode_entries(&chunk.row, &mut read).expect("readable");
            }
            prop_assert_eq!(read, list);
            let ids: Vec<Hash> = chunks.iter().map(|c| c.id).collect();
            prop_assert_eq!(decode_manifest(&encode_manifest(&ids)), Ok(ids));
        }
    }

    #[test]
    fn an_insertion_at_the_front_leaves_the_other_chunks() {
        let old = entries(1..50_001);
        let mut new = entries(0..1);
        new.extend(&old);
        let old: BTreeSet<Hash> = cut(&old).iter().map(|c| c.id).collect();
        let fresh = cut(&new).iter().filter(|c| !old.contains(&c.id)).count();
        assert!(fresh <= 2, "{fresh} new chunks of {}", old.len());
    }

    #[test]
    fn a_chunk_cut_short_is_damaged() {
        let chunk = cut(&entries(0..3)).remove(0);
        let short = chunk.row.get(..chunk.row.len() - 1).expect("longer");
        assert!(matches!(decode_entries(short, &mut Vec::new()), Err(Error::Damaged(_))));
        assert!(matches!(decode_manifest(&[0; 17]), Err(Error::Damaged(_))));
    }
}
