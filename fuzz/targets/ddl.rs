//! DDL text: read, rewritten for other names, applied to tables. See [`tributary_fuzz::ddl`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::ddl::run(data));
