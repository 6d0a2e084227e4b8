//! A compressed transaction (`binlog_transaction_compression`).
//!
//! Layout of `Transaction_payload_event` (`libs/mysql/binlog/event/codecs/binary.cpp`): fields {number, length, value},
//! all length-encoded, in the order 2 compression (0 zstd, 255 none), 3 uncompressed size (absent when
//! uncompressed), 1 payload size; then 0; then the payload. The payload is events back to back **without checksums**.

use super::{EventError, bad};
use crate::cursor::{Cursor, lenenc_len, put_lenenc};
use crate::header::{EventHeader, HEADER_LEN};

const FIELD_END: u64 = 0;
const FIELD_SIZE: u64 = 1;
const FIELD_COMPRESSION: u64 = 2;
const FIELD_UNCOMPRESSED_SIZE: u64 = 3;

/// How a payload is compressed (`compression::type` of `libs/mysql/binlog/event/compression/base.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Zstandard.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    const fn code(self) -> u64 {
        match self {
            Self::Zstd => 0,
            Self::None => 255,
        }
    }

    /// The name in `SHOW BINLOG EVENTS`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "ZSTD",
            Self::None => "NONE",
        }
    }
}

/// Why a payload cannot be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// More than the reader accepts.
    #[error("a compressed transaction decompresses to more than the accepted {cap} bytes")]
    TooLarge {
        /// The reader's limit in bytes.
        cap: usize,
    },
    /// No valid zstd data.
    #[error("a compressed transaction is damaged: {0}")]
    Damaged(String),
    /// The claimed size is wrong.
    #[error("a compressed transaction claims {claimed} bytes and has {actual}")]
    SizeMismatch {
        /// In the event.
        claimed: u64,
        /// Decompressed.
        actual: u64,
    },
}

/// A compressed transaction: everything between its GTID event and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// How it is compressed.
    pub compression: Compression,
    /// Bytes when decompressed, as the writer claims: the payload's own when it is not compressed, 0 if not told.
    pub uncompressed_size: u64,
    /// The compressed bytes.
    pub payload: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is missing or cut off, the compression is unknown, or the payload has another size than claimed.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        let bad = bad("Transaction_payload");
        let cut_off = || bad("a field is cut off");
        let (mut compression, mut uncompressed_size, mut size) = (None, None, None);
        let mut c = Cursor::new(body);
        loop {
            let field = c.lenenc().ok_or_else(cut_off)?;
            if field == FIELD_END {
                break;
            }
            let mut value = Cursor::new(c.str_lenenc().ok_or_else(cut_off)?);
            match field {
                FIELD_SIZE => size = Some(value.lenenc().ok_or_else(cut_off)?),
                FIELD_COMPRESSION => compression = Some(value.lenenc().ok_or_else(cut_off)?),
                FIELD_UNCOMPRESSED_SIZE => {
                    uncompressed_size = Some(value.lenenc().ok_or_else(cut_off)?);
                }
                _ => {}
            }
        }
        let payload = c.take_rest();
        if size != Some(payload.len() as u64) {
            return Err(bad("the payload has another size than the event says"));
        }
        let compression = match compression {
            Some(0) => Compression::Zstd,
            Some(255) => Compression::None,
            _ => return Err(bad("unknown compression")),
        };
        let untold = if compression == Compression::None {
            payload.len() as u64
        } else {
            0
        };
        let uncompressed_size = uncompressed_size.unwrap_or(untold);
        Ok(Self {
            compression,
            uncompressed_size,
            payload,
        })
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        put_field(out, FIELD_COMPRESSION, self.compression.code());
        if self.compression != Compression::None {
            put_field(out, FIELD_UNCOMPRESSED_SIZE, self.uncompressed_size);
        }
        put_field(out, FIELD_SIZE, self.payload.len() as u64);
        put_lenenc(out, FIELD_END);
        out.extend_from_slice(self.payload);
    }

    /// Puts the events inside into `out` (which is cleared): back to back, without checksums, with a `log_pos` of 0.
    /// Memory grows with what is really there, never with what is claimed.
    ///
    /// # Errors
    /// See [`PayloadError`]; `out` then holds a useless part.
    pub fn decompress(&self, cap: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        out.clear();
        match self.compression {
            Compression::None if self.payload.len() > cap => {
                return Err(PayloadError::TooLarge { cap });
            }
            Compression::None => out.extend_from_slice(self.payload),
            Compression::Zstd => inflate(self.payload, cap, out)?,
        }
        let actual = out.len() as u64;
        if actual != self.uncompressed_size && self.uncompressed_size != 0 {
            return Err(PayloadError::SizeMismatch {
                claimed: self.uncompressed_size,
                actual,
            });
        }
        Ok(())
    }
}

impl<'a> Payload<'a> {
    /// The events inside, some at a time, in bounded memory. `buffer` is used again.
    #[must_use]
    pub fn chunks(&self, mut buffer: Vec<u8>) -> PayloadChunks<'a> {
        buffer.clear();
        PayloadChunks {
            source: Source::Unopened(*self),
            claimed: self.uncompressed_size,
            actual: 0,
            buffer,
            whole: 0,
            is_done: false,
        }
    }
}

