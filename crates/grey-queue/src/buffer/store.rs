//! The buffer: three lanes, one file of acknowledgements, one limit.

use std::path::Path;
use std::sync::Arc;

use grey_disk::{Disk, Lock, RealDisk};
use grey_model::{Event, Lane, Seq, SiteId};
use serde::Serialize;

use super::acks::{AckFile, Acked};
use super::batch::{Batch, Budget, Place};
use super::config::BufferConfig;
use super::error::BufferError;
use super::lane::LaneStore;
use super::record::Form;
use crate::{Ladder, Level, OnFull};

/// The name that blocks carry; a buffer belongs to no site.
const SITE: &str = "buffer";
/// What normal and bulk items get of each round, in bytes: four to one.
const QUANTA: [(Lane, usize); 2] = [(Lane::Normal, 256 << 10), (Lane::Bulk, 64 << 10)];
/// Bytes that an item may take besides its own while it is not compressed.
const ITEM_BYTES: u64 = 8;

/// For each lane the sequence behind the last durable item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    by_lane: [Seq; 3],
}

impl Ends {
    /// Items of the lane below this are durable.
    pub fn of(&self, lane: Lane) -> Seq {
        self.by_lane[lane.index()]
    }
}

/// What waits in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Durable items that are not acknowledged.
    pub items: u64,
    /// Bytes that they take on disk, with acknowledged ones of the same record.
    pub bytes: u64,
    /// Items that gave way to newer ones, or were refused as the newest, since the
    /// buffer was made; the latter only since it was opened.
    pub dropped: u64,
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    by_lane: [Waiting; 3],
}

impl Pending {
    /// What waits in one lane.
    pub fn of(&self, lane: Lane) -> Waiting {
        self.by_lane[lane.index()]
    }

    /// Items in all lanes.
    pub fn items(&self) -> u64 {
        self.by_lane.iter().map(|lane| lane.items).sum()
    }

    /// Bytes in all lanes.
    pub fn bytes(&self) -> u64 {
        self.by_lane.iter().map(|lane| lane.bytes).sum()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items() == 0
    }
}

/// A durable queue in a directory; see the [module](crate::buffer).
///
/// Dropping it commits and makes the acknowledgements durable as far as possible;
/// [`Buffer::close`] does the same and says whether it worked.
#[derive(Debug)]
pub struct Buffer {
    config: BufferConfig,
    lanes: [LaneStore; 3],
    acks: AckFile,
    /// Bytes that normal and bulk may still take in this round.
    deficits: [usize; 2],
    /// Whose turn it is.
    turn: usize,
    ladder: Ladder,
    /// Refused as the newest.
    refused: [u64; 3],
    /// Where `append_typed` serialises.
    scratch: Vec<u8>,
    _lock: Option<Lock>,
}

impl Buffer {
    /// Opens the buffer in a directory, creating it where missing, and takes the directory
    /// for this process. Takes milliseconds whatever waits.
    ///
    /// # Errors
    /// [`BufferError::Io`] when another process holds it, else what the disk refuses;
    /// [`LogError::KeyMissing`](grey_log::LogError::KeyMissing) when items are sealed with a
    /// key that is not given.
    pub fn open(dir: impl AsRef<Path>, config: BufferConfig) -> Result<Self, BufferError> {
        let disk = RealDisk::new(dir.as_ref());
        let lock = disk.lock().map_err(BufferError::io("open", dir.as_ref()))?;
        let mut buffer = Self::open_on(Arc::new(disk), config)?;
        buffer._lock = Some(lock);
        Ok(buffer)
    }

