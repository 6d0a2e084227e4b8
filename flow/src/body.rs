//! The events of a transaction: in memory, or in a file when there are too many of them.
//!
//! In: whole events, as the collector receives them. Out: the same, either as slices without copying, or chunk by chunk. The file
//! itself is behind [`Spool`]: this crate does no IO.

use std::{fmt, io, slice, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;
use tributary_binlog::HEADER_LEN;

use crate::limits;

/// A file with the events of one transaction. Read from any thread; gone with its last owner.
pub trait Spool: fmt::Debug + Send + Sync {
    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// They cannot be read, or there are fewer.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// The events of a transaction, without its GTID event, `BEGIN` and the ending event.
///
/// Segments hold whole events, one behind the other, **without** checksums; `event_size` in each header is the length
/// without one. A segment is a slice of a receive buffer shared by many transactions: cloning copies no bytes. The events of
/// a transaction that is too large for memory lie in a file, in the same form.
#[derive(Clone, Debug, Default)]
pub struct Body {
    segments: SmallVec<[Bytes; 1]>,
    len: u64,
    spooled: Option<Arc<dyn Spool>>,
}

impl Body {
    /// A body of one segment.
    pub fn new(events: Bytes) -> Self {
        let mut body = Self::default();
        body.push(events);
        body
    }

    /// A body of `len` bytes that lie in a file, from its start on. Nothing can be pushed to it.
    pub fn spooled(file: Arc<dyn Spool>, len: u64) -> Self {
        Self {
            segments: SmallVec::new(),
            len,
            spooled: Some(file),
        }
    }

    /// Appends a segment of whole events to a body in memory.
    pub fn push(&mut self, events: Bytes) {
        if !events.is_empty() {
            self.assert_in_memory();
            self.len += events.len() as u64;
            self.segments.push(events);
        }
    }

    /// The segments of a body in memory, in order.
    ///
    /// # Panics
    /// The body lies in a file: ask [`Self::is_spooled`] before, or use [`Self::chunks`]. To give nothing would lose rows in silence.
    pub fn segments(&self) -> &[Bytes] {
        self.assert_in_memory();
        &self.segments
    }

    fn assert_in_memory(&self) {
        assert!(
            self.spooled.is_none(),
            "the segments of a spooled body are asked for"
        );
    }

    /// Whether the events lie in a file.
    pub fn is_spooled(&self) -> bool {
        self.spooled.is_some()
    }

    /// All events in order, some at a time, wherever they lie: slices of what is in memory, or blocks read from the file. Each chunk
    /// holds whole events; of a file at most [`limits::SPOOL_READ_BYTES`], or one event that is larger.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks {
            memory: self.segments.iter(),
            file: self.spooled.as_deref(),
            at: 0,
            end: self.len,
        }
    }

    /// Bytes of all events.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the body has no event.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Iterator over a body's events, many at a time; see [`Body::chunks`]. An error is the last item.
#[derive(Debug)]
pub struct Chunks<'a> {
    memory: slice::Iter<'a, Bytes>,
    file: Option<&'a dyn Spool>,
    at: u64,
    end: u64,
}

impl Iterator for Chunks<'_> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(file) = self.file else {
            return self.memory.next().cloned().map(Ok);
        };
        if self.at >= self.end {
            return None;
        }
        let block = read_events(file, self.at, self.end - self.at);
        self.at = match &block {
            Ok(block) => self.at + block.len() as u64,
            Err(_) => self.end,
        };
        Some(block)
    }
}

/// Whole events from `at` on, of which `rest` bytes are left.
fn read_events(file: &dyn Spool, at: u64, rest: u64) -> io::Result<Bytes> {
    let len = usize::try_from(rest).map_or(limits::SPOOL_READ_BYTES, |rest| {
        rest.min(limits::SPOOL_READ_BYTES)
    });
    let mut block = vec![0; len];
    file.read_exact_at(&mut block, at)?;
    let mut whole = 0;
    while let Some(size) = block.get(whole..).and_then(event_size) {
        if !(HEADER_LEN..=limits::EVENT_BYTES_MAX).contains(&size) || size as u64 > rest {
            return Err(damaged());
        }
        if whole > 0 && whole + size > block.len() {
            break;
        }
        if size > block.len() {
            // One event that is larger than a block.
            let had = block.len();
            block.resize(size, 0);
            let behind = block.get_mut(had..).unwrap_or_default();
            file.read_exact_at(behind, at + had as u64)?;
        }
        whole += size;
        if whole as u64 > rest {
            return Err(damaged());
        }
    }
    if whole == 0 {
        return Err(damaged());
    }
    block.truncate(whole);
    Ok(block.into())
}

