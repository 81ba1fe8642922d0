//! What the owner of a log and its readers share: where the segments are and how far
//! they are committed, open files, sparse indexes, and the damage found so far.
//!
//! Everything here is bounded, whatever the size of the log, except one small entry
//! for each segment.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grey_disk::{Disk, File, OpenMode};
use grey_seal::{HEAD_BYTES, KeyId, LastKey, OpenError, Seal};

use crate::format::{HEADER_BYTES, RecordHeader, SealedWith, SegmentHeader, segment_name};
use crate::quarantine::quarantine;
use crate::survey::{Gap, Mark, Survey, survey_file};
use crate::{Damage, LogError, Reason};

/// Files kept open for reading.
const FILES_MAX: usize = 32;
/// Segments whose sparse index is kept, about 16 KiB each: 16 GiB of log at the
/// default segment size.
const INDEXES_MAX: usize = 256;
/// Damaged stretches remembered; more are still reported to whoever reads them.
const DAMAGES_MAX: usize = 1_024;

/// One segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of its first record.
    pub(crate) first: u64,
    /// Its committed length in bytes.
    pub(crate) len: u64,
    /// No record in it is longer, in bytes.
    pub(crate) record_bytes_max: usize,
    pub(crate) seal: SegmentSeal,
}

/// How a segment's records are sealed, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentSeal {
    Plain,
    Sealed(SealedWith),
    /// The header is damaged.
    Unknown,
}

impl From<Option<SealedWith>> for SegmentSeal {
    fn from(sealed: Option<SealedWith>) -> Self {
        sealed.map_or(Self::Plain, Self::Sealed)
    }
}

impl From<Option<SegmentHeader>> for SegmentSeal {
    fn from(header: Option<SegmentHeader>) -> Self {
        header.map_or(Self::Unknown, |header| header.sealed.into())
    }
}

/// What is committed.
#[derive(Debug)]
pub(crate) struct State {
    /// The first index. Below the first segment's when files at the front are lost.
    pub(crate) start: u64,
    /// In order, never empty but for a moment.
    pub(crate) segments: Vec<Segment>,
    pub(crate) durable_end: u64,
    /// Raised when committed records are taken back.
    pub(crate) version: u64,
}

impl State {
    /// The segment that holds or held `index`, and the first index behind it.
    pub(crate) fn segment_of(&self, index: u64) -> Option<(Segment, u64)> {
        if index < self.start || index >= self.durable_end {
            return None;
        }
        let position = self.segments.partition_point(|segment| segment.first <= index).checked_sub(1)?;
        let bound = self.segments.get(position + 1).map_or(self.durable_end, |next| next.first);
        Some((self.segments[position], bound))
    }
}

impl State {
    /// What is lost around `index` because files at the front are missing.
    fn front_gap(&self, index: u64) -> Option<Range<u64>> {
        let end = self.segments.first().map_or(self.durable_end, |segment| segment.first);
        (self.start..end).contains(&index).then_some(self.start..end)
    }
}

/// A segment as a reader sees it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) segment: Segment,
    /// The first index behind the segment, or the end of what is committed.
    pub(crate) bound: u64,
    pub(crate) version: u64,
    pub(crate) file: Arc<dyn File>,
}

/// Where some of a segment's records start.
#[derive(Debug, Clone)]
pub(crate) struct SparseIndex {
    pub(crate) marks: Vec<Mark>,
    /// How far the marks go.
    pub(crate) end: Mark,
    /// Damage, known once the segment was checked record by record.
    pub(crate) gaps: Vec<Gap>,
}

impl SparseIndex {
    pub(crate) fn new(first: u64) -> Self {
        let start = Mark { index: first, offset: HEADER_BYTES };
        Self { marks: vec![start], end: start, gaps: Vec::new() }
    }

    /// The last mark at or before `index`.
    pub(crate) fn before(&self, index: u64) -> Option<Mark> {
        let position = self.marks.partition_point(|mark| mark.index <= index);
        position.checked_sub(1).map(|position| self.marks[position])
    }

    pub(crate) fn gap_at(&self, index: u64) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.lost.contains(&index))
    }
}

impl From<Survey> for SparseIndex {
    fn from(found: Survey) -> Self {
        Self { marks: found.marks, end: found.end, gaps: found.gaps }
    }
}

/// The most recently used last; small enough to be searched from the end.
#[derive(Debug)]
struct Recent<T> {
    entries: Vec<(u64, T)>,
    capacity: usize,
}

impl<T: Clone> Recent<T> {
    fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity }
    }

    fn get(&mut self, key: u64) -> Option<T> {
        let position = self.entries.iter().rposition(|(found, _)| *found == key)?;
        self.entries[position..].rotate_left(1);
        self.entries.last().map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: u64, value: T) {
        self.entries.retain(|(found, _)| *found != key);
        if self.entries.len() >= self.capacity {
            self.entries.remove(0);
        }
        self.entries.push((key, value));
    }

    fn remove(&mut self, doomed: impl Fn(u64) -> bool) {
        self.entries.retain(|(key, _)| !doomed(*key));
    }
}

