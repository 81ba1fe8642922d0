//! What the tests of this crate share: blocks, an outbox in memory, a seeded source.

use std::ops::Range;

use bytes::Bytes;
use grey_model::{BlockHeader, Compression, Epoch, Lane, SiteId, Stamp, StreamKey};

use crate::frame::{SiteReport, Status};
use crate::outbox::{Outbox, OutboxError, OwnStreams};

pub(crate) const EPOCH: Epoch = Epoch(1_760_000_000_000);

pub(crate) fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

pub(crate) fn key(name: &str, lane: Lane) -> StreamKey {
    StreamKey { site: site(name), epoch: EPOCH, lane }
}

/// A block that covers `range` with one event a sequence, and has at least `payload` bytes.
pub(crate) fn block(key: &StreamKey, range: Range<u64>, payload: usize) -> Bytes {
    let span = (range.end - range.start) as u32;
    let header = BlockHeader {
        site: key.site.clone(),
        epoch: key.epoch,
        lane: key.lane,
        first_seq: range.start,
        span,
        events: span,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp { hlc: 7, uncertainty_ms: 0 },
        kinds: 1,
        intake: 0,
        compression: Compression::None,
        payload_raw_len: payload as u32,
        accounts: vec![],
    };
    header.encode(&vec![0xa5; payload])
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    /// True one time in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) position: u64,
    pub(crate) key: StreamKey,
    pub(crate) range: Range<u64>,
    pub(crate) block: Bytes,
}

/// An outbox in memory. Nothing is ever removed; tests look at what was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) lanes: [Vec<Stored>; 3],
    pub(crate) own: OwnStreams,
    pub(crate) status: Status,
    pub(crate) sites: Vec<SiteReport>,
    /// Reads that fail before one succeeds again.
    pub(crate) failures: u32,
    pub(crate) reads: u64,
    /// It says where its lanes end, so that they are read in two places.
    pub(crate) knows_end: bool,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { own: OwnStreams { epoch: EPOCH, next_seqs: [0; 3] }, ..Self::default() }
    }

    /// Puts one block in the place of several that follow each other, at the position of the last.
    pub(crate) fn fold(&mut self, lane: Lane, blocks: Range<usize>) {
        let lane = &mut self.lanes[lane.index()];
        let (first, last) = (lane[blocks.start].clone(), lane[blocks.end - 1].clone());
        assert_eq!(first.key, last.key);
        let range = first.range.start..last.range.end;
        let folded = Stored { block: block(&first.key, range.clone(), 10), range, ..last };
        lane.splice(blocks, [folded]);
    }

    /// Adds a block after the last of its lane, `gap` positions further on.
    pub(crate) fn push(&mut self, key: &StreamKey, span: u64, payload: usize, gap: u64) -> Range<u64> {
        let first = self.lanes.iter().flatten().filter(|s| s.key == *key).map(|s| s.range.end).max().unwrap_or(0);
        let range = first..first + span;
        let lane = &mut self.lanes[key.lane.index()];
        let position = lane.last().map_or(0, |last| last.position + 1) + gap;
        lane.push(Stored {
            position,
            key: key.clone(),
            range: range.clone(),
            block: block(key, range.clone(), payload),
        });
        if key.epoch == self.own.epoch {
            let next = &mut self.own.next_seqs[key.lane.index()];
            *next = range.end.max(*next);
        }
        range
    }
}

impl Outbox for Model {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        self.reads += 1;
        if self.failures > 0 {
            self.failures -= 1;
            return Err(OutboxError("the disk sulks".into()));
        }
        let lane = &self.lanes[lane.index()];
        let at = lane.partition_point(|stored| stored.position < from);
        Ok(lane.get(at).map(|stored| (stored.position, stored.block.clone())))
    }

    fn end(&mut self, lane: Lane) -> Option<u64> {
        let after = |last: &Stored| last.position + 1;
        self.knows_end.then(|| self.lanes[lane.index()].last().map_or(0, after))
    }

    fn own_streams(&mut self) -> OwnStreams {
        self.own
    }

    fn status(&mut self) -> Status {
        self.status.clone()
    }

    fn sites(&mut self) -> Vec<SiteReport> {
        self.sites.clone()
    }
}
