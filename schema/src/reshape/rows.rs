//! Rows events in the shape of the logical table.
//!
//! In: a [`Plan`] and the body of a rows event. Out: the body of the event to write. Images keep their form: what an image
//! did not have (`MINIMAL`, `NOBLOB`) the new one does not have either.

use tributary_binlog::{EventError, EventType, RowsHeader};

use super::convert::{Convert, ValueError, Width};
use super::fill::Fill;
use super::plan::{Plan, Source, Step};
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
    /// For each column of the node's image: where its bytes are, with their length in front; `NULL_AT` for a NULL.
    ranges: Vec<(u32, u32)>,
    images: [Image; 2],
}

/// What stands for the place of a NULL; no event is that long.
const NULL_AT: (u32, u32) = (u32::MAX, u32::MAX);

/// The columns of the images of one event, old and new.
#[derive(Clone, Debug, Default)]
struct Image {
    /// Places of the columns that are there.
    old: Vec<u16>,
    /// Places of the steps that are.
    new: Vec<u16>,
}

impl Image {
    fn set(&mut self, plan: &Plan, old: &[u8], new: &[u8]) {
        let places = |n: usize| 0..u16::try_from(n).unwrap_or(u16::MAX);
        self.old.clear();
        self.old
            .extend(places(plan.widths.len()).filter(|at| bit(old, usize::from(*at))));
        self.new.clear();
        self.new
            .extend(places(plan.steps.len()).filter(|at| bit(new, usize::from(*at))));
    }
}

/// Which image of which kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Insert,
    Before,
    After,
}

/// A reader over the rows.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    #[inline]
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(n)?;
        let slice = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(slice)
    }
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
        let before = self.present(header.columns_before, first);
        let after = header
            .columns_after
            .map(|bits| self.present(bits, Role::After));
        RowsHeader {
            table_id,
            n_columns: self.steps.len() as u64,
            columns_before: &before,
            columns_after: after.as_deref(),
            rows: &[],
            ..header
        }
        .put_body(out);
        if self.same_rows {
            out.extend_from_slice(header.rows);
            return Ok(());
        }
        out.reserve(header.rows.len() + header.rows.len() / 4);
        let [mut one, mut two] = std::mem::take(&mut scratch.images);
        one.set(self, header.columns_before, &before);
        if let (Some(old), Some(new)) = (header.columns_after, &after) {
            two.set(self, old, new);
        }
        let mut run = Run {
            plan: self,
            ranges: &mut scratch.ranges,
            timestamp,
            out,
        };
        let partial = event_type == EventType::PARTIAL_UPDATE_ROWS;
        let after = after.is_some().then_some((&two, partial));
        let done = run.rows(header.rows, (&one, first), after);
        scratch.images = [one, two];
        done
    }

    /// The columns of the new image.
    fn present(&self, bits: &[u8], role: Role) -> Vec<u8> {
        let full = (0..self.widths.len()).all(|at| bit(bits, at));
        let out = self.columns(bits, role, full);
        if role == Role::Insert && out.iter().all(|byte| *byte == 0) {
            // Only columns that the logical table does not have were given a value. A row without any has no bytes; its defaults
            // are what the others get in any case.
            return self.columns(bits, role, true);
        }
        out
    }

    fn columns(&self, bits: &[u8], role: Role, full: bool) -> Vec<u8> {
        let mut out = vec![0; self.steps.len().div_ceil(8)];
        for (at, step) in self.steps.iter().enumerate() {
            let there = match &step.source {
                Source::Column(from, _) => bit(bits, *from),
                Source::Fill(fill) => full && self.is_filled(fill, role),
            };
            if let Some(byte) = out.get_mut(at / 8).filter(|_| there) {
                *byte |= 1 << (at % 8);
            }
        }
        // Where images are always full, the server sets the bits behind the last column, too.
        let behind = bits.last().is_some_and(|b| *b == 0xff);
        if behind && (0..self.steps.len()).all(|at| bit(&out, at)) {
            out.fill(0xff);
        }
        out
    }

    /// Whether a column without a source is in a full image. Before images are compared by replicas when there is no key, and
    /// what a node does not have, it does not know.
    fn is_filled(&self, fill: &Fill, role: Role) -> bool {
        match (fill, role) {
            (Fill::Computed, _) => false,
            (_, Role::Insert) => true,
            (Fill::Null | Fill::Bytes(_), Role::Before) => self.has_key,
            (Fill::Null | Fill::Bytes(_), Role::After) => true,
            (Fill::Now | Fill::Unknown, _) => false,
        }
    }
}

