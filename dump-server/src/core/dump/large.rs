//! Events larger than a read block: checked in one pass, sent in a second, so that no memory grows with them.
//!
//! In: the event's bytes, twice, in pieces of any size. Out: after the first pass whether the checksum is right; in the
//! second the packets, split at 16 MiB - 1.

use tributary_binlog::ChecksumAlg;
use tributary_flow::limits::PACKET_PAYLOAD_MAX;

/// An event on its way.
#[derive(Debug)]
pub(crate) struct LargeEvent {
    /// Where it starts in its file.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    hasher: crc32fast::Hasher,
    checked: u64,
    stored: Vec<u8>,
    alg: ChecksumAlg,
    payload_left: u64,
    packet_left: usize,
    lead: &'static [u8],
    lead_sent: bool,
}

impl LargeEvent {
    /// `lead` stands before the event in its packet.
    pub(super) fn new(offset: u64, size: u32, alg: ChecksumAlg, lead: &'static [u8]) -> Self {
        Self {
            offset,
            size: size.into(),
            hasher: crc32fast::Hasher::new(),
            checked: 0,
            stored: Vec::new(),
            alg,
            payload_left: u64::from(size) + lead.len() as u64,
            packet_left: 0,
            lead,
            lead_sent: false,
        }
    }

    /// First pass: the next piece of the event.
    pub(crate) fn check(&mut self, piece: &[u8]) {
        let content_end = self.size - self.alg.len() as u64;
        let content = content_end
            .saturating_sub(self.checked)
            .min(piece.len() as u64) as usize;
        let (content, footer) = piece.split_at(content);
        self.hasher.update(content);
        self.stored.extend_from_slice(footer);
        self.checked += piece.len() as u64;
    }

    /// After the first pass: whether every byte was there and the checksum is right.
    pub(crate) fn is_sound(&self) -> bool {
        let right = match self.alg {
            ChecksumAlg::None => true,
            ChecksumAlg::Crc32 => self.stored == self.hasher.clone().finalize().to_le_bytes(),
        };
        right && self.checked == self.size
    }

    /// Second pass: frames the next piece of the event; `seq` counts the packets.
    pub(crate) fn put(&mut self, piece: &[u8], seq: &mut u8, out: &mut Vec<u8>) {
        debug_assert!(
            self.is_sound(),
            "an event is sent only after it was checked"
        );
        if !self.lead_sent {
            self.lead_sent = true;
            self.put_bytes(self.lead, seq, out);
        }
        self.put_bytes(piece, seq, out);
    }

    fn put_bytes(&mut self, mut bytes: &[u8], seq: &mut u8, out: &mut Vec<u8>) {
        loop {
            if self.packet_left == 0 {
                self.begin_packet(seq, out);
            }
            let now = bytes.len().min(self.packet_left);
            let (head, rest) = bytes.split_at(now);
            out.extend_from_slice(head);
            self.packet_left -= now;
            self.payload_left -= now as u64;
            bytes = rest;
            let full = self.packet_left == 0;
            if full && self.payload_left == 0 && self.last_was_full() {
                // A message of exactly n × (16 MiB - 1) is closed by an empty packet.
                self.begin_packet(seq, out);
                return;
            }
            if bytes.is_empty() {
                return;
            }
        }
    }

    fn last_was_full(&self) -> bool {
        (self.size + self.lead.len() as u64).is_multiple_of(PACKET_PAYLOAD_MAX as u64)
    }

    fn begin_packet(&mut self, seq: &mut u8, out: &mut Vec<u8>) {
        self.packet_left = self.payload_left.min(PACKET_PAYLOAD_MAX as u64) as usize;
        let [a, b, c, _] = (self.packet_left as u32).to_le_bytes();
        out.extend_from_slice(&[a, b, c, *seq]);
        *seq = seq.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::PacketDecoder;

    fn event(size: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..size - 4).map(|i| (i * 7) as u8).collect();
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn any_size_is_checked_and_framed_like_a_small_message() {
        let full = PACKET_PAYLOAD_MAX;
        for size in [
            300_000,
            full - 2,
            full - 1,
            full,
            full + 1,
            2 * full - 1,
            2 * full + 3,
        ] {
            let bytes = event(size);
            let mut large = LargeEvent::new(4, size as u32, ChecksumAlg::Crc32, &[0]);
            bytes.chunks(99_991).for_each(|piece| large.check(piece));
            assert!(large.is_sound(), "{size}");
            let (mut out, mut seq) = (Vec::new(), 250u8);
            for piece in bytes.chunks(1 << 20) {
                large.put(piece, &mut seq, &mut out);
            }
            let mut decoder = PacketDecoder::default();
            decoder.feed(&out);
            let packet = decoder.poll(usize::MAX).unwrap().unwrap();
            assert!(
                packet.payload.first() == Some(&0) && packet.payload[1..] == bytes,
                "{size}"
            );
            assert_eq!(packet.seq.wrapping_add(1), seq);
            assert!(!decoder.has_pending());
        }
    }

    #[test]
    fn one_wrong_byte_is_found_before_anything_is_sent() {
        let mut bytes = event(400_000);
        bytes[200_000] ^= 1;
        let mut large = LargeEvent::new(4, 400_000, ChecksumAlg::Crc32, &[0]);
        bytes.chunks(65_536).for_each(|piece| large.check(piece));
        assert!(!large.is_sound());
        let short = LargeEvent::new(4, 400_000, ChecksumAlg::None, &[0]);
        assert!(!short.is_sound(), "missing bytes are no sound event either");
    }
}
