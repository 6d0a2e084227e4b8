//! System variables: looking them up, showing them, and what a session set.
//!
//! In: names and scopes as clients write them. Out: values with their types, or MySQL's error for an unknown name or a
//! wrong scope.

mod charset;
mod collations;
mod session;
mod table;

pub(crate) use charset::{Charset, charset_by_collation, charset_by_name, charsets};
pub(crate) use session::{SessionVars, UserValue};

use crate::core::view::ServerView;
use crate::wire::errors::{self, SqlError};

/// The variable that limits the silence of programs, in seconds.
pub(crate) const WAIT_TIMEOUT: &str = "wait_timeout";
/// The variable that limits the wait inside a packet.
pub(crate) const NET_READ_TIMEOUT: &str = "net_read_timeout";
/// The variable that limits the time a client may take nothing.
pub(crate) const NET_WRITE_TIMEOUT: &str = "net_write_timeout";
/// The variable that limits the silence of people.
pub(crate) const INTERACTIVE_TIMEOUT: &str = "interactive_timeout";

/// Type of a variable: how SELECT shows it, and what SET takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unsigned integer.
    Uint,
    /// ON or OFF in SHOW, 1 or 0 in SELECT.
    Bool,
    /// A number with a fraction.
    Double,
    /// Text, enumerations included.
    Text,
}

/// Where a variable has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// For the server.
    Global,
    /// For the server, and for each session.
    Both,
    /// For each session only.
    Session,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Static(&'static str),
    Dynamic(Dynamic),
}

/// Values that depend on the server or the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dynamic {
    Compression,
    ConnectionId,
    ExpireSeconds,
    GtidExecuted,
    GtidPurged,
    HaveSsl,
    Hostname,
    LogBinBasename,
    LogBinIndex,
    MaxBinlogSize,
    MaxConnections,
    Port,
    ServerId,
    ServerUuid,
    SemiSync,
    Timeout,
    Timestamp,
    TlsVersions,
    Version,
}

/// One system variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable {
    /// Name, in lower case.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Scope.
    pub scope: Scope,
    source: Source,
}

/// The scope a statement asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `@@x`: the session's value if there is one.
    Any,
    /// `@@global.x`.
    Global,
    /// `@@session.x`, `@@local.x`.
    Session,
}

/// All variables of this server, by name.
pub(crate) fn all(server: &dyn ServerView) -> impl Iterator<Item = &'static Variable> {
    let semi_sync = server.semi_sync();
    table::VARIABLES
        .iter()
        .filter(move |v| semi_sync || !v.is_semi_sync())
}

/// The variable of this name, whatever its case.
///
/// # Errors
/// 1193 when there is none.
pub(crate) fn find(name: &str, server: &dyn ServerView) -> Result<&'static Variable, SqlError> {
    let lower = name.to_ascii_lowercase();
    let found = table::VARIABLES
        .binary_search_by(|v| v.name.cmp(&lower))
        .ok();
    found
        .and_then(|i| table::VARIABLES.get(i))
        .filter(|v| server.semi_sync() || !v.is_semi_sync())
        .ok_or_else(|| errors::unknown_variable(name))
}

/// What a variable's value depends on.
#[derive(Clone, Copy)]
pub(crate) struct VarContext<'a> {
    /// The server.
    pub server: &'a dyn ServerView,
    /// The session's own values.
    pub session: &'a SessionVars,
    /// The session's connection id.
    pub connection_id: u32,
}

impl Variable {
    /// True for what a server without semi-synchronous replication does not have. A replica takes any row, even `0`, as
    /// "it is spoken here".
    fn is_semi_sync(&self) -> bool {
        self.name.starts_with("rpl_semi_sync_")
    }

    /// The value in the scope asked for, as SHOW VARIABLES writes it.
    ///
    /// # Errors
    /// 1238 when the variable has no value in that scope.
    pub(crate) fn value(&self, asked: Asked, context: VarContext<'_>) -> Result<String, SqlError> {
        match (asked, self.scope) {
            (Asked::Session, Scope::Global) => Err(errors::wrong_scope(self.name, "GLOBAL")),
            (Asked::Global, Scope::Session) => Err(errors::wrong_scope(self.name, "SESSION")),
            (Asked::Global, _) => Ok(self.server_value(context)),
            _ => Ok(self.shown(false, context)),
        }
    }

    /// The value as SHOW VARIABLES (`global` false) or SHOW GLOBAL VARIABLES lists it.
    pub(crate) fn shown(&self, global: bool, context: VarContext<'_>) -> String {
        let own = if global {
            None
        } else {
            context.session.system(self.name)
        };
        own.map_or_else(|| self.server_value(context), str::to_owned)
    }

