//! What can go wrong while a node is read. In: the errors of the parts. Out: what to do about each
//! ([`ErrorClass`]), and how fast to come back.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;
use tributary_binlog::{FrameError, Gtid};
use tributary_flow::{ErrorClass, SourcePos};

use crate::{
    core::{
        assemble_error::AssembleError,
        backoff::Pace,
        choice::ChoiceError,
        resume::{GtidText, ResumeError},
        settings::SettingsProblem,
    },
    wire::{WireError, auth::AuthError, reply::ServerError},
};

/// Why a connection to a node cannot be made, or ended.
#[derive(Debug, Error)]
pub enum ConnError {
    /// No TCP connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// No answer.
    #[error("no answer within {seconds} s while {doing}")]
    Timeout {
        /// What was going on.
        doing: &'static str,
        /// How long it was waited, seconds.
        seconds: u64,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// The node closed it.
    #[error("the node closed the connection")]
    Closed,
    /// The node ended the dump.
    #[error("the node ended the dump")]
    EndOfStream,
    /// `tls = required`, and the node has none.
    #[error(
        "the node does not offer TLS, but it is required: configure ssl_cert on the node, or set tls = \"preferred\""
    )]
    TlsNotOffered,
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The CA file cannot be used.
    #[error("CA file {path} cannot be used: {reason}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Logging in failed.
    #[error("cannot log in as '{user}': {source}")]
    Auth {
        /// The account.
        user: String,
        /// Why.
        source: AuthError,
    },
    /// The node answered with an error.
    #[error("{doing}: {source}")]
    Server {
        /// What was asked.
        doing: &'static str,
        /// The node's words.
        source: ServerError,
    },
    /// The node's bytes are not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An event arrived damaged.
    #[error(
        "corrupt event in the dump stream: {0}. Check the node's binlog with mysqlbinlog --verify-binlog-checksum, and its disk and network"
    )]
    Frame(#[from] FrameError),
}

impl ConnError {
    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Frame(_) | Self::Wire(WireError::TooLong { .. }) => ErrorClass::Halt,
            _ => ErrorClass::Retry,
        }
    }

    fn pace(&self) -> Pace {
        match self {
            Self::Auth { .. } | Self::Ca { .. } | Self::TlsNotOffered | Self::Tls(_) => Pace::Slow,
            // 1053 = server shutdown in progress, 1317 = the query was interrupted by it.
            Self::Server { source, .. } if !matches!(source.code, 1053 | 1317) => Pace::Slow,
            _ => Pace::Fast,
        }
    }
}

/// All settings of a node that must be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblems(pub Vec<SettingsProblem>);

impl fmt::Display for SettingsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Why a node is not being read.
#[derive(Debug, Error)]
pub enum CollectorError {
    /// The connection.
    #[error(transparent)]
    Conn(#[from] ConnError),
    /// The node is not set up for this.
    #[error("the node's settings must be changed: {0}")]
    Settings(SettingsProblems),
    /// The node cannot go on from where we are.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The stream cannot be understood.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The node sent a transaction twice.
    #[error(
        "the node sent {gtid} again (ending at {pos}): its binlog and its gtid_executed disagree; was RESET BINARY LOGS AND GTIDS run on it?"
    )]
    Duplicate {
        /// Its GTID.
        gtid: Gtid,
        /// Where it ends the second time.
        pos: SourcePos,
    },
    /// An answer that cannot be read.
    #[error("the node's answer to {statement} cannot be read: '{answer}'")]
    Answer {
        /// The statement.
        statement: &'static str,
        /// What came.
        answer: String,
    },
    /// More definitions than can be kept.
    #[error(
        "the definitions of the node's tables have more than {bytes} bytes; leave out databases by giving the account SELECT on \
         those only that flow"
    )]
    TooManyTables {
        /// Bytes that were read.
        bytes: usize,
    },
    /// The node's tables are changed again and again.
    #[error(
        "statements change the node's tables while their definitions are read; this is tried again"
    )]
    TablesChange,
    /// No server of a failover group can be read.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The node's history went back while it was read.
    #[error(
        "the node's binlog or gtid_executed went back while it was read (lost GTIDs: {lost}): RESET BINARY LOGS AND GTIDS was run \
         on it, or it was restored"
    )]
    WentBack {
        /// GTIDs that were in `gtid_executed` a moment ago; empty when only the binlog's end went back.
        lost: GtidText,
    },
    /// Two connections to one address reach different servers.
    #[error(
        "the address leads to different servers (server_uuid {checked}, then {streaming}): a node's address must not be balanced"
    )]
    OtherServer {
        /// UUID of the server that was checked.
        checked: String,
        /// UUID of the server that would be read.
        streaming: String,
    },
}

