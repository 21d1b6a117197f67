#![no_main]

//! Bytes of a row of the store, of any kind: they are read, or `Damaged`, and never a panic.

use bellpull::{model::Hash, store::codec};
use codec::{
    decode_attempt, decode_bridge_name, decode_content, decode_counters, decode_endpoint_name, decode_entries, decode_hold,
    decode_manifest, decode_number, decode_pack, decode_pack_header, decode_pack_of_format_1, decode_queue,
    decode_queue_of_format_1, decode_record, decode_state, decode_state_start, format1,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = decode_counters(data);
    let _ = decode_bridge_name(data);
    let _ = decode_endpoint_name(data);
    let _ = decode_number(data);
    let _ = decode_content(data);
    let _ = decode_state(data);
    let _ = decode_state_start(data);
    let _ = decode_hold(data);
    let _ = decode_record(Hash::default(), data);
    let _ = decode_attempt(data);
    let _ = decode_queue(data);
    let _ = decode_queue_of_format_1(data);
    let _ = decode_pack_header(data);
    let _ = decode_pack(data, &[]);
    let _ = decode_pack_of_format_1(data);
    let _ = decode_manifest(data);
    let _ = decode_entries(data, &mut Vec::new());
    let _ = format1::decode_state(data);
    let _ = format1::decode_counters(data);
    let _ = codec::chunk_count(data);
});
