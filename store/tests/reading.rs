//! The read side: clipping, following, indexes.

use std::sync::Arc;

use tributary_binlog::{EventType, GtidEvent, GtidSet};
use tributary_store::{GlobalLog, MemDisk, MemKv, ReadError, StartError};

use crate::support::{CREATED, UUID, batch, commit, events, open_mem, sample};

#[test]
fn a_reader_follows_the_durable_end_and_no_further() {
    let disk = MemDisk::new();
    let mut opened = open_mem(&disk, &MemKv::new(), 1500).unwrap();
    let first = opened.log.durable();
    let reader = opened.log.open(&first.file).unwrap();
    assert!(reader.is_active());
    assert_eq!(reader.end(), first.offset);
    let mut buf = vec![0; 1 << 16];
    assert_eq!(reader.read_at(0, &mut buf).unwrap() as u64, first.offset);
    assert_eq!(reader.read_at(first.offset, &mut buf).unwrap(), 0);
    assert_eq!(reader.read_at(first.offset + 1000, &mut buf).unwrap(), 0);

    opened.writer.append(&batch(1, 20)).unwrap();
    assert!(
        disk.bytes("binlog.000002").is_some(),
        "the next file is there, but not to be seen"
    );
    assert_eq!(reader.end(), first.offset);
    assert!(opened.log.next_file(&first.file).is_none());
    assert!(opened.log.find("binlog.000002").is_none());
    let second = first.file.next();
    assert!(matches!(
        opened.log.open(&second),
        Err(ReadError::NoSuchFile { .. })
    ));

    let end = opened.writer.commit().unwrap();
    assert!(!reader.is_active());
    let whole = disk.bytes("binlog.000001").unwrap();
    assert_eq!(reader.end(), whole.len() as u64);
    let n = reader.read_at(first.offset, &mut buf).unwrap();
    assert_eq!(buf[..n], whole[first.offset as usize..]);
    let next = opened.log.next_file(&first.file).unwrap();
    assert_eq!(next.file, second);
    let files = opened.log.files();
    assert_eq!(files.iter().filter(|f| f.active).count(), 1);
    let last = files.last().unwrap();
    assert_eq!(
        (&last.file, last.size, last.active),
        (&end.file, end.offset, true)
    );
}

#[test]
fn a_file_cut_behind_our_back_is_an_error_not_an_end() {
    let (disk, kv) = sample(5, 1 << 20);
    let opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    let end = opened.log.durable();
    let good = disk.bytes("binlog.000001").unwrap();
    disk.put("binlog.000001", &good[..good.len() - 1]);
    let reader = opened.log.open(&end.file).unwrap();
    let mut buf = vec![0; end.offset as usize];
    assert!(matches!(
        reader.read_at(0, &mut buf),
        Err(ReadError::Io { .. })
    ));
}

/// Checksums guard what follows the head; so a reader gets no byte of a file whose head is not as it was written.
#[test]
fn any_flipped_bit_in_a_head_is_found_when_the_file_is_opened() {
    let (disk, kv) = sample(40, 2000);
    let log = open_mem(&disk, &kv, 2000).unwrap().log;
    let info = log.files()[2].clone();
    let name = info.file.as_str();
    let good = disk.bytes(name).unwrap();
    let head = usize::try_from(crate::support::events(&good)[1].header.log_pos).unwrap();
    for bit in 0..head * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        disk.put(name, &bad);
        let refused = log.open(&info.file).map(|_| ()).unwrap_err();
        let ReadError::Damaged { file, pos, .. } = &refused else {
            panic!("bit {bit}: {refused}");
        };
        assert!(*file == info.file && *pos <= bit as u64 / 8, "{refused}");
    }
    let damaged = log.damaged();
    assert_eq!((damaged.len(), &damaged[0].file), (1, &info.file));
    disk.put(name, &good);
    log.open(&info.file).unwrap();
    assert!(log.report_damage(&log.durable().file, 300, "checksum"));
    assert!(!log.report_damage(&log.durable().file, 400, "checksum"));
    assert_eq!(log.damaged().len(), 2);
}

