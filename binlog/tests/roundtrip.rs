//! Every event: `parse(put_body(x)) == x`, and the bytes are the same again.

use proptest::collection::vec;
use proptest::prelude::*;
use tributary_binlog::{
    ChecksumAlg, Compression, DefaultCharset, Event, EventHeader, EventType, EventWriter,
    FormatDescription, GtidEvent, Heartbeat, Incident, InnodbXid, OptionalMetadata, Payload,
    PreviousGtids, QueryEvent, RawEvent, Rotate, RowsHeader, RowsQuery, StatusVar, StatusVars,
    Stop, TableMap, UpdatedDbNames, ViewChange, XaPrepare, XaXid, XidEvent, set_table_id,
    table_id_of,
};

use crate::strategies::{bytes, gtid_event, gtid_set, name};

/// Writes the event, reads it back, and compares values and bytes.
fn round_trip(ty: EventType, log_pos: Option<u32>, event: &Event<'_>) -> Result<(), TestCaseError> {
    let mut file = Vec::new();
    let mut writer = EventWriter::new(&mut file, 0, 1, ChecksumAlg::Crc32);
    writer
        .event(ty, 0, 0, |out| event.put_body(out))
        .expect("small");
    let raw = RawEvent::parse(&file, ChecksumAlg::Crc32).expect("just written");
    let header = EventHeader {
        log_pos: log_pos.unwrap_or(raw.header.log_pos),
        ..raw.header
    };
    let raw = RawEvent { header, ..raw };
    let read = Event::parse(&raw);
    prop_assert_eq!(read.as_ref(), Ok(event));
    let mut again = Vec::new();
    read.expect("compared above").put_body(&mut again);
    prop_assert_eq!(again, raw.body);
    Ok(())
}

fn xid() -> impl Strategy<Value = XaXid> {
    (any::<u32>(), bytes(64), bytes(64)).prop_map(|(f, g, b)| XaXid::new(f, &g, &b).expect("short"))
}

