//! Accounts that may connect: names, password digests, plugins, privileges.
//!
//! In: clear passwords, once. Out: digests to check clients against. The set is replaced as a whole at run time.

use std::collections::HashMap;

use crate::wire::auth::PasswordDigests;
use crate::wire::errors::{self, SqlError};

/// How an account proves its password. MySQL 9 replicas need the first, MariaDB replicas the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthPlugin {
    /// `caching_sha2_password`.
    #[default]
    CachingSha2Password,
    /// `mysql_native_password`.
    MysqlNativePassword,
}

impl AuthPlugin {
    /// The plugin's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::CachingSha2Password => "caching_sha2_password",
            Self::MysqlNativePassword => "mysql_native_password",
        }
    }
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Privileges {
    /// REPLICATION SLAVE: dump the binlog, SHOW BINLOG EVENTS, SHOW REPLICAS.
    pub replication_slave: bool,
    /// REPLICATION CLIENT: SHOW BINARY LOG STATUS, SHOW BINARY LOGS.
    pub replication_client: bool,
    /// ADMIN: KILL others' connections, PURGE, FLUSH; implies REPLICATION CLIENT.
    pub admin: bool,
}

/// A privilege name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown privilege '{0}': use REPLICATION SLAVE, REPLICATION CLIENT or ADMIN")]
pub struct UnknownPrivilege(pub String);

impl Privileges {
    /// Every privilege.
    pub const ALL: Self = Self {
        replication_slave: true,
        replication_client: true,
        admin: true,
    };

    /// Parses the names a configuration lists, whatever their case.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownPrivilege> {
        let mut privileges = Self::default();
        for name in names {
            match name.as_ref().to_ascii_uppercase().as_str() {
                "REPLICATION SLAVE" => privileges.replication_slave = true,
                "REPLICATION CLIENT" => privileges.replication_client = true,
                "ADMIN" => privileges.admin = true,
                _ => return Err(UnknownPrivilege(name.as_ref().to_owned())),
            }
        }
        Ok(privileges)
    }

    /// # Errors
    /// 1227 without REPLICATION SLAVE.
    pub fn need_slave(self) -> Result<(), SqlError> {
        let missing = errors::privilege_needed("REPLICATION SLAVE");
        if self.replication_slave {
            Ok(())
        } else {
            Err(missing)
        }
    }

    /// # Errors
    /// 1227 without REPLICATION CLIENT.
    pub fn need_client(self) -> Result<(), SqlError> {
        let missing = errors::privilege_needed("SUPER, REPLICATION CLIENT");
        if self.replication_client || self.admin {
            Ok(())
        } else {
            Err(missing)
        }
    }

    /// # Errors
    /// 1227 without ADMIN; `privileges` as MySQL names them for the statement.
    pub fn need_admin(self, privileges: &str) -> Result<(), SqlError> {
        if self.admin {
            Ok(())
        } else {
            Err(errors::privilege_needed(privileges))
        }
    }
}

/// One account.
#[derive(Debug, Clone)]
pub struct Account {
    /// User name.
    pub user: String,
    /// How it proves its password.
    pub plugin: AuthPlugin,
    /// What it may do.
    pub privileges: Privileges,
    /// True when it may connect over TLS only (MySQL's `REQUIRE SSL`).
    pub require_tls: bool,
    /// True when a digest is no proof: the client must say the password itself, over TLS or encrypted with the server's key.
    pub full_authentication: bool,
    pub(crate) digests: PasswordDigests,
}

impl Account {
    /// An account; of the password only digests are kept.
    pub fn new(
        user: impl Into<String>,
        password: &str,
        plugin: AuthPlugin,
        privileges: Privileges,
    ) -> Self {
        let digests = PasswordDigests::new(password);
        Self {
            user: user.into(),
            plugin,
            privileges,
            require_tls: false,
            full_authentication: false,
            digests,
        }
    }

    /// The same account, over TLS only (or not).
    #[must_use]
    pub fn with_tls_required(mut self, require_tls: bool) -> Self {
        self.require_tls = require_tls;
        self
    }

    /// The same account, by full authentication of `caching_sha2_password` only (or not): what a MySQL server asks for until
    /// it has the account in its cache.
    #[must_use]
    pub fn with_full_authentication(mut self, full: bool) -> Self {
        self.full_authentication = full;
        self
    }

    /// What an unknown user is checked against: fails like a wrong password.
    pub(crate) fn unknown(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            plugin: AuthPlugin::default(),
            privileges: Privileges::default(),
            require_tls: false,
            full_authentication: false,
            digests: PasswordDigests::impossible(),
        }
    }
}

/// All accounts, by user name.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    by_user: HashMap<String, Account>,
}

impl Accounts {
    /// A set of accounts; of two with one name the later counts.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self {
            by_user: accounts.into_iter().map(|a| (a.user.clone(), a)).collect(),
        }
    }

    /// The account of this user.
    pub fn find(&self, user: &str) -> Option<&Account> {
        self.by_user.get(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_parsed_by_name() {
        let p = Privileges::parse(&["replication slave", "ADMIN"]).unwrap();
        assert!(p.need_slave().is_ok() && p.need_client().is_ok() && p.need_admin("x").is_ok());
        assert!(Privileges::parse(&["SUPER"]).is_err());
        let none = Privileges::default();
        assert_eq!(
            none.need_client().unwrap_err().message,
            "Access denied; you need (at least one of) the SUPER, REPLICATION CLIENT privilege(s) for this operation"
        );
        assert_eq!(none.need_slave().unwrap_err().code, 1227);
    }

    #[test]
    fn passwords_do_not_show() {
        let account = Account::new("u", "s3cret", AuthPlugin::default(), Privileges::ALL);
        assert!(!format!("{account:?}").contains("s3cret"));
        assert!(format!("{account:?}").contains("PasswordDigests(..)"));
    }
}
