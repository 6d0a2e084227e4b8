//! What a node sends. See `tributary_collector::fuzz::packets`.

/// Runs one input.
pub fn run(data: &[u8]) {
    tributary_collector::fuzz::packets(data);
}
