//! Transactions that lie in files: written like any other, in slices.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;
use tributary_binlog::{EventType, GtidEvent};
use tributary_flow::{Body, GlobalTxn, MemorySpool, MergedBatch, Spool, limits};
use tributary_store::disk::{Fuse, Keep, Unsynced};
use tributary_store::verify::{VerifyOptions, verify_dir};
use tributary_store::{EncodeError, Encoder, MemDisk, MemKv, Numbers, Pending, WriteError};

use crate::support::{
    batch, commit, event, events, nth, open_mem, rows, sid, table_map, write_rows,
};

/// The same events again and again.
#[derive(Debug)]
struct Repeated {
    head: Vec<u8>,
    event: Vec<u8>,
}

impl Spool for Repeated {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset as usize + done;
            let from = match at.checked_sub(self.head.len()) {
                None => &self.head[at..],
                Some(at) => &self.event[at % self.event.len()..],
            };
            let n = from.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&from[..n]);
            done += n;
        }
        Ok(())
    }
}

/// A body of at least `len` bytes.
fn large(len: u64) -> Body {
    let file = Repeated {
        head: table_map(5, "t"),
        event: write_rows(5, 7, 100_000),
    };
    let count = len / file.event.len() as u64 + 1;
    let len = file.head.len() as u64 + count * file.event.len() as u64;
    Body::spooled(Arc::new(file), len, count + 1)
}

/// The same body, read from a file.
pub(crate) fn spooled(body: &Body) -> Body {
    let bytes = body.segments().concat();
    let count = tributary_binlog::EventReader::new(&bytes, tributary_binlog::ChecksumAlg::None);
    let mut count = count;
    let mut n = 0;
    while count.next().unwrap().is_some() {
        n += 1;
    }
    let len = bytes.len() as u64;
    Body::spooled(Arc::new(MemorySpool(bytes)), len, n)
}

fn encode(txn: &GlobalTxn) -> Result<Vec<u8>, EncodeError> {
    let mut pending = Pending::default();
    let numbers = Numbers {
        gno: 900,
        first_gno: 1,
    };
    Encoder::new(4294, sid()).transaction(&mut pending, numbers, txn)?;
    Ok(pending.bytes)
}

#[test]
fn the_same_bytes_whether_spooled_or_not() {
    for n in 1..200 {
        let txn = nth(n);
        let want = encode(&txn).unwrap();
        for every in [1, 2] {
            let mut other = txn.clone();
            for part in other.parts.iter_mut().step_by(every) {
                *part = spooled(part);
            }
            assert!(encode(&other).unwrap() == want, "transaction {n}");
        }
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_wrong_length() {
    let good = rows(&[vec![table_map(5, "t"), write_rows(5, 1, 10)]], 1);
    let body = spooled(&good.parts[0]);
    let bytes = good.parts[0].segments().concat();
    let with = |part: Body| GlobalTxn {
        parts: smallvec![part],
        ..good.clone()
    };
    let counted = |events| Body::spooled(Arc::new(MemorySpool(bytes.clone())), body.len(), events);
    assert!(encode(&with(counted(2))).is_ok());
    for events in [1, 3] {
        let error = encode(&with(counted(events))).unwrap_err();
        assert!(matches!(error, EncodeError::Length { .. }), "{error}");
    }
    let short = Body::spooled(Arc::new(MemorySpool(bytes[..40].to_vec())), body.len(), 2);
    let error = encode(&with(short)).unwrap_err();
    assert!(matches!(error, EncodeError::Spool { .. }), "{error}");
    let xid = Body::new(Bytes::from(event(EventType::XID, 0, &[0; 8])));
    let error = encode(&with(spooled(&xid))).unwrap_err();
    assert!(matches!(error, EncodeError::Misplaced { .. }), "{error}");
}

fn huge(n: u64, len: u64) -> MergedBatch {
    let mut batch = batch(n, n);
    batch.txns[0] = GlobalTxn {
        parts: smallvec![large(len / 2), large(len / 2)],
        ..rows(&[], n)
    };
    batch
}

#[test]
fn a_large_transaction_is_whole_and_in_one_file() {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    commit(&mut opened.writer, 1, 2);
    let len = limits::SYNC_SLICE_BYTES * 2 + 12_345;
    opened.writer.append(&huge(3, len)).unwrap();
    opened.writer.commit().unwrap();
    commit(&mut opened.writer, 4, 5);
    let report = verify_dir(&disk, &VerifyOptions::default());
    assert!(report.is_clean(), "{:?}", report.faults);
    let bytes = disk.bytes("binlog.000001").unwrap();
    let all = events(&bytes);
    let mut at = 4;
    let mut seen = false;
    for event in &all {
        if let Ok(gtid) = GtidEvent::parse(event.header.event_type, event.body)
            && gtid.transaction_length > len
        {
            seen = true;
            // Behind it comes the file's end, exactly.
            let rotate = all.last().unwrap().bytes.len() as u64;
            assert_eq!(at + gtid.transaction_length, bytes.len() as u64 - rotate);
        }
        at += event.bytes.len() as u64;
    }
    assert!(seen);
    // And a start behind it.
    drop(opened);
    let opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    assert_eq!(opened.log.durable().last_gno, 5);
}

#[test]
fn a_failure_in_the_middle_leaves_nothing_of_it() {
    let len = limits::SYNC_SLICE_BYTES * 2 + 12_345;
    // Of some 130 writes and syncs of the large transaction.
    for after in [0, 1, 40, 64, 65, 66, 120] {
        let fuse = Fuse::new();
        let (disk, kv) = (
            MemDisk::with_fuse(fuse.clone()),
            MemKv::with_fuse(fuse.clone()),
        );
        let mut opened = open_mem(&disk, &kv, 1 << 30).unwrap();
        commit(&mut opened.writer, 1, 2);
        let end = opened.log.durable();
        fuse.set(after);
        let failed = opened.writer.append(&huge(3, len));
        assert!(matches!(failed, Err(WriteError::Io { .. })), "{failed:?}");
        assert_eq!(opened.log.durable(), end, "nothing is visible");
        fuse.set(u64::MAX);
        let again = opened.writer.append(&huge(3, len));
        assert!(matches!(again, Err(WriteError::Poisoned { .. })));
        drop(opened);
        // The process ends; or the machine does, and what was not synced is lost, there, or in pieces.
        let keeps: [fn(&Unsynced) -> Keep; 3] = [
            |_| Keep::All,
            |_| Keep::Nothing,
            |_| Keep::Sectors(0x5bd1_e995_0137_2a6d),
        ];
        for (n, keep) in keeps.into_iter().enumerate() {
            let (disk, kv) = (disk.crash_keep(keep), kv.crash_keep(usize::MAX));
            let mut opened = open_mem(&disk, &kv, 1 << 30).unwrap();
            assert_eq!(opened.log.durable(), end);
            assert!(after == 0 || n > 0 || opened.truncated.is_some());
            commit(&mut opened.writer, 3, 4);
            let report = verify_dir(&disk, &VerifyOptions::default());
            assert!(report.is_clean(), "{:?}", report.faults);
        }
    }
}
