//! Wrong input of every kind gets the documented error and harms nothing: a bank goes on underneath, and is the same at the end.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tributary_tests::bank::BankOptions;
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT};
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tools::free_port;

use crate::world::{World, remote_mysqlbinlog, text};

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_mysqls_errors() -> Result<()> {
    let mut world = World::start(|options| options.max_binlog_size = Some("64KiB".into())).await?;
    let replica = world.replica("replica", 201).await?;
    let options = BankOptions {
        duration: Some(Duration::from_secs(10)),
        rate: Some(100.0),
        seed: Some(4),
        ..BankOptions::default()
    };
    let bank = world.bank(options).await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });

    refused_logins(&world).await?;
    garbage(&world).await?;
    refused_dumps(&world).await?;
    println!("bank: {:?}", running.await??);
    purged(&world).await?;

    world.same(&bank, &replica).await?;
    ensure!(world.service.is_running());
    world.no_errors_logged()
}

/// The code of the error that a client gets.
fn code(result: Result<impl Sized, Error>) -> Result<(u16, String)> {
    match result {
        Err(Error::Server(e)) => Ok((e.code, e.message)),
        Err(other) => bail!("not an error of the server: {other}"),
        Ok(_) => bail!("no error"),
    }
}

async fn refused_logins(world: &World) -> Result<()> {
    let with = |user: &str, password: &str| {
        Opts::from(
            OptsBuilder::from_opts(world.service.opts())
                .user(Some(user))
                .pass(Some(password)),
        )
    };
    for (user, password) in [
        (REPL_ACCOUNT.0, "wrong"),
        ("nobody", "x"),
        (REPL_ACCOUNT.0, ""),
    ] {
        let (number, message) = code(Conn::new(with(user, password)).await)?;
        ensure!(
            number == 1045 && message.contains(&format!("Access denied for user '{user}'@")),
            "{number} {message}"
        );
    }
    let mut conn = Conn::new(world.service.opts()).await?;
    let (number, message) = code(conn.query_drop("SELECT @@no_such_variable").await)?;
    ensure!(number == 1193, "{number} {message}");
    let (number, message) = code(conn.query_drop("INSERT INTO t VALUES (1)").await)?;
    ensure!(number == 1235, "{number} {message}");
    ensure!(
        conn.query_first::<u32, _>("SELECT @@server_id").await? == Some(4294),
        "the connection is still good"
    );
    Ok(conn.disconnect().await?)
}

/// Bytes that are no protocol end that connection and nothing else.
async fn garbage(world: &World) -> Result<()> {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        &[0, 0, 0, 1],
        &[0x03, 0, 0, 1, 1, 2],
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", world.service.port())).await?;
        socket.write_all(bytes).await?;
        socket.shutdown().await?;
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ =
            tokio::time::timeout(Duration::from_secs(15), socket.read_to_end(&mut answer)).await?;
    }
    Conn::new(world.service.opts()).await?.disconnect().await?;
    Ok(())
}

/// What `mysqlbinlog` is told when it asks for what is not there.
async fn refused_dumps(world: &World) -> Result<()> {
    for (args, want) in [
        (
            vec!["binlog.999999"],
            "Could not find first log file name in binary log index file",
        ),
        (
            vec!["--start-position=99999999", "binlog.000001"],
            "position > file size",
        ),
    ] {
        let output = remote_mysqlbinlog(world, &args, world.cluster.dir()).await?;
        ensure!(
            !output.status.success() && text(&output).contains(want),
            "{args:?}: {}",
            text(&output)
        );
    }
    Ok(())
}

/// A replica that needs purged transactions is refused with 1236 and told which.
async fn purged(world: &World) -> Result<()> {
    let mut conn = Conn::new(world.service.opts()).await?;
    let logs: Vec<(String, u64, String)> = conn.query("SHOW BINARY LOGS").await?;
    ensure!(logs.len() > 3, "the log was rotated");
    conn.query_drop(format!("PURGE BINARY LOGS TO '{}'", logs[2].0))
        .await?;
    let left: Vec<(String, u64, String)> = conn.query("SHOW BINARY LOGS").await?;
    ensure!(left[0].0 == logs[2].0, "{left:?}");
    let purged: Option<String> = conn.query_first("SELECT @@global.gtid_purged").await?;
    ensure!(
        purged.is_some_and(|p| p.contains(":1")),
        "purged GTIDs are told"
    );
    conn.disconnect().await?;

    let late = world.cluster.start_replica("late", 203).await?;
    late.replicate_from(&world.service.source()).await?;
    for _ in 0..300 {
        let error = late
            .replica_status()
            .await?
            .map(|s| s.io_error)
            .unwrap_or_default();
        if error.contains("1236") || error.contains("purged") {
            ensure!(error.contains("purged"), "{error}");
            return world.verified().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!(
        "the replica got no error: {:?}",
        late.replica_status().await?
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_wrong_settings_are_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let statement = Mysqld::start(
        MysqldOptions::node("dn1", 101).arg("--binlog-format=STATEMENT"),
        dir.path(),
    )
    .await?;
    let no_gtid = MysqldOptions::node("dn2", 102)
        .arg("--gtid-mode=OFF")
        .arg("--enforce-gtid-consistency=OFF");
    let no_gtid = Mysqld::start(no_gtid, dir.path()).await?;
    let mut options = ServiceOptions::new("tso", [&statement, &no_gtid]);
    let mut gone = options.nodes[0].clone();
    gone.name = "dn3".into();
    gone.urls = vec![format!("mysql://repl@127.0.0.1:{}", free_port()?)];
    options.nodes.push(gone);
    let mut service = Service::configure(options, dir.path())?;
    let config = service.config_path();

    let output = service
        .command(&["check".as_ref(), "--config".as_ref(), config.as_os_str()])
        .await?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(1), "{lines}");
    for (node, word) in [
        ("dn1", "binlog_format"),
        ("dn2", "gtid_mode"),
        ("dn3", "127.0.0.1"),
    ] {
        let found = lines
            .lines()
            .any(|l| l.contains(&format!("node {node}:")) && l.contains(word));
        ensure!(found, "{node}: {word} is not in\n{lines}");
    }

    // Serving goes on without them, and says why nothing comes.
    service.launch().await?;
    let status = service.wait_status("every node has its state", Duration::from_secs(30), |s| {
        s.node_states()
            .iter()
            .all(|(_, state)| state == "halted" || state == "retrying")
    });
    let status = status.await?.0.to_string();
    ensure!(
        status.contains("binlog_format") && status.contains("gtid_mode"),
        "{status}"
    );
    let mut conn = Conn::new(service.opts()).await?;
    ensure!(
        conn.query::<mysql_async::Row, _>("SHOW BINARY LOGS")
            .await?
            .len()
            == 1
    );
    conn.disconnect().await?;
    service.stop().await
}

#[tokio::test]
async fn a_wrong_configuration_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut options = ServiceOptions::new("tso", []);
    options.server_extra = "colour = \"red\"\n".into();
    let service = Service::configure(options, dir.path())?;
    let config = service.config_path();
    for command in ["check", "serve"] {
        let output = service
            .command(&[command.as_ref(), "--config".as_ref(), config.as_os_str()])
            .await?;
        let lines = text(&output);
        ensure!(output.status.code() == Some(1), "{lines}");
        ensure!(
            lines.lines().any(|l| l == "server.colour: unknown key"),
            "{lines}"
        );
        ensure!(
            lines.lines().any(|l| l.starts_with("node: at least one")),
            "{lines}"
        );
    }
    Ok(())
}
