//! An `ALTER TABLE` that both expands and contracts is cut in two.
//!
//! In: a statement about logical tables. Out: one or two units.

use super::alter::AlterAction;
use super::effect::{Effect, item_effect};
use super::statement::{Kind, Session, Statement};
use super::unit::{Unit, UnitTarget};
use crate::lex::{TokenKind, unquote_name};
use crate::table::Table;

/// Takes a `RENAME TO` that leads to the same logical table out of an `ALTER TABLE`; `None` when nothing is left.
pub(super) fn without_rename_to_itself(statement: Statement) -> Option<Statement> {
    let Kind::AlterTable(alter) = &statement.kind else {
        return Some(statement);
    };
    let own = statement.resolve(&alter.name);
    let itself = |action: &AlterAction| match action {
        AlterAction::RenameTo(name) => statement.resolve(name) == own,
        _ => false,
    };
    if !alter.items.iter().any(|i| itself(&i.action)) {
        return Some(statement);
    }
    let left: Vec<usize> = (alter.items.iter().enumerate())
        .filter(|(_, i)| !itself(&i.action))
        .map(|(at, _)| at)
        .collect();
    let any = (left.iter()).any(|at| {
        alter
            .items
            .get(*at)
            .is_some_and(|i| i.action != AlterAction::Nothing)
    });
    if any {
        with_items(&statement, &left)
    } else {
        None
    }
}

/// An `ALTER TABLE` with some of its actions.
fn with_items(statement: &Statement, items: &[usize]) -> Option<Statement> {
    let Kind::AlterTable(alter) = &statement.kind else {
        return None;
    };
    let head = alter.head?;
    let end = statement
        .lexed
        .tokens
        .get(head.checked_sub(1)?)?
        .range()
        .end;
    let mut sql = statement.sql.get(..end)?.to_owned();
    for (n, at) in items.iter().enumerate() {
        sql.push_str(if n == 0 { " " } else { ", " });
        let bytes = statement.bytes(&alter.items.get(*at)?.tokens);
        sql.push_str(statement.sql.get(bytes)?);
    }
    let session = Session {
        schema: &statement.schema,
        mode: statement.mode,
    };
    Some(Statement::parse(&sql, session))
}

/// Cuts an `ALTER TABLE` that both expands and contracts in two, if its actions do not depend on each other.
pub(super) fn cut(
    statement: Statement,
    targets: Vec<UnitTarget>,
    old: Option<&Table>,
) -> Vec<Unit> {
    let effect = statement.effect(old);
    if effect == Effect::Both
        && let Some([expand, contract]) = halves(&statement, old)
    {
        return vec![
            Unit::new(expand, Effect::Expand, targets.clone()),
            Unit::new(contract, Effect::Contract, targets),
        ];
    }
    vec![Unit::new(statement, effect, targets)]
}

fn halves(statement: &Statement, old: Option<&Table>) -> Option<[Statement; 2]> {
    let Kind::AlterTable(alter) = &statement.kind else {
        return None;
    };
    alter.head?;
    let (mut expand, mut contract) = (Vec::new(), Vec::new());
    // Names of columns that the contracting half takes away or brings.
    let mut touched = Vec::new();
    for (at, item) in alter.items.iter().enumerate() {
        match item_effect(item, old) {
            None => {
                expand.push(at);
                contract.push(at);
            }
            Some(Effect::Contract) => {
                contract.push(at);
                match &item.action {
                    AlterAction::DropColumn(name) => touched.push(name.to_lowercase()),
                    AlterAction::RenameColumn(from, to) => {
                        touched.extend([from.to_lowercase(), to.to_lowercase()]);
                    }
                    AlterAction::ChangeColumn(from, def, _) => {
                        touched.extend([from.to_lowercase(), def.column.name.to_lowercase()]);
                    }
                    // Behind a rename the second half would not find its table.
                    AlterAction::RenameTo(_) => {}
                    _ => {}
                }
            }
            Some(_) => {
                // A key that is replaced must not be missing in between.
                if matches!(
                    item.action,
                    AlterAction::DropKey(_) | AlterAction::DropPrimaryKey | AlterAction::Unknown
                ) {
                    return None;
                }
                expand.push(at);
            }
        }
    }
    let words = |at: &usize| {
        let tokens = alter
            .items
            .get(*at)
            .map(|i| i.tokens.clone())
            .unwrap_or_default();
        let tokens = statement.lexed.tokens.get(tokens).unwrap_or(&[]);
        tokens
            .iter()
            .filter(|t| matches!(t.kind, TokenKind::Word | TokenKind::Quoted))
            .any(|t| touched.contains(&unquote_name(t.of(&statement.sql)).to_lowercase()))
    };
    let own: Vec<usize> = expand
        .iter()
        .copied()
        .filter(|at| !contract.contains(at))
        .collect();
    if own.iter().any(words) {
        return None;
    }
    Some([
        with_items(statement, &expand)?,
        with_items(statement, &contract)?,
    ])
}