fn event_size(event: &[u8]) -> Option<usize> {
    let header = event.first_chunk::<HEADER_LEN>()?;
    let size = header.get(9..13)?.try_into().ok()?;
    Some(u32::from_le_bytes(size) as usize)
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a spool file holds something else than whole events",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Memory(Vec<u8>);

    impl Spool for Memory {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            let from = offset as usize;
            let bytes = self.0.get(from..from + buf.len());
            buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn event(len: usize) -> Vec<u8> {
        let mut event = vec![len as u8; len];
        event[9..13].copy_from_slice(&(len as u32).to_le_bytes());
        event
    }

    fn spooled(bytes: Vec<u8>) -> Body {
        let len = bytes.len() as u64;
        Body::spooled(Arc::new(Memory(bytes)), len)
    }

    fn ends_on_a_boundary(chunk: &[u8]) -> bool {
        let mut rest = chunk;
        while let Some(size) = event_size(rest) {
            rest = &rest[size..];
        }
        rest.is_empty()
    }

    #[test]
    fn a_body_in_memory_gives_its_segments() {
        let mut body = Body::new(event(30).into());
        body.push(event(40).into());
        body.push(Bytes::new());
        assert!(!body.is_spooled());
        let chunks: Vec<Bytes> = body.chunks().map(Result::unwrap).collect();
        assert_eq!(chunks, body.segments());
        assert_eq!(
            chunks[0].as_ptr(),
            body.segments()[0].as_ptr(),
            "not copied"
        );
        assert_eq!((chunks.len(), body.len()), (2, 70));
    }

    #[test]
    fn an_event_larger_than_a_block_comes_alone_and_whole() {
        let block = limits::SPOOL_READ_BYTES;
        for sizes in [
            vec![block - 10, 19, block + 1, 3 * block, 19, 19],
            vec![block, block, 20],
            vec![3 * block],
        ] {
            let bytes: Vec<u8> = sizes.iter().flat_map(|len| event(*len)).collect();
            let body = spooled(bytes.clone());
            let mut got = Vec::new();
            for chunk in body.chunks() {
                let chunk = chunk.unwrap();
                assert!(ends_on_a_boundary(&chunk));
                assert!(chunk.len() <= block || event_size(&chunk) == Some(chunk.len()));
                got.extend_from_slice(&chunk);
            }
            assert!(got == bytes, "{sizes:?}");
        }
    }

    #[test]
    #[should_panic(expected = "the segments of a spooled body are asked for")]
    fn rows_in_a_file_are_never_taken_for_none() {
        let _ = spooled(event(19)).segments();
    }

    proptest! {
        #[test]
        fn any_events_come_back_whole(sizes in prop::collection::vec(19_usize..300_000, 1..20)) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|len| event(*len)).collect();
            let body = spooled(bytes.clone());
            let chunks: Vec<Bytes> = body.chunks().map(Result::unwrap).collect();
            prop_assert!(chunks.iter().all(|c| ends_on_a_boundary(c)));
            prop_assert!(chunks.concat() == bytes);
        }

        #[test]
        fn damaged_files_end_in_an_error_and_never_in_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            len in 1_u64..400,
        ) {
            bytes.extend_from_slice(&[0; 10]);
            let body = Body::spooled(Arc::new(Memory(bytes)), len);
            let results: Vec<_> = body.chunks().take(50).collect();
            prop_assert!(results.len() < 50);
            let bytes: u64 = results.iter().flatten().map(|c| c.len() as u64).sum();
            prop_assert!(bytes == len || results.last().is_some_and(Result::is_err));
        }
    }
}
