//! What the uplink was given: in doubt until it is acknowledged, over restarts.
//!
//! A block that was given out may arrive at any time; so what it says of its sequences
//! must never change. Which were given out is known exactly while the process runs, and
//! as a *lease* on disk: before positions outside of it are given out, it is moved on by
//! a stride and made durable. After a restart everything in the lease is in doubt.
//!
//! The lease is one file of two slots, overwritten in turn: that takes no space, so a
//! full disk does not stop the uplink. Its layout stands in `docs/design/outbox.md`.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes};
use grey_disk::{Disk, File, OpenMode};
use grey_model::{Lane, RangeSet, Reader, WireError};

use crate::queue::QueueError;
use crate::reader::QueueReader;

const NAME: &str = "lease";
const MAGIC: [u8; 4] = *b"GLS1";
/// One slot; two make the file.
const SLOT_BYTES: usize = 16 * 1024;
/// Ranges remembered for each lane, so that they fit a slot. More are joined over their
/// narrowest gaps: what lies between is in doubt then too.
const RANGES_MAX: usize = 256;
/// How far the lease moves at a time, in positions: one sync for as many blocks.
const STRIDE: u64 = 256;

/// What may have arrived.
#[derive(Debug)]
pub(crate) struct Doubt {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Box<dyn File>>,
    sequence: u64,
    /// Positions on disk, by lane.
    lease: [RangeSet; 3],
    /// Positions given out and not settled, by lane.
    given: [RangeSet; 3],
    /// Where a kept checkpoint may start, by lane: what is settled from there on may be
    /// waiting again after a restart, and needs its lease.
    floors: [u64; 3],
}

impl Doubt {
    /// Opens the lease in `dir`.
    pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, QueueError> {
        let mut doubt = Self {
            disk: Arc::clone(disk),
            path: dir.join(NAME),
            file: None,
            sequence: 0,
            lease: std::array::from_fn(|_| everything()),
            given: Default::default(),
            floors: [0; 3],
        };
        let fail = |source| QueueError::Io { action: "open", path: dir.join(NAME), source };
        if disk.exists(&doubt.path).map_err(fail)? {
            let file = disk.open(&doubt.path, OpenMode::ReadWrite).map_err(fail)?;
            let slots = [0, 1].map(|slot| {
                let mut bytes = vec![0; SLOT_BYTES];
                // A slot that cannot be read is as good as a damaged one.
                let read = file.read_at(&mut bytes, slot * SLOT_BYTES as u64).unwrap_or(0);
                decode(&bytes[..read]).ok()
            });
            doubt.file = Some(file);
            if let Some(newest) = slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence) {
                (doubt.sequence, doubt.lease) = newest;
            }
        }
        Ok(doubt)
    }

    /// Puts in doubt what of the `waiting` positions of each lane is in the lease: without
    /// a lease, or with a damaged one, all of them.
    pub(crate) fn begin(&mut self, waiting: [Range<u64>; 3]) {
        for ((given, lease), waiting) in self.given.iter_mut().zip(&mut self.lease).zip(waiting) {
            let unsettled = |range: Range<u64>| range.start.max(waiting.start)..range.end.min(waiting.end);
            *given = lease.iter().map(unsettled).filter(|range| !range.is_empty()).collect();
            if *lease == everything() {
                *lease = given.clone();
            }
        }
    }

    /// Notes that positions are about to be given out.
    fn give(&mut self, lane: Lane, positions: Range<u64>) -> Result<(), QueueError> {
        let n = lane.index();
        if !self.lease[n].covers(&positions) {
            let mut lease = self.lease.clone();
            for (lease, floor) in lease.iter_mut().zip(self.floors) {
                lease.remove_below(floor);
            }
            lease[n].insert(positions.start..positions.end.saturating_add(STRIDE));
            join(&mut lease[n]);
            self.store(lease)?;
        }
        self.given[n].insert(positions);
        join(&mut self.given[n]);
        Ok(())
    }

    fn store(&mut self, lease: [RangeSet; 3]) -> Result<(), QueueError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| QueueError::Io { action: "write", path, source }
        };
        if self.file.is_none() {
            match self.create() {
                Ok(file) => self.file = Some(file),
                // Without a file everything is in doubt after a restart: safe.
                Err(error) if grey_disk::is_full(&error) => {
                    self.lease = lease;
                    return Ok(());
                }
                Err(error) => return Err(fail(&self.path)(error)),
            }
        }
        let Some(file) = &self.file else { return Ok(()) };
        let sequence = self.sequence + 1;
        let slot = (sequence % 2) * SLOT_BYTES as u64;
        file.write_at(&encode(sequence, &lease), slot).and_then(|()| file.sync()).map_err(fail(&self.path))?;
        (self.sequence, self.lease) = (sequence, lease);
        Ok(())
    }

    /// The whole file is written at once, so that it never needs space again. Until it
    /// holds a lease both slots are none, which puts everything in doubt.
    fn create(&self) -> io::Result<Box<dyn File>> {
        let file = self.disk.open(&self.path, OpenMode::CreateNew)?;
        if let Err(error) = file.write_at(&[0; 2 * SLOT_BYTES], 0) {
            self.disk.remove_file(&self.path)?;
            return Err(error);
        }
        file.sync()?;
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("")))?;
        Ok(file)
    }

    /// Positions of a lane that were given out and are not settled.
    pub(crate) fn given(&self, lane: Lane) -> &RangeSet {
        &self.given[lane.index()]
    }

    /// Blocks below `acked` are not in doubt any more.
    pub(crate) fn settle(&mut self, lane: Lane, acked: u64) {
        self.given[lane.index()].remove_below(acked);
    }

    /// No kept checkpoint starts below `floor`.
    pub(crate) fn forget(&mut self, lane: Lane, floor: u64) {
        self.floors[lane.index()] = floor;
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        if self.file.is_some() { 2 * SLOT_BYTES as u64 } else { 0 }
    }
}

