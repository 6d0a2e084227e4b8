//! Where in a row its key is. In: a Table_map. Out: [`Layout`], which turns rows into numbers that stand for their keys:
//! keys that a server takes for equal have one number (other keys may share it, which costs a needless dependency).
//!
//! Bytes that differ may be one key: in most collations `'A'` is `'a'` and `'e'` is `'é'`. Of characters, only ASCII
//! letters and digits count here, in one case; a key with other than ASCII characters has no number, nor one in a
//! collation not listed here. Of types whose equal values may differ in their bytes (`FLOAT`, `ENUM` and `SET` whose
//! lists may differ between nodes), nothing counts.

use smallvec::SmallVec;
use tributary_binlog::{
    ColumnMeta, ColumnType, ColumnValue, EventType, OptionalMetadata, RowsHeader, TableMap, Width,
};

/// Collations in which ASCII letters are equal to nothing ASCII but themselves in the other case: those of `latin1` (8,
/// 47 to 49), `ascii` (11, 65), `utf8mb3` (33, 83, 192) and `utf8mb4` (45, 46, 224, 246, 255, 278, 305, 309) that are of
/// no single language.
const PLAIN_COLLATIONS: &[u32] = &[
    8, 11, 33, 45, 46, 47, 48, 49, 65, 83, 192, 224, 246, 255, 278, 305, 309,
];
/// The collation of `BINARY`, `VARBINARY` and `BLOB`.
const BINARY_COLLATION: u32 = 63;

/// What counts of a key column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// All bytes.
    Bytes,
    /// All but the zeros at the end, which a `BINARY` is padded with.
    Binary,
    /// Letters and digits.
    Text,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct KeyColumn {
    column: usize,
    /// Characters of the prefix, 0 for the whole value.
    prefix: usize,
    counts: Counts,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Layout {
    widths: Vec<Option<Width>>,
    json_columns: usize,
    /// By place in the row.
    key: SmallVec<[KeyColumn; 2]>,
    /// Numbers begin with this one, which stands for the table.
    seed: u64,
    /// Tells layouts apart whose numbers cannot be compared.
    shape: u64,
}

/// Values of the key columns of a row.
type Values<'a> = SmallVec<[ColumnValue<'a>; 2]>;

/// What a row does to keys. The number is `None` when the key has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Free(Option<u64>),
    Take(Option<u64>),
}

impl Layout {
    /// The layout of the table that numbers stand for `name`d.
    pub(super) fn new(map: &TableMap<'_>, name: &[u8]) -> Self {
        let columns: Vec<_> = map.columns().map_while(Result::ok).collect();
        let meta = map.optional_metadata().unwrap_or_default();
        let collations = collations(&columns, &meta);
        let mut key: SmallVec<[KeyColumn; 2]> = SmallVec::new();
        let mut shape = hash(0, name);
        for (column, prefix) in map.primary_key().into_iter().flatten() {
            let (column, prefix) = (column as usize, prefix as usize);
            let counts = columns.get(column).map_or(Counts::Nothing, |meta| {
                counts(meta.real_type(), collations.get(column).copied().flatten())
            });
            for part in [column, prefix, counts as usize] {
                shape = mix(shape, part as u64);
            }
            if let Some(meta) = columns.get(column) {
                shape = mix(
                    shape,
                    u64::from(meta.real_type().0) << 32 | u64::from(meta.meta),
                );
            }
            key.push(KeyColumn {
                column,
                prefix,
                counts,
            });
        }
        key.sort_unstable_by_key(|k| k.column);
        let whole = columns.len() == map.column_types.len();
        if !whole || key.iter().all(|k| k.counts == Counts::Nothing) {
            key.clear();
        }
        let json = |ty: &&u8| ColumnType(**ty) == ColumnType::JSON;
        Self {
            widths: columns.iter().map(ColumnMeta::width).collect(),
            json_columns: map.column_types.iter().filter(json).count(),
            key,
            seed: hash(1, name),
            shape,
        }
    }

