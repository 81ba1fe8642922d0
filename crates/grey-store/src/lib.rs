//! Keyed state that survives a crash: byte-ordered tables with atomic batches.
//!
//! For what is looked up by key (cursors, retained messages, registries);
//! what is appended and drained belongs in `grey-log`. The engines, `redb` by
//! default and `sled` behind a cargo feature of that name, pass one
//! conformance suite (`tests/it/conformance.rs`).
//!
//! Every value is sealed with a checksum over its table, key and bytes, so
//! that a damaged value is an error that names it and never another value. A
//! damaged page above the values can still hide a key; redb finds that with
//! [`StoreOptions::check_on_open`], sled has no such check.
//!
//! ```
//! use grey_store::{Batch, Durability, StoreOptions, Table, open};
//!
//! const CURSORS: Table = Table::new("cursors");
//!
//! let dir = tempfile::tempdir()?;
//! let store = open(dir.path(), &StoreOptions::default())?;
//! let mut batch = Batch::new();
//! batch.put(CURSORS, b"hub-1", 42_u64.to_le_bytes());
//! store.write(batch, Durability::Sync)?;
//! assert_eq!(store.get(CURSORS, b"hub-1")?, Some(42_u64.to_le_bytes().to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod disk_backend;
mod error;
mod guard;
mod redb_engine;
mod seal;
#[cfg(feature = "sled")]
mod sled_engine;

use std::fmt::Debug;
use std::fs;
use std::ops::Bound;
use std::path::Path;

use grey_disk::Disk;

pub use batch::{BATCH_BYTES_MAX, Batch, KEY_BYTES_MAX, TABLE_NAME_BYTES_MAX, Table, VALUE_BYTES_MAX};
pub use error::StoreError;

/// Cache of an engine unless told otherwise: an idle agent must stay under 20 MB.
pub const CACHE_BYTES_DEFAULT: u64 = 4 * 1024 * 1024;

/// A range of keys.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Which engine keeps the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Copy-on-write B-tree; a synced write is on the medium.
    #[default]
    Redb,
    /// Log-structured tree; needs the cargo feature `sled`. Version 0.34 on
    /// Linux hands data to the kernel without `fsync`, so a synced write
    /// survives the process but not a power cut.
    Sled,
}

impl Engine {
    /// The name used in configuration and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the medium when the call returns, together with every earlier write.
    Sync,
    /// Visible at once, atomic, and on the medium with the next `Sync` write or
    /// a clean close. A crash may lose the newest lazy writes, never an older
    /// one without every newer.
    Lazy,
}

/// How to open a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// The engine. A directory belongs to one engine for its life.
    pub engine: Engine,
    /// Memory for cached pages, in bytes.
    pub cache_bytes: u64,
    /// Accept an engine whose [`Durability::Sync`] does not survive a power
    /// cut. Without it such an engine refuses `Sync` writes.
    pub allow_weak_durability: bool,
    /// Read and check the whole file when opening (redb only): finds damage
    /// early, costs time in proportion to the file.
    pub check_on_open: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            engine: Engine::Redb,
            cache_bytes: CACHE_BYTES_DEFAULT,
            allow_weak_durability: false,
            check_on_open: false,
        }
    }
}

/// Byte-ordered tables. Tables exist as soon as something is put into them.
///
/// Keys have 1 to [`KEY_BYTES_MAX`] bytes, values 0 to [`VALUE_BYTES_MAX`]: an
/// empty key is refused everywhere, an empty value is a value.
pub trait Store: Send + Sync + Debug {
    /// The value of a key, or `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when the stored bytes fail their checksum;
    /// [`StoreError::Key`] for a key outside the limits.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Applies a batch: all of it or nothing, in the order it was written. An
    /// empty batch with [`Durability::Sync`] makes every earlier write durable.
    ///
    /// # Errors
    ///
    /// After an error of the medium the store refuses everything until it is
    /// opened again ([`StoreError::Poisoned`]): what is on disk is not known.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;

    /// Keys and values of a range, in byte order (or backwards), at most
    /// `limit`. A range whose start lies behind its end is empty.
    ///
    /// # Errors
    ///
    /// As for [`Store::get`].
    fn scan(&self, table: Table, range: KeyRange<'_>, limit: usize, reverse: bool) -> Result<Vec<Row>, StoreError>;

    /// Gives unused space back to the file system, as far as the engine can.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`].
    fn compact(&self) -> Result<(), StoreError>;
}

/// Opens the store of a directory, which is made if it does not exist.
///
/// # Errors
///
/// Damage, another process that has the store open, and a directory that
/// belongs to the other engine are told apart; in each case the files are
/// left as they are.
pub fn open(dir: &Path, options: &StoreOptions) -> Result<Box<dyn Store>, StoreError> {
    fs::create_dir_all(dir).map_err(|source| StoreError::io(dir, source))?;
    for (engine, name) in [(Engine::Redb, redb_engine::FILE_NAME), (Engine::Sled, SLED_DIR_NAME)] {
        let path = dir.join(name);
        if engine != options.engine && path.exists() {
            return Err(StoreError::OtherEngine { path, found: engine.as_str(), wanted: options.engine.as_str() });
        }
    }
    match options.engine {
        Engine::Redb => Ok(Box::new(redb_engine::RedbStore::open(dir, options)?)),
        #[cfg(feature = "sled")]
        Engine::Sled => Ok(Box::new(sled_engine::SledStore::open(&dir.join(SLED_DIR_NAME), options)?)),
        #[cfg(not(feature = "sled"))]
        Engine::Sled => Err(StoreError::NotBuilt { engine: Engine::Sled.as_str() }),
    }
}

/// Opens the store of a directory of `disk`, for instance of a simulated one.
/// Only redb can; it takes no lock there, since a disk has one owner.
///
/// # Errors
///
/// As for [`open`], and [`StoreError::NotBuilt`] for another engine.
pub fn open_on_disk(disk: &dyn Disk, dir: &Path, options: &StoreOptions) -> Result<Box<dyn Store>, StoreError> {
    match options.engine {
        Engine::Redb => Ok(Box::new(redb_engine::RedbStore::open_on_disk(disk, dir, options)?)),
        engine => Err(StoreError::NotBuilt { engine: engine.as_str() }),
    }
}

const SLED_DIR_NAME: &str = "state.sled";

/// True for a range that holds no key whatever the table holds; engines panic on some of these.
fn is_inverted(range: &KeyRange<'_>) -> bool {
    match range {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end) | Bound::Included(end)) => start >= end,
    }
}
