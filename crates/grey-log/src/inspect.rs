//! Looking at a log, whatever its state, and changing nothing: what opening would find
//! and do, and what of its records is intact. For an operator, and for evidence.
//!
//! The log is opened as always, on an overlay that keeps the changes to itself. So what
//! is told here is what opening would do, not a second opinion.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::{Change, Disk, OverlayDisk};
use grey_seal::{Algorithm, KeyId, Seal};

use crate::checkpoints;
use crate::format::{parse_segment_name, segment_name};
use crate::marker::{MARKER_NAME, MarkerFile};
use crate::quarantine::QUARANTINE_DIR;
use crate::shared::{Segment, SegmentSeal};
use crate::{Log, LogConfig, LogError, LogReader, Recovery};

/// Read at a time, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// What a log's directory holds.
#[derive(Debug)]
pub struct Inspection {
    /// In the order of their records.
    pub segments: Vec<SegmentReport>,
    /// Index of the first record.
    pub first_index: u64,
    /// Index that the next record would get.
    pub next_index: u64,
    /// What opening would tell. The damage is what shows without reading everything;
    /// [`Inspection::records`] comes upon the rest.
    pub recovery: Recovery,
    /// What the marker says; `None` when it is missing or damaged.
    pub marker: Option<MarkerReport>,
    /// The checkpoints in the directory.
    pub checkpoints: Vec<CheckpointReport>,
    /// Evidence of earlier damage: names and lengths in bytes.
    pub quarantine: Vec<(String, u64)>,
    /// What is no part of a log: names and lengths in bytes.
    pub foreign: Vec<(String, u64)>,
    /// What opening would change.
    pub changes: Vec<Change>,
    log: Log,
}

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its name in the directory.
    pub name: String,
    /// Index of its first record.
    pub first: u64,
    /// Index behind its last record, lost ones included.
    pub end: u64,
    /// Its length in bytes, without a torn end.
    pub bytes: u64,
    /// How its records are sealed.
    pub sealing: Sealing,
}

/// How the records of a segment are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// Not at all.
    Plain,
    /// With this.
    Sealed(Algorithm, KeyId),
    /// The header that says it is damaged; the records may be readable.
    Unknown,
}

/// What the marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerReport {
    /// How often the log was reset.
    pub epoch: u64,
    /// The first index of the log.
    pub first_index: u64,
    /// Records below this were synced.
    pub durable_end: u64,
    /// The records from `durable_end` on were being taken back.
    pub is_cutting: bool,
}

/// A checkpoint file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The position that it stands for.
    pub position: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// How far reading a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of segments that were gone through.
    pub bytes_done: u64,
    /// Bytes of all segments.
    pub bytes_total: u64,
}

/// Looks at the log in `dir`. Nothing on the disk is changed, and nobody is kept from
/// changing it: an owner at work makes the result worthless, so ask for its lock first.
/// Keys are needed for records only, not to look.
///
/// # Errors
/// As [`Log::open_sealed`]; damage and missing keys are no errors here.
pub fn inspect(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: LogConfig,
    seal: Option<&Seal>,
) -> Result<Inspection, LogError> {
    let entries = disk.read_dir(dir).map_err(LogError::io("list", dir))?;
    let overlay = Arc::new(OverlayDisk::new(Arc::clone(&disk)));
    let has_marker = entries.iter().any(|entry| entry.name == MARKER_NAME);
    let marker = if has_marker { MarkerFile::open(&*overlay, dir)?.1 } else { None };
    let reading = seal.map(Seal::without_sealing);
    let (log, recovery) = Log::open_with(overlay.clone(), dir, config, reading.as_ref(), false)?;
    let changes = overlay.changes().map_err(LogError::io("read", dir))?;
    let (mut checkpoints, mut foreign) = (Vec::new(), Vec::new());
    for entry in entries.iter().filter(|entry| !entry.is_dir && entry.name != MARKER_NAME) {
        if let Some(position) = checkpoints::parse_name(&entry.name) {
            checkpoints.push(CheckpointReport { position, bytes: entry.len });
        } else if parse_segment_name(&entry.name).is_none() {
            foreign.push((entry.name.clone(), entry.len));
        }
    }
    let quarantine = match entries.iter().any(|entry| entry.is_dir && entry.name == QUARANTINE_DIR) {
        true => disk.read_dir(&dir.join(QUARANTINE_DIR)).map_err(LogError::io("list", dir))?,
        false => Vec::new(),
    };
    Ok(Inspection {
        segments: log.segment_reports(),
        first_index: log.first_index(),
        next_index: log.next_index(),
        recovery,
        marker: marker.map(|marker| MarkerReport {
            epoch: marker.epoch,
            first_index: marker.start,
            durable_end: marker.durable,
            is_cutting: marker.is_cutting,
        }),
        checkpoints,
        quarantine: quarantine.into_iter().map(|entry| (entry.name, entry.len)).collect(),
        foreign,
        changes,
        log,
    })
}

