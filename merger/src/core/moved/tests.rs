//! Transactions of a sharded cluster, merged, against a set of rows that is as strict as a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tributary_binlog::{
    ChecksumAlg, ColumnValue, EventReader, EventType, EventWriter, RowImage, RowsHeader, RowsWalk,
    TableMap, rows_flags,
};
use tributary_flow::{Body, MemorySpool, MemorySpools};

use super::acts::Acts;
use super::rows::Caps;
use super::shared::Unread;
use super::{Arranged, Parts, arrange, reorder};

/// (table, key) to value.
type State = BTreeMap<(usize, u8), u8>;

/// Two tables: `t (id BIGINT KEY, v VARCHAR(20))`, `u (v VARCHAR(20), id VARCHAR(300), KEY id(8))`.
const NAMES: [&[u8]; 2] = [b"t", b"u"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Insert(u8, u8),
    Delete(u8, u8),
    /// Old key and value, new key and value.
    Update((u8, u8), (u8, u8)),
}

impl Change {
    fn event_type(self) -> EventType {
        match self {
            Self::Insert(..) => EventType::WRITE_ROWS,
            Self::Delete(..) => EventType::DELETE_ROWS,
            Self::Update(..) => EventType::UPDATE_ROWS,
        }
    }

    /// Does what a server does; the error is what stops a replica.
    fn apply(self, table: usize, state: &mut State) -> Result<(), String> {
        let (old, new) = match self {
            Self::Insert(k, v) => (None, Some((k, v))),
            Self::Delete(k, v) => (Some((k, v)), None),
            Self::Update(old, new) => (Some(old), Some(new)),
        };
        if let Some((k, v)) = old
            && state.remove(&(table, k)) != Some(v)
        {
            return Err(format!("{self:?} in {table}: no such row"));
        }
        match new {
            Some((k, v)) if state.insert((table, k), v).is_some() => {
                Err(format!("{self:?} in {table}: duplicate key"))
            }
            _ => Ok(()),
        }
    }
}

/// A statement: changes of one kind in one table.
type Statement = (usize, Vec<Change>);

fn map_body(table: usize, id: u64, metadata: bool, out: &mut Vec<u8>) {
    let (types, meta, optional): (&[u8], &[u8], &[u8]) = match table {
        0 => (&[8, 15], &[20, 0], &[8, 1, 0]),
        _ => (&[15, 15], &[20, 0, 0x2c, 1], &[9, 2, 1, 8]),
    };
    TableMap {
        table_id: id,
        flags: 0,
        schema: b"shop",
        table: NAMES[table],
        column_types: types,
        column_meta: meta,
        null_bitmap: &[0],
        optional: if metadata { optional } else { &[] },
    }
    .put_body(out);
}

fn put_row(table: usize, (key, value): (u8, u8), out: &mut Vec<u8>) {
    out.push(0);
    if table == 0 {
        out.extend_from_slice(&u64::from(key).to_le_bytes());
        out.extend_from_slice(&[1, value]);
    } else {
        out.extend_from_slice(&[1, value, 1, 0, key]);
    }
}

fn rows_body(id: u64, table: usize, changes: &[Change], last: bool, out: &mut Vec<u8>) {
    let mut rows = Vec::new();
    for change in changes {
        match *change {
            Change::Insert(k, v) | Change::Delete(k, v) => put_row(table, (k, v), &mut rows),
            Change::Update(old, new) => {
                put_row(table, old, &mut rows);
                put_row(table, new, &mut rows);
            }
        }
    }
    let event_type = changes[0].event_type();
    RowsHeader {
        event_type,
        table_id: id,
        flags: rows_flags::COMPLETE_ROWS | if last { rows_flags::STMT_END } else { 0 },
        extra: &[],
        n_columns: 2,
        columns_before: &[3],
        columns_after: event_type.is_update_rows().then_some(&[3]),
        rows: &rows,
    }
    .put_body(out);
}

