//! Kind 5, `TsoIndex`. Key: TSO u64 BE, GTID number u64 BE. Value: version, file number u64 LE, offset u64 LE: where the transaction
//! with that order key and GTID begins. As sparse as the GTID index; no entry for a TSO of 0 (order `causal`).

use super::{IndexPlace, KeyKind, Kv, KvError, Pair, RecordError};

const KIND: KeyKind = KeyKind::TsoIndex;

fn key(tso: u64, gno: u64) -> Vec<u8> {
    let mut key = vec![KIND as u8];
    key.extend_from_slice(&tso.to_be_bytes());
    key.extend_from_slice(&gno.to_be_bytes());
    key
}

pub(crate) fn pair(tso: u64, gno: u64, place: IndexPlace) -> Pair {
    (key(tso, gno), place.encode())
}

/// The newest indexed place before which every transaction has a TSO of `tso` or less, and behind which, or at which,
/// the first transaction with exactly `tso` is.
pub(crate) fn floor(
    kv: &dyn Kv,
    tso: u64,
) -> Result<Option<Result<IndexPlace, RecordError>>, KvError> {
    // Strictly below `tso`: an entry with an equal TSO may have others with the same one before it.
    let found = match tso.checked_sub(1) {
        Some(below) => kv.floor(&key(0, 0), &key(below, u64::MAX))?,
        None => None,
    };
    Ok(found.map(|(_, value)| IndexPlace::decode(KIND, &value)))
}
