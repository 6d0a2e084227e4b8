//! How long a start takes with ten thousand files retained: until clients are answered, until a client that knows where it was
//! has its first byte, and until the next transaction is durable.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use mysql_async::{BinlogStreamRequest, Conn, GnoInterval, Sid};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tributary_binlog::{ChecksumAlg, EventType, EventWriter, QueryEvent};
use tributary_flow::{Body, Dependency, GlobalKind, GlobalTxn, MergedBatch, OrderKey, Tso};
use tributary_store::{Disk, MemDisk, MemKv, StoreOptions, open};
use tributary_tests::service::Status;

use crate::world::{World, text};

const FILES: u64 = 10_000;
/// Every transaction fills a file.
const FILE_BYTES: u64 = 300;
/// From the start of the process to the server's greeting.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// From a client's request to the first event.
const FIRST_BYTE_WITHIN: Duration = Duration::from_millis(20);
/// From the moment at which the nodes answer.
const DURABLE_WITHIN: Duration = Duration::from_secs(2);
/// A busy machine may be slow once, and again.
const ATTEMPTS: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(60);
const UUID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";

fn transaction(n: u64) -> Result<GlobalTxn> {
    let sql = format!("CREATE TABLE old.t{n} (id INT PRIMARY KEY)");
    let query = QueryEvent {
        thread_id: 5,
        exec_time: 0,
        error_code: 0,
        status_vars: &[],
        schema: b"old",
        query: sql.as_bytes(),
    };
    let mut event = Vec::new();
    let mut out = EventWriter::new(&mut event, 0, 9, ChecksumAlg::None);
    out.event(EventType::QUERY, 1, 0, |body| query.put_body(body))?;
    Ok(GlobalTxn {
        key: OrderKey::distributed(Tso::new(1_000_000 + n).context("a small number")?),
        kind: GlobalKind::Ddl,
        parts: std::iter::once(Body::new(event.into())).collect(),
        dependency: Dependency::Predecessor,
        original_commit: 1_700_000_000_000_000 + n,
        immediate_commit: 1_700_000_000_000_500 + n,
        original_server_version: 90_704,
        immediate_server_version: 90_704,
        timestamp: 1_700_000_000,
    })
}

/// Fills `dir` with binlog files; the index database is left out.
fn generate(dir: &Path) -> Result<()> {
    let disk = MemDisk::new();
    let options = StoreOptions {
        base_name: "binlog".to_owned(),
        max_binlog_size: FILE_BYTES,
        server_id: 4294,
        server_version: "8.4.9-tributary".to_owned(),
        new_uuid: UUID.parse()?,
        now_seconds: 1_700_000_000,
    };
    let mut opened = open(Arc::new(disk.clone()), Arc::new(MemKv::new()), options)?;
    for from in (1..=FILES).step_by(1000) {
        let txns: Result<_> = (from..from + 1000).map(transaction).collect();
        let batch = MergedBatch {
            txns: txns?,
            ..MergedBatch::default()
        };
        opened.writer.append(&batch)?;
        opened.writer.commit()?;
    }
    fs::create_dir_all(dir)?;
    for name in disk.list()? {
        fs::write(dir.join(&name), disk.bytes(&name).unwrap_or_default())?;
    }
    Ok(())
}

fn last(status: &Status) -> u64 {
    status.last_gno().unwrap_or(0)
}

/// The time until a client is greeted.
async fn greeted(port: u16, start: Instant) -> Result<Duration> {
    loop {
        let greeting = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.read_u8().await
        };
        if greeting.await.is_ok() {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < PATIENCE, "the port is not open");
        sleep(Duration::from_millis(1)).await;
    }
}

/// The time to the first event of a client that has the first `n` transactions.
async fn first_byte(world: &World, n: u64) -> Result<Duration> {
    let conn = Conn::new(world.service.opts()).await?;
    let uuid = UUID.replace('-', "");
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&uuid[i * 2..i * 2 + 2], 16)?;
    }
    let sid = Sid::new(bytes).with_interval(GnoInterval::new(1, n + 1));
    let request = BinlogStreamRequest::new(77_002)
        .with_gtid()
        .with_gtid_set(vec![sid]);
    let start = Instant::now();
    let mut stream = conn.get_binlog_stream(request).await?;
    stream.next().await.context("the stream ended")??;
    Ok(start.elapsed())
}