/// A branch; statements of more than two rows have two rows events, and every third begins a segment.
fn body(statements: &[Statement], metadata: bool) -> Body {
    let mut body = Body::default();
    let mut bytes = Vec::new();
    for (n, (table, changes)) in statements.iter().enumerate() {
        let id = 70 + *table as u64;
        let mut writer = EventWriter::new(&mut bytes, 0, 1, ChecksumAlg::None);
        let mut put = |ty, fill: &dyn Fn(&mut Vec<u8>)| writer.event(ty, 0, 0, fill).unwrap();
        put(EventType::ROWS_QUERY, &|out| {
            out.extend_from_slice(b"\x01q");
        });
        put(EventType::TABLE_MAP, &|out| {
            map_body(*table, id, metadata, out);
        });
        let (first, second) = changes.split_at(changes.len().min(2));
        for (changes, last) in [(first, second.is_empty()), (second, true)] {
            if !changes.is_empty() {
                put(changes[0].event_type(), &|out| {
                    rows_body(id, *table, changes, last, out);
                });
            }
        }
        if n % 3 == 2 {
            body.push(Bytes::from(std::mem::take(&mut bytes)));
        }
    }
    body.push(Bytes::from(bytes));
    body
}

fn pair(table: usize, image: Option<&RowImage<'_>>) -> Option<(u8, u8)> {
    let value = |index| match image?.column(index) {
        ColumnValue::Bytes(bytes) => bytes.first().copied(),
        _ => None,
    };
    let (key, other) = if table == 0 { (0, 1) } else { (1, 0) };
    value(key).zip(value(other))
}

