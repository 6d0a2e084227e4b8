//! Clusters, interleavings and restarts through the merger. See [`tributary_fuzz::merger`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::merger::run(data));
