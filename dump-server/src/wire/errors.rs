//! The only place with MySQL's error numbers, SQLSTATEs and message texts.
//!
//! In: what went wrong, as facts. Out: an [`SqlError`] as the client sees it. Texts that clients match are MySQL 9.7's
//! own, byte for byte; `docs/errors.md` lists them with what the operator can do.

use std::fmt;

/// Longest message MySQL sends; longer ones are cut (MYSQL_ERRMSG_SIZE).
const MESSAGE_BYTES_MAX: usize = 512;

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SqlError {
    /// MySQL's error number.
    pub code: u16,
    /// SQLSTATE, five characters.
    pub state: &'static str,
    /// The message.
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} ({}): {}", self.code, self.state, self.message)
    }
}

/// ER_SOURCE_FATAL_ERROR_READING_BINLOG: everything that ends a dump.
pub(crate) const DUMP_FATAL: u16 = 1236;

fn error(code: u16, state: &'static str, message: impl Into<String>) -> SqlError {
    let mut message = message.into();
    if message.len() >= MESSAGE_BYTES_MAX {
        let cut = message.floor_char_boundary(MESSAGE_BYTES_MAX - 1);
        message.truncate(cut);
    }
    SqlError {
        code,
        state,
        message,
    }
}

/// 1040: `max_connections` reached.
pub(crate) fn too_many_connections() -> SqlError {
    error(1040, "08004", "Too many connections")
}

/// 1043: the handshake cannot be parsed.
pub(crate) fn bad_handshake() -> SqlError {
    error(1043, "08S01", "Bad handshake")
}

/// 1045: wrong password or unknown user; the two cannot be told apart.
pub(crate) fn access_denied(user: &str, host: &str, with_password: bool) -> SqlError {
    let using = if with_password { "YES" } else { "NO" };
    error(
        1045,
        "28000",
        format!("Access denied for user '{user}'@'{host}' (using password: {using})"),
    )
}

/// 1044: a database that is not for this account.
pub(crate) fn database_denied(user: &str, database: &str) -> SqlError {
    error(
        1044,
        "42000",
        format!("Access denied for user '{user}'@'%' to database '{database}'"),
    )
}

/// 1142: a table that is not for this account.
pub(crate) fn select_denied(user: &str, host: &str, table: &str) -> SqlError {
    error(
        1142,
        "42000",
        format!("SELECT command denied to user '{user}'@'{host}' for table '{table}'"),
    )
}

/// 1347: a table, where a view is asked for.
pub(crate) fn not_a_view(database: &str, table: &str) -> SqlError {
    error(1347, "HY000", format!("'{database}.{table}' is not VIEW"))
}

/// 1047: a command this server does not have.
pub(crate) fn unknown_command() -> SqlError {
    error(1047, "08S01", "Unknown command")
}

/// 1046: an unqualified stored function needs a default database to be looked for. MariaDB replicas probe
/// `binlog_gtid_pos()` and go on when they get this.
pub(crate) fn no_database_selected() -> SqlError {
    error(1046, "3D000", "No database selected")
}

/// 1049: there is no such database.
pub(crate) fn unknown_database(name: &str) -> SqlError {
    error(1049, "42000", format!("Unknown database '{name}'"))
}

/// 1054: there is no such column.
pub(crate) fn unknown_column(name: &str) -> SqlError {
    error(
        1054,
        "42S22",
        format!("Unknown column '{name}' in 'field list'"),
    )
}

/// 1064: the statement cannot be parsed; `near` is the text from the place on.
pub(crate) fn syntax(near: &str) -> SqlError {
    let near = &near[..near.floor_char_boundary(80)];
    error(
        1064,
        "42000",
        format!(
            "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version \
             for the right syntax to use near '{near}' at line 1"
        ),
    )
}

/// 1065: nothing to execute.
pub(crate) fn empty_query() -> SqlError {
    error(1065, "42000", "Query was empty")
}

/// 1094: no connection has this id (here: it may be another node's).
pub(crate) fn unknown_thread(id: u64) -> SqlError {
    error(1094, "HY000", format!("Unknown thread id: {id}"))
}

/// 1095: KILL of another account's connection without ADMIN.
pub(crate) fn not_owner(id: u64) -> SqlError {
    error(1095, "HY000", format!("You are not owner of thread {id}"))
}

/// 1105: something this server does not do or could not do, said in words.
pub(crate) fn other(message: impl Into<String>) -> SqlError {
    error(1105, "HY000", message)
}

/// 3024: a query of the catalog took too long.
pub(crate) fn query_timeout() -> SqlError {
    error(
        3024,
        "HY000",
        "Query execution was interrupted, maximum statement execution time exceeded",
    )
}

/// 1115: unknown character set.
pub(crate) fn unknown_charset(name: &str) -> SqlError {
    error(1115, "42000", format!("Unknown character set: '{name}'"))
}

/// 1141: SHOW GRANTS of an account that is not the session's.
pub(crate) fn no_such_grant(user: &str, host: &str) -> SqlError {
    error(
        1141,
        "42000",
        format!("There is no such grant defined for user '{user}' on host '{host}'"),
    )
}

