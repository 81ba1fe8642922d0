//! A disk that does not sync some files, such as the intake: what a site would do
//! that acknowledges its devices before their events are durable. Only for mistakes
//! on purpose.

use std::io;
use std::path::Path;

use grey_disk::{Disk, Entry, File, OpenMode, SimDisk};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct HastyDisk {
    disk: SimDisk,
    is_left_to_chance: fn(&Path) -> bool,
}

impl HastyDisk {
    /// A disk on which files whose paths satisfy the condition are not synced.
    pub(crate) fn new(disk: SimDisk, is_left_to_chance: fn(&Path) -> bool) -> Self {
        Self { disk, is_left_to_chance }
    }
}

#[derive(Debug)]
struct HastyFile(Box<dyn File>);

impl Disk for HastyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = self.disk.open(path, mode)?;
        Ok(if (self.is_left_to_chance)(path) { Box::new(HastyFile(file)) } else { file })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn available_bytes(&self) -> io::Result<u64> {
        self.disk.available_bytes()
    }
}

impl File for HastyFile {
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
