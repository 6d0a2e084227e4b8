//! Framing: any split gives the same events, any flipped bit is found, limits hold.

use proptest::collection::vec;
use proptest::prelude::*;
use tributary_binlog::{
    ChecksumAlg, EventHeader, EventReader, EventType, EventWriter, FormatDescription, FrameDecoder,
    FrameError, HEADER_LEN, RawEvent, WriteError, flags,
};

use crate::strategies::bytes;

/// A format description that names `alg`, then events of the given types and bodies.
fn stream(alg: ChecksumAlg, events: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = EventWriter::new(&mut out, 4, 9, alg);
    let fde = FormatDescription {
        checksum: alg,
        ..FormatDescription::for_version("9.7.4")
    };
    writer
        .event(EventType::FORMAT_DESCRIPTION, 1, flags::IN_USE, |b| {
            fde.put_body(b);
        })
        .expect("small");
    for (ty, body) in events {
        writer
            .event(EventType(*ty), 1, 0, |b| b.extend_from_slice(body))
            .expect("small");
    }
    out
}

fn alg() -> impl Strategy<Value = ChecksumAlg> {
    prop_oneof![Just(ChecksumAlg::None), Just(ChecksumAlg::Crc32)]
}

/// Any type but the format description, whose body says something about framing.
fn plain_type() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("not a format description", |t| *t != 15)
}