impl CollectorError {
    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Conn(e) => e.class(),
            Self::Assemble(e) => e.class(),
            Self::Resume(_) | Self::Duplicate { .. } => ErrorClass::Halt,
            Self::Choice(ChoiceError::Missing { .. } | ChoiceError::Errant { .. }) => {
                ErrorClass::Halt
            }
            // Checked again and again until an operator has repaired it; nothing is read before.
            Self::Settings(_)
            | Self::Answer { .. }
            | Self::TooManyTables { .. }
            | Self::TablesChange
            | Self::OtherServer { .. }
            | Self::Choice(_)
            | Self::WentBack { .. } => ErrorClass::Retry,
        }
    }

    /// Whether the node can be asked, without reading anything, if the cause of a halt has gone.
    pub(crate) fn can_be_asked_again(&self) -> bool {
        matches!(self, Self::Resume(_) | Self::Choice(_))
    }

    /// Whether it may be nothing but a node that is behind itself: a semi-synchronous commit is sent to replicas before it
    /// enters `gtid_executed`.
    pub(crate) fn may_be_early(&self) -> bool {
        matches!(
            self,
            Self::Resume(ResumeError::Lost { .. } | ResumeError::Reset { .. })
                | Self::Choice(ChoiceError::Missing { .. })
        )
    }

    pub(crate) fn pace(&self) -> Pace {
        match self {
            Self::Conn(e) => e.pace(),
            Self::Assemble(AssembleError::Spool { .. }) => Pace::Space,
            Self::Assemble(_) | Self::Resume(_) | Self::Choice(_) | Self::WentBack { .. } => {
                Pace::Fast
            }
            _ => Pace::Slow,
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_binlog::EventType;

    use super::*;

    fn server(code: u16) -> CollectorError {
        let source = ServerError {
            code,
            state: "HY000".into(),
            text: "x".into(),
        };
        ConnError::Server {
            doing: "reading the dump",
            source,
        }
        .into()
    }

    #[test]
    fn what_may_go_away_is_tried_again_and_what_could_lose_data_halts() {
        for error in [
            ConnError::Closed.into(),
            ConnError::Timeout {
                doing: "x",
                seconds: 1,
            }
            .into(),
            server(1053),
            server(1040),
            server(1236),
            CollectorError::Settings(SettingsProblems(vec![SettingsProblem::LogBin])),
        ] {
            assert_eq!(error.class(), ErrorClass::Retry, "{error}");
        }
        let pos = SourcePos { file: 1, offset: 4 };
        for error in [
            ConnError::Frame(FrameError::UnknownChecksum(9)).into(),
            AssembleError::Unknown {
                event_type: EventType(105),
                pos,
            }
            .into(),
            AssembleError::Incident {
                message: String::new(),
                pos,
            }
            .into(),
        ] {
            let error: CollectorError = error;
            assert_eq!(error.class(), ErrorClass::Halt, "{error}");
        }
        assert_eq!(server(1053).pace(), Pace::Fast);
        assert_eq!(server(1040).pace(), Pace::Slow);
        let refused = ServerError {
            code: 1045,
            state: "28000".into(),
            text: "Access denied".into(),
        };
        let auth = ConnError::Auth {
            user: "repl".into(),
            source: AuthError::Refused(refused),
        };
        assert_eq!(CollectorError::from(auth).pace(), Pace::Slow);
    }
}
