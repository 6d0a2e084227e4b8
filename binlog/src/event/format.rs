//! The format description event: first in each file, says how to read the rest.
//!
//! Layout of `Format_description_event` (`libs/mysql/binlog/event/control_events.{h,cpp}`):
//!
//! ```text
//! 2  binlog version (4)      50  server version, NUL-padded     4  created (seconds; 0 unless the server started here)
//! 1  header length (19)      n   post-header length of each event type from 1 on      1  checksum algorithm
//! ```
//! Four bytes of CRC always follow, even when the algorithm is "none".

use super::{EventError, bad};
use crate::checksum::ChecksumAlg;
use crate::cursor::Cursor;
use crate::header::HEADER_LEN;

/// Bytes of the server version (`ST_SERVER_VER_LEN`).
const VERSION_LEN: usize = 50;

/// Post-header lengths of event types 1 to 42, as MySQL 9.7 writes them. (Rows events of layout v1 have none any more.)
const POST_HEADER_LENS: [u8; 42] = [
    0, 13, 0, 8, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 99, 0, 4, 26, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 10,
    10, 10, 42, 42, 0, 18, 52, 0, 10, 40, 0, 0,
];

/// A format description event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatDescription {
    /// Always 4.
    pub binlog_version: u16,
    /// Version of the server that wrote the file; at most 50 bytes are written.
    pub server_version: String,
    /// When the server started, in seconds, if this file was its first; else 0.
    pub created: u32,
    /// Always 19.
    pub header_len: u8,
    /// For each event type from 1 on, how many bytes of its body are fixed.
    pub post_header_lens: Vec<u8>,
    /// How the following events are checksummed.
    pub checksum: ChecksumAlg,
}

impl FormatDescription {
    /// The event a server of `version` (8.4 or 9.x) writes, with CRC32 checksums, knowing 42 event types.
    #[must_use]
    pub fn for_version(version: &str) -> Self {
        Self {
            binlog_version: 4,
            server_version: version.to_owned(),
            created: 0,
            header_len: HEADER_LEN as u8,
            post_header_lens: POST_HEADER_LENS.to_vec(),
            checksum: ChecksumAlg::Crc32,
        }
    }

    /// Reads a body, algorithm byte included.
    ///
    /// # Errors
    /// When it is not version 4 with 19-byte headers, or written by a server before 5.6, which had no algorithm byte.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        let bad = bad("Format_desc");
        let short = || bad("it is too short");
        let mut c = Cursor::new(body);
        let binlog_version = c.u16().ok_or_else(short)?;
        let version = c.take(VERSION_LEN).ok_or_else(short)?;
        let version = version.split(|b| *b == 0).next().unwrap_or_default();
        let server_version = std::str::from_utf8(version)
            .map_err(|_| bad("the server version is not UTF-8"))?
            .to_owned();
        let created = c.u32().ok_or_else(short)?;
        let header_len = c.u8().ok_or_else(short)?;
        let (alg, lens) = c.take_rest().split_last().ok_or_else(short)?;
        if binlog_version != 4 || usize::from(header_len) != HEADER_LEN {
            return Err(bad(
                "only binlog version 4 with 19-byte headers is supported",
            ));
        }
        Ok(Self {
            binlog_version,
            server_version,
            created,
            header_len,
            post_header_lens: lens.to_vec(),
            checksum: ChecksumAlg::from_fde_byte(*alg)
                .ok_or_else(|| bad("unknown checksum algorithm"))?,
        })
    }

    /// Appends the body, algorithm byte included.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.binlog_version.to_le_bytes());
        let mut version = [0; VERSION_LEN];
        for (slot, b) in version.iter_mut().zip(self.server_version.bytes()) {
            *slot = b;
        }
        out.extend_from_slice(&version);
        out.extend_from_slice(&self.created.to_le_bytes());
        out.push(self.header_len);
        out.extend_from_slice(&self.post_header_lens);
        out.push(self.checksum.to_fde_byte());
    }
}
