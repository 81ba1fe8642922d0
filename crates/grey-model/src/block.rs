//! The header of a block: the unit of disk write, upload, Raft entry and archive.
//!
//! A block covers a contiguous run of one lane's sequences. Each sequence in
//! it either carries an event (in the payload) or has an [`Account`] that says
//! why not, so that a chain of blocks proves itself free of gaps. The payload
//! is opaque here; `grey-codec` writes and reads it. The bytes are never
//! rewritten on their way from the site's disk to the archive.
//!
//! Layout, little-endian:
//!
//! ```text
//! offset size
//!      0    4  magic "GBK1"
//!      4    1  format version, 1
//!      5    1  lane
//!      6    1  compression of the payload
//!      7    1  kinds present, one bit each
//!      8    8  epoch
//!     16    8  first sequence
//!     24    4  span: sequences covered
//!     28    4  events in the payload
//!     32    8  earliest device time, Unix ms
//!     40    8  latest device time, Unix ms
//!     48    8  stamp when the block was closed, hybrid logical clock
//!     56    4  uncertainty of the stamp, ms
//!     60    4  payload bytes before compression
//!     64    8  intake position that the block is complete up to
//!     72    4  payload bytes
//!     76    4  accounts bytes
//!     80    2  site bytes
//!     82    2  zero
//!     84       site, accounts, payload
//!    end    4  CRC-32C of all before it
//! ```
//!
//! Accounts are a count, then per run: gap from the end of the run before
//! (from the first sequence for the first), length, kind byte, rule; all
//! variable-length numbers but the kind.

use bytes::{BufMut, Bytes, BytesMut};

use crate::account::{Account, Disposition};
use crate::id::{Epoch, IdError, Lane, Seq, SiteId, Stamp, StreamKey};
use crate::limits::{BLOCK_ACCOUNTS_MAX, BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, BLOCK_PAYLOAD_BYTES_MAX, NAME_BYTES_MAX};
use crate::wire::{Reader, WireError, Writer};
use std::ops::Range;

const MAGIC: [u8; 4] = *b"GBK1";
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 84;
const CRC_BYTES: usize = 4;

/// How the payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// LZ4 block format: cheapest to write.
    Lz4 = 1,
    /// Zstandard: smallest.
    Zstd = 2,
}

impl Compression {
    /// The compression of a number on the wire.
    pub fn from_u8(byte: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].get(usize::from(byte)).copied()
    }
}

/// Why bytes are not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The first bytes are not a block's.
    #[error("not a block: it starts with {0:02x?}")]
    Magic([u8; 4]),
    /// The block is of a format version that this build does not know.
    #[error("block format version {0} is unknown, this build reads version {VERSION}; upgrade the receiver first")]
    Version(u8),
    /// The checksum does not match: the bytes were damaged.
    #[error("block checksum mismatch: stored {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// The checksum in the block.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// The block is over [`BLOCK_BYTES_MAX`].
    #[error("block of {0} bytes is over the limit of {BLOCK_BYTES_MAX}")]
    TooLarge(usize),
    /// A field is malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The site id is malformed.
    #[error(transparent)]
    Site(#[from] IdError),
    /// The counts of the header contradict each other.
    #[error("block covers {span} sequences but accounts for {accounted}")]
    Unbalanced {
        /// Sequences covered.
        span: u64,
        /// Events plus accounts.
        accounted: u64,
    },
}

/// Everything of a block but its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    /// Where the sequences were given.
    pub site: SiteId,
    /// The life of that site.
    pub epoch: Epoch,
    /// The lane.
    pub lane: Lane,
    /// First sequence covered.
    pub first_seq: Seq,
    /// How many sequences are covered.
    pub span: u32,
    /// How many of them carry an event.
    pub events: u32,
    /// Earliest device time of the events, Unix ms.
    pub time_min_ms: i64,
    /// Latest device time of the events, Unix ms.
    pub time_max_ms: i64,
    /// When the block was closed.
    pub stamp: Stamp,
    /// One bit per [`Kind`](crate::Kind) present, by its wire number.
    pub kinds: u8,
    /// The site's intake position that the lane is complete up to with this block.
    pub intake: u64,
    /// How the payload is compressed.
    pub compression: Compression,
    /// Payload bytes before compression.
    pub payload_raw_len: u32,
    /// Why the other sequences carry no event; sorted and disjoint.
    pub accounts: Vec<Account>,
}

