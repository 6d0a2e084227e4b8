//! What a DDL statement does, told from its tokens.
//!
//! In: the text of a Query event, its default database and SQL mode. Out: a [`Statement`]: what kind it is, the tables it
//! names, for tables every change in it; then, with routes, the logical statements it stands for ([`Unit`]). Statements are
//! read by rules on tokens with places in the text, not by a grammar of the whole language: what a rule does not know it
//! passes over, names are found all the same, and no statement fails or vanishes. `sqlparser` serves as a second opinion in
//! the tests: it gives no places of tokens in bytes and reads too little of MySQL's DDL to be the only reader.

mod account;
mod alter;
mod column;
mod create;
mod default;
mod effect;
mod fold;
mod halves;
mod legacy;
mod reader;
mod rewrite;
mod statement;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use account::Privileged;
pub(crate) use alter::AlterAction;
pub use alter::AlterTable;
pub(crate) use column::ColumnDef;
pub use create::CreateTable;
pub(crate) use create::TableOptions;
pub(crate) use default::normalise_default;
pub use effect::Effect;
pub use legacy::{DdlEffect, DdlStatement};
pub use reader::{NameRef, NameRole};
pub use statement::{DatabaseChange, Kind, Session, Statement};
pub use unit::{DdlProblem, Unit, UnitTarget};
