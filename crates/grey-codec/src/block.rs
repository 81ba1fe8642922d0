//! Reading a block back into its events.

use grey_model::limits::BLOCK_BYTES_MAX;
use grey_model::{BlockHeader, Event, Seq};

use crate::compress::decompress;
use crate::error::CodecError;
use crate::frame::carrying_seqs;
use crate::payload;

/// An event and its place in its lane.
#[derive(Debug, Clone, PartialEq)]
pub struct SeqEvent {
    /// The sequence.
    pub seq: Seq,
    /// The event.
    pub event: Event,
}

/// Checks a whole block and reads its header and events, in sequence order.
pub fn decode_block(block: &[u8]) -> Result<(BlockHeader, Vec<SeqEvent>), CodecError> {
    let view = BlockHeader::parse(block)?;
    let events = decode_payload(&view.header, view.payload)?;
    Ok((view.header, events))
}

/// Reads the events of a payload whose header was parsed already, in sequence order.
pub fn decode_payload(header: &BlockHeader, payload: &[u8]) -> Result<Vec<SeqEvent>, CodecError> {
    if header.payload_raw_len as usize > BLOCK_BYTES_MAX {
        // What a builder writes is at most a whole block before compression.
        return Err(CodecError::Contradiction { what: "a payload larger than a block" });
    }
    if header.kinds == 0 && header.events > 0 {
        return Err(CodecError::OpaquePayloads);
    }
    let raw = decompress(header.compression, payload, header.payload_raw_len)?;
    if header.events == 0 {
        return if raw.is_empty() {
            Ok(Vec::new())
        } else {
            Err(CodecError::Contradiction { what: "a payload without events" })
        };
    }
    let events = payload::decode(&raw, header.events as usize, carrying_seqs(header))?;
    check_summary(header, &events)?;
    Ok(events)
}

/// Tiers above index blocks by these, so they must be true.
fn check_summary(header: &BlockHeader, events: &[SeqEvent]) -> Result<(), CodecError> {
    let times = || events.iter().map(|found| found.event.device_time_ms);
    if times().min() != Some(header.time_min_ms) || times().max() != Some(header.time_max_ms) {
        return Err(CodecError::Contradiction { what: "device times" });
    }
    if events.iter().fold(0, |kinds, found| kinds | 1 << found.event.kind as u8) != header.kinds {
        return Err(CodecError::Contradiction { what: "kinds" });
    }
    Ok(())
}