    fn server_value(&self, context: VarContext<'_>) -> String {
        let server = context.server;
        let dynamic = match self.source {
            Source::Static(text) => return text.to_owned(),
            Source::Dynamic(dynamic) => dynamic,
        };
        match dynamic {
            Dynamic::ConnectionId => context.connection_id.to_string(),
            Dynamic::Compression => server.compression().names(),
            Dynamic::ExpireSeconds => server.expire_after().as_secs().to_string(),
            Dynamic::TlsVersions => server.tls_versions().to_owned(),
            Dynamic::GtidExecuted => server.gtid_executed().to_string(),
            Dynamic::GtidPurged => server.gtid_purged().to_string(),
            Dynamic::HaveSsl => if server.has_tls() { "YES" } else { "DISABLED" }.to_owned(),
            Dynamic::Hostname => "tributary".to_owned(),
            Dynamic::LogBinBasename => server.base_name(),
            Dynamic::LogBinIndex => format!("{}.index", server.base_name()),
            Dynamic::MaxBinlogSize => server.max_binlog_size().to_string(),
            Dynamic::MaxConnections => server.max_connections().to_string(),
            Dynamic::Port => server.port().to_string(),
            Dynamic::ServerId => server.server_id().to_string(),
            Dynamic::ServerUuid => server.server_uuid(),
            Dynamic::SemiSync => "ON".to_owned(),
            Dynamic::Timeout => server.timeout(self.name).as_secs().to_string(),
            Dynamic::Timestamp => {
                let now = server.now_micros();
                format!("{}.{:06}", now / 1_000_000, now % 1_000_000)
            }
            Dynamic::Version => server.version().to_owned(),
        }
    }

    /// Checks a value against the type and brings it to the form SHOW VARIABLES writes.
    ///
    /// # Errors
    /// 1231 when the variable cannot hold it.
    pub(crate) fn normalize(&self, value: &str) -> Result<String, SqlError> {
        let wrong = || errors::wrong_value(self.name, value);
        match self.kind {
            Kind::Text => Ok(value.to_owned()),
            Kind::Uint => match value.parse::<i128>() {
                // MySQL takes the least value for one below it, and warns.
                Ok(n) => Ok(u64::try_from(n.max(0)).map_err(|_| wrong())?.to_string()),
                Err(_) => Err(errors::wrong_type(self.name)),
            },
            Kind::Double => {
                let number: f64 = value.parse().map_err(|_| wrong())?;
                if number.is_finite() {
                    Ok(format!("{number:.6}"))
                } else {
                    Err(wrong())
                }
            }
            Kind::Bool => match value.to_ascii_uppercase().as_str() {
                "1" | "ON" | "TRUE" => Ok("ON".to_owned()),
                "0" | "OFF" | "FALSE" => Ok("OFF".to_owned()),
                _ => Err(wrong()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::query::tests::Still;

    const SERVER: Still = Still {
        clients: Vec::new(),
        semi_sync: false,
        shop: false,
    };

    #[test]
    fn the_table_is_sorted_and_without_repeats() {
        for pair in table::VARIABLES.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{} {}",
                pair[0].name,
                pair[1].name
            );
        }
        assert!(all(&SERVER).count() > 100);
    }

    #[test]
    fn semi_sync_is_spoken_when_it_is_switched_on() {
        for name in [
            "rpl_semi_sync_source_enabled",
            "rpl_semi_sync_master_enabled",
            "skip_replication",
        ] {
            assert_eq!(find(name, &SERVER).unwrap_err().code, 1193);
        }
        let speaks = Still {
            semi_sync: true,
            ..SERVER
        };
        for name in [
            "rpl_semi_sync_source_enabled",
            "RPL_SEMI_SYNC_MASTER_ENABLED",
        ] {
            assert!(find(name, &speaks).is_ok());
        }
    }

    #[test]
    fn what_drivers_ask_at_start_up_is_there() {
        // Connector/J 9.1, mysql_async, PyMySQL, Debezium, Canal, Maxwell, Flink CDC, TiDB DM.
        for name in "auto_increment_increment character_set_client character_set_connection \
            character_set_results character_set_server collation_server collation_connection init_connect \
            interactive_timeout license lower_case_table_names max_allowed_packet net_write_timeout \
            performance_schema sql_mode system_time_zone time_zone transaction_isolation wait_timeout \
            binlog_format binlog_row_image binlog_row_value_options binlog_row_metadata binlog_checksum \
            gtid_mode gtid_purged gtid_executed server_id server_uuid log_bin version net_read_timeout \
            log_replica_updates log_slave_updates binlog_rows_query_log_events character_set_database \
            innodb_lock_wait_timeout lock_wait_timeout hostname"
            .split_whitespace()
        {
            assert!(find(name, &SERVER).is_ok(), "{name}");
        }
        assert!(find("BINLOG_Format", &SERVER).is_ok());
    }

    #[test]
    fn statics_are_normal_values_of_their_type() {
        for v in all(&SERVER) {
            if let Source::Static(text) = v.source {
                assert_eq!(v.normalize(text).as_deref(), Ok(text), "{}", v.name);
            }
        }
    }
}