fn read_all(bytes: &[u8], alg: ChecksumAlg) -> (Vec<RawEvent<'_>>, Result<(), FrameError>) {
    let mut reader = EventReader::new(bytes, alg);
    let mut out = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(event)) => out.push(event),
            Ok(None) => return (out, Ok(())),
            Err(e) => return (out, Err(e)),
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        to in alg(),
        from in alg(),
        events in vec((plain_type(), bytes(60)), 0..10),
        pieces in vec(1..80_usize, 1..20),
    ) {
        let bytes = stream(to, &events);
        let (whole, end) = read_all(&bytes, from);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(whole.len(), events.len() + 1);
        for (raw, (ty, body)) in whole[1..].iter().zip(&events) {
            prop_assert_eq!((raw.header.event_type.0, raw.body), (*ty, &body[..]));
            prop_assert_eq!(raw.header.server_id, 9);
        }
        let mut decoder = FrameDecoder::new(from, 1000);
        let mut rest = &bytes[..];
        let mut seen = 0;
        for piece in pieces.iter().cycle() {
            let (head, tail) = rest.split_at((*piece).min(rest.len()));
            rest = tail;
            decoder.feed(head);
            while let Some(event) = decoder.poll().expect("undamaged") {
                prop_assert_eq!(event, whole[seen]);
                seen += 1;
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(seen, whole.len());
        prop_assert_eq!(decoder.buffered(), 0);
        prop_assert_eq!(decoder.checksum(), to);
    }

    #[test]
    fn a_flipped_bit_is_found(events in vec((plain_type(), bytes(40)), 1..5), at: prop::sample::Index, bit in 0..8_u32) {
        let mut bytes = stream(ChecksumAlg::Crc32, &events);
        let first = EventHeader::parse(&bytes).expect("whole").event_size as usize;
        // The first event's flags are followed by a CRC that ignores one of them; flip behind it.
        let at = first + at.index(bytes.len() - first);
        bytes[at] ^= 1 << bit;
        let (_, end) = read_all(&bytes, ChecksumAlg::Crc32);
        prop_assert!(end.is_err(), "flipped bit {bit} of byte {at}");
    }

    #[test]
    fn a_flipped_bit_of_a_format_description_is_found(at in 0..123_usize, bit in 0..8_u32) {
        let mut bytes = stream(ChecksumAlg::Crc32, &[]);
        prop_assert_eq!(bytes.len(), 123);
        bytes[at] ^= 1 << bit;
        let result = RawEvent::parse(&bytes, ChecksumAlg::Crc32);
        // Free to change: the in-use flag; and the algorithm byte decides whether there is anything to compare with.
        let free = bit == 0 && (at == 17 || at == 118);
        prop_assert_eq!(result.is_ok(), free, "bit {} of byte {}", bit, at);
    }

    #[test]
    fn copy_changes_what_it_must(
        ty in plain_type(),
        body in vec(any::<u8>(), 6..60),
        flags: u16,
        base: u64,
        timestamp: u32,
        table_id in proptest::option::of(0..1_u64 << 48),
        to in alg(),
    ) {
        let mut source = Vec::new();
        let mut writer = EventWriter::new(&mut source, 0, 1, ChecksumAlg::Crc32);
        writer.event(EventType(ty), 7, flags, |b| b.extend_from_slice(&body)).expect("small");
        let raw = RawEvent::parse(&source, ChecksumAlg::Crc32).expect("just written");
        let mut out = vec![0xee; 3];
        let mut writer = EventWriter::new(&mut out, base, 42, to);
        writer.copy(&raw.header, raw.body, timestamp, table_id).expect("small");
        let end = writer.offset();
        let copy = RawEvent::parse(&out[3..], to).expect("just written");
        prop_assert_eq!(end, base.wrapping_add(out.len() as u64));
        let want = EventHeader {
            timestamp, server_id: 42, log_pos: end as u32, event_size: (out.len() - 3) as u32, ..raw.header
        };
        prop_assert_eq!(copy.header, want);
        let mut want = body.clone();
        if let Some(id) = table_id {
            want[..6].copy_from_slice(&id.to_le_bytes()[..6]);
        }
        prop_assert_eq!(copy.body, &want[..]);
    }
}

#[test]
fn damage_is_told_from_a_torn_tail() {
    let bytes = stream(ChecksumAlg::Crc32, &[(2, vec![1; 30]), (3, vec![])]);
    let cut = &bytes[..bytes.len() - 1];
    let (events, end) = read_all(cut, ChecksumAlg::Crc32);
    assert_eq!(events.len(), 2);
    assert_eq!(end, Err(FrameError::Truncated { need: 23, have: 22 }));
    let mut reader = EventReader::new(cut, ChecksumAlg::Crc32);
    while let Ok(Some(_)) = reader.next() {}
    assert_eq!(
        reader.offset(),
        bytes.len() - 23,
        "it stays at the torn event"
    );

    // A size that cannot be is damage, even at the end.
    let mut bad = bytes.clone();
    let at = bytes.len() - 23;
    bad[at + 9] = 22;
    assert!(matches!(
        read_all(&bad, ChecksumAlg::Crc32).1,
        Err(FrameError::BadLength { event_size: 22, .. })
    ));
    bad[at + 9] = 3;
    assert!(matches!(
        read_all(&bad, ChecksumAlg::Crc32).1,
        Err(FrameError::BadLength { event_size: 3, .. })
    ));
}

#[test]
fn one_event_means_exactly_one() {
    let mut bytes = Vec::new();
    let mut writer = EventWriter::new(&mut bytes, 0, 1, ChecksumAlg::None);
    writer.event(EventType::STOP, 0, 0, |_| {}).expect("small");
    assert!(RawEvent::parse(&bytes, ChecksumAlg::None).is_ok());
    assert!(matches!(
        RawEvent::parse(&bytes, ChecksumAlg::Crc32),
        Err(FrameError::BadLength { .. })
    ));
    bytes.push(0);
    assert!(matches!(
        RawEvent::parse(&bytes, ChecksumAlg::None),
        Err(FrameError::BadLength { .. })
    ));
    let need = |n: usize| RawEvent::parse(&bytes[..n], ChecksumAlg::None);
    assert_eq!(
        need(18),
        Err(FrameError::Truncated {
            need: HEADER_LEN,
            have: 18
        })
    );
}

#[test]
fn the_decoder_refuses_large_events_at_their_header() {
    let bytes = stream(ChecksumAlg::Crc32, &[(2, vec![1; 500])]);
    let mut decoder = FrameDecoder::new(ChecksumAlg::Crc32, 200);
    decoder.feed(&bytes[..123 + 19]);
    assert!(
        decoder
            .poll()
            .expect("the format description is small")
            .is_some()
    );
    assert!(matches!(
        decoder.poll(),
        Err(FrameError::TooLarge {
            event_size: 523,
            max: 200,
            ..
        })
    ));
    assert!(decoder.poll().is_err(), "it stays there");
}

#[test]
fn an_unknown_checksum_algorithm_is_named() {
    let mut bytes = stream(ChecksumAlg::Crc32, &[]);
    bytes[118] = 2;
    assert_eq!(
        RawEvent::parse(&bytes, ChecksumAlg::Crc32),
        Err(FrameError::UnknownChecksum(2))
    );
}

#[test]
fn a_format_description_is_checksummed_even_where_nothing_else_is() {
    let bytes = stream(ChecksumAlg::None, &[(3, vec![])]);
    assert_eq!(bytes.len(), 123 + 19);
    let stored = u32::from_le_bytes(bytes[119..123].try_into().expect("4 bytes"));
    let mut content = bytes[..119].to_vec();
    content[17] &= !1;
    assert_eq!(stored, crc32fast::hash(&content));
}

#[test]
fn no_table_id_in_a_short_body() {
    let mut out = Vec::new();
    let header = EventHeader {
        timestamp: 0,
        event_type: EventType::TABLE_MAP,
        server_id: 1,
        event_size: 0,
        log_pos: 0,
        flags: 0,
    };
    let mut writer = EventWriter::new(&mut out, 0, 1, ChecksumAlg::Crc32);
    let err = writer.copy(&header, &[1, 2, 3], 0, Some(7));
    assert_eq!(
        err,
        Err(WriteError::NoTableId {
            event_type: EventType::TABLE_MAP,
            body_len: 3
        })
    );
    assert!(out.is_empty());
}

#[test]
fn positions_above_4_gib_are_cut_as_in_mysql() {
    let mut out = Vec::new();
    let mut writer = EventWriter::new(&mut out, (1 << 32) + 100, 1, ChecksumAlg::Crc32);
    writer.event(EventType::STOP, 0, 0, |_| {}).expect("small");
    assert_eq!(EventHeader::parse(&out).expect("whole").log_pos, 123);
}