/// The statements of a body, each of which begins with its table and ends as it should.
fn statements(body: &Body) -> Vec<Statement> {
    let mut out = Vec::new();
    let mut map: Option<(TableMap<'_>, usize)> = None;
    let mut changes = Vec::new();
    let bytes = all_bytes(std::slice::from_ref(body));
    {
        let mut reader = EventReader::new(&bytes, ChecksumAlg::None);
        while let Some(raw) = reader.next().expect("whole events") {
            if raw.header.event_type == EventType::TABLE_MAP {
                let parsed = TableMap::parse(raw.body).unwrap();
                let table = NAMES.iter().position(|name| *name == parsed.table).unwrap();
                assert!(
                    map.replace((parsed, table)).is_none(),
                    "one Table_map a statement"
                );
            } else if raw.header.event_type.is_rows() {
                let rows = RowsHeader::parse(raw.header.event_type, raw.body).unwrap();
                let (parsed, table) = map.as_ref().expect("rows behind their Table_map");
                assert_eq!(rows.table_id, parsed.table_id);
                assert!(!rows.rows.is_empty());
                for row in RowsWalk::new(parsed, &rows).unwrap() {
                    let row = row.unwrap();
                    let before = pair(*table, row.before.as_ref());
                    let after = pair(*table, row.after.as_ref());
                    changes.push(match (before, after) {
                        (None, Some((k, v))) => Change::Insert(k, v),
                        (Some((k, v)), None) => Change::Delete(k, v),
                        (before, after) => Change::Update(before.unwrap(), after.unwrap()),
                    });
                }
                if rows.is_stmt_end() {
                    out.push((*table, std::mem::take(&mut changes)));
                    map = None;
                }
            }
        }
    }
    assert!(
        map.is_none() && changes.is_empty(),
        "the last statement ends"
    );
    out
}

fn apply(parts: &[Body], state: &mut State) -> Result<(), String> {
    let all = parts.iter().flat_map(statements);
    let mut rows = all.flat_map(|(table, changes)| changes.into_iter().map(move |c| (table, c)));
    rows.try_for_each(|(table, change)| change.apply(table, state))
}

fn arranged(branches: &[Vec<Statement>]) -> Parts {
    let mut parts: Parts = branches.iter().map(|b| body(b, true)).collect();
    arrange(&mut parts, None).unwrap();
    parts
}

fn all_bytes(parts: &[Body]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(Body::chunks)
        .flat_map(|chunk| chunk.unwrap().to_vec())
        .collect()
}

fn one(change: Change) -> Statement {
    (0, vec![change])
}

use Change::{Delete, Insert, Update};

#[track_caller]
fn check(state: &[(u8, u8)], branches: &[Vec<Statement>]) -> Vec<Statement> {
    let mut state: State = state.iter().map(|(k, v)| ((0, *k), *v)).collect();
    let parts = arranged(branches);
    apply(&parts, &mut state).unwrap();
    parts.iter().flat_map(statements).collect()
}

#[test]
fn a_row_that_moves_to_a_lesser_node_is_deleted_first() {
    let branches = [
        vec![
            one(Update((5, 0), (5, 1))),
            one(Insert(1, 9)),
            one(Insert(8, 8)),
        ],
        vec![
            one(Update((6, 0), (6, 1))),
            one(Delete(1, 2)),
            one(Insert(7, 7)),
        ],
    ];
    let order = check(&[(1, 2), (5, 0), (6, 0)], &branches);
    // Whole statements, and the first node as soon as it can go on.
    let want = [
        one(Update((5, 0), (5, 1))),
        one(Update((6, 0), (6, 1))),
        one(Delete(1, 2)),
        one(Insert(1, 9)),
        one(Insert(8, 8)),
        one(Insert(7, 7)),
    ];
    assert_eq!(order, want);
}

#[test]
fn what_shares_no_key_is_not_touched() {
    let cases: [[Vec<Statement>; 2]; 4] = [
        [
            vec![one(Update((1, 1), (1, 2)))],
            vec![one(Update((2, 1), (2, 2)))],
        ],
        [vec![one(Insert(1, 1))], vec![one(Delete(2, 2))]],
        // It is in order already.
        [vec![one(Delete(1, 1))], vec![one(Insert(1, 1))]],
        // A copy on every node.
        [
            vec![one(Delete(1, 1)), one(Insert(1, 2))],
            vec![one(Delete(1, 1)), one(Insert(1, 2))],
        ],
    ];
    for branches in cases {
        let plain: Parts = branches.iter().map(|b| body(b, true)).collect();
        assert_eq!(
            all_bytes(&arranged(&branches)),
            all_bytes(&plain),
            "{branches:?}"
        );
    }
}

#[test]
fn the_usual_transaction_does_not_get_past_the_first_look() {
    let bodies = |a: &[Statement], b: &[Statement]| [body(a, true), body(b, true)];
    let transfer = bodies(
        &[one(Update((1, 1), (1, 2)))],
        &[one(Update((2, 1), (2, 2)))],
    );
    assert!(super::shared::tables(&transfer).unwrap().is_empty());
    let inserts = bodies(&[one(Insert(1, 1))], &[one(Insert(2, 1))]);
    assert!(super::shared::tables(&inserts).unwrap().is_empty());
    let other_table = bodies(&[one(Insert(1, 1))], &[(1, vec![Delete(1, 1)])]);
    assert!(super::shared::tables(&other_table).unwrap().is_empty());
    let changed = bodies(&[one(Update((1, 1), (3, 1)))], &[one(Insert(1, 1))]);
    assert!(!super::shared::tables(&changed).unwrap().is_empty());
}

#[test]
fn without_primary_key_metadata_nothing_changes() {
    let branches = [vec![one(Insert(1, 9))], vec![one(Delete(1, 2))]];
    let plain: Parts = branches.iter().map(|b| body(b, false)).collect();
    let mut parts = plain.clone();
    arrange(&mut parts, None).unwrap();
    assert_eq!(all_bytes(&parts), all_bytes(&plain));
}

#[test]
fn rows_that_change_places_are_deleted_first() {
    // Both insert before they delete, in single statements with rows that stay.
    let branches = [
        vec![
            (0, vec![Insert(2, 5), Insert(9, 9)]),
            (0, vec![Delete(3, 3), Delete(1, 1)]),
        ],
        vec![
            (0, vec![Insert(1, 6)]),
            (0, vec![Delete(4, 4), Delete(2, 2), Delete(5, 5)]),
        ],
    ];
    let order = check(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], &branches);
    let want = [
        one(Delete(1, 1)),
        one(Delete(2, 2)),
        (0, vec![Insert(2, 5), Insert(9, 9)]),
        one(Delete(3, 3)),
        one(Insert(1, 6)),
        (0, vec![Delete(4, 4), Delete(5, 5)]),
    ];
    assert_eq!(order, want);
}

