//! The server over real files and real sockets, and the clients that matter.

mod clients;
mod dumping;
mod garbage;
mod programs;
mod support;
mod tls;
