//! Walks the events of a file on disk. In: a file and a range. Out: one event after the other with its CRC judged, in
//! bounded memory whatever the events' sizes; what is cut off, impossible or damaged is told apart.

use std::io;

use tributary_binlog::{
    ChecksumAlg, EventHeader, EventType, FrameError, HEADER_LEN, RawEvent, flags,
};
use tributary_flow::limits;

use crate::disk::DiskFile;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// The same, where only the head of a file is read.
const LITTLE_CHUNK: usize = 1 << 10;
/// Events up to this size are held whole; of larger ones only this much.
const WHOLE_MAX: usize = 1 << 20;

/// One event.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    /// Where it begins.
    pub(crate) pos: u64,
    pub(crate) header: EventHeader,
    /// Its body without checksum; of a very large event the first part.
    pub(crate) body: &'a [u8],
    /// What is wrong with its checksum, if anything.
    pub(crate) damage: Option<FrameError>,
}

impl Scanned<'_> {
    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.pos + u64::from(self.header.event_size)
    }

    /// Whether `end_log_pos` is where it ends. The field has 32 bits.
    pub(crate) fn is_in_place(&self) -> bool {
        self.header.log_pos == self.end() as u32
    }
}

/// Why the walk cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the file ends inside an event: {need} bytes needed, {have} there")]
    CutOff { pos: u64, need: u64, have: u64 },
    #[error("no event here: type {event_type}, impossible size of {event_size} bytes")]
    BadLength {
        pos: u64,
        event_type: EventType,
        event_size: u32,
    },
    #[error("{error}")]
    Frame { pos: u64, error: FrameError },
}

impl ScanError {
    /// Where the event in question begins, if it is known better than by the walk's position.
    pub(crate) fn pos(&self) -> Option<u64> {
        match self {
            Self::Io(_) => None,
            Self::CutOff { pos, .. } | Self::BadLength { pos, .. } | Self::Frame { pos, .. } => {
                Some(*pos)
            }
        }
    }
}

/// What is wrong with the checksum of a format description. In a file it has one even if nothing else has, so its own
/// word for the algorithm, which may be what is damaged, does not count. It is computed without the in-use flag.
fn format_damage(raw: &RawEvent<'_>) -> Option<FrameError> {
    let (content, stored) = raw.bytes.split_last_chunk::<4>()?;
    let mut header = raw.header;
    header.flags &= !flags::IN_USE;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header.to_bytes());
    crc.update(content.get(HEADER_LEN..).unwrap_or_default());
    let (stored, computed) = (u32::from_le_bytes(*stored), crc.finalize());
    let EventHeader {
        event_type,
        log_pos,
        ..
    } = raw.header;
    (stored != computed).then_some(FrameError::BadChecksum {
        event_type,
        log_pos,
        stored,
        computed,
    })
}

/// A walk over `[pos, end)` of a file.
pub(crate) struct FileScan<'a> {
    file: &'a dyn DiskFile,
    pos: u64,
    end: u64,
    alg: ChecksumAlg,
    /// Bytes of the file from `buf_at` on.
    buf: Vec<u8>,
    buf_at: u64,
    /// Bytes read at a time.
    chunk: usize,
}

impl<'a> FileScan<'a> {
    /// A walk from `pos`, where an event must begin, to `end`. `alg` holds until a format description says otherwise.
    pub(crate) fn new(file: &'a dyn DiskFile, pos: u64, end: u64, alg: ChecksumAlg) -> Self {
        Self {
            file,
            pos,
            end,
            alg,
            buf: Vec::new(),
            buf_at: pos,
            chunk: CHUNK,
        }
    }

    /// Only the first events are of interest.
    pub(crate) fn read_little(&mut self) {
        self.chunk = LITTLE_CHUNK;
    }

