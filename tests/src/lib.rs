//! Testbed and workload: real MySQL servers, the `tributary` binary, a bank that runs distributed
//! transactions over the servers, and a comparison of what came out with what went in.
//!
//! In: programs found by `tools/get-mysql` and the built `tributary` binary. Out: handles that the
//! end-to-end tests, the benches and `make demo` drive. Servers listen on 127.0.0.1 only and die
//! with the process that started them.

pub mod apply_race;
pub mod bank;
pub mod cluster;
pub mod compare;
pub mod coordinator;
pub mod faults;
pub mod mariadb;
pub mod moment;
pub mod mysqld;
pub mod process;
pub mod service;
pub mod tools;
pub mod tso;
pub mod wire;
