//! Crashes at every step, with everything that was not synced lost, kept or torn.

use proptest::{prelude::*, test_runner::TestRng};
use tributary_store::{
    MemDisk, MemKv, Opened,
    disk::{Fuse, Keep, Unsynced},
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{batch, dump, files, open_mem};

const MAX: u64 = 1500;

/// What happens to unsynced changes.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Nothing,
    All,
    Random(u64),
}

fn crash(disk: &MemDisk, kv: &MemKv, luck: Luck) -> (MemDisk, MemKv) {
    let seed = match luck {
        Luck::Random(seed) => seed,
        _ => 0,
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &bytes);
    let kept = match luck {
        Luck::Nothing => 0,
        Luck::All => kv.unsynced(),
        Luck::Random(_) => rng.random_range(0..=kv.unsynced()),
    };
    let kv = kv.crash_keep(kept);
    let disk = disk.crash_keep(|change| match luck {
        Luck::Nothing => Keep::Nothing,
        Luck::All => Keep::All,
        Luck::Random(_) => match (rng.random_range(0..4), change) {
            (0, _) => Keep::Nothing,
            (1, Unsynced::Write { len, .. }) => Keep::Part(rng.random_range(0..=*len)),
            (2, _) => Keep::Zeros,
            _ => Keep::All,
        },
    });
    (disk, kv)
}

/// Appends up to `n`, a group at a time, until done or until the fuse blows. Answers how far commits were acknowledged.
fn run(opened: &mut Opened, group: &dyn Fn(u64) -> u64, n: u64) -> u64 {
    let mut acknowledged = opened.log.durable().last_gno;
    while acknowledged < n {
        let from = acknowledged + 1;
        let to = (from + group(from)).min(n);
        // Two appends to a group.
        let middle = from + (to - from) / 2;
        let mut go = || {
            opened.writer.append(&batch(from, middle))?;
            opened.writer.append(&batch(middle + 1, to))?;
            opened.writer.commit()
        };
        match go() {
            Ok(end) => acknowledged = end.last_gno,
            Err(_) => break,
        }
    }
    acknowledged
}

/// The files as they are when nothing ever fails.
fn reference(n: u64) -> MemDisk {
    let disk = MemDisk::new();
    let mut opened = open_mem(&disk, &MemKv::new(), MAX).unwrap();
    assert_eq!(run(&mut opened, &|_| 3, n), n);
    disk
}

