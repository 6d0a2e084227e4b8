//! The rules of the order. No IO, no clock, no randomness: the same inputs give the same outputs.
//!
//! In: items of each node's stream, fences placed on nodes. Out: [`GlobalTxn`](tributary_flow::GlobalTxn)s in their final
//! order, requests for fences, and the reason why nothing comes.
//!
//! * `node`: what one node's stream has told so far, and the key below which it can tell nothing new (its *frontier*).
//! * `merge`: the k-way merge below all frontiers, and what blocks it.
//! * `distributed`: branches, from prepare to a place in the order.
//! * `groups`: distributed transactions without a TSO, and their keys.
//! * `kept`: branches that stay prepared for long.
//! * `known`: which transactions of other nodes are older than the end of a node's stream.
//! * `emit`: what is due, as it is written.
//! * `clock`: which transactions a replica may apply side by side.
//! * `waiting`: what is committed and not due yet.
//! * `moved`: within one transaction, a key is freed before it is taken.
//! * `logical`: from the nodes' tables to the logical ones; the same statement from several nodes becomes one.

mod clock;
mod distributed;
mod emit;
mod groups;
mod kept;
mod known;
mod logical;
mod merge;
mod moved;
mod node;
mod waiting;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

pub use kept::{KeepError, Kept, RestoreError};
pub use merge::{BlockedOn, Heuristic, Merger, Resume};
pub use node::Frontier;
