//! Reading blocks from a cursor, on any thread.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use grey_log::{LogError, LogReader};
use grey_model::{Account, BlockHeader, Compression, Disposition, Epoch, Lane, Seq, SiteId, Stamp};

use crate::queue::QueueError;

/// Blocks that the disk lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBlocks {
    /// The lane.
    pub lane: Lane,
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
    pub(crate) lost: Vec<LostBlocks>,
}

/// A block, or the receipt for blocks that were lost.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) block: Bytes,
    pub(crate) stands_for_lost: bool,
    /// Nothing is missing: the lost sequences were written again behind the loss.
    is_empty: bool,
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

impl QueueReader {
    /// The first block of the lane at or after a position, and its position.
    /// `None` when there is none yet. A lost block comes back as one that
    /// accounts for its sequences as dropped by damage, at the last position
    /// that was lost.
    pub fn next(&self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, QueueError> {
        let mut from = from;
        while let Some(found) = self.read(lane, from)? {
            if !found.is_empty {
                return Ok(Some((found.position, found.block)));
            }
            from = found.position + 1;
        }
        Ok(None)
    }

    pub(crate) fn read(&self, lane: Lane, from: u64) -> Result<Option<Found>, QueueError> {
        let log = &self.logs[lane.index()];
        let edges = self.lock().edges[lane.index()];
        let from = from.max(edges.acked);
        let first = log.first_index();
        if from < first {
            let reason = format!("positions {from}..{first} are missing from the directory");
            return self.lost(lane, from..first, &edges, reason).map(Some);
        }
        match log.read(from) {
            Ok(block) => {
                Ok(block.map(|block| Found { position: from, block, stands_for_lost: false, is_empty: false }))
            }
            Err(LogError::Damaged { lost, path, offset, .. }) => {
                let reason = format!("{} is damaged at offset {offset}", path.display());
                self.lost(lane, from..lost.end.max(from + 1), &edges, reason).map(Some)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn lost(&self, lane: Lane, positions: Range<u64>, edges: &Edges, reason: String) -> Result<Found, QueueError> {
        let log = &self.logs[lane.index()];
        let (mut epoch, mut start) = (edges.epoch, edges.acked_seq);
        if positions.start > edges.acked
            && let Ok(Some(block)) = log.read(positions.start - 1)
            && let Ok(view) = BlockHeader::parse(&block)
        {
            (epoch, start) = (view.header.epoch, view.header.range().end);
        }
        let mut end = edges.end_seq;
        if positions.end < log.durable_end()
            && let Ok(Some(block)) = log.read(positions.end)
            && let Ok(view) = BlockHeader::parse(&block)
        {
            end = if view.header.epoch == epoch { view.header.first_seq } else { start };
        }
        let sequences = start..end.max(start);
        let block = receipt(&self.site, epoch, lane, sequences.clone(), Disposition::DroppedDamage);
        let position = positions.end - 1;
        let is_empty = sequences.is_empty();
        let lost = LostBlocks { lane, positions, sequences, reason };
        let mut shared = self.lock();
        if shared.lost.len() < LOST_MAX && !shared.lost.contains(&lost) {
            shared.lost.push(lost);
        }
        Ok(Found { position, block, stands_for_lost: true, is_empty })
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

/// A block without events that accounts for a run of sequences.
pub(crate) fn receipt(site: &SiteId, epoch: Epoch, lane: Lane, range: Range<Seq>, disposition: Disposition) -> Bytes {
    let span = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
    let end = range.start + u64::from(span);
    let accounts = if span == 0 { Vec::new() } else { vec![Account { range: range.start..end, disposition }] };
    let header = BlockHeader {
        site: site.clone(),
        epoch,
        lane,
        first_seq: range.start,
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
    };
    header.encode(&[])
}
