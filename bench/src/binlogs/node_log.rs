//! The binlog files of one node.
//!
//! In: the node's groups, in order. Out: a directory as a stopped mysqld 9.7 leaves it: `binlog.000001` …, each with
//! format description, PREVIOUS_GTIDS, transactions and ROTATE (the last one: STOP); `binlog.index`; `auto.cnf`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tributary_binlog::{
    ChecksumAlg, EventType, EventWriter, FormatDescription, Gno, Gtid, GtidEvent, GtidSet, MAGIC,
    PreviousGtids, Rotate, Sid, Tag, flags,
};

use super::bodies::Bodies;
use super::clock::Clock;
use crate::history::{EPOCH, Group, What};
use crate::rng::mix;

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 4 << 20;
const SERVER_VERSION: &str = "9.7.4";
const SERVER_VERSION_NUMBER: u32 = 90_704;
/// The number of InnoDB transactions a fresh server has seen before the first statement.
const FIRST_INNODB_XID: u64 = 4;

/// What is known of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) node: usize,
    pub(crate) server_id: u32,
    pub(crate) seed: u64,
    pub(crate) max_binlog_size: u64,
}

impl NodeSpec {
    /// The `server_uuid`: version 4, made of the seed.
    pub(crate) fn uuid(&self) -> Sid {
        let (high, low) = (
            mix(self.seed ^ 0x7472_6962),
            mix(self.seed.wrapping_add(1 + self.node as u64)),
        );
        let mut uuid = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Sid(uuid)
    }
}

/// Writes one node's files.
pub(crate) struct NodeLog {
    dir: PathBuf,
    spec: NodeSpec,
    uuid: Sid,
    files: u64,
    file: File,
    /// Bytes of the current file that are not written yet.
    buffer: Vec<u8>,
    /// Where the first of them belongs.
    base: u64,
    clock: Clock,
    bodies: Bodies,
    gno: u64,
    innodb_xid: u64,
    timestamp: u32,
    bytes: u64,
}

impl NodeLog {
    /// Begins the first file in `dir`, which is made.
    pub(crate) fn create(dir: &Path, spec: NodeSpec) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let uuid = spec.uuid();
        fs::write(
            dir.join("auto.cnf"),
            format!("[auto]\nserver-uuid={uuid}\n"),
        )?;
        let mut log = Self {
            dir: dir.to_owned(),
            file: create(dir, 1)?,
            uuid,
            files: 1,
            buffer: Vec::with_capacity(WRITE_BYTES + (1 << 20)),
            base: 0,
            clock: Clock::default(),
            bodies: Bodies::default(),
            gno: 0,
            innodb_xid: FIRST_INNODB_XID,
            timestamp: (EPOCH / 1_000_000) as u32,
            bytes: 0,
            spec,
        };
        log.head(log.timestamp)?;
        Ok(log)
    }

    fn event(
        &mut self,
        event_type: EventType,
        flags: u16,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let (base, server_id) = (self.base, self.spec.server_id);
        let mut writer = EventWriter::new(&mut self.buffer, base, server_id, ChecksumAlg::Crc32);
        Ok(writer.event(event_type, self.timestamp, flags, body)?)
    }

    /// Magic, format description, PREVIOUS_GTIDS. `created` is 0 but in the first file of a server's life.
    fn head(&mut self, created: u32) -> Result<()> {
        self.buffer.extend_from_slice(&MAGIC);
        let format = FormatDescription {
            created,
            ..FormatDescription::for_version(SERVER_VERSION)
        };
        self.event(EventType::FORMAT_DESCRIPTION, 0, |out| format.put_body(out))?;
        let mut set = GtidSet::new();
        if let Some(last) = Gno::new(self.gno) {
            set.add_interval(self.uuid, Tag::EMPTY, Gno::FIRST, last);
        }
        self.event(EventType::PREVIOUS_GTIDS, flags::IGNORABLE, |out| {
            PreviousGtids(set).put_body(out);
        })
    }

    /// Writes a group, and begins a new file behind it if this one has reached its size.
    pub(crate) fn group(&mut self, group: &Group<'_>) -> Result<()> {
        self.timestamp = (group.at / 1_000_000) as u32;
        self.innodb_xid += 3;
        let mut bodies = std::mem::take(&mut self.bodies);
        bodies.fill(group, self.innodb_xid);
        let gtid = self.gtid(group, bodies.len_in_file())?;
        self.event(EventType::GTID, 0, |out| gtid.put_body(out))?;
        for (event_type, flags, body) in bodies.iter() {
            self.event(event_type, flags, |out| out.extend_from_slice(body))?;
        }
        self.bodies = bodies;
        if self.base + self.buffer.len() as u64 >= self.spec.max_binlog_size {
            self.rotate()?;
        } else if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn gtid(&mut self, group: &Group<'_>, rest: u64) -> Result<GtidEvent> {
        self.gno += 1;
        let gno = Gno::new(self.gno).context("too many transactions")?;
        let (last_committed, sequence_number) = self.clock.tick(group);
        let mut gtid = GtidEvent {
            gtid: Some(Gtid {
                sid: self.uuid,
                tag: Tag::EMPTY,
                gno,
            }),
            // Anything that begins with a statement other than BEGIN.
            flags: u8::from(!matches!(group.what, What::Local(_))),
            last_committed,
            sequence_number,
            immediate_commit_ts: group.at,
            original_commit_ts: if let What::Commit(tso) = group.what {
                tso
            } else {
                group.at
            },
            transaction_length: 0,
            original_server_version: SERVER_VERSION_NUMBER,
            immediate_server_version: SERVER_VERSION_NUMBER,
            commit_group_ticket: None,
        };
        gtid.set_transaction_length(rest, ChecksumAlg::Crc32);
        Ok(gtid)
    }

    fn rotate(&mut self) -> Result<()> {
        let next = file_name(self.files + 1);
        self.event(EventType::ROTATE, 0, |out| {
            Rotate {
                position: 4,
                file: next.as_bytes(),
            }
            .put_body(out);
        })?;
        self.flush()?;
        self.bytes += self.base;
        self.files += 1;
        self.file = create(&self.dir, self.files)?;
        self.base = 0;
        self.clock = Clock::default();
        self.head(0)
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_all(&self.buffer)
            .with_context(|| format!("write below {}", self.dir.display()))?;
        self.base += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the last file and writes the index. Returns the bytes of all files.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.event(EventType::STOP, 0, |_| {})?;
        self.flush()?;
        let index: String = (1..=self.files)
            .map(|n| format!("./{}\n", file_name(n)))
            .collect();
        fs::write(self.dir.join("binlog.index"), index)?;
        Ok(self.bytes + self.base)
    }
}

