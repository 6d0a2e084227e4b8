//! A node's binlog stream, from bytes to whole transactions. See [`tributary_fuzz::stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::stream::run(data));
