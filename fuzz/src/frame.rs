//! Event framing.
//!
//! In: one byte of options, how the rest is cut, and a file behind its magic. Out: a panic unless it gives the same events and
//! the same error in one piece and in many, and the same bodies once they are written again.

use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, EventWriter, FrameDecoder, FrameError, HEADER_LEN,
    describe,
};

use crate::input::Input;

/// Events of a file, and why there are no more: `None` at its end or in the middle of an event.
type Read = (Vec<(u64, Vec<u8>)>, Option<FrameError>);

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let step = usize::from(input.byte()).max(1);
    let alg = if options & 1 == 0 {
        ChecksumAlg::None
    } else {
        ChecksumAlg::Crc32
    };
    let mut file = input.rest().to_vec();
    if options & 2 != 0 {
        put_checksums(&mut file, alg);
    }
    let whole = read(&file, alg);
    assert_eq!(
        whole,
        in_pieces(&file, alg, step, usize::MAX),
        "however the bytes arrive"
    );
    let small = in_pieces(&file, alg, step, 64);
    assert!(
        whole.0.starts_with(&small.0),
        "a limit only ends the stream earlier"
    );
    write_again(&whole.0);
}

fn read(file: &[u8], alg: ChecksumAlg) -> Read {
    let mut reader = EventReader::new(file, alg);
    let mut events = Vec::new();
    loop {
        let offset = reader.offset() as u64;
        match reader.next() {
            Ok(Some(event)) => {
                assert!(!describe(&event, offset).is_empty());
                events.push((offset, event.bytes.to_vec()));
            }
            Ok(None) | Err(FrameError::Truncated { .. }) => return (events, None),
            Err(e) => return (events, Some(e)),
        }
    }
}

fn in_pieces(file: &[u8], alg: ChecksumAlg, step: usize, max: usize) -> Read {
    let mut decoder = FrameDecoder::new(alg, max);
    let (mut events, mut offset) = (Vec::new(), 0);
    for piece in file.chunks(step) {
        decoder.feed(piece);
        loop {
            match decoder.poll() {
                Ok(Some(event)) => {
                    events.push((offset, event.bytes.to_vec()));
                    offset += event.bytes.len() as u64;
                }
                Ok(None) => break,
                Err(e) => return (events, Some(e)),
            }
        }
    }
    (events, None)
}

/// Each event is copied to another place, with and without checksum, and read there.
fn write_again(events: &[(u64, Vec<u8>)]) {
    for alg in [ChecksumAlg::None, ChecksumAlg::Crc32] {
        let mut out = Vec::new();
        let mut bodies = Vec::new();
        for (_, bytes) in events.iter().take(20) {
            // Its own algorithm is known to be right; what is wanted is the body.
            let size = bytes.len();
            let body = [4, 0]
                .iter()
                .find_map(|footer| bytes.get(HEADER_LEN..size.checked_sub(*footer)?));
            let header = tributary_binlog::EventHeader::parse(bytes).expect("it was read");
            if header.event_type == EventType::FORMAT_DESCRIPTION {
                continue;
            }
            let body = body.unwrap_or_default();
            EventWriter::new(&mut out, 4, 77, alg)
                .copy(&header, body, 9, None)
                .expect("an event that was read is small enough to write");
            bodies.push((header.event_type, body));
        }
        let mut reader = EventReader::new(&out, alg);
        for (event_type, body) in bodies {
            let event = reader
                .next()
                .expect("it was just written")
                .expect("as many as written");
            assert_eq!((event.header.event_type, event.body), (event_type, body));
            assert_eq!(u64::from(event.header.log_pos), 4 + reader.offset() as u64);
        }
    }
}

/// Makes the checksums right wherever the sizes are, so that inputs get past them.
pub(crate) fn put_checksums(file: &mut [u8], mut alg: ChecksumAlg) {
    let mut at = 0;
    while let Some(header) = file.get(at..at + HEADER_LEN) {
        let description = header[4] == EventType::FORMAT_DESCRIPTION.0;
        let size = u32::from_le_bytes([header[9], header[10], header[11], header[12]]) as usize;
        let Some(event) = at.checked_add(size).and_then(|end| file.get_mut(at..end)) else {
            return;
        };
        let Some((content, crc)) = event.split_last_chunk_mut::<4>() else {
            return;
        };
        if content.len() < HEADER_LEN {
            return;
        }
        if description || alg == ChecksumAlg::Crc32 {
            let in_use = content[17];
            if description {
                content[17] &= !1;
                let told = content.last().copied().and_then(ChecksumAlg::from_fde_byte);
                alg = told.unwrap_or(alg);
            }
            *crc = crc32fast::hash(content).to_le_bytes();
            content[17] = in_use;
        }
        at += size;
    }
}
