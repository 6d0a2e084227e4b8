//! Where the stream is in the node's binlog. In: headers, rotates, heartbeats. Out: [`SourcePos`].
//!
//! `log_pos` in an event's header is the end of the event modulo 4 GiB, and whole groups may be missing in front of it
//! (the node skips what we have). So the new offset is the least one that ends in these 32 bits and is not before the
//! old offset plus the event's length.

use tributary_binlog::{EventHeader, flags};
use tributary_flow::SourcePos;

const WRAP: u64 = 1 << 32;

/// The end of the last event counted.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    pos: SourcePos,
}

impl Tracker {
    pub(super) fn pos(&self) -> SourcePos {
        self.pos
    }

    /// A rotate event: the stream goes on in this file.
    pub(super) fn rotate(&mut self, file: u64, offset: u64) {
        self.pos = SourcePos { file, offset };
    }

    /// An event of the file. Events made up by the sender do not move the position.
    #[inline]
    pub(super) fn advance(&mut self, header: &EventHeader) {
        if header.flags & flags::ARTIFICIAL != 0 {
            return;
        }
        let least = self.pos.offset.saturating_add(u64::from(header.event_size));
        // A format description event that is sent again in the middle of a file has no position.
        if header.log_pos != 0 || least.is_multiple_of(WRAP) {
            self.pos.offset = at_or_after(least, header.log_pos);
        }
    }

    /// A heartbeat: everything before this was sent or skipped.
    pub(super) fn heartbeat(&mut self, offset: u64) {
        self.pos.offset = self.pos.offset.max(offset);
    }

    /// The same with the 32 bits of an old heartbeat.
    pub(super) fn heartbeat_low(&mut self, low: u32) {
        self.pos.offset = at_or_after(self.pos.offset, low);
    }
}

/// The least offset ≥ `least` whose low 32 bits are `low`.
fn at_or_after(least: u64, low: u32) -> u64 {
    let candidate = (least & !(WRAP - 1)) | u64::from(low);
    if candidate < least {
        candidate.saturating_add(WRAP)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use tributary_binlog::EventType;

    use super::*;

    fn event(event_size: u32, log_pos: u32, flags: u16) -> EventHeader {
        let event_type = EventType::QUERY;
        EventHeader {
            timestamp: 0,
            event_type,
            server_id: 1,
            event_size,
            log_pos,
            flags,
        }
    }

    #[test]
    fn positions_follow_log_pos_over_gaps_and_wraps() {
        let mut t = Tracker::default();
        t.rotate(7, 4);
        t.advance(&event(122, 126, 0));
        assert_eq!(
            t.pos(),
            SourcePos {
                file: 7,
                offset: 126
            }
        );
        t.advance(&event(100, 0, flags::ARTIFICIAL));
        t.advance(&event(100, 0, 0));
        assert_eq!(t.pos().offset, 126);
        t.advance(&event(100, 5000, 0)); // a skipped run in front of it
        assert_eq!(t.pos().offset, 5000);
        t.heartbeat_low(4_294_967_290);
        t.advance(&event(100, 94, 0)); // wraps
        assert_eq!(t.pos().offset, WRAP + 94);
        t.heartbeat(2 * WRAP - 50);
        t.heartbeat(7);
        t.advance(&event(50, 0, 0)); // ends exactly at 8 GiB
        assert_eq!(t.pos().offset, 2 * WRAP);
        t.advance(&event(50, 50, 0));
        assert_eq!(t.pos().offset, 2 * WRAP + 50);
    }
}
