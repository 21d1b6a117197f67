//! The bytes of each kind of row, pinned: what is on a disk somewhere must be read by every later version.

use expect_test::{Expect, expect};

use super::*;
use crate::{
    model::{Content, Delivery, Entry, Event, EventId, Hash, Name, Record, Timestamp, hex},
    store::{Attempt, BridgeState, DeliveryState, EndpointState, Position, WAIT_UNKNOWN},
};

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits");
    hex.as_bytes().chunks(2).map(digit).collect()
}

fn pin(value: &[u8], expected: Expect) {
    expected.assert_eq(&hex(value));
}

fn queue_entry() -> QueueEntry {
    QueueEntry {
        index: 3,
        state: DeliveryState::Dead,
        attempts: 300,
        refusals: 2,
        due: Timestamp(0x0102_0304),
        wait_ms: 5_000,
        replay: true,
        lane: 0x1122_3344_5566_7788,
        remade: Remade::Yes,
    }
}

fn event() -> Event {
    Event {
        id: EventId([7; 16]),
        bridge: "shop".into(),
        sequence: 9,
        kind: "shop.updated".into(),
        key: "ä1".into(),
        at: Timestamp(5),
        body: b"{}".to_vec(),
        deliveries: vec![
            Delivery { endpoint: "app".into(), content: Content::Shared },
            Delivery { endpoint: "crm".into(), content: Content::Own(b"x".to_vec()) },
            Delivery { endpoint: "log".into(), content: Content::Dead("no".into()) },
            Delivery { endpoint: "ops".into(), content: Content::Thin },
        ],
    }
}

fn state() -> BridgeState {
    BridgeState { version: 2, sequence: 9, records: 3, mark: Some("m".into()), ..BridgeState::default() }
}

#[test]
fn rows_of_format_2_are_these_bytes() {
    let entry = Entry { key: Hash([1; 16]), raw: Hash([2; 16]), canonical: Hash([3; 16]) };
    let record = Record { entry, key: "ä1".into(), seen: Timestamp(6), body: b"{\"n\":1}".to_vec() };
    let attempt = Attempt {
        event: "evt_1".into(),
        endpoint: "app".into(),
        number: 2,
        at: Timestamp(7),
        duration_ms: 300,
        status: Some(503),
        answer: "later".into(),
        error: Some("down".into()),
    };
    let numbers: Numbers = ["app", "crm", "log", "ops"].into_iter().map(Name::from).zip(11..).collect();
    let counters = Counters { groups: 1, pack: 2, attempts: 3, numbers: 4, changed: [1, 2, 3, 4, 5, 6, 7] };
    let stages = vec![Stage { number: 1, bridge: 2, packs: vec![(3, 5)], put: 6, deleted: 7 }];
    let health = EndpointState { step: 2, failing_ms: 8, ..EndpointState::default() };
    let chunks = cut(&[entry, entry]);
    pin(
        &encode_counters(counters),
        expect![
            "00000000000000010000000000000002000000000000000300000000000000040000000000000001000000000000000200000000000000030000000000000004000000000000000500000000000000060000000000000007"
        ],
    );
    pin(&encode_number(258), expect!["0000000000000102"]);
    pin(
        &encode_bridge_name(BridgeName { number: 1, sequence: 2, at: Timestamp(3) }),
        expect!["000000000000000100000000000000020000000000000003"],
    );
    pin(
        &encode_endpoint_name(&EndpointName { numbers: vec![2, 1], state: Some(health) }).expect("JSON"),
        expect![
            "0200000000000000020000000000000001007b2264697361626c6564223a6e756c6c2c226661696c696e675f73696e6365223a6e756c6c2c226661696c696e675f6d73223a382c2273746570223a322c226e6578745f617474656d7074223a6e756c6c2c226c6173745f6572726f72223a6e756c6c7d"
        ],
    );
    pin(
        &encode_state(&State { layers: vec![4, 5], state: state() }).expect("JSON"),
        expect![
            "00000000000000020200000000000000040000000000000005007b2276657273696f6e223a322c2273657175656e6365223a392c22646566696e6974696f6e223a223030303030303030303030303030303030303030303030303030303030303030222c22616e73776572223a6e756c6c2c227061676573223a302c227265636f726473223a332c2276616c696461746f7273223a7b7d2c226d61726b223a226d222c2261636365707465645f6174223a307d"
        ],
    );
    pin(
        &encode_json(&stages).expect("JSON"),
        expect![
            "005b7b226e756d626572223a312c22627269646765223a322c227061636b73223a5b5b332c355d5d2c22707574223a362c2264656c65746564223a377d5d"
        ],
    );
    pin(&encode_json(&Work::Merge(3)).expect("JSON"), expect!["007b226d65726765223a337d"]);
    pin(
        &encode_record(&record),
        expect![
            "0202020202020202020202020202020203030303030303030303030303030303000000000000000603c3a431007b226e223a317d"
        ],
    );
    pin(&encode_queue(&[queue_entry()]), expect!["011903ac0202882700000000010203041122334455667788"]);
    pin(&encode_content(&Content::Own(b"x".to_vec())), expect!["010078"]);
    pin(&encode_attempt(&attempt), expect!["056576745f3103617070020000000000000007ac02f8030104646f776e006c61746572"]);
    pin(
        &pack(&[event()], &numbers)[0].value,
        expect![
            "00000000000000050473686f7004000000000000000b000000000000000c000000000000000d000000000000000e010707070707070707070707070707070700090c73686f702e7570646174656403c3a4310000000000000005027b7d040000010101780202026e6f0303"
        ],
    );
    pin(
        &chunks[0].row,
        expect![
            "01010101010101010101010101010101010202020202020202020202020202020203030303030303030303030303030303010101010101010101010101010101010202020202020202020202020202020203030303030303030303030303030303"
        ],
    );
    pin(&encode_manifest(&[chunks[0].id]), expect!["71fecbb3d39492fadfa5b39707302f9c"]);
    pin(&split(b"value").expect("it fits")[0], expect!["01000176616c7565"]);
    // Keys.
    let position = Position { pack: 2, index: 3 };
    pin(&key::name("shöp"), expect!["6e7368c3b67000"]);
    pin(&key::bridge(key::BridgeRow::State, 1), expect!["730000000000000001"]);
    pin(&key::list_chunk(1, Hash([9; 16])), expect!["63000000000000000109090909090909090909090909090909"]);
    pin(&key::record(1, Hash([9; 16])), expect!["000000000000000109090909090909090909090909090909"]);
    pin(&key::queue(1, 2, 3), expect!["0000000000000001020000000000000003"]);
    pin(&key::remade(1, position), expect!["00000000000000010300000000000000020003"]);
    pin(&key::endpoint_number(1), expect!["690000000000000001"]);
    pin(&key::chunk(key::GROUP, 0), expect!["ff0000"]);
}