/// After a crash: what was acknowledged is there, what is there is a prefix, opening again changes nothing, and going on
/// ends in the bytes that would have been without the crash.
fn check(disk: &MemDisk, kv: &MemKv, acknowledged: u64, appended: u64, reference: &MemDisk) {
    if let Some(index) = disk.bytes("binlog.index") {
        let whole = reference.bytes("binlog.index").unwrap();
        let torn = !whole.starts_with(&index) || !index.ends_with(b"\n");
        assert!(
            !torn,
            "the index is replaced in one step, for tools that read it as it lies"
        );
    }
    let mut opened = open_mem(disk, kv, MAX).unwrap();
    let end = opened.log.durable();
    let gno = end.last_gno;
    assert!(
        acknowledged <= gno && gno <= appended,
        "{acknowledged} <= {gno} <= {appended}"
    );
    let progress = opened
        .checkpoint
        .as_ref()
        .map_or(0, |c| c.last_tso.micros());
    assert_eq!(
        progress, gno,
        "the merger's state belongs to the last transaction"
    );
    for info in opened.log.files() {
        let mut bytes = vec![0; info.size as usize + 10];
        let reader = opened.log.open(&info.file).unwrap();
        let n = reader.read_at(0, &mut bytes).unwrap();
        assert_eq!(n as u64, info.size);
        let whole = reference.bytes(info.file.as_str()).unwrap();
        assert!(whole.starts_with(&bytes[..n]), "{} is no prefix", info.file);
        assert!(
            info.active || n == whole.len(),
            "{} is not whole",
            info.file
        );
        assert_eq!(
            disk.bytes(info.file.as_str()).unwrap().len() as u64,
            info.size,
            "cut"
        );
    }
    drop(opened.writer);
    let once = (files(disk), dump(kv));
    opened = open_mem(disk, kv, MAX).unwrap();
    assert!(
        opened.truncated.is_none(),
        "the second recovery finds nothing to do"
    );
    assert!(once == (files(disk), dump(kv)), "and changes nothing");
    let report = verify_dir(disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");

    let n = transactions(reference);
    assert_eq!(run(&mut opened, &|_| 5, n), n);
    assert!(files(disk) == files(reference), "the same bytes in the end");
}

fn transactions(disk: &MemDisk) -> u64 {
    verify_dir(disk, &VerifyOptions::default()).transactions
}

/// One life: create, append, crash after `works` changes. `None` if the fuse did not blow.
fn live(works: u64, group: &dyn Fn(u64) -> u64, n: u64) -> Option<(MemDisk, MemKv, u64)> {
    let fuse = Fuse::new();
    let (disk, kv) = (
        MemDisk::with_fuse(fuse.clone()),
        MemKv::with_fuse(fuse.clone()),
    );
    fuse.set(works);
    let acknowledged = match open_mem(&disk, &kv, MAX) {
        Ok(mut opened) => run(&mut opened, group, n),
        Err(_) => 0,
    };
    fuse.blown().then_some((disk, kv, acknowledged))
}

/// Every single point at which the machine can stop, creation included.
#[test]
fn a_crash_at_every_change() {
    const N: u64 = 24;
    let reference = reference(N);
    let mut crashes = 0;
    while let Some((disk, kv, acknowledged)) = live(crashes, &|from| from % 5, N) {
        for luck in [
            Luck::Nothing,
            Luck::All,
            Luck::Random(crashes),
            Luck::Random(crashes + 1000),
        ] {
            let (disk, kv) = crash(&disk, &kv, luck);
            check(&disk, &kv, acknowledged, N, &reference);
        }
        crashes += 1;
    }
    assert!(crashes > 50, "{crashes}");
}

/// Recovery itself crashes, at every change it makes, and is tried again.
#[test]
fn a_crash_at_every_change_of_recovery() {
    const N: u64 = 24;
    let reference = reference(N);
    let mut recoveries = 0;
    for works in (0..).step_by(3) {
        let Some((disk, kv, acknowledged)) = live(works, &|_| 7, N) else {
            break;
        };
        for changes in 0.. {
            let fuse = Fuse::new();
            let (disk, kv) = crash(&disk, &kv, Luck::All);
            let (disk, kv) = (disk.fused(&fuse), kv.fused(&fuse));
            fuse.set(changes);
            if open_mem(&disk, &kv, MAX).is_ok() {
                break;
            }
            recoveries += 1;
            let (disk, kv) = crash(&disk, &kv, Luck::Random(works * 100 + changes));
            check(&disk, &kv, acknowledged, N, &reference);
        }
    }
    assert!(recoveries > 20, "{recoveries}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any groups, any crash point, any luck, several lives.
    #[test]
    fn random_crashes(
        n in 10u64..60,
        groups in prop::collection::vec(0u64..12, 8),
        lives in prop::collection::vec((0u64..120, any::<u64>()), 1..5),
    ) {
        let reference = reference(n);
        let group = |from: u64| groups[from as usize % groups.len()];
        let (mut disk, mut kv, mut acknowledged) = (MemDisk::new(), MemKv::new(), 0);
        for (works, seed) in lives {
            let fuse = Fuse::new();
            let (fused_disk, fused_kv) = (disk.fused(&fuse), kv.fused(&fuse));
            fuse.set(works);
            if let Ok(mut opened) = open_mem(&fused_disk, &fused_kv, MAX) {
                acknowledged = acknowledged.max(run(&mut opened, &group, n));
            }
            (disk, kv) = crash(&fused_disk, &fused_kv, Luck::Random(seed));
        }
        check(&disk, &kv, acknowledged, n, &reference);
    }
}
