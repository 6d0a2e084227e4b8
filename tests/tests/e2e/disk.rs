//! File systems that fill up, turn read-only or fail to sync, under the real service. The file systems are made for it, which
//! only root can do: for anybody else these stories are left out, and say so.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use tokio::time::sleep;
use tributary_tests::cluster::Cluster;
use tributary_tests::service::{Service, ServiceOptions, Status};

use crate::sum;
use crate::world::{World, text};

/// For a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Within which the service goes on by itself once there is space.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);
/// What the service leaves free, and a little.
const ALMOST_FULL: u64 = 34 << 20;

/// A mounted file system. Gone with its handle.
struct Mount(PathBuf);

impl Mount {
    fn new(args: &[&str], at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        let status = Command::new("mount").args(args).arg(at).status()?;
        ensure!(status.success(), "mount {args:?} at {}", at.display());
        Ok(Self(at.to_owned()))
    }

    fn tmpfs(size: &str, at: &Path) -> Result<Self> {
        Self::new(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whether file systems can be mounted here, and these programs be run.
fn can_mount(programs: &[&str]) -> Result<bool> {
    let dir = tempfile::tempdir()?;
    if let Err(error) = Mount::tmpfs("1m", &dir.path().join("probe")) {
        println!("left out: {error}");
        return Ok(false);
    }
    for program in programs {
        if Command::new(program).arg("-V").output().is_err() {
            println!("left out: there is no {program}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// One node with a table, and a service that is not started yet.
async fn stage() -> Result<World> {
    let cluster = Cluster::start(1).await?;
    let options = ServiceOptions::new("tso", &cluster.nodes);
    let service = Service::configure(options, cluster.dir())?;
    let table =
        "CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB)";
    cluster.sql(table).await?;
    Ok(World { service, cluster })
}

/// So many transactions of 1 MiB.
async fn insert(world: &World, count: u32) -> Result<()> {
    let mut conn = world.cluster.nodes[0].root().await?;
    for _ in 0..count {
        let sql = "INSERT INTO d.t (v) VALUES (REPEAT('x', 1 << 20))";
        conn.query_drop(sql).await?;
    }
    Ok(())
}

fn last(status: &Status) -> u64 {
    status.last_gno().unwrap_or(0)
}

async fn durable(world: &World, gno: u64) -> Result<Status> {
    let what = format!("transaction {gno} is durable");
    let done = |s: &Status| last(s) >= gno;
    world.service.wait_status(&what, PATIENCE, done).await
}

/// Clients read everything up to `gno`.
async fn is_served(world: &World, gno: u64) -> Result<()> {
    let read = sum::watch(world.service.opts(), (0, 0), || Some(gno)).await?;
    ensure!(read == gno, "{read} transactions read, {gno} are durable");
    Ok(())
}

/// Writes zeros until `leave` bytes are free.
fn fill(file: &Path, leave: u64) -> Result<()> {
    let mut out = File::create(file)?;
    let zeros = vec![0; 256 << 10];
    loop {
        let stat = rustix::fs::statvfs(file)?;
        if stat.f_bavail * stat.f_frsize <= leave || out.write_all(&zeros).is_err() {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for_while_clients_are_served() -> Result<()> {
    if !can_mount(&[])? {
        return Ok(());
    }
    let mut world = stage().await?;
    let dir = world.service.data_dir();
    let _mount = Mount::tmpfs("160m", &dir)?;
    world.service.launch().await?;
    let mut gno = 2;
    for round in 1..=2 {
        insert(&world, 1).await?;
        gno += 1;
        durable(&world, gno).await?;
        let filler = dir.join("of-somebody-else");
        fill(&filler, ALMOST_FULL)?;
        insert(&world, 8).await?;
        let full = |s: &Status| s.state().starts_with("disk full");
        let status = world
            .service
            .wait_status("disk full", PATIENCE, full)
            .await?;
        let before = last(&status);
        is_served(&world, before).await?;
        sleep(Duration::from_secs(2)).await;
        let status = world.service.status().await?;
        ensure!(full(&status) && last(&status) == before, "{status:?}");
        ensure!(before < gno + 8, "there was no need to wait");

        // A change of the nodes must not let what waits be merged once more. It is refused, or done when there is space.
        let admin = format!("http://127.0.0.1:{}", world.service.admin_port());
        let rename = ["nodes", "--admin", &admin, "rename", "dn1", "other"];
        let (renamed, started) = tokio::join!(world.service.command(&rename), async {
            sleep(Duration::from_secs(2)).await;
            fs::remove_file(&filler)?;
            anyhow::Ok(Instant::now())
        });
        let (renamed, start) = (text(&renamed?), started?);
        println!("nodes rename: {}", renamed.trim());
        durable(&world, before + 1).await?;
        let took = start.elapsed();
        gno += 8;
        durable(&world, gno).await?;
        println!(
            "round {round}: full at transaction {before}, went on {took:.1?} after there was space"
        );
        ensure!(took <= RESUMES_WITHIN, "{took:?}");
        is_served(&world, gno).await?;
        // Whatever became of the change.
        let back = ["nodes", "--admin", &admin, "rename", "other", "dn1"];
        let _ = world.service.command(&back).await?;
    }
    // Nothing comes twice.
    insert(&world, 1).await?;
    durable(&world, gno + 1).await?;
    sleep(Duration::from_secs(1)).await;
    let last = last(&world.service.status().await?);
    ensure!(last == gno + 1, "{last} transactions of {}", gno + 1);
    world.verified().await?;
    world.service.stop().await
}

/// A file system on a file, which lies on a file system of its own that can be filled.
struct Image {
    mount: Option<Mount>,
    base: Mount,
    dir: PathBuf,
}

impl Image {
    fn new(world: &World) -> Result<Self> {
        let base = Mount::tmpfs("192m", &world.cluster.dir().join("base"))?;
        let image = Self {
            mount: None,
            base,
            dir: world.service.data_dir(),
        };
        File::create(image.file())?.set_len(1 << 30)?;
        let made = Command::new("mkfs.ext4")
            .arg("-q")
            .arg(image.file())
            .status()?;
        ensure!(made.success(), "mkfs.ext4");
        Ok(image)
    }

    fn file(&self) -> PathBuf {
        self.base.0.join("disk")
    }

    fn mount(&mut self) -> Result<()> {
        let file = self.file();
        let file = file.to_str().context("a path of ours")?;
        let options = ["-o", "loop,errors=remount-ro", file];
        self.mount = Some(Mount::new(&options, &self.dir)?);
        Ok(())
    }

    /// As after a start of the machine.
    fn mount_again(&mut self) -> Result<()> {
        let at = self.mount.take().context("it is mounted")?;
        let gone = Command::new("umount").arg(&at.0).status()?;
        ensure!(gone.success(), "umount");
        std::mem::forget(at);
        // 1: errors were corrected.
        let checked = Command::new("e2fsck")
            .arg("-fy")
            .arg(self.file())
            .output()?;
        ensure!(checked.status.code() <= Some(1), "{checked:?}");
        self.mount()
    }
}

/// Waits for the process to end by itself, as it does when its disk has failed.
async fn ends(world: &mut World) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let process = world.service.process().context("it was started")?;
        if let Some(status) = process.exited() {
            ensure!(status.code() == Some(70), "{status}");
            let log = world.service.log_tail();
            ensure!(log.contains("the store failed"), "{log}");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}", world.service.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
}

/// What was durable is there after a start on a sound disk, and it goes on.
async fn goes_on(world: &mut World, before: u64, all: u64) -> Result<()> {
    world.service.launch().await?;
    let now = last(&world.service.status().await?);
    ensure!(now >= before, "{before} was durable, {now} is there");
    durable(world, all).await?;
    is_served(world, all).await?;
    world.verified().await
}

/// The service with its directory on an ext4 of its own, five transactions in it; `None` where nothing can be mounted.
async fn on_ext4() -> Result<Option<(World, Image)>> {
    if !can_mount(&["mkfs.ext4", "e2fsck"])? {
        return Ok(None);
    }
    let mut world = stage().await?;
    let mut image = Image::new(&world)?;
    image.mount()?;
    world.service.launch().await?;
    insert(&world, 3).await?;
    durable(&world, 5).await?;
    Ok(Some((world, image)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_the_process() -> Result<()> {
    let Some((mut world, mut image)) = on_ext4().await? else {
        return Ok(());
    };
    // The disk below has no more room: what the file system takes, it can not keep.
    let filler = image.base.0.join("filler");
    fill(&filler, 0)?;
    insert(&world, 20).await?;
    ends(&mut world).await?;
    fs::remove_file(&filler)?;
    world.service.kill9();
    image.mount_again()?;
    goes_on(&mut world, 5, 25).await?;
    world.service.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_turns_read_only_ends_the_process() -> Result<()> {
    let Some((mut world, mut image)) = on_ext4().await? else {
        return Ok(());
    };
    let options = ["-o", "remount,abort"];
    let aborted = Command::new("mount")
        .args(options)
        .arg(&image.dir)
        .status()?;
    ensure!(aborted.success(), "remount,abort");
    let refused = File::create(image.dir.join("probe"));
    ensure!(refused.is_err(), "it is not read-only");
    insert(&world, 5).await?;
    ends(&mut world).await?;
    // It does not start there either, and says why.
    ensure!(
        world.service.launch().await.is_err(),
        "it starts on a read-only file system"
    );
    world.service.kill9();
    image.mount_again()?;
    goes_on(&mut world, 5, 10).await?;
    world.service.stop().await
}
