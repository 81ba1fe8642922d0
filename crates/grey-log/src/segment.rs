//! Creating a segment, and reading its header.

use std::io;
use std::path::Path;
use std::sync::Arc;

use grey_disk::{Disk, File, OpenMode};

use crate::LogError;
use crate::format::{HEADER_BYTES, SegmentHeader, segment_name};

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) first: u64,
    pub(crate) file: Arc<dyn File>,
    /// Committed length in bytes.
    pub(crate) len: u64,
}

/// Creates a segment that holds `records` (encoded, maybe none), durably. When this
/// fails the file is gone again, or the error is not [`LogError::Full`].
pub(crate) fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader, records: &[u8]) -> Result<Active, LogError> {
    let path = dir.join(segment_name(header.first));
    let file = disk.open(&path, OpenMode::CreateNew).map_err(LogError::io("create", &path))?;
    let written = file.write_at(&header.encode(), 0).and_then(|()| file.write_at(records, HEADER_BYTES));
    if let Err(error) = written {
        disk.remove_file(&path).map_err(remains("remove", &path))?;
        disk.sync_dir(dir).map_err(remains("sync", dir))?;
        return Err(LogError::io("write", &path)(error));
    }
    file.sync().map_err(remains("sync", &path))?;
    disk.sync_dir(dir).map_err(remains("sync", dir))?;
    Ok(Active { first: header.first, file: Arc::from(file), len: HEADER_BYTES + records.len() as u64 })
}

/// An error that leaves the disk in doubt: never "full", which promises a way back.
pub(crate) fn remains(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { action, path, source }
}

/// The header of a segment; `None` when it is damaged.
pub(crate) fn read_header(file: &dyn File) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes[..read]))
}
