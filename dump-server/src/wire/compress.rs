//! Protocol compression: packets inside compressed packets, zlib or zstd.
//!
//! In: framed packets, or compressed bytes from a client, untrusted. Out: compressed packets, or the framed packets inside.
//! A compressed packet has a header of seven bytes: its length, a sequence number of its own, and the length of what is
//! inside, 0 = sent as it is. It begins behind authentication.

use std::io::{Read as _, Write as _};

use flate2::Compression as Level;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use tributary_flow::limits::PACKET_PAYLOAD_MAX;

use super::flags::CapabilityFlags;
use super::packet::PacketDecoder;

/// Length of a compressed packet's header.
const HEADER_LEN: usize = 7;

/// Shorter contents are sent as they are (MIN_COMPRESS_LENGTH of MySQL).
const COMPRESS_BYTES_MIN: usize = 50;

/// Most bytes put into one compressed packet: keeps buffers small, and a reader busy while the next is made.
const PIECE_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(PIECE_BYTES_MAX <= PACKET_PAYLOAD_MAX);

/// The algorithms clients may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// zlib.
    pub zlib: bool,
    /// zstd, at the level the client asks for.
    pub zstd: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            zlib: true,
            zstd: true,
        }
    }
}

impl Compression {
    /// The names in `@@protocol_compression_algorithms`.
    pub(crate) fn names(self) -> String {
        let all = [
            (self.zlib, "zlib"),
            (self.zstd, "zstd"),
            (true, "uncompressed"),
        ];
        let on = all.into_iter().filter(|(on, _)| *on);
        on.map(|(_, name)| name).collect::<Vec<_>>().join(",")
    }
}

/// How a connection is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// zlib, at its default level.
    Zlib,
    /// zstd, at the level the client asked for.
    Zstd(i32),
}

impl Algorithm {
    /// What client and server agreed on. A client that takes both gets zlib, as from MySQL.
    pub(crate) fn negotiated(caps: CapabilityFlags, zstd_level: u8) -> Option<Self> {
        if caps.contains(CapabilityFlags::CLIENT_COMPRESS) {
            Some(Self::Zlib)
        } else if caps.contains(CapabilityFlags::CLIENT_ZSTD_COMPRESSION_ALGORITHM) {
            Some(Self::Zstd(i32::from(zstd_level).clamp(1, 22)))
        } else {
            None
        }
    }

    /// Name and level, as SHOW STATUS has them.
    pub(crate) fn shown(self) -> (&'static str, i32) {
        match self {
            Self::Zlib => ("zlib", 6),
            Self::Zstd(level) => ("zstd", level),
        }
    }

    /// `None` when the bytes cannot be compressed.
    fn compress(self, plain: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Zlib => {
                let room = Vec::with_capacity(plain.len() / 2);
                let mut encoder = ZlibEncoder::new(room, Level::default());
                encoder.write_all(plain).ok()?;
                encoder.finish().ok()
            }
            Self::Zstd(level) => zstd::bulk::compress(plain, level).ok(),
        }
    }

    /// `len` is at most 16 MiB: three bytes on the wire.
    fn decompress(self, packed: &[u8], len: usize) -> Option<Vec<u8>> {
        let plain = match self {
            Self::Zlib => {
                let mut plain = Vec::with_capacity(len);
                // One byte more than announced shows a client that lies.
                let limit = len as u64 + 1;
                let mut decoder = ZlibDecoder::new(packed).take(limit);
                decoder.read_to_end(&mut plain).ok()?;
                plain
            }
            Self::Zstd(_) => zstd::bulk::decompress(packed, len).ok()?,
        };
        (plain.len() == len).then_some(plain)
    }
}

/// Compresses what goes to the client.
#[derive(Debug)]
pub(crate) struct Compressor {
    algorithm: Algorithm,
    seq: u8,
}

impl Compressor {
    /// Starts at sequence number 0.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, seq: 0 }
    }

    /// The next packets answer one with this sequence number.
    pub(crate) fn answer_to(&mut self, seq: u8) {
        self.seq = seq.wrapping_add(1);
    }

    /// Appends `plain` (framed packets, cut anywhere) as compressed packets.
    pub(crate) fn put(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        for piece in plain.chunks(PIECE_BYTES_MAX) {
            let packed = (piece.len() >= COMPRESS_BYTES_MIN)
                .then(|| self.algorithm.compress(piece))
                .flatten()
                .filter(|packed| packed.len() < piece.len());
            let (body, len) = match &packed {
                Some(packed) => (packed.as_slice(), piece.len() as u32),
                None => (piece, 0),
            };
            let [a, b, c, _] = (body.len() as u32).to_le_bytes();
            let [x, y, z, _] = len.to_le_bytes();
            out.extend_from_slice(&[a, b, c, self.seq, x, y, z]);
            out.extend_from_slice(body);
            self.seq = self.seq.wrapping_add(1);
        }
    }
}

/// A compressed packet cannot be unpacked. The connection is then of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a compressed packet cannot be unpacked")]
pub(crate) struct BadCompression;

/// Unpacks what comes from the client.
#[derive(Debug)]
pub(crate) struct Decompressor {
    algorithm: Algorithm,
    buffer: Vec<u8>,
    seq: u8,
}

