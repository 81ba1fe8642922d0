//! A group's settings and their limits.

use std::ops::Range;

use grey_log::LogConfig;
use grey_model::limits::BLOCK_BYTES_MAX;

use crate::ConsensusError;

/// Most members a group may have: beyond seven a quorum costs more than it protects.
pub const MEMBERS_MAX: usize = 7;
/// Largest state of a checkpoint in bytes: it travels to a follower and is held in memory once.
pub const CHECKPOINT_BYTES_MAX: usize = 64 << 20;
/// Largest message that [`crate::Group::poll`] gives out, beyond the largest entry, in bytes.
pub const MESSAGE_OVERHEAD_BYTES_MAX: usize = 2 << 20;
/// Entries beyond a block's bytes carry its envelope in the tier's own command.
const ENTRY_ENVELOPE_BYTES_MAX: usize = 64 << 10;

/// How one member of a group behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// This member; not 0, and one of `members`.
    pub id: u64,
    /// All members, this one included, the same list on each; at most [`MEMBERS_MAX`].
    pub members: Vec<u64>,
    /// How often the driver calls [`crate::Group::tick`], in milliseconds. The group
    /// itself counts ticks only.
    pub tick_ms: u64,
    /// A follower that hears no leader for a number of ticks out of this range stands for election.
    pub election_ticks: Range<u32>,
    /// A leader says so every this many ticks.
    pub heartbeat_ticks: u32,
    /// Largest data of one entry in bytes.
    pub max_entry_bytes: usize,
    /// Bytes proposed and not committed before [`crate::ProposeError::Busy`], and bytes
    /// on the way to one follower.
    pub max_inflight_bytes: usize,
    /// **Must be fresh randomness on every open**: election jitter, and the names of this
    /// boot and of a new data directory, are drawn from it. In a simulation it is drawn from the run's seed.
    pub seed: u64,
    /// Checkpoints that are kept beside the log's base; at least 2.
    pub checkpoints_keep: usize,
    /// The log's segments.
    pub log: LogConfig,
}

impl Config {
    /// The defaults: 50 ms ticks, elections after 500 to 1,000 ms, heartbeats every 100 ms,
    /// entries of one block, 32 MiB under way.
    pub fn new(id: u64, members: Vec<u64>, seed: u64) -> Self {
        Self {
            id,
            members,
            tick_ms: 50,
            election_ticks: 10..20,
            heartbeat_ticks: 2,
            max_entry_bytes: BLOCK_BYTES_MAX + ENTRY_ENVELOPE_BYTES_MAX,
            max_inflight_bytes: 32 << 20,
            seed,
            checkpoints_keep: 8,
            log: LogConfig::default(),
        }
    }

    /// Largest message that a peer may send, in bytes: the transport's frame limit.
    pub fn message_bytes_max(&self) -> usize {
        self.max_entry_bytes + MESSAGE_OVERHEAD_BYTES_MAX
    }

    pub(crate) fn validate(&self) -> Result<(), ConsensusError> {
        let refuse = |what, value: String, allowed| Err(ConsensusError::Config { what, value, allowed });
        if self.id == 0 || self.members.contains(&0) {
            return refuse("member id", "0".into(), "ids start at 1");
        }
        if !self.members.contains(&self.id) {
            return refuse("members", format!("{:?}", self.members), "the list must name this member");
        }
        let mut sorted = self.members.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != self.members.len() || sorted.len() > MEMBERS_MAX {
            return refuse("members", format!("{:?}", self.members), "1 to 7 different ids");
        }
        if self.heartbeat_ticks == 0 || self.election_ticks.start <= self.heartbeat_ticks {
            return refuse("heartbeat_ticks", self.heartbeat_ticks.to_string(), "1 to below election_ticks");
        }
        if self.election_ticks.start >= self.election_ticks.end || self.election_ticks.end > 1 << 20 {
            return refuse("election_ticks", format!("{:?}", self.election_ticks), "a range that is not empty");
        }
        let record_max = self.log.record_bytes_max.saturating_sub(crate::entry::RECORD_OVERHEAD_BYTES_MAX);
        if self.max_entry_bytes == 0 || self.max_entry_bytes > record_max {
            return refuse("max_entry_bytes", self.max_entry_bytes.to_string(), "1 to the log's record limit");
        }
        if self.max_inflight_bytes < self.max_entry_bytes {
            return refuse("max_inflight_bytes", self.max_inflight_bytes.to_string(), "at least max_entry_bytes");
        }
        if self.checkpoints_keep < 2 {
            return refuse("checkpoints_keep", self.checkpoints_keep.to_string(), "at least 2");
        }
        Ok(())
    }

    /// The members in ascending order: the one order that all of them agree on.
    pub(crate) fn members_sorted(&self) -> Vec<u64> {
        let mut members = self.members.clone();
        members.sort_unstable();
        members
    }
}
