//! Packet framing: a payload travels in packets of at most 16 MiB - 1, each with a 3-byte length and a sequence number.
//!
//! In: bytes as the socket gives them. Out: whole payloads ([`PacketDecoder`]), or framed bytes ([`PacketWriter`]).
//! The decoder holds at most the cap it was given; a longer message is [`PacketError::TooLarge`].

use tributary_flow::limits::PACKET_PAYLOAD_MAX;

/// Length of a packet header.
pub(crate) const PACKET_HEADER_LEN: usize = 4;

/// A whole message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Sequence number of its last packet.
    pub seq: u8,
    /// The payload, joined when it came in several packets.
    pub payload: Vec<u8>,
}

/// Bytes that are no message this connection can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketError {
    /// Longer than the cap for this phase.
    #[error("the client announced a message of more than {cap} bytes")]
    TooLarge {
        /// The cap, in bytes.
        cap: usize,
    },
    /// Continuation packets must count on.
    #[error("packet {got} came where {expected} was due")]
    OutOfOrder {
        /// The sequence number that was due.
        expected: u8,
        /// The one that came.
        got: u8,
    },
}

/// Collects bytes and yields whole messages.
#[derive(Debug, Default)]
pub(crate) struct PacketDecoder {
    buffer: Vec<u8>,
    joined: Vec<u8>,
    expected: Option<u8>,
}

impl PacketDecoder {
    /// Takes bytes from the socket.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// True when bytes wait that were not yielded as a message: nothing may be pending when a connection turns to TLS.
    pub(crate) fn has_pending(&self) -> bool {
        !self.buffer.is_empty() || self.expected.is_some()
    }

    /// Bytes that are missing to the end of the packet at hand; at least 1. Who reads no more than these never holds bytes
    /// of what follows a message, such as the TLS handshake behind an SSLRequest.
    pub(crate) fn missing(&self) -> usize {
        let whole = match self.buffer.first_chunk() {
            Some(&[a, b, c, _]) => PACKET_HEADER_LEN + u32::from_le_bytes([a, b, c, 0]) as usize,
            None => PACKET_HEADER_LEN,
        };
        whole.saturating_sub(self.buffer.len()).max(1)
    }

    /// The next whole message of at most `cap` bytes, if it is here.
    ///
    /// # Errors
    /// When the message is longer than `cap`, or its packets are out of order. The connection is then of no use.
    pub(crate) fn poll(&mut self, cap: usize) -> Result<Option<Packet>, PacketError> {
        loop {
            let Some((&[a, b, c, seq], rest)) = self.buffer.split_first_chunk() else {
                return Ok(None);
            };
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            if self.joined.len() + len > cap {
                return Err(PacketError::TooLarge { cap });
            }
            if let Some(expected) = self.expected
                && expected != seq
            {
                return Err(PacketError::OutOfOrder { expected, got: seq });
            }
            let Some(payload) = rest.get(..len) else {
                return Ok(None);
            };
            self.joined.extend_from_slice(payload);
            self.buffer.drain(..PACKET_HEADER_LEN + len);
            if len < PACKET_PAYLOAD_MAX {
                self.expected = None;
                let payload = std::mem::take(&mut self.joined);
                return Ok(Some(Packet { seq, payload }));
            }
            self.expected = Some(seq.wrapping_add(1));
        }
    }
}

/// Frames payloads into an output buffer, counting sequence numbers.
#[derive(Debug)]
pub(crate) struct PacketWriter<'a> {
    out: &'a mut Vec<u8>,
    seq: u8,
}

impl<'a> PacketWriter<'a> {
    /// Writes behind what `out` holds; the first packet gets `seq`.
    pub(crate) fn new(out: &'a mut Vec<u8>, seq: u8) -> Self {
        Self { out, seq }
    }

    /// The sequence number of the next packet.
    pub(crate) fn seq(&self) -> u8 {
        self.seq
    }

    /// Frames whatever `fill` appends as one message.
    pub(crate) fn packet(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; PACKET_HEADER_LEN]);
        fill(self.out);
        let mut at = start;
        loop {
            let len = self.out.len() - at - PACKET_HEADER_LEN;
            let piece = len.min(PACKET_PAYLOAD_MAX);
            let [a, b, c, _] = (piece as u32).to_le_bytes();
            self.out[at..at + PACKET_HEADER_LEN].copy_from_slice(&[a, b, c, self.seq]);
            self.seq = self.seq.wrapping_add(1);
            if piece < PACKET_PAYLOAD_MAX {
                return;
            }
            // A message of exactly 16 MiB - 1 is closed by an empty packet.
            at += PACKET_HEADER_LEN + piece;
            self.out.splice(at..at, [0; PACKET_HEADER_LEN]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(payload: &[u8], seq: u8) -> Vec<u8> {
        let mut out = Vec::new();
        PacketWriter::new(&mut out, seq).packet(|o| o.extend_from_slice(payload));
        out
    }

    #[test]
    fn messages_of_16_mib_are_split_and_joined() {
        for len in [
            PACKET_PAYLOAD_MAX - 1,
            PACKET_PAYLOAD_MAX,
            PACKET_PAYLOAD_MAX * 2 + 5,
        ] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let bytes = frame(&payload, 255);
            assert_eq!(bytes.len(), len + 4 * (len / PACKET_PAYLOAD_MAX + 1));
            let mut decoder = PacketDecoder::default();
            decoder.feed(&bytes);
            let packet = decoder.poll(usize::MAX).unwrap().unwrap();
            assert!(packet.payload == payload, "{len}");
            assert_eq!(
                packet.seq,
                255u8.wrapping_add((len / PACKET_PAYLOAD_MAX) as u8)
            );
            assert!(!decoder.has_pending());
        }
    }

    #[test]
    fn reading_what_is_missing_stops_at_the_end_of_a_message() {
        let bytes = [frame(b"hello", 1), b"TLS".to_vec()].concat();
        let mut decoder = PacketDecoder::default();
        let mut at = 0;
        let packet = loop {
            if let Some(packet) = decoder.poll(100).unwrap() {
                break packet;
            }
            let n = decoder.missing();
            decoder.feed(&bytes[at..at + n]);
            at += n;
        };
        assert_eq!((packet.payload.as_slice(), at), (&b"hello"[..], 9));
        assert!(!decoder.has_pending());
    }

    #[test]
    fn a_message_over_the_cap_is_refused_before_it_is_buffered() {
        let mut decoder = PacketDecoder::default();
        decoder.feed(&[0xff, 0xff, 0xff, 0]);
        assert_eq!(decoder.poll(1000), Err(PacketError::TooLarge { cap: 1000 }));
    }

    #[test]
    fn continuations_must_count_on() {
        let mut bytes = frame(&vec![0; PACKET_PAYLOAD_MAX], 3);
        let last = bytes.len() - 1;
        bytes[last] = 9;
        let mut decoder = PacketDecoder::default();
        decoder.feed(&bytes);
        assert_eq!(
            decoder.poll(usize::MAX),
            Err(PacketError::OutOfOrder {
                expected: 4,
                got: 9
            })
        );
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_messages(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6),
            cut in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            for (i, p) in payloads.iter().enumerate() {
                bytes.extend(frame(p, i as u8));
            }
            let mut decoder = PacketDecoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.feed(piece);
                while let Some(p) = decoder.poll(1000).unwrap() {
                    got.push(p.payload);
                }
            }
            prop_assert_eq!(got, payloads);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = PacketDecoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.poll(1 << 16) {}
        }
    }
}
