//! What can be wrong with a node, by name. In: an error of a collector. Out: its [`TroubleKind`], with what it means and what
//! an operator does about it. `docs/upstream-trouble.md` has the same table; a test compares.

use crate::{
    core::{assemble_error::AssembleError, choice::ChoiceError, resume::ResumeError},
    error::{CollectorError, ConnError},
    wire::{auth::AuthError, reply::ServerError},
};

/// A state of trouble. The order is that of gravity: the greatest is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TroubleKind {
    /// Another server answers than before, with the same data.
    ServerChanged,
    /// The node's clock and ours moved apart at once.
    ClockJump,
    /// Answers take long.
    NodeSlow,
    /// Settings are not those that were checked.
    WrongSettings,
    /// A server of a failover group has transactions that its primary has not.
    ErrantTransactions,
    /// A server of a failover group is writable beside the one that is read.
    TwoPrimaries,
    /// The binlog takes no more, usually because the disk is full.
    BinlogStalled,
    /// A client with our UUID took our dump.
    DumpStolen,
    /// The connection ended while the node lives.
    ConnectionLost,
    /// It accepts connections and says nothing.
    NodeHung,
    /// It cannot be reached.
    NodeDown,
    /// It has no connection left for us.
    TooManyConnections,
    /// Encryption failed.
    Tls,
    /// It does not let us in.
    AccessDenied,
    /// It answered with an error that has no name here.
    NodeError,
    /// What answers is no MySQL server, or bytes were lost on the way.
    BadProtocol,
    /// One address leads to several servers.
    AddressBalanced,
    /// No server of a failover group is its primary.
    NoPrimary,
    /// The new primary of a failover group applies what it had received.
    StillApplying,
    /// Our own disk does not take a transaction that is too large for memory.
    SpoolFull,
    /// It deleted binlogs that were not read.
    BinlogPurged,
    /// It forgot its binlogs and GTIDs.
    BinlogReset,
    /// It lost transactions that were read.
    GtidsLost,
    /// Its binlog cannot be understood, or arrived damaged.
    BadBinlog,
}