/// Does what opening does, and looks at every record, so that the evidence of all damage
/// is kept in `quarantine/`. Returns all the damage there is.
///
/// # Errors
/// As [`Log::open_sealed`]; [`LogError::KeyMissing`] when any record's key is missing.
pub fn repair(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: LogConfig,
    seal: Option<&Seal>,
    progress: impl FnMut(Progress),
) -> Result<Recovery, LogError> {
    let (log, mut recovery) = Log::open_sealed(disk, dir, config, seal)?;
    for record in Records::new(&log, progress) {
        match record {
            Ok(_) | Err(LogError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    recovery.damaged = log.reader().damaged();
    Ok(recovery)
}

impl Inspection {
    /// Every record from the first to the last: intact ones, and once for each stretch
    /// that is lost or cannot be opened the error that says so. Ends after an error of
    /// the disk.
    pub fn records<P: FnMut(Progress)>(&self, progress: P) -> Records<P> {
        Records::new(&self.log, progress)
    }

    /// A reader of the log as it would be opened.
    pub fn reader(&self) -> LogReader {
        self.log.reader()
    }
}

/// The records of a log in order; see [`Inspection::records`].
#[derive(Debug)]
pub struct Records<P> {
    reader: LogReader,
    segments: Vec<SegmentReport>,
    next: u64,
    batch: std::vec::IntoIter<(u64, Bytes)>,
    bytes_done: u64,
    bytes_total: u64,
    progress: P,
}

impl<P: FnMut(Progress)> Records<P> {
    fn new(log: &Log, progress: P) -> Self {
        let segments = log.segment_reports();
        let bytes_total = segments.iter().map(|segment| segment.bytes).sum();
        let (reader, batch) = (log.reader(), Vec::new().into_iter());
        Self { next: reader.first_index(), reader, segments, batch, bytes_done: 0, bytes_total, progress }
    }

    /// Where reading can go on after what failed.
    fn behind(&self, error: &LogError) -> Option<u64> {
        match error {
            LogError::Damaged { lost, .. } => Some(lost.end.max(self.next + 1)),
            // A segment is sealed with one key.
            LogError::KeyMissing { .. } => self.segments.iter().map(|segment| segment.end).find(|end| *end > self.next),
            _ => None,
        }
    }

    fn tell(&mut self, done: u64) {
        self.bytes_done = done.min(self.bytes_total);
        (self.progress)(Progress { bytes_done: self.bytes_done, bytes_total: self.bytes_total });
    }

    /// Bytes of the segments that lie behind.
    fn passed(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.end <= self.next).map(|segment| segment.bytes).sum()
    }
}

impl<P: FnMut(Progress)> Iterator for Records<P> {
    type Item = Result<(u64, Bytes), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.batch.next() {
            return Some(Ok(record));
        }
        if self.next >= self.reader.durable_end() {
            return None;
        }
        match self.reader.scan(self.next, STEP_BYTES) {
            Ok(records) => {
                let bytes: usize = records.iter().map(|(_, record)| record.len()).sum();
                self.next = records.last().map_or(u64::MAX, |(index, _)| index + 1);
                self.batch = records.into_iter();
                self.tell((self.bytes_done + bytes as u64).max(self.passed()));
                self.batch.next().map(Ok)
            }
            Err(error) => {
                self.next = self.behind(&error).unwrap_or(u64::MAX);
                self.tell(self.bytes_done.max(self.passed()));
                Some(Err(error))
            }
        }
    }
}

impl Log {
    fn segment_reports(&self) -> Vec<SegmentReport> {
        let state = self.shared().state();
        let ends = state.segments.iter().skip(1).map(|next| next.first).chain([state.durable_end]);
        let report = |(segment, end): (&Segment, u64)| SegmentReport {
            name: segment_name(segment.first),
            first: segment.first,
            end,
            bytes: segment.len,
            sealing: match segment.seal {
                SegmentSeal::Plain => Sealing::Plain,
                SegmentSeal::Sealed(with) => Sealing::Sealed(with.algorithm, with.key_id),
                SegmentSeal::Unknown => Sealing::Unknown,
            },
        };
        state.segments.iter().zip(ends).map(report).collect()
    }
}
