//! Why bytes could not become events, or events bytes.

use grey_model::{BlockError, WireError};

use crate::limit::LimitError;

/// Why encoding or decoding was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The frame around the payload is damaged or of an unknown version.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A field of the payload or row is malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The event is over a limit that every tier relies on. The builder is unchanged:
    /// account for the event's sequence instead.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The event does not fit into this block any more. Finish the block and push the event again.
    #[error("the block is full: finish it, then push the event to the next one")]
    Full,
    /// The payload's layout is of a version that this build does not know.
    #[error("payload layout version {0} is unknown; upgrade the receiver first")]
    Layout(u8),
    /// The payload does not decompress to what its header says.
    #[error("{method} payload of {stored} bytes does not decompress to the {expected} bytes its header names")]
    Compression {
        /// The compression named by the header.
        method: &'static str,
        /// Bytes of the payload as stored.
        stored: usize,
        /// Bytes before compression, as the header says.
        expected: u32,
    },
    /// The block holds opaque byte strings where events were expected.
    #[error("the block holds opaque payloads and no events; read it with raw_payloads")]
    OpaquePayloads,
    /// The block holds events where opaque byte strings were expected.
    #[error("the block holds events and no opaque payloads; read it with decode_block")]
    EventPayload,
    /// Header and payload contradict each other.
    #[error("the payload contradicts its header: {what}")]
    Contradiction {
        /// What does not agree.
        what: &'static str,
    },
}
