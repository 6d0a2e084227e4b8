//! A client's whole conversation. See `tributary_dump_server::fuzz::session`.

/// Runs one input.
pub fn run(data: &[u8]) {
    tributary_dump_server::fuzz::session(data);
}
