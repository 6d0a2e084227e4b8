//! What passes between Tributary's stages.
//!
//! In: nothing; this crate has no behaviour of its own beyond the rules that keep its values valid. Out: the
//! vocabulary shared by collector, merger, store and dump server: commit timestamps ([`Tso`]), the total order
//! ([`OrderKey`]), source and global transactions, fences, checkpoints, and every cap in [`limits`]. Pure: no IO,
//! no clock, no randomness.

mod body;
mod checkpoint;
mod class;
mod fence;
mod global;
pub mod kept;
mod key;
pub mod limits;
mod mutant;
mod node;
mod node_set;
mod node_tables;
mod source;
mod spool;
mod tso;

pub use body::{Body, Chunks, count_events};
pub use checkpoint::{Checkpoint, NodeProgress};
pub use class::ErrorClass;
pub use fence::{Fence, FenceAnswer, FenceRequest, FenceStamp};
pub use global::{Dependency, GlobalKind, GlobalTxn, MergedBatch};
pub use kept::{BranchOp, KeptBranch, KeptError, KeptId, KeptRows};
pub use key::{KeyClass, OrderKey, OrderMode};
#[cfg(feature = "mutants")]
pub use mutant::choose_mutant;
pub use mutant::{Mutant, mutant};
pub use node::{NodeId, NodeTable};
pub use node_set::{ChangeKind, Moment, NodeChange, NodeRecord, NodeSet, RoutesRecord};
pub use node_tables::{NodeStart, NodeTables};
pub use source::{NodeBatch, NodeItem, SourcePos, SourceTxn, TxnKind};
pub use spool::{MemorySpool, MemorySpools, Spilling, Spool, SpoolFiles, SpoolWriter};
pub use tso::Tso;