    /// Where the next event begins.
    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }

    /// The next event; `None` at the end. After an error the walk stays where it is.
    pub(crate) fn next(&mut self) -> Result<Option<Scanned<'_>>, ScanError> {
        let pos = self.pos;
        let have = self.end.saturating_sub(pos);
        if have == 0 {
            return Ok(None);
        }
        let need = HEADER_LEN as u64;
        let header = match self.bytes(pos, HEADER_LEN)? {
            Some(bytes) => {
                EventHeader::parse(bytes).map_err(|error| ScanError::Frame { pos, error })?
            }
            None => return Err(ScanError::CutOff { pos, need, have }),
        };
        let EventHeader {
            event_type,
            event_size,
            ..
        } = header;
        let size = event_size as usize;
        if !(HEADER_LEN + self.alg.len()..=limits::EVENT_BYTES_MAX).contains(&size) {
            return Err(ScanError::BadLength {
                pos,
                event_type,
                event_size,
            });
        }
        if size as u64 > have {
            return Err(ScanError::CutOff {
                pos,
                need: size as u64,
                have,
            });
        }
        if size > WHOLE_MAX {
            self.large(header)
        } else {
            self.whole(size)
        }
        .map(Some)
    }

    fn whole(&mut self, size: usize) -> Result<Scanned<'_>, ScanError> {
        let (pos, end, alg) = (self.pos, self.end, self.alg);
        // Parsed twice only in the sense of the borrow checker: the algorithm must be set before the view is given out.
        let next_alg = {
            let bytes = self.bytes(pos, size)?;
            let bytes = bytes.ok_or(ScanError::CutOff {
                pos,
                need: size as u64,
                have: end - pos,
            })?;
            let raw = RawEvent::parse_unverified(bytes, alg)
                .map_err(|error| ScanError::Frame { pos, error })?;
            raw.next_alg(alg)
                .map_err(|error| ScanError::Frame { pos, error })?
        };
        self.alg = next_alg;
        self.pos += size as u64;
        let start = usize::try_from(pos - self.buf_at).unwrap_or(usize::MAX);
        let bytes = self
            .buf
            .get(start..)
            .and_then(|rest| rest.get(..size))
            .unwrap_or_default();
        let raw = RawEvent::parse_unverified(bytes, alg)
            .map_err(|error| ScanError::Frame { pos, error })?;
        let damage = match raw.header.event_type {
            EventType::FORMAT_DESCRIPTION => format_damage(&raw),
            _ => raw.verify(alg).err(),
        };
        Ok(Scanned {
            pos,
            header: raw.header,
            body: raw.body,
            damage,
        })
    }

    /// An event too large to be held: its CRC is computed piece by piece.
    fn large(&mut self, header: EventHeader) -> Result<Scanned<'_>, ScanError> {
        let pos = self.pos;
        let size = u64::from(header.event_size);
        let content = size - self.alg.len() as u64;
        let mut crc = crc32fast::Hasher::new();
        let mut done = 0;
        while done < content {
            let piece = usize::try_from(content - done).unwrap_or(CHUNK).min(CHUNK);
            let bytes = self.bytes(pos + done, piece)?;
            crc.update(bytes.ok_or(ScanError::CutOff {
                pos,
                need: size,
                have: done,
            })?);
            done += piece as u64;
        }
        let computed = crc.finalize();
        let mut damage = None;
        if self.alg == ChecksumAlg::Crc32 {
            let stored = self
                .bytes(pos + content, 4)?
                .and_then(|bytes| bytes.first_chunk::<4>());
            let stored = stored.copied().map(u32::from_le_bytes);
            let stored = stored.ok_or(ScanError::CutOff {
                pos,
                need: size,
                have: content,
            })?;
            if stored != computed {
                let EventHeader {
                    event_type,
                    log_pos,
                    ..
                } = header;
                damage = Some(FrameError::BadChecksum {
                    event_type,
                    log_pos,
                    stored,
                    computed,
                });
            }
        }
        self.pos += size;
        let head = self
            .bytes(pos, WHOLE_MAX)?
            .and_then(|bytes| bytes.get(HEADER_LEN..));
        Ok(Scanned {
            pos,
            header,
            body: head.unwrap_or_default(),
            damage,
        })
    }

    /// `len` bytes from `at`, if the range has them.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>, ScanError> {
        if at + len as u64 > self.end {
            return Ok(None);
        }
        let held = at >= self.buf_at && at + len as u64 <= self.buf_at + self.buf.len() as u64;
        if !held {
            let room = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            self.buf.resize(len.max(self.chunk).min(room), 0);
            self.buf_at = at;
            let n = self
                .file
                .read_at(at, &mut self.buf)
                .inspect_err(|_| self.buf.clear())?;
            self.buf.truncate(n);
        }
        let start = usize::try_from(at - self.buf_at).unwrap_or(usize::MAX);
        Ok(self.buf.get(start..).and_then(|rest| rest.get(..len)))
    }
}
