//! One lane: its log, what is being collected for it, and where it is read.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::Disk;
use grey_log::{Log, LogConfig, LogError, LogReader, PendingSync};
use grey_model::{Compression, Lane, Seq, SiteId};

use super::acks::Acked;
use super::batch::{Batch, Place};
use super::config::BufferConfig;
use super::error::BufferError;
use super::record::{Builder, Chunk, Closed, PREFIX_BYTES};

/// Read at a time: what the log reads ahead.
const SCAN_BYTES: usize = 240 << 10;
/// When nothing waits and room is short, a file from this size on is given back.
const IDLE_BYTES: u64 = 1 << 20;
/// While room is not short, so many files are given back at a time: each time takes a sync.
const RECLAIM_FILES: u64 = 2;
/// But no more than this part of the limit, or one file.
const RECLAIM_STEPS: u64 = 32;
/// A lane gives way in this many steps at least, so that no more goes than is needed.
const DROP_STEPS: u64 = 16;

#[derive(Debug)]
pub(crate) struct LaneStore {
    lane: Lane,
    log: Log,
    reader: LogReader,
    site: SiteId,
    compression: Compression,
    builder: Builder,
    /// Bytes of all records, those in the log's buffer included.
    stored: u64,
    /// The same without what is not committed.
    stored_committed: u64,
    pub(crate) acked: Acked,
    /// Bytes of acknowledged records when space was last given back.
    reclaimed: u64,
    reclaim_step: u64,
    segment_bytes: u64,
    cursor: Cursor,
    bytes_on_disk: u64,
}

/// Where the next peek goes on.
#[derive(Debug, Default)]
struct Cursor {
    /// Records that were read and not looked at.
    ahead: VecDeque<(u64, Bytes)>,
    /// Position behind them.
    position: u64,
    chunk: Option<Arc<Chunk>>,
    /// Items of the chunk that were given out.
    taken: usize,
    /// The sequence that comes next.
    seq: Seq,
}

impl Cursor {
    fn at(acked: &Acked) -> Self {
        Self { position: acked.position, seq: acked.seq, ..Self::default() }
    }
}

