//! What a MySQL replica makes of the merged stream, as strict as one.

use std::collections::BTreeMap;

use tributary_binlog::QueryEvent;
use tributary_flow::{GlobalTxn, OrderKey};
use tributary_schema::{Collation, History, Kind, Layout, Moment, Session, Statement, Table};

use super::rows::{self, Row, Said, Value};

type Name = (String, String);

/// Tables and rows, by id.
#[derive(Default)]
pub(crate) struct Replica {
    history: Option<History>,
    rows: BTreeMap<Name, BTreeMap<i64, Row>>,
}

pub(crate) fn id(row: &Row) -> i64 {
    match row.get("id") {
        Some(Value::Int(id)) => *id,
        other => panic!("{other:?}"),
    }
}

impl Replica {
    pub(crate) fn apply(&mut self, gno: u64, txn: &GlobalTxn) -> Result<(), String> {
        for part in &txn.parts {
            let mut maps: BTreeMap<u64, (Name, Table)> = BTreeMap::new();
            let mut open = false;
            for chunk in part.chunks() {
                let chunk = chunk.map_err(|e| e.to_string())?;
                for raw in rows::events(&chunk) {
                    match rows::read(&raw?)? {
                        Said::Query(body) => self.query(gno, body)?,
                        Said::Text => open = true,
                        Said::Map(map) => {
                            let (name, table) = self.map(&map)?;
                            maps.insert(map.table_id, (name, table));
                            open = true;
                        }
                        Said::Rows(rows) => {
                            let (name, table) =
                                maps.get(&rows.table_id).ok_or("rows without a table map")?;
                            self.rows(name, &rows::changes(table, &rows)?)?;
                            open = !rows.is_stmt_end();
                            if !open {
                                maps.clear();
                            }
                        }
                    }
                }
            }
            if open {
                return Err("a statement does not end".into());
            }
        }
        Ok(())
    }

    /// The table a map is for: what it says must be what the replica has.
    fn map(&self, map: &tributary_binlog::TableMap<'_>) -> Result<(Name, Table), String> {
        let name = (
            String::from_utf8_lossy(map.schema).into_owned(),
            String::from_utf8_lossy(map.table).into_owned(),
        );
        let history = self.history.as_ref().ok_or("rows before any table")?;
        let table = history.table(&name.0, &name.1, u64::MAX);
        let table = table.ok_or_else(|| format!("there is no table {name:?}"))?;
        let known = Layout::of_event(map, Some(table)).map_err(|e| e.to_string())?;
        let mut own = Layout::of_table(table);
        own.full = known.full;
        let body = |layout: &Layout| layout.table_map(1, 1, map.schema, map.table);
        if body(&known) != body(&own) {
            return Err(format!("rows of {known:?}\nfor the table {own:?}"));
        }
        Ok((name, table.clone()))
    }

    fn rows(&mut self, name: &Name, changes: &[rows::Change]) -> Result<(), String> {
        let table = self.rows.entry(name.clone()).or_default();
        for (before, after) in changes {
            if let Some(before) = before
                && table.remove(&id(before)).is_none()
            {
                return Err(format!("{name:?}: there is no row {before:?}"));
            }
            if let Some(after) = after
                && let Some(there) = table.insert(id(after), after.clone())
            {
                return Err(format!("{name:?}: {after:?} is there: {there:?}"));
            }
        }
        Ok(())
    }

    fn query(&mut self, gno: u64, body: &[u8]) -> Result<(), String> {
        let query = QueryEvent::parse(body).map_err(|e| e.to_string())?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (schema, sql) = (text(query.schema), text(query.query));
        let wrong = |why: String| format!("{sql} (in {schema}): {why}");
        let statement = Statement::parse(&sql, Session::in_schema(&schema));
        let history = self
            .history
            .get_or_insert_with(|| History::new(Collation::DEFAULT));
        let there = |name: &tributary_schema::NameRef| {
            let (s, t) = statement.resolve(name);
            history.object(s, t, u64::MAX).is_some()
        };
        match &statement.kind {
            Kind::CreateTable(create) if there(&create.name) => {
                return Err(wrong("exists".into()));
            }
            Kind::CreateTable(create) => {
                let schema = statement.resolve(&create.name).0;
                if history.schemas(u64::MAX).all(|(s, _)| s != schema) {
                    return Err(wrong("there is no such database".into()));
                }
            }
            Kind::CreateDatabase(name, ..) if history.schemas(u64::MAX).any(|(s, _)| s == name) => {
                return Err(wrong("exists".into()));
            }
            Kind::DropTable { names, .. } if !names.iter().all(there) => {
                return Err(wrong("there is no such table".into()));
            }
            Kind::RenameTable(pairs) if !there(&pairs[0].0) || there(&pairs[0].1) => {
                return Err(wrong("cannot be renamed".into()));
            }
            Kind::Truncate(name) if !there(name) => return Err(wrong("there is none".into())),
            _ => {}
        }
        let at = Moment {
            gno,
            key: OrderKey::MIN.into(),
            commit_time: 0,
        };
        let record = history.record(at, &statement);
        if !record.problems.is_empty() {
            return Err(wrong(record.problems.join("; ")));
        }
        history.apply(record).map_err(|e| e.to_string())?;
        self.carry(&statement);
        Ok(())
    }

    /// What a statement does to the rows.
    fn carry(&mut self, statement: &Statement) {
        let name = |name: &tributary_schema::NameRef| {
            let (s, t) = statement.resolve(name);
            (s.to_owned(), t.to_owned())
        };
        match &statement.kind {
            Kind::AlterTable(alter) => {
                let from = name(&alter.name);
                let to = alter.new_name().map_or_else(|| from.clone(), &name);
                let history = self.history.as_ref();
                let Some(table) = history.and_then(|h| h.table(&to.0, &to.1, u64::MAX)) else {
                    return;
                };
                let rows = self.rows.remove(&from).unwrap_or_default();
                let renamed = alter.renamed_columns();
                let rows = rows
                    .into_iter()
                    .map(|(id, row)| (id, rows::moved(&row, table, &renamed)));
                let rows = rows.collect();
                self.rows.insert(to, rows);
            }
            Kind::Truncate(table) => {
                self.rows.remove(&name(table));
            }
            Kind::DropTable { names, .. } => {
                for table in names {
                    self.rows.remove(&name(table));
                }
            }
            Kind::RenameTable(pairs) => {
                for (from, to) in pairs {
                    let rows = self.rows.remove(&name(from)).unwrap_or_default();
                    self.rows.insert(name(to), rows);
                }
            }
            _ => {}
        }
    }

    /// The rows are these, and no others.
    pub(crate) fn compare(
        &self,
        wanted: &BTreeMap<Name, BTreeMap<i64, Row>>,
    ) -> Result<(), String> {
        let empty = BTreeMap::new();
        let names = self.rows.keys().chain(wanted.keys());
        for name in names {
            let (own, parts) = (
                self.rows.get(name).unwrap_or(&empty),
                wanted.get(name).unwrap_or(&empty),
            );
            for id in own.keys().chain(parts.keys()) {
                if own.get(id) != parts.get(id) {
                    return Err(format!(
                        "{name:?}: row {id} is {:?} on the replica, {:?} in its part",
                        own.get(id),
                        parts.get(id)
                    ));
                }
            }
        }
        Ok(())
    }
}
