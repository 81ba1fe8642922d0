//! What an upper tier replicates: the commands of its state machine.
//!
//! Layout: one tag byte, then a block as it is (0), or a postcard body.

use bytes::{BufMut, Bytes, BytesMut};
use grey_model::Lane;

use crate::presence::SiteReport;

/// Site reports in one command: one heartbeat round of a large region.
const REPORTS_MAX: usize = 10_000;

const BLOCK: u8 = 0;
const FORWARDED: u8 = 1;
const SITES: u8 = 2;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A block from a tier below.
    Block(Bytes),
    /// Every block of the lane at or below this log index was acknowledged by the tier above.
    Forwarded {
        /// The lane.
        lane: Lane,
        /// The log index, inclusive.
        upto: u64,
    },
    /// How sites are.
    Sites(Vec<SiteReport>),
}

/// Why bytes are not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No bytes at all.
    #[error("command is empty")]
    Empty,
    /// The first byte names no command.
    #[error("command tag {0} is unknown; a newer node may have written it, upgrade this one")]
    Tag(u8),
    /// The body is malformed.
    #[error("command {tag} is malformed: {reason}")]
    Body {
        /// The command's tag.
        tag: u8,
        /// What was wrong.
        reason: String,
    },
}

impl Command {
    /// Writes the command.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Block(block) => {
                out.reserve(1 + block.len());
                out.put_u8(BLOCK);
                out.put_slice(block);
            }
            Self::Forwarded { lane, upto } => {
                out.put_u8(FORWARDED);
                out.put_u8(*lane as u8);
                out.put_u64_le(*upto);
            }
            Self::Sites(reports) => {
                out.put_u8(SITES);
                out.put_slice(&postcard::to_stdvec(reports).unwrap_or_default());
            }
        }
        out.freeze()
    }

    /// Reads a command. A block is a slice of the input, not a copy.
    pub fn decode(data: &Bytes) -> Result<Self, CommandError> {
        let (&tag, body) = data.split_first().ok_or(CommandError::Empty)?;
        let malformed = |reason: &dyn std::fmt::Display| CommandError::Body { tag, reason: reason.to_string() };
        match tag {
            BLOCK => Ok(Self::Block(data.slice(1..))),
            FORWARDED => {
                let (&lane, upto) = body.split_first().ok_or_else(|| malformed(&"it has no lane"))?;
                let lane = Lane::from_u8(lane).ok_or_else(|| malformed(&"its lane is unknown"))?;
                let upto = upto.try_into().map_err(|_| malformed(&"its index is not eight bytes"))?;
                Ok(Self::Forwarded { lane, upto: u64::from_le_bytes(upto) })
            }
            SITES => {
                let reports: Vec<SiteReport> = postcard::from_bytes(body).map_err(|e| malformed(&e))?;
                if reports.len() > REPORTS_MAX {
                    return Err(malformed(&"it holds too many site reports"));
                }
                Ok(Self::Sites(reports))
            }
            tag => Err(CommandError::Tag(tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_round_trip() {
        let commands = [
            Command::Block(Bytes::from_static(b"block")),
            Command::Forwarded { lane: Lane::Bulk, upto: u64::MAX },
            Command::Sites(Vec::new()),
        ];
        for command in commands {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Command::decode(&Bytes::from(bytes));
        }
    }
}
