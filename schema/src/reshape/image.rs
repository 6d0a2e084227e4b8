//! What is done with the columns of one image of a row.
//!
//! In: a plan's columns, and the columns that the images of an event have. Out: an [`Image`]: which bytes are copied, in runs as
//! long as they can be, which values are converted, what is filled in. It is made once for the full images of a plan, and once for
//! each event whose images are not full; rows only follow it.

use super::convert::{Convert, Width};
use super::fill::Fill;
use super::plan::{Source, Step};

/// Which image of which kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Insert,
    Before,
    After,
}

/// What is written next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Values that lie behind each other in both rows; NULLs among them have no bytes.
    Copy { first: u32, end: u32 },
    /// A value in another form: which, how many bytes of length stand in front, and how.
    Convert {
        column: u32,
        counted: u8,
        step: u32,
        convert: Convert,
    },
    /// The same bytes in every row.
    Bytes(Vec<u8>),
    /// A column whose value only the row's event or nobody knows.
    Fill(u32),
}

/// A column of the node's image that is in the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) old: u32,
    pub(super) new: u32,
    pub(super) step: u32,
    /// Whether it may be NULL there.
    pub(super) nullable: bool,
}

/// What becomes of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// How the columns lie that the node's image has.
    pub(super) widths: Vec<Width>,
    pub(super) ops: Vec<Op>,
    pub(super) pairs: Vec<Pair>,
    /// The NULLs of a new row whose source has none.
    pub(super) nulls: Vec<u8>,
    /// The columns that the new image has.
    pub(super) present: Vec<u8>,
    /// The same with all bits, when it has all columns.
    pub(super) all: Vec<u8>,
    pub(super) whole: bool,
}

/// Whether a column without a source is in a full image. Before images are compared by replicas when there is no key, and
/// what a node does not have, it does not know.
pub(super) fn is_filled(fill: &Fill, role: Role, has_key: bool) -> bool {
    match (fill, role) {
        (Fill::Computed, _) => false,
        (_, Role::Insert) => true,
        (Fill::Null | Fill::Bytes(_), Role::Before) => has_key,
        (Fill::Null | Fill::Bytes(_), Role::After) => true,
        (Fill::Now | Fill::Unknown, _) => false,
    }
}

#[inline]
pub(super) fn bit(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 == 1)
}

#[inline]
pub(super) fn set_bit(bits: &mut [u8], at: usize) {
    if let Some(byte) = bits.get_mut(at / 8) {
        *byte |= 1 << (at % 8);
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Image {
    /// For images that have the columns `bits`.
    pub(super) fn new(
        widths: &[Width],
        steps: &[Step],
        has_key: bool,
        bits: &[u8],
        role: Role,
    ) -> Self {
        let full = (0..widths.len()).all(|at| bit(bits, at));
        let mut present = columns(steps, has_key, bits, role, full);
        if role == Role::Insert && present.iter().all(|byte| *byte == 0) {
            // Only columns that the logical table does not have were given a value. A row without any has no bytes; its defaults
            // are what the others get in any case.
            present = columns(steps, has_key, bits, role, true);
        }
        // Places of the node's columns in its image.
        let mut places = vec![None; widths.len()];
        let mut image = Self::default();
        for (at, width) in widths.iter().enumerate().filter(|(at, _)| bit(bits, *at)) {
            if let Some(place) = places.get_mut(at) {
                *place = Some(number(image.widths.len()));
            }
            image.widths.push(*width);
        }
        let n_steps = steps.len();
        let steps = steps.iter().enumerate();
        let there = steps.filter(|(at, _)| bit(&present, *at));
        let mut new = 0;
        for (at, step) in there {
            let source = match &step.source {
                Source::Column(from, convert) => {
                    places.get(*from).copied().flatten().map(|p| (p, convert))
                }
                Source::Fill(_) => None,
            };
            image.step(number(at), step, source, new);
            new += 1;
        }
        image.nulls.resize((new as usize).div_ceil(8), 0);
        image.whole = (0..n_steps).all(|at| bit(&present, at));
        image.all = vec![0xff; present.len()];
        image.present = present;
        image
    }

    fn step(&mut self, at: u32, step: &Step, source: Option<(u32, &Convert)>, new: u32) {
        if let Some((old, convert)) = source {
            self.pairs.push(Pair {
                old,
                new,
                step: at,
                nullable: step.nullable,
            });
            match (self.ops.last_mut(), convert) {
                (Some(Op::Copy { end, .. }), Convert::Copy) if *end == old => *end += 1,
                (_, Convert::Copy) => self.ops.push(Op::Copy {
                    first: old,
                    end: old + 1,
                }),
                _ => self.ops.push(Op::Convert {
                    column: old,
                    counted: match self.widths.get(old as usize) {
                        Some(Width::Counted(bytes)) => *bytes,
                        _ => 0,
                    },
                    step: at,
                    convert: convert.clone(),
                }),
            }
            return;
        }
        match (step.filling(), self.ops.last_mut()) {
            (Some(Fill::Null), _) => {
                let place = new as usize;
                self.nulls.resize(self.nulls.len().max(place / 8 + 1), 0);
                set_bit(&mut self.nulls, place);
            }
            (Some(Fill::Bytes(bytes)), Some(Op::Bytes(before))) => {
                before.extend_from_slice(bytes);
            }
            (Some(Fill::Bytes(bytes)), _) => self.ops.push(Op::Bytes(bytes.clone())),
            _ => self.ops.push(Op::Fill(at)),
        }
    }
}

/// The columns of the new image.
fn columns(steps: &[Step], has_key: bool, bits: &[u8], role: Role, full: bool) -> Vec<u8> {
    let mut out = vec![0; steps.len().div_ceil(8)];
    for (at, step) in steps.iter().enumerate() {
        // What an insert left out has the node's default there, and would get another downstream.
        let told = role == Role::Insert && step.omitted.is_some();
        let there = match &step.source {
            Source::Column(from, _) => bit(bits, *from) || told,
            Source::Fill(fill) => (full || told) && is_filled(fill, role, has_key),
        };
        if there {
            set_bit(&mut out, at);
        }
    }
    out
}
