//! What transactions depend on, case by case; `model` has real conflicts of simulated nodes.

mod bodies;
mod model;

use bytes::Bytes;
use tributary_flow::{Body, Dependency, NodeId, SourcePos, limits};

use super::{Clock, Interval};
use bodies::{Change, Delete, Insert, Table, Update, body};

/// A clock, and nodes whose transactions the nodes take for free of each other.
struct Stream {
    clock: Clock,
    gno: u64,
    numbers: [i64; 4],
}

impl Stream {
    fn new(nodes: usize) -> Self {
        Self::after(nodes, 0)
    }

    fn after(nodes: usize, last: u64) -> Self {
        Self {
            clock: Clock::new(nodes, last),
            gno: last,
            numbers: [0; 4],
        }
    }

    fn bodies(&mut self, branches: &[(u16, Body)]) -> u64 {
        self.gno += 1;
        let branches: Vec<_> = (branches.iter())
            .map(|(node, body)| {
                let number = &mut self.numbers[usize::from(*node)];
                *number += 1;
                let place = SourcePos {
                    file: 1,
                    offset: *number as u64,
                };
                Interval {
                    node: NodeId(*node),
                    prepare: place,
                    commit: place,
                    last_committed: 0,
                    sequence_number: *number,
                    body,
                }
            })
            .collect();
        threshold(self.clock.rows(self.gno, &branches), self.gno)
    }

    /// What a transaction of one branch depends on.
    fn on(&mut self, node: u16, table: Table, change: Change<'_>) -> u64 {
        self.bodies(&[(node, body(&[(table, change)]))])
    }

    fn statement(&mut self) {
        self.gno += 1;
        assert_eq!(self.clock.statement(self.gno), Dependency::Predecessor);
    }
}

fn threshold(dependency: Dependency, gno: u64) -> u64 {
    match dependency {
        Dependency::Predecessor => gno - 1,
        Dependency::UpTo(on) => {
            assert!(on < gno - 1, "the predecessor has a name");
            on
        }
    }
}

use Table::{Binary, NoKey, Numbers, Shifted, Texts};

/// A table that two nodes use, so that its keys are looked at.
fn used(table: Table) -> Stream {
    let mut stream = Stream::new(3);
    for node in 0..3 {
        stream.on(node, table, Insert(&[b'0' + node as u8]));
    }
    stream
}

#[test]
fn nodes_are_free_of_each_other() {
    let mut stream = Stream::new(2);
    for key in 0..50 {
        assert_eq!(stream.on(key % 2, Numbers, Insert(&[key as u8])), 0);
    }
    for key in 0..50 {
        assert_eq!(
            stream.on(key % 2, Numbers, Update(&[key as u8], &[key as u8])),
            0
        );
    }
}

#[test]
fn a_key_is_taken_behind_its_last_free() {
    let mut stream = used(Numbers);
    assert_eq!(stream.on(0, Numbers, Delete(&[9])), 0); // 4
    assert_eq!(stream.on(0, Numbers, Delete(&[8])), 0); // 5
    assert_eq!(stream.on(2, Numbers, Update(&[2], &[2])), 0);
    assert_eq!(stream.on(1, Numbers, Insert(&[9])), 4);
    assert_eq!(stream.on(1, Numbers, Insert(&[7])), 0);
    assert_eq!(stream.on(2, Numbers, Update(&[6], &[8])), 5); // 9, frees 6
    assert_eq!(stream.on(1, Numbers, Update(&[9], &[6])), 9); // 10, frees 9
    assert_eq!(stream.on(0, Numbers, Insert(&[9])), 10);
    assert_eq!(stream.on(0, Binary, Insert(&[9])), 0);
}

#[test]
fn all_branches_count() {
    let mut stream = used(Numbers);
    stream.on(0, Numbers, Delete(&[9])); // 4
    stream.on(1, Numbers, Delete(&[8])); // 5
    stream.on(0, Numbers, Insert(&[5]));
    let both = [
        (1, body(&[(Numbers, Insert(&[9]))])),
        (
            2,
            body(&[(Numbers, Update(&[1], &[1])), (Numbers, Insert(&[8]))]),
        ),
    ];
    assert_eq!(stream.bodies(&both), 5);
    // A row that moves within a transaction does not wait for itself.
    let moved = [
        (1, body(&[(Numbers, Delete(&[9]))])),
        (2, body(&[(Numbers, Insert(&[9]))])),
    ];
    assert_eq!(stream.bodies(&moved), 4); // 8
    assert_eq!(stream.on(0, Numbers, Insert(&[9])), 8);
}

