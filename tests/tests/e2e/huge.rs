//! A distributed transaction that is larger than the memory it may take, and rows as large as MySQL allows.
//!
//! The rows go to BLACKHOLE tables: they are in the binlogs, and the test is about these. `TRIBUTARY_HUGE_MIB` is the size of the
//! transaction (16384 for the full story), `TRIBUTARY_HUGE_ROW=1` adds a row of nearly 1 GiB.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tempfile::TempDir;
use tokio::time::sleep;
use tributary_binlog::{EventHeader, EventType, GtidEvent, HEADER_LEN};
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{World, remote_mysqlbinlog, text};

/// What the service may take at most, MiB.
const RSS_MAX: u64 = 512;
/// What one transaction has in continuous integration, MiB.
const SIZE: u64 = 2048;
/// Bytes of a row's value: with what is around it, less than a MiB.
const VALUE: u64 = (1 << 20) - 100;
/// How long smaller transactions in front of it may take from their commit to being durable.
const SMALL_WITHIN: Duration = Duration::from_secs(1);
/// Transactions of [`connections`]: a database and three tables.
const SETUP: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(300);

async fn world() -> Result<World> {
    let args = [
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2",
        "--binlog-row-event-max-size=8192",
    ];
    let cluster = Cluster::start_with(2, Workplace::temporary()?, |mut options| {
        options.extra_args.extend(args.map(str::to_owned));
        options
    })
    .await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    options.store_extra = "spill_threshold = \"4MiB\"\n".into();
    let service = Service::start(options, cluster.dir()).await?;
    Ok(World { service, cluster })
}

/// A connection to each node, with a table that takes rows and keeps none, and one of numbers.
async fn connections(world: &World) -> Result<Vec<Conn>> {
    let mut out = Vec::new();
    for node in &world.cluster.nodes {
        let mut conn = Conn::new(node.root_opts()).await?;
        let setup = "CREATE DATABASE shop; USE shop; \
             CREATE TABLE small (id INT PRIMARY KEY, v INT); \
             CREATE TABLE big (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT) ENGINE=BLACKHOLE; \
             CREATE TABLE seq (n INT PRIMARY KEY) ENGINE=MEMORY; SET SESSION sql_log_bin = 0; \
             SET SESSION cte_max_recursion_depth = 100000; \
             INSERT INTO seq WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q WHERE n < 20000) SELECT n FROM q; \
             SET SESSION sql_log_bin = 1";
        conn.query_drop(setup).await?;
        out.push(conn);
    }
    Ok(out)
}

/// A number from the oracle: here, the clock.
fn tso() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_micros() as u64)
}

async fn commit(conns: &mut [Conn], xid: &str) -> Result<()> {
    let tso = tso();
    for conn in conns {
        conn.query_drop(format!(
            "SET SESSION original_commit_timestamp = {tso}; XA COMMIT '{xid}'"
        ))
        .await?;
    }
    Ok(())
}

/// One row on each node.
async fn small(conns: &mut [Conn], n: u32) -> Result<()> {
    let xid = format!("small{n}");
    for conn in conns.iter_mut() {
        conn.query_drop(format!(
            "XA START '{xid}'; INSERT INTO shop.small VALUES ({n}, 1); XA END '{xid}'; XA PREPARE '{xid}'"
        ))
        .await?;
    }
    commit(conns, &xid).await
}

/// `mib` MiB on each node in one transaction, prepared.
async fn prepare_big(conns: Vec<Conn>, xid: &'static str, mib: u64) -> Result<Vec<Conn>> {
    let tasks: Vec<_> = conns
        .into_iter()
        .map(|mut conn| {
            tokio::spawn(async move {
                conn.query_drop(format!("XA START '{xid}'")).await?;
                // A statement for each GiB: the numbers go to 20000.
                for from in (0..mib).step_by(1024) {
                    let count = (mib - from).min(1024);
                    conn.query_drop(format!(
                        "INSERT INTO shop.big (v) SELECT REPEAT(CHAR(97 + n % 26), {VALUE}) FROM shop.seq WHERE n <= {count}"
                    ))
                    .await?;
                }
                conn.query_drop(format!("XA END '{xid}'; XA PREPARE '{xid}'"))
                    .await?;
                anyhow::Ok(conn)
            })
        })
        .collect();
    let mut out = Vec::new();
    for task in tasks {
        out.push(task.await??);
    }
    Ok(out)
}

