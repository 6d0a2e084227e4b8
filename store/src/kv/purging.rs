//! Kind 7, `Purging`. Key: the kind alone. Value: version, number of the first file u64 LE, number behind the last one
//! u64 LE. Written in the batch that takes the files out of the log, removed once they are off the disk: what it names is
//! ours and may be removed at any time.

use super::{KeyKind, Pair, RecordError, take_u64, versioned};

const KIND: KeyKind = KeyKind::Purging;
const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purging {
    /// Number of the first file.
    pub(crate) first: u64,
    /// Number behind the last one.
    pub(crate) end: u64,
}

impl Purging {
    pub(crate) fn key() -> Vec<u8> {
        vec![KIND as u8]
    }

    pub(crate) fn pair(self) -> Pair {
        let mut value = vec![VERSION];
        value.extend_from_slice(&self.first.to_le_bytes());
        value.extend_from_slice(&self.end.to_le_bytes());
        (Self::key(), value)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let damaged = || RecordError::damaged(KIND, "length");
        let (first, rest) = take_u64(versioned(KIND, value, VERSION)?).ok_or_else(damaged)?;
        let (end, rest) = take_u64(rest).ok_or_else(damaged)?;
        if rest.is_empty() {
            Ok(Self { first, end })
        } else {
            Err(damaged())
        }
    }

    pub(crate) fn contains(self, seq: u64) -> bool {
        (self.first..self.end).contains(&seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let purging = Purging {
            first: 3,
            end: 1 << 40,
        };
        let (key, value) = purging.pair();
        assert_eq!(key, [7]);
        assert_eq!(Purging::decode(&value).unwrap(), purging);
        assert!(Purging::decode(&value[..16]).is_err());
        assert!(purging.contains(3) && !purging.contains(2) && !purging.contains(1 << 40));
    }
}
