//! Raft's storage on `grey-log`: record index = Raft index.
//!
//! Terms are kept in memory and recent entries in a cache, so the only reads that
//! reach the disk are those for a follower that is far behind or for the replay at
//! start. Raft panics on a storage error; here a failed read is noted, answered
//! with nothing, and [`Store::failure`] stops the group at the end of the call.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::Disk;
use grey_log::{Log, LogError, LogReader};
use raft::eraftpb::{ConfState, Entry, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::ConsensusError;
use crate::checkpoint::{self, Checkpoint, Kept};
use crate::entry;
use crate::memory::{Files, HardState};
use crate::runs::Runs;

/// What one read from the disk brings at most, in bytes.
const READ_BYTES_MAX: u64 = 16 << 20;
/// What one scan of the log brings at most, in bytes.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// The durable half of a member that takes part.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) log: Log,
    pub(crate) reader: LogReader,
    pub(crate) checkpoints: Kept,
    /// In ascending order.
    pub(crate) members: Vec<u64>,
    /// As on disk, `commit` apart, which runs ahead.
    pub(crate) hard: HardState,
    /// What `commit` on disk is.
    pub(crate) commit_stored: u64,
    /// The term at `hard.base`.
    pub(crate) base_term: u64,
    pub(crate) runs: Runs,
    pub(crate) recent: Recent,
    pub(crate) failure: RefCell<Option<Failure>>,
}

/// Why an answer to Raft was not the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What was durable is not there any more.
    Damage(String),
    /// The disk did not answer; it may do so after a restart.
    Disk(String),
}

impl Failure {
    pub(crate) fn of(error: &LogError) -> Self {
        let reason = describe(error);
        if matches!(error, LogError::Io { .. } | LogError::Full { .. } | LogError::Poisoned { .. }) {
            Self::Disk(reason)
        } else {
            Self::Damage(reason)
        }
    }
}

/// The last entries of the log, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += entry::cost(&entry);
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            self.bytes -= self.entries.pop_front().as_ref().map_or(0, entry::cost);
        }
    }

    fn truncate(&mut self, index: u64) {
        while self.entries.back().is_some_and(|entry| entry.index >= index) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, entry::cost);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

