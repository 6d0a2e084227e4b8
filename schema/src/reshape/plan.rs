//! How rows of one layout become rows of another.
//!
//! In: the layout of a node's rows, that of the logical table, and columns whose rename one of them has not had yet. Out: a
//! [`Plan`], or `None` when rows can be passed on as they are.

use super::convert::{Convert, Width};
use super::fill::Fill;
use super::image::{Image, Role};
use super::layout::{Layout, wire};
use crate::table::{Column, DataType, same_name};

/// Why rows of one layout cannot become rows of the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no conversion.
    #[error(
        "column `{column}` cannot be carried over: {from} on the node, {to} in the logical table"
    )]
    NoConversion {
        /// The logical column.
        column: String,
        /// The node's type.
        from: String,
        /// The logical type.
        to: String,
    },
    /// The node's rows lack a column of the logical primary key.
    #[error("column `{column}` of the logical primary key is not in the node's rows")]
    KeyColumnMissing {
        /// The logical column.
        column: String,
    },
}

/// Where a logical column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This column of the node's rows.
    Column(usize, Convert),
    /// Nowhere.
    Fill(Fill),
}

/// One logical column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) nullable: bool,
    pub(super) json: bool,
    /// What an insert that does not name the column gives it on the node, where that is not what it gives it downstream.
    pub(super) omitted: Option<Fill>,
}

impl Step {
    /// What is written without a value of the node.
    pub(super) fn filling(&self) -> Option<&Fill> {
        match &self.source {
            Source::Fill(fill) => Some(fill),
            Source::Column(..) => self.omitted.as_ref(),
        }
    }
}

/// How rows become rows of the logical table. Made once for a pair of layouts, used for all their events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) widths: Vec<Width>,
    /// Places of the JSON columns among the node's columns, for partial updates.
    pub(super) json: Vec<usize>,
    pub(super) steps: Vec<Step>,
    /// Whether the rows can be copied whole; the table map cannot.
    pub(super) same_rows: bool,
    pub(super) has_key: bool,
    /// What becomes of full images: of inserts, before and after a change.
    pub(super) full: [Image; 3],
    to: Layout,
    cut: Vec<String>,
}

impl Plan {
    /// How rows of `from` become rows of `to`; `None` when both describe the same rows and the same table map, but for the
    /// name. `renamed` are columns that the node has under their second name and the logical table under the first, or the
    /// other way round.
    ///
    /// # Errors
    /// What cannot be carried over, by name.
    pub fn new(
        from: &Layout,
        to: &Layout,
        renamed: &[(String, String)],
    ) -> Result<Option<Self>, PlanError> {
        Self::with_defaults(from, to, renamed, &|_, _| None)
    }

