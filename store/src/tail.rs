//! Checks the end of the active file before anything is appended to it. In: the file and its checkpoint. Out: nothing, or
//! what is damaged. How much is read does not depend on how much there is.

use tributary_binlog::{BinlogFile, ChecksumAlg, EventType, GtidEvent, MAGIC, Sid};

use crate::{
    OpenError,
    disk::DiskFile,
    foreign::{Head, read_head},
    kv::checkpoint::CheckpointRecord,
    log::own_gtids,
    scan::{FileScan, ScanError},
};

/// The active file, as the checkpoint knows it.
pub(crate) struct Active<'a> {
    pub(crate) file: &'a BinlogFile,
    pub(crate) handle: &'a dyn DiskFile,
    pub(crate) sid: Sid,
    pub(crate) first_gno: u64,
    pub(crate) record: &'a CheckpointRecord,
}

/// Reads the head of the active file and its end from `verify_from` to the checkpoint: every CRC, every position, every
/// number.
pub(crate) fn check_active(active: &Active<'_>) -> Result<(), OpenError> {
    let Active {
        file,
        handle,
        sid,
        first_gno,
        record,
    } = *active;
    let corrupt = |pos: u64, detail: String| OpenError::Corrupt {
        file: file.clone(),
        pos,
        detail,
    };
    let Head {
        previous,
        end: head_end,
        ..
    } = read_head(handle, record.offset)
        .map_err(|e| corrupt(e.pos().unwrap_or(0), e.to_string()))?;
    if previous != Some(own_gtids(sid, first_gno - 1)) {
        let detail = "PREVIOUS_GTIDS is not what the index database says: the file and the database do not belong together";
        return Err(corrupt(MAGIC.len() as u64, detail.to_owned()));
    }
    let from = record.verify_from.max(head_end);
    let mut scan = FileScan::new(handle, from, record.offset, ChecksumAlg::Crc32);
    let mut last_gno = (from == head_end).then(|| first_gno - 1);
    loop {
        let pos = scan.pos();
        let event = match scan.next() {
            Ok(None) => break,
            Ok(Some(event)) => event,
            Err(ScanError::Io(source)) => {
                return Err(OpenError::Io {
                    what: format!("reading {file}"),
                    source,
                });
            }
            Err(e) => return Err(corrupt(e.pos().unwrap_or(pos), e.to_string())),
        };
        if let Some(damage) = event.damage {
            return Err(corrupt(pos, damage.to_string()));
        }
        if !event.is_in_place() {
            return Err(corrupt(
                pos,
                format!("end_log_pos is {}", event.header.log_pos),
            ));
        }
        if event.header.event_type == EventType::GTID {
            let gno = own_gno(event.body, sid).ok_or_else(|| {
                corrupt(
                    pos,
                    "a GTID that is not of this directory's UUID".to_owned(),
                )
            })?;
            if last_gno.is_some_and(|last| last + 1 != gno) {
                return Err(corrupt(pos, format!("GTID number {gno} is out of line")));
            }
            last_gno = Some(gno);
        }
    }
    if last_gno.is_some_and(|last| last != record.last_gno) {
        let detail = format!("the last GTID number is not {}", record.last_gno);
        return Err(corrupt(record.offset, detail));
    }
    Ok(())
}

/// The number of a GTID event's GTID, if its UUID is `sid`.
fn own_gno(body: &[u8], sid: Sid) -> Option<u64> {
    let gtid = GtidEvent::parse(EventType::GTID, body).ok()?.gtid?;
    (gtid.sid == sid && gtid.tag.is_empty()).then(|| gtid.gno.get())
}
