//! The set of all GTIDs of earlier files: second in each file.
//!
//! Layout: the binary form of a GTID set and nothing else (`Previous_gtids_log_event` of `sql/log_event.cc`).

use super::EventError;
use crate::gtid_set::GtidSet;

/// A previous-GTIDs event.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PreviousGtids(pub GtidSet);

impl PreviousGtids {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no GTID set.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        Ok(Self(GtidSet::decode(body)?))
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}
