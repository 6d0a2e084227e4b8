//! What a session is, once its user is known.
//!
//! In: the outcome of authentication. Out: the state statements read and change.

use crate::account::Privileges;
use crate::core::query::vars::{Charset, SessionVars};
use crate::wire::command::RegisterReplica;
use crate::wire::{CapabilityFlags, StatusFlags};

/// One authenticated session.
#[derive(Debug, Clone)]
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
    /// TLS version of the connection (`TLSv1.3`), if any.
    pub tls_version: Option<String>,
    /// Negotiated capabilities; COM_SET_OPTION changes them.
    pub capabilities: CapabilityFlags,
    pub(crate) charset: Charset,
}

impl SessionState {
    /// Status flags of replies.
    pub(crate) fn status(&self) -> StatusFlags {
        if self.vars.autocommit() {
            StatusFlags::SERVER_STATUS_AUTOCOMMIT
        } else {
            StatusFlags::empty()
        }
    }

    /// Back to the state right after authentication.
    pub(crate) fn reset(&mut self) {
        self.vars = SessionVars::new(self.charset);
        self.replica = None;
    }

    /// The UUID a replica announced.
    pub(crate) fn replica_uuid(&self) -> Option<String> {
        self.vars
            .user_text(&["replica_uuid", "slave_uuid"])
            .filter(|u| !u.is_empty())
    }
}
