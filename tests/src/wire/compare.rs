//! Two records of one client, statement by statement.
//!
//! In: the record at a MySQL server and the record at Tributary. Out: every difference, one line each: what was offered and
//! taken in the handshake, statements that only one of them was asked, answers that differ in kind, columns, rows or values, and the
//! shape of each dump. What must differ between any two servers (UUIDs, GTID sets) is made the same first.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, ensure};
use tributary_binlog::EventType;

use super::transcript::{Asked, Conversation, Exchange, Reply, Stream, Transcript};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The statement, or `handshake`, `dump`, `COM_…`.
    pub place: String,
    /// What differs: the reference, then ours.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place.replace('\n', " "), self.what)
    }
}

/// A difference that is meant, and why.
#[derive(Debug, Clone, Copy)]
pub struct Explained {
    /// Start of the place.
    pub place: &'static str,
    /// Start of what differs.
    pub what: &'static str,
    /// The reason.
    pub reason: &'static str,
}

impl Explained {
    /// True when this is about that difference.
    pub fn covers(&self, difference: &Difference) -> bool {
        difference.place.starts_with(self.place) && difference.what.starts_with(self.what)
    }
}

/// Fails unless every difference is explained and every explanation is needed.
///
/// # Errors
/// With the differences nobody explained and the explanations that explain nothing.
pub fn explain(differences: &[Difference], explained: &[Explained]) -> Result<()> {
    let open = differences
        .iter()
        .filter(|d| !explained.iter().any(|e| e.covers(d)));
    let open: Vec<String> = open.map(ToString::to_string).collect();
    ensure!(
        open.is_empty(),
        "{} differences without a reason:\n{}",
        open.len(),
        open.join("\n")
    );
    let idle = explained
        .iter()
        .filter(|e| !differences.iter().any(|d| e.covers(d)));
    let idle: Vec<String> = idle.map(|e| format!("{e:?}")).collect();
    ensure!(
        idle.is_empty(),
        "these differences are gone:\n{}",
        idle.join("\n")
    );
    Ok(())
}

/// Everything in which `ours` differs from `reference`.
pub fn differences(reference: &Transcript, ours: &Transcript) -> Vec<Difference> {
    let mut found = Found::default();
    handshakes(reference, ours, &mut found);
    statements(reference, ours, &mut found);
    dumps(reference, ours, &mut found);
    found.0
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, place: &str, what: impl Into<String>) {
        let difference = Difference {
            place: place.to_owned(),
            what: what.into(),
        };
        if !self.0.contains(&difference) {
            self.0.push(difference);
        }
    }

    fn unless_same<T: PartialEq + fmt::Debug>(&mut self, place: &str, name: &str, a: T, b: T) {
        if a != b {
            self.add(place, format!("{name}: {a:?}, here {b:?}"));
        }
    }
}

const CAPABILITIES: [&str; 32] = [
    "LONG_PASSWORD",
    "FOUND_ROWS",
    "LONG_FLAG",
    "CONNECT_WITH_DB",
    "NO_SCHEMA",
    "COMPRESS",
    "ODBC",
    "LOCAL_FILES",
    "IGNORE_SPACE",
    "PROTOCOL_41",
    "INTERACTIVE",
    "SSL",
    "IGNORE_SIGPIPE",
    "TRANSACTIONS",
    "RESERVED",
    "SECURE_CONNECTION",
    "MULTI_STATEMENTS",
    "MULTI_RESULTS",
    "PS_MULTI_RESULTS",
    "PLUGIN_AUTH",
    "CONNECT_ATTRS",
    "PLUGIN_AUTH_LENENC_CLIENT_DATA",
    "CAN_HANDLE_EXPIRED_PASSWORDS",
    "SESSION_TRACK",
    "DEPRECATE_EOF",
    "OPTIONAL_RESULTSET_METADATA",
    "ZSTD_COMPRESSION_ALGORITHM",
    "QUERY_ATTRIBUTES",
    "MULTI_FACTOR_AUTHENTICATION",
    "CAPABILITY_EXTENSION",
    "SSL_VERIFY_SERVER_CERT",
    "REMEMBER_OPTIONS",
];

