//! Rows events in the shape of the logical table.
//!
//! In: a [`Plan`] and the body of a rows event. Out: the body of the event to write. Images keep their form: what an image
//! did not have (`MINIMAL`, `NOBLOB`) the new one does not have either.

use std::borrow::Cow;

use tributary_binlog::{EventError, EventType, RowsHeader};

use super::convert::{ValueError, Width};
use super::fill::Fill;
use super::image::{Image, Op, Role, bit, is_filled, set_bit};
use super::plan::{Plan, Source};
use super::temporal;

/// Why a row cannot be carried over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReshapeError {
    /// The event is damaged or not of the layout the plan is for.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The rows are cut off or not of the layout the plan is for.
    #[error("the rows are not of the layout that the table map gave")]
    Malformed,
    /// A value does not fit.
    #[error("column `{column}`: {error}")]
    Value {
        /// The logical column.
        column: String,
        /// Why.
        error: ValueError,
    },
    /// NULL where the logical table has NOT NULL.
    #[error("column `{column}` is NULL in a row, and NOT NULL in the logical table")]
    Null {
        /// The logical column.
        column: String,
    },
    /// Differences of a JSON value for a column of another type.
    #[error(
        "column `{column}`: a partial update of JSON cannot be carried over to another type; set binlog_row_value_options='' on the node"
    )]
    PartialJson {
        /// The logical column.
        column: String,
    },
    /// A new row lacks a column whose default only its node knows.
    #[error(
        "column `{column}` is not in the node's rows, and its default is an expression: rows inserted before the node has the column cannot be completed"
    )]
    NoDefault {
        /// The logical column.
        column: String,
    },
    /// A row of which nothing would be left: a row without columns has no bytes, so nobody could tell that it is there.
    #[error(
        "a row has no column that the logical table has, and would be lost; set binlog_row_image=FULL on the node"
    )]
    NoColumns,
}

/// Memory that is used again for each event.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Where the values of an image begin, and behind them where the last one ends.
    bounds: Vec<u32>,
}

impl Plan {
    /// Appends the body of `body`, a rows event of this type and of the node's layout, in the logical shape. `table_id` is that
    /// of the table map written for it, `timestamp` that of the event's header: `CURRENT_TIMESTAMP` as a default of a column
    /// the node does not have.
    ///
    /// # Errors
    /// When a row cannot be carried over; `out` then ends with what was written before.
    pub fn rows(
        &self,
        event_type: EventType,
        body: &[u8],
        table_id: u64,
        timestamp: u32,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), ReshapeError> {
        let header = RowsHeader::parse(event_type, body)?;
        if header.n_columns != self.widths.len() as u64 {
            return Err(ReshapeError::Malformed);
        }
        let insert = matches!(event_type, EventType::WRITE_ROWS | EventType::WRITE_ROWS_V1);
        let first = if insert { Role::Insert } else { Role::Before };
        let before = self.image(header.columns_before, first);
        let after = header
            .columns_after
            .map(|bits| (bits, self.image(bits, Role::After)));
        let after_bits = after.as_ref().map(|(bits, image)| image.bits(bits));
        RowsHeader {
            table_id,
            n_columns: self.steps.len() as u64,
            columns_before: before.bits(header.columns_before),
            columns_after: after_bits,
            rows: &[],
            ..header
        }
        .put_body(out);
        if self.same_rows {
            out.extend_from_slice(header.rows);
            return Ok(());
        }
        out.reserve(header.rows.len() + header.rows.len() / 4);
        let mut run = Run {
            plan: self,
            bounds: &mut scratch.bounds,
            timestamp,
            out,
        };
        let partial = event_type == EventType::PARTIAL_UPDATE_ROWS;
        let after = after.as_ref().map(|(_, image)| (&**image, partial));
        run.rows(header.rows, (&before, first), after)
    }

    /// What becomes of images with these columns.
    fn image(&self, bits: &[u8], role: Role) -> Cow<'_, Image> {
        if (0..self.widths.len()).all(|at| bit(bits, at)) {
            let [insert, before, after] = &self.full;
            return Cow::Borrowed(match role {
                Role::Insert => insert,
                Role::Before => before,
                Role::After => after,
            });
        }
        Cow::Owned(Image::new(
            &self.widths,
            &self.steps,
            self.has_key,
            bits,
            role,
        ))
    }
}

