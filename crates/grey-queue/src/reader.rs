//! Reading blocks from a cursor, on any thread.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use grey_log::LogReader;
use grey_model::{Account, BlockHeader, Compression, Disposition, Epoch, Lane, Seq, SiteId, Stamp};

use crate::queue::QueueError;
use crate::strata::{LAYERS, Layer, Stratum, lost_of};

/// Blocks that the disk lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBlocks {
    /// The lane.
    pub lane: Lane,
    /// The life of the site that the sequences belong to.
    pub epoch: Epoch,
    /// The positions that could not be read.
    pub positions: Range<u64>,
    /// The sequences that they held.
    pub sequences: Range<Seq>,
    /// What the log said.
    pub reason: String,
}

/// What the reader must know of a lane to account for a loss.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edges {
    /// Blocks below are settled.
    pub(crate) acked: u64,
    /// The first sequence that is not settled.
    pub(crate) acked_seq: Seq,
    /// The sequence after the last committed block.
    pub(crate) end_seq: Seq,
    /// The life of the last block.
    pub(crate) epoch: Epoch,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) edges: [Edges; 3],
    pub(crate) layers: [[Option<Layer>; LAYERS]; 3],
    /// Raised when records move from one stratum to another.
    pub(crate) version: u64,
    pub(crate) lost: Vec<LostBlocks>,
}

/// A block, or the receipt for blocks that were lost.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The positions that it stands for.
    pub(crate) positions: Range<u64>,
    pub(crate) block: Bytes,
    pub(crate) stands_for_lost: bool,
    /// Nothing is missing: the lost sequences were written again behind the loss.
    is_empty: bool,
}

impl Found {
    /// Where the lane is read on, less one.
    pub(crate) fn position(&self) -> u64 {
        self.positions.end - 1
    }
}

/// What stands at a position.
enum Look {
    Record(Range<u64>, Bytes),
    Lost(Range<u64>, String),
    End,
}

/// A read-only view of the committed blocks of all lanes.
#[derive(Debug, Clone)]
pub struct QueueReader {
    pub(crate) site: SiteId,
    pub(crate) logs: [LogReader; 3],
    pub(crate) shared: Arc<Mutex<Shared>>,
}

/// Losses remembered for status; later ones are only logged by the caller.
const LOST_MAX: usize = 1024;
/// How often a look is repeated when records move meanwhile.
const ATTEMPTS_MAX: usize = 8;

