//! Kind 33, `Branch`. Key: length of the node's name u16 BE, the name, format id u32 BE, length of the gtrid u8, the gtrid,
//! length of the bqual u8, the bqual. Value: version, then what the collector made of the prepared branch. Written and
//! removed only together with a checkpoint, so the progress in it and the branches always belong together.

use tributary_binlog::XaXid;

use super::{KeyKind, Pair, RecordError, range_of, versioned};

const KIND: KeyKind = KeyKind::Branch;
const VERSION: u8 = 1;

/// A branch that stays prepared for long, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedBranch {
    /// Name of its node.
    pub node: String,
    /// Its id.
    pub xid: XaXid,
    /// The prepared transaction, as whoever saved it encoded it.
    pub prepared: Vec<u8>,
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

pub(crate) fn value(prepared: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(prepared.len() + 1);
    value.push(VERSION);
    value.extend_from_slice(prepared);
    value
}

/// The range of all branches.
pub(crate) fn range() -> (Vec<u8>, Vec<u8>) {
    range_of(KIND)
}

pub(crate) fn decode((key, value): &Pair) -> Result<SavedBranch, RecordError> {
    let (node, xid) = decode_key(key).ok_or_else(|| RecordError::damaged(KIND, "key"))?;
    let prepared = versioned(KIND, value, VERSION)?.to_vec();
    Ok(SavedBranch {
        node,
        xid,
        prepared,
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
            prepared: Vec<u8>,
        ) {
            let xid = XaXid::new(format_id, &gtrid, &bqual).unwrap();
            let pair = (key(&node, &xid).unwrap(), value(&prepared));
            prop_assert_eq!(pair.0[0], 33);
            prop_assert_eq!(decode(&pair).unwrap(), SavedBranch { node, xid, prepared });
            let cut = (pair.0[..pair.0.len() - 1].to_vec(), pair.1.clone());
            prop_assert!(decode(&cut).is_err());
        }

        #[test]
        fn any_bytes_are_survived(key: Vec<u8>, value: Vec<u8>) {
            let _ = decode(&(key, value));
        }
    }
}
