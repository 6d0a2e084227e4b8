//! What is fuzzed, one module for each target.
//!
//! In: bytes, chosen by libFuzzer to reach code that nothing has reached. Out: a panic when something that must hold does not. Each
//! target has a file in `targets/`, a corpus in `corpus/`, some a dictionary in `dict/`; `tools/fuzz` builds and runs them.
//! What a target finds becomes a named test in the crate that was wrong.

mod allocation;
pub mod client_packets;
pub mod ddl;
pub mod event;
pub mod frame;
pub mod gtid_set;
pub mod input;
pub mod merger;
pub mod node_packets;
pub mod rows;
pub mod session;
pub mod store;
pub mod stream;
