//! kill -9 of the service and of a node, again and again, while the bank runs and a replica follows.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;
use tributary_tests::bank::BankOptions;

use crate::world::World;

/// How often the service is killed.
const SERVICE_KILLS: u32 = 20;
/// How often a node is killed.
const NODE_KILLS: u32 = 4;

fn steady(seed: u64) -> BankOptions {
    BankOptions {
        seed: Some(seed),
        rate: Some(300.0),
        workers: 4,
        ddl_every: Some(Duration::from_secs(4)),
        ..BankOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_goes_on_where_it_was() -> Result<()> {
    let mut world = World::start(|options| options.max_binlog_size = Some("256KiB".into())).await?;
    let replica = world.replica("replica", 201).await?;
    let bank = world.bank(steady(2)).await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    let mut last = 0;
    for kill in 0..SERVICE_KILLS {
        sleep(Duration::from_millis(rand::random_range(50..1200))).await;
        let before = world.last_gno().await.unwrap_or(last);
        world.service.kill9();
        world.service.launch().await?;
        last = world.last_gno().await?;
        ensure!(
            last >= before,
            "kill {kill}: transaction {before} was durable, now {last} is the last"
        );
    }
    bank.close();
    println!("bank: {:?}", running.await??);
    world.all_is_well(&bank, &replica).await?;
    world.service.stop().await?;
    world.verified().await?;
    world.no_errors_logged()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_loses_nothing() -> Result<()> {
    let mut world = World::start(|_| {}).await?;
    let replica = world.replica("replica", 201).await?;
    let bank = world.bank(steady(3)).await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    for kill in 0..NODE_KILLS {
        sleep(Duration::from_millis(rand::random_range(500..2500))).await;
        let node = &mut world.cluster.nodes[kill as usize % 3];
        node.kill9();
        sleep(Duration::from_millis(rand::random_range(0..1500))).await;
        node.launch().await?;
    }
    sleep(Duration::from_secs(1)).await;
    bank.close();
    println!("bank: {:?}", running.await??);
    world.all_is_well(&bank, &replica).await
}
