//! Where the blocks of the log are found: by position and by site.
//!
//! Derived from the log, kept in a `grey-store`. It is made durable before
//! the group saves a checkpoint, so that after a crash the replay that
//! follows the checkpoint brings what it lacks. Lost or damaged, it is built
//! again from the log.

use std::ops::{Bound, Range};
use std::path::Path;

use bytes::{BufMut, Bytes};
use grey_api::{EventPage, EventQuery, Position};
use grey_codec::{CodecError, decode_payload};
use grey_consensus::{EntryReader, ReadError};
use grey_ledger::{Applied, Command, Replicated, Role};
use grey_model::limits::NAME_BYTES_MAX;
use grey_model::{BlockHeader, Lane, Reader, Seq, SiteId, WireError, Writer};
use grey_store::{Batch, Durability, Store, StoreError, StoreOptions, Table};

use crate::core::NewBlock;

const BY_LOG: Table = Table::new("blocks-by-log");
const BY_SITE: Table = Table::new("blocks-by-site");
const META: Table = Table::new("meta");
const APPLIED: &[u8] = b"applied";
/// Entries looked at in one step of a query.
const STEP: usize = 256;
/// Entries one page may look at.
const PAGE_ENTRIES_MAX: usize = 1_000_000;
/// Block bytes one page may read.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// New ranges kept of one block.
const FRESH_RANGES_MAX: u64 = 65_536;
/// Changes gathered before they are written.
const BATCH_OPS: usize = 512;

/// Why the index could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A block does not decode.
    #[error("block at log index {index} does not decode: {source}")]
    Block {
        /// Its log index.
        index: u64,
        /// Why.
        source: CodecError,
    },
    /// An entry of the index is malformed.
    #[error("the block index is malformed ({0}); remove its directory and it is built again from the log")]
    Entry(#[from] WireError),
}

/// What the index says of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    site: SiteId,
    lane: Lane,
    kinds: u8,
    events: u32,
    time_min_ms: i64,
    time_max_ms: i64,
    /// Which sequences to serve, when not all.
    fresh: Option<Vec<Range<Seq>>>,
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        out.put_u8(self.lane as u8);
        out.put_u8(self.kinds);
        out.put_varint(self.events.into());
        out.put_varint_signed(self.time_min_ms);
        out.put_varint_signed(self.time_max_ms);
        out.put_blob(self.site.as_str().as_bytes());
        let fresh = self.fresh.as_deref().unwrap_or_default();
        out.put_varint(fresh.len() as u64);
        for range in fresh {
            out.put_varint(range.start);
            out.put_varint(range.end);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let lane = Lane::from_u8(reader.u8()?).ok_or_else(|| reader.invalid("lane"))?;
        let kinds = reader.u8()?;
        let events = reader.count("events", u32::MAX.into())? as u32;
        let (time_min_ms, time_max_ms) = (reader.varint_signed()?, reader.varint_signed()?);
        let site = SiteId::new(reader.text("site", NAME_BYTES_MAX)?).map_err(|_| reader.invalid("site"))?;
        let count = reader.count("ranges", FRESH_RANGES_MAX)?;
        let mut fresh = Vec::new();
        for _ in 0..count {
            fresh.push(reader.varint()?..reader.varint()?);
        }
        let fresh = (count > 0).then_some(fresh);
        Ok(Self { site, lane, kinds, events, time_min_ms, time_max_ms, fresh })
    }

    fn may_match(&self, query: &EventQuery) -> bool {
        self.events > 0
            && query.lanes & (1 << self.lane as u8) != 0
            && query.kinds & self.kinds != 0
            && query.site.as_ref().is_none_or(|site| *site == self.site)
            && query.from_ms.is_none_or(|from| self.time_max_ms >= from)
            && query.to_ms.is_none_or(|to| self.time_min_ms < to)
    }
}

/// The index.
#[derive(Debug)]
pub struct BlockIndex {
    store: Box<dyn Store>,
    batch: Batch,
    applied: u64,
}

impl BlockIndex {
    /// Opens the index of a directory.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, IndexError> {
        let store = grey_store::open(dir, options)?;
        let applied = store.get(META, APPLIED)?.and_then(|v| v.try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(Self { store, batch: Batch::new(), applied })
    }

    /// The last log index that was indexed.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Notes a block.
    pub fn add(&mut self, new: &NewBlock) -> Result<(), IndexError> {
        let Ok(view) = BlockHeader::parse(&new.block) else { return Ok(()) };
        let header = view.header;
        let whole = new.fresh == [header.range()];
        let entry = Entry {
            site: header.site,
            lane: header.lane,
            kinds: header.kinds,
            events: header.events,
            time_min_ms: header.time_min_ms,
            time_max_ms: header.time_max_ms,
            fresh: (!whole).then(|| new.fresh.clone()),
        };
        let value = entry.encode();
        self.batch.put(BY_SITE, site_key(&entry.site, new.index), value.clone());
        self.batch.put(BY_LOG, new.index.to_be_bytes(), value);
        self.applied = self.applied.max(new.index);
        if self.batch.len() >= BATCH_OPS {
            self.flush(Durability::Lazy)?;
        }
        Ok(())
    }

