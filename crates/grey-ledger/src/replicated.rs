//! The state machine that a hub or coordinator replicates.
//!
//! Every replica applies the same commands in the same log order and reaches
//! the same state. Blocks themselves stay in the log; the state holds what
//! was covered, what is still to forward, and the books.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use grey_model::{Account, BlockHeader, Lane, RangeSet, Seq, SiteId, StreamKey};
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::presence::{Presence, SiteReport};
use crate::row::{RangeRow, Row, Tally};

/// Stream keys that one group keeps books for: a thousand sites' lanes over
/// a hundred lives each. Stops a hostile sender from filling memory.
const KEYS_MAX: usize = 300_000;
/// Sites that one group keeps a presence for.
const SITES_MAX: usize = 100_000;
/// Ranges listed in a ledger row.
const ROW_RANGES_MAX: usize = 256;
const SNAPSHOT_VERSION: u8 = 1;

/// What the tier does with what it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Hands it to a tier above (a hub).
    Forwards,
    /// Is the last tier (a coordinator): accepted means delivered.
    Keeps,
}

/// A block in the log that waits for the tier above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingBlock {
    /// Where it stands in the log.
    pub index: u64,
    /// Number of its stream key.
    key: u32,
    /// Events in it that were new here.
    pub events: u32,
    first_seq: Seq,
    span: u32,
    /// Encoded bytes.
    pub bytes: u32,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// A block with new sequences (some of its others may be known).
    Accepted {
        /// The new ones.
        fresh: Vec<Range<Seq>>,
    },
    /// A block whose sequences were all known.
    Duplicate,
    /// Blocks were acknowledged by the tier above.
    Forwarded {
        /// How many.
        blocks: u64,
    },
    /// Site reports were taken.
    Sites,
    /// The command was refused, on every replica alike.
    Refused(String),
}

/// Sums over all stream keys, for status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Blocks with new sequences.
    pub blocks: u64,
    /// Blocks that were wholly known.
    pub duplicate_blocks: u64,
    /// Events accepted.
    pub events: u64,
    /// Bytes of accepted blocks.
    pub bytes: u64,
    /// Events acknowledged by the tier above.
    pub forwarded_events: u64,
    /// Bytes of blocks acknowledged by the tier above.
    pub forwarded_bytes: u64,
}

/// Coverage and books of one stream key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct KeyBooks {
    covered: RangeSet,
    /// Sequences forwarded (or, on the last tier, kept), whatever became of them.
    settled: RangeSet,
    /// Counted when a block is accepted.
    accepted: u64,
    /// Reduced, deduplicated and dropped: counted from the accounts of accepted blocks.
    accounts: Tally,
    /// Events counted when they are forwarded or kept.
    delivered: u64,
    resent: u64,
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicated {
    role: Role,
    keys: Vec<(StreamKey, KeyBooks)>,
    numbers: BTreeMap<StreamKey, u32>,
    pending: [VecDeque<PendingBlock>; 3],
    sites: BTreeMap<SiteId, Presence>,
    totals: Totals,
    applied: u64,
}

/// Why a snapshot could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The format is newer than this build.
    #[error("ledger snapshot version {0:?} is unknown, this build reads version {SNAPSHOT_VERSION}; upgrade this node")]
    Version(Option<u8>),
    /// The body is malformed.
    #[error("ledger snapshot is malformed: {0}; the node must be rebuilt from its peers")]
    Body(#[from] postcard::Error),
}

