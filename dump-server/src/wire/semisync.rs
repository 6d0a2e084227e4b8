//! Semi-synchronous replication: two bytes more in each packet of a dump, and the acknowledgements that come back.
//!
//! In: what a replica acknowledges, untrusted. Out: a file and a position. Formats: `plugin/semisync` of MySQL's source.

use super::cursor::Cursor;

/// First byte of the addition, and of an acknowledgement.
pub(crate) const MAGIC: u8 = 0xef;

/// Longest file name taken from an acknowledgement (FN_REFLEN).
const NAME_BYTES_MAX: usize = 512;

/// Longest acknowledgement.
pub(crate) const ACK_BYTES_MAX: usize = 1 + 8 + NAME_BYTES_MAX;

/// A replica has received everything before this place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    /// File.
    pub file: String,
    /// Position.
    pub position: u64,
}

impl Ack {
    /// Parses a packet; `None` for anything else a dumping client may send.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(payload);
        if c.u8().ok()? != MAGIC {
            return None;
        }
        let position = c.u64().ok()?;
        let name = c.c_str();
        let file = std::str::from_utf8(name).ok()?.to_owned();
        (!file.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(Self { file, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn acknowledgements_are_told_from_pings() {
        let ack = Ack::parse(b"\xef\x2f\x0a\0\0\0\0\0\0binlog.000002").unwrap();
        assert_eq!((ack.file.as_str(), ack.position), ("binlog.000002", 2607));
        for other in [
            &b"\x0e"[..],
            b"",
            b"\xef\x01",
            b"\xef\0\0\0\0\0\0\0\0",
            b"\x01",
        ] {
            assert_eq!(Ack::parse(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_one_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Ack::parse(&bytes);
        }
    }
}
