//! The writing side of a log: appending, committing, cutting at either end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::{Disk, File, OpenMode};
use grey_seal::{KeyId, OVERHEAD_BYTES, Seal, Sealer};

use crate::format::{
    HEADER_BYTES, INDEX_LIMIT, RECORD_BYTES_LIMIT, RECORD_HEADER_BYTES, RecordHeader, SealedWith, SegmentHeader,
    encode_record, encode_sealed,
};
use crate::marker::MarkerFile;
use crate::reader::LogReader;
use crate::recovery::{self, Opened};
use crate::segment::{self, Active, read_header, remains};
use crate::shared::{Segment, SegmentSeal, Shared, SparseIndex};
use crate::survey::{MARK_STRIDE_BYTES, Mark};
use crate::{LogError, Recovery};

/// Smallest segment that makes sense: below, headers and syncs of directories dominate.
const SEGMENT_BYTES_MIN: u64 = 1_024;
/// Largest segment: bounds the scan of the last one at opening.
const SEGMENT_BYTES_LIMIT: u64 = 1 << 32;
/// Memory of the commit buffer that is kept from one commit to the next.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
/// When every record was trimmed, a last segment from this size on is given back too.
const IDLE_BYTES_MAX: u64 = 1 << 20;

/// Limits of a log. They may change from one opening to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// A commit that would make a segment longer than this, in bytes, starts a new one;
    /// a single commit is never split. 1 KiB to 4 GiB. Opening reads one segment, and
    /// space comes back one segment at a time.
    pub segment_bytes_max: u64,
    /// Longest payload of a record in bytes, 1 to 1 GiB.
    pub record_bytes_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, record_bytes_max: 8 << 20 }
    }
}

impl LogConfig {
    fn check(&self, sealed: Option<SealedWith>) -> Result<(), LogError> {
        let allowed = SEGMENT_BYTES_MIN..SEGMENT_BYTES_LIMIT + 1;
        if !allowed.contains(&self.segment_bytes_max) {
            return Err(LogError::Config { what: "segment_bytes_max", value: self.segment_bytes_max, allowed });
        }
        let overhead = if sealed.is_some() { OVERHEAD_BYTES as u64 } else { 0 };
        let (value, allowed) = (self.record_bytes_max as u64, 1..RECORD_BYTES_LIMIT as u64 - overhead + 1);
        if !allowed.contains(&value) {
            return Err(LogError::Config { what: "record_bytes_max", value, allowed });
        }
        Ok(())
    }
}

/// A durable sequence of records with consecutive indexes; see the crate's documentation.
///
/// One thread owns it; others read through [`Log::reader`].
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    /// What new records are sealed with.
    sealed: Option<SealedWith>,
    sealer: Option<Sealer>,
    shared: Arc<Shared>,
    reader: LogReader,
    marker: MarkerFile,
    epoch: u64,
    active: Active,
    /// What was appended since the last commit, encoded.
    buffer: Vec<u8>,
    /// Where some of the buffer's records start in it.
    buffer_marks: Vec<Mark>,
    next_index: u64,
    /// A commit that is written and whose sync has not been told of.
    in_flight: Option<InFlight>,
    poisoned: Option<&'static str>,
}

/// What becomes visible when a commit ends.
#[derive(Debug)]
struct InFlight {
    start: u64,
    marks: Vec<Mark>,
    end: Mark,
}

/// The sync that a commit still needs, for whichever thread has the time: see
/// [`Log::begin_commit`].
#[derive(Debug)]
pub struct PendingSync {
    file: Arc<dyn File>,
}

