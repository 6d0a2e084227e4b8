//! Files as wholes: making one, replacing the index, reading a small text. In: a disk and names. Out: files that are there,
//! or were there all along, whenever the machine stops.

use std::{io, sync::Arc};

use tributary_binlog::{BinlogFile, GtidSet};
use tributary_flow::{Mutant, mutant};

use crate::{
    StoreOptions, WriteError,
    core::{
        encode::Pending,
        head::{self, Stamp},
        index_file,
    },
    disk::Disk,
    full::RESERVE_BYTES,
    log::FileEntry,
    writer::ActiveFile,
};

/// Creates `file` and buffers its head.
pub(crate) fn create_file(
    disk: &Arc<dyn Disk>,
    file: &BinlogFile,
    stamp: Stamp,
    options: &StoreOptions,
    previous: GtidSet,
    last_gno: u64,
) -> Result<(ActiveFile, FileEntry), WriteError> {
    let handle = disk
        .create(file.as_str())
        .map_err(WriteError::io(format!("creating {file}")))?;
    let mut pending = Pending::default();
    head::put_head(
        &mut pending.bytes,
        stamp,
        &options.server_version,
        &previous,
    )
    .map_err(|source| WriteError::Event {
        file: file.clone(),
        source,
    })?;
    let active = ActiveFile {
        file: file.clone(),
        disk: disk.clone(),
        handle,
        reserve: RESERVE_BYTES,
        first_gno: last_gno + 1,
        pending,
        synced: 0,
        slice: 0,
        sync_failed: false,
    };
    let previous_gtids = Arc::new(previous);
    let readers = Arc::default();
    Ok((
        active,
        FileEntry {
            file: file.clone(),
            sealed: None,
            previous_gtids,
            readers,
        },
    ))
}

/// Replaces the index file in one step and makes it and all names durable.
pub(crate) fn write_index<'a>(
    disk: &dyn Disk,
    name: &str,
    files: impl IntoIterator<Item = &'a BinlogFile>,
) -> Result<(), WriteError> {
    let text = index_file::text(files);
    replace(disk, name, &index_temporary(name), text.as_bytes())
}

/// Replaces a small file in one step, by way of `temporary`, and makes it and all names durable.
pub(crate) fn replace(
    disk: &dyn Disk,
    name: &str,
    temporary: &str,
    bytes: &[u8],
) -> Result<(), WriteError> {
    let write = || {
        if disk.exists(temporary)? {
            disk.remove(temporary)?;
        }
        let handle = disk.create(temporary)?;
        handle.write_at(0, bytes)?;
        Ok(handle)
    };
    let writing = format!("writing {name}");
    let handle = write().map_err(WriteError::io(&*writing))?;
    handle.sync_data().map_err(WriteError::sync(&*writing))?;
    disk.rename(temporary, name)
        .map_err(WriteError::io(&*writing))?;
    if mutant(Mutant::ForgetName) {
        return Ok(());
    }
    disk.sync_dir().map_err(WriteError::sync(writing))
}

/// What the index file is called while it is being written.
pub(crate) fn index_temporary(name: &str) -> String {
    format!("{name}.new")
}

/// The whole of a small text file.
pub(crate) fn read_text(disk: &dyn Disk, name: &str) -> io::Result<String> {
    /// 600 000 files' worth of index.
    const TEXT_BYTES_MAX: u64 = 16 << 20;
    let file = disk.open(name, false)?;
    let len = file.len()?;
    if len > TEXT_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "too large for an index file",
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let n = file.read_at(0, &mut bytes)?;
    bytes.truncate(n);
    String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
