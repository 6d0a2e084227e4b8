//! A directory of binlogs made by any MySQL server, as a log to read from. In: the index file and the files it names.
//! Out: a [`GlobalLog`] that never grows.

use std::sync::Arc;

use tributary_binlog::{
    BinlogFile, ChecksumAlg, EventType, FormatDescription, FrameError, Gno, GtidEvent, GtidSet,
    MAGIC, PreviousGtids, Sid, Tag,
};

use crate::{
    DurableEnd, GlobalLog, OpenError,
    core::index_file,
    disk::{Disk, DiskFile},
    files::read_text,
    log::{FileEntry, Parts},
    scan::{FileScan, ScanError},
};

/// What the head of a file says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) format: FormatDescription,
    /// `None` if there is no PREVIOUS_GTIDS event (servers before 5.6).
    pub(crate) previous: Option<GtidSet>,
    /// Flags of the format description's header.
    pub(crate) flags: u16,
    /// Where the first event behind the head begins.
    pub(crate) end: u64,
}

/// Why the head of a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("the file does not begin with the four bytes of a MySQL binlog (found {found:02x?})")]
    Magic { found: Vec<u8> },
    #[error("the file is encrypted (binlog_encryption=ON); only plain binlogs can be read")]
    Encrypted,
    #[error("{error}")]
    Damaged { pos: u64, error: FrameError },
    #[error("{detail}")]
    Event { pos: u64, detail: String },
}

impl HeadError {
    /// Where it is wrong, if that is known better than "at the start".
    pub(crate) fn pos(&self) -> Option<u64> {
        match self {
            Self::Scan(e) => e.pos(),
            Self::Magic { .. } | Self::Encrypted => Some(0),
            Self::Damaged { pos, .. } | Self::Event { pos, .. } => Some(*pos),
        }
    }
}

/// Reads the head of a file of `len` bytes: magic, format description, PREVIOUS_GTIDS.
pub(crate) fn read_head(file: &dyn DiskFile, len: u64) -> Result<Head, HeadError> {
    const ENCRYPTED: [u8; 4] = [0xfd, b'b', b'i', b'n'];
    let mut magic = [0; MAGIC.len()];
    let n = file.read_at(0, &mut magic).map_err(ScanError::from)?;
    match magic {
        MAGIC => {}
        ENCRYPTED => return Err(HeadError::Encrypted),
        _ => {
            return Err(HeadError::Magic {
                found: magic.iter().take(n).copied().collect(),
            });
        }
    }
    let mut scan = FileScan::new(file, MAGIC.len() as u64, len, ChecksumAlg::None);
    scan.read_little();
    let pos = scan.pos();
    let event = |pos, detail: String| HeadError::Event { pos, detail };
    let missing = || {
        event(
            pos,
            "the file ends before its format description".to_owned(),
        )
    };
    let first = scan.next()?.ok_or_else(missing)?;
    if let Some(error) = first.damage {
        return Err(HeadError::Damaged { pos, error });
    }
    if first.header.event_type != EventType::FORMAT_DESCRIPTION {
        let found = first.header.event_type;
        return Err(event(
            pos,
            format!("the first event is {found}, not a format description"),
        ));
    }
    let flags = first.header.flags;
    let format = FormatDescription::parse(first.body).map_err(|e| event(pos, e.to_string()))?;
    let pos = scan.pos();
    let mut head = Head {
        format,
        flags,
        previous: None,
        end: pos,
    };
    if let Some(second) = scan.next()?
        && second.header.event_type == EventType::PREVIOUS_GTIDS
    {
        if let Some(error) = second.damage {
            return Err(HeadError::Damaged { pos, error });
        }
        let previous = PreviousGtids::parse(second.body).map_err(|e| event(pos, e.to_string()))?;
        head.previous = Some(previous.0);
        head.end = scan.pos();
    }
    Ok(head)
}

