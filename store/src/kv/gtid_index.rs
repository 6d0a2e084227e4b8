//! Kind 4, `GtidIndex`. Key: GTID number u64 BE. Value: version, file number u64 LE, offset u64 LE: where that transaction begins.
//! At most one entry per group commit and file, and only where enough bytes lie behind the one before.

use super::{IndexPlace, KeyKind, Kv, KvError, Pair, RecordError};

const KIND: KeyKind = KeyKind::GtidIndex;

fn key(gno: u64) -> Vec<u8> {
    let mut key = vec![KIND as u8];
    key.extend_from_slice(&gno.to_be_bytes());
    key
}

pub(crate) fn pair(gno: u64, place: IndexPlace) -> Pair {
    (key(gno), place.encode())
}

/// The newest indexed place at or before the transaction `gno`.
pub(crate) fn floor(
    kv: &dyn Kv,
    gno: u64,
) -> Result<Option<Result<IndexPlace, RecordError>>, KvError> {
    let found = kv.floor(&key(0), &key(gno))?;
    Ok(found.map(|(_, value)| IndexPlace::decode(KIND, &value)))
}
