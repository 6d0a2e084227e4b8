//! Everything about the collector that needs more than one of its modules: real binlog files, a server that misbehaves on
//! purpose, real servers.
#![allow(clippy::unwrap_used)]

mod assemble;
mod failover;
mod fake;
mod fixtures;
mod memory;
mod network;
mod nodes;
mod rig;
mod semisync;
mod spill;
mod stream;
mod throughput;
mod trouble;
