//! What a session is, once its user is known.
//!
//! In: the outcome of authentication. Out: the state statements read and change.

use super::auth::AuthFlow;
use super::prepared::Statements;
use super::{ConnectionFacts, Encryption};
use crate::account::Privileges;
use crate::core::query::vars::{self, Charset, SessionVars};
use crate::wire::command::RegisterReplica;
use crate::wire::compress::Algorithm;
use crate::wire::{CapabilityFlags, StatusFlags};

/// One authenticated session.
#[derive(Debug)]
pub(crate) struct SessionState {
    /// Connection id.
    pub connection_id: u32,
    /// User name.
    pub user: String,
    /// Client's address without its port.
    pub host: String,
    /// Default database, accepted whatever it is.
    pub database: Option<String>,
    /// What the account may do.
    pub privileges: Privileges,
    /// User and system variables.
    pub vars: SessionVars,
    /// What a replica said of itself.
    pub replica: Option<RegisterReplica>,
    /// `program_name` of the connection attributes.
    pub(crate) program: Option<String>,
    /// `_client_name` of the connection attributes.
    pub(crate) library: Option<String>,
    /// How the connection is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// Negotiated capabilities; COM_SET_OPTION changes them.
    pub capabilities: CapabilityFlags,
    /// Compression both sides agreed on.
    pub compression: Option<Algorithm>,
    /// Prepared statements.
    pub statements: Statements,
    /// True between START TRANSACTION and its end: drivers look at the flag.
    pub in_transaction: bool,
    pub(crate) charset: Charset,
}

impl SessionState {
    /// The state right after authentication.
    pub(super) fn new(
        facts: &ConnectionFacts,
        encryption: Option<Encryption>,
        flow: AuthFlow,
    ) -> Self {
        let (response, account) = flow.into_parts();
        let charset = Charset::by_id(response.collation);
        let capabilities = response.capabilities & facts.offered;
        let mut state = Self {
            connection_id: facts.id,
            user: account.user,
            host: facts.host.clone(),
            database: response.database,
            privileges: account.privileges,
            vars: SessionVars::new(charset),
            replica: None,
            program: response.program,
            library: response.library,
            encryption,
            capabilities,
            compression: Algorithm::negotiated(capabilities, response.zstd_level),
            statements: Statements::default(),
            in_transaction: false,
            charset,
        };
        state.reset();
        state
    }

    /// Status flags of replies.
    pub(crate) fn status(&self) -> StatusFlags {
        let mut status = StatusFlags::empty();
        status.set(
            StatusFlags::SERVER_STATUS_AUTOCOMMIT,
            self.vars.autocommit(),
        );
        status.set(StatusFlags::SERVER_STATUS_IN_TRANS, self.in_transaction);
        status
    }

    /// Back to the state right after authentication; the default database stays, as in MySQL.
    pub(crate) fn reset(&mut self) {
        self.vars = SessionVars::new(self.charset);
        self.replica = None;
        self.statements = Statements::default();
        self.in_transaction = false;
    }

    /// The name of the variable that limits this client's silence: people may be silent for longer.
    pub(crate) fn silence_variable(&self) -> &'static str {
        let people = self
            .capabilities
            .contains(CapabilityFlags::CLIENT_INTERACTIVE);
        match people && self.vars.system(vars::WAIT_TIMEOUT).is_none() {
            true => vars::INTERACTIVE_TIMEOUT,
            false => vars::WAIT_TIMEOUT,
        }
    }

    /// What VERSION() says to this client. mariadb-binlog takes only the major versions 5, 10 and 11, and uses the answer for
    /// nothing else; with 5 it reads MySQL's events.
    pub(crate) fn version_shown(&self, announced: &str) -> String {
        let binlog_tool = self.program.as_ref().is_some_and(|p| p.ends_with("binlog"));
        if binlog_tool && self.library.as_deref() == Some("libmariadb") {
            format!("5.7.44-{announced}")
        } else {
            announced.to_owned()
        }
    }

    /// The UUID a replica announced.
    pub(crate) fn replica_uuid(&self) -> Option<String> {
        self.vars
            .user_text(&["replica_uuid", "slave_uuid"])
            .filter(|u| !u.is_empty())
    }
}
