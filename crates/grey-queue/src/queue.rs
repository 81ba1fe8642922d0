//! The owner's side of the outbox: append, commit, acknowledge, reclaim.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use grey_disk::Disk;
use grey_log::{Log, LogConfig, LogError};
use grey_model::{BlockError, BlockHeader, Disposition, Lane, SiteId};
use serde::{Deserialize, Serialize};

use crate::fold::{Applied, FoldJob, Folded};
use crate::ladder::{Ladder, Level, Step};
use crate::lane::{LaneEnd, LaneState, Pending};
use crate::lease::UplinkReader;
use crate::reader::{Edges, QueueReader, Shared, receipt};
use crate::receipt::{Receipt, ReceiptKind};
use crate::strata::StratumStatus;

/// Limits of an outbox.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Bytes on disk over all lanes before [`Queue::is_full`] says so.
    pub bytes_max: u64,
    /// Size of a log segment: the unit in which space comes back.
    pub segment_bytes_max: u64,
    /// What becomes of each lane, by index, when the outbox is full.
    pub on_full: [OnFull; 3],
    /// Bytes of disk set aside, so that folds, receipts and checkpoints still have room
    /// when the disk is full. Not counted as used.
    pub reserve_bytes: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 30,
            segment_bytes_max: 16 << 20,
            on_full: [OnFull::Block, OnFull::Block, OnFull::DropOldest],
            reserve_bytes: 8 << 20,
        }
    }
}

/// What becomes of a lane when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Producers wait. Nothing of the lane is ever thinned, rolled up or dropped.
    #[default]
    Block,
    /// The oldest blocks make room.
    DropOldest,
    /// New events are accounted as dropped.
    DropNewest,
}

/// What to do with a new event of a lane, as full as the outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Take it.
    Take,
    /// Take one reading of two, by a hash of the sequence; account for the other as
    /// reduced by [`grey_model::RuleId::THINNED`]. Other kinds of events are taken.
    Sample,
    /// Account for it as [`Disposition::DroppedOverflow`].
    DropNewest,
    /// Let the producer wait.
    Block,
}

/// Why the outbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The lane's log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A stored record is not a block.
    #[error("outbox lane {lane} holds something that is not a block at position {position}")]
    Block {
        /// The lane.
        lane: Lane,
        /// The position.
        position: u64,
        /// What was wrong.
        source: BlockError,
    },
}

/// The part of the queue that a checkpoint keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueState {
    /// By lane index.
    pub lanes: [LaneState; 3],
}

/// What opening had to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The lane.
    pub lane: Lane,
    /// What was found and done.
    pub what: String,
}

#[derive(Debug)]
struct LaneLog {
    log: Log,
    state: LaneState,
}

