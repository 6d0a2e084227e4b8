//! What a replica sends. In: the values. Out: payloads of command packets.

use tributary_binlog::GtidSet;

/// `COM_QUIT`: the whole payload.
pub(crate) const QUIT: &[u8] = &[0x01];

const COM_QUERY: u8 = 0x03;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

/// First byte of what is added for semi-synchronous replication, in either direction.
pub(crate) const SEMI_SYNC: u8 = 0xef;

/// `USE_HEARTBEAT_EVENT_V2`: 8-byte positions in heartbeats, from 8.0.26 on; older servers ignore it.
const USE_HEARTBEAT_V2: u16 = 0x2;
/// `BINLOG_DUMP_NON_BLOCK`: EOF at the end of the log instead of waiting for more.
const NON_BLOCK: u16 = 0x1;

/// `COM_QUERY`.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + sql.len());
    out.push(COM_QUERY);
    out.extend_from_slice(sql.as_bytes());
    out
}

/// `COM_REGISTER_SLAVE`, which puts us into `SHOW REPLICAS`. Host, user and password stay empty.
pub(crate) fn register_replica(server_id: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    out.push(COM_REGISTER_SLAVE);
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0]); // host, user, password
    out.extend_from_slice(&0_u16.to_le_bytes()); // port
    out.extend_from_slice(&[0; 8]); // rank, source id
    out
}

/// What a semi-synchronous replica answers: everything up to `offset` of `file` is safe with it.
pub(crate) fn semi_sync_ack(file: &str, offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + file.len());
    out.push(SEMI_SYNC);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(file.as_bytes());
    out
}

fn flags(blocking: bool) -> u16 {
    if blocking {
        USE_HEARTBEAT_V2
    } else {
        USE_HEARTBEAT_V2 | NON_BLOCK
    }
}

/// `COM_BINLOG_DUMP_GTID`: everything that is not in `have`.
pub(crate) fn dump_gtid(server_id: u32, have: &GtidSet, blocking: bool) -> Vec<u8> {
    let mut set = Vec::new();
    have.encode(&mut set);
    let mut out = Vec::with_capacity(23 + set.len());
    out.push(COM_BINLOG_DUMP_GTID);
    out.extend_from_slice(&flags(blocking).to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes()); // no file: the server finds it
    out.extend_from_slice(&4_u64.to_le_bytes());
    out.extend_from_slice(&(set.len() as u32).to_le_bytes());
    out.extend_from_slice(&set);
    out
}

/// `COM_BINLOG_DUMP`: `file` from `offset` on. The protocol has four bytes for the offset.
pub(crate) fn dump_file(server_id: u32, file: &str, offset: u32, blocking: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(11 + file.len());
    out.push(COM_BINLOG_DUMP);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&flags(blocking).to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(file.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_protocol() {
        assert_eq!(
            semi_sync_ack("b.000001", 0x0102),
            b"\xef\x02\x01\0\0\0\0\0\0b.000001"
        );
        assert_eq!(query("DO 1"), b"\x03DO 1");
        assert_eq!(register_replica(0x0102)[..5], [0x15, 2, 1, 0, 0]);
        assert_eq!(register_replica(1).len(), 18);
        assert_eq!(
            dump_file(9, "b.000001", 4, true),
            b"\x12\x04\0\0\0\x02\0\x09\0\0\0b.000001"
        );
        let set: GtidSet = "00000000-0000-0000-0000-000000000001:1-5".parse().unwrap();
        let packet = dump_gtid(9, &set, false);
        assert_eq!(packet[..11], [0x1e, 3, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(packet[11..19], 4_u64.to_le_bytes());
        assert_eq!(packet[19..23], 48_u32.to_le_bytes());
        assert_eq!(GtidSet::decode(&packet[23..]).unwrap(), set);
    }
}
