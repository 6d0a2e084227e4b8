//! Tests of the testbed itself, with real servers: the tools the end-to-end tests trust must be
//! able to fail.

mod bank;
mod compare;
mod compose;
mod coordinator;
mod mysqld;
mod tools;
