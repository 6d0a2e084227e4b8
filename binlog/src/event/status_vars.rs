//! The status variables of a query event: the settings of the session the statement depends on.
//!
//! Layout of `Query_event` (`libs/mysql/binlog/event/statement_events.{h,cpp}`, `Query_event_status_vars`): a code,
//! then a value whose length only the code tells. So what stands behind an unknown code cannot be read, and servers
//! write them in ascending order. PolarDB-X adds 200 and 201.

use crate::cursor::{Cursor, put_str8};

/// One status variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusVar<'a> {
    /// 0: option bits of the session (autocommit, foreign keys, unique checks …).
    Flags2(u32),
    /// 1: `sql_mode`.
    SqlMode(u64),
    /// 2: catalog, NUL-terminated (MySQL 5.0.0 to 5.0.3).
    Catalog(&'a [u8]),
    /// 3: auto-increment settings.
    AutoIncrement {
        /// `auto_increment_increment`.
        increment: u16,
        /// `auto_increment_offset`.
        offset: u16,
    },
    /// 4: collation numbers.
    Charset {
        /// Of `character_set_client`.
        client: u16,
        /// `collation_connection`.
        connection: u16,
        /// `collation_server`.
        server: u16,
    },
    /// 5: `time_zone`.
    TimeZone(&'a [u8]),
    /// 6: catalog; always `std`.
    CatalogNz(&'a [u8]),
    /// 7: `lc_time_names`, as a number.
    LcTimeNames(u16),
    /// 8: `collation_database`.
    CharsetDatabase(u16),
    /// 9: tables a multi-table update changes, as bits.
    TableMapForUpdate(u64),
    /// 10: length of the event on its first server; relay logs only.
    MasterDataWritten(u32),
    /// 11: who runs a statement with a definer.
    Invoker {
        /// User name.
        user: &'a [u8],
        /// Host name.
        host: &'a [u8],
    },
    /// 12: schemas the statement touches.
    UpdatedDbNames(UpdatedDbNames<'a>),
    /// 13: microseconds of the event's timestamp.
    Microseconds(u32),
    /// 16: `explicit_defaults_for_timestamp`.
    ExplicitDefaultsForTimestamp(u8),
    /// 17: the XID of an atomic DDL.
    DdlLoggedWithXid(u64),
    /// 18: `default_collation_for_utf8mb4`.
    DefaultCollationForUtf8mb4(u16),
    /// 19: `sql_require_primary_key`.
    SqlRequirePrimaryKey(u8),
    /// 20: `default_table_encryption`.
    DefaultTableEncryption(u8),
    /// 21: whether cascades fire triggers (9.x); PolarDB-X uses this code for a flag of its own, also one byte.
    EnableCascadeTriggers(u8),
    /// 22: PolarDB-X `OPT_INDEX_FORMAT_GPP_ENABLED`.
    PolarIndexFormatGpp(u8),
    /// 200: PolarDB-X commit TSO, on `XA COMMIT`.
    PolarCommitGcn(u64),
    /// 201: PolarDB-X prepare TSO, on `XA END`.
    PolarPrepareGcn(u64),
    /// An unknown code, or a value that is cut off; nothing behind it can be read.
    Unknown(u8),
}

/// The schemas a statement touches, for parallel appliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdatedDbNames<'a> {
    /// How many; 254 if they were too many (more than 16) and none is listed.
    pub count: u8,
    /// The names, each with a NUL behind it.
    pub names: &'a [u8],
}

/// Above this count no names follow (`MAX_DBS_IN_EVENT_MTS`).
const MAX_DBS: u8 = 16;

impl<'a> UpdatedDbNames<'a> {
    fn read(c: &mut Cursor<'a>) -> Option<Self> {
        let count = c.u8()?;
        let mut probe = *c;
        let rest = probe.take_rest();
        let mut len = 0;
        if count <= MAX_DBS {
            for _ in 0..count {
                let name = rest.get(len..)?;
                len += name.iter().position(|b| *b == 0)? + 1;
            }
        }
        Some(Self {
            count,
            names: c.take(len)?,
        })
    }

    /// The names without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.names
            .split_inclusive(|b| *b == 0)
            .map(|s| s.strip_suffix(&[0]).unwrap_or(s))
    }
}

impl<'a> StatusVar<'a> {
    fn read(code: u8, c: &mut Cursor<'a>) -> Option<Self> {
        Some(match code {
            0 => Self::Flags2(c.u32()?),
            1 => Self::SqlMode(c.u64()?),
            2 => {
                let catalog = c.str8()?;
                c.u8()?;
                Self::Catalog(catalog)
            }
            3 => Self::AutoIncrement {
                increment: c.u16()?,
                offset: c.u16()?,
            },
            4 => Self::Charset {
                client: c.u16()?,
                connection: c.u16()?,
                server: c.u16()?,
            },
            5 => Self::TimeZone(c.str8()?),
            6 => Self::CatalogNz(c.str8()?),
            7 => Self::LcTimeNames(c.u16()?),
            8 => Self::CharsetDatabase(c.u16()?),
            9 => Self::TableMapForUpdate(c.u64()?),
            10 => Self::MasterDataWritten(c.u32()?),
            11 => Self::Invoker {
                user: c.str8()?,
                host: c.str8()?,
            },
            12 => Self::UpdatedDbNames(UpdatedDbNames::read(c)?),
            13 => Self::Microseconds(c.u24()?),
            16 => Self::ExplicitDefaultsForTimestamp(c.u8()?),
            17 => Self::DdlLoggedWithXid(c.u64()?),
            18 => Self::DefaultCollationForUtf8mb4(c.u16()?),
            19 => Self::SqlRequirePrimaryKey(c.u8()?),
            20 => Self::DefaultTableEncryption(c.u8()?),
            21 => Self::EnableCascadeTriggers(c.u8()?),
            22 => Self::PolarIndexFormatGpp(c.u8()?),
            200 => Self::PolarCommitGcn(c.u64()?),
            201 => Self::PolarPrepareGcn(c.u64()?),
            code => Self::Unknown(code),
        })
    }

    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Flags2(_) => 0,
            Self::SqlMode(_) => 1,
            Self::Catalog(_) => 2,
            Self::AutoIncrement { .. } => 3,
            Self::Charset { .. } => 4,
            Self::TimeZone(_) => 5,
            Self::CatalogNz(_) => 6,
            Self::LcTimeNames(_) => 7,
            Self::CharsetDatabase(_) => 8,
            Self::TableMapForUpdate(_) => 9,
            Self::MasterDataWritten(_) => 10,
            Self::Invoker { .. } => 11,
            Self::UpdatedDbNames(_) => 12,
            Self::Microseconds(_) => 13,
            Self::ExplicitDefaultsForTimestamp(_) => 16,
            Self::DdlLoggedWithXid(_) => 17,
            Self::DefaultCollationForUtf8mb4(_) => 18,
            Self::SqlRequirePrimaryKey(_) => 19,
            Self::DefaultTableEncryption(_) => 20,
            Self::EnableCascadeTriggers(_) => 21,
            Self::PolarIndexFormatGpp(_) => 22,
            Self::PolarCommitGcn(_) => 200,
            Self::PolarPrepareGcn(_) => 201,
            Self::Unknown(code) => *code,
        }
    }

    /// Appends code and value; nothing for [`Self::Unknown`].
    pub fn put(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::Unknown(_)) {
            return;
        }
        out.push(self.code());
        match *self {
            Self::Flags2(v) | Self::MasterDataWritten(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::SqlMode(v)
            | Self::TableMapForUpdate(v)
            | Self::DdlLoggedWithXid(v)
            | Self::PolarCommitGcn(v)
            | Self::PolarPrepareGcn(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::Catalog(v) => {
                put_str8(out, v);
                out.push(0);
            }
            Self::AutoIncrement { increment, offset } => put_u16s(out, &[increment, offset]),
            Self::Charset {
                client,
                connection,
                server,
            } => put_u16s(out, &[client, connection, server]),
            Self::TimeZone(v) | Self::CatalogNz(v) => put_str8(out, v),
            Self::LcTimeNames(v)
            | Self::CharsetDatabase(v)
            | Self::DefaultCollationForUtf8mb4(v) => {
                put_u16s(out, &[v]);
            }
            Self::Invoker { user, host } => {
                put_str8(out, user);
                put_str8(out, host);
            }
            Self::UpdatedDbNames(v) => {
                out.push(v.count);
                out.extend_from_slice(v.names);
            }
            Self::Microseconds(v) => out.extend(v.to_le_bytes().into_iter().take(3)),
            Self::ExplicitDefaultsForTimestamp(v)
            | Self::SqlRequirePrimaryKey(v)
            | Self::DefaultTableEncryption(v)
            | Self::EnableCascadeTriggers(v)
            | Self::PolarIndexFormatGpp(v) => out.push(v),
            Self::Unknown(_) => {}
        }
    }
}

fn put_u16s(out: &mut Vec<u8>, values: &[u16]) {
    for v in values {
        out.extend_from_slice(&v.to_le_bytes());
    }
}

/// Walks the status variables of a query event. Ends behind [`StatusVar::Unknown`].
#[derive(Clone, Debug)]
pub struct StatusVars<'a> {
    cursor: Cursor<'a>,
}

impl<'a> StatusVars<'a> {
    /// Over [`crate::QueryEvent::status_vars`].
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
        }
    }
}

impl<'a> Iterator for StatusVars<'a> {
    type Item = StatusVar<'a>;

    fn next(&mut self) -> Option<StatusVar<'a>> {
        let code = self.cursor.u8()?;
        let var = StatusVar::read(code, &mut self.cursor).unwrap_or(StatusVar::Unknown(code));
        if matches!(var, StatusVar::Unknown(_)) {
            self.cursor = Cursor::new(&[]);
        }
        Some(var)
    }
}
