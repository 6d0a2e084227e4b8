//! Real clients behind the service, with real nodes before it: MariaDB replicas and the change data capture clients people use.
//!
//! In: the programs that `tools/get-mariadb` and `tools/get-client` fetch. Each client starts on an empty log, streams the bank with
//! its schema changes, is killed and resumes, outlives a restart of the service and rotations; what it has read is applied to
//! a model that must end up equal to the shards. `make test` and `make test-clients` run this; `cargo test` alone does not.

mod beside;
mod canon;
mod change;
mod client;
mod mariadb;
mod model;
mod shards;
mod stream;
