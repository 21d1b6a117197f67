//! Numbers, texts and chunks as bytes.

use super::{ROW_BYTES_MAX, VERSION};
use crate::{model::Hash, store::Error};

/// What a compressed value may unfold to; nothing larger is ever written.
const UNFOLDED_BYTES_MAX: u64 = 1 << 29;
/// Level 1 already halves JSON, at several hundred MB/s.
const ZSTD_LEVEL: i32 = 1;

pub(super) fn damaged(what: &str) -> Error {
    Error::Damaged(format!("a row cannot be read: {what}"))
}

/// Cuts a value into the rows it is kept in, in order.
pub fn split(value: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    const FIRST: usize = ROW_BYTES_MAX - 3;
    const NEXT: usize = ROW_BYTES_MAX - 1;
    let (first, rest) = value.split_at_checked(FIRST).unwrap_or((value, &[]));
    let count = 1 + rest.len().div_ceil(NEXT);
    let count = u16::try_from(count)
        .map_err(|_| Error::TooLarge(format!("a value of {} bytes is more than the store can hold", value.len())))?;
    let mut row = Vec::with_capacity(first.len() + 3);
    row.push(VERSION);
    row.extend_from_slice(&count.to_be_bytes());
    row.extend_from_slice(first);
    let mut rows = vec![row];
    rows.extend(rest.chunks(NEXT).map(|chunk| {
        let mut row = Vec::with_capacity(chunk.len() + 1);
        row.push(VERSION);
        row.extend_from_slice(chunk);
        row
    }));
    Ok(rows)
}

/// How many rows hold the value whose first row this is.
pub fn chunk_count(first: &[u8]) -> Result<u16, Error> {
    let mut bytes = Bytes::of_row(first)?;
    match bytes.u16()? {
        0 => Err(damaged("no chunks")),
        count => Ok(count),
    }
}

/// The value that these rows, in order, are the chunks of.
pub fn join<T: AsRef<[u8]>>(rows: impl IntoIterator<Item = T>) -> Result<Vec<u8>, Error> {
    let mut rows = rows.into_iter();
    let first = rows.next().ok_or_else(|| damaged("no rows"))?;
    let mut value = Bytes::of_row(first.as_ref())?;
    value.u16()?;
    let mut value = value.rest().to_vec();
    for row in rows {
        value.extend_from_slice(Bytes::of_row(row.as_ref())?.rest());
    }
    Ok(value)
}

/// Appends bytes, compressed when they are over `over` and become smaller.
pub(super) fn put_folded(out: &mut Vec<u8>, bytes: &[u8], over: usize) {
    if bytes.len() > over
        && u64::try_from(bytes.len()).is_ok_and(|len| len <= UNFOLDED_BYTES_MAX)
        && let Ok(small) = zstd::bulk::compress(bytes, ZSTD_LEVEL)
        && small.len() < bytes.len()
    {
        out.push(1);
        put_number(out, bytes.len());
        out.extend_from_slice(&small);
    } else {
        out.push(0);
        out.extend_from_slice(bytes);
    }
}

/// An unsigned number, 7 bits a byte, lowest first (LEB128).
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("7 bits");
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, number: usize) {
    put_varint(out, u64::try_from(number).expect("a usize has at most 64 bits"));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads from the front.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// After the version byte.
    pub fn of_row(row: &'a [u8]) -> Result<Self, Error> {
        let mut bytes = Self(row);
        match bytes.u8()? {
            VERSION => Ok(bytes),
            other => Err(Error::Damaged(format!("a row has the unknown version {other}"))),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn hash(&mut self) -> Result<Hash, Error> {
        Ok(Hash(self.array()?))
    }

    pub fn varint<T: TryFrom<u64>>(&mut self) -> Result<T, Error> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return T::try_from(number).map_err(|_| damaged("a number is out of range"));
            }
        }
        Err(damaged("a number is too long"))
    }

    /// How many, and each.
    pub fn numbers(&mut self) -> Result<Vec<u64>, Error> {
        (0..self.varint::<u16>()?).map(|_| self.u64()).collect()
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.varint()?;
        self.take(len)
    }

    pub fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged("a text is not UTF-8"))
    }

    /// All that is left, unfolded.
    pub fn folded(&mut self) -> Result<Vec<u8>, Error> {
        match self.u8()? {
            0 => Ok(self.rest().to_vec()),
            1 => {
                let len: u64 = self.varint()?;
                if len > UNFOLDED_BYTES_MAX {
                    return Err(damaged("a compressed value is too large"));
                }
                let len = usize::try_from(len).map_err(|_| damaged("a number is out of range"))?;
                let bytes = zstd::bulk::decompress(self.rest(), len).map_err(|_| damaged("zstd"))?;
                if bytes.len() == len { Ok(bytes) } else { Err(damaged("a compressed value has another length")) }
            }
            _ => Err(damaged("an unknown compression")),
        }
    }

    pub fn end(&self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(damaged("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(number: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            let mut bytes = Bytes::of(&out);
            prop_assert_eq!(bytes.varint::<u64>(), Ok(number));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn values_round_trip_in_chunks(len in 0usize..40_000, fill: u8) {
            let value: Vec<u8> = (0..len).map(|i| fill.wrapping_add(u8::try_from(i % 251).expect("small"))).collect();
            let rows = split(&value).expect("it fits");
            prop_assert!(rows.iter().all(|row| row.len() <= ROW_BYTES_MAX));
            let first = rows.first().expect("at least one");
            prop_assert_eq!(usize::from(chunk_count(first).expect("readable")), rows.len());
            prop_assert_eq!(join(&rows), Ok(value));
        }

        #[test]
        fn folded_bytes_round_trip(bytes: Vec<u8>, repeat in 1usize..400) {
            let bytes = bytes.repeat(repeat);
            let mut out = Vec::new();
            put_folded(&mut out, &bytes, 1024);
            prop_assert!(out.len() <= bytes.len() + 1);
            prop_assert_eq!(Bytes::of(&out).folded(), Ok(bytes));
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = chunk_count(&noise);
            let _ = join([&noise]);
            let _ = Bytes::of(&noise).folded();
            let _ = Bytes::of(&noise).text();
            let _ = Bytes::of(&noise).varint::<u16>();
        }
    }
}