pub(crate) type SharedIndex = Arc<Mutex<SparseIndex>>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) seal: Option<Seal>,
    state: Mutex<State>,
    files: Mutex<Recent<Arc<dyn File>>>,
    indexes: Mutex<Recent<SharedIndex>>,
    damages: Mutex<Vec<Damage>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, seal: Option<Seal>, state: State) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            seal,
            state: Mutex::new(state),
            files: Mutex::new(Recent::new(FILES_MAX)),
            indexes: Mutex::new(Recent::new(INDEXES_MAX)),
            damages: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn path(&self, first: u64) -> PathBuf {
        self.dir.join(segment_name(first))
    }

    /// The segment of a committed index; `None` when the index is not between the
    /// first and the last committed one.
    pub(crate) fn view(&self, index: u64) -> Result<Option<View>, LogError> {
        loop {
            let (segment, bound, version) = {
                let state = self.state();
                match state.segment_of(index) {
                    Some((segment, bound)) => (segment, bound, state.version),
                    None => return state.front_gap(index).map_or(Ok(None), |lost| Err(self.missing(lost))),
                }
            };
            match self.file(segment.first) {
                Ok(file) => return Ok(Some(View { segment, bound, version, file })),
                // The owner may have removed it meanwhile.
                Err(error) => {
                    let state = self.state();
                    if state.segment_of(index).is_some_and(|(still, _)| still.first == segment.first) {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn missing(&self, lost: Range<u64>) -> LogError {
        LogError::Damaged { path: self.path(lost.start), lost, offset: 0, reason: Reason::Missing }
    }

    fn file(&self, first: u64) -> Result<Arc<dyn File>, LogError> {
        if let Some(file) = lock(&self.files).get(first) {
            return Ok(file);
        }
        let path = self.path(first);
        let file: Arc<dyn File> =
            Arc::from(self.disk.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?);
        lock(&self.files).put(first, Arc::clone(&file));
        Ok(file)
    }

    /// Makes the owner's handle of a segment known to the readers.
    pub(crate) fn put_file(&self, first: u64, file: &Arc<dyn File>) {
        lock(&self.files).put(first, Arc::clone(file));
    }

    pub(crate) fn index(&self, first: u64) -> SharedIndex {
        let mut indexes = lock(&self.indexes);
        if let Some(index) = indexes.get(first) {
            return index;
        }
        let index = Arc::new(Mutex::new(SparseIndex::new(first)));
        indexes.put(first, Arc::clone(&index));
        index
    }

    pub(crate) fn put_index(&self, first: u64, index: SparseIndex) {
        lock(&self.indexes).put(first, Arc::new(Mutex::new(index)));
    }

    /// Adds the records of a commit to their segment's index, if it is kept and complete.
    pub(crate) fn extend_index(&self, first: u64, start: Mark, marks: impl Iterator<Item = Mark>, end: Mark) {
        let index = lock(&self.indexes).get(first);
        let Some(index) = index else { return };
        let mut index = lock(&index);
        if index.end == start {
            marks.for_each(|mark| crate::survey::push_mark(&mut index.marks, mark));
            index.end = end;
        }
    }

    /// Forgets everything kept about segments whose first index is doomed.
    pub(crate) fn forget(&self, doomed: impl Fn(u64) -> bool + Copy) {
        lock(&self.files).remove(doomed);
        lock(&self.indexes).remove(doomed);
    }

    /// Checks a segment record by record, remembers what is damaged and keeps the evidence.
    pub(crate) fn check(&self, view: &View) -> Result<SparseIndex, LogError> {
        let path = self.path(view.segment.first);
        let Segment { first, len, record_bytes_max, .. } = view.segment;
        let (mut found, _) =
            survey_file(&*view.file, len, record_bytes_max, first, view.bound).map_err(LogError::io("read", &path))?;
        if found.end.index < view.bound {
            // The segment should go on: what is missing at its end is lost as well.
            found.gaps.push(Gap {
                lost: found.end.index..view.bound,
                bytes: found.end.offset..view.segment.len.max(found.end.offset),
                is_followed: true,
            });
        }
        if self.state().version == view.version {
            for gap in &found.gaps {
                self.note(damage_of(gap, &path));
                quarantine(&*self.disk, &self.dir, &path, &*view.file, gap.bytes.clone());
            }
            self.put_index(view.segment.first, found.clone().into());
        }
        Ok(found.into())
    }

    /// The payload of a checksummed record at `offset` of a segment as it was appended:
    /// opened in place if it is sealed. The range says where in `payload` it is. `last` is
    /// what the record before was opened with.
    pub(crate) fn unseal(
        &self,
        view: &View,
        header: RecordHeader,
        offset: u64,
        payload: &mut [u8],
        last: &mut LastKey,
    ) -> Result<Range<usize>, LogError> {
        let key_id = match (view.segment.seal, header.is_sealed) {
            (SegmentSeal::Plain | SegmentSeal::Unknown, false) => return Ok(0..payload.len()),
            (SegmentSeal::Sealed(with), true) => with.key_id,
            (SegmentSeal::Unknown, true) => match self.key_of(view, header, payload) {
                Ok(key_id) => key_id,
                Err(Some(key_id)) => return Err(self.key_missing(view, key_id)),
                Err(None) => return Err(self.forged(view, header, offset)),
            },
            (SegmentSeal::Plain, true) | (SegmentSeal::Sealed(_), false) => {
                return Err(self.forged(view, header, offset));
            }
        };
        let Some(seal) = &self.seal else { return Err(self.key_missing(view, key_id)) };
        match seal.open_next(last, key_id, header.index, payload) {
            Ok(plain) => Ok(HEAD_BYTES..HEAD_BYTES + plain.len()),
            Err(OpenError::KeyMissing { key_id }) => Err(self.key_missing(view, key_id)),
            Err(OpenError::Forged | OpenError::Format) => Err(self.forged(view, header, offset)),
        }
    }

    /// The key of a record in a segment whose header is damaged: one that opens it. Else
    /// the one that the nearest segment was sealed with, if that is missing.
    fn key_of(&self, view: &View, header: RecordHeader, payload: &[u8]) -> Result<KeyId, Option<KeyId>> {
        if let Some((key_id, _)) = self.seal.as_ref().and_then(|seal| seal.open_any(header.index, payload).ok()) {
            return Ok(key_id);
        }
        let state = self.state();
        let sealed = |segment: &Segment| match segment.seal {
            SegmentSeal::Sealed(with) => Some(with.key_id),
            _ => None,
        };
        let (before, after) = state.segments.split_at(state.segments.partition_point(|s| s.first < view.segment.first));
        let nearest = before.iter().rev().find_map(sealed).or_else(|| after.iter().find_map(sealed));
        let is_given = |key_id| self.seal.as_ref().is_some_and(|seal| seal.keyring().get(key_id).is_some());
        Err(nearest.filter(|key_id| !is_given(*key_id)))
    }

    fn key_missing(&self, view: &View, key_id: KeyId) -> LogError {
        LogError::KeyMissing { key_id, path: self.path(view.segment.first) }
    }

    /// Remembers a forged record and keeps the evidence.
    fn forged(&self, view: &View, header: RecordHeader, offset: u64) -> LogError {
        let (path, lost, reason) = (self.path(view.segment.first), header.index..header.index + 1, Reason::Forged);
        if self.state().version == view.version {
            self.note(Damage { lost: lost.clone(), path: path.clone(), offset, reason });
            quarantine(&*self.disk, &self.dir, &path, &*view.file, offset..offset + header.total());
        }
        LogError::Damaged { lost, path, offset, reason }
    }

    /// What is wrong with a lost record, as far as it is remembered.
    pub(crate) fn reason(&self, index: u64) -> Reason {
        let damages = lock(&self.damages);
        damages.iter().find(|damage| damage.lost.contains(&index)).map_or(Reason::Record, |damage| damage.reason)
    }

    /// Remembers damage once.
    pub(crate) fn note(&self, damage: Damage) {
        let mut damages = lock(&self.damages);
        if damages.len() < DAMAGES_MAX && !damages.iter().any(|known| overlaps(known, &damage)) {
            damages.push(damage);
        }
    }

    /// Damage known so far, in the order of the indexes.
    pub(crate) fn damages(&self) -> Vec<Damage> {
        let mut damages = lock(&self.damages).clone();
        damages.sort_by_key(|damage| (damage.lost.start, damage.offset));
        damages
    }

    /// Forgets damage of records that are gone anyway.
    pub(crate) fn forgive(&self, kept: Range<u64>) {
        lock(&self.damages).retain(|damage| {
            damage.lost.end > kept.start && damage.lost.start < kept.end
                || damage.lost.is_empty() && kept.contains(&damage.lost.start)
        });
    }
}

fn overlaps(a: &Damage, b: &Damage) -> bool {
    a == b || a.lost.start < b.lost.end && b.lost.start < a.lost.end
}

pub(crate) fn damage_of(gap: &Gap, path: &Path) -> Damage {
    let reason = if gap.bytes.is_empty() { Reason::Short } else { Reason::Record };
    Damage { lost: gap.lost.clone(), path: path.to_owned(), offset: gap.bytes.start, reason }
}
