//! Statements about accounts, where they flow.
//!
//! In: such statements of the nodes. Out: those of one node, with the names of the logical databases and tables. The nodes' texts
//! cannot be told to be the same (each has salts of its own for one password), and an account need not be on every
//! node: as of tables that all nodes have copies of, one node's are taken.

use super::ddl::{Emitted, Run, SourceStatement};
use super::{ClusterSchema, Name};
use crate::ddl::{Privileged, Statement};
use crate::history::Moment;
use crate::route::{NameCase, Routed, RoutedSchema};

impl ClusterSchema {
    /// What is written for a statement about accounts.
    pub(super) fn account_statement(
        &mut self,
        source: &SourceStatement<'_>,
        statement: &Statement,
        at: Moment,
    ) -> Vec<Emitted> {
        let flows = self.source_of_accounts() == source.node;
        let routed = flows.then(|| self.routed_privileges(source.node, statement));
        let Some(Some(statement)) = routed else {
            return self.local_statement();
        };
        let mut run = Run::new(at, *source);
        self.emit(statement, &mut run);
        run.out
    }

    /// The node whose accounts are taken: the first by name, as long as it is there.
    fn source_of_accounts(&mut self) -> String {
        let first = self.nodes.keys().next().cloned().unwrap_or_default();
        self.source_of_copies(&Name::default(), &first)
    }

    /// The statement with the logical names of what it grants privileges on; `None` when that does not flow.
    fn routed_privileges(&mut self, node: &str, statement: &Statement) -> Option<Statement> {
        let Some((on, tokens)) = statement.privileged() else {
            return Some(statement.in_no_schema());
        };
        let case = self.nodes.get(node).map(|n| n.case).unwrap_or_default();
        let on = self.routed_privilege(on, case)?;
        Some(statement.with_privileged(&tokens, &on))
    }

    fn routed_privilege(&mut self, on: Privileged, case: NameCase) -> Option<Privileged> {
        let routes = &self.rules.routes;
        let schema = |schema: String| match routes.route_schema(&schema, case) {
            RoutedSchema::Logical(to) => Some(to),
            RoutedSchema::Identity => Some(schema),
            RoutedSchema::Ignored if crate::route::is_system_schema(&schema) => Some(schema),
            // Privileges on all of it would be on more than its tables.
            RoutedSchema::Ignored | RoutedSchema::Several(_) => None,
        };
        let routed = match on.clone() {
            Privileged::Database(name) => schema(name).map(Privileged::Database),
            Privileged::Program(of, name) => schema(of).map(|of| Privileged::Program(of, name)),
            Privileged::Table(of, name) => match routes.route(&of, &name, case) {
                Routed::Logical { schema, table } | Routed::Broadcast { schema, table } => {
                    Some(Privileged::Table(schema, table))
                }
                Routed::Ignored if !crate::route::is_system_schema(&of) => None,
                Routed::Identity | Routed::Ignored => Some(Privileged::Table(of, name)),
            },
        };
        if routed.is_none() {
            self.notes.push(format!(
                "privileges on {on} are not carried over: it does not flow, or its tables go to several databases"
            ));
        }
        routed
    }
}
