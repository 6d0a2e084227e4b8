//! Rows that move between nodes within one transaction.
//!
//! In: the branches of a transaction, in node order, in memory or in spool files. Out: the same events, in an order in which a
//! primary key that one branch frees and another takes is freed first. Branches that share no such key stay one behind the other.
//!
//! * `shared`: whether there can be such a key at all; the usual transaction ends here, without an allocation.
//! * `walk`: a branch as statements and rows, without keeping them.
//! * `acts`: what each row does to which key, of any number of rows.
//! * `rows`: the statements and rows whose place matters.
//! * `plan`: which statements, and which rows of them, are written when.
//! * `write`: the plan as bodies.
//!
//! Keys are known from the Table_map's metadata (`binlog_row_metadata=FULL`) and compared by their bytes. What cannot be
//! understood is left as it is: an error in a body is the encoder's to report. What comes out depends on the events alone, and not on
//! where they lie.

mod acts;
mod plan;
mod rows;
mod shared;
mod walk;
mod write;

#[cfg(test)]
mod tests;

use std::io;

use smallvec::SmallVec;
use tributary_flow::{Body, SpoolFiles};

use acts::Acts;
use rows::{Caps, Known};
use shared::Unread;

/// The events of a transaction, in the order in which they are written.
pub(super) type Parts = SmallVec<[Body; 2]>;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arranged {
    /// Every key is freed before it is taken.
    Right,
    /// Keys are exchanged in a ring: no order does, and it is left as it is.
    Ring,
}

/// Why a transaction cannot be put in order.
#[derive(Debug)]
pub(super) enum ArrangeError {
    /// Its spool files.
    Io(io::Error),
    /// More rows move, in both directions, than are looked at singly, in more statements than are looked at.
    TooMany,
}

impl From<io::Error> for ArrangeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Puts the events of the branches in the order described above.
#[inline]
pub(super) fn arrange(
    parts: &mut Parts,
    files: Option<&dyn SpoolFiles>,
) -> Result<Arranged, ArrangeError> {
    if parts.len() < 2 {
        return Ok(Arranged::Right);
    }
    match reorder(parts, Acts::new(files), Caps::DEFAULT, files) {
        Ok((ordered, arranged)) => {
            if let Some(ordered) = ordered {
                *parts = ordered;
            }
            Ok(arranged)
        }
        Err(Unread::Strange) => Ok(Arranged::Right),
        Err(Unread::Io(error)) => Err(error.into()),
        Err(Unread::TooMany) => Err(ArrangeError::TooMany),
    }
}

/// The parts in another order, if they need one.
fn reorder(
    parts: &[Body],
    acts: Acts<'_>,
    caps: Caps,
    files: Option<&dyn SpoolFiles>,
) -> Result<(Option<Parts>, Arranged), Unread> {
    let tables = shared::tables(parts)?;
    if tables.is_empty() {
        return Ok((None, Arranged::Right));
    }
    let (work, pairs) = match rows::read(parts, &tables, acts, caps)? {
        Known::Nothing => return Ok((None, Arranged::Right)),
        Known::Work(work, pairs) => (Some(work), pairs),
        Known::Branches(pairs) => (None, pairs),
    };
    if let Some(work) = work {
        if let Some(pieces) = plan::pieces(&work) {
            let bodies = write::bodies(parts, &tables, &work, &pieces, files)?;
            return Ok((Some(bodies), Arranged::Right));
        }
        if work.knows_rows {
            return Ok((None, Arranged::Ring));
        }
    }
    let order = plan::branches(parts.len(), &pairs).ok_or(Unread::TooMany)?;
    let bodies = order.into_iter().filter_map(|at| parts.get(at).cloned());
    Ok((Some(bodies.collect()), Arranged::Right))
}