/// A checked block, split into header and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// The header.
    pub header: BlockHeader,
    /// The payload as stored.
    pub payload: &'a [u8],
}

impl BlockHeader {
    /// The sequences covered.
    pub fn range(&self) -> Range<Seq> {
        self.first_seq..self.first_seq + u64::from(self.span)
    }

    /// The stream that the sequences belong to.
    pub fn key(&self) -> StreamKey {
        StreamKey { site: self.site.clone(), epoch: self.epoch, lane: self.lane }
    }

    /// Writes header, payload and checksum as one block.
    pub fn encode(&self, payload: &[u8]) -> Bytes {
        self.encode_parts(&[payload])
    }

    /// Like [`BlockHeader::encode`] with a payload in several parts, to spare the caller a copy.
    pub fn encode_parts(&self, parts: &[&[u8]]) -> Bytes {
        let payload_len: usize = parts.iter().map(|part| part.len()).sum();
        let site = self.site.as_str().as_bytes();
        let mut accounts = Vec::with_capacity(8 + self.accounts.len() * 6);
        accounts.put_varint(self.accounts.len() as u64);
        let mut at = self.first_seq;
        for account in &self.accounts {
            let (kind, rule) = account.disposition.to_wire();
            accounts.put_varint(account.range.start - at);
            accounts.put_varint(account.len());
            accounts.put_u8(kind);
            accounts.put_varint(u64::from(rule));
            at = account.range.end;
        }
        let mut out = BytesMut::with_capacity(FIXED_BYTES + site.len() + accounts.len() + payload_len + CRC_BYTES);
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.lane as u8);
        out.put_u8(self.compression as u8);
        out.put_u8(self.kinds);
        out.put_u64_le(self.epoch.0);
        out.put_u64_le(self.first_seq);
        out.put_u32_le(self.span);
        out.put_u32_le(self.events);
        out.put_i64_le(self.time_min_ms);
        out.put_i64_le(self.time_max_ms);
        out.put_u64_le(self.stamp.hlc);
        out.put_u32_le(self.stamp.uncertainty_ms);
        out.put_u32_le(self.payload_raw_len);
        out.put_u64_le(self.intake);
        out.put_u32_le(payload_len as u32);
        out.put_u32_le(accounts.len() as u32);
        out.put_u16_le(site.len() as u16);
        out.put_u16_le(0);
        out.put_slice(site);
        out.put_slice(&accounts);
        parts.iter().for_each(|part| out.put_slice(part));
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// Checks a whole block and splits it. Never allocates beyond the block's own limits.
    pub fn parse(block: &[u8]) -> Result<HeaderView<'_>, BlockError> {
        if block.len() > BLOCK_BYTES_MAX {
            return Err(BlockError::TooLarge(block.len()));
        }
        let Some(body_len) = block.len().checked_sub(CRC_BYTES) else {
            return Err(WireError::Truncated { offset: 0, needed: FIXED_BYTES - block.len() }.into());
        };
        let (body, trailer) = block.split_at(body_len);
        let mut reader = Reader::new(body);
        let magic: [u8; 4] = reader.bytes(4)?.try_into().unwrap_or_default();
        if magic != MAGIC {
            return Err(BlockError::Magic(magic));
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        let stored = Reader::new(trailer).u32()?;
        let computed = crc32c::crc32c(body);
        if stored != computed {
            return Err(BlockError::Checksum { stored, computed });
        }
        let lane = Lane::from_u8(reader.u8()?).ok_or_else(|| reader.invalid("lane"))?;
        let compression = Compression::from_u8(reader.u8()?).ok_or_else(|| reader.invalid("compression"))?;
        let kinds = reader.u8()?;
        let epoch = Epoch(reader.u64()?);
        let first_seq = reader.u64()?;
        let span = reader.u32()?;
        let events = reader.u32()?;
        let over = |what, found: u64, limit: u64| WireError::OverLimit { what, found, limit, offset: 24 };
        if events > BLOCK_EVENTS_MAX {
            return Err(over("events", events.into(), BLOCK_EVENTS_MAX.into()).into());
        }
        if first_seq.checked_add(span.into()).is_none() {
            return Err(reader.invalid("first sequence").into());
        }
        let time_min_ms = reader.i64()?;
        let time_max_ms = reader.i64()?;
        let stamp = Stamp { hlc: reader.u64()?, uncertainty_ms: reader.u32()? };
        let payload_raw_len = reader.u32()?;
        if payload_raw_len as usize > BLOCK_PAYLOAD_BYTES_MAX {
            return Err(over("payload bytes", payload_raw_len.into(), BLOCK_PAYLOAD_BYTES_MAX as u64).into());
        }
        let intake = reader.u64()?;
        let payload_len = reader.u32()? as usize;
        let accounts_len = reader.u32()? as usize;
        let site_len = usize::from(reader.u16()?);
        reader.u16()?;
        if site_len > NAME_BYTES_MAX {
            return Err(reader.invalid("site length").into());
        }
        let site = std::str::from_utf8(reader.bytes(site_len)?).map_err(|_| reader.invalid("site"))?;
        let site = SiteId::new(site)?;
        let accounts = parse_accounts(reader.bytes(accounts_len)?, first_seq, span)?;
        let payload = reader.bytes(payload_len)?;
        if !reader.is_empty() {
            return Err(reader.invalid("trailing bytes").into());
        }
        let accounted = u64::from(events) + accounts.iter().map(Account::len).sum::<u64>();
        if accounted != u64::from(span) {
            return Err(BlockError::Unbalanced { span: span.into(), accounted });
        }
        let header = BlockHeader {
            site,
            epoch,
            lane,
            first_seq,
            span,
            events,
            time_min_ms,
            time_max_ms,
            stamp,
            kinds,
            intake,
            compression,
            payload_raw_len,
            accounts,
        };
        Ok(HeaderView { header, payload })
    }
}

