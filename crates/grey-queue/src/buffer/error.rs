//! Why a buffer could not do what was asked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use grey_codec::CodecError;
use grey_log::LogError;
use grey_model::{Lane, Seq};

use super::record::Form;

/// Why a buffer could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The lane's log failed. After a failed write or sync open the buffer again.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file of the buffer itself failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room and the lane's policy is to wait: acknowledge something and append again.
    #[error("the buffer holds {used} of {limit} bytes; append to lane {lane} again when items were acknowledged")]
    Full {
        /// The lane.
        lane: Lane,
        /// Bytes on disk.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// There is no room and the lane's policy is to drop what is new. It was counted.
    #[error("dropped: the buffer is full and lane {lane} drops what is new")]
    Dropped {
        /// The lane.
        lane: Lane,
    },
    /// The disk is full. Nothing that was appended to the lane since the last commit was kept.
    #[error("no space left on the disk; nothing appended to lane {lane} since the last commit was kept")]
    DiskFull {
        /// The lane.
        lane: Lane,
        /// What the log said.
        source: LogError,
    },
    /// The payload is over a limit, or not encodable.
    #[error("the payload cannot be stored")]
    Payload(#[source] CodecError),
    /// The value could not be serialised.
    #[error("the value cannot be serialised")]
    Serialize(#[source] postcard::Error),
    /// An item was read in a form that it was not appended in.
    #[error("item {seq} of lane {lane} was appended as {found}, not as {asked}")]
    Form {
        /// The lane.
        lane: Lane,
        /// The item's sequence.
        seq: Seq,
        /// How it was appended.
        found: Form,
        /// What was asked for.
        asked: Form,
    },
    /// A typed item is not of the type that it was read as.
    #[error("item {seq} of lane {lane} is not a {type_name}")]
    Typed {
        /// The lane.
        lane: Lane,
        /// The item's sequence.
        seq: Seq,
        /// The type that was asked for.
        type_name: &'static str,
        /// What did not fit.
        source: postcard::Error,
    },
    /// A stored record is intact but of a form that this version does not know.
    #[error("lane {lane} holds something unknown at position {position}; open it with the version that wrote it")]
    Record {
        /// The lane.
        lane: Lane,
        /// Position in the lane's log.
        position: u64,
        /// What was wrong.
        source: CodecError,
    },
    /// The commit that an append shared with others failed.
    #[error("the commit failed")]
    Commit(#[source] Arc<BufferError>),
    /// The asynchronous handle's thread has ended.
    #[error("the buffer is closed")]
    Closed,
}

impl BufferError {
    /// True when an append failed for want of room that acknowledgements can give.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// True when an append was dropped by policy.
    pub fn is_dropped(&self) -> bool {
        matches!(self, Self::Dropped { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