impl Image {
    /// The bitmap of the columns that the new image has; `old` is that of the node's.
    fn bits(&self, old: &[u8]) -> &[u8] {
        // Where images are always full, the server sets the bits behind the last column, too.
        let behind = old.last().is_some_and(|b| *b == 0xff);
        if behind && self.whole {
            &self.all
        } else {
            &self.present
        }
    }

    /// Whether one of the columns is NULL. What stands behind the last bit says nothing.
    #[inline]
    fn has_nulls(&self, nulls: &[u8]) -> bool {
        let Some((last, others)) = nulls.split_last() else {
            return false;
        };
        let spare = 8 * nulls.len() - self.widths.len();
        last & (0xff >> spare) != 0 || others.iter().any(|b| *b != 0)
    }
}

/// One event being written.
struct Run<'a> {
    plan: &'a Plan,
    bounds: &'a mut Vec<u32>,
    timestamp: u32,
    out: &'a mut Vec<u8>,
}

impl Run<'_> {
    fn rows(
        &mut self,
        rows: &[u8],
        (before, role): (&Image, Role),
        after: Option<(&Image, bool)>,
    ) -> Result<(), ReshapeError> {
        let mut at = 0;
        while at < rows.len() {
            let (start, written) = (at, self.out.len());
            at = self.image(rows, at, before, role, false)?;
            if let Some((after, partial)) = after {
                at = self.image(rows, at, after, Role::After, partial)?;
            }
            // A row without bytes would be repeated for ever.
            if at == start {
                return Err(ReshapeError::Malformed);
            }
            if self.out.len() == written {
                return Err(ReshapeError::NoColumns);
            }
        }
        Ok(())
    }

    /// One image, at `at` of the rows. Returns where it ends.
    fn image(
        &mut self,
        rows: &[u8],
        mut at: usize,
        image: &Image,
        role: Role,
        partial: bool,
    ) -> Result<usize, ReshapeError> {
        if partial {
            at = self.options(rows, at).ok_or(ReshapeError::Malformed)??;
        }
        let nulls_end = at + image.widths.len().div_ceil(8);
        let nulls = rows.get(at..nulls_end).ok_or(ReshapeError::Malformed)?;
        let nulls = if image.has_nulls(nulls) { nulls } else { &[] };
        let end = find(rows, nulls_end, nulls, &image.widths, self.bounds);
        let end = end.ok_or(ReshapeError::Malformed)?;
        let nulls_at = self.out.len();
        self.out.extend_from_slice(&image.nulls);
        if !nulls.is_empty() {
            self.put_nulls(nulls, nulls_at, image)?;
        }
        for op in &image.ops {
            self.op(op, rows, nulls, role)?;
        }
        Ok(end)
    }

    fn put_nulls(&mut self, nulls: &[u8], at: usize, image: &Image) -> Result<(), ReshapeError> {
        let plan = self.plan;
        let bits = self.out.get_mut(at..).unwrap_or(&mut []);
        for pair in image.pairs.iter().filter(|p| bit(nulls, p.old as usize)) {
            if !pair.nullable {
                let column = plan.name_of(pair.step);
                return Err(ReshapeError::Null { column });
            }
            set_bit(bits, pair.new as usize);
        }
        Ok(())
    }

    #[inline]
    fn op(&mut self, op: &Op, rows: &[u8], nulls: &[u8], role: Role) -> Result<(), ReshapeError> {
        match op {
            Op::Copy { first, end } => self.out.extend_from_slice(self.bytes(rows, *first, *end)),
            Op::Bytes(bytes) => self.out.extend_from_slice(bytes),
            Op::Fill(step) => return self.fill(*step, role),
            Op::Convert {
                column,
                counted,
                step,
                convert,
            } => {
                if !nulls.is_empty() && bit(nulls, *column as usize) {
                    return Ok(());
                }
                let bytes = self.bytes(rows, *column, *column + 1);
                let value = bytes.get(usize::from(*counted)..).unwrap_or(&[]);
                if let Err(error) = convert.put(value, self.out) {
                    let column = self.plan.name_of(*step);
                    return Err(ReshapeError::Value { column, error });
                }
            }
        }
        Ok(())
    }

    /// The bytes of columns of the image.
    #[inline]
    fn bytes<'r>(&self, rows: &'r [u8], first: u32, end: u32) -> &'r [u8] {
        let bound = |at: u32| self.bounds.get(at as usize).map(|b| *b as usize);
        match (bound(first), bound(end)) {
            (Some(first), Some(end)) => rows.get(first..end).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// Reads and writes what stands before the after image of a partial update: which JSON columns hold differences. `None` when
    /// it is malformed.
    fn options(&mut self, rows: &[u8], at: usize) -> Option<Result<usize, ReshapeError>> {
        let (json, at) = (self.plan.json.len().div_ceil(8), at + 1);
        let (partial, at) = match *rows.get(at - 1)? {
            0 => (&[][..], at),
            1 => (rows.get(at..at + json)?, at + json),
            _ => return None,
        };
        Some(self.put_options(partial).map(|()| at))
    }

    /// Which JSON columns of the new image hold differences.
    fn put_options(&mut self, partial: &[u8]) -> Result<(), ReshapeError> {
        let plan = self.plan;
        let is_partial = |from: usize| {
            let place = plan.json.iter().position(|j| *j == from);
            place.is_some_and(|at| bit(partial, at))
        };
        let mut bits = vec![0; plan.steps.iter().filter(|s| s.json).count().div_ceil(8)];
        let mut n = 0;
        for step in &plan.steps {
            let partial = matches!(&step.source, Source::Column(from, _) if is_partial(*from));
            if partial && !step.json {
                let column = step.name.clone();
                return Err(ReshapeError::PartialJson { column });
            }
            if partial {
                set_bit(&mut bits, n);
            }
            n += usize::from(step.json);
        }
        if partial.is_empty() || bits.is_empty() {
            self.out.push(0);
        } else {
            self.out.push(1);
            self.out.extend_from_slice(&bits);
        }
        Ok(())
    }

    /// A value that no row of the node holds and that is not always the same.
    fn fill(&mut self, step: u32, role: Role) -> Result<(), ReshapeError> {
        let plan = self.plan;
        let Some(step) = plan.steps.get(step as usize) else {
            return Ok(());
        };
        debug_assert!(
            (step.filling()).is_some_and(|fill| is_filled(fill, role, plan.has_key)),
            "told by the same rule"
        );
        if step.filling() != Some(&Fill::Now) {
            let column = step.name.clone();
            return Err(ReshapeError::NoDefault { column });
        }
        let column = plan.column(&step.name);
        let now = column.and_then(|t| temporal::now(t, self.timestamp));
        self.out.extend_from_slice(&now.unwrap_or_default());
        Ok(())
    }
}

