//! What many clients cost the service: memory, file descriptors, and each other's time. No node answers here; what is served is a
//! log that was written before.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Error};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tributary_flow::{Body, Dependency, GlobalKind, GlobalTxn, MergedBatch, OrderKey, Tso};
use tributary_store::{MemKv, RealDisk, StoreOptions};
use tributary_tests::service::{NodeEntry, Service, ServiceOptions};
use tributary_tests::tools::free_port;

/// Bytes of the log, and of one of its events.
const LOG_BYTES: usize = 48 << 20;
const EVENT_BYTES: usize = 60_000;
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const UUID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";

/// A service that serves a written log and waits for a node that is not there.
async fn service(adjust: impl FnOnce(&mut ServiceOptions)) -> Result<(TempDir, Service)> {
    let dir = tempfile::tempdir()?;
    let mut options = ServiceOptions::new("tso", []);
    options.nodes.push(NodeEntry {
        name: "dn1".to_owned(),
        urls: vec![format!("mysql://repl@127.0.0.1:{}", free_port()?)],
        password: "x".to_owned(),
        extra: format!("start = \"{UUID}:1\""),
    });
    options.server_extra = "tls = \"off\"\n".to_owned();
    adjust(&mut options);
    let mut service = Service::configure(options, dir.path())?;
    let data = service.data_dir();
    fs::create_dir_all(&data)?;
    let at = data.clone();
    tokio::task::spawn_blocking(move || write_log(&at)).await??;
    let rebuilt = service
        .command(&["rebuild-index".as_ref(), data.as_os_str()])
        .await?;
    ensure!(
        rebuilt.status.success(),
        "{}",
        String::from_utf8_lossy(&rebuilt.stderr)
    );
    service.launch().await?;
    Ok((dir, service))
}

/// One file of transactions with one large event each.
fn write_log(dir: &Path) -> Result<()> {
    let options = StoreOptions {
        base_name: "binlog".to_owned(),
        max_binlog_size: 1 << 30,
        server_id: 4294,
        server_version: "8.4.9-tributary".to_owned(),
        new_uuid: UUID.parse()?,
        now_seconds: 1_700_000_000,
    };
    let disk = Arc::new(RealDisk::open(dir)?);
    let mut opened = tributary_store::open(disk, Arc::new(MemKv::new()), options)?;
    // A text of a statement: clients hand it on as it is.
    let mut event = vec![0; 19];
    event.push(0);
    event.resize(EVENT_BYTES, b'x');
    event[4] = 29;
    event[9..13].copy_from_slice(&(EVENT_BYTES as u32).to_le_bytes());
    let event = bytes::Bytes::from(event);
    for n in 1..=(LOG_BYTES / EVENT_BYTES) as u64 {
        let txn = GlobalTxn {
            key: OrderKey::distributed(Tso::new(n).context("a small number")?),
            kind: GlobalKind::Rows,
            parts: [Body::new(event.clone())].into_iter().collect(),
            dependency: Dependency::Predecessor,
            original_commit: 1_700_000_000_000_000 + n,
            immediate_commit: 1_700_000_000_000_000 + n,
            original_server_version: 80404,
            immediate_server_version: 80404,
            timestamp: 1_700_000_000,
        };
        opened.writer.append(&MergedBatch {
            txns: vec![txn],
            ..MergedBatch::default()
        })?;
        if n % 64 == 0 {
            opened.writer.commit()?;
        }
    }
    opened.writer.commit()?;
    Ok(())
}

/// Bytes of memory that are resident.
fn rss(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_ascii_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}

fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// CPU time of the process, in ticks.
fn cpu(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("no name")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

async fn dump(service: &Service, server_id: u32) -> Result<BinlogStream> {
    let conn = Conn::new(service.opts()).await?;
    let request = BinlogStreamRequest::new(server_id)
        .with_filename(b"binlog.000001")
        .with_pos(4)
        .with_non_blocking();
    Ok(conn.get_binlog_stream(request).await?)
}

/// Reads the whole log.
async fn read_all(service: &Service, server_id: u32) -> Result<usize> {
    let mut stream = dump(service, server_id).await?;
    let mut bytes = 0;
    while let Some(event) = stream.next().await {
        bytes += event?.header().event_size() as usize;
    }
    ensure!(bytes > LOG_BYTES * 9 / 10, "{bytes} bytes came");
    Ok(bytes)
}

/// Server CPU ticks for some readers that read everything, a few at a time.
async fn read_by(service: &Service, pid: u32, readers: u32) -> Result<u64> {
    let before = cpu(pid)?;
    for n in 0..readers / 2 {
        let two = (read_all(service, 1000 + n), read_all(service, 2000 + n));
        tokio::try_join!(two.0, two.1)?;
    }
    Ok(cpu(pid)? - before)
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        ensure!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_cost_little_and_hold_up_nobody() -> Result<()> {
    const STOPPED: u32 = 40;
    let (_dir, mut service) = service(|_| {}).await?;
    let pid = service.process().context("it runs")?.id();
    read_by(&service, pid, 4).await?;
    let alone = read_by(&service, pid, 20).await?;
    let before = rss(pid)?;
    let mut stopped = Vec::new();
    for n in 0..STOPPED {
        let mut stream = dump(&service, 100 + n).await?;
        stream.next().await.context("an event")??;
        stopped.push(stream);
    }
    // Until they are full, they are served; then nothing is done for them.
    let mut last = 0;
    until("the server is at rest", || {
        let now = cpu(pid)?;
        Ok(std::mem::replace(&mut last, now) == now)
    })
    .await?;
    sleep(Duration::from_millis(500)).await;
    let each = rss(pid)?.saturating_sub(before) / u64::from(STOPPED);
    let beside = read_by(&service, pid, 20).await?;
    println!(
        "{each} bytes for each stopped reader; {alone} ticks of CPU for 20 readers, {beside} beside {STOPPED} stopped ones"
    );
    ensure!(each <= MIB, "{each} bytes for each stopped reader");
    ensure!(
        beside * 100 <= alone * 140 + 500,
        "the others cost {beside} ticks instead of {alone}"
    );
    // Each still gets everything once it reads on.
    let mut one = stopped.pop().context("one is left")?;
    let mut bytes = 0;
    while let Some(event) = one.next().await {
        bytes += event?.header().event_size() as usize;
    }
    ensure!(bytes > LOG_BYTES * 9 / 10, "{bytes} bytes came");
    Ok(())
}

async fn cycles(service: &Service, count: usize) -> Result<()> {
    for _ in 0..count {
        let mut conn = Conn::new(service.opts()).await?;
        let id: Option<u32> = conn.query_first("SELECT @@server_id").await?;
        ensure!(id == Some(4294));
        conn.disconnect().await?;
    }
    Ok(())
}

/// `TRIBUTARY_CYCLES` connections (500; the full test has 10,000) leave nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_nothing_behind() -> Result<()> {
    let count = std::env::var("TRIBUTARY_CYCLES").map_or(Ok(500), |n| n.parse())?;
    let (_dir, mut service) = service(|_| {}).await?;
    let pid = service.process().context("it runs")?.id();
    cycles(&service, 1000.min(count)).await?;
    // The warm-up's connections are gone for the server, too.
    sleep(Duration::from_secs(1)).await;
    let (open, resident) = (descriptors(pid)?, rss(pid)?);
    cycles(&service, count).await?;
    let mut now = 0;
    let left = until("as many descriptors as before", || {
        now = descriptors(pid)?;
        Ok(now <= open)
    });
    left.await
        .with_context(|| format!("{open} descriptors before, {now} now"))?;
    let grown = rss(pid)?.saturating_sub(resident);
    println!("{count} connections: {open} descriptors, {now} afterwards, {grown} bytes more");
    ensure!(grown <= MIB, "{grown} bytes are left behind");
    Ok(())
}

/// What a client is told that may not come in.
async fn refusal(service: &Service) -> Result<(u16, String)> {
    match Conn::new(service.opts()).await {
        Err(Error::Server(e)) => Ok((e.code, e.message)),
        Err(other) => bail!("not an error of the server: {other}"),
        Ok(_) => bail!("no error"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_told_so() -> Result<()> {
    let (_dir, service) = service(|o| o.server_extra += "max_connections = 5\n").await?;
    let mut conns = Vec::new();
    for _ in 0..5 {
        conns.push(Conn::new(service.opts()).await?);
    }
    let (code, message) = refusal(&service).await?;
    ensure!(
        code == 1040 && message == "Too many connections",
        "{code} {message}"
    );
    conns.pop().context("five are open")?.disconnect().await?;
    let deadline = Instant::now() + PATIENCE;
    while Conn::new(service.opts()).await.is_err() {
        ensure!(Instant::now() < deadline, "a place is never free again");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The limit of open files is lower than what is configured: fewer clients are let in, with a warning; and when descriptors run out
/// all the same, clients are told, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn few_file_descriptors_mean_fewer_clients() -> Result<()> {
    let (_dir, mut service) = service(|o| o.open_files = Some(200)).await?;
    let log = fs::read_to_string(service.log_path())?;
    ensure!(
        log.contains("the limit of open files is too low for server.max_connections"),
        "{log}"
    );
    let pid = service.process().context("it runs")?.id();
    let open = descriptors(pid)?;
    let mut conns = Vec::new();
    let (code, message) = loop {
        match Conn::new(service.opts()).await {
            Ok(conn) => conns.push(conn),
            Err(Error::Server(e)) => break (e.code, e.message),
            Err(e) => bail!("after {} connections: {e}", conns.len()),
        }
    };
    ensure!(
        code == 1040 && (10..100).contains(&conns.len()),
        "{} connections, then {code} {message}",
        conns.len()
    );
    ensure!(service.is_running());
    conns.clear();
    // Now the limit falls while it runs, so that descriptors run out before there are too many connections.
    until("the connections are closed", || {
        Ok(descriptors(pid)? <= open)
    })
    .await?;
    let now = descriptors(pid)? + 4;
    let lowered = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--nofile={now}:{now}")])
        .status()?;
    ensure!(lowered.success());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Conn::new(service.opts()).await {
            Ok(conn) => conns.push(conn),
            Err(Error::Server(e)) if e.code == 1040 => break,
            Err(e) => bail!("after {} connections: {e}", conns.len()),
        }
        ensure!(conns.len() < 20 && Instant::now() < deadline);
    }
    conns.clear();
    let deadline = Instant::now() + PATIENCE;
    while cycles(&service, 1).await.is_err() {
        ensure!(Instant::now() < deadline, "it never lets anybody in again");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Whoever connects and says nothing keeps nobody out, and is let go of.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_log_in_keep_nobody_out() -> Result<()> {
    let (_dir, mut service) = service(|o| o.server_extra += "max_connections = 400\n").await?;
    let pid = service.process().context("it runs")?.id();
    cycles(&service, 5).await?;
    let open = descriptors(pid)?;
    let mut silent = Vec::new();
    for _ in 0..600 {
        let mut socket = TcpStream::connect(("127.0.0.1", service.port())).await?;
        let mut first = [0; 5];
        timeout(PATIENCE, socket.read_exact(&mut first)).await??;
        ensure!(first[4] == 10, "a greeting, not {first:?}");
        silent.push(socket);
    }
    cycles(&service, 5).await?;
    let most = descriptors(pid)?;
    ensure!(most < open + 400, "{most} descriptors are open");
    // Nobody has to close the sockets for them.
    until("the silent ones are let go", || {
        Ok(descriptors(pid)? <= open + 2)
    })
    .await?;
    Ok(())
}
