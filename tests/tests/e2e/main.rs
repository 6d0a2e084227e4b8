//! The whole service between real MySQL nodes and real clients.
//!
//! Each module is one story; `world` sets the stage.

mod accounts;
mod admin;
mod bad_input;
mod catalog;
mod causal;
mod crash;
mod directory;
mod disk;
mod failover;
mod files;
mod huge;
mod merge;
mod mysql_replica;
mod names;
mod network;
mod nodes;
mod parallel;
mod prepared;
mod programs;
mod recovery;
mod replay;
mod resharding;
mod resources;
mod scaling;
mod schema;
mod sharded;
mod sum;
mod tables;
mod trouble;
mod types;
mod world;
