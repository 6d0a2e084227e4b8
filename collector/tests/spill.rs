//! Transactions that are too large for memory: they lie in files, and are the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tributary_binlog::{ChecksumAlg, EventReader, GtidSet};
use tributary_collector::{Assembler, Spilling, SpoolDir, SpoolFiles, SpoolWriter, TroubleKind};
use tributary_flow::limits::CHUNK_BYTES;
use tributary_flow::{ErrorClass, Spool};
use tributary_tests::mysqld::MysqldOptions;

use crate::rig::{Rig, Server};
use crate::stream::{Ledger, Stream, body, feed, txns};

/// What a file counts for in the budget, and the chunks that are being filled.
const HELD_MAX: usize = (4 << 20) + 4 * CHUNK_BYTES;

fn spilling(threshold: u64) -> (tempfile::TempDir, Spilling) {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(SpoolDir(dir.path().to_owned()));
    (dir, Spilling { threshold, files })
}

fn start(spilling: Option<Spilling>) -> (Assembler, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let mut assembler = Assembler::with_spilling(ledger.clone(), spilling);
    feed(&mut assembler, &Stream::rotate_event("binlog.000007", 4)).unwrap();
    (assembler, ledger)
}

#[test]
fn a_large_transaction_goes_to_a_file_while_it_is_received() {
    let (_dir, to) = spilling(1 << 20);
    let (mut a, ledger) = start(Some(to));
    let mut s = Stream::file();
    s.local(1, 1000).gtid(2).query("BEGIN");
    for _ in 0..200 {
        s.rows(100_000);
    }
    feed(&mut a, &s.0).unwrap();
    assert!(ledger.used() < 2 << 20, "{}", ledger.used());
    assert!(a.open_pinned() < 2 << 20);
    let mut rest = Stream::default();
    rest.rows(3_000_000).rows(10).xid().local(3, 500);
    feed(&mut a, &rest.0).unwrap();
    let mut out = txns(a.take());
    assert_eq!(out.len(), 3);
    assert!(out[1].body.is_spooled());
    assert!(!out[0].body.is_spooled() && !out[2].body.is_spooled());
    assert!(out[1].body.len() > 23_000_000);
    assert!(ledger.used() < HELD_MAX, "{}", ledger.used());
    let (mut plain, _) = start(None);
    feed(&mut plain, &[s.0, rest.0].concat()).unwrap();
    let want = txns(plain.take());
    for (got, want) in out.iter().zip(&want) {
        assert!(body(got) == body(want), "{}", got.gtid);
        assert_eq!(
            (got.gtid, got.end, &got.kind),
            (want.gtid, want.end, &want.kind)
        );
    }
    out.clear();
    drop(a);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn a_half_written_file_goes_with_its_assembler() {
    let (dir, to) = spilling(100_000);
    let (mut a, ledger) = start(Some(to));
    let mut s = Stream::file();
    s.gtid(1).query("BEGIN").rows(1_000_000).rows(1_000_000);
    feed(&mut a, &s.0).unwrap();
    drop(a);
    assert_eq!(ledger.used(), 0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A disk with room for so many bytes.
#[derive(Debug)]
struct Full(Arc<AtomicU64>);

impl SpoolFiles for Full {
    fn create(&self, _expected: u64) -> io::Result<Box<dyn SpoolWriter>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl SpoolWriter for Full {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        let room = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(len));
        room.map(drop)
            .map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn finish(self: Box<Self>) -> Arc<dyn Spool> {
        unreachable!("the disk is full")
    }
}

#[test]
fn a_full_disk_names_the_transaction_and_is_tried_again() {
    let files = Arc::new(Full(Arc::new(AtomicU64::new(3_000_000))));
    let (mut a, _) = start(Some(Spilling {
        threshold: 1 << 20,
        files,
    }));
    let mut s = Stream::file();
    s.local(1, 10).gtid(2).query("BEGIN");
    for _ in 0..50 {
        s.rows(100_000);
    }
    let error = feed(&mut a, &s.0).unwrap_err();
    assert!(
        error.to_string().contains(":2 is too large for memory"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Retry);
    assert_eq!(txns(a.take()).len(), 1, "what was whole before is good");
    assert_eq!(
        tributary_collector::CollectorError::from(error).trouble(),
        TroubleKind::SpoolFull
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_transactions_are_the_same_with_any_threshold(
        sizes in prop::collection::vec((1_usize..400_000, 1_usize..6), 1..8),
        threshold in 1_u64..2_000_000,
    ) {
        let mut s = Stream::file();
        for (i, (len, rows)) in sizes.iter().enumerate() {
            s.gtid(i as u64 + 1).query("BEGIN");
            for _ in 0..*rows {
                s.rows(*len);
            }
            s.xid();
        }
        let (_dir, to) = spilling(threshold);
        let (mut a, _) = start(Some(to));
        let (mut plain, _) = start(None);
        let mut got = Vec::new();
        // As the collector does: what is finished is taken now and then.
        let mut reader = EventReader::new(&s.0, ChecksumAlg::Crc32);
        let mut n = 0;
        while let Some(event) = reader.next().unwrap() {
            a.handle(&event).unwrap();
            n += 1;
            if n % 7 == 0 {
                got.extend(txns(a.take()));
            }
        }
        got.extend(txns(a.take()));
        feed(&mut plain, &s.0).unwrap();
        let want = txns(plain.take());
        prop_assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            prop_assert!(body(got) == body(want));
            prop_assert_eq!(got.body.is_spooled(), want.body.len() > threshold);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_large_transaction_passes_with_little_memory() {
    let server =
        Server::start(MysqldOptions::node("dn1", 11).arg("--binlog-row-event-max-size=1M")).await;
    server
        .sql(
            "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT); \
             INSERT INTO shop.t (v) SELECT REPEAT('x', 1000000) FROM (VALUES ROW(1), ROW(2), ROW(3), ROW(4)) AS v; \
             INSERT INTO shop.t (v) SELECT v FROM shop.t; INSERT INTO shop.t (v) SELECT v FROM shop.t; \
             INSERT INTO shop.t (v) SELECT v FROM shop.t; \
             XA START 'big'; INSERT INTO shop.t (v) SELECT v FROM shop.t; XA END 'big'; XA PREPARE 'big'; XA COMMIT 'big'; \
             INSERT INTO shop.t (v) VALUES (REPEAT('y', 40000000))",
        )
        .await;
    let executed = server.executed().await;
    let mut config = server.config();
    config.bytes_max = 1 << 30;
    let mut rig = Rig::spawn(config, None);
    let want = rig.read_all(&GtidSet::new(), &executed).await;
    rig.stop().await;
    let (_dir, to) = spilling(2 << 20);
    let mut config = server.config();
    config.bytes_max = 8 * HELD_MAX;
    config.spilling = Some(to);
    let mut rig = Rig::spawn(config, None);
    let got = rig.read_all(&GtidSet::new(), &executed).await;
    assert_eq!(got.len(), want.len());
    let spooled = got.iter().filter(|t| t.body.is_spooled()).count();
    assert_eq!(spooled, 6, "four inserts, a branch, a row of 40 MB");
    assert!(rig.handle.bytes_in_flight() < 6 * HELD_MAX);
    for (got, want) in got.iter().zip(&want) {
        assert!(body(got) == body(want), "{}", got.gtid);
    }
    drop(got);
    crate::rig::until("all is released", || rig.handle.bytes_in_flight() == 0).await;
    rig.stop().await;
}

/// `VmHWM` of this process, in KiB.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "measures; alone in its process: cargo test -p tributary-collector --release -- --ignored --exact spill::memory_is_flat --nocapture"]
fn memory_is_flat() {
    let (_dir, to) = spilling(tributary_flow::limits::SPILL_THRESHOLD_BYTES);
    let (mut a, _) = start(Some(to));
    let (mut head, mut megabyte, mut tail) = (Stream::file(), Stream::default(), Stream::default());
    head.gtid(1).query("BEGIN");
    megabyte.rows(1 << 20);
    tail.xid();
    feed(&mut a, &head.0).unwrap();
    let before = peak_rss();
    for gigabyte in 1..=4 {
        for _ in 0..1024 {
            feed(&mut a, &megabyte.0).unwrap();
        }
        println!(
            "{gigabyte} GiB: peak RSS {} MiB more",
            (peak_rss() - before) >> 10
        );
    }
    feed(&mut a, &tail.0).unwrap();
    let out = txns(a.take());
    let mut bytes = 0;
    for chunk in out[0].body.chunks() {
        bytes += chunk.unwrap().len() as u64;
    }
    assert_eq!(bytes, out[0].body.len());
    let more = (peak_rss() - before) >> 10;
    println!("read back: peak RSS {more} MiB more");
    assert!(more < 150, "{more} MiB");
}
