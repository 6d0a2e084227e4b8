//! A node's binlog stream.
//!
//! In: options, and a file behind its magic. Out: a panic unless the assembler gives the same transactions in memory and from
//! spool files, however small, takes no bytes that it does not give back, and lets every source GTID stand once.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tributary_binlog::{ChecksumAlg, FrameDecoder};
use tributary_collector::{Account, AssembleError, Assembler, Spilling};
use tributary_flow::{Body, MemorySpools, NodeItem};

use crate::{frame::put_checksums, input::Input};

/// Bytes in flight.
#[derive(Default)]
struct Counted(AtomicI64);

impl Account for Counted {
    fn charge(&self, bytes: usize) {
        self.0.fetch_add(bytes as i64, Ordering::Relaxed);
    }
    fn release(&self, bytes: usize) {
        let left = self.0.fetch_sub(bytes as i64, Ordering::Relaxed) - bytes as i64;
        assert!(left >= 0, "more is released than was charged");
    }
}

/// What came of a stream: its items as text and bytes, and the error that ended it.
type Outcome = (Vec<(String, Vec<u8>)>, Option<String>);

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let (step, threshold) = (usize::from(input.byte()) * 4 + 1, u64::from(input.byte()));
    let alg = if options & 1 == 0 {
        ChecksumAlg::None
    } else {
        ChecksumAlg::Crc32
    };
    let mut file = input.rest().to_vec();
    put_checksums(&mut file, alg);
    let memory = assemble(&file, alg, step, None);
    let spilling = Spilling {
        threshold,
        files: Arc::new(MemorySpools),
    };
    let spilled = assemble(&file, alg, step, Some(spilling));
    assert_eq!(
        memory, spilled,
        "whether transactions lie in memory or in files"
    );
}

fn assemble(file: &[u8], alg: ChecksumAlg, step: usize, spilling: Option<Spilling>) -> Outcome {
    let account = Arc::new(Counted::default());
    let mut assembler = Assembler::with_spilling(account.clone(), spilling);
    let mut decoder = FrameDecoder::new(alg, 1 << 20);
    let (mut items, mut error) = (Vec::new(), None);
    'stream: for piece in file.chunks(step) {
        decoder.feed(piece);
        loop {
            match decoder.poll() {
                Ok(Some(event)) => {
                    let handled: Result<(), AssembleError> = assembler.handle(&event);
                    if let Err(e) = handled {
                        error = Some(e.to_string());
                        break 'stream;
                    }
                }
                Ok(None) => break,
                Err(e) => {
                    error = Some(e.to_string());
                    break 'stream;
                }
            }
        }
        items.extend(assembler.take());
    }
    items.extend(assembler.take());
    let shown = items.iter().map(show).collect();
    drop(items);
    drop(assembler);
    assert_eq!(
        account.0.load(Ordering::Relaxed),
        0,
        "everything charged is released"
    );
    (shown, error)
}

fn show(item: &NodeItem) -> (String, Vec<u8>) {
    match item {
        NodeItem::Position(pos) => (pos.to_string(), Vec::new()),
        NodeItem::Txn(txn) => {
            let bytes: Vec<u8> = txn
                .body
                .chunks()
                .flat_map(|c| c.expect("memory can be read"))
                .collect();
            assert_eq!(bytes.len() as u64, txn.body.len());
            let mut plain = (**txn).clone();
            plain.body = Body::default();
            (format!("{plain:?}"), bytes)
        }
    }
}