impl Store {
    fn files(&self) -> Files<'_> {
        Files { disk: &*self.disk, dir: &self.dir }
    }

    pub(crate) fn first(&self) -> u64 {
        self.hard.base + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.log.next_index() - 1
    }

    /// The term of an index between base and last.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.hard.base {
            return Some(self.base_term);
        }
        self.runs.term(index).or_else(|| match self.reader.read(index) {
            Ok(Some(record)) => entry::decode(index, &record).ok().map(|entry| entry.term),
            _ => None,
        })
    }

    /// Makes a new term and vote durable, if they are new.
    pub(crate) fn persist_vote(&mut self, term: u64, vote: u64) -> Result<(), ConsensusError> {
        if (term, vote) == (self.hard.term, self.hard.vote) {
            return Ok(());
        }
        self.write_hard(HardState { term, vote, ..self.hard })
    }

    /// Makes the commit index durable, which nothing depends on: it bounds the damage
    /// that goes unnoticed.
    pub(crate) fn persist_commit(&mut self) -> Result<(), ConsensusError> {
        if self.hard.commit == self.commit_stored {
            return Ok(());
        }
        self.write_hard(self.hard)
    }

    fn write_hard(&mut self, hard: HardState) -> Result<(), ConsensusError> {
        self.files().write_hard_state(hard)?;
        self.hard = hard;
        self.commit_stored = hard.commit;
        Ok(())
    }

    /// Appends entries, cutting off what they replace, and makes them durable with one sync.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), ConsensusError> {
        let Some(first) = entries.first() else { return Ok(()) };
        if first.index < self.log.next_index() {
            self.log.truncate_back(first.index)?;
            self.runs.truncate(first.index);
            self.recent.truncate(first.index);
        }
        for entry in entries {
            self.log.append_parts(&[&entry::encode_head(entry), &entry.data])?;
        }
        self.log.commit()?;
        for entry in entries {
            self.runs.push(entry.index, entry.term);
            self.recent.push(entry.clone());
        }
        Ok(())
    }

    /// Replaces everything by a checkpoint from the leader. A crash on the way is
    /// finished by the next open: the `install` file says how far it may have got.
    pub(crate) fn install(&mut self, bytes: &[u8], checkpoint: &Checkpoint) -> Result<(), ConsensusError> {
        let index = checkpoint.index;
        self.files().write_install(index)?;
        self.checkpoints.save(index, index, bytes)?;
        self.finish_install(checkpoint)
    }

    /// The steps after the checkpoint is saved; each may be repeated.
    pub(crate) fn finish_install(&mut self, checkpoint: &Checkpoint) -> Result<(), ConsensusError> {
        let index = checkpoint.index;
        self.log.reset(index + 1)?;
        self.base_term = checkpoint.term;
        self.runs = Runs::new(index, checkpoint.term);
        self.recent.clear();
        self.write_hard(HardState { commit: index, base: index, ..self.hard })?;
        self.files().remove_install()?;
        self.checkpoints.remove_below(index)?;
        Ok(())
    }

    /// Saves a checkpoint of the state machine at `index`, which must be applied.
    pub(crate) fn save_checkpoint(&mut self, index: u64, state: &[u8]) -> Result<(), ConsensusError> {
        let refuse = |reason| Err(ConsensusError::Checkpoint { index, reason });
        if state.len() > crate::config::CHECKPOINT_BYTES_MAX {
            return refuse("its state is over the limit of 64 MiB");
        }
        if index <= self.hard.base {
            return refuse("the log starts after it already");
        }
        let Some(term) = self.term_at(index) else { return refuse("the term of its index is not known") };
        let mut runs = self.runs.clone();
        if runs.term(index).is_none() {
            runs = Runs::new(index, term);
        }
        runs.truncate(index + 1);
        let bytes = checkpoint::encode(index, term, &runs, state);
        self.checkpoints.save(self.hard.base, index, &bytes)?;
        Ok(())
    }

    /// Moves the log's start to the newest checkpoint below `floor`. True when it moved.
    pub(crate) fn compact(&mut self, floor: u64) -> Result<bool, ConsensusError> {
        // It is about to stand for everything that is trimmed, so it is read back first.
        let index = loop {
            let Some(index) = self.checkpoints.next_base(self.hard.base, floor) else { return Ok(false) };
            if self.checkpoints.load(index)?.is_some() {
                break index;
            }
            self.checkpoints.forget(index);
        };
        let Some(term) = self.term_at(index) else {
            return Err(ConsensusError::Checkpoint { index, reason: "the term of its index is not known" });
        };
        self.write_hard(HardState { base: index, ..self.hard })?;
        self.base_term = term;
        self.runs.trim(index);
        self.log.trim_front(index + 1)?;
        self.checkpoints.remove_below(index)?;
        Ok(true)
    }

    fn note(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    fn note_damage(&self, reason: String) {
        self.note(Failure::Damage(reason));
    }

    fn read(&self, low: u64, high: u64, bytes_max: u64) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut bytes = 0_u64;
        let mut next = low;
        while next < high {
            if let Some(entry) = self.recent.get(next) {
                bytes += entry::cost(entry) as u64;
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
                next += 1;
                continue;
            }
            let records = match self.reader.scan(next, SCAN_BYTES_MAX) {
                Ok(records) if records.is_empty() => {
                    self.note_damage(format!("entry {next} is missing"));
                    return entries;
                }
                Ok(records) => records,
                Err(error) => {
                    self.note(Failure::of(&error));
                    return entries;
                }
            };
            for (index, record) in records {
                if index >= high || self.recent.get(index).is_some() {
                    break;
                }
                match entry::decode(index, &record) {
                    Ok(entry) if index == next => {
                        bytes += entry::cost(&entry) as u64;
                        if bytes > bytes_max && !entries.is_empty() {
                            return entries;
                        }
                        entries.push(entry);
                        next += 1;
                    }
                    _ => {
                        self.note_damage(format!("entry {next} does not decode"));
                        return entries;
                    }
                }
            }
        }
        entries
    }
}

/// An error with its cause in one line, for the `member` file and the status.
pub(crate) fn describe(error: &LogError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The configuration of the group in Raft's words.
pub(crate) fn conf_state(members: &[u64]) -> ConfState {
    ConfState { voters: members.to_vec(), ..ConfState::default() }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard_state = RaftHardState {
            term: self.hard.term,
            vote: self.hard.vote,
            commit: self.hard.commit,
            ..RaftHardState::default()
        };
        Ok(RaftState::new(hard_state, conf_state(&self.members)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        Ok(self.read(low, high, max_size.into().unwrap_or(READ_BYTES_MAX).min(READ_BYTES_MAX)))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.hard.base {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last() {
            return Err(StorageError::Unavailable.into());
        }
        // 0 matches no entry; a failure stops the group before anything is made of it.
        Ok(self.term_at(index).unwrap_or_else(|| {
            self.note_damage(format!("the term of entry {index} cannot be read"));
            0
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let index = self.hard.base;
        let bytes = match self.checkpoints.load(index) {
            Ok(Some((bytes, _))) => bytes,
            Ok(None) => {
                self.note_damage(format!("checkpoint {index}, which the log starts after, cannot be read"));
                return Err(StorageError::SnapshotTemporarilyUnavailable.into());
            }
            Err(error) => {
                self.note(Failure::of(&error));
                return Err(StorageError::SnapshotTemporarilyUnavailable.into());
            }
        };
        Ok(snapshot(index, self.base_term, &self.members, bytes))
    }
}

/// A checkpoint in Raft's words.
pub(crate) fn snapshot(index: u64, term: u64, members: &[u64], data: Bytes) -> Snapshot {
    let mut snapshot = Snapshot { data, ..Snapshot::default() };
    let metadata = snapshot.mut_metadata();
    metadata.index = index;
    metadata.term = term;
    metadata.set_conf_state(conf_state(members));
    snapshot
}