/// 1146: there is no such table.
pub(crate) fn unknown_table(database: &str, table: &str) -> SqlError {
    error(
        1146,
        "42S02",
        format!("Table '{database}.{table}' doesn't exist"),
    )
}

/// 1109: there is no such table in information_schema.
pub(crate) fn unknown_information_table(table: &str) -> SqlError {
    error(
        1109,
        "42S02",
        format!(
            "Unknown table '{}' in information_schema",
            table.to_uppercase()
        ),
    )
}

/// 1153: the client sent more than this server takes.
pub(crate) fn packet_too_large() -> SqlError {
    error(
        1153,
        "08S01",
        "Got a packet bigger than 'max_allowed_packet' bytes",
    )
}

/// 1156: sequence numbers do not follow each other.
pub(crate) fn packets_out_of_order() -> SqlError {
    error(1156, "08S01", "Got packets out of order")
}

/// 1193: exactly this text says "no semi-sync" to a replica.
pub(crate) fn unknown_variable(name: &str) -> SqlError {
    error(1193, "HY000", format!("Unknown system variable '{name}'"))
}

/// 1243: a prepared statement that is not there.
pub(crate) fn unknown_statement(id: u32, what: &str) -> SqlError {
    error(
        1243,
        "HY000",
        format!("Unknown prepared statement handler ({id}) given to {what}"),
    )
}

/// 1210: parameters of a prepared statement that cannot be decoded.
pub(crate) fn wrong_parameters(what: &str) -> SqlError {
    error(1210, "HY000", format!("Incorrect arguments to {what}"))
}

/// 1421: COM_STMT_FETCH of a statement without a cursor.
pub(crate) fn no_cursor(id: u32) -> SqlError {
    error(
        1421,
        "HY000",
        format!("The statement ({id}) has no open cursor."),
    )
}

/// 1461: a session holds as many prepared statements as it may.
pub(crate) fn too_many_statements(max: usize) -> SqlError {
    error(
        1461,
        "42000",
        format!("Can't create more than max_prepared_stmt_count statements (current value: {max})"),
    )
}

/// 4031: the client was silent for `wait_timeout`.
pub(crate) fn inactive() -> SqlError {
    error(
        4031,
        "HY000",
        "The client was disconnected by the server because of inactivity. See wait_timeout and interactive_timeout \
         for configuring this behavior.",
    )
}

/// 1157: what the client sends compressed cannot be unpacked.
pub(crate) fn bad_compression() -> SqlError {
    error(1157, "08S01", "Couldn't uncompress communication packet")
}

/// 1159: the client stopped in the middle of a packet.
pub(crate) fn read_timeout() -> SqlError {
    error(1159, "08S01", "Got timeout reading communication packets")
}

/// 1220: SHOW BINLOG EVENTS failed.
pub(crate) fn show_binlog_events(reason: &str) -> SqlError {
    error(
        1220,
        "HY000",
        format!("Error when executing command SHOW BINLOG EVENTS: {reason}"),
    )
}

/// 1227: a privilege is missing; `privileges` as MySQL lists them.
pub(crate) fn privilege_needed(privileges: &str) -> SqlError {
    error(
        1227,
        "42000",
        format!(
            "Access denied; you need (at least one of) the {privileges} privilege(s) for this operation"
        ),
    )
}

/// 1229: SET SESSION of a variable that is global only.
pub(crate) fn global_variable(name: &str) -> SqlError {
    error(
        1229,
        "HY000",
        format!("Variable '{name}' is a GLOBAL variable and should be set with SET GLOBAL"),
    )
}

/// 1231: not a value this variable takes.
pub(crate) fn wrong_value(name: &str, value: &str) -> SqlError {
    error(
        1231,
        "42000",
        format!("Variable '{name}' can't be set to the value of '{value}'"),
    )
}

/// 1232: not the type this variable has.
pub(crate) fn wrong_type(name: &str) -> SqlError {
    error(
        1232,
        "42000",
        format!("Incorrect argument type to variable '{name}'"),
    )
}

/// 1235: a statement this server does not serve, named by its class.
pub(crate) fn not_supported(class: &str) -> SqlError {
    error(
        1235,
        "42000",
        format!("This version of MySQL doesn't yet support '{class}'"),
    )
}

/// 1238: the variable has no session (or no global) value, or may not be written.
pub(crate) fn wrong_scope(name: &str, what: &str) -> SqlError {
    error(
        1238,
        "HY000",
        format!("Variable '{name}' is a {what} variable"),
    )
}

/// 1305: there is no such function.
pub(crate) fn unknown_function(database: &str, name: &str) -> SqlError {
    error(
        1305,
        "42000",
        format!("FUNCTION {database}.{name} does not exist"),
    )
}

/// 1373: PURGE BINARY LOGS TO a file that is not there.
pub(crate) fn unknown_purge_target() -> SqlError {
    error(1373, "HY000", "Target log not found in binlog index")
}

