//! The Info column of `SHOW BINLOG EVENTS`.
//!
//! In: an event. Out: what MySQL prints for it (the `pack_info` functions of `sql/log_event.cc`).

use std::borrow::Cow;
use std::fmt::Write;

use crate::event::Event;
use crate::event::control::Incident;
use crate::event::gtid::GtidEvent;
use crate::event::query::QueryEvent;
use crate::event::rows::rows_flags;
use crate::event::status_vars::StatusVar;
use crate::event::xa::XaPrepare;
use crate::frame::RawEvent;
use crate::header::flags;

/// The text MySQL's `SHOW BINLOG EVENTS` has for the event; bytes that are not UTF-8 are replaced. For an event that
/// cannot be understood it is the reason.
#[must_use]
pub fn info(raw: &RawEvent<'_>) -> String {
    match Event::parse(raw) {
        Ok(event) => render(raw, &event),
        Err(e) => e.to_string(),
    }
}

pub(crate) fn render(raw: &RawEvent<'_>, event: &Event<'_>) -> String {
    match event {
        Event::FormatDescription(e) => {
            format!(
                "Server ver: {}, Binlog ver: {}",
                e.server_version, e.binlog_version
            )
        }
        Event::PreviousGtids(e) => e.0.to_string(),
        Event::Gtid(e) => gtid(e),
        Event::Query(e) => query(raw.header.flags, e),
        Event::XaPrepare(e) => xa_prepare(e),
        Event::Xid(e) => format!("COMMIT /* xid={} */", e.0),
        Event::Rotate(e) => format!("{};pos={}", text(e.file), e.position),
        Event::RowsQuery(e) => format!("# {}", text(e.query)),
        Event::Heartbeat(e) => format!("{};pos={}", text(e.file), e.position),
        Event::Stop(_) => String::new(),
        Event::Incident(e) => incident(e),
        Event::TableMap(e) => {
            format!(
                "table_id: {} ({}.{})",
                e.table_id,
                text(e.schema),
                text(e.table)
            )
        }
        Event::Rows(e) => {
            format!("table_id: {}{}", e.table_id, row_flags(e.flags))
        }
        Event::Payload(e) => {
            let size = e.uncompressed_size;
            format!(
                "compression='{}', decompressed_size={size} bytes",
                e.compression.name()
            )
        }
        Event::ViewChange(e) => {
            let id = e.view_id.split(|b| *b == 0).next().unwrap_or_default();
            format!("view_id={}", text(id))
        }
        Event::Unknown(_) => String::new(),
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// As 9.x prints them; older servers print `STMT_END_F` only.
fn row_flags(bits: u16) -> String {
    let names = [
        (rows_flags::STMT_END, " STMT_END_F"),
        (
            rows_flags::NO_FOREIGN_KEY_CHECKS,
            " NO_FOREIGN_KEY_CHECKS_F",
        ),
        (
            rows_flags::RELAXED_UNIQUE_CHECKS,
            " RELAXED_UNIQUE_CHECKS_F",
        ),
        (rows_flags::COMPLETE_ROWS, " COMPLETE_ROWS_F"),
        (rows_flags::USE_SQL_FOREIGN_KEY, " USE_SQL_FOREIGN_KEY_F"),
    ];
    let set: String = names
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if set.is_empty() {
        set
    } else {
        format!(" flags:{set}")
    }
}

fn gtid(e: &GtidEvent) -> String {
    match e.gtid {
        Some(gtid) => format!("SET @@SESSION.GTID_NEXT= '{gtid}'"),
        None => "SET @@SESSION.GTID_NEXT= 'ANONYMOUS'".to_owned(),
    }
}

fn query(header_flags: u16, e: &QueryEvent<'_>) -> String {
    let mut out = String::new();
    if header_flags & flags::SUPPRESS_USE == 0 && !e.schema.is_empty() {
        let schema = text(e.schema).replace('`', "``");
        out.push_str(&format!("use `{schema}`; "));
    }
    out.push_str(&text(e.query));
    let xid = e.status_vars().find_map(|v| match v {
        StatusVar::DdlLoggedWithXid(xid) => Some(xid),
        _ => None,
    });
    if let Some(xid) = xid {
        write!(out, " /* xid={xid} */").expect("writing to a String does not fail");
    }
    out
}

fn xa_prepare(e: &XaPrepare) -> String {
    if e.one_phase {
        format!("XA COMMIT {} ONE PHASE", e.xid)
    } else {
        format!("XA PREPARE {}", e.xid)
    }
}

fn incident(e: &Incident<'_>) -> String {
    let name = match e.number {
        0 => "NOTHING",
        1 => "LOST_EVENTS",
        _ => "<unknown>",
    };
    let head = format!("#{} ({name})", e.number);
    if e.message.is_empty() {
        head
    } else {
        format!("{head}: {}", text(e.message))
    }
}
