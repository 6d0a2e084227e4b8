//! Packets: 3 bytes of length, 1 byte of sequence number, payload; a payload of 2²⁴−1 bytes is continued by the next.
//!
//! In: blocks of bytes as the socket gives them. Out: payloads, in place where they are whole. Only messages of 16 MiB
//! and more are copied together. The other way round, payloads become packets.

use std::ops::Range;

use tributary_flow::limits;

use super::WireError;

/// Bytes asked of the socket at a time.
pub(crate) const READ_BLOCK: usize = limits::CHUNK_BYTES;

/// Greatest message: a binlog event and the status byte before it.
pub(crate) const MESSAGE_MAX: usize = limits::EVENT_BYTES_MAX + 1;

const HEADER: usize = 4;

/// Buffer between socket and parser: filled at its end, emptied at its front.
#[derive(Debug, Default)]
pub(crate) struct PacketBuffer {
    buf: Vec<u8>,
    /// Everything in `buf` before it has been handed out.
    start: usize,
    /// Bytes of the packet that is not whole yet, header included; 0 when not known.
    need: usize,
    next_seq: u8,
    joined: Vec<u8>,
    joining: bool,
    current: Current,
}

/// Where the message is that was found last.
#[derive(Debug, Default)]
enum Current {
    #[default]
    None,
    InPlace(Range<usize>),
    Joined,
}

impl PacketBuffer {
    /// The number the next packet must carry: 0 after a new connection, 1 after a command.
    pub(crate) fn expect_seq(&mut self, seq: u8) {
        self.next_seq = seq;
    }

    /// The number of the next packet.
    pub(crate) fn next_seq(&self) -> u8 {
        self.next_seq
    }

    /// Bytes received and not handed out.
    pub(crate) fn buffered(&self) -> usize {
        self.buf.len() - self.start
    }

    /// The buffer to append received bytes to, with room for a block. Room grows with what has really arrived, never
    /// with what a length field promises.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        if matches!(self.current, Current::InPlace(_)) {
            self.current = Current::None;
        }
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.start = 0;
        }
        if self.buf.is_empty() && self.buf.capacity() > 4 * READ_BLOCK {
            self.buf = Vec::new();
        }
        let missing = self.need.saturating_sub(self.buf.len());
        let wanted = missing.min(self.buf.len().max(READ_BLOCK));
        if self.buf.capacity() == 0 {
            self.buf.reserve_exact(READ_BLOCK);
        } else if self.buf.capacity() - self.buf.len() < wanted.max(HEADER) {
            self.buf.reserve_exact(wanted.max(READ_BLOCK));
        }
        &mut self.buf
    }

    /// Goes on to the next whole message, which [`Self::current`] then gives; `false` when more bytes are needed.
    ///
    /// # Errors
    /// A skipped sequence number, or a message longer than [`MESSAGE_MAX`].
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<bool, WireError> {
        if self.next_is_whole() {
            return Ok(true);
        }
        self.advance_slowly()
    }

    /// The usual case: nothing is being joined, the next message is one packet and all there.
    #[inline]
    fn next_is_whole(&mut self) -> bool {
        if self.joining || matches!(self.current, Current::Joined) {
            return false;
        }
        let rest = self.buf.get(self.start..).unwrap_or_default();
        let Some((&[a, b, c, seq], behind)) = rest.split_first_chunk::<HEADER>() else {
            return false;
        };
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        if len > behind.len() || len == limits::PACKET_PAYLOAD_MAX || seq != self.next_seq {
            return false;
        }
        self.next_seq = seq.wrapping_add(1);
        let start = self.start + HEADER;
        self.start = start + len;
        self.need = 0;
        self.current = Current::InPlace(start..self.start);
        true
    }

    fn advance_slowly(&mut self) -> Result<bool, WireError> {
        if matches!(self.current, Current::Joined) {
            self.joined = Vec::new();
        }
        self.current = Current::None;
        loop {
            let rest = self.buf.get(self.start..).unwrap_or_default();
            let Some(&[a, b, c, seq]) = rest.first_chunk::<HEADER>() else {
                self.need = HEADER;
                return Ok(false);
            };
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            if rest.len() < HEADER + len {
                self.need = HEADER + len;
                return Ok(false);
            }
            if seq != self.next_seq {
                return Err(WireError::Sequence {
                    expected: self.next_seq,
                    found: seq,
                });
            }
            self.next_seq = seq.wrapping_add(1);
            let payload = self.start + HEADER..self.start + HEADER + len;
            self.start = payload.end;
            self.need = 0;
            let continued = len == limits::PACKET_PAYLOAD_MAX;
            if !continued && !self.joining {
                self.current = Current::InPlace(payload);
                return Ok(true);
            }
            if self.joined.len() + len > MESSAGE_MAX {
                return Err(WireError::TooLong { cap: MESSAGE_MAX });
            }
            self.joined
                .extend_from_slice(self.buf.get(payload).unwrap_or_default());
            self.joining = continued;
            if !continued {
                self.current = Current::Joined;
                return Ok(true);
            }
        }
    }

    /// The message found last; empty if there is none. Valid until [`Self::advance`] or [`Self::room`].
    #[inline]
    pub(crate) fn current(&self) -> &[u8] {
        match &self.current {
            Current::None => &[],
            Current::InPlace(range) => self.buf.get(range.clone()).unwrap_or_default(),
            Current::Joined => &self.joined,
        }
    }
}

