//! Kind 1, `Meta`. Key: the kind alone. Value: version, then JSON of [`Meta`]. Written once, before the first binlog
//! file of a new directory; it is what tells our own directory from a foreign one.

use serde::{Deserialize, Serialize};

use super::{KeyKind, Pair, RecordError, versioned};

const KIND: KeyKind = KeyKind::Meta;
const VERSION: u8 = 1;

/// Format of the directory as a whole; raised when an older program must not touch it any more.
pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// See [`FORMAT`].
    pub(crate) format: u32,
    /// The UUID of all GTIDs in this directory, as text.
    pub(crate) server_uuid: String,
    /// Seconds since the epoch at which the directory was made: the timestamp of the first file's head.
    pub(crate) created: u32,
    /// The part of the file names before the number.
    pub(crate) base_name: String,
}

impl Meta {
    pub(crate) fn key() -> Vec<u8> {
        vec![KIND as u8]
    }

    pub(crate) fn pair(&self) -> Pair {
        let mut value = vec![VERSION];
        value.extend(serde_json::to_vec(self).expect("strings and numbers are valid JSON"));
        (Self::key(), value)
    }

    /// The text of the format file.
    pub(crate) fn text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings and numbers are valid JSON");
        text.push('\n');
        text
    }

    /// Reads the format file. One of a newer format need not have the other fields.
    pub(crate) fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Number {
            format: u32,
        }
        let Number { format } = serde_json::from_str(text)?;
        if format > FORMAT {
            return Ok(Self {
                format,
                server_uuid: String::new(),
                created: 0,
                base_name: String::new(),
            });
        }
        serde_json::from_str(text)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(versioned(KIND, value, VERSION)?)
            .map_err(|e| RecordError::damaged(KIND, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            format: FORMAT,
            server_uuid: "00000000-0000-0000-0000-000000000001".to_owned(),
            created: 7,
            base_name: "binlog".to_owned(),
        }
    }

    #[test]
    fn round_trip() {
        let (key, value) = meta().pair();
        assert_eq!(key, [1]);
        assert_eq!(Meta::decode(&value).unwrap(), meta());
    }

    #[test]
    fn other_versions_are_told_apart() {
        let (_, mut value) = meta().pair();
        value[0] = 2;
        assert!(matches!(
            Meta::decode(&value),
            Err(RecordError::Newer { found: 2, .. })
        ));
        value[0] = 0;
        assert!(matches!(
            Meta::decode(&value),
            Err(RecordError::Damaged { .. })
        ));
        assert!(matches!(
            Meta::decode(&[]),
            Err(RecordError::Damaged { .. })
        ));
    }
}
