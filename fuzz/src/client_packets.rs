//! What clients send, packet by packet. See `tributary_dump_server::fuzz::packets`.

/// Runs one input.
pub fn run(data: &[u8]) {
    tributary_dump_server::fuzz::packets(data);
}
