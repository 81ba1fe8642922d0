//! The default engine: one `redb` file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use grey_disk::{Disk, OpenMode};

use redb::{
    Builder, CommitError, CompactionError, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition,
    TableError,
};

use crate::batch::{Change, Table, as_bound, check_key};
use crate::disk_backend::DiskBackend;
use crate::error::StoreError;
use crate::guard::{Guard, contain};
use crate::seal::{seal, unseal};
use crate::{Batch, Durability, KeyRange, Row, Store, StoreOptions, is_inverted};

/// The database in the store's directory.
pub(crate) const FILE_NAME: &str = "state.redb";
/// A database whose creation was cut short; never holds anything.
const NEW_FILE_NAME: &str = "state.redb.new";

/// The engine's page: its default on every platform we run on.
const PAGE_BYTES: u64 = 4_096;

/// Tables on a `redb` file.
#[derive(Debug)]
pub(crate) struct RedbStore {
    /// Locked for writing by compaction alone, which `redb` wants for itself.
    database: RwLock<Database>,
    guard: Guard,
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.as_str())
}

impl RedbStore {
    /// Opens the store of a directory of the real file system, locked against other processes.
    pub(crate) fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            create(dir, &path).map_err(|error| StoreError::io(&path, error))?;
        }
        Self::start(&path, options, |builder| builder.open(&path))
    }

    /// Opens the store of a directory of `disk`.
    pub(crate) fn open_on_disk(disk: &dyn Disk, dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        let io = |error| StoreError::io(&path, error);
        if !disk.exists(&path).map_err(io)? {
            create_on_disk(disk, dir, &path).map_err(io)?;
        }
        let file = disk.open(&path, OpenMode::ReadWrite).map_err(io)?;
        let len = file.len().map_err(io)?;
        if len == 0 {
            // The engine would begin anew here.
            return Err(StoreError::damaged(&path, "it is empty"));
        }
        if len % PAGE_BYTES != 0 {
            // A disk promises nothing about a length that was growing when power went: the engine
            // wants whole pages, and the part of one was never synced.
            file.set_len(len - len % PAGE_BYTES).map_err(io)?;
        }
        Self::start(&path, options, |builder| builder.create_with_backend(DiskBackend(file)))
    }

    fn start(
        path: &Path,
        options: &StoreOptions,
        open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(options.cache_bytes).unwrap_or(usize::MAX));
        let database = contain(path, || {
            let mut database = open(&builder).map_err(|error| open_error(path, error))?;
            if options.check_on_open {
                match database.check_integrity() {
                    Ok(true) => {}
                    Ok(false) => return Err(StoreError::damaged(path, "its checksums do not match")),
                    Err(error) => return Err(open_error(path, error)),
                }
            }
            Ok(database)
        })?;
        Ok(Self { database: RwLock::new(database), guard: Guard::new(path) })
    }

    fn storage_error(&self, error: StorageError) -> StoreError {
        storage_error(self.guard.path(), error)
    }

    fn table_error(&self, error: TableError) -> StoreError {
        match error {
            TableError::Storage(error) => self.storage_error(error),
            other => StoreError::damaged(self.guard.path(), other),
        }
    }

    fn read_database<T>(&self, run: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A lock poisoned by a panic guards nothing of ours; the engine keeps its own.
        run(&self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, database: &Database, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut transaction = database.begin_write().map_err(|e| self.storage_error(begin_error(e)))?;
        let durability = match durability {
            Durability::Sync => redb::Durability::Immediate,
            Durability::Lazy => redb::Durability::None,
        };
        transaction.set_durability(durability).map_err(|e| StoreError::damaged(self.guard.path(), e))?;
        {
            let mut tables = BTreeMap::new();
            for op in batch.ops {
                let table = match tables.entry(op.table) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        let table = transaction.open_table(definition(op.table)).map_err(|e| self.table_error(e))?;
                        entry.insert(table)
                    }
                };
                let done = match op.change {
                    Change::Put { key, value } => {
                        let value = seal(op.table, &key, value);
                        table.insert(key.as_slice(), value.as_slice()).map(drop)
                    }
                    Change::Delete { key } => table.remove(key.as_slice()).map(drop),
                    Change::DeleteRange { start, end } => {
                        let range = (as_bound(&start), as_bound(&end));
                        if is_inverted(&range) { Ok(()) } else { table.retain_in::<&[u8], _>(range, |_, _| false) }
                    }
                };
                done.map_err(|e| self.storage_error(e))?;
            }
        }
        transaction.commit().map_err(|error| match error {
            CommitError::Storage(error) => self.storage_error(error),
            other => StoreError::damaged(self.guard.path(), other),
        })
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(table, key)?;
        self.guard.read(|| {
            self.read_database(|database| {
                let transaction = database.begin_read().map_err(|e| self.storage_error(begin_error(e)))?;
                let opened = match transaction.open_table(definition(table)) {
                    Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                    opened => opened.map_err(|e| self.table_error(e))?,
                };
                let stored = opened.get(key).map_err(|e| self.storage_error(e))?;
                stored.map(|stored| unseal(self.guard.path(), table, key, stored.value())).transpose()
            })
        })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        self.guard.write(|| self.read_database(|database| self.apply(database, batch, durability)))
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: usize, reverse: bool) -> Result<Vec<Row>, StoreError> {
        if is_inverted(&range) {
            return Ok(Vec::new());
        }
        self.guard.read(|| {
            self.read_database(|database| {
                let transaction = database.begin_read().map_err(|e| self.storage_error(begin_error(e)))?;
                let opened = match transaction.open_table(definition(table)) {
                    Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                    opened => opened.map_err(|e| self.table_error(e))?,
                };
                let mut rows = opened.range::<&[u8]>(range).map_err(|e| self.storage_error(e))?;
                let mut found = Vec::new();
                while found.len() < limit {
                    let Some(row) = (if reverse { rows.next_back() } else { rows.next() }) else { break };
                    let (key, stored) = row.map_err(|e| self.storage_error(e))?;
                    let value = unseal(self.guard.path(), table, key.value(), stored.value())?;
                    found.push((key.value().to_vec(), value));
                }
                Ok(found)
            })
        })
    }

    fn compact(&self) -> Result<(), StoreError> {
        self.guard.write(|| {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // Each pass moves pages towards the front; a handful brings the file to its size.
            const PASSES_MAX: usize = 8;
            for _ in 0..PASSES_MAX {
                let moved = database.compact().map_err(|error| match error {
                    CompactionError::Storage(error) => self.storage_error(error),
                    other => StoreError::damaged(self.guard.path(), other),
                })?;
                if !moved {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Makes an empty database under its final name in one step, so that a file
/// of that name that is no database is damage and never a beginning.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let new = dir.join(NEW_FILE_NAME);
    unless_missing(fs::remove_file(&new))?;
    drop(Database::builder().set_cache_size(0).create(&new).map_err(creation_error)?);
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

/// As [`create`], on a disk.
fn create_on_disk(disk: &dyn Disk, dir: &Path, path: &Path) -> io::Result<()> {
    disk.create_dir_all(dir)?;
    let new = dir.join(NEW_FILE_NAME);
    unless_missing(disk.remove_file(&new))?;
    let file = disk.open(&new, OpenMode::CreateNew)?;
    drop(Database::builder().set_cache_size(0).create_with_backend(DiskBackend(file)).map_err(creation_error)?);
    disk.open(&new, OpenMode::ReadWrite)?.sync()?;
    disk.rename(&new, path)?;
    disk.sync_dir(dir)
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn creation_error(error: DatabaseError) -> io::Error {
    match error {
        DatabaseError::Storage(StorageError::Io(error)) => error,
        other => io::Error::other(other),
    }
}

fn begin_error(error: redb::TransactionError) -> StorageError {
    match error {
        redb::TransactionError::Storage(error) => error,
        other => StorageError::Corrupted(other.to_string()),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.into() },
        DatabaseError::Storage(error) => storage_error(path, error),
        other => StoreError::damaged(path, other),
    }
}

fn storage_error(path: &Path, error: StorageError) -> StoreError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        StorageError::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
            StoreError::damaged(path, error)
        }
        StorageError::Io(error) => StoreError::io(path, error),
        StorageError::PreviousIo | StorageError::DatabaseClosed | StorageError::LockPoisoned(_) => {
            StoreError::Poisoned { path: path.into() }
        }
        other => StoreError::damaged(path, other),
    }
}
