//! What a DDL statement does, told from its tokens.
//!
//! In: the text of a Query event and its default database. Out: a [`DdlStatement`]. The text is never parsed as a whole:
//! rules on tokens can not fail on syntax that a newer server accepts.

use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer};

/// When a statement that comes once from every node is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DdlEffect {
    /// Rows of the old shape still fit behind it (create, add, widen, indexes): emitted with the first node that has it.
    Expand,
    /// Rows of the old shape do not fit behind it (drop, rename, truncate): emitted with the last node that has it.
    Contract,
    /// Concerns the node alone (accounts, tablespaces, plugins, system schemas): not emitted.
    NodeLocal,
}

/// A statement, reduced to what the merge needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DdlStatement {
    identity: String,
    effect: DdlEffect,
}

/// Schemas that belong to each server.
const SYSTEM_SCHEMAS: [&str; 5] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "ndbinfo",
];

impl DdlStatement {
    /// The statement of a Query event, given as the event's bytes.
    pub fn of(schema: &[u8], query: &[u8]) -> Self {
        Self::parse(
            &String::from_utf8_lossy(schema),
            &String::from_utf8_lossy(query),
        )
    }

    /// The statement `sql`, run with `schema` as default database (empty = none).
    pub fn parse(schema: &str, sql: &str) -> Self {
        let tokens = Tokenizer::new(&MySqlDialect {}, sql)
            .with_unescape(false)
            .tokenize();
        match tokens {
            Ok(tokens) => {
                let tokens: Vec<Token> = tokens
                    .into_iter()
                    .filter(|t| !matches!(t, Token::Whitespace(_)))
                    .collect();
                Self {
                    identity: identity(schema, &tokens),
                    effect: effect(schema, &tokens),
                }
            }
            // Not even tokens: taken as it stands, once.
            Err(_) => Self {
                identity: format!("{schema}\0{sql}"),
                effect: DdlEffect::Expand,
            },
        }
    }

    /// Equal for the same statement on different nodes: default database and tokens, without comments and white space.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// When it is emitted.
    pub fn effect(&self) -> DdlEffect {
        self.effect
    }
}

fn identity(schema: &str, tokens: &[Token]) -> String {
    let mut text = String::with_capacity(schema.len() + tokens.len() * 6);
    text.push_str(schema);
    for token in tokens {
        text.push('\0');
        match token {
            Token::Word(w) if w.quote_style.is_none() && w.keyword != Keyword::NoKeyword => {
                text.push_str(&w.value.to_ascii_uppercase());
            }
            other => text.push_str(&other.to_string()),
        }
    }
    text
}

/// The unquoted word at `i` in upper case, or an empty text.
fn word(tokens: &[Token], i: usize) -> String {
    match tokens.get(i) {
        Some(Token::Word(w)) if w.quote_style.is_none() => w.value.to_ascii_uppercase(),
        _ => String::new(),
    }
}

fn effect(schema: &str, tokens: &[Token]) -> DdlEffect {
    use DdlEffect::{Contract, Expand, NodeLocal};
    let verb = word(tokens, 0);
    let object = object_of(tokens);
    let node_local_object = matches!(
        object.as_str(),
        "USER"
            | "ROLE"
            | "SERVER"
            | "TABLESPACE"
            | "LOGFILE"
            | "RESOURCE"
            | "INSTANCE"
            | "UNDO"
            | "LIBRARY"
    );
    let node_local_verb = matches!(
        verb.as_str(),
        "GRANT"
            | "REVOKE"
            | "SET"
            | "INSTALL"
            | "UNINSTALL"
            | "FLUSH"
            | "RESET"
            | "ANALYZE"
            | "OPTIMIZE"
            | "REPAIR"
            | "CHECK"
    );
    if node_local_object || node_local_verb || in_system_schema(schema, tokens) {
        return NodeLocal;
    }
    match verb.as_str() {
        "TRUNCATE" | "RENAME" => Contract,
        "DROP" if object == "INDEX" => Expand,
        "DROP" => Contract,
        "ALTER" if object == "TABLE" && alter_contracts(tokens) => Contract,
        _ => Expand,
    }
}

/// The kind of object behind `CREATE`, `ALTER`, `DROP` or `RENAME`, past the words that may stand between.
fn object_of(tokens: &[Token]) -> String {
    let mut i = 1;
    loop {
        let w = word(tokens, i);
        match w.as_str() {
            "OR" | "REPLACE" | "TEMPORARY" | "UNIQUE" | "FULLTEXT" | "SPATIAL" | "ONLINE"
            | "OFFLINE" | "IGNORE" | "DEFAULT" | "EXTERNAL" => i += 1,
            // DEFINER = user@host, ALGORITHM = x, SQL SECURITY x
            "DEFINER" | "ALGORITHM" | "SQL" | "AGGREGATE" => {
                i += 1;
                while i < tokens.len() && !is_object_word(&word(tokens, i)) {
                    i += 1;
                }
            }
            _ => return w,
        }
    }
}