#[test]
fn a_row_is_changed_before_it_is_deleted() {
    let branches = [
        vec![
            one(Insert(2, 5)),
            one(Update((1, 1), (1, 7))),
            one(Delete(1, 7)),
        ],
        vec![
            one(Insert(1, 6)),
            one(Update((2, 2), (2, 8))),
            one(Delete(2, 8)),
        ],
    ];
    check(&[(1, 1), (2, 2)], &branches);
}

#[test]
fn updates_that_change_keys_are_split_by_row() {
    let branches = [
        vec![(0, vec![Update((1, 1), (9, 1)), Update((5, 5), (2, 5))])],
        vec![(0, vec![Update((2, 2), (8, 2)), Update((6, 6), (1, 6))])],
    ];
    let order = check(&[(1, 1), (2, 2), (5, 5), (6, 6)], &branches);
    assert_eq!(order.len(), 3);
}

#[test]
fn a_ring_of_updates_is_left_as_it_is() {
    let branches = [
        vec![one(Update((1, 1), (2, 1)))],
        vec![one(Update((2, 2), (1, 2)))],
    ];
    let plain: Parts = branches.iter().map(|b| body(b, true)).collect();
    assert_eq!(all_bytes(&arranged(&branches)), all_bytes(&plain));
}

#[test]
fn a_key_that_is_lent_comes_back() {
    let branches = [
        vec![one(Delete(1, 1)), one(Insert(1, 4))],
        vec![one(Insert(1, 2)), one(Delete(1, 2))],
        vec![one(Insert(1, 3)), one(Delete(1, 3))],
    ];
    check(&[(1, 1)], &branches);
}

#[test]
fn damaged_bodies_are_left_as_they_are() {
    let whole = all_bytes(&[body(&[one(Insert(1, 1))], true)]);
    // The statement's first two events end there.
    let whole_events = [21, 67];
    for cut in (1..whole.len()).filter(|cut| !whole_events.contains(cut)) {
        let mut parts: Parts = [
            Bytes::from(whole[..cut].to_vec()),
            Bytes::from(whole.clone()),
        ]
        .into_iter()
        .map(Body::new)
        .chain([body(&[one(Delete(1, 1))], true)])
        .collect();
        let before = all_bytes(&parts);
        arrange(&mut parts, None).unwrap();
        assert_eq!(all_bytes(&parts), before, "cut at {cut}");
    }
}

/// A step of a history: who does it (of the nodes), in which table, to which key.
type Step = (usize, usize, u8, u8, u8);

/// A history that a sharded database allows: each step as one change of one branch. Keys are where they are in `home`.
fn history(
    nodes: usize,
    start: &State,
    steps: &[Step],
    key_updates: bool,
) -> Vec<(usize, usize, Change)> {
    let mut home: BTreeMap<(usize, u8), (usize, u8)> = (start.iter())
        .map(|((t, k), v)| ((*t, *k), (usize::from(*k) % nodes, *v)))
        .collect();
    let mut out = Vec::new();
    for &(node, table, key, value, kind) in steps {
        let node = node % nodes;
        let Some((owner, old)) = home.get(&(table, key)).copied() else {
            home.insert((table, key), (node, value));
            out.push((node, table, Insert(key, value)));
            continue;
        };
        let target = value % 8;
        match kind {
            0 => {
                home.insert((table, key), (owner, value));
                out.push((owner, table, Update((key, old), (key, value))));
            }
            1 if key_updates && !home.contains_key(&(table, target)) => {
                home.remove(&(table, key));
                home.insert((table, target), (owner, old));
                out.push((owner, table, Update((key, old), (target, old))));
            }
            _ => {
                home.remove(&(table, key));
                out.push((owner, table, Delete(key, old)));
            }
        }
    }
    out
}

