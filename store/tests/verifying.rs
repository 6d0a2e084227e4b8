//! What `verify` finds, and what it does not complain about.

use tributary_binlog::{BinlogFile, ChecksumAlg, EventType, EventWriter, MAGIC};
use tributary_store::{
    MemDisk,
    verify::{Fault, Report, VerifyOptions, committed_end, known_files, verify_dir},
};

use crate::support::{events, files, sample};

fn verify(disk: &MemDisk) -> Report {
    verify_dir(disk, &VerifyOptions::default())
}

fn texts(report: &Report) -> String {
    report
        .faults
        .iter()
        .map(Fault::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A clean directory with several files.
fn directory() -> MemDisk {
    let (disk, _) = sample(40, 2000);
    let report = verify(&disk);
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.transactions, 40);
    assert_eq!(report.files as usize, files(&disk).len() - 1);
    disk
}

/// Writes the events `keep` lets through anew, with right positions and checksums: a forgery that only the rules betray.
fn forge(disk: &MemDisk, name: &str, mut keep: impl FnMut(usize, EventType) -> usize) {
    let bytes = disk.bytes(name).unwrap();
    let mut out = MAGIC.to_vec();
    for (i, event) in events(&bytes).iter().enumerate() {
        for _ in 0..keep(i, event.header.event_type) {
            let mut writer = EventWriter::new(&mut out, 0, 4294, ChecksumAlg::Crc32);
            writer
                .copy(&event.header, event.body, event.header.timestamp, None)
                .unwrap();
        }
    }
    disk.put(name, &out);
}

/// Index of the `n`th event of a type in a file.
fn nth_of(disk: &MemDisk, name: &str, event_type: EventType, n: usize) -> usize {
    let bytes = disk.bytes(name).unwrap();
    let events = events(&bytes);
    let mut found = (0..events.len()).filter(|&i| events[i].header.event_type == event_type);
    found.nth(n).unwrap()
}

#[test]
fn any_flipped_bit_is_found() {
    let disk = directory();
    for name in ["binlog.000001", "binlog.000003"] {
        let good = disk.bytes(name).unwrap();
        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            disk.put(name, &bad);
            let report = verify(&disk);
            let fault = report.faults.iter().find(|fault| fault.file == name);
            let fault = fault.unwrap_or_else(|| panic!("byte {at} of {name} was not missed"));
            // The bit is in the event that is named, or the walk stopped at its header.
            assert!(fault.pos <= at as u64, "byte {at}: {fault}");
        }
        disk.put(name, &good);
    }
    assert!(verify(&disk).is_clean());
}

#[test]
fn a_removed_event_is_found_even_if_positions_were_corrected() {
    let disk = directory();
    let name = "binlog.000002";
    let good = disk.bytes(name).unwrap();
    // Cut out as it is: the positions do not fit.
    let all = events(&good);
    let victim = all[6];
    let start = (victim.header.log_pos - victim.header.event_size) as usize;
    let mut cut = good.clone();
    cut.drain(start..victim.header.log_pos as usize);
    disk.put(name, &cut);
    assert!(texts(&verify(&disk)).contains("end_log_pos"));
    // Removed and everything behind it written anew: for each single event of the file.
    for (gone, event) in all.iter().enumerate() {
        disk.put(name, &good);
        forge(&disk, name, |i, _| usize::from(i != gone));
        let report = verify(&disk);
        let event_type = event.header.event_type;
        assert!(!report.is_clean(), "event {gone}, {event_type}");
    }
}

#[test]
fn a_doubled_gtid_is_found() {
    let disk = directory();
    let name = "binlog.000002";
    // The whole second transaction twice.
    let from = nth_of(&disk, name, EventType::GTID, 1);
    let to = nth_of(&disk, name, EventType::GTID, 2);
    let bytes = disk.bytes(name).unwrap();
    let mut out = MAGIC.to_vec();
    let all = events(&bytes);
    for event in all[..to].iter().chain(&all[from..]) {
        let mut writer = EventWriter::new(&mut out, 0, 4294, ChecksumAlg::Crc32);
        writer
            .copy(&event.header, event.body, event.header.timestamp, None)
            .unwrap();
    }
    disk.put(name, &out);
    assert!(
        texts(&verify(&disk)).contains("a second time"),
        "{}",
        texts(&verify(&disk))
    );
}

#[test]
fn a_truncated_sealed_file_is_found_at_every_length() {
    let disk = directory();
    let name = "binlog.000002";
    let good = disk.bytes(name).unwrap();
    for len in (0..good.len()).rev().step_by(7) {
        disk.put(name, &good[..len]);
        let report = verify(&disk);
        let named = report.faults.iter().any(|fault| fault.file == name);
        assert!(named, "{len} bytes: {}", texts(&report));
    }
}

#[test]
fn a_missing_transaction_breaks_the_numbers() {
    let disk = directory();
    let name = "binlog.000002";
    let (from, to) = (
        nth_of(&disk, name, EventType::GTID, 1),
        nth_of(&disk, name, EventType::GTID, 2),
    );
    forge(&disk, name, |i, _| usize::from(!(from..to).contains(&i)));
    let report = verify(&disk);
    let texts = texts(&report);
    assert!(
        texts.contains("follows number") && texts.contains("sequence_number"),
        "{texts}"
    );
    assert!(texts.contains("the files before lack"), "{texts}");
    let options = VerifyOptions {
        contiguous: false,
        ..VerifyOptions::default()
    };
    let report = verify_dir(&disk, &options);
    assert!(
        !report
            .faults
            .iter()
            .any(|f| f.detail.contains("follows number"))
    );
}