impl QueueReader {
    /// The first block of the lane at or after a position, and the last position that it
    /// stands for: reading goes on behind it. `None` when there is none yet. Blocks that
    /// were lost come back as one that accounts for their sequences as dropped by damage,
    /// at the last position that was lost.
    pub fn next(&self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, QueueError> {
        Ok(self.find(lane, from)?.map(|found| (found.position(), found.block)))
    }

    pub(crate) fn find(&self, lane: Lane, from: u64) -> Result<Option<Found>, QueueError> {
        let mut from = from;
        while let Some(found) = self.read(lane, from)? {
            if !found.is_empty {
                return Ok(Some(found));
            }
            from = found.positions.end;
        }
        Ok(None)
    }

    /// What stands for a waiting position.
    pub(crate) fn read(&self, lane: Lane, from: u64) -> Result<Option<Found>, QueueError> {
        let edges = self.lock().edges[lane.index()];
        self.read_any(lane, from.max(edges.acked), &edges)
    }

    /// What stands for a position, also a settled one that is still there.
    pub(crate) fn read_any(&self, lane: Lane, from: u64, edges: &Edges) -> Result<Option<Found>, QueueError> {
        Ok(match self.look(lane, from)? {
            Look::End => None,
            Look::Record(positions, block) => Some(Found { positions, block, stands_for_lost: false, is_empty: false }),
            Look::Lost(positions, reason) => Some(self.lost(lane, positions, edges, reason)?),
        })
    }

    fn look(&self, lane: Lane, position: u64) -> Result<Look, QueueError> {
        let mut attempts = 0;
        loop {
            let (layers, version) = {
                let shared = self.lock();
                (shared.layers[lane.index()].clone(), shared.version)
            };
            attempts += 1;
            let look = self.look_in(lane, position, &layers)?;
            let moved = || self.lock().version != version;
            match look {
                Some(Look::Lost(..)) | None if attempts < ATTEMPTS_MAX && moved() => {}
                Some(look) => return Ok(look),
                None => return Ok(Look::Lost(position..position + 1, "a block was trimmed".into())),
            }
        }
    }

    /// Looks through the strata from the lowest up. A record of a higher one counts only
    /// where no lower one has its positions: a crash may have come between the fold and
    /// the trim of what it replaced. `None` when the block went away meanwhile.
    fn look_in(&self, lane: Lane, position: u64, layers: &[Option<Layer>; LAYERS]) -> Result<Option<Look>, QueueError> {
        // What no lower stratum has, as far as is known.
        let (mut floor, mut ceiling) = (0, u64::MAX);
        let mut damage = None;
        for (stratum, layer) in Stratum::FOLDED.iter().zip(layers) {
            let Some(layer) = layer else { continue };
            if layer.covers.end <= position {
                floor = floor.max(layer.covers.end);
                continue;
            }
            if position < layer.covers.start {
                ceiling = ceiling.min(layer.covers.start);
                continue;
            }
            let free = |positions: &Range<u64>| floor <= positions.start && positions.end <= ceiling;
            if *stratum != Stratum::Dropped
                && let Some(record) = layer.near(position).filter(|record| free(&record.head.positions))
            {
                return Ok(Some(Look::Record(record.head.positions, record.block)));
            }
            let around = layer.around(position)?;
            damage = damage.or(around.damage);
            match around.at {
                Some((_, record)) if record.head.positions.end > position => {
                    if free(&record.head.positions) {
                        return Ok(Some(Look::Record(record.head.positions, record.block)));
                    }
                    continue;
                }
                Some((_, record)) => floor = floor.max(record.head.positions.end),
                None => {}
            }
            ceiling = ceiling.min(around.after.map_or(layer.covers.end, |(_, start)| start));
        }
        let log = &self.logs[lane.index()];
        let (first, end) = (log.first_index(), log.durable_end());
        if position >= end {
            return Ok(Some(Look::End));
        }
        if position < first {
            let lost = floor..ceiling.min(first);
            let reason =
                damage.unwrap_or_else(|| format!("positions {position}..{} are missing from the directory", lost.end));
            return Ok(Some(Look::Lost(lost, reason)));
        }
        match log.read(position) {
            Ok(Some(block)) => Ok(Some(Look::Record(position..position + 1, block))),
            Ok(None) => Ok(None),
            Err(error) => match lost_of(&error) {
                Some(lost) => {
                    let lost = floor.max(lost.start.min(position))..ceiling.min(lost.end.max(position + 1));
                    Ok(Some(Look::Lost(lost, error.to_string())))
                }
                None => Err(error.into()),
            },
        }
    }

    /// The receipt for what is lost around some positions: from the readable block before
    /// them to the one behind.
    fn lost(&self, lane: Lane, lost: Range<u64>, edges: &Edges, reason: String) -> Result<Found, QueueError> {
        let (mut epoch, mut start) = (edges.epoch, edges.acked_seq);
        let mut positions = lost.start.max(edges.acked).min(lost.end - 1)..lost.end;
        while positions.start > edges.acked {
            match self.look(lane, positions.start - 1)? {
                Look::Lost(more, _) => positions.start = more.start.max(edges.acked).min(positions.start - 1),
                Look::Record(_, block) => {
                    if let Ok(view) = BlockHeader::parse(&block) {
                        (epoch, start) = (view.header.epoch, view.header.range().end);
                    }
                    break;
                }
                Look::End => break,
            }
        }
        let end = loop {
            match self.look(lane, positions.end)? {
                Look::Lost(more, _) => positions.end = more.end.max(positions.end + 1),
                Look::Record(_, block) => {
                    let Ok(view) = BlockHeader::parse(&block) else { break edges.end_seq };
                    break if view.header.epoch == epoch { view.header.first_seq } else { start };
                }
                Look::End => break edges.end_seq,
            }
        };
        let sequences = start..end.max(start);
        let block = receipt(&self.site, epoch, lane, sequences.clone(), Disposition::DroppedDamage);
        let is_empty = sequences.is_empty();
        let found = Found { positions: positions.clone(), block, stands_for_lost: true, is_empty };
        let lost = LostBlocks { lane, epoch, positions, sequences, reason };
        let mut shared = self.lock();
        if shared.lost.len() < LOST_MAX && !shared.lost.iter().any(|known| known.is_same(&lost)) {
            shared.lost.push(lost);
        }
        Ok(found)
    }

    /// What was found lost since the queue was opened.
    pub fn lost_blocks(&self) -> Vec<LostBlocks> {
        self.lock().lost.clone()
    }

    /// The position after the last committed block of the lane.
    pub fn end(&self, lane: Lane) -> u64 {
        self.logs[lane.index()].durable_end()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LostBlocks {
    /// The same sequences, whatever was said about them.
    fn is_same(&self, other: &Self) -> bool {
        (self.lane, self.epoch, &self.sequences) == (other.lane, other.epoch, &other.sequences)
    }
}

/// A block without events that accounts for a run of sequences.
pub(crate) fn receipt(site: &SiteId, epoch: Epoch, lane: Lane, range: Range<Seq>, disposition: Disposition) -> Bytes {
    let span = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
    let end = range.start + u64::from(span);
    let accounts = if span == 0 { Vec::new() } else { vec![Account { range: range.start..end, disposition }] };
    receipt_header(site, epoch, lane, range.start, span, accounts).encode(&[])
}

/// The header of a block without events.
pub(crate) fn receipt_header(
    site: &SiteId,
    epoch: Epoch,
    lane: Lane,
    first_seq: Seq,
    span: u32,
    accounts: Vec<Account>,
) -> BlockHeader {
    BlockHeader {
        site: site.clone(),
        epoch,
        lane,
        first_seq,
        span,
        events: 0,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp::default(),
        kinds: 0,
        intake: 0,
        compression: Compression::None,
        payload_raw_len: 0,
        accounts,
    }
}
