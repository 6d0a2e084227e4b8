//! How fast the hot path is: `cargo test --release -p tributary-collector -- --ignored --nocapture throughput`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_binlog::{ChecksumAlg, EventReader};
use tributary_collector::Assembler;
use tributary_flow::limits::{BATCH_ITEMS_MAX, CHUNK_BYTES};

use crate::fake::{dump_from, dump_packets, serve};
use crate::stream::{Ledger, Stream};

const BYTES: usize = 256 << 20;

/// Transactions of about 550 bytes, as sysbench makes them.
fn stream() -> Stream {
    let mut s = Stream::file();
    for gno in 1.. {
        s.local(gno, 262);
        if s.0.len() > BYTES {
            break;
        }
    }
    s
}

fn report(what: &str, bytes: usize, transactions: u64, took: Duration) -> f64 {
    let rate = bytes as f64 / took.as_secs_f64() / 1e6;
    let nanos = took.as_nanos() as f64 / transactions as f64;
    println!(
        "{what}: {rate:.0} MB/s, {nanos:.0} ns for a transaction of {} bytes",
        bytes as u64 / transactions
    );
    rate
}

#[test]
#[ignore = "measures"]
fn throughput_of_framing_crc_and_assembling() {
    let s = stream();
    let began = Instant::now();
    let mut reader = EventReader::new(&s.0, ChecksumAlg::Crc32);
    while let Some(event) = reader.next().unwrap() {
        std::hint::black_box(&event);
    }
    report("framing and CRC alone", s.0.len(), 1, began.elapsed());
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        let mut assembler = Assembler::new(Arc::new(Ledger::default()));
        let began = Instant::now();
        let mut reader = EventReader::new(&s.0, ChecksumAlg::Crc32);
        while let Some(event) = reader.next().unwrap() {
            assembler.handle(&event).unwrap();
            if assembler.pending_bytes() >= CHUNK_BYTES
                || assembler.pending_items() >= BATCH_ITEMS_MAX
            {
                drop(assembler.take());
            }
        }
        drop(assembler.take());
        let transactions = assembler.seen().transactions;
        best = best.max(report(
            "framing, CRC, assembling",
            s.0.len(),
            transactions,
            began.elapsed(),
        ));
    }
    assert!(best > 300.0, "the hot path has become slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn throughput_from_a_socket() {
    let s = stream();
    let (bytes, packets) = (s.0.len(), dump_packets(&s.0));
    drop(s);
    let address = serve(packets, 1 << 20).await;
    let mut conn = dump_from(address, Duration::from_secs(5)).await;
    let mut assembler = Assembler::new(Arc::new(Ledger::default()));
    let began = Instant::now();
    while assembler.seen().bytes < bytes as u64 {
        let mut block = conn.next_block().await.unwrap();
        while let Some(event) = block.next_event().unwrap() {
            assembler.handle(&event).unwrap();
        }
        drop(assembler.take());
    }
    let rate = report(
        "from a socket",
        bytes,
        assembler.seen().transactions,
        began.elapsed(),
    );
    assert!(rate > 200.0, "the hot path has become slow");
}