/// Where the bytes of a payload come from.
enum Source<'a> {
    Unopened(Payload<'a>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
    Plain(&'a [u8]),
}

/// The events of a payload, some at a time; see [`Payload::chunks`].
pub struct PayloadChunks<'a> {
    source: Source<'a>,
    claimed: u64,
    actual: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    whole: usize,
    is_done: bool,
}

impl std::fmt::Debug for PayloadChunks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadChunks")
            .field("claimed", &self.claimed)
            .field("actual", &self.actual)
            .finish_non_exhaustive()
    }
}

impl PayloadChunks<'_> {
    /// Whole events, one behind the other, without checksums, with a `log_pos` of 0: about `STEP` bytes, or one event that is
    /// larger. What is no whole event at the end comes as it is. `None` behind the last.
    ///
    /// # Errors
    /// See [`PayloadError`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<&[u8]>, PayloadError> {
        self.buffer.drain(..self.whole);
        self.whole = whole_events(&self.buffer);
        while self.whole == 0 && !self.is_done {
            self.fill()?;
            self.whole = whole_events(&self.buffer);
        }
        if self.is_done && self.whole == 0 {
            self.whole = self.buffer.len();
        }
        Ok(self
            .buffer
            .get(..self.whole)
            .filter(|chunk| !chunk.is_empty()))
    }

    /// The buffer, for another payload.
    #[must_use]
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.buffer.clear();
        // One large event has made it grow.
        self.buffer.shrink_to(4 * STEP);
        self.buffer
    }

    /// Reads some more bytes.
    fn fill(&mut self) -> Result<(), PayloadError> {
        use std::io::Read;
        let damaged = |e: std::io::Error| PayloadError::Damaged(e.to_string());
        if let Source::Unopened(payload) = &self.source {
            self.source = match payload.compression {
                Compression::None => Source::Plain(payload.payload),
                Compression::Zstd => Source::Zstd(Box::new(decoder(payload.payload)?)),
            };
        }
        let had = self.buffer.len();
        // Reading a large event in small steps would look at its size each time, no more.
        self.buffer.resize(had + STEP, 0);
        let step = self.buffer.get_mut(had..).unwrap_or_default();
        let read = match &mut self.source {
            Source::Zstd(decoder) => decoder.read(step).map_err(damaged)?,
            Source::Plain(bytes) => bytes.read(step).map_err(damaged)?,
            Source::Unopened(_) => 0,
        };
        self.buffer.truncate(had + read);
        self.actual += read as u64;
        self.is_done = read == 0;
        if self.is_done && self.actual != self.claimed && self.claimed != 0 {
            return Err(PayloadError::SizeMismatch {
                claimed: self.claimed,
                actual: self.actual,
            });
        }
        Ok(())
    }
}

/// Bytes at the start of `bytes` that are whole events, or that can be none.
fn whole_events(bytes: &[u8]) -> usize {
    let mut whole = 0;
    loop {
        let rest = bytes.get(whole..).unwrap_or_default();
        let Ok(header) = EventHeader::parse(rest) else {
            return whole;
        };
        let size = header.event_size as usize;
        if !(HEADER_LEN..=EVENT_BYTES_MAX).contains(&size) {
            // Whoever reads events says what is wrong with it.
            return bytes.len();
        }
        if size > rest.len() {
            return whole;
        }
        whole += size;
    }
}

/// No event is larger: 1 GiB, MySQL's limit for a packet, and room for headers.
const EVENT_BYTES_MAX: usize = (1 << 30) + (64 << 10);

fn decoder(payload: &[u8]) -> Result<zstd::stream::read::Decoder<'static, &[u8]>, PayloadError> {
    let damaged = |e: std::io::Error| PayloadError::Damaged(e.to_string());
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload).map_err(damaged)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(damaged)?;
    Ok(decoder)
}

/// Output grows in steps of this many bytes.
const STEP: usize = 128 * 1024;

fn inflate(payload: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    use std::io::Read;
    let damaged = |e: std::io::Error| PayloadError::Damaged(e.to_string());
    let decoder = decoder(payload)?;
    // One byte more than allowed tells "just fits" from "too large".
    let limit = (cap as u64).saturating_add(1);
    let mut limited = decoder.take(limit);
    let mut step = vec![0; STEP.min(cap.saturating_add(1))];
    loop {
        let n = limited.read(&mut step).map_err(damaged)?;
        out.extend_from_slice(step.get(..n).unwrap_or_default());
        if n == 0 {
            return Ok(());
        }
        if out.len() > cap {
            return Err(PayloadError::TooLarge { cap });
        }
    }
}

/// The decoder's window is memory the sender chooses. This is what MySQL's encoder uses at its highest level, for
/// short transactions too.
const WINDOW_LOG_MAX: u32 = 27;

fn put_field(out: &mut Vec<u8>, field: u64, value: u64) {
    put_lenenc(out, field);
    put_lenenc(out, lenenc_len(value) as u64);
    put_lenenc(out, value);
}