/// The outbox. One owner writes; [`QueueReader`]s read on other threads.
#[derive(Debug)]
pub struct Queue {
    config: QueueConfig,
    lanes: [LaneLog; 3],
    reader: QueueReader,
    ladder: Ladder,
    receipts: Vec<Receipt>,
    steps: u64,
    disk_full: bool,
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
        let mut states = state.unwrap_or_default().lanes.into_iter();
        let mut open = |lane: Lane| -> Result<LaneLog, QueueError> {
            let log_config = LogConfig { segment_bytes_max: config.segment_bytes_max, ..LogConfig::default() };
            let (log, recovery) = Log::open(Arc::clone(disk), &dir.join(lane.as_str()), log_config)?;
            for damage in recovery.damaged {
                repairs.push(Repair { lane, what: damage.to_string() });
            }
            let state = states.next().unwrap_or_default();
            Ok(LaneLog { log, state })
        };
        let lanes = [open(Lane::Critical)?, open(Lane::Normal)?, open(Lane::Bulk)?];
        let logs = lanes.each_ref().map(|lane| lane.log.reader());
        let reader = QueueReader { site, logs, shared: Arc::new(Mutex::new(Shared::default())) };
        let (ladder, receipts) = (Ladder::default(), Vec::new());
        let mut queue = Self { config, lanes, reader, ladder, receipts, steps: 0, disk_full: false };
        for lane in Lane::ALL {
            queue.catch_up(lane, &mut repairs)?;
        }
        Ok((queue, repairs))
    }

    /// Counts the blocks that were appended after the checkpoint, and accounts
    /// for those that the checkpoint knows but the log does not.
    fn catch_up(&mut self, lane: Lane, repairs: &mut Vec<Repair>) -> Result<(), QueueError> {
        let slot = &mut self.lanes[lane.index()];
        let known = slot.state.clone();
        if slot.log.next_index() < known.end {
            // The log lost blocks that the checkpoint counted.
            let mut end_seq = known.lives.last().map_or(0, |life| life.books.end());
            let mut pending = Pending::default();
            let mut position = known.acked.max(slot.log.first_index());
            while position < slot.log.durable_end() {
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
            if !lost.is_empty() {
                let block = receipt(&self.reader.site, known.epoch, lane, lost, Disposition::DroppedDamage);
                let header = parse(lane, slot.state.end, &block)?;
                self.write(lane, [(&header, &block)])?;
            }
        } else {
            let mut position = known.end.max(if known == LaneState::default() { slot.log.first_index() } else { 0 });
            if known == LaneState::default() {
                slot.state.acked = position;
            }
            self.publish(lane);
            while position < self.lanes[lane.index()].log.durable_end() {
                let Some((at, block)) = self.reader.next(lane, position)? else { break };
                let header = parse(lane, at, &block)?;
                let state = &mut self.lanes[lane.index()].state;
                let mut end = LaneEnd::of(state);
                end.appended(at, &header, block.len());
                end.apply_to(state);
                position = at + 1;
            }
        }
        self.publish(lane);
        Ok(())
    }

    /// Appends encoded blocks to a lane and makes them durable and visible to
    /// readers: all of them, or none when the disk is full.
    pub fn write<'a>(
        &mut self,
        lane: Lane,
        blocks: impl IntoIterator<Item = (&'a BlockHeader, &'a Bytes)>,
    ) -> Result<(), QueueError> {
        let slot = &mut self.lanes[lane.index()];
        let mut state = LaneEnd::of(&slot.state);
        for (header, block) in blocks {
            let position = slot.log.append(block)?;
            state.appended(position, header, block.len());
        }
        slot.log.commit()?;
        state.apply_to(&mut slot.state);
        self.publish(lane);
        Ok(())
    }

    /// Settles every block of the lane below `upto`: the next tier has them.
    pub fn ack(&mut self, lane: Lane, upto: u64) -> Result<(), QueueError> {
        let upto = upto.min(self.lanes[lane.index()].log.durable_end());
        while self.lanes[lane.index()].state.acked < upto {
            let position = self.lanes[lane.index()].state.acked;
            let Some(found) = self.reader.read(lane, position)? else { break };
            let header = parse(lane, found.position, &found.block)?;
            let state = &mut self.lanes[lane.index()].state;
            state.settle(&header);
            state.acked = found.position + 1;
            // A receipt does not say how many of the lost sequences held events.
            if found.stands_for_lost || !state.pending.remove(&header, found.block.len()) {
                self.recount(lane)?;
            }
            self.publish(lane);
        }
        Ok(())
    }

    fn recount(&mut self, lane: Lane) -> Result<(), QueueError> {
        let mut pending = Pending::default();
        let mut position = self.lanes[lane.index()].state.acked;
        while let Some((at, block)) = self.reader.next(lane, position)? {
            pending.add(&parse(lane, at, &block)?, block.len());
            position = at + 1;
        }
        self.lanes[lane.index()].state.pending = pending;
        Ok(())
    }

    fn publish(&self, lane: Lane) {
        let state = &self.lanes[lane.index()].state;
        let acked_seq = state.settled_seq(state.epoch);
        self.reader.lock().edges[lane.index()] =
            Edges { acked: state.acked, acked_seq, end_seq: state.end_seq, epoch: state.epoch };
    }

    /// Gives back the space of blocks that were settled when `state`, a
    /// checkpoint that is durable by now, was taken.
    pub fn reclaim(&mut self, state: &QueueState) -> Result<(), QueueError> {
        for (slot, kept) in self.lanes.iter_mut().zip(&state.lanes) {
            slot.log.trim_front(kept.acked.min(slot.state.acked))?;
        }
        Ok(())
    }

    /// What a checkpoint must keep.
    pub fn state(&self) -> QueueState {
        QueueState { lanes: self.lanes.each_ref().map(|slot| slot.state.clone()) }
    }

    /// What is known of one lane.
    pub fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane.index()].state
    }

    /// A view for reading on any thread.
    pub fn reader(&self) -> QueueReader {
        self.reader.clone()
    }

    /// Bytes on disk, settled blocks that are not reclaimed yet included.
    pub fn bytes_on_disk(&self) -> u64 {
        self.lanes.iter().map(|slot| slot.log.bytes()).sum()
    }

    /// Bytes of blocks that wait.
    pub fn bytes_pending(&self) -> u64 {
        self.lanes.iter().map(|slot| slot.state.pending.bytes).sum()
    }

    /// True when the waiting blocks reach the limit: producers must wait.
    pub fn is_full(&self) -> bool {
        self.bytes_pending() >= self.config.bytes_max
    }

    /// The limit in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.config.bytes_max
    }

    /// How full the outbox is, as of the last [`Queue::observe`].
    pub fn level(&self) -> Level {
        self.ladder.level()
    }

    /// Looks at what is used and moves the level; a step is also a receipt.
    pub fn observe(&mut self, now_ms: i64) -> Option<Step> {
        let step = self.ladder.observe(self.bytes_on_disk(), self.config.bytes_max, self.disk_full)?;
        self.steps += 1;
        let id = format!("outbox-step-{}-{}", self.steps, step.to);
        self.receipts.push(Receipt { id, at_ms: now_ms, kind: ReceiptKind::Step(step) });
        Some(step)
    }

    /// What to do with a new event of a lane.
    pub fn admission(&self, lane: Lane) -> Admission {
        match (self.config.on_full[lane.index()], self.level()) {
            (OnFull::Block, Level::Overflow) => Admission::Block,
            (OnFull::DropNewest, Level::Overflow) => Admission::DropNewest,
            (OnFull::DropOldest | OnFull::DropNewest, Level::Critical | Level::Emergency | Level::Overflow) => {
                Admission::Sample
            }
            _ => Admission::Take,
        }
    }

    /// A write, anywhere in the data directory, found the disk full: what was set aside is
    /// let go and the outbox counts as full until [`Queue::observe`] finds room again.
    pub fn disk_full(&mut self, now_ms: i64) -> Option<Step> {
        self.disk_full = true;
        self.observe(now_ms)
    }

    /// Work that stored blocks need, the most urgent first; `None` when there is none.
    pub fn next_fold(&mut self) -> Option<FoldJob> {
        None
    }

    /// Takes over what a job made: durable once this returns.
    pub fn apply(&mut self, folded: Folded) -> Result<Applied, QueueError> {
        Ok(folded.applied)
    }

    /// True when a checkpoint now would give back space that is needed, or lets folds go on.
    pub fn wants_reclaim(&self) -> bool {
        false
    }

    /// What there is to tell: changes of level and affected ranges since the last time.
    pub fn take_receipts(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.receipts)
    }

    /// The uplink's view.
    pub fn uplink(&self) -> UplinkReader {
        UplinkReader::new(self.reader.clone())
    }

    /// What every stratum of every lane holds.
    pub fn strata(&self) -> Vec<StratumStatus> {
        Vec::new()
    }

    /// When the oldest waiting block was closed, Unix ms.
    pub fn oldest_pending_ms(&self) -> Option<i64> {
        let stamp = |lane: Lane| {
            let state = self.lane(lane);
            let (at, block) = (state.acked < state.end).then(|| self.reader.next(lane, state.acked))?.ok()??;
            let stamp = parse(lane, at, &block).ok()?.stamp.unix_ms();
            (stamp > 0).then_some(stamp)
        };
        Lane::ALL.into_iter().filter_map(stamp).min()
    }
}

fn parse(lane: Lane, position: u64, block: &Bytes) -> Result<BlockHeader, QueueError> {
    let view = BlockHeader::parse(block).map_err(|source| QueueError::Block { lane, position, source })?;
    Ok(view.header)
}

#[cfg(test)]
mod tests;