fn capabilities(bits: u32) -> BTreeSet<&'static str> {
    let named = CAPABILITIES.iter().enumerate();
    let set = named.filter(|(bit, _)| bits >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect()
}

/// The ways clients of this record logged in.
fn logins(transcript: &Transcript) -> BTreeSet<String> {
    let way = |c: &Conversation| {
        format!(
            "{} from '{}', {}",
            c.login.plugin,
            if c.login.empty_answer {
                "nothing"
            } else {
                "an answer"
            },
            c.auth.join(", ")
        )
    };
    transcript.conversations.iter().map(way).collect()
}

fn handshakes(reference: &Transcript, ours: &Transcript, found: &mut Found) {
    let place = "handshake";
    let (Some(a), Some(b)) = (reference.conversations.first(), ours.conversations.first()) else {
        return found.add(place, "no connection");
    };
    let (offered, offered_here) = (
        capabilities(a.greeting.capabilities),
        capabilities(b.greeting.capabilities),
    );
    for name in offered.symmetric_difference(&offered_here) {
        let here = offered_here.contains(name);
        let what = if here {
            "offered here only"
        } else {
            "not offered"
        };
        found.add(place, format!("{what}: {name}"));
    }
    found.unless_same(place, "version", &a.greeting.version, &b.greeting.version);
    found.unless_same(place, "plugin", &a.greeting.plugin, &b.greeting.plugin);
    found.unless_same(
        place,
        "collation",
        a.greeting.collation,
        b.greeting.collation,
    );
    found.unless_same(place, "status", a.greeting.status, b.greeting.status);
    let (taken, taken_here) = (
        capabilities(a.login.capabilities),
        capabilities(b.login.capabilities),
    );
    for name in taken.symmetric_difference(&taken_here) {
        let here = taken_here.contains(name);
        let what = if here { "asked here only" } else { "not asked" };
        found.add(place, format!("{what}: {name}"));
    }
    found.unless_same(place, "logins", logins(reference), logins(ours));
}

