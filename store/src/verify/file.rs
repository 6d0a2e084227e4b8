//! Checks one file. In: the file. Out: faults in the report, events for the audit.

use tributary_binlog::{BinlogFile, ChecksumAlg, MAGIC, flags};

use super::Report;
use crate::{
    core::{audit::Audit, index_file},
    disk::Disk,
    files::read_text,
    foreign::{HeadError, read_head},
    scan::{FileScan, ScanError},
};

/// What to check.
pub(super) struct Subject<'a> {
    pub(super) file: &'a BinlogFile,
    /// The file behind it; `None` if it is the last one, which may still be written.
    pub(super) next: Option<&'a BinlogFile>,
    /// How many of its bytes are committed, if it is the active one and that is known.
    pub(super) committed: Option<u64>,
    pub(super) index_name: &'a str,
}

/// Whether a running service has purged the file since the index was read.
fn was_purged(disk: &dyn Disk, subject: &Subject<'_>) -> bool {
    let text = read_text(disk, subject.index_name).unwrap_or_default();
    let named = index_file::parse(&text).unwrap_or_default();
    named.first().is_some_and(|oldest| subject.file < oldest)
}

pub(super) fn verify(
    disk: &dyn Disk,
    subject: &Subject<'_>,
    audit: &mut Audit,
    report: &mut Report,
) {
    let file = subject.file;
    report.files += 1;
    audit.begin_file();
    let handle = match disk.open(file.as_str(), false) {
        Ok(handle) => handle,
        Err(_) if was_purged(disk, subject) => {
            return report.note(
                file,
                0,
                "it was purged while others were checked".to_owned(),
            );
        }
        Err(e) => return report.fault(file, 0, format!("cannot be opened: {e}")),
    };
    let size = match handle.len() {
        Ok(size) => size,
        Err(e) => return report.fault(file, 0, format!("cannot be opened: {e}")),
    };
    let end = subject.committed.unwrap_or(size);
    if end > size {
        report.fault(
            file,
            size,
            format!("the file ends here, {end} bytes are committed"),
        );
    }
    let end = end.min(size);
    report.bytes += end;
    match read_head(&*handle, end) {
        Ok(_) => {}
        // The walk below says the same of single events, at their places.
        Err(HeadError::Scan(_) | HeadError::Damaged { .. } | HeadError::Event { .. }) => {}
        Err(e) => return report.fault(file, 0, e.to_string()),
    }
    let mut scan = FileScan::new(&*handle, MAGIC.len() as u64, end, ChecksumAlg::None);
    match walk(&mut scan, file, audit, report) {
        Ok(()) => finish(subject, end, audit, report),
        Err(ScanError::CutOff { pos, need, have })
            if subject.next.is_none() && subject.committed.is_none() =>
        {
            let text = format!("unfinished end: an event of {need} bytes, {have} of them there");
            report.note(file, pos, text);
        }
        Err(e) => {
            let pos = e.pos().unwrap_or_else(|| scan.pos());
            report.fault(file, pos, e.to_string());
        }
    }
}

/// Every event of the file.
fn walk(
    scan: &mut FileScan<'_>,
    file: &BinlogFile,
    audit: &mut Audit,
    report: &mut Report,
) -> Result<(), ScanError> {
    let mut found = Vec::new();
    while let Some(event) = scan.next()? {
        report.events += 1;
        if let Some(damage) = &event.damage {
            report.fault(file, event.pos, damage.to_string());
        }
        if !event.is_in_place() {
            let (is, should) = (event.header.log_pos, event.end());
            let text = format!(
                "{}: end_log_pos is {is}, the event ends at {should}",
                event.header.event_type
            );
            report.fault(file, event.pos, text);
        }
        if event.header.flags & flags::ARTIFICIAL != 0 {
            let text = format!("{} is marked as artificial", event.header.event_type);
            report.fault(file, event.pos, text);
        }
        audit.event(&event, &mut found);
        for (pos, text) in found.drain(..) {
            report.fault(file, pos, text);
        }
    }
    Ok(())
}

/// The end of a file all of whose events were read.
fn finish(subject: &Subject<'_>, end: u64, audit: &mut Audit, report: &mut Report) {
    let mut found = Vec::new();
    audit.end_file(end, subject.next.map(BinlogFile::as_str), &mut found);
    let open = subject.next.is_none() && subject.committed.is_none();
    for (pos, text) in found {
        if open && pos != MAGIC.len() as u64 {
            report.note(subject.file, pos, format!("unfinished end: {text}"));
        } else {
            report.fault(subject.file, pos, text);
        }
    }
}