/// Name and advice of each kind, in the order of the kinds.
const WORDS: [(TroubleKind, &str, &str); 24] = [
    (
        TroubleKind::ServerChanged,
        "server-changed",
        "Nothing, if the node was moved, restored or failed over on purpose: its GTID sets were compared and go on. Otherwise find out who answers at its address.",
    ),
    (
        TroubleKind::ClockJump,
        "clock-jump",
        "Check NTP on the node and on this machine. The order of transactions does not depend on clocks; lag figures and the commit times written downstream do.",
    ),
    (
        TroubleKind::NodeSlow,
        "node-slow",
        "Look at the node's load and disks, and at the network between it and this machine.",
    ),
    (
        TroubleKind::WrongSettings,
        "wrong-settings",
        "Run the statements that the text names. Sessions keep their own values of binlog_format and binlog_row_image until they reconnect.",
    ),
    (
        TroubleKind::ErrantTransactions,
        "errant-transactions",
        "Before this server may become the primary: commit empty transactions with these GTIDs on the primary (if the changes do not matter), or provision the server anew from the primary.",
    ),
    (
        TroubleKind::TwoPrimaries,
        "two-primaries",
        "Make all servers of the group but the true primary read-only: SET PERSIST super_read_only = ON.",
    ),
    (
        TroubleKind::BinlogStalled,
        "binlog-stalled",
        "Look for 'Disk is full' in the node's error log and free space on the disk of its binlogs; the node tries again once a minute.",
    ),
    (
        TroubleKind::DumpStolen,
        "dump-stolen",
        "Find the other client with SHOW REPLICAS and SHOW PROCESSLIST on the node: usually a second service that runs on a copy of this data directory. Stop it, or give it a data directory of its own.",
    ),
    (
        TroubleKind::ConnectionLost,
        "connection-lost",
        "Nothing, if it happens once: somebody killed the connection, or the network broke it. If it comes back, look at proxies and firewalls that end idle connections.",
    ),
    (
        TroubleKind::NodeHung,
        "node-hung",
        "Look at the node's machine: it accepts connections but does not answer. Restart mysqld, or fail over.",
    ),
    (
        TroubleKind::NodeDown,
        "node-down",
        "Start the node, or repair the network to it; check the address in the configuration.",
    ),
    (
        TroubleKind::TooManyConnections,
        "too-many-connections",
        "Raise max_connections on the node, or look at SHOW PROCESSLIST for who uses them up.",
    ),
    (
        TroubleKind::Tls,
        "tls-failed",
        "Check tls and tls_ca of the node in the configuration, and the node's certificate.",
    ),
    (
        TroubleKind::AccessDenied,
        "access-denied",
        "Set the account's password on the node to the configured one (ALTER USER … IDENTIFIED BY …), or correct the configuration; check that the account is neither locked nor expired.",
    ),
    (
        TroubleKind::NodeError,
        "node-error",
        "Read the node's own words and its error log.",
    ),
    (
        TroubleKind::BadProtocol,
        "bad-protocol",
        "Check that the address is that of a MySQL server and not of a proxy that changes the protocol.",
    ),
    (
        TroubleKind::AddressBalanced,
        "address-balanced",
        "Use an address that always leads to one server: not a load balancer, not a DNS name with several addresses.",
    ),
    (
        TroubleKind::NoPrimary,
        "no-primary",
        "Complete the failover: make one server of the group writable, with replication stopped. It is found by itself.",
    ),
    (
        TroubleKind::StillApplying,
        "still-applying",
        "Wait until the new primary has applied its relay log; if its SQL thread is stopped, start it: START REPLICA SQL_THREAD.",
    ),
    (
        TroubleKind::SpoolFull,
        "spool-full",
        "Free space in this service's data directory; the transaction is then read again from its start.",
    ),
    (
        TroubleKind::BinlogPurged,
        "binlog-purged",
        "Restore the missing binary logs on the node, or let another server of the group that still has them be the primary. Else remove the node and add it again with a new start, and provision downstream anew.",
    ),
    (
        TroubleKind::BinlogReset,
        "binlog-reset",
        "If the node's data are complete, tell it so: RESET BINARY LOGS AND GTIDS, then SET GLOBAL gtid_purged to the GTIDs named here. Else restore the node. What it committed under GTIDs that were read before cannot be told apart: provision downstream anew.",
    ),
    (
        TroubleKind::GtidsLost,
        "gtids-lost",
        "Decide which history is true: bring the transactions back to the node (from its old binlogs or another server), or remove the node, add it again with a new start, and provision downstream anew.",
    ),
    (
        TroubleKind::BadBinlog,
        "bad-binlog",
        "Check the node's file with mysqlbinlog --verify-binlog-checksum. Nothing of the transaction was passed on.",
    ),
];

impl TroubleKind {
    /// All kinds, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        WORDS.iter().map(|(kind, ..)| *kind)
    }

    /// The name that status and metrics show.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// What an operator does about it, in one sentence or two.
    pub fn advice(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        let row = WORDS.get(self as usize);
        row.map_or(("", ""), |(_, name, advice)| (*name, *advice))
    }
}

impl std::fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl CollectorError {
    /// The state it puts the node into.
    pub fn trouble(&self) -> TroubleKind {
        match self {
            Self::Conn(error) => conn(error),
            Self::Settings(_) => TroubleKind::WrongSettings,
            Self::TooManyTables { .. } | Self::TablesChange => TroubleKind::NodeError,
            Self::Resume(ResumeError::Purged { .. }) => TroubleKind::BinlogPurged,
            Self::Resume(ResumeError::Lost { .. }) => TroubleKind::GtidsLost,
            Self::Resume(ResumeError::Reset { .. } | ResumeError::Rewritten { .. })
            | Self::Duplicate { .. }
            | Self::WentBack { .. } => TroubleKind::BinlogReset,
            Self::Assemble(AssembleError::Spool { .. }) => TroubleKind::SpoolFull,
            Self::Assemble(_) => TroubleKind::BadBinlog,
            Self::Answer { .. } => TroubleKind::BadProtocol,
            Self::OtherServer { .. } => TroubleKind::AddressBalanced,
            Self::Choice(error) => match error {
                ChoiceError::NoPrimary { .. } | ChoiceError::Demoted { .. } => {
                    TroubleKind::NoPrimary
                }
                ChoiceError::TwoPrimaries { .. } => TroubleKind::TwoPrimaries,
                ChoiceError::Applying { .. } => TroubleKind::StillApplying,
                ChoiceError::Missing { .. } => TroubleKind::GtidsLost,
                ChoiceError::Errant { .. } => TroubleKind::ErrantTransactions,
            },
        }
    }
}