/// Replaces what is another's on every server: UUIDs with the GTID intervals behind them, and names of binlog files with the
/// position behind them.
fn common(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(n) = uuid(rest) {
            let behind = rest.get(n..).unwrap_or_default();
            let intervals = |c: char| !(c.is_ascii_digit() || matches!(c, ':' | '-'));
            let more = behind.find(intervals).unwrap_or(behind.len());
            out.push_str(if more > 0 { "<gtids>" } else { "<uuid>" });
            rest = behind.get(more..).unwrap_or_default();
        } else if let Some(n) = binlog_name(rest) {
            let behind = rest.get(n..).unwrap_or_default();
            out.push_str("<file>");
            rest = behind;
            if let Some(position) = behind.strip_prefix("',") {
                out.push_str("',<position>");
                rest = position.trim_start_matches(|c: char| c.is_ascii_digit());
            }
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// Length of the UUID `text` starts with.
fn uuid(text: &str) -> Option<usize> {
    let candidate = text.get(..36)?;
    let fits = candidate.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    fits.then_some(36)
}

/// Length of the name of a binlog file `text` starts with.
fn binlog_name(text: &str) -> Option<usize> {
    let bases = ["binlog.", "mysql-bin.", "replica."];
    let base = bases.iter().find(|base| text.starts_with(**base))?;
    let digits = text.get(base.len()..base.len() + 6)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then_some(base.len() + 6)
}

/// What an exchange is known by in both records.
fn key(exchange: &Exchange) -> Option<String> {
    match &exchange.asked {
        Asked::Query(sql) => Some(common(sql)),
        Asked::Prepare(sql) => Some(format!("PREPARE {}", common(sql))),
        Asked::Other(name, _) => Some((*name).to_owned()),
        Asked::Dump(_) => None,
    }
}

fn keyed(transcript: &Transcript) -> Vec<(String, &Exchange)> {
    let keyed = transcript.exchanges().map(|e| Some((key(e)?, e)));
    let mut seen = BTreeSet::new();
    let mut first = Vec::new();
    for (key, exchange) in keyed.flatten() {
        // What came last may have had no time for an answer.
        let answered = !exchange.replies.is_empty() || key == "COM_QUIT";
        if answered && seen.insert(key.clone()) {
            first.push((key, exchange));
        }
    }
    first
}

fn statements(reference: &Transcript, ours: &Transcript, found: &mut Found) {
    let (there, here) = (keyed(reference), keyed(ours));
    for (key, exchange) in &there {
        match here.iter().find(|(other, _)| other == key) {
            None => found.add(key, "not asked here"),
            Some((_, other)) => answers(key, exchange, other, found),
        }
    }
    for (key, _) in &here {
        if !there.iter().any(|(other, _)| other == key) {
            found.add(key, "asked here only");
        }
    }
}

fn answers(place: &str, a: &Exchange, b: &Exchange, found: &mut Found) {
    found.unless_same(place, "answers", a.replies.len(), b.replies.len());
    for (a, b) in a.replies.iter().zip(&b.replies) {
        match (a, b) {
            (
                Reply::Rows { columns, rows },
                Reply::Rows {
                    columns: our_columns,
                    rows: our_rows,
                },
            ) => {
                columns_of(place, columns, our_columns, found);
                rows_of(place, rows, our_rows, found);
            }
            (
                Reply::Prepared {
                    parameters,
                    columns,
                },
                Reply::Prepared {
                    parameters: our_parameters,
                    columns: our_columns,
                },
            ) => {
                found.unless_same(place, "parameters", parameters, our_parameters);
                columns_of(place, columns, our_columns, found);
            }
            (Reply::Text(_), Reply::Text(_)) => {}
            (a, b) if a == b => {}
            (a, b) => {
                let (a, b) = (common(&a.to_string()), common(&b.to_string()));
                if a != b {
                    found.add(place, format!("{a}, here {b}"));
                }
            }
        }
    }
}

fn columns_of(
    place: &str,
    columns: &[super::ColumnDef],
    ours: &[super::ColumnDef],
    found: &mut Found,
) {
    found.unless_same(place, "columns", columns.len(), ours.len());
    for (a, b) in columns.iter().zip(ours) {
        let mut a = a.clone();
        a.name = common(&a.name);
        let mut b = b.clone();
        b.name = common(&b.name);
        if a != b {
            found.add(place, format!("column {}: {a:?}, here {b:?}", a.name));
        }
    }
}

type Rows = [Vec<Option<String>>];

fn rows_of(place: &str, rows: &Rows, ours: &Rows, found: &mut Found) {
    let name = |row: &Vec<Option<String>>| row.first().cloned().flatten();
    if rows.len() != ours.len() {
        // Lists are compared by the names of their rows.
        for row in rows {
            let named = name(row).unwrap_or_default();
            match ours.iter().find(|other| name(other) == name(row)) {
                Some(other) => values(place, &named, row, other, found),
                None => found.add(place, format!("not here: {named}")),
            }
        }
        for row in ours {
            if !rows.iter().any(|other| name(other) == name(row)) {
                found.add(
                    place,
                    format!("here only: {}", name(row).unwrap_or_default()),
                );
            }
        }
        // Several of one name.
        let distinct = |rows: &Rows| rows.iter().map(name).collect::<BTreeSet<_>>().len();
        if distinct(rows) < rows.len() || distinct(ours) < ours.len() {
            found.add(place, format!("{} rows, here {}", rows.len(), ours.len()));
        }
        return;
    }
    for (row, other) in rows.iter().zip(ours) {
        let label = if rows.len() == 1 {
            String::new()
        } else {
            name(row).unwrap_or_default()
        };
        values(place, &label, row, other, found);
    }
}

fn values(place: &str, label: &str, a: &[Option<String>], b: &[Option<String>], found: &mut Found) {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (a.as_deref().map(common), b.as_deref().map(common));
        if a != b {
            let label = if label.is_empty() {
                String::new()
            } else {
                format!("{label} ")
            };
            found.add(place, format!("{label}value {i}: {a:?}, here {b:?}"));
        }
    }
}

/// The events of a stream as kinds: type, flags, what is zero, whether an acknowledgement is part of it.
fn kinds(stream: &Stream) -> BTreeSet<String> {
    let kind = |e: &super::StreamedEvent| {
        let mut kind = format!("{} flags {:#x}", e.event_type.name(), e.flags);
        for (zero, name) in [
            (e.timestamp == 0, " timestamp 0"),
            (e.log_pos == 0, " position 0"),
            (e.acknowledge.is_some(), " with a mark for acknowledgements"),
        ] {
            if zero {
                kind.push_str(name);
            }
        }
        if e.event_type == EventType::ROTATE {
            // Header, position, name: what is left is a checksum.
            let name = e.body.get(8..).unwrap_or_default();
            let digits = name.iter().position(|b| *b == b'.').unwrap_or(0) + 7;
            kind.push_str(if name.len() > digits {
                " with checksum"
            } else {
                " without checksum"
            });
        }
        kind
    };
    stream.events.iter().map(kind).collect()
}

fn dumps(reference: &Transcript, ours: &Transcript, found: &mut Found) {
    let request = |t: &Transcript| -> BTreeSet<String> {
        let one = |d: &super::DumpAsked| {
            let command = if d.by_gtid { "by GTID" } else { "by position" };
            let file = if d.file.iter().all(|b| *b == 0) {
                "no file"
            } else {
                "a file"
            };
            format!("{command}, flags {:#x}, {file}", d.flags)
        };
        t.streams().map(|(asked, _)| one(asked)).collect()
    };
    found.unless_same("dump", "asked", request(reference), request(ours));
    let all = |t: &Transcript| -> BTreeSet<String> {
        t.streams().flat_map(|(_, stream)| kinds(stream)).collect()
    };
    let (there, here) = (all(reference), all(ours));
    for kind in there.difference(&here) {
        found.add("dump", format!("not here: {kind}"));
    }
    for kind in here.difference(&there) {
        found.add("dump", format!("here only: {kind}"));
    }
    let first = |t: &Transcript| -> Vec<&'static str> {
        let stream = t.streams().next().map(|(_, s)| s);
        let events = stream.map(|s| s.events.as_slice()).unwrap_or_default();
        events.iter().take(3).map(|e| e.event_type.name()).collect()
    };
    found.unless_same("dump", "first events", first(reference), first(ours));
    let ends = |t: &Transcript| -> BTreeSet<String> {
        let ends = t.streams().filter_map(|(_, s)| s.end.as_ref());
        ends.map(|end| common(&end.to_string())).collect()
    };
    found.unless_same("dump", "ends", ends(reference), ends(ours));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_any_two_servers_is_made_common() {
        let text = "SELECT GTID_SUBTRACT('5710ff26-e5e4-11f1-ac34-02fc00000001:1-12:14', ''), \
                    binlog_gtid_pos('binlog.000002',690), '5710ff26-e5e4-11f1-ac34-02fc00000001'";
        assert_eq!(
            common(text),
            "SELECT GTID_SUBTRACT('<gtids>', ''), binlog_gtid_pos('<file>',<position>), '<uuid>'"
        );
    }

    fn answered(sql: &str, value: &str) -> Transcript {
        let reply = Reply::Rows {
            columns: Vec::new(),
            rows: vec![vec![Some(value.to_owned())]],
        };
        let exchange = Exchange {
            asked: Asked::Query(sql.to_owned()),
            replies: vec![reply],
        };
        let conversation = Conversation {
            exchanges: vec![exchange],
            ..Conversation::default()
        };
        Transcript {
            conversations: vec![conversation],
        }
    }

    #[test]
    fn each_difference_needs_a_reason_and_each_reason_a_difference() {
        let found = differences(&answered("SELECT 1", "1"), &answered("SELECT 1", "2"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(explain(&found, &[]).is_err());
        let reason = Explained {
            place: "SELECT 1",
            what: "value 0",
            reason: "a test",
        };
        assert!(explain(&found, &[reason]).is_ok());
        assert!(explain(&[], &[reason]).is_err(), "it explains nothing");
        let other = differences(&answered("SELECT 1", "1"), &answered("SELECT 2", "1"));
        assert_eq!(other.len(), 2, "{other:?}");
    }
}
