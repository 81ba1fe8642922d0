//! Table names and batches of changes.

use std::ops::Bound;

use crate::error::StoreError;

/// Longest table name in bytes.
pub const TABLE_NAME_BYTES_MAX: usize = 64;
/// Longest key in bytes: several fit on a page.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Largest value in bytes: one is read into memory at a time.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most key and value bytes of one batch: it is held in memory until it is committed.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The name of a table: 1 to [`TABLE_NAME_BYTES_MAX`] characters of `a-z`, `0-9`, `_` and `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table; meant for constants.
    ///
    /// # Panics
    ///
    /// On a name outside the rule, which for a constant is a compile error.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= TABLE_NAME_BYTES_MAX, "a table name has 1 to 64 characters");
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'),
                "a table name holds only a-z, 0-9, '_' and '-'"
            );
            at += 1;
        }
        Self(name)
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Changes that are applied together, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
    bytes: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) table: Table,
    pub(crate) change: Change,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
    DeleteRange { start: Bound<Vec<u8>>, end: Bound<Vec<u8>> },
}

impl Batch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key to a value.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.ops.push(Op { table, change: Change::Put { key, value } });
        self
    }

    /// Removes a key; nothing happens when it is not there.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        let key = key.into();
        self.bytes += key.len();
        self.ops.push(Op { table, change: Change::Delete { key } });
        self
    }

    /// Removes every key of a range, also those that this batch put there before.
    pub fn delete_range(&mut self, table: Table, range: crate::KeyRange<'_>) -> &mut Self {
        let (start, end) = (range.0.map(<[u8]>::to_vec), range.1.map(<[u8]>::to_vec));
        self.ops.push(Op { table, change: Change::DeleteRange { start, end } });
        self
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// True without changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Key and value bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.bytes > BATCH_BYTES_MAX {
            return Err(StoreError::Batch { bytes: self.bytes });
        }
        self.ops.iter().try_for_each(|op| match &op.change {
            Change::Put { key, value } => {
                check_key(op.table, key)?;
                if value.len() > VALUE_BYTES_MAX {
                    return Err(StoreError::Value { table: op.table.as_str(), bytes: value.len() });
                }
                Ok(())
            }
            Change::Delete { key } => check_key(op.table, key),
            Change::DeleteRange { .. } => Ok(()),
        })
    }
}

pub(crate) fn check_key(table: Table, key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(StoreError::Key { table: table.as_str(), bytes: key.len() });
    }
    Ok(())
}

/// Borrows an owned bound.
pub(crate) fn as_bound(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Table::new("retained-2").as_str(), "retained-2");
        for bad in ["", "A", "a b", "ä"] {
            assert!(std::panic::catch_unwind(|| Table::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_are_named() {
        const T: Table = Table::new("t");
        let mut batch = Batch::new();
        batch.put(T, b"", b"v");
        assert!(matches!(batch.check(), Err(StoreError::Key { bytes: 0, .. })));
        let mut batch = Batch::new();
        batch.delete(T, vec![0; KEY_BYTES_MAX + 1]);
        assert!(matches!(batch.check(), Err(StoreError::Key { bytes: 1_025, .. })));
        let mut batch = Batch::new();
        batch.put(T, b"k", vec![0; VALUE_BYTES_MAX + 1]);
        assert!(matches!(batch.check(), Err(StoreError::Value { .. })));
    }
}