fn parse_accounts(bytes: &[u8], first_seq: Seq, span: u32) -> Result<Vec<Account>, WireError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("accounts", BLOCK_ACCOUNTS_MAX.into())?;
    let mut accounts = Vec::with_capacity(count as usize);
    let (mut at, end) = (first_seq, first_seq + u64::from(span));
    for _ in 0..count {
        let gap = reader.count("account gap", end - at)?;
        let len = reader.count("account length", end - at - gap)?;
        if len == 0 {
            return Err(reader.invalid("account length"));
        }
        let kind = reader.u8()?;
        let rule = reader.count("rule", u16::MAX.into())? as u16;
        let disposition = Disposition::from_wire(kind, rule).ok_or_else(|| reader.invalid("disposition"))?;
        let start = at + gap;
        at = start + len;
        accounts.push(Account { range: start..at, disposition });
    }
    if !reader.is_empty() {
        return Err(reader.invalid("trailing account bytes"));
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::RuleId;
    use proptest::prelude::*;

    fn header() -> BlockHeader {
        BlockHeader {
            site: SiteId::new("factory-us-west-015").unwrap(),
            epoch: Epoch(1_760_000_000_000),
            lane: Lane::Bulk,
            first_seq: 100,
            span: 50,
            events: 35,
            time_min_ms: -5,
            time_max_ms: 1_760_000_000_000,
            stamp: Stamp { hlc: 77, uncertainty_ms: 3 },
            kinds: 1,
            intake: 9,
            compression: Compression::Zstd,
            payload_raw_len: 400,
            accounts: vec![
                Account { range: 100..110, disposition: Disposition::Reduced(RuleId(300)) },
                Account { range: 145..150, disposition: Disposition::Deduplicated },
            ],
        }
    }

    #[test]
    fn round_trips() {
        let block = header().encode(b"payload");
        let view = BlockHeader::parse(&block).unwrap();
        assert_eq!((view.header, view.payload), (header(), &b"payload"[..]));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let block = header().encode(b"payload");
        for bit in 0..block.len() * 8 {
            let mut bad = block.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::parse(&bad).is_err(), "bit {bit}");
        }
        for len in 0..block.len() {
            assert!(BlockHeader::parse(&block[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn books_must_balance() {
        let mut header = header();
        header.events = 34;
        let error = BlockHeader::parse(&header.encode(b"")).unwrap_err();
        assert_eq!(error, BlockError::Unbalanced { span: 50, accounted: 49 });
    }

    proptest! {
        #[test]
        fn hostile_bytes_with_a_good_checksum_never_panic(mut body: Vec<u8>, keep in 0_usize..90) {
            let good = header().encode(b"payload");
            let mut bytes = good[..keep.min(good.len() - 4)].to_vec();
            bytes.append(&mut body);
            let crc = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let _ = BlockHeader::parse(&bytes);
        }
    }
}
