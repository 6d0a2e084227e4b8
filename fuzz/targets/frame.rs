//! Event framing: a file in one piece and in many, and what is written again. See [`tributary_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::frame::run(data));
