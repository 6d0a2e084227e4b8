//! The data directory: what may be opened, what happens to damaged files, and how files go.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use tokio::time::sleep;
use tributary_tests::bank::BankOptions;
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{World, binlogs, text};

/// For a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Inserts `count` rows of `bytes` each.
async fn insert(world: &World, count: u32, bytes: u32) -> Result<()> {
    let mut conn = world.cluster.nodes[0].root().await?;
    let table = "CREATE DATABASE IF NOT EXISTS d; \
                 CREATE TABLE IF NOT EXISTS d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB)";
    conn.query_drop(table).await?;
    for _ in 0..count {
        let sql = format!("INSERT INTO d.t (v) VALUES (REPEAT('x', {bytes}))");
        conn.query_drop(sql).await?;
    }
    let (file, offset) = world.cluster.nodes[0].binlog_position().await?;
    let number = file.rsplit('.').next().context("a file's number")?;
    let merged = format!("{number}:{offset}");
    let durable = |s: &tributary_tests::service::Status| {
        s.0["nodes"][0]["position"] == merged.as_str()
            && s.transactions() == s.durable_transactions()
    };
    world
        .service
        .wait_status("all is durable", PATIENCE, durable)
        .await?;
    Ok(())
}

async fn stream(world: &World) -> Result<BinlogStream> {
    let conn = Conn::new(world.service.opts()).await?;
    let request = BinlogStreamRequest::new(77_003)
        .with_gtid()
        .with_gtid_set(Vec::new());
    Ok(conn.get_binlog_stream(request).await?)
}

/// What ends a stream that should not go on for ever.
async fn error_of(mut stream: BinlogStream) -> Result<String> {
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        match next.context("the stream goes on")? {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Ok(error.to_string()),
            None => anyhow::bail!("the stream ends without an error"),
        }
    }
}

