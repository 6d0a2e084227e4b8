//! Statements of nodes that keep names of databases and tables in lower case (`lower_case_table_names` 1).
//!
//! In: a statement as a client wrote it. Out: the same with the names that the node uses. Its rows, and everything that is known of
//! it, have those; and downstream, where case may count, they must be written so.

use super::reader::NameRole;
use super::statement::{Kind, Statement};
use super::unit::Edit;
use crate::lex::quote_name;

/// A name as such a node keeps it: letters that have one small letter get it.
fn folded_name(name: &str) -> String {
    let small = |c: char| {
        let mut lower = c.to_lowercase();
        match (lower.next(), lower.next()) {
            (Some(one), None) => one,
            _ => c,
        }
    };
    name.chars().map(small).collect()
}

impl Statement {
    /// The statement with the names that a node that folds names uses. Names of stored programs, columns and aliases stay.
    #[must_use]
    pub fn folded(self) -> Self {
        let schema = folded_name(&self.schema);
        let program = matches!(self.kind, Kind::Program { .. });
        let mut edits: Vec<Edit> = Vec::new();
        for name in &self.names {
            let own = match program && name.role == NameRole::Program {
                true => name.name.clone(),
                false => folded_name(&name.name),
            };
            let database = name.schema.as_deref().map(folded_name);
            if own == name.name && database == name.schema {
                continue;
            }
            let text = match database {
                Some(database) => format!("{}.{}", quote_name(&database), quote_name(&own)),
                None => quote_name(&own),
            };
            edits.push((self.bytes(&name.tokens), text));
        }
        if let Some(token) = self.database.and_then(|at| self.lexed.tokens.get(at)) {
            let name = crate::lex::unquote_name(token.of(&self.sql));
            let own = folded_name(&name);
            if own != name {
                edits.push((token.range(), quote_name(&own)));
            }
        }
        if edits.is_empty() && schema == self.schema {
            return self;
        }
        self.edited(edits, &schema, self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::Session;

    fn folded(schema: &str, sql: &str) -> (String, String) {
        let statement = Statement::parse(sql, Session::in_schema(schema)).folded();
        (
            statement.default_schema().to_owned(),
            statement.sql().to_owned(),
        )
    }

    #[test]
    fn names_of_databases_and_tables_are_folded_and_nothing_else() {
        for (sql, expected) in [
            ("CREATE DATABASE Shop", "CREATE DATABASE `shop`"),
            (
                "DROP DATABASE IF EXISTS `ÜBER`",
                "DROP DATABASE IF EXISTS `über`",
            ),
            (
                "CREATE TABLE Orders (Id INT COMMENT 'Orders')",
                "CREATE TABLE `orders` (Id INT COMMENT 'Orders')",
            ),
            (
                "ALTER TABLE SHOP . `Orders` ADD COLUMN Orders INT, RENAME TO Old",
                "ALTER TABLE `shop`.`orders` ADD COLUMN Orders INT, RENAME TO `old`",
            ),
            (
                "RENAME TABLE A TO B, c TO `D`",
                "RENAME TABLE `a` TO `b`, c TO `d`",
            ),
            (
                "CREATE VIEW V AS SELECT Id FROM Orders",
                "CREATE VIEW `v` AS SELECT Id FROM `orders`",
            ),
            (
                "CREATE TRIGGER Shop.Counts AFTER INSERT ON Orders FOR EACH ROW SET @a = 1",
                "CREATE TRIGGER `shop`.`Counts` AFTER INSERT ON `orders` FOR EACH ROW SET @a = 1",
            ),
            ("DROP TABLE orders, Lines", "DROP TABLE orders, `lines`"),
            (
                "CREATE TABLE t LIKE Shop.Orders",
                "CREATE TABLE t LIKE `shop`.`orders`",
            ),
            (
                "ALTER TABLE t ADD FOREIGN KEY Fk (A) REFERENCES Orders (Id)",
                "ALTER TABLE t ADD FOREIGN KEY Fk (A) REFERENCES `orders` (Id)",
            ),
        ] {
            assert_eq!(
                folded("Shop", sql),
                ("shop".to_owned(), expected.to_owned())
            );
        }
        let same = "TRUNCATE TABLE orders";
        assert_eq!(folded("", same), (String::new(), same.to_owned()));
        assert_eq!(
            folded_name("İstanbul ß ORDERS 订单"),
            "İstanbul ß orders 订单"
        );
    }
}