/// As 0.1.0 wrote them; `tests/data/format-1` is a whole store of it.
#[test]
fn rows_of_format_1_are_read() {
    let counters = bytes("000000000000000100000000000000020000000000000003");
    let read = format1::decode_counters(&counters).expect("read");
    assert_eq!((read.groups, read.pack, read.attempts), (1, 2, 3));
    // One dead delivery: flags, index, attempts, refusals, due, lane.
    let queue = bytes("011903ac020200000000010203041122334455667788");
    let known = QueueEntry { wait_ms: WAIT_UNKNOWN, ..queue_entry() };
    assert_eq!(decode_queue_of_format_1(&queue), Ok(vec![known]));
    // Time, bridge, names of endpoints, ids, events.
    let header = "000000000000000504".to_owned()
        + &hex(b"shop")
        + "04"
        + "03"
        + &hex(b"app")
        + "03"
        + &hex(b"crm")
        + "03"
        + &hex(b"log")
        + "03"
        + &hex(b"ops")
        + "01"
        + &"07".repeat(16)
        + "00";
    let body = "09".to_owned()
        + "0c"
        + &hex(b"shop.updated")
        + "03"
        + &hex("ä1".as_bytes())
        + "0000000000000005"
        + "02"
        + &hex(b"{}")
        + "04"
        + "0000"
        + "0101"
        + "0178"
        + "0202"
        + "026e6f"
        + "0303";
    assert_eq!(decode_pack_of_format_1(&bytes(&(header + &body))), Ok(vec![event()]));
    let mut value = 2u64.to_be_bytes().to_vec();
    value.push(0);
    value.extend_from_slice(&serde_json::to_vec(&state()).expect("JSON"));
    assert_eq!(format1::decode_state(&value), Ok(state()));
    let position = |index| Position { pack: 7, index };
    let key = [b"app\0\x02".as_slice(), &7u64.to_be_bytes()].concat();
    assert_eq!(format1::parse_queue(&key), Ok(("app".into(), position(0), false)));
    let key = [b"app\0\x03".as_slice(), &7u64.to_be_bytes(), &[0, 3]].concat();
    assert_eq!(format1::parse_queue(&key), Ok(("app".into(), position(3), true)));
    let key = [b"shop\0".as_slice(), &[9; 16]].concat();
    assert_eq!(format1::parse_record(&key), Ok(("shop".into(), Hash([9; 16]))));
    assert_eq!(format1::parse_bridge(b"sshop\0"), Ok((b's', "shop".into())));
}
