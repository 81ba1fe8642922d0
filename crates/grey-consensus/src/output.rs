//! What a group tells its driver: what to do after a poll, and how it is.

use bytes::Bytes;

/// What a member is in its group at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes proposals.
    Leader,
    /// Follows a leader or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Lost its memory and does not vote until it is readmitted.
    Recovering,
    /// New; waits for all other members before the group begins.
    Forming,
}

/// How a peer looks from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: u64,
    /// Messages pass.
    pub is_connected: bool,
    /// It lost its memory and is not readmitted yet.
    pub is_recovering: bool,
    /// It is configured with other members, which is a mistake to correct.
    pub is_other_group: bool,
    /// The last index it is known to have, on the leader; else what it last reported.
    pub matched: u64,
    /// Ticks since anything came from it.
    pub silent_ticks: u32,
}

/// What a member knows about itself and its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: u64,
    /// What it is at the moment.
    pub role: Role,
    /// Raft's term.
    pub term: u64,
    /// The leader, if it is known.
    pub leader: Option<u64>,
    /// Everything up to here is committed.
    pub commit: u64,
    /// Everything up to here was given out by [`crate::Group::poll`].
    pub applied: u64,
    /// The first entry that is kept for followers; a checkpoint stands right before it.
    pub first: u64,
    /// The last entry, committed or not.
    pub last: u64,
    /// The lowest entry that the state machine still needs.
    pub floor: u64,
    /// Bytes that the log occupies.
    pub log_bytes: u64,
    /// The disk is full: the group waits for space and takes nothing meanwhile.
    pub is_disk_full: bool,
    /// All members in ascending order.
    pub members: Vec<u64>,
    /// The other members.
    pub peers: Vec<PeerStatus>,
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log. Consecutive entries may be apart: the group has entries of its own.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// What was proposed.
    pub data: Bytes,
    /// The caller's token, where this boot of this member proposed it and still led.
    pub token: Option<u64>,
}

/// What [`crate::Group::poll`] asks the driver to do, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To be sent, in this order per receiver. May be lost.
    pub messages: Vec<(u64, Bytes)>,
    /// A checkpoint came from the leader: the state machine is replaced by it before
    /// `committed` is applied. Index and state.
    pub restored: Option<(u64, Vec<u8>)>,
    /// To be applied in this order.
    pub committed: Vec<Committed>,
    /// Everything up to here has been given out, the group's own entries included: the
    /// index of a checkpoint that is taken after `committed` is applied.
    pub applied: u64,
    /// Tokens whose proposal or read has ended with an unknown fate: the entry will never
    /// commit, or will commit without its token. The caller asks the leader again.
    pub dropped: Vec<u64>,
    /// Reads that may be served once `committed` is applied: token and index.
    pub reads: Vec<(u64, u64)>,
    /// Role, term or leader changed.
    pub role_changed: bool,
    /// There is more; poll again before waiting.
    pub more: bool,
}
