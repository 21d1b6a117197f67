//! The bytes of the rows that `sled` keeps: keys, values, and the cutting of large values into chunks.
//!
//! Every row's value begins with a format version byte. A logical value is kept in one or more rows: key ++ chunk
//! number (u16, big endian); the first one says how many there are. Numbers in keys are big-endian, so that their
//! order is the rows' order.
//!
//! It does no I/O, and bytes that it cannot read are an `Error::Damaged`, never a panic.

mod bytes;
pub mod format1;
#[cfg(test)]
mod golden;
pub mod key;
mod list;
mod pack;
mod rows;

pub use bytes::{chunk_count, join, split};
pub use list::{ListChunk, against, cut, decode_entries, decode_manifest, encode_manifest};
pub use pack::{
    Named, Numbers, Pack, PackHeader, decode_pack, decode_pack_header, decode_pack_of_format_1, pack, repack,
};
pub use rows::{
    BridgeName, Counters, EndpointName, HeldIn, QueueEntry, Remade, Stage, State, TOMBSTONE, TREES, Work,
    decode_attempt, decode_bridge_name, decode_content, decode_counters, decode_endpoint_name, decode_hold,
    decode_json, decode_number, decode_queue, decode_queue_of_format_1, decode_record, decode_state,
    decode_state_start, encode_attempt, encode_bridge_name, encode_content, encode_counters, encode_endpoint_name,
    encode_hold, encode_json, encode_number, encode_queue, encode_record, encode_state, is_ahead,
};

/// Of a row's value. Sled moves values over about 8 KiB into files that are never synced.
pub const ROW_BYTES_MAX: usize = 7_200;
/// The version byte that every row begins with.
const VERSION: u8 = 1;