proptest! {
    #[test]
    fn format_description(
        version in "[0-9.a-z-]{0,50}",
        created: u32,
        post_header_lens in vec(any::<u8>(), 0..60),
        crc: bool,
    ) {
        let checksum = if crc { ChecksumAlg::Crc32 } else { ChecksumAlg::None };
        let event = FormatDescription { created, post_header_lens, checksum, ..FormatDescription::for_version(&version) };
        round_trip(EventType::FORMAT_DESCRIPTION, None, &Event::FormatDescription(event))?;
    }

    #[test]
    fn previous_gtids(set in gtid_set()) {
        round_trip(EventType::PREVIOUS_GTIDS, None, &Event::PreviousGtids(PreviousGtids(set)))?;
    }

    #[test]
    fn gtid(event in gtid_event()) {
        let mut body = Vec::new();
        event.put_body(&mut body);
        prop_assert_eq!(body.len(), event.encoded_len());
        round_trip(event.event_type(), None, &Event::Gtid(event))?;
    }

    #[test]
    fn transaction_length_counts_itself(event in gtid_event(), rest in 0..1_u64 << 40, shift in 0..40_u32) {
        let mut event: GtidEvent = event;
        let rest = rest >> shift;
        event.set_transaction_length(rest, ChecksumAlg::Crc32);
        prop_assert_eq!(event.transaction_length, rest + 19 + event.encoded_len() as u64 + 4);
    }

    #[test]
    fn query(thread_id: u32, exec_time: u32, error_code: u16, vars in bytes(300), schema in name(64), query in bytes(300)) {
        let event = QueryEvent { thread_id, exec_time, error_code, status_vars: &vars, schema: &schema, query: &query };
        round_trip(EventType::QUERY, None, &Event::Query(event))?;
    }

    #[test]
    fn xa_prepare(one_phase: bool, xid in xid(), innodb: u64) {
        round_trip(EventType::XA_PREPARE, None, &Event::XaPrepare(XaPrepare { one_phase, xid }))?;
        round_trip(EventType::XID, None, &Event::Xid(XidEvent(InnodbXid(innodb))))?;
    }

    #[test]
    fn small_events(position: u64, shift in 0..64_u32, number: u16, a in bytes(255), b in bytes(600), v2: bool) {
        let position = position >> shift;
        round_trip(EventType::ROTATE, None, &Event::Rotate(Rotate { position, file: &a }))?;
        round_trip(EventType::STOP, None, &Event::Stop(Stop))?;
        round_trip(EventType::INCIDENT, None, &Event::Incident(Incident { number, message: &a }))?;
        round_trip(EventType::ROWS_QUERY, None, &Event::RowsQuery(RowsQuery { query: &b }))?;
        let position = if v2 { position } else { position & 0xffff_ffff };
        let heartbeat = Heartbeat { file: &a, position, v2 };
        round_trip(heartbeat.event_type(), Some(position as u32), &Event::Heartbeat(heartbeat))?;
    }

    #[test]
    fn view_change(view_id: [u8; 20], sequence_number: i64, certificates: u32, info in bytes(50)) {
        let mut padded = [0; 40];
        padded[..20].copy_from_slice(&view_id);
        let event = ViewChange { view_id: &padded, sequence_number, certificates, certification_info: &info };
        round_trip(EventType::VIEW_CHANGE, None, &Event::ViewChange(event))?;
    }

    #[test]
    fn table_map(
        table_id in 0..1_u64 << 48,
        flags: u16,
        schema in bytes(64),
        table in bytes(300),
        types in vec(any::<u8>(), 1..300),
        meta in bytes(300),
        optional in bytes(50),
    ) {
        let nulls = vec![0x5a; types.len().div_ceil(8)];
        let event = TableMap {
            table_id, flags, schema: &schema, table: &table, column_types: &types, column_meta: &meta,
            null_bitmap: &nulls, optional: &optional,
        };
        round_trip(EventType::TABLE_MAP, None, &Event::TableMap(event))?;
    }

    #[test]
    fn rows(
        code in prop::sample::select(&[23_u8, 24, 25, 30, 31, 32, 39][..]),
        table_id in 0..1_u64 << 48,
        flags: u16,
        extra in bytes(20),
        n_columns in 1..3000_u64,
        rows in bytes(50),
        new_id in 0..1_u64 << 48,
    ) {
        let event_type = EventType(code);
        let bitmap = vec![0xa5; n_columns.div_ceil(8) as usize];
        let extra = if code < 30 { &[][..] } else { &extra };
        let columns_after = event_type.is_update_rows().then_some(&bitmap[..]);
        let event = RowsHeader {
            event_type, table_id, flags, extra, n_columns, columns_before: &bitmap, columns_after, rows: &rows,
        };
        round_trip(event_type, None, &Event::Rows(event))?;
        let mut body = Vec::new();
        event.put_body(&mut body);
        prop_assert_eq!(table_id_of(event_type, &body), Some(table_id));
        prop_assert!(set_table_id(&mut body, new_id));
        prop_assert_eq!(RowsHeader::parse(event_type, &body), Ok(RowsHeader { table_id: new_id, ..event }));
    }

    #[test]
    fn payload(payload in bytes(300), size: u64, zstd: bool) {
        let (compression, uncompressed_size) =
            if zstd { (Compression::Zstd, size) } else { (Compression::None, payload.len() as u64) };
        let event = Payload { compression, uncompressed_size, payload: &payload };
        round_trip(EventType::TRANSACTION_PAYLOAD, None, &Event::Payload(event))?;
    }

    #[test]
    fn uncompressed_and_compressed_payloads_give_their_content(content in vec(any::<u8>(), 1..2000), repeat in 1..40_usize) {
        let content = content.repeat(repeat);
        let packed = zstd::bulk::compress(&content, 3).expect("compresses");
        let size = content.len() as u64;
        let mut out = vec![1, 2, 3];
        for (compression, payload) in [(Compression::Zstd, &packed), (Compression::None, &content)] {
            let event = Payload { compression, uncompressed_size: size, payload };
            prop_assert_eq!(event.decompress(content.len(), &mut out), Ok(()));
            prop_assert_eq!(&out, &content);
            prop_assert!(event.decompress(content.len() - 1, &mut out).is_err());
        }
    }

    #[test]
    fn unknown_types_keep_their_body(code in prop::sample::select(&[0_u8, 5, 28, 36, 43, 80, 105, 255][..]), body in bytes(50)) {
        let mut file = Vec::new();
        let mut writer = EventWriter::new(&mut file, 0, 1, ChecksumAlg::Crc32);
        writer.event(EventType(code), 0, 0, |out| out.extend_from_slice(&body)).expect("small");
        let raw = RawEvent::parse(&file, ChecksumAlg::Crc32).expect("just written");
        prop_assert_eq!(Event::parse(&raw), Ok(Event::Unknown(raw)));
        prop_assert_eq!(raw.body, &body[..]);
    }

    #[test]
    fn status_vars(vars in StatusVarParts::all()) {
        let vars: Vec<_> = vars.iter().map(StatusVarParts::var).collect();
        let mut out = Vec::new();
        vars.iter().for_each(|v| v.put(&mut out));
        let read: Vec<_> = StatusVars::new(&out).collect();
        prop_assert_eq!(&read, &vars);
        // Behind an unknown code nothing is read.
        let known = out.len();
        out.extend_from_slice(&[99, 0, 1, 2, 3, 4]);
        prop_assert_eq!(StatusVars::new(&out).last(), Some(StatusVar::Unknown(99)));
        prop_assert_eq!(StatusVars::new(&out).count(), vars.len() + 1);
        // A value that is cut off ends it too.
        if let Some(last) = vars.last().filter(|_| known > 0) {
            let cut: Vec<_> = StatusVars::new(&out[..known - 1]).collect();
            prop_assert_eq!(cut.last(), Some(&StatusVar::Unknown(last.code())));
        }
    }

    #[test]
    fn optional_metadata(parts in MetaParts::any()) {
        let meta = parts.meta();
        let mut out = Vec::new();
        meta.put(&mut out);
        prop_assert_eq!(OptionalMetadata::parse(&out), Ok(meta));
        for cut in 1..out.len().min(40) {
            // Cut inside a field it is an error, between fields it is less; it never panics.
            let _ = OptionalMetadata::parse(&out[..cut]);
        }
    }
}