/// The start is refused with this in its message.
async fn refused(service: &mut Service, words: &[&str]) -> Result<()> {
    ensure!(service.launch().await.is_err(), "it starts");
    service.kill9();
    let log = service.log_tail();
    for word in words {
        ensure!(log.contains(word), "{word} is not in\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_directory_is_opened() -> Result<()> {
    let mut world = World::start(|_| {}).await?;
    insert(&world, 3, 10).await?;
    // Somebody has it already.
    let mut options = ServiceOptions::new("tso", &world.cluster.nodes);
    options.name = "second".into();
    let mut second = Service::configure(options, world.cluster.dir())?;
    let own = second.data_dir();
    std::os::unix::fs::symlink(world.service.data_dir(), &own)?;
    refused(&mut second, &["in use by another process"]).await?;
    fs::remove_file(&own)?;

    // It is a MySQL server's.
    fs::create_dir_all(&own)?;
    let theirs = world.cluster.nodes[0].datadir();
    for name in fs::read_dir(&theirs)? {
        let name = name?.file_name();
        if name.to_string_lossy().contains("bin.") {
            fs::copy(theirs.join(&name), own.join(&name))?;
        }
    }
    fs::write(own.join("binlog.000001"), b"\xfebin of somebody else")?;
    let before = listing(&own)?;
    refused(&mut second, &["belongs to"]).await?;
    let after = listing(&own)?;
    let news: Vec<_> = after.iter().filter(|f| !before.contains(f)).collect();
    ensure!(
        news.iter().all(|f| !f.0.contains("bin")),
        "files of somebody else were touched: {news:?}"
    );

    // A newer version has written it.
    world.service.stop().await?;
    let format = world.service.data_dir().join("tributary.format");
    let known = fs::read_to_string(&format)?;
    let newer = known
        .replace("\"format\":1", "\"format\":99")
        .replace("\"format\": 1", "\"format\": 99");
    ensure!(newer != known, "{known}");
    fs::write(&format, newer)?;
    refused(&mut world.service, &["format 99"]).await?;
    fs::write(&format, known)?;
    world.service.launch().await?;
    insert(&world, 1, 10).await?;
    world.verified().await
}

fn listing(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            all.push((name, fs::read(entry.path())?));
        }
    }
    all.sort();
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_can_be_restored_under_a_running_service() -> Result<()> {
    let world = World::start(|options| options.max_binlog_size = Some("4KiB".into())).await?;
    insert(&world, 12, 1000).await?;
    let names = binlogs(&world.service.data_dir())?;
    ensure!(names.len() > 3, "{names:?}");
    let path = world.service.data_dir().join(&names[1]);
    let good = fs::read(&path)?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 4;
    fs::write(&path, &bad)?;

    let error = error_of(stream(&world).await?).await?;
    ensure!(
        error.contains("1236") && error.contains(&names[1]),
        "{error}"
    );
    let damaged = world.service.status().await?.0["store"]["damaged"].clone();
    let named = damaged[0]
        .as_str()
        .is_some_and(|d| d.starts_with(&format!("{}:", names[1])));
    ensure!(named, "{damaged}");
    let shown = world.shown().await?;
    let line = shown.lines().find(|l| l.starts_with("DAMAGED"));
    ensure!(line.is_some_and(|l| l.contains(&names[1])), "{shown}");
    let dir = world.service.data_dir();
    let verify = ["verify".as_ref(), dir.as_os_str()];
    let output = world.service.command(&verify).await?;
    ensure!(
        !output.status.success() && text(&output).contains(&names[1]),
        "{}",
        text(&output)
    );

    fs::write(&path, &good)?;
    let last = world.last_gno().await?;
    let read = crate::sum::watch(world.service.opts(), (0, 0), || Some(last)).await?;
    ensure!(read == last, "{read} of {last}");
    world.verified().await
}

/// Reads one event, then nothing more, while much more than sockets hold is waiting.
async fn stalled(world: &World) -> Result<BinlogStream> {
    let mut reader = stream(world).await?;
    for _ in 0..3 {
        reader.next().await.context("an event")??;
    }
    Ok(reader)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_as_configured_and_not_under_a_reader() -> Result<()> {
    let mut world = World::start(|options| options.max_binlog_size = Some("4MiB".into())).await?;
    insert(&world, 400, 100 << 10).await?;
    let dir = world.service.data_dir();
    let names = binlogs(&dir)?;
    let last = names.last().context("files")?.clone();
    let reader = stalled(&world).await?;
    let mut conn = Conn::new(world.service.opts()).await?;
    conn.query_drop(format!("PURGE BINARY LOGS TO '{last}'"))
        .await?;
    ensure!(binlogs(&dir)? == names, "purged under a reader");
    // The service is told to; the reader learns what has become of its file.
    drop(reader);
    world.service.options_mut().store_extra = "purge_in_use = true\n".into();
    world.service.restart().await?;
    let reader = stalled(&world).await?;
    let mut conn = Conn::new(world.service.opts()).await?;
    conn.query_drop(format!("PURGE BINARY LOGS TO '{}'", names[2]))
        .await?;
    ensure!(binlogs(&dir)? == names[2..], "{:?}", binlogs(&dir)?);
    let error = error_of(reader).await?;
    ensure!(error.contains("1236"), "{error}");

    // By size.
    world.service.options_mut().store_extra = "max_total_size = \"20MiB\"\n".into();
    world.service.restart().await?;
    let deadline = Instant::now() + PATIENCE;
    let size = || -> Result<u64> {
        let sizes = binlogs(&dir)?.into_iter();
        let sizes = sizes.map(|n| fs::metadata(dir.join(n)).map_or(0, |m| m.len()));
        Ok(sizes.sum())
    };
    while size()? > 20 << 20 {
        ensure!(
            Instant::now() < deadline,
            "nothing is purged: {}",
            world.service.log_tail()
        );
        sleep(Duration::from_millis(100)).await;
    }
    ensure!(size()? > 10 << 20, "{} bytes are left", size()?);

    let mut conn = Conn::new(world.service.opts()).await?;
    let purged: Option<String> = conn.query_first("SELECT @@global.gtid_purged").await?;
    let purged = purged.unwrap_or_default();
    let status = world.service.status().await?;
    ensure!(
        !purged.is_empty() && status.0["store"]["gtid_purged"] == purged.as_str(),
        "{purged:?}"
    );
    let error = error_of(stream(&world).await?).await?;
    ensure!(error.contains("1236") && error.contains(&purged), "{error}");
    // A moment in the future is later than every finished file.
    conn.query_drop("PURGE BINARY LOGS BEFORE '2037-01-01 00:00:00'")
        .await?;
    ensure!(binlogs(&dir)?.len() == 1, "{:?}", binlogs(&dir)?);
    world.verified().await?;

    // And by age.
    world.service.options_mut().store_extra = "expire_after = \"2s\"\n".into();
    world.service.restart().await?;
    insert(&world, 9, 1 << 20).await?;
    ensure!(binlogs(&dir)?.len() > 1, "files have been finished");
    let deadline = Instant::now() + PATIENCE;
    while binlogs(&dir)?.len() > 1 {
        ensure!(
            Instant::now() < deadline,
            "nothing expires: {}",
            world.service.log_tail()
        );
        sleep(Duration::from_millis(100)).await;
    }
    world.verified().await?;
    world.no_errors_logged()
}

/// `verify` beside a service that writes, rotates and purges all the while finds no fault, and checks what is committed.
#[tokio::test(flavor = "multi_thread")]
async fn verify_is_right_about_a_directory_that_is_being_written() -> Result<()> {
    let world = World::start(|options| options.max_binlog_size = Some("64KiB".into())).await?;
    let bank = world
        .bank(BankOptions {
            duration: Some(Duration::from_secs(15)),
            ..BankOptions::default()
        })
        .await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    let (dir, mut runs, mut transactions) = (world.service.data_dir(), 0, 0);
    let mut conn = Conn::new(world.service.opts()).await?;
    while !running.is_finished() {
        let verify = ["verify".as_ref(), "--json".as_ref(), dir.as_os_str()];
        let output = world.service.command(&verify).await?;
        ensure!(output.status.success(), "{}", text(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        transactions += report["transactions"].as_u64().unwrap_or_default();
        runs += 1;
        if runs % 5 == 0 {
            let names = binlogs(&dir)?;
            // The last may not be in the log yet.
            let middle = &names[names.len().saturating_sub(3) / 2];
            conn.query_drop(format!("PURGE BINARY LOGS TO '{middle}'"))
                .await?;
        }
    }
    let stats = running.await??;
    println!("{runs} runs of verify beside {stats:?}: {transactions} transactions checked");
    ensure!(runs > 5 && transactions > 1000, "{runs}, {transactions}");
    let names = binlogs(&dir)?;
    ensure!(
        names.first().map(String::as_str) != Some("binlog.000001"),
        "nothing was purged"
    );
    world.verified().await
}