    /// Makes what was noted visible to queries.
    pub fn publish(&mut self) -> Result<(), IndexError> {
        if self.batch.is_empty() { Ok(()) } else { self.flush(Durability::Lazy) }
    }

    /// Makes what was noted durable; must precede a checkpoint of the group.
    pub fn sync(&mut self, applied: u64) -> Result<(), IndexError> {
        self.applied = self.applied.max(applied);
        self.flush(Durability::Sync)
    }

    fn flush(&mut self, durability: Durability) -> Result<(), IndexError> {
        self.batch.put(META, APPLIED, self.applied.to_be_bytes());
        Ok(self.store.write(std::mem::take(&mut self.batch), durability)?)
    }

    /// Forgets blocks below a log index.
    pub fn trim(&mut self, first: u64) -> Result<(), IndexError> {
        let bound = first.to_be_bytes();
        let below = (Bound::Unbounded, Bound::Excluded(&bound[..]));
        loop {
            let rows = self.store.scan(BY_LOG, below, STEP, false)?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (key, value) in rows {
                let index = key.as_slice().try_into().map_or(0, u64::from_be_bytes);
                let entry = Entry::decode(&value)?;
                batch.delete(BY_SITE, site_key(&entry.site, index));
                batch.delete(BY_LOG, key);
            }
            self.store.write(batch, Durability::Lazy)?;
        }
    }

    /// Builds the index of what the log holds up to `applied`, for a directory that lost it.
    pub fn rebuild(&mut self, entries: &EntryReader, first: u64, applied: u64) -> Result<(), IndexError> {
        let mut scratch = Replicated::new(Role::Keeps);
        for index in first..=applied {
            let Some(data) = entries.read(index)? else { continue };
            if let Applied::Accepted { fresh } = scratch.apply(index, &data) {
                self.add(&NewBlock { index, block: data.slice(1..), fresh })?;
            }
        }
        self.sync(applied)
    }

    /// One page of events in the order in which this tier accepted them.
    pub fn page(&self, entries: &EntryReader, query: &EventQuery, limit: usize) -> Result<EventPage, IndexError> {
        let mut page = EventPage { events: Vec::new(), next: None };
        let (mut at, mut skip) = match query.after {
            Some(Position::Log { index, skip }) => (index, skip),
            _ => (0, 0),
        };
        let (mut looked, mut bytes) = (0, 0);
        loop {
            let rows = self.candidates(query, at)?;
            let last_step = rows.len() < STEP;
            for (index, entry) in rows {
                if index != at {
                    skip = 0;
                }
                at = index;
                looked += 1;
                if !entry.may_match(query) {
                    continue;
                }
                let Some(data) = entries.read(index)? else { continue };
                let Ok(Command::Block(block)) = Command::decode(&data) else { continue };
                bytes += block.len();
                if let Some(skip) = take_events(index, &block, &entry, query, limit, skip, &mut page)? {
                    page.next = Some(Position::Log { index, skip });
                    return Ok(page);
                }
                if bytes >= PAGE_BYTES_MAX || looked >= PAGE_ENTRIES_MAX {
                    page.next = Some(Position::Log { index: index + 1, skip: 0 });
                    return Ok(page);
                }
            }
            if last_step {
                return Ok(page);
            }
            at += 1;
        }
    }

    fn candidates(&self, query: &EventQuery, from: u64) -> Result<Vec<(u64, Entry)>, IndexError> {
        let rows = match &query.site {
            Some(site) => {
                let (start, end) = (site_key(site, from), site_key(site, u64::MAX));
                self.store.scan(BY_SITE, (Bound::Included(&start[..]), Bound::Included(&end[..])), STEP, false)?
            }
            None => {
                let start = from.to_be_bytes();
                self.store.scan(BY_LOG, (Bound::Included(&start[..]), Bound::Unbounded), STEP, false)?
            }
        };
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let tail = key.len().checked_sub(8).and_then(|n| key.get(n..)).and_then(|b| b.try_into().ok());
            Ok((tail.map_or(0, u64::from_be_bytes), Entry::decode(&value)?))
        };
        rows.into_iter().map(read).collect()
    }
}

/// Adds the block's matching events; returns how many to skip next time when the page is full.
fn take_events(
    index: u64,
    block: &Bytes,
    entry: &Entry,
    query: &EventQuery,
    limit: usize,
    skip: u32,
    page: &mut EventPage,
) -> Result<Option<u32>, IndexError> {
    let fail = |source| IndexError::Block { index, source };
    let view = BlockHeader::parse(block).map_err(|e| fail(e.into()))?;
    let key = view.header.key();
    let events = decode_payload(&view.header, view.payload).map_err(fail)?;
    for (n, found) in events.into_iter().enumerate().skip(skip as usize) {
        let fresh = entry.fresh.as_ref().is_none_or(|ranges| ranges.iter().any(|r| r.contains(&found.seq)));
        if !fresh || !query.matches(&key, &found.event) {
            continue;
        }
        if page.events.len() == limit {
            return Ok(Some(n as u32));
        }
        page.events.push((key.clone(), found.seq, found.event));
    }
    Ok(None)
}

fn site_key(site: &SiteId, index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(site.as_str().len() + 9);
    key.put_slice(site.as_str().as_bytes());
    key.put_u8(0);
    key.put_u64(index);
    key
}
