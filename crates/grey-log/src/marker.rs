//! The marker: a small file beside the segments that says what was durable.
//!
//! Records that were durable and are gone cannot be told from records that never
//! were by looking at the log alone. The marker can tell: it is overwritten after
//! every commit without a sync of its own, so it costs next to nothing, survives a
//! killed process exactly and a power loss approximately, and never claims too much.
//! What must not be forgotten (a truncation, a reset, a trim) is synced.

use std::path::Path;
use std::sync::Arc;

use grey_disk::{Disk, File, OpenMode};

use crate::LogError;
use crate::format::{MARKER_BYTES, Marker};

/// Name of the marker in a log's directory.
pub(crate) const MARKER_NAME: &str = "synced";
/// The two slots stand in two sectors, so that a torn write harms one.
const SLOT_BYTES: u64 = 512;

#[derive(Debug)]
pub(crate) struct MarkerFile {
    file: Arc<dyn File>,
    path: std::path::PathBuf,
    current: Marker,
}

impl MarkerFile {
    /// Opens or creates the marker of a log; `None` when it has nothing to say.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<(Self, Option<Marker>), LogError> {
        let path = dir.join(MARKER_NAME);
        let fail = LogError::io("open", &path);
        if !disk.exists(&path).map_err(fail)? {
            let file = disk.open(&path, OpenMode::CreateNew).map_err(LogError::io("create", &path))?;
            disk.sync_dir(dir).map_err(LogError::io("sync", dir))?;
            return Ok((Self { file: Arc::from(file), path, current: Marker::default() }, None));
        }
        let file = disk.open(&path, OpenMode::ReadWrite).map_err(LogError::io("open", &path))?;
        let mut newest: Option<Marker> = None;
        for slot in 0..2 {
            let mut bytes = [0; MARKER_BYTES];
            // A marker that cannot be read knows nothing, and will be written over.
            let offset = slot * SLOT_BYTES;
            let read = file.read_at(&mut bytes, offset).or_else(|_| file.read_at(&mut bytes, offset)).unwrap_or(0);
            if let Some(found) = Marker::decode(&bytes[..read])
                && newest.is_none_or(|newest| newest.sequence < found.sequence)
            {
                newest = Some(found);
            }
        }
        let marker = Self { file: Arc::from(file), path, current: newest.unwrap_or_default() };
        Ok((marker, newest))
    }

    /// Notes a new state, to be found after a killed process and perhaps after a power loss.
    pub(crate) fn hint(&mut self, start: u64, durable: u64) {
        self.current = Marker { sequence: self.current.sequence + 1, start, durable, ..self.current };
        // Whoever finds an older hint is warned later, never wrongly.
        let _ = self.file.write_at(&self.current.encode(), self.slot());
    }

    /// Notes a new state durably, in both slots: no older state can be found afterwards.
    pub(crate) fn store(&mut self, epoch: u64, start: u64, durable: u64) -> Result<(), LogError> {
        self.store_marker(Marker { sequence: 0, epoch, start, durable, is_cutting: false })
    }

    /// Notes durably that the records from `durable` on are about to be taken back, so
    /// that opening after a crash goes on with it.
    pub(crate) fn store_cut(&mut self, start: u64, durable: u64) -> Result<(), LogError> {
        self.store_marker(Marker { start, durable, is_cutting: true, ..self.current })
    }

    fn store_marker(&mut self, marker: Marker) -> Result<(), LogError> {
        for _ in 0..2 {
            self.current = Marker { sequence: self.current.sequence + 1, ..marker };
            self.file.write_at(&self.current.encode(), self.slot()).map_err(LogError::io("write", &self.path))?;
        }
        self.sync()
    }

    /// Makes the last hint durable.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        self.file.sync().map_err(LogError::io("sync", &self.path))
    }

    fn slot(&self) -> u64 {
        self.current.sequence % 2 * SLOT_BYTES
    }
}