    /// Opens the buffer that takes a whole disk, which nobody else may use.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn open_on(disk: Arc<dyn Disk>, config: BufferConfig) -> Result<Self, BufferError> {
        let site = SiteId::new(SITE).unwrap_or_else(|_| unreachable!("a constant name"));
        disk.create_dir_all(Path::new("")).map_err(BufferError::io("create", "."))?;
        let (acks, acked) = AckFile::open(&*disk)?;
        let open = |lane: Lane| LaneStore::open(&disk, lane, &config, &site, acked[lane.index()]);
        let lanes = [open(Lane::Critical)?, open(Lane::Normal)?, open(Lane::Bulk)?];
        let mut buffer = Self {
            config,
            lanes,
            acks,
            deficits: [QUANTA[0].1, 0],
            turn: 0,
            ladder: Ladder::default(),
            refused: [0; 3],
            scratch: Vec::new(),
            _lock: None,
        };
        buffer.observe();
        Ok(buffer)
    }

    /// Takes a payload of at most 1 MiB, less 1 KiB, and returns its sequence. Nothing is
    /// written for sure before [`Buffer::commit`].
    ///
    /// # Errors
    /// [`BufferError::Full`], [`BufferError::Dropped`], [`BufferError::Payload`].
    pub fn append(&mut self, lane: Lane, payload: &[u8]) -> Result<Seq, BufferError> {
        self.append_bytes(lane, Form::Raw, payload)
    }

    /// Takes a value in postcard's format, to be read back with [`Item::typed`](super::Item::typed).
    ///
    /// # Errors
    /// As [`Buffer::append`]; [`BufferError::Serialize`].
    pub fn append_typed<T: Serialize>(&mut self, lane: Lane, value: &T) -> Result<Seq, BufferError> {
        self.scratch.clear();
        let payload = postcard::to_extend(value, std::mem::take(&mut self.scratch)).map_err(BufferError::Serialize)?;
        let seq = self.append_bytes(lane, Form::Typed, &payload);
        self.scratch = payload;
        seq
    }

    /// Takes an event; events of a lane are compressed together by columns.
    ///
    /// # Errors
    /// As [`Buffer::append`].
    pub fn append_event(&mut self, lane: Lane, event: &Event) -> Result<Seq, BufferError> {
        let bytes = event.device.len() + event.stream.len() + size_of::<Event>();
        self.make_room(lane, bytes)?;
        let builder = self.lanes[lane.index()].builder(Form::Event, bytes)?;
        builder.push_event(event).map_err(BufferError::Payload)
    }

    fn append_bytes(&mut self, lane: Lane, form: Form, payload: &[u8]) -> Result<Seq, BufferError> {
        self.make_room(lane, payload.len())?;
        let builder = self.lanes[lane.index()].builder(form, payload.len())?;
        builder.push(payload).map_err(BufferError::Payload)
    }

    /// Makes everything appended so far durable: for each lane that was appended to, one
    /// write and one sync.
    ///
    /// # Errors
    /// [`BufferError::DiskFull`]: what was appended to that lane was not kept, what was
    /// appended to others is durable unless they say so, too. Any other error: open the
    /// buffer again.
    pub fn commit(&mut self) -> Result<Ends, BufferError> {
        let mut syncs = [None, None, None];
        let mut outcome = Ok(());
        for (lane, sync) in self.lanes.iter_mut().zip(&mut syncs) {
            match lane.begin_commit() {
                Ok(begun) => *sync = begun,
                Err(error) => outcome = Err(error),
            }
        }
        let mut is_changed = false;
        for (lane, sync) in self.lanes.iter_mut().zip(syncs) {
            if let Some(sync) = sync {
                lane.end_commit(sync.run())?;
                is_changed = true;
            }
        }
        if is_changed {
            self.hint()?;
            self.observe();
        }
        outcome.map(|()| self.ends())
    }

    /// For each lane the sequence behind the last durable item.
    pub fn ends(&self) -> Ends {
        Ends { by_lane: self.lanes.each_ref().map(LaneStore::end) }
    }

    fn acked(&self) -> [Acked; 3] {
        self.lanes.each_ref().map(|lane| lane.acked)
    }

    fn hint(&mut self) -> Result<(), BufferError> {
        let acked = self.acked();
        self.acks.hint(&acked)
    }

    /// Gives the next durable items and moves the cursor behind them. Nothing is removed.
    /// Empty when the cursor is at the end.
    ///
    /// # Errors
    /// When the disk cannot be read; [`BufferError::Record`].
    pub fn peek(&mut self, budget: Budget) -> Result<Batch, BufferError> {
        let mut batch = Batch::default();
        let critical = Lane::Critical.index();
        self.lanes[critical].take(&mut batch, budget.bytes, budget.items, true)?;
        while batch.len() < budget.items && (batch.bytes() < budget.bytes || batch.is_empty()) {
            let room = budget.bytes.saturating_sub(batch.bytes());
            let (items, is_first) = (budget.items - batch.len(), batch.is_empty());
            match QUANTA.map(|(lane, _)| self.lanes[lane.index()].has_next()) {
                [false, false] => break,
                [true, true] => {}
                // Alone, a lane may have everything.
                [has_normal, _] => {
                    let (lane, _) = QUANTA[usize::from(!has_normal)];
                    self.lanes[lane.index()].take(&mut batch, room, items, is_first)?;
                    break;
                }
            }
            // Deficit round robin (Shreedhar and Varghese, 1995).
            let lane = &mut self.lanes[QUANTA[self.turn].0.index()];
            let deficit = self.deficits[self.turn];
            let taken = lane.take(&mut batch, deficit.min(room), items, is_first)?;
            self.deficits[self.turn] = deficit.saturating_sub(taken);
            if !lane.has_next() {
                self.deficits[self.turn] = 0;
            } else if room <= deficit {
                // The budget is spent; the lane goes on at the next peek.
                break;
            }
            if batch.len() < budget.items {
                self.turn = 1 - self.turn;
                self.deficits[self.turn] += QUANTA[self.turn].1;
            }
        }
        Ok(batch)
    }

    /// Puts the cursor back to the first item of each lane that is not acknowledged.
    pub fn rewind(&mut self) {
        self.lanes.iter_mut().for_each(LaneStore::rewind);
    }

    /// True when a peek would give something.
    pub fn has_next(&self) -> bool {
        self.lanes.iter().any(LaneStore::has_next)
    }

    /// Forgets the items of a batch, and all before them in their lanes. Their space comes
    /// back now and then; at once when room is short, and when the buffer is closed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn ack(&mut self, batch: &Batch) -> Result<(), BufferError> {
        self.ack_all(batch.places())
    }

    /// Forgets everything up to a place, which [`Item::place`](super::Item::place) gives.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn ack_to(&mut self, place: Place) -> Result<(), BufferError> {
        self.ack_all([place])
    }

    fn ack_all(&mut self, places: impl IntoIterator<Item = Place>) -> Result<(), BufferError> {
        let mut is_changed = false;
        for place in places {
            is_changed |= self.lanes[place.lane.index()].ack(&place);
        }
        if is_changed {
            self.hint()?;
            self.reclaim()?;
        }
        Ok(())
    }

    fn reclaim(&mut self) -> Result<(), BufferError> {
        let mut is_changed = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_reclaimable()) {
            lane.reclaim()?;
            is_changed = true;
        }
        if is_changed {
            self.observe();
        }
        Ok(())
    }

    /// Gives back all that was acknowledged, a whole file at a time.
    fn reclaim_all(&mut self) -> Result<(), BufferError> {
        self.acks.sync()?;
        self.lanes.iter_mut().try_for_each(LaneStore::reclaim_all)?;
        self.observe();
        Ok(())
    }

    /// Makes the acknowledgements as durable as commits.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync_acks(&mut self) -> Result<(), BufferError> {
        self.acks.sync()
    }

    /// What waits.
    pub fn pending(&self) -> Pending {
        let of = |lane: &LaneStore| Waiting {
            items: lane.end() - lane.acked.seq,
            bytes: lane.bytes_waiting(),
            dropped: lane.acked.dropped + self.refused[lane.lane().index()],
        };
        Pending { by_lane: self.lanes.each_ref().map(of) }
    }

    /// Bytes on disk, and what the next commit adds at most.
    pub fn bytes_used(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.bytes_on_disk() + lane.bytes_uncommitted()).sum()
    }

    /// How full it is, of [`BufferConfig::max_bytes`], with hysteresis.
    pub fn level(&self) -> Level {
        self.ladder.level()
    }

    /// True when an append to a lane that blocks would be refused.
    pub fn is_full(&self) -> bool {
        self.bytes_used() >= self.config.max_bytes
    }

    fn observe(&mut self) {
        let used = self.bytes_used();
        self.ladder.observe(used, self.config.max_bytes, false);
    }

    /// Sees to it that an item of a lane fits.
    fn make_room(&mut self, lane: Lane, bytes: usize) -> Result<(), BufferError> {
        let wanted = bytes as u64 + ITEM_BYTES;
        loop {
            let (used, limit) = (self.bytes_used(), self.config.max_bytes);
            if used + wanted <= limit {
                return Ok(());
            }
            if self.lanes.iter().any(LaneStore::has_something_to_give) {
                self.reclaim_all()?;
                continue;
            }
            if self.config.on_full[lane.index()] == OnFull::DropNewest {
                self.refused[lane.index()] += 1;
                return Err(BufferError::Dropped { lane });
            }
            if !self.drop_oldest(lane)? {
                return Err(BufferError::Full { lane, used, limit });
            }
        }
    }

    /// Lets the oldest items of the least important lane go, of those no more important
    /// than `lane` whose policy allows it. False when there is nothing to let go.
    fn drop_oldest(&mut self, lane: Lane) -> Result<bool, BufferError> {
        for victim in Lane::ALL.into_iter().rev().take_while(|victim| victim.index() >= lane.index()) {
            if self.config.on_full[victim.index()] != OnFull::DropOldest {
                continue;
            }
            let before = self.lanes[victim.index()].bytes_on_disk();
            while let Some(place) = self.lanes[victim.index()].drop_place()? {
                let store = &mut self.lanes[victim.index()];
                let from = store.acked.seq;
                if store.ack(&place) {
                    store.acked.dropped += place.seq - from;
                }
                self.hint()?;
                self.acks.sync()?;
                let store = &mut self.lanes[victim.index()];
                store.reclaim_all()?;
                if store.bytes_on_disk() < before {
                    self.observe();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Commits, makes the acknowledgements durable and gives the directory free.
    ///
    /// # Errors
    /// As [`Buffer::commit`] and [`Buffer::sync_acks`].
    pub fn close(mut self) -> Result<(), BufferError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), BufferError> {
        let committed = self.commit();
        let reclaimed = self.reclaim_all();
        committed.and(reclaimed)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Who wants to know calls `close`.
        let _ = self.finish();
    }
}
