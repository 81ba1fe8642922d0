//! A directory of the real file system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::path::components;
use crate::{Disk, Entry, File, OpenMode};

/// Name of the lock file in a data directory.
const LOCK_FILE: &str = "lock";

/// A disk rooted at a directory of the real file system.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
}

/// Keeps a data directory to this process until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl RealDisk {
    /// A disk rooted at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that all paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the data directory for this process, creating it where missing.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it. The lock goes
    /// with the process, also when it is killed.
    pub fn lock(&self) -> io::Result<Lock> {
        self.create_dir_all(Path::new(""))?;
        let path = self.root.join(LOCK_FILE);
        let file = fs::File::options().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is in use by another process; stop it or choose another data directory", path.display()),
            )),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut full = self.root.clone();
        full.extend(components(path)?);
        Ok(full)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = fs::File::options();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::ReadWrite => options.read(true).write(true),
            OpenMode::CreateNew => options.read(true).write(true).create_new(true),
        };
        Ok(Box::new(RealFile(options.open(self.resolve(path)?)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let parts = components(path)?;
        fs::create_dir_all(self.resolve(path)?)?;
        // A directory that an earlier process made may still be unsynced, so the
        // parents are synced whether or not something was created now.
        let mut directory = self.root.clone();
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The root's own parent may be unreadable to this process.
            let _ = sync_directory(parent);
        }
        for part in parts {
            sync_directory(&directory)?;
            directory.push(part);
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.resolve(path)?)? {
            let entry = entry?;
            // Names that are not UTF-8 are not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let len = if metadata.is_dir() { 0 } else { metadata.len() };
            entries.push(Entry { name, len, is_dir: metadata.is_dir() });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sync_directory(&self.resolve(path)?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.resolve(path)?.try_exists()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::new(directory.path().join("data"));
        let lock = disk.lock().expect("first lock");
        let error = disk.lock().expect_err("second lock");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock().expect("lock after release");
    }

    #[test]
    fn free_space_is_known() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert!(RealDisk::new(directory.path()).available_bytes().expect("statvfs") > 0);
    }
}