/// A status variable that owns its strings.
#[derive(Debug, Clone)]
struct StatusVarParts {
    kind: usize,
    n: u64,
    a: Vec<u8>,
    b: Vec<u8>,
}

impl StatusVarParts {
    fn all() -> impl Strategy<Value = Vec<Self>> {
        let one = (0..23_usize, any::<u64>(), name(20), name(20));
        vec(one.prop_map(|(kind, n, a, b)| Self { kind, n, a, b }), 0..8)
    }

    fn var(&self) -> StatusVar<'_> {
        let (n, a, b) = (self.n, &self.a[..], &self.b[..]);
        match self.kind {
            0 => StatusVar::Flags2(n as u32),
            1 => StatusVar::SqlMode(n),
            2 => StatusVar::Catalog(a),
            3 => StatusVar::AutoIncrement {
                increment: n as u16,
                offset: (n >> 16) as u16,
            },
            4 => StatusVar::Charset {
                client: n as u16,
                connection: (n >> 16) as u16,
                server: (n >> 32) as u16,
            },
            5 => StatusVar::TimeZone(a),
            6 => StatusVar::CatalogNz(a),
            7 => StatusVar::LcTimeNames(n as u16),
            8 => StatusVar::CharsetDatabase(n as u16),
            9 => StatusVar::TableMapForUpdate(n),
            10 => StatusVar::MasterDataWritten(n as u32),
            11 => StatusVar::Invoker { user: a, host: b },
            12 if n & 1 == 0 => StatusVar::UpdatedDbNames(UpdatedDbNames {
                count: 2,
                names: b"one\0two\0",
            }),
            12 => StatusVar::UpdatedDbNames(UpdatedDbNames {
                count: 254,
                names: b"",
            }),
            13 => StatusVar::Microseconds(n as u32 & 0xff_ffff),
            14 => StatusVar::ExplicitDefaultsForTimestamp(n as u8),
            15 => StatusVar::DdlLoggedWithXid(n),
            16 => StatusVar::DefaultCollationForUtf8mb4(n as u16),
            17 => StatusVar::SqlRequirePrimaryKey(n as u8),
            18 => StatusVar::DefaultTableEncryption(n as u8),
            19 => StatusVar::EnableCascadeTriggers(n as u8),
            20 => StatusVar::PolarIndexFormatGpp(n as u8),
            21 => StatusVar::PolarCommitGcn(n),
            _ => StatusVar::PolarPrepareGcn(n),
        }
    }
}

