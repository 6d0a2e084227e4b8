//! Tables through time.
//!
//! In: DDL statements and table map events as the nodes logged them, and the routes of the configuration. Out: the logical
//! tables at every point of the order, the one logical statement that many physical ones become, and rows in the shape of
//! their logical table. Pure.

mod ddl;
mod route;

pub use ddl::{DdlEffect, DdlStatement};
pub use route::{
    NameCase, RouteProblem, RouteRule, Routed, RoutedSchema, Router, Routes, is_system_schema,
};
