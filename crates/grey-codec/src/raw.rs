//! Blocks of opaque byte strings, for queues that carry something else than events.
//!
//! The frame is the same, so that sequences, accounts and the checksum work
//! as ever; the kinds in its header are 0, which no block of events has.

use std::ops::Range;

use bytes::Bytes;
use grey_model::limits::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX};
use grey_model::{Compression, Disposition, Epoch, HeaderView, Lane, Reader, Seq, SiteId, Stamp, Writer};

use crate::columns::Payload;
use crate::compress::{Effort, compress, decompress};
use crate::error::CodecError;
use crate::frame::{Content, Frame, carrying_seqs};
use crate::limit::LimitError;

/// Version of the layout of opaque payloads.
const LAYOUT: u8 = 3;
/// Longest opaque payload in bytes: four and more fit into a block, which is one frame of the uplink.
pub const RAW_PAYLOAD_BYTES_MAX: usize = 1024 * 1024 - 1024;
/// Most bytes of a payload's length.
const LENGTH_BYTES_MAX: usize = 3;

/// Builds blocks of opaque payloads, one after the other, without a gap between their sequences.
///
/// A payload that does not compress costs one byte more below 128 bytes, two below 16 KiB and three above.
/// Deterministic: the same calls give the same bytes.
#[derive(Debug)]
pub struct RawBuilder {
    frame: Frame,
    compression: Compression,
    effort: Effort,
    lens: Vec<u32>,
    bytes: Vec<u8>,
}

impl RawBuilder {
    /// A builder whose first block starts at `next_seq`.
    pub fn new(site: SiteId, epoch: Epoch, lane: Lane, compression: Compression, next_seq: Seq) -> Self {
        let frame = Frame::new(site, epoch, lane, next_seq);
        Self { frame, compression, effort: Effort::default(), lens: Vec::new(), bytes: Vec::new() }
    }

    /// How hard the blocks are compressed from here on; [`Effort::Normal`] unless told.
    #[must_use]
    pub fn with_effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    /// Gives the payload, which may be empty, the next sequence and returns it.
    ///
    /// # Errors
    ///
    /// [`CodecError::Limit`] when it is over [`RAW_PAYLOAD_BYTES_MAX`], [`CodecError::Full`]
    /// when it does not fit into this block any more. The builder is unchanged then.
    pub fn push(&mut self, payload: &[u8]) -> Result<Seq, CodecError> {
        let (found, limit) = (payload.len(), RAW_PAYLOAD_BYTES_MAX);
        if found > limit {
            return Err(LimitError { what: "payload bytes", found, limit }.into());
        }
        let fits = self.bytes_estimate() + LENGTH_BYTES_MAX + found <= BLOCK_BYTES_MAX;
        if !fits || self.payloads() == BLOCK_EVENTS_MAX || self.frame.is_full() {
            return Err(CodecError::Full);
        }
        self.lens.push(found as u32);
        self.bytes.extend_from_slice(payload);
        Ok(self.frame.take())
    }

    /// Accounts for the next `n` sequences as [`BlockBuilder::account`](crate::BlockBuilder::account) does.
    #[must_use = "sequences that did not fit must be accounted for in the next block"]
    pub fn account(&mut self, disposition: Disposition, n: u64) -> u64 {
        self.frame.account(disposition, n, self.payload_bytes_max())
    }

    /// How many sequences the block covers so far.
    pub fn span(&self) -> u32 {
        self.frame.span()
    }

    /// How many payloads the block holds so far.
    pub fn payloads(&self) -> u32 {
        self.lens.len() as u32
    }

    /// The sequence that the next payload gets.
    pub fn next_seq(&self) -> Seq {
        self.frame.next_seq()
    }

    /// An upper bound of the block's size before compression, in bytes.
    pub fn bytes_estimate(&self) -> usize {
        self.frame.bytes_max() + self.payload_bytes_max()
    }

    fn payload_bytes_max(&self) -> usize {
        1 + self.lens.len() * LENGTH_BYTES_MAX + self.bytes.len()
    }