impl Replicated {
    /// The empty state.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            keys: Vec::new(),
            numbers: BTreeMap::new(),
            pending: Default::default(),
            sites: BTreeMap::new(),
            totals: Totals::default(),
            applied: 0,
        }
    }

    /// Applies the committed entry at a log index. Never fails: what cannot
    /// be applied is refused alike on every replica.
    pub fn apply(&mut self, index: u64, data: &Bytes) -> Applied {
        self.applied = index;
        match Command::decode(data) {
            Ok(Command::Block(block)) => self.accept(index, &block),
            Ok(Command::Forwarded { lane, upto }) => self.forwarded(lane, upto),
            Ok(Command::Sites(reports)) => {
                reports.into_iter().for_each(|report| self.report(report));
                Applied::Sites
            }
            Err(error) => Applied::Refused(error.to_string()),
        }
    }

    fn accept(&mut self, index: u64, block: &Bytes) -> Applied {
        let header = match BlockHeader::parse(block) {
            Ok(view) => view.header,
            Err(error) => return Applied::Refused(error.to_string()),
        };
        let key = header.key();
        let Some(number) = self.number(&key) else {
            return Applied::Refused(format!("the group keeps books for at most {KEYS_MAX} stream keys"));
        };
        let Some((_, books)) = self.keys.get_mut(number as usize) else {
            return Applied::Refused("stream key without books".into());
        };
        let fresh = books.covered.missing(header.range());
        books.covered.insert(header.range());
        let fresh_count: u64 = fresh.iter().map(|r| r.end - r.start).sum();
        books.resent += u64::from(header.span) - fresh_count;
        if fresh_count == 0 {
            self.totals.duplicate_blocks += 1;
            return Applied::Duplicate;
        }
        books.accepted += fresh_count;
        let mut accounted = 0;
        for Account { range, disposition } in &header.accounts {
            let n = fresh.iter().map(|f| overlap(f, range)).sum();
            books.accounts.account(*disposition, n);
            accounted += n;
        }
        let events = fresh_count - accounted;
        self.totals.blocks += 1;
        self.totals.events += events;
        self.totals.bytes += block.len() as u64;
        match self.role {
            Role::Keeps => {
                books.delivered += events;
                books.settled.insert(header.range());
            }
            Role::Forwards => self.pending[header.lane.index()].push_back(PendingBlock {
                index,
                key: number,
                events: events as u32,
                first_seq: header.first_seq,
                span: header.span,
                bytes: block.len() as u32,
            }),
        }
        Applied::Accepted { fresh }
    }

    fn forwarded(&mut self, lane: Lane, upto: u64) -> Applied {
        let queue = &mut self.pending[lane.index()];
        let mut blocks = 0;
        while let Some(block) = queue.front().copied().filter(|b| b.index <= upto) {
            queue.pop_front();
            blocks += 1;
            self.totals.forwarded_events += u64::from(block.events);
            self.totals.forwarded_bytes += u64::from(block.bytes);
            if let Some((_, books)) = self.keys.get_mut(block.key as usize) {
                books.delivered += u64::from(block.events);
                books.settled.insert(block.first_seq..block.first_seq + u64::from(block.span));
            }
        }
        Applied::Forwarded { blocks }
    }

    fn report(&mut self, report: SiteReport) {
        if let Some(presence) = self.sites.get_mut(&report.site) {
            presence.merge(report);
        } else if self.sites.len() < SITES_MAX {
            self.sites.insert(report.site.clone(), Presence::new(report));
        }
    }

    fn number(&mut self, key: &StreamKey) -> Option<u32> {
        if let Some(&number) = self.numbers.get(key) {
            return Some(number);
        }
        if self.keys.len() >= KEYS_MAX {
            return None;
        }
        let number = self.keys.len() as u32;
        self.keys.push((key.clone(), KeyBooks::default()));
        self.numbers.insert(key.clone(), number);
        Some(number)
    }

    fn books(&self, key: &StreamKey) -> Option<&KeyBooks> {
        self.numbers.get(key).and_then(|&n| self.keys.get(n as usize)).map(|(_, books)| books)
    }

    /// The last log index applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The sequences of a stream key that were accepted.
    pub fn coverage(&self, key: &StreamKey) -> RangeSet {
        self.books(key).map(|books| books.covered.clone()).unwrap_or_default()
    }

    /// The first block of the lane at or after a log index that waits for the tier above.
    pub fn next_pending(&self, lane: Lane, from: u64) -> Option<PendingBlock> {
        let queue = &self.pending[lane.index()];
        queue.get(queue.partition_point(|block| block.index < from)).copied()
    }

    /// Blocks and events that wait for the tier above, counted from the queue itself.
    pub fn pending(&self, lane: Lane) -> (u64, u64, u64) {
        let queue = &self.pending[lane.index()];
        let sum = |f: fn(&PendingBlock) -> u32| queue.iter().map(|b| u64::from(f(b))).sum();
        (queue.len() as u64, sum(|b| b.events), sum(|b| b.bytes))
    }

    /// The lowest log index that the state still refers to; entries below may be reclaimed.
    pub fn floor(&self) -> u64 {
        match self.role {
            Role::Keeps => 0,
            Role::Forwards => {
                self.pending.iter().filter_map(|q| q.front()).map(|b| b.index).min().unwrap_or(self.applied + 1)
            }
        }
    }

    /// Sums over all stream keys.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What is known of each site, by id.
    pub fn sites(&self) -> impl Iterator<Item = &SiteReport> {
        self.sites.values().map(Presence::report)
    }

    /// What is known of one site.
    pub fn site(&self, site: &SiteId) -> Option<&SiteReport> {
        self.sites.get(site).map(Presence::report)
    }

    /// The ledger, one row a stream key in key order, of one site or of all.
    pub fn ledger(&self, site: Option<&SiteId>) -> Vec<Row> {
        let mut pending: BTreeMap<u32, (u64, RangeSet)> = BTreeMap::new();
        for block in self.pending.iter().flatten() {
            let (events, spans) = pending.entry(block.key).or_default();
            *events += u64::from(block.events);
            spans.insert(block.first_seq..block.first_seq + u64::from(block.span));
        }
        let wanted = self.numbers.iter().filter(|(key, _)| site.is_none_or(|s| *s == key.site));
        wanted
            .filter_map(|(key, &number)| {
                let (_, books) = self.keys.get(number as usize)?;
                let empty = (0, RangeSet::new());
                let (waiting, spans) = pending.get(&number).unwrap_or(&empty);
                Some(books.row(key, *waiting, spans))
            })
            .collect()
    }

    /// Writes the state for a checkpoint.
    pub fn snapshot(&self) -> Vec<u8> {
        let keys = self.keys.iter().map(|(key, books)| (key.clone(), books.to_wire())).collect();
        let sites = self.sites.values().cloned().collect();
        let wire = SnapshotWire {
            role: self.role,
            keys,
            pending: self.pending.clone(),
            sites,
            totals: self.totals,
            applied: self.applied,
        };
        let mut out = vec![SNAPSHOT_VERSION];
        out.extend(postcard::to_stdvec(&wire).unwrap_or_default());
        out
    }

    /// Loads a state from a checkpoint.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (&version, body) = bytes.split_first().ok_or(SnapshotError::Version(None))?;
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(Some(version)));
        }
        let wire: SnapshotWire = postcard::from_bytes(body)?;
        let keys: Vec<_> = wire.keys.into_iter().map(|(key, books)| (key, KeyBooks::from_wire(books))).collect();
        let numbers = keys.iter().enumerate().map(|(n, (key, _))| (key.clone(), n as u32)).collect();
        let sites = wire.sites.into_iter().map(|p| (p.report().site.clone(), p)).collect();
        Ok(Self {
            role: wire.role,
            keys,
            numbers,
            pending: wire.pending,
            sites,
            totals: wire.totals,
            applied: wire.applied,
        })
    }
}

