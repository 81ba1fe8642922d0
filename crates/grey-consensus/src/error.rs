//! What can go wrong in a group, one enum per family of operations.

use std::io;
use std::path::{Path, PathBuf};

use grey_log::LogError;
use grey_model::WireError;

/// Why a group cannot be opened or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// A setting makes no sense.
    #[error("{what} of {value} is not allowed: {allowed}")]
    Config {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The data directory belongs to another member or to another group.
    #[error(
        "{} holds member {found_id} of the group {found_members:?}, not member {id} of {members:?}; \
         point this member to its own directory, or give the group its old members again", path.display()
    )]
    Identity {
        /// The data directory.
        path: PathBuf,
        /// The member that the directory was made for.
        found_id: u64,
        /// The group that the directory was made for.
        found_members: Vec<u64>,
        /// The member that the configuration names.
        id: u64,
        /// The group that the configuration names.
        members: Vec<u64>,
    },
    /// The data of a group of one is damaged and there is no peer to repair it from.
    /// Nothing was changed on disk.
    #[error(
        "the only copy of this group in {} is damaged ({reason}); restore a backup, or move the directory away \
         to begin an empty group", path.display()
    )]
    OnlyCopyDamaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Damage was found while running. It is written down; the next open quarantines the
    /// files and rejoins the group.
    #[error("the replicated log in {} is damaged ({reason}); restart to rejoin the group", path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
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
    /// The log or the checkpoints refused an operation.
    #[error("the replicated log cannot go on")]
    Log(#[from] LogError),
    /// A checkpoint is not usable.
    #[error("checkpoint {index} is refused: {reason}")]
    Checkpoint {
        /// The index that it stands for.
        index: u64,
        /// Why not.
        reason: &'static str,
    },
    /// The group stopped earlier, after an error that leaves the disk in doubt.
    #[error("the group stopped earlier ({reason}); open it again")]
    Stopped {
        /// The first error.
        reason: String,
    },
}

impl ConsensusError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// True when only space is missing and the operation may be tried again.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => grey_disk::is_full(source),
            Self::Log(LogError::Full { .. }) => true,
            _ => false,
        }
    }
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another member leads, or none does at the moment.
    #[error("this member does not lead the group; ask member {leader:?}")]
    NotLeader {
        /// The leader, if it is known.
        leader: Option<u64>,
    },
    /// Too much is under way; try again after some of it has committed.
    #[error("{bytes} bytes in {proposals} proposals are under way; wait for some to commit")]
    Busy {
        /// Bytes proposed and not committed.
        bytes: usize,
        /// Proposals and reads not answered.
        proposals: usize,
    },
    /// The data is over [`crate::Config::max_entry_bytes`].
    #[error("an entry of {len} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// The entry's length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Why a message from a peer was not taken. None of these harms the group; the
/// driver counts them and may close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The bytes do not decode.
    #[error("a message from member {from} is malformed")]
    Malformed {
        /// Who the transport says sent it.
        from: u64,
        /// What is wrong.
        source: WireError,
    },
    /// The checksum is wrong.
    #[error("a message from member {from} was garbled on the way")]
    Garbled {
        /// Who the transport says sent it.
        from: u64,
    },
    /// The sender is not a member, or the message is for someone else.
    #[error("a message from member {from} names sender {sender} and receiver {receiver}, who are not this pair")]
    Misaddressed {
        /// Who the transport says sent it.
        from: u64,
        /// Who the message says sent it.
        sender: u64,
        /// Who it is for.
        receiver: u64,
    },
    /// The sender is configured with other members.
    #[error("member {from} is configured with another list of members; give all members the same list")]
    OtherGroup {
        /// The sender.
        from: u64,
    },
    /// The message contradicts what a correct peer could send.
    #[error("a message from member {from} is impossible: {what}")]
    Impossible {
        /// The sender.
        from: u64,
        /// What cannot be.
        what: &'static str,
    },
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The index is below the first one that is kept.
    #[error("entry {index} is gone; the log starts at {first}")]
    Trimmed {
        /// The index asked for.
        index: u64,
        /// The first index there is.
        first: u64,
    },
    /// The log cannot be read there.
    #[error("entry {index} cannot be read")]
    Log {
        /// The index asked for.
        index: u64,
        /// What the log said.
        source: LogError,
    },
    /// A record is not an entry.
    #[error("entry {index} does not decode")]
    Malformed {
        /// The index asked for.
        index: u64,
        /// What is wrong.
        source: WireError,
    },
}