#[test]
fn what_a_collation_takes_for_equal_is_one_key() {
    for collation in [45, 255, 46, 8] {
        let table = Texts(collation);
        let mut stream = used(table);
        stream.on(0, table, Delete(b"Ab-c")); // 4
        stream.on(0, table, Delete(b"other"));
        assert_eq!(stream.on(1, table, Insert(b"aB-C")), 4);
        assert_eq!(stream.on(1, table, Insert(b"another")), 0);
        // May be equal to any key, and any key to it.
        assert_eq!(stream.on(1, table, Insert("é".as_bytes())), 5);
        stream.on(0, table, Delete("é".as_bytes())); // 9
        assert_eq!(stream.on(1, table, Insert(b"e")), 9);
        // Its own node knows better.
        assert_eq!(stream.on(0, table, Insert(b"e")), 0);
    }
    // Lithuanian: i is y.
    let table = Texts(268);
    let mut stream = used(table);
    stream.on(0, table, Delete(b"i"));
    assert_eq!(stream.on(1, table, Insert(b"y")), 4);
}

#[test]
fn a_binary_key_is_its_bytes() {
    let mut stream = used(Binary);
    stream.on(0, Binary, Delete(b"A\0\0\0"));
    assert_eq!(stream.on(1, Binary, Insert(b"a")), 0);
    assert_eq!(stream.on(1, Binary, Insert(b"A")), 4);
}

#[test]
fn keys_that_are_not_known_are_compared_by_table() {
    let mut stream = used(NoKey);
    stream.on(0, NoKey, Delete(&[1])); // 4
    assert_eq!(stream.on(0, NoKey, Insert(&[2])), 0);
    assert_eq!(stream.on(1, NoKey, Insert(&[2])), 4);
    // Any update may change the key.
    assert_eq!(stream.on(1, NoKey, Update(&[3], &[3])), 4); // 7
    assert_eq!(stream.on(0, NoKey, Update(&[3], &[3])), 7);
    assert_eq!(stream.on(2, NoKey, Delete(&[3])), 0);
    assert_eq!(stream.on(2, Numbers, Insert(&[3])), 0);
}

#[test]
fn a_table_of_one_node_is_not_looked_into_until_another_comes() {
    let mut stream = Stream::new(2);
    stream.on(0, Numbers, Insert(&[1]));
    stream.on(0, Numbers, Delete(&[2])); // 2
    stream.on(0, Numbers, Insert(&[3]));
    assert_eq!(stream.on(1, Numbers, Insert(&[4])), 2);
    stream.on(0, Numbers, Delete(&[5])); // 5
    assert_eq!(stream.on(1, Numbers, Insert(&[6])), 2);
    assert_eq!(stream.on(1, Numbers, Insert(&[5])), 5);
}

#[test]
fn another_layout_is_another_number() {
    let mut stream = used(Numbers);
    stream.on(0, Numbers, Delete(&[1])); // 4
    assert_eq!(stream.on(1, Shifted, Insert(&[2])), 4);
    stream.on(1, Shifted, Delete(&[3])); // 6
    assert_eq!(stream.on(0, Numbers, Insert(&[3])), 6);
    // In one transaction: what the first branch frees has a number of the old kind.
    let both = [
        (0, body(&[(Numbers, Delete(&[4]))])),
        (1, body(&[(Shifted, Update(&[5], &[5]))])),
    ];
    stream.bodies(&both); // 8
    assert_eq!(stream.on(2, Shifted, Insert(&[4])), 8);
}

#[test]
fn behind_a_statement_everything_waits_for_it() {
    let mut stream = used(Numbers);
    stream.on(0, Numbers, Delete(&[1]));
    stream.statement(); // 5
    assert_eq!(stream.on(1, Numbers, Insert(&[1])), 5);
    assert_eq!(stream.on(2, Numbers, Insert(&[2])), 5);
    stream.on(2, Numbers, Delete(&[1])); // 8
    assert_eq!(stream.on(1, Numbers, Insert(&[1])), 8);
}

