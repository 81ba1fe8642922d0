//! Collects one lane's sequences until they are worth a block.

use bytes::Bytes;
use grey_model::limits::{BLOCK_ACCOUNTS_MAX, BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX};
use grey_model::{Account, BlockHeader, Compression, Disposition, Epoch, Event, Lane, Seq, SiteId, Stamp};

use crate::columns::{Columns, Payload};
use crate::compress::compress;
use crate::error::CodecError;
use crate::limit::check;

/// Bytes kept free for header, site and checksum.
const FRAME_BYTES_MAX: usize = 512;
/// Most bytes of one account: gap, length, kind and rule.
const ACCOUNT_BYTES_MAX: usize = 24;

/// Builds the blocks of one lane, one after the other, without a gap between their sequences.
///
/// Deterministic: the same calls give the same bytes.
#[derive(Debug)]
pub struct BlockBuilder {
    site: SiteId,
    epoch: Epoch,
    lane: Lane,
    compression: Compression,
    first_seq: Seq,
    next_seq: Seq,
    kinds: u8,
    time_min_ms: i64,
    time_max_ms: i64,
    accounts: Vec<Account>,
    columns: Columns,
}

impl BlockBuilder {
    /// A builder whose first block starts at `next_seq`.
    pub fn new(site: SiteId, epoch: Epoch, lane: Lane, compression: Compression, next_seq: Seq) -> Self {
        Self {
            site,
            epoch,
            lane,
            compression,
            first_seq: next_seq,
            next_seq,
            kinds: 0,
            time_min_ms: 0,
            time_max_ms: 0,
            accounts: Vec::new(),
            columns: Columns::new(),
        }
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
        if !fits || self.events() == BLOCK_EVENTS_MAX || self.span() == u32::MAX || self.next_seq == Seq::MAX {
            return Err(CodecError::Full);
        }
        self.columns.push(event);
        let time = event.device_time_ms;
        let first = self.events() == 1;
        self.time_min_ms = if first { time } else { self.time_min_ms.min(time) };
        self.time_max_ms = if first { time } else { self.time_max_ms.max(time) };
        self.kinds |= 1 << event.kind as u8;
        let seq = self.next_seq;
        self.next_seq += 1;
        Ok(seq)
    }

    /// Accounts for the next `n` sequences, which carry no event, and returns
    /// how many of them fitted: fewer than `n` only when the block is full.
    /// Finish it then and account for the rest; an empty block takes 2^32 - 1.
    #[must_use = "sequences that did not fit must be accounted for in the next block"]
    pub fn account(&mut self, disposition: Disposition, n: u64) -> u64 {
        let n = n.min(u64::from(u32::MAX - self.span())).min(u64::MAX - self.next_seq);
        if n == 0 {
            return 0;
        }
        let end = self.next_seq + n;
        match self.accounts.last_mut() {
            Some(last) if last.range.end == self.next_seq && last.disposition == disposition => last.range.end = end,
            _ => {
                let full = self.accounts.len() == BLOCK_ACCOUNTS_MAX as usize;
                if full || self.bytes_estimate() + ACCOUNT_BYTES_MAX > BLOCK_BYTES_MAX {
                    return 0;
                }
                self.accounts.push(Account { range: self.next_seq..end, disposition });
            }
        }
        self.next_seq = end;
        n
    }

    /// How many sequences the block covers so far.
    pub fn span(&self) -> u32 {
        (self.next_seq - self.first_seq) as u32
    }

    /// How many events the block holds so far.
    pub fn events(&self) -> u32 {
        self.columns.len() as u32
    }

    /// The sequence that the next event gets.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// An upper bound of the block's size before compression, in bytes.
    pub fn bytes_estimate(&self) -> usize {
        FRAME_BYTES_MAX + self.accounts.len() * ACCOUNT_BYTES_MAX + self.columns.bytes_max()
    }

    /// Closes the block and continues at the next sequence; `None` when no sequence was covered.
    /// `intake` is the intake position that the lane is complete up to.
    pub fn finish(&mut self, stamp: Stamp, intake: u64) -> Option<Bytes> {
        if self.span() == 0 {
            return None;
        }
        let payload = if self.events() == 0 { Payload::default() } else { self.columns.encode() };
        let (compression, stored) = compress(self.compression, &payload);
        let header = BlockHeader {
            site: self.site.clone(),
            epoch: self.epoch,
            lane: self.lane,
            first_seq: self.first_seq,
            span: self.span(),
            events: self.events(),
            time_min_ms: self.time_min_ms,
            time_max_ms: self.time_max_ms,
            stamp,
            kinds: self.kinds,
            intake,
            compression,
            payload_raw_len: payload.bytes.len() as u32,
            accounts: std::mem::take(&mut self.accounts),
        };
        let block = header.encode(&stored);
        self.first_seq = self.next_seq;
        self.kinds = 0;
        self.time_min_ms = 0;
        self.time_max_ms = 0;
        self.columns.clear();
        Some(block)
    }
}
