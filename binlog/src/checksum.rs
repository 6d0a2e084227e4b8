//! The checksum behind each event.
//!
//! In: bytes of an event. Out: its CRC-32 (the zlib polynomial; `checksum_crc32` of
//! `libs/mysql/binlog/event/binlog_event.h`). Which algorithm a file or stream uses is told by the last byte of the
//! body of its format description event.

/// The checksum algorithm of a binlog file or dump stream (`enum_binlog_checksum_alg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ChecksumAlg {
    /// Events end with their body (`binlog_checksum=NONE`).
    None,
    /// Four bytes of CRC-32, little-endian, follow each body (`binlog_checksum=CRC32`, MySQL's default).
    #[default]
    Crc32,
}

impl ChecksumAlg {
    /// Bytes that follow the body of each event: 0 or 4. (A format description event always has 4.)
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => 4,
        }
    }

    /// Whether events carry no checksum.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None)
    }

    /// From the algorithm byte at the end of a format description event's body; `None` for a byte MySQL does not
    /// define.
    #[must_use]
    pub const fn from_fde_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Crc32),
            _ => None,
        }
    }

    /// The algorithm byte of a format description event.
    #[must_use]
    pub const fn to_fde_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Crc32 => 1,
        }
    }
}

/// The CRC-32 of some bytes.
#[inline]
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fde_byte_round_trips_and_rejects_the_rest() {
        for byte in 0..=255_u8 {
            let alg = ChecksumAlg::from_fde_byte(byte);
            assert_eq!(
                alg.map(ChecksumAlg::to_fde_byte),
                (byte < 2).then_some(byte)
            );
        }
    }

    #[test]
    fn crc_is_zlibs() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