    /// Whether any of its keys has a number.
    pub(super) fn has_keys(&self) -> bool {
        !self.key.is_empty()
    }

    /// Numbers of layouts of one table can be compared if this is the same.
    pub(super) fn shape(&self) -> u64 {
        self.shape
    }

    /// Whether an event can change keys, by the columns of its after images.
    pub(super) fn may_change(&self, header: &RowsHeader<'_>) -> bool {
        let after = header.columns_after.unwrap_or_default();
        self.key.iter().any(|key| bit(after, key.column))
    }

    /// Tells `each` what the rows do to keys, an update that keeps its key does nothing. `false` if the rows are not
    /// understood to their end.
    pub(super) fn rows(&self, header: &RowsHeader<'_>, each: &mut dyn FnMut(Act)) -> bool {
        self.walk(header, each).is_some()
    }

    fn walk(&self, header: &RowsHeader<'_>, each: &mut dyn FnMut(Act)) -> Option<()> {
        if header.n_columns != self.widths.len() as u64 {
            return None;
        }
        let before = Image::new(header.columns_before, self.widths.len());
        let mut rest = header.rows;
        let (mut old, mut new) = (Values::new(), Values::new());
        while !rest.is_empty() {
            let start = rest.len();
            rest = self.image(&before, rest, &mut old)?;
            if header.event_type.is_update_rows() {
                let after = Image::new(header.columns_after?, self.widths.len());
                if header.event_type == EventType::PARTIAL_UPDATE_ROWS {
                    rest = self.skip_options(rest)?;
                }
                rest = self.image(&after, rest, &mut new)?;
                self.changed(&old, &mut new, each);
            } else if is_insert(header.event_type) {
                each(Act::Take(self.number(&old)));
            } else {
                each(Act::Free(self.number(&old)));
            }
            if rest.len() == start {
                return None;
            }
        }
        Some(())
    }

    /// Of a partial update: which JSON columns hold differences.
    fn skip_options<'a>(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let (options, rest) = rest.split_first().filter(|(options, _)| **options < 251)?;
        let bits = if options & 1 != 0 {
            self.json_columns.div_ceil(8)
        } else {
            0
        };
        rest.get(bits..)
    }

    fn changed<'a>(&self, old: &Values<'a>, new: &mut Values<'a>, each: &mut dyn FnMut(Act)) {
        // What an after image lacks has not changed.
        for (old, new) in old.iter().zip(new.iter_mut()) {
            if *new == ColumnValue::Absent {
                *new = *old;
            }
        }
        if old != new {
            each(Act::Free(self.number(old)));
            each(Act::Take(self.number(new)));
        }
    }

    /// Reads an image, and answers what is behind it.
    #[inline]
    fn image<'a>(
        &self,
        image: &Image<'_>,
        rest: &'a [u8],
        out: &mut Values<'a>,
    ) -> Option<&'a [u8]> {
        let (nulls, mut rest) = rest.split_at_checked(image.null_bytes)?;
        out.clear();
        let mut key = self.key.iter().map(|k| k.column).peekable();
        let mut at = 0;
        for (column, width) in self.widths.iter().enumerate() {
            let value;
            if !bit(image.present, column) {
                value = ColumnValue::Absent;
            } else if bit(nulls, at) {
                at += 1;
                value = ColumnValue::Null;
            } else {
                at += 1;
                let (bytes, behind) = take((*width)?, rest)?;
                value = ColumnValue::Bytes(bytes);
                rest = behind;
            }
            if key.next_if_eq(&column).is_some() {
                out.push(value);
            }
        }
        Some(rest)
    }

    fn number(&self, values: &Values<'_>) -> Option<u64> {
        let mut number = self.seed;
        for (key, value) in self.key.iter().zip(values) {
            let ColumnValue::Bytes(bytes) = value else {
                return None;
            };
            // Of a prefix of n characters, n bytes: as many, or less than a server compares.
            let bytes = match key.prefix {
                0 => bytes,
                prefix => bytes.get(..prefix).unwrap_or(bytes),
            };
            number = match key.counts {
                Counts::Bytes => hash(number, bytes),
                Counts::Binary => {
                    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                    hash(number, bytes.get(..end).unwrap_or(bytes))
                }
                Counts::Text => hash_text(number, bytes)?,
                Counts::Nothing => number,
            };
        }
        Some(number)
    }
}

