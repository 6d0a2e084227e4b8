//! Kind 3, `Segment`. Key: file number u64 BE. Value: version, size u64 LE (0 while the file is active), first GTID number
//! u64 LE, then the GTID set of its PREVIOUS_GTIDS event in MySQL's binary form. Written when a file is first committed
//! to and again when it is sealed. A later version of the value adds a digest of the sealed file.

use tributary_binlog::GtidSet;

use super::{KeyKind, Pair, RecordError, range_of, take_u64, versioned};

const KIND: KeyKind = KeyKind::Segment;
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number of the file.
    pub(crate) seq: u64,
    /// Final size; `None` while it is the active one.
    pub(crate) sealed: Option<u64>,
    /// Number of the first GTID that is, or would be, in it.
    pub(crate) first_gno: u64,
    /// What its PREVIOUS_GTIDS event says.
    pub(crate) previous_gtids: GtidSet,
}

impl Segment {
    pub(crate) fn key(seq: u64) -> Vec<u8> {
        let mut key = vec![KIND as u8];
        key.extend_from_slice(&seq.to_be_bytes());
        key
    }

    /// The range of all segment records.
    pub(crate) fn range() -> (Vec<u8>, Vec<u8>) {
        range_of(KIND)
    }

    pub(crate) fn pair(&self) -> Pair {
        let mut value = vec![VERSION];
        value.extend_from_slice(&self.sealed.unwrap_or(0).to_le_bytes());
        value.extend_from_slice(&self.first_gno.to_le_bytes());
        self.previous_gtids.encode(&mut value);
        (Self::key(self.seq), value)
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let damaged = |detail: &str| RecordError::damaged(KIND, detail);
        let seq = match key.split_first_chunk::<9>() {
            Some((&[kind, ref seq @ ..], [])) if kind == KIND as u8 => u64::from_be_bytes(*seq),
            _ => return Err(damaged("key")),
        };
        let rest = versioned(KIND, value, VERSION)?;
        let (size, rest) = take_u64(rest).ok_or_else(|| damaged("length"))?;
        let (first_gno, rest) = take_u64(rest).ok_or_else(|| damaged("length"))?;
        let previous_gtids = GtidSet::decode(rest).map_err(|e| damaged(&e.to_string()))?;
        Ok(Self {
            seq,
            sealed: (size != 0).then_some(size),
            first_gno,
            previous_gtids,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(seq: u64, size: u64, first_gno in 1u64..1 << 60) {
            let text = format!("00000000-0000-0000-0000-000000000001:1-{first_gno}");
            let segment = Segment {
                seq,
                sealed: (size != 0).then_some(size),
                first_gno,
                previous_gtids: text.parse().unwrap(),
            };
            let (key, value) = segment.pair();
            prop_assert_eq!(Segment::decode(&key, &value).unwrap(), segment);
            prop_assert!(Segment::decode(&key, &value[..value.len() - 1]).is_err());
            prop_assert!(Segment::decode(&key[1..], &value).is_err());
        }

        #[test]
        fn any_bytes_are_survived(key: Vec<u8>, value: Vec<u8>) {
            let _ = Segment::decode(&key, &value);
        }
    }
}
