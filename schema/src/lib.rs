//! Tables through time.
//!
//! In: DDL statements as the nodes logged them. Out: what each does to the logical schema, and an identity by which the same
//! statement on several nodes is recognised. Pure.

mod ddl;

pub use ddl::{DdlEffect, DdlStatement};