impl LaneStore {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        lane: Lane,
        config: &BufferConfig,
        site: &SiteId,
        mut acked: Acked,
    ) -> Result<Self, BufferError> {
        let compression = Compression::from(config.codec);
        let segment_bytes_max = config.segment_bytes_used();
        let log_config = LogConfig { segment_bytes_max, ..LogConfig::default() };
        let seal = config.seal(lane);
        let (log, _) = Log::open_sealed(Arc::clone(disk), Path::new(lane.as_str()), log_config, seal.as_ref())?;
        let reader = log.reader();
        let chunk_at = |position: u64| -> Result<Option<Chunk>, BufferError> {
            match reader.read(position) {
                Ok(record) => record.map(|record| decode(lane, position, &record)).transpose(),
                // A peek tells what is lost; here only what is there counts.
                Err(LogError::Damaged { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let last = match log.durable_end().checked_sub(1) {
            Some(last) if last >= log.first_index() => chunk_at(last)?,
            _ => None,
        };
        if acked.position < log.first_index() {
            acked.position = log.first_index();
            if let Some(first) = chunk_at(acked.position)? {
                acked.seq = acked.seq.max(first.first);
                acked.stored = first.stored_before;
            }
        }
        acked.position = acked.position.min(log.durable_end());
        let end = last.as_ref().map_or(0, |chunk| chunk.end).max(acked.seq).max(acked.end);
        acked.end = end;
        let stored = last.map_or(0, |chunk| chunk.stored_before + chunk.stored).max(acked.stored);
        let bytes_on_disk = log.bytes();
        Ok(Self {
            lane,
            log,
            reader,
            builder: Builder::new(site, lane, compression, end),
            site: site.clone(),
            compression,
            stored,
            stored_committed: stored,
            acked,
            reclaimed: acked.stored,
            reclaim_step: (segment_bytes_max * RECLAIM_FILES)
                .min(config.max_bytes / RECLAIM_STEPS)
                .max(segment_bytes_max),
            segment_bytes: segment_bytes_max,
            cursor: Cursor::at(&acked),
            bytes_on_disk,
        })
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// Behind the last committed item.
    pub(crate) fn end(&self) -> Seq {
        self.acked.end
    }

    /// Bytes of records that hold something that is not acknowledged.
    pub(crate) fn bytes_waiting(&self) -> u64 {
        self.stored_committed.saturating_sub(self.acked.stored)
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.bytes_on_disk
    }

    /// Bytes that the next commit writes, at most.
    pub(crate) fn bytes_uncommitted(&self) -> u64 {
        self.log.uncommitted_bytes() + if self.has_open() { self.builder.bytes() as u64 } else { 0 }
    }

    fn has_open(&self) -> bool {
        self.builder.next_seq() > self.acked.end
    }

    /// The open record, ready for an item.
    pub(crate) fn builder(&mut self, form: super::Form, bytes: usize) -> Result<&mut Builder, BufferError> {
        if let Some(closed) = self.builder.prepare(&self.site, form, bytes, self.stored) {
            self.store(&closed)?;
        }
        Ok(&mut self.builder)
    }

    fn store(&mut self, closed: &Closed) -> Result<(), BufferError> {
        let prefix: [u8; PREFIX_BYTES] = [closed.form as u8];
        self.log.append_parts(&[&prefix, &closed.block])?;
        self.stored += closed.stored();
        Ok(())
    }

    /// Writes what was appended; its sync is left to the caller.
    pub(crate) fn begin_commit(&mut self) -> Result<Option<PendingSync>, BufferError> {
        if let Some(closed) = self.builder.finish(self.stored) {
            self.store(&closed)?;
        }
        match self.log.begin_commit() {
            Ok(sync) => Ok(sync),
            Err(source @ LogError::Full { .. }) => {
                self.stored = self.stored_committed;
                self.builder = Builder::new(&self.site, self.lane, self.compression, self.acked.end);
                Err(BufferError::DiskFull { lane: self.lane, source })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn end_commit(&mut self, synced: std::io::Result<()>) -> Result<(), BufferError> {
        self.log.end_commit(synced)?;
        self.stored_committed = self.stored;
        self.acked.end = self.builder.next_seq();
        self.bytes_on_disk = self.log.bytes();
        Ok(())
    }

    /// True when a peek would find something here.
    pub(crate) fn has_next(&self) -> bool {
        self.cursor.seq < self.acked.end
    }

    pub(crate) fn rewind(&mut self) {
        self.cursor = Cursor::at(&self.acked);
    }

    /// Finds the next item; false at the end. What is lost on the way is told.
    fn load(&mut self, batch: &mut Batch) -> Result<bool, BufferError> {
        loop {
            if self.cursor.chunk.as_ref().is_some_and(|chunk| self.cursor.taken < chunk.len()) {
                return Ok(true);
            }
            let Some((position, record)) = self.cursor.ahead.pop_front() else {
                if !self.scan(batch)? {
                    return Ok(false);
                }
                continue;
            };
            let chunk = decode(self.lane, position, &record)?;
            if chunk.end <= self.cursor.seq {
                continue;
            }
            if chunk.first > self.cursor.seq {
                batch.push_lost(self.lane, self.cursor.seq..chunk.first, None);
                self.cursor.seq = chunk.first;
            }
            self.cursor.taken = (self.cursor.seq - chunk.first) as usize;
            self.cursor.chunk = Some(Arc::new(chunk));
        }
    }

    /// Reads on; false when there is nothing more.
    fn scan(&mut self, batch: &mut Batch) -> Result<bool, BufferError> {
        let cursor = &mut self.cursor;
        cursor.chunk = None;
        if cursor.position >= self.reader.durable_end() {
            if cursor.seq < self.acked.end {
                // The records that held these are gone.
                let (lane, seq) = (self.lane, self.acked.end);
                let behind = Place { lane, seq, position: cursor.position, stored: self.stored_committed };
                batch.push_lost(lane, cursor.seq..seq, Some(behind));
                cursor.seq = seq;
            }
            return Ok(false);
        }
        match self.reader.scan(cursor.position, SCAN_BYTES) {
            Ok(records) => {
                cursor.position = records.last().map_or(self.reader.durable_end(), |(position, _)| position + 1);
                cursor.ahead.extend(records);
            }
            Err(LogError::Damaged { lost, .. }) => cursor.position = lost.end.max(cursor.position + 1),
            Err(LogError::Trimmed { first, .. }) => cursor.position = first,
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Moves items into the batch, of `bytes_max` bytes at most but for the first when
    /// `at_least_one`. Returns their bytes.
    pub(crate) fn take(
        &mut self,
        batch: &mut Batch,
        bytes_max: usize,
        items_max: usize,
        at_least_one: bool,
    ) -> Result<usize, BufferError> {
        let (mut bytes, mut items) = (0, 0);
        while items < items_max && self.load(batch)? {
            let Some(chunk) = self.cursor.chunk.clone() else { break };
            let start = self.cursor.taken;
            let is_first_free = at_least_one && items == 0;
            let (end, cost) =
                fitting(&chunk, start, bytes_max - bytes.min(bytes_max), items_max - items, is_first_free);
            if end == start {
                break;
            }
            batch.push(self.lane, &chunk, start..end, cost);
            self.cursor.taken = end;
            self.cursor.seq = chunk.first + end as u64;
            bytes += cost;
            items += end - start;
        }
        Ok(bytes)
    }

    /// Acknowledges up to a place. False when nothing changes.
    pub(crate) fn ack(&mut self, place: &Place) -> bool {
        if place.seq <= self.acked.seq || place.seq > self.acked.end {
            return false;
        }
        place.apply_to(&mut self.acked);
        if self.cursor.seq < self.acked.seq {
            self.rewind();
        }
        true
    }

    /// True when enough was acknowledged to look for space to give back.
    pub(crate) fn is_reclaimable(&self) -> bool {
        self.acked.stored - self.reclaimed >= self.reclaim_step.max(1)
    }

    /// The same when room is short.
    pub(crate) fn has_something_to_give(&self) -> bool {
        let is_emptied = self.acked.seq == self.acked.end;
        let step = if is_emptied { self.segment_bytes.min(IDLE_BYTES) } else { self.segment_bytes };
        self.acked.stored - self.reclaimed >= step.max(1)
    }

    /// Gives the files of acknowledged items back but for the last file, whose last record
    /// tells where the lane ends.
    pub(crate) fn reclaim(&mut self) -> Result<(), BufferError> {
        self.trim(self.acked.position.min(self.reader.durable_end().saturating_sub(1)))
    }

    /// Gives the last one back as well. The acknowledgements, which then tell the end, must
    /// be durable.
    pub(crate) fn reclaim_all(&mut self) -> Result<(), BufferError> {
        self.trim(self.acked.position)
    }

    fn trim(&mut self, position: u64) -> Result<(), BufferError> {
        self.log.trim_front(position)?;
        self.reclaimed = self.acked.stored;
        self.bytes_on_disk = self.log.bytes();
        Ok(())
    }

    /// Where the lane's oldest items end that give way next: a part of what waits.
    pub(crate) fn drop_place(&self) -> Result<Option<Place>, BufferError> {
        let end = self.reader.durable_end();
        let position = self.acked.position + ((end - self.acked.position) / DROP_STEPS).max(1);
        if self.acked.seq == self.acked.end {
            return Ok(None);
        }
        let last = Place { lane: self.lane, seq: self.acked.end, position: end, stored: self.stored_committed };
        let mut at = position;
        while at < end {
            match self.reader.read(at) {
                Ok(Some(record)) => {
                    let chunk = decode(self.lane, at, &record)?;
                    let (seq, stored) = (chunk.first, chunk.stored_before);
                    return Ok(Some(Place { lane: self.lane, seq, position: at, stored }));
                }
                Ok(None) => break,
                Err(LogError::Damaged { lost, .. }) => at = lost.end.max(at + 1),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(last))
    }
}

fn decode(lane: Lane, position: u64, record: &Bytes) -> Result<Chunk, BufferError> {
    Chunk::decode(position, record).map_err(|source| BufferError::Record { lane, position, source })
}

/// How far items fit from `start` on, and their bytes.
fn fitting(chunk: &Chunk, start: usize, bytes_max: usize, items_max: usize, is_first_free: bool) -> (usize, usize) {
    let Range { start: mut at, end } = start..chunk.len().min(start.saturating_add(items_max));
    if start == 0 && end == chunk.len() && chunk.bytes <= bytes_max {
        return (end, chunk.bytes);
    }
    let mut bytes = 0;
    while at < end {
        let cost = chunk.cost(at);
        if bytes + cost > bytes_max && !(is_first_free && at == start) {
            break;
        }
        bytes += cost;
        at += 1;
    }
    (at, bytes)
}
