//! MySQL's client protocol as bytes: packets, handshake, authentication, replies, result sets, commands.
//!
//! In: bytes from a client, untrusted. Out: typed messages, and the bytes of every answer. Pure: no sockets, no
//! clock, no randomness (random salts are arguments). Formats: "Client/Server Protocol" in MySQL's source
//! documentation.

pub(crate) mod auth;
pub(crate) mod binary;
pub(crate) mod command;
pub(crate) mod compress;
pub(crate) mod cursor;
pub(crate) mod errors;
pub(crate) mod flags;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod reply;
pub(crate) mod resultset;
pub(crate) mod semisync;

pub(crate) use flags::{CapabilityFlags, StatusFlags};
