//! Everything about the collector that needs more than one of its modules: real binlog files, a server that misbehaves on
//! purpose, real servers.
#![allow(clippy::unwrap_used)]

mod assemble;
mod fake;
mod fixtures;
mod memory;
mod nodes;
mod rig;

mod stream;
mod throughput;
