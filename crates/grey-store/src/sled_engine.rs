//! The engine on `sled` 0.34: one directory.
//!
//! All tables share sled's default tree, each key behind its table's name and
//! a zero byte, so that a batch over several tables is one atomic batch.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::batch::{Change, Table, check_key};
use crate::error::StoreError;
use crate::guard::{Guard, contain};
use crate::seal::{seal, unseal};
use crate::{Batch, Durability, Engine, KeyRange, Row, Store, StoreOptions, is_inverted};

/// Tables in a `sled` tree.
#[derive(Debug)]
pub(crate) struct SledStore {
    database: sled::Db,
    /// Held while a batch is expanded and applied: a range to delete must not change in between.
    writer: Mutex<()>,
    allow_weak_durability: bool,
    guard: Guard,
}

fn prefixed(table: Table, key: &[u8]) -> Vec<u8> {
    let name = table.as_str().as_bytes();
    let mut full = Vec::with_capacity(name.len() + 1 + key.len());
    full.extend_from_slice(name);
    full.push(0);
    full.extend_from_slice(key);
    full
}

/// A table's range as a range of the shared tree. Table names hold no byte below 1.
fn prefixed_range(table: Table, range: KeyRange<'_>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match range.0 {
        Bound::Unbounded => Bound::Included(prefixed(table, b"")),
        bound => bound.map(|key| prefixed(table, key)),
    };
    let end = match range.1 {
        Bound::Unbounded => {
            let mut past = table.as_str().as_bytes().to_vec();
            past.push(1);
            Bound::Excluded(past)
        }
        bound => bound.map(|key| prefixed(table, key)),
    };
    (start, end)
}

/// How often a locked store is tried again: a handle that was dropped in this process lets go of its
/// lock only when sled's garbage is collected, some milliseconds later.
const LOCK_ATTEMPTS_MAX: u32 = 50;

#[expect(clippy::disallowed_methods, reason = "sled offers nothing to wait on; a file lock is outside any simulation")]
fn wait_for_lock() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}

impl SledStore {
    pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let existed = path.exists();
        let mut attempts = 0;
        let database = contain(path, || {
            let database = loop {
                let opened = sled::Config::new().path(path).cache_capacity(options.cache_bytes).open();
                match opened.map_err(|error| sled_error(path, error)) {
                    Err(StoreError::Locked { .. }) if attempts < LOCK_ATTEMPTS_MAX => attempts += 1,
                    opened => break opened?,
                }
                wait_for_lock();
            };
            // Sled starts over silently when its files are gone or empty.
            if existed && !database.was_recovered() {
                return Err(StoreError::damaged(path, "its files are missing or empty"));
            }
            Ok(database)
        })?;
        let allow_weak_durability = options.allow_weak_durability;
        Ok(Self { database, writer: Mutex::new(()), allow_weak_durability, guard: Guard::new(path) })
    }

    fn error(&self, error: sled::Error) -> StoreError {
        sled_error(self.guard.path(), error)
    }

    /// The batch as final values per key: sled's own batches know no ranges.
    fn expand(&self, batch: Batch) -> Result<sled::Batch, StoreError> {
        let mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for op in batch.ops {
            match op.change {
                Change::Put { key, value } => {
                    let full = prefixed(op.table, &key);
                    changes.insert(full, Some(seal(op.table, &key, value)));
                }
                Change::Delete { key } => {
                    changes.insert(prefixed(op.table, &key), None);
                }
                Change::DeleteRange { start, end } => {
                    let range = (crate::batch::as_bound(&start), crate::batch::as_bound(&end));
                    if is_inverted(&range) {
                        continue;
                    }
                    let range = prefixed_range(op.table, range);
                    for (_, change) in changes.range_mut(range.clone()) {
                        *change = None;
                    }
                    for key in self.database.range(range).keys() {
                        changes.insert(key.map_err(|e| self.error(e))?.to_vec(), None);
                    }
                }
            }
        }
        let mut expanded = sled::Batch::default();
        for (key, change) in changes {
            match change {
                Some(value) => expanded.insert(key, value),
                None => expanded.remove(key),
            }
        }
        Ok(expanded)
    }
}

impl Store for SledStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(table, key)?;
        self.guard.read(|| {
            let stored = self.database.get(prefixed(table, key)).map_err(|e| self.error(e))?;
            stored.map(|stored| unseal(self.guard.path(), table, key, &stored)).transpose()
        })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        if durability == Durability::Sync && !self.allow_weak_durability {
            return Err(StoreError::WeakDurability { engine: Engine::Sled.as_str() });
        }
        self.guard.write(|| {
            let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let batch = self.expand(batch)?;
            self.database.apply_batch(batch).map_err(|e| self.error(e))?;
            if durability == Durability::Sync {
                self.database.flush().map_err(|e| self.error(e))?;
            }
            Ok(())
        })
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: usize, reverse: bool) -> Result<Vec<Row>, StoreError> {
        if is_inverted(&range) {
            return Ok(Vec::new());
        }
        self.guard.read(|| {
            let mut rows = self.database.range(prefixed_range(table, range));
            let mut found = Vec::new();
            while found.len() < limit {
                let Some(row) = (if reverse { rows.next_back() } else { rows.next() }) else { break };
                let (full, stored) = row.map_err(|e| self.error(e))?;
                let key = &full[table.as_str().len() + 1..];
                found.push((key.to_vec(), unseal(self.guard.path(), table, key, &stored)?));
            }
            Ok(found)
        })
    }

    /// Sled reclaims space on its own and offers no way to hasten it.
    fn compact(&self) -> Result<(), StoreError> {
        self.guard.write(|| self.database.flush().map(drop).map_err(|e| self.error(e)))
    }
}

fn sled_error(path: &Path, error: sled::Error) -> StoreError {
    match error {
        // Sled's only error of this wording; it has no kind of its own.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            StoreError::Locked { path: path.into() }
        }
        sled::Error::Io(error) => StoreError::io(path, error),
        other => StoreError::damaged(path, other),
    }
}
