//! DDL text.
//!
//! In: one byte of options, and statements with a NUL between them. Out: a panic unless every statement can be read, told apart,
//! rewritten and recorded, what is rewritten has only logical names, and `SHOW CREATE TABLE` gives a statement that makes the
//! same table.

use std::sync::OnceLock;

use tributary_flow::Tso;
use tributary_schema::{
    Collation, DdlStatement, History, Kind, LexMode, Moment, NameCase, Object, RouteRule, Routed,
    Routes, SchemaKey, Session, Statement, Table,
};

use crate::input::Input;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let mode = LexMode {
        ansi_quotes: options & 1 != 0,
        no_backslash_escapes: options & 2 != 0,
    };
    let case = if options & 4 == 0 {
        NameCase::Exact
    } else {
        NameCase::Folded
    };
    let session = Session {
        schema: "shop_1",
        mode,
    };
    let text = String::from_utf8_lossy(input.rest());
    let mut history = History::new(Collation::DEFAULT);
    for (gno, sql) in (1..).zip(text.split('\0').take(20)) {
        let statement = Statement::parse(sql, session);
        assert_eq!(statement.sql(), sql);
        let again = Statement::parse(sql, session);
        assert_eq!(statement.identity(), again.identity());
        let _ = DdlStatement::parse("shop_1", sql);
        names_are_resolved(&statement);
        let _ = statement.units(&Routes::default(), case, &|s, t| {
            history.table(s, t, gno - 1)
        });
        rewritten(&statement, case, session);
        let _ = statement.with_charset(Collation::DEFAULT);
        record(&mut history, gno, &statement);
    }
    let snapshot = history.to_snapshot().expect("a history can be stored");
    let read = History::from_snapshot(&snapshot).expect("and read");
    let objects = |history: &History| -> Vec<String> {
        history
            .objects(u64::MAX)
            .map(|o| format!("{o:?}"))
            .collect()
    };
    assert_eq!(objects(&read), objects(&history));
}

fn names_are_resolved(statement: &Statement) {
    for name in &statement.names {
        let (schema, table) = statement.resolve(name);
        assert!(name.schema.is_some() || schema == statement.default_schema());
        assert_eq!(table, name.name);
    }
}

fn routes() -> &'static Routes {
    static ROUTES: OnceLock<Routes> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let map = |from: &str, to: &str| RouteRule::Map {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        Routes::compile(&[
            map("shop_*.orders_*", "shop.orders"),
            map("shop_*.items_*", "shop.items"),
            RouteRule::Broadcast {
                from: "shop_*.city".to_owned(),
                to: Some("shop.city".to_owned()),
            },
            RouteRule::Ignore {
                from: "shop_*.tmp_*".to_owned(),
            },
        ])
        .expect("these routes are sound")
    })
}

/// Every table that a rewritten statement changes is a logical one, and rewriting it again changes nothing in its meaning.
fn rewritten(statement: &Statement, case: NameCase, session: Session<'_>) {
    let Ok(units) = statement.units(routes(), case, &|_, _| None) else {
        return;
    };
    for unit in units {
        for target in &unit.targets {
            let (schema, table) = &target.physical;
            if let Routed::Logical { schema, table } = routes().route(schema, table, case) {
                assert_eq!(
                    (&*schema, &*table),
                    (&*target.logical.0, &*target.logical.1)
                );
            }
        }
        let text = unit.statement.sql();
        let again = Statement::parse(
            text,
            Session {
                schema: unit.statement.default_schema(),
                ..session
            },
        );
        assert_eq!(again.identity(), unit.statement.identity(), "{text}");
    }
}

fn record(history: &mut History, gno: u64, statement: &Statement) {
    let at = Moment {
        gno,
        key: SchemaKey {
            tso: Tso::ZERO,
            local: true,
            time: gno,
            node: 0,
            seq: gno,
        },
        commit_time: gno,
    };
    let record = history.record(at, statement);
    let bytes = record.to_bytes().expect("a record can be stored");
    let record = tributary_schema::Record::from_bytes(&bytes).expect("and read");
    history.apply(record).expect("places rise");
    let tables: Vec<Table> = (history.objects(gno))
        .filter_map(|(_, _, object)| match object {
            Object::Table(table) => Some((**table).clone()),
            _ => None,
        })
        .collect();
    tables.iter().for_each(shown_again);
}

/// `SHOW CREATE TABLE` is a statement that makes the same table.
fn shown_again(table: &Table) {
    let shown = table.show_create();
    let statement = Statement::parse(&shown, Session::in_schema("shop_1"));
    let Kind::CreateTable(create) = &statement.kind else {
        panic!("no CREATE TABLE: {shown}");
    };
    let Some(again) = create.table(table.collation) else {
        panic!("cannot be read: {shown}");
    };
    assert_eq!(again.show_create(), shown);
}
