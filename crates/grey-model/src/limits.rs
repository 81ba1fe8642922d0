//! Bounds that hold on every tier, each with its reason.

/// Longest site, hub, device or stream name in bytes: fits a topic level and a metric label.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest device-given event id in bytes: a UUID with a generous prefix.
pub const EVENT_ID_BYTES_MAX: usize = 256;
/// Longest unit in bytes.
pub const UNIT_BYTES_MAX: usize = 32;
/// Attributes an event may carry: a label set, not a document.
pub const ATTRIBUTES_MAX: usize = 32;
/// Numbers in one vector value: one second of 64 kHz vibration.
pub const VECTOR_LEN_MAX: usize = 65_536;
/// Longest text value in bytes.
pub const TEXT_BYTES_MAX: usize = 65_536;
/// Events in one block: bounds the decoder's memory.
pub const BLOCK_EVENTS_MAX: u32 = 65_536;
/// Encoded size of one block in bytes: one Raft entry, one uplink frame.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Accounts (runs of sequences that carry no event) in one block.
pub const BLOCK_ACCOUNTS_MAX: u32 = 65_536;
/// Decompressed size of one block's payload in bytes: stops decompression bombs.
pub const BLOCK_PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