/// Where the columns of an image lie that begins at `at`; `nulls` is empty when none is NULL. Returns where the image ends.
#[inline]
fn find(
    rows: &[u8],
    at: usize,
    nulls: &[u8],
    widths: &[Width],
    bounds: &mut Vec<u32>,
) -> Option<usize> {
    let mut at = at as u64;
    bounds.resize(widths.len() + 1, 0);
    for (n, (width, bound)) in widths.iter().zip(bounds.iter_mut()).enumerate() {
        *bound = at as u32;
        if !nulls.is_empty() && bit(nulls, n) {
            continue;
        }
        at += match width {
            Width::Fixed(len) => u64::from(*len),
            Width::Counted(len) => u64::from(*len) + length(rows, at as usize, *len)?,
        };
    }
    *bounds.last_mut()? = at as u32;
    // No event is as long as what does not fit into the numbers.
    (at <= rows.len() as u64 && at <= u64::from(u32::MAX)).then_some(at as usize)
}

/// The length in front of a value.
#[inline]
fn length(rows: &[u8], at: usize, len: u8) -> Option<u64> {
    let bytes = rows.get(at..)?;
    Some(match len {
        1 => u64::from(*bytes.first()?),
        2 => u64::from(u16::from_le_bytes(*bytes.first_chunk()?)),
        3 => {
            let [a, b, c] = *bytes.first_chunk()?;
            u64::from(u32::from_le_bytes([a, b, c, 0]))
        }
        _ => u64::from(u32::from_le_bytes(*bytes.first_chunk()?)),
    })
}
