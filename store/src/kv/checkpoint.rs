//! Kind 2, `Checkpoint`. Key: the kind alone. Value: version, then JSON of [`CheckpointRecord`]. Replaced by every group
//! commit, in the same batch as the indexes and the records of the files: it *is* the commit.

use serde::{Deserialize, Serialize};
use tributary_flow::Checkpoint;

use super::{KeyKind, Pair, RecordError, versioned};

const KIND: KeyKind = KeyKind::Checkpoint;
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    /// Number of the active file.
    pub(crate) seq: u64,
    /// Its committed length.
    pub(crate) offset: u64,
    /// Where recovery starts to check the active file's bytes: the start of the last group or before it.
    pub(crate) verify_from: u64,
    /// Number of the last GTID; 0 = none yet.
    pub(crate) last_gno: u64,
    /// Header timestamp of the last transaction, or of the directory's creation.
    pub(crate) timestamp: u32,
    /// Greatest header timestamp so far.
    pub(crate) max_timestamp: u32,
    /// The merger's state; `None` until its first batch.
    pub(crate) merger: Option<Checkpoint>,
}

impl CheckpointRecord {
    pub(crate) fn key() -> Vec<u8> {
        vec![KIND as u8]
    }

    pub(crate) fn pair(&self) -> Result<Pair, RecordError> {
        let mut value = vec![VERSION];
        serde_json::to_writer(&mut value, self)
            .map_err(|e| RecordError::damaged(KIND, e.to_string()))?;
        Ok((Self::key(), value))
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(versioned(KIND, value, VERSION)?)
            .map_err(|e| RecordError::damaged(KIND, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tributary_flow::{NodeProgress, Tso};

    use super::*;

    #[test]
    fn round_trip() {
        let mut merger = Checkpoint {
            last_tso: Tso::new(9).unwrap(),
            ..Checkpoint::default()
        };
        let emitted = "00000000-0000-0000-0000-000000000001:1-5".parse().unwrap();
        merger.nodes.insert(
            "dn1".to_owned(),
            NodeProgress {
                emitted,
                ..NodeProgress::default()
            },
        );
        let record = CheckpointRecord {
            seq: 3,
            offset: 1 << 40,
            verify_from: 4,
            last_gno: 5,
            timestamp: 6,
            max_timestamp: 7,
            merger: Some(merger),
        };
        let (key, value) = record.pair().unwrap();
        assert_eq!(key, [2]);
        assert_eq!(CheckpointRecord::decode(&value).unwrap(), record);
        let cut = value.get(..value.len() - 1).unwrap();
        assert!(matches!(
            CheckpointRecord::decode(cut),
            Err(RecordError::Damaged { .. })
        ));
    }
}
