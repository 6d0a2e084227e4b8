//! Events made up for the stream: rotates before each file, heartbeats.
//!
//! In: names and positions. Out: whole events, as MySQL's dump thread makes them: timestamp 0, the source's server id.

use tributary_binlog::{ChecksumAlg, EventHeader, EventType, HEADER_LEN, Heartbeat, Rotate, flags};

use crate::wire::packet::PacketWriter;
use crate::wire::semisync::MAGIC;

/// Who sends, and with which checksums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker {
    pub(super) server_id: u32,
    pub(super) semi_sync: bool,
    pub(super) alg: ChecksumAlg,
}

/// What stands before an event in its packet: the mark of an event, and with semi-synchronous replication whether the client
/// must acknowledge it.
#[inline]
pub(super) fn lead(semi_sync: bool, acknowledge: bool) -> &'static [u8] {
    match (semi_sync, acknowledge) {
        (false, _) => &[0],
        (true, false) => &[0, MAGIC, 0],
        (true, true) => &[0, MAGIC, 1],
    }
}

impl Maker {
    /// An artificial rotate: `log_pos` 0, flag ARTIFICIAL.
    pub(super) fn rotate(self, file: &str, position: u64, out: &mut PacketWriter<'_>) {
        let rotate = Rotate {
            position,
            file: file.as_bytes(),
        };
        self.event(EventType::ROTATE, 0, flags::ARTIFICIAL, out, |o| {
            rotate.put_body(o);
        });
    }

    /// A heartbeat that says how far this server has sent.
    pub(super) fn heartbeat(self, file: &str, position: u64, v2: bool, out: &mut PacketWriter<'_>) {
        let heartbeat = Heartbeat {
            file: file.as_bytes(),
            position,
            v2,
        };
        let ty = heartbeat.event_type();
        // A position past 4 GiB does not fit here; MySQL truncates, too.
        self.event(ty, position as u32, 0, out, |o| heartbeat.put_body(o));
    }

    fn event(
        self,
        event_type: EventType,
        log_pos: u32,
        flags: u16,
        out: &mut PacketWriter<'_>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut event = vec![0; HEADER_LEN];
        body(&mut event);
        let event_size = (event.len() + self.alg.len()) as u32;
        let header = EventHeader {
            timestamp: 0,
            event_type,
            server_id: self.server_id,
            event_size,
            log_pos,
            flags,
        };
        if let Some(head) = event.first_chunk_mut() {
            header.write(head);
        }
        if self.alg == ChecksumAlg::Crc32 {
            let crc = crc32fast::hash(&event);
            event.extend_from_slice(&crc.to_le_bytes());
        }
        out.packet(|o| {
            o.extend_from_slice(lead(self.semi_sync, false));
            o.extend_from_slice(&event);
        });
    }
}
