//! Tests of the crate as its users see it: real files, round trips, models, garbage.

mod fixtures;
mod framing;
mod garbage;
mod gtid_sets;
mod known_bytes;
mod roundtrip;
mod rows_walk;
mod strategies;
