//! Rows in the shape of another table.
//!
//! In: a table map event of a node and the logical table that is valid where its rows stand in the order. Out: the table map
//! and rows events to write. [`Layout`] says how rows lie, [`Plan`] how they become those of another layout, column by
//! column: copied, converted, filled, left out. What cannot be carried over is an error with the column's name.

mod convert;
mod decimal;
mod fill;
mod holds;
mod image;
mod layout;
mod plan;
mod rows;
mod table_map;
mod temporal;

pub use convert::ValueError;
pub use holds::holds;
pub use layout::{Layout, LayoutError};
pub use plan::{Plan, PlanError};
pub use rows::{ReshapeError, Scratch};