/// Statements of one or more changes, as they come.
fn grouped(changes: &[(usize, Change)], join: &[bool]) -> Vec<Statement> {
    let mut out: Vec<Statement> = Vec::new();
    for (n, (table, change)) in changes.iter().enumerate() {
        match out.last_mut() {
            Some((t, rows))
                if t == table
                    && join[n % join.len()]
                    && rows[0].event_type() == change.event_type() =>
            {
                rows.push(*change);
            }
            _ => out.push((*table, vec![*change])),
        }
    }
    out
}

/// Whether more than one branch takes a key and gives it back: then a history does not say in which order they do.
fn is_ambiguous(branches: &[Vec<(usize, Change)>]) -> bool {
    let mut borrowed: BTreeMap<(usize, u8), usize> = BTreeMap::new();
    for changes in branches {
        let mut taken = BTreeSet::new();
        let mut had = BTreeSet::new();
        for (table, change) in changes {
            let (old, new) = match *change {
                Insert(k, _) => (None, Some(k)),
                Delete(k, _) => (Some(k), None),
                Update((a, _), (b, _)) if a == b => (None, None),
                Update((a, _), (b, _)) => (Some(a), Some(b)),
            };
            if let Some(k) = old
                && !taken.contains(&(*table, k))
            {
                had.insert((*table, k));
            }
            taken.extend(new.map(|k| (*table, k)));
        }
        for key in taken.difference(&had) {
            *borrowed.entry(*key).or_default() += 1;
        }
    }
    borrowed.values().any(|n| *n > 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Deletes and inserts only, which may stand in any order in their branch that is right there.
    #[test]
    fn merged_rows_fit_wherever_they_move(
        nodes in 2..4_usize,
        keys in prop::collection::vec((0..2_usize, 0..8_u8), 0..10),
        steps in prop::collection::vec((0..3_usize, 0..2_usize, 0..8_u8, any::<u8>(), 0..4_u8), 1..24),
        swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        join in prop::collection::vec(any::<bool>(), 1..6),
        key_updates: bool,
    ) {
        let start: State = keys.iter().map(|key| (*key, 0)).collect();
        let history = history(nodes, &start, &steps, key_updates);
        let mut end = start.clone();
        for (_, table, change) in &history {
            change.apply(*table, &mut end).unwrap();
        }
        let mut branches: Vec<Vec<(usize, Change)>> = vec![Vec::new(); nodes];
        for (node, table, change) in &history {
            branches[*node].push((*table, *change));
        }
        if !key_updates {
            shuffle(&mut branches, &swaps);
        }
        prop_assume!(!key_updates || !is_ambiguous(&branches));
        let statements: Vec<_> = branches.iter().map(|b| grouped(b, &join)).collect();
        let parts = arranged(&statements);
        let mut state = start.clone();
        if let Err(e) = apply(&parts, &mut state) {
            return Err(TestCaseError::fail(format!("{e}\n{statements:?}")));
        }
        // Where two branches borrow a key after one another, it is the same row that stays.
        prop_assert_eq!(&state, &end);
        prop_assert_eq!(all_bytes(&arranged(&statements)), all_bytes(&parts));
        // In files, with next to no memory, it is the same.
        let spooled: Vec<Body> = (statements.iter())
            .map(|b| spooled(&body(b, true)))
            .collect();
        let acts = Acts::with_memory(&MemorySpools, 64);
        let (ordered, arranged) = reorder(&spooled, acts, Caps::DEFAULT, Some(&MemorySpools)).unwrap();
        prop_assert_eq!(arranged, Arranged::Right);
        let ordered = ordered.unwrap_or_else(|| spooled.iter().cloned().collect());
        prop_assert_eq!(all_bytes(&ordered), all_bytes(&parts));
        prop_assert!(ordered.iter().all(counts_right));
        // Looked at less closely: right, or refused.
        for caps in [
            Caps { rows: 0, statements: 1000 },
            Caps { rows: 0, statements: 0 },
            Caps { rows: 3, statements: 4 },
        ] {
            let acts = Acts::with_memory(&MemorySpools, 64);
            match reorder(&spooled, acts, caps, Some(&MemorySpools)) {
                Ok((coarse, _)) => {
                    let coarse = coarse.unwrap_or_else(|| spooled.iter().cloned().collect());
                    let mut state = start.clone();
                    if let Err(e) = apply(&coarse, &mut state) {
                        return Err(TestCaseError::fail(format!("{caps:?}: {e}\n{statements:?}")));
                    }
                    prop_assert_eq!(&state, &end);
                    prop_assert!(coarse.iter().all(counts_right));
                }
                Err(error) => prop_assert!(matches!(error, Unread::TooMany)),
            }
        }
    }
}

fn count(bytes: &[u8]) -> u64 {
    let mut reader = EventReader::new(bytes, ChecksumAlg::None);
    let mut events = 0;
    while reader.next().unwrap().is_some() {
        events += 1;
    }
    events
}

fn spooled(body: &Body) -> Body {
    let bytes = all_bytes(std::slice::from_ref(body));
    let (len, events) = (bytes.len() as u64, count(&bytes));
    Body::spooled(Arc::new(MemorySpool(bytes)), len, events)
}

/// Whether a body knows how many events it has.
fn counts_right(body: &Body) -> bool {
    let events = count(&all_bytes(std::slice::from_ref(body)));
    body.counted_events().is_none_or(|n| n == events)
}

/// A whole table moves, in statements of many rows.
#[test]
fn many_rows_move_by_their_statements() {
    let rows = |make: fn(u8) -> Change, keys: std::ops::Range<u8>| keys.map(make).collect();
    let delete = |keys| (0, rows(|k| Delete(k, 1), keys));
    let insert = |keys| (0, rows(|k| Insert(k, 1), keys));
    let state: State = (0..200).map(|k| ((0, k), 1)).collect();
    // Two nodes change places with each other.
    let branches = [
        vec![delete(0..100), insert(100..200)],
        vec![delete(100..200), insert(0..100)],
    ];
    let parts: Vec<Body> = branches.iter().map(|b| spooled(&body(b, true))).collect();
    let caps = |rows, statements| Caps { rows, statements };
    for caps in [caps(1000, 1000), caps(10, 1000)] {
        let acts = Acts::with_memory(&MemorySpools, 64);
        let (out, _) = reorder(&parts, acts, caps, Some(&MemorySpools)).unwrap();
        let out = out.unwrap();
        let mut after = state.clone();
        apply(&out, &mut after).unwrap();
        assert_eq!(after, state);
        assert!(out.iter().all(|b| b.is_spooled() && counts_right(b)));
    }
    let refused = reorder(&parts, Acts::new(None), caps(10, 1), None);
    assert!(matches!(refused, Err(Unread::TooMany)));
    // One way, whole branches will do.
    let branches = [vec![insert(100..200)], vec![delete(100..200)]];
    let parts: Vec<Body> = branches.iter().map(|b| body(b, true)).collect();
    let (out, _) = reorder(&parts, Acts::new(None), caps(10, 1), None).unwrap();
    apply(&out.unwrap(), &mut state.clone()).unwrap();
}

/// Lets neighbours in a branch that have nothing to do with each other change places.
fn shuffle(branches: &mut [Vec<(usize, Change)>], swaps: &[prop::sample::Index]) {
    let key = |(table, change): &(usize, Change)| match *change {
        Insert(k, _) | Delete(k, _) | Update((k, _), _) => (*table, k),
    };
    for (n, at) in swaps.iter().enumerate() {
        let n = n % branches.len();
        let branch = &mut branches[n];
        if branch.len() > 1 {
            let at = at.index(branch.len() - 1);
            if key(&branch[at]) != key(&branch[at + 1]) {
                branch.swap(at, at + 1);
            }
        }
    }
}
