//! The one table of the generated binlogs, as MySQL 9.7 logs it with `binlog_row_metadata=FULL`.
//!
//! In: [`Change`]s. Out: bodies of Table_map and rows events. What a row holds is a function of its key and its version,
//! so the before image of a change is the after image of the change before it.

use tributary_binlog::{EventType, RowsHeader, TableMap, rows_flags};

use crate::history::{Change, Version};
use crate::rng::mix;

const TABLE_ID: u64 = 106;
const COLUMNS: u64 = 6;
const ALL_COLUMNS: &[u8] = &[0xff];

/// Types of `id, customer_id, status, amount, note, updated_at`: BIGINT twice, STRING (as ENUM), NEWDECIMAL, VARCHAR, TIMESTAMP2.
const TYPES: [u8; 6] = [8, 8, 254, 246, 15, 17];
/// ENUM in one byte; DECIMAL(12,2); 800 bytes; 6 digits of seconds.
const TYPE_META: [u8; 7] = [247, 1, 12, 2, 0x20, 3, 6];
/// Signedness, character sets, column names, values of the ENUM, its character set, primary key.
const OPTIONAL: &[u8] = b"\x01\x01\xc0\x02\x03\xfc\xff\x00\
\x04\x2d\x02id\x0bcustomer_id\x06status\x06amount\x04note\x0aupdated_at\
\x0a\x03\xfc\xff\x00\x06\x14\x04\x03new\x04paid\x04sent\x04done\x08\x01\x00\x0c\x01\xfc";

/// Letters that notes are cut from.
const WORDS: &[u8] = b"leave at the door; call before delivery; gift wrap, no invoice inside; second attempt \
after six; customer asked for the blue one instead; fragile: glass; paid by transfer, waiting for the bank; \
return of the earlier order; ring twice, dog in the yard; neighbour takes it  ";

/// Appends the body of the table's Table_map event.
pub(crate) fn put_table_map(out: &mut Vec<u8>) {
    let map = TableMap {
        table_id: TABLE_ID,
        flags: 1,
        schema: b"shop",
        table: b"orders",
        column_types: &TYPES,
        column_meta: &TYPE_META,
        null_bitmap: &[0],
        optional: OPTIONAL,
    };
    map.put_body(out);
}

/// The type of the rows event a change is logged as.
pub(crate) fn rows_type(change: &Change) -> EventType {
    match (change.before, change.after) {
        (None, _) => EventType::WRITE_ROWS,
        (Some(_), Some(_)) => EventType::UPDATE_ROWS,
        (Some(_), None) => EventType::DELETE_ROWS,
    }
}

/// Appends the body of a rows event with the rows in `changes`, all of one [`rows_type`].
pub(crate) fn put_rows(out: &mut Vec<u8>, event_type: EventType, end: bool, changes: &[Change]) {
    let mut rows = Vec::with_capacity(changes.len() * 128);
    for change in changes {
        for version in [change.before, change.after].into_iter().flatten() {
            put_row(&mut rows, change.key, version);
        }
    }
    let header = RowsHeader {
        event_type,
        table_id: TABLE_ID,
        flags: rows_flags::USE_SQL_FOREIGN_KEY | if end { rows_flags::STMT_END } else { 0 },
        extra: &[],
        n_columns: COLUMNS,
        columns_before: ALL_COLUMNS,
        columns_after: (event_type == EventType::UPDATE_ROWS).then_some(ALL_COLUMNS),
        rows: &rows,
    };
    header.put_body(out);
}

/// Bytes of one image of a row.
pub(crate) fn row_len(key: u64, version: Version) -> usize {
    1 + 8 + 8 + 1 + 6 + 2 + note(key, version).len() + 7
}

fn put_row(out: &mut Vec<u8>, key: u64, version: Version) {
    let hash = content(key, version);
    let note = note(key, version);
    out.push(0); // nothing is NULL
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&(1 + key % 100_003).to_le_bytes());
    out.push(1 + (version % 4) as u8);
    let cents = hash % 100_000_000;
    let (whole, cents) = ((cents / 100) as u32, (cents % 100) as u8);
    out.push(0x80); // positive, and no digit above the ninth
    out.extend_from_slice(&whole.to_be_bytes());
    out.push(cents);
    out.extend_from_slice(&(note.len() as u16).to_le_bytes());
    out.extend_from_slice(note);
    let seconds = 1_767_225_600 + (hash >> 40) as u32 % 2_592_000;
    out.extend_from_slice(&seconds.to_be_bytes());
    let micros = (hash >> 20) as u32 % 1_000_000;
    out.extend(micros.to_be_bytes().into_iter().skip(1));
}

fn content(key: u64, version: Version) -> u64 {
    mix(key ^ (u64::from(version) << 40))
}

/// 20 to 83 letters.
fn note(key: u64, version: Version) -> &'static [u8] {
    let hash = content(key, version) >> 8;
    let (start, len) = (hash as usize % 128, 20 + (hash >> 8) as usize % 64);
    &WORDS[start..start + len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_map_is_mysqlds() {
        let mut body = Vec::new();
        put_table_map(&mut body);
        // As mysqld 9.7.4 wrote it for this table.
        let real = "6a000000000001000473686f7000066f72646572730006\
            0808fef60f1107f7010c022003060001\
            01c00203fcff00042d0269640b637573746f6d65725f69640673746174757306616d6f756e74046e6f74650a757064617465645f6174\
            0a03fcff00061404036e657704706169640473656e7404646f6e650801000c01fc";
        let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, real);
        let map = TableMap::parse(&body).unwrap();
        let meta = map.optional_metadata().unwrap();
        assert_eq!(meta.names.unwrap().len(), 6);
    }

    #[test]
    fn an_update_holds_both_images() {
        let change = Change {
            key: 5,
            before: Some(1),
            after: Some(2),
        };
        assert_eq!(rows_type(&change), EventType::UPDATE_ROWS);
        let mut body = Vec::new();
        put_rows(&mut body, EventType::UPDATE_ROWS, true, &[change]);
        let parsed = RowsHeader::parse(EventType::UPDATE_ROWS, &body).unwrap();
        assert_eq!(parsed.rows.len(), row_len(5, 1) + row_len(5, 2));
        assert_eq!(parsed.flags, 0x11);
    }
}
