//! What a sender counts and shows.

use grey_link::{BudgetUsage, LinkState};

use super::drain::DrainState;

/// Counters of a sender since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderStats {
    /// Sessions that were welcomed.
    pub sessions: u64,
    /// Attempts and sessions that failed.
    pub failures: u64,
    /// Redirects received.
    pub redirects: u64,
    /// Rejections received.
    pub rejects: u64,
    /// Bytes sent, framing included.
    pub bytes_out: u64,
    /// Bytes received, framing included.
    pub bytes_in: u64,
    /// Blocks sent; one that had to be sent again counts again.
    pub blocks_out: u64,
    /// Events in them.
    pub events_out: u64,
    /// Blocks acknowledged.
    pub blocks_acked: u64,
    /// Events in them.
    pub events_acked: u64,
    /// Blocks that were not sent because the peer had them already.
    pub blocks_covered: u64,
}

/// The session that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The address that was dialled.
    pub address: String,
    /// The peer's node id in its group.
    pub node: u64,
    /// The term that it leads.
    pub term: u64,
    /// The protocol spoken.
    pub protocol: u16,
    /// When the session was established, in monotonic milliseconds.
    pub since_ms: u64,
    /// Smoothed round-trip time of heartbeats in milliseconds, once one came back.
    pub rtt_ms: Option<u64>,
    /// Bytes that may be in flight as the receiver allows.
    pub window_bytes: u64,
    /// Bytes that keep the link full as far as is known: beyond them nothing more is sent.
    pub in_flight_max_bytes: u64,
    /// What the link carried at best in the last seconds in which it was kept full, in bytes per second.
    pub goodput_bytes_per_s: Option<u64>,
    /// True while blocks of before the session wait besides new ones.
    pub has_backlog: bool,
    /// Bytes in flight.
    pub in_flight_bytes: u64,
    /// Blocks in flight.
    pub in_flight_blocks: usize,
}

/// Everything that a status page says about an uplink. Times are monotonic milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkStatus {
    /// How the link does.
    pub state: LinkState,
    /// Since when.
    pub since_ms: u64,
    /// The session that stands, if one does.
    pub session: Option<SessionStatus>,
    /// Failed attempts since the last stable session.
    pub attempt: u32,
    /// When the next attempt is made, while waiting for it.
    pub next_dial_ms: Option<u64>,
    /// Why the last session or attempt ended.
    pub last_failure: Option<String>,
    /// When the peer last acknowledged a block.
    pub last_ack_ms: Option<u64>,
    /// How what waits gets away.
    pub drain: DrainState,
    /// What of the budget is used: the owner saves it.
    pub budget_usage: BudgetUsage,
    /// The counters.
    pub stats: SenderStats,
}