impl PendingSync {
    /// Waits until the disk has the commit. Its result belongs to [`Log::end_commit`].
    ///
    /// # Errors
    /// What the disk said.
    pub fn run(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Log {
    /// Opens the log in `dir`, creating it where missing, and brings it to a clean end.
    ///
    /// Takes milliseconds whatever the size of the log: of the sealed segments only the
    /// header is read; their records are checked when they are read.
    ///
    /// # Errors
    /// [`LogError::Io`] or [`LogError::Full`] when the disk refuses; damage is never an
    /// error here but is told in [`Recovery`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig) -> Result<(Self, Recovery), LogError> {
        Self::open_sealed(disk, dir, config, None)
    }

    /// Like [`Log::open`]; new records are sealed as `seal` says, and older ones opened
    /// with its keys. Segments are of one kind: the first commit after sealing was
    /// switched on or off, or the current key was changed, starts a new one. Those before
    /// stay as they are and readable, as long as their keys are given.
    ///
    /// # Errors
    /// As [`Log::open`]; [`LogError::KeyMissing`] when the last segment's key is not
    /// given: then nothing was changed. That of an older one shows when it is read; see
    /// [`Log::keys_in_use`].
    pub fn open_sealed(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        seal: Option<&Seal>,
    ) -> Result<(Self, Recovery), LogError> {
        Self::open_with(disk, dir, config, seal, true)
    }

    /// `needs_key`: whether the last segment's key must be given.
    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        seal: Option<&Seal>,
        needs_key: bool,
    ) -> Result<(Self, Recovery), LogError> {
        let sealed = SealedWith::wanted(seal);
        config.check(sealed)?;
        let fail = |source| LogError::Seal { path: dir.to_owned(), source };
        let sealer = seal.filter(|_| sealed.is_some()).map(Seal::sealer).transpose().map_err(fail)?;
        let Opened { shared, marker, epoch, active, recovery } = recovery::open(disk, dir, &config, seal, needs_key)?;
        let shared = Arc::new(shared);
        let next_index = shared.state().durable_end;
        let log = Self {
            config,
            sealed,
            sealer,
            reader: LogReader::new(Arc::clone(&shared)),
            shared,
            marker,
            epoch,
            active,
            buffer: Vec::new(),
            buffer_marks: Vec::new(),
            next_index,
            in_flight: None,
            poisoned: None,
        };
        Ok((log, recovery))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Index of the first record that is still there, or of the next one when none is.
    pub fn first_index(&self) -> u64 {
        self.reader.first_index()
    }

    /// Index that the next appended record gets.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Index behind the last committed record.
    pub fn durable_end(&self) -> u64 {
        self.reader.durable_end()
    }

    /// Bytes that the log's segments occupy, what is written ahead of the next commits included.
    pub fn bytes(&self) -> u64 {
        let state = self.shared.state();
        let sealed = state.segments.iter().filter(|segment| segment.first != self.active.first);
        sealed.map(|segment| segment.len).sum::<u64>() + self.active.file_len
    }

    /// The keys that records of the log are sealed with, and how many segments need each
    /// of them: an old key that is not here any more may go. Segments of plain records,
    /// and those whose header is damaged, are not counted.
    pub fn keys_in_use(&self) -> BTreeMap<KeyId, usize> {
        let mut keys = BTreeMap::new();
        for segment in &self.shared.state().segments {
            if let SegmentSeal::Sealed(with) = segment.seal {
                *keys.entry(with.key_id).or_default() += 1;
            }
        }
        keys
    }

    /// Bytes appended and not committed.
    pub fn uncommitted_bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Appends a record to the commit buffer and returns its index. Nothing is written
    /// before [`Log::commit`].
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Poisoned`], [`LogError::Seal`].
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, LogError> {
        self.append_parts(&[payload])
    }

    /// Like [`Log::append`] with a payload in several parts, to spare the caller a copy.
    ///
    /// # Errors
    /// See [`Log::append`].
    pub fn append_parts(&mut self, parts: &[&[u8]]) -> Result<u64, LogError> {
        self.check_poison()?;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > self.config.record_bytes_max {
            return Err(LogError::TooLarge { len, limit: self.config.record_bytes_max });
        }
        let (index, offset) = (self.next_index, self.buffer.len() as u64);
        self.encode(index, offset == 0, parts)?;
        if self.buffer_marks.last().is_none_or(|last| offset >= last.offset + MARK_STRIDE_BYTES) {
            self.buffer_marks.push(Mark { index, offset });
        }
        self.next_index += 1;
        Ok(index)
    }

    fn encode(&mut self, index: u64, starts_commit: bool, parts: &[&[u8]]) -> Result<(), LogError> {
        let (Some(sealer), Some(seal)) = (&mut self.sealer, &self.shared.seal) else {
            encode_record(&mut self.buffer, index, starts_commit, parts);
            return Ok(());
        };
        encode_sealed(&mut self.buffer, (index, &seal.place(index)), starts_commit, sealer, parts)
            .map_err(|source| LogError::Seal { path: self.shared.dir.clone(), source })
    }

    /// Makes everything appended so far durable with one write and one sync, and returns
    /// the index behind it.
    ///
    /// # Errors
    /// [`LogError::Full`]: nothing appended since the last commit was kept, and the log
    /// goes on working. Any other error poisons the log: whether the records are durable
    /// is unknown until it is opened again.
    pub fn commit(&mut self) -> Result<u64, LogError> {
        match self.begin_commit()? {
            Some(sync) => self.end_commit(sync.run()),
            None => Ok(self.durable_end()),
        }
    }

    /// Writes everything appended so far and leaves the sync to the caller, who may run
    /// it on another thread and append meanwhile. [`Log::end_commit`] must follow before
    /// anything but [`Log::append`] is asked of the log. `None` when nothing was appended.
    ///
    /// # Errors
    /// As [`Log::commit`]; [`LogError::InFlight`] before the last one has ended.
    pub fn begin_commit(&mut self) -> Result<Option<PendingSync>, LogError> {
        self.check()?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let written = if self.needs_roll(0) { self.write_rolled() } else { self.write() };
        match written {
            Ok(()) => {}
            Err(error @ LogError::Full { .. }) => {
                self.drop_buffer();
                return Err(error);
            }
            Err(error) => return Err(self.poison("commit", error)),
        }
        let start = self.active.len - self.buffer.len() as u64;
        let marks = self.buffer_marks.drain(..).map(|mark| Mark { offset: start + mark.offset, ..mark }).collect();
        let end = Mark { index: self.next_index, offset: self.active.len };
        self.in_flight = Some(InFlight { start, marks, end });
        self.clear_buffer();
        Ok(Some(PendingSync { file: Arc::clone(&self.active.file) }))
    }

    /// Ends the commit with what its sync said: its records are visible now. Returns the
    /// index behind them.
    ///
    /// # Errors
    /// A failed sync poisons the log.
    pub fn end_commit(&mut self, synced: io::Result<()>) -> Result<u64, LogError> {
        self.check_poison()?;
        let Some(InFlight { start, marks, end }) = self.in_flight.take() else { return Ok(self.durable_end()) };
        if let Err(error) = synced {
            let error = remains("sync", &self.shared.path(self.active.first))(error);
            return Err(self.poison("commit", error));
        }
        let from = Mark { index: self.durable_end(), offset: start };
        self.shared.extend_index(self.active.first, from, marks.into_iter(), end);
        let first = {
            let mut state = self.shared.state();
            if let Some(last) = state.segments.last_mut() {
                last.len = end.offset;
            }
            state.durable_end = end.index;
            state.start
        };
        self.marker.hint(first, end.index);
        Ok(end.index)
    }

    /// True when the disk has room set aside for what is appended and `bytes` of payload
    /// more, so that the commit of them needs no space that might be missing.
    pub fn has_room_ahead(&self, bytes: u64) -> bool {
        let overhead = if self.sealed.is_some() { OVERHEAD_BYTES } else { 0 };
        let bytes = bytes + (RECORD_HEADER_BYTES + overhead) as u64;
        self.poisoned.is_none() && !self.needs_roll(bytes) && self.buffer.len() as u64 + bytes <= self.active.ahead()
    }

    fn needs_roll(&self, more_bytes: u64) -> bool {
        let is_full = self.active.len + self.buffer.len() as u64 + more_bytes > self.config.segment_bytes_max;
        self.active.len > HEADER_BYTES && (is_full || self.active.seal != self.sealed.into())
    }

    /// One committed record; `None` below the first and at or above the durable end.
    ///
    /// # Errors
    /// See [`LogReader::read`].
    pub fn read(&self, index: u64) -> Result<Option<Bytes>, LogError> {
        self.reader.read(index)
    }

    /// A reader for another thread.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Gives back the space of records below `index`, a whole segment at a time; those
    /// that share a segment with a later record stay. Uncommitted records are not touched.
    ///
    /// # Errors
    /// [`LogError::Io`]. When a file cannot be removed the log stays usable and opening
    /// removes it; when the new start cannot be stored the log is poisoned.
    pub fn trim_front(&mut self, index: u64) -> Result<(), LogError> {
        self.check()?;
        let durable_end = self.durable_end();
        let index = index.min(durable_end);
        let mut doomed = self.doomed_below(index);
        if index == durable_end && self.active.first < durable_end && self.is_idle_worth_returning() {
            let header = self.header(durable_end, self.active.first, durable_end);
            match segment::create(&*self.shared.disk, &self.shared.dir, header, &[], &self.config) {
                Ok(active) => {
                    self.seal();
                    self.activate(active, durable_end);
                    doomed = self.doomed_below(index);
                }
                // The full disk keeps one segment more than it must.
                Err(LogError::Full { .. }) => {}
                Err(error) => return Err(self.poison("trim", error)),
            }
        }
        let (start, present) = (self.first_index(), self.first_present());
        let first = doomed.last().map_or(index.min(present), |(_, next)| *next);
        if first <= start {
            return Ok(());
        }
        // With the new start on record, a segment that comes back at a crash is not taken
        // for part of the log, nor a removed one for lost.
        if let Err(error) = self.marker.store(self.epoch, first, durable_end) {
            return Err(self.poison("trim", error));
        }
        {
            let mut state = self.shared.state();
            state.segments.retain(|segment| segment.first >= first);
            state.start = first;
        }
        self.shared.forget(|segment| segment < first);
        self.shared.forgive(first..u64::MAX);
        for (segment, _) in doomed {
            self.remove(segment)?;
        }
        Ok(())
    }

    /// Takes back the records from `index` on, durably; uncommitted ones among them.
    /// The next record gets `index`. Below the first index the whole log goes, as in
    /// [`Log::reset`].
    ///
    /// # Errors
    /// Any error but those of reading poisons the log.
    pub fn truncate_back(&mut self, index: u64) -> Result<(), LogError> {
        self.check()?;
        let (first, durable_end) = (self.first_index(), self.durable_end());
        if index >= durable_end {
            self.truncate_buffer(index);
            return Ok(());
        }
        if index <= self.first_present().max(first) {
            return self.reset(index);
        }
        let cut = self.reader.position(index)?;
        self.drop_buffer();
        let done = self.cut(index, cut);
        done.map_err(|error| self.poison("truncation", error))
    }

    /// Empties the log, durably; the next record gets `next_index`, which may be below
    /// or above what was there. A crash on the way leaves either the old log or the empty one.
    ///
    /// # Errors
    /// Any error but [`LogError::Config`], for an index of 2^63 or more, poisons the log.
    pub fn reset(&mut self, next_index: u64) -> Result<(), LogError> {
        self.check()?;
        if next_index >= INDEX_LIMIT {
            return Err(LogError::Config { what: "next index", value: next_index, allowed: 0..INDEX_LIMIT });
        }
        self.drop_buffer();
        let done = self.empty(next_index);
        done.map_err(|error| self.poison("reset", error))
    }

    /// Refuses what needs the log to itself.
    fn check(&self) -> Result<(), LogError> {
        self.check_poison()?;
        if self.in_flight.is_some() {
            return Err(LogError::InFlight { path: self.shared.dir.clone() });
        }
        Ok(())
    }

    fn check_poison(&self) -> Result<(), LogError> {
        match self.poisoned {
            Some(action) => Err(LogError::Poisoned { action, path: self.shared.dir.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, action: &'static str, error: LogError) -> LogError {
        self.poisoned = Some(action);
        error
    }

    /// Forgets what was appended and not written.
    fn drop_buffer(&mut self) {
        self.clear_buffer();
        self.next_index = self.durable_end();
    }

    fn clear_buffer(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.buffer_marks.clear();
    }

    /// Forgets uncommitted records from `index` on.
    fn truncate_buffer(&mut self, index: u64) {
        let (mut at, mut offset) = (self.durable_end(), 0);
        while at < index && offset < self.buffer.len() {
            let Some(header) = self.buffer[offset..].first_chunk::<RECORD_HEADER_BYTES>() else { break };
            offset += RecordHeader::decode(header).total() as usize;
            at += 1;
        }
        self.buffer.truncate(offset);
        self.buffer_marks.retain(|mark| mark.index < index);
        self.next_index = at;
    }

    /// Writes the buffer behind the active segment's committed end.
    fn write(&mut self) -> Result<(), LogError> {
        let path = self.shared.path(self.active.first);
        if self.active.seal != self.sealed.into() {
            self.reseal(&path)?;
        }
        self.active.write(&mut self.buffer, &path)
    }

    /// Writes the buffer as the first commit of a new segment.
    fn write_rolled(&mut self) -> Result<(), LogError> {
        let first = self.durable_end();
        let header = self.header(first, self.active.first, first);
        let active = segment::create(&*self.shared.disk, &self.shared.dir, header, &self.buffer, &self.config)?;
        self.seal();
        self.activate(active, first);
        Ok(())
    }

    /// Makes a segment without records one of the kind that is wanted. Durably, before
    /// any record: one that stood behind the old header could not be opened.
    fn reseal(&mut self, path: &Path) -> Result<(), LogError> {
        let first = self.active.first;
        let found = read_header(&*self.active.file).map_err(remains("read", path))?;
        let fresh = self.header(first, first, first);
        let header = found.map_or(fresh, |found| SegmentHeader {
            record_bytes_max: fresh.record_bytes_max,
            sealed: fresh.sealed,
            ..found
        });
        let written = self.active.file.write_at(&header.encode(), 0);
        written.and_then(|()| self.active.file.sync()).map_err(remains("write", path))?;
        self.active.seal = self.sealed.into();
        if let Some(last) = self.shared.state().segments.last_mut() {
            *last = Segment { record_bytes_max: header.record_bytes_max as usize, seal: self.active.seal, ..*last };
        }
        Ok(())
    }

    fn header(&self, first: u64, previous_first: u64, previous_end: u64) -> SegmentHeader {
        SegmentHeader {
            first,
            previous_first,
            previous_end,
            epoch: self.epoch,
            record_bytes_max: stored_bytes_max(&self.config, self.sealed) as u32,
            sealed: self.sealed,
        }
    }

    /// Gives back what was written ahead in a segment that is not written to any more.
    fn seal(&mut self) {
        // Zeros that stay are in nobody's way.
        let _ = self.active.cut();
    }

    /// Makes a new last segment the active one. Its records become visible by `durable_end`.
    fn activate(&mut self, active: Active, first: u64) {
        self.shared.put_file(first, &active.file);
        self.shared.put_index(first, SparseIndex::new(first));
        let record_bytes_max = stored_bytes_max(&self.config, self.sealed);
        let segment = Segment { first, len: HEADER_BYTES, record_bytes_max, seal: self.sealed.into() };
        self.shared.state().segments.push(segment);
        self.active = active;
    }

    /// Segments that hold nothing at or above `index`, each with the first index behind it.
    fn doomed_below(&self, index: u64) -> Vec<(u64, u64)> {
        let state = self.shared.state();
        let pairs = state.segments.windows(2).map(|pair| (pair[0].first, pair[1].first));
        pairs.take_while(|(_, next)| *next <= index).collect()
    }

    /// Index of the first record that has a file.
    fn first_present(&self) -> u64 {
        self.shared.state().segments.first().map_or(0, |segment| segment.first)
    }

    fn is_idle_worth_returning(&self) -> bool {
        self.buffer.is_empty() && self.active.len >= IDLE_BYTES_MAX.min(self.config.segment_bytes_max / 4)
    }

    /// Removes a segment file. The removal need not be durable: the marker, which is
    /// stored before, says that the segment is no part of the log any more.
    fn remove(&self, first: u64) -> Result<(), LogError> {
        let path = self.shared.path(first);
        self.shared.disk.remove_file(&path).map_err(remains("remove", &path))
    }

    /// Cuts the log at `index`, which stands at `cut`, or whose way there is lost.
    fn cut(&mut self, index: u64, cut: Mark) -> Result<(), LogError> {
        let start = self.first_index();
        self.marker.store_cut(start, index)?;
        let (kept, doomed) = {
            let mut state = self.shared.state();
            let keep = state.segments.partition_point(|segment| segment.first <= index).max(1);
            let doomed = state.segments.split_off(keep);
            state.durable_end = index;
            state.version += 1;
            let kept = state.segments.last_mut().map(|last| {
                last.len = last.len.min(cut.offset);
                *last
            });
            (kept, doomed)
        };
        self.next_index = index;
        let Some(kept) = kept else { return Ok(()) };
        self.shared.forget(|segment| segment >= kept.first);
        self.shared.forgive(start..index);
        for segment in &doomed {
            self.remove(segment.first)?;
        }
        let (disk, dir) = (Arc::clone(&self.shared.disk), self.shared.dir.clone());
        disk.sync_dir(&dir).map_err(remains("sync", &dir))?;
        let path = self.shared.path(kept.first);
        let file: Arc<dyn File> = Arc::from(disk.open(&path, OpenMode::ReadWrite).map_err(remains("open", &path))?);
        if file.len().map_err(remains("read", &path))? > kept.len {
            file.set_len(kept.len).map_err(remains("cut", &path))?;
        }
        file.sync().map_err(remains("sync", &path))?;
        self.shared.put_file(kept.first, &file);
        self.active = Active::new(&kept, file, &self.config);
        if cut.index < index {
            // Records just before the cut are lost; a segment's indexes have no hole.
            let header = self.header(index, kept.first, cut.index);
            let active = segment::create(&*disk, &dir, header, &[], &self.config)?;
            self.activate(active, index);
        }
        self.marker.store(self.epoch, start, index)
    }

    fn empty(&mut self, next_index: u64) -> Result<(), LogError> {
        let (disk, dir) = (Arc::clone(&self.shared.disk), self.shared.dir.clone());
        // From here on the segments of the old epoch are void.
        self.epoch += 1;
        self.marker.store(self.epoch, next_index, next_index)?;
        let doomed = {
            let mut state = self.shared.state();
            state.start = next_index;
            state.durable_end = next_index;
            state.version += 1;
            std::mem::take(&mut state.segments)
        };
        self.next_index = next_index;
        self.shared.forget(|_| true);
        self.shared.forgive(0..0);
        for segment in doomed {
            self.remove(segment.first)?;
        }
        disk.sync_dir(&dir).map_err(remains("sync", &dir))?;
        let header = self.header(next_index, next_index, next_index);
        let active = segment::create(&*disk, &dir, header, &[], &self.config)?;
        self.activate(active, next_index);
        Ok(())
    }
}

/// The longest payload as it stands in a segment, in bytes.
pub(crate) fn stored_bytes_max(config: &LogConfig, sealed: Option<SealedWith>) -> usize {
    config.record_bytes_max + if sealed.is_some() { OVERHEAD_BYTES } else { 0 }
}

impl Drop for Log {
    fn drop(&mut self) {
        // After a clean end the marker says exactly where the log ended, also after a
        // later power loss. It is a hint; failing to keep it harms nothing.
        if self.poisoned.is_none() {
            self.seal();
            let _ = self.marker.sync();
        }
    }
}
