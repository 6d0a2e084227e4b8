//! Events from a stream that arrives in arbitrary pieces.
//!
//! In: pieces of a binlog file (behind its magic), of any size. Out: whole, checked events, one for each `poll`.

use crate::checksum::ChecksumAlg;
use crate::frame::{FrameError, RawEvent, whole_event};

/// Keep at most this much consumed input before moving the rest to the front.
const COMPACT_AT: usize = 64 * 1024;

/// Collects bytes and hands out events. Follows the checksum algorithm of format description events.
///
/// Poll until `None` after each feed: then no more than one event and one piece are buffered.
#[derive(Debug)]
pub struct FrameDecoder {
    buf: Vec<u8>,
    start: usize,
    alg: ChecksumAlg,
    max_event_size: usize,
}

impl FrameDecoder {
    /// A decoder that expects events with `alg` until a format description event says otherwise, and refuses events
    /// of more than `max_event_size` bytes as soon as it sees their header.
    #[must_use]
    pub fn new(alg: ChecksumAlg, max_event_size: usize) -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            alg,
            max_event_size,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.buf.len() {
            self.buf.clear();
            self.start = 0;
        } else if self.start >= COMPACT_AT {
            self.buf.drain(..self.start);
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next event, or `None` if more bytes are needed for it.
    ///
    /// # Errors
    /// The stream is damaged and the decoder stays at the bad event; never [`FrameError::Truncated`].
    pub fn poll(&mut self) -> Result<Option<RawEvent<'_>>, FrameError> {
        let rest = self.buf.get(self.start..).unwrap_or_default();
        let bytes = match whole_event(rest, self.max_event_size) {
            Ok(bytes) => bytes,
            Err(FrameError::Truncated { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let event = RawEvent::parse(bytes, self.alg)?;
        self.alg = event.next_alg(self.alg)?;
        self.start += bytes.len();
        Ok(Some(event))
    }

    /// Bytes fed and not yet handed out: a beginning of an event, if `poll` answered `None`.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len() - self.start
    }

    /// The checksum algorithm of the next event.
    #[must_use]
    pub fn checksum(&self) -> ChecksumAlg {
        self.alg
    }
}
