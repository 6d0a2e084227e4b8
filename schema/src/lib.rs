//! Tables through time.
//!
//! In: DDL statements and table map events as the nodes logged them, and the routes of the configuration. Out: the logical
//! tables at every point of the order, the one logical statement that many physical ones become, and rows in the shape of
//! their logical table. Pure.

mod charset;
mod cluster;
mod ddl;
mod history;
mod lex;
mod pending;
mod reshape;
mod route;
mod table;

pub use charset::{Charset, Collation, TranscodeError, Transcoder};
pub use cluster::{
    ClusterSchema, DefineError, Emitted, Into, NodeTables, RowsProblem, SchemaRules,
    SourceStatement, StateError, Target, Write, decode_sql, follow_history, stored_history,
    stored_nodes, stored_waiting,
};
pub use ddl::{
    AlterTable, CreateTable, DatabaseChange, DdlEffect, DdlProblem, DdlStatement, Effect, Kind,
    NameRef, NameRole, Session, Statement, Unit, UnitTarget,
};
pub use history::{Change, History, HistoryError, Moment, Object, Record, SchemaKey, diff};
pub use lex::LexMode;
pub use pending::{Participant, Pending, PendingStatement, Verdict};
pub use reshape::{Layout, LayoutError, Plan, PlanError, ReshapeError, Scratch, ValueError, holds};
pub use route::{
    NameCase, RouteProblem, RouteRule, Routed, RoutedSchema, Router, Routes, is_system_schema,
};
pub use table::{
    AlterError, BlobSize, Check, Column, DataType, DefaultValue, ForeignKey, Generated,
    GeometryKind, Key, KeyKind, KeyPart, KeyPartOf, Position, Table,
};