    /// Closes the block and continues at the next sequence; `None` when no sequence was covered.
    /// `intake` is the position that the lane is complete up to, as the caller counts.
    pub fn finish(&mut self, stamp: Stamp, intake: u64) -> Option<Bytes> {
        if self.span() == 0 {
            return None;
        }
        let mut payload = Payload::default();
        if !self.lens.is_empty() {
            let out = &mut payload.bytes;
            out.reserve(self.payload_bytes_max());
            out.push(LAYOUT);
            self.lens.iter().for_each(|&len| out.put_varint(len.into()));
            payload.cuts.push(out.len());
            out.extend_from_slice(&self.bytes);
        }
        let (compression, stored) = compress(self.compression, self.effort, &payload);
        let content = Content {
            events: self.payloads(),
            kinds: 0,
            time_min_ms: 0,
            time_max_ms: 0,
            compression,
            raw_len: payload.bytes.len(),
            payload: &stored,
        };
        let block = self.frame.finish(&content, stamp, intake);
        self.lens.clear();
        self.bytes.clear();
        Some(block)
    }
}

/// The opaque payloads of a block with their sequences.
#[derive(Debug, Clone)]
pub struct RawPayloads {
    bytes: Bytes,
    places: Vec<(Seq, Range<u32>)>,
}

impl RawPayloads {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True for a block of accounts alone.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// One payload, counted from the first, with its sequence.
    pub fn get(&self, at: usize) -> Option<(Seq, &[u8])> {
        let (seq, place) = self.places.get(at)?;
        Some((*seq, &self.bytes[place.start as usize..place.end as usize]))
    }

    /// The payloads in order of sequence; each is a part of one shared buffer.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Seq, Bytes)> + '_ {
        self.places.iter().map(|(seq, place)| (*seq, self.bytes.slice(place.start as usize..place.end as usize)))
    }
}

