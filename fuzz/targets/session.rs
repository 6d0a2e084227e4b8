//! A client's whole conversation. See [`tributary_fuzz::session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::session::run(data));
