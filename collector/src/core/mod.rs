//! What decides, without sockets, clocks or randomness.
//!
//! In: checked events, variables and grants of a node, GTID sets, attempt counts. Out: whole source transactions
//! (`assemble`, over `chunk`, `spill`, `position` and `query`), what is wrong with a node's settings (`settings`), from where to
//! go on (`resume`), which server of a failover group is read (`choice`), what is wrong by name (`trouble`, `watch`), positions
//! over changes of the server (`place`), what to acknowledge (`acks`, `early`), and how long to wait before trying again (`backoff`).
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub(crate) mod acks;
pub(crate) mod assemble;
pub(crate) mod assemble_error;
pub(crate) mod backoff;
pub(crate) mod choice;
pub(crate) mod chunk;
pub(crate) mod early;
mod group;
pub(crate) mod place;
mod position;
mod query;
pub(crate) mod resume;
pub(crate) mod settings;
pub(crate) mod spill;
pub(crate) mod trouble;
pub(crate) mod watch;
