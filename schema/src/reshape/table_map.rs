//! The table map event of a layout.
//!
//! In: a layout. Out: the body of the event, byte for byte as a server writes it for such a table.

use std::collections::BTreeMap;

use tributary_binlog::{ColumnType, DefaultCharset, OptionalMetadata, TableMap};

use super::layout::{Layout, is_character, wire};
use crate::charset::from_utf8;
use crate::table::DataType;

impl Layout {
    /// The body of the table map event that a server writes for such a table: `FULL` or `MINIMAL` as the layout is.
    #[must_use]
    pub fn table_map(&self, table_id: u64, flags: u16, schema: &[u8], table: &[u8]) -> Vec<u8> {
        let wires: Vec<_> = self.columns.iter().map(wire).collect();
        let types: Vec<u8> = wires.iter().map(|(t, _)| t.0).collect();
        let meta: Vec<u8> = wires.iter().flat_map(|(_, m)| m.iter().copied()).collect();
        let mut nulls = vec![0; types.len().div_ceil(8)];
        for (at, _) in self.columns.iter().enumerate().filter(|(_, c)| c.nullable) {
            if let Some(byte) = nulls.get_mut(at / 8) {
                *byte |= 1 << (at % 8);
            }
        }
        let mut optional = Vec::new();
        let owned = Owned::new(self, &wires);
        owned.metadata(self).put(&mut optional);
        let mut out = Vec::new();
        TableMap {
            table_id,
            flags,
            schema,
            table,
            column_types: &types,
            column_meta: &meta,
            null_bitmap: &nulls,
            optional: &optional,
        }
        .put_body(&mut out);
        out
    }
}

/// Values of enums and sets in their character sets, which the metadata borrows.
struct Owned {
    unsigned: Vec<bool>,
    characters: Vec<u32>,
    listed: Vec<u32>,
    sets: Vec<Vec<Vec<u8>>>,
    enums: Vec<Vec<Vec<u8>>>,
    geometries: Vec<u32>,
    vectors: Vec<u32>,
}

impl Owned {
    fn new(layout: &Layout, wires: &[(ColumnType, Vec<u8>)]) -> Self {
        let mut owned = Self {
            unsigned: Vec::new(),
            characters: Vec::new(),
            listed: Vec::new(),
            sets: Vec::new(),
            enums: Vec::new(),
            geometries: Vec::new(),
            vectors: Vec::new(),
        };
        for (column, (ty, _)) in layout.columns.iter().zip(wires) {
            let set = column.collation.charset();
            let encode = |values: &[String]| {
                let bytes = |v: &String| {
                    set.and_then(|s| from_utf8(s, v))
                        .unwrap_or_else(|| v.clone().into_bytes())
                };
                values.iter().map(bytes).collect::<Vec<_>>()
            };
            let number = u32::from(column.collation.0);
            if ty.is_numeric() {
                owned.unsigned.push(column.data_type.is_unsigned());
            }
            let listed = matches!(column.data_type, DataType::Enum(_) | DataType::Set(_));
            if is_character(*ty) && !listed {
                owned.characters.push(number);
            }
            match &column.data_type {
                DataType::Enum(values) => {
                    owned.listed.push(number);
                    owned.enums.push(encode(values));
                }
                DataType::Set(values) => {
                    owned.listed.push(number);
                    owned.sets.push(encode(values));
                }
                DataType::Geometry(kind) => owned.geometries.push(*kind as u32),
                DataType::Vector(n) => owned.vectors.push(*n),
                _ => {}
            }
        }
        owned
    }

    fn metadata<'a>(&'a self, layout: &'a Layout) -> OptionalMetadata<'a> {
        fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
            (!list.is_empty()).then(|| list.to_vec())
        }
        fn borrowed(lists: &[Vec<Vec<u8>>]) -> Option<Vec<Vec<&[u8]>>> {
            let lists: Vec<Vec<&[u8]>> = (lists.iter())
                .map(|l| l.iter().map(Vec::as_slice).collect())
                .collect();
            (!lists.is_empty()).then_some(lists)
        }
        let (default_charset, column_charsets) = shorter(&self.characters);
        let mut meta = OptionalMetadata {
            unsigned: some(&self.unsigned),
            default_charset,
            column_charsets,
            geometry_types: some(&self.geometries),
            vector_dimensions: some(&self.vectors),
            ..OptionalMetadata::default()
        };
        if layout.full {
            let (default, columns) = shorter(&self.listed);
            meta.enum_and_set_default_charset = default;
            meta.enum_and_set_column_charsets = columns;
            meta.names = Some(layout.columns.iter().map(|c| c.name.as_bytes()).collect());
            meta.set_values = borrowed(&self.sets);
            meta.enum_values = borrowed(&self.enums);
            if layout.primary_key.iter().any(|(_, prefix)| *prefix > 0) {
                meta.primary_key_with_prefix = Some(layout.primary_key.clone());
            } else if !layout.primary_key.is_empty() {
                let places = layout.primary_key.iter().map(|(at, _)| *at);
                meta.simple_primary_key = Some(places.collect());
            }
            meta.visible = Some(layout.columns.iter().map(|c| !c.invisible).collect());
        }
        meta
    }
}

/// The list of collations in the form that the server chooses (`init_charset_field` of `sql/log_event.cc`).
fn shorter(collations: &[u32]) -> (Option<DefaultCharset>, Option<Vec<u32>>) {
    if collations.is_empty() {
        return (None, None);
    }
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for c in collations {
        *counts.entry(*c).or_default() += 1;
    }
    let mut most = (0, 0);
    for (c, n) in counts {
        if n > most.1 {
            most = (c, n);
        }
    }
    let others: Vec<(u32, u32)> = (0..)
        .zip(collations.iter().copied())
        .filter(|(_, c)| *c != most.0)
        .collect();
    if others.len() * 2 < collations.len() {
        let default = DefaultCharset {
            default: most.0,
            others,
        };
        return (Some(default), None);
    }
    (None, Some(collations.to_vec()))
}
