//! The events of a transaction: in memory, or in a file when there are too many of them.
//!
//! In: whole events, as the collector receives them. Out: the same, either as slices without copying, or chunk by chunk. The file
//! itself is behind [`Spool`]: this crate does no IO.

use std::{io, ops::Range, slice, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;
use tributary_binlog::{EventType, HEADER_LEN};

use crate::{Spool, limits};

/// Offset of an event's type in its header.
const TYPE_AT: usize = 4;

/// The events of a transaction, without its GTID event, `BEGIN` and the ending event.
///
/// Segments hold whole events, one behind the other, **without** checksums; `event_size` in each header is the length
/// without one. A segment is a slice of a receive buffer shared by many transactions: cloning copies no bytes. The events of
/// a transaction that is too large for memory lie in a file, in the same form.
#[derive(Clone, Debug, Default)]
pub struct Body {
    segments: SmallVec<[Bytes; 1]>,
    len: u64,
    /// Of a body that lies in a file, at least in part; `segments` is empty then.
    rope: Option<Box<Rope>>,
}

#[derive(Clone, Debug)]
struct Rope {
    pieces: Vec<Piece>,
    events: u64,
}

/// Whole events, one behind the other.
#[derive(Clone, Debug)]
enum Piece {
    Memory(Bytes),
    File {
        file: Arc<dyn Spool>,
        at: u64,
        len: u64,
    },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// All of it, copied from the file if it lies in one.
    fn bytes(self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File { file, at, len } => {
                let len = usize::try_from(len).map_err(|_| damaged())?;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at)?;
                Ok(bytes.into())
            }
        }
    }

    /// Bytes from `from` on, of which there are `len`.
    fn part(&self, from: u64, len: u64) -> Self {
        match self {
            Self::Memory(bytes) => {
                // Cut out of what is in memory, so it fits.
                let from = (from as usize).min(bytes.len());
                let to = from.saturating_add(len as usize).min(bytes.len());
                Self::Memory(bytes.slice(from..to))
            }
            Self::File { file, at, .. } => Self::File {
                file: Arc::clone(file),
                at: at + from,
                len,
            },
        }
    }
}

impl Body {
    /// A body of one segment.
    pub fn new(events: Bytes) -> Self {
        let mut body = Self::default();
        body.push(events);
        body
    }

    /// A body of `events` events in `len` bytes that lie in a file, from its start on.
    pub fn spooled(file: Arc<dyn Spool>, len: u64, events: u64) -> Self {
        let pieces = vec![Piece::File { file, at: 0, len }];
        Self {
            segments: SmallVec::new(),
            len,
            rope: Some(Box::new(Rope { pieces, events })),
        }
    }

