//! The server over real files and real sockets, and the clients that matter.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod beside;
mod clients;
mod conversations;
mod dumping;
mod garbage;
mod programs;
mod protocol;
mod ranges;
mod replica;
mod replicas;
mod support;
mod tls;
