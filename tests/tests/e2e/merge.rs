//! The bank at full speed, two replicas, a consumer that checks every transaction; what is left behind is checked byte by byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tributary_tests::bank::BankOptions;
use tributary_tests::mysqld::Mysqld;

use crate::world::World;
use crate::{files, replay, sum};

/// Memory of the service under the bank at full speed.
const RSS_MAX_KIB: u64 = 256 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_arrives_whole_in_order_and_unchanged() -> Result<()> {
    let mut world = World::start(|options| {
        options.max_binlog_size = Some("1MiB".into());
        options.cluster_extra = "fence_log = \"fences.jsonl\"\n".into();
    })
    .await?;
    let auto = world.replica("auto", 201).await?;
    let positioned = world.cluster.start_replica("positioned", 202).await?;
    let mut source = world.service.source();
    source.position = Some(("binlog.000001".into(), 4));
    positioned.replicate_from(&source).await?;

    let options = BankOptions {
        duration: Some(Duration::from_secs(25)),
        ddl_every: Some(Duration::from_secs(3)),
        seed: Some(1),
        ..BankOptions::default()
    };
    let accounts = options.accounts as usize;
    let bank = world.bank(options).await?;
    let last = Arc::new(AtomicU64::new(0));
    let watcher = tokio::spawn({
        let (opts, expected, last) = (
            world.service.opts(),
            (accounts, bank.expected_sum()),
            last.clone(),
        );
        async move {
            sum::watch(opts, expected, || {
                Some(last.load(Ordering::SeqCst)).filter(|l| *l > 0)
            })
            .await
        }
    });
    let stats = bank.run().await?;
    println!("bank: {stats:?}");
    ensure!(stats.committed() > 500, "the bank did too little");

    world.same(&bank, &auto).await?;
    world.same(&bank, &positioned).await?;
    last.store(world.last_gno().await?, Ordering::SeqCst);
    let watched = watcher.await??;
    ensure!(watched == last.load(Ordering::SeqCst));
    println!("the sum held behind each of {watched} transactions");

    let rss = peak_rss_kib(&mut world)?;
    println!("peak RSS of the service: {} MiB", rss >> 10);
    ensure!(rss <= RSS_MAX_KIB, "{rss} KiB");
    let healthy = auto.replica_status().await?.is_some_and(|s| s.is_healthy());
    ensure!(healthy, "{:?}", auto.replica_status().await?);
    drop::<(Mysqld, Mysqld)>((auto, positioned));

    files::read_by_mysqlbinlog(&world).await?;
    world.service.stop().await?;
    files::verify_finds_each_fault(&world).await?;
    replay::gives_the_same_bytes(&world)?;
    world.no_errors_logged()
}

fn peak_rss_kib(world: &mut World) -> Result<u64> {
    let id = world.service.process().map_or(0, |p| p.id());
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
