//! Commands of an authenticated client.
//!
//! In: a command's payload, untrusted. Out: a [`Command`]. Layouts: MySQL's COM_* documentation; replication commands
//! as `sql/rpl_source.cc` reads them.

use super::flags::CapabilityFlags;
use tributary_binlog::GtidSet;

use super::binary::parameters;
use super::cursor::{Cursor, Short};

/// Flag of a dump: send an EOF at the end instead of waiting.
pub(crate) const DUMP_NON_BLOCK: u16 = 0x1;
/// Flag of a dump: heartbeats of version 2 (MySQL ≥ 8.0.26); "annotate rows" for MariaDB-type clients.
pub(crate) const DUMP_HEARTBEAT_V2: u16 = 0x2;

/// A client's command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// COM_QUIT.
    Quit,
    /// COM_INIT_DB: the default database.
    InitDb(String),
    /// COM_QUERY: a statement (attributes dropped).
    Query(String),
    /// COM_STATISTICS.
    Statistics,
    /// COM_PROCESS_KILL.
    ProcessKill(u32),
    /// COM_PING.
    Ping,
    /// COM_SET_OPTION: multi-statements on or off.
    SetOption {
        /// True = on.
        multi_statements: bool,
    },
    /// COM_RESET_CONNECTION.
    ResetConnection,
    /// COM_DEBUG.
    Debug,
    /// COM_CHANGE_USER, to be parsed with the negotiated capabilities.
    ChangeUser(Vec<u8>),
    /// COM_STMT_PREPARE.
    Prepare(String),
    /// COM_STMT_EXECUTE.
    Execute(Execute),
    /// COM_STMT_SEND_LONG_DATA: a piece of a parameter; never answered.
    LongData {
        /// Statement.
        id: u32,
        /// Parameter, from 0.
        parameter: u16,
        /// The piece.
        data: Vec<u8>,
    },
    /// COM_STMT_CLOSE; never answered.
    CloseStatement(u32),
    /// COM_STMT_RESET: drops long data and the cursor.
    ResetStatement(u32),
    /// COM_STMT_FETCH.
    Fetch {
        /// Statement.
        id: u32,
        /// Most rows.
        rows: u32,
    },
    /// COM_REGISTER_SLAVE.
    RegisterReplica(RegisterReplica),
    /// COM_BINLOG_DUMP and COM_BINLOG_DUMP_GTID.
    Dump(DumpCommand),
    /// A command this server does not have.
    Unknown(u8),
}

/// A COM_STMT_EXECUTE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execute {
    /// Statement.
    pub id: u32,
    /// [`CURSOR_READ_ONLY`], [`PARAMETER_COUNT_AVAILABLE`].
    pub flags: u8,
    /// The parameters, which only the statement can tell apart.
    pub parameters: Vec<u8>,
}

/// Flag of COM_STMT_EXECUTE: rows are fetched later.
pub(crate) const CURSOR_READ_ONLY: u8 = 1;
/// Flag of COM_STMT_EXECUTE: the parameters begin with their number (clients with query attributes).
pub(crate) const PARAMETER_COUNT_AVAILABLE: u8 = 8;

/// What a replica says of itself; the password it may send is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegisterReplica {
    /// Its server id.
    pub server_id: u32,
    /// `report_host`.
    pub host: String,
    /// `report_port`.
    pub port: u16,
}

/// A request for the binlog.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DumpCommand {
    /// Flags: [`DUMP_NON_BLOCK`], [`DUMP_HEARTBEAT_V2`]; others are ignored.
    pub flags: u16,
    /// The client's server id; 0 also means "do not wait".
    pub server_id: u32,
    /// File asked for, byte for byte up to the first NUL; empty = the first, or the one the GTIDs ask for.
    pub file: Vec<u8>,
    /// Position in that file.
    pub position: u64,
    /// The client's GTIDs (COM_BINLOG_DUMP_GTID).
    pub gtids: Option<GtidSet>,
}

/// A command that cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// Too short, or lengths that do not fit.
    #[error("malformed command packet")]
    Malformed,
    /// The GTID set of a dump cannot be decoded.
    #[error("malformed GTID set encoding")]
    GtidSet,
}

impl From<Short> for CommandError {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

impl Command {
    /// True for commands that execute statements.
    pub(crate) fn may_take_long(payload: &[u8]) -> bool {
        matches!(payload.first(), Some(0x03 | 0x16 | 0x17))
    }

