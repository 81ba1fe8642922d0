//! The owner's side of the outbox: append, commit, acknowledge, reclaim.

mod folding;
mod open;
mod telling;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::Disk;
use grey_log::{Log, LogError};
use grey_model::{BlockError, BlockHeader, Lane};
use grey_seal::{KeyId, Seal};
use serde::{Deserialize, Serialize};

use crate::ladder::{Ladder, Level, Step};
use crate::lane::{LaneEnd, LaneState, LaneStateV1, Pending};
use crate::lease::{self, SharedDoubt, UplinkReader};
use crate::reader::{Edges, QueueReader};
use crate::receipt::Receipt;
use crate::record::Counted;
use crate::reserve::Reserve;
use crate::strata::{LAYERS, Stratum, StratumStatus};

/// Limits and policies of an outbox.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Bytes on disk over all lanes at which the outbox is full.
    pub bytes_max: u64,
    /// Size of a log segment, at most: the unit in which space comes back. In a small
    /// outbox segments are smaller, a 64th of it.
    pub segment_bytes_max: u64,
    /// What becomes of each lane, by index, when the outbox is full.
    pub on_full: [OnFull; 3],
    /// Bytes of disk set aside, so that folds, receipts and checkpoints still have room
    /// when the disk is full. Not counted as used. A fold needs up to 4 MiB. With 0 nothing
    /// is set aside: on a full disk folds may then be refused as well, and room comes from
    /// acknowledged blocks ([`Queue::reclaim`] writes nothing) or from elsewhere on the disk.
    pub reserve_bytes: u64,
    /// What blocks on disk are sealed with and opened with; `None`: they are plain.
    pub seal: Option<Seal>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 30,
            segment_bytes_max: 16 << 20,
            on_full: [OnFull::Block, OnFull::Block, OnFull::DropOldest],
            reserve_bytes: 8 << 20,
            seal: None,
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
    /// Account for it as [`grey_model::Disposition::DroppedOverflow`].
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
    /// The disk refused an operation beside the logs.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// The part of the queue that a checkpoint keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueState {
    /// By lane index.
    pub lanes: [LaneState; 3],
    /// The level that was told of.
    ladder: Ladder,
    /// Changes of level that were told of.
    steps: u64,
}

/// The state as checkpoints before the strata kept it; [`QueueState`] is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueStateV1 {
    lanes: [LaneStateV1; 3],
}

impl From<QueueStateV1> for QueueState {
    fn from(old: QueueStateV1) -> Self {
        Self { lanes: old.lanes.map(LaneState::from), ..Self::default() }
    }
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
    /// The strata below, those that there are.
    layers: [Option<Log>; LAYERS],
    state: LaneState,
    /// Positions from here on must stay readable: a kept checkpoint may start here.
    floor: u64,
    /// Bytes of blocks that were settled since the last reclaim.
    settled_bytes: u64,
    /// Raised by every fold.
    generation: u64,
    /// Where the lane ended when it was last looked at for small blocks.
    looked_at: u64,
}

/// The outbox. One owner writes; [`QueueReader`]s read on other threads.
#[derive(Debug)]
pub struct Queue {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: QueueConfig,
    lanes: [LaneLog; 3],
    reader: QueueReader,
    doubt: SharedDoubt,
    reserve: Reserve,
    ladder: Ladder,
    steps: u64,
    /// As of the last [`Queue::take_receipts`].
    told: (Ladder, u64),
    receipts: Vec<Receipt>,
    disk_full: bool,
    now_ms: i64,
}

