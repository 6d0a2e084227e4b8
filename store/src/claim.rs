//! Taking a directory. In: a disk. Out: the directory is ours, or new, and locked, and nothing was written to it but the lock
//! file; or why it must be left alone. Then the index database may be opened or made.

use std::{io, sync::Arc};

use tributary_binlog::BinlogFile;

use crate::{
    OpenError, Opened, StoreOptions,
    core::owner::{self, Lying},
    disk::{Disk, DiskLock},
    files::{read_text, replace},
    kv::{Kv, meta::Meta},
    options::{FORMAT_FILE, LOCK_FILE},
    recover::Opening,
};

/// A directory that is ours, or new, and locked.
pub struct Claim {
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    lock: DiskLock,
    /// What the format file says.
    format: Option<Meta>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("disk", &self.disk.describe())
            .finish_non_exhaustive()
    }
}

impl Claim {
    /// Opens the directory with its index database; see [`crate::open`].
    pub fn open(self, kv: Arc<dyn Kv>) -> Result<Opened, OpenError> {
        let Self {
            disk,
            options,
            lock,
            format,
        } = self;
        let opening = Opening {
            disk: disk.clone(),
            kv,
            options,
            lock,
        };
        let (meta, opened) = match opening.kv.get(&Meta::key())? {
            Some(value) => {
                let meta = Meta::decode(&value)?;
                owner::check_format(&disk.describe(), meta.format)?;
                check_same(&meta, format.as_ref())?;
                (meta.clone(), opening.existing(&meta)?)
            }
            // Whatever database that is, it is not this directory's.
            None if format.is_some() => {
                return Err(OpenError::NoDatabase {
                    dir: disk.describe(),
                });
            }
            None => opening.create()?,
        };
        if format.is_none() {
            let temporary = format!("{FORMAT_FILE}.new");
            replace(&*disk, FORMAT_FILE, &temporary, meta.text().as_bytes())?;
        }
        Ok(opened)
    }
}

/// Takes a directory before its index database is opened or made, so that nothing is written to one that is another
/// server's, a newer version's, or in use. `has_database` says whether there is an index database.
pub fn claim(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    has_database: bool,
) -> Result<Claim, OpenError> {
    if BinlogFile::parse(BinlogFile::new(&options.base_name, 1).as_str()).is_err() {
        let text = format!(
            "'{}' cannot be the base name of binlog files",
            options.base_name
        );
        return Err(OpenError::Options(text));
    }
    let dir = disk.describe();
    let names = disk.list();
    let names = names.map_err(OpenError::io(format!("listing {dir}")))?;
    let format = read_format(&*disk)?;
    let format = owner::judge(&Lying {
        dir: &dir,
        names: &names,
        format: format.as_deref(),
        base_name: &options.base_name,
        has_database,
    })?;
    let lock = lock(&*disk)?;
    Ok(Claim {
        disk,
        options,
        lock,
        format,
    })
}

/// The text of the format file, if there is one.
pub(crate) fn read_format(disk: &dyn Disk) -> Result<Option<String>, OpenError> {
    match read_text(disk, FORMAT_FILE) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(OpenError::FormatFile {
            dir: disk.describe(),
            detail: e.to_string(),
        }),
        Err(e) => Err(OpenError::io(format!("reading {FORMAT_FILE}"))(e)),
    }
}

pub(crate) fn lock(disk: &dyn Disk) -> Result<DiskLock, OpenError> {
    disk.lock(LOCK_FILE).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked {
            dir: disk.describe(),
            lock: LOCK_FILE.to_owned(),
        },
        _ => OpenError::io(format!("locking {LOCK_FILE} in {}", disk.describe()))(e),
    })
}

/// The format file and the index database are of one directory.
fn check_same(meta: &Meta, format: Option<&Meta>) -> Result<(), OpenError> {
    match format {
        Some(said) if said != meta => Err(OpenError::Inconsistent {
            detail: format!(
                "{FORMAT_FILE} is of another directory: it says UUID {}, the database {}",
                said.server_uuid, meta.server_uuid
            ),
        }),
        _ => Ok(()),
    }
}
