//! SHOW INDEX.
//!
//! In: tokens, the catalog. Out: a row for each part of an index.

use super::Filter;
use super::tables::{find, some, table_name, texts};
use crate::core::query::eval::Env;
use crate::core::query::tokens::Tokens;
use crate::wire::errors::SqlError;
use crate::wire::resultset::ResultSet;

pub(super) fn indexes(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    if !(t.eat("FROM") || t.eat("IN")) {
        return Err(t.syntax_error());
    }
    let (database, table) = table_name(env, t)?;
    let filter = Filter::parse(t)?;
    let found = find(env, &database, &table)?;
    let mut set = ResultSet::new(texts(&[
        "Table",
        "Non_unique",
        "Key_name",
        "Seq_in_index",
        "Column_name",
        "Collation",
        "Cardinality",
        "Sub_part",
        "Packed",
        "Null",
        "Index_type",
        "Comment",
        "Index_comment",
        "Visible",
        "Expression",
    ]));
    for index in &found.indexes {
        for (i, part) in index.parts.iter().enumerate() {
            let column = found
                .columns
                .iter()
                .find(|c| Some(&c.name) == part.column.as_ref());
            set.push(vec![
                some(&found.name),
                some(if index.unique { "0" } else { "1" }),
                some(&index.name),
                some((i + 1).to_string()),
                part.column.clone(),
                index.sorting(part).map(str::to_owned),
                some("0"),
                part.prefix.map(|n| n.to_string()),
                None,
                // An expression can always be NULL.
                some(if column.is_none_or(|c| c.nullable) {
                    "YES"
                } else {
                    ""
                }),
                some(&index.kind),
                some(""),
                some(&index.comment),
                some(if index.visible { "YES" } else { "NO" }),
                part.expression.clone(),
            ]);
        }
    }
    filter.apply(env, set)
}