/// One event being written.
struct Run<'a> {
    plan: &'a Plan,
    ranges: &'a mut Vec<(u32, u32)>,
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
        let mut rest = Rest { bytes: rows, at: 0 };
        while rest.at < rows.len() {
            let (start, written) = (rest.at, self.out.len());
            self.image(&mut rest, before, role, None)?;
            if let Some((after, partial)) = after {
                let partial = if partial {
                    Some(self.options(&mut rest)?)
                } else {
                    None
                };
                self.image(&mut rest, after, Role::After, partial)?;
            }
            // A row without bytes would be repeated for ever.
            if rest.at == start {
                return Err(ReshapeError::Malformed);
            }
            if self.out.len() == written {
                return Err(ReshapeError::NoColumns);
            }
        }
        Ok(())
    }

    /// Reads what stands before the after image of a partial update: which JSON columns hold differences.
    fn options(&self, rest: &mut Rest<'_>) -> Result<Vec<u8>, ReshapeError> {
        let malformed = ReshapeError::Malformed;
        let options = *rest
            .take(1)
            .and_then(<[u8]>::first)
            .ok_or(malformed.clone())?;
        match options {
            0 => Ok(Vec::new()),
            1 => {
                let bits = rest
                    .take(self.plan.json.len().div_ceil(8))
                    .ok_or(malformed)?;
                Ok(bits.to_vec())
            }
            _ => Err(malformed),
        }
    }

    /// One image.
    fn image(
        &mut self,
        rest: &mut Rest<'_>,
        image: &Image,
        role: Role,
        partial: Option<Vec<u8>>,
    ) -> Result<(), ReshapeError> {
        self.read(rest, &image.old).ok_or(ReshapeError::Malformed)?;
        if let Some(partial) = partial {
            self.put_options(&partial)?;
        }
        let plan = self.plan;
        let nulls_at = self.out.len();
        self.out.resize(nulls_at + image.new.len().div_ceil(8), 0);
        for (n, at) in image.new.iter().enumerate() {
            let Some(step) = plan.steps.get(usize::from(*at)) else {
                continue;
            };
            if self.value(rest.bytes, step, role)?
                && let Some(byte) = self.out.get_mut(nulls_at + n / 8)
            {
                *byte |= 1 << (n % 8);
            }
        }
        Ok(())
    }

    /// Finds the columns of an image.
    fn read(&mut self, rest: &mut Rest<'_>, columns: &[u16]) -> Option<()> {
        let nulls = rest.take(columns.len().div_ceil(8))?;
        self.ranges.resize(self.plan.widths.len(), (0, 0));
        for (n, at) in columns.iter().enumerate() {
            let at = usize::from(*at);
            let range = if bit(nulls, n) {
                NULL_AT
            } else {
                let start = rest.at;
                skip(rest, *self.plan.widths.get(at)?)?;
                (u32::try_from(start).ok()?, u32::try_from(rest.at).ok()?)
            };
            *self.ranges.get_mut(at)? = range;
        }
        Some(())
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
            if let Some(byte) = bits.get_mut(n / 8).filter(|_| partial) {
                *byte |= 1 << (n % 8);
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

    /// Writes a value; true when it is NULL.
    #[inline]
    fn value(&mut self, rows: &[u8], step: &Step, role: Role) -> Result<bool, ReshapeError> {
        let (from, convert) = match &step.source {
            Source::Column(from, convert) => (*from, convert),
            Source::Fill(fill) => return self.fill(step, fill, role),
        };
        let range = self.ranges.get(from).copied().unwrap_or(NULL_AT);
        if range == NULL_AT {
            if !step.nullable {
                let column = step.name.clone();
                return Err(ReshapeError::Null { column });
            }
            return Ok(true);
        }
        let bytes = rows.get(range.0 as usize..range.1 as usize).unwrap_or(&[]);
        if *convert == Convert::Copy {
            self.out.extend_from_slice(bytes);
            return Ok(false);
        }
        // The length in front is not part of the value.
        let value = match self.plan.widths.get(from) {
            Some(Width::Counted(n)) => bytes.get(usize::from(*n)..).unwrap_or(&[]),
            _ => bytes,
        };
        match convert.put(value, self.out) {
            Ok(()) => Ok(false),
            Err(error) => Err(ReshapeError::Value {
                column: step.name.clone(),
                error,
            }),
        }
    }

    fn fill(&mut self, step: &Step, fill: &Fill, role: Role) -> Result<bool, ReshapeError> {
        debug_assert!(self.plan.is_filled(fill, role), "told by the same rule");
        match fill {
            Fill::Null => return Ok(true),
            Fill::Bytes(bytes) => self.out.extend_from_slice(bytes),
            Fill::Now => {
                let column = self.plan.column(&step.name);
                let now = column.and_then(|t| temporal::now(t, self.timestamp));
                self.out.extend_from_slice(&now.unwrap_or_default());
            }
            Fill::Computed | Fill::Unknown => {
                let column = step.name.clone();
                return Err(ReshapeError::NoDefault { column });
            }
        }
        Ok(false)
    }
}

#[inline]
fn skip(rest: &mut Rest<'_>, width: Width) -> Option<()> {
    let len = match width {
        Width::Fixed(n) => n as usize,
        Width::Counted(n) => {
            let bytes = rest.take(usize::from(n))?;
            bytes
                .iter()
                .rev()
                .fold(0_usize, |acc, b| acc << 8 | usize::from(*b))
        }
    };
    rest.take(len).map(|_| ())
}

#[inline]
fn bit(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 == 1)
}