/// The lease of a lane of which nothing is known.
fn everything() -> RangeSet {
    let mut set = RangeSet::new();
    set.insert(0..u64::MAX);
    set
}

/// True when any of the positions is in the set.
pub(crate) fn touches(set: &RangeSet, positions: &Range<u64>) -> bool {
    let missing: u64 = set.missing(positions.clone()).iter().map(|range| range.end - range.start).sum();
    missing < positions.end - positions.start
}

/// Joins ranges over their narrowest gaps until they are few enough.
fn join(set: &mut RangeSet) {
    while set.range_count() > RANGES_MAX {
        let ends = set.iter().map(|range| range.end);
        let gaps = ends.zip(set.iter().skip(1)).map(|(end, next)| end..next.start);
        let Some(narrowest) = gaps.min_by_key(|gap| gap.end - gap.start) else { return };
        set.insert(narrowest);
    }
}

fn encode(sequence: u64, lease: &[RangeSet; 3]) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_BYTES);
    out.put_slice(&MAGIC);
    out.put_u64_le(sequence);
    for set in lease {
        out.put_u32_le(set.range_count() as u32);
        for range in set.iter() {
            out.put_u64_le(range.start);
            out.put_u64_le(range.end);
        }
    }
    out.put_u32_le(crc32c::crc32c(&out));
    out
}

fn decode(slot: &[u8]) -> Result<(u64, [RangeSet; 3]), WireError> {
    let mut reader = Reader::new(slot);
    if reader.bytes(4)? != MAGIC {
        return Err(reader.invalid("magic"));
    }
    let sequence = reader.u64()?;
    let mut lease: [RangeSet; 3] = Default::default();
    for set in &mut lease {
        for _ in 0..reader.u32()?.min(RANGES_MAX as u32 + 1) {
            set.insert(reader.u64()?..reader.u64()?);
        }
    }
    let end = reader.offset();
    if crc32c::crc32c(&slot[..end]) != reader.u32()? {
        return Err(reader.invalid("checksum"));
    }
    Ok((sequence, lease))
}

/// For verification: whether a lease file says what was given out, or that nothing was yet.
#[doc(hidden)]
pub fn is_lease(file: &[u8]) -> bool {
    file.iter().all(|byte| *byte == 0) || file.chunks(SLOT_BYTES).any(|slot| decode(slot).is_ok())
}

pub(crate) type SharedDoubt = Arc<Mutex<Doubt>>;

pub(crate) fn lock(doubt: &SharedDoubt) -> MutexGuard<'_, Doubt> {
    doubt.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the uplink reads: like [`QueueReader`], but what it gives out is remembered as
/// in doubt, since it may arrive from then on, and is never changed again.
#[derive(Debug, Clone)]
pub struct UplinkReader {
    reader: QueueReader,
    doubt: SharedDoubt,
}

impl UplinkReader {
    pub(crate) fn new(reader: QueueReader, doubt: SharedDoubt) -> Self {
        Self { reader, doubt }
    }

    /// The first block of the lane at or after a position; see [`QueueReader::next`].
    ///
    /// # Errors
    /// As [`QueueReader::next`]; [`QueueError::Io`] when the lease cannot be stored:
    /// nothing is given out then.
    pub fn next(&self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, QueueError> {
        // Held while reading: a fold may not change what is about to be given out.
        let mut doubt = lock(&self.doubt);
        let Some(found) = self.reader.find(lane, from)? else { return Ok(None) };
        doubt.give(lane, found.positions.clone())?;
        Ok(Some((found.position(), found.block)))
    }

    /// The position after the last committed block of the lane.
    pub fn end(&self, lane: Lane) -> u64 {
        self.reader.end(lane)
    }
}
