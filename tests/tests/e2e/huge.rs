//! A distributed transaction that is larger than the memory it may take, and rows as large as MySQL allows.
//!
//! The rows go to BLACKHOLE tables: they are in the binlogs, and the test is about these. `TRIBUTARY_HUGE_MIB` is the size of the
//! transaction (16384 for the full story; it takes 60 GiB of disk), `TRIBUTARY_HUGE_ROW=1` adds a row of nearly 1 GiB.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tempfile::TempDir;
use tokio::time::sleep;
use tributary_binlog::{EventHeader, EventType, GtidEvent, HEADER_LEN};
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::mysqld::{Mysqld, MysqldOptions};
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{World, remote_mysqlbinlog, text};

/// What the service may take at most, MiB.
const RSS_MAX: u64 = 512;
/// What one transaction has in continuous integration, MiB.
const SIZE: u64 = 2048;
/// What the one has that it is held against.
const USUAL: u64 = 1024;
/// What the large one may take more than the usual one, MiB.
const MORE: u64 = 32;
/// Bytes of a row's value: with what is around it, less than a MiB.
const VALUE: u64 = (1 << 20) - 100;
/// How long smaller transactions in front of it may take from their commit to being durable: 99 of 100, and each of them, for the
/// machine of a test may be busy with others.
const SMALL_WITHIN: Duration = Duration::from_secs(1);
const EACH_SMALL_WITHIN: Duration = Duration::from_secs(4);
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
    for (conn, id) in conns.iter_mut().zip(2 * n..) {
        conn.query_drop(format!(
            "XA START '{xid}'; INSERT INTO shop.small VALUES ({id}, 1); XA END '{xid}'; XA PREPARE '{xid}'"
        ))
        .await?;
    }
    commit(conns, &xid).await
}

/// `mib` MiB on each node in one transaction; it is prepared by [`each`] later, and until then in no binlog.
async fn fill(conns: Vec<Conn>, xid: &'static str, mib: u64) -> Result<Vec<Conn>> {
    let mut statements = vec![format!("XA START '{xid}'")];
    // A statement for each GiB: the numbers go to 20000.
    for from in (0..mib).step_by(1024) {
        let count = (mib - from).min(1024);
        statements.push(format!(
            "INSERT INTO shop.big (v) SELECT REPEAT(CHAR(97 + n % 26), {VALUE}) FROM shop.seq WHERE n <= {count}"
        ));
    }
    statements.push(format!("XA END '{xid}'"));
    each(conns, statements.join("; ")).await
}