/// The body of [`GlobalLog::from_dir`].
pub(crate) fn open(disk: Arc<dyn Disk>, index_name: &str) -> Result<GlobalLog, OpenError> {
    let index = |detail: String| OpenError::Index {
        name: index_name.to_owned(),
        detail,
    };
    let text = read_text(&*disk, index_name).map_err(|e| index(e.to_string()))?;
    let names = index_file::parse(&text).map_err(|e| index(e.to_string()))?;
    let Some(last) = names.last().cloned() else {
        return Err(index("it names no file".to_owned()));
    };
    let mut files = Vec::with_capacity(names.len());
    let mut tail = None;
    for file in names {
        let handle = disk
            .open(file.as_str(), false)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => OpenError::MissingFile { file: file.clone() },
                _ => OpenError::io(format!("opening {file}"))(e),
            })?;
        let size = handle
            .len()
            .map_err(OpenError::io(format!("opening {file}")))?;
        let head = read_head(&*handle, size).map_err(|e| OpenError::Corrupt {
            file: file.clone(),
            pos: e.pos().unwrap_or(0),
            detail: e.to_string(),
        })?;
        let previous_gtids = Arc::new(head.previous.clone().unwrap_or_default());
        if file == last {
            tail = Some(read_tail(&file, &*handle, size, &head)?);
        }
        files.push(FileEntry {
            file,
            sealed: Some(size),
            previous_gtids,
            readers: Arc::default(),
        });
    }
    let Tail {
        end: offset,
        executed,
        timestamp,
        last_sid,
    } = tail.ok_or_else(|| index("it names no file".to_owned()))?;
    let server_uuid = auto_cnf(&*disk)
        .or(last_sid)
        .or_else(|| only_sid(&executed));
    let server_uuid = server_uuid.unwrap_or(Sid([0; 16]));
    let last_gno = executed
        .last_gno(server_uuid, Tag::EMPTY)
        .map_or(0, Gno::get);
    let durable = DurableEnd {
        file: last,
        offset,
        last_gno,
        timestamp,
    };
    Ok(GlobalLog::new(Parts {
        disk,
        kv: None,
        server_uuid,
        files,
        executed_besides: executed,
        durable,
    }))
}

/// What the last file says.
struct Tail {
    /// The end of its last whole event.
    end: u64,
    /// Its PREVIOUS_GTIDS and its GTIDs.
    executed: GtidSet,
    timestamp: u32,
    /// UUID of its last GTID.
    last_sid: Option<Sid>,
}

fn read_tail(
    file: &BinlogFile,
    handle: &dyn DiskFile,
    size: u64,
    head: &Head,
) -> Result<Tail, OpenError> {
    let corrupt = |pos: u64, detail: String| OpenError::Corrupt {
        file: file.clone(),
        pos,
        detail,
    };
    let executed = head.previous.clone().unwrap_or_default();
    let mut tail = Tail {
        end: head.end,
        executed,
        timestamp: 0,
        last_sid: None,
    };
    let mut scan = FileScan::new(handle, head.end, size, head.format.checksum);
    loop {
        let pos = scan.pos();
        let event = match scan.next() {
            Ok(None) | Err(ScanError::CutOff { .. }) => return Ok(tail),
            Ok(Some(event)) => event,
            Err(e) => return Err(corrupt(e.pos().unwrap_or(pos), e.to_string())),
        };
        if let Some(damage) = event.damage {
            return Err(corrupt(pos, damage.to_string()));
        }
        let event_type = event.header.event_type;
        if event_type.is_gtid() {
            let parsed = GtidEvent::parse(event_type, event.body)
                .map_err(|e| corrupt(pos, e.to_string()))?;
            if let Some(gtid) = parsed.gtid {
                tail.executed.add(gtid);
                tail.last_sid = Some(gtid.sid);
            }
        }
        tail.timestamp = event.header.timestamp;
        tail.end = event.end();
    }
}

/// The UUID a MySQL server has written beside its data.
fn auto_cnf(disk: &dyn Disk) -> Option<Sid> {
    let text = read_text(disk, "auto.cnf").ok()?;
    let uuid = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server-uuid="))?;
    uuid.trim().parse().ok()
}

/// The UUID of a set that has only one.
fn only_sid(set: &GtidSet) -> Option<Sid> {
    let mut sids = set.iter().map(|(sid, ..)| sid);
    let first = sids.next()?;
    sids.all(|sid| sid == first).then_some(first)
}