/// 1582: wrong number of arguments to a function.
pub(crate) fn wrong_arguments(function: &str) -> SqlError {
    error(
        1582,
        "42000",
        format!("Incorrect parameter count in the call to native function '{function}'"),
    )
}

/// 1772: a GTID set in a statement cannot be parsed.
pub(crate) fn malformed_gtid_set(text: &str) -> SqlError {
    error(
        1772,
        "HY000",
        format!("Malformed GTID set specification '{text}'."),
    )
}

/// 1773: the GTID set of a COM_BINLOG_DUMP_GTID cannot be decoded.
pub(crate) fn malformed_gtid_encoding() -> SqlError {
    error(1773, "HY000", "Malformed GTID set encoding.")
}

/// 1835: a command's payload cannot be parsed.
pub(crate) fn malformed_packet() -> SqlError {
    error(1835, "HY000", "Malformed communication packet.")
}

/// 1236 with any of the texts below.
pub(crate) fn dump_fatal(message: impl Into<String>) -> SqlError {
    error(DUMP_FATAL, "HY000", message)
}

/// 1236 texts that clients match, as MySQL 9.7 writes them.
pub(crate) mod dump_text {
    /// The file named by the client is not in the index (Canal and others match it).
    pub(crate) const UNKNOWN_FILE: &str =
        "Could not find first log file name in binary log index file";
    /// The position lies past the end of the file.
    pub(crate) const PAST_END: &str =
        "Client requested source to start replication from position > file size";
    /// The position lies in the magic number.
    pub(crate) const BEFORE_START: &str =
        "Client requested source to start replication from position < 4";
    /// The client did not say that it knows checksums.
    pub(crate) const CHECKSUM_UNAWARE: &str = "Replica can not handle replication events with the checksum that source is configured to log";
    /// The client has GTIDs of this server that this server does not have.
    pub(crate) const AHEAD: &str = "Replica has more GTIDs than the source has, using the source's SERVER_UUID. This may \
indicate that the the last binary log file was truncated or lost, e.g., after a power failure when sync_binlog != 1. \
The source may have rolled back transactions that were already replicated to the replica. Replicate any transactions \
that source has rolled back from replica to source, and/or commit empty transactions on source to account for \
transactions that have been committed on source but are not included in GTID_EXECUTED.";
    /// Another connection with the same identity took over (fatal to a MySQL replica: it does not retry).
    pub(crate) const DUPLICATE: &str =
        "A replica with the same server_uuid/server_id as this replica has connected to the source";
    /// An event's checksum does not match its bytes.
    pub(crate) const BAD_CHECKSUM: &str = "event read from binlog did not pass crc check";
    /// An event's length is impossible, or the file ends inside it.
    pub(crate) const TRUNCATED: &str =
        "binlog truncated in the middle of event; consider out of disk space on source";
    /// The bytes at this place are no event.
    pub(crate) const BOGUS: &str = "bogus data in log event";
    /// The file cannot be read.
    pub(crate) const IO: &str = "I/O error reading log event";

    /// The client needs transactions that are purged.
    pub(crate) fn purged(sent: &str, missing: &str) -> String {
        let start = "Cannot replicate because the source purged required binary logs. Replicate the missing \
transactions from elsewhere, or provision a new replica from backup. Consider increasing the source's binary log \
expiration period.";
        let full = format!(
            "{start} The GTID set sent by the replica is '{sent}', and the missing transactions are '{missing}'"
        );
        if full.len() < super::MESSAGE_BYTES_MAX {
            return full;
        }
        let short = format!("{start} The missing transactions are '{missing}'");
        if short.len() < super::MESSAGE_BYTES_MAX {
            return short;
        }
        format!(
            "{start} To find the missing purged transactions, see \"@@GLOBAL.GTID_PURGED\" of the source and the \
             manual for GTID_SUBTRACT"
        )
    }

    /// An anonymous transaction cannot be positioned by GTID.
    pub(crate) fn anonymous(file: &str, position: u64) -> String {
        format!(
            "Cannot replicate anonymous transaction when AUTO_POSITION = 1, at file {file}, position {position}."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_where_mysql_cuts_them() {
        let e = dump_fatal(dump_text::AHEAD);
        assert_eq!(e.message.len(), 511);
        assert!(
            e.message.ends_with("not included in GTID_EXECU"),
            "{}",
            e.message
        );
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        let e = other("ä".repeat(400));
        assert!(e.message.len() <= 511 && e.message.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn purged_names_both_sets_while_they_fit() {
        let text = dump_text::purged("a:1", "a:2-4");
        assert!(text.ends_with(
            "The GTID set sent by the replica is 'a:1', and the missing transactions are 'a:2-4'"
        ));
        let long = "x".repeat(600);
        assert!(
            dump_text::purged(&long, "a:2-4").ends_with("The missing transactions are 'a:2-4'")
        );
        assert!(dump_text::purged(&long, &long).contains("GTID_PURGED"));
    }
}