impl Decompressor {
    /// Holds nothing yet.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let buffer = Vec::new();
        Self {
            algorithm,
            buffer,
            seq: 0,
        }
    }

    /// Takes bytes from the socket.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The sequence number of the last compressed packet.
    pub(crate) fn seq(&self) -> u8 {
        self.seq
    }

    /// Hands the contents of one compressed packet to `packets`; false when none is here as a whole.
    ///
    /// # Errors
    /// When it cannot be unpacked, or unpacks to another length than it says.
    pub(crate) fn unpack(&mut self, packets: &mut PacketDecoder) -> Result<bool, BadCompression> {
        let Some((&[a, b, c, seq, x, y, z], rest)) = self.buffer.split_first_chunk::<HEADER_LEN>()
        else {
            return Ok(false);
        };
        let packed_len = u32::from_le_bytes([a, b, c, 0]) as usize;
        let plain_len = u32::from_le_bytes([x, y, z, 0]) as usize;
        let Some(packed) = rest.get(..packed_len) else {
            return Ok(false);
        };
        if plain_len == 0 {
            packets.feed(packed);
        } else {
            let plain = self.algorithm.decompress(packed, plain_len);
            packets.feed(&plain.ok_or(BadCompression)?);
        }
        self.seq = seq;
        self.buffer.drain(..HEADER_LEN + packed_len);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::PacketWriter;
    use proptest::prelude::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Zlib, Algorithm::Zstd(3)];

    fn unpack_all(d: &mut Decompressor, p: &mut PacketDecoder) -> Result<(), BadCompression> {
        while d.unpack(p)? {}
        Ok(())
    }

    #[test]
    fn zlib_comes_before_zstd_as_in_mysql() {
        let zlib = CapabilityFlags::CLIENT_COMPRESS;
        let zstd = CapabilityFlags::CLIENT_ZSTD_COMPRESSION_ALGORITHM;
        assert_eq!(Algorithm::negotiated(zlib | zstd, 3), Some(Algorithm::Zlib));
        assert_eq!(Algorithm::negotiated(zstd, 9), Some(Algorithm::Zstd(9)));
        assert_eq!(Algorithm::negotiated(zstd, 0), Some(Algorithm::Zstd(1)));
        assert_eq!(Algorithm::negotiated(CapabilityFlags::empty(), 3), None);
    }

    #[test]
    fn short_contents_are_sent_as_they_are() {
        let mut out = Vec::new();
        let mut c = Compressor::new(Algorithm::Zlib);
        c.answer_to(0);
        c.put(b"\x01\0\0\0\x0e", &mut out);
        assert_eq!(out, b"\x05\0\0\x01\0\0\0\x01\0\0\0\x0e");
        c.put(&[7; 500], &mut out);
        assert_eq!(out.get(15), Some(&2), "sequence numbers count on");
        assert!(out.len() < 80);
    }

    #[test]
    fn messages_over_16_mib_travel() {
        for algorithm in BOTH {
            let payload: Vec<u8> = (0..PACKET_PAYLOAD_MAX + 9)
                .map(|i| (i / 99) as u8)
                .collect();
            let mut framed = Vec::new();
            PacketWriter::new(&mut framed, 0).packet(|o| o.extend_from_slice(&payload));
            let mut out = Vec::new();
            Compressor::new(algorithm).put(&framed, &mut out);
            let (mut d, mut p) = (Decompressor::new(algorithm), PacketDecoder::default());
            d.feed(&out);
            unpack_all(&mut d, &mut p).unwrap();
            assert!(p.poll(usize::MAX).unwrap().unwrap().payload == payload);
        }
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        for algorithm in BOTH {
            let mut out = Vec::new();
            Compressor::new(algorithm).put(&[1; 4000], &mut out);
            for (at, xor) in [(4, 1), (5, 1), (9, 0xff)] {
                let mut bad = out.clone();
                bad[at] ^= xor;
                let mut d = Decompressor::new(algorithm);
                d.feed(&bad);
                let got = d.unpack(&mut PacketDecoder::default());
                assert_eq!(got, Err(BadCompression), "{algorithm:?} {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_however_they_are_cut(
            bytes in proptest::collection::vec(0u8..4, 0..3000),
            cut in 1usize..200,
            zstd in any::<bool>(),
        ) {
            let algorithm = if zstd { BOTH[1] } else { BOTH[0] };
            let mut framed = Vec::new();
            PacketWriter::new(&mut framed, 0).packet(|o| o.extend_from_slice(&bytes));
            let mut out = Vec::new();
            let mut c = Compressor::new(algorithm);
            framed.chunks(cut).for_each(|piece| c.put(piece, &mut out));
            let (mut d, mut p) = (Decompressor::new(algorithm), PacketDecoder::default());
            for piece in out.chunks(cut) {
                d.feed(piece);
                unpack_all(&mut d, &mut p).unwrap();
            }
            prop_assert_eq!(p.poll(usize::MAX).unwrap().unwrap().payload, bytes);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for algorithm in BOTH {
                let mut d = Decompressor::new(algorithm);
                d.feed(&bytes);
                let _ = unpack_all(&mut d, &mut PacketDecoder::default());
            }
        }
    }
}