    /// Parses a command; `caps` are the negotiated ones.
    ///
    /// # Errors
    /// When the payload is malformed.
    pub(crate) fn parse(payload: &[u8], caps: CapabilityFlags) -> Result<Self, CommandError> {
        let mut c = Cursor::new(payload);
        let Ok(code) = c.u8() else {
            return Ok(Self::Unknown(0));
        };
        Ok(match code {
            0x01 => Self::Quit,
            0x02 => Self::InitDb(text(c.rest())),
            0x03 => Self::Query(query_text(&mut c, caps)?),
            0x09 => Self::Statistics,
            0x0c => Self::ProcessKill(c.u32()?),
            0x0d => Self::Debug,
            0x0e => Self::Ping,
            0x11 => Self::ChangeUser(c.rest().to_vec()),
            0x12 => Self::Dump(dump_by_position(&mut c)?),
            0x15 => Self::RegisterReplica(register_replica(&mut c)?),
            0x16 => Self::Prepare(text(c.rest())),
            0x17 => Self::Execute(execute(&mut c)?),
            0x18 => Self::LongData {
                id: c.u32()?,
                parameter: c.u16()?,
                data: c.rest().to_vec(),
            },
            0x19 => Self::CloseStatement(c.u32()?),
            0x1a => Self::ResetStatement(c.u32()?),
            0x1c => Self::Fetch {
                id: c.u32()?,
                rows: c.u32()?,
            },
            0x1b => match c.u16()? {
                0 => Self::SetOption {
                    multi_statements: true,
                },
                1 => Self::SetOption {
                    multi_statements: false,
                },
                _ => Self::Unknown(code),
            },
            0x1e => Self::Dump(dump_by_gtid(&mut c)?),
            0x1f => Self::ResetConnection,
            _ => Self::Unknown(code),
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn query_text(c: &mut Cursor<'_>, caps: CapabilityFlags) -> Result<String, Short> {
    if caps.contains(CapabilityFlags::CLIENT_QUERY_ATTRIBUTES) {
        skip_attributes(c)?;
    }
    Ok(text(c.rest()))
}

/// Query attributes: a count, a set count, and like a prepared statement's parameters types, names and values.
fn skip_attributes(c: &mut Cursor<'_>) -> Result<(), Short> {
    let count = usize::try_from(c.lenenc()?).map_err(|_| Short)?;
    let _sets = c.lenenc()?;
    parameters(c, count, true, &mut Vec::new(), |_| None).map(drop)
}

fn execute(c: &mut Cursor<'_>) -> Result<Execute, Short> {
    let id = c.u32()?;
    let flags = c.u8()?;
    let _iterations = c.u32()?;
    Ok(Execute {
        id,
        flags,
        parameters: c.rest().to_vec(),
    })
}

fn c_name(bytes: &[u8]) -> Vec<u8> {
    Cursor::new(bytes).c_str().to_vec()
}

fn dump_by_position(c: &mut Cursor<'_>) -> Result<DumpCommand, CommandError> {
    let position = u64::from(c.u32()?);
    let flags = c.u16()?;
    let server_id = c.u32()?;
    Ok(DumpCommand {
        flags,
        server_id,
        file: c_name(c.rest()),
        position,
        gtids: None,
    })
}

fn dump_by_gtid(c: &mut Cursor<'_>) -> Result<DumpCommand, CommandError> {
    let flags = c.u16()?;
    let server_id = c.u32()?;
    let name_len = c.u32()? as usize;
    let file = c_name(c.take(name_len)?);
    let position = c.u64()?;
    let set_len = c.u32()? as usize;
    let set = c.take(set_len)?;
    let gtids = GtidSet::decode(set).map_err(|_| CommandError::GtidSet)?;
    Ok(DumpCommand {
        flags,
        server_id,
        file,
        position,
        gtids: Some(gtids),
    })
}

fn register_replica(c: &mut Cursor<'_>) -> Result<RegisterReplica, CommandError> {
    let server_id = c.u32()?;
    let host = text(c.short_str()?);
    let _user = c.short_str()?;
    let _password = c.short_str()?;
    let port = c.u16()?;
    // Rank and source id follow; both are 0 and unused.
    Ok(RegisterReplica {
        server_id,
        host,
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: CapabilityFlags = CapabilityFlags::empty();

    fn parse(payload: &[u8]) -> Command {
        Command::parse(payload, PLAIN).unwrap()
    }

    #[test]
    fn a_mysql_9_replica_registers() {
        let payload = b"\x15\xca\0\0\0\0\0\0\xfb3\0\0\0\0\0\0\0\0";
        let expected = RegisterReplica {
            server_id: 202,
            host: String::new(),
            port: 13307,
        };
        assert_eq!(parse(payload), Command::RegisterReplica(expected));
    }

    #[test]
    fn file_names_end_at_the_first_nul() {
        // zongji adds a NUL; python-mysql-replication sends three NULs as name of a GTID dump.
        let mut payload = vec![0x12, 4, 0, 0, 0, 0, 0, 77, 0, 0, 0];
        payload.extend_from_slice(b"mysql-bin.000002\0");
        let Command::Dump(dump) = parse(&payload) else {
            panic!()
        };
        assert_eq!(dump.file, b"mysql-bin.000002");
        assert_eq!((dump.position, dump.server_id, dump.gtids), (4, 77, None));
        let mut payload = vec![0x1e, 5, 0, 9, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
        payload.extend_from_slice(&4u64.to_le_bytes());
        payload.extend_from_slice(&8u32.to_le_bytes());
        payload.extend_from_slice(&0u64.to_le_bytes());
        let Command::Dump(dump) = parse(&payload) else {
            panic!()
        };
        assert_eq!((dump.file.len(), dump.flags), (0, 5));
        assert!(dump.gtids.unwrap().is_empty());
    }

    #[test]
    fn debeziums_gtid_set_is_decoded() {
        let hex = "01000000000000005710ff26e5e411f1ac3402fc00000001\
                   010000000000000001000000000000000c00000000000000";
        let set: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let mut payload = vec![0x1e, 0, 0, 0xf0, 0x4e, 1, 0, 0, 0, 0, 0];
        payload.extend_from_slice(&4u64.to_le_bytes());
        payload.extend_from_slice(&(set.len() as u32).to_le_bytes());
        payload.extend_from_slice(&set);
        let Command::Dump(dump) = parse(&payload) else {
            panic!()
        };
        assert_eq!(dump.server_id, 85744);
        assert_eq!(
            dump.gtids.unwrap().to_string(),
            "5710ff26-e5e4-11f1-ac34-02fc00000001:1-11"
        );
    }

    #[test]
    fn query_attributes_are_skipped_whatever_their_types() {
        let caps = CapabilityFlags::CLIENT_QUERY_ATTRIBUTES;
        let query = |p: &[u8]| Command::parse(p, caps);
        assert_eq!(
            query(b"\x03\0\x01SELECT 1"),
            Ok(Command::Query("SELECT 1".into()))
        );
        // Two attributes, the second NULL: n1='v' (VAR_STRING), n2=NULL (LONGLONG).
        let mut p = vec![3, 2, 1, 0b10, 1];
        p.extend_from_slice(b"\xfd\0\x02n1\x08\0\x02n2\x01vSELECT 2");
        assert_eq!(query(&p), Ok(Command::Query("SELECT 2".into())));
        assert_eq!(query(b"\x03\x09\x01"), Err(CommandError::Malformed));
    }

    #[test]
    fn short_commands_are_malformed_as_in_mysql() {
        for p in [
            &b"\x12\x01"[..],
            b"\x1e\x01",
            b"\x15\x01",
            b"\x1e\0\0\x01\0\0\0\x88\x13\0\0a",
        ] {
            assert_eq!(Command::parse(p, PLAIN), Err(CommandError::Malformed));
        }
        let mut p = vec![0x1e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        p.extend_from_slice(&4u64.to_le_bytes());
        p.extend_from_slice(&1u32.to_le_bytes());
        p.push(1);
        assert_eq!(Command::parse(&p, PLAIN), Err(CommandError::GtidSet));
        assert_eq!(parse(b""), Command::Unknown(0));
        assert_eq!(parse(b"\x1b\x07\0"), Command::Unknown(0x1b));
    }

    proptest! {
        #[test]
        fn any_payload_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::parse(&bytes, PLAIN);
            let _ = Command::parse(&bytes, CapabilityFlags::CLIENT_QUERY_ATTRIBUTES);
        }
    }
}
