//! Reading committed entries from other threads: the log is the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use grey_log::{LogError, LogReader};

use crate::ReadError;
use crate::entry::{self, Purpose};
use crate::store::Failure;

/// What the group and its readers share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    log: OnceLock<LogReader>,
    /// Everything up to here is committed and was given out by `poll`.
    applied: AtomicU64,
    /// The first damage that a reader came upon: the group must hear of it.
    damage: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn set_log(&self, reader: LogReader) {
        // A group begins to take part once; a checkpoint that is installed empties the same log.
        let _ = self.log.set(reader);
    }

    pub(crate) fn take_damage(&self) -> Option<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note_damage(&self, reason: String) {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
    }
}

/// Reads committed entries' data. Clones are cheap and may move to other threads; each
/// reads ahead for itself when it scans from front to back.
///
/// Damage that a reader comes upon also reaches the group: in a group of several the next
/// [`crate::Group::poll`] ends with [`crate::ConsensusError::Damaged`], and the next open
/// rejoins and gets the entries back from the peers.
#[derive(Debug)]
pub struct EntryReader {
    shared: Arc<Shared>,
    /// This reader's own, for its read-ahead.
    log: OnceLock<LogReader>,
}

impl Clone for EntryReader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
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
        Self { shared, log: OnceLock::new() }
    }

    fn log(&self) -> Option<&LogReader> {
        let shared = self.shared.log.get()?;
        Some(self.log.get_or_init(|| shared.clone()))
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
            source => {
                if let Failure::Damage(reason) = Failure::of(&source) {
                    self.shared.note_damage(reason);
                }
                ReadError::Log { index: from, source }
            }
        })?;
        for (index, record) in records {
            if index >= end {
                break;
            }
            let entry = entry::decode(index, &record).map_err(|source| {
                self.shared.note_damage(format!("entry {index} does not decode"));
                ReadError::Malformed { index, source }
            })?;
            if let Ok(Purpose::Proposal(_)) = Purpose::of(&entry) {
                found.entries.push((index, entry.data));
            }
            found.next = index + 1;
        }
        Ok(found)
    }
}
