//! Whether every value of one column fits into another.
//!
//! In: two columns. Out: yes or no; used to tell widening from narrowing.

use crate::charset::Collation;
use crate::table::{Column, DataType};

/// Whether every value of `narrow` but NULL can be held by `wide` as it is.
#[must_use]
pub fn holds(wide: &Column, narrow: &Column) -> bool {
    use DataType as T;
    match (&wide.data_type, &narrow.data_type) {
        (
            T::Int {
                bytes: w,
                unsigned: wu,
                ..
            },
            T::Int {
                bytes: n,
                unsigned: nu,
                ..
            },
        ) => {
            if wu == nu {
                w >= n
            } else {
                *nu && w > n
            }
        }
        (
            T::Decimal {
                precision: wp,
                scale: ws,
                unsigned: wu,
                ..
            },
            T::Decimal {
                precision: np,
                scale: ns,
                unsigned: nu,
                ..
            },
        ) => (!wu || *nu) && ws >= ns && wp.saturating_sub(*ws) >= np.saturating_sub(*ns),
        (
            T::Real {
                double: wd,
                unsigned: wu,
                digits: w,
                ..
            },
            T::Real {
                double: nd,
                unsigned: nu,
                digits: n,
                ..
            },
        ) => (!wu || *nu) && (*wd || !nd) && (w.is_none() || w == n),
        (T::Bit(w), T::Bit(n)) => w >= n,
        (T::Time(w), T::Time(n))
        | (T::DateTime(w), T::DateTime(n))
        | (T::Timestamp(w), T::Timestamp(n)) => w >= n,
        (T::DateTime(_), T::Date) => true,
        (T::Enum(w), T::Enum(n)) | (T::Set(w), T::Set(n)) => n.iter().all(|v| w.contains(v)),
        (T::Geometry(w), T::Geometry(n)) => *w == crate::table::GeometryKind::Geometry || w == n,
        (T::Vector(w), T::Vector(n)) => w >= n,
        (w, n) => match (
            text_limit(w, wide.collation),
            text_limit(n, narrow.collation),
        ) {
            (Some(w), Some(n)) => {
                w.0 == n.0
                    && w.1 >= n.1
                    && w.2 >= n.2
                    && charset_holds(wide.collation, narrow.collation)
            }
            _ => wide.data_type == narrow.data_type,
        },
    }
}

/// Whether it is bytes rather than characters, and how many of each it holds.
fn text_limit(data_type: &DataType, collation: Collation) -> Option<(bool, u64, u64)> {
    let max = collation.charset().map_or(1, |c| u64::from(c.max_len()));
    Some(match data_type {
        DataType::Char(n) | DataType::VarChar(n) => (false, u64::from(*n), u64::from(*n)),
        DataType::Binary(n) | DataType::VarBinary(n) => (true, u64::from(*n), u64::from(*n)),
        DataType::Text(size) => {
            let bytes = (1_u64 << (8 * u32::from(size.length_bytes()))) - 1;
            (false, bytes / max, bytes / max)
        }
        DataType::Blob(size) => {
            let bytes = (1_u64 << (8 * u32::from(size.length_bytes()))) - 1;
            (true, bytes, bytes)
        }
        _ => return None,
    })
}

fn charset_holds(wide: Collation, narrow: Collation) -> bool {
    let (Some(wide), Some(narrow)) = (wide.charset(), narrow.charset()) else {
        return wide == narrow;
    };
    wide == narrow
        || matches!(wide.name(), "utf8mb4" | "utf16" | "utf16le" | "utf32")
        || (wide.name() == "utf8mb3" && narrow.max_len() == 1)
        || (narrow.name() == "ascii" && wide.name() != "swe7")
}