/// Whether an event holds new rows.
#[inline]
pub(super) fn is_insert(event_type: EventType) -> bool {
    matches!(event_type, EventType::WRITE_ROWS | EventType::WRITE_ROWS_V1)
}

/// The columns an image has.
struct Image<'a> {
    present: &'a [u8],
    null_bytes: usize,
}

impl<'a> Image<'a> {
    fn new(present: &'a [u8], columns: usize) -> Self {
        let count = (0..columns).filter(|column| bit(present, *column)).count();
        Self {
            present,
            null_bytes: count.div_ceil(8),
        }
    }
}

#[inline]
fn bit(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8)
        .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

/// A value that is not NULL, and what is behind it.
#[inline]
fn take(width: Width, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match width {
        Width::Fixed(len) => bytes.split_at_checked(len as usize),
        Width::Counted(1) => {
            let (len, rest) = bytes.split_first()?;
            rest.split_at_checked(usize::from(*len))
        }
        Width::Counted(width) => {
            let (len, rest) = bytes.split_at_checked(usize::from(width))?;
            let len = len
                .iter()
                .rev()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            rest.split_at_checked(len)
        }
    }
}

fn counts(ty: ColumnType, collation: Option<u32>) -> Counts {
    use ColumnType as T;
    match ty {
        T::TINY | T::SHORT | T::INT24 | T::LONG | T::LONGLONG | T::NEWDECIMAL | T::BIT => {
            Counts::Bytes
        }
        T::YEAR | T::DATE | T::NEWDATE | T::TIME2 | T::DATETIME2 | T::TIMESTAMP2 => Counts::Bytes,
        T::STRING | T::VAR_STRING | T::VARCHAR | T::BLOB => match collation {
            Some(BINARY_COLLATION) => Counts::Binary,
            Some(known) if PLAIN_COLLATIONS.contains(&known) => Counts::Text,
            _ => Counts::Nothing,
        },
        _ => Counts::Nothing,
    }
}

/// The collation of each column, of those that have one and can be told.
fn collations(columns: &[ColumnMeta], meta: &OptionalMetadata<'_>) -> Vec<Option<u32>> {
    use ColumnType as T;
    let mut out = vec![None; columns.len()];
    // Whether these stand in the lists is not the same in all versions.
    let vague = |meta: &ColumnMeta| matches!(meta.column_type, T::GEOMETRY | T::TYPED_ARRAY);
    if columns.iter().any(vague) {
        return out;
    }
    let is_text = |meta: &ColumnMeta| {
        matches!(
            meta.real_type(),
            T::STRING | T::VAR_STRING | T::VARCHAR | T::BLOB
        )
    };
    let texts = (out.iter_mut().zip(columns)).filter(|(_, meta)| is_text(meta));
    for (at, (slot, _)) in texts.enumerate() {
        let of_all = meta
            .column_charsets
            .as_ref()
            .and_then(|all| all.get(at))
            .copied();
        *slot = of_all.or_else(|| {
            let charset = meta.default_charset.as_ref()?;
            let other = charset
                .others
                .iter()
                .find(|(place, _)| *place as usize == at);
            Some(other.map_or(charset.default, |(_, collation)| *collation))
        });
    }
    out
}

/// The same on every machine and in every run: the output depends on it.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut out = mix(seed, bytes.len() as u64);
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        out = mix(out, u64::from_le_bytes(*word));
        rest = behind;
    }
    let word = (rest.iter().rev()).fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(out, word)
}

