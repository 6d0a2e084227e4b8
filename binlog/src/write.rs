//! Events back to bytes.
//!
//! In: typed bodies or events of another file. Out: events appended to a buffer, with the header fields and the
//! checksum they must have at that place of the file.

use crate::checksum::{ChecksumAlg, crc32};
use crate::frame::{crc_of_fde, footer_len};
use crate::header::{EventHeader, EventType, HEADER_LEN, flags};

/// Why an event cannot be written. The buffer is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The size field has 32 bits.
    #[error("an event {event_type} of {size} bytes is larger than the binlog format allows")]
    TooLarge {
        /// Its type.
        event_type: EventType,
        /// Its size in bytes.
        size: usize,
    },
    /// A table id was given for a body that has no room for one.
    #[error("event {event_type} has a body of {body_len} bytes, too short for a table id")]
    NoTableId {
        /// Its type.
        event_type: EventType,
        /// Bytes of its body.
        body_len: usize,
    },
}

/// Appends events to a buffer whose first byte is at a known offset of a file.
#[derive(Debug)]
pub struct EventWriter<'a> {
    buf: &'a mut Vec<u8>,
    base: u64,
    server_id: u32,
    alg: ChecksumAlg,
}

impl<'a> EventWriter<'a> {
    /// A writer for events of `server_id`; the first byte of `buf` belongs at file offset `base`.
    pub fn new(buf: &'a mut Vec<u8>, base: u64, server_id: u32, alg: ChecksumAlg) -> Self {
        Self {
            buf,
            base,
            server_id,
            alg,
        }
    }

    /// The file offset of the next event.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.base.wrapping_add(self.buf.len() as u64)
    }

    /// Writes an event whose body `body` appends. The body of a format description event ends with its algorithm
    /// byte.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`].
    pub fn event(
        &mut self,
        ty: EventType,
        timestamp: u32,
        flags: u16,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), WriteError> {
        let at = self.buf.len();
        let end_base = self.offset();
        self.buf.extend_from_slice(&[0; HEADER_LEN]);
        body(self.buf);
        let size = self.buf.len() - at + footer_len(ty, self.alg);
        let header = EventHeader {
            timestamp,
            event_type: ty,
            server_id: 0,
            event_size: 0,
            log_pos: 0,
            flags,
        };
        let header = match self.place(&header, end_base, size) {
            Ok(header) => header,
            Err(e) => {
                self.buf.truncate(at);
                return Err(e);
            }
        };
        if let Some(slot) = self.buf.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            header.write(slot);
        }
        self.seal(at, &header);
        Ok(())
    }

    /// Copies an event from elsewhere: type and flags are kept, everything that depends on the place is made anew,
    /// the timestamp is given, and so is the table id of a Table_map or rows event.
    ///
    /// `body` is without checksum.
    ///
    /// # Errors
    /// See [`WriteError`].
    #[inline]
    pub fn copy(
        &mut self,
        header: &EventHeader,
        body: &[u8],
        timestamp: u32,
        table_id: Option<u64>,
    ) -> Result<(), WriteError> {
        let event_type = header.event_type;
        let at = self.buf.len();
        let size = HEADER_LEN + body.len() + footer_len(event_type, self.alg);
        let header = self.place(
            &EventHeader {
                timestamp,
                ..*header
            },
            self.offset(),
            size,
        )?;
        self.buf.reserve(size);
        match table_id {
            None => {
                header.put(self.buf);
                self.buf.extend_from_slice(body);
            }
            Some(id) => {
                let (_, tail) = body.split_first_chunk::<6>().ok_or(WriteError::NoTableId {
                    event_type,
                    body_len: body.len(),
                })?;
                header.put(self.buf);
                let [a, b, c, d, e, f, _, _] = id.to_le_bytes();
                self.buf.extend_from_slice(&[a, b, c, d, e, f]);
                self.buf.extend_from_slice(tail);
            }
        }
        self.seal(at, &header);
        Ok(())
    }

    /// The header for an event of `size` bytes at `offset`. `log_pos` is cut to 32 bits, as in MySQL's own files above 4 GiB.
    #[inline]
    fn place(
        &self,
        header: &EventHeader,
        offset: u64,
        size: usize,
    ) -> Result<EventHeader, WriteError> {
        let event_size = u32::try_from(size).map_err(|_| WriteError::TooLarge {
            event_type: header.event_type,
            size,
        })?;
        let log_pos = offset.wrapping_add(u64::from(event_size)) as u32;
        Ok(EventHeader {
            server_id: self.server_id,
            event_size,
            log_pos,
            ..*header
        })
    }

    /// Appends the checksum of the event that begins at `at`.
    #[inline]
    fn seal(&mut self, at: usize, header: &EventHeader) {
        let content = self.buf.get(at..).unwrap_or_default();
        let crc = if header.event_type == EventType::FORMAT_DESCRIPTION {
            // Present and right even if the following events have none (Format_description_log_event::write).
            crc_of_fde(content)
        } else if self.alg == ChecksumAlg::Crc32 {
            crc32(content)
        } else {
            return;
        };
        self.buf.extend_from_slice(&crc.to_le_bytes());
    }
}

/// Sets or clears the in-use flag of the format description event at the start of `event`. Its CRC stays right, being
/// defined with the flag clear. Answers whether there is room for a header.
pub fn set_in_use(event: &mut [u8], in_use: bool) -> bool {
    let Some([.., low, _high]) = event.first_chunk_mut::<HEADER_LEN>() else {
        return false;
    };
    let bit = flags::IN_USE as u8;
    *low = if in_use { *low | bit } else { *low & !bit };
    true
}
