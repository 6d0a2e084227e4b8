//! From bytes to whole, checked events.
//!
//! In: one event, or a slice of events back to back. Out: [`RawEvent`], whose length and CRC are right and whose body
//! has not been looked at. "The end is missing" ([`FrameError::Truncated`]) and "this is damaged" (the others) are
//! different answers: the first is normal at the end of a file that is being written.
//!
//! Checksums (`Log_event_footer` of `libs/mysql/binlog/event/binlog_event.cpp`): a format description event always has
//! four bytes of CRC, whatever its algorithm byte says, and that CRC is computed as if the in-use flag were clear.

use crate::checksum::{ChecksumAlg, crc32};
use crate::header::{EventHeader, EventType, HEADER_LEN, flags};

/// The first four bytes of a binlog file (`BINLOG_MAGIC`).
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The event is not complete; the bytes there are, are a beginning.
    #[error("the event is cut off: {need} bytes needed, {have} there")]
    Truncated {
        /// Bytes the event (or its header) has.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// The size field contradicts the event.
    #[error(
        "event {event_type} with end_log_pos {log_pos} claims an impossible size of {event_size} bytes"
    )]
    BadLength {
        /// Type in the header.
        event_type: EventType,
        /// `log_pos` in the header.
        log_pos: u32,
        /// Size in the header.
        event_size: u32,
    },
    /// The event is larger than the reader accepts.
    #[error(
        "event {event_type} with end_log_pos {log_pos} has {event_size} bytes, at most {max} are accepted"
    )]
    TooLarge {
        /// Type in the header.
        event_type: EventType,
        /// `log_pos` in the header.
        log_pos: u32,
        /// Size in the header.
        event_size: u32,
        /// The reader's limit.
        max: usize,
    },
    /// The CRC differs: the event was damaged in a file or on its way.
    #[error(
        "checksum mismatch in event {event_type} with end_log_pos {log_pos}: stored {stored:08x}, computed {computed:08x}"
    )]
    BadChecksum {
        /// Type in the header (which may be what is damaged).
        event_type: EventType,
        /// `log_pos` in the header.
        log_pos: u32,
        /// The CRC behind the event.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// A format description event names a checksum algorithm MySQL does not define.
    #[error("unknown checksum algorithm {0} in a format description event")]
    UnknownChecksum(u8),
}

/// One whole event: a view of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// The header.
    pub header: EventHeader,
    /// Header, body and checksum.
    pub bytes: &'a [u8],
    /// What is between header and checksum.
    pub body: &'a [u8],
}

impl<'a> RawEvent<'a> {
    /// Takes exactly one event, verifying its length and CRC.
    ///
    /// # Errors
    /// See [`FrameError`].
    // Always inlined: each copy of the event on its way into and out of a `Result` costs more than reading it.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], alg: ChecksumAlg) -> Result<Self, FrameError> {
        let event = Self::parse_unverified(bytes, alg)?;
        event.verify(alg)?;
        Ok(event)
    }

    /// Takes exactly one event without computing its CRC; its length is verified.
    ///
    /// # Errors
    /// See [`FrameError`]; never [`FrameError::BadChecksum`].
    #[inline(always)]
    pub fn parse_unverified(bytes: &'a [u8], alg: ChecksumAlg) -> Result<Self, FrameError> {
        let header = EventHeader::parse(bytes)?;
        let size = header.event_size as usize;
        let footer = footer_len(header.event_type, alg);
        if size > bytes.len() && size >= HEADER_LEN + footer {
            return Err(FrameError::Truncated {
                need: size,
                have: bytes.len(),
            });
        }
        let body_end = size.checked_sub(footer).filter(|_| size == bytes.len());
        let body = body_end.and_then(|end| bytes.get(HEADER_LEN..end));
        let Some(body) = body else {
            return Err(bad_length(&header));
        };
        Ok(Self {
            header,
            bytes,
            body,
        })
    }

    /// Compares the CRC, if `alg` has one. A format description event is judged by its own algorithm byte.
    ///
    /// # Errors
    /// [`FrameError::BadChecksum`], or [`FrameError::UnknownChecksum`] for a format description event.
    #[inline(always)]
    pub fn verify(&self, alg: ChecksumAlg) -> Result<(), FrameError> {
        let plain = self.header.event_type != EventType::FORMAT_DESCRIPTION;
        match self.bytes.split_last_chunk::<4>() {
            _ if plain && alg.is_empty() => Ok(()),
            Some((content, stored)) if plain && u32::from_le_bytes(*stored) == crc32(content) => {
                Ok(())
            }
            _ => self.verify_slowly(alg),
        }
    }

    /// Judges a format description event, and tells what is wrong with others.
    #[cold]
    fn verify_slowly(&self, alg: ChecksumAlg) -> Result<(), FrameError> {
        let is_fde = self.header.event_type == EventType::FORMAT_DESCRIPTION;
        let alg = if is_fde { self.fde_alg()? } else { alg };
        if alg.is_empty() {
            return Ok(());
        }
        let Some((content, stored)) = self.bytes.split_last_chunk::<4>() else {
            return Err(bad_length(&self.header));
        };
        let stored = u32::from_le_bytes(*stored);
        let computed = if is_fde {
            crc_of_fde(content)
        } else {
            crc32(content)
        };
        if stored == computed {
            return Ok(());
        }
        let EventHeader {
            event_type,
            log_pos,
            ..
        } = self.header;
        Err(FrameError::BadChecksum {
            event_type,
            log_pos,
            stored,
            computed,
        })
    }

    /// The checksum algorithm of what follows this event: that of a format description event, else `current`.
    ///
    /// # Errors
    /// [`FrameError::UnknownChecksum`].
    #[inline(always)]
    pub fn next_alg(&self, current: ChecksumAlg) -> Result<ChecksumAlg, FrameError> {
        if self.header.event_type == EventType::FORMAT_DESCRIPTION {
            self.fde_alg()
        } else {
            Ok(current)
        }
    }

    fn fde_alg(&self) -> Result<ChecksumAlg, FrameError> {
        let byte = self
            .body
            .last()
            .copied()
            .ok_or_else(|| bad_length(&self.header))?;
        ChecksumAlg::from_fde_byte(byte).ok_or(FrameError::UnknownChecksum(byte))
    }
}

