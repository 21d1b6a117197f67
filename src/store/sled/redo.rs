//! What a group that failed in the middle of its transaction was to write, for the next opening to do again.
//!
//! When sled's transaction ends with an error, sled has marked its batch as cancelled by then, and what the batch had written so
//! far counts as written by itself: whether the process ends at once or not, some of it may be on its way to the disk. So half of
//! the group may be found. All of its rows, written once more, make it whole.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ::sled::{Batch, IVec, Transactional, Tree, transaction::TransactionError};

use super::{
    files,
    tables::{Table, Tables, error},
};
use crate::store::Error;

/// The file's name in the state directory.
pub(super) const REDO: &str = "redo";

/// The rows of one tree, with their new values.
pub type Rows = (Table, Vec<(IVec, Option<IVec>)>);

/// A group's rows.
#[derive(Debug, Default, PartialEq)]
pub struct Redo {
    pub group: u64,
    pub rows: Vec<Rows>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join(REDO)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

impl Redo {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.group.to_be_bytes().to_vec();
        for (table, rows) in &self.rows {
            for (row, value) in rows {
                out.push(u8::try_from(table.index()).expect("few tables"));
                put(&mut out, row);
                out.push(u8::from(value.is_some()));
                put(&mut out, value.as_deref().unwrap_or_default());
            }
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// `None` where it is not all there: it was never written to its end.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, hash) = bytes.split_last_chunk::<32>()?;
        if blake3::hash(bytes) != *hash {
            return None;
        }
        let (group, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut redo = Self { group: u64::from_be_bytes(*group), rows: Vec::new() };
        while let Some((table, after)) = rest.split_first() {
            let table = *Table::ALL.get(usize::from(*table))?;
            let (row, after) = take(after)?;
            let (there, after) = after.split_first()?;
            let (value, after) = take(after)?;
            if redo.rows.last().is_none_or(|(last, _)| *last != table) {
                redo.rows.push((table, Vec::new()));
            }
            let (_, rows) = redo.rows.last_mut()?;
            rows.push((row.into(), (*there == 1).then(|| value.into())));
            rest = after;
        }
        Some(redo)
    }

    /// Durable on return.
    pub fn keep(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("redo.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(new, path(dir))?;
        files::sync_dir(dir)
    }

    /// What the last life left.
    pub fn find(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(path(dir)) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Writes rows as one transaction over their trees.
pub fn write(tables: &Tables, rows: &[Rows]) -> Result<(), Error> {
    let (mut trees, mut batches): (Vec<&Tree>, Vec<Batch>) = Default::default();
    for (table, rows) in rows {
        let mut batch = Batch::default();
        for (row, value) in rows {
            match value {
                Some(value) => batch.insert(row, value),
                None => batch.remove(row),
            }
        }
        trees.push(tables.get(*table));
        batches.push(batch);
    }
    let written = trees.as_slice().transaction(|trees| {
        for (tree, batch) in trees.iter().zip(&batches) {
            tree.apply_batch(batch)?;
        }
        Ok(())
    });
    written.map_err(|e: TransactionError<()>| match e {
        TransactionError::Storage(e) => error(e),
        TransactionError::Abort(()) => Error::Io("the transaction was aborted".into()),
    })
}

/// Once it is done.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    for path in [path(dir), dir.join("redo.new")] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*len)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let row = |key: &[u8], value: Option<&[u8]>| (IVec::from(key), value.map(IVec::from));
        let rows = vec![
            (Table::Meta, vec![row(b"a", Some(b"1")), row(b"b", None)]),
            (Table::Queue, vec![row(b"", Some(&[7; 9_000]))]),
        ];
        let redo = Redo { group: 12, rows };
        assert_eq!(Redo::find(dir.path()).expect("read"), None);
        redo.keep(dir.path()).expect("written");
        let whole = fs::read(path(dir.path())).expect("there");
        for short in [0, 7, 40, whole.len() - 1] {
            fs::write(path(dir.path()), &whole[..short]).expect("written");
            assert_eq!(Redo::find(dir.path()).expect("read"), None);
        }
        fs::write(path(dir.path()), whole).expect("written");
        assert_eq!(Redo::find(dir.path()).expect("read"), Some(redo));
        forget(dir.path()).expect("removed");
        assert_eq!(Redo::find(dir.path()).expect("read"), None);
    }
}