fn is_object_word(w: &str) -> bool {
    matches!(
        w,
        "TABLE"
            | "VIEW"
            | "PROCEDURE"
            | "FUNCTION"
            | "TRIGGER"
            | "EVENT"
            | "DATABASE"
            | "SCHEMA"
            | "INDEX"
    )
}

/// Whether an `ALTER TABLE` takes something away that rows of the old shape have: columns, partitions, the name.
fn alter_contracts(tokens: &[Token]) -> bool {
    let mut depth = 0_i32;
    (0..tokens.len()).any(|i| {
        match tokens.get(i) {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth -= 1,
            _ => {}
        }
        if depth != 0 || i < 3 {
            return false;
        }
        let next = word(tokens, i + 1);
        match word(tokens, i).as_str() {
            "DROP" => !matches!(
                next.as_str(),
                "INDEX" | "KEY" | "PRIMARY" | "FOREIGN" | "CONSTRAINT" | "CHECK" | "DEFAULT"
            ),
            "RENAME" => !matches!(next.as_str(), "INDEX" | "KEY"),
            "TRUNCATE" | "EXCHANGE" | "DISCARD" => next == "PARTITION",
            _ => false,
        }
    })
}

/// Whether the object named first lies in a schema that belongs to the server.
fn in_system_schema(schema: &str, tokens: &[Token]) -> bool {
    let system = |name: &str| SYSTEM_SCHEMAS.iter().any(|s| s.eq_ignore_ascii_case(name));
    let qualified = tokens.windows(3).find_map(|w| match w {
        [Token::Word(database), Token::Period, Token::Word(_)] => Some(database.value.as_str()),
        _ => None,
    });
    match qualified {
        Some(database) => system(database),
        None => system(schema),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect_of(sql: &str) -> DdlEffect {
        DdlStatement::parse("shop", sql).effect()
    }

    #[test]
    fn effects() {
        use DdlEffect::{Contract, Expand, NodeLocal};
        for (sql, want) in [
            ("CREATE TABLE t (id INT PRIMARY KEY)", Expand),
            ("create database shop", Expand),
            ("ALTER TABLE t ADD COLUMN c INT", Expand),
            ("ALTER TABLE t DROP INDEX i", Expand),
            ("ALTER TABLE t ALTER COLUMN c DROP DEFAULT", Expand),
            ("ALTER TABLE t ADD COLUMN `drop` INT", Expand),
            ("ALTER TABLE t DROP COLUMN c", Contract),
            ("ALTER TABLE t DROP c", Contract),
            ("ALTER TABLE t ADD INDEX (c), DROP COLUMN d", Contract),
            ("ALTER TABLE t RENAME TO u", Contract),
            ("ALTER TABLE t RENAME COLUMN a TO b", Contract),
            ("ALTER TABLE t RENAME INDEX a TO b", Expand),
            ("ALTER TABLE t TRUNCATE PARTITION p0", Contract),
            ("DROP TABLE `t` /* generated by server */", Contract),
            ("DROP DATABASE shop", Contract),
            ("DROP INDEX i ON t", Expand),
            ("CREATE UNIQUE INDEX i ON t (c)", Expand),
            ("TRUNCATE TABLE t", Contract),
            ("RENAME TABLE a TO b", Contract),
            (
                "CREATE DEFINER=`a`@`%` SQL SECURITY INVOKER VIEW v AS SELECT 1",
                Expand,
            ),
            ("CREATE DEFINER=`user`@`%` PROCEDURE p() SELECT 1", Expand),
            ("CREATE USER a IDENTIFIED BY 'x'", NodeLocal),
            ("ALTER USER a IDENTIFIED BY 'x'", NodeLocal),
            ("DROP USER IF EXISTS a", NodeLocal),
            ("GRANT ALL ON *.* TO a", NodeLocal),
            ("CREATE TABLE mysql.t (id INT)", NodeLocal),
            ("INSTALL PLUGIN p SONAME 'p.so'", NodeLocal),
        ] {
            assert_eq!(effect_of(sql), want, "{sql}");
        }
        assert_eq!(
            DdlStatement::parse("mysql", "CREATE TABLE t (id INT)").effect(),
            NodeLocal
        );
    }

    #[test]
    fn identity_ignores_layout_and_comments_but_not_meaning() {
        let id = |schema: &str, sql: &str| DdlStatement::parse(schema, sql).identity().to_owned();
        assert_eq!(
            id("shop", "create table T (id int)"),
            id("shop", "CREATE  TABLE T\n(id INT) -- x")
        );
        assert_ne!(
            id("shop", "CREATE TABLE t (id INT)"),
            id("shop", "CREATE TABLE T (id INT)")
        );
        assert_ne!(id("shop", "DROP TABLE t"), id("other", "DROP TABLE t"));
        assert_ne!(
            id("s", "ALTER TABLE t ALTER c SET DEFAULT 'A'"),
            id("s", "ALTER TABLE t ALTER c SET DEFAULT 'a'")
        );
    }

    #[test]
    fn text_that_is_not_sql_is_kept() {
        let s = DdlStatement::parse("shop", "CREATE TABLE 'unterminated");
        assert_eq!(s.effect(), DdlEffect::Expand);
        assert!(s.identity().contains("unterminated"));
    }
}