fn overlap(a: &Range<Seq>, b: &Range<Seq>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

impl KeyBooks {
    fn row(&self, key: &StreamKey, pending: u64, pending_spans: &RangeSet) -> Row {
        let tally = Tally { delivered: self.delivered, pending, ..self.accounts };
        let mut union = self.settled.clone();
        pending_spans.iter().for_each(|span| {
            union.insert(span);
        });
        let balanced = tally.total() == self.accepted && self.covered.len() == self.accepted && self.covered == union;
        let mut ranges: Vec<RangeRow> = Vec::new();
        ranges.extend(self.settled.iter().map(|r| RangeRow::new(r, "delivered")));
        ranges.extend(pending_spans.iter().map(|r| RangeRow::new(r, "pending")));
        ranges
            .extend(self.covered.missing(0..self.covered.end()).into_iter().map(|r| RangeRow::new(r, "not received")));
        ranges.sort_by_key(|row| row.first);
        ranges.truncate(ROW_RANGES_MAX);
        Row {
            site: key.site.clone(),
            epoch: key.epoch,
            lane: key.lane,
            accepted: self.accepted,
            tally,
            resent: self.resent,
            balanced,
            ranges,
        }
    }

    fn to_wire(&self) -> BooksWire {
        BooksWire {
            covered: self.covered.iter().map(|r| (r.start, r.end)).collect(),
            settled: self.settled.iter().map(|r| (r.start, r.end)).collect(),
            accepted: self.accepted,
            accounts: self.accounts,
            delivered: self.delivered,
            resent: self.resent,
        }
    }

    fn from_wire(wire: BooksWire) -> Self {
        let set = |ranges: Vec<(Seq, Seq)>| ranges.into_iter().map(|(start, end)| start..end).collect();
        Self {
            covered: set(wire.covered),
            settled: set(wire.settled),
            accepted: wire.accepted,
            accounts: wire.accounts,
            delivered: wire.delivered,
            resent: wire.resent,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct BooksWire {
    covered: Vec<(Seq, Seq)>,
    settled: Vec<(Seq, Seq)>,
    accepted: u64,
    accounts: Tally,
    delivered: u64,
    resent: u64,
}

#[derive(Serialize, Deserialize)]
struct SnapshotWire {
    role: Role,
    keys: Vec<(StreamKey, BooksWire)>,
    pending: [VecDeque<PendingBlock>; 3],
    sites: Vec<Presence>,
    totals: Totals,
    applied: u64,
}

#[cfg(test)]
mod tests;
