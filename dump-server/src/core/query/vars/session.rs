//! What one session set: user variables and its own values of system variables.
//!
//! In: assignments. Out: the values again, read back by later statements and by the dump. Bounded: a session can hold
//! only so many variables and bytes.

use std::collections::HashMap;

use super::{Charset, Kind, Scope, Variable};
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::ResultCharset;

/// Most user variables of one session.
const USER_VARIABLES_MAX: usize = 1024;

/// Most bytes in one session's user variables.
const USER_BYTES_MAX: usize = 64 << 10;

/// Value of a user variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UserValue {
    /// A whole number.
    Int(i128),
    /// A number with a fraction, as text.
    Decimal(String),
    /// Text.
    Text(String),
}

impl UserValue {
    /// The value as text.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Int(n) => n.to_string(),
            Self::Decimal(text) | Self::Text(text) => text.clone(),
        }
    }
}

/// One session's variables.
#[derive(Debug, Clone)]
pub(crate) struct SessionVars {
    user: HashMap<String, UserValue>,
    user_bytes: usize,
    system: HashMap<&'static str, String>,
    results: ResultCharset,
}

impl SessionVars {
    /// A fresh session of a client with this collation.
    pub(crate) fn new(charset: Charset) -> Self {
        let mut vars = Self {
            user: HashMap::new(),
            user_bytes: 0,
            system: HashMap::new(),
            results: ResultCharset::default(),
        };
        vars.set_names(charset);
        vars
    }

    /// A user variable; names have no case.
    pub(crate) fn user(&self, name: &str) -> Option<&UserValue> {
        self.user.get(&name.to_lowercase())
    }

    /// A user variable as text, by the first of these names that is set.
    pub(crate) fn user_text(&self, names: &[&str]) -> Option<String> {
        names
            .iter()
            .find_map(|n| self.user(n))
            .map(UserValue::to_text)
    }

    /// Sets a user variable; `None` is NULL, which reads like unset.
    ///
    /// # Errors
    /// When the session would hold more than it may.
    pub(crate) fn set_user(
        &mut self,
        name: &str,
        value: Option<UserValue>,
    ) -> Result<(), SqlError> {
        let name = name.to_lowercase();
        if let Some(old) = self.user.remove(&name) {
            self.user_bytes -= name.len() + old.to_text().len();
        }
        let Some(value) = value else { return Ok(()) };
        let bytes = name.len() + value.to_text().len();
        if self.user.len() >= USER_VARIABLES_MAX || self.user_bytes + bytes > USER_BYTES_MAX {
            return Err(errors::other("this session holds too many user variables"));
        }
        self.user_bytes += bytes;
        self.user.insert(name, value);
        Ok(())
    }

    /// The session's own value of a system variable, if it set one.
    pub(crate) fn system(&self, name: &str) -> Option<&str> {
        self.system.get(name).map(String::as_str)
    }

    /// Sets the session's value of a system variable; `None` = back to the server's.
    ///
    /// # Errors
    /// 1229 when it has no session value, 1231 when it cannot hold the value, 1115 for an unknown character set.
    pub(crate) fn set_system(
        &mut self,
        variable: &'static Variable,
        value: Option<&str>,
    ) -> Result<(), SqlError> {
        if variable.scope == Scope::Global {
            return Err(errors::global_variable(variable.name));
        }
        let Some(value) = value else {
            self.system.remove(variable.name);
            return Ok(());
        };
        let mut normal = variable.normalize(value)?;
        match variable.name {
            "character_set_client" | "character_set_connection" => {
                normal = known_charset(value)?.name.to_owned();
            }
            "character_set_results" if !value.is_empty() => {
                let charset = known_charset(value)?;
                self.results = charset.result();
                normal = charset.name.to_owned();
            }
            _ => {}
        }
        if variable.kind == Kind::Text && normal.len() > 1024 {
            return Err(errors::wrong_value(
                variable.name,
                "a value of more than 1024 bytes",
            ));
        }
        self.system.insert(variable.name, normal);
        Ok(())
    }

    /// SET NAMES.
    pub(crate) fn set_names(&mut self, charset: Charset) {
        for name in [
            "character_set_client",
            "character_set_connection",
            "character_set_results",
        ] {
            self.system.insert(name, charset.name.to_owned());
        }
        self.system
            .insert("collation_connection", charset.collation.to_owned());
        self.results = charset.result();
    }

    /// The character set of results.
    pub(crate) fn results(&self) -> ResultCharset {
        self.results
    }

    /// False after SET autocommit=0.
    pub(crate) fn autocommit(&self) -> bool {
        self.system("autocommit") != Some("OFF")
    }
}

fn known_charset(name: &str) -> Result<Charset, SqlError> {
    super::charset_by_name(name).ok_or_else(|| errors::unknown_charset(name))
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;
    use crate::core::query::tests::Still;

    const SERVER: Still = Still {
        clients: Vec::new(),
        semi_sync: false,
        shop: false,
    };

    fn vars() -> SessionVars {
        SessionVars::new(Charset::by_id(255))
    }

    #[test]
    fn user_variables_read_back_whatever_their_case() {
        let mut v = vars();
        v.set_user("Replica_UUID", Some(UserValue::Text("u".into())))
            .unwrap();
        assert_eq!(v.user_text(&["replica_uuid"]).as_deref(), Some("u"));
        assert_eq!(
            v.user_text(&["nothing", "REPLICA_uuid"]).as_deref(),
            Some("u")
        );
        v.set_user("replica_uuid", None).unwrap();
        assert_eq!(v.user_text(&["replica_uuid"]), None);
        assert_eq!(v.user_bytes, 0);
    }

    #[test]
    fn a_session_cannot_fill_the_memory() {
        let mut v = vars();
        let part = UserValue::Text("x".repeat(20 << 10));
        for name in ["a", "b", "c"] {
            v.set_user(name, Some(part.clone())).unwrap();
        }
        assert_eq!(v.set_user("d", Some(part.clone())).unwrap_err().code, 1105);
        v.set_user("a", Some(part))
            .expect("a variable replaces itself");
    }

    #[test]
    fn scopes_and_types_are_checked() {
        let mut v = vars();
        let set =
            |v: &mut SessionVars, name, value| v.set_system(find(name, &SERVER).unwrap(), value);
        assert_eq!(set(&mut v, "server_id", Some("4")).unwrap_err().code, 1229);
        assert_eq!(
            set(&mut v, "net_write_timeout", Some("abc"))
                .unwrap_err()
                .code,
            1232
        );
        assert_eq!(
            set(&mut v, "character_set_results", Some("klingon"))
                .unwrap_err()
                .code,
            1115
        );
        set(&mut v, "autocommit", Some("0")).unwrap();
        assert!(!v.autocommit());
        set(&mut v, "autocommit", None).unwrap();
        assert!(v.autocommit());
        set(&mut v, "character_set_results", Some("utf8")).unwrap();
        assert_eq!(v.results().bytes_per_char, 3);
    }
}
