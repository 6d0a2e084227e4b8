//! Events of nodes that are parts of one table.

use std::sync::Arc;

use tributary_binlog::{
    EventWriter, Gno, Gtid, RowsHeader, Sid, TableMap, Tag, rows_flags::STMT_END,
};
use tributary_flow::{OrderKey, SourcePos, Spool, SpoolWriter};
use tributary_schema::{Layout, Moment, RouteRule, Routes, SchemaRules, SourceStatement, Table};

use super::*;

fn rules() -> SchemaRules {
    let map = RouteRule::Map {
        from: "s_*.t_*".into(),
        to: "s.t".into(),
    };
    let ignore = RouteRule::Ignore { from: "tmp".into() };
    SchemaRules {
        routes: Arc::new(Routes::compile(&[map, ignore]).unwrap()),
        accounts: false,
    }
}

fn moment() -> Moment {
    Moment {
        gno: 1,
        key: OrderKey::MIN.into(),
        commit_time: 0,
    }
}

fn logical() -> Logical {
    let mut schema = ClusterSchema::new(rules(), ["dn0", "dn1"]);
    let mut gno = 1;
    for (node, sql) in [
        (
            "dn0",
            "CREATE TABLE s_0.t_0 (id INT PRIMARY KEY, v VARCHAR(9))",
        ),
        (
            "dn1",
            "CREATE TABLE s_1.t_1 (id INT PRIMARY KEY, v VARCHAR(9))",
        ),
        ("dn0", "ALTER TABLE s_0.t_0 ADD c INT NOT NULL DEFAULT 258"),
    ] {
        let source = SourceStatement {
            node,
            schema: "",
            sql,
            sql_mode: 0,
            server_collation: None,
        };
        let at = Moment { gno, ..moment() };
        gno += schema.statement(&source, at).unwrap().len() as u64;
    }
    Logical::new(schema)
}

fn place(node: u16) -> Place<'static> {
    Place {
        node: NodeId(node),
        name: ["dn0", "dn1"][usize::from(node)],
        gtid: Gtid {
            sid: Sid([1; 16]),
            tag: Tag::EMPTY,
            gno: Gno::new(1).unwrap(),
        },
        end: SourcePos::default(),
        at: Moment { gno: 9, ..moment() },
    }
}

#[derive(Default)]
struct Events(Vec<u8>);

impl Events {
    fn add(&mut self, event_type: EventType, body: &[u8]) {
        EventWriter::new(&mut self.0, 0, 1, ChecksumAlg::None)
            .event(event_type, 5, 0, |out| out.extend_from_slice(body))
            .unwrap();
    }

    fn map(&mut self, id: u64, table: &Table, schema: &str, name: &str) {
        let layout = Layout::of_table(table);
        let body = layout.table_map(id, 1, schema.as_bytes(), name.as_bytes());
        self.add(EventType::TABLE_MAP, &body);
    }

    /// Rows of (id, v), and c where there are three columns.
    fn rows(&mut self, id: u64, columns: u64, ids: std::ops::Range<u32>, ends: bool) {
        let mut rows = Vec::new();
        for id in ids {
            rows.push(0);
            rows.extend_from_slice(&id.to_le_bytes());
            rows.extend_from_slice(b"\x02ab");
            if columns == 3 {
                rows.extend_from_slice(&7_u32.to_le_bytes());
            }
        }
        let mut body = Vec::new();
        RowsHeader {
            event_type: EventType::WRITE_ROWS,
            table_id: id,
            flags: if ends { STMT_END } else { 0 },
            extra: &[],
            n_columns: columns,
            columns_before: &[0xff],
            columns_after: None,
            rows: &rows,
        }
        .put_body(&mut body);
        self.add(EventType::WRITE_ROWS, &body);
    }

    fn body(&self) -> Body {
        Body::new(Bytes::from(self.0.clone()))
    }
}

