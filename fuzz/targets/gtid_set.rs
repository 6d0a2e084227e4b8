//! GTID sets as text, as bytes, and their arithmetic against a set of numbers. See [`tributary_fuzz::gtid_set`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::gtid_set::run(data));
