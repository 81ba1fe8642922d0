//! Bounds of the uplink protocol, each with its reason.

use grey_model::limits::BLOCK_BYTES_MAX;

/// Oldest protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol that this build speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// Bytes before a frame's body: length, checksum, version, type.
pub const PREFIX_BYTES: usize = 10;
/// Longest frame on the wire: a block and its prefix.
pub const FRAME_BYTES_MAX: usize = BLOCK_BYTES_MAX + PREFIX_BYTES;
/// Longest body of a frame that is not a block: a page of site reports with the longest names.
pub const CONTROL_BODY_BYTES_MAX: usize = 512 * 1024;
/// Longest body that is read before the hello was accepted: a stranger may not make us hold more.
pub const HELLO_BODY_BYTES_MAX: usize = 4 * 1024;
/// Longest free text (agent, reason, message) in bytes: one line of a log.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Longest `host:port` in bytes: a DNS name and a port.
pub const ADDRESS_BYTES_MAX: usize = 262;
/// Ranges in one acknowledgement; more go into the next frame.
pub const ACK_RANGES_MAX: usize = 1_024;
/// Streams in one welcome: the sender's own lanes, with room for lives before.
pub const COVERAGE_KEYS_MAX: usize = 16;
/// Ranges per stream in one welcome; what is left out is only sent again and recognised.
pub const COVERAGE_RANGES_MAX: usize = 1_024;
/// Site reports in one frame: a page of a thousand-site hub.
pub const SITES_MAX: usize = 1_000;
/// Blocks that a receiver holds unanswered per connection, whatever their size.
pub const PENDING_BLOCKS_MAX: usize = 8_192;
/// Blocks that a sender keeps in flight, whatever their size; half of what a receiver bears.
pub const IN_FLIGHT_BLOCKS_MAX: usize = PENDING_BLOCKS_MAX / 2;
/// Acknowledged positions above an unacknowledged one that a sender remembers per lane.
pub const ACKED_AHEAD_MAX: usize = 4 * IN_FLIGHT_BLOCKS_MAX;
/// Pieces of one block that may be acknowledged apart; our receiver never splits one.
pub const ACK_PIECES_MAX: usize = 64;
/// By how much a sender may exceed the window: one block when nothing is in
/// flight, and one critical block when no critical one is.
pub const WINDOW_SLACK_BYTES: u64 = 2 * BLOCK_BYTES_MAX as u64;
/// Blocks that a sender passes over in one step because they are acknowledged already.
pub const SKIPS_PER_STEP_MAX: usize = 64;
/// Frames of control that a side queues before it gives up on the connection.
pub const CONTROL_QUEUE_MAX: usize = 256;
/// Acknowledged blocks that a receiver keeps for a sender that does not read.
pub const UNREAD_BLOCKS_MAX: usize = 8 * PENDING_BLOCKS_MAX;
