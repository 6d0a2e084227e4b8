//! The files themselves: what MySQL's own tools say of them, and what `tributary verify` says of damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tributary_binlog::{ChecksumAlg, EventReader, EventType, MAGIC};

use crate::world::{World, binlogs, mysql, remote_mysqlbinlog, text};

/// Byte of the format description's flags: 4 of magic, 17 into the header.
const FLAGS_BYTE: usize = 4 + 17;

/// `mysqlbinlog` reads every file with checksums, and fetches byte-identical copies over the wire.
pub(crate) async fn read_by_mysqlbinlog(world: &World) -> Result<()> {
    let dir = world.service.data_dir();
    let names = binlogs(&dir)?;
    ensure!(names.len() >= 3, "the log was rotated: {names:?}");
    for name in &names {
        let output = mysql("mysqlbinlog", &["--verify-binlog-checksum", name], &dir).await?;
        ensure!(output.status.success(), "{name}: {}", text(&output));
        ensure!(
            output.stderr.is_empty() || !text(&output).contains("ERROR"),
            "{name}"
        );
    }
    let copies = tempfile::tempdir()?;
    let args = ["--raw", "--to-last-log", names[0].as_str()];
    let output = remote_mysqlbinlog(world, &args, copies.path()).await?;
    ensure!(output.status.success(), "{}", text(&output));
    for name in &names {
        let (mut ours, mut copy) = (
            fs::read(dir.join(name))?,
            fs::read(copies.path().join(name)).context(name.clone())?,
        );
        ours[FLAGS_BYTE] &= !1;
        copy[FLAGS_BYTE] &= !1;
        ensure!(
            ours == copy,
            "{name}: the copy differs ({} and {} bytes)",
            ours.len(),
            copy.len()
        );
    }
    shown(world, &names).await
}

/// `SHOW BINARY LOGS` and friends tell what is there.
async fn shown(world: &World, names: &[String]) -> Result<()> {
    let mut conn = Conn::new(world.service.opts()).await?;
    let rows: Vec<Row> = conn.query("SHOW BINARY LOGS").await?;
    let listed: Vec<(String, u64)> = rows
        .iter()
        .map(|r| (r.get(0).unwrap_or_default(), r.get(1).unwrap_or_default()))
        .collect();
    for ((name, size), file) in listed.iter().zip(names) {
        ensure!(
            name == file && *size == fs::metadata(world.service.data_dir().join(file))?.len(),
            "{name} {size}"
        );
    }
    ensure!(listed.len() == names.len());
    for statement in ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"] {
        let row: Row = conn.query_first(statement).await?.context(statement)?;
        let executed: String = row.get(4).unwrap_or_default();
        ensure!(
            row.get::<String, _>(0).as_ref() == names.last()
                && executed.ends_with(&world.last_gno().await?.to_string())
        );
    }
    let events: Vec<Row> = conn
        .query(format!("SHOW BINLOG EVENTS IN '{}' LIMIT 6", names[1]))
        .await?;
    let kinds: Vec<String> = events
        .iter()
        .map(|r| r.get(2).unwrap_or_default())
        .collect();
    ensure!(
        kinds[..3] == ["Format_desc", "Previous_gtids", "Gtid"],
        "{kinds:?}"
    );
    let version: Option<String> = conn.query_first("SELECT @@version").await?;
    ensure!(version.is_some_and(|v| v.starts_with("8.4")));
    conn.disconnect().await?;
    let output = world
        .service
        .command(&[
            "events".as_ref(),
            world.service.data_dir().join(&names[0]).as_os_str(),
        ])
        .await?;
    ensure!(output.status.success() && text(&output).lines().count() > 10);
    Ok(())
}

/// `tributary verify` passes on the files and fails on each kind of damage.
pub(crate) async fn verify_finds_each_fault(world: &World) -> Result<()> {
    world.verified().await?;
    let dir = world.service.data_dir();
    let sealed = dir.join(&binlogs(&dir)?[0]);
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let faults: [(&str, Damage); 4] = [
        ("a flipped byte", |mut b| {
            let middle = b.len() / 2;
            b[middle] ^= 0x10;
            b
        }),
        ("a removed event", |b| without(&b, &[EventType::XID])),
        ("a doubled GTID", |b| doubled_gtid(&b)),
        ("a truncated sealed file", |mut b| {
            b.truncate(b.len() - 300);
            b
        }),
    ];
    for (what, damage) in faults {
        let copy = tempfile::tempdir()?;
        copy_files(&dir, copy.path())?;
        let target = copy.path().join(sealed.file_name().context("a file name")?);
        fs::write(&target, damage(fs::read(&target)?))?;
        let output = world
            .service
            .command(&["verify".as_ref(), copy.path().as_os_str()])
            .await?;
        ensure!(
            output.status.code() == Some(1),
            "{what}: verify said {}",
            text(&output)
        );
        ensure!(
            text(&output).contains("binlog.000001"),
            "{what}: the file is not named: {}",
            text(&output)
        );
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path: PathBuf = entry?.path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().context("a file name")?))?;
        }
    }
    Ok(())
}

/// The places of the events of a file: type, first byte, byte behind.
fn events(file: &[u8]) -> Vec<(EventType, usize, usize)> {
    let mut reader = EventReader::new(&file[MAGIC.len()..], ChecksumAlg::Crc32);
    let (mut out, mut at) = (Vec::new(), MAGIC.len());
    while let Ok(Some(event)) = reader.next() {
        out.push((event.header.event_type, at, at + event.bytes.len()));
        at += event.bytes.len();
    }
    assert!(out.len() > 10, "the file was read");
    out
}

fn without(file: &[u8], kinds: &[EventType]) -> Vec<u8> {
    let all = events(file);
    let (_, from, to) = all
        .iter()
        .find(|(kind, ..)| kinds.contains(kind))
        .copied()
        .expect("there is one");
    [&file[..from], &file[to..]].concat()
}

/// Puts the first transaction's GTID event, checksum and all, in place of the second's.
fn doubled_gtid(file: &[u8]) -> Vec<u8> {
    let gtids: Vec<_> = events(file)
        .into_iter()
        .filter(|(kind, ..)| *kind == EventType::GTID)
        .collect();
    let (first, second) = (gtids[0], gtids[1]);
    [
        &file[..second.1],
        &file[first.1..first.2],
        &file[second.2..],
    ]
    .concat()
}
