//! The events of one GTID group, without headers: what MySQL 9.7 writes for it.
//!
//! In: a [`Group`]. Out: bodies, one behind the other, in the order of the binlog. The GTID event, which needs their lengths
//! and its place in the file, is made in [`super::node_log`].

use std::fmt::Write as _;
use std::ops::Range;

use tributary_binlog::{
    ChecksumAlg, EventType, HEADER_LEN, InnodbXid, QueryEvent, StatusVar, XaPrepare, XaXid,
    XidEvent, flags,
};

use super::table;
use crate::history::{Change, Group, What};

/// Rows events are closed at this size (`binlog_row_event_max_size`).
const ROWS_EVENT_BYTES: usize = 8192;
/// `sql_mode` of a server with default settings.
const SQL_MODE: u64 = 0x45a0_0020;
/// utf8mb4_0900_ai_ci
const COLLATION: u16 = 255;

/// The bodies of one group.
#[derive(Default)]
pub(super) struct Bodies {
    bytes: Vec<u8>,
    events: Vec<(EventType, u16, Range<usize>)>,
    /// Scratch: status variables and statements.
    vars: Vec<u8>,
    text: String,
}

impl Bodies {
    /// The events: type, flags, body.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EventType, u16, &[u8])> {
        self.events
            .iter()
            .map(|(ty, flags, range)| (*ty, *flags, &self.bytes[range.clone()]))
    }

    /// Bytes the events take in a file, headers and checksums included.
    pub(super) fn len_in_file(&self) -> u64 {
        let framing = HEADER_LEN + ChecksumAlg::Crc32.len();
        (self.bytes.len() + self.events.len() * framing) as u64
    }

    /// Replaces the bodies by those of `group`. `innodb_xid` is the number for an Xid event.
    pub(super) fn fill(&mut self, group: &Group<'_>, innodb_xid: u64) {
        self.bytes.clear();
        self.events.clear();
        match group.what {
            What::Ddl(sql) => self.ddl(group, sql, innodb_xid),
            What::Local(changes) => {
                self.query(group, changes.first(), "BEGIN");
                self.rows(changes);
                self.push(EventType::XID, 0, |out| {
                    XidEvent(InnodbXid(innodb_xid)).put_body(out);
                });
            }
            What::Prepare(changes) => {
                let xid = xid(group);
                self.statement(group, changes.first(), "XA START", &xid);
                self.rows(changes);
                self.statement(group, None, "XA END", &xid);
                let prepare = XaPrepare {
                    one_phase: false,
                    xid,
                };
                self.push(EventType::XA_PREPARE, 0, |out| prepare.put_body(out));
            }
            What::Commit(_) => self.statement(group, None, "XA COMMIT", &xid(group)),
            What::Rollback => self.statement(group, None, "XA ROLLBACK", &xid(group)),
        }
    }

    fn push(&mut self, event_type: EventType, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        body(&mut self.bytes);
        self.events
            .push((event_type, flags, start..self.bytes.len()));
    }

    fn rows(&mut self, changes: &[Change]) {
        let statements = changes
            .chunk_by(|a, b| table::rows_type(a) == table::rows_type(b) && changes.len() > 2);
        for statement in statements {
            let Some(first) = statement.first() else {
                continue;
            };
            let event_type = table::rows_type(first);
            self.push(EventType::TABLE_MAP, 0, table::put_table_map);
            let mut rest = statement;
            while !rest.is_empty() {
                let (event, behind) = rest.split_at(rows_that_fit(rest));
                self.push(event_type, 0, |out| {
                    table::put_rows(out, event_type, behind.is_empty(), event);
                });
                rest = behind;
            }
        }
    }

    fn statement(&mut self, group: &Group<'_>, first: Option<&Change>, verb: &str, xid: &XaXid) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{verb} {xid}");
        self.query(group, first, &text);
        self.text = text;
    }

    /// A statement of a transaction whose first change is `first`.
    fn query(&mut self, group: &Group<'_>, first: Option<&Change>, text: &str) {
        self.session_vars();
        let vars = &mut self.vars;
        if let Some(change) = first {
            if change.before.is_some() && change.after.is_some() {
                StatusVar::TableMapForUpdate(1).put(vars);
            }
            if change.after.is_some() {
                // The statement used now(6).
                StatusVar::TimeZone(b"SYSTEM").put(vars);
                StatusVar::Microseconds((group.at % 1_000_000) as u32).put(vars);
            }
        }
        StatusVar::DefaultCollationForUtf8mb4(COLLATION).put(vars);
        self.put_query(group, text);
    }

    fn ddl(&mut self, group: &Group<'_>, sql: &str, innodb_xid: u64) {
        self.session_vars();
        let vars = &mut self.vars;
        StatusVar::ExplicitDefaultsForTimestamp(1).put(vars);
        StatusVar::DdlLoggedWithXid(innodb_xid).put(vars);
        StatusVar::DefaultCollationForUtf8mb4(COLLATION).put(vars);
        StatusVar::SqlRequirePrimaryKey(0).put(vars);
        StatusVar::DefaultTableEncryption(0).put(vars);
        self.put_query(group, sql);
    }

    fn session_vars(&mut self) {
        let vars = &mut self.vars;
        vars.clear();
        StatusVar::Flags2(0).put(vars);
        StatusVar::SqlMode(SQL_MODE).put(vars);
        StatusVar::CatalogNz(b"std").put(vars);
        StatusVar::Charset {
            client: COLLATION,
            connection: COLLATION,
            server: COLLATION,
        }
        .put(vars);
    }

    fn put_query(&mut self, group: &Group<'_>, text: &str) {
        let vars = std::mem::take(&mut self.vars);
        let query = QueryEvent {
            thread_id: group.thread,
            exec_time: 0,
            error_code: 0,
            status_vars: &vars,
            schema: b"shop",
            query: text.as_bytes(),
        };
        self.push(EventType::QUERY, flags::SUPPRESS_USE, |out| {
            query.put_body(out);
        });
        self.vars = vars;
    }
}

/// The xid a coordinator would choose.
fn xid(group: &Group<'_>) -> XaXid {
    let gtrid = format!("shop-{:012x}", group.xid);
    let bqual = format!("dn{}", group.node + 1);
    XaXid::new(1, gtrid.as_bytes(), bqual.as_bytes()).expect("both parts are shorter than 64 bytes")
}

/// How many of `changes` go into one rows event: at least one.
fn rows_that_fit(changes: &[Change]) -> usize {
    let mut bytes = 0;
    let len = |c: &Change| {
        let images = [c.before, c.after].into_iter().flatten();
        images
            .map(|version| table::row_len(c.key, version))
            .sum::<usize>()
    };
    let fit = changes.iter().take_while(|c| {
        bytes += len(c);
        bytes <= ROWS_EVENT_BYTES
    });
    fit.count().max(1)
}
