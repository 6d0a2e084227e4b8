//! The head of a binlog file. In: what it must say. Out: its bytes: magic, format description, PREVIOUS_GTIDS.

use tributary_binlog::{
    ChecksumAlg, EventType, EventWriter, FormatDescription, GtidSet, MAGIC, PreviousGtids, Rotate,
    WriteError, flags,
};

/// What every event written outside a transaction has in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) server_id: u32,
    /// Seconds; never a clock's: the last transaction's, or the directory's creation.
    pub(crate) timestamp: u32,
}

/// Appends the head of a new file to `out`, which must be empty.
pub(crate) fn put_head(
    out: &mut Vec<u8>,
    stamp: Stamp,
    server_version: &str,
    previous: &GtidSet,
) -> Result<(), WriteError> {
    out.extend_from_slice(&MAGIC);
    let mut writer = EventWriter::new(out, 0, stamp.server_id, ChecksumAlg::Crc32);
    // Never marked as in use: a sealed file must equal itself from its first byte on, and readers stop at the durable
    // end anyway. Created = 0: replicas must not drop their temporary tables.
    let format = FormatDescription {
        created: 0,
        checksum: ChecksumAlg::Crc32,
        ..FormatDescription::for_version(server_version)
    };
    writer.event(EventType::FORMAT_DESCRIPTION, stamp.timestamp, 0, |o| {
        format.put_body(o);
    })?;
    let previous = PreviousGtids(previous.clone());
    let flags = flags::IGNORABLE;
    writer.event(EventType::PREVIOUS_GTIDS, stamp.timestamp, flags, |o| {
        previous.put_body(o);
    })
}

/// Appends the ROTATE that seals a file; the first byte of `out` belongs at `base` of it.
pub(crate) fn put_rotate(
    out: &mut Vec<u8>,
    base: u64,
    stamp: Stamp,
    next_file: &str,
) -> Result<(), WriteError> {
    let rotate = Rotate {
        position: MAGIC.len() as u64,
        file: next_file.as_bytes(),
    };
    EventWriter::new(out, base, stamp.server_id, ChecksumAlg::Crc32).event(
        EventType::ROTATE,
        stamp.timestamp,
        0,
        |o| rotate.put_body(o),
    )
}
