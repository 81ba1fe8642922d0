//! Opening: what the logs hold, put together with what the checkpoint knows.

use std::path::Path;
use std::sync::{Arc, Mutex};

use grey_disk::Disk;
use grey_ledger::Books;
use grey_log::{Log, LogConfig, Recovery};
use grey_model::{Disposition, Epoch, Lane, Seq, SiteId};

use super::{LaneLog, Queue, QueueConfig, QueueError, QueueState, Repair, parse};
use crate::lane::{LaneEnd, LaneState, Life, Pending};
use crate::lease::Doubt;
use crate::reader::{QueueReader, Shared, receipt};
use crate::record::Record;
use crate::reserve::Reserve;
use crate::strata::{Layer, Stratum};

/// The outbox is at least so many segments, so that space comes back in small parts.
const SEGMENTS: u64 = 64;
/// Smallest segment that a small outbox gets.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

impl QueueConfig {
    /// Bytes of a segment of a stratum.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes_max.min((self.bytes_max / SEGMENTS).max(SEGMENT_BYTES_MIN))
    }

    /// Opens the log of a stratum, creating it where missing.
    pub(super) fn open_log(
        &self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        lane: Lane,
        stratum: Stratum,
    ) -> Result<(Log, Recovery), QueueError> {
        let name = folder_name(lane, stratum);
        let seal = self.seal.as_ref().map(|seal| seal.with_purpose(&format!("outbox/{name}")));
        Ok(Log::open_sealed(Arc::clone(disk), &dir.join(name), self.log(stratum), seal.as_ref())?)
    }

    fn log(&self, stratum: Stratum) -> LogConfig {
        let segment_bytes_max = match stratum {
            // Receipts are small, and older ones are replaced all the time.
            Stratum::Dropped => self.segment_bytes().min(SEGMENT_BYTES_MIN),
            _ => self.segment_bytes(),
        };
        LogConfig { segment_bytes_max, ..LogConfig::default() }
    }
}

/// The folder of a stratum.
fn folder_name(lane: Lane, stratum: Stratum) -> String {
    match stratum {
        Stratum::Fresh => lane.to_string(),
        _ => format!("{lane}.{stratum}"),
    }
}

