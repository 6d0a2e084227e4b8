//! What a node sends: greeting, login, replies, rows. See [`tributary_fuzz::node_packets`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::node_packets::run(data));
