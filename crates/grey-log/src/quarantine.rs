//! Evidence of damage: the bytes that were no records, kept in a directory beside
//! the segments for whoever looks into the cause, until an operator removes them.

use std::io;
use std::ops::Range;
use std::path::Path;

use grey_disk::{Disk, File, OpenMode};

/// Name of the directory in a log's directory.
pub(crate) const QUARANTINE_DIR: &str = "quarantine";
/// Pieces of evidence kept: the first ones, which are nearest to the cause.
const PIECES_MAX: usize = 64;
/// Bytes of evidence kept in all.
const BYTES_MAX: u64 = 256 << 20;
/// Copied at a time.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Keeps a copy of a damaged stretch of a segment, once. Evidence is worth having,
/// and never worth failing for: errors are swallowed.
pub(crate) fn quarantine(disk: &dyn Disk, dir: &Path, segment: &Path, file: &dyn File, bytes: Range<u64>) {
    if bytes.is_empty() {
        return;
    }
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    let _ = copy(disk, &dir.join(QUARANTINE_DIR), &format!("{name}.at-{}", bytes.start), file, bytes);
}

fn copy(disk: &dyn Disk, dir: &Path, name: &str, file: &dyn File, bytes: Range<u64>) -> io::Result<()> {
    let path = dir.join(name);
    if disk.exists(&path)? {
        return Ok(());
    }
    disk.create_dir_all(dir)?;
    let kept = disk.read_dir(dir)?;
    let size = bytes.end - bytes.start;
    if kept.len() >= PIECES_MAX || kept.iter().map(|entry| entry.len).sum::<u64>() + size > BYTES_MAX {
        return Ok(());
    }
    let copy = disk.open(&path, OpenMode::CreateNew)?;
    let mut buffer = vec![0; size.min(CHUNK_BYTES) as usize];
    let mut offset = bytes.start;
    while offset < bytes.end {
        let wanted = (bytes.end - offset).min(CHUNK_BYTES) as usize;
        let read = file.read_at(&mut buffer[..wanted], offset)?;
        if read == 0 {
            break;
        }
        if let Err(error) = copy.write_at(&buffer[..read], offset - bytes.start) {
            disk.remove_file(&path)?;
            return Err(error);
        }
        offset += read as u64;
    }
    copy.sync()?;
    disk.sync_dir(dir)
}

/// Moves a whole file into quarantine; `false` when that was not possible.
pub(crate) fn quarantine_file(disk: &dyn Disk, dir: &Path, path: &Path) -> bool {
    let Some(name) = path.file_name() else { return false };
    let target = dir.join(QUARANTINE_DIR);
    let moved = disk.create_dir_all(&target).and_then(|()| {
        let target = target.join(name);
        let target = if disk.exists(&target)? { target.with_extension("log.again") } else { target };
        disk.rename(path, &target)
    });
    moved.is_ok()
}
