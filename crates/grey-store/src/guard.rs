//! Keeps an engine's panics inside: both engines assert on pages that damage
//! has made impossible, and a damaged file must be an error, not the end of
//! the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::StoreError;

/// Runs what may panic on damage.
pub(crate) fn contain<T>(path: &Path, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // Whatever the panic left half-done is never used again: the caller drops or poisons the engine.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(StoreError::damaged(path, text.unwrap_or_else(|| "the engine gave up".into())))
    })
}

/// Stops a store for good after the first error that leaves its state unknown.
#[derive(Debug)]
pub(crate) struct Guard {
    path: PathBuf,
    poisoned: AtomicBool,
}

impl Guard {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into(), poisoned: AtomicBool::new(false) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a write, after which only success leaves the store usable.
    pub(crate) fn write<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read(run).inspect_err(|_| self.poisoned.store(true, Ordering::Relaxed))
    }

    /// Runs a read, which leaves the store usable also when it meets damage.
    pub(crate) fn read<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned { path: self.path.clone() });
        }
        contain(&self.path, run)
    }
}
