//! Files, fsync and rename behind a trait, so that everything that must survive
//! a power loss can be tested on a disk that has one.
//!
//! [`RealDisk`] is a directory of the real file system. [`SimDisk`] is a disk in
//! memory that keeps apart what was written from what was synced, and on
//! [`SimDisk::crash`] loses what was not. Code that is correct on [`SimDisk`]
//! relies on nothing but this:
//!
//! - bytes are durable once [`File::sync`] has returned;
//! - a created, renamed or removed name is durable once [`Disk::sync_dir`] of its
//!   directory has returned;
//! - a rename is atomic; nothing else is;
//! - after a failed sync nothing can be said about the bytes that were to be synced.
//!
//! [`OverlayDisk`] shows another disk and keeps changes to itself.
//!
//! This crate knows nothing of formats and keeps no state of its own.
//!
//! Example: `examples/disk.rs`.

mod overlay;
mod path;
mod real;
mod sim;
mod unsynced;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub use overlay::{Change, OverlayDisk};
pub use real::{Lock, RealDisk};
pub use sim::{Faults, Operations, SimDisk};
pub use unsynced::UnsyncedDisk;

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    ReadWrite,
    /// For reading and writing; the file must not exist yet.
    CreateNew,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last component of its path.
    pub name: String,
    /// Length of the file in bytes; 0 for a directory.
    pub len: u64,
    /// True for a directory.
    pub is_dir: bool,
}

/// A tree of files. All paths are relative to the disk's root and must not leave it;
/// [`io::ErrorKind::InvalidInput`] otherwise. The root itself is the empty path.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file. A created name is durable only after [`Disk::sync_dir`].
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;
    /// Creates a directory and its parents where they are missing, durably.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What a directory holds, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Renames a file, replacing the target if there is one. Atomic; durable only
    /// after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable only after [`Disk::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// True when the path names a file or a directory.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes that can still be written before the disk is full.
    fn available_bytes(&self) -> io::Result<u64>;
}

/// An open file. All methods may be called from several threads at once.
pub trait File: Send + Sync + Debug {
    /// Reads at most `buf.len()` bytes at `offset` and returns how many; fewer only
    /// at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, extending the file as needed. After an error
    /// a part may have been written. A full disk is [`io::ErrorKind::StorageFull`].
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True when the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// True for the errors that mean "no space", from whichever limit.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when the file is longer, else what the disk says.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} has {len} bytes, over the limit of {limit}", path.display()),
        ));
    }
    let mut bytes = vec![0; len as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = file.read_at(&mut bytes[filled..], filled as u64)?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Replaces or creates a file so that after a crash at any moment it holds either
/// its old or its new bytes, and durably the new ones once this returns.
///
/// The bytes go to `PATH.tmp` first; a leftover of that name is overwritten.
pub fn write_file_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    match disk.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&temporary, path)
    })();
    if let Err(error) = written {
        // The space of a half-written file comes back; the first error is the one that matters.
        let _ = disk.remove_file(&temporary);
        return Err(error);
    }
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
mod conformance;