    /// The same for a part whose defaults are others than those of the logical table. `default` is asked for each column of `to`,
    /// with the name that the node has for it, if it has the column: it answers the column with the default that it has, or will
    /// get, on the node. Only inserts whose images are not full need to know.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_defaults(
        from: &Layout,
        to: &Layout,
        renamed: &[(String, String)],
        default: &dyn Fn(&Column, Option<&str>) -> Option<Column>,
    ) -> Result<Option<Self>, PlanError> {
        let mut target = to.clone();
        target.full = from.full;
        let mut used = vec![false; from.columns.len()];
        let mut steps = Vec::with_capacity(to.columns.len());
        for (at, column) in target.columns.iter().enumerate() {
            let source = find(from, column, renamed);
            if let Some(place) = source.and_then(|s| used.get_mut(s)) {
                *place = true;
            }
            let own = source.and_then(|at| from.columns.get(at));
            let omitted = default(column, own.map(|c| c.name.as_str()));
            let omitted = omitted.map(|column| Fill::of(&column));
            steps.push(Step {
                omitted: omitted.filter(|fill| *fill != Fill::Computed),
                ..step(from, source, column)?
            });
            let in_key = to.primary_key.iter().any(|(c, _)| *c as usize == at);
            if in_key && source.is_none() {
                let column = column.name.clone();
                return Err(PlanError::KeyColumnMissing { column });
            }
        }
        let same_rows = from.columns.len() == steps.len()
            && steps.iter().all(|s| s.omitted.is_none())
            && (steps.iter().enumerate())
                .all(|(at, s)| s.source == Source::Column(at, Convert::Copy))
            && (from.columns.iter().zip(&target.columns)).all(|(a, b)| b.nullable || !a.nullable);
        if same_rows
            && from
                .columns
                .iter()
                .zip(&target.columns)
                .all(|(a, b)| same_column(a, b, from.full))
            && (!from.full || from.primary_key == target.primary_key)
        {
            return Ok(None);
        }
        let json = (0..)
            .zip(&from.columns)
            .filter(|(_, c)| c.data_type == DataType::Json);
        let cut = from.columns.iter().zip(&used).filter(|(_, used)| !**used);
        let widths: Vec<Width> = from.columns.iter().map(Width::of).collect();
        let has_key = !target.primary_key.is_empty();
        let bits = vec![0xff; widths.len().div_ceil(8)];
        let full = [Role::Insert, Role::Before, Role::After]
            .map(|role| Image::new(&widths, &steps, has_key, &bits, role));
        Ok(Some(Self {
            widths,
            json: json.map(|(at, _)| at).collect(),
            steps,
            same_rows,
            has_key,
            full,
            cut: cut.map(|(c, _)| c.name.clone()).collect(),
            to: target,
        }))
    }

    /// The body of the table map event in front of the rows.
    #[must_use]
    pub fn table_map(&self, table_id: u64, flags: u16, schema: &[u8], table: &[u8]) -> Vec<u8> {
        self.to.table_map(table_id, flags, schema, table)
    }

    /// Columns of the node that the logical table does not have: their values are left out.
    #[must_use]
    pub fn cut_columns(&self) -> &[String] {
        &self.cut
    }

    pub(super) fn name_of(&self, step: u32) -> String {
        let step = self.steps.get(step as usize);
        step.map(|s| s.name.clone()).unwrap_or_default()
    }

    pub(super) fn column(&self, name: &str) -> Option<&DataType> {
        let column = self.to.columns.iter().find(|c| c.name == name);
        column.map(|c| &c.data_type)
    }

    /// Logical columns that the node does not have.
    pub fn filled_columns(&self) -> impl Iterator<Item = &str> {
        let filled = self
            .steps
            .iter()
            .filter(|s| matches!(s.source, Source::Fill(_)));
        filled.map(|s| s.name.as_str())
    }
}

fn step(from: &Layout, source: Option<usize>, column: &Column) -> Result<Step, PlanError> {
    let source = match source.and_then(|at| Some((at, from.columns.get(at)?))) {
        None => Source::Fill(Fill::of(column)),
        Some((at, old)) => {
            let convert = Convert::new(old, column).ok_or_else(|| PlanError::NoConversion {
                column: column.name.clone(),
                from: shown(old),
                to: shown(column),
            })?;
            Source::Column(at, convert)
        }
    };
    Ok(Step {
        name: column.name.clone(),
        source,
        nullable: column.nullable,
        json: column.data_type == DataType::Json,
        omitted: None,
    })
}

fn find(from: &Layout, column: &Column, renamed: &[(String, String)]) -> Option<usize> {
    let by_name = |name: &str| from.columns.iter().position(|c| same_name(&c.name, name));
    // A rename that one side has not had yet comes before a column that took the old name.
    for (old, new) in renamed {
        let other = if same_name(old, &column.name) {
            new
        } else if same_name(new, &column.name) {
            old
        } else {
            continue;
        };
        if let Some(at) = by_name(other) {
            return Some(at);
        }
    }
    by_name(&column.name)
}

fn shown(column: &Column) -> String {
    let charset = column
        .collation
        .charset()
        .filter(|_| column.data_type.has_charset());
    match charset {
        Some(charset) => format!("{} {}", column.data_type, charset.name()),
        None => column.data_type.to_string(),
    }
}

/// Whether the table maps say the same of both.
fn same_column(a: &Column, b: &Column, full: bool) -> bool {
    let lists = match (&a.data_type, &b.data_type) {
        (DataType::Enum(x), DataType::Enum(y)) | (DataType::Set(x), DataType::Set(y)) => {
            !full || x == y
        }
        (DataType::Geometry(x), DataType::Geometry(y)) => x == y,
        (DataType::Vector(x), DataType::Vector(y)) => x == y,
        _ => true,
    };
    let listed = matches!(a.data_type, DataType::Enum(_) | DataType::Set(_));
    wire(a) == wire(b)
        && lists
        && a.nullable == b.nullable
        && a.data_type.is_unsigned() == b.data_type.is_unsigned()
        && (a.collation == b.collation || (listed && !full))
        && (!full || (a.name == b.name && a.invisible == b.invisible))
}
