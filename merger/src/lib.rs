//! Many nodes' transactions in, one total order out.
//!
//! In: [`NodeBatch`](tributary_flow::NodeBatch)es from the collectors and the answers to fences. Out:
//! [`MergedBatch`](tributary_flow::MergedBatch)es for the store, and requests for fences. The rules are in [`core`], which
//! does no IO and knows no clock; `task` runs them on a thread of their own.

pub mod core;
mod error;
mod task;
mod waits;

pub use error::{BranchPlace, MergeError, SourcePlace};
pub use task::{KeptStatus, MergerHandle, MergerPorts, MergerStatus, NodeMergeStatus, spawn};
pub use waits::{Blocked, WaitsFor};
