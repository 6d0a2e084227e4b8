//! Sums over rows that do not depend on their order. In: rows as the server's text; out: one
//! checksum per table, and checksums per bucket of keys that tell where two tables differ without
//! keeping the rows.

use std::hash::{DefaultHasher, Hasher};

/// Buckets of keys. Tables that differ are read again, but only the differing buckets are kept.
pub(super) const BUCKETS: usize = 1024;

/// A row: the text of each value, `None` for NULL.
pub(super) type TextRow = Vec<Option<Vec<u8>>>;

/// Checksum of a set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) rows: u64,
    sum: u128,
}

impl Sum {
    fn add(&mut self, row_hash: u128) {
        self.rows += 1;
        // A sum, not an exclusive or: a row that is there twice must not cancel out.
        self.sum = self.sum.wrapping_add(row_hash);
    }
}

/// Checksums of a table, all in all and by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    total: Sum,
    buckets: Vec<Sum>,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self {
            total: Sum::default(),
            buckets: vec![Sum::default(); BUCKETS],
        }
    }

    pub(super) fn add(&mut self, row: &TextRow, key: &[usize]) {
        let hash = hash_values(row.iter());
        self.total.add(hash);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(row, key)) {
            bucket.add(hash);
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.total.rows
    }

    /// The first few buckets in which two tables differ.
    pub(super) fn differing_buckets(&self, other: &Self, most: usize) -> Vec<usize> {
        let pairs = self.buckets.iter().zip(&other.buckets).enumerate();
        pairs
            .filter(|(_, (a, b))| a != b)
            .map(|(index, _)| index)
            .take(most)
            .collect()
    }
}

/// The values of a row that are its key: all of them for a table without a primary key.
pub(super) fn key_of(row: &TextRow, key: &[usize]) -> TextRow {
    if key.is_empty() {
        return row.clone();
    }
    key.iter()
        .map(|index| row.get(*index).cloned().flatten())
        .collect()
}

/// The bucket a row's key falls into.
pub(super) fn bucket_of(row: &TextRow, key: &[usize]) -> usize {
    let hash = hash_values(key_of(row, key).iter());
    usize::try_from(hash % BUCKETS as u128).unwrap_or(0)
}

/// Two 64-bit hashes of the values with their lengths: rows of one sum differ by accident never.
fn hash_values<'a>(values: impl Iterator<Item = &'a Option<Vec<u8>>> + Clone) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt);
        for value in values.clone() {
            match value {
                None => hasher.write_u8(0),
                Some(bytes) => {
                    hasher.write_u8(1);
                    hasher.write_usize(bytes.len());
                    hasher.write(bytes);
                }
            }
        }
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> TextRow {
        values
            .iter()
            .map(|value| value.map(|text| text.as_bytes().to_vec()))
            .collect()
    }

    fn digest(rows: &[TextRow]) -> Digest {
        let mut digest = Digest::new();
        rows.iter().for_each(|row| digest.add(row, &[0]));
        digest
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let (a, b) = (row(&[Some("1"), Some("x")]), row(&[Some("2"), None]));
        assert_eq!(digest(&[a.clone(), b.clone()]), digest(&[b, a]));
    }

    #[test]
    fn every_change_of_a_row_matters() {
        let one = digest(&[row(&[Some("1"), Some("ab"), Some("c")])]);
        for other in [
            row(&[Some("1"), Some("a"), Some("bc")]),
            row(&[Some("1"), Some("ab"), None]),
            row(&[Some("1"), Some("ab"), Some("")]),
            row(&[Some("2"), Some("ab"), Some("c")]),
        ] {
            assert_ne!(one, digest(&[other]));
        }
        let twice = digest(&[row(&[Some("1")]), row(&[Some("1")])]);
        assert_ne!(
            twice,
            digest(&[]),
            "a row that is there twice does not cancel out"
        );
    }

    #[test]
    fn a_changed_row_is_in_a_differing_bucket() {
        let rows: Vec<TextRow> = (0..500)
            .map(|id| row(&[Some(&id.to_string()), None]))
            .collect();
        let mut changed = rows.clone();
        changed[77][1] = Some(b"x".to_vec());
        let differing = digest(&rows).differing_buckets(&digest(&changed), 8);
        assert_eq!(differing, [bucket_of(&rows[77], &[0])]);
    }
}