/// The highest level declares the largest window, whatever the content needs.
#[test]
fn a_small_payload_of_the_highest_level_is_accepted() {
    let packed = zstd::stream::encode_all(&b"x"[..], 22).expect("compresses");
    let event = Payload {
        compression: Compression::Zstd,
        uncompressed_size: 1,
        payload: &packed,
    };
    let mut out = Vec::new();
    assert_eq!(event.decompress(1, &mut out), Ok(()));
}

#[test]
fn updated_schemas_are_listed() {
    let names = UpdatedDbNames {
        count: 2,
        names: b"one\0two\0",
    };
    assert_eq!(names.iter().collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(
        UpdatedDbNames {
            count: 254,
            names: b""
        }
        .iter()
        .count(),
        0
    );
}

/// Optional metadata that owns its strings.
#[derive(Debug, Clone)]
struct MetaParts {
    present: u16,
    bits: Vec<bool>,
    ints: Vec<u32>,
    pairs: Vec<(u32, u32)>,
    names: Vec<Vec<u8>>,
}

impl MetaParts {
    fn any() -> impl Strategy<Value = Self> {
        let bits = vec(any::<[bool; 8]>(), 0..4).prop_map(|bytes| bytes.concat());
        (
            any::<u16>(),
            bits,
            vec(any::<u32>(), 0..6),
            vec(any::<(u32, u32)>(), 0..6),
            vec(bytes(300), 0..5),
        )
            .prop_map(|(present, bits, ints, pairs, names)| Self {
                present,
                bits,
                ints,
                pairs,
                names,
            })
    }

    fn meta(&self) -> OptionalMetadata<'_> {
        let on = |i: u16| self.present >> i & 1 == 1;
        let names = || self.names.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let charset = || DefaultCharset {
            default: 255,
            others: self.pairs.clone(),
        };
        OptionalMetadata {
            unsigned: on(0).then(|| self.bits.clone()),
            default_charset: on(1).then(charset),
            column_charsets: on(2).then(|| self.ints.clone()),
            names: on(3).then(names),
            set_values: on(4).then(|| vec![names(), vec![], names()]),
            enum_values: on(5).then(|| vec![names()]),
            geometry_types: on(6).then(|| self.ints.clone()),
            simple_primary_key: on(7).then(|| self.ints.clone()),
            primary_key_with_prefix: on(8).then(|| self.pairs.clone()),
            enum_and_set_default_charset: on(9).then(charset),
            enum_and_set_column_charsets: on(10).then(|| self.ints.clone()),
            visible: on(11).then(|| self.bits.clone()),
            vector_dimensions: on(12).then(|| self.ints.clone()),
            unknown: if on(13) {
                vec![(77, b"later".as_slice())]
            } else {
                vec![]
            },
        }
    }
}
