//! How much faster a replica with four workers applies the merged stream than one with a single worker.
//!
//! In: how many transactions. Out: both times and their ratio. Nodes, service and replicas are real; no transaction
//! conflicts with another; each commit of the replicas is on disk, as MySQL's defaults have it.

use anyhow::Result;
use tributary_tests::apply_race::{ApplyRace, race};
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::service::{Service, ServiceOptions};

const NODES: u32 = 3;
const WORKERS: u32 = 4;

/// Runs the race.
pub(crate) async fn run(transactions: u64) -> Result<ApplyRace> {
    // What the nodes do is not measured.
    let cluster = Cluster::start_with(NODES, Workplace::temporary()?, |options| {
        options
            .arg("--sync-binlog=0")
            .arg("--innodb-flush-log-at-trx-commit=2")
    })
    .await?;
    let options = ServiceOptions::new("tso", &cluster.nodes);
    let mut service = Service::start(options, cluster.dir()).await?;
    let race = race(&cluster, &service, WORKERS, transactions).await?;
    service.stop().await?;
    Ok(race)
}