fn conn(error: &ConnError) -> TroubleKind {
    match error {
        ConnError::Connect { .. } => TroubleKind::NodeDown,
        ConnError::Timeout { .. } => TroubleKind::NodeHung,
        ConnError::Io(_) | ConnError::Closed | ConnError::EndOfStream => {
            TroubleKind::ConnectionLost
        }
        ConnError::TlsNotOffered | ConnError::Tls(_) | ConnError::Ca { .. } => TroubleKind::Tls,
        ConnError::Auth { source, .. } => match source {
            AuthError::Refused(error) => match server(error) {
                TroubleKind::NodeError => TroubleKind::AccessDenied,
                kind => kind,
            },
            AuthError::Plugin(_) | AuthError::PublicKey(_) => TroubleKind::AccessDenied,
            AuthError::Wire(_) => TroubleKind::BadProtocol,
        },
        ConnError::Server { source, .. } => server(source),
        ConnError::Wire(_) => TroubleKind::BadProtocol,
        ConnError::Frame(_) => TroubleKind::BadBinlog,
    }
}

/// By the number of the node's error; 1236 (a dump was refused or ended) by its text.
fn server(error: &ServerError) -> TroubleKind {
    match error.code {
        1040 | 1203 | 1226 => TroubleKind::TooManyConnections,
        // Denied, host not allowed, password expired (twice), account locked, privilege missing.
        1044 | 1045 | 1130 | 1142 | 1227 | 1698 | 1820 | 1862 | 3118 => TroubleKind::AccessDenied,
        1053 => TroubleKind::NodeDown,
        1317 | 1927 | 4031 => TroubleKind::ConnectionLost,
        3 | 1021 | 1026 | 1114 => TroubleKind::BinlogStalled,
        1236 if error.text.contains("same server_uuid/server_id") => TroubleKind::DumpStolen,
        1236 if error.text.contains("purged") => TroubleKind::BinlogPurged,
        _ => TroubleKind::NodeError,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_and_advice_of_its_own_and_stands_in_the_docs() {
        let docs = include_str!("../../../docs/upstream-trouble.md");
        let names: BTreeSet<_> = TroubleKind::all().map(TroubleKind::name).collect();
        assert_eq!(names.len(), WORDS.len());
        for (i, kind) in TroubleKind::all().enumerate() {
            assert_eq!(
                kind as usize, i,
                "the table has another order than the kinds"
            );
            assert!(kind.advice().len() > 30);
            let row = format!("| `{}` |", kind.name());
            assert!(docs.contains(&row), "{row} is not in the docs");
        }
    }

    #[test]
    fn the_nodes_errors_are_told_apart() {
        for (code, text, kind) in [
            (
                1040,
                "Too many connections",
                TroubleKind::TooManyConnections,
            ),
            (1045, "Access denied", TroubleKind::AccessDenied),
            (1862, "Your password has expired", TroubleKind::AccessDenied),
            (1053, "Server shutdown in progress", TroubleKind::NodeDown),
            (
                1317,
                "Query execution was interrupted",
                TroubleKind::ConnectionLost,
            ),
            (
                1236,
                "A replica with the same server_uuid/server_id as this replica has connected to the source; the first",
                TroubleKind::DumpStolen,
            ),
            (
                1236,
                "Cannot replicate because the source purged required binary logs.",
                TroubleKind::BinlogPurged,
            ),
            (
                1236,
                "log event entry exceeded max_allowed_packet",
                TroubleKind::NodeError,
            ),
            (1105, "Unknown error", TroubleKind::NodeError),
        ] {
            let source = ServerError {
                code,
                state: "HY000".into(),
                text: text.into(),
            };
            let error = ConnError::Server {
                doing: "reading the dump",
                source,
            };
            assert_eq!(CollectorError::from(error).trouble(), kind, "{text}");
        }
        let refused = ServerError {
            code: 1699,
            state: "HY000".into(),
            text: "x".into(),
        };
        let auth = ConnError::Auth {
            user: "repl".into(),
            source: AuthError::Refused(refused),
        };
        assert_eq!(conn(&auth), TroubleKind::AccessDenied);
    }
}
