//! Integration tests of the store: what ends up on disk, what survives crashes, what `verify` finds.
#![allow(clippy::unwrap_used)]

mod commit;
mod crash;
mod crash_states;
mod encoding;
mod faults;
mod foreign;
mod opening;
mod purging;
mod reading;
mod rebuilding;
mod retained;
#[cfg(feature = "rocksdb")]
mod rocks;
mod spooled;
mod support;
mod upgrading;
mod verifying;
