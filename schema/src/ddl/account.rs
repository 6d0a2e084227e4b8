//! What statements about accounts grant privileges on.
//!
//! In: `GRANT` and `REVOKE`. Out: the database, table or stored program they name, and the same statement with another name in
//! its place.

use std::ops::Range;

use super::reader::Reader;
use super::statement::{Kind, Statement};
use crate::lex::quote_name;

/// What privileges are granted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Privileged {
    /// All tables of a database. In the statement the name is a pattern; here it is one that names a single database.
    Database(String),
    /// A table or a view.
    Table(String, String),
    /// A stored program.
    Program(String, String),
}

impl std::fmt::Display for Privileged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(schema) => write!(f, "{schema}.*"),
            Self::Table(schema, name) | Self::Program(schema, name) => write!(f, "{schema}.{name}"),
        }
    }
}

impl Statement {
    /// What the statement grants privileges on, or takes them back from, and its tokens; `None` for global privileges, roles and
    /// all statements that are about accounts alone.
    pub(crate) fn privileged(&self) -> Option<(Privileged, Range<usize>)> {
        if self.kind != Kind::Account {
            return None;
        }
        let mut reader = Reader::new(&self.sql, &self.lexed.tokens, self.mode);
        if !reader.eat_any(&["GRANT", "REVOKE"]) {
            return None;
        }
        reader.eat("IF EXISTS");
        // The other side of this `ON` is an account.
        if reader.is("PROXY") {
            return None;
        }
        while !reader.eat("ON") {
            if reader.at_end() {
                return None;
            }
            if reader.parens().is_none() {
                reader.at += 1;
            }
        }
        let program = reader.eat_any(&["FUNCTION", "PROCEDURE", "LIBRARY"]);
        reader.eat("TABLE");
        let start = reader.at;
        let found = self.object(&mut reader, program)?;
        Some((found, start..reader.at))
    }

    fn object(&self, reader: &mut Reader<'_>, program: bool) -> Option<Privileged> {
        if reader.mark("*") {
            // `*.*`, or all tables of the default database.
            return (!reader.is_mark(".")).then(|| Privileged::Database(self.schema.clone()));
        }
        let first = reader.ident()?;
        let of = |schema: String, name: String| match program {
            true => Privileged::Program(schema, name),
            false => Privileged::Table(schema, name),
        };
        if !reader.mark(".") {
            return Some(of(self.schema.clone(), first));
        }
        if reader.mark("*") {
            return Some(Privileged::Database(
                first.replace("\\_", "_").replace("\\%", "%"),
            ));
        }
        Some(of(first, reader.ident()?))
    }

    /// The statement without a default database, for one that has no use for it.
    pub(crate) fn in_no_schema(&self) -> Self {
        self.edited(Vec::new(), "", self.mode)
    }

    /// The statement with other names in the place of `tokens`, and without a default database, which it has no use for.
    pub(crate) fn with_privileged(&self, tokens: &Range<usize>, on: &Privileged) -> Self {
        let text = match on {
            Privileged::Database(schema) => {
                // An escaped `_` is no pattern, whatever `partial_revokes` is.
                let schema = schema.replace('_', "\\_").replace('%', "\\%");
                format!("{}.*", quote_name(&schema))
            }
            Privileged::Table(schema, name) | Privileged::Program(schema, name) => {
                format!("{}.{}", quote_name(schema), quote_name(name))
            }
        };
        self.edited(vec![(self.bytes(tokens), text)], "", self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::Session;

    fn on(sql: &str) -> Option<(Privileged, String)> {
        let statement = Statement::parse(sql, Session::in_schema("d"));
        assert_eq!(statement.kind, Kind::Account, "{sql}");
        let (on, tokens) = statement.privileged()?;
        let other = match &on {
            Privileged::Database(_) => Privileged::Database("n_w".to_owned()),
            Privileged::Table(..) => Privileged::Table("new".to_owned(), "x`y".to_owned()),
            Privileged::Program(..) => Privileged::Program("new".to_owned(), "p".to_owned()),
        };
        let edited = statement.with_privileged(&tokens, &other);
        assert_eq!(edited.default_schema(), "");
        Some((on, edited.sql().to_owned()))
    }

    #[test]
    fn what_privileges_are_granted_on_is_found_and_replaced() {
        let database = |s: &str| Privileged::Database(s.to_owned());
        let table = |s: &str, t: &str| Privileged::Table(s.to_owned(), t.to_owned());
        for (sql, want, edited) in [
            (
                "GRANT SELECT ON `shop\\_1`.* TO 'on'@'%'",
                database("shop_1"),
                "GRANT SELECT ON `n\\_w`.* TO 'on'@'%'",
            ),
            (
                "grant all on * to a",
                database("d"),
                "grant all on `n\\_w`.* to a",
            ),
            (
                "GRANT SELECT (a, `on`), UPDATE (b) ON TABLE s.t TO u WITH GRANT OPTION",
                table("s", "t"),
                "GRANT SELECT (a, `on`), UPDATE (b) ON TABLE `new`.`x``y` TO u WITH GRANT OPTION",
            ),
            (
                "REVOKE IF EXISTS INSERT ON t FROM u IGNORE UNKNOWN USER",
                table("d", "t"),
                "REVOKE IF EXISTS INSERT ON `new`.`x``y` FROM u IGNORE UNKNOWN USER",
            ),
            (
                "GRANT EXECUTE ON PROCEDURE s . p TO u",
                Privileged::Program("s".to_owned(), "p".to_owned()),
                "GRANT EXECUTE ON PROCEDURE `new`.`p` TO u",
            ),
        ] {
            assert_eq!(on(sql), Some((want, edited.to_owned())), "{sql}");
        }
        for sql in [
            "GRANT ALL ON *.* TO u",
            "GRANT `on` TO u",
            "GRANT PROXY ON 'a'@'b' TO u",
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM u",
            "CREATE USER u IDENTIFIED BY 'x' COMMENT 'ON s.t'",
            "SET DEFAULT ROLE ALL TO u",
            "GRANT",
            "GRANT SELECT ON",
            "GRANT SELECT ON s.",
            "GRANT SELECT (a ON s.t TO u",
        ] {
            assert_eq!(on(sql), None, "{sql}");
        }
    }
}