#[test]
fn start_file_by_gtid_set() {
    let (disk, kv) = sample(40, 2000);
    let opened = open_mem(&disk, &kv, 2000).unwrap();
    let log = opened.log;
    let set = |text: &str| -> GtidSet { text.parse().unwrap() };
    assert_eq!(log.start_file(&GtidSet::new()).unwrap().file.seq(), 1);
    for info in log.files() {
        let client = (*info.previous_gtids).clone();
        assert_eq!(log.start_file(&client).unwrap().file, info.file);
        let mut with_foreign = client;
        with_foreign.union(&set("77777777-7777-7777-7777-777777777777:1-1000"));
        assert_eq!(log.start_file(&with_foreign).unwrap().file, info.file);
    }
    let everything = log.gtid_executed();
    assert_eq!(everything, set(&format!("{UUID}:1-40")));
    assert!(log.start_file(&everything).unwrap().active);
    let Err(StartError::AheadOfSource { extra }) = log.start_file(&set(&format!("{UUID}:1-41")))
    else {
        panic!("a client cannot have what was never sent");
    };
    assert_eq!(extra, set(&format!("{UUID}:41")));
    assert!(log.gtid_purged().is_empty());
}

/// An index answer is never behind what is asked for, and is the start of a transaction.
#[test]
fn indexes_lead_to_or_before_the_place() {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, 600_000).unwrap();
    for group in 0..400 {
        commit(&mut opened.writer, group * 20 + 1, group * 20 + 20);
    }
    let log = opened.log;
    assert!(log.files().len() > 3);
    let mut starts = std::collections::BTreeMap::new();
    for info in log.files() {
        let bytes = disk.bytes(info.file.as_str()).unwrap();
        for event in events(&bytes) {
            if event.header.event_type == EventType::GTID {
                let gno = GtidEvent::parse(EventType::GTID, event.body).unwrap();
                let gno = gno.gtid.unwrap().gno.get();
                let pos = u64::from(event.header.log_pos - event.header.event_size);
                starts.insert((info.file.seq(), pos), gno);
            }
        }
    }
    let mut places = std::collections::BTreeSet::new();
    for gno in (1..=8000).step_by(13) {
        let pos = log
            .locate_gno(gno)
            .unwrap()
            .expect("the first group has an entry");
        let found = starts[&(pos.file.seq(), pos.offset)];
        assert!(found <= gno);
        places.insert(found);
        let pos = log.locate_tso(1_000_000 + gno).unwrap();
        assert!(pos.is_none_or(|pos| starts[&(pos.file.seq(), pos.offset)] <= gno));
        let pos = log
            .locate_time(CREATED + 10 + gno as u32)
            .unwrap()
            .expect("as above");
        assert!(starts[&(pos.file.seq(), pos.offset)] <= gno);
    }
    assert!(places.len() >= 4, "entries in every file: {places:?}");
    assert!(log.locate_tso(1).unwrap().is_none());
}

#[test]
fn index_entries_behind_the_durable_end_are_not_shown() {
    // An entry is in the database a moment before its group is visible: ask in that moment.
    let (disk, kv) = sample(5, 1 << 20);
    let early = open_mem(&disk, &kv, 1 << 20).unwrap();
    let log = early.log.clone();
    drop(early);
    let mut late = open_mem(&disk, &kv, 1 << 20).unwrap();
    commit(&mut late.writer, 6, 9);
    assert!(late.log.locate_gno(9).unwrap().is_some());
    let before = log.locate_gno(9).unwrap();
    assert!(before.is_none_or(|pos| pos.offset < log.durable().offset));
}

#[test]
fn our_own_directory_can_be_read_like_a_foreign_one() {
    let (disk, kv) = sample(40, 2000);
    let ours = open_mem(&disk, &kv, 2000).unwrap().log;
    let foreign = GlobalLog::from_dir(Arc::new(disk), "binlog.index").unwrap();
    assert_eq!(foreign.durable(), ours.durable());
    assert_eq!(foreign.files(), ours.files());
    assert_eq!(foreign.gtid_executed(), ours.gtid_executed());
    assert_eq!(foreign.server_uuid(), ours.server_uuid());
    assert!(foreign.locate_gno(5).unwrap().is_none());
}
