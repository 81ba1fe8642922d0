//! Reading a block back into its events.

use grey_model::{BlockHeader, Event, Reader, Seq};

use crate::compress::decompress;
use crate::error::CodecError;
use crate::row;

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
    let raw = decompress(header.compression, payload, header.payload_raw_len)?;
    let mut reader = Reader::new(&raw);
    let mut events = Vec::with_capacity(header.events as usize);
    let mut seqs = event_seqs(header);
    for _ in 0..header.events {
        let event = row::decode(&mut reader)?;
        let seq = seqs.next().ok_or(CodecError::Contradiction { what: "more events than sequences" })?;
        events.push(SeqEvent { seq, event });
    }
    if !reader.is_empty() {
        return Err(reader.invalid("trailing bytes").into());
    }
    Ok(events)
}

/// The sequences that carry an event: those of the span without an account.
fn event_seqs(header: &BlockHeader) -> impl Iterator<Item = Seq> + '_ {
    let mut at = header.range().start;
    let gaps = header.accounts.iter().map(move |account| {
        let gap = at..account.range.start;
        at = account.range.end;
        gap
    });
    let after = header.accounts.last().map_or(header.range().start, |account| account.range.end);
    gaps.flatten().chain(after..header.range().end)
}
