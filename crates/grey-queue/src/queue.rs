//! The owner's side of the outbox: append, commit, acknowledge, reclaim.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use grey_disk::Disk;
use grey_log::{Log, LogConfig, LogError};
use grey_model::{BlockError, BlockHeader, Disposition, Lane, SiteId};
use serde::{Deserialize, Serialize};

use crate::lane::{LaneEnd, LaneState, Pending};
use crate::reader::{Edges, QueueReader, Shared, receipt};

/// Limits of an outbox.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Bytes on disk over all lanes before [`Queue::is_full`] says so.
    pub bytes_max: u64,
    /// Size of a log segment: the unit in which space comes back.
    pub segment_bytes_max: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { bytes_max: 1 << 30, segment_bytes_max: 16 << 20 }
    }
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
        let mut queue = Self { config, lanes, reader };
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
