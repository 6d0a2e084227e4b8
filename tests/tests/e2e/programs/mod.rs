//! Random programs of statements and rows over the parts of a table. Each comes from a seed and has databases of its own; many
//! run at a time between the same servers.
//!
//! `TRIBUTARY_PROGRAMS=1000` runs that many, `TRIBUTARY_PROGRAM_SEED=17` the one of that seed, `101-200` those of
//! that range.

mod program;
mod shape;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::{Mysqld, MysqldOptions};
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tso::Tso;

use self::program::{Step, program};
use crate::world::{CATCH_UP, World};

const NODES: usize = 2;
/// Programs without `TRIBUTARY_PROGRAMS`.
const PROGRAMS: u64 = 100;
const AT_A_TIME: usize = 8;
/// Statements that change tables wait for the disk again and again, and no server is to survive anything here.
const NO_SYNC: &str = "--innodb-flush-method=nosync";
/// The service is killed so often on the way.
const KILLS: u64 = 3;

const ROUTES: &str = r#"
[[route]]
from = "p{*}_{*}.{*}_{*}"
to = "p$1.$3"
"#;

/// The seeds to run.
fn seeds() -> Result<Range<u64>> {
    let number = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("{text:?} is no number"))
    };
    if let Ok(text) = std::env::var("TRIBUTARY_PROGRAM_SEED") {
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        return Ok(number(first)?..number(last)? + 1);
    }
    let count = std::env::var("TRIBUTARY_PROGRAMS").map_or(Ok(PROGRAMS), |text| number(&text))?;
    Ok(1..1 + count)
}

/// Runs the program of a seed.
async fn run(coordinator: Arc<Coordinator>, seed: u64) -> Result<()> {
    let mut session = coordinator.session();
    for step in program(seed) {
        match &step {
            Step::On(node, sql) => {
                let done = session.execute(*node, sql).await;
                done.map_err(|e| anyhow::anyhow!("{e}"))
                    .with_context(|| format!("{step:?}"))?;
            }
            Step::Together(branches) => {
                let branches: Vec<Branch> = branches
                    .iter()
                    .map(|(node, statements)| Branch {
                        node: *node,
                        statements: statements.clone(),
                    })
                    .collect();
                let outcome = session.run(&branches, Finish::TwoPhase).await;
                ensure!(
                    matches!(outcome, Outcome::Committed { .. }),
                    "{step:?}: {outcome:?}"
                );
            }
        }
    }
    Ok(())
}

/// Prints what a seed does.
fn told(seed: u64) -> String {
    let steps = program(seed);
    let lines: Vec<String> = steps.iter().map(|s| format!("  {s:?}")).collect();
    format!("TRIBUTARY_PROGRAM_SEED={seed}:\n{}", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_programs_end_the_same() -> Result<()> {
    let seeds = seeds()?;
    let cluster = Cluster::start_with(NODES as u32, Workplace::temporary()?, |options| {
        options
            .arg("--sync-binlog=0")
            .arg("--innodb-flush-log-at-trx-commit=2")
            .arg(NO_SYNC)
    })
    .await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    options.tables = ROUTES.into();
    let service = Service::start(options, cluster.dir()).await?;
    let mut world = World { service, cluster };
    let options = MysqldOptions::replica("replica", 201).arg(NO_SYNC);
    let replica = Mysqld::start(options, world.cluster.dir()).await?;
    replica.replicate_from(&world.service.source()).await?;
    let coordinator = Coordinator::new("programs", world.cluster.app_opts(), Arc::new(Tso::new()));
    let gate = Arc::new(Semaphore::new(AT_A_TIME));
    let mut running = JoinSet::new();
    for seed in seeds.clone() {
        let (gate, coordinator) = (gate.clone(), coordinator.clone());
        running.spawn(async move {
            let _turn = gate.acquire().await?;
            run(coordinator, seed).await.with_context(|| told(seed))
        });
    }
    let all = seeds.end - seeds.start;
    let (mut ended, mut killed) = (0, 0);
    while let Some(done) = running.join_next().await {
        done??;
        ended += 1;
        if ended * (KILLS + 1) / all > killed && ended < all {
            killed += 1;
            world.service.kill9();
            world.service.launch().await?;
        }
    }
    same(&world, &replica, seeds).await?;
    world.verified().await?;
    world.no_errors_logged()
}

/// Waits for the last row of each node; an error as soon as the service has stopped merging.
async fn arrived(world: &World, replica: &Mysqld) -> Result<()> {
    for (n, node) in world.cluster.nodes.iter().enumerate() {
        node.sql(&format!(
            "CREATE DATABASE plain; CREATE TABLE plain.last (id INT PRIMARY KEY); \
             INSERT INTO plain.last VALUES ({n})"
        ))
        .await?;
    }
    let last = format!("SELECT COUNT(*) = {NODES} FROM plain.last");
    let stopped = async {
        loop {
            if let Some(error) = stopped_by(world)? {
                return anyhow::Ok(error);
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        done = replica.wait_until(&last, CATCH_UP) => done.with_context(|| world.service.log_tail()),
        error = stopped => bail!("{}", error?),
    }
}

/// What the service has logged as an error since its last start.
fn stopped_by(world: &World) -> Result<Option<String>> {
    let log = std::fs::read_to_string(world.service.log_path())?;
    let since = log.rfind("tributary::serve: serving").unwrap_or(0);
    let mut lines = log.get(since..).unwrap_or(&log).lines();
    Ok(lines.find(|l| l.contains("ERROR")).map(str::to_owned))
}

async fn same(world: &World, replica: &Mysqld, seeds: Range<u64>) -> Result<()> {
    if let Err(error) = arrived(world, replica).await {
        // Whatever is named first has stopped everything.
        let said = format!("{error:#}");
        let named = |s: &u64| said.contains(&format!("p{s}_")) || said.contains(&format!("p{s}."));
        let told = seeds.clone().find(named).map_or_else(String::new, told);
        return Err(error).context(told);
    }
    let shards: Vec<_> = world.cluster.nodes.iter().map(Mysqld::root_opts).collect();
    let options = CompareOptions {
        mapping: Arc::new(|schema, table| {
            let cut = |name: &str| name.split('_').next().unwrap_or(name).to_owned();
            Some((cut(schema), cut(table)))
        }),
        ..CompareOptions::default()
    };
    let result = compare(&shards, &replica.root_opts(), &options).await?;
    let mut failed: BTreeMap<u64, String> = BTreeMap::new();
    for (table, difference) in &result.differences {
        let of = |s: &u64| table.starts_with(&format!("p{s}."));
        if let Some(seed) = seeds.clone().find(of) {
            failed
                .entry(seed)
                .or_insert_with(|| format!("{table}: {difference}"));
        }
    }
    let first = failed.keys().next().map_or_else(String::new, |s| told(*s));
    let failed: Vec<String> = failed
        .iter()
        .map(|(s, e)| format!("seed {s}: {e}"))
        .collect();
    ensure!(failed.is_empty(), "{first}\n{}", failed.join("\n"));
    ensure!(result.is_same(), "{result}");
    println!("{result}");
    Ok(())
}