    /// Type of the first event, if there is one; what lies in a file is read for it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn first_type(&self) -> io::Result<Option<EventType>> {
        let first = self.chunks().next().transpose()?;
        let event_type = first.as_deref().and_then(|events| events.get(TYPE_AT));
        Ok(event_type.map(|event_type| EventType(*event_type)))
    }

    /// Appends whole events.
    pub fn push(&mut self, events: Bytes) {
        if events.is_empty() {
            return;
        }
        self.len += events.len() as u64;
        match &mut self.rope {
            None => self.segments.push(events),
            Some(rope) => {
                rope.events += count_events(&events);
                rope.pieces.push(Piece::Memory(events));
            }
        }
    }

    /// Appends the events of another body.
    pub fn append(&mut self, other: Self) {
        let Some(theirs) = other.rope else {
            other.segments.into_iter().for_each(|s| self.push(s));
            return;
        };
        let rope = self.rope.get_or_insert_with(|| {
            let segments = std::mem::take(&mut self.segments);
            let events = segments.iter().map(|s| count_events(s)).sum();
            let pieces = segments.into_iter().map(Piece::Memory).collect();
            Box::new(Rope { pieces, events })
        });
        self.len += other.len;
        rope.events += theirs.events;
        rope.pieces.extend(theirs.pieces);
    }

    /// The `events` whole events that lie at `range` of the body. Nothing is copied.
    pub fn slice(&self, range: Range<u64>, events: u64) -> Self {
        let mut out = Self::default();
        let mut add = |piece: Piece| match piece {
            Piece::Memory(bytes) => out.push(bytes),
            Piece::File { len, .. } => out.append(Self {
                segments: SmallVec::new(),
                len,
                rope: Some(Box::new(Rope {
                    pieces: vec![piece],
                    events: 0,
                })),
            }),
        };
        let mut at = 0;
        let pieces = self.pieces();
        for piece in pieces {
            let (from, to) = (range.start.max(at), range.end.min(at + piece.len()));
            if from < to {
                add(piece.part(from - at, to - from));
            }
            at += piece.len();
        }
        if let Some(rope) = &mut out.rope {
            rope.events = events;
        }
        out
    }

    /// The bytes at `range`, copied from a file if they lie in one. For single events.
    ///
    /// # Errors
    /// The file cannot be read, or the body has no such bytes.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let len = usize::try_from(range.end.saturating_sub(range.start));
        let len = len.map_err(|_| damaged())?;
        let mut at = 0;
        for piece in self.pieces() {
            let end = at + piece.len();
            if (at..end).contains(&range.start) && range.end <= end {
                return piece.part(range.start - at, len as u64).bytes();
            }
            at = end;
        }
        Err(damaged())
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let memory = self.segments.iter().cloned().map(Piece::Memory);
        let rope = self
            .rope
            .iter()
            .flat_map(|rope| rope.pieces.iter().cloned());
        memory.chain(rope)
    }

    /// The segments of a body in memory, in order.
    ///
    /// # Panics
    /// The body lies in a file: ask [`Self::is_spooled`] before, or use [`Self::chunks`]. To give nothing would lose rows in silence.
    pub fn segments(&self) -> &[Bytes] {
        assert!(
            self.rope.is_none(),
            "the segments of a spooled body are asked for"
        );
        &self.segments
    }

    /// Whether the events, or some of them, lie in a file.
    pub fn is_spooled(&self) -> bool {
        self.rope.is_some()
    }

    /// The number of events, where it is known without looking at them: in a file.
    pub fn counted_events(&self) -> Option<u64> {
        self.rope.as_ref().map(|rope| rope.events)
    }

    /// All events in order, some at a time, wherever they lie: slices of what is in memory, or blocks read from the file. Each chunk
    /// holds whole events; of a file at most [`limits::SPOOL_READ_BYTES`], or one event that is larger.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks {
            memory: self.segments.iter(),
            pieces: self
                .rope
                .as_ref()
                .map_or(&[][..], |rope| &rope.pieces)
                .iter(),
            file: None,
        }
    }

    /// Up to `max` bytes from `offset` on, which need not be whole events; none at the end.
    ///
    /// # Errors
    /// They can not be read.
    pub fn piece(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let mut at = 0;
        for piece in self.pieces() {
            let end = at + piece.len();
            if (at..end).contains(&offset) {
                let from = offset - at;
                return piece.part(from, (end - offset).min(max as u64)).bytes();
            }
            at = end;
        }
        Ok(Bytes::new())
    }

    /// The number of events, counted where they lie in memory.
    pub fn count_events(&self) -> u64 {
        let in_memory = || self.segments.iter().map(|s| count_events(s)).sum();
        self.counted_events().unwrap_or_else(in_memory)
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
    pieces: slice::Iter<'a, Piece>,
    /// The file that is being read, and what is left of it.
    file: Option<(&'a dyn Spool, Range<u64>)>,
}

impl Iterator for Chunks<'_> {
    type Item = io::Result<Bytes>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.memory.next() {
            Some(bytes) => Some(Ok(bytes.clone())),
            None => self.next_of_rope(),
        }
    }
}

impl Chunks<'_> {
    fn next_of_rope(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some((file, rest)) = &mut self.file
                && rest.start < rest.end
            {
                let block = read_events(*file, rest.start, rest.end - rest.start);
                match &block {
                    Ok(block) => rest.start += block.len() as u64,
                    Err(_) => (self.file, self.pieces) = (None, [].iter()),
                }
                return Some(block);
            }
            match self.pieces.next()? {
                Piece::Memory(bytes) => return Some(Ok(bytes.clone())),
                Piece::File { file, at, len } => self.file = Some((&**file, *at..at + len)),
            }
        }
    }
}

