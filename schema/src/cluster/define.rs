//! What a person says a node's table is like.
//!
//! In: a table of a node and its `CREATE TABLE`, as `SHOW CREATE TABLE` prints it. Out: the definition by which its rows are read; what
//! was known before and is not so.

use super::ClusterSchema;
use crate::history::{Change, Object, diff};
use crate::route::NameCase;

/// Why a definition is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefineError {
    /// Nothing is stored of that node.
    #[error("nothing is known of node {node}; known are: {known}")]
    NoNode {
        /// The node.
        node: String,
        /// Those that are known.
        known: String,
    },
    /// The text defines no table.
    #[error("this is no CREATE TABLE that says what {schema}.{table} is like: `{sql}`")]
    NoTable {
        /// Schema of the table.
        schema: String,
        /// The table.
        table: String,
        /// The beginning of the text.
        sql: String,
    },
}

impl ClusterSchema {
    /// From here on the rows of this table lie as `sql` says. Answers what is different, as lines; the logical table stays as it is.
    ///
    /// # Errors
    /// The node is not known, or the text defines no table.
    pub fn define(
        &mut self,
        node: &str,
        (schema, table): (&str, &str),
        sql: &str,
    ) -> Result<Vec<String>, DefineError> {
        let Some(known) = self.nodes.get(node) else {
            let known: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
            return Err(DefineError::NoNode {
                node: node.to_owned(),
                known: known.join(", "),
            });
        };
        let (schema, table) = match known.case {
            NameCase::Folded => (schema.to_lowercase(), table.to_lowercase()),
            NameCase::Exact => (schema.to_owned(), table.to_owned()),
        };
        let Object::Table(new) = self.definition(node, &schema, &table, sql) else {
            return Err(DefineError::NoTable {
                schema,
                table,
                sql: sql.chars().take(120).collect(),
            });
        };
        let differences = match self.physical(node, &schema, &table) {
            Some(old) => diff(old, &new),
            None => (new.show_create().lines())
                .map(|line| format!("+{line}"))
                .collect(),
        };
        let change = Change::Object(schema, table, Some(Object::Table(new)));
        self.change_physical(node, vec![change]);
        self.version += 1;
        Ok(differences)
    }
}