/// What a body says: table maps as names, rows as their ids with c, texts.
fn told(body: &Body) -> Vec<String> {
    let mut out = Vec::new();
    let mut columns = 0;
    for chunk in body.chunks() {
        let chunk = chunk.unwrap();
        let mut reader = EventReader::new(&chunk, ChecksumAlg::None);
        while let Some(raw) = reader.next().unwrap() {
            match raw.header.event_type {
                EventType::TABLE_MAP => {
                    let map = TableMap::parse(raw.body).unwrap();
                    columns = map.column_types.len();
                    let names = [map.schema, map.table].map(String::from_utf8_lossy);
                    out.push(format!("{}.{}/{columns}", names[0], names[1]));
                }
                EventType::WRITE_ROWS => {
                    let rows = RowsHeader::parse(EventType::WRITE_ROWS, raw.body).unwrap();
                    let width = if columns == 3 { 12 } else { 8 };
                    assert_eq!(rows.n_columns, columns as u64);
                    let ids = rows.rows.chunks(width).map(|row| {
                        let number =
                            |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().unwrap());
                        let c = (width == 12).then(|| number(8));
                        format!(
                            "{}:{}",
                            number(1),
                            c.map_or_else(String::new, |c| c.to_string())
                        )
                    });
                    let ids: Vec<String> = ids.collect();
                    let end = if rows.is_stmt_end() { "." } else { "" };
                    out.push(ids.join(" ") + end);
                }
                EventType::ROWS_QUERY => out.push("text".into()),
                other => out.push(format!("{other}")),
            }
        }
    }
    out
}

fn physical(logical: &Logical, node: &str, schema: &str, table: &str) -> Table {
    logical
        .schema
        .physical(node, schema, table)
        .unwrap()
        .clone()
}

#[derive(Debug)]
struct Memory(Vec<u8>);

