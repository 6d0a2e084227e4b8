//! What transactions pin, and that it is let go of.

use std::sync::Arc;

use tributary_collector::Assembler;
use tributary_flow::limits::CHUNK_BYTES;

use crate::stream::{Ledger, Stream, body, feed, txns};

fn start() -> (Assembler, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    (Assembler::new(ledger.clone()), ledger)
}

#[test]
fn a_small_transaction_pins_little() {
    let (mut a, ledger) = start();
    let mut s = Stream::file();
    s.local(1, 1000);
    feed(&mut a, &s.0).unwrap();
    let items = a.take();
    assert!(
        ledger.used() > 1000 && ledger.used() < 4096,
        "{}",
        ledger.used()
    );
    drop(items);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn a_full_chunk_is_shared_and_released_with_its_last_transaction() {
    let (mut a, ledger) = start();
    let mut s = Stream::file();
    for gno in 1..=1000 {
        s.local(gno, 300);
    }
    feed(&mut a, &s.0).unwrap();
    let mut txns = txns(a.take());
    let bodies: u64 = txns.iter().map(|t| t.body.len()).sum();
    // Chunks are at least half full, and the transactions themselves count.
    let limit = 2 * (bodies as usize + CHUNK_BYTES) + 1000 * 1024;
    assert!(
        ledger.used() as u64 >= bodies && ledger.used() < limit,
        "{} {bodies}",
        ledger.used()
    );
    let one = txns.swap_remove(500);
    drop(txns);
    let kept = ledger.used();
    assert!((CHUNK_BYTES / 2..4 * CHUNK_BYTES).contains(&kept), "{kept}");
    let slice = one.body.segments()[0].slice(0..1);
    drop(one);
    assert_eq!(ledger.used(), kept, "a slice of a slice holds the chunk");
    std::thread::spawn(move || drop(slice)).join().unwrap();
    assert_eq!(ledger.used(), 0);
}

#[test]
fn a_transaction_of_many_chunks_is_charged_while_it_is_open() {
    let (mut a, ledger) = start();
    let mut s = Stream::file();
    s.local(1, 10).gtid(2).query("BEGIN");
    for _ in 0..40 {
        s.rows(100_000);
    }
    feed(&mut a, &s.0).unwrap();
    drop(a.take());
    assert!(a.open_pinned() > 3_000_000, "{}", a.open_pinned());
    assert_eq!(ledger.used(), a.open_pinned(), "nothing else is in flight");
    let mut rest = Stream::default();
    rest.rows(5_000_000).xid();
    feed(&mut a, &rest.0).unwrap();
    let txns = txns(a.take());
    assert_eq!(a.open_pinned(), 0);
    let events = body(&txns[0]);
    assert_eq!(events.len(), 82);
    assert!(events[81].1 == vec![2; 5_000_000]);
    assert!((txns[0].body.len() as usize) <= ledger.used());
    drop(txns);
    assert_eq!(ledger.used(), 0);
    drop(a);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn an_assembler_dropped_in_the_middle_releases_everything() {
    let (mut a, ledger) = start();
    let mut s = Stream::file();
    s.gtid(2).query("BEGIN").rows(1_000_000).rows(1_000_000);
    feed(&mut a, &s.0).unwrap();
    assert!(ledger.used() >= 1_000_000);
    drop(a);
    assert_eq!(ledger.used(), 0);
}
