//! Rows that move between nodes within one transaction.
//!
//! In: the branches of a transaction, in node order. Out: the same events, in an order in which a primary key that one
//! branch frees and another takes is freed first. Branches that share no such key stay one behind the other.
//!
//! * `shared`: whether there can be such a key at all; the usual transaction ends here, without an allocation.
//! * `rows`: the branches as statements and rows, and what each row does to which key.
//! * `plan`: which statements, and which rows of them, are written when.
//! * `write`: the plan as bodies.
//!
//! Keys are known from the Table_map's metadata (`binlog_row_metadata=FULL`) and compared by their bytes. What cannot be
//! understood is left as it is: an error in a body is the encoder's to report.

mod plan;
mod rows;
mod shared;
mod write;

#[cfg(test)]
mod tests;

use smallvec::SmallVec;
use tributary_flow::Body;

/// The events of a transaction, in the order in which they are written.
pub(super) type Parts = SmallVec<[Body; 2]>;

/// Puts the events of the branches in the order described above.
#[inline]
pub(super) fn arrange(parts: &mut Parts) {
    if parts.len() > 1
        && let Some(ordered) = reorder(parts)
    {
        *parts = ordered;
    }
}

fn reorder(parts: &[Body]) -> Option<Parts> {
    let tables = shared::tables(parts)?;
    let work = rows::Work::read(parts, &tables)?;
    let pieces = plan::pieces(&work)?;
    Some(write::bodies(parts, &work, &pieces))
}