/// Bytes behind the body.
#[inline]
pub(crate) fn footer_len(event_type: EventType, alg: ChecksumAlg) -> usize {
    if event_type == EventType::FORMAT_DESCRIPTION {
        ChecksumAlg::Crc32.len()
    } else {
        alg.len()
    }
}

#[cold]
fn bad_length(header: &EventHeader) -> FrameError {
    let EventHeader {
        event_type,
        log_pos,
        event_size,
        ..
    } = *header;
    FrameError::BadLength {
        event_type,
        log_pos,
        event_size,
    }
}

/// The CRC of header and body of a format description event, as if its in-use flag were clear.
pub(crate) fn crc_of_fde(content: &[u8]) -> u32 {
    let Some((header, body)) = content.split_first_chunk::<HEADER_LEN>() else {
        return crc32(content);
    };
    let mut header = *header;
    let [.., low, _high] = &mut header;
    *low &= !(flags::IN_USE as u8);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header);
    hasher.update(body);
    hasher.finalize()
}

/// The size of the event at the start of `bytes`, once it is known to be possible and all there.
///
/// `Truncated` if there are too few bytes.
#[inline(always)]
pub(crate) fn whole_event(bytes: &[u8], max: usize) -> Result<&[u8], FrameError> {
    let header = EventHeader::parse(bytes)?;
    let size = header.event_size as usize;
    if size < HEADER_LEN {
        return Err(bad_length(&header));
    }
    if size > max {
        let EventHeader {
            event_type,
            log_pos,
            event_size,
            ..
        } = header;
        return Err(FrameError::TooLarge {
            event_type,
            log_pos,
            event_size,
            max,
        });
    }
    bytes.get(..size).ok_or(FrameError::Truncated {
        need: size,
        have: bytes.len(),
    })
}

/// Walks a slice of events that lie back to back, such as a file behind its magic or a decompressed payload. Follows
/// the checksum algorithm of format description events.
#[derive(Clone, Debug)]
pub struct EventReader<'a> {
    bytes: &'a [u8],
    offset: usize,
    alg: ChecksumAlg,
}

impl<'a> EventReader<'a> {
    /// A reader at the start of `bytes`; `alg` holds until the first format description event.
    #[must_use]
    pub fn new(bytes: &'a [u8], alg: ChecksumAlg) -> Self {
        Self {
            bytes,
            offset: 0,
            alg,
        }
    }

    /// The next event; `None` at the end. After an error the reader stays where it is.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when the slice ends inside an event (a torn tail, if this is an active file);
    /// anything else is damage.
    #[inline(always)]
    #[expect(
        clippy::should_implement_trait,
        reason = "it fails, and so is no Iterator"
    )]
    pub fn next(&mut self) -> Result<Option<RawEvent<'a>>, FrameError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let event = RawEvent::parse(whole_event(rest, usize::MAX)?, self.alg)?;
        self.alg = event.next_alg(self.alg)?;
        self.offset += event.bytes.len();
        Ok(Some(event))
    }

    /// Where the next event begins, in bytes from the start of the slice.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The checksum algorithm of the next event.
    #[must_use]
    pub fn checksum(&self) -> ChecksumAlg {
        self.alg
    }
}