async fn durable(world: &World, gno: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = world.last_gno().await.unwrap_or(0);
        if last >= gno {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "transaction {gno} does not come, {last} is the last; {}",
            world.service.log_tail()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// A value of the service's `/proc/PID/status`, in MiB.
fn memory(world: &World, field: &str) -> Result<u64> {
    let pid = world.service.pid().context("the service runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.context("a value")?.parse::<u64>()? >> 10)
}

/// Bytes of all binlog files of the service.
fn written(world: &World) -> u64 {
    let files = std::fs::read_dir(world.service.data_dir());
    let files = files.into_iter().flatten().flatten();
    let binlogs = files.filter(|f| f.file_name().to_string_lossy().starts_with("binlog.0"));
    binlogs.filter_map(|f| Some(f.metadata().ok()?.len())).sum()
}

/// Walks over a binlog file: every GTID's transaction is as long as it says, and `end_log_pos` is the position, modulo 4 GiB. Answers
/// the length of the longest, and the file's.
fn walk(path: &Path) -> Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let (mut at, mut longest, mut ends) = (4, 0, None);
    while at < len {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 256];
        let n = file.read(&mut head)?;
        let header = EventHeader::parse(&head[..n])?;
        let end = at + u64::from(header.event_size);
        ensure!(header.log_pos == end as u32, "at {at}: {}", header.log_pos);
        let outside = matches!(header.event_type, EventType::GTID | EventType::ROTATE);
        if outside && let Some(ends) = ends.take() {
            ensure!(at == ends, "a transaction ends at {at} and not at {ends}");
        }
        if header.event_type == EventType::GTID {
            let body = &head[HEADER_LEN..header.event_size as usize - 4];
            let gtid = GtidEvent::parse(header.event_type, body)?;
            longest = longest.max(gtid.transaction_length);
            ends = Some(at + gtid.transaction_length);
        }
        at = end;
    }
    Ok((longest, len))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_memory() -> Result<()> {
    let size = std::env::var("TRIBUTARY_HUGE_MIB").map_or(Ok(SIZE), |mib| mib.parse())?;
    let mut world = world().await?;
    let mut conns = connections(&world).await?;
    small(&mut conns, 0).await?;
    world
        .service
        .wait_status("the first one", PATIENCE, |s| {
            s.gtid_executed().ends_with(&format!("-{}", SETUP + 1))
        })
        .await?;
    let began = Instant::now();
    let mut gno = SETUP + 1;
    let mut late = Duration::ZERO;
    for n in 1..20 {
        small(&mut conns, n).await?;
        gno += 1;
        let committed = Instant::now();
        durable(&world, gno).await?;
        late = late.max(committed.elapsed());
    }
    // The last before the large one is not waited for.
    small(&mut conns, 20).await?;
    let committed = Instant::now();
    let preparing = tokio::spawn(prepare_big(conns, "huge", size / 2));
    durable(&world, gno + 1).await?;
    late = late.max(committed.elapsed());
    gno += 1;
    let mut conns = preparing.await??;
    println!(
        "prepared {size} MiB on two nodes after {:?}",
        began.elapsed()
    );
    // Killed while it is received.
    sleep(Duration::from_millis(300)).await;
    let first = memory(&world, "VmHWM:")?;
    world.service.kill9();
    world.service.launch().await?;
    ensure!(world.last_gno().await? == gno);
    commit(&mut conns, "huge").await?;
    small(&mut conns, 21).await?;
    // Killed while it is written.
    let before = written(&world);
    let deadline = Instant::now() + PATIENCE;
    while written(&world) < before + (size << 20) / 3 {
        ensure!(Instant::now() < deadline, "{}", world.service.log_tail());
        ensure!(world.last_gno().await? == gno, "part of it is visible");
        sleep(Duration::from_millis(2)).await;
    }
    let second = memory(&world, "VmHWM:")?;
    world.service.kill9();
    world.service.launch().await?;
    ensure!(world.last_gno().await? == gno, "nothing of it is visible");
    let restarted = Instant::now();
    durable(&world, gno + 2).await?;
    println!(
        "{size} MiB received and written in {:?} after the second restart",
        restarted.elapsed()
    );
    let third = memory(&world, "VmHWM:")?;
    println!(
        "peak RSS of the three lives: {first}, {second}, {third} MiB; small ones durable within {late:?}"
    );
    ensure!(
        first.max(second).max(third) <= RSS_MAX,
        "peak RSS {third} MiB"
    );
    ensure!(late <= SMALL_WITHIN, "a small transaction took {late:?}");
    for n in 22..25 {
        small(&mut conns, n).await?;
    }
    durable(&world, gno + 5).await?;
    world.verified().await?;
    readable(&world, size).await?;
    ensure!(memory(&world, "VmHWM:")? <= RSS_MAX);
    world.no_errors_logged()
}

/// The file is right, and a client reads it: from its start, and by GTID from behind it.
async fn readable(world: &World, size: u64) -> Result<()> {
    let path = world.service.data_dir().join("binlog.000001");
    let (longest, len) = walk(&path)?;
    ensure!(
        longest > size * VALUE && longest < size << 20 && len > longest,
        "{longest} of {len}"
    );
    let dir = TempDir::new_in(world.cluster.dir())?;
    let raw = ["--raw", "binlog.000001"];
    let read = remote_mysqlbinlog(world, &raw, dir.path()).await?;
    ensure!(read.status.success(), "{}", text(&read));
    let copy = dir.path().join("binlog.000001");
    let same = tokio::process::Command::new("cmp")
        .arg(&path)
        .arg(&copy)
        .output()
        .await?;
    ensure!(same.status.success(), "mysqlbinlog: {}", text(&same));
    std::fs::remove_file(&copy)?;
    let uuid = world.service.status().await?.gtid_executed();
    let uuid = uuid.split(':').next().unwrap_or_default().to_owned();
    let (began, last) = (Instant::now(), world.last_gno().await?);
    let exclude = format!("--exclude-gtids={uuid}:1-{}", last - 1);
    let read = remote_mysqlbinlog(world, &[&exclude, "binlog.000002"], dir.path()).await?;
    ensure!(
        read.status.success() && text(&read).contains("Xid = "),
        "{}",
        text(&read)
    );
    println!("read from behind it after {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_as_large_as_mysql_allows() -> Result<()> {
    let world = world().await?;
    let mut conns = connections(&world).await?;
    let mut sizes = vec![64 << 20];
    if std::env::var("TRIBUTARY_HUGE_ROW").is_ok() {
        // max_allowed_packet bounds a value, and an event a little above it.
        sizes.push((1 << 30) - 1024);
    }
    let mut gno = SETUP;
    durable(&world, gno).await?;
    for size in sizes {
        let conn = conns.first_mut().context("a node")?;
        conn.query_drop(format!(
            "INSERT INTO shop.big (v) SELECT REPEAT('x', {size})"
        ))
        .await?;
        gno += 1;
        durable(&world, gno).await?;
        println!(
            "a row of {size} bytes: peak RSS {} MiB",
            memory(&world, "VmHWM:")?
        );
    }
    world.verified().await?;
    let path = world.service.data_dir().join("binlog.000001");
    let (longest, _) = walk(&path)?;
    ensure!(longest > 64 << 20, "{longest}");
    let dir = TempDir::new_in(world.cluster.dir())?;
    let read = remote_mysqlbinlog(&world, &["--raw", "binlog.000001"], dir.path()).await?;
    ensure!(read.status.success(), "{}", text(&read));
    world.no_errors_logged()
}
