//! What can go wrong with a log, and what was lost.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use grey_seal::{KeyId, SealError};

/// Why an operation on a log or on checkpoints failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The disk is full. Nothing since the last commit was kept; the log goes on
    /// working and a later commit succeeds once there is space.
    #[error("no space left to write {}; free some and append again", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Records were damaged on disk and are gone. Reading can go on at `lost.end`.
    #[error("records {} to {} are damaged in {} at byte {offset}: {reason}; continue at {}", lost.start, lost.end, path.display(), lost.end)]
    Damaged {
        /// The indexes that are lost.
        lost: Range<u64>,
        /// The segment they were in.
        path: PathBuf,
        /// Where the damage starts, in bytes.
        offset: u64,
        /// What is wrong.
        reason: Reason,
    },
    /// Records are sealed with a key that was not given. They are not damaged: with the
    /// key they can be read.
    #[error("{} is sealed with the key {key_id}, which is not among the keys given; add it to the older keys", path.display())]
    KeyMissing {
        /// The key's name.
        key_id: KeyId,
        /// The segment or the checkpoint.
        path: PathBuf,
    },
    /// A record or a checkpoint could not be sealed; nothing of it was kept.
    #[error("cannot seal a record for {}", path.display())]
    Seal {
        /// The log's directory.
        path: PathBuf,
        /// Why not.
        source: SealError,
    },
    /// An earlier write or sync failed, so nothing can be said about the log's end
    /// until it is opened again.
    #[error("the log in {} stopped after a failed {action}; open it again", path.display())]
    Poisoned {
        /// What failed.
        action: &'static str,
        /// The log's directory.
        path: PathBuf,
    },
    /// A commit was begun and has not ended.
    #[error("a commit of the log in {} is in flight; end it first", path.display())]
    InFlight {
        /// The log's directory.
        path: PathBuf,
    },
    /// A record is over [`crate::LogConfig::record_bytes_max`].
    #[error("a record of {len} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// The record's length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The records asked for are below the log's first index.
    #[error("record {index} is gone; the log starts at {first}")]
    Trimmed {
        /// The index asked for.
        index: u64,
        /// The first index there is.
        first: u64,
    },
    /// The configuration makes no sense.
    #[error("{what} of {value} is not in {} to {}", allowed.start, allowed.end - 1)]
    Config {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        allowed: Range<u64>,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            if grey_disk::is_full(&source) { Self::Full { path } } else { Self::Io { action, path, source } }
        }
    }
}

/// Records that were on disk once and are not readable any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The indexes that are lost; empty when only a segment's header is damaged.
    pub lost: Range<u64>,
    /// The segment they were in.
    pub path: PathBuf,
    /// Where the damage starts, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a stretch of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A segment's header cannot be read; its records can.
    Header,
    /// Bytes that are no record.
    Record,
    /// The segment ends before the next one begins.
    Short,
    /// A segment file is missing.
    Missing,
    /// The log ends before the position that it was known to be durable up to.
    Tail,
    /// A record that the disk kept as it was written, but that was not sealed with its
    /// key for this place of this log.
    Forged,
}

/// What [`crate::Log::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of an unfinished commit that were cut off the end: normal after a crash.
    pub torn_bytes: u64,
    /// Damage that is visible without reading the sealed segments; theirs shows when they are read.
    pub damaged: Vec<Damage>,
    /// Indexes between the log's first and next, lost ones included.
    pub records: u64,
    /// From the first to the last index that is known to have been durable and is lost.
    /// A node that voted on the strength of these records must not vote again before
    /// it has them back from its peers.
    pub lost_durable: Option<Range<u64>>,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "the segment header cannot be read",
            Self::Record => "bytes that are no record",
            Self::Short => "the segment ends before the next one begins",
            Self::Missing => "the segment file is missing",
            Self::Tail => "the log ends before the position that it was durable up to",
            Self::Forged => "forged or sealed for another place",
        })
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lost, path, offset, reason } = self;
        write!(f, "{}: {reason} at byte {offset}; records {} to {} are lost", path.display(), lost.start, lost.end)
    }
}
