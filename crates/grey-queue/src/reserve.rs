//! Disk space set aside for when there is none left.
//!
//! The file is really written, with bytes that do not compress, so that letting it go
//! gives its space back whatever the file system does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_disk::{Disk, OpenMode};

const NAME: &str = "reserve";
const CHUNK_BYTES: u64 = 64 * 1024;
/// Below this a disk counts as full even where nothing is to be set aside.
const ROOM_BYTES_MIN: u64 = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    is_held: bool,
}

impl Reserve {
    /// Finds the file, or writes it where there is room.
    pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path, bytes: u64) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut reserve = Self { disk: Arc::clone(disk), path, bytes, is_held: false };
        if disk.exists(&reserve.path)? {
            let len = disk.open(&reserve.path, OpenMode::Read)?.len()?;
            if len == bytes && bytes > 0 {
                reserve.is_held = true;
                return Ok(reserve);
            }
            disk.remove_file(&reserve.path)?;
        }
        reserve.take_back()?;
        Ok(reserve)
    }

    /// Gives the space back.
    pub(crate) fn let_go(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_held) {
            self.disk.remove_file(&self.path)?;
            self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("")))?;
        }
        Ok(())
    }

    /// Sets the space aside again, if there is twice as much. False where there is not.
    pub(crate) fn take_back(&mut self) -> io::Result<bool> {
        if self.is_held {
            return Ok(true);
        }
        if self.disk.available_bytes()? < (2 * self.bytes).max(ROOM_BYTES_MIN) {
            return Ok(false);
        }
        if self.bytes == 0 {
            return Ok(true);
        }
        match self.write() {
            Ok(()) => self.is_held = true,
            Err(error) => {
                // What was half written must not hold the space that was missing.
                self.disk
                    .remove_file(&self.path)
                    .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
                if !grey_disk::is_full(&error) {
                    return Err(error);
                }
            }
        }
        Ok(self.is_held)
    }

    /// True when half of what was set aside stays free after a write, so that folds can go on.
    pub(crate) fn leaves_room(&self, written: u64) -> bool {
        // A disk that cannot say how much room it has is asked by writing.
        self.disk.available_bytes().map_or(true, |bytes| bytes >= self.bytes / 2 + written)
    }

    fn write(&self) -> io::Result<()> {
        let file = self.disk.open(&self.path, OpenMode::CreateNew)?;
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut offset = 0;
        while offset < self.bytes {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES as usize);
            while (chunk.len() as u64) < CHUNK_BYTES {
                // xorshift64 (Marsaglia 2003).
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                chunk.extend_from_slice(&noise.to_le_bytes());
            }
            chunk.truncate((self.bytes - offset) as usize);
            file.write_at(&chunk, offset)?;
            offset += chunk.len() as u64;
        }
        file.sync()?;
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("")))
    }

    /// Bytes set aside at the moment.
    pub(crate) fn held_bytes(&self) -> u64 {
        if self.is_held { self.bytes } else { 0 }
    }
}