/// Appends `payload` to `out` as one or more packets, the first numbered `seq`; returns the next number.
pub(crate) fn put_packet(out: &mut Vec<u8>, mut seq: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let (part, behind) = rest.split_at(rest.len().min(limits::PACKET_PAYLOAD_MAX));
        let [a, b, c, _] = (part.len() as u32).to_le_bytes();
        out.extend_from_slice(&[a, b, c, seq]);
        out.extend_from_slice(part);
        seq = seq.wrapping_add(1);
        rest = behind;
        if part.len() < limits::PACKET_PAYLOAD_MAX {
            return seq;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(buffer: &mut PacketBuffer, bytes: &[u8], got: &mut Vec<Vec<u8>>) {
        buffer.room().extend_from_slice(bytes);
        while buffer.advance().unwrap() {
            got.push(buffer.current().to_vec());
        }
    }

    #[test]
    fn messages_of_16_mib_are_joined_and_their_memory_is_returned() {
        let max = limits::PACKET_PAYLOAD_MAX;
        for len in [max - 1, max, max + 1, 2 * max, 2 * max + 7] {
            let message: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut bytes = Vec::new();
            let seq = put_packet(&mut bytes, 255, &message);
            put_packet(&mut bytes, seq, b"next");
            let mut buffer = PacketBuffer::default();
            buffer.expect_seq(255);
            let mut got = Vec::new();
            for block in bytes.chunks(100_000) {
                feed(&mut buffer, block, &mut got);
            }
            assert_eq!(got.len(), 2);
            assert!(got[0] == message, "{len}");
            assert_eq!(got[1], b"next");
            assert!(!buffer.advance().unwrap());
            assert!(buffer.joined.capacity() == 0);
            assert!(buffer.room().capacity() <= 4 * READ_BLOCK);
        }
    }

    #[test]
    fn a_promised_length_reserves_little() {
        let mut buffer = PacketBuffer::default();
        buffer
            .room()
            .extend_from_slice(&[0xfe, 0xff, 0xff, 0, 1, 2, 3]);
        assert!(!buffer.advance().unwrap());
        assert!(buffer.room().capacity() <= 2 * READ_BLOCK + HEADER);
    }

    #[test]
    fn a_lost_packet_is_noticed() {
        let mut bytes = Vec::new();
        put_packet(&mut bytes, 0, b"a");
        put_packet(&mut bytes, 2, b"b");
        let mut buffer = PacketBuffer::default();
        buffer.room().extend_from_slice(&bytes);
        assert!(buffer.advance().unwrap());
        assert_eq!(buffer.current(), b"a");
        assert_eq!(
            buffer.advance(),
            Err(WireError::Sequence {
                expected: 1,
                found: 2
            })
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
            cuts in prop::collection::vec(1_usize..200, 1..20),
        ) {
            let mut bytes = Vec::new();
            let mut seq = 7;
            for message in &messages {
                seq = put_packet(&mut bytes, seq, message);
            }
            let mut buffer = PacketBuffer::default();
            buffer.expect_seq(7);
            let mut got = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (block, behind) = rest.split_at((*cut).min(rest.len()));
                feed(&mut buffer, block, &mut got);
                rest = behind;
            }
            prop_assert_eq!(got, messages);
            prop_assert_eq!(buffer.buffered(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20)) {
            let mut buffer = PacketBuffer::default();
            for block in blocks {
                buffer.room().extend_from_slice(&block);
                while let Ok(true) = buffer.advance() {}
            }
        }
    }
}
