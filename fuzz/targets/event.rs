//! Every event's parser and writer. See [`tributary_fuzz::event`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::event::run(data));
