//! One line for each event, for people.
//!
//! In: an event and its place. Out: `154  Gtid  server_id=1 end=219  SET @@SESSION.GTID_NEXT= '…:1'`.

use crate::frame::RawEvent;
use crate::header::flags;
use crate::info::info;

/// One line about the event at file offset `pos`: offset, name, server id, end, unusual flags, and MySQL's Info text
/// with control characters escaped.
#[must_use]
pub fn describe(raw: &RawEvent<'_>, pos: u64) -> String {
    let header = &raw.header;
    let marks: String = [
        (flags::IN_USE, " in_use"),
        (flags::ARTIFICIAL, " artificial"),
        (flags::IGNORABLE, " ignorable"),
        (flags::THREAD_SPECIFIC, " thread_specific"),
    ]
    .into_iter()
    .filter(|(bit, _)| header.flags & bit != 0)
    .map(|(_, name)| name)
    .collect();
    let mut line = format!(
        "{pos}  {}  server_id={} end={}{marks}",
        header.event_type, header.server_id, header.log_pos
    );
    let info = info(raw);
    if !info.is_empty() {
        line.push_str("  ");
        for c in info.chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
    }
    line
}