/// Reads the payloads of a parsed block that a [`RawBuilder`] wrote.
///
/// # Errors
///
/// [`CodecError::EventPayload`] for a block of events; else what is malformed or over its limit.
pub fn raw_payloads(view: &HeaderView<'_>) -> Result<RawPayloads, CodecError> {
    let header = &view.header;
    if header.kinds != 0 {
        return Err(CodecError::EventPayload);
    }
    if header.payload_raw_len as usize > BLOCK_BYTES_MAX {
        return Err(CodecError::Contradiction { what: "a payload larger than a block" });
    }
    let raw = decompress(header.compression, view.payload, header.payload_raw_len)?;
    if header.events == 0 && raw.is_empty() {
        return Ok(RawPayloads { bytes: Bytes::new(), places: Vec::new() });
    }
    let mut reader = Reader::new(&raw);
    let layout = reader.u8()?;
    if layout != LAYOUT {
        return Err(CodecError::Layout(layout));
    }
    // Every payload takes a byte for its length.
    let mut places = Vec::with_capacity((header.events as usize).min(reader.remaining()));
    let mut end = 0_u32;
    for seq in carrying_seqs(header).take(header.events as usize) {
        let start = end;
        end += reader.count("payload bytes", RAW_PAYLOAD_BYTES_MAX as u64)? as u32;
        if end as usize > BLOCK_BYTES_MAX {
            return Err(CodecError::Contradiction { what: "payloads longer than a block" });
        }
        places.push((seq, start..end));
    }
    if places.len() != header.events as usize || reader.remaining() != end as usize {
        return Err(CodecError::Contradiction { what: "payloads and their lengths" });
    }
    let start = reader.offset();
    let bytes = Bytes::from(raw.into_owned()).slice(start..);
    Ok(RawPayloads { bytes, places })
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::{BlockHeader, Event};
    use proptest::prelude::*;

    fn builder(compression: Compression) -> RawBuilder {
        RawBuilder::new(SiteId::new("plant-7").unwrap(), Epoch(3), Lane::Normal, compression, 10)
    }

    fn compression() -> impl Strategy<Value = Compression> {
        prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd])
    }

    proptest! {
        #[test]
        fn any_payloads_round_trip_and_no_damage_panics(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            compression in compression(), gap in 1..5_u64, at: prop::sample::Index, bit in 0..8,
        ) {
            let mut builder = builder(compression).with_effort(Effort::Hard);
            prop_assert_eq!(builder.account(Disposition::Deduplicated, gap), gap);
            for (payload, seq) in payloads.iter().zip(10 + gap..) {
                prop_assert_eq!(builder.push(payload).unwrap(), seq);
            }
            let estimate = builder.bytes_estimate();
            let block = builder.finish(Stamp::default(), 7).unwrap();
            prop_assert!(block.len() <= estimate);
            let view = BlockHeader::parse(&block).unwrap();
            let found: Vec<(Seq, Bytes)> = raw_payloads(&view).unwrap().iter().collect();
            let expected: Vec<(Seq, Bytes)> = (10 + gap..).zip(payloads.into_iter().map(Bytes::from)).collect();
            prop_assert_eq!(found, expected);
            for len in 0..view.payload.len() {
                let cut = view.header.encode(&view.payload[..len]);
                prop_assert!(raw_payloads(&BlockHeader::parse(&cut).unwrap()).is_err());
            }
            if !view.payload.is_empty() {
                let mut payload = view.payload.to_vec();
                payload[at.index(view.payload.len())] ^= 1_u8 << bit;
                let _ = raw_payloads(&BlockHeader::parse(&view.header.encode(&payload)).unwrap());
            }
        }
    }

    #[test]
    fn what_does_not_compress_costs_at_most_two_bytes_more() {
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..1_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let mut builder = builder(Compression::Zstd);
        let mut payloads = 0;
        while builder.push(&noise[payloads % 7..]).is_ok() {
            payloads += 1;
        }
        let len = |n: usize| noise.len() - n % 7;
        let sum: usize = (0..payloads).map(len).sum();
        let block = builder.finish(Stamp::default(), 0).unwrap();
        assert!(payloads > 4_000 && block.len() < sum + 2 * payloads + 128, "{payloads} {} {sum}", block.len());
    }

    #[test]
    fn events_and_opaque_payloads_are_not_taken_for_each_other() {
        let mut raw = builder(Compression::None);
        raw.push(b"opaque").unwrap();
        let block = raw.finish(Stamp::default(), 0).unwrap();
        assert_eq!(crate::decode_block(&block), Err(CodecError::OpaquePayloads));
        let site = SiteId::new("plant-7").unwrap();
        let mut events = crate::BlockBuilder::new(site, Epoch(3), Lane::Normal, Compression::None, 0);
        events.push(&Event::reading("d", "s", 1.0, 0)).unwrap();
        let block = events.finish(Stamp::default(), 0).unwrap();
        let view = BlockHeader::parse(&block).unwrap();
        assert_eq!(raw_payloads(&view).unwrap_err(), CodecError::EventPayload);
    }

    #[test]
    fn limits_leave_the_builder_as_it_was() {
        let mut builder = builder(Compression::Lz4);
        assert!(matches!(builder.push(&vec![0; RAW_PAYLOAD_BYTES_MAX + 1]), Err(CodecError::Limit(_))));
        let large = vec![0; RAW_PAYLOAD_BYTES_MAX];
        let fitted = (0..).take_while(|_| builder.push(&large).is_ok()).count();
        assert_eq!((fitted, builder.payloads(), builder.next_seq()), (4, 4, 14));
        assert_eq!(builder.push(&large), Err(CodecError::Full));
        let block = builder.finish(Stamp::default(), 0).unwrap();
        assert_eq!(raw_payloads(&BlockHeader::parse(&block).unwrap()).unwrap().len(), 4);
        assert!(builder.finish(Stamp::default(), 0).is_none());
        assert_eq!(builder.push(&[]), Ok(14));
    }
}
