//! Reading committed entries from other threads: the log is the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use grey_log::{LogError, LogReader};

use crate::ReadError;
use crate::entry::{self, Purpose};

/// What the group and its readers share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    log: RwLock<Option<LogReader>>,
    /// Everything up to here is committed and was given out by `poll`.
    applied: AtomicU64,
}

impl Shared {
    pub(crate) fn set_log(&self, reader: LogReader) {
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
    }
}

/// Reads committed entries' data. Clones are cheap and may move to other threads.
#[derive(Debug, Clone)]
pub struct EntryReader {
    shared: Arc<Shared>,
}

/// A stretch of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Index and data, ascending; the group's own entries are left out.
    pub entries: Vec<(u64, Bytes)>,
    /// Where to go on; everything below is read or was the group's own.
    pub next: u64,
}

impl EntryReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn log(&self) -> Option<LogReader> {
        self.shared.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first index that can be read. May be below the floor.
    pub fn first(&self) -> u64 {
        self.log().map_or(1, |log| log.first_index())
    }

    /// The last index that can be read: committed, and given out by [`crate::Group::poll`].
    pub fn last(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// The data of the entry at `index`; `None` when it is not committed yet or is the
    /// group's own.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] below the first index; else what the log says.
    pub fn read(&self, index: u64) -> Result<Option<Bytes>, ReadError> {
        Ok(self.scan(index, 1)?.entries.into_iter().find(|(at, _)| *at == index).map(|(_, data)| data))
    }

    /// Entries from `from` on, about `bytes_max` of data, at least one if there is one.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] below the first index; else what the log says.
    pub fn scan(&self, from: u64, bytes_max: usize) -> Result<Entries, ReadError> {
        let end = self.last() + 1;
        let mut found = Entries { entries: Vec::new(), next: from };
        let Some(log) = self.log() else { return Ok(found) };
        if from >= end {
            return Ok(found);
        }
        let first = log.first_index();
        if from < first {
            return Err(ReadError::Trimmed { index: from, first });
        }
        let records = log.scan(from, bytes_max).map_err(|source| match source {
            LogError::Trimmed { index, first } => ReadError::Trimmed { index, first },
            source => ReadError::Log { index: from, source },
        })?;
        for (index, record) in records {
            if index >= end {
                break;
            }
            let entry = entry::decode(index, &record).map_err(|source| ReadError::Malformed { index, source })?;
            if let Ok(Purpose::Proposal(_)) = Purpose::of(&entry) {
                found.entries.push((index, entry.data));
            }
            found.next = index + 1;
        }
        Ok(found)
    }
}