#[test]
fn what_was_before_a_restart_is_waited_for() {
    let mut stream = Stream::after(2, 41);
    assert_eq!(stream.on(0, Numbers, Insert(&[1])), 41);
    assert_eq!(stream.on(1, Numbers, Insert(&[2])), 41);
    assert_eq!(stream.on(1, Numbers, Insert(&[3])), 41);
}

#[test]
fn a_node_that_comes_later_waits_for_what_was_not_looked_at() {
    let mut stream = Stream::new(1);
    stream.on(0, Numbers, Delete(&[1]));
    stream.on(0, Numbers, Insert(&[2]));
    assert_eq!(stream.on(0, Numbers, Insert(&[4])), 0);
    assert_eq!(stream.on(1, Numbers, Insert(&[1])), 3);
    stream.on(0, Numbers, Delete(&[2])); // 5
    assert_eq!(stream.on(1, Numbers, Insert(&[2])), 5);
}

#[test]
fn what_is_not_understood_is_a_barrier() {
    let whole = body(&[(Numbers, Delete(&[1]))]);
    let bytes = whole.segments()[0].clone();
    let mut barriers = 0;
    for cut in 1..bytes.len() {
        let mut stream = used(Numbers);
        stream.on(0, Numbers, Insert(&[9]));
        stream.bodies(&[(0, Body::new(bytes.slice(..cut)))]); // 5
        stream.on(2, Numbers, Insert(&[8]));
        let on = stream.on(1, Numbers, Insert(&[1]));
        assert!(on == 5 || on == 0, "{on}");
        barriers += u32::from(on == 5);
    }
    // All but those behind a whole event.
    assert_eq!(barriers, bytes.len() as u32 - 3);
}

#[test]
fn keys_are_forgotten_in_time() {
    let mut stream = used(Numbers);
    let keys: Vec<[u8; 1]> = (0..250).map(|key| [key]).collect();
    let deletes: Vec<_> = keys.iter().map(|key| (Numbers, Delete(key))).collect();
    let many: Vec<_> = (deletes.iter().cycle())
        .take(limits::FREED_KEYS_MAX)
        .copied()
        .collect();
    // The same keys again and again take no room.
    stream.bodies(&[(0, body(&deletes))]); // 4
    stream.bodies(&[(0, body(&deletes))]); // 5
    assert_eq!(stream.on(1, Numbers, Insert(&[7])), 5);
    assert_eq!(stream.on(1, Numbers, Insert(&[251])), 0);
    // There may not be room for these: what was freed before counts for every key of the table.
    stream.bodies(&[(2, body(&many))]); // 8
    assert_eq!(stream.on(1, Numbers, Insert(&[251])), 5);
    assert_eq!(stream.on(1, Numbers, Insert(&[7])), 8);
    // Too many at once.
    let more = [many, deletes].concat();
    stream.bodies(&[(2, body(&more))]); // 11
    stream.on(0, Numbers, Insert(&[1]));
    assert_eq!(stream.on(1, Numbers, Insert(&[252])), 11);
}

#[test]
fn tables_are_forgotten_in_time() {
    let mut stream = used(Numbers);
    let map = |n: u32| {
        let one = body(&[(Numbers, Insert(&[1]))]);
        let mut bytes = one.segments()[0].to_vec();
        // The table's name, behind header, Rows_query, header, id, flags, schema.
        let at = bytes.windows(3).position(|w| w == b"\x01t\0").unwrap();
        let name = format!("{n:08}");
        bytes.splice(at..at + 2, [&[8], name.as_bytes()].concat());
        let map_at = 19 + 2;
        bytes[map_at + 9] += 7;
        Body::new(Bytes::from(bytes))
    };
    let mut first = None;
    for n in 0..60_000 {
        if stream.bodies(&[(0, map(n))]) == stream.gno - 1 {
            first = Some(n);
            break;
        }
    }
    let first = first.expect("the tables do not fit");
    assert!(first > 10_000, "{first}");
    // Nothing is taken for known that was not.
    let last = stream.gno - 1;
    assert_eq!(stream.on(1, Numbers, Insert(&[77])), last);
}
