//! Table maps and rows: taken apart, and reshaped for another table. See [`tributary_fuzz::rows`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::rows::run(data));