impl Spool for Memory {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let at = offset as usize;
        let bytes = self.0.get(at..at + buf.len());
        buf.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFiles;

impl SpoolFiles for MemoryFiles {
    fn create(&self, _expected: u64) -> std::io::Result<Box<dyn SpoolWriter>> {
        Ok(Box::new(Memory(Vec::new())))
    }
}

impl SpoolWriter for Memory {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Arc<dyn Spool> {
        Arc::new(*self)
    }
}

/// In memory and in a file it becomes the same.
fn both(logical: &mut Logical, node: u16, events: &Events) -> Vec<String> {
    let mut memory = events.body();
    logical.body(&place(node), &mut memory).unwrap();
    logical.spool = Some(Arc::new(MemoryFiles));
    let mut reader = EventReader::new(&events.0, ChecksumAlg::None);
    let count = std::iter::from_fn(|| reader.next().unwrap()).count() as u64;
    let spool = Arc::new(Memory(events.0.clone()));
    let mut file = Body::spooled(spool, events.0.len() as u64, count);
    logical.body(&place(node), &mut file).unwrap();
    assert_eq!(memory.len(), file.len());
    let bytes = |body: &Body| -> Vec<u8> {
        let chunks: Vec<Bytes> = body.chunks().map(Result::unwrap).collect();
        chunks.concat()
    };
    assert_eq!(bytes(&memory).len() as u64, memory.len());
    assert!(file.is_spooled() || file.is_empty());
    assert!(bytes(&memory) == bytes(&file));
    told(&memory)
}

#[test]
fn rows_get_the_name_and_the_shape_of_the_logical_table() {
    let mut l = logical();
    let (new, old) = (
        physical(&l, "dn0", "s_0", "t_0"),
        physical(&l, "dn1", "s_1", "t_1"),
    );
    let mut e = Events::default();
    e.map(5, &new, "s_0", "t_0");
    e.rows(5, 3, 1..3, true);
    assert_eq!(both(&mut l, 0, &e), ["s.t/3", "1:7 2:7."]);
    let mut e = Events::default();
    e.map(6, &old, "s_1", "t_1");
    e.rows(6, 2, 1..3, false);
    e.rows(6, 2, 3..4, true);
    assert_eq!(both(&mut l, 1, &e), ["s.t/3", "1:258 2:258", "3:258."]);
}

#[test]
fn what_is_ignored_leaves_no_trace_and_no_open_statement() {
    let mut l = logical();
    let table = physical(&l, "dn1", "s_1", "t_1");
    let mut e = Events::default();
    e.add(EventType::ROWS_QUERY, b"\x03abc");
    e.map(5, &table, "tmp", "a");
    e.rows(5, 2, 1..2, true);
    assert_eq!(both(&mut l, 1, &e), Vec::<String>::new());
    // A statement that changes both, whose last rows do not flow.
    e.add(EventType::ROWS_QUERY, b"\x03abc");
    e.map(5, &table, "tmp", "a");
    e.map(6, &table, "s_1", "t_1");
    e.rows(6, 2, 5..6, false);
    e.rows(6, 2, 6..7, false);
    e.rows(5, 2, 7..9, false);
    e.rows(5, 2, 9..10, true);
    e.map(6, &table, "s_1", "t_1");
    e.rows(6, 2, 8..9, true);
    assert_eq!(
        both(&mut l, 1, &e),
        ["text", "s.t/3", "5:258", "6:258.", "s.t/3", "8:258."]
    );
}

#[test]
fn large_bodies_in_files_are_rewritten_block_by_block() {
    let mut l = logical();
    let table = physical(&l, "dn1", "s_1", "t_1");
    let mut e = Events::default();
    for round in 0..300_u32 {
        e.map(5, &table, "tmp", "a");
        e.map(6, &table, "s_1", "t_1");
        e.rows(6, 2, round * 1000..round * 1000 + 900, false);
        e.rows(5, 2, 0..100, true);
    }
    let told = both(&mut l, 1, &e);
    assert_eq!(told.len(), 600);
    assert!(
        told.iter()
            .skip(1)
            .step_by(2)
            .all(|rows| rows.ends_with('.'))
    );
    assert!(e.0.len() > 2 * limits::SPOOL_READ_BYTES);
}

#[test]
fn a_value_that_does_not_fit_names_its_place() {
    let mut l = logical();
    let source = SourceStatement {
        node: "dn0",
        schema: "",
        sql: "ALTER TABLE s_0.t_0 MODIFY v VARCHAR(1)",
        sql_mode: 0,
        server_collation: None,
    };
    let at = Moment { gno: 8, ..moment() };
    assert_eq!(
        l.schema.statement(&source, at).unwrap().len(),
        0,
        "narrower: last"
    );
    let mut wide = physical(&l, "dn1", "s_1", "t_1");
    wide.columns[1].data_type = tributary_schema::DataType::VarChar(20);
    let mut e = Events::default();
    e.map(6, &wide, "s_1", "t_1");
    e.add(EventType::WRITE_ROWS, &{
        let mut body = Vec::new();
        RowsHeader {
            event_type: EventType::WRITE_ROWS,
            table_id: 6,
            flags: STMT_END,
            extra: &[],
            n_columns: 2,
            columns_before: &[0xff],
            columns_after: None,
            rows: b"\0\x01\0\0\0\x0aabcdefghij",
        }
        .put_body(&mut body);
        body
    });
    let error = l.body(&place(1), &mut e.body()).unwrap_err();
    let text = error.to_string();
    for part in ["node dn1", "s_1.t_1 as s.t", "`v`"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn bodies_without_changes_are_not_touched() {
    let mut l = Logical::default();
    let table = physical(&logical(), "dn1", "s_1", "t_1");
    let mut e = Events::default();
    e.map(5, &table, "own", "a");
    e.rows(5, 2, 1..2, true);
    let mut body = e.body();
    let before = body.segments()[0].as_ptr();
    l.body(&place(1), &mut body).unwrap();
    assert_eq!(body.segments()[0].as_ptr(), before);
    assert_eq!(l.rewritten, 0);
}