/// The number of events in bytes that hold nothing else.
pub fn count_events(mut events: &[u8]) -> u64 {
    let mut n = 0;
    while let Some(size) = event_size(events).filter(|size| *size >= HEADER_LEN) {
        n += 1;
        events = events.get(size..).unwrap_or_default();
    }
    n
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
    use crate::MemorySpool;

    fn event(len: usize) -> Vec<u8> {
        let mut event = vec![len as u8; len];
        event[9..13].copy_from_slice(&(len as u32).to_le_bytes());
        event
    }

    fn spooled(bytes: Vec<u8>) -> Body {
        let len = bytes.len() as u64;
        let events = count_events(&bytes);
        Body::spooled(Arc::new(MemorySpool(bytes)), len, events)
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
    fn pieces_are_all_bytes_wherever_they_lie() {
        let bytes: Vec<u8> = [40, 19, 300, 25].iter().flat_map(|n| event(*n)).collect();
        let mut segments = Body::new(Bytes::copy_from_slice(&bytes[..59]));
        segments.push(Bytes::copy_from_slice(&bytes[59..]));
        for body in [segments, spooled(bytes.clone()), Body::default()] {
            for max in [1, 7, 100, 10_000] {
                let mut got = Vec::new();
                loop {
                    let piece = body.piece(got.len() as u64, max).unwrap();
                    assert!(piece.len() <= max);
                    if piece.is_empty() {
                        break;
                    }
                    got.extend_from_slice(&piece);
                }
                assert_eq!(got.len() as u64, body.len());
                assert!(body.is_empty() || got == bytes);
            }
            assert!(body.piece(body.len() + 9, 5).unwrap().is_empty());
        }
    }

    #[test]
    #[should_panic(expected = "the segments of a spooled body are asked for")]
    fn rows_in_a_file_are_never_taken_for_none() {
        let _ = spooled(event(19)).segments();
    }

    /// All bytes of a body, and its events.
    fn all(body: &Body) -> (Vec<u8>, u64) {
        let chunks: Vec<Bytes> = body.chunks().map(Result::unwrap).collect();
        assert!(chunks.iter().all(|c| ends_on_a_boundary(c)));
        let bytes = chunks.concat();
        assert_eq!(bytes.len() as u64, body.len());
        let events = count_events(&bytes);
        assert!(body.counted_events().is_none_or(|n| n == events));
        (bytes, events)
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_whole(
            bodies in prop::collection::vec((any::<bool>(), prop::collection::vec(19_usize..90, 1..6)), 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 2),
        ) {
            let (mut body, mut bytes, mut ends) = (Body::default(), Vec::new(), vec![0]);
            for (in_file, sizes) in bodies {
                let events: Vec<u8> = sizes.iter().flat_map(|len| event(*len)).collect();
                for size in sizes {
                    ends.push(ends.last().unwrap() + size as u64);
                }
                bytes.extend_from_slice(&events);
                body.append(if in_file { spooled(events) } else { Body::new(events.into()) });
            }
            prop_assert_eq!(all(&body), (bytes.clone(), ends.len() as u64 - 1));
            let mut cut = [cuts[0].index(ends.len()), cuts[1].index(ends.len())];
            cut.sort_unstable();
            let [a, b] = cut.map(|at| ends[at]);
            let slice = body.slice(a..b, (cut[1] - cut[0]) as u64);
            prop_assert_eq!(all(&slice).0, &bytes[a as usize..b as usize]);
            prop_assert_eq!(all(&slice).1, (cut[1] - cut[0]) as u64);
            for pair in ends.windows(2) {
                let read = body.read(pair[0]..pair[1]).unwrap();
                prop_assert_eq!(&read[..], &bytes[pair[0] as usize..pair[1] as usize]);
            }
            prop_assert!(body.read(0..body.len() + 1).is_err());
        }

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
            let body = Body::spooled(Arc::new(MemorySpool(bytes)), len, 1);
            let results: Vec<_> = body.chunks().take(50).collect();
            prop_assert!(results.len() < 50);
            let bytes: u64 = results.iter().flatten().map(|c| c.len() as u64).sum();
            prop_assert!(bytes == len || results.last().is_some_and(Result::is_err));
        }
    }
}
