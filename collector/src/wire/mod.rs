//! MySQL's client protocol, as far as a replica needs it: bytes in, bytes out, no sockets.
//!
//! In: packets of an untrusted server. Out: what they say, and the packets to send back. The layers are
//! `packet` (bytes ↔ packets), `handshake` and `auth` (logging in), `reply` and `rows` (answers to statements) and
//! `commands` (what is sent). Every parser works with a checked cursor and returns [`WireError`] on anything odd.
//!
//! The scrambles and the RSA step are a few lines over aws-lc-rs, so nothing here comes from `mysql_common`, whose
//! `MyDeserialize` implementations may panic on short input unless they are reached by the one checked way.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub(crate) mod auth;
pub(crate) mod commands;
mod cursor;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod reply;
pub(crate) mod rows;

use thiserror::Error;

/// A packet that is not what the protocol says it must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// A field runs past the end of its packet.
    #[error("malformed {what} packet: it ends inside {field}; is this address a MySQL server?")]
    Short {
        /// The packet.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The server speaks another protocol version.
    #[error(
        "the server greets with protocol version {0}, only 10 is understood; is this address a MySQL server?"
    )]
    ProtocolVersion(u8),
    /// The server lacks something that every MySQL since 5.5 has.
    #[error(
        "the server does not offer {0}; it is too old, or something between us and it is not MySQL"
    )]
    MissingCapability(&'static str),
    /// A packet of a kind that cannot come now.
    #[error("unexpected packet (first byte 0x{first:02x}, {len} bytes) while {doing}")]
    Unexpected {
        /// First byte of the packet.
        first: u8,
        /// Bytes in it.
        len: usize,
        /// What was going on.
        doing: &'static str,
    },
    /// A packet number was skipped or repeated.
    #[error("packet number {found} came where {expected} was due: bytes were lost on the way")]
    Sequence {
        /// Number that was due.
        expected: u8,
        /// Number in the packet.
        found: u8,
    },
    /// A message longer than any MySQL sends.
    #[error(
        "a message of more than {cap} bytes; the largest MySQL can send is max_allowed_packet (1 GiB)"
    )]
    TooLong {
        /// The cap it passed.
        cap: usize,
    },
}
