//! The bytes of the rows that `sled` keeps: keys, values, and the cutting of large values into chunks.
//!
//! Every row's value begins with a format version byte. A logical value is kept in one or more rows: key ++ chunk
//! number (u16, big endian); the first one says how many there are. Numbers in keys are big-endian, so that their
//! order is the rows' order; names in keys end with a zero byte, which no name holds.
//!
//! It does no I/O, and bytes that it cannot read are an `Error::Damaged`, never a panic.

mod bytes;
pub mod key;
mod list;
mod pack;
mod rows;

pub use bytes::{chunk_count, join, split};
pub use list::{ListChunk, cut, decode_entries, decode_manifest, encode_manifest};
pub use pack::{Pack, PackHeader, decode_pack, decode_pack_header, pack, repack};
pub use rows::{
    Counters, QueueEntry, Remade, State, decode_attempt, decode_content, decode_counters, decode_json, decode_number,
    decode_queue, decode_record, decode_state, decode_state_version, encode_attempt, encode_content, encode_counters,
    encode_json, encode_number, encode_queue, encode_record, encode_state,
};

/// Of a row's value. Sled moves values over about 8 KiB into files that are never synced.
pub const ROW_BYTES_MAX: usize = 7_200;
/// The version byte that every row begins with.
const VERSION: u8 = 1;