/// Runs `statements` on all nodes at the same time.
async fn each(conns: Vec<Conn>, statements: String) -> Result<Vec<Conn>> {
    let tasks: Vec<_> = conns
        .into_iter()
        .map(|mut conn| {
            let statements = statements.clone();
            tokio::spawn(async move {
                conn.query_drop(statements).await?;
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

/// Small transactions, one after the other, each waited for; `next` is the number of the next one. Answers the times from
/// commits to their being durable, the longest last.
async fn smalls(
    world: &World,
    conns: &mut [Conn],
    next: &mut u32,
    stop: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut late = Vec::new();
    loop {
        // The one that is committed last is in front of what comes next: it counts, too.
        let last = stop.load(Ordering::SeqCst);
        small(conns, *next).await?;
        let committed = Instant::now();
        *next += 1;
        durable(world, SETUP + u64::from(*next)).await?;
        late.push(committed.elapsed());
        if last {
            late.sort();
            return Ok(late);
        }
    }
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

/// What [`walk`] finds in a file.
struct Walked {
    /// Bytes of the longest transaction.
    longest: u64,
    /// Bytes of the file.
    len: u64,
    /// Where the first event begins and ends that lies past 4 GiB.
    far: Option<(u64, u64)>,
}

/// Walks over a binlog file: every GTID's transaction is as long as it says, and `end_log_pos` is the position, modulo 4 GiB.
fn walk(path: &Path) -> Result<Walked> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let (mut at, mut longest, mut ends, mut far) = (4, 0, None, None);
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
        if at > u64::from(u32::MAX) && far.is_none() {
            far = Some((at, end));
        }
        at = end;
    }
    Ok(Walked { longest, len, far })
}

/// The largest binlog file in a data directory.
fn largest(dir: &Path) -> Result<PathBuf> {
    let files = std::fs::read_dir(dir)?.flatten();
    let binlogs = files.filter(|f| f.file_name().to_string_lossy().starts_with("binlog.0"));
    let largest = binlogs.max_by_key(|f| f.metadata().map_or(0, |m| m.len()));
    Ok(largest.context("no binlog")?.path())
}

/// A MySQL server writes and shows positions past 4 GiB in the same way.
async fn like_mysqld(world: &World) -> Result<()> {
    let node = &world.cluster.nodes[0];
    let mut shown = Vec::new();
    let here = (world.service.data_dir(), world.service.opts());
    for (dir, opts) in [here, (node.datadir(), node.root_opts())] {
        let path = largest(&dir)?;
        let (from, end) = walk(&path)?.far.context("nothing past 4 GiB")?;
        let file = path.file_name().context("a name")?.to_string_lossy();
        let query = format!("SHOW BINLOG EVENTS IN '{file}' FROM {from} LIMIT 1");
        let mut conn = Conn::new(opts).await?;
        type Row = (String, u64, String, u32, u64, String);
        let row: Option<Row> = conn.query_first(query).await?;
        let row = row.context("an event")?;
        shown.push((row.1 == from, row.4 == end, row.4 == u64::from(end as u32)));
    }
    println!("past 4 GiB: position whole, end whole, end modulo 4 GiB: {shown:?}");
    ensure!(shown[0] == shown[1] && shown[0].0, "{shown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_memory() -> Result<()> {
    let size = std::env::var("TRIBUTARY_HUGE_MIB").map_or(Ok(SIZE), |mib| mib.parse())?;
    let mut world = world().await?;
    let mut conns = connections(&world).await?;
    let mut others = Vec::new();
    for node in &world.cluster.nodes {
        others.push(Conn::new(node.root_opts()).await?);
    }
    small(&mut others, 0).await?;
    conns = fill(conns, "usual", USUAL / 2).await?;
    conns = each(conns, "XA PREPARE 'usual'".into()).await?;
    commit(&mut conns, "usual").await?;
    durable(&world, SETUP + 2).await?;
    let usual = memory(&world, "VmHWM:")?;
    world.service.restart().await?;
    huge(&mut world, conns, others, size, usual).await?;
    world.verified().await?;
    readable(&world, size).await?;
    ensure!(memory(&world, "VmHWM:")? <= RSS_MAX);
    replicated(&world).await?;
    world.no_errors_logged()
}

/// The story of the huge one. `usual` is what the service took for the usual one.
async fn huge(
    world: &mut World,
    conns: Vec<Conn>,
    mut others: Vec<Conn>,
    size: u64,
    usual: u64,
) -> Result<()> {
    // As if the usual one had been a small one.
    let mut next = 2;
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let filling = async {
        let conns = fill(conns, "huge", size / 2).await;
        stop.store(true, Ordering::SeqCst);
        conns
    };
    let (late, conns) = tokio::join!(smalls(world, &mut others, &mut next, &stop), filling);
    let (late, conns) = (late?, conns?);
    let (most, all) = (late[(late.len() - 1) * 99 / 100], late[late.len() - 1]);
    println!(
        "{} small ones while it is filled: 99 of 100 durable within {most:?}, all within {all:?}",
        late.len()
    );
    ensure!(most <= SMALL_WITHIN && all <= EACH_SMALL_WITHIN, "{late:?}");
    let mut conns = each(conns, "XA PREPARE 'huge'".into()).await?;
    println!(
        "prepared {size} MiB on two nodes after {:?}",
        began.elapsed()
    );
    // Killed while it is received.
    sleep(Duration::from_millis(300)).await;
    let first = memory(world, "VmHWM:")?;
    world.service.kill9();
    world.service.launch().await?;
    let gno = SETUP + u64::from(next);
    ensure!(world.last_gno().await? == gno);
    commit(&mut conns, "huge").await?;
    small(&mut conns, next).await?;
    // Killed while it is written.
    let before = written(world);
    let deadline = Instant::now() + PATIENCE;
    while written(world) < before + (size << 20) / 3 {
        ensure!(Instant::now() < deadline, "{}", world.service.log_tail());
        ensure!(world.last_gno().await? == gno, "part of it is visible");
        sleep(Duration::from_millis(2)).await;
    }
    let second = memory(world, "VmHWM:")?;
    world.service.kill9();
    world.service.launch().await?;
    ensure!(world.last_gno().await? == gno, "nothing of it is visible");
    let restarted = Instant::now();
    durable(world, gno + 2).await?;
    println!(
        "{size} MiB received and written in {:?} after the second restart",
        restarted.elapsed()
    );
    let third = memory(world, "VmHWM:")?;
    println!(
        "peak RSS: {usual} MiB for {USUAL} MiB; {first}, {second}, {third} MiB for {size} MiB"
    );
    let peak = first.max(second).max(third);
    ensure!(peak <= RSS_MAX && peak <= usual + MORE, "{peak} MiB");
    for n in 1..4 {
        small(&mut conns, next + n).await?;
    }
    durable(world, gno + 5).await
}

/// A MySQL replica takes everything, the huge one included.
async fn replicated(world: &World) -> Result<()> {
    let began = Instant::now();
    // What it receives is in its relay log; another copy would prove nothing.
    let options = MysqldOptions::replica("replica", 900).arg("--log-replica-updates=OFF");
    let replica = Mysqld::start(options, world.cluster.dir()).await?;
    replica.replicate_from(&world.service.source()).await?;
    let all = world.service.status().await?.gtid_executed();
    let query = format!("SELECT GTID_SUBSET('{all}', @@GLOBAL.gtid_executed) = 1");
    replica.wait_until(&query, PATIENCE).await?;
    let query = "SELECT COUNT(*), SUM(id) FROM shop.small";
    let there: (u64, u64) = replica.row(query).await?;
    let here: (u64, u64) = world.cluster.nodes[0].row(query).await?;
    let other: (u64, u64) = world.cluster.nodes[1].row(query).await?;
    let shards = (here.0 + other.0, here.1 + other.1);
    ensure!(here.0 > 3 && there == shards, "{there:?}, not {shards:?}");
    println!("a replica has it after {:?}", began.elapsed());
    Ok(())
}

/// The file is right, and clients read it: from its start, and by GTID from behind it.
async fn readable(world: &World, size: u64) -> Result<()> {
    let path = largest(&world.service.data_dir())?;
    let walked = walk(&path)?;
    ensure!(
        walked.longest > size * VALUE && walked.longest < size << 20 && walked.len > walked.longest,
        "{} of {}",
        walked.longest,
        walked.len
    );
    if size / 2 > 4096 {
        like_mysqld(world).await?;
    }
    let dir = TempDir::new_in(world.cluster.dir())?;
    let name = path.file_name().context("a name")?.to_string_lossy();
    let read = remote_mysqlbinlog(world, &["--raw", &name], dir.path()).await?;
    ensure!(read.status.success(), "{}", text(&read));
    let copy = dir.path().join(name.as_ref());
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
    let (current, _) = world.service.status().await?.durable();
    let read = remote_mysqlbinlog(world, &[&exclude, &current], dir.path()).await?;
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
    let longest = walk(&path)?.longest;
    ensure!(longest > 64 << 20, "{longest}");
    let dir = TempDir::new_in(world.cluster.dir())?;
    let read = remote_mysqlbinlog(&world, &["--raw", "binlog.000001"], dir.path()).await?;
    ensure!(read.status.success(), "{}", text(&read));
    world.no_errors_logged()
}
