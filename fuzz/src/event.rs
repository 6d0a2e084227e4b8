//! Every event's parser and writer.
//!
//! In: a type, header flags, a body. Out: a panic unless what is understood is still the same after it was written and read
//! again, and every part of it can be looked at.

use tributary_binlog::{
    ChecksumAlg, Event, EventReader, EventType, EventWriter, RawEvent, Rotate, StatusVar,
    StatusVars, XaStatement, XaXid, describe, table_id_of,
};

use crate::input::Input;

/// Most bytes a payload may unpack to here.
const UNPACKED_MAX: usize = 1 << 20;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let event_type = EventType(input.byte());
    let flags = input.word();
    let body = input.rest();
    let mut bytes = Vec::new();
    put(event_type, flags, body, &mut bytes);
    let Ok(raw) = RawEvent::parse(&bytes, ChecksumAlg::None) else {
        return;
    };
    assert!(!describe(&raw, 4).is_empty());
    let _ = table_id_of(event_type, body);
    // Parsers that are reached without a header, too.
    let _ = Rotate::parse(body);
    if let Some(Ok(statement)) = XaStatement::parse(body) {
        let text = statement.xid.to_string();
        let read = XaXid::parse_sql(&text).expect("an xid is written so that it can be read");
        assert_eq!(read, statement.xid);
    }
    let Ok(event) = Event::parse(&raw) else {
        return;
    };
    let mut again = Vec::new();
    let mut body = Vec::new();
    event.put_body(&mut body);
    // A GTID event is written as what it is, whatever it came as: a tagged one without a tag is a plain one.
    let written_as = match &event {
        Event::Gtid(gtid) => gtid.event_type(),
        _ => event_type,
    };
    put(written_as, flags, &body, &mut again);
    let raw = RawEvent::parse(&again, ChecksumAlg::None).expect("what was written is an event");
    let read = Event::parse(&raw);
    if written_as != event_type {
        // The other form may have fewer bits for a number.
        read.expect("written so that it can be read");
    } else if !matches!(event, Event::Unknown(_)) {
        assert_eq!(read.as_ref(), Ok(&event), "written and read again");
    }
    look(&event);
}

fn put(event_type: EventType, flags: u16, body: &[u8], out: &mut Vec<u8>) {
    EventWriter::new(out, 4, 1, ChecksumAlg::None)
        .event(event_type, 1, flags, |out| out.extend_from_slice(body))
        .expect("inputs are small");
}

/// Looks at everything an event has.
fn look(event: &Event<'_>) {
    match event {
        Event::Query(query) => status_vars(query.status_vars, query.status_vars()),
        Event::Gtid(gtid) => {
            let mut body = Vec::new();
            gtid.put_body(&mut body);
            assert_eq!(gtid.encoded_len(), body.len());
        }
        Event::TableMap(map) => {
            let columns = map.columns().take_while(Result::is_ok).count();
            assert!(columns <= map.column_types.len());
            let key: usize = map.primary_key().into_iter().flatten().count();
            assert!(key <= map.optional.len());
            if let Ok(optional) = map.optional_metadata() {
                let mut bytes = Vec::new();
                optional.put(&mut bytes);
                let map = tributary_binlog::TableMap {
                    optional: &bytes,
                    ..*map
                };
                assert_eq!(map.optional_metadata().as_ref(), Ok(&optional));
            }
        }
        Event::Payload(payload) => {
            let mut out = Vec::new();
            if payload.decompress(UNPACKED_MAX, &mut out).is_ok() {
                assert!(out.len() <= UNPACKED_MAX);
                let mut reader = EventReader::new(&out, ChecksumAlg::None);
                while let Ok(Some(event)) = reader.next() {
                    let _ = Event::parse(&event);
                }
            }
        }
        _ => {}
    }
}

fn status_vars(bytes: &[u8], vars: StatusVars<'_>) {
    // What is not understood ends the walk and is not written.
    let known = |var: &StatusVar<'_>| !matches!(var, StatusVar::Unknown(_));
    let vars: Vec<_> = vars.filter(known).collect();
    let mut again = Vec::new();
    vars.iter().for_each(|var| var.put(&mut again));
    assert!(vars.len() <= bytes.len());
    let read: Vec<_> = StatusVars::new(&again).collect();
    assert_eq!(read, vars);
}
