//! What decides: sessions, statements, dumps.
//!
//! In: messages from `wire`, and the server's state behind traits. Out: answers and requests as data. Pure: no tokio, no
//! files, no sockets, no clock, no randomness; times and random bytes are arguments.

pub(crate) mod dump;
pub(crate) mod query;
pub(crate) mod session;
pub(crate) mod view;
