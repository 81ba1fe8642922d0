//! Blocks of opaque byte strings, for queues that carry something else than events.
//!
//! The frame is the same, so that sequences, accounts and the checksum work
//! as ever; the kinds in its header are 0, which no block of events has.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use grey_model::limits::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX};
use grey_model::{BlockHeader, Compression, Disposition, Epoch, HeaderView, Lane, Reader, Seq, SiteId, Stamp, Writer};

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
/// After so many blocks in a row that did not get smaller, not every one is tried.
const MISSES_MAX: u32 = 4;
/// But one of so many.
const TRY_EVERY: u32 = 8;

/// Builds blocks of opaque payloads, one after the other, without a gap between their sequences.
///
/// A payload that does not compress costs one byte more below 128 bytes, two below 16 KiB and three above.
/// After four blocks that compression did not make smaller it is tried with every eighth only, until
/// it does again; [`Effort::Hard`] tries each.
/// Deterministic: the same calls give the same bytes.
#[derive(Debug)]
pub struct RawBuilder {
    frame: Frame,
    compression: Compression,
    effort: Effort,
    /// Blocks in a row that did not get smaller.
    misses: u32,
    lens: Vec<u32>,
    bytes: Vec<u8>,
}

impl RawBuilder {
    /// A builder whose first block starts at `next_seq`.
    pub fn new(site: SiteId, epoch: Epoch, lane: Lane, compression: Compression, next_seq: Seq) -> Self {
        let frame = Frame::new(site, epoch, lane, next_seq);
        Self { frame, compression, effort: Effort::default(), misses: 0, lens: Vec::new(), bytes: Vec::new() }
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
        let mut head = Vec::new();
        if !self.lens.is_empty() {
            head.reserve(self.payload_bytes_max() - self.bytes.len());
            head.push(LAYOUT);
            self.lens.iter().for_each(|&len| head.put_varint(len.into()));
        }
        let raw_len = head.len() + self.bytes.len();
        let packed = self.pack(&head);
        let (compression, payload): (_, &[&[u8]]) = match &packed {
            Some(packed) => (self.compression, &[packed]),
            None => (Compression::None, &[&head, &self.bytes]),
        };
        let (events, kinds) = (self.payloads(), 0);
        let content = Content { events, kinds, time_min_ms: 0, time_max_ms: 0, compression, raw_len, payload };
        let block = self.frame.finish(&content, stamp, intake);
        self.lens.clear();
        self.bytes.clear();
        Some(block)
    }

    /// The payload compressed, if that makes it smaller.
    fn pack(&mut self, head: &[u8]) -> Option<Vec<u8>> {
        let is_due = self.misses < MISSES_MAX || self.misses.is_multiple_of(TRY_EVERY) || self.effort == Effort::Hard;
        let is_asked = self.compression != Compression::None && !head.is_empty();
        let packed = if is_asked && is_due {
            let payload = Payload { bytes: [head, &self.bytes].concat(), cuts: vec![head.len()] };
            match compress(self.compression, self.effort, &payload) {
                (Compression::None, _) => None,
                (_, packed) => Some(packed.into_owned()),
            }
        } else {
            None
        };
        self.misses = if packed.is_some() { 0 } else { self.misses.wrapping_add(1) };
        packed
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
    payloads(view, Bytes::copy_from_slice)
}

/// Checks a whole block that a [`RawBuilder`] wrote and reads its payloads; what is not
/// compressed is not copied, so that it keeps the memory of `block` alive.
///
/// # Errors
///
/// As [`raw_payloads`]; [`CodecError::Block`] when it is no intact block.
pub fn decode_raw(block: &Bytes) -> Result<(BlockHeader, RawPayloads), CodecError> {
    let view = BlockHeader::parse(block)?;
    let payloads = payloads(&view, |plain| block.slice_ref(plain))?;
    Ok((view.header, payloads))
}

/// `keep` makes what is not compressed last.
fn payloads(view: &HeaderView<'_>, keep: impl Fn(&[u8]) -> Bytes) -> Result<RawPayloads, CodecError> {
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
    let bytes = match raw {
        Cow::Borrowed(plain) => keep(&plain[start..]),
        Cow::Owned(raw) => Bytes::from(raw).slice(start..),
    };
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
            prop_assert_eq!(&found, &expected);
            let (header, shared) = decode_raw(&block).unwrap();
            prop_assert_eq!((&header, shared.iter().collect::<Vec<_>>()), (&view.header, expected));
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
    fn what_is_not_compressed_is_not_copied_and_compression_is_tried_again() {
        let noise: Vec<u8> = (0..250_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut builder = builder(Compression::Lz4);
        let mut block = |payload: &[u8]| {
            builder.push(payload).unwrap();
            builder.finish(Stamp::default(), 0).unwrap()
        };
        for _ in 0..20 {
            let plain = block(&noise);
            let (header, payloads) = decode_raw(&plain).unwrap();
            let (_, payload) = payloads.get(0).unwrap();
            assert_eq!((header.compression, payload), (Compression::None, &noise[..]));
            assert!(plain.as_ptr_range().contains(&payload.as_ptr()));
        }
        let lens: Vec<usize> = (0..12).map(|_| block(&[7; 1_000]).len()).collect();
        let first = lens.iter().position(|len| *len < 500).unwrap();
        assert!(first > 0 && first < TRY_EVERY as usize && lens[first..].iter().all(|len| *len < 500), "{lens:?}");
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
