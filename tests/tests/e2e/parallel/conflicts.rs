//! What the merged files claim, against what their rows say. In: the service's binlog files. Out: an error if a
//! transaction may be applied before an earlier one that touches one of its rows.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tributary_binlog::{
    ChecksumAlg, ColumnValue, EventReader, EventType, GtidEvent, MAGIC, RowImage, RowsHeader,
    RowsWalk, TableMap,
};

use crate::world::binlogs;

/// What has been found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) transactions: u64,
    /// Times that a transaction touched a row that an earlier one of the same file had touched.
    pub(super) conflicts: u64,
    /// Of those, inserts of a row that had been deleted.
    pub(super) across: u64,
    /// Transactions that need not wait for their predecessor.
    pub(super) free: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transactions,
            conflicts,
            across,
            free,
        } = self;
        write!(
            f,
            "{conflicts} conflicts ({across} rows that came back) between {transactions} transactions, \
             {free} of which need not wait for their predecessor"
        )
    }
}

/// The last transaction of the file that touched a row, and whether it deleted it.
type Touched = HashMap<Vec<u8>, (i64, bool)>;

/// Checks all files.
pub(super) fn check(dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    for name in binlogs(dir)? {
        let bytes = std::fs::read(dir.join(&name))?;
        let events = bytes.strip_prefix(&MAGIC).context("no binlog")?;
        file(events, &mut found).with_context(|| name)?;
    }
    Ok(found)
}

fn file(events: &[u8], found: &mut Found) -> Result<()> {
    let mut touched = Touched::new();
    let mut reader = EventReader::new(events, ChecksumAlg::Crc32);
    let (mut committed, mut number) = (0, 0);
    let mut maps: HashMap<u64, TableMap<'_>> = HashMap::new();
    while let Some(raw) = reader.next()? {
        let event_type = raw.header.event_type;
        if event_type == EventType::GTID {
            let gtid = GtidEvent::parse(event_type, raw.body)?;
            ensure!(
                gtid.sequence_number == number + 1,
                "{gtid:?} behind {number}"
            );
            (committed, number) = (gtid.last_committed, gtid.sequence_number);
            ensure!((0..number).contains(&committed), "{gtid:?}");
            found.transactions += 1;
            found.free += u64::from(committed < number - 1);
        } else if event_type == EventType::TABLE_MAP {
            let map = TableMap::parse(raw.body)?;
            maps.insert(map.table_id, map);
        } else if event_type.is_rows() {
            let rows = RowsHeader::parse(event_type, raw.body)?;
            let map = maps.get(&rows.table_id).context("a Table_map")?;
            for row in RowsWalk::new(map, &rows)? {
                let row = row?;
                let moves = row.before.is_none() != row.after.is_none();
                for (image, deletes) in [(&row.before, moves), (&row.after, false)] {
                    let Some(key) = image.as_ref().and_then(|image| key(map, image)) else {
                        continue;
                    };
                    let shown = String::from_utf8_lossy(&key).into_owned();
                    let last = touched.insert(key, (number, deletes));
                    let Some((last, deleted)) = last.filter(|(last, _)| *last != number) else {
                        continue;
                    };
                    found.conflicts += 1;
                    found.across += u64::from(deleted);
                    ensure!(
                        committed >= last,
                        "transaction {number} may begin behind {committed}, and {last} touches {shown:?}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// The key of a row; names are compared without their case.
fn key(map: &TableMap<'_>, image: &RowImage<'_>) -> Option<Vec<u8>> {
    let mut out = map.table.to_vec();
    for (column, _) in map.primary_key()? {
        if let ColumnValue::Bytes(bytes) = image.column(column as usize) {
            out.push(0);
            out.extend(bytes.to_ascii_lowercase());
        }
    }
    Some(out)
}