fn file_name(number: u64) -> String {
    format!("binlog.{number:06}")
}

fn create(dir: &Path, number: u64) -> Result<File> {
    let path = dir.join(file_name(number));
    File::create_new(&path).with_context(|| format!("make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use tributary_binlog::{Event, EventReader};

    use super::*;
    use crate::history::{self, Shape, Spec};

    fn events(bytes: &[u8]) -> Vec<(Event<'_>, u32, u32)> {
        let mut reader = EventReader::new(&bytes[4..], ChecksumAlg::Crc32);
        let mut events = Vec::new();
        while let Some(raw) = reader.next().unwrap() {
            events.push((
                Event::parse(&raw).unwrap(),
                raw.header.log_pos,
                raw.header.event_size,
            ));
        }
        events
    }

    #[test]
    fn files_are_whole_and_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let spec = NodeSpec {
            node: 1,
            server_id: 102,
            seed: 5,
            max_binlog_size: 64 << 10,
        };
        let mut log = NodeLog::create(dir.path(), spec).unwrap();
        let history = Spec {
            nodes: 2,
            transactions: 1000,
            seed: 5,
            shape: Shape::Oltp,
        };
        let mut groups = 0;
        history::run(&history, &mut |group| {
            if group.node != 1 {
                return anyhow::Ok(());
            }
            groups += 1;
            log.group(group)
        })
        .unwrap();
        let uuid = log.uuid;
        let bytes = log.finish().unwrap();
        let index = fs::read_to_string(dir.path().join("binlog.index")).unwrap();
        let (mut gno, mut total, files) = (0, 0, index.lines().count());
        assert!(files > 3);
        for (number, name) in index.lines().enumerate() {
            let content = fs::read(dir.path().join(name)).unwrap();
            total += content.len() as u64;
            let (mut pos, mut end, mut sequence) = (4, 0, 0);
            let events = events(&content);
            for (event, log_pos, size) in &events {
                let start = pos;
                pos += u64::from(*size);
                assert_eq!(u64::from(*log_pos), pos);
                if let Event::Gtid(gtid) = event {
                    gno += 1;
                    sequence += 1;
                    assert_eq!(
                        (gtid.gtid.unwrap().gno.get(), gtid.sequence_number),
                        (gno, sequence)
                    );
                    assert!(
                        end == 0 || end == start,
                        "transaction_length is the distance to the next"
                    );
                    assert!(gtid.last_committed < sequence);
                    end = start + gtid.transaction_length;
                }
            }
            assert!(
                matches!(&events[1].0, Event::PreviousGtids(p) if p.0.last_gno(uuid, Tag::EMPTY).map_or(0, Gno::get) + sequence as u64 == gno)
            );
            let last = &events.last().unwrap().0;
            assert_eq!(matches!(last, Event::Stop(_)), number + 1 == files);
            assert_eq!(matches!(last, Event::Rotate(_)), number + 1 < files);
        }
        assert_eq!((gno, total), (groups, bytes));
    }
}