/// Of ASCII letters, without their case, and digits. `None` if there is any character that is not ASCII.
fn hash_text(seed: u64, bytes: &[u8]) -> Option<u64> {
    if !bytes.is_ascii() {
        return None;
    }
    let (mut out, mut word, mut len) = (seed, 0, 0_u64);
    for byte in bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        word = word << 8 | u64::from(byte.to_ascii_lowercase());
        len += 1;
        if len % 8 == 0 {
            out = mix(out, word);
            word = 0;
        }
    }
    Some(mix(mix(out, word), len))
}

/// Multiplies and folds.
#[inline]
fn mix(state: u64, word: u64) -> u64 {
    const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(state ^ word ^ 0xd6e8_feb8_6659_fd93) * FACTOR;
    (product as u64 ^ (product >> 64) as u64).rotate_left(23)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_binlog::{RowImage, RowsWalk};

    use super::*;

    /// Types and their metadata.
    const COLUMNS: [(u8, &[u8]); 9] = [
        (8, &[]),
        (15, &[20, 0]),
        (15, &[0x2c, 1]),
        (1, &[]),
        (18, &[3]),
        (252, &[2]),
        (245, &[4]),
        (246, &[10, 2]),
        (254, &[254, 80]),
    ];

    fn bitmap(bits: &[bool]) -> Vec<u8> {
        let byte = |bits: &[bool]| (bits.iter().rev()).fold(0, |b, bit| b << 1 | u8::from(*bit));
        bits.chunks(8).map(byte).collect()
    }

    fn put_image(
        columns: &[ColumnMeta],
        present: &[bool],
        random: &mut impl FnMut() -> u8,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut nulls = Vec::new();
        for (meta, _) in columns.iter().zip(present).filter(|(_, present)| **present) {
            nulls.push(random().is_multiple_of(16));
            if nulls.last() == Some(&true) {
                continue;
            }
            // Few values, so that some are the same.
            let (len, value) = match meta.width().unwrap() {
                Width::Fixed(len) => (len as usize, random() % 3),
                Width::Counted(width) => {
                    let len = random() % 3;
                    out.push(len);
                    out.extend(vec![0; usize::from(width) - 1]);
                    (len.into(), b'a' + random() % 2)
                }
            };
            out.extend(vec![value; len]);
        }
        [bitmap(&nulls), out].concat()
    }

    fn values<'a>(layout: &Layout, image: &RowImage<'a>) -> Values<'a> {
        layout
            .key
            .iter()
            .map(|key| image.column(key.column))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        /// Against the walk that makes no assumptions.
        #[test]
        fn keys_are_found_in_rows(
            columns in prop::collection::vec(prop::sample::select(&COLUMNS[..]), 1..12),
            key in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
            all in (any::<bool>(), any::<bool>()),
            kind in prop::sample::select(vec![EventType::WRITE_ROWS, EventType::DELETE_ROWS,
                EventType::UPDATE_ROWS, EventType::PARTIAL_UPDATE_ROWS]),
            noise in prop::collection::vec(any::<u8>(), 300),
        ) {
            let mut noise = noise.into_iter().cycle();
            let mut random = move || noise.next().unwrap();
            let types: Vec<u8> = columns.iter().map(|c| c.0).collect();
            let meta: Vec<u8> = columns.iter().flat_map(|c| c.1).copied().collect();
            let mut key: Vec<u32> = key.iter().map(|k| k.index(columns.len()) as u32).collect();
            key.sort_unstable();
            key.dedup();
            let texts = types.iter().filter(|ty| matches!(ty, 15 | 252 | 254)).count();
            let mut optional = Vec::new();
            OptionalMetadata {
                column_charsets: Some(vec![63; texts]),
                simple_primary_key: Some(key),
                ..OptionalMetadata::default()
            }
            .put(&mut optional);
            let nulls = bitmap(&vec![true; types.len()]);
            let map = TableMap {
                table_id: 7,
                flags: 0,
                schema: b"s",
                table: b"t",
                column_types: &types,
                column_meta: &meta,
                null_bitmap: &nulls,
                optional: &optional,
            };
            let metas: Vec<_> = map.columns().map(Result::unwrap).collect();
            let mut present = |all: bool| -> Vec<bool> {
                types.iter().map(|_| all || random() % 3 > 0).collect()
            };
            let (before, after) = (present(all.0), present(all.1));
            prop_assume!(before.contains(&true) && after.contains(&true));
            let mut rows = Vec::new();
            for _ in 0..4 {
                rows.extend(put_image(&metas, &before, &mut random));
                if kind == EventType::PARTIAL_UPDATE_ROWS {
                    let json = types.iter().filter(|ty| **ty == 245).count();
                    let options = random() % 2;
                    rows.push(options);
                    rows.extend(vec![0; json.div_ceil(8) * usize::from(options)]);
                }
                if kind.is_update_rows() {
                    rows.extend(put_image(&metas, &after, &mut random));
                }
            }
            let (before, after) = (bitmap(&before), bitmap(&after));
            let header = RowsHeader {
                event_type: kind,
                table_id: 7,
                flags: 0,
                extra: &[],
                n_columns: types.len() as u64,
                columns_before: &before,
                columns_after: kind.is_update_rows().then_some(&after),
                rows: &rows,
            };
            let layout = Layout::new(&map, b"s\0t");
            prop_assume!(layout.has_keys());
            let mut acts = Vec::new();
            prop_assert!(layout.rows(&header, &mut |act| acts.push(act)));
            let mut want = Vec::new();
            for row in RowsWalk::new(&map, &header).unwrap() {
                let row = row.unwrap();
                let old = row.before.as_ref().map(|image| values(&layout, image));
                let new = row.after.as_ref().map(|image| {
                    let mut new = values(&layout, image);
                    for (new, old) in new.iter_mut().zip(old.iter().flatten()) {
                        if *new == ColumnValue::Absent {
                            *new = *old;
                        }
                    }
                    new
                });
                if old != new {
                    want.extend(old.map(|old| Act::Free(layout.number(&old))));
                    want.extend(new.map(|new| Act::Take(layout.number(&new))));
                }
            }
            prop_assert_eq!(&acts, &want);
            // Cut anywhere, it is not understood, or ends behind a row.
            for cut in 0..rows.len() {
                let rows = header.rows.get(..cut).unwrap();
                let header = RowsHeader { rows, ..header };
                let mut walk = RowsWalk::new(&map, &header).unwrap();
                let whole = walk.all(|row| row.is_ok());
                prop_assert_eq!(layout.rows(&header, &mut |_| {}), whole, "{}", cut);
            }
        }

        #[test]
        fn any_bytes_are_rows_or_not(
            map in prop::collection::vec(any::<u8>(), 0..80),
            rows in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(map) = TableMap::parse(&map) {
                let layout = Layout::new(&map, b"s\0t");
                for kind in [EventType::WRITE_ROWS_V1, EventType::PARTIAL_UPDATE_ROWS] {
                    if let Ok(header) = RowsHeader::parse(kind, &rows) {
                        layout.may_change(&header);
                        layout.rows(&header, &mut |_| {});
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_stay_what_they_are() {
        // The output depends on them: two services that merge the same must write the same.
        assert_eq!(hash(1, b"123456789"), 8_187_176_263_970_880_468);
        assert_ne!(hash(1, b"a\0"), hash(1, b"a"));
        assert_eq!(hash_text(7, b"Ab-C1"), hash_text(7, b"aB c1 "));
        assert_ne!(hash_text(7, b"abcdefgh"), hash_text(7, b"abcdefg"));
        assert_eq!(hash_text(7, "ä".as_bytes()), None);
    }
}
