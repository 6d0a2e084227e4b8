//! No bytes make a parser panic, and none make it take more memory than they are worth.

use proptest::collection::vec;
use proptest::prelude::*;
use tributary_binlog::{
    ChecksumAlg, Event, EventReader, EventType, EventWriter, FrameDecoder, GtidSet,
    OptionalMetadata, Payload, RawEvent, StatusVars, TableMap, describe,
};

use crate::strategies::bytes;

/// Everything one can ask of an event.
fn poke(raw: &RawEvent<'_>) {
    let _ = describe(raw, 4);
    let Ok(event) = Event::parse(raw) else { return };
    let mut out = Vec::new();
    event.put_body(&mut out);
    match event {
        Event::TableMap(e) => {
            e.columns()
                .for_each(|c| drop(c.map(|c| (c.real_type(), c.string_len()))));
            let _ = e.optional_metadata();
            let _ = e.primary_key().map(Iterator::count);
        }
        Event::Query(e) => drop(e.status_vars().collect::<Vec<_>>()),
        Event::Payload(e) => drop(e.decompress(1 << 16, &mut out)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_body_of_any_type(ty: u8, body in bytes(200)) {
        let mut file = Vec::new();
        let mut writer = EventWriter::new(&mut file, 0, 1, ChecksumAlg::None);
        writer.event(EventType(ty), 0, 0, |out| out.extend_from_slice(&body)).expect("small");
        if let Ok(raw) = RawEvent::parse_unverified(&file, ChecksumAlg::None) {
            poke(&raw);
        }
    }

    /// Arbitrary bytes seldom get far; a real event with a few bytes changed does.
    #[test]
    fn a_real_event_with_wounds(
        index: prop::sample::Index,
        wounds in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let corpus = corpus();
        let (ty, body) = &corpus[index.index(corpus.len())];
        let mut body = body.clone();
        for (at, value) in wounds {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = value;
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len() + 1));
        }
        let mut file = Vec::new();
        let mut writer = EventWriter::new(&mut file, 0, 1, ChecksumAlg::None);
        writer.event(*ty, 0, 0, |out| out.extend_from_slice(&body)).expect("small");
        poke(&RawEvent::parse_unverified(&file, ChecksumAlg::None).expect("well framed"));
    }

    #[test]
    fn any_bytes_as_a_stream(bytes in bytes(300), crc: bool) {
        let alg = if crc { ChecksumAlg::Crc32 } else { ChecksumAlg::None };
        let mut reader = EventReader::new(&bytes, alg);
        while let Ok(Some(event)) = reader.next() {
            poke(&event);
        }
        let mut decoder = FrameDecoder::new(alg, 100);
        decoder.feed(&bytes);
        while let Ok(Some(_)) = decoder.poll() {}
    }

    #[test]
    fn any_bytes_as_parts(bytes in bytes(200), text in ".{0,80}", near in "[0-9a-f:,\\- tT_\n]{0,120}") {
        let _ = GtidSet::decode(&bytes);
        let _ = text.parse::<GtidSet>();
        let _ = near.parse::<GtidSet>();
        let uuid = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{near}");
        let _ = uuid.parse::<GtidSet>();
        let _ = OptionalMetadata::parse(&bytes);
        let _ = StatusVars::new(&bytes).count();
        let _ = TableMap::parse(&bytes);
        let _ = Payload::parse(&bytes);
    }
}

/// Bodies of the checked-in files, and of what is inside their payloads.
fn corpus() -> &'static [(EventType, Vec<u8>)] {
    static CORPUS: std::sync::OnceLock<Vec<(EventType, Vec<u8>)>> = std::sync::OnceLock::new();
    CORPUS.get_or_init(|| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let mut out = Vec::new();
        for name in [
            "rows-full",
            "xa",
            "compressed",
            "tagged",
            "partial-json",
            "ddl",
            "no-checksum",
        ] {
            let file = std::fs::read(format!("{dir}/{name}.binlog")).expect("checked in");
            let mut reader = EventReader::new(&file[4..], ChecksumAlg::Crc32);
            while let Some(raw) = reader.next().expect("undamaged") {
                out.push((raw.header.event_type, raw.body.to_vec()));
            }
        }
        out
    })
}

/// Rows of such a table would have no bytes, and there would be any number of them.
#[test]
fn a_table_map_without_columns_is_refused() {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0];
    body.extend_from_slice(b"\x04shop\0\x01t\0\0\0");
    assert!(TableMap::parse(&body).is_err());
    let one = [&body[..body.len() - 2], &[1, 3, 0, 0]].concat();
    assert!(TableMap::parse(&one).is_ok());
}
