//! Collects one lane's sequences until they are worth a block.

use bytes::Bytes;
use grey_model::limits::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX};
use grey_model::{Compression, Disposition, Epoch, Event, Lane, Seq, SiteId, Stamp};

use crate::columns::{Columns, Payload};
use crate::compress::{Effort, compress};
use crate::error::CodecError;
use crate::frame::{Content, Frame};
use crate::limit::check;
use crate::paged;

/// Builds the blocks of one lane, one after the other, without a gap between their sequences.
///
/// Deterministic: the same calls give the same bytes.
#[derive(Debug)]
pub struct BlockBuilder {
    frame: Frame,
    compression: Compression,
    effort: Effort,
    kinds: u8,
    time_min_ms: i64,
    time_max_ms: i64,
    columns: Columns,
}

impl BlockBuilder {
    /// A builder whose first block starts at `next_seq`.
    pub fn new(site: SiteId, epoch: Epoch, lane: Lane, compression: Compression, next_seq: Seq) -> Self {
        Self {
            frame: Frame::new(site, epoch, lane, next_seq),
            compression,
            effort: Effort::default(),
            kinds: 0,
            time_min_ms: 0,
            time_max_ms: 0,
            columns: Columns::new(),
        }
    }

    /// How hard the blocks are compressed from here on; [`Effort::Normal`] unless told.
    #[must_use]
    pub fn with_effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    /// Gives the event the next sequence and returns it.
    ///
    /// # Errors
    ///
    /// [`CodecError::Limit`] when the event is over a limit, [`CodecError::Full`]
    /// when it does not fit into this block any more. The builder is unchanged then.
    /// An event within the limits always fits into an empty block.
    pub fn push(&mut self, event: &Event) -> Result<Seq, CodecError> {
        check(event)?;
        let fits = self.bytes_estimate() + Columns::bytes_max_of(event) <= BLOCK_BYTES_MAX;
        if !fits || self.events() == BLOCK_EVENTS_MAX || self.frame.is_full() {
            return Err(CodecError::Full);
        }
        self.columns.push(event);
        let time = event.device_time_ms;
        let first = self.events() == 1;
        self.time_min_ms = if first { time } else { self.time_min_ms.min(time) };
        self.time_max_ms = if first { time } else { self.time_max_ms.max(time) };
        self.kinds |= 1 << event.kind as u8;
        Ok(self.frame.take())
    }

    /// Accounts for the next `n` sequences, which carry no event, and returns
    /// how many of them fitted: fewer than `n` only when the block is full.
    /// Finish it then and account for the rest; an empty block takes 2^32 - 1.
    #[must_use = "sequences that did not fit must be accounted for in the next block"]
    pub fn account(&mut self, disposition: Disposition, n: u64) -> u64 {
        self.frame.account(disposition, n, self.columns.bytes_max())
    }

    /// How many sequences the block covers so far.
    pub fn span(&self) -> u32 {
        self.frame.span()
    }

    /// How many events the block holds so far.
    pub fn events(&self) -> u32 {
        self.columns.len() as u32
    }

    /// The sequence that the next event gets.
    pub fn next_seq(&self) -> Seq {
        self.frame.next_seq()
    }

    /// An upper bound of the block's size before compression, in bytes.
    pub fn bytes_estimate(&self) -> usize {
        self.frame.bytes_max() + self.columns.bytes_max()
    }

    /// Closes the block and continues at the next sequence; `None` when no sequence was covered.
    /// `intake` is the intake position that the lane is complete up to.
    pub fn finish(&mut self, stamp: Stamp, intake: u64) -> Option<Bytes> {
        if self.span() == 0 {
            return None;
        }
        let (compression, raw_len, stored) = self.encode();
        let content = Content {
            events: self.events(),
            kinds: self.kinds,
            time_min_ms: self.time_min_ms,
            time_max_ms: self.time_max_ms,
            compression,
            raw_len,
            payload: &[&stored],
        };
        let block = self.frame.finish(&content, stamp, intake);
        self.kinds = 0;
        self.time_min_ms = 0;
        self.time_max_ms = 0;
        self.columns.clear();
        Some(block)
    }

    /// The payload as stored, how it is compressed as a whole and its length before that.
    fn encode(&mut self) -> (Compression, usize, Vec<u8>) {
        if self.columns.len() > self.effort.page_events() {
            let stored = paged::encode(&mut self.columns, self.compression, self.effort);
            return (Compression::None, stored.len(), stored);
        }
        let payload = if self.events() == 0 { Payload::default() } else { self.columns.encode() };
        let (compression, stored) = compress(self.compression, self.effort, &payload);
        (compression, payload.bytes.len(), stored.into_owned())
    }
}
