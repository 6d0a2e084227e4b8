//! What clients send before and after they have logged in, packet by packet. See [`tributary_fuzz::client_packets`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tributary_fuzz::client_packets::run(data));