#[test]
fn events_behind_rotate_are_found() {
    let disk = directory();
    let name = "binlog.000002";
    forge(
        &disk,
        name,
        |_, ty| if ty == EventType::ROTATE { 2 } else { 1 },
    );
    assert!(texts(&verify(&disk)).contains("Rotate behind the Rotate"));
}

#[test]
fn index_faults_are_found() {
    let disk = directory();
    let good = disk.bytes("binlog.index").unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let without = |name: &str| text.replace(&format!("./{name}\n"), "");
    disk.put("binlog.index", without("binlog.000002").as_bytes());
    let found = texts(&verify(&disk));
    assert!(
        found.contains("binlog.000002:0: the file is not in binlog.index"),
        "{found}"
    );
    assert!(
        found.contains("binlog.000003 follows binlog.000001"),
        "{found}"
    );
    disk.put("binlog.index", b"garbage");
    assert!(!verify(&disk).is_clean());
    disk.put("binlog.index", &good);
    use tributary_store::Disk;
    disk.remove("binlog.000003").unwrap();
    let found = texts(&verify(&disk));
    assert!(
        found.contains("binlog.000003:0: cannot be opened"),
        "{found}"
    );
    disk.remove("binlog.index").unwrap();
    assert!(texts(&verify(&disk)).contains("binlog.index:0"));
}

#[test]
fn an_unfinished_end_is_a_note_unless_it_was_committed() {
    let (disk, kv) = sample(40, 2000);
    let end = committed_end(&kv).unwrap().unwrap();
    let name = end.0.as_str();
    let good = disk.bytes(name).unwrap();
    let known = VerifyOptions {
        committed_end: Some(end.clone()),
        ..VerifyOptions::default()
    };
    assert!(verify_dir(&disk, &known).is_clean());
    // Cut inside the last transaction: without the database it might just be unfinished.
    for cut in [1, 31, 40] {
        disk.put(name, &good[..good.len() - cut]);
        let report = verify(&disk);
        assert!(report.is_clean(), "{cut}: {}", texts(&report));
        assert_eq!(report.notes.len(), 1, "{cut}: {:?}", report.notes);
        assert!(!verify_dir(&disk, &known).is_clean());
    }
    // Behind the committed end anything may be.
    disk.put(
        name,
        &[&good[..], b"rubbish that is no event at all"].concat(),
    );
    disk.put(end.0.next().as_str(), b"rubbish");
    let report = verify_dir(&disk, &known);
    assert!(report.is_clean(), "{}", texts(&report));
    assert!(
        !verify(&disk).is_clean(),
        "the file behind it is not in the index"
    );
}

#[test]
fn faults_are_counted_beyond_the_limit() {
    let (disk, _) = sample(600, 1 << 20);
    let mut bytes = disk.bytes("binlog.000001").unwrap();
    let ends: Vec<usize> = events(&bytes)
        .iter()
        .map(|e| e.header.log_pos as usize)
        .collect();
    for end in ends {
        bytes[end - 1] ^= 1;
    }
    disk.put("binlog.000001", &bytes);
    let report = verify(&disk);
    assert_eq!(report.faults.len(), 1000);
    assert!(report.more_faults > 1000);
    assert_eq!(report.faults[0].file, BinlogFile::new("binlog", 1).as_str());
}

#[test]
fn the_index_database_is_compared() {
    use tributary_store::Disk;
    let (disk, kv) = sample(40, 2000);
    let options = || VerifyOptions {
        committed_end: committed_end(&kv).unwrap(),
        known: Some(known_files(&kv).unwrap()),
        ..VerifyOptions::default()
    };
    let before = options();
    assert!(verify_dir(&disk, &before).is_clean());
    let good = disk.bytes("binlog.000002").unwrap();
    disk.put("binlog.000002", &[&good[..], b"more"].concat());
    let found = texts(&verify_dir(&disk, &before));
    assert!(
        found.contains("had") && found.contains("when it was finished"),
        "{found}"
    );
    disk.put("binlog.000002", &good);

    // A service that goes on and purges while it is looked at does no harm.
    let mut opened = crate::support::open_mem(&disk, &kv, 2000).unwrap();
    opened.writer.purge_to("binlog.000003").unwrap();
    crate::support::commit(&mut opened.writer, 41, 60);
    let report = verify_dir(&disk, &before);
    assert!(report.is_clean(), "{}", texts(&report));
    let report = verify_dir(&disk, &options());
    assert!(report.is_clean(), "{}", texts(&report));

    // A file that the database forgot, or that the index forgot.
    let mut half = options();
    half.known.as_mut().unwrap().remove(1);
    let found = texts(&verify_dir(&disk, &half));
    assert!(
        found.contains("the index database does not know it"),
        "{found}"
    );
    let text = String::from_utf8(disk.bytes("binlog.index").unwrap()).unwrap();
    disk.put(
        "binlog.index",
        text.replace("./binlog.000004\n", "").as_bytes(),
    );
    let found = texts(&verify_dir(&disk, &options()));
    assert!(found.contains("the index database has it"), "{found}");
    disk.remove("binlog.000003").unwrap();
    disk.put("binlog.index", text.as_bytes());
    let found = texts(&verify_dir(&disk, &options()));
    assert!(
        found.contains("binlog.000003:0: cannot be opened"),
        "{found}"
    );
}
