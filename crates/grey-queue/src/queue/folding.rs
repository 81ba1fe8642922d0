//! Which folds are due, and taking them over.

use grey_model::{BlockHeader, Lane, RangeSet};
use std::sync::Arc;

use super::{LaneLog, OnFull, Queue, QueueError};
use crate::fold::{Applied, FoldJob, Folded, Made};
use crate::ladder::Level;
use crate::lease::{self, touches};
use crate::record::{Counted, Head, Record};
use crate::strata::{Layer, Stratum};

/// Bytes that a fold reads.
const READ_BYTES_MAX: u64 = 8 << 20;
/// The same on a full disk, where what it writes has to fit into little.
const READ_BYTES_MAX_FULL: u64 = 1 << 20;
/// A lane gives way by a tenth at a time.
const DROP_PARTS: u64 = 10;
/// Settled blocks that a fold may have to copy because a kept checkpoint may start there.
const SETTLED_MAX: u64 = 256;
/// Below the emergency level a fold waits for so many positions: fewer are not worth a sync.
const POSITIONS_MIN: u64 = 16;
/// Waiting blocks from which on it is asked whether they are small, and then again after
/// as many more.
const SMALL_BLOCKS_MIN: u64 = 64;
/// Blocks with fewer events are small.
const SMALL_EVENTS: u64 = 1_024;
/// Blocks that are looked at to tell.
const SMALL_SAMPLES: u64 = 4;

impl LaneLog {
    /// Where a fold into a stratum starts: behind all that it and lower ones cover.
    fn head(&self, target: Stratum, covers: &[Option<Layer>]) -> u64 {
        let ends = covers[..=target.index()].iter().flatten().map(|layer| layer.covers.end);
        ends.max().unwrap_or(0).max(self.floor)
    }

    /// True when no fold can begin because too many settled blocks are kept for a checkpoint.
    pub(super) fn is_held_back(&self) -> bool {
        self.state.acked > self.floor + SETTLED_MAX && self.state.acked < self.log.durable_end()
    }
}

