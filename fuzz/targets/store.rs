//! Operations of the store with crashes, against a model. See [`tributary_fuzz::store`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::store::run(data));
