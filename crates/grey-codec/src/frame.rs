//! The frame around a block while it is being collected: which sequences it
//! covers and why some of them carry nothing.

use bytes::Bytes;
use grey_model::limits::{BLOCK_ACCOUNTS_MAX, BLOCK_BYTES_MAX};
use grey_model::{Account, BlockHeader, Compression, Disposition, Epoch, Lane, Seq, SiteId, Stamp};

/// Bytes kept free for header, site and checksum.
const FRAME_BYTES_MAX: usize = 512;
/// Most bytes of one account: gap, length, kind and rule.
const ACCOUNT_BYTES_MAX: usize = 24;

/// The sequences of the open block of one lane.
#[derive(Debug)]
pub(crate) struct Frame {
    site: SiteId,
    epoch: Epoch,
    lane: Lane,
    first_seq: Seq,
    next_seq: Seq,
    accounts: Vec<Account>,
}

/// What the payload says of itself in the header.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    pub(crate) events: u32,
    pub(crate) kinds: u8,
    pub(crate) time_min_ms: i64,
    pub(crate) time_max_ms: i64,
    pub(crate) compression: Compression,
    pub(crate) raw_len: usize,
    /// One behind the other.
    pub(crate) payload: &'a [&'a [u8]],
}

impl Frame {
    pub(crate) fn new(site: SiteId, epoch: Epoch, lane: Lane, next_seq: Seq) -> Self {
        Self { site, epoch, lane, first_seq: next_seq, next_seq, accounts: Vec::new() }
    }

    pub(crate) fn span(&self) -> u32 {
        (self.next_seq - self.first_seq) as u32
    }

    pub(crate) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// True when no further sequence can be covered.
    pub(crate) fn is_full(&self) -> bool {
        self.span() == u32::MAX || self.next_seq == Seq::MAX
    }

    /// Takes the next sequence; [`Frame::is_full`] must have said no.
    pub(crate) fn take(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// An upper bound of the frame's bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        FRAME_BYTES_MAX + self.accounts.len() * ACCOUNT_BYTES_MAX
    }

    /// Accounts for up to `n` sequences beside a payload of at most `payload_bytes`; returns how many fitted.
    pub(crate) fn account(&mut self, disposition: Disposition, n: u64, payload_bytes: usize) -> u64 {
        let n = n.min(u64::from(u32::MAX - self.span())).min(u64::MAX - self.next_seq);
        if n == 0 {
            return 0;
        }
        let end = self.next_seq + n;
        match self.accounts.last_mut() {
            Some(last) if last.range.end == self.next_seq && last.disposition == disposition => last.range.end = end,
            _ => {
                let full = self.accounts.len() == BLOCK_ACCOUNTS_MAX as usize;
                if full || self.bytes_max() + payload_bytes + ACCOUNT_BYTES_MAX > BLOCK_BYTES_MAX {
                    return 0;
                }
                self.accounts.push(Account { range: self.next_seq..end, disposition });
            }
        }
        self.next_seq = end;
        n
    }

    /// Writes the block and continues at the next sequence.
    pub(crate) fn finish(&mut self, content: &Content<'_>, stamp: Stamp, intake: u64) -> Bytes {
        let header = BlockHeader {
            site: self.site.clone(),
            epoch: self.epoch,
            lane: self.lane,
            first_seq: self.first_seq,
            span: self.span(),
            events: content.events,
            time_min_ms: content.time_min_ms,
            time_max_ms: content.time_max_ms,
            stamp,
            kinds: content.kinds,
            intake,
            compression: content.compression,
            payload_raw_len: content.raw_len as u32,
            accounts: std::mem::take(&mut self.accounts),
        };
        self.first_seq = self.next_seq;
        header.encode_parts(content.payload)
    }
}

/// The sequences that carry an event or a payload: those of the span without an account.
pub(crate) fn carrying_seqs(header: &BlockHeader) -> impl Iterator<Item = Seq> + '_ {
    let mut at = header.range().start;
    let gaps = header.accounts.iter().map(move |account| {
        let gap = at..account.range.start;
        at = account.range.end;
        gap
    });
    let after = header.accounts.last().map_or(header.range().start, |account| account.range.end);
    gaps.flatten().chain(after..header.range().end)
}
