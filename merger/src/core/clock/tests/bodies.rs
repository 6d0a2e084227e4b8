//! Bodies of branches.

use bytes::Bytes;
use tributary_binlog::{
    ChecksumAlg, EventType, EventWriter, OptionalMetadata, RowsHeader, TableMap, rows_flags,
};
use tributary_flow::Body;

/// What the tests' tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    /// `t (id BIGINT KEY, v VARCHAR(20))`
    Numbers,
    /// `u (v INT, id VARCHAR(20) KEY)`, in this collation.
    Texts(u32),
    /// `b (v INT, id BINARY(4) KEY)`
    Binary,
    /// `n (id BIGINT KEY, v VARCHAR(20))` of a server that does not log names of keys.
    NoKey,
    /// `t`, with a column in front of its others.
    Shifted,
}

/// A row by its key; a key of numbers is one byte.
pub(super) type Key<'a> = &'a [u8];

/// What happens to a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    Insert(Key<'a>),
    Delete(Key<'a>),
    Update(Key<'a>, Key<'a>),
}

pub(super) use Change::{Delete, Insert, Update};

impl Table {
    fn map(self, id: u64, out: &mut Vec<u8>) {
        let (name, types, meta): (&[u8], &[u8], &[u8]) = match self {
            Self::Numbers => (b"t", &[8, 15], &[20, 0]),
            Self::Texts(_) => (b"u", &[3, 15], &[20, 0]),
            Self::Binary => (b"b", &[3, 254], &[254, 4]),
            Self::NoKey => (b"n", &[8, 15], &[20, 0]),
            Self::Shifted => (b"t", &[3, 8, 15], &[20, 0]),
        };
        let (key, collation) = match self {
            Self::Numbers => (Some(0), 255),
            Self::Texts(collation) => (Some(1), collation),
            Self::Binary => (Some(1), 63),
            Self::NoKey => (None, 255),
            Self::Shifted => (Some(1), 255),
        };
        let mut optional = Vec::new();
        OptionalMetadata {
            column_charsets: Some(vec![collation]),
            simple_primary_key: key.map(|column| vec![column]),
            ..OptionalMetadata::default()
        }
        .put(&mut optional);
        TableMap {
            table_id: id,
            flags: 1,
            schema: b"shop",
            table: name,
            column_types: types,
            column_meta: meta,
            null_bitmap: &[0],
            optional: &optional,
        }
        .put_body(out);
    }

    fn row(self, key: Key<'_>, out: &mut Vec<u8>) {
        out.push(0);
        let text = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.push(bytes.len() as u8);
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Numbers | Self::NoKey | Self::Shifted => {
                if self == Self::Shifted {
                    out.extend_from_slice(&[7, 7, 7, 7]);
                }
                out.extend_from_slice(&u64::from(key[0]).to_le_bytes());
                text(out, b"some");
            }
            Self::Texts(_) | Self::Binary => {
                out.extend_from_slice(&[7, 7, 7, 7]);
                text(out, key);
            }
        }
    }

    fn columns(self) -> u64 {
        if self == Self::Shifted { 3 } else { 2 }
    }
}

fn event_type(change: &Change<'_>) -> EventType {
    match change {
        Insert(_) => EventType::WRITE_ROWS,
        Delete(_) => EventType::DELETE_ROWS,
        Update(..) => EventType::UPDATE_ROWS,
    }
}

/// A branch; each change is a statement, neighbours of one kind share an event.
pub(super) fn body(changes: &[(Table, Change<'_>)]) -> Body {
    let mut bytes = Vec::new();
    let mut writer = EventWriter::new(&mut bytes, 0, 1, ChecksumAlg::None);
    let same = |a: &(Table, Change<'_>), b: &(Table, Change<'_>)| {
        a.0 == b.0 && event_type(&a.1) == event_type(&b.1)
    };
    for (id, changes) in (70..).zip(changes.chunk_by(same)) {
        let (table, first) = changes[0];
        let mut put = |ty, fill: &dyn Fn(&mut Vec<u8>)| writer.event(ty, 0, 0, fill).unwrap();
        put(EventType::ROWS_QUERY, &|out| {
            out.extend_from_slice(b"\x01q");
        });
        put(EventType::TABLE_MAP, &|out| table.map(id, out));
        let mut rows = Vec::new();
        for (_, change) in changes {
            match change {
                Insert(key) | Delete(key) => table.row(key, &mut rows),
                Update(old, new) => {
                    table.row(old, &mut rows);
                    table.row(new, &mut rows);
                }
            }
        }
        let event_type = event_type(&first);
        put(event_type, &|out| {
            RowsHeader {
                event_type,
                table_id: id,
                flags: rows_flags::STMT_END,
                extra: &[],
                n_columns: table.columns(),
                columns_before: &[7],
                columns_after: event_type.is_update_rows().then_some(&[7]),
                rows: &rows,
            }
            .put_body(out);
        });
    }
    Body::new(Bytes::from(bytes))
}
