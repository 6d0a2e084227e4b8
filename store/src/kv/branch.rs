//! Kind 33, `Branch`. Key: length of the node's name u16 BE, the name, format id u32 BE, length of the gtrid u8, the gtrid,
//! length of the bqual u8, the bqual. Value: version 2, number of the branch u64 LE, bytes of its rows u64 LE, then what the
//! merger must know of the prepared branch besides. (Version 1: the version, then that; no rows.) Written and removed only
//! together with a checkpoint, so the progress in it and the branches always belong together.
//!
//! Kind 34, `BranchRows`. Key: number of the branch u64 BE, bytes of its rows before these u64 BE. Value: version, then rows.
//! Rows of a number that no branch has are what a crash has left of one that was being written.

use tributary_binlog::XaXid;
use tributary_flow::KeptId;

use super::{KeyKind, Pair, RecordError, range_of, take_u64};

const KIND: KeyKind = KeyKind::Branch;
const VERSION: u8 = 2;
const ROWS: KeyKind = KeyKind::BranchRows;
const ROWS_VERSION: u8 = 1;

/// A branch that stays prepared for long, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedBranch {
    /// Name of its node.
    pub node: String,
    /// Its id.
    pub xid: XaXid,
    /// Its number.
    pub id: KeptId,
    /// Bytes of its rows.
    pub rows: u64,
    /// What must be known of it besides, as the merger wrote it.
    pub head: Vec<u8>,
}

/// The key of a branch; `None` if the node's name is longer than 65 535 bytes.
pub(crate) fn key(node: &str, xid: &XaXid) -> Option<Vec<u8>> {
    let mut key = vec![KIND as u8];
    key.extend_from_slice(&u16::try_from(node.len()).ok()?.to_be_bytes());
    key.extend_from_slice(node.as_bytes());
    key.extend_from_slice(&xid.format_id().to_be_bytes());
    for part in [xid.gtrid(), xid.bqual()] {
        key.push(part.len() as u8);
        key.extend_from_slice(part);
    }
    Some(key)
}

pub(crate) fn value(id: KeptId, rows: u64, head: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(head.len() + 17);
    value.push(VERSION);
    value.extend_from_slice(&id.0.to_le_bytes());
    value.extend_from_slice(&rows.to_le_bytes());
    value.extend_from_slice(head);
    value
}

/// The range of all branches.
pub(crate) fn range() -> (Vec<u8>, Vec<u8>) {
    range_of(KIND)
}

pub(crate) fn decode((key, value): &Pair) -> Result<SavedBranch, RecordError> {
    let damaged = |what| RecordError::damaged(KIND, what);
    let (node, xid) = decode_key(key).ok_or_else(|| damaged("key"))?;
    let (version, rest) = value.split_first().ok_or_else(|| damaged("empty"))?;
    let (id, rows, head) = match *version {
        1 => (0, 0, rest),
        VERSION => {
            let (id, rest) = take_u64(rest).ok_or_else(|| damaged("length"))?;
            let (rows, head) = take_u64(rest).ok_or_else(|| damaged("length"))?;
            (id, rows, head)
        }
        found if found > VERSION => {
            return Err(RecordError::Newer {
                kind: KIND,
                found,
                supported: VERSION,
            });
        }
        _ => return Err(damaged("version 0")),
    };
    Ok(SavedBranch {
        node,
        xid,
        id: KeptId(id),
        rows,
        head: head.to_vec(),
    })
}

fn decode_key(key: &[u8]) -> Option<(String, XaXid)> {
    let (_kind, rest) = key.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (node, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let (format_id, rest) = rest.split_first_chunk::<4>()?;
    let (gtrid, rest) = part(rest)?;
    let (bqual, rest) = part(rest)?;
    let xid = XaXid::new(u32::from_be_bytes(*format_id), gtrid, bqual).ok()?;
    let node = String::from_utf8(node.to_vec()).ok()?;
    rest.is_empty().then_some((node, xid))
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(len.into())
}

/// The key of rows.
pub(crate) fn rows_key(id: KeptId, offset: u64) -> Vec<u8> {
    let mut key = vec![ROWS as u8];
    key.extend_from_slice(&id.0.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

pub(crate) fn rows_value(rows: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(rows.len() + 1);
    value.push(ROWS_VERSION);
    value.extend_from_slice(rows);
    value
}

/// The range of all rows of the branches from `id` on.
pub(crate) fn rows_from(id: KeptId) -> (Vec<u8>, Vec<u8>) {
    (rows_key(id, 0), range_of(ROWS).1)
}

/// The range of all rows of one branch.
pub(crate) fn rows_range(id: KeptId) -> (Vec<u8>, Vec<u8>) {
    match id.0.checked_add(1) {
        Some(next) => (rows_key(id, 0), rows_key(KeptId(next), 0)),
        None => rows_from(id),
    }
}

/// The branch, the bytes before, and the rows.
pub(crate) fn decode_rows(pair: &Pair) -> Result<(KeptId, u64, &[u8]), RecordError> {
    let (key, value) = pair;
    let id_and_offset = || {
        let (_kind, rest) = key.split_first()?;
        let (id, rest) = rest.split_first_chunk::<8>()?;
        let offset = rest.try_into().ok()?;
        Some((KeptId(u64::from_be_bytes(*id)), u64::from_be_bytes(offset)))
    };
    let (id, offset) = id_and_offset().ok_or_else(|| RecordError::damaged(ROWS, "key"))?;
    let rows = super::versioned(ROWS, value, ROWS_VERSION)?;
    Ok((id, offset, rows))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(
            node in "[a-z0-9.]{0,20}",
            format_id: u32,
            gtrid in prop::collection::vec(any::<u8>(), 0..=64),
            bqual in prop::collection::vec(any::<u8>(), 0..=64),
            head: Vec<u8>,
            id: u64,
            rows: u64,
        ) {
            let xid = XaXid::new(format_id, &gtrid, &bqual).unwrap();
            let pair = (key(&node, &xid).unwrap(), value(KeptId(id), rows, &head));
            prop_assert_eq!(pair.0[0], 33);
            let cut = (pair.0[..pair.0.len() - 1].to_vec(), pair.1.clone());
            prop_assert!(decode(&cut).is_err());
            let mut first = pair.clone();
            first.1 = [&[1], &head[..]].concat();
            prop_assert_eq!(&decode(&first).unwrap().head, &head);
            let mut newer = pair.clone();
            newer.1[0] = VERSION + 1;
            let is_newer = matches!(decode(&newer), Err(RecordError::Newer { .. }));
            prop_assert!(is_newer);
            let id = KeptId(id);
            prop_assert_eq!(decode(&pair).unwrap(), SavedBranch { node, xid, id, rows, head });
        }

        #[test]
        fn rows_round_trip_and_stay_within_their_branch(id: u64, offset: u64, rows: Vec<u8>) {
            let id = KeptId(id);
            let pair = (rows_key(id, offset), rows_value(&rows));
            prop_assert_eq!(pair.0[0], 34);
            prop_assert_eq!(decode_rows(&pair).unwrap(), (id, offset, &rows[..]));
            let (from, to) = rows_range(id);
            prop_assert!(from <= pair.0 && pair.0 < to);
        }

        #[test]
        fn any_bytes_are_survived(key: Vec<u8>, value: Vec<u8>) {
            let _ = decode(&(key.clone(), value.clone()));
            let _ = decode_rows(&(key, value));
        }
    }
}
