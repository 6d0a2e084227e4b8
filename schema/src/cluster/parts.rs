//! Which physical tables make up a logical one.
//!
//! In: what is known of the nodes' tables, and the routes. Out: participants: who must have a statement before all have it.

use std::collections::BTreeSet;

use super::{ClusterSchema, Name};
use crate::ddl::{Kind, Unit};
use crate::history::{Change, Object};
use crate::pending::Participant;
use crate::route::{Routed, RoutedSchema};

pub(super) fn participant(node: &str, schema: &str, table: &str) -> Participant {
    Participant {
        node: node.to_owned(),
        schema: schema.to_owned(),
        table: table.to_owned(),
    }
}

impl ClusterSchema {
    /// The logical table of a physical one, and whether it is one of several copies; `None` if it does not flow.
    pub(super) fn logical_of(&self, node: &str, schema: &str, table: &str) -> Option<(Name, bool)> {
        if !self.aliases.is_empty() {
            let who = participant(node, schema, table);
            if let Some(name) = self.aliases.get(&who) {
                return Some((name.clone(), false));
            }
        }
        self.route(node, schema, table)
    }

    /// Where the routes send a physical table.
    pub(super) fn route(&self, node: &str, schema: &str, table: &str) -> Option<(Name, bool)> {
        let case = self.nodes.get(node).map(|n| n.case).unwrap_or_default();
        match self.rules.routes.route(schema, table, case) {
            Routed::Logical { schema, table } => Some(((schema, table), false)),
            Routed::Broadcast { schema, table } => Some(((schema, table), true)),
            Routed::Identity => Some(((schema.to_owned(), table.to_owned()), false)),
            Routed::Ignored => None,
        }
    }

    /// The node whose copy of a table is taken: the first one that was seen to have it.
    pub(super) fn source_of_copies(&mut self, logical: &Name, node: &str) -> String {
        if let Some(source) = self.copies.get(logical) {
            return source.clone();
        }
        self.copies.insert(logical.clone(), node.to_owned());
        self.store_source(logical, Some(node));
        node.to_owned()
    }

    /// Applies changes to what is known of a node's tables.
    pub(super) fn change_physical(&mut self, node: &str, changes: Vec<Change>) {
        for change in &changes {
            self.store_physical(node, change);
            let Change::Object(schema, table, object) = change else {
                continue;
            };
            let is_table = matches!(object, Some(Object::Table(_) | Object::Opaque(_)));
            self.index(&participant(node, schema, table), is_table);
        }
        self.node(node).catalog.replace_now(changes);
    }

    /// Puts a physical table where it belongs, or nowhere.
    pub(super) fn index(&mut self, who: &Participant, exists: bool) {
        if let Some(before) = self.placed.remove(who)
            && let Some(parts) = self.parts.get_mut(&before)
        {
            parts.remove(who);
            if parts.is_empty() {
                self.parts.remove(&before);
            }
        }
        if exists && let Some((logical, _)) = self.logical_of(&who.node, &who.schema, &who.table) {
            self.placed.insert(who.clone(), logical.clone());
            self.parts.entry(logical).or_default().insert(who.clone());
        }
    }

    /// Everyone who must have a statement about a logical table; for statements without tables the databases.
    pub(super) fn everyone_of(&self, schema: &str, table: &str) -> Vec<Participant> {
        if table.is_empty() {
            return self.databases_of(schema, false);
        }
        let name = (schema.to_owned(), table.to_owned());
        let known = self.parts.get(&name).into_iter().flatten().cloned();
        let mut all: BTreeSet<Participant> = known.collect();
        if let Some(source) = self.copies.get(&name) {
            all.retain(|p| p.node == *source);
        } else if self.may_be_own(schema, table) {
            let unknown = self.nodes.iter().filter(|(_, n)| !n.complete);
            all.extend(unknown.map(|(node, _)| participant(node, schema, table)));
        }
        all.into_iter().collect()
    }

    /// Whether a physical table of this name would keep it.
    fn may_be_own(&self, schema: &str, table: &str) -> bool {
        let routed = self.rules.routes.route(schema, table, Default::default());
        routed == Routed::Identity
    }

    /// The databases of all nodes whose tables go to the logical database.
    fn databases_of(&self, logical: &str, unknown: bool) -> Vec<Participant> {
        let mut all = BTreeSet::new();
        for (node, known) in &self.nodes {
            for (schema, _) in known.catalog.schemas(u64::MAX) {
                let goes = match self.rules.routes.route_schema(schema, known.case) {
                    RoutedSchema::Logical(to) => to == logical,
                    RoutedSchema::Identity => schema == logical,
                    _ => false,
                };
                if goes {
                    all.insert(participant(node, schema, ""));
                }
            }
            if (unknown || !known.complete)
                && self.rules.routes.route_schema(logical, known.case) == RoutedSchema::Identity
            {
                all.insert(participant(node, logical, ""));
            }
        }
        all.into_iter().collect()
    }

    /// Who has a unit of a statement, and everyone who must have it.
    pub(super) fn concerned(&self, node: &str, unit: &Unit) -> (Participant, Vec<Participant>) {
        let creates = matches!(
            unit.statement.kind,
            Kind::CreateTable(_) | Kind::CreateDatabase(..)
        );
        let catalog = self.nodes.get(node).map(|n| &n.catalog);
        let Some(target) = unit.targets.first() else {
            let schema = unit.schema.as_str();
            let case = self.nodes.get(node).map(|n| n.case).unwrap_or_default();
            let logical = match self.rules.routes.route_schema(schema, case) {
                RoutedSchema::Logical(to) => to,
                _ => schema.to_owned(),
            };
            let known = catalog.is_some_and(|c| c.schemas(u64::MAX).any(|(s, _)| s == schema));
            let all = self.databases_of(&logical, !known && !creates);
            return (participant(node, schema, ""), all);
        };
        let (schema, table) = (&target.physical.0, &target.physical.1);
        let who = participant(node, schema, table);
        let known = catalog.is_some_and(|c| c.object(schema, table, u64::MAX).is_some());
        let mut all = self.everyone_of(&target.logical.0, &target.logical.1);
        if target.broadcast {
            // Nobody waits for the other copies.
            all.retain(|p| p.node == node);
        }
        if !known && !creates && target.physical == target.logical && !target.broadcast {
            // A table that was made behind the log's back: nothing is known of the other nodes' either.
            let others = self.nodes.keys().map(|n| participant(n, schema, table));
            let more: Vec<Participant> = others.filter(|p| !all.contains(p)).collect();
            all.extend(more);
        }
        (who, all)
    }
}