impl Queue {
    pub(super) fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes()
    }

    /// Work that stored blocks need, the most urgent first; `None` when there is none. Run
    /// it on any thread, then [`Queue::apply`] what it made. One at a time: of two jobs for
    /// a lane the second is discarded. Ask again after each, and after [`Queue::observe`].
    pub fn next_fold(&mut self) -> Option<FoldJob> {
        // The lanes of lowest priority give way first.
        let lanes = || Lane::ALL.into_iter().rev();
        for target in self.targets() {
            let may = |queue: &Self, lane: Lane| match (target, queue.config.on_full[lane.index()]) {
                (Stratum::Packed, _) | (Stratum::Dropped, OnFull::DropOldest) => true,
                (Stratum::Dropped, _) | (_, OnFull::Block) => false,
                _ => true,
            };
            if let Some(job) = lanes().filter(|lane| may(self, *lane)).find_map(|lane| self.job(lane, *target)) {
                return Some(job);
            }
        }
        lanes().find_map(|lane| self.small_blocks(lane))
    }

    /// What is done to stored blocks at this level, the most effective first.
    fn targets(&self) -> &'static [Stratum] {
        use Stratum::{Dropped, Packed, Rolled, Thinned};
        match self.level() {
            Level::Normal => &[],
            Level::Warning => &[Packed],
            Level::Critical => &[Thinned, Packed],
            Level::Emergency => &[Rolled, Packed],
            // On the way down what can be rolled up need not be dropped.
            Level::Overflow if !self.disk_full && self.bytes_on_disk() < self.config.bytes_max => {
                &[Rolled, Dropped, Packed]
            }
            Level::Overflow => &[Dropped, Rolled, Packed],
        }
    }

    fn job(&self, lane: Lane, target: Stratum) -> Option<FoldJob> {
        let slot = &self.lanes[lane.index()];
        let start = slot.head(target, &self.reader.lock().layers[lane.index()]);
        let (acked, end) = (slot.state.acked, slot.log.durable_end());
        let from = start.max(acked);
        if acked > start + SETTLED_MAX || from >= end {
            return None;
        }
        let given = lease::lock(&self.doubt).given(lane).clone();
        let free: u64 = given.missing(from..end).iter().map(|range| range.end - range.start).sum();
        let is_worth = match target {
            Stratum::Packed => free >= POSITIONS_MIN && free * 2 >= end - from,
            Stratum::Dropped => free > 0,
            _ if self.level() >= Level::Emergency => free > 0,
            _ => free >= POSITIONS_MIN,
        };
        if !is_worth {
            return None;
        }
        let limit = if self.disk_full { READ_BYTES_MAX_FULL } else { READ_BYTES_MAX };
        let read_bytes_max = match target {
            Stratum::Dropped => limit.min((slot.state.pending.bytes / DROP_PARTS).max(1)),
            _ => limit,
        };
        Some(FoldJob {
            reader: self.reader.clone(),
            edges: self.edges(lane),
            lane,
            target,
            generation: slot.generation,
            positions: start..end,
            given,
            read_bytes_max,
        })
    }

    /// Packing a backlog of small blocks is worth it at any level.
    fn small_blocks(&mut self, lane: Lane) -> Option<FoldJob> {
        let slot = &self.lanes[lane.index()];
        let start = slot.head(Stratum::Packed, &self.reader.lock().layers[lane.index()]).max(slot.state.acked);
        let end = slot.log.durable_end();
        if end < start.max(slot.looked_at) + SMALL_BLOCKS_MIN {
            return None;
        }
        let reader = self.reader.clone();
        let events = |n: u64| {
            let at = start + (end - 1 - start) * n / (SMALL_SAMPLES - 1);
            let (_, block) = reader.next(lane, at).ok()??;
            Some(u64::from(BlockHeader::parse(&block).ok()?.header.events))
        };
        let mut sampled = 0;
        for n in 0..SMALL_SAMPLES {
            sampled += events(n)?;
        }
        if sampled >= SMALL_EVENTS * SMALL_SAMPLES {
            self.lanes[lane.index()].looked_at = end;
            return None;
        }
        let job = self.job(lane, Stratum::Packed);
        if job.is_none() {
            self.lanes[lane.index()].looked_at = end;
        }
        job
    }

    /// Takes over what a job made: durable once this returns, and what it replaced is
    /// given back.
    ///
    /// # Errors
    /// Of reading, from the job. [`grey_log::LogError::Full`]: nothing was changed.
    pub fn apply(&mut self, folded: Folded) -> Result<Applied, QueueError> {
        let Folded { lane, target, generation, made } = folded;
        let made = made?;
        let mut applied = Applied {
            lane,
            target,
            replaced: made.iter().map(|made| made.sources).sum(),
            records: made.len() as u64,
            bytes_before: made.iter().map(|made| made.was.bytes.unsigned_abs()).sum(),
            bytes_after: made.iter().map(|made| made.block.len() as u64).sum(),
            discarded: false,
        };
        // Held until the fold is durable: nothing that it changes may be given out meanwhile.
        let doubt = Arc::clone(&self.doubt);
        let doubt = lease::lock(&doubt);
        let slot = &self.lanes[lane.index()];
        if generation != slot.generation || made.is_empty() || !is_untouched(&made, slot.state.acked, doubt.given(lane))
        {
            applied.discarded = true;
            return Ok(applied);
        }
        self.open_layer(lane, target)?;
        let slot = &mut self.lanes[lane.index()];
        let Some(log) = &mut slot.layers[target.index()] else { return Ok(applied) };
        let lane_end = slot.log.durable_end();
        let (mut serial, mut counted, mut records) = (slot.state.serial, slot.state.counted, Vec::new());
        let mut by = Counted::default();
        for made in &made {
            if made.is_changed {
                by = by.plus(made.counted().minus(made.was));
            }
            let head = Head {
                serial,
                positions: made.positions.clone(),
                lane_end,
                affected: made.affected,
                aggregates: made.aggregates,
                since: made.since,
                counted: counted.plus(by),
            };
            log.append_parts(&[&head.encode(), &made.block])?;
            records.push(Record { head, block: made.block.clone() });
            serial += 1;
        }
        log.commit()?;
        counted = counted.plus(by);
        (slot.state.serial, slot.state.counted) = (serial, counted);
        slot.generation += 1;
        let expected = slot.state.pending.counted().plus(by);
        let exact = slot.state.pending.shift(by);
        self.cover(lane, target, &records);
        drop(doubt);
        if !exact || made.iter().any(|made| made.stands_for_lost) {
            self.recount(lane, expected)?;
        }
        for record in &records {
            self.tell_fold(lane, target, record)?;
        }
        self.trim_layers(lane)?;
        Ok(applied)
    }

    fn open_layer(&mut self, lane: Lane, stratum: Stratum) -> Result<(), QueueError> {
        let slot = &mut self.lanes[lane.index()];
        if slot.layers[stratum.index()].is_none() {
            let (log, _) = self.config.open_log(&self.disk, &self.dir, lane, stratum)?;
            self.reader.lock().layers[lane.index()][stratum.index()] = Some(Layer::new(log.reader()));
            slot.layers[stratum.index()] = Some(log);
        }
        Ok(())
    }

    /// Lets readers see new records.
    fn cover(&self, lane: Lane, stratum: Stratum, records: &[Record]) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let mut shared = self.reader.lock();
        shared.version += 1;
        if let Some(layer) = &mut shared.layers[lane.index()][stratum.index()] {
            let start = if layer.covers.is_empty() { first.head.positions.start } else { layer.covers.start };
            layer.covers = start..last.head.positions.end;
        }
    }

    /// Gives back what no reader can come to any more: what is settled for good, and what
    /// lower strata stand for.
    pub(super) fn trim_layers(&mut self, lane: Lane) -> Result<(), QueueError> {
        let layers = self.reader.lock().layers[lane.index()].clone();
        let slot = &mut self.lanes[lane.index()];
        let mut needed = slot.floor;
        for stratum in Stratum::FOLDED {
            let (Some(layer), Some(log)) = (&layers[stratum.index()], &mut slot.layers[stratum.index()]) else {
                continue;
            };
            if layer.covers.end <= needed {
                log.trim_front(log.durable_end())?;
            } else if layer.covers.start < needed || stratum == Stratum::Dropped {
                let around = layer.around(needed)?;
                let first = match (around.at, around.after) {
                    (Some((index, record)), _) if record.head.positions.end > needed => Some(index),
                    (_, after) => after.map(|(index, _)| index),
                };
                if let Some(first) = first {
                    log.trim_front(first)?;
                }
            }
            needed = needed.max(layer.covers.end);
        }
        slot.log.trim_front(needed.max(slot.floor))?;
        Ok(())
    }
}

/// True when what a fold changes was neither given out nor settled since it began.
fn is_untouched(made: &[Made], acked: u64, given: &RangeSet) -> bool {
    made.iter()
        .filter(|made| made.is_changed)
        .all(|made| made.positions.start >= acked && !touches(given, &made.positions))
}
