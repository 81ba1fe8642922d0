//! A disk whose syncs do nothing, for the setting `durability: unsafe_no_fsync`.

use std::io;
use std::path::Path;

use crate::{Disk, Entry, File, OpenMode, RealDisk};

/// Hands data to the operating system and calls that enough. A power cut
/// loses acknowledged events; a killed process does not.
#[derive(Debug)]
pub struct UnsyncedDisk(RealDisk);

impl UnsyncedDisk {
    /// A disk over the real one.
    pub fn new(disk: RealDisk) -> Self {
        Self(disk)
    }
}

impl Disk for UnsyncedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(self.0.open(path, mode)?)))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn available_bytes(&self) -> io::Result<u64> {
        self.0.available_bytes()
    }
}

#[derive(Debug)]
struct UnsyncedFile(Box<dyn File>);

impl File for UnsyncedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