impl Queue {
    /// Opens the lanes below `dir`, continuing from the state of the last
    /// checkpoint. Without one every block is read once to count it.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        site: SiteId,
        config: QueueConfig,
        state: Option<QueueState>,
    ) -> Result<(Self, Vec<Repair>), QueueError> {
        let mut repairs = Vec::new();
        let QueueState { lanes: states, ladder, steps } = state.unwrap_or_default();
        let mut states = states.into_iter();
        let mut shared = Shared::default();
        let mut lasts = [None, None, None];
        let mut open = |lane: Lane| -> Result<LaneLog, QueueError> {
            let mut open = |stratum: Stratum| -> Result<Log, QueueError> {
                let (log, recovery) = config.open_log(disk, dir, lane, stratum)?;
                repairs.extend(recovery.damaged.iter().map(|damage| Repair { lane, what: damage.to_string() }));
                Ok(log)
            };
            let mut log = open(Stratum::Fresh)?;
            let mut layers = [const { None }; 4];
            let state = states.next().unwrap_or_default();
            let (mut start, mut end) = (None, 0);
            for stratum in Stratum::FOLDED {
                let path = dir.join(folder_name(lane, stratum));
                let look = |source| QueueError::Io { action: "look for", path: path.clone(), source };
                if !disk.exists(&path).map_err(look)? {
                    continue;
                }
                let opened = open(stratum)?;
                let mut layer = Layer::new(opened.reader());
                if let Some((first, last)) = layer.ends()? {
                    layer.covers = first.head.positions.start..last.head.positions.end;
                    let from = layer.covers.start;
                    start = Some(start.map_or(from, |start: u64| start.min(from)));
                    end = end.max(last.head.positions.end);
                    let newest: &mut Option<Record> = &mut lasts[lane.index()];
                    if newest.as_ref().is_none_or(|newest| newest.head.serial < last.head.serial) {
                        *newest = Some(last);
                    }
                }
                shared.layers[lane.index()][stratum.index()] = Some(layer);
                layers[stratum.index()] = Some(opened);
            }
            if log.next_index() < end {
                // All that it holds stands in the strata; positions are never given twice.
                let what = format!("the fresh blocks end at {} before the folded ones at {end}", log.next_index());
                repairs.push(Repair { lane, what });
                log.reset(end.max(state.end))?;
            }
            let first = start.map_or(log.first_index(), |start| start.min(log.first_index()));
            let looked_at = log.durable_end();
            Ok(LaneLog { log, layers, state, floor: first, settled_bytes: 0, generation: 0, looked_at })
        };
        let lanes = [open(Lane::Critical)?, open(Lane::Normal)?, open(Lane::Bulk)?];
        let logs = lanes.each_ref().map(|lane| lane.log.reader());
        let reader = QueueReader { site, logs, shared: Arc::new(Mutex::new(shared)) };
        let doubt = Doubt::open(disk, dir)?;
        let io = |source| QueueError::Io { action: "set space aside in", path: dir.to_owned(), source };
        let reserve = Reserve::open(disk, dir, config.reserve_bytes).map_err(io)?;
        let mut queue = Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            config,
            lanes,
            reader,
            doubt: Arc::new(Mutex::new(doubt)),
            reserve,
            ladder,
            steps,
            told: (ladder, steps),
            receipts: Vec::new(),
            disk_full: false,
            now_ms: 0,
        };
        for (lane, last) in Lane::ALL.into_iter().zip(lasts) {
            queue.catch_up(lane, last, &mut repairs)?;
            let slot = &mut queue.lanes[lane.index()];
            slot.floor = slot.floor.min(slot.state.acked);
        }
        let waiting = queue.lanes.each_ref().map(|slot| slot.state.acked..slot.log.durable_end());
        crate::lease::lock(&queue.doubt).begin(waiting);
        Ok((queue, repairs))
    }

    /// Counts what was appended and folded after the checkpoint, and accounts for what the
    /// checkpoint knows but the log does not. `last` is the record that was folded last.
    fn catch_up(&mut self, lane: Lane, last: Option<Record>, repairs: &mut Vec<Repair>) -> Result<(), QueueError> {
        let slot = &mut self.lanes[lane.index()];
        let known = slot.state.clone();
        let is_new = known == LaneState::default();
        if is_new {
            slot.state.acked = slot.floor;
        }
        if let Some(last) = &last {
            slot.state.serial = slot.state.serial.max(last.head.serial + 1);
        }
        self.publish(lane);
        let slot = &mut self.lanes[lane.index()];
        if slot.log.next_index() < known.end {
            // The log lost blocks that the checkpoint counted.
            let mut end_seq = known.lives.last().map_or(0, |life| life.books.end());
            let mut pending = Pending::default();
            let mut position = known.acked.max(slot.floor);
            while position < self.lanes[lane.index()].log.durable_end() {
                let Some((at, block)) = self.reader.next(lane, position)? else { break };
                let header = parse(lane, at, &block)?;
                end_seq = header.range().end;
                pending.add(&header, block.len());
                position = at + 1;
            }
            let slot = &mut self.lanes[lane.index()];
            let lost = end_seq..known.end_seq.max(end_seq);
            let what = format!("the log ends before the checkpoint; sequences {lost:?} are lost");
            repairs.push(Repair { lane, what });
            slot.state.end = slot.log.next_index();
            slot.state.end_seq = end_seq;
            slot.state.acked = slot.state.acked.min(slot.state.end);
            slot.state.pending = pending;
            slot.state.counted = slot.state.counted.plus(pending.counted().minus(known.pending.counted()));
            if !lost.is_empty() {
                self.tell_damage(lane, known.epoch, lost.clone());
                let block = receipt(&self.reader.site, known.epoch, lane, lost, Disposition::DroppedDamage);
                let header = parse(lane, self.lanes[lane.index()].state.end, &block)?;
                self.write(lane, [(&header, &block)])?;
            }
        } else {
            let mut position = known.end;
            let (mut is_short, mut is_exact) = (false, true);
            match last.filter(|last| last.head.serial >= known.serial) {
                _ if is_new => position = slot.floor,
                Some(last) => {
                    // Between the checkpoint and the last fold lies the difference of their counts.
                    let by = last.head.counted.minus(known.counted);
                    slot.state.counted = last.head.counted;
                    is_exact = slot.state.pending.shift(by);
                    position = position.max(last.head.lane_end).min(slot.log.durable_end());
                    is_short = slot.log.durable_end() < last.head.lane_end;
                }
                None => {}
            }
            while position < self.lanes[lane.index()].log.durable_end() {
                let Some((at, block)) = self.reader.next(lane, position)? else { break };
                let header = parse(lane, at, &block)?;
                let state = &mut self.lanes[lane.index()].state;
                let mut end = LaneEnd::of(state);
                end.appended(at, &header, block.len());
                end.apply_to(state);
                position = at + 1;
            }
            // The fold does not say; and where a loss took the lane's end, other blocks may have
            // come to the positions that the checkpoint knew.
            let slot = &self.lanes[lane.index()];
            let end = slot.log.durable_end();
            if end > slot.state.acked {
                self.find_end(lane, end)?;
            }
            let slot = &mut self.lanes[lane.index()];
            slot.state.end = slot.state.end.max(end);
            // A fold may have counted blocks that are not there any more; and the counts of
            // folds that are lost are not known.
            let is_damaged = repairs.iter().any(|repair| repair.lane == lane);
            if is_short || !is_exact || is_damaged || !slot.state.adds_up() {
                let expected = slot.state.pending.counted();
                self.publish(lane);
                self.recount(lane, expected)?;
            }
        }
        self.publish(lane);
        self.find_untold(lane)
    }

    /// Where no checkpoint tells what was settled: everything of a life below a sequence was, and
    /// its books begin there. Changes nothing in a life that has books.
    pub fn assume_settled(&mut self, lane: Lane, epoch: Epoch, below: Seq) {
        let state = &mut self.lanes[lane.index()].state;
        if below > 0 && !state.lives.iter().any(|life| life.epoch == epoch) {
            state.lives.push(Life { epoch, books: Books::settled_below(below) });
            state.lives.sort_by_key(|life| life.epoch);
        }
        if (state.epoch, state.end_seq) < (epoch, below) {
            (state.epoch, state.end_seq) = (epoch, below);
        }
        self.publish(lane);
    }

    /// What the last block of the lane says about its end.
    fn find_end(&mut self, lane: Lane, end: u64) -> Result<(), QueueError> {
        let edges = self.edges(lane);
        if let Some(found) = end.checked_sub(1).map(|at| self.reader.read_any(lane, at, &edges)).transpose()?.flatten()
        {
            let header = parse(lane, end - 1, &found.block)?;
            let state = &mut self.lanes[lane.index()].state;
            if (state.epoch, state.end_seq) < (header.epoch, header.range().end) {
                (state.epoch, state.end_seq) = (header.epoch, header.range().end);
            }
        }
        Ok(())
    }
}
