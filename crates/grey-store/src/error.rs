//! What can go wrong with a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::batch::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Why a store could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot use the store at {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The files are damaged. They are left as they are.
    #[error(
        "the store at {} is damaged: {reason}; it is left as it is: restore it from a backup, or move it away to start empty",
        path.display()
    )]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Another process, or another handle in this one, has the store open.
    #[error("the store at {} is open in another process; stop that one first", path.display())]
    Locked {
        /// The file or directory.
        path: PathBuf,
    },
    /// An earlier error left it unknown what is on disk.
    #[error("the store at {} stopped after an earlier error; open it again", path.display())]
    Poisoned {
        /// The file or directory.
        path: PathBuf,
    },
    /// The directory holds the state of the other engine.
    #[error(
        "{} holds a {found} store, but {wanted} is configured; set the engine to {found}, or move it away to start empty",
        path.display()
    )]
    OtherEngine {
        /// What was found.
        path: PathBuf,
        /// The engine that it belongs to.
        found: &'static str,
        /// The engine of the options.
        wanted: &'static str,
    },
    /// The engine is not part of this build.
    #[error("the engine {engine} is not part of this build; build with the cargo feature {engine:?}, or use redb")]
    NotBuilt {
        /// The engine.
        engine: &'static str,
    },
    /// A synced write was asked of an engine that cannot keep that promise.
    #[error(
        "{engine} does not fsync its data, so it cannot promise a synced write; use redb, or set allow_weak_durability"
    )]
    WeakDurability {
        /// The engine.
        engine: &'static str,
    },
    /// A key is empty or too long.
    #[error("a key of {bytes} bytes in table {table:?}: keys have 1 to {KEY_BYTES_MAX}")]
    Key {
        /// The table.
        table: &'static str,
        /// The key's length.
        bytes: usize,
    },
    /// A value is too large.
    #[error("a value of {bytes} bytes in table {table:?} is over the limit of {VALUE_BYTES_MAX}")]
    Value {
        /// The table.
        table: &'static str,
        /// The value's length.
        bytes: usize,
    },
    /// A batch is too large.
    #[error("a batch of {bytes} bytes is over the limit of {BATCH_BYTES_MAX}; write it in parts")]
    Batch {
        /// Key and value bytes of the batch.
        bytes: usize,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.into(), reason: reason.to_string() }
    }
}
