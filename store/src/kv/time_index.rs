//! Kind 6, `TimeIndex`. Key: seconds since the epoch u32 BE, GTID number u64 BE. Value: version, file number u64 LE, offset u64 LE. The
//! seconds are the greatest header timestamp of all transactions *before* that place: what is not before a moment lies
//! behind the newest entry below it. As sparse as the GTID index.

use super::{IndexPlace, KeyKind, Kv, KvError, Pair, RecordError};

const KIND: KeyKind = KeyKind::TimeIndex;

fn key(seconds: u32, gno: u64) -> Vec<u8> {
    let mut key = vec![KIND as u8];
    key.extend_from_slice(&seconds.to_be_bytes());
    key.extend_from_slice(&gno.to_be_bytes());
    key
}

pub(crate) fn pair(seconds: u32, gno: u64, place: IndexPlace) -> Pair {
    (key(seconds, gno), place.encode())
}

/// The newest indexed place before which every transaction is older than `seconds`.
pub(crate) fn floor(
    kv: &dyn Kv,
    seconds: u32,
) -> Result<Option<Result<IndexPlace, RecordError>>, KvError> {
    let found = match seconds.checked_sub(1) {
        Some(below) => kv.floor(&key(0, 0), &key(below, u64::MAX))?,
        None => None,
    };
    Ok(found.map(|(_, value)| IndexPlace::decode(KIND, &value)))
}