impl Queue {
    /// Appends encoded blocks to a lane and makes them durable and visible to
    /// readers: all of them, or none when the disk is full. After [`Queue::disk_full`] the
    /// lanes but the critical one leave half of the reserve's space to folds.
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
        if self.disk_full && lane != Lane::Critical && !self.reserve.leaves_room(slot.log.uncommitted_bytes()) {
            slot.log.truncate_back(slot.log.durable_end())?;
            return Err(LogError::Full { path: self.dir.clone() }.into());
        }
        slot.log.commit()?;
        state.apply_to(&mut slot.state);
        self.publish(lane);
        Ok(())
    }

    /// Settles every block of the lane below `upto`: the next tier has them. A block that
    /// stands for positions beyond `upto` is not settled.
    pub fn ack(&mut self, lane: Lane, upto: u64) -> Result<(), QueueError> {
        let upto = upto.min(self.lanes[lane.index()].log.durable_end());
        while self.lanes[lane.index()].state.acked < upto {
            let position = self.lanes[lane.index()].state.acked;
            let Some(found) = self.reader.read(lane, position)? else { break };
            if found.positions.end > upto {
                break;
            }
            let header = parse(lane, found.position(), &found.block)?;
            let slot = &mut self.lanes[lane.index()];
            slot.state.settle(&header);
            slot.state.acked = found.positions.end;
            slot.settled_bytes += found.block.len() as u64;
            let expected = slot.state.pending.counted().minus(Counted::of(&header, found.block.len()));
            // A receipt does not say how many of the lost sequences held events.
            let is_exact = slot.state.pending.remove(&header, found.block.len()) && !found.stands_for_lost;
            let is_last = slot.state.acked == slot.log.durable_end();
            if !is_exact || is_last && slot.state.pending != Pending::default() {
                self.recount(lane, expected)?;
            }
            self.publish(lane);
        }
        lease::lock(&self.doubt).settle(lane, self.lane(lane).acked);
        Ok(())
    }

    /// Counts what waits by reading it, where `expected` was counted and cannot be right.
    fn recount(&mut self, lane: Lane, expected: Counted) -> Result<(), QueueError> {
        let mut pending = Pending::default();
        let mut position = self.lanes[lane.index()].state.acked;
        while let Some((at, block)) = self.reader.next(lane, position)? {
            pending.add(&parse(lane, at, &block)?, block.len());
            position = at + 1;
        }
        let state = &mut self.lanes[lane.index()].state;
        state.pending = pending;
        // A later opening goes by the difference to an older checkpoint.
        state.counted = state.counted.plus(pending.counted().minus(expected));
        Ok(())
    }

    fn publish(&self, lane: Lane) {
        self.reader.lock().edges[lane.index()] = self.edges(lane);
    }

    fn edges(&self, lane: Lane) -> Edges {
        let state = self.lane(lane);
        let acked_seq = state.settled_seq(state.epoch);
        Edges { acked: state.acked, acked_seq, end_seq: state.end_seq, epoch: state.epoch }
    }

    /// Gives back the space of blocks that were settled when `state`, a
    /// checkpoint that is durable by now, was taken.
    pub fn reclaim(&mut self, state: &QueueState) -> Result<(), QueueError> {
        for (lane, kept) in Lane::ALL.into_iter().zip(&state.lanes) {
            let slot = &mut self.lanes[lane.index()];
            let acked = kept.acked.min(slot.state.acked);
            slot.floor = slot.floor.max(acked);
            lease::lock(&self.doubt).forget(lane, slot.floor);
            if acked == slot.state.acked {
                slot.settled_bytes = 0;
            }
            slot.log.trim_front(slot.floor)?;
            self.trim_layers(lane)?;
        }
        Ok(())
    }

    /// True when a checkpoint now, with older ones let go, would give back space that is
    /// needed, or would let a fold begin: follow it with [`Queue::reclaim`].
    pub fn wants_reclaim(&self) -> bool {
        let worth = match self.level() {
            Level::Normal => return false,
            Level::Warning | Level::Critical => u64::MAX,
            Level::Emergency => self.segment_bytes() / 4,
            Level::Overflow => 1,
        };
        self.lanes.iter().any(|slot| slot.settled_bytes >= worth || slot.is_held_back())
    }

    /// What a checkpoint must keep. Receipts that were taken count as told: whoever took
    /// them makes them durable before the checkpoint is.
    pub fn state(&self) -> QueueState {
        let lanes = self.lanes.each_ref().map(|slot| slot.state.clone());
        QueueState { lanes, ladder: self.told.0, steps: self.told.1 }
    }

    /// What is known of one lane.
    pub fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane.index()].state
    }

    /// A view for reading on any thread.
    pub fn reader(&self) -> QueueReader {
        self.reader.clone()
    }

    /// The uplink's view: what it gives out is in doubt until it is acknowledged.
    pub fn uplink(&self) -> UplinkReader {
        UplinkReader::new(self.reader.clone(), Arc::clone(&self.doubt))
    }

    /// Bytes on disk, settled blocks that are not reclaimed yet included; the reserve is not.
    pub fn bytes_on_disk(&self) -> u64 {
        let logs =
            self.lanes.iter().map(|slot| slot.log.bytes() + slot.layers.iter().flatten().map(Log::bytes).sum::<u64>());
        logs.sum::<u64>() + lease::lock(&self.doubt).bytes()
    }

    /// The keys that stored blocks are sealed with, and how many segments over all lanes and
    /// strata need each of them: an old key that is not here any more may go.
    pub fn keys_in_use(&self) -> BTreeMap<KeyId, usize> {
        let mut keys = BTreeMap::new();
        for log in self.lanes.iter().flat_map(|slot| slot.layers.iter().flatten().chain([&slot.log])) {
            for (key_id, segments) in log.keys_in_use() {
                *keys.entry(key_id).or_default() += segments;
            }
        }
        keys
    }

    /// True from [`Queue::disk_full`] until [`Queue::observe`] found room again.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// Bytes of disk that are set aside at the moment.
    pub fn bytes_reserved(&self) -> u64 {
        self.reserve.held_bytes()
    }

    /// Bytes of blocks that wait.
    pub fn bytes_pending(&self) -> u64 {
        self.lanes.iter().map(|slot| slot.state.pending.bytes).sum()
    }

    /// True when the waiting blocks reach the limit.
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

    /// Looks at what is used and moves the level; a step is also a receipt. Where the disk
    /// was full it is probed for room, and the reserve taken back.
    pub fn observe(&mut self, now_ms: i64) -> Option<Step> {
        self.now_ms = now_ms;
        // A disk that cannot say how much room it has is asked again next time.
        if self.reserve.take_back().unwrap_or(false) {
            self.disk_full = false;
        }
        self.step()
    }

    /// A write, anywhere in the data directory, found the disk full: what was set aside is
    /// let go and the outbox counts as full until [`Queue::observe`] finds room for it again.
    pub fn disk_full(&mut self, now_ms: i64) -> Option<Step> {
        self.now_ms = now_ms;
        self.disk_full = true;
        // Where it cannot be removed there is no more room than there was.
        let _ = self.reserve.let_go();
        self.step()
    }

    /// What every stratum of every lane holds; strata without a file are left out.
    pub fn strata(&self) -> Vec<StratumStatus> {
        let mut found = Vec::new();
        for lane in Lane::ALL {
            let slot = &self.lanes[lane.index()];
            let mut served = slot.state.acked;
            for stratum in Stratum::ALL {
                let log = match slot.layers.get(stratum.index()) {
                    None => &slot.log,
                    Some(Some(log)) => log,
                    Some(None) => continue,
                };
                let end = self.reader.lock().layers[lane.index()]
                    .get(stratum.index())
                    .map_or(slot.log.durable_end(), |layer| layer.as_ref().map_or(0, |layer| layer.covers.end));
                let positions = served..end.max(served);
                served = positions.end;
                let records = log.durable_end() - log.first_index();
                found.push(StratumStatus { lane, stratum, records, bytes: log.bytes(), positions });
            }
        }
        found
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

pub(crate) fn parse(lane: Lane, position: u64, block: &Bytes) -> Result<BlockHeader, QueueError> {
    let view = BlockHeader::parse(block).map_err(|source| QueueError::Block { lane, position, source })?;
    Ok(view.header)
}

#[cfg(test)]
mod pressure;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