struct Measured {
    answers: Duration,
    first_byte: Duration,
    durable: Duration,
}

impl Measured {
    fn is_good(&self) -> bool {
        self.answers <= ANSWERS_WITHIN
            && self.first_byte <= FIRST_BYTE_WITHIN
            && self.durable <= DURABLE_WITHIN
    }
}

/// Everything was killed; the service comes back, and then its nodes.
async fn attempt(world: &mut World, id: u32) -> Result<Measured> {
    world.service.kill9();
    let before = world.cluster.nodes.iter_mut();
    before.for_each(tributary_tests::mysqld::Mysqld::kill9);
    let start = Instant::now();
    world.service.launch_unready()?;
    let answers = greeted(world.service.port(), start).await?;
    let mut slowest = Duration::ZERO;
    for n in [1, FILES / 3, FILES - 1] {
        slowest = slowest.max(first_byte(world, n).await?);
    }
    world.service.wait_ready(PATIENCE).await?;
    let before = last(&world.service.status().await?);
    for node in &mut world.cluster.nodes {
        node.launch().await?;
    }
    let answer = Instant::now();
    let sql = format!("INSERT INTO new.t VALUES ({id})");
    world.cluster.nodes[1].sql(&sql).await?;
    while last(&world.service.status().await?) <= before {
        ensure!(answer.elapsed() < PATIENCE, "{}", world.service.log_tail());
        sleep(Duration::from_millis(2)).await;
    }
    Ok(Measured {
        answers,
        first_byte: slowest,
        durable: answer.elapsed(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_ten_thousand_files_is_as_fast_as_one_with_few() -> Result<()> {
    let mut world = World::start(|_| {}).await?;
    world.service.stop().await?;
    let dir = world.service.data_dir();
    fs::remove_dir_all(&dir)?;
    generate(&dir)?;
    // Without its database the directory tells nothing of the nodes.
    ensure!(
        world.service.launch().await.is_err(),
        "it starts without an index database"
    );
    world.service.kill9();
    let start = Instant::now();
    let rebuilt = world
        .service
        .command(&["rebuild-index".as_ref(), dir.as_os_str()])
        .await?;
    ensure!(rebuilt.status.success(), "{}", text(&rebuilt));
    println!(
        "{} ({:.1?})",
        text(&rebuilt).lines().next().unwrap_or_default(),
        start.elapsed()
    );
    // Now the binlog files are known, and the nodes are not.
    ensure!(
        world.service.launch().await.is_err(),
        "it starts without the nodes' progress"
    );
    world.service.kill9();
    let mut sets = Vec::new();
    for node in &world.cluster.nodes {
        sets.push(node.gtid_executed().await?.replace('\n', ""));
    }
    for (entry, set) in world.service.options_mut().nodes.iter_mut().zip(sets) {
        entry.extra = format!("start = \"{set}\"\n");
    }
    world.service.launch().await?;
    world.cluster.nodes[1]
        .sql("CREATE DATABASE new; CREATE TABLE new.t (id INT PRIMARY KEY)")
        .await?;
    let there = |s: &Status| last(s) > FILES;
    world
        .service
        .wait_status("the first statement", PATIENCE, there)
        .await?;

    for id in 0..ATTEMPTS {
        let measured = attempt(&mut world, id).await?;
        let Measured {
            answers,
            first_byte,
            durable,
        } = &measured;
        println!(
            "{FILES} files: the dump port answers {answers:.1?} after the start, slowest of 3 GTID starts {first_byte:.2?} to the \
             first event, next transaction durable {durable:.2?} after the nodes answer"
        );
        if measured.is_good() {
            world.verified().await?;
            return world.no_errors_logged();
        }
    }
    anyhow::bail!("too slow, {ATTEMPTS} times")
}
