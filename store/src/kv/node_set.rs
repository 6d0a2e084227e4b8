//! Kind 8, `NodeSet`. Key: the kind alone. Value: version, then JSON of [`NodeSet`]. Written only together with a checkpoint,
//! so that the progress in it and the nodes always belong together.

use tributary_flow::NodeSet;

use super::{KeyKind, Pair, RecordError, versioned};

const KIND: KeyKind = KeyKind::NodeSet;
const VERSION: u8 = 1;

pub(crate) fn key() -> Vec<u8> {
    vec![KIND as u8]
}

pub(crate) fn pair(set: &NodeSet) -> Result<Pair, RecordError> {
    let mut value = vec![VERSION];
    serde_json::to_writer(&mut value, set)
        .map_err(|e| RecordError::damaged(KIND, e.to_string()))?;
    Ok((key(), value))
}

pub(crate) fn decode(value: &[u8]) -> Result<NodeSet, RecordError> {
    serde_json::from_slice(versioned(KIND, value, VERSION)?)
        .map_err(|e| RecordError::damaged(KIND, e.to_string()))
}
